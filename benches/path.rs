//! What a packet costs in the in-memory walk: decap -> classify -> policy -> route -> translate -> encap.
//!
//! `cargo bench --bench path` prints, for each pair of attachments (from, to: WireGuard, ESP, a plain port), inner size and number of sessions, nanoseconds per
//! packet: the whole walk, the AEAD alone (open and seal of as many bytes, by the calls and with the algorithms that the
//! walk uses: `OpenBatch` and `SealBatch`, ChaCha20-Poly1305 in WireGuard, AES-GCM-256 in ESP), and the difference: what everything that is not
//! cryptography costs. *copy* is as many bytes copied once. The size *mix* is seven packets of 64 bytes, four of 512 and one of 1,420, in turns. *first walk* is the batch before the one of *walk*, right after other work of the processor. `IXGATE_CRYPTO=library` in the environment has both done by the library. Medians of several rounds, in one run, on one core. ESP is in UDP, with extended sequence numbers.
//! `cargo bench --bench path -- --quick` skips the million sessions; `-- --size 64 --sessions 10000 --ways esp-esp` measures
//! one line (ways: wg-wg, esp-esp, wg-esp, esp-wg, and with `port` on either side; `--size mix`). `-- --tunnels 10000 --sessions 10000` has the packets come by as many tunnels,
//! drawn like the sessions; by default it is one. `-- --rounds 30000` takes as many rounds.
//!
//! A flow asks about its session with the first of its packets in a second: nine of ten have, as in the middle of a second in which a million flows send what one
//! core carries. Fewer flows have all asked by then, and have here, but for those that are drawn for the first time.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ixgate::crypto::{Cipher, Kernels, OpenBatch, PacketKey, SealBatch, Stamp, Suite, ToOpen, ToSeal};
use ixgate::dataplane::Engine;
use ixgate::io::memory::{Allocator, prefer_huge_pages};
use ixgate::net::{InterfaceId, Path, Port, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::far_end::FarEnd;
use ixgate::sim::packets;
use ixgate::sim::peer::Peer;
use ixgate::sim::ports::{Ports, Station};
use ixgate::sim::random::Random;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

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

/// Of inner packets, in turns.
const SIZES: [(&str, &[usize]); 5] = [
    ("64", &[64]),
    ("200", &[200]),
    ("512", &[512]),
    ("1420", &[1420]),
    ("mix", &[64, 64, 512, 64, 64, 512, 64, 1420, 64, 512, 64, 512]),
];
/// What WireGuard pads to, and never further than the tunnel's MTU.
const PADDING_BYTES: usize = 16;
const MTU_BYTES: usize = 1420;
/// How long links take to settle, at most: addresses are claimed first.
const SETTLING: Duration = Duration::from_secs(30);
const SESSIONS: [usize; 3] = [10, 10_000, 1_000_000];
/// Datagrams in one timed batch. Two batches are sealed ahead and then walked in each round: so few, that they are in the cache, as they are
/// when the kernel has just copied them there. The sessions that they belong to are drawn from all.
const ROUND_PACKETS: usize = 64;
const ROUNDS: usize = 1601;
/// Given to the engine at once, as a receive call would.
const BURST: usize = 64;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (only_size, only_sessions, only_way) = (argument("--size"), number("--sessions"), argument("--ways"));
    let tunnels = number("--tunnels").unwrap_or(1);
    let wanted = |only: Option<usize>, value: usize| only.is_none_or(|only| only == value);
    if std::env::var("IXGATE_CRYPTO").is_ok_and(|what| what == "library") {
        Kernels::leave_to_library();
    }
    let rounds = number("--rounds").unwrap_or(ROUNDS);
    println!(
        "ns per packet, medians of {rounds} rounds of {ROUND_PACKETS} packets; one core; AEAD by {}",
        Kernels::chosen()
    );
    println!(
        "{:<9} {:>6} {:>10} {:>8} {:>8} {:>8} {:>14} {:>12}",
        "from, to", "bytes", "sessions", "walk", "AEAD", "copy", "all the rest", "first walk"
    );
    let is_wanted = |way: &Way| only_way.as_ref().is_none_or(|only| *only == name(*way));
    // There is one link for packets to come by.
    for way in WAYS.into_iter().filter(|way| is_wanted(way) && (tunnels == 1 || way[0] != Kind::Port)) {
        let all = SESSIONS.into_iter().filter(|sessions| !quick || *sessions < 1_000_000);
        for sessions in all.filter(|sessions| wanted(only_sessions, *sessions)) {
            let mut bench = Bench::start(way, tunnels);
            bench.open_sessions(sessions);
            for (size, sizes) in
                SIZES.into_iter().filter(|(size, _)| only_size.as_ref().is_none_or(|only| only == size))
            {
                let Medians { walk, first, aead, copy } = bench.measure(sizes, sessions);
                let (name, rest) = (name(way), walk - aead);
                println!(
                    "{name:<9} {size:>6} {sessions:>10} {walk:>8.0} {aead:>8.0} {copy:>8.0} {rest:>14.0} {first:>12.0}"
                );
            }
        }
    }
}

/// Of ports.
const INTERFACES: [&str; 2] = ["eth1", "eth2"];
const ROUTERS: [&str; 2] = ["172.20.0.1", "172.20.1.1"];

/// How a realm is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    WireGuard,
    Esp,
    Port,
}

/// From, to.
type Way = [Kind; 2];

const WAYS: [Way; 9] = [
    [Kind::WireGuard, Kind::WireGuard],
    [Kind::Esp, Kind::Esp],
    [Kind::WireGuard, Kind::Esp],
    [Kind::Esp, Kind::WireGuard],
    [Kind::Port, Kind::Port],
    [Kind::WireGuard, Kind::Port],
    [Kind::Port, Kind::WireGuard],
    [Kind::Esp, Kind::Port],
    [Kind::Port, Kind::Esp],
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::WireGuard => "wg",
            Kind::Esp => "esp",
            Kind::Port => "port",
        }
    }

    /// `end`: 0 where packets come from, 1 where they go to.
    fn attach(self, realm: &str, end: usize) -> String {
        match self {
            Kind::WireGuard => format!(r#"{{ wireguard = {{ public_key = "{{key:{realm}}}" }} }}"#),
            Kind::Esp => format!(
                r#"{{ ipsec = {{ remote_id = "fqdn:{realm}.example", psk_file = "secrets/{realm}.example.psk" }}, mtu_bytes = 1420 }}"#
            ),
            Kind::Port => format!(
                r#"{{ port = {{ interface = "{}", address = "172.20.{end}.2/30", gateway = "{}" }} }}"#,
                INTERFACES[end], ROUTERS[end]
            ),
        }
    }

    /// What packets are sealed with: in ESP the first of profile `modern`.
    fn key(self) -> Option<PacketKey> {
        let suite = Suite { cipher: Cipher::AesGcm256, integrity: None };
        match self {
            Kind::WireGuard => Some(PacketKey::of_wireguard(&[7; 32])),
            Kind::Esp => Some(PacketKey::new(suite, &[7; 36], &[]).expect("36 bytes")),
            Kind::Port => None,
        }
    }

    fn stamp(self, n: usize) -> Stamp {
        match self {
            Kind::Esp => Stamp::Esp { spi: 1, sequence: n as u64, esn: true },
            Kind::WireGuard | Kind::Port => Stamp::WireGuard { counter: n as u64 },
        }
    }

    /// What is sealed of an inner packet: with its padding, and ESP's trailer.
    fn text_bytes(self, packet_bytes: usize) -> usize {
        match self {
            Kind::WireGuard => packet_bytes.next_multiple_of(PADDING_BYTES).min(MTU_BYTES),
            Kind::Esp => (packet_bytes + 2).next_multiple_of(4),
            Kind::Port => packet_bytes,
        }
    }

    /// Before what is sealed: type, index and counter; SPI and sequence number.
    fn header_bytes(self) -> usize {
        if self == Kind::Esp { 8 } else { 16 }
    }

    fn message_bytes(self, text: &[u8]) -> usize {
        let iv_bytes = if self == Kind::Esp { 8 } else { 0 };
        self.header_bytes() + iv_bytes + text.len() + 16
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
    copy: f64,
}

struct Bench {
    way: Way,
    engine: Engine,
    /// From where packets come, by tunnels. What arrives in B is thrown away.
    sources: Vec<FarEnd>,
    /// The links with their routers, where there are ports.
    ports: Ports,
    now: Timestamp,
    alias_of_b: Ipv4Addr,
}

impl Bench {
    fn start(way: Way, tunnels: usize) -> Self {
        let mut now = Timestamp::from_secs(1);
        let names: Vec<String> = (0..tunnels).map(|n| format!("a{n}")).collect();
        let network = if tunnels == 1 { "10.0.0.0/16" } else { "10.0.0.0/24" };
        let source = |name: &String| {
            SOURCE.replace("{name}", name).replace("{network}", network).replace("{attach}", &way[0].attach(name, 0))
        };
        let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        let text = CONFIG.replace("{sources}", &names.iter().map(source).collect::<String>());
        let text = text.replace("{names}", &quoted.join(", ")).replace("{attach:b}", &way[1].attach("b", 1));
        let appliance = Appliance::build(&text);
        let mut engine = appliance.engine(now);
        engine.large_tables().into_iter().for_each(|table| drop(prefer_huge_pages(table)));
        let mut ports = Ports::default();
        bring_up(way, &mut engine, &mut ports, &mut now);
        let ends = names.iter().map(|name| (name.as_str(), way[0])).chain([("b", way[1])]);
        let mut sites = Vec::new();
        for (number, (name, kind)) in (1..).zip(ends).filter(|(_, (_, kind))| *kind != Kind::Port) {
            let mut site = gateway(kind, &appliance, name, number, now);
            // So that nobody is asked to prove its address.
            now = site.shake_hands(&mut engine, now) + Duration::from_millis(3);
            sites.push(site);
        }
        sites.truncate(if way[0] == Kind::Port { 0 } else { tunnels });
        Bench { way, sources: sites, ports, alias_of_b: appliance.alias_of("b"), engine, now }
    }

    fn open_sessions(&mut self, sessions: usize) {
        let all: Vec<usize> = (0..sessions).collect();
        // Twice: the table of known flows grows as sessions are opened, and then has to learn again what it knew.
        for chunk in all.chunks(16_384).chain(all.chunks(16_384)) {
            let datagrams = self.seal(chunk, &[64]);
            self.walk(&datagrams);
        }
        let report = self.engine.report(self.now);
        assert_eq!(report.sessions, sessions, "{:?}", report.totals);
        // A flow asks about its session with the first of its packets in a second. Where each has several of them in a second, as many have asked in its middle.
        self.now = self.now + Duration::from_secs(1);
        for chunk in all.chunks(16_384) {
            let asked: Vec<usize> = chunk.iter().copied().filter(|session| session % 10 != 0).collect();
            let datagrams = self.seal(&asked, &[64]);
            self.walk(&datagrams);
        }
    }

    fn measure(&mut self, sizes: &[usize], sessions: usize) -> Medians {
        let [mut walks, mut firsts, mut aeads, mut copies] = [const { Vec::new() }; 4];
        let mut random = Random(sizes[0] as u64);
        let lengths: Vec<usize> = sizes.iter().copied().cycle().take(ROUND_PACKETS).collect();
        // Not between the rounds: a report reads every tunnel, and would leave nothing else in the processor's cache.
        let forwarded = self.engine.report(self.now).totals.forwarded;
        let rounds = number("--rounds").unwrap_or(ROUNDS);
        // All of them ahead: the far ends of many tunnels would drive the engine's own state out of the cache between the rounds.
        let mut draw = || random.below(sessions as u64) as usize;
        let orders = (0..2 * rounds).map(|_| [(); ROUND_PACKETS].map(|()| draw()));
        let sealed: Vec<_> = orders.map(|order| self.seal(&order, sizes)).collect();
        let mut arrived = [const { Vec::new() }; 2];
        for batches in sealed.as_chunks::<2>().0 {
            // As the kernel copies what it has received.
            arrived.iter_mut().zip(batches).for_each(|(to, from)| to.clone_from(from));
            for (batch, times) in arrived.iter().zip([&mut firsts, &mut walks]) {
                let start = Instant::now();
                self.walk(batch);
                times.push(per_packet(start.elapsed()));
            }
            aeads.push(per_packet(aead_alone(&lengths, self.way)));
            copies.push(per_packet(copy_alone(&lengths)));
        }
        let report = self.engine.report(self.now);
        assert_eq!(report.totals.forwarded - forwarded, (2 * rounds * ROUND_PACKETS) as u64, "{report:?}");
        Medians { walk: median(walks), first: median(firsts), aead: median(aeads), copy: median(copies) }
    }

    fn seal(&mut self, sessions: &[usize], sizes: &[usize]) -> Vec<(Path, Vec<u8>)> {
        let packets = sessions.iter().zip(sizes.iter().cycle());
        let packets: Vec<_> = packets.map(|(session, size)| (*session, self.packet(*session, *size))).collect();
        let tunnels = self.sources.len();
        let seal = |(session, packet): (usize, Vec<u8>)| match self.sources.get_mut(session % tunnels.max(1)) {
            Some(source) => (source.path(), source.seal(&packet)),
            None => self.ports.forward(0, &packet).expect("the link is up"),
        };
        packets.into_iter().map(seal).collect()
    }

    /// The inner packet of a session: hosts and ports of the source realm vary.
    fn packet(&self, session: usize, size: usize) -> Vec<u8> {
        let sources = self.sources.len().max(1);
        let hosts = if sources == 1 { 60_000 } else { 250 };
        let session = session / sources;
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

/// Routers on the links of ports answer until these are up.
fn bring_up(way: Way, engine: &mut Engine, ports: &mut Ports, now: &mut Timestamp) {
    for (end, _) in way.iter().enumerate().filter(|(_, kind)| **kind == Kind::Port) {
        let interfaces = &engine.snapshot().interfaces;
        let place = interfaces.iter().position(|one| one.as_ref().is_some_and(|one| one.name == INTERFACES[end]));
        let interface = InterfaceId(place.expect("of the configuration") as u8);
        ports.stations.push(Station::new(interface, None, [2, 0, 0, 0, 1, end as u8], &[ROUTERS[end]]));
        engine.handle_link(ports.set_link(interface, true, 1500), *now);
    }
    let until = *now + SETTLING;
    let is_up = |engine: &Engine, now| {
        let report = engine.report(now);
        report.tunnels.iter().filter(|tunnel| tunnel.port.is_some()).all(|tunnel| tunnel.up)
    };
    while !is_up(engine, *now) {
        let sent: Vec<_> = engine.outbox().datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect();
        engine.outbox().clear();
        for (path, bytes) in sent {
            let Port::Frames(interface) = path.port else { continue };
            for answer in ports.transmit(interface, &bytes) {
                engine.handle_input([Datagram::new(path, &answer)].into_iter(), *now);
            }
        }
        if engine.outbox().is_empty() {
            let (deadline, _) = engine.poll_timeout().expect("something to wait for");
            *now = (*now).max(deadline);
            assert!(*now < until, "the links are not up");
            engine.handle_timeout(*now);
        }
    }
    engine.outbox().clear();
}

/// The gateway of a realm.
fn gateway(kind: Kind, appliance: &Appliance, name: &str, number: u16, now: Timestamp) -> FarEnd {
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(127, 1, high, low));
    let id = format!("{name}.example");
    match kind {
        Kind::Esp => FarEnd::esp(id.clone(), Appliance::psk(&id).into_bytes(), number.into(), address, now),
        Kind::WireGuard | Kind::Port => {
            let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, number.into());
            FarEnd::wireguard(peer, address)
        }
    }
}

/// Opens and seals as many bytes as the walk of packets of these lengths does, nothing else, and where they lie in the walk: an arrived datagram has a header
/// before them, those that leave stand behind one another.
fn aead_alone(lengths: &[usize], [opening, sealing]: Way) -> Duration {
    let texts = |kind: Kind| lengths.iter().map(|len| vec![0x5a; kind.text_bytes(*len)]).collect::<Vec<_>>();
    let mut all = Duration::ZERO;
    if let Some(key) = opening.key() {
        let mut texts = texts(opening);
        let (_, messages) = seal_all(opening, &key, &texts);
        let arrived: Vec<Vec<u8>> = split(opening, &texts, &messages).map(|message| message.to_vec()).collect();
        let mut authentic = vec![false; lengths.len()];
        let start = Instant::now();
        let mut batch = OpenBatch::default();
        batch.open(&key, Arrived { kind: opening, arrived: &arrived, texts: &mut texts, authentic: &mut authentic });
        batch.finish();
        all += start.elapsed();
        drop(batch);
        assert!(authentic.iter().all(|is_authentic| *is_authentic));
    }
    if let Some(key) = sealing.key() {
        all += black_box(seal_all(sealing, &key, &texts(sealing))).0;
    }
    all
}

/// Into messages that stand behind one another.
fn seal_all(kind: Kind, key: &PacketKey, texts: &[Vec<u8>]) -> (Duration, Vec<u8>) {
    let mut messages = vec![0; texts.iter().map(|text| kind.message_bytes(text)).sum()];
    let start = Instant::now();
    let mut batch = SealBatch::default();
    let are_sealed = batch.seal(key, Leaving { kind, texts, messages: &mut messages });
    batch.finish();
    let elapsed = start.elapsed();
    drop(batch);
    assert!(are_sealed);
    (elapsed, messages)
}

fn split<'a>(kind: Kind, texts: &'a [Vec<u8>], messages: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    texts.iter().scan(messages, move |rest, text| rest.split_off(..kind.message_bytes(text)))
}

struct Arrived<'a> {
    kind: Kind,
    arrived: &'a [Vec<u8>],
    texts: &'a mut [Vec<u8>],
    authentic: &'a mut [bool],
}

impl<'a> ToOpen<'a> for Arrived<'a> {
    type Output = ();

    fn open_all(self, mut open: impl FnMut(Stamp, &'a [u8], &'a mut [u8], &'a mut bool)) {
        let all = self.arrived.iter().zip(self.texts).zip(self.authentic).enumerate();
        for (n, ((sealed, text), is_authentic)) in all {
            open(self.kind.stamp(n), &sealed[self.kind.header_bytes()..], text, is_authentic);
        }
    }
}

struct Leaving<'a> {
    kind: Kind,
    texts: &'a [Vec<u8>],
    messages: &'a mut [u8],
}

impl<'a> ToSeal<'a> for Leaving<'a> {
    type Output = bool;

    fn seal_all(self, mut seal: impl FnMut(Stamp, &'a [u8], &'a mut [u8]) -> bool) -> bool {
        let Leaving { kind, texts, messages: mut rest } = self;
        texts.iter().enumerate().all(|(n, text)| {
            let message = rest.split_off_mut(..kind.message_bytes(text));
            message.is_some_and(|message| seal(kind.stamp(n), text, &mut message[kind.header_bytes()..]))
        })
    }
}

/// Copies packets of these lengths, once.
fn copy_alone(lengths: &[usize]) -> Duration {
    let from: Vec<_> = lengths.iter().map(|len| vec![0x5a_u8; *len]).collect();
    let mut to: Vec<_> = lengths.iter().map(|len| vec![0_u8; *len]).collect();
    let start = Instant::now();
    for (from, to) in from.iter().zip(&mut to) {
        to.copy_from_slice(black_box(from));
    }
    let elapsed = start.elapsed();
    black_box(to);
    elapsed
}

fn per_packet(time: Duration) -> f64 {
    time.as_nanos() as f64 / ROUND_PACKETS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
