//! Certificates: the parts that concern IKE (RFC 4945), for our own as for a peer's.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::date::Date;
use super::dn;
use super::error::{CertificateError, LoadError};
use super::identity::Identity;
use super::names;
use super::public_key::{KeyError, PublicKey};

/// A peer sends its own certificate and perhaps three authorities between it and the root.
pub const MAX_CERTIFICATES: usize = 8;

/// All CERT payloads of a peer together. A certificate with an RSA-8192 key has under 4 KiB.
pub const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// id-kp-ipsecIKE (RFC 4945 section 5.1.3.12).
pub(super) const EKU_IPSEC_IKE: &str = "1.3.6.1.5.5.7.3.17";

/// The certificates of a file, PEM or one in DER.
pub(super) fn certificates(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let found: Vec<_> = match is_pem(file) {
        true => CertificateDer::pem_slice_iter(file).collect::<Result<_, _>>().map_err(pem_error)?,
        false => vec![CertificateDer::from(file.to_vec())],
    };
    if found.is_empty() || file.is_empty() {
        return Err(LoadError::NoCertificate);
    }
    for der in &found {
        parse(der).map_err(|error| LoadError::MalformedCertificate(error.to_string()))?;
    }
    Ok(found)
}

/// DER begins with a SEQUENCE; whatever else is text, or meant as such.
pub(super) fn is_pem(file: &[u8]) -> bool {
    file.first() != Some(&0x30)
}

pub(super) fn pem_error(error: rustls_pki_types::pem::Error) -> LoadError {
    LoadError::Pem(super::printable::Printable(&error.to_string()).to_string())
}

pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateError::Malformed("bytes follow it".into())),
        Err(_) => Err(CertificateError::Malformed("it is no X.509 certificate in DER".into())),
    }
}

/// The subject in words; of a certificate without one, the first of its other names.
pub(super) fn subject(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject();
    match name.iter_attributes().next() {
        Some(_) => format!("\"{}\"", dn::Text(name.as_raw())),
        None => names::identities(certificate).first().map_or("(without a name)".into(), Identity::to_string),
    }
}

pub(super) fn issuer(certificate: &X509Certificate<'_>) -> String {
    format!("\"{}\"", dn::Text(certificate.issuer().as_raw()))
}

pub(super) fn validity(certificate: &X509Certificate<'_>) -> (Date, Date) {
    let date = |time: &ASN1Time| Date(u64::try_from(time.timestamp()).unwrap_or(0));
    (date(&certificate.validity().not_before), date(&certificate.validity().not_after))
}

pub(super) fn check_validity(certificate: &X509Certificate<'_>, now: Date) -> Result<(), CertificateError> {
    let (from, until) = validity(certificate);
    if now < from {
        return Err(CertificateError::NotYetValid { subject: subject(certificate), from });
    }
    if now > until {
        return Err(CertificateError::Expired { subject: subject(certificate), on: until });
    }
    Ok(())
}

/// RFC 4945 sections 5.1.3.2 and 5.1.3.12: where a key usage is given, it must allow signatures; where extended ones
/// are, IKE or any must be among them.
pub(super) fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), CertificateError> {
    let refuse = |why: String| CertificateError::KeyUsage { subject: subject(certificate), why };
    let twice = |_| CertificateError::Malformed("an extension is malformed or stands twice".into());
    if let Some(usage) = certificate.key_usage().map_err(twice)?
        && !usage.value.digital_signature()
        && !usage.value.non_repudiation()
    {
        return Err(refuse(format!("its key usage is {}, without digitalSignature", usage.value)));
    }
    match certificate.extended_key_usage().map_err(twice)? {
        Some(usage) if !usage.value.any && !usage.value.other.iter().any(|oid| oid.to_id_string() == EKU_IPSEC_IKE) => {
            Err(refuse(format!("its extended key usage has neither ipsecIKE ({EKU_IPSEC_IKE}) nor any")))
        }
        _ => Ok(()),
    }
}

/// What webpki does not look at: a key usage of an authority that does not allow it to sign certificates.
pub(super) fn check_authority_usage(certificate: &X509Certificate<'_>) -> Result<(), CertificateError> {
    match certificate.key_usage() {
        Ok(Some(usage)) if !usage.value.key_cert_sign() => Err(CertificateError::KeyUsage {
            subject: subject(certificate),
            why: format!("its key usage is {}, and it signed a certificate", usage.value),
        }),
        _ => Ok(()),
    }
}

pub(super) fn public_key<'a>(certificate: &X509Certificate<'a>) -> Result<PublicKey<'a>, CertificateError> {
    PublicKey::from_spki(&certificate.tbs_certificate.subject_pki).map_err(|error| match error {
        KeyError::RsaBits(bits) => CertificateError::RsaBits { subject: subject(certificate), bits },
        KeyError::Unsupported(kind) => CertificateError::Unusable {
            subject: subject(certificate),
            why: format!("its key is {kind}; RSA, ECDSA P-256 and P-384, and Ed25519 are supported"),
        },
    })
}

/// The SHA-1 hash by which CERTREQ names an authority (RFC 7296 section 3.7): of its SubjectPublicKeyInfo. A name, not
/// a proof, hence SHA-1 does no harm.
pub(super) fn key_hash(der: &[u8]) -> Option<[u8; 20]> {
    let certificate = parse(der).ok()?;
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate.public_key().raw);
    hash.as_ref().try_into().ok()
}
