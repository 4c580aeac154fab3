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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn body(bytes: &[u8]) -> Reader<'_> {
        Reader::new(kind::KEY_EXCHANGE, 0, bytes)
    }

    #[test]
    fn group_then_public_value() {
        let bytes = [0, 31, 0xaa, 0xbb, 1, 2, 3];
        let expected = Payload::KeyExchange { group: 31, data: vec![1, 2, 3] };
        assert_eq!(parse(body(&bytes)), Ok(expected));
        let mut out = Vec::new();
        emit(31, &[1, 2, 3], &mut out);
        assert_eq!(out, [0, 31, 0, 0, 1, 2, 3], "reserved bytes are sent as zero and ignored");
    }

    #[test]
    fn without_a_public_value_it_is_none() {
        for len in 0..=4 {
            let error = parse(body(&[0, 31, 0, 0][..len])).unwrap_err();
            assert!(matches!(error, ParseError::Malformed { why: Malformed::Short, .. }), "{len} bytes: {error}");
        }
    }
}
