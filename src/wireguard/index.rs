//! Receiver indices: which tunnel a message is for.
//!
//! WireGuard lets each side choose a 32-bit index for each session, which the other side then writes into every message.
//! Ours are random and each is used once, so an outsider can neither guess one nor count our sessions, and a message for
//! the tunnel that had a number before is an unknown session, and not a failed decryption of its successor's. An index
//! leads to its tunnel here; which of the tunnel's few sessions (or its initiation under way) it stands for, the tunnel
//! knows.
//!
//! ```text
//! entries   | index, tunnel | index, tunnel |   (empty)    | ...     a ring, at most half full
//! ```
//!
//! An index lies at its own lower bits, or behind, with nothing empty in between. As they are random they spread by
//! themselves, and one cache line answers nearly every question; as they are ours, nobody can choose ones that collide.

use crate::net::TunnelId;

/// Tunnels that one endpoint can have.
pub const MAX_TUNNELS: usize = 1 << 16;
/// Indices that one tunnel can have at a time: previous, current and next session, and an initiation under way.
pub const MAX_PER_TUNNEL: usize = 4;
const MIN_ENTRIES: usize = 16;

#[derive(Clone, Copy)]
struct Entry {
    index: u32,
    tunnel: TunnelId,
}

impl Entry {
    const EMPTY: Entry = Entry { index: 0, tunnel: TunnelId::NONE };

    fn is_empty(&self) -> bool {
        self.tunnel == TunnelId::NONE
    }
}

pub struct IndexTable {
    /// A power of two of them.
    entries: Box<[Entry]>,
    used: usize,
}

impl Default for IndexTable {
    fn default() -> Self {
        IndexTable { entries: [Entry::EMPTY; MIN_ENTRIES].into(), used: 0 }
    }
}

impl IndexTable {
    /// An index that is not in use, for the tunnel, from a random number: nearly always that number itself.
    pub fn assign(&mut self, tunnel: TunnelId, random: u32) -> u32 {
        debug_assert!(self.used < MAX_TUNNELS * MAX_PER_TUNNEL, "somebody does not release indices");
        if 2 * (self.used + 1) > self.entries.len() {
            self.grow();
        }
        let mut index = random;
        while self.tunnel_of(index).is_some() {
            index = index.wrapping_add(1);
        }
        self.insert(Entry { index, tunnel });
        self.used += 1;
        index
    }

    /// The tunnel that a receiver index off the wire is for.
    #[inline]
    pub fn tunnel_of(&self, receiver_index: u32) -> Option<TunnelId> {
        let mut place = self.home_of(receiver_index);
        loop {
            let entry = self.entries[place];
            if entry.is_empty() {
                return None;
            }
            if entry.index == receiver_index {
                return Some(entry.tunnel);
            }
            place = self.behind(place);
        }
    }

    /// Forgets an index. Those behind move up, so that nothing empty comes between an index and its home.
    pub fn release(&mut self, index: u32) {
        let mut hole = self.home_of(index);
        while self.entries[hole].index != index || self.entries[hole].is_empty() {
            if self.entries[hole].is_empty() {
                return;
            }
            hole = self.behind(hole);
        }
        let mut place = self.behind(hole);
        while !self.entries[place].is_empty() {
            let home = self.home_of(self.entries[place].index);
            if self.distance(home, place) >= self.distance(hole, place) {
                self.entries[hole] = self.entries[place];
                hole = place;
            }
            place = self.behind(place);
        }
        self.entries[hole] = Entry::EMPTY;
        self.used -= 1;
    }

    /// Indices in use.
    pub fn len(&self) -> usize {
        self.used
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    fn insert(&mut self, entry: Entry) {
        let mut place = self.home_of(entry.index);
        while !self.entries[place].is_empty() {
            place = self.behind(place);
        }
        self.entries[place] = entry;
    }

    fn grow(&mut self) {
        let larger = vec![Entry::EMPTY; 2 * self.entries.len()].into();
        let entries = std::mem::replace(&mut self.entries, larger);
        entries.into_iter().filter(|entry| !entry.is_empty()).for_each(|entry| self.insert(entry));
    }

    #[inline]
    fn home_of(&self, index: u32) -> usize {
        index as usize & (self.entries.len() - 1)
    }

    #[inline]
    fn behind(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    /// Steps from one place to another behind it.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_leads_to_its_tunnel_until_it_is_released() {
        let mut table = IndexTable::default();
        let first = table.assign(TunnelId(7), 0xdead_beef);
        assert_eq!(first, 0xdead_beef);
        let other = table.assign(TunnelId(3), 0xdead_beef);
        assert_ne!(other, first, "in use already");
        assert_eq!(table.tunnel_of(first), Some(TunnelId(7)));
        assert_eq!(table.tunnel_of(other), Some(TunnelId(3)));
        table.release(first);
        assert_eq!((table.tunnel_of(first), table.tunnel_of(other)), (None, Some(TunnelId(3))));
        table.release(first);
        assert_eq!(table.len(), 1, "an unknown index is nobody's");
        assert_eq!(IndexTable::default().tunnel_of(0), None);
    }

    #[test]
    fn the_largest_table_has_room_for_every_tunnel() {
        let mut table = IndexTable::default();
        let count = (MAX_TUNNELS * MAX_PER_TUNNEL) as u32;
        let number = |n: u32| n.wrapping_mul(0x9e37_79b9);
        for n in 0..count {
            table.assign(TunnelId(n / MAX_PER_TUNNEL as u32), number(n));
        }
        assert_eq!(table.entries.len(), 2 * count as usize);
        assert!((0..count).all(|n| table.tunnel_of(number(n)) == Some(TunnelId(n / MAX_PER_TUNNEL as u32))));
        (0..count).for_each(|n| table.release(number(n)));
        assert!(table.is_empty() && table.entries.iter().all(Entry::is_empty));
    }

    proptest! {
        /// Few different numbers, so that they collide as random ones hardly ever do.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u32..48, any::<bool>()), 1..400)) {
            let (mut table, mut map) = (IndexTable::default(), BTreeMap::new());
            for (number, assign) in steps {
                if assign {
                    let index = table.assign(TunnelId(number), number * 16);
                    prop_assert!(map.insert(index, TunnelId(number)).is_none(), "{} was in use", index);
                } else {
                    table.release(number * 16);
                    map.remove(&(number * 16));
                }
                prop_assert_eq!(table.len(), map.len());
                for (index, tunnel) in &map {
                    prop_assert_eq!(table.tunnel_of(*index), Some(*tunnel));
                }
                prop_assert_eq!(table.tunnel_of(u32::MAX), None);
            }
        }
    }
}
