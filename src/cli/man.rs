//! `ixgate man`: the manual page.

use std::process::ExitCode;

use clap::CommandFactory;

use super::output::{fail, print};

/// Print the manual page (roff), for example: ixgate man | man -l -
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> ExitCode {
    let mut page = Vec::new();
    match clap_mangen::Man::new(super::Cli::command()).render(&mut page) {
        Ok(()) => print(&String::from_utf8_lossy(&page)),
        Err(error) => fail(1, &format!("cannot print: {error}")),
    }
}
