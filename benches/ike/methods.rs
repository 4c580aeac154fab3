//! The ways to prove who one is, with the keys and certificates for them, and the primitives that each costs a responder.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey as VerificationKey};
use ixgate::ike::auth::{CrlPolicy, LocalCertificate, TrustAnchors};
use ixgate::ike::{LocalAuth, Profile, RemoteAuth};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize, SanType,
};
use zeroize::Zeroizing;

/// Certificates are valid then.
pub const UNIX_SECS: u64 = 1_782_864_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Psk,
    Ecdsa,
    Rsa,
    PskMlKem,
}

impl Method {
    pub const ALL: [Method; 4] = [Method::Psk, Method::Ecdsa, Method::Rsa, Method::PskMlKem];

    pub fn words(self) -> &'static str {
        match self {
            Method::Psk => "psk, X25519",
            Method::Ecdsa => "ecdsa P-256, X25519",
            Method::Rsa => "rsa 2048, X25519",
            Method::PskMlKem => "pq (psk), X25519, ML-KEM-768",
        }
    }

    pub fn profile(self) -> Profile {
        if self == Method::PskMlKem { Profile::Pq } else { Profile::Modern }
    }
}

/// Everybody's credentials: a secret for all, or one authority with one key for all gateways. Names differ.
pub struct Credentials {
    method: Method,
    key: Option<KeyPair>,
    authority: Option<(Issuer<'static, KeyPair>, Arc<TrustAnchors>)>,
}

impl Credentials {
    pub fn new(method: Method) -> Self {
        let made = || match method {
            Method::Psk | Method::PskMlKem => None,
            Method::Ecdsa => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).ok(),
            Method::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).ok(),
        };
        Credentials { method, key: made(), authority: made().map(authority) }
    }

    /// How the gateway called `name` proves it.
    pub fn local(&self, name: &str) -> LocalAuth {
        let (Some(key), Some((issuer, _))) = (&self.key, &self.authority) else { return LocalAuth::Psk(secret()) };
        let mut params = params();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(key, issuer).expect("a certificate");
        let local = LocalCertificate::load(certificate.pem().as_bytes(), key.serialize_pem().as_bytes());
        LocalAuth::Certificate(Arc::new(local.expect("they belong together")))
    }

    pub fn remote(&self) -> RemoteAuth {
        match &self.authority {
            None => RemoteAuth::Psk(secret()),
            Some((_, anchors)) => RemoteAuth::Certificate(anchors.clone()),
        }
    }

    pub fn primitives(&self) -> Primitives {
        Primitives::new(self.method, self.key.as_ref())
    }
}

fn secret() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(b"correct horse battery staple".to_vec())
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let day = Duration::from_secs(86_400);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(UNIX_SECS);
    (params.not_before, params.not_after) = (now - day, now + day);
    params
}

fn authority(key: KeyPair) -> (Issuer<'static, KeyPair>, Arc<TrustAnchors>) {
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let certificate: Certificate = params.self_signed(&key).expect("a certificate");
    let anchors = TrustAnchors::load(&[certificate.pem().as_bytes()], &[], CrlPolicy::IfPresent);
    (Issuer::new(params, key), Arc::new(anchors.expect("an authority")))
}

/// The least that a responder does: one Diffie-Hellman; with certificates one signature of its own, the peer's verified and
/// that of the authority over the peer's certificate; with ML-KEM one encapsulation.
pub struct Primitives {
    their_share: Vec<u8>,
    their_encapsulation_key: Option<Vec<u8>>,
    signing: Signing,
}

enum Signing {
    Nothing,
    Ecdsa { key: EcdsaKeyPair, signature: Vec<u8> },
    Rsa { key: RsaKeyPair, pss: Vec<u8>, pkcs1: Vec<u8> },
}

/// As long as what AUTH covers, and about what a certificate covers.
const MESSAGE: [u8; 400] = [0x5a; 400];

impl Primitives {
    fn new(method: Method, key: Option<&KeyPair>) -> Self {
        let der = key.map(KeyPair::serialize_der).unwrap_or_default();
        let random = SystemRandom::new();
        let signing = match method {
            Method::Psk | Method::PskMlKem => Signing::Nothing,
            Method::Ecdsa => {
                let key = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &der).expect("a key");
                let signature = key.sign(&random, &MESSAGE).expect("signed").as_ref().to_vec();
                Signing::Ecdsa { key, signature }
            }
            Method::Rsa => {
                let key = RsaKeyPair::from_pkcs8(&der).expect("a key");
                let [mut pss, mut pkcs1] = [vec![0; 256], vec![0; 256]];
                key.sign(&signature::RSA_PSS_SHA256, &random, &MESSAGE, &mut pss).expect("signed");
                key.sign(&signature::RSA_PKCS1_SHA256, &random, &MESSAGE, &mut pkcs1).expect("signed");
                Signing::Rsa { key, pss, pkcs1 }
            }
        };
        let share = agreement::PrivateKey::generate(&X25519).and_then(|key| key.compute_public_key());
        let kem = (method == Method::PskMlKem).then(|| {
            let key = DecapsulationKey::generate(&ML_KEM_768).and_then(|key| key.encapsulation_key()).expect("a key");
            key.key_bytes().expect("its bytes").as_ref().to_vec()
        });
        Primitives { their_share: share.expect("a share").as_ref().to_vec(), their_encapsulation_key: kem, signing }
    }

    /// All of them once.
    pub fn run(&self) {
        self.exchange_keys();
        self.sign_and_verify();
    }

    fn exchange_keys(&self) {
        let ours = agreement::PrivateKey::generate(&X25519).expect("a key");
        black_box(ours.compute_public_key().expect("its public half"));
        let theirs = UnparsedPublicKey::new(&X25519, &self.their_share);
        agreement::agree(&ours, &theirs, (), |secret| Ok(black_box(secret)[0])).expect("a secret");
        if let Some(key) = &self.their_encapsulation_key {
            let key = EncapsulationKey::new(&ML_KEM_768, key).expect("a key");
            black_box(key.encapsulate().expect("a secret"));
        }
    }

    fn sign_and_verify(&self) {
        let random = SystemRandom::new();
        match &self.signing {
            Signing::Nothing => {}
            Signing::Ecdsa { key, signature } => {
                black_box(key.sign(&random, &MESSAGE).expect("signed"));
                for _ in ["AUTH", "certificate"] {
                    let public = VerificationKey::new(&signature::ECDSA_P256_SHA256_ASN1, key.public_key());
                    public.verify(&MESSAGE, signature).expect("authentic");
                }
            }
            Signing::Rsa { key, pss, pkcs1 } => {
                let mut ours = [0; 256];
                key.sign(&signature::RSA_PSS_SHA256, &random, &MESSAGE, &mut ours).expect("signed");
                black_box(ours);
                let auth = VerificationKey::new(&signature::RSA_PSS_2048_8192_SHA256, key.public_key());
                auth.verify(&MESSAGE, pss).expect("authentic");
                let certificate = VerificationKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key.public_key());
                certificate.verify(&MESSAGE, pkcs1).expect("authentic");
            }
        }
    }
}
