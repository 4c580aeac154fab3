//! Routers that have no key exchange group for ESP, or want one: played by B, whose answers are forged with its own keys.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::world::*;
use crate::ike::message::refusal;
use crate::ike::protect::{Inside, transmit};
use crate::ike::{Lifetimes, PeerConfig, Profile};
use crate::packet::Outbox;
use crate::wire::ike::{self, ExchangeType, Limits, Payload, Protocol, notify as kinds};

/// Which requests for Child SAs a router takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Router {
    TakesAll,
    RefusesKeyExchange,
    WantsKeyExchange,
    RefusesAll,
}

impl Router {
    fn takes(self, with_ke: bool) -> bool {
        match self {
            Router::TakesAll => true,
            Router::RefusesKeyExchange => !with_ke,
            Router::WantsKeyExchange => with_ke,
            Router::RefusesAll => false,
        }
    }
}

struct Scene {
    world: World,
    /// CREATE_CHILD_SA requests of A, withheld; and the last packet that may pass.
    withheld: Arc<Mutex<Vec<Packet>>>,
    passes: Arc<Mutex<Option<u64>>>,
}

impl Scene {
    fn new(change: impl Fn(&mut PeerConfig)) -> Self {
        let mut world = World::pair_with(1, &change, &change);
        let (withheld, passes) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let (seen, pass) = (withheld.clone(), passes.clone());
        world.filter = Box::new(move |packet| {
            let from_a = packet.from.ip() == ip(A) && !packet.is_response();
            let withhold = from_a
                && packet.exchange() == ExchangeType::CREATE_CHILD_SA.0
                && *pass.lock().unwrap() != Some(packet.number);
            if withhold {
                seen.lock().unwrap().push(packet.clone());
            }
            !withhold
        });
        world.run_for(2);
        Scene { world, withheld, passes }
    }

    /// Runs on with such a router. What A asked for, one after the other: with a key exchange, or without.
    fn run(&mut self, router: Router, millis: u64) -> Vec<bool> {
        let mut asked = Vec::new();
        for _ in 0..millis / 10 {
            self.world.run_until(self.world.now + Duration::from_millis(10));
            let withheld = std::mem::take(&mut *self.withheld.lock().unwrap());
            for packet in withheld {
                match self.is_for_child(&packet) {
                    Some(with_ke) => {
                        asked.push(with_ke);
                        match router.takes(with_ke) {
                            true => self.let_pass(packet),
                            false => self.refuse(&packet),
                        }
                    }
                    None => self.let_pass(packet),
                }
            }
        }
        asked
    }

    fn let_pass(&mut self, packet: Packet) {
        *self.passes.lock().unwrap() = Some(packet.number);
        self.world.send_packet(packet);
    }

    /// Whether it has a key exchange. `None`: it rekeys the IKE SA.
    fn is_for_child(&self, packet: &Packet) -> Option<bool> {
        let header = ike::parse_header(packet.message()).unwrap();
        let sas = &self.world.hosts[B].endpoint.sas;
        let entry = sas.get(&header.responder_spi).or(sas.get(&header.initiator_spi)).unwrap();
        let protected = ike::find_protected(header.next_payload, packet.message(), &Limits::default());
        let protected = protected.unwrap().unwrap();
        let plain = entry.sa.session.as_ref().unwrap().protection.open(packet.message(), &protected).unwrap();
        let payloads = ike::parse_payloads(protected.inner_first, &plain, &Limits::default()).unwrap();
        let proposals = payloads.iter().find_map(|payload| match payload {
            Payload::SecurityAssociation(proposals) => Some(proposals),
            _ => None,
        });
        let has_group = |transforms: &[ike::Transform]| {
            transforms.iter().any(|transform| transform.kind == ike::transform_kind::KEY_EXCHANGE)
        };
        let proposals = proposals.unwrap();
        let with_ke = payloads.iter().any(|payload| matches!(payload, Payload::KeyExchange { .. }));
        assert!(proposals.iter().all(|proposal| has_group(&proposal.transforms) == with_ke), "{payloads:?}");
        (proposals[0].protocol == Protocol::Esp).then_some(with_ke)
    }

    fn refuse(&mut self, request: &Packet) {
        let asked = ike::parse_header(request.message()).unwrap();
        let sas = &mut self.world.hosts[B].endpoint.sas;
        let spi = if sas.contains_key(&asked.responder_spi) { asked.responder_spi } else { asked.initiator_spi };
        let sa = &mut sas.get_mut(&spi).unwrap().sa;
        let header = sa.header(asked.exchange, true, asked.message_id);
        let inside = Inside::of(&refusal(kinds::NO_PROPOSAL_CHOSEN));
        let datagrams = sa.session.as_mut().unwrap().protection.seal(&header, &inside, None);
        sa.incoming.note(request.message(), 0);
        let mut outbox = Outbox::new(1 << 16, 16);
        transmit(&datagrams, &sa.path, &mut outbox);
        sa.incoming.answered(datagrams);
        self.world.send_from(B, &outbox);
    }

    /// A rekeys its Child SA. What it asked for.
    fn rekey(&mut self, router: Router) -> Vec<bool> {
        let now = self.world.now;
        let spi = self.world.hosts[A].endpoint.status(TUNNEL).unwrap().children[0].spi_in;
        self.world.hosts[A].endpoint.rekey_child(TUNNEL, spi, now);
        self.run(router, 1000)
    }

    fn has_pfs(&self) -> bool {
        let status = self.world.hosts[A].endpoint.status(TUNNEL).unwrap();
        let [child] = &status.children[..] else { panic!("{}", self.world.dump()) };
        child.proposal.contains("x25519")
    }
}

#[test]
fn a_router_without_groups_for_esp_is_asked_once_more_without_and_then_always_without() {
    let ike = Duration::from_secs(30);
    let mut scene = Scene::new(|config| config.lifetimes = Lifetimes { ike, ..Lifetimes::default() });
    assert_eq!(scene.rekey(Router::RefusesKeyExchange), [true, false]);
    assert_eq!(scene.rekey(Router::RefusesKeyExchange), [false]);
    assert!(!scene.has_pfs(), "and the status says so");
    assert!(scene.run(Router::RefusesKeyExchange, 40_000).is_empty(), "only the IKE SA is rekeyed");
    let counts = [A, B].map(|host| scene.world.hosts[host].endpoint.status(TUNNEL).unwrap().counts.ike_rekeys);
    assert_ne!(counts, [0, 0]);
    assert_eq!(scene.rekey(Router::RefusesKeyExchange), [false], "the new one knows it, too");
    assert_eq!(scene.world.child_ups(A), 4, "{}", scene.world.dump());
    assert_eq!(scene.world.failures(A), []);
    assert!(scene.world.is_up());
}

#[test]
fn a_router_that_has_got_a_group_since_has_a_key_exchange_again() {
    let mut scene = Scene::new(|_| {});
    assert_eq!(scene.rekey(Router::RefusesKeyExchange), [true, false]);
    assert_eq!(scene.rekey(Router::WantsKeyExchange), [false, true]);
    assert!(scene.has_pfs());
    assert_eq!(scene.rekey(Router::TakesAll), [true]);
    assert_eq!(scene.world.failures(A), []);
}

#[test]
fn a_child_sa_with_forward_secrecy_is_not_replaced_by_one_without() {
    let mut scene = Scene::new(|_| {});
    assert_eq!(scene.rekey(Router::TakesAll), [true]);
    assert_eq!(scene.rekey(Router::RefusesKeyExchange), [true]);
    assert!(scene.has_pfs());
    assert_eq!(scene.world.failures(A).len(), 1, "{}", scene.world.dump());
    assert!(scene.world.is_up());
}

#[test]
fn the_profile_pq_does_not_do_without() {
    let mut scene = Scene::new(|config| config.profile = Profile::Pq);
    assert_eq!(scene.rekey(Router::RefusesKeyExchange), [true]);
    assert_eq!(scene.world.failures(A).len(), 1, "{}", scene.world.dump());
}

#[test]
fn a_router_that_refuses_everything_is_asked_twice_each_time() {
    let mut scene = Scene::new(|_| {});
    assert_eq!(scene.rekey(Router::RefusesAll), [true, false]);
    assert_eq!(scene.world.failures(A).len(), 1, "{}", scene.world.dump());
    assert_eq!(scene.run(Router::RefusesAll, 31_000), [true, false], "and again after half a minute");
    assert!(scene.world.is_up());
}
