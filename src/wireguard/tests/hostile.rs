//! What must not work, and the reason that it ends with.

use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::world::*;
use crate::net::{Path, TunnelId};
use crate::packet::DropReason;
use crate::wireguard::replay::WINDOW;
use crate::wireguard::source_limit::{BURST, PER_SECOND};
use crate::wireguard::{Opened, PeerConfig, public_key};

/// In nobody's name: nothing here is authentic.
fn dropped(reason: DropReason) -> Opened {
    Opened::Dropped { reason, tunnel: None }
}

fn connected() -> (World, Gateway) {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    world.connect(&mut gateway, path(1));
    world.events();
    (world, gateway)
}

#[test]
fn handshakes_of_strangers_and_for_strangers_are_told_apart() {
    let mut world = World::new(&[config(1)]);
    let stranger = Gateway::new(9, None).initiate();
    assert_eq!(world.open(path(1), &stranger), dropped(DropReason::HandshakeUnknownPeer));
    let misdirected = Gateway::calling(1, None, public_key(&[0x22; 32])).initiate();
    assert_eq!(world.open(path(1), &misdirected), dropped(DropReason::HandshakeForeignKey));
    assert!(world.sent().is_empty(), "silence towards those who do not know us");
    assert_eq!(world.status(TunnelId(1)).path, None);
}

#[test]
fn a_replayed_initiation_neither_answers_nor_moves_the_path() {
    let mut world = World::new(&[config(1)]);
    let initiation = Gateway::new(1, None).initiate();
    assert_eq!(world.open(path(1), &initiation), Opened::Control);
    world.sent();
    world.advance(Duration::from_millis(20));
    assert_eq!(world.open(path(66), &initiation), dropped(DropReason::HandshakeInvalid));
    assert!(world.sent().is_empty());
    assert_eq!(world.status(TunnelId(1)).path, Some(path(1)));
    assert_eq!(world.status(TunnelId(1)).handshakes.rejected, 1);
}

#[test]
fn a_replayed_initiation_stays_one_when_its_peer_is_configured_anew() {
    let changes: [(&str, PeerConfig); 3] = [
        ("another endpoint", called(1)),
        ("another preshared key", PeerConfig { preshared_key: Some(Zeroizing::new(PSK)), ..config(1) }),
        ("another tunnel number", PeerConfig { tunnel: TunnelId(7), ..config(1) }),
    ];
    for (change, changed) in changes {
        let tunnel = changed.tunnel;
        let mut world = World::new(&[config(1)]);
        let initiation = Gateway::new(1, None).initiate();
        assert_eq!(world.open(path(1), &initiation), Opened::Control);
        world.advance(Duration::from_secs(1));
        world.configure(&[changed]);
        world.sent();
        let before = world.status(tunnel).path;
        assert_eq!(world.open(path(66), &initiation), dropped(DropReason::HandshakeInvalid), "{change}");
        assert!(world.sent().is_empty(), "{change}");
        assert_eq!(world.status(tunnel).path, before, "{change}");
    }
}

#[test]
fn a_call_right_after_a_change_of_configuration_is_no_replay() {
    let mut world = World::new(&[called(1)]);
    let mut gateway = Gateway::new(1, None);
    world.tick();
    assert!(gateway.receive(&world.sent_one().2).is_some());
    let mut moved = called(1);
    moved.endpoint = Some(path(2).remote);
    world.configure(&[moved]);
    world.tick();
    let (to, _, initiation) = world.sent_one();
    assert_eq!((to, initiation.len()), (path(2), 148));
    assert!(gateway.receive(&initiation).is_some(), "a stamp later than the last");
}

#[test]
fn a_response_counts_once_and_only_if_we_asked() {
    let mut world = World::new(&[called(1)]);
    let mut gateway = Gateway::new(1, None);
    world.tick();
    let response = gateway.receive(&world.sent_one().2).unwrap();
    assert_eq!(world.open(path(1), &response), Opened::Control);
    world.sent();
    assert_eq!(world.open(path(66), &response), dropped(DropReason::HandshakeInvalid));
    assert_eq!(world.status(TunnelId(1)).path, Some(path(1)));

    let mut nobody_asked = World::new(&[config(2)]);
    assert_eq!(nobody_asked.open(path(1), &response), dropped(DropReason::HandshakeInvalid));
}

#[test]
fn data_counts_once() {
    let (mut world, mut gateway) = connected();
    let sealed = gateway.seal(&packet(60));
    world.packet_from(path(1), &sealed, TunnelId(1));
    assert_eq!(world.open(path(66), &sealed), dropped(DropReason::DataReplayed));
    let late = gateway.seal(&packet(61));
    for _ in 0..WINDOW {
        let sealed = gateway.seal(&packet(62));
        world.packet_from(path(1), &sealed, TunnelId(1));
    }
    assert_eq!(world.open(path(66), &late), dropped(DropReason::DataReplayed), "older than the window");
    assert_eq!(world.status(TunnelId(1)).path, Some(path(1)));
    assert_eq!(world.status(TunnelId(1)).rx_packets, 1 + WINDOW);
}

#[test]
fn counters_that_would_overflow_are_refused_before_anything_else() {
    let (mut world, mut gateway) = connected();
    let mut sealed = gateway.seal(&packet(60));
    for counter in [u64::MAX, u64::MAX - (1 << 13)] {
        sealed[8..16].copy_from_slice(&counter.to_le_bytes());
        assert_eq!(world.open(path(1), &sealed), dropped(DropReason::DataReplayed));
    }
    sealed[8..16].copy_from_slice(&(u64::MAX - (1 << 13) - 1).to_le_bytes());
    assert_eq!(world.open(path(1), &sealed), dropped(DropReason::DataNotAuthentic));
}

#[test]
fn each_damage_has_its_reason() {
    let (mut world, mut gateway) = connected();
    let sealed = gateway.seal(&packet(60));
    let flipped = |world: &mut World, at: usize| {
        let mut damaged = sealed.clone();
        damaged[at] ^= 0x10;
        world.open(path(66), &damaged)
    };
    assert_eq!(flipped(&mut world, 0), dropped(DropReason::OuterMalformed));
    assert_eq!(flipped(&mut world, 2), dropped(DropReason::OuterMalformed));
    assert_eq!(flipped(&mut world, 4), dropped(DropReason::DataUnknownSession), "another session of the tunnel");
    assert_eq!(flipped(&mut world, 5), dropped(DropReason::DataUnknownSession), "another tunnel");
    assert_eq!(flipped(&mut world, 7), dropped(DropReason::DataUnknownSession), "another incarnation");
    assert_eq!(flipped(&mut world, 16), dropped(DropReason::DataNotAuthentic));
    assert_eq!(flipped(&mut world, 91), dropped(DropReason::DataNotAuthentic));
    assert_eq!(world.open(path(66), &sealed[..31]), dropped(DropReason::OuterMalformed));
    assert_eq!(world.open(path(66), &sealed[..80]), dropped(DropReason::DataNotAuthentic));
    assert_eq!(world.open(path(66), &[]), dropped(DropReason::OuterMalformed));
    assert_eq!(world.status(TunnelId(1)).path, Some(path(1)));
    world.packet_from(path(1), &sealed, TunnelId(1));
}

#[test]
fn an_output_buffer_too_short_is_refused() {
    let (mut world, mut gateway) = connected();
    let sealed = gateway.seal(&packet(60));
    world.out = vec![0; 59];
    assert_eq!(world.open(path(1), &sealed), dropped(DropReason::InnerTooLong));
    world.out = vec![0; 60];
    world.packet_from(path(1), &sealed, TunnelId(1));
}

#[test]
fn under_load_a_cookie_is_asked_for_and_honoured() {
    let mut world = World::with_rate(&[config(1)], 3);
    for n in 0..3 {
        let initiation = Gateway::new(20 + n, None).initiate();
        assert_eq!(world.open(path(5), &initiation), dropped(DropReason::HandshakeUnknownPeer));
    }
    let mut gateway = Gateway::new(1, None);
    let initiation = gateway.initiate();
    assert_eq!(world.open(path(1), &initiation), dropped(DropReason::HandshakeUnderLoad));
    let (to, _, cookie_reply) = world.sent_one();
    assert_eq!((to, cookie_reply.len()), (path(1), 64));
    assert_eq!(gateway.receive(&cookie_reply), None);

    let with_cookie = gateway.initiate();
    let elsewhere = Path::to(([198, 51, 100, 7], 1).into());
    let under_load = dropped(DropReason::HandshakeUnderLoad);
    assert_eq!(world.open(elsewhere, &with_cookie), under_load, "the cookie is for one address");
    world.sent();
    assert_eq!(world.open(path(2), &with_cookie), under_load, "and one port");
    world.sent();
    assert_eq!(world.open(path(1), &with_cookie), Opened::Control);
    assert_eq!(world.sent_one().2.len(), 92);
}

#[test]
fn a_cookie_is_good_for_so_many_handshakes_and_no_more() {
    let mut world = World::with_rate(&[config(1)], 0);
    let with_cookie = |world: &mut World, n: u8, from: Path| {
        let mut gateway = Gateway::new(n, None);
        let initiation = gateway.initiate();
        assert_eq!(world.open(from, &initiation), dropped(DropReason::HandshakeUnderLoad));
        gateway.receive(&world.sent_one().2);
        gateway
    };
    let mut flooder = with_cookie(&mut world, 20, path(5));
    let mut flood = |world: &mut World| {
        let initiation = flooder.initiate();
        let opened = world.open(path(5), &initiation);
        assert!(world.sent().is_empty());
        opened
    };
    for _ in 0..BURST {
        assert_eq!(flood(&mut world), dropped(DropReason::HandshakeUnknownPeer));
    }
    for _ in 0..100 {
        assert_eq!(flood(&mut world), dropped(DropReason::HandshakeUnderLoad));
    }
    let mut other_port = with_cookie(&mut world, 21, path(6));
    let initiation = other_port.initiate();
    assert_eq!(world.open(path(6), &initiation), dropped(DropReason::HandshakeUnderLoad), "whatever the port");
    assert!(world.sent().is_empty(), "its cookie is right");
    let elsewhere = Path::to(([198, 51, 100, 7], 1).into());
    let mut gateway = with_cookie(&mut world, 1, elsewhere);
    let initiation = gateway.initiate();
    assert_eq!(world.open(elsewhere, &initiation), Opened::Control, "others still get in");
    world.sent();
    world.advance(Duration::from_millis(1000 / u64::from(PER_SECOND)));
    assert_eq!(flood(&mut world), dropped(DropReason::HandshakeUnknownPeer));
    assert_eq!(flood(&mut world), dropped(DropReason::HandshakeUnderLoad));
}

#[test]
fn a_peer_is_answered_once_in_twenty_milliseconds() {
    let mut world = World::new(&[config(1), config(2)]);
    let (mut hasty, mut other) = (Gateway::new(1, None), Gateway::new(2, None));
    assert_eq!(world.open(path(1), &hasty.initiate()), Opened::Control);
    world.advance(Duration::from_millis(19));
    assert_eq!(world.open(path(1), &hasty.initiate()), dropped(DropReason::HandshakeUnderLoad));
    assert_eq!(world.open(path(1), &other.initiate()), Opened::Control);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.open(path(1), &hasty.initiate()), Opened::Control, "counted from the last answer");
    assert_eq!(world.status(TunnelId(1)).handshakes.rejected, 0);
}

#[test]
fn our_own_initiation_repeats_with_the_cookie_that_it_was_asked_for() {
    let mut world = World::new(&[called(1)]);
    world.tick();
    let initiation = world.sent_one().2;
    let limiter = boringtun::noise::rate_limiter::RateLimiter::new(&public_key(&[1; 32]).into(), 0);
    let mut room = [0; 64];
    let asked = limiter.verify_packet(Some([192, 0, 2, 1].into()), &initiation, &mut room);
    assert!(matches!(asked, Err(boringtun::noise::TunnResult::WriteToNetwork(_))));
    assert_eq!(world.open(path(66), &room), Opened::Control);
    assert_eq!(world.status(TunnelId(1)).path, Some(path(1)), "a cookie reply proves no address");
    room[40] ^= 1;
    assert_eq!(world.open(path(66), &room), dropped(DropReason::HandshakeInvalid));

    world.advance(Duration::from_secs(6));
    world.tick();
    let repeated = world.sent_one().2;
    assert!(limiter.verify_packet(Some([192, 0, 2, 1].into()), &repeated, &mut room).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_datagrams_end_with_a_reason(kind in 0u8..6, mut bytes in prop::collection::vec(any::<u8>(), 0..300),
                                          exact in any::<bool>()) {
        let mut world = World::new(&[config(1), called(2)]);
        if exact && (1..=3).contains(&kind) {
            bytes.resize([148, 92, 64][usize::from(kind) - 1], 7);
        }
        bytes.iter_mut().zip([kind, 0, 0, 0]).for_each(|(byte, value)| *byte = value);
        let opened = world.open(path(66), &bytes);
        prop_assert!(matches!(opened, Opened::Dropped { .. }), "{opened:?}");
        prop_assert!(world.sent().is_empty());
    }

    #[test]
    fn no_damaged_message_is_ever_taken(at in 0usize..148, bit in 0u8..8, cut in any::<bool>()) {
        let (mut world, mut gateway) = connected();
        world.advance(Duration::from_millis(20));
        let mut data = gateway.seal(&packet(116)); // 148 bytes, like the initiation
        let mut initiation = gateway.initiate();
        for message in [&mut data, &mut initiation] {
            match cut {
                true => message.truncate(at),
                false => message[at] ^= 1 << bit,
            }
            let opened = world.open(path(66), message);
            // mac2 means nothing while we are not under load.
            let in_mac2 = !cut && at >= 132 && message[0] == 1;
            prop_assert!(matches!(opened, Opened::Dropped { .. }) || in_mac2, "{opened:?}");
            prop_assert!(in_mac2 || world.status(TunnelId(1)).path == Some(path(1)));
        }
    }
}

/// After a start many hundreds of peers are called at once, and all of them answer within a second.
#[test]
fn what_we_asked_for_does_not_keep_callers_out_nor_callers_it() {
    let mut world = World::with_rate(&[called(1), called(2), config(3)], 1);
    let (mut one, mut two, mut caller) = (Gateway::new(1, None), Gateway::new(2, None), Gateway::new(3, None));
    world.tick();
    let initiations: Vec<_> = world.sent().into_iter().map(|(_, _, bytes)| bytes).collect();
    let answers = [one.receive(&initiations[0]).unwrap(), two.receive(&initiations[1]).unwrap()];
    for answer in &answers {
        assert_eq!(world.open(path(1), answer), Opened::Control);
    }
    world.sent();
    assert_eq!(world.open(path(3), &caller.initiate()), Opened::Control, "the first in this second");
    assert_eq!(world.open(path(3), &Gateway::new(20, None).initiate()), dropped(DropReason::HandshakeUnderLoad));
    world.sent();
}
