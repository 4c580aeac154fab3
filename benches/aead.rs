//! Which of the library's calls is the cheapest, for each suite and size: what `crypto::batch` is built on.
//!
//! `cargo bench --bench aead` prints nanoseconds per packet, medians of many rounds of 64 packets, the calls in turns within
//! each round. Every call begins and ends with what the path has and wants: sealing with the packet in a buffer of the batch and ciphertext and tag
//! behind a header in another, opening with a datagram and the packet in a buffer of the batch. So where a call works in place,
//! the copy is in it. `-- --suite AES-256-GCM` (or AES-128-GCM, ChaCha20-Poly1305) measures one suite.
//!
//! `-- --kernels` compares the kernels of `crypto::kernels` with the library instead, through `seal_batch` and `open_batch`: batches of
//! 64 to one, one key and 10,000, in turns.

#[path = "aead/kernels.rs"]
mod kernels;

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const SUITES: [(&str, &Algorithm); 3] =
    [("AES-128-GCM", &AES_128_GCM), ("AES-256-GCM", &AES_256_GCM), ("ChaCha20-Poly1305", &CHACHA20_POLY1305)];
const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
const PACKETS: usize = 64;
const ROUNDS: usize = 1001;
/// As the batch's: an odd number of cache lines.
const STRIDE_BYTES: usize = 33 * 64;
const HEADER_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// One packet: key, number, source, destination.
type Call = (&'static str, fn(&LessSafeKey, usize, &[u8], &mut [u8]));

const SEALING: [Call; 4] = [
    ("copy, seal in place, copy the tag", |key, n, packet, sealed| {
        let (text, tag) = sealed.split_at_mut(packet.len());
        text.copy_from_slice(packet);
        let sealed = key.seal_in_place_separate_tag(nonce(n), Aad::from([n as u8; 8]), text).expect("sealed");
        tag.copy_from_slice(sealed.as_ref());
    }),
    ("copy, seal in place, tag where it belongs", |key, n, packet, sealed| {
        let (text, tag) = sealed.split_at_mut(packet.len());
        text.copy_from_slice(packet);
        key.seal_in_place_scatter(nonce(n), Aad::from([n as u8; 8]), text, &[], tag).expect("sealed");
    }),
    ("seal from one to the other", |key, n, packet, sealed| {
        let (text, tag) = sealed.split_at_mut(packet.len());
        key.seal_out_of_place_scatter(nonce(n), Aad::from([n as u8; 8]), packet, text, &[], tag).expect("sealed");
    }),
    ("the same, its last 16 bytes from elsewhere", |key, n, packet, sealed| {
        let (packet, last) = packet.split_at(packet.len() - 16);
        let (text, tag) = sealed.split_at_mut(packet.len());
        key.seal_out_of_place_scatter(nonce(n), Aad::from([n as u8; 8]), packet, text, last, tag).expect("sealed");
    }),
];

const OPENING: [Call; 4] = [
    ("copy, open in place", |key, n, sealed, packet| {
        packet[..sealed.len()].copy_from_slice(sealed);
        key.open_in_place(nonce(n), Aad::from([n as u8; 8]), &mut packet[..sealed.len()]).expect("opened");
    }),
    ("copy, open in place, tag apart", |key, n, sealed, packet| {
        let (text, tag) = sealed.split_at(sealed.len() - TAG_BYTES);
        let packet = &mut packet[..text.len()];
        packet.copy_from_slice(text);
        key.open_in_place_separate_tag(nonce(n), Aad::from([n as u8; 8]), tag, packet).expect("opened");
    }),
    ("open from one to the other", |key, n, sealed, packet| {
        let (text, tag) = sealed.split_at(sealed.len() - TAG_BYTES);
        let packet = &mut packet[..text.len()];
        key.open_separate_gather(nonce(n), Aad::from([n as u8; 8]), text, tag, packet).expect("opened");
    }),
    ("open in the datagram, copy", |key, n, sealed, packet| {
        // What it costs to have a datagram that may be changed is not in it: the path has none.
        let (scratch, packet) = packet.split_at_mut(sealed.len());
        scratch.copy_from_slice(sealed);
        let opened = key.open_in_place(nonce(n), Aad::from([n as u8; 8]), scratch).expect("opened");
        packet[..opened.len()].copy_from_slice(opened);
    }),
];

fn main() {
    let only = std::env::args().skip_while(|arg| arg != "--suite").nth(1);
    if std::env::args().any(|arg| arg == "--kernels") {
        return kernels::compare(only.as_deref());
    }
    println!("ns per packet, medians of {ROUNDS} rounds of {PACKETS} packets; one core");
    for (name, algorithm) in SUITES.into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &vec![7; algorithm.key_len()]).expect("a key"));
        for (calls, opening) in [(&SEALING, false), (&OPENING, true)] {
            println!("\n{name:<46} {}", SIZES_BYTES.map(|size| format!("{size:>6}")).join(""));
            let columns = SIZES_BYTES.map(|size| measure(&key, calls, opening, size));
            for (row, (call, _)) in calls.iter().enumerate() {
                println!("{call:<46} {}", columns.each_ref().map(|column| format!("{:>6.0}", column[row])).join(""));
            }
        }
    }
}

/// Medians, call by call.
fn measure(key: &LessSafeKey, calls: &[Call], opening: bool, size: usize) -> Vec<f64> {
    let mut sources = vec![0x5a; PACKETS * STRIDE_BYTES];
    let mut destinations = vec![0; 2 * PACKETS * STRIDE_BYTES];
    let source_bytes = if opening { size + TAG_BYTES } else { size };
    if opening {
        for n in 0..PACKETS {
            let start = n * STRIDE_BYTES + HEADER_BYTES;
            let packet = vec![0x5a; size];
            (SEALING[0].1)(key, n, &packet, &mut sources[start..start + source_bytes]);
        }
    }
    let mut times = vec![Vec::new(); calls.len()];
    for _ in 0..ROUNDS {
        for ((_, call), times) in calls.iter().zip(&mut times) {
            let start = Instant::now();
            for n in 0..PACKETS {
                let source = &sources[n * STRIDE_BYTES + HEADER_BYTES..][..source_bytes];
                let destination = &mut destinations[2 * n * STRIDE_BYTES + HEADER_BYTES..][..2 * STRIDE_BYTES - 64];
                match opening {
                    true => call(key, n, source, destination),
                    false => call(key, n, source, &mut destination[..size + TAG_BYTES]),
                }
            }
            black_box(&mut destinations);
            times.push(start.elapsed().as_nanos() as f64 / PACKETS as f64);
        }
    }
    times.into_iter().map(median).collect()
}

fn nonce(n: usize) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&(n as u64).to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
