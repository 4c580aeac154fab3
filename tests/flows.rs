//! Known flows: whatever becomes of a packet that goes the short way would have become of it by the long way, too. Two appliances
//! hear the same; one of them has forgotten all flows before each packet.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets::{segment, set_dont_fragment, udp};
use ixgate::sim::random::Random;
use ixgate::wire::tcp::flag;

/// Three realms that share every address. `{grants}` are what changes.
const FILE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[limits]
sessions = 60
sessions_per_realm = 25
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:b}" }, mtu_bytes = 1300 }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:c}" } }]
{grants}
"#;

const OPEN: &str = r#"
[[grant]]
from = ["a", "c"]
to = ["realm:b"]
ports = ["any"]
[[grant]]
from = ["b"]
to = ["realm:a"]
ports = ["udp/1000-1003"]
"#;

const CLOSED_TO_C: &str = r#"
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;

const SITES: [&str; 3] = ["a", "b", "c"];

fn file(grants: &str) -> String {
    FILE.replace("{grants}", grants)
}

/// What stays of a report that does not tell how the walk went.
fn account(appliance: &Appliance, lan: &Lan) -> String {
    let report = lan.report();
    let drops: Vec<_> = SITES
        .iter()
        .map(|site| DropReason::ALL.iter().map(|reason| appliance.drops(&report, site, *reason)).collect::<Vec<_>>())
        .collect();
    format!("{:?} {} {drops:?}", report.totals, report.sessions)
}

struct Pair {
    appliance: Appliance,
    /// Knows flows, and never does.
    lans: [Lan; 2],
}

impl Pair {
    fn start() -> Pair {
        let appliance = Appliance::build(&file(OPEN));
        let lans = [0, 1].map(|_| Lan::start(&appliance, &SITES));
        Pair { appliance, lans }
    }

    fn each(&mut self, mut step: impl FnMut(&mut Lan) -> Vec<Arrival>) -> Vec<Arrival> {
        self.lans[1].engine.forget_flows();
        let [known, unknown] = self.lans.each_mut().map(&mut step);
        assert_eq!(known, unknown);
        assert_eq!(account(&self.appliance, &self.lans[0]), account(&self.appliance, &self.lans[1]));
        known
    }

    fn send(&mut self, site: usize, packet: &[u8]) -> Vec<Arrival> {
        self.each(|lan| lan.send(site, packet))
    }

    /// Several in one call, so that they walk in one batch.
    fn send_at_once(&mut self, packets: &[(usize, Vec<u8>)]) -> Vec<Arrival> {
        self.each(|lan| {
            let sealed: Vec<_> = packets.iter().map(|(site, packet)| (*site, lan.seal(*site, packet))).collect();
            lan.deliver_at_once(&sealed)
        })
    }

    fn pass_secs(&mut self, secs: u64) {
        self.each(|lan| lan.advance_to(lan.now + Duration::from_secs(secs)));
    }

    fn reload(&mut self, grants: &str) {
        let snapshot = self.appliance.change(&file(grants));
        self.each(|lan| {
            lan.engine.publish(snapshot.clone(), lan.now);
            Vec::new()
        });
    }

    fn known(&self) -> u64 {
        self.lans[0].report().known_flow_packets
    }
}

/// Few hosts, few ports, so that flows come again and again, and in both directions.
fn draw(random: &mut Random, appliance: &Appliance) -> (usize, Vec<u8>) {
    let (from, to) = [(0, 1), (2, 1), (1, 0), (1, 2)][random.below(4) as usize];
    let host = |random: &mut Random| format!("192.168.1.{}", 1 + random.below(2));
    let (source, native) = (host(random), host(random));
    let destination: IpAddr = appliance.seen_by(SITES[from], SITES[to], &native);
    let port = |random: &mut Random| 1000 + random.below(3) as u16;
    let ends = ((source.parse().unwrap(), port(random)), (destination, port(random)));
    let payload = vec![7; [0, 10, 1200, 1272, 1273, 1350][random.below(6) as usize]];
    let mut packet = if random.below(2) == 0 {
        udp(ends.0, ends.1, &payload)
    } else {
        let flags =
            [flag::SYN, flag::SYN | flag::ACK, flag::ACK, flag::ACK, flag::ACK, flag::FIN | flag::ACK, flag::RST]
                [random.below(7) as usize];
        segment(ends.0, ends.1, (random.below(3) as u32 * 1000, random.below(3) as u32 * 1000), flags, &payload)
    };
    match random.below(20) {
        0 => packet[8] = 1, // one hop left: a wrong checksum, which nobody minds on the way
        1 => set_dont_fragment(&mut packet, false),
        2 => packet.extend([0; 5]), // padding behind the packet
        3 => packet[1] = 0xb8,
        _ => {}
    }
    (from, packet)
}

#[test]
fn known_and_unknown_flows_are_treated_alike() {
    let mut pair = Pair::start();
    let mut random = Random(std::env::var("IXGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1));
    for step in 0..6_000 {
        match random.below(400) {
            0 => pair.reload(if random.below(2) == 0 { OPEN } else { CLOSED_TO_C }),
            1 => pair.pass_secs([1, 31, 120, 299, 300, 301][random.below(6) as usize]),
            2..100 => {
                let count = random.below(12);
                let packets: Vec<_> = (0..count).map(|_| draw(&mut random, &pair.appliance)).collect();
                pair.send_at_once(&packets);
            }
            _ => {
                let (site, packet) = draw(&mut random, &pair.appliance);
                pair.send(site, &packet);
            }
        }
        // WireGuard's keys would be too old for the gateways' own clock otherwise.
        if step % 1000 == 999 {
            for site in 0..SITES.len() {
                pair.each(|lan| {
                    lan.connect(site);
                    Vec::new()
                });
            }
        }
    }
    let [known, unknown] = pair.lans.each_ref().map(Lan::report);
    assert!(
        known.known_flow_packets * 5 > known.totals.forwarded,
        "{} of {:?}",
        known.known_flow_packets,
        known.totals
    );
    assert_eq!(unknown.known_flow_packets, 0);
}

#[test]
fn a_flow_is_known_from_its_second_packet_on() {
    let mut pair = Pair::start();
    let (host, b) = ("192.168.1.1".parse().unwrap(), pair.appliance.seen_by("a", "b", "192.168.1.2"));
    let packet = udp((host, 1000), (b, 2000), b"hello");
    for known in 0..3 {
        assert_eq!(pair.send(0, &packet).len(), 1);
        assert_eq!(pair.known(), known);
    }
    let back =
        udp(("192.168.1.2".parse().unwrap(), 2000), (pair.appliance.seen_by("b", "a", "192.168.1.1"), 1000), b"yes");
    for known in 2..4 {
        assert_eq!(pair.send(1, &back).len(), 1);
        assert_eq!(pair.known(), known);
    }
}

/// To the second, though packets of known flows meet no session's own entry.
#[test]
fn known_flows_keep_their_session_alive_exactly_as_long() {
    let mut pair = Pair::start();
    let (host, b) = ("192.168.1.1".parse().unwrap(), pair.appliance.seen_by("a", "b", "192.168.1.2"));
    let (server, a) = ("192.168.1.2".parse().unwrap(), pair.appliance.seen_by("b", "a", "192.168.1.1"));
    // Not a port that b may open itself.
    let (packet, back) = (udp((host, 5000), (b, 2000), b"hello"), udp((server, 2000), (a, 5000), b"yes"));
    for _ in 0..3 {
        assert_eq!((pair.send(0, &packet).len(), pair.send(1, &back).len()), (1, 1));
    }
    // WireGuard's sessions last no longer than three minutes.
    let pass_secs = |pair: &mut Pair, secs| {
        pair.pass_secs(secs);
        for site in 0..SITES.len() {
            pair.each(|lan| {
                lan.connect(site);
                Vec::new()
            });
        }
    };
    for known in [5, 6] {
        pass_secs(&mut pair, 299);
        assert_eq!((pair.known(), pair.send(0, &packet).len()), (known - 1, 1), "the opener's direction");
    }
    let sessions = |pair: &Pair| pair.lans[0].report().sessions;
    for _ in 0..2 {
        pass_secs(&mut pair, 149);
        assert_eq!((pair.send(1, &back).len(), sessions(&pair)), (1, 1), "the other direction");
    }
    pass_secs(&mut pair, 2);
    assert_eq!((pair.send(1, &back).len(), pair.known()), (0, 8), "does not keep it");
    assert_eq!((pair.send(0, &packet).len(), sessions(&pair)), (1, 1), "a new one");
}

#[test]
fn a_reload_that_takes_a_grant_away_stops_a_known_flow() {
    let mut pair = Pair::start();
    let (host, b) = ("192.168.1.1".parse().unwrap(), pair.appliance.seen_by("c", "b", "192.168.1.2"));
    let packet = udp((host, 1000), (b, 2000), b"hello");
    for _ in 0..3 {
        assert_eq!(pair.send(2, &packet).len(), 1);
    }
    pair.reload(CLOSED_TO_C);
    for _ in 0..3 {
        assert_eq!(pair.send(2, &packet), []);
    }
    assert_eq!(pair.appliance.drops(&pair.lans[0].report(), "c", DropReason::NotGranted), 3);
    assert_eq!(pair.known(), 2);
}
