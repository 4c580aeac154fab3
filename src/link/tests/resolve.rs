//! Who is where: asked, answered, waited for, forgotten.

use super::*;

const HOSTS: [&str; 2] = ["10.20.0.9", "2001:db8:99::9"];

fn with_hosts() -> Lab {
    Lab::new(vec![port(PORT, ETH, on_link())], vec![station(9, &HOSTS)])
}

#[test]
fn a_port_comes_up_and_packets_pass_by_its_gateways() {
    let mut lab = usual();
    assert!(lab.endpoint.is_up(PORT) && lab.endpoint.serves(PORT) && !lab.endpoint.serves(TunnelId(0)));
    assert!(lab.saw(|event| *event == Event::Up { tunnel: PORT }));
    assert_eq!((lab.send_to(FAR4), lab.send_to(FAR6)), (Ok(()), Ok(())));
    let got = std::mem::take(&mut lab.stations[0].got);
    assert_eq!(got, [to_host(FAR4, b"a packet"), to_host(FAR6, b"a packet")]);
    let back = udp((ip(FAR4), 53), (ip("192.168.7.7"), 4000), b"back");
    let frame = lab.stations[0].packet(OURS, &back);
    assert_eq!(lab.hear(&frame), Opened::Packet { tunnel: PORT, len: back.len() });
    assert_eq!(lab.walked, [(PORT, back)], "without the padding of a short frame");
}

#[test]
fn packets_wait_for_an_answer_and_leave_in_order() {
    for host in HOSTS {
        let mut lab = with_hosts();
        lab.stations[0].is_silent = true;
        for byte in 0..3 {
            assert_eq!(lab.send(PORT, &to_host(host, &[byte])), Ok(()));
        }
        assert_eq!(lab.send(PORT, &to_host(host, &[3])), Err(DropReason::NeighbourQueueFull));
        assert_eq!((lab.status(PORT).waiting, lab.stations[0].asked, lab.got(0)), (3, 1, 0));
        lab.stations[0].is_silent = false;
        lab.run(Duration::from_millis(1100)); // asked again
        let expected: Vec<_> = (0..3).map(|byte| to_host(host, &[byte])).collect();
        assert_eq!(lab.stations[0].got, expected);
        assert_eq!((lab.status(PORT).waiting, lab.stations[0].asked, lab.lost.len()), (0, 2, 0));
    }
}

#[test]
fn who_does_not_answer_is_left_alone_for_a_while() {
    for host in HOSTS {
        let mut lab = with_hosts();
        lab.stations[0].is_silent = true;
        assert_eq!(lab.send_to(host), Ok(()));
        lab.run(Duration::from_millis(3100));
        assert_eq!(lab.stations[0].asked, 3);
        let lost = Lost { tunnel: PORT, packets: 1, reason: DropReason::NeighbourUnresolved };
        assert_eq!(std::mem::take(&mut lab.lost), [lost]);
        assert_eq!(lab.send_to(host), Err(DropReason::NeighbourUnresolved));
        assert_eq!((lab.stations[0].asked, lab.status(PORT).counts.unresolved), (3, 2));
        lab.stations[0].is_silent = false;
        lab.run(Duration::from_secs(3));
        assert_eq!((lab.send_to(host), lab.got(0)), (Ok(()), 1));
    }
}

#[test]
fn a_neighbour_in_use_is_asked_now_and_then_and_one_that_is_gone_is_noticed() {
    for host in HOSTS {
        let mut lab = with_hosts();
        lab.send_to(host).unwrap();
        for _ in 0..120 {
            lab.run(Duration::from_secs(1));
            lab.send_to(host).unwrap();
        }
        assert_eq!(lab.got(0), 121, "none waits for what is known");
        assert!((3..12).contains(&lab.stations[0].asked), "{}", lab.stations[0].asked);
        lab.stations[0].addresses.clear(); // it moves to another station, silently
        let mut other = station(10, &[host]);
        other.got.clear();
        lab.stations.push(other);
        for _ in 0..80 {
            lab.run(Duration::from_secs(1));
            let _ = lab.send_to(host);
        }
        assert!(lab.got(1) > 10);
        assert_eq!(lab.send_to(host), Ok(()));
        assert_eq!((lab.got(0) > 0, lab.got(1)), (true, 1));
    }
}

#[test]
fn a_neighbour_that_nobody_needs_is_forgotten() {
    let mut lab = with_hosts();
    lab.send_to(HOSTS[0]).unwrap();
    lab.send_to(HOSTS[1]).unwrap();
    assert_eq!(lab.status(PORT).neighbours, 2);
    lab.run(Duration::from_secs(590));
    assert_eq!((lab.status(PORT).neighbours, lab.stations[0].asked), (2, 2), "nobody is asked for nothing");
    lab.run(Duration::from_secs(30));
    assert_eq!(lab.status(PORT).neighbours, 0);
}

#[test]
fn who_asks_for_us_is_known_without_being_asked() {
    for (host, us) in [(HOSTS[0], "10.20.0.2"), (HOSTS[1], "2001:db8:99::2")] {
        let mut lab = with_hosts();
        let question = lab.stations[0].question(ip(host), ip(us));
        assert_eq!(lab.hear(&question), Opened::Control);
        assert_eq!((lab.status(PORT).neighbours, lab.send_to(host), lab.got(0)), (1, Ok(()), 1));
        assert_eq!(lab.stations[0].asked, 0);
        lab.run(Duration::from_secs(6));
        assert_eq!(lab.stations[0].asked, 1, "but asked whether that is true");
    }
}

#[test]
fn what_is_said_unasked_makes_no_neighbours() {
    for (host, us) in [(HOSTS[0], "10.20.0.2"), (HOSTS[1], "2001:db8:99::2")] {
        let mut lab = with_hosts();
        let frame = lab.stations[0].announcement(ip(host));
        lab.hear(&frame);
        let question =
            lab.stations[0].question(ip(host), ip(if host == HOSTS[0] { "10.20.3.3" } else { "2001:db8:99::33" }));
        lab.hear(&question);
        if let (IpAddr::V4(_), us) = (ip(host), ip(us)) {
            let reply = lab.stations[0].arp(Operation::Reply, ip(host), OURS, us);
            let frame = lab.stations[0].frame(OURS, ether_type::ARP, &reply);
            assert_eq!(lab.hear(&frame), Opened::Control);
        }
        assert_eq!(lab.status(PORT).neighbours, 0);
    }
}

#[test]
fn nobody_elsewhere_and_no_group_becomes_a_neighbour() {
    let mut lab = with_hosts();
    let mut stranger = lab.stations[0].clone();
    for (from, us) in [("10.21.0.9", "10.20.0.2"), ("2001:db8:98::9", "2001:db8:99::2"), ("10.20.255.255", "10.20.0.2")]
    {
        lab.hear(&stranger.question(ip(from), ip(us)));
    }
    stranger.mac = Mac([3, 0, 0, 0, 0, 1]);
    for (host, us) in [(HOSTS[0], "10.20.0.2"), (HOSTS[1], "2001:db8:99::2")] {
        let malformed = Opened::dropped(DropReason::FrameMalformed);
        assert_eq!(lab.hear(&stranger.question(ip(host), ip(us))), malformed);
        let mut frame = stranger.question(ip(host), ip(us));
        frame[6] = 2; // the frame's sender alone is somebody
        lab.hear(&frame);
    }
    assert_eq!(lab.status(PORT).neighbours, 0);
}
