//! What strangers on the link, and realms that scan, can cost.

use super::*;
use crate::link::neighbours::{MAX_INCOMPLETE, MAX_NEIGHBOURS, QUESTIONS_PER_SEC};
use crate::link::station::MESSAGES_PER_SEC;

fn address(number: u32) -> IpAddr {
    IpAddr::from((0x0a14_0000 | number).to_be_bytes())
}

fn address6(number: u32) -> IpAddr {
    IpAddr::from((0x2001_0db8_0099u128 << 80 | u128::from(number)).to_be_bytes())
}

/// So many realms that none reaches its share.
fn by(number: u32) -> RealmId {
    RealmId(number as u16 % 16)
}

/// 100,000 in a second, each from another address and hardware address, some in the name of the gateway.
#[test]
fn a_flood_of_spoofed_messages_is_bounded_and_traffic_goes_on() {
    let mut config = on_link();
    config.gateways = vec![ip("10.20.0.1"), ip("2001:db8:99::1")];
    config.networks = nets(&["10.0.0.0/8", "2001:db8:99::/48"]);
    let gateway = station(1, &["10.20.0.1", "2001:db8:99::1"]);
    let host = station(9, &["10.20.0.9"]);
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![gateway, host]);
    lab.send_to("10.20.0.9").unwrap();
    lab.got(1);
    let (mut sent, mut most) = (0, 0);
    let before = lab.status(PORT).counts;
    let (messages_before, asked_before) = (lab.messages, lab.stations[0].asked);
    let mut thief = station(66, &[]);
    for number in 0..100_000u32 {
        thief.mac = Mac([6, 0, 0, (number >> 16) as u8, (number >> 8) as u8, number as u8]);
        let claimed = 256 + number % 60_000;
        let frame = match number % 8 {
            0 => thief.announcement(ip("10.20.0.1")),
            1 => thief.announcement(ip("2001:db8:99::1")),
            2 => thief.announcement(ip("10.20.0.9")),
            3 => thief.question(address6(claimed), ip("2001:db8:99::2")),
            4 => thief.announcement(address6(claimed)),
            5 => thief.announcement(address(claimed)),
            _ => thief.question(address(claimed), ip("10.20.0.2")),
        };
        lab.hear(&frame);
        if number % 100 == 0 {
            lab.run(Duration::from_millis(1));
            for to in [FAR4, "2001:db8:99:5::9", "10.20.0.9"] {
                assert_eq!(lab.send_to(to), Ok(()));
                sent += 1;
            }
            most = most.max(lab.status(PORT).neighbours);
        }
    }
    assert_eq!((lab.got(0) + lab.got(1), sent), (sent, 3000), "the right stations got them all");
    assert!(lab.endpoint.is_up(PORT));
    assert!(!lab.saw(|event| matches!(event, Event::NextHopDown { .. })));
    let counts = lab.status(PORT).counts;
    let looked_at = (counts.neighbour_messages - before.neighbour_messages)
        - (counts.neighbour_messages_over_limit - before.neighbour_messages_over_limit);
    assert!((1000..u64::from(MESSAGES_PER_SEC) + 300).contains(&looked_at), "{looked_at}");
    assert!(lab.messages - messages_before < 2 * MESSAGES_PER_SEC as usize);
    assert!(lab.stations[0].asked - asked_before < 12, "{}", lab.stations[0].asked - asked_before);
    assert!(most <= MAX_NEIGHBOURS && counts.mac_changes == 0);
}

#[test]
fn strangers_fill_the_table_but_put_nobody_out_who_is_used() {
    let config = on_link();
    let hosts: Vec<String> = (0..20).map(|number| address(number + 10).to_string()).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(9, &hosts)]);
    for (number, host) in (0..).zip(&hosts) {
        lab.send_by(by(number), PORT, &to_host(host, b"?")).unwrap();
    }
    let mut thief = station(66, &[]);
    for number in 0..4000u32 {
        thief.mac = Mac([6, 0, 0, 0, (number >> 8) as u8, number as u8]);
        lab.run(Duration::from_millis(11)); // as fast as they are let in
        lab.hear(&thief.question(address(1000 + number), ip("10.20.0.2")));
    }
    assert_eq!(lab.status(PORT).neighbours, MAX_NEIGHBOURS, "the bound is reached");
    let asked = lab.stations[0].asked;
    lab.got(0);
    hosts.iter().for_each(|host| lab.send_to(host).unwrap());
    assert_eq!((lab.got(0), lab.stations[0].asked), (hosts.len(), asked));
    lab.send_to(&address(1000 + 3999).to_string()).unwrap();
    lab.run(Duration::from_secs(700));
    assert_eq!(lab.status(PORT).neighbours, 0, "all age");
}

/// 65,536 in a second that nobody has.
#[test]
fn unresolvable_destinations_cost_little_and_others_do_not_suffer() {
    for is_v6 in [false, true] {
        let host = if is_v6 { "2001:db8:99::9" } else { "10.20.0.9" };
        let mut lab = Lab::new(vec![port(PORT, ETH, on_link())], vec![station(9, &[host])]);
        lab.send_to(host).unwrap();
        let messages_before = lab.messages;
        let (mut most, mut refused) = ((0, 0), 0);
        for number in 0..3 * 65_536u32 {
            let number = number % 65_000 + 256;
            let to = if is_v6 { address6(number) } else { address(number % 65_000 + 256) };
            let packet = to_host(&to.to_string(), b"?");
            let sealed = lab.endpoint.seal(PORT, by(number), &packet, &mut lab.outbox);
            refused += u64::from(sealed == Err(DropReason::NeighbourUnresolved));
            if number % 64 == 0 {
                lab.run(Duration::from_micros(977));
                assert_eq!(lab.send_to(host), Ok(()));
                let status = lab.status(PORT);
                most = (status.neighbours.max(most.0), status.waiting.max(most.1));
            }
        }
        let asked = lab.messages - messages_before;
        assert!(asked < 3 * 3 * (QUESTIONS_PER_SEC as usize + 40), "{asked} questions in three seconds");
        assert!(most.0 > 200 && most.0 <= MAX_NEIGHBOURS, "{most:?}");
        assert_eq!(most.1, 64, "the bound is reached");
        lab.run(Duration::from_secs(7));
        let lost: u64 = lab.lost.iter().map(|lost| lost.packets).sum();
        assert!(lost >= 64, "{lost}");
        assert!(lab.lost.iter().all(|lost| lost.reason == DropReason::NeighbourUnresolved));
        let status = lab.status(PORT);
        assert_eq!((status.neighbours, status.waiting), (1, 0), "all is forgotten but the one that is there");
        assert!(refused > 190_000);
        assert_eq!(status.counts.unresolved, refused + lost);
    }
}

#[test]
fn not_more_are_asked_for_at_once_than_the_bound() {
    let mut lab = Lab::new(vec![port(PORT, ETH, on_link())], vec![]);
    let mut refused = 0;
    for number in 0..600u32 {
        lab.run(Duration::from_millis(4));
        let packet = to_host(&address(number + 256).to_string(), b"?");
        refused += usize::from(lab.send_by(by(number), PORT, &packet).is_err());
    }
    let status = lab.status(PORT);
    assert!(status.neighbours <= MAX_INCOMPLETE && status.neighbours > 200 && refused > 200, "{status:?}");
}

/// More than fit, all in use: who was used longest ago makes room, and gateways never do.
#[test]
fn a_full_table_of_neighbours_in_use_puts_out_the_idlest() {
    let mut config = on_link();
    config.gateways = vec![ip("10.20.0.1")];
    let hosts: Vec<String> = (0..1100).map(|number| address(number + 256).to_string()).collect();
    let mut texts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    texts.push("10.20.0.1");
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(9, &texts)]);
    for (number, host) in hosts.iter().enumerate() {
        lab.run(Duration::from_millis(11));
        assert_eq!(lab.send_by(by(number as u32), PORT, &to_host(host, b"?")), Ok(()));
    }
    assert_eq!((lab.status(PORT).neighbours, lab.got(0)), (MAX_NEIGHBOURS, 1100));
    let asked = lab.stations[0].asked;
    for host in &hosts[1100 - 900..] {
        assert_eq!(lab.send_to(host), Ok(()));
    }
    assert_eq!((lab.got(0), lab.stations[0].asked), (900, asked), "those are known");
    assert!(lab.endpoint.is_up(PORT) && lab.status(PORT).next_hops[0].mac.is_some());
    assert_eq!((lab.send_to(&hosts[0]), lab.stations[0].asked), (Ok(()), asked + 1), "this one was put out");
    // Who is being asked for makes room first, and what waits for him is lost and counted.
    for nobody in [address(60_000), address(60_001)] {
        lab.run(Duration::from_millis(11));
        assert_eq!(lab.send_to(&nobody.to_string()), Ok(()));
    }
    lab.run(Duration::from_secs(2));
    let lost = Lost { tunnel: PORT, packets: 1, reason: DropReason::NeighbourUnresolved };
    assert_eq!((&lab.lost[..], lab.status(PORT).counts.unresolved), (&[lost][..], 1));
}

/// 500 in a second that nobody has, for ten seconds: who is there is found for all other realms.
#[test]
fn a_realm_that_scans_a_link_shuts_no_other_out() {
    const SCANNER: RealmId = RealmId(8);
    for is_v6 in [false, true] {
        let to = |number| if is_v6 { address6(number) } else { address(number) }.to_string();
        let hosts: Vec<String> = (256..276).map(to).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let mut lab = Lab::new(vec![port(PORT, ETH, on_link())], vec![station(9, &hosts)]);
        let mut refused = 0;
        for number in 0..5000 {
            lab.run(Duration::from_millis(2));
            refused += usize::from(lab.send_by(SCANNER, PORT, &to_host(&to(1000 + number), b"?")).is_err());
            if number % 250 == 249 {
                let host = hosts[number as usize / 250];
                assert_eq!((lab.send_to(host), lab.got(0)), (Ok(()), 1), "{host}");
            }
        }
        assert!((4800..5000).contains(&refused), "{refused}");
    }
}

/// Those of one realm that wait leave room for another's.
#[test]
fn packets_of_one_realm_do_not_fill_the_queue() {
    let mut lab = Lab::new(vec![port(PORT, ETH, on_link())], vec![]);
    for number in 0..20 {
        let _ = lab.send_by(RealmId(8), PORT, &to_host(&address(256 + number).to_string(), b"?"));
    }
    assert_eq!(lab.status(PORT).waiting, 16);
    let second = lab.send_by(RealmId(8), PORT, &to_host(&address(256).to_string(), b"?"));
    assert_eq!(second, Err(DropReason::NeighbourQueueFull));
    assert_eq!((lab.send_to(&address(256).to_string()), lab.status(PORT).waiting), (Ok(()), 17));
}
