//! Segments of one TCP flow joined, for the kernel or the card to cut.
//!
//! What is joined gets new checksums, so a segment with a wrong one is never joined: the damage would be covered up.

use std::ops::Range;

use super::layout::{Layout, Link};
use super::{HEADER_BYTES, Header, checksum};

const TCP: u8 = 6;
const TCP_HEADER_BYTES: usize = 20;
const MAX_PACKET_BYTES: usize = 65_535;
/// Ethernet with three tags, IPv6, TCP with all its options.
const MAX_HEADERS_BYTES: usize = 14 + 3 * 4 + 40 + 60;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
/// Don't Fragment, in an IPv4 header's seventh byte.
const DF: u8 = 0x40;

/// Segments that may be joined, found so far.
#[derive(Clone, Debug)]
pub struct Join {
    layout: Layout,
    /// Of the first segment; as long as `headers_bytes`.
    headers: [u8; MAX_HEADERS_BYTES],
    headers_bytes: usize,
    /// Payload of every segment, the last perhaps less.
    segment_bytes: usize,
    payload_bytes: usize,
    segments: usize,
    /// FIN and PSH of the last.
    last_flags: u8,
    /// No further segment may follow.
    is_closed: bool,
}

impl Join {
    /// Begins with this frame. `None`: it is no TCP segment that can be joined to others.
    pub fn start(frame: &[u8], link: Link) -> Option<Self> {
        let layout = Layout::of(frame, link)?;
        let (headers_bytes, flags) = tcp_with_payload(frame, &layout)?;
        let mut headers = [0; MAX_HEADERS_BYTES];
        headers.get_mut(..headers_bytes)?.copy_from_slice(&frame[..headers_bytes]);
        let segment_bytes = frame.len() - headers_bytes;
        Some(Join {
            layout,
            headers,
            headers_bytes,
            segment_bytes,
            payload_bytes: segment_bytes,
            segments: 1,
            last_flags: flags & (FIN | PSH),
            is_closed: flags & (FIN | PSH) != 0,
        })
    }

    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Takes the frame that follows, if it goes on where the last one ended and is like it.
    #[must_use]
    pub fn add(&mut self, frame: &[u8]) -> bool {
        let payload_bytes = frame.len().saturating_sub(self.headers_bytes);
        let packet_bytes = self.headers_bytes - self.layout.network + self.payload_bytes + payload_bytes;
        let fits = !self.is_closed && payload_bytes <= self.segment_bytes && packet_bytes <= MAX_PACKET_BYTES;
        if payload_bytes == 0 || !fits || !self.continues(&frame[..self.headers_bytes]) {
            return false;
        }
        let Some((_, flags)) = tcp_with_payload(frame, &self.layout) else { return false };
        self.segments += 1;
        self.payload_bytes += payload_bytes;
        self.last_flags = flags & (FIN | PSH);
        self.is_closed = self.last_flags != 0 || payload_bytes < self.segment_bytes;
        true
    }

    /// The headers are the first's, but for what counts up, lengths (equal or checked), checksums, and flags that end a join.
    fn continues(&self, headers: &[u8]) -> bool {
        let Layout { network, transport, is_v6, .. } = self.layout;
        let mut like_first = [0; MAX_HEADERS_BYTES];
        let like_first = &mut like_first[..self.headers_bytes];
        like_first.copy_from_slice(headers);
        let mut same_as_first = |range: Range<usize>| like_first[range.clone()].copy_from_slice(&self.headers[range]);
        match is_v6 {
            true => same_as_first(network + 4..network + 6),
            false => {
                same_as_first(network + 2..network + 6);
                same_as_first(network + 10..network + 12);
            }
        }
        same_as_first(transport + 4..transport + 8);
        same_as_first(transport + 16..transport + 18);
        like_first[transport + 13] &= !(FIN | PSH);
        let is_same = *like_first == self.headers[..self.headers_bytes];
        is_same && self.is_next_sequence(headers) && (is_v6 || self.is_next_identification(headers))
    }

    fn is_next_sequence(&self, headers: &[u8]) -> bool {
        let sequence = |bytes: &[u8]| word32(bytes, self.layout.transport + 4);
        sequence(headers) == sequence(&self.headers).wrapping_add(self.payload_bytes as u32)
    }

    fn is_next_identification(&self, headers: &[u8]) -> bool {
        let identification = |bytes: &[u8]| word16(bytes, self.layout.network + 4);
        let next = identification(&self.headers).wrapping_add(self.segments as u16);
        headers[self.layout.network + 6] & DF != 0 || identification(headers) == next
    }

    /// What to send before the payloads of all segments: the kernel's header, then the joined frame's. Written into `out`: how long.
    pub fn write_headers(&self, out: &mut [u8; HEADERS_BYTES]) -> usize {
        let header = Header {
            flags: Header::NEEDS_CHECKSUM,
            gso_type: if self.layout.is_v6 { Header::TCP6 } else { Header::TCP4 },
            headers_bytes: self.headers_bytes as u16,
            segment_bytes: self.segment_bytes as u16,
            checksum_start: self.layout.transport as u16,
            checksum_offset: 16,
        };
        out[..HEADER_BYTES].copy_from_slice(&header.write());
        let frame = &mut out[HEADER_BYTES..HEADER_BYTES + self.headers_bytes];
        frame.copy_from_slice(&self.headers[..self.headers_bytes]);
        let Layout { network, transport, .. } = self.layout;
        self.layout.set_lengths(frame, self.headers_bytes - network + self.payload_bytes);
        frame[transport + 13] |= self.last_flags;
        let tcp_bytes = self.headers_bytes - transport + self.payload_bytes;
        let pseudo = checksum::fold(self.layout.pseudo_sum(frame, TCP, tcp_bytes));
        frame[transport + 16..transport + 18].copy_from_slice(&pseudo.to_be_bytes());
        HEADER_BYTES + self.headers_bytes
    }

    pub fn headers_bytes(&self) -> usize {
        self.headers_bytes
    }
}

/// Of [`Join::write_headers`].
pub const HEADERS_BYTES: usize = HEADER_BYTES + MAX_HEADERS_BYTES;

/// Length of all headers, and flags, of a whole and valid TCP segment that carries something and says nothing special.
fn tcp_with_payload(frame: &[u8], layout: &Layout) -> Option<(usize, u8)> {
    let Layout { network, transport, is_v6, protocol } = *layout;
    let told_bytes = match is_v6 {
        true => usize::from(word16(frame, network + 4)) + 40,
        false => usize::from(word16(frame, network + 2)),
    };
    let is_fragment = !is_v6 && word16(frame, network + 6) & 0x3fff != 0;
    // IPv4 options may belong to the first packet only.
    let is_plain = protocol == TCP && !is_fragment && (is_v6 || transport == network + 20);
    if !is_plain || told_bytes != frame.len() - network || frame.len() < transport + TCP_HEADER_BYTES {
        return None;
    }
    let flags = frame[transport + 13];
    let headers_bytes = transport + usize::from(frame[transport + 12] >> 4) * 4;
    let carries = headers_bytes >= transport + TCP_HEADER_BYTES && headers_bytes < frame.len();
    if !carries || flags & ACK == 0 || flags & !(ACK | PSH | FIN | ECE) != 0 {
        return None;
    }
    has_valid_checksums(frame, layout).then_some((headers_bytes, flags))
}

fn has_valid_checksums(frame: &[u8], layout: &Layout) -> bool {
    let header = &frame[layout.network..layout.transport];
    let segment = &frame[layout.transport..];
    let pseudo = layout.pseudo_sum(frame, TCP, segment.len());
    (layout.is_v6 || checksum::finish(checksum::add(0, header)) == 0)
        && checksum::finish(checksum::add(pseudo, segment)) == 0
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
