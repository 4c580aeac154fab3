//! The Nonce payload (RFC 7296 section 3.9).

use super::reader::Reader;
use super::{Malformed, ParseError};

/// "The size of the Nonce Data MUST be between 16 and 256 octets, inclusive."
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

pub(super) fn parse(mut body: Reader<'_>) -> Result<Vec<u8>, ParseError> {
    body.require(NONCE_BYTES.contains(&body.remaining()), Malformed::Length)?;
    Ok(body.rest())
}
