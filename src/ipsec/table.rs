//! Every SA, found by the SPI that stands in packets to us.
//!
//! SPIs are random, but a peer may make us choose many: the index is hashed with a seed that outsiders do not know. An SA
//! lives in a slot, by whose number its tunnel knows it, so that sealing needs no look-up.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::sa::Sa;

/// A place in the table. Reused once its SA is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u32);

pub(super) struct SaTable {
    hasher: FixedState,
    index: HashTable<(u32, Slot)>,
    slots: Vec<Option<Box<Sa>>>,
    free: Vec<Slot>,
}

impl SaTable {
    pub fn new(seed: u64) -> Self {
        SaTable { hasher: FixedState::with_seed(seed), index: HashTable::new(), slots: Vec::new(), free: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub fn lookup(&self, spi_in: u32) -> Option<Slot> {
        let hash = self.hasher.hash_one(spi_in);
        self.index.find(hash, |(spi, _)| *spi == spi_in).map(|(_, slot)| *slot)
    }

    /// The SPI must not be in the table, and the table not full.
    pub fn insert(&mut self, sa: Sa) -> Slot {
        debug_assert!(self.lookup(sa.spi_in).is_none());
        let slot = self.free.pop().unwrap_or(Slot(self.slots.len() as u32));
        let hasher = &self.hasher;
        self.index.insert_unique(hasher.hash_one(sa.spi_in), (sa.spi_in, slot), |(spi, _)| hasher.hash_one(spi));
        match self.slots.get_mut(slot.0 as usize) {
            Some(place) => *place = Some(Box::new(sa)),
            None => self.slots.push(Some(Box::new(sa))),
        }
        slot
    }

    pub fn remove(&mut self, slot: Slot) -> Option<Box<Sa>> {
        let sa = self.slots.get_mut(slot.0 as usize)?.take()?;
        if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(sa.spi_in), |(spi, _)| *spi == sa.spi_in) {
            entry.remove();
        }
        self.free.push(slot);
        Some(sa)
    }

    #[inline]
    pub fn get(&self, slot: Slot) -> Option<&Sa> {
        self.slots.get(slot.0 as usize)?.as_deref()
    }

    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Sa> {
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()
    }
}

#[cfg(test)]
impl SaTable {
    /// Places, taken and free.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }
}
