//! What a realm's tunnel may carry, as networks: IPsec calls these traffic selectors (RFC 7296 section 2.9).
//!
//! They come from the realm's view. On its own side: the networks that it declares. On ours: the IX's own addresses, and
//! the networks of every realm that it may reach or that may reach it, as it sees them (a grant either way needs both
//! directions to pass: requests and replies). They are an agreement with the peer about what may enter the tunnel, and no
//! policy: grants decide either way, also when the peer insists on 0.0.0.0/0.
//!
//! Routers hold few selectors, and our own table is bounded. When there are more than `most`, neighbours are joined; when
//! that is not enough, the alias pools stand for the aliases in them; and at last everything for everything.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::compile::Compiled;
use crate::config::model::{Config, GrantTarget};
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
            ours: at_most(most, seen.collect(), &self.config.ix.alias4),
            theirs: at_most(most, self.own(viewer), &[]),
        }
    }

    fn seen_by(&self, viewer: RealmId, owner: RealmId) -> impl Iterator<Item = IpNet> {
        let mapping = &self.compiled.mapping;
        let (ipv4, ipv6) = (mapping.speaks_ipv4(viewer), mapping.speaks_ipv6(viewer));
        self.networks.get(&owner).into_iter().flatten().flat_map(move |id| {
            let network = mapping.network(*id);
            let alias = mapping.alias_of(viewer, *id).filter(|_| ipv4).map(IpNet::V4);
            // Of IPv4 realms, canonical addresses are of no use before 4↔6 is served; but the IX answers at its own.
            let is_of_use = ipv6 && (owner.is_ix() || network.native.addr().is_ipv6());
            alias.into_iter().chain(is_of_use.then_some(IpNet::V6(network.canonical)))
        })
    }

    fn pools_seen_by(&self, viewer: RealmId, owner: RealmId) -> impl Iterator<Item = IpNet> {
        let napt = self.compiled.napt.realm(owner).filter(|napt| napt.is_for(viewer));
        let napt = napt.filter(|_| self.compiled.mapping.speaks_ipv4(viewer));
        napt.into_iter().flat_map(|napt| napt.blocks.pools()).map(|pool| IpNet::V4(*pool))
    }

    fn own(&self, realm: RealmId) -> Vec<IpNet> {
        let mut own: Vec<IpNet> = Vec::new();
        for id in self.networks.get(&realm).into_iter().flatten() {
            let native = self.compiled.mapping.network(*id).native;
            // A single published host lies in a network that is there itself, before it.
            let is_host = native.prefix_len() == native.max_prefix_len();
            if !is_host || !own.iter().any(|net| net.contains(&native)) {
                own.push(native);
            }
        }
        own
    }
}

/// As many networks as allowed, which hold all of `networks` and as little else as is simple to say.
fn at_most(most: usize, networks: Vec<IpNet>, pools: &[Ipv4Net]) -> Vec<IpNet> {
    if networks.len() <= most {
        return networks;
    }
    let joined = IpNet::aggregate(&networks);
    if joined.len() <= most {
        return joined;
    }
    let in_pool = |net: &IpNet| pools.iter().find(|pool| IpNet::V4(**pool).contains(net)).map(|pool| IpNet::V4(*pool));
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
        assert_eq!(of(&config, 1, MOST), [texts(&[ix6, "2001:db8:1::/64"]), texts(&["fd00:2::/64"])]);
        let [ours, theirs] = of(&config, 0, MOST);
        assert_eq!(theirs, texts(&["192.168.1.0/24", "fd00:1::/64"]));
        assert!(ours.contains(&ix6.to_owned()) && ours.contains(&"fd00:2::/64".to_owned()), "{ours:?}");
        assert!(of(&config, 2, MOST)[0].iter().all(|net| !net.contains(':')), "c speaks no IPv6");
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
    }
}
