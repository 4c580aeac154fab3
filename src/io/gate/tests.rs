//! What the program makes of packets, told by the kernel that runs it; and of real ones, through veth.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::io::sockets::places::{ESP_LANES, WIREGUARD_LANES};
use crate::io::udp::steer;

mod veth;

const WIREGUARD: usize = 0;
const IKE: usize = 1;
const NAT_T: usize = 2;

/// Loads, where that is permitted, with all three ports.
fn load() -> Option<(Gate, Accounts)> {
    match Gate::load() {
        Ok(gate) => {
            let mut accounts = gate.accounts();
            for (port, number) in [(WIREGUARD, 51_820), (IKE, 500), (NAT_T, 4500)] {
                accounts.set_port(port, Some((Ipv6Addr::UNSPECIFIED, number).into()));
            }
            Some((gate, accounts))
        }
        Err(error) => {
            eprintln!("NOT RUN: {error}");
            None
        }
    }
}

/// An Ethernet frame with UDP in it, to the loopback's hardware address, where the kernel says that test packets come by.
fn frame(to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp_bytes = (8 + payload.len()) as u16;
    let udp =
        [&1234_u16.to_be_bytes()[..], &to.port().to_be_bytes(), &udp_bytes.to_be_bytes(), &[0, 0], payload].concat();
    let (kind, header) = match to.ip() {
        IpAddr::V4(v4) => {
            let len = (20 + udp_bytes).to_be_bytes();
            let start = [0x45, 0, len[0], len[1], 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 51, 100, 2];
            ([8, 0], [&start[..], &v4.octets()].concat())
        }
        IpAddr::V6(v6) => {
            let len = udp_bytes.to_be_bytes();
            let from: Ipv6Addr = "2001:db8::2".parse().unwrap();
            ([0x86, 0xdd], [&[0x60, 0, 0, 0, len[0], len[1], 17, 64][..], &from.octets(), &v6.octets()].concat())
        }
    };
    [&[0; 12][..], &kind, &header, &udp].concat()
}

fn v4(port: u16, payload: &[u8]) -> Vec<u8> {
    frame((Ipv4Addr::new(198, 51, 100, 1), port).into(), payload)
}

fn v6(port: u16, payload: &[u8]) -> Vec<u8> {
    frame(("2001:db8::1".parse::<Ipv6Addr>().unwrap(), port).into(), payload)
}

/// `struct __sk_buff` with a number of joined segments.
fn joined(segments: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[164..168].copy_from_slice(&segments.to_ne_bytes());
    context
}

/// Where it was counted as let in, if anywhere. Panics when it was dropped.
fn queue_of(gate: &Gate, accounts: &Accounts, packet: &[u8]) -> Option<usize> {
    let before: Vec<_> = (0..memory::QUEUES).map(|queue| accounts.admitted(queue)).collect();
    let (answer, _) = bpf::test_run(gate.program.as_fd(), packet, &[], 1).unwrap();
    assert_eq!(answer, program::NEXT);
    let mut counted = (0..memory::QUEUES).filter(|queue| accounts.admitted(*queue) != before[*queue]);
    let queue = counted.next();
    assert_eq!(counted.next(), None);
    queue
}

/// Takes all credit, also that which comes of nothing being let in, and that of all queues' shares.
fn exhaust(accounts: &Accounts, queue: usize) {
    let at = memory::queue(queue);
    accounts.memory.write(at + ALLOWED, accounts.memory.read(at + ADMITTED));
    // The last one was in the far future.
    accounts.memory.write(at + memory::BEYOND_AT, u64::MAX >> 1);
    allow_shares(accounts, 0);
}

fn allow_shares(accounts: &Accounts, datagrams: u64) {
    accounts.memory.write(memory::SHARED_ALLOWED, accounts.memory.read(memory::SHARED) + datagrams);
}

fn data(index: u32) -> Vec<u8> {
    [&[4, 0, 0, 0][..], &index.to_be_bytes(), &[0; 24]].concat()
}

fn lane(first: usize, word: u32) -> usize {
    first + steer::lane_of(word.to_be_bytes()) - 1
}

#[test]
fn each_packet_is_counted_in_the_queue_that_its_socket_is() {
    let Some((gate, accounts)) = load() else { return };
    let queue = |packet: Vec<u8>| queue_of(&gate, &accounts, &packet);
    for make in [v4, v6] {
        for kind in 1..=3 {
            assert_eq!(queue(make(51_820, &[kind, 0, 0, 0, 9, 9, 9, 9, 1])), Some(WIREGUARD), "{kind}");
        }
        for index in [0, 1, 0x0001_0000, 0x8000_0000, 0xdead_beef, u32::MAX] {
            assert_eq!(queue(make(51_820, &data(index))), Some(lane(WIREGUARD_LANES.start, index)));
            let spi = index.max(1);
            assert_eq!(
                queue(make(4500, &[&spi.to_be_bytes()[..], &[7; 12]].concat())),
                Some(lane(ESP_LANES.start, spi))
            );
        }
        assert_eq!(queue(make(51_820, &[0; 8])), Some(lane(WIREGUARD_LANES.start, 0)), "no type that there is");
        assert_eq!(queue(make(4500, &[0; 32])), Some(NAT_T));
        assert_eq!(queue(make(500, &[7; 28])), Some(IKE));
        assert_eq!(queue(make(4500, &[0xff])), Some(ESP_LANES.start), "a keepalive");
        for short in 0..8 {
            assert_eq!(queue(make(51_820, &vec![1; short])), Some(WIREGUARD_LANES.start), "{short}");
        }
    }
}

#[test]
fn what_is_not_ours_is_neither_counted_nor_dropped() {
    let Some((gate, accounts)) = load() else { return };
    (0..memory::QUEUES).for_each(|queue| exhaust(&accounts, queue));
    let passes = |what: &str, packet: Vec<u8>| assert_eq!(queue_of(&gate, &accounts, &packet), None, "{what}");
    let changed = |at: usize, bytes: &[u8], packet: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    for (ours, other) in [(v4(51_820, &data(1)), v4(51_821, &data(1))), (v6(51_820, &data(1)), v6(51_821, &data(1)))] {
        let (answer, _) = bpf::test_run(gate.program.as_fd(), &ours, &[], 1).unwrap();
        assert_eq!(answer, program::DROP, "nothing has credit");
        passes("another port", other);
        passes("another machine's hardware address", changed(0, &[2, 0, 0, 0, 0, 9], &ours));
        passes("ARP", changed(12, &[8, 6], &ours));
        passes("a tag", [&ours[..12], &[0x81, 0, 0, 7], &ours[12..]].concat());
        passes("cut off", ours[..if ours[12] == 8 { 41 } else { 61 }].to_vec());
    }
    let ours = v4(51_820, &data(1));
    passes("options", changed(14, &[0x46], &ours));
    passes("a first fragment", changed(20, &[0x20, 0], &ours));
    passes("a later fragment", changed(20, &[0, 1], &ours));
    passes("TCP", changed(23, &[6], &ours));
    passes("an extension header", changed(20, &[0], &v6(51_820, &data(1))));
    passes("port 0", v4(0, &data(1)));
}

#[test]
fn an_address_that_a_port_is_bound_to_is_the_only_one() {
    let Some((gate, mut accounts)) = load() else { return };
    let to = |address: &str| frame((address.parse::<IpAddr>().unwrap(), 51_820).into(), &data(1));
    let ours = lane(WIREGUARD_LANES.start, 1);
    let all = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"];
    for (bound, heard) in [
        ("198.51.100.1", [true, false, false, false]),
        ("0.0.0.0", [true, true, false, false]),
        ("::", [true; 4]),
        ("2001:db8::2", [false, false, false, true]),
        ("::ffff:198.51.100.2", [false, true, false, false]),
    ] {
        accounts.set_port(WIREGUARD, Some((bound.parse::<IpAddr>().unwrap(), 51_820).into()));
        let counted = all.map(|address| queue_of(&gate, &accounts, &to(address)) == Some(ours));
        assert_eq!(counted, heard, "{bound}");
    }
    accounts.set_port(WIREGUARD, None);
    assert_eq!(queue_of(&gate, &accounts, &to("198.51.100.1")), None);
}

#[test]
fn beyond_its_credit_a_queue_is_shed_and_no_other_one() {
    let Some((gate, mut accounts)) = load() else { return };
    let run = |packet: &[u8], context: &[u8]| bpf::test_run(gate.program.as_fd(), packet, context, 1).unwrap().0;
    let (flooded, quiet) = (lane(WIREGUARD_LANES.start, 1), lane(WIREGUARD_LANES.start, 2));
    assert_ne!(flooded, quiet);
    let packet = v4(51_820, &data(1));
    // Whatever is joined counts as what it was, and goes in as long as anything may.
    for _ in 0..WINDOW / 44 + 1 {
        assert_eq!(run(&packet, &joined(44)), program::NEXT);
    }
    assert_eq!(accounts.admitted(flooded), (WINDOW / 44 + 1) * 44);
    exhaust(&accounts, flooded);
    assert!(!accounts.look_after(std::iter::empty()), "nothing was shed");
    assert_eq!((run(&packet, &joined(44)), run(&packet, &[])), (program::DROP, program::DROP));
    assert_eq!((accounts.shed(flooded), accounts.shed(quiet)), (45, 0));
    assert_eq!(queue_of(&gate, &accounts, &v4(51_820, &data(2))), Some(quiet));
    assert_eq!(queue_of(&gate, &accounts, &v4(51_820, &[1; 148])), Some(WIREGUARD));
    // As much as is read may come again, once no more than little waits.
    accounts.note_read(flooded, (WINDOW / 44 + 1) * 44 - credit::SHORT_WINDOW + 3);
    allow_shares(&accounts, 0);
    let answers = [(); 4].map(|()| run(&packet, &[]));
    assert_eq!(answers, [program::NEXT, program::NEXT, program::NEXT, program::DROP]);
    // The queue turns out to be empty.
    assert!(accounts.look_after([quiet].into_iter()));
    assert_eq!(run(&packet, &[]), program::DROP);
    assert!(accounts.look_after([quiet, flooded].into_iter()));
    assert_eq!(run(&packet, &[]), program::NEXT);
    assert!(!accounts.look_after([flooded].into_iter()));
}

#[test]
fn a_queue_that_is_not_read_lets_one_in_now_and_then() {
    let Some((gate, accounts)) = load() else { return };
    let flooded = lane(WIREGUARD_LANES.start, 1);
    exhaust(&accounts, flooded);
    accounts.memory.write(memory::queue(flooded) + memory::BEYOND_AT, 0);
    let packet = v4(51_820, &data(1));
    assert_eq!(queue_of(&gate, &accounts, &packet), Some(flooded));
    let at = accounts.memory.read(memory::queue(flooded) + memory::BEYOND_AT);
    assert!(at > 0, "from now on");
    exhaust(&accounts, flooded);
    let (answer, _) = bpf::test_run(gate.program.as_fd(), &packet, &[], 1).unwrap();
    assert_eq!(answer, program::DROP);
}

/// As if none had let in one for long.
fn renew_shares(accounts: &Accounts, queue: usize) {
    let at = memory::queue(queue) - memory::QUEUES_AT + memory::SHARES_AT;
    (0..1 << memory::SHARE_BITS).for_each(|share| accounts.memory.write(at + share * memory::SHARE_BYTES, 0));
}

/// Indices or SPIs of the lane of `flooding`, and others than it.
fn of_the_same_lane(flooding: u32) -> impl Iterator<Item = u32> {
    let lane_of = |word: u32| steer::lane_of(word.to_be_bytes());
    (1..).filter(move |word| *word != flooding && lane_of(*word) == lane_of(flooding))
}

#[test]
fn who_is_in_a_flooded_lane_has_a_share_of_it() {
    let Some((gate, accounts)) = load() else { return };
    let passes = |packet: Vec<u8>| bpf::test_run(gate.program.as_fd(), &packet, &[], 1).unwrap().0 == program::NEXT;
    for lanes in [WIREGUARD_LANES.start, ESP_LANES.start] {
        let make = |word: u32| match lanes == ESP_LANES.start {
            true => v6(4500, &[&word.to_be_bytes()[..], &[7; 12]].concat()),
            false => v4(51_820, &data(word)),
        };
        let queue = lane(lanes, 1);
        exhaust(&accounts, queue);
        renew_shares(&accounts, queue);
        allow_shares(&accounts, 100);
        // The flood's own share lets one in, too, and another whenever the kernel's clock has gone on.
        let flood = (0..50).filter(|_| passes(make(1))).count();
        assert!((2..20).contains(&flood), "{flood}");
        let others = of_the_same_lane(1).take(300).filter(|index| passes(make(*index))).count();
        assert!((14..60).contains(&others), "{others}");
        assert_eq!(accounts.admitted(queue), (flood + others) as u64);
        assert_eq!(accounts.shed(queue), (350 - flood - others) as u64);
    }
}

/// When a queue's shares let one in, or will have paid for it; those that have not, left out.
fn share_times(accounts: &Accounts, queue: usize) -> Vec<u64> {
    let at = memory::queue(queue) - memory::QUEUES_AT + memory::SHARES_AT;
    let times = (0..1 << memory::SHARE_BITS).map(|share| accounts.memory.read(at + share * memory::SHARE_BYTES));
    times.filter(|time| *time > 0).collect()
}

#[test]
fn a_share_is_renewed_in_3_ms_for_each_datagram_that_it_let_in() {
    const EVERY: u64 = 3_000_000;
    let Some((gate, accounts)) = load() else { return };
    let [earlier, queue] = [2, 1].map(|index| lane(WIREGUARD_LANES.start, index));
    assert_ne!(earlier, queue);
    let passes = |index: u32, context: &[u8]| {
        bpf::test_run(gate.program.as_fd(), &v4(51_820, &data(index)), context, 1).unwrap().0 == program::NEXT
    };
    let begin = || {
        exhaust(&accounts, queue);
        renew_shares(&accounts, queue);
        allow_shares(&accounts, 1_000);
    };
    exhaust(&accounts, earlier);
    begin();
    assert!(passes(2, &[]));
    // Not later than now.
    let now = share_times(&accounts, earlier)[0];
    for (segments, used) in [(0, 0), (1, 0), (44, 43 * EVERY)] {
        begin();
        assert!(passes(1, &joined(segments)));
        let times = share_times(&accounts, queue);
        assert!(times.len() == 1 && times[0] >= now + used, "{segments}: {times:?} after {now}");
    }
    let write_all = |time: u64| {
        let at = memory::queue(queue) - memory::QUEUES_AT + memory::SHARES_AT;
        (0..1 << memory::SHARE_BITS).for_each(|share| accounts.memory.write(at + share * memory::SHARE_BYTES, time));
    };
    for (time, expected) in [(now - EVERY, true), (now + 3_600_000_000_000, false)] {
        begin();
        write_all(time);
        assert_eq!(passes(1, &[]), expected);
    }
}

#[test]
fn nobody_is_in_one_share_with_a_flood_for_long() {
    let Some((gate, accounts)) = load() else { return };
    let queue = lane(WIREGUARD_LANES.start, 1);
    let passes = |index: u32| {
        let (answer, _) = bpf::test_run(gate.program.as_fd(), &v4(51_820, &data(index)), &[], 1).unwrap();
        answer == program::NEXT
    };
    let others: Vec<u32> = of_the_same_lane(1).take(40).collect();
    let mut heard = vec![0; others.len()];
    for change in 0..64 {
        accounts.memory.write(memory::SHARED, change << program::RENEWED_BITS);
        for (index, heard) in others.iter().zip(&mut heard) {
            exhaust(&accounts, queue);
            renew_shares(&accounts, queue);
            allow_shares(&accounts, 100);
            assert!(passes(1));
            // Its two may be one.
            let _ = passes(1);
            *heard += u32::from(passes(*index));
        }
    }
    // The flood has two of sixteen, so that others have none of their own with 1 in 64.
    assert!(heard.iter().all(|heard| (60..=64).contains(heard)), "{heard:?}");
    assert!(heard.iter().any(|heard| *heard < 64), "as long as a flood has shares");
}

#[test]
fn a_flood_of_handshakes_leaves_other_sources_their_share() {
    let Some((gate, accounts)) = load() else { return };
    let from = |last: u8, packet: Vec<u8>| {
        let mut packet = packet;
        // The last of the address, in IPv6 of its network.
        packet[29] = last;
        packet
    };
    let answer = |packet: Vec<u8>| bpf::test_run(gate.program.as_fd(), &packet, &[], 1).unwrap().0;
    for make in [v4, v6] {
        for (port, payload, queue) in [(51_820, vec![1; 148], WIREGUARD), (4500, vec![0; 148], NAT_T)] {
            exhaust(&accounts, queue);
            renew_shares(&accounts, queue);
            allow_shares(&accounts, 1_000);
            let flood = (0..50).filter(|_| answer(from(1, make(port, &payload))) == program::NEXT).count();
            assert!((1..30).contains(&flood), "{flood}");
            let heard = (2..=250).filter(|last| answer(from(*last, make(port, &payload))) == program::NEXT).count();
            // All shares but the flood's.
            assert!((14..60).contains(&heard), "{heard}");
        }
    }
}

#[test]
fn shares_are_bounded_by_what_is_read() {
    let Some((gate, mut accounts)) = load() else { return };
    let queues: Vec<usize> = WIREGUARD_LANES.collect();
    // Of made-up indices, one or more of each share.
    let flood = |accounts: &Accounts| {
        queues.iter().for_each(|queue| {
            let at = memory::queue(*queue);
            accounts.memory.write(at + ALLOWED, accounts.memory.read(at + ADMITTED));
            accounts.memory.write(at + memory::BEYOND_AT, u64::MAX >> 1);
            renew_shares(accounts, *queue);
        });
        let before: u64 = queues.iter().map(|queue| accounts.admitted(*queue)).sum();
        (0..10_000).for_each(|index| _ = bpf::test_run(gate.program.as_fd(), &v4(51_820, &data(index)), &[], 1));
        queues.iter().map(|queue| accounts.admitted(*queue)).sum::<u64>() - before
    };
    assert_eq!(flood(&accounts), credit::MOST_SHARED);
    assert_eq!(flood(&accounts), 0);
    accounts.note_read(0, 15);
    assert_eq!(flood(&accounts), 0);
    accounts.note_read(0, 1);
    assert_eq!(flood(&accounts), 1);
    accounts.note_read(0, 39);
    accounts.note_read(1, 41);
    assert_eq!(flood(&accounts), 5);
    accounts.note_last(NAT_T, 16 * 7);
    assert_eq!(flood(&accounts), 7, "also when nothing is left");
    accounts.note_read(0, 1_000_000);
    assert_eq!(flood(&accounts), credit::MOST_SHARED, "and they do not pile up");
}

/// Not a test of speed: it prints what the program takes.
#[test]
fn the_program_takes_some_tens_of_nanoseconds() {
    let Some((gate, accounts)) = load() else { return };
    let ours = v4(51_820, &data(1));
    let nanos = |packet: &[u8]| bpf::test_run(gate.program.as_fd(), packet, &[], 1_000_000).unwrap().1;
    eprintln!("a stranger's: {} ns", nanos(&v4(53, &data(1))));
    // What was counted is marked, so that further runs only look at the mark.
    exhaust(&accounts, lane(WIREGUARD_LANES.start, 1));
    eprintln!("shed: {} ns", nanos(&ours));
}
