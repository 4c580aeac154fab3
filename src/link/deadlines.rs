//! When what is due: a heap of numbered slots, each with at most one deadline, which can be moved.
//!
//! Memory is that of the most slots in use at once; setting and clearing cost a logarithm, and nothing is ever searched.

use crate::net::Timestamp;

const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub(super) struct Deadlines {
    /// The earliest first; the children of `i` are `2i + 1` and `2i + 2`.
    heap: Vec<(Timestamp, u32)>,
    /// Where each slot stands in the heap.
    places: Vec<u32>,
}

impl Deadlines {
    pub fn set(&mut self, slot: usize, at: Option<Timestamp>) {
        if self.places.len() <= slot {
            self.places.resize(slot + 1, NOWHERE);
        }
        match (self.places[slot], at) {
            (NOWHERE, None) => {}
            (NOWHERE, Some(at)) => {
                self.heap.push((at, slot as u32));
                self.rise(self.heap.len() - 1);
            }
            (place, None) => self.remove(place as usize),
            (place, Some(at)) => {
                self.heap[place as usize].0 = at;
                self.settle(place as usize);
            }
        }
    }

    pub fn first(&self) -> Option<(Timestamp, usize)> {
        self.heap.first().map(|(at, slot)| (*at, *slot as usize))
    }

    /// The slot whose time has come, first; its deadline stays.
    pub fn due(&self, now: Timestamp) -> Option<usize> {
        self.first().filter(|(at, _)| *at <= now).map(|(_, slot)| slot)
    }

    fn remove(&mut self, place: usize) {
        let (_, slot) = self.heap.swap_remove(place);
        self.places[slot as usize] = NOWHERE;
        if place < self.heap.len() {
            self.settle(place);
        }
    }

    fn settle(&mut self, place: usize) {
        let place = self.rise(place);
        self.sink(place);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 && self.heap[place] < self.heap[(place - 1) / 2] {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        self.places[self.heap[place].1 as usize] = place as u32;
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = 2 * place + 1..(2 * place + 3).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else { break };
            if self.heap[place] <= self.heap[least] {
                break;
            }
            self.swap(place, least);
            place = least;
        }
        self.places[self.heap[place].1 as usize] = place as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].1 as usize] = a as u32;
        self.places[self.heap[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_always_the_earliest(deeds in prop::collection::vec((0usize..20, prop::option::of(0u64..50)), 0..200)) {
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            for (slot, at) in deeds {
                let at = at.map(Timestamp::from_secs);
                deadlines.set(slot, at);
                match at {
                    Some(at) => model.insert(slot, at),
                    None => model.remove(&slot),
                };
                let first = model.iter().map(|(slot, at)| (*at, *slot)).min();
                prop_assert_eq!(deadlines.first(), first);
            }
        }
    }
}
