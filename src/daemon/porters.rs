//! The threads of porters (`dataplane::porter`), and what goes between them and the worker.
//!
//! ```text
//! porter: sockets ─ receive, open ─> parcel ══ queue ══> worker: walk ══ queue back ══> the same porter: seal, send
//!         its lanes only                                 everything else: handshakes, IKE, timers, commands, its own lanes
//! ```
//!
//! A parcel goes back to whom it came from, so no more of them are under way than it has, both queues hold all of them, and the worker never waits. A porter that
//! has none left reads nothing more until one is back: then its sockets' buffers fill, and the gate sheds. Why it is so, and not a whole engine for each
//! core: docs/decisions/0023-porters.md.
//!
//! Nobody is woken who is awake ([`Bell`]): under load there are no system calls but those for packets.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::worker::{GATE_LOOK, MIN_WAIT, words_of};
use crate::dataplane::{Parcel, Porter};
use crate::io::clock::Clock;
use crate::io::poller::{Poller, Waker};
use crate::io::sockets::{Losses, Sockets};
use crate::io::udp::{RecvBatch, SendReport};
use crate::net::{PathReport, Port, Timestamp};

/// Of each porter: so many batches may be under way between it and the worker.
const PARCELS: usize = 16;
/// What paths were said to carry, waiting for the worker: beyond, they are passed over.
const PATH_REPORTS: usize = 64;
/// How often the counters of sockets are told.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// What a packet costs who receives, opens, seals and sends it, and what it costs the worker if somebody else does that: about, in nanoseconds.
const WORK_OF_PORTER: usize = 2_000;
const WORK_OF_WALK: usize = 150;

/// How many lanes of a port the worker keeps, of so many: as many as it has time for beside the walk of all the others' packets.
pub fn lanes_of_worker(lanes: usize, threads: usize) -> usize {
    let Some(porters) = threads.checked_sub(1).filter(|porters| *porters > 0) else { return lanes };
    // Its share x: x * WORK_OF_PORTER + (1 - x) * WORK_OF_WALK = (1 - x) * WORK_OF_PORTER / porters.
    let of_each = WORK_OF_PORTER / porters;
    let (over, under) = (of_each.saturating_sub(WORK_OF_WALK), WORK_OF_PORTER - WORK_OF_WALK + of_each);
    (lanes * over / under).max(1)
}

/// Wakes a thread that sleeps, and costs next to nothing otherwise.
#[derive(Debug)]
struct Bell {
    is_asleep: AtomicBool,
    waker: Waker,
}

impl Bell {
    fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Bell { is_asleep: AtomicBool::new(false), waker })
    }

    /// Behind whatever is put into a queue of the other's.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    /// Then the queues are to be looked at once more, before it sleeps.
    fn lie_down(&self) {
        self.is_asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    fn get_up(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }
}

/// A parcel, and whose it is.
#[derive(Debug)]
pub struct Trip {
    pub parcel: Parcel,
    porter: usize,
}

/// What a porter's thread has counted, since the start.
#[derive(Default, Debug)]
struct Counts {
    opened: AtomicU64,
    left: AtomicU64,
    lost: AtomicU64,
    lanes: AtomicU64,
    lanes_overflown: AtomicU64,
    truncated: AtomicU64,
    congested: AtomicU64,
    refused: AtomicU64,
    /// Of what the walk had counted as forwarded, since it was last asked.
    unsent_data: AtomicU64,
}

/// Of all porters together.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sums {
    pub threads: usize,
    pub opened: u64,
    pub left: u64,
    pub losses: Losses,
    pub truncated: u64,
    pub congested: u64,
    pub refused: u64,
}

/// The worker's end.
#[derive(Debug)]
pub struct Porters {
    threads: Vec<Thread>,
    arrived: Receiver<Box<Trip>>,
    reports: Receiver<PathReport>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Thread {
    back: Option<SyncSender<Box<Trip>>>,
    bell: Arc<Bell>,
    counts: Arc<Counts>,
    /// It has sockets of theirs.
    ports: Vec<Port>,
    handle: Option<JoinHandle<io::Result<()>>>,
}

impl Porters {
    /// A thread for each of `sockets`, which call by `waker`.
    pub fn spawn(sockets: Vec<Sockets>, clock: Clock, waker: Waker) -> io::Result<Self> {
        let (give, arrived) = sync_channel((sockets.len() * PARCELS).max(1));
        let (tell, reports) = sync_channel(PATH_REPORTS);
        let bell = Bell::new(waker);
        let mut porters = Porters { threads: Vec::new(), arrived, reports, bell };
        for (number, sockets) in sockets.into_iter().enumerate() {
            // Those that run already end when `porters` is dropped.
            let thread = spawn(number, sockets, clock, give.clone(), tell.clone(), porters.bell.clone())?;
            porters.threads.push(thread);
        }
        Ok(porters)
    }

    /// A parcel that is to walk.
    pub fn poll_arrived(&mut self) -> Option<Box<Trip>> {
        self.arrived.try_recv().ok()
    }

    pub fn poll_report(&mut self) -> Option<PathReport> {
        self.reports.try_recv().ok()
    }

    /// Whether its porter can send all that is in the parcel.
    pub fn carries(&self, trip: &mut Trip) -> bool {
        let ports = &self.threads[trip.porter].ports;
        trip.parcel.outbox().runs().iter().all(|run| ports.contains(&run.path.port))
    }

    /// Back to where it came from. Never waits.
    pub fn give_back(&mut self, trip: Box<Trip>) {
        let thread = &self.threads[trip.porter];
        if let Some(back) = &thread.back {
            // There is room for all that there are; and of one that has ended it will be told.
            let _ = back.try_send(trip);
            thread.bell.ring();
        }
    }

    /// Before the worker sleeps. `Some`: it is not to.
    pub fn lie_down(&mut self) -> Option<Box<Trip>> {
        if self.threads.is_empty() {
            return None;
        }
        self.bell.lie_down();
        let arrived = self.poll_arrived();
        if arrived.is_some() {
            self.bell.get_up();
        }
        arrived
    }

    pub fn get_up(&self) {
        if !self.threads.is_empty() {
            self.bell.get_up();
        }
    }

    /// `Err`: one has ended, and nobody told it to.
    pub fn check(&mut self) -> io::Result<()> {
        let Some(ended) =
            self.threads.iter_mut().find(|thread| thread.handle.as_ref().is_some_and(JoinHandle::is_finished))
        else {
            return Ok(());
        };
        match ended.handle.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(io::Error::other("a porter's thread has ended")),
        }
    }

    /// What the porters could not send of data, since the last call.
    pub fn take_unsent(&self) -> u64 {
        self.threads.iter().map(|thread| thread.counts.unsent_data.swap(0, Ordering::Relaxed)).sum()
    }

    pub fn sums(&self) -> Sums {
        let mut sums = Sums { threads: self.threads.len(), ..Sums::default() };
        for Thread { counts, .. } in &self.threads {
            let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
            sums.opened += read(&counts.opened);
            sums.left += read(&counts.left);
            sums.losses.data += read(&counts.lost);
            sums.losses.lanes += read(&counts.lanes) as usize;
            sums.losses.lanes_overflown += read(&counts.lanes_overflown) as usize;
            sums.truncated += read(&counts.truncated);
            sums.congested += read(&counts.congested);
            sums.refused += read(&counts.refused);
        }
        sums
    }

    /// They send what is on its way back to them, and end.
    pub fn end(&mut self) {
        for thread in &mut self.threads {
            thread.back = None;
            thread.bell.waker.wake();
        }
        for handle in self.threads.iter_mut().filter_map(|thread| thread.handle.take()) {
            let _ = handle.join();
        }
    }
}

impl Drop for Porters {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(
    number: usize,
    sockets: Sockets,
    clock: Clock,
    give: SyncSender<Box<Trip>>,
    tell: SyncSender<PathReport>,
    walk: Arc<Bell>,
) -> io::Result<Thread> {
    let poller = Poller::new()?;
    sockets.register(&poller)?;
    let bell = Bell::new(poller.waker());
    let (back, returned) = sync_channel(PARCELS);
    let counts = Arc::new(Counts::default());
    let ports = [Port::WireGuard, Port::IkeNatT].into_iter().filter(|port| sockets.has_port(*port)).collect();
    let free = (0..PARCELS).map(|_| Box::new(Trip { parcel: Parcel::default(), porter: number })).collect();
    let (own_bell, own_counts) = (bell.clone(), counts.clone());
    let run = move || {
        let at_end = walk.clone();
        let body = Body {
            porter: Porter::default(),
            sockets,
            poller,
            clock,
            batch: RecvBatch::new(),
            taken: 0,
            has_left: false,
            free,
            returned,
            give,
            tell,
            path_reports: Vec::new(),
            walk,
            bell: own_bell,
            counts: own_counts,
            next_count: Some(clock.now()),
        };
        // Unwind safe: after a panic nothing of it is used again.
        let result = catch_unwind(AssertUnwindSafe(|| body.run()));
        // It may be asleep, and has to know.
        at_end.waker.wake();
        result.unwrap_or_else(|panic| Err(io::Error::other(format!("a defect in ixgate: {}", words_of(&*panic)))))
    };
    let handle = thread::Builder::new().name(format!("ixgate-port-{}", number + 1)).spawn(run)?;
    Ok(Thread { back: Some(back), bell, counts, ports, handle: Some(handle) })
}

/// What the thread has.
struct Body {
    porter: Porter,
    sockets: Sockets,
    poller: Poller,
    clock: Clock,
    batch: RecvBatch,
    /// So many datagrams of the batch are in parcels,
    taken: usize,
    /// and there are more.
    has_left: bool,
    #[expect(clippy::vec_box, reason = "it goes to and fro, and what goes is a pointer")]
    free: Vec<Box<Trip>>,
    returned: Receiver<Box<Trip>>,
    give: SyncSender<Box<Trip>>,
    tell: SyncSender<PathReport>,
    /// Emptied in every turn.
    path_reports: Vec<PathReport>,
    walk: Arc<Bell>,
    bell: Arc<Bell>,
    counts: Arc<Counts>,
    next_count: Option<Timestamp>,
}

impl Body {
    fn run(mut self) -> io::Result<()> {
        let mut is_shedding = false;
        loop {
            while let Some(trip) = match self.returned.try_recv() {
                Ok(trip) => Some(trip),
                Err(TryRecvError::Empty) => None,
                // The worker has ended it.
                Err(TryRecvError::Disconnected) => return Ok(()),
            } {
                self.take_back(trip);
            }
            let has_heard_all = self.hear_errors();
            self.receive()?;
            let now = self.clock.now();
            self.porter.handle_timeout(now);
            self.count(now);
            let has_work = !self.free.is_empty() && (self.has_left || self.sockets.has_more()) || !has_heard_all;
            let at_most = is_shedding.then_some(GATE_LOOK);
            let wait = if has_work {
                Some(Duration::ZERO)
            } else {
                self.time_to_deadline(now).into_iter().chain(at_most).min()
            };
            self.sleep(wait)?;
            is_shedding = self.sockets.look_after_gate();
        }
    }

    /// It has walked.
    fn take_back(&mut self, mut trip: Box<Trip>) {
        self.porter.learn(&mut trip.parcel, self.clock.now());
        trip.parcel.seal();
        let outbox = trip.parcel.outbox();
        if !outbox.is_empty() {
            let report = self.sockets.send(outbox);
            outbox.clear();
            self.note_unsent(&report);
        }
        self.free.push(trip);
    }

    fn note_unsent(&self, report: &SendReport) {
        let add = |count: &AtomicU64, more: u64| _ = count.fetch_add(more, Ordering::Relaxed);
        if report.congested_datagrams + report.refused_datagrams + report.unsent_data_datagrams > 0 {
            add(&self.counts.congested, report.congested_datagrams);
            add(&self.counts.refused, report.refused_datagrams);
            add(&self.counts.unsent_data, report.unsent_data_datagrams);
        }
    }

    /// `true`: no more is waiting in the error queues.
    fn hear_errors(&mut self) -> bool {
        let has_more = self.sockets.recv_errors(&mut self.path_reports);
        for report in self.path_reports.drain(..) {
            let _ = self.tell.try_send(report);
            self.walk.ring();
        }
        !has_more
    }

    /// A batch, as far as there are parcels for it.
    fn receive(&mut self) -> io::Result<()> {
        if self.free.is_empty() {
            return Ok(());
        }
        if !self.has_left {
            if self.sockets.recv_batch(&mut self.batch)? == 0 {
                return Ok(());
            }
            self.taken = 0;
        }
        let Body { porter, sockets, batch, free, give, .. } = self;
        let mut datagrams = sockets.datagrams(batch).skip(self.taken).peekable();
        while datagrams.peek().is_some()
            && let Some(mut trip) = free.pop()
        {
            porter.fill(&mut datagrams, &mut trip.parcel);
            let (opened, left) = trip.parcel.counts();
            self.taken += opened + left;
            self.counts.opened.fetch_add(opened as u64, Ordering::Relaxed);
            self.counts.left.fetch_add(left as u64, Ordering::Relaxed);
            // There is room for all that there are; and who has ended ends us.
            let _ = give.try_send(trip);
            self.walk.ring();
        }
        self.has_left = datagrams.peek().is_some();
        Ok(())
    }

    fn sleep(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.bell.lie_down();
        if let Ok(trip) = self.returned.try_recv() {
            self.bell.get_up();
            self.take_back(trip);
            return Ok(());
        }
        // What there is to read would be reported again and again.
        if self.free.is_empty() {
            self.poller.wait_for_call(wait)?;
        } else {
            let ready = self.poller.wait(wait)?;
            self.sockets.note_ready(ready);
        }
        self.bell.get_up();
        Ok(())
    }

    fn time_to_deadline(&self, now: Timestamp) -> Option<Duration> {
        let deadline = self.porter.poll_timeout().into_iter().chain(self.next_count).min()?;
        Some((deadline - now).max(MIN_WAIT))
    }

    /// While there is something new to count, and once behind it.
    fn count(&mut self, now: Timestamp) {
        let is_busy = self.has_left || self.sockets.work() > 0;
        match self.next_count {
            None if is_busy => self.next_count = Some(now + COUNT_EVERY),
            Some(at) if at <= now => {
                let (losses, counters) = (self.sockets.losses(), self.sockets.counters());
                let Counts { lost, lanes, lanes_overflown, truncated, .. } = &*self.counts;
                lost.store(losses.data + losses.control, Ordering::Relaxed);
                lanes.store(losses.lanes as u64, Ordering::Relaxed);
                lanes_overflown.store(losses.lanes_overflown as u64, Ordering::Relaxed);
                truncated.store(counters.truncated, Ordering::Relaxed);
                self.next_count = None;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "porters_tests.rs"]
mod tests;
