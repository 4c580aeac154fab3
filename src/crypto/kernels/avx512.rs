//! AVX-512 as the kernels use it: the proof that it is there, and vectors in and out of byte slices.

use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, BW, DQ, VL and IFMA, and AES and carry-less products in vectors as long (Ice Lake,
/// Zen 4 and later). What is marked with these features may be called by whoever holds one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Avx512> {
        let is_there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma")
            && is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("vpclmulqdq");
        is_there.then_some(Avx512(()))
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: 64 bytes are read, at any address.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn store(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: 64 bytes are written, at any address.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "sse2")]
pub fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read, at any address.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// What there is of 64 bytes, and zeros behind it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn load_part(bytes: &[u8]) -> __m512i {
    // SAFETY: only bytes of the slice are read, the mask has no others.
    unsafe { _mm512_maskz_loadu_epi8(mask(bytes.len()), bytes.as_ptr().cast()) }
}

/// As many bytes of the vector as there is room for.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn store_part(bytes: &mut [u8], vector: __m512i) {
    // SAFETY: only bytes of the slice are written, the mask has no others.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask(bytes.len()), vector) }
}

#[inline]
fn mask(bytes: usize) -> u64 {
    if bytes >= 64 { u64::MAX } else { (1 << bytes) - 1 }
}

/// 64 bytes from there on, or what there is of them, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn load_at(bytes: &[u8], at: usize) -> __m512i {
    let rest = bytes.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(whole) => load(whole),
        // Not a load with an empty mask: from where there is no memory it takes the processor hundreds of clocks.
        None if rest.is_empty() => _mm512_setzero_si512(),
        None => load_part(rest),
    }
}

/// The other way, as far as there is room.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn store_at(bytes: &mut [u8], at: usize, vector: __m512i) {
    let rest = bytes.get_mut(at..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk_mut() {
        store(whole, vector);
    } else if !rest.is_empty() {
        store_part(rest, vector);
    }
}

/// From there on 64 bytes, or what there is of them, and the vector: to the same place of the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn xor_at(from: &[u8], to: &mut [u8], at: usize, vector: __m512i) {
    let (Some(from), Some(to)) = (from.get(at..), to.get_mut(at..)) else { return };
    match (from.first_chunk(), to.first_chunk_mut()) {
        (Some(from), Some(to)) => store(to, _mm512_xor_si512(load(from), vector)),
        _ => store_part(to, _mm512_xor_si512(load_part(from), vector)),
    }
}

/// The same with one place.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn xor_in_place_at(bytes: &mut [u8], at: usize, vector: __m512i) {
    let Some(bytes) = bytes.get_mut(at..) else { return };
    match bytes.first_chunk_mut() {
        Some(whole) => store(whole, _mm512_xor_si512(load(whole), vector)),
        None => store_part(bytes, _mm512_xor_si512(load_part(bytes), vector)),
    }
}

/// So many, and zeros behind them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn first_bytes(vector: __m512i, count: usize) -> __m512i {
    _mm512_maskz_mov_epi8(mask(count), vector)
}

/// Asks for all of it, without waiting.
#[inline]
pub fn prefetch<T>(value: &T) {
    for line in (0..size_of::<T>()).step_by(64) {
        // SAFETY: of an address nothing is asked but that it is one, and this is within the value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).byte_add(line).cast()) }
    }
}

/// Four rows of four 16-byte slots become four columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn transpose_slots([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (cd_low, cd_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0xdd>(ab_low, cd_low),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
    ]
}

/// Within each 16-byte slot, four vectors of four words become four slots of them: word `n` of vector `m` goes to word `m` of
/// vector `n`.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn transpose_words([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}
