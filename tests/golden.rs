//! Golden captures: a configuration and the packets that hosts send, in; the packets that arrive, byte for byte, and every
//! counter, out. The engine that `run` runs, with real peers in memory, is held to the files of each folder in `tests/golden`;
//! `scripts/golden` has tshark say what the files mean.
//!
//! ```text
//! tests/golden/NAME/
//!   ixgate.toml   the configuration; `{key:NAME}` stands for the public key of the site of realm NAME
//!   in.pcapng     what hosts send, an interface for each realm; made by `tests/golden/inputs`
//!   out.pcapng    what arrives, likewise; the comment of a packet says which one it came of
//!   counters.txt  what each packet counted as, and the sums
//!   expect.txt    fields of out.pcapng in tshark's words, written by hand
//! ```
//!
//! `IXGATE_REGENERATE=1 cargo test --test golden` writes all but the first and the last.

use std::path::{Path, PathBuf};
use std::{env, fs};

use ixgate::sim::appliance::Appliance;

#[path = "golden/capture.rs"]
mod capture;
#[path = "golden/inputs/mod.rs"]
mod inputs;
#[path = "golden/play.rs"]
mod play;

use capture::Capture;

#[test]
fn what_arrives_and_what_is_counted_is_as_recorded() {
    let mut wrong = Vec::new();
    let names = names();
    for name in &names {
        println!("{name}");
        if let Err(said) = Case::load(name).check() {
            wrong.push(format!("== {name}\n{said}"));
        }
    }
    assert!(names.len() >= 22, "cases are missing: {names:?}");
    assert!(
        wrong.is_empty(),
        "{}\nWhat came out lies in {}. If it is right: IXGATE_REGENERATE=1 cargo test --test golden",
        wrong.join("\n"),
        scratch("NAME").display()
    );
}

/// Nothing in a run may depend on anything but its files.
#[test]
fn a_second_run_is_the_same() {
    for name in names() {
        let case = Case::load(&name);
        let (first, second) = (play::play(&case.text, &case.sent()), play::play(&case.text, &case.sent()));
        assert!(first == second, "{name}");
    }
}

/// By which tunnel a packet travels is not seen inside, so that one case of IPsec stands for all: what is around a packet is
/// the matter of `tests/ipsec.rs`, the lab and the vectors of `src/ipsec`.
#[test]
fn ipsec_changes_nothing_inside() {
    let out = |name| fs::read(folder(name).join("out.pcapng")).unwrap();
    assert!(out("map-44") == out("map-44-ipsec"));
}

#[test]
fn captures_are_read_as_they_were_written() {
    for name in names() {
        let bytes = fs::read(folder(&name).join("in.pcapng")).unwrap();
        assert!(Capture::parse(&bytes).unwrap().emit() == bytes, "{name}");
        (0..bytes.len()).for_each(|len| drop(Capture::parse(&bytes[..len])));
    }
}

struct Case {
    name: String,
    text: String,
}

impl Case {
    fn load(name: &str) -> Self {
        let text = fs::read_to_string(folder(name).join("ixgate.toml")).unwrap();
        Case { name: name.to_owned(), text }
    }

    fn check(&self) -> Result<(), String> {
        let made = inputs::of(&self.name).map(|script| script.capture(&realms(&self.text)));
        let regenerate = env::var_os("IXGATE_REGENERATE").is_some();
        if let Some(made) = made.as_ref().filter(|_| regenerate) {
            fs::write(folder(&self.name).join("in.pcapng"), made.emit()).unwrap();
        }
        let sent = self.sent();
        let (arrived, counters) = play::play(&self.text, &sent);
        let to = if regenerate { folder(&self.name) } else { scratch(&self.name) };
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("out.pcapng"), arrived.emit()).unwrap();
        fs::write(to.join("counters.txt"), &counters).unwrap();

        let mut said = String::new();
        if let Some(difference) = made.and_then(|made| capture::difference(&sent, &made)) {
            said += &format!("in.pcapng is not what tests/golden/inputs makes:\n{difference}");
        }
        if let Some(difference) = capture::difference(&read(&self.name, "out.pcapng"), &arrived) {
            said += &format!("out.pcapng:\n{difference}");
        }
        let expected = fs::read_to_string(folder(&self.name).join("counters.txt")).unwrap_or_default();
        said += &lines_that_differ(&expected, &counters);
        if said.is_empty() { Ok(()) } else { Err(said) }
    }

    fn sent(&self) -> Capture {
        read(&self.name, "in.pcapng")
    }
}

fn lines_that_differ(expected: &str, got: &str) -> String {
    let missing = expected.lines().filter(|line| !got.lines().any(|other| other == *line));
    let new = got.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let lines = missing.map(|line| format!("  - {line}\n")).chain(new.map(|line| format!("  + {line}\n")));
    let said: String = lines.collect();
    match said.is_empty() {
        true if expected == got => said,
        true => "counters.txt: the lines are in another order\n".into(),
        false => format!("counters.txt, expected (-) and got (+):\n{said}"),
    }
}

fn realms(text: &str) -> Vec<String> {
    Appliance::build(text).config.realms.iter().map(|realm| realm.name.to_string()).collect()
}

fn read(name: &str, file: &str) -> Capture {
    let bytes = fs::read(folder(name).join(file)).unwrap_or_default();
    Capture::parse(&bytes).unwrap_or_else(|error| panic!("{name}/{file}: {error}"))
}

fn names() -> Vec<String> {
    let folders = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path());
    let cases = folders.filter(|path| path.join("ixgate.toml").exists());
    let mut names: Vec<_> = cases.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden").join(name)
}
