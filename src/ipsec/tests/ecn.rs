//! Congestion and traffic classes through an endpoint (RFC 6040, RFC 4301 section 5.1.2).

use super::world::*;
use crate::ipsec::ecn::{CE, ECT_0, ECT_1, NOT_ECT, class_of};
use crate::ipsec::{ChildSa, Dscp};
use crate::packet::{Datagram, DropReason, Opened};
use crate::wire::checksum;

const EF: u8 = 46 << 2;

/// An inner packet of this class, with a right checksum if it has one.
fn of_class(mut packet: Vec<u8>, class: u8) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        (packet[0], packet[1]) = (0x60 | class >> 4, class << 4);
    } else {
        (packet[1], packet[10], packet[11]) = (class, 0, 0);
        let sum = checksum::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

#[test]
fn the_outer_class_is_copied_or_set() {
    for (dscp, ecn, expected) in [
        (Dscp::Copy, true, EF | ECT_0),
        (Dscp::Copy, false, EF),
        (Dscp::Fixed(10), true, 10 << 2 | ECT_0),
        (Dscp::Fixed(10), false, 10 << 2),
    ] {
        let (mut a, mut b) = pair_with(|child| ChildSa { dscp, ecn, ..child });
        for inner in [v4(20), packet("fd00::1", "fd00::2", 20)] {
            let inner = of_class(inner, EF | ECT_0);
            let sealed = a.seal(&inner).unwrap();
            assert_eq!(a.outbox.runs()[0].traffic_class, expected);
            assert_eq!(b.open(&sealed), Ok(inner), "the inner class is left alone");
        }
    }
}

#[test]
fn congestion_on_the_way_reaches_the_inner_packet() {
    let (mut a, mut b) = pair();
    for inner in [v4(20), packet("fd00::1", "fd00::2", 20)] {
        for (class, outer, expected) in [
            (EF | ECT_0, CE, Some(EF | CE)),
            (EF | ECT_0, ECT_1, Some(EF | ECT_1)),
            (EF | ECT_1, ECT_0, Some(EF | ECT_1)),
            (EF | CE, NOT_ECT, Some(EF | CE)),
            (EF, ECT_1, Some(EF)),
            (EF, CE, None),
        ] {
            let inner = of_class(inner.clone(), class);
            let sealed = a.seal(&inner).unwrap();
            let mut out = vec![0; sealed.len()];
            let datagram = Datagram { ecn: outer, ..Datagram::new(path(4500), &sealed) };
            let opened = b.endpoint.open(datagram, &mut out, b.now);
            let Some(expected) = expected else {
                assert_eq!(opened, proved(DropReason::CongestionUntold));
                continue;
            };
            assert_eq!(opened, Opened::Packet { tunnel: TUNNEL, len: inner.len() });
            assert_eq!(out[..inner.len()], of_class(inner, expected)[..], "nothing but class and checksum differ");
            assert_eq!(class_of(&out), expected);
        }
    }
}
