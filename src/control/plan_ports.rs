//! Plain ports in a [`super::plan::Plan`]: what we are on each link, and what the carrier at its other end has to route to us.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::compile::Compiled;
use super::plan::{Plan, PlannedTunnel};
use super::plan_text::{listed, table};
use super::view::Views;
use crate::config::model::{Config, Peer, PortPeer};

/// A port, as both sides of the link have to know it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedPort {
    pub interface: String,
    pub vlan: Option<u16>,
    pub service_vlan: Option<u16>,
    /// Ours.
    pub addresses: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<PlannedRoute>,
    pub accept_ra: bool,
    pub proxy: bool,
    /// Of probes or, where there is one, of BFD.
    pub liveness: PlannedLiveness,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedRoute {
    pub prefix: IpNet,
    pub via: IpAddr,
}

impl fmt::Display for PlannedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.prefix, self.via)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedLiveness {
    /// "probes", "bfd-active" or "bfd-passive".
    pub by: &'static str,
    pub interval_ms: u64,
    pub multiplier: u8,
}

/// A network that is behind us, for who is at the other end of a port or a TUN device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Handoff {
    pub realm: String,
    /// As the tunnels have it.
    pub peer: String,
    pub prefix: IpNet,
    /// Our address to route it to; null for a TUN device, and where we have none of its family.
    pub via: Option<IpAddr>,
    /// Nothing has to be routed: we answer for the addresses on the link.
    pub proxy: bool,
}

/// What is behind us is said with at most so many networks, like traffic selectors.
const MOST_NETWORKS: usize = 256;
/// Those of one port that the table shows.
const HANDOFFS_SHOWN: usize = 20;

impl PlannedPort {
    pub(super) fn of(port: &PortPeer) -> Self {
        let (by, interval, multiplier) = match port.bfd {
            None => ("probes", port.liveness_interval, port.liveness_multiplier),
            Some(bfd) => (if bfd.is_active { "bfd-active" } else { "bfd-passive" }, bfd.interval, bfd.multiplier),
        };
        PlannedPort {
            interface: port.interface.clone(),
            vlan: port.vlan.customer,
            service_vlan: port.vlan.service,
            addresses: port.addresses.clone(),
            gateways: port.gateways.clone(),
            routes: port.routes.iter().map(|route| PlannedRoute { prefix: route.prefix, via: route.via }).collect(),
            accept_ra: port.accept_ra,
            proxy: port.proxy,
            liveness: PlannedLiveness { by, interval_ms: interval.as_millis() as u64, multiplier },
        }
    }
}

/// What a port or a TUN device is known by. `None`: it is a tunnel.
pub(super) fn place(peer: &Peer) -> Option<String> {
    match peer {
        Peer::Port(port) => Some(format!("{} {}", port.interface, port.vlan)),
        Peer::Tun(tun) => Some(tun.name.clone()),
        Peer::WireGuard(_) | Peer::Ipsec(_) => None,
    }
}

/// Port by port, in the order of the file.
pub(super) fn handoffs(config: &Config, compiled: &Compiled) -> Vec<Handoff> {
    let views = Views::new(config, compiled);
    let mut handoffs = Vec::new();
    for (realm, id) in config.realms.iter().zip(&compiled.realm_ids) {
        let mut behind_us = None;
        for attachment in &realm.attachments {
            let Some(peer) = place(&attachment.peer) else { continue };
            for prefix in behind_us.get_or_insert_with(|| views.of(*id, MOST_NETWORKS).ours) {
                let (via, proxy) = match &attachment.peer {
                    Peer::Port(port) => (own_address(port, prefix.addr().is_ipv4()), port.proxy),
                    _ => (None, false),
                };
                handoffs.push(Handoff { realm: realm.name.clone(), peer: peer.clone(), prefix: *prefix, via, proxy });
            }
        }
    }
    handoffs
}

/// The one that is on a link with the preferred gateway, if any; one that passes a router rather than one of the link only.
fn own_address(port: &PortPeer, is_ipv4: bool) -> Option<IpAddr> {
    let own = || port.addresses.iter().filter(|net| net.addr().is_ipv4() == is_ipv4);
    let gateway = port.gateways.iter().find(|gateway| gateway.is_ipv4() == is_ipv4);
    let beside = gateway.and_then(|gateway| own().find(|net| net.contains(gateway)));
    let is_link_local = |net: &&IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
    beside.or(own().find(|net| !is_link_local(net))).or(own().next()).map(IpNet::addr)
}

/// What the other side has to know.
pub(super) fn words(port: &PlannedPort) -> String {
    let gateways = match &port.gateways[..] {
        [] if port.accept_ra => "routers that announce themselves".to_string(),
        [] => "no gateway".to_string(),
        gateways => format!("gateway {}", listed(gateways)),
    };
    let routes = if port.routes.is_empty() { String::new() } else { format!(", {}", listed(&port.routes)) };
    let liveness = match port.liveness {
        _ if port.gateways.is_empty() && port.routes.is_empty() && !port.accept_ra => String::new(),
        PlannedLiveness { by: "probes", interval_ms, multiplier } => {
            format!(", asked every {interval_ms} ms x {multiplier}")
        }
        PlannedLiveness { by, interval_ms, multiplier } => {
            let who = if by == "bfd-active" { "we speak first" } else { "the router speaks first" };
            format!(", BFD every {interval_ms} ms x {multiplier} ({who})")
        }
    };
    format!("we are {}, {gateways}{routes}{liveness}", listed(&port.addresses))
}

/// What the link carries, and what we answer for on it. Empty for a tunnel.
pub(super) fn link_words(tunnel: &PlannedTunnel) -> String {
    let mtu = tunnel.mtu_bytes;
    match &tunnel.port {
        Some(port) if port.proxy => {
            format!(", MTU {mtu}, proxy (we answer ARP and neighbour discovery for all that the realm sees of others)")
        }
        Some(_) => format!(", MTU {mtu}"),
        None if tunnel.kind == "tun" => format!("  MTU {mtu}"),
        None => String::new(),
    }
}

/// The kernel is the router at the other end of a TUN device: what it has to be told.
pub(super) fn kernel_text(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let by_tun: Vec<&Handoff> = plan.handoffs.iter().filter(|handoff| is_tun(plan, handoff)).collect();
    if by_tun.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nWhat to type on this machine while ixgate runs, so that its kernel sends to the TUN devices")?;
    for of_device in by_tun.chunk_by(|one, other| one.peer == other.peer) {
        for Handoff { prefix, peer, .. } in of_device.iter().take(HANDOFFS_SHOWN) {
            let command = if prefix.addr().is_ipv4() { "ip route" } else { "ip -6 route" };
            writeln!(f, "  {command} replace {prefix} dev {peer}")?;
        }
        let more = of_device.len().saturating_sub(HANDOFFS_SHOWN);
        if let (Some(first), 1..) = (of_device.first(), more) {
            writeln!(f, "  # and {more} more into {} (--json has all, among \"handoffs\")", first.peer)?;
        }
    }
    Ok(())
}

pub(super) fn handoffs_text(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.handoffs.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nWhat is routed to us at the other end of each port")?;
    let is_same = |one: &Handoff, other: &Handoff| one.realm == other.realm && one.peer == other.peer;
    let (mut rows, mut more) = (Vec::new(), Vec::new());
    for of_port in plan.handoffs.chunk_by(is_same) {
        rows.extend(of_port.iter().take(HANDOFFS_SHOWN).map(|handoff| {
            let next_hop = match (handoff.proxy, handoff.via) {
                (_, None) if is_tun(plan, handoff) => format!("dev {}", handoff.peer),
                (_, None) if handoff.prefix.addr().is_ipv4() => "no IPv4 address of ours".to_string(),
                (_, None) => "no IPv6 address of ours".to_string(),
                (true, Some(_)) => "none (we answer on the link)".to_string(),
                (false, Some(via)) => via.to_string(),
            };
            [handoff.realm.clone(), handoff.peer.clone(), handoff.prefix.to_string(), next_hop]
        }));
        if let [first, ..] = of_port
            && of_port.len() > HANDOFFS_SHOWN
        {
            let cut = of_port.len() - HANDOFFS_SHOWN;
            more.push(format!("  ... and {cut} more of {} by {} (--json has all)", first.realm, first.peer));
        }
    }
    table(["realm", "port", "networks", "next hop"], rows, f)?;
    more.iter().try_for_each(|line| writeln!(f, "{line}"))
}

fn is_tun(plan: &Plan, handoff: &Handoff) -> bool {
    let mut tunnels = plan.tunnels.iter();
    tunnels.any(|tunnel| tunnel.kind == "tun" && tunnel.realm == handoff.realm && tunnel.peer == handoff.peer)
}

#[cfg(test)]
mod tests {
    use super::super::allocations::Allocations;
    use super::super::plan::plan;
    use super::super::sample::{Sample, port_peer};
    use super::*;
    use crate::config::model::{Bfd, PortRoute};
    use crate::net::policy::PortRule;

    fn sample(peer: PortPeer) -> Sample {
        Sample::new()
            .realm("a", &["192.168.1.0/24"])
            .realm("b", &["192.168.1.0/24", "fd00:b::/64"])
            .attach("b", Peer::Port(Box::new(peer)))
            .tun("a", "ix0")
            .grant_realm(&["a"], "b", &[PortRule::Any])
    }

    fn dual(interface: &str) -> PortPeer {
        PortPeer {
            addresses: ["172.20.9.2/24", "172.20.0.2/30", "fe80::2/64", "2001:db8:9::2/64"]
                .map(|net| net.parse().unwrap())
                .into(),
            ..port_peer(interface, 7)
        }
    }

    #[test]
    fn what_is_behind_us_is_routed_to_the_address_beside_the_gateway() {
        let plan = plan(&sample(dual("eth1")).build(), &Allocations::default()).unwrap();
        let rows: Vec<_> = plan
            .handoffs
            .iter()
            .map(|h| (h.realm.as_str(), h.peer.as_str(), h.prefix.to_string(), h.via.map(|via| via.to_string())))
            .collect();
        let row =
            |realm, peer, prefix: &str, via: Option<&str>| (realm, peer, prefix.to_owned(), via.map(str::to_owned));
        let (v4, v6) = (Some("172.20.0.2"), Some("2001:db8:9::2"));
        assert_eq!(
            rows,
            [
                row("a", "ix0", "100.64.0.0/24", None),
                row("a", "ix0", "100.64.2.0/24", None),
                row("b", "eth1 VLAN 7", "100.64.0.0/24", v4),
                row("b", "eth1 VLAN 7", "fd69:7867:6174::/120", v6),
                row("b", "eth1 VLAN 7", "100.64.1.0/24", v4),
                row("b", "eth1 VLAN 7", "fd69:7867:6174:1::c0a8:100/120", v6),
            ]
        );
        assert_eq!(own_address(&port_peer("eth1", 7), false), None);
    }

    #[test]
    fn ports_are_listed_with_what_the_carrier_has_to_configure() {
        let mut peer = dual("eth1");
        peer.gateways.push("172.20.0.1".parse().unwrap());
        peer.bfd = Some(Bfd { is_active: true, interval: std::time::Duration::from_millis(100), multiplier: 3 });
        let text = plan(&sample(peer).build(), &Allocations::default()).unwrap().to_string();
        for lines in [
            "  a  tun ix0  MTU 1390\n",
            "  b  port eth1 VLAN 7  we are 172.20.9.2/24, 172.20.0.2/30, fe80::2/64, 2001:db8:9::2/64, gateway 172.20.0.1, \
             172.20.0.1, BFD every 100 ms x 3 (we speak first), MTU 1390\n",
            "\nWhat is routed to us at the other end of each port\n  \
             realm  port         networks                        next hop\n  \
             a      ix0          100.64.0.0/24                   dev ix0\n",
            "  b      eth1 VLAN 7  100.64.1.0/24                   172.20.0.2\n",
            "  b      eth1 VLAN 7  fd69:7867:6174::/120            2001:db8:9::2\n",
        ] {
            assert!(text.contains(lines), "{lines}in\n{text}");
        }
        let proxy = PortPeer { proxy: true, ..port_peer("eth1", 7) };
        let text = plan(&sample(proxy).build(), &Allocations::default()).unwrap().to_string();
        assert!(text.contains("eth1 VLAN 7  100.64.1.0/24                   none (we answer on the link)\n"), "{text}");
        assert!(text.contains("fd69:7867:6174::/120            no IPv6 address of ours\n"), "{text}");
    }

    #[test]
    fn what_is_behind_other_routers_is_listed_with_them() {
        let route = |number: u8| PortRoute {
            prefix: format!("10.20.{number}.0/24").parse().unwrap(),
            via: "172.20.0.3".parse().unwrap(),
        };
        let text = |count| {
            let peer = PortPeer { routes: (0..count).map(route).collect(), ..port_peer("eth1", 7) };
            plan(&sample(peer).build(), &Allocations::default()).unwrap().to_string()
        };
        let two = "gateway 172.20.0.1, 10.20.0.0/24 via 172.20.0.3, 10.20.1.0/24 via 172.20.0.3, asked every";
        assert!(text(2).contains(two), "{}", text(2));
        assert!(text(9).contains("10.20.3.0/24 via 172.20.0.3 and 5 more, asked every"), "{}", text(9));
    }

    #[test]
    fn what_may_be_learned_is_said_with_its_bounds() {
        let sample = Sample::new().realm("a", &[]).port("a", "eth1", 7).routes_from("a", 1000);
        let mut config = sample.realm("b", &[]).routes_from("b", 10).build();
        let from = config.realms[0].routes_from.as_mut().unwrap();
        from.allow = ["10.0.0.0/8", "2001:db8:a::/48"].map(|net| net.parse().unwrap()).into();
        from.max_alias_addresses = Some(65_536);
        let text = plan(&config, &Allocations::default()).unwrap().to_string();
        for line in [
            "  a  up to 1000 prefixes in 10.0.0.0/8, 2001:db8:a::/48, with 65536 addresses of alias4 at most, from the namespace bgp-a, \
             by ix0 with 172.20.0.1\n",
            "  b  up to 10 prefixes of any IPv4, with 1048576 addresses of alias4 at most, from the namespace bgp-b",
        ] {
            assert!(text.contains(line), "{line}in\n{text}");
        }
    }

    #[test]
    fn what_is_answered_for_on_the_link_and_its_mtu_are_said() {
        let of = |peer| {
            let mut config = sample(peer).build();
            config.realms[1].attachments[0].mtu_bytes = 1600;
            let plan = plan(&config, &Allocations::default()).unwrap();
            let text = plan.to_string();
            text.lines().find(|line| line.starts_with("  b  port")).unwrap().to_owned()
        };
        let plain = of(port_peer("eth1", 7));
        assert!(plain.ends_with(", MTU 1600"), "{plain}");
        let proxy = of(PortPeer { proxy: true, ..port_peer("eth1", 7) });
        assert!(
            proxy.ends_with(
                ", MTU 1600, proxy (we answer ARP and neighbour discovery for all that the realm sees of others)"
            ),
            "{proxy}"
        );
    }

    #[test]
    fn the_kernel_is_told_what_is_behind_a_tun_device() {
        let sample = sample(port_peer("eth1", 7)).tun("b", "ix1");
        let text = plan(&sample.build(), &Allocations::default()).unwrap().to_string();
        let lines = "\nWhat to type on this machine while ixgate runs, so that its kernel sends to the TUN devices\n  \
             ip route replace 100.64.0.0/24 dev ix0\n  ip route replace 100.64.2.0/24 dev ix0\n  \
             ip route replace 100.64.0.0/24 dev ix1\n  ip -6 route replace fd69:7867:6174::/120 dev ix1\n  \
             ip route replace 100.64.1.0/24 dev ix1\n  \
             ip -6 route replace fd69:7867:6174:1::c0a8:100/120 dev ix1\n\n";
        assert!(text.contains(lines), "{text}");
        let none = Sample::new().realm("a", &["10.0.0.0/24"]).port("a", "eth1", 7);
        assert!(!plan(&none.build(), &Allocations::default()).unwrap().to_string().contains("What to type"));
        let names: Vec<String> = (0..40).map(|i| format!("r{i}")).collect();
        let many = names.iter().fold(Sample::new().realm("hub", &["10.0.0.0/24"]).tun("hub", "ix0"), |sample, name| {
            sample.realm(name, &["192.168.1.0/24"])
        });
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let many = plan(&many.grant_realm(&names, "hub", &[PortRule::Any]).build(), &Allocations::default()).unwrap();
        let text = many.to_string();
        assert_eq!(text.matches("ip route replace").count(), HANDOFFS_SHOWN);
        assert!(text.contains("  # and 21 more into ix0 (--json has all"), "{text}");
    }

    #[test]
    fn many_networks_are_cut_and_said_to_be() {
        let mut sample = Sample::new().realm("hub", &["10.0.0.0/24"]).port("hub", "eth1", 7);
        let names: Vec<String> = (0..40).map(|i| format!("r{i}")).collect();
        for name in &names {
            sample = sample.realm(name, &["192.168.1.0/24"]);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plan = plan(&sample.grant_realm(&names, "hub", &[PortRule::Any]).build(), &Allocations::default()).unwrap();
        assert_eq!(plan.handoffs.len(), 41);
        assert!(plan.to_string().contains("  ... and 21 more of hub by eth1 VLAN 7 (--json has all)\n"), "{plan}");
    }

    #[test]
    fn priorities_are_said_where_they_are_not_the_order_of_the_file() {
        let mut config = sample(port_peer("eth1", 7)).wireguard("b", 0).build();
        let text = |config: &Config| plan(config, &Allocations::default()).unwrap().to_string();
        assert!(!text(&config).contains("priority"), "{}", text(&config));
        for attachment in &mut config.realms[1].attachments {
            (attachment.priority, attachment.weight) = (3, 2);
        }
        let text = text(&config);
        assert!(text.contains("  b  port eth1 VLAN 7  priority 3, weight 2  we are"), "{text}");
        assert!(text.contains("=  priority 3, weight 2  it calls"), "{text}");
    }
}
