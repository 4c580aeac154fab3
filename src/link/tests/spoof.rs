//! Somebody on the link who says that he is another.

use super::*;

const US: [&str; 2] = ["172.20.0.2", "2001:db8:9::2"];
const GATEWAY: [&str; 2] = ["172.20.0.1", "2001:db8:9::1"];
const FAR: [&str; 2] = [FAR4, FAR6];

/// In the order in which they answer.
fn with(stations: Vec<Station>) -> Lab {
    let config = ethernet(&["172.20.0.2/24", "2001:db8:9::2/64"], &GATEWAY);
    Lab::new(vec![port(PORT, ETH, config)], stations)
}

/// Where the gateways are thought to be.
fn gateways(lab: &Lab) -> Vec<Option<Mac>> {
    lab.status(PORT).next_hops.iter().map(|hop| hop.mac).collect()
}

fn two_answer(lab: &Lab) -> Vec<(IpAddr, Mac, Mac)> {
    let of = |event: &Event| match *event {
        Event::TwoAnswer { tunnel: PORT, address, known, other } => Some((address, known, other)),
        _ => None,
    };
    lab.events.iter().filter_map(of).collect()
}

/// An ARP reply, or a solicited advertisement, to us.
fn answer_of(station: &Station, address: IpAddr, us: IpAddr) -> Vec<u8> {
    match (address, us) {
        (IpAddr::V6(address), IpAddr::V6(us)) => {
            let mut out = [0; 200];
            let len = nd::emit_advertisement(&mut out, address, us, address, station.mac, true, true, true);
            station.frame(OURS, ether_type::IPV6, &out[..len])
        }
        _ => station.frame(OURS, ether_type::ARP, &station.arp(Operation::Reply, address, OURS, us)),
    }
}

#[test]
fn who_claims_to_be_a_gateway_that_is_not_known_yet_is_not_it() {
    let mut gateway = station(1, &GATEWAY);
    gateway.is_silent = true;
    let mut lab = with(vec![gateway]);
    let thief = station(66, &[]);
    // Just before it is asked again: no question is open.
    lab.run(Duration::from_secs(8));
    for (address, us) in GATEWAY.map(ip).into_iter().zip(US.map(ip)) {
        lab.hear(&thief.announcement(address));
        lab.hear(&thief.question(address, us));
        assert_eq!(gateways(&lab), [None, None]);
    }
    lab.stations[0].is_silent = false;
    lab.run(Duration::from_secs(20));
    assert_eq!(gateways(&lab), [Some(mac(1)); 2]);
    assert!(two_answer(&lab).is_empty());
    for far in FAR {
        assert_eq!((lab.send_to(far), lab.got(0)), (Ok(()), 1));
    }
}

#[test]
fn two_that_answer_for_the_gateway_are_told_and_the_first_one_stays() {
    for order in [[1, 66], [66, 1]] {
        let [first, second] = order.map(|number| station(number, &GATEWAY));
        let mut lab = with(vec![first.clone(), second.clone()]);
        let each = GATEWAY.map(|address| (ip(address), first.mac, second.mac));
        assert_eq!((two_answer(&lab), gateways(&lab)), (each.to_vec(), vec![Some(first.mac); 2]), "{order:?}");
        for (far, address) in FAR.into_iter().zip(GATEWAY.map(ip)) {
            for _ in 0..100 {
                lab.hear(&second.announcement(address));
                lab.run(Duration::from_millis(300));
                assert_eq!((lab.send_to(far), lab.got(0), lab.got(1)), (Ok(()), 1, 0), "{order:?}");
            }
        }
        assert_eq!(two_answer(&lab).len(), 3, "once a minute for each, while it goes on");
        // When the first one is gone, the second one is it.
        lab.stations.remove(0);
        lab.run(Duration::from_secs(20));
        assert_eq!(gateways(&lab), [Some(second.mac); 2], "{order:?}");
        assert_eq!((lab.send_to(FAR4), lab.got(0)), (Ok(()), 1));
    }
}

#[test]
fn a_failover_just_after_a_rumour_is_followed_within_the_second() {
    for (at, address) in GATEWAY.map(ip).into_iter().enumerate() {
        let mut lab = with(vec![station(1, &GATEWAY)]);
        lab.hear(&station(66, &[]).announcement(address));
        lab.run(Duration::from_millis(150));
        let mut other = lab.stations[0].clone();
        other.mac = mac(77);
        lab.stations[0].addresses.clear();
        lab.stations.push(other.clone());
        lab.hear(&other.announcement(address));
        lab.run(crate::link::neighbours::ASK_INTERVAL);
        assert_eq!((lab.send_to(FAR[at]), lab.got(0), lab.got(1)), (Ok(()), 0, 1));
        assert!(two_answer(&lab).is_empty());
    }
}

/// As RFC 5227 section 2.6 allows: the reply goes to all of the link, and names us.
#[test]
fn a_gateway_that_answers_by_broadcast_is_heard() {
    let mut gateway = station(1, &GATEWAY[..1]);
    gateway.is_silent = true;
    let mut lab = with(vec![gateway.clone()]);
    for _ in 0..200 {
        lab.run(Duration::from_millis(50));
        let reply = gateway.arp(Operation::Reply, ip(GATEWAY[0]), OURS, ip(US[0]));
        lab.hear(&gateway.frame(Mac::BROADCAST, ether_type::ARP, &reply));
    }
    assert!(lab.endpoint.is_up_for(PORT, crate::net::IpVersion::V4));
    assert_eq!((gateways(&lab)[0], lab.send_to(FAR4), lab.got(0)), (Some(mac(1)), Ok(()), 1));
}

/// A host that made itself known by asking for us is asked for by all of the link, so that whoever else has the address is heard.
#[test]
fn who_poses_as_a_host_by_asking_for_us_is_noticed() {
    for (host, us) in [("10.20.0.9", "10.20.0.2"), ("2001:db8:99::9", "2001:db8:99::2")] {
        let thief = station(66, &[host]);
        let mut lab = Lab::new(vec![port(PORT, ETH, on_link())], vec![thief.clone(), station(9, &[host])]);
        lab.hear(&thief.question(ip(host), ip(us)));
        assert_eq!((lab.send_to(host), lab.got(0)), (Ok(()), 1), "nobody else has said anything");
        lab.run(Duration::from_secs(8));
        assert_eq!(two_answer(&lab), [(ip(host), mac(66), mac(9))]);
    }
}

#[test]
fn an_answer_that_nobody_awaits_moves_nobody() {
    let mut lab = with(vec![station(1, &GATEWAY)]);
    let thief = station(66, &[]);
    for (address, us) in GATEWAY.map(ip).into_iter().zip(US.map(ip)) {
        for _ in 0..50 {
            lab.hear(&answer_of(&thief, address, us));
            lab.run(Duration::from_millis(70));
        }
    }
    assert_eq!((gateways(&lab), lab.status(PORT).counts.mac_changes), (vec![Some(mac(1)); 2], 0));
}

/// 100,000 in a second that say so to us, as answers, while the gateway answers each question once, a hundred of them later.
#[test]
fn a_flood_of_forged_answers_does_not_keep_the_gateway_from_being_heard() {
    let mut lab = with(vec![station(1, &GATEWAY)]);
    lab.stations[0].is_silent = true;
    let answers = |of: &Station| [0, 1].map(|at| answer_of(of, ip(GATEWAY[at]), ip(US[at])));
    let (forged, true_ones) = (answers(&station(66, &[])), answers(&station(1, &[])));
    let before = lab.status(PORT).counts;
    let mut answered = lab.stations[0].asked;
    for number in 0..200_000 {
        lab.hear(&forged[number % 2]);
        if number % 100 == 99 {
            if std::mem::replace(&mut answered, lab.stations[0].asked) < lab.stations[0].asked {
                for answer in &true_ones {
                    lab.hear(answer);
                }
            }
            lab.run(Duration::from_millis(1));
            assert_eq!(gateways(&lab), [Some(mac(1)); 2], "{number}");
        }
    }
    lab.stations[0].is_silent = false;
    let counts = lab.status(PORT).counts;
    assert_eq!(counts.mac_changes, before.mac_changes);
    assert!(counts.neighbour_messages_over_limit > before.neighbour_messages_over_limit + 150_000);
    assert!(!lab.saw(|event| matches!(event, Event::NextHopDown { .. })));
    for far in FAR {
        assert_eq!((lab.send_to(far), lab.got(0)), (Ok(()), 1));
    }
}
