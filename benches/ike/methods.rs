//! The ways to prove who one is, with the keys and certificates for them, and the primitives that each costs a responder.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey as VerificationKey};
use aws_lc_rs::{digest, hmac};
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

/// The least that a responder does. Public keys: one Diffie-Hellman; with certificates one signature of its own, the peer's
/// verified and that of the authority over the peer's certificate; with ML-KEM one encapsulation. Secret keys: what RFC 7296
/// derives and seals, see [`Primitives::run_secret`].
pub struct Primitives {
    method: Method,
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
        Primitives {
            method,
            their_share: share.expect("a share").as_ref().to_vec(),
            their_encapsulation_key: kem,
            signing,
        }
    }

    /// Those of public keys once.
    pub fn run_public(&self) {
        self.exchange_keys();
        self.sign_and_verify();
    }

    /// Those of secret keys once, of the algorithms that our profiles put first: HMAC-SHA2-256 and AES-GCM-256.
    pub fn run_secret(&self) {
        // SKEYSEED, and seven keys from it: 3 x 32 and 2 x 36 bytes in blocks of 32. The IKE SA's two directions.
        derive(6);
        let [seal, open] = [aes(), aes()];
        if self.method == Method::PskMlKem {
            // IKE_INTERMEDIATE: the encapsulation key comes, the ciphertext goes; both are authenticated; new keys.
            for (key, bytes) in [(&open, 1200), (&seal, 1100)] {
                seal_one(key, bytes);
                black_box(hmac::sign(&hmac_key(), &vec![0x5a; bytes]));
            }
            derive(6);
            black_box([aes(), aes()]);
        }
        // IKE_AUTH: opened and sealed; with certificates in it. AUTH of either side covers a hash of its identity.
        let certificates = if matches!(self.signing, Signing::Nothing) { 0 } else { 700 };
        seal_one(&open, 300 + certificates);
        seal_one(&seal, 200 + certificates);
        for _ in ["initiator", "responder"] {
            black_box(hmac::sign(&hmac_key(), b"gw1.example"));
            if let Signing::Nothing = self.signing {
                black_box(hmac::sign(&hmac_key(), b"Key Pad for IKEv2"));
                black_box(hmac::sign(&hmac_key(), &MESSAGE));
            }
        }
        // KEYMAT: 2 x 36 bytes in blocks of 32. The Child SA's two directions.
        expand(3);
        black_box([aes(), aes()]);
        // NAT detection: two hashes to be checked, two of our own.
        (0..4).for_each(|_| {
            black_box(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &MESSAGE[..22]));
        });
    }

    fn exchange_keys(&self) {
        let ours = agreement::PrivateKey::generate(&X25519).expect("a key");
        black_box(ours.compute_public_key().expect("its public half"));
        let theirs = UnparsedPublicKey::new(&X25519, &self.their_share);
        agreement::agree(&ours, theirs, (), |secret| Ok(black_box(secret)[0])).expect("a secret");
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

fn hmac_key() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &MESSAGE[..32])
}

fn derive(blocks: usize) {
    black_box(hmac::sign(&hmac_key(), &MESSAGE[..32]));
    expand(blocks);
}

/// prf+: each block from the one before, two nonces and two SPIs.
fn expand(blocks: usize) {
    let key = hmac_key();
    (0..blocks).for_each(|_| {
        black_box(hmac::sign(&key, &MESSAGE[..113]));
    });
}

fn aes() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &MESSAGE[..32]).expect("32 bytes"))
}

/// Opening costs the same.
fn seal_one(key: &LessSafeKey, bytes: usize) {
    let mut message = vec![0x5a; bytes];
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let _ = black_box(key.seal_in_place_separate_tag(nonce, Aad::from(&MESSAGE[..32]), &mut message).expect("sealed"));
}
