//! Peers that come, go, restart, call each other at once, and change.

use std::net::SocketAddr;
use std::time::Duration;

use super::world::*;
use crate::ike::auth::{LocalAuth, Ppk, RemoteAuth};
use crate::ike::event::{Event, Refusal};
use crate::ike::{DownReason, Encapsulation, PeerConfig, Profile, SelectorMode, Stage};
use crate::net::{Path, Port, Timestamp, TunnelId};
use crate::packet::Outbox;

fn caller(me: usize, other: usize) -> PeerConfig {
    PeerConfig { initiate: true, ..peer(me, other) }
}

fn quick(config: &mut PeerConfig) {
    config.liveness = Duration::from_secs(5);
}

#[test]
fn a_called_peer_that_restarts_is_called_anew_within_seconds() {
    let mut world = World::pair_with(1, quick, quick);
    world.check_gaps = false;
    world.run_for(5);
    world.restart(B, vec![peer(B, A)]);
    world.run_for(30);
    assert!(world.is_up(), "{}", world.dump());
    assert_eq!(world.hosts[A].endpoint.status(TUNNEL).unwrap().ike_sas, 1);
    assert_eq!(world.downs(A).len(), 0, "the new one is up before the old one goes {}", world.dump());
}

#[test]
fn a_calling_peer_that_restarts_takes_the_place_of_its_former_self() {
    let mut world = World::pair(2);
    world.check_gaps = false;
    world.run_for(5);
    world.restart(A, vec![caller(A, B)]);
    world.run_for(5);
    assert!(world.is_up(), "{}", world.dump());
    let status = world.hosts[B].endpoint.status(TUNNEL).unwrap();
    assert_eq!((status.ike_sas, status.children.len(), world.hosts[B].esp.live()), (1, 1, 1), "INITIAL_CONTACT");
}

#[test]
fn a_peer_that_is_not_there_is_called_for_ever() {
    let mut world = World::new(3);
    world.check_gaps = false;
    world.add(3, Default::default(), vec![caller(A, B)]);
    world.run_for(3600);
    let status = world.hosts[A].endpoint.status(TUNNEL).unwrap();
    assert!((50..200).contains(&status.counts.attempts), "{status:?}");
    assert!(world.failures(A).iter().all(|failure| failure.cause.name() == "no_answer"));
    world.add(4, Default::default(), vec![peer(B, A)]);
    world.run_for(70);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn a_silent_peer_is_noticed_and_the_tunnel_is_down() {
    let mut world = World::pair_with(4, quick, quick);
    world.run_for(5);
    world.check_gaps = false;
    world.filter = Box::new(|_| false);
    world.run_for(200);
    for host in [A, B] {
        assert_eq!(world.downs(host), [DownReason::PeerSilent], "{}", world.dump());
        assert_eq!(world.hosts[host].esp.live(), 0);
        assert!(world.failures(host).iter().any(|failure| failure.cause.name() == "peer_gone"), "{}", world.dump());
        let status = world.hosts[host].endpoint.status(TUNNEL).unwrap();
        assert!(status.ike_sas == 0 && status.established_at.is_some(), "it is known that there was one: {status:?}");
    }
    world.filter = Box::new(|_| true);
    world.run_for(60);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn nobody_asks_whether_a_peer_lives_that_sends_packets() {
    let mut world = World::pair_with(5, quick, quick);
    world.run_for(3);
    let before = world.packets_sent();
    for _ in 0..60 {
        world.run_for(1);
        let now = world.now;
        world.hosts[A].endpoint.note_heard(TUNNEL, now);
        world.hosts[B].endpoint.note_heard(TUNNEL, now);
    }
    assert_eq!(world.packets_sent(), before);
    world.run_for(30);
    assert!(world.packets_sent() >= before + 8, "and asks when it falls silent");
    assert!(world.is_up());
}

#[test]
fn both_sides_call_at_once_and_one_ike_sa_remains() {
    for seed in 0..20 {
        let mut world = World::pair_with(seed, |_| {}, |b| b.initiate = true);
        world.check_gaps = false;
        world.run_for(5);
        assert!(world.is_up(), "seed {seed} {}", world.dump());
        world.run_for(90);
        assert!(world.is_up(), "seed {seed} {}", world.dump());
        for host in [A, B] {
            let status = world.hosts[host].endpoint.status(TUNNEL).unwrap();
            assert_eq!((status.ike_sas, world.hosts[host].esp.live()), (1, 1), "seed {seed} {}", world.dump());
        }
    }
}

#[test]
fn a_configuration_with_the_very_same_peer_changes_nothing_of_it() {
    let mut world = World::pair(31);
    world.run_for(5);
    let before = world.packets_sent();
    let other = PeerConfig { tunnel: TunnelId(9), ..peer(A, 5) };
    world.configure_shared(A, vec![caller(A, B), other.clone()]);
    world.configure_shared(A, vec![caller(A, B), PeerConfig { replay_window: 256, ..other }]);
    let of_other = Path::from_port(Port::Ike, SocketAddr::new(ip(5), 500));
    assert!(world.hosts[A].endpoint.peers.is_expected_from(&of_other));
    world.configure_shared(A, vec![caller(A, B)]);
    assert!(world.hosts[A].endpoint.status(TunnelId(9)).is_none(), "the other one is gone");
    assert!(!world.hosts[A].endpoint.peers.is_expected_from(&of_other));
    assert_eq!(world.downs(A), [], "{}", world.dump());
    world.run_for(2);
    assert!(world.is_up() && world.packets_sent() == before, "{}", world.dump());
    world.check_gaps = false;
    world.configure_shared(A, vec![PeerConfig { remote_auth: RemoteAuth::Psk(psk("another")), ..caller(A, B) }]);
    assert_eq!(world.downs(A), [DownReason::Reconfigured]);
    world.configure_shared(A, vec![]);
    assert!(world.hosts[A].endpoint.status(TUNNEL).is_none());
}

#[test]
fn the_very_same_peer_is_called_at_once_by_a_configuration_if_it_is_not_there() {
    let mut world = World::new(32);
    world.check_gaps = false;
    world.add(32, Default::default(), vec![caller(A, B)]);
    world.run_for(3_000);
    let attempts = |world: &World| world.hosts[A].endpoint.status(TUNNEL).unwrap().counts.attempts;
    let idle = (0..600).find(|_| {
        world.run_for(1);
        world.hosts[A].endpoint.sa_counts().0 == 0
    });
    assert!(idle.is_some(), "it waits between two attempts");
    let before = attempts(&world);
    world.configure_shared(A, vec![caller(A, B)]);
    world.run_for(1);
    assert_eq!(attempts(&world), before + 1);
}

#[test]
fn of_two_tunnels_with_the_same_identities_the_one_that_is_there_stays_and_the_other_is_refused() {
    let second = PeerConfig { tunnel: TunnelId(4), initiate: false, ..peer(A, B) };
    let refusals = |world: &mut World| -> Vec<TunnelId> {
        std::iter::from_fn(|| world.hosts[A].endpoint.poll_event())
            .filter_map(|event| match event {
                Event::Refused { tunnel, why: Refusal::IdentityTwice } => Some(tunnel),
                _ => None,
            })
            .collect()
    };
    let configure = |world: &mut World, peers: Vec<PeerConfig>| {
        let before: Vec<_> = world.hosts[A].endpoint.peers.iter().map(|peer| peer.config.clone()).collect();
        let peers = peers.into_iter().map(|peer| match before.iter().find(|same| same.is_equal(&peer)) {
            Some(same) => same.clone(),
            None => std::sync::Arc::new(peer),
        });
        let now = world.now;
        world.hosts[A].endpoint.configure(peers.collect(), now);
    };
    let mut world = World::pair(33);
    world.run_for(5);
    configure(&mut world, vec![second.clone(), caller(A, B)]);
    assert_eq!(refusals(&mut world), [TunnelId(4)]);
    assert!(world.is_up() && world.hosts[A].endpoint.status(TunnelId(4)).is_none());
    // Both are new: the first of them.
    let changed = PeerConfig { liveness: Duration::from_secs(77), ..caller(A, B) };
    configure(&mut world, vec![second.clone(), changed.clone()]);
    assert_eq!(refusals(&mut world), [TUNNEL]);
    assert!(world.hosts[A].endpoint.status(TUNNEL).is_none());
    // Whoever was refused is served when the other has gone.
    configure(&mut world, vec![changed]);
    assert_eq!(refusals(&mut world), []);
    assert!(world.hosts[A].endpoint.status(TUNNEL).is_some());
}

#[test]
fn a_peer_that_is_different_in_anything_is_not_equal() {
    let base = || PeerConfig { ppk: None, ..peer(A, B) };
    assert!(base().is_equal(&base()));
    let ppk = Ppk { id: b"id".to_vec(), secret: psk("ppk"), required: false };
    let changes: [fn(&mut PeerConfig); 16] = [
        |peer| peer.tunnel = TunnelId(99),
        |peer| peer.remote = None,
        |peer| peer.remote_nat_t_port += 1,
        |peer| peer.initiate ^= true,
        |peer| peer.local_id = fqdn("other.example"),
        |peer| peer.remote_id = fqdn("other.example"),
        |peer| peer.local_auth = LocalAuth::Psk(psk("other")),
        |peer| peer.remote_auth = RemoteAuth::Psk(psk("other")),
        |peer| peer.profile = Profile::Compat,
        |peer| peer.encapsulation = Encapsulation::Esp,
        |peer| peer.ours.push(selector("10.9.0.0/16")),
        |peer| peer.theirs.push(selector("10.9.0.0/16")),
        |peer| peer.selector_mode = SelectorMode::Any,
        |peer| peer.lifetimes.child_packets -= 1,
        |peer| peer.replay_window += 64,
        |peer| peer.liveness += Duration::from_secs(1),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = base();
        change(&mut changed);
        assert!(!base().is_equal(&changed) && !changed.is_equal(&base()), "{number}");
    }
    let with = |ppk: &Ppk| PeerConfig { ppk: Some(ppk.clone()), ..base() };
    assert!(with(&ppk).is_equal(&with(&ppk)) && !with(&ppk).is_equal(&base()));
    assert!(!with(&ppk).is_equal(&with(&Ppk { required: true, ..ppk.clone() })));
    assert!(!with(&ppk).is_equal(&with(&Ppk { secret: psk("other"), ..ppk.clone() })));
}

#[test]
fn a_peer_that_is_no_longer_configured_is_told() {
    let mut world = World::pair(7);
    world.run_for(5);
    world.check_gaps = false;
    world.configure(A, vec![]);
    world.run_for(2);
    assert_eq!(world.downs(A), [DownReason::Removed]);
    assert_eq!(world.downs(B), [DownReason::PeerDeleted]);
    assert_eq!(world.hosts[A].endpoint.sa_counts(), (0, 0));
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
    assert_eq!((world.hosts[A].esp.live(), world.hosts[B].esp.live()), (0, 0));
    assert_eq!(world.hosts[A].endpoint.child_spi_count() + world.hosts[B].endpoint.child_spi_count(), 0);
}

#[test]
fn a_changed_peer_starts_anew_and_an_unchanged_one_goes_on() {
    let mut world = World::pair(8);
    world.run_for(5);
    world.configure(A, vec![caller(A, B)]);
    world.run_for(5);
    assert_eq!((world.downs(A).len(), world.child_ups(A)), (0, 1));
    world.check_gaps = false;
    let renamed = PeerConfig { encapsulation: Encapsulation::Auto, ..caller(A, B) };
    world.configure(A, vec![renamed]);
    world.run_for(5);
    assert_eq!(world.downs(A), [DownReason::Reconfigured]);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn selectors_that_grow_are_asked_for_without_a_gap() {
    let mut world = World::pair(9);
    world.run_for(5);
    let grown = |me: usize, other: usize, initiate: bool| {
        let mut config = PeerConfig { initiate, ..peer(me, other) };
        let side = if me == A { &mut config.ours } else { &mut config.theirs };
        side.push(selector("172.16.0.0/12"));
        config
    };
    world.configure(B, vec![grown(B, A, false)]);
    world.configure(A, vec![grown(A, B, true)]);
    world.run_for(5);
    assert!(world.downs(A).is_empty() && world.downs(B).is_empty());
    for host in [A, B] {
        let children = world.hosts[host].endpoint.status(TUNNEL).unwrap().children;
        assert_eq!(children.len(), 1, "{}", world.dump());
        assert_eq!(children[0].ours.len() + children[0].theirs.len(), 3);
    }
}

#[test]
fn a_packet_that_waits_calls_a_peer_that_is_not_kept_up() {
    let mut world = World::pair_with(9, |a| a.initiate = false, |_| {});
    world.run_for(60);
    assert_eq!(world.packets_sent(), 0);
    let now = world.now;
    world.hosts[A].endpoint.want(TUNNEL, now);
    world.run_for(2);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn a_child_sa_that_the_peer_deletes_comes_back() {
    let mut world = World::pair(10);
    world.run_for(5);
    world.check_gaps = false;
    let spi = world.hosts[B].esp.sealing().unwrap().spi_in;
    let now = world.now;
    world.hosts[B].endpoint.expire_child(TUNNEL, spi, now);
    world.run_for(10);
    assert!(world.is_up(), "{}", world.dump());
    assert_ne!(world.hosts[B].esp.sealing().unwrap().spi_in, spi, "another one");
    assert_eq!(world.hosts[A].endpoint.status(TUNNEL).unwrap().stage, Stage::Established);
    assert!(world.downs(A).is_empty());
    assert_eq!(world.hosts[A].endpoint.child_spi_count(), world.hosts[A].esp.live());
}

#[test]
fn a_goodbye_is_said_to_so_many_peers_in_one_call_and_they_are_down_at_once() {
    let mut world = World::new(12);
    world.add(12, Default::default(), vec![caller(A, B)]);
    let callers = [A, 2, 3];
    let of = |(n, other): (u32, usize)| PeerConfig { tunnel: TunnelId(n), ..peer(B, other) };
    world.add(13, Default::default(), (0..).zip(callers).map(of).collect());
    for host in [2, 3] {
        world.add(host as u64 + 12, Default::default(), vec![caller(host, B)]);
    }
    world.run_for(2);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (3, 0));
    let mut told = Vec::new();
    for _ in 0..4 {
        let mut outbox = Outbox::new(1 << 16, 64);
        let more = world.hosts[B].endpoint.close_some(2, &mut outbox);
        told.push((more, outbox.datagrams().count()));
        world.send_from(B, &outbox);
    }
    assert_eq!(told, [(true, 2), (true, 1), (false, 0), (false, 0)]);
    world.run_until(world.now + Duration::from_millis(10));
    for host in callers {
        assert_eq!(world.downs(host), [DownReason::PeerDeleted], "{}", world.dump());
    }
}

#[test]
fn a_goodbye_is_said_beside_a_request_that_waits_for_its_answer() {
    let ask: [fn(&mut crate::ike::sa::IkeSa, Timestamp); 3] = [
        |sa, now| sa.timers.child_retry_at = Some(now), // asks for nothing
        |sa, now| sa.children[0].rekey_at = now,
        |sa, now| (sa.timers.liveness_at, sa.last_heard) = (Some(now), Timestamp::ZERO),
    ];
    // Does the request that waits get to the peer?
    for (ask, arrives) in ask.into_iter().flat_map(|ask| [(ask, false), (ask, true)]) {
        let mut world = World::pair(12);
        world.run_for(60);
        world.check_gaps = false;
        world.filter = Box::new(move |packet| arrives && packet.from.ip() == ip(B));
        let spi = world.hosts[B].endpoint.peers.newest(TUNNEL).unwrap();
        world.hosts[B].endpoint.wake(spi, ask);
        world.run_until(world.now + Duration::from_millis(50));
        world.filter = Box::new(|_| true);
        let mut outbox = Outbox::new(1 << 16, 64);
        assert!(world.hosts[B].endpoint.close_some(10, &mut outbox), "{}", world.dump());
        assert!(!world.hosts[B].endpoint.close_some(10, &mut Outbox::new(1 << 16, 64)));
        world.send_from(B, &outbox);
        world.run_until(world.now + Duration::from_millis(15));
        assert_eq!(world.downs(A), [DownReason::PeerDeleted], "{}", world.dump());
        assert_eq!(world.hosts[B].endpoint.child_spi_count(), 1, "{}", world.dump());
    }
}
