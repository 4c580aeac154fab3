//! Packets under an AEAD: RFC 4106 (AES-GCM in ESP), RFC 5282 (AEADs in IKE), RFC 7634 (ChaCha20-Poly1305 in both).
//!
//! The three agree: the nonce is a 4-octet salt from the key material and the 8-octet IV of the packet, the ICV is the
//! 16-octet tag.

use std::ops::Range;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};

use super::packet_key::{Associated, NotAuthentic};
use super::suite::Cipher;

const SALT_BYTES: usize = 4;
const IV_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

pub(super) struct Aead {
    key: LessSafeKey,
    /// Not a secret by itself, and no reason to show it.
    salt: [u8; SALT_BYTES],
}

impl Aead {
    /// `None` if the cipher is no AEAD or the key has not its length.
    pub(super) fn new(cipher: Cipher, key_and_salt: &[u8]) -> Option<Aead> {
        let algorithm = match cipher {
            Cipher::AesGcm128 => &aead::AES_128_GCM,
            Cipher::AesGcm256 => &aead::AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
            Cipher::AesCbc128 | Cipher::AesCbc192 | Cipher::AesCbc256 => return None,
        };
        let (key, salt) = key_and_salt.split_last_chunk()?;
        Some(Aead { key: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?), salt: *salt })
    }

    pub(super) fn seal(&self, associated: Associated<'_>, counter: u64, buf: &mut [u8]) {
        let (iv, rest) = buf.split_first_chunk_mut().expect("room for the IV");
        let (plaintext, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().expect("room for the ICV");
        *iv = counter.to_be_bytes();
        let sealed = self
            .key
            .seal_in_place_separate_tag(self.nonce(iv), associated_data(associated).aad(), plaintext)
            .expect("a packet is shorter than what an AEAD can seal");
        tag.copy_from_slice(sealed.as_ref());
    }

    pub(super) fn open(&self, associated: Associated<'_>, buf: &mut [u8]) -> Result<Range<usize>, NotAuthentic> {
        let (iv, rest) = buf.split_first_chunk_mut().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(NotAuthentic)?;
        let plaintext = IV_BYTES..IV_BYTES + ciphertext.len();
        self.key
            .open_in_place_separate_tag(self.nonce(iv), associated_data(associated).aad(), tag, ciphertext)
            .map_err(|_| NotAuthentic)?;
        Ok(plaintext)
    }

    pub(super) fn open_into(
        &self,
        associated: Associated<'_>,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, NotAuthentic> {
        let (iv, rest) = sealed.split_first_chunk().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(NotAuthentic)?;
        let out = out.get_mut(..ciphertext.len()).ok_or(NotAuthentic)?;
        self.key
            .open_separate_gather(self.nonce(iv), associated_data(associated).aad(), ciphertext, tag, out)
            .map_err(|_| NotAuthentic)?;
        Ok(ciphertext.len())
    }

    /// RFC 4106 section 4, RFC 5282 section 4, RFC 7634 section 2: salt | IV.
    fn nonce(&self, iv: &[u8; IV_BYTES]) -> Nonce {
        let mut nonce = [0; SALT_BYTES + IV_BYTES];
        nonce[..SALT_BYTES].copy_from_slice(&self.salt);
        nonce[SALT_BYTES..].copy_from_slice(iv);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The associated data as an AEAD takes it, without an allocation.
enum AssociatedData<'a> {
    Esp([u8; 12], usize),
    Ike(&'a [u8]),
}

/// RFC 4106 section 5: SPI | sequence number, of 32 bits or, extended, of 64.
fn associated_data(associated: Associated<'_>) -> AssociatedData<'_> {
    match associated {
        Associated::Esp { spi, sequence, esn } => {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&spi.to_be_bytes());
            if esn {
                bytes[4..].copy_from_slice(&sequence.to_be_bytes());
            } else {
                bytes[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
            }
            AssociatedData::Esp(bytes, if esn { 12 } else { 8 })
        }
        Associated::Ike(bytes) => AssociatedData::Ike(bytes),
    }
}

impl AssociatedData<'_> {
    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(match self {
            AssociatedData::Esp(bytes, length) => &bytes[..*length],
            AssociatedData::Ike(bytes) => bytes,
        })
    }
}
