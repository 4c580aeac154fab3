//! The ESP packet (RFC 4303 section 2) without its header's meaning: where things lie, padding, the trailer.
//!
//! ```text
//! 0          4          8              IV            payload            pad   +1    +1          ICV
//! | SPI      | sequence | IV (cipher's)| inner packet | TFC | 1 2 3 ... | len | next | integrity check value |
//!                                      '---------------- encrypted ---------------'
//! ```
//!
//! Padding makes the encrypted part a multiple of the cipher's block, and of 4 bytes where that is less. TFC padding
//! stands between the inner packet and the padding; only the inner packet's own length tells the two apart.

use crate::crypto::{Associated, PacketKey, Stamp};
use crate::wire::{ipv4, ipv6};

/// SPI and the low half of the sequence number.
pub(super) const HEADER_BYTES: usize = 8;
/// Pad length and next header.
pub(super) const TRAILER_BYTES: usize = 2;

/// What stands around an inner packet: the sealed packet has `fixed_bytes`, and the inner packet with its two bytes of
/// trailer, padded to a multiple of `block_bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overhead {
    pub fixed_bytes: usize,
    pub block_bytes: usize,
}

impl Overhead {
    pub(super) fn of(key: &PacketKey) -> Self {
        let suite = key.suite();
        Overhead { fixed_bytes: HEADER_BYTES + suite.iv_bytes() + suite.icv_bytes(), block_bytes: suite.block_bytes() }
    }

    /// The whole ESP packet around an inner one.
    #[inline]
    pub fn sealed_bytes(&self, inner: usize) -> usize {
        self.fixed_bytes + padded_bytes(inner, self.block_bytes)
    }

    /// The longest inner packet in an ESP packet of so many bytes.
    pub fn inner_bytes(&self, sealed: usize) -> usize {
        let room = sealed.saturating_sub(self.fixed_bytes);
        (room - room % self.block_bytes).saturating_sub(TRAILER_BYTES)
    }
}

/// What an ESP packet carries (IANA protocol numbers).
pub(super) mod next_header {
    pub const IPV4: u8 = 4;
    pub const IPV6: u8 = 41;
    /// A dummy packet (section 2.6): to be discarded.
    pub const NONE: u8 = 59;
}

/// What can be read before anything is decrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub spi: u32,
    pub sequence_low: u32,
}

impl Header {
    /// `None`: too short.
    #[inline]
    pub fn parse(packet: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_BYTES] = packet.first_chunk()?;
        Some(Header {
            spi: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            sequence_low: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
    }
}

/// What the encrypted part has grown to with padding and trailer. A block is a power of two.
#[inline]
pub(super) fn padded_bytes(payload_bytes: usize, block_bytes: usize) -> usize {
    debug_assert!(block_bytes.is_power_of_two());
    (payload_bytes + TRAILER_BYTES + block_bytes - 1) & !(block_bytes - 1)
}

/// Writes padding and trailer behind the first `payload_bytes` of `plaintext`, which ends where the trailer does. The
/// padding counts 1, 2, 3 (section 2.4). It is at most 255 bytes long.
#[inline]
pub(super) fn finish(plaintext: &mut [u8], payload_bytes: usize, next_header: u8) {
    let pad_bytes = plaintext.len() - payload_bytes - TRAILER_BYTES;
    let (padding, trailer) = plaintext[payload_bytes..].split_at_mut(pad_bytes);
    for (count, byte) in (1..=u8::MAX).zip(padding) {
        *byte = count;
    }
    trailer[0] = pad_bytes as u8;
    trailer[1] = next_header;
}

/// The same where blocks are of four bytes, in one write: what stands behind the payload, and rubbish behind the trailer.
#[inline]
pub(super) fn padding_to_four(payload_bytes: usize, next_header: u8) -> [u8; 8] {
    const PADDING_AND_LENGTH: [u64; 4] = [0x00, 0x01_01, 0x02_02_01, 0x03_03_02_01];
    let pad_bytes = payload_bytes.wrapping_add(TRAILER_BYTES).wrapping_neg() % 4;
    (PADDING_AND_LENGTH[pad_bytes] | u64::from(next_header) << (8 * (pad_bytes + 1))).to_le_bytes()
}

/// Takes padding and trailer off: the payload's length and the next header. `None`: the padding is longer than the
/// plaintext, or is not 1, 2, 3 and so on.
#[inline]
pub(super) fn parse_trailer(plaintext: &[u8]) -> Option<(usize, u8)> {
    let [before @ .., pad_bytes, next_header] = plaintext else { return None };
    let (payload, padding) = before.split_at_checked(before.len().checked_sub(usize::from(*pad_bytes))?)?;
    let is_monotonic = padding.iter().enumerate().all(|(before, byte)| usize::from(*byte) == before + 1);
    is_monotonic.then_some((payload.len(), *next_header))
}

/// The length of the inner packet at the beginning of `payload`; the rest is TFC padding (section 2.7). `None`: no IPv4 packet, or one
/// that is cut short.
#[inline]
pub(super) fn ipv4_bytes(payload: &[u8]) -> Option<usize> {
    let fixed: &[u8; ipv4::MIN_HEADER_BYTES] = payload.first_chunk()?;
    let header_bytes = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let is_whole = header_bytes >= ipv4::MIN_HEADER_BYTES && header_bytes <= total && total <= payload.len();
    (fixed[0] >> 4 == 4 && is_whole).then_some(total)
}

/// The same of IPv6.
#[inline]
pub(super) fn ipv6_bytes(payload: &[u8]) -> Option<usize> {
    let fixed: &[u8; ipv6::HEADER_BYTES] = payload.first_chunk()?;
    let total = ipv6::HEADER_BYTES + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    (fixed[0] >> 4 == 6 && total <= payload.len()).then_some(total)
}

/// The next header of an inner packet that is to be sent. `None`: neither IPv4 nor IPv6.
#[inline]
pub(super) fn next_header_of(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 => Some(next_header::IPV4),
        6 => Some(next_header::IPV6),
        _ => None,
    }
}

/// Builds the packet in `space`, which is [`Overhead::sealed_bytes`] long. `counter` never repeats under one key; endpoints use
/// the sequence number.
pub(super) fn seal(key: &PacketKey, stamp: Stamp, counter: u64, payload: &[u8], next_header: u8, space: &mut [u8]) {
    let Stamp::Esp { spi, sequence, esn } = stamp else { return };
    let suite = key.suite();
    let (before_iv, body) = space.split_at_mut(HEADER_BYTES);
    before_iv.copy_from_slice(&header(spi, sequence));
    let plaintext_end = body.len() - suite.icv_bytes();
    let plaintext = &mut body[suite.iv_bytes()..plaintext_end];
    plaintext[..payload.len()].copy_from_slice(payload);
    finish(plaintext, payload.len(), next_header);
    key.seal(Associated::Esp { spi, sequence, esn }, counter, body);
}

/// What stands before the IV. The IV itself comes with the ciphertext.
#[inline]
pub(super) fn header(spi: u32, sequence: u64) -> [u8; HEADER_BYTES] {
    (u64::from(spi) << 32 | u64::from(sequence as u32)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_in_one_write_is_that_of_the_rule() {
        for payload_bytes in 20..40 {
            let text_bytes = padded_bytes(payload_bytes, 4);
            let mut by_rule = vec![0x45; text_bytes];
            finish(&mut by_rule, payload_bytes, next_header::IPV4);
            let padding = padding_to_four(payload_bytes, next_header::IPV4);
            assert_eq!(by_rule[payload_bytes..], padding[..text_bytes - payload_bytes], "{payload_bytes}");
        }
    }
}
