//! What a packet costs in the in-memory walk: decap -> classify -> policy -> route -> translate -> encap.
//!
//! `cargo bench --bench path` prints, for each inner size and number of sessions, nanoseconds per packet: the whole walk, the
//! AEAD alone (ChaCha20-Poly1305 open and seal of the same bytes, by the library that the walk uses), and the difference:
//! what everything that is not cryptography costs. Medians of several rounds, in one run, on one core.
//! `cargo bench --bench path -- --quick` skips the million sessions; `-- --size 64 --sessions 10000` measures one line.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ixgate::dataplane::Engine;
use ixgate::net::{Path, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets;
use ixgate::sim::peer::Peer;
use ixgate::sim::random::Random;

const CONFIG: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[limits]
sessions = 1100000
sessions_per_realm = 1100000
[[realm]]
name = "a"
networks = ["10.0.0.0/16"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["10.0.0.0/16"]
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;

const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
const SESSIONS: [usize; 3] = [10, 10_000, 1_000_000];
/// Datagrams sealed ahead and then walked in one timed round: one batch, so that they are in the cache, as they are when
/// the kernel has just copied them there. The sessions that they belong to are drawn from all.
const ROUND_PACKETS: usize = 64;
const ROUNDS: usize = 1601;
/// Given to the engine at once, as a receive call would.
const BURST: usize = 64;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (only_size, only_sessions) = (argument("--size"), argument("--sessions"));
    let wanted = |only: Option<usize>, value: usize| only.is_none_or(|only| only == value);
    println!("ns per packet, medians of {ROUNDS} rounds of {ROUND_PACKETS} packets; one core");
    println!("{:>6} {:>10} {:>10} {:>10} {:>14}", "bytes", "sessions", "walk", "AEAD", "all the rest");
    let all = SESSIONS.into_iter().filter(|sessions| !quick || *sessions < 1_000_000);
    for sessions in all.filter(|sessions| wanted(only_sessions, *sessions)) {
        let mut bench = Bench::start();
        bench.open_sessions(sessions);
        for size in SIZES_BYTES.into_iter().filter(|size| wanted(only_size, *size)) {
            let (walk, aead) = bench.measure(size, sessions);
            println!("{size:>6} {sessions:>10} {walk:>10.0} {aead:>10.0} {:>14.0}", walk - aead);
        }
    }
}

/// The number behind `name` on the command line.
fn argument(name: &str) -> Option<usize> {
    std::env::args().skip_while(|arg| arg != name).nth(1)?.parse().ok()
}

struct Bench {
    engine: Engine,
    peer_a: Peer,
    peer_b: Peer,
    now: Timestamp,
    alias_of_b: Ipv4Addr,
}

impl Bench {
    fn start() -> Self {
        let now = Timestamp::from_secs(1);
        let appliance = Appliance::build(CONFIG);
        let mut bench = Bench {
            peer_a: Peer::new(appliance.site_key("a"), appliance.public_key, None, 1),
            peer_b: Peer::new(appliance.site_key("b"), appliance.public_key, None, 2),
            alias_of_b: appliance.alias_of("b"),
            engine: appliance.engine(now),
            now,
        };
        shake_hands(&mut bench.engine, &mut bench.peer_a, 1, now);
        shake_hands(&mut bench.engine, &mut bench.peer_b, 2, now);
        bench
    }

    fn open_sessions(&mut self, sessions: usize) {
        let all: Vec<usize> = (0..sessions).collect();
        for chunk in all.chunks(16_384) {
            let datagrams = self.seal(chunk, 64);
            self.walk(&datagrams);
        }
        let report = self.engine.report(self.now);
        assert_eq!(report.sessions, sessions, "{:?}", report.totals);
    }

    /// Medians of (walk, AEAD alone).
    fn measure(&mut self, size: usize, sessions: usize) -> (f64, f64) {
        let (mut walks, mut aeads) = (Vec::new(), Vec::new());
        let mut random = Random(size as u64);
        for _ in 0..ROUNDS {
            let order: Vec<usize> = (0..ROUND_PACKETS).map(|_| random.below(sessions as u64) as usize).collect();
            let datagrams = self.seal(&order, size);
            let forwarded = self.engine.report(self.now).totals.forwarded;
            let start = Instant::now();
            self.walk(&datagrams);
            walks.push(start.elapsed().as_nanos() as f64 / ROUND_PACKETS as f64);
            let report = self.engine.report(self.now);
            assert_eq!(report.totals.forwarded - forwarded, ROUND_PACKETS as u64, "{report:?}");
            aeads.push(aead_alone(&datagrams));
        }
        (median(walks), median(aeads))
    }

    fn seal(&mut self, sessions: &[usize], size: usize) -> Vec<Vec<u8>> {
        let packets: Vec<_> = sessions.iter().map(|session| self.packet(*session, size)).collect();
        packets.iter().map(|packet| self.peer_a.send(packet).expect("a session")).collect()
    }

    /// The inner packet of a session: hosts and ports of the source realm vary.
    fn packet(&self, session: usize, size: usize) -> Vec<u8> {
        let source = Ipv4Addr::from_bits(0x0a00_0000 | (session as u32 % 60_000 + 1));
        let source_port = 1024 + (session / 60_000) as u16;
        let payload = vec![0x5a; size - 28];
        packets::udp((IpAddr::V4(source), source_port), (IpAddr::V4(self.alias_of_b), 443), &payload)
    }

    /// Every datagram through the engine. What comes out is thrown away.
    fn walk(&mut self, datagrams: &[Vec<u8>]) {
        let path = path(1);
        for burst in datagrams.chunks(BURST) {
            self.engine.handle_input(burst.iter().map(|bytes| Datagram::new(path, bytes)), self.now);
            black_box(self.engine.outbox().runs().len());
            self.engine.outbox().clear();
        }
    }
}

fn shake_hands(engine: &mut Engine, peer: &mut Peer, port: u16, now: Timestamp) {
    let mut to_appliance: Vec<Vec<u8>> = peer.initiate().into_iter().collect();
    while let Some(bytes) = to_appliance.pop() {
        engine.handle_input([Datagram::new(path(port), &bytes)].into_iter(), now);
        for (_, _, answer) in engine.outbox().datagrams() {
            to_appliance.extend(peer.receive(answer).datagrams);
        }
        engine.outbox().clear();
    }
    assert!(peer.has_session());
}

/// Opens and seals as many bytes as the walk does, nothing else.
fn aead_alone(datagrams: &[Vec<u8>]) -> f64 {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("32 bytes"));
    // Sealed ahead with this key, so that opening succeeds.
    let mut sealed: Vec<Vec<u8>> = datagrams.iter().map(|d| d[16..d.len() - 16].to_vec()).collect();
    for (n, bytes) in sealed.iter_mut().enumerate() {
        key.seal_in_place_append_tag(nonce(n), Aad::empty(), bytes).expect("sealed");
    }
    let start = Instant::now();
    for (n, bytes) in sealed.iter_mut().enumerate() {
        let len = key.open_in_place(nonce(n), Aad::empty(), bytes).expect("opened").len();
        let tag = key.seal_in_place_separate_tag(nonce(n), Aad::empty(), &mut bytes[..len]);
        let _ = black_box(tag.expect("sealed"));
    }
    start.elapsed().as_nanos() as f64 / datagrams.len() as f64
}

fn nonce(n: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(n as u64).to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn path(port: u16) -> Path {
    Path::to(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
