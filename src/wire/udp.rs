//! UDP (RFC 768).

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
