//! What the packet walk does, seen from the sites: real WireGuard peers in memory around the engine that `run` runs.

use std::net::IpAddr;

use ixgate::dataplane::report::Pulse;
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::Lan;
use ixgate::sim::packets::{self, echo, port_unreachable, tcp, udp, verify};
use ixgate::wire::checksum::checksum;
use ixgate::wire::headers::Transport;
use ixgate::wire::tcp::flag;

/// Three networks with one prefix. A may open B's web server; C may ping all of A.
const THREE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24", "fd00:a::/64"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24", "fd00:b::/64"]
attach = [{ wireguard = { public_key = "{key:b}" }, mtu_bytes = 1300 }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:c}" } }]
[[realm]]
name = "planned"
networks = ["192.168.1.0/24"]
[[host]]
name = "web"
realm = "b"
address = ["192.168.1.20", "fd00:b::20"]
[[service]]
name = "web"
host = "web.b"
ports = ["tcp/443", "udp/443"]
[[grant]]
from = ["a"]
to = ["web"]
[[grant]]
from = ["c"]
to = ["realm:a", "realm:planned"]
ports = ["icmp"]
"#;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

struct Fixture {
    lan: Lan,
    appliance: Appliance,
}

impl Fixture {
    fn start() -> Self {
        let appliance = Appliance::build(THREE);
        Fixture { lan: Lan::start(&appliance, &["a", "b", "c"]), appliance }
    }

    fn seen_by(&self, viewer: &str, realm: &str, native: &str) -> IpAddr {
        self.appliance.seen_by(viewer, realm, native)
    }

    /// How often `realm`'s packets were dropped for `reason`.
    fn drops(&self, realm: &str, reason: DropReason) -> u64 {
        self.appliance.drops(&self.lan.report(), realm, reason)
    }

    /// Sends, and expects nothing to arrive anywhere, for this reason.
    fn expect_drop(&mut self, site: usize, realm: &str, packet: &[u8], reason: DropReason) {
        let before = self.drops(realm, reason);
        let arrivals = self.lan.send(site, packet);
        assert_eq!(arrivals, [], "{}", reason.name());
        assert_eq!(self.drops(realm, reason), before + 1, "{}: {:?}", reason.name(), self.lan.report());
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_request_crosses_and_its_reply_returns_between_equal_networks() {
    let mut f = Fixture::start();
    let (host_a, host_b) = (ip("192.168.1.10"), ip("192.168.1.20"));
    let b_for_a = f.seen_by("a", "b", "192.168.1.20");
    let a_for_b = f.seen_by("b", "a", "192.168.1.10");

    let arrivals = f.lan.send(A, &udp((host_a, 5000), (b_for_a, 443), b"hello"));
    let [(site, packet)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let headers = verify(packet).unwrap();
    assert_eq!((*site, headers.source, headers.destination), (B, a_for_b, host_b));
    assert_eq!(headers.hop_limit, packets::HOP_LIMIT - 1);

    let arrivals = f.lan.send(B, &udp((host_b, 443), (a_for_b, 5000), b"welcome"));
    let [(site, packet)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let headers = verify(packet).unwrap();
    assert_eq!((*site, headers.source, headers.destination), (A, b_for_a, host_a));
    assert!(packet.ends_with(b"welcome"));
}

#[test]
fn ipv6_hosts_see_each_other_by_canonical_addresses() {
    let mut f = Fixture::start();
    let (host_a, host_b) = (ip("fd00:a::10"), ip("fd00:b::20"));
    let arrivals = f.lan.send(A, &udp((host_a, 5000), (host_b, 443), b"hello"));
    let [(B, packet)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let headers = verify(packet).unwrap();
    assert_eq!((headers.source, headers.destination, headers.hop_limit), (host_a, host_b, packets::HOP_LIMIT - 1));
    assert_eq!(f.lan.send(B, &udp((host_b, 443), (host_a, 5000), b"yes")).len(), 1);
}

#[test]
fn nothing_passes_that_no_grant_opens() {
    let mut f = Fixture::start();
    let web = f.seen_by("a", "b", "192.168.1.20");
    let neighbour = f.seen_by("a", "b", "192.168.1.21");
    let web_for_c = f.seen_by("c", "b", "192.168.1.20");
    let a_for_b = f.seen_by("b", "a", "192.168.1.10");
    let host = ip("192.168.1.10");
    for (site, realm, packet) in [
        (A, "a", udp((host, 5000), (web, 444), b"")),
        (A, "a", udp((host, 5000), (neighbour, 443), b"")),
        (A, "a", echo(host, web, 1, false)),
        (C, "c", tcp((host, 5000), (web_for_c, 443), flag::SYN, &[], b"")),
        (B, "b", udp((ip("192.168.1.20"), 443), (a_for_b, 5000), b"")),
    ] {
        f.expect_drop(site, realm, &packet, DropReason::NotGranted);
    }
    f.expect_drop(A, "a", &tcp((host, 5000), (web, 443), flag::RST, &[], b""), DropReason::NoSession);
}

#[test]
fn a_session_of_one_realm_opens_nothing_for_another_with_the_same_address() {
    let mut f = Fixture::start();
    let host = ip("192.168.1.10");
    let web = f.seen_by("a", "b", "192.168.1.20");
    f.lan.send(A, &udp((host, 5000), (web, 443), b""));
    let web_for_c = f.seen_by("c", "b", "192.168.1.20");
    assert_eq!(web, web_for_c, "the same alias in both views");
    f.expect_drop(C, "c", &udp((host, 5000), (web_for_c, 443), b""), DropReason::NotGranted);
}

#[test]
fn ping_is_one_way_unless_granted_both_ways() {
    let mut f = Fixture::start();
    let host = ip("192.168.1.10");
    let a_for_c = f.seen_by("c", "a", "192.168.1.10");
    let c_for_a = f.seen_by("a", "c", "192.168.1.10");
    let arrivals = f.lan.send(C, &echo(host, a_for_c, 7, false));
    assert_eq!(verify(&arrivals[0].1).unwrap().transport, Transport::EchoRequest { ident: 7 });
    let arrivals = f.lan.send(A, &echo(host, c_for_a, 7, true));
    assert_eq!(verify(&arrivals[0].1).unwrap().transport, Transport::EchoReply { ident: 7 });
    f.expect_drop(A, "a", &echo(host, c_for_a, 7, false), DropReason::NotGranted);
    f.expect_drop(A, "a", &echo(host, c_for_a, 8, true), DropReason::NoSession);
}

#[test]
fn forged_and_misdirected_packets_are_told_apart() {
    let mut f = Fixture::start();
    let web = f.seen_by("a", "b", "192.168.1.20");
    let host = ip("192.168.1.10");
    let to = |source: &str, destination: IpAddr| udp((ip(source), 5000), (destination, 443), b"");
    f.expect_drop(A, "a", &to("192.168.2.10", web), DropReason::SourceNotInRealm);
    f.expect_drop(A, "a", &to("100.64.2.10", web), DropReason::SourceNotInRealm);
    f.expect_drop(A, "a", &udp((ip("fd00:b::20"), 1), (ip("fd00:b::20"), 443), b""), DropReason::SourceNotInRealm);
    f.expect_drop(A, "a", &to("192.168.1.10", ip("8.8.8.8")), DropReason::DestinationUnknown);
    f.expect_drop(A, "a", &to("192.168.1.10", ip("192.168.1.20")), DropReason::DestinationUnknown);
    f.expect_drop(A, "a", &to("192.168.1.10", ip("224.0.0.1")), DropReason::DestinationNotUnicast);
    f.expect_drop(A, "a", &udp((ip("fd00:a::1"), 1), (ip("ff02::1"), 1), b""), DropReason::DestinationNotUnicast);
    let embedded = f.appliance.locate("b", "192.168.1.20").canonical.addr();
    f.expect_drop(A, "a", &udp((ip("fd00:a::1"), 1), (embedded.into(), 443), b""), DropReason::SourceHasNoAlias);
    let planned = f.seen_by("c", "planned", "192.168.1.1");
    f.expect_drop(C, "c", &echo(host, planned, 1, false), DropReason::NoTunnel);
}

#[test]
fn a_refusal_comes_back_in_the_askers_own_terms() {
    let mut f = Fixture::start();
    let (host_a, host_b) = (ip("192.168.1.10"), ip("192.168.1.20"));
    let b_for_a = f.seen_by("a", "b", "192.168.1.20");
    let a_for_b = f.seen_by("b", "a", "192.168.1.10");
    let request = udp((host_a, 5000), (b_for_a, 443), b"hello");
    let (_, arrived) = f.lan.send(A, &request).remove(0);

    let arrivals = f.lan.send(B, &port_unreachable(host_b, a_for_b, &arrived));
    let [(A, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let headers = verify(error).unwrap();
    assert_eq!((headers.source, headers.destination), (b_for_a, host_a));
    // What A's kernel compares with its sockets: addresses and ports as it sent them.
    assert_eq!(error[28 + 12..28 + 24], request[12..24]);

    // What a router tells of its own interfaces stays in its realm (RFC 4884, RFC 5837).
    let mut quote = arrived.clone();
    quote.resize(128, 0);
    let extension = [0x20, 0, 0, 0, 0, 8, 2, 1, 192, 168, 1, 1];
    let mut telling = port_unreachable(host_b, a_for_b, &[&quote[..], &extension].concat());
    telling[25] = 32; // words that are quoted
    let sum = checksum(&[&telling[20..22], &[0, 0], &telling[24..]].concat());
    telling[22..24].copy_from_slice(&sum.to_be_bytes());
    let arrivals = f.lan.send(B, &telling);
    verify(&arrivals[0].1).unwrap();
    assert_eq!((arrivals[0].1.len(), arrivals[0].1[25]), (28 + 128, 0));

    // An error about something that was never sent does not pass.
    let invented = udp((a_for_b, 6000), (host_b, 443), b"hello");
    f.expect_drop(B, "b", &port_unreachable(host_b, a_for_b, &invented), DropReason::NoSession);
    // Nor does one that goes to somebody else than the packet's sender.
    let a2_for_b = f.seen_by("b", "a", "192.168.1.11");
    f.expect_drop(B, "b", &port_unreachable(host_b, a2_for_b, &arrived), DropReason::NoSession);
}

#[test]
fn time_exceeded_and_too_big_are_answered_by_the_ix() {
    let mut f = Fixture::start();
    let host = ip("192.168.1.10");
    let web = f.seen_by("a", "b", "192.168.1.20");
    let mut dying = udp((host, 5000), (web, 443), b"hello");
    dying[8] = 1;
    let big = udp((host, 5000), (web, 443), &[0; 1300 - 27]);
    let big6 = udp((ip("fd00:a::10"), 5000), (ip("fd00:b::20"), 443), &[0; 1300 - 47]);
    for (packet, reason, at, message) in [
        (dying, DropReason::HopLimitExceeded, 20, [11, 0, 0, 0]),
        (big, DropReason::PacketTooBig, 20, [3, 4, 0x05, 0x14]),
        (big6, DropReason::PacketTooBig, 40, [2, 0, 0x05, 0x14]),
    ] {
        let before = f.drops("a", reason);
        let arrivals = f.lan.send(A, &packet);
        let [(A, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
        let headers = verify(error).unwrap();
        let gateway = if headers.is_v6() { ip("fd69:7867:6174::1") } else { ip("100.64.0.1") };
        assert_eq!((headers.source, headers.transport), (gateway, Transport::IcmpError));
        assert_eq!([error[at], error[at + 1], error[at + 6], error[at + 7]], message);
        let quoted = &error[at + 8..];
        assert_eq!(quoted, &packet[..quoted.len()], "the packet as it was sent");
        assert_eq!(f.drops("a", reason), before + 1);
    }
    let fits = udp((host, 5000), (web, 443), &[0; 1300 - 28]);
    assert_eq!(f.lan.send(A, &fits).len(), 1);
}

#[test]
fn icmp_errors_of_the_ix_are_limited_per_realm() {
    let mut f = Fixture::start();
    let web = f.seen_by("a", "b", "192.168.1.20");
    let mut dying = udp((ip("192.168.1.10"), 5000), (web, 443), b"hello");
    dying[8] = 1;
    let answered = (0..150).filter(|_| !f.lan.send(A, &dying).is_empty()).count();
    assert_eq!(answered, 100, "the default of limits.icmp_errors_per_sec");
    let next_second = f.lan.now + std::time::Duration::from_secs(1);
    f.lan.advance_to(next_second);
    assert_eq!(f.lan.send(A, &dying).len(), 1);
}

#[test]
fn mss_is_clamped_to_the_smaller_tunnel_in_both_directions() {
    let mut f = Fixture::start();
    let (host_a, host_b) = (ip("192.168.1.10"), ip("192.168.1.20"));
    let b_for_a = f.seen_by("a", "b", "192.168.1.20");
    let a_for_b = f.seen_by("b", "a", "192.168.1.10");
    let mss = [2, 4, 0x05, 0xb4];
    for (site, packet) in [
        (A, tcp((host_a, 5000), (b_for_a, 443), flag::SYN, &mss, b"")),
        (B, tcp((host_b, 443), (a_for_b, 5000), flag::SYN | flag::ACK, &mss, b"")),
    ] {
        let arrivals = f.lan.send(site, &packet);
        assert_eq!(arrivals[0].1[40..44], [2, 4, 0x04, 0xec], "1300 - 40 = 1260");
        verify(&arrivals[0].1).unwrap();
    }
}

#[test]
fn a_tunnel_that_is_down_is_a_reason() {
    let appliance = Appliance::build(THREE);
    let web = appliance.seen_by("a", "b", "192.168.1.20");
    let mut f = Fixture { lan: Lan::start(&appliance, &["a"]), appliance };
    f.expect_drop(A, "a", &udp((ip("192.168.1.10"), 1), (web, 443), b""), DropReason::TunnelHasNoEndpoint);
}

#[test]
fn a_grant_taken_away_ends_its_sessions_and_a_tunnel_kept_keeps_its_keys() {
    let mut f = Fixture::start();
    let (host_a, host_b) = (ip("192.168.1.10"), ip("192.168.1.20"));
    let b_for_a = f.seen_by("a", "b", "192.168.1.20");
    let a_for_b = f.seen_by("b", "a", "192.168.1.10");
    let request = udp((host_a, 5000), (b_for_a, 443), b"hello");
    let reply = udp((host_b, 443), (a_for_b, 5000), b"welcome");
    assert_eq!((f.lan.send(A, &request).len(), f.lan.send(B, &reply).len()), (1, 1));

    let without = THREE.replace("from = [\"a\"]\nto = [\"web\"]", "from = [\"c\"]\nto = [\"web\"]");
    let snapshot = f.appliance.change(&without);
    let now = f.lan.now;
    f.lan.engine.publish(snapshot, now);
    f.expect_drop(B, "b", &reply, DropReason::NotGranted);
    f.expect_drop(A, "a", &request, DropReason::NotGranted);

    let snapshot = f.appliance.change(THREE);
    f.lan.engine.publish(snapshot, now);
    assert_eq!((f.lan.send(A, &request).len(), f.lan.send(B, &reply).len()), (1, 1));
}

#[test]
fn a_damaged_packet_arrives_damaged() {
    let mut f = Fixture::start();
    let web = f.seen_by("a", "b", "192.168.1.20");
    let mut packet = udp((ip("192.168.1.10"), 5000), (web, 443), b"hello");
    *packet.last_mut().unwrap() ^= 1;
    let arrivals = f.lan.send(A, &packet);
    assert_eq!(verify(&arrivals[0].1), Err("checksum of protocol 17".into()));
}

#[test]
fn a_route_in_the_packet_does_not_lead_past_the_grants() {
    let mut f = Fixture::start();
    let web = f.seen_by("a", "b", "192.168.1.20");
    let plain = tcp((ip("192.168.1.10"), 1000), (web, 443), flag::SYN, &[], b"");
    for options in [&[131, 7, 4, 192, 168, 1, 99, 0][..], &[7, 7, 4, 0, 0, 0, 0, 0]] {
        let mut packet = [&plain[..20], options, &plain[20..]].concat();
        packet[0] = 0x40 | ((20 + options.len()) / 4) as u8;
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        f.expect_drop(A, "a", &packet, DropReason::OptionNotServed);
    }
}

#[test]
fn an_error_about_a_session_whose_grant_is_gone_does_not_pass() {
    let mut f = Fixture::start();
    let (host_a, host_b) = (ip("192.168.1.10"), ip("192.168.1.20"));
    let b_for_a = f.seen_by("a", "b", "192.168.1.20");
    let a_for_b = f.seen_by("b", "a", "192.168.1.10");
    let (_, arrived) = f.lan.send(A, &udp((host_a, 5000), (b_for_a, 443), b"hello")).remove(0);
    let error = port_unreachable(host_b, a_for_b, &arrived);
    assert_eq!(f.lan.send(B, &error).len(), 1);

    let without = THREE.replace("from = [\"a\"]\nto = [\"web\"]", "from = [\"c\"]\nto = [\"web\"]");
    let snapshot = f.appliance.change(&without);
    let now = f.lan.now;
    f.lan.engine.publish(snapshot, now);
    f.expect_drop(B, "b", &error, DropReason::NoSession);
}

#[test]
fn a_flood_of_one_realm_leaves_the_ix_answering_the_others() {
    let mut f = Fixture::start();
    let (host, gateway) = (ip("192.168.1.10"), ip("100.64.0.1"));
    let mut datagrams: Vec<_> = (0..2000).map(|ident| (A, f.lan.seal(A, &echo(host, gateway, ident, false)))).collect();
    datagrams.push((B, f.lan.seal(B, &echo(host, gateway, 7, false))));
    let arrivals = f.lan.deliver_at_once(&datagrams);
    assert!(arrivals.iter().any(|(site, _)| *site == B), "B has its answer");
    assert_eq!(f.drops("b", DropReason::HostQueueFull), 0);
}

#[test]
fn a_tunnel_number_that_is_given_again_starts_counting_at_nothing() {
    let mut f = Fixture::start();
    f.lan.send(A, &echo(ip("192.168.1.10"), ip("100.64.0.1"), 1, false));
    let snapshot = f.appliance.change(&THREE.replace("{key:a}", "{key:another}"));
    let now = f.lan.now;
    f.lan.engine.publish(snapshot, now);
    let realm = f.appliance.realm("a");
    let report = f.lan.report();
    let tunnel = report.tunnels.iter().find(|tunnel| tunnel.realm == realm).unwrap();
    assert_eq!((tunnel.received.packets, tunnel.last_data_received), (0, None));
}

#[test]
fn the_ix_answers_a_ping_as_long_as_the_tunnel_carries() {
    let appliance = Appliance::build(&THREE.replace("{key:a}\" } }", "{key:a}\" }, mtu_bytes = 1900 }"));
    let mut lan = Lan::start(&appliance, &["a"]);
    let message = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &[0; 1800]].concat();
    let ping = packets::packet(ip("192.168.1.10"), ip("100.64.0.1"), 1, message);
    assert_eq!(lan.send(A, &ping).first().map(|(_, reply)| reply.len()), Some(ping.len()));
}

mod names {
    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::{Name, RData, RecordType};

    use super::*;

    /// Asks the IX from `host` of `site` over UDP, and gives the answer.
    fn ask(f: &mut Fixture, site: usize, host: &str, name: &str, kind: RecordType) -> Message {
        let resolver = if ip(host).is_ipv4() { ip("100.64.0.53") } else { ip("fd69:7867:6174::35") };
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let query = query.to_vec().unwrap();
        let arrivals = f.lan.send(site, &udp((ip(host), 5353), (resolver, 53), &query));
        let [(to, packet)] = &arrivals[..] else { panic!("{arrivals:?}") };
        let headers = verify(packet).unwrap();
        assert_eq!((*to, headers.source, headers.destination), (site, resolver, ip(host)));
        Message::from_vec(&packet[headers.transport_offset + 8..]).unwrap()
    }

    fn addresses(message: &Message) -> Vec<IpAddr> {
        let address = |data: &RData| match data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(a) => Some(IpAddr::V6(a.0)),
            _ => None,
        };
        message.answers.iter().filter_map(|record| address(&record.data)).collect()
    }

    #[test]
    fn one_name_is_another_address_for_each_asker() {
        let mut f = Fixture::start();
        let alias = f.seen_by("a", "b", "192.168.1.20");
        let answer = ask(&mut f, A, "192.168.1.10", "web.ix.example.", RecordType::A);
        assert_eq!(addresses(&answer), [alias]);
        let answer = ask(&mut f, B, "192.168.1.10", "web.b.ix.example.", RecordType::A);
        assert_eq!(addresses(&answer), [ip("192.168.1.20")], "its own host, by its own address");
        let answer = ask(&mut f, A, "fd00:a::10", "web.ix.example.", RecordType::AAAA);
        assert_eq!(addresses(&answer), [ip("fd00:b::20")]);
    }

    #[test]
    fn a_name_without_a_grant_has_no_address() {
        let mut f = Fixture::start();
        let answer = ask(&mut f, C, "192.168.1.10", "web.ix.example.", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(addresses(&answer), [] as [IpAddr; 0]);
        let answer = ask(&mut f, C, "192.168.1.10", "www.example.", RecordType::A);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
    }

    #[test]
    fn the_ix_answers_ping_in_both_families_and_nothing_else() {
        let mut f = Fixture::start();
        for (host, gateway) in [("192.168.1.10", "100.64.0.1"), ("fd00:a::10", "fd69:7867:6174::1")] {
            let arrivals = f.lan.send(A, &echo(ip(host), ip(gateway), 9, false));
            let headers = verify(&arrivals[0].1).unwrap();
            assert_eq!(headers.transport, Transport::EchoReply { ident: 9 });
            assert_eq!((headers.source, headers.destination), (ip(gateway), ip(host)));
        }
        let ssh = tcp((ip("192.168.1.10"), 5000), (ip("100.64.0.1"), 22), flag::SYN, &[], b"");
        f.expect_drop(A, "a", &ssh, DropReason::ServiceNotOffered);
    }

    /// A TCP segment from the site's host, with sequence numbers.
    fn segment(from: (IpAddr, u16), to: IpAddr, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        packets::segment(from, (to, 53), (seq, ack), flags, payload)
    }

    #[test]
    fn a_connection_is_not_inherited_by_the_realm_that_its_address_moves_to() {
        let moved = |text: &str| {
            let text = text.replace("\"fd00:a::/64\"]", "\"fd00:a::/64\", \"fd00:5::/64\"]");
            Appliance::build(&text)
        };
        let appliance = moved(THREE);
        let mut f = Fixture { lan: Lan::start(&appliance, &["a", "b", "c"]), appliance };
        let (client, resolver) = ((ip("fd00:5::9"), 4000), ip("fd69:7867:6174::35"));
        let arrivals = f.lan.send(A, &segment(client, resolver, 100, 0, flag::SYN, b""));
        let server_seq = u32::from_be_bytes(arrivals[0].1[44..48].try_into().unwrap());
        f.lan.send(A, &segment(client, resolver, 101, server_seq + 1, flag::ACK, b""));

        let to_c = THREE.replace(
            "[\"192.168.1.0/24\"]\nattach = [{ wireguard = { public_key = \"{key:c}\"",
            "[\"192.168.1.0/24\", \"fd00:5::/64\"]\nattach = [{ wireguard = { public_key = \"{key:c}\"",
        );
        assert_ne!(to_c, THREE);
        let snapshot = f.appliance.change(&to_c);
        let now = f.lan.now;
        f.lan.engine.publish(snapshot, now);

        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii("web.ix.example.").unwrap(), RecordType::AAAA));
        let query = query.to_vec().unwrap();
        let framed = [&(query.len() as u16).to_be_bytes()[..], &query].concat();
        let arrivals = f.lan.send(C, &segment(client, resolver, 101, server_seq + 1, flag::ACK | 8, &framed));
        let secret = "fd00:b::20".parse::<std::net::Ipv6Addr>().unwrap().octets();
        assert!(arrivals.iter().all(|(_, packet)| packet.windows(16).all(|window| window != secret)), "A's answer");
    }
}

#[test]
fn a_pulse_is_as_much_of_the_report_as_it_tells() {
    let fixture = Fixture::start();
    let pulse = fixture.lan.engine.pulse();
    assert_eq!((pulse.tunnels, pulse.tunnels_up), (3, 3));
    assert_eq!(pulse, Pulse::from(&fixture.lan.report()));
}
