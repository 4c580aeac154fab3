//! Our own addresses: echo, who may not have them, and for whom else we answer.

use super::*;
use crate::link::endpoint::Down;
use crate::sim::packets::{echo, tcp};
use crate::wire::headers;

const PAIRS: [(&str, &str); 2] = [("172.20.0.1", "172.20.0.2"), ("2001:db8:9::1", "2001:db8:9::2")];

#[test]
fn ping_of_our_addresses_is_answered_and_nothing_else() {
    let mut lab = usual();
    let gateway = lab.stations[0].clone();
    for (there, here) in PAIRS {
        let ping = echo(ip(there), ip(here), 7, false);
        assert_eq!(lab.hear(&gateway.packet(OURS, &ping)), Opened::Control);
        assert_eq!(lab.stations[0].got, [echo(ip(here), ip(there), 7, true)]);
        lab.stations[0].got.clear();
        let refused = Opened::dropped(DropReason::ServiceNotOffered);
        let others = [
            udp((ip(there), 53), (ip(here), 53), b"?"),
            udp((ip(there), 50_000), (ip(here), 3784), &[0x20; 24]),
            tcp((ip(there), 5000), (ip(here), 22), 2, &[], b""),
            echo(ip(there), ip(here), 7, true),
            echo(ip(here), ip(here), 7, false),
        ];
        for packet in others {
            assert_eq!(lab.hear(&gateway.packet(OURS, &packet)), refused);
        }
        assert_eq!(lab.got(0), 0);
    }
    assert_eq!((lab.walked.len(), lab.status(PORT).counts.echoes), (0, 2));
}

#[test]
fn pings_are_answered_up_to_a_rate() {
    let mut lab = usual();
    let frame = lab.stations[0].packet(OURS, &echo(ip("172.20.0.1"), ip("172.20.0.2"), 7, false));
    for _ in 0..10_000 {
        lab.run(Duration::from_micros(100));
        lab.hear(&frame);
    }
    let (got, rate) = (lab.got(0), crate::link::station::ECHOES_PER_SEC as usize);
    assert!((rate..=rate + 60).contains(&got), "{got}");
    assert_eq!(lab.hear(&frame), Opened::dropped(DropReason::PortOverLimit));
}

#[test]
fn we_answer_for_our_addresses_once_they_are_ours() {
    for ((there, here), nobodys) in PAIRS.into_iter().zip(["172.20.0.77", "2001:db8:9::77"]) {
        let mut lab = usual();
        let answers = |lab: &mut Lab, target: &str| {
            let before = lab.messages;
            lab.hear(&lab.stations[0].question(ip(there), ip(target)));
            lab.messages - before
        };
        assert_eq!((answers(&mut lab, here), answers(&mut lab, nobodys)), (1, 0));
        lab.link(ETH, false);
        lab.stations.push(station(2, &[here])); // meanwhile somebody takes it
        lab.link(ETH, true);
        lab.run(Duration::from_secs(2));
        assert_eq!(answers(&mut lab, here), 0, "not any more");
    }
}

#[test]
fn an_address_that_somebody_else_has_is_not_used() {
    for (there, here) in PAIRS {
        let version = if ip(here).is_ipv6() { "64" } else { "24" };
        let config = ethernet(&[&format!("{here}/{version}")], &[there]);
        let stations = vec![station(1, &[there]), station(2, &[here])];
        let mut lab = Lab::new(vec![port(PORT, ETH, config)], stations);
        assert!(!lab.endpoint.is_up(PORT));
        let duplicate = Event::DuplicateAddress { tunnel: PORT, address: ip(here), mac: mac(2) };
        assert!(lab.saw(|event| *event == duplicate));
        let status = lab.status(PORT);
        let address = status.addresses.iter().find(|status| status.address == ip(here)).unwrap();
        assert_eq!((address.state, address.other), ("duplicate", Some(mac(2))));
        assert_eq!((status.down, status.counts.conflicts > 0), (Some(Down::NoAddress), true));
        let far = if ip(here).is_ipv6() { FAR6 } else { FAR4 };
        assert_eq!(lab.send_to(far), Err(DropReason::PortDown));
        let ping = lab.stations[0].packet(OURS, &echo(ip(there), ip(here), 7, false));
        assert_eq!(lab.hear(&ping), Opened::dropped(DropReason::ServiceNotOffered));
        let before = lab.messages;
        lab.hear(&lab.stations[0].question(ip(there), ip(here)));
        assert_eq!(lab.messages, before, "it is not ours to answer for");
        lab.stations[1].addresses.clear();
        lab.run(Duration::from_secs(120));
        assert!(lab.endpoint.is_up(PORT), "it is free again");
        assert_eq!((lab.send_to(far), lab.got(0)), (Ok(()), 1));
    }
}

#[test]
fn we_answer_for_proxied_addresses_to_others_only() {
    let mut config = on_link();
    config.proxy = nets(&["10.20.8.0/24", "2001:db8:99::8:0/112", "10.20.1.1/32"]);
    config.networks = nets(&["10.20.1.0/24", "2001:db8:99:0:1::/80"]);
    for (asker, alias, own, elsewhere) in [
        ("10.20.1.5", "10.20.8.8", "10.20.1.1", "10.20.9.9"),
        ("2001:db8:99::5", "2001:db8:99::8:8", "2001:db8:99:0:1::1", "2001:db8:99::9:9"),
    ] {
        let mut lab = Lab::new(vec![port(PORT, ETH, config.clone())], vec![station(5, &[asker])]);
        let mut answers = |from: &str, target: &str| {
            let before = lab.messages;
            lab.hear(&lab.stations[0].question(ip(from), ip(target)));
            lab.messages - before
        };
        assert_eq!(answers(asker, alias), 1);
        assert_eq!(answers(alias, alias), 0, "announced by its owner");
        assert_eq!(answers(asker, own), 0, "a network of the realm itself");
        assert_eq!(answers(asker, elsewhere), 0);
        if ip(alias).is_ipv4() {
            assert_eq!(answers("0.0.0.0", alias), 0, "a probe: he may have it");
        }
    }
}

#[test]
fn a_proxy_is_silent_for_neighbours_that_are_there() {
    let mut config = on_link();
    config.proxy = nets(&["10.20.8.0/24"]);
    config.networks = nets(&["10.30.0.0/16"]);
    let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(5, &["10.20.1.5"]), station(8, &["10.20.8.8"])]);
    lab.send_to("10.20.8.8").unwrap();
    assert_eq!(lab.got(1), 1);
    let before = lab.messages;
    lab.hear(&lab.stations[0].question(ip("10.20.1.5"), ip("10.20.8.8")));
    assert_eq!(lab.messages, before);
}

#[test]
fn unchanged_ports_keep_their_neighbours_and_changed_ones_begin_anew() {
    let config = on_link();
    let mut lab = Lab::new(vec![port(PORT, ETH, config.clone())], vec![station(9, &["10.20.0.9", "10.20.0.8"])]);
    lab.send_to("10.20.0.9").unwrap();
    lab.configure(vec![port(PORT, ETH, config.clone())]);
    let mut with_gateway = config.clone();
    with_gateway.gateways = vec![ip("10.20.0.8")];
    lab.configure(vec![port(PORT, ETH, with_gateway.clone())]);
    lab.run(Duration::from_secs(8));
    assert!(lab.endpoint.is_up(PORT) && lab.status(PORT).neighbours == 2);
    assert_eq!(lab.status(PORT).next_hops.len(), 1);

    let asked = lab.stations[0].asked;
    lab.send_to("10.20.0.9").unwrap();
    assert_eq!((lab.got(0), lab.stations[0].asked), (2, asked), "not asked for again");
    with_gateway.addresses = nets(&["10.20.0.3/16"]);
    lab.configure(vec![port(PORT, ETH, with_gateway)]);
    assert!(!lab.endpoint.is_up(PORT));
    lab.run(Duration::from_secs(8));
    assert!(lab.endpoint.is_up(PORT));
    assert_eq!(lab.status(PORT).neighbours, 1, "the gateway");
    lab.configure(vec![]);
    assert!(!lab.endpoint.serves(PORT) && lab.endpoint.status(PORT).is_none());
    assert_eq!(lab.send_to("10.20.0.9"), Err(DropReason::NoTunnel));
    assert_eq!(lab.endpoint.poll_timeout(), None);
}

#[test]
fn routers_are_believed_only_where_that_is_wanted() {
    use crate::wire::ndp::Preference;
    for accepts in [false, true] {
        let mut config = ethernet(&["2001:db8:9::2/64"], &[]);
        config.accept_ra = accepts;
        config.networks = nets(&["2001:db8:99::/48"]);
        let mut lab = Lab::new(vec![port(PORT, ETH, config)], vec![station(1, &["fe80::1"])]);
        let frame = routers::advertisement(&lab.stations[0], Preference::Medium, 60);
        assert_eq!(lab.hear(&frame), Opened::Control);
        assert_eq!(lab.send_to(FAR6), Ok(()));
        assert_eq!(lab.got(0), usize::from(accepts), "else it is looked for on the link");
        lab.run(Duration::from_secs(120));
        let _ = lab.send_to(FAR6);
        assert_eq!(lab.got(0), 0, "its lifetime is over");
    }
}

#[test]
fn answers_have_the_version_of_the_question() {
    let mut lab = usual();
    for (there, here) in PAIRS {
        lab.hear(&lab.stations[0].packet(OURS, &echo(ip(there), ip(here), 7, false)));
    }
    let versions: Vec<_> = lab.stations[0].got.iter().map(|packet| headers::parse(packet).unwrap().is_v6()).collect();
    assert_eq!(versions, [false, true]);
}
