//! Every IKE SA of the appliance. Pure: no socket, no clock, and randomness is handed in.
//!
//! After `configure`, `handle_input` or `handle_timeout`, send the outbox, drain `poll_event`, then read `poll_timeout`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::context::{ChildSpis, Effect};
use super::diagnosis::Recorded;
use super::event::{DownReason, Event, EventQueue, Refusal};
use super::exchange::create_child::CHILD_RETRY;
use super::half_open::HalfOpen;
use super::limits::Limits;
use super::peer::{PeerConfig, Ports, Setup, SharedPeer};
use super::peers::Peers;
use super::sa::{IkeSa, Task};
use super::status::Status;
use super::table::{Entry, NEVER};
use crate::net::random::Random;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::Outbox;

/// Most tunnels that one appliance serves by IPsec.
pub const MAX_TUNNELS: usize = 65_536;

pub struct Endpoint {
    pub(super) limits: Limits,
    pub(super) ports: Ports,
    pub(super) bound_to: Vec<IpAddr>,
    pub(super) unix_secs_at_zero: u64,
    pub(super) random: Box<dyn Random + Send>,
    pub(super) peers: Peers,
    /// By our SPI. We choose those, at random: nobody can have them collide.
    pub(super) sas: HashMap<u64, Entry, FixedState>,
    /// When each SA next has something to do.
    pub(super) deadlines: BTreeSet<(Timestamp, u64)>,
    pub(super) half_open: HalfOpen,
    pub(super) child_spis: ChildSpis,
    pub(super) events: EventQueue,
    pub(super) effects: Vec<Effect>,
    pub(super) tick_ends: Timestamp,
    pub(super) initiations_left: u32,
    /// The latest time that we were told.
    pub(super) now: Timestamp,
}

impl Endpoint {
    pub fn new(mut setup: Setup, now: Timestamp) -> Self {
        let mut secret = [0; 32];
        setup.random.fill(&mut secret);
        Endpoint {
            initiations_left: setup.limits.initiations_per_tick,
            limits: setup.limits,
            ports: setup.ports,
            bound_to: setup.local_addresses,
            unix_secs_at_zero: setup.unix_secs_at_zero,
            random: setup.random,
            peers: Peers::default(),
            sas: HashMap::default(),
            deadlines: BTreeSet::new(),
            half_open: HalfOpen::new(secret),
            child_spis: ChildSpis::default(),
            events: EventQueue::default(),
            effects: Vec::new(),
            tick_ends: now,
            now,
        }
    }

    /// Reconciles with the configured peers: those with the same identities, secrets and address keep their SAs (and ask
    /// for what their selectors lack); changed ones start anew, missing ones are deleted, and those
    /// whom new authorities or revocation lists no longer vouch for. Those that are the very ones of before (by `Arc`) cost next to nothing.
    pub fn configure(&mut self, peers: Vec<Arc<PeerConfig>>, now: Timestamp) {
        self.now = self.now.max(now);
        let (kept, others): (Vec<SharedPeer>, _) = peers.into_iter().partition(|peer| self.peers.is(peer));
        let kept: BTreeSet<TunnelId> = kept.into_iter().map(|peer| peer.tunnel).collect();
        let wanted = self.acceptable(others, &kept);
        let is_kept = |config: &&SharedPeer| kept.contains(&config.tunnel);
        let configs = self.peers.iter().map(|peer| &peer.config);
        let changed: Vec<SharedPeer> = configs.filter(|config| !is_kept(config)).cloned().collect();
        let is_same_set = changed.is_empty() && wanted.is_empty();
        for config in changed {
            match wanted.get(&config.tunnel) {
                Some(new) if new.same_identity(&config) && self.is_still_believed(&config, new) => {}
                Some(_) => self.remove_peer(config.tunnel, DownReason::Reconfigured),
                None => self.remove_peer(config.tunnel, DownReason::Removed),
            }
        }
        for config in wanted.into_values() {
            self.add_or_keep(config);
        }
        kept.into_iter().for_each(|tunnel| self.peers.call_if_wanted(tunnel, self.now));
        if !is_same_set {
            self.peers.reindex();
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.poll()
    }

    /// Reports that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        self.events.lost()
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.now = self.now.max(now);
        let due: Vec<u64> = self.deadlines.range(..=(self.now, u64::MAX)).map(|(_, spi)| *spi).collect();
        for spi in due {
            self.with_sa(spi, outbox, |sa, cx| sa.handle_timeout(cx));
        }
        self.make_calls(outbox);
    }

    /// Says goodbye: deletes IKE SAs, at most `most` in one call, so that peers notice at once instead of by silence. Nobody
    /// waits for answers. `false`: none is left that can be told.
    pub fn close_some(&mut self, most: usize, outbox: &mut Outbox) -> bool {
        let established = self.sas.iter().filter(|(_, entry)| entry.sa.is_established());
        let spis: Vec<u64> = established.map(|(spi, _)| *spi).take(most).collect();
        for spi in &spis {
            self.with_sa(*spi, outbox, |sa, cx| sa.say_goodbye(cx));
        }
        !spis.is_empty()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let due = self.deadlines.first().map(|(at, spi)| {
            let why = self.sas.get(spi).map_or("ike", |entry| entry.sa.next_deadline().1);
            (*at, why)
        });
        let call = self.peers.next_call().map(|at| match self.initiations_left {
            0 => (at.max(self.tick_ends), "ike initiation"),
            _ => (at, "ike initiation"),
        });
        [due.filter(|(at, _)| *at < NEVER), call].into_iter().flatten().min()
    }

    /// A packet waits for this tunnel: call the peer, or make the Child SAs that it lacks. What is to be sent for it waits for
    /// `handle_timeout`, which is due at once; so in the two below.
    pub fn want(&mut self, tunnel: TunnelId, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(newest) = self.peers.newest(tunnel) else {
            if self.peers.call_set_for(tunnel).is_none() {
                self.peers.call_at(tunnel, now);
            }
            return;
        };
        let most = self.limits.selectors;
        self.wake(newest, |sa, now| {
            let idle = sa.tasks.is_empty() && sa.pending.is_none() && sa.timers.child_retry_at.is_none();
            // What was asked for a moment ago and did not help, or did not last, will not help now.
            let asked_of_late = sa.timers.wanted_at.is_some_and(|at| now.saturating_since(at) < CHILD_RETRY);
            let hopeless = asked_of_late && sa.live_children().next().is_some();
            if idle && !hopeless && sa.lacks_child(most) {
                (sa.timers.child_retry_at, sa.timers.wanted_at) = (Some(now), Some(now));
            }
        });
    }

    /// Its packets or bytes are nearly used up.
    pub fn rekey_child(&mut self, tunnel: TunnelId, spi_in: u32, now: Timestamp) {
        self.now = self.now.max(now);
        self.wake_owner(tunnel, spi_in, |child, now| child.rekey_at = now);
    }

    /// They are used up: it is closed, and another one made.
    pub fn expire_child(&mut self, tunnel: TunnelId, spi_in: u32, now: Timestamp) {
        self.now = self.now.max(now);
        self.wake_owner(tunnel, spi_in, |child, now| child.expires_at = now);
    }

    /// Authentic ESP has come: the peer is there.
    pub fn note_heard(&mut self, tunnel: TunnelId, now: Timestamp) {
        if let Some(peer) = self.peers.get_mut(tunnel) {
            peer.heard_at = peer.heard_at.max(now);
        }
    }

    /// Authentic ESP has come from elsewhere (section 2.23): IKE follows, with the same NAT mapping.
    pub fn note_moved(&mut self, tunnel: TunnelId, path: Path) {
        let Some(entry) = self.peers.newest(tunnel).and_then(|spi| self.sas.get_mut(&spi)) else { return };
        if entry.sa.nat.there && entry.sa.path.port == path.port {
            entry.sa.path = path;
        }
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<Status> {
        let peer = self.peers.get(tunnel)?;
        let sa_of = |spi: Option<u64>| spi.and_then(|spi| self.sas.get(&spi)).map(|entry| &*entry.sa);
        let newest = sa_of(peer.sas.last().copied());
        let mut status = newest.or(sa_of(peer.attempt)).map_or_else(Status::default, IkeSa::status);
        status.ike_sas = peer.sas.len();
        status.next_attempt = self.peers.call_set_for(tunnel);
        status.counts = peer.counts;
        status.established_at = peer.established_at;
        status.last_heard = status.last_heard.map(|at| at.max(peer.heard_at));
        Some(status)
    }

    /// What went wrong with this peer lately, the oldest first.
    pub fn failures(&self, tunnel: TunnelId) -> &[Recorded] {
        self.peers.failures(tunnel)
    }

    /// What went wrong with those that we could not give to a tunnel.
    pub fn strangers(&self) -> &[Recorded] {
        self.peers.strangers()
    }

    /// IKE SAs of any kind, and those among them whose peer is not yet known.
    pub fn sa_counts(&self) -> (usize, usize) {
        (self.sas.len(), self.half_open.len())
    }

    #[cfg(test)]
    pub(super) fn bind_to(&mut self, addresses: Vec<IpAddr>) {
        self.bound_to = addresses;
    }

    /// SPIs for packets to us that are taken: by Child SAs, and by those that we have asked for.
    pub fn child_spi_count(&self) -> usize {
        self.child_spis.len()
    }

    /// The peers that can be served beside those that are kept, the first of each pair of identities.
    fn acceptable(&mut self, peers: Vec<SharedPeer>, kept: &BTreeSet<TunnelId>) -> BTreeMap<TunnelId, SharedPeer> {
        let mut identities = HashMap::new();
        let mut accepted = BTreeMap::new();
        for config in peers {
            let tunnel = config.tunnel;
            let pair = (config.local_id.clone(), config.remote_id.clone());
            let why = match () {
                () if tunnel.index() >= MAX_TUNNELS => Refusal::TooManyTunnels,
                () if self.peers.of_pair(&config).any(|other| kept.contains(&other)) => Refusal::IdentityTwice,
                () if *identities.entry(pair).or_insert(tunnel) != tunnel => Refusal::IdentityTwice,
                () => {
                    accepted.insert(tunnel, config);
                    continue;
                }
            };
            self.events.push(Event::Refused { tunnel, why });
        }
        accepted
    }

    /// New authorities or revocation lists: would what the peer proved itself by be believed now?
    fn is_still_believed(&self, old: &PeerConfig, new: &PeerConfig) -> bool {
        let Some(peer) = self.peers.get(old.tunnel) else { return true };
        let unix_secs = self.unix_secs_at_zero.saturating_add(self.now.as_secs().into());
        let believed = |sa: &IkeSa| new.remote_auth.still_believes(&sa.certificates, &new.remote_id, unix_secs);
        new.remote_auth.is_same(&old.remote_auth)
            || peer.sas.iter().filter_map(|spi| self.sas.get(spi)).all(|entry| believed(&entry.sa))
    }

    fn add_or_keep(&mut self, config: SharedPeer) {
        let tunnel = config.tunnel;
        match self.peers.get_mut(tunnel) {
            Some(peer) => {
                let grown = config.initiate && !config.same_selectors(&peer.config);
                peer.config = config.clone();
                let spis: Vec<u64> = peer.sas.iter().chain(&peer.attempt).copied().collect();
                for spi in spis {
                    self.wake(spi, |sa, now| {
                        sa.peer = Some(config.clone());
                        sa.timers.child_retry_at = if grown { Some(now) } else { sa.timers.child_retry_at };
                    });
                }
            }
            None => self.peers.insert(config.clone()),
        }
        self.peers.call_if_wanted(tunnel, self.now);
    }

    /// Forgets the peer at once; its IKE SAs are deleted as soon as `handle_timeout` is called, and by nobody's name.
    fn remove_peer(&mut self, tunnel: TunnelId, why: DownReason) {
        let Some(peer) = self.peers.remove(tunnel) else { return };
        for spi in peer.sas.iter().chain(&peer.attempt).chain(&peer.leaving) {
            let Some(entry) = self.sas.get_mut(spi) else { continue };
            for child in std::mem::take(&mut entry.sa.children) {
                self.child_spis.release(child.spi_in);
                self.events.push(Event::ChildDown { tunnel, spi_in: child.spi_in, linger: Duration::ZERO });
            }
            match entry.sa.is_established() {
                true => {
                    entry.sa.release_asked(&mut self.child_spis);
                    entry.sa.pending = None;
                    entry.sa.registered = false;
                    entry.sa.tasks.clear();
                    entry.sa.want_first(Task::DeleteIke);
                    entry.sa.set_superseded(self.now, &self.limits);
                    entry.sa.timers.wake_at = Some(self.now);
                }
                false => entry.sa.end(why),
            }
            entry.sa.peer = None;
            self.settle(*spi);
        }
        if !peer.sas.is_empty() {
            self.events.push(Event::Down { tunnel, why });
        }
    }
}
