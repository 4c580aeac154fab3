//! Sessions: who has opened what, so that replies return and nothing else does.
//!
//! One entry serves both directions. Its key is the flow with its two sides in a fixed order, so that a packet and its
//! reply meet the same entry; a flag says which side opened it. Realms are part of the key.
//!
//! The table is bounded as a whole and per opening realm. Entries of one cache line live in a slab, whose room is
//! reserved at the start; an index from hash to slot stands apart and is as large as the load asks for, so that ten
//! thousand sessions stay in the processor's cache under a limit of a million. It doubles between batches
//! ([`Sessions::expire`]), before it is full. Expiry is a hand that walks the slab a little with every such call.
//!
//! A session is only as good as the configuration that approved it: it carries the generation of that, and the first
//! packet under a newer one is judged afresh, in the opener's direction.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::flow::{Asker, Flow, Side};
use crate::net::policy::protocol;
use crate::net::{Canonical, Generation, RealmId};
use crate::packet::DropReason;
use crate::packet::batch::BATCH_PACKETS;
use crate::wire::tcp::flag;

/// Bounds of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub sessions: usize,
    /// Sessions that hosts of one realm may have opened.
    pub per_realm: usize,
}

/// Idle times in seconds.
mod idle_secs {
    /// RFC 4787 REQ-5: at least 2 minutes, 5 recommended.
    pub const UDP: u32 = 300;
    /// RFC 5382 REQ-5: an established connection, at least 2 hours 4 minutes.
    pub const TCP_ESTABLISHED: u32 = 7440;
    /// RFC 5382 REQ-5: a connection that is opening or closing, at least 4 minutes.
    pub const TCP_TRANSITORY: u32 = 240;
    /// RFC 5508 REQ-1: at least 60 seconds.
    pub const ICMP: u32 = 60;
    /// Protocols without ports: as UDP.
    pub const OTHER: u32 = 300;
}

/// How far a TCP connection has come; enough to choose its idle time.
mod seen {
    pub const FROM_OPENER: u8 = 1;
    pub const FROM_OTHER: u8 = 2;
    pub const FIN_FROM_OPENER: u8 = 4;
    pub const FIN_FROM_OTHER: u8 = 8;
    pub const RESET: u8 = 16;
    /// The side holds a NAPT binding.
    pub const LOW_HOLDS: u8 = 32;
    pub const HIGH_HOLDS: u8 = 64;
    pub const HOLDS: u8 = LOW_HOLDS | HIGH_HOLDS;
}

/// A side without its address: realm and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    realm: RealmId,
    port: u16,
}

/// Both sides in a fixed order, flat, so that an entry fits a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key {
    low: Canonical,
    high: Canonical,
    low_place: Place,
    high_place: Place,
    protocol: u8,
    /// For echo: whether the lower side asks.
    low_asks: Option<bool>,
}

impl Key {
    /// The key of a flow, and whether its source is the lower side.
    #[inline]
    fn of(flow: &Flow) -> (Key, bool) {
        let source_is_low = flow.source <= flow.destination;
        let (low, high) = if source_is_low { (flow.source, flow.destination) } else { (flow.destination, flow.source) };
        let place = |side: Side| Place { realm: side.realm, port: side.port };
        let key = Key {
            low: low.address,
            high: high.address,
            low_place: place(low),
            high_place: place(high),
            protocol: flow.protocol,
            low_asks: match flow.asker {
                Asker::Neither => None,
                Asker::Source => Some(source_is_low),
                Asker::Destination => Some(!source_is_low),
            },
        };
        (key, source_is_low)
    }
}

impl Hash for Key {
    /// Few wide writes: this runs for every packet.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let place = |place: Place| u64::from(place.realm.0) | u64::from(place.port) << 16;
        state.write_u128(self.low.0);
        state.write_u128(self.high.0);
        state.write_u64(place(self.low_place) | place(self.high_place) << 32);
        state.write_u8(self.protocol);
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Session {
    key: Key,
    opener_is_low: bool,
    occupied: bool,
    seen: u8,
    last_packet_secs: u32,
    generation: Generation,
}

impl Session {
    fn opener_realm(&self) -> RealmId {
        if self.opener_is_low { self.key.low_place.realm } else { self.key.high_place.realm }
    }

    /// The other side keeps only a living TCP connection alive: else one datagram would open a way in for ever
    /// (RFC 4787 REQ-6: inbound refresh is a matter of policy).
    fn note(&mut self, from_opener: bool, tcp_flags: u8, now_secs: u32) {
        if from_opener || (self.key.protocol == protocol::TCP && !self.is_closing()) {
            self.last_packet_secs = now_secs;
        }
        self.seen |= if from_opener { seen::FROM_OPENER } else { seen::FROM_OTHER };
        if tcp_flags & flag::FIN != 0 {
            self.seen |= if from_opener { seen::FIN_FROM_OPENER } else { seen::FIN_FROM_OTHER };
        }
        if tcp_flags & flag::RST != 0 {
            self.seen |= seen::RESET;
        }
        if tcp_flags & (flag::SYN | flag::ACK) == flag::SYN && from_opener {
            self.seen = self.seen & seen::HOLDS | seen::FROM_OPENER; // the same ports again: a new connection
        }
    }

    fn is_closing(&self) -> bool {
        const CLOSED: u8 = seen::FIN_FROM_OPENER | seen::FIN_FROM_OTHER;
        self.seen & seen::RESET != 0 || self.seen & CLOSED == CLOSED
    }

    fn idle_secs(&self) -> u32 {
        const BOTH: u8 = seen::FROM_OPENER | seen::FROM_OTHER;
        match self.key.protocol {
            protocol::UDP => idle_secs::UDP,
            protocol::ICMP | protocol::ICMPV6 => idle_secs::ICMP,
            protocol::TCP => {
                let established = self.seen & BOTH == BOTH;
                if established && !self.is_closing() { idle_secs::TCP_ESTABLISHED } else { idle_secs::TCP_TRANSITORY }
            }
            _ => idle_secs::OTHER,
        }
    }

    fn is_expired(&self, now_secs: u32) -> bool {
        now_secs.wrapping_sub(self.last_packet_secs) >= self.idle_secs()
    }
}

const _: () = assert!(size_of::<Session>() == 64, "one cache line");

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

/// What the table needs to know of a packet, worked out ahead so that a batch's look-ups can overlap.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    key: Key,
    hash: u32,
    source_is_low: bool,
    tcp_flags: u8,
    may_open: bool,
}

impl Ticket {
    /// The flow as its opener sends it, when the packet comes from the opener or not.
    fn opening(&self, from_opener: bool) -> Flow {
        let Key { low, high, low_place, high_place, protocol, low_asks } = self.key;
        let low = Side { address: low, realm: low_place.realm, port: low_place.port };
        let high = Side { address: high, realm: high_place.realm, port: high_place.port };
        let low_opens = self.source_is_low == from_opener;
        let (source, destination) = if low_opens { (low, high) } else { (high, low) };
        let asker = match low_asks {
            None => Asker::Neither,
            Some(low_asks) if low_asks == low_opens => Asker::Source,
            Some(_) => Asker::Destination,
        };
        Flow { source, destination, protocol, asker, tcp_flags: self.tcp_flags, may_open: self.may_open }
    }
}

/// Sessions that the index has room for at the start.
const INDEX_START: usize = 1024;

/// One worker's session table.
#[derive(Debug)]
pub struct Sessions {
    limits: Limits,
    /// Secret, so that nobody can choose ports that collide.
    hasher: FixedState,
    index: HashTable<IndexEntry>,
    slab: Vec<Session>,
    free: Vec<u32>,
    /// Open sessions by the opener's realm.
    per_realm: Vec<u32>,
    hand: usize,
    /// Bindings that ended sessions have let go of.
    released: Vec<Held>,
}

impl Sessions {
    /// `hash_seed` must be random and secret.
    pub fn new(limits: Limits, hash_seed: u64) -> Self {
        Sessions {
            limits,
            hasher: FixedState::with_seed(hash_seed),
            index: HashTable::with_capacity(INDEX_START.min(limits.sessions)),
            slab: Vec::with_capacity(limits.sessions),
            free: Vec::with_capacity(limits.sessions),
            per_realm: vec![0; usize::from(u16::MAX) + 1],
            hand: 0,
            released: Vec::with_capacity(2 * BATCH_PACKETS),
        }
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

    /// The first step towards [`Sessions::admit`].
    #[inline]
    pub fn ticket(&self, flow: &Flow) -> Ticket {
        let (key, source_is_low) = Key::of(flow);
        let Flow { tcp_flags, may_open, .. } = *flow;
        Ticket { key, hash: self.hash(&key), source_is_low, tcp_flags, may_open }
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
        let touch = |slot: &u32| self.slab.get(*slot as usize).map_or(0, |session| session.last_packet_secs);
        std::hint::black_box(slots.iter().map(touch).fold(0, |sum, secs| sum ^ secs));
    }

    /// May this packet pass? `grants` judges a flow in its opener's direction; it is asked only for a new session and
    /// for the first packet of an old one under a new generation.
    ///
    /// Drops: NotGranted, NoSession, SessionTableFull, SessionQuotaExceeded.
    pub fn admit(
        &mut self,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl FnOnce(&Flow) -> bool,
    ) -> Result<(), DropReason> {
        if let Some(slot) = self.find(ticket.hash, &ticket.key) {
            if !self.slab[slot].is_expired(now_secs) {
                return self.pass(slot, ticket, generation, now_secs, grants);
            }
            self.remove(slot, ticket.hash);
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
        let session = &self.slab[slot];
        let from_opener = session.opener_is_low == ticket.source_is_low;
        let approved = || session.generation == generation || grants(&ticket.opening(from_opener));
        !session.is_expired(now_secs) && approved()
    }

    /// Between batches: looks at up to `max_entries` entries and frees the expired ones among them; makes room in the
    /// index ahead of need.
    pub fn expire(&mut self, max_entries: usize, now_secs: u32) {
        if self.index.len() * 4 > self.index.capacity() * 3 {
            self.index.reserve(self.index.capacity(), |entry| spread(entry.hash));
        }
        for _ in 0..max_entries.min(self.slab.len()) {
            self.hand = if self.hand + 1 < self.slab.len() { self.hand + 1 } else { 0 };
            let session = &self.slab[self.hand];
            if session.occupied && session.is_expired(now_secs) {
                let hash = self.hash(&session.key);
                self.remove(self.hand, hash);
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
        grants: impl FnOnce(&Flow) -> bool,
    ) -> Result<(), DropReason> {
        let session = &mut self.slab[slot];
        let from_opener = session.opener_is_low == ticket.source_is_low;
        if !from_opener && ticket.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN {
            return Err(DropReason::NotGranted); // no reply: the other side opens a connection of its own
        }
        if session.generation != generation {
            if !grants(&ticket.opening(from_opener)) {
                self.remove(slot, ticket.hash);
                return Err(DropReason::NotGranted);
            }
            session.generation = generation;
        }
        session.note(from_opener, ticket.tcp_flags, now_secs);
        Ok(())
    }

    fn open(
        &mut self,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl FnOnce(&Flow) -> bool,
    ) -> Result<(), DropReason> {
        let Ticket { key, hash, source_is_low, tcp_flags, may_open } = *ticket;
        if !may_open {
            return Err(DropReason::NoSession);
        }
        let flow = ticket.opening(true);
        if !grants(&flow) {
            return Err(DropReason::NotGranted);
        }
        let opener = usize::from(flow.source.realm.0);
        if self.per_realm[opener] as usize >= self.limits.per_realm {
            return Err(DropReason::SessionQuotaExceeded);
        }
        let mut session = Session {
            key,
            opener_is_low: source_is_low,
            occupied: true,
            seen: 0,
            last_packet_secs: now_secs,
            generation,
        };
        session.note(true, tcp_flags, now_secs);
        let slot = self.take_slot(session).ok_or(DropReason::SessionTableFull)?;
        self.index.insert_unique(spread(hash), IndexEntry { hash, slot }, |entry| spread(entry.hash));
        self.per_realm[opener] += 1;
        Ok(())
    }

    fn take_slot(&mut self, session: Session) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.slab[slot as usize] = session;
            return Some(slot);
        }
        if self.slab.len() == self.limits.sessions {
            return None;
        }
        self.slab.push(session);
        Some(self.slab.len() as u32 - 1)
    }

    #[inline]
    fn find(&self, hash: u32, key: &Key) -> Option<usize> {
        let entry =
            self.index.find(spread(hash), |entry| entry.hash == hash && self.slab[entry.slot as usize].key == *key)?;
        Some(entry.slot as usize)
    }

    fn remove(&mut self, slot: usize, hash: u32) {
        if let Ok(entry) = self.index.find_entry(spread(hash), |entry| entry.slot as usize == slot) {
            entry.remove();
        }
        self.let_go_of(slot);
        let session = &mut self.slab[slot];
        session.occupied = false;
        let realm = usize::from(session.opener_realm().0);
        self.per_realm[realm] -= 1;
        self.free.push(slot as u32);
    }
}

mod holds;
pub use holds::Held;

#[cfg(test)]
mod tests;
