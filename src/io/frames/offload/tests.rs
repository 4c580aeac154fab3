//! Split and join against one another, and against smoltcp's idea of valid packets.

use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use super::join::{HEADERS_BYTES, Join};
use super::split::Splitter;
use super::*;

const FIN_PSH_ACK: u8 = 0x19;

/// A packet as a card with segmentation offload would get it: no checksum but that of the IPv4 header, lengths as they are.
#[derive(Clone, Debug)]
struct Joined {
    is_v6: bool,
    tags: usize,
    protocol: u8,
    flags: u8,
    options: usize,
    sequence: u32,
    identification: u16,
    segment_bytes: u16,
    payload: Vec<u8>,
}

impl Joined {
    fn network(&self, link: Link) -> usize {
        if link == Link::Ethernet { 14 + 4 * self.tags } else { 0 }
    }

    fn transport(&self, link: Link) -> usize {
        self.network(link) + if self.is_v6 { 40 } else { 20 }
    }

    fn transport_bytes(&self) -> usize {
        if self.protocol == 6 { 20 + 4 * self.options } else { 8 }
    }

    fn header(&self, link: Link) -> Header {
        let gso_type = match (self.protocol, self.is_v6) {
            (6, false) => Header::TCP4,
            (6, true) => Header::TCP6,
            _ => Header::UDP,
        };
        Header {
            flags: Header::NEEDS_CHECKSUM,
            gso_type,
            headers_bytes: (self.transport(link) + self.transport_bytes()) as u16,
            segment_bytes: self.segment_bytes,
            checksum_start: self.transport(link) as u16,
            checksum_offset: if self.protocol == 6 { 16 } else { 6 },
        }
    }

    fn frame(&self, link: Link) -> Vec<u8> {
        let mut frame = Vec::new();
        if link == Link::Ethernet {
            frame.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
            (0..self.tags).for_each(|tag| frame.extend([0x81, 0, 0, 100 + tag as u8]));
            frame.extend(if self.is_v6 { [0x86, 0xdd] } else { [8, 0] });
        }
        let packet_bytes = self.transport_bytes() + self.payload.len();
        if self.is_v6 {
            frame.extend([0x60, 0x12, 0x34, 0x56]);
            frame.extend((packet_bytes as u16).to_be_bytes());
            frame.extend([self.protocol, 63]);
            frame.extend([[0xfd; 16], [0xfc; 16]].concat());
        } else {
            frame.extend([0x45, 2]);
            frame.extend((packet_bytes as u16 + 20).to_be_bytes());
            frame.extend(self.identification.to_be_bytes());
            frame.extend([0, 0, 61, self.protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        frame.extend([0x1f, 0x90, 0, 80]);
        if self.protocol == 6 {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend([9, 9, 9, 9, (5 + self.options as u8) << 4, self.flags, 1, 0, 0, 0, 0, 0]);
            frame.extend(vec![1; 4 * self.options]);
        } else {
            frame.extend([0; 4]);
        }
        frame.extend(&self.payload);
        frame
    }

    fn split(&self, link: Link) -> Vec<Vec<u8>> {
        split(&self.frame(link), self.header(link), link, None)
    }
}

fn split(frame: &[u8], header: Header, link: Link, tag: Option<[u8; 4]>) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(link);
    splitter.joined_mut()[..frame.len()].copy_from_slice(frame);
    assert!(splitter.start(frame.len(), header, tag));
    let mut pieces = Vec::new();
    while splitter.is_busy() {
        splitter.clear();
        while let Some(piece) = splitter.next_piece() {
            pieces.push(splitter.piece(piece).to_vec());
        }
    }
    pieces
}

/// What a receiver with another TCP/IP stack thinks of it: sequence number and payload.
fn checked(frame: &[u8], network: usize, protocol: u8) -> (u32, u8, Vec<u8>) {
    let packet = &frame[network..];
    let (source, destination, transport): (IpAddress, IpAddress, &[u8]) = match packet[0] >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).unwrap();
            assert!(ip.verify_checksum() && usize::from(ip.total_len()) == packet.len());
            (ip.src_addr().into(), ip.dst_addr().into(), &packet[20..])
        }
        _ => {
            let ip = Ipv6Packet::new_checked(packet).unwrap();
            assert_eq!(ip.total_len(), packet.len());
            (ip.src_addr().into(), ip.dst_addr().into(), &packet[40..])
        }
    };
    match protocol {
        6 => {
            let tcp = TcpPacket::new_checked(transport).unwrap();
            assert!(tcp.verify_checksum(&source, &destination), "TCP checksum");
            (tcp.seq_number().0 as u32, transport[13], tcp.payload().to_vec())
        }
        _ => {
            let udp = UdpPacket::new_checked(transport).unwrap();
            assert!(udp.checksum() != 0 && udp.verify_checksum(&source, &destination), "UDP checksum");
            assert_eq!(usize::from(udp.len()), transport.len());
            (0, 0, udp.payload().to_vec())
        }
    }
}

fn joined(protocol: u8) -> impl Strategy<Value = Joined> {
    let flags = prop_oneof![Just(0x10), Just(0x18), Just(FIN_PSH_ACK), Just(0x50)];
    let numbers = (any::<u32>(), any::<u16>(), 1..3_000u16);
    let payload = prop::collection::vec(any::<u8>(), 1..20_000);
    (any::<bool>(), 0..3usize, flags, 0..=10usize, numbers, payload).prop_map(
        move |(is_v6, tags, flags, options, (sequence, identification, segment_bytes), payload)| Joined {
            is_v6,
            tags,
            protocol,
            flags,
            options,
            sequence,
            identification,
            segment_bytes: segment_bytes.max((payload.len() / 300) as u16),
            payload,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![Just(Link::Ethernet), Just(Link::None)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn segments_are_valid_and_carry_the_whole_payload_in_order(joined in joined(6), link in link()) {
        let pieces = joined.split(link);
        let mut payload = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            let (sequence, flags, bytes) = checked(piece, joined.network(link), 6);
            prop_assert_eq!(sequence, joined.sequence.wrapping_add(payload.len() as u32));
            let is_last = number + 1 == pieces.len();
            prop_assert_eq!(flags, if is_last { joined.flags } else { joined.flags & !0x09 });
            prop_assert!(bytes.len() == usize::from(joined.segment_bytes) || is_last);
            if !joined.is_v6 {
                let at = joined.network(link) + 4;
                let identification = u16::from_be_bytes([piece[at], piece[at + 1]]);
                prop_assert_eq!(identification, joined.identification.wrapping_add(number as u16));
            }
            payload.extend(bytes);
        }
        prop_assert_eq!(payload, joined.payload);
    }

    #[test]
    fn datagrams_are_valid_and_carry_the_whole_payload_in_order(joined in joined(17), link in link()) {
        let pieces = joined.split(link);
        let payload: Vec<u8> = pieces.iter().flat_map(|piece| checked(piece, joined.network(link), 17).2).collect();
        prop_assert_eq!(payload, joined.payload);
    }

    #[test]
    fn what_was_split_is_joined_to_what_it_was(joined in joined(6), link in link()) {
        let pieces = joined.split(link);
        let mut join = Join::start(&pieces[0], link).expect("a TCP segment");
        for piece in &pieces[1..] {
            prop_assert!(join.add(piece));
        }
        let mut headers = [0; HEADERS_BYTES];
        let len = join.write_headers(&mut headers);
        let header = Header::read(*headers.first_chunk().unwrap());
        let payloads = pieces.iter().map(|piece| &piece[join.headers_bytes()..]);
        let mut frame = headers[HEADER_BYTES..len].to_vec();
        payloads.for_each(|payload| frame.extend(payload));
        if pieces.len() > 1 {
            prop_assert_eq!(header, joined.header(link));
        }
        prop_assert_eq!(split(&frame, header, link, None), pieces, "what the card makes of it");
    }

    #[test]
    fn one_changed_bit_is_never_joined(joined in joined(6), at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let pieces = Joined { segment_bytes: joined.payload.len().div_ceil(2) as u16, ..joined }.split(Link::None);
        prop_assume!(pieces.len() == 2);
        let mut other = pieces[1].clone();
        let at = at.index(other.len());
        other[at] ^= 1 << bit;
        let mut join = Join::start(&pieces[0], Link::None).unwrap();
        prop_assert!(!join.add(&other), "byte {at}");
    }

    #[test]
    fn nonsense_is_refused_or_split_and_never_a_panic(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
        words in any::<[u16; 4]>(), gso_type in 0..6u8, flags in 0..2u8, tag in any::<Option<[u8; 4]>>(), link in link(),
    ) {
        let mut frame = frame;
        if let Some(first) = frame.first_mut() { *first = version; }
        let header = Header {
            flags, gso_type, headers_bytes: words[0], segment_bytes: words[1] % 100, checksum_start: words[2] % 210,
            checksum_offset: words[3] % 20,
        };
        let mut splitter = Splitter::new(link);
        splitter.joined_mut()[..frame.len()].copy_from_slice(&frame);
        if splitter.start(frame.len(), header, tag) {
            while splitter.is_busy() {
                splitter.clear();
                while splitter.next_piece().is_some() {}
            }
        }
        if let Some(mut join) = Join::start(&frame, link) {
            let _ = join.add(&frame);
        }
    }

    #[test]
    fn the_sum_is_that_of_words(bytes in prop::collection::vec(any::<u8>(), 0..3_000), first in 0..0x1_0000u64) {
        let mut slow = first;
        for two in bytes.chunks(2) {
            slow += u64::from(u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or(0)]));
        }
        let (fast, slow) = (checksum::fold(checksum::add(first, &bytes)), checksum::fold(slow));
        prop_assert!(fast == slow || (fast % 0xffff == 0 && slow % 0xffff == 0), "{fast} {slow}");
    }
}

fn example() -> Joined {
    Joined {
        is_v6: false,
        tags: 0,
        protocol: 6,
        flags: 0x18,
        options: 3,
        sequence: u32::MAX - 1_000,
        identification: u16::MAX,
        segment_bytes: 1_000,
        payload: (0..3_500u32).map(|at| (at / 7) as u8).collect(),
    }
}

#[test]
fn a_tag_that_was_taken_out_is_put_back_into_every_segment() {
    let inner = example();
    let tagged = Joined { tags: 1, ..example() };
    let link = Link::Ethernet;
    let pieces = split(&inner.frame(link), inner.header(link), link, Some([0x81, 0, 0, 100]));
    assert_eq!(pieces, tagged.split(link));
}

#[test]
fn a_partial_checksum_is_completed_and_zero_is_written_as_all_ones() {
    let joined = Joined { protocol: 17, payload: vec![0; 100], segment_bytes: 100, ..example() };
    let whole = joined.split(Link::None).remove(0);
    let mut partial = whole.clone();
    // As the kernel leaves it: the sum of the pseudo-header in the field.
    let pseudo = checksum::fold(checksum::add(17 + 108, &[10, 0, 0, 1, 10, 0, 0, 2]));
    partial[26..28].copy_from_slice(&pseudo.to_be_bytes());
    let header = Header { flags: Header::NEEDS_CHECKSUM, checksum_start: 20, checksum_offset: 6, ..Header::default() };
    assert!(header.complete(&mut partial));
    assert_eq!(partial, whole);
    // A payload with which the sum comes to zero.
    let sum = u16::from_be_bytes([whole[26], whole[27]]);
    partial[28..30].copy_from_slice(&sum.to_be_bytes());
    partial[26..28].copy_from_slice(&pseudo.to_be_bytes());
    assert!(header.complete(&mut partial));
    assert_eq!(partial[26..28], [0xff, 0xff]);
    assert!(!Header { checksum_start: 125, ..header }.complete(&mut partial), "beyond the frame");
}

#[test]
fn what_is_no_following_segment_is_not_joined() {
    let pieces = example().split(Link::None);
    let other_flow = Joined { tags: 0, options: 4, ..example() }.split(Link::None);
    let add = |first: &[u8], second: &[u8]| Join::start(first, Link::None).is_some_and(|mut join| join.add(second));
    assert!(add(&pieces[0], &pieces[1]) && add(&pieces[2], &pieces[3]));
    assert!(!add(&pieces[0], &pieces[2]), "a gap");
    assert!(!add(&pieces[1], &pieces[0]), "the wrong way around");
    assert!(!add(&pieces[3], &pieces[3]), "behind the pushed end");
    assert!(!add(&pieces[0], &other_flow[1]), "other options");
    let flagged = |flags| Joined { flags, payload: vec![1; 100], ..example() }.split(Link::None).remove(0);
    for (flags, what) in [(0x12, "SYN"), (0x14, "RST"), (0x30, "URG"), (0x90, "CWR"), (0x00, "no ACK")] {
        assert!(Join::start(&flagged(flags), Link::None).is_none(), "{what}");
    }
    let empty = Joined { payload: vec![1], ..example() }.split(Link::None).remove(0);
    assert!(Join::start(&empty[..empty.len() - 1], Link::None).is_none(), "shorter than it says");
}

#[test]
fn no_more_is_joined_than_one_packet_can_hold() {
    let joined = Joined { segment_bytes: 1_400, payload: vec![7; 65_535 - 20 - 32], ..example() };
    let pieces = joined.split(Link::None);
    let mut join = Join::start(&pieces[0], Link::None).unwrap();
    assert!(pieces[1..].iter().all(|piece| join.add(piece)), "exactly full");
    let longer = Joined { segment_bytes: 1_400, payload: vec![7; 1_400 * 47], flags: 0x10, ..example() };
    let frame = |number: u32| {
        let sequence = longer.sequence.wrapping_add(number * 1_400);
        let identification = longer.identification.wrapping_add(number as u16);
        Joined { sequence, identification, payload: vec![7; 1_400], ..longer.clone() }.split(Link::None).remove(0)
    };
    let mut join = Join::start(&frame(0), Link::None).unwrap();
    let added = (1..47).take_while(|number| join.add(&frame(*number))).count();
    assert_eq!(added, (65_535 - 52) / 1_400 - 1);
}

#[test]
fn a_frame_that_gives_more_than_there_is_room_for_is_taken_apart_in_turns() {
    let joined = Joined { segment_bytes: 8, payload: vec![7; 60_000], ..example() };
    let mut splitter = Splitter::new(Link::None);
    let frame = joined.frame(Link::None);
    splitter.joined_mut()[..frame.len()].copy_from_slice(&frame);
    assert!(splitter.start(frame.len(), joined.header(Link::None), None));
    let (mut turns, mut pieces) = (0, 0);
    while splitter.is_busy() {
        splitter.clear();
        turns += 1;
        pieces += std::iter::from_fn(|| splitter.next_piece()).count();
    }
    assert_eq!(pieces, 60_000 / 8);
    assert!(turns > 1);
}
