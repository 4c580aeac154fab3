//! Over a real veth pair, in network namespaces of each test's own: ours is `ixa`, 10.0.0.1 and fd00::1; the other end 10.0.0.2 and fd00::2, and
//! a router to 10.9.0.0/16 by a link of 1,280 bytes.

use std::net::UdpSocket as StdSocket;
use std::time::Instant;

use super::headers::Template;
use super::keeper::Keeper;
use super::*;
use crate::io::frames::testbed::{Testbed, sh, try_sh, with_testbed};
use crate::io::frames::{interface, sys};
use crate::io::netlink::ways::Way;
use crate::io::sockets::Sockets;
use crate::io::udp::{Offload, RecvBatch, UdpSocket};

const PATIENCE: Duration = Duration::from_secs(10);

struct Gateway {
    keeper: Keeper,
    sockets: Sockets,
    poller: Poller,
    batch: RecvBatch,
}

/// A datagram as it was told: path, payload, ECN.
type Told = (Path, Vec<u8>, u8);

impl Gateway {
    fn open(listen: &str) -> Option<Self> {
        let desk = Desk::default();
        let mut sockets = Sockets::default();
        for (port, number) in [(Port::WireGuard, 51820), (Port::IkeNatT, 4500)] {
            let address = SocketAddr::new(listen.parse().unwrap(), number);
            let (udp, lanes) = UdpSocket::bind_lanes(port, address, Offload::Auto).unwrap();
            sockets.add_udp_with_lanes(udp, lanes);
        }
        sockets.add_uplinks(Uplinks::new(desk.clone()).unwrap());
        let poller = Poller::new().unwrap();
        sockets.register(&poller).unwrap();
        let keeper = match Keeper::new(desk, vec!["ixa".to_owned()]) {
            Ok(keeper) => keeper,
            Err(error) => {
                eprintln!("NOT RUN: {error}");
                return None;
            }
        };
        let mut gateway = Gateway { keeper, sockets, poller, batch: RecvBatch::new() };
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy");
        gateway.turn();
        Some(gateway)
    }

    fn state(&self) -> String {
        match self.keeper.states().get("ixa") {
            Some(Ok(state) | Err(state)) => state.clone(),
            None => "not looked at".to_owned(),
        }
    }

    /// Of the thread that knows the ways, and of the worker: what has come.
    fn turn(&mut self) -> Vec<Told> {
        self.keeper.turn(Duration::from_millis(5)).unwrap();
        let ready = self.poller.wait(Some(Duration::from_millis(5))).unwrap();
        self.sockets.note_ready(ready);
        let mut told = Vec::new();
        while self.sockets.recv_batch(&mut self.batch).unwrap() > 0 {
            told.extend(self.sockets.datagrams(&self.batch).map(|one| (one.path, one.bytes.to_vec(), one.ecn)));
        }
        told
    }

    fn until(&mut self, is_done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_done(self) {
            assert!(begun.elapsed() < PATIENCE, "it does not come: {}, {:?}", self.state(), self.counts());
            self.turn();
        }
    }

    fn receive(&mut self, count: usize) -> Vec<Told> {
        let (begun, mut told) = (Instant::now(), Vec::new());
        while told.len() < count && begun.elapsed() < PATIENCE {
            told.extend(self.turn());
        }
        told
    }

    fn counts(&self) -> UplinkCounts {
        self.sockets.uplink_counts().unwrap()
    }

    fn send(&mut self, datagrams: &[(Path, Vec<u8>)]) -> SendReport {
        let mut outbox = Outbox::new(1 << 20, 1000);
        for (path, bytes) in datagrams {
            outbox.space(bytes.len()).unwrap().copy_from_slice(bytes);
            outbox.commit_marked(*path, is_data(path.port, bytes), 0xba, bytes.len());
        }
        self.sockets.send(&outbox)
    }

    /// Sends until an uplink has carried one.
    fn until_known(&mut self, path: Path) {
        let (before, begun) = (self.counts().sent, Instant::now());
        while self.counts().sent == before {
            assert!(begun.elapsed() < PATIENCE, "no way becomes known: {}, {:?}", self.state(), self.counts());
            self.send(&[(path, data(0, 60))]);
            self.turn();
        }
    }
}

fn with_gateway(listen: &'static str, test: impl FnOnce(Testbed, Gateway) + Send + 'static) {
    with_testbed(move |bed| {
        sh(
            "ip addr add 10.0.0.1/24 dev ixa; ip addr add fd00::1/64 dev ixa nodad; ip route add 10.9.0.0/16 via 10.0.0.2",
        );
        bed.there().sh(
            "ip addr add 10.0.0.2/24 dev ixb; sysctl -qw net.ipv6.conf.ixb.disable_ipv6=0; ip addr add fd00::2/64 dev ixb nodad; \
             sysctl -qw net.ipv4.ip_forward=1; ip link add ixn type veth peer name ixm; ip link set ixn mtu 1280 up; ip link set ixm up; \
             ip addr add 10.9.0.1/16 dev ixn",
        );
        if let Some(gateway) = Gateway::open(listen) {
            test(bed, gateway);
        }
    });
}

/// Of WireGuard's.
fn data(number: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![4, 0, 0, 0, number, number, number, number];
    bytes.resize(len, number);
    bytes
}

/// From port 7 of the other end, with a traffic class.
fn send_from_there(bed: &Testbed, to: &str, payloads: Vec<Vec<u8>>) {
    let to: SocketAddr = to.parse().unwrap();
    bed.there().run(move || {
        let from = if to.is_ipv4() { "10.0.0.2:7" } else { "[fd00::2]:7" };
        // Somebody else's child may have a copy of the last one's for a moment.
        let begun = Instant::now();
        let socket = loop {
            match StdSocket::bind(from) {
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
                Ok(socket) => break socket,
            }
        };
        payloads.iter().for_each(|payload| _ = socket.send_to(payload, to).unwrap());
    });
}

fn listen_there(bed: &Testbed, address: &'static str) -> StdSocket {
    bed.there().run(move || {
        let socket = StdSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    })
}

fn received(socket: &StdSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from)
}

fn path(port: Port, remote: &str, local: Option<&str>) -> Path {
    Path { port, remote: remote.parse().unwrap(), local: local.map(|local| local.parse().unwrap()) }
}

#[test]
fn data_comes_by_the_uplink_and_everything_else_by_the_sockets_and_nobody_can_tell() {
    with_gateway("::", |bed, mut gateway| {
        for (ours, theirs) in [("10.0.0.1", "10.0.0.2:7"), ("fd00::1", "[fd00::2]:7")] {
            let before = gateway.counts();
            let host = if ours.contains(':') { format!("[{ours}]") } else { ours.to_owned() };
            let wireguard: Vec<Vec<u8>> =
                vec![data(1, 32), vec![1; 148], vec![2; 92], data(2, 1452), vec![4, 1, 0, 0, 9, 9, 9, 9]];
            send_from_there(&bed, &format!("{host}:51820"), wireguard.clone());
            let esp: Vec<Vec<u8>> = vec![vec![7; 40], vec![0, 0, 0, 0, 8, 8, 8, 8, 8], vec![0xff], vec![7; 1400]];
            send_from_there(&bed, &format!("{host}:4500"), esp.clone());
            let mut told = gateway.receive(9);
            told.sort_by_key(|(path, bytes, _)| (path.port, bytes.clone()));
            let of = |port, all: &[Vec<u8>]| {
                let path = path(port, theirs, Some(ours));
                let mut all: Vec<Told> = all.iter().map(|bytes| (path, bytes.clone(), 0)).collect();
                all.sort_by_key(|(_, bytes, _)| bytes.clone());
                all
            };
            assert_eq!(told, [of(Port::WireGuard, &wireguard), of(Port::IkeNatT, &esp)].concat());
            assert_eq!(gateway.counts(), UplinkCounts { received: before.received + 4, ..before });
        }
    });
}

#[test]
fn a_path_has_no_local_address_where_the_port_is_bound_to_one() {
    with_gateway("10.0.0.1", |bed, mut gateway| {
        send_from_there(&bed, "10.0.0.1:51820", vec![data(1, 32), vec![1; 148]]);
        let told = gateway.receive(2);
        assert!(told.iter().all(|(path, ..)| *path == self::path(Port::WireGuard, "10.0.0.2:7", None)), "{told:?}");
        assert_eq!(gateway.counts().received, 1);
    });
}

#[test]
fn ecn_is_read_and_the_traffic_class_written() {
    with_gateway("::", |bed, mut gateway| {
        for (to, remote) in [("10.0.0.1:51820", "10.0.0.2:7"), ("[fd00::1]:51820", "[fd00::2]:7")] {
            let bytes = data(3, 60);
            let to: SocketAddr = to.parse().unwrap();
            let sent = bytes.clone();
            bed.there().run(move || {
                let from = if to.is_ipv4() { "10.0.0.2:7" } else { "[fd00::2]:7" };
                let mut socket = UdpSocket::bind(from.parse().unwrap()).unwrap();
                let mut outbox = Outbox::new(1000, 10);
                outbox.space(sent.len()).unwrap().copy_from_slice(&sent);
                outbox.commit_marked(Path::to(to), true, 0xbb, sent.len());
                assert_eq!(socket.send(&outbox).sent_datagrams, 1);
            });
            let told = gateway.receive(1);
            assert_eq!((told.len(), told[0].2), (1, 3));

            let mut there = bed.there().run(move || {
                let from = if to.is_ipv4() { "10.0.0.2:7" } else { "[fd00::2]:7" };
                UdpSocket::bind(from.parse().unwrap()).unwrap()
            });
            gateway.until_known(Path::to(remote.parse().unwrap()));
            let (mut batch, begun) = (RecvBatch::new(), Instant::now());
            while there.recv_batch(&mut batch).unwrap() == 0 {
                assert!(begun.elapsed() < PATIENCE);
            }
            assert!(batch.datagrams().all(|datagram| datagram.ecn == 2));
        }
        assert_eq!(gateway.counts().received, 2);
    });
}

#[test]
fn what_is_sent_goes_by_the_uplink_once_the_way_is_known_and_is_right_to_the_other_kernel() {
    with_gateway("::", |bed, mut gateway| {
        for (bound, remote, ours) in
            [("10.0.0.2:9", "10.0.0.2:9", "10.0.0.1"), ("[fd00::2]:9", "[fd00::2]:9", "fd00::1")]
        {
            let there = listen_there(&bed, bound);
            for (port, number) in [(Port::WireGuard, 51820), (Port::IkeNatT, 4500)] {
                let path = path(port, remote, Some(ours));
                gateway.until_known(path);
                let before = gateway.counts();
                let run: Vec<_> =
                    (10..60).map(|number| (path, data(number, 1200))).chain([(path, data(99, 77))]).collect();
                assert_eq!(gateway.send(&run).sent_datagrams, 51);
                assert_eq!(gateway.counts(), UplinkCounts { sent: before.sent + 51, ..before });
                let mut seen = Vec::new();
                while seen.len() < run.len() {
                    let (bytes, from) = received(&there);
                    assert_eq!(from, SocketAddr::new(ours.parse().unwrap(), number));
                    seen.extend((bytes.len() != 60).then_some(bytes));
                }
                assert!(seen.iter().eq(run.iter().map(|(_, bytes)| bytes)), "in order");
            }
        }
    });
}

#[test]
fn what_makes_and_keeps_tunnels_goes_by_the_sockets() {
    with_gateway("::", |bed, mut gateway| {
        let there = listen_there(&bed, "10.0.0.2:9");
        let wireguard = path(Port::WireGuard, "10.0.0.2:9", None);
        gateway.until_known(wireguard);
        let before = gateway.counts();
        let nat_t = path(Port::IkeNatT, "10.0.0.2:9", None);
        let control = [(wireguard, vec![1; 148]), (wireguard, vec![2; 92]), (nat_t, vec![0; 30]), (nat_t, vec![0xff])];
        assert_eq!(gateway.send(&control).sent_datagrams, 4);
        assert_eq!(gateway.counts(), before);
        let mut seen = Vec::new();
        while seen.len() < 4 {
            let (bytes, _) = received(&there);
            seen.extend((bytes.len() != 60).then_some(bytes.len()));
        }
        seen.sort();
        assert_eq!(seen, [1, 30, 92, 148]);
    });
}

#[test]
fn others_traffic_stays_the_kernels_and_what_is_forwarded_is_not_taken() {
    with_gateway("0.0.0.0", |bed, mut gateway| {
        bed.there().sh("ping -c3 -i0.1 -W2 10.0.0.1 >/dev/null; ping -c1 -W2 fd00::1 >/dev/null; ip route add 10.7.0.0/24 via 10.0.0.1");
        // We are a router before another machine with a tunnel's port.
        sh(
            "sysctl -qw net.ipv4.ip_forward=1; ip link add ixr type veth peer name ixq; ip link set ixr up; ip link set ixq up; \
            ip addr add 10.7.0.1/24 dev ixr; ip neigh add 10.7.0.9 lladdr 02:00:00:00:00:99 dev ixr",
        );
        (0..10).for_each(|_| drop(gateway.turn()));
        send_from_there(&bed, "10.7.0.9:51820", vec![data(1, 100); 5]);
        send_from_there(&bed, "10.0.0.1:51821", vec![data(1, 100); 5]);
        send_from_there(&bed, "10.7.0.1:51820", vec![data(2, 100); 5]);
        let told = gateway.receive(5);
        assert!(told.len() == 5 && told.iter().all(|(path, ..)| path.local == "10.7.0.1".parse().ok()), "{told:?}");
        assert_eq!(gateway.counts().received, 5, "any address of ours");
        // `ForwDatagrams`.
        let forwarded = sh("awk '/^Ip:/ {print $7}' /proc/thread-self/net/snmp | tail -1");
        assert_eq!(forwarded.trim(), "5");
    });
}

#[test]
fn a_neighbour_that_moves_is_followed_and_one_that_is_gone_is_left_to_the_sockets() {
    with_gateway("::", |bed, mut gateway| {
        let there = listen_there(&bed, "10.0.0.2:9");
        let path = path(Port::WireGuard, "10.0.0.2:9", None);
        gateway.until_known(path);
        bed.there().sh("ip link set ixb address 02:00:00:00:00:77");
        sh("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:77 dev ixa nud reachable");
        (0..5).for_each(|_| drop(gateway.turn()));
        let before = gateway.counts();
        gateway.send(&[(path, data(5, 300))]);
        assert_eq!(gateway.counts().sent, before.sent + 1);
        while received(&there).0 != data(5, 300) {}

        sh("ip neigh del 10.0.0.2 dev ixa");
        (0..5).for_each(|_| drop(gateway.turn()));
        let before = gateway.counts();
        gateway.send(&[(path, data(6, 300))]);
        assert_eq!(gateway.counts(), UplinkCounts { no_way: before.no_way + 1, ..before });
        while received(&there).0 != data(6, 300) {}
        gateway.until_known(path);
    });
}

#[test]
fn an_interface_that_goes_down_is_left_to_the_sockets_and_comes_back() {
    with_gateway("::", |bed, mut gateway| {
        let path = path(Port::WireGuard, "10.0.0.2:9", None);
        gateway.until_known(path);
        sh("ip link set ixa down");
        gateway.until(|gateway| gateway.state() != "AF_XDP native, copy");
        gateway.turn();
        let before = gateway.counts();
        gateway.send(&[(path, data(6, 300))]);
        assert_eq!((gateway.counts().sent, gateway.counts().no_way), (before.sent, before.no_way + 1));
        sh("ip link set ixa up; ip route add 10.9.0.0/16 via 10.0.0.2");
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy");
        gateway.until_known(path);
        send_from_there(&bed, "10.0.0.1:51820", vec![data(1, 32); 3]);
        let before = gateway.counts();
        assert_eq!(gateway.receive(3).len(), 3);
        assert_eq!(gateway.counts().received, before.received + 3);
    });
}

#[test]
fn an_interface_that_is_taken_away_is_closed_and_another_of_its_name_is_opened() {
    with_gateway("::", |_bed, mut gateway| {
        sh("ip link del ixa");
        gateway.until(|gateway| gateway.state() == "there is no such interface");
        gateway.turn();
        let before = gateway.counts();
        gateway.send(&[
            (path(Port::WireGuard, "10.0.0.2:9", None), data(6, 300)),
            (path(Port::WireGuard, "10.0.0.2:9", None), vec![1; 148]),
        ]);
        assert_eq!(
            gateway.counts(),
            UplinkCounts { no_way: before.no_way + 1, ..before },
            "what goes by the sockets is counted"
        );
        let again = crate::io::frames::testbed::There::behind("ixa");
        again.sh("ip addr add 10.0.0.2/24 dev ixb");
        sh("ip addr add 10.0.0.1/24 dev ixa");
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy");
        gateway.until_known(path(Port::WireGuard, "10.0.0.2:9", None));
    });
}

#[test]
fn where_the_kernel_has_ipsec_policies_the_sockets_carry_all() {
    with_gateway("::", |_bed, mut gateway| {
        let of = "src 10.0.0.0/8 dst 10.99.0.0/16 dir out";
        let add = format!("ip xfrm policy add {of} tmpl src 10.0.0.1 dst 10.0.0.2 proto esp mode tunnel");
        if let Err(why) = try_sh(&add) {
            return eprintln!("NOT RUN: no IPsec in this kernel: {why}");
        }
        gateway.keeper.look_again();
        gateway.until(|gateway| gateway.state().contains("IPsec policies"));
        sh(&format!("ip xfrm policy delete {of}"));
        gateway.turn();
        gateway.keeper.look_again();
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy");
        gateway.until_known(path(Port::WireGuard, "10.0.0.2:9", None));
    });
}

#[test]
fn all_receive_queues_are_taken_from() {
    with_gateway("::", |bed, mut gateway| {
        sh("ip link del ixa");
        gateway.until(|gateway| gateway.state() == "there is no such interface");
        let there =
            bed.there().run(|| std::fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_owned());
        let queues = "numrxqueues 4 numtxqueues 4";
        sh(&format!(
            "ip link add ixa {queues} type veth peer name ixb {queues}; ip link set ixb netns {}; ip link set ixa up; ip addr add 10.0.0.1/24 dev ixa",
            there.display()
        ));
        bed.there().sh("ip link set ixb up; ip addr add 10.0.0.2/24 dev ixb");
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy, 4 queues");
        (0..5).for_each(|_| drop(gateway.turn()));
        // The other end's kernel chooses the queue by a hash over ports.
        bed.there().run(|| {
            for _ in 0..200 {
                let socket = StdSocket::bind("10.0.0.2:0").unwrap();
                socket.send_to(&data(1, 64), "10.0.0.1:51820").unwrap();
            }
        });
        assert_eq!(gateway.receive(200).len(), 200);
        assert_eq!(gateway.counts().received, 200);
        gateway.until_known(path(Port::WireGuard, "10.0.0.2:9", None));
    });
}

#[test]
fn another_mtu_or_hardware_address_is_another_opening() {
    with_gateway("::", |bed, mut gateway| {
        let path = path(Port::WireGuard, "10.0.0.2:9", None);
        gateway.until_known(path);
        sh("ip link set ixa mtu 2500");
        bed.there().sh("ip link set ixb mtu 2500");
        (0..20).for_each(|_| drop(gateway.turn()));
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy");
        send_from_there(&bed, "10.0.0.1:51820", vec![data(1, 2400); 3]);
        assert_eq!(gateway.receive(3).len(), 3);
        assert_eq!(gateway.counts().received, 3);
        sh("ip link set ixa address 02:00:00:00:00:55");
        (0..20).for_each(|_| drop(gateway.turn()));
        gateway.until(|gateway| gateway.state() == "AF_XDP native, copy");
        bed.there().sh("ip neigh replace 10.0.0.1 lladdr 02:00:00:00:00:55 dev ixb");
        send_from_there(&bed, "10.0.0.1:51820", vec![data(1, 400); 3]);
        assert_eq!(gateway.receive(3).len(), 3);
        assert_eq!(gateway.counts().received, 6);
    });
}

/// The kernel finds the socket by addresses and ports, whoever has sent.
#[test]
fn what_routers_say_of_the_path_comes_to_the_sockets_and_what_is_too_long_is_theirs() {
    with_gateway("::", |_bed, mut gateway| {
        let far = path(Port::WireGuard, "10.9.0.9:9", Some("10.0.0.1"));
        gateway.until_known(far);
        let before = gateway.counts();
        assert_eq!(gateway.send(&[(far, data(6, 1400))]).sent_datagrams, 1);
        assert_eq!(gateway.counts().sent, before.sent + 1);
        let (mut reports, begun) = (Vec::new(), Instant::now());
        while reports.is_empty() {
            assert!(begun.elapsed() < PATIENCE);
            let ready = gateway.poller.wait(Some(Duration::from_millis(5))).unwrap();
            gateway.sockets.note_ready(ready);
            gateway.sockets.recv_errors(&mut reports);
        }
        assert_eq!((reports[0].remote, reports[0].mtu_bytes), (far.remote, 1280));

        let before = gateway.counts();
        let report = gateway.send(&[(far, data(6, 1480))]);
        assert_eq!((report.refused_datagrams, gateway.counts().too_long), (1, before.too_long + 1));
        assert_eq!(report.first_error.and_then(|error| error.raw_os_error()), Some(libc::EMSGSIZE));
    });
}

#[test]
fn what_goes_one_way_stays_together_when_some_of_it_is_for_the_sockets() {
    with_gateway("::", |bed, mut gateway| {
        let there = listen_there(&bed, "10.0.0.2:9");
        let path = path(Port::WireGuard, "10.0.0.2:9", None);
        gateway.until_known(path);
        let before = gateway.counts().sent;
        let sent = [(path, data(7, 300)), (path, vec![1; 148]), (path, data(8, 300))];
        assert_eq!(gateway.send(&sent).sent_datagrams, 3);
        assert_eq!(gateway.counts().sent, before);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            let (bytes, _) = received(&there);
            seen.extend((bytes.len() != 60).then_some(bytes));
        }
        assert!(seen.iter().eq(sent.iter().map(|(_, bytes)| bytes)), "in order");
    });
}

/// Whole, from the other end's port 7 to ours.
fn frame(ours: &str, theirs: &str, payload: &[u8]) -> Vec<u8> {
    let next_hop_mac = interface::mac("ixa").unwrap().unwrap();
    let device_mac = crate::net::Mac([2, 0, 0, 0, 0, 9]);
    let source = theirs.parse().unwrap();
    let way = Way { device: 1, device_mac, next_hop_mac, source, hop_limit: 64, mtu_bytes: 1500 };
    let fields = Fields { source_port: 7, destination_port: 51820, traffic_class: 0, may_fragment: false };
    let mut template = Template::new(&way, ours.parse().unwrap()).unwrap().with(fields);
    [template.finish(payload, 0), payload].concat()
}

#[test]
fn the_program_takes_plain_frames_to_us_alone() {
    with_gateway("::", |bed, mut gateway| {
        let v4 = frame("10.0.0.1", "10.0.0.2", &data(1, 32));
        let v6 = frame("fd00::1", "fd00::2", &data(1, 32));
        let changed = |frame: &[u8], at: usize, value: u8| {
            let mut changed = frame.to_vec();
            changed[at] = value;
            changed
        };
        let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        let with_hop_by_hop = {
            let mut frame = [&v6[..54], &[17, 0, 1, 4, 0, 0, 0, 0], &v6[54..]].concat();
            frame[20] = 0;
            frame
        };
        let others = [
            changed(&v4, 5, v4[5] ^ 1),
            changed(&v4, 14, 0x46),
            changed(&v4, 20, 0x20),
            changed(&v4, 21, 1),
            changed(&v4, 23, 6),
            changed(&v4, 33, 99),
            changed(&v4, 37, 0),
            changed(&v4, 42, 3),
            changed(&v4, 45, 1),
            tagged(&v4),
            v4[..49].to_vec(),
            changed(&v6, 20, 44),
            changed(&v6, 53, 99),
            with_hop_by_hop,
            tagged(&v6),
            v6[..69].to_vec(),
        ];
        let (damaged, whole) = (changed(&v4, 60, 7), [v4, v6]);
        let all: Vec<Vec<u8>> = others.into_iter().chain([damaged]).chain(whole).collect();
        bed.there().run(move || {
            let socket = sys::open_packet().unwrap();
            sys::bind_packet(socket.as_fd(), interface::index("ixb").unwrap(), 0).unwrap();
            all.iter().for_each(|frame| sys::send(socket.as_fd(), &[frame]).unwrap());
        });
        let told = gateway.receive(2);
        assert_eq!(told.len(), 2, "{told:?}");
        (0..5).for_each(|_| assert!(gateway.turn().is_empty()));
        assert_eq!(gateway.counts(), UplinkCounts { received: 2, damaged: 1, ..UplinkCounts::default() });
    });
}

#[test]
fn what_the_ring_has_no_room_for_is_lost_and_counted_and_handshakes_are_not() {
    with_gateway("::", |bed, mut gateway| {
        for _ in 0..30 {
            send_from_there(&bed, "10.0.0.1:51820", vec![data(1, 64); 100]);
        }
        send_from_there(&bed, "10.0.0.1:51820", vec![vec![1; 148]; 3]);
        let (begun, mut told) = (Instant::now(), Vec::new());
        while gateway.counts().received + gateway.counts().lost < 3000
            || told.iter().filter(|one| **one == 148).count() < 3
        {
            assert!(begun.elapsed() < PATIENCE, "{:?}", gateway.counts());
            told.extend(gateway.turn().into_iter().map(|(_, bytes, _)| bytes.len()));
        }
        let counts = gateway.counts();
        assert!(counts.lost > 0 && counts.received >= 2048, "{counts:?}");
        send_from_there(&bed, "10.0.0.1:51820", vec![data(1, 64); 100]);
        assert_eq!(gateway.receive(100).len(), 100);
        assert_eq!(gateway.counts().lost, counts.lost);
    });
}

/// Without sockets: what each receive makes can be looked at.
struct Bare {
    desk: Desk,
    keeper: Keeper,
    uplinks: Uplinks,
}

impl Bare {
    fn open() -> Option<Self> {
        let desk = Desk::default();
        let mut uplinks = Uplinks::new(desk.clone()).unwrap();
        uplinks.listen(vec![(Port::WireGuard, "[::]:51820".parse().unwrap())]);
        let keeper = match Keeper::new(desk.clone(), vec!["ixa".to_owned()]) {
            Ok(keeper) => keeper,
            Err(error) => {
                eprintln!("NOT RUN: {error}");
                return None;
            }
        };
        Some(Bare { desk, keeper, uplinks })
    }

    fn until(&mut self, state: &str) {
        let begun = Instant::now();
        let is = |keeper: &Keeper| matches!(keeper.states().get("ixa"), Some(Ok(is) | Err(is)) if is == state);
        while !is(&self.keeper) {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.keeper.states());
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.keeper.turn(Duration::from_millis(5)).unwrap();
    }

    /// Whether it calls for another receive.
    fn calls(&self) -> bool {
        let mut poller = Poller::new().unwrap();
        poller.add(self.uplinks.fd(), 0).unwrap();
        poller.wait(Some(Duration::from_millis(20))).unwrap().is_readable(0)
    }
}

fn with_bare(queues: u32, test: impl FnOnce(Testbed, Bare) + Send + 'static) {
    with_testbed(move |bed| {
        sh("ip link del ixa");
        let there =
            bed.there().run(|| std::fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_owned());
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        sh(&format!(
            "ip link add ixa {queues} type veth peer name ixb {queues}; ip link set ixb netns {}; ip link set ixa up; ip addr add 10.0.0.1/24 dev ixa",
            there.display()
        ));
        bed.there().sh("ip link set ixb up; ip addr add 10.0.0.2/24 dev ixb");
        let Some(mut bare) = Bare::open() else { return };
        let state = if queues.contains('4') { "AF_XDP native, copy, 4 queues" } else { "AF_XDP native, copy" };
        bare.until(state);
        (0..5).for_each(|_| bare.turn());
        test(bed, bare);
    });
}

#[test]
fn a_flood_of_one_queue_leaves_room_for_the_others() {
    with_bare(4, |bed, mut bare| {
        bare.uplinks.receive().unwrap();
        // One of 16 senders floods at a time: each queue has its turn, by the other end's hash over ports.
        for _ in 0..16 {
            let flooding = bed.there().run(|| {
                let flood = StdSocket::bind("10.0.0.2:0").unwrap();
                (0..200).for_each(|_| _ = flood.send_to(&data(2, 64), "10.0.0.1:51820").unwrap());
                // Behind it, where they come by the same queue.
                for _ in 0..32 {
                    let socket = StdSocket::bind("10.0.0.2:0").unwrap();
                    socket.send_to(&data(1, 64), "10.0.0.1:51820").unwrap();
                }
                flood.local_addr().unwrap()
            });
            std::thread::sleep(Duration::from_millis(10));
            let reading = bare.uplinks.receive().unwrap();
            assert_eq!((reading.frames, reading.datagrams, reading.may_have_more), (BATCH, BATCH, true));
            let others = bare.uplinks.datagrams().filter(|datagram| datagram.path.remote != flooding).count();
            assert!((1..BATCH).contains(&others), "{others}");
            while bare.uplinks.receive().unwrap().may_have_more {}
        }
    });
}

#[test]
fn damaged_frames_are_counted_into_the_batch() {
    with_bare(1, |bed, mut bare| {
        bare.uplinks.receive().unwrap();
        let mut damaged = frame("10.0.0.1", "10.0.0.2", &data(1, 32));
        *damaged.last_mut().unwrap() ^= 1;
        bed.there().run(move || {
            let socket = sys::open_packet().unwrap();
            sys::bind_packet(socket.as_fd(), interface::index("ixb").unwrap(), 0).unwrap();
            (0..100).for_each(|_| sys::send(socket.as_fd(), &[&damaged]).unwrap());
        });
        std::thread::sleep(Duration::from_millis(10));
        let readings = [(); 3].map(|()| bare.uplinks.receive().unwrap());
        assert_eq!(readings.map(|one| (one.frames, one.datagrams)), [(BATCH, 0), (100 - BATCH, 0), (0, 0)]);
        assert_eq!(readings.map(|one| one.may_have_more), [true, true, false]);
        assert_eq!(bare.uplinks.counts().damaged, 100);
    });
}

#[test]
fn a_call_that_comes_behind_its_answer_is_heard_and_ends() {
    let desk = Desk::default();
    let mut uplinks = Uplinks::new(desk.clone()).unwrap();
    let mut poller = Poller::new().unwrap();
    poller.add(uplinks.fd(), 0).unwrap();
    let mut calls = || poller.wait(Some(Duration::ZERO)).unwrap().is_readable(0);
    desk.answer(|answers| answers.sweep = true);
    assert!(calls());
    uplinks.receive().unwrap();
    assert!(!calls());
    uplinks.poller.waker().wake();
    assert!(calls());
    uplinks.receive().unwrap();
    assert!(!calls());
}

#[test]
fn ways_are_learned_a_few_at_a_time() {
    let desk = Desk::default();
    let mut uplinks = Uplinks::new(desk.clone()).unwrap();
    let key = |number: u32| Key { remote: std::net::Ipv4Addr::from(number).into(), local: None };
    desk.answer(|answers| answers.ways.extend((0..600).map(|number| (key(number), None))));
    let readings = [(); 3].map(|()| uplinks.receive().unwrap());
    assert_eq!(readings.map(|one| one.answers), [2 * MAX_ANSWERS, 600 - 2 * MAX_ANSWERS, 0]);
    assert_eq!(readings.map(|one| one.may_have_more), [true, false, false]);
}

#[test]
fn what_the_packet_path_cannot_take_goes_back_and_is_not_open() {
    with_bare(1, |_bed, mut bare| {
        // As if it were there already: the poller refuses it.
        let poller = &bare.uplinks.poller;
        bare.desk.answer(|answers| poller.add(answers.opened[0].descriptors().next().unwrap(), 99).unwrap());
        bare.uplinks.receive().unwrap();
        assert!(bare.uplinks.queues.is_empty());
        bare.until("it has failed, and is opened again in a while");
        assert!(!sh("ip link show ixa").contains("xdp"));
        (0..5).for_each(|_| _ = bare.uplinks.receive().unwrap());
        assert!(!bare.calls());
    });
}

#[test]
fn what_fails_is_off_at_once_and_is_opened_again_only_after_a_while() {
    with_bare(1, |_bed, mut bare| {
        bare.uplinks.receive().unwrap();
        assert!(sh("ip link show ixa").contains("xdp"));
        let device = interface::index("ixa").unwrap();
        bare.desk.try_question(|questions| questions.failed.push(device)).unwrap();
        bare.turn();
        assert!(!sh("ip link show ixa").contains("xdp"), "before the packet path knows");
        bare.uplinks.receive().unwrap();
        assert!(!bare.calls());
        bare.until("it has failed, and is opened again in a while");
        for _ in 0..20 {
            bare.turn();
            bare.uplinks.receive().unwrap();
        }
        assert!(!sh("ip link show ixa").contains("xdp"));
        sh("ip link set ixa mtu 1400");
        bare.until("AF_XDP native, copy");
    });
}

#[test]
fn another_number_of_queues_is_another_opening() {
    with_bare(4, |_bed, mut bare| {
        bare.uplinks.receive().unwrap();
        if let Err(why) = try_sh("ethtool -L ixa rx 2 tx 4") {
            return eprintln!("NOT RUN: {why}");
        }
        bare.keeper.look_again();
        bare.turn();
        bare.uplinks.receive().unwrap();
        bare.until("AF_XDP native, copy, 2 queues");
    });
}

#[test]
fn link_local_senders_are_the_sockets() {
    with_gateway("::", |bed, mut gateway| {
        bed.there().sh("ip addr add fe80::9/64 dev ixb nodad");
        let frames = ["fe80::9", "fd00::2"].map(|theirs| frame("fd00::1", theirs, &data(1, 32)));
        bed.there().run(move || {
            let socket = sys::open_packet().unwrap();
            sys::bind_packet(socket.as_fd(), interface::index("ixb").unwrap(), 0).unwrap();
            frames.iter().for_each(|frame| sys::send(socket.as_fd(), &[frame]).unwrap());
        });
        let told = gateway.receive(2);
        let scopes = told.iter().map(|(path, ..)| match path.remote {
            SocketAddr::V6(remote) => (remote.ip().is_unicast_link_local(), remote.scope_id() != 0),
            SocketAddr::V4(_) => panic!("{told:?}"),
        });
        let mut scopes: Vec<_> = scopes.collect();
        scopes.sort();
        assert_eq!(scopes, [(false, false), (true, true)]);
        assert_eq!(gateway.counts().received, 1);
    });
}
