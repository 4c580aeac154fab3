//! `ixgate metrics`: the running appliance's metrics, once, as Prometheus text.

use std::process::ExitCode;

use super::output::{fail_to_ask, print};
use crate::control::client::{self, ADDRESS_VARIABLE, ApiAddress};

/// Print the running appliance's metrics in Prometheus' text format.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where the appliance is [default: unix:state/ixgate.sock].
    #[arg(long, value_name = "ADDRESS", env = ADDRESS_VARIABLE)]
    pub api: Option<String>,
}

pub fn run(args: &Args) -> ExitCode {
    let fetched = ApiAddress::find(args.api.as_deref()).and_then(|address| client::get(&address, "/v1/metrics"));
    match fetched {
        Ok(text) => print(&text),
        Err(error) => fail_to_ask(&error),
    }
}
