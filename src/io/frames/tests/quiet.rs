//! What the kernel does on an interface that a driver has, seen from the other end: nothing.

use super::*;
use crate::io::frames::af_packet::AfPacket;
use crate::io::frames::quiet::Quiet;
use crate::net::Mac;

/// What the kernel would answer or forward if it were not kept quiet: who has an address of another interface; echo to it; what is to be
/// forwarded and is too old (which it says); the same by IPv6.
fn probes(ours: Mac) -> Vec<Vec<u8>> {
    let from = [2, 0, 0, 0, 0, 0xee];
    let ethernet = |to: [u8; 6], kind: [u8; 2], rest: &[u8]| [&to[..], &from, &kind, rest].concat();
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &from, &[172, 20, 0, 9], &[0; 6], &[10, 9, 9, 1]].concat();
    let echo4 = |to: [u8; 4], ttl: u8| {
        let mut ip = [&[0x45, 0, 0, 28, 0, 0, 0, 0, ttl, 1, 0, 0, 172, 20, 0, 9][..], &to].concat();
        let sum = offload::checksum::finish(offload::checksum::add(0, &ip));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        [&ip[..], &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]].concat()
    };
    let echo6 = |to: [u8; 16], hops: u8| {
        let from: [u8; 16] = "fd00::9".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mut icmp = [128, 0, 0, 0, 0, 1, 0, 1];
        let pseudo = offload::checksum::add(offload::checksum::add(58 + 8, &from), &to);
        let sum = offload::checksum::finish(offload::checksum::add(pseudo, &icmp));
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        [&[0x60, 0, 0, 0, 0, 8, 58, hops][..], &from, &to, &icmp].concat()
    };
    let v6 = |address: &str| address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    vec![
        ethernet([255; 6], [8, 6], &arp),
        ethernet(ours.0, [8, 0], &echo4([10, 9, 9, 1], 64)),
        ethernet(ours.0, [8, 0], &echo4([10, 9, 9, 7], 1)),
        ethernet(ours.0, [0x86, 0xdd], &echo6(v6("fd09::1"), 64)),
        ethernet(ours.0, [0x86, 0xdd], &echo6(v6("fd09::7"), 1)),
    ]
}

/// Whether anything of ours comes to the other end in answer to each probe, alone.
fn answers_to_probes(bed: &Testbed, ours: Mac, tap: &mut dyn Driver, there: &mut dyn Driver) -> Vec<bool> {
    let mut marker = frame(2, 60);
    marker[6..12].copy_from_slice(&ours.0);
    // What the kernel has sent until now.
    let mut hear = || {
        send_by("ixa", std::slice::from_ref(&marker));
        let mut heard = Vec::new();
        while !heard.contains(&marker) {
            heard.extend(collect(there, 1, |bytes| bytes[6..12] == ours.0));
        }
        heard[0] != marker
    };
    hear();
    let probes = probes(ours).into_iter();
    let answers = probes.map(|probe| {
        send_there(bed, vec![probe.clone(), frame(1, 60)]);
        // Behind the probe: when it is seen, the kernel has done with the probe.
        let seen = collect(tap, 2, |bytes| is_experiment(bytes) || bytes == probe);
        assert_eq!(seen[0], probe, "we see what the kernel does not");
        hear()
    });
    answers.collect()
}

/// A router that has an interface beside ours, with addresses, and answers there.
fn make_a_router() -> There {
    let beyond = There::behind("ixc");
    sh(
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ixa.rp_filter=0",
    );
    sh("ip addr add 10.9.9.1/24 dev ixc; ip addr add fd09::1/64 dev ixc nodad; ip addr add fd00::1/64 dev ixa nodad");
    sh("ip route add 172.20.0.0/24 dev ixa");
    for address in ["172.20.0.9", "fd00::9"] {
        sh(&format!("ip neigh add {address} lladdr 02:00:00:00:00:ee dev ixa"));
    }
    beyond
}

/// Only looks, and leaves the kernel as it is.
fn loud(name: &str, interface_index: u32) -> Quiet {
    Quiet::not_at_all(name, interface_index)
}

#[test]
fn the_kernel_neither_answers_nor_forwards_what_comes_in_while_a_driver_has_the_interface() {
    with_testbed(|bed| {
        let _beyond = make_a_router();
        let ours = interface::mac("ixa").unwrap().unwrap();
        let mut there: Box<dyn Driver> =
            bed.there().run(|| Box::new(AfPacket::open_keeping(PORT, "ixb", loud).unwrap()));
        let open_with = |quiet| AfPacket::open_keeping(PORT, "ixa", quiet).unwrap();

        let mut tap = open_with(loud);
        assert_eq!(answers_to_probes(&bed, ours, &mut tap, &mut *there), [true; 5], "the probes are good ones");
        drop(tap);
        let mut port = open_with(Quiet::new);
        assert!(port.warnings().is_empty(), "{:?}", port.warnings());
        assert_eq!(answers_to_probes(&bed, ours, &mut port, &mut *there), [false; 5]);
        drop(port);
        let mut port = open_with(Quiet::without_barrier);
        let by_settings = answers_to_probes(&bed, ours, &mut port, &mut *there);
        assert_eq!(
            by_settings,
            [false, true, false, false, false],
            "those that it has a route to may speak to the host itself"
        );
        sh("ip route del 172.20.0.0/24 dev ixa; ip route add default via 10.9.9.2");
        assert_eq!(answers_to_probes(&bed, ours, &mut port, &mut *there), [false; 5], "and nobody else");
    });
}

#[test]
fn a_filter_that_all_makes_loose_is_told_where_nothing_else_stops_frames() {
    with_testbed(|_bed| {
        let loose = |quiet| {
            let port = AfPacket::open_keeping(PORT, "ixa", quiet).unwrap();
            port.warnings().iter().any(|warning| warning.contains("net.ipv4.conf.all.rp_filter=2"))
        };
        for (all, is_told) in [(0, false), (1, false), (2, true)] {
            sh(&format!("sysctl -qw net.ipv4.conf.all.rp_filter={all}"));
            assert_eq!((loose(Quiet::without_barrier), loose(Quiet::new)), (is_told, false), "{all}");
        }
    });
}

#[test]
fn settings_are_set_back_when_the_last_driver_is_closed_and_the_barrier_is_gone() {
    with_testbed(|bed| {
        let _beyond = make_a_router();
        let ours = interface::mac("ixa").unwrap().unwrap();
        let settings = || {
            sh("cd /proc/sys/net; cat ipv4/conf/ixa/arp_ignore ipv4/conf/ixa/forwarding ipv4/conf/ixa/rp_filter \
                ipv6/conf/ixa/disable_ipv6 ipv6/conf/ixa/forwarding")
            .replace('\n', " ")
        };
        assert_eq!(settings(), "0 1 0 0 1 ");
        let first = open_port();
        assert_eq!(settings(), "8 0 1 1 0 ");
        let second = open_port();
        drop(first);
        assert_eq!(settings(), "8 0 1 1 0 ", "the second still has the interface");
        drop(second);
        assert_eq!(settings(), "0 1 0 0 1 ");
        let mut there: Box<dyn Driver> =
            bed.there().run(|| Box::new(AfPacket::open_keeping(PORT, "ixb", loud).unwrap()));
        let mut tap = AfPacket::open_keeping(PORT, "ixa", loud).unwrap();
        let answers = answers_to_probes(&bed, ours, &mut tap, &mut *there);
        assert_eq!(answers[..3], [true; 3], "by IPv4 as before; the IPv6 address went with the driver");
    });
}
