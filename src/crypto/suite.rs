//! The algorithms that protect packets, by the names and numbers that IKE negotiates, and their lengths.

use std::fmt;

/// An encryption algorithm with its key length: transform type 1 of IKEv2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cipher {
    /// AES-GCM with a 16-octet ICV, RFC 4106 (ESP) and RFC 5282 (IKE).
    AesGcm128,
    AesGcm256,
    /// RFC 7634.
    ChaCha20Poly1305,
    /// RFC 3602.
    AesCbc128,
    AesCbc192,
    AesCbc256,
}

/// An integrity algorithm: transform type 3 of IKEv2. RFC 4868: the HMAC, truncated to half its length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Integrity {
    HmacSha256_128,
    HmacSha384_192,
    HmacSha512_256,
}

/// What protects the packets of one SA. An AEAD brings its own integrity; any other cipher needs one beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Suite {
    pub cipher: Cipher,
    /// `None` for an AEAD.
    pub integrity: Option<Integrity>,
}

impl Cipher {
    pub const ALL: [Cipher; 6] = [
        Cipher::AesGcm128,
        Cipher::AesGcm256,
        Cipher::ChaCha20Poly1305,
        Cipher::AesCbc128,
        Cipher::AesCbc192,
        Cipher::AesCbc256,
    ];

    /// By transform id and Key Length attribute, which ChaCha20-Poly1305 must not carry (RFC 7634 section 4).
    pub fn from_id(id: u16, key_bits: Option<u16>) -> Option<Cipher> {
        Self::ALL.into_iter().find(|cipher| cipher.id() == id && cipher.key_bits() == key_bits)
    }

    pub fn id(self) -> u16 {
        match self {
            Cipher::AesCbc128 | Cipher::AesCbc192 | Cipher::AesCbc256 => 12,
            Cipher::AesGcm128 | Cipher::AesGcm256 => 20,
            Cipher::ChaCha20Poly1305 => 28,
        }
    }

    /// The Key Length attribute: bits of the key without the salt.
    pub fn key_bits(self) -> Option<u16> {
        match self {
            Cipher::AesGcm128 | Cipher::AesCbc128 => Some(128),
            Cipher::AesCbc192 => Some(192),
            Cipher::AesGcm256 | Cipher::AesCbc256 => Some(256),
            Cipher::ChaCha20Poly1305 => None,
        }
    }

    pub fn is_aead(self) -> bool {
        matches!(self, Cipher::AesGcm128 | Cipher::AesGcm256 | Cipher::ChaCha20Poly1305)
    }
}

impl Integrity {
    pub const ALL: [Integrity; 3] = [Integrity::HmacSha256_128, Integrity::HmacSha384_192, Integrity::HmacSha512_256];

    pub fn from_id(id: u16) -> Option<Integrity> {
        Self::ALL.into_iter().find(|integrity| integrity.id() == id)
    }

    pub fn id(self) -> u16 {
        match self {
            Integrity::HmacSha256_128 => 12,
            Integrity::HmacSha384_192 => 13,
            Integrity::HmacSha512_256 => 14,
        }
    }

    /// RFC 4868 section 2.1.1: the key is exactly as long as the hash.
    pub fn key_bytes(self) -> usize {
        match self {
            Integrity::HmacSha256_128 => 32,
            Integrity::HmacSha384_192 => 48,
            Integrity::HmacSha512_256 => 64,
        }
    }

    pub fn icv_bytes(self) -> usize {
        self.key_bytes() / 2
    }
}

impl Suite {
    /// Octets of key material that the cipher takes: the key, and behind it the 4-octet salt of an AEAD.
    pub fn cipher_key_bytes(&self) -> usize {
        match self.cipher {
            Cipher::AesGcm128 => 16 + 4,
            Cipher::AesGcm256 | Cipher::ChaCha20Poly1305 => 32 + 4,
            Cipher::AesCbc128 => 16,
            Cipher::AesCbc192 => 24,
            Cipher::AesCbc256 => 32,
        }
    }

    /// 0 for an AEAD.
    pub fn integrity_key_bytes(&self) -> usize {
        self.own_integrity().map_or(0, Integrity::key_bytes)
    }

    pub fn iv_bytes(&self) -> usize {
        if self.cipher.is_aead() { 8 } else { 16 }
    }

    pub fn icv_bytes(&self) -> usize {
        if self.cipher.is_aead() { 16 } else { self.own_integrity().map_or(0, Integrity::icv_bytes) }
    }

    /// What the plaintext must be padded to a multiple of: the cipher's block, or the 4 octets that ESP aligns to
    /// (RFC 4303 section 2.4).
    pub fn block_bytes(&self) -> usize {
        if self.cipher.is_aead() { 4 } else { 16 }
    }

    /// The integrity algorithm that runs beside the cipher: none beside an AEAD, whatever the field says.
    pub(super) fn own_integrity(&self) -> Option<Integrity> {
        self.integrity.filter(|_| !self.cipher.is_aead())
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cipher::AesGcm128 => "AES-GCM-16-128",
            Cipher::AesGcm256 => "AES-GCM-16-256",
            Cipher::ChaCha20Poly1305 => "ChaCha20-Poly1305",
            Cipher::AesCbc128 => "AES-CBC-128",
            Cipher::AesCbc192 => "AES-CBC-192",
            Cipher::AesCbc256 => "AES-CBC-256",
        })
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Integrity::HmacSha256_128 => "HMAC-SHA2-256-128",
            Integrity::HmacSha384_192 => "HMAC-SHA2-384-192",
            Integrity::HmacSha512_256 => "HMAC-SHA2-512-256",
        })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.own_integrity() {
            Some(integrity) => write!(f, "{} with {integrity}", self.cipher),
            None => self.cipher.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_registry_and_name_one_algorithm() {
        // "Internet Key Exchange Version 2 (IKEv2) Parameters", transform types 1 and 3.
        let ciphers = [(20, Some(128)), (20, Some(256)), (28, None), (12, Some(128)), (12, Some(192)), (12, Some(256))];
        for (cipher, (id, bits)) in Cipher::ALL.into_iter().zip(ciphers) {
            assert_eq!(Cipher::from_id(id, bits), Some(cipher));
        }
        for (integrity, id) in Integrity::ALL.into_iter().zip([12, 13, 14]) {
            assert_eq!(Integrity::from_id(id), Some(integrity));
        }
    }

    #[test]
    fn what_we_do_not_speak_has_no_name() {
        assert_eq!(Cipher::from_id(3, None), None, "3DES");
        assert_eq!(Cipher::from_id(20, None), None, "AES without a key length");
        assert_eq!(Cipher::from_id(20, Some(192)), None);
        assert_eq!(Cipher::from_id(28, Some(256)), None, "ChaCha20 has one key length, and names none");
        assert_eq!(Integrity::from_id(2), None, "HMAC-SHA1");
    }

    #[test]
    fn an_aead_needs_no_integrity_and_ignores_one() {
        let plain = Suite { cipher: Cipher::AesGcm256, integrity: None };
        let odd = Suite { cipher: Cipher::AesGcm256, integrity: Some(Integrity::HmacSha256_128) };
        for suite in [plain, odd] {
            assert_eq!((suite.cipher_key_bytes(), suite.integrity_key_bytes()), (36, 0));
            assert_eq!((suite.iv_bytes(), suite.icv_bytes(), suite.block_bytes()), (8, 16, 4));
            assert_eq!(suite.to_string(), "AES-GCM-16-256");
        }
    }

    #[test]
    fn cbc_lengths_are_those_of_its_integrity() {
        let suite = Suite { cipher: Cipher::AesCbc192, integrity: Some(Integrity::HmacSha384_192) };
        assert_eq!((suite.cipher_key_bytes(), suite.integrity_key_bytes()), (24, 48));
        assert_eq!((suite.iv_bytes(), suite.icv_bytes(), suite.block_bytes()), (16, 24, 16));
        assert_eq!(suite.to_string(), "AES-CBC-192 with HMAC-SHA2-384-192");
    }
}
