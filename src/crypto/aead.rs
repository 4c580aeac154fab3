//! Packets under an AEAD: RFC 4106 (AES-GCM in ESP), RFC 5282 (AEADs in IKE), RFC 7634 (ChaCha20-Poly1305 in both).
//!
//! The three agree: the nonce is a 4-octet salt from the key material and the 8-octet IV of the packet, the ICV is the
//! 16-octet tag.
//!
//! A key is a context of the library's, on the library's heap, or the bare key for a kernel of our own
//! ([`super::kernels`]). Packets of tunnels then go to the kernel, those by themselves, too. What is left, IKE's messages
//! with associated data of any length, gets a context for as long as it takes.

use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};

use super::batch::Stamp;
use super::kernels::{Kernels, Packet, Tag, aes_gcm, chacha20_poly1305};
use super::packet_key::{Associated, NotAuthentic};
use super::suite::Cipher;

const SALT_BYTES: usize = 4;
const IV_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = SALT_BYTES + IV_BYTES;

#[derive(Clone)]
pub(super) struct Aead {
    key: Key,
    /// Not a secret by itself, and no reason to show it.
    salt: [u8; SALT_BYTES],
}

#[derive(Clone)]
enum Key {
    Library(Arc<LessSafeKey>),
    ChaCha20Poly1305(chacha20_poly1305::Key),
    AesGcm(aes_gcm::Key),
}

/// For which kernel.
pub(super) enum Own<'a> {
    ChaCha20Poly1305(Salted<'a, chacha20_poly1305::Key>),
    AesGcm(Salted<'a, aes_gcm::Key>),
}

pub(super) struct Salted<'a, K> {
    key: &'a K,
    salt: [u8; SALT_BYTES],
}

impl Aead {
    /// `None` if the cipher is no AEAD or the key has not its length.
    pub(super) fn new(cipher: Cipher, key_and_salt: &[u8], kernels: Kernels) -> Option<Aead> {
        let (key, &salt) = key_and_salt.split_last_chunk()?;
        let key = match (cipher, kernels.avx512) {
            (Cipher::ChaCha20Poly1305, Some(avx512)) => {
                Key::ChaCha20Poly1305(chacha20_poly1305::Key::new(key.try_into().ok()?, avx512))
            }
            (Cipher::AesGcm128, Some(avx512)) => Key::AesGcm(aes_gcm::Key::new_128(key.try_into().ok()?, avx512)),
            (Cipher::AesGcm256, Some(avx512)) => Key::AesGcm(aes_gcm::Key::new_256(key.try_into().ok()?, avx512)),
            _ => Key::Library(Arc::new(context(cipher, key)?)),
        };
        Some(Aead { key, salt })
    }

    /// ChaCha20-Poly1305 as WireGuard has it: without a salt.
    pub(super) fn of_wireguard(key: &[u8; 32], kernels: Kernels) -> Aead {
        let key = match kernels.avx512 {
            Some(avx512) => Key::ChaCha20Poly1305(chacha20_poly1305::Key::new(key, avx512)),
            None => Key::Library(Arc::new(context(Cipher::ChaCha20Poly1305, key).expect("a key of 32 octets"))),
        };
        Aead { key, salt: [0; SALT_BYTES] }
    }

    #[inline]
    pub(super) fn identity(&self) -> usize {
        match &self.key {
            Key::Library(key) => Arc::as_ptr(key).addr(),
            Key::ChaCha20Poly1305(key) => key.identity(),
            Key::AesGcm(key) => key.identity(),
        }
    }

    /// `None`: its packets are for the library.
    #[inline]
    pub(super) fn own(&self) -> Option<Own<'_>> {
        match &self.key {
            Key::Library(_) => None,
            Key::ChaCha20Poly1305(key) => Some(Own::ChaCha20Poly1305(Salted { key, salt: self.salt })),
            Key::AesGcm(key) => Some(Own::AesGcm(Salted { key, salt: self.salt })),
        }
    }

    #[inline]
    fn with_library<Answer>(&self, call: impl FnOnce(&LessSafeKey) -> Answer) -> Answer {
        match &self.key {
            Key::Library(key) => call(key),
            Key::ChaCha20Poly1305(key) => {
                call(&context(Cipher::ChaCha20Poly1305, key.bytes()).expect("a key of 32 octets"))
            }
            Key::AesGcm(key) => key.with_bytes(|bytes| {
                let cipher = if bytes.len() == 16 { Cipher::AesGcm128 } else { Cipher::AesGcm256 };
                call(&context(cipher, bytes).expect("a key of 16 or 32 octets"))
            }),
        }
    }

    /// In one pass from `text` to `sealed`, see [`super::batch::SealJob`]. `None`: their lengths do not agree, and nothing of
    /// `text` is in `sealed`.
    #[inline]
    pub(super) fn seal_into(&self, stamp: Stamp, text: &[u8], sealed: &mut [u8]) -> Option<()> {
        match stamp {
            Stamp::Esp { spi, sequence, esn } => {
                let (iv, rest) = sealed.split_first_chunk_mut()?;
                *iv = sequence.to_be_bytes();
                let associated = associated_data(Associated::Esp { spi, sequence, esn });
                self.scatter(self.nonce(iv), associated.aad(), text, rest)
            }
            Stamp::WireGuard { counter } => self.scatter(counted(counter), Aad::from(&[][..]), text, sealed),
        }
    }

    /// The same where the text lies in `sealed` already.
    pub(super) fn seal_counted(&self, counter: u64, sealed: &mut [u8]) {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>().expect("room for the tag");
        if let Some(own) = self.own() {
            return own.seal_in_place(counter_nonce(counter), NOTHING, text, tag);
        }
        self.with_library(|key| key.seal_in_place_scatter(counted(counter), Aad::empty(), text, &[], tag))
            .expect("a packet is shorter than what an AEAD can seal");
    }

    #[inline]
    fn scatter(&self, nonce: Nonce, associated: Aad<&[u8]>, text: &[u8], sealed: &mut [u8]) -> Option<()> {
        let (ciphertext, tag) = sealed.split_at_mut_checked(text.len())?;
        self.with_library(|key| key.seal_out_of_place_scatter(nonce, associated, text, ciphertext, &[], tag)).ok()
    }

    /// The other way, see [`super::batch::OpenJob`].
    #[inline]
    pub(super) fn open_stamped(&self, stamp: Stamp, sealed: &[u8], text: &mut [u8]) -> Result<usize, NotAuthentic> {
        match stamp {
            Stamp::Esp { spi, sequence, esn } => self.open_into(Associated::Esp { spi, sequence, esn }, sealed, text),
            Stamp::WireGuard { counter } => self.gather(counted(counter), Aad::from(&[][..]), sealed, text),
        }
    }

    #[inline]
    fn gather(
        &self,
        nonce: Nonce,
        associated: Aad<&[u8]>,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, NotAuthentic> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(NotAuthentic)?;
        let out = out.get_mut(..ciphertext.len()).ok_or(NotAuthentic)?;
        self.with_library(|key| key.open_separate_gather(nonce, associated, ciphertext, tag, out))
            .map_err(|_| NotAuthentic)?;
        Ok(ciphertext.len())
    }

    pub(super) fn seal(&self, associated: Associated<'_>, counter: u64, buf: &mut [u8]) {
        let (iv, rest) = buf.split_first_chunk_mut().expect("room for the IV");
        let (plaintext, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().expect("room for the ICV");
        *iv = counter.to_be_bytes();
        if let (Some(own), Associated::Esp { spi, sequence, esn }) = (self.own(), associated) {
            return own.seal_in_place(salted(self.salt, iv), esp_associated(spi, sequence, esn), plaintext, tag);
        }
        let (nonce, associated) = (self.nonce(iv), associated_data(associated));
        let sealed = self
            .with_library(|key| key.seal_in_place_separate_tag(nonce, associated.aad(), plaintext))
            .expect("a packet is shorter than what an AEAD can seal");
        tag.copy_from_slice(sealed.as_ref());
    }

    pub(super) fn open(&self, associated: Associated<'_>, buf: &mut [u8]) -> Result<Range<usize>, NotAuthentic> {
        let (iv, rest) = buf.split_first_chunk_mut().ok_or(NotAuthentic)?;
        let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(NotAuthentic)?;
        let plaintext = IV_BYTES..IV_BYTES + ciphertext.len();
        let (nonce, associated) = (self.nonce(iv), associated_data(associated));
        self.with_library(|key| key.open_in_place_separate_tag(nonce, associated.aad(), tag, ciphertext))
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
        self.gather(self.nonce(iv), associated_data(associated).aad(), rest, out)
    }

    #[inline]
    fn nonce(&self, iv: &[u8; IV_BYTES]) -> Nonce {
        Nonce::assume_unique_for_key(salted(self.salt, iv))
    }
}

impl Own<'_> {
    /// One packet by itself.
    fn seal_in_place(
        &self,
        nonce: [u8; NONCE_BYTES],
        associated: EspAssociated,
        text: &mut [u8],
        tag: &mut [u8; TAG_BYTES],
    ) {
        match self {
            Own::ChaCha20Poly1305(own) => {
                chacha20_poly1305::apply(&mut [own.packet(nonce, associated, None, text, Tag::Seal(tag))]);
            }
            Own::AesGcm(own) => {
                aes_gcm::apply(&mut own.packet(nonce, associated, None, text, Tag::Seal(tag)));
                aes_gcm::wipe();
            }
        }
    }
}

impl Own<'_> {
    #[inline]
    pub(super) fn touch(&self) {
        match self {
            Own::ChaCha20Poly1305(own) => own.key.touch(),
            Own::AesGcm(own) => own.key.touch(),
        }
    }
}

impl<'a, K> Salted<'a, K> {
    /// [`super::batch::SealJob`] for the kernel. `None`: the lengths do not agree.
    #[inline]
    pub(super) fn sealing(&self, stamp: Stamp, text: &'a [u8], sealed: &'a mut [u8]) -> Option<Packet<'a, K>> {
        let (nonce, associated, sealed) = match stamp {
            Stamp::Esp { spi, sequence, esn } => {
                let (iv, rest) = sealed.split_first_chunk_mut()?;
                *iv = sequence.to_be_bytes();
                (salted(self.salt, iv), esp_associated(spi, sequence, esn), rest)
            }
            Stamp::WireGuard { counter } => (counter_nonce(counter), NOTHING, sealed),
        };
        let (to, tag) = sealed.split_last_chunk_mut()?;
        let is_as_long = to.len() == text.len();
        is_as_long.then(|| self.packet(nonce, associated, Some(text), to, Tag::Seal(tag)))
    }

    /// [`super::batch::OpenJob`] for the kernel. `None`: too short, or no room.
    #[inline]
    pub(super) fn opening(
        &self,
        stamp: Stamp,
        sealed: &'a [u8],
        text: &'a mut [u8],
        is_authentic: &'a mut bool,
    ) -> Option<Packet<'a, K>> {
        let (nonce, associated, sealed) = match stamp {
            Stamp::Esp { spi, sequence, esn } => {
                let (iv, rest) = sealed.split_first_chunk()?;
                (salted(self.salt, iv), esp_associated(spi, sequence, esn), rest)
            }
            Stamp::WireGuard { counter } => (counter_nonce(counter), NOTHING, sealed),
        };
        let (from, tag) = sealed.split_last_chunk()?;
        let to = text.get_mut(..from.len())?;
        Some(self.packet(nonce, associated, Some(from), to, Tag::Open(tag, is_authentic)))
    }

    #[inline]
    fn packet(
        &self,
        nonce: [u8; NONCE_BYTES],
        associated: EspAssociated,
        from: Option<&'a [u8]>,
        to: &'a mut [u8],
        tag: Tag<'a>,
    ) -> Packet<'a, K> {
        Packet::new(self.key, nonce, associated, from, to, tag)
    }
}

/// RFC 4106 section 4, RFC 5282 section 4, RFC 7634 section 2: salt | IV.
#[inline]
fn salted(salt: [u8; SALT_BYTES], iv: &[u8; IV_BYTES]) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[..SALT_BYTES].copy_from_slice(&salt);
    nonce[SALT_BYTES..].copy_from_slice(iv);
    nonce
}

/// The nonce of WireGuard's data messages (paper, section 5.4.6).
#[inline]
fn counter_nonce(counter: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

#[inline]
fn counted(counter: u64) -> Nonce {
    Nonce::assume_unique_for_key(counter_nonce(counter))
}

/// A context of the library's.
fn context(cipher: Cipher, key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match cipher {
        Cipher::AesGcm128 => &aead::AES_128_GCM,
        Cipher::AesGcm256 => &aead::AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        Cipher::AesCbc128 | Cipher::AesCbc192 | Cipher::AesCbc256 => return None,
    };
    Some(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))
}

/// The bytes, of which so many count.
type EspAssociated = ([u8; 12], usize);

const NOTHING: EspAssociated = ([0; 12], 0);

/// RFC 4106 section 5: SPI | sequence number, of 32 bits or, extended, of 64.
#[inline]
fn esp_associated(spi: u32, sequence: u64, esn: bool) -> EspAssociated {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&spi.to_be_bytes());
    if esn {
        bytes[4..].copy_from_slice(&sequence.to_be_bytes());
    } else {
        bytes[4..8].copy_from_slice(&(sequence as u32).to_be_bytes());
    }
    (bytes, if esn { 12 } else { 8 })
}

/// The associated data as an AEAD takes it, without an allocation.
enum AssociatedData<'a> {
    Esp(EspAssociated),
    Ike(&'a [u8]),
}

#[inline]
fn associated_data(associated: Associated<'_>) -> AssociatedData<'_> {
    match associated {
        Associated::Esp { spi, sequence, esn } => AssociatedData::Esp(esp_associated(spi, sequence, esn)),
        Associated::Ike(bytes) => AssociatedData::Ike(bytes),
    }
}

impl AssociatedData<'_> {
    fn aad(&self) -> Aad<&[u8]> {
        Aad::from(match self {
            AssociatedData::Esp((bytes, length)) => &bytes[..*length],
            AssociatedData::Ike(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests;
