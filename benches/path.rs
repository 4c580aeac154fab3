//! What a packet costs in the in-memory walk: decap -> classify -> policy -> route -> translate -> encap.
//!
//! `cargo bench --bench path` prints, for each pair of tunnels (from, to), inner size and number of sessions, nanoseconds per
//! packet: the whole walk, the AEAD alone (open and seal of as many bytes, by the calls and with the algorithms that the
//! walk uses: `open_batch` and `seal_batch`, ChaCha20-Poly1305 in WireGuard, AES-GCM-256 in ESP), and the difference: what everything that is not
//! cryptography costs. *first walk* is the batch before the one of *walk*, right after other work of the processor. `IXGATE_CRYPTO=library` in the environment has both done by the library. Medians of several rounds, in one run, on one core. ESP is in UDP, with extended sequence numbers.
//! `cargo bench --bench path -- --quick` skips the million sessions; `-- --size 64 --sessions 10000 --ways esp-esp` measures
//! one line (ways: wg-wg, esp-esp, wg-esp, esp-wg). `-- --tunnels 10000 --sessions 10000` has the packets come by as many tunnels,
//! drawn like the sessions; by default it is one.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ixgate::crypto::{Cipher, Kernels, OpenJob, PacketKey, SealJob, Stamp, Suite, open_batch, seal_batch};
use ixgate::dataplane::Engine;
use ixgate::io::memory::prefer_huge_pages;
use ixgate::net::{Path, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::far_end::FarEnd;
use ixgate::sim::packets;
use ixgate::sim::peer::Peer;
use ixgate::sim::random::Random;

/// `{attach:NAME}` is how the realm is attached.
const CONFIG: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
[limits]
sessions = 1100000
sessions_per_realm = 1100000
{sources}
[[realm]]
name = "b"
networks = ["10.0.0.0/16"]
attach = [{attach:b}]
[[grant]]
from = [{names}]
to = ["realm:b"]
ports = ["any"]
"#;

/// Where packets come from. With many, their networks are small enough for all to have aliases.
const SOURCE: &str = r#"
[[realm]]
name = "{name}"
networks = ["{network}"]
attach = [{attach}]
"#;

const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
const SESSIONS: [usize; 3] = [10, 10_000, 1_000_000];
/// Datagrams in one timed batch. Two batches are sealed ahead and then walked in each round: so few, that they are in the cache, as they are
/// when the kernel has just copied them there. The sessions that they belong to are drawn from all.
const ROUND_PACKETS: usize = 64;
const ROUNDS: usize = 1601;
/// Given to the engine at once, as a receive call would.
const BURST: usize = 64;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (only_size, only_sessions, only_way) = (number("--size"), number("--sessions"), argument("--ways"));
    let tunnels = number("--tunnels").unwrap_or(1);
    let wanted = |only: Option<usize>, value: usize| only.is_none_or(|only| only == value);
    if std::env::var("IXGATE_CRYPTO").is_ok_and(|what| what == "library") {
        Kernels::leave_to_library();
    }
    println!(
        "ns per packet, medians of {ROUNDS} rounds of {ROUND_PACKETS} packets; one core; AEAD by {}",
        Kernels::chosen()
    );
    println!(
        "{:<8} {:>6} {:>10} {:>10} {:>10} {:>14} {:>12}",
        "tunnels", "bytes", "sessions", "walk", "AEAD", "all the rest", "first walk"
    );
    for way in WAYS.into_iter().filter(|way| only_way.as_ref().is_none_or(|only| *only == name(*way))) {
        let all = SESSIONS.into_iter().filter(|sessions| !quick || *sessions < 1_000_000);
        for sessions in all.filter(|sessions| wanted(only_sessions, *sessions)) {
            let mut bench = Bench::start(way, tunnels);
            bench.open_sessions(sessions);
            for size in SIZES_BYTES.into_iter().filter(|size| wanted(only_size, *size)) {
                let Medians { walk, first, aead } = bench.measure(size, sessions);
                let (name, rest) = (name(way), walk - aead);
                println!("{name:<8} {size:>6} {sessions:>10} {walk:>10.0} {aead:>10.0} {rest:>14.0} {first:>12.0}");
            }
        }
    }
}

/// How a realm is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    WireGuard,
    Esp,
}

/// From, to.
type Way = [Kind; 2];

const WAYS: [Way; 4] = [
    [Kind::WireGuard, Kind::WireGuard],
    [Kind::Esp, Kind::Esp],
    [Kind::WireGuard, Kind::Esp],
    [Kind::Esp, Kind::WireGuard],
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::WireGuard => "wg",
            Kind::Esp => "esp",
        }
    }

    fn attach(self, realm: &str) -> String {
        match self {
            Kind::WireGuard => format!(r#"{{ wireguard = {{ public_key = "{{key:{realm}}}" }} }}"#),
            Kind::Esp => format!(
                r#"{{ ipsec = {{ remote_id = "fqdn:{realm}.example", psk_file = "secrets/{realm}.example.psk" }}, mtu_bytes = 1420 }}"#
            ),
        }
    }

    /// What the packets are sealed with: in ESP the first of profile `modern`.
    fn key(self) -> PacketKey {
        let suite = Suite { cipher: Cipher::AesGcm256, integrity: None };
        match self {
            Kind::WireGuard => PacketKey::of_wireguard(&[7; 32]),
            Kind::Esp => PacketKey::new(suite, &[7; 36], &[]).expect("36 bytes"),
        }
    }

    fn stamp(self, n: usize) -> Stamp {
        match self {
            Kind::WireGuard => Stamp::WireGuard { counter: n as u64 },
            Kind::Esp => Stamp::Esp { spi: 1, sequence: n as u64, esn: true },
        }
    }

    /// Of the 16 bytes before the ciphertext those that are written with it: the IV.
    fn iv_bytes(self) -> usize {
        match self {
            Kind::WireGuard => 0,
            Kind::Esp => 8,
        }
    }
}

fn name(way: Way) -> String {
    way.map(Kind::name).join("-")
}

/// What stands behind `name` on the command line.
fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number(name: &str) -> Option<usize> {
    argument(name)?.parse().ok()
}

/// ns per packet.
struct Medians {
    /// Of a batch behind another one, as under load.
    walk: f64,
    /// Of that other one: before it the processor has done something else, and its caches hold little of the walk's code.
    first: f64,
    aead: f64,
}

struct Bench {
    way: Way,
    engine: Engine,
    /// From where packets come. What arrives in B is thrown away.
    sources: Vec<FarEnd>,
    now: Timestamp,
    alias_of_b: Ipv4Addr,
}

impl Bench {
    fn start(way: Way, tunnels: usize) -> Self {
        let mut now = Timestamp::from_secs(1);
        let names: Vec<String> = (0..tunnels).map(|n| format!("a{n}")).collect();
        let network = if tunnels == 1 { "10.0.0.0/16" } else { "10.0.0.0/24" };
        let source = |name: &String| {
            SOURCE.replace("{name}", name).replace("{network}", network).replace("{attach}", &way[0].attach(name))
        };
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let text = CONFIG.replace("{sources}", &names.iter().map(source).collect::<String>());
        let text = text.replace("{names}", &quoted.join(", ")).replace("{attach:b}", &way[1].attach("b"));
        let appliance = Appliance::build(&text);
        let mut engine = appliance.engine(now);
        engine.large_tables().into_iter().for_each(|table| drop(prefer_huge_pages(table)));
        let ends = names.iter().map(|name| (name.as_str(), way[0])).chain([("b", way[1])]);
        let mut sites = Vec::new();
        for (number, (name, kind)) in (1..).zip(ends) {
            let mut site = gateway(kind, &appliance, name, number, now);
            // So that nobody is asked to prove its address.
            now = site.shake_hands(&mut engine, now) + Duration::from_millis(3);
            sites.push(site);
        }
        sites.pop();
        Bench { way, sources: sites, alias_of_b: appliance.alias_of("b"), engine, now }
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

    fn measure(&mut self, size: usize, sessions: usize) -> Medians {
        let [mut walks, mut firsts, mut aeads] = [const { Vec::new() }; 3];
        let mut random = Random(size as u64);
        // Not between the rounds: a report reads every tunnel, and would leave nothing else in the processor's cache.
        let forwarded = self.engine.report(self.now).totals.forwarded;
        for _ in 0..ROUNDS {
            let order: Vec<usize> = (0..2 * ROUND_PACKETS).map(|_| random.below(sessions as u64) as usize).collect();
            let datagrams = self.seal(&order, size);
            let (first, second) = datagrams.split_at(ROUND_PACKETS);
            for (batch, times) in [(first, &mut firsts), (second, &mut walks)] {
                let start = Instant::now();
                self.walk(batch);
                times.push(start.elapsed().as_nanos() as f64 / ROUND_PACKETS as f64);
            }
            aeads.push(aead_alone(second, self.way));
        }
        let report = self.engine.report(self.now);
        assert_eq!(report.totals.forwarded - forwarded, (2 * ROUNDS * ROUND_PACKETS) as u64, "{report:?}");
        Medians { walk: median(walks), first: median(firsts), aead: median(aeads) }
    }

    fn seal(&mut self, sessions: &[usize], size: usize) -> Vec<(Path, Vec<u8>)> {
        let packets: Vec<_> = sessions.iter().map(|session| (*session, self.packet(*session, size))).collect();
        let tunnels = self.sources.len();
        let seal = |(session, packet): (usize, Vec<u8>)| {
            let source = &mut self.sources[session % tunnels];
            (source.path(), source.seal(&packet))
        };
        packets.into_iter().map(seal).collect()
    }

    /// The inner packet of a session: hosts and ports of the source realm vary.
    fn packet(&self, session: usize, size: usize) -> Vec<u8> {
        let hosts = if self.sources.len() == 1 { 60_000 } else { 250 };
        let session = session / self.sources.len();
        let source = Ipv4Addr::from_bits(0x0a00_0000 | (session % hosts + 1) as u32);
        let source_port = 1024 + (session / hosts) as u16;
        let payload = vec![0x5a; size - 28];
        packets::udp((IpAddr::V4(source), source_port), (IpAddr::V4(self.alias_of_b), 443), &payload)
    }

    /// Every datagram through the engine. What comes out is thrown away.
    fn walk(&mut self, datagrams: &[(Path, Vec<u8>)]) {
        for burst in datagrams.chunks(BURST) {
            self.engine.handle_input(burst.iter().map(|(path, bytes)| Datagram::new(*path, bytes)), self.now);
            black_box(self.engine.outbox().runs().len());
            self.engine.outbox().clear();
        }
    }
}

/// The gateway of a realm.
fn gateway(kind: Kind, appliance: &Appliance, name: &str, number: u16, now: Timestamp) -> FarEnd {
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(127, 1, high, low));
    let id = format!("{name}.example");
    match kind {
        Kind::WireGuard => {
            let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, number.into());
            FarEnd::wireguard(peer, address)
        }
        Kind::Esp => FarEnd::esp(id.clone(), Appliance::psk(&id).into_bytes(), number.into(), address, now),
    }
}

/// Opens and seals as many bytes as the walk does, nothing else. In both kinds of tunnel 16 bytes stand before the ciphertext, and
/// the tag has 16.
fn aead_alone(datagrams: &[(Path, Vec<u8>)], way: Way) -> f64 {
    let [opening, sealing] = way;
    let [opening_key, sealing_key] = way.map(Kind::key);
    let lengths: Vec<usize> = datagrams.iter().map(|(_, datagram)| datagram.len() - 32).collect();
    let sealed_by = |kind: Kind| lengths.iter().map(|len| vec![0; kind.iv_bytes() + len + 16]).collect::<Vec<_>>();
    let mut texts: Vec<_> = lengths.iter().map(|len| vec![0x5a; *len]).collect();
    let (mut arrived, mut leaving) = (sealed_by(opening), sealed_by(sealing));
    seal_all(opening, &opening_key, &texts, &mut arrived);

    let jobs = arrived.iter().zip(&mut texts).enumerate();
    let mut jobs: Vec<_> =
        jobs.map(|(n, (sealed, text))| OpenJob::new(&opening_key, opening.stamp(n), sealed, text)).collect();
    let start = Instant::now();
    jobs.chunks_mut(ROUND_PACKETS).for_each(open_batch);
    let opened = start.elapsed();
    assert!(jobs.iter().all(|job| job.is_authentic));
    drop(jobs);
    let all = opened + seal_all(sealing, &sealing_key, &texts, &mut leaving);
    black_box(leaving);
    all.as_nanos() as f64 / datagrams.len() as f64
}

fn seal_all(kind: Kind, key: &PacketKey, texts: &[Vec<u8>], sealed: &mut [Vec<u8>]) -> Duration {
    let jobs = texts.iter().zip(sealed).enumerate();
    let mut jobs: Vec<_> = jobs.map(|(n, (text, sealed))| SealJob::new(key, kind.stamp(n), text, sealed)).collect();
    let start = Instant::now();
    jobs.chunks_mut(ROUND_PACKETS).for_each(seal_batch);
    let elapsed = start.elapsed();
    assert!(jobs.iter().all(|job| job.is_sealed));
    elapsed
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
