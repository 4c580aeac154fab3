//! Completes checksums that a kernel of this same machine left for "the network card" to do.
//!
//! On a veth pair no card ever does them: TCP and UDP of the other end arrive with the sum of the pseudo-header alone in the checksum's
//! place, and AF_XDP, unlike AF_PACKET, does not tell which frames these are. That value tells: a finished checksum equals it for
//! one packet in 65,536, and to compute that one anew gives what is there already.

use super::super::offload::checksum;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 2] = [0x81, 0x00];
const SERVICE_VLAN: [u8; 2] = [0x88, 0xa8];
const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers of IPv6 that are looked behind.
const MAX_EXTENSIONS: usize = 4;

/// Leaves everything alone that is not a whole TCP segment or UDP datagram with the sum of the pseudo-header in it.
pub fn complete(frame: &mut [u8]) {
    let Some(segment) = find(frame) else { return };
    let Segment { start, end, protocol, addresses_sum } = segment;
    let bytes = &mut frame[start..end];
    let place = if protocol == TCP { 16 } else { 6 };
    let Some(field) = bytes.get(place..place + 2) else { return };
    let pseudo_header = checksum::fold(addresses_sum + u64::from(protocol) + bytes.len() as u64);
    if u16::from_be_bytes([field[0], field[1]]) != pseudo_header {
        return;
    }
    let checksum = match checksum::finish(checksum::add(0, bytes)) {
        0 if protocol == UDP => 0xffff, // RFC 768: 0 would mean none
        checksum => checksum,
    };
    bytes[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

struct Segment {
    start: usize,
    end: usize,
    protocol: u8,
    /// Of source and destination.
    addresses_sum: u64,
}

fn find(frame: &[u8]) -> Option<Segment> {
    let mut at = 12;
    while [VLAN, SERVICE_VLAN].contains(frame.get(at..at + 2)?.first_chunk()?) && at <= 16 {
        at += 4;
    }
    let start = at + 2;
    let segment = match *frame.get(at..start)?.first_chunk()? {
        IPV4 => find_in_ipv4(frame.get(start..)?)?,
        IPV6 => find_in_ipv6(frame.get(start..)?)?,
        _ => return None,
    };
    Some(Segment { start: start + segment.start, end: start + segment.end, ..segment })
}

fn find_in_ipv4(packet: &[u8]) -> Option<Segment> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let (start, end) = (usize::from(header[0] & 15) * 4, number(header, 2));
    let is_fragment = number(header, 6) & 0x3fff != 0;
    let is_whole = header[0] >> 4 == 4 && start >= 20 && start <= end && end <= packet.len();
    let protocol = header[9];
    (is_whole && !is_fragment && [TCP, UDP].contains(&protocol)).then(|| Segment {
        start,
        end,
        protocol,
        addresses_sum: checksum::add(0, &header[12..20]),
    })
}

fn find_in_ipv6(packet: &[u8]) -> Option<Segment> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let end = 40 + number(header, 4);
    if header[0] >> 4 != 6 || end > packet.len() {
        return None;
    }
    let (mut protocol, mut start) = (header[6], 40);
    for _ in 0..MAX_EXTENSIONS {
        if ![HOP_BY_HOP, DESTINATION_OPTIONS].contains(&protocol) {
            break;
        }
        let extension = packet.get(start..start + 2)?;
        protocol = extension[0];
        start += 8 + usize::from(extension[1]) * 8;
    }
    let is_known = [TCP, UDP].contains(&protocol) && start <= end;
    is_known.then(|| Segment { start, end, protocol, addresses_sum: checksum::add(0, &header[8..40]) })
}

fn number(header: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([header[at], header[at + 1]]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Address, Ipv6Address, TcpPacket, UdpPacket};

    use super::*;

    const V4: [IpAddress; 2] =
        [IpAddress::Ipv4(Ipv4Address::new(10, 1, 2, 3)), IpAddress::Ipv4(Ipv4Address::new(192, 168, 250, 9))];
    const V6: [IpAddress; 2] = [
        IpAddress::Ipv6(Ipv6Address::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 1)),
        IpAddress::Ipv6(Ipv6Address::new(0xfd00, 1, 2, 3, 4, 5, 6, 7)),
    ];

    /// A frame as a kernel passes it to a card that computes checksums, and the one with its checksum right (by smoltcp).
    fn unfinished_and_right(tags: &[u8], ends: [IpAddress; 2], protocol: u8, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let header_len = if protocol == TCP { 20 } else { 8 };
        let mut segment = vec![0; header_len];
        segment.extend_from_slice(payload);
        let [source, destination] = ends;
        match protocol {
            TCP => TcpPacket::new_unchecked(&mut segment).set_header_len(20),
            _ => UdpPacket::new_unchecked(&mut segment).set_len((8 + payload.len()) as u16),
        }
        let mut right = segment.clone();
        match protocol {
            TCP => TcpPacket::new_unchecked(&mut right).fill_checksum(&source, &destination),
            _ => UdpPacket::new_unchecked(&mut right).fill_checksum(&source, &destination),
        }
        let place = if protocol == TCP { 16 } else { 6 };
        let pseudo = smoltcp::wire::checksum::pseudo_header(
            &source,
            &destination,
            IpProtocol::from(protocol),
            segment.len() as u32,
        );
        segment[place..place + 2].copy_from_slice(&pseudo.to_be_bytes());
        let headers = headers(tags, ends, protocol, segment.len());
        ([headers.clone(), segment].concat(), [headers, right].concat())
    }

    fn headers(tags: &[u8], [source, destination]: [IpAddress; 2], protocol: u8, len: usize) -> Vec<u8> {
        let mut frame = [&[2; 12], tags].concat();
        match (source, destination) {
            (IpAddress::Ipv4(source), IpAddress::Ipv4(destination)) => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend(((20 + len) as u16).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend(source.octets().iter().chain(&destination.octets()));
            }
            (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((len as u16).to_be_bytes());
                frame.extend([protocol, 64]);
                frame.extend(source.octets().iter().chain(&destination.octets()));
            }
            _ => unreachable!(),
        }
        frame
    }

    proptest! {
        #[test]
        fn an_unfinished_checksum_is_completed_and_a_finished_one_left(
            payload in proptest::collection::vec(any::<u8>(), 0..1500),
            is_v6: bool,
            is_tcp: bool,
            tags in prop_oneof![
                Just(vec![]), Just(vec![0x81, 0, 0, 5]), Just(vec![0x88, 0xa8, 0, 7, 0x81, 0, 0, 5])
            ],
            padding in 0..20usize,
        ) {
            let ends = if is_v6 { V6 } else { V4 };
            let protocol = if is_tcp { TCP } else { UDP };
            let (mut frame, mut right) = unfinished_and_right(&tags, ends, protocol, &payload);
            frame.resize(frame.len() + padding, 0);
            right.resize(right.len() + padding, 0);
            complete(&mut frame);
            prop_assert_eq!(&frame, &right);
            complete(&mut frame);
            prop_assert_eq!(&frame, &right, "once more");
        }

        #[test]
        fn nothing_panics(mut frame in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..4usize, first: u8) {
            if let Some(place) = frame.get_mut(12..15) {
                place[..2].copy_from_slice(&[IPV4, IPV6, VLAN, SERVICE_VLAN][kind]);
                place[2] = first;
            }
            complete(&mut frame);
        }
    }

    #[test]
    fn options_of_ipv6_are_looked_behind() {
        let (mut frame, right) = unfinished_and_right(&[], V6, UDP, b"behind options");
        let with_options = |frame: &[u8]| {
            let mut longer = frame.to_vec();
            longer.splice(54..54, [UDP, 0, 1, 4, 0, 0, 0, 0]);
            longer[14 + 5] += 8;
            longer[14 + 6] = DESTINATION_OPTIONS;
            longer
        };
        frame = with_options(&frame);
        complete(&mut frame);
        assert_eq!(frame, with_options(&right));
    }

    #[test]
    fn fragments_and_wrong_checksums_are_left_alone() {
        let (unfinished, right) = unfinished_and_right(&[], V4, UDP, b"payload");
        let mut fragment = unfinished;
        fragment[14 + 6] = 0x20; // more fragments
        let mut wrong = right;
        wrong[14 + 20 + 6] ^= 1;
        for frame in [fragment, wrong] {
            let mut after = frame.clone();
            complete(&mut after);
            assert_eq!(after, frame);
        }
    }
}
