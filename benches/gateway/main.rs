//! What a gateway costs end to end, over real sockets: ours, and beside it, in the same run, what a user would take otherwise.
//!
//! `cargo bench --bench gateway` needs root, two cores, `ip`, `unshare`, `taskset`, `nft`, and for the others wireguard-go, `wg` and
//! strongSwan (`scripts/packages.sh` installs them; `scripts/newer-wireguard-go` fetches one with offload), and `ethtool`. What cannot run is told as
//! NOT RUN. `-- --quick`: one pass of short rounds; `--only TEXT`: only gateways whose line has it ("ixgate wg-wg"); `--load
//! TEXT`: only such loads ("single 64", "run", "tcp", "overload"); `--json FILE`. `--exclusive`: for machines that are not quiet (`soaker`).
//! `IXGATE=PATH` measures another build, `IXGATE_BENCH_WIREGUARD_GO=PATH` another wireguard-go.
//!
//! Two sites with one prefix, and the gateway that translates between them both ways; namespaces, addresses and cables are in
//! `ground`. The gateway has core 0 with all its threads and all that the kernel does with what arrives for it (checked at the start);
//! the generator and sink, which are this program, have core 1. They are the sites' own gateways: they seal what they send, and open
//! some of what comes, to see that it is right and how long it was under way. `cost` says how processor time is counted.
//!
//! Loads are in `traffic`. *100 %*: a bounded number of packets is under way, so that the gateway always has some and loses none (the
//! latency is then what that number takes); where its core is not busy, the generator was slower. *50 %*: half as many a second, each
//! at its time. *Overload*: as many as core 1 can send; once handed over to the gateway's core packet by packet (RPS), and once received there as
//! from a network card (NAPI and GRO). *One at a time*: the latency of an idle path, beside that of the same cables
//! without a gateway's program (the kernel forwards plain packets), and with a program that does nothing else (`relay`).
//!
//! ixgate with AF_XDP (`--only "af_xdp"`) receives in a thread of the kernel's on core 0 (threaded NAPI): a program of XDP comes before the
//! kernel hands a packet to another core.
//!
//! The gateways take turns, in several passes; figures are medians, ratios are of the same run.

mod bystanders;
mod cost;
mod ground;
mod relay;
mod report;
mod rounds;
mod site;
mod soaker;
mod tally;
mod tcp;
mod traffic;
mod under_test;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ixgate::io::udp::Offload;

use self::bystanders::Bystanders;
use self::ground::{GATEWAY_CORE, LikeACard, Outcome, SITES_CORE, Side};
use self::report::{
    BESIDES, DISTURBED, Figures, KERNEL, LOADS, OVERLOAD_CARD, OVERLOADS, RELAY, STRONGSWAN, WG_ESP, WG_WG,
    WIREGUARD_GO,
};
use self::rounds::{Round, Track};
use self::site::Kind;
use self::traffic::Load;
use self::under_test::{Gateway, Programs, Running, Setup};

const INSIDE: &str = "--inside-namespace";
const EXCLUSIVE: &str = "--exclusive";
const NEWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/newer-wireguard-go");
/// A path to one, if it is not to be fetched.
const WIREGUARD_GO_VARIABLE: &str = "IXGATE_BENCH_WIREGUARD_GO";
const WIREGUARD_GO_FAILURE: &str = "IXGATE_BENCH_WIREGUARD_GO_FAILURE";
const PASSES: usize = 5;
/// Rounds that others disturb are taken again so often.
const TRIES: usize = 4;

const SETUPS: [Setup; 10] = [
    WG_WG,
    Setup { gateway: Gateway::IxgateXdp, kinds: [Kind::WireGuard; 2] },
    Setup { gateway: Gateway::IxgateXdp, kinds: [Kind::Esp; 2] },
    WIREGUARD_GO,
    WG_ESP,
    Setup { gateway: Gateway::Peers, kinds: [Kind::WireGuard, Kind::Esp] },
    Setup { gateway: Gateway::Ixgate, kinds: [Kind::Esp, Kind::Esp] },
    STRONGSWAN,
    KERNEL,
    RELAY,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let outcome = if has(relay::ARGUMENT) {
        relay::run()
    } else if let Some(file) = arguments.iter().skip_while(|argument| *argument != soaker::ARGUMENT).nth(1) {
        soaker::run(file)
    } else if has(INSIDE) {
        measure(&Options::of(&arguments))
    } else {
        return start_inside(&arguments);
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// This program once more, in namespaces and on the core of its own.
fn start_inside(arguments: &[String]) -> ExitCode {
    let probe =
        ["--net", "--mount", "ip", "link", "add", "name", "ixprobe0", "type", "veth", "peer", "name", "ixprobe1"];
    if !Command::new("unshare").args(probe).output().is_ok_and(|output| output.status.success()) {
        println!("NOT RUN: no network namespaces with veth pairs here: this needs root, `unshare` and `ip`");
        return ExitCode::SUCCESS;
    }
    if std::thread::available_parallelism().map_or(1, |cores| cores.get()) < 2 {
        println!("NOT RUN: the gateway and the sites need a core each, and there is one");
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "taskset", "-c", &SITES_CORE.to_string()]);
    if arguments.iter().any(|argument| argument == EXCLUSIVE) {
        // What it starts has it, too.
        command.args(["chrt", "-r", soaker::PRIORITY]);
    }
    command.arg(program).arg(INSIDE).args(arguments);
    if std::env::var_os(WIREGUARD_GO_VARIABLE).is_none() {
        // Here: inside there is no network.
        match Command::new(NEWER).output() {
            Ok(output) if output.status.success() => {
                command.env(WIREGUARD_GO_VARIABLE, String::from_utf8_lossy(&output.stdout).trim());
            }
            Ok(output) => {
                command.env(WIREGUARD_GO_FAILURE, String::from_utf8_lossy(&output.stderr).trim());
            }
            Err(error) => {
                command.env(WIREGUARD_GO_FAILURE, format!("{NEWER}: {error}"));
            }
        }
    }
    let status = command.status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Options {
    quick: bool,
    exclusive: bool,
    only: Option<String>,
    load: Option<String>,
    json: Option<PathBuf>,
}

impl Options {
    fn of(arguments: &[String]) -> Self {
        let after = |word: &str| arguments.iter().skip_while(|argument| *argument != word).nth(1).cloned();
        let has = |word: &str| arguments.iter().any(|argument| argument == word);
        let (quick, exclusive) = (has("--quick"), has(EXCLUSIVE));
        Options {
            quick,
            exclusive,
            only: after("--only"),
            load: after("--load"),
            json: after("--json").map(PathBuf::from),
        }
    }

    /// Whether this is to be measured.
    fn wants(&self, load: &str) -> bool {
        self.load.as_ref().is_none_or(|wanted| load.contains(wanted.as_str()))
    }

    fn round(&self) -> Duration {
        Duration::from_millis(if self.quick { 700 } else { 1500 })
    }

    fn overload(&self) -> Duration {
        Duration::from_secs(if self.quick { 4 } else { 6 })
    }

    fn lonely_packets(&self) -> usize {
        if self.quick { 600 } else { 2000 }
    }
}

fn measure(options: &Options) -> Outcome<()> {
    ground::build()?;
    ground::check_cores()?;
    let programs = programs(ground::DIRECTORY.into(), options.exclusive);
    let versions = versions(&programs);
    for (name, version) in &versions {
        println!("{name:<14}{version}");
    }
    let mut figures = Figures::default();
    for pass in 0..if options.quick { 1 } else { PASSES } {
        for setup in SETUPS {
            let line = format!("{} {}", setup.name(), setup.way());
            if options.only.as_ref().is_some_and(|only| !line.contains(only)) {
                continue;
            }
            if let Err(error) = measure_one(setup, &programs, options, &mut figures) {
                figures.note_not_run(format!("{line}, pass {}: {error}", pass + 1));
            }
        }
    }
    figures.print();
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&figures.to_json(&versions))?)?;
    }
    Ok(())
}

fn programs(directory: PathBuf, exclusive: bool) -> Programs {
    let wireguard_go = std::env::var_os(WIREGUARD_GO_VARIABLE).map(PathBuf::from).ok_or_else(|| {
        format!("no wireguard-go of 2023 or later: {}", std::env::var(WIREGUARD_GO_FAILURE).unwrap_or_default())
    });
    let ixgate = std::env::var_os("IXGATE").map_or_else(|| env!("CARGO_BIN_EXE_ixgate").into(), PathBuf::from);
    Programs { ixgate, wireguard_go, directory, exclusive }
}

fn versions(programs: &Programs) -> Vec<(String, String)> {
    let first_line = |program: &str, arguments: &[&str]| match ground::run(program, arguments) {
        Ok(text) => text.lines().next().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    };
    let wireguard_go = match &programs.wireguard_go {
        Ok(path) => {
            let package = path.ancestors().find_map(package_in);
            let own = first_line(&path.to_string_lossy(), &["--version"]);
            package.map_or(own.clone(), |package| format!("{own} ({package})"))
        }
        Err(words) => words.clone(),
    };
    let all = [
        ("ixgate", first_line(&programs.ixgate.to_string_lossy(), &["--version"])),
        ("wireguard-go", wireguard_go),
        ("strongSwan", first_line("sh", &["-c", "swanctl --version 2>&1 | grep -m1 ^strongSwan"])),
        ("nftables", first_line("nft", &["--version"])),
        ("Linux", first_line("uname", &["-r"])),
    ];
    all.map(|(name, version)| (name.to_owned(), version)).to_vec()
}

/// The Debian package that a program was unpacked from, beside it.
fn package_in(directory: &std::path::Path) -> Option<String> {
    let names = fs::read_dir(directory).ok()?.filter_map(Result::ok).map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).find(|name| name.ends_with(".deb"))
}

/// Every load through one gateway.
fn measure_one(setup: Setup, programs: &Programs, options: &Options, figures: &mut Figures) -> Outcome<()> {
    let mut running = Running::start(setup, programs)?;
    for load in LOADS.into_iter().filter(|load| options.wants(&load.name())) {
        let is_run = matches!(load, Load::Run(_));
        let load = if is_run { Load::Run(setup.longest_packet()) } else { load };
        if is_run && setup.gateway == Gateway::Relay {
            continue;
        }
        // The kernel is to have the same packets without offload.
        let _cut = (is_run && setup.gateway == Gateway::Kernel).then(|| CutRuns::start(Side::A)).transpose()?;
        let sites = running.sites(if is_run { Offload::Auto } else { Offload::Off })?;
        check_pinned(&running)?;
        let mut track = Track::open(&mut running, sites, load)?;
        let (name, payload) = (load.name(), load.payload_bytes());
        let full = undisturbed(|| track.saturate(options.round()))?;
        figures.add_round(setup, &format!("{name} 100"), &full, payload);
        let half = undisturbed(|| track.paced(full.packets_per_sec() / 2.0, options.round()))?;
        figures.add_round(setup, &format!("{name} 50"), &half, payload);
        if load == LOADS[0] {
            let idle = undisturbed(|| track.one_at_a_time(options.lonely_packets()))?;
            figures.add(setup, "idle p50", idle.percentile_us(50.0));
            figures.add(setup, "idle p99", idle.percentile_us(99.0));
            figures.add(setup, "idle disturbed", idle.cost.disturbed());
        }
        println!(
            "{:<12}{:<20}{name:<12}{:>8.1} kpps{:>8.0} ns, {:.0} % of the core; others had {:.0} %",
            setup.way(),
            setup.name(),
            full.packets_per_sec() / 1000.0,
            full.nanos_per_packet(),
            full.cost.busy() * 100.0,
            full.cost.disturbed() * 100.0
        );
    }
    if setup.kinds == [Kind::WireGuard; 2] && options.wants("tcp") {
        // Anew: what called it until now has a clock ahead of that of wireguard-go (leap seconds), whose handshakes it would refuse.
        drop(running);
        running = Running::start(setup, programs)?;
        real_tcp(setup, &mut running, programs, options, figures)?;
    }
    if matches!(setup.gateway, Gateway::Ixgate | Gateway::IxgateXdp | Gateway::Peers) && options.wants("overload") {
        overload(setup, running, options, figures)?;
    }
    Ok(())
}

fn real_tcp(
    setup: Setup,
    running: &mut Running,
    programs: &Programs,
    options: &Options,
    figures: &mut Figures,
) -> Outcome<()> {
    let wireguard_go = programs.wireguard_go.clone()?;
    let _gateways = tcp::Gateways::start(running, &wireguard_go, &programs.directory)?;
    let mut connection = tcp::Connection::open()?;
    let mut best = connection.carry(running, options.round())?;
    for _ in 1..TRIES {
        if best.cost.disturbed() > DISTURBED {
            let next = connection.carry(running, options.round())?;
            best = if next.cost.disturbed() < best.cost.disturbed() { next } else { best };
        }
    }
    figures.add(setup, "tcp s/GB", best.seconds_per_gb());
    figures.add(setup, "tcp Gbit/s", best.gbit_per_sec());
    figures.add(setup, "tcp busy", best.cost.busy());
    figures.add(setup, "tcp disturbed", best.cost.disturbed());
    Ok(())
}

/// Every thread of the gateway has to be where it is measured.
fn check_pinned(running: &Running) -> Outcome<()> {
    for process in running.processes() {
        let cores = cost::cores_of(process)?;
        if cores != [GATEWAY_CORE.to_string()] {
            return Err(format!("process {process} of the gateway may run on the cores {cores:?}").into());
        }
    }
    Ok(())
}

/// The least disturbed of a few.
fn undisturbed(mut take: impl FnMut() -> Outcome<Round>) -> Outcome<Round> {
    let mut best = take()?;
    for _ in 1..TRIES {
        if best.cost.disturbed() <= DISTURBED {
            break;
        }
        let next = take()?;
        if next.cost.disturbed() < best.cost.disturbed() {
            best = next;
        }
    }
    Ok(best)
}

fn overload(setup: Setup, mut running: Running, options: &Options, figures: &mut Figures) -> Outcome<()> {
    let _cut = CutRuns::start(Side::A)?;
    // Before everything else it would also go before the kernel's softirq thread, which is what overload is about.
    running.lower_priority()?;
    let sites = running.sites(Offload::Auto)?;
    let is_ours = matches!(setup.gateway, Gateway::Ixgate | Gateway::IxgateXdp);
    let mut bystanders = is_ours.then(|| Bystanders::connect(&running)).transpose()?;
    let mut track = Track::open(&mut running, sites, Load::Equal(64))?;
    for bed in OVERLOADS {
        let _card = if bed == OVERLOAD_CARD { Some(LikeACard::start(Side::A)?) } else { None };
        let peak = undisturbed(|| track.peak(options.round()))?;
        let over = track.overload(options.overload(), &mut bystanders)?;
        let peak_per_sec = peak.packets_per_sec();
        for (name, per_sec) in [("peak", peak_per_sec), ("offered", over.offered), ("goodput", over.goodput)] {
            figures.add(setup, format!("{bed} {name} kpps"), per_sec / 1000.0);
        }
        figures.add(setup, format!("{bed} share"), over.goodput / peak_per_sec);
        figures.add(setup, format!("{bed} times"), over.offered / peak_per_sec);
        figures.add(setup, format!("{bed} disturbed"), peak.cost.disturbed());
        let Some(counts) = over.counts else { continue };
        for (what, [tried, done]) in BESIDES.into_iter().zip([counts.handshakes, counts.questions, counts.rekeys]) {
            figures.add(setup, format!("{bed} {what} tried"), tried as f64);
            figures.add(setup, format!("{bed} {what} done"), done as f64);
        }
    }
    Ok(())
}

/// As long as it lives, a side's cable cuts runs into single packets.
struct CutRuns(Side);

impl CutRuns {
    fn start(side: Side) -> Outcome<Self> {
        ground::cut_runs(side, true).map(|()| CutRuns(side))
    }
}

impl Drop for CutRuns {
    fn drop(&mut self) {
        // The next who needs whole runs would see it by his figures; the cable ends with the namespace.
        if let Err(error) = ground::cut_runs(self.0, false) {
            eprintln!("{error}");
        }
    }
}
