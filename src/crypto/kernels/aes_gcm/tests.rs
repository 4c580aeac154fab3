//! Published vectors; the rest, every length against the library, is in `batch/kernel_tests.rs`.

use super::*;
use crate::crypto::hex::hex;
use crate::crypto::kernels::testing::{Random, avx512};

fn array<const N: usize>(digits: &str) -> [u8; N] {
    hex(digits).try_into().unwrap()
}

fn key(digits: &str, processor: Avx512) -> Key {
    let bytes = hex(digits);
    match bytes.len() {
        16 => Key::new_128(&bytes.try_into().unwrap(), processor),
        _ => Key::new_256(&bytes.try_into().unwrap(), processor),
    }
}

/// "The Galois/Counter Mode of Operation" (McGrew, Viega), appendix B: key, nonce, text, ciphertext, tag. Those with nonces of 96 bits
/// and nothing associated.
const CASES: [[&str; 5]; 6] = [
    ["00000000000000000000000000000000", "000000000000000000000000", "", "", "58e2fccefa7e3061367f1d57a4e7455a"],
    [
        "00000000000000000000000000000000",
        "000000000000000000000000",
        "00000000000000000000000000000000",
        "0388dace60b6a392f328c2b971b2fe78",
        "ab6e47d42cec13bdf53a67b21257bddf",
    ],
    [
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
         21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ],
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "",
        "530f8afbc74536b9a963b4f1c4cb738b",
    ],
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "00000000000000000000000000000000",
        "cea7403d4d606b6e074ec5d3baf39d18",
        "d0d1c8a799996bf0265b98b5d48ab919",
    ],
    [
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        "b094dac5d93471bdec1a502270e3cc6c",
    ],
];

#[test]
fn cases_of_the_specification() {
    let Some(processor) = avx512() else { return };
    for [digits, nonce, text, ciphertext, tag] in CASES {
        let (key, nonce, text, ciphertext) = (key(digits, processor), array(nonce), hex(text), hex(ciphertext));
        let (mut to, mut found) = (vec![0; text.len()], [0; 16]);
        apply(&mut Packet::new(&key, nonce, ([0; 12], 0), Some(&text), &mut to, Tag::Seal(&mut found)));
        assert_eq!((&to, found), (&ciphertext, array(tag)));

        let (mut to, mut is_authentic) = (vec![0; text.len()], false);
        let expected = array(tag);
        let tag = Tag::Open(&expected, &mut is_authentic);
        apply(&mut Packet::new(&key, nonce, ([0; 12], 0), Some(&ciphertext), &mut to, tag));
        assert_eq!((&to, is_authentic), (&text, true));
    }
}

/// FIPS 197 appendix A: the last of the keys, to which all others have led.
#[test]
fn keys_are_expanded_as_fips_197_says() {
    if avx512().is_none() {
        return;
    }
    // SAFETY: the processor has it.
    let (short, long) = unsafe {
        (
            expand_128(&array("2b7e151628aed2a6abf7158809cf4f3c")),
            expand_256(&array("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")),
        )
    };
    assert_eq!(short[10], array("d014f9a8c9ee2589e13f0cc8b6630ca6"));
    assert_eq!(long[14], array("fe4890d1e6188d0b046df344706c631e"));
}

/// SP 800-38D section 6.3, bit by bit.
fn product(a: u128, b: u128) -> u128 {
    let (mut sum, mut v) = (0, b);
    for bit in (0..128).rev() {
        if a >> bit & 1 == 1 {
            sum ^= v;
        }
        v = v >> 1 ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
    }
    sum
}

/// The powers by themselves: H^n / x, turned.
#[test]
fn powers_are_those_of_the_field() {
    if avx512().is_none() {
        return;
    }
    let mut random = Random::new(1);
    let edges = [[0xff; 16], array("80000000000000000000000000000000"), array("00000000000000000000000000000001")];
    for h in edges.into_iter().chain((0..200).map(|_| random.array())) {
        // SAFETY: the processor has it.
        let powers: [[u8; 16]; POWERS] = unsafe { ghash::powers(&h) };
        let (h, x) = (u128::from_be_bytes(h), 1 << 126);
        let mut expected = h;
        for power in powers.iter().rev() {
            assert_eq!(product(u128::from_le_bytes(*power), x), expected);
            expected = product(expected, h);
        }
    }
}

#[test]
fn a_key_that_is_dropped_is_wiped() {
    let Some(processor) = avx512() else { return };
    let Schedule::Aes256(mut shared) = key(CASES[5][0], processor).keys else { unreachable!() };
    let keys = Arc::get_mut(&mut shared).expect("the only one");
    assert_ne!(keys.rounds, [[0; 16]; KEYS_256]);
    keys.wipe();
    assert_eq!((keys.rounds, keys.powers), ([[0; 16]; KEYS_256], [[0; 16]; POWERS]));
    assert!(std::mem::needs_drop::<Keys<KEYS_256>>());
}

#[test]
fn a_key_takes_so_much() {
    assert_eq!(size_of::<Keys<KEYS_128>>(), 384);
    assert_eq!(size_of::<Keys<KEYS_256>>(), 448);
}
