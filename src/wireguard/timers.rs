//! When one peer is called, when its keys end, when it is sent an empty message.
//!
//! Everything here is looked at every 250 ms and on the way of no packet: those only leave behind when they came. The
//! names and times are the paper's, section 6.

use std::time::Duration;

use super::endpoint::Shared;
use super::event::{DownReason, Event, Role};
use super::index::IndexTable;
use super::peer::{NEVER, Peer};
use super::session::REJECT_AFTER_TIME;
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
}

impl Peer {
    /// To be called every 250 ms. Initiations are only asked for, see [`Peer::wants_initiation`].
    pub fn handle_timeout(&mut self, outbox: &mut Outbox, shared: &mut Shared) {
        self.expire_sessions(shared);
        self.give_up_on_the_silent(shared);
        self.look_for_reasons_to_call(shared.now);
        self.send_keepalive_if_due(outbox, shared.now);
        self.stamper.expire(shared.now);
        self.news.tell_moves(&mut shared.events, shared.now);
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
            let age = session.age(now);
            let is_ours = session.role() == Role::Initiator;
            timers.handshake_wanted |= has_sent && session.has_sent_much()
                || is_ours && (has_sent && age >= REKEY_AFTER_TIME || has_received && age >= REKEY_LATE);
        }
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
