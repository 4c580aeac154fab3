//! Datagrams that are opened and packets that are sealed together come to the same as one by one. Two engines hear the same
//! datagrams: one all in one call, the other each in a call of its own.

mod sites;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ixgate::dataplane::Engine;
use ixgate::net::{Path, Timestamp};
use ixgate::packet::{Datagram, DropReason};
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets::{set_dont_fragment, udp};
use proptest::prelude::*;

use sites::{Kind, Site};

const FILE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{attach:a}]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
attach = [{attach:b}]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{attach:c}]
[[grant]]
from = ["a", "c"]
to = ["realm:b", "realm:c"]
ports = ["any"]
"#;

const NAMES: [&str; 3] = ["a", "b", "c"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// What happens between the gateways and the appliance.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A packet of this many bytes from A or C to B or C, of one of some flows.
    Packet {
        from: usize,
        to: usize,
        flow: u16,
        payload_bytes: usize,
    },
    /// From B to A: no grant lets it pass.
    Denied,
    /// An earlier datagram once more.
    Again(prop::sample::Index),
    /// An earlier datagram, of which a bit is another.
    Spoiled(prop::sample::Index, prop::sample::Index),
    /// An earlier datagram, cut short.
    Cut(prop::sample::Index, prop::sample::Index),
    /// An earlier datagram, changes places with the latest.
    Swapped(prop::sample::Index),
    Empty,
    /// Authentic, and no IP packet.
    Rubbish,
    /// A handshake of A's gateway that nobody answered yet (WireGuard).
    Initiation,
    /// A's gateway sends from another port from now on (WireGuard).
    Moved,
}

fn step() -> impl Strategy<Value = Step> {
    let packet =
        (prop::bool::ANY, prop::bool::ANY, 0u16..6, 0usize..1500).prop_map(|(by_c, to_c, flow, payload_bytes)| {
            let (from, to) = if by_c { (C, B) } else { (A, if to_c { C } else { B }) };
            Step::Packet { from, to, flow, payload_bytes }
        });
    prop_oneof![
        20 => packet,
        1 => Just(Step::Denied),
        2 => any::<prop::sample::Index>().prop_map(Step::Again),
        2 => any::<[prop::sample::Index; 2]>().prop_map(|[which, bit]| Step::Spoiled(which, bit)),
        1 => any::<[prop::sample::Index; 2]>().prop_map(|[which, len]| Step::Cut(which, len)),
        2 => any::<prop::sample::Index>().prop_map(Step::Swapped),
        1 => Just(Step::Empty),
        1 => Just(Step::Rubbish),
        1 => Just(Step::Initiation),
        1 => Just(Step::Moved),
    ]
}

struct World {
    appliance: Appliance,
    sites: Vec<Site>,
    /// Together, one by one.
    engines: [Engine; 2],
    /// A's, which may change.
    path_of_a: Path,
    now: Timestamp,
}

impl World {
    fn start(kinds: [Kind; 3]) -> Self {
        let mut now = Timestamp::from_secs(1);
        let attach = |text: String, (name, kind): (&str, Kind)| {
            text.replace(&format!("{{attach:{name}}}"), &kind.attach(name, if name == "b" { 1300 } else { 1420 }))
        };
        let appliance = Appliance::build(&NAMES.into_iter().zip(kinds).fold(FILE.to_owned(), attach));
        let mut engines = [appliance.engine(now), appliance.engine(now)];
        let mut sites = Vec::new();
        for (number, (name, kind)) in (1..).zip(NAMES.into_iter().zip(kinds)) {
            let mut site = Site::new(kind, &appliance, name, number, now);
            now = site.shake_hands(&mut engines, now);
            sites.push(site);
        }
        World { appliance, path_of_a: sites[A].path(), sites, engines, now }
    }

    fn packet(&self, from: usize, to: usize, flow: u16, payload_bytes: usize) -> Vec<u8> {
        let source: IpAddr = format!("192.168.1.{}", 10 + flow).parse().unwrap();
        let destination = self.appliance.seen_by(NAMES[from], NAMES[to], "192.168.1.20");
        let mut packet = udp((source, 5000 + flow), (destination, 443), &vec![flow as u8; payload_bytes]);
        // What is longer than B's tunnel carries leaves in fragments.
        set_dont_fragment(&mut packet, false);
        packet
    }

    /// The datagrams, in order of arrival, with their paths.
    fn play(&mut self, steps: &[Step]) -> Vec<(Path, Vec<u8>)> {
        let mut all: Vec<(Path, Vec<u8>)> = Vec::new();
        for step in steps {
            let path_of = |world: &World, site: usize| match site {
                A => world.path_of_a,
                _ => world.sites[site].path(),
            };
            let earlier = |all: &[(Path, Vec<u8>)], which: &prop::sample::Index| {
                (!all.is_empty()).then(|| all[which.index(all.len())].clone())
            };
            match step {
                Step::Packet { from, to, flow, payload_bytes } => {
                    let packet = self.packet(*from, *to, *flow, *payload_bytes);
                    let sealed = self.sites[*from].seal(&packet[..packet.len().min(1420)]);
                    all.push((path_of(self, *from), sealed));
                }
                Step::Denied => {
                    let packet = self.packet(B, A, 1, 10);
                    all.push((path_of(self, B), self.sites[B].seal(&packet)));
                }
                Step::Again(which) => all.extend(earlier(&all, which)),
                Step::Spoiled(which, bit) => {
                    if let Some((path, mut bytes)) = earlier(&all, which) {
                        let bit = bit.index(bytes.len() * 8);
                        bytes[bit / 8] ^= 1 << (bit % 8);
                        all.push((path, bytes));
                    }
                }
                Step::Cut(which, len) => {
                    if let Some((path, mut bytes)) = earlier(&all, which) {
                        bytes.truncate(len.index(bytes.len()));
                        all.push((path, bytes));
                    }
                }
                Step::Swapped(which) => {
                    let last = all.len().saturating_sub(1);
                    if !all.is_empty() {
                        let which = which.index(all.len());
                        all.swap(which, last);
                    }
                }
                Step::Empty if self.sites[A].is_wireguard() => {
                    all.push((path_of(self, A), self.sites[A].seal(&[])));
                }
                Step::Rubbish if self.sites[A].is_wireguard() => {
                    all.push((path_of(self, A), self.sites[A].seal(&[0x20; 50])));
                }
                Step::Initiation => {
                    let path = path_of(self, A);
                    all.extend(self.sites[A].initiate().map(|initiation| (path, initiation)));
                }
                Step::Moved if self.sites[A].is_wireguard() => {
                    let remote = self.path_of_a.remote;
                    self.path_of_a.remote = SocketAddr::new(remote.ip(), remote.port() + 1);
                }
                Step::Empty | Step::Rubbish | Step::Moved => {}
            }
        }
        all
    }

    /// Both hear them. Handshakes apart from packets, and each path by itself: between paths there is no order.
    fn hear(&mut self, datagrams: &[(Path, Vec<u8>)]) -> [Heard; 2] {
        let all = datagrams.iter().map(|(path, bytes)| Datagram::new(*path, bytes));
        let [together, one_by_one] = &mut self.engines;
        together.handle_input(all.clone(), self.now);
        let mut heard = [Heard::default(), Heard::default()];
        heard[0].take(together);
        for datagram in all {
            one_by_one.handle_input([datagram].into_iter(), self.now);
            heard[1].take(one_by_one);
        }
        heard
    }

    /// What an engine has counted, but for how it came to know it.
    fn account(&self, engine: &Engine) -> String {
        assert!(engine.balances(), "{:?}", engine.report(self.now).totals);
        let report = engine.report(self.now);
        let tunnels: Vec<_> =
            report.tunnels.iter().map(|tunnel| (tunnel.remote, tunnel.received, tunnel.sent, tunnel.up)).collect();
        let realms: Vec<_> = report.realms.iter().map(|realm| (realm.received, realm.sent, realm.drops)).collect();
        let drops = report.unattributed_drops;
        format!("{:?}\n{drops:?}\n{realms:?}\n{tunnels:?}\n{}", report.totals, report.sessions)
    }

    fn drops(&self, engine: usize, reason: DropReason) -> u64 {
        let report = self.engines[engine].report(self.now);
        let realms: u64 = report.realms.iter().map(|realm| realm.drops[reason.index()]).sum();
        realms + report.unattributed_drops[reason.index()]
    }
}

/// Datagrams that an engine sent.
#[derive(Default, PartialEq, Eq, Debug)]
struct Heard(BTreeMap<(SocketAddr, bool), Vec<Vec<u8>>>);

impl Heard {
    fn take(&mut self, engine: &mut Engine) {
        for (path, data, bytes) in engine.outbox().datagrams() {
            self.0.entry((path.remote, data)).or_default().push(bytes.to_vec());
        }
        engine.outbox().clear();
    }

    fn packets(&self) -> usize {
        self.0.iter().filter(|((_, data), _)| *data).map(|(_, all)| all.len()).sum()
    }
}

fn kinds() -> impl Strategy<Value = [Kind; 3]> {
    let kind = || prop_oneof![Just(Kind::WireGuard), Just(Kind::Esp)];
    [kind(), kind(), kind()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn together_is_as_one_by_one(kinds in kinds(), steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::start(kinds);
        // In two calls, so that the second finds what the first has left.
        let (first, second) = steps.split_at(steps.len() / 2);
        for steps in [first, second] {
            let datagrams = world.play(steps);
            let [together, one_by_one] = world.hear(&datagrams);
            prop_assert_eq!(together, one_by_one);
            let [a, b] = world.engines.each_ref().map(|engine| world.account(engine));
            prop_assert_eq!(a, b);
        }
    }
}

#[test]
fn of_a_datagram_that_comes_twice_in_one_batch_one_passes() {
    for kinds in [[Kind::WireGuard; 3], [Kind::Esp; 3]] {
        let mut world = World::start(kinds);
        let packets: Vec<_> = (0..10).map(|flow| world.packet(A, B, flow, 40)).collect();
        let once: Vec<_> = packets.iter().map(|packet| (world.path_of_a, world.sites[A].seal(packet))).collect();
        let thrice: Vec<_> =
            once.iter().flat_map(|datagram| [datagram.clone(), datagram.clone()]).chain(once.clone()).collect();
        for heard in world.hear(&thrice) {
            assert_eq!(heard.packets(), 10, "{kinds:?}");
        }
        assert_eq!([0, 1].map(|engine| world.drops(engine, DropReason::DataReplayed)), [20, 20], "{kinds:?}");
    }
}

#[test]
fn wrong_tags_between_good_ones_cost_the_good_ones_nothing() {
    for kinds in [[Kind::WireGuard; 3], [Kind::Esp; 3]] {
        let mut world = World::start(kinds);
        let packets: Vec<_> = (0..60).map(|n| world.packet(A, B, n % 6, 40 + usize::from(n))).collect();
        let mut datagrams: Vec<_> =
            packets.iter().map(|packet| (world.path_of_a, world.sites[A].seal(packet))).collect();
        let good = datagrams.clone();
        datagrams.iter_mut().step_by(2).for_each(|(_, bytes)| *bytes.last_mut().unwrap() ^= 0x80);
        for heard in world.hear(&datagrams) {
            assert_eq!(heard.packets(), 30, "{kinds:?}");
        }
        assert_eq!(world.drops(0, DropReason::DataNotAuthentic), 30, "{kinds:?}");
        // What was spoiled has used up no number.
        for heard in world.hear(&good) {
            assert_eq!(heard.packets(), 30, "{kinds:?}");
        }
        assert_eq!(world.drops(0, DropReason::DataReplayed), 30, "{kinds:?}");
    }
}

/// A's gateway has new keys, and packets under the old and the new ones arrive together, in any order.
#[test]
fn a_session_that_its_first_packet_confirms_in_the_middle_of_a_batch() {
    let mut world = World::start([Kind::WireGuard; 3]);
    let packet = world.packet(A, B, 1, 40);
    let old: Vec<_> = (0..20).map(|_| (world.path_of_a, world.sites[A].seal(&packet))).collect();
    let initiation = world.sites[A].initiate().expect("a handshake");
    let path = world.path_of_a;
    let mut responses = Vec::new();
    for engine in &mut world.engines {
        engine.handle_input([Datagram::new(path, &initiation)].into_iter(), world.now);
        responses.push(engine.outbox().datagrams().map(|(_, _, bytes)| bytes.to_vec()).collect::<Vec<_>>());
        engine.outbox().clear();
    }
    assert_eq!((responses[0].len(), &responses[0]), (1, &responses[1]));
    let (site, now) = (&mut world.sites[A], world.now);
    let confirmation: Vec<_> =
        site.hear(path, &responses[0][0], now).into_iter().map(|(_, bytes)| (path, bytes)).collect();
    let new: Vec<_> = (0..20).map(|_| (path, site.seal(&packet))).collect();
    let mixed: Vec<_> = old.into_iter().zip(new).flat_map(|(old, new)| [new, old]).chain(confirmation).collect();
    let [together, one_by_one] = world.hear(&mixed);
    assert_eq!(together.packets(), 40);
    assert_eq!(together, one_by_one);
    let [a, b] = world.engines.each_ref().map(|engine| world.account(engine));
    assert_eq!(a, b);
}
