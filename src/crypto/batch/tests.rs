//! A batch is as its packets one by one, whatever suites and keys are mixed in it.

use proptest::prelude::*;

use super::*;
use crate::crypto::{Associated, Cipher, Integrity, Kernels, Suite};

const SUITES: usize = 7;

/// Of each kind that there is: AEADs, CBC with an HMAC, WireGuard's.
fn key(kind: usize, seed: u8) -> PacketKey {
    key_for(Kernels::chosen(), kind, seed)
}

fn key_for(kernels: Kernels, kind: usize, seed: u8) -> PacketKey {
    let aead = |cipher| Suite { cipher, integrity: None };
    let cbc = |cipher, integrity| Suite { cipher, integrity: Some(integrity) };
    let suites = [
        aead(Cipher::AesGcm128),
        aead(Cipher::AesGcm256),
        aead(Cipher::ChaCha20Poly1305),
        cbc(Cipher::AesCbc128, Integrity::HmacSha256_128),
        cbc(Cipher::AesCbc192, Integrity::HmacSha384_192),
        cbc(Cipher::AesCbc256, Integrity::HmacSha512_256),
    ];
    let bytes = |len: usize| vec![seed; len];
    match suites.get(kind) {
        Some(suite) => {
            let (cipher, integrity) = (bytes(suite.cipher_key_bytes()), bytes(suite.integrity_key_bytes()));
            PacketKey::new_for(kernels, *suite, &cipher, &integrity).unwrap()
        }
        None => PacketKey::of_wireguard_for(kernels, &[seed; 32]),
    }
}

#[derive(Clone, Debug)]
struct Packet {
    kind: usize,
    seed: u8,
    number: u64,
    esn: bool,
    text: Vec<u8>,
    /// Changed on its way, in this bit.
    spoiled: Option<prop::sample::Index>,
}

impl Packet {
    fn is_wireguard(&self) -> bool {
        self.kind == SUITES - 1
    }

    fn stamp(&self) -> Stamp {
        match self.is_wireguard() {
            true => Stamp::WireGuard { counter: self.number },
            false => Stamp::Esp { spi: 0x1234_5678, sequence: self.number, esn: self.esn },
        }
    }

    /// IV and ICV.
    fn around(&self) -> (usize, usize) {
        let suite = key(self.kind, self.seed).suite();
        (if self.is_wireguard() { 0 } else { suite.iv_bytes() }, suite.icv_bytes())
    }

    /// By the library, and its call for a packet by itself.
    fn sealed_alone(&self) -> Vec<u8> {
        self.sealed_by(&key_for(Kernels::default(), self.kind, self.seed))
    }

    fn sealed_by(&self, key: &PacketKey) -> Vec<u8> {
        let (iv, icv) = self.around();
        let mut bytes = [vec![0; iv], self.text.clone(), vec![0; icv]].concat();
        match self.stamp() {
            Stamp::WireGuard { counter } => key.seal_message(counter, &mut bytes),
            Stamp::Esp { spi, sequence, esn } => {
                key.seal(Associated::Esp { spi, sequence, esn }, sequence, &mut bytes);
            }
        }
        bytes
    }
}

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let spoiled = prop::option::weighted(0.2, any::<prop::sample::Index>());
    let packet = (0..SUITES, 0u8..3, any::<u64>(), any::<bool>(), 0usize..90, any::<u8>(), spoiled);
    let packet = packet.prop_map(|(kind, seed, number, esn, blocks, byte, spoiled)| {
        let text = (0..blocks * 16).map(|at| (at as u8).wrapping_mul(31) ^ byte).collect();
        Packet { kind, seed, number, esn, text, spoiled }
    });
    prop::collection::vec(packet, 0..64)
}

proptest! {
    #[test]
    fn together_is_as_one_by_one(packets in packets()) {
        let keys: Vec<_> = packets.iter().map(|packet| key(packet.kind, packet.seed)).collect();
        let mut sealed: Vec<Vec<u8>> = packets.iter().map(|packet| vec![0xee; packet.sealed_alone().len()]).collect();
        let mut jobs: Vec<_> = packets.iter().zip(&keys).zip(&mut sealed)
            .map(|((packet, key), sealed)| SealJob::new(key, packet.stamp(), &packet.text, sealed))
            .collect();
        seal_batch(&mut jobs);
        prop_assert!(jobs.iter().all(|job| job.is_sealed));
        drop(jobs);
        for ((packet, sealed), key) in packets.iter().zip(&sealed).zip(&keys) {
            prop_assert_eq!(sealed, &packet.sealed_alone());
            prop_assert_eq!(sealed, &packet.sealed_by(key), "by itself, in place");
        }

        for (packet, sealed) in packets.iter().zip(&mut sealed) {
            if let Some(bit) = packet.spoiled {
                let bit = bit.index(sealed.len() * 8);
                sealed[bit / 8] ^= 1 << (bit % 8);
            }
        }
        let mut texts: Vec<Vec<u8>> = packets.iter().map(|packet| vec![0xee; packet.text.len() + 3]).collect();
        let mut jobs: Vec<_> = packets.iter().zip(&keys).zip(sealed.iter().zip(&mut texts))
            .map(|((packet, key), (sealed, text))| OpenJob::new(key, packet.stamp(), sealed, text))
            .collect();
        open_batch(&mut jobs);
        for (job, packet) in jobs.iter().zip(&packets) {
            prop_assert_eq!(job.is_authentic, packet.spoiled.is_none());
            if !job.is_authentic {
                let parts = packet.text.chunks_exact(16).filter(|part| part != &[0; 16]);
                prop_assert!(parts.into_iter().all(|part| job.text.windows(16).all(|there| there != part)), "wiped");
            }
            if job.is_authentic {
                prop_assert_eq!(&job.text[..packet.text.len()], &packet.text[..]);
                prop_assert_eq!(&job.text[packet.text.len()..], &[0xee; 3], "not a byte further");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_not_sealed_and_nothing_of_it_is_shown() {
    for kind in 0..SUITES {
        let packet = Packet { kind, seed: 1, number: 7, esn: false, text: vec![0x5a; 64], spoiled: None };
        let (key, right) = (key(kind, 1), packet.sealed_alone().len());
        for wrong in [0, 1, right - 16, right - 1, right + 1] {
            let mut sealed = vec![0; wrong];
            let mut jobs = [SealJob::new(&key, packet.stamp(), &packet.text, &mut sealed)];
            seal_batch(&mut jobs);
            assert!(!jobs[0].is_sealed, "{kind}, {wrong}");
            assert!(sealed.windows(16).all(|part| part != [0x5a; 16]), "{kind}, {wrong}");
        }
    }
}

#[test]
fn what_is_too_short_or_has_no_room_is_not_authentic() {
    for kind in 0..SUITES {
        let packet = Packet { kind, seed: 1, number: 7, esn: false, text: vec![0x5a; 64], spoiled: None };
        let (key, sealed) = (key(kind, 1), packet.sealed_alone());
        for (from, room) in [(0, 64), (1, 64), (sealed.len() - 1, 64), (sealed.len(), 63), (sealed.len(), 64)] {
            let mut text = vec![0; room];
            let mut jobs = [OpenJob::new(&key, packet.stamp(), &sealed[..from], &mut text)];
            open_batch(&mut jobs);
            assert_eq!(jobs[0].is_authentic, from == sealed.len() && room == 64, "{kind}, {from}, {room}");
        }
    }
}
