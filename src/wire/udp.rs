//! UDP (RFC 768).

use super::checksum::Delta;

pub const HEADER_BYTES: usize = 8;
pub const SOURCE_PORT: usize = 0;
pub const DESTINATION_PORT: usize = 2;
pub const LENGTH: usize = 4;
pub const CHECKSUM: usize = 6;

/// (source port, destination port), when the header is whole.
#[inline]
pub fn parse(datagram: &[u8]) -> Option<(u16, u16)> {
    let header: &[u8; HEADER_BYTES] = datagram.first_chunk()?;
    Some((u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]])))
}

/// A UDP checksum of zero means that there is none (RFC 768), and stays so; a computed zero is sent as all ones. UDP-Lite
/// (RFC 3828 section 3.1) has it at the same place, forbids the zero, and sends all ones too.
#[inline]
pub fn fix_checksum(datagram: &mut [u8], delta: Delta) {
    let Some(field) = datagram.get_mut(CHECKSUM..).and_then(|bytes| bytes.first_chunk_mut()) else { return };
    let old = u16::from_be_bytes(*field);
    if old == 0 {
        return;
    }
    let new = match delta.apply(old) {
        0 => 0xffff,
        sum => sum,
    };
    *field = u16::to_be_bytes(new);
}
