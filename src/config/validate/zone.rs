//! The internal zone: the key that signs it, and who may fetch it.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use zeroize::Zeroizing;

use super::globals::socket_addr;
use super::names::{Names, is_label};
use super::tunnels::{Kind, is_the_key_itself, read_secret, report_unusable};
use crate::config::certificate;
use crate::config::diagnostic::Problems;
use crate::config::model::{Dns, Dnssec, Ix, RealmRef, Transfer, TransferKey, TransferView, TsigAlgorithm};
use crate::config::raw::{self, Raw};
use crate::config::secrets::{SecretError, SecretReader, decode_tsig_secret};
use crate::config::section::At;
use crate::config::suggest;

const DEFAULT_KEY_FILE: &str = "dnssec.key";
/// The view that is no realm's.
const CANONICAL: &str = "canonical";
/// RFC 1035 section 2.3.4, without the root's dot.
const MAX_NAME_CHARS: usize = 253;
const SIGNING_KEY: Kind = Kind { what: "the key that signs the zone", make: "ixgate run" };
const TSIG_SECRET: Kind = Kind { what: "a TSIG secret", make: "ixgate keygen tsig" };

pub fn zone(
    raw: &Raw,
    names: &Names<'_>,
    ix: Option<&Ix>,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Dns> {
    let dnssec = dnssec(&raw.dns, ix, directory, secrets, problems);
    let transfer = raw.dns.transfer.as_ref().map(|raw| transfer(raw, names, directory, secrets, problems));
    Some(Dns {
        dnssec: dnssec?,
        transfer: match transfer {
            None => None,
            Some(transfer) => Some(transfer?),
        },
    })
}

fn dnssec(
    raw: &raw::Dns,
    ix: Option<&Ix>,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Option<Dnssec>> {
    let Some(flag) = raw.dnssec.as_ref().filter(|flag| flag.value) else {
        if let Some(file) = &raw.dnssec_key_file {
            problems
                .warning(&file.span, "this key signs nothing")
                .why("the zone is signed when `dnssec` is true")
                .remedy("add `dnssec = true`, or remove the key");
        }
        return Some(None);
    };
    let (key_file, span) = match &raw.dnssec_key_file {
        Some(file) if is_the_key_itself(file, problems) => return None,
        Some(file) => (directory.join(&file.value), &file.span),
        None => (ix?.state_dir.join(DEFAULT_KEY_FILE), &flag.span),
    };
    let key = match secrets.read(&key_file) {
        // It is made at the start.
        Err(SecretError::Missing) => None,
        Err(error) => {
            report_unusable(
                &At { value: key_file.display().to_string(), span: span.clone() },
                &key_file,
                &error,
                &SIGNING_KEY,
                problems,
            );
            return None;
        }
        Ok(pem) => Some(signing_key(&pem, &key_file, span, problems)?),
    };
    Some(Some(Dnssec { key_file, key }))
}

fn signing_key(pem: &[u8], path: &Path, span: &Range<usize>, problems: &mut Problems) -> Option<Zeroizing<Vec<u8>>> {
    let key =
        certificate::private_key(pem).map_err(|error| error.to_string()).and_then(
            |der| match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der) {
                Ok(_) => Ok(der),
                Err(_) => Err("it is no ECDSA P-256 key in PKCS #8 (algorithm 13)".to_owned()),
            },
        );
    match key {
        Ok(der) => Some(der),
        Err(why) => {
            problems.error(span, format!("{} cannot sign the zone", path.display())).why(why).remedy(
                "move it away and start ixgate, which makes a new one; then give the new DS to those who validate",
            );
            None
        }
    }
}

fn transfer(
    raw: &raw::Transfer,
    names: &Names<'_>,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Transfer> {
    let listen = raw.listen.as_ref().and_then(|text| socket_addr(text, "", "127.0.0.1:5353", problems));
    let before = problems.error_count();
    if raw.keys.is_empty() {
        problems
            .error(&raw.span, "there is no key in [dns.transfer]")
            .why("only who proves that it has a key may fetch the zone")
            .remedy("add a `[[dns.transfer.key]]` with `name`, `secret_file` and `view`, or remove the section");
    }
    let mut seen = HashMap::new();
    let keys: Vec<TransferKey> = raw
        .keys
        .iter()
        .filter_map(|key| {
            let name = key.name.as_ref().filter(|name| is_new_name(name, &mut seen, problems));
            let secret = key.secret_file.as_ref().and_then(|file| secret(file, directory, secrets, problems));
            let view = key.view.as_ref().and_then(|view| self::view(view, names, problems));
            Some(TransferKey {
                name: name?.value.clone(),
                algorithm: algorithm(&key.algorithm),
                secret: secret?,
                view: view?,
            })
        })
        .collect();
    (problems.error_count() == before).then_some(Transfer { listen: listen?, keys })
}

fn is_new_name<'a>(
    name: &'a At<String>,
    seen: &mut HashMap<&'a str, &'a Range<usize>>,
    problems: &mut Problems,
) -> bool {
    if name.value.len() > MAX_NAME_CHARS || !name.value.split('.').all(is_label) {
        problems
            .error(&name.span, "this is no name for a key")
            .why("a key's name is a domain name, in lower case here (RFC 8945)")
            .remedy("write for example `axfr-key`, and the same on the other side");
        return false;
    }
    match seen.insert(&name.value, &name.span) {
        None => true,
        Some(first) => {
            problems
                .error(&name.span, "a second key has this name")
                .why("the name says which secret, and whose view, is meant")
                .remedy("give each name server a key with a name of its own")
                .also(first, "the first one is here");
            false
        }
    }
}

fn secret(
    file: &At<String>,
    directory: &Path,
    secrets: &dyn SecretReader,
    problems: &mut Problems,
) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = read_secret(file, directory, secrets, &TSIG_SECRET, problems)?;
    match decode_tsig_secret(&bytes) {
        Ok(secret) => Some(secret),
        Err(why) => {
            problems
                .error(&file.span, format!("{} does not hold a TSIG secret", directory.join(&file.value).display()))
                .why(why)
                .remedy("make one with `ixgate keygen tsig`");
            None
        }
    }
}

fn algorithm(choice: &Option<At<&'static str>>) -> TsigAlgorithm {
    match choice.as_ref().map(|choice| choice.value) {
        Some("hmac-sha384") => TsigAlgorithm::HmacSha384,
        Some("hmac-sha512") => TsigAlgorithm::HmacSha512,
        _ => TsigAlgorithm::HmacSha256,
    }
}

fn view(view: &At<String>, names: &Names<'_>, problems: &mut Problems) -> Option<TransferView> {
    let realm = names.realms.get(view.value.as_str()).copied().map(RealmRef);
    match (view.value.as_str(), realm) {
        (CANONICAL, None) => Some(TransferView::Canonical),
        (CANONICAL, Some(_)) => {
            problems
                .error(&view.span, "`canonical` is a realm here, and the view that is no realm's")
                .why("which of the two is meant cannot be told")
                .remedy("give the realm another name");
            None
        }
        (_, Some(realm)) => Some(TransferView::Realm(realm)),
        (name, None) => {
            let known = names.realms.keys().copied().chain([CANONICAL]);
            problems
                .error(&view.span, format!("there is no realm `{name}`"))
                .why("the zone is sent as one realm sees it, or with canonical addresses")
                .remedy(suggest::sentence(name, "view", known));
            None
        }
    }
}
