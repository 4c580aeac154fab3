//! The IP header itself (RFC 7915 sections 4.1 and 5.1): what of it crosses, and how the new one is written.

use std::net::IpAddr;

use crate::net::policy::protocol;
use crate::packet::Shown;
use crate::wire::checksum;
use crate::wire::headers::{Headers, Transport};
use crate::wire::{ipv4, ipv6};

/// Up to this many bytes an IPv4 packet made from an IPv6 one may be fragmented further on: an IPv6 sender never makes its
/// packets shorter than that (RFC 7915 section 5.1: 1,280 less what the header shrinks by).
const MAY_BE_FRAGMENTED_BYTES: usize = 1260;

/// Bytes of a header that we write.
pub(super) fn bytes(is_v6: bool) -> usize {
    if is_v6 { ipv6::HEADER_BYTES } else { ipv4::MIN_HEADER_BYTES }
}

/// What of a header means the same in both IP versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outline {
    /// DSCP and ECN: type of service, or traffic class.
    pub traffic_class: u8,
    pub hop_limit: u8,
    /// Already of the other IP version: ICMP is ICMPv6 there.
    pub protocol: u8,
    /// As the header says, however much of it there is; without options and extension headers.
    pub payload_bytes: usize,
}

impl Outline {
    /// `headers` was read from `packet`, so that its fixed header is there.
    pub fn of(packet: &[u8], headers: &Headers) -> Outline {
        let length = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        let (traffic_class, end) = if headers.is_v6() {
            (ipv6::traffic_class(packet), ipv6::HEADER_BYTES + length(ipv6::PAYLOAD_LENGTH))
        } else {
            (packet[ipv4::TYPE_OF_SERVICE], length(ipv4::TOTAL_LENGTH))
        };
        let is_icmp = !matches!(headers.transport, Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other);
        Outline {
            traffic_class,
            hop_limit: headers.hop_limit,
            protocol: match (is_icmp, headers.is_v6()) {
                (false, _) => headers.protocol,
                (true, false) => protocol::ICMPV6,
                (true, true) => protocol::ICMP,
            },
            payload_bytes: end.saturating_sub(headers.transport_offset),
        }
    }

    /// Over IPv4. Longer ones have DF, so that their sender hears of a narrow link.
    pub fn may_be_fragmented(&self) -> bool {
        ipv4::MIN_HEADER_BYTES + self.payload_bytes <= MAY_BE_FRAGMENTED_BYTES
    }

    /// Writes a header with the addresses of `shown`, of the IP version that they are of. Flow label and fragment header
    /// there are none. With an `identification` the packet may be fragmented further on (IPv4).
    pub fn write(&self, out: &mut [u8], shown: &Shown, identification: Option<u16>) {
        match (shown.source, shown.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let Some(out) = out.first_chunk_mut() else { return };
                ipv4::emit(out, self.payload_bytes, self.hop_limit, self.protocol, source, destination);
                out[ipv4::TYPE_OF_SERVICE] = self.traffic_class;
                if let Some(identification) = identification {
                    out[ipv4::IDENTIFICATION..ipv4::IDENTIFICATION + 2].copy_from_slice(&identification.to_be_bytes());
                    out[ipv4::FRAGMENT..ipv4::FRAGMENT + 2].fill(0);
                }
                out[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].fill(0);
                let sum = checksum::checksum(out);
                out[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let Some(out) = out.first_chunk_mut() else { return };
                ipv6::emit(out, self.payload_bytes, self.hop_limit, self.protocol, source, destination);
                ipv6::set_traffic_class(out, self.traffic_class);
            }
            _ => debug_assert!(false, "one family on both sides"),
        }
    }

    /// Writes the same for the first fragment of a datagram (RFC 7915 sections 4.1 and 5.1.1), and over IPv6 its fragment header.
    pub fn write_first_fragment(&self, out: &mut [u8], shown: &Shown, identification: u32) {
        if shown.destination.is_ipv4() {
            self.write(out, shown, Some(identification as u16));
            let Some(out) = out.first_chunk_mut::<{ ipv4::MIN_HEADER_BYTES }>() else { return };
            out[ipv4::FRAGMENT..ipv4::FRAGMENT + 2].copy_from_slice(&ipv4::MORE_FRAGMENTS.to_be_bytes());
            return ipv4::renew_checksum(out);
        }
        let payload_bytes = self.payload_bytes + ipv6::FRAGMENT_HEADER_BYTES;
        Outline { payload_bytes, protocol: ipv6::next_header::FRAGMENT, ..*self }.write(out, shown, None);
        let Some(header) = out.get_mut(ipv6::HEADER_BYTES..).and_then(|rest| rest.first_chunk_mut()) else { return };
        const MORE: u8 = 1;
        let [a, b, c, d] = identification.to_be_bytes();
        *header = [self.protocol, 0, 0, MORE, a, b, c, d];
    }
}
