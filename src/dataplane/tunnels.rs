//! Every tunnel, by whatever transport.
//!
//! ```text
//! Port::WireGuard ------------------------------------------> wireguard
//! Port::Ike -------------------------- IKE -----------------> ike      keys of Child SAs, as events
//! Port::IkeNatT --- four zero bytes -- IKE -----------------> ike            |
//!               '-- one byte 0xff ---- NAT keepalive          ^              v
//!               '-- else ------------- ESP -----------------> ipsec    wear, moves, signs of life, as events
//! Port::RawEsp ----------------------- ESP -----------------> ipsec
//! ```
//!
//! The way in is decided by the port, the way out by the tunnel's number. A WireGuard packet pays one comparison for it.

use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::batch::MAX_PACKET_BYTES;
use crate::packet::{Datagram, DropReason, Opened, Outbox};
use crate::wireguard;

use super::engine::Setup;
use super::event::What;
use super::snapshot::{Snapshot, Transport};

mod ike_queue;
mod nat_t;

/// What WireGuard adds to a packet: header, counter, tag (and up to 15 bytes of padding).
const WIREGUARD_OVERHEAD_BYTES: usize = 32 + 15;

/// After any call that takes `outbox`, send it, drain [`Tunnels::poll_event`], then read [`Tunnels::poll_timeout`].
pub(super) struct Tunnels {
    wireguard: wireguard::Endpoint,
}

/// What `status` shows of a tunnel, whatever its transport.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct TunnelStatus {
    pub up: bool,
    pub path: Option<Path>,
    pub last_handshake: Option<Timestamp>,
}

impl Tunnels {
    pub fn new(setup: &Setup, now: Timestamp) -> Self {
        // Without a key there are no peers either, and whoever calls is an unknown one.
        let private_key = setup.private_key.clone().unwrap_or_default();
        Tunnels { wireguard: wireguard::Endpoint::new(&private_key, setup.handshakes_per_sec, now) }
    }

    /// Reconciles with the configured peers: those that did not change keep their keys.
    pub fn configure(&mut self, snapshot: &Snapshot, outbox: &mut Outbox, now: Timestamp) {
        let mut peers = Vec::new();
        for tunnel in snapshot.tunnels.iter().flatten() {
            match &tunnel.peer {
                Transport::WireGuard(peer) => peers.push(peer.clone()),
                Transport::Ipsec(_) => {}
            }
        }
        self.wireguard.configure(&peers, now);
        self.handle_timeout(outbox, now);
    }

    /// Opens one outer datagram, into `out` where it holds a packet.
    #[inline]
    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], outbox: &mut Outbox, now: Timestamp) -> Opened {
        match datagram.path.port {
            Port::WireGuard if datagram.bytes.len() > MAX_PACKET_BYTES + WIREGUARD_OVERHEAD_BYTES => {
                Opened::dropped(DropReason::InnerTooLong)
            }
            Port::WireGuard => self.wireguard.open(datagram, out, outbox, now),
            Port::Ike | Port::IkeNatT | Port::RawEsp => Opened::dropped(DropReason::DataUnknownSession),
        }
    }

    /// Seals `packet` straight into `outbox`.
    #[inline]
    pub fn seal(&mut self, tunnel: TunnelId, packet: &[u8], outbox: &mut Outbox) -> Result<(), DropReason> {
        self.wireguard.seal(tunnel, packet, outbox)
    }

    /// Whether packets can be sealed to the peer. Cheap enough to ask for every packet.
    #[inline]
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        self.wireguard.is_up(tunnel)
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.wireguard.handle_timeout(outbox, now);
    }

    pub fn poll_event(&mut self) -> Option<What> {
        self.wireguard.poll_event().map(What::WireGuard)
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.wireguard.poll_timeout()
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus> {
        let status = self.wireguard.status(tunnel)?;
        Some(TunnelStatus { up: status.up, path: status.path, last_handshake: status.last_handshake })
    }
}
