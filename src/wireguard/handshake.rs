//! Making sessions with one peer: the four handshake messages, from both sides.
//!
//! Our own initiation and an answer to the peer's do not disturb each other: when both call at once, both handshakes
//! complete, and each side accepts data under either.

use std::time::Duration;

use super::endpoint::Shared;
use super::event::Role;
use super::index::IndexTable;
use super::message::{
    DATA_OVERHEAD_BYTES, INITIATION_BYTES, Initiation, RESPONSE_BYTES, Response, begin_initiation, begin_response,
};
use super::noise::{self, Initiated, Received, Sender, Symmetric};
use super::peer::{NEVER, Peer};
use super::primitives::KeyPair;
use super::session::Session;
use super::tai64n::{STAMP_BYTES, Stamp};
use crate::net::Timestamp;
use crate::packet::{Datagram, DropReason, Outbox};

/// At most one initiation of a peer is answered in this time (50 per second, as in the kernel's WireGuard).
const ANSWER_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Handshake {
    /// Our latest initiation, while it has no response.
    initiated: Option<Pending>,
    last_stamp_sent: Stamp,
    last_stamp_received: Stamp,
    /// When we last answered one of the peer's. Only what authenticated counts: others must not be able to use it up.
    last_answer: Option<Timestamp>,
}

struct Pending {
    index: u32,
    noise: Initiated,
}

impl Handshake {
    /// Forgets our initiation; a response to it comes too late.
    pub fn abandon(&mut self, indices: &mut IndexTable) {
        if let Some(pending) = self.initiated.take() {
            indices.release(pending.index);
        }
    }
}

impl Peer {
    /// `false`: the outbox is full.
    pub fn initiate(&mut self, outbox: &mut Outbox, shared: &mut Shared) -> bool {
        let Some(path) = self.traffic.path else { return true };
        let Some(message) = outbox.space(INITIATION_BYTES) else { return false };
        self.handshake.abandon(&mut shared.indices);
        let stamp = Stamp::after(self.handshake.last_stamp_sent, shared.since_1970());
        self.handshake.last_stamp_sent = stamp;
        let index = shared.new_index(self.config.tunnel);
        let place = begin_initiation(message, index);
        let start = Symmetric::wireguard(&self.config.public_key);
        let ephemeral = KeyPair::generate(&mut shared.random);
        let initiated =
            noise::write_initiation(start, &shared.identity, &self.secrets, ephemeral, &stamp.emit(), place);
        self.note_initiation(shared.now);
        let Some(noise) = initiated else {
            shared.indices.release(index); // the peer's key is unusable, which `PeerSecrets` has ruled out
            return true;
        };
        self.stamper.stamp(message, shared.now);
        outbox.commit(path, false, INITIATION_BYTES);
        self.handshake.initiated = Some(Pending { index, noise });
        true
    }

    /// Answers an initiation made with this peer's static key, if it is authentic and no replay.
    pub fn answer_initiation(
        &mut self,
        initiation: Initiation<'_>,
        sender: Sender<'_>,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        shared: &mut Shared,
    ) -> Result<(), DropReason> {
        let now = shared.now;
        if self.handshake.last_answer.is_some_and(|last| now.saturating_since(last) < ANSWER_INTERVAL) {
            return Err(DropReason::HandshakeUnderLoad);
        }
        let message = outbox.space(RESPONSE_BYTES).ok_or(DropReason::EgressQueueFull)?;
        let answered = self
            .authenticate(sender)
            .and_then(|received| self.respond(received, initiation.sender_index, message, shared));
        let Some(session) = answered else {
            self.status.handshakes.rejected += 1;
            return Err(DropReason::HandshakeInvalid);
        };
        outbox.commit(datagram.path, false, RESPONSE_BYTES);
        shared.release(self.next.replace(session));
        self.handshake.last_answer = Some(now);
        self.roam(datagram.path, shared);
        Ok(())
    }

    /// Takes a response to our initiation and confirms the new keys with a keepalive.
    pub fn accept_response(
        &mut self,
        response: Response<'_>,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        shared: &mut Shared,
    ) -> Result<(), DropReason> {
        let confirmation = outbox.space(DATA_OVERHEAD_BYTES).ok_or(DropReason::EgressQueueFull)?;
        let Some(mut session) = self.read_response(response, shared) else {
            self.status.handshakes.rejected += 1;
            return Err(DropReason::HandshakeInvalid);
        };
        session.seal(&[], 0, confirmation)?;
        outbox.commit(datagram.path, false, DATA_OVERHEAD_BYTES);
        self.traffic.unacknowledged_since = NEVER;
        self.roam(datagram.path, shared);
        self.handshake.initiated = None; // its index is now the session's
        let was_live = self.is_live();
        let before = self.current.replace(session);
        match self.next.take() {
            // Both sides called at once; the peer may already seal with it.
            Some(next) => {
                shared.release(before);
                shared.release(self.previous.replace(next));
            }
            None => shared.release(std::mem::replace(&mut self.previous, before)),
        }
        self.on_new_session(Role::Initiator, datagram.path, was_live, shared);
        Ok(())
    }

    /// Remembers the cookie for the next initiation.
    pub fn accept_cookie(&mut self, datagram: Datagram<'_>, now: Timestamp) -> Result<(), DropReason> {
        if self.stamper.accept_cookie(datagram.bytes, now) {
            return Ok(());
        }
        self.status.handshakes.rejected += 1;
        Err(DropReason::HandshakeInvalid)
    }

    /// `None`: made by somebody else, or not later than the last one.
    fn authenticate<'a>(&mut self, sender: Sender<'a>) -> Option<Received<'a>> {
        let mut stamp = [0; STAMP_BYTES];
        let received = sender.authenticate(&self.secrets, &mut stamp)?;
        let stamp = Stamp::parse(&stamp);
        if stamp <= self.handshake.last_stamp_received {
            return None;
        }
        self.handshake.last_stamp_received = stamp;
        Some(received)
    }

    fn respond(
        &mut self,
        received: Received<'_>,
        remote_index: u32,
        message: &mut [u8],
        shared: &mut Shared,
    ) -> Option<Session> {
        let index = shared.new_index(self.config.tunnel);
        let ephemeral = KeyPair::generate(&mut shared.random);
        let place = begin_response(message, index, remote_index);
        let Some(keys) = noise::write_response(received, &self.secrets, &ephemeral, &[], place) else {
            shared.indices.release(index);
            return None;
        };
        self.stamper.stamp(message, shared.now);
        Some(Session::new(&keys, Role::Responder, index, remote_index, shared.now))
    }

    fn read_response(&self, response: Response<'_>, shared: &Shared) -> Option<Session> {
        let pending = self.handshake.initiated.as_ref().filter(|pending| pending.index == response.receiver_index)?;
        let keys = noise::read_response(&pending.noise, &shared.identity, &self.secrets, response.noise, &mut [])?;
        Some(Session::new(&keys, Role::Initiator, pending.index, response.sender_index, shared.now))
    }
}
