//! A joined frame taken apart, segment by segment.

use super::checksum;
use super::layout::{Layout, Link};
use super::{HEADER_BYTES, Header};

const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;
const TCP_HEADER_BYTES: usize = 20;
/// In the byte that holds them (RFC 9293 section 3.1).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// How far a joined frame is taken apart. The frame itself is handed in each time.
#[derive(Clone, Debug)]
pub struct Split {
    layout: Layout,
    protocol: u8,
    /// Up to the payload.
    headers_bytes: usize,
    segment_bytes: usize,
    end: usize,
    /// Where the next segment's payload begins.
    next: usize,
    /// Its number.
    number: u16,
}

impl Split {
    /// `None`: the header does not belong to such a frame.
    pub fn new(frame: &[u8], header: &Header, link: Link) -> Option<Self> {
        let mut layout = Layout::of(frame, link)?;
        let (protocol, is_v6) = match header.gso_type {
            Header::TCP4 => (TCP, Some(false)),
            Header::TCP6 => (TCP, Some(true)),
            Header::UDP => (UDP, None),
            _ => return None,
        };
        if is_v6.is_some_and(|is_v6| is_v6 != layout.is_v6) || header.segment_bytes == 0 {
            return None;
        }
        if layout.protocol != protocol {
            // Extension headers stand between; the kernel has told where they end.
            let is_told = layout.is_v6 && header.flags & Header::NEEDS_CHECKSUM != 0;
            layout.transport =
                Some(usize::from(header.checksum_start)).filter(|start| is_told && *start > layout.transport)?;
        }
        let transport_bytes = match protocol {
            TCP => usize::from(frame.get(layout.transport + 12)? >> 4) * 4,
            _ => UDP_HEADER_BYTES,
        };
        let headers_bytes = layout.transport + transport_bytes;
        let is_whole = headers_bytes < frame.len() && (protocol != TCP || transport_bytes >= TCP_HEADER_BYTES);
        is_whole.then_some(Split {
            layout,
            protocol,
            headers_bytes,
            segment_bytes: header.segment_bytes.into(),
            end: frame.len(),
            next: headers_bytes,
            number: 0,
        })
    }

    /// The longest frame that it gives.
    pub fn max_bytes(&self) -> usize {
        self.headers_bytes + self.segment_bytes.min(self.end - self.headers_bytes)
    }

    pub fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// Writes the next frame, as long as [`Split::max_bytes`] at most: its length.
    ///
    /// # Panics
    /// When it is done, `out` is too short, or `frame` is another.
    pub fn next(&mut self, frame: &[u8], out: &mut [u8]) -> usize {
        assert!(!self.is_done() && frame.len() == self.end);
        let payload = &frame[self.next..self.end.min(self.next + self.segment_bytes)];
        let len = self.headers_bytes + payload.len();
        let out = &mut out[..len];
        out[..self.headers_bytes].copy_from_slice(&frame[..self.headers_bytes]);
        out[self.headers_bytes..].copy_from_slice(payload);
        let offset = self.next - self.headers_bytes;
        self.next += payload.len();
        self.write_network(out);
        match self.protocol {
            TCP => self.write_tcp(out, offset as u32),
            _ => self.write_udp(out),
        }
        self.number = self.number.wrapping_add(1);
        len
    }

    fn write_network(&self, out: &mut [u8]) {
        let Layout { network, is_v6, .. } = self.layout;
        if !is_v6 {
            let identification = u16::from_be_bytes([out[network + 4], out[network + 5]]).wrapping_add(self.number);
            out[network + 4..network + 6].copy_from_slice(&identification.to_be_bytes());
        }
        self.layout.set_lengths(out, out.len() - network);
    }

    fn write_tcp(&self, out: &mut [u8], offset: u32) {
        let tcp = &mut out[self.layout.transport..];
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(offset);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        if !self.is_done() {
            tcp[13] &= !(FIN | PSH);
        }
        if offset > 0 {
            // Told once (RFC 3168 section 6.1.2).
            tcp[13] &= !CWR;
        }
        tcp[16..18].fill(0);
        let sum = self.transport_sum(out);
        out[self.layout.transport + 16..][..2].copy_from_slice(&sum.to_be_bytes());
    }

    fn write_udp(&self, out: &mut [u8]) {
        let udp = &mut out[self.layout.transport..];
        let len = udp.len() as u16;
        udp[4..6].copy_from_slice(&len.to_be_bytes());
        udp[6..8].fill(0);
        let sum = match self.transport_sum(out) {
            0 => u16::MAX,
            sum => sum,
        };
        out[self.layout.transport + 6..][..2].copy_from_slice(&sum.to_be_bytes());
    }

    fn transport_sum(&self, out: &[u8]) -> u16 {
        let transport = &out[self.layout.transport..];
        let pseudo = self.layout.pseudo_sum(out, self.protocol, transport.len());
        checksum::finish(checksum::add(pseudo, transport))
    }
}

/// Frames that one or more joined frames gave, one behind another, in memory made once.
#[derive(Debug)]
pub struct Splitter {
    link: Link,
    /// The joined frame that is being taken apart, behind [`Splitter::ROOM`].
    joined: Box<[u8]>,
    /// Where it lies.
    at: usize,
    len: usize,
    current: Option<Split>,
    pieces: Box<[u8]>,
    used: usize,
    /// Joined frames so far.
    taken_apart: u64,
}

impl Splitter {
    /// Before a joined frame, for a VLAN tag that is put back.
    pub const ROOM: usize = 4;
    /// The longest joined frame: a whole IP packet with its Ethernet header and tags.
    pub const JOINED_BYTES: usize = 65_535 + 14 + 8;
    /// For a batch of frames of up to 1,920 bytes and then some; longer ones are taken in more turns.
    const PIECES_BYTES: usize = 160 << 10;

    pub fn new(link: Link) -> Self {
        Splitter {
            link,
            joined: vec![0; Splitter::ROOM + Splitter::JOINED_BYTES].into(),
            at: Splitter::ROOM,
            len: 0,
            current: None,
            pieces: vec![0; Splitter::PIECES_BYTES].into(),
            used: 0,
            taken_apart: 0,
        }
    }

    /// Room for the next joined frame; what was in it is gone.
    pub fn joined_mut(&mut self) -> &mut [u8] {
        self.current = None;
        &mut self.joined[Splitter::ROOM..]
    }

    /// The room holds a joined frame of `len` bytes. A VLAN tag that was taken from it is put back. `false`: it cannot be taken apart.
    #[must_use]
    pub fn start(&mut self, len: usize, mut header: Header, tag: Option<[u8; 4]>) -> bool {
        (self.at, self.len) = (Splitter::ROOM, len);
        if let Some(tag) = tag {
            if len < 14 {
                return false;
            }
            self.at -= tag.len();
            self.len += tag.len();
            put_tag(&mut self.joined, tag);
            header = header.moved(tag.len() as u16);
        }
        let frame = &mut self.joined[self.at..self.at + self.len];
        self.current = match header.is_joined() {
            true => Split::new(frame, &header, self.link),
            // Whole, only too long for its slot: one piece, as it is.
            false => header.complete(frame).then(|| Split::whole(self.len)),
        };
        self.taken_apart += u64::from(header.is_joined());
        self.current.as_ref().is_some_and(|split| split.max_bytes() <= self.pieces.len())
    }

    /// The next piece: where [`Splitter::piece`] finds it. `None`: all is taken apart, or (see [`Splitter::is_busy`]) there is no room.
    pub fn next_piece(&mut self) -> Option<(usize, usize)> {
        let split = self.current.as_mut()?;
        if split.is_done() {
            self.current = None;
            return None;
        }
        let start = self.used;
        if self.pieces.len() - start < split.max_bytes() {
            return None;
        }
        let frame = &self.joined[self.at..self.at + self.len];
        let len = match split.headers_bytes {
            0 => split.copy(frame, &mut self.pieces[start..]),
            _ => split.next(frame, &mut self.pieces[start..]),
        };
        self.used += len;
        Some((start, len))
    }

    pub fn taken_apart(&self) -> u64 {
        self.taken_apart
    }

    pub fn is_busy(&self) -> bool {
        self.current.as_ref().is_some_and(|split| !split.is_done())
    }

    pub fn piece(&self, (start, len): (usize, usize)) -> &[u8] {
        &self.pieces[start..start + len]
    }

    /// Nobody needs the pieces any more.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

impl Split {
    /// Nothing to take apart.
    fn whole(len: usize) -> Self {
        let layout = Layout { network: 0, is_v6: false, transport: 0, protocol: 0 };
        Split { layout, protocol: 0, headers_bytes: 0, segment_bytes: len, end: len, next: 0, number: 0 }
    }

    fn copy(&mut self, frame: &[u8], out: &mut [u8]) -> usize {
        out[..self.end].copy_from_slice(frame);
        self.next = self.end;
        self.end
    }
}

/// Moves the addresses forward by a tag, and puts the tag behind them. `bytes` begins so many bytes before the frame.
pub fn put_tag(bytes: &mut [u8], tag: [u8; 4]) {
    bytes.copy_within(4..16, 0);
    bytes[12..16].copy_from_slice(&tag);
}

const _: () = assert!(HEADER_BYTES == 10);
