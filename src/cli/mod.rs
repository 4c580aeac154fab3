//! The command line: a file per subcommand. Each parses, calls and prints; none decides.

pub mod check;
pub mod completions;
pub mod demo_loopback;
pub mod diagnostics;
pub mod keygen;
pub mod man;
pub mod metrics;
pub mod output;
pub mod plan;
pub mod run;
pub mod status;

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};

use self::output::fail;
use crate::config;
use crate::daemon::appliance;
use crate::io::privileges;

const AFTER_HELP: &str = "\
First steps:
  ixgate keygen wireguard --out secrets/wireguard.key   make the appliance's key
  ixgate check ix.toml                                  every error at once, with line and remedy
  ixgate plan ix.toml                                   who will see whom under which address
  ixgate run ix.toml                                    the appliance
  ixgate status                                         from another shell: tunnels, ports, traffic, drops

For an IPsec peer: `ixgate keygen psk`, or `ixgate keygen ca` and `ixgate keygen certificate`.

Exit codes: 0 done; 1 the answer is no (errors in the file, failed command); 2 wrong usage;
3 the appliance cannot be reached; 70 the appliance ended because of a defect in it.";

/// Joins networks that use the same private addresses: terminates their tunnels, translates between their address
/// spaces, answers names for each asker in its own terms, and lets through only what was agreed.
#[derive(Parser, Debug)]
#[command(name = "ixgate", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Args),
    /// Check a configuration file: every error at once, with line, reason and remedy
    Check(check::CheckArgs),
    /// Show who sees whom under which address, names and who may reach them, overlaps and how each was resolved, and
    /// which realm numbers and aliases would be added to the state or change in it
    Plan(plan::PlanArgs),
    Status(status::Args),
    Metrics(metrics::Args),
    Keygen(keygen::KeygenArgs),
    Completions(completions::Args),
    Man(man::Args),
    #[command(hide = true)]
    DemoLoopback(demo_loopback::Args),
}

/// Parses the process's arguments, does what they say, and gives the exit code.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => match privileges::hold() {
            Ok(_held) => run::run(&args, |file| {
                appliance::launch(file).unwrap_or_else(|error| {
                    tracing::error!("{error}");
                    ExitCode::from(1)
                })
            }),
            Err(error) => fail(1, &format!("cannot give up privileges, so nothing was started: {error}")),
        },
        Command::Check(args) => check::run(args),
        Command::Plan(args) => run_plan(&args),
        Command::Status(args) => status::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::DemoLoopback(args) => demo_loopback::run(&args),
    }
}

fn run_plan(args: &plan::PlanArgs) -> ExitCode {
    let loaded = match config::load(&args.file) {
        Ok(loaded) => loaded,
        Err(report) => {
            eprint!("{}", diagnostics::render(&report, diagnostics::Style::of_stderr()));
            return ExitCode::from(1);
        }
    };
    match plan::run(args, &loaded.config, SystemTime::now()) {
        Ok(text) => output::print(&text),
        Err(plan::PlanCommandError::Nobody(text)) => {
            output::print(&text);
            ExitCode::from(1)
        }
        Err(error) => output::fail(1, &error.to_string()),
    }
}
