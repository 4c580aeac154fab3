//! Tunnels' data past the kernel's stack: the AF_XDP driver for UDP tunnels, beside their sockets.
//!
//! An *uplink* is an interface that tunnels' datagrams come and go by. Other than a port's (`frames::af_xdp`) it stays the kernel's: addresses, routes,
//! ARP and neighbour discovery, firewall, everything else on it. Only data of tunnels is taken, and only where nothing is to be decided about it:
//!
//! ```text
//!               data to an address and port of ours                            its ring, Uplinks::receive ─┐
//! interface ═══ program ═══╣                                                                               ├─ Sockets ─ worker
//!               everything else: handshakes, IKE, fragments, ... ═ the kernel ═ the sockets as ever ───────┘
//!
//! worker ─ Sockets ─┬─ data, and its way is known, and it fits: headers before it, into a transmit ring ═══ interface
//!                   └─ everything else: the sockets as ever ═ the kernel ═══════════════════════════════════ interface
//! ```
//!
//! So whatever fails (no AF_XDP here, an interface that is down or gone, a neighbour that is not known, a queue that has no socket of ours) is no
//! failure: the datagram goes by the socket, and the kernel does what it does. Loss of this process takes the program off.
//!
//! A *way* ([`super::netlink::ways`]) is what the kernel would do with a datagram to one remote: device, source, the next hop's hardware address. A thread
//! of the daemon's asks the kernel for it when the first datagram goes there, and follows what the kernel tells from then on; here is a copy for the
//! packet path, with the headers made (`ways`). The two meet at a [`desk`], where nobody waits. The first datagrams to a remote go by the socket, which
//! also makes the kernel find the neighbour.
//!
//! Limits and departures, each on purpose:
//!
//! - Native XDP only. Generic XDP comes behind the kernel's joining (GRO) and would hand over several datagrams as one.
//! - One datagram a frame, both ways: no segmentation, no joining, checksums by the processor. On veth native XDP also keeps the other end
//!   from sending joined packets. What that means: `docs/performance.md`.
//! - What is taken passes no netfilter, no traffic control, no [gate](super::gate) and no tcpdump; of what is sent the same holds. The ring is the bounded
//!   queue: the card drops what it has no room for. It has no lanes: a tunnel that floods can cost others their packets, as it could before lanes.
//! - VLAN tags that the card, or a veth's other end, keeps beside the frame are not seen: data to an address of ours is taken from any VLAN, as the
//!   kernel's weak host model would.
//! - Longer datagrams than the way's MTU go by the sockets, which refuse them and tell of the path as always. ICMP errors about what was sent here come
//!   to the sockets' error queues too: the kernel finds the socket by addresses and ports, whoever has sent.
//! - IPv6 goes without flow labels; reverse path filtering is not done: what tunnels carry is authenticated.
//! - Where the kernel has IPsec policies of its own (xfrm; looked at every 30 s), the sockets carry all. Rules by fwmark, user, TOS and ports are not asked for;
//!   link-local addresses, on either end, and those of VRFs stay with the sockets.
//!
//! ```text
//! program    which frames are taken       headers   read and written
//! interface  one uplink                   ways      of each remote, ready to send
//! keeper     what that thread does        desk      where it meets the packet path
//! ```

pub mod desk;
mod error;
mod headers;
mod interface;
pub mod keeper;
mod program;
#[cfg(test)]
mod tests;
mod ways;

use std::collections::{HashMap, hash_map};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use self::desk::{Asked, Desk, Questions};
pub use self::error::UplinkError;
use self::headers::{ETHERNET_BYTES, Fields, Received};
use self::interface::{Frame, Uplink};
use self::ways::{Number, Ways};
use super::frames::af_xdp::MAX_QUEUES;
use super::frames::af_xdp::chunks::Lent;
use super::netlink::ways::{Key, Way};
use super::poller::Poller;
use super::udp::{RecvCounters, SendReport};
use crate::net::{Path, Port};
use crate::packet::outbox::Run;
use crate::packet::{Datagram, Outbox};

/// Uplinks at most; each has as many tokens of the poller as there may be queues.
pub const MAX_UPLINKS: usize = 4;
/// Most frames that one receive looks at.
const BATCH: usize = 64;
/// Most ways that one receive learns.
const MAX_ANSWERS: usize = 256;
/// WireGuard's data; every other type is of its control.
const DATA_MESSAGE: u8 = 4;
/// A run for the sockets.
const NO_WAY: Number = Number::MAX;

/// Since the beginning; datagrams.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct UplinkCounts {
    pub received: u64,
    pub sent: u64,
    /// Data that went by the sockets as the way was not known, was no way of an uplink's, or the uplink was down.
    pub no_way: u64,
    /// The same as it was longer than the way's MTU.
    pub too_long: u64,
    /// Came and found no room in the ring.
    pub lost: u64,
    /// Came and were no whole datagrams.
    pub damaged: u64,
    /// The card took no more.
    pub congested: u64,
    /// That are followed now.
    pub ways: usize,
}

/// What one receive has made.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Looked at, damaged ones too.
    pub frames: usize,
    /// Given.
    pub datagrams: usize,
    pub bytes: usize,
    /// Ways learned.
    pub answers: usize,
    /// The poller says so too, when it is asked.
    pub may_have_more: bool,
}

/// All uplinks together: one more place to receive from and to send by.
#[derive(Debug)]
pub struct Uplinks {
    desk: Desk,
    /// Ready when a queue is, or something was answered.
    poller: Poller,
    uplinks: [Option<Box<Uplink>>; MAX_UPLINKS],
    /// Place and number of every queue that is open.
    queues: Vec<(usize, usize)>,
    /// Where data is listened for; all others are none of ours.
    listening: Vec<(Port, SocketAddr)>,
    ways: Ways,
    /// What the last receive gave.
    batch: Vec<Taken>,
    /// At which of the queues the next receive begins.
    next: usize,
    /// Answers that are not heeded yet: a few with each receive.
    answered: hash_map::IntoIter<Key, Option<Way>>,
    /// For the thread that knows, as soon as it is not at the desk.
    unsaid: Questions,
    /// The number of the outbox at hand.
    outbox: u64,
    /// Of each of its runs, by which way it goes.
    plan: Vec<Number>,
    /// Where it is held back that what goes one way stays together.
    holds_back: bool,
    identification: u16,
    counts: UplinkCounts,
}

#[derive(Debug)]
struct Taken {
    uplink: usize,
    queue: usize,
    lent: Lent,
    path: Path,
    ecn: u8,
    payload: Range<usize>,
}

impl Uplinks {
    /// None yet: they come by the desk.
    pub fn new(desk: Desk) -> io::Result<Self> {
        let poller = Poller::new()?;
        desk.wake_for_answers(poller.waker());
        Ok(Uplinks {
            desk,
            poller,
            uplinks: Default::default(),
            queues: Vec::new(),
            listening: Vec::new(),
            ways: Ways::default(),
            batch: Vec::with_capacity(BATCH),
            next: 0,
            answered: HashMap::new().into_iter(),
            unsaid: Questions::default(),
            outbox: 0,
            plan: Vec::new(),
            holds_back: false,
            identification: 0,
            counts: UplinkCounts::default(),
        })
    }

    /// Where data is listened for, with the numbers that the kernel chose.
    pub fn listen(&mut self, listening: Vec<(Port, SocketAddr)>) {
        if listening != self.listening {
            self.listening.clone_from(&listening);
            self.unsaid.listening = Some(listening);
            self.say();
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    /// Gives back what the last call gave, and takes what has come, up to a batch.
    pub fn receive(&mut self) -> io::Result<Reading> {
        self.give_back();
        self.say();
        let mut reading = Reading::default();
        if self.desk.has_answers() || self.answered.len() > 0 {
            self.poller.wait(Some(Duration::ZERO))?;
            reading.answers += self.heed();
        }
        self.take(&mut reading);
        if reading.frames == 0 {
            // Who answers calls behind it, so there may be a call whose answer we have: nobody would hear it any more, and it would not end.
            self.poller.wait(Some(Duration::ZERO))?;
            reading.answers += self.heed();
            self.take(&mut reading);
        }
        reading.may_have_more = reading.frames > 0 || self.answered.len() > 0;
        reading.datagrams = self.batch.len();
        self.counts.received += reading.datagrams as u64;
        Ok(reading)
    }

    /// Those that the last receive gave.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.batch.iter().filter_map(|taken| {
            let uplink = self.uplinks[taken.uplink].as_ref()?;
            let bytes = &uplink.bytes(taken.queue, &taken.lent)[taken.payload.clone()];
            Some(Datagram { path: taken.path, bytes, ecn: taken.ecn })
        })
    }

    /// Which runs of an outbox, of those by such ports, go by uplinks, for [`Uplinks::carries`] and [`Uplinks::send`]. `false`: none does.
    pub fn plan(&mut self, outbox: &Outbox, is_meant: &dyn Fn(Port) -> bool) -> bool {
        if self.uplinks.iter().all(Option::is_none) {
            let meant = outbox.runs().iter().filter(|run| is_meant(run.path.port));
            let data = meant.filter(|run| is_data(run.path.port, outbox.bytes_of(run)));
            self.counts.no_way += data.map(|run| run.segments() as u64).sum::<u64>();
            return false;
        }
        self.outbox += 1;
        self.holds_back = false;
        self.plan.clear();
        for run in outbox.runs() {
            let way = if is_meant(run.path.port) { self.way_of(run, outbox) } else { None };
            let number = way.unwrap_or(NO_WAY);
            self.plan.push(number);
        }
        let holds_back = self.holds_back;
        self.plan
            .iter()
            .any(|number| *number != NO_WAY && !(holds_back && self.ways.is_held_back(*number, self.outbox)))
    }

    /// Whether a run of the planned outbox, by its number, goes by an uplink.
    #[inline]
    pub fn carries(&self, run: usize) -> bool {
        let number = self.plan[run];
        number != NO_WAY && !(self.holds_back && self.ways.is_held_back(number, self.outbox))
    }

    /// Whether what goes this path goes by an uplink: all of an outbox's runs that go one path do, or none.
    pub fn carries_path(&self, path: &Path) -> bool {
        let number = self.key(path).and_then(|key| self.ways.peek(&key));
        number.is_some_and(|number| !self.ways.is_held_back(number, self.outbox) && self.is_ready(number))
    }

    /// Sends the planned runs of the outbox.
    pub fn send(&mut self, outbox: &Outbox) -> SendReport {
        let mut report = SendReport::default();
        for place in 0..MAX_UPLINKS {
            let Some(device) = self.uplinks[place].as_ref().map(|uplink| uplink.device) else { continue };
            let is_by = |number: Number| self.ways.ready(number).is_some_and(|ready| ready.device == device);
            if !(0..self.plan.len()).any(|run| self.carries(run) && is_by(self.plan[run])) {
                continue;
            }
            let one = self.send_by(place, device, outbox);
            self.counts.sent += one.sent_datagrams;
            self.counts.congested += one.congested_datagrams;
            if one.refused_datagrams > 0
                && let Some(uplink) = &mut self.uplinks[place]
            {
                uplink.has_failed = true;
                self.unsaid.failed.push(device);
            }
            report.add(one);
        }
        self.say();
        report
    }

    pub fn counts(&self) -> UplinkCounts {
        let open = || self.uplinks.iter().flatten();
        UplinkCounts {
            lost: self.counts.lost + open().map(|uplink| uplink.lost()).sum::<u64>(),
            damaged: self.counts.damaged + open().map(|uplink| uplink.damaged()).sum::<u64>(),
            ways: self.ways.count(),
            ..self.counts
        }
    }

    pub fn counters(&self) -> RecvCounters {
        let counts = self.counts();
        RecvCounters { truncated: counts.damaged, overflow_drops: counts.lost as u32 }
    }

    fn give_back(&mut self) {
        for taken in self.batch.drain(..) {
            if let Some(uplink) = &mut self.uplinks[taken.uplink] {
                uplink.give_back(taken.queue, taken.lent);
            }
        }
        self.uplinks.iter_mut().flatten().for_each(|uplink| uplink.refill());
    }

    /// First of every queue a share, so that a flood of one leaves room for the others; then whatever there is.
    fn take(&mut self, reading: &mut Reading) {
        let count = self.queues.len();
        if count == 0 {
            return;
        }
        let share = (BATCH / count).max(1);
        for most in [share, BATCH] {
            for number in 0..count {
                let (place, queue) = self.queues[(self.next + number) % count];
                self.take_from(place, queue, most.min(BATCH.saturating_sub(reading.frames)), reading);
            }
        }
        self.next = (self.next + 1) % count;
    }

    fn take_from(&mut self, place: usize, queue: usize, most: usize, reading: &mut Reading) {
        let Some(uplink) = &mut self.uplinks[place] else { return };
        for _ in 0..most {
            let Some(frame) = uplink.take(queue) else { break };
            reading.frames += 1;
            let Frame::Datagram(lent, received) = frame else { continue };
            reading.bytes += received.payload.len();
            let path = path(&self.listening, &received);
            match path {
                Some(path) => self.batch.push(Taken {
                    uplink: place,
                    queue,
                    lent,
                    path,
                    ecn: received.ecn,
                    payload: received.payload,
                }),
                // A port that we have just left.
                None => uplink.give_back(queue, lent),
            }
        }
        uplink.release(queue);
    }

    /// What is answered, of ways a few: how many.
    fn heed(&mut self) -> usize {
        if self.answered.len() == 0
            && let Some(answers) = self.desk.take_answers()
        {
            answers.closed.into_iter().for_each(|device| self.close(device));
            answers.opened.into_iter().for_each(|uplink| self.open(uplink));
            self.answered = answers.ways.into_iter();
            if answers.sweep {
                self.unsaid.asked.extend(self.ways.sweep().into_iter().map(Asked::Forget));
            }
            self.say();
        }
        let mut heeded = 0;
        for (key, way) in self.answered.by_ref().take(MAX_ANSWERS) {
            self.ways.set(key, way);
            heeded += 1;
        }
        heeded
    }

    /// Nobody is waited for: what is not said now is said by the next receive, which this calls for.
    fn say(&mut self) {
        if self.unsaid.is_empty() {
            return;
        }
        let unsaid = &mut self.unsaid;
        if self.desk.try_question(|questions| questions.append(unsaid)).is_none() {
            self.poller.waker().wake();
        }
    }

    /// Where it cannot be had, it goes back, by which the thread that knows sees that it is not open.
    fn open(&mut self, uplink: Box<Uplink>) {
        self.close(uplink.device);
        let Some(place) = self.uplinks.iter().position(Option::is_none) else {
            self.unsaid.returned.push(uplink);
            return;
        };
        let token = |queue| (place * MAX_QUEUES as usize + queue) as u8;
        if uplink.descriptors().zip(0..).try_for_each(|(fd, queue)| self.poller.add(fd, token(queue))).is_err() {
            uplink.descriptors().for_each(|fd| self.poller.remove(fd));
            self.unsaid.returned.push(uplink);
            return;
        }
        self.queues.extend((0..uplink.queues()).map(|queue| (place, queue)));
        self.uplinks[place] = Some(uplink);
    }

    /// Nothing of it is lent: the last batch was given back.
    fn close(&mut self, device: u32) {
        let is_it = |uplink: &Option<Box<Uplink>>| uplink.as_ref().is_some_and(|uplink| uplink.device == device);
        let Some(place) = self.uplinks.iter().position(is_it) else { return };
        self.queues.retain(|(of, _)| *of != place);
        if let Some(uplink) = self.uplinks[place].take() {
            self.counts.lost += uplink.lost();
            self.counts.damaged += uplink.damaged();
            // Until it is dropped, what is gone would call us for ever.
            uplink.descriptors().for_each(|fd| self.poller.remove(fd));
            self.unsaid.returned.push(uplink);
        }
    }

    /// Data of a tunnel's, whose way is known; counts why not.
    fn way_of(&mut self, run: &Run, outbox: &Outbox) -> Option<Number> {
        let key = self.key(&run.path)?;
        let is_data = is_data(run.path.port, outbox.bytes_of(run));
        let segments = run.segments() as u64;
        let Some(number) = self.ways.find(key) else {
            if is_data {
                self.counts.no_way += segments;
                self.ask(key);
            }
            return None;
        };
        if !is_data {
            self.hold_back(number);
            return None;
        }
        if !self.is_ready(number) {
            self.counts.no_way += segments;
            return None;
        }
        if !self.fits(number, run.segment_bytes) {
            self.counts.too_long += segments;
            self.hold_back(number);
            return None;
        }
        Some(number)
    }

    /// In the place of one that nobody uses, when there is no room.
    fn ask(&mut self, key: Key) {
        self.say();
        let Some(place) = self.ways.place().filter(|_| self.unsaid.is_empty()) else { return };
        if self.desk.ask(self.ways.key_at(place), key) {
            self.ways.insert(place, key);
        }
    }

    fn hold_back(&mut self, number: Number) {
        self.holds_back = true;
        self.ways.hold_back(number, self.outbox);
    }

    /// `None`: nothing that goes this path is for an uplink.
    fn key(&self, path: &Path) -> Option<Key> {
        let (_, listening) = self.listening.iter().find(|(port, _)| *port == path.port)?;
        let is_scoped = matches!(path.remote, SocketAddr::V6(remote) if remote.scope_id() != 0);
        let bound = Some(listening.ip().to_canonical()).filter(|address| !address.is_unspecified());
        (!is_scoped).then_some(Key { remote: path.remote.ip(), local: path.local.or(bound) })
    }

    #[inline]
    fn is_ready(&self, number: Number) -> bool {
        self.ways.ready(number).is_some_and(|ready| self.uplink(ready.device).is_some_and(|uplink| !uplink.has_failed))
    }

    fn fits(&self, number: Number, segment_bytes: usize) -> bool {
        let Some(ready) = self.ways.ready(number) else { return false };
        let longest = self.uplink(ready.device).map_or(0, Uplink::longest_packet).min(ready.mtu_bytes);
        segment_bytes + ready.template.overhead_bytes() <= longest
    }

    fn uplink(&self, device: u32) -> Option<&Uplink> {
        self.uplinks.iter().flatten().map(|uplink| &**uplink).find(|uplink| uplink.device == device)
    }

    fn send_by(&mut self, place: usize, device: u32, outbox: &Outbox) -> SendReport {
        let Uplinks { uplinks, ways, plan, listening, holds_back, identification, .. } = self;
        let Some(uplink) = &mut uplinks[place] else { return SendReport::default() };
        let mut sending = uplink.sending();
        for (run, number) in outbox.runs().iter().zip(plan) {
            if *number == NO_WAY || *holds_back && ways.is_held_back(*number, self.outbox) {
                continue;
            }
            let Some(ready) = ways.ready(*number).filter(|ready| ready.device == device) else { continue };
            let mut template = ready.template.with(Fields {
                source_port: port_number(listening, run.path.port),
                destination_port: run.path.remote.port(),
                traffic_class: run.traffic_class,
                may_fragment: run.may_fragment,
            });
            for payload in outbox.bytes_of(run).chunks(run.segment_bytes) {
                if run.may_fragment {
                    *identification = identification.wrapping_add(1);
                }
                let headers = template.finish(payload, if run.may_fragment { *identification } else { 0 });
                sending.send(headers, payload, run.data);
            }
        }
        sending.end()
    }
}

fn port_number(listening: &[(Port, SocketAddr)], port: Port) -> u16 {
    listening.iter().find(|(one, _)| *one == port).map_or(0, |(_, address)| address.port())
}

/// Whether who listens there hears what comes to this address: `[::]` hears IPv4 too.
fn hears(listen: IpAddr, address: IpAddr) -> bool {
    let listen = listen.to_canonical();
    listen == address || listen.is_unspecified() && (listen.is_ipv6() || address.is_ipv4())
}

/// As the socket would tell it.
fn path(listening: &[(Port, SocketAddr)], received: &Received) -> Option<Path> {
    let is_it =
        |address: &SocketAddr| address.port() == received.destination_port && hears(address.ip(), received.destination);
    let (port, address) = listening.iter().find(|(_, address)| is_it(address))?;
    let local: Option<IpAddr> = address.ip().is_unspecified().then_some(received.destination);
    Some(Path { port: *port, remote: SocketAddr::new(received.source, received.source_port), local })
}

/// As the program on the way in has it. Whoever makes a run puts hardly anything else behind data; if so, that goes the same way.
fn is_data(port: Port, bytes: &[u8]) -> bool {
    match port {
        Port::WireGuard => bytes.first() == Some(&DATA_MESSAGE),
        Port::IkeNatT => bytes.first_chunk::<8>().is_some_and(|first| first[..4] != [0; 4]),
        _ => false,
    }
}

const _: () = assert!(MAX_UPLINKS * MAX_QUEUES as usize <= super::poller::MAX_TOKENS && ETHERNET_BYTES == 14);
