//! Eight numbers modulo 2^130 - 5 beside each other, as Poly1305 multiplies them.
//!
//! Limbs of 44, 44 and 42 bits: products of two are what the 52-bit multipliers give in two halves, of which the upper, worth
//! 2^52, is 2^8 in the next limb. What goes over the top comes back five times, at 2^132 twenty times. Between two
//! multiplications a limb may have some bits more, here with what can be reached:
//!
//! ```text
//! after mul           h0 < 2^44   h1 < 2^44 + 2^12   h2 < 2^42
//! and a block added   h0 < 2^45   h1 < 2^45 + 2^12   h2 < 2^43
//! a multiplier        as after mul, so 20 * r1 < 2^49, 20 * r2 < 2^47
//! four products       twelve lower halves < 2^56 in sum, twelve upper ones < 2^46, which count 2^8 or 2^10 times:
//!                     < 2^56 + 2^54 + what was carried before, and the last carry, < 2^56 + 2^14, five times: < 2^59
//! ```

use std::arch::x86_64::*;

const BITS: u32 = 44;
const TOP_BITS: u32 = 42;
const MASK: i64 = (1 << BITS) - 1;
const TOP_MASK: i64 = (1 << TOP_BITS) - 1;

pub type Limbs = [__m512i; 3];

/// What is multiplied with, and what comes back over the top.
#[derive(Clone, Copy)]
pub struct Multiplier {
    limbs: Limbs,
    over: [__m512i; 2],
}

impl Multiplier {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn new(limbs: Limbs) -> Self {
        // A product below 2^52: the compiler makes of shifts and an addition a multiplication of 64 bits, which takes 15 clocks.
        let twenty = |limb| _mm512_madd52lo_epu64(_mm512_setzero_si512(), limb, _mm512_set1_epi64(20));
        Multiplier { limbs, over: [twenty(limbs[1]), twenty(limbs[2])] }
    }

    #[inline]
    pub fn limbs(&self) -> Limbs {
        self.limbs
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn zero() -> Limbs {
    [_mm512_setzero_si512(); 3]
}

/// From 128 bits, in two words.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn split(low: __m512i, high: __m512i) -> Limbs {
    let mask = _mm512_set1_epi64(MASK);
    let middle_low = _mm512_srli_epi64::<BITS>(low);
    let middle_high = _mm512_slli_epi64::<{ 64 - BITS }>(high);
    // (a | b) & c
    let middle = _mm512_ternarylogic_epi64::<0xa8>(middle_low, middle_high, mask);
    [_mm512_and_si512(low, mask), middle, _mm512_srli_epi64::<{ 2 * BITS - 64 }>(high)]
}

/// With 2^128 added: how a whole block of 16 bytes counts.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn split_block(low: __m512i, high: __m512i) -> Limbs {
    let [a, b, c] = split(low, high);
    [a, b, _mm512_or_si512(c, _mm512_set1_epi64(1 << (128 - 2 * BITS)))]
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn add(a: Limbs, b: Limbs) -> Limbs {
    [_mm512_add_epi64(a[0], b[0]), _mm512_add_epi64(a[1], b[1]), _mm512_add_epi64(a[2], b[2])]
}

/// `b` in these lanes, `a` in the others.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn choose(lanes: u8, a: Limbs, b: Limbs) -> Limbs {
    [
        _mm512_mask_mov_epi64(a[0], lanes, b[0]),
        _mm512_mask_mov_epi64(a[1], lanes, b[1]),
        _mm512_mask_mov_epi64(a[2], lanes, b[2]),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn mul(h: Limbs, r: &Multiplier) -> Limbs {
    Products::none().plus(h, r).carry()
}

/// Up to four products, to be carried once.
#[derive(Clone, Copy)]
pub struct Products {
    low: Limbs,
    high: Limbs,
}

impl Products {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn none() -> Self {
        Products { low: zero(), high: zero() }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub fn plus(self, h: Limbs, r: &Multiplier) -> Self {
        let ([h0, h1, h2], [r0, r1, r2], [s1, s2]) = (h, r.limbs, r.over);
        let low = |a, x, y| _mm512_madd52lo_epu64(a, x, y);
        let high = |a, x, y| _mm512_madd52hi_epu64(a, x, y);
        let Products { low: [low0, low1, low2], high: [high0, high1, high2] } = self;
        Products {
            low: [
                low(low(low(low0, h0, r0), h1, s2), h2, s1),
                low(low(low(low1, h0, r1), h1, r0), h2, s2),
                low(low(low(low2, h0, r2), h1, r1), h2, r0),
            ],
            high: [
                high(high(high(high0, h0, r0), h1, s2), h2, s1),
                high(high(high(high1, h0, r1), h1, r0), h2, s2),
                high(high(high(high2, h0, r2), h1, r1), h2, r0),
            ],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn carry(self) -> Limbs {
        let Products { low: [low0, low1, low2], high: [high0, high1, high2] } = self;
        let mask = _mm512_set1_epi64(MASK);
        let carry = _mm512_add_epi64(_mm512_srli_epi64::<BITS>(low0), _mm512_slli_epi64::<{ 52 - BITS }>(high0));
        let d1 = _mm512_add_epi64(low1, carry);
        let carry = _mm512_add_epi64(_mm512_srli_epi64::<BITS>(d1), _mm512_slli_epi64::<{ 52 - BITS }>(high1));
        let d2 = _mm512_add_epi64(low2, carry);
        let carry = _mm512_add_epi64(_mm512_srli_epi64::<TOP_BITS>(d2), _mm512_slli_epi64::<{ 52 - TOP_BITS }>(high2));
        let d0 = _mm512_add_epi64(_mm512_and_si512(low0, mask), five_times(carry));
        [
            _mm512_and_si512(d0, mask),
            _mm512_add_epi64(_mm512_and_si512(d1, mask), _mm512_srli_epi64::<BITS>(d0)),
            _mm512_and_si512(d2, _mm512_set1_epi64(TOP_MASK)),
        ]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn five_times(x: __m512i) -> __m512i {
    _mm512_add_epi64(x, _mm512_slli_epi64::<2>(x))
}

/// The one number below 2^130 - 5 that each is, and of it 128 bits, in two words.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn reduce(h: Limbs) -> (__m512i, __m512i) {
    // The second time nothing comes back from the top but into a number near zero, which has room for it.
    let [h0, h1, h2] = carry_around(carry_around(h));
    // h - (2^130 - 5) is h + 5 without what stands at 2^130, if something does.
    let mask = _mm512_set1_epi64(MASK);
    let g0 = _mm512_add_epi64(h0, _mm512_set1_epi64(5));
    let g1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<BITS>(g0));
    let g2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<BITS>(g1));
    let is_above = _mm512_test_epi64_mask(g2, _mm512_set1_epi64(1 << TOP_BITS));
    let [h0, h1, h2] = choose(is_above, [h0, h1, h2], [_mm512_and_si512(g0, mask), _mm512_and_si512(g1, mask), g2]);
    let low = _mm512_or_si512(h0, _mm512_slli_epi64::<BITS>(h1));
    let high = _mm512_or_si512(_mm512_srli_epi64::<{ 64 - BITS }>(h1), _mm512_slli_epi64::<{ 2 * BITS - 64 }>(h2));
    (low, high)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn carry_around([h0, h1, h2]: Limbs) -> Limbs {
    let mask = _mm512_set1_epi64(MASK);
    let h1 = _mm512_add_epi64(h1, _mm512_srli_epi64::<BITS>(h0));
    let h2 = _mm512_add_epi64(h2, _mm512_srli_epi64::<BITS>(h1));
    let h0 = _mm512_add_epi64(_mm512_and_si512(h0, mask), five_times(_mm512_srli_epi64::<TOP_BITS>(h2)));
    let h1 = _mm512_add_epi64(_mm512_and_si512(h1, mask), _mm512_srli_epi64::<BITS>(h0));
    [_mm512_and_si512(h0, mask), h1, _mm512_and_si512(h2, _mm512_set1_epi64(TOP_MASK))]
}
