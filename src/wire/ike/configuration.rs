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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn parse_with(bytes: &[u8], limits: &Limits) -> Result<Payload, ParseError> {
        parse(Reader::new(kind::CONFIGURATION, 0, bytes), limits)
    }

    #[test]
    fn attributes_by_type_and_length() {
        let bytes = [1, 0, 0, 0, 0x80, 1, 0, 4, 10, 0, 0, 1, 0, 8, 0, 0];
        let attributes = vec![(1, vec![10, 0, 0, 1]), (8, vec![])];
        let parsed = parse_with(&bytes, &Limits::default()).unwrap();
        assert_eq!(parsed, Payload::Configuration { kind: 1, attributes: attributes.clone() });
        let mut out = Vec::new();
        emit(1, &attributes, &mut out);
        assert_eq!(out, [1, 0, 0, 0, 0, 1, 0, 4, 10, 0, 0, 1, 0, 8, 0, 0], "the reserved bit is sent as zero");
    }

    #[test]
    fn lengths_beyond_the_end_are_cut_short() {
        for bytes in [&[1, 0, 0][..], &[1, 0, 0, 0, 0], &[1, 0, 0, 0, 0, 1, 0], &[1, 0, 0, 0, 0, 1, 0, 2, 9]] {
            let error = parse_with(bytes, &Limits::default()).unwrap_err();
            assert!(matches!(error, ParseError::Malformed { why: Malformed::Short, .. }), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn the_limit_holds() {
        let limits = Limits { attributes: 3, ..Limits::default() };
        let with = |count| [&[1, 0, 0, 0], [0, 1, 0, 0].repeat(count).as_slice()].concat();
        assert!(parse_with(&with(3), &limits).is_ok());
        let error = parse_with(&with(4), &limits).unwrap_err();
        assert!(matches!(error, ParseError::Malformed { why: Malformed::OverLimit, .. }), "{error}");
    }
}
