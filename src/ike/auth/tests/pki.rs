//! Authorities, certificates and revocation lists, made on the spot. Dates are seconds since [`NOW`].

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, RsaKeySize,
    SanType, SerialNumber,
};

use super::super::*;

/// 2026-07-01 00:00:00 UTC.
pub const NOW: u64 = 1_782_864_000;
const DAY: i64 = 86_400;

/// RSA keys take long to make: one for all tests.
pub static RSA: LazyLock<String> = LazyLock::new(|| {
    KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key").serialize_pem()
});

pub fn key(kind: &str) -> KeyPair {
    match kind {
        "rsa" => KeyPair::from_pem(&RSA),
        "p256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        "p384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        "ed25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        "p521" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        other => panic!("{other}"),
    }
    .expect("a key")
}

/// What is unusual about a certificate.
#[derive(Clone)]
pub struct Wish {
    pub name: &'static str,
    pub names: Vec<SanType>,
    /// In seconds from now.
    pub valid: (i64, i64),
    pub is_ca: IsCa,
    pub usages: Vec<KeyUsagePurpose>,
    pub extended: Vec<ExtendedKeyUsagePurpose>,
    pub serial: u8,
}

pub fn gateway() -> Wish {
    Wish {
        name: "gw",
        names: vec![SanType::DnsName("gw.example".try_into().unwrap())],
        valid: (-DAY, DAY),
        is_ca: IsCa::NoCa,
        usages: vec![],
        extended: vec![],
        serial: 7,
    }
}

pub fn authority(name: &'static str) -> Wish {
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Wish { name, names: vec![], is_ca, usages, ..gateway() }
}

impl Wish {
    fn params(&self) -> CertificateParams {
        let moment = |offset: i64| {
            let seconds = NOW.checked_add_signed(offset).expect("a moment after 1970");
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (moment(self.valid.0), moment(self.valid.1));
        params.serial_number = Some(SerialNumber::from_slice(&[self.serial]));
        params.subject_alt_names = self.names.clone();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "CH");
        params.distinguished_name.push(DnType::CommonName, self.name);
        params.is_ca = self.is_ca;
        params.key_usages = self.usages.clone();
        params.extended_key_usages = self.extended.clone();
        params
    }
}

/// A certificate and its key, in PEM and DER.
pub struct Made {
    wish: Wish,
    pub key: KeyPair,
    pub pem: String,
    pub der: Vec<u8>,
}

impl Made {
    fn new(wish: Wish, key: KeyPair, certificate: rcgen::Certificate) -> Made {
        Made { wish, key, pem: certificate.pem(), der: certificate.der().to_vec() }
    }

    pub fn self_signed(wish: Wish, kind: &str) -> Made {
        let key = key(kind);
        let certificate = wish.params().self_signed(&key).expect("a certificate");
        Made::new(wish, key, certificate)
    }

    pub fn issue(&self, wish: Wish, kind: &str) -> Made {
        let key = key(kind);
        let issuer = Issuer::new(self.wish.params(), &self.key);
        let certificate = wish.params().signed_by(&key, &issuer).expect("a certificate");
        Made::new(wish, key, certificate)
    }

    /// A list that is valid from a day ago until `until`, in seconds from now.
    pub fn crl(&self, revoked: &[u8], until: i64) -> String {
        let moment = |offset: i64| {
            let seconds = NOW.checked_add_signed(offset).expect("a moment after 1970");
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: moment(-DAY),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: moment(-DAY),
            next_update: moment(until),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::new(self.wish.params(), &self.key);
        params.signed_by(&issuer).and_then(|list| list.pem()).expect("a list")
    }

    pub fn local(&self) -> LocalCertificate {
        LocalCertificate::load(self.pem.as_bytes(), self.key.serialize_pem().as_bytes()).expect("it loads")
    }

    pub fn trust(&self) -> TrustAnchors {
        trust(&[self], &[], CrlPolicy::IfPresent)
    }
}

pub fn trust(listed: &[&Made], crls: &[&str], policy: CrlPolicy) -> TrustAnchors {
    let listed: Vec<&[u8]> = listed.iter().map(|made| made.pem.as_bytes()).collect();
    let crls: Vec<&[u8]> = crls.iter().map(|crl| crl.as_bytes()).collect();
    TrustAnchors::load(&listed, &crls, policy).expect("it loads")
}

pub const OCTETS: &[u8] = b"message, nonce and prf of the identity";
pub const PRF: Prf = Prf::HmacSha256;

/// Signs as `local` and verifies with `anchors`, as one whole exchange of AUTH and CERT payloads.
pub fn exchange(
    local: &Arc<LocalCertificate>,
    anchors: TrustAnchors,
    identity: &str,
    peer_hashes: &[u16],
) -> Result<u8, AuthError> {
    let local = LocalAuth::Certificate(local.clone());
    let proof = local.prove(PRF, OCTETS, peer_hashes)?;
    let payloads = local.certificate_payloads();
    let certificates = payloads.iter().map(|payload| match payload {
        Payload::Certificate { encoding, data } => (*encoding, &data[..]),
        other => panic!("{other:?}"),
    });
    let certificates: Vec<(u8, &[u8])> = certificates.collect();
    let remote = RemoteAuth::Certificate(Arc::new(anchors));
    remote.verify(&proof, PRF, OCTETS, &identity.parse().unwrap(), &certificates, NOW).map(|()| proof.method)
}
