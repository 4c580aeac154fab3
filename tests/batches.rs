//! Datagrams that are opened and packets that are sealed together come to the same as one by one. Two engines hear the same
//! datagrams: one all in one call, the other each in a call of its own. A third hears them by a porter, which opens and seals for it.

mod sites;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ixgate::dataplane::parcel::Leaving;
use ixgate::dataplane::report::Traffic;
use ixgate::dataplane::{Engine, Parcel, Porter};
use ixgate::net::{Path, Timestamp};
use ixgate::packet::{Datagram, DropReason, Outbox};
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets::{set_dont_fragment, udp};
use proptest::prelude::*;

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
/// Of a porter.
const PARCELS: usize = 3;

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
        (prop::bool::ANY, prop::bool::ANY, 0u16..6, 0usize..1392).prop_map(|(by_c, to_c, flow, payload_bytes)| {
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
    /// Hears together, hears one by one, hears by a porter. Their keys differ, and nothing else.
    lanes: [Lane; 3],
    kinds: [Kind; 3],
    now: Timestamp,
}

/// An engine and its gateways.
struct Lane {
    engine: Engine,
    sites: Vec<FarEnd>,
    /// A's, which may change.
    path_of_a: Path,
    porter: Porter,
    parcels: Vec<Parcel>,
}

/// What reached the gateways.
#[derive(Default, PartialEq, Eq, Debug)]
struct Heard {
    /// Inner packets by site, in order.
    packets: BTreeMap<usize, Vec<Vec<u8>>>,
    /// What else was sent: where, how long. Between it and packets there is no order.
    others: BTreeMap<SocketAddr, Vec<usize>>,
}

/// Packets of each, in order, by site and what tells flows apart.
type Flows = BTreeMap<(usize, Vec<u8>), Vec<Vec<u8>>>;

impl Heard {
    /// Flows by themselves: a porter lets those that it has the keys of overtake others.
    fn by_flow(self) -> (Flows, BTreeMap<SocketAddr, Vec<usize>>) {
        let mut flows = Flows::new();
        for (site, packets) in self.packets {
            for packet in packets {
                // Addresses and ports, as fragments have none.
                let is_fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
                let flow = if is_fragment { packet[12..20].to_vec() } else { packet[12..24].to_vec() };
                flows.entry((site, flow)).or_default().push(packet);
            }
        }
        let mut others = self.others;
        others.values_mut().for_each(|others| others.sort());
        (flows, others)
    }

    fn in_any_order(mut self) -> Self {
        self.packets.values_mut().for_each(|packets| packets.sort());
        self.others.values_mut().for_each(|others| others.sort());
        self
    }

    fn count(&self) -> usize {
        self.packets.values().map(Vec::len).sum()
    }
}

impl Lane {
    fn start(appliance: &Appliance, kinds: [Kind; 3], now: &mut Timestamp) -> Self {
        let mut engine = appliance.engine(*now);
        let mut sites = Vec::new();
        for (number, (name, kind)) in (1..).zip(NAMES.into_iter().zip(kinds)) {
            let mut site = gateway(kind, appliance, name, number, *now);
            *now = site.shake_hands(&mut engine, *now);
            sites.push(site);
        }
        let parcels = (0..PARCELS).map(|_| Parcel::default()).collect();
        Lane { engine, path_of_a: sites[A].path(), sites, porter: Porter::default(), parcels }
    }

    fn path_of(&self, site: usize) -> Path {
        if site == A { self.path_of_a } else { self.sites[site].path() }
    }

    fn seal(&mut self, site: usize, packet: &[u8]) -> (Path, Vec<u8>) {
        (self.path_of(site), self.sites[site].seal(packet))
    }

    /// By the porter, some parcels of which are under way before the first is back.
    fn hear_by_parcels(&mut self, datagrams: &Datagrams, heard: &mut Heard, now: Timestamp) {
        let mut parcels = std::mem::take(&mut self.parcels);
        let mut all = datagrams.iter().map(|(path, bytes)| Datagram::new(*path, bytes)).peekable();
        while all.peek().is_some() {
            for parcel in &mut parcels {
                self.porter.fill(&mut all, parcel);
            }
            for parcel in &mut parcels {
                self.engine.handle_parcel(parcel, now);
                self.take(heard, now);
            }
            for parcel in &mut parcels {
                self.porter.learn(parcel, now);
                parcel.seal(Leaving::All);
                let sent = taken(parcel.outbox());
                self.hear_at_sites(sent, heard, now);
            }
        }
        self.parcels = parcels;
    }

    /// What has left, opened by those whom it is for.
    fn take(&mut self, heard: &mut Heard, now: Timestamp) {
        let sent = taken(self.engine.outbox());
        self.hear_at_sites(sent, heard, now);
    }

    fn hear_at_sites(&mut self, sent: Vec<(Path, bool, Vec<u8>)>, heard: &mut Heard, now: Timestamp) {
        for (path, data, bytes) in sent {
            let site = self.sites.iter().position(|site| site.address == path.remote.ip()).expect("a site");
            match data {
                true => {
                    let packet = self.sites[site].open(path, &bytes, now).expect("what leaves can be opened");
                    heard.packets.entry(site).or_default().push(packet);
                }
                false => heard.others.entry(path.remote).or_default().push(bytes.len()),
            }
        }
    }

    /// What the engine has counted, but for how it came to know it.
    fn account(&self, now: Timestamp) -> String {
        let report = self.engine.report(now);
        assert!(self.engine.balances(), "{:?}", report.totals);
        let tunnels: Vec<_> =
            report.tunnels.iter().map(|tunnel| (tunnel.remote, tunnel.received, tunnel.sent, tunnel.up)).collect();
        let realms: Vec<_> = report.realms.iter().map(|realm| (realm.received, realm.sent, realm.drops)).collect();
        let drops = report.unattributed_drops;
        let carried = self.carried(now);
        format!("{:?}\n{drops:?}\n{realms:?}\n{tunnels:?}\n{carried:?}\n{}", report.totals, report.sessions)
    }

    /// By each Child SA: what was received and sent.
    fn carried(&self, now: Timestamp) -> Vec<[Traffic; 2]> {
        let report = self.engine.report(now);
        let children =
            report.tunnels.iter().filter_map(|tunnel| tunnel.ipsec.as_ref()).flat_map(|ipsec| &ipsec.children);
        children.map(|child| [child.received, child.sent]).collect()
    }

    /// The same, but for the order in which it hears: of a datagram that comes twice, once spoiled, either may be the first.
    fn rough_account(&self, now: Timestamp) -> String {
        let report = self.engine.report(now);
        let (drops, mut totals) = (report.unattributed_drops.iter().sum::<u64>(), report.totals);
        assert!(self.engine.balances(), "{totals:?}");
        totals.originated = 0;
        let realms: Vec<_> = report.realms.iter().map(|realm| (realm.received, realm.sent, realm.drops)).collect();
        let tunnels: Vec<_> = report.tunnels.iter().map(|tunnel| (tunnel.received, tunnel.sent, tunnel.up)).collect();
        format!("{totals:?}\n{drops}\n{realms:?}\n{tunnels:?}\n{}", report.sessions)
    }

    fn drops(&self, reason: DropReason, now: Timestamp) -> u64 {
        let report = self.engine.report(now);
        let realms: u64 = report.realms.iter().map(|realm| realm.drops[reason.index()]).sum();
        realms + report.unattributed_drops[reason.index()]
    }
}

impl World {
    fn start(kinds: [Kind; 3]) -> Self {
        Self::with(kinds, "")
    }

    /// And what else is configured.
    fn with(kinds: [Kind; 3], more: &str) -> Self {
        let mut now = Timestamp::from_secs(1);
        let attach = |text: String, (name, kind): (&str, Kind)| {
            text.replace(&format!("{{attach:{name}}}"), &kind.attach(name, if name == "b" { 1300 } else { 1420 }))
        };
        let appliance = Appliance::build(&NAMES.into_iter().zip(kinds).fold(FILE.to_owned() + more, attach));
        let start = now;
        let lanes = [(); 3].map(|()| {
            let mut at = start;
            let lane = Lane::start(&appliance, kinds, &mut at);
            now = now.max(at);
            lane
        });
        // A handshake that follows another at once is refused.
        World { appliance, lanes, kinds, now: now + Duration::from_secs(1) }
    }

    fn packet(&self, from: usize, to: usize, flow: u16, payload_bytes: usize) -> Vec<u8> {
        let source: IpAddr = format!("192.168.1.{}", 10 + flow).parse().unwrap();
        let destination = self.appliance.seen_by(NAMES[from], NAMES[to], "192.168.1.20");
        let mut packet = udp((source, 5000 + flow), (destination, 443), &vec![flow as u8; payload_bytes]);
        // What is longer than B's tunnel carries leaves in fragments.
        set_dont_fragment(&mut packet, false);
        packet
    }

    /// The datagrams of both lanes, in order of arrival, with their paths.
    fn play(&mut self, steps: &[Step]) -> [Datagrams; 3] {
        let packets: Vec<_> = steps.iter().map(|step| self.packet_of(step)).collect();
        let is_wireguard = self.kinds[A] == Kind::WireGuard;
        self.lanes.each_mut().map(|lane| {
            let mut all = Vec::new();
            for (step, packet) in steps.iter().zip(&packets) {
                step.play(lane, packet, is_wireguard, &mut all);
            }
            all
        })
    }

    fn packet_of(&self, step: &Step) -> Vec<u8> {
        match step {
            Step::Packet { from, to, flow, payload_bytes } => self.packet(*from, *to, *flow, *payload_bytes),
            Step::Denied => self.packet(B, A, 1, 10),
            _ => Vec::new(),
        }
    }

    fn hear(&mut self, datagrams: &[Datagrams; 3]) -> [Heard; 3] {
        let mut heard = [Heard::default(), Heard::default(), Heard::default()];
        let now = self.now;
        let [together, one_by_one, by_parcels] = &mut self.lanes;
        together.engine.handle_input(datagrams[0].iter().map(|(path, bytes)| Datagram::new(*path, bytes)), now);
        together.take(&mut heard[0], now);
        for (path, bytes) in &datagrams[1] {
            one_by_one.engine.handle_input([Datagram::new(*path, bytes)].into_iter(), now);
            one_by_one.take(&mut heard[1], now);
        }
        by_parcels.hear_by_parcels(&datagrams[2], &mut heard[2], now);
        heard
    }

    fn assert_same_accounts(&self) {
        let [together, one_by_one, by_parcels] = &self.lanes;
        assert_eq!(together.account(self.now), one_by_one.account(self.now));
        assert_eq!(by_parcels.rough_account(self.now), one_by_one.rough_account(self.now));
    }

    fn drops(&self, reason: DropReason) -> [u64; 3] {
        self.lanes.each_ref().map(|lane| lane.drops(reason, self.now))
    }
}

type Datagrams = Vec<(Path, Vec<u8>)>;

fn taken(outbox: &mut Outbox) -> Vec<(Path, bool, Vec<u8>)> {
    let all = outbox.datagrams().map(|(path, data, bytes)| (path, data, bytes.to_vec())).collect();
    outbox.clear();
    all
}

impl Step {
    fn play(&self, lane: &mut Lane, packet: &[u8], is_wireguard: bool, all: &mut Datagrams) {
        let earlier = |all: &Datagrams, which: &prop::sample::Index| {
            (!all.is_empty()).then(|| all[which.index(all.len())].clone())
        };
        match self {
            Step::Packet { from, .. } => all.push(lane.seal(*from, packet)),
            Step::Denied => all.push(lane.seal(B, packet)),
            Step::Again(which) => all.extend(earlier(all, which)),
            Step::Spoiled(which, bit) => {
                if let Some((path, mut bytes)) = earlier(all, which).filter(|(_, bytes)| !bytes.is_empty()) {
                    let bit = bit.index(bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    all.push((path, bytes));
                }
            }
            Step::Cut(which, len) => {
                if let Some((path, mut bytes)) = earlier(all, which).filter(|(_, bytes)| !bytes.is_empty()) {
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
            Step::Empty if is_wireguard => all.push(lane.seal(A, &[])),
            Step::Rubbish if is_wireguard => all.push(lane.seal(A, &[0x20; 50])),
            Step::Initiation => {
                let path = lane.path_of_a;
                all.extend(lane.sites[A].initiate().map(|initiation| (path, initiation)));
            }
            Step::Moved if is_wireguard => {
                let remote = lane.path_of_a.remote;
                lane.path_of_a.remote = SocketAddr::new(remote.ip(), remote.port() + 1);
            }
            Step::Empty | Step::Rubbish | Step::Moved => {}
        }
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
            let [together, one_by_one, by_parcels] = world.hear(&datagrams);
            prop_assert_eq!(&together, &one_by_one);
            prop_assert_eq!(by_parcels.by_flow(), one_by_one.by_flow());
            world.assert_same_accounts();
        }
    }
}

#[test]
fn of_a_datagram_that_comes_twice_in_one_batch_one_passes() {
    for kinds in [[Kind::WireGuard; 3], [Kind::Esp; 3]] {
        let mut world = World::start(kinds);
        let packets: Vec<_> = (0..10).map(|flow| world.packet(A, B, flow, 40)).collect();
        let datagrams = world.lanes.each_mut().map(|lane| {
            let once: Datagrams = packets.iter().map(|packet| lane.seal(A, packet)).collect();
            let twice = once.iter().flat_map(|datagram| [datagram.clone(), datagram.clone()]);
            twice.chain(once.clone()).collect()
        });
        for heard in world.hear(&datagrams) {
            assert_eq!(heard.count(), 10, "{kinds:?}");
        }
        assert_eq!(world.drops(DropReason::DataReplayed), [20; 3], "{kinds:?}");
    }
}

#[test]
fn wrong_tags_between_good_ones_cost_the_good_ones_nothing() {
    for kinds in [[Kind::WireGuard; 3], [Kind::Esp; 3]] {
        let mut world = World::start(kinds);
        let packets: Vec<_> = (0..60).map(|n| world.packet(A, B, n % 6, 40 + usize::from(n))).collect();
        let good = world.lanes.each_mut().map(|lane| packets.iter().map(|packet| lane.seal(A, packet)).collect());
        let mut spoiled: [Datagrams; 3] = good.clone();
        for datagrams in &mut spoiled {
            datagrams.iter_mut().step_by(2).for_each(|(_, bytes)| *bytes.last_mut().unwrap() ^= 0x80);
        }
        for heard in world.hear(&spoiled) {
            let lens: Vec<_> = heard.packets[&B].iter().map(Vec::len).collect();
            assert_eq!(lens, (0..60).skip(1).step_by(2).map(|n| 68 + n).collect::<Vec<_>>(), "{kinds:?}");
        }
        assert_eq!(world.drops(DropReason::DataNotAuthentic), [30; 3], "{kinds:?}");
        // What was spoiled has used up no number.
        for heard in world.hear(&good) {
            assert_eq!(heard.count(), 30, "{kinds:?}");
        }
        assert_eq!(world.drops(DropReason::DataReplayed), [30; 3], "{kinds:?}");
    }
}

/// Where there is a routing daemon, of whichever realm, each packet is looked at.
#[test]
fn an_sa_counts_each_packet_once_whether_there_are_doors_or_not() {
    const DAEMON: &str = r#"
[[realm]]
name = "d"
networks = ["192.168.1.0/24"]
routes_from = { namespace = "bgp-d", tun = "ix0", local = "172.20.0.2", peers = "172.20.0.1" }
attach = [{ port = { interface = "eth1", address = "172.20.0.2/29", gateway = "172.20.0.1" } }]
"#;
    for more in ["", DAEMON] {
        let mut world = World::with([Kind::Esp; 3], more);
        let packets: Vec<_> = (0..7).map(|flow| world.packet(A, B, flow, 72)).collect();
        let datagrams = world.lanes.each_mut().map(|lane| packets.iter().map(|packet| lane.seal(A, packet)).collect());
        assert!(world.hear(&datagrams).iter().all(|heard| heard.count() == 7));
        let (all, none) = (Traffic { packets: 7, bytes: 700 }, Traffic::default());
        for lane in &world.lanes {
            assert_eq!(lane.carried(world.now), [[all, none], [none, all], [none; 2]], "{more}");
        }
    }
}

/// Numbers are drawn for what there is room for; what leaves can be opened, and what does not is counted as lost.
#[test]
fn an_outbox_that_becomes_full_in_the_middle_of_a_batch_loses_packets_and_nothing_else() {
    for kinds in [[Kind::Esp; 3], [Kind::WireGuard; 3], [Kind::Esp, Kind::WireGuard, Kind::Esp]] {
        let mut world = World::start(kinds);
        // One of B's and one of C's in turns, ever longer and then short again: each becomes a run of its own.
        let lens = [60, 300, 900, 1100, 1200];
        let packets: Vec<_> =
            (0..100).map(|n| world.packet(A, [B, C][n % 2], n as u16 % 6, lens[n / 2 % lens.len()])).collect();
        let now = world.now;
        let sent_by_tunnels =
            |lane: &Lane| lane.engine.report(now).tunnels.iter().map(|tunnel| tunnel.sent.packets).sum::<u64>();
        let [lane, ..] = &mut world.lanes;
        let (before, mut sent) = (sent_by_tunnels(lane), 0);
        while lane.drops(DropReason::EgressQueueFull, now) == 0 {
            let datagrams: Datagrams = packets.iter().map(|packet| lane.seal(A, packet)).collect();
            lane.engine.handle_input(datagrams.iter().map(|(path, bytes)| Datagram::new(*path, bytes)), now);
            sent += datagrams.len();
            assert!(sent < 20_000, "{kinds:?}: there is room for everything");
        }
        let lost = lane.drops(DropReason::EgressQueueFull, now) as usize;
        let mut heard = Heard::default();
        lane.take(&mut heard, now);
        assert_eq!(heard.count() + lost, sent, "{kinds:?}");
        assert!(lane.engine.balances());
        let by_tunnels = sent_by_tunnels(lane) - before;
        assert_eq!(by_tunnels, heard.count() as u64, "{kinds:?}");
        // Those that nobody heard have taken no numbers.
        if kinds == [Kind::Esp; 3] {
            let numbers: u64 = lane.carried(now).iter().map(|[_, sent]| sent.packets).sum();
            assert_eq!(numbers, by_tunnels, "{kinds:?}");
        }
        // And there is room again.
        let datagrams: Datagrams = packets.iter().map(|packet| lane.seal(A, packet)).collect();
        lane.engine.handle_input(datagrams.iter().map(|(path, bytes)| Datagram::new(*path, bytes)), now);
        let mut heard = Heard::default();
        lane.take(&mut heard, now);
        assert_eq!(heard.count(), packets.len(), "{kinds:?}");
    }
}

/// What is not authentic is judged between those of its sender that came before it and those behind it.
#[test]
fn a_forged_copy_is_a_replay_behind_the_packet_and_not_authentic_before_it() {
    for kinds in [[Kind::WireGuard; 3], [Kind::Esp; 3]] {
        let mut world = World::start(kinds);
        let packets: Vec<_> = (0..10).map(|flow| world.packet(A, B, flow, 40)).collect();
        let datagrams = world.lanes.each_mut().map(|lane| {
            let mut all: Datagrams = packets.iter().map(|packet| lane.seal(A, packet)).collect();
            let mut forged = all[5].clone();
            *forged.1.last_mut().unwrap() ^= 0x80;
            all.insert(8, forged.clone());
            all.insert(2, forged);
            all
        });
        for heard in world.hear(&datagrams) {
            assert_eq!(heard.count(), 10, "{kinds:?}");
        }
        assert_eq!(world.drops(DropReason::DataNotAuthentic), [1; 3], "{kinds:?}");
        assert_eq!(world.drops(DropReason::DataReplayed), [1; 3], "{kinds:?}");
    }
}

/// A's gateway has new keys, and packets under the old and the new ones arrive together, in any order.
#[test]
fn a_session_that_its_first_packet_confirms_in_the_middle_of_a_batch() {
    let mut world = World::start([Kind::WireGuard; 3]);
    let (packet, now) = (world.packet(A, B, 1, 40), world.now);
    let datagrams = world.lanes.each_mut().map(|lane| {
        let old: Datagrams = (0..20).map(|_| lane.seal(A, &packet)).collect();
        let path = lane.path_of_a;
        let initiation = lane.sites[A].initiate().expect("a handshake");
        lane.engine.handle_input([Datagram::new(path, &initiation)].into_iter(), now);
        let responses: Vec<_> = lane.engine.outbox().datagrams().map(|(_, _, bytes)| bytes.to_vec()).collect();
        lane.engine.outbox().clear();
        let [response] = &responses[..] else { panic!("{} responses", responses.len()) };
        let confirmation = lane.sites[A].hear(path, response, now).into_iter().map(|(_, bytes)| (path, bytes));
        let confirmation: Datagrams = confirmation.collect();
        let new: Datagrams = (0..20).map(|_| lane.seal(A, &packet)).collect();
        old.into_iter().zip(new).flat_map(|(old, new)| [new, old]).chain(confirmation).collect()
    });
    let [together, one_by_one, by_parcels] = world.hear(&datagrams);
    assert_eq!(together.count(), 40);
    assert_eq!(together, one_by_one);
    assert_eq!(by_parcels.in_any_order(), one_by_one.in_any_order());
    world.assert_same_accounts();
}
