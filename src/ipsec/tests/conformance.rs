//! The tests that `docs/conformance-esp.md` names exist.

use std::path::Path;
use std::{fs, iter};

#[test]
fn every_test_in_the_table_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/conformance-esp.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let mut named = 0;
    for name in rows.flat_map(in_backquotes).filter(|name| name.contains("::")) {
        let (file, test) = match name.split_once("::tests::") {
            Some((file, test)) => (format!("{file}.rs"), test),
            None => name.split_once("::").map(|(file, test)| (format!("tests/{file}.rs"), test)).unwrap(),
        };
        let source = fs::read_to_string(root.join("src/ipsec").join(&file)).unwrap_or_default();
        assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
        named += 1;
    }
    assert!(named > 40, "the test reads nothing: {named}");
}

fn in_backquotes(line: &str) -> impl Iterator<Item = &str> {
    let mut parts = line.split('`');
    iter::from_fn(move || {
        parts.next()?;
        parts.next()
    })
}
