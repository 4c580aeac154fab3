//! How often something may happen: a token bucket, kept as nothing but the time at which it will be full again.

use std::time::Duration;

use super::Timestamp;

/// Takes a token; one comes every `interval`, and `burst` is the time in which an empty bucket fills. `false`: there is none, and
/// nothing has changed.
pub fn take(full_at: &mut Timestamp, interval: Duration, burst: Duration, now: Timestamp) -> bool {
    let full = (*full_at).max(now) + interval;
    let is_taken = full <= now + burst;
    if is_taken {
        *full_at = full;
    }
    is_taken
}

/// How long after `now` the next token is there; zero: it is.
pub fn wait(full_at: Timestamp, interval: Duration, burst: Duration, now: Timestamp) -> Duration {
    (full_at + interval).saturating_since(now).saturating_sub(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_no_more_after_a_rest() {
        let (interval, burst) = (Duration::from_millis(10), Duration::from_millis(50));
        let at = |millis| Timestamp::from_secs(10) + Duration::from_millis(millis);
        let mut full_at = Timestamp::ZERO;
        let mut taken = |now| (0..50).filter(|_| take(&mut full_at, interval, burst, now)).count();
        assert_eq!([taken(at(0)), taken(at(9)), taken(at(10)), taken(at(40)), taken(at(5000))], [5, 0, 1, 3, 5]);
    }

    #[test]
    fn the_next_token_is_there_when_it_was_said_and_not_before() {
        let (interval, burst) = (Duration::from_millis(10), Duration::from_millis(50));
        let (mut full_at, mut now) = (Timestamp::ZERO, Timestamp::from_secs(10));
        for _ in 0..20 {
            let wait = wait(full_at, interval, burst, now);
            if let Some(before) = wait.checked_sub(Duration::from_micros(1)) {
                assert!(!take(&mut full_at, interval, burst, now + before));
            }
            now = now + wait;
            assert!(take(&mut full_at, interval, burst, now));
        }
        assert_eq!(now, Timestamp::from_secs(10) + 15 * interval, "five at once, then one at a time");
    }
}
