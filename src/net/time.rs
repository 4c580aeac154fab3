//! Monotonic time as the cores see it.
//!
//! Cores never read a clock: `now` is handed in. Under `io/` it is the monotonic clock since start, under `sim/` it is
//! whatever the simulation says.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since an arbitrary start that is fixed for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const ZERO: Timestamp = Timestamp(0);

    pub const fn from_micros(micros: u64) -> Self {
        Timestamp(micros)
    }

    pub const fn from_secs(secs: u64) -> Self {
        Timestamp(secs * 1_000_000)
    }

    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds, the resolution of session timers. Wraps after 136 years.
    pub const fn as_secs(self) -> u32 {
        (self.0 / 1_000_000) as u32
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_micros() as u64))
    }
}

impl Sub<Timestamp> for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Timestamp) -> Duration {
        self.saturating_since(earlier)
    }
}
