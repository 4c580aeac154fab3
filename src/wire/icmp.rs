//! ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443): what the walk must tell apart, and the errors that we send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{checksum, ipv4, ipv6};
use crate::net::policy::protocol;

pub const HEADER_BYTES: usize = 8;
pub const CHECKSUM: usize = 2;
/// Of an echo.
pub const IDENTIFIER: usize = 4;

/// Most bytes of an IPv4 error that we send (RFC 1812 section 4.3.2.3) ...
const MAX_ERROR_BYTES_V4: usize = 576;
/// ... and of an IPv6 one: the minimum MTU (RFC 4443 section 2.4 c).
const MAX_ERROR_BYTES_V6: usize = 1280;
const ERROR_HOP_LIMIT: u8 = 64;

/// What kind of message it is, for either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    EchoRequest(u16),
    EchoReply(u16),
    /// Carries the packet that caused it, 8 bytes in.
    Error,
    Other,
}

/// `None` when the header is cut short.
#[inline]
pub fn parse(is_v6: bool, message: &[u8]) -> Option<Kind> {
    let header: &[u8; HEADER_BYTES] = message.first_chunk()?;
    let ident = u16::from_be_bytes([header[4], header[5]]);
    Some(match (is_v6, header[0]) {
        (false, 8) | (true, 128) => Kind::EchoRequest(ident),
        (false, 0) | (true, 129) => Kind::EchoReply(ident),
        // Destination unreachable, time exceeded, parameter problem. Redirects and source quench are not forwarded.
        (false, 3 | 11 | 12) | (true, 1..=4) => Kind::Error,
        _ => Kind::Other,
    })
}

/// An error that the appliance reports to the sender of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// The hop limit ran out here.
    TimeExceeded,
    /// The packet must be at most this long.
    TooBig { mtu_bytes: u16 },
    /// Nothing that the sender does differently makes it pass now (RFC 5508 REQ-8).
    Prohibited,
}

impl Report {
    fn type_code(self, is_v6: bool) -> (u8, u8) {
        match (self, is_v6) {
            (Report::TimeExceeded, false) => (11, 0),
            (Report::TimeExceeded, true) => (3, 0),
            (Report::TooBig { .. }, false) => (3, 4),
            (Report::TooBig { .. }, true) => (2, 0),
            (Report::Prohibited, false) => (3, 13),
            (Report::Prohibited, true) => (1, 1),
        }
    }

    /// Bytes 4 to 7 of the message.
    fn rest(self) -> [u8; 4] {
        match self {
            Report::TimeExceeded | Report::Prohibited => [0; 4],
            // IPv4: 16 bits unused, then the next-hop MTU (RFC 1191 section 4). IPv6: 32 bits of MTU. The same bytes.
            Report::TooBig { mtu_bytes } => u32::from(mtu_bytes).to_be_bytes(),
        }
    }
}

/// Builds the whole packet that reports `report` about `original` (an IP packet as its sender sent it). The length
/// written, or `None`: `out` is too small or the families differ.
pub fn emit_error(out: &mut [u8], report: Report, source: IpAddr, to: IpAddr, original: &[u8]) -> Option<usize> {
    match (source, to) {
        (IpAddr::V4(source), IpAddr::V4(to)) => emit_error_v4(out, report, source, to, original),
        (IpAddr::V6(source), IpAddr::V6(to)) => emit_error_v6(out, report, source, to, original),
        _ => None,
    }
}

fn emit_error_v4(out: &mut [u8], report: Report, source: Ipv4Addr, to: Ipv4Addr, original: &[u8]) -> Option<usize> {
    let quoted = original.len().min(MAX_ERROR_BYTES_V4 - ipv4::MIN_HEADER_BYTES - HEADER_BYTES);
    let total = ipv4::MIN_HEADER_BYTES + HEADER_BYTES + quoted;
    let (header, message) = out.get_mut(..total)?.split_first_chunk_mut()?;
    emit_message(message, report, false, &original[..quoted]);
    let sum = checksum::checksum(message);
    message[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ipv4::emit(header, HEADER_BYTES + quoted, ERROR_HOP_LIMIT, protocol::ICMP, source, to);
    Some(total)
}

fn emit_error_v6(out: &mut [u8], report: Report, source: Ipv6Addr, to: Ipv6Addr, original: &[u8]) -> Option<usize> {
    let quoted = original.len().min(MAX_ERROR_BYTES_V6 - ipv6::HEADER_BYTES - HEADER_BYTES);
    let total = ipv6::HEADER_BYTES + HEADER_BYTES + quoted;
    let (header, message) = out.get_mut(..total)?.split_first_chunk_mut()?;
    emit_message(message, report, true, &original[..quoted]);
    let sum = checksum::transport_checksum(source.into(), to.into(), protocol::ICMPV6, message)?;
    message[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ipv6::emit(header, HEADER_BYTES + quoted, ERROR_HOP_LIMIT, protocol::ICMPV6, source, to);
    Some(total)
}

/// Everything but the checksum, which is left zero.
fn emit_message(message: &mut [u8], report: Report, is_v6: bool, quoted: &[u8]) {
    let (kind, code) = report.type_code(is_v6);
    message[..4].copy_from_slice(&[kind, code, 0, 0]);
    message[4..8].copy_from_slice(&report.rest());
    message[HEADER_BYTES..].copy_from_slice(quoted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_big_carries_mtu_quote_and_right_checksums_in_both_families() {
        let original = vec![0x45; 1500];
        let mut out = [0; 1600];

        let len = emit_error(
            &mut out,
            Report::TooBig { mtu_bytes: 1420 },
            "100.64.0.1".parse().unwrap(),
            "192.168.1.10".parse().unwrap(),
            &original,
        )
        .unwrap();
        assert_eq!(len, 576);
        assert_eq!(out[20..28], [3, 4, out[22], out[23], 0, 0, 0x05, 0x8c]);
        assert_eq!(checksum::sum(&out[20..len]), 0xffff);
        assert_eq!(out[28..len], original[..len - 28]);

        let (source, to): (IpAddr, IpAddr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let len = emit_error(&mut out, Report::TooBig { mtu_bytes: 1420 }, source, to, &original).unwrap();
        assert_eq!(len, 1280);
        assert_eq!(out[40..42], [2, 0]);
        assert_eq!(checksum::transport_checksum(source, to, protocol::ICMPV6, &out[40..len]), Some(0));
        assert_eq!(parse(true, &out[40..]), Some(Kind::Error));
    }

    #[test]
    fn says_no_instead_of_writing_past_the_end() {
        let (v4, v6): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(emit_error(&mut [0; 100], Report::TimeExceeded, v4, v4, &[0; 100]), None);
        assert_eq!(emit_error(&mut [0; 1000], Report::TimeExceeded, v4, v6, &[0; 100]), None);
    }
}
