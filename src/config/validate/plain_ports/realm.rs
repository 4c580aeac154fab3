//! A port and its realm: the realm's networks can be reached by it, and its own addresses collide with nothing that the
//! realm has or sees.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net};

use super::{PlacedPort, listed};
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, Grant, GrantTarget, Host, Ix, RealmRef, Service};
use crate::config::raw::Raw;
use crate::config::validate::napt::PlacedNapt;
use crate::config::validate::networks::Placed;

/// What the checks read.
pub struct File<'a> {
    pub raw: &'a Raw,
    pub networks: &'a [Vec<Placed>],
    pub default_realm: Option<RealmRef>,
    pub hosts: &'a [Option<Host>],
    pub services: &'a [Option<Service>],
    pub grants: &'a [Option<Grant>],
    pub napt: &'a [Option<PlacedNapt>],
}

impl File<'_> {
    fn name(&self, realm: usize) -> &str {
        self.raw.realms[realm].name.as_ref().map_or("?", |name| name.value.as_str())
    }

    fn natives(&self, realm: usize) -> impl Iterator<Item = IpNet> {
        self.networks[realm].iter().map(|placed| placed.network.native)
    }
}

pub fn check(ports: &[PlacedPort], file: &File<'_>, ix: Option<&Ix>, problems: &mut Problems) {
    if ports.is_empty() {
        return;
    }
    let (named, open) = (named_addresses(file), joined_with_default(file));
    let taken = ix.map(|ix| Taken::new(file, ix));
    for port in ports {
        if file.default_realm == Some(RealmRef(port.realm)) {
            check_default(port, file, problems);
        } else {
            check_families(port, file, problems);
            check_ways(port, file, problems);
            check_routes(port, file, problems);
        }
        check_hosts(port, file, &named, problems);
        check_proxy(port, file, &open, problems);
        if let Some(taken) = &taken {
            check_aliases(port, file, taken, problems);
        }
    }
}

/// Addresses of each family that the realm has.
fn check_families(port: &PlacedPort, file: &File<'_>, problems: &mut Problems) {
    let name = file.name(port.realm);
    for (family, is_ipv4) in [("IPv4", true), ("IPv6", false)] {
        let has_networks = file.natives(port.realm).any(|net| net.addr().is_ipv4() == is_ipv4);
        let own = port.peer.addresses.iter().position(|net| net.addr().is_ipv4() == is_ipv4);
        match own {
            None if has_networks && !speaks(port, is_ipv4) => {
                problems
                    .error(
                        &port.span,
                        format!("the port has no {family} address, and realm `{name}` has {family} networks"),
                    )
                    .why("nothing of these could pass the port")
                    .remedy(match is_ipv4 {
                        true => "add our IPv4 address on the link to `address`",
                        false => "add our IPv6 address on the link to `address`; where the carrier gave none, `fe80::2/64` or such",
                    });
            }
            Some(at) if !has_networks && file.raw.realms[port.realm].routes_from.is_none() => {
                problems
                    .warning(&port.address_spans[at], format!("realm `{name}` has no {family} networks"))
                    .why("nothing of the realm passes under this address")
                    .remedy(format!("remove it, or add the realm's {family} networks"));
            }
            _ => {}
        }
    }
}

fn speaks(port: &PlacedPort, is_ipv4: bool) -> bool {
    port.peer.addresses.iter().any(|net| net.addr().is_ipv4() == is_ipv4)
}

fn has_gateway(port: &PlacedPort, is_ipv4: bool) -> bool {
    let is_announced = port.peer.accept_ra && !is_ipv4;
    is_announced || port.peer.gateways.iter().any(|gateway| gateway.is_ipv4() == is_ipv4)
}

/// Networks that are neither on the link nor behind a router.
fn check_ways(port: &PlacedPort, file: &File<'_>, problems: &mut Problems) {
    let links = port.peer.addresses.iter().map(|net| net.trunc());
    let known = IpNet::aggregate(&links.chain(port.peer.routes.iter().map(|route| route.prefix)).collect());
    let lost = file.natives(port.realm).filter(|net| {
        let family = net.addr().is_ipv4();
        speaks(port, family) && !has_gateway(port, family) && !known.iter().any(|known| known.contains(net))
    });
    let lost: Vec<IpNet> = lost.collect();
    if let Some(first) = lost.first() {
        const SHOWN: usize = 3;
        let more = if lost.len() > SHOWN { format!(" and {} more", lost.len() - SHOWN) } else { String::new() };
        let family = if first.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        problems
            .warning(&port.span, format!("{}{more} of realm `{}` has no gateway", listed(&lost[..lost.len().min(SHOWN)]), file.name(port.realm)))
            .why(format!("the port has no {family} gateway, so every such host is looked for on the link itself, outside its prefixes"))
            .remedy("name the carrier's router in `gateway`, or widen the prefix in `address` where the hosts are on the link");
    }
}

fn check_routes(port: &PlacedPort, file: &File<'_>, problems: &mut Problems) {
    for (route, span) in port.peer.routes.iter().zip(&port.route_spans) {
        let meets = |net: IpNet| net.contains(&route.prefix) || route.prefix.contains(&net);
        if !file.natives(port.realm).any(meets) && file.raw.realms[port.realm].routes_from.is_none() {
            problems
                .warning(span, format!("{} is outside the networks of realm `{}`", route.prefix, file.name(port.realm)))
                .why("no packet goes there, so the route has no effect")
                .remedy("add it to the realm's networks, or remove the route");
        }
    }
}

fn check_default(port: &PlacedPort, file: &File<'_>, problems: &mut Problems) {
    if !has_gateway(port, true) && !has_gateway(port, false) {
        problems
            .error(&port.span, format!("the default realm `{}` has no gateway", file.name(port.realm)))
            .why("it has every address that nobody else has, and these are not all on one link")
            .remedy("name the carrier's router in `gateway`");
    }
}

fn named_addresses<'a>(file: &File<'a>) -> HashMap<(RealmRef, IpAddr), &'a str> {
    let hosts = file.hosts.iter().flatten();
    hosts.flat_map(|host| host.addresses.iter().map(|addr| ((host.realm, *addr), host.name.as_str()))).collect()
}

fn check_hosts(port: &PlacedPort, file: &File<'_>, named: &HashMap<(RealmRef, IpAddr), &str>, problems: &mut Problems) {
    for (own, span) in port.peer.addresses.iter().zip(&port.address_spans) {
        let Some(host) = named.get(&(RealmRef(port.realm), own.addr())) else { continue };
        problems
            .error(span, format!("{} is the host `{host}` of realm `{}`", own.addr(), file.name(port.realm)))
            .why("on the link the address is ours; two who have it take each other's packets")
            .remedy("give one of them another address");
    }
}

/// Realms that see every address that nobody else has, or are seen by those.
fn joined_with_default(file: &File<'_>) -> HashSet<RealmRef> {
    let Some(default) = file.default_realm else { return HashSet::new() };
    let owner = |target: &GrantTarget| match target {
        GrantTarget::Realm(realm, _) => Some(*realm),
        GrantTarget::Service(service) => {
            let host = file.services[service.0].as_ref()?.host;
            Some(file.hosts[host.0].as_ref()?.realm)
        }
    };
    let mut joined = HashSet::new();
    for grant in file.grants.iter().flatten() {
        let to: Vec<RealmRef> = grant.to.iter().filter_map(owner).collect();
        if to.contains(&default) {
            joined.extend(&grant.from);
        }
        if grant.from.contains(&default) {
            joined.extend(to);
        }
    }
    joined.remove(&default);
    joined
}

/// Whoever answers for everything answers for the carrier's own routers, too.
fn check_proxy(port: &PlacedPort, file: &File<'_>, joined: &HashSet<RealmRef>, problems: &mut Problems) {
    if !port.peer.proxy || !joined.contains(&RealmRef(port.realm)) {
        return;
    }
    problems
        .error(&port.proxy_span, "`proxy` would answer for every address on this link")
        .why(format!(
            "a grant joins realm `{}` with the default realm, which is every address that nobody else has",
            file.name(port.realm)
        ))
        .remedy("let the carrier route to our address instead, and remove `proxy`");
}

/// An address of the link that is also an alias would mean two things to the realm. Where the link is in the realm's
/// networks, the realm gets other aliases.
fn check_aliases(port: &PlacedPort, file: &File<'_>, taken: &Taken, problems: &mut Problems) {
    for (own, span) in port.peer.addresses.iter().zip(&port.address_spans) {
        let link = own.trunc();
        if file.natives(port.realm).any(|net| net.contains(&link)) {
            continue;
        }
        let Some((by, what)) = taken.find(port.realm, link) else { continue };
        report_taken(link, by, what, span, problems);
    }
}

/// What the realms see others under.
struct Taken {
    everywhere: Vec<(IpNet, &'static str)>,
    /// Pinned, by whom: sorted, and disjoint but for mistakes that are reported elsewhere.
    pinned: Vec<(Ipv4Net, usize, &'static str)>,
}

impl Taken {
    fn new(file: &File<'_>, ix: &Ix) -> Self {
        let pools = ix.alias4.iter().map(|pool| (IpNet::V4(*pool), "`alias4`, from which aliases are taken"));
        let space6 = (IpNet::V6(ix.space6.prefix()), "`space6`, of which canonical addresses are made");
        let mut pinned: Vec<(Ipv4Net, usize, &str)> = Vec::new();
        for (realm, placed) in file.networks.iter().enumerate() {
            pinned.extend(placed.iter().filter_map(|placed| match placed.network.alias {
                AliasMode::Pinned(alias) => Some((alias, realm, "an alias of another realm")),
                _ => None,
            }));
        }
        for (realm, napt) in file.napt.iter().enumerate() {
            let pools = napt.iter().flat_map(|placed| &placed.napt.pools);
            pinned.extend(pools.map(|pool| (*pool, realm, "a pool of another realm")));
        }
        pinned.sort_unstable();
        Taken { everywhere: pools.chain([space6]).collect(), pinned }
    }

    fn find(&self, realm: usize, link: IpNet) -> Option<(IpNet, &'static str)> {
        let meets = |net: &IpNet| net.contains(&link) || link.contains(net);
        let everywhere = self.everywhere.iter().find(|(net, _)| meets(net)).copied();
        everywhere.or_else(|| {
            let IpNet::V4(link) = link else { return None };
            let from = self.pinned.partition_point(|(net, ..)| net.broadcast() < link.network());
            let met = self.pinned[from..].iter().take_while(|(net, ..)| net.network() <= link.broadcast());
            met.filter(|(_, owner, _)| *owner != realm).map(|(net, _, what)| (IpNet::V4(*net), *what)).next()
        })
    }
}

fn report_taken(link: IpNet, taken: IpNet, what: &str, span: &Range<usize>, problems: &mut Problems) {
    let remedy = match link {
        IpNet::V4(_) => {
            format!(
                "add `{link}` to the realm's networks (with `alias = \"hosts\"`): then it sees the others under other aliases"
            )
        }
        IpNet::V6(_) => "agree on another prefix with the carrier, or choose another `space6`".to_owned(),
    };
    problems
        .error(span, format!("the link {link} overlaps {taken}"))
        .why(format!("that is {what}; an address would be both on the link and somebody in another realm"))
        .remedy(remedy);
}
