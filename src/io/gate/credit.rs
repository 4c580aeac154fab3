//! How much of a queue may be let in: the arithmetic, without the memory that it is about.
//!
//! `admitted` counts what was let in, `allowed` is how far that may go. Numbers wrap.

/// Datagrams that may be on their way in one queue beside what was read of it. As many as its socket's buffer holds, about (8 MiB, some 768 bytes for
/// each packet of 64 and 64 KiB for 44 joined ones of 1,420), so that the gate sheds nothing that would have found room, whatever the worker is
/// busy with; and a batch of a worker is a hundredth of it.
pub const WINDOW: u64 = 8_192;

/// The new `allowed`, when so many have been read. What never arrived stays on the account until the queue is empty; what arrived twice over
/// (the kernel counted fewer than it joined) does not let in more than fits.
pub fn after_reading(allowed: u64, admitted: u64, read: u64) -> u64 {
    let (wanted, most) = (allowed.wrapping_add(read), when_empty(admitted));
    if is_behind(most, wanted) { most } else { wanted }
}

/// The same, when nothing is left in the queue: what was lost on the way (a firewall, a checksum, a full buffer) is forgotten.
pub fn when_empty(admitted: u64) -> u64 {
    admitted.wrapping_add(WINDOW)
}

/// Less than half of the window is left.
pub fn is_low(allowed: u64, admitted: u64) -> bool {
    is_behind(allowed, admitted.wrapping_add(WINDOW / 2))
}

fn is_behind(one: u64, other: u64) -> bool {
    (one.wrapping_sub(other) as i64) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left.
    fn credit(allowed: u64, admitted: u64) -> i64 {
        allowed.wrapping_sub(admitted) as i64
    }

    #[test]
    fn what_is_read_may_come_again_and_no_more() {
        for start in [0, u64::MAX - 5_000, u64::MAX - WINDOW, i64::MAX as u64 - 3] {
            let (mut allowed, mut admitted) = (when_empty(start), start);
            assert_eq!(credit(allowed, admitted), WINDOW as i64);
            admitted = admitted.wrapping_add(6_000);
            allowed = after_reading(allowed, admitted, 1_000);
            assert_eq!(credit(allowed, admitted), WINDOW as i64 - 5_000, "from {start}");
            admitted = admitted.wrapping_add(WINDOW - 5_000);
            assert_eq!(credit(allowed, admitted), 0);
            allowed = after_reading(allowed, admitted, WINDOW);
            assert_eq!(credit(allowed, admitted), WINDOW as i64);
        }
    }

    #[test]
    fn a_queue_is_never_ahead_by_more_than_the_window() {
        let admitted = u64::MAX - 10;
        let allowed = after_reading(when_empty(admitted), admitted, 44);
        assert_eq!(credit(allowed, admitted), WINDOW as i64);
        // One joined message went beyond.
        let beyond = admitted.wrapping_add(WINDOW + 40);
        assert_eq!(credit(after_reading(allowed, beyond, 10), beyond), -30);
    }

    #[test]
    fn what_was_lost_is_forgotten_when_the_queue_is_empty() {
        let (mut allowed, admitted) = (when_empty(u64::MAX - 100), (u64::MAX - 100).wrapping_add(WINDOW));
        allowed = after_reading(allowed, admitted, 2_000);
        assert_eq!(credit(allowed, admitted), 2_000, "the others were lost");
        assert!(is_low(allowed, admitted));
        allowed = when_empty(admitted);
        assert!(!is_low(allowed, admitted));
        assert!(!is_low(allowed, admitted.wrapping_add(WINDOW / 2)) && is_low(allowed, admitted.wrapping_add(WINDOW / 2 + 1)));
    }
}
