//! All sockets for outer datagrams, and all interfaces, together: one place to receive from, one to send an outbox to.
//!
//! ```text
//! Port::WireGuard   UDP         Port::IkeNatT   UDP (4500)
//! Port::Ike         UDP (500)   Port::RawEsp    IP protocol 50, one socket for each IP version
//! Port::Frames, Port::Tun       a driver for each interface
//! ```
//!
//! A datagram is stamped with the port that it came by ([`Path::port`]), and a run leaves by the socket of its path's
//! port. A port that carries data has further sockets to receive from, its lanes ([`super::udp::steer`]), so that a flood loses nobody
//! else's packets. Receiving goes around: each call serves the queue whose turn it is (`Turns`), a batch of it, so that a flood
//! cannot keep the others waiting. Frames stay where the driver has them ([`Sockets::datagrams`]) until it is served again.
//!
//! Where there are [uplinks](super::uplink), data comes by them too, and leaves by them where they know its way.
//!
//! Where there is a [gate](super::gate), it is told what was read of each queue, so that as much may come again.
//!
//! Interfaces come and go while we run: one that is down has nothing, and one that is gone for good is closed here, when the
//! poller reports it, and told ([`Sockets::poll_gone`]); whoever follows the links opens it again and has it adopted.

pub(super) mod places;
mod socket;
mod turns;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use self::places::{ESP_LANES, INTERFACES, PLACES, PORTS, UPLINKS, WIREGUARD_LANES, lanes_of, place};
use self::socket::{Heard, Received, Socket, WORK_OF_MESSAGE};
use self::turns::{Turns, bits};
use super::frames::Driver;
use super::gate::{Accounts, PORTS as GATE_PORTS};
use super::poller::{Poller, Ready};
use super::raw_esp::RawEspSocket;
use super::udp::{MAX_MESSAGES, RecvBatch, RecvCounters, SendReport, UdpSocket};
use super::uplink::{UplinkCounts, Uplinks};
use crate::net::{InterfaceId, Path, PathReport, Port};
use crate::packet::{Datagram, Outbox};

/// Queues of data that a port has, where the kernel lets a program choose.
pub const LANES: usize = super::udp::steer::LANES;
/// A batch makes about this much work ([`socket::work`]), so that nobody waits for long: a fraction of a millisecond.
const BATCH_WORK: u64 = 400_000;

/// Datagrams that came and were never read, and where.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Losses {
    /// On queues that bring what makes and keeps tunnels, and nothing else.
    pub control: u64,
    pub data: u64,
    pub lanes: usize,
    /// Those that have lost something.
    pub lanes_overflown: usize,
}

/// Of the [gate](super::gate), by what datagrams were.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GateCounts {
    pub control: GateCount,
    pub data: GateCount,
    /// Lanes of which something was shed.
    pub lanes_shed: usize,
}

/// Datagrams; what the kernel had joined counts as what it was.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GateCount {
    pub admitted: u64,
    pub shed: u64,
}

/// Those that a gate keeps accounts of.
fn queues() -> impl Iterator<Item = usize> {
    (0..GATE_PORTS).chain(WIREGUARD_LANES).chain(ESP_LANES)
}

/// One socket, or none, for each port (of raw ESP, for each IP version too; of frames, for each interface), and the lanes of ports.
#[derive(Debug)]
pub struct Sockets {
    places: [Option<Socket>; PLACES],
    /// Bit n: socket n may have something to read.
    readable: u128,
    /// Bit n: its error queue may have.
    errors: u128,
    turns: Turns<PLACES>,
    /// How much work a message of each made, the last time.
    work_of_message: [u64; PLACES],
    /// Of the last receive.
    work: u64,
    /// How many frames the last receive gave, and in which place. `None`: what it gave is in the batch.
    frames: Option<(usize, usize)>,
    /// Lives as long as the sockets.
    owned: Arc<()>,
    /// Of those taken over, if somebody watches them.
    adopted: Vec<Arc<()>>,
    /// Closed here, and not told yet; at most one of each.
    gone: Vec<(InterfaceId, u32)>,
    /// Of the queues, each by its place.
    gate: Option<Accounts>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets {
            places: std::array::from_fn(|_| None),
            readable: 0,
            errors: 0,
            turns: Turns::default(),
            work_of_message: [WORK_OF_MESSAGE; PLACES],
            work: 0,
            frames: None,
            owned: Arc::new(()),
            adopted: Vec::new(),
            gone: Vec::new(),
            gate: None,
        }
    }
}

/// Tells whether sockets are still open, whoever has them now.
#[derive(Clone, Debug, Default)]
pub struct Watch(Weak<()>);

impl Watch {
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

impl Sockets {
    /// Takes the place of one on the same port, and of its lanes.
    pub fn add_udp(&mut self, udp: UdpSocket) {
        self.add_udp_with_lanes(udp, Vec::new());
    }

    /// The same, with lanes of its own ([`UdpSocket::bind_lanes`]).
    pub fn add_udp_with_lanes(&mut self, udp: UdpSocket, lanes: Vec<UdpSocket>) {
        let places = lanes_of(udp.port());
        places.clone().for_each(|place| self.close(place));
        self.add(Socket::Udp(udp));
        places.zip(lanes).for_each(|(place, lane)| self.put(place, Socket::Udp(lane)));
        self.tell_control();
    }

    /// By a port that has lanes comes what makes and keeps tunnels, and nothing else comes by that of IKE.
    fn tell_control(&mut self) {
        let ports = [Port::WireGuard, Port::Ike, Port::IkeNatT].into_iter().zip(0..);
        let is_control = |port| port == Port::Ike || lanes_of(port).any(|lane| self.places[lane].is_some());
        let control = ports.filter(|(port, _)| is_control(*port)).fold(0, |all, (_, place)| all | 1 << place);
        self.turns.set_control(control);
        self.tell_gate();
        let listening = [Port::WireGuard, Port::IkeNatT].map(|port| Some((port, self.udp_address(port)?)));
        if let Some(Socket::Uplinks(uplinks)) = &mut self.places[UPLINKS] {
            uplinks.listen(listening.into_iter().flatten().collect());
        }
    }

    /// From now on these accounts are kept.
    pub fn set_gate(&mut self, accounts: Accounts) {
        self.gate = Some(accounts);
        self.tell_gate();
    }

    /// Of a port without lanes the gate could not tell control from data.
    fn tell_gate(&mut self) {
        let addresses: [_; GATE_PORTS] = std::array::from_fn(|place| match &self.places[place] {
            Some(Socket::Udp(udp)) if self.turns.is_control(place) => Some(udp.local_address()),
            _ => None,
        });
        if let Some(gate) = &mut self.gate {
            addresses.into_iter().enumerate().for_each(|(port, address)| gate.set_port(port, address));
        }
    }

    /// To be called behind [`Sockets::note_ready`]. `true`: the gate has shed something since the last call; it is not to be left alone for long.
    pub fn look_after_gate(&mut self) -> bool {
        let (places, readable) = (&self.places, self.readable);
        let is_empty = |place: &usize| places[*place].is_some() && readable & (1 << place) == 0;
        self.gate.as_mut().is_some_and(|gate| gate.look_after(queues().filter(is_empty)))
    }

    /// Deals out lanes, as evenly as they go, for so many threads to receive from and to send by; `kept` of each port's stay, at least
    /// one. Fewer, where a port has not so many.
    pub fn deal_lanes(&mut self, threads: usize, kept: usize) -> Vec<Sockets> {
        let mut dealt: Vec<_> =
            (0..threads).map(|_| Sockets { gate: self.gate.clone(), ..Sockets::default() }).collect();
        for lanes in [WIREGUARD_LANES, ESP_LANES] {
            let open: Vec<usize> = lanes.filter(|lane| self.places[*lane].is_some()).collect();
            for (n, lane) in open.into_iter().skip(kept.max(1)).enumerate() {
                if let (Some(socket), false) = (self.places[lane].take(), dealt.is_empty()) {
                    let thread = n % dealt.len();
                    dealt[thread].put(lane, socket);
                }
            }
        }
        dealt.retain(|sockets| sockets.places.iter().any(Option::is_some));
        dealt
    }

    /// The ports that it has a socket of.
    pub fn has_port(&self, port: Port) -> bool {
        self.udp().any(|udp| udp.port() == port)
    }

    /// Takes the place of one of the same IP version.
    pub fn add_raw_esp(&mut self, raw: RawEspSocket) {
        self.add(Socket::RawEsp(raw));
    }

    /// Takes the place of one of the same interface.
    pub fn add_driver(&mut self, driver: Box<dyn Driver>) {
        self.add(Socket::Frames(driver));
    }

    /// Takes the place of those there were.
    pub fn add_uplinks(&mut self, uplinks: Uplinks) {
        self.add(Socket::Uplinks(Box::new(uplinks)));
        self.tell_control();
    }

    fn add(&mut self, socket: Socket) {
        let place = socket.place().expect("fewer interfaces than MAX_INTERFACES");
        self.put(place, socket);
    }

    fn put(&mut self, place: usize, socket: Socket) {
        self.readable |= 1 << place;
        self.close(place);
        self.places[place] = Some(socket);
    }

    fn close(&mut self, place: usize) {
        self.frames = self.frames.filter(|(latest, _)| *latest != place);
        self.places[place] = None;
    }

    /// Has the poller report every socket, by tokens that [`Sockets::note_ready`] knows.
    pub fn register(&self, poller: &Poller) -> io::Result<()> {
        let places = (0..).zip(&self.places);
        places
            .filter_map(|(token, socket)| Some((token, socket.as_ref()?)))
            .try_for_each(|(token, socket)| poller.add(socket.fd(), token))
    }

    pub fn watch(&self) -> Watch {
        Watch(Arc::downgrade(&self.owned))
    }

    /// Takes over all of `more`, each in the place of the one that was there, and has the poller report them too. On an error
    /// they are closed.
    pub fn adopt(&mut self, more: Sockets, poller: &Poller) -> io::Result<()> {
        more.register(poller)?;
        if Arc::weak_count(&more.owned) > 0 {
            self.adopted.push(more.owned.clone());
        }
        for (place, socket) in (0..).zip(more.places) {
            let Some(socket) = socket else { continue };
            if let Socket::Udp(udp) = &socket
                && place < PORTS
            {
                lanes_of(udp.port()).for_each(|lane| self.close(lane));
            }
            self.put(place, socket);
        }
        self.tell_control();
        Ok(())
    }

    /// Closes the drivers of all other interfaces.
    pub fn retain_interfaces(&mut self, is_kept: impl Fn(InterfaceId) -> bool) {
        for place in INTERFACES {
            if !is_kept(InterfaceId((place - INTERFACES.start) as u8)) {
                self.close(place);
            }
        }
    }

    /// What the poller has reported.
    pub fn note_ready(&mut self, ready: Ready) {
        self.readable |= ready.tokens;
        self.errors |= ready.errors;
    }

    /// What paths were said to carry, from all sockets that the poller has reported: at most a batch of each. `true`: there
    /// may be more.
    pub fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> bool {
        if self.errors == 0 {
            return false;
        }
        let reported = self.errors;
        for place in bits(reported) {
            match self.places[place].as_mut().map_or(Heard::All, |socket| socket.recv_errors(reports)) {
                Heard::Some => continue,
                Heard::All => {}
                Heard::Gone => self.close_gone(place),
            }
            self.errors &= !(1 << place);
        }
        self.errors != 0
    }

    fn close_gone(&mut self, place: usize) {
        if let Some(Socket::Frames(driver)) = &self.places[place] {
            let interface = InterfaceId((place - INTERFACES.start) as u8);
            self.gone.retain(|(other, _)| *other != interface);
            self.gone.push((interface, driver.interface_index()));
        }
        self.close(place);
    }

    /// An interface that [`Sockets::recv_errors`] has closed as it is gone, and the kernel's number of what was closed.
    pub fn poll_gone(&mut self) -> Option<(InterfaceId, u32)> {
        self.gone.pop()
    }

    /// Receives from the socket whose turn it is, of those that have something: the number of messages or frames, for
    /// [`Sockets::datagrams`]. 0: none has, until the poller reports one; or what was read was worth nothing, and [`Sockets::has_more`].
    pub fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.frames = None;
        self.work = 0;
        let mut in_vain = 0;
        while let Some(place) = self.turns.next_of(self.readable) {
            let limit = (BATCH_WORK / self.work_of_message[place]).clamp(1, MAX_MESSAGES as u64) as usize;
            let received = match &mut self.places[place] {
                Some(socket) => socket.receive(batch, limit)?,
                None => Received { messages: 0, datagrams: 0, work: 0, may_have_more: false },
            };
            // What has come since, the poller reports: no call that only says that there is no more.
            if !received.may_have_more {
                self.readable &= !(1 << place);
            }
            if let (Some(gate), Some(Socket::Udp(_))) = (&mut self.gate, &self.places[place]) {
                match received.may_have_more {
                    true => gate.note_read(place, received.datagrams as u64),
                    false => gate.note_last(place, received.datagrams as u64),
                }
            }
            if received.work > 0 {
                self.turns.charge(place, received.work);
            }
            if received.messages == 0 {
                in_vain += received.work;
                if in_vain >= BATCH_WORK {
                    // It may go on so for ever; the caller has other things to do.
                    break;
                }
                continue;
            }
            self.work_of_message[place] = (received.work / received.messages as u64).max(WORK_OF_MESSAGE);
            self.work = received.work;
            let is_frames = matches!(self.places[place], Some(Socket::Frames(_) | Socket::Uplinks(_)));
            self.frames = is_frames.then_some((place, received.messages));
            return Ok(received.messages);
        }
        Ok(0)
    }

    /// What the last receive makes the worker do, in about nanoseconds of one core.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// What is known to have more: the next receive needs no word of the poller.
    pub fn has_more(&self) -> bool {
        self.readable != 0
    }

    /// Everything that the last [`Sockets::recv_batch`] gave: out of the batch that it was called with, or where the driver has
    /// it.
    pub fn datagrams<'a>(&'a self, batch: &'a RecvBatch) -> impl Iterator<Item = Datagram<'a>> {
        let (mut latest, mut uplinks) = (None, None);
        if let Some((place, count)) = self.frames {
            match &self.places[place] {
                Some(Socket::Frames(driver)) => latest = Some((driver, count)),
                Some(Socket::Uplinks(by)) => uplinks = Some(by),
                _ => {}
            }
        }
        let batch = if self.frames.is_none() { Some(batch) } else { None };
        let frames = latest.into_iter().flat_map(|(driver, count)| {
            let path = driver.path();
            (0..count).map(move |index| Datagram::new(path, driver.frame(index)))
        });
        let by_uplinks = uplinks.into_iter().flat_map(|uplinks| uplinks.datagrams());
        batch.into_iter().flat_map(RecvBatch::datagrams).chain(frames).chain(by_uplinks)
    }

    /// Sends each run by the socket of its port. A run without one (its port is not configured) counts as refused.
    pub fn send(&mut self, outbox: &Outbox) -> SendReport {
        self.send_by(outbox, |_| true)
    }

    /// The same of those ports alone; of others nothing is told.
    pub fn send_by(&mut self, outbox: &Outbox, is_meant: impl Fn(Port) -> bool) -> SendReport {
        let mut report = SendReport::default();
        let mut wanted = 0u128;
        let (places, uplinks) = self.places.split_at_mut(UPLINKS);
        let mut uplinks = match &mut uplinks[0] {
            Some(Socket::Uplinks(uplinks)) => uplinks.plan(outbox, &is_meant).then_some(uplinks),
            _ => None,
        };
        for (number, run) in outbox.runs().iter().enumerate() {
            if !is_meant(run.path.port) || uplinks.as_ref().is_some_and(|uplinks| uplinks.carries(number)) {
                continue;
            }
            match sender(places, &run.path) {
                Some(place) => wanted |= 1 << place,
                None => report.refuse(run.segments() as u64, run.data, io::ErrorKind::NotConnected.into()),
            }
        }
        for number in bits(wanted) {
            if let Some(socket) = &mut places[number] {
                let port = match socket {
                    Socket::Frames(driver) => Some(driver.path().port),
                    Socket::Udp(udp) => Some(udp.port()),
                    Socket::RawEsp(_) | Socket::Uplinks(_) => None,
                };
                let is_an_uplinks = |path: &Path| uplinks.as_ref().is_some_and(|uplinks| uplinks.carries_path(path));
                let is_its_own = |path: &Path| port.map_or(place(path) == Some(number), |port| path.port == port);
                report.add(socket.send(outbox, &|path| is_its_own(path) && !is_an_uplinks(path)));
            }
        }
        if let Some(uplinks) = &mut uplinks {
            report.add(uplinks.send(outbox));
        }
        report
    }

    /// Of all sockets together.
    pub fn counters(&self) -> RecvCounters {
        self.places.iter().flatten().map(Socket::counters).fold(RecvCounters::default(), |sum, one| RecvCounters {
            truncated: sum.truncated + one.truncated,
            overflow_drops: sum.overflow_drops.wrapping_add(one.overflow_drops),
        })
    }

    /// What no queue had room for.
    pub fn losses(&self) -> Losses {
        let mut losses = Losses::default();
        for (place, socket) in self.places.iter().enumerate() {
            let Some(socket) = socket else { continue };
            let lost = u64::from(socket.counters().overflow_drops);
            match self.turns.is_control(place) {
                true => losses.control += lost,
                false => losses.data += lost,
            }
            if (INTERFACES.end..UPLINKS).contains(&place) {
                losses.lanes += 1;
                losses.lanes_overflown += usize::from(lost > 0);
            }
        }
        losses
    }

    /// What the gate let in, and what it did not. `None`: there is none.
    pub fn gate_counts(&self) -> Option<GateCounts> {
        let gate = self.gate.as_ref()?;
        let mut counts = GateCounts::default();
        for queue in queues() {
            let count = if queue < GATE_PORTS { &mut counts.control } else { &mut counts.data };
            count.admitted += gate.admitted(queue);
            count.shed += gate.shed(queue);
            counts.lanes_shed += usize::from(queue >= GATE_PORTS && gate.shed(queue) > 0);
        }
        Some(counts)
    }

    /// What went by uplinks, and what did not. `None`: they are not asked for.
    pub fn uplink_counts(&self) -> Option<UplinkCounts> {
        match &self.places[UPLINKS] {
            Some(Socket::Uplinks(uplinks)) => Some(uplinks.counts()),
            _ => None,
        }
    }

    /// Of all interfaces, in their order.
    pub fn drivers(&self) -> impl Iterator<Item = &dyn Driver> {
        self.places.iter().flatten().filter_map(|socket| match socket {
            Socket::Frames(driver) => Some(&**driver),
            Socket::Udp(_) | Socket::RawEsp(_) | Socket::Uplinks(_) => None,
        })
    }

    /// The address of a UDP port, with the number that the kernel chose where 0 was asked for.
    pub fn udp_address(&self, port: Port) -> Option<SocketAddr> {
        self.udp().find(|udp| udp.port() == port).map(UdpSocket::local_address)
    }

    /// Where raw ESP is received.
    pub fn raw_esp_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.places.iter().flatten().filter_map(|socket| match socket {
            Socket::RawEsp(raw) => Some(raw.address()),
            Socket::Udp(_) | Socket::Frames(_) | Socket::Uplinks(_) => None,
        })
    }

    /// Every UDP socket has it.
    pub fn has_receive_offload(&self) -> bool {
        self.udp().all(UdpSocket::has_receive_offload)
    }

    /// Every UDP socket has it (still).
    pub fn has_send_offload(&self) -> bool {
        self.udp().all(UdpSocket::has_send_offload)
    }

    /// The smallest of any UDP socket.
    pub fn receive_buffer_bytes(&self) -> usize {
        self.udp().map(UdpSocket::receive_buffer_bytes).min().unwrap_or(0)
    }

    fn udp(&self) -> impl Iterator<Item = &UdpSocket> {
        self.places.iter().flatten().filter_map(|socket| match socket {
            Socket::Udp(udp) => Some(udp),
            Socket::RawEsp(_) | Socket::Frames(_) | Socket::Uplinks(_) => None,
        })
    }
}

/// The socket of a port; where there are only lanes of it, one of them.
fn sender(places: &[Option<Socket>], path: &Path) -> Option<usize> {
    let carries = |place: &usize| places[*place].as_ref().is_some_and(|socket| socket.carries(path));
    let is_open = |lane: &usize| places[*lane].is_some();
    place(path).filter(carries).or_else(|| lanes_of(path.port).find(is_open))
}

#[cfg(test)]
mod overload_tests;
#[cfg(test)]
mod tests;
