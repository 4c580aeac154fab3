//! The Nonce payload (RFC 7296 section 3.9).

use super::reader::Reader;
use super::{Malformed, ParseError};

/// "The size of the Nonce Data MUST be between 16 and 256 octets, inclusive."
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

pub(super) fn parse(mut body: Reader<'_>) -> Result<Vec<u8>, ParseError> {
    body.require(NONCE_BYTES.contains(&body.remaining()), Malformed::Length)?;
    Ok(body.rest())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    #[test]
    fn has_16_to_256_bytes() {
        for (bytes, fits) in [(0, false), (15, false), (16, true), (256, true), (257, false)] {
            let body = vec![7; bytes];
            let parsed = parse(Reader::new(kind::NONCE, 0, &body));
            assert_eq!(parsed.is_ok(), fits, "{bytes} bytes");
            assert!(!fits || parsed == Ok(body));
        }
    }
}
