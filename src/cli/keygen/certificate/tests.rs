//! What is made is loaded and used as the appliance would.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tempfile::TempDir;

use super::super::{KeygenArgs, KeygenError, answer};
use super::Error;
use crate::crypto::Prf;
use crate::ike::auth::{CrlPolicy, Date, LocalAuth, LocalCertificate, RemoteAuth, SIGNATURE_HASHES, TrustAnchors};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    keygen: KeygenArgs,
}

const NOW: u64 = 1_782_864_000; // 2026-07-01

/// A folder in which `ca.key`, `ca.pem` and what follows are made.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().into()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// `@name` stands for a file of the folder.
    fn keygen(&self, line: &str) -> Result<String, KeygenError> {
        let words = line.split(' ').map(|word| word.strip_prefix('@').map_or(word.into(), |name| self.path(name)));
        let cli = Cli::try_parse_from(std::iter::once("keygen".to_string()).chain(words)).expect("arguments");
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        answer(&cli.keygen, &mut &b""[..], now).map(|answer| answer.output.to_string())
    }

    fn refused(&self, line: &str) -> String {
        self.keygen(line).unwrap_err().to_string()
    }

    fn ca(&self) -> &Folder {
        self.keygen("ca --name Clinic --out @ca.key").unwrap();
        self
    }

    fn local(&self, name: &str) -> LocalCertificate {
        LocalCertificate::load(&self.read(&format!("{name}.pem")), &self.read(&format!("{name}.key"))).unwrap()
    }
}

#[test]
fn what_is_issued_proves_every_identity_that_was_asked_for() {
    let folder = Folder::new();
    let ids = ["fqdn:gw.example", "email:ops@x.example", "ip:192.0.2.1", "ip:2001:db8::1", "dn:C=CH,O=Clinic,CN=gw"];
    for algorithm in ["p256", "p384", "ed25519", "rsa2048"] {
        folder.keygen(&format!("ca --name Clinic --out @ca.key --algorithm {algorithm} --force")).unwrap();
        let ids: String = ids.iter().map(|id| format!(" --id {id}")).collect();
        let line = format!("certificate --ca @ca.pem --ca-key @ca.key --out @gw.key --algorithm {algorithm} --force");
        folder.keygen(&(line + &ids)).unwrap();

        let trust = TrustAnchors::load(&[&folder.read("ca.pem")], &[], CrlPolicy::IfPresent).unwrap();
        let (remote, gateway) = (RemoteAuth::Certificate(Arc::new(trust)), folder.local("gw"));
        let certificates: Vec<Vec<u8>> = gateway.chain().map(<[u8]>::to_vec).collect();
        let certificates: Vec<(u8, &[u8])> = certificates.iter().map(|der| (4, &der[..])).collect();
        let local = LocalAuth::Certificate(Arc::new(gateway));
        let proof = local.prove(Prf::HmacSha256, b"octets", &SIGNATURE_HASHES).unwrap();
        for id in ["fqdn:gw.example", "email:ops@x.example", "ip:192.0.2.1", "ip:2001:db8::1", "dn:C=CH,O=Clinic,CN=gw"]
        {
            let id = id.parse().unwrap();
            remote.verify(&proof, Prf::HmacSha256, b"octets", &id, &certificates, NOW).unwrap();
        }
    }
}

#[test]
fn keys_are_private_and_nothing_is_replaced_unasked() {
    let folder = Folder::new();
    folder.ca();
    let mode = |name: &str| std::fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("ca.pem")), (0o600, 0o644));
    let before = (folder.read("ca.key"), folder.read("ca.pem"));
    assert!(folder.refused("ca --name Clinic --out @ca.key").contains("exists"));
    assert!(folder.refused("ca --name Clinic --out @new.key --certificate @ca.pem").contains("exists"));
    assert!(!std::path::Path::new(&folder.path("new.key")).exists(), "no key without its certificate");
    assert!(folder.refused("ca --name Clinic --out @same.pem").contains("choose two names"));
    assert_eq!((folder.read("ca.key"), folder.read("ca.pem")), before);
    folder.keygen("ca --name Clinic --out @ca.key --force").unwrap();
    assert_ne!(folder.read("ca.key"), before.0);
}

#[test]
fn the_answer_says_where_and_until_when() {
    let folder = Folder::new();
    folder.ca();
    let line = "certificate --ca @ca.pem --ca-key @ca.key --id fqdn:gw.example --out @gw.key --days 10 --json";
    let made: serde_json::Value = serde_json::from_str(&folder.keygen(line).unwrap()).unwrap();
    assert_eq!(made["private_key_file"], folder.path("gw.key"));
    assert_eq!(made["certificate_file"], folder.path("gw.pem"));
    assert_eq!(made["valid_until"], "2026-07-11 00:00:00 UTC");
    assert_eq!(made["identities"][0], "fqdn:gw.example");
    let gateway = folder.local("gw");
    assert_eq!(gateway.subject(), "\"CN=gw.example\"");
    assert_eq!(gateway.validity(), (Date(NOW - 3600), Date(NOW + 10 * 86_400)));
}

#[test]
fn nothing_outlives_its_authority() {
    let folder = Folder::new();
    folder.keygen("ca --name Clinic --out @ca.key --days 5").unwrap();
    folder.keygen("certificate --ca @ca.pem --ca-key @ca.key --id fqdn:gw.example --out @gw.key").unwrap();
    assert_eq!(folder.local("gw").validity().1, Date(NOW + 5 * 86_400));
}

#[test]
fn mistakes_are_refused_in_words() {
    let folder = Folder::new();
    folder.ca();
    folder.keygen("ca --name Other --out @other.key").unwrap();
    folder.keygen("certificate --ca @ca.pem --ca-key @ca.key --id fqdn:gw.example --out @gw.key").unwrap();
    for (authority, words) in [
        ("--ca @ca.pem --ca-key @other.key", "does not belong to the certificate"),
        ("--ca @gw.pem --ca-key @gw.key", "no authority's"),
        ("--ca @ca.key --ca-key @ca.key", "is malformed"),
        ("--ca @ca.pem --ca-key @ca.pem", "no unencrypted private key"),
        ("--ca @absent.pem --ca-key @ca.key", "cannot read"),
        ("--ca @ca.pem --ca-key @ca.key --id dn:CN=a --id dn:CN=b", "only one --id"),
        ("--ca @ca.pem --ca-key @ca.key --id dn:OU=a,OU=b", "two parts of one type"),
    ] {
        let refused = folder.refused(&format!("certificate --id fqdn:x.example --out @x.key {authority}"));
        assert!(refused.contains(words), "{authority}: {refused}");
    }
    assert!(folder.refused("ca --name dn:XY=z --out @x.key").contains("no known type"));
    assert!(folder.refused("ca --name  --out @x.key").contains("not usable"));
    let bad_id = ["keygen", "certificate", "--ca", "a", "--ca-key", "b", "--out", "c", "--id", "gw.example"];
    let error = Cli::try_parse_from(bad_id).err().expect("no kind").to_string();
    assert!(error.contains("write \"fqdn:gw.example\""), "{error}");
}

#[test]
fn an_expired_authority_issues_nothing() {
    let folder = Folder::new();
    folder.keygen("ca --name Clinic --out @ca.key --days 1").unwrap();
    let args = Cli::try_parse_from([
        "keygen",
        "certificate",
        "--ca",
        &folder.path("ca.pem"),
        "--ca-key",
        &folder.path("ca.key"),
        "--id",
        "fqdn:gw.example",
        "--out",
        &folder.path("gw.key"),
    ]);
    let later: SystemTime = UNIX_EPOCH + Duration::from_secs(NOW + 2 * 86_400);
    let refused = answer(&args.unwrap().keygen, &mut &b""[..], later);
    assert!(matches!(refused, Err(KeygenError::Certificate(Error::CaNotValid { .. }))));
}
