//! What it costs to give packets to another core: the figure that decides who owns a tunnel and who a session, once there is
//! more than one worker.
//!
//! `cargo bench --bench handoff` (two cores) prints nanoseconds per packet for each size and for parcels of 1, 8 and 64 packets. A
//! *parcel* is a buffer with that many packets, which goes to the other core by a bounded queue and comes back empty by another, so that
//! nothing is allocated. One side writes every packet whole, as opening it does; the other reads and writes it whole, as sealing it
//! does.
//!
//! *alone* is both by one thread. *handed over* is the same by two threads: processor time of both together, by the clock of each
//! thread while it works, without the time in which it waits for the other. Their difference is the price of a handoff: the queue, and every
//! line of the packet by way of the cache that the cores share. Medians of several rounds, in turns, in one run.

use std::hint::{black_box, spin_loop};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
const PARCELS: [usize; 3] = [1, 8, 64];
/// Distance of packets in a parcel, as in the walk's batches.
const STRIDE_BYTES: usize = 33 * 64;
/// Parcels under way: as many as let neither side wait when both are equally fast, and as few as stay in the cache.
const QUEUE: usize = 8;
const ROUND_PACKETS: usize = 64 * 256;
const ROUNDS: usize = 41;

struct Parcel {
    bytes: Box<[u8]>,
    packets: usize,
    packet_bytes: usize,
}

fn main() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        println!("NOT RUN: one core, and a handoff needs two");
        return;
    }
    println!("ns per packet, medians of {ROUNDS} rounds of {ROUND_PACKETS} packets");
    println!("{:>6} {:>8} {:>8} {:>12} {:>10}", "bytes", "parcel", "alone", "handed over", "handoff");
    for packet_bytes in SIZES_BYTES {
        for packets in PARCELS {
            let (mut alones, mut handed) = (Vec::new(), Vec::new());
            let source = vec![0x5a; packet_bytes];
            for _ in 0..ROUNDS {
                alones.push(alone(&source, packets));
                handed.push(handed_over(&source, packets));
            }
            let (alone, handed) = (median(alones), median(handed));
            println!("{packet_bytes:>6} {packets:>8} {alone:>8.1} {handed:>12.1} {:>10.1}", handed - alone);
        }
    }
}

impl Parcel {
    fn new(packets: usize, packet_bytes: usize) -> Self {
        Parcel { bytes: vec![0; packets * STRIDE_BYTES].into(), packets, packet_bytes }
    }

    fn fill(&mut self, source: &[u8]) {
        for packet in self.bytes.chunks_exact_mut(STRIDE_BYTES).take(self.packets) {
            packet[..self.packet_bytes].copy_from_slice(source);
        }
    }

    /// Reads and writes every byte of every packet.
    fn turn_over(&mut self) {
        for packet in self.bytes.chunks_exact_mut(STRIDE_BYTES).take(self.packets) {
            for byte in &mut packet[..self.packet_bytes] {
                *byte = !*byte;
            }
        }
        black_box(&mut self.bytes);
    }
}

fn alone(source: &[u8], packets: usize) -> f64 {
    // As many as are under way between two threads, so that both find the same caches.
    let mut parcels: Vec<Parcel> = (0..QUEUE).map(|_| Parcel::new(packets, source.len())).collect();
    let start = Instant::now();
    for number in 0..ROUND_PACKETS / packets {
        let parcel = &mut parcels[number % QUEUE];
        parcel.fill(black_box(source));
        parcel.turn_over();
    }
    per_packet(start.elapsed())
}

fn handed_over(source: &[u8], packets: usize) -> f64 {
    let (full, arrived) = sync_channel(QUEUE);
    let (empty, returned) = sync_channel(QUEUE);
    for _ in 0..QUEUE {
        give(&empty, Parcel::new(packets, source.len()));
    }
    let parcels = ROUND_PACKETS / packets;
    thread::scope(|scope| {
        let other = scope.spawn(move || work(&arrived, &empty, parcels, Parcel::turn_over));
        let ours = work(&returned, &full, parcels, |parcel| parcel.fill(black_box(source)));
        per_packet(ours + other.join().expect("the other thread"))
    })
}

/// Takes so many parcels, works on each and gives it on. The time of that, without waiting.
fn work(from: &Receiver<Parcel>, to: &SyncSender<Parcel>, parcels: usize, work: impl Fn(&mut Parcel)) -> Duration {
    let mut waited = Duration::ZERO;
    let begin = Instant::now();
    for _ in 0..parcels {
        let mut parcel = match from.try_recv() {
            Ok(parcel) => parcel,
            Err(_) => {
                let since = Instant::now();
                let Some(parcel) = wait(from) else { break };
                waited += since.elapsed();
                parcel
            }
        };
        work(&mut parcel);
        give(to, parcel);
    }
    begin.elapsed().saturating_sub(waited)
}

fn wait(from: &Receiver<Parcel>) -> Option<Parcel> {
    loop {
        match from.try_recv() {
            Ok(parcel) => return Some(parcel),
            Err(TryRecvError::Empty) => spin_loop(),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

/// There is room: no more parcels exist than a queue holds. Nobody listens any more at the end of a round.
fn give(to: &SyncSender<Parcel>, parcel: Parcel) {
    if let Err(TrySendError::Full(_)) = to.try_send(parcel) {
        unreachable!("more parcels than there are");
    }
}

fn per_packet(time: Duration) -> f64 {
    time.as_nanos() as f64 / ROUND_PACKETS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
