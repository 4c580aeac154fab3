//! The anti-replay window (RFC 4303 section 3.4.3), and the high half of extended sequence numbers (Appendix A).
//!
//! A ring of 64-bit lanes, in the manner of RFC 6479: a lane holds the bits of 64 consecutive sequence numbers, and moving
//! the window forward clears whole lanes instead of shifting bits. There is one lane more than the window needs, because
//! a window seldom begins where a lane does.
//!
//! ```text
//!        bottom                top
//!  ......|---------------------|........................   sequence numbers
//!    [lane 2][lane 3][lane 0][lane 1]                      lane = (sequence / 64) mod lanes
//! ```
//!
//! The lane that holds the top is not in the ring but beside it: packets that come in order, nearly all, ask for nothing else. It goes to
//! its place when the top leaves it.
//!
//! Nobody may move the window by a packet that did not authenticate: [`ReplayWindow::accepts`] looks, [`ReplayWindow::take`]
//! comes after the integrity check.

/// Smallest and largest window, in packets (RFC 4303 section 3.4.3: at least 32, 64 recommended).
pub const MIN_WINDOW_PACKETS: u32 = 64;
pub const MAX_WINDOW_PACKETS: u32 = 8192;

const LANE_BITS: u64 = 64;

#[derive(Debug)]
#[repr(C)]
pub(super) struct ReplayWindow {
    /// The highest sequence number that authenticated; 0: none yet.
    top: u64,
    /// The lane that it is in.
    newest: u64,
    window_packets: u64,
    /// A power of two of them. In the newest one's place is an old one that nobody asks for.
    lanes: Box<[u64]>,
}

/// [`ReplayWindow::recover`], by the highest number that authenticated.
#[inline]
pub(super) fn recover(top: u64, window_packets: u64, low: u32) -> u64 {
    let bottom = top.saturating_sub(window_packets - 1);
    // Beyond 2^64 it wraps to a number below the bottom, which is then refused.
    bottom.wrapping_add(u64::from(low.wrapping_sub(bottom as u32)))
}

impl ReplayWindow {
    /// `window_packets` is brought within the bounds above.
    pub fn new(window_packets: u32) -> Self {
        let window_packets = u64::from(window_packets.clamp(MIN_WINDOW_PACKETS, MAX_WINDOW_PACKETS));
        let lanes = (window_packets.div_ceil(LANE_BITS) as usize + 1).next_power_of_two();
        ReplayWindow { top: 0, newest: 0, window_packets, lanes: vec![0; lanes].into() }
    }

    pub fn top(&self) -> u64 {
        self.top
    }

    /// The whole of an extended sequence number of which `low` was transmitted: the only one with that low half among the
    /// 2^32 from the bottom of the window on. This is what the cases A and B of RFC 4303 Appendix A2.2 come to.
    #[inline]
    pub fn recover(&self, low: u32) -> u64 {
        recover(self.top, self.window_packets, low)
    }

    pub fn window_packets(&self) -> u64 {
        self.window_packets
    }

    /// Whether a packet with this sequence number may still come: neither seen before, nor older than the window. Zero is
    /// never sent (section 3.3.3).
    #[inline]
    pub fn accepts(&self, sequence: u64) -> bool {
        if sequence > self.top {
            return true;
        }
        sequence != 0 && self.top - sequence < self.window_packets && self.lane(sequence) & bit(sequence) == 0
    }

    /// Notes a packet that authenticated, if the window [`ReplayWindow::accepts`] it. Answers whether it is the newest so far.
    #[inline]
    pub fn take(&mut self, sequence: u64) -> Option<bool> {
        let is_newest = sequence > self.top;
        // The next one, as a rule, and not the first of its lane.
        if sequence.wrapping_sub(1) == self.top && !sequence.is_multiple_of(LANE_BITS) {
            self.top = sequence;
        } else if !self.accepts(sequence) {
            return None;
        } else if is_newest {
            self.advance(sequence);
        }
        self.note(lane_of(sequence), bit(sequence));
        Some(is_newest)
    }

    /// Notes so many packets that authenticated, at most [`LANE_BITS`], with sequence numbers behind one another, if all of them are newer than any
    /// before.
    #[inline]
    pub fn take_newest(&mut self, first: u64, count: u64) -> bool {
        let is_newest = first > self.top && (1..=LANE_BITS).contains(&count);
        let Some(last) = first.checked_add(count.saturating_sub(1)).filter(|_| is_newest) else { return false };
        self.advance(last);
        let bits = u128::from(u64::MAX >> (LANE_BITS - count)) << (first % LANE_BITS);
        if lane_of(first) != lane_of(last) {
            self.note(lane_of(first), bits as u64);
            self.newest |= (bits >> LANE_BITS) as u64;
        } else {
            self.newest |= bits as u64;
        }
        true
    }

    #[inline]
    fn advance(&mut self, top: u64) {
        if lane_of(top) != lane_of(self.top) {
            self.enter(lane_of(top));
        }
        self.top = top;
    }

    /// The lane of the next top, which is above it.
    #[cold]
    fn enter(&mut self, lane: u64) {
        let before = lane_of(self.top);
        let place = self.place(before);
        self.lanes[place] = std::mem::take(&mut self.newest);
        let skipped = (lane - before - 1).min(self.lanes.len() as u64);
        for skipped in 1..=skipped {
            let place = self.place(before + skipped);
            self.lanes[place] = 0;
        }
    }

    /// Of a number that the window is asked for.
    #[inline]
    fn lane(&self, sequence: u64) -> u64 {
        let lane = lane_of(sequence);
        if lane == lane_of(self.top) { self.newest } else { self.lanes[self.place(lane)] }
    }

    #[inline]
    fn note(&mut self, lane: u64, bits: u64) {
        if lane == lane_of(self.top) {
            self.newest |= bits;
        } else {
            let place = self.place(lane);
            self.lanes[place] |= bits;
        }
    }

    /// Where a lane lies in the ring.
    #[inline]
    fn place(&self, lane: u64) -> usize {
        lane as usize & (self.lanes.len() - 1)
    }
}

/// Lanes counted without end.
#[inline]
fn lane_of(sequence: u64) -> u64 {
    sequence / LANE_BITS
}

#[inline]
fn bit(sequence: u64) -> u64 {
    1 << (sequence % LANE_BITS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The rule itself, without an idea of how to store it.
    struct Naive {
        window_packets: u64,
        seen: HashSet<u64>,
        top: u64,
    }

    impl Naive {
        fn take(&mut self, sequence: u64) -> bool {
            let fresh = sequence != 0
                && (sequence > self.top || sequence + self.window_packets > self.top)
                && !self.seen.contains(&sequence);
            if fresh {
                self.seen.insert(sequence);
                self.top = self.top.max(sequence);
            }
            fresh
        }
    }

    proptest! {
        #[test]
        fn decides_as_the_naive_model(
            window_packets in MIN_WINDOW_PACKETS..=MAX_WINDOW_PACKETS,
            start in prop_oneof![Just(0u64), Just(u64::from(u32::MAX) - 3000), any::<u32>().prop_map(u64::from)],
            steps in prop::collection::vec(
                prop_oneof![6 => -20i64..40, 2 => -9000i64..9000, 1 => Just(0), 1 => -70_000i64..70_000], 1..400),
        ) {
            let mut window = ReplayWindow::new(window_packets);
            let mut naive = Naive { window_packets: window_packets.into(), seen: HashSet::new(), top: 0 };
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                prop_assert_eq!(window.take(at).is_some(), naive.take(at), "{}", at);
                prop_assert_eq!(window.top(), naive.top);
            }
        }

        #[test]
        fn those_taken_together_are_as_if_taken_one_by_one(
            window_packets in MIN_WINDOW_PACKETS..=MAX_WINDOW_PACKETS,
            steps in prop::collection::vec((-100i64..5000, 0u64..70), 1..60),
        ) {
            let [mut together, mut one_by_one] = [(); 2].map(|()| ReplayWindow::new(window_packets));
            for (step, count) in steps {
                let first = (together.top + 1).saturating_add_signed(if step > 300 { 0 } else { step });
                let are_newest = first > together.top && (1..=64).contains(&count);
                prop_assert_eq!(together.take_newest(first, count), are_newest, "{} of {}", count, first);
                if are_newest {
                    prop_assert!((first..first + count).all(|sequence| one_by_one.take(sequence) == Some(true)));
                }
                prop_assert_eq!((together.top, together.newest), (one_by_one.top, one_by_one.newest));
                prop_assert_eq!(&together.lanes, &one_by_one.lanes);
            }
        }

        #[test]
        fn recovers_every_number_that_can_be_meant(
            window_packets in MIN_WINDOW_PACKETS..=MAX_WINDOW_PACKETS,
            top in prop_oneof![0u64..20_000, (1u64 << 32) - 20_000..(1 << 32) + 20_000, any::<u64>().prop_map(|n| n >> 1)],
            ahead in prop_oneof![0u64..20_000, 0u64..(1 << 32), (1u64 << 32) - 20_000..(1 << 32)],
        ) {
            let mut window = ReplayWindow::new(window_packets);
            if top > 0 {
                window.take(top);
            }
            let sequence = top.saturating_sub(u64::from(window_packets) - 1) + ahead;
            prop_assert_eq!(window.recover(sequence as u32), sequence);
        }
    }

    /// RFC 4303 Appendix A2.2, word for word: Th, Tl are the halves of the top, W the window.
    fn appendix_a(top: u64, window: u32, low: u32) -> u32 {
        let (th, tl) = ((top >> 32) as u32, top as u32);
        if tl >= window - 1 {
            if low >= tl - (window - 1) { th } else { th + 1 }
        } else if low >= tl.wrapping_sub(window).wrapping_add(1) {
            th.saturating_sub(1)
        } else {
            th
        }
    }

    #[test]
    fn recovers_as_the_text_of_the_appendix_says() {
        let window_packets = 1024;
        for top in
            [1 << 32, (1 << 32) + 500, (1 << 32) + 1023, (1 << 32) + 1024, (5 << 32) - 1, (7 << 32) + 0x8000_0000]
        {
            let mut window = ReplayWindow::new(window_packets);
            window.take(top);
            for low in [1, 499, 500, 1022, 1023, 1024, 2000, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1100, u32::MAX - 400]
            {
                let high = (window.recover(low) >> 32) as u32;
                assert_eq!(high, appendix_a(top, window_packets, low), "top {top:#x}, low {low:#x}");
            }
        }
    }

    #[test]
    fn the_end_of_the_number_space_is_no_way_back_into_the_window() {
        let mut window = ReplayWindow::new(64);
        window.take(u64::MAX - 5);
        assert_eq!(window.recover(u32::MAX), u64::MAX);
        assert!(!window.accepts(window.recover(7)));
        assert_eq!(window.take(u64::MAX), Some(true));
        assert!(!window.accepts(u64::MAX));
        assert!(window.accepts(u64::MAX - 1));
        assert!(!window.take_newest(u64::MAX, 2) && !window.take_newest(u64::MAX, 1));
    }

    #[test]
    fn a_window_is_never_smaller_or_larger_than_may_be() {
        for (asked, given) in [(0, 64), (64, 64), (1000, 1000), (8192, 8192), (u32::MAX, 8192)] {
            let mut window = ReplayWindow::new(asked);
            window.take(100_000);
            assert!(window.accepts(100_000 - given + 1) && !window.accepts(100_000 - given), "{asked}");
            assert!(window.lanes.len() <= 256);
        }
    }
}
