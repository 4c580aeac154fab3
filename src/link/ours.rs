//! Packets to a port's own addresses: ping is answered, BFD is heard, nothing else is offered there.

use std::net::IpAddr;

use super::echo;
use super::frame::Framing;
use super::neighbours::Sign;
use super::station::Station;
use crate::net::policy::protocol;
use crate::net::{Mac, Timestamp};
use crate::packet::{DropReason, Outbox};
use crate::wire::checksum::transport_checksum;
use crate::wire::ethernet::ether_type;
use crate::wire::headers::{self, Headers, Transport};
use crate::wire::{bfd, ipv4, ipv6, udp};

impl Station {
    /// The answer goes back to `from`, the frame's sender, as it is.
    #[cold]
    pub(super) fn handle_ours(
        &mut self,
        packet: &[u8],
        from: Mac,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let headers = headers::parse(packet).map_err(|_| DropReason::ServiceNotOffered)?;
        if !self.claims.is_ours(headers.destination) || self.claims.concerns(headers.source) {
            return Err(DropReason::ServiceNotOffered);
        }
        match headers.transport {
            Transport::EchoRequest { .. } => self.handle_echo(packet, &headers, from, outbox, now),
            Transport::Udp { destination_port: bfd::PORT, .. } => self.handle_bfd(packet, &headers, from, outbox, now),
            _ => Err(DropReason::ServiceNotOffered),
        }
    }

    fn handle_echo(
        &mut self,
        packet: &[u8],
        headers: &Headers,
        from: Mac,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        if !self.echoes.take(now) {
            return Err(DropReason::PortOverLimit);
        }
        let kind = if headers.is_v6() { ether_type::IPV6 } else { ether_type::IPV4 };
        let answer = |out: &mut [u8]| echo::answer(packet, headers, out).unwrap_or(0);
        match self.framing.send(from, kind, outbox, packet.len(), answer) {
            true => self.counts.echoes += 1,
            false => return Err(DropReason::ServiceNotOffered),
        }
        Ok(())
    }

    /// Who does not name our discriminator, which only the hop has heard, has to send from where the hop is known to be.
    fn handle_bfd(
        &mut self,
        packet: &[u8],
        headers: &Headers,
        from: Mac,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let payload = datagram_payload(packet, headers).ok_or(DropReason::FrameMalformed)?;
        let names_us = bfd::parse(payload).is_some_and(|control| control.your_discriminator != 0);
        if !names_us {
            if !self.watch.has_session(headers.source) {
                return Err(DropReason::ServiceNotOffered);
            }
            let is_elsewhere = self.neighbours.mac_of(headers.source).is_some_and(|known| known != from);
            // From elsewhere it is a rumour like others: it takes nothing from who calls from the hop's place.
            let limit = if is_elsewhere { &mut self.messages } else { &mut self.calls };
            if !limit.take(now) {
                return Err(DropReason::PortOverLimit);
            }
            if is_elsewhere {
                self.hear(headers.source, from, Sign::Claim, outbox, now);
                return Ok(());
            }
        }
        if !self.watch.handle_bfd(headers.source, headers.hop_limit, payload, now) {
            return Err(DropReason::ServiceNotOffered);
        }
        if names_us {
            self.neighbours.confirm(headers.source, from, now);
        }
        Ok(())
    }
}

/// `None`: the length or the checksum is wrong. IPv4 may go without one.
fn datagram_payload<'a>(packet: &'a [u8], headers: &Headers) -> Option<&'a [u8]> {
    let datagram = &packet[headers.transport_offset..headers.total_bytes];
    let header: &[u8; udp::HEADER_BYTES] = datagram.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([header[udp::LENGTH], header[udp::LENGTH + 1]]));
    let datagram = datagram.get(..len)?;
    let is_unsummed = header[udp::CHECKSUM..] == [0, 0] && !headers.is_v6();
    let sum = transport_checksum(headers.source, headers.destination, protocol::UDP, datagram);
    datagram.get(udp::HEADER_BYTES..).filter(|_| is_unsummed || sum == Some(0))
}

/// A BFD control packet, from one of our addresses (RFC 5881 sections 4 and 5).
pub(super) fn send_bfd(
    framing: &Framing,
    to: Mac,
    (source, destination): (IpAddr, IpAddr),
    source_port: u16,
    payload: &[u8],
    outbox: &mut Outbox,
) {
    let kind = if source.is_ipv6() { ether_type::IPV6 } else { ether_type::IPV4 };
    let max_bytes = ipv6::HEADER_BYTES + udp::HEADER_BYTES + payload.len();
    framing.send(to, kind, outbox, max_bytes, |out| {
        write_bfd(out, (source, destination), source_port, payload).unwrap_or(0)
    });
}

fn write_bfd(out: &mut [u8], ends: (IpAddr, IpAddr), source_port: u16, payload: &[u8]) -> Option<usize> {
    let len = udp::HEADER_BYTES + payload.len();
    let header_bytes = match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4::emit(out.first_chunk_mut()?, len, bfd::HOP_LIMIT, protocol::UDP, source, destination);
            ipv4::MIN_HEADER_BYTES
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6::emit(out.first_chunk_mut()?, len, bfd::HOP_LIMIT, protocol::UDP, source, destination);
            ipv6::HEADER_BYTES
        }
        _ => return None,
    };
    let datagram = out.get_mut(header_bytes..header_bytes + len)?;
    datagram[..2].copy_from_slice(&source_port.to_be_bytes());
    datagram[2..4].copy_from_slice(&bfd::PORT.to_be_bytes());
    datagram[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    datagram[6..8].fill(0);
    datagram[udp::HEADER_BYTES..].copy_from_slice(payload);
    let sum = match transport_checksum(ends.0, ends.1, protocol::UDP, datagram)? {
        0 => 0xffff, // 0 says that there is none
        sum => sum,
    };
    datagram[udp::CHECKSUM..udp::HEADER_BYTES].copy_from_slice(&sum.to_be_bytes());
    Some(header_bytes + len)
}
