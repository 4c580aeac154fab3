//! ChaCha20 (RFC 8439 section 2.3), sixteen blocks at a time: each of some packet, with its key, nonce and number.
//!
//! ```text
//!                  lane 0         1              2              3              ...     one vector for each word of the state
//! group of one     packet 7 #0    packet 7 #1    packet 7 #2    packet 7 #3
//! group of many    packet 0 #0    packet 0 #1    packet 1 #0    packet 1 #1            64-byte packets have two blocks each
//! ```
//!
//! Block 0 of a packet is Poly1305's one-time key. Up to eight blocks that are left over are done with a vector for each row of four
//! words, four blocks beside each other, which takes little more than half the time of a whole group.

use std::arch::x86_64::*;

use super::{OneTimeKey, Packet, Scratch};
use crate::crypto::kernels::avx512::{load_16, load_at, store_at, transpose_slots, transpose_words};

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
const BLOCK_BYTES: usize = 64;
const LANES: usize = 16;

/// Blocks of different packets that wait for their group to be full.
struct Waiting {
    packets: [u8; LANES],
    blocks: [u32; LANES],
    count: usize,
}

/// Encrypts or decrypts these of the packets, and leaves their one-time keys, in this order.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
pub fn apply(packets: &mut [Packet<'_>], chosen: &[u8], scratch: &mut Scratch) {
    let mut waiting = Waiting { packets: [0; LANES], blocks: [0; LANES], count: 0 };
    for (place, &number) in chosen.iter().enumerate() {
        let packet = &mut packets[usize::from(number)];
        let blocks = 1 + packet.to.len().div_ceil(BLOCK_BYTES) as u32;
        let mut block = 0;
        while blocks - block >= LANES as u32 {
            let rows = keystream(&state_of_one(packet, block));
            put_all(packet, block, &rows, &mut scratch.one_time_keys[place]);
            block += LANES as u32;
        }
        while block < blocks {
            waiting.packets[waiting.count] = place as u8;
            waiting.blocks[waiting.count] = block;
            waiting.count += 1;
            block += 1;
            if waiting.count == LANES {
                let rows = keystream(&state_of_many(packets, chosen, &waiting));
                put_each(packets, chosen, &waiting, &rows, scratch);
                waiting.count = 0;
            }
        }
    }
    match waiting.count {
        0 => {}
        1..=4 => {
            let rows = few::<1>(packets, chosen, &waiting);
            put_each(packets, chosen, &waiting, &rows, scratch);
        }
        5..=8 => {
            let rows = few::<2>(packets, chosen, &waiting);
            put_each(packets, chosen, &waiting, &rows, scratch);
        }
        _ => {
            let rows = keystream(&state_of_many(packets, chosen, &waiting));
            put_each(packets, chosen, &waiting, &rows, scratch);
        }
    }
}

/// Sixteen blocks of one packet, from this one on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn state_of_one(packet: &Packet<'_>, block: u32) -> [__m512i; 16] {
    let mut state = [_mm512_setzero_si512(); 16];
    for (vector, word) in state.iter_mut().zip(CONSTANTS) {
        *vector = _mm512_set1_epi32(word as i32);
    }
    let (words, _) = packet.key.bytes().as_chunks::<4>();
    for (vector, word) in state[4..].iter_mut().zip(words) {
        *vector = _mm512_set1_epi32(i32::from_le_bytes(*word));
    }
    let (words, _) = packet.nonce.as_chunks::<4>();
    for (vector, word) in state[12..].iter_mut().zip(words) {
        *vector = _mm512_set1_epi32(i32::from_le_bytes(*word));
    }
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    state[12] = _mm512_add_epi32(_mm512_set1_epi32(block as i32), lanes);
    state
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn state_of_many(packets: &[Packet<'_>], chosen: &[u8], waiting: &Waiting) -> [__m512i; 16] {
    let mut state = [_mm512_setzero_si512(); 16];
    for (vector, word) in state.iter_mut().zip(CONSTANTS) {
        *vector = _mm512_set1_epi32(word as i32);
    }
    // Slot `slot` of vector `n` is of lane 4 * slot + n.
    let mut parts = [[_mm512_setzero_si512(); 4]; 3];
    for n in 0..4 {
        let lane = |slot: usize| parts_of(packets, chosen, waiting, 4 * slot + n);
        let [a, b, c, d] = [lane(0), lane(1), lane(2), lane(3)];
        for (part, vectors) in parts.iter_mut().enumerate() {
            vectors[n] = join([a[part], b[part], c[part], d[part]]);
        }
    }
    for (part, vectors) in parts.iter().enumerate() {
        [state[4 + 4 * part], state[5 + 4 * part], state[6 + 4 * part], state[7 + 4 * part]] =
            transpose_words(*vectors);
    }
    state[12] = load_words(&waiting.blocks);
    state
}

/// Key and nonce of a lane, in vectors of 16 bytes. Those that are not waiting are as the first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn parts_of(packets: &[Packet<'_>], chosen: &[u8], waiting: &Waiting, lane: usize) -> [__m128i; 3] {
    let place = waiting.packets[if lane < waiting.count { lane } else { 0 }];
    let packet = &packets[usize::from(chosen[usize::from(place)])];
    let [low, high] = packet.key.halves();
    [load_16(low), load_16(high), load_16(&packet.nonce)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn join([a, b, c, d]: [__m128i; 4]) -> __m512i {
    let joined = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
    _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(joined, c), d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; 16]) -> __m512i {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = words;
    let four = |a: u32, b: u32, c: u32, d: u32| _mm_setr_epi32(a as i32, b as i32, c as i32, d as i32);
    join([four(*a, *b, *c, *d), four(*e, *f, *g, *h), four(*i, *j, *k, *l), four(*m, *n, *o, *p)])
}

/// Four quarter rounds beside each other. A macro, since what is not inlined here keeps its vectors in memory.
macro_rules! quarters {
    ($x:ident, $([$a:literal $b:literal $c:literal $d:literal])*) => {
        $($x[$a] = _mm512_add_epi32($x[$a], $x[$b]);)*
        $($x[$d] = _mm512_rol_epi32::<16>(_mm512_xor_si512($x[$d], $x[$a]));)*
        $($x[$c] = _mm512_add_epi32($x[$c], $x[$d]);)*
        $($x[$b] = _mm512_rol_epi32::<12>(_mm512_xor_si512($x[$b], $x[$c]));)*
        $($x[$a] = _mm512_add_epi32($x[$a], $x[$b]);)*
        $($x[$d] = _mm512_rol_epi32::<8>(_mm512_xor_si512($x[$d], $x[$a]));)*
        $($x[$c] = _mm512_add_epi32($x[$c], $x[$d]);)*
        $($x[$b] = _mm512_rol_epi32::<7>(_mm512_xor_si512($x[$b], $x[$c]));)*
    };
}

/// A row for each lane: its 64 bytes of key stream.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn keystream(state: &[__m512i; 16]) -> [__m512i; 16] {
    let mut x = *state;
    for _ in 0..10 {
        quarters!(x, [0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]);
        quarters!(x, [0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14]);
    }
    for (x, state) in x.iter_mut().zip(state) {
        *x = _mm512_add_epi32(*x, *state);
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = x;
    // Vector `n` of each has words 0 to 3, 4 to 7, ... of lane 4 * slot + n in slot `slot`.
    let (w0, w4) = (transpose_words([a, b, c, d]), transpose_words([e, f, g, h]));
    let (w8, w12) = (transpose_words([i, j, k, l]), transpose_words([m, n, o, p]));
    let mut rows = [_mm512_setzero_si512(); 16];
    for n in 0..4 {
        [rows[n], rows[4 + n], rows[8 + n], rows[12 + n]] = transpose_slots([w0[n], w4[n], w8[n], w12[n]]);
    }
    rows
}

/// The key streams of up to four blocks times `GROUPS`. The other rows are of no use.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn few<const GROUPS: usize>(packets: &[Packet<'_>], chosen: &[u8], waiting: &Waiting) -> [__m512i; 16] {
    let constants = _mm512_broadcast_i32x4(_mm_setr_epi32(
        CONSTANTS[0] as i32,
        CONSTANTS[1] as i32,
        CONSTANTS[2] as i32,
        CONSTANTS[3] as i32,
    ));
    let mut states = [[constants; 4]; GROUPS];
    for (group, state) in states.iter_mut().enumerate() {
        let lane = |slot: usize| parts_of(packets, chosen, waiting, 4 * group + slot);
        let [a, b, c, d] = [lane(0), lane(1), lane(2), lane(3)];
        for part in 0..3 {
            state[1 + part] = join([a[part], b[part], c[part], d[part]]);
        }
        let block = |slot: usize| waiting.blocks[4 * group + slot] as i32;
        let (b0, b1, b2, b3) = (block(0), block(1), block(2), block(3));
        let blocks = _mm512_setr_epi32(b0, 0, 0, 0, b1, 0, 0, 0, b2, 0, 0, 0, b3, 0, 0, 0);
        state[3] = _mm512_or_si512(state[3], blocks);
    }
    let mut x = states;
    for _ in 0..10 {
        rounds(&mut x);
        for [_, b, c, d] in &mut x {
            *b = _mm512_shuffle_epi32::<0b00_11_10_01>(*b);
            *c = _mm512_shuffle_epi32::<0b01_00_11_10>(*c);
            *d = _mm512_shuffle_epi32::<0b10_01_00_11>(*d);
        }
        rounds(&mut x);
        for [_, b, c, d] in &mut x {
            *b = _mm512_shuffle_epi32::<0b10_01_00_11>(*b);
            *c = _mm512_shuffle_epi32::<0b01_00_11_10>(*c);
            *d = _mm512_shuffle_epi32::<0b00_11_10_01>(*d);
        }
    }
    let mut rows = [_mm512_setzero_si512(); 16];
    for (group, (x, state)) in x.iter().zip(&states).enumerate() {
        let first = 4 * group;
        [rows[first], rows[first + 1], rows[first + 2], rows[first + 3]] = transpose_slots([
            _mm512_add_epi32(x[0], state[0]),
            _mm512_add_epi32(x[1], state[1]),
            _mm512_add_epi32(x[2], state[2]),
            _mm512_add_epi32(x[3], state[3]),
        ]);
    }
    rows
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rounds<const GROUPS: usize>(x: &mut [[__m512i; 4]; GROUPS]) {
    for [a, b, c, d] in x {
        *a = _mm512_add_epi32(*a, *b);
        *d = _mm512_rol_epi32::<16>(_mm512_xor_si512(*d, *a));
        *c = _mm512_add_epi32(*c, *d);
        *b = _mm512_rol_epi32::<12>(_mm512_xor_si512(*b, *c));
        *a = _mm512_add_epi32(*a, *b);
        *d = _mm512_rol_epi32::<8>(_mm512_xor_si512(*d, *a));
        *c = _mm512_add_epi32(*c, *d);
        *b = _mm512_rol_epi32::<7>(_mm512_xor_si512(*b, *c));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn put_all(packet: &mut Packet<'_>, first: u32, rows: &[__m512i; 16], one_time_key: &mut OneTimeKey) {
    for (block, row) in (first..).zip(rows) {
        put(packet, block, *row, one_time_key);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn put_each(packets: &mut [Packet<'_>], chosen: &[u8], waiting: &Waiting, rows: &[__m512i; 16], scratch: &mut Scratch) {
    for ((&place, &block), row) in waiting.packets.iter().zip(&waiting.blocks).zip(rows).take(waiting.count) {
        let place = usize::from(place);
        put(&mut packets[usize::from(chosen[place])], block, *row, &mut scratch.one_time_keys[place]);
    }
}

/// To the text, or for block 0, as the one-time key.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn put(packet: &mut Packet<'_>, block: u32, row: __m512i, one_time_key: &mut OneTimeKey) {
    let Some(at) = (block as usize).checked_sub(1).map(|block| block * BLOCK_BYTES) else {
        *one_time_key = _mm512_castsi512_si256(row);
        return;
    };
    let bytes = match packet.from {
        Some(from) => load_at(from, at),
        None => load_at(packet.to, at),
    };
    store_at(packet.to, at, _mm512_xor_si512(bytes, row));
}
