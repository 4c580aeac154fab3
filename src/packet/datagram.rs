//! An outer datagram as it arrives.

use crate::net::Path;

/// One UDP datagram. Segments that the kernel joined (GRO) have been taken apart again.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub path: Path,
    pub bytes: &'a [u8],
}
