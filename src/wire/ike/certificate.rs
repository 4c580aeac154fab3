//! The Certificate and Certificate Request payloads (RFC 7296 sections 3.6 and 3.7).
//!
//! ```text
//! | cert encoding |   certificate, or the SHA-1 hashes of the authorities' keys ...
//! ```

use super::ParseError;
use super::payload::Payload;
use super::reader::Reader;

pub(super) fn parse(mut body: Reader<'_>) -> Result<Payload, ParseError> {
    Ok(Payload::Certificate { encoding: body.u8()?, data: body.rest() })
}

pub(super) fn parse_request(mut body: Reader<'_>) -> Result<Payload, ParseError> {
    Ok(Payload::CertificateRequest { encoding: body.u8()?, data: body.rest() })
}

pub(super) fn emit(encoding: u8, data: &[u8], out: &mut Vec<u8>) {
    out.push(encoding);
    out.extend(data);
}
