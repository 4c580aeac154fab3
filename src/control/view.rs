//! What a realm's tunnel may carry, as networks: IPsec calls these traffic selectors (RFC 7296 section 2.9).
//!
//! They come from the realm's view. On its own side: the networks that it declares. On ours: the IX's own addresses, and
//! the networks of every realm that it may reach or that may reach it, as it sees them (a grant either way needs both
//! directions to pass: requests and replies). They are an agreement with the peer about what may enter the tunnel, and no
//! policy: grants decide either way, also when the peer insists on 0.0.0.0/0. Who has a grant with the default realm reaches
//! everything else through us: 0.0.0.0/0 and ::/0.
//!
//! Routers hold few selectors, and our own table is bounded. When there are more than `most`, neighbours are joined; when
//! that is not enough, the alias pools and `space6` stand for the addresses in them; and at last everything for everything.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::compile::Compiled;
use crate::config::model::{Config, GrantTarget};
use crate::net::mapping::Network;
use crate::net::{NetworkId, RealmId};

/// Both sides of a tunnel, from ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// What the realm's hosts may reach, and what may reach them.
    pub ours: Vec<IpNet>,
    /// The realm's own networks.
    pub theirs: Vec<IpNet>,
}

/// What the views of all realms are read from.
pub struct Views<'a> {
    config: &'a Config,
    compiled: &'a Compiled,
    /// Who may reach whom, without direction.
    neighbours: BTreeMap<RealmId, BTreeSet<RealmId>>,
    networks: BTreeMap<RealmId, Vec<NetworkId>>,
    /// Who may reach their own realm, and so see their own pool.
    granted_themselves: BTreeSet<RealmId>,
}

impl<'a> Views<'a> {
    pub fn new(config: &'a Config, compiled: &'a Compiled) -> Self {
        let owner = |target: &GrantTarget| match target {
            GrantTarget::Realm(realm, _) => compiled.realm_ids[realm.0],
            GrantTarget::Service(service) => compiled.names.services[service.0].realm,
        };
        let mut neighbours: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut granted_themselves = BTreeSet::new();
        for grant in &config.grants {
            for from in &grant.from {
                let from = compiled.realm_ids[from.0];
                for to in grant.to.iter().map(owner) {
                    if to == from {
                        granted_themselves.insert(from);
                        continue;
                    }
                    neighbours.entry(from).or_default().insert(to);
                    neighbours.entry(to).or_default().insert(from);
                }
            }
        }
        let mut networks: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, network) in (0..).map(NetworkId).zip(compiled.mapping.networks()) {
            networks.entry(network.realm).or_default().push(id);
        }
        Views { config, compiled, neighbours, networks, granted_themselves }
    }

    /// The view of `viewer`, with at most `most` networks on each side.
    pub fn of(&self, viewer: RealmId, most: usize) -> View {
        let owners = || self.neighbours.get(&viewer).into_iter().flatten();
        let seen = [RealmId::IX].iter().chain(owners()).flat_map(|owner| self.seen_by(viewer, *owner));
        let hairpins = self.granted_themselves.get(&viewer);
        let seen = seen.chain(owners().chain(hairpins).flat_map(|owner| self.pools_seen_by(viewer, *owner)));
        View {
            ours: at_most(most, without_narrower(seen.collect()), &self.pools()),
            theirs: at_most(most, without_narrower(self.own(viewer)), &[]),
        }
    }

    /// Aliases for who speaks IPv4, canonical networks for who speaks IPv6: those of IPv4 realms too, as the two are
    /// translated into one another.
    fn seen_by(&self, viewer: RealmId, owner: RealmId) -> impl Iterator<Item = IpNet> {
        let mapping = &self.compiled.mapping;
        let (ipv4, ipv6) = (mapping.speaks_ipv4(viewer), mapping.speaks_ipv6(viewer));
        let ids = self.networks.get(&owner).map_or(&[][..], Vec::as_slice);
        ids.iter().enumerate().flat_map(move |(i, id)| {
            let network = mapping.network(*id);
            let alias = mapping.alias_of(viewer, *id).filter(|_| ipv4).map(IpNet::V4);
            let canonical = (ipv6 && !self.lies_in_another(network, &ids[..i])).then_some(IpNet::V6(network.canonical));
            alias.into_iter().chain(canonical)
        })
    }

    /// What everything is given out of.
    fn pools(&self) -> Vec<IpNet> {
        let space6 = IpNet::V6(self.config.ix.space6.prefix());
        self.config.ix.alias4.iter().copied().map(IpNet::V4).chain([space6]).collect()
    }

    fn pools_seen_by(&self, viewer: RealmId, owner: RealmId) -> impl Iterator<Item = IpNet> {
        let napt = self.compiled.napt.realm(owner).filter(|napt| napt.is_for(viewer));
        let napt = napt.filter(|_| self.compiled.mapping.speaks_ipv4(viewer));
        napt.into_iter().flat_map(|napt| napt.blocks.pools()).map(|pool| IpNet::V4(*pool))
    }

    fn own(&self, realm: RealmId) -> Vec<IpNet> {
        let ids = self.networks.get(&realm).map_or(&[][..], Vec::as_slice);
        let networks = ids.iter().enumerate().map(|(i, id)| (self.compiled.mapping.network(*id), &ids[..i]));
        networks.filter(|(network, before)| !self.lies_in_another(network, before)).map(|(n, _)| n.native).collect()
    }

    /// A single published host lies in a network that is there itself, before it.
    fn lies_in_another(&self, network: &Network, before: &[NetworkId]) -> bool {
        let native = network.native;
        let is_host = native.prefix_len() == native.max_prefix_len();
        is_host && before.iter().any(|id| self.compiled.mapping.network(*id).native.contains(&native))
    }
}

/// Where all addresses of a family are there, the rest of that family says nothing more.
fn without_narrower(mut networks: Vec<IpNet>) -> Vec<IpNet> {
    let has_all = |ipv4| networks.iter().any(|net| net.prefix_len() == 0 && net.addr().is_ipv4() == ipv4);
    let all = [has_all(false), has_all(true)];
    networks.retain(|net| net.prefix_len() == 0 || !all[usize::from(net.addr().is_ipv4())]);
    networks
}

/// As many networks as allowed, which hold all of `networks` and as little else as is simple to say.
fn at_most(most: usize, networks: Vec<IpNet>, pools: &[IpNet]) -> Vec<IpNet> {
    if networks.len() <= most {
        return networks;
    }
    let joined = IpNet::aggregate(&networks);
    if joined.len() <= most {
        return joined;
    }
    let in_pool = |net: &IpNet| pools.iter().find(|pool| pool.contains(net)).copied();
    let pooled: Vec<IpNet> = joined.iter().map(|net| in_pool(net).unwrap_or(*net)).collect();
    let pooled = IpNet::aggregate(&pooled);
    if pooled.len() <= most {
        return pooled;
    }
    let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    all.into_iter().filter(|all| networks.iter().any(|net| all.contains(net))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::allocations::Allocations;
    use super::super::compile::compile_addresses;
    use super::super::sample::Sample;
    use super::*;
    use crate::net::policy::PortRule;

    const MOST: usize = 64;

    /// Ours and theirs of the realm at `index`.
    fn of(config: &Config, index: usize, most: usize) -> [Vec<String>; 2] {
        let (allocations, _) = allocate(config, &Allocations::default()).unwrap();
        let compiled = compile_addresses(config, &allocations).unwrap();
        let View { ours, theirs } = Views::new(config, &compiled).of(compiled.realm_ids[index], most);
        [ours, theirs].map(|nets| nets.iter().map(IpNet::to_string).collect())
    }

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(|text| text.to_string()).collect()
    }

    fn overlapping() -> Sample {
        Sample::new()
            .realm("a", &["192.168.1.0/24"])
            .realm("b", &["192.168.1.0/24", "10.2.0.0/16"])
            .realm("c", &["192.168.1.0/24"])
            .realm("d", &["192.168.1.0/24"])
    }

    #[test]
    fn a_grant_in_either_direction_puts_both_into_each_others_view() {
        let config = overlapping().grant_realm(&["a"], "b", &[PortRule::Any]).build();
        let service = "100.64.0.0/24";
        // Aliases in file order: a 100.64.1.0/24, b 100.64.2.0/24 and its /16.
        let [ours, theirs] = of(&config, 0, MOST);
        assert_eq!(theirs, ["192.168.1.0/24"]);
        assert_eq!((ours[0].as_str(), ours.len()), (service, 3));
        assert!(ours.iter().any(|net| net.ends_with("/16")), "{ours:?}");
        let [ours, theirs] = of(&config, 1, MOST);
        assert_eq!(ours, texts(&[service, "100.64.1.0/24"]));
        assert_eq!(theirs, texts(&["192.168.1.0/24", "10.2.0.0/16"]));
        assert_eq!(of(&config, 2, MOST)[0], [service], "who has no grant sees the IX alone");
    }

    #[test]
    fn a_service_puts_its_realm_into_the_view() {
        let config = overlapping()
            .host("pacs", "d", &["192.168.1.20"])
            .service("pacs", "pacs", &[PortRule::Tcp(443..=443)])
            .grant_service("a", "pacs")
            .build();
        assert_eq!(of(&config, 0, MOST)[0].len(), 2);
        assert_eq!(of(&config, 3, MOST)[0].len(), 2);
        assert_eq!(of(&config, 1, MOST)[0].len(), 1);
    }

    #[test]
    fn a_viewer_that_uses_an_alias_itself_has_its_own_one_in_its_view() {
        let config = Sample::new()
            .realm("a", &["192.168.1.0/24"])
            .realm("b", &["100.64.1.0/24"])
            .grant_realm(&["b"], "a", &[PortRule::Icmp])
            .build();
        let [ours, theirs] = of(&config, 1, MOST);
        assert_eq!(theirs, ["100.64.1.0/24"]);
        assert!(ours.len() == 2 && !ours.contains(&"100.64.1.0/24".to_owned()), "{ours:?}");
    }

    #[test]
    fn of_a_large_network_the_published_hosts_are_in_the_view() {
        let config = Sample::new()
            .realm("a", &["10.0.0.0/8=hosts"])
            .realm("b", &["192.168.1.0/24"])
            .host("mail", "a", &["10.1.2.3"])
            .grant_realm(&["b"], "a", &[PortRule::Any])
            .build();
        let [ours, _] = of(&config, 1, MOST);
        assert!(ours.len() == 2 && ours[1].ends_with("/32"), "{ours:?}");
        assert_eq!(of(&config, 0, MOST)[1], ["10.0.0.0/8"], "its own side is the network, not the host in it again");
    }

    #[test]
    fn ipv6_is_seen_by_those_who_speak_it() {
        let config = Sample::new()
            .realm("a", &["192.168.1.0/24", "fd00:1::/64=2001:db8:1::/64"])
            .realm("b", &["fd00:2::/64"])
            .realm("c", &["192.168.1.0/24"])
            .grant_realm(&["a", "c"], "b", &[PortRule::Any])
            .grant_realm(&["c"], "a", &[PortRule::Any])
            .build();
        let ix6 = "fd69:7867:6174::/120";
        // The IPv4 networks of its neighbours too, by their canonical prefixes: realms 1 and 3.
        let (a4, c4) = ("fd69:7867:6174:1::c0a8:100/120", "fd69:7867:6174:3::c0a8:100/120");
        assert_eq!(of(&config, 1, MOST), [texts(&[ix6, a4, "2001:db8:1::/64", c4]), texts(&["fd00:2::/64"])]);
        let [ours, theirs] = of(&config, 0, MOST);
        assert_eq!(theirs, texts(&["192.168.1.0/24", "fd00:1::/64"]));
        assert!(ours.contains(&ix6.to_owned()) && ours.contains(&"fd00:2::/64".to_owned()), "{ours:?}");
        assert!(of(&config, 2, MOST)[0].iter().all(|net| !net.contains(':')), "c speaks no IPv6");
    }

    #[test]
    fn a_published_host_is_seen_over_ipv6_within_its_network() {
        let config = Sample::new()
            .realm("a", &["10.0.0.0/8=hosts"])
            .realm("b", &["fd00:2::/64"])
            .host("mail", "a", &["10.1.2.3"])
            .grant_realm(&["b"], "a", &[PortRule::Any])
            .build();
        let [ours, _] = of(&config, 1, MOST);
        assert_eq!(ours[1..], ["fd69:7867:6174:1::a00:0/104"]);
    }

    #[test]
    fn an_ipv6_host_is_in_the_view_of_who_speaks_ipv4_under_its_alias() {
        let config = Sample::new()
            .realm("a", &["fd00:1::/64"])
            .realm("b", &["192.168.1.0/24"])
            .host("pacs", "a", &["fd00:1::3"])
            .grant_realm(&["b"], "a", &[PortRule::Any])
            .build();
        assert_eq!(of(&config, 1, MOST)[0], ["100.64.0.0/24", "100.64.2.0/32"]);
        assert_eq!(of(&config, 0, MOST)[1], ["fd00:1::/64"]);
    }

    #[test]
    fn who_has_a_grant_with_the_default_realm_reaches_everything_through_us() {
        let config = Sample::new()
            .realm("a", &["192.168.1.0/24=203.0.113.0/24"])
            .realm("b", &["192.168.1.0/24", "fd00:2::/64"])
            .realm("c", &["192.168.1.0/24"])
            .default_realm("internet", &["10.9.0.0/24"])
            .grant_realm(&["a", "b"], "internet", &[PortRule::Any])
            .build();
        assert_eq!(of(&config, 0, MOST), [texts(&["0.0.0.0/0"]), texts(&["192.168.1.0/24"])]);
        assert_eq!(of(&config, 1, MOST)[0], ["0.0.0.0/0", "::/0"]);
        assert_eq!(of(&config, 2, MOST)[0], ["100.64.0.0/24"], "who has none sees the IX alone");
        let [ours, theirs] = of(&config, 3, MOST);
        assert_eq!(theirs, ["0.0.0.0/0", "::/0"]);
        assert!(ours.contains(&"203.0.113.0/24".to_owned()), "{ours:?}");
    }

    #[test]
    fn what_is_too_much_is_said_shorter_and_loses_nothing() {
        let mut sample = Sample::new().realm("centre", &["192.168.0.0/24"]);
        for i in 0..70 {
            sample =
                sample.realm(&format!("r{i}"), &[if i == 69 { "10.9.0.0/24=172.29.7.0/24" } else { "10.0.0.0/24" }]);
        }
        let names: Vec<String> = (0..70).map(|i| format!("r{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let config = sample.grant_realm(&names, "centre", &[PortRule::Any]).build();
        // 100.64.0.0/24 to 100.64.70.0/24 but for the centre's own one: neighbours joined.
        let [ours, _] = of(&config, 0, MOST);
        assert!(ours.len() > 2 && ours.len() <= 12, "{ours:?}");
        assert_eq!(of(&config, 0, 3)[0], texts(&["100.64.0.0/10", "172.29.7.0/24"]), "pinned outside of the pools");
        assert_eq!(of(&config, 0, 1)[0], ["0.0.0.0/0"]);
        // The same seen over IPv6: no two canonical prefixes are neighbours, but all are out of one pool.
        let mut sample = Sample::new().realm("centre", &["fd00:c::/64"]);
        for name in &names {
            sample = sample.realm(name, &["10.0.0.0/24"]);
        }
        let config = sample.grant_realm(&names, "centre", &[PortRule::Any]).build();
        assert_eq!(of(&config, 0, 3)[0], ["fd69:7867:6174::/48"]);
    }
}
