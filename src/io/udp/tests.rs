//! Over the machine's own loopback. Nothing here sleeps: what was sent over loopback has arrived when `send` returns.

use std::net::IpAddr;

use super::*;
use crate::net::Path;

fn socket(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().unwrap()).unwrap()
}

fn plain_socket(address: &str) -> UdpSocket {
    UdpSocket::bind_with(address.parse().unwrap(), Offload::Off).unwrap()
}

/// Every datagram that is there, with its path, and in how many messages they came.
fn receive_all(socket: &mut UdpSocket) -> (Vec<(Path, Vec<u8>)>, usize) {
    let mut batch = RecvBatch::new();
    let (mut datagrams, mut messages) = (Vec::new(), 0);
    loop {
        match socket.recv_batch(&mut batch).unwrap() {
            0 => return (datagrams, messages),
            count => messages += count,
        }
        datagrams.extend(batch.datagrams().map(|d| (d.path, d.bytes.to_vec())));
    }
}

/// Numbered datagrams of these lengths.
fn fill(outbox: &mut Outbox, path: Path, lens: &[usize]) {
    for (number, len) in lens.iter().enumerate() {
        assert!(outbox.push(path, true, &vec![number as u8; *len]));
    }
}

fn lens_and_numbers(datagrams: &[(Path, Vec<u8>)]) -> Vec<(usize, u8)> {
    datagrams.iter().map(|(_, bytes)| (bytes.len(), bytes.first().copied().unwrap_or(0))).collect()
}

fn numbered(lens: &[usize]) -> Vec<(usize, u8)> {
    lens.iter().enumerate().map(|(number, len)| (*len, number as u8)).collect()
}

#[test]
fn one_datagram_and_its_answer_in_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = (socket(address), socket(address));
        let mut outbox = Outbox::new(10_000, 10);
        fill(&mut outbox, Path::to(b.local_address()), &[100]);
        assert_eq!(a.send(&outbox).sent_datagrams, 1);

        let (received, _) = receive_all(&mut b);
        assert_eq!(received, [(Path::to(a.local_address()), vec![0; 100])], "bound to one address: no `local`");
        outbox.clear();
        fill(&mut outbox, received[0].0, &[50]);
        b.send(&outbox);
        assert_eq!(lens_and_numbers(&receive_all(&mut a).0), [(50, 0)]);
    }
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    let mut receiver = socket("127.0.0.1:0");
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(&[], receiver.local_address()).unwrap();
    assert_eq!(lens_and_numbers(&receive_all(&mut receiver).0), [(0, 0)]);
}

#[test]
fn runs_are_cut_and_joined_by_the_kernel_and_arrive_as_they_were() {
    let mut lens = vec![1400; 40];
    lens.push(77);
    lens.extend([300; 64]);
    lens.extend([1, 2, 3]);
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = (socket(address), socket(address));
        let mut outbox = Outbox::new(1 << 20, 100);
        fill(&mut outbox, Path::to(b.local_address()), &lens);
        assert_eq!(a.send(&outbox).sent_datagrams, lens.len() as u64);
        let (received, messages) = receive_all(&mut b);
        assert_eq!(lens_and_numbers(&received), numbered(&lens));
        if a.has_send_offload() && b.has_receive_offload() {
            assert!(messages <= outbox.runs().len(), "{messages} messages for {} runs", outbox.runs().len());
        } else {
            eprintln!("NOT TESTED: this kernel has no UDP offload");
        }
    }
}

#[test]
fn without_offload_on_either_side_the_same_datagrams_arrive() {
    let lens = [[1400; 40].as_slice(), &[77], &[300; 64]].concat();
    for (mut a, mut b) in [
        (plain_socket("127.0.0.1:0"), socket("127.0.0.1:0")),
        (socket("127.0.0.1:0"), plain_socket("127.0.0.1:0")),
        (plain_socket("[::1]:0"), plain_socket("[::1]:0")),
    ] {
        let mut outbox = Outbox::new(1 << 20, 100);
        fill(&mut outbox, Path::to(b.local_address()), &lens);
        assert_eq!(a.send(&outbox).sent_datagrams, lens.len() as u64);
        assert_eq!(lens_and_numbers(&receive_all(&mut b).0), numbered(&lens));
        assert!(!(a.has_send_offload() && b.has_receive_offload()));
    }
}

#[test]
fn datagrams_over_the_mtu_that_may_be_cut_arrive_in_fragments() {
    // Loopback's MTU of 65,536 lets them through as they are; a smaller one cuts them.
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = (socket(address), socket(address));
        let mut outbox = Outbox::new(1 << 20, 100);
        outbox.let_fragment(true);
        fill(&mut outbox, Path::to(b.local_address()), &[9_000; 7]);
        for _ in 0..2 {
            assert_eq!(a.send(&outbox).sent_datagrams, 7);
            assert_eq!(lens_and_numbers(&receive_all(&mut b).0), numbered(&[9_000; 7]));
        }
    }
}

#[test]
fn answers_leave_from_the_address_that_was_called() {
    let (mut server, mut client) = (socket("0.0.0.0:0"), socket("127.0.0.1:0"));
    let called: SocketAddr = ([127, 0, 0, 2], server.local_address().port()).into();
    let mut outbox = Outbox::new(10_000, 10);
    fill(&mut outbox, Path::to(called), &[10, 10, 10]);
    client.send(&outbox);

    let (received, _) = receive_all(&mut server);
    assert_eq!(received.len(), 3);
    let path = received[0].0;
    assert_eq!(path, Path { local: Some(called.ip()), ..Path::to(client.local_address()) });
    outbox.clear();
    fill(&mut outbox, path, &[20, 20]);
    assert_eq!(server.send(&outbox).sent_datagrams, 2);
    assert!(receive_all(&mut client).0.iter().all(|(path, _)| path.remote == called));
}

#[test]
fn a_dual_stack_socket_shows_ipv4_peers_as_ipv4() {
    let (mut server, mut v4, mut v6) = (socket("[::]:0"), socket("127.0.0.1:0"), socket("[::1]:0"));
    let port = server.local_address().port();
    for (client, called) in [(&mut v4, IpAddr::from([127, 0, 0, 3])), (&mut v6, "::1".parse().unwrap())] {
        let mut outbox = Outbox::new(10_000, 10);
        fill(&mut outbox, Path::to(SocketAddr::new(called, port)), &[10]);
        client.send(&outbox);
        let (received, _) = receive_all(&mut server);
        assert_eq!(received[0].0, Path { local: Some(called), ..Path::to(client.local_address()) });
        outbox.clear();
        fill(&mut outbox, received[0].0, &[20, 20, 5]);
        assert_eq!(server.send(&outbox).sent_datagrams, 3);
        let (answers, _) = receive_all(client);
        assert_eq!(lens_and_numbers(&answers), numbered(&[20, 20, 5]));
        assert_eq!(answers[0].0.remote, SocketAddr::new(called, port));
    }
}

#[test]
fn a_source_that_is_not_ours_is_replaced_by_one_that_is() {
    let (mut server, mut client) = (socket("0.0.0.0:0"), socket("127.0.0.1:0"));
    let mut outbox = Outbox::new(10_000, 10);
    let path = Path { local: Some("192.0.2.77".parse().unwrap()), ..Path::to(client.local_address()) };
    fill(&mut outbox, path, &[20, 20]);
    assert_eq!(server.send(&outbox).sent_datagrams, 2);
    assert_eq!(receive_all(&mut client).0.len(), 2);
    assert_eq!(server.has_send_offload(), client.has_send_offload(), "offload was not to blame");
}

#[test]
fn what_cannot_be_sent_is_counted_and_the_rest_goes_out() {
    let (mut a, mut b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let mut outbox = Outbox::new(10_000, 10);
    fill(&mut outbox, Path::to(b.local_address()), &[10]);
    fill(&mut outbox, Path::to("[2001:db8::1]:9".parse().unwrap()), &[20, 20, 20]);
    assert!(outbox.push(Path::to("[2001:db8::1]:9".parse().unwrap()), false, &[9; 30]));
    fill(&mut outbox, Path::to(b.local_address()), &[30]);
    let report = a.send(&outbox);
    assert_eq!((report.sent_datagrams, report.refused_datagrams, report.unsent_data_datagrams), (2, 4, 3));
    assert_eq!(report.congested_datagrams, 0);
    assert_eq!(lens_and_numbers(&receive_all(&mut b).0), [(10, 0), (30, 0)]);
}

#[test]
fn a_closed_port_disturbs_neither_sending_nor_receiving() {
    let (mut a, mut b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let closed = socket("127.0.0.1:0").local_address();
    for _ in 0..3 {
        let mut outbox = Outbox::new(10_000, 10);
        fill(&mut outbox, Path::to(closed), &[10]);
        fill(&mut outbox, Path::to(b.local_address()), &[20]);
        assert_eq!(a.send(&outbox).sent_datagrams, 2);
        assert_eq!(receive_all(&mut a).0.len(), 0);
        assert_eq!(receive_all(&mut b).0.len(), 1);
    }
}

#[test]
fn what_the_receive_buffer_has_no_room_for_is_counted() {
    let (mut a, mut b) = (plain_socket("127.0.0.1:0"), plain_socket("127.0.0.1:0"));
    sys::set_option(b.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 8_192).unwrap();
    let mut outbox = Outbox::new(1 << 20, 200);
    fill(&mut outbox, Path::to(b.local_address()), &[1_000; 100]);
    a.send(&outbox);
    let mut batch = RecvBatch::new();
    let mut received = 0;
    while b.recv_batch(&mut batch).unwrap() > 0 {
        received += batch.datagrams().count();
    }
    // The counter comes with the next datagram.
    outbox.clear();
    fill(&mut outbox, Path::to(b.local_address()), &[10]);
    a.send(&outbox);
    assert_eq!(b.recv_batch(&mut batch).unwrap(), 1);
    assert_eq!(b.counters(), RecvCounters { truncated: 0, overflow_drops: 100 - received as u32 });
    assert!(received < 100);
}

#[test]
fn the_traffic_class_goes_out_with_each_run_and_ecn_bits_come_in() {
    for (server, called) in
        [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]
    {
        let mut server = socket(server);
        let mut client = socket(if server.local_address().is_ipv6() { "[::]:0" } else { "0.0.0.0:0" });
        let to = Path::to(SocketAddr::new(called.parse().unwrap(), server.local_address().port()));
        let mut outbox = Outbox::new(10_000, 10);
        for class in [0, 0xb8, 0xb9, 0xb9, 0x02, 0x03] {
            outbox.space(10).unwrap().fill(class);
            outbox.commit_marked(to, true, class, 10);
        }
        assert_eq!(outbox.runs().len(), 5);
        assert_eq!(client.send(&outbox).sent_datagrams, 6);
        let mut batch = RecvBatch::new();
        let mut seen = Vec::new();
        while server.recv_batch(&mut batch).unwrap() > 0 {
            seen.extend(batch.datagrams().map(|d| (d.bytes[0], d.ecn)));
        }
        assert_eq!(seen, [(0, 0), (0xb8, 0), (0xb9, 1), (0xb9, 1), (0x02, 2), (0x03, 3)], "{called}");
    }
}

#[test]
fn what_comes_in_is_stamped_with_the_sockets_port() {
    let mut server = UdpSocket::bind_for(Port::IkeNatT, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap();
    let mut client = socket("127.0.0.1:0");
    let mut outbox = Outbox::new(10_000, 10);
    fill(&mut outbox, Path::to(server.local_address()), &[10]);
    client.send(&outbox);
    assert_eq!(receive_all(&mut server).0[0].0, Path::from_port(Port::IkeNatT, client.local_address()));
}

#[test]
fn opening_fails_with_words() {
    let first = socket("127.0.0.1:0");
    let in_use = UdpSocket::bind(first.local_address()).unwrap_err();
    assert!(matches!(in_use, BindError::InUse(address) if address == first.local_address()));
    assert!(in_use.to_string().contains("is in use"));
    let foreign = UdpSocket::bind("192.0.2.1:51820".parse().unwrap()).unwrap_err();
    assert!(matches!(foreign, BindError::NoSuchAddress(_)), "{foreign}");
    assert!(first.receive_buffer_bytes() > 0);
}

#[test]
fn df_is_set_for_each_run_as_it_asks_and_set_back() {
    for server in ["127.0.0.1:0", "[::1]:0"] {
        let mut a = plain_socket(if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        let mut b = plain_socket(server);
        let discover =
            |socket: &UdpSocket| sys::option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_MTU_DISCOVER).unwrap();
        assert_eq!(discover(&a), libc::IP_PMTUDISC_PROBE);
        let mut outbox = Outbox::new(10_000, 10);
        for may_fragment in [true, false, true] {
            outbox.let_fragment(may_fragment);
            fill(&mut outbox, Path::to(b.local_address()), &[10, 10]);
        }
        assert_eq!(a.send(&outbox).sent_datagrams, 6);
        assert_eq!(discover(&a), libc::IP_PMTUDISC_DONT, "as the last run asked");
        outbox.clear();
        outbox.let_fragment(false);
        fill(&mut outbox, Path::to(b.local_address()), &[10]);
        assert_eq!(a.send(&outbox).sent_datagrams, 1);
        assert_eq!(discover(&a), libc::IP_PMTUDISC_PROBE);
        assert_eq!(receive_all(&mut b).0.len(), 7);
    }
}

/// Port unreachable is what loopback's ICMP can say: it is read from the queue, says nothing about an MTU, and costs neither
/// the next datagram nor the next receive.
#[test]
fn icmp_errors_are_read_and_cost_no_datagram() {
    for (any, server) in [("0.0.0.0:0", "127.0.0.1:0"), ("[::]:0", "[::1]:0"), ("[::]:0", "127.0.0.1:0")] {
        let (mut a, mut b) = (plain_socket(any), plain_socket(server));
        let closed = plain_socket(server).local_address();
        let mut outbox = Outbox::new(10_000, 10);
        let mut reports = Vec::new();
        for round in 0..40 {
            outbox.clear();
            fill(&mut outbox, Path::to(closed), &[10]);
            fill(&mut outbox, Path::to(b.local_address()), &[20]);
            let report = a.send(&outbox);
            assert_eq!((report.sent_datagrams, report.refused_datagrams), (2, 0), "{any} {server} {round}");
            assert_eq!(receive_all(&mut a).0.len(), 0);
        }
        assert_eq!(receive_all(&mut b).0.len(), 40);
        assert!(a.recv_errors(&mut reports), "more than a batch was waiting");
        assert!(!a.recv_errors(&mut reports), "the rest");
        assert_eq!(reports, []);
    }
}

/// What our own link does not carry, the kernel says with its MTU: loopback's is known to the machine.
#[test]
fn a_datagram_longer_than_the_link_comes_back_with_the_links_mtu() {
    let mtu: usize = match std::fs::read_to_string("/sys/class/net/lo/mtu") {
        Ok(text) => text.trim().parse().unwrap(),
        Err(error) => return eprintln!("NOT RUN: the MTU of the loopback is not known: {error}"),
    };
    if mtu + 1 > 65_507 {
        return eprintln!("NOT RUN: the loopback carries {mtu} bytes, and no datagram is longer");
    }
    let (mut a, b) = (plain_socket("0.0.0.0:0"), plain_socket("127.0.0.1:0"));
    let mut outbox = Outbox::new(1 << 17, 10);
    fill(&mut outbox, Path::to(b.local_address()), &[mtu]);
    assert_eq!(a.send(&outbox).refused_datagrams, 1);
    let mut reports = Vec::new();
    assert!(!a.recv_errors(&mut reports));
    // Our own link's errors name no port.
    let remote = std::net::SocketAddr::new(b.local_address().ip(), 0);
    assert_eq!(reports, [PathReport { remote, mtu_bytes: mtu as u16 }]);
}
