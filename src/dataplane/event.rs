//! What happened to a tunnel, in words for the log. Realms are named; addresses are those of gateways, never of hosts
//! inside a realm.

use std::fmt;

use crate::net::TunnelId;
use crate::wireguard;

/// Prints as one sentence.
#[derive(Clone, Debug)]
pub struct Event {
    pub realm: String,
    pub what: wireguard::Event,
}

impl Event {
    /// Worth a warning rather than a note.
    pub fn is_trouble(&self) -> bool {
        use wireguard::Event::*;
        matches!(self.what, Down { .. } | Unanswered { .. } | Refused { .. })
    }
}

/// The tunnel that an event is about.
pub(super) fn tunnel_of(event: &wireguard::Event) -> TunnelId {
    use wireguard::Event::*;
    match *event {
        HandshakeCompleted { tunnel, .. }
        | Up { tunnel, .. }
        | Down { tunnel, .. }
        | Roamed { tunnel, .. }
        | Unanswered { tunnel, .. }
        | Refused { tunnel, .. } => tunnel,
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use wireguard::Event::*;
        write!(f, "realm {}: ", self.realm)?;
        match self.what {
            HandshakeCompleted { path, role, .. } => {
                let who = if role == wireguard::Role::Initiator { "we called" } else { "the peer called" };
                write!(f, "new keys agreed with {}; {who}", path.remote)
            }
            Up { path, .. } => write!(f, "tunnel up, peer at {}", path.remote),
            Down { why, .. } => write!(f, "tunnel down: {}", why.what()),
            Roamed { from, to, moves: 1, .. } => write!(f, "the peer moved from {} to {}", from.remote, to.remote),
            Roamed { from, to, moves, .. } => {
                write!(f, "the peer moved {moves} times, from {} to {}", from.remote, to.remote)
            }
            Unanswered { path, .. } => write!(f, "no answer from {} for 90 seconds; still calling", path.remote),
            Refused { why, .. } => write!(f, "the tunnel cannot be made: {}", why.what()),
        }
    }
}
