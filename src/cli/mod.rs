//! The command line: one file per subcommand; parse, call, print, no decisions.

pub mod check;
pub mod diagnostics;
