//! What a porter is lent, for how long, and what it leaves to the walk.

mod sites;

use std::net::{IpAddr, Ipv4Addr};

use ixgate::dataplane::parcel::Leaving;
use ixgate::dataplane::porter::LENT_FOR;
use ixgate::dataplane::{Engine, Parcel, Porter};
use ixgate::net::Timestamp;
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets::udp;

use sites::{FarEnd, Kind, gateway};

const FILE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
[[realm]]
name = "a"
networks = ["10.0.0.0/16"]
attach = [{attach:a}]
[[realm]]
name = "b"
networks = ["10.0.0.0/16"]
attach = [{attach:b}]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;

struct Fixture {
    appliance: Appliance,
    source: FarEnd,
    destination: FarEnd,
    engine: Engine,
    porter: Porter,
    now: Timestamp,
}

impl Fixture {
    fn start(kind: Kind) -> Self {
        let mut now = Timestamp::from_secs(1);
        let text = FILE.replace("{attach:a}", &kind.attach("a", 1420)).replace("{attach:b}", &kind.attach("b", 1420));
        let appliance = Appliance::build(&text);
        let mut engine = appliance.engine(now);
        let [source, destination] = [("a", 1), ("b", 2)].map(|(name, number)| {
            let mut site = gateway(kind, &appliance, name, number, now);
            now = site.shake_hands(&mut engine, now);
            site
        });
        Fixture { appliance, source, destination, engine, porter: Porter::default(), now }
    }

    fn sealed(&mut self, count: u16) -> Vec<Vec<u8>> {
        let alias = IpAddr::V4(self.appliance.alias_of("b"));
        let packet = |port| udp((Ipv4Addr::new(10, 0, 0, 1).into(), port), (alias, 443), &[7; 100]);
        (0..count).map(|n| self.source.seal(&packet(5_000 + n))).collect()
    }

    /// So many parcels, of which each walks before the next is filled. How many datagrams the porter opened, and how many it left.
    fn carry(&mut self, datagrams: &[Vec<u8>]) -> Vec<(usize, usize)> {
        let path = self.source.path();
        let mut all = datagrams.iter().map(|bytes| Datagram::new(path, bytes)).peekable();
        let (mut parcel, mut counts) = (Parcel::default(), Vec::new());
        while all.peek().is_some() {
            self.porter.handle_timeout(self.now);
            self.porter.fill(&mut all, &mut parcel);
            counts.push(parcel.counts());
            self.engine.handle_parcel(&mut parcel, self.now);
            self.engine.outbox().clear();
            self.porter.learn(&mut parcel, self.now);
            // As the worker and a porter do it: each has its part, and nothing leaves that is not sealed.
            for leaving in [Leaving::ByWalk, Leaving::ByPorter] {
                parcel.seal(leaving);
                for (path, _, bytes) in parcel.outbox().datagrams().filter(|(path, ..)| leaving.carries(path.port)) {
                    self.destination.open(path, bytes, self.now).expect("what was sealed");
                }
            }
            parcel.outbox().clear();
        }
        counts
    }

    fn forwarded(&self) -> u64 {
        self.engine.report(self.now).totals.forwarded
    }
}

#[test]
fn what_it_is_lent_at_the_first_packet_it_opens_from_the_second_parcel_on() {
    for kind in [Kind::WireGuard, Kind::Esp] {
        let mut fixture = Fixture::start(kind);
        let datagrams = fixture.sealed(150);
        assert_eq!(fixture.carry(&datagrams), [(0, 64), (64, 0), (22, 0)], "{kind:?}");
        assert_eq!(fixture.forwarded(), 150);
    }
}

#[test]
fn it_forgets_what_it_was_lent_and_is_lent_it_again() {
    for kind in [Kind::WireGuard, Kind::Esp] {
        let mut fixture = Fixture::start(kind);
        let datagrams = fixture.sealed(4);
        assert_eq!(fixture.carry(&datagrams[..1]), [(0, 1)]);
        assert_eq!(fixture.carry(&datagrams[1..2]), [(1, 0)]);
        fixture.now = fixture.porter.poll_timeout().expect("there is a key") + LENT_FOR;
        assert_eq!(fixture.carry(&datagrams[2..3]), [(0, 1)], "{kind:?}");
        assert_eq!(fixture.carry(&datagrams[3..]), [(1, 0)]);
        assert_eq!(fixture.forwarded(), 4);
    }
    assert_eq!(Porter::default().poll_timeout(), None, "nobody wakes it for nothing");
}

#[test]
fn of_a_tunnel_that_is_gone_nothing_passes_and_its_key_is_given_up() {
    for kind in [Kind::WireGuard, Kind::Esp] {
        let mut fixture = Fixture::start(kind);
        let datagrams = fixture.sealed(5);
        fixture.carry(&datagrams[..1]);
        assert_eq!(fixture.carry(&datagrams[1..2]), [(1, 0)]);
        let without = FILE.replace("attach = [{attach:a}]\n", "").replace("{attach:b}", &kind.attach("b", 1420));
        let snapshot = fixture.appliance.change(&without);
        fixture.engine.publish(snapshot, fixture.now);
        fixture.engine.outbox().clear();
        assert_eq!(fixture.carry(&datagrams[2..3]), [(1, 0)], "it does not know yet");
        assert_eq!(fixture.carry(&datagrams[3..]), [(0, 2)], "{kind:?}");
        assert_eq!(fixture.forwarded(), 2);
        assert!(fixture.engine.balances());
    }
}

#[test]
fn what_is_longer_than_any_packet_is_left_and_what_finds_no_room_stays_for_the_next_parcel() {
    let mut fixture = Fixture::start(Kind::WireGuard);
    let before = fixture.engine.report(fixture.now).totals.datagrams_in;
    let mut datagrams = vec![vec![4; 60_000]; 5];
    datagrams.extend(fixture.sealed(1));
    assert_eq!(fixture.carry(&datagrams), [(0, 2), (0, 2), (0, 2)]);
    assert_eq!(fixture.forwarded(), 1);
    assert_eq!(fixture.engine.report(fixture.now).totals.datagrams_in - before, 6);
    assert!(fixture.engine.balances());
}

/// Two peers may come to have the same index or SPI, one behind the other: what is opened with the key of the first is nothing of the second's.
#[test]
fn a_number_that_has_become_another_sessions_brings_it_nothing() {
    for kind in [Kind::WireGuard, Kind::Esp] {
        let mut fixture = Fixture::start(kind);
        let datagrams = fixture.sealed(3);
        fixture.carry(&datagrams[..1]);
        // Another appliance with the same seed gives out the same numbers, with other keys.
        let stale = std::mem::take(&mut fixture.porter);
        let mut other = Fixture::start(kind);
        let theirs = other.sealed(3);
        assert_eq!(theirs[0][..8], datagrams[0][..8], "{kind:?}: the same number");
        other.porter = stale;
        assert_eq!(other.carry(&datagrams[1..2]), [(1, 0)], "opened with the key that is over");
        assert_eq!(other.forwarded(), 0, "{kind:?}: and refused");
        // It has been given up, and the new one is lent.
        assert_eq!(other.carry(&theirs[..1]), [(0, 1)]);
        assert_eq!(other.carry(&theirs[1..2]), [(1, 0)]);
        assert_eq!(other.forwarded(), 2);
        assert!(other.engine.balances());
    }
}

#[test]
fn what_is_not_authentic_with_a_key_that_is_over_is_opened_by_the_walk() {
    for kind in [Kind::WireGuard, Kind::Esp] {
        let mut fixture = Fixture::start(kind);
        let datagrams = fixture.sealed(1);
        fixture.carry(&datagrams);
        let stale = std::mem::take(&mut fixture.porter);
        let mut other = Fixture::start(kind);
        let theirs = other.sealed(2);
        other.porter = stale;
        assert_eq!(other.carry(&theirs[..1]), [(0, 1)]);
        assert_eq!(other.forwarded(), 1, "{kind:?}: not lost");
        assert_eq!(other.carry(&theirs[1..]), [(1, 0)], "and lent");
    }
}

#[test]
fn a_key_that_is_in_use_is_not_forgotten() {
    for kind in [Kind::WireGuard, Kind::Esp] {
        let mut fixture = Fixture::start(kind);
        let datagrams = fixture.sealed(5);
        fixture.carry(&datagrams[..1]);
        for datagram in &datagrams[1..] {
            fixture.now = fixture.now + LENT_FOR / 2;
            assert_eq!(fixture.carry(std::slice::from_ref(datagram)), [(1, 0)], "{kind:?}");
        }
    }
}
