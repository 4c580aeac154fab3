//! What happened to a tunnel, in words for the log. Realms are named; addresses are those of gateways, never of hosts
//! inside a realm.

use std::fmt;

use crate::net::{Path, TunnelId};
use crate::wireguard;

/// Prints as one sentence.
#[derive(Clone, Debug)]
pub struct Event {
    /// `None`: it is not known whose tunnel it would be.
    pub realm: Option<String>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    WireGuard(wireguard::Event),
}

impl Event {
    /// Worth a warning rather than a note.
    pub fn is_trouble(&self) -> bool {
        use wireguard::Event::*;
        match &self.what {
            What::WireGuard(event) => matches!(event, Down { .. } | Unanswered { .. } | Refused { .. }),
        }
    }
}

impl What {
    /// The tunnel that it is about. `None`: it is not known which.
    pub(super) fn tunnel(&self) -> Option<TunnelId> {
        use wireguard::Event::*;
        match self {
            What::WireGuard(
                HandshakeCompleted { tunnel, .. }
                | Up { tunnel, .. }
                | Down { tunnel, .. }
                | Roamed { tunnel, .. }
                | Unanswered { tunnel, .. }
                | Refused { tunnel, .. },
            ) => Some(*tunnel),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.realm {
            Some(realm) => write!(f, "realm {realm}: ")?,
            None => write!(f, "unknown peer: ")?,
        }
        match &self.what {
            What::WireGuard(event) => write_wireguard(f, event),
        }
    }
}

fn write_wireguard(f: &mut fmt::Formatter<'_>, event: &wireguard::Event) -> fmt::Result {
    use wireguard::Event::*;
    match *event {
        HandshakeCompleted { path, role, .. } => {
            let who = if role == wireguard::Role::Initiator { "we called" } else { "the peer called" };
            write!(f, "new keys agreed with {}; {who}", path.remote)
        }
        Up { path, .. } => write!(f, "tunnel up, peer at {}", path.remote),
        Down { why, .. } => write!(f, "tunnel down: {}", why.what()),
        Roamed { from, to, moves, .. } => write_move(f, from, to, moves),
        Unanswered { path, .. } => write!(f, "no answer from {} for 90 seconds; still calling", path.remote),
        Refused { why, .. } => write!(f, "the tunnel cannot be made: {}", why.what()),
    }
}

fn write_move(f: &mut fmt::Formatter<'_>, from: Path, to: Path, moves: u32) -> fmt::Result {
    match moves {
        1 => write!(f, "the peer moved from {} to {}", from.remote, to.remote),
        _ => write!(f, "the peer moved {moves} times, from {} to {}", from.remote, to.remote),
    }
}
