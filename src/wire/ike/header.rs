//! The fixed header of every message (RFC 7296 section 3.1).
//!
//! ```text
//!  0                   1                   2                   3
//! |                  IKE SA initiator's SPI (8)                   |
//! |                  IKE SA responder's SPI (8)                   |
//! | next payload  | major | minor | exchange type |  flags        |
//! |                          message ID                           |
//! |                            length                             |
//! ```

use super::payload::{Payload, emit_payloads};
use super::reader::Reader;
use super::{Malformed, ParseError};

pub const HEADER_BYTES: usize = 28;
const VERSION_2_0: u8 = 0x20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub initiator_spi: u64,
    /// Zero in the first message of an IKE SA.
    pub responder_spi: u64,
    pub next_payload: u8,
    pub version: u8,
    pub exchange: ExchangeType,
    pub flags: Flags,
    pub message_id: u32,
    /// Of the whole message. Emitting fills it in.
    pub length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExchangeType(pub u8);

impl ExchangeType {
    pub const IKE_SA_INIT: ExchangeType = ExchangeType(34);
    pub const IKE_AUTH: ExchangeType = ExchangeType(35);
    pub const CREATE_CHILD_SA: ExchangeType = ExchangeType(36);
    pub const INFORMATIONAL: ExchangeType = ExchangeType(37);
    /// RFC 9242.
    pub const IKE_INTERMEDIATE: ExchangeType = ExchangeType(43);
    /// RFC 9370.
    pub const IKE_FOLLOWUP_KE: ExchangeType = ExchangeType(44);

    pub const SA_INIT: ExchangeType = Self::IKE_SA_INIT;
    pub const AUTH: ExchangeType = Self::IKE_AUTH;
    pub const INTERMEDIATE: ExchangeType = Self::IKE_INTERMEDIATE;
    pub const FOLLOWUP_KE: ExchangeType = Self::IKE_FOLLOWUP_KE;

    pub fn name(self) -> &'static str {
        match self {
            Self::IKE_SA_INIT => "IKE_SA_INIT",
            Self::IKE_AUTH => "IKE_AUTH",
            Self::CREATE_CHILD_SA => "CREATE_CHILD_SA",
            Self::INFORMATIONAL => "INFORMATIONAL",
            Self::IKE_INTERMEDIATE => "IKE_INTERMEDIATE",
            Self::IKE_FOLLOWUP_KE => "IKE_FOLLOWUP_KE",
            _ => "unknown exchange",
        }
    }
}

/// The version flag ("I can speak a higher major version") says nothing to a speaker of version 2, and is ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// From the original initiator of this IKE SA, whoever began this exchange.
    pub initiator: bool,
    pub response: bool,
}

impl Flags {
    const INITIATOR: u8 = 0x08;
    const RESPONSE: u8 = 0x20;

    pub fn from_byte(byte: u8) -> Self {
        Flags { initiator: byte & Self::INITIATOR != 0, response: byte & Self::RESPONSE != 0 }
    }

    pub fn byte(self) -> u8 {
        (u8::from(self.initiator) * Self::INITIATOR) | (u8::from(self.response) * Self::RESPONSE)
    }
}

impl Header {
    /// A header to emit: `next_payload` and `length` are filled in then.
    pub fn new(spis: (u64, u64), exchange: ExchangeType, flags: Flags, message_id: u32) -> Self {
        Header {
            initiator_spi: spis.0,
            responder_spi: spis.1,
            next_payload: 0,
            version: VERSION_2_0,
            exchange,
            flags,
            message_id,
            length: 0,
        }
    }

    /// The fields as they stand, held against nothing: for the answer to a version that we do not speak.
    pub fn peek(datagram: &[u8]) -> Option<Header> {
        Self::read(&mut Reader::new(0, 0, datagram)).ok()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Header, ParseError> {
        Ok(Header {
            initiator_spi: reader.u64()?,
            responder_spi: reader.u64()?,
            next_payload: reader.u8()?,
            version: reader.u8()?,
            exchange: ExchangeType(reader.u8()?),
            flags: Flags::from_byte(reader.u8()?),
            message_id: reader.u32()?,
            length: reader.u32()?,
        })
    }

    pub(super) fn emit(&self, next_payload: u8, length: usize, out: &mut Vec<u8>) {
        out.extend(self.initiator_spi.to_be_bytes());
        out.extend(self.responder_spi.to_be_bytes());
        out.extend([next_payload, self.version, self.exchange.0, self.flags.byte()]);
        out.extend(self.message_id.to_be_bytes());
        out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

/// The header of a datagram that is exactly one message of major version 2. Minor versions are ignored.
pub fn parse_header(datagram: &[u8]) -> Result<Header, ParseError> {
    let mut reader = Reader::new(0, 0, datagram);
    let header = Header::read(&mut reader)?;
    if header.version >> 4 != VERSION_2_0 >> 4 {
        return Err(ParseError::Version(header.version));
    }
    reader.require(u32::try_from(datagram.len()) == Ok(header.length), Malformed::Length)?;
    Ok(header)
}

/// A whole message in clear. `header.next_payload` and `header.length` are what the payloads make them.
pub fn emit_message(header: &Header, payloads: &[Payload]) -> Vec<u8> {
    let (first, body) = emit_payloads(payloads);
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    header.emit(first, HEADER_BYTES + body.len(), &mut message);
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        let mut bytes = vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9];
        bytes.extend([0, 0x20, 37, 0x28, 0, 0, 1, 2, 0, 0, 0, 28]);
        bytes
    }

    #[test]
    fn fields_lie_where_the_rfc_draws_them() {
        let header = parse_header(&bytes()).unwrap();
        let expected = Header {
            initiator_spi: 0x0102_0304_0506_0708,
            responder_spi: 9,
            next_payload: 0,
            version: 0x20,
            exchange: ExchangeType::INFORMATIONAL,
            flags: Flags { initiator: true, response: true },
            message_id: 0x102,
            length: 28,
        };
        assert_eq!(header, expected);
        assert_eq!(emit_message(&header, &[]), bytes());
    }

    #[test]
    fn length_must_be_the_datagrams() {
        let wrong = ParseError::Malformed { payload: 0, offset: 28, why: Malformed::Length };
        for length in [0, 27, 29, 0xff] {
            let mut bytes = bytes();
            bytes[27] = length;
            assert_eq!(parse_header(&bytes), Err(wrong), "{length}");
        }
        let mut longer = bytes();
        longer.push(0);
        assert_eq!(parse_header(&longer), Err(wrong));
        for len in 0..HEADER_BYTES {
            let error = parse_header(&bytes()[..len]).unwrap_err();
            assert!(matches!(error, ParseError::Malformed { why: Malformed::Short, .. }), "{len}: {error}");
        }
    }

    #[test]
    fn only_the_major_version_counts() {
        let mut bytes = bytes();
        bytes[17] = 0x2f;
        assert_eq!(parse_header(&bytes).unwrap().version, 0x2f);
        for version in [0x10, 0x30, 0x00] {
            bytes[17] = version;
            assert_eq!(parse_header(&bytes), Err(ParseError::Version(version)));
            assert_eq!(Header::peek(&bytes).unwrap().message_id, 0x102, "there is enough to answer");
        }
    }
}
