//! An echo request that goes no further than the peer, and what counts as its answer.

use std::net::IpAddr;

use crate::net::policy::protocol;
use crate::wire::headers::{self, Headers, Transport};
use crate::wire::{checksum, icmp, ipv4, ipv6};

/// The request: an IPv6 header and an ICMPv6 one.
pub const MAX_ECHO_BYTES: usize = ipv6::HEADER_BYTES + icmp::HEADER_BYTES;
/// The peer's gateway is the next router, and the last.
const HOP_LIMIT: u8 = 1;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;

/// From the IX's own address, as the realm sees it, to one of the realm's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    pub source: IpAddr,
    pub destination: IpAddr,
}

/// One request. `cookie` is random: its identifier and sequence number, which every answer repeats, even where no more than
/// 8 bytes are quoted (RFC 792).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    pub target: Target,
    pub cookie: u32,
}

impl Echo {
    /// The length of the packet in `out`. `None`: the addresses are of two families.
    pub fn emit(&self, out: &mut [u8; MAX_ECHO_BYTES]) -> Option<usize> {
        let Target { source, destination } = self.target;
        let (header_bytes, kind, number) = match source.is_ipv6() {
            false => (ipv4::MIN_HEADER_BYTES, ECHO_REQUEST, protocol::ICMP),
            true => (ipv6::HEADER_BYTES, ECHO_REQUEST_V6, protocol::ICMPV6),
        };
        let total_bytes = header_bytes + icmp::HEADER_BYTES;
        let message = &mut out[header_bytes..total_bytes];
        message[..4].copy_from_slice(&[kind, 0, 0, 0]);
        message[icmp::IDENTIFIER..].copy_from_slice(&self.cookie.to_be_bytes());
        let sum = match source.is_ipv6() {
            false => checksum::checksum(message),
            true => checksum::transport_checksum(source, destination, number, message)?,
        };
        message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ipv4::emit(out.first_chunk_mut()?, icmp::HEADER_BYTES, HOP_LIMIT, number, source, destination);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ipv6::emit(out.first_chunk_mut()?, icmp::HEADER_BYTES, HOP_LIMIT, number, source, destination);
            }
            _ => return None,
        }
        Some(total_bytes)
    }

    /// Whether `packet` can be an answer to anything: TCP and UDP are none. Tells nearly all packets apart before anything is looked
    /// up for them.
    #[inline]
    pub fn can_be_answer(packet: &[u8]) -> bool {
        let protocol_at = match packet.first().map(|first| first >> 4) {
            Some(4) => ipv4::PROTOCOL,
            _ => ipv6::NEXT_HEADER,
        };
        !matches!(packet.get(protocol_at), Some(&(protocol::TCP | protocol::UDP)))
    }

    /// Whether `packet` could only be sent by somebody whom the request reached: its reply, or an error about it.
    pub fn is_answered_by(&self, packet: &[u8]) -> bool {
        let Ok(headers) = headers::parse(packet) else { return false };
        if headers.destination != self.target.source {
            return false;
        }
        match headers.transport {
            Transport::EchoReply { .. } => self.has_cookie(&headers, packet),
            Transport::IcmpError => packet.get(headers.quote()).is_some_and(|quoted| self.is_quoted_by(quoted)),
            _ => false,
        }
    }

    fn is_quoted_by(&self, quoted: &[u8]) -> bool {
        headers::parse_quoted(quoted).is_ok_and(|headers| {
            let Target { source, destination } = self.target;
            matches!(headers.transport, Transport::EchoRequest { .. })
                && (headers.source, headers.destination) == (source, destination)
                && self.has_cookie(&headers, quoted)
        })
    }

    fn has_cookie(&self, headers: &Headers, packet: &[u8]) -> bool {
        let at = headers.transport_offset + icmp::IDENTIFIER;
        packet.get(at..at + 4).is_some_and(|cookie| cookie == self.cookie.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::icmp::Report;

    fn echo(source: &str, destination: &str) -> Echo {
        let target = Target { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        Echo { target, cookie: 0x1234_5678 }
    }

    fn emitted(echo: Echo) -> Vec<u8> {
        let mut out = [0; MAX_ECHO_BYTES];
        let len = echo.emit(&mut out).unwrap();
        out[..len].to_vec()
    }

    fn both() -> [Echo; 2] {
        [echo("100.64.0.1", "192.168.1.1"), echo("fd00::1", "2001:db8::1")]
    }

    /// A reply from `by`, with its checksum as it comes.
    fn reply(echo: Echo, by: &str) -> Vec<u8> {
        let back = Echo { target: Target { source: by.parse().unwrap(), destination: echo.target.source }, ..echo };
        let mut packet = emitted(back);
        let at = packet.len() - icmp::HEADER_BYTES;
        packet[at] = if echo.target.source.is_ipv6() { 129 } else { 0 };
        packet
    }

    fn exceeded(echo: Echo, by: &str, quoted_bytes: usize) -> Vec<u8> {
        let request = emitted(echo);
        let mut out = [0; 1280];
        let (by, to) = (by.parse().unwrap(), echo.target.source);
        let len = icmp::emit_error(&mut out, Report::TimeExceeded, by, to, &request[..quoted_bytes]).unwrap();
        out[..len].to_vec()
    }

    #[test]
    fn a_request_is_an_echo_with_one_hop_left() {
        for echo in both() {
            let packet = emitted(echo);
            let headers = headers::parse(&packet).unwrap();
            assert_eq!((headers.hop_limit, headers.total_bytes), (1, packet.len()));
            assert_eq!((headers.source, headers.destination), (echo.target.source, echo.target.destination));
            assert_eq!(headers.transport, Transport::EchoRequest { ident: 0x1234 });
            let message = &packet[headers.transport_offset..];
            match echo.target.source {
                IpAddr::V4(_) => assert_eq!(checksum::checksum(message), 0),
                source => {
                    let sum = checksum::transport_checksum(source, headers.destination, headers.protocol, message);
                    assert_eq!(sum, Some(0));
                }
            }
        }
        assert_eq!(echo("100.64.0.1", "fd00::1").emit(&mut [0; MAX_ECHO_BYTES]), None);
    }

    #[test]
    fn replies_and_errors_of_anybody_whom_it_reached_answer_it() {
        for (echo, other) in both().into_iter().zip(["10.9.9.9", "fe80::9"]) {
            for by in [echo.target.destination.to_string().as_str(), other] {
                assert!(echo.is_answered_by(&reply(echo, by)));
                assert!(echo.is_answered_by(&exceeded(echo, by, emitted(echo).len())));
            }
        }
        let echo = both()[0];
        assert!(echo.is_answered_by(&exceeded(echo, "10.9.9.9", 28)), "8 bytes quoted are enough");
        assert!(!echo.is_answered_by(&exceeded(echo, "10.9.9.9", 27)));
    }

    #[test]
    fn who_has_not_seen_it_cannot_answer_it() {
        for echo in both() {
            let by = echo.target.destination.to_string();
            let guessed = Echo { cookie: echo.cookie + 1, ..echo };
            assert!(!echo.is_answered_by(&reply(guessed, &by)));
            assert!(!echo.is_answered_by(&exceeded(guessed, &by, emitted(echo).len())));
            assert!(!echo.is_answered_by(&emitted(echo)), "nor is it its own answer");
            let elsewhere = Echo { target: Target { destination: echo.target.source, ..echo.target }, ..echo };
            assert!(!echo.is_answered_by(&exceeded(elsewhere, &by, emitted(echo).len())), "about another packet");
        }
        let [v4, v6] = both();
        assert!(!v4.is_answered_by(&reply(v6, "2001:db8::1")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), first in prop::sample::select(vec![0x45u8, 0x60, 0x4f])) {
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            let [v4, v6] = both().map(|echo| echo.is_answered_by(&bytes));
            prop_assert!(!v4 && !v6);
        }
    }
}
