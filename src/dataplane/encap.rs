//! encap: seal into the egress tunnel, straight into the outbox, in fragments where `route` said so; packets of one tunnel
//! behind one another, so that they leave as one run.
//!
//! ```text
//! prepare    tunnel by tunnel: counters and sequence numbers, headers, padding, places in the outbox
//! seal       all of the batch at once (`crypto::batch`), from the packets' buffers to their places
//! commit     places become datagrams, tunnel by tunnel
//! ```
//!
//! Drops: TunnelDown, TunnelHasNoEndpoint, EgressQueueFull.

use heapless::Vec;

use crate::crypto::{SealJob, seal_batch};
use crate::net::TunnelId;
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::{Batch, DropReason, Fate, Outbox};

use super::counters::Counters;
use super::fragment::Fragmenter;
use super::tunnels::{Leaving, Tunnels};

pub(super) fn encap(
    batch: &mut Batch,
    tunnels: &mut Tunnels,
    fragmenter: &mut Fragmenter,
    outbox: &mut Outbox,
    counters: &mut Counters,
) {
    let mut order = [0u64; BATCH_PACKETS];
    let order = by_tunnel(batch, &mut order);
    touch(order, tunnels);
    let mut encap = Encap { batch, tunnels, fragmenter, outbox, counters, leaving: Vec::new() };
    for group in order.chunk_by(|one, other| one >> 32 == other >> 32) {
        encap.take(TunnelId((group[0] >> 32) as u32), group);
    }
    encap.finish();
}

struct Encap<'a> {
    batch: &'a mut Batch,
    tunnels: &'a mut Tunnels,
    fragmenter: &'a mut Fragmenter,
    outbox: &'a mut Outbox,
    counters: &'a mut Counters,
    /// Prepared, not yet sealed.
    leaving: Vec<Leaving, BATCH_PACKETS>,
}

impl Encap<'_> {
    /// Packets of one tunnel.
    fn take(&mut self, tunnel: TunnelId, group: &[u64]) {
        if !self.tunnels.seals_in_batches(tunnel) {
            return group.iter().for_each(|key| self.seal_alone(place_of(key)));
        }
        let mut rest = group;
        while let Some(first) = rest.first() {
            match self.prepare(tunnel, rest) {
                // It leaves in fragments, and not before those that came before it.
                0 => {
                    self.finish();
                    self.seal_alone(place_of(first));
                    rest = &rest[1..];
                }
                all if all == rest.len() => return,
                some => {
                    self.finish();
                    rest = &rest[some..];
                }
            }
        }
    }

    /// How many of them are dealt with, before one that cannot be now.
    fn prepare(&mut self, tunnel: TunnelId, group: &[u64]) -> usize {
        let Encap { batch, tunnels, outbox, leaving, .. } = self;
        let mut sealer = match tunnels.sealer(tunnel, outbox) {
            Ok(sealer) => sealer,
            Err(reason) => {
                group.iter().for_each(|key| batch.packet_mut(place_of(key)).0.drop(reason));
                return group.len();
            }
        };
        for (count, key) in group.iter().enumerate() {
            let number = place_of(key);
            let (meta, buffer) = batch.buffer_mut(number);
            if meta.fragment_payload_bytes != 0 {
                return count;
            }
            let packet_bytes = meta.headers.total_bytes;
            match sealer.prepare(buffer, packet_bytes, outbox) {
                Ok(prepared) => {
                    // There is room: there are no more packets in a batch.
                    let _ = leaving.push(Leaving { tunnel, number, packet_bytes, prepared, is_sealed: false });
                    if prepared.is_last() {
                        return count + 1;
                    }
                }
                Err(reason) => meta.drop(reason),
            }
        }
        group.len()
    }

    /// Seals what has been prepared.
    fn finish(&mut self) {
        let Encap { batch, tunnels, outbox, counters, leaving, .. } = self;
        if leaving.is_empty() {
            return;
        }
        seal(batch, tunnels, outbox, leaving);
        for group in leaving.chunk_by(|one, other| one.tunnel == other.tunnel) {
            let traffic = tunnels.commit(group, outbox);
            let realm = batch.meta(group[0].number).destination.realm;
            counters.sent_all(group[0].tunnel, realm, traffic);
            for Leaving { number, is_sealed, .. } in group {
                let meta = batch.packet_mut(*number).0;
                match is_sealed {
                    true => meta.fate = Fate::Forwarded,
                    false => meta.drop(DropReason::EgressQueueFull), // which preparing has ruled out
                }
            }
        }
        leaving.clear();
    }

    /// By a port, or in fragments.
    fn seal_alone(&mut self, number: usize) {
        let Encap { batch, tunnels, fragmenter, outbox, counters, .. } = self;
        let (meta, bytes) = batch.packet_mut(number);
        let packet = &bytes[..meta.headers.total_bytes];
        let sealed = match meta.fragment_payload_bytes {
            0 => tunnels.seal(meta.egress, meta.realm, packet, outbox).map(|()| {
                counters.sent(meta.egress, meta.destination.realm, packet.len());
            }),
            _ => fragmenter.seal(meta, packet, tunnels, outbox, counters),
        };
        match sealed {
            Ok(()) => meta.fate = Fate::Forwarded,
            Err(reason) => meta.drop(reason),
        }
    }
}

/// What packets to different tunnels need is read for all of them first, so that they wait for memory together.
fn touch(order: &[u64], tunnels: &Tunnels) {
    let tunnel_of = |key: &u64| TunnelId((key >> 32) as u32);
    if order.first().map(tunnel_of) == order.last().map(tunnel_of) {
        return;
    }
    let touched = order.iter().map(tunnel_of).fold(0, |touched, tunnel| touched ^ tunnels.touch_leaving(tunnel));
    std::hint::black_box(touched);
}

/// All at once.
fn seal(batch: &Batch, tunnels: &Tunnels, outbox: &mut Outbox, leaving: &mut [Leaving]) {
    let mut jobs: Vec<SealJob<'_>, BATCH_PACKETS> = Vec::new();
    let places = outbox.places_mut(leaving.iter().map(|packet| packet.prepared.place()));
    // The first that has no job, of which there is none, and those behind it do not leave.
    for (packet, place) in leaving.iter().zip(places) {
        let Some(job) = tunnels.seal_job(packet.tunnel, &packet.prepared, batch.buffer(packet.number), place) else {
            break;
        };
        let _ = jobs.push(job);
    }
    seal_batch(&mut jobs);
    let sealed = jobs.iter().enumerate().fold(0u64, |bits, (n, job)| bits | u64::from(job.is_sealed) << n);
    drop(jobs);
    for (n, packet) in leaving.iter_mut().enumerate() {
        packet.is_sealed = sealed >> n & 1 == 1;
    }
}

#[inline]
fn place_of(key: &u64) -> usize {
    (key & 0xffff_ffff) as usize
}

/// The live packets' places, tunnel by tunnel and in order of arrival within each: tunnel in the upper half of the key,
/// place in the lower.
fn by_tunnel<'a>(batch: &Batch, order: &'a mut [u64; BATCH_PACKETS]) -> &'a [u64] {
    let mut count = 0;
    for (place, meta) in batch.metas().iter().enumerate().filter(|(_, meta)| meta.is_leaving()) {
        order[count] = u64::from(meta.egress.0) << 32 | place as u64;
        count += 1;
    }
    let order = &mut order[..count];
    if !order.is_sorted() {
        order.sort_unstable();
    }
    order
}
