//! Every limit of an established peer, reached. (Those of strangers are in `hostile.rs`, of fragments in `reassembly.rs`.)

use super::world::*;
use crate::ike::{Limits, PeerConfig, SelectorMode};
use crate::net::TunnelId;
use crate::packet::Outbox;

fn limited(limits: Limits, a: impl FnOnce(&mut PeerConfig)) -> World {
    let mut world = World::new(1);
    let mut config = PeerConfig { initiate: true, ..peer(A, B) };
    a(&mut config);
    let mirrored = PeerConfig { ours: config.theirs.clone(), theirs: config.ours.clone(), ..peer(B, A) };
    world.add(1, limits.clone(), vec![config]);
    world.add(2, limits, vec![mirrored]);
    world
}

fn many(count: u8) -> Vec<crate::net::selector::Selector> {
    (0..count).map(|n| selector(&format!("10.200.{n}.0/24"))).collect()
}

#[test]
fn initiations_leave_at_a_pace() {
    let mut world = World::new(1);
    world.check_gaps = false;
    let config = |n: u32| PeerConfig {
        tunnel: TunnelId(n),
        initiate: true,
        remote_id: fqdn(&format!("gw-{n}.example")),
        ..peer(A, B)
    };
    world.add(1, Limits::default(), (0..100).map(config).collect());
    let mut sent = Vec::new();
    for _ in 0..4 {
        let mut outbox = Outbox::new(1 << 20, 4096);
        let (now, endpoint) = (world.now, &mut world.hosts[A].endpoint);
        endpoint.handle_timeout(&mut outbox, now);
        sent.push(outbox.datagrams().count());
        world.now = endpoint.poll_timeout().unwrap().0;
    }
    assert_eq!(sent, [32, 32, 32, 4]);
}

#[test]
fn a_peer_has_at_most_so_many_ike_sas() {
    let mut world = limited(Limits { sas_per_peer: 3, ..Limits::default() }, |_| {});
    world.check_gaps = false;
    world.run_for(2);
    for _ in 0..5 {
        let now = world.now;
        world.hosts[A].endpoint.peers.call_at(TUNNEL, now);
        world.run_for(1);
    }
    for host in [A, B] {
        let status = world.hosts[host].endpoint.status(TUNNEL).unwrap();
        assert_eq!((status.ike_sas, world.hosts[host].esp.live()), (3, 3), "{}", world.dump());
        assert_eq!(world.hosts[host].endpoint.child_spi_count(), 3);
    }
    world.run_for(120);
    assert!(world.is_up(), "{}", world.dump());
    assert_eq!(world.hosts[A].endpoint.status(TUNNEL).unwrap().ike_sas, 1, "and soon no more than needed");
}

#[test]
fn an_ike_sa_has_at_most_so_many_child_sas_and_waiting_requests() {
    let limits = Limits { children_per_sa: 5, tasks_per_sa: 8, ..Limits::default() };
    let mut world = limited(limits, |a| {
        (a.ours, a.theirs, a.selector_mode) = (many(6), many(6), SelectorMode::Pairs);
    });
    world.run_for(1);
    assert!(world.hosts[A].endpoint.sas.values().all(|entry| entry.sa.tasks.len() <= 8));
    world.run_for(20);
    for host in [A, B] {
        assert_eq!(world.hosts[host].endpoint.status(TUNNEL).unwrap().children.len(), 5, "{}", world.dump());
        assert_eq!(world.hosts[host].endpoint.child_spi_count(), 5);
    }
    assert!(world.failures(A).iter().any(|failure| failure.cause.name() == "too_many_sas"), "{}", world.dump());
}

/// Another realm's router announces one network after the other, each withdrawn before the next.
#[test]
fn networks_that_come_and_go_use_up_no_child_sas() {
    for mode in [SelectorMode::View, SelectorMode::Pairs] {
        let limits = Limits { children_per_sa: 5, ..Limits::default() };
        let ours = |n: u8| [vec![selector("10.0.0.0/16")], many(n).split_off(usize::from(n) - 1)].concat();
        let mut world = limited(limits, |a| (a.ours, a.selector_mode) = (ours(1), mode));
        world.run_for(5);
        for n in 2..20 {
            world.configure(B, vec![PeerConfig { theirs: ours(n), ..peer(B, A) }]);
            let config = PeerConfig { initiate: true, selector_mode: mode, ours: ours(n), ..peer(A, B) };
            world.configure(A, vec![config]);
            world.run_for(5);
            let children = world.hosts[A].endpoint.status(TUNNEL).unwrap().children;
            let carried: Vec<_> = children.iter().flat_map(|child| &child.ours).collect();
            assert!(ours(n).iter().all(|own| carried.contains(&own)), "{n} {mode:?} {}", world.dump());
            assert!(children.len() <= 2, "{n} {mode:?} {}", world.dump());
            assert_eq!(world.hosts[B].endpoint.child_spi_count(), children.len(), "{}", world.dump());
        }
        assert!(world.failures(A).is_empty() && world.downs(A).is_empty(), "{}", world.dump());
    }
}

/// What the peer has just made it may not have heard of as made: it is not closed for carrying too much.
#[test]
fn what_the_peer_made_goes_only_when_both_sides_surely_have_it() {
    let ours = |n: u8| [vec![selector("10.0.0.0/16")], many(n).split_off(usize::from(n) - 1)].concat();
    let mut world = limited(Limits::default(), |a| (a.ours, a.initiate) = (ours(1), false));
    world.check_gaps = false;
    world.configure(B, vec![PeerConfig { theirs: ours(1), initiate: true, ..peer(B, A) }]);
    world.run_for(5);
    for (n, left) in [(2, 2), (3, 1)] {
        world.configure(B, vec![PeerConfig { theirs: ours(n), ..peer(B, A) }]);
        world.configure(A, vec![PeerConfig { ours: ours(n), initiate: true, ..peer(A, B) }]);
        world.run_for(5);
        let children = world.hosts[A].endpoint.status(TUNNEL).unwrap().children;
        assert_eq!(children.len(), left, "{n} {}", world.dump());
        world.run_for(Limits::default().retransmit.total().as_secs() + 1);
    }
    assert!(world.downs(A).is_empty(), "{}", world.dump());
}

#[test]
fn a_child_sa_has_at_most_so_many_selectors() {
    let mut world = limited(Limits { selectors: 4, ..Limits::default() }, |a| a.ours = many(10));
    world.run_for(2);
    assert_eq!(world.hosts[A].esp.sealing().unwrap().ours.len(), 4, "{}", world.dump());
}

/// Those that were replaced wait to be deleted by the peer, who may never do it.
#[test]
fn replaced_ike_sas_are_bounded_too() {
    let mut world = limited(Limits { sas_per_peer: 3, ..Limits::default() }, |_| {});
    world.check_gaps = false;
    world.run_for(2);
    world.filter = Box::new(|packet| packet.exchange() != 37);
    for _ in 0..20 {
        let spi = world.hosts[A].endpoint.peers.newest(TUNNEL).unwrap();
        world.hosts[A].endpoint.wake(spi, |sa, now| sa.timers.rekey_at = Some(now));
        world.run_for(1);
    }
    for host in [A, B] {
        let (all, _) = world.hosts[host].endpoint.sa_counts();
        assert!((2..=4).contains(&all), "{all} {}", world.dump());
    }
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "too_many_sas"), "{}", world.dump());
    assert!(world.is_up(), "{}", world.dump());
}
