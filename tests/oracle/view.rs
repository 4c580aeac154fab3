//! Who sees whom under which address, straight from the configuration: linear searches over its lists, and additions. Of the
//! product it takes what is recorded for ever: the realms' numbers and the aliases that were given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use ixgate::control::Allocations;

use super::world::{Alias, CANONICAL, POOL, SPACE6, Span, World, address, number};

/// Who an address means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Who {
    /// A host by its address on its own realm's wires.
    Host(Host),
    /// The IX itself, by the last number of its address.
    Ix(u8),
    /// An address of a realm's pool.
    Pool(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Host {
    pub realm: usize,
    pub addr: IpAddr,
}

/// One alias: `native` of `owner` is seen from `first` on.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// `None`: everybody who has none of his own.
    viewer: Option<usize>,
    /// `None`: the IX.
    owner: Option<usize>,
    native: Span,
    first: u128,
}

impl Seen {
    fn span(&self) -> Span {
        Span { is_v6: false, first: self.first, last: self.first + self.native.size() }
    }
}

pub struct View<'a> {
    pub world: &'a World,
    /// The realms' numbers, which are in canonical addresses.
    ids: Vec<u128>,
    aliases: Vec<Seen>,
}

impl<'a> View<'a> {
    pub fn new(world: &'a World, allocations: &Allocations) -> Self {
        let id = |name: &str| u128::from(allocations.realm_id(name).expect("a number").0);
        let ids: Vec<u128> = world.realms.iter().map(|realm| id(&realm.name)).collect();
        let realm_of = |id: u16| ids.iter().position(|known| *known == u128::from(id));
        let mut aliases = Vec::new();
        for (alias, record) in &allocations.aliases {
            let holder = record.holder;
            let (native, shown) = (span_of(holder.native), span_of((*alias).into()));
            assert_eq!(native.size(), shown.size(), "{alias} is given to {native:?}");
            let owner = realm_of(holder.owner.0);
            let is_pool = owner.is_some_and(|owner| {
                world.realms[owner].pool.as_ref().is_some_and(|pool| pool.span == native)
                    && world.network(owner, native.nth(0)).is_none()
            });
            if !is_pool {
                let viewer = holder.viewer.map(|viewer| realm_of(viewer.0).expect("a viewer of this world"));
                aliases.push(Seen { viewer, owner, native, first: shown.first });
            }
        }
        let view = View { world, ids, aliases };
        view.check();
        view
    }

    /// What was given is what was asked for: pins are obeyed, nothing overlaps anything that the same viewer sees
    /// or has, and everything has an alias that is to have one.
    fn check(&self) {
        for (place, seen) in self.aliases.iter().enumerate() {
            let clash = self.aliases[..place].iter().find(|other| other.span().overlaps(&seen.span()));
            assert!(clash.is_none(), "{seen:?} and {clash:?} overlap");
            if let Some(viewer) = seen.viewer {
                let own = self.world.realms[viewer].networks.iter().find(|own| own.span.overlaps(&seen.span()));
                assert!(own.is_none(), "{seen:?} lies in the viewer's own {own:?}");
            }
            let pinned = seen.owner.filter(|_| seen.viewer.is_none()).and_then(|owner| {
                let network = self.world.network(owner, seen.native.nth(0))?;
                let Alias::Pinned(first, _) = network.alias else { return None };
                Some(first + (seen.native.first - network.span.first))
            });
            match pinned {
                Some(first) => assert_eq!(first, seen.first, "{seen:?} is pinned elsewhere"),
                None => {
                    assert!(POOL.contains(seen.span().nth(0)) && POOL.contains(seen.span().nth(seen.native.size())))
                }
            }
        }
        for viewer in 0..self.world.realms.len() {
            for seen in self.aliases.iter().filter(|seen| seen.viewer.is_none() && seen.owner != Some(viewer)) {
                let hides = self.world.realms[viewer].networks.iter().any(|own| own.span.overlaps(&seen.span()));
                assert!(!hides || self.own_alias(viewer, seen).is_some(), "{viewer} cannot see {seen:?}");
            }
        }
        for realm in 0..self.world.realms.len() {
            for network in &self.world.realms[realm].networks {
                for place in [0, network.span.size()] {
                    let host = Host { realm, addr: network.span.nth(place) };
                    assert_eq!(self.alias_of_host(host).is_some(), self.is_to_have_alias(host), "{host:?}");
                }
            }
        }
        for host in &self.world.hosts {
            for addr in host.addresses.iter().filter(|addr| self.world.network(host.realm, **addr).is_some()) {
                let host = Host { realm: host.realm, addr: *addr };
                assert_eq!(self.alias_of_host(host).is_some(), self.is_to_have_alias(host), "{host:?}");
            }
        }
    }

    /// By the table of docs/operators.md, "Addresses" and "Seen by a few addresses".
    fn is_to_have_alias(&self, host: Host) -> bool {
        let network = self.world.network(host.realm, host.addr).expect("a network");
        let pool = self.world.realms[host.realm].pool.as_ref();
        match (&network.alias, host.addr) {
            (Alias::Pinned(..), _) | (Alias::Auto, IpAddr::V6(_)) => true,
            (Alias::Unsaid | Alias::Auto, IpAddr::V4(_)) if pool.is_none_or(|pool| pool.viewers.is_some()) => true,
            // Its named hosts: an IPv6 address only where the host has no IPv4 one, and none that a forward leads to.
            _ => {
                let named = self.world.hosts.iter().find(|h| h.realm == host.realm && h.addresses.contains(&host.addr));
                let is_needed =
                    named.is_some_and(|named| host.addr.is_ipv4() || named.addresses.iter().all(IpAddr::is_ipv6));
                is_needed && !pool.is_some_and(|pool| pool.forwards.iter().any(|forward| forward.to.0 == host.addr))
            }
        }
    }

    fn alias_of_host(&self, host: Host) -> Option<&Seen> {
        self.aliases
            .iter()
            .find(|seen| seen.viewer.is_none() && seen.owner == Some(host.realm) && seen.native.contains(host.addr))
    }

    /// That `viewer` has of what everybody else sees as `seen`.
    fn own_alias(&self, viewer: usize, seen: &Seen) -> Option<&Seen> {
        self.aliases
            .iter()
            .find(|own| own.viewer == Some(viewer) && own.owner == seen.owner && own.native == seen.native)
    }

    /// The aliases that `viewer` sees something under.
    fn aliases_of(&self, viewer: usize) -> impl Iterator<Item = &Seen> {
        self.aliases.iter().filter(move |seen| match seen.viewer {
            Some(other) => other == viewer,
            None => self.own_alias(viewer, seen).is_none(),
        })
    }

    /// `for = [...]`: these, and the realm itself, see the pool and no alias of the realm's IPv4 networks.
    fn is_hidden(&self, viewer: usize, seen: &Seen) -> bool {
        let Some(owner) = seen.owner.filter(|_| !seen.native.is_v6) else { return false };
        let viewers = self.world.realms[owner].pool.as_ref().and_then(|pool| pool.viewers.as_ref());
        viewers.is_some_and(|viewers| viewer == owner || viewers.contains(&viewer))
    }

    /// Whether `viewer` sees by a pool those hosts of `owner` that have no alias for it.
    pub fn is_shown_by_pool(&self, viewer: usize, owner: usize) -> bool {
        self.world.realms[owner].pool.as_ref().is_some_and(|pool| {
            pool.viewers.as_ref().is_none_or(|viewers| viewer == owner || viewers.contains(&viewer))
        })
    }

    /// The host of `realm` that has this address on its own wires.
    pub fn own(&self, realm: usize, addr: IpAddr) -> Option<Host> {
        let is_own = self.world.network(realm, addr).is_some();
        let by_default = self.world.default == Some(realm) && self.is_nobodys(addr);
        (is_own || by_default).then_some(Host { realm, addr })
    }

    pub fn is_by_default(&self, host: Host) -> bool {
        self.world.network(host.realm, host.addr).is_none()
    }

    /// Whom a host of `viewer` means by a destination.
    pub fn meant(&self, viewer: usize, addr: IpAddr) -> Option<Who> {
        match addr {
            IpAddr::V4(_) => self.meant4(viewer, addr),
            IpAddr::V6(addr) => self.meant6(addr),
        }
    }

    fn meant4(&self, viewer: usize, addr: IpAddr) -> Option<Who> {
        if let Some(seen) = self.aliases_of(viewer).find(|seen| seen.span().contains(addr)) {
            let native = seen.native.nth(number(addr) - seen.first);
            return match seen.owner {
                None => Some(Who::Ix(number(native) as u8)),
                Some(_) if self.is_hidden(viewer, seen) => None,
                Some(realm) => Some(Who::Host(Host { realm, addr: native })),
            };
        }
        let pool_at = |realm: &usize| self.world.realms[*realm].pool.as_ref().is_some_and(|p| p.span.contains(addr));
        if let Some(owner) = (0..self.world.realms.len()).find(pool_at) {
            return self.is_shown_by_pool(viewer, owner).then_some(Who::Pool(owner));
        }
        let default = self.world.default.filter(|default| *default != viewer)?;
        let is_theirs = self.world.network(viewer, addr).is_none() && self.is_nobodys(addr);
        is_theirs.then_some(Who::Host(Host { realm: default, addr }))
    }

    /// By canonical addresses, which mean the same to all.
    fn meant6(&self, addr: Ipv6Addr) -> Option<Who> {
        let bits = addr.to_bits();
        if bits >> 80 == SPACE6 >> 80 {
            let (id, zeros, low) = (bits >> 64 & 0xffff, bits >> 32 & 0xffff_ffff, bits as u32);
            if zeros != 0 {
                return None;
            }
            if id == 0 {
                return (low < 256).then_some(Who::Ix(low as u8));
            }
            let realm = self.ids.iter().position(|known| *known == id)?;
            return self.own(realm, Ipv4Addr::from_bits(low).into()).map(Who::Host);
        }
        for (realm, of) in self.world.realms.iter().enumerate() {
            for network in of.networks.iter().filter(|network| network.span.is_v6) {
                let first = network.canonical.as_ref().map_or(network.span.first, |(first, _)| *first);
                if first <= bits && bits - first <= network.span.size() {
                    return Some(Who::Host(Host { realm, addr: network.span.nth(bits - first) }));
                }
            }
        }
        let default = self.world.default?;
        self.is_nobodys(addr.into()).then_some(Who::Host(Host { realm: default, addr: addr.into() }))
    }

    /// How `viewer` sees a host in an IP version; over IPv4 maybe under no address of its own.
    pub fn seen(&self, viewer: usize, host: Host, is_v6: bool) -> Option<IpAddr> {
        if is_v6 {
            return Some(Ipv6Addr::from_bits(self.canonical(host)).into());
        }
        if self.is_by_default(host) && host.addr.is_ipv4() {
            // To the realm itself it is nobody: its hosts reach one another without the IX.
            let is_other = self.world.network(viewer, host.addr).is_some() || viewer == host.realm;
            return (!is_other).then_some(host.addr);
        }
        let is_it = |seen: &&Seen| seen.owner == Some(host.realm) && seen.native.contains(host.addr);
        let seen = self.aliases_of(viewer).find(is_it).filter(|seen| !self.is_hidden(viewer, seen))?;
        Some(address(false, seen.first + (number(host.addr) - seen.native.first)))
    }

    /// How `viewer` sees the IX's address that ends in `last`.
    pub fn ix(&self, viewer: usize, last: u8, is_v6: bool) -> IpAddr {
        if is_v6 {
            return Ipv6Addr::from_bits(SPACE6 | u128::from(last)).into();
        }
        let seen = self.aliases_of(viewer).find(|seen| seen.owner.is_none()).expect("an alias of the IX");
        address(false, seen.first + u128::from(last))
    }

    fn canonical(&self, host: Host) -> u128 {
        match host.addr {
            IpAddr::V4(addr) => SPACE6 | self.ids[host.realm] << 64 | u128::from(addr.to_bits()),
            IpAddr::V6(addr) => match self.world.network(host.realm, host.addr) {
                Some(network) => {
                    let first = network.canonical.as_ref().map_or(network.span.first, |(first, _)| *first);
                    first + (addr.to_bits() - network.span.first)
                }
                None => addr.to_bits(),
            },
        }
    }

    /// No special-purpose address (RFC 6890), no alias or address that aliases are given from, no pool, no canonical address, in
    /// no network that the default realm names beside `default`; IPv6: no realm's own.
    pub fn is_nobodys(&self, addr: IpAddr) -> bool {
        const SPECIAL: [&str; 17] = [
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/3",
            "::/3",
            "2001::/32",
            "2001:2::/48",
            "2001:10::/28",
            "2002::/16",
            "4000::/2",
            "8000::/1",
        ];
        let mut taken: Vec<Span> = SPECIAL.iter().map(|text| Span::of(text)).collect();
        taken.push(CANONICAL);
        taken.extend(self.aliases.iter().filter(|seen| seen.viewer.is_none()).map(Seen::span));
        for (number, realm) in self.world.realms.iter().enumerate() {
            taken.extend(realm.pool.as_ref().map(|pool| pool.span));
            let named = realm.networks.iter().filter(|_| self.world.default == Some(number));
            taken.extend(named.map(|network| network.span));
            for network in realm.networks.iter().filter(|network| network.span.is_v6) {
                taken.push(network.span);
                let canonical = network.canonical.as_ref().map(|(first, _)| *first);
                taken.extend(canonical.map(|first| Span { is_v6: true, first, last: first + network.span.size() }));
            }
        }
        !taken.iter().any(|span| span.contains(addr))
    }
}

fn span_of(net: IpNet) -> Span {
    Span { is_v6: net.addr().is_ipv6(), first: number(net.network()), last: number(net.broadcast()) }
}
