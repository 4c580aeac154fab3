//! Headers of outer datagrams: Ethernet, IPv4 or IPv6, and UDP. Read and checked as the kernel would, and written.
//!
//! Checksums of UDP are computed for IPv4, too. RFC 768 would let us leave them out, and what tunnels carry is authenticated; but the kernel of the
//! other end joins (GRO) no datagrams that have none, and translators to IPv6 drop them (RFC 7915 section 4.5), so leaving them out would cost others
//! more than it saves us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::io::frames::offload::checksum;
use crate::io::netlink::ways::Way;
use crate::net::Mac;

pub const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
/// Of the longest headers.
const HEADERS_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + UDP_BYTES;
const IPV4_TYPE: [u8; 2] = [0x08, 0x00];
const IPV6_TYPE: [u8; 2] = [0x86, 0xdd];
const UDP: u8 = 17;
const DONT_FRAGMENT: u8 = 0x40;
/// More fragments, or an offset.
const FRAGMENT: u16 = 0x3fff;

/// A received datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    pub ecn: u8,
    /// Where in the frame.
    pub payload: Range<usize>,
}

/// `None`: it is no whole, undamaged datagram of one to one. `is_veth`: the other end is a kernel of this machine, which leaves checksums
/// to a card that is not there: what stands in their place is the sum of the pseudo-header.
pub fn parse(frame: &[u8], is_veth: bool) -> Option<Received> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let (source, destination, ecn, header_bytes, end): (IpAddr, IpAddr, u8, usize, usize) = match *packet.first()? {
        0x45 => {
            let header = packet.first_chunk::<IPV4_BYTES>()?;
            let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let is_fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT != 0;
            if is_fragment || header[9] != UDP || checksum::finish(checksum::add(0, header)) != 0 {
                return None;
            }
            let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
            let source = address(12);
            if source.is_broadcast() || source.octets()[0] == 0 {
                return None;
            }
            (source.into(), address(16).into(), header[1] & 3, IPV4_BYTES, total)
        }
        first if first >> 4 == 6 => {
            let header = packet.first_chunk::<IPV6_BYTES>()?;
            if header[6] != UDP {
                return None;
            }
            let address = |at: usize| Some(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?));
            let end = IPV6_BYTES + usize::from(u16::from_be_bytes([header[4], header[5]]));
            // The first belong to one link, which is not told; the second are no addresses on the wire (RFC 4942 section 2.2).
            if address(8)?.is_unicast_link_local() || address(8)?.to_ipv4_mapped().is_some() {
                return None;
            }
            (address(8)?.into(), address(24)?.into(), header[1] >> 4 & 3, IPV6_BYTES, end)
        }
        _ => return None,
    };
    if source.is_multicast() || source.is_loopback() || source.is_unspecified() {
        return None;
    }
    let transport = packet.get(header_bytes..end)?;
    let udp = transport.first_chunk::<UDP_BYTES>()?;
    let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let datagram = transport.get(..usize::from(word(4))).filter(|datagram| datagram.len() >= UDP_BYTES)?;
    let addresses = &packet[if header_bytes == IPV4_BYTES { 12..20 } else { 8..40 }];
    if !is_undamaged(addresses, datagram, word(6), is_veth) {
        return None;
    }
    let begin = ETHERNET_BYTES + header_bytes;
    let payload = begin + UDP_BYTES..begin + datagram.len();
    Some(Received { source, destination, source_port: word(0), destination_port: word(2), ecn, payload })
}

fn is_undamaged(addresses: &[u8], datagram: &[u8], said: u16, is_veth: bool) -> bool {
    if said == 0 {
        // None was computed, which IPv6 does not allow (RFC 8200 section 8.1).
        return addresses.len() == 8;
    }
    let pseudo = pseudo_header(checksum::add(0, addresses), datagram.len());
    is_veth && checksum::fold(pseudo) == said || checksum::finish(checksum::add(pseudo, datagram)) == 0
}

fn pseudo_header(addresses: u64, udp_bytes: usize) -> u64 {
    addresses + u64::from(UDP) + udp_bytes as u64
}

/// What all datagrams of one way have in common, ready to be copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    bytes: [u8; HEADERS_BYTES],
    len: usize,
    /// Of the addresses alone.
    sum: u64,
}

/// What the datagrams of one run have in common beside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    pub source_port: u16,
    pub destination_port: u16,
    pub traffic_class: u8,
    /// IPv4 goes without DF; then each packet needs a number of its own.
    pub may_fragment: bool,
}

impl Template {
    /// `None`: source and remote are of different IP versions.
    pub fn new(way: &Way, remote: IpAddr) -> Option<Self> {
        let mut bytes = [0; HEADERS_BYTES];
        let (Mac(to), Mac(from)) = (way.next_hop_mac, way.device_mac);
        bytes[..6].copy_from_slice(&to);
        bytes[6..12].copy_from_slice(&from);
        let packet = &mut bytes[ETHERNET_BYTES..];
        let (kind, header_bytes, addresses) = match (way.source, remote) {
            (IpAddr::V4(source), IpAddr::V4(remote)) => {
                packet[0] = 0x45;
                packet[8] = way.hop_limit;
                packet[9] = UDP;
                packet[12..16].copy_from_slice(&source.octets());
                packet[16..20].copy_from_slice(&remote.octets());
                (IPV4_TYPE, IPV4_BYTES, 12..20)
            }
            (IpAddr::V6(source), IpAddr::V6(remote)) => {
                packet[0] = 0x60;
                packet[6] = UDP;
                packet[7] = way.hop_limit;
                packet[8..24].copy_from_slice(&source.octets());
                packet[24..40].copy_from_slice(&remote.octets());
                (IPV6_TYPE, IPV6_BYTES, 8..40)
            }
            _ => return None,
        };
        let sum = checksum::add(0, &packet[addresses]);
        bytes[12..14].copy_from_slice(&kind);
        Some(Template { bytes, len: ETHERNET_BYTES + header_bytes + UDP_BYTES, sum })
    }

    /// IP and UDP, without Ethernet.
    pub fn overhead_bytes(&self) -> usize {
        self.len - ETHERNET_BYTES
    }

    /// With what a run has.
    pub fn with(mut self, fields: Fields) -> Self {
        let udp = self.len - UDP_BYTES;
        self.bytes[udp..udp + 2].copy_from_slice(&fields.source_port.to_be_bytes());
        self.bytes[udp + 2..udp + 4].copy_from_slice(&fields.destination_port.to_be_bytes());
        let packet = &mut self.bytes[ETHERNET_BYTES..];
        if packet[0] == 0x45 {
            packet[1] = fields.traffic_class;
            packet[6] = if fields.may_fragment { 0 } else { DONT_FRAGMENT };
        } else {
            packet[0] = 0x60 | fields.traffic_class >> 4;
            packet[1] = fields.traffic_class << 4;
        }
        self
    }

    /// The headers of one datagram. `identification`: where it may be cut; others have none (RFC 6864 section 4.1).
    #[inline]
    pub fn finish(&mut self, payload: &[u8], identification: u16) -> &[u8] {
        let udp = self.len - UDP_BYTES;
        let udp_bytes = UDP_BYTES + payload.len();
        let packet = &mut self.bytes[ETHERNET_BYTES..];
        if packet[0] == 0x45 {
            packet[2..4].copy_from_slice(&((IPV4_BYTES + udp_bytes) as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&identification.to_be_bytes());
            packet[10..12].copy_from_slice(&[0; 2]);
            let sum = checksum::finish(checksum::add(0, &packet[..IPV4_BYTES]));
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            packet[4..6].copy_from_slice(&(udp_bytes as u16).to_be_bytes());
        }
        self.bytes[udp + 4..udp + 6].copy_from_slice(&(udp_bytes as u16).to_be_bytes());
        self.bytes[udp + 6..udp + 8].copy_from_slice(&[0; 2]);
        let headers = checksum::add(pseudo_header(self.sum, udp_bytes), &self.bytes[udp..self.len]);
        let sum = match checksum::finish(checksum::add(headers, payload)) {
            0 => 0xffff, // RFC 768: 0 would mean none
            sum => sum,
        };
        self.bytes[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, UdpPacket};

    use super::*;

    const V4: [&str; 2] = ["192.0.2.1", "203.0.113.9"];
    const V6: [&str; 2] = ["2001:db8::1", "2001:db8:9::9"];

    fn way(source: &str) -> Way {
        let (device_mac, next_hop_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        Way { device: 7, device_mac, next_hop_mac, source: source.parse().unwrap(), hop_limit: 61, mtu_bytes: 1500 }
    }

    fn frame([source, remote]: [&str; 2], fields: Fields, payload: &[u8], identification: u16) -> Vec<u8> {
        let mut template = Template::new(&way(source), remote.parse().unwrap()).unwrap().with(fields);
        let headers = template.finish(payload, identification);
        [headers, payload].concat()
    }

    const FIELDS: Fields =
        Fields { source_port: 51820, destination_port: 4500, traffic_class: 0xb9, may_fragment: false };

    fn received([source, destination]: [&str; 2], ecn: u8, payload: Range<usize>) -> Received {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Received { source, destination, source_port: 51820, destination_port: 4500, ecn, payload }
    }

    #[test]
    fn what_is_written_is_right_to_another_reader() {
        for len in [0, 1, 32, 1420] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8 | 4).collect();
            let frame = frame(V4, FIELDS, &payload, 0);
            assert_eq!(frame[..14], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
            let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            assert!(ip.verify_checksum() && ip.dont_frag() && !ip.more_frags());
            assert_eq!((ip.hop_limit(), ip.dscp() << 2 | ip.ecn(), ip.ident()), (61, 0xb9, 0));
            let (source, destination) = (ip.src_addr(), ip.dst_addr());
            assert_eq!([source, destination].map(|a| a.to_string()), V4.map(str::to_owned));
            let udp = UdpPacket::new_checked(ip.payload()).unwrap();
            assert!(udp.verify_checksum(&IpAddress::Ipv4(source), &IpAddress::Ipv4(destination)));
            assert_eq!((udp.src_port(), udp.dst_port(), udp.payload()), (51820, 4500, &payload[..]));

            let frame = self::frame(V6, FIELDS, &payload, 0);
            assert_eq!(frame[12..14], IPV6_TYPE);
            let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
            assert_eq!((ip.hop_limit(), ip.traffic_class(), ip.flow_label()), (61, 0xb9, 0));
            let udp = UdpPacket::new_checked(ip.payload()).unwrap();
            assert!(udp.verify_checksum(&IpAddress::Ipv6(ip.src_addr()), &IpAddress::Ipv6(ip.dst_addr())));
            assert_eq!(udp.payload(), &payload[..]);
        }
        let cut = frame(V4, Fields { may_fragment: true, ..FIELDS }, &[7; 9], 0x1234);
        let ip = Ipv4Packet::new_checked(&cut[14..]).unwrap();
        assert!(ip.verify_checksum() && !ip.dont_frag());
        assert_eq!(ip.ident(), 0x1234);
    }

    #[test]
    fn a_checksum_that_comes_out_as_none_is_written_otherwise() {
        let payload = |word: u16| word.to_be_bytes();
        let found = (0..=u16::MAX).find(|word| frame(V4, FIELDS, &payload(*word), 0)[40..42] == [0xff; 2]).unwrap();
        assert!(parse(&frame(V4, FIELDS, &payload(found), 0), false).is_some());
    }

    #[test]
    fn what_is_written_is_read_and_padding_is_no_payload() {
        for (ends, begin) in [(V4, 42), (V6, 62)] {
            let mut frame = frame(ends, FIELDS, &[9; 10], 0);
            assert_eq!(parse(&frame, false), Some(received(ends, 1, begin..begin + 10)));
            frame.extend([0xee; 9]);
            assert_eq!(parse(&frame, false), Some(received(ends, 1, begin..begin + 10)));
        }
    }

    #[test]
    fn damage_anywhere_is_found() {
        for ends in [V4, V6] {
            let whole = frame(ends, FIELDS, &[9; 33], 0);
            let good = parse(&whole, false).unwrap();
            for at in ETHERNET_BYTES..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                // Of IPv6 traffic class, flow label and hop limit are covered by nothing; they are no concern of the payload's.
                let is_covered = ends == V4 || ![14, 15, 16, 17, 21].contains(&at);
                let read = parse(&damaged, false);
                assert!(read.is_none() || !is_covered && read.unwrap().payload == good.payload, "{at}");
            }
            for len in 0..whole.len() {
                assert_eq!(parse(&whole[..len], false), None, "{len} bytes");
            }
        }
    }

    #[test]
    fn a_checksum_left_undone_is_taken_on_veth_alone_and_none_at_all_in_ipv4_alone() {
        for ends in [V4, V6] {
            let mut frame = frame(ends, FIELDS, &[9; 33], 0);
            let udp = frame.len() - 33 - UDP_BYTES;
            let addresses = if ends == V4 { 26..34 } else { 22..54 };
            let pseudo = checksum::fold(pseudo_header(checksum::add(0, &frame[addresses]), 41));
            frame[udp + 6..udp + 8].copy_from_slice(&pseudo.to_be_bytes());
            assert_eq!((parse(&frame, true).is_some(), parse(&frame, false).is_some()), (true, false));
            frame[udp + 6..udp + 8].copy_from_slice(&[0; 2]);
            assert_eq!(parse(&frame, false).is_some(), ends == V4);
        }
    }

    #[test]
    fn senders_that_cannot_be_are_none() {
        for source in ["224.0.0.1", "127.0.0.1", "0.0.0.0", "0.1.2.3", "255.255.255.255"] {
            assert_eq!(parse(&frame([source, V4[1]], FIELDS, &[9; 33], 0), false), None, "{source}");
        }
        for source in ["ff02::1", "::1", "::", "fe80::1", "febf::1", "::ffff:192.0.2.7"] {
            assert_eq!(parse(&frame([source, V6[1]], FIELDS, &[9; 33], 0), false), None, "{source}");
        }
        assert_eq!(Template::new(&way(V4[0]), V6[1].parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_frame_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..120), first: u8, is_veth: bool) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(ETHERNET_BYTES) {
                *byte = [0x45, 0x60, first][usize::from(first) % 3];
            }
            if let Some(read) = parse(&bytes, is_veth) {
                prop_assert!(read.payload.end <= bytes.len());
            }
        }
    }
}
