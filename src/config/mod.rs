//! Configuration: the TOML file, its validation with positions, and the validated model that everything else uses.
//!
//! ```text
//!   file --toml--> document with spans --raw--> texts with places --validate--> model::Config   (or a Report)
//!                                        ^ spec: what may be written, also printed as JSON Schema
//! ```
//!
//! Unchecked and validated configuration are different types: `raw::Raw` is what was written, [`model::Config`] is what
//! a file without errors means. Only [`model::Config`] leaves this room. All mistakes of a file are reported at once;
//! only while its TOML syntax is broken are there syntax errors alone, because all else would be guesswork.

pub mod diagnostic;
pub mod model;
pub mod schema;
pub mod secrets;

mod certificate;
mod pasted;
mod raw;
mod section;
mod spec;
mod suggest;
mod syntax;
mod validate;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Report, Severity, Span};
pub use schema::schema;
pub use secrets::{DiskSecrets, MemorySecrets, SecretReader};
pub use spec::port::MAX_NEXT_HOPS;

use diagnostic::{Problem, Problems};
use spec::MAX_FILE_BYTES;

/// A file without errors.
#[derive(Debug)]
pub struct Loaded {
    pub config: model::Config,
    pub warnings: Vec<Diagnostic>,
    report: Report,
}

impl Loaded {
    /// The warnings together with the text that they point into.
    pub fn report(&self) -> &Report {
        &self.report
    }
}

/// Reads and checks the file at `path` and the secrets that it names.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let text = read_file(path)?;
    parse(&text, path, &DiskSecrets)
}

/// The same without touching the disk: `path` only says where the text is from and what relative paths start at.
pub fn parse(text: &str, path: &Path, secrets: &dyn SecretReader) -> Result<Loaded, Report> {
    let mut problems = Problems::default();
    pasted::mask(text, &mut problems);
    let (document, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        syntax::report(error, text, &mut problems);
    }
    if !syntax_errors.is_empty() {
        return Err(problems.finish(path, text));
    }
    let raw = raw::Raw::read(document.get_ref(), &mut problems);
    let config = validate::validate(&raw, path, secrets, &mut problems);
    let errors = problems.error_count();
    let report = problems.finish(path, text);
    match config {
        Some(config) if errors == 0 => Ok(Loaded { config, warnings: report.diagnostics.clone(), report }),
        _ => Err(report),
    }
}

/// Why no realm can have this network, if so.
pub fn refusal_of_network(net: ipnet::IpNet) -> Option<&'static str> {
    validate::refusal_of_network(net)
}

fn read_file(path: &Path) -> Result<String, Report> {
    let unreadable = |e: std::io::Error| {
        let mut problem = Problem::error(&(0..0), "the file cannot be read");
        problem.why(e.to_string()).remedy("check the path and who may read it");
        Report::of_file(path, String::new(), problem)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_FILE_BYTES {
        let mut problem = Problem::error(&(0..0), format!("the file is longer than {} MiB", MAX_FILE_BYTES >> 20));
        problem.why("no configuration is that long").remedy("check the path");
        return Err(Report::of_file(path, String::new(), problem));
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let mut problem = Problem::error(&(at..at + '\u{fffd}'.len_utf8()), "this is not UTF-8");
        problem.why("TOML is UTF-8 text (toml.io, \"Spec\")").remedy("save the file in UTF-8");
        Report::of_file(path, String::from_utf8_lossy(e.as_bytes()).into_owned(), problem)
    })
}
