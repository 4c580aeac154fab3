//! The tests that the conformance pages name exist.

use std::path::{Path, PathBuf};
use std::{fs, iter};

#[test]
fn every_test_in_the_tables_exists() {
    for (page, room, least) in [("conformance-esp.md", "src/ipsec", 40), ("conformance-ikev2.md", "src/ike", 150)] {
        let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
        let rows = text.lines().filter(|line| line.starts_with('|'));
        let names: Vec<&str> = rows.flat_map(in_backquotes).filter(|name| name.contains("::")).collect();
        for name in &names {
            let (module, test) = name.rsplit_once("::").unwrap();
            let there = sources(room, module).iter().any(|source| source.contains(&format!("fn {test}(")));
            assert!(there, "{page} names {name}, which does not exist");
        }
        assert!(names.len() > least, "the test reads nothing of {page}: {}", names.len());
    }
}

/// Where a module of tests may be: beside the room, in a file of it, elsewhere in the package, or a package of tests.
fn sources(room: &str, module: &str) -> Vec<String> {
    let path = module.replace("::", "/");
    let file = path.strip_suffix("/tests").unwrap_or(&path);
    let places = [
        format!("{room}/tests/{path}.rs"),
        format!("{room}/{path}.rs"),
        format!("{room}/{file}.rs"),
        format!("src/{path}.rs"),
        format!("src/{file}.rs"),
        format!("tests/{path}.rs"),
    ];
    places.into_iter().filter_map(|place| fs::read_to_string(root().join(place)).ok()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn in_backquotes(line: &str) -> impl Iterator<Item = &str> {
    let mut parts = line.split('`');
    iter::from_fn(move || {
        parts.next()?;
        parts.next()
    })
}
