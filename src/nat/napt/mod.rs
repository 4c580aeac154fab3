//! NAPT: a realm that shows its hosts by a few addresses and many ports (RFC 4787, 5382, 5508, 7857, 7422).
//!
//! ```text
//!   192.168.1.10 udp 5000  --bind-->    100.64.9.1 udp 1288   one for all who are spoken to (endpoint-independent)
//!   192.168.1.10 udp 5000  <--locate--  100.64.9.1 udp 1288   for whom the session, or the filtering, admits
//! ```
//!
//! Only hosts that the viewer sees under no alias are shown so: a published host, or a network with a pinned alias, stays
//! what it is. Sessions, policy and logs know inside endpoints alone; what stands here concerns only what is shown.
//!
//! **Blocks.** A host has one block of neighbouring ports of one address for each protocol ([`Blocks`]), computed where
//! the pool is large enough, given on demand where not. So its address never changes from one session to the next
//! (RFC 4787 REQ-2), the block is its quota, and one host's ports never become another's at once.
//!
//! **Lives.** A binding lives while a session uses it ([`Napt::hold`], [`Napt::release`]): the sessions' idle times (UDP
//! five minutes, TCP as its state says, echo a minute) are the bindings' too, and so is what refreshes them: packets of
//! the host itself, not those that come in (RFC 4787 REQ-6, RFC 7857 section 7). A session that has ended lingers as long
//! as one that is opening, so a port rests before it is somebody's again.
//!
//! **Filtering** (RFC 4787 REQ-8) never leads around the grants. Through a binding, whatever the filtering, a session
//! comes to life only if the host behind it could have opened that same session itself: its realm is granted the sender,
//! on the sender's port. `endpoint` then admits every such sender, `address` those that the host has sent to from this
//! port, `address-and-port` (the default) no new session at all. It concerns UDP: who opens a TCP connection is for the
//! grants to say. Such a session counts as the host's, so the sender cannot keep it alive. A grant *towards* the realm
//! opens nothing through a binding, which is a port that happens to be in use; it opens what forwards lead to.
//!
//! **Sent is sent**, also what the receiver's pool filters (RFC 4787 section 5, RFC 5382 REQ-2). If its sender has a pool's
//! port too, and a grant, that packet opens a session like any other, but for arriving ([`crate::nat::Way`]): the receiver may
//! answer, and when it has, both get in. So two hosts behind pools meet. Strangers leave nothing behind.
//!
//! **Forwards** are bindings that stay. What they lead to needs a grant, as everything.
//!
//! **Hairpins** (RFC 4787 REQ-9): a host that sends to its own realm's pool is shown to the other host by its own port of
//! the pool. The realm needs a grant towards itself for that.
//!
//! **A new configuration** keeps a realm's bindings when its pool, blocks and networks are what they were.

mod hosts;
mod peers;
mod spec;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;

pub use self::peers::Remote;
pub use self::spec::{Blocks, FIRST_PORT, Filtering, Forward, PortBlock, Proto, RealmSpec, Spec, Who};
pub use self::table::{Inside, Outside};

use self::hosts::{Hosts, Taken};
use self::peers::Peers;
use self::table::{Binding, Table};
use crate::net::{Canonical, RealmId};
use crate::packet::DropReason;

/// Block gifts that wait to be logged. What goes beyond is counted.
const MAX_EVENTS: usize = 4096;

/// What became of blocks that are given on demand: the record of who had them (RFC 6888 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockEvent {
    Given {
        realm: RealmId,
        host: Canonical,
        block: PortBlock,
    },
    GivenBack {
        realm: RealmId,
        host: Canonical,
        block: PortBlock,
    },
    /// A new configuration took back all that the realm's hosts had.
    AllGivenBack {
        realm: RealmId,
    },
}

impl BlockEvent {
    pub fn realm(&self) -> RealmId {
        let (BlockEvent::Given { realm, .. }
        | BlockEvent::GivenBack { realm, .. }
        | BlockEvent::AllGivenBack { realm }) = self;
        *realm
    }
}

/// Whose bindings a new configuration has ended.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ended {
    pub realms: Vec<RealmId>,
    /// Single ones, which made way for a forward.
    pub endpoints: Vec<Inside>,
}

impl Ended {
    pub fn contains(&self, inside: &Inside) -> bool {
        self.realms.contains(&inside.realm) || self.endpoints.contains(inside)
    }
}

/// Where a packet to a pool leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    pub realm: RealmId,
    pub host: Canonical,
    pub port: u16,
    pub is_forward: bool,
}

/// Every binding of one worker.
#[derive(Debug)]
pub struct Napt {
    spec: Arc<Spec>,
    table: Table,
    hosts: Hosts,
    peers: Peers,
    events: VecDeque<BlockEvent>,
    events_lost: u64,
}

impl Napt {
    /// At most `limit` bindings. `seed` is random and secret.
    pub fn new(spec: Arc<Spec>, limit: usize, seed: u64) -> Self {
        let none = Arc::new(Spec::new(spec.space6, Vec::new()));
        let (table, hosts, peers) = (Table::new(limit, seed), Hosts::new(seed), Peers::new(seed));
        let mut napt = Napt { spec: none, table, hosts, peers, events: VecDeque::new(), events_lost: 0 };
        napt.configure(spec);
        napt
    }

    /// Adopts a new configuration. The sessions have to let go of what it has ended.
    pub fn configure(&mut self, spec: Arc<Spec>) -> Ended {
        let before = std::mem::replace(&mut self.spec, spec);
        let mut ended = Ended::default();
        for old in before.realms() {
            let same = self.spec.realm(old.realm).is_some_and(|new| new.blocks == old.blocks);
            if !same {
                ended.realms.push(old.realm);
            }
        }
        let gone: Vec<u32> = {
            let is_gone = |b: &Binding| b.is_forward || ended.realms.contains(&b.inside.realm);
            self.table.iter().filter(|(_, b)| is_gone(b)).map(|(slot, _)| slot).collect()
        };
        for slot in &gone {
            self.table.remove(*slot);
        }
        self.peers.forget(&gone);
        for realm in &ended.realms {
            if self.hosts.clear(*realm) {
                self.tell(BlockEvent::AllGivenBack { realm: *realm });
            }
        }
        let spec = self.spec.clone();
        for realm in spec.realms() {
            realm.forwards.iter().for_each(|forward| self.add_forward(realm, forward, &mut ended));
        }
        if !spec.is_empty() {
            self.reserve();
        }
        ended
    }

    /// Makes room ahead of need. Between batches.
    pub fn reserve(&mut self) {
        self.table.reserve();
        self.hosts.reserve();
        self.peers.reserve();
    }

    /// Nobody is shown by a pool: then nothing else here need be asked.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.spec.is_empty()
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Does `viewer` see the hosts of `owner` by a pool, where they have no alias?
    #[inline]
    pub fn shows(&self, owner: RealmId, viewer: RealmId) -> bool {
        self.spec.shows(owner, viewer)
    }

    pub fn filtering(&self, realm: RealmId) -> Filtering {
        self.spec.realm(realm).map_or(Filtering::AddressAndPort, |spec| spec.filtering)
    }

    /// Whose pool `address` is, if `viewer` sees it.
    pub fn owner(&self, viewer: RealmId, address: Ipv4Addr) -> Option<RealmId> {
        self.spec.owner(address).filter(|spec| spec.is_for(viewer)).map(|spec| spec.realm)
    }

    /// What `viewer` means by a port of a pool.
    pub fn locate(&self, viewer: RealmId, address: Ipv4Addr, proto: Proto, port: u16) -> Option<Target> {
        let realm = self.owner(viewer, address)?;
        let (_, binding) = self.table.by_outside(&Outside { realm, address, proto, port })?;
        let Inside { host, port, .. } = binding.inside;
        Some(Target { realm, host, port, is_forward: binding.is_forward })
    }

    /// What others see of `inside`, if it is bound.
    pub fn outside_of(&self, inside: &Inside) -> Option<Outside> {
        self.table.by_inside(inside).map(|(_, binding)| binding.outside)
    }

    /// What others see of `inside`, from now on if it was not bound.
    ///
    /// Drops: NaptPortNotServed, NaptTableFull, NaptExhausted.
    pub fn bind(&mut self, inside: &Inside) -> Result<Outside, DropReason> {
        if let Some(outside) = self.outside_of(inside) {
            return Ok(outside);
        }
        // A receiver's answer to it could not be told from one that is to keep its port.
        if inside.port == 0 {
            return Err(DropReason::NaptPortNotServed);
        }
        if self.table.len() >= self.table.limit() {
            return Err(DropReason::NaptTableFull);
        }
        let spec = self.spec.clone();
        let blocks = &spec.realm(inside.realm).ok_or(DropReason::SourceHasNoAlias)?.blocks;
        let Inside { realm, host, proto, port } = *inside;
        let taken = self.hosts.take(realm, host, proto, blocks, spec.space6).ok_or(DropReason::NaptExhausted)?;
        let (Taken::Known(block) | Taken::Given(block)) = taken;
        let block = blocks.ports_of(block);
        let outside = |port| Outside { realm, address: block.address, proto, port };
        // Fewer than the block has only where forwards have some of its ports.
        let free = block.candidates(port).find(|port| self.table.by_outside(&outside(*port)).is_none());
        let Some(port) = free else {
            self.put_back(inside);
            return Err(DropReason::NaptExhausted);
        };
        let outside = outside(port);
        self.table.insert(Binding { inside: *inside, outside, sessions: 0, is_forward: false });
        if matches!(taken, Taken::Given(_)) {
            self.tell(BlockEvent::Given { realm, host, block });
        }
        Ok(outside)
    }

    /// A session with `remote` begins to use the binding. `false`: it need not let go of it.
    pub fn hold(&mut self, inside: &Inside, remote: Remote) -> bool {
        let Some((slot, _)) = self.table.by_inside(inside) else { return false };
        let Some(binding) = self.table.get_mut(slot).filter(|binding| !binding.is_forward) else { return false };
        binding.sessions += 1;
        if self.filtering(inside.realm) == Filtering::Address {
            self.peers.add(slot, remote);
        }
        true
    }

    /// A session that held it has ended.
    pub fn release(&mut self, inside: &Inside, remote: Remote) {
        let Some((slot, _)) = self.table.by_inside(inside) else { return };
        self.peers.remove(slot, remote);
        let Some(binding) = self.table.get_mut(slot).filter(|binding| !binding.is_forward) else { return };
        binding.sessions = binding.sessions.saturating_sub(1);
        if binding.sessions == 0 {
            self.table.remove(slot);
            self.put_back(inside);
        }
    }

    /// Whether a session with any port of `remote` holds the binding of `inside`. Only known where that is filtered by.
    pub fn has_sent_to(&self, inside: &Inside, remote: Remote) -> bool {
        self.table.by_inside(inside).is_some_and(|(slot, _)| self.peers.contains(slot, remote))
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most bindings.
    pub fn limit(&self) -> usize {
        self.table.limit()
    }

    pub fn poll_event(&mut self) -> Option<BlockEvent> {
        self.events.pop_front()
    }

    pub fn events_lost(&self) -> u64 {
        self.events_lost
    }

    fn add_forward(&mut self, realm: &RealmSpec, forward: &Forward, ended: &mut Ended) {
        let Forward { proto, outside: (address, port), to: (host, to_port) } = *forward;
        let inside = Inside { realm: realm.realm, host, proto, port: to_port };
        let outside = Outside { realm: realm.realm, address, proto, port };
        let in_the_way = [self.table.by_inside(&inside), self.table.by_outside(&outside)];
        for slot in in_the_way.map(|found| found.map(|(slot, _)| slot)).into_iter().flatten() {
            let Some(binding) = self.table.remove(slot) else { continue };
            self.peers.forget(&[slot]);
            self.put_back(&binding.inside);
            ended.endpoints.push(binding.inside);
        }
        // A limit that is smaller than the forwards leaves the last ones out; `config` refuses such a file.
        self.table.insert(Binding { inside, outside, sessions: 0, is_forward: true });
    }

    fn put_back(&mut self, inside: &Inside) {
        let spec = self.spec.clone();
        let Some(realm) = spec.realm(inside.realm) else { return };
        if let Some(block) = self.hosts.put_back(inside.realm, inside.host, inside.proto, &realm.blocks) {
            let block = realm.blocks.ports_of(block);
            self.tell(BlockEvent::GivenBack { realm: inside.realm, host: inside.host, block });
        }
    }

    fn tell(&mut self, event: BlockEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events_lost += 1;
        } else {
            self.events.push_back(event);
        }
    }
}
