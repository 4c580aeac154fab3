//! Packets under AES-CBC and an HMAC, encrypt then MAC: RFC 3602 and RFC 4868, in ESP (RFC 4303) and IKE (RFC 7296
//! section 3.14).
//!
//! The MAC is checked before anything is decrypted, and padding is looked at by the caller only behind that: there is no
//! padding oracle. Keys are scheduled and the HMAC's two key blocks hashed once; a packet copies that state to the stack
//! and allocates nothing.

use std::ops::Range;

use aws_lc_rs::cipher::{self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

use super::packet_key::{Associated, NotAuthentic};
use super::suite::{Cipher, Integrity};

const BLOCK_BYTES: usize = 16;
const IV_BYTES: usize = 16;

pub(super) struct CbcHmac {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
    mac: hmac::Key,
    icv_bytes: usize,
}

impl CbcHmac {
    /// `None` if the cipher is not AES-CBC or the key has not its length.
    pub(super) fn new(cipher: Cipher, key: &[u8], integrity: Integrity, integrity_key: &[u8]) -> Option<CbcHmac> {
        let algorithm = match cipher {
            Cipher::AesCbc128 => &cipher::AES_128,
            Cipher::AesCbc192 => &cipher::AES_192,
            Cipher::AesCbc256 => &cipher::AES_256,
            Cipher::AesGcm128 | Cipher::AesGcm256 | Cipher::ChaCha20Poly1305 => return None,
        };
        let hash = match integrity {
            Integrity::HmacSha256_128 => hmac::HMAC_SHA256,
            Integrity::HmacSha384_192 => hmac::HMAC_SHA384,
            Integrity::HmacSha512_256 => hmac::HMAC_SHA512,
        };
        Some(CbcHmac {
            encrypting: EncryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?,
            decrypting: DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?,
            mac: hmac::Key::new(hash, integrity_key),
            icv_bytes: integrity.icv_bytes(),
        })
    }

    pub(super) fn seal(&self, associated: Associated<'_>, counter: u64, buf: &mut [u8]) {
        let sealed_bytes = buf.len().checked_sub(self.icv_bytes).expect("room for the ICV");
        let (sealed, icv) = buf.split_at_mut(sealed_bytes);
        let (iv, plaintext) = sealed.split_first_chunk_mut().expect("room for the IV");
        *iv = self.unpredictable_iv(counter);
        self.encrypt(iv, plaintext);
        let tag = self.tag(associated, sealed);
        icv.copy_from_slice(&tag.as_ref()[..self.icv_bytes]);
    }

    pub(super) fn open(&self, associated: Associated<'_>, buf: &mut [u8]) -> Result<Range<usize>, NotAuthentic> {
        let (iv, ciphertext) = self.authenticate(associated, buf)?;
        let (iv, plaintext) = (*iv, IV_BYTES..IV_BYTES + ciphertext.len());
        self.decrypt(&iv, buf.get_mut(plaintext.clone()).ok_or(NotAuthentic)?)?;
        Ok(plaintext)
    }

    /// Decryption works in place only, so the ciphertext is copied first: a few per cent of what decrypting it costs.
    pub(super) fn open_into(
        &self,
        associated: Associated<'_>,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, NotAuthentic> {
        let (iv, ciphertext) = self.authenticate(associated, sealed)?;
        let out = out.get_mut(..ciphertext.len()).ok_or(NotAuthentic)?;
        out.copy_from_slice(ciphertext);
        self.decrypt(iv, out)?;
        Ok(ciphertext.len())
    }

    /// IV and ciphertext of a packet whose ICV is right.
    fn authenticate<'a>(
        &self,
        associated: Associated<'_>,
        buf: &'a [u8],
    ) -> Result<(&'a [u8; IV_BYTES], &'a [u8]), NotAuthentic> {
        let sealed_bytes = buf.len().checked_sub(self.icv_bytes).ok_or(NotAuthentic)?;
        let (sealed, icv) = buf.split_at_checked(sealed_bytes).ok_or(NotAuthentic)?;
        let (iv, ciphertext) = sealed.split_first_chunk().ok_or(NotAuthentic)?;
        if !ciphertext.len().is_multiple_of(BLOCK_BYTES) {
            return Err(NotAuthentic);
        }
        let tag = self.tag(associated, sealed);
        constant_time::verify_slices_are_equal(&tag.as_ref()[..self.icv_bytes], icv).map_err(|_| NotAuthentic)?;
        Ok((iv, ciphertext))
    }

    /// ESP: SPI | low half of the sequence number | IV | ciphertext, and with ESN the high half, which is not in the
    /// packet, behind it (RFC 4303 section 2.2.1). IKE: the message up to the ICV (RFC 7296 section 3.14).
    fn tag(&self, associated: Associated<'_>, sealed: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.mac);
        match associated {
            Associated::Esp { spi, sequence, esn } => {
                let mut header = [0; 8];
                header[..4].copy_from_slice(&spi.to_be_bytes());
                header[4..].copy_from_slice(&(sequence as u32).to_be_bytes());
                mac.update(&header);
                mac.update(sealed);
                if esn {
                    mac.update(&((sequence >> 32) as u32).to_be_bytes());
                }
            }
            Associated::Ike(message) => {
                mac.update(message);
                mac.update(sealed);
            }
        }
        mac.sign()
    }

    /// SP 800-38A appendix C, first method: the cipher, under the same key, over a value that never repeats.
    fn unpredictable_iv(&self, counter: u64) -> [u8; IV_BYTES] {
        let mut block = [0; IV_BYTES];
        block[8..].copy_from_slice(&counter.to_be_bytes());
        self.encrypt(&[0; IV_BYTES], &mut block);
        block
    }

    fn encrypt(&self, iv: &[u8; IV_BYTES], blocks: &mut [u8]) {
        self.encrypting
            .less_safe_encrypt(blocks, EncryptionContext::Iv128(FixedLength::from(*iv)))
            .expect("the plaintext is padded to whole blocks");
    }

    fn decrypt(&self, iv: &[u8; IV_BYTES], blocks: &mut [u8]) -> Result<(), NotAuthentic> {
        self.decrypting
            .decrypt(blocks, DecryptionContext::Iv128(FixedLength::from(*iv)))
            .map(drop)
            .map_err(|_| NotAuthentic)
    }
}
