//! Sessions across the walk: TCP connections and their ends, protocols without ports, and errors of routers on the way.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::Lan;
use ixgate::sim::packets::{packet, port_unreachable, segment, time_exceeded, udp, verify};
use ixgate::wire::tcp::flag;

/// A may open anything in B, and B nothing in A.
const TWO: &str = r#"
[wireguard]
private_key_file = "secrets/wireguard.key"
[sessions]
tcp_established_secs = 8000
tcp_opening_secs = 30
[[realm]]
name = "a"
networks = ["192.168.1.0/24", "fd00:a::/64"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24", "fd00:b::/64"]
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;

const A: usize = 0;
const B: usize = 1;

struct Fixture {
    lan: Lan,
    appliance: Appliance,
    /// A's host, as B sees it, and B's, as A does.
    a_for_b: IpAddr,
    b_for_a: IpAddr,
}

impl Fixture {
    fn start() -> Self {
        let appliance = Appliance::build(TWO);
        Fixture {
            lan: Lan::start(&appliance, &["a", "b"]),
            a_for_b: appliance.seen_by("b", "a", "192.168.1.10"),
            b_for_a: appliance.seen_by("a", "b", "192.168.1.10"),
            appliance,
        }
    }

    /// Sends, and expects it to arrive at the other site.
    fn cross(&mut self, site: usize, packet: &[u8]) -> Vec<u8> {
        let mut arrivals = self.lan.send(site, packet);
        assert_eq!(arrivals.len(), 1, "{:?}", self.lan.report());
        let (to, packet) = arrivals.remove(0);
        assert_eq!(to, 1 - site);
        packet
    }

    /// Sends, and expects nothing to arrive, for this reason.
    fn expect_drop(&mut self, site: usize, packet: &[u8], reason: DropReason) {
        let before = self.drops(site, reason);
        assert_eq!(self.lan.send(site, packet), [], "{}", reason.name());
        assert_eq!(self.drops(site, reason), before + 1, "{}: {:?}", reason.name(), self.lan.report());
    }

    fn drops(&self, site: usize, reason: DropReason) -> u64 {
        self.appliance.drops(&self.lan.report(), ["a", "b"][site], reason)
    }

    fn sessions(&self) -> usize {
        self.lan.report().sessions
    }

    fn secs(&mut self, secs: u64) {
        let then = self.lan.now + Duration::from_secs(secs);
        self.lan.advance_to(then);
        [A, B].into_iter().for_each(|site| self.lan.connect(site)); // WireGuard's keys last three minutes
    }

    fn client(&self, numbers: (u32, u32), flags: u8) -> Vec<u8> {
        segment((HOST, 5000), (self.b_for_a, 443), numbers, flags, b"")
    }

    fn server(&self, numbers: (u32, u32), flags: u8) -> Vec<u8> {
        segment((HOST, 443), (self.a_for_b, 5000), numbers, flags, b"")
    }

    /// Afterwards the client sends number 101 next, and the server 901.
    fn establish(&mut self) {
        self.cross(A, &self.client((100, 0), flag::SYN));
        self.cross(B, &self.server((900, 101), flag::SYN | flag::ACK));
        self.cross(A, &self.client((101, 901), flag::ACK));
    }
}

/// In both realms.
const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 10));

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_guessed_reset_passes_and_ends_nothing_and_a_right_one_ends_it_in_four_minutes() {
    let mut f = Fixture::start();
    f.establish();
    for seq in (0..=u32::MAX).step_by(1 << 24) {
        f.cross(B, &f.server((seq, 0), flag::RST));
    }
    f.secs(7000);
    assert_eq!(f.sessions(), 1);
    f.cross(B, &f.server((901, 0), flag::RST));
    f.secs(200);
    assert_eq!(f.sessions(), 1);
    f.secs(60);
    assert_eq!(f.sessions(), 0);
}

#[test]
fn idle_times_are_the_configurations_also_for_what_is_open_when_it_changes() {
    let mut f = Fixture::start();
    f.cross(A, &f.client((100, 0), flag::SYN));
    f.secs(40);
    assert_eq!(f.sessions(), 0, "half open");
    f.establish();
    f.secs(7700);
    assert_eq!(f.sessions(), 1, "longer than the default");
    let snapshot = f.appliance.change(&TWO.replace("8000", "7440"));
    let now = f.lan.now;
    f.lan.engine.publish(snapshot, now);
    f.secs(40);
    assert_eq!(f.sessions(), 0);
}

#[test]
fn a_connection_survives_a_restart_of_the_appliance_when_its_opener_speaks() {
    let mut f = Fixture::start();
    f.establish();
    let mut f = Fixture::start();
    f.expect_drop(B, &f.server((901, 101), flag::ACK), DropReason::NotGranted);
    f.cross(A, &f.client((101, 901), flag::ACK));
    f.cross(B, &f.server((901, 101), flag::ACK));
    f.secs(7000);
    assert_eq!(f.sessions(), 1, "established");
    f.expect_drop(B, &f.server((0, 0), flag::SYN), DropReason::NotGranted);
}

#[test]
fn protocols_without_ports_cross_by_address_and_nothing_behind_the_ip_header_changes() {
    const ECT0_EF: u8 = 46 << 2 | 2;
    for protocol in [47, 50, 132, 253] {
        let mut f = Fixture::start();
        let (a_v6, b_v6) = (ip("fd00:a::10"), ip("fd00:b::10"));
        let message: Vec<u8> = (0..64u8).map(|byte| byte ^ protocol).collect();
        for (from, to) in [(HOST, f.b_for_a), (a_v6, b_v6)] {
            let mut there = packet(from, to, protocol, message.clone());
            if from.is_ipv6() {
                there[..2].copy_from_slice(&(6 << 12 | u16::from(ECT0_EF) << 4).to_be_bytes());
            }
            let arrived = f.cross(A, &there);
            let headers = verify(&arrived).unwrap();
            assert_eq!(headers.protocol, protocol);
            assert_eq!(arrived[headers.transport_offset..], message, "protocol {protocol}");
            assert_eq!(arrived[..2], there[..2], "DSCP and ECN");
            let back = packet(headers.destination, headers.source, protocol, message.clone());
            let arrived = f.cross(B, &back);
            assert_eq!(verify(&arrived).map(|headers| (headers.source, headers.destination)), Ok((to, from)));
            let other = packet(headers.destination, headers.source, protocol + 1, message.clone());
            f.expect_drop(B, &other, DropReason::NotGranted);
        }
        assert_eq!(f.sessions(), 2);
        f.secs(330);
        assert_eq!(f.sessions(), 0);
    }
}

#[test]
fn dscp_and_ecn_are_kept_in_ipv4_too() {
    let mut f = Fixture::start();
    for tos in [0, 46 << 2, 46 << 2 | 1, 2, 3] {
        let mut there = udp((HOST, 5000), (f.b_for_a, 53), b"hello");
        there[1] = tos;
        // RFC 1624, for the byte that was zero.
        let sum = !u16::from_be_bytes([there[10], there[11]]);
        let (sum, carry) = sum.overflowing_add(tos.into());
        there[10..12].copy_from_slice(&(!(sum + u16::from(carry))).to_be_bytes());
        let arrived = f.cross(A, &there);
        verify(&arrived).unwrap();
        assert_eq!(arrived[1], tos);
    }
}

#[test]
fn checksums_over_addresses_are_right_afterwards_where_there_are_any() {
    for protocol in [33, 136] {
        let mut f = Fixture::start();
        let message = [&[0x13, 0x88, 0, 53, 0, 0, 0, 0][..], b"covered wholly"].concat();
        let arrived = f.cross(A, &packet(HOST, f.b_for_a, protocol, message));
        verify(&arrived).unwrap();
        let back = port_unreachable(HOST, f.a_for_b, &arrived);
        let arrived = f.cross(B, &back);
        let headers = verify(&arrived).unwrap();
        assert_eq!(verify(&arrived[headers.transport_offset + 8..]).map(|quoted| quoted.source), Ok(HOST));
    }
}

#[test]
fn a_router_outside_of_the_networks_may_report_and_is_shown_as_the_ix() {
    let mut f = Fixture::start();
    let v6 = (ip("fd00:a::10"), ip("fd00:b::10"), ip("fd00:a::10"), ip("2001:db8:ffff::1"), ip("fd69:7867:6174::1"));
    let v4 = (HOST, f.b_for_a, f.a_for_b, ip("10.255.0.1"), ip("100.64.0.1"));
    for (host, to, host_for_b, router, gateway) in [v4, v6] {
        let probe = udp((host, 33434), (to, 33435), b"probe");
        let arrived = f.cross(A, &probe);
        let error = time_exceeded(router, host_for_b, &arrived);
        let reported = f.cross(B, &error);
        let headers = verify(&reported).unwrap();
        assert_eq!((headers.source, headers.destination), (gateway, host));
        let quoted = verify(&reported[headers.transport_offset + 8..]).unwrap();
        assert_eq!((quoted.source, quoted.destination), (host, to), "as its sender knows it");

        let never_sent = udp((host_for_b, 33434), (verify(&arrived).unwrap().destination, 9), b"probe");
        f.expect_drop(B, &time_exceeded(router, host_for_b, &never_sent), DropReason::NoSession);
        f.expect_drop(B, &udp((router, 33435), (host_for_b, 33434), b""), DropReason::SourceNotInRealm);
        f.expect_drop(B, &time_exceeded(router, gateway, &arrived), DropReason::SourceNotInRealm);
    }
}
