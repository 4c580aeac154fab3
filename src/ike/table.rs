//! The endpoint's table of IKE SAs: running something on one of them, and what follows from it for the others, for the
//! peers and for the deadlines.

use std::time::Duration;

use super::child::{Child, ChildState, LINGER};
use super::context::{Context, Effect};
use super::diagnosis::{Cause, Failure, Stage as FailureStage};
use super::endpoint::Endpoint;
use super::event::{DownReason, Event};
use super::exchange::auth::Step;
use super::peer::SharedPeer;
use super::reassembly::Reassembly;
use super::sa::{IkeSa, Stage, Task};
use crate::net::{Timestamp, TunnelId};
use crate::packet::Outbox;

/// Initiations are counted by this.
const TICK: Duration = Duration::from_micros(62_500);
/// An IKE SA on which the peer was heard within this time is surely there.
const HEARD_OF_LATE: Duration = Duration::from_secs(60);
pub(super) const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

/// An IKE SA, and when it stands among the deadlines.
pub(super) struct Entry {
    pub sa: Box<IkeSa>,
    due: Timestamp,
}

impl Endpoint {
    pub(super) fn make_calls(&mut self, outbox: &mut Outbox) {
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
    pub(super) fn wake(&mut self, spi: u64, change: impl FnOnce(&mut IkeSa, Timestamp)) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        change(&mut entry.sa, self.now);
        self.schedule(spi);
    }

    pub(super) fn wake_owner(&mut self, tunnel: TunnelId, spi_in: u32, change: impl FnOnce(&mut Child, Timestamp)) {
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
    pub(super) fn settle(&mut self, spi: u64) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        if let Some(why) = entry.sa.ended {
            return self.bury(spi, why);
        }
        if let Some(key) = &entry.sa.half_open_key {
            self.half_open.note_fragments(key, entry.sa.requests.bytes());
            self.bound_fragments();
        }
        let Some(entry) = self.sas.get(&spi) else { return };
        let established = entry.sa.is_established();
        if established && !entry.sa.registered {
            self.register(spi);
        } else if !established && entry.sa.registered {
            self.unregister(spi);
        }
        self.schedule(spi);
    }

    /// Of those who have not proved who they are, the oldest fragments go.
    fn bound_fragments(&mut self) {
        let limit = self.limits.half_open_fragment_bytes;
        while let Some(entry) = self.half_open.first_beyond(limit).and_then(|spi| self.sas.get_mut(&spi)) {
            entry.sa.requests = Reassembly::default();
            if let Some(key) = &entry.sa.half_open_key {
                self.half_open.note_fragments(key, 0);
            }
            let cause = Cause::TooManyFragments { limit };
            let failure = Failure { at: self.now, remote: entry.sa.path, stage: FailureStage::Auth, cause };
            if self.peers.record(None, failure.clone()) {
                self.events.push(Event::Failed { tunnel: None, failure: Box::new(failure) });
            }
        }
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

    /// It is replaced, or we are closing it. If none has taken its place, the peer is called without waiting for its answer.
    fn unregister(&mut self, spi: u64) {
        let Some(entry) = self.sas.get_mut(&spi) else { return };
        entry.sa.registered = false;
        let why = entry.sa.closed_for;
        let Some(tunnel) = entry.sa.tunnel() else { return };
        let Some(peer) = self.peers.get_mut(tunnel) else { return };
        peer.sas.retain(|other| *other != spi);
        peer.leaving.push(spi);
        if peer.sas.is_empty() {
            let calls = peer.config.initiate && why != DownReason::Stopping;
            self.events.push(Event::Down { tunnel, why });
            if calls {
                self.peers.call_at(tunnel, self.now);
            }
        }
        self.bound_leaving(tunnel);
    }

    /// What was replaced waits for the peer to delete it. One that never does has only so many of these; the oldest goes.
    fn bound_leaving(&mut self, tunnel: TunnelId) {
        let limit = self.limits.sas_per_peer;
        let Some(peer) = self.peers.get(tunnel).filter(|peer| peer.leaving.len() > limit) else { return };
        let Some(&oldest) = peer.leaving.first() else { return };
        let path = self.sas.get(&oldest).map(|entry| entry.sa.path);
        if let Some(path) = path {
            let cause = Cause::TooManySas { limit };
            let failure = Failure { at: self.now, remote: path, stage: FailureStage::Rekey, cause };
            self.peers.record(Some(tunnel), failure);
        }
        self.bury(oldest, DownReason::Failed);
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
        peer.leaving.retain(|other| *other != spi);
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
