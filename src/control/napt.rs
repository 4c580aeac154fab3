//! From `show_as` to what the packet path runs on, and to what `plan` says of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::compile::Compiled;
use super::plan::{PlannedForward, PlannedNapt};
use crate::config::model::{self, AliasMode, Config, ForwardProtocol, Realm};
use crate::nat::napt::{Blocks, Filtering, Forward, PortBlock, Proto, RealmSpec, Spec, Who};
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

/// What `plan` says of the realms with a pool.
pub fn planned(config: &Config, compiled: &Compiled) -> Vec<PlannedNapt> {
    let realms = config.realms.iter().zip(&compiled.realm_ids);
    let planned = realms.filter_map(|(realm, id)| {
        let (napt, blocks) = (realm.napt.as_ref()?, &compiled.napt.realm(*id)?.blocks);
        let forwards = napt.forwards.iter().map(|forward| PlannedForward {
            protocol: match forward.protocol {
                ForwardProtocol::Tcp => "tcp",
                ForwardProtocol::Udp => "udp",
            },
            outside: forward.outside.into(),
            to: forward.to.into(),
        });
        let viewers = napt.viewers.iter().flatten();
        Some(PlannedNapt {
            realm: realm.name.clone(),
            pools: napt.pools.clone(),
            viewers: viewers.map(|viewer| config.realms[viewer.0].name.clone()).collect(),
            filtering: match napt.filtering {
                model::Filtering::Endpoint => "endpoint",
                model::Filtering::Address => "address",
                model::Filtering::AddressAndPort => "address-and-port",
            },
            block_ports: blocks.ports(),
            hosts: blocks.hosts(),
            blocks: blocks.total(),
            rule: rule(blocks),
            forwards: forwards.collect(),
        })
    });
    planned.collect()
}

/// In words, with an example.
fn rule(blocks: &Blocks) -> String {
    // A block in the middle shows more than the first one, and so does one whose host is not the network's address.
    let Some(host) = blocks.fixed().checked_sub(1).and_then(|last| blocks.host_of(last.min(4))) else {
        return format!(
            "{} blocks for {} hosts: a host is given one with its first packet, and the log says which and when",
            blocks.total(),
            if blocks.hosts() == 0 { "IPv6".to_owned() } else { blocks.hosts().to_string() }
        );
    };
    let block = blocks.block_of_host(host).unwrap_or_default();
    let PortBlock { address, first, last } = blocks.ports_of(block);
    format!("computed, no log is needed: who had {address} ports {first}-{last}? host {host}")
}

/// The answer to `--who ADDRESS:PORT`, a line for each protocol whose answer differs.
pub fn who(config: &Config, compiled: &Compiled, address: Ipv4Addr, port: u16) -> Result<String, NotInAPool> {
    let name = |id: RealmId| {
        let place = compiled.realm_ids.iter().position(|other| *other == id);
        place.map_or("?", |place| &config.realms[place].name)
    };
    let mut text = String::new();
    for (protocol, proto) in [("tcp", Proto::Tcp), ("udp", Proto::Udp), ("ping", Proto::Echo)] {
        let (realm, who) = compiled.napt.who(proto, address, port).ok_or(NotInAPool(address))?;
        let realm = name(realm);
        let answer = match who {
            Who::Host(host, block) => format!("host {host} of realm {realm}, which has ports {}-{}", block.first, block.last),
            Who::Forward(forward) => {
                let host = compiled.mapping.space6().extract(forward.to.0).map(|(_, host)| host);
                let host = host.map_or_else(|| forward.to.0.to_string(), |host| host.to_string());
                format!("the forward to {host}:{} of realm {realm}", forward.to.1)
            }
            Who::InTheLog(block) => format!(
                "a host of realm {realm}; look in the log for who was given ports {}-{} of {address}",
                block.first, block.last
            ),
            Who::Nobody => format!("no host of realm {realm} ever has this port"),
        };
        text += &format!("{protocol:<5}{answer}\n");
    }
    Ok(text)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is in no pool of this configuration (`show_as`); aliases are in the table of `ixgate plan`")]
pub struct NotInAPool(pub Ipv4Addr);
