//! encap: seal into the egress tunnel, straight into the outbox, in fragments where `route` said so; packets of one tunnel
//! behind one another, so that they leave as one run.
//!
//! Drops: TunnelDown, TunnelHasNoEndpoint, EgressQueueFull.

use crate::net::TunnelId;
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::{Batch, Fate, Outbox};

use super::counters::Counters;
use super::fragment::Fragmenter;
use super::tunnels::Tunnels;

pub(super) fn encap(
    batch: &mut Batch,
    tunnels: &mut Tunnels,
    fragmenter: &mut Fragmenter,
    outbox: &mut Outbox,
    counters: &mut Counters,
) {
    let mut order = [0u64; BATCH_PACKETS];
    let order = by_tunnel(batch, &mut order);
    tunnels.fetch_sealing(order.iter().map(|key| TunnelId((key >> 32) as u32)));
    counters.fetch_sent(order.iter().map(|key| batch.meta((key & 0xffff_ffff) as usize)));
    for key in order.iter() {
        let (meta, bytes) = batch.packet_mut((key & 0xffff_ffff) as usize);
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
