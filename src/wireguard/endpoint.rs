//! Every peer behind one UDP port. Pure: no socket, no clock, no randomness but what is handed in.
//!
//! After `configure`, `open` or `handle_timeout`, send the outbox, drain `poll_event`, then read `poll_timeout`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::RandomState;
use zeroize::Zeroizing;

use super::event::{DownReason, Event, EventQueue, Refusal};
use super::handshake::Handshake;
use super::index::IndexTable;
use super::mac::Gatekeeper;
use super::peer::{Peer, PeerConfig};
use super::primitives::{KeyPair, Random};
use super::session::Session;
use super::source_limit::SourceLimit;
use super::status::PeerStatus;
use crate::net::{TimerWheel, Timestamp, TunnelId};
use crate::packet::{DropReason, Outbox};

/// What timers are told apart by: what is due at nearly the same time is done together.
const TIMER_TICK: Duration = Duration::from_millis(50);
/// Peers that are looked at in one call; what more is due comes with the next.
const LOOKS_PER_CALL: usize = 2048;
/// In which the initiations are counted.
const TICK: Duration = Duration::from_micros(62_500);
/// Most initiations in one tick (about 500 per second), each costing some Diffie-Hellmans.
pub const INITIATIONS_PER_TICK: u32 = 32;

pub struct Endpoint {
    pub(super) shared: Shared,
    pub(super) gatekeeper: Gatekeeper,
    /// Counts handshakes of all peers together, and limits those who have a cookie.
    pub(super) source_limit: SourceLimit,
    /// By tunnel number.
    pub(super) peers: Vec<Option<Box<Peer>>>,
    pub(super) by_key: BTreeMap<[u8; 32], TunnelId>,
    /// Tunnels that wait for their turn to initiate, first come, first served.
    initiations: VecDeque<TunnelId>,
    initiations_left: u32,
    tick_ends: Timestamp,
}

/// What all peers have in common.
pub(super) struct Shared {
    pub identity: KeyPair,
    pub indices: IndexTable,
    pub events: EventQueue,
    /// See [`Endpoint::take_touched`].
    pub touched: BTreeSet<TunnelId>,
    /// When each peer is to be looked at next, by tunnel number (see `timers.rs`).
    pub looks: TimerWheel,
    pub random: Random,
    /// The time since 1970 at [`Timestamp::ZERO`].
    pub unix_time_at_zero: Duration,
    /// The latest time that we were told.
    pub now: Timestamp,
}

impl Shared {
    pub fn new_index(&mut self, tunnel: TunnelId) -> u32 {
        let mut random = [0; 4];
        (self.random)(&mut random);
        self.indices.assign(tunnel, u32::from_le_bytes(random))
    }

    /// Drops a session: its keys are erased, and its index is nobody's.
    pub fn release(&mut self, session: Option<Session>) {
        if let Some(session) = session {
            self.indices.release(session.index());
        }
    }

    /// Something other than a packet happened to the peer: its timers must know.
    pub fn look_at(&mut self, tunnel: TunnelId) {
        self.looks.set_at_the_latest(tunnel.index(), self.now);
    }

    pub fn since_1970(&self) -> Duration {
        self.unix_time_at_zero.saturating_add(self.now - Timestamp::ZERO)
    }
}

impl Endpoint {
    /// `handshakes_per_sec`: beyond this many, senders must prove their address first (cookies). `random` makes keys.
    /// `unix_time_at_zero`: the time since 1970 at [`Timestamp::ZERO`], for the stamps of handshakes.
    pub fn new(
        private_key: &Zeroizing<[u8; 32]>,
        handshakes_per_sec: u32,
        mut random: Random,
        unix_time_at_zero: Duration,
        now: Timestamp,
    ) -> Self {
        let identity = KeyPair::new(private_key);
        let mut seed = [0; 8];
        random(&mut seed);
        Endpoint {
            gatekeeper: Gatekeeper::new(identity.public()),
            source_limit: SourceLimit::new(u64::from_le_bytes(seed), handshakes_per_sec, now),
            shared: Shared {
                identity,
                indices: IndexTable::default(),
                events: EventQueue::default(),
                touched: BTreeSet::new(),
                looks: TimerWheel::new(TIMER_TICK, now),
                random,
                unix_time_at_zero,
                now,
            },
            peers: Vec::new(),
            by_key: BTreeMap::new(),
            initiations: VecDeque::new(),
            initiations_left: INITIATIONS_PER_TICK,
            tick_ends: now,
        }
    }

    pub fn public_key(&self) -> [u8; 32] {
        *self.shared.identity.public()
    }

    /// Reconciles with the configured peers: those with the same keys and endpoint keep their sessions, changed ones
    /// start anew, missing ones vanish. A new peer costs a Diffie-Hellman. A public key that stays, under whatever number,
    /// keeps its stamps: else recorded initiations would count once more, and our next could be taken for a replay.
    pub fn configure(&mut self, peers: &[PeerConfig], now: Timestamp) {
        self.shared.now = self.shared.now.max(now);
        let wanted = self.acceptable(peers);
        let mut handshakes = BTreeMap::new();
        for slot in 0..self.peers.len() {
            let Some(peer) = &self.peers[slot] else { continue };
            let why = match wanted.get(&peer.config().tunnel) {
                Some(config) if config.same_identity(peer.config()) => continue,
                Some(_) => DownReason::Reconfigured,
                None => DownReason::Removed,
            };
            handshakes.extend(self.remove(slot, why));
        }
        let peers = &self.peers;
        self.initiations.retain(|tunnel| peers[tunnel.index()].is_some()); // so each waits there at most once
        for config in wanted.into_values() {
            self.add_or_keep(config, handshakes.remove(&config.public_key));
        }
        self.tick_ends = self.tick_ends.min(now);
    }

    /// Seals `packet` with padding up to `padded_bytes`, to find out whether so much arrives. `false`: it cannot go now.
    pub fn seal_probe(&mut self, tunnel: TunnelId, packet: &[u8], padded_bytes: usize, outbox: &mut Outbox) -> bool {
        let Some(Some(peer)) = self.peers.get_mut(tunnel.index()) else { return false };
        peer.seal_probe(packet, padded_bytes, outbox, self.shared.now)
    }

    /// Tunnels that have new keys, or whose peer sends from elsewhere, since this was asked last. Unlike an event, none is
    /// lost.
    pub fn take_touched(&mut self) -> BTreeSet<TunnelId> {
        std::mem::take(&mut self.shared.touched)
    }

    /// From what keys are made of.
    pub fn random_u32(&mut self) -> u32 {
        let mut random = [0; 4];
        (self.shared.random)(&mut random);
        u32::from_ne_bytes(random)
    }

    /// Whether packets can be sealed to the peer. A flag: cheap enough to ask for every packet.
    #[inline]
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        self.peers.get(tunnel.index()).is_some_and(|peer| peer.as_ref().is_some_and(|peer| peer.is_live()))
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.shared.now = self.shared.now.max(now);
        for _ in 0..LOOKS_PER_CALL {
            let Some(slot) = self.shared.looks.poll(self.shared.now) else { break };
            self.run_timers_of(slot, outbox);
        }
        if now >= self.tick_ends {
            self.initiations_left = INITIATIONS_PER_TICK;
            self.tick_ends = now + TICK;
            self.send_initiations(outbox);
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.poll()
    }

    /// Events that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        self.shared.events.lost()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let calls = (!self.initiations.is_empty()).then_some((self.tick_ends, "wireguard initiations"));
        let looks = self.shared.looks.poll_timeout().map(|at| (at, "wireguard timers"));
        [looks, calls].into_iter().flatten().min()
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<PeerStatus> {
        Some(self.peers.get(tunnel.index())?.as_ref()?.status())
    }

    /// A packet waits for a peer without a session.
    #[cold]
    pub(super) fn call(&mut self, tunnel: TunnelId, outbox: &mut Outbox) -> DropReason {
        let Some(Some(peer)) = self.peers.get_mut(tunnel.index()) else { return DropReason::NoTunnel };
        if peer.traffic.path.is_none() {
            return DropReason::TunnelHasNoEndpoint;
        }
        match peer.may_initiate(self.shared.now) {
            true if self.initiations_left > 0 && peer.initiate(outbox, &mut self.shared) => self.initiations_left -= 1,
            true => {
                peer.want_handshake(); // in its turn
                queue(peer, &mut self.initiations, self.shared.now);
            }
            false => return DropReason::TunnelDown,
        }
        self.shared.look_at(tunnel);
        DropReason::TunnelDown
    }

    /// The peers that can be served, the first of each public key.
    fn acceptable<'a>(&mut self, peers: &'a [PeerConfig]) -> BTreeMap<TunnelId, &'a PeerConfig> {
        let mut keys = HashMap::with_capacity_and_hasher(peers.len(), RandomState::default());
        let mut accepted = BTreeMap::new();
        for config in peers {
            let tunnel = config.tunnel;
            let why = match () {
                () if tunnel.index() >= super::index::MAX_TUNNELS => Refusal::TooManyTunnels,
                () if *keys.entry(config.public_key).or_insert(tunnel) != tunnel => Refusal::KeyTwice,
                () => {
                    accepted.insert(tunnel, config);
                    continue;
                }
            };
            self.shared.events.push(Event::Refused { tunnel, why });
        }
        accepted
    }

    /// What its public key must not forget.
    fn remove(&mut self, slot: usize, why: DownReason) -> Option<([u8; 32], Handshake)> {
        let mut peer = self.peers[slot].take()?;
        self.shared.looks.cancel(slot);
        self.by_key.remove(&peer.config().public_key);
        peer.end_attempt(&mut self.shared.indices);
        peer.erase_sessions(why, &mut self.shared);
        Some((peer.config().public_key, peer.handshake))
    }

    fn add_or_keep(&mut self, config: &PeerConfig, handshake: Option<Handshake>) {
        let tunnel = config.tunnel;
        if self.peers.len() <= tunnel.index() {
            self.peers.resize_with(tunnel.index() + 1, || None);
        }
        let slot = &mut self.peers[tunnel.index()];
        if slot.as_ref().is_some_and(|peer| peer.config() == config) {
            return;
        }
        self.shared.look_at(tunnel);
        if let Some(peer) = slot {
            return peer.adjust(config, self.shared.now);
        }
        let Some(mut peer) = Peer::new(config.clone(), &self.shared.identity) else {
            return self.shared.events.push(Event::Refused { tunnel, why: Refusal::UnusableKey });
        };
        peer.handshake = handshake.unwrap_or_default();
        queue(&mut peer, &mut self.initiations, self.shared.now);
        *slot = Some(Box::new(peer));
        self.by_key.insert(config.public_key, tunnel);
    }

    fn run_timers_of(&mut self, slot: usize, outbox: &mut Outbox) {
        let Some(peer) = &mut self.peers[slot] else { return };
        peer.handle_timeout(outbox, &mut self.shared);
        queue(peer, &mut self.initiations, self.shared.now);
        if let Some(at) = peer.next_look(self.shared.now) {
            self.shared.looks.set(slot, at);
        }
    }

    fn send_initiations(&mut self, outbox: &mut Outbox) {
        while self.initiations_left > 0 {
            let Some(&tunnel) = self.initiations.front() else { return };
            if let Some(peer) = &mut self.peers[tunnel.index()] {
                // It may have been called, or have called us, while it waited.
                if peer.wants_initiation(self.shared.now) {
                    if !peer.initiate(outbox, &mut self.shared) {
                        return; // the outbox is full
                    }
                    self.initiations_left -= 1;
                }
                peer.queued = false;
                self.shared.look_at(tunnel);
            }
            self.initiations.pop_front();
        }
    }
}

/// Behind those that wait already, if it is to be called.
fn queue(peer: &mut Peer, initiations: &mut VecDeque<TunnelId>, now: Timestamp) {
    if !peer.queued && peer.wants_initiation(now) {
        peer.queued = true;
        initiations.push_back(peer.config().tunnel);
    }
}
