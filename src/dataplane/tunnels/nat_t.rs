//! What a datagram on UDP port 4500 is (RFC 3948 section 2): told by its first four bytes, before anything is looked up.

/// Four zero bytes stand before IKE messages (section 2.2); an SPI is never zero.
const IKE_MARKER: [u8; 4] = [0; 4];
/// The NAT keepalive (section 2.3).
const KEEPALIVE: [u8; 1] = [0xff];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content<'a> {
    /// An IKE message, without the marker.
    Ike(&'a [u8]),
    /// One byte that keeps a NAT's mapping alive. It proves nothing about who sent it.
    Keepalive,
    /// Everything else: ESP, from the SPI on.
    Esp,
}

#[inline]
pub(super) fn split(bytes: &[u8]) -> Content<'_> {
    match bytes.strip_prefix(&IKE_MARKER) {
        Some(message) => Content::Ike(message),
        None if bytes == KEEPALIVE => Content::Keepalive,
        None => Content::Esp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marker_keepalive_and_spi_are_told_apart() {
        assert_eq!(split(&[0, 0, 0, 0, 7, 8]), Content::Ike(&[7, 8]));
        assert_eq!(split(&[0, 0, 0, 0]), Content::Ike(&[]));
        assert_eq!(split(&[0xff]), Content::Keepalive);
        for esp in [&[][..], &[0], &[0, 0, 0], &[0xfe], &[0xff, 0xff], &[0, 0, 1, 0, 0, 0, 0, 1]] {
            assert_eq!(split(esp), Content::Esp, "{esp:?}");
        }
    }
}
