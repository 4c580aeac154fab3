//! Packets that wait for a neighbour to answer: few, in order, and their buffers used again.

use std::collections::VecDeque;

use crate::net::RealmId;

/// Of all neighbours of a port together.
pub(super) const MAX_WAITING: usize = 64;
/// RFC 4861 section 7.2.2 asks for at least one.
pub(super) const MAX_WAITING_PER_NEIGHBOUR: usize = 3;
/// Packets of one realm.
pub(super) const MAX_WAITING_PER_ASKER: usize = MAX_WAITING / 4;
/// Buffers that are kept for the next ones.
const MAX_SPARE: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The neighbour's slot, whose packet it is, and the packet.
    packets: VecDeque<(u16, RealmId, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// `false`: too many wait already.
    pub fn push(&mut self, slot: u16, by: RealmId, packet: &[u8]) -> bool {
        let of_slot = self.packets.iter().filter(|(of, ..)| *of == slot).count();
        let of_realm = self.packets.iter().filter(|(_, of, _)| *of == by).count();
        if self.packets.len() >= MAX_WAITING
            || of_slot >= MAX_WAITING_PER_NEIGHBOUR
            || of_realm >= MAX_WAITING_PER_ASKER
        {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.packets.push_back((slot, by, buffer));
        true
    }

    /// Hands all packets of a neighbour over, in the order in which they came. How many.
    pub fn release(&mut self, slot: u16, mut each: impl FnMut(&[u8])) -> usize {
        let before = self.packets.len();
        let mut kept = 0;
        for _ in 0..before {
            let Some((of, by, packet)) = self.packets.pop_front() else { break };
            if of != slot {
                self.packets.push_back((of, by, packet));
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
            assert!(waiting.push(slot, RealmId(1), &[byte]));
        }
        assert_eq!(released(&mut waiting, 1), [[10], [11], [12]]);
        assert!(waiting.push(2, RealmId(1), &[22]));
        assert_eq!(released(&mut waiting, 2), [[20], [21], [22]]);
        assert_eq!((waiting.len(), released(&mut waiting, 2).len()), (0, 0));
    }

    #[test]
    fn all_bounds_are_kept() {
        let mut waiting = Waiting::default();
        let by = |slot: u16| RealmId(slot / 20);
        let taken = |waiting: &mut Waiting, slot| (0..5).filter(|_| waiting.push(slot, by(slot), &[0; 1500])).count();
        assert_eq!(taken(&mut waiting, 0), MAX_WAITING_PER_NEIGHBOUR);
        let of_realm: usize = (1..20).map(|slot| taken(&mut waiting, slot)).sum();
        assert_eq!(of_realm + MAX_WAITING_PER_NEIGHBOUR, MAX_WAITING_PER_ASKER);
        let all: usize = (20..100).map(|slot| taken(&mut waiting, slot)).sum();
        assert_eq!((all + MAX_WAITING_PER_ASKER, waiting.len()), (MAX_WAITING, MAX_WAITING));
        (0..100).for_each(|slot| assert!(waiting.release(slot, |_| ()) <= MAX_WAITING_PER_NEIGHBOUR));
        assert_eq!((waiting.len(), waiting.spare.len()), (0, MAX_SPARE));
    }
}
