//! All sockets for outer datagrams together: one place to receive from, one to send an outbox to.
//!
//! ```text
//! Port::WireGuard   UDP         Port::IkeNatT   UDP (4500)
//! Port::Ike         UDP (500)   Port::RawEsp    IP protocol 50, one socket for each IP version
//! ```
//!
//! A datagram is stamped with the port that it came by ([`Path::port`]), and a run leaves by the socket of its path's
//! port. Receiving goes around: each call serves the next socket that has something, so that a flood on one port cannot
//! starve the others.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};

use super::poller::{Poller, Ready};
use super::raw_esp::RawEspSocket;
use super::udp::{RecvBatch, RecvCounters, SendReport, UdpSocket};
use crate::net::{Path, PathReport, Port};
use crate::packet::Outbox;

/// WireGuard, two of IKE, ESP in both IP versions.
const LANES: usize = 5;

/// Which socket a path belongs to: its place in [`Sockets`].
fn lane(path: &Path) -> usize {
    match path.port {
        Port::WireGuard => 0,
        Port::Ike => 1,
        Port::IkeNatT => 2,
        Port::RawEsp if path.remote.is_ipv4() => 3,
        Port::RawEsp => 4,
        Port::Frames(_) | Port::Tun(_) => todo!("ports"),
    }
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    RawEsp(RawEspSocket),
}

impl Socket {
    fn lane(&self) -> usize {
        match self {
            Socket::Udp(udp) => lane(&Path::from_port(udp.port(), udp.local_address())),
            Socket::RawEsp(raw) => lane(&Path::from_port(Port::RawEsp, (raw.address(), 0).into())),
        }
    }

    fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        match self {
            Socket::Udp(udp) => udp.recv_batch(batch),
            Socket::RawEsp(raw) => raw.recv_batch(batch),
        }
    }

    fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> bool {
        match self {
            Socket::Udp(udp) => udp.recv_errors(reports),
            Socket::RawEsp(raw) => raw.recv_errors(reports),
        }
    }

    fn send(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        match self {
            Socket::Udp(udp) => udp.send_some(outbox, carries),
            Socket::RawEsp(raw) => raw.send_some(outbox, carries),
        }
    }

    fn counters(&self) -> RecvCounters {
        match self {
            Socket::Udp(udp) => udp.counters(),
            Socket::RawEsp(raw) => raw.counters(),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Udp(udp) => udp.as_fd(),
            Socket::RawEsp(raw) => raw.as_fd(),
        }
    }
}

/// One socket, or none, for each port (and, of raw ESP, IP version).
#[derive(Debug, Default)]
pub struct Sockets {
    lanes: [Option<Socket>; LANES],
    /// Bit n: socket n may have something to read.
    readable: u8,
    /// Bit n: its error queue may have.
    errors: u8,
    /// The socket whose turn it is.
    turn: usize,
    /// Lives as long as the sockets.
    owned: Arc<()>,
    /// Of those taken over, if somebody watches them.
    adopted: Vec<Arc<()>>,
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

    fn add(&mut self, socket: Socket) {
        let lane = socket.lane();
        self.readable |= 1 << lane;
        self.lanes[lane] = Some(socket);
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

    /// Takes over all of `more`, and has the poller report them too. On an error they are closed.
    pub fn adopt(&mut self, more: Sockets, poller: &Poller) -> io::Result<()> {
        more.register(poller)?;
        if Arc::weak_count(&more.owned) > 0 {
            self.adopted.push(more.owned.clone());
        }
        more.lanes.into_iter().flatten().for_each(|socket| self.add(socket));
        Ok(())
    }

    /// What the poller has reported.
    pub fn note_ready(&mut self, ready: Ready) {
        for token in (0..LANES as u8).filter(|token| ready.is_readable(*token)) {
            self.readable |= 1 << token;
            self.errors |= u8::from(ready.has_errors(token)) << token;
        }
    }

    /// What paths were said to carry, from all sockets that the poller has reported: at most a batch of each. `true`: there
    /// may be more.
    pub fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> bool {
        for lane in 0..LANES {
            let socket = self.lanes[lane].as_mut().filter(|_| self.errors & (1 << lane) != 0);
            if !socket.is_some_and(|socket| socket.recv_errors(reports)) {
                self.errors &= !(1 << lane);
            }
        }
        self.errors != 0
    }

    /// Receives from the next socket that has something: the number of messages. 0: none has, until the poller reports
    /// one.
    pub fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        for _ in 0..LANES {
            let lane = self.turn;
            self.turn = (self.turn + 1) % LANES;
            let Some(socket) = self.lanes[lane].as_mut().filter(|_| self.readable & (1 << lane) != 0) else { continue };
            match socket.recv_batch(batch)? {
                0 => self.readable &= !(1 << lane),
                received => return Ok(received),
            }
        }
        Ok(0)
    }

    /// Sends each run by the socket of its port. A run without one (its port is not configured) counts as refused.
    pub fn send(&mut self, outbox: &Outbox) -> SendReport {
        let mut report = SendReport::default();
        let mut wanted = [false; LANES];
        for run in outbox.runs() {
            let lane = lane(&run.path);
            wanted[lane] = true;
            if self.lanes[lane].is_none() {
                report.refuse(run.segments() as u64, run.data, io::ErrorKind::NotConnected.into());
            }
        }
        for (number, socket) in self.lanes.iter_mut().enumerate().filter(|(number, _)| wanted[*number]) {
            if let Some(socket) = socket {
                report.add(socket.send(outbox, &|path| lane(path) == number));
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

    /// The address of a UDP port, with the number that the kernel chose where 0 was asked for.
    pub fn udp_address(&self, port: Port) -> Option<SocketAddr> {
        self.udp().find(|udp| udp.port() == port).map(UdpSocket::local_address)
    }

    /// Where raw ESP is received.
    pub fn raw_esp_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.lanes.iter().flatten().filter_map(|socket| match socket {
            Socket::RawEsp(raw) => Some(raw.address()),
            Socket::Udp(_) => None,
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
            Socket::RawEsp(_) => None,
        })
    }
}

/// Over the machine's own loopback. Nothing here sleeps: what was sent over loopback has arrived when `send` returns.
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::raw_esp::RawError;
    use super::super::udp::Offload;
    use super::*;

    fn udp(port: Port) -> UdpSocket {
        UdpSocket::bind_for(port, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap()
    }

    fn three_ports() -> Sockets {
        let mut sockets = Sockets::default();
        [Port::WireGuard, Port::Ike, Port::IkeNatT].into_iter().for_each(|port| sockets.add_udp(udp(port)));
        sockets
    }

    fn receive_all(sockets: &mut Sockets) -> Vec<(Path, Vec<u8>)> {
        let (mut batch, mut all) = (RecvBatch::new(), Vec::new());
        while sockets.recv_batch(&mut batch).unwrap() > 0 {
            all.extend(batch.datagrams().map(|datagram| (datagram.path, datagram.bytes.to_vec())));
        }
        all
    }

    fn to(sockets: &Sockets, by: Port, port: Port) -> Path {
        Path::from_port(by, sockets.udp_address(port).unwrap())
    }

    #[test]
    fn each_run_leaves_by_the_port_of_its_path_and_arrives_with_the_port_that_it_came_to() {
        let (mut a, mut b) = (three_ports(), three_ports());
        let mut outbox = Outbox::new(100_000, 100);
        for (by, port, byte) in [
            (Port::Ike, Port::Ike, 1),
            (Port::WireGuard, Port::WireGuard, 2),
            (Port::IkeNatT, Port::IkeNatT, 3),
            (Port::IkeNatT, Port::Ike, 4),
            (Port::Ike, Port::Ike, 5),
        ] {
            assert!(outbox.push(to(&b, by, port), true, &[byte; 100]));
        }
        let report = a.send(&outbox);
        assert_eq!((report.sent_datagrams, report.refused_datagrams), (5, 0));
        let mut seen: Vec<_> = receive_all(&mut b).into_iter().map(|(path, bytes)| (bytes[0], path)).collect();
        seen.sort_by_key(|(byte, _)| *byte);
        let expected = [(Port::Ike, Port::Ike), (Port::WireGuard, Port::WireGuard), (Port::IkeNatT, Port::IkeNatT)]
            .into_iter()
            .chain([(Port::Ike, Port::IkeNatT), (Port::Ike, Port::Ike)])
            .map(|(came_to, sent_by)| to(&a, came_to, sent_by));
        assert_eq!(seen, (1..).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn a_flood_on_one_port_does_not_keep_the_others_waiting() {
        let (mut a, mut b) = (three_ports(), three_ports());
        let mut outbox = Outbox::new(1 << 20, 1000);
        // Different lengths: the kernel joins none of them.
        for len in 1..200 {
            assert!(outbox.push(to(&b, Port::WireGuard, Port::WireGuard), true, &vec![0; len]));
        }
        assert!(outbox.push(to(&b, Port::Ike, Port::Ike), true, &[1]));
        assert!(outbox.push(to(&b, Port::IkeNatT, Port::IkeNatT), true, &[2]));
        assert_eq!(a.send(&outbox).sent_datagrams, 201);
        let mut batch = RecvBatch::new();
        let mut first = Vec::new();
        for _ in 0..3 {
            assert!(b.recv_batch(&mut batch).unwrap() > 0);
            first.extend(batch.datagrams().map(|datagram| datagram.path.port));
        }
        assert!(first.contains(&Port::Ike) && first.contains(&Port::IkeNatT), "{first:?}");
        receive_all(&mut b);
    }

    #[test]
    fn what_has_been_read_is_looked_at_again_when_the_poller_says_so() {
        let (mut a, mut b) = (three_ports(), three_ports());
        let mut poller = Poller::new().unwrap();
        b.register(&poller).unwrap();
        assert!(receive_all(&mut b).is_empty());
        let mut outbox = Outbox::new(1000, 10);
        assert!(outbox.push(to(&b, Port::IkeNatT, Port::IkeNatT), false, &[7; 10]));
        a.send(&outbox);
        assert!(receive_all(&mut b).is_empty(), "nobody has said that there is something");
        let ready = poller.wait(Some(Duration::from_secs(10))).unwrap();
        b.note_ready(ready);
        assert_eq!(receive_all(&mut b).len(), 1);
    }

    #[test]
    fn a_run_for_a_port_that_is_not_there_counts_as_refused() {
        let mut sockets = Sockets::default();
        sockets.add_udp(udp(Port::WireGuard));
        let nowhere = Path::from_port(Port::Ike, "127.0.0.1:9".parse().unwrap());
        let mut outbox = Outbox::new(1000, 10);
        for data in [true, true, false] {
            assert!(outbox.push(nowhere, data, &[7; 10]));
        }
        assert!(outbox.push(Path { port: Port::WireGuard, ..nowhere }, true, &[7; 10]));
        let report = sockets.send(&outbox);
        assert_eq!((report.sent_datagrams, report.refused_datagrams, report.unsent_data_datagrams), (1, 3, 2));
        assert_eq!(report.first_error.unwrap().kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn raw_esp_and_udp_go_their_own_ways() {
        let (mut a, mut b) = (three_ports(), three_ports());
        for (sockets, address) in [(&mut a, "127.0.51.1"), (&mut b, "127.0.51.2")] {
            match RawEspSocket::bind(address.parse().unwrap()) {
                Ok(raw) => sockets.add_raw_esp(raw),
                Err(error @ RawError::NotPermitted(_)) => return eprintln!("NOT RUN: {error}"),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(b.raw_esp_addresses().collect::<Vec<_>>(), ["127.0.51.2".parse::<IpAddr>().unwrap()]);
        let mut outbox = Outbox::new(1000, 10);
        let raw = |address: &str| Path::from_port(Port::RawEsp, SocketAddr::new(address.parse().unwrap(), 0));
        assert!(outbox.push(raw("127.0.51.2"), true, b"ESP raw"));
        assert!(outbox.push(to(&b, Port::IkeNatT, Port::IkeNatT), true, b"ESP udp"));
        assert!(outbox.push(raw("::1"), true, b"ESP six"));
        let report = a.send(&outbox);
        assert_eq!((report.sent_datagrams, report.refused_datagrams), (2, 1), "no socket for ESP over IPv6");
        let seen = receive_all(&mut b);
        assert!(seen.contains(&(raw("127.0.51.1"), b"ESP raw".to_vec())), "{seen:?}");
        assert!(seen.contains(&(to(&a, Port::IkeNatT, Port::IkeNatT), b"ESP udp".to_vec())), "{seen:?}");
    }
}
