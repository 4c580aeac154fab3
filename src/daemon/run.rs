//! Runs what was opened until it is told to end, and then drains.
//!
//! SIGTERM and SIGINT drain: no more reading, what is to be sent is sent, exit 0 within 2 s. SIGHUP loads the
//! configuration again; a bad one is logged and nothing changes. If the worker ends by itself, so does the process, with
//! [`EXIT_DEFECT`]: an appliance that answers but does not forward must not look alive.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{RwLock, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::follower::Follower;
use super::gates::Gates;
use super::interfaces::{self, InterfacePlan, States};
use super::open::{Opened, listens_of};
use super::routes::{self, Shared};
use super::transfer::{self, Transfers};
use super::worker::{self, Core, Ending, Handle, WorkerError, WorkerReport};
use super::{gates, links, porters, uplinks, upstream};
use crate::control::api::{self, Appliance, Unavailable};
use crate::control::http;
use crate::dataplane::report::Pulse;
use crate::io::clock::Clock;
use crate::io::sockets::{LANES, Sockets};
use crate::net::Timestamp;
use crate::telemetry::source::{Listen, Names, Source};

/// The worker ended without being told to (EX_SOFTWARE of sysexits.h).
pub const EXIT_DEFECT: u8 = 70;
/// The worker gets this long to end; with everything else the process ends within 2 s.
const DRAIN_TIME: Duration = Duration::from_millis(1_500);
/// How often the worker is asked whether it lives, at least.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// A configuration that was loaded again, ready to be published.
pub struct Reloaded<S> {
    pub snapshot: Arc<S>,
    /// For ports that were not needed before.
    pub sockets: Sockets,
    /// All that are needed now.
    pub interfaces: Vec<InterfacePlan>,
    pub names: Names,
    /// For the log: what is different.
    pub summary: String,
    /// Settings of the file that take effect at the next start only.
    pub waiting: Vec<String>,
    /// To be told when the worker runs on it.
    pub adopted: Box<dyn FnOnce() + Send>,
}

/// Why it ended otherwise than told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot start: {0}")]
    Start(std::io::Error),
    #[error("the packet path failed: {0}")]
    Failed(std::io::Error),
    #[error("the packet path panicked, which is a defect in ixgate: {0}")]
    Panicked(String),
    #[error("the packet path ended without a word, which is a defect in ixgate")]
    Vanished,
    #[error("the API or metrics server ended, which is a defect in ixgate")]
    ServerEnded,
    #[error("the packet path did not end in time")]
    DrainTimeout,
}

/// Why a configuration is to be made again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The file may be another.
    File,
    /// Routing daemons have learned something.
    Routes,
}

/// What is learned from routing daemons, and the clock that says since when.
pub(super) struct Learning {
    pub heard: Shared,
}

/// What a signal, or a routing daemon's news, asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Drain,
    Reload(Cause),
}

/// Runs until told to end. `reload` loads, validates and compiles the configuration again; it may block.
pub(super) fn run<C, R, E>(
    opened: Opened,
    core: C,
    names: Names,
    clock: Clock,
    reload: R,
    learning: Learning,
) -> ExitCode
where
    C: Core,
    R: FnMut(Cause) -> Result<Option<Reloaded<C::Snapshot>>, E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(RunError::Start).and_then(|runtime| {
        let result = runtime.block_on(async {
            let (sender, orders) = mpsc::channel(8);
            orders_from_signals(&sender).map_err(RunError::Start)?;
            // Nobody listens: the process is ending.
            let tell = move || _ = sender.blocking_send(Order::Reload(Cause::Routes));
            let follower = routes::follow(learning.heard, clock, tell).map_err(RunError::Start)?;
            supervise(opened, core, names, clock, reload, orders, Some(follower)).await
        });
        // A reload that hangs on a file must not keep the process.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            notify(&[NotifyState::Status(&error.to_string())]);
            ExitCode::from(if matches!(error, RunError::Start(_)) { 1 } else { EXIT_DEFECT })
        }
    }
}

fn orders_from_signals(sender: &mpsc::Sender<Order>) -> std::io::Result<()> {
    let kinds = [
        (SignalKind::terminate(), Order::Drain),
        (SignalKind::interrupt(), Order::Drain),
        (SignalKind::hangup(), Order::Reload(Cause::File)),
    ];
    // Whoever sends these means another program: by themselves they would end this one.
    for kind in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                tracing::warn!("SIGUSR1 and SIGUSR2 mean nothing to ixgate: SIGHUP reloads, SIGTERM ends");
            }
        });
    }
    for (kind, order) in kinds {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move { while signals.recv().await.is_some() && sender.send(order).await.is_ok() {} });
    }
    Ok(())
}

async fn supervise<C, R, E>(
    opened: Opened,
    core: C,
    names: Names,
    clock: Clock,
    reload: R,
    mut orders: mpsc::Receiver<Order>,
    daemons: Option<Follower>,
) -> Result<(), RunError>
where
    C: Core,
    R: FnMut(Cause) -> Result<Option<Reloaded<C::Snapshot>>, E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let listens = opened.listens();
    let Opened {
        ix_name,
        mut sockets,
        api: api_socket,
        metrics,
        transfers,
        interfaces,
        states,
        gate,
        gates,
        threads,
        uplinks,
    } = opened;
    log_offload(sockets.has_receive_offload(), sockets.has_send_offload(), sockets.receive_buffer_bytes());
    let (asks, asked) = mpsc::channel(worker::OUTSIDE_QUEUE);
    if threads > 1 && uplinks.0.is_some() {
        tracing::warn!(
            "what comes by AF_XDP ([uplink]) is all the first thread's: `threads` in [workers] helps with what comes by sockets only"
        );
    }
    let dealt = deal(&mut sockets, threads);
    let (handle, mut ending) =
        worker::spawn(sockets, dealt, core, clock, asks, states.clone()).map_err(RunError::Start)?;
    let upstreams = tokio::spawn(upstream::serve(asked, handle.clone(), upstream::Tls::of_system()));
    let follower = links::follow(handle.clone(), states.clone()).map_err(RunError::Start)?;
    let keeper =
        gate.map(|(gate, named)| gates::keep(gate, named, gates.clone())).transpose().map_err(RunError::Start)?;
    let (uplinks, uplink_states) = uplinks;
    let uplinks =
        uplinks.map(|keeper| uplinks::keep(keeper, uplink_states.clone())).transpose().map_err(RunError::Start)?;
    let followers = Followers { links: follower, daemons, gates: keeper, _uplinks: uplinks };
    followers.follow(interfaces);
    let (shown, started) = (RwLock::new(Shown { listens, names, waiting: Vec::new() }), clock.now());
    let facts = Facts {
        ix_name,
        shown,
        clock,
        started,
        transfers: Default::default(),
        followers,
        states,
        gates,
        uplinks: uplink_states,
    };
    let observer = Observer { handle: handle.clone(), facts: Arc::new(facts) };

    let mut servers = JoinSet::new();
    let listener = api_socket.listener().and_then(UnixListener::from_std).map_err(RunError::Start)?;
    servers.spawn(http::serve(listener, api::router(observer.clone())));
    if let Some(listener) = metrics {
        let listener = TcpListener::from_std(listener).map_err(RunError::Start)?;
        servers.spawn(http::serve(listener, api::metrics_router(observer.clone())));
    }
    if let Some(Transfers { listener, connections, current: Some(current) }) = transfers {
        let listener = TcpListener::from_std(listener).map_err(RunError::Start)?;
        servers.spawn(transfer::serve(listener, connections, current, clock, observer.facts.transfers.clone()));
    }
    log_listens(&observer.facts.shown.read().await.listens);
    let reload = Arc::new(Mutex::new(reload));
    let reload_again = |cause| Some(tokio::spawn(reload_into(observer.clone(), reload.clone(), cause)));
    // The file stands for both: it is joined with what is learned.
    let (mut reloading, mut wanted): (_, Option<Cause>) = (None, None);
    let mut heartbeat = heartbeat();
    notify(&[NotifyState::Ready, NotifyState::Status("running")]);
    tracing::info!("ixgate {} \"{}\" is running", env!("CARGO_PKG_VERSION"), observer.facts.ix_name);
    loop {
        tokio::select! {
            ended = &mut ending => return Err(unexpected(ended)),
            _ = servers.join_next() => return Err(RunError::ServerEnded),
            _ = heartbeat.tick() => beat(&observer).await,
            order = orders.recv() => match order {
                // Orders end only when the runtime does.
                Some(Order::Drain) | None => break,
                Some(Order::Reload(cause)) if reloading.is_some() => {
                    wanted = if cause == Cause::File { Some(cause) } else { wanted.or(Some(cause)) };
                }
                Some(Order::Reload(cause)) => reloading = reload_again(cause),
            },
            () = finished(&mut reloading) => {
                reloading = wanted.take().and_then(&reload_again);
            }
        }
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    tracing::info!("told to end: draining");
    servers.abort_all();
    upstreams.abort();
    drain(&handle, ending).await
}

/// For porters, if there are to be more threads than one.
fn deal(sockets: &mut Sockets, threads: usize) -> Vec<Sockets> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if threads > cores {
        tracing::warn!(
            "{threads} threads for the packet path and {cores} cores: they will wait for each other; `threads` in [workers] is to be no \
             more than cores"
        );
    }
    let dealt = match threads {
        0 | 1 => Vec::new(),
        _ => sockets.deal_lanes(threads - 1, porters::lanes_of_worker(LANES, threads)),
    };
    match (threads, dealt.len()) {
        (0 | 1, _) => {}
        (_, 0) => {
            tracing::warn!("one thread for the packet path: the sockets have no lanes that others could receive from")
        }
        (_, porters) => tracing::info!(
            "{} threads for the packet path: one walks, {porters} receive, open, seal and send",
            porters + 1
        ),
    }
    dealt
}

/// What never changes while running, and what a new configuration changes.
struct Facts {
    ix_name: String,
    /// Held for writing while a snapshot is published, so that no report is shown under another generation's names.
    shown: RwLock<Shown>,
    clock: Clock,
    started: Timestamp,
    transfers: Arc<transfer::Counters>,
    followers: Followers,
    states: States,
    gates: Gates,
    uplinks: uplinks::States,
}

/// Threads that have to know which interfaces there are.
struct Followers {
    links: Follower,
    /// `None`: nobody asks for what they learn.
    daemons: Option<Follower>,
    /// `None`: there is no gate.
    gates: Option<Follower>,
    /// Lives as long as these.
    _uplinks: Option<Follower>,
}

struct Shown {
    listens: Vec<Listen>,
    names: Names,
    /// Settings that wait for a restart.
    waiting: Vec<String>,
}

/// Answers the API from the worker's report.
struct Observer<C: Core> {
    handle: Handle<C>,
    facts: Arc<Facts>,
}

impl<C: Core> Clone for Observer<C> {
    fn clone(&self) -> Self {
        Observer { handle: self.handle.clone(), facts: self.facts.clone() }
    }
}

impl<C: Core> Appliance for Observer<C> {
    async fn observe(&self) -> Result<Source, Unavailable> {
        let shown = self.facts.shown.read().await;
        let WorkerReport { path, socket } =
            self.handle.report().await.map_err(|error| Unavailable(error.to_string()))?;
        let facts = &self.facts;
        Ok(Source {
            ix_name: facts.ix_name.clone(),
            uptime: facts.clock.now() - facts.started,
            listens: shown.listens.clone(),
            interfaces: facts.states.list(),
            gate: facts.gates.state(),
            uplinks: facts.uplinks.list(),
            names: shown.names.clone(),
            waiting: shown.waiting.clone(),
            path,
            socket,
            transfers: facts.transfers.read(),
        })
    }
}

/// Asks the worker; only when it answers does systemd hear that we live.
async fn beat<C: Core>(observer: &Observer<C>) {
    match observer.handle.pulse().await {
        Ok(Pulse { tunnels, tunnels_up, sessions }) => {
            let words = format!("{tunnels_up} of {tunnels} tunnels up, {sessions} sessions");
            notify(&[NotifyState::Watchdog, NotifyState::Status(&words)]);
        }
        Err(error) => tracing::warn!("{error}"),
    }
}

fn heartbeat() -> tokio::time::Interval {
    let watchdog = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
    let mut interval = interval(watchdog.unwrap_or(HEARTBEAT).min(HEARTBEAT).max(Duration::from_millis(100)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Pending when there is nothing to wait for.
async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        // It panics only by a defect, which the panic hook has logged.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// In a task of its own: loading a large configuration must not delay the end or the heartbeat.
async fn reload_into<C, R, E>(observer: Observer<C>, reload: Arc<Mutex<R>>, cause: Cause)
where
    C: Core,
    R: FnMut(Cause) -> Result<Option<Reloaded<C::Snapshot>>, E> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    if cause == Cause::File {
        // systemd wants the time along with the announcement.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        tracing::info!("told to load the configuration again");
    }
    // A reload that panicked before has changed nothing: it may be tried again.
    let load = move || (reload.lock().unwrap_or_else(PoisonError::into_inner))(cause);
    match tokio::task::spawn_blocking(load).await {
        Ok(Ok(Some(reloaded))) => adopt(&observer, reloaded).await,
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::error!("the configuration stays as it was: {error}"),
        Err(panic) => tracing::error!("the configuration stays as it was: loading it failed by a defect: {panic}"),
    }
    if cause == Cause::File {
        notify(&[NotifyState::Ready]);
    }
}

impl Followers {
    /// From now on these; routes in the namespaces of daemons.
    fn follow(&self, interfaces: Vec<InterfacePlan>) {
        for follower in [&self.daemons, &self.gates].into_iter().flatten() {
            follower.follow(interfaces.clone());
        }
        self.links.follow(interfaces);
    }
}

async fn adopt<C: Core>(observer: &Observer<C>, reloaded: Reloaded<C::Snapshot>) {
    let mut shown = observer.facts.shown.write().await;
    let Reloaded { snapshot, sockets, interfaces, .. } = reloaded;
    let (further, opened) = (listens_of(&sockets), interfaces::states_of(&interfaces, &sockets));
    let kept = interfaces.iter().map(InterfacePlan::numbered).collect();
    match observer.handle.publish(snapshot, sockets, kept).await {
        Ok(()) => tracing::info!("new configuration: {}", reloaded.summary),
        // Handed over: it will be adopted when the worker is heard of again.
        Err(error @ WorkerError::Silent) => tracing::error!("the new configuration is not adopted yet: {error}"),
        Err(error) => {
            tracing::error!("the configuration stays as it was: {error}");
            return;
        }
    }
    log_listens(&further);
    observer.facts.states.retain(&interfaces);
    opened.into_iter().for_each(|(plan, state)| observer.facts.states.add(&plan, state));
    shown.listens.extend(further);
    observer.facts.followers.follow(interfaces);
    (reloaded.adopted)();
    (shown.names, shown.waiting) = (reloaded.names, reloaded.waiting);
}

async fn drain<C: Core>(handle: &Handle<C>, ending: oneshot::Receiver<Ending>) -> Result<(), RunError> {
    let ended = timeout(DRAIN_TIME, async {
        // The queue may be full of questions; they are answered quickly.
        while handle.shut_down() == Err(WorkerError::Busy) {
            sleep(Duration::from_millis(5)).await;
        }
        ending.await
    });
    match ended.await {
        Err(_) => Err(RunError::DrainTimeout),
        Ok(Ok(Ending::Drained(last))) => {
            tracing::info!("drained: {} packets forwarded since start", last.path.totals.forwarded);
            Ok(())
        }
        Ok(ended) => Err(unexpected(ended)),
    }
}

fn unexpected(ended: Result<Ending, oneshot::error::RecvError>) -> RunError {
    match ended {
        Ok(Ending::Failed(error)) => RunError::Failed(error),
        Ok(Ending::Panicked(words)) => RunError::Panicked(words),
        Ok(Ending::Drained(_)) | Err(_) => RunError::Vanished,
    }
}

fn log_listens(listens: &[Listen]) {
    listens.iter().for_each(|listen| tracing::info!("{} on {}", listen.what, listen.address));
}

fn log_offload(receive: bool, send: bool, receive_buffer_bytes: usize) {
    let words = |on| if on { "on" } else { "off" };
    tracing::info!("UDP offload: receive {}, send {}", words(receive), words(send));
    if (1..1 << 20).contains(&receive_buffer_bytes) {
        tracing::warn!(
            "the receive buffer is {receive_buffer_bytes} bytes, so bursts may be lost: raise net.core.rmem_max to \
             8388608, or grant CAP_NET_ADMIN"
        );
    }
}

/// To systemd, where it started us.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd cannot be told: {error}");
    }
}

#[cfg(all(test, not(feature = "sim")))]
#[path = "run_tests.rs"]
mod tests;
