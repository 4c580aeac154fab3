//! The worker: one plain thread that owns the packet path, and the sockets that porters have not (`daemon/porters.rs`).
//!
//! Each turn of its loop takes a bounded share of everything: commands, the timers when they are due, then batches of
//! datagrams until they have made `TURN_WORK`, from the sockets whose turn it is; then it looks what has come since. So a flooded
//! socket can starve neither the others nor handshakes, timers or the operator. The clock is read once per batch.
//!
//! The path itself is a [`Core`]: no socket, clock or thread of its own. A panic in it must not leave a process that
//! answers the operator and forwards nothing, so the thread always tells how it ended ([`Ending`]), and the daemon exits.

mod handle;

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use self::handle::{Command, Publication};
pub use self::handle::{Handle, WorkerError};
use crate::dataplane::Parcel;
use crate::dataplane::report::{Pulse, Report, TunnelReports};
use crate::dns::forward::{Action, ExchangeId};
use crate::io::clock::Clock;
use crate::io::poller::Poller;
use crate::io::sockets::Sockets;
use crate::io::udp::{RecvBatch, SendReport};
use crate::net::{InterfaceId, LinkReport, PathReport, Port, Timestamp};
use crate::packet::{Datagram, Outbox};
use crate::telemetry::source::{GateCount, GateCounts, Overflow, PorterCounts, SocketReport, UplinkCounts};

use super::interfaces::{Numbered, States};
use super::porters::{Porters, Trip, WORK_OF_PORTER, WORK_OF_WALK};

/// Commands served in one turn.
const MAX_COMMANDS_PER_TURN: usize = 16;
/// Received in one turn, in about nanoseconds of work: what handshakes that come meanwhile wait for, and one batch more.
const TURN_WORK: u64 = 400_000;
/// Events logged in one turn; the core keeps the others.
const MAX_EVENTS_PER_TURN: usize = 64;
/// Datagrams that could not be sent are told once in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
/// Questions for the outside that may wait to be carried there.
pub const OUTSIDE_QUEUE: usize = 1024;
/// Shortest sleep, so that a core whose deadline stays in the past cannot spin.
pub(super) const MIN_WAIT: Duration = Duration::from_millis(1);
/// The longest, while packets are shed before they come to us: queues that are empty all the same get their credit back.
pub(super) const GATE_LOOK: Duration = Duration::from_millis(10);

/// The packet path. After every `handle_*` and `publish` the worker sends the outbox and drains the events.
pub trait Core: Send + 'static {
    /// Something worth a line in the log, in words.
    type Event: fmt::Display;
    /// A compiled configuration.
    type Snapshot: Send + Sync + 'static;

    fn handle_input<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>, now: Timestamp);
    /// What a porter has received. Its outbox is sealed and sent when it is back there, and what is in ours at once.
    fn handle_parcel(&mut self, parcel: &mut Parcel, now: Timestamp);
    /// Somebody says that a path carries no longer packets.
    fn handle_path_report(&mut self, report: PathReport, now: Timestamp);
    /// The kernel says how an interface is.
    fn handle_link(&mut self, report: LinkReport, now: Timestamp);
    fn handle_timeout(&mut self, now: Timestamp);
    fn publish(&mut self, snapshot: Arc<Self::Snapshot>, now: Timestamp);
    /// Peers are told of the end, as many as the outbox takes. `false`: nobody is left to tell.
    fn say_goodbye(&mut self) -> bool;
    fn outbox(&mut self) -> &mut Outbox;
    /// So many of the outbox's data datagrams were not sent.
    fn note_unsent(&mut self, data_datagrams: u64);
    fn poll_event(&mut self) -> Option<Self::Event>;
    /// Worth a warning rather than a note.
    fn is_trouble(event: &Self::Event) -> bool;
    fn poll_timeout(&self) -> Option<(Timestamp, &'static str)>;
    /// A report without its tunnels.
    fn outline(&self, now: Timestamp) -> Report;
    /// Of those with these numbers.
    fn tunnel_reports(&self, numbers: Range<usize>, now: Timestamp) -> TunnelReports;

    fn report(&self, now: Timestamp) -> Report {
        Report { tunnels: self.tunnel_reports(0..usize::MAX, now).tunnels, ..self.outline(now) }
    }

    fn pulse(&self, now: Timestamp) -> Pulse {
        Pulse::from(&self.report(now))
    }

    /// What is to be asked outside all realms.
    fn poll_outside(&mut self) -> Option<Action> {
        None
    }

    /// What came of it. `None`: it failed.
    fn handle_outside(&mut self, _exchange: ExchangeId, _bytes: Option<&[u8]>, _now: Timestamp) {}
}

/// What the worker tells: the path's counters, and its socket's.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    pub path: Report,
    pub socket: SocketReport,
}

/// How the thread ended.
#[derive(Debug)]
pub enum Ending {
    /// As told, with the last counters.
    Drained(Box<WorkerReport>),
    /// The socket or epoll failed for good.
    Failed(io::Error),
    /// A defect.
    Panicked(String),
}

/// Starts the thread, and one for each of `dealt`. The receiver gets the ending, whatever happens; `outside` what is to be asked there. `states`: of the
/// interfaces that it starts with, open or not; of one that goes, they are told.
pub fn spawn<C: Core>(
    sockets: Sockets,
    dealt: Vec<Sockets>,
    core: C,
    clock: Clock,
    outside: mpsc::Sender<Action>,
    states: States,
) -> io::Result<(Handle<C>, oneshot::Receiver<Ending>)> {
    let poller = Poller::new()?;
    sockets.register(&poller)?;
    let porters = Porters::spawn(dealt, clock, poller.waker())?;
    let (handle, commands) = Handle::new(poller.waker());
    let (tell_ending, ending) = oneshot::channel();
    let worker = Worker {
        core,
        sockets,
        porters,
        clock,
        poller,
        commands,
        outside,
        interfaces: states.numbered(),
        states,
        batch: RecvBatch::new(),
        path_reports: Vec::new(),
        unsent: Unsent::default(),
    };
    thread::Builder::new().name("ixgate-worker".to_owned()).spawn(move || {
        // Unwind safe: after a panic nothing of the worker is used again.
        let result = catch_unwind(AssertUnwindSafe(|| worker.run()));
        let ended = match result {
            Ok(Ok(report)) => Ending::Drained(Box::new(report)),
            Ok(Err(error)) => Ending::Failed(error),
            Err(panic) => Ending::Panicked(words_of(&*panic)),
        };
        // Nobody listens: the process is ending anyway.
        let _ = tell_ending.send(ended);
    })?;
    Ok((handle, ending))
}

struct Worker<C: Core> {
    core: C,
    sockets: Sockets,
    porters: Porters,
    clock: Clock,
    poller: Poller,
    commands: Receiver<Command<C>>,
    outside: mpsc::Sender<Action>,
    /// Those that the latest configuration has.
    interfaces: Vec<Numbered>,
    states: States,
    batch: RecvBatch,
    /// Emptied in every turn.
    path_reports: Vec<PathReport>,
    unsent: Unsent,
}

/// Datagrams that the kernel did not take.
#[derive(Default)]
struct Unsent {
    congested: u64,
    refused: u64,
    last_complaint: Option<Timestamp>,
}

impl<C: Core> Worker<C> {
    fn run(mut self) -> io::Result<WorkerReport> {
        let mut is_shedding = false;
        loop {
            if self.serve_commands()? {
                // What porters have received walks and is sent before peers are told of the end.
                for _ in 0..self.porters.most_parcels() {
                    if self.serve_porters()? {
                        break;
                    }
                }
                self.porters.end();
                self.note_unsent_of_porters();
                self.flush();
                while self.core.say_goodbye() {
                    self.flush();
                }
                return Ok(self.report(C::report));
            }
            self.serve_timers();
            let has_heard_all = self.serve_errors();
            let is_drained = self.serve_sockets()?;
            let is_idle = self.serve_porters()?;
            self.pass_outside();
            self.log_events();
            // What porters bring from now on, wakes us.
            let may_sleep = is_drained && has_heard_all && is_idle && self.porters.lie_down();
            let wait = if may_sleep { self.time_to_deadline() } else { Some(Duration::ZERO) };
            let at_most = if is_shedding { Some(GATE_LOOK) } else { None };
            let ready = self.poller.wait(wait.into_iter().chain(at_most).min())?;
            self.porters.get_up();
            self.sockets.note_ready(ready);
            is_shedding = self.sockets.look_after_gate();
        }
    }

    /// `true`: told to end.
    fn serve_commands(&mut self) -> io::Result<bool> {
        for _ in 0..MAX_COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                // Whoever asked may have given up: nothing to do about that.
                Ok(Command::Outline(reply)) => drop(reply.send(self.report(C::outline))),
                Ok(Command::Tunnels(numbers, reply)) => {
                    drop(reply.send(self.core.tunnel_reports(numbers, self.clock.now())));
                }
                Ok(Command::Pulse(reply)) => drop(reply.send(self.core.pulse(self.clock.now()))),
                Ok(Command::Publish(publication, reply)) => drop(reply.send(self.publish(*publication))),
                Ok(Command::Link(report, interface)) if self.interfaces.contains(&interface) => {
                    self.core.handle_link(report, self.clock.now());
                    self.flush();
                }
                Ok(Command::Adopt(sockets, interface)) if self.interfaces.contains(&interface) => self.adopt(*sockets),
                Ok(Command::Close(interface)) if self.interfaces.contains(&interface) => {
                    self.sockets.retain_interfaces(|one| one != interface.0);
                }
                // A new configuration has overtaken it.
                Ok(Command::Link(..) | Command::Adopt(..) | Command::Close(_)) => {}
                Ok(Command::Outside(exchange, bytes)) => {
                    self.core.handle_outside(exchange, bytes.as_deref(), self.clock.now());
                    self.flush();
                }
                Ok(Command::Shutdown) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
        // More may be waiting: look again after this turn, without sleeping.
        self.poller.waker().wake();
        Ok(false)
    }

    fn publish(&mut self, Publication { snapshot, sockets, interfaces }: Publication<C>) -> Result<(), WorkerError> {
        let brought: Vec<InterfaceId> = interfaces_of(&sockets).collect();
        self.sockets.adopt(sockets, &self.poller).map_err(|error| WorkerError::Ports(error.kind()))?;
        let before = std::mem::replace(&mut self.interfaces, interfaces);
        // Before anything is sent by the new one: what a number meant before is not what it means.
        let is_another = |one: &Numbered| !brought.contains(&one.0) && !before.contains(one);
        let others: Vec<InterfaceId> = self.interfaces.iter().filter(|one| is_another(one)).map(|one| one.0).collect();
        self.sockets.retain_interfaces(|number| !others.contains(&number));
        self.core.publish(snapshot, self.clock.now());
        self.flush();
        self.sockets.retain_interfaces(|number| self.interfaces.iter().any(|one| one.0 == number));
        Ok(())
    }

    fn adopt(&mut self, sockets: Sockets) {
        if let Err(error) = self.sockets.adopt(sockets, &self.poller) {
            tracing::error!("an interface that was opened cannot be used: {error}");
        }
    }

    fn serve_timers(&mut self) {
        let now = self.clock.now();
        if self.core.poll_timeout().is_some_and(|(deadline, _)| deadline <= now) {
            self.core.handle_timeout(now);
            self.flush();
        }
    }

    /// `true`: nothing is left to read, as far as is known.
    fn serve_sockets(&mut self) -> io::Result<bool> {
        let mut work = 0;
        while work < TURN_WORK && self.sockets.recv_batch(&mut self.batch)? > 0 {
            self.core.handle_input(self.sockets.datagrams(&self.batch), self.clock.now());
            self.flush();
            work += self.sockets.work();
        }
        Ok(!self.sockets.has_more())
    }

    /// `true`: no more parcels are there, as far as is known.
    fn serve_porters(&mut self) -> io::Result<bool> {
        self.porters.check()?;
        while let Some(report) = self.porters.poll_report() {
            self.core.handle_path_report(report, self.clock.now());
            self.flush();
        }
        self.note_unsent_of_porters();
        let mut work = 0;
        while work < TURN_WORK {
            let Some(trip) = self.porters.poll_arrived() else { return Ok(true) };
            work += self.serve_parcel(trip);
        }
        Ok(false)
    }

    fn note_unsent_of_porters(&mut self) {
        if let Some(report) = self.porters.take_unsent() {
            self.note_report(report);
        }
    }

    /// How much work it was, in about nanoseconds.
    fn serve_parcel(&mut self, mut trip: Box<Trip>) -> u64 {
        self.core.handle_parcel(&mut trip.parcel, self.clock.now());
        self.flush();
        let ours = self.porters.left_to_us(&trip);
        if trip.parcel.leaves(ours) {
            trip.parcel.seal(ours);
            let report = self.sockets.send_by(trip.parcel.outbox(), |port| ours.carries(port));
            self.note_report(report);
        }
        let (opened, left) = trip.parcel.counts();
        self.porters.give_back(trip);
        WORK_OF_WALK * opened as u64 + WORK_OF_PORTER * left as u64
    }

    /// `true`: no more is waiting in the error queues.
    fn serve_errors(&mut self) -> bool {
        let has_more = self.sockets.recv_errors(&mut self.path_reports);
        self.tell_gone();
        let mut reports = std::mem::take(&mut self.path_reports);
        for report in reports.drain(..) {
            self.core.handle_path_report(report, self.clock.now());
            self.flush();
        }
        self.path_reports = reports;
        !has_more
    }

    fn tell_gone(&mut self) {
        while let Some((number, index)) = self.sockets.poll_gone() {
            if let Some(interface) = self.interfaces.iter().find(|one| one.0 == number) {
                self.states.note_gone(interface, index);
            }
        }
    }

    fn flush(&mut self) {
        if self.core.outbox().is_empty() {
            return;
        }
        let report = self.sockets.send(self.core.outbox());
        self.core.outbox().clear();
        self.note_report(report);
    }

    fn note_report(&mut self, report: SendReport) {
        if report.unsent_data_datagrams > 0 {
            self.core.note_unsent(report.unsent_data_datagrams);
        }
        if report.congested_datagrams + report.refused_datagrams > 0 {
            self.note_unsent(report);
        }
    }

    fn note_unsent(&mut self, report: SendReport) {
        self.unsent.congested += report.congested_datagrams;
        self.unsent.refused += report.refused_datagrams;
        let now = self.clock.now();
        if self.unsent.last_complaint.is_some_and(|last| now - last < COMPLAINT_INTERVAL) {
            return;
        }
        self.unsent.last_complaint = Some(now);
        let (congested, refused) = (self.unsent.congested, self.unsent.refused);
        match report.first_error {
            Some(error) => tracing::warn!("outer datagrams refused by the system: {error} ({refused} since start)"),
            None => tracing::warn!("the uplink takes no more: {congested} outer datagrams not sent since start"),
        }
    }

    /// A question for which there is no room fails at once, and may bring another.
    fn pass_outside(&mut self) {
        while let Some(action) = self.core.poll_outside() {
            let Err(refused) = self.outside.try_send(action) else { continue };
            if let Action::Ask { exchange, .. } = refused.into_inner() {
                self.core.handle_outside(exchange, None, self.clock.now());
                self.flush();
            }
        }
    }

    fn log_events(&mut self) {
        for _ in 0..MAX_EVENTS_PER_TURN {
            match self.core.poll_event() {
                Some(event) if C::is_trouble(&event) => tracing::warn!("{event}"),
                Some(event) => tracing::info!("{event}"),
                None => return,
            }
        }
        self.poller.waker().wake();
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        let (deadline, _) = self.core.poll_timeout()?;
        Some((deadline - self.clock.now()).max(MIN_WAIT))
    }

    /// `made`: with all tunnels or without.
    fn report(&self, made: impl Fn(&C, Timestamp) -> Report) -> WorkerReport {
        let (received, losses, porters) = (self.sockets.counters(), self.sockets.losses(), self.porters.sums());
        let socket = SocketReport {
            receive_offload: self.sockets.has_receive_offload(),
            send_offload: self.sockets.has_send_offload(),
            receive_buffer_bytes: self.sockets.receive_buffer_bytes() as u64,
            overflow: Overflow { control: losses.control, data: losses.data + porters.losses.data },
            lanes: losses.lanes + porters.losses.lanes,
            lanes_overflown: losses.lanes_overflown + porters.losses.lanes_overflown,
            porters: PorterCounts { threads: porters.threads, opened: porters.opened, left: porters.left },
            gate: self.sockets.gate_counts().map(|gate| GateCounts {
                control: GateCount { admitted: gate.control.admitted, shed: gate.control.shed },
                data: GateCount { admitted: gate.data.admitted, shed: gate.data.shed },
                lanes_shed: gate.lanes_shed,
            }),
            uplink: self.sockets.uplink_counts().map(|counts| UplinkCounts {
                received: counts.received,
                sent: counts.sent,
                no_way: counts.no_way,
                too_long: counts.too_long,
                lost: counts.lost,
                damaged: counts.damaged,
                congested: counts.congested,
                ways: counts.ways,
                ways_limit: crate::io::netlink::ways::MAX_WAYS,
            }),
            truncated_messages: received.truncated + porters.truncated,
            congested_datagrams: self.unsent.congested,
            refused_datagrams: self.unsent.refused,
        };
        WorkerReport { path: made(&self.core, self.clock.now()), socket }
    }
}

fn interfaces_of(sockets: &Sockets) -> impl Iterator<Item = InterfaceId> {
    sockets.drivers().filter_map(|driver| match driver.path().port {
        Port::Frames(interface) | Port::Tun(interface) => Some(interface),
        _ => None,
    })
}

pub(super) fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied();
    words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

#[cfg(test)]
#[path = "worker_tests.rs"]
pub(super) mod tests;
