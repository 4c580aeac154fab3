//! How often what a daemon has learned makes a new generation: each daemon at its own pace, and all together once in a second.
//!
//! Who announces and withdraws one prefix for ever has everything compiled anew for everybody. So each daemon has as many
//! generations as ordinary work on a network takes, a second apart ([`FREE`]); then one in a while ([`MAX_HOLD`]), in which one is
//! earned. A prefix that is back as it was when the wait ends is no change.

use std::time::Duration;

use crate::net::{Timestamp, token_bucket};

/// Daemons announce in bursts: as long as more comes so soon, it is waited for ...
const QUIET: Duration = Duration::from_millis(200);
/// ... but not longer than this; and no generation follows another faster.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Generations that a daemon may have in a row.
const FREE: u32 = 16;
/// The longest hold, which is that of a daemon which never rests. One that rests earns a generation in each.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(32);

/// One daemon's changes: taken a quiet moment after the latest, not long after the first, and no sooner than the hold allows.
#[derive(Default)]
pub(super) struct Damping {
    first: Option<Timestamp>,
    latest: Timestamp,
    taken: Option<Timestamp>,
    /// When all of [`FREE`] are earned again.
    full_at: Timestamp,
}

impl Damping {
    /// Something is otherwise.
    pub(super) fn note(&mut self, now: Timestamp) {
        self.first.get_or_insert(now);
        self.latest = now;
    }

    /// When what was noted may be taken.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let quiet = (self.latest + QUIET).min(self.first? + AT_MOST_EVERY);
        Some(self.held_until().map_or(quiet, |until| quiet.max(until)))
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.due().is_some_and(|at| at <= now)
    }

    /// It has turned out that everything is as it was when it was last taken.
    pub(super) fn forget(&mut self) {
        self.first = None;
    }

    /// It was taken, when it was due: whatever comes next is held.
    pub(super) fn take(&mut self, now: Timestamp) {
        token_bucket::take(&mut self.full_at, MAX_HOLD, MAX_HOLD * FREE, now);
        (self.first, self.taken) = (None, Some(now));
    }

    /// Until when further changes wait.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.taken.map(|taken| taken + self.hold(taken))
    }

    /// Nothing is left but what is earned meanwhile.
    pub(super) fn is_at_worst(&self) -> bool {
        self.taken.is_some_and(|taken| self.hold(taken) > AT_MOST_EVERY)
    }

    fn hold(&self, taken: Timestamp) -> Duration {
        token_bucket::wait(self.full_at, MAX_HOLD, MAX_HOLD * FREE, taken).max(AT_MOST_EVERY)
    }
}

/// All daemons' changes together.
#[derive(Default)]
pub(super) struct Pace {
    is_wanted: bool,
    told: Option<Timestamp>,
}

impl Pace {
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.is_wanted.then(|| self.told.map_or(Timestamp::ZERO, |told| told + AT_MOST_EVERY))
    }

    pub(super) fn take_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.due().is_some_and(|at| at <= now);
        if is_due {
            (self.is_wanted, self.told) = (false, Some(now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::ZERO + Duration::from_millis(millis)
    }

    fn take_due(damping: &mut Damping, now: Timestamp) -> bool {
        let is_due = damping.is_due(now);
        if is_due {
            damping.take(now);
        }
        is_due
    }

    /// When changes are taken, in seconds, if they come `every` so many milliseconds for so long.
    fn taken(damping: &mut Damping, millis: impl Iterator<Item = u64>) -> Vec<u64> {
        let is_taken = |millis: &u64| {
            damping.note(at(*millis));
            take_due(damping, at(*millis + 999))
        };
        millis.filter(is_taken).map(|millis| millis / 1000).collect()
    }

    #[test]
    fn a_burst_is_taken_once_and_what_follows_waits_for_a_second() {
        let mut damping = Damping::default();
        assert_eq!((damping.due(), take_due(&mut damping, at(0))), (None, false));
        damping.note(at(0));
        damping.note(at(150));
        assert!(!damping.is_due(at(349)) && take_due(&mut damping, at(350)) && !damping.is_due(at(9_000)));
        damping.note(at(400));
        assert_eq!(damping.due(), Some(at(1350)), "a second after the one before");
    }

    #[test]
    fn what_never_rests_is_taken_all_the_same_and_at_last_once_in_32_seconds() {
        let mut damping = Damping::default();
        let taken = taken(&mut damping, (0..400).map(|n| n * 1000));
        let gaps: Vec<u64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..15], [1; 15], "{taken:?}");
        assert!(gaps[15] < 32 && gaps[16..].iter().all(|gap| *gap == 32), "{taken:?}");
        assert!(damping.is_at_worst());
    }

    #[test]
    fn who_rests_is_heard_sooner_again() {
        let mut damping = Damping::default();
        let before = *taken(&mut damping, (0..400).map(|n| n * 1000)).last().unwrap();
        let later = before + 5 * 32;
        let taken = taken(&mut damping, (0..40).map(|n| (later + n) * 1000));
        assert_eq!(taken[..5], [0, 1, 2, 3, 4].map(|n| later + n), "one is earned in 32 s");
        assert_eq!(taken.len(), 6, "{taken:?}");
        damping.note(at(4_000_000));
        assert!(take_due(&mut damping, at(4_001_000)) && !damping.is_at_worst());
    }

    /// No pattern gets round it: a change each so often is taken about once in 32 seconds in the end.
    #[test]
    fn no_rhythm_of_changes_makes_many_generations() {
        for every_secs in [1, 5, 8, 16, 31, 32, 33, 65] {
            let taken = taken(&mut Damping::default(), (0..36_000 / every_secs).map(|n| n * every_secs * 1000));
            assert!(taken.len() <= 36_000 / 32 + 16, "every {every_secs} s: {}", taken.len());
        }
    }

    #[test]
    fn all_daemons_together_are_told_once_in_a_second() {
        let mut pace = Pace::default();
        assert_eq!((pace.due(), pace.take_due(at(5))), (None, false));
        pace.want();
        assert!(pace.take_due(at(5)) && !pace.take_due(at(9_000)));
        pace.want();
        assert!(!pace.take_due(at(1004)) && pace.take_due(at(1005)));
    }
}
