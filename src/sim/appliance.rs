//! An engine from configuration text, with keys made for its peers.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::{self, MemorySecrets, model::Config};
use crate::control::snapshot::{Surroundings, TunnelNumbers, setup, snapshot};
use crate::control::{Allocations, allocate, compile_addresses};
use crate::dataplane::{Engine, Report, Snapshot};
use crate::net::mapping::Located;
use crate::net::random::Seeded;
use crate::net::{Generation, RealmId, Timestamp};
use crate::packet::DropReason;

use super::peer::public_key;
use super::random::Random;

/// What the text's `private_key_file` must be.
const PRIVATE_KEY_FILE: &str = "secrets/wireguard.key";
const PRIVATE_KEY: [u8; 32] = [0x42; 32];
/// When virtual time begins: 2027-01-15.
const UNIX_TIME_AT_ZERO: Duration = Duration::from_secs(1_800_000_000);

/// A validated and compiled configuration, ready to run in memory.
pub struct Appliance {
    pub config: Config,
    pub allocations: Allocations,
    pub snapshot: Arc<Snapshot>,
    pub public_key: [u8; 32],
    numbers: TunnelNumbers,
}

impl Appliance {
    /// From the text of a configuration file, where `{key:NAME}` stands for the public key of the site NAME.
    ///
    /// # Panics
    /// When the text is no valid configuration: it is the caller's own.
    pub fn build(text: &str) -> Self {
        Self::with_state(text, &Allocations::default())
    }

    /// The same, with what earlier runs have allocated.
    pub fn with_state(text: &str, state: &Allocations) -> Self {
        let config = parse(text);
        let mut numbers = TunnelNumbers::default();
        let (allocations, snapshot) = compile(&config, state, &mut numbers, Generation(1));
        Appliance { config, allocations, snapshot, public_key: public_key(&PRIVATE_KEY), numbers }
    }

    /// The next generation, from changed text. To be given to [`Engine::publish`].
    pub fn change(&mut self, text: &str) -> Arc<Snapshot> {
        self.config = parse(text);
        let generation = Generation(self.snapshot.generation.0 + 1);
        let (allocations, mut snapshot) = compile(&self.config, &self.allocations, &mut self.numbers, generation);
        Arc::get_mut(&mut snapshot).expect("nobody else has it yet").get_ready(&self.snapshot);
        (self.allocations, self.snapshot) = (allocations, snapshot);
        self.snapshot.clone()
    }

    pub fn engine(&self, now: Timestamp) -> Engine {
        // Another engine makes other keys, as after a restart.
        let surroundings = Surroundings {
            seed: 0x1234_5678_9abc_def0,
            wireguard_random: Random(now.as_micros()).into_source(),
            ike_random: Box::new(Seeded(now.as_micros())),
            dns_random: Box::new(Seeded(!now.as_micros())),
            link_random: Box::new(Seeded(now.as_micros().rotate_left(32))),
            unix_time_at_zero: UNIX_TIME_AT_ZERO,
        };
        Engine::new(setup(&self.config, surroundings), self.snapshot.clone(), now)
    }

    /// What is in the file `secrets/NAME.psk`.
    pub fn psk(name: &str) -> String {
        format!("the preshared key of {name}, long enough")
    }

    /// The private key of the site `name`.
    pub fn site_key(&self, name: &str) -> [u8; 32] {
        site_key(name)
    }

    pub fn realm(&self, name: &str) -> RealmId {
        let position = self.config.realms.iter().position(|realm| realm.name == name).expect("a configured realm");
        self.allocations.realm_id(&self.config.realms[position].name).expect("a numbered realm")
    }

    pub fn locate(&self, realm: &str, native: &str) -> Located {
        let native: IpAddr = native.parse().expect("an address");
        self.snapshot.mapping.locate_native(self.realm(realm), native).expect("an address of the realm")
    }

    /// How `viewer` sees the host `native` of `realm`.
    pub fn seen_by(&self, viewer: &str, realm: &str, native: &str) -> IpAddr {
        self.snapshot.mapping.seen_by(self.realm(viewer), self.locate(realm, native)).expect("an alias")
    }

    /// How the hosts of `realm` reach the IX's name server over IPv4.
    pub fn resolver_of(&self, realm: &str) -> Option<Ipv4Addr> {
        match self.snapshot.mapping.seen_by(self.realm(realm), self.snapshot.service.dns)? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// How many packets of `realm` were dropped for `reason`.
    pub fn drops(&self, report: &Report, realm: &str, reason: DropReason) -> u64 {
        let id = self.realm(realm);
        report.realms.iter().find(|realm| realm.realm == id).map_or(0, |realm| realm.drops[reason.index()])
    }

    /// The first host address of `realm`'s first alias, as everybody sees it.
    pub fn alias_of(&self, realm: &str) -> Ipv4Addr {
        let realm = self.realm(realm);
        let network = self.snapshot.mapping.networks().iter().find(|network| network.realm == realm);
        network.and_then(|network| network.alias?.hosts().next()).expect("an IPv4 alias")
    }
}

fn compile(
    config: &Config,
    state: &Allocations,
    numbers: &mut TunnelNumbers,
    generation: Generation,
) -> (Allocations, Arc<Snapshot>) {
    let (allocations, _) = allocate(config, state).expect("room for every alias");
    let compiled = compile_addresses(config, &allocations).expect("what was allocated fits");
    let snapshot = snapshot(config, compiled, numbers, generation).expect("a valid zone");
    (allocations, Arc::new(snapshot))
}

fn parse(text: &str) -> Config {
    let mut secrets = MemorySecrets::default();
    secrets.insert(PRIVATE_KEY_FILE, STANDARD.encode(PRIVATE_KEY));
    for name in psk_names(text) {
        secrets.insert(format!("secrets/{name}.psk"), Appliance::psk(name));
    }
    match config::parse(&fill_in_keys(text), Path::new("sim.toml"), &secrets) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{}", words(&report)),
    }
}

/// Every NAME of a `secrets/NAME.psk` in the text.
fn psk_names(text: &str) -> impl Iterator<Item = &str> {
    text.split("secrets/")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(".psk\"")?.0))
        .filter(|name| !name.contains('"'))
}

fn words(report: &config::Report) -> String {
    report.errors().map(|error| format!("{}:{}: {}\n", error.line, error.column, error.message)).collect()
}

fn fill_in_keys(text: &str) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{key:") {
        let (name, after) = after.split_once('}').expect("a closing brace");
        filled += before;
        filled += &STANDARD.encode(public_key(&site_key(name)));
        rest = after;
    }
    filled + rest
}

/// Made from the name, so that the same text always means the same keys. The first and last byte are left alone, as
/// X25519 ignores some of their bits.
fn site_key(name: &str) -> [u8; 32] {
    let mut key = [0x51_u8; 32];
    for (at, byte) in name.bytes().enumerate() {
        let place = 1 + at % 30;
        key[place] = key[place].wrapping_mul(31).wrapping_add(byte);
    }
    key
}
