//! What is known about a tunnel and about each of its SAs, for `status` and metrics.

use crate::crypto::Suite;
use crate::net::{Path, Timestamp};

/// All SAs of one tunnel together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TunnelStatus {
    /// SAs that packets can come by.
    pub sas: usize,
    /// There is an SA to seal packets with.
    pub up: bool,
    /// Where packets to the peer go.
    pub path: Option<Path>,
}

/// One pair of SAs, one in each direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SaStatus {
    pub spi_in: u32,
    pub spi_out: u32,
    pub suite: Suite,
    pub esn: bool,
    pub path: Path,
    pub use_out: UseOut,
    /// Opened until then.
    pub retired_until: Option<Timestamp>,
    pub installed: Timestamp,
    /// The last sequence number sent, and the highest that came in.
    pub sequence_out: u64,
    pub sequence_in: u64,
    /// What the lifetime counts: authentic packets and their payload.
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
}

/// Whether packets are sealed with an SA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UseOut {
    Active,
    /// Once the peer has used it, or when there is no other.
    Waiting,
    /// No longer: another took its place.
    Retired,
}
