//! Joins the file, the state store and the engine into the running appliance.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::dnssec_key::{self, SigningKeyError};
use super::interfaces::{self, InterfacePlan, States};
use super::names;
use super::open::{self, IkePlan, OpenError, Plan};
use super::routes::Shared;
use super::run::{Cause, Learning, Reloaded, run};
use super::worker::Core;
use crate::config;
use crate::config::model::{Config, Ike, Ix, Limits};
use crate::control::change::Change;
use crate::control::learned::{self, Heard};
use crate::control::prepare::{PrepareError, Prepared, prepare, waits_for_restart};
use crate::control::snapshot::{Surroundings, TunnelNumbers, setup};
use crate::control::store::{Store, StoreError};
use crate::dataplane::report::{Pulse, Report, TunnelReports};
use crate::dataplane::{Engine, Event, Parcel, Snapshot};
use crate::dns::forward::{Action, ExchangeId};
use crate::io::clock::Clock;
use crate::io::memory::prefer_huge_pages;
use crate::io::sockets::{Sockets, Watch};
use crate::io::{privileges, rng};
use crate::net::{Generation, LinkReport, PathReport, Timestamp};
use crate::packet::{Datagram, Outbox};

/// Why the appliance did not start; exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("the configuration has errors; nothing was started\n{0}")]
    Config(#[from] config::Report),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a new configuration was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("the file has errors\n{0}")]
    Config(#[from] config::Report),
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Loads `file` and runs until told to end.
pub fn launch(file: &Path) -> Result<ExitCode, LaunchError> {
    let config::Loaded { mut config, warnings, .. } = config::load(file)?;
    log_warnings(&warnings);
    // Ports first: a start that fails for them has given nobody an alias.
    let mut numbers = TunnelNumbers::default();
    let interfaces = numbers.interfaces(&config).map_err(PrepareError::from)?;
    let plan = Plan::of(&config, &interfaces);
    let running = Arc::new(Mutex::new(plan.interfaces.clone()));
    let mut opened = privileges::with(|| plan.open())?;
    if config.realms.iter().all(|realm| realm.routes_from.is_none()) {
        privileges::enter_no_namespaces();
    }
    let mut store = Store::open(&config.ix.state_dir)?;
    dnssec_key::ensure(&mut config)?;
    let generation = Generation(1);
    let Prepared { snapshot, changes } =
        prepare(&config, &mut store, &mut numbers, generation, generation, SystemTime::now())?;
    log_changes(&changes);

    let clock = Clock::start();
    let surroundings = Surroundings {
        seed: rng::u64(),
        wireguard_random: Box::new(rng::fill),
        ike_random: Box::new(rng::System),
        dns_random: Box::new(rng::System),
        link_random: Box::new(rng::System),
        unix_time_at_zero: clock.unix_time_at_zero(),
    };
    let (published, current) = watch::channel(snapshot.clone());
    opened.serve_zone(current);
    let engine = Engine::new(setup(&config, surroundings), snapshot.clone(), clock.now());
    // Where the kernel has no huge pages it works without.
    engine.large_tables().into_iter().for_each(|table| drop(prefer_huge_pages(table)));
    // Nothing is learned yet: what was before keeps its aliases, reserved.
    let heard = Shared::default();
    let names = names::of(&config, &snapshot, &[], &Heard::default());
    let ike_ports = if config.uses_ipsec() { opened.sockets.watch() } else { Watch::default() };
    let mut reloader = Reloader {
        file: file.to_owned(),
        config,
        ike_ports,
        store,
        numbers,
        generation,
        file_read_in: generation,
        published: Arc::new(published),
        running,
        states: opened.states.clone(),
        heard: heard.clone(),
        latest: None,
        waiting: Vec::new(),
    };
    Ok(run(opened, engine, names, clock, move |cause| reloader.reload(cause), Learning { heard }))
}

/// What a reload needs: the configuration that runs, and the state that it may change.
struct Reloader {
    file: PathBuf,
    config: Config,
    /// Once a realm was attached by IPsec, its ports stay open: unless the worker never got them.
    ike_ports: Watch,
    store: Store,
    numbers: TunnelNumbers,
    generation: Generation,
    /// The first generation of the file that runs.
    file_read_in: Generation,
    /// For those who are served beside the packet path.
    published: Arc<watch::Sender<Arc<Snapshot>>>,
    /// The interfaces of the configuration that runs, and how they are.
    running: Arc<Mutex<Vec<InterfacePlan>>>,
    states: States,
    /// What routing daemons say now, and said when the configuration was last made.
    heard: Shared,
    latest: Option<Heard>,
    /// What of the file takes effect at the next start only.
    waiting: Vec<String>,
}

impl Reloader {
    /// `None`: there is nothing new.
    fn reload(&mut self, cause: Cause) -> Result<Option<Reloaded<Snapshot>>, ReloadError> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if cause == Cause::Routes && self.latest.as_ref() == Some(&heard) {
            return Ok(None);
        }
        let mut config = match cause {
            Cause::Routes => self.config.clone(),
            Cause::File => {
                let config::Loaded { config, warnings, .. } = config::load(&self.file)?;
                log_warnings(&warnings);
                config
            }
        };
        let waiting = waits_for_restart(&self.config, &config)?;
        let mut waiting: Vec<String> = waiting.into_iter().map(str::to_owned).collect();
        dnssec_key::ensure(&mut config)?;
        let generation = Generation(self.generation.0 + 1);
        // As at the start: a port that cannot be had has given nobody an alias.
        let ike = (config.uses_ipsec() && !self.ike_ports.is_open()).then(|| IkePlan::of(&config.ike));
        // What fails has changed no number of what runs.
        let mut numbers = self.numbers.clone();
        let numbered = numbers.interfaces(&config).map_err(PrepareError::from)?;
        let interfaces = interfaces::plans(&config, &numbered);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waiting.extend(interfaces::waiting_for_restart(&interfaces, &running, &self.states));
        // What daemons learn is no other file.
        let waiting = if cause == Cause::File { waiting } else { self.waiting.clone() };
        let wanted = interfaces.clone();
        // What daemons learn opens nothing, and an interface that is gone does not hold it up.
        let sockets = match cause {
            Cause::File => privileges::with(move || open::open_later(ike, &wanted, &running))?,
            Cause::Routes => Sockets::default(),
        };
        let joined = learned::join(&config, self.store.allocations(), &heard);
        let (in_force, learned) = joined.map_err(PrepareError::from)?;
        let read_in = if cause == Cause::File { generation } else { self.file_read_in };
        let mut prepared = prepare(&in_force, &mut self.store, &mut numbers, generation, read_in, SystemTime::now())?;
        if let Some(snapshot) = Arc::get_mut(&mut prepared.snapshot) {
            snapshot.get_ready(&self.published.borrow());
        }
        self.numbers = numbers;
        log_changes(&prepared.changes);
        if !waiting.is_empty() && cause == Cause::File {
            tracing::warn!("takes effect at the next start only: {}", waiting.join(", "));
        }
        (self.generation, self.file_read_in, self.waiting) = (generation, read_in, waiting.clone());
        if !self.ike_ports.is_open() && config.uses_ipsec() {
            self.ike_ports = sockets.watch();
        }
        let names = names::of(&config, &prepared.snapshot, &learned, &heard);
        names::log_refused(&config, &learned, self.latest.as_ref());
        self.latest = Some(heard);
        self.adopt(config);
        let (realms, tunnels) = (names.realms.len(), names.tunnels.len());
        let summary = format!("generation {}, {realms} realms, {tunnels} tunnels", generation.0);
        let (published, snapshot) = (self.published.clone(), prepared.snapshot.clone());
        let (running, now_running) = (self.running.clone(), interfaces.clone());
        let adopted = Box::new(move || {
            *running.lock().unwrap_or_else(PoisonError::into_inner) = now_running;
            drop(published.send_replace(snapshot));
        });
        Ok(Some(Reloaded { snapshot: prepared.snapshot, sockets, interfaces, names, summary, waiting, adopted }))
    }

    /// Remembers what runs now: the new file, except where the old settings still hold.
    fn adopt(&mut self, new: Config) {
        let old = &self.config;
        let icmp_errors_per_sec = new.limits.icmp_errors_per_sec;
        self.config = Config {
            ix: Ix { name: old.ix.name.clone(), ..new.ix },
            api: old.api.clone(),
            metrics: old.metrics.clone(),
            wireguard: old.wireguard.clone(),
            ike: Ike {
                listen: old.ike.listen,
                port: old.ike.port,
                nat_t_port: old.ike.nat_t_port,
                raw_esp: old.ike.raw_esp,
                ..new.ike
            },
            workers: old.workers,
            gate: old.gate.clone(),
            uplink: old.uplink.clone(),
            limits: Limits { icmp_errors_per_sec, ..old.limits.clone() },
            ..new
        };
    }
}

impl Core for Engine {
    type Event = Event;
    type Snapshot = Snapshot;

    fn handle_input<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>, now: Timestamp) {
        Engine::handle_input(self, datagrams, now);
    }

    fn handle_parcel(&mut self, parcel: &mut Parcel, now: Timestamp) {
        Engine::handle_parcel(self, parcel, now);
    }

    fn handle_path_report(&mut self, report: PathReport, now: Timestamp) {
        Engine::handle_path_report(self, report, now);
    }

    fn handle_link(&mut self, report: LinkReport, now: Timestamp) {
        Engine::handle_link(self, report, now);
    }

    fn handle_timeout(&mut self, now: Timestamp) {
        Engine::handle_timeout(self, now);
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>, now: Timestamp) {
        Engine::publish(self, snapshot, now);
    }

    fn say_goodbye(&mut self) -> bool {
        Engine::say_goodbye(self)
    }

    fn outbox(&mut self) -> &mut Outbox {
        Engine::outbox(self)
    }

    fn note_unsent(&mut self, data_datagrams: u64) {
        Engine::note_unsent(self, data_datagrams);
    }

    fn poll_event(&mut self) -> Option<Event> {
        Engine::poll_event(self)
    }

    fn is_trouble(event: &Event) -> bool {
        event.is_trouble()
    }

    fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        Engine::poll_timeout(self)
    }

    fn outline(&self, now: Timestamp) -> Report {
        Engine::outline(self, now)
    }

    fn tunnel_reports(&self, numbers: Range<usize>, now: Timestamp) -> TunnelReports {
        Engine::tunnel_reports(self, numbers, now)
    }

    fn pulse(&self, _: Timestamp) -> Pulse {
        Engine::pulse(self)
    }

    fn poll_outside(&mut self) -> Option<Action> {
        Engine::poll_outside(self)
    }

    fn handle_outside(&mut self, exchange: ExchangeId, bytes: Option<&[u8]>, now: Timestamp) {
        Engine::handle_outside(self, exchange, bytes, now);
    }
}

fn log_changes(changes: &[Change]) {
    for change in changes {
        match change.takes_away() {
            true => tracing::warn!("{change}"),
            false => tracing::info!("{change}"),
        }
    }
}

fn log_warnings(warnings: &[config::Diagnostic]) {
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::io::secret_file;

    const FILE: &str = r#"
        [ix]
        domain = "ix.example"
        [wireguard]
        private_key_file = "wireguard.key"
        [[realm]]
        name = "clinic"
        networks = ["192.168.1.0/24"]
        [[realm.attach]]
        wireguard = { public_key = "1RlQmQbsh3fXy8zY2GLGgdyGJ8k1y9KOCSUbHQM0FAI=" }
    "#;
    /// No machine has its interface.
    const PORT: &str = r#"
        [[realm]]
        name = "lab"
        networks = ["192.168.1.0/24"]
        [[realm.attach]]
        port = { interface = "ixg-none", address = "172.20.0.2/30", gateway = "172.20.0.1" }
    "#;

    #[test]
    fn a_reload_that_fails_changes_no_number_of_what_runs() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ix.toml");
        let state = format!("state_dir = {:?}\n", directory.path().join("state"));
        let with_state = |text: &str| text.replacen("[ix]\n", &format!("[ix]\n{state}"), 1);
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        secret_file::write_new(&directory.path().join("wireguard.key"), key, secret_file::SECRET).unwrap();
        fs::write(&file, with_state(FILE)).unwrap();
        let config = config::load(&file).unwrap().config;
        let (mut store, mut numbers) = (Store::open(&config.ix.state_dir).unwrap(), TunnelNumbers::default());
        let generation = Generation(1);
        let running = prepare(&config, &mut store, &mut numbers, generation, generation, SystemTime::now()).unwrap();
        let mut reloader = Reloader {
            file: file.clone(),
            config,
            ike_ports: Watch::default(),
            store,
            numbers,
            generation,
            file_read_in: generation,
            published: Arc::new(watch::channel(running.snapshot).0),
            running: Arc::default(),
            states: States::default(),
            heard: Shared::default(),
            latest: None,
            waiting: Vec::new(),
        };
        let before = format!("{:?}", reloader.numbers);
        fs::write(&file, with_state(&[FILE, PORT].concat())).unwrap();
        let error = reloader.reload(Cause::File).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no interface"), "{error}");
        assert_eq!((format!("{:?}", reloader.numbers), reloader.generation), (before.clone(), generation));
        // Cut off where the realms would begin.
        for cut_off in ["", "[ix]\n"] {
            fs::write(&file, with_state(cut_off)).unwrap();
            let error = reloader.reload(Cause::File).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("no realm any more"), "{error}");
        }
        assert_eq!((format!("{:?}", reloader.numbers), reloader.generation), (before, generation));
    }
}
