//! When the timers look at a peer: seldom, and yet in time.

use std::time::Duration;

use super::pair::*;
use super::world::*;
use crate::net::TunnelId;
use crate::sim::random::Random;
use crate::wireguard::{DownReason, PeerConfig};

/// What happened, in seconds.
#[derive(PartialEq, Eq, Debug)]
struct Story {
    handshakes: Vec<u32>,
    downs: Vec<(u32, DownReason)>,
    initiations: Vec<u64>,
    keepalives: u32,
    packets: (u64, u64),
}

/// Ten minutes of traffic now and then, either way, and of a network that is cut now and then.
fn story(config: PeerConfig, seed: u64, is_watched: bool) -> Story {
    let mut pair = Pair::new(config);
    pair.is_watched = is_watched;
    let mut random = Random(seed);
    let mut second = 0;
    while second < 600 {
        let (lasts, each, what) = (1 + random.below(100), 1 + random.below(15), random.below(8));
        for past in 0..lasts {
            pair.cut = what == 0;
            if past % each == 0 {
                let (ours, theirs) = (what & 1 == 1, what & 2 == 2);
                let _ = ours && pair.send_from_ix();
                let _ = theirs && pair.send();
            }
            pair.run(1);
        }
        second += lasts;
    }
    let status = pair.world.status(TUNNEL);
    Story {
        handshakes: pair.handshakes(),
        downs: pair.downs(),
        initiations: pair.initiations.iter().map(|(at, _)| at / 1000).collect(),
        keepalives: pair.keepalives,
        packets: (status.rx_packets, status.tx_packets),
    }
}

fn is_near(one: &[u64], other: &[u64]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.abs_diff(*other) <= 1)
}

#[test]
fn looking_when_asked_comes_to_the_same_as_looking_all_the_time() {
    let kept_alive = PeerConfig { keepalive: Some(Duration::from_secs(25)), ..called(1) };
    let mut handshakes = 0;
    for seed in 0..5 {
        for config in [config(1), called(1), kept_alive.clone()] {
            let (seldom, always) = (story(config.clone(), seed, false), story(config, seed, true));
            let secs = |story: &Story| -> [Vec<u64>; 3] {
                let downs = story.downs.iter().map(|(at, _)| u64::from(*at)).collect();
                [story.handshakes.iter().map(|at| u64::from(*at)).collect(), downs, story.initiations.clone()]
            };
            let is_same = secs(&seldom).iter().zip(&secs(&always)).all(|(one, other)| is_near(one, other));
            // One may fall to the other side of a handshake that comes a moment later.
            assert!(is_same && seldom.keepalives.abs_diff(always.keepalives) <= 1, "{seed}: {seldom:?}\n{always:?}");
            assert_eq!(seldom.packets, always.packets, "{seed}");
            handshakes += seldom.handshakes.len();
        }
    }
    assert!(handshakes > 40, "{handshakes}: something must happen");
}

#[test]
fn idle_peers_wake_nobody() {
    let peers: Vec<PeerConfig> = (1..=100).map(config).collect();
    let mut world = World::new(&peers);
    for n in 1..=100 {
        world.connect(&mut Gateway::new(n, None), path(n.into()));
    }
    let end = world.now + Duration::from_secs(170);
    let mut wakes = 0;
    while let Some((at, _)) = world.endpoint.poll_timeout().filter(|(at, _)| *at <= end) {
        world.now = world.now.max(at);
        world.tick();
        assert!(world.sent().is_empty());
        wakes += 1;
    }
    // Once for all that shook hands, and where the wheel deals out what is far.
    assert!(wakes < 10, "{wakes}");
    assert!(world.endpoint.is_up(TunnelId(1)));
    while let Some((at, _)) = world.endpoint.poll_timeout() {
        world.now = world.now.max(at);
        world.tick();
    }
    assert!(!world.endpoint.is_up(TunnelId(1)), "keys end");
    assert_eq!(world.indices(), 0);
}

#[test]
fn packets_ask_for_no_look_while_there_is_one_to_come() {
    let mut pair = Pair::new(config(1));
    pair.connect();
    let looks_at = |pair: &Pair| pair.world.endpoint.poll_timeout().unwrap().0;
    pair.run(1);
    assert!(pair.send());
    let soon = looks_at(&pair);
    assert!(soon - pair.world.now <= Duration::from_millis(300), "the first packet");
    pair.run(1);
    let later = looks_at(&pair);
    assert!(later - pair.world.now > Duration::from_secs(3));
    for _ in 0..100 {
        assert!(pair.send() && pair.send_from_ix());
    }
    assert_eq!(looks_at(&pair), later);
}
