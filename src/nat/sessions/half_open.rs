//! TCP sessions that are not established, oldest first, by the realm of their opener: what makes room when that realm has as
//! many sessions as it may.
//!
//! A list through an array beside the slab, so that no packet of an established session touches it.

use crate::net::RealmId;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
pub(super) struct HalfOpen {
    /// By slot.
    links: Vec<Link>,
    /// By realm.
    realms: Vec<Ends>,
}

impl HalfOpen {
    pub fn new(sessions: usize) -> Self {
        HalfOpen {
            links: Vec::with_capacity(sessions),
            realms: vec![Ends { oldest: NONE, newest: NONE }; usize::from(u16::MAX) + 1],
        }
    }

    pub fn oldest(&self, realm: RealmId) -> Option<usize> {
        let Ends { oldest, .. } = self.realms[usize::from(realm.0)];
        (oldest != NONE).then_some(oldest as usize)
    }

    /// `slot` must not be in it.
    pub fn push(&mut self, realm: RealmId, slot: usize) {
        if self.links.len() <= slot {
            self.links.resize(slot + 1, Link { older: NONE, newer: NONE });
        }
        let ends = &mut self.realms[usize::from(realm.0)];
        let older = std::mem::replace(&mut ends.newest, slot as u32);
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = slot as u32,
            None => ends.oldest = slot as u32,
        }
        self.links[slot] = Link { older, newer: NONE };
    }

    /// `slot` must be in it.
    pub fn take(&mut self, realm: RealmId, slot: usize) {
        let Link { older, newer } = self.links[slot];
        let ends = &mut self.realms[usize::from(realm.0)];
        match self.links.get_mut(older as usize) {
            Some(link) => link.newer = newer,
            None => ends.oldest = newer,
        }
        match self.links.get_mut(newer as usize) {
            Some(link) => link.older = older,
            None => ends.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_queue_for_each_realm(steps in prop::collection::vec((0usize..12, 0u16..3), 1..100)) {
            let mut list = HalfOpen::new(4);
            let mut model = [VecDeque::new(), VecDeque::new(), VecDeque::new()];
            for (slot, realm) in steps {
                match model.iter().position(|queue| queue.contains(&slot)) {
                    Some(owner) => {
                        list.take(RealmId(owner as u16), slot);
                        model[owner].retain(|other| *other != slot);
                    }
                    None => {
                        list.push(RealmId(realm), slot);
                        model[usize::from(realm)].push_back(slot);
                    }
                }
                for (realm, queue) in (0..).zip(&model) {
                    prop_assert_eq!(list.oldest(RealmId(realm)), queue.front().copied());
                }
            }
        }
    }
}
