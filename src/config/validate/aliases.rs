//! Does everything that needs an alias find one in `alias4`? A dry run with the allocator itself: the appliance's own
//! service prefix first, then what the file pins, then the networks, widest first. What the state store remembers is
//! not known here, so this is the least that is needed.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net};

use super::napt::PlacedNapt;
use super::networks::{Placed, overlap_error, overlapping, range4};
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, Host, Ix};
use crate::config::raw::Raw;
use crate::net::alias_pool::{AliasPool, alias_len};

/// The appliance's own addresses in every view: the first /24 of `alias4`.
const SERVICE_PREFIX_LEN: u8 = 24;

/// A prefix that somebody is to be seen under.
struct Alias {
    /// `None`: the appliance itself.
    realm: Option<usize>,
    prefix: Ipv4Net,
}

/// A wish for a prefix of some length.
struct Request {
    realm: usize,
    prefix_len: u8,
    span: Range<usize>,
    /// How it is written in the file.
    name: String,
}

pub fn check(
    raw: &Raw,
    ix: &Ix,
    networks: &[Vec<Placed>],
    hosts: &[Option<Host>],
    napt: &[Option<PlacedNapt>],
    problems: &mut Problems,
) {
    let alias4_span = raw.ix.alias4.as_ref().map_or(0..0, |list| list.span.clone());
    let mut pool = AliasPool::new(&ix.alias4);
    let Some(service) = pool.allocate(SERVICE_PREFIX_LEN, &[]) else {
        problems
            .error(&alias4_span, format!("`alias4` has no room for a /{SERVICE_PREFIX_LEN}"))
            .why("the appliance's own addresses, such as its name server, take the first /24")
            .remedy("widen `alias4`, for example to `[\"100.64.0.0/10\"]`");
        return;
    };
    let mut aliases = vec![Alias { realm: None, prefix: service }];
    aliases.extend(pins(networks, napt, service, problems));
    for alias in &aliases {
        pool.reserve(alias.prefix);
    }
    // Who uses a pool's addresses itself needs no other pool: it is told that it cannot see this one.
    let pools = napt.iter().flatten().flat_map(|placed| placed.napt.pools.iter().copied()).collect::<Vec<_>>();
    aliases.retain(|alias| !pools.contains(&alias.prefix));
    let mut requests = requests(raw, networks, hosts, napt);
    requests.sort_by_key(|r| r.prefix_len);
    let mut missing = Vec::new();
    for request in &requests {
        match pool.allocate(request.prefix_len, &[]) {
            Some(prefix) => aliases.push(Alias { realm: Some(request.realm), prefix }),
            None => missing.push(request),
        }
    }
    if missing.is_empty() {
        check_viewers(raw, networks, &pool, &mut aliases, problems);
    } else {
        report_missing(ix, &requests, &missing, &alias4_span, problems);
    }
}

/// What the file pins, checked against each other and the appliance's own prefix.
fn pins(
    networks: &[Vec<Placed>],
    napt: &[Option<PlacedNapt>],
    service: Ipv4Net,
    problems: &mut Problems,
) -> Vec<Alias> {
    let mut pins = Vec::new();
    for (realm, placed) in networks.iter().enumerate().flat_map(|(i, list)| list.iter().map(move |p| (i, p))) {
        if let (AliasMode::Pinned(prefix), Some(span)) = (placed.network.alias, &placed.alias_span) {
            pins.push((Alias { realm: Some(realm), prefix }, span));
        }
    }
    for (realm, placed) in napt.iter().enumerate().filter_map(|(realm, placed)| Some((realm, placed.as_ref()?))) {
        let spans = placed.napt.pools.iter().zip(&placed.pool_spans);
        pins.extend(spans.map(|(pool, span)| (Alias { realm: Some(realm), prefix: *pool }, span)));
    }
    let mut said = None;
    for (alias, span) in &pins {
        if (service.contains(&alias.prefix) || alias.prefix.contains(&service)) && said != Some(span.start) {
            said = Some(span.start);
            problems
                .error(span, format!("the alias {} overlaps the appliance's own {service}", alias.prefix))
                .why("the first /24 of `alias4` holds the appliance's own addresses, such as its name server")
                .remedy(format!("pin another /{}", alias.prefix.prefix_len()));
        }
    }
    let ranges: Vec<_> = pins.iter().map(|(alias, _)| range4(alias.prefix)).collect();
    let mut said = HashSet::new();
    for (a, b) in overlapping(&ranges) {
        let ((later, span), (earlier, other)) = (&pins[a.max(b)], &pins[a.min(b)]);
        // Ranges may overlap in several of their pieces.
        if said.insert((span.start, other.start)) {
            overlap_error(span, &later.prefix, other, &earlier.prefix, "an alias stands for one network", problems);
        }
    }
    pins.into_iter().map(|(alias, _)| alias).collect()
}

fn requests(raw: &Raw, networks: &[Vec<Placed>], hosts: &[Option<Host>], napt: &[Option<PlacedNapt>]) -> Vec<Request> {
    let mut requests = Vec::new();
    for (realm, placed) in networks.iter().enumerate().flat_map(|(i, list)| list.iter().map(move |p| (i, p))) {
        let native = placed.network.native;
        if let (AliasMode::Auto, Some(prefix_len)) = (placed.network.alias, alias_len(native)) {
            requests.push(Request { realm, prefix_len, span: placed.span.clone(), name: native.to_string() });
        }
    }
    for (host, raw_host) in hosts.iter().zip(&raw.hosts) {
        let Some(host) = host else { continue };
        let hosts_only = |address: &IpAddr| {
            let inside = |p: &&Placed| p.network.native.contains(address);
            networks[host.realm.0].iter().find(inside).is_some_and(|p| p.network.alias == AliasMode::HostsOnly)
        };
        let is_forwarded =
            |address: &&IpAddr| napt[host.realm.0].as_ref().is_some_and(|placed| placed.napt.leads_to(**address));
        // One alias for each host: for its IPv4 address where it has one.
        let address = host.addresses.iter().find(|address| address.is_ipv4()).or(host.addresses.first());
        if let Some(address) = address.filter(|address| hosts_only(address) && !is_forwarded(address)) {
            let span = raw_host.addresses.as_ref().map_or(0..0, |a| a.span.clone());
            requests.push(Request {
                realm: host.realm.0,
                prefix_len: 32,
                span,
                name: IpNet::from(*address).to_string(),
            });
        }
    }
    requests
}

fn report_missing(
    ix: &Ix,
    requests: &[Request],
    missing: &[&Request],
    alias4_span: &Range<usize>,
    problems: &mut Problems,
) {
    const MOST_NAMED: usize = 3;
    let addresses = |len: u8| 1u64 << (32 - len);
    let needed: u64 = requests.iter().map(|r| addresses(r.prefix_len)).sum();
    let lacking: u64 = missing.iter().map(|r| addresses(r.prefix_len)).sum();
    let have: u64 = ix.alias4.iter().map(|p| addresses(p.prefix_len())).sum();
    // The smallest prefix that holds all that is lacking; allocation goes widest first, so nothing is lost to gaps.
    let widen = 32 - lacking.next_power_of_two().trailing_zeros();
    let widest = requests.iter().min_by_key(|r| r.prefix_len).filter(|r| r.prefix_len < 32);
    let or = widest.map_or(String::new(), |w| {
        format!(", or write `alias = \"hosts\"` on large networks (the largest is {}) to show only their hosts", w.name)
    });
    // Where `alias4` is not written, the first network without room is what the user can see.
    let span = if alias4_span.is_empty() { &missing[0].span } else { alias4_span };
    let problem = problems.error(
        span,
        format!(
            "`alias4` is too small: {lacking} addresses are missing, for {} of {} aliases",
            missing.len(),
            requests.len()
        ),
    );
    problem
        .why(format!(
            "every IPv4 network gets an alias of its own length; that takes {needed} addresses beside what is pinned \
             and the appliance's own 256, and `alias4` has {have}"
        ))
        .remedy(format!("add at least a /{widen} to `alias4`{or}"));
    for request in missing.iter().take(MOST_NAMED) {
        problem.also(&request.span, format!("no room for {}", request.name));
    }
}

/// A realm that uses addresses which are aliases of others sees those under aliases of its own; these need room too.
fn check_viewers(
    raw: &Raw,
    networks: &[Vec<Placed>],
    pool: &AliasPool,
    aliases: &mut [Alias],
    problems: &mut Problems,
) {
    aliases.sort_by_key(|a| a.prefix.network());
    for (viewer, placed) in networks.iter().enumerate() {
        let own: Vec<Ipv4Net> = placed.iter().filter_map(|p| as_v4(p.network.native)).collect();
        // Aliases are disjoint, so those that meet a network are one run of the sorted list.
        let hidden = own.iter().flat_map(|net| {
            let from = aliases.partition_point(|a| a.prefix.broadcast() < net.network());
            aliases[from..].iter().take_while(|a| a.prefix.network() <= net.broadcast())
        });
        let mut lens: Vec<u8> = hidden.filter(|a| a.realm != Some(viewer)).map(|a| a.prefix.prefix_len()).collect();
        if lens.is_empty() {
            continue;
        }
        lens.sort_unstable();
        let mut view = pool.clone();
        if lens.iter().all(|len| view.allocate(*len, &own).is_some()) {
            continue;
        }
        let span = placed.first().map_or(0..0, |p| p.span.clone());
        let name = raw.realms[viewer].name.as_ref().map_or("?", |n| n.value.as_str());
        problems
            .error(&span, format!("`alias4` has no room for what realm `{name}` cannot see under the usual aliases"))
            .why(format!(
                "the realm uses addresses itself that are aliases of {} others; it needs other aliases for these",
                lens.len()
            ))
            .remedy(format!("add a range to `alias4` that realm `{name}` does not use"));
    }
}

fn as_v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}
