//! Packets on their way out: which SA, under which numbers, and what is around them.
//!
//! ```text
//! Endpoint::depart       for packets of one tunnel behind one another: their SA, their sequence numbers
//! Departure::finish      padding and trailer of each
//! (SealBatch)            by Endpoint::sealing_key, behind Departure::write_header
//! Endpoint::sent         when, and where they go; then their places are committed
//! ```
//!
//! The packet with which an SA wears out is the last of its batch ([`Departure::is_last`]): the next one needs another SA, or finds
//! the tunnel down.

use super::ecn::{Dscp, class_of, encapsulate};
use super::endpoint::{Endpoint, tunnel_mut};
use super::esp::{self, Overhead};
use super::lifetime::Wear;
use super::sa::Sa;
use super::table::Slot;
use crate::crypto::{Departing, PacketKey, Stamp};
use crate::net::{Path, TunnelId};
use crate::packet::outbox::Room;
use crate::packet::{DropReason, Outbox};

/// Packets by one SA, which have their sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    pub(super) slot: Slot,
    pub(super) spi: u32,
    pub(super) esn: bool,
    pub(super) overhead: Overhead,
    pub(super) dscp: Dscp,
    pub(super) ecn: bool,
    /// Of the first of them; the others have those that follow.
    pub(super) sequence: u64,
    /// So many of them.
    pub packets: usize,
    /// Nothing more must depart before these have been sealed and [`Endpoint::sent`].
    pub is_last: bool,
}

impl Departing for Departure {
    #[inline]
    fn packets(&self) -> usize {
        self.packets
    }

    #[inline]
    fn traffic_class(&self, packet: &[u8]) -> u8 {
        encapsulate(class_of(packet), self.dscp, self.ecn)
    }

    /// Padding and trailer.
    #[inline(always)]
    fn finish(&self, buffer: &mut [u8], packet_bytes: usize) -> Option<usize> {
        let text_bytes = esp::padded_bytes(packet_bytes, self.overhead.block_bytes);
        let next_header = esp::next_header_of(buffer)?;
        match buffer.get_mut(packet_bytes..)?.first_chunk_mut() {
            Some(behind) if self.overhead.block_bytes == 4 => *behind = esp::padding_to_four(packet_bytes, next_header),
            _ => esp::finish(buffer.get_mut(..text_bytes)?, packet_bytes, next_header),
        }
        Some(text_bytes)
    }

    #[inline]
    fn message_bytes(&self, text_bytes: usize) -> usize {
        self.overhead.fixed_bytes + text_bytes
    }

    #[inline]
    fn stamp(&self, behind: u64) -> Stamp {
        Stamp::Esp { spi: self.spi, sequence: self.sequence + behind, esn: self.esn }
    }

    /// IV, ciphertext and ICV stand behind it.
    #[inline]
    fn write_header<'a>(&self, stamp: Stamp, message: &'a mut [u8]) -> Option<&'a mut [u8]> {
        let Stamp::Esp { spi, sequence, .. } = stamp else { return None };
        let (header, sealed) = message.split_first_chunk_mut()?;
        *header = esp::header(spi, sequence);
        Some(sealed)
    }
}

impl Endpoint {
    /// Seals `packet` straight into `outbox`.
    pub fn seal(&mut self, id: TunnelId, packet: &[u8], outbox: &mut Outbox) -> Result<(), DropReason> {
        let tunnel = tunnel_mut(&mut self.tunnels, id).ok_or(DropReason::TunnelDown)?;
        let slot = tunnel.choose(packet, &self.table)?;
        let sa = self.table.get_mut(slot).ok_or(DropReason::TunnelDown)?;
        let sealed_bytes = sa.overhead().sealed_bytes(packet.len());
        let space = outbox.space(sealed_bytes).ok_or(DropReason::EgressQueueFull)?;
        let wear = sa.seal(packet, space)?;
        outbox.commit_marked(sa.path, true, sa.outer_class(packet), sealed_bytes);
        tunnel.last_sent = self.now;
        if wear != Wear::Fresh {
            self.on_wear(slot, wear);
        }
        Ok(())
    }

    /// As [`Endpoint::touch_sa`], for a tunnel that packets leave by.
    #[inline]
    pub fn touch(&self, id: TunnelId) -> u64 {
        let Some(Some(tunnel)) = self.tunnels.get(id.index()) else { return 0 };
        tunnel.last_sent.as_micros() ^ tunnel.preferred().and_then(|slot| self.table.get(slot)).map_or(0, Sa::touch_out)
    }

    /// Takes numbers for packets of one tunnel, for the first of them or for it and as many behind it as are sealed by the same SA and
    /// as there is room for.
    #[inline]
    pub fn depart<'p>(
        &mut self,
        id: TunnelId,
        packets: impl Iterator<Item = &'p [u8]>,
        mut room: Room,
    ) -> Result<Departure, DropReason> {
        let mut packets = packets;
        let tunnel = tunnel_mut(&mut self.tunnels, id).ok_or(DropReason::TunnelDown)?;
        let first = packets.next().ok_or(DropReason::TunnelDown)?;
        let slot = tunnel.choose(first, &self.table)?;
        let is_preferred = tunnel.preferred() == Some(slot);
        let sa = self.table.get_mut(slot).ok_or(DropReason::TunnelDown)?;
        let overhead = sa.overhead();
        let mut goes = |packet: &[u8]| room.take(overhead.sealed_bytes(packet.len()));
        if !goes(first) {
            return Err(DropReason::EgressQueueFull);
        }
        // Another SA than the first of all might not be the one for the next packet.
        let others = packets.take_while(|packet| is_preferred && sa.carries(packet) && goes(packet));
        let (count, bytes) = others.fold((1, first.len()), |(count, bytes), packet| (count + 1, bytes + packet.len()));
        let (departure, wear) = match sa.stays_fresh_out(count, bytes) {
            true => (sa.depart(slot, count, bytes)?, Wear::Fresh),
            // One by one, so that it ends with the right one.
            false => (sa.depart(slot, 1, first.len())?, sa.wear_out()),
        };
        if wear == Wear::RekeyDue {
            self.on_wear(slot, Wear::RekeyDue);
        }
        Ok(Departure { is_last: wear == Wear::WornOut, ..departure })
    }

    /// What its packets are to be sealed with.
    #[inline]
    pub fn sealing_key(&self, departure: &Departure) -> Option<&PacketKey> {
        Some(self.table.get(departure.slot)?.sealing_key())
    }

    /// So many of its packets have been sealed. Where they go.
    #[inline]
    pub fn sent(&mut self, id: TunnelId, departure: &Departure, packets: u64) -> Option<Path> {
        if packets > 0
            && let Some(tunnel) = tunnel_mut(&mut self.tunnels, id)
        {
            tunnel.last_sent = self.now;
        }
        let path = self.table.get(departure.slot).map(|sa| sa.path);
        if departure.is_last {
            self.on_wear(departure.slot, Wear::WornOut);
        }
        path
    }
}
