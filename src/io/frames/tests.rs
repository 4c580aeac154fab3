//! Drivers over veth pairs with the kernel at their other ends. Nothing sleeps: waits are for what comes, and bounded.

mod quiet;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use smoltcp::wire::{Ipv4Packet, UdpPacket};

use super::testbed::{Testbed, There, sh, with_testbed};
use super::*;
use crate::io::poller::Poller;
use crate::io::udp::UdpSocket as OffloadSocket;

const PORT: InterfaceId = InterfaceId(3);
const OTHER_PORT: InterfaceId = InterfaceId(4);
/// "Local experimental" (IEEE 802).
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const TIMEOUT: Duration = Duration::from_secs(10);

fn open_port() -> Box<dyn Driver> {
    open(PORT, "ixa", Choice::AfPacket).unwrap()
}

/// The next frames that are looked for, waited for at most ten seconds each time.
fn collect(driver: &mut dyn Driver, count: usize, is_it: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut poller = Poller::new().unwrap();
    poller.add(driver.fd(), 0).unwrap();
    let mut seen = Vec::new();
    while seen.len() < count {
        let received = driver.receive().unwrap();
        seen.extend((0..received).map(|index| driver.frame(index)).filter(|bytes| is_it(bytes)).map(<[u8]>::to_vec));
        if received == 0 {
            let ready = poller.wait(Some(TIMEOUT)).unwrap();
            assert!(ready.is_readable(0), "only {} of {count} have come", seen.len());
        }
    }
    seen
}

fn is_experiment(frame: &[u8]) -> bool {
    frame.windows(2).any(|two| two == EXPERIMENT)
}

/// To everybody.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..12].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&EXPERIMENT);
    frame
}

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

fn send_there(bed: &Testbed, frames: Vec<Vec<u8>>) {
    bed.there().run(move || send_by("ixb", &frames));
}

/// By a packet socket of the test's own.
fn send_by(name: &str, frames: &[Vec<u8>]) {
    let socket = sys::open_packet().unwrap();
    sys::bind_packet(socket.as_fd(), interface::index(name).unwrap(), 0).unwrap();
    frames.iter().for_each(|frame| sys::send(socket.as_fd(), &[frame]).unwrap());
}

fn outbox_of(path: Path, frames: &[Vec<u8>]) -> Outbox {
    let mut outbox = Outbox::new(4 << 20, 4096);
    frames.iter().for_each(|frame| assert!(outbox.push(path, true, frame)));
    outbox
}

#[test]
fn frames_come_as_they_were_sent_with_their_vlan_tags() {
    with_testbed(|bed| {
        let mut driver = open_port();
        let all = vec![
            frame(1, 60),
            tagged(&frame(2, 60), &[0x81, 0, 0x20, 100]),
            tagged(&frame(3, 60), &[0x88, 0xa8, 0, 7, 0x81, 0, 0x0f, 0xfe]),
            tagged(&frame(4, 1514), &[0x81, 0, 0, 1]),
        ];
        send_there(&bed, all.clone());
        assert_eq!(collect(&mut *driver, 4, is_experiment), all);
        assert_eq!(driver.counters(), RecvCounters::default());
    });
}

#[test]
fn frames_longer_than_a_slot_come_in_their_order() {
    with_testbed(|bed| {
        bed.there().sh("ip link set ixb mtu 9000");
        sh("ip link set ixa mtu 9000");
        let mut driver = open_port();
        let all = vec![frame(1, 60), frame(2, 9_014), frame(3, 1_900), tagged(&frame(4, 9_014), &[0x81, 0, 0, 9])];
        send_there(&bed, all.clone());
        assert_eq!(collect(&mut *driver, 4, is_experiment), all);
        assert_eq!(driver.counters().truncated, 0);
    });
}

#[test]
fn frames_go_out_as_they_are_and_do_not_come_back() {
    with_testbed(|bed| {
        let mut driver = open_port();
        let there = bed.there().run(|| open(PORT, "ixb", Choice::AfPacket).unwrap());
        let mut there = there;
        let all: Vec<_> = (0..100u8)
            .map(|number| match number % 3 {
                0 => frame(number, 60 + usize::from(number)),
                1 => tagged(&frame(number, 1_514), &[0x81, 0, 0, number]),
                _ => frame(number, 1_514),
            })
            .collect();
        let report = driver.send_some(&outbox_of(Path::frames(PORT), &all), &|_| true);
        assert_eq!((report.sent_datagrams, report.refused_datagrams), (100, 0));
        assert_eq!(collect(&mut *there, 100, is_experiment), all);
        assert_eq!(driver.receive().unwrap(), 0);
    });
}

#[test]
fn segments_with_vlan_tags_are_joined_and_arrive_as_they_were() {
    with_testbed(|bed| {
        let mut driver = open_port();
        let mut there = bed.there().run(|| open(PORT, "ixb", Choice::AfPacket).unwrap());
        for tags in [&[][..], &[0x81, 0, 0, 100], &[0x88, 0xa8, 0, 7, 0x81, 0, 0x0f, 0xfe]] {
            let header = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..], tags, &[0x86, 0xdd]].concat();
            let segments = transmit::tests::segments(7, 40).into_iter();
            let all: Vec<_> = segments.map(|packet| [&header[..], &packet].concat()).collect();
            let (sent, received) = (driver.joined().1, there.joined().0);
            let report = driver.send_some(&outbox_of(Path::frames(PORT), &all), &|_| true);
            assert_eq!((report.sent_datagrams, driver.joined().1 - sent), (40, 1));
            assert_eq!(collect(&mut *there, 40, |frame| frame.starts_with(&header)), all);
            // With one tag the frame stays joined through a veth pair; the kernel cuts those with two.
            assert!(there.joined().0 - received <= 1);
        }
        assert!(there.joined().0 > 0);
    });
}

#[test]
fn frames_that_find_no_room_are_counted_and_the_others_come() {
    with_testbed(|bed| {
        let mut driver = open_port();
        let count = super::af_packet::SLOTS + 100;
        send_there(&bed, (0..count).map(|number| frame(number as u8, 60)).collect());
        assert_eq!(driver.counters(), RecvCounters { truncated: 0, overflow_drops: 100 });
        assert_eq!(driver.counters().overflow_drops, 100, "counted once");
        collect(&mut *driver, super::af_packet::SLOTS, is_experiment);
        send_there(&bed, vec![frame(7, 70)]);
        assert_eq!(collect(&mut *driver, 1, is_experiment), [frame(7, 70)]);
    });
}

#[test]
fn an_interface_that_goes_down_or_away_is_no_error_and_one_that_comes_back_goes_on() {
    with_testbed(|bed| {
        let mut driver = open_port();
        let mut poller = Poller::new().unwrap();
        poller.add(driver.fd(), 0).unwrap();
        sh("ip link set ixa down");
        assert!(poller.wait(Some(TIMEOUT)).unwrap().has_errors(0));
        assert!(driver.is_open_after_error());
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), Default::default(), "the error was read");
        let outbox = outbox_of(Path::frames(PORT), &[frame(1, 60), frame(2, 70)]);
        let report = driver.send_some(&outbox, &|_| true);
        assert_eq!((report.refused_datagrams, report.unsent_data_datagrams, report.congested_datagrams), (2, 2, 0));
        assert_eq!(driver.receive().unwrap(), 0);

        sh("ip link set ixa up");
        // The kernel tells the other end of its carrier a little later.
        while !bed.there().sh("ip -br link show ixb").contains(" UP ") {}
        send_there(&bed, vec![frame(3, 60)]);
        assert_eq!(collect(&mut *driver, 1, is_experiment), [frame(3, 60)]);

        sh("ip link del ixa");
        assert!(poller.wait(Some(TIMEOUT)).unwrap().has_errors(0));
        assert_eq!(driver.receive().unwrap(), 0);
        assert_eq!(driver.send_some(&outbox, &|_| true).refused_datagrams, 2);
        assert!(!driver.is_open_after_error(), "gone for good");
    });
}

/// The other end takes the place of a card that would let in no groups of which it was not told.
#[test]
fn the_interface_lets_in_what_is_sent_to_groups_while_we_have_it() {
    with_testbed(|_| {
        let asked = || sh("ip -d link show ixa").contains("allmulti 1");
        assert!(!asked());
        let port = open_port();
        assert!(asked());
        drop(port);
        assert!(!asked());
    });
}

#[test]
fn opening_fails_with_words() {
    with_testbed(|_bed| {
        let words = |name| open(PORT, name, Choice::AfPacket).unwrap_err().to_string();
        assert!(words("ixnone").contains("ixa, lo"), "{}", words("ixnone"));
        assert!(words("lo").contains("Ethernet"), "{}", words("lo"));
        let tun = |name| open_tun(PORT, name, 1400).unwrap_err().to_string();
        assert!(tun("ixa").contains("no TUN"), "{}", tun("ixa"));
        let _first = open_tun(PORT, "ixtun", 1400).unwrap();
        assert!(tun("ixtun").contains("another program"), "{}", tun("ixtun"));
    });
}

/// Carries everything between two drivers until somebody says that it is done: the longest frame.
fn forward(a: &mut dyn Driver, b: &mut dyn Driver, is_done: impl Fn() -> bool) -> usize {
    let mut poller = Poller::new().unwrap();
    poller.add(a.fd(), 0).unwrap();
    poller.add(b.fd(), 1).unwrap();
    let (mut outbox, mut longest) = (Outbox::new(1 << 20, 256), 0);
    while !is_done() {
        let mut is_idle = true;
        for way in 0..2 {
            let (from, to): (&mut dyn Driver, &mut dyn Driver) = if way == 0 { (a, b) } else { (b, a) };
            let received = from.receive().unwrap();
            is_idle &= received == 0;
            for index in 0..received {
                longest = longest.max(from.frame(index).len());
                assert!(outbox.push(to.path(), true, from.frame(index)));
            }
            let report = to.send_some(&outbox, &|_| true);
            assert_eq!(report.refused_datagrams, 0, "{:?}", report.first_error);
            outbox.clear();
        }
        if is_idle {
            poller.wait(Some(Duration::from_millis(10))).unwrap();
        }
    }
    longest
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

const TRANSFER_BYTES: usize = 4 << 20;

/// By the kernel's TCP, checked byte by byte.
fn transfer(client: &There, server: &There, to: &'static str) -> impl Fn() -> bool + use<> {
    let address: SocketAddr = to.parse().unwrap();
    let listener = server.run(move || TcpListener::bind(address).unwrap());
    let receiver = thread::spawn(move || {
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        assert!(received == pattern(TRANSFER_BYTES), "as it was sent");
    });
    // It connects in the client's namespace, and sends from a thread of its own there.
    let _ = client.start_job(move || {
        TcpStream::connect(address).unwrap().write_all(&pattern(TRANSFER_BYTES)).unwrap();
    });
    move || receiver.is_finished()
}

#[test]
fn a_bulk_transfer_between_two_kernels_goes_joined_through_us_both_ways() {
    with_testbed(|bed| {
        let client = bed.there();
        let server = There::behind("ixc");
        for (end, v4, v6) in [(client, "172.20.0.1/24", "fd00::1/64"), (&server, "172.20.0.2/24", "fd00::2/64")] {
            end.sh(&format!("ip addr add {v4} dev ixb; ip addr add {v6} dev ixb nodad"));
        }
        for address in ["172.20.0.2:5001", "[fd00::2]:5002"] {
            let (mut a, mut b) = (open_port(), open(OTHER_PORT, "ixc", Choice::AfPacket).unwrap());
            let is_done = transfer(client, &server, address);
            let longest = forward(&mut *a, &mut *b, is_done);
            assert!(longest <= 1_514, "{longest}");
            let segments = TRANSFER_BYTES as u64 / 1_448;
            let ((received, _), (_, sent)) = (a.joined(), b.joined());
            assert!(received > 0 && received < segments / 4, "{received} joined frames came");
            assert!(sent > 0 && sent < segments / 4, "{sent} joined frames were sent");
            assert_eq!((a.counters().truncated, b.counters().truncated), (0, 0));
        }
    });
}

#[test]
fn a_bulk_transfer_goes_joined_through_tun_devices() {
    with_testbed(|bed| {
        let here = There::behind("ixc");
        let mut a = bed.there().run(|| open_tun(PORT, "ixtun", 1_400).unwrap());
        let mut b = here.run(|| open_tun(OTHER_PORT, "ixtun", 1_400).unwrap());
        bed.there()
            .sh("ip addr add 172.20.0.1 peer 172.20.0.2 dev ixtun; ip addr add fd00::1 peer fd00::2 dev ixtun nodad");
        here.sh("ip addr add 172.20.0.2 peer 172.20.0.1 dev ixtun; ip addr add fd00::2 peer fd00::1 dev ixtun nodad");
        assert!(bed.there().sh("ip link show ixtun").contains("mtu 1400"));
        for address in ["172.20.0.2:5001", "[fd00::2]:5002"] {
            let before = (a.joined().0, b.joined().1);
            let is_done = transfer(bed.there(), &here, address);
            let longest = forward(&mut *a, &mut *b, is_done);
            assert!(longest <= 1_400, "{longest}");
            let segments = TRANSFER_BYTES as u64 / 1_348;
            let (received, sent) = (a.joined().0 - before.0, b.joined().1 - before.1);
            assert!(received > 0 && received < segments / 4, "{received} joined packets came");
            assert!(sent > 0 && sent < segments / 4, "{sent} joined packets were sent");
        }
        bed.there().sh("ip link del ixtun");
        let mut poller = Poller::new().unwrap();
        poller.add(a.fd(), 0).unwrap();
        assert!(poller.wait(Some(TIMEOUT)).unwrap().has_errors(0));
        assert_eq!(a.receive().unwrap(), 0);
        assert!(!a.is_open_after_error(), "gone for good");
        assert!(b.is_open_after_error());
    });
}

#[test]
fn joined_datagrams_and_partial_checksums_come_whole_and_valid() {
    with_testbed(|bed| {
        let mut driver = open_port();
        bed.there().sh("ip addr add 172.20.0.1/24 dev ixb; ip neigh add 172.20.0.9 lladdr 02:00:00:00:00:09 dev ixb");
        bed.there().run(|| {
            let mut socket = OffloadSocket::bind("172.20.0.1:0".parse().unwrap()).unwrap();
            let datagrams: Vec<_> =
                (0..21u8).map(|number| vec![number; if number < 20 { 1_000 } else { 300 }]).collect();
            let mut outbox = outbox_of(Path::to("172.20.0.9:9".parse().unwrap()), &datagrams);
            assert!(outbox.push(Path::to("172.20.0.9:9".parse().unwrap()), true, &[21; 500]));
            assert_eq!(socket.send(&outbox).sent_datagrams, 22);
        });
        let frames = collect(&mut *driver, 22, |frame| frame[12..14] == [8, 0] && frame[14 + 9] == 17);
        for (number, frame) in frames.iter().enumerate() {
            let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
            let udp = UdpPacket::new_checked(ip.payload()).unwrap();
            assert!(ip.verify_checksum() && udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
            assert_eq!((udp.payload()[0], frame.len()), (number as u8, 42 + udp.payload().len()));
        }
        assert!(driver.joined().0 > 0);
    });
}

#[test]
fn packets_of_a_tun_device_come_and_go_whole() {
    with_testbed(|_bed| {
        let mut tun = open_tun(PORT, "ixtun", 1_400).unwrap();
        assert_eq!((tun.path(), tun.kind().as_str()), (Path::tun(PORT), "TUN, offload"));
        sh("ip addr add 172.20.0.1 peer 172.20.0.2 dev ixtun");
        let socket = UdpSocket::bind("172.20.0.1:7").unwrap();
        socket.send_to(b"hello", "172.20.0.2:7").unwrap();
        let mut packet = collect(&mut *tun, 1, |packet| packet[0] == 0x45 && packet[9] == 17).remove(0);
        let ip = Ipv4Packet::new_checked(&packet).unwrap();
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(ip.verify_checksum() && udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        // With the addresses exchanged, all checksums hold as they are.
        let (source, destination) = ([172, 20, 0, 2], [172, 20, 0, 1]);
        packet[12..20].copy_from_slice(&[source, destination].concat());
        assert_eq!(tun.send_some(&outbox_of(tun.path(), &[packet]), &|_| true).sent_datagrams, 1);
        let mut answer = [0; 10];
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        assert_eq!(socket.recv_from(&mut answer).unwrap(), (5, "172.20.0.2:7".parse().unwrap()));
    });
}
