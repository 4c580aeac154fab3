//! All sockets for outer datagrams, and all interfaces, together: one place to receive from, one to send an outbox to.
//!
//! ```text
//! Port::WireGuard   UDP         Port::IkeNatT   UDP (4500)
//! Port::Ike         UDP (500)   Port::RawEsp    IP protocol 50, one socket for each IP version
//! Port::Frames, Port::Tun       a driver for each interface
//! ```
//!
//! A datagram is stamped with the port that it came by ([`Path::port`]), and a run leaves by the socket of its path's
//! port. Receiving goes around: each call serves the next socket that has something, so that a flood on one port cannot
//! starve the others. Frames stay where the driver has them ([`Sockets::datagrams`]) until it is served again.
//!
//! Interfaces come and go while we run: one that is down has nothing, and one that is gone for good is closed here, when the
//! poller reports it, and told ([`Sockets::poll_gone`]); whoever follows the links opens it again and has it adopted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use super::frames::Driver;
use super::poller::{MAX_TOKENS, Poller, Ready};
use super::raw_esp::RawEspSocket;
use super::udp::{RecvBatch, RecvCounters, SendReport, UdpSocket};
use crate::net::{InterfaceId, MAX_INTERFACES, Path, PathReport, Port};
use crate::packet::{Datagram, Outbox};

/// WireGuard, two of IKE, ESP in both IP versions.
const DATAGRAM_LANES: usize = 5;
/// And one for each interface.
const LANES: usize = DATAGRAM_LANES + MAX_INTERFACES;
/// Every lane has a token of the poller, and a bit.
const _: () = assert!(LANES <= MAX_TOKENS);

/// Which socket a path belongs to: its place in [`Sockets`]. `None`: an interface that cannot be.
fn lane(path: &Path) -> Option<usize> {
    match path.port {
        Port::WireGuard => Some(0),
        Port::Ike => Some(1),
        Port::IkeNatT => Some(2),
        Port::RawEsp if path.remote.is_ipv4() => Some(3),
        Port::RawEsp => Some(4),
        Port::Frames(interface) | Port::Tun(interface) => lane_of(interface),
    }
}

fn lane_of(interface: InterfaceId) -> Option<usize> {
    Some(DATAGRAM_LANES + interface.index()).filter(|lane| *lane < LANES)
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    RawEsp(RawEspSocket),
    Frames(Box<dyn Driver>),
}

/// How much of its errors was read.
enum Heard {
    /// There may be more.
    Some,
    All,
    /// It is of no use any more.
    Gone,
}

impl Socket {
    fn lane(&self) -> Option<usize> {
        match self {
            Socket::Udp(udp) => lane(&Path::from_port(udp.port(), udp.local_address())),
            Socket::RawEsp(raw) => lane(&Path::from_port(Port::RawEsp, (raw.address(), 0).into())),
            Socket::Frames(driver) => lane(&driver.path()),
        }
    }

    fn receive(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        match self {
            Socket::Udp(udp) => udp.recv_batch(batch),
            Socket::RawEsp(raw) => raw.recv_batch(batch),
            Socket::Frames(driver) => driver.receive(),
        }
    }

    fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> Heard {
        let has_more = match self {
            Socket::Udp(udp) => udp.recv_errors(reports),
            Socket::RawEsp(raw) => raw.recv_errors(reports),
            Socket::Frames(driver) => match driver.is_open_after_error() {
                true => false,
                false => return Heard::Gone,
            },
        };
        if has_more { Heard::Some } else { Heard::All }
    }

    fn send(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        match self {
            Socket::Udp(udp) => udp.send_some(outbox, carries),
            Socket::RawEsp(raw) => raw.send_some(outbox, carries),
            Socket::Frames(driver) => driver.send_some(outbox, carries),
        }
    }

    /// An interface carries frames, or packets, and never both.
    fn carries(&self, path: &Path) -> bool {
        match self {
            Socket::Udp(_) | Socket::RawEsp(_) => true,
            Socket::Frames(driver) => driver.path().port == path.port,
        }
    }

    fn counters(&self) -> RecvCounters {
        match self {
            Socket::Udp(udp) => udp.counters(),
            Socket::RawEsp(raw) => raw.counters(),
            Socket::Frames(driver) => driver.counters(),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Udp(udp) => udp.as_fd(),
            Socket::RawEsp(raw) => raw.as_fd(),
            Socket::Frames(driver) => driver.fd(),
        }
    }
}

/// One socket, or none, for each port (of raw ESP, for each IP version too; of frames, for each interface).
#[derive(Debug)]
pub struct Sockets {
    lanes: [Option<Socket>; LANES],
    /// Bit n: socket n may have something to read.
    readable: u64,
    /// Bit n: its error queue may have.
    errors: u64,
    /// The socket whose turn it is.
    turn: usize,
    /// How many frames the last receive gave, and in which lane. `None`: what it gave is in the batch.
    frames: Option<(usize, usize)>,
    /// Lives as long as the sockets.
    owned: Arc<()>,
    /// Of those taken over, if somebody watches them.
    adopted: Vec<Arc<()>>,
    /// Closed here, and not told yet; at most one of each.
    gone: Vec<(InterfaceId, u32)>,
}

impl Default for Sockets {
    fn default() -> Self {
        Sockets {
            lanes: std::array::from_fn(|_| None),
            readable: 0,
            errors: 0,
            turn: 0,
            frames: None,
            owned: Arc::new(()),
            adopted: Vec::new(),
            gone: Vec::new(),
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
    /// Takes the place of one on the same port.
    pub fn add_udp(&mut self, udp: UdpSocket) {
        self.add(Socket::Udp(udp));
    }

    /// Takes the place of one of the same IP version.
    pub fn add_raw_esp(&mut self, raw: RawEspSocket) {
        self.add(Socket::RawEsp(raw));
    }

    /// Takes the place of one of the same interface.
    pub fn add_driver(&mut self, driver: Box<dyn Driver>) {
        self.add(Socket::Frames(driver));
    }

    fn add(&mut self, socket: Socket) {
        let lane = socket.lane().expect("fewer interfaces than MAX_INTERFACES");
        self.readable |= 1 << lane;
        self.close(lane);
        self.lanes[lane] = Some(socket);
    }

    fn close(&mut self, lane: usize) {
        self.frames = self.frames.filter(|(latest, _)| *latest != lane);
        self.lanes[lane] = None;
    }

    /// Has the poller report every socket, by tokens that [`Sockets::note_ready`] knows.
    pub fn register(&self, poller: &Poller) -> io::Result<()> {
        let lanes = (0..).zip(&self.lanes);
        lanes
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
        more.lanes.into_iter().flatten().for_each(|socket| self.add(socket));
        Ok(())
    }

    /// Closes the drivers of all other interfaces.
    pub fn retain_interfaces(&mut self, is_kept: impl Fn(InterfaceId) -> bool) {
        for lane in DATAGRAM_LANES..LANES {
            if !is_kept(InterfaceId((lane - DATAGRAM_LANES) as u8)) {
                self.close(lane);
            }
        }
    }

    /// What the poller has reported.
    pub fn note_ready(&mut self, ready: Ready) {
        for token in (0..LANES as u8).filter(|token| ready.is_readable(*token)) {
            self.readable |= 1 << token;
            self.errors |= u64::from(ready.has_errors(token)) << token;
        }
    }

    /// What paths were said to carry, from all sockets that the poller has reported: at most a batch of each. `true`: there
    /// may be more.
    pub fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> bool {
        if self.errors == 0 {
            return false;
        }
        let reported = self.errors;
        for lane in (0..LANES).filter(|lane| reported & (1 << lane) != 0) {
            match self.lanes[lane].as_mut().map_or(Heard::All, |socket| socket.recv_errors(reports)) {
                Heard::Some => continue,
                Heard::All => {}
                Heard::Gone => self.close_gone(lane),
            }
            self.errors &= !(1 << lane);
        }
        self.errors != 0
    }

    fn close_gone(&mut self, lane: usize) {
        if let Some(Socket::Frames(driver)) = &self.lanes[lane] {
            let interface = InterfaceId((lane - DATAGRAM_LANES) as u8);
            self.gone.retain(|(other, _)| *other != interface);
            self.gone.push((interface, driver.interface_index()));
        }
        self.close(lane);
    }

    /// An interface that [`Sockets::recv_errors`] has closed as it is gone, and the kernel's number of what was closed.
    pub fn poll_gone(&mut self) -> Option<(InterfaceId, u32)> {
        self.gone.pop()
    }

    /// Receives from the next socket that has something: the number of messages or frames, for [`Sockets::datagrams`]. 0:
    /// none has, until the poller reports one.
    pub fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.frames = None;
        while let Some(lane) = self.next_readable() {
            self.turn = (lane + 1) % LANES;
            let received = match &mut self.lanes[lane] {
                Some(socket) => socket.receive(batch)?,
                None => 0,
            };
            if received == 0 {
                self.readable &= !(1 << lane);
                continue;
            }
            self.frames = matches!(self.lanes[lane], Some(Socket::Frames(_))).then_some((lane, received));
            return Ok(received);
        }
        Ok(0)
    }

    /// From the one whose turn it is on.
    fn next_readable(&self) -> Option<usize> {
        let not_before = self.readable & (u64::MAX << self.turn);
        let next = if not_before != 0 { not_before } else { self.readable };
        (next != 0).then(|| next.trailing_zeros() as usize)
    }

    /// Everything that the last [`Sockets::recv_batch`] gave: out of the batch that it was called with, or where the driver has
    /// it.
    pub fn datagrams<'a>(&'a self, batch: &'a RecvBatch) -> impl Iterator<Item = Datagram<'a>> {
        let latest = self.frames.and_then(|(lane, count)| match &self.lanes[lane] {
            Some(Socket::Frames(driver)) => Some((driver, count)),
            _ => None,
        });
        let batch = if self.frames.is_none() { Some(batch) } else { None };
        let frames = latest.into_iter().flat_map(|(driver, count)| {
            let path = driver.path();
            (0..count).map(move |index| Datagram::new(path, driver.frame(index)))
        });
        batch.into_iter().flat_map(RecvBatch::datagrams).chain(frames)
    }

    /// Sends each run by the socket of its port. A run without one (its port is not configured) counts as refused.
    pub fn send(&mut self, outbox: &Outbox) -> SendReport {
        let mut report = SendReport::default();
        let mut wanted = 0u64;
        for run in outbox.runs() {
            let lane = lane(&run.path).filter(|lane| self.lanes[*lane].as_ref().is_some_and(|s| s.carries(&run.path)));
            match lane {
                Some(lane) => wanted |= 1 << lane,
                None => report.refuse(run.segments() as u64, run.data, io::ErrorKind::NotConnected.into()),
            }
        }
        while wanted != 0 {
            let number = wanted.trailing_zeros() as usize;
            wanted &= wanted - 1;
            if let Some(socket) = &mut self.lanes[number] {
                let port = match socket {
                    Socket::Frames(driver) => Some(driver.path().port),
                    _ => None,
                };
                let is_its_own = |path: &Path| port.map_or(lane(path) == Some(number), |port| path.port == port);
                report.add(socket.send(outbox, &is_its_own));
            }
        }
        report
    }

    /// Of all sockets together.
    pub fn counters(&self) -> RecvCounters {
        self.lanes.iter().flatten().map(Socket::counters).fold(RecvCounters::default(), |sum, one| RecvCounters {
            truncated: sum.truncated + one.truncated,
            overflow_drops: sum.overflow_drops.wrapping_add(one.overflow_drops),
        })
    }

    /// Of all interfaces, in their order.
    pub fn drivers(&self) -> impl Iterator<Item = &dyn Driver> {
        self.lanes.iter().flatten().filter_map(|socket| match socket {
            Socket::Frames(driver) => Some(&**driver),
            Socket::Udp(_) | Socket::RawEsp(_) => None,
        })
    }

    /// The address of a UDP port, with the number that the kernel chose where 0 was asked for.
    pub fn udp_address(&self, port: Port) -> Option<SocketAddr> {
        self.udp().find(|udp| udp.port() == port).map(UdpSocket::local_address)
    }

    /// Where raw ESP is received.
    pub fn raw_esp_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.lanes.iter().flatten().filter_map(|socket| match socket {
            Socket::RawEsp(raw) => Some(raw.address()),
            Socket::Udp(_) | Socket::Frames(_) => None,
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
        self.lanes.iter().flatten().filter_map(|socket| match socket {
            Socket::Udp(udp) => Some(udp),
            Socket::RawEsp(_) | Socket::Frames(_) => None,
        })
    }
}

#[cfg(test)]
mod tests;
