//! What is bounded, and what happens at the bound.

use std::time::Duration;

use super::world::*;
use crate::net::TunnelId;
use crate::packet::{DropReason, Outbox};
use crate::wireguard::endpoint::INITIATIONS_PER_TICK;
use crate::wireguard::index::{MAX_PER_TUNNEL, MAX_TUNNELS};
use crate::wireguard::{Event, Opened, PeerConfig, Refusal, public_key};

const TICK: Duration = Duration::from_micros(62_500);

/// So many peers, all called by us.
fn many(count: u32) -> Vec<PeerConfig> {
    let peer = |n: u32| {
        let mut private = [0x33; 32];
        private[8..12].copy_from_slice(&n.to_le_bytes());
        PeerConfig { tunnel: TunnelId(n), public_key: public_key(&private), ..called(1) }
    };
    (0..count).map(peer).collect()
}

#[test]
fn initiations_are_spread_over_ticks_and_everybody_gets_a_turn() {
    let count = 3 * INITIATIONS_PER_TICK + 4;
    let mut world = World::new(&many(count));
    let mut sent = Vec::new();
    for _ in 0..4 {
        world.tick();
        sent.push(world.sent().len() as u32);
        world.advance(TICK);
    }
    assert_eq!(sent, [INITIATIONS_PER_TICK, INITIATIONS_PER_TICK, INITIATIONS_PER_TICK, 4]);
    for _ in 0..(6 * 16) {
        world.tick();
        assert!(world.sent().len() as u32 <= INITIATIONS_PER_TICK);
        world.advance(TICK);
    }
    for n in 0..count {
        assert_eq!(world.status(TunnelId(n)).handshakes.attempts, 2, "tunnel {n}");
    }
}

#[test]
fn packets_for_many_silent_peers_do_not_exceed_the_budget_either() {
    let mut world = World::new(&many(INITIATIONS_PER_TICK + 10));
    for n in 0..INITIATIONS_PER_TICK + 10 {
        assert_eq!(world.seal(TunnelId(n), &packet(60)), Err(DropReason::TunnelDown));
    }
    assert_eq!(world.sent().len() as u32, INITIATIONS_PER_TICK);
    world.tick();
    assert_eq!(world.sent().len(), 10);
}

#[test]
fn a_full_outbox_loses_packets_but_no_initiations() {
    let mut world = World::new(&[config(1), called(2)]);
    let mut gateway = Gateway::new(1, None);
    let roomy = std::mem::replace(&mut world.outbox, Outbox::new(80, 10));
    let initiation = gateway.initiate();
    let full = Opened::Dropped { reason: DropReason::EgressQueueFull, tunnel: None };
    assert_eq!(world.open(path(1), &initiation), full);
    world.tick();
    assert!(world.sent().is_empty());

    world.outbox = roomy;
    world.advance(TICK);
    world.tick();
    assert_eq!(world.sent_one().2.len(), 148);
    world.connect(&mut gateway, path(1));
    world.outbox = Outbox::new(80, 10);
    assert_eq!(world.seal(TunnelId(1), &packet(60)), Err(DropReason::EgressQueueFull));
    assert_eq!(world.seal(TunnelId(1), &packet(48)), Ok(()));
    assert_eq!(gateway.open(&world.sent_one().2), packet(48));
}

#[test]
fn a_peer_that_roams_all_the_time_is_followed_and_told_of_now_and_then() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    let tunnel = gateway.tunnel;
    world.connect(&mut gateway, path(1));
    world.events();
    for port in 2..=5001 {
        let keepalive = gateway.seal(&[]);
        assert_eq!(world.open(path(port), &keepalive), Opened::Keepalive { tunnel });
        assert_eq!(world.status(tunnel).path, Some(path(port)));
    }
    assert_eq!(world.events(), [Event::Roamed { tunnel, from: path(1), to: path(2), moves: 1 }]);
    for _ in 0..4 * 16 {
        world.advance(TICK);
        world.tick();
    }
    assert_eq!(world.events(), []);
    world.advance(Duration::from_millis(6050));
    world.tick();
    assert_eq!(world.events(), [Event::Roamed { tunnel, from: path(2), to: path(5001), moves: 4999 }]);
}

#[test]
fn a_peer_that_makes_new_keys_all_the_time_is_told_of_once_a_second() {
    let mut world = World::new(&[config(1)]);
    for _ in 0..100 {
        world.connect(&mut Gateway::new(1, None), path(1)); // every 20 ms
    }
    let completed = |event: &&Event| matches!(event, Event::HandshakeCompleted { .. });
    assert_eq!(world.events().iter().filter(completed).count(), 2);
    assert_eq!(world.status(TunnelId(1)).handshakes.completed, 100);
}

#[test]
fn impossible_peers_are_refused_with_a_word() {
    let too_many = PeerConfig { tunnel: TunnelId(MAX_TUNNELS as u32), ..config(2) };
    let twice = PeerConfig { tunnel: TunnelId(3), ..config(1) };
    let mut world = World::new(&[config(1), too_many, twice]);
    let refused = |tunnel, why| Event::Refused { tunnel: TunnelId(tunnel), why };
    let both = [refused(MAX_TUNNELS as u32, Refusal::TooManyTunnels), refused(3, Refusal::KeyTwice)];
    assert_eq!(world.events(), both);
    assert_eq!(world.endpoint.status(TunnelId(3)), None);
    world.connect(&mut Gateway::new(1, None), path(1));
}

#[test]
fn however_many_keys_a_peer_makes_it_has_few_indices_and_none_when_it_is_gone() {
    let mut world = World::new(&[config(1), called(2)]);
    world.tick();
    world.sent();
    for _ in 0..20 {
        world.connect(&mut Gateway::new(1, None), path(1));
        world.advance(Duration::from_millis(20));
        let unconfirmed = Gateway::new(1, None).initiate();
        assert_eq!(world.open(path(1), &unconfirmed), Opened::Control);
        world.sent();
        assert!(world.indices() <= MAX_PER_TUNNEL, "{}", world.indices());
    }
    assert_eq!(world.indices(), 3 + 1, "previous, current and next session of the one; initiation of the other");
    world.configure(&[]);
    assert_eq!(world.indices(), 0);
}

#[test]
fn a_key_that_agrees_with_everybody_is_refused() {
    let mut point = [0; 32];
    point[0] = 1;
    let weak = PeerConfig { public_key: point, ..config(2) };
    let mut world = World::new(&[config(1), weak]);
    assert_eq!(world.events(), [Event::Refused { tunnel: TunnelId(2), why: Refusal::UnusableKey }]);
    assert_eq!(world.endpoint.status(TunnelId(2)), None);
}
