//! No report, no drawing and no `Debug` shows a secret, wherever somebody pasted it.

use ixgate::cli::diagnostics::{Style, render};

use super::*;

#[test]
fn secrets_are_never_shown() {
    let text = std::fs::read_to_string("configs/pinned-aliases.toml").unwrap();
    let shown = format!("{:?}", parse(&text).unwrap());
    for secret in [PRIVATE_KEY, [9; 32]] {
        for part in [STANDARD.encode(secret), format!("{}, {}", secret[0], secret[1])] {
            assert!(!shown.contains(&part));
        }
    }
    // Pasted into the file, also where it is not looked at, and while the syntax is broken.
    for text in [
        "[wireguard]\nprivate_key = \"hunter2\"\n",
        "[wireguard]\nprivate_key = \"\"\"\nhunter2\n\"\"\"\n",
        "[ike]\npsk = \"hunter2\"\n",
        "[[realm]]\nattach = [{ wireguard = { preshared_key = \"hunter2\", x = } }]\n",
    ] {
        let report = parse(text).unwrap_err();
        let shown = format!("{report} {report:?} {}", render(&report, Style { color: false, width_columns: 80 }));
        assert!(!shown.contains("hunter2"), "{text}");
        assert!(!serde_json::to_string(&report.diagnostics).unwrap().contains("hunter2"), "{text}");
    }
}

/// A key stands where none may stand, under any name, and with the syntax broken: nothing shows it.
#[test]
fn a_pasted_key_is_never_shown() {
    // The second one lost a character.
    let keys = ["SECRETSECRETSECRETSECRETSECRETSECRETSECRETQ=", "SECRETSECRETSECRETSECRETSECRETSECRETSECRE0="];
    let realm = realm("a", "\"10.0.0.0/24\"");
    for text in [
        "[wireguard]\nprivate_key_file = \"KEY\"\n",
        "[wireguard]\nprivate_key_file = \"secrets/KEY\"\n",
        "[wireguard]\nprivate_key_file = \" KEY \"\n",
        "[wireguard]\nprivate-key = \"KEY\"\n",
        "[wireguard]\nprivate_key =\nKEY\n",
        "[wireguard]\nprivate_key = \"\"\"\nKEY\n\"\"\"\n",
        "[wireguard]\nprivate_key = \"\"\"\nKEY\nx = =\n",
        "[wireguard]\nPrivateKey = KEY",
        "[wireguard]\n\"private_key\" = [\"KEY\",\n \"KEY\"]\nwg_private_key = \"KEY\"\nkey = \"KEY\"\n",
        "[wireguard]\nKEY\"x\"\n",
        "[wireguard]\n\"KEY\" = 1\n\"twenty characters....KEY\" = 2\n",
        "[ix]\nname = \"KEY\"\ndomain = \"KEY\"\nwhatever = \"KEY\"\nspace6 = \"KEY\"\nalias4 = [\"KEY\"]\n",
        "[api]\nlisten = \"unix:/a/very/long/path/a/very/long/path/a/very/long/path/a/very/long/path/KEY\"\n",
        "[[service]]\nname = \"KEY\"\nhost = \"KEY\"\nports = [\"KEY\"]\n",
        "REALM[[grant]]\nfrom = [\"KEY\"]\nto = [\"KEY\", \"realm:KEY\"]\nports = [\"any\"]\n",
        "REALM[[realm.attach]]\nwireguard = { public_key = \"x\", preshared_key_file = \"KEY\", pre_shared_key = \"KEY\" }\n",
    ] {
        for key in keys {
            let text = text.replace("REALM", &realm).replace("KEY", key);
            let report = parse(&text).unwrap_err();
            let json = serde_json::to_string(&report.diagnostics).unwrap();
            let drawn = render(&report, Style { color: false, width_columns: 80 });
            let shown = format!("{report} {report:?} {json} {drawn}").to_ascii_uppercase();
            assert!(!shown.contains("SECRETSECRET"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_key_in_place_of_its_file_is_told_from_a_path() {
    let (ours, psk) = (key(0x42), key(9));
    let text = format!("[wireguard]\nprivate_key_file = \"{ours}\"\n")
        + &realm("a", "\"10.0.0.0/24\"")
        + &format!("[[realm.attach]]\nwireguard.public_key = \"{}\"\n", key(1))
        + &format!("wireguard.preshared_key_file = \"{}\\u003d\"\n", psk.trim_end_matches('='));
    let report = parse(&text).unwrap_err();
    let stars = |n| "*".repeat(n);
    let message = "this is the key itself, and must be the name of a file that holds it";
    assert_eq!(places(&report), [format!("2:20 {}: {message}", stars(46)), format!("8:32 {}: {message}", stars(51))]);
    assert_eq!(
        report.diagnostics[0].remedy,
        "put it into a file of its own, mode 600, and name that file here; since it has been in this file, make a new \
         one"
    );
    assert!(report.source().contains(&key(1)), "a public key may be shown");
}

#[test]
fn a_key_in_a_file_that_is_no_text_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ix.toml");
    let secret = key(0x42);
    std::fs::write(&path, [format!("x = \"{secret}\"\npsk = \"hunter2\"\ny = ").as_bytes(), b"\xff\n"].concat())
        .unwrap();
    let report = config::load(&path).unwrap_err();
    let shown = format!("{report:?} {}", render(&report, Style { color: false, width_columns: 80 }));
    assert!(!shown.contains(&secret) && !shown.contains("hunter2"), "{shown}");
}

/// `Debug` of every struct that holds a secret, also the pretty one.
#[test]
fn debug_shows_that_there_is_a_secret_and_not_which() {
    let text = std::fs::read_to_string("configs/pinned-aliases.toml").unwrap();
    let config = parse(&text).unwrap().config;
    let peers = || config.realms.iter().flat_map(|r| &r.attachments).filter_map(|a| a.wireguard());
    let peer = peers().find(|p| p.preshared_key.is_some()).unwrap();
    assert_eq!(config.wireguard.private_key.as_deref(), Some(&PRIVATE_KEY));
    assert_eq!(peer.preshared_key.as_deref(), Some(&[9; 32]));
    assert!(format!("{:?}", config.wireguard).contains("private_key: Some(Zeroizing { .. })"));
    assert!(format!("{peer:?}").contains("preshared_key: Some(Zeroizing { .. })"));
    let pretty: String = format!("{config:#?}").split_whitespace().collect();
    assert!(!pretty.contains("66,66") && !pretty.contains("9,9"), "{pretty}");
}
