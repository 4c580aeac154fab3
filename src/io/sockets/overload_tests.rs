//! Ports with lanes, flooded, over the machine's own loopback. Nothing here sleeps.

use std::collections::BTreeMap;

use super::*;
use crate::io::udp::{Offload, steer};

/// A flood of this many datagrams is more than a lane has room for.
const FLOOD: usize = 40_000;

/// `None`: the test is not run, and says so.
fn open(ports: &[Port]) -> Option<Sockets> {
    let mut sockets = Sockets::default();
    for port in ports {
        let (udp, lanes) = UdpSocket::bind_lanes(*port, "127.0.0.1:0".parse().unwrap(), Offload::Off).unwrap();
        if lanes.is_empty() && *port != Port::Ike {
            eprintln!("NOT RUN: this kernel lets no program choose among sockets");
            return None;
        }
        sockets.add_udp_with_lanes(udp, lanes);
    }
    Some(sockets)
}

/// A message of data for a receiver index. It ends with its number.
fn data(index: u32, number: u32) -> Vec<u8> {
    [&[4, 0, 0, 0][..], &index.to_le_bytes(), &[0; 20], &number.to_be_bytes()].concat()
}

/// Two indices whose packets wait in different lanes.
fn two_indices() -> [u32; 2] {
    let lane = |index: u32| steer::lane_of(index.to_le_bytes());
    [1, (2..).find(|index| lane(*index) != lane(1)).unwrap()]
}

fn sender(sockets: &Sockets, port: Port) -> std::net::UdpSocket {
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(sockets.udp_address(port).unwrap()).unwrap();
    sender
}

/// What is there, batch by batch.
fn batches(sockets: &mut Sockets) -> Vec<Vec<Vec<u8>>> {
    let (mut batch, mut all) = (RecvBatch::new(), Vec::new());
    while sockets.recv_batch(&mut batch).unwrap() > 0 {
        assert!(sockets.work() > 0);
        all.push(sockets.datagrams(&batch).map(|datagram| datagram.bytes.to_vec()).collect());
    }
    all
}

#[test]
fn a_tunnel_that_floods_loses_its_own_and_no_other_loses_any_or_waits() {
    let Some(mut sockets) = open(&[Port::WireGuard]) else { return };
    let [flooding, quiet] = two_indices();
    let [flooder, other] = [(); 2].map(|()| sender(&sockets, Port::WireGuard));
    for number in 0..FLOOD as u32 {
        flooder.send(&data(flooding, number)).unwrap();
        // In the midst of it, handshakes too, from the address of the flood.
        if number % 1_000 == 0 {
            other.send(&data(quiet, number)).unwrap();
            flooder.send(&[&[1, 0, 0, 0][..], &[7; 144]].concat()).unwrap();
        }
    }
    let batches = batches(&mut sockets);
    let of_quiet = |datagram: &&Vec<u8>| datagram[..8] == data(quiet, 0)[..8];
    let quiet_ones: Vec<_> = batches.iter().flatten().filter(of_quiet).cloned().collect();
    let expected: Vec<_> = (0..FLOOD as u32).step_by(1_000).map(|number| data(quiet, number)).collect();
    assert_eq!(quiet_ones, expected, "all of them, in order");
    assert!(batches[0].iter().all(|datagram| datagram[0] == 1), "handshakes first");
    let handshakes = |batches: &[Vec<Vec<u8>>]| batches.iter().flatten().filter(|datagram| datagram[0] == 1).count();
    assert_eq!((handshakes(&batches[..6]), handshakes(&batches)), (FLOOD / 1_000, FLOOD / 1_000));
    let is_quiet = |batch: &Vec<Vec<u8>>| batch.iter().any(|datagram| of_quiet(&datagram));
    assert!(batches.iter().rposition(is_quiet).unwrap() < 8, "in turns with the flood");
    let flooded = batches.iter().flatten().filter(|datagram| datagram[..8] == data(flooding, 0)[..8]).count();
    assert!(flooded < FLOOD, "there was no flood");

    // The kernel tells with the next datagram that it takes.
    flooder.send(&data(flooding, 0)).unwrap();
    sockets.readable = (1 << PLACES) - 1;
    assert_eq!(self::batches(&mut sockets).concat().len(), 1);
    let lost = (FLOOD - flooded) as u64;
    let expected = Losses { control: 0, data: lost, lanes: steer::LANES, lanes_overflown: 1 };
    assert_eq!(sockets.losses(), expected);
}

#[test]
fn a_flood_of_handshakes_leaves_most_of_the_work_to_data_and_loses_none_of_it() {
    let Some(mut sockets) = open(&[Port::WireGuard, Port::Ike, Port::IkeNatT]) else { return };
    let (flooder, other) = (sender(&sockets, Port::WireGuard), sender(&sockets, Port::IkeNatT));
    for number in 0..FLOOD as u32 {
        flooder.send(&[1; 148]).unwrap();
        if number % 100 == 0 {
            other.send(&[&[0x77; 4][..], &[1; 60]].concat()).unwrap();
        }
    }
    let batches = batches(&mut sockets);
    let data = batches.iter().flatten().filter(|datagram| datagram[0] == 0x77).count();
    assert_eq!(data, FLOOD / 100);
    let last = batches.iter().rposition(|batch| batch.iter().any(|datagram| datagram[0] == 0x77)).unwrap();
    let made_up: usize = batches[..last].iter().flatten().filter(|datagram| datagram[0] == 1).count();
    assert!(made_up < data, "{made_up} made-up handshakes were read before {data} of data");
    assert!(batches.len() > last + 10, "there was no flood");
}

#[test]
fn whoever_sends_much_at_a_time_is_read_as_much_as_whoever_sends_little() {
    let Some(mut sockets) = open(&[Port::WireGuard]) else { return };
    let [long, short] = two_indices();
    let sender = sender(&sockets, Port::WireGuard);
    for number in 0..2_000 {
        sender.send(&[data(long, number), vec![0; 20_000]].concat()).unwrap();
        sender.send(&data(short, number)).unwrap();
    }
    let (mut batch, mut work) = (RecvBatch::new(), BTreeMap::new());
    let mut readings = 0;
    while work.len() < 2 || readings < 20 {
        assert!(sockets.recv_batch(&mut batch).unwrap() > 0);
        let first = sockets.datagrams(&batch).next().unwrap().bytes[4..8].to_vec();
        assert!(readings < 2 || sockets.work() < 2 * BATCH_WORK, "a batch is bounded: {}", sockets.work());
        *work.entry(first).or_insert(0) += sockets.work();
        readings += 1;
    }
    let [least, most] = [work.values().min().unwrap(), work.values().max().unwrap()];
    assert!(most - least <= 3 * BATCH_WORK, "{work:?}");
}

#[test]
fn what_was_read_whole_is_not_read_again_until_the_poller_says_so() {
    let Some(mut sockets) = open(&[Port::WireGuard]) else { return };
    let sender = sender(&sockets, Port::WireGuard);
    batches(&mut sockets);
    assert!(!sockets.has_more());
    let mut poller = Poller::new().unwrap();
    sockets.register(&poller).unwrap();
    for number in 0..MAX_MESSAGES as u32 {
        sender.send(&data(1, number)).unwrap();
    }
    sockets.note_ready(poller.wait(None).unwrap());
    let mut batch = RecvBatch::new();
    assert_eq!(sockets.recv_batch(&mut batch).unwrap(), MAX_MESSAGES);
    assert!(sockets.has_more(), "a full batch may not be all");
    sender.send(&data(1, 0)).unwrap();
    assert_eq!(sockets.recv_batch(&mut batch).unwrap(), 1);
    assert!(!sockets.has_more(), "without another call");
    assert_eq!(sockets.recv_batch(&mut batch).unwrap(), 0);
}

#[test]
fn lanes_go_with_the_port_that_takes_their_place() {
    let Some(mut sockets) = open(&[Port::WireGuard]) else { return };
    let before = sender(&sockets, Port::WireGuard);
    let (mut more, poller) = (Sockets::default(), Poller::new().unwrap());
    more.add_udp(UdpSocket::bind_with("127.0.0.1:0".parse().unwrap(), Offload::Off).unwrap());
    sockets.adopt(more, &poller).unwrap();
    assert_eq!(sockets.losses().lanes, 0);
    // A later send is told, as soon as the kernel has dealt with an earlier one.
    let is_refused = (0..100_000).any(|number| before.send(&data(1, number)).is_err());
    assert!(is_refused, "nobody listens there any more");
    sender(&sockets, Port::WireGuard).send(&data(1, 9)).unwrap();
    sockets.readable = (1 << PLACES) - 1;
    assert_eq!(batches(&mut sockets), [[data(1, 9)]]);
}
