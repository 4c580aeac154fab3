//! Which SA carries a packet, and what a peer may send by which.

use std::net::IpAddr;

use proptest::prelude::*;

use super::world::*;
use crate::ipsec::ChildSa;
use crate::ipsec::selectors::Selectors;
use crate::net::Selector;
use crate::packet::DropReason;

fn net(text: &str) -> Selector {
    Selector::from_net(text.parse().unwrap())
}

fn between(ours: &[Selector], theirs: &[Selector], child: ChildSa) -> ChildSa {
    ChildSa { ours: ours.to_vec(), theirs: theirs.to_vec(), ..child }
}

/// One child SA for each pair of networks, as some peers want it.
fn two_pairs() -> (Side, Side) {
    let (here, first, second) = (net("100.64.0.0/10"), net("192.168.1.0/24"), net("192.168.2.0/24"));
    let a = Side::with([
        between(&[here], &[first], child(0x1001, 0x2001)),
        between(&[here], &[second], child(0x1002, 0x2002)),
    ]);
    let b = Side::with([
        between(&[first], &[here], child(0x2001, 0x1001)),
        between(&[second], &[here], child(0x2002, 0x1002)),
    ]);
    (a, b)
}

#[test]
fn each_packet_takes_the_sa_whose_selectors_cover_it() {
    let (mut a, mut b) = two_pairs();
    for (host, spi) in [("192.168.1.9", 0x2001), ("192.168.2.9", 0x2002), ("192.168.1.255", 0x2001)] {
        let inner = packet("100.64.1.1", host, 9);
        let sealed = a.seal(&inner).unwrap();
        assert_eq!(spi_of(&sealed), spi);
        assert_eq!(b.open(&sealed), Ok(inner));
        let reply = packet(host, "100.64.1.1", 9);
        let sealed = b.seal(&reply).unwrap();
        assert_eq!(spi_of(&sealed), spi - 0x1000);
        assert_eq!(a.open(&sealed), Ok(reply));
    }
}

#[test]
fn what_no_sa_covers_is_not_sent() {
    let (mut a, _) = two_pairs();
    for inner in [
        packet("100.64.1.1", "192.168.3.9", 9),
        packet("10.0.0.1", "192.168.1.9", 9),
        packet("192.168.1.9", "100.64.1.1", 9),
        packet("fd00::1", "fd00::2", 9),
    ] {
        assert_eq!(a.seal(&inner), Err(DropReason::OutboundNotInSelectors));
    }
    assert_eq!(a.seal(&[]), Err(DropReason::OutboundNotInSelectors));
}

/// RFC 4301 section 5.2, step 4: the packet must match the selectors of the SA that it came by, not of some SA.
#[test]
fn a_packet_by_the_wrong_sa_is_dropped() {
    let (mut a, _) = two_pairs();
    let send = |spi, sequence, inner: &[u8]| forge(spi, sequence, false, &plaintext(inner, inner[0] >> 4 & 4));
    let from_first = packet("192.168.1.9", "100.64.1.1", 9);
    assert_eq!(a.open(&send(0x1001, 1, &from_first)), Ok(from_first.clone()));
    for (sequence, spi, inner) in [
        (1, 0x1002, from_first),
        (2, 0x1001, packet("192.168.1.9", "10.0.0.1", 9)),
        (3, 0x1001, packet("100.64.1.1", "192.168.1.9", 9)),
    ] {
        assert_eq!(a.open(&send(spi, sequence, &inner)), Err(proved(DropReason::InboundNotInSelectors)));
    }
    let v6 = forge(0x1001, 9, false, &plaintext(&packet("fd00::1", "fd00::2", 9), 41));
    assert_eq!(a.open(&v6), Err(proved(DropReason::InboundNotInSelectors)));
}

/// A selector of one protocol and these ports.
fn upper(protocol: u8, first_port: u16, last_port: u16) -> Selector {
    Selector { protocol, first_port, last_port, ..net("10.0.0.0/8") }
}

fn cover(selector: Selector, packet: &[u8]) -> bool {
    Selectors::new(&[net("10.0.0.0/8")], &[selector]).cover_outbound(packet)
}

#[test]
fn protocols_and_ports_are_selected() {
    let to = |protocol, upper: &[u8]| datagram("10.1.1.1", "10.2.2.2", protocol, upper);
    let tcp = |port: u16| to(6, &[&[0, 9], &port.to_be_bytes()[..], &[0; 16]].concat());
    let https = upper(6, 443, 443);
    assert!(cover(https, &tcp(443)));
    assert!(!cover(https, &tcp(444)) && !cover(https, &to(17, &[0, 9, 1, 187])));
    assert!(!cover(https, &to(6, &[0, 9])), "ports cut off");
    assert!(cover(upper(6, 0, 65535), &to(6, &[])) && cover(upper(0, 1, 9), &to(17, &[0, 1, 0, 9])));

    // ICMP: type in the upper byte, code in the lower (RFC 7296 section 3.13.1).
    assert!(cover(upper(1, 0x0800, 0x08ff), &to(1, &[8, 0, 0, 0])));
    assert!(!cover(upper(1, 0x0800, 0x08ff), &to(1, &[3, 1, 0, 0])));
    assert!(cover(upper(135, 0x0500, 0x0500), &to(135, &[59, 0, 5, 0])));
    assert!(cover(upper(47, 0, 65535), &to(47, &[])) && !cover(upper(47, 1, 2), &to(47, &[0, 1, 0, 1])));
}

/// RFC 4301 section 7: only all ports, or opaque ones, select a packet whose ports cannot be seen.
#[test]
fn fragments_are_selected_by_opaque_ports_and_by_all() {
    let mut first = datagram("10.1.1.1", "10.2.2.2", 17, &[0, 9, 1, 187, 0, 0, 0, 0]);
    assert!(cover(upper(17, 443, 443), &first) && !cover(upper(17, 65535, 0), &first));
    first[6] = 0x20; // more fragments
    for fragment in [first.clone(), {
        first[6..8].copy_from_slice(&[0, 5]);
        first
    }] {
        assert!(!cover(upper(17, 443, 443), &fragment));
        assert!(cover(upper(17, 65535, 0), &fragment) && cover(upper(17, 0, 65535), &fragment));
    }
    let all6 = |protocol, first_port, last_port| Selector { protocol, first_port, last_port, ..Selector::ANY6 };
    let fragment6 = datagram("fd00::1", "fd00::2", 44, &[17, 0, 0, 1, 0, 0, 0, 7, 0, 9, 1, 187]);
    let cover6 = |selector| Selectors::new(&[Selector::ANY6], &[selector]).cover_outbound(&fragment6);
    assert!(cover6(all6(17, 65535, 0)) && cover6(all6(17, 0, 65535)));
    assert!(!cover6(all6(17, 443, 443)) && !cover6(all6(6, 0, 65535)));
}

#[test]
fn neighbouring_and_nested_ranges_are_one_range() {
    let halves = Selectors::new(&[net("128.0.0.0/1"), net("0.0.0.0/1"), net("10.0.0.0/8")], &[Selector::ANY4]);
    assert!(halves.usual().cover_outbound(&packet("9.0.0.5", "201.1.1.1", 1)));
    assert!(halves.usual().cover_inbound(&packet("9.0.0.5", "201.1.1.1", 1)));
    assert!(!halves.usual().cover_inbound(&[0x60; 40]));
    let backwards = Selector { first: IpAddr::from([9, 0, 0, 9]), last: IpAddr::from([9, 0, 0, 1]), ..Selector::ANY4 };
    assert!(!Selectors::new(&[backwards], &[Selector::ANY4]).cover_outbound(&packet("9.0.0.5", "1.1.1.1", 1)));
}

#[test]
fn a_selector_of_two_families_selects_nothing() {
    let mixed = Selector { first: IpAddr::from([10, 0, 0, 0]), last: Selector::ANY6.last, ..Selector::ANY4 };
    for protocol in [0, 17] {
        let mixed = Selector { protocol, ..mixed };
        assert!(!cover(mixed, &packet("10.1.1.1", "203.0.113.9", 9)), "protocol {protocol}");
        let to6 = Selectors::new(&[Selector::ANY6], &[mixed]);
        assert!(!to6.cover_outbound(&packet("fd00::1", "fd00::2", 9)), "protocol {protocol}");
    }
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let ports = prop_oneof![3 => Just((0, 65535)), 1 => (0u16..40, 0u16..40), 1 => Just((65535, 0))];
    let protocol = prop_oneof![3 => Just(0u8), 1 => Just(6), 1 => Just(17)];
    (any::<bool>(), 0u32..64, 0u32..64, protocol, ports).prop_map(
        |(is_v4, first, len, protocol, (first_port, last_port))| {
            let address = |n: u32| match is_v4 {
                true => IpAddr::from((0x0a00_0000 + n).to_be_bytes()),
                false => IpAddr::from((0xfd00_u128 << 112 | u128::from(n)).to_be_bytes()),
            };
            Selector { protocol, first_port, last_port, first: address(first), last: address(first + len) }
        },
    )
}

proptest! {
    /// Held against the selectors themselves, one by one.
    #[test]
    fn compiled_selectors_cover_what_the_selectors_cover(
        ours in prop::collection::vec(any_selector(), 1..6),
        theirs in prop::collection::vec(any_selector(), 1..6),
        is_v4: bool, source in 0u32..130, destination in 0u32..130,
        protocol in prop_oneof![Just(6u8), Just(17)],
        source_port in 0u16..50, destination_port in 0u16..50,
    ) {
        let address = |n: u32| if is_v4 { format!("10.0.0.{n}") } else { format!("fd00::{n:x}") };
        let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
        let (source, destination) = (address(source), address(destination));
        let inner = datagram(&source, &destination, protocol, &[&ports[..], &[0; 16]].concat());
        let slow = |selectors: &[Selector], address: &str, port| {
            selectors.iter().any(|selector| selector.covers(address.parse().unwrap(), protocol, port))
        };
        let compiled = Selectors::new(&ours, &theirs);
        let outbound = slow(&ours, &source, source_port) && slow(&theirs, &destination, destination_port);
        let inbound = slow(&theirs, &source, source_port) && slow(&ours, &destination, destination_port);
        let usual = compiled.usual();
        prop_assert!(outbound || !usual.cover_outbound(&inner));
        prop_assert!(inbound || !usual.cover_inbound(&inner));
        let is_simple = ours.len() == 1 && theirs.len() == 1 && ours[0].protocol == 0 && theirs[0].protocol == 0;
        if is_simple && is_v4 && [ours[0], theirs[0]].iter().all(|one| (one.first_port, one.last_port) == (0, 65535)) {
            prop_assert_eq!(usual.cover_outbound(&inner), outbound);
            prop_assert_eq!(usual.cover_inbound(&inner), inbound);
        }
        prop_assert_eq!(compiled.cover_outbound(&inner), outbound);
        prop_assert_eq!(compiled.cover_inbound(&inner), inbound);
    }
}
