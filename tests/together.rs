//! What no kind of translation shows alone: pools for IPv6 hosts (NAT64), pools towards the default realm, fragments through
//! either, and ranges across IP versions. The engine that `run` runs, real WireGuard peers in memory.

use std::collections::HashSet;
use std::env;
use std::net::IpAddr;
use std::time::Duration;

use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets::{self, cut, echo, joined, port_unreachable, tcp, udp, verify};
use ixgate::sim::random::Random;
use ixgate::wire::fragment;
use ixgate::wire::headers::{Headers, Transport, parse, parse_quoted};
use ixgate::wire::tcp::flag;

/// A, B and `range` have one prefix. A is seen by public addresses, `six` (IPv6 only) by a pool but for its published host.
/// All but B and the Internet may open anything in B, in the Internet and in one another; nobody was told of more.
const KINDS: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
show_as = { napt = ["203.0.113.0/30"] }
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[realm]]
name = "six"
networks = ["fd00:6::/64"]
show_as = { napt = ["100.64.9.0/30"], forwards = [{ outside = "100.64.9.1", port = "tcp/443", to = "[fd00:6::30]:8443" }] }
attach = [{ wireguard = { public_key = "{key:six}" } }]
[[realm]]
name = "range"
networks = [{ range = "192.168.1.10-192.168.1.20", alias = "100.64.30.10-100.64.30.20" }]
attach = [{ wireguard = { public_key = "{key:range}" } }]
[[realm]]
name = "internet"
networks = ["default"]
attach = [{ wireguard = { public_key = "{key:internet}" } }]
[[host]]
name = "published"
realm = "six"
address = "fd00:6::20"
[[grant]]
from = ["a", "six", "range"]
to = ["realm:b", "realm:internet"]
ports = ["any"]
[[grant]]
from = ["six"]
to = ["realm:range"]
ports = ["any"]
[[grant]]
from = ["range"]
to = ["realm:six"]
ports = ["any"]
"#;

const NAMES: [&str; 5] = ["a", "b", "six", "range", "internet"];
const A: usize = 0;
const B: usize = 1;
const SIX: usize = 2;
const RANGE: usize = 3;
const INTERNET: usize = 4;

const IN_POOL_OF_A: &str = "203.0.113.";
const IN_POOL_OF_SIX: &str = "100.64.9.";

struct Fixture {
    lan: Lan,
    appliance: Appliance,
}

impl Fixture {
    fn start() -> Self {
        let appliance = Appliance::build(KINDS);
        Fixture { lan: Lan::start(&appliance, &NAMES), appliance }
    }

    fn send_all(&mut self, from: usize, to: usize, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let arrivals: Vec<Arrival> = packets.iter().flat_map(|packet| self.lan.send(from, packet)).collect();
        assert!(!arrivals.is_empty(), "{:?}", self.lan.report().realms);
        assert!(arrivals.iter().all(|(site, _)| *site == to), "{arrivals:?}");
        arrivals.into_iter().map(|(_, packet)| packet).collect()
    }

    /// Sends, and expects one packet with right checksums to arrive at `to`.
    fn cross(&mut self, from: usize, to: usize, packet: &[u8]) -> (Headers, Vec<u8>) {
        let mut arrived = self.send_all(from, to, &[packet.to_vec()]);
        assert_eq!(arrived.len(), 1);
        (verify(&arrived[0]).unwrap_or_else(|wrong| panic!("{wrong}: {arrived:?}")), arrived.remove(0))
    }

    fn expect_drop(&mut self, site: usize, packet: &[u8], reason: DropReason) {
        let drops = |f: &Self| f.appliance.drops(&f.lan.report(), NAMES[site], reason);
        let before = drops(self);
        assert_eq!(self.lan.send(site, packet), [], "{}", reason.name());
        assert_eq!(drops(self), before + 1, "{}: {:?}", reason.name(), self.lan.report());
    }

    /// How IPv4 realms see `fd00:6::20`.
    fn alias_of_published(&self) -> IpAddr {
        let at = self.appliance.locate("six", "fd00:6::20");
        self.appliance.snapshot.mapping.seen_by4(self.appliance.realm("range"), at).expect("an alias").into()
    }

    /// How IPv6 realms see a host.
    fn canonical(&self, realm: &str, native: &str) -> IpAddr {
        self.appliance.locate(realm, native).canonical.addr().into()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn server() -> IpAddr {
    ip("192.168.1.30")
}

fn host6() -> IpAddr {
    ip("fd00:6::10")
}

/// Source and destination port, or the identifier of an echo.
fn ports(headers: &Headers) -> (u16, u16) {
    match headers.transport {
        Transport::Tcp { source_port, destination_port, .. } => (source_port, destination_port),
        Transport::Udp { source_port, destination_port } => (source_port, destination_port),
        Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, ident),
        _ => panic!("{headers:?} has no ports"),
    }
}

fn is_in(pool: &str, address: IpAddr) -> bool {
    address.to_string().starts_with(pool)
}

fn payload() -> Vec<u8> {
    (0..3000).map(|at| (at % 251) as u8).collect()
}

/// There are more IPv6 hosts than blocks, so that none can be computed: who had which is in the log, by the address that
/// the host has on its own wires.
#[test]
fn which_ipv6_host_had_a_port_is_in_the_log() {
    let elsewhere = "{ prefix = \"fd00:6::/64\", canonical = \"fd5c:1e2b:90ab:6::/64\" }";
    let text = KINDS.replace("\"fd00:6::/64\"", elsewhere);
    let appliance = Appliance::build(&text);
    let mut f = Fixture { lan: Lan::start(&appliance, &NAMES), appliance };
    let log = |f: &mut Fixture| -> Vec<String> {
        let all = std::iter::from_fn(|| f.lan.engine.poll_event()).map(|event| event.to_string());
        all.filter(|line| line.contains("ports")).collect()
    };
    let there = f.canonical("b", "192.168.1.30");
    let (headers, _) = f.cross(SIX, B, &udp((host6(), 5000), (there, 53), b"hello"));
    let IpAddr::V4(shown) = headers.source else { panic!("{headers:?}") };
    let first = 1024 + (ports(&headers).0 - 1024) / 256 * 256;
    let block = format!("ports {first}-{} of {shown}", first + 255);
    assert_eq!(log(&mut f), [format!("realm six: {block} given to {}", host6())]);
    f.cross(SIX, B, &udp((host6(), 5001), (there, 53), b"it has it"));
    assert_eq!(log(&mut f), Vec::<String>::new());

    let now = f.lan.now + Duration::from_secs(400);
    f.lan.advance_to(now);
    assert_eq!(log(&mut f), [format!("realm six: {block} given back by {}", host6())]);

    [SIX, B].iter().for_each(|site| f.lan.connect(*site));
    f.cross(SIX, B, &udp((host6(), 5002), (there, 53), b"again"));
    assert_eq!(log(&mut f).len(), 1);
    let other_pool = text.replace("100.64.9.", "100.64.10.");
    let (snapshot, now) = (f.appliance.change(&other_pool), f.lan.now);
    f.lan.engine.publish(snapshot, now);
    let all = "realm six: all ports given back: a new configuration changed or removed its pool";
    assert_eq!(log(&mut f), [all]);
}

#[test]
fn ipv6_hosts_share_a_pool_towards_ipv4_hosts() {
    let mut f = Fixture::start();
    let there = f.canonical("b", "192.168.1.30");
    for request in [
        udp((host6(), 5000), (there, 53), b"hello"),
        tcp((host6(), 5000), (there, 53), flag::SYN, &[], b""),
        echo(host6(), there, 9, false),
    ] {
        let (headers, arrived) = f.cross(SIX, B, &request);
        assert!(is_in(IN_POOL_OF_SIX, headers.source), "{headers:?}");
        assert_eq!(headers.destination, server());
        let (shown, port) = (headers.source, ports(&headers).0);
        let reply = match headers.transport {
            Transport::Udp { .. } => udp((server(), 53), (shown, port), b"yes"),
            Transport::Tcp { .. } => tcp((server(), 53), (shown, port), flag::SYN | flag::ACK, &[], b""),
            _ => echo(server(), shown, port, true),
        };
        let (headers, _) = f.cross(B, SIX, &reply);
        assert_eq!((headers.source, headers.destination), (there, host6()));
        assert!([5000, 9].contains(&ports(&headers).1), "{headers:?}");

        // An error of the server, or of a router before it, is about what the host has sent.
        for reporter in ["192.168.1.30", "192.168.1.1"] {
            let reported_by = f.canonical("b", reporter);
            let (headers, error) = f.cross(B, SIX, &port_unreachable(ip(reporter), shown, &arrived));
            assert_eq!((headers.source, headers.destination), (reported_by, host6()));
            assert_eq!((error[40], error[41]), (1, 4));
            assert_eq!((&error[48 + 4..48 + 7], &error[48 + 8..]), (&request[4..7], &request[8..]));
        }
    }
}

#[test]
fn two_ipv6_hosts_with_one_port_are_two_and_nobody_else_comes_in() {
    let mut f = Fixture::start();
    let there = f.canonical("b", "192.168.1.30");
    let shown = |f: &mut Fixture, host: &str| {
        let (headers, _) = f.cross(SIX, B, &udp((ip(host), 5000), (there, 53), b""));
        (headers.source, ports(&headers).0)
    };
    let (first, second) = (shown(&mut f, "fd00:6::10"), shown(&mut f, "fd00:6::11"));
    assert_ne!(first, second);
    assert_eq!(shown(&mut f, "fd00:6::10"), first);
    for (shown, host) in [(first, "fd00:6::10"), (second, "fd00:6::11")] {
        assert_eq!(f.cross(B, SIX, &udp((server(), 53), shown, b"")).0.destination, ip(host));
    }
    f.expect_drop(B, &udp((server(), 54), first, b""), DropReason::NaptFiltered);
    f.expect_drop(B, &udp((ip("192.168.1.31"), 53), first, b""), DropReason::NaptFiltered);
    f.expect_drop(B, &udp((server(), 53), (first.0, 1), b""), DropReason::NaptNoBinding);
    // What has no ports cannot be shown by one.
    f.expect_drop(SIX, &packets::packet(host6(), there, 47, vec![0; 8]), DropReason::NaptPortNotServed);
    // Errors need no port of their own: they come from where the packet was sent to.
    let (_, reply) = f.cross(B, SIX, &udp((server(), 53), first, b"late"));
    let (headers, error) = f.cross(SIX, B, &port_unreachable(ip("fd00:6::1"), there, &reply));
    assert_eq!((headers.source, headers.destination), (first.0, server()));
    assert_eq!((error[20], error[21], &error[28 + 16..28 + 20]), (3, 3, &reply_destination(first.0)[..]));
    assert_eq!(error[28 + 22..28 + 24], first.1.to_be_bytes());
}

fn reply_destination(address: IpAddr) -> [u8; 4] {
    let IpAddr::V4(address) = address else { panic!("{address} is not IPv4") };
    address.octets()
}

#[test]
fn a_published_ipv6_host_keeps_its_alias_beside_the_pool_and_a_forward_leads_to_another() {
    let mut f = Fixture::start();
    let there = f.canonical("range", "192.168.1.15");
    let alias = f.alias_of_published();
    let (headers, _) = f.cross(SIX, RANGE, &udp((ip("fd00:6::20"), 5000), (there, 53), b""));
    assert_eq!((headers.source, ports(&headers)), (alias, (5000, 53)));
    let (headers, _) = f.cross(SIX, RANGE, &udp((host6(), 5000), (there, 53), b""));
    assert!(is_in(IN_POOL_OF_SIX, headers.source), "{headers:?}");

    let (client, forward) = (ip("192.168.1.12"), (ip("100.64.9.1"), 443));
    let client6 = f.canonical("range", "192.168.1.12");
    let (headers, _) = f.cross(RANGE, SIX, &tcp((client, 4000), forward, flag::SYN, &[], b""));
    assert_eq!((headers.source, headers.destination), (client6, ip("fd00:6::30")));
    assert_eq!(ports(&headers), (4000, 8443));
    let answer = tcp((ip("fd00:6::30"), 8443), (client6, 4000), flag::SYN | flag::ACK, &[], b"");
    let (headers, _) = f.cross(SIX, RANGE, &answer);
    assert_eq!((headers.source, headers.destination, ports(&headers)), (forward.0, client, (443, 4000)));
}

#[test]
fn hosts_of_a_range_reach_ipv6_hosts_and_are_reached_and_their_neighbours_are_not() {
    let mut f = Fixture::start();
    let alias = f.alias_of_published();
    for last in [10, 11, 16, 20] {
        let host = ip(&format!("192.168.1.{last}"));
        let canonical = f.canonical("range", &host.to_string());
        let (headers, _) = f.cross(RANGE, SIX, &echo(host, alias, 3, false));
        assert_eq!((headers.source, headers.destination), (canonical, ip("fd00:6::20")));
        let (headers, _) = f.cross(SIX, RANGE, &echo(ip("fd00:6::20"), canonical, 3, true));
        assert_eq!((headers.source, headers.destination), (alias, host));
        let (headers, _) = f.cross(SIX, RANGE, &udp((ip("fd00:6::20"), 1), (canonical, 2), b""));
        assert_eq!((headers.source, headers.destination), (alias, host));
    }
    let inside = f.canonical("range", "192.168.1.10").to_string();
    for last in [9, 21] {
        let outside = ip(&inside.replace("c0a8:10a", &format!("c0a8:{:x}", 0x100 + last)));
        f.expect_drop(RANGE, &echo(ip(&format!("192.168.1.{last}")), alias, 3, false), DropReason::SourceNotInRealm);
        f.expect_drop(SIX, &udp((ip("fd00:6::20"), 1), (outside, 2), b""), DropReason::DestinationUnknown);
    }
}

#[test]
fn a_realm_reaches_the_internet_by_its_public_addresses_and_only_replies_come_back() {
    let mut f = Fixture::start();
    let (host, web) = (ip("192.168.1.10"), ip("198.51.100.7"));
    let (headers, arrived) = f.cross(A, INTERNET, &tcp((host, 5000), (web, 443), flag::SYN, &[], b""));
    assert!(is_in(IN_POOL_OF_A, headers.source), "{headers:?}");
    assert_eq!(headers.destination, web);
    let shown = (headers.source, ports(&headers).0);
    let answer = tcp((web, 443), shown, flag::SYN | flag::ACK, &[], b"");
    let (headers, _) = f.cross(INTERNET, A, &answer);
    assert_eq!((headers.source, headers.destination, ports(&headers)), (web, host, (443, 5000)));
    let (headers, error) = f.cross(INTERNET, A, &port_unreachable(ip("198.51.100.1"), shown.0, &arrived));
    assert_eq!((headers.source, headers.destination), (ip("198.51.100.1"), host));
    assert_eq!(error[28 + 20..28 + 22], 5000u16.to_be_bytes());

    let syn = |from: IpAddr, to| tcp((from, 443), to, flag::SYN, &[], b"");
    f.expect_drop(INTERNET, &syn(ip("198.51.100.8"), shown), DropReason::NaptFiltered);
    f.expect_drop(INTERNET, &syn(web, (shown.0, 1)), DropReason::NaptNoBinding);
    f.expect_drop(INTERNET, &echo(web, shown.0, 7, false), DropReason::NaptNoBinding);
    f.expect_drop(INTERNET, &syn(web, (ip("192.168.1.10"), 443)), DropReason::DestinationUnknown);
    // Nobody out there is one of us.
    let b = f.appliance.seen_by("internet", "b", "192.168.1.30");
    for forged in ["203.0.113.1", "192.168.1.10", "100.64.9.1", "100.64.30.10"] {
        f.expect_drop(INTERNET, &syn(ip(forged), (b, 443)), DropReason::SourceNotInRealm);
    }
    // And nobody else is the Internet: A's pool is A's, not a host of the default realm.
    f.expect_drop(RANGE, &udp((ip("192.168.1.10"), 1), (ip("203.0.113.1"), 2), b""), DropReason::NaptNoBinding);
}

#[test]
fn ipv6_hosts_reach_ipv4_hosts_of_the_internet() {
    let mut f = Fixture::start();
    let web = f.canonical("internet", "198.51.100.7");
    let (headers, _) = f.cross(SIX, INTERNET, &udp((host6(), 5000), (web, 53), b"hello"));
    assert!(is_in(IN_POOL_OF_SIX, headers.source), "{headers:?}");
    assert_eq!(headers.destination, ip("198.51.100.7"));
    let reply = udp((ip("198.51.100.7"), 53), (headers.source, ports(&headers).0), b"yes");
    let (headers, _) = f.cross(INTERNET, SIX, &reply);
    assert_eq!((headers.source, headers.destination, ports(&headers)), (web, host6(), (53, 5000)));
}

/// Of two hosts that have chosen one identification (and one port) the fragments must not mix behind the address that they
/// share (RFC 6864 section 5.3).
#[test]
fn datagrams_in_fragments_pass_pools_of_either_ip_version() {
    for six in [false, true] {
        let mut f = Fixture::start();
        let (site, hosts, there) = match six {
            false => (A, ["192.168.1.10", "192.168.1.11"], f.appliance.seen_by("a", "b", "192.168.1.30")),
            true => (SIX, ["fd00:6::10", "fd00:6::11"], f.canonical("b", "192.168.1.30")),
        };
        let mut identifications = Vec::new();
        for host in hosts.map(ip) {
            let request = udp((host, 5000), (there, 53), &payload());
            let arrived = f.send_all(site, B, &cut(&request, 1280, 7));
            assert!(arrived.len() > 1);
            identifications.push(fragment::parse(&arrived[0]).unwrap().identification);
            let whole = joined(&arrived);
            let headers = verify(&whole).unwrap();
            assert!(is_in(if six { IN_POOL_OF_SIX } else { IN_POOL_OF_A }, headers.source), "{headers:?}");
            assert_eq!((headers.destination, &whole[28..]), (server(), &payload()[..]));

            let reply = udp((server(), 53), (headers.source, ports(&headers).0), &payload());
            let mut pieces = cut(&reply, 1420, 9);
            pieces.iter_mut().for_each(|piece| packets::set_dont_fragment(piece, false));
            // The last one first: what it belongs to is not known before the others have come.
            pieces.reverse();
            let whole = joined(&f.send_all(B, site, &pieces));
            let headers = verify(&whole).unwrap();
            assert_eq!((headers.source, headers.destination, ports(&headers)), (there, host, (53, 5000)));
            assert_eq!(whole[headers.transport_offset + 8..], payload());
        }
        assert_ne!(identifications[0], identifications[1]);
    }
}

#[test]
fn fragments_without_a_checksum_get_one_on_their_way_to_ipv6() {
    let mut f = Fixture::start();
    let alias = f.alias_of_published();
    let mut sent = udp((ip("192.168.1.10"), 5000), (alias, 53), &payload());
    sent[26..28].fill(0);
    packets::set_dont_fragment(&mut sent, false);
    let arrived = f.send_all(RANGE, SIX, &cut(&sent, 1420, 7));
    assert!(arrived.iter().all(|piece| piece.len() <= 1280));
    let whole = joined(&arrived);
    verify(&whole).unwrap();
    assert_ne!(whole[46..48], [0, 0]);
    assert_eq!(whole[48..], payload());
}

/// What one side of a packet is called: address and port.
type End = (IpAddr, u16);

/// The ends of a packet, or of the one inside it where it is an error.
fn ends(packet: &[u8], is_quote: bool) -> Option<(u8, End, End)> {
    let headers = if is_quote { parse_quoted(packet) } else { parse(packet) }.ok()?;
    let (from, to) = match headers.transport {
        Transport::IcmpError => return None,
        Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, ident),
        Transport::Tcp { source_port, destination_port, .. } | Transport::Udp { source_port, destination_port } => {
            (source_port, destination_port)
        }
        _ => (0, 0),
    };
    Some((headers.protocol, (headers.source, from), (headers.destination, to)))
}

/// Packets of every kind between all realms, mostly almost right. The oracle is written in terms of the file and of what each
/// site has itself sent and received: whatever arrives was granted by the file, or answers what its receiver has sent.
#[test]
fn with_all_kinds_in_one_world_nothing_arrives_that_nobody_agreed_to() {
    const GRANTED: [(usize, usize); 8] =
        [(A, B), (SIX, B), (RANGE, B), (A, INTERNET), (SIX, INTERNET), (RANGE, INTERNET), (SIX, RANGE), (RANGE, SIX)];
    let mut f = Fixture::start();
    let seed = env::var("IXGATE_SEED").map_or(7, |seed| seed.parse().expect("a number"));
    println!("IXGATE_SEED={seed}");
    let mut random = Random(seed);
    let own = [
        vec![ip("192.168.1.10"), ip("192.168.1.11")],
        vec![ip("192.168.1.10"), ip("192.168.1.11")],
        vec![ip("fd00:6::10"), ip("fd00:6::20"), ip("fd00:6::30")],
        vec![ip("192.168.1.10"), ip("192.168.1.11")],
        vec![ip("198.51.100.7"), ip("2001:db8::7")],
    ];
    // Every address by which anybody is seen, and some that belong to nobody.
    let mut known: Vec<IpAddr> = own.concat();
    for (realm, hosts) in own.iter().enumerate() {
        for host in hosts {
            let at = f.appliance.locate(NAMES[realm], &host.to_string());
            known.push(at.canonical.addr().into());
            known.extend(f.appliance.snapshot.mapping.seen_by4(f.appliance.realm("internet"), at).map(IpAddr::V4));
        }
    }
    known.extend((0..4).flat_map(|last| [ip(&format!("203.0.113.{last}")), ip(&format!("100.64.9.{last}"))]));
    let (mut sent, mut arrivals_by_grant, mut replies, mut errors) = (HashSet::new(), 0, 0, 0);
    let mut last: Vec<Option<Vec<u8>>> = vec![None; NAMES.len()];

    for _ in 0..20_000 {
        let site = random.below(NAMES.len() as u64) as usize;
        let mut pick = |from: &[IpAddr]| from[random.below(from.len() as u64) as usize];
        let (source, destination) = (pick(&own[site]), pick(&known));
        let port = |random: &mut Random| [53, 443, 1024, 1280, 5000][random.below(5) as usize];
        let body = if random.permille(100) { vec![9; 2000] } else { vec![7; 8] };
        let answered = last[site].clone().filter(|_| random.permille(400));
        let packet = match answered.and_then(|packet| Some((ends(&packet, false)?, packet))) {
            Some(((_, from, to), packet)) => match random.below(4) {
                0 => port_unreachable(to.0, from.0, &packet[..packet.len().min(600)]),
                1 if packet[0] >> 4 == 4 && packet[9] == 1 => echo(to.0, from.0, from.1, true),
                1 | 2 => udp(to, from, &body),
                _ => tcp(to, from, flag::ACK, &[], &body[..8]),
            },
            None if source.is_ipv4() != destination.is_ipv4() => continue,
            None => match random.below(3) {
                0 => udp((source, port(&mut random)), (destination, port(&mut random)), &body),
                1 => tcp((source, port(&mut random)), (destination, port(&mut random)), flag::SYN, &[], &body[..8]),
                _ => echo(source, destination, port(&mut random), random.permille(300)),
            },
        };
        sent.extend(ends(&packet, false).map(|(protocol, from, to)| (site, protocol, from, to)));
        let pieces = if packet.len() > 1280 { cut(&packet, 1280, 7) } else { vec![packet] };
        let arrivals: Vec<Arrival> = pieces.iter().flat_map(|piece| f.lan.send(site, piece)).collect();
        let Some((receiver, _)) = arrivals.first().cloned() else { continue };
        assert!(arrivals.iter().all(|(to, _)| *to == receiver), "two realms have parts of it");
        let whole = joined(&arrivals.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>());
        let headers = verify(&whole).unwrap();
        assert!(own[receiver].contains(&headers.destination), "{headers:?} at {}", NAMES[receiver]);
        match ends(&whole, false) {
            // Answers of the IX are answers too.
            Some((protocol, from, to)) if sent.contains(&(receiver, protocol, to, from)) => replies += 1,
            Some(_) => {
                assert!(GRANTED.contains(&(site, receiver)), "{headers:?} from {} at {}", NAMES[site], NAMES[receiver]);
                arrivals_by_grant += 1;
            }
            None => {
                let (protocol, from, to) = ends(&whole[headers.transport_offset + 8..], true).expect("a quote");
                let known = sent.contains(&(receiver, protocol, from, to));
                assert!(known, "{protocol} {from:?} {to:?}: {headers:?} from {} at {}", NAMES[site], NAMES[receiver]);
                errors += 1;
            }
        }
        if site != receiver {
            last[receiver] = Some(whole);
        }
        assert!(f.lan.engine.balances());
    }
    println!("{arrivals_by_grant} by grant, {replies} replies, {errors} errors");
    assert!(arrivals_by_grant > 300 && replies > 100 && errors > 100, "{arrivals_by_grant} {replies} {errors}");
}
