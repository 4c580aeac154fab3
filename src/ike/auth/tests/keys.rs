//! Loading our own certificate and key.

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};

use super::super::*;
use super::pki::*;

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn load(certificates: &str, key: &str) -> Result<LocalCertificate, LoadError> {
    LocalCertificate::load(certificates.as_bytes(), key.as_bytes())
}

#[test]
fn keys_in_every_form_are_read() {
    let root = Made::self_signed(authority("root"), "p256");
    for kind in ["rsa", "p256", "p384", "ed25519"] {
        let made = root.issue(gateway(), kind);
        assert!(load(&made.pem, &made.key.serialize_pem()).is_ok(), "{kind} in PKCS#8");
    }
    // What stands in PKCS#8 behind version and algorithm is the key's own form.
    let rsa = root.issue(gateway(), "rsa");
    let pkcs1 = pem("RSA PRIVATE KEY", &rsa.key.serialize_der()[26..]);
    assert!(load(&rsa.pem, &pkcs1).is_ok(), "PKCS#1");
    let p256 = root.issue(gateway(), "p256");
    let pkcs8 = p256.key.serialize_der();
    let at = pkcs8.windows(5).position(|w| w == [2, 1, 1, 4, 32]).expect("an ECPrivateKey") - 2;
    assert!(load(&p256.pem, &pem("EC PRIVATE KEY", &pkcs8[at..])).is_ok(), "SEC1");
}

#[test]
fn the_certificate_of_the_key_is_ours_wherever_it_stands() {
    let root = Made::self_signed(authority("root"), "p256");
    let (sub, key) = (root.issue(authority("sub"), "p384"), "p256");
    let made = sub.issue(gateway(), key);
    let local = load(&format!("{}{}{}", root.pem, sub.pem, made.pem), &made.key.serialize_pem()).unwrap();
    assert_eq!(local.chain().next().unwrap(), made.der);
    assert_eq!(local.chain().count(), 3);
    assert_eq!(local.subject(), "\"C=CH, CN=gw\"");
    assert_eq!(local.key_kind(), "ECDSA P-256");
    assert_eq!(local.validity().1, Date(NOW + 86_400));
    assert!(!format!("{local:?}").contains("key"));

    assert!(local.is_asked_for(&root.trust().certificate_request()));
    assert!(local.is_asked_for(&[]), "by everybody");
    let stranger = Made::self_signed(authority("stranger"), "p256");
    assert!(!local.is_asked_for(&stranger.trust().certificate_request()));
}

#[test]
fn its_identities_are_known() {
    let root = Made::self_signed(authority("root"), "p256");
    let names = vec![
        SanType::DnsName("gw.example".try_into().unwrap()),
        SanType::Rfc822Name("ops@x.example".try_into().unwrap()),
        SanType::IpAddress("192.0.2.1".parse().unwrap()),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
        SanType::URI("https://gw.example".try_into().unwrap()),
    ];
    let local = root.issue(Wish { names, ..gateway() }, "p256").local();
    for (identity, held) in [
        ("dn:C=CH, CN=gw", true),
        ("fqdn:GW.example", true),
        ("email:ops@X.example", true),
        ("ip:192.0.2.1", true),
        ("ip:2001:db8::1", true),
        ("fqdn:gw", false),
        ("fqdn:192.0.2.1", false),
        ("dn:CN=gw", false),
        ("email:Ops@x.example", false),
    ] {
        assert_eq!(local.holds(&identity.parse().unwrap()), held, "{identity}");
    }
    assert_eq!(local.identities().len(), 5);
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let root = Made::self_signed(authority("root"), "p256");
    let (made, other) = (root.issue(gateway(), "p256"), root.issue(gateway(), "p384"));
    let key = made.key.serialize_pem();
    assert_eq!(load(&made.pem, &other.key.serialize_pem()).unwrap_err(), LoadError::Mismatch("\"C=CH, CN=gw\"".into()));
    assert_eq!(load("", &key).unwrap_err(), LoadError::NoCertificate);
    assert_eq!(load("nothing", &key).unwrap_err(), LoadError::NoCertificate);
    assert_eq!(load(&made.pem, "").unwrap_err(), LoadError::NoKey);
    assert_eq!(load(&made.pem, &made.pem).unwrap_err(), LoadError::NoKey);
    assert_eq!(load(&made.pem, &pem("ENCRYPTED PRIVATE KEY", b"x")).unwrap_err(), LoadError::EncryptedKey);
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert_eq!(load(&made.pem, legacy).unwrap_err(), LoadError::EncryptedKey);
    assert_eq!(load(&made.pem, &pem("PRIVATE KEY", b"junk")).unwrap_err(), LoadError::UnsupportedKey);
    let p521 = root.issue(gateway(), "p521");
    assert_eq!(load(&p521.pem, &p521.key.serialize_pem()).unwrap_err(), LoadError::UnsupportedKey);
    assert!(matches!(load(&pem("CERTIFICATE", b"junk"), &key), Err(LoadError::MalformedCertificate(_))));
    assert_eq!(load(&made.pem.repeat(MAX_CERTIFICATES + 1), &key).unwrap_err(), LoadError::TooMany(MAX_CERTIFICATES));
}

#[test]
fn a_certificate_that_every_peer_would_refuse_is_refused_here() {
    let root = Made::self_signed(authority("root"), "p256");
    for wish in [
        Wish { usages: vec![KeyUsagePurpose::KeyAgreement], ..gateway() },
        Wish { extended: vec![ExtendedKeyUsagePurpose::CodeSigning], ..gateway() },
    ] {
        let made = root.issue(wish, "p256");
        let refused = load(&made.pem, &made.key.serialize_pem());
        assert!(matches!(refused, Err(LoadError::Certificate(CertificateError::KeyUsage { .. }))), "{refused:?}");
    }
}

#[test]
fn rsa_of_fewer_than_2048_bits_is_refused() {
    let refused = load(include_str!("openssl/small-rsa.pem"), include_str!("openssl/small-rsa-key.pem"));
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("1024 bits") || words.contains("2048"), "{words}");
    let trust = TrustAnchors::load(&[include_bytes!("openssl/small-rsa.pem")], &[], CrlPolicy::IfPresent).unwrap();
    let der = chain::certificates(include_bytes!("openssl/small-rsa.pem")).unwrap();
    let refused =
        trust.check(&[&der[0]], &"dn:CN=small".parse().unwrap(), chain::validity(&chain::parse(&der[0]).unwrap()).0.0);
    assert_eq!(refused.unwrap_err(), CertificateError::RsaBits { subject: "\"CN=small\"".into(), bits: 1024 });
}

/// Another library's certificates and keys (`openssl/make.sh`): names in UTF8String, keys in all their forms.
#[test]
fn what_openssl_makes_is_read_and_believed() {
    use std::sync::Arc;
    for (certificate, key) in [
        (include_str!("openssl/rsa.pem"), include_str!("openssl/rsa-key.pem")),
        (include_str!("openssl/rsa.pem"), include_str!("openssl/rsa-pkcs1-key.pem")),
        (include_str!("openssl/p256.pem"), include_str!("openssl/p256-key.pem")),
        (include_str!("openssl/p256.pem"), include_str!("openssl/p256-sec1-key.pem")),
        (include_str!("openssl/ed25519.pem"), include_str!("openssl/ed25519-key.pem")),
    ] {
        let local = load(certificate, key).unwrap();
        assert!(local.holds(&"dn:C=CH, O=\"Clinic, Inc.\", CN=gw".parse().unwrap()));
        let now = local.validity().0.0;
        let anchors = TrustAnchors::load(&[include_bytes!("openssl/ca.pem")], &[], CrlPolicy::IfPresent).unwrap();
        let local = LocalAuth::Certificate(Arc::new(local));
        let proof = local.prove(PRF, OCTETS, &SIGNATURE_HASHES).unwrap();
        let certificate = chain::certificates(certificate.as_bytes()).unwrap();
        let remote = RemoteAuth::Certificate(Arc::new(anchors));
        let verdict = |identity: &str| {
            remote.verify(&proof, PRF, OCTETS, &identity.parse().unwrap(), &[(4, &certificate[0])], now)
        };
        assert_eq!(verdict("fqdn:gw.example"), Ok(()));
        assert_eq!(verdict("dn:C=CH, O=Clinic\\, Inc., CN=gw"), Ok(()));
        assert!(verdict("dn:C=CH, O=Clinic, CN=gw").is_err());
    }
}
