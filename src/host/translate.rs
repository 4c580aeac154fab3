//! What lies behind an IP header, under another IP header: checksums, and echo from one ICMP to the other.
//!
//! For the few packets that the IX itself receives and sends. Checksums are computed over the whole packet, which also
//! proves them; the packet path between realms does the same incrementally (RFC 1624).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, TcpPacket, UdpPacket};

use crate::net::policy::protocol;

/// Least length of an echo message: type, code, checksum, identifier, sequence number.
const ECHO_HEADER_BYTES: usize = 8;

pub(super) const ECHO_REPLY_V4: u8 = 0;
pub(super) const ECHO_REQUEST_V4: u8 = 8;
pub(super) const ECHO_REQUEST_V6: u8 = 128;
pub(super) const ECHO_REPLY_V6: u8 = 129;

/// Source and destination of one packet, of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressPair {
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

impl AddressPair {
    fn addresses(self) -> (IpAddr, IpAddr) {
        match self {
            AddressPair::V4 { source, destination } => (source.into(), destination.into()),
            AddressPair::V6 { source, destination } => (source.into(), destination.into()),
        }
    }
}

/// Whether `l4` is a whole TCP, UDP or ICMP echo message whose checksum is right under these addresses.
pub fn is_intact(protocol: u8, l4: &[u8], addresses: AddressPair) -> bool {
    let (source, destination) = addresses.addresses();
    match (protocol, addresses) {
        (protocol::TCP, _) => {
            TcpPacket::new_checked(l4).is_ok_and(|tcp| tcp.verify_checksum(&source.into(), &destination.into()))
        }
        (protocol::UDP, _) => UdpPacket::new_checked(l4).is_ok_and(|udp| {
            // RFC 8200 section 8.1: no UDP without a checksum over IPv6.
            let absent = udp.checksum() == 0;
            usize::from(udp.len()) == l4.len()
                && if absent { source.is_ipv4() } else { udp.verify_checksum(&source.into(), &destination.into()) }
        }),
        (protocol::ICMP, AddressPair::V4 { .. }) => {
            l4.len() >= ECHO_HEADER_BYTES && Icmpv4Packet::new_unchecked(l4).verify_checksum()
        }
        (protocol::ICMPV6, AddressPair::V6 { source, destination }) => {
            l4.len() >= ECHO_HEADER_BYTES && Icmpv6Packet::new_unchecked(l4).verify_checksum(&source, &destination)
        }
        _ => false,
    }
}

/// Fits `l4` to a header with these addresses, in place: ICMP echo becomes that of the new family, checksums are made
/// anew. Gives the protocol number for the new header. `None`: not TCP, UDP or ICMP echo, or cut short.
pub fn translate(protocol: u8, l4: &mut [u8], to: AddressPair) -> Option<u8> {
    let (source, destination) = to.addresses();
    match protocol {
        protocol::TCP => {
            TcpPacket::new_checked(l4).ok()?.fill_checksum(&source.into(), &destination.into());
            Some(protocol::TCP)
        }
        protocol::UDP => {
            UdpPacket::new_checked(l4).ok()?.fill_checksum(&source.into(), &destination.into());
            Some(protocol::UDP)
        }
        protocol::ICMP | protocol::ICMPV6 => translate_echo(protocol, l4, to),
        _ => None,
    }
}

fn translate_echo(from: u8, l4: &mut [u8], to: AddressPair) -> Option<u8> {
    if l4.len() < ECHO_HEADER_BYTES || l4[1] != 0 {
        return None;
    }
    let is_request = match (from, l4[0]) {
        (protocol::ICMP, ECHO_REQUEST_V4) | (protocol::ICMPV6, ECHO_REQUEST_V6) => true,
        (protocol::ICMP, ECHO_REPLY_V4) | (protocol::ICMPV6, ECHO_REPLY_V6) => false,
        _ => return None,
    };
    match to {
        AddressPair::V4 { .. } => {
            l4[0] = if is_request { ECHO_REQUEST_V4 } else { ECHO_REPLY_V4 };
            Icmpv4Packet::new_unchecked(l4).fill_checksum();
            Some(protocol::ICMP)
        }
        AddressPair::V6 { source, destination } => {
            l4[0] = if is_request { ECHO_REQUEST_V6 } else { ECHO_REPLY_V6 };
            Icmpv6Packet::new_unchecked(l4).fill_checksum(&source, &destination);
            Some(protocol::ICMPV6)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4() -> AddressPair {
        AddressPair::V4 { source: Ipv4Addr::new(192, 168, 1, 10), destination: Ipv4Addr::new(100, 64, 0, 1) }
    }

    fn v6() -> AddressPair {
        let addr = |text: &str| text.parse().unwrap();
        AddressPair::V6 { source: addr("fd69:7867:6174:1::c0a8:10a"), destination: addr("fd69:7867:6174::1") }
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut l4 = vec![0; 8];
        l4.extend_from_slice(payload);
        let len = l4.len() as u16;
        l4[..8].copy_from_slice(&[0x30, 0x39, 0, 53, (len >> 8) as u8, len as u8, 0, 0]);
        l4
    }

    /// A ping as Linux sends it, its checksum computed by hand:
    /// 0x0800 + 0x1234 + 0x0001 + 0x6162 + 0x6300 = 0xde97, inverted 0x2168.
    const PING: [u8; 11] = [8, 0, 0x21, 0x68, 0x12, 0x34, 0, 1, b'a', b'b', b'c'];

    #[test]
    fn echo_crosses_families_and_comes_back() {
        assert!(is_intact(protocol::ICMP, &PING, v4()));
        let mut l4 = PING.to_vec();
        assert_eq!(translate(protocol::ICMP, &mut l4, v6()), Some(protocol::ICMPV6));
        assert_eq!(l4[0], ECHO_REQUEST_V6);
        assert!(is_intact(protocol::ICMPV6, &l4, v6()));
        assert!(!is_intact(protocol::ICMPV6, &l4, v4()), "ICMPv6 over IPv4 is nothing");
        assert_eq!(translate(protocol::ICMPV6, &mut l4, v4()), Some(protocol::ICMP));
        assert_eq!(l4, PING);
    }

    #[test]
    fn udp_without_a_checksum_is_right_over_ipv4_only() {
        let mut l4 = udp(b"query");
        assert!(is_intact(protocol::UDP, &l4, v4()));
        assert!(!is_intact(protocol::UDP, &l4, v6()));
        assert_eq!(translate(protocol::UDP, &mut l4, v6()), Some(protocol::UDP));
        assert!(is_intact(protocol::UDP, &l4, v6()));
        l4[9] ^= 1;
        assert!(!is_intact(protocol::UDP, &l4, v6()));
        let mut long = udp(b"query");
        long.push(0);
        assert!(!is_intact(protocol::UDP, &long, v4()), "longer than it says");
    }

    #[test]
    fn what_is_no_echo_is_not_translated() {
        for (protocol, mut l4) in [
            (protocol::ICMP, vec![3, 0, 0, 0, 0, 0, 0, 0]),
            (protocol::ICMP, vec![8, 1, 0, 0, 0, 0, 0, 0]),
            (protocol::ICMP, vec![8, 0, 0, 0]),
            (protocol::ICMPV6, vec![8, 0, 0, 0, 0, 0, 0, 0]),
            (protocol::TCP, vec![0; 19]),
            (protocol::UDP, vec![0; 7]),
            (47, vec![0; 40]),
        ] {
            assert_eq!(translate(protocol, &mut l4, v6()), None, "{protocol} {l4:?}");
        }
    }

    proptest! {
        #[test]
        fn translated_is_intact_and_a_flipped_bit_is_seen(
            payload in prop::collection::vec(any::<u8>(), 0..300), bit in any::<prop::sample::Index>(), six: bool,
        ) {
            let to = if six { v6() } else { v4() };
            let mut l4 = udp(&payload);
            translate(protocol::UDP, &mut l4, to).unwrap();
            prop_assert!(is_intact(protocol::UDP, &l4, to));
            let bit = bit.index(l4.len() * 8);
            l4[bit / 8] ^= 1 << (bit % 8);
            // A checksum can be flipped to zero, "none", which is right over IPv4.
            let absent = l4[6..8] == [0, 0] && !six;
            prop_assert_eq!(is_intact(protocol::UDP, &l4, to), absent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            protocol in prop::sample::select(vec![1u8, 6, 17, 58, 47]), mut l4 in prop::collection::vec(any::<u8>(), 0..80),
            six: bool,
        ) {
            let to = if six { v6() } else { v4() };
            is_intact(protocol, &l4, to);
            if let Some(protocol) = translate(protocol, &mut l4, to) {
                // A UDP length field shorter than the bytes is left as it is.
                prop_assert!(protocol == 17 || is_intact(protocol, &l4, to));
            }
        }
    }
}
