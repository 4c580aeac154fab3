//! Peers that have everything in common: inner addresses, outer ports, SPIs. Only keys tell them apart.

use ixgate::ike::{Encapsulation, PeerConfig};
use ixgate::net::TunnelId;
use ixgate::sim::ipsec_world::peer;

use super::scene::*;

const HUB: usize = 0;
const PEERS: usize = 3;

/// A hub, and three peers that draw the same numbers. `nat`: all behind one address, else each at its own.
fn star(seed: u64, nat: bool, change: impl Fn(&mut PeerConfig)) -> World {
    let name = |n: usize| format!("gw{n}.example");
    let mut world = World::new(seed);
    let of_hub = (1..=PEERS).map(|n| {
        let mut config = peer(TunnelId(n as u32), "hub.example", &name(n), None);
        change(&mut config);
        config
    });
    world.add(outer(HUB), seed, of_hub.collect());
    for n in 1..=PEERS {
        let mut config = PeerConfig { initiate: true, ..peer(TUNNEL, &name(n), "hub.example", Some(outer(HUB))) };
        change(&mut config);
        let at = if nat { outer(200) } else { outer(n) };
        let site = world.add(at, seed + 1000, vec![]);
        if nat {
            world.relocate(site, at, 1000 * n as u16);
        }
        world.configure(site, vec![config]);
    }
    world
}

fn tunnels() -> Vec<[(usize, TunnelId); 2]> {
    (1..=PEERS).map(|n| [(HUB, TunnelId(n as u32)), (n, TUNNEL)]).collect()
}

fn flow_all(world: &mut World) {
    world.run_for(secs(1));
    for [hub, other] in tunnels() {
        world.flow_both_ways(hub, other, hosts(), millis(20));
    }
}

#[test]
fn three_peers_with_the_same_addresses_ports_and_spis() {
    for nat in [false, true] {
        let mut world = star(31, nat, |config| config.lifetimes = lifetimes(secs(20), secs(8)));
        flow_all(&mut world);
        world.run_for(secs(100));
        (0..2 * PEERS).for_each(|flow| world.assert_no_gap(flow, 0));
        assert!(world.ledger.shared_spis > 10, "the peers choose the same SPIs: {}", world.ledger.shared_spis);
        for site in 0..=PEERS {
            let long = |peer: &PeerConfig| PeerConfig { lifetimes: lifetimes(secs(LONG), secs(LONG)), ..peer.clone() };
            let peers = world.sites[site].peers.iter().map(|peer| long(peer)).collect();
            world.configure(site, peers);
        }
        world.run_for(secs(300));
        world.assert_tidy(&tunnels(), 1);
    }
}

#[test]
fn the_same_without_udp() {
    let mut world = star(32, false, |config| {
        config.encapsulation = Encapsulation::Esp;
        config.lifetimes = lifetimes(secs(20), secs(8));
    });
    flow_all(&mut world);
    world.run_for(secs(60));
    (0..2 * PEERS).for_each(|flow| world.assert_no_gap(flow, 0));
}

/// One of them restarts, one is moved by its NAT: the others notice nothing.
#[test]
fn what_happens_to_one_happens_to_no_other() {
    let mut world = star(33, true, |config| config.lifetimes = lifetimes(secs(40), secs(15)));
    flow_all(&mut world);
    world.run_for(secs(5));
    world.restart(1);
    world.relocate(2, outer(201), 2000);
    world.run_for(secs(60));
    for flow in [4, 5] {
        world.assert_no_gap(flow, 0);
    }
    assert!(world.run_until_all_flow(secs(120)), "{}", world.dump());
}

#[test]
fn the_hub_restarts_and_all_come_back() {
    let mut world = star(34, true, |_| {});
    flow_all(&mut world);
    world.run_for(secs(5));
    world.restart(HUB);
    assert!(world.run_until_all_flow(secs(120)), "{}", world.dump());
    world.run_for(secs(300));
    world.assert_tidy(&tunnels(), 1);
}
