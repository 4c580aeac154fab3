//! Driving boringtun in virtual time (cargo feature `sim`).
//!
//! boringtun reads its own clock. Under the feature that clock is a number per thread, and whoever runs a simulation
//! moves it together with the `now` that it hands in, before every call into a core:
//!
//! ```text
//! advance_boringtun_clock(now);
//! endpoint.handle_timeout(&mut outbox, now);
//! ```
//!
//! Handshake stamps (TAI64N) are the exception: boringtun builds them from the *wall* clock when a peer is created, plus
//! the time its clock has moved since. A peer created late in virtual time (ixgate restarted after a simulated hour)
//! would stamp an hour earlier than its predecessor did, and the far side, which remembers, would refuse it for an hour.
//! So every peer is created [`at_origin`]: with the clock at zero for that moment, its stamps are "wall clock, which only
//! grows, plus virtual time". Simulations must create their own boringtun peers that way as well, then call
//! `update_timers` on them once.

#[cfg(feature = "sim")]
use mock_instant::MockClock;

#[cfg(feature = "sim")]
use crate::net::Timestamp;

/// Sets boringtun's clock on this thread. It never moves back: boringtun panics on that.
#[cfg(feature = "sim")]
pub fn advance_boringtun_clock(to: Timestamp) {
    let to = std::time::Duration::from_micros(to.as_micros());
    MockClock::set_time(to.max(MockClock::time()));
}

/// Back to zero, for the next simulation on this thread. Only when nothing of the last one is alive.
#[cfg(feature = "sim")]
pub fn restart_boringtun_clock() {
    MockClock::set_time(std::time::Duration::ZERO);
}

/// Creates a boringtun peer as if at virtual time zero (see above).
#[cfg(feature = "sim")]
pub fn at_origin<T>(create: impl FnOnce() -> T) -> T {
    let now = MockClock::time();
    MockClock::set_time(std::time::Duration::ZERO);
    let created = create();
    MockClock::set_time(now);
    created
}

/// In real time there is nothing to do.
#[cfg(not(feature = "sim"))]
pub fn at_origin<T>(create: impl FnOnce() -> T) -> T {
    create()
}
