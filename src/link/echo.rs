//! Ping of a port's own addresses (RFC 792, RFC 4443 section 4).

use std::net::IpAddr;

use crate::net::policy::protocol;
use crate::wire::checksum::{checksum, transport_checksum};
use crate::wire::headers::{Headers, Transport};
use crate::wire::{icmp, ipv4, ipv6};

const HOP_LIMIT: u8 = 64;

/// Writes the answer to an echo request for an address of ours into `out`: the same length without IP options. How long it
/// is; `None`: the packet is to have no answer.
pub(super) fn answer(packet: &[u8], headers: &Headers, out: &mut [u8]) -> Option<usize> {
    let Transport::EchoRequest { .. } = headers.transport else { return None };
    let request = &packet[headers.transport_offset..headers.total_bytes];
    if !is_host(headers.source) || !is_intact(headers, request) {
        return None;
    }
    match (headers.destination, headers.source) {
        (IpAddr::V4(us), IpAddr::V4(them)) => {
            let (header, message) = out.get_mut(..ipv4::MIN_HEADER_BYTES + request.len())?.split_first_chunk_mut()?;
            ipv4::emit(header, request.len(), HOP_LIMIT, protocol::ICMP, us, them);
            write_reply(message, request, 0);
            let sum = checksum(message);
            message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            Some(header.len() + request.len())
        }
        (IpAddr::V6(us), IpAddr::V6(them)) => {
            let (header, message) = out.get_mut(..ipv6::HEADER_BYTES + request.len())?.split_first_chunk_mut()?;
            ipv6::emit(header, request.len(), HOP_LIMIT, protocol::ICMPV6, us, them);
            write_reply(message, request, 129);
            let sum = transport_checksum(us.into(), them.into(), protocol::ICMPV6, message)?;
            message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            Some(header.len() + request.len())
        }
        _ => None,
    }
}

fn write_reply(message: &mut [u8], request: &[u8], kind: u8) {
    message.copy_from_slice(request);
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
}

/// The sum over a message with its checksum in place is 0.
fn is_intact(headers: &Headers, request: &[u8]) -> bool {
    match headers.is_v6() {
        false => checksum(request) == 0,
        true => transport_checksum(headers.source, headers.destination, headers.protocol, request) == Some(0),
    }
}

/// Could be one station's.
pub(super) fn is_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::headers;

    /// An echo request with its checksums.
    fn request(from: &str, to: &str) -> Vec<u8> {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let kind = if from.is_ipv6() { 128 } else { 8 };
        let mut message = [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1][..], b"is anybody there?"].concat();
        let protocol = if from.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
        let sum = match from.is_ipv6() {
            true => transport_checksum(from, to, protocol, &message).unwrap(),
            false => checksum(&message),
        };
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0; if from.is_ipv6() { 40 } else { 20 }];
        match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ipv4::emit(packet.first_chunk_mut().unwrap(), message.len(), 9, protocol, from, to);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ipv6::emit(packet.first_chunk_mut().unwrap(), message.len(), 9, protocol, from, to);
            }
            _ => unreachable!(),
        }
        [packet, message].concat()
    }

    fn answered(packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; 100];
        let len = answer(packet, &headers::parse(packet).unwrap(), &mut out)?;
        Some(out[..len].to_vec())
    }

    #[test]
    fn the_answer_is_the_question_the_other_way_round() {
        for (from, to) in [("172.20.0.1", "172.20.0.2"), ("2001:db8::1", "2001:db8::2"), ("fe80::1", "fe80::2")] {
            let request = request(from, to);
            let reply = answered(&request).unwrap();
            let headers = headers::parse(&reply).unwrap();
            assert_eq!((headers.source, headers.destination), (to.parse().unwrap(), from.parse().unwrap()));
            assert_eq!((headers.transport, headers.hop_limit), (Transport::EchoReply { ident: 0x1234 }, 64));
            assert_eq!(reply.len(), request.len());
            let message = &reply[headers.transport_offset..];
            assert!(is_intact(&headers, message) && message.ends_with(b"is anybody there?"));
        }
    }

    #[test]
    fn what_is_damaged_or_from_nobody_has_no_answer() {
        for packet in [request("172.20.0.1", "172.20.0.2"), request("2001:db8::1", "2001:db8::2")] {
            let mut damaged = packet.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert_eq!(answered(&damaged), None);
            assert!(answer(&packet, &headers::parse(&packet).unwrap(), &mut [0; 44]).is_none(), "no room");
        }
        for from in ["0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"] {
            assert_eq!(answered(&request(from, "172.20.0.2")), None, "{from}");
        }
        for from in ["::", "ff02::1", "::1"] {
            assert_eq!(answered(&request(from, "fe80::2")), None, "{from}");
        }
    }
}
