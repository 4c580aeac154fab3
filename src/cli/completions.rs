//! `ixgate completions SHELL`: what the shell needs to complete our commands.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::output::print;

/// Print a completion script, for example: ixgate completions bash > /etc/bash_completion.d/ixgate
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// For which shell.
    pub shell: Shell,
}

pub fn run(args: &Args) -> ExitCode {
    let mut script = Vec::new();
    generate(args.shell, &mut super::Cli::command(), "ixgate", &mut script);
    print(&String::from_utf8_lossy(&script))
}
