//! Realms attached by plain ports around the engine that `run` runs: carriers' routers on virtual Ethernet links, beside WireGuard
//! and IPsec sites, in virtual time. Every IPv4 network is 192.168.1.0/24, and every carrier uses the same addresses, hardware
//! addresses and VLAN numbers.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::net::{InterfaceId, Mac, Path};
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::mixed::{Mixed, plan};
use ixgate::sim::packets::{echo, tcp, udp, verify};
use ixgate::sim::ports::Station;
use ixgate::sim::random::Random;
use ixgate::wire::ethernet::ether_type;
use ixgate::wire::headers::Headers;
use ixgate::wire::tcp::flag;

#[path = "ports/doors.rs"]
mod doors;
#[path = "ports/frames.rs"]
mod frames;
#[path = "ports/shares.rs"]
mod shares;
#[path = "ports/switching.rs"]
mod switching;

/// `a` and `c` share an interface, `a` and `b` a VLAN number. `six` speaks IPv6 only, `both` both.
const KINDS: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
listen = "198.51.100.1"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth1", vlan = 100, address = "172.20.0.2/30", gateway = "172.20.0.1" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth2", vlan = 100, address = "172.20.0.2/30", gateway = "172.20.0.1" } }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth1", vlan = 200, address = "172.20.0.2/30", gateway = "172.20.0.1" } }]
[[realm]]
name = "wireguard"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:wireguard}" } }]
[[realm]]
name = "ipsec"
networks = ["192.168.1.0/24"]
attach = [{ ipsec = { remote_id = "fqdn:ipsec.example", psk_file = "secrets/ipsec.example.psk" } }]
[[realm]]
name = "six"
networks = ["fd00:6::/64"]
attach = [{ port = { interface = "eth2", vlan = 6, address = "2001:db8:9::2/64", gateway = "2001:db8:9::1" } }]
[[realm]]
name = "both"
networks = ["192.168.1.0/24", "fd00:b::/64"]
attach = [{ port = { interface = "eth1", address = ["172.20.0.2/30", "2001:db8:9::2/64"], gateway = ["172.20.0.1", "2001:db8:9::1"] } }]
[[realm]]
name = "closed"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth2", vlan = 7, address = "172.20.0.2/30", gateway = "172.20.0.1" } }]
[[host]]
name = "service"
realm = "six"
address = "fd00:6::20"
[[grant]]
from = ["a", "b", "c", "wireguard", "ipsec", "six", "both"]
to = ["realm:a", "realm:b", "realm:c", "realm:wireguard", "realm:ipsec", "realm:six", "realm:both"]
ports = ["any"]
"#;

/// Those with the IPv4 prefix, by what they are attached.
const FOUR: [&str; 6] = ["a", "b", "c", "wireguard", "ipsec", "both"];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Station(usize),
    Site(usize),
}

struct Fixture {
    world: Mixed,
    appliance: Appliance,
    ends: Vec<(&'static str, End)>,
}

impl Fixture {
    /// Everything is up.
    fn start() -> Self {
        let appliance = Appliance::build(KINDS);
        let mut world = Mixed::new(&appliance, 1);
        let (eth1, eth2) = (world.interface("eth1"), world.interface("eth2"));
        let stations = [
            ("a", eth1, Some(100), &["172.20.0.1"][..]),
            ("b", eth2, Some(100), &["172.20.0.1"]),
            ("c", eth1, Some(200), &["172.20.0.1"]),
            ("six", eth2, Some(6), &["2001:db8:9::1"]),
            ("both", eth1, None, &["172.20.0.1", "2001:db8:9::1"]),
            ("closed", eth2, Some(7), &["172.20.0.1"]),
        ];
        let mut ends = Vec::new();
        for (name, interface, vlan, addresses) in stations {
            let station = world.attach_station(Station::new(interface, vlan, ROUTER, addresses));
            ends.push((name, End::Station(station)));
        }
        ends.push(("wireguard", End::Site(world.attach_wireguard(&appliance, "wireguard"))));
        ends.push(("ipsec", End::Site(world.attach_ipsec(plan("ipsec.example", 11)))));
        [eth1, eth2].into_iter().for_each(|interface| world.set_link(interface, true, 1500));
        world.run_for(Duration::from_secs(10));
        let mut fixture = Fixture { world, appliance, ends };
        fixture.take_all();
        let down: Vec<_> = fixture.world.report().tunnels.into_iter().filter(|tunnel| !tunnel.up).collect();
        assert!(down.is_empty(), "{down:#?} {:#?}", fixture.world.events);
        fixture
    }

    fn end(&self, name: &str) -> End {
        self.ends.iter().find(|(of, _)| *of == name).expect("an end").1
    }

    fn send(&mut self, from: &str, packet: &[u8]) {
        match self.end(from) {
            End::Station(station) => self.world.send_by_port(station, packet),
            End::Site(site) => assert!(self.world.send(site, packet)),
        }
    }

    /// All that has arrived anywhere.
    fn take_all(&mut self) -> Vec<(&'static str, Vec<u8>)> {
        let mut all = Vec::new();
        for (name, end) in self.ends.clone() {
            let packets = match end {
                End::Station(station) => self.world.take_station_inbox(station),
                End::Site(site) => self.world.take_inbox(site),
            };
            all.extend(packets.into_iter().map(|packet| (name, packet)));
        }
        all
    }

    /// Sends, and expects exactly one packet, at `to` and with right checksums.
    fn cross(&mut self, from: &str, to: &str, packet: &[u8]) -> Headers {
        self.send(from, packet);
        self.world.run_for(Duration::from_millis(100));
        let arrivals = self.take_all();
        let [(at, arrived)] = &arrivals[..] else {
            panic!("{from} to {to}: {arrivals:?} {:#?}", self.world.report().totals)
        };
        assert_eq!(*at, to);
        verify(arrived).unwrap_or_else(|wrong| panic!("{wrong}: {arrived:?}"))
    }

    fn drops(&self, realm: &str, reason: DropReason) -> u64 {
        self.appliance.drops(&self.world.report(), realm, reason)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn realms_with_one_prefix_reach_each_other_by_whatever_they_are_attached() {
    let mut ix = Fixture::start();
    let (client, server) = ((ip("192.168.1.10"), 5000), ip("192.168.1.20"));
    for from in FOUR {
        for to in FOUR.into_iter().filter(|to| *to != from) {
            let shown = ix.appliance.seen_by(from, to, "192.168.1.20");
            let headers = ix.cross(from, to, &udp(client, (shown, 443), b"question"));
            let seen = ix.appliance.seen_by(to, from, "192.168.1.10");
            assert_eq!((headers.source, headers.destination), (seen, server), "{from} to {to}");
            let headers = ix.cross(to, from, &udp((server, 443), (seen, 5000), b"answer"));
            assert_eq!((headers.source, headers.destination), (shown, client.0), "{to} to {from}");
        }
    }
    let report = ix.world.report();
    assert_eq!(report.totals.forwarded, 2 * 30, "each packet once, and nothing else: {:#?}", report.totals);
}

#[test]
fn ipv6_ports_and_ipv4_realms_reach_each_other() {
    let mut ix = Fixture::start();
    // IPv6 to IPv6, by canonical addresses.
    let (six, both) = (ip("fd00:6::20"), ip("fd00:b::10"));
    let headers = ix.cross("both", "six", &echo(both, six, 7, false));
    assert_eq!((headers.source, headers.destination), (both, six));
    ix.cross("six", "both", &echo(six, both, 7, true));
    // IPv4 to IPv6, by the alias of a published host, from a port and from a tunnel; and the answer.
    for from in ["a", "wireguard", "ipsec"] {
        let at = ix.appliance.locate("six", "fd00:6::20");
        let alias = ix.appliance.snapshot.mapping.seen_by4(ix.appliance.realm(from), at).expect("an alias");
        let client = ip("192.168.1.10");
        let headers = ix.cross(from, "six", &udp((client, 5000), (alias.into(), 443), b"question"));
        assert_eq!(headers.destination, six);
        assert_eq!(headers.source, ix.appliance.locate(from, "192.168.1.10").canonical.addr());
        let headers = ix.cross("six", from, &udp((six, 443), (headers.source, 5000), b"answer"));
        assert_eq!((headers.source, headers.destination), (alias.into(), client));
    }
}

#[test]
fn what_is_not_granted_or_not_the_realms_own_does_not_cross() {
    let mut ix = Fixture::start();
    let to_a = ix.appliance.seen_by("closed", "a", "192.168.1.20");
    for (source, reason) in [("192.168.1.10", DropReason::NotGranted), ("172.20.0.1", DropReason::SourceNotInRealm)] {
        ix.send("closed", &udp((ip(source), 5000), (to_a, 443), b"question"));
        ix.world.run_for(Duration::from_millis(100));
        assert_eq!(ix.take_all(), []);
        assert_eq!(ix.drops("closed", reason), 1, "{}", reason.name());
    }
}

#[test]
fn a_narrower_link_is_told_to_senders_and_shown() {
    let mut ix = Fixture::start();
    let (eth1, shown) = (ix.world.interface("eth1"), ix.appliance.seen_by("b", "a", "192.168.1.20"));
    let long = |bytes: usize| {
        let mut packet = udp((ip("192.168.1.10"), 5000), (shown, 443), &vec![7; bytes - 28]);
        ixgate::sim::packets::set_dont_fragment(&mut packet, true);
        packet
    };
    ix.cross("b", "a", &long(1500));
    ix.world.set_link(eth1, true, 1400);
    let headers = ix.cross("b", "b", &long(1500));
    assert_eq!(headers.destination, ip("192.168.1.10"), "too big");
    ix.cross("b", "a", &long(1400));
    let id = ix.appliance.realm("a");
    let report = ix.world.report().tunnels.into_iter().find(|tunnel| tunnel.realm == id).expect("a tunnel");
    assert_eq!((report.mtu.inner_bytes, report.mtu.source.name()), (1400, "link"));
    ix.world.set_link(eth1, true, 1500);
    ix.cross("b", "a", &long(1500));
}

/// `link`'s hosts are on the link itself.
const ON_LINK: &str = r#"
[ix]
domain = "ix.example"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth1", address = "172.20.0.2/30", gateway = "172.20.0.1" } }]
[[realm]]
name = "link"
networks = ["192.168.1.0/24"]
attach = [{ port = { interface = "eth2", address = "192.168.1.1/24" } }]
[[grant]]
from = ["a"]
to = ["realm:link"]
ports = ["any"]
"#;

#[test]
fn packets_that_find_no_neighbour_are_drops_with_that_reason_and_no_others() {
    let appliance = Appliance::build(ON_LINK);
    let mut world = Mixed::new(&appliance, 1);
    let (eth1, eth2) = (world.interface("eth1"), world.interface("eth2"));
    let router = world.attach_station(Station::new(eth1, None, ROUTER, &["172.20.0.1"]));
    let host = world.attach_station(Station::new(eth2, None, ROUTER, &["192.168.1.20"]));
    [eth1, eth2].into_iter().for_each(|interface| world.set_link(interface, true, 1500));
    world.run_for(Duration::from_secs(10));
    let ends = vec![("a", End::Station(router)), ("host", End::Station(host))];
    let mut ix = Fixture { world, appliance, ends };
    let question = |ix: &Fixture, of: &str| {
        udp((ip("192.168.1.10"), 5000), (ix.appliance.seen_by("a", "link", of), 443), b"question")
    };
    let there = question(&ix, "192.168.1.20");
    ix.cross("a", "host", &there);
    let absent = question(&ix, "192.168.1.21");
    (0..3).for_each(|_| ix.send("a", &absent));
    ix.world.run_for(Duration::from_secs(30));
    assert_eq!(ix.take_all(), []);
    let report = ix.world.report();
    assert_eq!(report.unattributed_drops[DropReason::NeighbourUnresolved.index()], 3, "{:#?}", report.totals);
    assert_eq!(report.totals.forwarded, 1);
}
