//! The kernels beside the library, through the calls that the path uses: `seal_batch` and `open_batch`.

use std::hint::black_box;
use std::time::Instant;

use ixgate::crypto::{Cipher, Kernels, OpenJob, PacketKey, SealJob, Stamp, Suite, open_batch, seal_batch};

const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
const PACKETS: usize = 64;
/// How many are given in one call.
const CALLS: [usize; 5] = [64, 16, 8, 4, 1];
const ROUNDS: usize = 301;
const MANY_KEYS: usize = 10_000;
/// As the batch's: an odd number of cache lines.
const STRIDE_BYTES: usize = 33 * 64;
/// IV and tag.
const AROUND_BYTES: usize = 24;

pub fn compare(only: Option<&str>) {
    println!("ns per packet by the library | by {}", Kernels::chosen());
    println!("medians of {ROUNDS} rounds of {PACKETS} packets; one core");
    let suites = [
        ("AES-128-GCM", Cipher::AesGcm128),
        ("AES-256-GCM", Cipher::AesGcm256),
        ("ChaCha20-Poly1305", Cipher::ChaCha20Poly1305),
    ];
    for (name, cipher) in suites.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let suite = Suite { cipher, integrity: None };
        println!("\n{name:<32}{}", SIZES_BYTES.map(|size| format!("{size:>20}")).join(""));
        for packets in CALLS {
            for (what, keys, opening) in
                [("sealed, one key", 1, false), ("opened, one key", 1, true), ("sealed, 10,000 keys", MANY_KEYS, false)]
            {
                let columns = SIZES_BYTES.map(|size| {
                    let [library, own] = measure(suite, keys, opening, size, packets);
                    format!("{library:>6.0} |{own:>5.0} {:>5.2}x", library / own)
                });
                println!("{packets:>2} at a time, {what:<19}{}", columns.join(" "));
            }
        }
    }
}

/// By the library, and by the kernel, in turns.
fn measure(suite: Suite, count: usize, opening: bool, size: usize, at_a_time: usize) -> [f64; 2] {
    let key = |kernels, n: usize| {
        let bytes: Vec<u8> = (0..suite.cipher_key_bytes()).map(|at| (at * 7 + n * 31 + (n >> 8)) as u8).collect();
        PacketKey::new_for(kernels, suite, &bytes, &[]).expect("a key")
    };
    let keys = [Kernels::default(), Kernels::chosen()].map(|k| (0..count).map(|n| key(k, n)).collect::<Vec<_>>());
    let mut texts = vec![0x5a; PACKETS * STRIDE_BYTES];
    let mut sealed = vec![0; PACKETS * STRIDE_BYTES];
    let mut random = 1u64;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        let chosen: [usize; PACKETS] = std::array::from_fn(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % count
        });
        for way in [round % 2, 1 - round % 2] {
            let keys = &keys[way];
            let stamp = |n| Stamp::Esp { spi: 7, sequence: n as u64, esn: true };
            let seal = |texts: &mut [u8], sealed: &mut [u8]| {
                let pairs = texts.chunks_exact(STRIDE_BYTES).zip(sealed.chunks_exact_mut(STRIDE_BYTES));
                let mut jobs = pairs.zip(chosen).enumerate().map(|(n, ((text, sealed), key))| {
                    SealJob::new(&keys[key], stamp(n), &text[..size], &mut sealed[..size + AROUND_BYTES])
                });
                loop {
                    let mut some: heapless::Vec<_, PACKETS> = heapless::Vec::new();
                    some.extend(jobs.by_ref().take(at_a_time));
                    if some.is_empty() {
                        break;
                    }
                    seal_batch(&mut some);
                    assert!(some.iter().all(|job| job.is_sealed));
                }
            };
            let open = |texts: &mut [u8], sealed: &mut [u8]| {
                let pairs = texts.chunks_exact_mut(STRIDE_BYTES).zip(sealed.chunks_exact(STRIDE_BYTES));
                let mut jobs = pairs.zip(chosen).enumerate().map(|(n, ((text, sealed), key))| {
                    OpenJob::new(&keys[key], stamp(n), &sealed[..size + AROUND_BYTES], text)
                });
                loop {
                    let mut some: heapless::Vec<_, PACKETS> = heapless::Vec::new();
                    some.extend(jobs.by_ref().take(at_a_time));
                    if some.is_empty() {
                        break;
                    }
                    open_batch(&mut some);
                    assert!(some.iter().all(|job| job.is_authentic));
                }
            };
            if opening {
                seal(&mut texts, &mut sealed);
            }
            let start = Instant::now();
            match opening {
                true => open(&mut texts, &mut sealed),
                false => seal(&mut texts, &mut sealed),
            }
            times[way].push(start.elapsed().as_nanos() as f64 / PACKETS as f64);
            black_box((&mut texts, &mut sealed));
        }
    }
    times.map(median)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
