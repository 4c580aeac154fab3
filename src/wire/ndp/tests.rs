use proptest::prelude::*;

use super::*;

const MAC_A: Mac = Mac([2, 0, 0, 0, 0, 0x0a]);
const MAC_B: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0a);
const A: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x0a);
const B: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x0b);

/// What Linux 6 sends, with the addresses above, taken from a veth pair.
mod linux {
    pub const SOLICITATION: &str = "6000000000203aff20010db800090000000000000000000aff0200000000000000000001ff00000b\
        87001bf10000000020010db800090000000000000000000b010102000000000a";
    pub const ADVERTISEMENT: &str = "6000000000203aff20010db800090000000000000000000b20010db800090000000000000000000a\
        88008a326000000020010db800090000000000000000000b020102000000000b";
    /// With the nonce of RFC 7527 (option 14).
    pub const DAD: &str = "6000000000203aff00000000000000000000000000000000ff0200000000000000000001ff00000a\
        8700298f0000000020010db800090000000000000000000a0e01087a6e2e9e91";
    pub const ROUTER_SOLICITATION: &str = "6000000000103afffe80000000000000000000fffe00000aff020000000000000000000000000002\
        85007b1a00000000010102000000000a";
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn solicitation() -> Message {
    Message::NeighbourSolicitation { target: B, mac: Some(MAC_A) }
}

fn advertisement() -> Message {
    Message::NeighbourAdvertisement {
        target: B,
        mac: Some(MAC_B),
        is_router: false,
        is_solicited: true,
        is_override: true,
    }
}

fn router() -> Message {
    Message::RouterAdvertisement {
        lifetime: Duration::from_secs(1800),
        preference: Preference::High,
        mac: Some(MAC_A),
        mtu_bytes: Some(1400),
    }
}

fn emitted(source: Ipv6Addr, destination: Ipv6Addr, message: &Message) -> Vec<u8> {
    let mut out = vec![0xaa; 200];
    let len = emit(&mut out, source, destination, message).unwrap();
    out.truncate(len);
    out
}

/// With length and checksum as they must be: what else is wrong with a packet then decides.
fn repaired(mut packet: Vec<u8>) -> Vec<u8> {
    let payload = (packet.len() - ipv6::HEADER_BYTES) as u16;
    packet[4..6].copy_from_slice(&payload.to_be_bytes());
    packet[42..44].fill(0);
    let header = ipv6::parse(&packet).unwrap();
    let (source, destination) = (header.source.into(), header.destination.into());
    let sum = checksum::transport_checksum(source, destination, protocol::ICMPV6, &packet[40..]).unwrap();
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn is_valid(packet: Vec<u8>) -> bool {
    parse(&repaired(packet)).is_some()
}

#[test]
fn messages_are_those_of_linux_byte_for_byte() {
    let group = solicited_node(B);
    for (hex, source, destination, message) in [
        (linux::SOLICITATION, A, group, solicitation()),
        (linux::ADVERTISEMENT, B, A, advertisement()),
        (linux::ROUTER_SOLICITATION, LINK_LOCAL, ALL_ROUTERS, Message::RouterSolicitation { mac: Some(MAC_A) }),
    ] {
        assert_eq!(emitted(source, destination, &message), bytes(hex));
        assert_eq!(parse(&bytes(hex)), Some(Packet { source, destination, message }));
    }
}

#[test]
fn a_duplicate_address_detection_with_a_nonce_is_read() {
    let source = Ipv6Addr::UNSPECIFIED;
    let message = Message::NeighbourSolicitation { target: A, mac: None };
    assert_eq!(parse(&bytes(linux::DAD)), Some(Packet { source, destination: solicited_node(A), message }));
}

#[test]
fn groups_of_addresses_and_their_frames() {
    let group = solicited_node("2001:db8::12:3456:789a".parse().unwrap());
    assert_eq!(group, "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
    assert_eq!(group_mac(group), Mac([0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]));
    assert_eq!(group_mac(ALL_NODES), Mac([0x33, 0x33, 0, 0, 0, 1]));
}

#[test]
fn a_hop_limit_below_255_came_by_a_router() {
    let mut packet = bytes(linux::SOLICITATION);
    packet[ipv6::HOP_LIMIT] = 254;
    assert!(!is_valid(packet));
}

#[test]
fn a_code_or_a_checksum_that_is_wrong() {
    let mut packet = bytes(linux::SOLICITATION);
    packet[41] = 1;
    assert!(!is_valid(packet.clone()));
    packet[41] = 0;
    packet[43] ^= 1;
    assert_eq!(parse(&packet), None);
}

#[test]
fn options_of_no_length_or_past_the_end() {
    for length in [0, 2, 255] {
        let mut packet = bytes(linux::SOLICITATION);
        packet[65] = length;
        assert!(!is_valid(packet), "{length}");
    }
    let mut cut = bytes(linux::SOLICITATION);
    cut.truncate(65);
    assert!(!is_valid(cut), "half an option");
}

#[test]
fn options_that_nobody_knows_are_skipped_and_of_two_the_first_counts() {
    let mut packet = bytes(linux::SOLICITATION);
    let own = packet.split_off(64);
    packet.extend([200, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend(&own);
    packet.extend([1, 1, 2, 0, 0, 0, 0, 0x66]);
    assert_eq!(parse(&repaired(packet)).unwrap().message, solicitation());
}

#[test]
fn hardware_addresses_that_no_station_has() {
    for mac in [[0xff; 6], [0; 6], [0x33, 0x33, 0, 0, 0, 1]] {
        let mut packet = bytes(linux::SOLICITATION);
        packet[66..72].copy_from_slice(&mac);
        assert!(!is_valid(packet), "{mac:x?}");
    }
    let mut long = bytes(linux::SOLICITATION);
    long[65] = 2;
    long.extend([0; 8]);
    assert!(!is_valid(long), "an address of 14 bytes");
}

#[test]
fn messages_shorter_than_their_fields() {
    let advertisement = emitted(LINK_LOCAL, ALL_NODES, &router());
    for (packet, least) in [
        (bytes(linux::ROUTER_SOLICITATION), 8),
        (advertisement, 16),
        (bytes(linux::SOLICITATION), 24),
        (bytes(linux::ADVERTISEMENT), 24),
        (redirect(), 40),
    ] {
        let cut = |len: usize| packet[..ipv6::HEADER_BYTES + len].to_vec();
        assert!(is_valid(cut(least)), "type {}", packet[40]);
        for len in 4..least {
            assert!(!is_valid(cut(len)), "type {}, {len} bytes", packet[40]);
        }
    }
}

fn redirect() -> Vec<u8> {
    let mut packet = emitted(LINK_LOCAL, A, &Message::RouterSolicitation { mac: None });
    packet[40] = kind::REDIRECT;
    packet.resize(ipv6::HEADER_BYTES + 40, 0);
    repaired(packet)
}

#[test]
fn targets_and_sources_that_are_no_host() {
    for target in ["ff02::1", "::", "::1"] {
        let mut packet = bytes(linux::SOLICITATION);
        let target: Ipv6Addr = target.parse().unwrap();
        packet[48..64].copy_from_slice(&target.octets());
        assert!(!is_valid(packet), "{target}");
    }
    let mut packet = bytes(linux::SOLICITATION);
    packet[ipv6::SOURCE..ipv6::SOURCE + 16].copy_from_slice(&ALL_NODES.octets());
    assert!(!is_valid(packet));
}

#[test]
fn who_asks_from_nowhere_asks_a_group_and_says_nothing_of_himself() {
    let nowhere = Ipv6Addr::UNSPECIFIED;
    let probe = Message::NeighbourSolicitation { target: B, mac: None };
    assert!(is_valid(emitted(nowhere, solicited_node(B), &probe)));
    assert!(!is_valid(emitted(nowhere, B, &probe)));
    assert!(!is_valid(emitted(nowhere, ALL_NODES, &probe)));
    assert!(!is_valid(emitted(nowhere, solicited_node(B), &solicitation())));
    assert!(is_valid(emitted(nowhere, ALL_ROUTERS, &Message::RouterSolicitation { mac: None })));
    assert!(!is_valid(emitted(nowhere, ALL_ROUTERS, &Message::RouterSolicitation { mac: Some(MAC_A) })));
    assert!(!is_valid(emitted(nowhere, A, &advertisement())));
}

#[test]
fn an_answer_is_not_sent_to_a_group() {
    assert!(is_valid(emitted(B, A, &advertisement())));
    assert!(!is_valid(emitted(B, ALL_NODES, &advertisement())));
}

#[test]
fn routers_speak_from_link_local_addresses() {
    assert!(is_valid(emitted(LINK_LOCAL, ALL_NODES, &router())));
    assert!(!is_valid(emitted(A, ALL_NODES, &router())));
    assert!(is_valid(redirect()));
    let mut foreign = redirect();
    foreign[ipv6::SOURCE..ipv6::SOURCE + 16].copy_from_slice(&A.octets());
    assert!(!is_valid(foreign));
}

#[test]
fn a_preference_that_is_reserved_is_medium() {
    for (bits, expected) in
        [(0b01, Preference::High), (0b00, Preference::Medium), (0b11, Preference::Low), (0b10, Preference::Medium)]
    {
        let mut packet = emitted(LINK_LOCAL, ALL_NODES, &router());
        packet[45] = bits << 3 | 0xc0;
        let Message::RouterAdvertisement { preference, .. } = parse(&repaired(packet)).unwrap().message else {
            panic!("an advertisement")
        };
        assert_eq!(preference, expected);
    }
}

#[test]
fn behind_extension_headers_or_in_fragments_it_is_none() {
    for extension in [[58, 0, 1, 4, 0, 0, 0, 0], [58, 0, 0, 0, 0, 0, 0, 1]] {
        for header in [0, 44, 60] {
            let mut packet = bytes(linux::SOLICITATION);
            packet[ipv6::NEXT_HEADER] = header;
            packet.splice(40..40, extension);
            packet[5] += 8;
            assert!(!is_ndp(&packet));
            assert_eq!(parse(&packet), None);
        }
    }
}

#[test]
fn a_frames_padding_is_not_read_and_a_missing_end_is_missed() {
    let mut packet = bytes(linux::SOLICITATION);
    packet.extend([0; 20]);
    assert_eq!(parse(&packet).unwrap().message, solicitation());
    assert_eq!(parse(&bytes(linux::SOLICITATION)[..71]), None);
}

#[test]
fn other_icmpv6_goes_on_to_the_realm() {
    for (kind, expected) in [(128, false), (132, false), (133, true), (137, true), (138, false), (143, false)] {
        let mut packet = bytes(linux::SOLICITATION);
        packet[40] = kind;
        assert_eq!(is_ndp(&packet), expected, "type {kind}");
    }
}

#[test]
fn does_not_write_past_the_end_and_sends_no_redirect() {
    assert_eq!(emit(&mut [0; 71], A, solicited_node(B), &solicitation()), None);
    assert_eq!(emit(&mut [0; 200], LINK_LOCAL, A, &Message::Redirect), None);
}

fn station_strategy() -> impl Strategy<Value = Option<Mac>> {
    prop::option::of(any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| Mac([2, a, b, c, d, e])))
}

fn message_strategy() -> impl Strategy<Value = Message> {
    let host = any::<u64>().prop_map(|bits| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits)));
    let preference = prop::sample::select(vec![Preference::Low, Preference::Medium, Preference::High]);
    let advertised = (any::<u16>(), preference, station_strategy(), prop::option::of(any::<u32>()));
    prop_oneof![
        station_strategy().prop_map(|mac| Message::RouterSolicitation { mac }),
        advertised.prop_map(|(secs, preference, mac, mtu_bytes)| Message::RouterAdvertisement {
            lifetime: Duration::from_secs(secs.into()),
            preference,
            mac,
            mtu_bytes,
        }),
        (host.clone(), station_strategy()).prop_map(|(target, mac)| Message::NeighbourSolicitation { target, mac }),
        (host, station_strategy(), any::<[bool; 3]>()).prop_map(
            |(target, mac, [is_router, is_solicited, is_override])| {
                Message::NeighbourAdvertisement { target, mac, is_router, is_solicited, is_override }
            }
        ),
    ]
}

proptest! {
    #[test]
    fn what_is_emitted_is_read(message in message_strategy()) {
        let packet = emitted(LINK_LOCAL, A, &message);
        prop_assert_eq!(parse(&packet), Some(Packet { source: LINK_LOCAL, destination: A, message }));
    }

    #[test]
    fn never_panics(mut packet in prop::collection::vec(any::<u8>(), 0..160), kind in 130u8..140, has_length: bool) {
        let _ = parse(&packet);
        if packet.len() > 44 {
            (packet[0], packet[ipv6::NEXT_HEADER], packet[ipv6::HOP_LIMIT]) = (0x60, protocol::ICMPV6, HOP_LIMIT);
            (packet[ipv6::SOURCE], packet[40], packet[41]) = (0x20, kind, 0);
            let _ = parse(&packet);
            if has_length {
                let _ = parse(&repaired(packet));
            }
        }
    }

    #[test]
    fn a_damaged_message_is_none(at in 8usize..72, bit in 0u8..8) {
        // Whatever bit: the checksum covers addresses and message.
        let mut packet = bytes(linux::SOLICITATION);
        packet[at] ^= 1 << bit;
        prop_assert_eq!(parse(&packet), None);
    }
}
