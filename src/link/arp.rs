//! ARP's part of a port (RFC 826, RFC 5227): what others say of IPv4 addresses, and what we say.

use std::net::{IpAddr, Ipv4Addr};

use super::claims::Sighting;
use super::frame::Framing;
use super::neighbours::Sign;
use super::station::Station;
use crate::net::{Mac, Timestamp};
use crate::packet::{DropReason, Outbox};
use crate::wire::arp::{BYTES, Operation, Packet, emit, parse};
use crate::wire::ethernet::ether_type;

impl Station {
    /// `to_us`: the frame was for our hardware address alone.
    #[cold]
    pub(super) fn handle_arp(
        &mut self,
        bytes: &[u8],
        to_us: bool,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let packet = parse(bytes).ok_or(DropReason::FrameMalformed)?;
        let (sender, target) = (IpAddr::V4(packet.sender), IpAddr::V4(packet.target));
        if packet.sender_mac.is_group() || packet.sender_mac.is_zero() {
            return Err(DropReason::FrameMalformed);
        }
        // To all of the link, but naming us: as RFC 5227 section 2.6 allows.
        let is_answer = packet.operation == Operation::Reply && (to_us || packet.target_mac == self.framing.mac());
        if !self.admit(is_answer.then_some((sender, Some(packet.sender_mac))), now) {
            return Err(DropReason::PortOverLimit);
        }
        if packet.sender_mac == self.framing.mac() {
            return Ok(()); // ours, sent back by a switch
        }
        if packet.sender.is_unspecified() && packet.operation == Operation::Request {
            self.claims.handle_sighting(target, packet.sender_mac, Sighting::Probe, now);
        } else if self.claims.concerns(sender) {
            self.claims.handle_sighting(sender, packet.sender_mac, Sighting::Use, now);
        }
        if packet.operation == Operation::Request && sender != target {
            self.answer_arp(&packet, outbox);
        }
        let sign = match packet.operation {
            Operation::Reply if is_answer => Sign::Answer { is_override: true },
            Operation::Request if self.claims.is_ours(target) => Sign::AskedUs,
            _ => Sign::Claim,
        };
        self.hear(sender, packet.sender_mac, sign, outbox, now);
        Ok(())
    }

    /// Probes for what is ours are answered, too (RFC 5227 section 2.4 defends so); none for what we are only a proxy of.
    fn answer_arp(&self, request: &Packet, outbox: &mut Outbox) {
        let target = IpAddr::V4(request.target);
        let is_probe = request.sender.is_unspecified();
        if self.claims.is_ours(target) || !is_probe && self.is_proxy_for(target, request.sender.into()) {
            let reply = Packet {
                operation: Operation::Reply,
                sender_mac: self.framing.mac(),
                sender: request.target,
                target_mac: request.sender_mac,
                target: request.sender,
            };
            send(&self.framing, request.sender_mac, &reply, outbox);
        }
    }
}

/// Asks for `target`; everybody, or the one that is thought to have it.
pub(super) fn request(framing: &Framing, sender: Ipv4Addr, target: Ipv4Addr, to: Mac, outbox: &mut Outbox) {
    let sender_mac = framing.mac();
    let packet = Packet { operation: Operation::Request, sender_mac, sender, target_mac: Mac::default(), target };
    send(framing, to, &packet, outbox);
}

/// Asks whether anybody has `address` (RFC 5227 section 2.1.1).
pub(super) fn probe(framing: &Framing, address: Ipv4Addr, outbox: &mut Outbox) {
    request(framing, Ipv4Addr::UNSPECIFIED, address, Mac::BROADCAST, outbox);
}

/// Says that `address` is ours (RFC 5227 section 2.3).
pub(super) fn announce(framing: &Framing, address: Ipv4Addr, outbox: &mut Outbox) {
    request(framing, address, address, Mac::BROADCAST, outbox);
}

fn send(framing: &Framing, to: Mac, packet: &Packet, outbox: &mut Outbox) {
    framing.send(to, ether_type::ARP, outbox, BYTES, |out| {
        out.copy_from_slice(&emit(packet));
        BYTES
    });
}
