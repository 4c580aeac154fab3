//! Any one message of every exchange is lost, doubled or overtaken: every exchange ends as if nothing had been.

use ixgate::ike::{PeerConfig, Profile};
use ixgate::sim::random::Random;

use super::scene::*;

/// The datagrams of a life that are interfered with, one in each run.
const MESSAGES: u64 = 40;

/// Establishment, rekeying of both kinds from both sides, and in the end the closing of it all.
fn life(profile: Profile, filter: impl FnMut(&Message) -> Fate + 'static) -> World {
    let set = |ike: u64, child: u64| {
        move |config: &mut PeerConfig| {
            config.profile = profile;
            config.lifetimes = lifetimes(millis(ike), millis(child));
        }
    };
    let mut world = pair_with(11, set(9_000, 4_000), set(13_000, 7_100));
    world.filter = Box::new(filter);
    // What is lost before both sides know that they are up proves nothing.
    world.run_for(millis(4_000));
    while !both_up(&world) {
        assert!(world.now.as_secs() < 200, "never up\n{}", world.dump());
        world.run_for(millis(100));
    }
    world.flow_both_ways(ENDS[0], ENDS[1], hosts(), millis(50));
    world.run_for(secs(35));
    assert_no_gap(&world);
    settle(&mut world);
    assert_no_gap(&world);
    world.assert_tidy(&[ENDS], 1);
    assert_eq!((world.sites[A].downs, world.sites[B].downs), (0, 0), "{}", world.dump());
    close(&mut world);
    world
}

fn both_up(world: &World) -> bool {
    let up = |site: usize| world.sites[site].gateway.ike.status(TUNNEL).is_some_and(|s| !s.children.is_empty());
    up(A) && up(B)
}

/// A no longer has the peer: B hears of it.
fn close(world: &mut World) {
    world.stop_flows();
    world.run_for(secs(1));
    world.configure(A, vec![]);
    world.run_for(secs(200));
    for site in [A, B] {
        let gateway = &world.sites[site].gateway;
        assert_eq!((gateway.ike.sa_counts(), gateway.esp.sa_count()), ((0, 0), 0), "{}", world.dump());
        assert_eq!(gateway.ike.child_spi_count(), 0, "{}", world.dump());
    }
}

fn each_message_meets(fate: Fate, profile: Profile) {
    let untouched = life(profile, |_| Fate::Arrives);
    assert!(untouched.ike_sent() >= MESSAGES, "{} are too few\n{}", untouched.ike_sent(), untouched.dump());
    for unlucky in 0..MESSAGES {
        println!("message {unlucky}: {fate:?}, {profile}");
        life(profile, move |message| if message.number == unlucky { fate } else { Fate::Arrives });
    }
}

#[test]
fn any_one_message_is_lost() {
    each_message_meets(Fate::Lost, Profile::Modern);
}

#[test]
fn any_one_message_is_lost_with_ml_kem() {
    each_message_meets(Fate::Lost, Profile::Pq);
}

#[test]
fn any_one_message_comes_twice() {
    each_message_meets(Fate::Twice, Profile::Modern);
    each_message_meets(Fate::Twice, Profile::Pq);
}

#[test]
fn any_one_message_is_overtaken_by_the_next() {
    each_message_meets(Fate::Overtaken, Profile::Modern);
    each_message_meets(Fate::Overtaken, Profile::Pq);
}

/// The closing of a tunnel: each of its messages is lost.
#[test]
fn the_end_is_heard_although_messages_are_lost() {
    for lost in 0..4 {
        let mut world = pair(12);
        up_then_flowing(&mut world, millis(50));
        world.run_for(secs(1));
        let before = world.ike_sent();
        world.filter = Box::new(move |m| if m.number == before + lost { Fate::Lost } else { Fate::Arrives });
        close(&mut world);
    }
}

/// Liveness: a silent tunnel asks, and every message of it may be lost.
#[test]
fn a_silent_tunnel_stays_up_although_messages_are_lost() {
    for lost in 0..12 {
        let mut world = pair(13);
        world.run_for(secs(2));
        let before = world.ike_sent();
        world.filter = Box::new(move |m| if m.number == before + lost { Fate::Lost } else { Fate::Arrives });
        world.run_for(secs(120));
        assert!(world.ike_sent() > before + 12, "it asks: {}", world.dump());
        up_then_flowing(&mut world, millis(50));
        world.run_for(secs(2));
        assert_no_gap(&world);
        world.assert_tidy(&[ENDS], 1);
    }
}

/// New and expired Child SAs: a packet finds no key for a moment, but never for long.
#[test]
fn a_child_sa_that_is_closed_is_made_anew_although_messages_are_lost() {
    for lost in 0..10 {
        for closer in [A, B] {
            let mut world = pair(14);
            up_then_flowing(&mut world, millis(50));
            world.run_for(secs(1));
            let before = world.ike_sent();
            world.filter = Box::new(move |m| if m.number == before + lost { Fate::Lost } else { Fate::Arrives });
            let spi = world.children(closer, TUNNEL)[0];
            let now = world.now;
            world.with_gateway(closer, |gateway, _| gateway.ike.expire_child(TUNNEL, spi, now));
            world.run_for(secs(20));
            assert!(world.all_flow(), "{}", world.dump());
            settle(&mut world);
            world.assert_tidy(&[ENDS], 1);
        }
    }
}

/// A network that is bad for IKE alone: whatever rekeying meets, the packets of the tunnel never do.
#[test]
fn a_third_of_all_messages_meets_something_and_no_packet_is_lost() {
    for seed in 0..30 {
        let mut world = aging(seed, (secs(40), secs(9)), (secs(35), secs(11)));
        up_then_flowing(&mut world, millis(100));
        let mut random = Random(seed);
        world.filter = Box::new(move |_| match random.below(9) {
            0 => Fate::Lost,
            1 => Fate::Twice,
            2 => Fate::Overtaken,
            _ => Fate::Arrives,
        });
        world.run_for(secs(200));
        assert_no_gap(&world);
        assert!(world.sites[A].installed > 15, "{}", world.dump());
        world.filter = Box::new(|_| Fate::Arrives);
        settle(&mut world);
        assert_no_gap(&world);
        world.assert_tidy(&[ENDS], 1);
    }
}
