//! The routers of a link: gateways, and those that are the way to a part of the realm only. All are on the link, because a
//! frame goes no further.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::addresses::{not_unicast, report_zone};
use super::listed;
use crate::config::diagnostic::Problems;
use crate::config::model::PortRoute;
use crate::config::raw;
use crate::config::section::At;
use crate::config::spec::port::MAX_NEXT_HOPS;
use crate::config::validate::networks::parse_prefix;

/// Those without mistakes.
pub struct NextHops {
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<PortRoute>,
    pub route_spans: Vec<Range<usize>>,
}

impl NextHops {
    /// `own`: `None` where they are wrong; then nobody can say what is on the link.
    pub fn read(port: &raw::Port, own: Option<&[At<IpNet>]>, problems: &mut Problems) -> Self {
        let own: Option<Vec<IpNet>> = own.map(|own| own.iter().map(|at| at.value).collect());
        let own = own.as_deref();
        let mut seen: HashMap<IpAddr, &Range<usize>> = HashMap::new();
        let mut gateways = Vec::new();
        for text in port.gateways.iter().flat_map(|list| &list.value) {
            let Some(gateway) = next_hop(text, "the gateway", own, problems) else { continue };
            if let Some(first) = seen.insert(gateway, &text.span) {
                problems
                    .error(&text.span, format!("{gateway} is a gateway already"))
                    .why("a router is one way, however often it is named")
                    .remedy("remove one of them")
                    .also(first, "the first one is here");
            }
            gateways.push(gateway);
        }
        let mut hops = NextHops { gateways, routes: Vec::new(), route_spans: Vec::new() };
        hops.read_routes(port, own, problems);
        let vias = hops.routes.iter().map(|route| route.via);
        let routers: HashSet<IpAddr> = hops.gateways.iter().copied().chain(vias).collect();
        if routers.len() > MAX_NEXT_HOPS {
            problems
                .error(&port.span, format!("the port has {} routers", routers.len()))
                .why(format!("each is asked all the time whether it is there; at most {MAX_NEXT_HOPS} are"))
                .remedy("let some of the link's routers pass on what is behind the others");
        }
        hops
    }

    fn read_routes(&mut self, port: &raw::Port, own: Option<&[IpNet]>, problems: &mut Problems) {
        let mut seen: HashMap<(IpNet, IpAddr), &Range<usize>> = HashMap::new();
        for raw in &port.routes {
            let (Some(prefix_text), Some(via_text)) = (&raw.prefix, &raw.via) else { continue };
            if prefix_text.value == "default" {
                problems
                    .error(&prefix_text.span, "a route for everything else is `gateway`")
                    .why("`routes` are for parts of the realm; what they do not name goes to a gateway")
                    .remedy(format!("write `gateway = \"{}\"`, and remove the route", via_text.value));
                continue;
            }
            let prefix: Option<IpNet> = parse_prefix(prefix_text, "10.1.0.0/16", problems);
            let is_other = |prefix: IpNet| {
                via_text.value.parse::<IpAddr>().is_ok_and(|via| via.is_ipv4() != prefix.addr().is_ipv4())
            };
            if let Some(prefix) = prefix.filter(|prefix| is_other(*prefix)) {
                problems
                    .error(&via_text.span, format!("{prefix} and {} are of different address families", via_text.value))
                    .why("an IPv4 packet goes by an IPv4 router, and an IPv6 packet by an IPv6 one")
                    .remedy("name the router's address of the other family");
                continue;
            }
            let via = next_hop(via_text, "the next hop", own, problems);
            let (Some(prefix), Some(via)) = (prefix, via) else { continue };
            if let Some(first) = seen.insert((prefix, via), &prefix_text.span) {
                problems
                    .error(&prefix_text.span, format!("{prefix} by {via} is a route already"))
                    .why("the same prefix may be written again for another router only")
                    .remedy("remove one of them")
                    .also(first, "the first one is here");
            }
            self.routes.push(PortRoute { prefix, via });
            self.route_spans.push(prefix_text.span.clone());
        }
    }
}

fn next_hop(text: &At<String>, what: &str, own: Option<&[IpNet]>, problems: &mut Problems) -> Option<IpAddr> {
    let Ok(address) = text.value.parse::<IpAddr>() else {
        report_unreadable(text, problems);
        return None;
    };
    let ends = |net: &&IpNet| {
        net.addr().is_ipv4()
            && net.prefix_len() <= 30
            && [net.network(), net.broadcast()].contains(&address)
            && net.contains(&address)
    };
    let own = own.unwrap_or_default();
    let why = not_unicast(address).or(own
        .iter()
        .find(ends)
        .map(|_| "it is the first or the last address of the link: that of the network, or of all hosts on it"));
    if let Some(why) = why {
        problems
            .error(&text.span, format!("{address} cannot be {what}"))
            .why(why)
            .remedy("write the address of the carrier's router on the link");
        return None;
    }
    if own.iter().any(|net| net.addr() == address) {
        problems
            .error(&text.span, format!("{what} is our own address"))
            .why("a packet to ourselves would go nowhere")
            .remedy("write the address of the carrier's router on the link");
        return None;
    }
    if !own.is_empty() && !is_on_link(address, own) {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let of_family: Vec<IpNet> =
            own.iter().filter(|net| net.addr().is_ipv4() == address.is_ipv4()).copied().collect();
        let prefixes = match of_family.is_empty() {
            true => format!("we have no {family} address on this link"),
            false => format!("the link's {family} prefixes are {}", listed(&of_family)),
        };
        let is_alone = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
        problems
            .error(&text.span, format!("{what} {address} is not on the link"))
            .why(format!("a frame reaches who is on the link only, and {prefixes}"))
            .remedy(match (of_family.is_empty(), address.is_ipv4()) {
                (true, false) => {
                    "add our IPv6 address to `address`; where the carrier gave none, a link-local one, for example `fe80::2/64`"
                }
                (false, true) if of_family.iter().all(is_alone) => {
                    "a /32 is our address alone: write the length of the link, /31 or /30 where it is us and one router"
                }
                (false, false) if of_family.iter().all(is_alone) => {
                    "a /128 is our address alone: write the length of the link, for example /64 or /127, or the router's \
                     link-local address as the gateway"
                }
                _ => "compare the address and the prefix length with what the carrier gave",
            });
        return None;
    }
    Some(address)
}

fn report_unreadable(text: &At<String>, problems: &mut Problems) {
    if report_zone(text, problems) {
        return;
    }
    let remedy = match text.value.parse::<IpNet>() {
        Ok(net) => format!("write `{}`", net.addr()),
        Err(_) => "write for example `172.20.0.1`".to_owned(),
    };
    problems
        .error(&text.span, "this is not an IP address")
        .why("a router of the link is named by its address, without a prefix length")
        .remedy(remedy);
}

/// A port that has an IPv6 address has a link-local one, too: that given, or one that it makes of its hardware address.
fn is_on_link(address: IpAddr, own: &[IpNet]) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let has_link_local = own.iter().any(|net| net.addr().is_ipv6());
    (is_link_local && has_link_local) || own.iter().any(|net| net.contains(&address))
}
