//! IPv4 (RFC 791).
//!
//! ```text
//!  0: version, IHL  1: DSCP, ECN  2: total length  4: identification  6: flags, fragment offset
//!  8: TTL  9: protocol  10: header checksum  12: source  16: destination  20: options
//! ```

use std::net::Ipv4Addr;

use super::checksum;
use super::fragment::Fragment;

pub const MIN_HEADER_BYTES: usize = 20;
pub const TYPE_OF_SERVICE: usize = 1;
pub const TOTAL_LENGTH: usize = 2;
pub const IDENTIFICATION: usize = 4;
pub const FRAGMENT: usize = 6;
pub const TTL: usize = 8;
pub const PROTOCOL: usize = 9;
pub const CHECKSUM: usize = 10;
pub const SOURCE: usize = 12;
pub const DESTINATION: usize = 16;

pub const DONT_FRAGMENT: u16 = 0x4000;
pub const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fields of a header that the walk uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub header_bytes: usize,
    pub total_bytes: usize,
    pub ttl: u8,
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub dont_fragment: bool,
    /// Part of a fragmented datagram, the first part included.
    pub is_fragment: bool,
    /// Has an option that steers the packet past the walk's decisions, or that carries addresses which the walk would
    /// have to translate; or options that cannot be read.
    pub is_refused: bool,
}

/// Options that are refused: source routes lead to hosts that no grant names, and what routers record are addresses of
/// another realm (RFC 7126 sections 4.3 to 4.6).
mod option {
    pub const END: u8 = 0;
    pub const NO_OPERATION: u8 = 1;
    pub const RECORD_ROUTE: u8 = 7;
    pub const TIMESTAMP: u8 = 68;
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
}

/// Reads a header. `None` when it is cut short or contradicts itself. The header checksum is not verified: the tunnel
/// has authenticated the bytes, and a wrong checksum stays wrong through the incremental update, so that the receiver
/// still sees it. `total_bytes` may exceed `bytes` (as inside an ICMP error); the caller decides.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<Header> {
    let fixed: &[u8; MIN_HEADER_BYTES] = bytes.first_chunk()?;
    let header_bytes = usize::from(fixed[0] & 0x0f) * 4;
    let total_bytes = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
    let valid = fixed[0] >> 4 == 4
        && header_bytes >= MIN_HEADER_BYTES
        && header_bytes <= bytes.len()
        && header_bytes <= total_bytes;
    valid.then(|| Header {
        header_bytes,
        total_bytes,
        ttl: fixed[TTL],
        protocol: fixed[PROTOCOL],
        source: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]),
        destination: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]),
        dont_fragment: fragment & DONT_FRAGMENT != 0,
        is_fragment: fragment & (MORE_FRAGMENTS | OFFSET_MASK) != 0,
        is_refused: header_bytes > MIN_HEADER_BYTES && refuses(&bytes[MIN_HEADER_BYTES..header_bytes]),
    })
}

fn refuses(mut options: &[u8]) -> bool {
    use option::*;
    while let [kind, rest @ ..] = options {
        options = match *kind {
            END => return false,
            NO_OPERATION => rest,
            RECORD_ROUTE | TIMESTAMP | LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return true,
            _ => match rest.first().and_then(|len| options.get(usize::from(*len).max(2)..)) {
                Some(rest) => rest,
                None => return true,
            },
        };
    }
    false
}

/// The fragment that `packet` is. `None`: it is whole, or cannot be read, or is shorter than it says.
pub fn fragment(packet: &[u8]) -> Option<Fragment> {
    quoted_fragment(packet).filter(|fragment| fragment.total_bytes <= packet.len())
}

/// The same of a packet whose end may be cut off.
pub fn quoted_fragment(packet: &[u8]) -> Option<Fragment> {
    let header = parse(packet).filter(|header| header.is_fragment)?;
    let word = u16::from_be_bytes([packet[FRAGMENT], packet[FRAGMENT + 1]]);
    Some(Fragment {
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: header.protocol,
        identification: u16::from_be_bytes([packet[IDENTIFICATION], packet[IDENTIFICATION + 1]]).into(),
        offset: usize::from(word & OFFSET_MASK) * 8,
        more: word & MORE_FRAGMENTS != 0,
        dont_fragment: header.dont_fragment,
        header_bytes: header.header_bytes,
        next_header_at: PROTOCOL,
        payload_at: header.header_bytes,
        total_bytes: header.total_bytes,
    })
}

/// Whether a packet that is a fragment is the first one.
pub fn is_first(packet: &[u8]) -> bool {
    matches!(packet, [_, _, _, _, _, _, high, low, ..] if u16::from_be_bytes([*high, *low]) & OFFSET_MASK == 0)
}

/// The options that every fragment carries (RFC 791 section 3.1: those with the copied flag), without padding, into `out`
/// (as long as `options`). How many bytes.
pub fn copied_options(mut options: &[u8], out: &mut [u8]) -> usize {
    const COPIED: u8 = 0x80;
    let mut len = 0;
    while let [kind, rest @ ..] = options {
        options = match *kind {
            option::END => break,
            option::NO_OPERATION => rest,
            kind => {
                let Some(bytes) = rest.first().and_then(|len| options.get(..usize::from(*len).max(2))) else { break };
                if kind & COPIED != 0 {
                    out[len..len + bytes.len()].copy_from_slice(bytes);
                    len += bytes.len();
                }
                &options[bytes.len()..]
            }
        };
    }
    len
}

/// Computes the checksum of a header afresh.
pub fn renew_checksum(header: &mut [u8]) {
    header[CHECKSUM..CHECKSUM + 2].fill(0);
    let sum = checksum::checksum(header);
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Writes a 20-byte header for `payload_bytes` of payload, with its checksum; don't-fragment is set, so that the
/// identification may be zero (RFC 6864 section 4.1).
pub fn emit(
    out: &mut [u8; MIN_HEADER_BYTES],
    payload_bytes: usize,
    ttl: u8,
    protocol: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) {
    let total = (MIN_HEADER_BYTES + payload_bytes) as u16;
    out.fill(0);
    out[0] = 0x45;
    out[2..4].copy_from_slice(&total.to_be_bytes());
    out[6..8].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
    out[TTL] = ttl;
    out[PROTOCOL] = protocol;
    out[12..16].copy_from_slice(&source.octets());
    out[16..20].copy_from_slice(&destination.octets());
    renew_checksum(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(payload in 0usize..1400, ttl: u8, protocol: u8, source: u32, destination: u32) {
            let mut out = [0; MIN_HEADER_BYTES];
            let (source, destination) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
            emit(&mut out, payload, ttl, protocol, source, destination);
            prop_assert_eq!(checksum::checksum(&out), 0);
            let total_bytes = MIN_HEADER_BYTES + payload;
            prop_assert_eq!(
                parse(&out),
                Some(Header {
                    header_bytes: 20, total_bytes, ttl, protocol, source, destination,
                    dont_fragment: true, is_fragment: false, is_refused: false,
                })
            );
        }
    }

    #[test]
    fn refuses_routes_and_records_and_lets_other_options_be() {
        for (options, refused) in [
            (&[131, 7, 4, 192, 168, 1, 99, 0][..], true),
            (&[1, 137, 7, 4, 10, 0, 0, 1], true),
            (&[7, 7, 4, 0, 0, 0, 0, 0], true),
            (&[68, 4, 5, 0], true),
            (&[148, 4, 0, 0], false),
            (&[1, 1, 1, 0], false),
            (&[0, 131, 7, 4], false),
            (&[130, 9, 0, 0], true),
            (&[1, 1, 1, 130], true),
        ] {
            let mut packet = [0; MIN_HEADER_BYTES];
            emit(&mut packet, options.len(), 64, 17, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
            let mut packet = [&packet[..], options].concat();
            packet[0] = 0x40 | (packet.len() / 4) as u8;
            assert_eq!(parse(&packet).unwrap().is_refused, refused, "{options:?}");
        }
    }

    #[test]
    fn only_options_with_the_copied_flag_go_into_every_fragment() {
        let mut out = [0; 12];
        let len = copied_options(&[1, 68, 4, 5, 0, 148, 4, 9, 9, 1, 0, 148], &mut out);
        assert_eq!(out[..len], [148, 4, 9, 9]);
        assert_eq!(copied_options(&[148, 9, 0, 0], &mut out), 0, "cut short");
    }

    #[test]
    fn tells_where_a_fragments_bytes_belong() {
        let mut packet = [0; MIN_HEADER_BYTES + 16];
        let header = packet.first_chunk_mut().unwrap();
        emit(header, 16, 64, 17, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
        assert_eq!(fragment(&packet), None, "whole");
        packet[IDENTIFICATION..FRAGMENT + 2].copy_from_slice(&[0x12, 0x34, 0x20, 0x03]);
        let got = fragment(&packet).unwrap();
        assert_eq!((got.identification, got.offset, got.more, got.dont_fragment), (0x1234, 24, true, false));
        assert_eq!((got.protocol, got.payload_at, got.payload_bytes()), (17, 20, 16));
        packet[FRAGMENT] = 0x40;
        let got = fragment(&packet).unwrap();
        assert_eq!((got.offset, got.more, got.dont_fragment), (24, false, true));
        assert_eq!(fragment(&packet[..35]), None, "cut short");
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let mut good = [0; MIN_HEADER_BYTES];
        emit(&mut good, 0, 64, 17, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        assert!(parse(&good).is_some());
        assert!(parse(&good[..19]).is_none(), "cut short");
        for (at, value, why) in [
            (0, 0x65, "version"),
            (0, 0x44, "IHL below 5"),
            (0, 0x46, "IHL beyond the bytes"),
            (3, 19, "total below header"),
        ] {
            let mut bad = good;
            bad[at] = value;
            assert!(parse(&bad).is_none(), "{why}");
        }
    }
}
