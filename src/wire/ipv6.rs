//! IPv6 (RFC 8200).
//!
//! ```text
//!  0: version, traffic class, flow label  4: payload length  6: next header  7: hop limit  8: source  24: destination
//! ```

use std::net::Ipv6Addr;

use super::fragment::Fragment;

pub const HEADER_BYTES: usize = 40;
pub const PAYLOAD_LENGTH: usize = 4;
pub const NEXT_HEADER: usize = 6;
pub const HOP_LIMIT: usize = 7;
pub const SOURCE: usize = 8;
pub const DESTINATION: usize = 24;

/// Most extension headers walked before a packet is refused. Real ones carry one or two.
pub const MAX_EXTENSION_HEADERS: usize = 6;

/// In a routing header. With none left the packet is at its destination, and the header is to be ignored (RFC 8200
/// section 4.4).
const SEGMENTS_LEFT: usize = 3;

/// A fragment header (RFC 8200 section 4.5): next header, reserved, offset in units of eight and flags, identification.
pub const FRAGMENT_HEADER_BYTES: usize = 8;

pub mod next_header {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// The fields of a header, and where its extension headers end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Fixed header and extension headers.
    pub header_bytes: usize,
    pub total_bytes: usize,
    pub hop_limit: u8,
    /// The upper-layer protocol behind the extension headers.
    pub protocol: u8,
    /// The place of the byte that names `protocol`.
    pub next_header_at: usize,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub is_fragment: bool,
    /// A routing header that leads somewhere yet, or too many extension headers.
    pub is_refused: bool,
}

/// Reads a header and walks its extension headers. `None` when it is cut short.
pub fn parse(bytes: &[u8]) -> Option<Header> {
    let fixed: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    let source: [u8; 16] = *fixed[SOURCE..].first_chunk()?;
    let destination: [u8; 16] = *fixed[DESTINATION..].first_chunk()?;
    let mut header = Header {
        header_bytes: HEADER_BYTES,
        total_bytes: HEADER_BYTES + usize::from(u16::from_be_bytes([fixed[4], fixed[5]])),
        hop_limit: fixed[HOP_LIMIT],
        protocol: fixed[NEXT_HEADER],
        next_header_at: NEXT_HEADER,
        source: source.into(),
        destination: destination.into(),
        is_fragment: false,
        is_refused: false,
    };
    walk(bytes, &mut header)?;
    Some(header)
}

/// Goes from `header.header_bytes` to the end of the extension headers, a fragment header or a routing header.
fn walk(bytes: &[u8], header: &mut Header) -> Option<()> {
    for _ in 0..MAX_EXTENSION_HEADERS {
        match header.protocol {
            next_header::HOP_BY_HOP | next_header::DESTINATION_OPTIONS | next_header::ROUTING => {
                let extension = bytes.get(header.header_bytes..header.header_bytes + 8)?;
                if header.protocol == next_header::ROUTING && extension[SEGMENTS_LEFT] != 0 {
                    header.is_refused = true;
                    return Some(());
                }
                header.protocol = extension[0];
                header.next_header_at = header.header_bytes;
                header.header_bytes += 8 + usize::from(extension[1]) * 8;
                if header.header_bytes > bytes.len() || header.header_bytes > header.total_bytes {
                    return None;
                }
            }
            next_header::FRAGMENT => {
                header.is_fragment = true;
                return Some(());
            }
            _ => return Some(()),
        }
    }
    header.is_refused = true;
    Some(())
}

/// The fragment that `packet` is, an atomic one (RFC 6946) included. `None`: it has no fragment header, or cannot be
/// read, or is shorter than it says.
pub fn fragment(packet: &[u8]) -> Option<Fragment> {
    quoted_fragment(packet).filter(|fragment| fragment.total_bytes <= packet.len())
}

/// The same of a packet whose end, behind the fragment header, may be cut off.
pub fn quoted_fragment(packet: &[u8]) -> Option<Fragment> {
    let header = parse(packet).filter(|header| header.is_fragment)?;
    let fragment = packet[..header.total_bytes.min(packet.len())].get(header.header_bytes..)?;
    let [next, _, high, low, a, b, c, d]: [u8; FRAGMENT_HEADER_BYTES] = *fragment.first_chunk()?;
    let word = u16::from_be_bytes([high, low]);
    Some(Fragment {
        source: header.source.into(),
        destination: header.destination.into(),
        protocol: next,
        identification: u32::from_be_bytes([a, b, c, d]),
        offset: usize::from(word & !7),
        more: word & 1 != 0,
        dont_fragment: false,
        header_bytes: header.header_bytes,
        next_header_at: header.next_header_at,
        payload_at: header.header_bytes + FRAGMENT_HEADER_BYTES,
        total_bytes: header.total_bytes,
    })
}

/// The upper-layer protocol of a first fragment, and where its header starts. `None`: it is not the first, or the chain of
/// headers does not end within `packet` (RFC 7112), or is one that is refused.
pub fn upper_layer_of_first(packet: &[u8]) -> Option<(u8, usize)> {
    let mut header = parse(packet).filter(|header| header.is_fragment)?;
    let fragment: &[u8; FRAGMENT_HEADER_BYTES] = packet.get(header.header_bytes..)?.first_chunk()?;
    if [fragment[2], fragment[3] & !7] != [0, 0] {
        return None;
    }
    header.protocol = fragment[0];
    header.header_bytes += FRAGMENT_HEADER_BYTES;
    header.is_fragment = false;
    walk(packet, &mut header)?;
    (!header.is_refused && !header.is_fragment).then_some((header.protocol, header.header_bytes))
}

/// Whether a protocol number means a header that belongs to IPv6 itself, as routes and fragments are.
pub fn is_extension_header(number: u8) -> bool {
    use next_header::*;
    matches!(number, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// DSCP and ECN.
pub fn traffic_class(packet: &[u8]) -> u8 {
    packet[0] << 4 | packet[1] >> 4
}

pub fn set_traffic_class(packet: &mut [u8], class: u8) {
    packet[0] = packet[0] & 0xf0 | class >> 4;
    packet[1] = packet[1] & 0x0f | class << 4;
}

/// Writes a fixed header for `payload_bytes` of payload.
pub fn emit(
    out: &mut [u8; HEADER_BYTES],
    payload_bytes: usize,
    hop_limit: u8,
    protocol: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    out[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    out[4..6].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
    out[6] = protocol;
    out[HOP_LIMIT] = hop_limit;
    out[SOURCE..SOURCE + 16].copy_from_slice(&source.octets());
    out[DESTINATION..].copy_from_slice(&destination.octets());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(extensions: &[(u8, usize)], last: u8) -> Vec<u8> {
        let mut body = Vec::new();
        for (i, (_, blocks)) in extensions.iter().enumerate() {
            let next = extensions.get(i + 1).map_or(last, |(kind, _)| *kind);
            body.extend([next, *blocks as u8]);
            body.resize(body.len() + 6 + blocks * 8, 0);
        }
        let mut header = [0; HEADER_BYTES];
        let first = extensions.first().map_or(last, |(kind, _)| *kind);
        emit(&mut header, body.len(), 64, first, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        [&header[..], &body].concat()
    }

    #[test]
    fn walks_options_to_the_upper_layer() {
        let bytes = packet(&[(0, 0), (60, 2)], 6);
        let header = parse(&bytes).unwrap();
        assert_eq!((header.protocol, header.header_bytes, header.is_refused), (6, 40 + 8 + 24, false));
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None, "cut short");
    }

    #[test]
    fn refuses_routing_headers_and_long_chains() {
        let mut bytes = packet(&[(43, 0)], 6);
        let header = parse(&bytes).unwrap();
        assert_eq!((header.protocol, header.header_bytes, header.is_refused), (6, 48, false), "no segments left");
        bytes[HEADER_BYTES + SEGMENTS_LEFT] = 1;
        assert!(parse(&bytes).unwrap().is_refused);
        assert!(parse(&packet(&[(60, 0); MAX_EXTENSION_HEADERS], 6)).unwrap().is_refused);
        assert!(!parse(&packet(&[(60, 0); MAX_EXTENSION_HEADERS - 1], 6)).unwrap().is_refused);
    }

    #[test]
    fn the_traffic_class_lies_across_two_bytes() {
        let mut bytes = packet(&[], 6);
        bytes[1] = 0x0c; // of the flow label
        set_traffic_class(&mut bytes, 0xb9);
        assert_eq!((traffic_class(&bytes), &bytes[..2]), (0xb9, &[0x6b, 0x9c][..]));
    }

    #[test]
    fn sees_fragments_and_where_their_bytes_belong() {
        let mut bytes = packet(&[(60, 0), (44, 0)], 17);
        bytes.extend([7; 16]);
        bytes[5] += 16;
        bytes[50..56].copy_from_slice(&[0x05, 0xa9, 1, 2, 3, 4]);
        assert!(parse(&bytes).unwrap().is_fragment);
        let got = fragment(&bytes).unwrap();
        assert_eq!((got.protocol, got.offset, got.more, got.identification), (17, 0x5a8, true, 0x0102_0304));
        assert_eq!((got.header_bytes, got.next_header_at, got.payload_at, got.payload_bytes()), (48, 40, 56, 16));
        assert_eq!(fragment(&bytes[..71]), None, "cut short");
        assert_eq!(fragment(&packet(&[(60, 0)], 17)), None, "whole");
    }

    #[test]
    fn a_first_fragment_holds_the_whole_chain_of_headers() {
        let whole = packet(&[(44, 0), (60, 1)], 17);
        assert_eq!(upper_layer_of_first(&whole), Some((17, 40 + 8 + 16)));
        let mut cut = whole[..whole.len() - 8].to_vec();
        cut[5] -= 8;
        let mut later = whole.clone();
        later[43] = 8;
        assert_eq!(upper_layer_of_first(&later), None);
        assert_eq!(upper_layer_of_first(&cut), None);
        for hidden in [43, 44] {
            let mut bytes = packet(&[(44, 0), (hidden, 0)], 17);
            bytes[HEADER_BYTES + FRAGMENT_HEADER_BYTES + SEGMENTS_LEFT] = 1;
            assert_eq!(upper_layer_of_first(&bytes), None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), next in prop::sample::select(vec![0u8, 43, 44, 60])) {
            if bytes.len() > 40 {
                (bytes[0], bytes[4], bytes[NEXT_HEADER]) = (0x60, 0, next);
            }
            let _ = parse(&bytes);
            let _ = fragment(&bytes);
            let _ = upper_layer_of_first(&bytes);
        }
    }
}
