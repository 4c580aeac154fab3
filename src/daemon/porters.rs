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
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::worker::{GATE_LOOK, MIN_WAIT, words_of};
use crate::dataplane::parcel::Leaving;
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
pub const WORK_OF_PORTER: u64 = 2_000;
pub const WORK_OF_WALK: u64 = 150;

/// How many lanes of a port the worker keeps, of so many: as many as it has time for beside the walk of all the others' packets.
pub fn lanes_of_worker(lanes: usize, threads: usize) -> usize {
    let Some(porters) = threads.checked_sub(1).filter(|porters| *porters > 0) else { return lanes };
    // Its share x: x * WORK_OF_PORTER + (1 - x) * WORK_OF_WALK = (1 - x) * WORK_OF_PORTER / porters.
    let (lanes, of_each) = (lanes as u64, WORK_OF_PORTER / porters as u64);
    let (over, under) = (of_each.saturating_sub(WORK_OF_WALK), WORK_OF_PORTER - WORK_OF_WALK + of_each);
    (lanes * over / under).max(1) as usize
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
    /// Since it was last asked.
    has_unsent: AtomicBool,
    congested: AtomicU64,
    refused: AtomicU64,
    /// Of what the walk had counted as forwarded.
    unsent_data: AtomicU64,
    /// The system's number of one of the errors, or 0.
    error: AtomicI32,
}

/// Of all porters together.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sums {
    pub threads: usize,
    pub opened: u64,
    pub left: u64,
    pub losses: Losses,
    pub truncated: u64,
}

/// The worker's end.
#[derive(Debug)]
pub struct Porters {
    threads: Vec<Thread>,
    arrived: Receiver<Box<Trip>>,
    reports: Receiver<PathReport>,
    /// Found when it was about to sleep.
    next: (Option<Box<Trip>>, Option<PathReport>),
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Thread {
    back: Option<SyncSender<Box<Trip>>>,
    bell: Arc<Bell>,
    counts: Arc<Counts>,
    /// It has sockets of that port.
    has_wireguard: bool,
    /// Set before it calls for the last time.
    has_ended: Arc<AtomicBool>,
    handle: Option<JoinHandle<io::Result<()>>>,
}

impl Porters {
    /// A thread for each of `sockets`, which call by `waker`.
    pub fn spawn(sockets: Vec<Sockets>, clock: Clock, waker: Waker) -> io::Result<Self> {
        let (give, arrived) = sync_channel((sockets.len() * PARCELS).max(1));
        let (tell, reports) = sync_channel(PATH_REPORTS);
        let bell = Bell::new(waker);
        let mut porters = Porters { threads: Vec::new(), arrived, reports, next: (None, None), bell };
        for (number, sockets) in sockets.into_iter().enumerate() {
            // Those that run already end when `porters` is dropped.
            let thread = spawn(number, sockets, clock, give.clone(), tell.clone(), porters.bell.clone())?;
            porters.threads.push(thread);
        }
        Ok(porters)
    }

    /// A parcel that is to walk.
    pub fn poll_arrived(&mut self) -> Option<Box<Trip>> {
        self.next.0.take().or_else(|| self.arrived.try_recv().ok())
    }

    pub fn poll_report(&mut self) -> Option<PathReport> {
        self.next.1.take().or_else(|| self.reports.try_recv().ok())
    }

    /// What the worker is to seal and send of it.
    pub fn left_to_us(&self, trip: &Trip) -> Leaving {
        if self.threads[trip.porter].has_wireguard { Leaving::ByWalk } else { Leaving::All }
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

    /// Before the worker sleeps. `false`: it is not to, there is something.
    pub fn lie_down(&mut self) -> bool {
        if self.threads.is_empty() {
            return true;
        }
        self.bell.lie_down();
        self.next = (self.poll_arrived(), self.poll_report());
        let is_quiet = matches!(self.next, (None, None));
        if !is_quiet {
            self.bell.get_up();
        }
        is_quiet
    }

    pub fn get_up(&self) {
        if !self.threads.is_empty() {
            self.bell.get_up();
        }
    }

    /// `Err`: one has ended, and nobody told it to.
    pub fn check(&mut self) -> io::Result<()> {
        let Some(ended) = self.threads.iter_mut().find(|thread| thread.has_ended.load(Ordering::Acquire)) else {
            return Ok(());
        };
        match ended.handle.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(io::Error::other("a porter's thread has ended")),
        }
    }

    /// What the porters could not send, since the last call.
    pub fn take_unsent(&self) -> Option<SendReport> {
        let mut unsent = None;
        for Thread { counts, .. } in &self.threads {
            // Before the counts are read: what is added then is there for the next call.
            if counts.has_unsent.load(Ordering::Relaxed) && counts.has_unsent.swap(false, Ordering::AcqRel) {
                let take = |count: &AtomicU64| count.swap(0, Ordering::AcqRel);
                let error = counts.error.swap(0, Ordering::AcqRel);
                unsent.get_or_insert_with(SendReport::default).add(SendReport {
                    congested_datagrams: take(&counts.congested),
                    refused_datagrams: take(&counts.refused),
                    unsent_data_datagrams: take(&counts.unsent_data),
                    first_error: (error != 0).then(|| io::Error::from_raw_os_error(error)),
                    ..SendReport::default()
                });
            }
        }
        unsent
    }

    /// As many as there are.
    pub fn most_parcels(&self) -> usize {
        self.threads.len() * PARCELS
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
    let has_wireguard = sockets.has_port(Port::WireGuard);
    let free = (0..PARCELS).map(|_| Box::new(Trip { parcel: Parcel::default(), porter: number })).collect();
    let (own_bell, own_counts) = (bell.clone(), counts.clone());
    let has_ended = Arc::new(AtomicBool::new(false));
    let ended = has_ended.clone();
    let run = move || {
        let at_end = walk.clone();
        let body = Body {
            has_wireguard,
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
        // The worker may be asleep, and has to know.
        ended.store(true, Ordering::Release);
        at_end.waker.wake();
        result.unwrap_or_else(|panic| Err(io::Error::other(format!("a defect in ixgate: {}", words_of(&*panic)))))
    };
    let handle = thread::Builder::new().name(format!("ixgate-port-{}", number + 1)).spawn(run)?;
    Ok(Thread { back: Some(back), bell, counts, has_wireguard, has_ended, handle: Some(handle) })
}

/// What the thread has.
struct Body {
    has_wireguard: bool,
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
                Err(TryRecvError::Disconnected) => {
                    self.tell_counts();
                    return Ok(());
                }
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
            // Which queues are empty is known only from the poller.
            if self.sleep(wait)? {
                is_shedding = self.sockets.look_after_gate();
            }
        }
    }

    /// It has walked.
    fn take_back(&mut self, mut trip: Box<Trip>) {
        self.porter.learn(&mut trip.parcel, self.clock.now());
        // Else the worker has sent it.
        if self.has_wireguard && trip.parcel.leaves(Leaving::ByPorter) {
            trip.parcel.seal(Leaving::ByPorter);
            let report = self.sockets.send_by(trip.parcel.outbox(), |port| Leaving::ByPorter.carries(port));
            self.note_unsent(&report);
        }
        trip.parcel.outbox().clear();
        self.free.push(trip);
    }

    fn note_unsent(&self, report: &SendReport) {
        let add = |count: &AtomicU64, more: u64| _ = count.fetch_add(more, Ordering::AcqRel);
        if report.congested_datagrams + report.refused_datagrams + report.unsent_data_datagrams > 0 {
            add(&self.counts.congested, report.congested_datagrams);
            add(&self.counts.refused, report.refused_datagrams);
            add(&self.counts.unsent_data, report.unsent_data_datagrams);
            if let Some(error) = report.first_error.as_ref().and_then(io::Error::raw_os_error) {
                self.counts.error.store(error, Ordering::Release);
            }
            self.counts.has_unsent.store(true, Ordering::Release);
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

    /// `true`: the poller has told what can be read.
    fn sleep(&mut self, wait: Option<Duration>) -> io::Result<bool> {
        self.bell.lie_down();
        if let Ok(trip) = self.returned.try_recv() {
            self.bell.get_up();
            self.take_back(trip);
            return Ok(false);
        }
        // What there is to read would be reported again and again.
        let has_free = !self.free.is_empty();
        if has_free {
            let ready = self.poller.wait(wait)?;
            self.sockets.note_ready(ready);
        } else {
            self.poller.wait_for_call(wait)?;
        }
        self.bell.get_up();
        Ok(has_free)
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
                self.tell_counts();
                self.next_count = None;
            }
            _ => {}
        }
    }

    fn tell_counts(&self) {
        let (losses, counters) = (self.sockets.losses(), self.sockets.counters());
        let Counts { lost, lanes, lanes_overflown, truncated, .. } = &*self.counts;
        lost.store(losses.data + losses.control, Ordering::Relaxed);
        lanes.store(losses.lanes as u64, Ordering::Relaxed);
        lanes_overflown.store(losses.lanes_overflown as u64, Ordering::Relaxed);
        truncated.store(counters.truncated, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
