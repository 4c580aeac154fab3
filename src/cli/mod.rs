//! One file per subcommand: parse, call, print; no decisions.

pub mod plan;
