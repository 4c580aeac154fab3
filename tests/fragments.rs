//! Fragments between networks with the same addresses, through the engine that `run` runs: in as the sender's network cut
//! them, out as the receiver's tunnel carries them.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::net::policy::protocol;
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets::{self, cut, joined, udp, verify};
use ixgate::wire::fragment::{self, Fragment};
use ixgate::wire::headers::Transport;

/// Two networks with one prefix and tunnels of different MTU; C shares A's addresses, too. A and C may open anything in B.
const TEXT: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24", "fd00:a::/64"]
attach = [{ wireguard = { public_key = "{key:a}" }, mtu_bytes = 1280 }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24", "fd00:b::/64"]
attach = [{ wireguard = { public_key = "{key:b}" }, mtu_bytes = 1420 }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:c}" } }]
[[grant]]
from = ["a", "c"]
to = ["realm:b"]
ports = ["any"]
[[grant]]
from = ["b"]
to = ["realm:a"]
ports = ["udp/443", "icmp"]
"#;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const MTU_A: usize = 1280;
const MTU_B: usize = 1420;

struct Fixture {
    lan: Lan,
    appliance: Appliance,
}

impl Fixture {
    fn start() -> Self {
        Self::with(TEXT)
    }

    fn with(text: &str) -> Self {
        let appliance = Appliance::build(text);
        Fixture { lan: Lan::start(&appliance, &["a", "b", "c"]), appliance }
    }

    fn send_all(&mut self, site: usize, packets: &[Vec<u8>]) -> Vec<Arrival> {
        packets.iter().flat_map(|packet| self.lan.send(site, packet)).collect()
    }

    /// From A's host to B's, IPv4 or IPv6: the addresses as each side sees them.
    fn flow(&self, v6: bool) -> Flow {
        if v6 {
            let (a, b) = (ip("fd00:a::10"), ip("fd00:b::20"));
            return Flow { a, b, a_for_b: a, b_for_a: b };
        }
        Flow {
            a: ip("192.168.1.10"),
            b: ip("192.168.1.20"),
            a_for_b: self.appliance.seen_by("b", "a", "192.168.1.10"),
            b_for_a: self.appliance.seen_by("a", "b", "192.168.1.20"),
        }
    }

    fn drops(&self, realm: &str, reason: DropReason) -> u64 {
        self.appliance.drops(&self.lan.report(), realm, reason)
    }
}

struct Flow {
    a: IpAddr,
    b: IpAddr,
    a_for_b: IpAddr,
    b_for_a: IpAddr,
}

impl Flow {
    fn request(&self, payload: &[u8]) -> Vec<u8> {
        udp((self.a, 5000), (self.b_for_a, 443), payload)
    }

    fn reply(&self, payload: &[u8]) -> Vec<u8> {
        udp((self.b, 443), (self.a_for_b, 5000), payload)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 11 % 253) as u8).collect()
}

/// Without DF.
fn may_be_cut(mut packet: Vec<u8>) -> Vec<u8> {
    packets::set_dont_fragment(&mut packet, false);
    packet
}

/// What arrived at `site`, where nothing else may have.
fn at(site: usize, arrivals: Vec<Arrival>) -> Vec<Vec<u8>> {
    arrivals
        .into_iter()
        .map(|(to, packet)| {
            assert_eq!(to, site);
            packet
        })
        .collect()
}

fn parsed(packets: &[Vec<u8>]) -> Vec<Fragment> {
    packets.iter().map(|packet| fragment::parse(packet).expect("a fragment")).collect()
}

#[test]
fn a_datagram_in_fragments_crosses_and_its_reply_returns_in_both_families() {
    for v6 in [false, true] {
        let mut f = Fixture::start();
        let flow = f.flow(v6);
        for backwards in [false, true] {
            let mut sent = cut(&flow.request(&payload(3000)), MTU_A, 7);
            if backwards {
                sent.reverse();
            }
            let arrivals = at(B, f.send_all(A, &sent));
            assert!(arrivals.iter().all(|packet| packet.len() <= MTU_A), "no larger than they came");
            assert!(parsed(&arrivals).iter().all(|fragment| fragment.identification == 7));
            let whole = joined(&arrivals);
            let headers = verify(&whole).unwrap();
            assert_eq!((headers.source, headers.destination, headers.hop_limit), (flow.a_for_b, flow.b, 63));
            assert!(whole.ends_with(&payload(3000)));
        }
        // B's fragments fit B's tunnel and not A's.
        let reply = flow.reply(&payload(4000));
        let sent = cut(&if v6 { reply } else { may_be_cut(reply) }, MTU_B, 9);
        let arrivals = at(A, f.send_all(B, &sent));
        assert!(arrivals.iter().all(|packet| packet.len() <= MTU_A) && arrivals.len() == 4);
        let headers = verify(&joined(&arrivals)).unwrap();
        assert_eq!((headers.source, headers.destination), (flow.b_for_a, flow.a));

        let totals = f.lan.report().totals;
        assert_eq!((totals.reassembled, totals.forwarded, totals.fragments_joined), (3, 3, 2 + 2 + 2));
        assert_eq!((totals.fragments_made, totals.fragments_kept), (3 + 3 + 4, 0));
    }
}

#[test]
fn a_whole_packet_that_may_be_cut_is_and_keeps_its_identification() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    f.lan.send(A, &flow.request(b"open"));
    let mut big = may_be_cut(flow.reply(&payload(1380 - 28)));
    packets::set_identification(&mut big, 0x4321);
    let arrivals = at(A, f.send_all(B, &[big]));
    let shape: Vec<_> = parsed(&arrivals).iter().map(|f| (f.identification, f.offset, f.total_bytes)).collect();
    assert_eq!(shape, [(0x4321, 0, 1276), (0x4321, 1256, 20 + 1380 - 20 - 1256)]);
    assert!(joined(&arrivals).ends_with(&payload(1380 - 28)));
    verify(&joined(&arrivals)).unwrap();
}

#[test]
fn ipv4_in_small_fragments_leaves_in_as_few_as_fit() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    for (len, fragments) in [(1200, 1), (2000, 2)] {
        let sent = cut(&may_be_cut(flow.request(&payload(len))), 576, 1);
        let arrivals = at(B, f.send_all(A, &sent));
        assert_eq!(arrivals.len(), fragments);
        verify(&joined(&arrivals)).unwrap();
    }
}

#[test]
fn ipv4_fragments_with_df_leave_as_large_as_they_came_or_are_reported() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    let request = flow.request(&payload(1500));
    let arrivals = at(B, f.send_all(A, &cut(&request, 600, 3)));
    let fragments = parsed(&arrivals);
    assert!(fragments.iter().all(|fragment| fragment.dont_fragment && fragment.total_bytes <= 600));
    verify(&joined(&arrivals)).unwrap();

    let reply = flow.reply(&payload(2000));
    let arrivals = at(B, f.send_all(B, &cut(&reply, MTU_B, 4)));
    let [error] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!(verify(error).unwrap().transport, Transport::IcmpError);
    assert_eq!(error[20..28], [3, 4, error[22], error[23], 0, 0, 0x05, 0x00]);
    // The datagram as it was sent, put together.
    assert_eq!(error[28 + 8..28 + 10], [64, protocol::UDP]);
    assert_eq!(u16::from_be_bytes([error[30], error[31]]), reply.len() as u16);
    assert_eq!(error[28 + 20..], reply[20..error.len() - 28]);
    assert_eq!(f.drops("b", DropReason::PacketTooBig), 1);
}

#[test]
fn whole_ipv6_is_reported_and_ipv6_in_fragments_is_cut_again() {
    let mut f = Fixture::start();
    let flow = f.flow(true);
    f.lan.send(A, &flow.request(b"open"));
    let arrivals = at(B, f.lan.send(B, &flow.reply(&payload(1300))));
    assert_eq!(verify(&arrivals[0]).unwrap().transport, Transport::IcmpError);
    let sent = cut(&flow.reply(&payload(1400)), 1400, 5);
    let arrivals = at(A, f.send_all(B, &sent));
    let fragments = parsed(&arrivals);
    assert!(fragments.iter().all(|fragment| fragment.identification == 5 && fragment.total_bytes <= MTU_A));
    verify(&joined(&arrivals)).unwrap();
}

#[test]
fn an_atomic_fragment_is_the_packet_that_it_holds() {
    let mut f = Fixture::start();
    let flow = f.flow(true);
    let request = flow.request(b"small");
    let mut atomic = [&request[..40], &[protocol::UDP, 0, 0, 0, 0, 0, 0, 9], &request[40..]].concat();
    atomic[5] += 8;
    atomic[6] = 44;
    let arrivals = at(B, f.lan.send(A, &atomic));
    let headers = verify(&arrivals[0]).unwrap();
    assert_eq!((headers.protocol, arrivals[0].len()), (protocol::UDP, request.len()));
    assert_eq!(f.lan.report().totals.reassembled, 0);

    let mut nested = [&atomic[..40], &[44, 0, 0, 0, 0, 0, 0, 8], &atomic[40..]].concat();
    nested[5] += 8;
    assert_eq!(f.lan.send(A, &nested), []);
    assert_eq!(f.drops("a", DropReason::FragmentInvalid), 1);
}

#[test]
fn the_largest_datagrams_walk() {
    for (v6, len) in [(false, 65_535 - 28), (true, 65_535 - 8)] {
        let mut f = Fixture::start();
        let flow = f.flow(v6);
        let request = flow.request(&payload(len));
        let arrivals = at(B, f.send_all(A, &cut(&request, MTU_A, 1)));
        let whole = joined(&arrivals);
        verify(&whole).unwrap();
        assert!(whole.len() == request.len() && whole.ends_with(&payload(len)));
    }
}

#[test]
fn grants_hold_for_every_fragment() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    for (ports, reason) in [((5000, 80), DropReason::NotGranted), ((5000, 8), DropReason::NotGranted)] {
        let packet = udp((flow.b, ports.0), (flow.a_for_b, ports.1), &payload(3000));
        let before = f.drops("b", reason);
        assert_eq!(f.send_all(B, &cut(&packet, MTU_B, 1)), []);
        assert_eq!(f.drops("b", reason), before + 1, "one packet");
    }
}

#[test]
fn what_a_realm_does_not_own_is_not_kept() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    let forged = udp((ip("192.168.2.10"), 5000), (flow.b_for_a, 443), &payload(3000));
    assert_eq!(f.send_all(A, &cut(&forged, MTU_A, 1)), []);
    assert_eq!(f.drops("a", DropReason::SourceNotInRealm), 3);
    assert_eq!(f.lan.report().totals.fragments_kept, 0);
}

/// Errors of routers outside of the networks count when they are about a session, which a fragment does not tell. No router
/// makes errors that long (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 c), so nothing is kept for somebody who is not the
/// realm's.
#[test]
fn an_error_of_a_router_outside_of_the_networks_counts_only_whole() {
    for v6 in [false, true] {
        let mut f = Fixture::start();
        let flow = f.flow(v6);
        let arrived = at(B, f.lan.send(A, &flow.request(&payload(600))));
        let router = if v6 { ip("2001:db8:ffff::1") } else { ip("198.51.100.1") };
        let error = packets::port_unreachable(router, flow.a_for_b, &arrived[0]);
        assert_eq!(f.send_all(B, &cut(&error, 576, 1)), []);
        assert_eq!(f.drops("b", DropReason::SourceNotInRealm), 2);
        assert_eq!(f.lan.report().totals.fragments_kept, 0);
        assert_eq!(at(A, f.lan.send(B, &error)).len(), 1);
    }
}

#[test]
fn realms_that_share_addresses_and_identification_do_not_complete_each_others_datagrams() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    let of_a = cut(&flow.request(&[0xa; 2000]), MTU_A, 1);
    let of_c = cut(&flow.request(&[0xc; 2000]), MTU_A, 1);
    assert_eq!(f.lan.send(A, &of_a[0]), []);
    assert_eq!(f.lan.send(C, &of_c[1]), []);
    for (site, rest, filling) in [(A, &of_a[1], 0xa), (C, &of_c[0], 0xc)] {
        let whole = joined(&at(B, f.lan.send(site, rest)));
        verify(&whole).unwrap();
        assert!(whole[28..].iter().all(|byte| *byte == filling));
    }
}

#[test]
fn an_overlap_and_what_never_comes_are_counted_fragment_by_fragment() {
    let mut f = Fixture::start();
    let flow = f.flow(false);
    let fragments = cut(&flow.request(&payload(3000)), MTU_A, 1);
    let mut overlapping = fragments[1].clone();
    overlapping[30] ^= 1;
    let sent = [fragments[0].clone(), fragments[1].clone(), overlapping, fragments[2].clone()];
    assert_eq!(f.send_all(A, &sent), []);
    assert_eq!(f.drops("a", DropReason::FragmentOverlap), 4);

    let others = cut(&flow.request(&payload(3000)), MTU_A, 2);
    assert_eq!(f.send_all(A, &others[1..]), []);
    assert_eq!(f.lan.report().totals.fragments_kept, 2);
    let later = f.lan.now + Duration::from_secs(30);
    f.lan.advance_to(later);
    assert_eq!((f.drops("a", DropReason::FragmentTimeout), f.lan.report().totals.fragments_kept), (2, 0));
    assert_eq!(f.lan.engine.poll_timeout().filter(|(at, why)| *at <= later && why.contains("fragment")), None);
}

#[test]
fn a_flood_of_unfinished_datagrams_stays_within_its_realms_bound() {
    let text = format!("{TEXT}\n[limits]\nreassembly_bytes_per_realm = 131072\nreassembly_datagrams_per_realm = 10\n");
    let mut f = Fixture::with(&text);
    let flow = f.flow(false);
    let of_a = cut(&flow.request(&payload(2000)), MTU_A, 999);
    f.lan.send(A, &of_a[0]);
    for number in 0..100 {
        let fragments = cut(&flow.request(&payload(2000)), MTU_A, number);
        assert_eq!(f.lan.send(C, &fragments[0]), []);
    }
    assert_eq!(f.drops("c", DropReason::ReassemblyQuotaExceeded), 90);
    assert_eq!(f.lan.report().totals.fragments_kept, 11);
    assert_eq!(f.lan.send(A, &of_a[1]).len(), 2, "A's was not touched");
}

#[test]
fn the_ix_takes_and_answers_large_pings_in_fragments() {
    for (v6, host, gateway) in [(false, "192.168.1.10", "100.64.0.1"), (true, "fd00:a::10", "fd69:7867:6174::1")] {
        for len in [3000, 65_000] {
            let mut f = Fixture::start();
            let kind = if v6 { 128 } else { 8 };
            let message = [&[kind, 0, 0, 0, 0, 1, 0, 1][..], &payload(len)].concat();
            let protocol = if v6 { protocol::ICMPV6 } else { protocol::ICMP };
            let ping = packets::packet(ip(host), ip(gateway), protocol, message);
            let before = f.lan.report().totals;
            let arrivals = at(A, f.send_all(A, &cut(&ping, MTU_A, 1)));
            assert!(arrivals.iter().all(|packet| packet.len() <= MTU_A));
            let whole = joined(&arrivals);
            let headers = verify(&whole).unwrap();
            assert_eq!((headers.source, headers.destination), (ip(gateway), ip(host)));
            assert!(matches!(headers.transport, Transport::EchoReply { .. }) && whole.ends_with(&payload(len)));
            let totals = f.lan.report().totals;
            assert_eq!((totals.answered - before.answered, totals.originated - before.originated), (1, 1));
        }
    }
}

#[test]
fn a_name_query_in_fragments_is_answered() {
    let mut f = Fixture::start();
    // A query for the zone's own name, with 1,400 bytes of padding (RFC 7830) in an OPT record.
    let padding = 1400u16;
    let mut query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02ix\x07example\x00\x00\x06\x00\x01".to_vec();
    query.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0]);
    query.extend((padding + 4).to_be_bytes());
    query.extend([0, 12]);
    query.extend(padding.to_be_bytes());
    query.resize(query.len() + usize::from(padding), 0);
    let packet = udp((ip("192.168.1.10"), 5353), (ip("100.64.0.53"), 53), &query);
    assert!(packet.len() > MTU_A);
    let arrivals = at(A, f.send_all(A, &cut(&packet, MTU_A, 1)));
    let headers = verify(&arrivals[0]).unwrap();
    assert_eq!(arrivals[0][headers.transport_offset + 8..][..2], [0x12, 0x34]);
}

#[test]
fn an_error_about_a_first_fragment_finds_its_sender() {
    for v6 in [false, true] {
        let mut f = Fixture::start();
        let flow = f.flow(v6);
        let request = flow.request(&payload(3000));
        let arrivals = at(B, f.send_all(A, &cut(&request, MTU_A, 1)));
        let error = packets::port_unreachable(flow.b, flow.a_for_b, &arrivals[0][..128]);
        let errors = at(A, f.lan.send(B, &error));
        let headers = verify(&errors[0]).unwrap();
        assert_eq!((headers.source, headers.destination), (flow.b_for_a, flow.a));
        let quoted = &errors[0][headers.transport_offset + 8..];
        let addresses = if v6 { 8..40 } else { 12..20 };
        assert_eq!(quoted[addresses.clone()], request[addresses], "as A sent it");
        assert_eq!(quoted[if v6 { 48 } else { 20 }..][..4], request[if v6 { 40 } else { 20 }..][..4], "ports");

        let later = packets::port_unreachable(flow.b, flow.a_for_b, &arrivals[1][..128]);
        assert_eq!(f.lan.send(B, &later), [], "who sent it cannot be seen");
    }
}
