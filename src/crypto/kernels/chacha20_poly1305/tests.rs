//! Published vectors, a reference of Poly1305 that knows nothing of limbs, and the library.

use crypto_bigint::{NonZero, U256, U512};

use super::poly1305::{blocks, tags};
use super::*;
use crate::crypto::hex::hex;
use crate::crypto::kernels::Tag;
use crate::crypto::kernels::testing::{Random, avx512};

const SUNSCREEN: &[u8] =
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
    sunscreen would be it.";

fn array<const N: usize>(digits: &str) -> [u8; N] {
    hex(digits).try_into().unwrap()
}

fn padded(associated: &[u8]) -> ([u8; 12], usize) {
    let mut bytes = [0; 12];
    bytes[..associated.len()].copy_from_slice(associated);
    (bytes, associated.len())
}

/// Among `beside` others that are as long as it, so that it is done both alone and together.
fn check(key: &str, nonce: &str, associated: &str, text: &[u8], sealed: &str, beside: usize) {
    let Some(processor) = avx512() else { return };
    let key = Key::new(&array(key), processor);
    let (nonce, associated, sealed) = (array(nonce), hex(associated), hex(sealed));
    let (ciphertext, tag) = sealed.split_last_chunk().unwrap();
    let mut found = vec![vec![0; text.len()]; beside + 1];
    let mut found_tags = vec![[0; 16]; beside + 1];
    let packets = found.iter_mut().zip(&mut found_tags);
    let packets =
        packets.map(|(to, tag)| Packet::new(&key, nonce, padded(&associated), Some(text), to, Tag::Seal(tag)));
    apply(&mut packets.collect::<Vec<_>>());
    assert!(found.iter().all(|found| found == ciphertext), "{beside}");
    assert!(found_tags.iter().all(|found| found == tag), "{beside}");

    let mut texts = vec![vec![0; text.len()]; beside + 1];
    let mut answers = vec![false; beside + 1];
    let packets = texts.iter_mut().zip(&mut answers);
    let packets =
        packets.map(|(to, is)| Packet::new(&key, nonce, padded(&associated), Some(ciphertext), to, Tag::Open(tag, is)));
    apply(&mut packets.collect::<Vec<_>>());
    assert!(answers.iter().all(|is| *is) && texts.iter().all(|found| found == text), "{beside}");
}

/// RFC 8439 section 2.8.2.
#[test]
fn rfc_8439_sealing() {
    for beside in [0, 1, 7, 8, 15, 16, 63] {
        check(
            "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            "070000004041424344454647",
            "50515253c0c1c2c3c4c5c6c7",
            SUNSCREEN,
            "d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
             1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
             3ff4def08e4b7a9de576d26586cec64b 6116 1ae10b594f09e26a7e902ecbd0600691",
            beside,
        );
    }
}

/// RFC 8439 appendix A.5.
#[test]
fn rfc_8439_opening() {
    let text = "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or \
                obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference \
                material or to cite them other than as /\u{201c}work in progress./\u{201d}";
    for beside in [0, 1, 7, 8, 15, 16, 63] {
        check(
            "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
            "000000000102030405060708",
            "f33388860000000000004e91",
            text.as_bytes(),
            "64a0861575861af460f062c79be643bd 5e805cfd345cf389f108670ac76c8cb2 4c6cfc18755d43eea09ee94e382d26b0
             bdb7b73c321b0100d4f03b7f355894cf 332f830e710b97ce98c8a84abd0b9481 14ad176e008d33bd60f982b1ff37c855
             9797a06ef4f0ef61c186324e2b350638 3606907b6a7c02b0f9f6157b53c867e4 b9166c767b804d46a59b5216cde7a4e9
             9040c5a40433225ee282a1b0a06c523e af4534d7f83fa1155b0047718cbc546a 0d072b04b3564eea1b422273f548271a
             0bb2316053fa76991955ebd63159434e cebb4e466dae5a1073a6727627097a10 49e617d91d361094fa68f0ff77987130
             305beaba2eda04df997b714d6c6f2c29 a6ad5cb4022b02709b eead9d67890cbb22392336fea1851f38",
            beside,
        );
    }
}

/// RFC 8439 section 2.5, with any integers.
fn reference(key: &[u8; 32], associated: &[u8], text: &[u8]) -> [u8; 16] {
    let number = |bytes: &[u8]| {
        let mut whole = [0; 32];
        whole[..bytes.len()].copy_from_slice(bytes);
        U256::from_le_slice(&whole)
    };
    let prime = U512::ONE.shl(130).wrapping_sub(&U512::from_u8(5));
    let r = number(&key[..16]) & number(&array::<16>("ffffff0ffcffff0ffcffff0ffcffff0f"));
    let mut h = U256::ZERO;
    let lengths = [(associated.len() as u64).to_le_bytes(), (text.len() as u64).to_le_bytes()].concat();
    for part in [associated, text, &lengths] {
        for block in part.chunks(16) {
            let mut padded = [0; 17];
            padded[..block.len()].copy_from_slice(block);
            padded[16] = 1;
            let product: U512 = h.wrapping_add(&number(&padded)).concatenating_mul(&r);
            let rest = product.rem_vartime(&NonZero::new(prime).unwrap());
            h = rest.resize();
        }
    }
    h.wrapping_add(&number(&key[16..])).to_le_bytes().as_ref()[..16].try_into().unwrap()
}

/// Tags under these one-time keys, of these texts.
fn tags_of(keys: &[[u8; 32]], associated: &[u8], texts: &[Vec<u8>]) -> Option<Vec<[u8; 16]>> {
    let processor = avx512()?;
    let key = Key::new(&[0; 32], processor);
    let mut texts = texts.to_vec();
    let mut found = vec![[0; 16]; texts.len()];
    let mut scratch = Scratch::new();
    for (place, key) in scratch.key_blocks.iter_mut().zip(keys) {
        place[..32].copy_from_slice(key);
    }
    let packets = texts.iter_mut().zip(&mut found);
    let mut packets: Vec<_> =
        packets.map(|(text, tag)| Packet::new(&key, [0; 12], padded(associated), None, text, Tag::Seal(tag))).collect();
    // SAFETY: the processor has it.
    unsafe { tags(&mut packets, &scratch) };
    Some(found)
}

/// Numbers that end just below, at and above the prime, and limbs that are full: RFC 8439 appendix A.3 (vectors 7 to 11), what
/// Wycheproof has besides, and others of their kind.
#[test]
fn poly1305_carries_right_at_the_edges() {
    let (zeros, ones) = ([0; 16], [0xff; 16]);
    let near = |low: u8| std::array::from_fn(|at| if at == 0 { low } else { 0xff });
    let small = |low: u8| std::array::from_fn(|at| if at == 0 { low } else { 0 });
    let edges: [[u8; 16]; 12] = [
        zeros,
        ones,
        near(0xfa),
        near(0xfb),
        near(0xfc),
        near(0xfe),
        small(1),
        small(2),
        small(4),
        small(5),
        array("fbfefefefefefefefefefefefefefefe"),
        array("01010101010101010101010101010101"),
    ];
    let factors: [[u8; 16]; 6] = [
        small(1),
        small(2),
        small(4),
        ones,
        array("01000000000000000400000000000000"),
        array("00000000000000000000000000000008"),
    ];
    let mut random = Random::new(1);
    let mut count = 0;
    for r in factors {
        for pad in [zeros, ones, small(1)] {
            let key: [u8; 32] = [r, pad].concat().try_into().unwrap();
            for round in 0..60 {
                let text: Vec<u8> = (0..1 + round % 20).flat_map(|_| edges[random.below(edges.len())]).collect();
                let others = [0, 1, 7, 8, 12, 15][round % 6];
                let associated = if round % 2 == 0 { &[0xff; 12][..] } else { &[] };
                let Some(found) = tags_of(&vec![key; others + 1], associated, &vec![text.clone(); others + 1]) else {
                    return;
                };
                let expected = reference(&key, associated, &text);
                assert!(found.iter().all(|found| *found == expected), "{r:x?} {text:x?} {others}");
                count += 1;
            }
        }
    }
    assert_eq!(count, 6 * 3 * 60);
}

#[test]
fn each_has_the_tag_of_its_own_key_and_text() {
    let mut random = Random::new(2);
    for round in 0..200 {
        let count = 1 + random.below(CHUNK);
        let keys: Vec<[u8; 32]> = (0..count).map(|_| random.array()).collect();
        let longest = [20, 200, 1500][round % 3];
        let lengths: Vec<_> = (0..count).map(|_| random.below(longest)).collect();
        let mut texts: Vec<_> = lengths.into_iter().map(|len| random.bytes(len)).collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        let associated = random.bytes([0, 8, 12][round % 3]);
        let Some(found) = tags_of(&keys, &associated, &texts) else { return };
        for ((key, text), found) in keys.iter().zip(&texts).zip(found) {
            assert_eq!(found, reference(key, &associated, text), "{count} {}", text.len());
        }
    }
}

/// Of a chunk: those that are taken alone are the longest, and few against the rest.
#[test]
fn long_ones_do_not_hold_up_the_others() {
    let Some(processor) = avx512() else { return };
    let key = Key::new(&[0; 32], processor);
    let alone = |lengths: &[usize]| {
        let mut texts: Vec<_> = lengths.iter().map(|len| vec![0; *len]).collect();
        let mut ends = vec![[0; 16]; lengths.len()];
        let packets = texts.iter_mut().zip(&mut ends);
        let packets: Vec<_> =
            packets.map(|(text, tag)| Packet::new(&key, [0; 12], padded(&[]), None, text, Tag::Seal(tag))).collect();
        assert_eq!(blocks(&packets[0]), lengths[0].div_ceil(16) + 1);
        super::poly1305::taken_alone(&packets)
    };
    assert_eq!(alone(&[1420; 16]), 0);
    assert_eq!(alone(&[64; 16]), 0);
    assert_eq!(alone(&[1420]), 1);
    assert_eq!(alone(&[1420, 64, 64, 64, 64, 64]), 1);
    assert_eq!(alone(&[60_000, 1420, 1420, 1420, 1420, 1420, 1420, 1420, 1420]), 1);
}

#[test]
fn nothing_of_a_one_time_key_stays() {
    let Some(processor) = avx512() else { return };
    let key = Key::new(&[7; 32], processor);
    let (mut text, mut tag) = ([0; 100], [0; 16]);
    let mut scratch = Scratch::new();
    apply_with(
        &mut [Packet::new(&key, [0; 12], padded(&[]), None, &mut text, Tag::Seal(&mut tag))],
        processor,
        &mut scratch,
    );
    assert!(scratch.key_blocks[0] != [0; 64]);
    scratch.wipe(1);
    assert!(scratch.key_blocks == [[0; 64]; CHUNK]);
}

#[test]
fn a_key_that_is_dropped_is_wiped() {
    let Some(processor) = avx512() else { return };
    let key = Key::new(&[7; 32], processor);
    let clone = key.clone();
    drop(key);
    assert_eq!(clone.bytes(), &[7; 32], "not before the last of them is dropped");
    fn on_drop<T: ZeroizeOnDrop>() {}
    on_drop::<Line>();
}
