//! Who sees whom under which address: the one mapping that translation, names, anti-spoofing and `plan` all read.
//!
//! ```text
//!   native (realm V)  --canonicalise-->  canonical  --as seen by realm T-->  alias (IPv4) or canonical (IPv6)
//! ```
//!
//! N realms need N mappings, not N²: each network has one canonical prefix and at most one default alias, an IPv4 prefix
//! that every viewer sees. Only a viewer for whom the default cannot work (it uses that range itself) gets an alias of
//! its own, an [`AliasOverride`]. Every function takes the realm along with the address; no lookup by address alone
//! exists, except for canonical addresses, which carry their realm.
//!
//! Native, canonical and alias prefixes of one network have host parts of the same size, and a host has the same host part
//! in each. So IPv6 hosts can have IPv4 aliases (explicit address mappings, RFC 7757 section 3.1), single ones most often:
//! a /128 nested in its /64, with a /32 for an alias. And every IPv4 host has an IPv6 address, its canonical one (RFC 6052).

mod changes;
mod default_realm;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::range_map::RangeMap;
use super::{Canonical, NetworkId, RealmId, Space6};
pub use changes::MappingChanges;

/// One network of one realm, as configured and allocated.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    pub realm: RealmId,
    /// The addresses on the realm's own wires.
    pub native: IpNet,
    /// Same size as `native`: `native` embedded in `space6` for IPv4, a unique prefix of equal length for IPv6.
    pub canonical: Ipv6Net,
    /// How everybody sees it who speaks IPv4 and has no [`AliasOverride`]. Its host part is as long as `native`'s. `None` for
    /// a network of which only single hosts are published, and for an IPv6 network that is not seen over IPv4.
    pub alias: Option<Ipv4Net>,
}

/// `viewer` sees `network` under an alias of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AliasOverride {
    pub viewer: RealmId,
    pub network: NetworkId,
    pub alias: Ipv4Net,
}

/// A canonical address and the network that it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    pub canonical: Canonical,
    pub network: NetworkId,
    pub realm: RealmId,
}

/// Per realm: what its native addresses mean, and where its view differs from the default one.
#[derive(Clone, Default, Debug)]
struct RealmTables {
    native4: RangeMap<u32, NetworkId>,
    native6: RangeMap<u128, NetworkId>,
    /// Aliases that only this viewer has.
    own_aliases: RangeMap<u32, NetworkId>,
    /// The same, by network (sorted): their default aliases do not exist for this viewer.
    overridden: Vec<(NetworkId, Ipv4Net)>,
    /// Networks (sorted) that this viewer sees under no alias.
    hidden: Vec<NetworkId>,
}

/// The compiled mapping. Immutable; one per generation.
#[derive(Clone, Debug)]
pub struct Mapping {
    space6: Space6,
    networks: Vec<Network>,
    /// Indexed by realm number; realms that are not configured have empty tables.
    realms: Vec<RealmTables>,
    default_aliases: RangeMap<u32, NetworkId>,
    /// IPv6 networks by canonical prefix. IPv4-derived ones need no table: their realm is in the address.
    canonical6: RangeMap<u128, NetworkId>,
    /// Asked when no table has an address.
    default: Option<Box<default_realm::DefaultRealm>>,
}

impl Mapping {
    /// Compiles the tables. The caller guarantees what `control::allocate` establishes: within a realm, networks are
    /// nested or disjoint; aliases are disjoint wherever one viewer can see both; canonical IPv6 prefixes are disjoint
    /// across realms, or nested within one as their native ones are, and lie outside `space6`; host parts of one network
    /// are of one size.
    pub fn new(space6: Space6, networks: Vec<Network>, overrides: &[AliasOverride]) -> Self {
        let realm_count = networks.iter().map(|n| usize::from(n.realm.0) + 1).max().unwrap_or(0);
        let realm_count = overrides.iter().map(|o| usize::from(o.viewer.0) + 1).fold(realm_count, usize::max);

        let mut native4: Vec<Vec<_>> = vec![Vec::new(); realm_count];
        let mut native6: Vec<Vec<_>> = vec![Vec::new(); realm_count];
        let mut own_aliases: Vec<Vec<_>> = vec![Vec::new(); realm_count];
        let mut overridden: Vec<Vec<_>> = vec![Vec::new(); realm_count];
        let mut default_aliases = Vec::new();
        let mut canonical6 = Vec::new();

        debug_assert!(networks.iter().all(Network::has_host_parts_of_one_size), "{networks:?}");
        for (id, network) in (0..).map(NetworkId).zip(&networks) {
            let realm = usize::from(network.realm.0);
            match network.native {
                IpNet::V4(net) => native4[realm].push(range4(net, id)),
                IpNet::V6(net) => {
                    native6[realm].push(range6(net, id));
                    canonical6.push(range6(network.canonical, id));
                }
            }
            default_aliases.extend(network.alias.map(|alias| range4(alias, id)));
        }
        for o in overrides {
            let viewer = usize::from(o.viewer.0);
            own_aliases[viewer].push(range4(o.alias, o.network));
            overridden[viewer].push((o.network, o.alias));
        }

        let realms = native4
            .into_iter()
            .zip(native6)
            .zip(own_aliases)
            .zip(overridden)
            .map(|(((native4, native6), own_aliases), mut overridden)| {
                overridden.sort_by_key(|(network, _)| *network);
                RealmTables {
                    native4: RangeMap::new(native4),
                    native6: RangeMap::new(native6),
                    own_aliases: RangeMap::new(own_aliases),
                    overridden,
                    hidden: Vec::new(),
                }
            })
            .collect();

        Mapping {
            space6,
            networks,
            realms,
            default_aliases: RangeMap::new(default_aliases),
            canonical6: RangeMap::new(canonical6),
            default: None,
        }
    }

    /// Takes the aliases of some networks away from some viewers: these see them by a pool.
    pub fn hide(&mut self, hidden: impl IntoIterator<Item = (RealmId, NetworkId)>) {
        for (viewer, network) in hidden {
            let Some(tables) = self.realms.get_mut(usize::from(viewer.0)) else { continue };
            if let Err(place) = tables.hidden.binary_search(&network) {
                tables.hidden.insert(place, network);
            }
        }
    }

    pub fn space6(&self) -> Space6 {
        self.space6
    }

    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    #[inline]
    pub fn network(&self, id: NetworkId) -> &Network {
        &self.networks[id.index()]
    }

    /// Whether `realm` has networks of this family, so that an address of it is of any use there.
    pub fn speaks_ipv4(&self, realm: RealmId) -> bool {
        self.default_realm() == Some(realm) || self.realm(realm).is_some_and(|r| !r.native4.is_empty())
    }

    pub fn speaks_ipv6(&self, realm: RealmId) -> bool {
        self.default_realm() == Some(realm) || self.realm(realm).is_some_and(|r| !r.native6.is_empty())
    }

    /// A native address of `realm`. `None`: it does not belong to that realm (anti-spoofing rests on this).
    pub fn locate_native(&self, realm: RealmId, addr: IpAddr) -> Option<Located> {
        match addr {
            IpAddr::V4(addr) => self.locate_native4(realm, addr),
            IpAddr::V6(addr) => self.locate_native6(realm, addr),
        }
    }

    #[inline(always)]
    pub fn locate_native4(&self, realm: RealmId, addr: Ipv4Addr) -> Option<Located> {
        let found = self.realm(realm)?.native4.lookup(addr.to_bits());
        let network = found.or_else(|| self.default_native4(realm, addr))?;
        Some(Located { canonical: self.space6.embed(realm, addr), network, realm })
    }

    #[inline]
    pub fn locate_native6(&self, realm: RealmId, addr: Ipv6Addr) -> Option<Located> {
        let found = self.realm(realm)?.native6.lookup(addr.to_bits());
        let id = found.or_else(|| self.default_network6(Some(realm), addr))?;
        let IpNet::V6(native) = self.network(id).native else { return None };
        let canonical = Canonical(rebase(addr.to_bits(), native, self.network(id).canonical));
        Some(Located { canonical, network: id, realm })
    }

    /// What `viewer` means by a destination address that is not its own: an alias, or a canonical IPv6 address.
    pub fn locate_seen_by(&self, viewer: RealmId, addr: IpAddr) -> Option<Located> {
        match addr {
            IpAddr::V4(addr) => self.locate_alias(viewer, addr),
            IpAddr::V6(addr) => self.locate_canonical(addr.into()),
        }
    }

    #[inline(always)]
    pub fn locate_alias(&self, viewer: RealmId, addr: Ipv4Addr) -> Option<Located> {
        let tables = self.realm(viewer)?;
        let id = match tables.own_aliases.lookup(addr.to_bits()) {
            Some(id) => id,
            None => {
                let found = self.default_aliases.lookup(addr.to_bits());
                let found = found.filter(|id| tables.override_of(*id).is_none());
                found.or_else(|| self.default_destination4(viewer, addr))?
            }
        };
        if tables.hides(id) {
            return None;
        }
        let network = self.network(id);
        let alias = tables.override_of(id).or(network.alias)?;
        let host_part = addr.to_bits() & alias.hostmask().to_bits();
        let canonical = Canonical(network.canonical.network().to_bits() | u128::from(host_part));
        Some(Located { canonical, network: id, realm: network.realm })
    }

    /// The network and realm that own a canonical address.
    #[inline]
    pub fn locate_canonical(&self, canonical: Canonical) -> Option<Located> {
        let network = match self.space6.extract(canonical) {
            Some((realm, addr)) => self.locate_native4(realm, addr)?.network,
            None => {
                let found = self.canonical6.lookup(canonical.0);
                found.or_else(|| self.default_network6(None, canonical.addr()))?
            }
        };
        Some(Located { canonical, network, realm: self.network(network).realm })
    }

    /// The address on the owner's own wires.
    #[inline]
    pub fn native_of(&self, at: Located) -> IpAddr {
        let network = self.network(at.network);
        match network.native {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(at.canonical.0 as u32)),
            IpNet::V6(native) => IpAddr::V6(Ipv6Addr::from_bits(rebase(at.canonical.0, network.canonical, native))),
        }
    }

    /// The IPv4 address under which `viewer` sees `at`, whichever family its own is of. `None`: it has no alias (its network
    /// publishes single hosts only, or is an IPv6 network that has none).
    #[inline(always)]
    pub fn seen_by4(&self, viewer: RealmId, at: Located) -> Option<Ipv4Addr> {
        let alias = self.alias_of(viewer, at.network).filter(|_| !self.is_hidden4(viewer, at))?;
        let host_part = (at.canonical.0 as u32) & alias.hostmask().to_bits();
        Some(Ipv4Addr::from_bits(alias.network().to_bits() | host_part))
    }

    /// The IPv6 address under which everybody sees `at`, whichever family its own is of: the canonical one.
    #[inline]
    pub fn seen_by6(&self, at: Located) -> Ipv6Addr {
        at.canonical.addr()
    }

    /// The address under which `viewer` sees `at`, of the family of `like`.
    #[inline]
    pub fn seen_by_like(&self, viewer: RealmId, at: Located, like: IpAddr) -> Option<IpAddr> {
        match like {
            IpAddr::V4(_) => self.seen_by4(viewer, at).map(IpAddr::V4),
            IpAddr::V6(_) => Some(IpAddr::V6(self.seen_by6(at))),
        }
    }

    /// The address of its own family under which `viewer` sees `at`: an alias for IPv4, the canonical address for IPv6.
    /// `None` for an IPv4 host that has no alias.
    #[inline]
    pub fn seen_by(&self, viewer: RealmId, at: Located) -> Option<IpAddr> {
        self.seen_by_like(viewer, at, self.network(at.network).native.addr())
    }

    /// The IPv4 prefix under which `viewer` sees a network.
    #[inline]
    pub fn alias_of(&self, viewer: RealmId, network: NetworkId) -> Option<Ipv4Net> {
        let tables = self.realm(viewer);
        if tables.is_some_and(|r| r.hides(network)) {
            return None;
        }
        tables.and_then(|r| r.override_of(network)).or(self.network(network).alias)
    }

    #[inline]
    fn realm(&self, realm: RealmId) -> Option<&RealmTables> {
        self.realms.get(usize::from(realm.0))
    }
}

impl Network {
    fn has_host_parts_of_one_size(&self) -> bool {
        let host_bits = self.native.max_prefix_len() - self.native.prefix_len();
        128 - self.canonical.prefix_len() == host_bits
            && self.alias.is_none_or(|alias| 32 - alias.prefix_len() == host_bits)
    }
}

impl RealmTables {
    #[inline]
    fn hides(&self, network: NetworkId) -> bool {
        !self.hidden.is_empty() && self.hidden.binary_search(&network).is_ok()
    }

    #[inline]
    fn override_of(&self, network: NetworkId) -> Option<Ipv4Net> {
        if self.overridden.is_empty() {
            return None; // the common case: a viewer that sees everything by its default alias
        }
        let at = self.overridden.binary_search_by_key(&network, |(id, _)| *id).ok()?;
        Some(self.overridden[at].1)
    }
}

/// Moves `addr` from prefix `from` to the same place in `to` (of equal length).
#[inline]
fn rebase(addr: u128, from: Ipv6Net, to: Ipv6Net) -> u128 {
    to.network().to_bits() | (addr & from.hostmask().to_bits())
}

fn range4(net: Ipv4Net, id: NetworkId) -> (u32, u32, NetworkId) {
    (net.network().to_bits(), net.broadcast().to_bits(), id)
}

fn range6(net: Ipv6Net, id: NetworkId) -> (u128, u128, NetworkId) {
    (net.network().to_bits(), net.broadcast().to_bits(), id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: RealmId = RealmId(1);
    const B: RealmId = RealmId(2);
    const C: RealmId = RealmId(3);

    fn v4(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(space: Space6, realm: RealmId, native: &str, alias: Option<&str>) -> Network {
        let native: Ipv4Net = native.parse().unwrap();
        Network {
            realm,
            native: native.into(),
            canonical: space.embed_net(realm, native),
            alias: alias.map(|a| a.parse().unwrap()),
        }
    }

    /// Two realms with one prefix, and a realm C that uses 100.64.1.0/24 itself and so sees A by another alias.
    fn example() -> Mapping {
        let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let networks = vec![
            network(space, A, "192.168.1.0/24", Some("100.64.1.0/24")),
            network(space, B, "192.168.1.0/24", Some("100.64.2.0/24")),
            network(space, C, "100.64.1.0/24", Some("100.64.3.0/24")),
            network(space, C, "10.0.0.0/8", None),
            network(space, C, "10.1.2.3/32", Some("100.64.4.9/32")),
            Network {
                realm: A,
                native: "fd00:1::/64".parse().unwrap(),
                canonical: "2001:db8:1::/64".parse().unwrap(),
                alias: None,
            },
        ];
        let overrides = [AliasOverride { viewer: C, network: NetworkId(0), alias: "100.64.9.0/24".parse().unwrap() }];
        Mapping::new(space, networks, &overrides)
    }

    #[test]
    fn two_equal_networks_see_each_other_under_aliases() {
        let m = example();
        let source = m.locate_native(A, v4("192.168.1.10")).unwrap();
        let destination = m.locate_seen_by(A, v4("100.64.2.20")).unwrap();
        assert_eq!(destination.realm, B);
        assert_eq!(m.seen_by(B, source), Some(v4("100.64.1.10")));
        assert_eq!(m.native_of(destination), v4("192.168.1.20"));
    }

    #[test]
    fn a_viewer_that_uses_the_default_range_sees_another_alias() {
        let m = example();
        let a = m.locate_native(A, v4("192.168.1.10")).unwrap();
        assert_eq!(m.seen_by(C, a), Some(v4("100.64.9.10")));
        assert_eq!(m.locate_seen_by(C, v4("100.64.9.10")), Some(a));
        // The default alias does not exist for C: there it is C's own network.
        assert_eq!(m.locate_seen_by(C, v4("100.64.1.10")), None);
        // And C's private alias does not exist for anybody else.
        assert_eq!(m.locate_seen_by(B, v4("100.64.9.10")), None);
    }

    #[test]
    fn a_published_host_has_an_alias_and_its_neighbours_have_none() {
        let m = example();
        let host = m.locate_native(C, v4("10.1.2.3")).unwrap();
        assert_eq!(m.seen_by(A, host), Some(v4("100.64.4.9")));
        assert_eq!(m.locate_seen_by(A, v4("100.64.4.9")), Some(host));
        let neighbour = m.locate_native(C, v4("10.1.2.4")).unwrap();
        assert_eq!(m.seen_by(A, neighbour), None);
    }

    #[test]
    fn ipv6_is_rebased_when_it_has_a_canonical_prefix() {
        let m = example();
        let host = m.locate_native(A, v4("fd00:1::7")).unwrap();
        assert_eq!(host.canonical.to_string(), "2001:db8:1::7");
        assert_eq!(m.seen_by(B, host), Some(v4("2001:db8:1::7")));
        assert_eq!(m.locate_seen_by(B, v4("2001:db8:1::7")), Some(host));
        assert_eq!(m.native_of(host), v4("fd00:1::7"));
        assert_eq!(m.locate_native(B, v4("fd00:1::7")), None);
    }

    #[test]
    fn a_hidden_network_has_no_alias_for_that_viewer() {
        let mut m = example();
        m.hide([(B, NetworkId(0)), (C, NetworkId(0)), (RealmId(99), NetworkId(0))]);
        let a = m.locate_native(A, v4("192.168.1.10")).unwrap();
        for (viewer, alias) in [(B, "100.64.1.10"), (C, "100.64.9.10")] {
            assert_eq!(m.seen_by(viewer, a), None);
            assert_eq!(m.locate_seen_by(viewer, v4(alias)), None);
        }
        assert_eq!(m.locate_seen_by(A, v4("100.64.1.10")), Some(a));
    }

    #[test]
    fn foreign_addresses_belong_to_no_realm() {
        let m = example();
        assert_eq!(m.locate_native(A, v4("192.168.2.1")), None);
        assert_eq!(m.locate_native(RealmId(99), v4("192.168.1.1")), None);
        assert_eq!(m.locate_canonical("fd69:7867:6174:63::c0a8:101".parse::<Ipv6Addr>().unwrap().into()), None);
    }

    fn network6(realm: RealmId, native: &str, canonical: &str, alias: Option<&str>) -> Network {
        Network {
            realm,
            native: IpNet::V6(native.parse().unwrap()),
            canonical: canonical.parse().unwrap(),
            alias: alias.map(|a| a.parse().unwrap()),
        }
    }

    /// A and B have one IPv6 prefix; A's is seen over IPv4 by 256 addresses of it, B's by one host. C uses that host's
    /// alias itself.
    fn six() -> Mapping {
        let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let networks = vec![
            network6(A, "fd00:1::/64", "2001:db8:a::/64", None),
            network6(A, "fd00:1::5:0/120", "2001:db8:a::5:0/120", Some("100.64.5.0/24")),
            network6(B, "fd00:1::/64", "2001:db8:b::/64", None),
            network6(B, "fd00:1::20/128", "2001:db8:b::20/128", Some("100.64.6.20/32")),
            network(space, C, "100.64.6.0/24", Some("100.64.7.0/24")),
        ];
        let overrides = [AliasOverride { viewer: C, network: NetworkId(3), alias: "100.64.8.9/32".parse().unwrap() }];
        Mapping::new(space, networks, &overrides)
    }

    #[test]
    fn an_ipv6_host_has_an_ipv4_alias_and_its_neighbours_have_none() {
        let m = six();
        let host = m.locate_native(B, v4("fd00:1::20")).unwrap();
        assert_eq!(host.network, NetworkId(3), "nested in its /64");
        assert_eq!(m.locate_canonical(host.canonical), Some(host));
        assert_eq!(m.seen_by(A, host), Some(v4("2001:db8:b::20")), "of its own family");
        assert_eq!(m.seen_by4(A, host), Some("100.64.6.20".parse().unwrap()));
        assert_eq!(m.locate_seen_by(A, v4("100.64.6.20")), Some(host));
        assert_eq!(m.native_of(host), v4("fd00:1::20"));
        assert_eq!(
            (m.seen_by4(C, host), m.locate_seen_by(C, v4("100.64.8.9"))),
            (Some([100, 64, 8, 9].into()), Some(host))
        );
        assert_eq!(m.locate_seen_by(C, v4("100.64.6.20")), None, "C's own address");
        let neighbour = m.locate_native(B, v4("fd00:1::21")).unwrap();
        assert_eq!((neighbour.network, m.seen_by4(A, neighbour)), (NetworkId(2), None));
        assert_eq!(m.locate_canonical(neighbour.canonical), Some(neighbour));
        // The same address in A is another host, without an alias.
        assert_eq!(m.locate_native(A, v4("fd00:1::20")).map(|at| m.seen_by4(B, at)), Some(None));
    }

    #[test]
    fn an_ipv6_prefix_has_an_ipv4_prefix_of_as_many_hosts() {
        let m = six();
        let host = m.locate_native(A, v4("fd00:1::5:77")).unwrap();
        assert_eq!(m.seen_by_like(B, host, v4("0.0.0.0")), Some(v4("100.64.5.119")));
        assert_eq!(m.locate_seen_by(B, v4("100.64.5.119")), Some(host));
        assert_eq!(m.seen_by_like(B, host, v4("::")), Some(v4("2001:db8:a::5:77")));
    }

    #[test]
    fn every_ipv4_host_is_seen_over_ipv6() {
        let m = example();
        let unpublished = m.locate_native(C, v4("10.1.2.4")).unwrap();
        let seen = m.seen_by6(unpublished);
        assert_eq!(seen.to_string(), "fd69:7867:6174:3::a01:204");
        assert_eq!(m.locate_seen_by(A, seen.into()), Some(unpublished));
        assert_eq!(m.seen_by4(A, unpublished), None);
    }

    proptest! {
        /// Explicit mappings of any size, next to one another and in realms that share the native prefix.
        #[test]
        fn there_and_back_for_every_alias_of_every_size(
            host_bits in prop::collection::vec(0u8..=16, 1..12),
            six: Vec<bool>,
            host: u32,
            own_alias in any::<prop::sample::Index>(),
        ) {
            let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
            let viewer = RealmId(100);
            let mut networks = Vec::new();
            for (i, bits) in (0..).zip(&host_bits) {
                let alias = Ipv4Net::new_assert(Ipv4Addr::from_bits(0x6440_0000 + (i << 16)), 32 - bits);
                let realm = RealmId(i as u16 + 1);
                networks.push(if six.get(i as usize) == Some(&true) {
                    let net = |at: u128| Ipv6Net::new_assert(Ipv6Addr::from_bits(at), 128 - bits);
                    let canonical = net(0x2001_0db8 << 96 | u128::from(i) << 64);
                    Network { realm, native: IpNet::V6(net(0xfd00 << 112)), canonical, alias: Some(alias) }
                } else {
                    network(space, realm, &format!("10.0.0.0/{}", 32 - bits), Some(&alias.to_string()))
                });
            }
            let other = own_alias.index(networks.len());
            let overrides = [AliasOverride {
                viewer,
                network: NetworkId(other as u32),
                alias: Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 32 - host_bits[other]),
            }];
            let m = Mapping::new(space, networks.clone(), &overrides);
            for network in &networks {
                let host_part = u128::from(host) & network.canonical.hostmask().to_bits();
                let native = match network.native {
                    IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() | host_part as u32)),
                    IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | host_part)),
                };
                let at = m.locate_native(network.realm, native).unwrap();
                prop_assert_eq!(at.realm, network.realm);
                prop_assert_eq!(m.native_of(at), native);
                prop_assert_eq!(m.locate_canonical(m.seen_by6(at).into()), Some(at));
                for viewer in [viewer, RealmId::IX] {
                    let seen = m.seen_by4(viewer, at).unwrap();
                    prop_assert_eq!(m.locate_alias(viewer, seen), Some(at));
                    prop_assert_eq!(u128::from(seen.to_bits()) & network.canonical.hostmask().to_bits(), host_part);
                }
            }
        }
    }
}
