//! When which of many numbered things is due: a hierarchical timing wheel (Varghese and Lauck, 1987).
//!
//! ```text
//! level 0   64 slots of one tick       everything that is due before the next slot of level 1 begins
//! level 1   64 slots of 64 ticks       each is dealt out to level 0 when it begins
//! level 2   64 slots of 64^2 ticks     each to the two below, and so on
//! ```
//!
//! To set, to move and to take back a deadline cost the same few writes however many there are, and nothing is allocated but for
//! numbers that are larger than any before. A key has one deadline. Nothing comes early; everything comes at most a tick late.

use std::time::Duration;

use super::Timestamp;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const LEVELS: usize = 4;
/// No slot further ahead than this is told from the one that is now. What is later waits there, and is put further then.
const HORIZON_TICKS: u64 = ((SLOTS - 1) as u64) << (SLOT_BITS * (LEVELS as u32 - 1));
/// The list of what is due; those of the slots come before it.
const DUE: usize = LEVELS * SLOTS;
/// The nodes before those of keys are the ends of the lists.
const FIRST_KEY: usize = DUE + 1;
/// In no list.
const NOWHERE: u16 = u16::MAX;

/// The lists are rings through `nodes`, each closed by a node that is no key's.
#[derive(Clone, Copy, Debug)]
struct Node {
    before: u32,
    after: u32,
    /// In ticks.
    at: u64,
    list: u16,
}

/// Keys are small numbers: there is room for each up to the largest.
#[derive(Debug)]
pub struct TimerWheel {
    tick_micros: u64,
    /// What is due before this tick, or in it, has been found.
    elapsed: u64,
    /// A bit for each slot that is not empty, by level.
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
    len: usize,
}

impl TimerWheel {
    pub fn new(tick: Duration, now: Timestamp) -> Self {
        let tick_micros = (tick.as_micros() as u64).max(1);
        let end = |list: usize| Node { before: list as u32, after: list as u32, at: 0, list: list as u16 };
        TimerWheel {
            tick_micros,
            elapsed: now.as_micros() / tick_micros,
            occupied: [0; LEVELS],
            nodes: (0..FIRST_KEY).map(end).collect(),
            len: 0,
        }
    }

    /// Keys that have a deadline.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Replaces the deadline that `key` had.
    pub fn set(&mut self, key: usize, at: Timestamp) {
        let node = self.node_of(key);
        self.unlink(node);
        self.nodes[node].at = at.as_micros().div_ceil(self.tick_micros);
        self.place(node);
        self.len += 1;
    }

    /// The same, unless `key` has an earlier one.
    pub fn set_at_the_latest(&mut self, key: usize, at: Timestamp) {
        let node = self.node_of(key);
        let Node { list, at: before, .. } = self.nodes[node];
        if list == NOWHERE || before > at.as_micros().div_ceil(self.tick_micros) {
            self.set(key, at);
        }
    }

    pub fn cancel(&mut self, key: usize) {
        if FIRST_KEY + key < self.nodes.len() {
            self.unlink(FIRST_KEY + key);
        }
    }

    /// A key whose deadline is over, which it has no more.
    pub fn poll(&mut self, now: Timestamp) -> Option<usize> {
        if self.is_empty_list(DUE) {
            self.advance(now.as_micros() / self.tick_micros);
        }
        let first = self.nodes[DUE].after as usize;
        (first != DUE).then(|| {
            self.unlink(first);
            first - FIRST_KEY
        })
    }

    /// When to poll. Not after the earliest deadline, but before it where that is far.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let tick = if self.is_empty_list(DUE) { self.next_slot()?.2 } else { self.elapsed };
        Some(Timestamp::from_micros(tick.saturating_mul(self.tick_micros)))
    }

    fn node_of(&mut self, key: usize) -> usize {
        let node = FIRST_KEY + key;
        if self.nodes.len() <= node {
            self.nodes.resize(node + 1, Node { before: 0, after: 0, at: 0, list: NOWHERE });
        }
        node
    }

    /// Deals out every slot that has begun.
    fn advance(&mut self, now: u64) {
        while let Some((level, slot, begins)) = self.next_slot().filter(|(_, _, begins)| *begins <= now) {
            self.elapsed = begins;
            let list = level * SLOTS + slot;
            self.occupied[level] &= !(1 << slot);
            let mut node = self.nodes[list].after as usize;
            (self.nodes[list].before, self.nodes[list].after) = (list as u32, list as u32);
            while node != list {
                let after = self.nodes[node].after as usize;
                self.place(node);
                node = after;
            }
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// The level, the slot and the tick with which it begins. All of a level comes before anything of the next.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|occupied| *occupied != 0)?;
        let shift = SLOT_BITS * level as u32;
        let here = self.elapsed >> shift;
        let ahead = self.occupied[level].rotate_right(here as u32 % SLOTS as u32).trailing_zeros();
        let begins = here + u64::from(ahead);
        Some((level, begins as usize % SLOTS, begins << shift))
    }

    /// Into the list where it belongs now.
    fn place(&mut self, node: usize) {
        let at = self.nodes[node].at;
        if at <= self.elapsed {
            return self.link(DUE, node);
        }
        let at = at.min(self.elapsed + HORIZON_TICKS);
        // The highest bits in which it differs from now.
        let level = ((at ^ self.elapsed).ilog2() / SLOT_BITS).min(LEVELS as u32 - 1);
        let slot = (at >> (SLOT_BITS * level)) as usize % SLOTS;
        self.occupied[level as usize] |= 1 << slot;
        self.link(level as usize * SLOTS + slot, node);
    }

    /// At the end of a list.
    fn link(&mut self, list: usize, node: usize) {
        let last = std::mem::replace(&mut self.nodes[list].before, node as u32);
        self.nodes[last as usize].after = node as u32;
        let Node { at, .. } = self.nodes[node];
        self.nodes[node] = Node { before: last, after: list as u32, at, list: list as u16 };
    }

    fn unlink(&mut self, node: usize) {
        let Node { before, after, list, .. } = self.nodes[node];
        if list == NOWHERE {
            return;
        }
        self.nodes[before as usize].after = after;
        self.nodes[after as usize].before = before;
        self.nodes[node].list = NOWHERE;
        self.len -= 1;
        let list = usize::from(list);
        if list != DUE && self.is_empty_list(list) {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn is_empty_list(&self, list: usize) -> bool {
        self.nodes[list].after as usize == list
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    fn wheel() -> TimerWheel {
        TimerWheel::new(TICK, Timestamp::ZERO)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn due(wheel: &mut TimerWheel, millis: u64) -> Vec<usize> {
        std::iter::from_fn(|| wheel.poll(at(millis))).collect()
    }

    #[test]
    fn nothing_is_early_and_nothing_is_more_than_a_tick_late() {
        let mut wheel = wheel();
        wheel.set(7, at(101));
        assert!(due(&mut wheel, 149).is_empty());
        assert_eq!((wheel.poll_timeout(), wheel.len()), (Some(at(150)), 1));
        assert_eq!(due(&mut wheel, 150), [7]);
        assert_eq!((wheel.poll_timeout(), wheel.len()), (None, 0));
    }

    #[test]
    fn a_key_has_one_deadline_and_can_lose_it() {
        let mut wheel = wheel();
        wheel.set(0, at(100));
        wheel.set(0, at(60_000));
        wheel.set_at_the_latest(0, at(70_000));
        assert_eq!((due(&mut wheel, 59_999), wheel.len()), (vec![], 1));
        wheel.set_at_the_latest(0, at(60_000 - 1));
        wheel.set_at_the_latest(1, at(60_000));
        wheel.set(2, at(60_000));
        wheel.cancel(2);
        wheel.cancel(2);
        wheel.cancel(1000);
        assert_eq!(due(&mut wheel, 60_000), [0, 1]);
        wheel.set(3, at(0));
        wheel.cancel(3);
        assert_eq!((due(&mut wheel, 100_000), wheel.len()), (vec![], 0), "also one that is due");
    }

    #[test]
    fn what_is_due_comes_in_the_order_in_which_it_was_set_and_one_by_one() {
        let mut wheel = wheel();
        [5, 3, 4].into_iter().for_each(|key| wheel.set(key, at(100)));
        assert_eq!(wheel.poll(at(200)), Some(5));
        assert_eq!(wheel.poll_timeout(), Some(at(200)), "the others are due");
        wheel.set(5, at(200)); // behind those who have waited
        assert_eq!(due(&mut wheel, 200), [3, 4, 5]);
    }

    #[test]
    fn what_is_beyond_the_horizon_comes_in_time_too() {
        let mut wheel = wheel();
        let years = 10 * 365 * 86_400_000;
        wheel.set(0, at(years));
        wheel.set(1, Timestamp::from_micros(u64::MAX));
        let mut now = 0;
        while let Some(next) = wheel.poll_timeout().filter(|next| *next <= at(years)) {
            now = next.as_micros() / 1000;
            let due = due(&mut wheel, now);
            assert_eq!(due, if now == years { vec![0] } else { vec![] });
        }
        assert_eq!((now, wheel.len()), (years, 1));
    }

    #[test]
    fn a_wheel_in_use_allocates_nothing() {
        let mut wheel = wheel();
        wheel.set(9999, at(1));
        let (room, start) = (wheel.nodes.capacity(), wheel.nodes.as_ptr());
        for step in 0..100_000_u64 {
            wheel.set((step * 7919 % 10_000) as usize, at(step * 3 + step * 31 % 200_000));
            due(&mut wheel, step * 3);
        }
        assert_eq!((wheel.nodes.capacity(), wheel.nodes.as_ptr()), (room, start));
    }

    proptest! {
        /// Against a list of all deadlines, from any beginning; and whoever sleeps until `poll_timeout` misses nothing.
        #[test]
        fn agrees_with_a_list(
            start in 0u64..1 << 45,
            steps in prop::collection::vec((0usize..16, 0u32..34, any::<u64>(), 0u8..4), 1..120),
        ) {
            let mut now = Timestamp::from_micros(start);
            let mut wheel = TimerWheel::new(TICK, now);
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            let tick = TICK.as_micros() as u64;
            for (key, bits, random, what) in steps {
                let ahead = Duration::from_micros(random & ((1 << bits) - 1));
                match what {
                    0 => {
                        wheel.cancel(key);
                        model.remove(&key);
                    }
                    1 => {
                        wheel.set(key, now + ahead);
                        model.insert(key, (now + ahead).as_micros().div_ceil(tick));
                    }
                    2 => {
                        wheel.set_at_the_latest(key, now + ahead);
                        let at = (now + ahead).as_micros().div_ceil(tick);
                        model.entry(key).and_modify(|before| *before = at.min(*before)).or_insert(at);
                    }
                    _ => {
                        let earliest = model.values().min().map(|at| Timestamp::from_micros(at * tick));
                        prop_assert_eq!(wheel.poll_timeout().is_some(), earliest.is_some());
                        prop_assert!(wheel.poll_timeout() <= earliest.map(|earliest| earliest.max(now)), "{:?}", wheel.poll_timeout());
                        now = now + ahead;
                        let mut found: Vec<usize> = std::iter::from_fn(|| wheel.poll(now)).collect();
                        found.sort_unstable();
                        let is_due = |at: u64| at <= now.as_micros() / tick;
                        let due: Vec<usize> = model.iter().filter(|(_, at)| is_due(**at)).map(|(key, _)| *key).collect();
                        model.retain(|_, at| !is_due(*at));
                        prop_assert_eq!(found, due);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
