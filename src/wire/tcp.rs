//! TCP (RFC 9293): ports, flags, sequence numbers, and the options for maximum segment size and window scale.

use super::checksum::Delta;

pub const MIN_HEADER_BYTES: usize = 20;
pub const CHECKSUM: usize = 16;

pub mod flag {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
/// RFC 7323 section 2.2.
const OPTION_WINDOW_SCALE: u8 = 3;

/// What a segment says about its connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Segment {
    pub seq: u32,
    /// Only means something with [`flag::ACK`].
    pub ack: u32,
    /// Sequence numbers that the segment takes: its data, and one each for SYN and FIN.
    pub len: u32,
    /// As it stands in the header, not scaled.
    pub window: u16,
    pub flags: u8,
    /// Of a SYN; `None`: it has no such option.
    pub window_shift: Option<u8>,
}

impl Segment {
    /// `segment` is a whole one. `None`: it is not.
    pub fn parse(segment: &[u8]) -> Option<Segment> {
        let (_, _, flags) = parse(segment)?;
        let header: &[u8; MIN_HEADER_BYTES] = segment.first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let data_bytes = segment.len() - usize::from(header[12] >> 4) * 4;
        let is_syn = flags & flag::SYN != 0;
        let shift_at = is_syn.then(|| find_option(segment, OPTION_WINDOW_SCALE, 3)).flatten();
        Some(Segment {
            seq: word(4),
            ack: word(8),
            len: data_bytes as u32 + u32::from(is_syn) + u32::from(flags & flag::FIN != 0),
            window: u16::from_be_bytes([header[14], header[15]]),
            flags,
            window_shift: shift_at.map(|at| segment[at]),
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// It asks for a connection: SYN without ACK.
    pub fn is_syn(&self) -> bool {
        self.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN
    }

    /// The sequence number behind it.
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }
}

/// Whether a packet without a session may begin one: a request for a connection, or a segment out of the middle of a
/// connection. Not a reset, and not an answer to a request, which only its opener may have let in.
pub fn may_open(flags: u8) -> bool {
    matches!(flags & (flag::SYN | flag::ACK | flag::RST), flag::SYN | flag::ACK)
}

/// (source port, destination port, flags), when the fixed header is whole.
#[inline]
pub fn parse(segment: &[u8]) -> Option<(u16, u16, u8)> {
    let header: &[u8; MIN_HEADER_BYTES] = segment.first_chunk()?;
    let data_offset = usize::from(header[12] >> 4) * 4;
    if data_offset < MIN_HEADER_BYTES || data_offset > segment.len() {
        return None;
    }
    Some((u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]), header[13]))
}

/// Lowers the MSS option of a SYN segment to `max_mss_bytes`, never raises it, and keeps the checksum right. A SYN
/// without the option means 536 (RFC 9293 section 3.7.1), which fits everywhere.
pub fn clamp_mss(segment: &mut [u8], max_mss_bytes: u16) {
    let Some(at) = find_option(segment, OPTION_MSS, 4) else { return };
    let old = u16::from_be_bytes([segment[at], segment[at + 1]]);
    if old <= max_mss_bytes {
        return;
    }
    segment[at..at + 2].copy_from_slice(&max_mss_bytes.to_be_bytes());
    // An option may start at an odd offset; its bytes then count swapped in the sum.
    let delta = if at % 2 == 0 {
        Delta::default().word(old, max_mss_bytes)
    } else {
        Delta::default().word(old.swap_bytes(), max_mss_bytes.swap_bytes())
    };
    delta.apply_at(segment, CHECKSUM);
}

/// The offset of the value of an option of `wanted_bytes` in all.
fn find_option(segment: &[u8], wanted: u8, wanted_bytes: usize) -> Option<usize> {
    let end = usize::from(segment.get(12)? >> 4) * 4;
    let mut at = MIN_HEADER_BYTES;
    while at < end {
        match *segment.get(at)? {
            OPTION_END => return None,
            OPTION_NOP => at += 1,
            kind => {
                let len = usize::from(*segment.get(at + 1)?);
                if len < 2 || at + len > end || end > segment.len() {
                    return None;
                }
                if kind == wanted && len == wanted_bytes {
                    return Some(at + 2);
                }
                at += len;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checksum::{checksum, sum};
    use super::*;

    fn syn(options: &[u8]) -> Vec<u8> {
        let mut segment = vec![0; MIN_HEADER_BYTES];
        segment[13] = flag::SYN;
        segment.extend(options);
        segment.resize(segment.len().next_multiple_of(4), 0);
        segment[12] = ((segment.len() / 4) as u8) << 4;
        let sum = checksum(&segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    #[test]
    fn lowers_and_never_raises() {
        for (options, at) in
            [(&[2, 4, 0x05, 0xb4][..], 22), (&[1, 2, 4, 0x05, 0xb4], 23), (&[3, 3, 7, 2, 4, 0x05, 0xb4], 25)]
        {
            let mut segment = syn(options);
            clamp_mss(&mut segment, 1380);
            assert_eq!(segment[at..at + 2], 1380u16.to_be_bytes());
            assert_eq!(sum(&segment), 0xffff, "checksum");
            clamp_mss(&mut segment, 9000);
            assert_eq!(segment[at..at + 2], 1380u16.to_be_bytes());
        }
    }

    #[test]
    fn leaves_broken_options_alone() {
        for options in [&[2, 0][..], &[2, 40, 0, 0], &[0, 2, 4, 5, 180], &[8, 1], &[2]] {
            let before = syn(options);
            let mut segment = before.clone();
            clamp_mss(&mut segment, 100);
            assert_eq!(segment, before);
        }
    }

    #[test]
    fn a_segment_tells_its_numbers() {
        let mut segment = syn(&[2, 4, 0x05, 0xb4, 1, 3, 3, 7]);
        segment[4..12].copy_from_slice(&[0, 0, 1, 0, 0, 0, 2, 0]);
        segment[14..16].copy_from_slice(&[0x80, 0]);
        segment.extend(b"early");
        let read = Segment::parse(&segment).unwrap();
        assert_eq!((read.seq, read.ack, read.len, read.end()), (0x100, 0x200, 6, 0x106));
        assert_eq!((read.window, read.window_shift), (0x8000, Some(7)));
        assert!(read.is_syn() && !read.has(flag::ACK));
        segment[13] = flag::FIN | flag::ACK;
        let read = Segment::parse(&segment).unwrap();
        assert_eq!((read.len, read.window_shift), (6, None), "only a SYN scales");
        assert_eq!(Segment::parse(&segment[..27]), None, "cut within its options");
    }

    #[test]
    fn what_may_begin_a_session() {
        for (flags, may) in [
            (flag::SYN, true),
            (flag::ACK, true),
            (flag::FIN | flag::ACK, true),
            (flag::SYN | flag::ACK, false),
            (flag::RST, false),
            (flag::RST | flag::ACK, false),
            (flag::FIN, false),
            (0, false),
        ] {
            assert_eq!(may_open(flags), may, "{flags:#x}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..80), mss: u16) {
            let _ = parse(&bytes);
            let _ = Segment::parse(&bytes);
            clamp_mss(&mut bytes, mss);
        }
    }
}
