//! The Delete payload (RFC 7296 section 3.11).
//!
//! ```text
//! |  protocol ID  |   SPI size    |        number of SPIs         |   then the SPIs
//! ```

use super::reader::Reader;
use super::security_association::Protocol;
use super::{Limits, Malformed, ParseError};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delete {
    pub protocol: Protocol,
    /// Empty for the IKE SA itself, which the message header names.
    pub spis: Vec<Vec<u8>>,
}

impl Delete {
    pub(super) fn parse(mut body: Reader<'_>, limits: &Limits) -> Result<Self, ParseError> {
        let protocol = Protocol::from_byte(body.u8()?);
        let spi_bytes = usize::from(body.u8()?);
        let count = usize::from(body.u16()?);
        let sized = match protocol {
            Protocol::Ike => spi_bytes == 0 && count == 0,
            Protocol::Ah | Protocol::Esp => spi_bytes == 4,
            // Nothing is known of it but that its SPIs must be there.
            Protocol::Other(_) => spi_bytes > 0 || count == 0,
        };
        body.require(sized, Malformed::SpiSize)?;
        body.require(count <= limits.deleted_spis, Malformed::OverLimit)?;
        body.require(body.remaining() == count * spi_bytes, Malformed::Count)?;
        let spis = (0..count).map(|_| body.take(spi_bytes).map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        Ok(Delete { protocol, spis })
    }

    /// SPIs are as long as the first is; any other length is left out.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let spi_bytes = self.spis.first().map_or(self.protocol.deleted_spi_bytes(), |spi| spi.len() as u8);
        let spis: Vec<&Vec<u8>> =
            self.spis.iter().filter(|spi| spi.len() == usize::from(spi_bytes)).take(usize::from(u16::MAX)).collect();
        out.extend([self.protocol.byte(), spi_bytes]);
        out.extend((spis.len() as u16).to_be_bytes());
        spis.into_iter().for_each(|spi| out.extend(spi));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn parse(bytes: &[u8]) -> Result<Delete, ParseError> {
        Delete::parse(Reader::new(kind::DELETE, 0, bytes), &Limits { deleted_spis: 3, ..Limits::default() })
    }

    fn why(bytes: &[u8]) -> Malformed {
        match parse(bytes) {
            Err(ParseError::Malformed { why, .. }) => why,
            other => panic!("{bytes:?}: {other:?}"),
        }
    }

    #[test]
    fn child_sas_by_spi_and_the_ike_sa_without() {
        let bytes = [3, 4, 0, 2, 0, 0, 1, 0, 0, 0, 2, 0];
        let delete = Delete { protocol: Protocol::Esp, spis: vec![vec![0, 0, 1, 0], vec![0, 0, 2, 0]] };
        assert_eq!(parse(&bytes), Ok(delete.clone()));
        let ike = Delete { protocol: Protocol::Ike, spis: vec![] };
        assert_eq!(parse(&[1, 0, 0, 0]), Ok(ike.clone()));
        for (delete, bytes) in [(delete, &bytes[..]), (ike, &[1, 0, 0, 0])] {
            let mut out = Vec::new();
            delete.emit(&mut out);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn spis_of_the_wrong_size() {
        for bytes in [[1, 8, 0, 0], [1, 0, 0, 1], [3, 0, 0, 0], [3, 8, 0, 0], [2, 5, 0, 0], [9, 0, 0, 5]] {
            assert_eq!(why(&bytes), Malformed::SpiSize, "{bytes:?}");
        }
    }

    #[test]
    fn the_count_must_be_that_of_the_spis() {
        assert_eq!(why(&[3, 4, 0, 2, 0, 0, 1, 0]), Malformed::Count);
        assert_eq!(why(&[3, 4, 0, 1, 0, 0, 1, 0, 0]), Malformed::Count);
        assert_eq!(why(&[3, 4, 0, 0, 0]), Malformed::Count);
        assert_eq!(why(&[3, 4, 0]), Malformed::Short);
    }

    #[test]
    fn the_limit_holds_before_anything_is_read() {
        assert!(parse(&[&[3, 4, 0, 3][..], &[7; 12]].concat()).is_ok());
        assert_eq!(why(&[&[3, 4, 0, 4][..], &[7; 16]].concat()), Malformed::OverLimit);
        assert_eq!(why(&[9, 255, 255, 255]), Malformed::OverLimit);
    }
}
