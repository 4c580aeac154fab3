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
