//! `show_as`: pools that collide with nothing that their viewers use, and forwards that lead somewhere. That pools are
//! disjoint from one another and from pinned aliases is checked with these ([`super::aliases`]).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use ipnet::{IpNet, Ipv4Net};

use super::names::Names;
use super::networks::{Placed, parse_prefix, reserved4};
use super::references::sources;
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, Filtering, Forward, ForwardProtocol, Napt, RealmRef};
use crate::config::raw::{self, Raw};
use crate::config::section::At;

const DEFAULT_BLOCK_PORTS: u16 = 256;
/// A pool with more addresses than this is a mistake; and every table is bounded.
const MIN_POOL_LEN: u8 = 16;

/// A `show_as` that was understood, and where its pools stand.
pub struct PlacedNapt {
    pub napt: Napt,
    pub pool_spans: Vec<Range<usize>>,
}

/// By realm.
pub fn napt(
    raw: &Raw,
    names: &Names<'_>,
    networks: &[Vec<Placed>],
    max_bindings: usize,
    problems: &mut Problems,
) -> Vec<Option<PlacedNapt>> {
    let mut forwards = 0;
    let mut read = |(realm, raw): (usize, &raw::Realm)| {
        let show_as = raw.show_as.as_ref()?;
        forwards += show_as.forwards.len();
        if forwards > max_bindings {
            problems
                .error(&show_as.span, format!("there are {forwards} forwards so far"))
                .why(format!("each is a NAPT binding, and of these there may be {max_bindings}"))
                .remedy("raise `napt_bindings` under [limits]");
        }
        read_napt(RealmRef(realm), show_as, names, &networks[realm], problems)
    };
    let napt: Vec<_> = raw.realms.iter().enumerate().map(&mut read).collect();
    check_viewers(raw, networks, &napt, problems);
    napt
}

/// Towards everybody a pool stands in for the aliases that nobody asked for: only hosts still have their own.
pub fn settle(napt: &[Option<PlacedNapt>], networks: &mut [Vec<Placed>]) {
    for (placed, networks) in napt.iter().zip(networks) {
        if placed.as_ref().is_some_and(|placed| placed.napt.viewers.is_none()) {
            let auto = networks.iter_mut().map(|placed| &mut placed.network);
            auto.filter(|n| n.native.addr().is_ipv4() && n.alias == AliasMode::Auto)
                .for_each(|n| n.alias = AliasMode::HostsOnly);
        }
    }
}

fn read_napt(
    realm: RealmRef,
    raw: &raw::ShowAs,
    names: &Names<'_>,
    networks: &[Placed],
    problems: &mut Problems,
) -> Option<PlacedNapt> {
    let before = problems.error_count();
    let texts = raw.napt.as_ref()?;
    let pools: Vec<_> =
        texts.value.iter().filter_map(|text| Some((pool(text, problems)?, text.span.clone()))).collect();
    let viewers = match &raw.viewers {
        Some(list) => Some(viewers(list, realm, names, problems)?),
        None => None,
    };
    let block_ports = raw.block_ports.as_ref().map_or(Some(DEFAULT_BLOCK_PORTS), |n| block_ports(n, problems));
    let (pools, pool_spans): (Vec<_>, Vec<_>) = pools.into_iter().unzip();
    let mut reader = Forwards { pools: &pools, for_some: viewers.is_some(), networks, seen: HashMap::new() };
    let forwards: Vec<_> = raw.forwards.iter().filter_map(|raw| reader.read(raw, problems)).collect();
    (problems.error_count() == before).then_some(())?;
    let filtering = match raw.filtering.as_ref().map(|word| word.value) {
        Some("endpoint") => Filtering::Endpoint,
        Some("address") => Filtering::Address,
        _ => Filtering::AddressAndPort,
    };
    Some(PlacedNapt { napt: Napt { pools, viewers, filtering, block_ports: block_ports?, forwards }, pool_spans })
}

fn pool(text: &At<String>, problems: &mut Problems) -> Option<Ipv4Net> {
    let pool: Ipv4Net = parse_prefix(text, "100.64.9.0/28", problems)?;
    if let Some(why) = reserved4(pool) {
        problems
            .error(&text.span, format!("{pool} cannot be a pool"))
            .why(why)
            .remedy("take a prefix out of `alias4`, for example `100.64.9.0/28`");
        return None;
    }
    if pool.prefix_len() < MIN_POOL_LEN {
        problems
            .error(&text.span, format!("{pool} is too large for a pool"))
            .why("many hosts share one address, so a few are enough; every table of the appliance is bounded")
            .remedy(format!("write a /{MIN_POOL_LEN} or a smaller prefix, for example a /28"));
        return None;
    }
    Some(pool)
}

fn viewers(
    list: &At<Vec<At<String>>>,
    realm: RealmRef,
    names: &Names<'_>,
    problems: &mut Problems,
) -> Option<Vec<RealmRef>> {
    let viewers = sources(list, names, problems)?;
    if viewers.contains(&realm) {
        problems
            .error(&list.span, "the realm itself is among those that see it by its pool")
            .why("`for` names other realms")
            .remedy("remove its name from the list");
        return None;
    }
    Some(viewers)
}

fn block_ports(n: &At<u64>, problems: &mut Problems) -> Option<u16> {
    if n.value.is_multiple_of(2) {
        return u16::try_from(n.value).ok();
    }
    problems
        .error(&n.span, "`block_ports` is odd")
        .why("a block begins with an even port, so that even ports stay even and odd ones odd (RFC 4787 REQ-4)")
        .remedy(format!("write {}", n.value + 1));
    None
}

/// Reads the forwards of one realm.
struct Forwards<'a> {
    pools: &'a [Ipv4Net],
    for_some: bool,
    networks: &'a [Placed],
    /// Both ends of every forward, and where it stands.
    seen: HashMap<(ForwardProtocol, bool, SocketAddr), Range<usize>>,
}

impl Forwards<'_> {
    fn read(&mut self, raw: &raw::Forward, problems: &mut Problems) -> Option<Forward> {
        let outside = self.outside(raw.outside.as_ref()?, problems);
        let port_text = raw.port.as_ref()?;
        let port = port(port_text, problems);
        let to_text = raw.to.as_ref()?;
        let to = self.to(to_text, problems);
        let (outside, (protocol, port), to) = (outside?, port?, to?);
        for (is_outside, end, span) in
            [(true, SocketAddr::from((outside, port)), &port_text.span), (false, to, &to_text.span)]
        {
            if let Some(first) = self.seen.get(&(protocol, is_outside, end)) {
                problems
                    .error(span, format!("{end} is in another forward already"))
                    .why("a port of the pool leads to one host's port, and that is seen by one port of the pool")
                    .remedy("remove one of them, or choose another port")
                    .also(first, "the other one is here");
                return None;
            }
            self.seen.insert((protocol, is_outside, end), span.clone());
        }
        Some(Forward { protocol, outside: (outside, port), to: (to.ip(), to.port()) })
    }

    fn outside(&self, text: &At<String>, problems: &mut Problems) -> Option<Ipv4Addr> {
        let address: Option<Ipv4Addr> = text.value.parse().ok();
        let in_pool = address.filter(|address| self.pools.iter().any(|pool| pool.contains(address)));
        // Where no pool was understood, that has been said.
        if in_pool.is_none() && !self.pools.is_empty() {
            problems
                .error(&text.span, "this is no address of the pool")
                .why("a forward is a port of an address that the realm is seen by")
                .remedy(format!("write for example `{}`", self.pools[0].network()));
        }
        in_pool
    }

    fn to(&self, text: &At<String>, problems: &mut Problems) -> Option<SocketAddr> {
        let to: Option<SocketAddr> = text.value.parse().ok().filter(|to: &SocketAddr| to.port() != 0);
        let Some(to) = to else {
            problems
                .error(&text.span, "this is not an address and a port")
                .why("a forward leads to a port of one of the realm's hosts")
                .remedy("write for example `192.168.1.20:8443`");
            return None;
        };
        let Some(network) = self.networks.iter().find(|placed| placed.network.native.contains(&to.ip())) else {
            problems
                .error(&text.span, format!("{} is outside the realm's networks", to.ip()))
                .why("a forward leads to a host of the realm that it belongs to")
                .remedy("correct the address, or add its network to the realm");
            return None;
        };
        // Of IPv4 networks the pool stands in for those that nobody pinned, or for all.
        let has_alias = match network.network.alias {
            AliasMode::HostsOnly => false,
            AliasMode::Auto => to.is_ipv6(),
            AliasMode::Pinned(_) => to.is_ipv6() || !self.for_some,
        };
        if has_alias {
            problems
                .error(&text.span, format!("{} is seen by an alias", to.ip()))
                .why("its network has one, so all its ports can be reached there")
                .remedy("remove the forward, or the network's `alias`");
            return None;
        }
        Some(to)
    }
}

fn port(text: &At<String>, problems: &mut Problems) -> Option<(ForwardProtocol, u16)> {
    let parsed = text.value.split_once('/').and_then(|(protocol, port)| {
        let protocol = match protocol {
            "tcp" => ForwardProtocol::Tcp,
            "udp" => ForwardProtocol::Udp,
            _ => return None,
        };
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        Some((protocol, port.parse().ok().filter(|port| is_number && *port != 0)?))
    });
    if parsed.is_none() {
        problems
            .error(&text.span, "this is not a port")
            .why("a forward has one port: `tcp/PORT` or `udp/PORT`, from 1 to 65535")
            .remedy("write for example `tcp/443`");
    }
    parsed
}

/// Who sees a pool cannot use its addresses itself.
fn check_viewers(raw: &Raw, networks: &[Vec<Placed>], napt: &[Option<PlacedNapt>], problems: &mut Problems) {
    let placed = napt.iter().enumerate().filter_map(|(realm, placed)| Some((realm, placed.as_ref()?)));
    let mut pools: Vec<_> = placed
        .flat_map(|(realm, placed)| {
            let spans = placed.napt.pools.iter().zip(&placed.pool_spans);
            spans.map(move |(pool, span)| (*pool, realm, placed, span))
        })
        .collect();
    pools.sort_by_key(|(pool, ..)| pool.network());
    for (viewer, network) in networks.iter().enumerate().flat_map(|(i, list)| list.iter().map(move |p| (i, p))) {
        let IpNet::V4(native) = network.network.native else { continue };
        let from = pools.partition_point(|(pool, ..)| pool.broadcast() < native.network());
        for (pool, realm, placed, span) in
            pools[from..].iter().take_while(|(pool, ..)| pool.network() <= native.broadcast())
        {
            let viewers = placed.napt.viewers.as_ref();
            if *realm != viewer && viewers.is_some_and(|viewers| !viewers.contains(&RealmRef(viewer))) {
                continue;
            }
            let name = raw.realms[viewer].name.as_ref().map_or("?", |name| name.value.as_str());
            problems
                .error(span, format!("the pool {pool} overlaps {native} of realm `{name}`"))
                .why("who sees the pool would take its addresses for hosts of its own")
                .remedy(format!("choose a pool that realm `{name}` does not use, for example out of `alias4`"))
                .also(&network.span, "the network is here");
        }
    }
}
