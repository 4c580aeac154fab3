//! What takes minutes, in virtual time: rekeying, expiry, retries, restarts.

use std::time::Duration;

use super::pair::*;
use super::world::*;
use crate::net::Timestamp;
use crate::packet::DropReason;
use crate::wireguard::session::{REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
use crate::wireguard::{DownReason, Event, Opened, PeerConfig, Role};

#[test]
fn a_tunnel_that_we_call_stays_up_without_any_traffic() {
    let mut pair = Pair::new(called(1));
    pair.run(600);
    assert_eq!(pair.handshakes(), [0, 120, 240, 360, 480]);
    assert_eq!(pair.downs(), []);
    assert!(pair.is_up());
    assert_eq!(pair.world.status(TUNNEL).handshakes.unanswered, 0);
    assert_eq!((pair.world.indices(), pair.gateway.indices()), (1, 1), "600 s: what came before the last is erased");
}

#[test]
fn a_session_that_nobody_renews_ends_after_180_seconds() {
    let mut pair = Pair::new(config(1));
    pair.connect();
    pair.run(179);
    assert!(pair.is_up());
    let late = pair.sealed_by_gateway();
    pair.cut = true; // the gateway would renew it now
    pair.world.now = Timestamp::from_micros(179_999_999);
    pair.assert_packet(path(1), &late);
    let (later, unknown) = (pair.sealed_by_gateway(), DropReason::DataUnknownSession);
    pair.world.now = Timestamp::from_secs(180);
    let unknown = Opened::Dropped { reason: unknown, tunnel: None };
    assert_eq!(pair.world.open(path(1), &later), unknown, "to the moment, whatever the timers do");
    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Err(DropReason::TunnelDown));
    pair.run(2);
    pair.cut = false;
    assert_eq!(pair.downs(), [(180, DownReason::KeysExpired)]);
    assert_eq!(pair.world.open(path(1), &later), unknown);
    assert_eq!(pair.world.indices(), 0);
    assert!(pair.initiations.is_empty(), "it is for the peer to call");

    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Err(DropReason::TunnelDown));
    pair.deliver();
    pair.step();
    assert!(pair.is_up(), "a packet is a reason to call a peer that was heard before");
}

#[test]
fn a_session_under_traffic_is_renewed_by_the_side_that_began_it() {
    let mut pair = Pair::new(config(1));
    pair.connect();
    for _ in 0..300 {
        assert!(pair.send());
        pair.run(1);
        assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()));
        pair.deliver();
    }
    assert_eq!(pair.downs(), []);
    assert!(pair.initiations.is_empty());
    // With the first packet at an age of 120 s: that of 240 came a moment too soon.
    assert_eq!(pair.handshakes(), [0, 120, 241]);
    let by_the_peer = |(_, event): &(u32, Event)| match event {
        Event::HandshakeCompleted { role, .. } => *role == Role::Responder,
        _ => true,
    };
    assert!(pair.events.iter().all(by_the_peer));
    assert_eq!(pair.world.status(TUNNEL).rx_packets, 300, "no packet is lost while the keys change");
}

#[test]
fn an_initiator_that_only_receives_renews_after_165_seconds() {
    let mut pair = Pair::new(config(1));
    pair.connect();
    for _ in 0..200 {
        assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()));
        pair.deliver();
        pair.run(1);
    }
    assert_eq!(pair.handshakes(), [0, 165]);
    assert_eq!(pair.downs(), []);
}

#[test]
fn packets_that_are_not_answered_for_15_seconds_are_a_reason_to_call() {
    let mut pair = Pair::new(config(1));
    pair.connect();
    pair.run(20);
    pair.cut = true;
    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()));
    pair.deliver();
    pair.run(14);
    assert!(pair.initiations.is_empty());
    pair.run(2);
    assert_eq!(pair.initiations.len(), 1);

    let mut pair = Pair::new(config(1));
    pair.connect();
    for _ in 0..60 {
        assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()));
        pair.deliver();
        pair.run(1); // the gateway sends a keepalive every 10 s
    }
    assert!(pair.initiations.is_empty());
}

#[test]
fn a_silent_peer_is_called_every_five_seconds_without_end() {
    let mut pair = Pair::new(called(1));
    pair.cut = true;
    pair.run(1200);
    let gaps: Vec<u64> = pair.initiations.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (5000..5700).contains(gap)), "{gaps:?}");
    assert!(pair.initiations.len() > 200);
    let unanswered = pair.events.iter().filter(|(_, event)| matches!(event, Event::Unanswered { .. })).count();
    assert!((10..=14).contains(&unanswered), "about every 90 s: {unanswered}");
    let handshakes = pair.world.status(TUNNEL).handshakes;
    assert_eq!(handshakes.attempts, pair.initiations.len() as u64);
    assert!(handshakes.attempts - handshakes.unanswered <= 1);
    assert!(pair.world.indices() <= 1);

    pair.cut = false;
    pair.run(6);
    assert!(pair.is_up());
}

#[test]
fn a_silent_peer_without_a_configured_endpoint_is_given_up_after_90_seconds() {
    for n in 1..60 {
        // Each tunnel has its own jitter.
        let mut pair = Pair::new(config(n));
        let tunnel = config(n).tunnel;
        pair.connect();
        pair.run(20);
        pair.cut = true;
        assert_eq!(pair.world.seal(tunnel, &packet(60)), Ok(()));
        pair.run(200);
        let (first, last) = (pair.initiations[0].0, pair.initiations.last().unwrap().0);
        assert!((16..=18).contains(&pair.initiations.len()) && last - first < 90_000, "{:?}", pair.initiations);
        assert_eq!(pair.downs().len(), 1);
        assert_eq!(pair.downs()[0].1, DownReason::PeerSilent);
        assert!(pair.events.iter().any(|(_, event)| matches!(event, Event::Unanswered { .. })));
        assert_eq!(pair.world.indices(), 0);
    }
}

#[test]
fn a_peer_that_falls_silent_goes_down_and_comes_back_by_itself() {
    let mut pair = Pair::new(called(1));
    pair.run(10);
    pair.cut = true;
    pair.run(590);
    assert_eq!(pair.downs(), [(180, DownReason::KeysExpired)]);
    pair.cut = false;
    pair.run(6);
    assert!(pair.is_up());
}

#[test]
fn a_roamed_peer_that_does_not_answer_is_called_where_it_is_configured() {
    let mut pair = Pair::new(called(1));
    pair.run(10);
    let sealed = pair.sealed_by_gateway();
    pair.assert_packet(path(77), &sealed);
    assert_eq!(pair.world.status(TUNNEL).path, Some(path(77)));
    pair.gateway.peer(TO_IX).traffic.path = None; // else it would call us, and be found again
    pair.run(400); // nothing is delivered to port 77
    let to_the_new_address = pair.initiations.iter().filter(|(_, to)| *to == path(77)).count();
    assert!(to_the_new_address > 10);
    assert_eq!(pair.world.status(TUNNEL).path, Some(path(1)));
    assert!(pair.is_up());
}

#[test]
fn keepalives_go_out_as_often_as_configured() {
    let mut pair = Pair::new(PeerConfig { keepalive: Some(Duration::from_secs(25)), ..called(1) });
    pair.run(101);
    assert_eq!(pair.keepalives, 1 + 4, "the confirmation of the handshake, then every 25 s");
    let mut silent = Pair::new(config(1));
    silent.connect();
    silent.run(101);
    assert_eq!(silent.keepalives, 0);
}

#[test]
fn received_data_is_acknowledged_by_a_keepalive_when_nothing_else_was_sent_for_ten_seconds() {
    let mut pair = Pair::new(config(1));
    pair.connect();
    pair.run(1);
    assert!(pair.send());
    pair.run(9);
    assert_eq!(pair.keepalives, 0);
    pair.run(2);
    assert_eq!(pair.keepalives, 1);
    pair.run(50);
    assert_eq!(pair.keepalives, 1, "a keepalive is not acknowledged");
}

#[test]
fn a_restarted_endpoint_is_believed() {
    let mut pair = Pair::new(called(1));
    pair.run(1000);
    pair.world.restart(&[called(1)]);
    assert!(!pair.is_up());
    pair.run(1);
    assert!(pair.is_up(), "its handshake stamp is later than the last one");
    pair.run(300);
    assert_eq!(pair.downs(), []);
}

#[test]
fn counters_never_reach_their_end() {
    let mut pair = Pair::new(called(1));
    pair.run(10);
    let session = |pair: &mut Pair, counter| pair.world.peer(TUNNEL).current.as_mut().unwrap().skip_to(counter);
    session(&mut pair, REKEY_AFTER_MESSAGES - 1);
    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()));
    pair.deliver();
    pair.run(1);
    assert_eq!(pair.handshakes(), [0, 10], "renewed long before");

    session(&mut pair, REJECT_AFTER_MESSAGES - 1);
    pair.cut = true;
    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()), "the last one");
    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Err(DropReason::TunnelDown));
    let (_, _, last) = pair.world.sent_one();
    assert_eq!(last[8..16], (REJECT_AFTER_MESSAGES - 1).to_le_bytes());
    assert!(matches!(pair.gateway.open(ix_path(), &last), Opened::Packet { .. }));
    pair.cut = false;
    pair.run(10);
    assert!(pair.is_up(), "with new keys");
    assert_eq!(pair.world.seal(TUNNEL, &packet(60)), Ok(()));
}

#[test]
fn the_handshake_rate_is_counted_by_the_second() {
    let mut world = World::with_rate(&[config(1)], 2);
    let mut outcomes = Vec::new();
    for second in 0..3 {
        for n in 0..3 {
            let initiation = Gateway::new(20 + n, None).initiate();
            let opened = world.open(path(5), &initiation);
            let under_load = Opened::Dropped { reason: DropReason::HandshakeUnderLoad, tunnel: None };
            outcomes.push((second, opened == under_load));
        }
        world.advance(Duration::from_millis(1000));
        world.tick();
        world.sent();
    }
    let under_load: Vec<u32> = outcomes.into_iter().filter(|(_, load)| *load).map(|(second, _)| second).collect();
    assert_eq!(under_load, [0, 1, 2], "the third of every second");
    assert_eq!(world.now, Timestamp::from_secs(3));
}
