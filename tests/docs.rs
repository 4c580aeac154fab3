//! Documents that are made from the code stay as the code is. `IXGATE_REGENERATE=1 cargo test --test docs` writes them.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use ixgate::packet::DropReason;

#[test]
fn drop_reasons_page_is_what_the_code_says() {
    let mut page = String::from(
        "# Why a packet did not pass\n\n\
         Every packet that comes in is forwarded, answered by the IX, or dropped with exactly one of these reasons. `ixgate status`\n\
         shows them per realm, `ixgate metrics` counts them. This page is made from `src/packet/drop_reason.rs`.\n\n\
         | reason | what happened | whose side | what to do |\n|---|---|---|---|\n",
    );
    for reason in DropReason::ALL {
        let (name, what, side, remedy) = (reason.name(), reason.what(), reason.side().name(), reason.remedy());
        writeln!(page, "| `{name}` | {what} | {side} | {remedy} |").unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/drop-reasons.md");
    if env::var_os("IXGATE_REGENERATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "docs/drop-reasons.md is not what the code says; run: IXGATE_REGENERATE=1 cargo test --test docs"
    );
}

/// A page that says "met by" a test must not outlive it.
#[test]
fn tests_that_the_conformance_page_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/conformance-nat.md")).unwrap();
    let mut sources = String::new();
    for folder in ["src", "tests"] {
        read_rust(&root.join(folder), &mut sources);
    }
    // Between backticks every second piece; a test has its file before it, and example names have one letter.
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let names: Vec<&str> = quoted.filter_map(|name| Some(name.rsplit_once("::")?.1)).collect();
    assert!(names.len() > 40, "the test reads nothing: {names:?}");
    for name in names.iter().filter(|name| name.len() > 1 && name.chars().all(|c| c.is_alphanumeric() || c == '_')) {
        assert!(sources.contains(&format!("fn {name}(")), "docs/conformance-nat.md names `{name}`, which is no test");
    }
}

fn read_rust(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_rust(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *all += &fs::read_to_string(&path).unwrap();
        }
    }
}
