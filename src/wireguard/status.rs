//! What is known about one peer, for `status` and metrics.

use crate::net::{Path, Timestamp};

/// Handshakes with one peer since it was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HandshakeCounts {
    /// Initiations sent.
    pub attempts: u64,
    /// Of those, answered by nobody before the next was sent or given up.
    pub unanswered: u64,
    /// Messages received in this peer's name that were no valid handshake with it.
    pub rejected: u64,
    /// New keys agreed, in either role.
    pub completed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerStatus {
    /// There is a session to seal packets with.
    pub up: bool,
    /// Where messages to the peer go.
    pub path: Option<Path>,
    pub last_handshake: Option<Timestamp>,
    /// The last inner packet; keepalives do not count.
    pub last_data_received: Option<Timestamp>,
    pub handshakes: HandshakeCounts,
    /// Inner packets and their bytes; handshakes and keepalives do not count.
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
}
