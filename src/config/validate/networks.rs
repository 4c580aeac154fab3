//! The networks of each realm: real prefixes, of usable addresses, disjoint within the realm, with aliases that fit.
//! Two realms may share everything.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::network_alias::alias;
use super::ranges;
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, Network};
use crate::config::raw::{self, Extent, Raw};
use crate::config::section::At;
use crate::config::spec::MAX_NETWORKS;
use crate::config::suggest;
use crate::net::address_range::AddressRange;

/// A network that was understood, and where its parts stand. A range is several, all with the same places.
pub struct Placed {
    pub network: Network,
    /// What it is a piece of.
    pub range: Option<AddressRange>,
    pub span: Range<usize>,
    pub alias_span: Option<Range<usize>>,
    pub canonical_span: Option<Range<usize>>,
}

impl Placed {
    /// As the file has it.
    pub fn written(&self) -> String {
        self.range.map_or_else(|| self.network.native.to_string(), |range| range.to_string())
    }
}

/// How many networks of the file `placed` stands for.
pub fn written_count(placed: &[Placed]) -> usize {
    let starts_another = |pair: &[Placed]| pair[0].span != pair[1].span;
    placed.len().min(1) + placed.windows(2).filter(|pair| starts_another(pair)).count()
}

/// Per realm, in the order of the file. What is wrong is left out.
pub fn networks(raw: &Raw, problems: &mut Problems) -> Vec<Vec<Placed>> {
    let total: usize = raw.realms.iter().map(|r| r.networks.len()).sum();
    let mut left = MAX_NETWORKS;
    let mut read = |realm: &raw::Realm| {
        let mut placed = Vec::new();
        for raw in &realm.networks {
            placed.extend(network(raw, problems));
            if placed.len() > left {
                return None;
            }
        }
        left -= placed.len();
        report_overlaps(&placed, problems);
        Some(placed)
    };
    let all = (total <= MAX_NETWORKS).then(|| raw.realms.iter().map(&mut read).collect::<Option<_>>()).flatten();
    all.unwrap_or_else(|| {
        problems
            .error(&(0..0), format!("the realms have {} networks in all", total.max(MAX_NETWORKS + 1)))
            .why(format!(
                "every table of the appliance is bounded; this one at {MAX_NETWORKS}, and a range takes several"
            ))
            .remedy("join neighbouring networks into wider ones");
        raw.realms.iter().map(|_| Vec::new()).collect()
    })
}

/// What both address families have in common here.
pub trait Prefix: FromStr + Display + Copy {
    fn truncated(self) -> Self;
    fn same(&self, other: &Self) -> bool;
}

macro_rules! prefix {
    ($($net:ty),*) => {$(
        impl Prefix for $net {
            fn truncated(self) -> Self {
                self.trunc()
            }
            fn same(&self, other: &Self) -> bool {
                self == other
            }
        }
    )*};
}
prefix!(IpNet, Ipv4Net, Ipv6Net);

/// A prefix whose host bits are zero.
pub fn parse_prefix<P: Prefix>(text: &At<String>, example: &str, problems: &mut Problems) -> Option<P> {
    let Ok(prefix) = text.value.parse::<P>() else {
        let (message, remedy) = not_a_prefix(&text.value, example);
        problems.error(&text.span, message).why("a network is an address, a slash and a prefix length").remedy(remedy);
        return None;
    };
    let truncated = prefix.truncated();
    if !truncated.same(&prefix) {
        problems
            .error(&text.span, format!("{prefix} has host bits set"))
            .why(
                "a prefix names a network; this is an address inside of one, so the length or the address is a mistake",
            )
            .remedy(format!("write `{truncated}` for the network"));
        return None;
    }
    Some(prefix)
}

/// Why hosts cannot have addresses of `net`, if so (RFC 6890).
pub fn reserved4(net: Ipv4Net) -> Option<&'static str> {
    const BLOCKS: [(&str, &str); 5] = [
        ("0.0.0.0/8", "0.0.0.0/8 means \"this network\"; no host has such an address"),
        ("127.0.0.0/8", "127.0.0.0/8 is loopback; it never leaves a machine"),
        ("169.254.0.0/16", "169.254.0.0/16 is link-local; it never passes a router"),
        ("224.0.0.0/4", "224.0.0.0/4 is multicast; no host has such an address"),
        ("240.0.0.0/4", "240.0.0.0/4 is reserved; no host has such an address"),
    ];
    BLOCKS
        .iter()
        .find(|(block, _)| block.parse().is_ok_and(|b: Ipv4Net| b.contains(&net) || net.contains(&b)))
        .map(|b| b.1)
}

/// The same for IPv6.
pub fn reserved6(net: Ipv6Net) -> Option<&'static str> {
    const BLOCKS: [(&str, &str); 3] = [
        ("::/8", "::/8 holds the unspecified, loopback and IPv4-mapped addresses; no network has them"),
        ("fe80::/10", "fe80::/10 is link-local; it never passes a router"),
        ("ff00::/8", "ff00::/8 is multicast; no host has such an address"),
    ];
    BLOCKS
        .iter()
        .find(|(block, _)| block.parse().is_ok_and(|b: Ipv6Net| b.contains(&net) || net.contains(&b)))
        .map(|b| b.1)
}

pub fn overlap_error(
    span: &Range<usize>,
    net: &impl Display,
    other_span: &Range<usize>,
    other: &impl Display,
    why: &str,
    problems: &mut Problems,
) {
    problems
        .error(span, format!("{net} overlaps {other}"))
        .why(why)
        .remedy("remove one of them, or make them disjoint")
        .also(other_span, "the other one is here");
}

/// Pairs of ranges that share an address, as (index, index of one that it overlaps): every range that overlaps one which
/// starts before it comes once. Ranges are (first, last inclusive).
pub fn overlapping(ranges: &[(u128, u128)]) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|i| (ranges[*i].0, *i));
    let mut pairs = Vec::new();
    let mut furthest: Option<usize> = None; // of those seen, the one that ends last
    for i in order {
        if let Some(j) = furthest
            && ranges[j].1 >= ranges[i].0
        {
            pairs.push((i, j));
        }
        if furthest.is_none_or(|j| ranges[j].1 < ranges[i].1) {
            furthest = Some(i);
        }
    }
    pairs
}

pub fn range4(net: Ipv4Net) -> (u128, u128) {
    (net.network().to_bits().into(), net.broadcast().to_bits().into())
}

pub fn range6(net: Ipv6Net) -> (u128, u128) {
    (net.network().to_bits(), net.broadcast().to_bits())
}

fn network(raw: &raw::Network, problems: &mut Problems) -> Vec<Placed> {
    match &raw.extent {
        Extent::Prefix(text) => prefix_network(text, raw, problems).into_iter().collect(),
        Extent::Range(text) => ranges::network(text, raw, problems).unwrap_or_default(),
        Extent::Default(_) => Vec::new(),
    }
}

pub fn reserved(net: IpNet) -> Option<&'static str> {
    match net {
        IpNet::V4(net) => reserved4(net),
        IpNet::V6(net) => reserved6(net),
    }
}

pub fn report_reserved(span: &Range<usize>, native: impl Display, why: &str, problems: &mut Problems) {
    problems
        .error(span, format!("{native} cannot be a realm's network"))
        .why(why)
        .remedy("name the networks that the realm's hosts really have");
}

fn prefix_network(text: &At<String>, raw: &raw::Network, problems: &mut Problems) -> Option<Placed> {
    let before = problems.error_count();
    if let Some(remedy) = instead_of_default(text) {
        problems
            .error(&text.span, "this is not a network")
            .why("the realm that has every address which nobody else has is written `default`")
            .remedy(remedy);
        return None;
    }
    let native: Option<IpNet> = parse_prefix(text, "192.168.1.0/24", problems);
    if let Some((native, why)) = native.and_then(|native| Some((native, reserved(native)?))) {
        report_reserved(&text.span, native, why, problems);
    }
    let alias = raw.alias.as_ref().and_then(|text| alias(text, native?, problems));
    let canonical = raw.canonical.as_ref().and_then(|text| canonical(text, native?, problems));
    (problems.error_count() == before).then_some(())?;
    Some(Placed {
        network: Network { native: native?, alias: alias.unwrap_or(AliasMode::default_of(native?)), canonical },
        range: None,
        span: text.span.clone(),
        alias_span: raw.alias.as_ref().map(|t| t.span.clone()),
        canonical_span: raw.canonical.as_ref().map(|t| t.span.clone()),
    })
}

/// Where `default` was meant.
fn instead_of_default(text: &At<String>) -> Option<String> {
    let everything = ["0.0.0.0/0", "::/0"].contains(&text.value.as_str());
    let near = suggest::nearest(&text.value, ["default"]).is_some();
    (everything || near).then(|| "write `\"default\"`".to_owned())
}

fn canonical(text: &At<String>, native: IpNet, problems: &mut Problems) -> Option<Ipv6Net> {
    let IpNet::V6(native) = native else {
        problems
            .error(&text.span, "the canonical prefix of an IPv4 network is computed")
            .why("it is `space6`, the realm's number and the IPv4 address")
            .remedy("remove `canonical`; to choose how others see the network, write `alias`");
        return None;
    };
    let prefix: Ipv6Net = parse_prefix(text, &format!("fd00:1::/{}", native.prefix_len()), problems)?;
    if prefix.prefix_len() != native.prefix_len() {
        let (have, want) = (prefix.prefix_len(), native.prefix_len());
        problems
            .error(&text.span, format!("the canonical prefix is a /{have} and the network a /{want}"))
            .why("translation is prefix for prefix (RFC 6296), so both have the same length")
            .remedy(format!("write a /{want}"));
        return None;
    }
    if let Some(why) = reserved6(prefix) {
        problems
            .error(&text.span, format!("{prefix} cannot be a canonical prefix"))
            .why(why)
            .remedy("take a prefix out of fd00::/8 (RFC 4193)");
        return None;
    }
    Some(prefix)
}

fn report_overlaps(placed: &[Placed], problems: &mut Problems) {
    // The families share no address: IPv6 addresses that would look like IPv4 ones here are refused as ::/8.
    let ranges: Vec<_> = placed
        .iter()
        .map(|p| match p.network.native {
            IpNet::V4(net) => range4(net),
            IpNet::V6(net) => range6(net),
        })
        .collect();
    let mut said = HashSet::new();
    for (a, b) in overlapping(&ranges) {
        let (later, earlier) = (&placed[a.max(b)], &placed[a.min(b)]);
        // Ranges may overlap in several of their pieces.
        if said.insert((later.span.start, earlier.span.start)) {
            let why = "within one realm an address belongs to one network (two realms may share everything)";
            overlap_error(&later.span, &later.written(), &earlier.span, &earlier.written(), why, problems);
        }
    }
}

fn not_a_prefix(text: &str, example: &str) -> (String, String) {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return ("the prefix length is missing".into(), format!("for this one address write `{text}/{bits}`"));
    }
    let family = if text.parse::<IpNet>().is_ok() {
        "this is a prefix of the other address family"
    } else {
        "this is not a network"
    };
    (family.into(), format!("write for example `{example}`"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reserved_blocks_are_found_from_both_sides() {
        for net in ["127.0.0.1/32", "0.0.0.0/0", "169.254.0.0/24", "160.0.0.0/4", "224.0.0.0/3", "255.255.255.255/32"] {
            assert!(reserved4(net.parse().unwrap()).is_some(), "{net}");
        }
        for net in ["192.168.1.0/24", "10.0.0.0/8", "100.64.0.0/10", "8.8.8.8/32"] {
            assert!(reserved4(net.parse().unwrap()).is_none(), "{net}");
        }
        for (net, reserved) in
            [("::1/128", true), ("fe80::/64", true), ("::/0", true), ("ff02::/16", true), ("fd00::/8", false)]
        {
            assert_eq!(reserved6(net.parse().unwrap()).is_some(), reserved, "{net}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_named_exactly_when_it_overlaps_another(ranges in prop::collection::vec((0u128..50, 0u128..6), 0..12)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(first, more)| (first, first + more)).collect();
            let meet = |a: (u128, u128), b: (u128, u128)| a.0 <= b.1 && b.0 <= a.1;
            let pairs = overlapping(&ranges);
            for (i, j) in &pairs {
                prop_assert!(i != j && meet(ranges[*i], ranges[*j]));
            }
            let any = (0..ranges.len()).any(|i| (0..i).any(|j| meet(ranges[i], ranges[j])));
            prop_assert_eq!(any, !pairs.is_empty());
            // What remains without the named ones is disjoint.
            let rest: Vec<_> = (0..ranges.len()).filter(|i| !pairs.iter().any(|p| p.0 == *i)).map(|i| ranges[i]).collect();
            prop_assert!(overlapping(&rest).is_empty());
        }
    }
}
