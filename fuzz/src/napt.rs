//! Bindings of two realms with one prefix against a map: hosts open and end sessions, others look for them, the configuration
//! changes.
//!
//! No two inside endpoints share an outside one, every port lies in its host's block, what `locate` finds is what `bind`
//! gave, and every bound is kept and reached. The first byte chooses networks, blocks and bounds; then come
//! [deeds](World::perform).

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use ixgate::nat::napt::{
    BlockEvent, Blocks, Filtering, Forward, Inside, Napt, Outside, PortBlock, Proto, RealmSpec, Remote, Spec, Who,
};
use ixgate::net::{Canonical, RealmId, Space6};
use ixgate::packet::DropReason;

use super::script::Script;

const REALMS: [RealmId; 2] = [RealmId(1), RealmId(2)];
const VIEWER: RealmId = RealmId(3);
const STRANGER: RealmId = RealmId(4);
const PROTOS: [Proto; 3] = [Proto::Tcp, Proto::Udp, Proto::Echo];
const MAX_DEEDS: usize = 200;

/// How many bindings were made.
pub fn napt(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let Some(setting) = script.u8() else { return 0 };
    let mut world = World::new(setting);
    for _ in 0..MAX_DEEDS {
        if world.perform(&mut script).is_none() {
            break;
        }
        world.is_bounded();
    }
    world.check();
    world.come_to_rest();
    world.bindings
}

/// Who holds a binding, once for each session.
#[derive(Clone, Debug)]
struct Held {
    outside: Outside,
    remotes: Vec<Remote>,
    is_forward: bool,
}

struct World {
    napt: Napt,
    limit: usize,
    /// Of both realms: what is configured.
    plans: [Plan; 2],
    bound: HashMap<Inside, Held>,
    bindings: usize,
    /// Blocks on demand, as the log tells of them.
    given: HashMap<(RealmId, Canonical), PortBlock>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    block_ports: u16,
    is_large: bool,
    has_forward: bool,
    filtering: Filtering,
    is_for_all: bool,
}

impl Plan {
    fn new(setting: u8) -> Plan {
        Plan {
            block_ports: [4, 16, 256, 20_000][usize::from(setting & 3)],
            is_large: setting & 4 != 0,
            has_forward: setting & 8 != 0,
            filtering: [Filtering::Endpoint, Filtering::Address, Filtering::AddressAndPort]
                [usize::from(setting >> 4) % 3],
            is_for_all: setting & 64 == 0,
        }
    }

    fn spec(self, realm: RealmId) -> RealmSpec {
        let networks: &[&str] = if self.is_large { &["192.168.0.0/16", "10.0.0.0/8"] } else { &["192.168.1.0/28"] };
        let blocks = Blocks::new(vec![pool(realm)], self.block_ports, networks.iter().map(|net| net_of(net)).collect());
        let forward = Forward { proto: Proto::Udp, outside: (pool(realm).addr(), 1026), to: (host(realm, 5), 5000) };
        RealmSpec {
            realm,
            viewers: (!self.is_for_all).then(|| vec![VIEWER]),
            filtering: self.filtering,
            blocks,
            forwards: if self.has_forward { vec![forward] } else { Vec::new() },
        }
    }
}

impl World {
    fn new(setting: u8) -> World {
        let plans = [Plan::new(setting), Plan::new(setting.rotate_left(3))];
        let limit = if setting & 128 == 0 { 12 } else { 4000 };
        let napt = Napt::new(Arc::new(spec(plans)), limit, 42);
        let mut world = World { napt, limit, plans, bound: HashMap::new(), bindings: 0, given: HashMap::new() };
        world.add_forwards();
        world
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, who, port) = (script.u8()?, script.u8()?, script.u16()?);
        let realm = REALMS[usize::from(who & 1)];
        let inside = Inside { realm, host: host(realm, who >> 3), proto: PROTOS[usize::from(who >> 1 & 3) % 3], port };
        let remote = remote(port % 3);
        match deed % 8 {
            0..=3 => self.open(inside, remote),
            4 | 5 => {
                // One of those there are.
                let mut all: Vec<Inside> = self.bound.keys().copied().collect();
                all.sort_by_key(|inside| (inside.realm, inside.host, inside.proto, inside.port));
                let at = usize::from(port).checked_rem(all.len());
                self.close(at.map_or(inside, |at| all[at]), remote);
            }
            6 => self.look(realm, Ipv4Addr::from_bits(pool(realm).addr().to_bits() + u32::from(who >> 6)), port),
            _ => {
                self.check();
                self.configure(usize::from(who & 1), Plan::new(who.rotate_left(1) ^ deed));
            }
        }
        Some(())
    }

    fn open(&mut self, inside: Inside, remote: Remote) {
        let Plan { block_ports, .. } = self.plan(inside.realm);
        let of_host =
            |other: &&Inside| (other.realm, other.host, other.proto) == (inside.realm, inside.host, inside.proto);
        let used = self.bound.keys().filter(of_host).filter(|inside| !self.bound[inside].is_forward).count();
        let is_full = self.bound.len() >= self.limit;
        let got = self.napt.bind(&inside);
        match (self.bound.get(&inside), got) {
            (Some(held), got) => assert_eq!(got, Ok(held.outside), "one outside for one inside"),
            (None, Ok(outside)) => {
                assert!(inside.port != 0 && !is_full && used < usize::from(block_ports));
                assert!(self.bound.values().all(|held| held.outside != outside), "{outside:?} is somebody's");
                self.bound.insert(inside, Held { outside, remotes: Vec::new(), is_forward: false });
                self.bindings += 1;
                self.note_blocks();
                self.is_in_the_block(&inside, outside);
            }
            (None, Err(DropReason::NaptPortNotServed)) => assert_eq!(inside.port, 0),
            (None, Err(DropReason::NaptTableFull)) => assert!(is_full),
            (None, Err(DropReason::NaptExhausted)) => {
                let is_on_demand = self.napt.spec().realm(inside.realm).is_some_and(|spec| spec.blocks.fixed() == 0);
                // The forward has one port of somebody's block.
                assert!(used + 1 >= usize::from(block_ports) || is_on_demand, "{used} of {block_ports}");
            }
            (None, Err(other)) => panic!("{other:?}"),
        }
        if let Some(held) = self.bound.get_mut(&inside) {
            assert_eq!(self.napt.hold(&inside, remote), !held.is_forward);
            if !held.is_forward {
                held.remotes.push(remote);
            }
        }
    }

    /// A session ends; sessions that there are not cannot.
    fn close(&mut self, inside: Inside, remote: Remote) {
        let Some(held) = self.bound.get_mut(&inside) else { return };
        let Some(at) = held.remotes.iter().position(|other| *other == remote) else { return };
        held.remotes.swap_remove(at);
        self.napt.release(&inside, remote);
        if held.remotes.is_empty() && !held.is_forward {
            self.bound.remove(&inside);
        }
        self.note_blocks();
    }

    /// Any port of any address, seen by any realm.
    fn look(&self, realm: RealmId, address: Ipv4Addr, port: u16) {
        for proto in PROTOS {
            for viewer in [VIEWER, STRANGER, REALMS[0], REALMS[1]] {
                let outside = Outside { realm, address, proto, port };
                let found = self.bound.iter().find(|(_, held)| held.outside == outside);
                let sees = pool(realm).contains(&address) && self.is_seen(realm, viewer);
                let expected =
                    found.filter(|_| sees).map(|(inside, held)| (realm, inside.host, inside.port, held.is_forward));
                let got = self.napt.locate(viewer, address, proto, port);
                assert_eq!(got.map(|at| (at.realm, at.host, at.port, at.is_forward)), expected);
            }
            let who = self.napt.spec().who(proto, address, port);
            if let Some((owner, Who::Host(host, block))) = who {
                let blocks = &self.napt.spec().realm(owner).expect("it has a pool").blocks;
                assert!(owner == realm && block.contains(port) && block.address == address);
                assert_eq!(blocks.block_of_host(host).map(|block| blocks.ports_of(block)), Some(block));
            }
        }
    }

    fn configure(&mut self, at: usize, plan: Plan) {
        let before = std::mem::replace(&mut self.plans[at], plan);
        let ended = self.napt.configure(Arc::new(spec(self.plans)));
        let realm = REALMS[at];
        let keeps = (before.block_ports, before.is_large) == (plan.block_ports, plan.is_large);
        assert_eq!(ended.realms, if keeps { vec![] } else { vec![realm] });
        self.bound.retain(|inside, held| !held.is_forward && !ended.realms.contains(&inside.realm));
        self.given.retain(|(of, _), _| !ended.realms.contains(of));
        for inside in &ended.endpoints {
            assert!(self.bound.remove(inside).is_some() || ended.realms.contains(&inside.realm), "{inside:?}");
        }
        self.add_forwards();
        self.note_blocks();
    }

    fn add_forwards(&mut self) {
        for (realm, plan) in REALMS.into_iter().zip(self.plans) {
            for Forward { proto, outside: (address, port), to } in plan.spec(realm).forwards {
                let inside = Inside { realm, host: to.0, proto, port: to.1 };
                let outside = Outside { realm, address, proto, port };
                assert!(self.bound.values().all(|held| held.outside != outside), "it makes way for the forward");
                if self.bound.len() < self.limit {
                    self.bound.insert(inside, Held { outside, remotes: Vec::new(), is_forward: true });
                }
            }
        }
    }

    /// What the log says: a block is one host's at a time.
    fn note_blocks(&mut self) {
        while let Some(event) = self.napt.poll_event() {
            match event {
                BlockEvent::Given { realm, host, block } => {
                    let others = self.given.iter().filter(|((of, other), _)| *of == realm && *other != host);
                    assert!(others.map(|(_, other)| *other).all(|other| other != block), "given to two hosts");
                    assert_eq!(self.given.insert((realm, host), block), None);
                }
                BlockEvent::GivenBack { realm, host, block } => {
                    assert_eq!(self.given.remove(&(realm, host)), Some(block));
                }
                BlockEvent::AllGivenBack { realm } => self.given.retain(|(of, _), _| *of != realm),
            }
        }
    }

    fn is_in_the_block(&self, inside: &Inside, outside: Outside) {
        let blocks = &self.napt.spec().realm(inside.realm).expect("it has a pool").blocks;
        let block = match self.given.get(&(inside.realm, inside.host)) {
            Some(block) => *block,
            None => {
                let (_, host) = space().extract(inside.host).expect("an IPv4 host");
                blocks.ports_of(blocks.block_of_host(host).expect("a computed block"))
            }
        };
        assert!(outside.address == block.address && block.contains(outside.port), "{outside:?} of {block:?}");
        assert_eq!((outside.realm, outside.proto), (inside.realm, inside.proto));
    }

    fn is_bounded(&self) {
        assert_eq!(self.napt.len(), self.bound.len());
        assert!(self.napt.len() <= self.limit && self.napt.events_lost() == 0);
    }

    fn check(&self) {
        let outsides: HashSet<Outside> = self.bound.values().map(|held| held.outside).collect();
        assert_eq!(outsides.len(), self.bound.len());
        for (inside, held) in &self.bound {
            let Outside { realm, address, proto, port } = held.outside;
            let found = self.napt.locate(VIEWER, address, proto, port).expect("it is bound");
            assert_eq!((found.realm, found.host, found.port), (inside.realm, inside.host, inside.port));
            assert_eq!((realm, self.napt.outside_of(inside)), (inside.realm, Some(held.outside)));
            let is_let_in = |remote: &Remote| self.napt.has_sent_to(inside, *remote);
            assert!((0..3).map(remote).filter(is_let_in).all(|remote| held.remotes.contains(&remote)));
        }
    }

    /// Every session ends, and nothing is left but the forwards.
    fn come_to_rest(&mut self) {
        let all: Vec<(Inside, Vec<Remote>)> =
            self.bound.iter().map(|(inside, held)| (*inside, held.remotes.clone())).collect();
        for (inside, remotes) in all {
            remotes.into_iter().for_each(|remote| self.close(inside, remote));
        }
        self.is_bounded();
        assert!(self.bound.values().all(|held| held.is_forward) && self.given.is_empty(), "{:?}", self.bound);
    }

    fn plan(&self, realm: RealmId) -> Plan {
        self.plans[usize::from(realm.0) - 1]
    }

    fn is_seen(&self, realm: RealmId, viewer: RealmId) -> bool {
        viewer == realm || viewer == VIEWER || self.plan(realm).is_for_all
    }
}

fn spec(plans: [Plan; 2]) -> Spec {
    Spec::new(space(), REALMS.into_iter().zip(plans).map(|(realm, plan)| plan.spec(realm)).collect())
}

fn space() -> Space6 {
    Space6::new("fd69:7867:6174::/48".parse().expect("a prefix")).expect("a /48")
}

fn net_of(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

fn pool(realm: RealmId) -> Ipv4Net {
    net_of(["100.64.9.0/32", "100.64.10.0/31"][usize::from(realm.0) - 1])
}

fn remote(number: u16) -> Remote {
    Remote { realm: VIEWER, host: Canonical(number.into()) }
}

/// Both realms have them all.
fn host(realm: RealmId, number: u8) -> Canonical {
    space().embed(realm, Ipv4Addr::new(192, 168, 1, number % 16))
}
