//! Next hops: alive, dead, elsewhere; and links that come and go.

use super::*;
use crate::link::config::Bfd;
use crate::link::endpoint::{Down, HopDown};

fn gateway(lab: &Lab) -> (bool, Option<Mac>) {
    let status = lab.status(PORT);
    (status.next_hops[0].is_alive, status.next_hops[0].mac)
}

#[test]
fn a_gateway_that_falls_silent_takes_the_port_down_and_back_up() {
    let mut lab = usual();
    lab.stations[0].is_silent = true;
    lab.run(Duration::from_secs(5));
    assert!(!lab.endpoint.is_up(PORT));
    assert!(lab.saw(|event| *event == Event::Down { tunnel: PORT, why: Down::NoNextHop }));
    let hop_down = Event::NextHopDown { tunnel: PORT, hop: ip("172.20.0.1"), why: HopDown::Silent };
    assert!(lab.saw(|event| *event == hop_down));
    assert_eq!((lab.send_to(FAR4), lab.status(PORT).down), (Err(DropReason::NoNextHop), Some(Down::NoNextHop)));
    lab.stations[0].is_silent = false;
    lab.run(Duration::from_secs(20));
    assert!(lab.endpoint.is_up(PORT));
    assert_eq!((lab.send_to(FAR4), lab.send_to(FAR6), lab.got(0)), (Ok(()), Ok(()), 2));
}

#[test]
fn a_gateway_that_flaps_is_held_back_and_status_says_until_when() {
    let config = ethernet(&["172.20.0.2/24"], &["172.20.0.1"]);
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(1, &["172.20.0.1"])]);
    for _ in 0..5 {
        lab.stations[0].is_silent = true;
        lab.run(Duration::from_secs(4));
        lab.stations[0].is_silent = false;
        lab.run(Duration::from_secs(1));
    }
    let hop = lab.status(PORT).next_hops[0];
    let Some(until) = hop.held_until else { panic!("{hop:?}") };
    assert!(!hop.is_alive && until > lab.now && lab.send_to(FAR4) == Err(DropReason::NoNextHop));
    lab.run(until - lab.now);
    let hop = lab.status(PORT).next_hops[0];
    assert_eq!((hop.is_alive, hop.held_until, lab.send_to(FAR4)), (true, None, Ok(())));
}

#[test]
fn a_second_gateway_takes_over() {
    let config = ethernet(&["172.20.0.2/24"], &["172.20.0.1", "172.20.0.3"]);
    let stations = vec![station(1, &["172.20.0.1"]), station(3, &["172.20.0.3"])];
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], stations);
    lab.send_to(FAR4).unwrap();
    assert_eq!((lab.got(0), lab.got(1)), (1, 0));
    let used = |lab: &Lab| lab.status(PORT).next_hops.iter().map(|hop| hop.is_used).collect::<Vec<_>>();
    assert_eq!(used(&lab), [true, false]);
    lab.stations[0].is_silent = true;
    lab.run(Duration::from_secs(5));
    lab.send_to(FAR4).unwrap();
    assert_eq!((lab.got(0), lab.got(1), used(&lab)), (0, 1, vec![false, true]));
    assert!(lab.endpoint.is_up(PORT) && lab.status(PORT).counts.switches > 0);
}

#[test]
fn a_gateway_that_moves_to_another_station_is_followed() {
    for (is_v6, far) in [(false, FAR4), (true, FAR6)] {
        let mut lab = usual();
        // As VRRP does: another station has the address, and says so.
        let mut other = lab.stations[0].clone();
        other.mac = mac(77);
        lab.stations[0].addresses.clear();
        let address = other.addresses[usize::from(is_v6)];
        lab.stations.push(other.clone());
        lab.hear(&other.announcement(address));
        lab.run(crate::link::neighbours::DOUBT);
        lab.send_to(far).unwrap();
        assert_eq!((lab.got(0), lab.got(1)), (0, 1));
        assert_eq!(lab.status(PORT).counts.mac_changes, 1);
    }
}

#[test]
fn a_gateway_that_moves_without_a_word_is_found_again() {
    let mut lab = usual();
    lab.stations[0].mac = mac(78);
    lab.run(Duration::from_secs(20));
    assert_eq!(gateway(&lab), (true, Some(mac(78))));
    assert_eq!((lab.send_to(FAR4), lab.send_to(FAR6), lab.got(0)), (Ok(()), Ok(()), 2));
}

#[test]
fn a_claim_to_be_the_gateway_is_a_rumour_until_it_answers() {
    for is_v6 in [false, true] {
        let mut lab = usual();
        let address = lab.stations[0].addresses[usize::from(is_v6)];
        let (thief, asked) = (station(66, &[]), lab.stations[0].asked);
        let us = ip(if is_v6 { "2001:db8:9::2" } else { "172.20.0.2" });
        for frame in [thief.announcement(address), thief.question(address, us)] {
            for _ in 0..10 {
                lab.hear(&frame);
            }
        }
        assert_eq!(lab.stations[0].asked, asked + 1, "once a second");
        lab.send_to(if is_v6 { FAR6 } else { FAR4 }).unwrap();
        assert_eq!((lab.got(0), lab.status(PORT).counts.mac_changes), (1, 0));
    }
}

/// He answers all questions, and first.
#[test]
fn a_thief_who_answers_is_not_believed_as_long_as_the_gateway_answers_too() {
    for (is_v6, far) in [(false, FAR4), (true, FAR6)] {
        let mut lab = usual();
        let mut thief = lab.stations[0].clone();
        thief.mac = mac(66);
        let address = thief.addresses[usize::from(is_v6)];
        lab.stations.insert(0, thief.clone());
        for round in 0..300 {
            lab.hear(&thief.announcement(address));
            if !is_v6 {
                let reply = thief.arp(Operation::Reply, address, OURS, ip("172.20.0.2"));
                lab.hear(&thief.frame(OURS, ether_type::ARP, &reply));
            }
            lab.run(Duration::from_millis(37));
            assert_eq!((lab.send_to(far), lab.got(0), lab.got(1)), (Ok(()), 0, 1), "round {round}");
        }
        assert_eq!(lab.status(PORT).counts.mac_changes, 0);
    }
}

#[test]
fn a_link_that_comes_and_goes_forgets_who_is_where() {
    let mut lab = usual();
    lab.link(ETH, false);
    assert!(!lab.endpoint.is_up(PORT));
    assert!(lab.saw(|event| *event == Event::Down { tunnel: PORT, why: Down::NoLink }));
    assert_eq!(lab.send_to(FAR4), Err(DropReason::PortDown));
    assert_eq!(gateway(&lab), (false, None));
    let frame = lab.stations[0].packet(OURS, &to_host(FAR4, b""));
    assert_eq!(lab.hear(&frame), Opened::dropped(DropReason::PortDown));
    let down_only_once = lab.events.iter().filter(|event| matches!(event, Event::NextHopDown { .. })).count();
    assert_eq!(down_only_once, 0, "the link is the reason");
    lab.link(ETH, true);
    lab.run(Duration::from_secs(20));
    assert_eq!((lab.endpoint.is_up(PORT), lab.send_to(FAR4), lab.got(0)), (true, Ok(()), 1));
}

#[test]
fn more_specific_routes_have_their_own_hop() {
    let mut config = ethernet(&["172.20.0.2/24"], &["172.20.0.1"]);
    config.routes = vec![route("10.5.0.0/16", "172.20.0.5")];
    let stations = vec![station(1, &["172.20.0.1"]), station(5, &["172.20.0.5"])];
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], stations);
    lab.send_to("10.5.1.1").unwrap();
    lab.send_to("10.6.1.1").unwrap();
    assert_eq!((lab.got(0), lab.got(1)), (1, 1));
}

#[test]
fn bfd_finds_the_gateway_and_is_spoken_from_our_address() {
    let mut config = ethernet(&["172.20.0.2/24", "2001:db8:9::2/64"], &["172.20.0.1", "2001:db8:9::1"]);
    config.bfd = Some(Bfd { is_active: true, interval: Duration::from_millis(300), multiplier: 3 });
    let gateway = station(1, &["172.20.0.1", "2001:db8:9::1"]);
    let lab = Lab::new(vec![port(PORT, ETH, config)], vec![gateway]);
    assert!(!lab.endpoint.is_up(PORT), "nobody speaks BFD there");
    let got = &lab.stations[0].got;
    let of = |from: &str| {
        got.iter()
            .filter(|packet| {
                let headers = crate::wire::headers::parse(packet).unwrap();
                let payload = &packet[headers.transport_offset + 8..headers.total_bytes];
                headers.source == ip(from) && headers.hop_limit == 255 && crate::wire::bfd::parse(payload).is_some()
            })
            .count()
    };
    assert!(of("172.20.0.2") > 1 && of("2001:db8:9::2") > 1);
    assert_eq!(of("172.20.0.2") + of("2001:db8:9::2"), got.iter().filter(|packet| packet.len() >= 52).count());
}

#[test]
fn bfd_of_the_other_side_brings_the_port_up() {
    let with_bfd = |address: &str, gateway: &str| {
        let mut config = ethernet(&[address], &[gateway]);
        config.bfd = Some(Bfd { is_active: true, interval: Duration::from_millis(300), multiplier: 3 });
        vec![port(PORT, ETH, config)]
    };
    let mut lab = Lab::new(with_bfd("172.20.0.2/24", "172.20.0.1"), vec![station(1, &["172.20.0.1"])]);
    // The other side is another endpoint, on whose link a station has our address.
    let mut there = station(1, &["172.20.0.2"]);
    there.mac = OURS;
    let mut other = Lab::new(with_bfd("172.20.0.1/24", "172.20.0.2"), vec![]);
    other.endpoint.handle_link(LinkReport { interface: ETH, is_up: true, mac: mac(1), mtu_bytes: 1500 }, other.now);
    other.stations.push(there);
    for _ in 0..100 {
        lab.run(Duration::from_millis(100));
        other.run(Duration::from_millis(100));
        for packet in std::mem::take(&mut lab.stations[0].got) {
            let frame = station(1, &[]).packet(mac(1), &packet);
            let mut from_us = frame.clone();
            from_us[6..12].copy_from_slice(&OURS.0);
            other.hear(&from_us);
        }
        for packet in std::mem::take(&mut other.stations[0].got) {
            lab.hear(&station(1, &[]).packet(OURS, &packet));
        }
    }
    assert!(lab.endpoint.is_up(PORT) && other.endpoint.is_up(PORT));
    assert_eq!(lab.status(PORT).next_hops[0].bfd, Some("Up"));
    lab.run(Duration::from_secs(3));
    assert!(!lab.endpoint.is_up(PORT));
    assert!(lab.saw(|event| matches!(event, Event::NextHopDown { why: HopDown::BfdTimeout, .. })));
}
