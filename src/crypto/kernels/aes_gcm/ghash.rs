//! GHASH (SP 800-38D section 6.4) over eight blocks at a time.
//!
//! Blocks are turned byte by byte, so that bit 127 - n of a number is the coefficient of x^n. The product of two such numbers
//! is one bit off; powers of H have that bit in them: what is stored is H^n / x. Then
//!
//! ```text
//! block 1 * H^8 + block 2 * H^7 + ... + block 8 * H       four products a vector; one sum, and one reduction, for all
//! lane = lane * H^8 + block                               in a long packet each lane for itself, until the last eight
//! ```

use std::arch::x86_64::*;

use crate::crypto::kernels::avx512::load_16;

/// x^128 = x^7 + x^2 + x + 1, where the highest bit is x^0.
const REDUCTION: u64 = 0xc200_0000_0000_0000;

/// Products that are not reduced yet: low, middle and high.
#[derive(Clone, Copy)]
pub struct Sum {
    low: __m512i,
    middle: __m512i,
    high: __m512i,
}

impl Sum {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn zero() -> Sum {
        let zero = _mm512_setzero_si512();
        Sum { low: zero, middle: zero, high: zero }
    }

    /// Four blocks times as many powers.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    pub fn add(self, blocks: __m512i, powers: __m512i) -> Sum {
        let low = _mm512_clmulepi64_epi128::<0x00>(blocks, powers);
        let first = _mm512_clmulepi64_epi128::<0x01>(blocks, powers);
        let second = _mm512_clmulepi64_epi128::<0x10>(blocks, powers);
        let high = _mm512_clmulepi64_epi128::<0x11>(blocks, powers);
        Sum {
            low: _mm512_xor_si512(self.low, low),
            // a ^ b ^ c
            middle: _mm512_ternarylogic_epi64::<0x96>(self.middle, first, second),
            high: _mm512_xor_si512(self.high, high),
        }
    }

    /// Each lane for itself.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    pub fn reduce_each(self) -> __m512i {
        let constant = _mm512_broadcast_i32x4(_mm_set_epi64x(REDUCTION as i64, 1));
        let folded = _mm512_clmulepi64_epi128::<0x01>(constant, self.low);
        let middle = _mm512_ternarylogic_epi64::<0x96>(self.middle, folded, swap_each(self.low));
        let folded = _mm512_clmulepi64_epi128::<0x01>(constant, middle);
        _mm512_ternarylogic_epi64::<0x96>(self.high, folded, swap_each(middle))
    }

    /// All four lanes in one number.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,pclmulqdq")]
    pub fn reduce(self) -> __m128i {
        let (low, middle, high) = (across(self.low), across(self.middle), across(self.high));
        let constant = _mm_set_epi64x(REDUCTION as i64, 1);
        let folded = _mm_clmulepi64_si128::<0x01>(constant, low);
        let middle = _mm_ternarylogic_epi64::<0x96>(middle, folded, swap(low));
        let folded = _mm_clmulepi64_si128::<0x01>(constant, middle);
        _mm_ternarylogic_epi64::<0x96>(high, folded, swap(middle))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn across(vector: __m512i) -> __m128i {
    let half = _mm256_xor_si256(_mm512_castsi512_si256(vector), _mm512_extracti64x4_epi64::<1>(vector));
    _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

#[inline]
#[target_feature(enable = "sse2")]
fn swap(number: __m128i) -> __m128i {
    _mm_shuffle_epi32::<0b01_00_11_10>(number)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn swap_each(numbers: __m512i) -> __m512i {
    _mm512_shuffle_epi32::<0b01_00_11_10>(numbers)
}

/// H^COUNT / x first, H / x last, from H as the cipher gives it.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,vpclmulqdq,pclmulqdq")]
pub fn powers<const COUNT: usize>(h: &[u8; 16]) -> [[u8; 16]; COUNT] {
    let turned = u128::from_be_bytes(*h);
    // Divided by x: one place up, and what falls out comes back as x^127 + x^6 + x + 1. Without a branch.
    let out = (turned >> 127).wrapping_neg();
    let first = (turned << 1) ^ (out & (u128::from(REDUCTION) << 64 | 1));
    let mut powers = [[0; 16]; COUNT];
    let mut power = first.to_le_bytes();
    let h = _mm512_zextsi128_si512(load_16(&power));
    for place in powers.iter_mut().rev() {
        *place = power;
        let next = Sum::zero().add(_mm512_zextsi128_si512(load_16(&power)), h).reduce();
        power = bytes(next);
    }
    powers
}

#[inline]
#[target_feature(enable = "sse2")]
pub fn bytes(number: __m128i) -> [u8; 16] {
    let (low, high) = (_mm_cvtsi128_si64(number), _mm_cvtsi128_si64(_mm_unpackhi_epi64(number, number)));
    (u128::from(low as u64) | u128::from(high as u64) << 64).to_le_bytes()
}
