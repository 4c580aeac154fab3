//! How often something may happen: a token bucket, kept as the time at which it will be full again.

use std::time::Duration;

use crate::net::Timestamp;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    full_at: Timestamp,
    interval: Duration,
    tolerance: Duration,
}

impl Bucket {
    /// So many a second, of which `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_micros(1_000_000 / per_second as u64);
        let tolerance = Duration::from_micros(1_000_000 / per_second as u64 * (burst as u64 - 1));
        Bucket { full_at: Timestamp::ZERO, interval, tolerance }
    }

    /// `false`: it has happened too often.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let full_at = self.full_at.max(now);
        if full_at > now + self.tolerance {
            return false;
        }
        self.full_at = full_at + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(100, 5);
        let now = Timestamp::from_secs(10);
        assert_eq!((0..50).filter(|_| bucket.take(now)).count(), 5);
        let later = |ms| now + Duration::from_millis(ms);
        let taken = (1..=1000).filter(|ms| bucket.take(later(*ms))).count();
        assert_eq!(taken, 100);
        assert!((0..5).all(|_| bucket.take(later(3000))), "full again");
    }
}
