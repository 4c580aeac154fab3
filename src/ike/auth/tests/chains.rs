//! A peer's certificates against what we trust: every way to fail, each with its words.

use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};

use super::super::*;
use super::pki::*;

const DAY: i64 = 86_400;
const IDENTITY: &str = "fqdn:gw.example";

fn check(trust: &TrustAnchors, certificates: &[&Made]) -> Result<(), CertificateError> {
    let certificates: Vec<&[u8]> = certificates.iter().map(|made| &made.der[..]).collect();
    trust.check(&certificates, &IDENTITY.parse().unwrap(), NOW).map(|_| ())
}

fn words(trust: &TrustAnchors, certificates: &[&Made]) -> String {
    check(trust, certificates).unwrap_err().to_string()
}

fn root() -> Made {
    Made::self_signed(authority("root"), "p256")
}

#[test]
fn a_chain_leads_to_the_root_in_any_order() {
    let root = root();
    let (one, trust) = (root.issue(authority("one"), "rsa"), root.trust());
    let two = one.issue(authority("two"), "ed25519");
    let made = two.issue(gateway(), "p384");
    for others in [[&one, &two, &root], [&root, &two, &one]] {
        let chain = [&[&made], &others[..]].concat();
        assert_eq!(check(&trust, &chain), Ok(()));
    }
    assert_eq!(check(&one.trust(), &[&made, &two]), Ok(()), "an intermediate can be the anchor");
}

#[test]
fn a_missing_intermediate_is_named() {
    let root = root();
    let one = root.issue(authority("one"), "p256");
    let two = one.issue(authority("two"), "p256");
    let made = two.issue(gateway(), "p256");
    let untrusted = |subject: &str, issuer: &str| {
        let quoted = |name: &str| format!("\"C=CH, CN={name}\"");
        Err(CertificateError::UntrustedIssuer { subject: quoted(subject), issuer: quoted(issuer) })
    };
    assert_eq!(check(&root.trust(), &[&made]), untrusted("gw", "two"));
    assert_eq!(check(&root.trust(), &[&made, &two]), untrusted("two", "one"));
    let stranger = Made::self_signed(authority("stranger"), "p256");
    assert_eq!(check(&stranger.trust(), &[&made, &one, &two]), untrusted("one", "root"));
}

#[test]
fn an_authority_of_the_same_name_with_another_key_vouches_for_nothing() {
    let (root, impostor) = (root(), root());
    let refused = check(&root.trust(), &[&impostor.issue(gateway(), "p256")]);
    assert!(matches!(refused, Err(CertificateError::WrongIssuerSignature { .. })), "{refused:?}");
}

#[test]
fn dates_are_held_and_named() {
    let root = root();
    let expired = root.issue(Wish { valid: (-2 * DAY, -DAY), ..gateway() }, "p256");
    assert!(words(&root.trust(), &[&expired]).contains("\"C=CH, CN=gw\" expired on 2026-06-30 00:00:00 UTC"));
    let early = root.issue(Wish { valid: (DAY, 2 * DAY), ..gateway() }, "p256");
    assert!(words(&root.trust(), &[&early]).contains("not valid before 2026-07-02 00:00:00 UTC"));

    let one = root.issue(Wish { valid: (-3 * DAY, -2 * DAY), ..authority("one") }, "p256");
    let below = one.issue(gateway(), "p256");
    assert!(words(&root.trust(), &[&below, &one]).contains("\"C=CH, CN=one\" expired on 2026-06-29"));
    let last_second = root.issue(Wish { valid: (0, 0), ..gateway() }, "p256");
    assert_eq!(check(&root.trust(), &[&last_second]), Ok(()));
}

#[test]
fn the_identity_must_be_in_the_certificate() {
    let root = root();
    let made = root.issue(gateway(), "p256");
    let ask = |identity: &str| root.trust().check(&[&made.der], &identity.parse().unwrap(), NOW).map(|_| ());
    for held in ["fqdn:gw.example", "fqdn:GW.EXAMPLE", "dn:C=CH, CN=gw"] {
        assert_eq!(ask(held), Ok(()));
    }
    for absent in ["fqdn:gw", "fqdn:other.example", "email:gw@gw.example", "ip:192.0.2.1", "dn:CN=gw"] {
        let error = ask(absent).unwrap_err().to_string();
        assert!(error.contains(absent) && error.contains("dn:C=CH, CN=gw, fqdn:gw.example"), "{error}");
    }
}

#[test]
fn key_usages_are_held() {
    let root = root();
    let ipsec_ike = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17]);
    let usage = |usages: &[KeyUsagePurpose], extended: &[ExtendedKeyUsagePurpose]| {
        let wish = Wish { usages: usages.to_vec(), extended: extended.to_vec(), ..gateway() };
        check(&root.trust(), &[&root.issue(wish, "p256")])
    };
    use ExtendedKeyUsagePurpose::{Any, ServerAuth};
    use KeyUsagePurpose::{ContentCommitment, DigitalSignature, KeyAgreement};
    assert_eq!(usage(&[DigitalSignature], &[]), Ok(()));
    assert_eq!(usage(&[ContentCommitment], &[]), Ok(()));
    assert_eq!(usage(&[], &[ServerAuth, ipsec_ike]), Ok(()));
    assert_eq!(usage(&[], &[Any]), Ok(()));
    assert!(usage(&[KeyAgreement], &[]).unwrap_err().to_string().contains("without digitalSignature"));
    assert!(usage(&[], &[ServerAuth]).unwrap_err().to_string().contains("neither ipsecIKE"));
}

#[test]
fn authorities_may_issue_only_what_they_may() {
    let root = root();
    let below = |wish: Wish| {
        let one = root.issue(wish, "p256");
        let made = one.issue(gateway(), "p256");
        words(&root.trust(), &[&made, &one])
    };
    let no_ca = below(Wish { is_ca: IsCa::NoCa, usages: vec![], ..authority("one") });
    assert!(no_ca.contains("CA:TRUE is missing"), "{no_ca}");
    let no_sign = below(Wish { usages: vec![KeyUsagePurpose::DigitalSignature], ..authority("one") });
    assert!(no_sign.contains("it signed a certificate"), "{no_sign}");
    let web = below(Wish { extended: vec![ExtendedKeyUsagePurpose::ServerAuth], ..authority("one") });
    assert!(web.contains("an authority's extended key usage"), "{web}");

    let short = Wish { is_ca: IsCa::Ca(BasicConstraints::Constrained(0)), ..authority("one") };
    let one = root.issue(short, "p256");
    let two = one.issue(authority("two"), "p256");
    let refused = check(&root.trust(), &[&two.issue(gateway(), "p256"), &two, &one]);
    assert!(matches!(refused, Err(CertificateError::ChainTooLong(_))), "{refused:?}");
}

#[test]
fn revocation_lists_are_heeded() {
    let root = root();
    let (made, seven, other) = (root.issue(gateway(), "p256"), root.crl(&[7], DAY), root.crl(&[8], DAY));
    let with = |crls: &[&str], policy| check(&trust(&[&root], crls, policy), &[&made]);
    for policy in [CrlPolicy::IfPresent, CrlPolicy::Require] {
        assert_eq!(with(&[&seven], policy), Err(CertificateError::Revoked("\"C=CH, CN=gw\"".into())));
        assert_eq!(with(&[&other], policy), Ok(()));
    }
    let no_list = Err(CertificateError::NoCrl("\"C=CH, CN=gw\"".into()));
    assert_eq!(with(&[], CrlPolicy::Require), no_list);
    assert_eq!(with(&[], CrlPolicy::IfPresent), Ok(()));
    let foreign = Made::self_signed(authority("foreign"), "p256").crl(&[7], DAY);
    assert_eq!(with(&[&foreign], CrlPolicy::Require), no_list);
    assert_eq!(with(&[&foreign], CrlPolicy::IfPresent), Ok(()));
}

#[test]
fn an_expired_list_still_revokes_but_no_longer_suffices() {
    let root = root();
    let (made, seven, other) = (root.issue(gateway(), "p256"), root.crl(&[7], -60), root.crl(&[8], -60));
    let with = |crl: &str, policy| check(&trust(&[&root], &[crl], policy), &[&made]);
    assert!(matches!(with(&seven, CrlPolicy::IfPresent), Err(CertificateError::Revoked(_))));
    assert_eq!(with(&other, CrlPolicy::IfPresent), Ok(()));
    let expired = with(&other, CrlPolicy::Require).unwrap_err();
    assert!(expired.to_string().contains("expired on 2026-06-30 23:59:00 UTC"), "{expired}");
}

#[test]
fn a_revoked_authority_takes_its_certificates_along() {
    let root = root();
    let one = root.issue(Wish { serial: 9, ..authority("one") }, "p256");
    let (made, crl) = (one.issue(gateway(), "p256"), root.crl(&[9], DAY));
    let refused = check(&trust(&[&root], &[&crl], CrlPolicy::IfPresent), &[&made, &one]);
    assert!(matches!(refused, Err(CertificateError::Revoked(_))), "{refused:?}");
}

#[test]
fn pinned_certificates_need_no_authority_but_everything_else() {
    let openssl_like = Wish { is_ca: IsCa::Ca(BasicConstraints::Unconstrained), ..gateway() };
    for wish in [gateway(), openssl_like] {
        let made = Made::self_signed(wish, "p256");
        let local = Arc::new(made.local());
        assert_eq!(exchange(&local, made.trust(), IDENTITY, &SIGNATURE_HASHES), Ok(14));
        assert!(check(&root().trust(), &[&made]).is_err(), "not pinned");
        let other = exchange(&local, made.trust(), "fqdn:other.example", &SIGNATURE_HASHES);
        assert!(matches!(other, Err(AuthError::Certificate(CertificateError::IdentityMissing { .. }))));
    }
    let expired = Made::self_signed(Wish { valid: (-2 * DAY, -DAY), ..gateway() }, "p256");
    assert!(matches!(check(&expired.trust(), &[&expired]), Err(CertificateError::Expired { .. })));
}

#[test]
fn a_pinned_certificate_that_is_no_authority_vouches_for_no_other() {
    let pinned = Made::self_signed(gateway(), "p256");
    let issued = pinned.issue(Wish { serial: 8, ..gateway() }, "p256");
    assert!(pinned.trust().certificate_request().is_empty());
    let refused = check(&pinned.trust(), &[&issued]);
    assert!(matches!(refused, Err(CertificateError::UntrustedIssuer { .. })), "{refused:?}");
}

#[test]
fn what_a_peer_may_send_is_bounded() {
    let root = root();
    let made = root.issue(gateway(), "p256");
    let times = |count: usize| check(&root.trust(), &vec![&made; count]);
    assert_eq!(times(0), Err(CertificateError::None));
    assert_eq!(times(MAX_CERTIFICATES), Ok(()));
    assert_eq!(times(MAX_CERTIFICATES + 1), Err(CertificateError::TooMany(MAX_CERTIFICATES + 1)));
    let large = vec![0; MAX_CHAIN_BYTES];
    let refused = root.trust().check(&[&made.der, &large], &IDENTITY.parse().unwrap(), NOW);
    assert_eq!(refused.unwrap_err(), CertificateError::TooLarge(MAX_CHAIN_BYTES + made.der.len()));
}

#[test]
fn the_list_of_authorities_is_bounded_and_checked() {
    let root = root();
    let load = |file: &[u8], crls: &[&[u8]]| TrustAnchors::load(&[file], crls, CrlPolicy::IfPresent);
    assert!(load(root.pem.repeat(64).as_bytes(), &[]).is_ok());
    assert_eq!(load(root.pem.repeat(65).as_bytes(), &[]).unwrap_err(), LoadError::TooMany(64));
    assert_eq!(load(&root.der, &[]).unwrap().subjects(), ["\"C=CH, CN=root\""]);
    assert_eq!(load(b"", &[]).unwrap_err(), LoadError::NoCertificate);
    assert_eq!(TrustAnchors::load(&[], &[], CrlPolicy::Require).unwrap_err(), LoadError::NoCertificate);
    assert!(matches!(load(&[0x30, 0], &[]), Err(LoadError::MalformedCertificate(_))));
    assert_eq!(load(&root.der, &[root.pem.as_bytes()]).unwrap_err(), LoadError::NoCrl);
    assert!(matches!(load(&root.der, &[&[0x30, 0]]), Err(LoadError::MalformedCrl(_))));
}

/// RFC 7296 section 3.7: SHA-1 over the SubjectPublicKeyInfo, here of the key itself and not of the certificate.
#[test]
fn authorities_are_asked_for_by_the_hash_of_their_key() {
    use aws_lc_rs::digest;
    use rcgen::PublicKeyData;
    let (one, two) = (root(), Made::self_signed(authority("two"), "rsa"));
    let hash = |made: &Made| {
        let spki = made.key.subject_public_key_info();
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &spki).as_ref().to_vec()
    };
    let trust = trust(&[&one, &two], &[], CrlPolicy::IfPresent);
    assert_eq!(trust.certificate_request(), [hash(&one), hash(&two)].concat());
}

proptest! {
    #[test]
    fn arbitrary_certificates_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        at in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        static MADE: std::sync::LazyLock<(Made, Made)> = std::sync::LazyLock::new(|| {
            let root = root();
            let made = root.issue(gateway(), "p256");
            (root, made)
        });
        let (root, made) = &*MADE;
        let mut broken = made.der.clone();
        for (index, byte) in at {
            let index = index.index(broken.len());
            broken[index] = byte;
        }
        let changed = broken != made.der;
        for own in [&bytes, &broken] {
            let refused = root.trust().check(&[own, &bytes], &IDENTITY.parse().unwrap(), NOW);
            if let Err(error) = refused {
                prop_assert!(!error.to_string().chars().any(char::is_control));
            } else {
                prop_assert!(!changed);
            }
            // Pinned, it is read further than webpki lets a stranger's come.
            if let Ok(trust) = TrustAnchors::load(&[own], &[&bytes], CrlPolicy::IfPresent) {
                let _ = trust.check(&[own], &IDENTITY.parse().unwrap(), NOW);
            }
            if let Ok(trust) = TrustAnchors::load(&[own], &[], CrlPolicy::IfPresent) {
                let _ = trust.check(&[own], &IDENTITY.parse().unwrap(), NOW);
            }
        }
    }
}
