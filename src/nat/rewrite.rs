//! Rewriting a packet from one realm's terms into another's, within one IP version.
//!
//! All checksums are updated incrementally (RFC 1624): what was wrong on arrival is wrong on departure, so that the
//! receiver, not we, detects damage.

use std::net::IpAddr;

use super::family;
use crate::net::policy::protocol;
use crate::packet::Shown;
use crate::wire::checksum::{self, Delta};
use crate::wire::headers::{Headers, Transport, parse_quoted};
use crate::wire::{dccp, icmp, ipv4, ipv6, tcp, udp};

/// Gives `packet` new addresses (of its own family) and ports, and one hop less to live. `headers` is what it was parsed
/// into.
pub fn rewrite(packet: &mut [u8], headers: &Headers, shown: &Shown) {
    let delta = address_delta(headers, shown);
    write_addresses(packet, shown.source, shown.destination);
    if headers.is_v6() {
        packet[ipv6::HOP_LIMIT] -= 1;
    } else {
        let hop = Delta::default().word(ttl_word(packet, 0), ttl_word(packet, 1));
        packet[ipv4::TTL] -= 1;
        hop.apply_at(packet, ipv4::CHECKSUM);
        delta.apply_at(packet, ipv4::CHECKSUM);
    }
    let message = &mut packet[headers.transport_offset..];
    let ports = write_ports(message, headers, shown);
    fix_transport(message, headers, delta, ports);
}

pub(super) fn address_delta(headers: &Headers, shown: &Shown) -> Delta {
    Delta::default().address(headers.source, shown.source).address(headers.destination, shown.destination)
}

/// Lowers the MSS option when `packet` is a TCP SYN.
pub fn clamp_mss(packet: &mut [u8], headers: &Headers, max_mss_bytes: u16) {
    if let Transport::Tcp { flags, .. } = headers.transport
        && flags & tcp::flag::SYN != 0
    {
        tcp::clamp_mss(&mut packet[headers.transport_offset..headers.total_bytes], max_mss_bytes);
    }
}

/// Cuts off what stands behind the packet that an ICMP error quotes (RFC 4884): extensions tell the addresses and names of
/// interfaces in the terms of the realm that sent them (RFC 5837). The new length of `packet`, whose ICMP checksum
/// [`rewrite_quoted`] renews.
pub fn cut_extensions(packet: &mut [u8], headers: &Headers) -> usize {
    let (quote, is_v6) = (headers.quote(), headers.is_v6());
    let message = packet.get_mut(headers.transport_offset..quote.start).and_then(|message| message.first_chunk_mut());
    let Some(quoted_bytes) = message.and_then(|message| family::take_quoted_bytes(is_v6, message)) else {
        return headers.total_bytes;
    };
    let total = headers.total_bytes.min(quote.start + quoted_bytes);
    if is_v6 {
        let length = (total - ipv6::HEADER_BYTES) as u16;
        packet[ipv6::PAYLOAD_LENGTH..ipv6::PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
    } else {
        let length = Delta::default().word(headers.total_bytes as u16, total as u16);
        packet[ipv4::TOTAL_LENGTH..ipv4::TOTAL_LENGTH + 2].copy_from_slice(&(total as u16).to_be_bytes());
        length.apply_at(packet, ipv4::CHECKSUM);
    }
    total
}

/// Rewrites the packet quoted inside an ICMP error, which is `packet`; its own addresses have been rewritten already.
/// `shown` is what the receiver of the error knows the quoted packet by: it sent it.
///
/// The ICMP checksum is computed afresh, as errors are rare and short.
pub fn rewrite_quoted(packet: &mut [u8], headers: &Headers, shown: &Shown) {
    let Some(quoted) = packet.get_mut(headers.quote()) else { return };
    let Ok(inner) = parse_quoted(quoted) else { return };
    let delta = address_delta(&inner, shown);
    write_addresses(quoted, shown.source, shown.destination);
    if !inner.is_v6() {
        delta.apply_at(quoted, ipv4::CHECKSUM);
    }
    let message = &mut quoted[inner.transport_offset..];
    let ports = write_ports(message, &inner, shown);
    fix_transport(message, &inner, delta, ports);
    renew_icmp_checksum(&mut packet[..headers.total_bytes], headers.transport_offset);
}

/// Of a whole packet, whose ICMP message starts at `icmp_at`.
pub(super) fn renew_icmp_checksum(packet: &mut [u8], icmp_at: usize) {
    let (ip, message) = packet.split_at_mut(icmp_at);
    message[icmp::CHECKSUM..icmp::CHECKSUM + 2].fill(0);
    let sum = match addresses(ip) {
        Some((source @ IpAddr::V6(_), destination)) => {
            checksum::transport_checksum(source, destination, protocol::ICMPV6, message)
        }
        _ => Some(checksum::checksum(message)),
    };
    if let Some(sum) = sum {
        message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The addresses that stand in an IP header.
fn addresses(ip: &[u8]) -> Option<(IpAddr, IpAddr)> {
    if ip.first()? >> 4 == 4 {
        let source: [u8; 4] = *ip.get(ipv4::SOURCE..)?.first_chunk()?;
        let destination: [u8; 4] = *ip.get(ipv4::DESTINATION..)?.first_chunk()?;
        Some((source.into(), destination.into()))
    } else {
        let source: [u8; 16] = *ip.get(ipv6::SOURCE..)?.first_chunk()?;
        let destination: [u8; 16] = *ip.get(ipv6::DESTINATION..)?.first_chunk()?;
        Some((source.into(), destination.into()))
    }
}

fn write_addresses(packet: &mut [u8], source: IpAddr, destination: IpAddr) {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[ipv4::SOURCE..ipv4::SOURCE + 4].copy_from_slice(&source.octets());
            packet[ipv4::DESTINATION..ipv4::DESTINATION + 4].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[ipv6::SOURCE..ipv6::SOURCE + 16].copy_from_slice(&source.octets());
            packet[ipv6::DESTINATION..ipv6::DESTINATION + 16].copy_from_slice(&destination.octets());
        }
        _ => debug_assert!(false, "one family on both sides"),
    }
}

/// The 16-bit word that holds TTL and protocol, with `less` taken off the TTL.
fn ttl_word(packet: &[u8], less: u8) -> u16 {
    u16::from_be_bytes([packet[ipv4::TTL].wrapping_sub(less), packet[ipv4::PROTOCOL]])
}

/// Writes ports, or an echo's identifier. What has changed, for the checksum of the message.
pub(super) fn write_ports(message: &mut [u8], headers: &Headers, shown: &Shown) -> Delta {
    let (source, destination) = (shown.source_port, shown.destination_port);
    if source | destination == 0 {
        return Delta::default();
    }
    match headers.transport {
        Transport::Tcp { source_port, destination_port, .. } | Transport::Udp { source_port, destination_port } => {
            let delta = write_word(message, udp::SOURCE_PORT, source_port, source);
            delta.and(write_word(message, udp::DESTINATION_PORT, destination_port, destination))
        }
        Transport::EchoRequest { ident } | Transport::EchoReply { ident } => {
            write_word(message, icmp::IDENTIFIER, ident, source | destination)
        }
        _ => Delta::default(),
    }
}

/// Zero stands for the old word.
fn write_word(message: &mut [u8], at: usize, old: u16, new: u16) -> Delta {
    match message.get_mut(at..at + 2) {
        Some(field) if new != 0 => {
            field.copy_from_slice(&new.to_be_bytes());
            Delta::default().word(old, new)
        }
        _ => Delta::default(),
    }
}

/// Fixes the checksum of a message. A quoted packet may be cut before it.
fn fix_transport(message: &mut [u8], headers: &Headers, addresses: Delta, ports: Delta) {
    match headers.transport {
        Transport::Tcp { .. } => addresses.and(ports).apply_at(message, tcp::CHECKSUM),
        Transport::Udp { .. } => udp::fix_checksum(message, addresses.and(ports)),
        Transport::EchoRequest { .. } | Transport::EchoReply { .. } | Transport::IcmpError | Transport::IcmpOther => {
            // ICMPv6 covers a pseudo-header, ICMP does not.
            let delta = if headers.is_v6() { addresses.and(ports) } else { ports };
            delta.apply_at(message, icmp::CHECKSUM);
        }
        Transport::Other => fix_other(message, headers.protocol, addresses),
    }
}

/// Of what we have no ports, what covers a pseudo-header.
pub(super) fn fix_other(message: &mut [u8], number: u8, addresses: Delta) {
    match number {
        protocol::UDP_LITE => udp::fix_checksum(message, addresses),
        protocol::DCCP => addresses.apply_at(message, dccp::CHECKSUM),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::headers::parse;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A whole packet with right checksums.
    fn packet(source: IpAddr, destination: IpAddr, protocol: u8, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let at = match protocol {
            protocol::TCP => Some(tcp::CHECKSUM),
            protocol::UDP | protocol::UDP_LITE => Some(udp::CHECKSUM),
            protocol::DCCP => Some(dccp::CHECKSUM),
            protocol::ICMP | protocol::ICMPV6 => Some(icmp::CHECKSUM),
            _ => None,
        };
        if let Some(at) = at {
            message[at..at + 2].fill(0);
            let sum = match protocol {
                protocol::ICMP => checksum::checksum(&message),
                _ => checksum::transport_checksum(source, destination, protocol, &message).unwrap(),
            };
            message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        match (source, destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                let mut header = [0; 20];
                ipv4::emit(&mut header, message.len(), 64, protocol, s, d);
                [&header[..], &message].concat()
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let mut header = [0; 40];
                ipv6::emit(&mut header, message.len(), 64, protocol, s, d);
                [&header[..], &message].concat()
            }
            _ => unreachable!(),
        }
    }

    fn udp_message(payload: &[u8]) -> Vec<u8> {
        let len = (8 + payload.len()) as u16;
        [&[0x13, 0x88, 0, 53][..], &len.to_be_bytes(), &[0, 0], payload].concat()
    }

    fn tcp_message(payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 20];
        message[..4].copy_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
        message[12] = 0x50;
        message[13] = tcp::flag::ACK;
        message.extend(payload);
        message
    }

    fn echo(request: u8, payload: &[u8]) -> Vec<u8> {
        [&[request, 0, 0, 0, 0x12, 0x34, 0, 1][..], payload].concat()
    }

    /// Of an echo the identifier, and none.
    fn ports_of(headers: &Headers) -> (u16, u16) {
        match headers.transport {
            Transport::Tcp { source_port, destination_port, .. } => (source_port, destination_port),
            Transport::Udp { source_port, destination_port } => (source_port, destination_port),
            Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, 0),
            _ => (0, 0),
        }
    }

    /// Every checksum of the packet computed afresh.
    fn assert_valid(bytes: &[u8]) {
        let headers = parse(bytes).unwrap();
        if !headers.is_v6() {
            assert_eq!(checksum::sum(&bytes[..headers.transport_offset]), 0xffff, "IPv4 header");
        }
        let message = &bytes[headers.transport_offset..headers.total_bytes];
        let sum = match headers.protocol {
            protocol::ICMP => checksum::checksum(message),
            _ => checksum::transport_checksum(headers.source, headers.destination, headers.protocol, message).unwrap(),
        };
        assert_eq!(sum, 0, "upper layer of {headers:?}");
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_identity_and_checksums_hold(
            payload in prop::collection::vec(any::<u8>(), 1..64),
            kind in 0..5,
            v6: bool,
            a: u128, b: u128, c: u128, d: u128,
            ports in prop::sample::select(vec![(0u16, 0u16), (40000, 0), (0, 8443), (1024, 2)]),
        ) {
            let make = |x: u128| -> IpAddr {
                if v6 { IpAddr::V6(x.into()) } else { IpAddr::V4(((x as u32) | 1).into()) }
            };
            let (a, b, c, d) = (make(a), make(b), make(c), make(d));
            let (protocol, message) = match (kind, v6) {
                (0, _) => (protocol::TCP, tcp_message(&payload)),
                (1, _) => (protocol::UDP, udp_message(&payload)),
                (3, _) => (protocol::UDP_LITE, udp_message(&payload)),
                (4, _) => (protocol::DCCP, udp_message(&payload)),
                (_, false) => (protocol::ICMP, echo(8, &payload)),
                (_, true) => (protocol::ICMPV6, echo(128, &payload)),
            };
            let before = packet(a, b, protocol, &message);
            let mut bytes = before.clone();
            let headers = parse(&bytes).unwrap();
            let (source_port, destination_port) = match kind {
                2 => (ports.0, 0),
                3 | 4 => (0, 0), // nobody looks for ports in these
                _ => ports,
            };
            rewrite(&mut bytes, &headers, &Shown { source: c, destination: d, source_port, destination_port });
            let there = parse(&bytes).unwrap();
            prop_assert_eq!((there.source, there.destination, there.hop_limit), (c, d, 63));
            let or = |new, old| if new == 0 { old } else { new };
            prop_assert_eq!(ports_of(&there), (or(source_port, ports_of(&headers).0), or(destination_port, ports_of(&headers).1)));
            assert_valid(&bytes);
            let (source_port, destination_port) = ports_of(&headers);
            rewrite(&mut bytes, &there, &Shown { source: a, destination: b, source_port, destination_port });
            let back = parse(&bytes).unwrap();
            prop_assert_eq!((back.source, back.destination, back.hop_limit), (a, b, 62));
            assert_valid(&bytes);
            prop_assert_eq!(&bytes[headers.transport_offset..], &before[headers.transport_offset..]);
        }
    }

    #[test]
    fn a_udp_checksum_of_zero_stays_zero() {
        let mut bytes = packet(ip("10.0.0.1"), ip("10.0.0.2"), protocol::UDP, &udp_message(b"x"));
        bytes[26..28].fill(0);
        let headers = parse(&bytes).unwrap();
        rewrite(&mut bytes, &headers, &Shown::addresses(ip("100.64.1.1"), ip("192.168.1.1")));
        assert_eq!(bytes[26..28], [0, 0]);
    }

    #[test]
    fn the_packet_inside_an_error_becomes_the_one_that_its_sender_sent() {
        // B's host refuses A's datagram: as A sent it, then as it arrived at B.
        let sent = packet(ip("192.168.1.10"), ip("100.64.2.20"), protocol::UDP, &udp_message(b"hello"));
        let mut arrived = sent.clone();
        let headers = parse(&arrived).unwrap();
        rewrite(&mut arrived, &headers, &Shown::addresses(ip("100.64.1.10"), ip("192.168.1.20")));

        for quoted_bytes in [28, arrived.len()] {
            let error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &arrived[..quoted_bytes]].concat();
            let mut bytes = packet(ip("192.168.1.20"), ip("100.64.1.10"), protocol::ICMP, &error);
            let headers = parse(&bytes).unwrap();
            rewrite(&mut bytes, &headers, &Shown::addresses(ip("100.64.2.20"), ip("192.168.1.10")));
            rewrite_quoted(&mut bytes, &headers, &Shown::addresses(ip("192.168.1.10"), ip("100.64.2.20")));
            assert_valid(&bytes);
            let quoted = &bytes[28..];
            assert_eq!(checksum::sum(&quoted[..20]), 0xffff, "quoted IPv4 header");
            assert_eq!(quoted[12..], sent[12..quoted_bytes], "addresses, ports, checksum as sent");
        }
    }

    #[test]
    fn the_packet_inside_an_icmpv6_error_too() {
        let sent = packet(ip("fd00:a::10"), ip("2001:db8::20"), protocol::UDP, &udp_message(b"hello"));
        let mut arrived = sent.clone();
        let headers = parse(&arrived).unwrap();
        rewrite(&mut arrived, &headers, &Shown::addresses(ip("2001:db8:a::10"), ip("fd00:b::20")));
        let error = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &arrived].concat();
        let mut bytes = packet(ip("fd00:b::20"), ip("2001:db8:a::10"), protocol::ICMPV6, &error);
        let headers = parse(&bytes).unwrap();
        rewrite(&mut bytes, &headers, &Shown::addresses(ip("2001:db8::20"), ip("fd00:a::10")));
        rewrite_quoted(&mut bytes, &headers, &Shown::addresses(ip("fd00:a::10"), ip("2001:db8::20")));
        assert_valid(&bytes);
        assert_eq!(bytes[48 + 8..], sent[8..]);
    }

    #[test]
    fn extensions_of_an_error_are_cut_off() {
        let extension = [0x20, 0, 0, 0, 0, 8, 2, 1, 192, 168, 1, 1];
        for (source, destination, number, header, whole_bytes) in [
            ("192.168.1.1", "100.64.1.10", protocol::ICMP, [11, 0, 0, 0, 0, 32, 0, 0], 28 + 128),
            ("fd00:b::1", "2001:db8:a::10", protocol::ICMPV6, [3, 0, 0, 0, 16, 0, 0, 0], 48 + 128),
        ] {
            let (source, destination) = (ip(source), ip(destination));
            let mut quote = packet(destination, source, protocol::UDP, &udp_message(b"hello"));
            quote.resize(128, 0);
            let error = [&header[..], &quote, &extension].concat();
            let mut bytes = packet(source, destination, number, &error);
            let headers = parse(&bytes).unwrap();
            assert_eq!(cut_extensions(&mut bytes, &headers), whole_bytes);
            bytes.truncate(whole_bytes);
            let headers = parse(&bytes).unwrap();
            assert_eq!(headers.total_bytes, whole_bytes);
            rewrite_quoted(&mut bytes, &headers, &Shown::addresses(destination, source));
            assert_valid(&bytes);
            assert_eq!(bytes[headers.transport_offset + 4..headers.quote().start], [0; 4], "nothing follows the quote");
            let before = bytes.clone();
            assert_eq!(cut_extensions(&mut bytes, &headers), whole_bytes);
            assert_eq!(bytes, before, "there is nothing more to be cut");
        }
    }

    #[test]
    fn a_syn_is_clamped_and_a_data_segment_is_not() {
        let mut syn = tcp_message(&[2, 4, 0x23, 0x28]);
        syn[12] = 0x60;
        for (flags, want) in [(tcp::flag::SYN, 1380u16), (tcp::flag::ACK, 0x2328)] {
            syn[13] = flags;
            let mut bytes = packet(ip("10.0.0.1"), ip("10.0.0.2"), protocol::TCP, &syn);
            let headers = parse(&bytes).unwrap();
            clamp_mss(&mut bytes, &headers, 1380);
            assert_eq!(bytes[42..44], want.to_be_bytes());
            assert_valid(&bytes);
        }
    }
}
