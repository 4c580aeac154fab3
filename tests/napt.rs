//! NAPT seen from the sites: who sees whom by which port, and who is let in by it. The engine that `run` runs, real WireGuard
//! peers in memory.

#[path = "napt/punch.rs"]
mod punch;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ixgate::nat::napt::{Proto, Who};
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::Lan;
use ixgate::sim::packets::{echo, packet, port_unreachable, segment, tcp, udp, verify};
use ixgate::wire::headers::Transport;
use ixgate::wire::tcp::flag;

/// Four networks with one prefix. A and B are seen by pools; both may open anything in C, which has aliases, and C may
/// open one forwarded service of A's, and anything in B. A may reach itself.
const FOUR: &str = r#"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
show_as = { napt = ["100.64.9.0/30"], forwards = [{ outside = "100.64.9.3", port = "tcp/443", to = "192.168.1.20:8443" }] }
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
show_as = { napt = ["172.29.0.1/32"], block_ports = 16 }
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:c}" } }]
[[realm]]
name = "d"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:d}" } }]
[[host]]
name = "web"
realm = "a"
address = "192.168.1.20"
[[host]]
name = "mail"
realm = "a"
address = "192.168.1.25"
[[service]]
name = "web"
host = "web.a"
ports = ["tcp/8443"]
[[grant]]
from = ["a", "b"]
to = ["realm:c"]
ports = ["any"]
[[grant]]
from = ["a", "b", "c"]
to = ["web"]
[[grant]]
from = ["a"]
to = ["realm:a"]
ports = ["udp/1-65535"]
[[grant]]
from = ["c"]
to = ["realm:b"]
ports = ["any"]
"#;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

struct Fixture {
    lan: Lan,
    appliance: Appliance,
}

/// What stands in a packet that arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    site: usize,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
}

impl Fixture {
    fn start() -> Self {
        Fixture::with(FOUR)
    }

    fn with(text: &str) -> Self {
        let appliance = Appliance::build(text);
        Fixture { lan: Lan::start(&appliance, &["a", "b", "c", "d"]), appliance }
    }

    fn publish(&mut self, text: &str) {
        let snapshot = self.appliance.change(text);
        let now = self.lan.now;
        self.lan.engine.publish(snapshot, now);
    }

    fn drops(&self, site: usize, reason: DropReason) -> u64 {
        self.appliance.drops(&self.lan.report(), ["a", "b", "c", "d"][site], reason)
    }

    fn arrive(&mut self, site: usize, packet: &[u8]) -> Seen {
        let arrivals = self.lan.send(site, packet);
        let [(site, packet)] = &arrivals[..] else { panic!("{arrivals:?}: {:?}", self.lan.report().realms) };
        seen(*site, packet)
    }

    fn expect_drop(&mut self, site: usize, packet: &[u8], reason: DropReason) {
        let before = self.drops(site, reason);
        assert_eq!(self.lan.send(site, packet), [], "{}", reason.name());
        assert_eq!(self.drops(site, reason), before + 1, "{}: {:?}", reason.name(), self.lan.report().realms);
    }

    fn c_for(&self, viewer: &str) -> IpAddr {
        self.appliance.seen_by(viewer, "c", "192.168.1.30")
    }

    fn bindings(&self) -> usize {
        self.lan.report().napt_bindings
    }

    fn secs(&mut self, secs: u64) {
        let then = self.lan.now + Duration::from_secs(secs);
        self.lan.advance_to(then);
        (0..4).for_each(|site| self.lan.connect(site)); // WireGuard's keys last three minutes
    }
}

/// Panics when a checksum is wrong.
fn seen(site: usize, packet: &[u8]) -> Seen {
    let headers = verify(packet).unwrap();
    let (from, to) = match headers.transport {
        Transport::Tcp { source_port, destination_port, .. } => (source_port, destination_port),
        Transport::Udp { source_port, destination_port } => (source_port, destination_port),
        Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, ident),
        _ => (0, 0),
    };
    Seen { site, source: (headers.source, from), destination: (headers.destination, to) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 10));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 30));

#[test]
fn hosts_with_one_address_and_port_in_two_realms_are_two_to_their_server() {
    let mut f = Fixture::start();
    let mut shown = Vec::new();
    for (site, name) in [(A, "a"), (B, "b")] {
        let c = f.c_for(name);
        let there = f.arrive(site, &udp((HOST, 5000), (c, 53), b"hello"));
        assert_eq!((there.site, there.destination), (C, (SERVER, 53)));
        shown.push((site, c, there.source));
    }
    assert_eq!(shown[0].2.0, ip("100.64.9.0"));
    assert_eq!(shown[1].2.0, ip("172.29.0.1"));
    assert_eq!(f.bindings(), 1 + 2, "the forward too");
    for (site, c, source) in shown {
        let back = f.arrive(C, &udp((SERVER, 53), source, b"welcome"));
        assert_eq!(back, Seen { site, source: (c, 53), destination: (HOST, 5000) });
    }
}

#[test]
fn one_port_for_all_who_are_spoken_to_and_the_answer_to_who_was_it() {
    let mut f = Fixture::start();
    let c = f.c_for("a");
    let other = f.appliance.seen_by("a", "c", "192.168.1.31");
    let first = f.arrive(A, &udp((HOST, 5000), (c, 53), b"")).source;
    assert_eq!(f.arrive(A, &udp((HOST, 5000), (other, 99), b"")).source, first);
    assert_eq!(first.1 % 2, 0, "parity");
    for own in [3600, 5000] {
        let syn = |to| tcp((HOST, own), to, flag::SYN, &[], b"");
        let shown = f.arrive(A, &syn((c, 53))).source;
        assert_eq!(f.arrive(A, &syn((other, 99))).source, shown, "TCP");
        assert_eq!(own == 3600, shown.1 == own, "in the block of host 10: 3584 to 3839");
    }
    let shown = f.arrive(A, &echo(HOST, c, 9, false)).source;
    assert_eq!(f.arrive(A, &echo(HOST, other, 9, false)).source, shown, "ping");
    let IpAddr::V4(address) = first.0 else { panic!() };
    let spec = f.lan.engine.snapshot().napt.clone();
    let Some((_, Who::Host(host, block))) = spec.who(Proto::Udp, address, first.1) else { panic!() };
    assert_eq!((IpAddr::V4(host), block.first, block.last), (HOST, 3584, 3839));
}

#[test]
fn by_default_nobody_enters_by_a_port_who_was_not_sent_to_whatever_is_granted() {
    let mut f = Fixture::start();
    let c = f.c_for("b");
    let shown = f.arrive(B, &udp((HOST, 5000), (c, 53), b"")).source;
    // C is granted all of B, and yet a port that happens to be in use is no way in.
    f.expect_drop(C, &udp((SERVER, 54), shown, b""), DropReason::NaptFiltered);
    f.expect_drop(C, &udp((ip("192.168.1.31"), 53), shown, b""), DropReason::NaptFiltered);
    f.expect_drop(C, &tcp((SERVER, 53), shown, flag::SYN, &[], b""), DropReason::NaptNoBinding);
    f.expect_drop(D, &udp((SERVER, 53), shown, b""), DropReason::NaptFiltered);
    f.expect_drop(C, &udp((SERVER, 53), (shown.0, shown.1 + 2), b""), DropReason::NaptNoBinding);
    f.expect_drop(C, &echo(SERVER, shown.0, 7, false), DropReason::NaptNoBinding);
    f.expect_drop(C, &udp((SERVER, 53), (ip("172.29.0.2"), shown.1), b""), DropReason::DestinationUnknown);
    assert_eq!(f.arrive(C, &udp((SERVER, 53), shown, b"")).destination, (HOST, 5000));
}

#[test]
fn wider_filtering_lets_in_whom_the_host_could_open_that_session_to_and_nobody_else() {
    for (filtering, other_host) in [("address", false), ("endpoint", true)] {
        let text = FOUR.replace("block_ports = 16", &format!("filtering = \"{filtering}\""));
        // B may open only UDP 50 to 60 of C.
        let text = text.replace("from = [\"a\", \"b\"]\nto = [\"realm:c\"]", "from = [\"a\"]\nto = [\"realm:c\"]");
        let text = text + "[[grant]]\nfrom = [\"b\"]\nto = [\"realm:c\"]\nports = [\"udp/50-60\", \"tcp/50-60\"]\n";
        let mut f = Fixture::with(&text);
        let c = f.c_for("b");
        let shown = f.arrive(B, &udp((HOST, 5000), (c, 53), b"")).source;
        let there = f.arrive(C, &udp((SERVER, 54), shown, b""));
        assert_eq!((there.site, there.source, there.destination), (B, (c, 54), (HOST, 5000)), "{filtering}");
        f.expect_drop(C, &udp((SERVER, 70), shown, b""), DropReason::NaptFiltered);
        f.expect_drop(D, &udp((SERVER, 53), shown, b""), DropReason::NaptFiltered);
        let another = udp((ip("192.168.1.31"), 55), shown, b"");
        if other_host {
            assert_eq!(f.arrive(C, &another).destination, (HOST, 5000));
        } else {
            f.expect_drop(C, &another, DropReason::NaptFiltered);
        }
        // Who opens a TCP connection is for the grants to say.
        let shown = f.arrive(B, &tcp((HOST, 5000), (c, 53), flag::SYN, &[], b"")).source;
        f.expect_drop(C, &tcp((SERVER, 54), shown, flag::SYN, &[], b""), DropReason::NaptFiltered);
        // The sender keeps neither the session nor the port.
        for _ in 0..7 {
            f.secs(50);
            f.lan.send(C, &udp((SERVER, 54), (shown.0, shown.1), b""));
        }
        let gone = f.drops(C, DropReason::NaptNoBinding) + f.drops(C, DropReason::NaptFiltered);
        assert!(gone > 0 && f.bindings() <= 2, "{filtering}: {}", f.bindings());
    }
}

#[test]
fn a_ping_crosses_by_another_identifier_and_its_reply_finds_back() {
    let mut f = Fixture::start();
    for (site, name) in [(A, "a"), (B, "b")] {
        let c = f.c_for(name);
        let there = f.arrive(site, &echo(HOST, c, 9, false));
        assert_eq!((there.site, there.destination.0), (C, SERVER));
        assert_ne!(there.source.1, 9);
        let back = f.arrive(C, &echo(SERVER, there.source.0, there.source.1, true));
        assert_eq!(back, Seen { site, source: (c, 9), destination: (HOST, 9) });
        f.expect_drop(C, &echo(SERVER, there.source.0, there.source.1, false), DropReason::NaptNoBinding);
    }
    f.expect_drop(A, &echo(HOST, f.c_for("a"), 0, false), DropReason::NaptPortNotServed);
}

#[test]
fn a_forward_leads_in_for_those_who_are_granted_and_answers_come_from_it() {
    let mut f = Fixture::start();
    let (web, inside) = ((ip("100.64.9.3"), 443), (ip("192.168.1.20"), 8443));
    let a_client = f.appliance.seen_by("a", "c", "192.168.1.30");
    let there = f.arrive(C, &tcp((SERVER, 4000), web, flag::SYN, &[], b""));
    assert_eq!(there, Seen { site: A, source: (a_client, 4000), destination: inside });
    let back = f.arrive(A, &tcp(inside, (a_client, 4000), flag::SYN | flag::ACK, &[], b""));
    assert_eq!(back, Seen { site: C, source: web, destination: (SERVER, 4000) });
    f.expect_drop(D, &tcp((SERVER, 4000), web, flag::SYN, &[], b""), DropReason::NotGranted);
    f.expect_drop(C, &udp((SERVER, 4000), web, b""), DropReason::NaptNoBinding);

    // From a realm that is itself seen by a pool: both sides are shown by ports.
    let there = f.arrive(B, &tcp((HOST, 4000), web, flag::SYN, &[], b""));
    assert_eq!((there.site, there.source.0, there.destination), (A, ip("172.29.0.1"), inside));
    let back = f.arrive(A, &tcp(inside, there.source, flag::SYN | flag::ACK, &[], b""));
    assert_eq!(back, Seen { site: B, source: web, destination: (HOST, 4000) });
}

#[test]
fn a_host_of_the_realm_reaches_another_by_the_pool_and_is_shown_by_its_own_port() {
    let mut f = Fixture::start();
    let (web, inside) = ((ip("100.64.9.3"), 443), (ip("192.168.1.20"), 8443));
    let there = f.arrive(A, &tcp((HOST, 4000), web, flag::SYN, &[], b""));
    assert_eq!((there.site, there.destination), (A, inside));
    assert_eq!(there.source.0, ip("100.64.9.0"), "as everybody sees it (REQ-9 a)");
    let back = f.arrive(A, &tcp(inside, there.source, flag::SYN | flag::ACK, &[], b""));
    assert_eq!(back, Seen { site: A, source: web, destination: (HOST, 4000) });

    // Between two that are only known by their ports, as filtering has it.
    let mut f = Fixture::with(&FOUR.replace("forwards =", "filtering = \"endpoint\", forwards ="));
    let other = ip("192.168.1.11");
    let c = f.c_for("a");
    let (one_shown, other_shown) =
        (f.arrive(A, &udp((HOST, 5000), (c, 53), b"")).source, f.arrive(A, &udp((other, 6000), (c, 53), b"")).source);
    let there = f.arrive(A, &udp((HOST, 5000), other_shown, b""));
    assert_eq!(there, Seen { site: A, source: one_shown, destination: (other, 6000) });
}

#[test]
fn a_published_host_keeps_an_address_of_its_own() {
    let mut f = Fixture::start();
    let mail = ip("192.168.1.25");
    let alias = f.appliance.seen_by("c", "a", "192.168.1.25");
    let there = f.arrive(A, &udp((mail, 5000), (f.c_for("a"), 53), b""));
    assert_eq!(there.source, (alias, 5000));
    assert_eq!(f.arrive(C, &udp((SERVER, 53), (alias, 5000), b"")).destination, (mail, 5000));
}

#[test]
fn errors_find_the_host_behind_the_port_and_are_about_what_it_sent() {
    let mut f = Fixture::start();
    let c = f.c_for("a");
    let c_for_a_gateway = f.appliance.seen_by("a", "c", "192.168.1.1");
    for request in
        [udp((HOST, 5000), (c, 53), b"hello"), tcp((HOST, 5000), (c, 53), flag::SYN, &[], b""), echo(HOST, c, 9, false)]
    {
        let (_, arrived) = f.lan.send(A, &request).remove(0);
        let shown = seen(C, &arrived).source.0;
        // From a router of C's, not from the server.
        let arrivals = f.lan.send(C, &port_unreachable(ip("192.168.1.1"), shown, &arrived));
        let [(A, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
        let headers = verify(error).unwrap();
        assert_eq!((headers.source, headers.destination), (c_for_a_gateway, HOST));
        let quote = &error[28..];
        // As it was sent, but for a hop and the header checksum with it.
        assert_eq!((&quote[12..], quote[9]), (&request[12..], request[9]));
        assert_eq!(ixgate::wire::checksum::sum(&quote[..20]), 0xffff, "the quote's own header");
        // It ends nothing: the answer still finds its way (RFC 4787 REQ-12, 5382 REQ-10, 5508 REQ-6).
        let port = seen(C, &arrived).source.1;
        let answer = match request[9] {
            17 => udp((SERVER, 53), (shown, port), b"late"),
            6 => tcp((SERVER, 53), (shown, port), flag::SYN | flag::ACK, &[], b""),
            _ => echo(SERVER, shown, port, true),
        };
        assert_eq!(f.arrive(C, &answer).destination.0, HOST);
        // To somebody else's port, or about what was never sent, nothing passes.
        let mut invented = arrived.clone();
        let at = if request[9] == 1 { 24 } else { 20 };
        invented[at + 1] ^= 2;
        f.expect_drop(C, &port_unreachable(ip("192.168.1.1"), shown, &invented), DropReason::NaptNoBinding);
    }
}

#[test]
fn errors_of_a_realm_with_a_pool_come_from_where_the_packet_was_sent_to() {
    let mut f = Fixture::start();
    let web = (ip("100.64.9.3"), 443);
    let request = tcp((SERVER, 4000), web, flag::SYN, &[], b"");
    let (_, arrived) = f.lan.send(C, &request).remove(0);
    let client = seen(A, &arrived).source.0;
    for reporter in ["192.168.1.1", "192.168.1.20"] {
        let arrivals = f.lan.send(A, &port_unreachable(ip(reporter), client, &arrived));
        let [(C, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
        let headers = verify(error).unwrap();
        assert_eq!((headers.source, headers.destination), (web.0, SERVER), "RFC 5508 REQ-5");
        assert_eq!(error[28 + 12..], request[12..]);
    }
}

#[test]
fn a_host_that_has_used_its_ports_is_told_and_the_others_go_on() {
    let mut f = Fixture::start();
    let c = f.c_for("b");
    for port in 0..16 {
        f.arrive(B, &udp((HOST, 5000 + port), (c, 53), b""));
    }
    let sessions = f.lan.report().sessions;
    let refused = udp((HOST, 6000), (c, 53), b"hello");
    let arrivals = f.lan.send(B, &refused);
    let [(B, error)] = &arrivals[..] else { panic!("{arrivals:?}") };
    let headers = verify(error).unwrap();
    assert_eq!((headers.source, headers.transport), (ip("100.64.0.1"), Transport::IcmpError));
    assert_eq!(error[20..22], [3, 13], "administratively prohibited (RFC 5508 REQ-8)");
    assert_eq!(error[28..], refused, "as it was sent");
    assert_eq!(f.drops(B, DropReason::NaptExhausted), 1);
    assert_eq!(f.lan.report().sessions, sessions, "what cannot be shown is no session");
    f.arrive(B, &udp((ip("192.168.1.11"), 6000), (c, 53), b""));
    f.arrive(B, &udp((HOST, 5003), (c, 54), b""));

    let answered = (0..150).filter(|_| !f.lan.send(B, &refused).is_empty()).count();
    assert!(answered < 100, "limited as all errors");
    f.secs(301);
    f.secs(30);
    assert_eq!(f.bindings(), 1, "idle for five minutes; the forward stays");
    f.arrive(B, &udp((HOST, 6000), (c, 53), b""));
}

#[test]
fn the_table_is_bounded_and_a_denied_packet_takes_no_port() {
    let text = FOUR.replace("[wireguard]", "[limits]\nnapt_bindings = 1024\n[wireguard]");
    let mut f = Fixture::with(&text);
    let (c, d) = (f.c_for("a"), f.appliance.seen_by("a", "d", "192.168.1.30"));
    f.expect_drop(A, &udp((HOST, 5000), (d, 53), b""), DropReason::NotGranted);
    assert_eq!(f.bindings(), 1);
    for i in 0..1023u16 {
        let host = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 100 + (i % 100) as u8));
        f.arrive(A, &udp((host, 5000 + i), (c, 53), b""));
    }
    let arrivals = f.lan.send(A, &udp((HOST, 5000), (c, 53), b""));
    assert_eq!((arrivals.len(), f.drops(A, DropReason::NaptTableFull)), (1, 1));
    let report = f.lan.report();
    assert_eq!((report.napt_bindings, report.napt_bindings_max), (1024, 1024));
}

#[test]
fn a_tcp_connection_keeps_its_port_for_hours_and_a_closed_one_for_minutes() {
    let mut f = Fixture::start();
    let c = f.c_for("a");
    let client = |numbers, flags| segment((HOST, 5000), (c, 443), numbers, flags, b"");
    let shown = f.arrive(A, &client((100, 0), flag::SYN)).source;
    let server = |numbers, flags| segment((SERVER, 443), shown, numbers, flags, b"");
    f.arrive(C, &server((900, 101), flag::SYN | flag::ACK));
    f.arrive(A, &client((101, 901), flag::ACK));
    f.secs(7000);
    assert_eq!(f.arrive(C, &server((901, 101), flag::ACK)).destination, (HOST, 5000));
    f.arrive(A, &client((101, 901), flag::FIN | flag::ACK));
    f.arrive(C, &server((901, 102), flag::FIN | flag::ACK));
    f.secs(200);
    assert_eq!(f.bindings(), 2);
    f.secs(80);
    f.secs(30);
    assert_eq!(f.bindings(), 1, "the forward");
}

#[test]
fn the_middle_of_a_connection_has_no_port_of_a_pool_and_both_ends_may_ask_at_once() {
    let mut f = Fixture::start();
    let c = f.c_for("a");
    f.expect_drop(A, &segment((HOST, 5000), (c, 443), (100, 900), flag::ACK, b"more"), DropReason::NoSession);
    let shown = f.arrive(A, &segment((HOST, 5000), (c, 443), (100, 0), flag::SYN, b"")).source;
    f.expect_drop(C, &segment((SERVER, 444), shown, (900, 0), flag::SYN, b""), DropReason::NaptFiltered);
    let there = f.arrive(C, &segment((SERVER, 443), shown, (900, 0), flag::SYN, b""));
    assert_eq!(there.destination, (HOST, 5000), "the answer to who asked");
    f.arrive(A, &segment((HOST, 5000), (c, 443), (100, 901), flag::SYN | flag::ACK, b""));
    f.secs(7000);
    assert_eq!(f.bindings(), 2);
}

#[test]
fn what_has_no_ports_does_not_pass_a_pool() {
    let mut f = Fixture::start();
    let c = f.c_for("a");
    f.expect_drop(A, &packet(HOST, c, 47, vec![0; 16]), DropReason::NaptPortNotServed);
}

#[test]
fn towards_the_others_of_a_list_aliases_stay_and_towards_the_listed_there_are_none() {
    let text = FOUR.replace("forwards = [", "for = [\"c\", \"b\"], forwards = [");
    let mut f = Fixture::with(&(text + "[[grant]]\nfrom = [\"a\"]\nto = [\"realm:d\"]\nports = [\"any\"]\n"));
    let d = f.appliance.seen_by("a", "d", "192.168.1.30");
    let alias = f.appliance.seen_by("d", "a", "192.168.1.10");
    assert_eq!(f.arrive(A, &udp((HOST, 5000), (d, 53), b"")).source, (alias, 5000));
    let shown = f.arrive(A, &udp((HOST, 5000), (f.c_for("a"), 53), b"")).source;
    assert_eq!(shown.0, ip("100.64.9.0"));
    f.expect_drop(C, &udp((SERVER, 53), (alias, 5000), b""), DropReason::DestinationUnknown);
    f.expect_drop(D, &udp((SERVER, 53), shown, b""), DropReason::DestinationUnknown);
}

#[test]
fn a_reload_keeps_the_ports_of_pools_that_stay_and_ends_the_others() {
    let mut f = Fixture::start();
    let (c_for_a, c_for_b) = (f.c_for("a"), f.c_for("b"));
    let of_a = f.arrive(A, &udp((HOST, 5000), (c_for_a, 53), b"")).source;
    let of_b = f.arrive(B, &udp((HOST, 5000), (c_for_b, 53), b"")).source;
    f.publish(&FOUR.replace("172.29.0.1/32", "172.29.0.2/32"));
    assert_eq!(f.arrive(C, &udp((SERVER, 53), of_a, b"")).destination, (HOST, 5000));
    f.expect_drop(C, &udp((SERVER, 53), of_b, b""), DropReason::DestinationUnknown);
    let anew = f.arrive(B, &udp((HOST, 5000), (c_for_b, 53), b"")).source;
    assert_eq!(anew.0, ip("172.29.0.2"));
    assert_eq!(f.arrive(C, &udp((SERVER, 53), anew, b"")).destination, (HOST, 5000));
    f.secs(301);
    f.secs(30);
    assert_eq!(f.bindings(), 1, "nothing is left behind");

    f.arrive(A, &udp((HOST, 5000), (c_for_a, 53), b""));
    f.publish(&FOUR.lines().filter(|line| !line.starts_with("show_as")).collect::<Vec<_>>().join("\n"));
    assert_eq!(f.bindings(), 0);
    assert!(f.lan.engine.balances());
}
