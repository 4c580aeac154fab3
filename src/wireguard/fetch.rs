//! Brings what packets will need of their peers into the processor's cache, before the first of a batch waits for any of it.
//! Changes nothing, and nothing depends on it. A prefetch, without `unsafe`: the reads of different packets overlap.

use super::endpoint::Endpoint;
use super::message::Message;
use super::session::Session;
use crate::net::TunnelId;

impl Endpoint {
    /// The tunnel of a data message.
    #[inline]
    pub fn tunnel_of(&self, datagram: &[u8]) -> Option<TunnelId> {
        match Message::parse(datagram) {
            Some(Message::Data(data)) => self.shared.indices.tunnel_of(data.receiver_index),
            _ => None,
        }
    }

    /// Reads a bit of every cache line that opening or sealing a packet reads, but for the keys. What it gives means nothing.
    #[inline]
    pub fn touch(&self, tunnel: TunnelId) -> u64 {
        let Some(Some(peer)) = self.peers.get(tunnel.index()) else { return 0 };
        let traffic = peer.traffic.mtu_bytes as u64 ^ peer.traffic.unacknowledged_since.as_micros();
        traffic ^ peer.current.as_ref().map_or(0, Session::touch)
    }
}
