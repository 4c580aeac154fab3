//! Who the two sides are, and how they prove it: by preshared key, or by signature and certificate.
//!
//! ```text
//! LocalAuth::prove     octets to sign (Signed), hashes that the peer takes             ->  AUTH payload
//! RemoteAuth::verify   AUTH and CERT payloads, octets, identity, date                  ->  Ok, or why not, in words
//! ```
//!
//! The methods are 2 (preshared key), 14 (RFC 7427 signatures: RSA PSS and PKCS#1 v1.5, ECDSA P-256 and P-384 with
//! SHA-2, Ed25519) and, with peers that do not know RFC 7427, 9 and 10 (ECDSA). Method 1 means SHA-1 and is refused.
//! Nothing here keeps state: who is asked what, and what the peer is told, is decided by the exchanges.

mod algorithm;
mod chain;
mod date;
mod der;
mod dn;
mod error;
mod identity;
mod local;
mod names;
mod ppk;
mod printable;
mod public_key;
mod signed;
mod trust;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use algorithm::Algorithm;
use public_key::PublicKey;
use signed::{is_shared_key_code, shared_key_code};

use crate::crypto::Prf;
use crate::wire::ike::Payload;

pub use chain::{MAX_CERTIFICATES, MAX_CHAIN_BYTES};
pub use date::Date;
pub use dn::DnError;
pub use error::{AuthError, CertificateError, LoadError};
pub use identity::{Identity, IdentityError};
pub use local::{LocalCertificate, RsaPadding};
pub use ppk::Ppk;
pub use signed::Signed;
pub use trust::{CrlPolicy, TrustAnchors};

const METHOD_RSA: u8 = 1;
const METHOD_SHARED_KEY: u8 = 2;
const METHOD_ECDSA_256: u8 = 9;
const METHOD_ECDSA_384: u8 = 10;
const METHOD_DIGITAL_SIGNATURE: u8 = 14;

/// What RFC 8420 puts in the list of hashes for Ed25519, which signs the octets themselves.
const HASH_IDENTITY: u16 = 5;

/// Encoding of CERT and CERTREQ payloads that we use: X.509 Certificate - Signature.
const ENCODING_X509: u8 = 4;
/// SHA-1 of an authority's public key (RFC 7296 section 3.7).
const KEY_HASH_BYTES: usize = 20;
/// Authorities named to a caller that is not known yet.
pub const MAX_REQUESTED: usize = 16;

/// What our SIGNATURE_HASH_ALGORITHMS notify lists (RFC 7427 section 4): SHA2-256, -384, -512 and Identity.
pub const SIGNATURE_HASHES: [u16; 4] = [2, 3, 4, HASH_IDENTITY];

/// More hash functions than there are; the rest of a peer's list is not shown.
const MAX_HASHES: usize = 32;

/// How we prove who we are to one peer.
#[derive(Clone)]
pub enum LocalAuth {
    Psk(Zeroizing<Vec<u8>>),
    Certificate(Arc<LocalCertificate>),
}

/// How one peer has to prove who it is.
#[derive(Clone)]
pub enum RemoteAuth {
    Psk(Zeroizing<Vec<u8>>),
    Certificate(Arc<TrustAnchors>),
}

/// Method and data of an AUTH payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub method: u8,
    pub data: Vec<u8>,
}

impl LocalAuth {
    /// Our AUTH payload over the octets (see [`Signed`]). `peer_hashes`: the peer's SIGNATURE_HASH_ALGORITHMS, empty
    /// when it sent none.
    pub fn prove(&self, prf: Prf, octets: &[u8], peer_hashes: &[u16]) -> Result<Proof, AuthError> {
        match self {
            LocalAuth::Psk(secret) => {
                Ok(Proof { method: METHOD_SHARED_KEY, data: shared_key_code(prf, secret, octets).to_vec() })
            }
            LocalAuth::Certificate(certificate) => certificate.sign(octets, peer_hashes),
        }
    }

    /// Whether it proves the same, in the same way.
    pub fn is_same(&self, other: &LocalAuth) -> bool {
        match (self, other) {
            (LocalAuth::Psk(a), LocalAuth::Psk(b)) => a == b,
            (LocalAuth::Certificate(a), LocalAuth::Certificate(b)) => Arc::ptr_eq(a, b) || a.is_same(b),
            _ => false,
        }
    }

    /// Our CERT payloads, our own certificate first; none with a preshared key. Sent whether or not the peer asks by a
    /// CERTREQ that we know, since our chain may not reach up to its authority.
    pub fn certificate_payloads(&self) -> Vec<Payload> {
        let LocalAuth::Certificate(certificate) = self else { return Vec::new() };
        let payload = |der: &[u8]| Payload::Certificate { encoding: ENCODING_X509, data: der.to_vec() };
        certificate.chain().map(payload).collect()
    }
}

/// One CERTREQ payload for peers of several authorities; `None` when no peer proves itself by a certificate. At most
/// [`MAX_REQUESTED`] authorities are named: the request goes to whoever asks.
pub fn joint_certificate_request<'a>(peers: impl Iterator<Item = &'a RemoteAuth>) -> Option<Payload> {
    let mut hashes = BTreeSet::new();
    let mut wanted = false;
    for anchors in peers.filter_map(RemoteAuth::anchors) {
        wanted = true;
        let named = anchors.certificate_request();
        hashes.extend(named.chunks_exact(KEY_HASH_BYTES).map(<[u8]>::to_vec));
        if hashes.len() >= MAX_REQUESTED {
            break;
        }
    }
    let data = hashes.into_iter().take(MAX_REQUESTED).collect::<Vec<_>>().concat();
    wanted.then_some(Payload::CertificateRequest { encoding: ENCODING_X509, data })
}

impl RemoteAuth {
    fn anchors(&self) -> Option<&TrustAnchors> {
        match self {
            RemoteAuth::Certificate(anchors) => Some(anchors),
            RemoteAuth::Psk(_) => None,
        }
    }

    /// Our CERTREQ payload: the authorities that may vouch for the peer. Pinned certificates cannot be asked for, so that
    /// the list may be empty; it still asks for a certificate.
    pub fn certificate_request(&self) -> Option<Payload> {
        let RemoteAuth::Certificate(anchors) = self else { return None };
        Some(Payload::CertificateRequest { encoding: ENCODING_X509, data: anchors.certificate_request() })
    }

    /// Whether what is believed is the same.
    pub fn is_same(&self, other: &RemoteAuth) -> bool {
        match (self, other) {
            (RemoteAuth::Psk(a), RemoteAuth::Psk(b)) => a == b,
            (RemoteAuth::Certificate(a), RemoteAuth::Certificate(b)) => Arc::ptr_eq(a, b) || a.is_same(b),
            _ => false,
        }
    }

    /// Whether certificates that once proved `identity` would still be believed: an authority may be gone from the list, or
    /// a revocation list be new.
    pub fn still_believes(&self, certificates: &[(u8, Vec<u8>)], identity: &Identity, now_unix: u64) -> bool {
        self.check_again(certificates, identity, now_unix).is_ok()
    }

    /// The same, and why not.
    pub fn check_again(
        &self,
        certificates: &[(u8, Vec<u8>)],
        identity: &Identity,
        now_unix: u64,
    ) -> Result<(), AuthError> {
        let RemoteAuth::Certificate(anchors) = self else {
            return Err(AuthError::OtherMethod { theirs: "certificate", ours: "preshared key" });
        };
        let certificates: Vec<(u8, &[u8])> =
            certificates.iter().map(|(encoding, data)| (*encoding, data.as_slice())).collect();
        anchors.check(&of_x509(&certificates)?, identity, now_unix)?;
        Ok(())
    }

    /// Whether the peer proved to be `identity`: what its ID payload says, and what it is configured as.
    /// `certificates`: encoding and contents of its CERT payloads, in their order.
    pub fn verify(
        &self,
        proof: &Proof,
        prf: Prf,
        octets: &[u8],
        identity: &Identity,
        certificates: &[(u8, &[u8])],
        now_unix: u64,
    ) -> Result<(), AuthError> {
        match (self, proof.method) {
            (RemoteAuth::Psk(secret), METHOD_SHARED_KEY) => {
                match is_shared_key_code(prf, secret, octets, &proof.data) {
                    true => Ok(()),
                    false => Err(AuthError::WrongPsk),
                }
            }
            (RemoteAuth::Psk(_), METHOD_RSA | METHOD_ECDSA_256 | METHOD_ECDSA_384 | METHOD_DIGITAL_SIGNATURE) => {
                Err(AuthError::OtherMethod { theirs: "certificate", ours: "preshared key" })
            }
            (RemoteAuth::Certificate(_), METHOD_SHARED_KEY) => {
                Err(AuthError::OtherMethod { theirs: "preshared key", ours: "certificate" })
            }
            (RemoteAuth::Certificate(_), METHOD_RSA) => Err(AuthError::RsaSha1),
            (RemoteAuth::Certificate(anchors), METHOD_ECDSA_256 | METHOD_ECDSA_384 | METHOD_DIGITAL_SIGNATURE) => {
                let key = anchors.check(&of_x509(certificates)?, identity, now_unix)?;
                verify_signature(&key, octets, proof.method, &proof.data)
            }
            (_, method) => Err(AuthError::UnsupportedMethod(method)),
        }
    }
}

/// Of certificates that proved an identity: after how many seconds from now the first of them has ended that has not ended
/// yet. Not all of them may be needed; whether the others are believed without it is for [`RemoteAuth::check_again`] to say.
pub fn secs_to_first_end(certificates: &[(u8, Vec<u8>)], now_unix: u64) -> Option<u64> {
    let x509 = certificates.iter().filter(|(encoding, _)| *encoding == ENCODING_X509);
    let ends = x509.filter_map(|(_, der)| chain::parse(der).ok()).map(|certificate| chain::validity(&certificate).1.0);
    ends.filter(|end| *end >= now_unix).map(|end| end - now_unix + 1).min() // valid through its last second
}

/// The certificates in the one encoding that we read; when there are only others, that is the mistake.
fn of_x509<'a>(certificates: &[(u8, &'a [u8])]) -> Result<Vec<&'a [u8]>, CertificateError> {
    let x509: Vec<&[u8]> =
        certificates.iter().filter(|(encoding, _)| *encoding == ENCODING_X509).map(|c| c.1).collect();
    match (certificates.first(), x509.is_empty()) {
        (Some((encoding, _)), true) => Err(CertificateError::Encoding(*encoding)),
        _ => Ok(x509),
    }
}

impl fmt::Debug for LocalAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAuth::Psk(_) => f.write_str("Psk"),
            LocalAuth::Certificate(certificate) => f.debug_tuple("Certificate").field(certificate).finish(),
        }
    }
}

impl fmt::Debug for RemoteAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteAuth::Psk(_) => f.write_str("Psk"),
            RemoteAuth::Certificate(anchors) => f.debug_tuple("Certificate").field(anchors).finish(),
        }
    }
}

fn verify_signature(key: &PublicKey<'_>, octets: &[u8], method: u8, data: &[u8]) -> Result<(), AuthError> {
    let (verdict, algorithm) = match method {
        METHOD_DIGITAL_SIGNATURE => {
            let (algorithm, signature) = digital_signature(data)?;
            (key.verify(algorithm, octets, signature), algorithm.to_string())
        }
        METHOD_ECDSA_256 => (fixed(key, public_key::KeyKind::P256, octets, data), "ECDSA-256 (method 9)".into()),
        _ => (fixed(key, public_key::KeyKind::P384, octets, data), "ECDSA-384 (method 10)".into()),
    };
    match verdict {
        Some(true) => Ok(()),
        Some(false) => Err(AuthError::WrongSignature),
        None => Err(AuthError::KeyKind { algorithm, key: key.kind.to_string() }),
    }
}

fn fixed(key: &PublicKey<'_>, kind: public_key::KeyKind, octets: &[u8], data: &[u8]) -> Option<bool> {
    (key.kind == kind).then(|| key.verify_fixed(octets, data)).flatten()
}

/// RFC 7427 section 3.
fn digital_signature(data: &[u8]) -> Result<(Algorithm, &[u8]), AuthError> {
    let cut = AuthError::Malformed("the algorithm identifier is longer than the payload");
    let (len, rest) = data.split_first().ok_or(AuthError::Malformed("it is empty"))?;
    let (identifier, signature) = rest.split_at_checked(usize::from(*len)).ok_or(cut)?;
    let algorithm = Algorithm::from_der(identifier).map_err(AuthError::SignatureAlgorithm)?;
    Ok((algorithm, signature))
}

fn hashes_in_words(hashes: &[u16]) -> String {
    if hashes.is_empty() {
        return "no RFC 7427 signatures at all (only SHA-1)".into();
    }
    let name = |id: &u16| match id {
        1 => "SHA-1".into(),
        2 => "SHA2-256".into(),
        3 => "SHA2-384".into(),
        4 => "SHA2-512".into(),
        5 => "Identity".into(),
        id => id.to_string(),
    };
    hashes.iter().take(MAX_HASHES).map(name).collect::<Vec<String>>().join(", ")
}
