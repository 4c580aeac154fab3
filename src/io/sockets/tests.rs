//! Over the machine's own loopback. Nothing here sleeps: what was sent over loopback has arrived when `send` returns.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::io::raw_esp::RawError;
use crate::io::udp::Offload;
use crate::net::MAX_INTERFACES;

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
        all.extend(sockets.datagrams(&batch).map(|datagram| (datagram.path, datagram.bytes.to_vec())));
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
        first.extend(b.datagrams(&batch).map(|datagram| datagram.path.port));
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

/// An interface: frames that a test gives it, readable as long as it has some.
#[derive(Debug)]
struct Fake {
    path: Path,
    /// Something to wait for.
    wire: UdpSocket,
    waiting: Arc<Mutex<Vec<Vec<u8>>>>,
    given: Vec<Vec<u8>>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    is_gone: Arc<AtomicBool>,
    _lives: Arc<()>,
}

/// The test's hold on it.
#[derive(Clone, Debug, Default)]
struct Hold {
    waiting: Arc<Mutex<Vec<Vec<u8>>>>,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    is_gone: Arc<AtomicBool>,
    lives: Arc<()>,
}

impl Hold {
    fn driver(&self, path: Path) -> Box<dyn Driver> {
        let Hold { waiting, sent, is_gone, lives } = self.clone();
        Box::new(Fake { path, wire: udp(Port::WireGuard), waiting, given: Vec::new(), sent, is_gone, _lives: lives })
    }

    fn give(&self, frames: &[&[u8]]) {
        self.waiting.lock().unwrap().extend(frames.iter().map(|frame| frame.to_vec()));
    }

    fn is_open(&self) -> bool {
        Arc::strong_count(&self.lives) > 1
    }
}

impl Driver for Fake {
    fn kind(&self) -> String {
        "fake".to_owned()
    }

    fn path(&self) -> Path {
        self.path
    }

    fn interface_index(&self) -> u32 {
        1
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    /// Two at a time.
    fn receive(&mut self) -> io::Result<usize> {
        let mut waiting = self.waiting.lock().unwrap();
        let count = waiting.len().min(2);
        self.given = waiting.drain(..count).collect();
        Ok(count)
    }

    fn frame(&self, index: usize) -> &[u8] {
        &self.given[index]
    }

    fn send_some(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        let own = outbox.datagrams().filter(|(path, _, _)| carries(path)).map(|(_, _, bytes)| bytes.to_vec());
        let own: Vec<_> = own.collect();
        let report = SendReport { sent_datagrams: own.len() as u64, ..SendReport::default() };
        self.sent.lock().unwrap().extend(own);
        report
    }

    fn counters(&self) -> RecvCounters {
        RecvCounters { truncated: 1, overflow_drops: 2 }
    }

    fn is_open_after_error(&mut self) -> bool {
        !self.is_gone.load(Ordering::Relaxed)
    }
}

fn frames(number: u8) -> Path {
    Path::frames(InterfaceId(number))
}

const LAST: u8 = MAX_INTERFACES as u8 - 1;

#[test]
fn frames_come_with_the_interface_that_they_came_by_and_leave_by_that_of_their_path() {
    let (mut sockets, holds) = (three_ports(), [Hold::default(), Hold::default(), Hold::default()]);
    let paths = [frames(0), frames(LAST), Path::tun(InterfaceId(7))];
    holds.iter().zip(paths).for_each(|(hold, path)| sockets.add_driver(hold.driver(path)));
    holds.iter().zip([b"a", b"b", b"c"]).for_each(|(hold, bytes)| hold.give(&[bytes]));
    let mut seen = receive_all(&mut sockets);
    seen.sort_by_key(|(_, bytes)| bytes[0]);
    let expected = paths.into_iter().zip([b"a", b"b", b"c"]).map(|(path, bytes)| (path, bytes.to_vec()));
    assert_eq!(seen, expected.collect::<Vec<_>>());

    let mut outbox = Outbox::new(1000, 20);
    for path in [paths[2], paths[0], paths[1], frames(7), Path::tun(InterfaceId(0)), frames(5), frames(200)] {
        assert!(outbox.push(path, true, &[path_byte(&path); 3]));
    }
    let report = sockets.send(&outbox);
    assert_eq!((report.sent_datagrams, report.refused_datagrams, report.unsent_data_datagrams), (3, 4, 4));
    let sent = holds.each_ref().map(|hold| hold.sent.lock().unwrap().clone());
    assert_eq!(sent, paths.map(|path| vec![vec![path_byte(&path); 3]]));
    assert_eq!(sockets.counters(), RecvCounters { truncated: 3, overflow_drops: 6 });
    assert_eq!(sockets.drivers().map(Driver::path).collect::<Vec<_>>(), [paths[0], paths[2], paths[1]]);
}

fn path_byte(path: &Path) -> u8 {
    match path.port {
        Port::Frames(interface) => interface.0,
        Port::Tun(interface) => 100 + interface.0,
        _ => 255,
    }
}

#[test]
fn every_interface_has_its_turn() {
    let mut sockets = Sockets::default();
    let holds: Vec<_> = (0..=LAST).map(|_| Hold::default()).collect();
    for (number, hold) in (0..).zip(&holds) {
        sockets.add_driver(hold.driver(frames(number)));
        hold.give(&[&[number][..]; 5]);
    }
    let mut batch = RecvBatch::new();
    for round in [2, 2, 1] {
        for number in 0..=LAST {
            assert_eq!(sockets.recv_batch(&mut batch).unwrap(), round);
            assert!(sockets.datagrams(&batch).all(|datagram| datagram.path == frames(number)));
        }
    }
    assert_eq!(sockets.recv_batch(&mut batch).unwrap(), 0);
    assert_eq!(sockets.datagrams(&batch).count(), 0);
}

#[test]
fn a_flooded_interface_does_not_keep_the_sockets_waiting() {
    let (mut a, mut b, hold) = (three_ports(), three_ports(), Hold::default());
    b.add_driver(hold.driver(frames(3)));
    hold.give(&[&[9][..]; 1000]);
    let mut outbox = Outbox::new(1000, 10);
    assert!(outbox.push(to(&b, Port::Ike, Port::Ike), true, &[1]));
    a.send(&outbox);
    let mut batch = RecvBatch::new();
    let mut first = Vec::new();
    for _ in 0..2 {
        b.recv_batch(&mut batch).unwrap();
        first.extend(b.datagrams(&batch).map(|datagram| datagram.bytes.to_vec()));
    }
    assert!(first.contains(&vec![1]), "{first:?}");
}

#[test]
fn a_driver_takes_the_place_of_another_and_those_no_longer_used_are_closed() {
    let (old, new, other, poller) = (Hold::default(), Hold::default(), Hold::default(), Poller::new().unwrap());
    let mut sockets = three_ports();
    sockets.add_driver(old.driver(frames(1)));
    sockets.add_driver(other.driver(frames(2)));
    sockets.register(&poller).unwrap();
    old.give(&[b"old"]);
    let mut batch = RecvBatch::new();
    assert_eq!(sockets.recv_batch(&mut batch).unwrap(), 1);
    let mut more = Sockets::default();
    more.add_driver(new.driver(Path::tun(InterfaceId(1))));
    sockets.adopt(more, &poller).unwrap();
    assert!(!old.is_open() && new.is_open());
    assert_eq!(sockets.datagrams(&batch).count(), 0, "they were the old one's");
    new.give(&[b"new"]);
    assert_eq!(receive_all(&mut sockets), [(Path::tun(InterfaceId(1)), b"new".to_vec())]);
    sockets.retain_interfaces(|interface| interface == InterfaceId(2));
    assert!(!new.is_open() && other.is_open());
    assert!(sockets.udp_address(Port::Ike).is_some());
}

#[test]
fn an_interface_that_is_gone_for_good_is_closed_when_the_poller_says_so() {
    let (gone, stays) = (Hold::default(), Hold::default());
    let mut sockets = Sockets::default();
    for (number, hold) in [(1, &gone), (2, &stays)] {
        sockets.add_driver(hold.driver(frames(number)));
    }
    let mut reports = Vec::new();
    sockets.errors = 1 << place(&frames(1)).unwrap() | 1 << place(&frames(2)).unwrap();
    gone.is_gone.store(true, Ordering::Relaxed);
    assert!(!sockets.recv_errors(&mut reports));
    assert!(!gone.is_open() && stays.is_open() && reports.is_empty());
    assert_eq!((sockets.poll_gone(), sockets.poll_gone()), (Some((InterfaceId(1), 1)), None));
    assert_eq!(sockets.errors, 0);
    stays.give(&[b"still"]);
    assert_eq!(receive_all(&mut sockets).len(), 1);
}
