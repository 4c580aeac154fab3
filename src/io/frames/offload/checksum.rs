//! The Internet checksum (RFC 1071), over whole payloads.

/// Adds big-endian words; an odd last byte is the high half of one. Parts of even length may be added one after another, up to 4 GiB.
#[inline]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    // In words of four bytes, which the compiler adds many at a time. 2^32 of them fit the sum.
    let chunks = bytes.chunks_exact(4);
    let rest = chunks.remainder();
    let words = chunks.map(|four| u64::from(u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))).sum::<u64>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    // The sum of swapped words is the swapped sum (RFC 1071 section 2 (B)).
    let native = fold(words + u64::from(u32::from_ne_bytes(last)));
    sum + u64::from(native.to_be())
}

/// What stands in the field.
#[inline]
pub fn finish(sum: u64) -> u16 {
    !fold(sum)
}

#[inline]
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
