//! Whole inner packets with right checksums, and the check that a packet has them.

use std::net::IpAddr;

use crate::net::policy::protocol;
use crate::wire::headers::{self, Headers};
use crate::wire::{checksum, dccp, fragment, icmp, ipv4, ipv6, tcp, udp};

pub const HOP_LIMIT: u8 = 64;

/// An IP packet around `message`, whose checksum is set if the protocol has one.
pub fn packet(source: IpAddr, destination: IpAddr, protocol: u8, mut message: Vec<u8>) -> Vec<u8> {
    if let Some(at) = checksum_offset(protocol) {
        message[at..at + 2].fill(0);
        let sum = match transport_sum(source, destination, protocol, &message) {
            // Sent as it is, it would mean that there is none.
            0 if [protocol::UDP, protocol::UDP_LITE].contains(&protocol) => 0xffff,
            sum => sum,
        };
        message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = [0; ipv4::MIN_HEADER_BYTES];
            ipv4::emit(&mut header, message.len(), HOP_LIMIT, protocol, source, destination);
            [&header[..], &message].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = [0; ipv6::HEADER_BYTES];
            ipv6::emit(&mut header, message.len(), HOP_LIMIT, protocol, source, destination);
            [&header[..], &message].concat()
        }
        _ => panic!("{source} and {destination} are of different families"),
    }
}

pub fn udp(source: (IpAddr, u16), destination: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let len = (udp::HEADER_BYTES + payload.len()) as u16;
    let message =
        [&source.1.to_be_bytes()[..], &destination.1.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat();
    packet(source.0, destination.0, protocol::UDP, message)
}

/// A segment with 20 bytes of header; `options` (a multiple of 4 bytes) come behind it.
pub fn tcp(source: (IpAddr, u16), destination: (IpAddr, u16), flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; tcp::MIN_HEADER_BYTES];
    message[..2].copy_from_slice(&source.1.to_be_bytes());
    message[2..4].copy_from_slice(&destination.1.to_be_bytes());
    message[12] = ((5 + options.len() / 4) as u8) << 4;
    message[13] = flags;
    message.extend(options);
    message.extend(payload);
    packet(source.0, destination.0, protocol::TCP, message)
}

/// A segment of a connection: `numbers` are its sequence number and what it acknowledges; its window is 8000 bytes.
pub fn segment(
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    numbers: (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut message = vec![0; tcp::MIN_HEADER_BYTES];
    message[..2].copy_from_slice(&source.1.to_be_bytes());
    message[2..4].copy_from_slice(&destination.1.to_be_bytes());
    message[4..8].copy_from_slice(&numbers.0.to_be_bytes());
    message[8..12].copy_from_slice(&numbers.1.to_be_bytes());
    message[12..14].copy_from_slice(&[5 << 4, flags]);
    message[14..16].copy_from_slice(&8000u16.to_be_bytes());
    message.extend(payload);
    packet(source.0, destination.0, protocol::TCP, message)
}

/// An echo request, or its reply.
pub fn echo(source: IpAddr, destination: IpAddr, ident: u16, is_reply: bool) -> Vec<u8> {
    let (protocol, kind) = match (source.is_ipv4(), is_reply) {
        (true, false) => (protocol::ICMP, 8),
        (true, true) => (protocol::ICMP, 0),
        (false, false) => (protocol::ICMPV6, 128),
        (false, true) => (protocol::ICMPV6, 129),
    };
    let message = [&[kind, 0, 0, 0][..], &ident.to_be_bytes(), &[0, 1], b"ixgate"].concat();
    packet(source, destination, protocol, message)
}

/// Destination unreachable, port unreachable, about `original`.
pub fn port_unreachable(source: IpAddr, destination: IpAddr, original: &[u8]) -> Vec<u8> {
    let (protocol, kind, code) = if source.is_ipv4() { (protocol::ICMP, 3, 3) } else { (protocol::ICMPV6, 1, 4) };
    let message = [&[kind, code, 0, 0, 0, 0, 0, 0][..], original].concat();
    packet(source, destination, protocol, message)
}

/// Sets or clears IPv4's DF.
pub fn set_dont_fragment(packet: &mut [u8], dont_fragment: bool) {
    packet[ipv4::FRAGMENT] = packet[ipv4::FRAGMENT] & !0x40 | if dont_fragment { 0x40 } else { 0 };
    ipv4::renew_checksum(&mut packet[..ipv4::MIN_HEADER_BYTES]);
}

pub fn set_identification(packet: &mut [u8], identification: u16) {
    packet[ipv4::IDENTIFICATION..ipv4::IDENTIFICATION + 2].copy_from_slice(&identification.to_be_bytes());
    ipv4::renew_checksum(&mut packet[..ipv4::MIN_HEADER_BYTES]);
}

/// A packet without options or extension headers as its sender cuts it: in fragments of at most `mtu_bytes`.
pub fn cut(packet: &[u8], mtu_bytes: usize, identification: u32) -> Vec<Vec<u8>> {
    let is_v6 = packet[0] >> 4 == 6;
    let (header_bytes, added) = if is_v6 { (ipv6::HEADER_BYTES, 8) } else { (ipv4::MIN_HEADER_BYTES, 0) };
    let payload = &packet[header_bytes..];
    let chunk = (mtu_bytes - header_bytes - added) / 8 * 8;
    let pieces = payload.chunks(chunk).enumerate().map(|(number, piece)| {
        let (offset, more) = (number * chunk, (number + 1) * chunk < payload.len());
        let mut fragment = packet[..header_bytes].to_vec();
        if is_v6 {
            let next = std::mem::replace(&mut fragment[ipv6::NEXT_HEADER], ipv6::next_header::FRAGMENT);
            fragment[4..6].copy_from_slice(&((8 + piece.len()) as u16).to_be_bytes());
            fragment.extend([next, 0]);
            fragment.extend((offset as u16 | u16::from(more)).to_be_bytes());
            fragment.extend(identification.to_be_bytes());
        } else {
            let flags = u16::from(fragment[ipv4::FRAGMENT] & 0x40) << 8;
            let word = flags | u16::from(more) << 13 | (offset / 8) as u16;
            fragment[2..4].copy_from_slice(&((header_bytes + piece.len()) as u16).to_be_bytes());
            fragment[4..6].copy_from_slice(&(identification as u16).to_be_bytes());
            fragment[6..8].copy_from_slice(&word.to_be_bytes());
            ipv4::renew_checksum(&mut fragment);
        }
        fragment.extend(piece);
        fragment
    });
    pieces.collect()
}

/// What a host makes of one datagram's fragments, in any order; a whole packet stays what it is.
///
/// # Panics
/// When they are not exactly one datagram.
pub fn joined(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut pieces: Vec<_> = packets.iter().filter_map(|packet| Some((fragment::parse(packet)?, packet))).collect();
    if pieces.is_empty() {
        assert_eq!(packets.len(), 1, "packets, not fragments");
        return packets[0].clone();
    }
    pieces.sort_by_key(|(fragment, _)| fragment.offset);
    let (first, packet) = pieces[0];
    let mut whole = packet[..first.header_bytes].to_vec();
    whole[first.next_header_at] = first.protocol;
    let mut reached = 0;
    for (at, (fragment, packet)) in pieces.iter().enumerate() {
        assert_eq!((fragment.offset, fragment.identification), (reached, first.identification));
        assert_eq!(fragment.more, at + 1 < packets.len());
        whole.extend(&packet[fragment.payload_at..fragment.total_bytes]);
        reached += fragment.payload_bytes();
    }
    let len = whole.len() as u16;
    if first.is_v6() {
        whole[4..6].copy_from_slice(&((reached + first.header_bytes - ipv6::HEADER_BYTES) as u16).to_be_bytes());
    } else {
        whole[2..4].copy_from_slice(&len.to_be_bytes());
        whole[6..8].copy_from_slice(&[0, 0]);
        ipv4::renew_checksum(&mut whole[..first.header_bytes]);
    }
    whole
}

/// Time exceeded in transit, about `original`.
pub fn time_exceeded(source: IpAddr, destination: IpAddr, original: &[u8]) -> Vec<u8> {
    let (protocol, kind) = if source.is_ipv4() { (protocol::ICMP, 11) } else { (protocol::ICMPV6, 3) };
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], original].concat();
    packet(source, destination, protocol, message)
}

/// The headers of a packet whose every checksum is right. `Err` says what is wrong.
pub fn verify(packet: &[u8]) -> Result<Headers, String> {
    let headers = headers::parse(packet).map_err(|error| format!("{error:?}"))?;
    if headers.total_bytes != packet.len() {
        return Err(format!("length {} in {} bytes", headers.total_bytes, packet.len()));
    }
    if !headers.is_v6() && checksum::sum(&packet[..headers.transport_offset]) != 0xffff {
        return Err("IPv4 header checksum".into());
    }
    let message = &packet[headers.transport_offset..];
    let has_none = headers.protocol == protocol::UDP && message[udp::CHECKSUM..udp::CHECKSUM + 2] == [0, 0];
    if checksum_offset(headers.protocol).is_some()
        && !has_none
        && transport_sum(headers.source, headers.destination, headers.protocol, message) != 0
    {
        return Err(format!("checksum of protocol {}", headers.protocol));
    }
    Ok(headers)
}

fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(tcp::CHECKSUM),
        protocol::UDP | protocol::UDP_LITE => Some(udp::CHECKSUM),
        protocol::DCCP => Some(dccp::CHECKSUM),
        protocol::ICMP | protocol::ICMPV6 => Some(icmp::CHECKSUM),
        _ => None,
    }
}

fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    match protocol {
        protocol::ICMP => checksum::checksum(message),
        _ => checksum::transport_checksum(source, destination, protocol, message).expect("one family"),
    }
}
