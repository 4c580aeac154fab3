//! Porters over loopback, with a core that sends everything back, and with the engine. Waits are bounded by read timeouts; nothing sleeps.

use std::net::UdpSocket as StdSocket;

use tokio::sync::oneshot;

use super::super::interfaces::States;
use super::super::worker::tests::Echo;
use super::super::worker::{self, Ending, Handle};
use super::*;
use crate::io::sockets::LANES;
use crate::io::udp::{Offload, UdpSocket};
use crate::sim::appliance::Appliance;
use crate::sim::far_end::FarEnd;
use crate::sim::packets::udp as udp_packet;
use crate::sim::peer::Peer;

struct Bench {
    handle: Handle<Echo>,
    ending: oneshot::Receiver<Ending>,
    client: StdSocket,
}

fn start(threads: usize) -> Bench {
    let address = "127.0.0.1:0".parse().unwrap();
    let (socket, lanes) = UdpSocket::bind_lanes(Port::WireGuard, address, Offload::Auto).unwrap();
    assert_eq!(lanes.len(), LANES);
    let client = StdSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut sockets = Sockets::default();
    sockets.add_udp_with_lanes(socket, lanes);
    let dealt = sockets.deal_lanes(threads - 1, lanes_of_worker(LANES, threads));
    assert_eq!(dealt.len(), threads - 1);
    let outside = tokio::sync::mpsc::channel(1).0;
    let (handle, ending) =
        worker::spawn(sockets, dealt, Echo::new(), Clock::start(), outside, States::default()).unwrap();
    Bench { handle, ending, client }
}

/// A data message of WireGuard, which belongs to nobody.
fn data(index: u32, number: u32) -> Vec<u8> {
    let words = [4, index, number, 0].map(u32::to_le_bytes);
    [words.as_flattened(), &[7; 64]].concat()
}

#[tokio::test]
async fn what_comes_by_any_lane_walks_and_is_counted_once() {
    let bench = start(3);
    let mut answer = [0; 200];
    for round in 0..4 {
        // No more at once than the client's own buffer holds.
        let all: Vec<_> = (0..100).map(|index: u32| data(index.wrapping_mul(0x9e37_79b9), round)).collect();
        all.iter().for_each(|datagram| assert_eq!(bench.client.send(datagram).unwrap(), datagram.len()));
        let mut heard: Vec<_> = all
            .iter()
            .map(|_| {
                let length = bench.client.recv(&mut answer).unwrap();
                answer[..length].to_vec()
            })
            .collect();
        let mut sent = all.clone();
        heard.sort();
        sent.sort();
        assert_eq!(heard, sent, "from the port that it was sent to, or the client would not hear it");
    }
    let handshake = [1u32.to_le_bytes().as_slice(), &[0; 144]].concat();
    bench.client.send(&handshake).unwrap();
    assert_eq!(bench.client.recv(&mut answer).unwrap(), 148);

    let report = bench.handle.report().await.unwrap();
    let porters = report.socket.porters;
    assert_eq!(report.path.totals.datagrams_in, 401);
    assert_eq!((porters.threads, porters.opened), (2, 0), "they have been lent nothing");
    assert!((200..400).contains(&porters.left), "{porters:?}: the worker has lanes of its own");
    assert_eq!(report.socket.lanes, LANES);
    bench.handle.shut_down().unwrap();
    assert!(matches!(bench.ending.await.unwrap(), Ending::Drained(_)));
}

#[tokio::test]
async fn one_that_has_nothing_to_do_sleeps_and_wakes_again() {
    let bench = start(2);
    let mut answer = [0; 200];
    for number in 0..200 {
        // Each comes alone, so that both threads are asleep as a rule.
        bench.client.send(&data(number, 0)).unwrap();
        assert_eq!(bench.client.recv(&mut answer).unwrap(), 80);
    }
    bench.handle.shut_down().unwrap();
    assert!(matches!(bench.ending.await.unwrap(), Ending::Drained(_)));
}

#[tokio::test]
async fn a_defect_of_the_walk_ends_the_porters_too() {
    let bench = start(3);
    bench.client.send(b"panic").unwrap();
    // The worker's thread has dropped its porters, and so has waited for them, before it tells.
    assert!(matches!(bench.ending.await.unwrap(), Ending::Panicked(words) if words == "told to"));
}

#[test]
fn a_porter_that_ends_by_itself_is_a_failure() {
    let poller = Poller::new().unwrap();
    let mut porters = Porters::spawn(Vec::new(), Clock::start(), poller.waker()).unwrap();
    porters.check().unwrap();
    let handle = thread::spawn(|| Err(io::Error::other("no more")));
    while !handle.is_finished() {
        thread::yield_now();
    }
    let (bell, counts) = (Bell::new(poller.waker()), Arc::default());
    let has_ended = Arc::new(AtomicBool::new(true));
    porters.threads.push(Thread { back: None, bell, counts, has_wireguard: true, has_ended, handle: Some(handle) });
    assert_eq!(porters.check().unwrap_err().to_string(), "no more");
}

#[test]
fn a_bell_wakes_who_is_asleep_and_nobody_else() {
    let mut poller = Poller::new().unwrap();
    let bell = Bell::new(poller.waker());
    bell.ring();
    assert!(!poller.wait(Some(Duration::ZERO)).unwrap().woken);
    bell.lie_down();
    bell.ring();
    bell.ring();
    assert!(poller.wait(None).unwrap().woken);
    bell.lie_down();
    bell.get_up();
    bell.ring();
    assert!(!poller.wait(Some(Duration::ZERO)).unwrap().woken);
}

#[test]
fn the_worker_keeps_as_many_lanes_as_it_has_time_for() {
    let kept = [1, 2, 3, 4, 8, 16, 32].map(|threads| lanes_of_worker(LANES, threads));
    assert_eq!(kept[0], LANES);
    assert!((13..=16).contains(&kept[1]), "{kept:?}");
    assert!(kept.is_sorted_by(|a, b| a >= b) && kept[6] == 1, "{kept:?}");
}

const FILE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["10.0.0.0/16"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["10.0.0.0/16"]
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;
const FLOWS: u16 = 4;
const BURST: usize = 50;

/// The real engine, and gateways whose packets are opened and sealed by porters.
#[tokio::test]
async fn packets_of_real_tunnels_cross_in_order_and_are_opened_by_porters() {
    let mut now = Timestamp::from_secs(1);
    let appliance = Appliance::build(FILE);
    let mut engine = appliance.engine(now);
    let [(mut a, socket_of_a), (mut b, socket_of_b)] = [("a", 201u8), ("b", 202)].map(|(name, number)| {
        let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, number.into());
        let mut site = FarEnd::wireguard(peer, [127, 0, 9, number].into());
        now = site.shake_hands(&mut engine, now);
        let socket = StdSocket::bind(site.path().remote).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (site, socket)
    });
    let (udp, lanes) = UdpSocket::bind_lanes(Port::WireGuard, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap();
    socket_of_a.connect(udp.local_address()).unwrap();
    let mut sockets = Sockets::default();
    sockets.add_udp_with_lanes(udp, lanes);
    // None is kept that can be given away: so nearly all come by porters.
    let dealt = sockets.deal_lanes(2, 1);
    let outside = tokio::sync::mpsc::channel(1).0;
    let (handle, ending) = worker::spawn(sockets, dealt, engine, Clock::start(), outside, States::default()).unwrap();

    let destination = (appliance.alias_of("b").into(), 443);
    let mut answer = [0; 2_000];
    let mut heard: Vec<Vec<u32>> = vec![Vec::new(); FLOWS.into()];
    for burst in 0..20 {
        for n in 0..BURST {
            let (flow, number) = (n as u16 % FLOWS, (burst * BURST + n) as u32);
            let packet = udp_packet(([10, 0, 0, 1].into(), 5_000 + flow), destination, &number.to_be_bytes());
            socket_of_a.send(&a.seal(&packet)).unwrap();
        }
        for _ in 0..BURST {
            let length = socket_of_b.recv(&mut answer).unwrap();
            let packet = b.open(b.path(), &answer[..length], now).expect("sealed for b");
            let flow = u16::from_be_bytes([packet[20], packet[21]]) - 5_000;
            heard[usize::from(flow)].push(u32::from_be_bytes(packet[28..32].try_into().unwrap()));
        }
    }
    assert!(heard.iter().all(|numbers| numbers.is_sorted()), "{heard:?}");
    assert_eq!(heard.iter().map(Vec::len).sum::<usize>(), 20 * BURST);
    let report = handle.report().await.unwrap();
    let porters = report.socket.porters;
    assert_eq!(report.path.totals.forwarded, (20 * BURST) as u64);
    // One lane of 32 is the worker's, and the tunnel may be there.
    assert!(porters.opened + porters.left == 0 || porters.opened > 10 * porters.left, "{porters:?}");
    handle.shut_down().unwrap();
    assert!(matches!(ending.await.unwrap(), Ending::Drained(_)));
}
