//! Types, codes, pointers and MTUs of ICMP and ICMPv6 (RFC 7915 sections 4.2 and 5.2). `None` everywhere: the message is
//! dropped silently, as the RFC has it.

use super::MIN_MTU_BYTES_V6;
use crate::wire::icmp::HEADER_BYTES;
use crate::wire::{ipv4, ipv6};

/// The first bytes of an ICMP message: type, code, checksum, and four bytes that depend on the type.
type Header = [u8; HEADER_BYTES];

/// ICMP types (RFC 792).
mod v4 {
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;

    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// ICMPv6 types (RFC 4443).
mod v6 {
    pub const UNREACHABLE: u8 = 1;
    pub const TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const ECHO_REQUEST: u8 = 128;
    pub const ECHO_REPLY: u8 = 129;

    pub const UNRECOGNIZED_NEXT_HEADER: u8 = 1;
}

/// Where RFC 4884 has the length of the quoted packet: in words of four bytes in ICMP ...
const QUOTED_WORDS_V4: usize = 5;
/// ... and of eight in ICMPv6.
const QUOTED_WORDS_V6: usize = 4;

/// Likely MTUs, for routers older than RFC 1191 that tell none (its section 7.1).
const PLATEAUS: [u16; 6] = [32_000, 17_914, 8166, 4352, 2002, 1492];

/// By how much a packet grows on its way from IPv4 to IPv6.
const GROWTH: u32 = (ipv6::HEADER_BYTES - ipv4::MIN_HEADER_BYTES) as u32;

/// The type of an echo message in the IP version that `to_v6` says.
pub(super) fn echo(to_v6: bool, kind: u8) -> Option<u8> {
    match (to_v6, kind) {
        (true, v4::ECHO_REQUEST) => Some(v6::ECHO_REQUEST),
        (true, v4::ECHO_REPLY) => Some(v6::ECHO_REPLY),
        (false, v6::ECHO_REQUEST) => Some(v4::ECHO_REQUEST),
        (false, v6::ECHO_REPLY) => Some(v4::ECHO_REPLY),
        _ => None,
    }
}

/// How many bytes behind the header of an error belong to the packet that it quotes. What follows are extensions, which
/// are cut off: they hold addresses in the terms of the realm that sent them (RFC 5837), and labels that mean nothing
/// elsewhere (RFC 4950).
pub(super) fn quoted_bytes(is_v6: bool, header: &Header) -> usize {
    take_quoted_bytes(is_v6, &mut header.to_owned()).unwrap_or(usize::MAX)
}

/// The same, `None` where the header does not say. The header says nothing of it afterwards.
pub(super) fn take_quoted_bytes(is_v6: bool, header: &mut Header) -> Option<usize> {
    let (at, word_bytes) = match (is_v6, header[0]) {
        (false, v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM) => (QUOTED_WORDS_V4, 4),
        (true, v6::UNREACHABLE | v6::TIME_EXCEEDED) => (QUOTED_WORDS_V6, 8),
        _ => return None,
    };
    let words = usize::from(std::mem::take(&mut header[at]));
    (words > 0).then_some(words * word_bytes)
}

/// The header of an error, its checksum left zero. `sent_bytes` is the length of the packet that it is about, as the error's
/// receiver sent it, `max_mtu_bytes` the most that it can be told to send.
pub(super) fn error(to_v6: bool, header: &Header, sent_bytes: usize, max_mtu_bytes: u16) -> Option<Header> {
    if to_v6 { error_v6(header, sent_bytes, max_mtu_bytes) } else { error_v4(header, max_mtu_bytes) }
}

/// Section 4.2.
fn error_v6(header: &Header, sent_bytes: usize, max_mtu_bytes: u16) -> Option<Header> {
    let [kind, code, _, _, pointer, _, mtu @ ..] = *header;
    let (kind, code, rest) = match (kind, code) {
        (v4::UNREACHABLE, v4::PROTOCOL_UNREACHABLE) => {
            (v6::PARAMETER_PROBLEM, v6::UNRECOGNIZED_NEXT_HEADER, NEXT_HEADER_AT)
        }
        (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED) => {
            let told = match u16::from_be_bytes(mtu) {
                0 => likely_mtu((sent_bytes as u32).saturating_sub(GROWTH)),
                mtu => mtu,
            };
            // An IPv6 sender discards what tells less than the minimum (RFC 8201 section 4); packets of that length reach
            // the IPv4 router with leave to fragment them.
            let told = (u32::from(told) + GROWTH).min(max_mtu_bytes.into()).max(MIN_MTU_BYTES_V6.into());
            (v6::TOO_BIG, 0, told)
        }
        (v4::UNREACHABLE, code) => (v6::UNREACHABLE, unreachable_v6(code)?, 0),
        (v4::TIME_EXCEEDED, code) => (v6::TIME_EXCEEDED, code, 0),
        // "Pointer indicates the error" and "bad length"; a missing option is not translated.
        (v4::PARAMETER_PROBLEM, 0 | 2) => (v6::PARAMETER_PROBLEM, 0, pointer_v6(pointer)?),
        _ => return None,
    };
    Some(emit(kind, code, rest))
}

/// Section 5.2.
fn error_v4(header: &Header, max_mtu_bytes: u16) -> Option<Header> {
    let [kind, code, _, _, rest @ ..] = *header;
    let rest = u32::from_be_bytes(rest);
    let (kind, code, rest) = match (kind, code) {
        (v6::UNREACHABLE, code) => (v4::UNREACHABLE, unreachable_v4(code)?, 0),
        (v6::TOO_BIG, _) => {
            let told = rest.saturating_sub(GROWTH).min(max_mtu_bytes.into());
            (v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED, told)
        }
        (v6::TIME_EXCEEDED, code) => (v4::TIME_EXCEEDED, code, 0),
        (v6::PARAMETER_PROBLEM, 0) => (v4::PARAMETER_PROBLEM, 0, u32::from(pointer_v4(rest)?) << 24),
        (v6::PARAMETER_PROBLEM, v6::UNRECOGNIZED_NEXT_HEADER) => (v4::UNREACHABLE, v4::PROTOCOL_UNREACHABLE, 0),
        _ => return None,
    };
    Some(emit(kind, code, rest))
}

fn emit(kind: u8, code: u8, rest: u32) -> Header {
    let [a, b, c, d] = rest.to_be_bytes();
    [kind, code, 0, 0, a, b, c, d]
}

fn unreachable_v6(code: u8) -> Option<u8> {
    match code {
        // Network, host, source route; unknown, isolated; for the type of service.
        0 | 1 | 5..=8 | 11 | 12 => Some(0), // no route
        9 | 10 | 13 | 15 => Some(1),        // prohibited
        3 => Some(4),                       // port
        _ => None,
    }
}

fn unreachable_v4(code: u8) -> Option<u8> {
    match code {
        0 | 2 | 3 => Some(1), // no route, beyond scope, address: host unreachable
        1 => Some(10),        // prohibited
        4 => Some(3),         // port
        _ => None,
    }
}

/// Offset of "next header" in the IPv6 header, which is what "protocol unreachable" is about.
const NEXT_HEADER_AT: u32 = 6;

/// Figure 3: from a byte of the IPv4 header to the field of the IPv6 header that corresponds.
fn pointer_v6(pointer: u8) -> Option<u32> {
    Some(match pointer {
        0 => 0,     // version
        1 => 1,     // type of service: traffic class
        2 | 3 => 4, // total length: payload length
        8 => 7,     // time to live: hop limit
        9 => NEXT_HEADER_AT,
        12..=15 => 8,     // source
        16..=19 => 24,    // destination
        _ => return None, // identification, fragmentation, checksum, options
    })
}

/// Figure 6, the other way round.
fn pointer_v4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        NEXT_HEADER_AT => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None, // flow label, extension headers
    })
}

/// The greatest plateau below the length of the packet that was too big. Below the least of them the sender is told the
/// IPv6 minimum, in terms of IPv4: more would be no news to who sent just that much, and the path stayed a black hole.
fn likely_mtu(packet_bytes: u32) -> u16 {
    let least = MIN_MTU_BYTES_V6 - GROWTH as u16;
    PLATEAUS.into_iter().find(|plateau| u32::from(*plateau) < packet_bytes).unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u16 = 1500;

    fn header(kind: u8, code: u8, rest: [u8; 4]) -> Header {
        [kind, code, 0xab, 0xcd, rest[0], rest[1], rest[2], rest[3]]
    }

    /// Every code of every type, and that nothing else is translated. RFC 7915 section 4.2.
    #[test]
    fn every_icmp_error_becomes_the_icmpv6_error_of_the_table() {
        let translated = |kind, code| error(true, &header(kind, code, [0, 0, 0, 0]), 1500, MTU).map(|h| (h[0], h[1]));
        for kind in 0..=255 {
            for code in 0..=255 {
                let want = match (kind, code) {
                    (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => Some((1, 0)),
                    (3, 2) => Some((4, 1)),
                    (3, 3) => Some((1, 4)),
                    (3, 4) => Some((2, 0)),
                    (3, 9 | 10 | 13 | 15) => Some((1, 1)),
                    (11, code) => Some((3, code)),
                    (12, 0 | 2) => Some((4, 0)),
                    _ => None,
                };
                assert_eq!(translated(kind, code), want, "type {kind} code {code}");
            }
        }
        assert_eq!(error(true, &header(3, 2, [0; 4]), 0, MTU), Some([4, 1, 0, 0, 0, 0, 0, 6]), "next header");
    }

    /// RFC 7915 section 5.2.
    #[test]
    fn every_icmpv6_error_becomes_the_icmp_error_of_the_table() {
        let translated = |kind, code| error(false, &header(kind, code, [0, 0, 0, 0]), 1500, MTU).map(|h| (h[0], h[1]));
        for kind in 0..=255 {
            for code in 0..=255 {
                let want = match (kind, code) {
                    (1, 0 | 2 | 3) => Some((3, 1)),
                    (1, 1) => Some((3, 10)),
                    (1, 4) => Some((3, 3)),
                    (2, _) => Some((3, 4)),
                    (3, code) => Some((11, code)),
                    (4, 0) => Some((12, 0)),
                    (4, 1) => Some((3, 2)),
                    _ => None,
                };
                assert_eq!(translated(kind, code), want, "type {kind} code {code}");
            }
        }
    }

    #[test]
    fn echo_and_nothing_else_of_the_queries_is_translated() {
        for kind in 0..=255 {
            let want = match kind {
                8 => Some(128),
                0 => Some(129),
                _ => None,
            };
            assert_eq!(echo(true, kind), want, "{kind}");
            let want = match kind {
                128 => Some(8),
                129 => Some(0),
                _ => None,
            };
            assert_eq!(echo(false, kind), want, "{kind}");
        }
    }

    /// Figure 3 and figure 6.
    #[test]
    fn pointers_point_at_the_field_that_corresponds() {
        let six = [
            (0, Some(0)),
            (1, Some(1)),
            (2, Some(4)),
            (3, Some(4)),
            (4, None),
            (5, None),
            (6, None),
            (7, None),
            (8, Some(7)),
            (9, Some(6)),
            (10, None),
            (11, None),
            (12, Some(8)),
            (15, Some(8)),
            (16, Some(24)),
            (19, Some(24)),
            (20, None),
            (255, None),
        ];
        for (pointer, want) in six {
            let got = error(true, &header(12, 0, [pointer, 0, 0, 0]), 1500, MTU);
            assert_eq!(got.map(|h| h[7]), want, "IPv4 byte {pointer}");
        }
        let four = [
            (0, Some(0)),
            (1, Some(1)),
            (2, None),
            (3, None),
            (4, Some(2)),
            (5, Some(2)),
            (6, Some(9)),
            (7, Some(8)),
            (8, Some(12)),
            (23, Some(12)),
            (24, Some(16)),
            (39, Some(16)),
            (40, None),
            (1 << 24, None),
        ];
        for (pointer, want) in four {
            let got = error(false, &header(4, 0, u32::to_be_bytes(pointer)), 1500, MTU);
            assert_eq!(got.map(|h| h[4]), want, "IPv6 byte {pointer}");
            assert!(got.is_none_or(|h| h[5..] == [0, 0, 0]));
        }
    }

    #[test]
    fn mtus_are_told_in_the_receivers_terms_and_within_what_we_know() {
        let six = |mtu: u16, sent_bytes, most| {
            let [high, low] = mtu.to_be_bytes();
            let header = error(true, &header(3, 4, [0, 0, high, low]), sent_bytes, most).unwrap();
            u32::from_be_bytes(*header.last_chunk().unwrap())
        };
        for (mtu, sent, most, want) in [
            (1400, 1500, 9000, 1420),
            (1400, 1500, 1410, 1410),
            (576, 1500, 9000, 1280), // an IPv6 host takes no less
            (0, 1500 + 20, 9000, 1492 + 20),
            (0, 1492 + 20, 9000, 1280), // it passes: over IPv4 it may be fragmented
            (0, 1280 + 20, 9000, 1280), // less than was sent
            (0, 60, 9000, 1280),
            (0, 65_575, 9000, 9000),
            (65_535, 1500, 1920, 1920),
        ] {
            assert_eq!(six(mtu, sent, most), want, "{mtu} of {sent}, at most {most}");
        }
        let four = |mtu: u32, most| error(false, &header(2, 0, mtu.to_be_bytes()), 1500, most).unwrap();
        assert_eq!(four(1420, 9000), [3, 4, 0, 0, 0, 0, 0x05, 0x78]);
        assert_eq!(four(1420, 1300), [3, 4, 0, 0, 0, 0, 0x05, 0x14]);
        assert_eq!(four(u32::MAX, 1300), [3, 4, 0, 0, 0, 0, 0x05, 0x14]);
        assert_eq!(four(7, 1300), [3, 4, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn extensions_are_no_part_of_the_quoted_packet() {
        for (is_v6, kind, rest, want) in [
            (false, 3, [0, 32, 0, 0], 128),
            (false, 11, [0, 33, 0, 0], 132),
            (false, 12, [20, 32, 0, 0], 128),
            (false, 3, [0, 0, 5, 0], usize::MAX),
            (true, 1, [16, 0, 0, 0], 128),
            (true, 3, [17, 0, 0, 0], 136),
            (true, 2, [0, 0, 5, 0], usize::MAX),
            (true, 4, [40, 0, 0, 0], usize::MAX),
        ] {
            assert_eq!(quoted_bytes(is_v6, &header(kind, 0, rest)), want, "{is_v6} {kind} {rest:?}");
        }
    }
}
