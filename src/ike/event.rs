//! What the endpoint reports: Child SAs for `ipsec` to install or retire, and what happened to a tunnel.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::diagnosis::Failure;
use crate::crypto::Suite;
use crate::net::selector::Selector;
use crate::net::{Path, TunnelId};

/// Who began an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Initiator,
    Responder,
}

impl Role {
    pub fn is_initiator(self) -> bool {
        self == Role::Initiator
    }
}

/// When to begin sealing with a new Child SA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outbound {
    /// We began the exchange: the peer opens already.
    Now,
    /// The peer began: when it is heard on this one, or when no other is left that carries the packet.
    WhenHeard,
}

/// KEYMAT of one Child SA as section 2.17 gives it: for AEADs the salt follows the key.
#[derive(Clone, PartialEq, Eq)]
pub struct ChildKeys {
    pub cipher_in: Zeroizing<Vec<u8>>,
    pub integrity_in: Zeroizing<Vec<u8>>,
    pub cipher_out: Zeroizing<Vec<u8>>,
    pub integrity_out: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ChildKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChildKeys")
    }
}

/// A Child SA to install, both directions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChildUp {
    pub tunnel: TunnelId,
    /// Ours: the peer puts it into what it sends.
    pub spi_in: u32,
    pub spi_out: u32,
    pub suite: Suite,
    pub keys: ChildKeys,
    pub esn: bool,
    pub replay_window: u32,
    pub ours: Vec<Selector>,
    pub theirs: Vec<Selector>,
    /// Where ESP goes: `Port::IkeNatT` in UDP, `Port::RawEsp` without.
    pub path: Path,
    /// The peer may be behind a NAT: answer where authentic packets come from (section 2.23).
    pub follow_path: bool,
    pub role: Role,
    pub outbound: Outbound,
    /// The inbound SPI of the Child SA that this one replaces.
    pub replaces: Option<u32>,
    /// The hard limits; rekeying is asked for before (`Endpoint::rekey_child`).
    pub lifetime_bytes: u64,
    pub lifetime_packets: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    ChildUp(Box<ChildUp>),
    /// Stop sealing with it, go on opening for `linger`.
    ChildDown {
        tunnel: TunnelId,
        spi_in: u32,
        linger: Duration,
    },
    /// Everything towards this peer goes elsewhere from now on (MOBIKE, or a NAT that changed its mind).
    PathMoved {
        tunnel: TunnelId,
        path: Path,
        /// As in [`ChildUp`], for all its Child SAs.
        follow_path: bool,
    },
    /// Whether an outer IP packet of so many bytes reached the peer there ([`super::Endpoint::probe_path`]).
    PathProbed {
        tunnel: TunnelId,
        remote: SocketAddr,
        outer_bytes: u16,
        arrived: bool,
    },
    /// The peer proved who it is; at least one Child SA follows or came before.
    Up {
        tunnel: TunnelId,
        path: Path,
        role: Role,
    },
    /// There is no IKE SA with the peer any more, but those that are being deleted.
    Down {
        tunnel: TunnelId,
        why: DownReason,
    },
    /// A negotiation failed. `None`: we do not know with whom.
    Failed {
        tunnel: Option<TunnelId>,
        failure: Box<Failure>,
    },
    /// The configuration asks for something impossible; the peer does not exist.
    Refused {
        tunnel: TunnelId,
        why: Refusal,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// A request went unanswered through all its retransmissions.
    PeerSilent,
    /// The peer deleted the IKE SA.
    PeerDeleted,
    /// The peer came anew and said that it has forgotten everything (INITIAL_CONTACT).
    PeerRestarted,
    /// A rekey failed for good, or broke the protocol.
    Failed,
    /// A certificate that the peer had proved itself by has ended.
    CertificateEnded,
    /// The process ends.
    Stopping,
    /// Its configuration changed; the tunnel starts anew.
    Reconfigured,
    /// It is no longer configured.
    Removed,
}

impl DownReason {
    pub fn what(self) -> &'static str {
        match self {
            DownReason::PeerSilent => "the peer no longer answers",
            DownReason::PeerDeleted => "the peer closed it",
            DownReason::PeerRestarted => "the peer started anew",
            DownReason::Failed => "a negotiation with the peer failed",
            DownReason::CertificateEnded => "the peer's certificate is no longer valid",
            DownReason::Stopping => "this appliance ends",
            DownReason::Reconfigured => "its configuration changed; it starts anew",
            DownReason::Removed => "it is no longer configured",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The tunnel's number is not below [`super::endpoint::MAX_TUNNELS`].
    TooManyTunnels,
    /// Another tunnel has the same pair of identities; they are what a peer is known by.
    IdentityTwice,
}

impl Refusal {
    pub fn what(self) -> &'static str {
        match self {
            Refusal::TooManyTunnels => "one appliance serves at most 65,536 IPsec tunnels",
            Refusal::IdentityTwice => "another tunnel has the same local and remote identity",
        }
    }
}

/// Reports that wait to be polled. Those about Child SAs are never lost: there are at most as many as SAs.
pub const MAX_NEWS: usize = 4096;

/// Bounded: when nobody polls, the newest reports that are only news are lost and counted.
#[derive(Default)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    lost: u64,
}

impl EventQueue {
    pub fn push(&mut self, event: Event) {
        let news = matches!(
            event,
            Event::Failed { .. } | Event::Refused { .. } | Event::PathMoved { .. } | Event::PathProbed { .. }
        );
        match news && self.events.len() >= MAX_NEWS {
            true => self.lost += 1,
            false => self.events.push_back(event),
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
    fn news_that_nobody_polls_are_bounded_and_child_sas_are_never_lost() {
        let mut queue = EventQueue::default();
        let news = |n| Event::Refused { tunnel: TunnelId(n), why: Refusal::IdentityTwice };
        (0..MAX_NEWS as u32 + 5).for_each(|n| queue.push(news(n)));
        assert_eq!(queue.lost(), 5);
        let down = Event::ChildDown { tunnel: TunnelId(1), spi_in: 1, linger: Duration::ZERO };
        queue.push(down.clone());
        assert_eq!(queue.poll(), Some(news(0)), "the oldest are kept");
        assert_eq!(std::iter::from_fn(|| queue.poll()).last(), Some(down));
    }
}
