//! Completes checksums that a kernel of this same machine left for "the network card" to do.
//!
//! On a veth pair no card ever does them: TCP and UDP of the other end arrive with the sum of the pseudo-header alone in the checksum's
//! place, and AF_XDP, unlike AF_PACKET, does not tell which frames these are. That value tells: a finished checksum equals it for
//! one packet in 65,536, and to compute that one anew gives what is there already.

use super::super::offload::{Layout, Link, checksum};

const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers of IPv6 that are looked behind.
const MAX_EXTENSIONS: usize = 4;

/// Leaves everything alone that is not a whole TCP segment or UDP datagram with the sum of the pseudo-header in it.
pub fn complete(frame: &mut [u8]) {
    let Some((layout, end)) = find(frame) else { return };
    let Layout { transport, protocol, .. } = layout;
    let place = transport + if protocol == TCP { 16 } else { 6 };
    let Some(field) = frame[..end].get(place..place + 2) else { return };
    let pseudo_header = checksum::fold(layout.pseudo_sum(frame, protocol, end - transport));
    if u16::from_be_bytes([field[0], field[1]]) != pseudo_header {
        return;
    }
    let checksum = match checksum::finish(checksum::add(0, &frame[transport..end])) {
        0 if protocol == UDP => 0xffff, // RFC 768: 0 would mean none
        checksum => checksum,
    };
    frame[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Of a segment that is all there, behind options of IPv6, with where it ends.
fn find(frame: &[u8]) -> Option<(Layout, usize)> {
    let layout = Layout::of(frame, Link::Ethernet)?;
    let end = layout.network + layout.packet_bytes(frame);
    let is_fragment = !layout.is_v6 && frame[layout.network + 6] & 0x3f | frame[layout.network + 7] != 0;
    let layout = if layout.is_v6 { behind_options(frame, layout)? } else { layout };
    let is_whole = layout.transport <= end && end <= frame.len() && !is_fragment;
    (is_whole && [TCP, UDP].contains(&layout.protocol)).then_some((layout, end))
}

fn behind_options(frame: &[u8], mut layout: Layout) -> Option<Layout> {
    for _ in 0..MAX_EXTENSIONS {
        if ![HOP_BY_HOP, DESTINATION_OPTIONS].contains(&layout.protocol) {
            break;
        }
        let extension = frame.get(layout.transport..layout.transport + 2)?;
        layout.protocol = extension[0];
        layout.transport += 8 + usize::from(extension[1]) * 8;
    }
    Some(layout)
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
                place[..2].copy_from_slice(&[[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8]][kind]);
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
