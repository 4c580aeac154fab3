//! The default realm: the one whose hosts are all addresses that nobody else has, such as the Internet.
//!
//! Everybody addresses them as they are: the default realm is two networks, 0.0.0.0/0 and ::/0, mapped to themselves, which
//! are looked at only when no other lookup has found anything. An address is *nobody's* when it is
//!
//! - no special-purpose address ([`special_purpose`]: private, loopback, link-local, multicast, ...),
//! - in no alias pool and no alias, and no canonical address (of `space6`, or of somebody's IPv6 network),
//! - in no network of the default realm's own, which is seen as any other realm's is,
//! - IPv6: no realm's own.
//!
//! This holds for destinations, and for sources that come in from the default realm: nobody out there can pretend to be
//! one of us. Of IPv4 a realm may use addresses of its own that the Internet has too: it alone neither reaches nor
//! sees those.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Located, Mapping, Network, RangeMap, RealmId, RealmTables};
use crate::net::{NetworkId, special_purpose};

/// Which realm it is, and what it cannot have although no other table says so.
#[derive(Clone, Debug)]
pub(super) struct DefaultRealm {
    realm: RealmId,
    network4: NetworkId,
    network6: NetworkId,
    pools: RangeMap<u32, ()>,
    /// Every realm's own IPv6 networks.
    own6: RangeMap<u128, ()>,
}

impl Mapping {
    /// The same with `realm` as the default realm. `pools` is what aliases are given from (disjoint).
    pub fn with_default_realm(mut self, realm: RealmId, pools: &[Ipv4Net]) -> Mapping {
        let pools = pools.iter().map(|net| (net.network().to_bits(), net.broadcast().to_bits(), ())).collect();
        let own6 = self.networks.iter().filter_map(|network| match network.native {
            IpNet::V6(net) => Some((net.network().to_bits(), net.broadcast().to_bits(), ())),
            IpNet::V4(_) => None,
        });
        let own6 = own6.collect();

        let all4 = Ipv4Net::default();
        let network4 = NetworkId(self.networks.len() as u32);
        self.networks.push(Network {
            realm,
            native: all4.into(),
            canonical: self.space6.embed_net(realm, all4),
            alias: Some(all4),
        });
        let network6 = NetworkId(self.networks.len() as u32);
        let all6 = Ipv6Net::default();
        self.networks.push(Network { realm, native: all6.into(), canonical: all6, alias: None });

        let realm_count = self.realms.len().max(usize::from(realm.0) + 1);
        self.realms.resize_with(realm_count, RealmTables::default);
        let (pools, own6) = (RangeMap::new(pools), RangeMap::new(own6));
        self.default = Some(Box::new(DefaultRealm { realm, network4, network6, pools, own6 }));
        self
    }

    pub fn default_realm(&self) -> Option<RealmId> {
        self.default.as_ref().map(|default| default.realm)
    }

    /// Whether this is a host that is only known by being nobody else's.
    pub fn is_by_default(&self, at: Located) -> bool {
        self.default.as_deref().is_some_and(|default| [default.network4, default.network6].contains(&at.network))
    }

    /// For a native address that is in none of `realm`'s networks.
    pub(super) fn default_native4(&self, realm: RealmId, addr: Ipv4Addr) -> Option<NetworkId> {
        let default = self.default.as_deref().filter(|default| default.realm == realm)?;
        self.is_nobodys4(default, addr).then_some(default.network4)
    }

    /// For an IPv6 address, native or canonical, that is in no network of realm `of`; `None`: of any realm.
    pub(super) fn default_network6(&self, of: Option<RealmId>, addr: Ipv6Addr) -> Option<NetworkId> {
        let default = self.default.as_deref().filter(|default| of.is_none_or(|realm| default.realm == realm))?;
        let bits = addr.to_bits();
        let nobodys = special_purpose::refusal6(addr).is_none()
            && !self.space6.contains(addr)
            && self.canonical6.lookup(bits).is_none()
            && default.own6.lookup(bits).is_none();
        nobodys.then_some(default.network6)
    }

    /// For an address that `viewer` knows no alias by.
    pub(super) fn default_destination4(&self, viewer: RealmId, addr: Ipv4Addr) -> Option<NetworkId> {
        let default = self.default.as_deref().filter(|default| default.realm != viewer)?;
        let is_own = self.realm(viewer)?.native4.lookup(addr.to_bits()).is_some();
        (!is_own && self.is_nobodys4(default, addr)).then_some(default.network4)
    }

    /// Whether `at` is a host of the default realm whose address means another one to `viewer`, or none: to the default
    /// realm itself, whose hosts reach one another without us.
    #[inline]
    pub(super) fn is_hidden4(&self, viewer: RealmId, at: Located) -> bool {
        let Some(default) = self.default.as_deref().filter(|default| default.network4 == at.network) else {
            return false;
        };
        let bits = at.canonical.0 as u32;
        let is_own = |own: &RealmTables| own.native4.lookup(bits).is_some() || own.own_aliases.lookup(bits).is_some();
        viewer == default.realm || self.realm(viewer).is_some_and(is_own)
    }

    fn is_nobodys4(&self, default: &DefaultRealm, addr: Ipv4Addr) -> bool {
        let bits = addr.to_bits();
        let own = self.realm(default.realm).and_then(|own| own.native4.lookup(bits));
        special_purpose::refusal4(addr).is_none()
            && own.is_none()
            && default.pools.lookup(bits).is_none()
            && self.default_aliases.lookup(bits).is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::net::Space6;
    use crate::net::mapping::AliasOverride;

    const A: RealmId = RealmId(1);
    const B: RealmId = RealmId(2);
    const INTERNET: RealmId = RealmId(3);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A has public addresses of its own under a private alias, and a private network under a public one; B sees A's second
    /// network under an alias that only it has; the Internet realm has a management network and a
    /// public one.
    fn example() -> Mapping {
        let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let network = |realm, native: &str, alias: Option<&str>| {
            let native: Ipv4Net = native.parse().unwrap();
            let alias = alias.map(|alias| alias.parse().unwrap());
            Network { realm, native: native.into(), canonical: space.embed_net(realm, native), alias }
        };
        let network6 = |realm, native: &str, canonical: &str| Network {
            realm,
            native: native.parse().unwrap(),
            canonical: canonical.parse().unwrap(),
            alias: None,
        };
        let networks = vec![
            network(RealmId::IX, "0.0.0.0/24", Some("100.64.0.0/24")),
            network(A, "193.10.0.0/16", Some("100.65.0.0/16")),
            network(A, "192.168.1.0/24", Some("193.11.1.0/24")),
            network(B, "192.168.1.0/24", Some("100.64.2.0/24")),
            network(INTERNET, "10.9.0.0/24", Some("100.64.3.0/24")),
            network6(A, "2a00:1::/48", "2a00:1::/48"),
            network6(B, "2a00:2::/48", "2a00:ff::/48"),
            network(INTERNET, "193.13.0.0/24", Some("100.64.4.0/24")),
        ];
        let overrides = [AliasOverride { viewer: B, network: NetworkId(2), alias: "193.12.1.0/24".parse().unwrap() }];
        Mapping::new(space, networks, &overrides).with_default_realm(INTERNET, &["100.64.0.0/10".parse().unwrap()])
    }

    #[test]
    fn an_address_that_nobody_has_is_a_host_of_the_default_realm_and_seen_as_it_is() {
        let m = example();
        assert_eq!(m.default_realm(), Some(INTERNET));
        assert!(m.speaks_ipv4(INTERNET) && m.speaks_ipv6(INTERNET));
        for text in ["8.8.8.8", "203.0.113.7", "223.255.255.255", "2a00:3::1", "2001:db8::7"] {
            let at = m.locate_seen_by(A, ip(text)).unwrap();
            assert_eq!((at.realm, m.native_of(at), m.is_by_default(at)), (INTERNET, ip(text), true), "{text}");
            assert_eq!(m.seen_by(B, at), Some(ip(text)), "{text}");
            assert_eq!(m.locate_native(INTERNET, ip(text)), Some(at), "{text}");
            assert_eq!(m.locate_canonical(at.canonical), Some(at), "{text}");
        }
        let canonical = |text| m.locate_seen_by(A, ip(text)).unwrap().canonical.to_string();
        assert_eq!(canonical("8.8.8.8"), "fd69:7867:6174:3::808:808");
        assert_eq!(canonical("2a00:3::1"), "2a00:3::1");
    }

    #[test]
    fn what_somebody_has_or_nobody_can_have_is_neither_reached_there_nor_let_in_from_there() {
        let m = example();
        let special =
            ["127.0.0.1", "10.1.2.3", "169.254.1.1", "0.0.0.1", "240.0.0.1", "224.0.0.5", "192.168.1.7", "198.18.0.1"];
        let ours = ["100.100.0.1", "100.64.2.7", "193.11.1.7"];
        let six =
            ["fd69:7867:6174:1::c0a8:101", "fd00::1", "fe80::1", "ff02::1", "2a00:1::1", "2a00:2::1", "2a00:ff::1"];
        for text in special.iter().chain(&ours).chain(&six) {
            assert_eq!(m.locate_native(INTERNET, ip(text)), None, "{text} from the default realm");
            let reached = m.locate_seen_by(B, ip(text)).filter(|at| at.realm == INTERNET);
            assert_eq!(reached, None, "{text} to the default realm");
        }
    }

    #[test]
    fn a_realm_that_uses_public_addresses_itself_neither_reaches_nor_sees_those_of_the_default_realm() {
        let m = example();
        let there = m.locate_native(INTERNET, ip("193.10.0.7")).unwrap();
        assert_eq!(m.locate_seen_by(A, ip("193.10.0.7")), None);
        assert_eq!((m.seen_by(A, there), m.seen_by4(A, there)), (None, None));
        // For B it is an address like any other.
        assert_eq!(m.locate_seen_by(B, ip("193.10.0.7")), Some(there));
        assert_eq!(m.seen_by(B, there), Some(ip("193.10.0.7")));
        // And B has an alias that the Internet may have as well: for B it is the alias.
        let there = m.locate_native(INTERNET, ip("193.12.1.7")).unwrap();
        assert_eq!(m.locate_seen_by(B, ip("193.12.1.7")).unwrap().realm, A);
        assert_eq!((m.seen_by(B, there), m.seen_by(A, there)), (None, Some(ip("193.12.1.7"))));
        // The usual alias does not exist for B, but is not the Internet's for that.
        assert_eq!(m.locate_seen_by(B, ip("193.11.1.7")), None);
    }

    #[test]
    fn the_default_realm_is_a_realm_like_the_others_besides() {
        let m = example();
        let own = m.locate_native(INTERNET, ip("10.9.0.7")).unwrap();
        assert_eq!((m.seen_by(A, own), m.is_by_default(own)), (Some(ip("100.64.3.7")), false));
        // Public or not: answers would come from the alias.
        let public = m.locate_native(INTERNET, ip("193.13.0.7")).unwrap();
        assert_eq!((m.seen_by(A, public), m.is_by_default(public)), (Some(ip("100.64.4.7")), false));
        assert_eq!(m.locate_seen_by(A, ip("193.13.0.7")), None);
        assert_eq!(m.locate_seen_by(INTERNET, ip("193.11.1.7")).unwrap().realm, A);
        assert_eq!(m.locate_seen_by(INTERNET, ip("8.8.8.8")), None, "its hosts reach one another without us");
        let there = m.locate_native(INTERNET, ip("8.8.8.8")).unwrap();
        assert_eq!(m.seen_by4(INTERNET, there), None, "so it cannot answer there");
        assert_eq!(m.locate_native(A, ip("8.8.8.8")), None);
        assert_eq!(m.locate_native(A, ip("2a00:3::1")), None);
        assert!(m.locate_seen_by(INTERNET, ip("100.64.0.53")).unwrap().realm.is_ix());
    }

    #[test]
    fn without_a_default_realm_nothing_is_found_by_default() {
        let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let m = Mapping::new(space, example().networks()[..4].to_vec(), &[]);
        for text in ["8.8.8.8", "2a00:3::1", "fd69:7867:6174:3::808:808"] {
            assert_eq!((m.locate_seen_by(A, ip(text)), m.locate_native(A, ip(text))), (None, None), "{text}");
        }
    }
}
