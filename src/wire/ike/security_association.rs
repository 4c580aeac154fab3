//! The Security Association payload: proposals of transforms (RFC 7296 section 3.3).
//!
//! ```text
//! | last: 0, more: 2 |   reserved    |        proposal length        |
//! | proposal number  |  protocol ID  |   SPI size    | transforms    |   then the SPI, then the transforms:
//!
//! | last: 0, more: 3 |   reserved    |       transform length        |
//! | transform type   |   reserved    |         transform ID          |   then attributes, of which there is one:
//!
//! |1|    14 (key length)             |           key bits            |
//! ```

use super::reader::Reader;
use super::writer::{counted_u8, with_length};
use super::{Limits, Malformed, ParseError};

const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
const PROPOSAL_HEADER_BYTES: usize = 8;
const TRANSFORM_HEADER_BYTES: usize = 8;

/// The attribute has a value of two bytes in place of a length.
const SHORT_ATTRIBUTE: u16 = 0x8000;
const KEY_LENGTH: u16 = 14;

/// Transform types (RFC 7296 section 3.3.2; additional key exchanges: RFC 9370).
pub mod transform_kind {
    pub const ENCRYPTION: u8 = 1;
    pub const PRF: u8 = 2;
    pub const INTEGRITY: u8 = 3;
    pub const KEY_EXCHANGE: u8 = 4;
    pub const ESN: u8 = 5;
    /// The first of seven.
    pub const ADDITIONAL_KEY_EXCHANGE_1: u8 = 6;
    pub const ADDITIONAL_KEY_EXCHANGE_7: u8 = 12;
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    Ike,
    Ah,
    Esp,
    /// Any other value; proposals for it are skipped by who chooses.
    Other(u8),
}

impl Protocol {
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Protocol::Ike,
            2 => Protocol::Ah,
            3 => Protocol::Esp,
            other => Protocol::Other(other),
        }
    }

    pub fn byte(self) -> u8 {
        match self {
            Protocol::Ike => 1,
            Protocol::Ah => 2,
            Protocol::Esp => 3,
            Protocol::Other(byte) => byte,
        }
    }

    /// The SPI size in a Delete payload without SPIs.
    pub(super) fn deleted_spi_bytes(self) -> u8 {
        match self {
            Protocol::Ah | Protocol::Esp => 4,
            Protocol::Ike | Protocol::Other(_) => 0,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// An answer repeats the number of the proposal that it accepts.
    pub number: u8,
    pub protocol: Protocol,
    /// 4 bytes for ESP and AH; for IKE none in IKE_SA_INIT, 8 when an IKE SA is rekeyed.
    pub spi: Vec<u8>,
    pub transforms: Vec<Transform>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Transform {
    /// See [`transform_kind`].
    pub kind: u8,
    pub id: u16,
    /// `Some(0)`: it came with an attribute that we do not understand (or a key length of zero), which makes this
    /// transform unacceptable (RFC 7296 section 3.3.6).
    pub key_bits: Option<u16>,
}

impl Transform {
    const NOT_UNDERSTOOD: Option<u16> = Some(0);

    pub const fn new(kind: u8, id: u16) -> Self {
        Transform { kind, id, key_bits: None }
    }

    pub const fn with_key_bits(kind: u8, id: u16, key_bits: u16) -> Self {
        Transform { kind, id, key_bits: Some(key_bits) }
    }

    /// All its attributes are ones that we know.
    pub fn is_understood(&self) -> bool {
        self.key_bits != Self::NOT_UNDERSTOOD
    }
}

pub(super) fn parse(mut body: Reader<'_>, limits: &Limits) -> Result<Vec<Proposal>, ParseError> {
    let mut proposals = Vec::new();
    loop {
        body.require(proposals.len() < limits.proposals, Malformed::OverLimit)?;
        let (more, part) = element(&mut body, MORE_PROPOSALS, PROPOSAL_HEADER_BYTES)?;
        proposals.push(parse_proposal(part, limits)?);
        if !more {
            break;
        }
    }
    body.finish()?;
    Ok(proposals)
}

/// The part behind "last or more" and the length, and whether another one follows.
fn element<'a>(body: &mut Reader<'a>, more: u8, header_bytes: usize) -> Result<(bool, Reader<'a>), ParseError> {
    let [mark, _] = body.array()?;
    body.require(mark == 0 || mark == more, Malformed::Chain)?;
    let length = usize::from(body.u16()?);
    body.require(length >= header_bytes && length - 4 <= body.remaining(), Malformed::Length)?;
    Ok((mark == more, body.part(length - 4)?))
}

fn parse_proposal(mut part: Reader<'_>, limits: &Limits) -> Result<Proposal, ParseError> {
    let [number, protocol, spi_bytes, count] = part.array()?;
    let protocol = Protocol::from_byte(protocol);
    let sized = match protocol {
        Protocol::Ike => matches!(spi_bytes, 0 | 8),
        Protocol::Ah | Protocol::Esp => spi_bytes == 4,
        Protocol::Other(_) => true,
    };
    part.require(sized, Malformed::SpiSize)?;
    let spi = part.take(usize::from(spi_bytes))?.to_vec();
    part.require(count > 0, Malformed::Count)?;
    part.require(usize::from(count) <= limits.transforms, Malformed::OverLimit)?;
    let mut transforms = Vec::new();
    loop {
        let (more, transform) = element(&mut part, MORE_TRANSFORMS, TRANSFORM_HEADER_BYTES)?;
        transforms.push(parse_transform(transform)?);
        part.require(more == (transforms.len() < usize::from(count)), Malformed::Count)?;
        if !more {
            break;
        }
    }
    part.finish()?;
    Ok(Proposal { number, protocol, spi, transforms })
}

fn parse_transform(mut part: Reader<'_>) -> Result<Transform, ParseError> {
    let [kind, _] = part.array()?;
    let mut transform = Transform::new(kind, part.u16()?);
    while part.remaining() > 0 {
        let (attribute, value) = (part.u16()?, part.u16()?);
        if attribute == SHORT_ATTRIBUTE | KEY_LENGTH && transform.key_bits.is_none() {
            transform.key_bits = Some(value);
        } else {
            transform.key_bits = Transform::NOT_UNDERSTOOD;
        }
        if attribute & SHORT_ATTRIBUTE == 0 {
            part.take(usize::from(value))?;
        }
    }
    Ok(transform)
}

pub(super) fn emit(proposals: &[Proposal], out: &mut Vec<u8>) {
    for (i, proposal) in proposals.iter().enumerate() {
        let start = out.len();
        out.extend([if i + 1 < proposals.len() { MORE_PROPOSALS } else { 0 }, 0]);
        with_length(out, start, |out| emit_proposal(proposal, out));
    }
}

fn emit_proposal(proposal: &Proposal, out: &mut Vec<u8>) {
    let (spi_bytes, spi) = counted_u8(&proposal.spi);
    let (count, transforms) = counted_u8(&proposal.transforms);
    out.extend([proposal.number, proposal.protocol.byte(), spi_bytes, count]);
    out.extend(spi);
    for (i, transform) in transforms.iter().enumerate() {
        let start = out.len();
        out.extend([if i + 1 < transforms.len() { MORE_TRANSFORMS } else { 0 }, 0]);
        with_length(out, start, |out| {
            out.extend([transform.kind, 0]);
            out.extend(transform.id.to_be_bytes());
            if let Some(bits) = transform.key_bits {
                out.extend((SHORT_ATTRIBUTE | KEY_LENGTH).to_be_bytes());
                out.extend(bits.to_be_bytes());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn parse_all(bytes: &[u8]) -> Result<Vec<Proposal>, ParseError> {
        let limits = Limits { proposals: 3, transforms: 3, ..Limits::default() };
        parse(Reader::new(kind::SECURITY_ASSOCIATION, 0, bytes), &limits)
    }

    fn why(bytes: &[u8]) -> Malformed {
        match parse_all(bytes) {
            Err(ParseError::Malformed { why, .. }) => why,
            other => panic!("{bytes:?}: {other:?}"),
        }
    }

    /// ESP with AES-GCM-16 of 256 bits, and no ESN.
    const ESP: [u8; 32] = [
        0, 0, 0, 32, 1, 3, 4, 2, 0xc0, 0xff, 0xee, 0x01, // proposal 1
        3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 1, 0, // ENCR
        0, 0, 0, 8, 5, 0, 0, 0, // ESN
    ];

    fn changed(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = ESP.to_vec();
        changes.iter().for_each(|(at, value)| bytes[*at] = *value);
        bytes
    }

    #[test]
    fn proposals_of_transforms() {
        let esp = Proposal {
            number: 1,
            protocol: Protocol::Esp,
            spi: vec![0xc0, 0xff, 0xee, 0x01],
            transforms: vec![Transform::with_key_bits(1, 20, 256), Transform::new(5, 0)],
        };
        assert_eq!(parse_all(&ESP), Ok(vec![esp.clone()]));
        let two = [changed(&[(0, 2)]), changed(&[(4, 2)])].concat();
        let proposals = vec![esp.clone(), Proposal { number: 2, ..esp }];
        assert_eq!(parse_all(&two), Ok(proposals.clone()));
        let mut out = Vec::new();
        emit(&proposals, &mut out);
        assert_eq!(out, two);
    }

    #[test]
    fn lengths_that_lie() {
        assert_eq!(why(&[]), Malformed::Short);
        for length in [0, 3, 7, 33, 255] {
            assert_eq!(why(&changed(&[(3, length)])), Malformed::Length, "proposal of {length} bytes");
        }
        for length in [0, 7, 21, 255] {
            assert_eq!(why(&changed(&[(15, length)])), Malformed::Length, "transform of {length} bytes");
        }
        for len in 0..ESP.len() {
            assert!(parse_all(&ESP[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn marks_and_counts_that_disagree() {
        assert_eq!(why(&changed(&[(0, 2)])), Malformed::Short, "another proposal is announced");
        assert_eq!(why(&changed(&[(0, 1)])), Malformed::Chain);
        assert_eq!(why(&changed(&[(12, 1)])), Malformed::Chain);
        assert_eq!(why(&changed(&[(7, 0)])), Malformed::Count, "no transforms");
        assert_eq!(why(&changed(&[(7, 1)])), Malformed::Count);
        assert_eq!(why(&changed(&[(7, 3)])), Malformed::Count);
        assert_eq!(why(&changed(&[(12, 0)])), Malformed::Count, "the first transform says that it is the last");
        assert_eq!(why(&[&ESP[..], &ESP].concat()), Malformed::Trailing);
        let in_proposal = [changed(&[(3, 33)]), vec![0]].concat();
        assert_eq!(why(&in_proposal), Malformed::Trailing);
    }

    #[test]
    fn spis_of_the_wrong_size() {
        for size in [0, 3, 5, 8, 255] {
            assert_eq!(why(&changed(&[(6, size)])), Malformed::SpiSize, "ESP, {size}");
        }
        assert_eq!(why(&changed(&[(5, 1)])), Malformed::SpiSize, "IKE with 4 bytes");
        let ike = [0, 0, 0, 24, 1, 1, 8, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 8, 2, 0, 0, 5];
        assert_eq!(parse_all(&ike).unwrap()[0].spi.len(), 8);
        assert_eq!(why(&[0, 0, 0, 16, 1, 99, 9, 1, 0, 0, 0, 8, 2, 0, 0, 5]), Malformed::Short, "SPI beyond the end");
    }

    #[test]
    fn attributes_that_we_do_not_know_spoil_their_transform_alone() {
        let unknown_short = parse_all(&changed(&[(21, 15)])).unwrap();
        let unknown_long = parse_all(&changed(&[(20, 0), (21, 15), (22, 0), (23, 0)])).unwrap();
        for proposals in [unknown_short, unknown_long] {
            assert!(!proposals[0].transforms[0].is_understood());
            assert!(proposals[0].transforms[1].is_understood());
        }
        // A value that is longer than its transform, and half an attribute.
        assert_eq!(why(&changed(&[(20, 0), (22, 0), (23, 1)])), Malformed::Short);
        let half = [0, 0, 0, 22, 1, 3, 4, 1, 1, 2, 3, 4, 0, 0, 0, 10, 1, 0, 0, 20, 0x80, 14];
        assert_eq!(why(&half), Malformed::Short);
    }

    #[test]
    fn limits_hold() {
        let transforms = |count: u8| {
            let mut bytes = vec![0, 0, 0, 12 + 8 * count, 1, 3, 4, count, 1, 2, 3, 4];
            (1..=count).for_each(|i| bytes.extend([if i < count { 3 } else { 0 }, 0, 0, 8, 4, 0, 0, i]));
            bytes
        };
        assert_eq!(parse_all(&transforms(3)).unwrap()[0].transforms.len(), 3);
        assert_eq!(why(&transforms(4)), Malformed::OverLimit);
        let proposals = |count: usize| [changed(&[(0, 2)]).repeat(count - 1), ESP.to_vec()].concat();
        assert_eq!(parse_all(&proposals(3)).unwrap().len(), 3);
        assert_eq!(why(&proposals(4)), Malformed::OverLimit);
    }
}
