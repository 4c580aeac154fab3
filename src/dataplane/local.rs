//! local: packets for the IX's own addresses, and its answers.
//!
//! The one inner stack speaks canonical IPv6 with all realms at once. Here its packets are turned back into the asking
//! realm's own terms. Names are answered, and asked for, in [`super::names`].

use std::net::IpAddr;

use crate::host::translate::{AddressPair, translate};
use crate::host::{Host, HostPacket, Peer};
use crate::net::mapping::Located;
use crate::net::policy::protocol;
use crate::net::{IpVersion, RealmId, Timestamp};
use crate::packet::reassembled::MAX_DATAGRAM_BYTES;
use crate::packet::{Batch, DropReason, Fate, Meta, Outbox};
use crate::wire::{ipv4, ipv6};

use super::carriers::{Carriers, Flow};
use super::counters::Counters;
use super::fragment::Fragmenter;
use super::names::Names;
use super::snapshot::Snapshot;
use super::tunnels::Tunnels;

/// Hop limit of what the IX sends.
const HOP_LIMIT: u8 = 64;
/// The IX answers an echo with as many bytes as it got, so at most as many as come in.
const SCRATCH_BYTES: usize = MAX_DATAGRAM_BYTES;

/// Ends the walk of packets that answer probes of their tunnels' paths. Their senders are gateways, which may have no address
/// in the realm.
pub(super) fn take_answers(batch: &mut Batch, tunnels: &mut Tunnels, now: Timestamp) {
    if !tunnels.awaits_answers() {
        return;
    }
    for (meta, bytes) in batch.live_mut() {
        if tunnels.take_answer(meta.ingress, bytes, now) {
            meta.fate = Fate::Answered;
        }
    }
}

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
    let on_the_wire = pair(headers.source, headers.destination).ok_or(DropReason::InnerMalformed)?;
    let message = &bytes[headers.transport_offset..headers.total_bytes];
    let peer = Peer { realm: meta.realm, source: meta.source.canonical, on_the_wire };
    host.handle_input(peer, meta.destination.canonical, headers.protocol, message, now)
}

fn pair(source: IpAddr, destination: IpAddr) -> Option<AddressPair> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Some(AddressPair::V4 { source, destination }),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Some(AddressPair::V6 { source, destination }),
        _ => None,
    }
}

/// What its answers leave by.
pub(super) struct Egress<'a> {
    pub carriers: &'a Carriers,
    pub tunnels: &'a mut Tunnels,
    pub fragmenter: &'a mut Fragmenter,
    pub outbox: &'a mut Outbox,
    pub counters: &'a mut Counters,
}

/// The IX's stack, and the buffers that its answers pass through.
pub(super) struct Local {
    host: Host,
    pub names: Names,
    packet: Box<[u8]>,
}

impl Local {
    pub fn new(host: Host, names: Names) -> Self {
        Local { host, names, packet: vec![0; SCRATCH_BYTES].into() }
    }

    pub fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    pub fn handle_timeout(&mut self, snapshot: &Snapshot, now: Timestamp) {
        self.host.handle_timeout(now);
        self.names.handle_timeout(snapshot, now);
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.host.poll_timeout().into_iter().chain(self.names.poll_timeout()).min()
    }

    /// Answers every waiting query and sends what the stack has to send.
    pub fn drive(&mut self, snapshot: &Snapshot, egress: Egress<'_>, now: Timestamp) {
        let Egress { carriers, tunnels, fragmenter, outbox, counters } = egress;
        self.names.drive(&mut self.host, snapshot, now);
        self.host.arrange();
        while let Some(packet) = self.host.poll_transmit(now) {
            let flow = flow(&packet);
            let Some((realm, len)) = emit(packet, snapshot, &mut self.packet[..]) else { continue };
            let Some(version) = IpVersion::of_packet(&self.packet[..len]) else { continue };
            let is_up = |tunnel| tunnels.is_up_for(tunnel, version);
            let Some(tunnel) = carriers.of(realm, is_up, || flow) else { continue };
            let mtu_bytes = tunnels.mtu_bytes(tunnel);
            let packet = &mut self.packet[..len];
            let sealed = if len > usize::from(mtu_bytes) {
                fragmenter.seal_own(packet, mtu_bytes, tunnel, tunnels, outbox, counters)
            } else {
                tunnels.seal(tunnel, RealmId::IX, packet, outbox).map(|()| counters.sent(tunnel, len))
            };
            counters.totals.originated += u64::from(sealed.is_ok());
        }
    }
}

fn flow(packet: &HostPacket) -> Flow {
    let port = |at: usize| packet.l4.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let ports = if matches!(packet.protocol, protocol::TCP | protocol::UDP) { (port(0), port(2)) } else { (0, 0) };
    Flow { source: packet.source, destination: packet.destination, protocol: packet.protocol, ports }
}

/// Writes a packet of the IX's stack as its receiver's realm is to see it. The realm, and the length.
fn emit(mut packet: HostPacket, snapshot: &Snapshot, out: &mut [u8]) -> Option<(RealmId, usize)> {
    let mapping = &snapshot.mapping;
    let service = mapping.locate_canonical(packet.source)?;
    let receiver: Located = mapping.locate_canonical(packet.destination)?;
    let native = mapping.native_of(receiver);
    let addresses = pair(snapshot.service_seen_by(service, receiver.realm, native)?, native)?;
    let protocol = translate(packet.protocol, &mut packet.l4, addresses)?;
    let len = emit_packet(out, addresses, protocol, &packet.l4)?;
    Some((receiver.realm, len))
}

/// Header and message. `None`: `out` is too small.
fn emit_packet(out: &mut [u8], addresses: AddressPair, protocol: u8, message: &[u8]) -> Option<usize> {
    let header_bytes = match addresses {
        AddressPair::V4 { source, destination } => {
            ipv4::emit(out.first_chunk_mut()?, message.len(), HOP_LIMIT, protocol, source, destination);
            ipv4::MIN_HEADER_BYTES
        }
        AddressPair::V6 { source, destination } => {
            ipv6::emit(out.first_chunk_mut()?, message.len(), HOP_LIMIT, protocol, source, destination);
            ipv6::HEADER_BYTES
        }
    };
    let total = header_bytes + message.len();
    out.get_mut(header_bytes..total)?.copy_from_slice(message);
    Some(total)
}
