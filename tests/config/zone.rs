//! The internal zone: whether it is signed, and who may fetch it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use ixgate::config::model::{TransferView, TsigAlgorithm};

use super::*;

fn pem(algorithm: &'static EcdsaSigningAlgorithm) -> String {
    let der = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

fn parse_with(files: &[(&str, String)], text: &str) -> Result<Loaded, Report> {
    let mut secrets = secrets();
    for (name, content) in files {
        secrets.insert(format!("/etc/ixgate/{name}"), content.clone());
    }
    config::parse(text, Path::new(FILE), &secrets)
}

fn transfer(keys: &str) -> String {
    format!("{}[dns.transfer]\nlisten = \"127.0.0.1:5353\"\n{keys}", realm("a", "\"10.0.0.0/16\""))
}

fn transfer_key(name: &str, file: &str, view: &str) -> String {
    format!("[[dns.transfer.key]]\nname = \"{name}\"\nsecret_file = \"{file}\"\nview = \"{view}\"\n")
}

#[test]
fn a_zone_is_signed_when_the_file_says_so() {
    assert_eq!(parse("[dns]\n").unwrap().config.dns.dnssec, None);
    let dnssec = parse("[dns]\ndnssec = true\n").unwrap().config.dns.dnssec.unwrap();
    assert_eq!((dnssec.key_file, dnssec.key), ("/etc/ixgate/state/dnssec.key".into(), None));
    let text = "[dns]\ndnssec = true\ndnssec_key_file = \"zone.key\"\n";
    let dnssec = parse(text).unwrap().config.dns.dnssec.unwrap();
    assert_eq!((dnssec.key_file, dnssec.key), ("/etc/ixgate/zone.key".into(), None), "made at the start");
    let good = parse_with(&[("zone.key", pem(&ECDSA_P256_SHA256_FIXED_SIGNING))], text).unwrap();
    assert!(good.config.dns.dnssec.unwrap().key.is_some());
    for bad in [pem(&ECDSA_P384_SHA384_FIXED_SIGNING), "AAAA".to_owned(), String::new()] {
        let report = parse_with(&[("zone.key", bad)], text).unwrap_err();
        assert_eq!(places(&report), ["3:19 \"zone.key\": /etc/ixgate/zone.key cannot sign the zone"]);
    }
    let unused = parse("[dns]\ndnssec_key_file = \"zone.key\"\n").unwrap();
    assert_eq!(places(unused.report()), ["2:19 warning \"zone.key\": this key signs nothing"]);
    assert_eq!(unused.config.dns.dnssec, None);
}

#[test]
fn keys_say_who_fetches_the_zone_and_as_whom() {
    let text = transfer(
        &(transfer_key("one", "our.key", "a")
            + &transfer_key("two.example", "our.key", "canonical")
            + "algorithm = \"hmac-sha512\"\n"),
    );
    let config = parse(&text).unwrap_or_else(|report| panic!("{report}")).config;
    let transfer = config.dns.transfer.unwrap();
    assert_eq!(transfer.listen, "127.0.0.1:5353".parse().unwrap());
    let [one, two] = &transfer.keys[..] else { panic!("{transfer:?}") };
    assert_eq!(
        (one.name.as_str(), one.algorithm, one.view),
        ("one", TsigAlgorithm::HmacSha256, TransferView::Realm(RealmRef(0)))
    );
    assert_eq!((two.algorithm, two.view), (TsigAlgorithm::HmacSha512, TransferView::Canonical));
    assert_eq!(one.secret[..], PRIVATE_KEY);
    assert!(!format!("{transfer:?}").contains("66, 66"), "a secret is not shown");
}

#[test]
fn a_transfer_nobody_may_have_or_anybody_could_is_refused() {
    let key = transfer_key;
    check(&[
        (transfer(""), &["4:1 [dns.transfer]: there is no key in [dns.transfer]"]),
        (transfer("key = []\n"), &["4:1 [dns.transfer]: there is no key in [dns.transfer]"]),
        (transfer(&key("one", "our.key", "b")), &["9:8 \"b\": there is no realm `b`"]),
        (transfer(&key("One", "our.key", "a")), &["7:8 \"One\": this is no name for a key"]),
        (transfer(&key("x..y", "our.key", "a")), &["7:8 \"x..y\": this is no name for a key"]),
        (
            transfer(&(key("one", "our.key", "a") + &key("one", "our.key", "canonical"))),
            &["11:8 \"one\": a second key has this name"],
        ),
        (transfer(&key("one", "short", "a")), &["8:15 \"short\": /etc/ixgate/short does not hold a TSIG secret"]),
        (transfer(&key("one", "none", "a")), &["8:15 \"none\": cannot use a TSIG secret from /etc/ixgate/none"]),
        (
            transfer(&key("one", "our.key", "canonical")) + &realm("canonical", "\"10.0.0.0/16\""),
            &["9:8 \"canonical\": `canonical` is a realm here, and the view that is no realm's"],
        ),
        (
            transfer(&(key("one", "our.key", "a") + "algorithm = \"hmac-md5\"\n")),
            &["10:13 \"hmac-md5\": `algorithm` is none of `hmac-sha256`, `hmac-sha384`, `hmac-sha512`"],
        ),
        (
            transfer(&key("one", "our.key", "a")).replace("127.0.0.1:5353", "127.0.0.1"),
            &["5:10 \"127.0.0.1\": this is not an IP address and a port"],
        ),
    ]);
}
