//! Cutting a packet into fragments (RFC 791 section 3.2, RFC 8200 section 4.5): as few as fit, all but the last of the same
//! length.
//!
//! ```text
//! IPv4   header, offset and flags in it | payload      later ones only have the options that are to be copied
//! IPv6   headers of every fragment | fragment header | payload
//! ```

use crate::wire::{checksum, ipv4, ipv6};

const MAX_IPV4_HEADER_BYTES: usize = 60;

/// One packet's fragments, one after the other.
#[derive(Debug)]
pub struct Fragments<'a> {
    head: &'a [u8],
    payload: &'a [u8],
    /// IPv4: the header of all fragments but the first.
    later_head: [u8; MAX_IPV4_HEADER_BYTES],
    later_head_bytes: usize,
    offset: usize,
    /// Of every fragment but the last; a multiple of eight.
    payload_bytes: usize,
    identification: u32,
}

/// The most header bytes that a fragment of `packet` has.
pub fn header_bytes(packet: &[u8]) -> Option<usize> {
    let head = head_of(packet)?;
    Some(head.len() + if is_v6(packet) { ipv6::FRAGMENT_HEADER_BYTES } else { 0 })
}

impl<'a> Fragments<'a> {
    /// The fragments of `packet`, which is whole, each with at most `payload_bytes` of payload. IPv4's DF stays as it is.
    /// `None`: it cannot be read, or its header is damaged; a new checksum would hide that.
    pub fn new(packet: &'a [u8], payload_bytes: usize, identification: u32) -> Option<Self> {
        let head = head_of(packet)?;
        let (mut later_head, mut later_head_bytes) = ([0; MAX_IPV4_HEADER_BYTES], 0);
        if !is_v6(packet) {
            if checksum::sum(head) != 0xffff {
                return None;
            }
            later_head_bytes = later_ipv4_header(head, &mut later_head);
        }
        let (payload, payload_bytes) = (&packet[head.len()..], payload_bytes & !7);
        let fragments =
            Fragments { head, payload, later_head, later_head_bytes, offset: 0, payload_bytes, identification };
        (payload_bytes > 0).then_some(fragments)
    }

    /// Writes the next fragment into `out`, and gives its length. `None`: there is no other, or `out` is too small.
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        let rest = self.payload.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let more = rest.len() > self.payload_bytes;
        let payload = if more { &rest[..self.payload_bytes] } else { rest };
        let len = match is_v6(self.head) {
            true => self.write_ipv6(payload, more, out)?,
            false => self.write_ipv4(payload, more, out)?,
        };
        self.offset += payload.len();
        Some(len)
    }

    fn write_ipv4(&self, payload: &[u8], more: bool, out: &mut [u8]) -> Option<usize> {
        let head = if self.offset == 0 { self.head } else { &self.later_head[..self.later_head_bytes] };
        let total = head.len() + payload.len();
        let (header, body) = out.get_mut(..total)?.split_at_mut(head.len());
        header.copy_from_slice(head);
        body.copy_from_slice(payload);
        let kept = u16::from_be_bytes([header[ipv4::FRAGMENT], header[ipv4::FRAGMENT + 1]]) & ipv4::DONT_FRAGMENT;
        let word = kept | if more { ipv4::MORE_FRAGMENTS } else { 0 } | (self.offset / 8) as u16;
        put(header, ipv4::TOTAL_LENGTH, total as u16);
        put(header, ipv4::IDENTIFICATION, self.identification as u16);
        put(header, ipv4::FRAGMENT, word);
        ipv4::renew_checksum(header);
        Some(total)
    }

    fn write_ipv6(&self, payload: &[u8], more: bool, out: &mut [u8]) -> Option<usize> {
        let payload_at = self.head.len() + ipv6::FRAGMENT_HEADER_BYTES;
        let total = payload_at + payload.len();
        let (headers, body) = out.get_mut(..total)?.split_at_mut(payload_at);
        let (head, fragment) = headers.split_at_mut(self.head.len());
        head.copy_from_slice(self.head);
        body.copy_from_slice(payload);
        put(head, ipv6::PAYLOAD_LENGTH, (total - ipv6::HEADER_BYTES) as u16);
        let next = if head.len() > ipv6::HEADER_BYTES { ipv6::HEADER_BYTES } else { ipv6::NEXT_HEADER };
        let [a, b, c, d] = self.identification.to_be_bytes();
        let [high, low] = (self.offset as u16 | u16::from(more)).to_be_bytes();
        fragment.copy_from_slice(&[head[next], 0, high, low, a, b, c, d]);
        head[next] = ipv6::next_header::FRAGMENT;
        Some(total)
    }
}

fn put(header: &mut [u8], at: usize, word: u16) {
    header[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

fn is_v6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6)
}

/// What stands in front of the payload of fragments: IPv4's header; IPv6's, with the hop-by-hop options where there are any
/// (a routing header that the walk lets through leads nowhere, and is payload).
fn head_of(packet: &[u8]) -> Option<&[u8]> {
    if !is_v6(packet) {
        return packet.get(..ipv4::parse(packet)?.header_bytes);
    }
    match (packet.get(ipv6::NEXT_HEADER)?, packet.get(ipv6::HEADER_BYTES + 1)) {
        (&ipv6::next_header::HOP_BY_HOP, Some(blocks)) => {
            packet.get(..ipv6::HEADER_BYTES + 8 + usize::from(*blocks) * 8)
        }
        _ => packet.get(..ipv6::HEADER_BYTES),
    }
}

/// The header of all fragments but the first, and its length.
fn later_ipv4_header(header: &[u8], out: &mut [u8; MAX_IPV4_HEADER_BYTES]) -> usize {
    let (fixed, options) = header.split_at(ipv4::MIN_HEADER_BYTES);
    out[..fixed.len()].copy_from_slice(fixed);
    let copied = ipv4::copied_options(options, &mut out[fixed.len()..fixed.len() + options.len()]);
    let header_bytes = (fixed.len() + copied).next_multiple_of(4); // what is left is zero: end of options
    out[0] = 0x40 | (header_bytes / 4) as u8;
    header_bytes
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::wire::fragment;

    fn v4(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 20];
        ipv4::emit(&mut header, options.len() + payload.len(), 64, 17, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST);
        let mut packet = [&header[..], options, payload].concat();
        packet[0] = 0x40 | ((20 + options.len()) / 4) as u8;
        packet[ipv4::FRAGMENT] = 0;
        ipv4::renew_checksum(&mut packet[..20 + options.len()]);
        packet
    }

    fn cut(packet: &[u8], payload_bytes: usize) -> Vec<Vec<u8>> {
        let mut fragments = Fragments::new(packet, payload_bytes, 0x0102_0304).unwrap();
        let mut out = [0; 2000];
        std::iter::from_fn(|| fragments.next_into(&mut out).map(|len| out[..len].to_vec())).collect()
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| at as u8).collect()
    }

    #[test]
    fn ipv4_fragments_are_as_few_as_fit_and_say_where_they_belong() {
        let payload = bytes(1000);
        let all = cut(&v4(&[], &payload), 407);
        let parsed: Vec<_> = all.iter().map(|packet| fragment::parse(packet).unwrap()).collect();
        let shape: Vec<_> = parsed.iter().map(|f| (f.offset, f.payload_bytes(), f.more)).collect();
        assert_eq!(shape, [(0, 400, true), (400, 400, true), (800, 200, false)]);
        for (fragment, packet) in parsed.iter().zip(&all) {
            assert_eq!((fragment.identification, fragment.dont_fragment), (0x0304, false));
            assert_eq!(checksum::sum(&packet[..20]), 0xffff);
            assert_eq!(packet[20..], payload[fragment.offset..fragment.offset + fragment.payload_bytes()]);
        }
    }

    #[test]
    fn dont_fragment_and_copied_options_stay_and_others_are_in_the_first_only() {
        let mut packet = v4(&[68, 4, 5, 0, 148, 4, 0, 0], &bytes(100));
        packet[ipv4::FRAGMENT] = 0x40;
        ipv4::renew_checksum(&mut packet[..28]);
        let all = cut(&packet, 64);
        assert_eq!((all[0].len(), &all[0][20..28]), (28 + 64, &[68, 4, 5, 0, 148, 4, 0, 0][..]));
        assert_eq!((all[1].len(), all[1][0], &all[1][20..24]), (24 + 36, 0x46, &[148, 4, 0, 0][..]));
        assert!(all.iter().all(|packet| fragment::parse(packet).unwrap().dont_fragment));
    }

    #[test]
    fn ipv6_fragments_have_a_header_of_their_own() {
        let payload = bytes(1300);
        let mut header = [0; 40];
        ipv6::emit(&mut header, payload.len(), 64, 17, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let all = cut(&[&header[..], &payload].concat(), 1232);
        let parsed: Vec<_> = all.iter().map(|packet| fragment::parse(packet).unwrap()).collect();
        let shape: Vec<_> = parsed.iter().map(|f| (f.offset, f.payload_bytes(), f.more, f.protocol)).collect();
        assert_eq!(shape, [(0, 1232, true, 17), (1232, 68, false, 17)]);
        assert!(parsed.iter().all(|fragment| fragment.identification == 0x0102_0304));
        assert_eq!(all[1][48..], payload[1232..]);
    }

    #[test]
    fn hop_by_hop_options_stand_in_front_of_every_fragment_and_others_are_payload() {
        let options = [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
        let mut header = [0; 40];
        ipv6::emit(&mut header, options.len() + 100, 64, 0, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let packet = [&header[..], &options, &bytes(100)].concat();
        assert_eq!(header_bytes(&packet), Some(56));
        for fragment in cut(&packet, 64) {
            let parsed = fragment::parse(&fragment).unwrap();
            assert_eq!((parsed.header_bytes, parsed.protocol), (48, 60));
            assert_eq!((fragment[6], &fragment[40..48]), (0, &[44, 0, 1, 4, 0, 0, 0, 0][..]));
        }
    }

    #[test]
    fn damage_is_not_hidden_and_nothing_is_cut_to_nothing() {
        let mut packet = v4(&[], &bytes(100));
        assert!(Fragments::new(&packet, 7, 1).is_none());
        packet[ipv4::TTL] ^= 1;
        assert!(Fragments::new(&packet, 64, 1).is_none());
        assert!(Fragments::new(&[], 64, 1).is_none());
        assert!(Fragments::new(&[0x60; 39], 64, 1).is_none());
        let mut fragments = Fragments::new(&[0x60; 100], 64, 1).unwrap();
        assert_eq!(fragments.next_into(&mut [0; 100]), None, "does not fit");
    }
}
