//! How much of a queue may be let in: the arithmetic, without the memory that it is about.
//!
//! *Admitted* counts what was let in, *allowed* is how far that may go: as far as has been read, and a window. Numbers wrap.

/// Datagrams that may wait in a queue. As many as its socket's buffer holds, about (8 MiB, some 768 bytes for each packet of 64 and 64 KiB for 44 joined
/// ones of 1,420), so that a burst is not shed that would have found room, whatever the worker is busy with.
pub const WINDOW: u64 = 8_192;
/// The same from when something was shed until the queue is empty again. Several batches of the worker; what waits is refilled at once, and as
/// it is little it waits in the processor's cache, and not for long.
pub const SHORT_WINDOW: u64 = 1_024;

/// Of so many datagrams that are read, of all queues, one may be let in by a share of a queue without credit,
pub const READ_FOR_ONE_SHARED: u64 = 16;
/// and not more than so many at once.
pub const MOST_SHARED: u64 = 256;

/// Of one queue, what the worker remembers.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    /// Of what was admitted, so much has been read, or is known to be lost.
    read: u64,
    /// At the last reading.
    shed: u64,
    window: u64,
}

impl Default for Credit {
    fn default() -> Self {
        Credit { read: 0, shed: 0, window: WINDOW }
    }
}

impl Credit {
    /// The new *allowed*, when so many were read and there are more. What was lost on the way is not known of until the queue is empty;
    /// what was counted as less than it was (joined by others than the kernel) lets in no more than fits.
    pub fn note_read(&mut self, admitted: u64, shed: u64, datagrams: u64) -> u64 {
        self.read = earlier(self.read.wrapping_add(datagrams), admitted);
        if self.shed != shed {
            (self.shed, self.window) = (shed, SHORT_WINDOW);
        }
        self.read.wrapping_add(self.window)
    }

    /// The same, when nothing is left in the queue: what was lost (a firewall, a checksum, a full buffer) is forgotten.
    pub fn note_empty(&mut self, admitted: u64, shed: u64) -> u64 {
        *self = Credit { read: admitted, shed, window: WINDOW };
        self.read.wrapping_add(self.window)
    }
}

/// The new *allowed* of all shares together, when `more` may be let in.
pub fn allow_shared(allowed: u64, admitted: u64, more: u64) -> u64 {
    earlier(allowed.wrapping_add(more), admitted.wrapping_add(MOST_SHARED))
}

/// Less than half of the window is left.
pub fn is_low(allowed: u64, admitted: u64) -> bool {
    (allowed.wrapping_sub(admitted) as i64) < WINDOW as i64 / 2
}

fn earlier(one: u64, other: u64) -> u64 {
    if (one.wrapping_sub(other) as i64) < 0 { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left.
    fn left(allowed: u64, admitted: u64) -> i64 {
        allowed.wrapping_sub(admitted) as i64
    }

    const STARTS: [u64; 4] = [0, u64::MAX - 5_000, u64::MAX - WINDOW, i64::MAX as u64 - 3];

    #[test]
    fn what_is_read_may_come_again_and_no_more() {
        for start in STARTS {
            let (mut credit, mut admitted) = (Credit::default(), start);
            assert_eq!(left(credit.note_empty(start, 0), admitted), WINDOW as i64);
            admitted = admitted.wrapping_add(6_000);
            assert_eq!(left(credit.note_read(admitted, 0, 1_000), admitted), WINDOW as i64 - 5_000, "from {start}");
            admitted = admitted.wrapping_add(WINDOW - 5_000);
            assert_eq!(left(credit.note_read(admitted, 0, 0), admitted), 0);
            assert_eq!(left(credit.note_read(admitted, 0, WINDOW), admitted), WINDOW as i64);
        }
    }

    #[test]
    fn from_when_something_is_shed_until_it_is_empty_little_may_wait() {
        for start in STARTS {
            let mut credit = Credit::default();
            credit.note_empty(start, 7);
            let mut admitted = start.wrapping_add(WINDOW);
            let mut allowed = credit.note_read(admitted, 8, 1_000);
            assert_eq!(left(allowed, admitted), 1_000 + SHORT_WINDOW as i64 - WINDOW as i64, "it has to be read first");
            allowed = credit.note_read(admitted, 8, WINDOW - 1_100);
            assert_eq!(left(allowed, admitted), SHORT_WINDOW as i64 - 100);
            admitted = allowed;
            assert_eq!(left(credit.note_read(admitted, 8, 64), admitted), 64, "nothing was shed, and it is not empty");
            assert_eq!(left(credit.note_empty(admitted, 9), admitted), WINDOW as i64);
            assert_eq!(left(credit.note_read(admitted.wrapping_add(100), 9, 0), admitted), WINDOW as i64);
        }
    }

    #[test]
    fn more_than_was_counted_lets_in_no_more_than_fits() {
        let admitted = u64::MAX - 10;
        let mut credit = Credit::default();
        credit.note_empty(admitted, 0);
        assert_eq!(left(credit.note_read(admitted, 0, 44), admitted), WINDOW as i64);
        let later = admitted.wrapping_add(100);
        assert_eq!(left(credit.note_read(later, 0, 10), later), WINDOW as i64 - 90);
    }

    #[test]
    fn shares_do_not_pile_up() {
        for start in STARTS {
            assert_eq!(left(allow_shared(start, start, 7), start), 7);
            assert_eq!(left(allow_shared(start.wrapping_add(250), start, 7), start), MOST_SHARED as i64);
            // A joined one goes as a whole.
            assert_eq!(left(allow_shared(start, start.wrapping_add(43), 3), start.wrapping_add(43)), -40);
        }
    }

    #[test]
    fn what_was_lost_is_forgotten_when_the_queue_is_empty() {
        let mut credit = Credit::default();
        credit.note_empty(u64::MAX - 100, 0);
        let admitted = (u64::MAX - 100).wrapping_add(WINDOW);
        let allowed = credit.note_read(admitted, 0, 2_000);
        assert_eq!(left(allowed, admitted), 2_000, "the others were lost");
        assert!(is_low(allowed, admitted));
        let allowed = credit.note_empty(admitted, 0);
        assert!(!is_low(allowed, admitted));
        let half = admitted.wrapping_add(WINDOW / 2);
        assert!(!is_low(allowed, half) && is_low(allowed, half.wrapping_add(1)));
    }
}
