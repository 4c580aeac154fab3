//! The command line: a file per subcommand. Each parses, calls and prints; none decides.

pub mod metrics;
pub mod output;
pub mod run;
pub mod status;
