//! Ports and TUN devices in words, for a terminal.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::quantity::{count, duration};
use super::status::TunnelState;
use super::status_port::{AddressStatus, NextHopStatus, PortStatus};

/// Routers that are printed; beyond, it says how many are left out.
const MAX_NEXT_HOPS_SHOWN: usize = 16;

/// Under the lines that every attachment has.
pub fn section(port: &PortStatus) -> String {
    let mut text = String::new();
    let unknown = if port.not_open.is_some() { "none" } else { "not known yet" };
    let note = port.driver_note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
    let _ = writeln!(text, "  driver           {}{note}", port.driver.as_deref().unwrap_or(unknown));
    let mtu = port.link_mtu_bytes.map_or_else(|| "not known yet".to_owned(), |bytes| format!("{bytes} bytes"));
    let we_are = port.mac.as_ref().map_or_else(String::new, |mac| format!("we are {mac}, "));
    let _ = writeln!(text, "  link             {we_are}MTU {mtu}");
    for address in &port.addresses {
        let _ = writeln!(text, "  our address      {}", address_words(address));
    }
    for hop in port.next_hops.iter().take(MAX_NEXT_HOPS_SHOWN) {
        let _ = writeln!(text, "  next hop         {}", hop_words(hop));
    }
    if port.next_hops.len() > MAX_NEXT_HOPS_SHOWN {
        let _ = writeln!(text, "  ... {} more next hops; see --json", port.next_hops.len() - MAX_NEXT_HOPS_SHOWN);
    }
    if port.neighbours_max > 0 {
        text.push_str(&neighbour_lines(port));
    }
    text
}

fn neighbour_lines(port: &PortStatus) -> String {
    let mut text = String::new();
    let (known, most) = (count(port.neighbours as u64), count(port.neighbours_max as u64));
    let waiting = match port.waiting_packets {
        0 => String::new(),
        packets => format!("; {} packets wait for others", count(packets as u64)),
    };
    let _ = writeln!(text, "  neighbours       {known} of at most {most}{waiting}");
    let counts = &port.counts;
    let _ = writeln!(
        text,
        "  so far           {} ARP and ND messages, {} of them ignored as too many; {} packets without a neighbour; {} pings \
         answered",
        count(counts.neighbour_messages),
        count(counts.neighbour_messages_over_limit),
        count(counts.unresolved),
        count(counts.echoes),
    );
    let _ = writeln!(
        text,
        "                   {} address conflicts; {} next hops came or went; {} neighbours changed their hardware address",
        count(counts.conflicts),
        count(counts.switches),
        count(counts.mac_changes),
    );
    text
}

fn address_words(address: &AddressStatus) -> String {
    let AddressStatus { address, state, other_mac } = address;
    match (state.as_str(), other_mac) {
        ("duplicate", Some(mac)) => format!("{address}, not used: {mac} has it, too"),
        ("duplicate", None) => format!("{address}, not used: somebody else has it, too"),
        ("probing", _) => format!("{address}, being probed: not used yet"),
        _ => format!("{address}, ours"),
    }
}

fn hop_words(hop: &NextHopStatus) -> String {
    let since =
        hop.since_secs_ago.map_or_else(String::new, |secs| format!(" for {}", duration(Duration::from_secs(secs))));
    let state = match (hop.alive, hop.held_back_secs, hop.since_secs_ago) {
        (true, ..) => format!("alive{since}"),
        (false, Some(secs), _) => format!("answers, held back for {}", duration(Duration::from_secs(secs))),
        (false, None, Some(_)) => format!("dead{since}"),
        (false, None, None) => "not heard of yet".to_owned(),
    };
    let used = if hop.used { ", used" } else { "" };
    let at = hop.mac.as_ref().map_or_else(|| ", hardware address unknown".to_owned(), |mac| format!(", at {mac}"));
    let watched = match &hop.bfd {
        Some(state) => format!("BFD ({state})"),
        None => hop.watched_by.clone(),
    };
    format!("{}, {state}{used}{at}, watched by {watched}", hop.address)
}

/// The IP version that a port does not carry, while it carries the other, and why.
pub fn version_down(port: &PortStatus) -> Option<(&'static str, &'static str)> {
    if port.down.is_some() {
        return None;
    }
    let (name, why, is_it): (_, _, fn(&IpAddr) -> bool) = match (&port.down_ipv4, &port.down_ipv6) {
        (Some(why), _) => ("IPv4", why, IpAddr::is_ipv4),
        (None, Some(why)) => ("IPv6", why, IpAddr::is_ipv6),
        (None, None) => return None,
    };
    let is_taken = port.addresses.iter().any(|own| is_it(&own.address) && own.other_mac.is_some());
    match why.as_str() {
        "no_address" if is_taken => Some((name, "somebody else has our address")),
        "no_address" => Some((name, "our address is being probed")),
        _ => Some((name, "none of its next hops is alive")),
    }
}

/// What `status` says to do about a port that is down; docs/operators.md says more.
pub fn remedy(port: &PortStatus, state: TunnelState) -> Option<String> {
    let interface = &port.interface;
    match state {
        TunnelState::NotOpen => port.not_open.clone(),
        TunnelState::NoLink => Some(format!(
            "look at `ip link show {interface}`: set it up (`ip link set {interface} up`), then look at cable and far end"
        )),
        TunnelState::NoAddress => Some("wait: others on the link are asked whether they have it (seconds)".to_owned()),
        TunnelState::DuplicateAddress => {
            Some("find who has the hardware address below, or ask the carrier for another address".to_owned())
        }
        TunnelState::NoNextHop => {
            Some("compare VLAN, addresses and prefix length with the carrier; let it ping our address".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::port_realm;
    use super::super::source::{InterfaceState, NotOpen, PeerName};
    use super::super::status::Status;
    use super::super::status_text::{details, overview};
    use crate::dataplane::report::{AddressStatus, Down};
    use crate::net::{Mac, PerVersion};

    fn of(source: &super::super::source::Source) -> (Status, String) {
        let status = Status::of(source, std::time::Duration::from_secs(60));
        let text = details(&status, status.realm("region-a").unwrap());
        (status, text)
    }

    #[test]
    fn a_port_is_told_to_its_next_hops() {
        let (status, text) = of(&port_realm());
        let section = text.split("\nport ").nth(1).unwrap();
        assert!(
            section.starts_with(
                "\
eth1 VLAN 100: up
  last data        2 s ago
  received         1.5 MB in 1,053 packets
  sent             900 B in 10 packets
  driver           AF_PACKET ring
  link             we are 02:00:00:00:00:09, MTU 1500 bytes
  our address      172.20.0.2, ours
  next hop         172.20.0.1, alive for 1 min 0 s, used, at 02:00:00:00:00:01, watched by probes
  next hop         172.20.0.3, dead for 1 min 0 s, hardware address unknown, watched by probes
  neighbours       1 of at most 1,024; 2 packets wait for others
  so far           90 ARP and ND messages, 7 of them ignored as too many; 4 packets without a neighbour; 3 pings answered
                   1 address conflicts; 2 next hops came or went; 5 neighbours changed their hardware address
"
            ),
            "{section}"
        );
        assert!(overview(&status).contains("region-a    eth1 VLAN 100  up                    yes          -         "));
    }

    #[test]
    fn a_hop_that_flaps_answers_and_says_for_how_long_it_is_held_back() {
        let mut source = port_realm();
        let until = source.path.made_at + std::time::Duration::from_millis(11_200);
        source.path.tunnels[0].port.as_mut().unwrap().next_hops[1].held_until = Some(until);
        let (status, text) = of(&source);
        assert!(text.contains("  next hop         172.20.0.3, answers, held back for 12 s, hardware"), "{text}");
        let json = serde_json::to_string(&status).unwrap();
        assert!(json.contains(r#""held_back_secs":12"#) && json.contains(r#""held_back_secs":null"#), "{json}");
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn a_port_that_is_down_says_why_and_what_to_do() {
        for (down, words, remedy) in [
            (Down::NoLink, "down, no link", "  what to do       look at `ip link show eth1`: "),
            (Down::NoAddress, "down, our address is being probed", "  what to do       wait: "),
            (Down::NoNextHop, "down, no next hop answers", "  what to do       compare VLAN, "),
        ] {
            let mut source = port_realm();
            source.path.tunnels[0].up = false;
            source.path.tunnels[0].port.as_mut().unwrap().down = Some(down);
            let (status, text) = of(&source);
            assert!(text.contains(&format!("\nport eth1 VLAN 100: {words}\n{remedy}")), "{text}");
            assert!(overview(&status).contains(&format!("eth1 VLAN 100  {words} ")), "{}", overview(&status));
        }
    }

    #[test]
    fn an_interface_that_is_not_open_says_why_and_when_it_is_opened() {
        for (at_next_start, when) in [(false, "it is opened by itself then"), (true, "at the next start of ixgate")] {
            let mut source = port_realm();
            source.path.tunnels[0].up = false;
            source.path.tunnels[0].port.as_mut().unwrap().down = Some(Down::NoLink);
            let not_open = NotOpen { why: "there is no eth1; plug it in".to_owned(), at_next_start };
            source.interfaces[0].driver = Err(not_open);
            let (status, text) = of(&source);
            let start = "\nport eth1 VLAN 100: down, not open\n  what to do       there is no eth1; plug it in; ";
            assert!(
                text.contains(start) && text.contains(when) && text.contains("  driver           none\n"),
                "{text}"
            );
            let heading = overview(&status);
            assert!(
                heading.contains("ports      eth1 (not open)\n") && heading.contains("down, not open"),
                "{heading}"
            );
            let json = serde_json::to_string(&status).unwrap();
            assert!(
                json.contains(r#""state":"not_open""#) && json.contains(r#""not_open":"there is no eth1;"#),
                "{json}"
            );
            assert!(json.contains(&format!(r#""opens_at_next_start":{at_next_start}"#)), "{json}");
        }
    }

    #[test]
    fn a_driver_that_is_not_what_was_asked_for_says_why() {
        let mut source = port_realm();
        source.interfaces[0].driver.as_mut().unwrap().note = Some("AF_XDP was asked for, ...".to_owned());
        let (status, text) = of(&source);
        assert!(text.contains("  driver           AF_PACKET ring (AF_XDP was asked for, ...)\n"), "{text}");
        let json = serde_json::to_string(&status).unwrap();
        assert!(json.contains(r#""driver":"AF_PACKET ring","driver_note":"AF_XDP was asked for, ...""#), "{json}");
        assert!(overview(&status).contains("ports      eth1 (AF_PACKET ring)\n"));
    }

    #[test]
    fn a_daemons_device_is_not_taken_for_a_realms() {
        let mut source = port_realm();
        let not_open = NotOpen { why: "no namespace".to_owned(), at_next_start: false };
        let daemons = InterfaceState { name: "eth1".to_owned(), what: InterfaceState::DAEMONS, driver: Err(not_open) };
        source.interfaces.insert(0, daemons);
        assert!(of(&source).1.contains("  driver           AF_PACKET ring\n"));
    }

    #[test]
    fn an_ip_version_that_is_down_is_told_beside_the_one_that_is_up() {
        let (taken, hop) = (Some(Down::NoAddress), Some(Down::NoNextHop));
        for (v4, v6, other, words) in [
            (hop, None, None, "IPv4 down: none of its next hops is alive"),
            (None, hop, None, "IPv6 down: none of its next hops is alive"),
            (taken, None, None, "IPv4 down: our address is being probed"),
            (taken, None, Some(Mac([2, 0, 0, 0, 0, 7])), "IPv4 down: somebody else has our address"),
        ] {
            let mut source = port_realm();
            let port = source.path.tunnels[0].port.as_mut().unwrap();
            port.down_for = PerVersion { v4, v6 };
            port.addresses[0].other = other;
            let (status, text) = of(&source);
            assert!(text.contains(&format!("\nport eth1 VLAN 100: up; {words}\n")), "{text}");
            let short = format!("up; {}", words.split(':').next().unwrap());
            assert!(overview(&status).contains(&short), "{}", overview(&status));
            let json = serde_json::to_string(&status).unwrap();
            let name = if v4.is_some() { "down_ipv4" } else { "down_ipv6" };
            let why = if v4 == taken { "no_address" } else { "no_next_hop" };
            assert!(json.contains(r#""down":null"#) && json.contains(&format!(r#""{name}":"{why}""#)), "{json}");
        }
    }

    #[test]
    fn a_duplicate_address_is_told_with_who_has_it() {
        let mut source = port_realm();
        source.path.tunnels[0].up = false;
        let port = source.path.tunnels[0].port.as_mut().unwrap();
        let other = Some(Mac([2, 0, 0, 0, 0, 7]));
        port.down = Some(Down::NoAddress);
        port.addresses = vec![AddressStatus { address: "172.20.0.2".parse().unwrap(), state: "duplicate", other }];
        let (status, text) = of(&source);
        assert!(text.contains("\nport eth1 VLAN 100: down, somebody else has our address\n"), "{text}");
        assert!(text.contains("  our address      172.20.0.2, not used: 02:00:00:00:00:07 has it, too\n"), "{text}");
        let json = serde_json::to_string(&status).unwrap();
        assert!(json.contains(r#""state":"duplicate_address""#) && json.contains(r#""down":"no_address""#), "{json}");
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn a_tun_device_has_no_neighbours_and_bfd_tells_its_state() {
        let mut source = port_realm();
        let hop = &mut source.path.tunnels[0].port.as_mut().unwrap().next_hops[1];
        (hop.watched_by, hop.bfd, hop.since) = ("BFD", Some("down"), None);
        let many = vec![*hop; 20];
        let (_, text) = of(&source);
        assert!(
            text.contains("172.20.0.3, not heard of yet, hardware address unknown, watched by BFD (down)\n"),
            "{text}"
        );
        source.path.tunnels[0].port.as_mut().unwrap().next_hops = many;
        assert!(of(&source).1.contains("  ... 4 more next hops; see --json\n"));

        source.names.tunnels[0].peer = PeerName::Tun { name: "ix0".to_owned() };
        let port = source.path.tunnels[0].port.as_mut().unwrap();
        (port.mac, port.addresses, port.next_hops, port.neighbours_max) = (None, Vec::new(), Vec::new(), 0);
        let (_, text) = of(&source);
        let section = text.split("\nTUN ").nth(1).unwrap();
        assert!(section.starts_with("ix0: up\n") && section.contains("  link             MTU 1500 bytes\n"), "{text}");
        assert!(!section.contains("neighbours"), "{text}");
    }

    #[test]
    fn a_port_that_the_path_does_not_know_yet_is_starting() {
        let mut source = port_realm();
        source.path.tunnels.remove(0);
        let (_, text) = of(&source);
        assert!(text.contains("\nport eth1 VLAN 100: down, just configured\n"), "{text}");
    }

    #[test]
    fn who_waits_is_seen_in_the_overview_and_told_in_full() {
        let mut source = port_realm();
        source.names.tunnels[1].realm = source.names.tunnels[0].realm;
        (source.names.tunnels[1].priority, source.path.tunnels[1].up) = (2, true);
        let (status, text) = of(&source);
        assert!(text.contains("  role             carries everything: none is preferred to it\n"), "{text}");
        assert!(text.contains("  role             waits: eth1 VLAN 100 (priority 0) is preferred and up\n"), "{text}");
        assert!(overview(&status).contains("up, no data lately, waits"), "{}", overview(&status));
    }
}
