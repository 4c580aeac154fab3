//! What a configuration asks for: every prefix that wants an IPv4 alias, and every realm's own IPv4 networks.
//!
//! `allocate`, `compile`, `plan` and `release` all read this one list, so that they agree on what has an alias.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::allocations::Holder;
use crate::config::model::{AliasMode, Config, HostRef, Network, Realm, RealmRef};
use crate::net::RealmId;

/// One prefix that is shown to the other realms under an IPv4 alias.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub owner: RealmId,
    pub native: IpNet,
    pub pin: Option<Ipv4Net>,
    /// Set when this is a single published host.
    pub host: Option<HostRef>,
    /// It is no network but a pool of `show_as`, which is recorded as an alias of itself so that nobody else gets it.
    pub is_pool: bool,
}

/// A configuration with its realms numbered.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Networks in file order, then published hosts and pools in file order. The service network is not among them.
    pub wanted: Vec<Wanted>,
    /// Every configured realm's own IPv4 networks, aliased or not; by number.
    pub own4: BTreeMap<RealmId, Vec<Ipv4Net>>,
    /// `wanted`, to look up.
    shown: BTreeSet<(RealmId, IpNet)>,
}

impl Inventory {
    /// `ids` by [`RealmRef`]; `None` for a realm that has no number yet, which is left out.
    pub fn new(config: &Config, ids: &[Option<RealmId>]) -> Self {
        let numbered = || config.realms.iter().zip(ids).filter_map(|(realm, id)| Some((realm, (*id)?)));
        let mut shown = BTreeSet::new();
        let mut wanted: Vec<Wanted> = numbered().flat_map(|(realm, id)| networks_of(realm, id)).collect();
        wanted.extend(config.hosts.iter().enumerate().filter_map(|(i, host)| {
            let owner = ids[host.realm.0]?;
            published_host(config, HostRef(i), host.realm, owner)
        }));
        wanted.extend(numbered().flat_map(|(realm, id)| pools_of(realm, id)));
        wanted.retain(|w| shown.insert((w.owner, w.native)));
        Inventory { wanted, own4: numbered().map(|(realm, id)| (id, own_networks(realm))).collect(), shown }
    }

    /// Whether the configuration shows this to that viewer. The service network is always shown.
    pub fn uses(&self, holder: Holder) -> bool {
        let shown = holder.owner.is_ix() || self.shown.contains(&(holder.owner, holder.native));
        shown && holder.viewer.is_none_or(|viewer| self.own4.contains_key(&viewer))
    }
}

fn networks_of(realm: &Realm, owner: RealmId) -> impl Iterator<Item = Wanted> {
    realm.networks.iter().filter_map(move |network| {
        let pin = match network.alias {
            AliasMode::Auto => None,
            AliasMode::Pinned(alias) => Some(alias.trunc()),
            AliasMode::HostsOnly => return None,
        };
        Some(Wanted { owner, native: network.native.trunc(), pin, host: None, is_pool: false })
    })
}

fn pools_of(realm: &Realm, owner: RealmId) -> impl Iterator<Item = Wanted> {
    let pools = realm.napt.iter().flat_map(|napt| &napt.pools);
    pools.map(move |pool| Wanted { owner, native: (*pool).into(), pin: Some(*pool), host: None, is_pool: true })
}

/// A host needs an alias of its own only where its network has none. Its IPv4 address is enough for who speaks IPv4.
fn published_host(config: &Config, host: HostRef, realm: RealmRef, owner: RealmId) -> Option<Wanted> {
    let addresses = &config.hosts[host.0].addresses;
    let addr = *addresses.iter().find(|addr| addr.is_ipv4()).or(addresses.first())?;
    let network = network_of_host(&config.realms[realm.0], addr)?;
    let is_forwarded = config.realms[realm.0].napt.as_ref().is_some_and(|napt| napt.leads_to(addr));
    (network.alias == AliasMode::HostsOnly && !is_forwarded).then(|| Wanted {
        owner,
        native: IpNet::from(addr),
        pin: None,
        host: Some(host),
        is_pool: false,
    })
}

/// The most specific network that holds `addr`.
pub fn network_of_host(realm: &Realm, addr: IpAddr) -> Option<&Network> {
    realm.networks.iter().filter(|n| n.native.contains(&addr)).max_by_key(|n| n.native.prefix_len())
}

fn own_networks(realm: &Realm) -> Vec<Ipv4Net> {
    let native4 = |network: &Network| match network.native {
        IpNet::V4(native) => Some(native.trunc()),
        IpNet::V6(_) => None,
    };
    realm.networks.iter().filter_map(native4).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    fn ids(count: u16) -> Vec<Option<RealmId>> {
        (1..=count).map(|n| Some(RealmId(n))).collect()
    }

    #[test]
    fn a_host_wants_an_alias_only_where_its_network_has_none() {
        let config = Sample::new()
            .realm("a", &["10.0.0.0/8=hosts", "10.1.0.0/16"])
            .host("lone", "a", &["10.2.0.1"])
            .host("covered", "a", &["10.1.0.1"])
            .host("twin", "a", &["10.2.0.1"])
            .build();
        let inventory = Inventory::new(&config, &ids(1));
        let wanted: Vec<_> = inventory.wanted.iter().map(|w| (w.native.to_string(), w.host)).collect();
        assert_eq!(wanted, [("10.1.0.0/16".to_string(), None), ("10.2.0.1/32".to_string(), Some(HostRef(0)))]);
        assert_eq!(inventory.own4[&RealmId(1)].len(), 2);
    }

    #[test]
    fn of_ipv6_networks_only_hosts_without_ipv4_want_an_alias_unless_more_is_asked_for() {
        let config = Sample::new()
            .realm("a", &["fd00:1::/64", "fd00:2::/120=auto", "fd00:3::/120=100.64.5.0/24", "10.0.0.0/24"])
            .host("lone", "a", &["fd00:1::1"])
            .host("both", "a", &["fd00:1::2", "10.0.0.2"])
            .host("covered", "a", &["fd00:2::1"])
            .build();
        let inventory = Inventory::new(&config, &ids(1));
        let wanted: Vec<_> =
            inventory.wanted.iter().map(|w| (w.native.to_string(), w.pin.map(|pin| pin.to_string()))).collect();
        let pinned = Some("100.64.5.0/24".to_string());
        let want = [("fd00:2::/120", None), ("fd00:3::/120", pinned), ("10.0.0.0/24", None), ("fd00:1::1/128", None)];
        assert_eq!(wanted, want.map(|(native, pin)| (native.to_string(), pin)));
        assert_eq!(inventory.own4[&RealmId(1)].len(), 1);
    }
}
