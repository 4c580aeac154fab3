//! An IPv4-only realm and an IPv6-only one: hosts reach each other by an alias and by canonical addresses (RFC 7915,
//! RFC 7757), with real WireGuard peers around the engine that `run` runs.

use std::net::IpAddr;
use std::sync::Arc;

use ixgate::net::mapping::{Mapping, Network};
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets::{self, HOP_LIMIT, cut, echo, joined, port_unreachable, tcp, udp, verify};
use ixgate::wire::fragment;
use ixgate::wire::headers::{Headers, Transport};
use ixgate::wire::tcp::flag;

/// `four` and `other` have one IPv4 prefix, `six` and `twin` one IPv6 prefix on their wires. All may open anything in all.
const FAMILIES: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "four"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:four}" } }]
[[realm]]
name = "six"
networks = [{ prefix = "fd00:6::/64", canonical = "fd00:66::/64" }]
attach = [{ wireguard = { public_key = "{key:six}" }, mtu_bytes = 1380 }]
[[realm]]
name = "other"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:other}" } }]
[[realm]]
name = "twin"
networks = [{ prefix = "fd00:6::/64", canonical = "fd00:7::/64" }]
attach = [{ wireguard = { public_key = "{key:twin}" } }]
[[grant]]
from = ["four"]
to = ["realm:six"]
ports = ["any"]
[[grant]]
from = ["six"]
to = ["realm:four"]
ports = ["udp/443", "tcp/443", "icmp"]
"#;

const FOUR: usize = 0;
const SIX: usize = 1;
const OTHER: usize = 2;
const TWIN: usize = 3;

/// Of `fd00:6::20`, in `six` and in `twin`.
const ALIAS_OF_SIX: &str = "100.64.200.20";
const ALIAS_OF_TWIN: &str = "100.64.201.20";

struct Fixture {
    lan: Lan,
    appliance: Appliance,
}

impl Fixture {
    /// `fd00:6::20` has an alias in each of its realms.
    fn start() -> Self {
        Fixture::with_aliases(&[
            ("six", "fd00:6::20/128", "fd00:66::20/128", "100.64.200.20/32"),
            ("twin", "fd00:6::20/128", "fd00:7::20/128", "100.64.201.20/32"),
        ])
    }

    /// Realm, native, canonical, alias.
    fn with_aliases(aliases: &[(&str, &str, &str, &str)]) -> Self {
        let mut appliance = Appliance::build(FAMILIES);
        let network = |(realm, native, canonical, alias): &(&str, &str, &str, &str)| Network {
            realm: appliance.realm(realm),
            native: native.parse().unwrap(),
            canonical: canonical.parse().unwrap(),
            alias: Some(alias.parse().unwrap()),
        };
        let mut networks = appliance.snapshot.mapping.networks().to_vec();
        networks.extend(aliases.iter().map(network));
        let snapshot = Arc::get_mut(&mut appliance.snapshot).expect("nobody else has it yet");
        snapshot.mapping = Mapping::new(snapshot.mapping.space6(), networks, &[]);
        Fixture { lan: Lan::start(&appliance, &["four", "six", "other", "twin"]), appliance }
    }

    /// Sends, and expects one packet with right checksums to arrive at `to`.
    fn cross(&mut self, from: usize, to: usize, packet: &[u8]) -> (Headers, Vec<u8>) {
        let arrivals = self.lan.send(from, packet);
        let [(site, arrived)] = &arrivals[..] else { panic!("{arrivals:?} {:?}", self.lan.report()) };
        assert_eq!(*site, to);
        (verify(arrived).unwrap_or_else(|wrong| panic!("{wrong}: {arrived:?}")), arrived.clone())
    }

    fn drops(&self, realm: &str, reason: DropReason) -> u64 {
        self.appliance.drops(&self.lan.report(), realm, reason)
    }

    fn expect_drop(&mut self, site: usize, realm: &str, packet: &[u8], reason: DropReason) -> Vec<Arrival> {
        let before = self.drops(realm, reason);
        let arrivals = self.lan.send(site, packet);
        assert_eq!(self.drops(realm, reason), before + 1, "{}: {:?}", reason.name(), self.lan.report());
        arrivals
    }

    /// How IPv6 realms see a host of `four`.
    fn canonical(&self, native: &str) -> IpAddr {
        self.appliance.locate("four", native).canonical.addr().into()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host4() -> IpAddr {
    ip("192.168.1.10")
}

fn host6() -> IpAddr {
    ip("fd00:6::20")
}

#[test]
fn an_ipv4_host_opens_a_session_with_an_ipv6_host_and_has_its_reply() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let exchanges = [
        (udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), b"hello"), udp((host6(), 443), (canonical, 5000), b"yes")),
        (
            tcp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), flag::SYN, &[], b""),
            tcp((host6(), 443), (canonical, 5000), flag::SYN | flag::ACK, &[], b""),
        ),
        (echo(host4(), ip(ALIAS_OF_SIX), 7, false), echo(host6(), canonical, 7, true)),
    ];
    for (request, reply) in exchanges {
        let mut request = request;
        request[1] = 0xb9;
        request[10..12].fill(0);
        let sum = ixgate::wire::checksum::checksum(&request[..20]);
        request[10..12].copy_from_slice(&sum.to_be_bytes());
        let (headers, packet) = f.cross(FOUR, SIX, &request);
        assert_eq!((headers.source, headers.destination, headers.hop_limit), (canonical, host6(), HOP_LIMIT - 1));
        assert_eq!((packet[0], packet[1]), (0x6b, 0x90), "DSCP and ECN");
        assert_eq!(packet.len(), request.len() + 20);
        let (headers, packet) = f.cross(SIX, FOUR, &reply);
        assert_eq!((headers.source, headers.destination), (ip(ALIAS_OF_SIX), host4()));
        assert_eq!(packet.len() + 20, reply.len());
    }
}

#[test]
fn an_ipv6_host_opens_a_session_with_an_ipv4_host_and_has_its_reply() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    for (request, reply) in [
        (udp((host6(), 5000), (canonical, 443), b"hello"), udp((host4(), 443), (ip(ALIAS_OF_SIX), 5000), b"yes")),
        (echo(host6(), canonical, 7, false), echo(host4(), ip(ALIAS_OF_SIX), 7, true)),
    ] {
        let (headers, _) = f.cross(SIX, FOUR, &request);
        assert_eq!((headers.source, headers.destination), (ip(ALIAS_OF_SIX), host4()));
        let (headers, _) = f.cross(FOUR, SIX, &reply);
        assert_eq!((headers.source, headers.destination), (canonical, host6()));
    }
}

#[test]
fn realms_that_share_every_address_stay_apart() {
    let mut f = Fixture::start();
    f.cross(FOUR, SIX, &udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), b""));
    f.expect_drop(FOUR, "four", &udp((host4(), 5000), (ip(ALIAS_OF_TWIN), 443), b""), DropReason::NotGranted);
    f.expect_drop(OTHER, "other", &udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), b""), DropReason::NotGranted);
    let reply = udp((host6(), 443), (f.canonical("192.168.1.10"), 5000), b"");
    f.expect_drop(TWIN, "twin", &reply, DropReason::NotGranted);
    f.cross(SIX, FOUR, &reply);
}

#[test]
fn an_echo_reply_opens_nothing_across_families() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    f.cross(FOUR, SIX, &echo(host4(), ip(ALIAS_OF_SIX), 7, false));
    f.expect_drop(SIX, "six", &echo(host6(), canonical, 8, true), DropReason::NoSession);
    f.expect_drop(FOUR, "four", &echo(host4(), ip(ALIAS_OF_SIX), 8, true), DropReason::NoSession);
}

#[test]
fn who_has_no_alias_reaches_no_ipv4_host_and_is_reached_by_none() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let request = udp((ip("fd00:6::21"), 5000), (canonical, 443), b"");
    f.expect_drop(SIX, "six", &request, DropReason::SourceHasNoAlias);
    let unknown = f.canonical("192.168.1.10").to_string().replace("c0a8", "c0a9");
    f.expect_drop(SIX, "six", &udp((host6(), 5000), (ip(&unknown), 443), b""), DropReason::DestinationUnknown);
}

#[test]
fn a_datagram_without_a_checksum_arrives_with_one() {
    let mut f = Fixture::start();
    let mut request = udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), b"hello");
    request[26..28].fill(0);
    let (_, packet) = f.cross(FOUR, SIX, &request);
    assert_ne!(packet[46..48], [0, 0]);
    request[25] = 200; // its length
    f.expect_drop(FOUR, "four", &request, DropReason::NotTranslatable);
}

/// "any" is granted, and yet no payload becomes a route past the grants.
#[test]
fn a_protocol_that_would_become_an_ipv6_header_does_not_cross() {
    let mut f = Fixture::start();
    for number in [0, 43, 44, 60] {
        let packet = packets::packet(host4(), ip(ALIAS_OF_SIX), number, vec![17, 0, 0, 1, 0, 0, 0, 0]);
        f.expect_drop(FOUR, "four", &packet, DropReason::NotTranslatable);
    }
}

#[test]
fn refusals_come_back_in_the_senders_own_terms() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let request = udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), b"hello");
    let (_, arrived) = f.cross(FOUR, SIX, &request);
    let (headers, error) = f.cross(SIX, FOUR, &port_unreachable(host6(), canonical, &arrived));
    assert_eq!((headers.source, headers.destination), (ip(ALIAS_OF_SIX), host4()));
    assert_eq!((error[20], error[21]), (3, 3));
    assert_eq!(error[28 + 12..], request[12..]);

    let request = udp((host6(), 6000), (canonical, 443), b"hello");
    let (_, arrived) = f.cross(SIX, FOUR, &request);
    let (headers, error) = f.cross(FOUR, SIX, &port_unreachable(host4(), ip(ALIAS_OF_SIX), &arrived));
    assert_eq!((headers.source, headers.destination), (canonical, host6()));
    assert_eq!((error[40], error[41]), (1, 4));
    assert_eq!(error[48 + 8..], request[8..]);

    // About what was never sent, and in codes that the other version has not.
    let invented = udp((ip(ALIAS_OF_SIX), 6001), (host4(), 443), b"hello");
    let error = port_unreachable(host4(), ip(ALIAS_OF_SIX), &invented);
    f.expect_drop(FOUR, "four", &error, DropReason::NoSession);
    let message = [&[3, 14, 0, 0, 0, 0, 0, 0][..], &arrived].concat();
    let error = packets::packet(host4(), ip(ALIAS_OF_SIX), 1, message);
    f.expect_drop(FOUR, "four", &error, DropReason::NotTranslatable);
}

/// RFC 6791: the router that knows has no alias, so the IX speaks for it.
#[test]
fn an_error_of_a_router_without_an_alias_comes_from_the_ix() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let request = udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), &[0; 1300]);
    let (_, arrived) = f.cross(FOUR, SIX, &request);
    let message = [&[2, 0, 0, 0, 0, 0, 0x05, 0x14][..], &arrived[..1200]].concat();
    let too_big = packets::packet(ip("fd00:6::1"), canonical, 58, message);
    let (headers, error) = f.cross(SIX, FOUR, &too_big);
    assert_eq!((headers.source, headers.destination), (ip("100.64.0.1"), host4()));
    assert_eq!(error[20..22], [3, 4]);
    assert_eq!(error[24..28], [0, 0, 0x05, 0x00], "1300 - 20");
}

#[test]
fn the_length_afterwards_must_fit_and_senders_are_told_in_their_own_terms() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    // IPv4 to a tunnel of 1380 bytes: 1360 fit.
    let of = |total: usize| udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), &vec![0; total - 28]);
    let (_, packet) = f.cross(FOUR, SIX, &of(1360));
    assert_eq!(packet.len(), 1380);
    let arrivals = f.expect_drop(FOUR, "four", &of(1361), DropReason::PacketTooBig);
    let [(FOUR, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
    verify(error).unwrap();
    assert_eq!((&error[20..22], &error[26..28]), (&[3, 4][..], &1360u16.to_be_bytes()[..]));

    // IPv6 to a tunnel of 1420 bytes: 1440 fit.
    let of = |total: usize| udp((host6(), 5000), (canonical, 443), &vec![0; total - 48]);
    let (_, packet) = f.cross(SIX, FOUR, &of(1440));
    assert_eq!(packet.len(), 1420);
    let arrivals = f.expect_drop(SIX, "six", &of(1441), DropReason::PacketTooBig);
    let [(SIX, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
    verify(error).unwrap();
    assert_eq!((error[40], &error[44..48]), (2, &1440u32.to_be_bytes()[..]));

    // What may be fragmented leaves in packets that pass everywhere.
    for (total, pieces) in [(1260, 1), (1261, 2)] {
        let mut fragmentable = udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), &vec![0; total - 28]);
        packets::set_dont_fragment(&mut fragmentable, false);
        let arrivals = at(SIX, f.lan.send(FOUR, &fragmentable));
        assert_eq!(arrivals.len(), pieces, "{total}");
        assert!(arrivals.iter().all(|packet| packet.len() <= 1280));
        verify(&joined(&arrivals)).unwrap();
    }
}

/// What has arrived, all of it at `site`.
fn at(site: usize, arrivals: Vec<Arrival>) -> Vec<Vec<u8>> {
    assert!(arrivals.iter().all(|(to, _)| *to == site), "{arrivals:?}");
    arrivals.into_iter().map(|(_, packet)| packet).collect()
}

/// Fragments cross as whole datagrams do, and arrive in fragments that name the datagram as the sender's did.
#[test]
fn datagrams_in_fragments_cross_and_stay_datagrams_in_fragments() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let payload: Vec<u8> = (0..3000).map(|at| (at % 251) as u8).collect();

    let request = udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), &payload);
    let mut without_checksum = request.clone();
    without_checksum[26..28].fill(0);
    for (sent, may_be_cut) in [(&request, true), (&request, false), (&without_checksum, true)] {
        // With DF no piece may be too long for the tunnel of 1380 bytes with 28 more of headers.
        let mut pieces = cut(sent, if may_be_cut { 1420 } else { 1300 }, 0x1234);
        pieces.iter_mut().for_each(|piece| packets::set_dont_fragment(piece, !may_be_cut));
        let arrived: Vec<_> = pieces.iter().flat_map(|piece| f.lan.send(FOUR, piece)).collect();
        let arrived = at(SIX, arrived);
        let most = if may_be_cut { 1280 } else { 1328 };
        assert!(
            arrived.iter().all(|piece| piece.len() <= most),
            "{:?}",
            arrived.iter().map(Vec::len).collect::<Vec<_>>()
        );
        assert!(arrived.iter().all(|piece| fragment::parse(piece).unwrap().identification == 0x1234));
        let whole = joined(&arrived);
        let headers = verify(&whole).unwrap();
        assert_eq!((headers.source, headers.destination), (canonical, host6()));
        assert_ne!(whole[46..48], [0, 0], "a checksum");
        assert_eq!(whole[48..], payload);
    }

    let reply = udp((host6(), 443), (canonical, 5000), &payload);
    let arrived: Vec<_> = cut(&reply, 1380, 0xabcd_1234).iter().flat_map(|piece| f.lan.send(SIX, piece)).collect();
    let arrived = at(FOUR, arrived);
    for piece in &arrived {
        let fragment = fragment::parse(piece).unwrap();
        assert_eq!((fragment.identification, fragment.dont_fragment), (0x1234, false), "RFC 7915 section 5.1.1");
    }
    let whole = joined(&arrived);
    let headers = verify(&whole).unwrap();
    assert_eq!((headers.source, headers.destination), (ip(ALIAS_OF_SIX), host4()));
    assert_eq!(whole[28..], payload);
}

/// An error about a fragment that has crossed names the datagram that was sent.
#[test]
fn an_error_about_a_first_fragment_crosses() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let mut request = udp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), &[7; 3000]);
    request[26..28].fill(0);
    packets::set_dont_fragment(&mut request, false);
    let arrived: Vec<_> = cut(&request, 1420, 9).iter().flat_map(|piece| f.lan.send(FOUR, piece)).collect();
    let first = &at(SIX, arrived)[0];
    let (headers, error) = f.cross(SIX, FOUR, &port_unreachable(host6(), canonical, &first[..400]));
    assert_eq!((headers.source, headers.destination), (ip(ALIAS_OF_SIX), host4()));
    assert_eq!((&error[28 + 12..28 + 20], &error[48..52]), (&request[12..20], &request[20..24]));
    // It is quoted as a first fragment of the datagram that the host sent: 9, MF.
    assert_eq!(error[28 + 4..28 + 8], [0, 9, 0x20, 0]);
    assert_eq!(u16::from_be_bytes([error[30], error[31]]) as usize, first.len() - 28, "as long as in IPv4");
    assert_eq!(ixgate::wire::checksum::checksum(&error[28..48]), 0);

    let request = udp((host6(), 6000), (canonical, 443), &[7; 3000]);
    let arrived: Vec<_> = cut(&request, 1380, 9).iter().flat_map(|piece| f.lan.send(SIX, piece)).collect();
    let mut first = at(FOUR, arrived)[0].clone();
    first[26..28].fill(0); // as if a checksum had got lost: the whole fragment is quoted, but not the whole datagram
    let (headers, error) = f.cross(FOUR, SIX, &port_unreachable(host4(), ip(ALIAS_OF_SIX), &first));
    assert_eq!((headers.source, headers.destination), (canonical, host6()));
    assert_eq!((&error[48 + 8..48 + 40], &error[96..100]), (&request[8..40], &request[40..44]));
    assert_eq!((error[48 + 6], &error[88..96]), (44, &[17, 0, 0, 1, 0, 0, 0, 9][..]), "a fragment header");
    assert_eq!(u16::from_be_bytes([error[52], error[53]]) as usize, first.len() - 20 + 8);
    // Of a long fragment as much is quoted as an ICMPv6 error may have.
    assert!(first.len() > 1280 && error.len() == 1280, "{} {}", first.len(), error.len());
}

#[test]
fn a_hop_limit_that_ran_out_is_told_in_the_senders_own_version() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let mut dying = udp((host6(), 5000), (canonical, 443), b"hello");
    dying[7] = 1;
    let arrivals = f.expect_drop(SIX, "six", &dying, DropReason::HopLimitExceeded);
    let [(SIX, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let headers = verify(error).unwrap();
    assert_eq!((headers.source, headers.transport), (ip("fd69:7867:6174::1"), Transport::IcmpError));
    assert_eq!(error[40], 3);
    assert_eq!(error[48..], dying);
}

#[test]
fn mss_is_what_fits_both_tunnels_in_either_version() {
    let mut f = Fixture::start();
    let canonical = f.canonical("192.168.1.10");
    let mss = [2, 4, 0x05, 0xb4];
    // 1380 - 60 = 1320 is less than 1420 - 40.
    let (_, packet) = f.cross(FOUR, SIX, &tcp((host4(), 5000), (ip(ALIAS_OF_SIX), 443), flag::SYN, &mss, b""));
    assert_eq!(packet[60..64], [2, 4, 0x05, 0x28]);
    let answer = tcp((host6(), 443), (canonical, 5000), flag::SYN | flag::ACK, &mss, b"");
    let (_, packet) = f.cross(SIX, FOUR, &answer);
    assert_eq!(packet[40..44], [2, 4, 0x05, 0x28]);
}

#[test]
fn a_whole_ipv6_network_may_have_an_alias() {
    let mut f = Fixture::with_aliases(&[("six", "fd00:6::1:0/112", "fd00:66::1:0/112", "100.80.0.0/16")]);
    let (headers, _) = f.cross(FOUR, SIX, &udp((host4(), 1), (ip("100.80.2.3"), 443), b""));
    assert_eq!(headers.destination, ip("fd00:6::1:203"));
}
