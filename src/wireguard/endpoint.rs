//! Every peer behind one UDP port. Pure: no socket, and no clock but boringtun's.
//!
//! After `configure`, `open` or `handle_timeout`, send the outbox, drain `poll_event`, then read `poll_timeout`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::event::{DownReason, Event, EventQueue, Refusal};
use super::index::IndexTable;
use super::peer::{Peer, PeerConfig};
use super::source_limit::SourceLimit;
use super::status::PeerStatus;
use crate::net::{Timestamp, TunnelId};
use crate::packet::{DropReason, Outbox};

/// Each peer's timers run once in so many ticks, that is, every 250 ms; each tick serves a part of the peers.
const TICKS_PER_ROUND: u32 = 4;
const TICK: Duration = Duration::from_micros(62_500);
/// Most initiations in one tick (about 500 per second), each costing some Diffie-Hellmans.
pub const INITIATIONS_PER_TICK: u32 = 32;

pub struct Endpoint {
    pub(super) private_key: StaticSecret,
    pub(super) public_key: PublicKey,
    /// Counts handshakes of all peers together, and makes the cookies.
    pub(super) limiter: RateLimiter,
    /// Counts in step with `limiter`, and limits those who have a cookie.
    pub(super) source_limit: SourceLimit,
    /// What the peers get: boringtun checks a second time, after us.
    unlimited: Arc<RateLimiter>,
    /// By tunnel number.
    pub(super) peers: Vec<Option<Box<Peer>>>,
    pub(super) indices: IndexTable,
    pub(super) by_key: BTreeMap<[u8; 32], TunnelId>,
    pub(super) events: EventQueue,
    /// Tunnels that wait for their turn to initiate, first come, first served.
    initiations: VecDeque<TunnelId>,
    initiations_left: u32,
    /// The tunnel at which the next tick goes on.
    cursor: usize,
    next_tick: Timestamp,
    /// The latest time that we were told.
    pub(super) now: Timestamp,
}

impl Endpoint {
    /// `handshakes_per_sec`: beyond this many, senders must prove their address first (cookies).
    pub fn new(private_key: &Zeroizing<[u8; 32]>, handshakes_per_sec: u32, now: Timestamp) -> Self {
        let private_key = StaticSecret::from(**private_key);
        let public_key = PublicKey::from(&private_key);
        Endpoint {
            limiter: RateLimiter::new(&public_key, handshakes_per_sec.into()),
            source_limit: SourceLimit::new(private_key.as_bytes(), handshakes_per_sec, now),
            unlimited: Arc::new(RateLimiter::new(&public_key, u64::MAX)),
            private_key,
            public_key,
            peers: Vec::new(),
            indices: IndexTable::default(),
            by_key: BTreeMap::new(),
            events: EventQueue::default(),
            initiations: VecDeque::new(),
            initiations_left: INITIATIONS_PER_TICK,
            cursor: 0,
            next_tick: now,
            now,
        }
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.public_key.to_bytes()
    }

    /// Reconciles with the configured peers: those with the same keys and endpoint keep their sessions, changed ones
    /// start anew, missing ones vanish. A new peer costs two Diffie-Hellmans (about 100 µs).
    pub fn configure(&mut self, peers: &[PeerConfig], now: Timestamp) {
        self.now = self.now.max(now);
        let wanted = self.acceptable(peers);
        for slot in 0..self.peers.len() {
            let Some(peer) = &self.peers[slot] else { continue };
            match wanted.get(&peer.config().tunnel) {
                Some(config) if config.same_identity(peer.config()) => {}
                Some(_) => self.remove(slot, DownReason::Reconfigured),
                None => self.remove(slot, DownReason::Removed),
            }
        }
        let peers = &self.peers;
        self.initiations.retain(|tunnel| peers[tunnel.index()].is_some()); // so each waits there at most once
        for config in wanted.into_values() {
            self.add_or_keep(config);
        }
        self.next_tick = self.next_tick.min(now);
    }

    /// Seals `packet` straight into `outbox`. A peer without a session is called, if it is known where.
    pub fn seal(&mut self, tunnel: TunnelId, packet: &[u8], outbox: &mut Outbox) -> Result<(), DropReason> {
        let Some(Some(peer)) = self.peers.get_mut(tunnel.index()) else { return Err(DropReason::NoTunnel) };
        if peer.is_live() {
            return peer.seal(packet, outbox);
        }
        if peer.status().path.is_none() {
            return Err(DropReason::TunnelHasNoEndpoint);
        }
        match peer.may_initiate(self.now) {
            true if self.initiations_left > 0 && peer.initiate(outbox, self.now) => self.initiations_left -= 1,
            true => peer.want_handshake(), // in its turn
            false => {}
        }
        Err(DropReason::TunnelDown)
    }

    /// Whether packets can be sealed to the peer. A flag: cheap enough to ask for every packet.
    #[inline]
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        self.peers.get(tunnel.index()).is_some_and(|peer| peer.as_ref().is_some_and(|peer| peer.is_live()))
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.now = self.now.max(now);
        if now < self.next_tick {
            return;
        }
        if self.source_limit.renew(now) {
            self.limiter.reset_count();
        }
        let ticks_missed = now.saturating_since(self.next_tick).as_micros() / TICK.as_micros();
        let ticks = (ticks_missed + 1).min(TICKS_PER_ROUND.into()) as usize;
        let peers = (self.peers.len().div_ceil(TICKS_PER_ROUND as usize) * ticks).min(self.peers.len());
        for _ in 0..peers {
            self.cursor = (self.cursor + 1) % self.peers.len();
            self.run_timers_of(self.cursor, outbox);
        }
        self.initiations_left = INITIATIONS_PER_TICK;
        self.send_initiations(outbox);
        self.next_tick = now + TICK;
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.poll()
    }

    /// Events that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        Some((self.next_tick, "wireguard timers"))
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<PeerStatus> {
        Some(self.peers.get(tunnel.index())?.as_ref()?.status())
    }

    /// The peers that can be served, the first of each public key.
    fn acceptable<'a>(&mut self, peers: &'a [PeerConfig]) -> BTreeMap<TunnelId, &'a PeerConfig> {
        let mut keys = BTreeMap::new();
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
            self.events.push(Event::Refused { tunnel, why });
        }
        accepted
    }

    fn remove(&mut self, slot: usize, why: DownReason) {
        let Some(peer) = self.peers[slot].take() else { return };
        let tunnel = peer.config().tunnel;
        self.by_key.remove(&peer.config().public_key);
        if peer.is_live() {
            self.events.push(Event::Down { tunnel, why });
        }
    }

    fn add_or_keep(&mut self, config: &PeerConfig) {
        let tunnel = config.tunnel;
        if self.peers.len() <= tunnel.index() {
            self.peers.resize_with(tunnel.index() + 1, || None);
        }
        let slot = &mut self.peers[tunnel.index()];
        if let Some(peer) = slot {
            return peer.set_keepalive(config.keepalive, self.now);
        }
        let Some(index) = self.indices.renew(tunnel) else { return };
        let mut peer = Peer::new(config.clone(), index, &self.private_key, &self.unlimited);
        if peer.wants_initiation(self.now) {
            peer.queued = true;
            self.initiations.push_back(tunnel);
        }
        *slot = Some(Box::new(peer));
        self.by_key.insert(config.public_key, tunnel);
    }

    fn run_timers_of(&mut self, slot: usize, outbox: &mut Outbox) {
        let Some(peer) = &mut self.peers[slot] else { return };
        peer.handle_timeout(outbox, &mut self.events, self.now);
        if !peer.queued && peer.wants_initiation(self.now) {
            peer.queued = true;
            self.initiations.push_back(peer.config().tunnel);
        }
    }

    fn send_initiations(&mut self, outbox: &mut Outbox) {
        while self.initiations_left > 0 {
            let Some(&tunnel) = self.initiations.front() else { return };
            if let Some(peer) = &mut self.peers[tunnel.index()] {
                // It may have been called, or have called us, while it waited.
                if peer.wants_initiation(self.now) {
                    if !peer.initiate(outbox, self.now) {
                        return; // the outbox is full
                    }
                    self.initiations_left -= 1;
                }
                peer.queued = false;
            }
            self.initiations.pop_front();
        }
    }
}
