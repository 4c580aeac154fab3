//! What holds for every suite: what is sealed opens, what was changed does not, and nothing off the wire panics.

use proptest::prelude::*;

use super::*;
use crate::crypto::{Cipher, Integrity};

fn suites() -> Vec<Suite> {
    let aead = |cipher| Suite { cipher, integrity: None };
    let cbc = |cipher| Integrity::ALL.map(|integrity| Suite { cipher, integrity: Some(integrity) });
    let mut suites = [Cipher::AesGcm128, Cipher::AesGcm256, Cipher::ChaCha20Poly1305].map(aead).to_vec();
    suites.extend([Cipher::AesCbc128, Cipher::AesCbc192, Cipher::AesCbc256].into_iter().flat_map(cbc));
    suites
}

fn key(suite: Suite, seed: u8) -> PacketKey {
    let cipher_key: Vec<u8> = (0..suite.cipher_key_bytes()).map(|at| at as u8 ^ seed).collect();
    let integrity_key: Vec<u8> = (0..suite.integrity_key_bytes()).map(|at| !(at as u8) ^ seed).collect();
    PacketKey::new(suite, &cipher_key, &integrity_key).unwrap()
}

/// IV | ciphertext | ICV.
fn sealed(key: &PacketKey, associated: Associated<'_>, counter: u64, plaintext: &[u8]) -> Vec<u8> {
    let suite = key.suite();
    let mut buf = vec![0; suite.iv_bytes()];
    buf.extend_from_slice(plaintext);
    buf.resize(buf.len() + suite.icv_bytes(), 0);
    key.seal(associated, counter, &mut buf);
    buf
}

fn plaintext(suite: Suite, blocks: usize) -> Vec<u8> {
    (0..suite.block_bytes() * blocks).map(|at| ((at * 31) >> 2) as u8).collect()
}

fn any_suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(suites())
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        suite in any_suite(), blocks in 0usize..120, counter: u64, spi: u32, sequence: u64, esn: bool, message: [u8; 28],
        ike: bool,
    ) {
        let key = key(suite, 0);
        let associated = if ike { Associated::Ike(&message) } else { Associated::Esp { spi, sequence, esn } };
        let plaintext = plaintext(suite, blocks);
        let mut buf = sealed(&key, associated, counter, &plaintext);

        let mut out = vec![0xaa; plaintext.len() + 5];
        prop_assert_eq!(key.open_into(associated, &buf, &mut out), Ok(plaintext.len()));
        prop_assert_eq!(&out[..plaintext.len()], &plaintext[..]);
        prop_assert_eq!(&out[plaintext.len()..], &[0xaa; 5], "not a byte further");

        let range = key.open(associated, &mut buf).unwrap();
        prop_assert_eq!(range.clone(), suite.iv_bytes()..suite.iv_bytes() + plaintext.len());
        prop_assert_eq!(&buf[range], &plaintext[..]);
    }

    #[test]
    fn any_flipped_bit_is_refused(suite in any_suite(), blocks in 0usize..8, at: prop::sample::Index, bit in 0u8..8) {
        let key = key(suite, 0);
        let associated = Associated::Esp { spi: 1, sequence: 2, esn: true };
        let mut buf = sealed(&key, associated, 3, &plaintext(suite, blocks));
        let at = at.index(buf.len());
        buf[at] ^= 1 << bit;
        let mut out = vec![0; buf.len()];
        prop_assert_eq!(key.open_into(associated, &buf, &mut out), Err(NotAuthentic));
        prop_assert_eq!(key.open(associated, &mut buf), Err(NotAuthentic));
    }

    #[test]
    fn every_bit_of_what_is_associated_counts(suite in any_suite(), bit in 0u32..96, message_bit in 0usize..224) {
        let key = key(suite, 0);
        let (spi, sequence) = (0x0102_0304, 0x0506_0708_090a_0b0c);
        let buf = sealed(&key, Associated::Esp { spi, sequence, esn: true }, 3, &plaintext(suite, 2));
        let changed = match bit {
            0..32 => Associated::Esp { spi: spi ^ 1 << bit, sequence, esn: true },
            _ => Associated::Esp { spi, sequence: sequence ^ 1 << (bit - 32), esn: true },
        };
        let mut out = vec![0; buf.len()];
        prop_assert_eq!(key.open_into(changed, &buf, &mut out), Err(NotAuthentic));

        let mut message = [0x5a; 28];
        let buf = sealed(&key, Associated::Ike(&message), 3, &plaintext(suite, 2));
        message[message_bit / 8] ^= 1 << (message_bit % 8);
        prop_assert_eq!(key.open_into(Associated::Ike(&message), &buf, &mut out), Err(NotAuthentic));
    }

    #[test]
    fn arbitrary_bytes_are_refused_both_ways_and_never_panic(
        suite in any_suite(), mut bytes in prop::collection::vec(any::<u8>(), 0..300), room in 0usize..300, esn: bool,
    ) {
        let key = key(suite, 0);
        let associated = Associated::Esp { spi: 1, sequence: 2, esn };
        let mut out = vec![0; room];
        prop_assert_eq!(key.open_into(associated, &bytes, &mut out), Err(NotAuthentic));
        prop_assert_eq!(key.open(associated, &mut bytes), Err(NotAuthentic));
    }

    #[test]
    fn a_packet_cut_short_is_refused(suite in any_suite(), blocks in 0usize..6, keep: prop::sample::Index) {
        let key = key(suite, 0);
        let associated = Associated::Ike(&[1, 2, 3]);
        let mut buf = sealed(&key, associated, 3, &plaintext(suite, blocks));
        buf.truncate(keep.index(buf.len()));
        let mut out = vec![0; buf.len()];
        prop_assert_eq!(key.open_into(associated, &buf, &mut out), Err(NotAuthentic));
        prop_assert_eq!(key.open(associated, &mut buf), Err(NotAuthentic));
    }
}

#[test]
fn another_key_does_not_open() {
    for suite in suites() {
        let associated = Associated::Esp { spi: 1, sequence: 2, esn: false };
        let buf = sealed(&key(suite, 0), associated, 3, &plaintext(suite, 3));
        let mut out = vec![0; buf.len()];
        assert_eq!(key(suite, 1).open_into(associated, &buf, &mut out), Err(NotAuthentic), "{suite}");
        assert!(key(suite, 0).open_into(associated, &buf, &mut out).is_ok(), "{suite}");
    }
}

#[test]
fn a_refused_packet_leaves_no_plaintext() {
    for suite in suites() {
        let (key, plaintext, associated) = (key(suite, 0), plaintext(suite, 40), Associated::Ike(&[]));
        let mut buf = sealed(&key, associated, 3, &plaintext);
        *buf.last_mut().unwrap() ^= 1;
        let mut out = vec![0; plaintext.len()];
        assert_eq!(key.open_into(associated, &buf, &mut out), Err(NotAuthentic));
        assert_eq!(key.open(associated, &mut buf), Err(NotAuthentic));
        for found in [&out[..], &buf[suite.iv_bytes()..]] {
            assert!(plaintext.chunks_exact(16).all(|part| found.windows(16).all(|there| there != part)), "{suite}");
        }
    }
}

#[test]
fn a_short_out_is_refused() {
    for suite in suites() {
        let plaintext = plaintext(suite, 3);
        let buf = sealed(&key(suite, 0), Associated::Ike(&[]), 3, &plaintext);
        let mut out = vec![0; plaintext.len() - 1];
        assert_eq!(key(suite, 0).open_into(Associated::Ike(&[]), &buf, &mut out), Err(NotAuthentic), "{suite}");
    }
}

/// RFC 4106 section 3.1 wants IVs that never repeat; CBC wants them unpredictable as well.
#[test]
fn ivs_differ_with_the_counter() {
    for suite in suites() {
        let iv = |counter| {
            let buf = sealed(&key(suite, 0), Associated::Ike(&[]), counter, &[]);
            buf[..suite.iv_bytes()].to_vec()
        };
        let mut ivs: Vec<_> = (0..500).chain(u64::MAX - 500..=u64::MAX).map(iv).collect();
        ivs.sort();
        ivs.dedup();
        assert_eq!(ivs.len(), 1001, "{suite}");
        if suite.cipher.is_aead() {
            assert_eq!(iv(5), [0, 0, 0, 0, 0, 0, 0, 5]);
        }
    }
}

#[test]
fn key_material_has_to_fit() {
    for suite in suites() {
        let (cipher, integrity) = (vec![1; suite.cipher_key_bytes()], vec![2; suite.integrity_key_bytes()]);
        let longer = |key: &[u8]| [key, &[0]].concat();
        let cases = [(longer(&cipher), integrity.clone()), (cipher[1..].to_vec(), integrity.clone())];
        for (cipher, integrity) in cases {
            let bytes = cipher.len();
            assert_eq!(PacketKey::new(suite, &cipher, &integrity).unwrap_err(), KeyLength::Cipher { suite, bytes });
        }
        let bytes = integrity.len() + 1;
        let error = PacketKey::new(suite, &cipher, &longer(&integrity)).unwrap_err();
        assert_eq!(error, KeyLength::Integrity { suite, bytes });
    }
}

#[test]
fn a_cipher_without_integrity_is_refused() {
    let suite = Suite { cipher: Cipher::AesCbc128, integrity: None };
    assert_eq!(PacketKey::new(suite, &[0; 16], &[]).unwrap_err(), KeyLength::NoIntegrity { suite });
}

#[test]
fn a_buffer_laid_out_wrongly_is_never_sealed() {
    for suite in suites() {
        let short = suite.iv_bytes() + suite.icv_bytes() - 1;
        let half_block = suite.iv_bytes() + suite.icv_bytes() + suite.block_bytes() / 2;
        for bytes in [0, short, half_block] {
            if suite.cipher.is_aead() && bytes == half_block {
                continue; // an AEAD takes any length
            }
            let sealing = || key(suite, 0).seal(Associated::Ike(&[]), 1, &mut vec![0; bytes]);
            assert!(std::panic::catch_unwind(sealing).is_err(), "{suite}, {bytes}");
        }
    }
}

#[test]
fn nothing_secret_is_shown() {
    let suite = Suite { cipher: Cipher::AesGcm128, integrity: None };
    assert_eq!(format!("{:?}", key(suite, 0)), "PacketKey(AES-GCM-16-128)");
}

#[test]
fn a_key_can_move_to_its_worker() {
    fn is_send<T: Send>() {}
    is_send::<PacketKey>();
}
