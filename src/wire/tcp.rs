//! TCP (RFC 9293): ports, flags, and the maximum segment size option.

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
    let Some(at) = find_mss(segment) else { return };
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

/// The offset of the MSS value.
fn find_mss(segment: &[u8]) -> Option<usize> {
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
                if kind == OPTION_MSS && len == 4 {
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

    proptest! {
        #[test]
        fn never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..80), mss: u16) {
            let _ = parse(&bytes);
            clamp_mss(&mut bytes, mss);
        }
    }
}
