//! Traffic class of the inner and the outer header: congestion notification (RFC 6040) and DSCP (RFC 4301 section 5.1.2).
//!
//! The traffic class octet (IPv4: type of service) is six bits of DSCP and two of ECN. On the way in, a router on the outer
//! path may have marked congestion, which the inner packet must then tell its receiver:
//!
//! ```text
//!             outer:  Not-ECT   ECT(0)    ECT(1)    CE
//! inner Not-ECT       Not-ECT   Not-ECT   Not-ECT   drop
//! inner ECT(0)        ECT(0)    ECT(0)    ECT(1)    CE
//! inner ECT(1)        ECT(1)    ECT(1)    ECT(1)    CE
//! inner CE            CE        CE        CE        CE
//! ```
//!
//! On the way out the outer header gets the inner ECN ("normal mode"), or Not-ECT where the peer cannot do this
//! ("compatibility mode"). DSCP is copied or set on the way out, and never taken from the outer header on the way in.

use crate::wire::checksum::Delta;
use crate::wire::ipv4;

pub const NOT_ECT: u8 = 0b00;
pub const ECT_1: u8 = 0b01;
pub const ECT_0: u8 = 0b10;
pub const CE: u8 = 0b11;
const ECN_MASK: u8 = 0b11;

/// The DSCP of outer headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dscp {
    /// As the inner packet's: the path can tell classes apart, and so can whoever watches it.
    #[default]
    Copy,
    /// Always this one, six bits.
    Fixed(u8),
}

/// The outer traffic class for an inner one. `ecn`: normal mode, else compatibility mode.
#[inline]
pub fn encapsulate(inner_class: u8, dscp: Dscp, ecn: bool) -> u8 {
    let dscp = match dscp {
        Dscp::Copy => inner_class & !ECN_MASK,
        Dscp::Fixed(dscp) => dscp << 2,
    };
    dscp | if ecn { inner_class & ECN_MASK } else { NOT_ECT }
}

/// The ECN of a packet that came out of the tunnel. `None`: to be dropped, because its sender would not understand that
/// there is congestion.
#[inline]
pub fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    match (inner & ECN_MASK, outer & ECN_MASK) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) | (CE, _) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// The traffic class of an IP packet; 0 for what is none.
#[inline]
pub fn class_of(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 4 => *second,
        [first, second, ..] if first >> 4 == 6 => first << 4 | second >> 4,
        _ => 0,
    }
}

/// Tells an inner packet what the outer header said. `false`: drop it.
#[inline]
pub fn tell_inner(packet: &mut [u8], outer: u8) -> bool {
    // Not-ECT and ECT(0) tell nothing.
    if outer & ECT_1 == 0 {
        return true;
    }
    let inner = class_of(packet) & ECN_MASK;
    match decapsulate(inner, outer) {
        Some(ecn) if ecn == inner => true,
        Some(ecn) => {
            set(packet, ecn);
            true
        }
        None => false,
    }
}

fn set(packet: &mut [u8], ecn: u8) {
    if packet.first().is_some_and(|first| first >> 4 == 6) {
        // Version 4 bits, traffic class 8 bits: its last two bits are these of the second octet.
        if let Some(second) = packet.get_mut(1) {
            *second = *second & !(ECN_MASK << 4) | ecn << 4;
        }
        return;
    }
    let Some(header) = packet.first_chunk_mut::<{ ipv4::MIN_HEADER_BYTES }>() else { return };
    let before = u16::from_be_bytes([header[0], header[1]]);
    header[1] = header[1] & !ECN_MASK | ecn;
    let after = u16::from_be_bytes([header[0], header[1]]);
    Delta::default().word(before, after).apply_at(header, ipv4::CHECKSUM);
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::wire::{checksum, ipv6};

    const ALL: [u8; 4] = [NOT_ECT, ECT_0, ECT_1, CE];

    #[test]
    fn decapsulation_is_figure_4_of_rfc_6040_cell_by_cell() {
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in table {
            for (outer, expected) in ALL.into_iter().zip(row) {
                assert_eq!(decapsulate(inner, outer), expected, "inner {inner:02b}, outer {outer:02b}");
                assert_eq!(decapsulate(0xfc | inner, 0xa8 | outer), expected, "DSCP is no part of it");
            }
        }
    }

    #[test]
    fn encapsulation_is_figure_3_of_rfc_6040_in_both_modes() {
        for inner in ALL {
            assert_eq!(encapsulate(0xb8 | inner, Dscp::Copy, true), 0xb8 | inner, "normal mode");
            assert_eq!(encapsulate(0xb8 | inner, Dscp::Copy, false), 0xb8, "compatibility mode");
            assert_eq!(encapsulate(0xb8 | inner, Dscp::Fixed(10), true), 10 << 2 | inner);
            assert_eq!(encapsulate(0xb8 | inner, Dscp::Fixed(10), false), 10 << 2);
        }
    }

    #[test]
    fn the_inner_packet_is_told_and_stays_valid() {
        let mut v4 = [0; 20];
        ipv4::emit(&mut v4, 0, 64, 17, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        let mut v6 = [0; 40];
        ipv6::emit(&mut v6, 0, 64, 17, Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        v6[1] = 0x0f; // the upper bits of the flow label
        for inner in ALL {
            for outer in ALL {
                let (mut v4, mut v6) = (v4.to_vec(), v6.to_vec());
                set(&mut v4, inner);
                set(&mut v6, inner);
                let expected = decapsulate(inner, outer);
                assert_eq!(tell_inner(&mut v4, 0xb8 | outer), expected.is_some());
                assert_eq!(tell_inner(&mut v6, 0xb8 | outer), expected.is_some());
                for packet in [&v4, &v6] {
                    assert_eq!(class_of(packet), expected.unwrap_or(inner), "DSCP is not taken from outside");
                }
                assert_eq!(checksum::checksum(&v4), 0);
                assert_eq!((v6[0], v6[1] & 0x0f), (0x60, 0x0f));
            }
        }
    }

    #[test]
    fn the_class_is_read_where_each_family_has_it() {
        assert_eq!(class_of(&[0x45, 0xb9]), 0xb9);
        assert_eq!(class_of(&[0x6b, 0x9f]), 0xb9);
        assert_eq!((class_of(&[]), class_of(&[0x45]), class_of(&[0x05, 1])), (0, 0, 0));
        assert!(tell_inner(&mut [], NOT_ECT) && !tell_inner(&mut [0x60], CE));
    }
}
