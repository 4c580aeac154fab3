//! Why bytes are no IKE message.

use std::fmt;

use super::payload;

/// What the peer is told follows from the variant: INVALID_MAJOR_VERSION, UNSUPPORTED_CRITICAL_PAYLOAD (with the type),
/// or INVALID_SYNTAX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// The version byte of the header; its upper half is not 2.
    Version(u8),
    /// A payload of this type is marked critical and unknown here (RFC 7296 section 2.5).
    UnsupportedCritical(u8),
    /// `payload` is the type (0: the header, or the chain itself), `offset` counts from the first byte handed in.
    Malformed { payload: u8, offset: usize, why: Malformed },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// It ends before a field does.
    Short,
    /// A length field says something other than what is there, or than the type allows.
    Length,
    /// Bytes are left over behind the last payload or field.
    Trailing,
    /// More of something than `Limits` allow, or longer.
    OverLimit,
    /// A count field and what follows it disagree, or it is zero where there must be one.
    Count,
    /// An SPI of a size that its protocol does not have.
    SpiSize,
    /// A range (ports, addresses, fragments) that ends before it begins.
    Range,
    /// An encrypted payload where there can be none: inside another, or not as the last one.
    Encrypted,
    /// A "more follow" mark that is neither of its two values.
    Chain,
}

impl Malformed {
    fn text(self) -> &'static str {
        match self {
            Malformed::Short => "is cut short",
            Malformed::Length => "has a wrong length",
            Malformed::Trailing => "has bytes left over behind its end",
            Malformed::OverLimit => "is larger than we allow",
            Malformed::Count => "has a wrong count",
            Malformed::SpiSize => "has an SPI of the wrong size",
            Malformed::Range => "has a range that ends before it begins",
            Malformed::Encrypted => "is encrypted where it cannot be",
            Malformed::Chain => "has a wrong mark for whether more follow",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ParseError::Version(version) => write!(f, "IKE version {}.{} instead of 2.0", version >> 4, version & 15),
            ParseError::UnsupportedCritical(kind) => write!(f, "critical payload of unknown type {kind}"),
            ParseError::Malformed { payload: 0, offset, why } => {
                write!(f, "the message {} (byte {offset})", why.text())
            }
            ParseError::Malformed { payload, offset, why } => {
                write!(f, "payload {} {} (byte {offset})", payload::name(payload), why.text())
            }
        }
    }
}

impl std::error::Error for ParseError {}
