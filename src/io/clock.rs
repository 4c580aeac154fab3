//! The clocks. Cores never read one: the worker reads once per batch and hands `now` in.
//!
//! `now` counts from the start of the process on `CLOCK_BOOTTIME`, which goes on while the machine sleeps: after a
//! suspended laptop or a paused virtual machine wakes up, WireGuard sessions and NAT sessions are as old as their peers
//! believe. It never jumps when somebody sets the time of day.

#![allow(unsafe_code)]

use std::time::{Duration, SystemTime};

use crate::net::Timestamp;

/// Reads time since it was made. Copies share the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Duration,
}

impl Clock {
    /// Starts at one second, so that "before the start" can be expressed.
    pub fn start() -> Self {
        Clock { start: since_boot().saturating_sub(Duration::from_secs(1)) }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::ZERO + since_boot().saturating_sub(self.start)
    }

    /// The time since 1970 at `Timestamp::ZERO`, by the time of day as it is now.
    pub fn unix_time_at_zero(&self) -> Duration {
        let since_1970 = self.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since_1970.saturating_sub(self.now() - Timestamp::ZERO)
    }

    /// The time of day, for logs, history and people. It may jump; never measure with it.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call, which writes nothing else.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(result, 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_forward_from_one_second() {
        let clock = Clock::start();
        let first = clock.now();
        let second = clock.now();
        assert!(first >= Timestamp::from_secs(1) && first < Timestamp::from_secs(60), "{first:?}");
        assert!(second >= first);
    }

    #[test]
    fn time_since_1970_is_that_of_the_wall() {
        let clock = Clock::start();
        let told = clock.unix_time_at_zero() + (clock.now() - Timestamp::ZERO);
        let wall = clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(wall.abs_diff(told) < Duration::from_secs(10), "{told:?} {wall:?}");
    }

    #[test]
    fn copies_share_the_start() {
        let clock = Clock::start();
        let copy = clock;
        assert!(copy.now() - clock.now() < Duration::from_secs(10));
        assert!(clock.wall() > SystemTime::UNIX_EPOCH);
    }
}
