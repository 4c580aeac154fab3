//! Whom we believe: authorities, revocation lists and pinned certificates, and the check of a peer's chain against them.
//!
//! The path is built and checked by webpki: signatures, validity, basic constraints, path lengths, name constraints,
//! extended key usage, revocation. What IKE asks beyond that is checked here (key usage, identity, key size), and
//! before webpki is asked, so that the common mistakes come with names and dates.
//!
//! A *pinned* certificate is one that the operator put into the list and that the peer presents itself, byte for byte:
//! self-signed ones, for instance, which webpki refuses in both roles at once. It needs no authority and no revocation
//! list (to revoke it, take it out), but must be valid, allowed to sign and hold the identity like any other. A
//! certificate in the list that is no authority can only be pinned; it vouches for no other.

use aws_lc_rs::digest;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator,
    KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, RevocationOptions, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::chain::{self, MAX_CERTIFICATES, MAX_CHAIN_BYTES};
use super::date::Date;
use super::error::{CertificateError, LoadError};
use super::identity::Identity;
use super::names;
use super::public_key::PublicKey;

/// Per peer; an operator who needs more has mistaken a folder of certificates for a list of authorities.
pub const MAX_ANCHORS: usize = 64;

/// Whether a certificate needs a valid revocation list that covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrlPolicy {
    /// What the lists at hand say is heeded, also when they have expired; a certificate that none covers is accepted.
    #[default]
    IfPresent,
    /// A certificate that no list covers, or only an expired one, is refused.
    Require,
}

/// The authorities (and pinned certificates) that may vouch for a peer.
pub struct TrustAnchors {
    anchors: Vec<TrustAnchor<'static>>,
    listed: Vec<CertificateDer<'static>>,
    subjects: Vec<String>,
    key_hashes: Vec<[u8; 20]>,
    crls: Vec<CertRevocationList<'static>>,
    policy: CrlPolicy,
    /// Of everything above: two that have the same believe the same.
    fingerprint: [u8; 32],
}

impl std::fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustAnchors").field("subjects", &self.subjects).field("policy", &self.policy).finish()
    }
}

impl TrustAnchors {
    /// From files in PEM (several to a file) or DER.
    pub fn load(certificates: &[&[u8]], crls: &[&[u8]], policy: CrlPolicy) -> Result<TrustAnchors, LoadError> {
        let mut trust = TrustAnchors {
            anchors: Vec::new(),
            listed: Vec::new(),
            subjects: Vec::new(),
            key_hashes: Vec::new(),
            crls: Vec::new(),
            policy,
            fingerprint: [0; 32],
        };
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(&[u8::from(policy == CrlPolicy::Require)]);
        for file in certificates {
            chain::certificates(file)?.into_iter().try_for_each(|der| trust.add(der))?;
        }
        for file in crls {
            digest.update(&(file.len() as u64).to_be_bytes());
            digest.update(file);
            trust.add_crls(file)?;
        }
        for der in &trust.listed {
            digest.update(der);
        }
        trust.fingerprint = digest.finish().as_ref().first_chunk().copied().unwrap_or_default();
        match trust.listed.len() {
            0 => Err(LoadError::NoCertificate),
            1..=MAX_ANCHORS => Ok(trust),
            _ => Err(LoadError::TooMany(MAX_ANCHORS)),
        }
    }

    fn add(&mut self, der: CertificateDer<'static>) -> Result<(), LoadError> {
        let malformed = |error: String| LoadError::MalformedCertificate(error);
        let certificate = chain::parse(&der).map_err(|error| malformed(error.to_string()))?;
        self.subjects.push(chain::subject(&certificate));
        if is_authority(&certificate) {
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|error| malformed(error.to_string()))?;
            self.anchors.push(anchor.to_owned());
            self.key_hashes.extend(chain::key_hash(&der));
        }
        self.listed.push(der);
        Ok(())
    }

    fn add_crls(&mut self, file: &[u8]) -> Result<(), LoadError> {
        let lists: Vec<CertificateRevocationListDer<'_>> = match chain::is_pem(file) {
            true => CertificateRevocationListDer::pem_slice_iter(file)
                .collect::<Result<_, _>>()
                .map_err(chain::pem_error)?,
            false => vec![CertificateRevocationListDer::from(file)],
        };
        if lists.is_empty() {
            return Err(LoadError::NoCrl);
        }
        for list in lists {
            let read = BorrowedCertRevocationList::from_der(&list).and_then(|list| list.to_owned());
            self.crls.push(read.map_err(|error| LoadError::MalformedCrl(error.to_string()))?.into());
        }
        Ok(())
    }

    /// What our CERTREQ payload says (encoding 4, RFC 7296 section 3.7). Pinned certificates cannot be asked for.
    pub fn certificate_request(&self) -> Vec<u8> {
        self.key_hashes.concat()
    }

    /// The certificates in the list, by subject.
    pub fn subjects(&self) -> &[String] {
        &self.subjects
    }

    /// The same authorities, lists and policy.
    pub(super) fn is_same(&self, other: &TrustAnchors) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// Checks a peer's certificates (its own first, as they came) for `identity`. Gives the key that it signs with.
    pub(super) fn check<'a>(
        &self,
        certificates: &[&'a [u8]],
        identity: &Identity,
        now_unix: u64,
    ) -> Result<PublicKey<'a>, CertificateError> {
        let (own, intermediates) = bounded(certificates)?;
        let certificate = chain::parse(own)?;
        chain::check_validity(&certificate, Date(now_unix))?;
        chain::check_usage(&certificate)?;
        let key = chain::public_key(&certificate)?;
        if !self.listed.iter().any(|listed| listed.as_ref() == own) {
            self.check_path(own, intermediates, now_unix).map_err(|error| {
                explain(
                    &error,
                    &certificate,
                    &intermediates.iter().filter_map(|der| chain::parse(der).ok()).collect::<Vec<_>>(),
                )
            })?;
        }
        check_identity(&certificate, identity)?;
        Ok(key)
    }

    fn check_path(&self, own: &[u8], intermediates: &[&[u8]], now_unix: u64) -> Result<(), PathError> {
        let own = CertificateDer::from(own);
        let intermediates: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
        let certificate = EndEntityCert::try_from(&own)?;
        let crls: Vec<&CertRevocationList<'_>> = self.crls.iter().collect();
        let path = certificate.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            &intermediates,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_unix)),
            Ike,
            self.revocation(&crls)?,
            None,
        )?;
        for authority in path.intermediate_certificates() {
            chain::check_authority_usage(&chain::parse(&authority.der())?)?;
        }
        Ok(())
    }

    fn revocation<'c>(
        &self,
        crls: &'c [&'c CertRevocationList<'c>],
    ) -> Result<Option<RevocationOptions<'c>>, PathError> {
        let Ok(options) = RevocationOptionsBuilder::new(crls) else {
            return match self.policy {
                CrlPolicy::IfPresent => Ok(None),
                CrlPolicy::Require => Err(Error::UnknownRevocationStatus.into()),
            };
        };
        let (unknown, expired) = match self.policy {
            CrlPolicy::IfPresent => (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
            CrlPolicy::Require => (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce),
        };
        Ok(Some(options.with_status_policy(unknown).with_expiration_policy(expired).build()))
    }
}

/// Basic constraints say so; X.509 v1, which has none, can only be a root of old.
fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    certificate.is_ca() || certificate.version() == X509Version::V1
}

fn bounded<'c, 'a>(certificates: &'c [&'a [u8]]) -> Result<(&'a [u8], &'c [&'a [u8]]), CertificateError> {
    let bytes = certificates.iter().map(|der| der.len()).sum();
    match certificates {
        _ if certificates.len() > MAX_CERTIFICATES => Err(CertificateError::TooMany(certificates.len())),
        _ if bytes > MAX_CHAIN_BYTES => Err(CertificateError::TooLarge(bytes)),
        [own, intermediates @ ..] => Ok((own, intermediates)),
        [] => Err(CertificateError::None),
    }
}

fn check_identity(certificate: &X509Certificate<'_>, identity: &Identity) -> Result<(), CertificateError> {
    let identities = names::identities(certificate);
    match identities.contains(identity) {
        true => Ok(()),
        false => {
            Err(CertificateError::IdentityMissing { wanted: identity.to_string(), found: names::in_words(&identities) })
        }
    }
}

/// RFC 4945 section 5.1.3.12, for every certificate of the path.
struct Ike;

/// id-kp-ipsecIKE, as contents of an OID.
const IPSEC_IKE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 17];
const IPSEC_IKE_ARCS: &[usize] = &[1, 3, 6, 1, 5, 5, 7, 3, 17];
const ANY_ARCS: &[usize] = &[2, 5, 29, 37, 0];

impl ExtendedKeyUsageValidator for Ike {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let present = purposes.map(|id| id.map(|id| id.to_decoded_oid())).collect::<Result<Vec<_>, _>>()?;
        if present.is_empty() || present.iter().any(|oid| oid == IPSEC_IKE_ARCS || oid == ANY_ARCS) {
            return Ok(());
        }
        let required = KeyUsage::required(IPSEC_IKE);
        Err(Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext { required, present }))
    }
}

/// Webpki's verdict, or ours on an authority.
enum PathError {
    Webpki(Error),
    Ours(CertificateError),
}

impl From<Error> for PathError {
    fn from(error: Error) -> PathError {
        PathError::Webpki(error)
    }
}

impl From<CertificateError> for PathError {
    fn from(error: CertificateError) -> PathError {
        PathError::Ours(error)
    }
}

/// Webpki says what is wrong, but not with which certificate: looked for among those that the peer sent.
fn explain(error: &PathError, own: &X509Certificate<'_>, others: &[X509Certificate<'_>]) -> CertificateError {
    let error = match error {
        PathError::Webpki(error) => error,
        PathError::Ours(error) => return error.clone(),
    };
    let subject = || chain::subject(own);
    let dated = |moment: &UnixTime, of: fn((Date, Date)) -> Date| {
        let date = Date(moment.as_secs());
        let one = others.iter().find(|other| of(chain::validity(other)) == date);
        (chain::subject(one.unwrap_or(own)), date)
    };
    match error {
        Error::CertExpired { not_after, .. } => {
            let (subject, on) = dated(not_after, |(_, until)| until);
            CertificateError::Expired { subject, on }
        }
        Error::CertNotValidYet { not_before, .. } => {
            let (subject, from) = dated(not_before, |(from, _)| from);
            CertificateError::NotYetValid { subject, from }
        }
        Error::UnknownIssuer => {
            let last = last_of_path(own, others);
            CertificateError::UntrustedIssuer { subject: chain::subject(last), issuer: chain::issuer(last) }
        }
        Error::InvalidSignatureForPublicKey => {
            CertificateError::WrongIssuerSignature { subject: subject(), issuer: chain::issuer(own) }
        }
        Error::CertRevoked => CertificateError::Revoked(subject()),
        Error::UnknownRevocationStatus => CertificateError::NoCrl(subject()),
        Error::CrlExpired { next_update, .. } => {
            CertificateError::CrlExpired { subject: subject(), on: Date(next_update.as_secs()) }
        }
        Error::PathLenConstraintViolated
        | Error::MaximumPathDepthExceeded
        | Error::MaximumPathBuildCallsExceeded
        | Error::MaximumSignatureChecksExceeded => CertificateError::ChainTooLong(subject()),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => CertificateError::KeyUsage {
            subject: chain::issuer(own),
            why: format!("an authority's extended key usage has neither ipsecIKE ({}) nor any", chain::EKU_IPSEC_IKE),
        },
        other => CertificateError::Unusable { subject: subject(), why: in_words(other) },
    }
}

/// Up from the peer's own certificate, as far as the ones it sent reach by name.
fn last_of_path<'c, 'a>(own: &'c X509Certificate<'a>, others: &'c [X509Certificate<'a>]) -> &'c X509Certificate<'a> {
    let mut last = own;
    for _ in 0..MAX_CERTIFICATES {
        let issuer = last.issuer().as_raw();
        match others.iter().find(|other| other.subject().as_raw() == issuer && other.issuer().as_raw() != issuer) {
            Some(next) => last = next,
            None => break,
        }
    }
    last
}

fn in_words(error: &Error) -> String {
    match error {
        Error::CaUsedAsEndEntity => "it is an authority's (CA:TRUE), which may not be a gateway's own; list it here \
                                     itself to pin it, or issue one without CA:TRUE"
            .into(),
        Error::EndEntityUsedAsCa => "its issuer is no authority (CA:TRUE is missing)".into(),
        Error::NameConstraintViolation => "an authority above it may not issue for its names (name constraints)".into(),
        Error::UnsupportedCertVersion => "it is not X.509 version 3".into(),
        Error::UnsupportedCriticalExtension => "it has a critical extension that we do not know".into(),
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it, or an authority above it, is signed by an algorithm that is not accepted (SHA-1, MD5, or an RSA key of \
             fewer than 2048 bits)"
                .into()
        }
        Error::InvalidCrlSignatureForPublicKey => "the revocation list (CRL) is not signed by its issuer".into(),
        Error::IssuerNotCrlSigner => "its issuer may not sign revocation lists (key usage cRLSign is missing)".into(),
        other => other.to_string(),
    }
}
