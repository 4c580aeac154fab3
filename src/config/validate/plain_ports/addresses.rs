//! Our own addresses on a link, each with the link's prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::diagnostic::Problems;
use crate::config::section::At;

const EXAMPLE4: &str = "172.20.0.2/30";
const EXAMPLE6: &str = "2001:db8:9::2/64";
/// No link is wider.
const MIN_PREFIX_LEN4: u8 = 8;
const MIN_PREFIX_LEN6: u8 = 32;

/// `None`: some of them are wrong.
pub fn addresses(list: &At<Vec<At<String>>>, problems: &mut Problems) -> Option<Vec<At<IpNet>>> {
    let before = problems.error_count();
    let mut addresses: Vec<At<IpNet>> = Vec::new();
    for text in &list.value {
        let Some(value) = address(text, problems) else { continue };
        let shares = |other: &&At<IpNet>| other.value.contains(&value.addr()) || value.contains(&other.value.addr());
        if let Some(other) = addresses.iter().find(shares) {
            problems
                .error(&text.span, format!("a second address in {}", wider(value, other.value).trunc()))
                .why("one of them would do everything, and the other nothing")
                .remedy("keep one address for each prefix of the link")
                .also(&other.span, "the first one is here");
        }
        addresses.push(At { value, span: text.span.clone() });
    }
    (problems.error_count() == before && !addresses.is_empty()).then_some(addresses)
}

fn wider(one: IpNet, other: IpNet) -> IpNet {
    if one.prefix_len() <= other.prefix_len() { one } else { other }
}

fn address(text: &At<String>, problems: &mut Problems) -> Option<IpNet> {
    let Ok(net) = text.value.parse::<IpNet>() else {
        report_unreadable(text, problems);
        return None;
    };
    let example = if net.addr().is_ipv4() { EXAMPLE4 } else { EXAMPLE6 };
    let min = if net.addr().is_ipv4() { MIN_PREFIX_LEN4 } else { MIN_PREFIX_LEN6 };
    if net.prefix_len() < min {
        problems
            .error(&text.span, format!("a link cannot be as wide as a /{}", net.prefix_len()))
            .why(format!("everything in its prefix would be looked for on the link; at least /{min}"))
            .remedy(format!("write the length that the carrier gave, for example `{example}`"));
        return None;
    }
    match unusable(net) {
        Some(why) => {
            problems
                .error(&text.span, format!("{} cannot be our own address", net.addr()))
                .why(why)
                .remedy(format!("write the address that the carrier gave to our side, for example `{example}`"));
            None
        }
        None => Some(net),
    }
}

fn report_unreadable(text: &At<String>, problems: &mut Problems) {
    let why = "the prefix says who else is on the link, and who is behind a router";
    if report_zone(text, problems) {
    } else if let Some(net) = with_mask(&text.value) {
        problems.error(&text.span, "the prefix length is written as a mask").why(why).remedy(format!("write `{net}`"));
    } else {
        let (what, example) = match text.value.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => ("the prefix length of the link is missing", EXAMPLE4),
            Ok(IpAddr::V6(_)) => ("the prefix length of the link is missing", EXAMPLE6),
            Err(_) => ("this is not an address with a prefix length", EXAMPLE4),
        };
        problems
            .error(&text.span, what)
            .why(why)
            .remedy(format!("write the address and the length that the carrier gave, for example `{example}`"));
    }
}

/// `172.20.0.2/255.255.255.252`, with a slash or a space.
fn with_mask(text: &str) -> Option<IpNet> {
    let (address, mask) = text.split_once(['/', ' '])?;
    let (address, mask) = (address.parse().ok()?, mask.trim().parse().ok()?);
    IpNet::with_netmask(address, mask).ok()
}

/// Reports `fe80::1%eth1`. Whether it is that.
pub fn report_zone(text: &At<String>, problems: &mut Problems) -> bool {
    let Some((address, behind)) = text.value.split_once('%') else { return false };
    let length = behind.find('/').map_or("", |at| &behind[at..]);
    let zone = &behind[..behind.len() - length.len()];
    if address.parse::<Ipv6Addr>().is_err() {
        return false;
    }
    problems
        .error(&text.span, "an address is written without its interface here")
        .why(format!(
            "`%{zone}` names an interface of the kernel; a port's addresses and routers are on the port's own link"
        ))
        .remedy(format!("write `{address}{length}`"));
    true
}

fn unusable(net: IpNet) -> Option<&'static str> {
    match net {
        IpNet::V4(net) => not_unicast4(net.addr()).or_else(|| {
            // Links of two addresses have neither (RFC 3021).
            let has_ends = net.prefix_len() <= 30;
            match net.addr() {
                address if has_ends && address == net.network() => Some("it is the name of the network itself"),
                address if has_ends && address == net.broadcast() => Some("it is the broadcast address of the link"),
                _ => None,
            }
        }),
        IpNet::V6(net) => not_unicast6(net.addr()).or_else(|| {
            let is_anycast = net.prefix_len() <= 126 && net.addr() == net.network();
            is_anycast.then_some("all routers of the link have it (the subnet-router anycast address, RFC 4291)")
        }),
    }
}

/// Why nobody on a link can have the address. Link-local ones are left to the caller.
pub fn not_unicast(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => not_unicast4(address),
        IpAddr::V6(address) => not_unicast6(address),
    }
}

/// 169.254.0.0/16 may be written: carriers number links out of it.
fn not_unicast4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets()[0] {
        0 => Some("0.0.0.0/8 means \"this network\"; no host has such an address"),
        127 => Some("127.0.0.0/8 is loopback; it never leaves a machine"),
        224..=239 => Some("224.0.0.0/4 is multicast; no host has such an address"),
        240.. => Some("240.0.0.0/4 is reserved; no host has such an address"),
        _ => None,
    }
}

fn not_unicast6(address: Ipv6Addr) -> Option<&'static str> {
    match address.octets()[0] {
        0 => Some("::/8 holds the unspecified, loopback and IPv4-mapped addresses; no host has them"),
        0xff => Some("ff00::/8 is multicast; no host has such an address"),
        _ => None,
    }
}
