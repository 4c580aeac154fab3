//! What came of an outer datagram, whichever transport it belongs to.

use crate::net::TunnelId;

use super::DropReason;

/// What an outer datagram was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// The first `len` bytes of `out` are an inner packet of this tunnel: version and length fields agree with it,
    /// nothing else has been looked at.
    Packet { tunnel: TunnelId, len: usize },
    /// Authentic and empty, or a transport's own sign of life.
    Keepalive { tunnel: TunnelId },
    /// A handshake or cookie message, dealt with.
    Control,
    /// `tunnel` only if the message proved that it belongs to it ([`DropReason::InnerMalformed`]): what is merely
    /// claimed counts against nobody.
    Dropped { reason: DropReason, tunnel: Option<TunnelId> },
}

impl Opened {
    /// Nothing is proved about the sender.
    pub fn dropped(reason: DropReason) -> Self {
        Opened::Dropped { reason, tunnel: None }
    }
}
