//! The appliance against a reference that is slow and obviously right: it reads the configuration's lists, and adds and
//! subtracts addresses. Over random realms, grants, names and packets, through real WireGuard tunnels: for every asker and
//! name the answer, sent to from the asker, arrives at the owner; the reply returns; no other realm is touched; out and back
//! is the identity.
//!
//! `IXGATE_ORACLE_CASES=N` and `IXGATE_SEED=N` change the number of cases in all and the draw; a failure prints the seed, the
//! configuration, the case and what both say, and `IXGATE_ORACLE_WORLD=N`, which draws that configuration alone.

#[path = "oracle/asking.rs"]
mod asking;
#[path = "oracle/cases.rs"]
mod cases;
#[path = "oracle/draw.rs"]
mod draw;
#[path = "oracle/file.rs"]
mod file;
#[path = "oracle/foreign.rs"]
mod foreign;
#[path = "oracle/hold.rs"]
mod hold;
#[path = "oracle/ports.rs"]
mod ports;
#[path = "oracle/resolver.rs"]
mod resolver;
#[path = "oracle/translator.rs"]
mod translator;
#[path = "oracle/view.rs"]
mod view;
#[path = "oracle/world.rs"]
mod world;

use std::env;

use ixgate::sim::appliance::Appliance;
use ixgate::sim::random::Random;

use hold::{Held, Tally};
use view::View;

/// In all. One is a question and its answer, a packet and its reply (or why there is none), or a question and a packet to what
/// was answered.
const CASES: u64 = 1_000_000;
const CASES_PER_WORLD: u64 = 500;
/// Tests that share the cases, so that they run beside each other.
const SHARES: u64 = 4;

/// Of a thousand cases at least so many: else the worlds have become too poor to say anything.
const EXPECTED: [(&str, u64); 15] = [
    ("names", 300),
    ("sent to as named", 60),
    ("arrived", 250),
    ("returned", 120),
    ("across IP versions", 60),
    ("within one realm", 15),
    ("bound to a port", 5),
    ("let in by a pool", 5),
    ("reported", 8),
    ("in fragments", 1),
    ("not_granted", 60),
    ("no_session", 5),
    ("source_has_no_alias", 10),
    ("napt_filtered", 2),
    ("napt_no_binding", 2),
];
/// Fewer cases are too few worlds to expect that of.
const MANY_CASES: u64 = 50_000;

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Prints what is needed to see it again when the test fails.
struct Scene {
    seed: u64,
    configuration: String,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}\nthis world alone: IXGATE_ORACLE_WORLD={}", self.configuration, self.seed);
        }
    }
}

fn hold_world(seed: u64, cases: u64) -> Tally {
    let mut random = Random(seed);
    let world = draw::world(&mut random);
    let scene = Scene { seed, configuration: world.to_toml() };
    let appliance = Appliance::build(&scene.configuration);
    let view = View::new(&world, &appliance.allocations);
    let mut held = Held::new(&view, appliance, random);
    while held.tally.of("cases") < cases {
        held.case();
    }
    held.compare_drops();
    held.tally
}

fn hold_share(share: u64) {
    let seed = from_env("IXGATE_SEED", 1);
    let cases = from_env("IXGATE_ORACLE_CASES", CASES) / SHARES;
    let mut tally = Tally::default();
    if let Some(world) = env::var("IXGATE_ORACLE_WORLD").ok().and_then(|world| world.parse().ok()) {
        tally.add(&hold_world(world, CASES_PER_WORLD));
        return println!("{tally}");
    }
    let mut worlds = Random(seed.wrapping_mul(SHARES).wrapping_add(share));
    while tally.of("cases") < cases {
        tally.add(&hold_world(worlds.draw(), CASES_PER_WORLD.min(cases - tally.of("cases"))));
    }
    println!("seed {seed}, share {share} of {SHARES}: {tally}");
    for (what, permille) in EXPECTED.into_iter().filter(|_| cases >= MANY_CASES) {
        let least = cases * permille / 1000;
        assert!(tally.of(what) >= least, "too little of `{what}` to say anything: {tally}");
    }
}

#[test]
fn names_and_packets_are_as_the_reference_says_1() {
    hold_share(0);
}

#[test]
fn names_and_packets_are_as_the_reference_says_2() {
    hold_share(1);
}

#[test]
fn names_and_packets_are_as_the_reference_says_3() {
    hold_share(2);
}

#[test]
fn names_and_packets_are_as_the_reference_says_4() {
    hold_share(3);
}

/// Realms with resolvers of their own, a tenth as many cases again.
#[test]
fn names_that_others_answer_are_as_the_reference_says() {
    let seed = from_env("IXGATE_SEED", 1);
    let cases = from_env("IXGATE_ORACLE_CASES", CASES) / 10;
    let mut worlds = Random(!seed);
    let mut tally = Tally::default();
    while tally.of("cases") < cases {
        let world_seed = from_env("IXGATE_ORACLE_WORLD", worlds.draw());
        tally.add(&hold_domains(world_seed, CASES_PER_WORLD.min(cases - tally.of("cases"))));
    }
    println!("seed {seed}: {tally}");
    for what in ["told something", "told why not", "names of addresses"] {
        assert!(tally.of(what) * 50 > cases || cases < MANY_CASES, "too little of `{what}` to say anything: {tally}");
    }
}

fn hold_domains(seed: u64, cases: u64) -> Tally {
    let mut random = Random(seed);
    let mut world = draw::world(&mut random);
    draw::resolvers(&mut random, &mut world);
    let scene = Scene { seed, configuration: world.to_toml() };
    let appliance = Appliance::build(&scene.configuration);
    let view = View::new(&world, &appliance.allocations);
    let domains = foreign::draw(&view, &mut random);
    let mut held = Held::new(&view, appliance, random);
    (0..cases).for_each(|_| held.foreign_name(&domains));
    held.compare_drops();
    held.tally
}
