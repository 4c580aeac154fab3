//! Batches of packets of any suites, keys, lengths and stamps, sealed, spoiled and opened: the kernels of this processor against the
//! library, byte by byte.

use ixgate::crypto::{Cipher, Kernels, OpenJob, PacketKey, SealJob, Stamp, Suite, open_batch, seal_batch};

use super::script::Script;

const PACKETS: usize = 80;

struct Packet {
    keys: [PacketKey; 2],
    stamp: Stamp,
    text: Vec<u8>,
    around_bytes: usize,
    /// This bit of it, if it is in there.
    spoiled: usize,
}

impl Packet {
    fn read(script: &mut Script<'_>) -> Option<Packet> {
        let (kind, seed, number) = (script.u8()?, script.u8()?, script.u16()?);
        let (len, spoiled) = (usize::from(script.u16()? % 2100), usize::from(script.u16()?));
        let mut text = script.bytes(len).to_vec();
        text.resize(len, seed);
        let suite = |cipher| Suite { cipher, integrity: None };
        let suite = [None, Some(Cipher::ChaCha20Poly1305), Some(Cipher::AesGcm128), Some(Cipher::AesGcm256)]
            [usize::from(kind % 4)]
        .map(suite);
        let keys = [Kernels::default(), Kernels::chosen()].map(|kernels| match suite {
            None => PacketKey::of_wireguard_for(kernels, &[seed; 32]),
            Some(suite) => {
                let key = vec![seed; suite.cipher_key_bytes()];
                PacketKey::new_for(kernels, suite, &key, &[]).expect("a key as long as it should be")
            }
        });
        let number = u64::from(number) << (kind >> 4);
        let (stamp, around_bytes) = match suite {
            None => (Stamp::WireGuard { counter: number }, 16),
            Some(_) => (Stamp::Esp { spi: number as u32, sequence: number, esn: kind & 4 != 0 }, 24),
        };
        Some(Packet { keys, stamp, text, around_bytes, spoiled })
    }
}

pub fn batch(bytes: &[u8]) {
    let mut script = Script(bytes);
    let packets: Vec<Packet> = std::iter::from_fn(|| Packet::read(&mut script)).take(PACKETS).collect();
    let [mut expected, sealed] = [0, 1].map(|kernel| seal(&packets, kernel));
    assert!(sealed == expected, "sealed otherwise than by the library");
    for (sealed, packet) in expected.iter_mut().zip(&packets) {
        if let Some(byte) = sealed.get_mut(packet.spoiled / 8) {
            *byte ^= 1 << (packet.spoiled % 8);
        }
    }
    let [library, kernel] = [0, 1].map(|kernel| open(&packets, &expected, kernel));
    for (((sealed, packet), (expected, text)), (found, other)) in expected.iter().zip(&packets).zip(library).zip(kernel)
    {
        assert_eq!(found, expected, "opened by one and not by the other");
        assert_eq!(found, packet.spoiled / 8 >= sealed.len());
        assert!(!found || (text == packet.text && other == text));
        assert!(found || other.iter().all(|byte| *byte == 0), "unauthentic text was left");
    }
}

fn seal(packets: &[Packet], kernel: usize) -> Vec<Vec<u8>> {
    let mut sealed: Vec<_> = packets.iter().map(|packet| vec![0; packet.text.len() + packet.around_bytes]).collect();
    let jobs = packets.iter().zip(&mut sealed);
    let jobs = jobs.map(|(packet, sealed)| SealJob::new(&packet.keys[kernel], packet.stamp, &packet.text, sealed));
    let mut jobs: Vec<_> = jobs.collect();
    seal_batch(&mut jobs);
    assert!(jobs.iter().all(|job| job.is_sealed));
    sealed
}

fn open(packets: &[Packet], sealed: &[Vec<u8>], kernel: usize) -> Vec<(bool, Vec<u8>)> {
    let mut texts: Vec<_> = packets.iter().map(|packet| vec![0; packet.text.len()]).collect();
    let jobs = packets.iter().zip(sealed).zip(&mut texts);
    let jobs = jobs.map(|((packet, sealed), text)| OpenJob::new(&packet.keys[kernel], packet.stamp, sealed, text));
    let mut jobs: Vec<_> = jobs.collect();
    open_batch(&mut jobs);
    let answers: Vec<_> = jobs.iter().map(|job| job.is_authentic).collect();
    answers.into_iter().zip(texts).collect()
}
