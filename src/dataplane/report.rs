//! What a worker tells when it is asked: counters and tunnel states as plain data, copied at a batch boundary.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::{Generation, RealmId, TunnelId};
use crate::packet::DropReason;

/// Drops by [`DropReason::index`].
pub type Drops = [u64; DropReason::COUNT];

/// Packets and bytes (inner, as they appear inside the tunnel).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

/// Everything that one worker knows about itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub generation: Generation,
    pub totals: Totals,
    /// Of outer datagrams that belong to no realm yet.
    pub unattributed_drops: Drops,
    pub realms: Vec<RealmReport>,
    pub tunnels: Vec<TunnelReport>,
    pub sessions: usize,
    pub sessions_max: usize,
    /// What happened to tunnels and nobody took down in time. Statuses and counters missed nothing.
    pub events_lost: u64,
}

/// Where every datagram that came in went. At any batch boundary
/// `datagrams_in = control + keepalives + forwarded + answered + all drops`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    pub datagrams_in: u64,
    /// Handshake messages that were understood.
    pub control: u64,
    pub keepalives: u64,
    pub forwarded: u64,
    /// Delivered to the IX's own addresses. A packet that is answered with an ICMP error counts as a drop.
    pub answered: u64,
    /// Packets that the IX made itself (answers, ICMP errors); they never came in.
    pub originated: u64,
}

#[derive(Clone, Debug)]
pub struct RealmReport {
    pub realm: RealmId,
    /// From the realm's tunnels.
    pub received: Traffic,
    /// To the realm's tunnels.
    pub sent: Traffic,
    /// Of packets that this realm sent.
    pub drops: Drops,
    /// Sessions that this realm's hosts opened.
    pub sessions: usize,
}

#[derive(Clone, Debug)]
pub struct TunnelReport {
    pub tunnel: TunnelId,
    pub realm: RealmId,
    /// Has keys: packets can be sent.
    pub up: bool,
    pub remote: Option<SocketAddr>,
    /// Ago.
    pub last_handshake: Option<Duration>,
    /// Ago; data that authenticated, not keepalives.
    pub last_data_received: Option<Duration>,
    pub received: Traffic,
    pub sent: Traffic,
}
