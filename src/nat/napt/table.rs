//! The bindings, found from either side.

use std::hash::{BuildHasher, Hash};
use std::net::Ipv4Addr;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::spec::Proto;
use crate::net::{Canonical, RealmId};

/// A port of a host, on its own wires.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Inside {
    pub realm: RealmId,
    pub host: Canonical,
    pub proto: Proto,
    pub port: u16,
}

/// What others see of it: a port of an address of `realm`'s pool.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Outside {
    pub realm: RealmId,
    pub address: Ipv4Addr,
    pub proto: Proto,
    pub port: u16,
}

#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub inside: Inside,
    pub outside: Outside,
    /// Sessions that it serves. With the last of them it goes.
    pub sessions: u32,
    /// A configured forward: stays.
    pub is_forward: bool,
}

/// One inside endpoint has one outside endpoint and the reverse. Bounded.
#[derive(Debug)]
pub struct Table {
    limit: usize,
    slab: Vec<Option<Binding>>,
    free: Vec<u32>,
    by_inside: HashTable<u32>,
    by_outside: HashTable<u32>,
    hasher: FixedState,
}

impl Table {
    /// `seed` is random and secret. Room is taken when the first binding is made.
    pub fn new(limit: usize, seed: u64) -> Self {
        Table {
            limit,
            slab: Vec::new(),
            free: Vec::new(),
            by_inside: HashTable::new(),
            by_outside: HashTable::new(),
            hasher: FixedState::with_seed(seed),
        }
    }

    pub fn len(&self) -> usize {
        self.by_inside.len()
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Makes room ahead of need: all of the slab's, which costs nothing before it is used, and twice the index's when
    /// that is three quarters full. Between batches.
    pub fn reserve(&mut self) {
        self.slab.reserve_exact(self.limit.saturating_sub(self.slab.len()));
        self.free.reserve_exact(self.limit.saturating_sub(self.free.len()));
        if self.len() * 4 >= self.by_inside.capacity() * 3 {
            let more = self.by_inside.capacity().max(64);
            let (slab, hasher) = (&self.slab, &self.hasher);
            self.by_inside.reserve(more, |slot| hasher.hash_one(at(slab, *slot).map(|b| b.inside)));
            self.by_outside.reserve(more, |slot| hasher.hash_one(at(slab, *slot).map(|b| b.outside)));
        }
    }

    pub fn by_inside(&self, inside: &Inside) -> Option<(u32, &Binding)> {
        let found =
            self.by_inside.find(self.hash(inside), |slot| at(&self.slab, *slot).is_some_and(|b| b.inside == *inside));
        found.and_then(|slot| Some((*slot, at(&self.slab, *slot)?)))
    }

    pub fn by_outside(&self, outside: &Outside) -> Option<(u32, &Binding)> {
        let is_it = |slot: &u32| at(&self.slab, *slot).is_some_and(|b| b.outside == *outside);
        let found = self.by_outside.find(self.hash(outside), is_it);
        found.and_then(|slot| Some((*slot, at(&self.slab, *slot)?)))
    }

    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Binding> {
        self.slab.get_mut(slot as usize)?.as_mut()
    }

    /// Every binding with its slot.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Binding)> {
        (0..).zip(&self.slab).filter_map(|(slot, binding)| Some((slot, binding.as_ref()?)))
    }

    /// Neither end may be bound already. `None`: the table is full.
    pub fn insert(&mut self, binding: Binding) -> Option<u32> {
        debug_assert!(self.by_inside(&binding.inside).is_none() && self.by_outside(&binding.outside).is_none());
        if self.len() >= self.limit {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            self.slab.len() as u32 - 1
        });
        self.slab[slot as usize] = Some(binding);
        let (inside, outside) = (self.hash(&binding.inside), self.hash(&binding.outside));
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.by_inside.insert_unique(inside, slot, |slot| hasher.hash_one(at(slab, *slot).map(|b| b.inside)));
        self.by_outside.insert_unique(outside, slot, |slot| hasher.hash_one(at(slab, *slot).map(|b| b.outside)));
        Some(slot)
    }

    pub fn remove(&mut self, slot: u32) -> Option<Binding> {
        let binding = *at(&self.slab, slot)?;
        let (inside, outside) = (self.hash(&binding.inside), self.hash(&binding.outside));
        if let Ok(entry) = self.by_inside.find_entry(inside, |other| *other == slot) {
            entry.remove();
        }
        if let Ok(entry) = self.by_outside.find_entry(outside, |other| *other == slot) {
            entry.remove();
        }
        self.slab[slot as usize] = None;
        self.free.push(slot);
        Some(binding)
    }

    /// As an `Option`, as the index hashes it when it grows.
    fn hash<K: Hash>(&self, key: &K) -> u64 {
        self.hasher.hash_one(Some(key))
    }
}

fn at(slab: &[Option<Binding>], slot: u32) -> Option<&Binding> {
    slab.get(slot as usize)?.as_ref()
}
