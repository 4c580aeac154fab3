//! The ways that whoever sends knows: of each remote the headers, ready to be copied, or that it is the sockets' matter.
//!
//! Bounded: at most [`MAX_WAYS`]; what was not used between two sweeps is given up.

use std::collections::HashMap;

use super::headers::Template;
use crate::io::netlink::ways::{Key, MAX_WAYS, Way};

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
}

impl Ways {
    #[inline]
    pub fn find(&mut self, key: Key) -> Option<Number> {
        let number = match self.latest {
            Some((latest, number)) if latest == key => number,
            _ => *self.numbers.get(&key)?,
        };
        self.latest = Some((key, number));
        self.entries[number as usize].is_used = true;
        Some(number)
    }

    /// The same, and it does not count as used.
    pub fn peek(&self, key: &Key) -> Option<Number> {
        self.numbers.get(key).copied()
    }

    pub fn has_room(&self) -> bool {
        self.entries.len() < MAX_WAYS
    }

    /// From now on it is known that somebody wants to go there.
    pub fn insert(&mut self, key: Key) {
        debug_assert!(self.has_room() && !self.numbers.contains_key(&key));
        self.numbers.insert(key, self.entries.len() as Number);
        self.entries.push(Entry { key, ready: None, is_used: true, held_back_in: 0 });
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
        ways.insert(key(1));
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
        (0..MAX_WAYS as u32).for_each(|number| ways.insert(key(number)));
        assert!(!ways.has_room());
        assert_eq!(ways.sweep(), []);
        for number in [5, 700, MAX_WAYS as u32 - 1] {
            assert_eq!(ways.find(key(number)), Some(number));
        }
        assert_eq!(ways.sweep().len(), MAX_WAYS - 3);
        ways.set(key(700), way(9));
        let number = ways.find(key(700)).unwrap();
        assert!(ways.ready(number).is_some() && ways.has_room());
        assert_eq!((ways.find(key(6)), ways.find(key(5)).is_some()), (None, true));
    }

    #[test]
    fn what_is_held_back_is_so_for_one_outbox() {
        let mut ways = Ways::default();
        ways.insert(key(1));
        let number = ways.find(key(1)).unwrap();
        ways.hold_back(number, 8);
        assert_eq!((ways.is_held_back(number, 8), ways.is_held_back(number, 9)), (true, false));
    }
}
