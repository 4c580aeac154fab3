//! One file per subcommand: parse, call, print; no decisions.

pub mod check;
pub mod diagnostics;
pub mod keygen;
pub mod plan;
