//! The Key Exchange payload (RFC 7296 section 3.4).
//!
//! ```text
//! |  key exchange method (group)  |           reserved            |   then the public value
//! ```

use super::payload::Payload;
use super::reader::Reader;
use super::{Malformed, ParseError};

pub(super) fn parse(mut body: Reader<'_>) -> Result<Payload, ParseError> {
    let group = body.u16()?;
    body.u16()?;
    body.require(body.remaining() > 0, Malformed::Short)?;
    Ok(Payload::KeyExchange { group, data: body.rest() })
}

pub(super) fn emit(group: u16, data: &[u8], out: &mut Vec<u8>) {
    out.extend(group.to_be_bytes());
    out.extend([0; 2]);
    out.extend(data);
}
