//! What is the same of a packet before and after translation.

use ixgate::net::policy::protocol;
use ixgate::wire::checksum::{self, Delta};
use ixgate::wire::headers::{self, Headers, Transport};
use ixgate::wire::{dccp, icmp, ipv4, ipv6, tcp, udp};

/// Of an echo the identifier, twice; of what has none, zeros.
pub fn ports(headers: &Headers) -> (u16, u16) {
    match headers.transport {
        Transport::Tcp { source_port, destination_port, .. } => (source_port, destination_port),
        Transport::Udp { source_port, destination_port } => (source_port, destination_port),
        Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, ident),
        _ => (0, 0),
    }
}

/// How wrong the checksum of the message is: 0 when it is right, `None` where there is none.
pub fn residue(packet: &[u8], headers: &Headers) -> Option<u16> {
    let message = &packet[headers.transport_offset..headers.total_bytes];
    let at = checksum_at(headers)?;
    let field = message.get(at..at + 2)?;
    if [protocol::UDP, protocol::UDP_LITE].contains(&headers.protocol) && field == [0, 0] {
        return None;
    }
    let sum = match headers.protocol {
        protocol::ICMP => checksum::checksum(message),
        number => {
            checksum::transport_checksum(headers.source, headers.destination, number, message).expect("one family")
        }
    };
    Some(if sum == 0xffff { 0 } else { sum })
}

pub fn header_residue(packet: &[u8], headers: &Headers) -> Option<u16> {
    let sum = if headers.is_v6() { 0 } else { checksum::checksum(&packet[..headers.transport_offset]) };
    Some(if sum == 0xffff { 0 } else { sum })
}

fn checksum_at(headers: &Headers) -> Option<usize> {
    match (headers.protocol, headers.is_v6()) {
        (protocol::TCP, _) => Some(tcp::CHECKSUM),
        (protocol::UDP | protocol::UDP_LITE, _) => Some(udp::CHECKSUM),
        (protocol::DCCP, _) => Some(dccp::CHECKSUM),
        (protocol::ICMP, false) | (protocol::ICMPV6, true) => Some(icmp::CHECKSUM),
        _ => None,
    }
}

/// Two checksums of one packet may differ though both are right: there are two zeros. And the type of an echo has a number
/// in each IP version.
pub fn blank_checksums(packet: &mut [u8], headers: &Headers) {
    if !headers.is_v6() {
        packet[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].fill(0);
    }
    let message = &mut packet[headers.transport_offset..];
    if let Some(field) = checksum_at(headers).and_then(|at| message.get_mut(at..at + 2)) {
        field.fill(0);
    }
}

/// The same packet, in two realms' terms.
pub fn compare(before: &[u8], sent: &Headers, after: &[u8], arrived: &Headers) {
    let is_same_version = sent.is_v6() == arrived.is_v6();
    if is_same_version {
        assert_eq!(header_residue(before, sent), header_residue(after, arrived), "the header's checksum");
    } else {
        assert_eq!(header_residue(after, arrived), Some(0), "the header's checksum");
    }
    if sent.transport == Transport::IcmpError {
        assert_eq!(residue(after, arrived), Some(0), "an error's checksum is computed");
        return;
    }
    assert_eq!(arrived.hop_limit, sent.hop_limit - 1);
    let (residue_before, residue_after) = (residue(before, sent), residue(after, arrived));
    let gets_one = residue_before.is_none() && !is_same_version && sent.protocol == protocol::UDP;
    assert!(gets_one || residue_before == residue_after, "the message's checksum");
    let header_bytes = match sent.transport {
        Transport::Tcp { .. } => {
            return assert_eq!(before.len() - sent.transport_offset, after.len() - arrived.transport_offset);
        }
        _ => udp::HEADER_BYTES,
    };
    let (before, after) = (&before[sent.transport_offset..], &after[arrived.transport_offset..]);
    assert_eq!(before.len(), after.len());
    assert_eq!(before.get(header_bytes..), after.get(header_bytes..), "what they carry");
}

/// The packet as its receiver sends it back. Of an echo request the reply; `None` of what has no answer.
pub fn turned(packet: &[u8]) -> Option<Vec<u8>> {
    let headers = headers::parse(packet).ok()?;
    let mut turned = packet[..headers.total_bytes].to_vec();
    let message = &mut turned[headers.transport_offset..];
    match headers.transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => (0..2).for_each(|at| message.swap(at, at + 2)),
        Transport::EchoRequest { .. } => {
            let reply = if headers.is_v6() { 129 } else { 0 };
            let delta = Delta::default().word(u16::from(message[0]) << 8, u16::from(reply) << 8);
            message[0] = reply;
            delta.apply_at(message, icmp::CHECKSUM);
        }
        _ => return None,
    }
    let (source, len) = if headers.is_v6() { (ipv6::SOURCE, 16) } else { (ipv4::SOURCE, 4) };
    (source..source + len).for_each(|at| turned.swap(at, at + len));
    let hops = if headers.is_v6() { ipv6::HOP_LIMIT } else { ipv4::TTL };
    turned[hops] = 64;
    if !headers.is_v6() {
        ipv4::renew_checksum(&mut turned[..headers.transport_offset]);
    }
    Some(turned)
}

/// Lengths and the header's checksum say what is there, so that more than these is looked at.
pub fn mend(packet: &mut [u8]) {
    let len = packet.len();
    match packet.first().map(|first| first >> 4) {
        Some(4) if len >= ipv4::MIN_HEADER_BYTES => {
            packet[ipv4::TOTAL_LENGTH..ipv4::TOTAL_LENGTH + 2].copy_from_slice(&(len as u16).to_be_bytes());
            let header_bytes = usize::from(packet[0] & 15) * 4;
            if (ipv4::MIN_HEADER_BYTES..=len).contains(&header_bytes) {
                ipv4::renew_checksum(&mut packet[..header_bytes]);
            }
        }
        Some(6) if len >= ipv6::HEADER_BYTES => {
            let length = (len - ipv6::HEADER_BYTES) as u16;
            packet[ipv6::PAYLOAD_LENGTH..ipv6::PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
        }
        _ => {}
    }
}
