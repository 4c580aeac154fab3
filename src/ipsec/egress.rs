//! Packets on their way out: which SA, under which number, and what is around them.
//!
//! ```text
//! Endpoint::prepare    SA by the tunnel, next sequence number, header, padding, trailer, place in the outbox
//! (seal_batch)         by Endpoint::sealing_key
//! Endpoint::sent       what is counted, where it goes; then the place is committed
//! ```
//!
//! The packet with which an SA wears out is the last of its batch ([`Prepared::is_last`]): the next one needs another SA, or finds
//! the tunnel down.

use super::endpoint::{Endpoint, tunnel_mut};
use super::esp::HEADER_BYTES;
use super::lifetime::Wear;
use super::sa::Sa;
use super::table::Slot;
use crate::crypto::{PacketKey, Stamp};
use crate::net::{Path, TunnelId};
use crate::packet::outbox::Place;
use crate::packet::{DropReason, Outbox};

/// A packet that is to be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepared {
    slot: Slot,
    /// The ESP packet in the outbox, of which the header is written.
    pub place: Place,
    pub stamp: Stamp,
    /// The inner packet with padding and trailer.
    pub text_bytes: usize,
    /// Of the outer header.
    pub traffic_class: u8,
    /// Nothing more must be prepared before this one has been sealed and [`Endpoint::sent`].
    pub is_last: bool,
}

impl Prepared {
    /// Where IV, ciphertext and ICV go, of the bytes of the place.
    #[inline]
    pub fn sealed(packet: &mut [u8]) -> &mut [u8] {
        &mut packet[HEADER_BYTES..]
    }

    /// Whether it is sealed with the key of another one.
    #[inline]
    pub fn has_key_of(&self, other: &Prepared) -> bool {
        self.slot == other.slot
    }

    /// Whether it goes the very way of another one of the tunnel.
    #[inline]
    pub fn goes_with(&self, other: &Prepared) -> bool {
        self.slot == other.slot && self.traffic_class == other.traffic_class
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
        tunnel.count_sent(1, packet.len() as u64, self.now);
        if wear != Wear::Fresh {
            self.on_wear(slot, wear);
        }
        Ok(())
    }

    /// As [`Endpoint::touch_sa`], for a tunnel that packets leave by.
    #[inline]
    pub fn touch(&self, id: TunnelId) -> u64 {
        let Some(Some(tunnel)) = self.tunnels.get(id.index()) else { return 0 };
        tunnel.preferred().and_then(|slot| self.table.get(slot)).map_or(0, Sa::touch_out)
    }

    /// The first `packet_bytes` of `buffer` are the packet; behind it there must be room for padding and trailer.
    #[inline]
    pub fn prepare(
        &mut self,
        id: TunnelId,
        buffer: &mut [u8],
        packet_bytes: usize,
        outbox: &mut Outbox,
    ) -> Result<Prepared, DropReason> {
        let tunnel = tunnel_mut(&mut self.tunnels, id).ok_or(DropReason::TunnelDown)?;
        let packet = buffer.get(..packet_bytes).ok_or(DropReason::InnerTooLong)?;
        let slot = tunnel.choose(packet, &self.table)?;
        let sa = self.table.get_mut(slot).ok_or(DropReason::TunnelDown)?;
        let traffic_class = sa.outer_class(packet);
        let place = outbox.reserve(sa.overhead().sealed_bytes(packet_bytes)).ok_or(DropReason::EgressQueueFull)?;
        let prepared = match sa.prepare(buffer, packet_bytes, outbox.place_mut(place)) {
            Ok(prepared) => prepared,
            Err(reason) => {
                outbox.give_up(place);
                return Err(reason);
            }
        };
        if prepared.wear == Wear::RekeyDue {
            self.on_wear(slot, Wear::RekeyDue);
        }
        let is_last = prepared.wear == Wear::WornOut;
        Ok(Prepared { slot, place, stamp: prepared.stamp, text_bytes: prepared.text_bytes, traffic_class, is_last })
    }

    /// What it is to be sealed with.
    #[inline]
    pub fn sealing_key(&self, prepared: &Prepared) -> Option<&PacketKey> {
        Some(self.table.get(prepared.slot)?.sealing_key())
    }

    /// Where it goes, now that it has been sealed or has not.
    #[inline]
    pub fn path_of(&self, prepared: &Prepared) -> Option<Path> {
        Some(self.table.get(prepared.slot)?.path)
    }

    /// So many prepared packets of the tunnel have been sealed, of so many bytes altogether; `last` was the last of them. Their
    /// SA may be gone then: [`Endpoint::path_of`] is to be asked before.
    #[inline]
    pub fn sent(&mut self, id: TunnelId, packets: u64, bytes: u64, last: &Prepared) {
        if let Some(tunnel) = tunnel_mut(&mut self.tunnels, id) {
            tunnel.count_sent(packets, bytes, self.now);
        }
        if last.is_last {
            self.on_wear(last.slot, Wear::WornOut);
        }
    }
}
