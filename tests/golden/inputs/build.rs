//! Packets as hosts make them, where `ixgate::sim::packets` has none.

use std::net::IpAddr;

use ixgate::net::policy::protocol;
use ixgate::sim::packets::packet;
use ixgate::wire::{ipv4, ipv6};

/// An address and a port.
pub type End = (IpAddr, u16);

pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const PSH_ACK: u8 = 0x18;
pub const FIN_ACK: u8 = 0x11;
/// MSS 1460, and a window scale of 7 behind a NOP.
pub const MSS_1460: [u8; 8] = [2, 4, 0x05, 0xb4, 1, 3, 3, 7];

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn end(address: &str, port: u16) -> End {
    (ip(address), port)
}

/// Text that says at every eighth byte where it is, so that no two pieces of it can be confused.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len.div_ceil(8)).flat_map(|number| format!("{number:08}").into_bytes()).take(len).collect()
}

/// `numbers` are the sequence number and what is acknowledged.
pub fn segment(from: End, to: End, numbers: (u32, u32), flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let window = 8000u16.to_be_bytes();
    let message = [
        &from.1.to_be_bytes()[..],
        &to.1.to_be_bytes(),
        &numbers.0.to_be_bytes(),
        &numbers.1.to_be_bytes(),
        &[((5 + options.len() / 4) as u8) << 4, flags],
        &window,
        &[0; 4],
        options,
        payload,
    ];
    packet(from.0, to.0, protocol::TCP, message.concat())
}

/// An ICMP error in the family of its addresses; `word` is its second word (an MTU, a pointer).
pub fn icmp_error(from: &str, to: &str, kind_and_code: [u8; 2], word: u32, about: &[u8]) -> Vec<u8> {
    let protocol = if ip(from).is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    let message = [&kind_and_code[..], &[0; 2], &word.to_be_bytes(), about].concat();
    packet(ip(from), ip(to), protocol, message)
}

/// With another TTL or hop limit.
pub fn with_hops(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] = hops;
    } else {
        packet[8] = hops;
        let header_bytes = usize::from(packet[0] & 0x0f) * 4;
        ipv4::renew_checksum(&mut packet[..header_bytes]);
    }
    packet
}

/// With options in the IPv4 header; their length is a multiple of four.
pub fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let (header, rest) = packet.split_at(ipv4::MIN_HEADER_BYTES);
    let mut packet = [header, options, rest].concat();
    let header_bytes = header.len() + options.len();
    packet[0] = 0x40 | (header_bytes / 4) as u8;
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    ipv4::renew_checksum(&mut packet[..header_bytes]);
    packet
}

/// As it is after a hop: what an error of a later router is about.
pub fn after_a_hop(packet: Vec<u8>) -> Vec<u8> {
    with_hops(packet, ixgate::sim::packets::HOP_LIMIT - 1)
}

/// With another type of service or traffic class: six bits of DSCP and two of ECN.
pub fn with_class(mut packet: Vec<u8>, class: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[0] = 0x60 | class >> 4;
        packet[1] = packet[1] & 0x0f | class << 4;
    } else {
        packet[1] = class;
        ipv4::renew_checksum(&mut packet[..ipv4::MIN_HEADER_BYTES]);
    }
    packet
}

/// A UDP datagram whose sender left the checksum out.
pub fn without_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let header_bytes = if packet[0] >> 4 == 6 { ipv6::HEADER_BYTES } else { ipv4::MIN_HEADER_BYTES };
    packet[header_bytes + 6..header_bytes + 8].fill(0);
    packet
}

/// An SCTP INIT chunk (RFC 9260 section 3.3.2) in a packet with its CRC32c.
pub fn sctp_init(from: End, to: End) -> Vec<u8> {
    let mut message = [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0; 8]].concat();
    message.extend([1, 0, 0, 20]);
    message.extend([0x11, 0x22, 0x33, 0x44]); // initiate tag
    message.extend([0, 1, 0, 0, 0, 10, 0, 10]); // window, streams
    message.extend([0x11, 0x22, 0x33, 0x44]); // first TSN
    let crc = crc32c(&message);
    message[8..12].copy_from_slice(&crc.to_le_bytes());
    packet(from.0, to.0, 132, message)
}

/// Reflected, polynomial 0x1EDC6F41 (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}
