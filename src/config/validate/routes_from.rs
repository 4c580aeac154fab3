//! `routes_from`: a namespace for each realm alone, and a daemon that speaks as somebody whom the realm's routers can reach.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::networks::parse_prefix;
use super::plain_ports::interface_name;
use crate::config::diagnostic::Problems;
use crate::config::model::{Attachment, Peer, PortPeer, RealmRef, RoutesFrom, Selectors};
use crate::config::raw::{self, Raw};
use crate::config::section::At;

const DEFAULT_MAX_PREFIXES: u64 = 1000;
/// Of a file's name.
const MAX_NAMESPACE_BYTES: usize = 255;

/// By realm. `attachments`: those that are right.
pub fn routes_from(
    raw: &Raw,
    attachments: &[Vec<Attachment>],
    default_realm: Option<RealmRef>,
    problems: &mut Problems,
) -> Vec<Option<RoutesFrom>> {
    let mut seen = HashMap::new();
    let mut read = |(index, realm): (usize, &raw::Realm)| {
        let written = realm.routes_from.as_ref()?;
        if default_realm == Some(RealmRef(index)) {
            problems
                .error(&written.span, "the default realm cannot take networks from a routing daemon")
                .why("it has every address that nobody else has already")
                .remedy("remove `routes_from`, or `\"default\"` from its networks");
            return None;
        }
        let of_realm = attachments.get(index).map_or(&[][..], Vec::as_slice);
        check_attachments(written, realm, of_realm, problems);
        let read = read_one(written, of_realm, problems)?;
        let namespace = written.namespace.as_ref()?;
        match seen.get(&namespace.value) {
            Some(first) => {
                problems
                    .error(
                        &namespace.span,
                        format!("a second realm takes its networks from the namespace `{}`", namespace.value),
                    )
                    .why("one routing table cannot hold what two realms say of the same addresses")
                    .remedy("give each realm a namespace, and a daemon in it, of its own")
                    .also(first, "the first one is here");
            }
            None => _ = seen.insert(namespace.value.clone(), namespace.span.clone()),
        }
        Some(read)
    };
    raw.realms.iter().enumerate().map(&mut read).collect()
}

fn check_attachments(written: &raw::RoutesFrom, realm: &raw::Realm, of_realm: &[Attachment], problems: &mut Problems) {
    if realm.attachments.is_empty() {
        problems
            .error(&written.span, "`routes_from` without an attachment")
            .why("the daemon's packets have no way to the realm's routers")
            .remedy("add a [[realm.attach]]");
    }
    if of_realm.iter().filter_map(Attachment::ipsec).any(|peer| peer.selectors != Selectors::Any) {
        problems
            .error(&written.span, "learned networks are outside the selectors of this realm's IPsec peer")
            .why("what the peer agrees to is fixed when the tunnel is made, and networks come and go")
            .remedy("write `selectors = \"any\"` under `ipsec`, on both sides");
    }
}

fn read_one(written: &raw::RoutesFrom, of_realm: &[Attachment], problems: &mut Problems) -> Option<RoutesFrom> {
    let before = problems.error_count();
    let namespace = written.namespace.as_ref().and_then(|text| namespace(text, problems));
    let tun = written.tun.as_ref().and_then(|text| interface_name(text, problems));
    let local = addresses(written.local.as_ref()?, problems);
    let peers = addresses(written.peers.as_ref()?, problems);
    let ports: Vec<&PortPeer> = of_realm.iter().filter_map(port).collect();
    check_local(&local, &ports, problems);
    check_peers(&peers, &local, &ports, problems);
    let allow = written.allow.as_ref().map_or_else(Vec::new, |list| allow(&list.value, problems));
    if problems.error_count() == before && written.allow.is_some() == written.has_allow {
        warn_of_ipv6(&local, &peers, &allow, written, problems);
    }
    (problems.error_count() == before && written.has_allow == written.allow.is_some()).then_some(())?;
    Some(RoutesFrom {
        namespace: namespace?,
        tun: tun?,
        local: local.into_iter().map(|at| at.value).collect(),
        peers: peers.into_iter().map(|at| at.value).collect(),
        allow,
        max_prefixes: written.max_prefixes.as_ref().map_or(DEFAULT_MAX_PREFIXES, |number| number.value) as usize,
        max_alias_addresses: written.max_alias_addresses.as_ref().map(|number| number.value),
    })
}

fn port(attachment: &Attachment) -> Option<&PortPeer> {
    match &attachment.peer {
        Peer::Port(port) => Some(port),
        _ => None,
    }
}

/// A file of that name is in /run/netns.
fn namespace(text: &At<String>, problems: &mut Problems) -> Option<String> {
    let name = text.value.as_str();
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if name.len() <= MAX_NAMESPACE_BYTES && ![".", ".."].contains(&name) && !name.contains(is_bad) {
        return Some(name.to_owned());
    }
    problems
        .error(&text.span, "this cannot be the name of a network namespace")
        .why("it is the name of a file in /run/netns, at most 255 bytes without slashes and spaces")
        .remedy("write what `ip netns list` shows, for example `bgp-x`");
    None
}

fn addresses(list: &At<Vec<At<String>>>, problems: &mut Problems) -> Vec<At<IpAddr>> {
    let mut addresses: Vec<At<IpAddr>> = Vec::new();
    for text in &list.value {
        let Some(value) = address(text, problems) else { continue };
        match addresses.iter().find(|other| other.value == value) {
            Some(first) => {
                let first: Range<usize> = first.span.clone();
                problems
                    .error(&text.span, format!("{value} is named twice"))
                    .remedy("remove one of them")
                    .also(&first, "the first one is here");
            }
            None => addresses.push(At { value, span: text.span.clone() }),
        }
    }
    addresses
}

fn address(text: &At<String>, problems: &mut Problems) -> Option<IpAddr> {
    let Ok(address) = text.value.parse::<IpAddr>() else {
        problems
            .error(&text.span, "this is not an IP address")
            .why("BGP is spoken from one address to another")
            .remedy("write for example `172.20.0.1`");
        return None;
    };
    let is_host = match address {
        IpAddr::V4(address) => !address.is_broadcast() && address.octets()[0] != 0,
        IpAddr::V6(address) => address.to_ipv4_mapped().is_none(),
    };
    if is_host && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast() {
        return Some(address);
    }
    problems
        .error(&text.span, format!("{address} is no router's address"))
        .why("nobody on a network can have it")
        .remedy("write for example `172.20.0.1`");
    None
}

/// On a link only who has an address is answered.
fn check_local(local: &[At<IpAddr>], ports: &[&PortPeer], problems: &mut Problems) {
    if ports.is_empty() {
        return;
    }
    let own = || ports.iter().flat_map(|port| &port.addresses).map(IpNet::addr);
    for address in local.iter().filter(|address| !own().any(|own| own == address.value)) {
        let list: Vec<String> = own().map(|own| own.to_string()).collect();
        problems
            .error(&address.span, format!("{} is no address of the realm's port", address.value))
            .why("the daemon speaks as the port does: the link knows us by no other address")
            .remedy(format!("write {}, or add the address to the port", list.join(" or ")));
    }
}

fn check_peers(peers: &[At<IpAddr>], local: &[At<IpAddr>], ports: &[&PortPeer], problems: &mut Problems) {
    let links: Vec<IpNet> = ports.iter().flat_map(|port| &port.addresses).map(IpNet::trunc).collect();
    for peer in peers {
        if let Some(own) = local.iter().find(|own| own.value == peer.value) {
            let own = own.span.clone();
            problems
                .error(&peer.span, format!("{} is among our own", peer.value))
                .why("nobody speaks BGP with himself")
                .remedy("write the address of the realm's router")
                .also(&own, "here");
        } else if !local.is_empty() && !local.iter().any(|own| own.value.is_ipv4() == peer.value.is_ipv4()) {
            problems
                .error(&peer.span, format!("no address in `local` is of the IP version of {}", peer.value))
                .why("both ends of a TCP connection are of one IP version")
                .remedy("add one to `local`, or remove this peer");
        } else if !links.is_empty() && !links.iter().any(|link| link.contains(&peer.value)) {
            problems
                .error(&peer.span, format!("{} is not on the link", peer.value))
                .why("the daemon speaks with the routers of the port's own link, in whose prefixes it is not")
                .remedy("write the router's address on the link, or correct the port's `address`");
        }
    }
}

fn allow(texts: &[At<String>], problems: &mut Problems) -> Vec<IpNet> {
    let mut read = |text: &At<String>| {
        let net: IpNet = parse_prefix(text, "10.0.0.0/8", problems)?;
        if net.prefix_len() > 0 || net.addr().is_ipv4() {
            return Some(net);
        }
        problems
            .error(&text.span, "this allows every IPv6 network")
            .why("everybody sees IPv6 networks as they are, those of other realms and of the Internet among them")
            .remedy("name the prefixes that the realm's IPv6 networks lie in, for example `2001:db8:a::/48`");
        None
    };
    texts.iter().filter_map(&mut read).collect()
}

/// Who speaks by IPv6 most likely announces some.
fn warn_of_ipv6(
    local: &[At<IpAddr>],
    peers: &[At<IpAddr>],
    allow: &[IpNet],
    written: &raw::RoutesFrom,
    problems: &mut Problems,
) {
    let speaks_ipv6 = local.iter().chain(peers).any(|address| address.value.is_ipv6());
    if speaks_ipv6 && !allow.iter().any(|net| net.addr().is_ipv6()) {
        let span = written.allow.as_ref().map_or(&written.span, |list| &list.span);
        problems
            .warning(span, "every IPv6 prefix that the daemon learns is refused")
            .why("everybody sees IPv6 networks as they are, so the file has to say which of them are this realm's")
            .remedy("add the prefixes that they lie in to `allow`, for example `2001:db8:a::/48`");
    }
}
