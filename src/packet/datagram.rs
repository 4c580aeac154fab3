//! An outer datagram as it arrives.

use crate::net::Path;

/// One datagram: a UDP payload, or an ESP packet without its IP header. Segments that the kernel joined (GRO) have been
/// taken apart again.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub path: Path,
    pub bytes: &'a [u8],
    /// The two ECN bits of the outer IP header (RFC 3168); 0 (not capable) when they are not known.
    pub ecn: u8,
}

impl<'a> Datagram<'a> {
    /// Where nothing is known of the outer header.
    #[inline]
    pub fn new(path: Path, bytes: &'a [u8]) -> Self {
        Datagram { path, bytes, ecn: 0 }
    }
}
