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
