//! Documents that are made from the code stay as the code is (`IXGATE_REGENERATE=1 cargo test --test docs` writes them), and
//! what others name is there.

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
fn tests_that_the_conformance_pages_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        read_rust(&root.join(folder), &mut Vec::new(), &mut sources);
    }
    for (page, least) in [
        ("conformance-bfd.md", 40),
        ("conformance-esp.md", 40),
        ("conformance-ikev2.md", 150),
        ("conformance-link.md", 60),
        ("conformance-nat.md", 130),
    ] {
        let text = fs::read_to_string(root.join("docs").join(page)).unwrap();
        // Between backticks every second piece.
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).filter(|name| name.contains("::"));
        let names: Vec<Vec<&str>> = names.map(|name| name.split("::").collect()).collect();
        assert!(names.len() > least, "the test reads nothing of {page}: {}", names.len());
        for name in &names {
            let (test, modules) = name.split_last().unwrap();
            let is_test = |source: &Source| source.is(modules) && source.text.contains(&format!("fn {test}("));
            let is_case = modules == ["golden"] && root.join("tests/golden").join(test).join("expect.txt").exists();
            let there = is_case || sources.iter().any(is_test);
            assert!(there, "{page} names `{}`, which is no test", name.join("::"));
        }
    }
}

/// A scenario that the page does not name is found by nobody.
#[test]
fn the_lab_page_names_every_scenario_and_each_says_what_it_checks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/lab.md")).unwrap();
    let folders = fs::read_dir(root.join("lab")).unwrap().map(|entry| entry.unwrap().path());
    let scenarios: Vec<_> = folders.filter(|folder| folder.join("scenario.py").exists()).collect();
    assert!(scenarios.len() >= 19, "the test reads nothing: {scenarios:?}");
    for scenario in scenarios {
        let name = scenario.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("\n| `{name}` |")), "docs/lab.md has no row for `{name}`");
        assert!(scenario.join("README.md").exists(), "lab/{name} has no README.md");
    }
}

struct Source {
    /// From `src` or `tests` on.
    modules: Vec<String>,
    text: String,
}

impl Source {
    /// Pages name as much of the path as says which file is meant, in order. That tests lie in `tests` says nothing.
    fn is(&self, modules: &[&str]) -> bool {
        let mut path = self.modules.iter();
        modules.iter().filter(|module| **module != "tests").all(|module| path.any(|part| part == module))
    }
}

fn read_rust(folder: &Path, modules: &mut Vec<String>, all: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        modules.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        if path.is_dir() {
            read_rust(&path, modules, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(Source { modules: modules.clone(), text: fs::read_to_string(&path).unwrap() });
        }
        modules.pop();
    }
}
