//! The zone's key: what signs, and what validators know it by.

use std::fmt::{self, Write};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::Name;
use zeroize::Zeroizing;

use crate::dns::key::NameKey;

/// ECDSAP256SHA256 (RFC 6605 section 2).
pub(super) const ALGORITHM: u8 = 13;
/// RFC 6605 section 4: two coordinates of 32 bytes. The signature's two numbers have as many.
pub const PUBLIC_KEY_BYTES: usize = 64;
pub const SIGNATURE_BYTES: usize = 64;
/// ZONE and SEP (RFC 4034 section 2.1.1): the one key for both the keys and the data.
const FLAGS: u16 = 257;
/// RFC 4034 section 2.1.2: always 3.
const PROTOCOL: u8 = 3;
/// SHA-256 (RFC 4509).
const DIGEST_TYPE: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("it is no ECDSA P-256 private key in PKCS #8")]
    NotAKey,
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// A private key of its own in PKCS #8 (DER).
pub fn generate_key() -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| KeyError::NoRandomness)?;
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

/// The private half lies in memory of the cryptographic library, which wipes what it frees.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: [u8; PUBLIC_KEY_BYTES],
    tag: u16,
}

impl SigningKey {
    /// From PKCS #8 (DER).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| KeyError::NotAKey)?;
        SigningKey::from_pair(pair).ok_or(KeyError::NotAKey)
    }

    fn from_pair(pair: EcdsaKeyPair) -> Option<Self> {
        // Uncompressed: 4, then the two coordinates (SEC 1 section 2.3.3).
        let public = pair.public_key().as_ref().strip_prefix(&[4])?.try_into().ok()?;
        let tag = key_tag(&dnskey_rdata(&public));
        Some(SigningKey { pair, public, tag })
    }

    pub(super) fn sign(&self, data: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        self.pair.sign(&SystemRandom::new(), data).ok()?.as_ref().try_into().ok()
    }

    pub(super) fn public(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.public
    }

    pub(super) fn tag(&self) -> u16 {
        self.tag
    }

    /// RDATA of the DNSKEY record (RFC 4034 section 2.1).
    pub(in crate::dns) fn dnskey(&self) -> Vec<u8> {
        dnskey_rdata(&self.public)
    }

    /// The DNSKEY record as in a zone file, without a TTL.
    pub fn dnskey_text(&self, domain: &str) -> String {
        format!("{domain}. IN DNSKEY {FLAGS} {PROTOCOL} {ALGORITHM} {}", STANDARD.encode(self.public))
    }

    /// The DS record (RFC 4034 section 5.1) as in a zone file. `domain` is the zone's, without the trailing dot.
    pub fn ds_text(&self, domain: &str) -> Option<String> {
        let name = Name::from_ascii(format!("{domain}.")).ok()?;
        let mut text = format!("{domain}. IN DS {} {ALGORITHM} {DIGEST_TYPE} ", self.tag);
        for byte in self.ds_digest(&name) {
            let _ = write!(text, "{byte:02X}");
        }
        Some(text)
    }

    /// RFC 4034 section 5.1.4: over the owner's canonical name and the DNSKEY's RDATA.
    fn ds_digest(&self, origin: &Name) -> Vec<u8> {
        let mut data = NameKey::new(origin).as_bytes().to_vec();
        data.push(0);
        data.extend_from_slice(&self.dnskey());
        digest(&SHA256, &data).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.tag)
    }
}

fn dnskey_rdata(public: &[u8; PUBLIC_KEY_BYTES]) -> Vec<u8> {
    let mut rdata = Vec::with_capacity(4 + PUBLIC_KEY_BYTES);
    rdata.extend_from_slice(&FLAGS.to_be_bytes());
    rdata.extend_from_slice(&[PROTOCOL, ALGORITHM]);
    rdata.extend_from_slice(public);
    rdata
}

/// RFC 4034 appendix B: the sum of all 16-bit words, with the carries added in once.
fn key_tag(rdata: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum: u32 = rdata.chunks(2).map(word).sum();
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    // RFC 6605 section 6.1.
    const PRIVATE: &str = "GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=";
    const PUBLIC: &str = "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";

    pub(in crate::dns::dnssec) fn rfc6605_key() -> SigningKey {
        let decode = |text| STANDARD.decode(text).unwrap();
        let public = [&[4][..], &decode(PUBLIC)].concat();
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &decode(PRIVATE), &public);
        SigningKey::from_pair(pair.unwrap()).unwrap()
    }

    #[test]
    fn the_key_of_rfc_6605_has_its_tag_and_its_ds() {
        let key = rfc6605_key();
        assert_eq!(key.tag(), 55_648);
        assert_eq!(
            key.ds_text("example.net").unwrap(),
            "example.net. IN DS 55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17"
        );
        assert_eq!(key.dnskey_text("example.net"), format!("example.net. IN DNSKEY 257 3 13 {PUBLIC}"));
    }

    #[test]
    fn a_new_key_is_read_again_and_never_shown() {
        let der = generate_key().unwrap();
        let key = SigningKey::from_pkcs8(&der).unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.tag()));
        assert_ne!(*key.public(), *SigningKey::from_pkcs8(&generate_key().unwrap()).unwrap().public());
        for broken in [&der[..der.len() - 1], &der[1..], b"", b"not a key"] {
            assert_eq!(SigningKey::from_pkcs8(broken).unwrap_err(), KeyError::NotAKey);
        }
    }
}
