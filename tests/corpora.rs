//! Replays what fuzzing has found and what it starts from: every file of `fuzz/corpus`, and every crash that was kept in
//! `fuzz/regressions`, goes through the check of its target. `scripts/fuzz` explores further.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/checks.rs"]
mod checks;
#[path = "corpora/seeds.rs"]
mod seeds;

#[test]
fn every_corpus_passes_its_check() {
    for (target, check) in checks::TARGETS {
        let seeds = files(&fuzz().join("corpus").join(target));
        assert!(!seeds.is_empty(), "no seeds for {target}");
        for file in seeds.into_iter().chain(files(&fuzz().join("regressions").join(target))) {
            println!("{}", file.display()); // the last one printed is the one that failed
            check(&fs::read(&file).unwrap());
        }
    }
}

/// Seeds that are all refused at the first byte would explore nothing.
#[test]
fn most_message_seeds_are_accepted() {
    use ixgate::wire::ike::{Limits, find_protected, parse_header, parse_payloads};
    let is_accepted = |file: &PathBuf| {
        let datagram = fs::read(file).unwrap();
        let Ok(header) = parse_header(&datagram) else { return false };
        let limits = Limits::default();
        matches!(find_protected(header.next_payload, &datagram, &limits), Ok(Some(_)))
            || parse_payloads(header.next_payload, &datagram[28..], &limits).is_ok()
    };
    let seeds = files(&fuzz().join("corpus/ike_message"));
    let named: Vec<&PathBuf> = seeds.iter().filter(|file| !is_found(file)).collect();
    assert!(named.len() >= 10);
    assert!(named.into_iter().all(is_accepted), "a seed by hand is refused");
}

/// The same for scripts: each does what its target is about.
#[test]
fn most_script_seeds_do_something() {
    for (target, depth) in checks::DEPTHS {
        let seeds = seeds::all().into_iter().filter(|(of, ..)| of == target);
        let (deep, shallow): (Vec<_>, Vec<_>) = seeds.partition(|(.., bytes)| depth(bytes) > 0);
        let names: Vec<&String> = shallow.iter().map(|(_, name, _)| name).collect();
        assert!(deep.len() >= 5 && deep.len() > shallow.len(), "{target}: nothing comes of {names:?}");
    }
}

/// The files are what the code says.
#[test]
fn seeds_by_hand_are_written() {
    for (target, name, bytes) in seeds::all() {
        let file = fuzz().join("corpus").join(target).join(&name);
        assert!(fs::read(&file).is_ok_and(|written| written == bytes), "write {target}/{name} anew");
    }
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn write_the_seeds() {
    for (target, name, bytes) in seeds::all() {
        let folder = fuzz().join("corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// The tables, the binaries and the folders name the same targets.
#[test]
fn every_target_is_built_and_has_a_corpus() {
    let listed: BTreeSet<String> = checks::TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    let sources: BTreeSet<String> = files(&fuzz().join("targets")).iter().map(|file| stem(file)).collect();
    let folders: BTreeSet<String> =
        fs::read_dir(fuzz().join("corpus")).unwrap().map(|entry| stem(&entry.unwrap().path())).collect();
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let built: BTreeSet<String> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
        .map(str::to_owned)
        .collect();
    assert_eq!(sources, listed);
    assert_eq!(folders, listed);
    assert_eq!(built, listed);
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// In order; none where there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// Named by its hash: found by the fuzzer. Seeds by hand have names.
fn is_found(file: &Path) -> bool {
    let name = stem(file);
    name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}
