//! The examples in `configs/`: each is right as it stands, conforms to the schema, and together they show every key.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

pub fn examples() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<_> = std::fs::read_dir("configs").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    assert!(paths.len() >= 5);
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// From the disk, with keys made for the occasion, as a newcomer would.
#[test]
fn every_example_is_right_and_insists_on_its_secrets() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let pki = ipsec::Pki::new();
    for (path, text) in examples() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join(path.file_name().unwrap());
        std::fs::write(&copy, &text).unwrap();
        for folder in ["secrets", "certificates"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for (name, secret) in [
            ("secrets/wireguard.key", key(7)),
            ("secrets/hospital-b.psk", key(8)),
            ("secrets/carrier-a.psk", key(9)),
            ("secrets/carrier-b.psk", key(10)),
            ("secrets/carrier-b.ppk", key(11)),
            ("secrets/clinic-c.psk", key(12)),
            ("secrets/axfr.tsig", key(13)),
            ("secrets/inventory.tsig", key(14)),
            ("secrets/ix-east.key", pki.key.clone()),
            ("certificates/ix-east.pem", pki.certificate.clone()),
            ("certificates/carrier-ca.pem", pki.ca.clone()),
            ("certificates/carrier-ca.crl", pki.crl.clone()),
        ] {
            let file = dir.path().join(name);
            std::fs::write(&file, secret).unwrap();
            set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        }
        let loaded = config::load(&copy).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        assert!(loaded.config.realms.len() >= 2);

        let secrets = ["secrets/wireguard.key", "secrets/carrier-a.psk", "secrets/ix-east.key"];
        let named = secrets.into_iter().find(|name| text.contains(&format!("_file = \"{name}\""))).unwrap();
        let exposed = dir.path().join(named);
        set_permissions(&exposed, Permissions::from_mode(0o644)).unwrap();
        let report = config::load(&copy).unwrap_err();
        let [error] = &report.diagnostics[..] else { panic!("{report}") };
        assert_eq!(report.text(error.span), format!("\"{named}\""));
        assert_eq!(error.remedy, format!("chmod 600 {}", exposed.display()));
        assert_eq!(error.why, "users other than the owner can access the file (mode 644)");
    }
}

/// The part of JSON Schema that ours uses.
fn conforms(value: &Value, schema: &Value, at: &str) -> Result<(), String> {
    let any_of = schema.get("anyOf").and_then(Value::as_array);
    if let Some(any) = any_of.filter(|_| schema.get("type").is_none()) {
        let mut tried = any.iter().map(|s| conforms(value, s, at));
        return if tried.any(|result| result.is_ok()) { Ok(()) } else { Err(format!("{at}: fits nothing")) };
    }
    let is = match schema["type"].as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        other => return Err(format!("{at}: type {other}")),
    };
    if !is {
        return Err(format!("{at}: {value} is no {}", schema["type"]));
    }
    if schema.get("enum").is_some_and(|words| !words.as_array().unwrap().contains(value)) {
        return Err(format!("{at}: {value} is none of the words"));
    }
    if let Some(n) = value.as_u64()
        && !(schema["minimum"].as_u64().unwrap()..=schema["maximum"].as_u64().unwrap()).contains(&n)
    {
        return Err(format!("{at}: {n} is out of bounds"));
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        conforms(item, &schema["items"], &format!("{at}[{i}]"))?;
    }
    for (key, field) in value.as_object().into_iter().flatten() {
        let Some(schema) = schema["properties"].get(key) else { return Err(format!("{at}: unknown key {key}")) };
        conforms(field, schema, &format!("{at}.{key}"))?;
    }
    // Beside a type, it says of which keys one must be there.
    let is_there =
        |one: &Value| one["required"].as_array().unwrap().iter().all(|key| value.get(key.as_str().unwrap()).is_some());
    if any_of.is_some_and(|any| !any.iter().any(is_there)) {
        return Err(format!("{at}: has none of {any_of:?}"));
    }
    let mut required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    match required.find(|key| value.get(key).is_none()) {
        Some(key) => Err(format!("{at}: {key} is missing")),
        None => Ok(()),
    }
}

/// The schema knows every key that the reader accepts, and the examples, which the reader accepts, show every key that
/// the schema knows.
#[test]
fn examples_conform_to_the_schema_and_show_every_key_of_it() {
    let schema = config::schema();
    let (mut used, mut known) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in examples() {
        let value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
        conforms(&value, &schema, &path.display().to_string()).unwrap();
        collect_keys(&value, "", &mut used);
    }
    collect_schema_keys(&schema, "", &mut known);
    assert_eq!(used, known);
}

fn collect_keys(value: &Value, at: &str, keys: &mut BTreeSet<String>) {
    value.as_array().into_iter().flatten().for_each(|item| collect_keys(item, at, keys));
    for (key, field) in value.as_object().into_iter().flatten() {
        keys.insert(format!("{at}.{key}"));
        collect_keys(field, &format!("{at}.{key}"), keys);
    }
}

fn collect_schema_keys(schema: &Value, at: &str, keys: &mut BTreeSet<String>) {
    schema.get("items").into_iter().for_each(|items| collect_schema_keys(items, at, keys));
    schema.get("anyOf").and_then(Value::as_array).into_iter().flatten().for_each(|s| collect_schema_keys(s, at, keys));
    for (key, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        keys.insert(format!("{at}.{key}"));
        collect_schema_keys(field, &format!("{at}.{key}"), keys);
    }
}
