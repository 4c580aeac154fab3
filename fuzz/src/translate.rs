//! One packet through the translators of [`ixgate::nat`], as `dataplane::translate` calls them: new addresses and ports,
//! within one IP version or into the other, ICMP errors with what they quote.
//!
//! ```text
//! setting | source | destination | ports | packet
//! ```
//!
//! Whatever was wrong with a checksum is as wrong afterwards, all bytes that have no reason to change stay, and the way back
//! leads to the packet that it was.

use std::net::IpAddr;

use ixgate::nat::family::{self, Identifications, MIN_MTU_BYTES_V6, Untranslatable};
use ixgate::nat::rewrite;
use ixgate::net::policy::protocol;
use ixgate::packet::{Reassembled, Shown};
use ixgate::wire::headers::{self, Headers, Transport};
use ixgate::wire::{ipv4, ipv6, tcp, udp};

use super::packet::{blank_checksums, header_residue, ports, residue};
use super::script::Script;

/// As much room as the walk's buffers have behind a packet of `mtu_bytes`.
const TAILROOM_BYTES: usize = 128;
const MAX_MTU_BYTES: u16 = 1420;
/// Among them some that make the sums of a packet come out as 0 and 0xffff.
const FOUR: [&str; 8] = [
    "192.168.1.10",
    "100.64.2.20",
    "10.255.255.255",
    "255.255.255.254",
    "0.0.0.1",
    "172.16.0.1",
    "203.0.113.7",
    "100.127.255.1",
];
const SIX: [&str; 8] = [
    "fd00:6::20",
    "fd69:7867:6174:1::c0a8:10a",
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "::1:0",
    "fd69:7867:6174:2::6440:214",
    "2001:db8::1",
    "64:ff9b::c0a8:101",
    "fd00:66::20",
];

/// How many packets were translated: one, or none.
pub fn translate(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let (Some(setting), Some(addresses)) = (script.u8(), script.u8()) else { return 0 };
    let (Some(source_port), Some(destination_port)) = (script.u16(), script.u16()) else { return 0 };
    let packet = script.0;
    let Ok(headers) = headers::parse(packet) else { return 0 };
    if headers.hop_limit <= 1 {
        return 0; // answered, not forwarded
    }
    let packet = &packet[..headers.total_bytes];
    let to_v6 = headers.is_v6() != (setting & 1 != 0);
    let mut shown = Shown::addresses(address(to_v6, addresses), address(to_v6, addresses >> 4));
    // Nobody who has no port is given one.
    let (old_source, old_destination) = ports(&headers);
    shown.source_port = if setting & 2 != 0 && old_source != 0 { source_port } else { 0 };
    shown.destination_port = if setting & 4 != 0 && old_destination != 0 { destination_port } else { 0 };
    if matches!(headers.transport, Transport::EchoRequest { .. } | Transport::EchoReply { .. })
        && shown.source_port != 0
    {
        shown.destination_port = 0;
    }
    let reassembled = Reassembled { identification: source_port.into(), largest_payload_bytes: 552 };
    let one = Translation { packet, headers, shown, reassembled: (setting & 8 != 0).then_some(reassembled) };
    let crossed = match (headers.transport == Transport::IcmpError, to_v6 == headers.is_v6()) {
        (false, true) => one.within_one_version(),
        (false, false) => one.between_versions(),
        (true, is_same) => {
            one.error(is_same, address(to_v6, source_port as u8), address(to_v6, destination_port as u8))
        }
    };
    one.clamp(destination_port);
    usize::from(crossed.is_some())
}

fn address(is_v6: bool, which: u8) -> IpAddr {
    let table = if is_v6 { SIX } else { FOUR };
    table[usize::from(which & 7)].parse().expect("an address")
}

struct Translation<'a> {
    packet: &'a [u8],
    headers: Headers,
    shown: Shown,
    reassembled: Option<Reassembled>,
}

impl Translation<'_> {
    fn within_one_version(&self) -> Option<()> {
        let mut out = self.packet.to_vec();
        rewrite::rewrite(&mut out, &self.headers, &self.shown);
        let there = self.arrived(&out);
        assert_eq!(there.total_bytes, self.headers.total_bytes);
        assert_eq!(header_residue(&out, &there), header_residue(self.packet, &self.headers), "the header's checksum");
        assert_eq!(residue(&out, &there), residue(self.packet, &self.headers), "the message's checksum");

        rewrite::rewrite(&mut out, &there, &self.as_sent());
        let (mut back, mut before) = (out, self.packet.to_vec());
        for packet in [&mut back, &mut before] {
            blank_checksums(packet, &self.headers);
        }
        if self.headers.is_v6() {
            back[ipv6::HOP_LIMIT] = self.headers.hop_limit;
        } else {
            back[ipv4::TTL] = self.headers.hop_limit;
        }
        assert_eq!(back, before, "there and back");
        Some(())
    }

    fn between_versions(&self) -> Option<()> {
        let mut out = self.translated()?;
        let there = self.arrived(&out);
        let message_bytes = self.headers.total_bytes - self.headers.transport_offset;
        assert_eq!(out.len() - there.transport_offset, message_bytes);
        assert_eq!(header_residue(&out, &there), Some(0), "the header's checksum");
        assert_eq!(traffic_class(&out), traffic_class(self.packet));
        let residue_then = residue(self.packet, &self.headers);
        match residue(&out, &there) {
            // RFC 7915 section 4.5: IPv6 has no UDP without a checksum.
            after if residue_then.is_none() && there.protocol == protocol::UDP => {
                let is_whole = udp_length(&out[there.transport_offset..]) == message_bytes;
                assert!(!is_whole || after == if there.is_v6() { Some(0) } else { None }, "{after:?}");
            }
            after => assert_eq!(after, residue_then, "the message's checksum"),
        }

        let back = Translation { packet: &out.clone(), headers: there, shown: self.as_sent(), reassembled: None };
        if there.hop_limit <= 1 {
            return Some(());
        }
        out = match back.translated() {
            Some(out) => out,
            // Such a datagram gets no checksum, and IPv6 has none without.
            None => {
                assert_eq!(there.protocol, protocol::UDP);
                return Some(());
            }
        };
        let headers = back.arrived(&out);
        let (mut back, mut before) = (out, self.packet.to_vec());
        blank_checksums(&mut back, &headers);
        blank_checksums(&mut before, &self.headers);
        assert_eq!(back[headers.transport_offset..], before[self.headers.transport_offset..], "there and back");
        assert_eq!(traffic_class(&back), traffic_class(&before));
        Some(())
    }

    /// Into the other IP version. What of a packet has no counterpart there is known beforehand.
    fn translated(&self) -> Option<Vec<u8>> {
        let mut slot = self.packet.to_vec();
        slot.resize(self.packet.len() + TAILROOM_BYTES, 0xee);
        let mut identifications = Identifications::new(7);
        let result = family::translate(&mut slot, &self.headers, &self.shown, self.reassembled, &mut identifications);
        match result {
            Ok(total) => {
                assert_eq!(total, family::translated_bytes(&self.headers), "as route was told");
                slot.truncate(total);
                Some(slot)
            }
            Err(Untranslatable::NoCounterpart) => {
                assert!(matches!(self.headers.transport, Transport::Other | Transport::IcmpOther));
                None
            }
            Err(Untranslatable::Malformed) => {
                let message = &self.packet[self.headers.transport_offset..];
                assert!(self.headers.protocol == protocol::UDP && udp_length(message) != message.len());
                None
            }
            Err(Untranslatable::TooLong) => {
                assert!(self.headers.total_bytes > usize::from(u16::MAX) - TAILROOM_BYTES);
                None
            }
        }
    }

    /// An error is let through for what it quotes: a packet that was sent by whom the error goes to.
    fn error(&self, is_same: bool, sender: IpAddr, receiver: IpAddr) -> Option<()> {
        let quote = &self.packet[self.headers.quote().start.min(self.packet.len())..];
        let quoted = headers::parse_quoted(quote).ok()?;
        let is_query = !matches!(quoted.transport, Transport::IcmpError | Transport::IcmpOther);
        if quoted.source != self.headers.destination || !is_query {
            return None;
        }
        let Shown { source_port, destination_port, .. } = self.shown;
        let is_echo = matches!(quoted.transport, Transport::EchoRequest { .. } | Transport::EchoReply { .. });
        let destination_port = if is_echo && source_port != 0 { 0 } else { destination_port };
        let known_by = Shown { source: sender, destination: receiver, source_port, destination_port };
        let shown = Shown { source_port: 0, destination_port: 0, ..self.shown };
        let mut out = self.packet.to_vec();
        if is_same {
            rewrite::rewrite(&mut out, &self.headers, &shown);
            rewrite::rewrite_quoted(&mut out, &self.headers, &known_by);
            assert_eq!(header_residue(&out, &self.headers), header_residue(self.packet, &self.headers));
        } else {
            out.resize(self.packet.len() + TAILROOM_BYTES, 0xee);
            let mut identifications = Identifications::new(7);
            let (headers, ids) = (&self.headers, &mut identifications);
            match family::translate_error(&mut out, headers, &shown, &known_by, MAX_MTU_BYTES, ids) {
                Ok(total) => out.truncate(total),
                Err(_) => return None,
            }
            assert!(out.len() <= family::translated_bytes(&self.headers), "as route was told");
        }
        self.error_arrived(&out, quote, &quoted, &known_by, is_same);
        Some(())
    }

    fn error_arrived(&self, out: &[u8], quote: &[u8], quoted: &Headers, known_by: &Shown, is_same: bool) {
        let there = headers::parse(out).expect("it can be read");
        assert_eq!((there.source, there.destination), (self.shown.source, self.shown.destination));
        assert_eq!((there.total_bytes, there.transport), (out.len(), Transport::IcmpError));
        assert_eq!(there.hop_limit, self.headers.hop_limit - 1);
        assert_eq!(residue(out, &there), Some(0), "an error's checksum is computed");
        assert!(is_same || !there.is_v6() || out.len() <= usize::from(MIN_MTU_BYTES_V6));

        let quote_after = &out[there.quote()];
        let inner = headers::parse_quoted(quote_after).expect("its sender can read it");
        assert_eq!((inner.source, inner.destination), (known_by.source, known_by.destination));
        assert_eq!(ports(&inner), shown_ports(quoted, known_by));
        let before = &quote[quoted.transport_offset..];
        let after = &quote_after[inner.transport_offset..];
        let is_cut = after.len() < before.len();
        assert!(!is_same || !is_cut, "nothing of it is lost");
        // Behind ports, types and checksums nothing changes.
        let untouched = untouched_from(quoted).min(after.len());
        assert_eq!(after[untouched..], before[untouched..after.len()]);
    }

    /// The packet as it arrives: with the addresses and ports that it was to have, one hop older, otherwise the same kind.
    fn arrived(&self, out: &[u8]) -> Headers {
        let there = headers::parse(out).expect("it can be read");
        assert_eq!((there.source, there.destination), (self.shown.source, self.shown.destination));
        assert_eq!((there.total_bytes, there.hop_limit), (out.len(), self.headers.hop_limit - 1));
        assert_eq!(ports(&there), shown_ports(&self.headers, &self.shown));
        let kind = std::mem::discriminant::<Transport>;
        assert_eq!(kind(&there.transport), kind(&self.headers.transport));
        there
    }

    /// What the packet was before.
    fn as_sent(&self) -> Shown {
        let (source_port, destination_port) = ports(&self.headers);
        let (source, destination) = (self.headers.source, self.headers.destination);
        let is_tcp_or_udp = matches!(self.headers.transport, Transport::Tcp { .. } | Transport::Udp { .. });
        Shown { source, destination, source_port, destination_port: if is_tcp_or_udp { destination_port } else { 0 } }
    }

    fn clamp(&self, max_mss_bytes: u16) {
        let mut out = self.packet.to_vec();
        rewrite::clamp_mss(&mut out, &self.headers, max_mss_bytes);
        assert_eq!(residue(&out, &self.headers), residue(self.packet, &self.headers), "the message's checksum");
        let clamped = out.clone();
        rewrite::clamp_mss(&mut out, &self.headers, max_mss_bytes);
        assert_eq!(out, clamped, "once is enough");
        let changed = out.iter().zip(self.packet).filter(|(one, other)| one != other).count();
        assert!(changed <= 4, "the option and the checksum");
    }
}

fn shown_ports(headers: &Headers, shown: &Shown) -> (u16, u16) {
    let or = |new: u16, old: u16| if new == 0 { old } else { new };
    let (source, destination) = ports(headers);
    match headers.transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => {
            (or(shown.source_port, source), or(shown.destination_port, destination))
        }
        Transport::EchoRequest { .. } | Transport::EchoReply { .. } => {
            let ident = or(shown.source_port | shown.destination_port, source);
            (ident, ident)
        }
        _ => (0, 0),
    }
}

/// From where on a quoted message is nobody's business.
fn untouched_from(headers: &Headers) -> usize {
    match headers.transport {
        Transport::Tcp { .. } => tcp::CHECKSUM + 2,
        Transport::Other if headers.protocol != protocol::UDP_LITE && headers.protocol != protocol::DCCP => 0,
        _ => udp::HEADER_BYTES,
    }
}

fn traffic_class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { ipv6::traffic_class(packet) }
}

fn udp_length(message: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([message[udp::LENGTH], message[udp::LENGTH + 1]]))
}
