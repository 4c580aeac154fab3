//! IPv4 to IPv6 and back (RFC 7915): one packet, in its buffer. Stateless: addresses and ports are handed in, as the mapping
//! gives them (explicit ones, RFC 7757; canonical ones, RFC 6052).
//!
//! ```text
//!   IPv4   | 20 and options |              message |      options and extension headers are left behind,
//!   IPv6   | 40 and extension headers      | message |    the message moves to where the new header ends
//! ```
//!
//! Packets are whole: fragments have been put together before, and are made again behind. So no packet gets a fragment
//! header here, but one that an ICMP error quotes: what was reported is a fragment, and is quoted as one. What came in fragments may be fragmented over IPv4 however long it is, and keeps its identification (RFC 7915
//! section 5.1.1).
//!
//! Checksums of TCP, UDP and echo are updated incrementally (RFC 1624), so that damage stays to be seen. Only a UDP
//! datagram without a checksum gets one (section 4.5), because IPv6 has none without.

mod header;
mod icmp;
mod identification;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use identification::Identifications;

use self::header::Outline;
use super::rewrite;
use crate::net::policy::protocol;
use crate::packet::{Reassembled, Shown};
use crate::wire::checksum::{self, Delta};
use crate::wire::headers::{self, Headers, Transport};
use crate::wire::{fragment, icmp as wire_icmp, ipv4, ipv6, tcp, udp};

/// The IPv6 minimum MTU: what every link carries, and the most of an ICMPv6 error (RFC 4443 section 2.4 c).
pub const MIN_MTU_BYTES_V6: u16 = 1280;
/// The largest IPv4 packet that fits into 16 bits of length.
const MAX_TOTAL_BYTES_V4: usize = 65_535;

/// Why a packet has no counterpart in the other IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Untranslatable {
    /// ICMP of a type or code that RFC 7915 has dropped; a protocol number that means something else in the other version.
    NoCounterpart,
    /// Its lengths contradict one another.
    Malformed,
    /// The buffer has no room, or IPv4 has no number for the length.
    TooLong,
}

/// Bytes of the header of a translated packet.
pub fn header_bytes(is_v6: bool) -> usize {
    header::bytes(is_v6)
}

/// Bytes of a packet after translation into the other IP version. Of an ICMP error at most so many.
pub fn translated_bytes(headers: &Headers) -> usize {
    let bytes = header::bytes(!headers.is_v6()) + headers.total_bytes - headers.transport_offset;
    match headers.transport {
        Transport::IcmpError if !headers.is_v6() => usize::from(MIN_MTU_BYTES_V6),
        _ => bytes,
    }
}

/// The largest packet of the other IP version that becomes one of `mtu_bytes`, when `is_v6` is what it becomes.
pub fn untranslated_mtu(mtu_bytes: u16, is_v6: bool) -> u16 {
    let longer = (ipv6::HEADER_BYTES - ipv4::MIN_HEADER_BYTES) as u16;
    if is_v6 { mtu_bytes.saturating_sub(longer) } else { mtu_bytes.saturating_add(longer) }
}

/// Turns the packet at the start of `slot`, which `headers` was read from, into one of the other IP version with the
/// addresses (of that version) and ports of `shown`, and one hop less to live. Its new length. `reassembled`: it came in
/// fragments.
pub fn translate(
    slot: &mut [u8],
    headers: &Headers,
    shown: &Shown,
    reassembled: Option<Reassembled>,
    identifications: &mut Identifications,
) -> Result<usize, Untranslatable> {
    let is_v6 = shown.destination.is_ipv6();
    let (from, to) = (headers.transport_offset, header::bytes(is_v6));
    let message_bytes = headers.total_bytes - from;
    let total = check_total(to + message_bytes, slot, is_v6)?;
    let outline = Outline::of(slot, headers);
    translate_message(&mut slot[from..headers.total_bytes], headers, shown, message_bytes)?;
    slot.copy_within(from..headers.total_bytes, to);
    let outline = Outline { hop_limit: outline.hop_limit.saturating_sub(1), payload_bytes: message_bytes, ..outline };
    outline.write(slot, shown, identification(&outline, reassembled, identifications));
    Ok(total)
}

/// `None`: the packet may not be fragmented over IPv4.
fn identification(
    outline: &Outline,
    reassembled: Option<Reassembled>,
    identifications: &mut Identifications,
) -> Option<u16> {
    match reassembled {
        Some(reassembled) => Some(reassembled.identification as u16),
        None => outline.may_be_fragmented().then(|| identifications.take()),
    }
}

/// The same for an ICMP error. `quoted` is what its receiver knows the packet inside by: it sent it. `max_mtu_bytes` is the
/// largest packet that the receiver can send, as far as we know: an error tells no more.
///
/// The ICMP checksum is computed afresh, as errors are rare and short.
pub fn translate_error(
    slot: &mut [u8],
    headers: &Headers,
    shown: &Shown,
    quoted: &Shown,
    max_mtu_bytes: u16,
    identifications: &mut Identifications,
) -> Result<usize, Untranslatable> {
    let is_v6 = shown.destination.is_ipv6();
    let quote_at = headers.transport_offset + wire_icmp::HEADER_BYTES;
    let message = slot.get(headers.transport_offset..headers.total_bytes).ok_or(Untranslatable::Malformed)?;
    let (old, quote) = message.split_first_chunk().ok_or(Untranslatable::Malformed)?;
    let quote = &quote[..icmp::quoted_bytes(headers.is_v6(), old).min(quote.len())];
    let inner_headers = parse_quoted(quote).ok_or(Untranslatable::Malformed)?;
    let inner = Outline::of(quote, &inner_headers);
    let piece = fragment::parse_quoted(quote).filter(|piece| !piece.is_atomic());
    if !is_v6 && header::bytes(false) + inner.payload_bytes > MAX_TOTAL_BYTES_V4 {
        return Err(Untranslatable::Malformed); // nobody has sent that over IPv4
    }
    // Of the datagram that a fragment is the beginning of, nobody knows how long it was: longer.
    let whole_bytes = if piece.is_some() { MAX_TOTAL_BYTES_V4 } else { inner.payload_bytes };
    let outer = Outline::of(slot, headers);
    let sent_bytes = header::bytes(is_v6) + inner.payload_bytes; // by the receiver of the error
    let icmp_header = icmp::error(is_v6, old, sent_bytes, max_mtu_bytes).ok_or(Untranslatable::NoCounterpart)?;

    // Where things stand in the new packet: IP header, ICMP header, quoted IP header, quoted message.
    let icmp_at = header::bytes(is_v6);
    let inner_at = icmp_at + wire_icmp::HEADER_BYTES;
    let fragment_header_bytes = if is_v6 && piece.is_some() { ipv6::FRAGMENT_HEADER_BYTES } else { 0 };
    let message_at = inner_at + header::bytes(is_v6) + fragment_header_bytes;
    let (from, until) = (quote_at + inner_headers.transport_offset, quote_at + inner_headers.total_bytes);
    let most = if is_v6 { usize::from(MIN_MTU_BYTES_V6) - message_at } else { usize::MAX };
    let kept = until.saturating_sub(from).min(most);
    let total = check_total(message_at + kept, slot, is_v6)?;

    slot.copy_within(from..from + kept, message_at);
    translate_message(&mut slot[message_at..total], &inner_headers, quoted, whole_bytes)?;
    match piece {
        Some(piece) => inner.write_first_fragment(&mut slot[inner_at..], quoted, piece.identification),
        None => inner.write(&mut slot[inner_at..], quoted, inner.may_be_fragmented().then_some(0)),
    }
    slot[icmp_at..inner_at].copy_from_slice(&icmp_header);
    let payload_bytes = total - icmp_at;
    let outer = Outline { hop_limit: outer.hop_limit.saturating_sub(1), payload_bytes, ..outer };
    outer.write(slot, shown, outer.may_be_fragmented().then(|| identifications.take()));
    rewrite::renew_icmp_checksum(&mut slot[..total], icmp_at);
    Ok(total)
}

/// How many bytes behind the header of an error belong to the packet that it quotes, where it says so; it says so no more.
pub(super) fn take_quoted_bytes(is_v6: bool, header: &mut [u8; wire_icmp::HEADER_BYTES]) -> Option<usize> {
    icmp::take_quoted_bytes(is_v6, header)
}

/// Only what its own length covers is kept of a quoted packet: with less than ports nobody would know whose it was.
fn parse_quoted(quote: &[u8]) -> Option<Headers> {
    let headers = headers::parse_quoted(quote).ok()?;
    headers::parse_quoted(&quote[..headers.total_bytes]).ok()
}

fn check_total(total: usize, slot: &[u8], is_v6: bool) -> Result<usize, Untranslatable> {
    let fits = total <= slot.len() && (is_v6 || total <= MAX_TOTAL_BYTES_V4);
    fits.then_some(total).ok_or(Untranslatable::TooLong)
}

/// Ports, echo type, checksum. `whole_bytes` is how long the message is, of which a quoted one may be cut.
fn translate_message(
    message: &mut [u8],
    headers: &Headers,
    shown: &Shown,
    whole_bytes: usize,
) -> Result<(), Untranslatable> {
    let ports = rewrite::write_ports(message, headers, shown);
    let delta = rewrite::address_delta(headers, shown).and(ports);
    match headers.transport {
        Transport::Tcp { .. } => delta.apply_at(message, tcp::CHECKSUM),
        Transport::Udp { .. } if lacks_checksum(message) && shown.destination.is_ipv6() => {
            return compute_udp_checksum(message, shown, whole_bytes);
        }
        Transport::Udp { .. } => udp::fix_checksum(message, delta),
        Transport::EchoRequest { .. } | Transport::EchoReply { .. } => {
            translate_echo(message, headers, shown, whole_bytes, ports);
        }
        Transport::IcmpError | Transport::IcmpOther => return Err(Untranslatable::NoCounterpart),
        // What is payload here, and to the grants, must not become ICMP, a route or a fragment on the other side.
        Transport::Other if means_another(headers.protocol, shown.destination.is_ipv6()) => {
            return Err(Untranslatable::NoCounterpart);
        }
        // RFC 7915 section 4.5: whatever else there is passes as it is, but for what covers a pseudo-header.
        Transport::Other => rewrite::fix_other(message, headers.protocol, delta),
    }
    Ok(())
}

/// Whether a protocol number that is nothing in particular in one IP version is something in the other, `is_v6`.
fn means_another(number: u8, is_v6: bool) -> bool {
    match is_v6 {
        true => number == protocol::ICMPV6 || ipv6::is_extension_header(number),
        false => number == protocol::ICMP,
    }
}

fn lacks_checksum(datagram: &[u8]) -> bool {
    datagram.get(udp::CHECKSUM..udp::CHECKSUM + 2) == Some(&[0, 0])
}

/// RFC 7915 section 4.5. Of a quoted datagram that is cut, none can be computed, and nobody looks at it.
fn compute_udp_checksum(message: &mut [u8], shown: &Shown, whole_bytes: usize) -> Result<(), Untranslatable> {
    if message.len() < whole_bytes {
        return Ok(());
    }
    let length = message.get(udp::LENGTH..udp::LENGTH + 2).ok_or(Untranslatable::Malformed)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let covered = message.get(..length).filter(|covered| covered.len() >= udp::HEADER_BYTES);
    let covered = covered.ok_or(Untranslatable::Malformed)?;
    let sum = checksum::transport_checksum(shown.source, shown.destination, protocol::UDP, covered);
    let sum = match sum.ok_or(Untranslatable::Malformed)? {
        0 => 0xffff, // RFC 768: a computed zero is sent as all ones
        sum => sum,
    };
    message[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// ICMPv6 covers a pseudo-header and ICMP does not, so that comes in or goes out of the checksum.
fn translate_echo(message: &mut [u8], headers: &Headers, shown: &Shown, whole_bytes: usize, ports: Delta) {
    let is_v6 = shown.destination.is_ipv6();
    let Some(kind) = message.first().and_then(|kind| icmp::echo(is_v6, *kind)) else { return };
    let code = message.get(1).copied().unwrap_or_default();
    let delta = ports.word(u16::from_be_bytes([message[0], code]), u16::from_be_bytes([kind, code]));
    message[0] = kind;
    let length = whole_bytes as u32;
    let next_header = u16::from(protocol::ICMPV6);
    let delta = match (headers.source, headers.destination, shown.source, shown.destination) {
        (_, _, IpAddr::V6(source), IpAddr::V6(destination)) => {
            delta.qqword(0, source.to_bits()).qqword(0, destination.to_bits()).dword(0, length).word(0, next_header)
        }
        (IpAddr::V6(source), IpAddr::V6(destination), ..) => {
            delta.qqword(source.to_bits(), 0).qqword(destination.to_bits(), 0).dword(length, 0).word(next_header, 0)
        }
        _ => delta,
    };
    delta.apply_at(message, wire_icmp::CHECKSUM);
}
