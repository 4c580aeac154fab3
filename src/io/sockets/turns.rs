//! Who is read next: equal shares of the work for every queue that has something, and a share of its own for control.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996) over what was read. Each queue has a clock that runs with the work that it
//! made; the one whose clock is furthest behind is next. A queue that was idle begins where the clock of all is now: it waits
//! for at most one batch of another, and saves nothing up. Queues are of two kinds: those that bring what makes and keeps tunnels
//! (handshakes, IKE) are first as long as they make less than a quarter of the work, so that neither data nor made-up
//! handshakes can keep the other from being read.

/// The two kinds.
const CONTROL: usize = 0;
const DATA: usize = 1;
/// The clock of control runs so much faster than that of data: 3 to 1 is a quarter.
const PACE: [u64; 2] = [3, 1];

/// Work is in units of about a nanosecond of one core.
#[derive(Debug)]
pub struct Turns<const QUEUES: usize> {
    /// When each may begin again.
    next: [u64; QUEUES],
    /// When the one that was read last began; of each kind.
    now: [u64; 2],
    /// The same of the two kinds among each other.
    next_of_kind: [u64; 2],
    now_of_all: u64,
    /// Bit n: queue n is control.
    control: u128,
}

impl<const QUEUES: usize> Default for Turns<QUEUES> {
    fn default() -> Self {
        let () = Self::CHECKED;
        Turns { next: [0; QUEUES], now: [0; 2], next_of_kind: [0; 2], now_of_all: 0, control: 0 }
    }
}

impl<const QUEUES: usize> Turns<QUEUES> {
    /// Every queue has a bit.
    const CHECKED: () = assert!(QUEUES <= u128::BITS as usize);

    /// Which of the queues are control.
    pub fn set_control(&mut self, queues: u128) {
        self.control = queues;
    }

    pub fn is_control(&self, queue: usize) -> bool {
        self.control & (1 << queue) != 0
    }

    /// Of those whose bit is set, the one to be read. Of equals the lowest.
    pub fn next_of(&self, waiting: u128) -> Option<usize> {
        let of_kinds = [waiting & self.control, waiting & !self.control];
        let behind = |kind: usize| self.next_of_kind[kind].max(self.now_of_all);
        let kinds = [CONTROL, DATA].into_iter().filter(|kind| of_kinds[*kind] != 0);
        let kind = kinds.min_by_key(|kind| behind(*kind))?;
        bits(of_kinds[kind]).min_by_key(|queue| self.next[*queue].max(self.now[kind]))
    }

    /// It was read, and made this much work.
    pub fn charge(&mut self, queue: usize, work: u64) {
        let kind = if self.is_control(queue) { CONTROL } else { DATA };
        self.now[kind] = self.next[queue].max(self.now[kind]);
        self.next[queue] = self.now[kind] + work;
        self.now_of_all = self.next_of_kind[kind].max(self.now_of_all);
        self.next_of_kind[kind] = self.now_of_all + work * PACE[kind];
    }
}

/// The numbers of the bits that are set, lowest first.
pub fn bits(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_control(control: u128) -> Turns<8> {
        Turns { control, ..Turns::default() }
    }

    /// Reads `rounds` times, of queues that always have something; what each has made.
    fn work_of(turns: &mut Turns<8>, waiting: u128, rounds: usize, work: impl Fn(usize) -> u64) -> [u64; 8] {
        let mut made = [0; 8];
        for _ in 0..rounds {
            let queue = turns.next_of(waiting).unwrap();
            turns.charge(queue, work(queue));
            made[queue] += work(queue);
        }
        made
    }

    #[test]
    fn queues_make_the_same_work_whatever_each_reading_makes() {
        let mut turns = with_control(0);
        let made = work_of(&mut turns, 0b1011, 10_000, |queue| [100, 700, 0, 2_300, 0, 0, 0, 0][queue]);
        assert_eq!(made[2], 0, "it has nothing");
        let [least, most] = [made[0].min(made[1]).min(made[3]), made[0].max(made[1]).max(made[3])];
        assert!(most - least <= 2 * 2_300, "{made:?}");
    }

    #[test]
    fn a_queue_that_was_idle_is_next_and_has_saved_nothing_up() {
        let mut turns = with_control(0);
        work_of(&mut turns, 0b1000, 1_000, |_| 5_000);
        assert_eq!(turns.next_of(0b1001), Some(0));
        let made = work_of(&mut turns, 0b1001, 100, |_| 5_000);
        assert!(made[0].abs_diff(made[3]) <= 10_000, "{made:?}");
    }

    #[test]
    fn control_is_first_but_makes_no_more_than_a_quarter_of_the_work() {
        let mut turns = with_control(0b1);
        work_of(&mut turns, 0b1110, 1_000, |_| 5_000);
        assert_eq!(turns.next_of(0b1111), Some(0));
        let made = work_of(&mut turns, 0b1111, 40_000, |queue| if queue == 0 { 100 } else { 5_000 });
        let (control, data) = (made[0], made[1] + made[2] + made[3]);
        assert!(control * 3 <= data + 20_000 && control * 3 + 20_000 >= data, "{made:?}");
        // Alone it may have all.
        assert_eq!(work_of(&mut turns, 0b1, 10, |_| 100)[0], 1_000);
        assert_eq!(turns.next_of(0b10), Some(1));
        assert_eq!(turns.next_of(0), None);
    }

    #[test]
    fn little_control_waits_for_nobody() {
        let mut turns = with_control(0b1);
        for _ in 0..1_000 {
            work_of(&mut turns, 0b110, 10, |_| 5_000);
            assert_eq!(turns.next_of(0b111), Some(0));
            turns.charge(0, 10_000);
        }
    }
}
