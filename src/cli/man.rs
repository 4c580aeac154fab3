//! `ixgate man [COMMAND]`: manual pages.

use std::process::ExitCode;

use clap::CommandFactory;

use super::output::{fail, print};

/// Print a manual page (roff), for example: ixgate man run | man -l -
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The page of this command, ixgate-COMMAND(1); else the overview, ixgate(1)
    pub command: Option<String>,
}

pub fn run(args: &Args) -> ExitCode {
    let mut overview = super::Cli::command();
    overview.build();
    let page = match &args.command {
        None => Some(overview),
        Some(name) => overview.find_subcommand(name).cloned(),
    };
    let Some(page) = page else {
        return fail(2, "there is no such command; `ixgate --help` lists them");
    };
    let mut text = Vec::new();
    let title = args.command.as_ref().map_or("ixgate".to_string(), |name| format!("ixgate-{name}"));
    match clap_mangen::Man::new(page).title(title).render(&mut text) {
        Ok(()) => print(&String::from_utf8_lossy(&text)),
        Err(error) => fail(1, &format!("cannot print: {error}")),
    }
}
