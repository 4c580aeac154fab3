//! Rekeying of both kinds, alone, crossing, and over a bad network: no packet may find no key.

use std::time::Duration;

use super::world::*;
use crate::ike::{Lifetimes, PeerConfig, Profile};

fn lifetimes(ike: u64, child: u64) -> Lifetimes {
    let (ike, child) = (Duration::from_secs(ike), Duration::from_secs(child));
    Lifetimes { ike, child, ..Lifetimes::default() }
}

fn aging(a: (u64, u64), b: (u64, u64)) -> impl Fn(u64) -> World {
    move |seed| {
        let set = |(ike, child)| move |config: &mut PeerConfig| config.lifetimes = lifetimes(ike, child);
        World::pair_with(seed, set(a), set(b))
    }
}

const LONG: u64 = 100_000;

/// One IKE SA and one Child SA on each side, and nothing that anybody forgot.
fn assert_tidy(world: &mut World) {
    for host in [A, B] {
        let status = world.hosts[host].endpoint.status(TUNNEL).unwrap();
        assert_eq!((status.ike_sas, status.children.len()), (1, 1), "{}", world.dump());
        assert_eq!(world.hosts[host].endpoint.sa_counts(), (1, 0), "{}", world.dump());
        assert_eq!(world.hosts[host].endpoint.child_spi_count(), 1, "{}", world.dump());
        assert_eq!(world.hosts[host].esp.live(), 1, "{}", world.dump());
    }
    assert!(world.is_up());
}

#[test]
fn either_side_rekeys_a_child_sa_and_it_is_up_all_the_time() {
    for (a, b) in [((LONG, 20), (LONG, LONG)), ((LONG, LONG), (LONG, 20))] {
        let mut world = aging(a, b)(1);
        world.run_for(110);
        assert_tidy(&mut world);
        assert!((6..=8).contains(&world.child_ups(A)), "{}", world.dump());
        assert!(world.downs(A).is_empty() && world.downs(B).is_empty());
    }
}

#[test]
fn either_side_rekeys_the_ike_sa_and_the_child_sa_moves_over() {
    for (a, b) in [((20, LONG), (LONG, LONG)), ((LONG, LONG), (20, LONG))] {
        let mut world = aging(a, b)(2);
        world.run_for(110);
        assert_tidy(&mut world);
        let counts = world.hosts[A].endpoint.status(TUNNEL).unwrap().counts;
        let counts_b = world.hosts[B].endpoint.status(TUNNEL).unwrap().counts;
        assert!(counts.ike_rekeys + counts_b.ike_rekeys >= 5, "{}", world.dump());
        assert_eq!(world.child_ups(A), 1, "the Child SA is the same");
        // Its new IKE SA can rekey it.
        let spi = world.hosts[A].esp.sealing().unwrap().spi_in;
        let now = world.now;
        world.hosts[A].endpoint.rekey_child(TUNNEL, spi, now);
        world.run_for(1);
        assert_eq!(world.child_ups(A), 2, "{}", world.dump());
        assert_tidy(&mut world);
    }
}

#[test]
fn both_sides_rekey_the_child_sa_at_once() {
    for seed in 0..40 {
        let mut world = aging((LONG, LONG), (LONG, LONG))(seed);
        world.run_for(5);
        let now = world.now;
        for host in [A, B] {
            let spi = world.hosts[host].esp.sealing().unwrap().spi_in;
            world.hosts[host].endpoint.rekey_child(TUNNEL, spi, now);
        }
        world.run_for(5);
        assert_tidy(&mut world);
        assert_eq!((world.child_ups(A), world.child_ups(B)), (3, 3), "both exchanges succeeded");
    }
}

#[test]
fn both_sides_rekey_everything_at_once_again_and_again() {
    for seed in 0..30 {
        let mut world = aging((13, 7), (13, 7))(seed);
        world.run_for(120);
        assert!(world.is_up(), "seed {seed}\n{}", world.dump());
        assert!(world.downs(A).is_empty() && world.downs(B).is_empty(), "seed {seed}\n{}", world.dump());
        let counts = world.hosts[A].endpoint.status(TUNNEL).unwrap().counts;
        assert!(counts.ike_rekeys + world.hosts[B].endpoint.status(TUNNEL).unwrap().counts.ike_rekeys > 5);
    }
}

#[test]
fn over_a_network_that_loses_doubles_and_reorders() {
    for seed in 0..100 {
        let mut world = aging((40, 15), (40, 15))(seed);
        world.faults = Faults { loss: 10, double: 10, late: 15 };
        world.run_for(300);
        assert!(world.is_up(), "seed {seed}\n{}", world.dump());
        // With nothing more due, what is over goes.
        world.faults = Faults::default();
        let long = |me, other| PeerConfig { initiate: me == A, lifetimes: lifetimes(LONG, LONG), ..peer(me, other) };
        world.configure(A, vec![long(A, B)]);
        world.configure(B, vec![long(B, A)]);
        world.run_for(400);
        assert_tidy(&mut world);
    }
}

#[test]
fn the_loss_of_any_one_message_of_a_life_is_survived() {
    let life = |filter: Box<dyn FnMut(&Packet) -> bool>| {
        let mut world = aging((20, 9), (24, 8))(7);
        world.filter = filter;
        world.run_for(60);
        world
    };
    let total = life(Box::new(|_| true)).packets_sent();
    assert!(total > 40, "{total}");
    for lost in 0..total {
        let world = life(Box::new(move |packet| packet.number != lost));
        assert!(world.is_up(), "without message {lost}\n{}", world.dump());
        assert!(world.downs(A).is_empty() && world.downs(B).is_empty(), "without message {lost}\n{}", world.dump());
    }
}

#[test]
fn every_profile_rekeys() {
    for profile in Profile::ALL {
        let set = move |config: &mut PeerConfig| {
            config.profile = profile;
            config.lifetimes = lifetimes(20, 9);
        };
        let mut world = World::pair_with(9, set, set);
        world.run_for(60);
        assert!(world.is_up(), "{profile} {}", world.dump());
        assert_eq!((world.failures(A), world.failures(B)), (vec![], vec![]), "{profile}");
        let counts = [A, B].map(|host| world.hosts[host].endpoint.status(TUNNEL).unwrap().counts);
        let (ike, child) = (counts.map(|count| count.ike_rekeys), counts.map(|count| count.child_rekeys));
        assert!(ike[0] + ike[1] >= 2 && child[0] + child[1] >= 4, "{profile} {}", world.dump());
    }
}

/// Several exchanges to a rekey, and any of them may cross or get lost.
#[test]
fn with_further_key_exchanges_over_a_bad_network() {
    for seed in 0..25 {
        let set = |config: &mut PeerConfig| {
            config.profile = Profile::Pq;
            config.lifetimes = lifetimes(40, 15);
        };
        let mut world = World::pair_with(seed, set, set);
        world.faults = Faults { loss: 8, double: 10, late: 10 };
        world.run_for(200);
        assert!(world.is_up(), "seed {seed}\n{}", world.dump());
    }
}

/// Both close their Child SA and ask for another one at the same moment, and one of the messages is lost.
#[test]
fn both_sides_ask_for_the_same_child_sa_at_once() {
    for lost in 0..16 {
        let mut world = World::pair(lost);
        world.check_gaps = false;
        world.run_for(5);
        let first = world.packets_sent();
        world.filter = Box::new(move |packet| packet.number != first + lost);
        for host in [A, B] {
            let now = world.now;
            let spi_in = world.hosts[host].endpoint.status(TUNNEL).unwrap().children[0].spi_in;
            world.hosts[host].endpoint.expire_child(TUNNEL, spi_in, now);
        }
        world.run_for(60);
        assert!(world.is_up(), "message {lost} {}", world.dump());
        let [mut ours, mut theirs] = [A, B].map(|host| {
            let children = world.hosts[host].endpoint.status(TUNNEL).unwrap().children;
            children.iter().map(|child| if host == A { child.spi_in } else { child.spi_out }).collect::<Vec<u32>>()
        });
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "message {lost}: both have the same Child SAs {}", world.dump());
    }
}
