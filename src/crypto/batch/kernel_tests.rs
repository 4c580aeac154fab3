//! Each kernel against the library, bit for bit: every length, every count of packets, keys and lengths mixed, spoiled ones among them.
//! Which kernel a key is for is said, not chosen; where the processor has none, the test says that it did not run.

use super::*;
use crate::crypto::kernels::testing::{Random, avx512};
use crate::crypto::{Cipher, Kernels, Suite};

const CIPHERS: [Option<Cipher>; 4] =
    [None, Some(Cipher::ChaCha20Poly1305), Some(Cipher::AesGcm128), Some(Cipher::AesGcm256)];

/// One key for a kernel, the same for the library. WireGuard's without a cipher.
struct Keys {
    own: PacketKey,
    library: PacketKey,
    cipher: Option<Cipher>,
}

impl Keys {
    fn random(kernels: Kernels, cipher: Option<Cipher>, random: &mut Random) -> Keys {
        let (key, library) = (random.array::<36>(), Kernels::default());
        let of = |kernels| match cipher {
            None => PacketKey::of_wireguard_for(kernels, key.first_chunk().unwrap()),
            Some(cipher) => {
                let suite = Suite { cipher, integrity: None };
                PacketKey::new_for(kernels, suite, &key[..suite.cipher_key_bytes()], &[]).unwrap()
            }
        };
        Keys { own: of(kernels), library: of(library), cipher }
    }

    fn stamp(&self, random: &mut Random) -> Stamp {
        match self.cipher {
            None => Stamp::WireGuard { counter: random.next() },
            Some(_) => {
                Stamp::Esp { spi: random.next() as u32, sequence: random.next(), esn: random.next().is_multiple_of(2) }
            }
        }
    }

    fn sealed_bytes(&self, text: &[u8]) -> usize {
        text.len() + 16 + if self.cipher.is_some() { 8 } else { 0 }
    }
}

/// Seals and opens them by both, and compares. These are spoiled on their way.
fn compare(packets: &[(&Keys, Stamp, Vec<u8>)], spoil: impl Fn(usize, &mut Vec<u8>)) {
    let seal = |key: fn(&Keys) -> &PacketKey| {
        let mut sealed: Vec<_> = packets.iter().map(|(keys, _, text)| vec![0xee; keys.sealed_bytes(text)]).collect();
        let jobs = packets.iter().zip(&mut sealed);
        let jobs = jobs.map(|((keys, stamp, text), sealed)| SealJob::new(key(keys), *stamp, text, sealed));
        let mut jobs: Vec<_> = jobs.collect();
        seal_batch(&mut jobs);
        assert!(jobs.iter().all(|job| job.is_sealed));
        sealed
    };
    let (mut sealed, expected) = (seal(|keys| &keys.own), seal(|keys| &keys.library));
    for ((found, expected), packet) in sealed.iter().zip(&expected).zip(packets) {
        assert!(found == expected, "{:?}, {} bytes of {}", packet.0.own, packet.2.len(), packets.len());
    }

    sealed.iter_mut().enumerate().for_each(|(n, sealed)| spoil(n, sealed));
    let open = |key: fn(&Keys) -> &PacketKey| {
        let mut texts: Vec<_> = packets.iter().map(|(_, _, text)| vec![0xee; text.len() + 1]).collect();
        let jobs = packets.iter().zip(sealed.iter().zip(&mut texts));
        let jobs = jobs.map(|((keys, stamp, _), (sealed, text))| OpenJob::new(key(keys), *stamp, sealed, text));
        let mut jobs: Vec<_> = jobs.collect();
        open_batch(&mut jobs);
        let answers: Vec<_> = jobs.iter().map(|job| job.is_authentic).collect();
        (answers, texts)
    };
    let ((answers, texts), (expected, _)) = (open(|keys| &keys.own), open(|keys| &keys.library));
    assert_eq!(answers, expected);
    for (n, ((found, is_authentic), (_, _, text))) in texts.iter().zip(answers).zip(packets).enumerate() {
        let (found, behind) = found.split_at(text.len());
        assert_eq!(behind, [0xee], "not a byte further");
        assert_eq!(is_authentic, sealed[n] == expected_of(packets, n), "{n}");
        match is_authentic {
            true => assert!(found == text),
            false => assert!(found.iter().all(|byte| [0, 0xee].contains(byte)), "no text is left"),
        }
    }
}

fn expected_of(packets: &[(&Keys, Stamp, Vec<u8>)], n: usize) -> Vec<u8> {
    let (keys, stamp, text) = &packets[n];
    let mut sealed = vec![0; keys.sealed_bytes(text)];
    let mut jobs = [SealJob::new(&keys.library, *stamp, text, &mut sealed)];
    seal_batch(&mut jobs);
    sealed
}

fn kernels() -> Option<Kernels> {
    avx512().map(|avx512| Kernels { avx512: Some(avx512) })
}

#[test]
fn every_length_alone_and_in_a_batch() {
    let Some(kernels) = kernels() else { return };
    for cipher in CIPHERS {
        let mut random = Random::new(1);
        let keys = Keys::random(kernels, cipher, &mut random);
        let mut packets = Vec::new();
        for len in 0..=2048 {
            let packet = (&keys, keys.stamp(&mut random), random.bytes(len));
            // By itself, too; of the longer ones those around the ends of blocks.
            if len <= 512 || (len + 1) % 16 < 3 {
                compare(std::slice::from_ref(&packet), |_, _| {});
            }
            packets.push(packet);
            if packets.len() == 64 || len == 2048 {
                compare(&packets, |_, _| {});
                packets.clear();
            }
        }
    }
}

#[test]
fn every_count_of_equal_packets() {
    let Some(kernels) = kernels() else { return };
    for cipher in CIPHERS {
        let mut random = Random::new(2);
        let keys: Vec<_> = (0..130).map(|_| Keys::random(kernels, cipher, &mut random)).collect();
        for len in [0, 64, 200, 800] {
            for count in (0..=70).chain([127, 128, 129, 130]) {
                let packets: Vec<_> =
                    keys[..count].iter().map(|keys| (keys, keys.stamp(&mut random), random.bytes(len))).collect();
                compare(&packets, |_, _| {});
            }
        }
    }
}

#[test]
fn mixed_batches_with_spoiled_packets() {
    let Some(kernels) = kernels() else { return };
    let mut random = Random::new(3);
    let all = |random: &mut Random| (0..40).map(|n| Keys::random(kernels, CIPHERS[n % 4], random)).collect::<Vec<_>>();
    let keys = all(&mut random);
    for round in 0..200 {
        let count = random.below(100);
        let longest = [100, 1500, 3000, 20_000][round % 4];
        let packets: Vec<_> = (0..count)
            .map(|_| {
                let keys = &keys[random.below(keys.len())];
                let len = if random.next().is_multiple_of(20) {
                    random.below(longest)
                } else {
                    random.below(longest.min(1500))
                };
                (keys, keys.stamp(&mut random), random.bytes(len))
            })
            .collect();
        let bits: Vec<_> = (0..count).map(|_| (random.next().is_multiple_of(3), random.next() as usize)).collect();
        compare(&packets, |n, sealed| {
            let (is_spoiled, bit) = bits[n];
            if is_spoiled {
                let bit = bit % (sealed.len() * 8);
                sealed[bit / 8] ^= 1 << (bit % 8);
            }
        });
    }
}

/// Of 64 KiB, and in each place of the batch.
#[test]
fn one_giant_among_small_ones() {
    let Some(kernels) = kernels() else { return };
    for cipher in CIPHERS {
        let mut random = Random::new(4);
        let keys = Keys::random(kernels, cipher, &mut random);
        for place in [0, 5, 19] {
            let lengths = (0..20).map(|n| if n == place { 65_535 } else { 64 + n });
            let packets: Vec<_> = lengths.map(|len| (&keys, keys.stamp(&mut random), random.bytes(len))).collect();
            compare(&packets, |_, _| {});
        }
    }
}

/// What is associated, and the key, count as well; and a wrong one spoils nobody else's.
#[test]
fn another_stamp_or_key_opens_nothing() {
    let Some(kernels) = kernels() else { return };
    for cipher in CIPHERS {
        let mut random = Random::new(5);
        let [keys, other] = std::array::from_fn(|_| Keys::random(kernels, cipher, &mut random));
        let stamps: Vec<_> = (0..16).map(|_| keys.stamp(&mut random)).collect();
        let text = random.bytes(300);
        let sealed: Vec<Vec<u8>> =
            stamps.iter().map(|stamp| expected_of(&[(&keys, *stamp, text.clone())], 0)).collect();
        let mut texts = vec![vec![0xee; 300]; 16];
        let jobs = stamps.iter().zip(&sealed).zip(&mut texts).enumerate();
        let jobs = jobs.map(|(n, ((stamp, sealed), text))| match (n % 4, *stamp) {
            (1, _) => OpenJob::new(&other.own, *stamp, sealed, text),
            (2, Stamp::Esp { spi, sequence, esn }) => {
                OpenJob::new(&keys.own, Stamp::Esp { spi: spi ^ 1 << (n + 8), sequence, esn }, sealed, text)
            }
            (2, Stamp::WireGuard { counter }) => {
                OpenJob::new(&keys.own, Stamp::WireGuard { counter: counter ^ 1 << (4 * n) }, sealed, text)
            }
            _ => OpenJob::new(&keys.own, *stamp, sealed, text),
        });
        let mut jobs: Vec<_> = jobs.collect();
        open_batch(&mut jobs);
        for (n, job) in jobs.iter().enumerate() {
            assert_eq!(job.is_authentic, [0, 3].contains(&(n % 4)), "{n}");
            assert_eq!(*job.text == text[..], job.is_authentic, "{n}");
        }
    }
}

/// The answer is said anew each time.
#[test]
fn an_old_answer_does_not_stand() {
    for kernels in [kernels(), Some(Kernels::default())].into_iter().flatten() {
        for cipher in CIPHERS {
            let keys = Keys::random(kernels, cipher, &mut Random::new(6));
            let stamp = keys.stamp(&mut Random::new(7));
            let (sealed, mut text) = ([0; 20], [0; 20]);
            let mut job = OpenJob::new(&keys.own, stamp, &sealed, &mut text);
            job.is_authentic = true;
            open_batch(std::slice::from_mut(&mut job));
            assert!(!job.is_authentic);
        }
    }
}
