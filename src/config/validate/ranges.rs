//! Networks that are written as ranges: cut into prefixes, each a network of its own from here on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::network_alias::{check_usable, word};
use super::networks::{Placed, report_reserved, reserved};
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, Network};
use crate::config::raw;
use crate::config::section::At;
use crate::config::spec::MAX_RANGE_PIECES;
use crate::net::address_range::{AddressRange, RangeError};

pub fn network(text: &At<String>, raw: &raw::Network, problems: &mut Problems) -> Option<Vec<Placed>> {
    let range = parse(text, "192.168.1.10-192.168.1.20", problems);
    if let Some(canonical) = &raw.canonical {
        problems
            .error(&canonical.span, "a range has no canonical prefix")
            .why("canonical prefixes stand for whole prefixes (RFC 6296)")
            .remedy("write the range as prefixes, each with its `canonical`");
        return None;
    }
    let range = range?;
    let pieces = pieces(range, text, raw.alias.as_ref(), problems)?;
    if let Some(why) = pieces.iter().find_map(|(native, _)| reserved(*native)) {
        report_reserved(&text.span, range, why, problems);
        return None;
    }
    let placed = |(native, alias): (IpNet, AliasMode)| Placed {
        network: Network { native, alias, canonical: None },
        range: Some(range),
        span: text.span.clone(),
        alias_span: raw.alias.as_ref().map(|text| text.span.clone()),
        canonical_span: None,
    };
    Some(pieces.into_iter().map(placed).collect())
}

fn pieces(
    range: AddressRange,
    text: &At<String>,
    alias: Option<&At<String>>,
    problems: &mut Problems,
) -> Option<Vec<(IpNet, AliasMode)>> {
    let prefixes = range.prefixes(MAX_RANGE_PIECES);
    if prefixes.is_none() {
        problems
            .error(&text.span, format!("{range} falls into more than {MAX_RANGE_PIECES} prefixes"))
            .why("a range is served as prefixes, and every table of the appliance is bounded")
            .remedy("let it begin and end at rounder addresses, or write a prefix that holds it");
    }
    let prefixes = prefixes?;
    let Some(alias) = alias else {
        return Some(prefixes.into_iter().map(|native| (native, AliasMode::default_of(native))).collect());
    };
    if let Some(mode) = word(alias, prefixes.iter().copied(), problems) {
        let mode = mode?;
        return Some(prefixes.into_iter().map(|native| (native, mode)).collect());
    }
    pinned(range, alias, problems)
}

/// Both cut at the same places.
fn pinned(range: AddressRange, text: &At<String>, problems: &mut Problems) -> Option<Vec<(IpNet, AliasMode)>> {
    let alias = parse(text, "100.64.9.10-100.64.9.20", problems)?;
    let IpAddr::V4(first) = alias.first() else {
        problems
            .error(&text.span, "an alias is a range of IPv4 addresses")
            .why("translation into IPv6 is the canonical address, which every host has anyway")
            .remedy("write IPv4 addresses, or remove `alias`");
        return None;
    };
    if alias.span() != range.span() {
        let last = u32::try_from(u128::from(first.to_bits()) + range.span()).map(std::net::Ipv4Addr::from_bits);
        let remedy = match last {
            Ok(last) => format!("write `{first}-{last}`"),
            Err(_) => "write `alias = \"hosts\"` to show only single hosts, or a smaller range".to_owned(),
        };
        problems
            .error(&text.span, "the alias and the range have not equally many addresses")
            .why("an alias maps address for address")
            .remedy(remedy);
        return None;
    }
    let Some(pairs) = range.prefixes_with_aliases(first, MAX_RANGE_PIECES) else {
        problems
            .error(&text.span, format!("{range} and {alias} fall into more than {MAX_RANGE_PIECES} pairs of prefixes"))
            .why("a range is served prefix for prefix, which takes blocks that begin at the same place on both sides")
            .remedy(format!(
                "let the alias end in the same bits as the range, for example `{}`",
                aligned(range, alias)
            ));
        return None;
    };
    pairs.iter().all(|(_, alias)| check_usable(text, *alias, problems)).then_some(())?;
    Some(pairs.into_iter().map(|(native, alias)| (native, AliasMode::Pinned(alias))).collect())
}

/// An alias near `alias` that is cut where `range` is.
fn aligned(range: AddressRange, alias: AddressRange) -> String {
    let low = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr.to_bits(),
        IpAddr::V6(addr) => addr.to_bits() as u32,
    };
    let mask = u32::try_from(range.span().next_power_of_two() - 1).unwrap_or(u32::MAX);
    let first = low(alias.first()) & !mask | low(range.first()) & mask;
    let last = first.saturating_add(range.span() as u32);
    format!("{}-{}", std::net::Ipv4Addr::from_bits(first), std::net::Ipv4Addr::from_bits(last))
}

fn parse(text: &At<String>, example: &str, problems: &mut Problems) -> Option<AddressRange> {
    match text.value.parse() {
        Ok(range) => Some(range),
        Err(error @ (RangeError::NotARange | RangeError::Families)) => {
            problems
                .error(&text.span, error.to_string())
                .why("a range is its first and its last address, with a hyphen between them")
                .remedy(format!("write for example `{example}`"));
            None
        }
        Err(error @ RangeError::Backwards) => {
            let (first, last) = text.value.split_once('-').unwrap_or((&text.value, ""));
            problems
                .error(&text.span, error.to_string())
                .why("a range is its first and its last address, with a hyphen between them")
                .remedy(format!("write `{}-{}`", last.trim(), first.trim()));
            None
        }
    }
}
