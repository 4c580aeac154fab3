//! ChaCha20 (RFC 8439 section 2.3), sixteen blocks at a time: each of some packet, with its key, nonce and number.
//!
//! ```text
//!                  lane 0         1              2              3              ...     one vector for each word of the state
//! group of one     packet 7 #1    packet 7 #2    packet 7 #3    packet 7 #4
//! group of many    packet 0 #0    packet 0 #1    packet 1 #0    packet 1 #1            64-byte packets have two blocks each
//! ```
//!
//! Block 0 of a packet is Poly1305's one-time key. The rounds of a group leave room for other work between them: key streams of the
//! group before are turned into rows there, and put to their texts. Up to eight blocks that are left over are done with a vector for each row of four
//! words, four blocks beside each other, which takes little more than half the time of a whole group.

use std::arch::x86_64::*;

use super::{BLOCK_BYTES, Packet, Scratch};
use crate::crypto::kernels::avx512::{load, load_16, store, transpose_slots, transpose_words, xor_at, xor_in_place_at};

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
const LANES: usize = 16;

/// Blocks whose key streams are made together.
#[derive(Clone, Copy)]
struct Group {
    /// Places of their packets.
    packets: [u8; LANES],
    blocks: [u32; LANES],
    count: usize,
}

impl Group {
    const EMPTY: Group = Group { packets: [0; LANES], blocks: [0; LANES], count: 0 };

    #[inline]
    fn add(&mut self, place: usize, block: u32) {
        self.packets[self.count] = place as u8;
        self.blocks[self.count] = block;
        self.count += 1;
    }
}

/// Whose key streams are made, and not put to their texts yet.
enum Before {
    None,
    /// Sixteen blocks of a packet, whole ones; if block 0 is among them it is the last.
    One {
        place: usize,
        first: u32,
    },
    Many(Group),
}

/// Encrypts or decrypts packets, and leaves their one-time keys, in this order.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
pub fn apply(packets: &mut [Packet<'_>], scratch: &mut Scratch) {
    let mut waiting = Group::EMPTY;
    // Its key streams are in `scratch`.
    let mut before = Before::None;
    for place in 0..packets.len() {
        let blocks = 1 + packets[place].to.len().div_ceil(BLOCK_BYTES) as u32;
        let mut block = 0;
        while block < blocks {
            let whole = (packets[place].to.len() / BLOCK_BYTES) as u32;
            if block + LANES as u32 <= whole + 1 && packets[place].from.is_some() {
                let state = state_of_one(&packets[place], block);
                keystreams(&state, packets, &before, scratch);
                before = Before::One { place, first: block };
                block += LANES as u32;
                continue;
            }
            waiting.add(place, block);
            block += 1;
            if waiting.count == LANES {
                let state = state_of_many(packets, &waiting);
                keystreams(&state, packets, &before, scratch);
                before = Before::Many(waiting);
                waiting.count = 0;
            }
        }
    }
    if waiting.count > LANES / 2 {
        let state = state_of_many(packets, &waiting);
        keystreams(&state, packets, &before, scratch);
        (before, waiting.count) = (Before::Many(waiting), 0);
    }
    finish(packets, &before, scratch);
    match waiting.count {
        0 => {}
        1..=4 => {
            let rows = few::<1>(packets, &waiting);
            put_each(packets, &waiting, &rows, scratch);
        }
        _ => {
            let rows = few::<2>(packets, &waiting);
            put_each(packets, &waiting, &rows, scratch);
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
    set_all(&mut state[4..12], packet.key.bytes());
    set_all(&mut state[12..], &packet.nonce);
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let rotated = _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0);
    state[12] = match block {
        0 => rotated,
        _ => _mm512_add_epi32(_mm512_set1_epi32(block as i32), lanes),
    };
    state
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn state_of_many(packets: &[Packet<'_>], waiting: &Group) -> [__m512i; 16] {
    let mut state = [_mm512_setzero_si512(); 16];
    for (vector, word) in state.iter_mut().zip(CONSTANTS) {
        *vector = _mm512_set1_epi32(word as i32);
    }
    set_lanes(&mut state[4..8], packets, waiting, |packet| packet.key.halves()[0]);
    set_lanes(&mut state[8..12], packets, waiting, |packet| packet.key.halves()[1]);
    set_lanes(&mut state[12..], packets, waiting, |packet| &packet.nonce);
    state[12] = load_words(&waiting.blocks);
    state
}

/// A word for each vector, in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn set_all(vectors: &mut [__m512i], bytes: &[u8]) {
    for (vector, word) in vectors.iter_mut().zip(bytes.as_chunks().0) {
        *vector = _mm512_set1_epi32(i32::from_le_bytes(*word));
    }
}

/// The same of four words that each lane's packet has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn set_lanes<'p>(
    vectors: &mut [__m512i],
    packets: &'p [Packet<'_>],
    waiting: &Group,
    bytes_of: fn(&'p Packet<'_>) -> &'p [u8; 16],
) {
    let lane = |lane: usize| load_16(bytes_of(owner_of(packets, waiting, lane)));
    // Slot `slot` of vector `n` is of lane 4 * slot + n.
    let rows = transpose_words([
        join([lane(0), lane(4), lane(8), lane(12)]),
        join([lane(1), lane(5), lane(9), lane(13)]),
        join([lane(2), lane(6), lane(10), lane(14)]),
        join([lane(3), lane(7), lane(11), lane(15)]),
    ]);
    vectors.copy_from_slice(&rows);
}

/// Of lanes that are not waiting it is that of the first.
#[inline]
fn owner_of<'p, 'a>(packets: &'p [Packet<'a>], waiting: &Group, lane: usize) -> &'p Packet<'a> {
    &packets[usize::from(waiting.packets[if lane < waiting.count { lane } else { 0 }])]
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

macro_rules! double_round {
    ($x:ident) => {
        quarters!($x, [0 4 8 12] [1 5 9 13] [2 6 10 14] [3 7 11 15]);
        quarters!($x, [0 5 10 15] [1 6 11 12] [2 7 8 13] [3 4 9 14]);
    };
}

/// Leaves the key streams of this state in `scratch`, in vectors of a word of each lane. Between the rounds, which leave the
/// processor time for it, those that were there are put to their texts.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn keystreams(state: &[__m512i; 16], packets: &mut [Packet<'_>], before: &Before, scratch: &mut Scratch) {
    let mut x = *state;
    for quarter in 0..4 {
        double_round!(x);
        arrange(scratch, quarter);
    }
    match before {
        Before::One { place, first } => {
            let (from, to) = blocks_of(&mut packets[*place], *first);
            for quarter in 0..4 {
                double_round!(x);
                for (slot, row) in rows_of(scratch, quarter).into_iter().enumerate() {
                    match (from.get(4 * slot + quarter), to.get_mut(4 * slot + quarter)) {
                        (Some(from), Some(to)) => store(to, _mm512_xor_si512(load(from), row)),
                        _ => store(&mut scratch.key_blocks[*place], row),
                    }
                }
            }
        }
        Before::Many(group) => {
            for quarter in 0..4 {
                double_round!(x);
                for (slot, row) in rows_of(scratch, quarter).into_iter().enumerate() {
                    put_lane(packets, group, 4 * slot + quarter, row, scratch);
                }
            }
        }
        Before::None => {
            for _ in 0..4 {
                double_round!(x);
            }
        }
    }
    for _ in 8..10 {
        double_round!(x);
    }
    for ((word, x), state) in scratch.words.iter_mut().zip(x).zip(state) {
        *word = _mm512_add_epi32(x, *state);
    }
}

type Blocks<'a> = &'a [[u8; BLOCK_BYTES]];

/// Those of the text, as far as they are among sixteen from the first one on.
#[inline]
fn blocks_of<'a>(packet: &'a mut Packet<'_>, first: u32) -> (Blocks<'a>, &'a mut [[u8; BLOCK_BYTES]]) {
    let (skipped, count) = match first as usize {
        0 => (0, LANES - 1),
        first => (first - 1, LANES),
    };
    let range = skipped * BLOCK_BYTES..(skipped + count) * BLOCK_BYTES;
    let from = packet.from.and_then(|from| from.get(range.clone())).unwrap_or_default();
    let to = packet.to.get_mut(range).unwrap_or_default();
    (from.as_chunks().0, to.as_chunks_mut().0)
}

/// The same without a next group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn finish(packets: &mut [Packet<'_>], before: &Before, scratch: &mut Scratch) {
    let mut rows = [_mm512_setzero_si512(); 16];
    for quarter in 0..4 {
        arrange(scratch, quarter);
    }
    for quarter in 0..4 {
        [rows[quarter], rows[4 + quarter], rows[8 + quarter], rows[12 + quarter]] = rows_of(scratch, quarter);
    }
    match before {
        Before::None => {}
        Before::One { place, first } => {
            let (from, to) = blocks_of(&mut packets[*place], *first);
            for ((from, to), row) in from.iter().zip(to).zip(rows) {
                store(to, _mm512_xor_si512(load(from), row));
            }
            if *first == 0 {
                store(&mut scratch.key_blocks[*place], rows[LANES - 1]);
            }
        }
        Before::Many(group) => put_each(packets, group, &rows, scratch),
    }
}

/// Words 0 to 3, 4 to 7 and so on come together: behind it vector `n` of a quarter has those of lane 4 * slot + n in slot `slot`.
#[inline]
#[target_feature(enable = "avx512f")]
fn arrange(scratch: &mut Scratch, quarter: usize) {
    if let Some(words) = scratch.words.as_chunks_mut().0.get_mut(quarter) {
        *words = transpose_words(*words);
    }
}

/// The arranged key streams of lanes `quarter`, `quarter` + 4 and so on.
#[inline]
#[target_feature(enable = "avx512f")]
fn rows_of(scratch: &Scratch, quarter: usize) -> [__m512i; 4] {
    let word = |part: usize| scratch.words[4 * part + quarter];
    transpose_slots([word(0), word(1), word(2), word(3)])
}

/// The key streams of up to four blocks times `GROUPS`. The other rows are of no use.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn few<const GROUPS: usize>(packets: &[Packet<'_>], waiting: &Group) -> [__m512i; 16] {
    let constants = _mm512_broadcast_i32x4(_mm_setr_epi32(
        CONSTANTS[0] as i32,
        CONSTANTS[1] as i32,
        CONSTANTS[2] as i32,
        CONSTANTS[3] as i32,
    ));
    let mut states = [[constants; 4]; GROUPS];
    for (group, state) in states.iter_mut().enumerate() {
        let lane = |slot: usize| {
            let packet = owner_of(packets, waiting, 4 * group + slot);
            let [low, high] = packet.key.halves();
            [load_16(low), load_16(high), load_16(&packet.nonce)]
        };
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
fn put_each(packets: &mut [Packet<'_>], group: &Group, rows: &[__m512i; 16], scratch: &mut Scratch) {
    for (lane, row) in rows.iter().enumerate().take(group.count) {
        put_lane(packets, group, lane, *row, scratch);
    }
}

/// To the text, or for block 0, as the one-time key.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512ifma")]
fn put_lane(packets: &mut [Packet<'_>], group: &Group, lane: usize, row: __m512i, scratch: &mut Scratch) {
    if lane >= group.count {
        return;
    }
    let (place, block) = (usize::from(group.packets[lane]), group.blocks[lane] as usize);
    let Some(at) = block.checked_sub(1).map(|block| block * BLOCK_BYTES) else {
        return store(&mut scratch.key_blocks[place], row);
    };
    let packet = &mut packets[place];
    match packet.from {
        Some(from) => xor_at(from, packet.to, at, row),
        None => xor_in_place_at(packet.to, at, row),
    }
}
