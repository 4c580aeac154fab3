//! Packets that wait for a neighbour to answer: few, in order, and their buffers used again.

use std::collections::VecDeque;

/// Of all neighbours of a port together.
pub(super) const MAX_WAITING: usize = 64;
/// RFC 4861 section 7.2.2 asks for at least one.
pub(super) const MAX_WAITING_PER_NEIGHBOUR: usize = 3;
/// Buffers that are kept for the next ones.
const MAX_SPARE: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The neighbour's slot, and the packet.
    packets: VecDeque<(u16, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// `false`: too many wait already.
    pub fn push(&mut self, slot: u16, packet: &[u8]) -> bool {
        let of_slot = self.packets.iter().filter(|(of, _)| *of == slot).count();
        if self.packets.len() >= MAX_WAITING || of_slot >= MAX_WAITING_PER_NEIGHBOUR {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.packets.push_back((slot, buffer));
        true
    }

    /// Hands all packets of a neighbour over, in the order in which they came. How many.
    pub fn release(&mut self, slot: u16, mut each: impl FnMut(&[u8])) -> usize {
        let before = self.packets.len();
        let mut kept = 0;
        for _ in 0..before {
            let Some((of, packet)) = self.packets.pop_front() else { break };
            if of != slot {
                self.packets.push_back((of, packet));
                kept += 1;
                continue;
            }
            each(&packet);
            if self.spare.len() < MAX_SPARE {
                self.spare.push(packet);
            }
        }
        before - kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(waiting: &mut Waiting, slot: u16) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let count = waiting.release(slot, |packet| all.push(packet.to_vec()));
        assert_eq!(count, all.len());
        all
    }

    #[test]
    fn packets_leave_in_order_and_others_stay_in_theirs() {
        let mut waiting = Waiting::default();
        for (slot, byte) in [(1, 10), (2, 20), (1, 11), (2, 21), (1, 12)] {
            assert!(waiting.push(slot, &[byte]));
        }
        assert_eq!(released(&mut waiting, 1), [[10], [11], [12]]);
        assert!(waiting.push(2, &[22]));
        assert_eq!(released(&mut waiting, 2), [[20], [21], [22]]);
        assert_eq!((waiting.len(), released(&mut waiting, 2).len()), (0, 0));
    }

    #[test]
    fn both_bounds_are_kept() {
        let mut waiting = Waiting::default();
        let taken = |waiting: &mut Waiting, slot| (0..5).filter(|_| waiting.push(slot, &[0; 1500])).count();
        assert_eq!(taken(&mut waiting, 0), MAX_WAITING_PER_NEIGHBOUR);
        let all: usize = (1..100).map(|slot| taken(&mut waiting, slot)).sum();
        assert_eq!((all + MAX_WAITING_PER_NEIGHBOUR, waiting.len()), (MAX_WAITING, MAX_WAITING));
        (0..100).for_each(|slot| assert!(waiting.release(slot, |_| ()) <= MAX_WAITING_PER_NEIGHBOUR));
        assert_eq!((waiting.len(), waiting.spare.len()), (0, MAX_SPARE));
    }
}
