//! The Configuration payload (RFC 7296 section 3.15).
//!
//! ```text
//! |   CFG type    |                  reserved                     |   then attributes:
//! |R|   attribute type (15)       |         value length          |   value ...
//! ```

use super::payload::Payload;
use super::reader::Reader;
use super::writer::with_length;
use super::{Limits, Malformed, ParseError};

const ATTRIBUTE_TYPE: u16 = 0x7fff;

pub(super) fn parse(mut body: Reader<'_>, limits: &Limits) -> Result<Payload, ParseError> {
    let [kind, ..] = body.array::<4>()?;
    let mut attributes = Vec::new();
    while body.remaining() > 0 {
        body.require(attributes.len() < limits.attributes, Malformed::OverLimit)?;
        let attribute = body.u16()? & ATTRIBUTE_TYPE;
        let length = usize::from(body.u16()?);
        attributes.push((attribute, body.take(length)?.to_vec()));
    }
    Ok(Payload::Configuration { kind, attributes })
}

pub(super) fn emit(kind: u8, attributes: &[(u16, Vec<u8>)], out: &mut Vec<u8>) {
    out.extend([kind, 0, 0, 0]);
    for (attribute, value) in attributes {
        out.extend((attribute & ATTRIBUTE_TYPE).to_be_bytes());
        // The length counts the value alone, not the field itself.
        let value_starts = out.len() + 2;
        with_length(out, value_starts, |out| out.extend(value));
    }
}
