//! Packets that cross, and what must be left of them.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::net::policy::protocol;
use crate::sim::packets::{self, packet, port_unreachable, verify};
use crate::wire::headers::parse;

/// As long as a batch's buffers.
const SLOT_BYTES: usize = 2112;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A's host is IPv4, B's is IPv6. As each is known on both sides.
fn host_a() -> [IpAddr; 2] {
    [ip("192.168.1.10"), ip("fd69:7867:6174:1::c0a8:10a")]
}

fn host_b() -> [IpAddr; 2] {
    [ip("100.64.2.20"), ip("fd00:b::20")]
}

/// What the packet of `source` to `destination` looks like on the IPv6 side, or on the other.
fn shown(source: [IpAddr; 2], destination: [IpAddr; 2], to_v6: bool) -> Shown {
    Shown::addresses(source[usize::from(to_v6)], destination[usize::from(to_v6)])
}

fn slot(bytes: &[u8]) -> Vec<u8> {
    let mut slot = vec![0xee; SLOT_BYTES];
    slot[..bytes.len()].copy_from_slice(bytes);
    slot
}

fn cross(bytes: &[u8], shown: &Shown) -> Result<Vec<u8>, Untranslatable> {
    let mut slot = slot(bytes);
    let len = translate(&mut slot, &parse(bytes).unwrap(), shown, None, &mut Identifications::new(7))?;
    slot.truncate(len);
    Ok(slot)
}

fn cross_error(bytes: &[u8], shown: &Shown, quoted: &Shown, mtu: u16) -> Result<Vec<u8>, Untranslatable> {
    let mut slot = slot(bytes);
    let len = translate_error(&mut slot, &parse(bytes).unwrap(), shown, quoted, mtu, &mut Identifications::new(7))?;
    slot.truncate(len);
    Ok(slot)
}

fn udp(from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    packets::udp((from, 5000), (to, 443), payload)
}

/// From A to B over IPv4, and as it arrives.
fn a_to_b(payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let sent = udp(host_a()[0], host_b()[0], payload);
    let arrived = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
    (sent, arrived)
}

/// From B to A over IPv6, and as it arrives.
fn b_to_a(payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let sent = udp(host_b()[1], host_a()[1], payload);
    let arrived = cross(&sent, &shown(host_b(), host_a(), false)).unwrap();
    (sent, arrived)
}

#[test]
fn class_and_hop_limit_cross_and_the_flow_label_is_zero() {
    let mut sent = udp(host_a()[0], host_b()[0], b"hello");
    sent[1] = 0xb9;
    let six = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
    verify(&six).unwrap();
    assert_eq!(six[..8], [0x6b, 0x90, 0, 0, 0, 13, protocol::UDP, packets::HOP_LIMIT - 1]);
    let four = cross(&six, &shown(host_a(), [host_b()[0]; 2], false)).unwrap();
    verify(&four).unwrap();
    assert_eq!((four[0], four[1], four[8]), (0x45, 0xb9, packets::HOP_LIMIT - 2));
}

#[test]
fn a_packet_that_ipv6_would_carry_anywhere_may_be_fragmented_over_ipv4_and_a_longer_one_may_not() {
    for (total, may) in [(60, true), (1260, true), (1261, false), (1900, false)] {
        let (_, four) = b_to_a(&vec![7; total - 28]);
        assert_eq!(four.len(), total);
        let (identification, flags) = (&four[4..6], &four[6..8]);
        assert_eq!(flags, if may { [0, 0] } else { [0x40, 0] }, "{total}");
        assert_eq!(identification != [0, 0], may, "{total}");
        verify(&four).unwrap();
    }
    let mut slot = slot(&udp(host_b()[1], host_a()[1], b"x"));
    let (headers, mut identifications) = (parse(&slot[..49]).unwrap(), Identifications::new(7));
    let shown = shown(host_b(), host_a(), false);
    let before = slot.clone();
    let mut identification = || {
        slot.copy_from_slice(&before);
        translate(&mut slot, &headers, &shown, None, &mut identifications).unwrap();
        [slot[4], slot[5]]
    };
    assert_ne!(identification(), identification());
}

#[test]
fn ipv4_options_are_left_behind() {
    let plain = udp(host_a()[0], host_b()[0], b"hello");
    let mut with_option = [&plain[..20], &[148, 4, 0, 0], &plain[20..]].concat(); // router alert
    with_option[0] = 0x46;
    with_option[3] += 4;
    let want = cross(&plain, &shown(host_a(), host_b(), true)).unwrap();
    assert_eq!(cross(&with_option, &shown(host_a(), host_b(), true)).unwrap(), want);
}

#[test]
fn ipv6_extension_headers_are_left_behind() {
    let plain = udp(host_b()[1], host_a()[1], b"hello");
    let want = cross(&plain, &shown(host_b(), host_a(), false)).unwrap();
    // Hop-by-hop, routing without segments left, destination options.
    let extensions = [[43, 0, 1, 4, 0, 0, 0, 0], [60, 0, 2, 0, 0, 0, 0, 0], [17, 0, 1, 4, 0, 0, 0, 0]].concat();
    let mut extended = [&plain[..40], &extensions, &plain[40..]].concat();
    extended[5] += 24;
    extended[6] = 0;
    assert_eq!(cross(&extended, &shown(host_b(), host_a(), false)).unwrap(), want);
}

#[test]
fn udp_without_a_checksum_gets_one_over_ipv6() {
    let mut sent = udp(host_a()[0], host_b()[0], b"hello, odd");
    let want = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
    sent[26..28].fill(0);
    assert_eq!(cross(&sent, &shown(host_a(), host_b(), true)).unwrap(), want);
    // Back again it keeps it; and one that has none over IPv6 (RFC 6935) has none over IPv4.
    let mut six = want;
    six[46..48].fill(0);
    assert_eq!(cross(&six, &shown(host_a(), [host_b()[0]; 2], false)).unwrap()[26..28], [0, 0]);
}

#[test]
fn a_computed_checksum_of_zero_is_sent_as_all_ones() {
    // The payload is the checksum that would be, so that the sum comes to zero.
    let mut sent = udp(host_a()[0], host_b()[0], &[0, 0]);
    let six = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
    sent[28..30].copy_from_slice(&six[46..48]);
    sent[26..28].fill(0);
    let six = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
    assert_eq!(six[46..48], [0xff, 0xff]);
}

#[test]
fn udp_without_a_checksum_and_with_a_wrong_length_is_refused() {
    for length in [0u16, 7, 14, 0xffff] {
        let mut sent = udp(host_a()[0], host_b()[0], b"hello");
        sent[24..26].copy_from_slice(&length.to_be_bytes());
        sent[26..28].fill(0);
        let refused = cross(&sent, &shown(host_a(), host_b(), true));
        assert_eq!(refused, Err(Untranslatable::Malformed), "{length}");
    }
}

#[test]
fn protocols_without_a_known_checksum_pass_as_they_are() {
    for number in [47, 50, 132] {
        let sent = packet(host_a()[0], host_b()[0], number, b"whatever it is".to_vec());
        let six = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
        assert_eq!((six[6], &six[40..]), (number, &sent[20..]));
        let four = cross(&six, &shown([host_a()[0]; 2], [host_b()[0]; 2], false)).unwrap();
        assert_eq!((four[9], &four[20..]), (number, &sent[20..]));
    }
}

#[test]
fn a_damaged_packet_stays_damaged() {
    for mut sent in [udp(host_a()[0], host_b()[0], b"hello"), packets::echo(host_a()[0], host_b()[0], 7, false)] {
        *sent.last_mut().unwrap() ^= 1;
        let six = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
        assert!(verify(&six).unwrap_err().contains("checksum"), "{six:?}");
    }
}

#[test]
fn echo_keeps_identifier_and_data_unless_it_is_to_be_shown_by_another() {
    for is_reply in [false, true] {
        let sent = packets::echo(host_a()[0], host_b()[0], 7, is_reply);
        for ident in [0u16, 9] {
            let shown = Shown { source_port: ident, ..shown(host_a(), host_b(), true) };
            let six = cross(&sent, &shown).unwrap();
            let ident = if ident == 0 { 7 } else { ident };
            let want = if is_reply { Transport::EchoReply { ident } } else { Transport::EchoRequest { ident } };
            assert_eq!(verify(&six).unwrap().transport, want);
            assert_eq!(six[46..], sent[26..]);
        }
    }
}

#[test]
fn what_has_no_counterpart_or_no_room_is_refused() {
    let timestamp = packet(host_a()[0], host_b()[0], protocol::ICMP, vec![13, 0, 0, 0, 0, 1, 0, 1]);
    let to_b = shown(host_a(), host_b(), true);
    assert_eq!(cross(&timestamp, &to_b), Err(Untranslatable::NoCounterpart));
    let neighbour = packet(host_b()[1], host_a()[1], protocol::ICMPV6, vec![135, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(cross(&neighbour, &shown(host_b(), host_a(), false)), Err(Untranslatable::NoCounterpart));

    let icmp = packet(host_b()[1], host_a()[1], protocol::ICMP, vec![8, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(cross(&icmp, &shown(host_b(), host_a(), false)), Err(Untranslatable::NoCounterpart));
    for number in [0, 43, 44, 58, 60] {
        let routed = packet(host_a()[0], host_b()[0], number, vec![17, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(cross(&routed, &to_b), Err(Untranslatable::NoCounterpart), "protocol {number}");
    }

    let sent = udp(host_a()[0], host_b()[0], b"hello");
    let headers = parse(&sent).unwrap();
    let mut identifications = Identifications::new(7);
    for room in [sent.len(), sent.len() + 19] {
        let mut slot = slot(&sent);
        let got = translate(&mut slot[..room], &headers, &to_b, None, &mut identifications);
        assert_eq!(got, Err(Untranslatable::TooLong));
    }
    let mut slot = slot(&sent);
    assert_eq!(
        translate(&mut slot[..sent.len() + 20], &headers, &to_b, None, &mut identifications),
        Ok(sent.len() + 20)
    );
}

#[test]
fn lengths_and_mtus_are_foretold() {
    let (sent, arrived) = a_to_b(&[1; 300]);
    assert_eq!(translated_bytes(&parse(&sent).unwrap()), arrived.len());
    assert_eq!(translated_bytes(&parse(&arrived).unwrap()), sent.len());
    assert_eq!((untranslated_mtu(1420, true), untranslated_mtu(1420, false)), (1400, 1440));
}

/// B refuses what A sent over IPv4, and A what B sent over IPv6: each gets its own packet back.
#[test]
fn the_packet_inside_an_error_becomes_the_one_that_its_sender_sent() {
    for payload in [&b"hello"[..], &[9; 1200]] {
        let (sent, arrived) = a_to_b(payload);
        for quoted in [48, arrived.len()] {
            let error = port_unreachable(host_b()[1], host_a()[1], &arrived[..quoted]);
            let (outer, inner) = (shown(host_b(), host_a(), false), shown(host_a(), host_b(), false));
            let four = cross_error(&error, &outer, &inner, 1500).unwrap();
            let headers = verify(&four).unwrap();
            assert_eq!((headers.source, headers.destination, headers.hop_limit), (host_b()[0], host_a()[0], 63));
            assert_eq!((four[20], four[21], headers.transport), (3, 3, Transport::IcmpError));
            let quote = &four[28..];
            assert_eq!(checksum::sum(&quote[..20]), 0xffff, "quoted IPv4 header");
            assert_eq!(quote[2..4], sent[2..4], "length of the packet as it was sent");
            assert_eq!(quote[8] + 1, sent[8], "the hop limit that it had when it was quoted");
            assert_eq!(quote[12..], sent[12..quoted - 20], "addresses, ports, checksum as sent");
        }

        let (sent, arrived) = b_to_a(payload);
        for quoted in [28, arrived.len()] {
            let error = port_unreachable(host_a()[0], host_b()[0], &arrived[..quoted]);
            let (outer, inner) = (shown(host_a(), host_b(), true), shown(host_b(), host_a(), true));
            let six = cross_error(&error, &outer, &inner, 1500).unwrap();
            let headers = verify(&six).unwrap();
            assert_eq!((headers.source, headers.destination, headers.hop_limit), (host_a()[1], host_b()[1], 63));
            assert_eq!((six[40], six[41]), (1, 4));
            let quote = &six[48..];
            assert_eq!(quote[4..7], sent[4..7], "length of the packet as it was sent");
            assert_eq!(quote[8..], sent[8..(quoted + 20).min(1280 - 48)], "addresses, ports, checksum as sent");
        }
    }
}

#[test]
fn the_echo_and_the_segment_inside_an_error_are_as_sent_too() {
    let echo = packets::echo(host_a()[0], host_b()[0], 7, false);
    let syn = packets::tcp((host_a()[0], 5000), (host_b()[0], 443), tcp::flag::SYN, &[2, 4, 5, 180], b"");
    for sent in [echo, syn] {
        let arrived = cross(&sent, &shown(host_a(), host_b(), true)).unwrap();
        let error = port_unreachable(host_b()[1], host_a()[1], &arrived);
        let inner = shown(host_a(), host_b(), false);
        let four = cross_error(&error, &shown(host_b(), host_a(), false), &inner, 1500).unwrap();
        verify(&four).unwrap();
        assert_eq!(four[28 + 9..28 + 10], sent[9..10], "protocol");
        assert_eq!(four[28 + 12..], sent[12..]);
    }
}

#[test]
fn ports_inside_an_error_are_those_that_its_sender_knows() {
    let (sent, arrived) = b_to_a(b"hello");
    let error = port_unreachable(host_a()[0], host_b()[0], &arrived);
    let inner = Shown { source_port: 61_000, ..shown(host_b(), host_a(), true) };
    let six = cross_error(&error, &shown(host_a(), host_b(), true), &inner, 1500).unwrap();
    verify(&six).unwrap();
    let mut want = sent[40..].to_vec();
    want[..2].copy_from_slice(&61_000u16.to_be_bytes());
    Delta::default().word(5000, 61_000).apply_at(&mut want, udp::CHECKSUM);
    assert_eq!(six[88..], want);
}

#[test]
fn too_big_is_told_in_the_receivers_terms() {
    let (_, arrived) = b_to_a(&[1; 1400]);
    let mut error = port_unreachable(host_a()[0], host_b()[0], &arrived[..28]);
    error[21] = 4;
    error[26..28].copy_from_slice(&1350u16.to_be_bytes());
    let (outer, inner) = (shown(host_a(), host_b(), true), shown(host_b(), host_a(), true));
    for (known, want) in [(1500, 1370), (1360, 1360)] {
        let six = cross_error(&error, &outer, &inner, known).unwrap();
        assert_eq!((six[40], six[41], &six[44..48]), (2, 0, &u32::to_be_bytes(want)[..]));
        verify(&six).unwrap();
    }
}

#[test]
fn extensions_are_cut_off() {
    let (sent, arrived) = b_to_a(b"hello");
    // RFC 4884: the quote padded to 128 bytes, then an extension, here with an address of A's realm.
    let mut quote = arrived;
    quote.resize(128, 0);
    let extension = [0x20, 0, 0, 0, 0, 8, 2, 1, 192, 168, 1, 1];
    let mut error = port_unreachable(host_a()[0], host_b()[0], &[&quote[..], &extension].concat());
    error[25] = 32;
    let six = cross_error(&error, &shown(host_a(), host_b(), true), &shown(host_b(), host_a(), true), 1500).unwrap();
    verify(&six).unwrap();
    assert_eq!(six[44], 0, "no length of a quoted packet, as nothing follows it");
    assert_eq!(six[48 + 8..], sent[8..], "the quoted packet alone, without padding");
}

#[test]
fn an_icmpv6_error_is_no_longer_than_every_link_carries() {
    let (_, arrived) = b_to_a(&[1; 1800]);
    let error = port_unreachable(host_a()[0], host_b()[0], &arrived);
    let six = cross_error(&error, &shown(host_a(), host_b(), true), &shown(host_b(), host_a(), true), 1500).unwrap();
    assert_eq!(six.len(), usize::from(MIN_MTU_BYTES_V6));
    assert_eq!(translated_bytes(&parse(&error).unwrap()), six.len());
    verify(&six).unwrap();
}

#[test]
fn an_error_whose_quote_says_that_it_ends_before_its_ports_is_refused() {
    let (outer, inner) = (shown(host_b(), host_a(), false), shown(host_a(), host_b(), false));
    for (length, want) in [(0, false), (7, false), (8, true)] {
        let (_, mut arrived) = a_to_b(b"hello");
        arrived[ipv6::PAYLOAD_LENGTH + 1] = length;
        let error = port_unreachable(host_b()[1], host_a()[1], &arrived);
        let four = cross_error(&error, &outer, &inner, 1500);
        assert_eq!(four.is_ok(), want, "{length}");
        assert!(want || four == Err(Untranslatable::Malformed));
    }
}

#[test]
fn an_error_about_a_packet_that_ipv4_has_no_number_for_is_refused() {
    let (outer, inner) = (shown(host_b(), host_a(), false), shown(host_a(), host_b(), false));
    for (length, want) in [(65_535u16, false), (65_516, false), (65_515, true)] {
        let (_, mut arrived) = a_to_b(b"hello");
        arrived[ipv6::PAYLOAD_LENGTH..ipv6::PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
        let four = cross_error(&port_unreachable(host_b()[1], host_a()[1], &arrived), &outer, &inner, 1500);
        assert_eq!(four.is_ok(), want, "{length}");
    }
}

#[test]
fn an_error_about_an_error_is_refused() {
    let (_, arrived) = b_to_a(b"hello");
    let error = port_unreachable(host_a()[0], host_b()[0], &arrived);
    let about_it = port_unreachable(host_a()[0], host_b()[0], &error);
    let (outer, inner) = (shown(host_a(), host_b(), true), shown(host_b(), host_a(), true));
    assert_eq!(cross_error(&about_it, &outer, &inner, 1500), Err(Untranslatable::NoCounterpart));
}

fn any_message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (0u8..6, any::<[u16; 2]>(), payload).prop_map(|(kind, [a, b], payload)| {
        let ports = [a.to_be_bytes(), b.to_be_bytes()].concat();
        match kind {
            0 => {
                let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x50, tcp::flag::ACK, 0x20, 0, 0, 0, 0, 0];
                (protocol::TCP, [&ports[..], &rest, &payload].concat())
            }
            1 => {
                let length = (8 + payload.len() as u16).to_be_bytes();
                (protocol::UDP, [&ports[..], &length, &[0, 0], &payload].concat())
            }
            2 => (protocol::ICMP, [&[8, 0, 0, 0][..], &ports, &payload].concat()),
            // Nobody looks for ports in these; they have a checksum all the same.
            3 => (protocol::UDP_LITE, [&ports[..], &[0; 4], &payload].concat()),
            4 => (protocol::DCCP, [&ports[..], &[3, 0, 0, 0, 0, 0, 0, 0], &payload].concat()),
            _ => (protocol::ICMP, [&[0, 0, 0, 0][..], &ports, &payload].concat()),
        }
    })
}

proptest! {
    /// All but what RFC 7915 has nowhere to keep: hops, identification and DF, flow label.
    #[test]
    fn there_and_back_is_the_identity_and_checksums_hold(
        (number, message) in any_message(), class: u8, a4: u32, b4: u32, a6: u128, b6: u128,
        ports in prop::sample::select(vec![(0u16, 0u16), (40_000, 0), (0, 8443), (1024, 2)]),
    ) {
        let (a, b) = ([IpAddr::V4(a4.into()), IpAddr::V6(a6.into())], [IpAddr::V4(b4.into()), IpAddr::V6(b6.into())]);
        let mut sent = packet(a[0], b[0], number, message);
        let class_delta = Delta::default().word(0x4500, u16::from_be_bytes([0x45, class]));
        sent[1] = class;
        class_delta.apply_at(&mut sent, 10);
        let headers = verify(&sent).unwrap();
        let (source_port, destination_port) = match number {
            protocol::ICMP => (ports.0, 0),
            protocol::TCP | protocol::UDP => ports,
            _ => (0, 0),
        };
        let there = Shown { source_port, destination_port, ..shown(a, b, true) };
        let six = cross(&sent, &there).unwrap();
        let over_six = verify(&six).unwrap();
        prop_assert_eq!((over_six.source, over_six.destination, over_six.hop_limit), (a[1], b[1], 63));

        let mut back = shown(a, b, false);
        (back.source_port, back.destination_port) = match headers.transport {
            Transport::Tcp { source_port, destination_port, .. } => (source_port, destination_port),
            Transport::Udp { source_port, destination_port } => (source_port, destination_port),
            Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, 0),
            _ => (0, 0),
        };
        // A port of zero cannot be asked for; then the one it was shown by stays.
        let has_ports = matches!(number, protocol::TCP | protocol::UDP);
        prop_assume!(back.source_port != 0 || headers.transport == Transport::Other);
        prop_assume!(back.destination_port != 0 || !has_ports);
        let four = cross(&six, &back).unwrap();
        verify(&four).unwrap();
        prop_assert_eq!(&four[20..], &sent[20..]);
        prop_assert_eq!((&four[..4], four[9], &four[12..20]), (&sent[..4], sent[9], &sent[12..20]));
    }

    /// Whatever can be parsed can be tried.
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 20..400),
        is_v6: bool,
        number in prop::sample::select(vec![0u8, 1, 6, 17, 43, 58, 60, 47]),
        kind in 0u8..14,
        room in 0usize..500,
    ) {
        let len = bytes.len();
        // Enough of a header to get somewhere: version, length, protocol, ICMP type and an IP header behind it.
        if is_v6 && len >= 90 {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
            (bytes[6], bytes[40], bytes[48], bytes[54]) = (number, kind, 0x60, number);
        } else {
            bytes[0] = 0x45;
            bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            (bytes[6], bytes[7], bytes[9]) = (0, 0, number);
            if len >= 48 {
                (bytes[20], bytes[28], bytes[34], bytes[35]) = (kind, 0x45, 0, 0);
            }
        }
        let Ok(headers) = parse(&bytes) else { return Ok(()) };
        let to_v6 = !headers.is_v6();
        let (outer, inner) = (shown(host_a(), host_b(), to_v6), shown(host_b(), host_a(), to_v6));
        let mut identifications = Identifications::new(7);
        let mut slot = slot(&bytes);
        let slot = &mut slot[..len.max(room)];
        let got = if headers.transport == Transport::IcmpError {
            translate_error(slot, &headers, &outer, &inner, 1500, &mut identifications)
        } else {
            translate(slot, &headers, &outer, None, &mut identifications)
        };
        if let Ok(len) = got {
            let crossed = parse(&slot[..len]).expect("what is made can be read");
            prop_assert_eq!((crossed.is_v6(), crossed.total_bytes), (to_v6, len));
        }
    }
}
