//! `ixgate keygen`: WireGuard keys, preshared keys, and certificates for IPsec with an authority to issue them.
//!
//! A private key goes into a file of mode 0600 that must not exist yet, or to standard output and nowhere else. Standard
//! output carries one key and nothing else, so that scripts can take it; words for people go to standard error:
//!
//! ```text
//! keygen wireguard                private key      and on standard error the public key
//! keygen wireguard --out FILE     public key       and on standard error where the private key is
//! keygen wireguard --public FILE  public key
//! keygen psk                      preshared key    (with --out FILE: nothing, and on standard error where it is)
//! keygen tsig                     secret of a name server's key (with --out FILE: nothing, as psk)
//! keygen ca | certificate --out FILE               (nothing: on standard error where private key and certificate are)
//! ```
//!
//! A preshared key comes as `0s` and base64, which ixgate and strongSwan read as 32 bytes for IPsec; with `--wireguard`
//! it comes bare, as `wg` wants it.

mod certificate;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Subcommand};
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::io::secret_file::{SECRET, make_folder, write_new};
use crate::wireguard;

/// A key file holds 44 characters and a newline; more than this is something else.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// The mode of files that everybody may read.
const PUBLIC_FILE: u32 = 0o644;

const PSK_HELP: &str = "\
Example:
  ixgate keygen psk --out secrets/hospital-b.psk

Then name the file in the peer's attachment (psk_file = \"secrets/hospital-b.psk\"), and bring its
one line to the other side by a way that nobody else reads. strongSwan takes it as it is:
secret = 0s...";

const TSIG_HELP: &str = "\
Example:
  ixgate keygen tsig --out secrets/axfr.tsig

Then name the file in a [[dns.transfer.key]] (secret_file = \"secrets/axfr.tsig\"), and bring its one line to
the name server by a way that nobody else reads. BIND takes it as it is:
key \"axfr-key\" { algorithm hmac-sha256; secret \"...\"; };";

/// Make keys and certificates.
#[derive(Args, Debug)]
pub struct KeygenArgs {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Subcommand, Debug)]
enum Kind {
    /// A WireGuard private key, and the public key that belongs to it.
    Wireguard(WireguardArgs),
    /// A preshared key, the same for both sides of one tunnel: 256 random bits.
    Psk(PskArgs),
    /// The secret of a key for zone transfers (TSIG), the same for both sides: 256 random bits in base64.
    Tsig(TsigArgs),
    Ca(certificate::CaArgs),
    Certificate(certificate::CertificateArgs),
}

#[derive(Args, Debug)]
struct WireguardArgs {
    /// Print the public key of the private key in this file ("-": standard input), and make no key.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["out", "force"])]
    public: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = PSK_HELP)]
struct PskArgs {
    /// In the form that WireGuard wants (bare base64) instead of the one for IPsec ("0s" and base64).
    #[arg(long)]
    wireguard: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
#[command(after_help = TSIG_HELP)]
struct TsigArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(Args, Debug)]
struct Target {
    /// Write the key to this new file, mode 0600, instead of standard output. Its folder is made if need be.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it exists. The key in it is lost.
    #[arg(long, requires = "out")]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Error)]
pub enum KeygenError {
    #[error("{} exists. Its key would be lost: choose another name, or say --force if that is meant.", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} holds no WireGuard key: expected 32 bytes in base64 (44 characters ending in \"=\").", .0.display())]
    NoKey(PathBuf),
    #[error("the system gives no random numbers; a key made now would be guessable.")]
    NoRandomness,
    #[error("cannot print: {0}")]
    Print(io::Error),
    #[error("{0}")]
    Certificate(#[from] certificate::Error),
}

type Key = Zeroizing<[u8; 32]>;
type Text = Zeroizing<String>;

/// What goes to standard output and what to standard error.
#[derive(Debug)]
struct Answer {
    output: Text,
    remark: String,
}

/// Exit codes: 0 done, 1 not done (said on standard error).
pub fn run(args: &KeygenArgs) -> ExitCode {
    match answer(args, &mut io::stdin().lock(), SystemTime::now()).and_then(|answer| print(&answer)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ixgate keygen: {error}");
            ExitCode::from(1)
        }
    }
}

fn answer(args: &KeygenArgs, stdin: &mut dyn Read, now: SystemTime) -> Result<Answer, KeygenError> {
    match &args.kind {
        Kind::Wireguard(WireguardArgs { public: Some(file), target }) => {
            let public = encode(&wireguard::public_key(&*read_key(file, stdin)?));
            Ok(target.answer(json!({ "public_key": *public }), &public, String::new()))
        }
        Kind::Wireguard(WireguardArgs { public: None, target }) => make_wireguard(target),
        Kind::Psk(PskArgs { wireguard, target }) => make_psk(target, *wireguard),
        Kind::Tsig(TsigArgs { target }) => make_tsig(target),
        Kind::Ca(args) => certificate::make_ca(args, now),
        Kind::Certificate(args) => certificate::make_certificate(args, now),
    }
}

fn make_wireguard(target: &Target) -> Result<Answer, KeygenError> {
    let key = random_key()?;
    let (private, public) = (encode(&key), encode(&wireguard::public_key(&key)));
    let Some(file) = &target.out else {
        let json = json!({ "private_key": *private, "public_key": *public });
        return Ok(target.answer(json, &private, format!("public key: {}\n", *public)));
    };
    write_file(file, &private, SECRET, target.force)?;
    let json = json!({ "private_key_file": file.display().to_string(), "public_key": *public });
    Ok(target.answer(json, &public, format!("private key in {}; its public key:\n", file.display())))
}

fn make_psk(target: &Target, wireguard: bool) -> Result<Answer, KeygenError> {
    let bare = encode(&*random_key()?);
    let key = if wireguard { bare } else { Text::new(format!("0s{}", *bare)) };
    let Some(file) = &target.out else {
        return Ok(target.answer(json!({ "preshared_key": *key }), &key, String::new()));
    };
    write_file(file, &key, SECRET, target.force)?;
    let json = json!({ "preshared_key_file": file.display().to_string() });
    Ok(target.answer(json, "", format!("preshared key in {}\n", file.display())))
}

fn make_tsig(target: &Target) -> Result<Answer, KeygenError> {
    let secret = encode(&*random_key()?);
    let Some(file) = &target.out else {
        return Ok(target.answer(json!({ "secret": *secret }), &secret, String::new()));
    };
    write_file(file, &secret, SECRET, target.force)?;
    let json = json!({ "secret_file": file.display().to_string() });
    Ok(target.answer(json, "", format!("TSIG secret in {}\n", file.display())))
}

impl Target {
    /// In JSON everything is in the output, and nothing needs a remark.
    fn answer(&self, json: serde_json::Value, key: &str, remark: String) -> Answer {
        match (self.json, key) {
            (true, _) => Answer { output: Text::new(format!("{json}\n")), remark: String::new() },
            (false, "") => Answer { output: Text::default(), remark },
            (false, key) => Answer { output: Text::new(format!("{key}\n")), remark },
        }
    }
}

fn random_key() -> Result<Key, KeygenError> {
    let mut key = Key::default();
    SystemRandom::new().fill(key.as_mut_slice()).map_err(|_| KeygenError::NoRandomness)?;
    Ok(key)
}

fn encode(key: &[u8; 32]) -> Text {
    Text::new(BASE64.encode(key))
}

fn decode(text: &str) -> Option<Key> {
    let mut key = Key::default();
    // Room for what a wrong text decodes to, so that the length can be seen.
    let mut bytes = Zeroizing::new([0; 64]);
    let len = BASE64.decode_slice(text.trim(), bytes.as_mut_slice()).ok()?;
    if len != key.len() {
        return None;
    }
    key.copy_from_slice(&bytes[..len]);
    Some(key)
}

fn read_key(file: &Path, stdin: &mut dyn Read) -> Result<Key, KeygenError> {
    let read = |from: &mut dyn Read| {
        let mut text = Text::default();
        from.take(MAX_KEY_FILE_BYTES).read_to_string(&mut text).map(|_| text)
    };
    let text = match file == Path::new("-") {
        true => read(stdin),
        false => File::open(file).and_then(|mut file| read(&mut file)),
    };
    match text {
        Ok(text) => decode(&text).ok_or_else(|| KeygenError::NoKey(file.into())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(KeygenError::NoKey(file.into())),
        Err(source) => Err(KeygenError::Read { path: file.into(), source }),
    }
}

/// With `force`, a new file takes the old one's place at once, so that no moment leaves the name without a whole key.
fn write_file(path: &Path, text: &str, mode: u32, force: bool) -> Result<(), KeygenError> {
    let failed = |source: io::Error| KeygenError::Write { path: path.into(), source };
    make_folder(path).map_err(failed)?;
    if !force {
        return write_new(path, text, mode).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeygenError::Exists(path.into()),
            _ => failed(error),
        });
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let beside = path.with_file_name(name);
    write_new(&beside, text, mode).and_then(|()| std::fs::rename(&beside, path)).map_err(|error| {
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = std::fs::remove_file(&beside);
        }
        KeygenError::Write { path: beside.clone(), source: error }
    })
}

fn print(answer: &Answer) -> Result<(), KeygenError> {
    eprint!("{}", answer.remark);
    let mut stdout = io::stdout().lock();
    stdout.write_all(answer.output.as_bytes()).and_then(|()| stdout.flush()).map_err(KeygenError::Print)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        keygen: KeygenArgs,
    }

    fn keygen(args: &[&str], stdin: &str) -> Result<String, KeygenError> {
        let cli = Cli::try_parse_from([&["keygen"], args].concat()).expect("arguments");
        answer(&cli.keygen, &mut stdin.as_bytes(), SystemTime::now()).map(|answer| answer.output.to_string())
    }

    fn json(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    // RFC 7748 section 6.1, Alice.
    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    #[test]
    fn the_public_key_of_a_known_private_key() {
        assert_eq!(keygen(&["wireguard", "--public", "-"], &format!(" {PRIVATE}\n")).unwrap(), format!("{PUBLIC}\n"));
        assert_eq!(json(&keygen(&["wireguard", "--public", "-", "--json"], PRIVATE).unwrap())["public_key"], PUBLIC);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "A".repeat(5000);
        for text in ["", "not base64!", &PRIVATE[..40], &long, &BASE64.encode([1; 33]), &BASE64.encode([1; 31])] {
            let refused = keygen(&["wireguard", "--public", "-"], text);
            assert!(matches!(refused, Err(KeygenError::NoKey(_))), "{text}: {refused:?}");
        }
        let absent = keygen(&["wireguard", "--public", "/nonexistent/key"], "");
        assert!(matches!(absent, Err(KeygenError::Read { .. })));
    }

    #[test]
    fn a_key_file_is_private_new_and_matches_the_public_key_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("wg.key");
        let name = file.to_str().unwrap();
        let made = json(&keygen(&["wireguard", "--out", name, "--json"], "").unwrap());
        assert_eq!(made["private_key_file"], name);
        assert_eq!(made.get("private_key"), None, "not on standard output as well");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let public = keygen(&["wireguard", "--public", name], "").unwrap();
        assert_eq!(made["public_key"], public.trim());

        let before = std::fs::read(&file).unwrap();
        for again in [&["wireguard", "--out", name][..], &["psk", "--out", name]] {
            assert!(matches!(keygen(again, ""), Err(KeygenError::Exists(_))));
        }
        assert_eq!(std::fs::read(&file).unwrap(), before);
        keygen(&["wireguard", "--out", name, "--force"], "").unwrap();
        assert_ne!(std::fs::read(&file).unwrap(), before);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn without_a_file_the_key_is_printed() {
        let made = json(&keygen(&["wireguard", "--json"], "").unwrap());
        let public = keygen(&["wireguard", "--public", "-"], made["private_key"].as_str().unwrap()).unwrap();
        assert_eq!(made["public_key"], public.trim());
        let bare = keygen(&["wireguard"], "").unwrap();
        assert!(decode(&bare).is_some(), "one key and nothing else");
        let psk = keygen(&["psk"], "").unwrap();
        assert!(psk.strip_prefix("0s").and_then(decode).is_some(), "{psk}");
        assert_ne!(psk, keygen(&["psk"], "").unwrap());
        assert!(decode(&keygen(&["psk", "--wireguard"], "").unwrap()).is_some());
    }

    #[test]
    fn a_preshared_key_is_read_as_256_bits_for_ipsec() {
        let psk = keygen(&["psk"], "").unwrap();
        assert_eq!(crate::config::secrets::decode_shared_key(psk.as_bytes()).unwrap().len(), 32);
    }

    #[test]
    fn a_tsig_secret_is_read_as_256_bits() {
        let secret = keygen(&["tsig"], "").unwrap();
        assert_eq!(crate::config::secrets::decode_tsig_secret(secret.as_bytes()).unwrap().len(), 32);
    }

    #[test]
    fn contradicting_arguments_are_refused() {
        for args in [&["keygen", "wireguard", "--public", "f", "--out", "g"][..], &["keygen", "psk", "--force"]] {
            assert!(Cli::try_parse_from(args).is_err(), "{args:?}");
        }
    }
}
