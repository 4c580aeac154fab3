//! Opening by another thread than the one that has the SAs: it is lent the key of one, opens packets with it, and tells their
//! sequence numbers. Whether those are new, and what follows from a packet that has arrived, is found here ([`Endpoint::receiver_of_lent`]).
//!
//! Of an extended sequence number only half is in the packet. Who opens guesses the rest by the newest number that it has opened itself
//! (RFC 4303 appendix A2); if the window here stands elsewhere, the packet counts as one that is not authentic, as it would have been here.

use super::endpoint::Endpoint;
use super::esp::{HEADER_BYTES, Header, Overhead};
use super::replay::recover;
use crate::crypto::{PacketKey, Stamp};

/// What packets with one SPI are opened with.
#[derive(Clone, Debug)]
pub struct Lent {
    key: PacketKey,
    spi: u32,
    esn: bool,
    window_packets: u64,
    /// The highest sequence number that has been opened.
    newest: u64,
}

impl Lent {
    /// Of a made-up SA.
    #[cfg(test)]
    pub fn of(key: PacketKey, spi: u32) -> Self {
        Lent { key, spi, esn: false, window_packets: 64, newest: 0 }
    }

    #[inline]
    pub fn key(&self) -> &PacketKey {
        &self.key
    }

    /// Which packet it is, how long its text will be, and what is sealed of it. `None`: too short.
    #[inline]
    pub fn look_up<'a>(&self, packet: &'a [u8]) -> Option<(Stamp, usize, &'a [u8])> {
        let low = Header::parse(packet)?.sequence_low;
        let sequence = if self.esn { recover(self.newest, self.window_packets, low) } else { low.into() };
        let text_bytes = packet.len().checked_sub(Overhead::of(&self.key).fixed_bytes)?;
        Some((Stamp::Esp { spi: self.spi, sequence, esn: self.esn }, text_bytes, &packet[HEADER_BYTES..]))
    }

    /// A packet with this number was authentic.
    #[inline]
    pub fn note(&mut self, sequence: u64) {
        self.newest = self.newest.max(sequence);
    }
}

impl Endpoint {
    /// `None`: there is no such SA (any more).
    pub fn lend(&self, packet: &[u8]) -> Option<Lent> {
        let spi = spi(packet)?;
        let sa = self.table.get(self.table.lookup(spi)?)?;
        let (window_packets, newest) = sa.window();
        Some(Lent { key: sa.opening_key().clone(), spi, esn: sa.has_esn(), window_packets, newest })
    }
}

/// Of an ESP packet.
#[inline]
pub fn spi(packet: &[u8]) -> Option<u32> {
    Some(Header::parse(packet)?.spi)
}
