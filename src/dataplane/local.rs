//! local: packets for the IX's own addresses, and its answers.
//!
//! The one inner stack speaks canonical IPv6 with all realms at once. Here its packets are turned back into the asking
//! realm's own terms, and here names meet the stack: [`Host`] brings queries, [`dns::Zone`](crate::dns::Zone) answers
//! them for the realm that asked.

use std::net::{IpAddr, Ipv4Addr};

use crate::host::{Host, HostPacket, Peer};
use crate::net::mapping::Located;
use crate::net::{RealmId, Timestamp};
use crate::packet::{Batch, DropReason, Fate, Meta, Outbox};
use crate::wire::{ipv4, ipv6};
use crate::wireguard;

use super::counters::Counters;
use super::route::tunnel_of;
use super::snapshot::Snapshot;

/// Hop limit of what the IX sends.
const HOP_LIMIT: u8 = 64;
/// The largest packet of the IX's own stack, in the realm's terms.
const SCRATCH_BYTES: usize = 1500;

/// Hands every live packet for the IX to its stack.
///
/// Drops: ServiceNotOffered, HostQueueFull, InnerMalformed.
pub(super) fn deliver(batch: &mut Batch, host: &mut Host, now: Timestamp) {
    for (meta, bytes) in batch.live_mut().filter(|(meta, _)| meta.destination.realm.is_ix()) {
        match deliver_one(meta, bytes, host, now) {
            Ok(()) => meta.fate = Fate::Answered,
            Err(reason) => meta.drop(reason),
        }
    }
}

fn deliver_one(meta: &Meta, bytes: &[u8], host: &mut Host, now: Timestamp) -> Result<(), DropReason> {
    let headers = &meta.headers;
    let ipv4 = match (headers.source, headers.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Some((source, destination)),
        _ => None,
    };
    let message = &bytes[headers.transport_offset..headers.total_bytes];
    let peer = Peer { realm: meta.realm, source: meta.source.canonical, ipv4 };
    host.handle_input(peer, meta.destination.canonical, headers.protocol, message, now)
}

/// The IX's stack, and the buffers that its answers pass through.
pub(super) struct Local {
    host: Host,
    answer: Vec<u8>,
    packet: Box<[u8; SCRATCH_BYTES]>,
}

impl Local {
    pub fn new(host: Host) -> Self {
        Local { host, answer: Vec::new(), packet: Box::new([0; SCRATCH_BYTES]) }
    }

    pub fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.host.handle_timeout(now);
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.host.poll_timeout()
    }

    /// Answers every waiting query and sends what the stack has to send.
    pub fn drive(
        &mut self,
        snapshot: &Snapshot,
        tunnels: &mut wireguard::Endpoint,
        outbox: &mut Outbox,
        counters: &mut Counters,
        now: Timestamp,
    ) {
        while let Some(query) = self.host.poll_query() {
            let (mapping, policy) = (&snapshot.mapping, &snapshot.policy);
            if snapshot.zone.answer(query.realm, query.transport, &query.bytes, mapping, policy, &mut self.answer) {
                self.host.respond(query.id, &self.answer, now);
            }
        }
        while let Some(packet) = self.host.poll_transmit(now) {
            let Some((realm, len)) = emit(&packet, snapshot, &mut self.packet[..]) else { continue };
            let Some(tunnel) = tunnel_of(realm, snapshot, tunnels) else { continue };
            if tunnels.seal(tunnel, &self.packet[..len], outbox).is_ok() {
                counters.sent(tunnel, realm, len);
                counters.totals.originated += 1;
            }
        }
    }
}

/// Writes a packet of the IX's stack as its receiver's realm is to see it. The realm, and the length.
fn emit(packet: &HostPacket, snapshot: &Snapshot, out: &mut [u8]) -> Option<(RealmId, usize)> {
    let source = snapshot.mapping.locate_canonical(packet.source)?;
    let destination = snapshot.mapping.locate_canonical(packet.destination)?;
    let len = match snapshot.mapping.native_of(destination) {
        IpAddr::V4(native) => {
            let IpAddr::V4(source) = snapshot.mapping.seen_by(destination.realm, source)? else { return None };
            let _ = (source, native);
            0
        }
        IpAddr::V6(native) => {
            let header: &mut [u8; ipv6::HEADER_BYTES] = out.first_chunk_mut()?;
            ipv6::emit(header, packet.l4.len(), HOP_LIMIT, packet.protocol, packet.source.addr(), native);
            let total = ipv6::HEADER_BYTES + packet.l4.len();
            out.get_mut(ipv6::HEADER_BYTES..total)?.copy_from_slice(&packet.l4);
            total
        }
    };
    Some((destination.realm, len))
}
