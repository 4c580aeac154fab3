//! The Authentication payload (RFC 7296 section 3.8).
//!
//! ```text
//! |  auth method  |                  reserved                     |   then the signature or MAC
//! ```

use super::ParseError;
use super::payload::Payload;
use super::reader::Reader;

pub(super) fn parse(mut body: Reader<'_>) -> Result<Payload, ParseError> {
    let [method, ..] = body.array::<4>()?;
    Ok(Payload::Authentication { method, data: body.rest() })
}

pub(super) fn emit(method: u8, data: &[u8], out: &mut Vec<u8>) {
    out.extend([method, 0, 0, 0]);
    out.extend(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    #[test]
    fn method_then_data() {
        let parsed = parse(Reader::new(kind::AUTHENTICATION, 0, &[14, 9, 9, 9, 1, 2]));
        assert_eq!(parsed, Ok(Payload::Authentication { method: 14, data: vec![1, 2] }));
        let mut out = Vec::new();
        emit(14, &[1, 2], &mut out);
        assert_eq!(out, [14, 0, 0, 0, 1, 2]);
        for len in 0..4 {
            assert!(parse(Reader::new(kind::AUTHENTICATION, 0, &[14, 0, 0, 0][..len])).is_err(), "{len} bytes");
        }
    }
}
