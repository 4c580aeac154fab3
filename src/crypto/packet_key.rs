//! One key that seals or opens the packets of one direction of an SA, whatever the suite.
//!
//! ```text
//! +--------+---------------------------+---------+
//! |   IV   |        ciphertext         |   ICV   |     what seal writes and open reads
//! +--------+---------------------------+---------+
//!  8 or 16   padded by the caller       16 to 32
//! ```
//!
//! The associated data is what is authenticated but not encrypted: the ESP header, or the IKE message up to the IV. An
//! AEAD and an HMAC want it in different shapes, so the caller says what it is ([`Associated`]) and not how it looks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::aead::{Aead, Own};
use super::batch::Stamp;
use super::cbc_hmac::CbcHmac;
use super::kernels::Kernels;
use super::suite::{Cipher, Suite};

/// The key of one direction. Any thread may seal and open with it; that no number comes twice is the matter of whoever gives the numbers.
/// Clones are the same key, which is wiped when the last of them is dropped.
#[derive(Clone)]
pub struct PacketKey {
    suite: Suite,
    protection: Protection,
}

/// A kernel's key is here. Others are one pointer away: aws-lc keeps an AEAD's state apart by itself, and a CBC key is two
/// kilobytes of schedules.
#[derive(Clone)]
enum Protection {
    Aead(Aead),
    CbcHmac(Arc<CbcHmac>),
}

/// What is authenticated beside the ciphertext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Associated<'a> {
    /// `sequence` is the whole 64-bit number if `esn` (of which 32 bits are in the packet), else 32 bits.
    Esp { spi: u32, sequence: u64, esn: bool },
    /// The message from its first octet to the last before the IV (RFC 7296 section 3.14, RFC 5282 section 5.1).
    Ike(&'a [u8]),
}

/// The packet was not sealed with this key, or not as it is now. Also: too short to hold an IV and an ICV.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet is not authentic")]
pub struct NotAuthentic;

/// Key material that does not fit the suite.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyLength {
    #[error("{suite} takes {} octets of key for its cipher, not {bytes}", suite.cipher_key_bytes())]
    Cipher { suite: Suite, bytes: usize },
    #[error("{suite} takes {} octets of key for its integrity, not {bytes}", suite.integrity_key_bytes())]
    Integrity { suite: Suite, bytes: usize },
    #[error("{suite} would leave packets without integrity")]
    NoIntegrity { suite: Suite },
}

impl PacketKey {
    /// `cipher_key` as RFC 7296 section 2.17 gives it (the salt last for an AEAD); `integrity_key` is empty for an AEAD.
    pub fn new(suite: Suite, cipher_key: &[u8], integrity_key: &[u8]) -> Result<PacketKey, KeyLength> {
        Self::new_for(Kernels::chosen(), suite, cipher_key, integrity_key)
    }

    /// For these kernels, whatever was chosen.
    pub fn new_for(
        kernels: Kernels,
        suite: Suite,
        cipher_key: &[u8],
        integrity_key: &[u8],
    ) -> Result<PacketKey, KeyLength> {
        if cipher_key.len() != suite.cipher_key_bytes() {
            return Err(KeyLength::Cipher { suite, bytes: cipher_key.len() });
        }
        if integrity_key.len() != suite.integrity_key_bytes() {
            return Err(KeyLength::Integrity { suite, bytes: integrity_key.len() });
        }
        let protection = match (suite.cipher.is_aead(), suite.own_integrity()) {
            (true, _) => Aead::new(suite.cipher, cipher_key, kernels).map(Protection::Aead),
            (false, Some(integrity)) => CbcHmac::new(suite.cipher, cipher_key, integrity, integrity_key)
                .map(|cbc| Protection::CbcHmac(Arc::new(cbc))),
            (false, None) => return Err(KeyLength::NoIntegrity { suite }),
        };
        let protection = protection.ok_or(KeyLength::Cipher { suite, bytes: cipher_key.len() })?;
        Ok(PacketKey { suite, protection })
    }

    /// For WireGuard's data messages ([`Stamp::WireGuard`], and no other).
    pub fn of_wireguard(key: &[u8; 32]) -> PacketKey {
        Self::of_wireguard_for(Kernels::chosen(), key)
    }

    /// For these kernels, whatever was chosen.
    pub fn of_wireguard_for(kernels: Kernels, key: &[u8; 32]) -> PacketKey {
        let suite = Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None };
        PacketKey { suite, protection: Protection::Aead(Aead::of_wireguard(key, kernels)) }
    }

    /// The same of all clones of a key, and another than any other's while one of them is there.
    #[inline]
    pub fn identity(&self) -> usize {
        match &self.protection {
            Protection::Aead(aead) => aead.identity(),
            Protection::CbcHmac(cbc) => Arc::as_ptr(cbc).addr(),
        }
    }

    #[inline]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// One message of WireGuard by itself: `buf` is plaintext | room for the tag.
    ///
    /// # Panics
    /// If `buf` is too short for a tag, or the key is not WireGuard's.
    pub fn seal_message(&self, counter: u64, buf: &mut [u8]) {
        match &self.protection {
            Protection::Aead(aead) => aead.seal_counted(counter, buf),
            Protection::CbcHmac(_) => panic!("WireGuard has no such suite"),
        }
    }

    /// `None`: its packets are for the library, one by one.
    #[inline]
    pub(super) fn own(&self) -> Option<Own<'_>> {
        match &self.protection {
            Protection::Aead(aead) => aead.own(),
            Protection::CbcHmac(_) => None,
        }
    }

    /// Reads ahead of need what a kernel keeps apart.
    #[inline]
    pub fn touch(&self) {
        if let Some(own) = self.own() {
            own.touch();
        }
    }

    /// One [`super::batch::SealJob`].
    #[inline]
    pub(super) fn seal_into(&self, stamp: Stamp, text: &[u8], sealed: &mut [u8]) -> Option<()> {
        match (&self.protection, stamp) {
            (Protection::Aead(aead), _) => aead.seal_into(stamp, text, sealed),
            (Protection::CbcHmac(cbc), Stamp::Esp { spi, sequence, esn }) => {
                cbc.seal_into(Associated::Esp { spi, sequence, esn }, sequence, text, sealed)
            }
            (Protection::CbcHmac(_), Stamp::WireGuard { .. }) => None,
        }
    }

    /// One [`super::batch::OpenJob`].
    #[inline]
    pub(super) fn open_stamped(&self, stamp: Stamp, sealed: &[u8], text: &mut [u8]) -> Result<usize, NotAuthentic> {
        match (&self.protection, stamp) {
            (Protection::Aead(aead), _) => aead.open_stamped(stamp, sealed, text),
            (Protection::CbcHmac(cbc), Stamp::Esp { spi, sequence, esn }) => {
                cbc.open_into(Associated::Esp { spi, sequence, esn }, sealed, text)
            }
            (Protection::CbcHmac(_), Stamp::WireGuard { .. }) => Err(NotAuthentic),
        }
    }

    /// Writes the IV, encrypts what lies behind it in place, and writes the ICV. `buf` is IV | plaintext | room for the
    /// ICV, the plaintext padded to [`Suite::block_bytes`]; for an AEAD any length will do.
    ///
    /// `counter` must never repeat under one key: it is the IV of an AEAD. For CBC the IV is its encryption, which
    /// nobody can predict (SP 800-38A appendix C).
    ///
    /// # Panics
    /// If `buf` is not laid out like that: the bytes would go out as they are.
    pub fn seal(&self, associated: Associated<'_>, counter: u64, buf: &mut [u8]) {
        match &self.protection {
            Protection::Aead(aead) => aead.seal(associated, counter, buf),
            Protection::CbcHmac(cbc) => cbc.seal(associated, counter, buf),
        }
    }

    /// Opens IV | ciphertext | ICV in place and says where the plaintext lies. What `buf` holds after a refusal is not
    /// defined, except that no unauthentic plaintext is in it.
    pub fn open(&self, associated: Associated<'_>, buf: &mut [u8]) -> Result<Range<usize>, NotAuthentic> {
        match &self.protection {
            Protection::Aead(aead) => aead.open(associated, buf),
            Protection::CbcHmac(cbc) => cbc.open(associated, buf),
        }
    }

    /// The same without touching the input: the plaintext goes to the start of `out`, its length is the answer. Refused
    /// also if `out` is shorter than `sealed` without IV and ICV.
    pub fn open_into(&self, associated: Associated<'_>, sealed: &[u8], out: &mut [u8]) -> Result<usize, NotAuthentic> {
        match &self.protection {
            Protection::Aead(aead) => aead.open_into(associated, sealed, out),
            Protection::CbcHmac(cbc) => cbc.open_into(associated, sealed, out),
        }
    }
}

impl fmt::Debug for PacketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketKey({})", self.suite)
    }
}

#[cfg(test)]
mod tests;
