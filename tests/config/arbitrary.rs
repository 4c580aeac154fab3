//! Nothing makes the reader panic: arbitrary text, pieces of TOML, damaged examples.

use ixgate::cli::diagnostics::{Style, render};
use ixgate::config::model::Config;
use proptest::prelude::*;

use super::examples::examples;
use super::*;

/// What every outcome promises, whatever the text.
fn hold_promises(text: &str) {
    match parse(text) {
        Ok(loaded) => assert_consistent(&loaded.config),
        Err(report) => {
            assert!(report.errors().count() > 0);
            for d in &report.diagnostics {
                assert!(d.span.offset + d.span.len <= text.len() && d.line >= 1 && d.column >= 1);
                assert!(!d.message.is_empty() && !d.remedy.is_empty());
            }
            assert!(!render(&report, Style { color: false, width_columns: 80 }).is_empty());
        }
    }
}

fn assert_consistent(config: &Config) {
    for host in &config.hosts {
        let networks = &config.realms[host.realm.0].networks;
        assert!(!host.addresses.is_empty());
        let is_default = config.default_realm == Some(host.realm);
        assert!(is_default || host.addresses.iter().all(|a| networks.iter().any(|n| n.native.contains(a))));
    }
    for service in &config.services {
        assert!(service.host.0 < config.hosts.len() && !service.ports.is_empty());
    }
    for grant in &config.grants {
        assert!(!grant.from.is_empty() && !grant.to.is_empty());
        for target in &grant.to {
            match target {
                GrantTarget::Service(service) => assert!(service.0 < config.services.len()),
                GrantTarget::Realm(realm, ports) => assert!(realm.0 < config.realms.len() && !ports.is_empty()),
            }
        }
    }
}

const PIECES: [&str; 38] = [
    "[[realm]]\n",
    "[ix]\n",
    "[[grant]]\n",
    "[[realm.attach]]\n",
    "[[host]]\n",
    "name",
    "networks",
    "address",
    " = ",
    "\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\"10.0.0.0/8\"",
    "\"fd00::/64\"",
    "0x",
    "-",
    "1",
    "'''",
    "\\u",
    "ä",
    "#",
    "realm",
    "to",
    "alias",
    "psk",
    ".",
    "\"a\"",
    "canonical",
    "prefix",
    "range",
    "\"default\"",
    "\"10.0.0.1-10.0.0.9\"",
    "\"auto\"",
    "\r",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        hold_promises(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn pieces_of_toml_never_panic(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        hold_promises(&pieces.concat());
    }

    #[test]
    fn mutated_examples_never_panic(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<u8>()), 1..8),
    ) {
        let all = examples();
        let mut bytes = which.get(&all).1.clone().into_bytes();
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => { bytes.remove(at); }
                1 => bytes.insert(at, byte),
                2 => bytes[at] = byte % 128,
                _ => bytes[at] = b"\"[]{}=.,/0139-#\n"[usize::from(byte) % 16],
            }
        }
        hold_promises(&String::from_utf8_lossy(&bytes));
    }
}
