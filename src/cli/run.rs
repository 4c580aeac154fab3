//! `ixgate run FILE`: the appliance.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::fail;
use crate::telemetry::log::{self, LogFormat};

/// Run the appliance in the foreground until SIGTERM or Ctrl-C.
///
/// SIGHUP loads the file again; if it has errors, they are logged and nothing changes. No root is needed for ports from
/// 1024 up. The environment variable IXGATE_LOG chooses what is logged: error, warn, info (default), debug, trace, or
/// per module as in "info,ixgate::daemon=debug".
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    pub file: PathBuf,
    /// How to write the log, to standard error.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// `launch` loads the file and runs until told to end.
pub fn run(args: &Args, launch: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    match log::init(args.log_format) {
        Ok(_guard) => launch(&args.file), // gone when that has returned, with the last lines written
        Err(error) => fail(2, &error.to_string()),
    }
}
