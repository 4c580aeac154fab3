//! Every IKE SA of the appliance. Pure: no socket, no clock, and randomness is handed in.
//!
//! After `configure`, `handle_input` or `handle_timeout`, send the outbox, drain `poll_event`, then read `poll_timeout`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::child::{Child, ChildState, LINGER};
use super::context::{ChildSpis, Context, Effect};
use super::diagnosis::Recorded;
use super::event::{DownReason, Event, EventQueue, Refusal};
use super::exchange::auth::Step;
use super::half_open::HalfOpen;
use super::limits::Limits;
use super::peer::{PeerConfig, Ports, Setup, SharedPeer};
use super::peers::Peers;
use super::sa::{IkeSa, Stage, Task};
use super::status::Status;
use crate::net::random::Random;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::Outbox;

/// Most tunnels that one appliance serves by IPsec.
pub const MAX_TUNNELS: usize = 65_536;
/// Initiations are counted by this.
const TICK: Duration = Duration::from_micros(62_500);

/// An IKE SA on which the peer was heard within this time is surely there.
const HEARD_OF_LATE: Duration = Duration::from_secs(60);

pub struct Endpoint {
    pub(super) limits: Limits,
    ports: Ports,
    bound_to: Vec<IpAddr>,
    unix_secs_at_zero: u64,
    random: Box<dyn Random + Send>,
    pub(super) peers: Peers,
    /// By our SPI.
    pub(super) sas: BTreeMap<u64, Entry>,
    /// When each SA next has something to do.
    deadlines: BTreeSet<(Timestamp, u64)>,
    pub(super) half_open: HalfOpen,
    child_spis: ChildSpis,
    events: EventQueue,
    effects: Vec<Effect>,
    tick_ends: Timestamp,
    initiations_left: u32,
    /// The latest time that we were told.
    pub(super) now: Timestamp,
}

/// An IKE SA, and when it stands among the deadlines.
pub(super) struct Entry {
    pub sa: Box<IkeSa>,
    due: Timestamp,
}

const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

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
            sas: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            half_open: HalfOpen::new(secret),
            child_spis: ChildSpis::default(),
            events: EventQueue::default(),
            effects: Vec::new(),
            tick_ends: now,
            now,
        }
    }

    /// Reconciles with the configured peers: those with the same identities, secrets and address keep their IKE SAs, and
    /// with the same selectors their Child SAs; changed ones start anew, missing ones are deleted.
    pub fn configure(&mut self, peers: Vec<Arc<PeerConfig>>, now: Timestamp) {
        self.now = self.now.max(now);
        let wanted = self.acceptable(peers);
        let before: Vec<SharedPeer> = self.peers.iter().map(|peer| peer.config.clone()).collect();
        for config in before {
            match wanted.get(&config.tunnel) {
                Some(new) if new.same_identity(&config) && new.same_selectors(&config) => {}
                Some(_) => self.remove_peer(config.tunnel, DownReason::Reconfigured),
                None => self.remove_peer(config.tunnel, DownReason::Removed),
            }
        }
        for config in wanted.into_values() {
            self.add_or_keep(config);
        }
        self.peers.reindex();
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
        while let Some(&(at, spi)) = self.deadlines.first()
            && at <= self.now
        {
            self.with_sa(spi, outbox, |sa, cx| sa.handle_timeout(cx));
        }
        self.make_calls(outbox);
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

    /// A packet waits for this tunnel: call the peer, or make its Child SA. What is to be sent for it waits for
    /// `handle_timeout`, which is due at once; so in the two below.
    pub fn want(&mut self, tunnel: TunnelId, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(newest) = self.peers.newest(tunnel) else {
            if self.peers.call_set_for(tunnel).is_none() {
                self.peers.call_at(tunnel, now);
            }
            return;
        };
        self.wake(newest, |sa, now| {
            let idle = sa.tasks.is_empty() && sa.pending.is_none() && sa.timers.child_retry_at.is_none();
            if idle && sa.live_children().next().is_none() {
                sa.timers.child_retry_at = Some(now);
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

    /// The peers that can be served, the first of each pair of identities.
    fn acceptable(&mut self, peers: Vec<SharedPeer>) -> BTreeMap<TunnelId, SharedPeer> {
        let mut identities = std::collections::HashMap::new();
        let mut accepted = BTreeMap::new();
        for config in peers {
            let tunnel = config.tunnel;
            let pair = (config.local_id.clone(), config.remote_id.clone());
            let why = match () {
                () if tunnel.index() >= MAX_TUNNELS => Refusal::TooManyTunnels,
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

    fn add_or_keep(&mut self, config: SharedPeer) {
        let tunnel = config.tunnel;
        match self.peers.get_mut(tunnel) {
            Some(peer) => {
                peer.config = config.clone();
                let spis: Vec<u64> = peer.sas.iter().chain(&peer.attempt).copied().collect();
                for spi in spis {
                    if let Some(entry) = self.sas.get_mut(&spi) {
                        entry.sa.peer = Some(config.clone());
                    }
                }
            }
            None => self.peers.insert(config.clone()),
        }
        if config.initiate && !self.peers.has_established(tunnel) {
            self.peers.call_at(tunnel, self.now);
        }
    }

    /// Forgets the peer at once; its IKE SAs are deleted as soon as `handle_timeout` is called, and by nobody's name.
    fn remove_peer(&mut self, tunnel: TunnelId, why: DownReason) {
        let Some(peer) = self.peers.remove(tunnel) else { return };
        for spi in peer.sas.iter().chain(&peer.attempt) {
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

    fn make_calls(&mut self, outbox: &mut Outbox) {
        if self.now >= self.tick_ends {
            self.tick_ends = self.now + TICK;
            self.initiations_left = self.limits.initiations_per_tick;
        }
        while self.initiations_left > 0 {
            let Some(peer) = self.peers.take_call(self.now) else { return };
            self.initiations_left -= 1;
            self.call(&peer, outbox);
        }
    }

    fn call(&mut self, peer: &SharedPeer, outbox: &mut Outbox) {
        self.peers.count(peer.tunnel, |counts| counts.attempts += 1);
        let mut made = None;
        self.with_context(outbox, |cx| made = IkeSa::call(peer, cx));
        match made {
            Some(sa) => {
                if let Some(peer) = self.peers.get_mut(peer.tunnel) {
                    peer.attempt = Some(sa.our_spi);
                }
                self.insert(Box::new(sa));
            }
            None => self.attempt_failed(peer.tunnel),
        }
    }

    fn attempt_failed(&mut self, tunnel: TunnelId) {
        let mut jitter = [0];
        self.random.fill(&mut jitter);
        self.peers.attempt_failed(tunnel, &self.limits, self.now, jitter[0]);
    }

    pub(super) fn with_context<R>(&mut self, outbox: &mut Outbox, run: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let mut cx = Context {
            now: self.now,
            unix_secs: self.unix_secs_at_zero.saturating_add(self.now.as_secs().into()),
            limits: &self.limits,
            ports: &self.ports,
            bound_to: &self.bound_to,
            random: &mut *self.random,
            peers: &mut self.peers,
            child_spis: &mut self.child_spis,
            events: &mut self.events,
            outbox,
            effects: &mut self.effects,
        };
        run(&mut cx)
    }

    /// Runs something on one IKE SA, and then what follows from it.
    pub(super) fn with_sa<R>(
        &mut self,
        spi: u64,
        outbox: &mut Outbox,
        run: impl FnOnce(&mut IkeSa, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let mut entry = self.sas.remove(&spi)?;
        let result = self.with_context(outbox, |cx| run(&mut entry.sa, cx));
        self.sas.insert(spi, entry);
        self.carry_out_effects(outbox);
        self.settle(spi);
        Some(result)
    }

    /// Changes something that the SA's timers then act on.
    fn wake(&mut self, spi: u64, change: impl FnOnce(&mut IkeSa, Timestamp)) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        change(&mut entry.sa, self.now);
        self.schedule(spi);
    }

    fn wake_owner(&mut self, tunnel: TunnelId, spi_in: u32, change: impl FnOnce(&mut Child, Timestamp)) {
        let Some(peer) = self.peers.get(tunnel) else { return };
        let owns = |spi: &&u64| self.sas.get(spi).is_some_and(|entry| entry.sa.child(spi_in).is_some());
        if let Some(&spi) = peer.sas.iter().find(owns) {
            self.wake(spi, |sa, now| {
                if let Some(child) = sa.child_mut(spi_in).filter(|child| child.state == ChildState::Up) {
                    change(child, now);
                }
            });
        }
    }

    pub(super) fn insert(&mut self, sa: Box<IkeSa>) {
        let spi = sa.our_spi;
        self.sas.insert(spi, Entry { sa, due: NEVER });
        self.settle(spi);
    }

    fn carry_out_effects(&mut self, outbox: &mut Outbox) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Insert(sa) => {
                    let spi = sa.our_spi;
                    self.insert(sa);
                    self.with_sa(spi, outbox, |sa, cx| sa.make_requests(cx));
                }
                Effect::MoveChildren { to, children, tasks } => {
                    self.with_sa(to, outbox, |sa, cx| {
                        sa.children.extend(children);
                        tasks.into_iter().for_each(|task| sa.want(task, cx));
                        sa.make_requests(cx);
                    });
                }
                Effect::Supersede(spi) => {
                    self.with_sa(spi, outbox, |sa, cx| sa.set_superseded(cx.now, cx.limits));
                }
                Effect::Renew { spi, is_due } => self.renew(spi, is_due, outbox),
                Effect::Recovered { tunnel } => self.recovered(tunnel),
                Effect::Forget { tunnel, except } => self.take_initial_contact(tunnel, except, outbox),
            }
        }
    }

    /// Rekeys an IKE SA; or deletes it, if the peer has a better one with us, and has been heard on that of late.
    fn renew(&mut self, spi: u64, is_due: bool, outbox: &mut Outbox) {
        let Some(tunnel) = self.sas.get(&spi).and_then(|entry| entry.sa.tunnel()) else { return };
        let lives = |other: &u64| {
            self.sas.get(other).is_some_and(|Entry { sa, .. }| {
                sa.outgoing.sent() < 2 && self.now.saturating_since(sa.last_heard) < HEARD_OF_LATE
            })
        };
        let task = match self.peers.better(tunnel, spi, &self.limits, self.now).iter().any(lives) {
            true => Task::DeleteIke,
            false if is_due => Task::RekeyIke,
            false => return,
        };
        self.with_sa(spi, outbox, |sa, cx| {
            sa.want(task, cx);
            sa.make_requests(cx);
        });
    }

    fn recovered(&mut self, tunnel: TunnelId) {
        if let Some(peer) = self.peers.get_mut(tunnel) {
            peer.suspected = false;
        }
        self.abandon_attempt(tunnel, |stage| match stage {
            Stage::InitSent(_) => true,
            Stage::Handshake(handshake) => !matches!(handshake.step, Step::AuthSent(_)),
            _ => false,
        });
    }

    /// The peer had no other IKE SA with us when it said so. One that was made since, by a call of ours that crossed, it may
    /// know: that one is closed with a word, the others without.
    fn take_initial_contact(&mut self, tunnel: TunnelId, except: u64, outbox: &mut Outbox) {
        let crossing = self.limits.retransmit_connecting.total();
        let now = self.now;
        let may_know = |sa: &IkeSa| sa.established_at.is_some_and(|at| now.saturating_since(at) <= crossing);
        self.forget(tunnel, |spi, sa| spi != except && !may_know(sa));
        let crossed: Vec<u64> = self.peers.get(tunnel).map_or_else(Vec::new, |peer| peer.sas.clone());
        for spi in crossed.into_iter().filter(|spi| *spi != except) {
            self.with_sa(spi, outbox, |sa, cx| sa.close(cx));
        }
    }

    /// Ends IKE SAs of a tunnel without a word to the peer, which does not know them.
    fn forget(&mut self, tunnel: TunnelId, which: impl Fn(u64, &IkeSa) -> bool) {
        let of_tunnel = |(spi, entry): (&u64, &Entry)| {
            let established = !matches!(entry.sa.stage, Stage::InitSent(_) | Stage::Handshake(_));
            (established && entry.sa.tunnel() == Some(tunnel) && which(*spi, &entry.sa)).then_some(*spi)
        };
        let Some(peer) = self.peers.get(tunnel) else { return };
        let spis: Vec<u64> = peer.sas.iter().filter_map(|spi| of_tunnel((spi, self.sas.get(spi)?))).collect();
        for spi in spis {
            if let Some(entry) = self.sas.get_mut(&spi) {
                entry.sa.end(DownReason::PeerRestarted);
                self.settle(spi);
            }
        }
    }

    /// After anything was done to an IKE SA: the tables follow what it has become.
    fn settle(&mut self, spi: u64) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        if let Some(why) = entry.sa.ended {
            return self.bury(spi, why);
        }
        let established = entry.sa.is_established();
        if established && !entry.sa.registered {
            self.register(spi);
        } else if !established && entry.sa.registered {
            self.unregister(spi);
        }
        self.schedule(spi);
    }

    fn schedule(&mut self, spi: u64) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        let (due, _) = entry.sa.next_deadline();
        if due != entry.due {
            self.deadlines.remove(&(entry.due, spi));
            self.deadlines.insert((due, spi));
            entry.due = due;
        }
    }

    /// It is established now: one of the peer's own.
    fn register(&mut self, spi: u64) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        entry.sa.registered = true;
        let (rekeyed, began) = (entry.sa.rekeyed, entry.sa.role.is_initiator());
        if let Some(key) = entry.sa.half_open_key.take() {
            self.half_open.remove(&key);
        }
        let Some(tunnel) = entry.sa.tunnel() else { return };
        let lowest = entry.sa.session.as_ref().map_or_else(Vec::new, |session| session.nonces().lowest().to_vec());
        self.peers.established(tunnel, spi, rekeyed, (self.now, lowest));
        self.abandon_attempt(tunnel, |stage| matches!(stage, Stage::InitSent(_)));
        if began && !rekeyed {
            self.forget(tunnel, |other, sa| other != spi && sa.is_suspect()); // it is the peer that has come back
        }
        self.bound_sas(tunnel);
        self.thin_out(tunnel);
    }

    /// Two IKE SAs with one peer are one too many: each asks soon whether it is the one to go.
    fn thin_out(&mut self, tunnel: TunnelId) {
        let Some(peer) = self.peers.get(tunnel) else { return };
        if peer.sas.len() < 2 {
            return;
        }
        let soon = self.now + self.limits.retransmit_connecting.total() + Duration::from_secs(1);
        for spi in peer.sas.clone() {
            let Some(entry) = self.sas.get_mut(&spi) else { continue };
            if entry.sa.role.is_initiator() {
                entry.sa.timers.needless_at = Some(soon);
            }
            self.schedule(spi);
        }
    }

    /// Our own call is needless, if it has not got far.
    fn abandon_attempt(&mut self, tunnel: TunnelId, is_early: impl Fn(&Stage) -> bool) {
        let attempt = self.peers.get(tunnel).and_then(|peer| peer.attempt);
        if let Some(entry) = attempt.and_then(|spi| self.sas.get_mut(&spi))
            && is_early(&entry.sa.stage)
        {
            let spi = entry.sa.our_spi;
            entry.sa.end(DownReason::Failed);
            self.settle(spi);
        }
    }

    /// A peer has at most so many IKE SAs; the oldest goes.
    fn bound_sas(&mut self, tunnel: TunnelId) {
        let Some(peer) = self.peers.get(tunnel) else { return };
        if peer.sas.len() > self.limits.sas_per_peer
            && let Some(&oldest) = peer.sas.first()
        {
            self.forget(tunnel, |spi, _| spi == oldest);
        }
    }

    fn unregister(&mut self, spi: u64) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        entry.sa.registered = false;
        let Some(tunnel) = entry.sa.tunnel() else { return };
        if let Some(peer) = self.peers.get_mut(tunnel) {
            peer.sas.retain(|other| *other != spi);
        }
    }

    fn bury(&mut self, spi: u64, why: DownReason) {
        let Some(mut entry) = self.sas.remove(&spi) else { return };
        self.deadlines.remove(&(entry.due, spi));
        if let Some(key) = entry.sa.half_open_key.take() {
            self.half_open.remove(&key);
        }
        entry.sa.release_asked(&mut self.child_spis);
        let Some(tunnel) = entry.sa.tunnel() else { return };
        for child in std::mem::take(&mut entry.sa.children) {
            self.child_spis.release(child.spi_in);
            self.events.push(Event::ChildDown { tunnel, spi_in: child.spi_in, linger: LINGER });
        }
        let was_registered = entry.sa.registered;
        let Some(peer) = self.peers.get_mut(tunnel) else { return };
        peer.sas.retain(|other| *other != spi);
        if peer.attempt == Some(spi) {
            return self.attempt_failed(tunnel);
        }
        let (last, initiate) = (peer.sas.is_empty(), peer.config.initiate);
        if was_registered && last {
            self.events.push(Event::Down { tunnel, why });
        }
        if last && initiate && !matches!(why, DownReason::Removed) {
            let wait = if why == DownReason::PeerSilent { Duration::ZERO } else { self.limits.reconnect_first };
            self.peers.call_at(tunnel, self.now + wait);
        }
    }
}

#[cfg(test)]
impl Endpoint {
    pub(super) fn debug_sas(&self) -> String {
        let mut text = String::new();
        for (spi, entry) in &self.sas {
            let sa = &entry.sa;
            let stage = match sa.stage {
                Stage::InitSent(_) => "init",
                Stage::Handshake(_) => "handshake",
                Stage::Established => "up",
                Stage::Rekeyed => "rekeyed",
                Stage::Deleting => "deleting",
            };
            let pending = match &sa.pending {
                None => "-".to_string(),
                Some(super::sa::Pending::Child(c)) => format!("child(crossed {})", c.crossed.is_some()),
                Some(super::sa::Pending::RekeyIke(c)) => format!("ike(crossed {})", c.crossed.is_some()),
                Some(super::sa::Pending::DeleteChildren(s)) => format!("delete {s:x?}"),
                Some(super::sa::Pending::DeleteIke) => "delete ike".into(),
                Some(super::sa::Pending::Liveness) => "liveness".into(),
            };
            let kids: Vec<String> = sa.children.iter().map(|c| format!("{:08x}:{:?}", c.spi_in, c.state)).collect();
            text += &format!(
                "[{:04x}/{:04x} {:?} {stage} sent {} {pending} {:?} kids {kids:?}] ",
                spi >> 48, sa.their_spi >> 48, sa.role, sa.outgoing.sent(), sa.tasks
            );
        }
        text
    }
}
