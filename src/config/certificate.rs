//! Certificates as far as a configuration can hold them against themselves: PEM, dates, and which key belongs to which
//! certificate. Whom to believe is decided in the handshake.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::{Zeroize, Zeroizing};

/// Of a chain, of CAs or of lists in one file.
pub const MAX_OBJECTS: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("it is not PEM: {0}")]
    NotPem(String),
    #[error("there is no {0} in it")]
    Empty(&'static str),
    #[error("there are more than {MAX_OBJECTS} objects in it")]
    TooMany,
    #[error("number {0} in it is not a certificate (X.509)")]
    NotX509(usize),
    #[error("keys are RSA, ECDSA with P-256 or P-384, or Ed25519; this one is none of them, or broken")]
    UnknownKey,
}

/// The certificates of a PEM file, in DER.
pub fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    let certificates = objects::<CertificateDer<'_>>(pem, "certificate (`BEGIN CERTIFICATE`)")?;
    let certificates: Vec<Vec<u8>> = certificates.iter().map(|der| der.to_vec()).collect();
    match certificates.iter().position(|der| parse(der).is_none()) {
        Some(at) => Err(CertificateError::NotX509(at + 1)),
        None => Ok(certificates),
    }
}

/// The lists of revoked certificates of a PEM file, in DER.
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    let lists = objects::<CertificateRevocationListDer<'_>>(pem, "list (`BEGIN X509 CRL`)")?;
    Ok(lists.iter().map(|der| der.to_vec()).collect())
}

/// The first private key of a PEM file, in DER.
pub fn private_key(pem: &[u8]) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let mut key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => CertificateError::Empty("private key (`BEGIN PRIVATE KEY`)"),
        // In words of our own: the parser's may quote the file.
        _ => CertificateError::NotPem("the block is broken".to_owned()),
    })?;
    let der = Zeroizing::new(key.secret_der().to_vec());
    key.zeroize();
    Ok(der)
}

/// The public key that belongs to `private_key`, as it stands in a certificate's bit string.
pub fn public_key(private_key: &[u8]) -> Result<Vec<u8>, CertificateError> {
    if let Ok(pair) = rsa::KeyPair::from_pkcs8(private_key).or_else(|_| rsa::KeyPair::from_der(private_key)) {
        return Ok(pair.public_key().as_ref().to_vec());
    }
    for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, private_key) {
            return Ok(pair.public_key().as_ref().to_vec());
        }
    }
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private_key).map_err(|_| CertificateError::UnknownKey)?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// What a certificate says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    pub public_key: Vec<u8>,
    pub not_before_unix_secs: i64,
    pub not_after_unix_secs: i64,
    /// The last day in words.
    pub not_after: String,
    /// Names, mail addresses and IP addresses that it shows, as identities are written.
    pub identities: Vec<String>,
    pub subject: String,
}

/// `None`: it is no certificate.
pub fn facts(der: &[u8]) -> Option<Facts> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let identities = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("fqdn:{name}")),
        GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| format!("ip:{address}")),
        _ => None,
    });
    Some(Facts {
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
        not_before_unix_secs: validity.not_before.timestamp(),
        not_after_unix_secs: validity.not_after.timestamp(),
        not_after: validity.not_after.to_string(),
        identities: identities.collect(),
        subject: certificate.subject().to_string(),
    })
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, certificate)| certificate)
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let four = || <[u8; 4]>::try_from(bytes).ok().map(Into::into);
    let sixteen = || <[u8; 16]>::try_from(bytes).ok().map(Into::into);
    four().or_else(sixteen)
}

fn objects<T: PemObject>(pem: &[u8], what: &'static str) -> Result<Vec<T>, CertificateError> {
    let mut found = Vec::new();
    for object in T::pem_slice_iter(pem) {
        // In words of our own: the parser's may quote the file.
        found.push(object.map_err(|_| CertificateError::NotPem("a block is broken".to_owned()))?);
        if found.len() > MAX_OBJECTS {
            return Err(CertificateError::TooMany);
        }
    }
    if found.is_empty() { Err(CertificateError::Empty(what)) } else { Ok(found) }
}
