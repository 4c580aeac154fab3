//! AES-GCM (SP 800-38D) with four blocks to an instruction. Each packet by itself, but without a call, a branch on anything but
//! its length or a wait between one and the next: small packets overlap in the processor, as far ahead as it looks.
//!
//! ```text
//! counter 1            encrypted, is added to the tag
//! counters 2 to 9      two vectors, encrypted: added to 128 bytes of text, and these go to GHASH (ghash.rs)
//! counters 10 to 17    and so on
//! ```
//!
//! The associated data stands before the first blocks of GHASH, the lengths behind the last; so many powers of H are in the key.
//! An opened packet's text is written before its tag is known, and wiped if that is wrong.

mod ghash;
mod schedule;

use std::arch::x86_64::*;

use zeroize::{Zeroize, ZeroizeOnDrop};

use self::ghash::{Sum, bytes};
use self::schedule::{KEYS_128, KEYS_256, encrypt, expand_128, expand_256};
use super::avx512::{Avx512, first_bytes, load_16, load_at, prefetch, store_at};
use super::packets::{self, TAG_BYTES, Tag};

/// Vectors of text in one step.
const VECTORS: usize = 2;
const STEP_BYTES: usize = 64 * VECTORS;
const STEP_BLOCKS: usize = STEP_BYTES / 16;
/// A step, the lengths, and what is associated before them.
const POWERS: usize = STEP_BLOCKS + 2;

pub type Packet<'a> = packets::Packet<'a, Key>;

/// What packets are sealed and opened with, in the order in which it is read. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(C, align(64))]
struct Keys<const COUNT: usize> {
    rounds: [[u8; 16]; COUNT],
    /// Of H, divided by x, the highest first.
    powers: [[u8; 16]; POWERS],
}

/// Of 384 or 448 bytes, apart from its owner.
pub struct Key {
    keys: Schedule,
    processor: Avx512,
}

enum Schedule {
    Aes128(Box<Keys<KEYS_128>>),
    Aes256(Box<Keys<KEYS_256>>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub fn new_128(key: &[u8; 16], processor: Avx512) -> Key {
        // SAFETY: an `Avx512` says that the processor has these instructions.
        let keys = unsafe { Keys::boxed(expand_128(key)) };
        Key { keys: Schedule::Aes128(keys), processor }
    }

    pub fn new_256(key: &[u8; 32], processor: Avx512) -> Key {
        // SAFETY: as above.
        let keys = unsafe { Keys::boxed(expand_256(key)) };
        Key { keys: Schedule::Aes256(keys), processor }
    }

    /// The key itself, as it was given.
    pub fn with_bytes<Answer>(&self, call: impl FnOnce(&[u8]) -> Answer) -> Answer {
        match &self.keys {
            Schedule::Aes128(keys) => call(&keys.rounds[0]),
            Schedule::Aes256(keys) => call(keys.rounds[..2].as_flattened()),
        }
    }

    /// Reads it ahead of need.
    #[inline]
    pub fn touch(&self) {
        match &self.keys {
            Schedule::Aes128(keys) => prefetch(&**keys),
            Schedule::Aes256(keys) => prefetch(&**keys),
        }
    }
}

impl<const COUNT: usize> Keys<COUNT> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,vaes,pclmulqdq,vpclmulqdq")]
    fn boxed(mut rounds: [[u8; 16]; COUNT]) -> Box<Self> {
        let mut keys = Box::new(Keys { rounds, powers: [[0; 16]; POWERS] });
        rounds.zeroize();
        let mut h = bytes(encrypt(&keys.rounds, _mm_setzero_si128()));
        keys.powers = ghash::powers(&h);
        h.zeroize();
        keys
    }

    #[inline]
    fn power(&self, exponent: usize) -> &[u8; 16] {
        &self.powers[POWERS - exponent]
    }

    /// This power and the three below, as far as there are.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn powers_from(&self, exponent: usize) -> __m512i {
        load_at(self.powers.as_flattened(), 16 * (POWERS - exponent))
    }
}

/// Seals it or opens it.
#[inline]
pub fn apply(packet: &mut Packet<'_>) {
    let key = packet.key;
    let _: Avx512 = key.processor;
    // SAFETY: an `Avx512` says that the processor has these instructions.
    let tag = unsafe {
        match (&key.keys, &packet.tag) {
            (Schedule::Aes128(keys), Tag::Seal(_)) => one::<KEYS_128, true>(keys, packet),
            (Schedule::Aes128(keys), Tag::Open(..)) => one::<KEYS_128, false>(keys, packet),
            (Schedule::Aes256(keys), Tag::Seal(_)) => one::<KEYS_256, true>(keys, packet),
            (Schedule::Aes256(keys), Tag::Open(..)) => one::<KEYS_256, false>(keys, packet),
        }
    };
    packet.finish(tag);
}

/// What vectors without a register left on the stack. Once for a batch.
pub fn wipe() {
    zeroize::zeroize_stack::<1024>();
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,aes,vaes,pclmulqdq,vpclmulqdq")]
fn one<const COUNT: usize, const SEALING: bool>(keys: &Keys<COUNT>, packet: &mut Packet<'_>) -> [u8; TAG_BYTES] {
    let turn = _mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let turn_each = _mm512_broadcast_i32x4(turn);
    // Turned, so that the counter is the first word; it is zero as yet.
    let nonce_turned = _mm_setr_epi8(-1, -1, -1, -1, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4);
    let nonce = _mm_shuffle_epi8(load_16(&packet.nonce), nonce_turned);
    let first = _mm_shuffle_epi8(_mm_add_epi32(nonce, _mm_setr_epi32(1, 0, 0, 0)), turn);
    let mask = encrypt(&keys.rounds, first);
    let mut counters = _mm512_add_epi32(
        _mm512_broadcast_i32x4(nonce),
        _mm512_setr_epi32(2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0),
    );
    let four = _mm512_setr_epi32(4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0);

    // What stands before a step: what is associated, with a power more, and later the sum of all steps before.
    let mut head = _mm_shuffle_epi8(load_16(&packet.associated), turn);
    let mut more = usize::from(packet.associated_bytes > 0);
    let bits = [packet.to.len(), packet.associated_bytes].map(|bytes| 8 * bytes as i64);
    let len = packet.to.len();
    let mut at = 0;
    loop {
        let is_last = len - at <= STEP_BYTES;
        // With the lengths behind the last step.
        let blocks = if is_last { (len - at).div_ceil(16) + 1 } else { STEP_BLOCKS };
        let mut streams = [counters; VECTORS];
        for stream in &mut streams {
            *stream = _mm512_shuffle_epi8(counters, turn_each);
            counters = _mm512_add_epi32(counters, four);
        }
        let streams = encrypt_all(&keys.rounds, streams);

        let mut sum = Sum::zero();
        for (n, stream) in streams.into_iter().enumerate() {
            let from = at + 64 * n;
            if from >= len {
                break;
            }
            let bytes = match packet.from {
                Some(bytes) => load_at(bytes, from),
                None => load_at(packet.to, from),
            };
            let done = first_bytes(_mm512_xor_si512(bytes, stream), len - from);
            store_at(packet.to, from, done);
            let ciphertext = if SEALING { done } else { bytes };
            sum = sum.add(_mm512_shuffle_epi8(ciphertext, turn_each), keys.powers_from(blocks - 4 * n));
        }
        let lengths = if is_last { _mm_set_epi64x(bits[1], bits[0]) } else { _mm_setzero_si128() };
        let ends = _mm512_inserti32x4::<1>(_mm512_zextsi128_si512(head), lengths);
        let powers = _mm512_zextsi128_si512(load_16(keys.power(blocks + more)));
        sum = sum.add(ends, _mm512_inserti32x4::<1>(powers, load_16(keys.power(1))));
        head = sum.reduce();
        if is_last {
            return bytes(_mm_xor_si128(_mm_shuffle_epi8(head, turn), mask));
        }
        more = 0;
        at += STEP_BYTES;
    }
}

/// Four blocks in each.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn encrypt_all(keys: &[[u8; 16]], mut states: [__m512i; VECTORS]) -> [__m512i; VECTORS] {
    let [first, middle @ .., last] = keys else { return states };
    let key = _mm512_broadcast_i32x4(load_16(first));
    for state in &mut states {
        *state = _mm512_xor_si512(*state, key);
    }
    for key in middle {
        let key = _mm512_broadcast_i32x4(load_16(key));
        for state in &mut states {
            *state = _mm512_aesenc_epi128(*state, key);
        }
    }
    let key = _mm512_broadcast_i32x4(load_16(last));
    for state in &mut states {
        *state = _mm512_aesenclast_epi128(*state, key);
    }
    states
}

#[cfg(test)]
mod tests;
