//! How often something may happen, in words of a second.

use std::time::Duration;

use crate::net::{Timestamp, token_bucket};

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    full_at: Timestamp,
    interval: Duration,
    burst: Duration,
}

impl Bucket {
    /// So many a second, of which `burst` at once.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_micros(1_000_000 / per_second as u64);
        let burst = Duration::from_micros(1_000_000 / per_second as u64 * burst as u64);
        Bucket { full_at: Timestamp::ZERO, interval, burst }
    }

    /// It has not happened for so long that nothing needs to be known of it.
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.full_at <= now
    }

    /// `false`: it has happened too often.
    pub fn take(&mut self, now: Timestamp) -> bool {
        token_bucket::take(&mut self.full_at, self.interval, self.burst, now)
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
