//! Every kind of key signs, the other side verifies; and what does not fit is refused in words.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::super::algorithm::{Algorithm, Hash};
use super::super::public_key::{KeyKind, PublicKey};
use super::super::*;
use super::pki::*;

const IDENTITY: &str = "fqdn:gw.example";

#[test]
fn every_kind_of_key_signs_and_is_verified() {
    let root = Made::self_signed(authority("root"), "p256");
    for (kind, padding, hashes, method, algorithm) in [
        ("rsa", RsaPadding::Pss, &SIGNATURE_HASHES[..], 14, Some(Algorithm::RsaPss(Hash::Sha256))),
        ("rsa", RsaPadding::Pss, &[1, 3], 14, Some(Algorithm::RsaPss(Hash::Sha384))),
        ("rsa", RsaPadding::Pss, &[4], 14, Some(Algorithm::RsaPss(Hash::Sha512))),
        ("rsa", RsaPadding::Pkcs1, &[2, 3, 4], 14, Some(Algorithm::RsaPkcs1(Hash::Sha256))),
        ("rsa", RsaPadding::Pkcs1, &[3], 14, Some(Algorithm::RsaPkcs1(Hash::Sha384))),
        ("rsa", RsaPadding::Pkcs1, &[4], 14, Some(Algorithm::RsaPkcs1(Hash::Sha512))),
        ("p256", RsaPadding::Pss, &SIGNATURE_HASHES, 14, Some(Algorithm::Ecdsa(Hash::Sha256))),
        ("p384", RsaPadding::Pss, &SIGNATURE_HASHES, 14, Some(Algorithm::Ecdsa(Hash::Sha384))),
        ("ed25519", RsaPadding::Pss, &SIGNATURE_HASHES, 14, Some(Algorithm::Ed25519)),
        // Peers without RFC 7427, or without the hash that goes with the curve.
        ("p256", RsaPadding::Pss, &[], 9, None),
        ("p256", RsaPadding::Pss, &[3], 9, None),
        ("p384", RsaPadding::Pss, &[2], 10, None),
    ] {
        let local = Arc::new(root.issue(gateway(), kind).local().with_rsa_padding(padding));
        let proof = LocalAuth::Certificate(local.clone()).prove(PRF, OCTETS, hashes).unwrap();
        assert_eq!(proof.method, method, "{kind}");
        if let Some(algorithm) = algorithm {
            assert_eq!(digital_signature(&proof.data).unwrap().0, algorithm);
        }
        assert_eq!(exchange(&local, root.trust(), IDENTITY, hashes), Ok(method), "{kind}");
    }
}

#[test]
fn without_a_common_hash_it_is_said_what_is_missing() {
    let root = Made::self_signed(authority("root"), "p256");
    for (kind, hashes, words) in [
        ("rsa", &[][..], "no RFC 7427 signatures at all"),
        ("rsa", &[1], "SHA-1"),
        ("ed25519", &[2, 3, 4], "Identity (RFC 8420)"),
    ] {
        let local = LocalAuth::Certificate(Arc::new(root.issue(gateway(), kind).local()));
        let error = local.prove(PRF, OCTETS, hashes).unwrap_err();
        assert!(matches!(error, AuthError::NoCommonHash { .. }) && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn preshared_keys_agree_or_do_not() {
    let psk = |text: &str| zeroize::Zeroizing::new(text.as_bytes().to_vec());
    let local = LocalAuth::Psk(psk("secret"));
    let Proof { method, data } = local.prove(PRF, OCTETS, &SIGNATURE_HASHES).unwrap();
    let check = |secret: &str, method, data: &[u8]| {
        let proof = Proof { method, data: data.to_vec() };
        RemoteAuth::Psk(psk(secret)).verify(&proof, PRF, OCTETS, &IDENTITY.parse().unwrap(), &[], NOW)
    };
    assert!(local.certificate_payloads().is_empty());
    assert_eq!(RemoteAuth::Psk(psk("secret")).certificate_request(), None);
    assert_eq!(format!("{local:?}{:?}", RemoteAuth::Psk(psk("secret"))), "PskPsk");
    assert_eq!(method, 2);
    assert_eq!(check("secret", 2, &data), Ok(()));
    assert_eq!(check("secret2", 2, &data), Err(AuthError::WrongPsk));
    assert_eq!(check("secret", 2, &[]), Err(AuthError::WrongPsk));
    assert!(matches!(check("secret", 14, &data), Err(AuthError::OtherMethod { theirs: "certificate", .. })));
    assert_eq!(check("secret", 13, &data), Err(AuthError::UnsupportedMethod(13)));
}

#[test]
fn a_peer_with_a_certificate_may_not_prove_itself_otherwise() {
    let root = Made::self_signed(authority("root"), "p256");
    let made = root.issue(gateway(), "p256");
    let remote = RemoteAuth::Certificate(Arc::new(root.trust()));
    let certificates = [(4, &made.der[..])];
    let check = |method, data: &[u8]| {
        let proof = Proof { method, data: data.to_vec() };
        remote.verify(&proof, PRF, OCTETS, &IDENTITY.parse().unwrap(), &certificates, NOW).unwrap_err()
    };
    assert!(matches!(check(2, b""), AuthError::OtherMethod { theirs: "preshared key", .. }));
    assert_eq!(check(1, b""), AuthError::RsaSha1);
    assert_eq!(check(12, b""), AuthError::UnsupportedMethod(12)); // NULL of RFC 7619 is 13
    assert_eq!(check(14, b""), AuthError::Malformed("it is empty"));
    assert!(matches!(check(14, &[200, 1, 2]), AuthError::Malformed(_)));
    assert_eq!(check(9, &[0; 64]), AuthError::WrongSignature);
    assert_eq!(check(9, b""), AuthError::WrongSignature);
    assert!(matches!(check(10, &[0; 96]), AuthError::KeyKind { .. }));
    let with = |algorithm: Algorithm| [&[algorithm.to_der().len() as u8], &algorithm.to_der()[..], &[1; 70]].concat();
    assert_eq!(check(14, &with(Algorithm::Ecdsa(Hash::Sha256))), AuthError::WrongSignature);
    assert!(matches!(check(14, &with(Algorithm::RsaPss(Hash::Sha256))), AuthError::KeyKind { .. }));
    let sha1 = [&[11][..], &[0x30, 9, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], &[1; 70]].concat();
    assert_eq!(check(14, &sha1), AuthError::SignatureAlgorithm("ECDSA with SHA-1".into()));
}

#[test]
fn a_signature_over_anything_else_is_wrong() {
    let root = Made::self_signed(authority("root"), "p256");
    let remote = RemoteAuth::Certificate(Arc::new(root.trust()));
    for kind in ["rsa", "p256", "p384", "ed25519"] {
        let made = root.issue(gateway(), kind);
        let local = LocalAuth::Certificate(Arc::new(made.local()));
        let mut proof = local.prove(PRF, OCTETS, &SIGNATURE_HASHES).unwrap();
        let certificates = [(4, &made.der[..])];
        let check = |octets: &[u8], proof: &Proof| {
            remote.verify(proof, PRF, octets, &IDENTITY.parse().unwrap(), &certificates, NOW)
        };
        assert_eq!(check(OCTETS, &proof), Ok(()), "{kind}");
        assert_eq!(check(&OCTETS[1..], &proof), Err(AuthError::WrongSignature), "{kind}");
        *proof.data.last_mut().unwrap() ^= 1;
        assert_eq!(check(OCTETS, &proof), Err(AuthError::WrongSignature), "{kind}");
    }
}

#[test]
fn only_certificates_themselves_are_read() {
    let root = Made::self_signed(authority("root"), "p256");
    let made = root.issue(gateway(), "p256");
    let remote = RemoteAuth::Certificate(Arc::new(root.trust()));
    let proof = LocalAuth::Certificate(Arc::new(made.local())).prove(PRF, OCTETS, &SIGNATURE_HASHES).unwrap();
    let check = |certificates: &[(u8, &[u8])]| {
        remote.verify(&proof, PRF, OCTETS, &IDENTITY.parse().unwrap(), certificates, NOW)
    };
    assert_eq!(check(&[(12, b"hash and URL"), (4, &made.der)]), Ok(()));
    assert_eq!(check(&[(12, b"hash and URL")]), Err(CertificateError::Encoding(12).into()));
    assert_eq!(check(&[]), Err(CertificateError::None.into()));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// RFC 4754 sections 8.1 and 8.2: signatures of "abc".
#[test]
fn the_ecdsa_examples_of_rfc_4754() {
    let p256 = (
        KeyKind::P256,
        "04 2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970
            6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D",
        "CB28E0999B9C7715FD0A80D8E47A77079716CBBF917DD72E97566EA1C066957C
         86FA3BB4E26CAD5BF90B7F81899256CE7594BB1EA0C89212748BFF3B3D5B0315",
    );
    let p384 = (
        KeyKind::P384,
        "04 96281BF8DD5E0525CA049C048D345D3082968D10FEDF5C5ACA0C64E6465A97EA5CE10C9DFEC21797415710721F437922
            447688BA94708EB6E2E4D59F6AB6D7EDFF9301D249FE49C33096655F5D502FAD3D383B91C5E7EDAA2B714CC99D5743CA",
        "FB017B914E29149432D8BAC29A514640B46F53DDAB2C69948084E2930F1C8F7E08E07C9C63F2D21A07DCB56A6AF56EB3
         B263A1305E057F984D38726A1B46874109F417BCA112674C528262A40A629AF1CBB9F516CE0FA7D2FF630863A00E8B9F",
    );
    for (kind, point, signature) in [p256, p384] {
        let (point, mut signature) = (hex(point), hex(signature));
        let key = PublicKey { kind, bytes: &point };
        assert_eq!(key.verify_fixed(b"abc", &signature), Some(true), "{kind}");
        assert_eq!(key.verify_fixed(b"abd", &signature), Some(false));
        signature[5] ^= 1;
        assert_eq!(key.verify_fixed(b"abc", &signature), Some(false));
    }
}

/// RFC 8032 section 7.1, test 2.
#[test]
fn the_ed25519_example_of_rfc_8032() {
    let point = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let signature = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
        085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
    let key = PublicKey { kind: KeyKind::Ed25519, bytes: &point };
    assert_eq!(key.verify(Algorithm::Ed25519, &[0x72], &signature), Some(true));
    assert_eq!(key.verify(Algorithm::Ed25519, &[0x73], &signature), Some(false));
}

proptest! {
    #[test]
    fn arbitrary_proofs_never_panic(
        method: u8,
        data in proptest::collection::vec(any::<u8>(), 0..120),
        encoding in 3u8..6,
        methods in proptest::sample::select(vec![1u8, 2, 9, 10, 14]),
    ) {
        static MADE: LazyLock<(RemoteAuth, Vec<u8>)> = LazyLock::new(|| {
            let root = Made::self_signed(authority("root"), "p256");
            (RemoteAuth::Certificate(Arc::new(root.trust())), root.issue(gateway(), "p256").der)
        });
        let (remote, der) = &*MADE;
        // As it is, and with a length before it that fits.
        let framed = [&[data.len() as u8 / 2], &data[..]].concat();
        for (method, data) in [(method, data.clone()), (methods, data), (14, framed)] {
            let proof = Proof { method, data };
            let identity = IDENTITY.parse().unwrap();
            prop_assert!(remote.verify(&proof, PRF, OCTETS, &identity, &[(encoding, der)], NOW).is_err());
        }
    }
}
