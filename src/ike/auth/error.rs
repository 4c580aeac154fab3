//! Why a proof of identity was not accepted, in words that name the side that has to change something.
//!
//! These are for our operator alone. The peer is told AUTHENTICATION_FAILED and nothing else (RFC 7296 section 2.21.2).

use super::date::Date;

/// Why a peer's AUTH payload was refused, or ours could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("wrong preshared key: theirs and ours differ")]
    WrongPsk,
    #[error("they authenticate by {theirs}, we expect {ours}: set the same on both sides")]
    OtherMethod { theirs: &'static str, ours: &'static str },
    #[error(
        "they authenticate by method {0}, which is not supported (there are PSK, and certificates with RFC 7427 or \
         ECDSA)"
    )]
    UnsupportedMethod(u8),
    #[error(
        "their signature is of the old form \"RSA Digital Signature\" (method 1), which means SHA-1 and is refused: \
         their side must use RFC 7427 signatures (SHA2-256 or better), or an ECDSA certificate"
    )]
    RsaSha1,
    #[error("the signature algorithm {0} of their AUTH payload is refused: we accept {ACCEPTED}")]
    SignatureAlgorithm(String),
    #[error("their AUTH payload is malformed: {0}")]
    Malformed(&'static str),
    #[error("their signature is made by {algorithm}, and the key in their certificate is {key}")]
    KeyKind { algorithm: String, key: String },
    #[error(
        "their signature does not fit the key in their certificate: their private key and certificate do not \
         belong together, or somebody stands in between"
    )]
    WrongSignature,
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error(
        "our key is {key}, which signs with {needs}, and the peer takes {theirs}: use another kind of key, or \
         enable {needs} on their side"
    )]
    NoCommonHash { key: String, needs: &'static str, theirs: String },
    #[error("our private key made no signature")]
    Signing,
}

const ACCEPTED: &str = "RSA (PKCS#1 v1.5 or PSS) and ECDSA with SHA2-256, SHA2-384 or SHA2-512, and Ed25519";

/// Why a peer's certificate was refused. Every certificate is named by its subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("they sent no certificate: their side must send it (strongSwan: send_cert = always)")]
    None,
    #[error(
        "they sent their certificate in encoding {0}, which is not supported: it must be X.509 itself (encoding \
         4), neither its hash and URL nor a bare key"
    )]
    Encoding(u8),
    #[error("they sent {0} certificates; at most {max} are accepted", max = super::chain::MAX_CERTIFICATES)]
    TooMany(usize),
    #[error("they sent {0} bytes of certificates; at most {max} are accepted", max = super::chain::MAX_CHAIN_BYTES)]
    TooLarge(usize),
    #[error("their certificate is malformed: {0}")]
    Malformed(String),
    #[error("the certificate of {subject} expired on {on}: its owner must renew it")]
    Expired { subject: String, on: Date },
    #[error("the certificate of {subject} is not valid before {from}: is a clock wrong?")]
    NotYetValid { subject: String, from: Date },
    #[error(
        "the certificate of {subject} was issued by {issuer}, which is no authority that we trust for this peer: \
         add the authority's certificate here, or the missing intermediate there"
    )]
    UntrustedIssuer { subject: String, issuer: String },
    #[error("the certificate of {subject} bears a signature that its issuer {issuer} did not make")]
    WrongIssuerSignature { subject: String, issuer: String },
    #[error("the certificate of {0} (or of an authority above it) is revoked")]
    Revoked(String),
    #[error("no valid revocation list (CRL) covers the certificate of {0}, and one is required (crl = \"require\")")]
    NoCrl(String),
    #[error(
        "the revocation list (CRL) for the certificate of {subject} expired on {on}, and a valid one is required \
         (crl = \"require\")"
    )]
    CrlExpired { subject: String, on: Date },
    #[error("the certificate does not hold the identity {wanted}; in it are: {found}")]
    IdentityMissing { wanted: String, found: String },
    #[error("the certificate of {subject} may not be used so: {why}")]
    KeyUsage { subject: String, why: String },
    #[error("the chain of the certificate of {0} is too long")]
    ChainTooLong(String),
    #[error("the certificate of {subject} cannot be used: {why}")]
    Unusable { subject: String, why: String },
    #[error("the RSA key of {subject} has {bits} bits; 2048 to 8192 are accepted")]
    RsaBits { subject: String, bits: usize },
}

/// Why our own certificate, key, authorities or revocation lists could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("no certificate in the file: expected \"-----BEGIN CERTIFICATE-----\"")]
    NoCertificate,
    #[error("no revocation list in the file: expected \"-----BEGIN X509 CRL-----\" or DER")]
    NoCrl,
    #[error("a certificate in the file is malformed: {0}")]
    MalformedCertificate(String),
    #[error("a revocation list in the file is malformed: {0}")]
    MalformedCrl(String),
    #[error("the PEM is malformed: {0}")]
    Pem(String),
    #[error(
        "no private key in the file: expected \"-----BEGIN PRIVATE KEY-----\" (PKCS#8), \"EC PRIVATE KEY\" or \
         \"RSA PRIVATE KEY\""
    )]
    NoKey,
    #[error("the private key is encrypted: store it without a passphrase in a file that only the owner may read")]
    EncryptedKey,
    #[error("the private key is not of a supported kind: RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, Ed25519")]
    UnsupportedKey,
    #[error("the private key does not belong to the certificate of {0}")]
    Mismatch(String),
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error("more than {0} certificates")]
    TooMany(usize),
}
