//! Sessions: who has opened what, so that replies return and nothing else does.
//!
//! One entry serves both directions. Its key is the flow with its two sides in a fixed order, so that a packet and its
//! reply meet the same entry; a flag says which side opened it. Realms are part of the key.
//!
//! The table is bounded as a whole and per opening realm. Entries of one cache line live in a slab, whose room is
//! reserved at the start; an index from hash to slot stands apart and is as large as the load asks for, so that ten
//! thousand sessions stay in the processor's cache under a limit of a million, also after a flood. It doubles between batches
//! ([`Sessions::expire`]), before it is full, and shrinks when it is nearly empty. Expiry is a hand that walks the slab a little with every such call.
//!
//! What keeps a session alive stands apart (`life`), sixteen bytes each: the packets of known flows and expiry need nothing else of it.
//!
//! TCP sessions also have their sequence numbers (`tcp`), half a cache line each, in an array of their own: only TCP packets
//! touch it, and nothing else needs it. Of those that are not established there is a list (`half_open`): a realm that has as
//! many sessions as it may loses its oldest half-open connection to a new session, so that a flood of SYNs shuts nobody out.
//!
//! A session is only as good as the configuration that approved it: it carries the generation of that, and the first
//! packet under a newer one is judged afresh, in the opener's direction.

mod entry;
mod half_open;
mod holds;
mod knock;
mod life;
mod pass;
mod tcp;
mod ticket;
mod timers;

use std::hash::BuildHasher;
use std::ops::Range;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::flow::{Flow, Side};
use crate::net::{Generation, RealmId};
use crate::packet::DropReason;
use crate::packet::batch::BATCH_PACKETS;
use crate::wire::tcp::Segment;

pub use holds::Held;
pub use knock::Way;
pub use pass::Pass;
pub use ticket::Ticket;
pub use timers::Timers;

use entry::{Key, Session};
use half_open::HalfOpen;
use life::Life;
use tcp::{Phase, Track};

/// Bounds of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub sessions: usize,
    /// Sessions that hosts of one realm may have opened.
    pub per_realm: usize,
}

/// Index entry: the hash too, so that lookups touch no wrong slab entry, and growing touches none at all.
#[derive(Clone, Copy, Debug)]
struct IndexEntry {
    hash: u32,
    slot: u32,
}

/// What the index goes by: the low bits choose the place, the high bits the tag.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Sessions that the index has room for at the start.
const INDEX_START: usize = 1024;
/// With room for so many times the sessions that there are, it is made smaller.
const INDEX_SPARSE: usize = 64;

/// One worker's session table.
#[derive(Debug)]
pub struct Sessions {
    limits: Limits,
    timers: Timers,
    /// Secret, so that nobody can choose ports that collide.
    hasher: FixedState,
    index: HashTable<IndexEntry>,
    slab: Vec<Session>,
    /// By slot.
    lives: Vec<Life>,
    /// By slot.
    tracks: Vec<Track>,
    half_open: HalfOpen,
    free: Vec<u32>,
    /// Open sessions by the opener's realm.
    per_realm: Vec<u32>,
    hand: usize,
    last_serial: u64,
    /// How often packets that are not TCP's may have lost their way, other than by being late. Wraps.
    revocations: u32,
    /// Bindings that ended sessions have let go of.
    released: Vec<Held>,
}

impl Sessions {
    /// `hash_seed` must be random and secret.
    pub fn new(limits: Limits, hash_seed: u64) -> Self {
        Sessions {
            limits,
            timers: Timers::default(),
            hasher: FixedState::with_seed(hash_seed),
            index: HashTable::with_capacity(INDEX_START.min(limits.sessions)),
            slab: Vec::with_capacity(limits.sessions),
            lives: Vec::with_capacity(limits.sessions),
            tracks: Vec::with_capacity(limits.sessions),
            half_open: HalfOpen::new(limits.sessions),
            free: Vec::with_capacity(limits.sessions),
            per_realm: vec![0; usize::from(u16::MAX) + 1],
            hand: 0,
            last_serial: 0,
            revocations: 0,
            released: Vec::with_capacity(2 * BATCH_PACKETS),
        }
    }

    /// From now on, also for sessions that are open.
    pub fn set_timers(&mut self, timers: Timers) {
        self.timers = timers;
        self.revocations = self.revocations.wrapping_add(1);
    }

    pub fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.limits.sessions
    }

    /// Sessions that hosts of `realm` have opened.
    pub fn opened_by(&self, realm: RealmId) -> usize {
        self.per_realm[usize::from(realm.0)] as usize
    }

    /// Where its large parts are, with the room that is reserved.
    pub fn addresses(&self) -> [Range<usize>; 2] {
        let (slab, lives) = (self.slab.as_ptr().addr(), self.lives.as_ptr().addr());
        let slab_bytes = self.slab.capacity() * size_of::<Session>();
        [slab..slab + slab_bytes, lives..lives + self.lives.capacity() * size_of::<Life>()]
    }

    /// The first step towards [`Sessions::admit`].
    #[inline]
    pub fn ticket(&self, flow: &Flow) -> Ticket {
        let (key, source_is_low) = Key::of(flow);
        let segment = Segment { flags: flow.tcp_flags, ..Segment::default() };
        Ticket { key, hash: self.hash(&key), source_is_low, may_open: flow.may_open, segment }
    }

    /// Brings the entries of a batch into the processor's cache. Changes nothing; [`Sessions::admit`] is right without it.
    ///
    /// One by one, each look-up would wait for memory twice. Here the index is read for all packets, then the slab for
    /// all packets, so that the waits of different packets overlap: a prefetch, without `unsafe`.
    pub fn fetch(&self, tickets: &[(usize, Ticket)]) {
        let mut slots = [u32::MAX; BATCH_PACKETS];
        for (slot, (_, ticket)) in slots.iter_mut().zip(tickets) {
            let entry = self.index.find(spread(ticket.hash), |entry| entry.hash == ticket.hash);
            *slot = entry.map_or(u32::MAX, |entry| entry.slot);
        }
        let touch = |(slot, (_, ticket)): (&u32, &(usize, Ticket))| {
            let generation = self.slab.get(*slot as usize).map_or(0, |session| session.generation.0);
            generation ^ self.touch(*slot, ticket.is_tcp())
        };
        std::hint::black_box(slots.iter().zip(tickets).map(touch).fold(0, |sum, word| sum ^ word));
    }

    /// May this packet pass? `grants` judges a flow in its opener's direction; it is asked for a new session, for the first
    /// packet of an old one under a new generation, and for a SYN of the side that did not open it.
    ///
    /// Drops: NotGranted, NoSession, SessionTableFull, SessionQuotaExceeded.
    pub fn admit(
        &mut self,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl Fn(&Flow) -> bool,
    ) -> Result<Pass, DropReason> {
        if let Some(slot) = self.find(ticket.hash, &ticket.key) {
            if !self.lives[slot].is_expired(&self.timers, now_secs) {
                return self.pass(slot, ticket, generation, now_secs, grants);
            }
            self.remove_idle(slot, ticket.hash);
        }
        self.open(ticket, generation, now_secs, grants)
    }

    /// Whether `flow`, or its reverse, belongs to an open session that is still granted. For ICMP errors, which neither
    /// open a session nor keep one alive.
    pub fn contains(
        &self,
        flow: &Flow,
        generation: Generation,
        now_secs: u32,
        grants: impl FnOnce(&Flow) -> bool,
    ) -> bool {
        let ticket = self.ticket(flow);
        let Some(slot) = self.find(ticket.hash, &ticket.key) else { return false };
        let (session, life) = (&self.slab[slot], &self.lives[slot]);
        let from_opener = session.opener_is_low == ticket.source_is_low;
        let approved = || session.generation == generation || grants(&ticket.opening(from_opener));
        // What has only knocked has reached nobody who could have an error about it.
        !life.is_expired(&self.timers, now_secs) && life.way != Way::Knock && approved()
    }

    /// Between batches: looks at up to `max_entries` entries and frees the expired ones among them; makes room in the
    /// index ahead of need.
    pub fn expire(&mut self, max_entries: usize, now_secs: u32) {
        if self.index.len() * 4 > self.index.capacity() * 3 {
            self.index.reserve(self.index.capacity(), |entry| spread(entry.hash));
        } else if self.index.len() * INDEX_SPARSE < self.index.capacity() && self.index.capacity() > INDEX_START * 2 {
            // What a flood has left behind would keep the few sessions after it apart from one another, and out of the cache.
            self.index.shrink_to((self.index.len() * 4).max(INDEX_START), |entry| spread(entry.hash));
        }
        for _ in 0..max_entries.min(self.slab.len()) {
            self.hand = if self.hand + 1 < self.slab.len() { self.hand + 1 } else { 0 };
            let life = &self.lives[self.hand];
            if !life.is_over() && life.is_expired(&self.timers, now_secs) {
                let hash = self.hash(&self.slab[self.hand].key());
                self.remove_idle(self.hand, hash);
            }
        }
    }

    #[inline]
    fn hash(&self, key: &Key) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn pass(
        &mut self,
        slot: usize,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl Fn(&Flow) -> bool,
    ) -> Result<Pass, DropReason> {
        let (session, life) = (&mut self.slab[slot], &mut self.lives[slot]);
        let from_opener = session.opener_is_low == ticket.source_is_low;
        let is_tcp = life.phase != Phase::Untracked;
        let calls = is_tcp && !from_opener && ticket.segment.is_syn();
        if calls && !self.tracks[slot].is_simultaneous(life.phase, &ticket.segment) {
            return self.call_back(slot, ticket, generation, now_secs, grants);
        }
        if session.generation != generation {
            if !grants(&ticket.opening(from_opener)) {
                self.remove(slot, ticket.hash);
                return Err(DropReason::NotGranted);
            }
            session.generation = generation;
        }
        if life.way == Way::Knock {
            life.way = if from_opener { Way::Through } else { Way::Met };
        }
        if is_tcp {
            self.step(slot, from_opener, &ticket.segment, now_secs);
        } else {
            life.refresh(from_opener, now_secs);
        }
        Ok(self.pass_of(slot, from_opener))
    }

    /// The side that did not open the session asks for a connection of its own: it needs a grant of its own.
    fn call_back(
        &mut self,
        slot: usize,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl Fn(&Flow) -> bool,
    ) -> Result<Pass, DropReason> {
        if !grants(&ticket.opening(true)) {
            return Err(DropReason::NotGranted);
        }
        if !self.lives[slot].phase.is_over() {
            return Ok(self.pass_of(slot, false)); // the receiver will challenge it (RFC 5961 section 4.2)
        }
        self.remove(slot, ticket.hash);
        self.open(ticket, generation, now_secs, grants)
    }

    fn step(&mut self, slot: usize, from_opener: bool, segment: &Segment, now_secs: u32) {
        let (session, life) = (&self.slab[slot], &mut self.lives[slot]);
        let before = life.phase;
        let step = self.tracks[slot].step(before, from_opener, segment);
        if step.refreshes {
            life.last_packet_secs = now_secs;
        }
        life.phase = step.phase;
        match (before.is_half_open(), step.phase.is_half_open()) {
            (true, false) => self.half_open.take(session.opener_realm(), slot),
            (false, true) => self.half_open.push(session.opener_realm(), slot),
            _ => {}
        }
    }

    fn open(
        &mut self,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl Fn(&Flow) -> bool,
    ) -> Result<Pass, DropReason> {
        let Ticket { key, hash, source_is_low, may_open, segment } = *ticket;
        if !may_open {
            return Err(DropReason::NoSession);
        }
        let flow = ticket.opening(true);
        if !grants(&flow) {
            return Err(DropReason::NotGranted);
        }
        let opener = flow.source.realm;
        if self.opened_by(opener) >= self.limits.per_realm && !self.evict_half_open(opener) {
            return Err(DropReason::SessionQuotaExceeded);
        }
        if self.len() == self.limits.sessions && !self.evict_half_open(opener) {
            return Err(DropReason::SessionTableFull);
        }
        let (track, phase) = if ticket.is_tcp() { Track::open(&segment) } else { (Track::NONE, Phase::Untracked) };
        self.last_serial += 1;
        let life = Life::new(self.last_serial, key.protocol, phase, now_secs);
        let slot = self.take_slot(Session::new(key, source_is_low, generation), life, track);
        self.index.insert_unique(spread(hash), IndexEntry { hash, slot: slot as u32 }, |entry| spread(entry.hash));
        self.per_realm[usize::from(opener.0)] += 1;
        if phase.is_half_open() {
            self.half_open.push(opener, slot);
        }
        Ok(self.pass_of(slot, true))
    }

    /// Gives up the oldest connection of `realm` that is not established. `false`: there is none.
    fn evict_half_open(&mut self, realm: RealmId) -> bool {
        let Some(slot) = self.half_open.oldest(realm) else { return false };
        let hash = self.hash(&self.slab[slot].key());
        self.remove(slot, hash);
        true
    }

    /// There must be room.
    fn take_slot(&mut self, session: Session, life: Life, track: Track) -> usize {
        if let Some(slot) = self.free.pop() {
            let slot = slot as usize;
            (self.slab[slot], self.lives[slot]) = (session, life);
            if life.phase != Phase::Untracked {
                self.tracks[slot] = track;
            }
            return slot;
        }
        self.slab.push(session);
        self.lives.push(life);
        self.tracks.push(track);
        self.slab.len() - 1
    }

    #[inline]
    fn find(&self, hash: u32, key: &Key) -> Option<usize> {
        let entry = self
            .index
            .find(spread(hash), |entry| entry.hash == hash && self.slab[entry.slot as usize].key() == *key)?;
        Some(entry.slot as usize)
    }

    fn remove(&mut self, slot: usize, hash: u32) {
        // Of a connection each segment is asked for.
        if self.lives[slot].phase == Phase::Untracked {
            self.revocations = self.revocations.wrapping_add(1);
        }
        self.remove_idle(slot, hash);
    }

    /// The same of one that has been idle for too long: nobody was told in this second that it goes on.
    fn remove_idle(&mut self, slot: usize, hash: u32) {
        if let Ok(entry) = self.index.find_entry(spread(hash), |entry| entry.slot as usize == slot) {
            entry.remove();
        }
        self.let_go_of(slot);
        let realm = self.slab[slot].opener_realm();
        let life = &mut self.lives[slot];
        life.end();
        if life.phase.is_half_open() {
            self.half_open.take(realm, slot);
        }
        self.per_realm[usize::from(realm.0)] -= 1;
        self.free.push(slot as u32);
    }
}

#[cfg(test)]
mod tests;
