//! What must never happen, whatever the network does.

use std::collections::{HashMap, HashSet};

use super::KeyId;
use crate::net::TunnelId;

/// Keys and sequence numbers.
#[derive(Default)]
pub struct Ledger {
    /// Every key that ever sealed, and that ever opened, with the last sequence number under it.
    sealing: HashMap<KeyId, u32>,
    opening: HashSet<KeyId>,
    /// Which key a site seals with under an SPI of the peer. By site, tunnel and SPI: two peers may have the same.
    by_spi: HashMap<(usize, TunnelId, u32), KeyId>,
    pub sealed: u64,
    /// How many SAs had, at the time of their installation, an outbound SPI that another tunnel of the site has, too.
    pub shared_spis: u64,
}

impl Ledger {
    /// The site has lost all its SAs.
    pub(super) fn note_restarted(&mut self, site: usize) {
        self.by_spi.retain(|(of, ..), _| *of != site);
    }

    pub(super) fn note_installed(
        &mut self,
        site: usize,
        tunnel: TunnelId,
        spi_out: u32,
        key_in: KeyId,
        key_out: KeyId,
    ) {
        assert!(self.opening.insert(key_in), "an inbound key is installed twice, at site {site}");
        assert!(self.sealing.insert(key_out, 0).is_none(), "an outbound key is installed twice, at site {site}");
        let others = self.by_spi.keys().filter(|(of, other, spi)| (*of, *spi) == (site, spi_out) && *other != tunnel);
        self.shared_spis += u64::from(others.count() > 0);
        self.by_spi.insert((site, tunnel, spi_out), key_out);
    }

    pub(super) fn note_sealed(&mut self, site: usize, tunnel: TunnelId, sealed: &[u8]) {
        let word =
            |at: usize| sealed.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
        let (spi, sequence) = (word(0), word(4));
        let key = self.by_spi.get(&(site, tunnel, spi)).expect("sealed with an SA that was installed");
        let last = self.sealing.get_mut(key).expect("every key is listed");
        assert!(sequence > *last, "sequence number {sequence} comes after {last} under one key");
        *last = sequence;
        self.sealed += 1;
    }
}
