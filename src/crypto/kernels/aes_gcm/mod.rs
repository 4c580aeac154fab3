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
use std::sync::Arc;

use zeroize::{Zeroize, optimization_barrier};

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

/// More than a packet needs (with optimization, less than 1 KiB) and whoever loops over packets below the one who wipes.
const STACK_BYTES: usize = 3072;

pub type Packet<'a> = packets::Packet<'a, Key>;

/// What packets are sealed and opened with, in the order in which it is read. Wiped when dropped.
#[repr(C, align(64))]
struct Keys<const COUNT: usize> {
    rounds: [[u8; 16]; COUNT],
    /// Of H, divided by x, the highest first.
    powers: [[u8; 16]; POWERS],
}

/// Of 384 or 448 bytes, apart from its owner. Clones are the same bytes.
#[derive(Clone)]
pub struct Key {
    keys: Schedule,
    processor: Avx512,
}

#[derive(Clone)]
enum Schedule {
    Aes128(Arc<Keys<KEYS_128>>),
    Aes256(Arc<Keys<KEYS_256>>),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub fn new_128(key: &[u8; 16], processor: Avx512) -> Key {
        // SAFETY: an `Avx512` says that the processor has these instructions.
        let keys = unsafe { Keys::shared(expand_128(key)) };
        wipe();
        Key { keys: Schedule::Aes128(keys), processor }
    }

    pub fn new_256(key: &[u8; 32], processor: Avx512) -> Key {
        // SAFETY: as above.
        let keys = unsafe { Keys::shared(expand_256(key)) };
        wipe();
        Key { keys: Schedule::Aes256(keys), processor }
    }

    /// The key itself, as it was given.
    pub fn with_bytes<Answer>(&self, call: impl FnOnce(&[u8]) -> Answer) -> Answer {
        match &self.keys {
            Schedule::Aes128(keys) => call(&keys.rounds[0]),
            Schedule::Aes256(keys) => call(keys.rounds[..2].as_flattened()),
        }
    }

    /// Of all clones.
    #[inline]
    pub fn identity(&self) -> usize {
        match &self.keys {
            Schedule::Aes128(keys) => Arc::as_ptr(keys).addr(),
            Schedule::Aes256(keys) => Arc::as_ptr(keys).addr(),
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
    fn shared(mut rounds: [[u8; 16]; COUNT]) -> Arc<Self> {
        let mut shared = Arc::new(Keys { rounds, powers: [[0; 16]; POWERS] });
        rounds.zeroize();
        // Nobody else has it yet.
        if let Some(keys) = Arc::get_mut(&mut shared) {
            let mut h = bytes(encrypt(&keys.rounds, _mm_setzero_si128()));
            keys.powers = ghash::powers(&h);
            h.zeroize();
        }
        shared
    }

    /// In whole vectors, where `zeroize` by itself would write byte by byte.
    fn wipe(&mut self) {
        (self.rounds, self.powers) = ([[0; 16]; COUNT], [[0; 16]; POWERS]);
        optimization_barrier(self);
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

impl<const COUNT: usize> Drop for Keys<COUNT> {
    fn drop(&mut self) {
        self.wipe();
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

/// What vectors without a register left on the stack, from the caller's frame on. Once for a batch, or for a new key.
pub fn wipe() {
    zeroize::zeroize_stack::<STACK_BYTES>();
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

    let len = packet.to.len();
    let mut at = 0;
    // What stands before the last step: what is associated, with a power more, or the sum of all steps before.
    let mut head = _mm_shuffle_epi8(load_16(&packet.associated), turn);
    let mut more = usize::from(packet.associated_bytes > 0);
    if len > STEP_BYTES {
        let mut sums = [_mm512_setzero_si512(); VECTORS];
        sums[0] = _mm512_zextsi128_si512(Sum::zero().add(_mm512_zextsi128_si512(head), keys.powers_from(1)).reduce());
        let step = _mm512_broadcast_i32x4(load_16(keys.power(STEP_BLOCKS)));
        while len - at > STEP_BYTES {
            if at > 0 {
                for sum in &mut sums {
                    *sum = Sum::zero().add(*sum, step).reduce_each();
                }
            }
            let streams = streams(keys, &mut counters, four, turn_each);
            for (n, stream) in streams.iter().enumerate() {
                let ciphertext = put::<SEALING>(packet, at + 64 * n, *stream);
                sums[n] = _mm512_xor_si512(sums[n], _mm512_shuffle_epi8(ciphertext, turn_each));
            }
            at += STEP_BYTES;
        }
        let mut sum = Sum::zero();
        for (n, each) in sums.iter().enumerate() {
            sum = sum.add(*each, keys.powers_from(STEP_BLOCKS - 4 * n));
        }
        (head, more) = (sum.reduce(), 0);
    }

    // With the lengths behind the last step.
    let blocks = (len - at).div_ceil(16) + 1;
    let streams = streams(keys, &mut counters, four, turn_each);
    let mut sum = Sum::zero();
    for (n, stream) in streams.iter().enumerate() {
        let from = at + 64 * n;
        if from >= len {
            break;
        }
        let ciphertext = put::<SEALING>(packet, from, *stream);
        sum = sum.add(_mm512_shuffle_epi8(ciphertext, turn_each), keys.powers_from(blocks - 4 * n));
    }
    let lengths = _mm_set_epi64x(8 * packet.associated_bytes as i64, 8 * len as i64);
    let ends = _mm512_inserti32x4::<1>(_mm512_zextsi128_si512(head), lengths);
    let powers = _mm512_zextsi128_si512(load_16(keys.power(blocks + more)));
    let sum = sum.add(ends, _mm512_inserti32x4::<1>(powers, load_16(keys.power(1)))).reduce();
    bytes(_mm_xor_si128(_mm_shuffle_epi8(sum, turn), mask))
}

/// Text or ciphertext of one vector, from there on. The answer is the ciphertext, with zeros behind its end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn put<const SEALING: bool>(packet: &mut Packet<'_>, at: usize, stream: __m512i) -> __m512i {
    let bytes = match packet.from {
        Some(bytes) => load_at(bytes, at),
        None => load_at(packet.to, at),
    };
    let done = _mm512_xor_si512(bytes, stream);
    store_at(packet.to, at, done);
    if SEALING { first_bytes(done, packet.to.len() - at) } else { bytes }
}

/// The key stream of the next blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vaes")]
fn streams<const COUNT: usize>(
    keys: &Keys<COUNT>,
    counters: &mut __m512i,
    four: __m512i,
    turn_each: __m512i,
) -> [__m512i; VECTORS] {
    let mut blocks = [*counters; VECTORS];
    for block in &mut blocks {
        *block = _mm512_shuffle_epi8(*counters, turn_each);
        *counters = _mm512_add_epi32(*counters, four);
    }
    encrypt_all(&keys.rounds, blocks)
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
