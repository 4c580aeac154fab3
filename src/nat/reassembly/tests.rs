//! Every way in which fragments can come, held against what the RFCs say of it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::packet::reassembled::MAX_DATAGRAM_BYTES;
use crate::wire::{fragment, headers, ipv4};

mod bounds;
mod property;

const A: RealmId = RealmId(1);
const B: RealmId = RealmId(2);
const TUNNEL: TunnelId = TunnelId(7);
const START: Timestamp = Timestamp::from_secs(100);
const LIMITS: Limits =
    Limits { bytes: 4 << 20, bytes_per_realm: 1 << 20, datagrams_per_realm: 100, fragments_per_datagram: 64 };

/// What a fragment says, and what it carries.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Piece {
    v6: bool,
    protocol: u8,
    identification: u32,
    offset: usize,
    more: bool,
    /// DF, and the ECN bits.
    dont_fragment: bool,
    ecn: u8,
    payload: Vec<u8>,
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        if self.v6 { self.ipv6() } else { self.ipv4() }
    }

    fn ipv4(&self) -> Vec<u8> {
        let mut header = [0; 20];
        let (source, destination) = (Ipv4Addr::new(192, 168, 1, 10), Ipv4Addr::new(100, 64, 2, 20));
        ipv4::emit(&mut header, self.payload.len(), 64, self.protocol, source, destination);
        let flags = u16::from(self.dont_fragment) << 14 | u16::from(self.more) << 13 | (self.offset / 8) as u16;
        header[1] |= self.ecn;
        header[4..6].copy_from_slice(&(self.identification as u16).to_be_bytes());
        header[6..8].copy_from_slice(&flags.to_be_bytes());
        ipv4::renew_checksum(&mut header);
        [&header[..], &self.payload].concat()
    }

    fn ipv6(&self) -> Vec<u8> {
        let mut header = [0; 40];
        let (source, destination) = (Ipv6Addr::from_bits(0xa), Ipv6Addr::from_bits(0xb));
        ipv6::emit(&mut header, 8 + self.payload.len(), 64, 44, source, destination);
        header[1] |= self.ecn << 4;
        let word = (self.offset as u16 | u16::from(self.more)).to_be_bytes();
        let mut extension = [self.protocol, 0, word[0], word[1], 0, 0, 0, 0];
        extension[4..].copy_from_slice(&self.identification.to_be_bytes());
        [&header[..], &extension, &self.payload].concat()
    }
}

fn piece(v6: bool, offset: usize, more: bool, payload: &[u8]) -> Piece {
    let payload = payload.to_vec();
    Piece { v6, protocol: protocol::UDP, identification: 77, offset, more, dont_fragment: false, ecn: 0, payload }
}

/// A UDP message (ports and length in front) of `len` bytes.
fn message(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

/// `message` cut at these places.
fn cut(v6: bool, message: &[u8], places: &[usize]) -> Vec<Piece> {
    let ends = places.iter().copied().chain([message.len()]);
    let starts = [0].into_iter().chain(places.iter().copied());
    starts.zip(ends).map(|(start, end)| piece(v6, start, end < message.len(), &message[start..end])).collect()
}

struct Bench {
    reassembler: Reassembler,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: Limits) -> Self {
        Bench { reassembler: Reassembler::new(limits, 1), now: START }
    }

    fn send_to(&mut self, realm: RealmId, piece: &Piece) -> Outcome {
        self.send_bytes(realm, &piece.bytes())
    }

    fn send_bytes(&mut self, realm: RealmId, bytes: &[u8]) -> Outcome {
        let fragment = fragment::parse(bytes).expect("a fragment");
        let outcome = self.reassembler.handle_fragment(realm, TUNNEL, &fragment, bytes, self.now);
        let limits = self.reassembler.limits;
        assert!(self.reassembler.bytes() <= limits.bytes);
        assert!(self.reassembler.shares.values().all(|share| share.bytes <= limits.bytes_per_realm));
        outcome
    }

    fn send(&mut self, piece: &Piece) -> Outcome {
        self.send_to(A, piece)
    }

    fn send_all(&mut self, pieces: &[Piece]) -> Vec<Outcome> {
        pieces.iter().map(|piece| self.send(piece)).collect()
    }

    fn whole(&mut self) -> Option<(Whole, Vec<u8>)> {
        let mut out = vec![0; MAX_DATAGRAM_BYTES];
        let whole = self.reassembler.poll_whole(&mut out)?;
        out.truncate(whole.len);
        Some((whole, out))
    }

    /// The whole datagram's message behind its headers, and those as they are read.
    fn expect_whole(&mut self) -> (headers::Headers, Vec<u8>) {
        let (_, bytes) = self.whole().expect("a whole datagram");
        let headers = headers::parse(&bytes).unwrap_or_else(|error| panic!("{error:?}: {bytes:02x?}"));
        assert_eq!(headers.total_bytes, bytes.len());
        if !headers.is_v6() {
            assert_eq!(checksum::sum(&bytes[..headers.transport_offset]), 0xffff);
        }
        (headers, bytes[headers.transport_offset..].to_vec())
    }

    fn losses(&mut self) -> Vec<(RealmId, DropReason, usize)> {
        std::iter::from_fn(|| self.reassembler.poll_loss()).map(|l| (l.realm, l.reason, l.fragments)).collect()
    }

    fn expect_empty(&mut self) {
        assert_eq!(self.whole(), None);
        assert_eq!((self.reassembler.datagrams(), self.reassembler.bytes()), (0, 0));
        assert!(self.reassembler.shares.is_empty() && self.reassembler.deadlines.is_empty());
    }
}

use Outcome::{Dropped, Kept, Whole as Complete};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

#[test]
fn in_any_order_they_make_the_datagram_that_was_cut() {
    for v6 in [false, true] {
        let message = message(1003);
        let pieces = cut(v6, &message, &[400, 808]);
        for order in ORDERS {
            let mut bench = Bench::new();
            let outcomes = order.map(|at| bench.send(&pieces[at]));
            assert_eq!(outcomes, [Kept, Kept, Complete]);
            let (headers, got) = bench.expect_whole();
            assert_eq!((headers.is_v6(), headers.protocol, got), (v6, protocol::UDP, message.clone()));
            assert_eq!(bench.losses(), []);
            bench.expect_empty();
        }
    }
}

#[test]
fn the_largest_fragment_the_identification_and_the_last_tunnel_are_remembered() {
    let mut bench = Bench::new();
    bench.send_all(&cut(true, &message(1003), &[400, 808]));
    let (whole, _) = bench.whole().unwrap();
    assert_eq!((whole.realm, whole.tunnel, whole.fragments), (A, TUNNEL, 3));
    assert_eq!(whole.reassembled, Reassembled { identification: 77, largest_payload_bytes: 408 });
}

#[test]
fn a_duplicate_changes_nothing() {
    for v6 in [false, true] {
        let pieces = cut(v6, &message(1000), &[400, 800]);
        let mut bench = Bench::new();
        for piece in [&pieces[0], &pieces[2]] {
            assert_eq!(bench.send(piece), Kept);
            let before = bench.reassembler.bytes();
            assert_eq!(bench.send(piece), Dropped(DropReason::FragmentDuplicate));
            assert_eq!(bench.reassembler.bytes(), before);
        }
        assert_eq!(bench.send(&pieces[1]), Complete);
        assert_eq!(bench.expect_whole().1, message(1000));
    }
}

/// Against pieces at 400 to 800 and, as the last, at 1200 to 1600.
#[test]
fn every_overlap_drops_the_datagram_and_all_that_comes_of_it_later() {
    let whole = message(1600);
    let mut other = whole.clone();
    other[500] ^= 1;
    let overlapping: [(&str, usize, bool, &[u8]); 12] = [
        ("ends inside", 320, true, &whole[320..480]),
        ("begins inside", 720, true, &whole[720..880]),
        ("lies inside", 480, true, &whole[480..560]),
        ("lies around", 320, true, &whole[320..880]),
        ("begins with it and is shorter", 400, true, &whole[400..560]),
        ("begins with it and is longer", 400, true, &whole[400..880]),
        ("ends with it", 480, true, &whole[480..800]),
        ("says something else", 400, true, &other[400..800]),
        ("reaches past the end", 1520, true, &whole[..160]),
        ("begins at the end", 1600, true, &whole[..160]),
        ("is another end, before", 1000, false, &whole[1000..1100]),
        ("is another end, behind", 1600, false, &whole[..100]),
    ];
    for v6 in [false, true] {
        for (how, offset, more, payload) in overlapping {
            let mut bench = Bench::new();
            let pieces = cut(v6, &whole, &[400, 800, 1200]);
            assert_eq!(bench.send_all(&[pieces[1].clone(), pieces[3].clone()]), [Kept, Kept]);
            let bad = piece(v6, offset, more, payload);
            assert_eq!(bench.send(&bad), Dropped(DropReason::FragmentOverlap), "{how}");
            assert_eq!(bench.losses(), [(A, DropReason::FragmentOverlap, 2)], "{how}");
            let later = bench.send_all(&pieces);
            assert_eq!(later, [Dropped(DropReason::FragmentOverlap); 4], "{how}: RFC 5722, not yet received");

            bench.now = bench.now + Duration::from_secs(60);
            assert_eq!(bench.send_all(&pieces), [Kept, Kept, Kept, Complete], "{how}: another with its number");
            assert_eq!(bench.expect_whole().1, whole);
        }
    }
}

#[test]
fn an_end_in_front_of_what_has_come_is_an_overlap() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(&piece(true, 800, true, &message(400))), Kept);
    assert_eq!(bench.send(&piece(true, 400, false, &message(200))), Dropped(DropReason::FragmentOverlap));
}

#[test]
fn what_no_fragment_can_be_is_dropped_by_itself() {
    for v6 in [false, true] {
        let mut bench = Bench::new();
        assert_eq!(bench.send(&piece(v6, 0, true, &message(400))), Kept);
        for (offset, more, len) in [(400, true, 401), (400, true, 0), (400, false, 0), (65_528, false, 100)] {
            let bad = piece(v6, offset, more, &message(len));
            assert_eq!(bench.send(&bad), Dropped(DropReason::FragmentInvalid), "{offset} {more} {len}");
        }
        assert_eq!(bench.send(&piece(v6, 400, false, &message(1))), Complete, "and the others are none the worse");
    }
}

#[test]
fn a_datagram_may_be_as_long_as_its_length_field_can_say_and_no_longer() {
    for (v6, header_bytes, longest) in [(false, 20, 65_515), (true, 40, 65_535)] {
        let message = message(longest);
        let places: Vec<usize> = (1..60).map(|n| n * 1104).take_while(|at| *at < longest).collect();
        let mut pieces = cut(v6, &message, &places);
        let mut bench = Bench::new();
        assert_eq!(bench.send_all(&pieces).last(), Some(&Complete));
        let (headers, got) = bench.expect_whole();
        assert_eq!((headers.total_bytes, got), (header_bytes + longest, message));

        pieces.last_mut().unwrap().payload.push(0);
        assert_eq!(bench.send_all(&pieces).last(), Some(&Dropped(DropReason::FragmentInvalid)));
    }
}

#[test]
fn longer_headers_in_the_first_fragment_may_make_a_datagram_too_long() {
    let mut first = piece(false, 0, true, &message(800)).bytes();
    first[0] = 0x46;
    first.splice(20..20, [148, 4, 0, 0]);
    first[3] += 4;
    ipv4::renew_checksum(&mut first[..24]);
    let places: Vec<usize> = (1..82).map(|n| n * 800).collect();
    let mut bench = Bench::with(Limits { fragments_per_datagram: 100, ..LIMITS });
    bench.send_all(&cut(false, &message(65_515), &places)[1..]);
    assert_eq!(bench.send_bytes(A, &first), Dropped(DropReason::FragmentInvalid));
    assert_eq!(bench.losses(), [(A, DropReason::FragmentInvalid, 81)]);
}

#[test]
fn tiny_fragments_of_rfc_1858_and_3128_are_dropped() {
    let tcp = |offset, more, len| Piece { protocol: protocol::TCP, ..piece(false, offset, more, &message(len)) };
    let mut bench = Bench::new();
    for (tiny, why) in [
        (tcp(0, true, 8), "ports only"),
        (tcp(8, true, 800), "writes over the flags"),
        (tcp(8, false, 40), "the same, as the last"),
        (piece(false, 0, true, &message(40)), "shorter than any link's MTU"),
        (piece(false, 80, true, &message(40)), "the same, in the middle"),
    ] {
        assert_eq!(bench.send(&tiny), Dropped(DropReason::FragmentTooSmall), "{why}");
    }
    bench.expect_empty();
    assert_eq!(bench.send(&piece(false, 0, true, &message(48))), Kept, "68 bytes");
    assert_eq!(bench.send(&piece(false, 48, false, &message(1))), Complete, "the last may be short");
}

#[test]
fn an_ipv6_first_fragment_without_the_upper_layer_header_is_dropped() {
    let mut bench = Bench::new();
    for (upper, len) in [(protocol::TCP, 16), (60, 0), (43, 64), (44, 64)] {
        let mut payload = vec![0; 8 + len];
        payload[0] = upper;
        let first = Piece { protocol: 60, ..piece(true, 0, true, &payload) };
        assert_eq!(bench.send(&first), Dropped(DropReason::FragmentTooSmall), "{upper}");
    }
    let mut payload = vec![0; 8 + 24];
    payload[0] = protocol::TCP;
    assert_eq!(bench.send(&Piece { protocol: 60, ..piece(true, 0, true, &payload) }), Kept);
}

#[test]
fn a_hole_makes_no_datagram() {
    let pieces = cut(true, &message(1200), &[400, 800]);
    for missing in 0..3 {
        let mut bench = Bench::new();
        for (at, piece) in pieces.iter().enumerate().filter(|(at, _)| *at != missing) {
            assert_eq!(bench.send(piece), Kept, "{at}");
        }
        assert_eq!(bench.whole(), None);
    }
}

#[test]
fn what_waits_too_long_is_given_up() {
    for (v6, secs) in [(false, 30), (true, 60)] {
        let mut bench = Bench::new();
        let pieces = cut(v6, &message(1200), &[400, 800]);
        bench.send(&pieces[1]);
        bench.now = START + Duration::from_secs(secs - 1);
        bench.send(&pieces[2]);
        assert_eq!(bench.reassembler.poll_timeout().map(|(at, _)| at), Some(START + Duration::from_secs(secs)));
        bench.reassembler.handle_timeout(bench.now);
        assert_eq!(bench.losses(), []);
        bench.reassembler.handle_timeout(START + Duration::from_secs(secs));
        assert_eq!(bench.losses(), [(A, DropReason::FragmentTimeout, 2)]);
        assert_eq!(bench.reassembler.poll_timeout(), None);
        bench.expect_empty();
    }
}

#[test]
fn nothing_joins_a_datagram_whose_time_is_up_even_if_nobody_said_so() {
    let mut bench = Bench::new();
    let pieces = cut(false, &message(800), &[400]);
    bench.send(&pieces[0]);
    bench.now = START + Duration::from_secs(30);
    assert_eq!(bench.send(&pieces[1]), Kept);
    assert_eq!(bench.losses(), [(A, DropReason::FragmentTimeout, 1)]);
}

#[test]
fn atomic_fragments_meet_no_others() {
    let mut bench = Bench::new();
    let pieces = cut(true, &message(800), &[400]);
    bench.send(&pieces[0]);
    let atomic = piece(true, 0, false, &message(100));
    assert_eq!(bench.send(&atomic), Outcome::Atomic);
    assert_eq!(bench.send(&pieces[1]), Complete, "RFC 6946: the other datagram is untouched");

    let mut bytes = atomic.bytes();
    let fragment = fragment::parse(&bytes).unwrap();
    fragment::unwrap_atomic(&mut bytes, &fragment);
    let headers = headers::parse(&bytes).unwrap();
    assert_eq!((headers.protocol, headers.total_bytes, headers.transport_offset), (protocol::UDP, 140, 40));
    assert_eq!(bytes[40..140], message(100));
}

#[test]
fn realms_that_share_every_address_and_identification_do_not_mix() {
    for v6 in [false, true] {
        let (of_a, of_b) = (message(800), vec![0x55; 800]);
        let (a, b) = (cut(v6, &of_a, &[400]), cut(v6, &of_b, &[400]));
        let mut bench = Bench::new();
        assert_eq!(bench.send_to(A, &a[0]), Kept);
        assert_eq!(bench.send_to(B, &b[1]), Kept, "would complete A's");
        assert_eq!(bench.send_to(B, &b[0]), Complete);
        let (whole, bytes) = bench.whole().unwrap();
        assert_eq!((whole.realm, bytes.ends_with(&of_b)), (B, true));
        assert_eq!(bench.send_to(A, &a[1]), Complete);
        let (whole, bytes) = bench.whole().unwrap();
        assert_eq!((whole.realm, bytes.ends_with(&of_a)), (A, true));
    }
}

#[test]
fn ipv4_datagrams_are_told_apart_by_protocol_and_ipv6_ones_are_not() {
    for (v6, last) in [(false, Kept), (true, Complete)] {
        let pieces = cut(v6, &message(800), &[400]);
        let mut bench = Bench::new();
        bench.send(&pieces[0]);
        assert_eq!(bench.send(&Piece { protocol: 47, ..pieces[1].clone() }), last);
    }
    let pieces = cut(false, &message(800), &[400]);
    let mut bench = Bench::new();
    bench.send(&pieces[0]);
    assert_eq!(bench.send(&Piece { identification: 78, ..pieces[1].clone() }), Kept);
}

#[test]
fn the_first_fragments_headers_are_the_datagrams() {
    let pieces = cut(false, &message(800), &[400]);
    let mut first = pieces[0].bytes();
    first[0] = 0x46;
    first[ipv4::TTL] = 33;
    first.splice(20..20, [148, 4, 0, 0]);
    first[3] += 4;
    ipv4::renew_checksum(&mut first[..24]);
    let mut bench = Bench::new();
    bench.send(&pieces[1]);
    assert_eq!(bench.send_bytes(A, &first), Complete);
    let (headers, got) = bench.expect_whole();
    assert_eq!((headers.transport_offset, headers.hop_limit, got), (24, 33, message(800)));
}

#[test]
fn dont_fragment_stays_when_the_largest_fragment_had_it() {
    for (on_small, on_large, expected) in [(true, true, true), (false, true, true), (true, false, false)] {
        let pieces = cut(false, &message(900), &[800]);
        let mut bench = Bench::new();
        bench.send(&Piece { dont_fragment: on_large, ..pieces[0].clone() });
        bench.send(&Piece { dont_fragment: on_small, ..pieces[1].clone() });
        assert_eq!(bench.expect_whole().0.dont_fragment, expected);
    }
}

#[test]
fn congestion_marks_are_kept_and_contradictions_dropped() {
    for v6 in [false, true] {
        for (marks, expected) in
            [([2, 3], Some(3)), ([3, 1], Some(3)), ([1, 1], Some(1)), ([0, 0], Some(0)), ([0, 3], None)]
        {
            let pieces = cut(v6, &message(800), &[400]);
            let mut bench = Bench::new();
            bench.send(&Piece { ecn: marks[0], ..pieces[0].clone() });
            let outcome = bench.send(&Piece { ecn: marks[1], ..pieces[1].clone() });
            let got = bench.whole().map(|(_, bytes)| if v6 { bytes[1] >> 4 & 3 } else { bytes[1] & 3 });
            assert_eq!(got, expected, "{marks:?}");
            if expected.is_none() {
                assert_eq!(outcome, Dropped(DropReason::FragmentInvalid));
                assert_eq!(bench.losses(), [(A, DropReason::FragmentInvalid, 1)]);
            }
        }
    }
}

#[test]
fn a_fragment_with_a_damaged_header_is_not_taken() {
    let mut bytes = piece(false, 0, true, &message(400)).bytes();
    bytes[ipv4::TTL] ^= 1;
    assert_eq!(Bench::new().send_bytes(A, &bytes), Dropped(DropReason::InnerMalformed));
}
