//! encap: seal into the egress tunnel, straight into the outbox, in fragments where `route` said so; packets of one tunnel
//! behind one another, so that they leave as one run.
//!
//! ```text
//! prepare    tunnel by tunnel: counters and sequence numbers, padding, places in the outbox
//! seal       all of the batch at once (`crypto::batch`), from the packets' buffers to their places
//! commit     places become datagrams, tunnel by tunnel
//! ```
//!
//! Packets of a parcel are not sealed here: what it takes is written down in it ([`super::parcel`]), and their places are committed all the same.
//!
//! Drops: TunnelDown, TunnelHasNoEndpoint, EgressQueueFull.

use std::ops::Range;

use heapless::Vec;

use crate::crypto::{SealJob, Stamp, seal_batch};
use crate::ipsec;
use crate::net::TunnelId;
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::outbox::Place;
use crate::packet::{Batch, DropReason, Fate, Outbox};
use crate::wireguard::{Departure, PADDING_BYTES};

use super::counters::Counters;
use super::fragment::Fragmenter;
use super::parcel::{Header, Sealing, Unsealed};
use super::report::Traffic;
use super::tunnels::{Egress, Tunnels};

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
    let (leaving, esp, groups) = (&mut Vec::new(), &mut Vec::new(), &mut Vec::new());
    let mut encap = Encap { batch, tunnels, fragmenter, outbox, sealing, counters, leaving, esp, groups };
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
    /// Prepared, not yet sealed.
    leaving: &'a mut Vec<Leaving, BATCH_PACKETS>,
    /// Those of ESP among them.
    esp: &'a mut Vec<ipsec::Prepared, BATCH_PACKETS>,
    /// Of `leaving`, in order.
    groups: &'a mut Vec<Group, BATCH_PACKETS>,
}

/// A packet that is to be sealed.
struct Leaving {
    /// In the batch.
    number: u32,
    packet_bytes: u32,
    text_bytes: u32,
    place: Place,
}

/// Packets to one tunnel that are to be sealed.
struct Group {
    tunnel: TunnelId,
    leaving: Range<usize>,
    transport: Transport,
}

enum Transport {
    /// The first of the packets has the first of the counters.
    WireGuard(Departure),
    /// Where the first of them stands among those of ESP.
    Esp(usize),
}

impl Encap<'_> {
    /// Packets of one tunnel.
    fn take(&mut self, tunnel: TunnelId, group: &[u64], any_cut: bool) {
        if !self.tunnels.seals_in_batches(tunnel) {
            return group.iter().for_each(|key| self.seal_alone(place_of(key)));
        }
        let mut rest = group;
        while let Some(first) = rest.first() {
            let is_cut = |key: &u64| self.batch.meta(place_of(key)).fragment_payload_bytes != 0;
            let whole = if any_cut { rest.iter().position(is_cut).unwrap_or(rest.len()) } else { rest.len() };
            match whole {
                // It leaves in fragments, and not before those that came before it.
                0 => {
                    self.finish();
                    self.seal_alone(place_of(first));
                    rest = &rest[1..];
                }
                _ => {
                    let done = self.prepare(tunnel, &rest[..whole]);
                    rest = &rest[done..];
                    if !rest.is_empty() {
                        self.finish();
                    }
                }
            }
        }
    }

    /// How many of them are dealt with, before one that cannot be now.
    fn prepare(&mut self, tunnel: TunnelId, group: &[u64]) -> usize {
        let Encap { batch, tunnels, outbox, leaving, esp, .. } = self;
        let (first, first_esp) = (leaving.len(), esp.len());
        let (done, transport) = match tunnels.egress(tunnel) {
            Egress::WireGuard(wireguard) => match wireguard.depart(tunnel, group.len(), outbox) {
                Ok(departure) => {
                    let (with_counter, without) = group.split_at(departure.packets);
                    prepare_wireguard(&departure, with_counter, batch, outbox, leaving);
                    drop_all(without, batch, DropReason::TunnelDown);
                    (group.len(), Transport::WireGuard(departure))
                }
                Err(reason) => {
                    drop_all(group, batch, reason);
                    return group.len();
                }
            },
            Egress::Esp(ipsec) => {
                let mut done = 0;
                for key in group {
                    done += 1;
                    let number = place_of(key);
                    let (meta, buffer) = batch.buffer_mut(number);
                    let packet_bytes = meta.buffer_bytes();
                    match ipsec.prepare(tunnel, buffer, packet_bytes, outbox) {
                        Ok(prepared) => {
                            push(leaving, number, packet_bytes, prepared.text_bytes, prepared.place);
                            let _ = esp.push(prepared);
                            if prepared.is_last {
                                break;
                            }
                        }
                        Err(reason) => meta.drop(reason),
                    }
                }
                (done, Transport::Esp(first_esp))
            }
        };
        if first < leaving.len() {
            let _ = self.groups.push(Group { tunnel, leaving: first..leaving.len(), transport });
        }
        done
    }

    /// Seals what has been prepared.
    #[inline(never)]
    fn finish(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let sealed = if self.sealing.is_some() { self.leave_to_seal() } else { self.seal() };
        let Encap { batch, tunnels, outbox, counters, leaving, groups, esp, .. } = self;
        for Group { tunnel, leaving: range, transport } in groups.iter() {
            let packets = || leaving[range.clone()].iter().zip(bits_from(sealed, range.start));
            let mut traffic = Traffic::default();
            for (packet, is_sealed) in packets() {
                let meta = batch.meta_mut(packet.number as usize);
                if is_sealed {
                    meta.fate = Fate::Forwarded;
                    traffic.add(packet.packet_bytes as usize);
                } else {
                    meta.drop(DropReason::EgressQueueFull); // which preparing has ruled out
                }
            }
            let realm = batch.meta(leaving[range.start].number as usize).to;
            counters.sent_all(*tunnel, realm, traffic);
            match transport {
                Transport::WireGuard(_) => {
                    let places = packets().map(|(packet, is_sealed)| (packet.place, is_sealed));
                    tunnels.commit_wireguard(*tunnel, traffic, places, outbox);
                }
                Transport::Esp(start) => {
                    let packets = esp[*start..][..range.len()].iter();
                    tunnels.commit_esp(*tunnel, traffic, packets.zip(bits_from(sealed, range.start)), outbox);
                }
            }
        }
        leaving.clear();
        groups.clear();
        esp.clear();
    }

    /// All that has been prepared, at once. Which have been sealed, bit by bit.
    #[inline(never)]
    fn seal(&mut self) -> u64 {
        let Encap { batch, tunnels, outbox, leaving, groups, esp, .. } = self;
        let mut jobs: Vec<SealJob<'_>, BATCH_PACKETS> = Vec::new();
        let mut places = outbox.places_mut(leaving.iter().map(|packet| packet.place));
        // One that has no job, of which there is none, and those behind it do not leave.
        'all: for Group { tunnel, leaving: range, transport } in groups.iter() {
            let packets = leaving[range.clone()].iter().zip(places.by_ref());
            match transport {
                Transport::WireGuard(departure) => {
                    let Some(key) = tunnels.wireguard_key(*tunnel) else { break };
                    for (counter, (packet, place)) in (departure.counter..).zip(packets) {
                        let Some(sealed) = departure.write_header(counter, place) else { break 'all };
                        let text = &batch.buffer(packet.number as usize)[..packet.text_bytes as usize];
                        let _ = jobs.push(SealJob::new(key, Stamp::WireGuard { counter }, text, sealed));
                    }
                }
                Transport::Esp(start) => {
                    for (prepared, (packet, place)) in esp[*start..].iter().zip(packets) {
                        let Some(key) = tunnels.esp_key(prepared) else { break 'all };
                        let text = &batch.buffer(packet.number as usize)[..packet.text_bytes as usize];
                        let _ = jobs.push(SealJob::new(key, prepared.stamp, text, ipsec::Prepared::sealed(place)));
                    }
                }
            }
        }
        seal_batch(&mut jobs);
        jobs.iter().enumerate().fold(0u64, |bits, (n, job)| bits | u64::from(job.is_sealed) << n)
    }

    /// Writes down all that has been prepared, for whoever seals it. Which have a key, bit by bit.
    #[inline(never)]
    fn leave_to_seal(&mut self) -> u64 {
        let Encap { tunnels, sealing: Some(sealing), leaving, groups, esp, .. } = self else { return 0 };
        let mut left = 0u64;
        for Group { tunnel, leaving: range, transport } in groups.iter() {
            let unsealed = |packet: &Leaving, stamp| Unsealed {
                number: packet.number,
                text_bytes: packet.text_bytes,
                place: packet.place,
                stamp,
            };
            match transport {
                Transport::WireGuard(departure) => {
                    let Some(key) = tunnels.wireguard_key(*tunnel) else { break };
                    let stamps = (departure.counter..).map(|counter| Stamp::WireGuard { counter });
                    let packets = leaving[range.clone()].iter().zip(stamps);
                    let packets = packets.map(|(packet, stamp)| unsealed(packet, stamp));
                    sealing.push(key.clone(), Header::WireGuard(*departure), packets);
                }
                Transport::Esp(start) => {
                    // A tunnel may have several SAs.
                    let mut at = range.start;
                    for stretch in esp[*start..][..range.len()].chunk_by(ipsec::Prepared::has_key_of) {
                        let Some(key) = tunnels.esp_key(&stretch[0]) else { return left };
                        let packets = leaving[at..].iter().zip(stretch);
                        sealing.push(
                            key.clone(),
                            Header::Esp,
                            packets.map(|(packet, one)| unsealed(packet, one.stamp)),
                        );
                        at += stretch.len();
                    }
                }
            }
            left |= (1u128 << range.end).wrapping_sub(1 << range.start) as u64;
        }
        left
    }

    /// By a port, or in fragments.
    fn seal_alone(&mut self, number: usize) {
        let Encap { batch, tunnels, fragmenter, outbox, counters, .. } = self;
        let (meta, packet) = batch.packet_mut(number);
        let packet = &*packet;
        let sealed = match meta.fragment_payload_bytes {
            0 => tunnels.seal(meta.egress, meta.realm, packet, outbox).map(|()| {
                counters.sent(meta.egress, meta.to, packet.len());
            }),
            _ => fragmenter.seal(meta, packet, tunnels, outbox, counters),
        };
        match sealed {
            Ok(()) => meta.fate = Fate::Forwarded,
            Err(reason) => meta.drop(reason),
        }
    }
}

/// There are counters for all of them.
#[inline(never)]
fn prepare_wireguard(
    departure: &Departure,
    group: &[u64],
    batch: &mut Batch,
    outbox: &mut Outbox,
    leaving: &mut Vec<Leaving, BATCH_PACKETS>,
) {
    for key in group {
        let number = place_of(key);
        let (meta, buffer) = batch.buffer_mut(number);
        let packet_bytes = meta.buffer_bytes();
        let text_bytes = departure.text_bytes(packet_bytes);
        // As much as there may be, of which the length is known.
        let padding = buffer.get_mut(packet_bytes..).and_then(|behind| behind.first_chunk_mut::<PADDING_BYTES>());
        let Some(padding) = padding else {
            meta.drop(DropReason::InnerTooLong);
            continue;
        };
        *padding = [0; PADDING_BYTES];
        match outbox.reserve(Departure::message_bytes(text_bytes)) {
            Some(place) => push(leaving, number, packet_bytes, text_bytes, place),
            None => meta.drop(DropReason::EgressQueueFull),
        }
    }
}

/// There is room: there are no more packets in a batch.
#[inline]
fn push(
    leaving: &mut Vec<Leaving, BATCH_PACKETS>,
    number: usize,
    packet_bytes: usize,
    text_bytes: usize,
    place: Place,
) {
    let (number, packet_bytes, text_bytes) = (number as u32, packet_bytes as u32, text_bytes as u32);
    let _ = leaving.push(Leaving { number, packet_bytes, text_bytes, place });
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
