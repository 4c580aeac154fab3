//! How often what a daemon has learned makes a new generation: each daemon at its own pace, and all together once in a second.
//!
//! Who announces and withdraws one prefix for ever has everything compiled anew for everybody. So what follows a change waits,
//! twice as long each time, and longer for that daemon alone; a prefix that is back as it was when the wait ends is no change.

use std::time::Duration;

use crate::net::Timestamp;

/// Daemons announce in bursts: as long as more comes so soon, it is waited for ...
const QUIET: Duration = Duration::from_millis(200);
/// ... but not longer than this; and no generation follows another faster.
pub(super) const AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The longest hold. A daemon that rested for so long has its hold halved.
pub(super) const MAX_HOLD: Duration = Duration::from_secs(64);

/// One daemon's changes: taken a quiet moment after the latest, not long after the first, and no sooner than the hold allows.
#[derive(Default)]
pub(super) struct Damping {
    first: Option<Timestamp>,
    latest: Timestamp,
    taken: Option<Timestamp>,
    hold: Duration,
}

impl Damping {
    /// Something is otherwise.
    pub(super) fn note(&mut self, now: Timestamp) {
        if self.taken.is_some() {
            let rests = now.saturating_since(self.latest).as_secs() / MAX_HOLD.as_secs();
            self.hold = (self.hold / 2u32.saturating_pow(rests.min(31) as u32)).max(AT_MOST_EVERY);
        }
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

    /// It was taken: whatever comes next is held, twice as long as this was.
    pub(super) fn take(&mut self, now: Timestamp) {
        self.hold = if self.taken.is_some() { (self.hold * 2).min(MAX_HOLD) } else { AT_MOST_EVERY };
        (self.first, self.taken) = (None, Some(now));
    }

    /// Until when further changes wait.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        self.taken.map(|taken| taken + self.hold)
    }

    pub(super) fn is_at_worst(&self) -> bool {
        self.hold == MAX_HOLD
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
    fn what_never_rests_is_taken_all_the_same_and_at_last_once_in_64_seconds() {
        let mut damping = Damping::default();
        let taken = taken(&mut damping, (0..400).map(|n| n * 1000));
        let gaps: Vec<u64> = taken.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64], "{taken:?}");
        assert!(damping.is_at_worst());
    }

    #[test]
    fn who_rests_is_heard_sooner_again() {
        let mut damping = Damping::default();
        taken(&mut damping, (0..400).map(|n| n * 1000));
        damping.note(at((399 + 2 * 64) * 1000));
        assert_eq!(damping.hold, Duration::from_secs(16), "halved for each 64 s");
        damping.forget();
        damping.note(at(4_000_000));
        assert_eq!(damping.hold, AT_MOST_EVERY);
        assert!(!damping.is_at_worst());
    }

    /// No pattern gets round it: a change each so often is taken about once in 64 seconds in the end.
    #[test]
    fn no_rhythm_of_changes_makes_many_generations() {
        for every_secs in [1, 5, 8, 16, 33, 63, 64, 65] {
            let taken = taken(&mut Damping::default(), (0..36_000 / every_secs).map(|n| n * every_secs * 1000));
            assert!(taken.len() <= 36_000 / 64 + 8, "every {every_secs} s: {}", taken.len());
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
