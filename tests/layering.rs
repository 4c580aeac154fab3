//! Who may use whom (see the list in `src/lib.rs`): reads the `crate::` paths of every room and fails on a forbidden
//! direction.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("net", &[]),
    ("wire", &["net"]),
    ("packet", &["net", "wire"]),
    ("crypto", &["net"]),
    ("ipsec", &["net", "wire", "packet", "crypto"]),
    ("wireguard", &["net", "wire", "packet", "crypto"]),
    ("nat", &["net", "wire", "packet"]),
    ("dns", &["net", "wire", "packet"]),
    ("host", &["net", "wire", "packet"]),
    ("ike", &["net", "wire", "packet", "crypto"]),
    ("link", &["net", "wire", "packet"]),
    ("dataplane", &["net", "wire", "packet", "crypto", "wireguard", "ike", "ipsec", "link", "nat", "dns", "host"]),
    ("config", &["net"]),
    (
        "control",
        &["net", "config", "wireguard", "ike", "link", "nat", "dns", "host", "dataplane", "packet", "telemetry"],
    ),
    ("telemetry", &["net", "packet", "dataplane", "config"]),
    ("io", &["net", "packet"]),
    (
        "daemon",
        &[
            "net",
            "packet",
            "config",
            "control",
            "dataplane",
            "telemetry",
            "io",
            "wireguard",
            "link",
            "nat",
            "host",
            "dns",
        ],
    ),
    (
        "sim",
        &[
            "net",
            "wire",
            "packet",
            "crypto",
            "config",
            "control",
            "dataplane",
            "wireguard",
            "ike",
            "ipsec",
            "link",
            "nat",
            "host",
            "dns",
        ],
    ),
    ("cli", &["net", "crypto", "config", "control", "daemon", "telemetry", "io", "sim", "wireguard", "ike"]),
];

#[test]
fn rooms_use_only_what_they_may() {
    let mut found = 0;
    let mut wrong = Vec::new();
    for (room, allowed) in ALLOWED {
        for file in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room)) {
            // Tests may reach further: a core is held against whatever proves it right.
            if file.iter().chain(file.file_stem()).any(|name| name == "tests") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            // Up to the tests at the end of the file; a `#[cfg(test)] mod name;` in between ends nothing.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for used in rooms_used(code) {
                found += 1;
                if used != *room && !allowed.contains(&used.as_str()) {
                    wrong.push(format!("{} uses crate::{used}", file.display()));
                }
            }
        }
    }
    assert!(found > 30, "the test reads nothing: {found}");
    assert!(wrong.is_empty(), "forbidden directions:\n{}", wrong.join("\n"));
}

#[test]
fn every_room_is_listed() {
    let listed: BTreeSet<String> = ALLOWED.iter().map(|(room, _)| room.to_string()).collect();
    let there: BTreeSet<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap()
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(there, listed);
}

/// Where `unsafe` may be: what talks to the system, and the kernels of cryptography. Each block, and each `unsafe fn` or `impl`,
/// says why it is sound.
const UNSAFE: &[&str] = &["io/", "crypto/kernels/"];

#[test]
fn unsafe_is_only_where_it_may_be_and_says_why() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut wrong) = (0, Vec::new());
    for file in rust_files(&source) {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(&source).unwrap().to_string_lossy().into_owned();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (number, _) in lines.iter().enumerate().filter(|(_, line)| is_unsafe(line)) {
            found += 1;
            if !UNSAFE.iter().any(|room| place.starts_with(room)) {
                wrong.push(format!("{place}:{}: unsafe", number + 1));
            }
            let reason = lines[..number].iter().rev().take(UNSAFE_REASON_LINES);
            if !reason.into_iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                wrong.push(format!("{place}:{}: does not say why it is sound", number + 1));
            }
        }
    }
    assert!(found > 10, "the test reads nothing: {found}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How far above its block a reason may begin.
const UNSAFE_REASON_LINES: usize = 8;

/// Not in a comment, nor in the name of a lint.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe impl", "unsafe fn"].iter().any(|form| code.contains(form))
}

/// The first path segment behind every `crate::`, also in `use crate::{a, b}`.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = group.split("};").next().unwrap_or_default();
                rooms.extend(group.split(',').map(first_segment));
            }
            None => {
                rooms.insert(first_segment(rest));
            }
        }
    }
    rooms.remove("");
    rooms
}

fn first_segment(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}
