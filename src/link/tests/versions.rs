//! One IP version of a port is down, and the other is not.

use super::*;
use crate::link::endpoint::Down;
use crate::net::IpVersion;

/// For IPv4, for IPv6.
fn ups(lab: &Lab) -> (bool, bool) {
    (lab.endpoint.is_up_for(PORT, IpVersion::V4), lab.endpoint.is_up_for(PORT, IpVersion::V6))
}

/// Of the whole, of IPv4, of IPv6.
fn downs(lab: &Lab) -> (Option<Down>, Option<Down>, Option<Down>) {
    let status = lab.status(PORT);
    (status.down, status.down_for.v4, status.down_for.v6)
}

const OURS_BOTH: [&str; 2] = ["172.20.0.2/24", "2001:db8:9::2/64"];
const THEIRS: [&str; 2] = ["172.20.0.1", "2001:db8:9::1"];

#[test]
fn a_dead_gateway_takes_its_own_version_down_and_back_up() {
    for (dead, far, other_far) in [(0, FAR4, FAR6), (1, FAR6, FAR4)] {
        let gateways = THEIRS.iter().zip(1..).map(|(address, number)| station(number, &[address])).collect();
        let mut lab = Lab::new(vec![port(PORT, ETH, ethernet(&OURS_BOTH, &THEIRS))], gateways);
        assert_eq!((ups(&lab), downs(&lab)), ((true, true), (None, None, None)));
        lab.events.clear();
        lab.stations[dead].is_silent = true;
        lab.run(Duration::from_secs(5));
        let why = Some(Down::NoNextHop);
        match dead {
            0 => assert_eq!((ups(&lab), downs(&lab)), ((false, true), (None, why, None))),
            _ => assert_eq!((ups(&lab), downs(&lab)), ((true, false), (None, None, why))),
        }
        assert!(lab.endpoint.is_up(PORT));
        assert!(!lab.saw(|event| matches!(event, Event::Down { .. })), "{:?}", lab.events);
        assert_eq!((lab.send_to(far), lab.send_to(other_far)), (Err(DropReason::NoNextHop), Ok(())));
        lab.stations[1 - dead].is_silent = true;
        lab.run(Duration::from_secs(5));
        assert_eq!((ups(&lab), downs(&lab)), ((false, false), (why, why, why)));
        assert!(lab.saw(|event| *event == Event::Down { tunnel: PORT, why: Down::NoNextHop }));
        lab.stations[dead].is_silent = false;
        lab.run(Duration::from_secs(30));
        assert_eq!((ups(&lab), lab.send_to(far)), ((dead == 0, dead == 1), Ok(())));
    }
}

#[test]
fn a_duplicate_address_takes_its_own_version_down() {
    for (taken, expected) in [("172.20.0.2", (false, true)), ("2001:db8:9::2", (true, false))] {
        let stations = vec![station(1, &THEIRS), station(2, &[taken])];
        let mut lab = Lab::new(vec![port(PORT, ETH, ethernet(&OURS_BOTH, &THEIRS))], stations);
        assert_eq!(ups(&lab), expected);
        let (whole, v4, v6) = downs(&lab);
        let of_it = if expected.0 { (v4, v6) } else { (v6, v4) };
        assert_eq!((whole, of_it), (None, (None, Some(Down::NoAddress))));
        let (far, other) = if expected.0 { (FAR6, FAR4) } else { (FAR4, FAR6) };
        assert_eq!((lab.send_to(far), lab.send_to(other)), (Err(DropReason::PortDown), Ok(())));
        lab.stations[1].addresses.clear();
        lab.run(Duration::from_secs(120));
        assert_eq!((ups(&lab), lab.send_to(far)), ((true, true), Ok(())), "it is free again");
    }
}

#[test]
fn a_version_without_an_address_is_down_and_is_nothing_to_complain_of() {
    let lab = Lab::new(vec![port(PORT, ETH, ethernet(&OURS_BOTH[..1], &THEIRS[..1]))], vec![station(1, &THEIRS)]);
    assert_eq!((ups(&lab), downs(&lab)), ((true, false), (None, None, None)));
}

#[test]
fn ipv6_works_by_link_local_addresses_alone() {
    let config = ethernet(&["172.20.0.2/24", "fe80::2/64"], &["172.20.0.9", "fe80::1"]);
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(1, &["fe80::1"])]);
    assert_eq!((ups(&lab), lab.send_to(FAR6), lab.got(0)), ((false, true), Ok(()), 1));
}

#[test]
fn a_tun_device_is_up_for_both_while_it_is_up() {
    let config = PortConfig { tunnel: PORT, interface: ETH, medium: Medium::Tun, mtu_bytes: 1500 };
    let mut lab = Lab::new(vec![config], vec![]);
    assert_eq!(ups(&lab), (true, true));
    lab.link(ETH, false);
    assert_eq!(ups(&lab), (false, false));
    assert_eq!(lab.send_to(FAR4), Err(DropReason::PortDown));
}

/// What the log says of the port in that time after its link came up.
fn told(lab: &mut Lab, time: Duration) -> Vec<Event> {
    lab.link(ETH, false);
    lab.run(Duration::from_secs(1));
    lab.events.clear();
    lab.link(ETH, true);
    lab.run(time);
    let is_of_port = |event: &Event| matches!(event, Event::Up { .. } | Event::Down { .. });
    lab.events.iter().copied().filter(is_of_port).collect()
}

#[test]
fn nobody_is_called_dead_before_he_was_asked() {
    let mut lab = usual();
    let starting: Vec<_> = lab.events.iter().filter(|event| matches!(event, Event::Down { .. })).collect();
    assert_eq!(starting, Vec::<&Event>::new(), "nor at the first start");
    assert_eq!(told(&mut lab, Duration::from_secs(8)), [Event::Up { tunnel: PORT }]);
    lab.stations[0].is_silent = true;
    assert_eq!(told(&mut lab, Duration::from_millis(2900)), [], "three questions, a second apart");
    assert_eq!(told(&mut lab, Duration::from_secs(8)), [Event::Down { tunnel: PORT, why: Down::NoNextHop }]);
    lab.stations[0].is_silent = false;
    lab.run(Duration::from_secs(20));
    lab.stations[0].is_silent = true;
    lab.events.clear();
    lab.run(Duration::from_millis(3300));
    assert!(lab.saw(|event| matches!(event, Event::Down { .. })), "it was up: this is news at once");
}

#[test]
fn an_address_that_stays_somebody_elses_is_told() {
    let config = ethernet(&OURS_BOTH[..1], &THEIRS[..1]);
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(1, &THEIRS), station(2, &["172.20.0.2"])]);
    assert_eq!(told(&mut lab, Duration::from_secs(3)), []);
    assert_eq!(told(&mut lab, Duration::from_secs(8)), [Event::Down { tunnel: PORT, why: Down::NoAddress }]);
}

#[test]
fn gateways_that_are_new_have_time_to_answer() {
    let mut lab = Lab::new(vec![port(PORT, ETH, ethernet(&OURS_BOTH[..1], &THEIRS[..1]))], vec![station(1, &THEIRS)]);
    lab.events.clear();
    lab.stations.push(station(3, &["172.20.0.3"]));
    lab.configure(vec![port(PORT, ETH, ethernet(&OURS_BOTH[..1], &["172.20.0.3"]))]);
    lab.run(Duration::from_secs(8));
    assert!(lab.endpoint.is_up(PORT) && !lab.saw(|event| matches!(event, Event::Down { .. })), "{:?}", lab.events);
}
