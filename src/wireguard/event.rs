//! What the endpoint reports: what happened to a tunnel.

use std::collections::VecDeque;

use crate::net::{Path, TunnelId};
pub use crate::packet::Opened;

/// Who began a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// New keys are agreed and confirmed by both sides. At most one in a second; `status` counts them all.
    HandshakeCompleted { tunnel: TunnelId, path: Path, role: Role },
    /// Packets can be sealed to the peer.
    Up { tunnel: TunnelId, path: Path },
    /// They no longer can.
    Down { tunnel: TunnelId, why: DownReason },
    /// The peer now sends from another address, after so many moves. At most one in ten seconds.
    Roamed { tunnel: TunnelId, from: Path, to: Path, moves: u32 },
    /// 90 s of initiations without a response. A configured endpoint is called again at once.
    Unanswered { tunnel: TunnelId, path: Path },
    /// The configuration asks for something impossible; the peer does not exist.
    Refused { tunnel: TunnelId, why: Refusal },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// The session reached its 180 s and nobody had made a new one.
    KeysExpired,
    /// The peer has not answered handshakes for 90 s.
    PeerSilent,
    /// Its configuration changed; the tunnel starts anew.
    Reconfigured,
    /// It is no longer configured.
    Removed,
}

impl DownReason {
    pub fn what(self) -> &'static str {
        match self {
            DownReason::KeysExpired => "the session's keys expired and nobody made new ones",
            DownReason::PeerSilent => "the peer has not answered handshakes for 90 seconds",
            DownReason::Reconfigured => "its configuration changed; it starts anew",
            DownReason::Removed => "it is no longer configured",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The tunnel's number is not below [`super::index::MAX_TUNNELS`].
    TooManyTunnels,
    /// Another tunnel has the same public key; the key is the identity.
    KeyTwice,
    /// The public key is one with which everybody agrees on the same secret.
    UnusableKey,
}

impl Refusal {
    pub fn what(self) -> &'static str {
        match self {
            Refusal::TooManyTunnels => "one WireGuard port serves at most 65,536 tunnels",
            Refusal::KeyTwice => "another tunnel has the same public key",
            Refusal::UnusableKey => "its public key is no key that WireGuard makes: no secret can be agreed with it",
        }
    }
}

/// Events that wait to be polled. They are for logs and history; the truth about a tunnel is its status.
pub const MAX_EVENTS: usize = 4096;

/// Bounded: when nobody polls, the newest are lost and counted.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    lost: u64,
}

impl EventQueue {
    pub fn push(&mut self, event: Event) {
        match self.events.len() < MAX_EVENTS {
            true => self.events.push_back(event),
            false => self.lost += 1,
        }
    }

    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_nobody_polls_are_bounded_and_counted() {
        let mut queue = EventQueue::default();
        let event = |n| Event::Refused { tunnel: TunnelId(n), why: Refusal::KeyTwice };
        (0..MAX_EVENTS as u32 + 5).for_each(|n| queue.push(event(n)));
        assert_eq!(queue.lost(), 5);
        assert_eq!(queue.poll(), Some(event(0)), "the oldest are kept");
        assert_eq!(std::iter::from_fn(|| queue.poll()).count(), MAX_EVENTS - 1);
    }
}
