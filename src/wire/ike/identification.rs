//! The Identification payloads (RFC 7296 section 3.5).
//!
//! ```text
//! |    ID type    |                  reserved                     |   then the identity
//! ```

use super::reader::Reader;
use super::{Malformed, ParseError};

pub mod id_kind {
    pub const IPV4_ADDR: u8 = 1;
    pub const FQDN: u8 = 2;
    pub const RFC822_ADDR: u8 = 3;
    pub const IPV6_ADDR: u8 = 5;
    pub const DER_ASN1_DN: u8 = 9;
    pub const DER_ASN1_GN: u8 = 10;
    pub const KEY_ID: u8 = 11;
    /// RFC 7619.
    pub const NULL: u8 = 13;
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Identification {
    pub kind: u8,
    pub data: Vec<u8>,
}

impl Identification {
    /// What the AUTH payload is computed over besides (RFC 7296 section 2.15): the payload without its generic header.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.data.len());
        self.emit(&mut out);
        out
    }

    pub(super) fn parse(mut body: Reader<'_>) -> Result<Self, ParseError> {
        let [kind, ..] = body.array::<4>()?;
        let fits = match kind {
            id_kind::IPV4_ADDR => body.remaining() == 4,
            id_kind::IPV6_ADDR => body.remaining() == 16,
            _ => true,
        };
        body.require(fits, Malformed::Length)?;
        Ok(Identification { kind, data: body.rest() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        out.extend([self.kind, 0, 0, 0]);
        out.extend(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn parse(bytes: &[u8]) -> Result<Identification, ParseError> {
        Identification::parse(Reader::new(kind::ID_INITIATOR, 0, bytes))
    }

    #[test]
    fn kind_then_identity() {
        let id = parse(b"\x02\x01\x02\x03gw.example").unwrap();
        assert_eq!(id, Identification { kind: id_kind::FQDN, data: b"gw.example".to_vec() });
        assert_eq!(id.body(), b"\x02\0\0\0gw.example");
    }

    #[test]
    fn addresses_have_the_length_of_their_family() {
        for (kind, right) in [(id_kind::IPV4_ADDR, 4), (id_kind::IPV6_ADDR, 16)] {
            for bytes in 0..=20 {
                let body = [&[kind, 0, 0, 0], vec![1; bytes].as_slice()].concat();
                assert_eq!(parse(&body).is_ok(), bytes == right, "type {kind}, {bytes} bytes");
            }
        }
    }

    #[test]
    fn the_fixed_part_must_be_there_and_the_identity_may_be_empty() {
        assert!(parse(&[2, 0, 0]).is_err());
        assert_eq!(parse(&[id_kind::NULL, 0, 0, 0]).unwrap().data, b"", "RFC 7619");
    }
}
