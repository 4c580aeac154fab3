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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    #[test]
    fn encoding_then_data() {
        let data = vec![0x30, 0x82];
        let (bytes, kind) = ([4, 0x30, 0x82], kind::CERTIFICATE);
        assert_eq!(parse(Reader::new(kind, 0, &bytes)), Ok(Payload::Certificate { encoding: 4, data: data.clone() }));
        let request = Payload::CertificateRequest { encoding: 4, data: data.clone() };
        assert_eq!(parse_request(Reader::new(kind, 0, &bytes)), Ok(request));
        let mut out = Vec::new();
        emit(4, &data, &mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn an_empty_body_has_no_encoding() {
        assert!(parse(Reader::new(kind::CERTIFICATE, 0, &[])).is_err());
        assert!(parse_request(Reader::new(kind::CERTIFICATE_REQUEST, 0, &[])).is_err());
        let empty = Payload::CertificateRequest { encoding: 4, data: vec![] };
        assert_eq!(parse_request(Reader::new(kind::CERTIFICATE_REQUEST, 0, &[4])), Ok(empty), "any authority will do");
    }
}
