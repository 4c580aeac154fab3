//! The public key of a certificate, and what a signature by it proves.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::algorithm::{Algorithm, Hash};

/// RSA keys of fewer bits are within reach; of more, a signature costs us too much.
const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa { bits: usize },
    P256,
    P384,
    Ed25519,
}

/// `bytes`: RSAPublicKey in DER, an uncompressed point, or the 32 bytes of Ed25519.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublicKey<'a> {
    pub(super) kind: KeyKind,
    pub(super) bytes: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyError {
    Unsupported(String),
    RsaBits(usize),
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyKind::Rsa { bits } => write!(f, "RSA of {bits} bits"),
            KeyKind::P256 => f.write_str("ECDSA P-256"),
            KeyKind::P384 => f.write_str("ECDSA P-384"),
            KeyKind::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

impl<'a> PublicKey<'a> {
    pub(super) fn from_spki(spki: &SubjectPublicKeyInfo<'a>) -> Result<PublicKey<'a>, KeyError> {
        let bytes: &'a [u8] = match &spki.subject_public_key.data {
            std::borrow::Cow::Borrowed(bytes) => bytes,
            std::borrow::Cow::Owned(_) => return Err(KeyError::Unsupported("(copied)".into())),
        };
        let curve = || spki.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
        let kind = match spki.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => rsa(bytes)?,
            "1.2.840.10045.2.1" => match curve().as_deref() {
                Some("1.2.840.10045.3.1.7") => KeyKind::P256,
                Some("1.3.132.0.34") => KeyKind::P384,
                Some("1.3.132.0.35") => return Err(KeyError::Unsupported("ECDSA P-521".into())),
                _ => return Err(KeyError::Unsupported("ECDSA on another curve than P-256 and P-384".into())),
            },
            "1.3.101.112" => KeyKind::Ed25519,
            "1.3.101.113" => return Err(KeyError::Unsupported("Ed448".into())),
            "1.2.840.113549.1.1.10" => return Err(KeyError::Unsupported("RSA restricted to PSS".into())),
            other => return Err(KeyError::Unsupported(other.chars().take(64).collect())),
        };
        Ok(PublicKey { kind, bytes })
    }

    /// Whether `signature` over `octets` was made with the private key. `None`: this kind of key makes no such one.
    pub(super) fn verify(&self, algorithm: Algorithm, octets: &[u8], signature: &[u8]) -> Option<bool> {
        Some(self.holds(asn1_verification(self.kind, algorithm)?, octets, signature))
    }

    /// The same for the old methods 9 and 10 (RFC 4754), whose signature is the bare pair of numbers.
    pub(super) fn verify_fixed(&self, octets: &[u8], signature: &[u8]) -> Option<bool> {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            KeyKind::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            KeyKind::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            _ => return None,
        };
        Some(self.holds(algorithm, octets, signature))
    }

    fn holds(&self, algorithm: &'static dyn VerificationAlgorithm, octets: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, self.bytes).verify(octets, signature).is_ok()
    }
}

fn asn1_verification(kind: KeyKind, algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, algorithm) {
        (KeyKind::Rsa { .. }, Algorithm::RsaPkcs1(Hash::Sha256)) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa { .. }, Algorithm::RsaPkcs1(Hash::Sha384)) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa { .. }, Algorithm::RsaPkcs1(Hash::Sha512)) => &signature::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Rsa { .. }, Algorithm::RsaPss(Hash::Sha256)) => &signature::RSA_PSS_2048_8192_SHA256,
        (KeyKind::Rsa { .. }, Algorithm::RsaPss(Hash::Sha384)) => &signature::RSA_PSS_2048_8192_SHA384,
        (KeyKind::Rsa { .. }, Algorithm::RsaPss(Hash::Sha512)) => &signature::RSA_PSS_2048_8192_SHA512,
        (KeyKind::P256, Algorithm::Ecdsa(Hash::Sha256)) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, Algorithm::Ecdsa(Hash::Sha384)) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, Algorithm::Ecdsa(Hash::Sha512)) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, Algorithm::Ecdsa(Hash::Sha256)) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, Algorithm::Ecdsa(Hash::Sha384)) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P384, Algorithm::Ecdsa(Hash::Sha512)) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyKind::Ed25519, Algorithm::Ed25519) => &signature::ED25519,
        _ => return None,
    })
}

fn rsa(bytes: &[u8]) -> Result<KeyKind, KeyError> {
    let Ok(([], key)) = RSAPublicKey::from_der(bytes) else {
        return Err(KeyError::Unsupported("RSA (malformed)".into()));
    };
    let modulus = &key.modulus[key.modulus.iter().take_while(|byte| **byte == 0).count()..];
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match bits {
        MIN_RSA_BITS..=MAX_RSA_BITS => Ok(KeyKind::Rsa { bits }),
        _ => Err(KeyError::RsaBits(bits)),
    }
}
