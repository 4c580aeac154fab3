//! When one peer is called, when its keys end, when it is sent an empty message.
//!
//! Nothing here is on the way of a packet: those only leave behind when they came, and the timers look at that. The names and
//! times are the paper's, section 6.
//!
//! **When a peer is looked at** is in a wheel. After each look [`Peer::next_look`] says when the next one is due if nothing but
//! packets happens until then; whatever else happens asks for a look at once. A peer without packets is looked at when its keys
//! are to end, and so on: hardly ever. The first packet after that asks for a look within [`LOOK_SOON`], and says that it need
//! not be asked again (`is_watched`). A peer with packets is looked at every [`LOOK_LATER`], which is as soon as what the latest
//! packet leaves behind can be due, and every [`LOOK_SOON`] while it matters when they came to a quarter of a second.

use std::time::Duration;

use super::endpoint::Shared;
use super::event::{DownReason, Event, Role};
use super::index::IndexTable;
use super::peer::{NEVER, Peer, Traffic};
use super::session::{REJECT_AFTER_TIME, Session};
use crate::net::{Path, Timestamp};
use crate::packet::Outbox;

/// At most one initiation to a peer in this time, plus a jitter of at most [`JITTER_MS`].
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
const JITTER_MS: u32 = 333;
/// So long the peer is called again and again before it counts as silent.
const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// What was received is acknowledged at the latest after this time, if need be by an empty message.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Age at which the side that initiated a session renews it when it sends.
const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// Age at which it does so when it only receives, and at which the other side of a tunnel that is kept up does.
const REKEY_LATE: Duration = REJECT_AFTER_TIME.checked_sub(KEEPALIVE_TIMEOUT.saturating_add(REKEY_TIMEOUT)).unwrap();

/// After the first packet of a peer that had none, and from an age of its session on at which every packet counts.
const LOOK_SOON: Duration = Duration::from_millis(250);
/// No packet leaves behind what is due sooner.
const LOOK_LATER: Duration = KEEPALIVE_TIMEOUT;
/// What could not be done is not tried again sooner.
const RETRY: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct Timers {
    last_initiation: Option<Timestamp>,
    /// The first of the initiations that nobody has answered yet.
    attempt_since: Option<Timestamp>,
    /// There is a reason to call the peer, beyond its being kept up.
    handshake_wanted: bool,
    pub next_keepalive: Timestamp,
    /// The packet counters at the last look.
    rx_packets: u64,
    tx_packets: u64,
    /// The last look, or later the first packet: packets that were not counted then came since.
    counted_since: Timestamp,
    /// There were packets between the last look and the one before.
    is_active: bool,
}

impl Peer {
    /// To be called when [`Peer::next_look`] says so. Initiations are only asked for, see [`Peer::wants_initiation`].
    pub fn handle_timeout(&mut self, outbox: &mut Outbox, shared: &mut Shared) {
        self.expire_sessions(shared);
        self.give_up_on_the_silent(shared);
        self.look_for_reasons_to_call(shared.now);
        self.send_keepalive_if_due(outbox, shared.now);
        self.stamper.expire(shared.now);
        self.news.tell_moves(&mut shared.events, shared.now);
    }

    /// When the peer must be looked at again, if nothing but packets happens until then. `None`: when they do.
    pub fn next_look(&mut self, now: Timestamp) -> Option<Timestamp> {
        let is_active = self.timers.is_active;
        self.traffic.is_watched = is_active;
        let Traffic { unanswered_since, unacknowledged_since, .. } = self.traffic;
        let ends = [&self.current, &self.next, &self.previous].map(|session| Some(session.as_ref()?.expires_at()));
        let owed = (unacknowledged_since != NEVER).then(|| unacknowledged_since + KEEPALIVE_TIMEOUT);
        let kept_up = self.config.keepalive.map(|_| self.timers.next_keepalive);
        let can_seal = self.is_live() && self.traffic.path.is_some();
        let others = [
            self.timers.attempt_since.map(|since| since + REKEY_ATTEMPT_TIME),
            self.next_initiation(),
            owed.filter(|_| can_seal),
            kept_up.filter(|_| can_seal),
            (unanswered_since != NEVER).then(|| unanswered_since + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT),
            is_active.then(|| self.look_after_packets(now)),
            self.stamper.expires_at(),
            self.news.tells_at(),
        ];
        ends.into_iter().chain(others).flatten().min().map(|at| at.max(now + RETRY))
    }

    /// Packets go on, and what they leave behind is to be noticed in time.
    fn look_after_packets(&self, now: Timestamp) -> Timestamp {
        let later = now + LOOK_LATER;
        match self.current.as_ref().filter(|session| session.role() == Role::Initiator) {
            Some(session) if session.age(now) < REKEY_AFTER_TIME => later.min(session.created_at() + REKEY_AFTER_TIME),
            Some(session) if session.age(now) < REKEY_LATE => (now + LOOK_SOON).min(session.created_at() + REKEY_LATE),
            Some(_) => now + LOOK_SOON,
            None => later,
        }
    }

    /// For every packet: the first for a while asks the timers to look.
    #[inline]
    pub fn ask_for_look(&mut self, shared: &mut Shared) {
        if !self.traffic.is_watched {
            self.watch(shared);
        }
    }

    #[cold]
    fn watch(&mut self, shared: &mut Shared) {
        self.traffic.is_watched = true;
        self.timers.counted_since = shared.now;
        shared.looks.set_at_the_latest(self.config.tunnel.index(), shared.now + LOOK_SOON);
    }

    /// When [`Peer::wants_initiation`] will say so.
    fn next_initiation(&self) -> Option<Timestamp> {
        let age_of = |session: &Session| session.created_at() + rekey_after(session.role());
        let kept_up = self.config.endpoint.map(|_| self.current.as_ref().map_or(Timestamp::ZERO, age_of));
        let is_wanted = self.timers.handshake_wanted || self.timers.attempt_since.is_some();
        let wanted_at = if is_wanted { Some(Timestamp::ZERO) } else { kept_up };
        let may_at = self.timers.last_initiation.map_or(Timestamp::ZERO, |last| last + REKEY_TIMEOUT + self.jitter());
        let is_possible = self.traffic.path.is_some() && !self.queued;
        wanted_at.filter(|_| is_possible).map(|at| at.max(may_at))
    }

    /// Whether a handshake should begin now.
    pub fn wants_initiation(&self, now: Timestamp) -> bool {
        let kept_up = self.config.endpoint.is_some();
        let wanted = self.timers.handshake_wanted
            || self.timers.attempt_since.is_some()
            || kept_up && self.current.as_ref().is_none_or(|session| session.age(now) >= rekey_after(session.role()));
        wanted && self.may_initiate(now)
    }

    /// A packet waits.
    pub fn want_handshake(&mut self) {
        self.timers.handshake_wanted = true;
    }

    /// There is an address to call, and the last call is long enough ago.
    pub fn may_initiate(&self, now: Timestamp) -> bool {
        let last = self.timers.last_initiation;
        self.traffic.path.is_some()
            && last.is_none_or(|last| now.saturating_since(last) >= REKEY_TIMEOUT + self.jitter())
    }

    pub fn note_initiation(&mut self, now: Timestamp) {
        self.status.handshakes.attempts += 1;
        self.status.handshakes.unanswered += u64::from(self.timers.attempt_since.is_some());
        self.timers.attempt_since.get_or_insert(now);
        self.timers.handshake_wanted = false;
        self.timers.last_initiation = Some(now);
    }

    /// The peer has answered, or is given up.
    pub fn end_attempt(&mut self, indices: &mut IndexTable) {
        self.timers.attempt_since = None;
        self.timers.handshake_wanted = false;
        self.handshake.abandon(indices);
    }

    /// Erases the keys of sessions that are over: long before 3 * REJECT_AFTER_TIME, since nothing uses them any more.
    fn expire_sessions(&mut self, shared: &mut Shared) {
        let now = shared.now;
        for session in [&mut self.next, &mut self.previous] {
            shared.release(session.take_if(|session| session.is_expired(now)));
        }
        if let Some(session) = self.current.take_if(|session| session.is_spent(now)) {
            shared.release(Some(session));
            shared.events.push(Event::Down { tunnel: self.config.tunnel, why: DownReason::KeysExpired });
        }
    }

    /// The peer may have roamed and be back where it is configured, so that is where it is called from now on.
    fn give_up_on_the_silent(&mut self, shared: &mut Shared) {
        let is_over = |since| shared.now.saturating_since(since) >= REKEY_ATTEMPT_TIME;
        if !self.timers.attempt_since.is_some_and(is_over) {
            return;
        }
        self.end_attempt(&mut shared.indices);
        self.erase_sessions(DownReason::PeerSilent, shared);
        self.status.handshakes.unanswered += 1;
        if let Some(path) = self.traffic.path {
            shared.events.push(Event::Unanswered { tunnel: self.config.tunnel, path });
        }
        self.traffic.path = self.config.endpoint.map(Path::to).or(self.traffic.path);
    }

    fn look_for_reasons_to_call(&mut self, now: Timestamp) {
        let (traffic, timers) = (&mut self.traffic, &mut self.timers);
        let has_sent = std::mem::replace(&mut timers.tx_packets, traffic.tx_packets) != traffic.tx_packets;
        let has_received = std::mem::replace(&mut timers.rx_packets, traffic.rx_packets) != traffic.rx_packets;
        if let Some(session) = &self.current {
            let is_ours = session.role() == Role::Initiator;
            // All of the packets came at that age.
            let is_of = |limit| timers.counted_since >= session.created_at() + limit;
            timers.handshake_wanted |= has_sent && session.has_sent_much()
                || is_ours && (has_sent && is_of(REKEY_AFTER_TIME) || has_received && is_of(REKEY_LATE));
        }
        (timers.is_active, timers.counted_since) = (has_sent || has_received, now);
        if now.saturating_since(traffic.unanswered_since) >= KEEPALIVE_TIMEOUT + REKEY_TIMEOUT {
            traffic.unanswered_since = NEVER; // until the next packet
            timers.handshake_wanted = true;
        }
    }

    fn send_keepalive_if_due(&mut self, outbox: &mut Outbox, now: Timestamp) {
        let is_owed = now.saturating_since(self.traffic.unacknowledged_since) >= KEEPALIVE_TIMEOUT;
        let configured = self.config.keepalive.filter(|_| now >= self.timers.next_keepalive);
        if (is_owed || configured.is_some())
            && self.send_keepalive(outbox, now)
            && let Some(interval) = configured
        {
            self.timers.next_keepalive = now + interval;
        }
    }

    /// Different for each peer and attempt, so that peers which lost us together do not call together.
    fn jitter(&self) -> Duration {
        let spread = self.config.tunnel.0.wrapping_mul(2_654_435_761).rotate_left(7)
            ^ (self.status.handshakes.attempts as u32).wrapping_mul(40_503);
        Duration::from_millis(u64::from(spread % (JITTER_MS + 1)))
    }
}

/// Age of a session at which a tunnel that is kept up is renewed: by the side that initiated it first, by the other only
/// when that did not happen.
fn rekey_after(role: Role) -> Duration {
    match role {
        Role::Initiator => REKEY_AFTER_TIME,
        Role::Responder => REKEY_LATE,
    }
}
