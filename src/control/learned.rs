//! What realms' routing daemons have learned, joined with the file: the configuration that is in force.
//!
//! A daemon's word is worth less than the file's, and less than any rule that `check` knows. A prefix that would break one is
//! refused by itself, with its reason; everything else goes on. Of prefixes inside one another the widest is a network of the
//! realm, and the others say only where on a port's link their part is. No realm's daemon takes anything from another realm:
//! IPv6 networks, which everybody sees as they are, lie in prefixes that the file gives to one realm, and IPv4 networks are
//! seen under aliases, of which each realm's have a `share`.
//!
//! Aliases are given as for any network, so they are permanent: one that is withdrawn keeps its alias reserved, and is back
//! under it when it is announced again.

mod refusal;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::allocate::{AllocateError, without_alias};
use super::allocations::Allocations;
use crate::config::model::{AliasMode, Config, Network, Peer, PortPeer, PortRoute, Realm, RealmRef};
use crate::link::config::MAX_ROUTES;
use crate::net::{LearnedRoute, Timestamp};
pub use refusal::Refusal;
use refusal::Rules;
pub use share::max_alias_addresses;
use share::{Share, Shares};

/// Next hops on one link that a daemon may name; each is watched.
pub const MAX_LEARNED_HOPS: usize = 16;
/// Refusals may free what others were refused for; how often that is looked at again.
const ROUNDS: usize = 8;

/// By realm's name: what its daemon says.
pub type Heard = BTreeMap<String, HeardRealm>;

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeardRealm {
    pub routes: Vec<LearnedRoute>,
    /// Prefixes that are there beyond what was agreed.
    pub overflow: u64,
    /// How often something has changed since the start.
    pub changes: u64,
    /// Further changes are not taken sooner.
    pub held_until: Option<Timestamp>,
    /// Why nothing can be heard, if so.
    pub trouble: Option<String>,
}

/// What became of one realm's routes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnedRealm {
    pub realm: RealmRef,
    pub accepted: Vec<Accepted>,
    pub refused: Vec<Refused>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    pub route: LearnedRoute,
    /// It is part of a wider network. `None`: it is a network of the realm.
    pub within: Option<IpNet>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    pub route: LearnedRoute,
    pub why: Refusal,
}

/// The configuration in force, and what became of every route of every realm that has a daemon.
pub fn join(file: &Config, state: &Allocations, heard: &Heard) -> Result<(Config, Vec<LearnedRealm>), AllocateError> {
    let shares = Shares::new(file, state);
    let mut refused = BTreeMap::new();
    let mut unsettled = BTreeSet::new();
    for _ in 0..ROUNDS {
        let (config, learned) = join_once(file, heard, &shares, &refused);
        let without = exhausted(&config, state, &learned)?;
        if without.is_empty() {
            return Ok((config, learned));
        }
        unsettled = without.iter().map(|(realm, _)| *realm).collect();
        refused.extend(without.into_iter().map(|network| (network, Refusal::NoAliasLeft)));
    }
    // Of these realms alone, what has no alias yet is refused without another look.
    for realm in unsettled {
        let share = shares.of(realm);
        let routes = heard.get(&file.realms[realm.0].name).into_iter().flat_map(|heard| &heard.routes);
        for prefix in routes.map(|route| route.prefix).filter(|prefix| !share.is_recorded(*prefix)) {
            refused.entry((realm, prefix)).or_insert(Refusal::Unsettled);
        }
    }
    Ok(join_once(file, heard, &shares, &refused))
}

fn networks_of(realm: &LearnedRealm) -> impl Iterator<Item = IpNet> {
    realm.accepted.iter().filter(|one| one.within.is_none()).map(|one| one.route.prefix)
}

type RefusedNets = BTreeMap<(RealmRef, IpNet), Refusal>;

fn join_once(file: &Config, heard: &Heard, shares: &Shares, refused: &RefusedNets) -> (Config, Vec<LearnedRealm>) {
    let mut config = file.clone();
    let rules = Rules::new(file);
    let mut all = Vec::new();
    for (index, realm) in config.realms.iter_mut().enumerate() {
        let Some(from) = realm.routes_from.clone() else { continue };
        let reference = RealmRef(index);
        let nothing = HeardRealm::default();
        let routes = &heard.get(&realm.name).unwrap_or(&nothing).routes;
        let mut joined = Joined::new(reference, realm, shares.of(reference));
        let mut routes: Vec<&LearnedRoute> = routes.iter().take(from.max_prefixes).collect();
        routes.sort_by_key(|route| (route.prefix.prefix_len(), route.prefix));
        for route in routes {
            let before = refused.get(&(reference, route.prefix)).cloned();
            let why = before.or_else(|| rules.refuse(reference, route.prefix));
            joined.take(route, why);
        }
        all.push(joined.finish(realm));
    }
    (config, all)
}

/// One realm in the making.
struct Joined {
    /// Of the file, and of daemons.
    networks: HashSet<IpNet>,
    of_file: BTreeSet<IpNet>,
    ways: Ways,
    share: Share,
    is_shown_by_pool: bool,
    learned: LearnedRealm,
}

impl Joined {
    fn new(reference: RealmRef, realm: &Realm, share: Share) -> Self {
        let of_file: BTreeSet<IpNet> = realm.networks.iter().map(|network| network.native.trunc()).collect();
        Joined {
            networks: of_file.iter().copied().collect(),
            of_file,
            ways: Ways::new(realm),
            share,
            is_shown_by_pool: realm.napt.as_ref().is_some_and(|napt| napt.viewers.is_none()),
            learned: LearnedRealm { realm: reference, accepted: Vec::new(), refused: Vec::new() },
        }
    }

    /// The widest come first.
    fn take(&mut self, route: &LearnedRoute, why: Option<Refusal>) {
        let route = route.clone();
        let within = self.covering(route.prefix);
        let why = why.or_else(|| match within {
            Some(_) => None,
            None => self.refuse_network(route.prefix),
        });
        let why = why.or_else(|| self.ways.add(&route).err());
        match why {
            Some(why) => self.learned.refused.push(Refused { route, why }),
            None => {
                if within.is_none() {
                    self.networks.insert(route.prefix);
                    self.charge(route.prefix);
                }
                self.learned.accepted.push(Accepted { route, within });
            }
        }
    }

    fn refuse_network(&self, prefix: IpNet) -> Option<Refusal> {
        let inside = self.inside(prefix).map(Refusal::HoldsNetwork);
        inside.or_else(|| if self.needs_alias(prefix) { self.share.check(prefix).err() } else { None })
    }

    fn charge(&mut self, prefix: IpNet) {
        if self.needs_alias(prefix) {
            self.share.charge(prefix);
        }
    }

    fn needs_alias(&self, native: IpNet) -> bool {
        self.alias_mode(native) == AliasMode::Auto
    }

    fn alias_mode(&self, native: IpNet) -> AliasMode {
        match AliasMode::default_of(native) {
            AliasMode::Auto if self.is_shown_by_pool => AliasMode::HostsOnly,
            mode => mode,
        }
    }

    /// The network that it is a part of, or the same as.
    fn covering(&self, prefix: IpNet) -> Option<IpNet> {
        let wider = std::iter::successors(Some(prefix), |net| net.supernet());
        wider.into_iter().find(|net| self.networks.contains(net))
    }

    /// A network of the file that is a part of it.
    fn inside(&self, prefix: IpNet) -> Option<IpNet> {
        // Networks of the file are disjoint: the first one from here on is inside, or none is.
        self.of_file.range(IpNet::new(prefix.network(), 0).ok()?..).next().copied().filter(|net| prefix.contains(net))
    }

    fn finish(mut self, realm: &mut Realm) -> LearnedRealm {
        let networks = networks_of(&self.learned).map(|native| Network {
            native,
            alias: self.alias_mode(native),
            canonical: None,
        });
        realm.networks.extend(networks.collect::<Vec<_>>());
        self.ways.finish(realm);
        self.learned.accepted.sort_by_key(|one| one.route.prefix);
        self.learned.refused.sort_by_key(|one| one.route.prefix);
        self.learned
    }
}

/// Where on the links of a realm's ports its prefixes are.
struct Ways {
    /// By attachment.
    ports: Vec<Option<PortWays>>,
    has_tunnels: bool,
}

struct PortWays {
    port: PortPeer,
    hops: BTreeSet<IpAddr>,
    routes: Vec<PortRoute>,
}

impl Ways {
    fn new(realm: &Realm) -> Self {
        let ports = realm.attachments.iter().map(|attachment| match &attachment.peer {
            Peer::Port(port) => Some(PortWays { port: (**port).clone(), hops: BTreeSet::new(), routes: Vec::new() }),
            _ => None,
        });
        let ports: Vec<_> = ports.collect();
        Ways { has_tunnels: ports.iter().any(Option::is_none), ports }
    }

    /// All of its next hops, or none.
    fn add(&mut self, route: &LearnedRoute) -> Result<(), Refusal> {
        let mut is_reached = self.has_tunnels || route.via.is_empty();
        let mut added: Vec<Vec<IpAddr>> = Vec::with_capacity(self.ports.len());
        for ways in &self.ports {
            let hops = ways.as_ref().map_or(Ok(Vec::new()), |ways| ways.hops_of(route))?;
            is_reached |= !hops.is_empty();
            added.push(hops);
        }
        if let (false, Some(via)) = (is_reached, route.via.first()) {
            return Err(Refusal::HopNotOnLink(*via));
        }
        for (ways, hops) in self.ports.iter_mut().zip(added) {
            let Some(ways) = ways else { continue };
            ways.routes.extend(hops.iter().map(|via| PortRoute { prefix: route.prefix, via: *via }));
            ways.hops.extend(hops);
        }
        Ok(())
    }

    /// Where everything goes to the port's own gateway, that is known without.
    fn finish(self, realm: &mut Realm) {
        for (attachment, ways) in realm.attachments.iter_mut().zip(self.ports) {
            let (Peer::Port(port), Some(ways)) = (&mut attachment.peer, ways) else { continue };
            for is_ipv4 in [true, false] {
                let gateway = port.gateways.iter().find(|gateway| gateway.is_ipv4() == is_ipv4).copied();
                let routes = || ways.routes.iter().filter(|route| route.prefix.addr().is_ipv4() == is_ipv4);
                if routes().any(|route| Some(route.via) != gateway) {
                    port.routes.extend(routes().copied());
                }
            }
        }
    }
}

impl PortWays {
    /// The route's next hops that are on this port's link, if there is room for all of them.
    fn hops_of(&self, route: &LearnedRoute) -> Result<Vec<IpAddr>, Refusal> {
        let is_ours = |via: &IpAddr| self.port.addresses.iter().any(|net| net.addr() == *via);
        let is_of_family = |via: &IpAddr| via.is_ipv4() == route.prefix.addr().is_ipv4();
        let hops = route.via.iter().filter(|via| !is_ours(via) && is_on_link(&self.port, **via) && is_of_family(via));
        let hops: Vec<IpAddr> = hops.copied().collect();
        let new: BTreeSet<&IpAddr> = hops.iter().filter(|via| !self.hops.contains(via)).collect();
        if self.hops.len() + new.len() > MAX_LEARNED_HOPS {
            return Err(Refusal::TooManyHops);
        }
        if self.port.routes.len() + self.routes.len() + hops.len() > MAX_ROUTES {
            return Err(Refusal::TooManyRoutes);
        }
        Ok(hops)
    }
}

fn is_on_link(port: &PortPeer, via: IpAddr) -> bool {
    let is_link_local = matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
    is_link_local || port.addresses.iter().any(|net| net.contains(&via))
}

/// Networks for which there is no alias left.
fn exhausted(
    config: &Config,
    state: &Allocations,
    learned: &[LearnedRealm],
) -> Result<Vec<(RealmRef, IpNet)>, AllocateError> {
    let new: HashSet<(RealmRef, IpNet)> =
        learned.iter().flat_map(|realm| networks_of(realm).map(move |net| (realm.realm, net))).collect();
    without_alias(config, state, &new)
}
