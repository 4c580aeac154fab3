//! Which neighbour is the way to a destination.
//!
//! The most specific of the link's own prefixes and the configured routes decides; a route whose hop is dead is as good as none, and the
//! next less specific one takes its place. What no route covers goes to a gateway: the first that is alive, in the order of the
//! configuration, then routers that announced themselves. Networks without a gateway of their IP version are on the link.
//!
//! One binary search a packet (13 comparisons for 4,096 routes), and one step for each dead route around the one that was found.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::config::{EthernetConfig, MAX_GATEWAYS, MAX_ROUTES};
use crate::net::range_map::RangeMap;
use crate::net::{IpVersion, PerVersion};

#[cfg(test)]
mod tests;

/// Of one port. Nobody is alive until [`NextHops::set_alive`] says so.
#[derive(Debug)]
pub struct NextHops {
    ways: Vec<Way>,
    v4: RangeMap<u32, u16>,
    v6: RangeMap<u128, u16>,
    /// Behind no route and no gateway: on the link.
    on_link_v4: RangeMap<u32, ()>,
    on_link_v6: RangeMap<u128, ()>,
    /// Gateways in order of preference, then the hops of routes.
    watched: Vec<IpAddr>,
    is_alive: Vec<bool>,
    gateways: usize,
    /// Places in `watched`, by address.
    places: Vec<(IpAddr, u16)>,
    /// Of `watched`: a route leads there.
    has_routes: Vec<bool>,
    routers: Vec<IpAddr>,
    versions: PerVersion<Version>,
}

/// What an IP version needs, and what it has.
#[derive(Clone, Copy, Default, Debug)]
struct Version {
    /// The port has an address of it, and the realm networks of it (or none at all).
    is_served: bool,
    has_gateways: bool,
    /// Routers may announce themselves: without gateways, one has to.
    awaits_routers: bool,
    has_networks_without_route: bool,
    /// Of `watched`.
    hops: usize,
    alive: usize,
    /// Where everything goes that no route is for.
    default: Option<IpAddr>,
}

/// What a prefix says.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Into `watched`; `None`: on the link.
    via: Option<u16>,
    /// The next less specific way, or the next one for the same prefix, in `ways`.
    outer: Option<u16>,
}

impl NextHops {
    pub fn new(config: &EthernetConfig) -> Self {
        let gateways = &config.gateways[..config.gateways.len().min(MAX_GATEWAYS)];
        let routes = &config.routes[..config.routes.len().min(MAX_ROUTES)];
        let watched = each_once(gateways.iter().copied().chain(routes.iter().map(|route| route.via)));
        let mut places: Vec<(IpAddr, u16)> = watched.iter().copied().zip(0..).collect();
        places.sort_unstable();
        let place =
            |hop: IpAddr| places.binary_search_by_key(&hop, |(address, _)| *address).ok().map(|at| places[at].1);
        let mut has_routes = vec![false; watched.len()];
        routes.iter().filter_map(|route| place(route.via)).for_each(|place| has_routes[usize::from(place)] = true);
        let links = link_prefixes(&config.addresses).map(|prefix| (prefix, None));
        let vias = routes.iter().map(|route| (route.prefix.trunc(), place(route.via)));
        let (ways, v4, v6) = compile(links.chain(vias).collect());
        let on_link = networks_on_link(config, gateways);
        let covered = Covered::by(routes.iter().map(|route| route.prefix.trunc()).collect());
        let versions = PerVersion::from_fn(|version| Version::new(version, config, gateways, &covered, &watched));
        let (on_link_v4, on_link_v6) = split(on_link.into_iter().map(|network| (network, ())));
        NextHops {
            ways,
            v4,
            v6,
            on_link_v4: RangeMap::new(on_link_v4),
            on_link_v6: RangeMap::new(on_link_v6),
            is_alive: vec![false; watched.len()],
            gateways: watched.iter().take_while(|hop| gateways.contains(hop)).count(),
            watched,
            places,
            has_routes,
            routers: Vec::new(),
            versions,
        }
    }

    /// The neighbour that `destination` is to be handed to; on the link it is the destination itself. `None`: there is no way now.
    #[inline]
    pub fn of(&self, destination: IpAddr) -> Option<IpAddr> {
        let found = match destination {
            IpAddr::V4(address) => self.v4.lookup(address.to_bits()),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        };
        let mut at = found;
        while let Some(way) = at.map(|at| self.ways[usize::from(at)]) {
            match way.via {
                None => return Some(destination),
                Some(hop) if self.is_alive[usize::from(hop)] => return Some(self.watched[usize::from(hop)]),
                Some(_) => at = way.outer,
            }
        }
        let is_on_link = match destination {
            IpAddr::V4(address) => self.on_link_v4.lookup(address.to_bits()).is_some(),
            IpAddr::V6(address) => self.on_link_v6.lookup(address.to_bits()).is_some(),
        };
        let default = self.versions[IpVersion::of(destination)].default;
        default.or((found.is_none() && is_on_link).then_some(destination))
    }

    /// Gateways and the hops of routes, each once, the gateways first.
    pub fn watched(&self) -> &[IpAddr] {
        &self.watched
    }

    pub fn is_watched(&self, hop: IpAddr) -> bool {
        self.places.binary_search_by_key(&hop, |(address, _)| *address).is_ok()
    }

    /// Whether that changed anything.
    pub fn set_alive(&mut self, hop: IpAddr, is_alive: bool) -> bool {
        let Ok(at) = self.places.binary_search_by_key(&hop, |(address, _)| *address) else { return false };
        let place = usize::from(self.places[at].1);
        if self.is_alive[place] == is_alive {
            return false;
        }
        self.is_alive[place] = is_alive;
        let alive = &mut self.versions[IpVersion::of(hop)].alive;
        *alive = if is_alive { *alive + 1 } else { *alive - 1 };
        self.choose_defaults();
        true
    }

    /// Those that announced themselves and are alive, the best first. They are behind the configured gateways; one that is itself a gateway counts as
    /// that alone.
    pub fn set_routers(&mut self, routers: &[Ipv6Addr]) {
        let routers = routers.iter().map(|router| IpAddr::V6(*router));
        self.routers = routers.filter(|router| !self.watched[..self.gateways].contains(router)).collect();
        self.choose_defaults();
    }

    /// Whether the port is for packets of that IP version at all.
    pub fn serves(&self, version: IpVersion) -> bool {
        self.versions[version].is_served
    }

    /// Packets of that IP version can leave: it has no gateways, or at least one is alive. Where there are none, and all networks are
    /// behind routes, one of the routes' hops has to be.
    pub fn is_up(&self, version: IpVersion) -> bool {
        let has = &self.versions[version];
        let is_routed = !has.has_networks_without_route && has.alive > 0;
        let is_on_link = !has.awaits_routers && (has.has_networks_without_route || has.hops == 0);
        has.default.is_some() || !has.has_gateways && (is_routed || is_on_link)
    }

    /// Packets go there now.
    pub fn is_used(&self, hop: IpAddr) -> bool {
        if self.versions[IpVersion::of(hop)].default == Some(hop) {
            return true;
        }
        let Ok(at) = self.places.binary_search_by_key(&hop, |(address, _)| *address) else { return false };
        let place = usize::from(self.places[at].1);
        self.is_alive[place] && self.has_routes[place]
    }

    fn choose_defaults(&mut self) {
        let alive = self.watched[..self.gateways].iter().zip(&self.is_alive).filter(|(_, is_alive)| **is_alive);
        let all: Vec<IpAddr> = alive.map(|(hop, _)| *hop).chain(self.routers.iter().copied()).collect();
        for version in IpVersion::ALL {
            self.versions[version].default = all.iter().copied().find(|hop| IpVersion::of(*hop) == version);
        }
    }
}

impl Version {
    fn new(
        version: IpVersion,
        config: &EthernetConfig,
        gateways: &[IpAddr],
        covered: &Covered,
        watched: &[IpAddr],
    ) -> Self {
        let is_of_it = |address: IpAddr| IpVersion::of(address) == version;
        let mut networks = config.networks.iter().filter(|network| is_of_it(network.addr())).peekable();
        let is_wanted = networks.peek().is_some() || config.networks.is_empty();
        Version {
            is_served: is_wanted && config.addresses.iter().any(|own| is_of_it(own.addr())),
            has_gateways: gateways.iter().any(|hop| is_of_it(*hop)),
            awaits_routers: config.accept_ra && version == IpVersion::V6,
            has_networks_without_route: networks.any(|network| !covered.contains(network)),
            hops: watched.iter().filter(|hop| is_of_it(**hop)).count(),
            alive: 0,
            default: None,
        }
    }
}

fn each_once(hops: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    hops.filter(|hop| seen.insert(*hop)).collect()
}

/// What prefixes cover: those that lie in no other, in order. Made by one sort, asked by a binary search, so that many networks behind
/// many routes are no product of both.
#[derive(Debug)]
pub(super) struct Covered {
    outermost: Vec<IpNet>,
}

impl Covered {
    pub fn by(mut prefixes: Vec<IpNet>) -> Self {
        // Outer before inner, as for `compile`: what lies in an earlier one lies in the last that was kept.
        prefixes.sort_unstable_by_key(|prefix| (prefix.network(), prefix.prefix_len()));
        let mut outermost: Vec<IpNet> = Vec::new();
        for prefix in prefixes {
            if !outermost.last().is_some_and(|outer| outer.contains(&prefix)) {
                outermost.push(prefix);
            }
        }
        Covered { outermost }
    }

    /// In one of the prefixes, whole.
    pub fn contains(&self, network: &IpNet) -> bool {
        let after = self.outermost.partition_point(|outer| outer.network() <= network.network());
        after.checked_sub(1).is_some_and(|at| self.outermost[at].contains(network))
    }

    /// Whether there is any IPv6 prefix: these stand last.
    pub fn has_v6(&self) -> bool {
        self.outermost.last().is_some_and(|last| last.addr().is_ipv6())
    }
}

/// The prefixes of our own addresses, and link-local ones, which every link has.
fn link_prefixes(addresses: &[IpNet]) -> impl Iterator<Item = IpNet> {
    let link_local = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    addresses.iter().map(IpNet::trunc).chain([IpNet::V6(link_local)])
}

/// Networks that no gateway of their IP version is there for, and that none will announce itself for.
fn networks_on_link(config: &EthernetConfig, gateways: &[IpAddr]) -> Vec<IpNet> {
    let has_gateway = |is_v6: bool| is_v6 && config.accept_ra || gateways.iter().any(|hop| hop.is_ipv6() == is_v6);
    let is_on_link = |network: &&IpNet| !has_gateway(matches!(network, IpNet::V6(_)));
    config.networks.iter().filter(is_on_link).map(IpNet::trunc).collect()
}

/// Of equal prefixes the first is preferred.
fn compile(mut prefixes: Vec<(IpNet, Option<u16>)>) -> (Vec<Way>, RangeMap<u32, u16>, RangeMap<u128, u16>) {
    // Outer before inner; the sort is stable, so of equal ones the preferred becomes the innermost.
    prefixes.reverse();
    prefixes.sort_by_key(|(prefix, _)| (prefix.network(), prefix.prefix_len()));
    let mut ways: Vec<Way> = Vec::with_capacity(prefixes.len());
    let mut around: Vec<usize> = Vec::new();
    for (at, (prefix, via)) in prefixes.iter().enumerate() {
        while around.pop_if(|outer| !prefixes[*outer].0.contains(prefix)).is_some() {}
        ways.push(Way { via: *via, outer: around.last().map(|outer| *outer as u16) });
        around.push(at);
    }
    let (v4, v6) = split(prefixes.iter().zip(0..).map(|((prefix, _), at)| (*prefix, at)));
    (ways, RangeMap::new(v4), RangeMap::new(v6))
}

type Ranges<K, V> = Vec<(K, K, V)>;

/// First and last addresses, by IP version.
fn split<V>(prefixes: impl Iterator<Item = (IpNet, V)>) -> (Ranges<u32, V>, Ranges<u128, V>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (prefix, value) in prefixes {
        match prefix {
            IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits(), value)),
            IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits(), value)),
        }
    }
    (v4, v6)
}
