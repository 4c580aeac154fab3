//! The replay window: which of the latest counters have been seen (RFC 6479, with lanes of 64 bits).
//!
//! ```text
//! lanes    | 64 counters | 64 counters | ...                 a ring: counter c is bit c % 64 of lane c / 64 % 64
//! ```
//!
//! The newest lane is not in the ring but beside it: messages that come in order, nearly all, ask for nothing else. It goes to its place when the
//! newest counter leaves it, and nothing is ever shifted. It is filled while the 63 before it remember, which makes the window at
//! least [`WINDOW`] counters.

const LANES: usize = 64;
const LANE_COUNTERS: u64 = u64::BITS as u64;
/// How far behind the newest counter one may come and still be told from a replay.
pub const WINDOW: u64 = (LANES as u64 - 1) * u64::BITS as u64;

#[repr(C)]
pub struct ReplayWindow {
    /// One above the newest counter seen.
    next: u64,
    /// The lane that one is in.
    newest: u64,
    /// In the newest one's place is an old one that nobody asks for.
    lanes: [u64; LANES],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        ReplayWindow { next: 0, newest: 0, lanes: [0; LANES] }
    }
}

impl ReplayWindow {
    /// What messages that come in order ask for stands first.
    pub const HOT_BYTES: usize = std::mem::offset_of!(ReplayWindow, lanes);

    /// Reads what the next counter needs.
    #[inline]
    pub fn touch(&self) -> u64 {
        self.next ^ self.newest
    }

    /// Neither seen nor too old. To be asked before authentication, for which nothing is changed.
    #[inline]
    pub fn is_new(&self, counter: u64) -> bool {
        counter >= self.next || self.next - counter <= WINDOW && self.lane(lane_of(counter)) >> (counter % 64) & 1 == 0
    }

    /// Notes a counter, after authentication, if it is new. It must be below `u64::MAX`.
    #[inline]
    pub fn take(&mut self, counter: u64) -> bool {
        // The next one, as a rule, and not the first of its lane.
        if counter == self.next && !counter.is_multiple_of(64) {
            self.next += 1;
        } else if !self.is_new(counter) {
            return false;
        } else if counter >= self.next {
            self.advance(counter);
        }
        self.note(lane_of(counter), 1 << (counter % 64));
        true
    }

    /// Notes so many counters behind one another, at most [`LANE_COUNTERS`], if all of them are newer than any before. They must be below `u64::MAX`.
    #[inline]
    pub fn take_newest(&mut self, first: u64, count: u64) -> bool {
        let is_newest = first >= self.next && (1..=LANE_COUNTERS).contains(&count);
        if is_newest {
            let last = first + (count - 1);
            self.advance(last);
            let bits = u128::from(u64::MAX >> (LANE_COUNTERS - count)) << (first % LANE_COUNTERS);
            if lane_of(first) != lane_of(last) {
                self.note(lane_of(first), bits as u64);
                self.newest |= (bits >> LANE_COUNTERS) as u64;
            } else {
                self.newest |= bits as u64;
            }
        }
        is_newest
    }

    #[inline]
    fn advance(&mut self, counter: u64) {
        if lane_of(counter) != self.newest_lane() {
            self.enter(lane_of(counter));
        }
        self.next = counter + 1;
    }

    /// The lane of the next newest counter, which is above the one of the last.
    #[cold]
    fn enter(&mut self, lane: u64) {
        let before = self.newest_lane();
        self.lanes[place_of(before)] = std::mem::take(&mut self.newest);
        let skipped = (lane - before - 1).min(LANES as u64);
        for skipped in 1..=skipped {
            self.lanes[place_of(before + skipped)] = 0;
        }
    }

    #[inline]
    fn newest_lane(&self) -> u64 {
        lane_of(self.next.saturating_sub(1))
    }

    #[inline]
    fn lane(&self, lane: u64) -> u64 {
        if lane == self.newest_lane() { self.newest } else { self.lanes[place_of(lane)] }
    }

    #[inline]
    fn note(&mut self, lane: u64, bits: u64) {
        if lane == self.newest_lane() {
            self.newest |= bits;
        } else {
            self.lanes[place_of(lane)] |= bits;
        }
    }
}

/// Lanes counted without end.
#[inline]
fn lane_of(counter: u64) -> u64 {
    counter / 64
}

/// Where a lane lies in the ring.
#[inline]
fn place_of(lane: u64) -> usize {
    (lane % LANES as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_counter_counts_once_and_at_least_2048_are_told_apart() {
        const { assert!(WINDOW >= 2048) };
        let mut window = ReplayWindow::default();
        assert!(window.take(0) && !window.take(0));
        assert!(window.take(10_000));
        assert!((10_001 - WINDOW..10_000).all(|counter| window.take(counter)));
        assert!((0..=10_000).all(|counter| !window.take(counter)));
        assert!(window.take(10_001));
    }

    #[test]
    fn a_jump_over_the_whole_ring_forgets_everything() {
        let mut window = ReplayWindow::default();
        assert!((0..5000).all(|counter| window.take(counter)));
        let far = u64::MAX - 1;
        assert!(window.take(far) && !window.take(far));
        assert!((far + 1 - WINDOW..far).all(|counter| window.take(counter)));
        assert!(!window.take(far - WINDOW), "too old to know");
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_counters_seen(steps in prop::collection::vec((0u64..5000, any::<bool>()), 1..600)) {
            let (mut window, mut seen, mut newest) = (ReplayWindow::default(), BTreeSet::new(), 0u64);
            for (step, forward) in steps {
                let counter = if forward { newest + step % 200 } else { newest.saturating_sub(step) };
                let expected = !seen.contains(&counter) && counter + WINDOW > newest;
                prop_assert_eq!(window.take(counter), expected, "{} at {}", counter, newest);
                seen.insert(counter);
                newest = newest.max(counter);
            }
        }

        #[test]
        fn those_taken_together_are_as_if_taken_one_by_one(
            steps in prop::collection::vec((-100i64..5000, 0u64..70), 1..60)
        ) {
            let [mut together, mut one_by_one] = [(); 2].map(|()| ReplayWindow::default());
            for (step, count) in steps {
                let first = together.next.saturating_add_signed(if step > 300 { 0 } else { step });
                let are_newest = first >= together.next && (1..=64).contains(&count);
                prop_assert_eq!(together.take_newest(first, count), are_newest, "{} of {}", count, first);
                if are_newest {
                    prop_assert!((first..first + count).all(|counter| one_by_one.take(counter)));
                }
                prop_assert_eq!((together.next, together.newest), (one_by_one.next, one_by_one.newest));
                prop_assert_eq!(together.lanes, one_by_one.lanes);
            }
        }
    }
}
