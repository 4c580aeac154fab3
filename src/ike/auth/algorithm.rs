//! Signature algorithms, and the AlgorithmIdentifier that names them in RFC 7427 AUTH payloads.
//!
//! Others write the same algorithm in more than one way (a NULL or nothing as parameters, a default written out). All
//! of them are made here and compared byte for byte, so that no parser stands between a stranger and the meaning; what
//! we write is DER in its only form.

use std::fmt;
use std::sync::LazyLock;

use x509_parser::prelude::FromDer;
use x509_parser::x509::AlgorithmIdentifier;

use super::der;

/// Hash functions of SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4). SHA-1 (1) is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    RsaPkcs1(Hash),
    RsaPss(Hash),
    Ecdsa(Hash),
    Ed25519,
}

impl Hash {
    pub(super) fn id(self) -> u16 {
        match self {
            Hash::Sha256 => 2,
            Hash::Sha384 => 3,
            Hash::Sha512 => 4,
        }
    }

    fn bytes(self) -> u8 {
        match self {
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }

    fn oid(self) -> &'static str {
        match self {
            Hash::Sha256 => "2.16.840.1.101.3.4.2.1",
            Hash::Sha384 => "2.16.840.1.101.3.4.2.2",
            Hash::Sha512 => "2.16.840.1.101.3.4.2.3",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "SHA2-256",
            Hash::Sha384 => "SHA2-384",
            Hash::Sha512 => "SHA2-512",
        }
    }
}

/// RSASSA-PSS and its mask generation function (RFC 4055).
const PSS: &str = "1.2.840.113549.1.1.10";
const MGF1: &str = "1.2.840.113549.1.1.8";
const NULL: &[u8] = &[der::NULL, 0];
const USUAL_TRAILER: &[u8] = &[0xa3, 3, 2, 1, 1];

impl Algorithm {
    const ALL: [Algorithm; 10] = [
        Algorithm::RsaPkcs1(Hash::Sha256),
        Algorithm::RsaPkcs1(Hash::Sha384),
        Algorithm::RsaPkcs1(Hash::Sha512),
        Algorithm::RsaPss(Hash::Sha256),
        Algorithm::RsaPss(Hash::Sha384),
        Algorithm::RsaPss(Hash::Sha512),
        Algorithm::Ecdsa(Hash::Sha256),
        Algorithm::Ecdsa(Hash::Sha384),
        Algorithm::Ecdsa(Hash::Sha512),
        Algorithm::Ed25519,
    ];

    fn oid(self) -> &'static str {
        match self {
            Algorithm::RsaPkcs1(Hash::Sha256) => "1.2.840.113549.1.1.11",
            Algorithm::RsaPkcs1(Hash::Sha384) => "1.2.840.113549.1.1.12",
            Algorithm::RsaPkcs1(Hash::Sha512) => "1.2.840.113549.1.1.13",
            Algorithm::RsaPss(_) => PSS,
            Algorithm::Ecdsa(Hash::Sha256) => "1.2.840.10045.4.3.2",
            Algorithm::Ecdsa(Hash::Sha384) => "1.2.840.10045.4.3.3",
            Algorithm::Ecdsa(Hash::Sha512) => "1.2.840.10045.4.3.4",
            Algorithm::Ed25519 => "1.3.101.112",
        }
    }

    /// AlgorithmIdentifier in DER.
    pub(super) fn to_der(self) -> Vec<u8> {
        match self {
            Algorithm::RsaPkcs1(_) => identifier(self.oid(), NULL),
            Algorithm::RsaPss(hash) => identifier(PSS, &pss_parameters(hash, NULL, NULL, &[])),
            Algorithm::Ecdsa(_) | Algorithm::Ed25519 => identifier(self.oid(), &[]),
        }
    }

    /// The algorithm that these bytes name, or a word for the one that is not accepted.
    pub(super) fn from_der(bytes: &[u8]) -> Result<Algorithm, String> {
        let found = SPELLINGS.iter().find(|(der, _)| der == bytes);
        found.map(|(_, algorithm)| *algorithm).ok_or_else(|| refused(bytes))
    }

    /// Every way in which it is written. Of RSASSA-PSS only the form with one hash in all places, a salt as long as the
    /// hash and the usual trailer (RFC 8247 section 3.2 forbids empty and default parameters).
    fn spellings(self) -> Box<dyn Iterator<Item = Vec<u8>>> {
        const NULL_OR_NOT: [&[u8]; 2] = [NULL, &[]];
        match self {
            Algorithm::RsaPss(hash) => Box::new((0..8).map(move |n| {
                let trailer: &[u8] = if n & 1 == 0 { &[] } else { USUAL_TRAILER };
                identifier(PSS, &pss_parameters(hash, NULL_OR_NOT[n >> 1 & 1], NULL_OR_NOT[n >> 2 & 1], trailer))
            })),
            _ => Box::new(NULL_OR_NOT.into_iter().map(move |parameters| identifier(self.oid(), parameters))),
        }
    }
}

/// All of them, made once: every AUTH payload is compared with them.
static SPELLINGS: LazyLock<Vec<(Vec<u8>, Algorithm)>> = LazyLock::new(|| {
    Algorithm::ALL.iter().flat_map(|algorithm| algorithm.spellings().map(|der| (der, *algorithm))).collect()
});

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::RsaPkcs1(hash) => write!(f, "RSA PKCS#1 v1.5 with {}", hash.name()),
            Algorithm::RsaPss(hash) => write!(f, "RSA PSS with {}", hash.name()),
            Algorithm::Ecdsa(hash) => write!(f, "ECDSA with {}", hash.name()),
            Algorithm::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

fn refused(bytes: &[u8]) -> String {
    let Ok((_, identifier)) = AlgorithmIdentifier::from_der(bytes) else { return "(malformed)".into() };
    match identifier.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.5" => "RSA with SHA-1".into(),
        "1.2.840.10045.4.1" => "ECDSA with SHA-1".into(),
        "1.3.101.113" => "Ed448".into(),
        PSS => "RSA PSS with other parameters than one SHA-2 in all places and a salt of its length".into(),
        // What a peer made up may be long.
        oid => oid.chars().take(64).collect(),
    }
}

fn identifier(oid: &str, parameters: &[u8]) -> Vec<u8> {
    let oid = der::dotted_oid(oid).unwrap_or_default();
    der::value(der::SEQUENCE, &[&der::value(der::OID, &[&oid]), parameters])
}

/// RFC 4055 section 3.1. DER leaves the usual trailer out; RFC 7427 appendix A.4.3 writes it.
fn pss_parameters(hash: Hash, hash_parameters: &[u8], mask_parameters: &[u8], trailer: &[u8]) -> Vec<u8> {
    let mask = identifier(MGF1, &identifier(hash.oid(), mask_parameters));
    der::value(
        der::SEQUENCE,
        &[
            &der::value(der::context(0), &[&identifier(hash.oid(), hash_parameters)]),
            &der::value(der::context(1), &[&mask]),
            &der::value(der::context(2), &[&der::value(der::INTEGER, &[&[hash.bytes()]])]),
            trailer,
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// RFC 7427 appendix A.
    #[test]
    fn the_identifiers_of_rfc_7427() {
        for (algorithm, bytes) in [
            (Algorithm::RsaPkcs1(Hash::Sha256), "300d 0609 2a86 4886 f70d 0101 0b05 00"),
            (Algorithm::RsaPkcs1(Hash::Sha384), "300d 0609 2a86 4886 f70d 0101 0c05 00"),
            (Algorithm::RsaPkcs1(Hash::Sha512), "300d 0609 2a86 4886 f70d 0101 0d05 00"),
            (Algorithm::Ecdsa(Hash::Sha256), "300a 0608 2a86 48ce 3d04 0302"),
            (Algorithm::Ecdsa(Hash::Sha384), "300a 0608 2a86 48ce 3d04 0303"),
            (Algorithm::Ecdsa(Hash::Sha512), "300a 0608 2a86 48ce 3d04 0304"),
            // RFC 8420 appendix A.1.
            (Algorithm::Ed25519, "3005 0603 2b65 70"),
        ] {
            assert_eq!(algorithm.to_der(), hex(bytes), "{algorithm}");
            assert_eq!(Algorithm::from_der(&hex(bytes)), Ok(algorithm));
        }
    }

    /// RFC 7427 appendix A.4.3 writes the trailer, which DER leaves out: read with it, written without.
    #[test]
    fn rsassa_pss_with_sha_256_in_the_form_of_rfc_7427() {
        let published = hex("3046 0609 2a86 4886 f70d 0101 0a30 39a0 0f30 0d06 0960 8648 0165 0304 0201 0500
            a11c 301a 0609 2a86 4886 f70d 0101 0830 0d06 0960 8648 0165 0304 0201 0500 a203 0201 20a3 0302 0101");
        let algorithm = Algorithm::RsaPss(Hash::Sha256);
        assert_eq!(Algorithm::from_der(&published), Ok(algorithm));
        let mut without = published[..published.len() - 5].to_vec();
        (without[1], without[14]) = (0x41, 0x34);
        assert_eq!(algorithm.to_der(), without);
    }

    #[test]
    fn every_spelling_is_read() {
        for algorithm in Algorithm::ALL {
            for der in algorithm.spellings() {
                assert_eq!(Algorithm::from_der(&der), Ok(algorithm));
            }
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        for (bytes, words) in [
            // RFC 7427 appendix A.1.1, A.3.1, A.4.1 and A.4.2.
            ("300d 0609 2a86 4886 f70d 0101 0505 00", "RSA with SHA-1"),
            ("3009 0607 2a86 48ce 3d04 01", "ECDSA with SHA-1"),
            ("300d 0609 2a86 4886 f70d 0101 0a30 00", "RSA PSS with other parameters"),
            (
                "303e 0609 2a86 4886 f70d 0101 0a30 31a0 0b30 0906 052b 0e03 021a 0500
                 a118 3016 0609 2a86 4886 f70d 0101 0830 0906 052b 0e03 021a 0500 a203 0201 14a3 0302 0101",
                "RSA PSS with other parameters",
            ),
            ("3005 0603 2b65 71", "Ed448"),
            ("3003 0601 2a", "1.2"),
            ("30", "(malformed)"),
            ("", "(malformed)"),
        ] {
            let refused = Algorithm::from_der(&hex(bytes)).unwrap_err();
            assert!(refused.starts_with(words), "{bytes}: {refused}");
        }
    }

    #[test]
    fn a_salt_or_a_mask_of_another_length_is_refused() {
        let pss = Algorithm::RsaPss(Hash::Sha256).to_der();
        for at in 0..pss.len() {
            let mut other = pss.clone();
            other[at] ^= 1;
            assert_ne!(Algorithm::from_der(&other), Ok(Algorithm::RsaPss(Hash::Sha256)), "byte {at}");
        }
    }
}
