//! From text to an engine, step by step, each timed.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ixgate::config::{self, MemorySecrets, model::Config};
use ixgate::control::snapshot::{Surroundings, TunnelNumbers, setup, snapshot};
use ixgate::control::{Allocations, allocate, compile_addresses};
use ixgate::dataplane::{Engine, Snapshot};
use ixgate::io::memory::prefer_huge_pages;
use ixgate::net::random::Seeded;
use ixgate::net::{Generation, RealmId, Timestamp};
use ixgate::sim::random::Random;

use super::meters::timed;

/// What the daemon keeps of a configuration.
pub struct Built {
    pub config: Config,
    pub allocations: Allocations,
    pub numbers: TunnelNumbers,
    pub snapshot: Arc<Snapshot>,
}

/// How long each step took.
#[derive(Clone, Copy, Default)]
pub struct Steps {
    pub check: Duration,
    pub allocate: Duration,
    pub compile: Duration,
    pub snapshot: Duration,
}

impl Built {
    pub fn new(text: &str, secrets: &MemorySecrets) -> (Self, Steps) {
        Self::next(text, secrets, &Allocations::default(), TunnelNumbers::default(), Generation(1))
    }

    /// The next generation.
    pub fn change(&self, text: &str, secrets: &MemorySecrets) -> (Self, Steps) {
        let generation = Generation(self.snapshot.generation.0 + 1);
        let (mut built, mut steps) = Self::next(text, secrets, &self.allocations, self.numbers.clone(), generation);
        let snapshot = Arc::get_mut(&mut built.snapshot).expect("nobody else has it yet");
        steps.snapshot += timed(|| snapshot.get_ready(&self.snapshot)).1;
        (built, steps)
    }

    fn next(
        text: &str,
        secrets: &MemorySecrets,
        state: &Allocations,
        mut numbers: TunnelNumbers,
        generation: Generation,
    ) -> (Self, Steps) {
        let (loaded, check) = timed(|| config::parse(text, Path::new("scale.toml"), secrets));
        let config = match loaded {
            Ok(loaded) => loaded.config,
            Err(report) => panic!("{report}"),
        };
        let (allocated, allocating) = timed(|| allocate(&config, state));
        let (allocations, _) = allocated.expect("room for every alias");
        let (compiled, compile) = timed(|| compile_addresses(&config, &allocations));
        let compiled = compiled.expect("what was allocated fits");
        let (made, making) = timed(|| snapshot(&config, compiled, &mut numbers, generation));
        let snapshot = Arc::new(made.expect("a valid zone"));
        (
            Built { config, allocations, numbers, snapshot },
            Steps { check, allocate: allocating, compile, snapshot: making },
        )
    }

    pub fn engine(&self, now: Timestamp) -> Engine {
        let surroundings = Surroundings {
            seed: 0x1234_5678_9abc_def0,
            wireguard_random: Random(1).into_source(),
            ike_random: Box::new(Seeded(2)),
            dns_random: Box::new(Seeded(3)),
            link_random: Box::new(Seeded(4)),
            unix_time_at_zero: Duration::from_secs(1_800_000_000),
        };
        let engine = Engine::new(setup(&self.config, surroundings), self.snapshot.clone(), now);
        engine.large_tables().into_iter().for_each(|table| drop(prefer_huge_pages(table)));
        engine
    }

    pub fn realm(&self, realm: usize) -> RealmId {
        self.allocations.realm_id(&self.config.realms[realm].name).expect("a numbered realm")
    }

    /// How others see the first host of each realm, by the realm's place in the file.
    pub fn aliases(&self) -> Vec<Ipv4Addr> {
        let mut first = HashMap::new();
        for network in self.snapshot.mapping.networks() {
            first.entry(network.realm).or_insert(network.alias);
        }
        let alias = |realm| first.get(&self.realm(realm)).and_then(|alias| alias.as_ref()?.hosts().next());
        (0..self.config.realms.len()).map(|realm| alias(realm).expect("an IPv4 alias")).collect()
    }
}
