//! Numbers at the edges of limbs and of the prime, which no packet would reach by chance.

use std::arch::x86_64::*;

use crypto_bigint::{NonZero, U256};

use super::field::{Limbs, Multiplier, Products, add, mul, reduce, split, split_block, zero};
use crate::crypto::hex::hex;
use crate::crypto::kernels::testing::{Random, avx512};

#[target_feature(enable = "avx512f")]
fn all_lanes(limbs: [u64; 3]) -> Limbs {
    let [a, b, c] = limbs;
    [_mm512_set1_epi64(a as i64), _mm512_set1_epi64(b as i64), _mm512_set1_epi64(c as i64)]
}

#[target_feature(enable = "avx512f")]
fn words(low: u64, high: u64) -> (__m512i, __m512i) {
    (_mm512_set1_epi64(low as i64), _mm512_set1_epi64(high as i64))
}

/// Of the first lane; the others have to be as it.
#[target_feature(enable = "avx512f,avx512ifma")]
fn number((low, high): (__m512i, __m512i)) -> u128 {
    let word = |vector: __m512i| {
        let first = _mm_cvtsi128_si64(_mm512_castsi512_si128(vector));
        assert_eq!(_mm512_cmpeq_epi64_mask(vector, _mm512_set1_epi64(first)), 0xff);
        first as u64
    };
    u128::from(word(low)) | u128::from(word(high)) << 64
}

/// The number that limbs are, modulo the prime and then 2^128.
fn reference(limbs: [u64; 3]) -> u128 {
    let prime = NonZero::new(U256::ONE.shl(130).wrapping_sub(&U256::from_u8(5))).unwrap();
    let [a, b, c] = limbs.map(U256::from_u64);
    let rest = a.wrapping_add(&b.shl(44)).wrapping_add(&c.shl(88)).rem_vartime(&prime);
    let bytes = rest.to_le_bytes();
    u128::from_le_bytes(bytes.as_ref()[..16].try_into().unwrap())
}

#[test]
fn what_is_reduced_is_below_the_prime() {
    if avx512().is_none() {
        return;
    }
    const LIMB: u64 = 1 << 44;
    const TOP: u64 = 1 << 42;
    let lows = [0, 1, 4, 5, 6, LIMB - 6, LIMB - 5, LIMB - 4, LIMB - 1];
    let middles = [0, 1, LIMB - 1, LIMB, LIMB + 1, LIMB + 255];
    let tops = [0, 1, TOP - 2, TOP - 1];
    let mut all = Vec::new();
    for low in lows {
        for middle in middles {
            all.extend(tops.map(|top| [low, middle, top]));
        }
    }
    // What eight lanes are in sum.
    let mut random = Random::new(1);
    for _ in 0..2000 {
        let [a, b, c]: [u64; 3] = std::array::from_fn(|_| random.next());
        all.push([a % (8 * LIMB), b % (8 * LIMB), c % (8 * TOP)]);
    }
    for [a, b, c] in all.clone().into_iter().take(lows.len() * middles.len() * tops.len()) {
        all.push([8 * a, 8 * b, 8 * c]);
    }
    for limbs in all {
        // SAFETY: the processor has it.
        let found = unsafe { number(reduce(all_lanes(limbs))) };
        assert_eq!(found, reference(limbs), "{limbs:x?}");
    }
}

/// Four products of the largest limbs that there may be, carried at once and one by one.
#[test]
fn four_products_have_room() {
    if avx512().is_none() {
        return;
    }
    const LIMB: u64 = 1 << 44;
    let largest = [2 * LIMB - 1, 2 * LIMB + (1 << 12) - 1, (1 << 43) - 1];
    let factors = [[LIMB - 1, LIMB + (1 << 12) - 1, (1 << 42) - 1], [1, 0, 0], [LIMB - 5, LIMB - 1, (1 << 42) - 1]];
    for h in [largest, [0, 0, 0], [1, 2, 3]] {
        for r in factors {
            // SAFETY: the processor has it.
            let (at_once, one_by_one) = unsafe { four_products(h, r) };
            assert_eq!(at_once, one_by_one, "{h:x?} {r:x?}");
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn four_products(h: [u64; 3], r: [u64; 3]) -> (u128, u128) {
    let (h, r) = (all_lanes(h), Multiplier::new(all_lanes(r)));
    let at_once = Products::none().plus(h, &r).plus(h, &r).plus(h, &r).plus(h, &r).carry();
    let one = mul(h, &r);
    (number(reduce(at_once)), number(reduce(add(add(one, one), add(one, one)))))
}

/// RFC 8439 appendix A.3, those of whole blocks, of which most end where a carry is easily forgotten: r, s, text, tag.
#[test]
fn rfc_8439_tags() {
    let ones = "ffffffffffffffffffffffffffffffff";
    let cases = [
        ("02000000000000000000000000000000", "", ones.to_owned(), "03000000000000000000000000000000"),
        (
            "02000000000000000000000000000000",
            ones,
            "02000000000000000000000000000000".to_owned(),
            "03000000000000000000000000000000",
        ),
        (
            "01000000000000000000000000000000",
            "",
            [ones, "f0ffffffffffffffffffffffffffffff", "11000000000000000000000000000000"].concat(),
            "05000000000000000000000000000000",
        ),
        (
            "01000000000000000000000000000000",
            "",
            [ones, "fbfefefefefefefefefefefefefefefe", "01010101010101010101010101010101"].concat(),
            "00000000000000000000000000000000",
        ),
        (
            "02000000000000000000000000000000",
            "",
            "fdffffffffffffffffffffffffffffff".to_owned(),
            "faffffffffffffffffffffffffffffff",
        ),
        (
            "01000000000000000400000000000000",
            "",
            [
                "e33594d7505e43b900000000000000003394d7505e4379cd01000000000000000000000000000000000000000000000001",
                "000000000000000000000000000000",
            ]
            .concat(),
            "14000000000000005500000000000000",
        ),
        (
            "01000000000000000400000000000000",
            "",
            "e33594d7505e43b900000000000000003394d7505e4379cd010000000000000000000000000000000000000000000000"
                .to_owned(),
            "13000000000000000000000000000000",
        ),
    ];
    if avx512().is_none() {
        return;
    }
    let number_of = |digits: &str| {
        let mut bytes = hex(digits);
        bytes.resize(16, 0);
        u128::from_le_bytes(bytes.try_into().unwrap())
    };
    for (r, s, text, tag) in cases {
        // SAFETY: the processor has it.
        let found = unsafe { hash(number_of(r), &hex(&text)) };
        assert_eq!(found.wrapping_add(number_of(s)), number_of(tag), "{text}");
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn hash(r: u128, text: &[u8]) -> u128 {
    let (low, high) = words(r as u64, (r >> 64) as u64);
    let r = Multiplier::new(split(low, high));
    let mut h = zero();
    for block in text.as_chunks::<16>().0 {
        let block = u128::from_le_bytes(*block);
        let (low, high) = words(block as u64, (block >> 64) as u64);
        h = mul(add(h, split_block(low, high)), &r);
    }
    number(reduce(h))
}
