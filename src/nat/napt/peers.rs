//! Whom a port has sent to: kept only for realms that filter by address (RFC 4787 section 5).

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::net::{Canonical, RealmId};

/// The far end of a session, without its port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Remote {
    pub realm: RealmId,
    pub host: Canonical,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    /// The binding's.
    slot: u32,
    remote: Remote,
    sessions: u32,
}

/// There is a session for each entry at least, so the bound of the sessions holds here too.
#[derive(Debug)]
pub struct Peers {
    table: HashTable<Peer>,
    hasher: FixedState,
}

impl Peers {
    pub fn new(seed: u64) -> Self {
        Peers { table: HashTable::new(), hasher: FixedState::with_seed(seed) }
    }

    pub fn reserve(&mut self) {
        if !self.table.is_empty() && self.table.len() * 4 >= self.table.capacity() * 3 {
            let hasher = &self.hasher;
            self.table.reserve(self.table.capacity(), |peer| hasher.hash_one((peer.slot, peer.remote)));
        }
    }

    pub fn contains(&self, slot: u32, remote: Remote) -> bool {
        self.table.find(self.hash(slot, remote), |peer| peer.slot == slot && peer.remote == remote).is_some()
    }

    pub fn add(&mut self, slot: u32, remote: Remote) {
        let hash = self.hash(slot, remote);
        match self.table.find_mut(hash, |peer| peer.slot == slot && peer.remote == remote) {
            Some(peer) => peer.sessions += 1,
            None => {
                let hasher = &self.hasher;
                let peer = Peer { slot, remote, sessions: 1 };
                self.table.insert_unique(hash, peer, |peer| hasher.hash_one((peer.slot, peer.remote)));
            }
        }
    }

    pub fn remove(&mut self, slot: u32, remote: Remote) {
        let hash = self.hash(slot, remote);
        if let Ok(mut entry) = self.table.find_entry(hash, |peer| peer.slot == slot && peer.remote == remote) {
            entry.get_mut().sessions -= 1;
            if entry.get().sessions == 0 {
                entry.remove();
            }
        }
    }

    pub fn forget(&mut self, slots: &[u32]) {
        self.table.retain(|peer| !slots.contains(&peer.slot));
    }

    fn hash(&self, slot: u32, remote: Remote) -> u64 {
        self.hasher.hash_one((slot, remote))
    }
}
