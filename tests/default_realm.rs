//! The default realm, seen from the sites: everything that nobody else has, reached by grant and never pretended to be.

use std::net::IpAddr;

use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::Lan;
use ixgate::sim::packets::{echo, udp, verify};

/// A and B have one prefix, of which A's is shown under public addresses; B is never granted the Internet. C uses public
/// addresses that are not its own.
const NETWORKS: &str = r#"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = [{ prefix = "192.168.1.0/24", alias = "203.0.113.0/24" }, "2001:db8:a::/64"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[realm]]
name = "c"
networks = [{ prefix = "198.51.100.0/24", alias = "100.64.7.0/24" }]
attach = [{ wireguard = { public_key = "{key:c}" } }]
[[realm]]
name = "internet"
networks = ["default"]
attach = [{ wireguard = { public_key = "{key:internet}" } }]
[[grant]]
from = ["a", "c"]
to = ["realm:internet"]
ports = ["udp/53"]
[[grant]]
from = ["internet"]
to = ["realm:a", "realm:b"]
ports = ["udp/443"]
"#;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const INTERNET: usize = 3;

struct Fixture {
    lan: Lan,
    appliance: Appliance,
}

impl Fixture {
    fn start() -> Self {
        let appliance = Appliance::build(NETWORKS);
        Fixture { lan: Lan::start(&appliance, &["a", "b", "c", "internet"]), appliance }
    }

    /// Sends; what arrives, as (site, source, destination).
    fn send(&mut self, site: usize, packet: &[u8]) -> Vec<(usize, IpAddr, IpAddr)> {
        let arrivals = self.lan.send(site, packet);
        let seen = arrivals.iter().map(|(site, packet)| {
            let headers = verify(packet).unwrap();
            (*site, headers.source, headers.destination)
        });
        seen.collect()
    }

    fn expect_drop(&mut self, site: usize, realm: &str, packet: &[u8], reason: DropReason) {
        let drops = |f: &Self| f.appliance.drops(&f.lan.report(), realm, reason);
        let before = drops(self);
        assert_eq!(self.send(site, packet), [], "{}", reason.name());
        assert_eq!(drops(self), before + 1, "{}: {:?}", reason.name(), self.lan.report());
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_granted_host_reaches_the_internet_as_it_is_and_is_answered() {
    let mut f = Fixture::start();
    let (host, shown, there) = (ip("192.168.1.10"), ip("203.0.113.10"), ip("8.8.8.8"));
    assert_eq!(f.send(A, &udp((host, 5000), (there, 53), b"?")), [(INTERNET, shown, there)]);
    assert_eq!(f.send(INTERNET, &udp((there, 53), (shown, 5000), b"!")), [(A, there, host)]);
    let (host, there) = (ip("2001:db8:a::10"), ip("2a00::53"));
    assert_eq!(f.send(A, &udp((host, 5000), (there, 53), b"?")), [(INTERNET, host, there)]);
    assert_eq!(f.send(INTERNET, &udp((there, 53), (host, 5000), b"!")), [(A, there, host)]);
}

#[test]
fn the_internet_opens_what_it_is_granted() {
    let mut f = Fixture::start();
    let (there, shown) = (ip("8.8.8.8"), ip("203.0.113.10"));
    assert_eq!(f.send(INTERNET, &udp((there, 9), (shown, 443), b"")), [(A, there, ip("192.168.1.10"))]);
    f.expect_drop(INTERNET, "internet", &udp((there, 9), (shown, 444), b""), DropReason::NotGranted);
}

#[test]
fn it_is_reached_only_by_grant() {
    let mut f = Fixture::start();
    let (host, there) = (ip("192.168.1.10"), ip("8.8.8.8"));
    f.expect_drop(B, "b", &udp((host, 5000), (there, 53), b""), DropReason::NotGranted);
    f.expect_drop(A, "a", &udp((host, 5000), (there, 54), b""), DropReason::NotGranted);
    f.expect_drop(A, "a", &echo(host, there, 1, false), DropReason::NotGranted);
}

#[test]
fn what_is_not_the_internets_is_not_sent_there() {
    let mut f = Fixture::start();
    for there in ["10.1.2.3", "169.254.1.1", "192.168.1.11", "100.127.0.1", "240.0.0.1"] {
        let packet = udp((ip("192.168.1.10"), 5000), (ip(there), 53), b"");
        f.expect_drop(A, "a", &packet, DropReason::DestinationUnknown);
    }
    let packet = udp((ip("2001:db8:a::10"), 5000), (ip("fd00::1"), 53), b"");
    f.expect_drop(A, "a", &packet, DropReason::DestinationUnknown);
    // Its own addresses, public or not.
    let packet = udp((ip("198.51.100.10"), 5000), (ip("198.51.100.11"), 53), b"");
    f.expect_drop(C, "c", &packet, DropReason::DestinationUnknown);
}

#[test]
fn nobody_on_the_internet_can_pretend_to_be_one_of_us() {
    let mut f = Fixture::start();
    // Private, in the pool, A's public alias.
    for source in ["192.168.1.10", "10.0.0.1", "100.64.7.10", "127.0.0.1", "203.0.113.10"] {
        let packet = udp((ip(source), 5000), (ip("203.0.113.11"), 443), b"");
        f.expect_drop(INTERNET, "internet", &packet, DropReason::SourceNotInRealm);
    }
    for source in ["2001:db8:a::10", "fd69:7867:6174:2::c0a8:10a", "fe80::1"] {
        let packet = udp((ip(source), 5000), (ip("2001:db8:a::11"), 443), b"");
        f.expect_drop(INTERNET, "internet", &packet, DropReason::SourceNotInRealm);
    }
    // And nobody else has its addresses.
    let packet = udp((ip("8.8.8.8"), 53), (ip("203.0.113.10"), 443), b"");
    f.expect_drop(B, "b", &packet, DropReason::SourceNotInRealm);
}
