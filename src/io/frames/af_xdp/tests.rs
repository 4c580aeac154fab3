//! With a real kernel: veth pairs in a network namespace of each test's own, where this is permitted.

mod fallback;
mod pair;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use self::pair::{Tap, has_program, is_readable, with_pair};
use super::*;
use crate::io::frames::testbed::{sh, try_sh};

const INTERFACE: InterfaceId = InterfaceId(3);
/// Longer than anything here takes.
const PATIENCE_MS: u64 = 3000;

/// Of a type that nobody else uses, to everybody.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = [&[0xff; 6], [2, 0, 0, 0, 0, 9].as_slice(), &[0x88, 0xb5]].concat();
    frame.extend(number.to_be_bytes());
    frame.extend((0..).map(|at| at as u8).take(len - frame.len()));
    frame
}

fn opened(name: &str) -> AfXdp {
    open(INTERFACE, name).unwrap_or_else(|error| panic!("{error}"))
}

/// All that comes until `count` frames of ours are there.
fn receive(driver: &mut AfXdp, count: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while frames.len() < count && is_readable(driver.fd(), PATIENCE_MS) {
        let received = driver.receive().unwrap();
        let all = (0..received).map(|index| driver.frame(index).to_vec());
        frames.extend(all.filter(|frame| frame[12..14] == [0x88, 0xb5]));
    }
    frames
}

fn send(driver: &mut AfXdp, frames: &[Vec<u8>]) -> SendReport {
    let mut outbox = Outbox::new(frames.iter().map(Vec::len).sum(), frames.len());
    assert!(frames.iter().all(|frame| outbox.push(Path::frames(INTERFACE), true, frame)));
    driver.send_some(&outbox, &|path| *path == Path::frames(INTERFACE))
}

fn pass_both_ways(driver: &mut AfXdp, tap: &Tap, numbers: std::ops::Range<u32>) {
    let frames: Vec<_> = numbers.map(|number| frame(number, 60 + number as usize * 97 % 1455)).collect();
    for frame in &frames {
        tap.send(frame);
    }
    assert!(receive(driver, frames.len()) == frames, "what the other end has sent");
    let report = send(driver, &frames);
    assert_eq!((report.sent_datagrams, report.unsent_data_datagrams), (frames.len() as u64, 0), "{report:?}");
    let seen: Vec<_> = frames.iter().map_while(|_| tap.recv(PATIENCE_MS)).collect();
    assert!(seen == frames, "what we have sent");
}

#[test]
fn frames_pass_both_ways_unchanged_and_in_order() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        assert_eq!(driver.kind(), "AF_XDP native, copy");
        assert_eq!(driver.receive().unwrap(), 0);
        for round in 0..20 {
            pass_both_ways(&mut driver, &tap, round * 200..round * 200 + 200);
        }
        assert_eq!(driver.counters(), RecvCounters::default());
    });
}

#[test]
fn runs_of_other_paths_and_frames_of_impossible_length_are_not_sent() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        let mut outbox = Outbox::new(20_000, 10);
        assert!(outbox.push(Path::frames(InterfaceId(4)), true, &frame(1, 60)));
        assert!(outbox.push(Path::frames(INTERFACE), true, &frame(2, 2049)));
        assert!(outbox.push(Path::frames(INTERFACE), false, &[1; 13]));
        assert!(outbox.push(Path::frames(INTERFACE), true, &frame(3, 60)));
        let report = driver.send_some(&outbox, &|path| *path == Path::frames(INTERFACE));
        assert_eq!((report.sent_datagrams, report.refused_datagrams, report.unsent_data_datagrams), (1, 2, 1));
        assert_eq!(tap.recv(PATIENCE_MS), Some(frame(3, 60)));
        assert_eq!(tap.recv(0), None);
    });
}

#[test]
fn several_queues_are_one_interface() {
    with_pair(4, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        assert_eq!(driver.kind(), "AF_XDP native, copy, 4 queues");
        // The kernel chooses the queue by a hash over addresses.
        let frames: Vec<_> = (0..400).map(|number| udp_frame(number as u16, b"payload")).collect();
        for frame in &frames {
            tap.send(frame);
        }
        let (mut seen, mut queues) = (Vec::new(), std::collections::BTreeSet::new());
        while seen.len() < frames.len() && is_readable(driver.fd(), PATIENCE_MS) {
            let received = driver.receive().unwrap();
            assert!(received > 0, "readable, so there was something");
            seen.extend((0..received).map(|index| driver.frame(index).to_vec()));
            queues.extend(driver.batch.iter().map(|(queue, _)| *queue));
        }
        assert_eq!(seen.iter().collect::<std::collections::BTreeSet<_>>(), frames.iter().collect());
        assert!(queues.len() > 1, "{queues:?}");
    });
}

/// Broadcast, with a right checksum, from 10.9.9.2 port `source`.
fn udp_frame(source: u16, payload: &[u8]) -> Vec<u8> {
    use smoltcp::wire::{Ipv4Address, UdpPacket};
    let ends = [Ipv4Address::new(10, 9, 9, 2), Ipv4Address::new(10, 9, 9, 1)];
    let mut segment = vec![0; 8 + payload.len()];
    let mut udp = UdpPacket::new_unchecked(&mut segment);
    udp.set_src_port(source);
    udp.set_dst_port(7);
    udp.set_len(8 + payload.len() as u16);
    udp.payload_mut().copy_from_slice(payload);
    udp.fill_checksum(&ends[0].into(), &ends[1].into());
    let mut frame = [&[0xff; 6], [2, 0, 0, 0, 0, 9].as_slice(), &[8, 0, 0x45, 0]].concat();
    frame.extend((20 + segment.len() as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(ends.iter().flat_map(|address| address.octets()));
    frame.extend(segment);
    frame
}

#[test]
fn an_interface_without_native_xdp_is_taken_in_generic_mode() {
    with_pair(1, || {
        if try_sh("ip link add xc type bridge").is_err() {
            return eprintln!("NOT RUN: this kernel has no bridges");
        }
        sh("ip link set xa master xc");
        sh("ip link set xc up");
        let (mut driver, tap) = (opened("xc"), Tap::open("xb"));
        assert_eq!(driver.kind(), "AF_XDP generic");
        pass_both_ways(&mut driver, &tap, 0..50);
    });
}

/// 10.9.9.1 is an address of `xa`; asked from `xb`.
fn kernel_answers_arp(tap: &Tap) -> bool {
    let mut request = [&[0xff; 6], [2, 0, 0, 0, 0, 9].as_slice(), &[8, 6]].concat();
    request.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 9, 9, 2, 0, 0, 0, 0, 0, 0, 10, 9, 9, 1]);
    tap.send(&request);
    // What was answered, was answered within `send`: veth delivers on the spot.
    std::iter::from_fn(|| tap.recv(200)).any(|frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2])
}

#[test]
fn the_kernel_answers_no_arp_while_frames_are_ours_and_does_again_afterwards() {
    with_pair(1, || {
        sh("ip address add 10.9.9.1/24 dev xa");
        let tap = Tap::open("xb");
        assert!(kernel_answers_arp(&tap), "at first");
        let mut driver = opened("xa");
        assert!(has_program("xa"));
        assert!(!kernel_answers_arp(&tap));
        assert_eq!(driver.receive().unwrap(), 1, "the question came to us");
        drop(driver);
        assert!(!has_program("xa"));
        assert!(kernel_answers_arp(&tap), "in the end");
    });
}

#[test]
fn what_no_socket_takes_goes_the_kernels_way() {
    with_pair(1, || {
        sh("ip address add 10.9.9.1/24 dev xa");
        let (tap, nic) = (Tap::open("xb"), Nic::open("xa", interface::index("xa").unwrap()).unwrap());
        let program = Program::load(&SocketMap::new(program::NAME, 1).unwrap(), Tags::InFrames).unwrap();
        let _link = Link::attach(&program, nic.index, Mode::Native).unwrap();
        assert!(has_program("xa"));
        assert!(kernel_answers_arp(&tap));
    });
}

#[test]
fn the_interface_hears_everything_while_it_is_open() {
    with_pair(1, || {
        let is_promiscuous = || sh("ip -d link show dev xa").contains("promiscuity 1");
        let driver = opened("xa");
        assert!(is_promiscuous());
        drop(driver);
        assert!(!is_promiscuous());
    });
}

#[test]
fn more_frames_than_there_are_chunks_go_out_in_one_call() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        let frames: Vec<_> = (0..4000).map(|number| frame(number, 100)).collect();
        let report = send(&mut driver, &frames);
        assert_eq!((report.sent_datagrams, report.congested_datagrams), (4000, 0), "{report:?}");
        let seen: Vec<_> = frames.iter().map_while(|_| tap.recv(PATIENCE_MS)).collect();
        assert!(seen == frames);
    });
}

#[test]
fn checksums_that_the_other_ends_kernel_left_undone_are_completed() {
    with_pair(1, || {
        sh("ip address add 10.9.9.2/24 dev xb");
        sh("ip neighbour add 10.9.9.1 lladdr 02:00:00:00:00:01 dev xb");
        let mut driver = opened("xa");
        let socket = UdpSocket::bind("10.9.9.2:0").unwrap();
        socket.send_to(b"payload", "10.9.9.1:7").unwrap();
        let mut seen = Vec::new();
        while seen.is_empty() && is_readable(driver.fd(), PATIENCE_MS) {
            let received = driver.receive().unwrap();
            seen.extend(
                (0..received).map(|index| driver.frame(index).to_vec()).filter(|frame| frame[12..14] == [8, 0]),
            );
        }
        let port = socket.local_addr().unwrap().port();
        assert_eq!(seen[0][34..], udp_frame(port, b"payload")[34..], "checksum as computed by smoltcp");
    });
}

#[test]
fn while_the_link_is_down_nothing_comes_or_goes_and_afterwards_all_does() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        for round in 0..3 {
            pass_both_ways(&mut driver, &tap, round * 100..round * 100 + 100);
            sh("ip link set xa down");
            assert_eq!(driver.receive().unwrap(), 0);
            for _ in 0..2 {
                let report = send(&mut driver, &[frame(900, 60), frame(901, 60)]);
                assert_eq!((report.sent_datagrams, report.refused_datagrams, report.unsent_data_datagrams), (0, 2, 2));
                assert!(report.first_error.is_some());
            }
            sh("ip link set xa up");
            // At most what waited in the ring goes out now.
            driver.receive().unwrap();
            let stale = std::iter::from_fn(|| tap.recv(100)).filter(|frame| frame[12..14] == [0x88, 0xb5]).count();
            assert_eq!(stale, 2);
        }
        pass_both_ways(&mut driver, &tap, 0..100);
    });
}

#[test]
fn an_interface_that_is_removed_has_nothing() {
    with_pair(1, || {
        let mut driver = opened("xa");
        assert!(driver.is_open_after_error());
        sh("ip link del xa");
        assert!(!driver.is_open_after_error());
        assert_eq!(driver.receive().unwrap(), 0);
        let report = send(&mut driver, &[frame(1, 60)]);
        assert_eq!((report.sent_datagrams, report.refused_datagrams), (0, 1), "{report:?}");
        assert_eq!(driver.receive().unwrap(), 0);
        driver.counters();
    });
}

#[test]
fn more_than_the_rings_hold_is_dropped_and_counted_and_nothing_is_lost_for_good() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        for _ in 0..3 {
            let before = driver.counters().overflow_drops;
            for number in 0..3000 {
                let _ = tap.try_send(&frame(number, 60));
            }
            let seen = receive(&mut driver, 2048).len();
            assert!((2048 - BATCH..=2048).contains(&seen), "{seen}");
            assert_eq!(driver.counters().overflow_drops - before, 3000 - seen as u32);
            assert_eq!(driver.receive().unwrap(), 0);
        }
        pass_both_ways(&mut driver, &tap, 0..500);
    });
}

#[test]
fn dropped_with_frames_in_flight_it_can_be_opened_again_at_once() {
    with_pair(1, || {
        let tap = Tap::open("xb");
        for _ in 0..30 {
            let mut driver = opened("xa");
            for number in 0..100 {
                tap.send(&frame(number, 600));
            }
            driver.receive().unwrap();
            send(&mut driver, &(0..1500).map(|number| frame(number, 600)).collect::<Vec<_>>());
            drop(driver);
            assert!(!has_program("xa"));
        }
        while tap.recv(50).is_some() {}
        pass_both_ways(&mut opened("xa"), &tap, 0..10);
    });
}

#[test]
fn an_interface_is_taken_once() {
    with_pair(1, || {
        let _first = opened("xa");
        let error = open(INTERFACE, "xa").unwrap_err();
        assert!(matches!(error, FramesError::AfXdp(AfXdpError::Occupied(_))), "{error}");
        assert!(error.to_string().contains("ip link set xa xdp off"));
    });
}

#[test]
fn what_is_no_ethernet_interface_is_refused_in_words() {
    with_pair(1, || {
        assert!(matches!(open(INTERFACE, "lo").unwrap_err(), FramesError::NotEthernet(_)));
        assert!(matches!(open(INTERFACE, "missing").unwrap_err(), FramesError::Missing(..)));
    });
}

#[test]
fn a_larger_mtu_has_larger_chunks_and_one_that_native_xdp_cannot_is_refused_in_words() {
    with_pair(1, || {
        let set_mtu = |mtu: u32| {
            for name in ["xa", "xb"] {
                sh(&format!("ip link set dev {name} mtu {mtu}"));
            }
        };
        let pass = |driver: &mut AfXdp, tap: &Tap, len| {
            tap.send(&frame(1, len));
            receive(driver, 1) == [frame(1, len)]
                && send(driver, &[frame(2, len)]).sent_datagrams == 1
                && tap.recv(PATIENCE_MS) == Some(frame(2, len))
        };
        let tap = Tap::open("xb");
        let mut driver = opened("xa");
        set_mtu(2000);
        tap.send(&frame(0, 1793));
        assert!(pass(&mut driver, &tap, 1792), "the longest of an MTU of 1500");
        assert_eq!(driver.counters(), RecvCounters { truncated: 1, overflow_drops: 0 }, "what came before it");
        drop(driver);
        assert!(pass(&mut opened("xa"), &tap, 2014));
        set_mtu(9000);
        let error = open(INTERFACE, "xa").unwrap_err().to_string();
        assert!(error.contains("xa (native, copy: ") && error.contains("generic: not used on a veth pair"), "{error}");
    });
}

#[test]
fn too_many_queues_are_refused_in_words() {
    with_pair(MAX_QUEUES + 1, || match open(INTERFACE, "xa").unwrap_err() {
        error @ FramesError::AfXdp(AfXdpError::TooManyQueues { queues: 17, .. }) => {
            assert!(error.to_string().contains("ethtool -L xa"))
        }
        error => panic!("{error}"),
    });
}

/// As a process of its own, for the test below.
#[test]
#[ignore = "part of another test"]
fn holds_an_interface_until_killed() {
    let _driver = opened("xa");
    println!("open");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn the_program_is_gone_when_the_process_is_killed() {
    with_pair(1, || {
        let name = concat!(module_path!(), "::holds_an_interface_until_killed");
        let name = name.split_once("::").unwrap().1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("open")));
        assert!(has_program("xa"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!has_program("xa"));
        let tap = Tap::open("xb");
        pass_both_ways(&mut opened("xa"), &tap, 0..10);
    });
}

/// Has `xb` send everything with a tag of VLAN 100 that is not in the frame but beside it, as a kernel's VLAN interface does.
fn tag_beside(name: &str) -> OwnedFd {
    program::tests::push_vlan_on_egress(interface::index(name).unwrap(), 100)
}

#[test]
fn a_tag_that_the_other_ends_kernel_left_beside_the_frame_is_put_back() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        let _pushing = tag_beside("xb");
        for len in [60, 100, 1514] {
            let sent = frame(7, len);
            tap.send(&sent);
            let expected = [&sent[..12], &[0x81, 0, 0, 100], &sent[12..]].concat();
            assert!(is_readable(driver.fd(), PATIENCE_MS) && driver.receive().unwrap() == 1);
            assert_eq!(driver.frame(0), expected);
        }
    });
}

#[test]
fn tags_in_frames_stay_where_they_are() {
    with_pair(1, || {
        let (mut driver, tap) = (opened("xa"), Tap::open("xb"));
        for tags in [&[0x81, 0, 0, 5][..], &[0x88, 0xa8, 0, 7, 0x81, 0, 0x60, 5]] {
            let untagged = frame(7, 200);
            let sent = [&untagged[..12], tags, &untagged[12..]].concat();
            tap.send(&sent);
            assert!(is_readable(driver.fd(), PATIENCE_MS) && driver.receive().unwrap() == 1);
            assert_eq!(driver.frame(0), sent);
            assert_eq!(send(&mut driver, std::slice::from_ref(&sent)).sent_datagrams, 1);
            assert!(tap.recv(PATIENCE_MS).is_some());
        }
    });
}
