//! Which host has which port block at present, and how much of it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::spec::{Blocks, Proto};
use crate::net::{Canonical, RealmId, Space6};

/// A host that has bindings.
#[derive(Clone, Copy, Debug)]
struct Host {
    realm: RealmId,
    address: Canonical,
    block: u32,
    /// Ports in use, by protocol.
    used: [u16; Proto::COUNT],
}

/// A realm's blocks that are given on demand.
#[derive(Debug, Default)]
struct OnDemand {
    /// Blocks from here on were never given.
    fresh: u32,
    /// The longest unused one first: a block rests as long as can be before it means somebody else.
    returned: VecDeque<u32>,
}

/// There is a host for each binding at most, so the bound of the bindings holds here too.
#[derive(Debug)]
pub struct Hosts {
    table: HashTable<Host>,
    on_demand: BTreeMap<RealmId, OnDemand>,
    hasher: FixedState,
}

/// What became of a request for a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The host had its block.
    Known(u32),
    /// It has just been given this one; for the log.
    Given(u32),
}

impl Hosts {
    pub fn new(seed: u64) -> Self {
        Hosts { table: HashTable::new(), on_demand: BTreeMap::new(), hasher: FixedState::with_seed(seed) }
    }

    pub fn reserve(&mut self) {
        if self.table.len() * 4 >= self.table.capacity() * 3 {
            let hasher = &self.hasher;
            self.table.reserve(self.table.capacity().max(64), |host| hasher.hash_one((host.realm, host.address)));
        }
    }

    /// Counts one more port of the host. `None`: it has no block and there is none left, or its block is used up.
    pub fn take(
        &mut self,
        realm: RealmId,
        address: Canonical,
        proto: Proto,
        blocks: &Blocks,
        space6: Space6,
    ) -> Option<Taken> {
        let hash = self.hash(realm, address);
        let quota = blocks.ports();
        if let Some(host) = self.table.find_mut(hash, |host| host.realm == realm && host.address == address) {
            let used = &mut host.used[proto as usize];
            if *used >= quota {
                return None;
            }
            *used += 1;
            return Some(Taken::Known(host.block));
        }
        let computed = space6.extract(address).and_then(|(_, host)| blocks.block_of_host(host));
        let taken = match computed {
            Some(block) => Taken::Known(block),
            None => Taken::Given(self.give(realm, blocks)?),
        };
        let (Taken::Known(block) | Taken::Given(block)) = taken;
        let mut used = [0; Proto::COUNT];
        used[proto as usize] = 1;
        let hasher = &self.hasher;
        let host = Host { realm, address, block, used };
        self.table.insert_unique(hash, host, |host| hasher.hash_one((host.realm, host.address)));
        Some(taken)
    }

    /// One port less. With the last one the host is forgotten, and a block that was given on demand comes back: that
    /// one, for the log.
    pub fn put_back(&mut self, realm: RealmId, address: Canonical, proto: Proto, blocks: &Blocks) -> Option<u32> {
        let hash = self.hash(realm, address);
        let entry = self.table.find_entry(hash, |host| host.realm == realm && host.address == address);
        let Ok(mut entry) = entry else { return None };
        let host = entry.get_mut();
        host.used[proto as usize] = host.used[proto as usize].saturating_sub(1);
        if host.used != [0; Proto::COUNT] {
            return None;
        }
        let block = entry.remove().0.block;
        if block < blocks.fixed() {
            return None;
        }
        self.on_demand.entry(realm).or_default().returned.push_back(block);
        Some(block)
    }

    /// Forgets everything of a realm. Whether blocks had been given on demand, for the log.
    pub fn clear(&mut self, realm: RealmId) -> bool {
        self.table.retain(|host| host.realm != realm);
        self.on_demand.remove(&realm).is_some()
    }

    fn give(&mut self, realm: RealmId, blocks: &Blocks) -> Option<u32> {
        let pool = self.on_demand.entry(realm).or_default();
        let fresh = pool.fresh.max(blocks.fixed());
        if fresh < blocks.total() {
            pool.fresh = fresh + 1;
            return Some(fresh);
        }
        pool.returned.pop_front()
    }

    fn hash(&self, realm: RealmId, address: Canonical) -> u64 {
        self.hasher.hash_one((realm, address))
    }
}
