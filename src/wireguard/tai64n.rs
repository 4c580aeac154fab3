//! TAI64N: the stamp in an initiation, later than every one before it, so that a recorded initiation is of no use.
//!
//! ```text
//! | 2^62 + 10 + seconds since 1970, big-endian, 8 | nanoseconds, big-endian, 4 |
//! ```
//!
//! Ours have a grain of 16.8 ms, as wireguard-go's have: plenty for an initiation every 5 s, and too little to
//! tell anybody how our clock drifts. To a receiver a stamp is a number to compare, whatever it says.

use std::time::Duration;

pub const STAMP_BYTES: usize = 12;
/// What stands for 1970-01-01 00:00:10 TAI, the beginning of Unix time.
const UNIX_EPOCH: u64 = (1 << 62) + 10;
const GRAIN_NANOS: u32 = 1 << 24;

/// Zero: before every stamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Stamp {
    seconds: u64,
    nanos: u32,
}

impl Stamp {
    /// The stamp of this moment, or if that is not later than `last`, one just later.
    pub fn after(last: Stamp, since_1970: Duration) -> Self {
        let nanos = since_1970.subsec_nanos() / GRAIN_NANOS * GRAIN_NANOS;
        let now = Stamp { seconds: UNIX_EPOCH.saturating_add(since_1970.as_secs()), nanos };
        if now > last { now } else { last.next() }
    }

    pub fn parse(bytes: &[u8; STAMP_BYTES]) -> Self {
        let (seconds, nanos) = bytes.split_at(8);
        let fold = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Stamp { seconds: fold(seconds), nanos: fold(nanos) as u32 }
    }

    pub fn emit(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&self.nanos.to_be_bytes());
        bytes
    }

    fn next(self) -> Self {
        match self.nanos.checked_add(GRAIN_NANOS) {
            Some(nanos) if nanos < 1_000_000_000 => Stamp { nanos, ..self },
            _ => Stamp { seconds: self.seconds.saturating_add(1), nanos: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_that_of_tai64n() {
        // The example of https://cr.yp.to/libtai/tai64.html: 1992-06-02 08:07:09 TAI is 2^62 + 707,472,429.
        let stamp = Stamp { seconds: (1 << 62) + 707_472_429, nanos: 0x0102_0304 };
        assert_eq!(stamp.emit(), [0x40, 0, 0, 0, 0x2a, 0x2b, 0x2c, 0x2d, 1, 2, 3, 4]);
        assert_eq!(Stamp::parse(&stamp.emit()), stamp);
        let epoch = Stamp::after(Stamp::default(), Duration::ZERO).emit();
        assert_eq!(epoch, [0x40, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0]);
    }

    #[test]
    fn stamps_grow_even_while_the_clock_stands_still_or_goes_back() {
        let mut last = Stamp::default();
        for (n, millis) in [5_990_u64, 5_990, 5_990, 1_000, 5_991, 9_000].into_iter().enumerate() {
            let stamp = Stamp::after(last, Duration::from_millis(millis));
            assert!(stamp > last && stamp.emit() > last.emit(), "{n}");
            assert!(stamp.nanos < 1_000_000_000 && stamp.nanos.is_multiple_of(GRAIN_NANOS));
            last = stamp;
        }
        assert_eq!(last, Stamp::after(Stamp::default(), Duration::from_secs(9)));
    }

    #[test]
    fn any_bytes_compare_as_they_are_written() {
        let largest = Stamp::parse(&[0xff; STAMP_BYTES]);
        assert!(largest > Stamp::after(Stamp::default(), Duration::from_secs(1 << 40)));
        assert_eq!(largest.emit(), [0xff; STAMP_BYTES]);
    }
}
