//! Places in the table: who has one, who makes room, and when an entry is looked at next.

use std::collections::HashSet;
use std::net::IpAddr;

use super::entry::{Entry, Rank, State, key, reachable_time};
use super::{ASK_INTERVAL, AWAITED, DELAY, HOLD_DOWN, HOLD_DOWN_PINNED, IDLE, MAX_NEIGHBOURS, MAX_PINNED, Neighbours};
use crate::net::{Mac, RealmId, Timestamp};

impl Neighbours {
    /// Exactly these hold their places from now on, the first [`MAX_PINNED`].
    pub fn pin(&mut self, addresses: &[IpAddr], now: Timestamp) {
        let wanted: HashSet<IpAddr> = addresses.iter().copied().collect();
        for slot in 0..self.entries.len() {
            let entry = self.entries[slot];
            if entry.is_pinned && !wanted.contains(&entry.address) {
                self.entries[slot].is_pinned = false;
                self.pinned -= 1;
                self.enter(slot as u16, entry.state, now); // so that it ages
            }
        }
        for address in addresses {
            let Some(slot) = self.slot(*address).or_else(|| self.add(*address, Rank::Used, now)) else { continue };
            let entry = &mut self.entries[usize::from(slot)];
            if !entry.is_pinned && self.pinned < MAX_PINNED {
                entry.is_pinned = true;
                let state = entry.state;
                self.pinned += 1;
                self.enter(slot, state, now); // so that it does not age
            }
        }
    }

    /// The link is another one, or gone: nobody is known any more. How many packets are lost by it.
    pub fn clear(&mut self, now: Timestamp) -> usize {
        let mut lost = 0;
        for slot in 0..self.entries.len() as u16 {
            lost += self.waiting.release(slot, |_| ());
            let entry = self.entries[usize::from(slot)];
            if self.slot(entry.address) != Some(slot) {
                continue; // nobody's place
            }
            match entry.is_pinned {
                true => self.enter(slot, State::Unasked, now),
                false => self.remove(slot),
            }
        }
        lost
    }

    pub(super) fn slot(&self, address: IpAddr) -> Option<u16> {
        self.index.get(&key(address)).copied()
    }

    pub(super) fn entry(&self, address: IpAddr) -> Option<&Entry> {
        Some(&self.entries[usize::from(self.slot(address)?)])
    }

    /// A new entry, at the cost of one that ranks no higher than `highest`.
    pub(super) fn add(&mut self, address: IpAddr, highest: Rank, now: Timestamp) -> Option<u16> {
        let entry = Entry {
            address,
            mac: Mac::default(),
            state: State::Unasked,
            is_pinned: false,
            has_answered: false,
            asker: None,
            last_used: None,
            changed_at: now,
            awaited_until: None,
            doubted_at: None,
            doubt: None,
            contested_at: None,
        };
        if self.index.len() >= MAX_NEIGHBOURS {
            self.remove(self.least(highest)?);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u16
            }
        };
        self.entries[usize::from(slot)] = entry;
        self.index.insert(key(address), slot);
        self.enter(slot, State::Unasked, now);
        Some(slot)
    }

    /// Whom nobody will miss most. New neighbours are so few in a second that a look at all of them is no cost.
    fn least(&self, highest: Rank) -> Option<u16> {
        let slots = 0..self.entries.len() as u16;
        let ranked = slots.filter_map(|slot| {
            let entry = &self.entries[usize::from(slot)];
            (!entry.is_pinned && entry.rank() <= highest).then_some((entry.rank(), entry.seen_at(), slot))
        });
        ranked.min().map(|(_, _, slot)| slot)
    }

    pub(super) fn remove(&mut self, slot: u16) {
        let entry = self.entries[usize::from(slot)];
        self.leave(entry.state, entry.asker);
        self.lost += self.waiting.release(slot, |_| ());
        self.index.remove(&key(entry.address));
        self.deadlines.set(usize::from(slot), None);
        self.deadlines.set(usize::from(slot) + MAX_NEIGHBOURS, None);
        self.free.push(slot);
    }

    pub(super) fn enter(&mut self, slot: u16, state: State, now: Timestamp) {
        let entry = &mut self.entries[usize::from(slot)];
        let before = std::mem::replace(&mut entry.state, state);
        entry.changed_at = now;
        if !entry.has_mac() {
            entry.doubt = None;
        }
        if matches!(state, State::Incomplete { .. } | State::Probe { .. }) {
            entry.awaited_until = Some(now + AWAITED);
        }
        let due = match state {
            State::Unasked if entry.is_pinned => None,
            State::Unasked => Some(now + IDLE),
            State::Incomplete { .. } | State::Probe { .. } => Some(now + ASK_INTERVAL),
            State::Reachable => Some(now + reachable_time(entry.address, now)),
            State::Stale => Some(entry.seen_at() + IDLE),
            State::Delay => Some(now + DELAY),
            State::Failed if entry.is_pinned => Some(now + HOLD_DOWN_PINNED),
            State::Failed => Some(now + HOLD_DOWN),
        };
        let is_incomplete = matches!(state, State::Incomplete { .. });
        let asker = if is_incomplete { None } else { entry.asker.take() };
        self.leave(before, asker);
        self.incomplete += usize::from(is_incomplete);
        self.deadlines.set(usize::from(slot), due);
    }

    /// `asker`: whose share is free again.
    fn leave(&mut self, state: State, asker: Option<RealmId>) {
        self.incomplete -= usize::from(matches!(state, State::Incomplete { .. }));
        if let Some(realm) = asker {
            self.askers.end(realm);
        }
    }
}
