//! The Encrypted payload (RFC 7296 section 3.14) and the Encrypted Fragment payload (RFC 7383 section 2.5): where the
//! ciphertext lies, and what is authenticated with it.
//!
//! ```text
//! | IKE header | clear payloads | generic header [ number | total ] | IV | ciphertext | ICV |
//! |<------------------------ associated --------------------------->|<------- body ------->|
//! ```
//!
//! AEAD ciphers take `associated` as it is (RFC 5282 section 5.1); a separate MAC covers it, the IV and the ciphertext.

use std::ops::Range;

use super::header::{HEADER_BYTES, Header};
use super::payload::{GENERIC_HEADER_BYTES, Generic, Payload, kind};
use super::{Limits, Malformed, ParseError};

const FRAGMENT_HEADER_BYTES: usize = 4;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protected {
    /// What stands before it, unprotected until the body is opened (and then authenticated with it).
    pub clear: Vec<Payload>,
    /// Type of the first payload inside; 0 in all but the first fragment.
    pub inner_first: u8,
    pub associated: Range<usize>,
    /// IV, ciphertext and ICV.
    pub body: Range<usize>,
    pub fragment: Option<Fragment>,
}

/// Which part of a message this is: 1 to `total`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fragment {
    pub number: u16,
    pub total: u16,
}

/// The encrypted payload of a message whose header was parsed (`first` is its `next_payload`), or `None`: all in clear, and
/// to be read with [`parse_payloads`](super::parse_payloads).
pub fn find_protected(first: u8, datagram: &[u8], limits: &Limits) -> Result<Option<Protected>, ParseError> {
    let mut clear = Vec::new();
    let (mut kind, mut at) = (first, HEADER_BYTES);
    while kind != 0 {
        if clear.len() >= limits.payloads {
            return Err(ParseError::Malformed { payload: kind, offset: at, why: Malformed::OverLimit });
        }
        if matches!(kind, kind::ENCRYPTED | kind::ENCRYPTED_FRAGMENT) {
            return protected(kind, clear, datagram, at, limits).map(Some);
        }
        let generic = Generic::parse(kind, datagram, at, limits)?;
        (kind, at) = (generic.next, generic.end());
        clear.push(generic.into_payload(limits)?);
    }
    Ok(None)
}

fn protected(
    kind: u8,
    clear: Vec<Payload>,
    datagram: &[u8],
    at: usize,
    limits: &Limits,
) -> Result<Protected, ParseError> {
    // The limit on payloads is for what is inside.
    let limits_here = Limits { payload_bytes: usize::MAX, ..*limits };
    let Generic { next, mut body, .. } = Generic::parse(kind, datagram, at, &limits_here)?;
    let fragment = match kind {
        kind::ENCRYPTED_FRAGMENT => {
            let fragment = Fragment { number: body.u16()?, total: body.u16()? };
            body.require((1..=fragment.total).contains(&fragment.number), Malformed::Range)?;
            body.require(fragment.total <= limits.fragments, Malformed::OverLimit)?;
            Some(fragment)
        }
        _ => None,
    };
    let end = body.offset() + body.remaining();
    body.require(body.remaining() > 0, Malformed::Short)?;
    // "The Encrypted payload [...] MUST be the last payload in the message."
    body.require(end == datagram.len(), Malformed::Trailing)?;
    Ok(Protected { clear, inner_first: next, associated: 0..body.offset(), body: body.offset()..end, fragment })
}

/// Header and generic header for a body of `body_bytes` (IV, ciphertext and ICV), which is left zero and to be sealed in
/// place: the message, what is associated data in it, and where the body lies.
pub fn lay_out_protected(
    header: &Header,
    inner_first: u8,
    fragment: Option<Fragment>,
    body_bytes: usize,
) -> (Vec<u8>, Range<usize>, Range<usize>) {
    let kind = if fragment.is_some() { kind::ENCRYPTED_FRAGMENT } else { kind::ENCRYPTED };
    let own_bytes = GENERIC_HEADER_BYTES + fragment.map_or(0, |_| FRAGMENT_HEADER_BYTES);
    let body_bytes = body_bytes.min(usize::from(u16::MAX) - own_bytes);
    let payload_bytes = own_bytes + body_bytes;
    let mut message = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    header.emit(kind, HEADER_BYTES + payload_bytes, &mut message);
    message.extend([inner_first, 0]);
    message.extend((payload_bytes as u16).to_be_bytes());
    if let Some(Fragment { number, total }) = fragment {
        message.extend(number.to_be_bytes());
        message.extend(total.to_be_bytes());
    }
    let body_starts = message.len();
    message.resize(body_starts + body_bytes, 0);
    (message, 0..body_starts, body_starts..body_starts + body_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::{ExchangeType, Flags, ParseError, emit_message, parse_header};

    fn header() -> Header {
        Header::new((1, 2), ExchangeType::IKE_AUTH, Flags { initiator: true, response: false }, 1)
    }

    fn find(message: &[u8]) -> Result<Option<Protected>, ParseError> {
        let header = parse_header(message).unwrap();
        find_protected(header.next_payload, message, &Limits { fragments: 3, ..Limits::default() })
    }

    fn why(message: &[u8]) -> Malformed {
        match find(message) {
            Err(ParseError::Malformed { why, .. }) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_laid_out_is_found() {
        for fragment in [None, Some(Fragment { number: 2, total: 3 })] {
            let (message, associated, body) = lay_out_protected(&header(), kind::NOTIFY, fragment, 40);
            let header_bytes = 28 + 4 + fragment.map_or(0, |_| 4);
            assert_eq!((associated.clone(), body.clone()), (0..header_bytes, header_bytes..header_bytes + 40));
            let found = find(&message).unwrap().unwrap();
            let expected = Protected { clear: vec![], inner_first: kind::NOTIFY, associated, body, fragment };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn clear_payloads_before_it_are_read_and_are_associated_data() {
        let (protected, ..) = lay_out_protected(&header(), kind::NOTIFY, None, 9);
        let mut message = emit_message(&header(), &[Payload::VendorId(vec![5])]);
        message[28] = kind::ENCRYPTED;
        message.extend(&protected[28..]);
        message[27] = message.len() as u8;
        let found = find(&message).unwrap().unwrap();
        assert_eq!(found.clear, [Payload::VendorId(vec![5])]);
        assert_eq!((found.associated, found.body), (0..37, 37..46));
    }

    #[test]
    fn a_message_in_clear_has_none() {
        assert_eq!(find(&emit_message(&header(), &[Payload::VendorId(vec![5])])), Ok(None));
        assert_eq!(find(&emit_message(&header(), &[])), Ok(None));
    }

    #[test]
    fn it_must_be_the_last_payload_and_have_a_body() {
        let (mut message, ..) = lay_out_protected(&header(), 0, None, 8);
        message.push(0);
        message[27] += 1;
        assert_eq!(why(&message), Malformed::Trailing);
        message[31] += 2;
        assert_eq!(why(&message), Malformed::Length);
        message[31] = 3;
        assert_eq!(why(&message), Malformed::Length);
        assert_eq!(why(&lay_out_protected(&header(), 0, None, 0).0), Malformed::Short);
    }

    #[test]
    fn fragments_are_numbered_from_one_to_the_total_and_bounded() {
        for (number, total, wrong) in [
            (0, 0, Malformed::Range),
            (0, 3, Malformed::Range),
            (1, 0, Malformed::Range),
            (3, 2, Malformed::Range),
            (1, 4, Malformed::OverLimit),
        ] {
            let message = lay_out_protected(&header(), 0, Some(Fragment { number, total }), 8).0;
            assert_eq!(why(&message), wrong, "{number} of {total}");
        }
        assert!(find(&lay_out_protected(&header(), 0, Some(Fragment { number: 3, total: 3 }), 8).0).is_ok());
        let mut short = lay_out_protected(&header(), 0, None, 3).0;
        short[16] = kind::ENCRYPTED_FRAGMENT;
        assert_eq!(why(&short), Malformed::Short);
    }

    #[test]
    fn no_length_field_is_exceeded() {
        let (message, _, body) = lay_out_protected(&header(), 0, None, 100_000);
        assert_eq!(body.len(), 65_531);
        assert_eq!(message[30..32], [255, 255]);
    }
}
