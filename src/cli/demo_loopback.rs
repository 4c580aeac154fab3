//! `ixgate demo-loopback`: the demonstration of `scripts/demo` without network namespaces.
//!
//! What is real: the engine and the worker that `ixgate run` runs, their UDP socket, WireGuard, and every datagram, over
//! 127.0.0.1. What stands in: each of the three networks is a small IP stack in this process instead of a namespace.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use serde::Serialize;

use super::output::{fail, print};
use crate::daemon::interfaces::States;
use crate::daemon::worker::{self, Ending};
use crate::io::clock::Clock;
use crate::io::sockets::Sockets;
use crate::io::udp::{BindError, UdpSocket};
use crate::sim::appliance::Appliance;
use crate::sim::demonstration::{self, DemonstrationError, MAX_DURATION};
use crate::sim::loopback::Loopback;
use crate::sim::story::{Line, Story};

/// Show three networks with the same addresses around one ixgate, all in this process, over UDP on 127.0.0.1.
///
/// `scripts/demo` runs it where network namespaces are not permitted. Exit code 0: every line is as agreed.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the appliance's worker cannot be started: {0}")]
    Start(std::io::Error),
    #[error(transparent)]
    Demonstration(#[from] DemonstrationError),
    #[error("the appliance's socket failed: {0}")]
    Worker(std::io::Error),
    #[error("the appliance's worker panicked, which is a defect in ixgate: {0}")]
    Panicked(String),
    #[error("the appliance's worker ended without a word, which is a defect in ixgate")]
    Vanished,
}

pub fn run(args: &Args) -> ExitCode {
    let outcome = match demonstrate(&Appliance::build(demonstration::CONFIG)) {
        Ok(outcome) => outcome,
        Err(error) => return fail(1, &error.to_string()),
    };
    let printed = print(&if args.json { json(&outcome) } else { text(&outcome) });
    if outcome.story.is_as_agreed() { printed } else { ExitCode::from(1) }
}

/// The story, and where the appliance listened.
#[derive(Debug)]
pub struct Outcome {
    pub story: Story,
    pub appliance: SocketAddr,
}

/// Starts the appliance on a free port of 127.0.0.1, tells the story around it, and ends it.
pub fn demonstrate(appliance: &Appliance) -> Result<Outcome, DemoError> {
    let clock = Clock::start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = socket.local_address();
    let mut sockets = Sockets::default();
    sockets.add_udp(socket);
    // The demonstration asks nobody outside.
    let (outside, _) = tokio::sync::mpsc::channel(1);
    let core = appliance.engine(clock.now());
    let (worker, ending) =
        worker::spawn(sockets, Vec::new(), core, clock, outside, States::default()).map_err(DemoError::Start)?;

    let now = || clock.now();
    let told = demonstration::tell(appliance, &mut Loopback::new(address, &now, MAX_DURATION));
    // Fails when the worker has ended by itself, and then its ending says why.
    let _ = worker.shut_down();
    let ending = ending.blocking_recv();
    let mut story = told?;
    match ending {
        Ok(Ending::Drained(report)) => story.account_for(appliance, &report.path),
        Ok(Ending::Failed(error)) => return Err(DemoError::Worker(error)),
        Ok(Ending::Panicked(words)) => return Err(DemoError::Panicked(words)),
        Err(_) => return Err(DemoError::Vanished),
    }
    Ok(Outcome { story, appliance: address })
}

fn text(outcome: &Outcome) -> String {
    let Outcome { story, appliance } = outcome;
    let mut text = String::from("\nThree networks, all numbered 192.168.1.0/24, around one ixgate:\n\n");
    let _ = write!(text, "{story}");
    let _ = write!(
        text,
        "\nThis is the in-process variant, for machines that do not permit network namespaces: the three networks are\n\
         small IP stacks inside this process. The appliance is the real one, on UDP {appliance}; its WireGuard tunnels\n\
         went over this machine's loopback interface. For separate networks and processes: scripts/demo as root.\n\
         \n{} passed, {} failed, 0 skipped\n",
        story.passed(),
        story.failed()
    );
    text
}

fn json(outcome: &Outcome) -> String {
    #[derive(Serialize)]
    struct Output<'a> {
        variant: &'a str,
        appliance: SocketAddr,
        is_as_agreed: bool,
        passed: usize,
        failed: usize,
        lines: &'a [Line],
    }
    let Outcome { story, appliance } = outcome;
    let output = Output {
        variant: "in-process",
        appliance: *appliance,
        is_as_agreed: story.is_as_agreed(),
        passed: story.passed(),
        failed: story.failed(),
        lines: story.lines(),
    };
    serde_json::to_string_pretty(&output).expect("strings, numbers and lists become JSON") + "\n"
}
