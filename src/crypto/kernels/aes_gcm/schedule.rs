//! AES's key schedule (FIPS 197 section 5.2), and one block.

use std::arch::x86_64::*;

use super::ghash::bytes;
use crate::crypto::kernels::avx512::load_16;

pub const KEYS_128: usize = 11;
pub const KEYS_256: usize = 15;

/// The next key of the schedule: word by word the sum of the words before, and of what the S-box makes of the last.
#[inline]
#[target_feature(enable = "sse2")]
fn next(before: __m128i, assisted: __m128i) -> __m128i {
    let sum = _mm_xor_si128(before, _mm_slli_si128::<4>(before));
    _mm_xor_si128(_mm_xor_si128(sum, _mm_slli_si128::<8>(sum)), assisted)
}

#[target_feature(enable = "sse2,aes")]
pub fn expand_128(key: &[u8; 16]) -> [[u8; 16]; KEYS_128] {
    let mut keys = [load_16(key); KEYS_128];
    macro_rules! steps {
        ($($at:literal $constant:literal)*) => {
            $(keys[$at] = next(
                keys[$at - 1],
                _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(keys[$at - 1])),
            );)*
        };
    }
    steps!(1 0x01 2 0x02 3 0x04 4 0x08 5 0x10 6 0x20 7 0x40 8 0x80 9 0x1b 10 0x36);
    all(keys)
}

#[target_feature(enable = "sse2,aes")]
pub fn expand_256(key: &[u8; 32]) -> [[u8; 16]; KEYS_256] {
    let (halves, _) = key.as_chunks();
    let mut keys = [load_16(&halves[0]); KEYS_256];
    keys[1] = load_16(&halves[1]);
    macro_rules! even {
        ($at:literal $constant:literal) => {
            keys[$at] =
                next(keys[$at - 2], _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(keys[$at - 1])));
        };
    }
    macro_rules! odd {
        ($at:literal) => {
            keys[$at] = next(keys[$at - 2], _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(keys[$at - 1])));
        };
    }
    even!(2 0x01);
    odd!(3);
    even!(4 0x02);
    odd!(5);
    even!(6 0x04);
    odd!(7);
    even!(8 0x08);
    odd!(9);
    even!(10 0x10);
    odd!(11);
    even!(12 0x20);
    odd!(13);
    even!(14 0x40);
    all(keys)
}

#[inline]
#[target_feature(enable = "sse2")]
fn all<const COUNT: usize>(keys: [__m128i; COUNT]) -> [[u8; 16]; COUNT] {
    let mut written = [[0; 16]; COUNT];
    for (place, key) in written.iter_mut().zip(keys) {
        *place = bytes(key);
    }
    written
}

/// One block by itself.
#[inline]
#[target_feature(enable = "sse2,aes")]
pub fn encrypt(keys: &[[u8; 16]], block: __m128i) -> __m128i {
    let [first, middle @ .., last] = keys else { return block };
    let mut state = _mm_xor_si128(block, load_16(first));
    for key in middle {
        state = _mm_aesenc_si128(state, load_16(key));
    }
    _mm_aesenclast_si128(state, load_16(last))
}
