//! encap: seal into the egress tunnel, straight into the outbox, in fragments where `route` said so; packets of one tunnel
//! behind one another, so that they leave as one run.
//!
//! ```text
//! depart     tunnel by tunnel: counters and sequence numbers
//! prepare    padding, room in the outbox, header
//! seal       all of the batch at once (`crypto::batch`), from the packets' buffers to their places
//! commit     places become datagrams, tunnel by tunnel
//! ```
//!
//! Packets of a parcel are not sealed here: what it takes is written down in it ([`super::parcel`]), and their places are committed all the same.
//!
//! Drops: TunnelDown, TunnelHasNoEndpoint, NoTunnel, InnerTooLong, EgressQueueFull, and what ports and selectors say.

use std::ops::Range;

use heapless::Vec;

use crate::crypto::{Departing, PacketKey, SealBatch, Stamp, ToSeal};
use crate::net::TunnelId;
use crate::packet::batch::{Apart, BATCH_PACKETS, MAX_PACKET_BYTES, TAILROOM_BYTES};
use crate::packet::outbox::Space;
use crate::packet::{Batch, DropReason, Fate, Outbox};

use super::counters::Counters;
use super::fragment::Fragmenter;
use super::parcel::{Sealing, Unsealed};
use super::report::Traffic;
use super::tunnels::{Departure, Tunnels};

#[inline(never)]
pub(super) fn encap(
    batch: &mut Batch,
    tunnels: &mut Tunnels,
    fragmenter: &mut Fragmenter,
    outbox: &mut Outbox,
    sealing: Option<&mut Sealing>,
    counters: &mut Counters,
) {
    let mut order = [0u64; BATCH_PACKETS];
    let order = by_tunnel(batch, &mut order);
    touch(order, tunnels, counters);
    let any_cut = batch.metas().iter().fold(0, |bytes, meta| bytes | meta.fragment_payload_bytes) != 0;
    // Not in the struct: they would be filled with zeros.
    let (mut leaving, mut groups) = (Vec::new(), Vec::new());
    let (leaving, groups) = (&mut leaving, &mut groups);
    let mut encap = Encap { batch, tunnels, fragmenter, outbox, sealing, counters, leaving, groups };
    for group in order.chunk_by(|one, other| one >> 32 == other >> 32) {
        encap.take(TunnelId((group[0] >> 32) as u32), group, any_cut);
    }
    encap.finish();
}

/// `'o`: of the order in which packets are taken.
struct Encap<'a, 'o> {
    batch: &'a mut Batch,
    tunnels: &'a mut Tunnels,
    fragmenter: &'a mut Fragmenter,
    outbox: &'a mut Outbox,
    /// Of a parcel, whose packets somebody else seals.
    sealing: Option<&'a mut Sealing>,
    counters: &'a mut Counters,
    /// Not yet sealed.
    leaving: &'a mut Leaving,
    groups: &'a mut Vec<Group<'o>, BATCH_PACKETS>,
}

type Leaving = Vec<Message, BATCH_PACKETS>;

/// No datagram is longer.
const MAX_MESSAGE_BYTES: usize = MAX_PACKET_BYTES + TAILROOM_BYTES;

/// A packet on its way.
#[derive(Clone, Copy)]
struct Message {
    /// Of the datagram.
    bytes: u32,
    /// In the batch.
    number: u16,
    /// Of the outer header.
    traffic_class: u8,
}

/// Packets that depart together.
struct Group<'o> {
    tunnel: TunnelId,
    departure: Departure,
    /// Their keys, as [`by_tunnel`] makes them.
    packets: &'o [u64],
    /// What has been prepared of them.
    prepared: Prepared,
}

/// What is on its way of a departure.
#[derive(Clone, Default)]
struct Prepared {
    /// Of all that is on its way.
    leaving: Range<usize>,
    traffic: Traffic,
    /// Not all are of one length and class.
    are_unequal: bool,
}

impl<'o> Encap<'_, 'o> {
    /// Packets of one tunnel.
    fn take(&mut self, tunnel: TunnelId, group: &'o [u64], any_cut: bool) {
        let by_port = self.tunnels.is_port(tunnel);
        let mut rest = group;
        while let Some(first) = rest.first() {
            let is_cut = |key: &u64| self.batch.meta(place_of(key)).fragment_payload_bytes != 0;
            let whole = if any_cut { rest.iter().position(is_cut).unwrap_or(rest.len()) } else { rest.len() };
            match whole {
                // It leaves in fragments, and not before those that came before it.
                0 => {
                    self.finish();
                    self.seal_in_fragments(place_of(first));
                    rest = &rest[1..];
                }
                _ if by_port => {
                    self.seal_by_port(tunnel, &rest[..whole]);
                    rest = &rest[whole..];
                }
                _ => rest = &rest[self.depart(tunnel, &rest[..whole])..],
            }
        }
    }

    /// Whole packets. There is no cryptography, so they leave at once.
    fn seal_by_port(&mut self, tunnel: TunnelId, packets: &[u64]) {
        let Encap { batch, tunnels, outbox, counters, .. } = self;
        let mut refused: Vec<(u32, DropReason), BATCH_PACKETS> = Vec::new();
        let all = packets.iter().map(|key| (batch.meta(place_of(key)).realm, batch.bytes(place_of(key))));
        let mut numbers = packets.iter().map(|key| place_of(key) as u32);
        tunnels.seal_by_port(tunnel, all, outbox, |sealed| {
            if let (Some(number), Err(reason)) = (numbers.next(), sealed) {
                let _ = refused.push((number, reason)); // there are no more in a batch
            }
        });
        refused.iter().for_each(|(number, reason)| batch.meta_mut(*number as usize).drop(*reason));
        let mut traffic = Traffic::default();
        for key in packets {
            let meta = batch.meta_mut(place_of(key));
            if meta.is_leaving() {
                meta.fate = Fate::Forwarded;
                traffic.add(meta.buffer_bytes());
            }
        }
        counters.sent_all(tunnel, traffic);
    }

    /// How many of them are dealt with: the first, and as many behind it as can be now.
    fn depart(&mut self, tunnel: TunnelId, packets: &'o [u64]) -> usize {
        let Encap { batch, tunnels, outbox, groups, .. } = self;
        let departed = tunnels.depart(tunnel, packets.iter().map(|key| batch.bytes(place_of(key))), outbox);
        let departure = match departed {
            Ok(departure) => departure,
            Err(refusal) => {
                drop_all(&packets[..refusal.packets], batch, refusal.reason);
                return refusal.packets;
            }
        };
        // For those that have no numbers it is asked again, and refused with its reason.
        let done = departure.as_departing().packets();
        // There is room: each has a packet at least.
        let _ = groups.push(Group { tunnel, departure, packets: &packets[..done], prepared: Prepared::default() });
        // It has no places yet, so whatever comes between must leave it its room.
        if departure.is_last() || !outbox.room().is_for(BATCH_PACKETS, MAX_MESSAGE_BYTES) {
            self.finish();
        }
        done
    }

    /// Seals what has departed, and sends it on its way.
    #[inline(never)]
    fn finish(&mut self) {
        if self.groups.is_empty() {
            return;
        }
        let (sealed, end) = if self.sealing.is_some() { self.leave_to_seal() } else { self.seal() };
        let Encap { batch, tunnels, outbox, counters, leaving, groups, .. } = self;
        for Group { tunnel, departure, prepared, .. } in groups.iter() {
            let Prepared { leaving: range, traffic, are_unequal } = prepared;
            let (messages, sealed) = (&leaving[range.clone()], sealed.unbounded_shr(range.start as u32));
            let all_of_them = u64::MAX.unbounded_shr(u64::BITS - messages.len() as u32);
            let all_are_sealed = sealed & all_of_them == all_of_them;
            let traffic = if all_are_sealed { *traffic } else { drop_unsealed(batch, messages, sealed) };
            counters.sent_all(*tunnel, traffic);
            let (path, may_fragment) = tunnels.sent(*tunnel, departure, traffic);
            let Some(first) = messages.first() else { continue };
            outbox.let_fragment(may_fragment);
            match path {
                Some(path) if all_are_sealed && !are_unequal => {
                    outbox.commit_equal(messages.len(), first.bytes as usize, path, first.traffic_class);
                }
                _ => {
                    let mut behind = sealed;
                    // Nearly always all of one class.
                    for messages in messages.chunk_by(|one, other| one.traffic_class == other.traffic_class) {
                        let lens = messages
                            .iter()
                            .zip(bits(behind))
                            .map(|(message, is_sealed)| (message.bytes as usize, is_sealed));
                        outbox.commit_all(lens, path, messages[0].traffic_class);
                        behind = behind.unbounded_shr(messages.len() as u32);
                    }
                }
            }
            outbox.let_fragment(false);
        }
        debug_assert_eq!(outbox.end(), end, "what was committed is not what had places");
        leaving.clear();
        groups.clear();
    }

    /// All that has departed. Which of those on their way have been sealed, bit by bit; and where their places end.
    #[inline(never)]
    fn seal(&mut self) -> (u64, usize) {
        let Encap { batch, tunnels, outbox, leaving, groups, .. } = self;
        if groups.len() > 1 {
            let keys = groups.iter().filter_map(|group| tunnels.sealing_key(group.tunnel, &group.departure));
            keys.for_each(PacketKey::touch);
        }
        let mut making = Making { apart: batch.take_apart(), space: outbox.space_behind(), leaving };
        let (mut sealing, mut none) = (SealBatch::default(), 0);
        let refused = &mut none;
        for Group { tunnel, departure, packets, prepared } in groups.iter_mut() {
            let Some(key) = tunnels.sealing_key(*tunnel, departure) else {
                making.refuse(packets);
                continue;
            };
            let making = &mut making;
            *prepared = match departure {
                Departure::WireGuard(departure) => sealing.seal(key, Departed { departure, packets, making, refused }),
                Departure::Esp(departure) => sealing.seal(key, Departed { departure, packets, making, refused }),
            };
        }
        sealing.finish();
        (!none, making.space.start())
    }

    /// Writes down all that has departed, for whoever seals it, as if it had been sealed.
    #[inline(never)]
    fn leave_to_seal(&mut self) -> (u64, usize) {
        let Encap { batch, tunnels, outbox, sealing: Some(sealing), leaving, groups, .. } = self else { return (0, 0) };
        let mut making = Making { apart: batch.take_apart(), space: outbox.space_behind(), leaving };
        for Group { tunnel, departure, packets, prepared } in groups.iter_mut() {
            let Some(key) = tunnels.sealing_key(*tunnel, departure) else {
                making.refuse(packets);
                continue;
            };
            let mut unsealed: Vec<Unsealed, BATCH_PACKETS> = Vec::new();
            *prepared = making.prepare(departure.as_departing(), packets, |one, _, _| _ = unsealed.push(one));
            sealing.push(key.clone(), *departure, unsealed.into_iter());
        }
        (u64::MAX, making.space.start())
    }

    fn seal_in_fragments(&mut self, number: usize) {
        let Encap { batch, tunnels, fragmenter, outbox, counters, .. } = self;
        let (meta, packet) = batch.packet_mut(number);
        match fragmenter.seal(meta, packet, tunnels, outbox, counters) {
            Ok(()) => meta.fate = Fate::Forwarded,
            Err(reason) => meta.drop(reason),
        }
    }
}

/// What messages are made of, and what is made.
struct Making<'b, 'l> {
    apart: Apart<'b>,
    space: Space<'b>,
    leaving: &'l mut Leaving,
}

impl<'b> Making<'b, '_> {
    /// Finishes the texts of packets that depart, as far as there is room, and hands each on: with its text, and where its datagram is to be.
    #[inline(always)]
    fn prepare<D: Departing + ?Sized>(
        &mut self,
        departure: &D,
        packets: &[u64],
        mut hand_on: impl FnMut(Unsealed, &'b [u8], &'b mut [u8]),
    ) -> Prepared {
        let Making { apart, space: space_now, leaving } = self;
        // Nothing in the loop panics, so that what is summed up stays in registers.
        let (mut space, first) = (std::mem::take(space_now), leaving.len());
        let (mut traffic, mut shape, mut others) = (Traffic::default(), 0, 0);
        for key in packets {
            let number = place_of(key);
            let Some((meta, buffer)) = apart.take(number) else { continue };
            let packet_bytes = meta.buffer_bytes();
            let traffic_class = departure.traffic_class(buffer);
            let Some(text_bytes) = departure.finish(buffer, packet_bytes) else {
                meta.drop(DropReason::InnerTooLong);
                continue;
            };
            let bytes = departure.message_bytes(text_bytes);
            let (Some(text), Some((place, message))) = (buffer.get(..text_bytes), space.take(bytes)) else {
                meta.drop(DropReason::EgressQueueFull);
                continue;
            };
            meta.fate = Fate::Forwarded;
            let stamp = departure.stamp(traffic.packets);
            hand_on(Unsealed { number: number as u32, text_bytes: text_bytes as u32, place, stamp }, text, message);
            let message_shape = bytes as u64 | u64::from(traffic_class) << 32;
            shape = if traffic.packets == 0 { message_shape } else { shape };
            others |= message_shape ^ shape;
            traffic.add(packet_bytes);
            // There is room: there are no more packets in a batch.
            let _ = leaving.push(Message { bytes: bytes as u32, number: number as u16, traffic_class });
        }
        *space_now = space;
        Prepared { leaving: first..leaving.len(), traffic, are_unequal: others != 0 }
    }

    /// There is no key for them, which their departure has ruled out.
    #[cold]
    fn refuse(&mut self, packets: &[u64]) {
        for key in packets {
            if let Some((meta, _)) = self.apart.take(place_of(key)) {
                meta.drop(DropReason::TunnelDown);
            }
        }
    }
}

/// Packets that depart together, to be sealed.
struct Departed<'a, 'b, 'l, D> {
    departure: &'a D,
    packets: &'a [u64],
    making: &'a mut Making<'b, 'l>,
    /// Those that could not be, of all that leave, bit by bit.
    refused: &'a mut u64,
}

impl<'b, D: Departing> ToSeal<'b> for Departed<'_, 'b, '_, D> {
    type Output = Prepared;

    #[inline(never)]
    fn seal_all(self, mut seal: impl FnMut(Stamp, &'b [u8], &'b mut [u8]) -> bool) -> Prepared {
        let Departed { departure, packets, making, refused } = self;
        let mut bit = 1u64.unbounded_shl(making.leaving.len() as u32);
        making.prepare(
            departure,
            packets,
            #[inline(always)]
            |unsealed, text, message| {
                // Where there is no room for a header, which there is, nothing can be sealed either.
                let sealed = departure.write_header(unsealed.stamp, message).unwrap_or_default();
                if !seal(unsealed.stamp, text, sealed) {
                    *refused |= bit;
                }
                bit <<= 1;
            },
        )
    }
}

/// Those that have been sealed go; the others do not, which preparing them has ruled out.
#[cold]
fn drop_unsealed(batch: &mut Batch, messages: &[Message], sealed: u64) -> Traffic {
    let mut traffic = Traffic::default();
    for (message, is_sealed) in messages.iter().zip(bits(sealed)) {
        let meta = batch.meta_mut(message.number.into());
        match is_sealed {
            true => traffic.add(meta.buffer_bytes()),
            false => meta.drop_forwarded(DropReason::EgressQueueFull),
        }
    }
    traffic
}

#[cold]
fn drop_all(group: &[u64], batch: &mut Batch, reason: DropReason) {
    group.iter().for_each(|key| batch.meta_mut(place_of(key)).drop(reason));
}

/// From the lowest on.
#[inline]
fn bits(bits: u64) -> impl Iterator<Item = bool> {
    (0..u64::BITS).map(move |n| bits >> n & 1 == 1)
}

/// What packets to different tunnels need is read for all of them first, so that they wait for memory together.
fn touch(order: &[u64], tunnels: &Tunnels, counters: &Counters) {
    let tunnel_of = |key: &u64| TunnelId((key >> 32) as u32);
    if order.first().map(tunnel_of) == order.last().map(tunnel_of) {
        return;
    }
    let touch = |tunnel| tunnels.touch_leaving(tunnel) ^ counters.touch_tunnel(tunnel);
    let touched = order.iter().map(tunnel_of).fold(0, |touched, tunnel| touched ^ touch(tunnel));
    std::hint::black_box(touched);
}

#[inline]
fn place_of(key: &u64) -> usize {
    (key & 0xffff_ffff) as usize
}

/// The live packets' places, tunnel by tunnel and in order of arrival within each: tunnel in the upper half of the key,
/// place in the lower.
#[inline(never)]
fn by_tunnel<'a>(batch: &Batch, order: &'a mut [u64; BATCH_PACKETS]) -> &'a [u64] {
    let (mut count, mut last, mut is_sorted) = (0, 0, true);
    for (place, meta) in (0u64..).zip(batch.metas()) {
        let key = u64::from(meta.egress.0) << 32 | place;
        if meta.is_leaving()
            && let Some(slot) = order.get_mut(count)
        {
            *slot = key;
            is_sorted &= last <= key;
            (count, last) = (count + 1, key);
        }
    }
    let order = &mut order[..count];
    if !is_sorted {
        order.sort_unstable();
    }
    order
}
