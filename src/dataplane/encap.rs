//! encap: seal into the egress tunnel, straight into the outbox, in fragments where `route` said so; packets of one tunnel
//! behind one another, so that they leave as one run.
//!
//! ```text
//! depart     tunnel by tunnel: counters and sequence numbers, padding, room in the outbox
//! seal       all of the batch at once (`crypto::batch`), from the packets' buffers to their places
//! commit     places become datagrams, tunnel by tunnel
//! ```
//!
//! Packets of a parcel are not sealed here: what it takes is written down in it ([`super::parcel`]), and their places are committed all the same.
//!
//! Drops: TunnelDown, TunnelHasNoEndpoint, NoTunnel, InnerTooLong, EgressQueueFull, and what ports and selectors say.

use std::ops::Range;

use heapless::Vec;

use crate::crypto::{Departing, PacketKey, SealJob, seal_batch};
use crate::net::TunnelId;
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::outbox::{Place, Room};
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
    let (leaving, groups) = (&mut Vec::new(), &mut Vec::new());
    let mut encap = Encap { batch, tunnels, fragmenter, outbox, sealing, counters, leaving, groups };
    for group in order.chunk_by(|one, other| one >> 32 == other >> 32) {
        encap.take(TunnelId((group[0] >> 32) as u32), group, any_cut);
    }
    encap.finish();
}

struct Encap<'a> {
    batch: &'a mut Batch,
    tunnels: &'a mut Tunnels,
    fragmenter: &'a mut Fragmenter,
    outbox: &'a mut Outbox,
    /// Of a parcel, whose packets somebody else seals.
    sealing: Option<&'a mut Sealing>,
    counters: &'a mut Counters,
    /// Not yet sealed.
    leaving: &'a mut Leaving,
    /// Of `leaving`, in order.
    groups: &'a mut Vec<Group, BATCH_PACKETS>,
}

type Leaving = Vec<Message, BATCH_PACKETS>;

/// A packet that is to be sealed.
struct Message {
    /// In the batch.
    number: u32,
    packet_bytes: u32,
    text_bytes: u32,
    /// Of the outer header.
    traffic_class: u8,
}

/// Packets that depart together.
struct Group {
    tunnel: TunnelId,
    departure: Departure,
    leaving: Range<usize>,
    /// Of all of them, one behind the other.
    place: Place,
    /// All of them are of one length and class.
    are_equal: bool,
    traffic: Traffic,
}

/// What is on its way of a departure.
#[derive(Default)]
struct Finished {
    traffic: Traffic,
    are_unequal: bool,
}

impl Encap<'_> {
    /// Packets of one tunnel.
    fn take(&mut self, tunnel: TunnelId, group: &[u64], any_cut: bool) {
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
    fn depart(&mut self, tunnel: TunnelId, packets: &[u64]) -> usize {
        let Encap { batch, tunnels, outbox, leaving, .. } = self;
        let first = leaving.len();
        let departed = tunnels.depart(tunnel, packets.iter().map(|key| batch.bytes(place_of(key))), outbox);
        let departure = match departed {
            Ok(departure) => departure,
            Err(refusal) => {
                drop_all(&packets[..refusal.packets], batch, refusal.reason);
                return refusal.packets;
            }
        };
        let mut room = outbox.room();
        // For those that have no numbers it is asked again, and refused with its reason.
        let done = departure.as_departing().packets();
        let Finished { traffic, are_unequal } = match &departure {
            Departure::WireGuard(departure) => finish_all(departure, &packets[..done], batch, &mut room, leaving),
            Departure::Esp(departure) => finish_all(departure, &packets[..done], batch, &mut room, leaving),
        };
        if first < leaving.len() {
            let place = outbox.reserve_taken(room);
            let leaving = first..self.leaving.len();
            let group = Group { tunnel, departure, leaving, place, are_equal: !are_unequal, traffic };
            let _ = self.groups.push(group);
        }
        if departure.is_last() {
            let is_told = first < self.leaving.len();
            self.finish();
            if !is_told {
                self.tunnels.sent(tunnel, &departure, Traffic::default());
            }
        }
        done
    }

    /// Seals what is on its way.
    #[inline(never)]
    fn finish(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let sealed = if self.sealing.is_some() { self.leave_to_seal() } else { self.seal() };
        let Encap { batch, tunnels, outbox, counters, leaving, groups, .. } = self;
        for Group { tunnel, departure, leaving: range, place, are_equal, traffic } in groups.iter() {
            let (messages, sealed) = (&leaving[range.clone()], sealed >> range.start);
            let all_of_them = u64::MAX >> (u64::BITS as usize - messages.len());
            let all_are_sealed = sealed & all_of_them == all_of_them;
            let traffic = if all_are_sealed { *traffic } else { drop_unsealed(batch, messages, sealed) };
            counters.sent_all(*tunnel, traffic);
            let (path, may_fragment) = tunnels.sent(*tunnel, departure, traffic);
            outbox.let_fragment(may_fragment);
            if let (Some(path), true) = (path, *are_equal && all_are_sealed) {
                let len = departure.as_departing().message_bytes(messages[0].text_bytes as usize);
                outbox.commit_equal_places(*place, len, path, messages[0].traffic_class);
                outbox.let_fragment(false);
                continue;
            }
            let (departure, mut rest, mut behind) = (departure.as_departing(), *place, 0);
            // Nearly always all of one class.
            for messages in messages.chunk_by(|one, other| one.traffic_class == other.traffic_class) {
                let places = messages.iter().zip(bits_from(sealed, behind)).map(|(message, is_sealed)| {
                    let place;
                    (place, rest) = rest.split(departure.message_bytes(message.text_bytes as usize));
                    (place, is_sealed)
                });
                outbox.commit_places(places, path, messages[0].traffic_class);
                behind += messages.len();
            }
            outbox.let_fragment(false);
        }
        leaving.clear();
        groups.clear();
    }

    /// All that is on its way, at once. Which have been sealed, bit by bit.
    #[inline(never)]
    fn seal(&mut self) -> u64 {
        let Encap { batch, tunnels, outbox, leaving, groups, .. } = self;
        let mut jobs: Jobs<'_> = Vec::new();
        let places = outbox.places_mut(groups.iter().map(|group| group.place));
        for (group, bytes) in groups.iter().zip(places) {
            // One that has no key, of which there is none, and those behind it do not leave.
            let Some(key) = tunnels.sealing_key(group.tunnel, &group.departure) else { break };
            let messages = &leaving[group.leaving.clone()];
            match &group.departure {
                Departure::WireGuard(departure) => push_jobs(departure, key, messages, batch, bytes, &mut jobs),
                Departure::Esp(departure) => push_jobs(departure, key, messages, batch, bytes, &mut jobs),
            }
        }
        seal_batch(&mut jobs);
        jobs.iter().enumerate().fold(0u64, |bits, (n, job)| bits | u64::from(job.is_sealed) << n)
    }

    /// Writes down all that is on its way, for whoever seals it. Which have a key, bit by bit.
    #[inline(never)]
    fn leave_to_seal(&mut self) -> u64 {
        let Encap { tunnels, sealing: Some(sealing), leaving, groups, .. } = self else { return 0 };
        let mut left = 0u64;
        for Group { tunnel, departure, leaving: range, place, .. } in groups.iter() {
            let Some(key) = tunnels.sealing_key(*tunnel, departure) else { break };
            let (departing, mut rest) = (departure.as_departing(), *place);
            let messages = leaving[range.clone()].iter().zip(0..).map(|(message, behind)| {
                let place;
                (place, rest) = rest.split(departing.message_bytes(message.text_bytes as usize));
                let Message { number, text_bytes, .. } = *message;
                Unsealed { number, text_bytes, place, stamp: departing.stamp(behind) }
            });
            sealing.push(key.clone(), *departure, messages);
            left |= (1u128 << range.end).wrapping_sub(1 << range.start) as u64;
        }
        left
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

/// Makes packets that depart ready for sealing, as far as there is room.
#[inline(never)]
fn finish_all<D: Departing>(
    departure: &D,
    packets: &[u64],
    batch: &mut Batch,
    room: &mut Room,
    leaving: &mut Leaving,
) -> Finished {
    let mut finished = Finished::default();
    let mut before = None;
    for key in packets {
        let number = place_of(key);
        let (meta, buffer) = batch.buffer_mut(number);
        let packet_bytes = meta.buffer_bytes();
        let traffic_class = departure.traffic_class(buffer);
        let Some(text_bytes) = departure.finish(buffer, packet_bytes) else {
            meta.drop(DropReason::InnerTooLong);
            continue;
        };
        if !room.take(departure.message_bytes(text_bytes)) {
            meta.drop(DropReason::EgressQueueFull);
            continue;
        }
        meta.fate = Fate::Forwarded;
        finished.traffic.add(packet_bytes);
        finished.are_unequal |=
            before.replace((text_bytes, traffic_class)).is_some_and(|before| before != (text_bytes, traffic_class));
        let (number, packet_bytes, text_bytes) = (number as u32, packet_bytes as u32, text_bytes as u32);
        // There is room: there are no more packets in a batch.
        let _ = leaving.push(Message { number, packet_bytes, text_bytes, traffic_class });
    }
    finished
}

type Jobs<'a> = Vec<SealJob<'a>, BATCH_PACKETS>;

/// Writes the messages' headers into `bytes`, where they lie behind one another.
#[inline(never)]
fn push_jobs<'a, D: Departing>(
    departure: &D,
    key: &'a PacketKey,
    messages: &[Message],
    batch: &'a Batch,
    bytes: &'a mut [u8],
    jobs: &mut Jobs<'a>,
) {
    let mut rest = bytes;
    for (message, behind) in messages.iter().zip(0..) {
        let text = &batch.buffer(message.number as usize)[..message.text_bytes as usize];
        let (bytes, others) = rest.split_at_mut(departure.message_bytes(text.len()));
        rest = others;
        let stamp = departure.stamp(behind);
        let Some(sealed) = departure.write_header(stamp, bytes) else { return };
        let _ = jobs.push(SealJob::new(key, stamp, text, sealed));
    }
}

/// Those that have been sealed go; the others do not, which making them ready has ruled out.
#[cold]
fn drop_unsealed(batch: &mut Batch, messages: &[Message], sealed: u64) -> Traffic {
    let mut traffic = Traffic::default();
    for (message, is_sealed) in messages.iter().zip(bits_from(sealed, 0)) {
        match is_sealed {
            true => traffic.add(message.packet_bytes as usize),
            false => batch.meta_mut(message.number as usize).drop_forwarded(DropReason::EgressQueueFull),
        }
    }
    traffic
}

#[cold]
fn drop_all(group: &[u64], batch: &mut Batch, reason: DropReason) {
    group.iter().for_each(|key| batch.meta_mut(place_of(key)).drop(reason));
}

/// The bits from that one on.
#[inline]
fn bits_from(bits: u64, first: usize) -> impl Iterator<Item = bool> {
    (first..).map(move |n| bits >> n & 1 == 1)
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
