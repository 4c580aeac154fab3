//! The ways that whoever sends knows: of each remote the headers, ready to be copied, or that it is the sockets' matter.
//!
//! Bounded: at most [`MAX_WAYS`]; what was not used between two sweeps is given up. When there is no room, a new one takes the place of one that was not used
//! since the last sweep, or never but when it was made: whoever has a tunnel and sends from made-up addresses fills the table, and keeps nobody else out.

use std::collections::HashMap;

use super::headers::Template;
use crate::io::netlink::ways::{Key, MAX_WAYS, Way};

/// Entries looked at, for one to be replaced.
const MAX_LOOKS: usize = 64;

/// A known way, headers and all.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub device: u32,
    /// Of IP packets.
    pub mtu_bytes: usize,
    pub template: Template,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    /// `None`: not known yet, or there is none.
    ready: Option<Ready>,
    /// Since the last sweep.
    is_used: bool,
    /// Found but for the first time.
    is_known: bool,
    /// The number of the outbox that had something by this way for the sockets alone, the last time.
    held_back_in: u64,
}

/// The place of a way, good until the next change.
pub type Number = u32;

#[derive(Debug, Default)]
pub struct Ways {
    numbers: HashMap<Key, Number>,
    entries: Vec<Entry>,
    /// Consecutive runs often go the same way.
    latest: Option<(Key, Number)>,
    /// Where the next one to be replaced is looked for.
    hand: usize,
}

impl Ways {
    #[inline]
    pub fn find(&mut self, key: Key) -> Option<Number> {
        let number = match self.latest {
            Some((latest, number)) if latest == key => number,
            _ => *self.numbers.get(&key)?,
        };
        self.latest = Some((key, number));
        let entry = &mut self.entries[number as usize];
        (entry.is_used, entry.is_known) = (true, true);
        Some(number)
    }

    /// The same, and it does not count as used.
    pub fn peek(&self, key: &Key) -> Option<Number> {
        self.numbers.get(key).copied()
    }

    /// Where a new one may be. `None`: nowhere, as far as was looked.
    pub fn place(&mut self) -> Option<Number> {
        if self.entries.len() < MAX_WAYS {
            return Some(self.entries.len() as Number);
        }
        for _ in 0..MAX_LOOKS {
            let number = self.hand;
            self.hand = (self.hand + 1) % MAX_WAYS;
            let entry = &self.entries[number];
            if !(entry.is_used && entry.is_known) {
                return Some(number as Number);
            }
        }
        None
    }

    /// Whose place it is now.
    pub fn key_at(&self, place: Number) -> Option<Key> {
        self.entries.get(place as usize).map(|entry| entry.key)
    }

    /// From now on it is known that somebody wants to go there.
    pub fn insert(&mut self, place: Number, key: Key) {
        debug_assert!(!self.numbers.contains_key(&key));
        let entry = Entry { key, ready: None, is_used: true, is_known: false, held_back_in: 0 };
        match self.entries.get_mut(place as usize) {
            Some(there) => {
                self.numbers.remove(&there.key);
                *there = entry;
                self.latest = None;
            }
            None => self.entries.push(entry),
        }
        self.numbers.insert(key, place);
    }

    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Of a way that somebody wants to go; of others nothing is kept.
    pub fn set(&mut self, key: Key, way: Option<Way>) {
        let Some(number) = self.numbers.get(&key) else { return };
        self.entries[*number as usize].ready = way.and_then(|way| {
            let template = Template::new(&way, key.remote)?;
            Some(Ready { device: way.device, mtu_bytes: way.mtu_bytes as usize, template })
        });
    }

    #[inline]
    pub fn ready(&self, number: Number) -> Option<&Ready> {
        self.entries[number as usize].ready.as_ref()
    }

    /// What this outbox has for the way stays together, and is for the sockets.
    pub fn hold_back(&mut self, number: Number, outbox: u64) {
        self.entries[number as usize].held_back_in = outbox;
    }

    #[inline]
    pub fn is_held_back(&self, number: Number, outbox: u64) -> bool {
        self.entries[number as usize].held_back_in == outbox
    }

    /// Gives up what was not used since the last time.
    pub fn sweep(&mut self) -> Vec<Key> {
        self.latest = None;
        let unused = self.entries.extract_if(.., |entry| !std::mem::take(&mut entry.is_used));
        let forgotten: Vec<Key> = unused.map(|entry| entry.key).collect();
        if !forgotten.is_empty() {
            self.numbers.clear();
            self.numbers.extend(self.entries.iter().zip(0..).map(|(entry, number)| (entry.key, number)));
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::net::Mac;

    impl Ways {
        fn add(&mut self, key: Key) {
            let place = self.place().unwrap();
            self.insert(place, key);
        }
    }

    fn key(number: u32) -> Key {
        Key { remote: Ipv4Addr::from(0xcb00_7100 + number).into(), local: None }
    }

    fn way(last: u8) -> Option<Way> {
        let [device_mac, next_hop_mac] = [1, last].map(|last| Mac([2, 0, 0, 0, 0, last]));
        let source = "192.0.2.1".parse().unwrap();
        Some(Way { device: 7, device_mac, next_hop_mac, source, hop_limit: 64, mtu_bytes: 1500 })
    }

    #[test]
    fn a_way_is_ready_when_it_is_answered_and_no_longer_when_it_is_withdrawn() {
        let mut ways = Ways::default();
        assert_eq!(ways.find(key(1)), None);
        ways.set(key(1), way(9));
        assert_eq!(ways.find(key(1)), None, "nobody wanted it");
        ways.add(key(1));
        let number = ways.find(key(1)).unwrap();
        assert!(ways.ready(number).is_none());
        ways.set(key(1), way(9));
        assert_eq!(ways.ready(number).map(|ready| ready.template.overhead_bytes()), Some(28));
        let odd = way(9).map(|way| Way { source: "fd00::1".parse().unwrap(), ..way });
        for none in [None, odd] {
            ways.set(key(1), none);
            assert!(ways.ready(number).is_none());
        }
    }

    #[test]
    fn there_is_a_bound_and_what_is_unused_for_long_makes_room() {
        let mut ways = Ways::default();
        (0..MAX_WAYS as u32).for_each(|number| ways.add(key(number)));
        assert_eq!(ways.count(), MAX_WAYS);
        assert_eq!(ways.sweep(), []);
        for number in [5, 700, MAX_WAYS as u32 - 1] {
            assert_eq!(ways.find(key(number)), Some(number));
        }
        assert_eq!(ways.sweep().len(), MAX_WAYS - 3);
        ways.set(key(700), way(9));
        let number = ways.find(key(700)).unwrap();
        assert!(ways.ready(number).is_some() && ways.count() < MAX_WAYS);
        assert_eq!((ways.find(key(6)), ways.find(key(5)).is_some()), (None, true));
    }

    #[test]
    fn in_a_full_table_a_new_one_takes_the_place_of_one_that_nobody_uses() {
        let mut ways = Ways::default();
        let all = MAX_WAYS as u32;
        (0..all).for_each(|number| ways.add(key(number)));
        (0..all).filter(|number| *number != 7).for_each(|number| _ = ways.find(key(number)));
        let place = ways.place().unwrap();
        assert_eq!((place, ways.key_at(place)), (7, Some(key(7))), "made, and never used again");
        ways.insert(place, key(all));
        assert_eq!((ways.count(), ways.find(key(7)), ways.find(key(all))), (MAX_WAYS, None, Some(7)));
        assert!((0..MAX_WAYS / MAX_LOOKS).all(|_| ways.place().is_none()), "all are in use");
        assert_eq!(ways.sweep(), []);
        (0..40).for_each(|number| _ = ways.find(key(number)));
        assert_eq!(ways.place(), Some(40), "the others were used since the sweep");
    }

    #[test]
    fn what_is_held_back_is_so_for_one_outbox() {
        let mut ways = Ways::default();
        ways.add(key(1));
        let number = ways.find(key(1)).unwrap();
        ways.hold_back(number, 8);
        assert_eq!((ways.is_held_back(number, 8), ways.is_held_back(number, 9)), (true, false));
    }
}
