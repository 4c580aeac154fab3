//! IPsec realms around the engine that `run` runs: gateways over our own `ike` and `ipsec`, WireGuard sites beside them, in
//! virtual time. Every network is 192.168.1.0/24.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::dataplane::report::IpsecReport;
use ixgate::ike::{Encapsulation, Lifetimes, Profile};
use ixgate::net::{Path, Port};
use ixgate::packet::{Datagram, DropReason};
use ixgate::sim::appliance::Appliance;
use ixgate::sim::ipsec_site::Plan;
use ixgate::sim::mixed::{Mixed, plan};
use ixgate::sim::packets::{udp, verify};

/// A is attached by WireGuard, B and C by IPsec: B calls us, C is called.
const THREE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
listen = "198.51.100.1"
raw_esp = true
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ ipsec = { remote_id = "fqdn:b.example", psk_file = "secrets/b.example.psk" } }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ ipsec = { remote = "203.0.113.2", remote_id = "fqdn:c.example", psk_file = "secrets/c.example.psk" } }]
[[grant]]
from = ["a", "b", "c"]
to = ["realm:a", "realm:b", "realm:c"]
ports = ["any"]
"#;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const NAMES: [&str; 3] = ["a", "b", "c"];

struct Fixture {
    world: Mixed,
    appliance: Appliance,
}

fn called(name: &str, seed: u64) -> Plan {
    Plan { appliance: None, ..plan(name, seed) }
}

impl Fixture {
    fn start() -> Self {
        Fixture::with(THREE, plan("b.example", 11), called("c.example", 12))
    }

    fn with(text: &str, b: Plan, c: Plan) -> Self {
        let appliance = Appliance::build(text);
        let mut world = Mixed::new(&appliance, 1);
        assert_eq!(world.attach_wireguard(&appliance, "a"), A);
        assert_eq!((world.attach_ipsec(b), world.attach_ipsec(c)), (B, C));
        Fixture { world, appliance }
    }

    fn secs(&mut self, secs: u64) {
        self.world.run_for(Duration::from_secs(secs));
    }

    /// From host .10 of one site to host .20 of another, as the first sees it.
    fn packet(&self, from: usize, to: usize, number: u16) -> Vec<u8> {
        let destination = self.appliance.seen_by(NAMES[from], NAMES[to], "192.168.1.20");
        udp((ip("192.168.1.10"), 5000), (destination, 443), &number.to_be_bytes())
    }

    /// Sends one packet, and says whether it arrives within a second, whole and from where the receiver can answer.
    fn passes(&mut self, from: usize, to: usize) -> bool {
        let packet = self.packet(from, to, 7);
        self.world.take_inbox(to);
        self.world.send(from, &packet);
        self.secs(1);
        let arrived = self.world.take_inbox(to);
        let seen = self.appliance.seen_by(NAMES[to], NAMES[from], "192.168.1.10");
        match &arrived[..] {
            [] => false,
            [packet] => {
                let headers = verify(packet).expect("right checksums");
                assert_eq!((headers.source, headers.destination), (seen, ip("192.168.1.20")));
                true
            }
            _ => panic!("{} packets of one", arrived.len()),
        }
    }

    fn ipsec_report(&self, realm: &str) -> IpsecReport {
        let id = self.appliance.realm(realm);
        let report = self.world.report().tunnels.into_iter().find(|tunnel| tunnel.realm == id);
        *report.and_then(|tunnel| tunnel.ipsec).expect("an IPsec tunnel")
    }

    fn drops(&self, reason: DropReason) -> u64 {
        let report = self.world.report();
        let realms: u64 = report.realms.iter().map(|realm| realm.drops[reason.index()]).sum();
        realms + report.unattributed_drops[reason.index()]
    }

    fn assert_all_pass(&mut self) {
        for (from, to) in [(A, B), (B, A), (B, C), (C, B), (A, C), (C, A)] {
            let passes = self.passes(from, to);
            let of_b = self.world.ipsec(B).events.clone();
            let (names, ours) = ((NAMES[from], NAMES[to]), &self.world.events);
            assert!(passes, "{names:?}\nthe appliance: {ours:#?}\nB: {of_b:#?}");
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn wireguard_and_ipsec_realms_with_one_prefix_reach_each_other() {
    let mut ix = Fixture::start();
    ix.secs(2);
    ix.assert_all_pass();
    let (b, c) = (ix.ipsec_report("b"), ix.ipsec_report("c"));
    assert_eq!((b.stage, b.we_called, b.children.len()), ("established", Some(false), 1));
    assert_eq!((c.stage, c.we_called, c.children.len()), ("established", Some(true), 1));
    assert!(b.nat && b.esp_in_udp == Some(true), "forced encapsulation is the default");
    assert_eq!(b.failures, []);
    assert!(ix.world.report().tunnels.iter().all(|tunnel| tunnel.up && tunnel.last_handshake.is_some()));
}

#[test]
fn every_profile_and_both_ways_of_carrying_esp() {
    for (profile, name) in [(Profile::Modern, "modern"), (Profile::Pq, "pq"), (Profile::Compat, "compat")] {
        for (encapsulation, word) in [(Encapsulation::Udp, "udp"), (Encapsulation::Auto, "auto")] {
            let extra = format!("profile = \"{name}\", encapsulation = \"{word}\", psk_file");
            let text = THREE.replace("psk_file", &extra);
            let peer = |plan: Plan| Plan { profile, encapsulation, ..plan };
            let mut ix = Fixture::with(&text, peer(plan("b.example", 21)), peer(called("c.example", 22)));
            ix.secs(2);
            ix.assert_all_pass();
            let in_udp = ix.ipsec_report("c").esp_in_udp;
            assert_eq!(in_udp, Some(encapsulation == Encapsulation::Udp), "{name} {word}");
        }
    }
}

#[test]
fn traffic_both_ways_through_many_rekeys_loses_nothing() {
    let short = Lifetimes { ike: Duration::from_secs(97), child: Duration::from_secs(31), ..Lifetimes::default() };
    let text = THREE.replace("psk_file", "child_lifetime_secs = 60, ike_lifetime_secs = 300, psk_file");
    // B's gateway renews its SAs earlier than we do, C's later.
    let b = Plan { lifetimes: short, ..plan("b.example", 31) };
    let mut ix = Fixture::with(&text, b, called("c.example", 32));
    ix.secs(2);
    for number in 0..3000 {
        for (from, to) in [(B, C), (C, B)] {
            let packet = ix.packet(from, to, number);
            assert!(ix.world.send(from, &packet), "{:#?}", ix.world.ipsec(from).events);
        }
        ix.world.run_for(Duration::from_millis(200));
    }
    ix.secs(1);
    let numbers = |packets: Vec<Vec<u8>>| -> Vec<u16> {
        packets.iter().map(|packet| u16::from_be_bytes([packet[packet.len() - 2], packet[packet.len() - 1]])).collect()
    };
    let all: Vec<u16> = (0..3000).collect();
    for site in [B, C] {
        let arrived = numbers(ix.world.take_inbox(site));
        assert!(arrived == all, "{} of {}: {:#?}", arrived.len(), all.len(), ix.world.events);
    }
    let (b, c) = (ix.ipsec_report("b"), ix.ipsec_report("c"));
    let by_b = ix.world.ipsec(B).status().expect("a peer").counts;
    assert!(by_b.child_rekeys >= 15 && by_b.ike_rekeys >= 4, "{by_b:?}");
    assert!(c.counts.child_rekeys >= 8 && c.counts.ike_rekeys >= 1, "{c:#?}");
    assert!([&b, &c].iter().all(|report| report.children.len() <= 2 && report.ike_sas <= 2), "SAs leak: {b:#?} {c:#?}");
}

#[test]
fn bad_paths_delay_but_tunnels_come_up_and_stay() {
    let text = THREE.replace("psk_file", "child_lifetime_secs = 60, ike_lifetime_secs = 300, psk_file");
    for seed in 0..10 {
        let mut ix = Fixture::with(&text, plan("b.example", 100 + seed), called("c.example", 200 + seed));
        ix.world.lost_permille = 200;
        ix.secs(1_200);
        ix.world.lost_permille = 0;
        // Whatever was under way is finished, or begun anew after the last retransmission.
        ix.secs(180);
        let events = ix.world.events.clone();
        assert!(ix.passes(B, C) && ix.passes(C, B), "seed {seed}: {events:#?}");
        for report in [ix.ipsec_report("b"), ix.ipsec_report("c")] {
            assert!(report.ike_sas <= 2 && report.children.len() <= 2, "seed {seed}: SAs leak: {report:#?}");
        }
    }
}

#[test]
fn a_wrong_key_is_told_to_the_operator_and_to_nobody_else() {
    let wrong = Plan { psk: b"somebody else's preshared key".to_vec(), ..plan("b.example", 41) };
    let mut ix = Fixture::with(THREE, wrong, called("c.example", 42));
    ix.secs(5);
    assert!(!ix.passes(A, B));
    let report = ix.ipsec_report("b");
    assert!(report.failures.iter().any(|failure| failure.cause == "wrong_psk"), "{report:#?}");
    assert!(ix.world.events.iter().any(|event| event.starts_with("realm b: IKE failed")), "{:#?}", ix.world.events);
    assert!(ix.passes(A, C), "the others are not disturbed");
}

#[test]
fn a_packet_for_a_tunnel_that_is_down_is_dropped_with_the_reason_that_applies() {
    let away = |name: &str| Plan { psk: b"not the right key at all".to_vec(), appliance: None, ..plan(name, 51) };
    let mut ix = Fixture::with(THREE, away("b.example"), away("c.example"));
    ix.secs(1);
    assert!(!ix.passes(A, B) && !ix.passes(A, C));
    assert_eq!(ix.drops(DropReason::TunnelHasNoEndpoint), 1, "B has to call");
    assert_eq!(ix.drops(DropReason::TunnelDown), 1, "C is called, in vain");
}

#[test]
fn a_flood_of_first_messages_keeps_neither_packets_nor_peers_waiting() {
    let mut ix = Fixture::start();
    ix.secs(2);
    ix.assert_all_pass();
    // What a stranger's first message looks like: taken from a site that nobody knows.
    let mut stranger =
        ixgate::sim::ipsec_site::IpsecSite::new(plan("stranger.example", 61), ip("192.0.2.1"), ix.world.now());
    stranger.handle_timeout(ix.world.now());
    let (_, first) = stranger.take_outgoing().remove(0);
    let now = ix.world.now();
    let mut unanswered = 0;
    for round in 0..50_u8 {
        let flood: Vec<Vec<u8>> = (0..200_u8)
            .map(|n| {
                let mut message = first.clone();
                message[..2].copy_from_slice(&[round, n]); // another SPI each
                message
            })
            .collect();
        let datagrams = flood.iter().enumerate().map(|(n, bytes)| {
            let remote = std::net::SocketAddr::from(([192, 0, 2, n as u8], 500));
            Datagram::new(Path::from_port(Port::Ike, remote), bytes)
        });
        ix.world.engine.handle_input(datagrams, now);
        assert!(ix.world.engine.balances());
        let answers = ix.world.engine.outbox().datagrams().count();
        assert!(answers <= 16, "a call has a bounded share of IKE: {answers} answers");
        unanswered += 200 - answers;
        ix.world.engine.outbox().clear();
    }
    assert!(unanswered > 5_000);
    assert!(ix.drops(DropReason::IkeQueueFull) > 5_000, "the queue is bounded");
    ix.secs(5);
    ix.assert_all_pass();
}

/// B calls, and asks for what it may reach. Later it may reach C as well, of which it is told nothing.
#[test]
fn where_each_pair_has_a_child_sa_a_packet_of_another_pair_makes_its_own() {
    let pairs =
        THREE.replace("remote_id = \"fqdn:b.example\",", "remote_id = \"fqdn:b.example\", selectors = \"pairs\",");
    let narrow = pairs.replace("to = [\"realm:a\", \"realm:b\", \"realm:c\"]", "to = [\"realm:a\", \"realm:b\"]");
    let few = narrow.replace("from = [\"a\", \"b\", \"c\"]", "from = [\"a\", \"b\"]");
    assert!(pairs != THREE && narrow != pairs && few != narrow);
    let net = |text: &str| ixgate::net::Selector::from_net(text.parse().unwrap());
    let b =
        Plan { networks: vec![net("192.168.1.0/24")], reaches: vec![net("100.64.0.0/10")], ..plan("b.example", 71) };
    let mut ix = Fixture::with(&few, b, called("c.example", 72));
    ix.secs(2);
    assert!(ix.passes(A, B), "{:#?}", ix.world.events);
    assert_eq!(ix.ipsec_report("b").children.len(), 1);
    let now = ix.world.now();
    let snapshot = ix.appliance.change(&pairs);
    ix.world.engine.publish(snapshot, now);
    ix.secs(2);
    assert!(!ix.passes(C, B), "its own Child SA is made first");
    assert_eq!(ix.drops(DropReason::OutboundNotInSelectors), 1);
    assert!(ix.passes(C, B), "{:#?}", ix.world.events);
    assert!(ix.passes(A, B), "by the other as ever");
    let report = ix.ipsec_report("b");
    assert_eq!((report.we_called, report.failures.len()), (Some(false), 0), "{report:#?}");
    assert!(report.children.len() > 1 && report.children.iter().all(|child| child.theirs.len() == 1), "{report:#?}");
}

#[test]
fn the_first_realms_by_ipsec_may_come_while_it_runs() {
    let from = THREE.find("[[realm]]\nname = \"b\"").unwrap();
    let until = THREE.find("[[grant]]").unwrap();
    let alone =
        [&THREE[..from], &THREE[until..].replace(", \"b\", \"c\"", "").replace(", \"realm:b\", \"realm:c\"", "")];
    let mut ix = Fixture::with(&alone.concat(), plan("b.example", 81), called("c.example", 82));
    ix.secs(2);
    assert_eq!(ix.world.report().tunnels.len(), 1);
    let snapshot = ix.appliance.change(THREE);
    let now = ix.world.now();
    ix.world.engine.publish(snapshot, now);
    ix.secs(60); // B has called in vain and waits a while
    ix.assert_all_pass();
}
