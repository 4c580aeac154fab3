//! Poly1305 (RFC 8439 section 2.5) over what an AEAD authenticates (section 2.8): what is associated, the ciphertext, both
//! padded to blocks of 16 bytes, and their lengths.
//!
//! ```text
//! together   each lane a packet:            h = (h + block) * r             8 packets for the price of one, four blocks carried at once
//! alone      each lane every eighth block:  h = h * r^8 + block, and at the end each lane times its power of r
//! ```
//!
//! Together is best where packets are many and as long as one another; alone costs some multiplications before and
//! after. [`tags`] chooses by lengths: packets come to it longest first, and as many of the first are taken alone as makes the
//! sum of multiplications, one behind the other, the smallest.

use std::arch::x86_64::*;

use super::field::{Limbs, Multiplier, Products, add, choose, mul, reduce, split, split_block, zero};
use super::{Packet, Scratch};
use crate::crypto::kernels::avx512::{load, load_16, load_at, store, transpose_slots};

const BLOCK_BYTES: usize = 16;
/// A one-time key, and what is not used of its block.
type KeyBlock = [u8; super::BLOCK_BYTES];
/// One vector of numbers.
const LANES: usize = 8;
const ROW_BYTES: usize = LANES * BLOCK_BYTES;
/// From here on four blocks are carried together, for which powers of r are to be made.
const ROWS_FROM_BYTES: usize = 192;
/// What a packet alone costs before and after its blocks, in multiplications.
const ALONE: usize = 6;
/// Which packet, or which block, a lane has: as unpacking leaves them.
const ORDER: [usize; LANES] = [0, 4, 1, 5, 2, 6, 3, 7];
/// What is left of the first 16 bytes of a one-time key (section 2.5).
const CLAMP: [i64; 2] = [0x0fff_fffc_0fff_ffff, 0x0fff_fffc_0fff_fffc];

/// Tags of packets, the longest first, and whatever is to be done with a tag.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
pub fn tags(packets: &mut [Packet<'_>], scratch: &Scratch) {
    let some = packets.chunks_mut(2 * LANES).zip(scratch.key_blocks.chunks(2 * LANES));
    some.for_each(|(packets, keys)| tags_of_some(packets, keys));
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn tags_of_some(packets: &mut [Packet<'_>], keys: &[KeyBlock]) {
    let count = taken_alone(packets);
    let (singles, rest) = packets.split_at_mut(count);
    for (packet, key) in singles.iter_mut().zip(keys) {
        packet.finish(alone(packet, key));
    }
    let keys = &keys[count..];
    match rest.len() {
        0 => {}
        1..=LANES => together::<1>(rest, keys),
        _ => together::<2>(rest, keys),
    }
}

pub fn taken_alone(packets: &[Packet<'_>]) -> usize {
    let longest = |from: usize| packets.get(from).map_or(0, blocks);
    let (mut best, mut least, mut singles) = (0, longest(0), 0);
    for (count, packet) in (1..).zip(packets) {
        singles += ALONE + blocks(packet) / LANES;
        if singles + longest(count) < least {
            (best, least) = (count, singles + longest(count));
        }
    }
    best
}

pub fn blocks(packet: &Packet<'_>) -> usize {
    usize::from(packet.associated_bytes > 0) + packet.to.len().div_ceil(BLOCK_BYTES) + 1
}

/// Up to eight packets times `GROUPS`, of which each waits less for the other's multiplications.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn together<const GROUPS: usize>(packets: &mut [Packet<'_>], keys: &[KeyBlock]) {
    // A lane without a packet goes along with the shortest.
    let mut texts = [[packets.last().map_or(&[][..], Packet::ciphertext); LANES]; GROUPS];
    let mut lengths = [[[0u64; 2]; LANES]; GROUPS];
    let mut associated = [[&[][..]; LANES]; GROUPS];
    for (n, packet) in packets.iter().enumerate() {
        texts[n / LANES][n % LANES] = packet.ciphertext();
        lengths[n / LANES][n % LANES] = [packet.associated_bytes as u64, packet.ciphertext().len() as u64];
        associated[n / LANES][n % LANES] = &packet.associated;
    }

    let mut r = [Multiplier::new(zero()); GROUPS];
    let mut length = [(_mm512_setzero_si512(), _mm512_setzero_si512()); GROUPS];
    let mut h = [zero(); GROUPS];
    for group in 0..GROUPS {
        let [key, ..] = unpack(key_rows(keys, group * LANES));
        r[group] = Multiplier::new(clamp(key));
        length[group] = unpack_words(lengths[group]);
        let with = _mm512_test_epi64_mask(length[group].0, length[group].0);
        if with != 0 {
            let block = unpack(rows_at(&associated[group], 0))[0];
            h[group] = choose(with, h[group], mul(split_block(block.0, block.1), &r[group]));
        }
    }

    let (shortest, longest) = bounds(&texts);
    let mut at = 0;
    if shortest >= ROWS_FROM_BYTES {
        let powers = powers(&r);
        for group in 0..GROUPS {
            let rows = texts[group].map(|text| text[..shortest].as_chunks().0);
            h[group] = all_rows(h[group], &rows, &powers[group]);
        }
        at = shortest / 64 * 64;
    }
    while at < longest {
        for group in 0..GROUPS {
            let four = unpack(rows_at(&texts[group], at));
            for (n, block) in four.iter().enumerate().take((longest - at).div_ceil(BLOCK_BYTES)) {
                let with = _mm512_cmpgt_epu64_mask(length[group].1, _mm512_set1_epi64((at + n * BLOCK_BYTES) as i64));
                let next = mul(add(h[group], split_block(block.0, block.1)), &r[group]);
                h[group] = choose(with, h[group], next);
            }
        }
        at += 64;
    }

    for group in 0..GROUPS {
        let last = split_block(length[group].0, length[group].1);
        let [_, pad, ..] = unpack(key_rows(keys, group * LANES));
        let tags = tags_of(mul(add(h[group], last), &r[group]), pad);
        for (packet, tag) in packets.iter_mut().skip(group * LANES).zip(tags) {
            packet.finish(tag);
        }
    }
}

/// r^4, r^3, r^2 and r of each group.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn powers<const GROUPS: usize>(r: &[Multiplier; GROUPS]) -> [[Multiplier; 4]; GROUPS] {
    let mut powers = r.map(|r| [r; 4]);
    // Step by step for all groups: those of one wait for each other.
    for [.., second, r] in &mut powers {
        *second = Multiplier::new(mul(r.limbs(), r));
    }
    for [fourth, third, second, r] in &mut powers {
        *third = Multiplier::new(mul(second.limbs(), r));
        *fourth = Multiplier::new(mul(second.limbs(), second));
    }
    powers
}

/// Rows of four blocks of eight packets. While one is multiplied the next is unpacked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn all_rows(h: Limbs, rows: &[&[[u8; 64]]; LANES], powers: &[Multiplier; 4]) -> Limbs {
    let mut h = h;
    let mut before = None;
    let [a, b, c, d, e, f, g, i] = rows;
    for (((((((a, b), c), d), e), f), g), i) in a.iter().zip(*b).zip(*c).zip(*d).zip(*e).zip(*f).zip(*g).zip(*i) {
        let row = unpack([load(a), load(b), load(c), load(d), load(e), load(f), load(g), load(i)]);
        if let Some(before) = before.replace(row) {
            h = four_blocks(h, &before, powers);
        }
    }
    match before {
        Some(last) => four_blocks(h, &last, powers),
        None => h,
    }
}

/// h = ((((h + block) * r + block) * r + block) * r + block) * r, carried once.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn four_blocks(h: Limbs, blocks: &[(__m512i, __m512i); 4], powers: &[Multiplier; 4]) -> Limbs {
    let [first, second, third, fourth] = blocks.map(|(low, high)| split_block(low, high));
    let sum = Products::none().plus(second, &powers[1]).plus(third, &powers[2]).plus(fourth, &powers[3]);
    sum.plus(add(h, first), &powers[0]).carry()
}

/// The lengths of the shortest and the longest.
fn bounds<const GROUPS: usize>(texts: &[[&[u8]; LANES]; GROUPS]) -> (usize, usize) {
    let lengths = || texts.iter().flatten().map(|text| text.len());
    (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0))
}

/// One packet, eight blocks at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn alone(packet: &Packet<'_>, key: &KeyBlock) -> [u8; 16] {
    let text = packet.ciphertext();
    let [key, pad, ..] = unpack([load(key); LANES]);
    let powers = Powers::of(clamp(key));

    let mut h = zero();
    if packet.associated_bytes > 0 {
        // Behind seven blocks that are none.
        let block = _mm512_broadcast_i32x4(load_16(&packet.associated));
        let block = unpack([block; LANES])[0];
        h = choose(1 << (LANES - 1), h, split_block(block.0, block.1));
    }
    // Rows of eight blocks, the last of which may be padded, and no more left than fits before the lengths.
    let rows = (text.len() + BLOCK_BYTES - 1) / ROW_BYTES;
    let whole = powers.of_blocks(LANES);
    for row in 0..rows {
        let block = eight(load_at(text, row * ROW_BYTES), load_at(text, row * ROW_BYTES + 64));
        h = add(mul(h, &whole), split_block(block.0, block.1));
    }

    // Tail and lengths, up to eight blocks, in the last lanes.
    let tail = text.get(rows * ROW_BYTES..).unwrap_or_default();
    let blocks = tail.len().div_ceil(BLOCK_BYTES) + 1;
    let mut last = [0; ROW_BYTES];
    let start = (LANES - blocks) * BLOCK_BYTES;
    last[start..start + tail.len()].copy_from_slice(tail);
    last[ROW_BYTES - 16..][..8].copy_from_slice(&(packet.associated_bytes as u64).to_le_bytes());
    last[ROW_BYTES - 8..].copy_from_slice(&(text.len() as u64).to_le_bytes());
    let block = eight(load_at(&last, 0), load_at(&last, 64));
    let with = ORDER.iter().enumerate().filter(|(_, block)| **block >= LANES - blocks);
    let with = with.fold(0u8, |lanes, (lane, _)| lanes | 1 << lane);
    let last = choose(with, zero(), split_block(block.0, block.1));
    h = add(mul(h, &powers.of_blocks(blocks)), last);

    let h = mul(h, &powers.each);
    let sum = [
        _mm512_set1_epi64(_mm512_reduce_add_epi64(h[0])),
        _mm512_set1_epi64(_mm512_reduce_add_epi64(h[1])),
        _mm512_set1_epi64(_mm512_reduce_add_epi64(h[2])),
    ];
    tags_of(sum, pad)[0]
}

/// Powers of r, for packets alone.
struct Powers {
    /// Of the block that a lane has: r^8 of the first, r of the last.
    each: Multiplier,
}

impl Powers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn of(r: Limbs) -> Self {
        // Lane by lane 8 - ORDER, less one, in bits: 7 3 6 2 5 1 4 0.
        const BIT_0: u8 = 0b0011_0011;
        const BIT_1: u8 = 0b0000_1111;
        const BIT_2: u8 = 0b0101_0101;
        let squared = Multiplier::new(mul(r, &Multiplier::new(r)));
        let fourth = Multiplier::new(mul(squared.limbs(), &squared));
        let each = choose(BIT_0, r, squared.limbs());
        let each = choose(BIT_1, each, mul(each, &squared));
        Powers { each: Multiplier::new(choose(BIT_2, each, mul(each, &fourth))) }
    }

    /// r to the power of `blocks`, from 1 to 8, in all lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn of_blocks(&self, blocks: usize) -> Multiplier {
        let lane = ORDER.iter().position(|block| LANES - block == blocks).unwrap_or_default();
        let lane = _mm512_set1_epi64(lane as i64);
        let [a, b, c] = self.each.limbs();
        Multiplier::new([
            _mm512_permutexvar_epi64(lane, a),
            _mm512_permutexvar_epi64(lane, b),
            _mm512_permutexvar_epi64(lane, c),
        ])
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn clamp((low, high): (__m512i, __m512i)) -> Limbs {
    split(_mm512_and_si512(low, _mm512_set1_epi64(CLAMP[0])), _mm512_and_si512(high, _mm512_set1_epi64(CLAMP[1])))
}

/// 64 bytes of each, or what there is of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rows_at(texts: &[&[u8]; LANES], at: usize) -> [__m512i; LANES] {
    let mut rows = [_mm512_setzero_si512(); LANES];
    for (row, text) in rows.iter_mut().zip(texts) {
        *row = load_at(text, at);
    }
    rows
}

/// One-time keys of eight packets, and zeros where there are no more.
#[inline]
#[target_feature(enable = "avx512f")]
fn key_rows(keys: &[KeyBlock], first: usize) -> [__m512i; LANES] {
    let mut rows = [_mm512_setzero_si512(); LANES];
    for (row, key) in rows.iter_mut().zip(keys.get(first..).unwrap_or_default()) {
        *row = load(key);
    }
    rows
}

/// h + pad modulo 2^128, packet by packet (section 2.5).
#[inline]
#[target_feature(enable = "avx512f")]
fn tags_of(h: Limbs, pad: (__m512i, __m512i)) -> [[u8; 16]; LANES] {
    let (low, high) = reduce(h);
    let low = _mm512_add_epi64(low, pad.0);
    let carry = _mm512_cmplt_epu64_mask(low, pad.0);
    let high = _mm512_add_epi64(high, pad.1);
    let high = _mm512_mask_add_epi64(high, carry, high, _mm512_set1_epi64(1));
    let mut bytes = [[0; 16]; LANES];
    let (halves, _) = bytes.as_flattened_mut().as_chunks_mut::<64>();
    if let [first, second] = halves {
        store(first, _mm512_unpacklo_epi64(low, high));
        store(second, _mm512_unpackhi_epi64(low, high));
    }
    bytes
}

/// The lower and upper halves of the 16-byte slots of eight rows, with lanes in their order.
#[inline]
#[target_feature(enable = "avx512f")]
fn unpack([a, b, c, d, e, f, g, h]: [__m512i; LANES]) -> [(__m512i, __m512i); 4] {
    let ([a, b, c, d], [e, f, g, h]) = (transpose_slots([a, b, c, d]), transpose_slots([e, f, g, h]));
    [eight(a, e), eight(b, f), eight(c, g), eight(d, h)]
}

/// The same of eight blocks in a row.
#[inline]
#[target_feature(enable = "avx512f")]
fn eight(first: __m512i, second: __m512i) -> (__m512i, __m512i) {
    (_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn unpack_words(words: [[u64; 2]; LANES]) -> (__m512i, __m512i) {
    let lane = |half: usize| {
        let word = |lane: usize| words[ORDER[lane]][half] as i64;
        _mm512_setr_epi64(word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7))
    };
    (lane(0), lane(1))
}
