//! The Traffic Selector payloads (RFC 7296 section 3.13).
//!
//! ```text
//! | number of TSs |                  reserved                     |   then selectors:
//! |   TS type     |  IP protocol  |        selector length        |
//! |          start port           |           end port            |   first address, last address
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reader::Reader;
use super::writer::{counted_u8, with_length};
use super::{Limits, Malformed, ParseError};
use crate::net::selector::Selector;

const IPV4_ADDR_RANGE: u8 = 7;
const IPV6_ADDR_RANGE: u8 = 8;
const HEADER_BYTES: usize = 8;

/// Selectors of a type that we do not know (RFC 9478 labels, Fibre Channel) are left out: what is narrowed from the rest
/// tells the peer so.
pub(super) fn parse(mut body: Reader<'_>, limits: &Limits) -> Result<Vec<Selector>, ParseError> {
    let [count, ..] = body.array::<4>()?;
    body.require(count > 0, Malformed::Count)?;
    body.require(usize::from(count) <= limits.selectors, Malformed::OverLimit)?;
    let mut selectors = Vec::new();
    for _ in 0..count {
        selectors.extend(parse_selector(&mut body)?);
    }
    body.finish()?;
    Ok(selectors)
}

fn parse_selector(body: &mut Reader<'_>) -> Result<Option<Selector>, ParseError> {
    let [kind, protocol] = body.array()?;
    let length = usize::from(body.u16()?);
    body.require(length >= HEADER_BYTES && length - 4 <= body.remaining(), Malformed::Length)?;
    let mut part = body.part(length - 4)?;
    let (first_port, last_port) = (part.u16()?, part.u16()?);
    let (first, last): (IpAddr, IpAddr) = match kind {
        IPV4_ADDR_RANGE => (ipv4(&mut part)?.into(), ipv4(&mut part)?.into()),
        IPV6_ADDR_RANGE => (ipv6(&mut part)?.into(), ipv6(&mut part)?.into()),
        _ => return Ok(None),
    };
    part.require(part.remaining() == 0, Malformed::Length)?;
    let selector = Selector { protocol, first_port, last_port, first, last };
    part.require(first <= last && (first_port <= last_port || selector.has_opaque_ports()), Malformed::Range)?;
    Ok(Some(selector))
}

fn ipv4(part: &mut Reader<'_>) -> Result<Ipv4Addr, ParseError> {
    part.array::<4>().map(Ipv4Addr::from)
}

fn ipv6(part: &mut Reader<'_>) -> Result<Ipv6Addr, ParseError> {
    part.array::<16>().map(Ipv6Addr::from)
}

pub(super) fn emit(selectors: &[Selector], out: &mut Vec<u8>) {
    let (count, selectors) = counted_u8(selectors);
    out.extend([count, 0, 0, 0]);
    for selector in selectors {
        let start = out.len();
        out.extend([if selector.first.is_ipv4() { IPV4_ADDR_RANGE } else { IPV6_ADDR_RANGE }, selector.protocol]);
        with_length(out, start, |out| {
            out.extend(selector.first_port.to_be_bytes());
            out.extend(selector.last_port.to_be_bytes());
            for address in [selector.first, selector.last] {
                match address {
                    IpAddr::V4(address) => out.extend(address.octets()),
                    IpAddr::V6(address) => out.extend(address.octets()),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn parse_all(bytes: &[u8]) -> Result<Vec<Selector>, ParseError> {
        parse(Reader::new(kind::SELECTORS_INITIATOR, 0, bytes), &Limits { selectors: 3, ..Limits::default() })
    }

    fn why(bytes: &[u8]) -> Malformed {
        match parse_all(bytes) {
            Err(ParseError::Malformed { why, .. }) => why,
            other => panic!("{bytes:?}: {other:?}"),
        }
    }

    /// tcp, ports 80 to 443, 10.0.0.0 to 10.0.0.7.
    const V4: [u8; 16] = [7, 6, 0, 16, 0, 80, 1, 187, 10, 0, 0, 0, 10, 0, 0, 7];

    fn v4() -> Selector {
        let (first, last) = ("10.0.0.0".parse().unwrap(), "10.0.0.7".parse().unwrap());
        Selector { protocol: 6, first_port: 80, last_port: 443, first, last }
    }

    fn list(selectors: &[&[u8]]) -> Vec<u8> {
        [&[selectors.len() as u8, 0, 0, 0], selectors.concat().as_slice()].concat()
    }

    fn changed(at: usize, value: u8) -> Vec<u8> {
        let mut selector = V4;
        selector[at] = value;
        list(&[&selector])
    }

    #[test]
    fn both_families() {
        let mut v6 = vec![8, 0, 0, 40, 0, 0, 255, 255];
        v6.extend([0; 16]);
        v6.extend([255; 16]);
        let bytes = list(&[&V4, &v6]);
        let selectors = parse_all(&bytes).unwrap();
        assert_eq!(selectors, [v4(), Selector::ANY6]);
        let mut out = Vec::new();
        emit(&selectors, &mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn opaque_ports_are_the_only_range_that_runs_backwards() {
        let mut opaque = V4;
        opaque[4..8].copy_from_slice(&[255, 255, 0, 0]);
        assert!(parse_all(&list(&[&opaque])).unwrap()[0].has_opaque_ports());
        assert_eq!(why(&changed(4, 2)), Malformed::Range, "port 592 to 443");
        assert_eq!(why(&changed(11, 8)), Malformed::Range, "10.0.0.8 to 10.0.0.7");
    }

    #[test]
    fn lengths_that_are_not_of_the_family() {
        for length in [0, 7, 15, 17, 40] {
            assert!(parse_all(&changed(3, length)).is_err(), "{length}");
        }
        assert_eq!(why(&changed(3, 0)), Malformed::Length);
        assert_eq!(why(&changed(0, 8)), Malformed::Short, "an IPv6 selector with IPv4 addresses");
        let long = [&[7, 6, 0, 20], &V4[4..], &[0; 4]].concat();
        assert_eq!(why(&list(&[&long])), Malformed::Length);
    }

    #[test]
    fn counts_that_lie() {
        assert_eq!(why(&[0, 0, 0, 0]), Malformed::Count);
        assert_eq!(why(&[&[0, 0, 0, 0][..], &V4].concat()), Malformed::Count);
        assert_eq!(why(&[&[2, 0, 0, 0][..], &V4].concat()), Malformed::Short);
        assert_eq!(why(&[&[1, 0, 0, 0][..], &V4, &V4].concat()), Malformed::Trailing);
    }

    #[test]
    fn the_limit_holds() {
        assert_eq!(parse_all(&list(&[&V4, &V4, &V4])).unwrap().len(), 3);
        assert_eq!(why(&list(&[&V4, &V4, &V4, &V4])), Malformed::OverLimit);
    }

    #[test]
    fn unknown_types_are_left_out() {
        let label = [10, 0, 0, 12, 0, 0, 0, 0, 1, 2, 3, 4]; // RFC 9478
        assert_eq!(parse_all(&list(&[&label, &V4])), Ok(vec![v4()]));
        assert_eq!(parse_all(&list(&[&label])), Ok(vec![]));
    }
}
