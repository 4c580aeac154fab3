//! Routers that announce themselves: used while they answer, and nobody else's loss.

use std::net::Ipv6Addr;
use std::str::FromStr;

use super::*;
use crate::link::config::Bfd;
use crate::link::endpoint::{Down, HopDown, NextHopStatus};
use crate::link::routers::MAX_ROUTERS;
use crate::net::policy::protocol;
use crate::wire::checksum::transport_checksum;
use crate::wire::ipv6;
use crate::wire::ndp::{self, Message, Preference};

/// Of the station's first address, which is link-local.
pub fn advertisement(from: &Station, preference: Preference, lifetime_secs: u64) -> Vec<u8> {
    let lifetime = Duration::from_secs(lifetime_secs);
    let message = Message::RouterAdvertisement { lifetime, preference, mac: Some(from.mac), mtu_bytes: None };
    let IpAddr::V6(address) = from.addresses[0] else { panic!("no IPv6") };
    let mut out = [0; 200];
    let len = ndp::emit(&mut out, address, nd::ALL_NODES, &message).unwrap();
    from.frame(nd::group_mac(nd::ALL_NODES), ether_type::IPV6, &out[..len])
}

/// Two routers, fe80::1 and fe80::2.
fn with_routers(gateways: &[&str], bfd: Option<Bfd>) -> Lab {
    let mut config = ethernet(&["2001:db8:9::2/64"], gateways);
    config.networks = nets(&["2001:db8:99::/48"]);
    (config.accept_ra, config.bfd) = (true, bfd);
    let stations = vec![station(1, &["fe80::1"]), station(2, &["fe80::2"]), station(3, &["2001:db8:9::1"])];
    Lab::new(vec![port(PORT, ETH, config)], stations)
}

fn announce(lab: &mut Lab, router: usize) {
    lab.hear(&advertisement(&lab.stations[router], Preference::Medium, 1800));
}

fn hop(lab: &Lab, address: &str) -> Option<NextHopStatus> {
    lab.status(PORT).next_hops.into_iter().find(|hop| hop.address == ip(address))
}

#[test]
fn a_router_that_falls_silent_does_not_keep_its_port_up() {
    let mut lab = with_routers(&[], None);
    announce(&mut lab, 0);
    announce(&mut lab, 1);
    assert_eq!((lab.send_to(FAR6), lab.got(0), lab.got(1)), (Ok(()), 1, 0));
    lab.run(Duration::from_secs(60));
    lab.stations[0].is_silent = true;
    lab.run(Duration::from_secs(4));
    let gone = |number| {
        let hop = ip(&format!("fe80::{number}"));
        Event::NextHopDown { tunnel: PORT, hop, why: HopDown::Silent }
    };
    assert!(lab.saw(|event| *event == gone(1)) && lab.endpoint.is_up(PORT));
    assert_eq!((lab.send_to(FAR6), lab.got(0), lab.got(1)), (Ok(()), 0, 1), "the other one takes over");
    lab.stations[1].is_silent = true;
    lab.run(Duration::from_secs(4));
    assert!(lab.saw(|event| *event == gone(2)));
    assert_eq!((lab.status(PORT).down, lab.send_to(FAR6)), (Some(Down::NoNextHop), Err(DropReason::NoNextHop)));
    lab.stations[0].is_silent = false;
    lab.run(Duration::from_secs(4));
    assert_eq!((lab.send_to(FAR6), lab.got(0), lab.got(1)), (Ok(()), 1, 0), "it is asked on, as long as it said");
}

#[test]
fn who_announces_himself_and_does_not_answer_is_no_router() {
    let mut lab = with_routers(&[], None);
    let nobody = station(66, &["fe80::66"]);
    lab.hear(&advertisement(&nobody, Preference::High, 1800));
    lab.run(Duration::from_secs(5));
    assert_eq!((lab.endpoint.is_up(PORT), lab.send_to(FAR6)), (false, Err(DropReason::NoNextHop)));
    announce(&mut lab, 0);
    lab.run(Duration::from_millis(10));
    assert_eq!((lab.send_to(FAR6), lab.got(0)), (Ok(()), 1));
    assert_eq!(hop(&lab, "fe80::66").map(|hop| (hop.is_alive, hop.is_used)), Some((false, false)));
    let used = hop(&lab, "fe80::1").map(|hop| (hop.is_alive, hop.is_used, hop.watched_by));
    assert_eq!(used, Some((true, true, "probes")));
}

#[test]
fn who_answers_as_no_router_is_none_any_more() {
    let mut lab = with_routers(&["2001:db8:9::1"], None);
    announce(&mut lab, 0);
    announce(&mut lab, 1);
    lab.run(Duration::from_secs(5));
    // A claim is not enough, nor what nobody asked for.
    let us = Ipv6Addr::from_str("2001:db8:9::2").unwrap();
    let router = Ipv6Addr::from_str("fe80::1").unwrap();
    for (number, is_solicited) in [(66, true), (66, false), (1, false)] {
        let mut out = [0; 200];
        let from = station(number, &[]);
        let len = nd::emit_advertisement(&mut out, router, us, router, from.mac, is_solicited, true, false);
        lab.hear(&from.frame(OURS, ether_type::IPV6, &out[..len]));
        lab.run(Duration::from_secs(2));
        assert_eq!(hop(&lab, "fe80::1").map(|hop| hop.is_alive), Some(true), "{number} {is_solicited}");
    }
    lab.stations[0].is_router = false;
    lab.stations[2].is_router = false;
    lab.run(Duration::from_secs(2));
    assert_eq!((hop(&lab, "fe80::1"), hop(&lab, "fe80::2").map(|hop| hop.is_alive)), (None, Some(true)));
    assert_eq!(hop(&lab, "2001:db8:9::1").map(|hop| hop.is_alive), Some(true), "what is configured stays");
    lab.stations[0].is_router = true;
    announce(&mut lab, 0);
    lab.run(Duration::from_millis(10));
    assert_eq!(hop(&lab, "fe80::1").map(|hop| hop.is_alive), Some(true), "it is one again");
}

#[test]
fn a_router_that_withdraws_or_expires_is_told_as_gone() {
    let mut lab = with_routers(&[], None);
    let nobody = station(66, &["fe80::66"]);
    lab.hear(&advertisement(&lab.stations[0], Preference::Medium, 1800));
    lab.hear(&advertisement(&lab.stations[1], Preference::Medium, 30));
    lab.hear(&advertisement(&nobody, Preference::Medium, 30));
    lab.run(Duration::from_secs(5));
    let gone = |lab: &Lab| -> Vec<(IpAddr, HopDown)> {
        let of = |event: &Event| match event {
            Event::NextHopDown { hop, why, .. } => Some((*hop, *why)),
            _ => None,
        };
        lab.events.iter().filter_map(of).collect()
    };
    let switches = lab.status(PORT).counts.switches;
    lab.hear(&advertisement(&lab.stations[0], Preference::Medium, 0));
    assert_eq!(gone(&lab), [(ip("fe80::1"), HopDown::Withdrawn)]);
    lab.run(Duration::from_secs(26));
    let both = [(ip("fe80::1"), HopDown::Withdrawn), (ip("fe80::2"), HopDown::Withdrawn)];
    assert_eq!(gone(&lab), both, "and nothing of who never answered");
    assert_eq!((lab.status(PORT).counts.switches, lab.endpoint.is_up(PORT)), (switches + 2, false));
    announce(&mut lab, 0);
    lab.run(Duration::from_secs(1));
    lab.link(ETH, false);
    lab.link(ETH, true);
    assert_eq!(gone(&lab), both, "a link that goes has an event of its own");
}

#[test]
fn routers_that_come_and_go_cost_the_others_nothing() {
    let mut lab = with_routers(&["2001:db8:9::1"], None);
    announce(&mut lab, 0);
    lab.run(Duration::from_secs(5));
    let since = |lab: &Lab| ["2001:db8:9::1", "fe80::1"].map(|address| hop(lab, address).unwrap().since);
    let (before, events) = (since(&lab), lab.events.len());
    let mut asked = lab.stations[0].asked + lab.stations[2].asked;
    for number in 0..1000 {
        let forged = station(66, &[&format!("fe80::66:{number:x}")]);
        lab.hear(&advertisement(&forged, Preference::High, if number % 3 == 0 { 1 } else { 1800 }));
        if number % 2 == 0 {
            lab.hear(&advertisement(&forged, Preference::High, 0));
        }
        lab.run(Duration::from_millis(20));
        assert_eq!((lab.send_to(FAR6), lab.got(2)), (Ok(()), 1));
        assert!(lab.status(PORT).next_hops.len() <= 1 + MAX_ROUTERS);
    }
    asked = lab.stations[0].asked + lab.stations[2].asked - asked;
    assert_eq!((since(&lab), lab.events.len()), (before, events));
    assert!((40..70).contains(&asked), "they were watched on, each once a second or little more: {asked} in 20 s");
    lab.stations[2].is_silent = true;
    lab.run(Duration::from_secs(4));
    assert_eq!((lab.send_to(FAR6), lab.got(0)), (Ok(()), 1), "gateways first, then routers");
}

#[test]
fn eight_that_are_forged_keep_no_router_out() {
    let mut lab = with_routers(&[], None);
    for number in 0..MAX_ROUTERS {
        let forged = station(66, &[&format!("fe80::66:{number:x}")]);
        lab.hear(&advertisement(&forged, Preference::High, 65535));
    }
    assert_eq!(lab.status(PORT).next_hops.len(), MAX_ROUTERS, "the bound is reached");
    lab.run(Duration::from_secs(5));
    announce(&mut lab, 0);
    lab.run(Duration::from_millis(10));
    assert_eq!((lab.send_to(FAR6), lab.got(0)), (Ok(()), 1));
    for number in 0..MAX_ROUTERS {
        let forged = station(66, &[&format!("fe80::67:{number:x}")]);
        lab.hear(&advertisement(&forged, Preference::High, 65535));
    }
    assert_eq!((lab.send_to(FAR6), lab.got(0)), (Ok(()), 1), "nor push one out that answers");
}

#[test]
fn routers_are_watched_by_probes_where_gateways_are_by_bfd() {
    let bfd = Bfd { is_active: true, interval: Duration::from_millis(300), multiplier: 3 };
    let mut lab = with_routers(&["2001:db8:9::1"], Some(bfd));
    announce(&mut lab, 0);
    assert_eq!(hop(&lab, "2001:db8:9::1").map(|hop| (hop.is_alive, hop.watched_by)), Some((false, "BFD")));
    assert_eq!((lab.send_to(FAR6), lab.got(0)), (Ok(()), 1));
    lab.link(ETH, false);
    assert_eq!(hop(&lab, "fe80::1"), None, "who was heard before is not believed");
    lab.link(ETH, true);
    lab.run(Duration::from_secs(5));
    announce(&mut lab, 0);
    lab.got(0);
    assert_eq!((lab.send_to(FAR6), lab.got(0)), (Ok(()), 1));
}

/// 500 in a second: it announces itself, answers, retires.
#[test]
fn who_comes_and_goes_does_not_fill_the_log() {
    let mut lab = with_routers(&["2001:db8:9::1"], None);
    let before = lab.events.len();
    for _ in 0..5000 {
        announce(&mut lab, 0);
        lab.run(Duration::from_millis(1));
        lab.hear(&advertisement(&lab.stations[0], Preference::Medium, 0));
        lab.run(Duration::from_millis(1));
        assert_eq!((lab.send_to(FAR6), lab.got(2)), (Ok(()), 1));
    }
    let told = lab.events.len() - before;
    assert!((16..=2 * (16 + 11)).contains(&told), "{told} in ten seconds");
    lab.run(Duration::from_secs(1));
    announce(&mut lab, 0);
    lab.run(Duration::from_secs(2));
    assert_eq!(hop(&lab, "fe80::1").map(|hop| hop.is_alive), Some(true), "and it is a router again when it stays");
}

/// RFC 4861 section 4.5, type 137: `destination` is better reached by `target`, whose hardware address is said, too.
fn redirect(from: &Station, target: &Station, destination: Ipv6Addr) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(by)) = (from.addresses[0], target.addresses[0]) else { panic!("no IPv6") };
    let us = Ipv6Addr::from_str("2001:db8:9::2").unwrap();
    let target_mac = [&[2, 1][..], &target.mac.0].concat();
    let mut message = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &by.octets(), &destination.octets(), &target_mac].concat();
    let sum = transport_checksum(source.into(), us.into(), protocol::ICMPV6, &message).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0; ipv6::HEADER_BYTES];
    ipv6::emit(packet.first_chunk_mut().unwrap(), message.len(), 255, protocol::ICMPV6, source, us);
    packet.extend(message);
    assert_eq!(ndp::parse(&packet).map(|packet| packet.message), Some(Message::Redirect));
    from.packet(OURS, &packet)
}

#[test]
fn redirects_are_heard_and_not_followed() {
    for accept_ra in [false, true] {
        let mut config = ethernet(&["2001:db8:9::2/64"], &["fe80::1"]);
        config.networks = nets(&["2001:db8:99::/48"]);
        config.accept_ra = accept_ra;
        let stations = vec![station(1, &["fe80::1"]), station(2, &["fe80::2"])];
        let mut lab = Lab::new(vec![port(PORT, ETH, config)], stations);
        assert_eq!((lab.send_to(FAR6), lab.got(0), lab.got(1)), (Ok(()), 1, 0));
        let before = lab.status(PORT);
        let IpAddr::V6(far) = ip(FAR6) else { panic!("no IPv6") };
        let frame = redirect(&lab.stations[0], &lab.stations[1], far);
        assert_eq!(lab.hear(&frame), Opened::Control);
        let after = lab.status(PORT);
        assert_eq!(after.counts.neighbour_messages, before.counts.neighbour_messages + 1, "it was heard");
        assert_eq!((after.next_hops, after.neighbours), (before.next_hops, before.neighbours));
        lab.run(Duration::from_millis(100));
        assert_eq!((lab.send_to(FAR6), lab.got(0), lab.got(1)), (Ok(()), 1, 0), "by the gateway as before");
    }
}
