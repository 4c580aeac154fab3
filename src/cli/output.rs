//! How commands print and end.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::control::client::ClientError;

/// To standard output. A reader that has gone (`| head`) is no failure.
pub fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(1, &format!("cannot print: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

/// A document as indented JSON.
pub fn json(document: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(document);
    text.expect("documents are made of strings, numbers, lists and maps with string keys") + "\n"
}

/// To standard error.
pub fn fail(code: u8, words: &str) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "ixgate: {words}");
    ExitCode::from(code)
}

pub fn fail_to_ask(error: &ClientError) -> ExitCode {
    fail(error.exit_code(), &error.to_string())
}
