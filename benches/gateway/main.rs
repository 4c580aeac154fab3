//! What a gateway costs end to end, over real sockets: ours beside what a user would take otherwise, in one run.
//!
//! `cargo bench --bench gateway` needs root and two cores.

mod bystanders;
mod cost;
mod ground;
mod relay;
mod rounds;
mod site;
mod traffic;
mod under_test;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ixgate::io::udp::Offload;

use self::ground::Outcome;
use self::rounds::Track;
use self::site::Kind;
use self::traffic::Load;
use self::under_test::{Gateway, Programs, Running, Setup};

const INSIDE: &str = "--inside";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let outcome = if arguments.iter().any(|argument| argument == relay::ARGUMENT) {
        relay::run()
    } else if arguments.iter().any(|argument| argument == INSIDE) {
        measure()
    } else {
        let program = std::env::current_exe().expect("this program has a path");
        let status = Command::new("unshare")
            .args(["--net", "--mount", "taskset", "-c", "1"])
            .arg(program)
            .arg(INSIDE)
            .args(&arguments[1..])
            .status();
        return if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Outcome<()> {
    ground::build()?;
    let directory = tempfile::tempdir()?;
    let programs = Programs {
        ixgate: std::env::var_os("IXGATE").map_or_else(|| env!("CARGO_BIN_EXE_ixgate").into(), PathBuf::from),
        wireguard_go: Ok("/tmp/wgapt/x/usr/bin/wireguard-go".into()),
        strongswan: Ok(()),
        directory: directory.path().into(),
    };
    let setups = [
        Setup { gateway: Gateway::Ixgate, kinds: [Kind::WireGuard, Kind::WireGuard] },
        Setup { gateway: Gateway::Ixgate, kinds: [Kind::WireGuard, Kind::Esp] },
        Setup { gateway: Gateway::Ixgate, kinds: [Kind::Esp, Kind::Esp] },
        Setup { gateway: Gateway::Peers, kinds: [Kind::WireGuard, Kind::WireGuard] },
        Setup { gateway: Gateway::Peers, kinds: [Kind::WireGuard, Kind::Esp] },
        Setup { gateway: Gateway::Peers, kinds: [Kind::Esp, Kind::Esp] },
        Setup { gateway: Gateway::Kernel, kinds: [Kind::Frames, Kind::Frames] },
        Setup { gateway: Gateway::Relay, kinds: [Kind::Socket, Kind::Socket] },
    ];
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    for setup in setups {
        if only.as_ref().is_some_and(|only| !format!("{} {}", setup.name(), setup.way()).contains(only)) {
            continue;
        }
        if let Err(error) = one(setup, &programs) {
            println!("FAILED: {} {}: {error}", setup.name(), setup.way());
        }
    }
    println!("{}", programs.directory.display());
    if std::env::args().any(|a| a == "--keep") {
        std::mem::forget(directory);
    }
    Ok(())
}

fn one(setup: Setup, programs: &Programs) -> Outcome<()> {
    let mut running = Running::start(setup, programs)?;
    {
        let load = Load::Equal(64);
        let sites = running.sites(Offload::Auto)?;
        ground::cut_runs(ground::Side::A, true)?;
        let mut others = if setup.gateway == Gateway::Ixgate { Some(bystanders::Bystanders::connect(&running)?) } else { None };
        let mut track = Track::open(&mut running, sites, load)?;
        let peak = track.saturate(Duration::from_millis(1500))?;
        let overload = track.overload(Duration::from_millis(4000), &mut others)?;
        ground::cut_runs(ground::Side::A, false)?;
        println!("{:<18} {:<8} overload: peak {:.1} kpps {:.0} ns, offered {:.1}, goodput {:.1} = {:.0} %, {:?}", setup.name(), setup.way(),
            peak.packets_per_sec() / 1000.0, peak.nanos_per_packet(), overload.offered / 1000.0, overload.goodput / 1000.0, overload.goodput / peak.packets_per_sec() * 100.0, overload.counts);
    }
    for load in [Load::Single(64), Load::Single(1200), Load::Run(1420)] {
        if setup.gateway == Gateway::Relay && matches!(load, Load::Run(_)) {
            continue;
        }
        let offload = if matches!(load, Load::Run(_)) { Offload::Auto } else { Offload::Off };
        let sites = running.sites(offload)?;
        let mut track = Track::open(&mut running, sites, load)?;
        let peak = track.saturate(Duration::from_millis(1500))?;
        let half = track.paced(peak.packets_per_sec() / 2.0, Duration::from_millis(1000))?;
        for (name, round) in [("100%", &peak), ("50%", &half)] {
            println!(
                "{:<18} {:<8} {:<12} {name:>5}: {:>8.1} kpps {:>7.0} ns/packet (proc {:.2} kern {:.2} others {:.2}) wait {:.2} lat {:.0} {:.0} us",
                setup.name(), setup.way(), load.name(), round.packets_per_sec() / 1000.0, round.nanos_per_packet(),
                round.cost.processes.as_secs_f64() / round.cost.wall.as_secs_f64(),
                round.cost.kernel.as_secs_f64() / round.cost.wall.as_secs_f64(),
                round.cost.disturbed(), round.waiting, round.percentile_us(50.0), round.percentile_us(99.0),
            );
        }
        if load == Load::Single(64) {
            let idle = track.one_at_a_time(500)?;
            println!("{:<18} {:<8} idle latency p50 {:.1} p99 {:.1} us ({} of {})", setup.name(), setup.way(), idle.percentile_us(50.0), idle.percentile_us(99.0), idle.arrived, idle.sent);
        }
    }
    Ok(())
}
