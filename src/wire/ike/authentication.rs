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
