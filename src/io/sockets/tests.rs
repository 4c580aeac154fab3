//! Over the machine's own loopback. Nothing here sleeps: what was sent over loopback has arrived when `send` returns.

use std::time::Duration;

use super::*;
use crate::io::raw_esp::RawError;
use crate::io::udp::Offload;

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
