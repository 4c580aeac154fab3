//! Real packets, through veth pairs: ours is `ixa`, 10.0.0.1 and fd00::1; the other end 10.0.0.2 and fd00::2.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket as StdSocket;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::io::frames::testbed::{Testbed, There, sh, with_testbed};
use crate::io::sockets::{GateCount, GateCounts, Sockets};
use crate::io::udp::{Offload, RecvBatch, UdpSocket};
use crate::net::Port;

/// Of our WireGuard port, with a gate that is on no interface yet.
fn listen(gate: &Gate, address: &str) -> Sockets {
    let (first, lanes) = UdpSocket::bind_lanes(Port::WireGuard, address.parse().unwrap(), Offload::Auto).unwrap();
    assert_eq!(lanes.len(), steer::LANES);
    let mut sockets = Sockets::default();
    sockets.add_udp_with_lanes(first, lanes);
    sockets.set_gate(gate.accounts());
    sockets
}

fn with_gate(test: impl FnOnce(Testbed, Gate) + Send + 'static) {
    with_testbed(|bed| {
        sh("ip addr add 10.0.0.1/24 dev ixa; ip addr add fd00::1/64 dev ixa nodad");
        bed.there().sh("ip addr add 10.0.0.2/24 dev ixb; sysctl -qw net.ipv6.conf.ixb.disable_ipv6=0; ip addr add fd00::2/64 dev ixb nodad");
        match Gate::load() {
            Ok(gate) => test(bed, gate),
            Err(error) => eprintln!("NOT RUN: {error}"),
        }
    });
}

fn attach(gate: &Gate, name: &str) -> Link {
    gate.attach(crate::io::frames::interface::index(name).unwrap()).unwrap()
}

/// Sends them from the other end, one by one.
fn send(there: &There, to: &str, payloads: Vec<Vec<u8>>) {
    let to: SocketAddr = to.parse().unwrap();
    there.run(move || {
        let from: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = StdSocket::bind((from, 0)).unwrap();
        payloads.iter().for_each(|payload| _ = socket.send_to(payload, to).unwrap());
    });
}

/// Until it is clear that nothing more comes; some seconds.
const YIELDS: usize = 10_000_000;

/// When so many have been counted; the kernel may take its time.
fn counts(sockets: &Sockets, all: u64) -> GateCounts {
    let sum = |count: GateCount| count.admitted + count.shed;
    for _ in 0..YIELDS {
        let counts = sockets.gate_counts().unwrap();
        if sum(counts.control) + sum(counts.data) >= all {
            return counts;
        }
        std::thread::yield_now();
    }
    panic!("{all} do not come: {:?}", sockets.gate_counts());
}

fn read_all(sockets: &mut Sockets, datagrams: usize) -> usize {
    let mut poller = crate::io::poller::Poller::new().unwrap();
    sockets.register(&poller).unwrap();
    let (mut batch, mut read) = (RecvBatch::new(), 0);
    while read < datagrams {
        sockets.note_ready(poller.wait(Some(Duration::from_secs(10))).unwrap());
        let before = read;
        while sockets.recv_batch(&mut batch).unwrap() > 0 {
            read += sockets.datagrams(&batch).count();
        }
        assert!(read > before, "{read} of {datagrams}");
    }
    read
}

#[test]
fn a_flood_is_shed_beyond_its_credit_while_handshakes_and_other_lanes_come_through() {
    with_gate(|bed, gate| {
        let mut sockets = listen(&gate, "0.0.0.0:51820");
        let _link = attach(&gate, "ixa");
        let to = "10.0.0.1:51820";
        let flood = WINDOW + 1_000;
        for chunk in 0..flood / 200 + 1 {
            send(bed.there(), to, vec![data(1); 200.min(flood - chunk * 200) as usize]);
            counts(&sockets, (chunk + 1) * 200.min(flood - chunk * 200));
        }
        let GateCounts { control, data: flooded, lanes_shed } = counts(&sockets, flood);
        assert_eq!((control, lanes_shed), (GateCount::default(), 1));
        // By its shares, and in 10 ms one more.
        assert!((WINDOW..WINDOW + 500).contains(&flooded.admitted) && flooded.shed > 500, "{flooded:?}");
        send(bed.there(), to, vec![vec![1; 148], data(2), data(2)]);
        let after = counts(&sockets, flood + 3);
        assert_eq!(after.control, GateCount { admitted: 1, shed: 0 });
        assert_eq!((after.data.admitted, after.data.shed), (flooded.admitted + 2, flooded.shed));
        let admitted = after.data.admitted as usize + 1;
        assert_eq!(read_all(&mut sockets, admitted), admitted, "what is let in has room");
        send(bed.there(), to, vec![data(1); 100]);
        let again = counts(&sockets, flood + 103);
        assert_eq!((again.data.admitted, again.data.shed), (after.data.admitted + 100, after.data.shed));
    });
}

#[test]
fn joined_datagrams_count_as_what_they_were() {
    with_gate(|bed, gate| {
        let mut sockets = listen(&gate, "[::]:51820");
        let _link = attach(&gate, "ixa");
        bed.there().run(|| {
            let mut sender = UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap();
            assert!(sender.has_send_offload());
            let path = crate::net::Path::from_port(Port::WireGuard, "10.0.0.1:51820".parse().unwrap());
            let mut outbox = crate::packet::Outbox::new(1 << 16, 64);
            (0..20).for_each(|_| assert!(outbox.push(path, true, &data(7))));
            assert_eq!(sender.send(&outbox).sent_datagrams, 20);
        });
        assert_eq!(counts(&sockets, 20).data, GateCount { admitted: 20, shed: 0 });
        assert_eq!(read_all(&mut sockets, 20), 20);
    });
}

#[test]
fn by_a_card_and_the_bridge_on_it_a_packet_is_counted_once() {
    with_gate(|bed, gate| {
        sh(
            "ip addr flush dev ixa; ip link add br0 type bridge; ip link set ixa master br0; ip addr add 10.0.0.1/24 dev br0; ip link set br0 up",
        );
        let sockets = listen(&gate, "0.0.0.0:51820");
        let _links = [attach(&gate, "ixa"), attach(&gate, "br0")];
        // A bridge has its ports' address, so that either end may count it first.
        send(bed.there(), "10.0.0.1:51820", vec![data(1); 10]);
        assert_eq!(counts(&sockets, 10).data, GateCount { admitted: 10, shed: 0 });
        drop(_links);
        let _bridge = attach(&gate, "br0");
        send(bed.there(), "10.0.0.1:51820", vec![data(1); 10]);
        assert_eq!(counts(&sockets, 20).data, GateCount { admitted: 20, shed: 0 });
    });
}

/// `skb_vlan_push(0x8100, vlan)` on the way out: the tag is beside the frame, as it is behind most cards.
fn push_vlan(interface_index: u32, vlan: i32) -> OwnedFd {
    use crate::io::bpf::assembler::{Assembler, Do, R2, R3};
    let mut program = Assembler::default();
    program.with_value(Do::Set, R2, i32::from(0x8100_u16.to_be()));
    program.with_value(Do::Set, R3, vlan);
    program.call(18);
    program.answer(0);
    let program = bpf::load(Hook::TCX_EGRESS, NAME, &program.assemble(), None).unwrap();
    bpf::attach(program.as_fd(), Hook::TCX_EGRESS, interface_index, 0).unwrap()
}

#[test]
fn a_tagged_packet_is_its_vlans_and_one_with_a_priority_is_ours() {
    with_gate(|bed, gate| {
        let sockets = listen(&gate, "0.0.0.0:51820");
        let _link = attach(&gate, "ixa");
        // Its neighbour is asked for until it answers: then the link, which may just have come up, carries packets.
        send(bed.there(), "10.0.0.1:51820", vec![data(1)]);
        let mut all = 1;
        assert_eq!(counts(&sockets, all).data.admitted, all);
        // Nobody answers questions with a tag.
        let ours = crate::io::frames::interface::mac("ixa").unwrap().unwrap();
        bed.there().sh(&format!("ip neigh replace 10.0.0.1 lladdr {ours} dev ixb nud permanent"));
        for (vlan, counted) in [(7, 0), (0xe000, 10)] {
            let tag = bed.there().run(move || push_vlan(crate::io::frames::interface::index("ixb").unwrap(), vlan));
            send(bed.there(), "10.0.0.1:51820", vec![data(1); 10]);
            drop(tag);
            send(bed.there(), "10.0.0.1:51820", vec![data(1)]);
            all += counted + 1;
            assert_eq!(counts(&sockets, all).data.admitted, all, "{vlan:#x}");
        }
    });
}

#[test]
fn a_flood_under_anothers_address_closes_no_other_lane() {
    with_gate(|bed, gate| {
        let sockets = listen(&gate, "0.0.0.0:51820");
        let accounts = gate.accounts();
        let _link = attach(&gate, "ixa");
        // What a connected socket sends has a hash of its flow, as what a card or RPS has looked at.
        let [flooded, other] = [1, 2].map(|index| lane(WIREGUARD_LANES.start, index));
        exhaust(&accounts, flooded);
        let flood = vec![data(1); 200];
        let payloads = [flood, vec![vec![1; 148], vec![2; 92], vec![3; 64]], vec![data(2); 200]].concat();
        bed.there().run(move || {
            let socket = StdSocket::bind("10.0.0.2:4242").unwrap();
            socket.connect("10.0.0.1:51820").unwrap();
            payloads.iter().for_each(|payload| _ = socket.send(payload));
        });
        counts(&sockets, 403);
        assert_eq!((accounts.admitted(flooded), accounts.admitted(WIREGUARD)), (0, 3));
        assert_eq!((accounts.shed(flooded), accounts.admitted(other)), (200, 200));
    });
}

#[test]
fn ports_that_are_opened_later_are_the_gates_too() {
    with_gate(|bed, gate| {
        let mut sockets = listen(&gate, "0.0.0.0:51820");
        let _link = attach(&gate, "ixa");
        let mut more = Sockets::default();
        for (port, address) in [(Port::Ike, "0.0.0.0:500"), (Port::IkeNatT, "0.0.0.0:4500")] {
            let (udp, lanes) = UdpSocket::bind_lanes(port, address.parse().unwrap(), Offload::Auto).unwrap();
            more.add_udp_with_lanes(udp, lanes);
        }
        send(bed.there(), "10.0.0.1:500", vec![vec![1; 28]; 3]);
        sockets.adopt(more, &crate::io::poller::Poller::new().unwrap()).unwrap();
        send(bed.there(), "10.0.0.1:500", vec![vec![1; 28]; 2]);
        send(bed.there(), "10.0.0.1:4500", vec![vec![0; 32], vec![1; 32]]);
        let counts = counts(&sockets, 4);
        assert_eq!((counts.control.admitted, counts.data.admitted), (3, 1));
    });
}

/// A socket of another program, without credit for anything of ours.
#[test]
fn fragments_other_ports_and_what_is_sent_on_come_through_without_credit() {
    with_gate(|bed, gate| {
        let accounts = gate.accounts();
        let _sockets = listen(&gate, "0.0.0.0:51820");
        (0..memory::QUEUES).for_each(|queue| exhaust(&accounts, queue));
        let _link = attach(&gate, "ixa");
        let hear = |address: &str| {
            let socket = StdSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        };
        let mut buffer = vec![0; 65_536];
        let other = hear("0.0.0.0:51821");
        let other6 = hear("[fd00::1]:51820");
        send(bed.there(), "10.0.0.1:51821", vec![data(1)]);
        assert_eq!(other.recv(&mut buffer).unwrap(), 32);
        send(bed.there(), "[fd00::1]:51820", vec![data(1)]);
        assert_eq!(other6.recv(&mut buffer).unwrap(), 32, "the gate's port is one of IPv4");

        let beyond = There::behind("ixc");
        sh("ip addr add 10.9.9.1/24 dev ixc; sysctl -qw net.ipv4.ip_forward=1");
        beyond.sh("ip addr add 10.9.9.2/24 dev ixb; ip route add default via 10.9.9.1");
        bed.there().sh("ip route add default via 10.0.0.1");
        let far = beyond.run(move || hear("10.9.9.2:51820"));
        send(bed.there(), "10.9.9.2:51820", vec![data(1)]);
        assert_eq!(far.recv(&mut buffer).unwrap(), 32, "the kernel is its router");

        send(bed.there(), "10.0.0.1:51820", vec![data(1)]);
        assert_eq!(counts(&_sockets, 1).data.shed, 1, "and ours is shed");
    });
}

#[test]
fn with_the_process_goes_the_gate_however_it_ends() {
    with_testbed(|_bed| {
        if let Err(error) = Gate::load() {
            return eprintln!("NOT RUN: {error}");
        }
        let index = crate::io::frames::interface::index("ixa").unwrap();
        let attached = || bpf::count_attached(Hook::TCX_INGRESS, index).unwrap();
        assert_eq!(attached(), 0);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "io::gate::tests::veth::a_process_to_be_killed", "--nocapture"])
            .env(TO_BE_KILLED, "ixa")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map(Result::unwrap).any(|line| line.contains("it is on")));
        assert_eq!(attached(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(attached(), 0);
    });
}

const TO_BE_KILLED: &str = "IXGATE_TEST_GATE_ON";

/// The other process of the test above; else it does nothing.
#[test]
fn a_process_to_be_killed() {
    let Ok(name) = std::env::var(TO_BE_KILLED) else { return };
    let gate = Gate::load().unwrap();
    let _link = attach(&gate, &name);
    println!("it is on");
    let _ = std::io::stdin().read_line(&mut String::new());
}
