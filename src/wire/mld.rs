//! Multicast listener reports (RFC 3810 section 5.2): switches that snoop on them (RFC 4541) pass solicitations for our
//! addresses only where somebody said that he listens.
//!
//! ```text
//! IPv6, hop limit 1 | hop-by-hop: router alert | 143, 0, checksum, reserved, records: 2 | records of 20 bytes
//! record: type, 0, sources: 2, group: 16
//! ```

use std::net::Ipv6Addr;

use super::ipv6::next_header::HOP_BY_HOP;
use super::{checksum, icmp, ipv6};
use crate::net::policy::protocol;

/// All MLDv2-capable routers (RFC 3810 section 5.2.14).
pub const ALL_REPORTS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Groups of one report: more than a port has addresses, and well within any MTU.
pub const MAX_GROUPS: usize = 32;

const REPORT: u8 = 143;
/// From nobody but these sources, of which there are none: so from everybody (section 4.2.12).
const CHANGE_TO_EXCLUDE_MODE: u8 = 4;
/// Router alert for MLD (RFC 2711 section 2.1), and two bytes of padding. The first byte is the next header.
const ROUTER_ALERT: [u8; 8] = [protocol::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const RECORD_BYTES: usize = 20;

/// Writes the packet that joins `groups`, the first [`MAX_GROUPS`] of them. `source`: a link-local address, or `::` as long as
/// there is none (RFC 3590). `None`: it does not fit.
pub fn emit_report(out: &mut [u8], source: Ipv6Addr, groups: &[Ipv6Addr]) -> Option<usize> {
    let groups = &groups[..groups.len().min(MAX_GROUPS)];
    let body_bytes = icmp::HEADER_BYTES + groups.len() * RECORD_BYTES;
    let total = ipv6::HEADER_BYTES + ROUTER_ALERT.len() + body_bytes;
    let (header, rest) = out.get_mut(..total)?.split_first_chunk_mut()?;
    let (alert, body) = rest.split_at_mut(ROUTER_ALERT.len());
    alert.copy_from_slice(&ROUTER_ALERT);
    body[..icmp::HEADER_BYTES].copy_from_slice(&[REPORT, 0, 0, 0, 0, 0, 0, groups.len() as u8]);
    for (record, group) in body[icmp::HEADER_BYTES..].chunks_exact_mut(RECORD_BYTES).zip(groups) {
        record[..4].copy_from_slice(&[CHANGE_TO_EXCLUDE_MODE, 0, 0, 0]);
        record[4..].copy_from_slice(&group.octets());
    }
    let sum = checksum::transport_checksum(source.into(), ALL_REPORTS.into(), protocol::ICMPV6, body)?;
    body[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ipv6::emit(header, ROUTER_ALERT.len() + body_bytes, 1, HOP_BY_HOP, source, ALL_REPORTS);
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

    fn group(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, n)
    }

    #[test]
    fn a_report_has_a_router_alert_a_hop_limit_of_one_and_a_record_for_each_group() {
        let mut out = [0xaa; 200];
        let len = emit_report(&mut out, SOURCE, &[group(1), group(2)]).unwrap();
        assert_eq!(len, 40 + 8 + 8 + 2 * 20);
        let header = ipv6::parse(&out[..len]).unwrap();
        assert_eq!((header.protocol, header.hop_limit, header.total_bytes), (protocol::ICMPV6, 1, len));
        assert_eq!((header.source, header.destination), (SOURCE, "ff02::16".parse().unwrap()));
        assert_eq!(out[40..48], [58, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!(out[48..50], [143, 0]);
        assert_eq!(out[52..56], [0, 0, 0, 2]);
        assert_eq!((out[56], &out[60..76]), (4, &group(1).octets()[..]));
        assert_eq!((out[76], &out[80..96]), (4, &group(2).octets()[..]));
        let sum = checksum::transport_checksum(SOURCE.into(), ALL_REPORTS.into(), protocol::ICMPV6, &out[48..len]);
        assert_eq!(sum, Some(0));
    }

    #[test]
    fn a_report_is_that_of_linux_byte_for_byte() {
        // Taken from a veth pair, before and after the station had a link-local address.
        let tail = "ff0200000000000000000000000000163a00050200000100";
        let record = "0000000104000000ff0200000000000000000001ff00000a";
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x0a);
        for (source, source_hex, sum) in [
            (Ipv6Addr::UNSPECIFIED, "00000000000000000000000000000000", "6f80"),
            (link_local, "fe80000000000000000000fffe00000a", "71f5"),
        ] {
            let mut out = [0xaa; 200];
            let len = emit_report(&mut out, source, &[group(0x0a)]).unwrap();
            let hex: String = out[..len].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, format!("6000000000240001{source_hex}{tail}8f00{sum}{record}"));
        }
    }

    #[test]
    fn a_report_is_bounded_and_does_not_write_past_the_end() {
        let groups = [group(7); 40];
        let len = emit_report(&mut [0; 1280], SOURCE, &groups).unwrap();
        assert_eq!(len, 56 + MAX_GROUPS * 20);
        assert_eq!(emit_report(&mut [0; 56 + MAX_GROUPS * 20 - 1], SOURCE, &groups), None);
    }
}
