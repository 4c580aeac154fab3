//! Checksum and segmentation offload: what the kernel leaves for a network card to do, done here, and what it can do for us, asked for.
//!
//! ```text
//! in    joined segments (TSO, GRO) --split--> frames of the link's size, each whole and valid
//!       checksum left partial ------complete-> the frame with its checksum
//! out   segments of one TCP flow ----join----> one frame, to be cut by the kernel or the card
//! ```
//!
//! One trip through the kernel costs about the same for one frame as for sixty-four joined. A header of ten bytes before
//! each frame says what is to be done (`virtio_net_hdr`; here in the machine's byte order, as packet sockets and TUN devices have it by
//! default).
//!
//! Nothing joined leaves here that could not be told from what was put in: [`split`] of [`join`] gives the same frames, but for the
//! identification of IPv4 packets that must not be fragmented, where it means nothing (RFC 6864 section 4.1).

pub mod checksum;
pub mod join;
mod layout;
pub mod split;

pub use self::layout::{Layout, Link};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 10;

/// `virtio_net_hdr`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Header {
    pub flags: u8,
    pub gso_type: u8,
    /// Of all headers, up to the payload.
    pub headers_bytes: u16,
    /// Payload of each segment.
    pub segment_bytes: u16,
    /// Where the sum begins.
    pub checksum_start: u16,
    /// Where it belongs, from there.
    pub checksum_offset: u16,
}

impl Header {
    pub const NEEDS_CHECKSUM: u8 = 1;
    pub const NOT_JOINED: u8 = 0;
    pub const TCP4: u8 = 1;
    pub const TCP6: u8 = 4;
    pub const UDP: u8 = 5;
    /// The first segment's congestion flag is the first's alone.
    const ECN: u8 = 0x80;

    pub fn read(bytes: [u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Header {
            flags: bytes[0],
            gso_type: bytes[1] & !Header::ECN,
            headers_bytes: word(2),
            segment_bytes: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    pub fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..2].copy_from_slice(&[self.flags, self.gso_type]);
        let words = [self.headers_bytes, self.segment_bytes, self.checksum_start, self.checksum_offset];
        bytes[2..].chunks_mut(2).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_ne_bytes()));
        bytes
    }

    pub fn is_joined(&self) -> bool {
        self.gso_type != Header::NOT_JOINED
    }

    /// The same for a frame with so many more bytes at its beginning.
    pub fn moved(self, bytes: u16) -> Self {
        Header { checksum_start: self.checksum_start.saturating_add(bytes), ..self }
    }

    /// Completes a checksum that was left partial. `false`: it says what cannot be, and the frame is of no use.
    #[must_use]
    pub fn complete(&self, frame: &mut [u8]) -> bool {
        if self.flags & Header::NEEDS_CHECKSUM == 0 {
            return true;
        }
        let (start, offset) = (usize::from(self.checksum_start), usize::from(self.checksum_offset));
        if frame.len() < start + offset + 2 {
            return false;
        }
        // The field holds the sum of the pseudo-header. Zero would mean "none" in UDP (RFC 768).
        let sum = match checksum::finish(checksum::add(0, &frame[start..])) {
            0 => u16::MAX,
            sum => sum,
        };
        frame[start + offset..][..2].copy_from_slice(&sum.to_be_bytes());
        true
    }
}

#[cfg(test)]
mod tests;
