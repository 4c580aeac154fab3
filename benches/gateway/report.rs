//! All figures of a run, medians, tables, and the targets beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::rounds::Round;
use crate::site::Kind;
use crate::traffic::Load;
use crate::under_test::{Gateway, Setup};

/// What every gateway gets; of runs, packets as long as its tunnels carry.
pub const LOADS: [Load; 3] = [Load::Single(64), Load::Single(1200), Load::Run(1420)];
/// Of a core, by other programs: beyond this a round is taken again, and in the end told.
pub const DISTURBED: f64 = 0.05;

/// Samples of every figure of every gateway.
#[derive(Default)]
pub struct Figures {
    samples: BTreeMap<(usize, String), Vec<f64>>,
    setups: Vec<Setup>,
    not_run: Vec<String>,
}

impl Figures {
    pub fn add(&mut self, setup: Setup, figure: impl Into<String>, value: f64) {
        let number = self.number(setup);
        self.samples.entry((number, figure.into())).or_default().push(value);
    }

    pub fn add_round(&mut self, setup: Setup, prefix: &str, round: &Round, payload_bytes: usize) {
        let per_gb = round.nanos_per_packet() / payload_bytes as f64;
        let all = [
            ("kpps", round.packets_per_sec() / 1000.0),
            ("ns", round.nanos_per_packet()),
            ("s/GB", per_gb),
            ("busy", round.cost.busy()),
            ("kernel", round.cost.kernel.as_secs_f64() / round.cost.total().as_secs_f64().max(1e-9)),
            ("joined", round.per_message),
            ("p50", round.percentile_us(50.0)),
            ("p99", round.percentile_us(99.0)),
            ("disturbed", round.cost.disturbed()),
        ];
        for (name, value) in all {
            self.add(setup, format!("{prefix} {name}"), value);
        }
    }

    pub fn note_not_run(&mut self, words: String) {
        println!("NOT RUN: {words}");
        self.not_run.push(words);
    }

    fn number(&mut self, setup: Setup) -> usize {
        if let Some(number) = self.setups.iter().position(|known| *known == setup) {
            return number;
        }
        self.setups.push(setup);
        self.setups.len() - 1
    }

    /// The median; `None`: not measured.
    pub fn of(&self, setup: Setup, figure: &str) -> Option<f64> {
        let number = self.setups.iter().position(|known| *known == setup)?;
        let mut values = self.samples.get(&(number, figure.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn sum(&self, setup: Setup, figure: &str) -> Option<f64> {
        let number = self.setups.iter().position(|known| *known == setup)?;
        Some(self.samples.get(&(number, figure.to_owned()))?.iter().sum())
    }

    pub fn print(&self) {
        for load in LOADS {
            self.print_load(load);
        }
        self.print_tcp();
        self.print_idle();
        self.print_overload();
        self.print_targets();
        self.print_disturbances();
        for words in &self.not_run {
            println!("NOT RUN: {words}");
        }
    }

    fn print_load(&self, load: Load) {
        let name = load.name();
        println!("\n{}: {}", name, explained(load));
        println!(
            "{:<12}{:<20}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "tunnels",
            "gateway",
            "kpps",
            "core",
            "joined",
            "ns",
            "kernel",
            "s/GB",
            "x ixgate",
            "p50 us",
            "p99 us",
            "ns 50 %",
            "p50 us",
            "p99 us"
        );
        for setup in &self.setups {
            let figure = |part: &str| self.of(*setup, &format!("{name} {part}"));
            let Some(nanos) = figure("100 ns") else { continue };
            // Beside ours by the same tunnels; what has no tunnels, beside ours by WireGuard.
            let cost = figure("100 s/GB");
            let ours = ours_beside(*setup).and_then(|ours| self.of(ours, &format!("{name} 100 s/GB")));
            let number = |value: Option<f64>, digits: usize| {
                value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
            };
            println!(
                "{:<12}{:<20}{:>9}{:>6}%{:>8}{:>9}{:>8}%{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
                setup.way(),
                setup.name(),
                number(figure("100 kpps"), 1),
                number(figure("100 busy").map(|share| share * 100.0), 0),
                number(figure("100 joined"), 1),
                number(Some(nanos), 0),
                number(figure("100 kernel").map(|share| share * 100.0), 0),
                number(cost, 2),
                number(cost.zip(ours).map(|(cost, ours)| cost / ours), 2),
                number(figure("100 p50"), 0),
                number(figure("100 p99"), 0),
                number(figure("50 ns"), 0),
                number(figure("50 p50"), 0),
                number(figure("50 p99"), 0),
            );
        }
    }

    fn print_tcp(&self) {
        println!("\nthe kernel's own TCP, one connection, sites behind wireguard-go with offload on the sites' core");
        for setup in &self.setups {
            let figure = |name: &str| self.of(*setup, name);
            let (Some(cost), Some(speed), Some(busy)) = (figure("tcp s/GB"), figure("tcp Gbit/s"), figure("tcp busy"))
            else {
                continue;
            };
            let ours = ours_beside(*setup).and_then(|ours| self.of(ours, "tcp s/GB"));
            let beside = ours.map_or_else(String::new, |ours| format!("  {:.2} x ixgate", cost / ours));
            let (way, name, busy) = (setup.way(), setup.name(), busy * 100.0);
            println!("{way:<12}{name:<20}{cost:>7.2} s/GB  {speed:>6.2} Gbit/s  {busy:>3.0} % of the core{beside}");
        }
    }

    fn print_idle(&self) {
        println!(
            "\none packet at a time (64 bytes), from site to site, us; above the floor of the kernel's forwarding | of the relay"
        );
        for setup in &self.setups {
            let (Some(p50), Some(p99)) = (self.of(*setup, "idle p50"), self.of(*setup, "idle p99")) else { continue };
            let above = |floor: Setup| {
                let above = |figure, value: f64| self.of(floor, figure).map_or(f64::NAN, |floor| value - floor);
                format!("{:>7.1}{:>8.1}", above("idle p50", p50), above("idle p99", p99))
            };
            let (way, name) = (setup.way(), setup.name());
            println!("{way:<12}{name:<20}p50 {p50:>7.1}  p99 {p99:>7.1}   above: {} | {}", above(KERNEL), above(RELAY));
        }
    }

    fn print_overload(&self) {
        println!(
            "\noverload (64 bytes, one size, cut from the sender's runs by its cable), kpps; then received as from a card (NAPI, GRO)"
        );
        let lines = OVERLOADS.iter().flat_map(|bed| self.setups.iter().map(move |setup| (bed, setup)));
        for (bed, setup) in lines {
            let figure = |name: &str| self.of(*setup, &format!("{bed} {name}"));
            let (Some(peak), Some(offered), Some(goodput)) =
                (figure("peak kpps"), figure("offered kpps"), figure("goodput kpps"))
            else {
                continue;
            };
            let share = figure("share").unwrap_or(f64::NAN) * 100.0;
            print!(
                "{:<12}{:<20}{bed:<15}peak {peak:>7.1}  offered {offered:>7.1} ({:.1} x)  goodput {goodput:>7.1} = {share:.0} %",
                setup.way(),
                setup.name(),
                offered / peak
            );
            for what in BESIDES {
                let sum = |part: &str| self.sum(*setup, &format!("{bed} {what} {part}"));
                if let (Some(tried), Some(done)) = (sum("tried"), sum("done")) {
                    print!("  {what} {done} of {tried}");
                }
            }
            println!();
        }
    }

    fn print_targets(&self) {
        println!("\ntargets (issue 6)");
        let ratio = |ours: Setup, other: Setup, figure: &str| Some(self.of(other, figure)? / self.of(ours, figure)?);
        for ours in [WG_WG, WG_ESP] {
            let way = ours.way();
            for (other, least) in [(WIREGUARD_GO, 3.0), (STRONGSWAN, 10.0)] {
                let name = format!("{way}, runs: CPU per GB, {} / ixgate", other.name());
                judge(&name, ratio(ours, other, "run 100 s/GB"), least, Bound::AtLeast);
            }
            if ours == WG_WG {
                let name = format!("{way}, the kernel's TCP: CPU per GB, {} / ixgate", WIREGUARD_GO.name());
                judge(&name, ratio(ours, WIREGUARD_GO, "tcp s/GB"), 3.0, Bound::AtLeast);
            }
            for size in [64, 1200] {
                for other in [WIREGUARD_GO, STRONGSWAN] {
                    let name = format!("{way}, single {size}: CPU per packet, {} / ixgate", other.name());
                    judge(&name, ratio(ours, other, &format!("single {size} 100 ns")), 2.5, Bound::AtLeast);
                }
            }
            let name = format!("{way}, runs: CPU per packet, ixgate / kernel + nft in clear, no offload");
            judge(&name, ratio(KERNEL, ours, "run 100 ns"), 1.0, Bound::AtMost);
            for bed in OVERLOADS {
                let of = |what: &str| self.of(ours, &format!("{bed} {what}"));
                judge(&format!("{way}, {bed}: goodput / peak"), of("share"), 0.9, Bound::AtLeast);
                judge(&format!("{way}, {bed}: offered / peak"), of("times"), 10.0, Bound::AtLeast);
                for what in BESIDES {
                    let of = |part: &str| self.sum(ours, &format!("{bed} {what} {part}"));
                    let share = of("done").zip(of("tried")).map(|(done, tried)| done / tried);
                    judge(&format!("{way}, {bed}: {what} that succeed"), share, 0.9, Bound::AtLeast);
                }
            }
            for (figure, most) in [("idle p50", 60.0), ("idle p99", 200.0)] {
                let above = self.of(ours, figure).zip(self.of(KERNEL, figure)).map(|(ours, floor)| ours - floor);
                judge(&format!("{way}, {figure} above the kernel's forwarding, us"), above, most, Bound::AtMost);
            }
        }
    }

    fn print_disturbances(&self) {
        let worst = self.samples.iter().filter(|((_, figure), _)| figure.ends_with("disturbed"));
        let rounds: Vec<f64> = worst.flat_map(|(_, values)| values.iter().copied()).collect();
        let bad = rounds.iter().filter(|share| **share > DISTURBED).count();
        if bad > 0 {
            let most = rounds.iter().copied().fold(0.0, f64::max) * 100.0;
            println!(
                "\nDISTURBED: in {bad} of {} rounds other programs had more than {:.0} % of the gateway's core (at most {most:.0} %): \
                 softirqs that interrupt them are not counted, and latencies are theirs, too. Run this on a quiet machine.",
                rounds.len(),
                DISTURBED * 100.0
            );
        }
    }

    pub fn to_json(&self, versions: &[(String, String)]) -> Value {
        let setups: Vec<Value> = self
            .setups
            .iter()
            .enumerate()
            .map(|(number, setup)| {
                let own = self.samples.iter().filter(|((of, _), _)| *of == number);
                let figures: serde_json::Map<String, Value> = own
                    .map(|((_, name), values)| {
                        (name.clone(), json!({ "median": self.of(*setup, name), "samples": values }))
                    })
                    .collect();
                json!({ "gateway": setup.name(), "tunnels": setup.way(), "figures": figures })
            })
            .collect();
        let versions: serde_json::Map<String, Value> =
            versions.iter().map(|(name, version)| (name.clone(), json!(version))).collect();
        json!({ "versions": versions, "setups": setups, "not_run": self.not_run })
    }
}

/// How what is too much comes to the gateway's core: handed over by the sender's, packet by packet (RPS); or as from a card.
pub const OVERLOADS: [&str; 2] = ["overload", OVERLOAD_CARD];
pub const OVERLOAD_CARD: &str = "overload, card";

/// What has to work beside the overload.
pub const BESIDES: [&str; 3] = ["handshakes", "DNS answers", "rekeys"];

pub const WG_WG: Setup = Setup { gateway: Gateway::Ixgate, kinds: [Kind::WireGuard, Kind::WireGuard] };
pub const WG_ESP: Setup = Setup { gateway: Gateway::Ixgate, kinds: [Kind::WireGuard, Kind::Esp] };
pub const WIREGUARD_GO: Setup = Setup { gateway: Gateway::Peers, kinds: [Kind::WireGuard, Kind::WireGuard] };
pub const STRONGSWAN: Setup = Setup { gateway: Gateway::Peers, kinds: [Kind::Esp, Kind::Esp] };
pub const KERNEL: Setup = Setup { gateway: Gateway::Kernel, kinds: [Kind::Frames, Kind::Frames] };
pub const RELAY: Setup = Setup { gateway: Gateway::Relay, kinds: [Kind::Socket, Kind::Socket] };

fn ours_beside(setup: Setup) -> Option<Setup> {
    match setup.gateway {
        Gateway::Ixgate => None,
        Gateway::IxgateXdp | Gateway::Peers => Some(Setup { gateway: Gateway::Ixgate, ..setup }),
        Gateway::Kernel | Gateway::Relay => Some(WG_WG),
    }
}

fn explained(load: Load) -> &'static str {
    match load {
        Load::Single(_) => "UDP of 64 flows, one by one, of sizes that are hard to join",
        Load::Equal(_) => "UDP of 64 flows, one by one",
        Load::Run(_) => {
            "TCP segments of one connection, 1420 bytes (strongSwan: 1400), 44 in a message of the sender; to the kernel one by one"
        }
    }
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast,
    AtMost,
}

fn judge(name: &str, value: Option<f64>, bound: f64, kind: Bound) {
    let (word, is_met) = match kind {
        Bound::AtLeast => (">=", value.is_some_and(|value| value >= bound)),
        Bound::AtMost => ("<=", value.is_some_and(|value| value <= bound)),
    };
    match value {
        Some(value) => {
            println!("{:<8}{name}: {value:.2} (target {word} {bound})", if is_met { "met" } else { "MISSED" });
        }
        None => println!("{:<8}{name} (target {word} {bound})", "NOT RUN"),
    }
}
