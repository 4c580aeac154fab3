//! What real time makes slow: key renewal and expiry, session timeouts, roaming, restarts, bad paths. The engine that `run`
//! runs, peers over boringtun, virtual time, from seeds.
//!
//! `cargo test --features sim --test sim`. `IXGATE_SIM_SEEDS=N` draws more seeds.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ixgate::net::Timestamp;
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets::{udp, verify};
use ixgate::sim::virtual_time::restart_boringtun_clock;
use ixgate::sim::world::{Link, World};

/// A may open B. B's gateway has a known address, so the appliance calls it; A's calls by itself.
const TWO: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:b}", endpoint = "203.0.113.1:51820" } }]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;

const A: usize = 0;
const B: usize = 1;

const BAD: Link = Link {
    lost_permille: 100,
    duplicated_permille: 50,
    damaged_permille: 20,
    delay: Duration::from_millis(30),
    jitter: Duration::from_millis(60),
};

struct Simulation {
    world: World,
    appliance: Appliance,
}

impl Simulation {
    fn start(link: Link, seed: u64) -> Self {
        Simulation::of(TWO, link, seed)
    }

    fn of(text: &str, link: Link, seed: u64) -> Self {
        restart_boringtun_clock();
        let appliance = Appliance::build(text);
        let now = Timestamp::from_secs(1);
        let mut world = World::new(appliance.engine(now), link, seed, now);
        for (name, keepalive_secs) in [("a", Some(25)), ("b", None)] {
            world.attach(appliance.site_key(name), appliance.public_key, keepalive_secs);
        }
        world.initiate(A);
        Simulation { world, appliance }
    }

    fn request(&self, number: u16) -> Vec<u8> {
        let b_for_a = self.appliance.seen_by("a", "b", "192.168.1.20");
        udp((ip("192.168.1.10"), 5000), (b_for_a, 443), &number.to_be_bytes())
    }

    fn reply(&self, number: u16) -> Vec<u8> {
        let a_for_b = self.appliance.seen_by("b", "a", "192.168.1.10");
        udp((ip("192.168.1.20"), 443), (a_for_b, 5000), &number.to_be_bytes())
    }

    fn secs(&mut self, secs: u64) {
        self.world.run_for(Duration::from_secs(secs));
    }

    /// Whether a request sent now arrives within two seconds.
    fn passes(&mut self) -> bool {
        let request = self.request(0);
        self.world.take_inbox(B);
        self.world.send(A, &request);
        self.secs(2);
        !self.world.take_inbox(B).is_empty()
    }

    fn drops(&self, realm: &str, reason: DropReason) -> u64 {
        self.appliance.drops(&self.world.report(), realm, reason)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn numbers(packets: &[Vec<u8>]) -> Vec<u16> {
    packets.iter().map(|p| u16::from_be_bytes([p[p.len() - 2], p[p.len() - 1]])).collect()
}

#[test]
fn ten_minutes_of_traffic_see_keys_renewed_without_a_gap() {
    let mut sim = Simulation::start(Link::PERFECT, 1);
    sim.secs(2);
    for number in 0..600 {
        let (request, reply) = (sim.request(number), sim.reply(number));
        sim.world.send(A, &request);
        sim.world.run_for(Duration::from_millis(500));
        sim.world.send(B, &reply);
        sim.world.run_for(Duration::from_millis(500));
    }
    let all: Vec<u16> = (0..600).collect();
    assert_eq!(numbers(&sim.world.take_inbox(B)), all, "requests");
    assert_eq!(numbers(&sim.world.take_inbox(A)), all, "replies");
    let renewals = sim.world.events.iter().filter(|event| event.contains("new keys")).count();
    assert!(renewals >= 8, "two tunnels, renewed every two minutes: {:#?}", sim.world.events);
}

#[test]
fn keys_expire_when_a_site_vanishes_and_the_tunnel_returns_with_it() {
    let mut sim = Simulation::start(Link::PERFECT, 2);
    sim.secs(2);
    assert!(sim.passes());
    sim.world.sites[B].online = false;
    sim.secs(200);
    let before = sim.drops("a", DropReason::TunnelDown);
    assert!(!sim.passes());
    assert_eq!(sim.drops("a", DropReason::TunnelDown), before + 1);
    assert!(sim.world.events.iter().any(|event| event.starts_with("realm b: tunnel down")), "{:#?}", sim.world.events);

    // An hour later it is back, and we have not stopped calling.
    sim.secs(3600);
    sim.world.sites[B].online = true;
    sim.secs(10);
    assert!(sim.passes(), "{:#?}", sim.world.events);
}

#[test]
fn a_udp_session_lasts_five_minutes_of_silence_and_not_longer() {
    for (silence, passes) in [(295, true), (305, false)] {
        let mut sim = Simulation::start(Link::PERFECT, 3);
        sim.secs(2);
        assert!(sim.passes());
        sim.secs(silence - 2);
        let reply = sim.reply(1);
        sim.world.send(B, &reply);
        sim.secs(1);
        assert_eq!(!sim.world.take_inbox(A).is_empty(), passes, "after {silence} s");
        // The reply has not kept it open: only its opener can. The hand comes by within half a minute.
        sim.secs(35);
        assert_eq!(sim.world.report().sessions, 0);
    }
}

#[test]
fn a_site_that_moves_is_followed() {
    let mut sim = Simulation::start(Link::PERFECT, 4);
    sim.secs(2);
    assert!(sim.passes());
    sim.world.sites[A].address = SocketAddr::from(([198, 51, 100, 77], 9999));
    assert!(sim.passes(), "its own packet tells where it is");
    let reply = sim.reply(9);
    sim.world.send(B, &reply);
    sim.secs(1);
    assert_eq!(numbers(&sim.world.take_inbox(A)), [9]);
}

#[test]
fn after_a_crash_tunnels_return_by_themselves_and_aliases_are_the_same() {
    let mut sim = Simulation::start(Link::PERFECT, 5);
    sim.secs(100);
    assert!(sim.passes());
    let (request, reply) = (sim.request(1), sim.reply(1));

    sim.world.appliance_down = true;
    sim.secs(30);
    sim.appliance = Appliance::with_state(TWO, &sim.appliance.allocations);
    let appliance = &sim.appliance;
    sim.world.replace_appliance(|now| appliance.engine(now));
    sim.world.appliance_down = false;
    assert_eq!((sim.request(1), sim.reply(1)), (request, reply), "aliases");

    // A sends as its users do; it notices after 15 seconds without an answer. B is called at once.
    for _ in 0..25 {
        let request = sim.request(2);
        sim.world.send(A, &request);
        sim.secs(1);
    }
    assert!(sim.passes(), "{:#?}", sim.world.events);
}

#[test]
fn bad_paths_delay_but_neither_forge_nor_misdirect() {
    let seeds = env::var("IXGATE_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let mut sim = Simulation::start(BAD, seed);
        sim.secs(60);
        for number in 0..200 {
            let (request, reply) = (sim.request(number), sim.reply(number));
            sim.world.send(A, &request);
            sim.world.send(B, &reply);
            sim.world.run_for(Duration::from_secs(1));
        }
        let (at_b, at_a) = (sim.world.take_inbox(B), sim.world.take_inbox(A));
        for (packets, sender, receiver) in [(&at_b, "a", "192.168.1.20"), (&at_a, "b", "192.168.1.10")] {
            for packet in packets {
                let headers = verify(packet).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let viewer = if sender == "a" { "b" } else { "a" };
                let host = if sender == "a" { "192.168.1.10" } else { "192.168.1.20" };
                assert_eq!(headers.source, sim.appliance.seen_by(viewer, sender, host), "seed {seed}");
                assert_eq!(headers.destination, ip(receiver), "seed {seed}");
            }
            let mut seen = numbers(packets);
            seen.sort_unstable();
            let distinct = {
                let mut all = seen.clone();
                all.dedup();
                all.len()
            };
            assert_eq!(seen.len(), distinct, "seed {seed}: a packet came twice");
            // A tenth is lost on each of two paths, and some to damage.
            assert!(distinct > 120, "seed {seed}: only {distinct} of 200 arrived\n{:#?}", sim.world.events);
        }
        let report = sim.world.report();
        let replayed = DropReason::DataReplayed.index();
        assert!(report.realms.iter().all(|realm| realm.drops[replayed] == 0), "nobody is blamed unproved");
        assert!(
            report.unattributed_drops[replayed] > 0,
            "seed {seed}: the path doubled datagrams, so some were seen twice"
        );
    }
}

/// Forty hosts behind four addresses, all with one port, over a path that loses, doubles and reorders: what comes back is
/// for who asked, and when all is silent no port is left in use.
#[test]
fn hosts_behind_a_pool_get_their_own_answers_over_a_bad_path() {
    use ixgate::wire::headers::Transport;

    let pool = "networks = [\"192.168.1.0/24\"]\nshow_as = { napt = [\"100.64.9.0/30\"], block_ports = 16 }\nattach";
    let text = TWO.replacen("networks = [\"192.168.1.0/24\"]\nattach", pool, 1);
    for seed in 1..4 {
        let mut sim = Simulation::of(&text, BAD, seed);
        sim.secs(10);
        let b_for_a = sim.appliance.seen_by("a", "b", "192.168.1.20");
        let host = |n: u16| ip(&format!("192.168.1.{n}"));
        let mut answered = 0;
        for round in 0..30u16 {
            for n in 1..=40 {
                sim.world.send(A, &udp((host(n), 5000), (b_for_a, 443), &n.to_be_bytes()));
            }
            sim.secs(5);
            for request in sim.world.take_inbox(B) {
                let headers = verify(&request).unwrap();
                let Transport::Udp { source_port, .. } = headers.transport else { panic!() };
                let number = &request[request.len() - 2..];
                sim.world.send(B, &udp((ip("192.168.1.20"), 443), (headers.source, source_port), number));
            }
            sim.secs(5);
            for reply in sim.world.take_inbox(A) {
                let headers = verify(&reply).unwrap();
                let number = u16::from_be_bytes([reply[reply.len() - 2], reply[reply.len() - 1]]);
                assert_eq!(headers.destination, host(number), "seed {seed}, round {round}");
                let Transport::Udp { destination_port, .. } = headers.transport else { panic!() };
                assert_eq!((headers.source, destination_port), (b_for_a, 5000));
                answered += 1;
            }
        }
        assert!(answered > 600, "seed {seed}: {answered} of 1200");
        assert_eq!(sim.world.report().napt_bindings, 40, "seed {seed}: one for each host, however many packets");
        sim.secs(400);
        assert_eq!(sim.world.report().napt_bindings, 0, "seed {seed}");
    }
}
