//! What porters bring: the same packets by one thread that does everything, and by one that walks with others that open and seal for it.
//!
//! `cargo bench --bench porters` (two cores at least) prints for each number of porters that there are cores for, and each size:
//!
//! *alone*    ns per packet of one thread: receive (a copy, as the kernel makes it), open, walk, seal
//! *together* ns per packet of all threads at once: the time that passes, divided by all packets
//! *walk*     ns per packet of the thread that walks, while it works
//! *porter*   the same of the porters, each of its own packets
//!
//! The walk's share bounds it: no more packets a second than 10^9 / *walk*, and no more porters than *porter* / *walk* have enough to do. Both are
//! without the kernel's part, which is the porters' too and most of what a packet costs over sockets. WireGuard to WireGuard; each porter has a tunnel of its own, all
//! go to one. Medians of several rounds, in turns, in one run. `-- --size 1420` and `-- --porters 1` pick one.

use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Barrier;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ixgate::dataplane::parcel::Leaving;
use ixgate::dataplane::{Engine, Parcel, Porter};
use ixgate::net::{Path, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::far_end::FarEnd;
use ixgate::sim::packets;
use ixgate::sim::peer::Peer;

const SOURCE: &str = r#"
[[realm]]
name = "{name}"
networks = ["10.0.0.0/16"]
attach = [{ wireguard = { public_key = "{key:{name}}" } }]
"#;
const REST: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[grant]]
from = [{names}]
to = ["realm:b"]
ports = ["any"]
"#;

const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
/// As many as a part of the processor's cache holds between two threads.
const PARCELS: usize = 8;
const BATCH: usize = 64;
/// Of each porter: so many, as its thread begins each round on some core, whose caches hold nothing of its parcels.
const ROUND_PACKETS: usize = BATCH * 512;
const ROUNDS: usize = 9;
const SESSIONS: usize = 1_000;
const MOST_PORTERS: usize = 15;

fn main() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (only_size, only_porters) = (number("--size"), number("--porters"));
    let most = (cores - 1).min(MOST_PORTERS);
    println!("ns per packet, medians of {ROUNDS} rounds of {ROUND_PACKETS} packets of each porter; {cores} cores");
    println!(
        "{:>7} {:>6} {:>8} {:>10} {:>7} {:>6} {:>8} {:>9}",
        "porters", "bytes", "alone", "together", "faster", "walk", "porter", "left"
    );
    for porters in (1..=most).filter(|porters| only_porters.is_none_or(|only| only == *porters)) {
        let mut bench = Bench::start(porters);
        for size in SIZES_BYTES.into_iter().filter(|size| only_size.is_none_or(|only| only == *size)) {
            let Medians { alone, together, walk, porter, left } = bench.measure(size);
            let faster = alone / together;
            println!(
                "{porters:>7} {size:>6} {alone:>8.0} {together:>10.0} {faster:>7.2} {walk:>6.0} {porter:>8.0} {left:>9}"
            );
        }
    }
    if most < 3 {
        println!("NOT RUN: more than {most} porters, which need a core each beside the one that walks");
    }
}

fn number(name: &str) -> Option<usize> {
    std::env::args().skip_while(|arg| arg != name).nth(1)?.parse().ok()
}

struct Medians {
    alone: f64,
    together: f64,
    walk: f64,
    porter: f64,
    /// Datagrams that porters left to the walk, in all rounds.
    left: usize,
}

/// What one round of porters took.
struct Round {
    together: Duration,
    walk: Duration,
    porters: Duration,
    left: usize,
}

struct Bench {
    engine: Engine,
    sources: Vec<FarEnd>,
    porters: Vec<Carrier>,
    alias_of_b: Ipv4Addr,
    now: Timestamp,
}

/// A porter and its parcels.
struct Carrier {
    porter: Porter,
    parcels: Vec<Parcel>,
    /// What the kernel copies into.
    received: Vec<u8>,
}

/// Datagrams of one source, as they lie in the network.
struct Arriving {
    path: Path,
    bytes: Vec<u8>,
    datagram_bytes: usize,
}

impl Bench {
    fn start(porters: usize) -> Self {
        let mut now = Timestamp::from_secs(1);
        let names: Vec<String> = (0..porters).map(|n| format!("a{n}")).chain(["b".to_owned()]).collect();
        let quoted: Vec<String> = names[..porters].iter().map(|name| format!("{name:?}")).collect();
        let realms = names.iter().map(|name| SOURCE.replace("{name}", name));
        let text = realms.chain([REST.replace("{names}", &quoted.join(", "))]).collect::<String>();
        let appliance = Appliance::build(&text);
        let mut engine = appliance.engine(now);
        let mut sites = Vec::new();
        for (number, name) in (1..).zip(&names) {
            let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number));
            let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, number.into());
            let mut site = FarEnd::wireguard(peer, address);
            now = site.shake_hands(&mut engine, now) + Duration::from_millis(3);
            sites.push(site);
        }
        sites.pop();
        let carrier = || Carrier {
            porter: Porter::default(),
            parcels: (0..PARCELS).map(|_| Parcel::default()).collect(),
            received: vec![0; BATCH * 2048],
        };
        let porters = (0..porters).map(|_| carrier()).collect();
        Bench { alias_of_b: appliance.alias_of("b"), engine, sources: sites, porters, now }
    }

    fn measure(&mut self, size: usize) -> Medians {
        let [mut alones, mut togethers, mut walks, mut shares] = [const { Vec::new() }; 4];
        let mut left = 0;
        let forwarded = self.engine.report(self.now).totals.forwarded;
        // The first of them lends keys and opens sessions.
        for round in 0..ROUNDS + 1 {
            let arriving = self.seal(size);
            let alone = per_packet(self.alone(&arriving), arriving.len());
            let arriving = self.seal(size);
            let of = self.together(&arriving);
            if round > 0 {
                alones.push(alone);
                togethers.push(per_packet(of.together, arriving.len()));
                walks.push(per_packet(of.walk, arriving.len()));
                shares.push(per_packet(of.porters, arriving.len()));
                left += of.left;
            }
        }
        let report = self.engine.report(self.now);
        let all = 2 * (ROUNDS + 1) * ROUND_PACKETS * self.sources.len();
        assert_eq!(report.totals.forwarded - forwarded, all as u64, "{report:?}");
        Medians {
            alone: median(alones),
            together: median(togethers),
            walk: median(walks),
            porter: median(shares),
            left,
        }
    }

    fn seal(&mut self, size: usize) -> Vec<Arriving> {
        let destination = IpAddr::V4(self.alias_of_b);
        let packet = |n: usize| {
            let source = Ipv4Addr::from_bits(0x0a00_0001 + (n % SESSIONS) as u32);
            packets::udp((source.into(), 5_000), (destination, 443), &vec![0x5a; size - 28])
        };
        let seal = |source: &mut FarEnd| {
            let all: Vec<_> = (0..ROUND_PACKETS).map(|n| source.seal(&packet(n))).collect();
            Arriving { path: source.path(), datagram_bytes: all[0].len(), bytes: all.concat() }
        };
        self.sources.iter_mut().map(seal).collect()
    }

    /// By one thread, batch by batch of one source after the other.
    fn alone(&mut self, arriving: &[Arriving]) -> Duration {
        let received = &mut self.porters[0].received;
        let start = Instant::now();
        for batch in 0..ROUND_PACKETS / BATCH {
            for source in arriving {
                let datagrams = source.receive(batch, received);
                self.engine.handle_input(datagrams, self.now);
                black_box(self.engine.outbox().runs().len());
                self.engine.outbox().clear();
            }
        }
        start.elapsed()
    }

    fn together(&mut self, arriving: &[Arriving]) -> Round {
        let Bench { engine, porters, now, .. } = self;
        let now = *now;
        let (give, arrived) = sync_channel(porters.len() * PARCELS);
        let ready = Barrier::new(porters.len() + 1);
        thread::scope(|scope| {
            let (mut backs, mut threads) = (Vec::new(), Vec::new());
            for ((number, carrier), source) in porters.iter_mut().enumerate().zip(arriving) {
                let (back, returned) = sync_channel(PARCELS);
                backs.push(back);
                let (give, ready) = (give.clone(), &ready);
                threads.push(scope.spawn(move || {
                    ready.wait();
                    carrier.carry(number, source, &give, &returned, now)
                }));
            }
            ready.wait();
            let start = Instant::now();
            let walk = walk(engine, &arrived, &backs, porters_packets(arriving), now);
            let counts: Vec<(Duration, usize)> =
                threads.into_iter().map(|thread| thread.join().expect("a porter")).collect();
            Round {
                together: start.elapsed(),
                walk,
                porters: counts.iter().map(|(busy, _)| *busy).sum(),
                left: counts.iter().map(|(_, left)| left).sum(),
            }
        })
    }
}

fn porters_packets(arriving: &[Arriving]) -> usize {
    arriving.len() * ROUND_PACKETS
}

/// Until so many packets have walked. The time of that, without waiting.
fn walk(
    engine: &mut Engine,
    arrived: &Receiver<(usize, Parcel)>,
    backs: &[SyncSender<Parcel>],
    packets: usize,
    now: Timestamp,
) -> Duration {
    let (mut walked, mut waited, begin) = (0, Duration::ZERO, Instant::now());
    while walked < packets {
        let (number, mut parcel) = match arrived.try_recv() {
            Ok(arrived) => arrived,
            Err(_) => {
                let since = Instant::now();
                let arrived = spin(arrived);
                waited += since.elapsed();
                arrived
            }
        };
        let (opened, left) = parcel.counts();
        walked += opened + left;
        engine.handle_parcel(&mut parcel, now);
        black_box(engine.outbox().runs().len());
        engine.outbox().clear();
        backs[number].try_send(parcel).expect("room for all that there are");
    }
    begin.elapsed().saturating_sub(waited)
}

impl Carrier {
    /// All of a source's datagrams. The time of that without waiting, and how many were left to the walk.
    fn carry(
        &mut self,
        number: usize,
        source: &Arriving,
        give: &SyncSender<(usize, Parcel)>,
        returned: &Receiver<Parcel>,
        now: Timestamp,
    ) -> (Duration, usize) {
        let mut free: VecDeque<Parcel> = self.parcels.drain(..).collect();
        let (mut next, mut back, mut left_to_walk) = (0, 0, 0);
        let batches = ROUND_PACKETS / BATCH;
        let (mut waited, begin) = (Duration::ZERO, Instant::now());
        while back < batches {
            let returned = match returned.try_recv() {
                Ok(parcel) => Some(parcel),
                Err(_) if next < batches && !free.is_empty() => None,
                Err(_) => {
                    let since = Instant::now();
                    let parcel = spin(returned);
                    waited += since.elapsed();
                    Some(parcel)
                }
            };
            match returned {
                Some(mut parcel) => {
                    self.porter.learn(&mut parcel, now);
                    parcel.seal(Leaving::All);
                    black_box(parcel.outbox().runs().len());
                    parcel.outbox().clear();
                    free.push_front(parcel);
                    back += 1;
                }
                None => {
                    let mut parcel = free.pop_front().expect("one is free");
                    let mut datagrams = source.receive(next, &mut self.received).peekable();
                    self.porter.fill(&mut datagrams, &mut parcel);
                    assert!(datagrams.peek().is_none(), "a parcel holds a batch");
                    left_to_walk += parcel.counts().1;
                    give.try_send((number, parcel)).expect("room for all that there are");
                    next += 1;
                }
            }
        }
        self.parcels.extend(free);
        (begin.elapsed().saturating_sub(waited), left_to_walk)
    }
}

impl Arriving {
    /// The datagrams of a batch, copied as the kernel would.
    fn receive<'a>(&self, batch: usize, received: &'a mut [u8]) -> impl Iterator<Item = Datagram<'a>> {
        let batch_bytes = BATCH * self.datagram_bytes;
        let received = &mut received[..batch_bytes];
        received.copy_from_slice(&self.bytes[batch * batch_bytes..][..batch_bytes]);
        let path = self.path;
        received.chunks_exact(self.datagram_bytes).map(move |bytes| Datagram::new(path, bytes))
    }
}

fn spin<T>(from: &Receiver<T>) -> T {
    loop {
        match from.try_recv() {
            Ok(parcel) => return parcel,
            Err(_) => spin_loop(),
        }
    }
}

fn per_packet(time: Duration, porters: usize) -> f64 {
    time.as_nanos() as f64 / (ROUND_PACKETS * porters) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
