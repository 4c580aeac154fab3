//! Brings what packets will need of their SAs into the processor's cache, before the first of a batch waits for any of it.
//! Changes nothing, and nothing depends on it. A prefetch, without `unsafe`: the reads of different packets overlap.

use super::endpoint::Endpoint;
use super::esp::Header;
use super::table::Slot;
use crate::net::TunnelId;

impl Endpoint {
    /// The SA of an ESP packet.
    #[inline]
    pub fn slot_of(&self, packet: &[u8]) -> Option<Slot> {
        self.table.lookup(Header::parse(packet)?.spi)
    }

    /// The SA that nearly every packet to the peer is sealed with.
    #[inline]
    pub fn slot_to(&self, tunnel: TunnelId) -> Option<Slot> {
        self.tunnels.get(tunnel.index())?.as_ref()?.preferred()
    }

    /// Reads a bit of every cache line that opening or sealing a packet reads, but for the keys. What it gives means nothing but
    /// for the tunnel.
    #[inline]
    pub fn touch(&self, slot: Slot) -> Option<(TunnelId, u64)> {
        let sa = self.table.get(slot)?;
        Some((sa.tunnel, sa.touch()))
    }

    /// The same of what is counted of a tunnel.
    #[inline]
    pub fn touch_tunnel(&self, tunnel: TunnelId) -> u64 {
        let tunnel = self.tunnels.get(tunnel.index()).and_then(Option::as_ref);
        tunnel.map_or(0, |tunnel| tunnel.counters.rx_packets ^ tunnel.last_sent.as_micros())
    }
}
