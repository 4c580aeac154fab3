//! From `show_as` to what the packet path runs on, and to what `plan` says of it.

use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::config::model::{self, AliasMode, Config, ForwardProtocol, Realm};
use crate::nat::napt::{Blocks, Filtering, Forward, Proto, RealmSpec, Spec};
use crate::net::mapping::Mapping;
use crate::net::{NetworkId, RealmId};

/// `ids`: by `config::model::RealmRef`.
pub fn spec(config: &Config, ids: &[RealmId]) -> Arc<Spec> {
    let space6 = config.ix.space6;
    let realms = config.realms.iter().zip(ids).filter_map(|(realm, id)| {
        let napt = realm.napt.as_ref()?;
        let viewers = napt.viewers.as_ref().map(|viewers| {
            let mut viewers: Vec<RealmId> = viewers.iter().map(|viewer| ids[viewer.0]).collect();
            viewers.sort_unstable();
            viewers
        });
        let forwards = napt.forwards.iter().filter_map(|forward| {
            let std::net::IpAddr::V4(host) = forward.to.0 else { return None };
            Some(Forward {
                proto: match forward.protocol {
                    ForwardProtocol::Tcp => Proto::Tcp,
                    ForwardProtocol::Udp => Proto::Udp,
                },
                outside: forward.outside,
                to: (space6.embed(*id, host), forward.to.1),
            })
        });
        Some(RealmSpec {
            realm: *id,
            viewers,
            filtering: match napt.filtering {
                model::Filtering::Endpoint => Filtering::Endpoint,
                model::Filtering::Address => Filtering::Address,
                model::Filtering::AddressAndPort => Filtering::AddressAndPort,
            },
            blocks: Blocks::new(napt.pools.clone(), napt.block_ports, shown_networks(realm, napt)),
            forwards: forwards.collect(),
        })
    });
    Arc::new(Spec::new(space6, realms.collect()))
}

/// Networks whose hosts need the pool: where everybody sees it, not those with a pinned alias.
fn shown_networks(realm: &Realm, napt: &model::Napt) -> Vec<Ipv4Net> {
    let networks = realm.networks.iter().filter_map(|network| match (network.native, network.alias) {
        (IpNet::V4(_), AliasMode::Pinned(_)) if napt.viewers.is_none() => None,
        (IpNet::V4(native), _) => Some(native.trunc()),
        (IpNet::V6(_), _) => None,
    });
    networks.collect()
}

/// Where only some see a realm by its pool, these, and the realm itself, see none of its aliases.
pub fn hide(config: &Config, ids: &[RealmId], mapping: &mut Mapping) {
    let mut hidden = Vec::new();
    for (realm, id) in config.realms.iter().zip(ids) {
        let Some(viewers) = realm.napt.as_ref().and_then(|napt| napt.viewers.as_ref()) else { continue };
        for (number, network) in (0..).map(NetworkId).zip(mapping.networks()) {
            if network.realm == *id && network.native.addr().is_ipv4() {
                hidden.extend(viewers.iter().map(|viewer| (ids[viewer.0], number)));
                hidden.push((*id, number));
            }
        }
    }
    mapping.hide(hidden);
}
