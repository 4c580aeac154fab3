//! Our own certificate: the chain that we send, and the private key that signs.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding,
    RsaKeyPair,
};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::algorithm::{Algorithm, Hash};
use super::chain::{self, MAX_CERTIFICATES};
use super::date::Date;
use super::error::{AuthError, LoadError};
use super::identity::Identity;
use super::names;
use super::public_key::{KeyKind, PublicKey};
use super::{METHOD_DIGITAL_SIGNATURE, METHOD_ECDSA_256, METHOD_ECDSA_384, Proof};

/// How an RSA key signs. PSS is what RFC 8247 section 3.2 asks for; peers that only know PKCS#1 v1.5 are still met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RsaPadding {
    #[default]
    Pss,
    Pkcs1,
}

/// Our certificate, its intermediates and its private key, known to belong together.
pub struct LocalCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    kind: KeyKind,
    identities: Vec<Identity>,
    subject: String,
    valid: (Date, Date),
    rsa_padding: RsaPadding,
}

/// ECDSA keys are bound to the form of their signature, hence both: ASN.1 for RFC 7427, fixed for RFC 4754.
enum PrivateKey {
    Rsa(RsaKeyPair),
    P256 { asn1: EcdsaKeyPair, fixed: EcdsaKeyPair },
    P384 { asn1: EcdsaKeyPair, fixed: EcdsaKeyPair },
    Ed25519(Ed25519KeyPair),
}

impl LocalCertificate {
    /// The first of the chain is our own, so the key is the same, too.
    pub fn is_same(&self, other: &LocalCertificate) -> bool {
        self.chain == other.chain && self.rsa_padding == other.rsa_padding
    }

    /// From PEM files. Of the certificates the one that belongs to the key is ours; the others are sent after it.
    pub fn load(certificates: &[u8], key: &[u8]) -> Result<LocalCertificate, LoadError> {
        let mut chain = chain::certificates(certificates)?;
        if chain.len() > MAX_CERTIFICATES {
            return Err(LoadError::TooMany(MAX_CERTIFICATES));
        }
        let key = PrivateKey::from_pem(key)?;
        let first = chain.first().ok_or(LoadError::NoCertificate)?;
        let ours = chain.iter().position(|der| key.belongs_to(der)).ok_or_else(|| mismatch(first))?;
        let certificate = chain.remove(ours);
        chain.insert(0, certificate);
        LocalCertificate::from_parts(chain, key)
    }

    fn from_parts(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<LocalCertificate, LoadError> {
        let der = chain.first().ok_or(LoadError::NoCertificate)?;
        let certificate = chain::parse(der)?;
        let kind = chain::public_key(&certificate)?.kind;
        chain::check_usage(&certificate)?;
        let (identities, subject) = (names::identities(&certificate), chain::subject(&certificate));
        let valid = chain::validity(&certificate);
        Ok(LocalCertificate { chain, key, kind, identities, subject, valid, rsa_padding: RsaPadding::default() })
    }

    pub fn with_rsa_padding(self, rsa_padding: RsaPadding) -> LocalCertificate {
        LocalCertificate { rsa_padding, ..self }
    }

    /// What goes into our CERT payloads, one each, our own first.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        self.chain.iter().map(|der| der.as_ref())
    }

    /// Whether the certificate vouches for this identity; peers refuse us otherwise.
    pub fn holds(&self, identity: &Identity) -> bool {
        self.identities.contains(identity)
    }

    /// The identities that it vouches for, its subject first.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Kind of key in words, such as `ECDSA P-256`.
    pub fn key_kind(&self) -> String {
        self.kind.to_string()
    }

    /// First and last moment at which it is valid.
    pub fn validity(&self) -> (Date, Date) {
        self.valid
    }

    /// Whether a CERTREQ payload (encoding 4: 20-byte hashes of authorities' keys) names an authority of our chain, or
    /// none at all. A hint for the operator: the certificate is sent anyway, since our chain may not reach up to theirs.
    pub fn is_asked_for(&self, authorities: &[u8]) -> bool {
        let hashes = authorities.as_chunks::<20>().0;
        hashes.is_empty()
            || self.chain.iter().skip(1).any(|der| chain::key_hash(der).is_some_and(|hash| hashes.contains(&hash)))
    }

    /// AUTH method and data. ECDSA falls back to the old methods 9 and 10 when the peer does not take its hash, or does
    /// not know RFC 7427 at all.
    pub(super) fn sign(&self, octets: &[u8], peer_hashes: &[u16]) -> Result<Proof, AuthError> {
        let random = SystemRandom::new();
        let takes = |hash: &Hash| peer_hashes.contains(&hash.id());
        match &self.key {
            PrivateKey::Rsa(key) => {
                let hash = [Hash::Sha256, Hash::Sha384, Hash::Sha512].into_iter().find(takes);
                let hash = hash.ok_or_else(|| self.no_common_hash("SHA2-256", peer_hashes))?;
                let (algorithm, encoding) = rsa_encoding(self.rsa_padding, hash);
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, octets, &mut signature).map_err(|_| AuthError::Signing)?;
                Ok(digital_signature(algorithm, &signature))
            }
            PrivateKey::P256 { asn1, .. } if takes(&Hash::Sha256) => {
                let signature = asn1.sign(&random, octets).map_err(|_| AuthError::Signing)?;
                Ok(digital_signature(Algorithm::Ecdsa(Hash::Sha256), signature.as_ref()))
            }
            PrivateKey::P384 { asn1, .. } if takes(&Hash::Sha384) => {
                let signature = asn1.sign(&random, octets).map_err(|_| AuthError::Signing)?;
                Ok(digital_signature(Algorithm::Ecdsa(Hash::Sha384), signature.as_ref()))
            }
            PrivateKey::P256 { fixed, .. } => old_signature(METHOD_ECDSA_256, fixed, octets),
            PrivateKey::P384 { fixed, .. } => old_signature(METHOD_ECDSA_384, fixed, octets),
            PrivateKey::Ed25519(key) if peer_hashes.contains(&super::HASH_IDENTITY) => {
                Ok(digital_signature(Algorithm::Ed25519, key.sign(octets).as_ref()))
            }
            PrivateKey::Ed25519(_) => Err(self.no_common_hash("Identity (RFC 8420)", peer_hashes)),
        }
    }

    fn no_common_hash(&self, needs: &'static str, theirs: &[u16]) -> AuthError {
        AuthError::NoCommonHash { key: self.key_kind(), needs, theirs: super::hashes_in_words(theirs) }
    }
}

/// Without anything of the key.
impl fmt::Debug for LocalCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCertificate").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// RFC 7427 section 3: length of the AlgorithmIdentifier, the AlgorithmIdentifier, the signature.
fn digital_signature(algorithm: Algorithm, signature: &[u8]) -> Proof {
    let identifier = algorithm.to_der();
    let data = [&[identifier.len() as u8], &identifier[..], signature].concat();
    Proof { method: METHOD_DIGITAL_SIGNATURE, data }
}

fn old_signature(method: u8, key: &EcdsaKeyPair, octets: &[u8]) -> Result<Proof, AuthError> {
    let signature = key.sign(&SystemRandom::new(), octets).map_err(|_| AuthError::Signing)?;
    Ok(Proof { method, data: signature.as_ref().to_vec() })
}

fn rsa_encoding(padding: RsaPadding, hash: Hash) -> (Algorithm, &'static dyn RsaEncoding) {
    match (padding, hash) {
        (RsaPadding::Pss, Hash::Sha256) => (Algorithm::RsaPss(hash), &signature::RSA_PSS_SHA256),
        (RsaPadding::Pss, Hash::Sha384) => (Algorithm::RsaPss(hash), &signature::RSA_PSS_SHA384),
        (RsaPadding::Pss, Hash::Sha512) => (Algorithm::RsaPss(hash), &signature::RSA_PSS_SHA512),
        (RsaPadding::Pkcs1, Hash::Sha256) => (Algorithm::RsaPkcs1(hash), &signature::RSA_PKCS1_SHA256),
        (RsaPadding::Pkcs1, Hash::Sha384) => (Algorithm::RsaPkcs1(hash), &signature::RSA_PKCS1_SHA384),
        (RsaPadding::Pkcs1, Hash::Sha512) => (Algorithm::RsaPkcs1(hash), &signature::RSA_PKCS1_SHA512),
    }
}

fn mismatch(der: &CertificateDer<'_>) -> LoadError {
    match chain::parse(der) {
        Ok(certificate) => LoadError::Mismatch(chain::subject(&certificate)),
        Err(error) => error.into(),
    }
}

impl PrivateKey {
    fn from_pem(key: &[u8]) -> Result<PrivateKey, LoadError> {
        let der = PrivateKeyDer::from_pem_slice(key).map_err(|error| no_key(key, &error))?;
        PrivateKey::from_der(der.secret_der()).ok_or(LoadError::UnsupportedKey)
    }

    /// PKCS#8 of every kind, SEC1 (RFC 5915) and PKCS#1: whichever takes it.
    fn from_der(der: &[u8]) -> Option<PrivateKey> {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_private_key_der(algorithm, der).ok();
        if let (Some(asn1), Some(fixed)) =
            (ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING), ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING))
        {
            return Some(PrivateKey::P256 { asn1, fixed });
        }
        if let (Some(asn1), Some(fixed)) =
            (ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING), ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING))
        {
            return Some(PrivateKey::P384 { asn1, fixed });
        }
        // "Unchecked": PKCS#8 as OpenSSL writes it holds no public key to check; the certificate's is compared.
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Some(PrivateKey::Ed25519(key));
        }
        RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok().map(PrivateKey::Rsa)
    }

    fn belongs_to(&self, der: &CertificateDer<'_>) -> bool {
        let public = match self {
            PrivateKey::Rsa(key) => key.public_key().as_ref(),
            PrivateKey::P256 { asn1, .. } | PrivateKey::P384 { asn1, .. } => asn1.public_key().as_ref(),
            PrivateKey::Ed25519(key) => key.public_key().as_ref(),
        };
        let Ok(certificate) = chain::parse(der) else { return false };
        let spki = &certificate.tbs_certificate.subject_pki;
        match PublicKey::from_spki(spki) {
            Ok(key) => key.bytes == public,
            Err(_) => &*spki.subject_public_key.data == public, // said later, by name
        }
    }
}

fn no_key(file: &[u8], error: &pem::Error) -> LoadError {
    let says = |words: &[u8]| file.windows(words.len()).any(|window| window == words);
    match error {
        _ if says(b"ENCRYPTED PRIVATE KEY") || says(b"Proc-Type: 4,ENCRYPTED") => LoadError::EncryptedKey,
        pem::Error::NoItemsFound => LoadError::NoKey,
        // Not the error itself: it may quote the file.
        _ => LoadError::Pem("the private key's base64 or its lines of dashes".into()),
    }
}
