//! One look at an inner packet: everything that later stages need to know, so that none of them parses again.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use super::{icmp, ipv4, ipv6, tcp, udp};
use crate::net::policy::protocol;

/// What the walk knows of a packet's headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Of the whole packet, by its own length field; at most the bytes there are.
    pub total_bytes: usize,
    /// Where the upper-layer header starts.
    pub transport_offset: usize,
    pub protocol: u8,
    pub hop_limit: u8,
    /// May not be fragmented on the way: IPv6, or IPv4 with DF.
    pub dont_fragment: bool,
    pub transport: Transport,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tcp {
        source_port: u16,
        destination_port: u16,
        flags: u8,
    },
    Udp {
        source_port: u16,
        destination_port: u16,
    },
    EchoRequest {
        ident: u16,
    },
    EchoReply {
        ident: u16,
    },
    /// The packet that caused it starts 8 bytes behind `transport_offset`.
    IcmpError,
    IcmpOther,
    /// A protocol without ports that we know of.
    Other,
}

/// Why a packet could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    Malformed,
    Fragment,
    /// A source route, a recorded one, or too many extension headers.
    Option,
}

impl Default for Headers {
    fn default() -> Self {
        Headers::NONE
    }
}

impl Headers {
    /// Of no packet.
    pub const NONE: Headers = Headers {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        total_bytes: 0,
        transport_offset: 0,
        protocol: 0,
        hop_limit: 0,
        dont_fragment: false,
        transport: Transport::Other,
    };

    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// Where the packet inside an ICMP error lies. Of a cut message it may begin behind its end.
    pub fn quote(&self) -> Range<usize> {
        self.transport_offset + icmp::HEADER_BYTES..self.total_bytes
    }
}

/// Reads a whole packet.
#[inline]
pub fn parse(packet: &[u8]) -> Result<Headers, HeaderError> {
    let mut headers = parse_ip(packet)?;
    if headers.total_bytes > packet.len() {
        return Err(HeaderError::Malformed);
    }
    let message = &packet[headers.transport_offset..headers.total_bytes];
    headers.transport = parse_transport(&headers, message).ok_or(HeaderError::Malformed)?;
    Ok(headers)
}

/// Reads the packet inside an ICMP error, of which the end, even of the transport header, may be cut off. RFC 792
/// promises 8 bytes of it, enough for ports and identifiers. A first fragment has them too, and a router may report about
/// one; the others say nothing that could be checked.
pub fn parse_quoted(packet: &[u8]) -> Result<Headers, HeaderError> {
    let mut headers = match parse_ip(packet) {
        Err(HeaderError::Fragment) => parse_first_fragment(packet)?,
        parsed => parsed?,
    };
    let message = packet.get(headers.transport_offset..).ok_or(HeaderError::Malformed)?;
    headers.total_bytes = headers.total_bytes.min(packet.len());
    headers.transport = parse_quoted_transport(&headers, message).ok_or(HeaderError::Malformed)?;
    Ok(headers)
}

#[inline]
fn parse_ip(packet: &[u8]) -> Result<Headers, HeaderError> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => parse_ipv4(packet),
        Some(6) => parse_ipv6(packet),
        _ => Err(HeaderError::Malformed),
    }
}

#[inline]
fn parse_ipv4(packet: &[u8]) -> Result<Headers, HeaderError> {
    let header = ipv4::parse(packet).ok_or(HeaderError::Malformed)?;
    if header.is_fragment {
        return Err(HeaderError::Fragment);
    }
    if header.is_refused {
        return Err(HeaderError::Option);
    }
    Ok(of_ipv4(&header))
}

#[inline]
fn of_ipv4(header: &ipv4::Header) -> Headers {
    Headers {
        source: header.source.into(),
        destination: header.destination.into(),
        total_bytes: header.total_bytes,
        transport_offset: header.header_bytes,
        protocol: header.protocol,
        hop_limit: header.ttl,
        dont_fragment: header.dont_fragment,
        transport: Transport::Other,
    }
}

#[inline]
fn parse_ipv6(packet: &[u8]) -> Result<Headers, HeaderError> {
    let header = ipv6::parse(packet).ok_or(HeaderError::Malformed)?;
    if header.is_fragment {
        return Err(HeaderError::Fragment);
    }
    if header.is_refused {
        return Err(HeaderError::Option);
    }
    Ok(of_ipv6(&header))
}

#[inline]
fn of_ipv6(header: &ipv6::Header) -> Headers {
    Headers {
        source: header.source.into(),
        destination: header.destination.into(),
        total_bytes: header.total_bytes,
        transport_offset: header.header_bytes,
        protocol: header.protocol,
        hop_limit: header.hop_limit,
        dont_fragment: true,
        transport: Transport::Other,
    }
}

fn parse_first_fragment(packet: &[u8]) -> Result<Headers, HeaderError> {
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        let header = ipv4::parse(packet).filter(|_| ipv4::is_first(packet)).ok_or(HeaderError::Fragment)?;
        return if header.is_refused { Err(HeaderError::Option) } else { Ok(of_ipv4(&header)) };
    }
    let mut header = ipv6::parse(packet).ok_or(HeaderError::Malformed)?;
    (header.protocol, header.header_bytes) = ipv6::upper_layer_of_first(packet).ok_or(HeaderError::Fragment)?;
    Ok(of_ipv6(&header))
}

#[inline]
fn parse_transport(headers: &Headers, message: &[u8]) -> Option<Transport> {
    Some(match (headers.protocol, headers.is_v6()) {
        (protocol::TCP, _) => {
            let (source_port, destination_port, flags) = tcp::parse(message)?;
            Transport::Tcp { source_port, destination_port, flags }
        }
        (protocol::UDP, _) => {
            let (source_port, destination_port) = udp::parse(message)?;
            Transport::Udp { source_port, destination_port }
        }
        (protocol::ICMP, false) | (protocol::ICMPV6, true) => icmp_transport(icmp::parse(headers.is_v6(), message)?),
        _ => Transport::Other,
    })
}

fn parse_quoted_transport(headers: &Headers, message: &[u8]) -> Option<Transport> {
    if headers.protocol != protocol::TCP {
        return parse_transport(headers, message);
    }
    let (source_port, destination_port) = udp::parse(message)?; // the ports lie where UDP's do
    Some(Transport::Tcp { source_port, destination_port, flags: 0 })
}

fn icmp_transport(kind: icmp::Kind) -> Transport {
    match kind {
        icmp::Kind::EchoRequest(ident) => Transport::EchoRequest { ident },
        icmp::Kind::EchoReply(ident) => Transport::EchoReply { ident },
        icmp::Kind::Error => Transport::IcmpError,
        icmp::Kind::Other => Transport::IcmpOther,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn udp4(payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 20];
        let udp = [&[0x13, 0x88, 0, 53, 0, 8 + payload.len() as u8, 0, 0][..], payload].concat();
        ipv4::emit(&mut header, udp.len(), 64, protocol::UDP, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        [&header[..], &udp].concat()
    }

    #[test]
    fn reads_addresses_ports_and_length() {
        let mut packet = udp4(b"hello");
        packet.extend([0; 7]); // padding behind the packet is not part of it
        let headers = parse(&packet).unwrap();
        assert_eq!(headers.total_bytes, 33);
        assert_eq!(headers.transport, Transport::Udp { source_port: 5000, destination_port: 53 });
    }

    #[test]
    fn a_packet_cut_short_is_malformed_but_may_be_quoted() {
        let packet = udp4(b"hello");
        assert_eq!(parse(&packet[..28]), Err(HeaderError::Malformed));
        let quoted = parse_quoted(&packet[..28]).unwrap();
        assert_eq!(quoted.transport, Transport::Udp { source_port: 5000, destination_port: 53 });
        assert_eq!(parse_quoted(&packet[..27]), Err(HeaderError::Malformed));
    }

    #[test]
    fn fragments_are_told_apart() {
        let mut packet = udp4(b"hello");
        packet[6] = 0x20;
        assert_eq!(parse(&packet), Err(HeaderError::Fragment));
    }

    #[test]
    fn a_first_fragment_may_be_quoted_and_no_other() {
        let mut packet = udp4(b"hello");
        packet[6] = 0x20;
        assert_eq!(
            parse_quoted(&packet).unwrap().transport,
            Transport::Udp { source_port: 5000, destination_port: 53 }
        );
        packet[7] = 1;
        assert_eq!(parse_quoted(&packet), Err(HeaderError::Fragment));

        let udp = [0x13, 0x88, 0, 53, 0x10, 0, 0, 0];
        let fragment = [17, 0, 0, 1, 0, 0, 0, 7];
        let mut packet = [&[0; 40][..], &fragment, &udp].concat();
        let here = std::net::Ipv6Addr::LOCALHOST;
        ipv6::emit(packet.first_chunk_mut().unwrap(), 1200, 64, 44, here, here);
        let quoted = parse_quoted(&packet).unwrap();
        assert_eq!((quoted.protocol, quoted.transport_offset), (protocol::UDP, 48));
        packet[43] = 9;
        assert_eq!(parse_quoted(&packet), Err(HeaderError::Fragment));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), version in prop::sample::select(vec![4u8, 6])) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | (*first & 0xf);
            }
            if let Ok(headers) = parse(&bytes) {
                prop_assert!(headers.transport_offset <= headers.total_bytes && headers.total_bytes <= bytes.len());
            }
            let _ = parse_quoted(&bytes);
        }
    }
}
