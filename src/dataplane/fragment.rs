//! Fragments, on the way in and on the way out.
//!
//! In: `classify` hands every fragment to the [`Reassembler`]; the datagram that they make walks by itself. Drops:
//! SourceNotInRealm, OptionNotServed, InnerMalformed and what the reassembler says.
//!
//! Out: `route` asks [`fit`] how a packet may leave, `encap` cuts it. What arrived whole and may not be cut (IPv6, or IPv4
//! with DF) is reported as too big. What arrived in fragments leaves in fragments that are no larger than those were,
//! except IPv4 without DF, which may be cut anew at every hop.

use crate::nat::Reassembler;
use crate::nat::family::{self, MIN_MTU_BYTES_V6};
use crate::nat::fragmentation::{self, Fragments};
use crate::nat::reassembly::Outcome;
use crate::net::mapping::Mapping;
use crate::net::{RealmId, Timestamp, TunnelId};
use crate::packet::batch::MAX_PACKET_BYTES;
use crate::packet::{DropReason, Fate, Meta, Outbox};
use crate::wire::fragment::{self, Fragment};
use crate::wire::{ipv4, ipv6};

use super::counters::Counters;
use super::tunnels::Tunnels;

/// Whether the walk goes on with what is in the buffer.
pub(super) enum Taken {
    /// It was an atomic fragment, and is a whole packet now.
    Unwrapped,
    /// The reassembler has it.
    Kept,
}

/// ingress: a packet that was found to be a fragment.
#[cold]
pub(super) fn take(
    meta: &mut Meta,
    packet: &mut [u8],
    mapping: &Mapping,
    reassembler: &mut Reassembler,
    now: Timestamp,
) -> Result<Taken, DropReason> {
    let fragment = fragment::parse(packet).ok_or(DropReason::InnerMalformed)?;
    if meta.reassembled.is_some() {
        return Err(DropReason::FragmentInvalid); // a fragment of what was a fragment
    }
    if mapping.locate_native(meta.realm, fragment.source).is_none() {
        return Err(DropReason::SourceNotInRealm);
    }
    if is_refused(packet, &fragment) {
        return Err(DropReason::OptionNotServed);
    }
    match reassembler.handle_fragment(meta.realm, meta.ingress, &fragment, packet, now) {
        Outcome::Kept | Outcome::Whole => {
            meta.fate = Fate::Kept;
            Ok(Taken::Kept)
        }
        Outcome::Atomic => {
            fragment::unwrap_atomic(packet, &fragment);
            Ok(Taken::Unwrapped)
        }
        Outcome::Dropped(reason) => Err(reason),
    }
}

fn is_refused(packet: &[u8], fragment: &Fragment) -> bool {
    !fragment.is_v6() && ipv4::parse(packet).is_none_or(|header| header.is_refused)
}

/// route: how a packet may leave through a tunnel of `mtu_bytes`. The payload of its fragments, 0: whole. `Err`: it may
/// not; its sender is to be told this size, which is in terms of the packet that it sent.
pub(super) fn fit(meta: &Meta, packet: &[u8], mtu_bytes: u16) -> Result<u16, u16> {
    let headers = &meta.headers;
    let (from_v6, to_v6) = (headers.is_v6(), meta.shown.destination.is_ipv6());
    let (leaving_bytes, told_bytes) = match from_v6 == to_v6 {
        true => (headers.total_bytes, mtu_bytes),
        false => (family::translated_bytes(headers), family::untranslated_mtu(mtu_bytes, to_v6)),
    };
    if !to_v6 && leaving_bytes > usize::from(u16::MAX) {
        return Err(told_bytes); // the longest IPv6 datagrams are none of IPv4
    }
    let is_small = |mtu_bytes: u16| leaving_bytes <= usize::from(mtu_bytes);
    if !headers.dont_fragment {
        // A sender that lets its packets be fragmented learns of no narrow link behind the tunnel. IPv6 routers fragment
        // nothing, so its packets leave in pieces that pass everywhere (RFC 7915 section 4).
        let mtu_bytes = if to_v6 { mtu_bytes.min(MIN_MTU_BYTES_V6) } else { mtu_bytes };
        return Ok(if is_small(mtu_bytes) { 0 } else { room(packet, to_v6, mtu_bytes) });
    }
    match meta.reassembled.map(|reassembled| reassembled.largest_payload_bytes & !7) {
        None if is_small(mtu_bytes) => Ok(0),
        Some(largest) if from_v6 || largest <= room(packet, to_v6, mtu_bytes) => {
            Ok(largest.min(room(packet, to_v6, mtu_bytes)))
        }
        _ => Err(told_bytes),
    }
}

/// Payload of the largest fragment that fits, a multiple of eight.
fn room(packet: &[u8], to_v6: bool, mtu_bytes: u16) -> u16 {
    let header_bytes = match (packet.first().is_some_and(|first| first >> 4 == 6), to_v6) {
        (true, false) => ipv4::MIN_HEADER_BYTES,
        (false, true) => ipv6::HEADER_BYTES + ipv6::FRAGMENT_HEADER_BYTES,
        _ => fragmentation::header_bytes(packet).unwrap_or(usize::MAX),
    };
    (usize::from(mtu_bytes).saturating_sub(header_bytes) & !7) as u16
}

/// Cuts packets, and seals the pieces.
pub(super) struct Fragmenter {
    /// For packets that bring none of their own. Begins anywhere.
    next_identification: u32,
    scratch: Box<[u8; MAX_PACKET_BYTES]>,
}

impl Fragmenter {
    /// `seed`: random.
    pub fn new(seed: u64) -> Self {
        Fragmenter { next_identification: seed as u32, scratch: Box::new([0; MAX_PACKET_BYTES]) }
    }

    /// encap: seals a forwarded packet in fragments.
    ///
    /// Drops: InnerMalformed (an IPv4 header whose checksum is wrong), and what the tunnel says. The first fragments may have
    /// left by then.
    pub fn seal(
        &mut self,
        meta: &Meta,
        packet: &[u8],
        tunnels: &mut Tunnels,
        outbox: &mut Outbox,
        counters: &mut Counters,
    ) -> Result<(), DropReason> {
        let identification = self.identification_of(meta, packet);
        let cut = Fragments::new(packet, meta.fragment_payload_bytes.into(), identification);
        self.seal_all(cut, meta.realm, meta.egress, tunnels, outbox, counters)
    }

    /// Seals one of the IX's own packets in fragments that fit.
    pub fn seal_own(
        &mut self,
        packet: &mut [u8],
        mtu_bytes: u16,
        tunnel: TunnelId,
        tunnels: &mut Tunnels,
        outbox: &mut Outbox,
        counters: &mut Counters,
    ) -> Result<(), DropReason> {
        let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        if !is_v6 {
            packet[ipv4::FRAGMENT..ipv4::FRAGMENT + 2].fill(0);
            ipv4::renew_checksum(&mut packet[..ipv4::MIN_HEADER_BYTES]);
        }
        let payload_bytes = room(packet, is_v6, mtu_bytes);
        let cut = Fragments::new(packet, payload_bytes.into(), self.take_identification());
        self.seal_all(cut, RealmId::IX, tunnel, tunnels, outbox, counters)
    }

    fn seal_all(
        &mut self,
        cut: Option<Fragments<'_>>,
        by: RealmId,
        tunnel: TunnelId,
        tunnels: &mut Tunnels,
        outbox: &mut Outbox,
        counters: &mut Counters,
    ) -> Result<(), DropReason> {
        let mut fragments = cut.ok_or(DropReason::InnerMalformed)?;
        while let Some(len) = fragments.next_into(&mut self.scratch[..]) {
            tunnels.seal(tunnel, by, &self.scratch[..len], outbox)?;
            counters.sent(tunnel, len);
            counters.totals.fragments_made += 1;
        }
        Ok(())
    }

    /// The datagram's own, so that fragments of one that is cut on several ways still belong together; but not where
    /// several hosts show themselves by one address, and may have chosen the same (RFC 6864 section 5.3).
    fn identification_of(&mut self, meta: &Meta, packet: &[u8]) -> u32 {
        let is_shared = meta.shown.source_port != 0;
        match (meta.reassembled, packet) {
            _ if is_shared => self.take_identification(),
            (Some(reassembled), _) => reassembled.identification,
            (None, [first, _, _, _, high, low, ..]) if first >> 4 == 4 && !meta.headers.is_v6() => {
                u16::from_be_bytes([*high, *low]).into()
            }
            _ => self.take_identification(),
        }
    }

    fn take_identification(&mut self) -> u32 {
        self.next_identification = self.next_identification.wrapping_add(1);
        self.next_identification
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::packet::{Batch, Reassembled};
    use crate::wire::headers;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    /// A packet with `message_bytes` behind its header; `largest`: it came in fragments of this payload.
    fn packet(v6: bool, dont_fragment: bool, message_bytes: usize, largest: Option<u16>, to_v6: bool) -> Batch {
        let mut batch = Batch::of_one_datagram();
        let slot = batch.slot();
        let len = if v6 {
            ipv6::emit(
                slot.first_chunk_mut().unwrap(),
                message_bytes,
                64,
                17,
                Ipv6Addr::LOCALHOST,
                Ipv6Addr::LOCALHOST,
            );
            40 + message_bytes
        } else {
            let addresses = (Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
            ipv4::emit(slot.first_chunk_mut().unwrap(), message_bytes, 64, 17, addresses.0, addresses.1);
            slot[ipv4::FRAGMENT] = if dont_fragment { 0x40 } else { 0 };
            slot[ipv4::IDENTIFICATION + 1] = 9;
            20 + message_bytes
        };
        batch.push(TunnelId(0), RealmId(1), len);
        let (meta, bytes) = batch.packet_mut(0);
        meta.headers = headers::parse(bytes).unwrap();
        meta.shown.destination = if to_v6 { V6 } else { V4 };
        meta.reassembled =
            largest.map(|largest_payload_bytes| Reassembled { identification: 0x7_0007, largest_payload_bytes });
        batch
    }

    #[test]
    fn how_a_packet_may_leave() {
        const WHOLE: Result<u16, u16> = Ok(0);
        // From IPv6, DF, message, largest fragment, to IPv6, MTU: fragments of so much, or told so.
        for (case, expected) in [
            ((false, true, 1400, None, false, 1420), WHOLE),
            ((false, true, 1401, None, false, 1420), Err(1420)),
            ((false, false, 1401, None, false, 1420), Ok(1400)),
            ((false, false, 3000, Some(552), false, 1420), Ok(1400)),
            ((false, false, 1000, Some(552), false, 1420), WHOLE),
            ((false, true, 3000, Some(555), false, 1420), Ok(552)),
            ((false, true, 3000, Some(1400), false, 1420), Ok(1400)),
            ((false, true, 3000, Some(1408), false, 1420), Err(1420)),
            ((true, true, 1380, None, true, 1420), WHOLE),
            ((true, true, 1381, None, true, 1420), Err(1420)),
            ((true, true, 3000, Some(1232), true, 1420), Ok(1232)),
            ((true, true, 3000, Some(1400), true, 1420), Ok(1368)),
            // IPv4 becomes IPv6: 20 bytes more, 28 in fragments; without DF never above 1,280.
            ((false, true, 1380, None, true, 1420), WHOLE),
            ((false, true, 1381, None, true, 1420), Err(1400)),
            ((false, false, 1240, None, true, 1420), WHOLE),
            ((false, false, 1241, None, true, 1420), Ok(1232)),
            // IPv6 becomes IPv4: 20 bytes less.
            ((true, true, 1400, None, false, 1420), WHOLE),
            ((true, true, 1401, None, false, 1420), Err(1440)),
            ((true, true, 3000, Some(1232), false, 1420), Ok(1232)),
            ((true, true, 3000, Some(1408), false, 1420), Ok(1400)),
            ((true, true, 65_516, Some(1232), false, 1420), Err(1440)),
        ] {
            let (v6, dont_fragment, message_bytes, largest, to_v6, mtu_bytes) = case;
            let batch = packet(v6, dont_fragment, message_bytes, largest, to_v6);
            assert_eq!(fit(batch.meta(0), batch.bytes(0), mtu_bytes), expected, "{case:?}");
        }
    }

    #[test]
    fn the_identification_is_the_datagrams_unless_hosts_share_an_address() {
        let mut fragmenter = Fragmenter::new(100);
        let identification =
            |fragmenter: &mut Fragmenter, batch: &Batch| fragmenter.identification_of(batch.meta(0), batch.bytes(0));
        let whole = packet(false, false, 2000, None, false);
        assert_eq!(identification(&mut fragmenter, &whole), 9);
        let mut in_fragments = packet(true, true, 2000, Some(1000), true);
        assert_eq!(identification(&mut fragmenter, &in_fragments), 0x7_0007);
        in_fragments.packet_mut(0).0.shown.source_port = 4000;
        assert_eq!([101, 102].map(|_| identification(&mut fragmenter, &in_fragments)), [101, 102]);
    }
}
