//! Which size to ask the path about next (RFC 8899 section 5.3). Pure arithmetic: who asks, and when, is not its matter.
//!
//! The size that the tunnel would use at most is asked about first, so a path that carries it costs one question. Below,
//! sizes that networks have are tried before all others, halving what is left; what no network has in common is found to
//! [`STEP_BYTES`].

use std::ops::RangeInclusive;

/// BASE_PLPMTU (RFC 8899 section 5.1.2): the IPv6 minimum. Not asked about; below it nothing is searched.
pub const BASE_BYTES: u16 = 1280;
/// MAX_PROBES (section 5.1.2): so many of one size are lost before it is too large.
const MAX_PROBES: u32 = 3;
/// What is not known in the end.
const STEP_BYTES: u16 = 16;
/// A cipher's blocks make a probe at most so much longer or shorter than asked.
const BLOCK_BYTES: u16 = 16;
/// What Ethernet carries: a probe is not rounded up beyond it.
const ETHERNET_BYTES: u16 = 1500;
/// MTUs that networks have: Ethernet, PPPoE, tunnels over either, and what operators set where they do not know.
const COMMON_BYTES: [u16; 14] = [1300, 1320, 1340, 1360, 1380, 1400, 1420, 1436, 1444, 1452, 1460, 1472, 1480, 1492];

/// Of outer IP packets, in bytes.
#[derive(Clone, Debug)]
pub struct Search {
    /// The longest that has arrived.
    proven: u16,
    /// The longest that need not be asked about any more.
    low: u16,
    /// The shortest that is too long.
    high: u16,
    asked: u16,
    /// Of the size at hand.
    lost: u32,
    /// A router has said so (RFC 8899 section 4.6): to be tried, not to be believed.
    hint: Option<u16>,
    /// What was found the last time.
    prior: Option<u16>,
    /// Only whether the path still carries what it did.
    verifies: bool,
}

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Ask,
    /// So much is too long; ask on.
    TooLong(u16),
    Done,
    /// The same, and so much was too long.
    DoneTooLong(u16),
}

impl Search {
    /// For the longest packet up to `top` that arrives. `prior`: it was so much once.
    pub fn new(top: u16, prior: Option<u16>) -> Self {
        let high = top.saturating_add(1);
        let prior = prior.filter(|prior| *prior < top);
        Search { proven: BASE_BYTES, low: BASE_BYTES, high, asked: top, lost: 0, hint: None, prior, verifies: false }
    }

    /// Whether `current` still arrives, because somebody says that no more than `hint` does. Searches below if not.
    pub fn verify(top: u16, current: u16, hint: u16) -> Self {
        Search { asked: current, hint: Some(hint), verifies: true, ..Search::new(top, None) }
    }

    /// The longest that has arrived, but not below [`BASE_BYTES`].
    pub fn proven(&self) -> u16 {
        self.proven
    }

    pub fn hint(&mut self, mtu: u16) {
        self.hint = Some(mtu);
    }

    /// A hint that is below what is being asked about.
    pub fn hint_below(&self, size: u16) -> Option<u16> {
        self.hint.filter(|hint| *hint < size)
    }

    /// A size in this range, or else the next smaller.
    pub fn question(&self) -> RangeInclusive<u16> {
        self.asked..=self.asked.max(ETHERNET_BYTES.min(self.asked.saturating_add(BLOCK_BYTES - 1)))
    }

    /// An outer packet of `size` has arrived, or has not.
    pub fn answer(&mut self, size: u16, arrived: bool) -> Step {
        if arrived {
            self.proven = self.proven.max(size);
        }
        if size.abs_diff(self.asked) >= BLOCK_BYTES {
            return Step::Ask; // of an earlier question
        }
        if arrived {
            self.low = self.asked.max(self.low);
            return match self.verifies {
                true => Step::Done,
                false => {
                    if self.next() {
                        Step::Ask
                    } else {
                        Step::Done
                    }
                }
            };
        }
        self.lost += 1;
        // A router's word and a lost probe together are enough.
        let enough = if self.hint_below(self.asked).is_some() { 1 } else { MAX_PROBES };
        if self.lost < enough {
            return Step::Ask;
        }
        let too_long = self.asked;
        self.verifies = false;
        self.high = too_long;
        if self.next() { Step::TooLong(too_long) } else { Step::DoneTooLong(too_long) }
    }

    /// `false`: nothing is left to be asked.
    fn next(&mut self) -> bool {
        self.lost = 0;
        let (low, high) = (self.low, self.high);
        let is_open = |size: &u16| (low + 1..high).contains(size);
        let common: Vec<u16> = COMMON_BYTES.into_iter().filter(is_open).collect();
        let between = (high.saturating_sub(low) > STEP_BYTES).then(|| low + (high - low) / 2);
        let next = self.prior.take().filter(is_open);
        let next = next.or(self.hint.filter(is_open)).or(common.get(common.len() / 2).copied()).or(between);
        self.asked = next.unwrap_or(self.asked);
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a path that carries `mtu`, with probes in steps of `block` bytes: what was proven, and the questions.
    fn run(mut search: Search, mtu: u16, block: u16) -> (u16, u32) {
        for asked in 0..100 {
            let (least, most) = search.question().into_inner();
            let above = least.next_multiple_of(block);
            let size = if above <= most { above } else { least - least % block };
            match search.answer(size, size <= mtu) {
                Step::Done | Step::DoneTooLong(_) => return (search.proven(), asked + 1),
                Step::Ask | Step::TooLong(_) => {}
            }
        }
        panic!("it never ends: {search:?}");
    }

    #[test]
    fn a_path_that_carries_all_costs_one_question() {
        assert_eq!(run(Search::new(1484, None), 1500, 4), (1484, 1));
        assert_eq!(run(Search::new(1484, None), 9000, 16), (1488, 1), "rounded up while Ethernet carries it");
        assert_eq!(run(Search::new(1500, None), 1500, 16), (1488, 1), "else down");
        assert_eq!(run(Search::new(1984, None), 9000, 4), (1984, 1));
    }

    /// Every MTU, every rounding: never more than the path carries, hardly less, and in few questions.
    #[test]
    fn finds_what_any_path_carries() {
        for top in [1340, 1484, 1500, 1984] {
            for mtu in 1280..=1500 {
                for block in [1, 4, 16] {
                    let (found, asked) = run(Search::new(top, None), mtu, block);
                    assert!(found <= mtu, "{top} {mtu} {block} {found}");
                    let wanted = mtu.min(top);
                    assert!(found + STEP_BYTES + block > wanted, "{top} {mtu} {block}: {found}");
                    assert!(asked <= 24, "{top} {mtu} {block}: {asked} questions");
                }
            }
        }
        for mtu in COMMON_BYTES {
            assert_eq!(run(Search::new(1500, None), mtu, 4).0, mtu, "what networks have is found exactly");
        }
    }

    #[test]
    fn three_losses_make_a_size_too_long_and_one_does_with_a_routers_word() {
        let mut search = Search::new(1484, None);
        assert_eq!([(); 3].map(|()| search.answer(1484, false)), [Step::Ask, Step::Ask, Step::TooLong(1484)]);
        let mut search = Search::new(1484, None);
        search.hint(1400);
        assert_eq!(search.answer(1484, false), Step::TooLong(1484));
        assert_eq!(*search.question().start(), 1400, "and its word is tried next");
        let mut search = Search::new(1484, None);
        search.hint(1484);
        assert_eq!(search.answer(1484, false), Step::Ask, "a word that says nothing new");
    }

    #[test]
    fn what_was_found_before_is_asked_about_second() {
        let mut search = Search::new(1484, Some(1430));
        assert_eq!([(); 3].map(|()| search.answer(1484, false))[2], Step::TooLong(1484));
        assert_eq!(*search.question().start(), 1430);
        assert_eq!(search.answer(1430, true), Step::Ask);
        assert!(*search.question().start() > 1430, "and then upwards");
    }

    #[test]
    fn a_forged_word_is_refuted_by_one_probe() {
        let mut search = Search::verify(1484, 1484, 1280);
        assert_eq!(search.answer(1484, true), Step::Done);
        assert_eq!(search.proven(), 1484);
        let mut search = Search::verify(1484, 1430, 1300);
        assert_eq!(search.answer(1430, true), Step::Done, "upwards is not looked because of it");
        let mut search = Search::verify(1484, 1484, 1400);
        assert_eq!(search.answer(1484, false), Step::TooLong(1484));
        assert_eq!(search.answer(1400, true), Step::Ask);
    }

    #[test]
    fn a_late_answer_to_an_earlier_question_decides_nothing() {
        let mut search = Search::new(1484, None);
        for _ in 0..10 {
            assert_eq!(search.answer(1400, false), Step::Ask);
        }
        assert_eq!((search.answer(1400, true), search.proven()), (Step::Ask, 1400), "but what has arrived has arrived");
    }
}
