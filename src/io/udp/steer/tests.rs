//! Over the machine's own loopback. Nothing here sleeps: what was sent over loopback has arrived when `send` returns.

use std::net::SocketAddr;

use super::super::{BindError, Offload, RecvBatch, UdpSocket};
use super::*;
use crate::net::Path;
use crate::packet::Outbox;

/// The socket that everything leaves by, and the lanes. `None`: the test is not run, and says so.
fn open(port: Port, address: &str, offload: Offload) -> Option<Vec<UdpSocket>> {
    let (first, lanes) = UdpSocket::bind_lanes(port, address.parse().unwrap(), offload).unwrap();
    if lanes.is_empty() {
        eprintln!("NOT RUN: this kernel lets no program choose among sockets");
        return None;
    }
    assert_eq!(lanes.len(), LANES);
    Some(std::iter::once(first).chain(lanes).collect())
}

/// Which of the sockets have something: what, in how many messages.
fn heard(sockets: &mut [UdpSocket]) -> Vec<(usize, Vec<Vec<u8>>, usize)> {
    let mut batch = RecvBatch::new();
    let mut all = Vec::new();
    for (number, socket) in sockets.iter_mut().enumerate() {
        let (mut datagrams, mut messages) = (Vec::new(), 0);
        loop {
            match socket.recv_batch(&mut batch).unwrap() {
                0 => break,
                count => messages += count,
            }
            datagrams.extend(batch.datagrams().map(|datagram| datagram.bytes.to_vec()));
        }
        if messages > 0 {
            all.push((number, datagrams, messages));
        }
    }
    all
}

/// Where one datagram goes.
fn place_of(sockets: &mut [UdpSocket], sender: &std::net::UdpSocket, to: SocketAddr, datagram: &[u8]) -> usize {
    sender.send_to(datagram, to).unwrap();
    let heard = heard(sockets);
    assert_eq!(heard.len(), 1, "{datagram:?}");
    assert_eq!(heard[0].1, [datagram]);
    heard[0].0
}

fn sender(to: SocketAddr) -> std::net::UdpSocket {
    std::net::UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap()
}

/// Data for a receiver index.
fn data(index: u32, len: usize) -> Vec<u8> {
    let mut datagram = vec![4, 0, 0, 0];
    datagram.extend(index.to_le_bytes());
    datagram.resize(len, 7);
    datagram
}

/// Some numbers that are not in a row.
fn indices() -> impl Iterator<Item = u32> {
    (0..64u32).map(|number| number.wrapping_mul(0x0123_4567) ^ number << 3)
}

#[test]
fn handshakes_have_a_socket_of_their_own_and_data_goes_by_receiver_index() {
    for (address, called) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
    {
        let Some(mut sockets) = open(Port::WireGuard, address, Offload::Auto) else { return };
        let to = SocketAddr::new(called.parse().unwrap(), sockets[0].local_address().port());
        let sender = sender(to);
        for (kind, len) in [(1, 148), (2, 92), (3, 64)] {
            let mut message = vec![0xff; len];
            message[..4].copy_from_slice(&[kind, 0, 0, 0]);
            assert_eq!(place_of(&mut sockets, &sender, to, &message), 0, "message {kind}");
        }
        for index in indices() {
            let place = place_of(&mut sockets, &sender, to, &data(index, 60));
            assert_eq!(place, lane_of(index.to_le_bytes()));
        }
    }
}

#[test]
fn what_is_no_message_is_not_among_the_handshakes() {
    let Some(mut sockets) = open(Port::WireGuard, "127.0.0.1:0", Offload::Auto) else { return };
    let (to, sender) = (sockets[0].local_address(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    for junk in [&[][..], &[1], &[1, 0, 0, 0, 0, 0, 0], &[2; 7]] {
        assert_eq!(place_of(&mut sockets, &sender, to, junk), 1, "{junk:?}");
    }
    for kind in [0, 5, 0x40, 0xff] {
        assert_eq!(place_of(&mut sockets, &sender, to, &[kind; 40]), lane_of([kind; 4]));
    }
}

#[test]
fn ike_behind_its_marker_has_a_socket_of_its_own_and_esp_goes_by_spi() {
    let Some(mut sockets) = open(Port::IkeNatT, "127.0.0.1:0", Offload::Auto) else { return };
    let (to, sender) = (sockets[0].local_address(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let ike = [&[0; 4][..], &[0xab; 60]].concat();
    assert_eq!(place_of(&mut sockets, &sender, to, &ike), 0);
    assert_eq!(place_of(&mut sockets, &sender, to, &[0xff]), 1, "a keepalive");
    for spi in indices().filter(|spi| *spi != 0) {
        let esp = [&spi.to_be_bytes()[..], &[1; 60]].concat();
        assert_eq!(place_of(&mut sockets, &sender, to, &esp), lane_of(spi.to_be_bytes()));
    }
}

#[test]
fn what_the_kernel_has_joined_stays_together_in_the_lane_of_its_index() {
    let Some(mut sockets) = open(Port::WireGuard, "127.0.0.1:0", Offload::Auto) else { return };
    let mut sender = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let path = Path::to(sockets[0].local_address());
    let mut outbox = Outbox::new(1 << 20, 100);
    let [first, second] = [data(0x1111_1111, 1_000), data(0x2222_2222, 900)];
    for datagram in [&first, &second].into_iter().flat_map(|datagram| std::iter::repeat_n(datagram, 30)) {
        assert!(outbox.push(path, true, datagram));
    }
    assert_eq!(sender.send(&outbox).sent_datagrams, 60);
    let mut expected: Vec<_> = [first, second]
        .into_iter()
        .map(|datagram| (lane_of(datagram[4..8].try_into().unwrap()), vec![datagram; 30]))
        .collect();
    expected.sort();
    let heard = heard(&mut sockets);
    if sender.has_send_offload() && sockets[0].has_receive_offload() {
        // The second run begins with the first shorter one, which ends the first.
        assert!(heard.iter().map(|(_, _, messages)| messages).sum::<usize>() <= 3, "{heard:?}");
        let all: usize = heard.iter().map(|(_, datagrams, _)| datagrams.len()).sum();
        assert_eq!(all, 60);
        let ends_the_first_run = heard.iter().find(|(_, datagrams, _)| datagrams.len() == 31).expect("a run of 31");
        assert_eq!(ends_the_first_run.0, lane_of([0x11; 4]));
        assert_eq!(ends_the_first_run.1[30].len(), 900);
    } else {
        eprintln!("NOT TESTED: this kernel has no UDP offload");
        let heard: Vec<_> = heard.into_iter().map(|(lane, datagrams, _)| (lane, datagrams)).collect();
        assert_eq!(heard, expected);
    }
}

#[test]
fn without_offload_the_same() {
    let Some(mut sockets) = open(Port::WireGuard, "127.0.0.1:0", Offload::Off) else { return };
    let (to, sender) = (sockets[0].local_address(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(place_of(&mut sockets, &sender, to, &[2; 92]), 0);
    for index in indices() {
        assert_eq!(place_of(&mut sockets, &sender, to, &data(index, 60)), lane_of(index.to_le_bytes()));
    }
}

/// The lanes share an address; nobody else does.
#[test]
fn another_program_on_the_port_is_found_out_and_cannot_join() {
    let Some(sockets) = open(Port::WireGuard, "127.0.0.1:0", Offload::Auto) else { return };
    let address = sockets[0].local_address();
    let again = UdpSocket::bind_lanes(Port::WireGuard, address, Offload::Auto);
    assert!(matches!(again, Err(BindError::InUse(_))), "{again:?}");
    drop(sockets);
    let alone = std::net::UdpSocket::bind(address).unwrap();
    let again = UdpSocket::bind_lanes(Port::WireGuard, address, Offload::Auto);
    assert!(matches!(again, Err(BindError::InUse(_))), "{again:?}");
    drop(alone);
}

#[test]
fn indices_in_a_row_and_at_random_spread_over_all_lanes() {
    for words in [(0..1024).collect::<Vec<u32>>(), (0..1024).map(|number: u32| number.swap_bytes()).collect()] {
        let mut counts = [0; LANES + 1];
        words.iter().for_each(|word| counts[lane_of(word.to_be_bytes())] += 1);
        assert_eq!(counts[0], 0);
        assert!(counts[1..].iter().all(|count| (16..=64).contains(count)), "{counts:?}");
    }
}

#[test]
fn a_port_without_data_has_no_lanes() {
    let (_, lanes) = UdpSocket::bind_lanes(Port::Ike, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap();
    assert!(lanes.is_empty());
    assert!(program(Port::RawEsp).is_none());
}
