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
