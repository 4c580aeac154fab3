//! One fragment of a datagram, of either IP version: where its bytes belong, and to which datagram.
//!
//! ```text
//! IPv4   header with offset and flags | payload
//! IPv6   headers of every fragment | fragment header | payload
//!        '--- header_bytes -------'                  ^ payload_at
//! ```

use std::net::IpAddr;

use super::{ipv4, ipv6};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IPv6: what the fragment header says comes next, which need not be the upper layer.
    pub protocol: u8,
    /// Of IPv4 16 bits.
    pub identification: u32,
    /// Of the payload in the datagram's, bytes. A multiple of eight.
    pub offset: usize,
    pub more: bool,
    /// IPv4: DF. IPv6 has no such bit.
    pub dont_fragment: bool,
    /// What stands in front of the whole datagram too: IPv6 without the fragment header.
    pub header_bytes: usize,
    /// The place of the byte that names what comes behind these headers.
    pub next_header_at: usize,
    pub payload_at: usize,
    /// Of this fragment, by its own length field; unless it is quoted, at most the bytes there are.
    pub total_bytes: usize,
}

impl Fragment {
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    pub fn payload_bytes(&self) -> usize {
        self.total_bytes - self.payload_at
    }

    /// A whole datagram with a fragment header (RFC 6946). There is none in IPv4.
    pub fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// `None`: it is no fragment, or cannot be read.
pub fn parse(packet: &[u8]) -> Option<Fragment> {
    match packet.first()? >> 4 {
        4 => ipv4::fragment(packet),
        6 => ipv6::fragment(packet),
        _ => None,
    }
}

/// The same of a packet that an ICMP error quotes, of which the end may be cut off.
pub fn parse_quoted(packet: &[u8]) -> Option<Fragment> {
    match packet.first()? >> 4 {
        4 => ipv4::quoted_fragment(packet),
        6 => ipv6::quoted_fragment(packet),
        _ => None,
    }
}

/// Makes an atomic fragment the packet that it is, in place: the fragment header goes, what is behind it moves up.
pub fn unwrap_atomic(packet: &mut [u8], fragment: &Fragment) {
    debug_assert!(fragment.is_v6() && fragment.is_atomic());
    packet.copy_within(fragment.payload_at..fragment.total_bytes, fragment.header_bytes);
    packet[fragment.next_header_at] = fragment.protocol;
    let payload_length = fragment.total_bytes - ipv6::FRAGMENT_HEADER_BYTES - ipv6::HEADER_BYTES;
    packet[ipv6::PAYLOAD_LENGTH..ipv6::PAYLOAD_LENGTH + 2].copy_from_slice(&(payload_length as u16).to_be_bytes());
}
