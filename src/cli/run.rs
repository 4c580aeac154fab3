//! `ixgate run FILE`: the appliance.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output::fail;
use crate::crypto::Kernels;
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
    /// What seals and opens packets.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT", env = "IXGATE_CRYPTO")]
    pub crypto: Crypto,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Crypto {
    /// The fastest that the processor has; the log says at start which that is.
    #[default]
    Auto,
    /// The library (aws-lc) and nothing else.
    Library,
}

/// `launch` loads the file and runs until told to end.
pub fn run(args: &Args, launch: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    match log::init(args.log_format) {
        Ok(_guard) => {
            if args.crypto == Crypto::Library {
                Kernels::leave_to_library();
            }
            tracing::info!("packets are sealed and opened by {}", Kernels::chosen());
            launch(&args.file) // the guard is gone when that has returned, with the last lines written
        }
        Err(error) => fail(2, &error.to_string()),
    }
}
