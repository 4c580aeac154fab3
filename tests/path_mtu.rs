//! Links that carry less than the tunnels were made for: they are measured, and hosts learn it by "packet too big" and TCP's
//! MSS. In virtual time.

use std::net::IpAddr;
use std::time::Duration;

use ixgate::dataplane::report::{MtuReport, MtuSource, TunnelReport};
use ixgate::packet::DropReason;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::ipsec_site::Plan;
use ixgate::sim::mixed::{Link, Mixed, plan};
use ixgate::sim::packets::{tcp, udp};

const TEXT: &str = r#"
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
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{ ipsec = { remote_id = "fqdn:b.example", psk_file = "secrets/b.example.psk" } }]
[[grant]]
from = ["a", "b"]
to = ["realm:a", "realm:b"]
ports = ["any"]
"#;
const A: usize = 0;
const B: usize = 1;
/// 1390 inside AES-GCM, UDP and IPv4.
const B_OUTER: u16 = 1452;
/// 1420 inside WireGuard, UDP and IPv4.
const A_OUTER: u16 = 1480;

#[path = "path_mtu/wireguard.rs"]
mod wireguard;

struct Fixture {
    world: Mixed,
    appliance: Appliance,
}

impl Fixture {
    /// `link`: the one to this site.
    fn start(site: usize, link: Option<Link>) -> Self {
        let appliance = Appliance::build(TEXT);
        let mut world = Mixed::new(&appliance, 1);
        world.links.extend(link.map(|link| (site, link)));
        assert_eq!(world.attach_wireguard(&appliance, "a"), A);
        assert_eq!(world.attach_ipsec(Plan { ..plan("b.example", 11) }), B);
        Fixture { world, appliance }
    }

    fn secs(&mut self, secs: u64) -> &mut Self {
        self.world.run_for(Duration::from_secs(secs));
        self
    }

    fn report(&self, realm: &str) -> TunnelReport {
        let id = self.appliance.realm(realm);
        self.world.report().tunnels.into_iter().find(|tunnel| tunnel.realm == id).expect("a tunnel")
    }

    fn mtu(&self, realm: &str) -> MtuReport {
        self.report(realm).mtu
    }

    /// Sends a UDP packet of so many bytes with DF to the other site: whether it arrives, and what the sender is told.
    fn send(&mut self, from: usize, bytes: usize) -> (bool, Option<u16>) {
        let names = ["a", "b"];
        let to = 1 - from;
        // Whatever the time, there are keys.
        self.world.renew_wireguard(A);
        self.secs(1);
        let (ours, theirs) = (ip("192.168.1.10"), self.appliance.seen_by(names[from], names[to], "192.168.1.20"));
        let packet = udp((ours, 5000), (theirs, 443), &vec![7; bytes - 28]);
        assert_eq!((packet.len(), packet[6] & 0x40), (bytes, 0x40));
        for site in [A, B] {
            self.world.take_inbox(site);
        }
        assert!(self.world.send(from, &packet));
        self.secs(1);
        let arrived = self.world.take_inbox(to).iter().any(|packet| packet.len() == bytes);
        let told = self.world.take_inbox(from).iter().find_map(|packet| {
            // ICMP, destination unreachable, fragmentation needed.
            (packet[9] == 1 && packet[20..22] == [3, 4]).then(|| u16::from_be_bytes([packet[26], packet[27]]))
        });
        (arrived, told)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(mtu_bytes: u16, sends_icmp: bool) -> Option<Link> {
    Some(Link { mtu_bytes, sends_icmp })
}

#[test]
fn on_a_usual_path_one_probe_confirms_what_is_configured() {
    let mut ix = Fixture::start(B, link(1500, false));
    ix.secs(3);
    let MtuReport { configured_bytes, outer_bytes, inner_bytes, source, searching, .. } = ix.mtu("b");
    assert_eq!((configured_bytes, outer_bytes, inner_bytes), (1390, Some(B_OUTER), 1390));
    assert_eq!((source, searching), (MtuSource::Probe, false));
    let MtuReport { outer_bytes, inner_bytes, source, searching, may_fragment, .. } = ix.mtu("a");
    assert_eq!((outer_bytes, inner_bytes), (Some(A_OUTER), 1420));
    assert_eq!((source, searching, may_fragment), (MtuSource::Probe, false, false));
    assert_eq!(ix.send(A, 1390), (true, None));
    assert_eq!(ix.send(A, 1391), (false, Some(1390)));
}

#[test]
fn a_black_hole_before_an_ipsec_site_is_measured_and_senders_are_told() {
    for mtu in [1280, 1330, 1372, 1400, 1440] {
        let mut ix = Fixture::start(B, link(mtu, false));
        ix.secs(120);
        let known = ix.mtu("b");
        assert_eq!((known.source, known.searching), (MtuSource::Probe, false), "{mtu}: {known:?}");
        let outer = known.outer_bytes.unwrap();
        assert!(outer <= mtu && outer + 16 >= mtu, "{mtu}: {known:?}");
        let inner = known.inner_bytes;
        assert!(inner >= 1280);
        assert_eq!(ix.send(A, inner.into()), (true, None), "{mtu}");
        assert_eq!(ix.send(A, usize::from(inner) + 1), (false, Some(inner)), "{mtu}");
        // Whatever was lost, nobody was taken for dead.
        let ipsec = ix.report("b").ipsec.unwrap();
        assert_eq!((ipsec.failures.len(), ipsec.counts.established, ipsec.ike_sas), (0, 1, 1), "{mtu}: {ipsec:#?}");
        assert!(ix.world.report().realms.iter().all(|realm| realm.drops[DropReason::TunnelDown.index()] == 0));
    }
}

#[test]
fn the_window_is_held_up_by_a_lost_probe_no_longer_than_until_its_fragments_are_answered() {
    let mut ix = Fixture::start(B, link(1300, false));
    let mut retransmissions = 0;
    for _ in 0..240 {
        ix.world.run_for(Duration::from_millis(500));
        let counts = ix.report("b").ipsec.unwrap().counts;
        // Each lost probe is sent a second time, in fragments, and never a third.
        assert!(counts.retransmissions <= retransmissions + 1);
        retransmissions = counts.retransmissions;
    }
    assert!(retransmissions >= 3, "probes were lost");
    assert!(ix.report("b").up);
}

#[test]
fn a_link_that_grows_or_shrinks_is_noticed() {
    let mut ix = Fixture::start(B, link(1400, false));
    ix.secs(100);
    assert_eq!(ix.mtu("b").outer_bytes, Some(1400));
    ix.world.links.clear();
    assert_eq!(ix.secs(700).mtu("b").inner_bytes, 1390, "by itself, after ten minutes");
    ix.world.links.insert(B, link(1360, true).unwrap());
    ix.send(A, 1390);
    let known = ix.secs(10).mtu("b");
    assert_eq!((known.outer_bytes, known.source), (Some(1360), MtuSource::Probe), "a router's word, verified");
}

#[test]
fn forged_icmp_lowers_no_tunnel() {
    let mut ix = Fixture::start(B, None);
    ix.secs(5);
    let (a, b) = (ix.report("a").remote.unwrap(), ix.report("b").remote.unwrap());
    for remote in [a, b, "192.0.2.99:4500".parse().unwrap()] {
        ix.world.report_path(remote, 600);
        for _ in 0..50 {
            assert_eq!((ix.mtu("b").inner_bytes, ix.mtu("a").inner_bytes), (1390, 1420), "at no time");
            ix.world.run_for(Duration::from_millis(100));
        }
    }
}

#[test]
fn the_mss_is_that_of_the_narrower_tunnel_in_either_direction() {
    // 1,280 outside is less than 1,280 inside: the MTU stays, TCP's segments are made for what is not fragmented.
    for (site, narrow, fits, mtu) in
        [(B, 1360, 1360 - 62, 1360 - 62), (B, 1280, 1280 - 62, 1280), (A, 1280, 1216, 1280)]
    {
        let mut ix = Fixture::start(site, link(narrow, false));
        ix.secs(120);
        let known = ix.mtu(["a", "b"][site]);
        assert_eq!((known.inner_bytes, known.unfragmented_bytes), (mtu, fits));
        for (from, to, names) in [(A, B, ["a", "b"]), (B, A, ["b", "a"])] {
            ix.world.renew_wireguard(A);
            ix.secs(1);
            let theirs = ix.appliance.seen_by(names[0], names[1], "192.168.1.20");
            let syn = tcp((ip("192.168.1.10"), 5000), (theirs, 80), 0x02, &[2, 4, 0x05, 0xb4], &[]);
            ix.world.take_inbox(to);
            assert!(ix.world.send(from, &syn));
            ix.secs(1);
            let arrived = ix.world.take_inbox(to);
            let syn = arrived.iter().find(|packet| packet[9] == 6).expect("the SYN");
            let mss = u16::from_be_bytes([syn[42], syn[43]]);
            assert_eq!((&syn[40..42], mss), (&[2, 4][..], fits - 40), "{names:?}");
            // The longest segment.
            let full = tcp((ip("192.168.1.10"), 5000), (theirs, 80), 0x10, &[], &vec![1; mss.into()]);
            let cut = ix.world.cut;
            assert!(ix.world.send(from, &full));
            ix.secs(1);
            assert!(ix.world.take_inbox(to).iter().any(|packet| packet.len() == full.len()));
            assert_eq!(ix.world.cut, cut, "and it travels whole outside, too");
        }
    }
}
