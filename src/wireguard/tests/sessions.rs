//! What should work: handshakes in both directions, data both ways, roaming, reconfiguration.

use std::time::Duration;

use zeroize::Zeroizing;

use super::world::*;
use crate::net::{Path, TunnelId};
use crate::packet::DropReason;
use crate::wireguard::peer::NEVER;
use crate::wireguard::{DownReason, Event, Opened, PeerConfig, Role, public_key};

#[test]
fn the_public_key_is_that_of_rfc_7748() {
    // RFC 7748 section 6.1, Alice.
    let private = [
        0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
        0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
    ];
    let public = [
        0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54, 0x74, 0x8b, 0x7d, 0xdc, 0xb4, 0x3e, 0xf7, 0x5a, 0x0d, 0xbf,
        0x3a, 0x0d, 0x26, 0x38, 0x1a, 0xf4, 0xeb, 0xa4, 0xa9, 0x8e, 0xaa, 0x9b, 0x4e, 0x6a,
    ];
    assert_eq!(public_key(&private), public);
    assert_eq!(World::new(&[]).endpoint.public_key(), public_key(&IX_KEY));
}

#[test]
fn a_gateway_calls_and_data_flows_both_ways() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    let tunnel = gateway.tunnel;
    assert_eq!(world.seal(tunnel, &packet(100)), Err(DropReason::TunnelHasNoEndpoint));
    assert!(!world.endpoint.is_up(tunnel));

    world.connect(&mut gateway, path(1));
    assert!(world.endpoint.is_up(tunnel));
    let completed = Event::HandshakeCompleted { tunnel, path: path(1), role: Role::Responder };
    assert_eq!(world.events(), [completed, Event::Up { tunnel, path: path(1) }]);

    let request = packet(1400);
    let sealed = gateway.seal(&request);
    assert_eq!(world.packet_from(path(1), &sealed, tunnel), request);
    let reply = packet(60);
    assert_eq!(world.seal(tunnel, &reply), Ok(()));
    let (to, data, sealed) = world.sent_one();
    assert_eq!((to, data, sealed.len()), (path(1), true, 64 + 32));
    assert_eq!(gateway.open(&sealed), reply);

    let status = world.status(tunnel);
    assert_eq!((status.rx_packets, status.rx_bytes, status.tx_packets, status.tx_bytes), (1, 1400, 1, 60));
    assert_eq!((status.last_handshake, status.last_data_received), (Some(world.now), Some(world.now)));
    assert_eq!(status.handshakes.completed, 1);
}

#[test]
fn a_response_alone_is_no_session_until_the_peer_confirms_it() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    let initiation = gateway.initiate();
    assert_eq!(world.open(path(1), &initiation), Opened::Control);
    assert!(!world.endpoint.is_up(gateway.tunnel));
    assert_eq!(world.status(gateway.tunnel).last_handshake, None);
    assert_eq!(world.seal(gateway.tunnel, &packet(60)), Err(DropReason::TunnelDown));
}

#[test]
fn a_configured_endpoint_is_called_at_once() {
    let mut world = World::new(&[called(1)]);
    let mut gateway = Gateway::new(1, None);
    assert_eq!(world.endpoint.poll_timeout().unwrap().0, world.now);
    world.tick();
    let (to, data, initiation) = world.sent_one();
    assert_eq!((to, data, initiation.len()), (path(1), false, 148));
    let response = gateway.receive(&initiation).expect("a response");

    let local = Path { local: Some([192, 0, 2, 9].into()), ..path(1) };
    assert_eq!(world.open(local, &response), Opened::Control);
    let (to, _, confirmation) = world.sent_one();
    assert_eq!((to, confirmation.len()), (local, 32), "from the address that the peer answered to");
    assert_eq!(gateway.receive(&confirmation), None);
    assert_eq!(world.events().len(), 2, "completed, up; learning our own address is not roaming");

    assert_eq!(world.seal(gateway.tunnel, &packet(60)), Ok(()));
    assert_eq!(gateway.open(&world.sent_one().2), packet(60));
    let sealed = gateway.seal(&packet(70));
    world.packet_from(local, &sealed, gateway.tunnel);
}

#[test]
fn a_preshared_key_must_match_on_both_sides() {
    let with_psk = PeerConfig { preshared_key: Some(Zeroizing::new(PSK)), ..config(1) };
    let mut world = World::new(&[with_psk]);
    world.connect(&mut Gateway::new(1, Some(PSK)), path(1));

    let mut stranger = Gateway::new(1, None);
    world.advance(Duration::from_millis(20));
    let initiation = stranger.initiate();
    assert_eq!(world.open(path(1), &initiation), Opened::Control);
    assert_eq!(stranger.receive(&world.sent_one().2), None, "the response does not authenticate");
}

#[test]
fn a_configuration_does_not_print_its_secret() {
    let config = PeerConfig { preshared_key: Some(Zeroizing::new(PSK)), ..config(1) };
    let printed = format!("{config:?}");
    assert!(printed.contains("has_preshared_key: true") && !printed.contains("119, 119"), "{printed}");
}

#[test]
fn a_preshared_key_serves_when_we_call_too() {
    let mut world = World::new(&[PeerConfig { preshared_key: Some(Zeroizing::new(PSK)), ..called(1) }]);
    world.tick();
    let initiation = world.sent_one().2;
    let stranger = Gateway::new(1, None).receive(&initiation).expect("the key comes into it last");
    let invalid = Opened::Dropped { reason: DropReason::HandshakeInvalid, tunnel: None };
    assert_eq!(world.open(path(1), &stranger), invalid);
    let mut gateway = Gateway::new(1, Some(PSK));
    let response = gateway.receive(&initiation).unwrap();
    assert_eq!(world.open(path(1), &response), Opened::Control);
    assert_eq!(gateway.receive(&world.sent_one().2), None);
    world.seal(gateway.tunnel, &packet(60)).unwrap();
    assert_eq!(gateway.open(&world.sent_one().2), packet(60));
}

#[test]
fn ipv6_and_keepalives_are_told_apart_from_rubbish() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    world.connect(&mut gateway, path(1));
    let mut ipv6 = vec![0; 48];
    ipv6[0] = 0x60;
    ipv6[5] = 4; // 4 bytes of payload: the rest is padding
    let sealed = gateway.seal(&ipv6);
    assert_eq!(world.packet_from(path(1), &sealed, gateway.tunnel), ipv6[..44]);

    let sealed = gateway.seal(&[]);
    assert_eq!(world.open(path(1), &sealed), Opened::Keepalive { tunnel: gateway.tunnel });
    assert_eq!(world.status(gateway.tunnel).rx_packets, 1);

    let too_short_ipv4 = [0x45, 0, 0, 4].into_iter().chain([0; 40]).collect::<Vec<u8>>();
    let longer_than_sent = [0x45, 0, 9, 0].into_iter().chain([0; 40]).collect::<Vec<u8>>();
    for rubbish in [vec![0x20; 60], vec![0x45], vec![0x60; 39], too_short_ipv4, longer_than_sent] {
        let sealed = gateway.seal(&rubbish);
        let dropped = Opened::Dropped { reason: DropReason::InnerMalformed, tunnel: Some(gateway.tunnel) };
        assert_eq!(world.open(path(1), &sealed), dropped, "{rubbish:x?}");
    }
    assert_eq!(world.status(gateway.tunnel).rx_packets, 1);
}

#[test]
fn packets_are_padded_to_sixteen_bytes_but_not_beyond_the_mtu() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    world.connect(&mut gateway, path(1));
    for (len, padded) in [(20, 32), (32, 32), (33, 48), (1408, 1408), (1409, 1420), (1420, 1420), (1421, 1421)] {
        assert_eq!(world.seal(gateway.tunnel, &packet(len)), Ok(()));
        let sealed = world.sent_one().2;
        assert_eq!(sealed.len(), padded + 32, "{len}");
        assert_eq!(gateway.open(&sealed), packet(len), "the padding is cut off again");
    }
    world.configure(&[PeerConfig { mtu_bytes: 1414, ..config(1) }]);
    assert_eq!(world.seal(gateway.tunnel, &packet(1409)), Ok(()));
    assert_eq!(world.sent_one().2.len(), 1414 + 32, "the session is kept");
}

#[test]
fn a_probe_is_as_long_as_it_is_asked_to_be_and_arrives_short_and_counts_as_no_packet() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    let tunnel = gateway.tunnel;
    assert!(!world.seal_probe(tunnel, &packet(28), 1420), "there is no session");
    world.connect(&mut gateway, path(1));
    for padded in [28, 29, 1000, 1420, 1900] {
        assert!(world.seal_probe(tunnel, &packet(28), padded));
        let (to, is_data, sealed) = world.sent_one();
        assert_eq!((to, is_data, sealed.len()), (path(1), false, padded + 32));
        assert_eq!(gateway.open(&sealed), packet(28));
    }
    assert_eq!((world.status(tunnel).tx_packets, world.peer(tunnel).traffic.unanswered_since), (0, NEVER));
    assert!(!world.seal_probe(TunnelId(99), &packet(28), 1420));
}

#[test]
fn what_happened_to_a_path_is_told_once() {
    let mut world = World::new(&[config(1), config(2)]);
    let mut gateway = Gateway::new(1, None);
    assert!(world.take_touched().is_empty());
    world.connect(&mut gateway, path(1));
    assert_eq!((world.take_touched(), world.take_touched()), (vec![gateway.tunnel], vec![]));
    let sealed = gateway.seal(&packet(60));
    world.packet_from(path(1), &sealed, gateway.tunnel);
    assert!(world.take_touched().is_empty(), "from where it was");
    for port in 2..100 {
        let sealed = gateway.seal(&packet(60));
        world.packet_from(path(port), &sealed, gateway.tunnel);
    }
    assert_eq!(world.take_touched(), [gateway.tunnel]);
}

#[test]
fn the_path_follows_what_authenticates() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    let tunnel = gateway.tunnel;
    world.connect(&mut gateway, path(1));
    world.events();

    let sealed = gateway.seal(&packet(60));
    world.packet_from(path(2), &sealed, tunnel);
    assert_eq!(world.events(), [Event::Roamed { tunnel, from: path(1), to: path(2), moves: 1 }]);
    world.seal(tunnel, &packet(60)).unwrap();
    assert_eq!(world.sent_one().0, path(2));

    let keepalive = gateway.seal(&[]);
    assert_eq!(world.open(path(3), &keepalive), Opened::Keepalive { tunnel });
    world.connect(&mut gateway, path(4));
    assert_eq!(world.status(tunnel).path, Some(path(4)), "at once, whatever is told of it");
    assert_eq!(world.events(), []);
    world.advance(Duration::from_secs(10));
    world.tick();
    assert_eq!(world.events(), [Event::Roamed { tunnel, from: path(2), to: path(4), moves: 2 }]);
}

#[test]
fn a_receiver_is_settled_once_the_session_is_the_current_one_and_the_path_the_peers() {
    let mut world = World::new(&[config(1)]);
    let mut gateway = Gateway::new(1, None);
    let tunnel = gateway.tunnel;
    world.connect(&mut gateway, path(1));
    world.advance(Duration::from_secs(1));
    let initiation = gateway.initiate();
    assert_eq!(world.open(path(1), &initiation), Opened::Control);
    let peer = world.peer(tunnel);
    let [old, new] = [&peer.current, &peer.next].map(|session| session.as_ref().unwrap().index());
    let (by, taken) = (path(2), Opened::Packet { tunnel, len: 60 });
    let dropped = |reason, tunnel| Opened::Dropped { reason, tunnel };

    let mut receiver = world.endpoint.receiver(tunnel, new, &by).unwrap();
    assert!(receiver.settled().is_none());
    assert_eq!(receiver.arrived(0, &packet(60)), taken);
    let mut settled = receiver.settled().expect("the first has moved the path and confirmed the session");
    assert_eq!(settled.arrived(0, &packet(60)), dropped(DropReason::DataReplayed, None));
    assert!(!settled.is_heard());
    assert_eq!(settled.arrived(2, &packet(60)), taken);
    assert_eq!(settled.arrived(1, &[]), Opened::Keepalive { tunnel });
    assert_eq!(settled.arrived(3, &[0x20; 50]), dropped(DropReason::InnerMalformed, Some(tunnel)));
    assert!(settled.is_heard());
    receiver.count(true, 1, 60);

    let elsewhere = path(3);
    assert!(world.endpoint.receiver(tunnel, new, &elsewhere).unwrap().settled().is_none());

    // What was on the way under the keys before comes one by one.
    let mut receiver = world.endpoint.receiver(tunnel, old, &by).unwrap();
    assert!(receiver.settled().is_none());
    assert_eq!(receiver.arrived(7, &packet(60)), taken);
    assert!(receiver.settled().is_none());
    let status = world.status(tunnel);
    assert_eq!((status.path, status.rx_packets, status.rx_bytes), (Some(by), 3, 180));
}

#[test]
fn two_gateways_behind_one_address_and_port_are_told_apart() {
    let mut world = World::new(&[config(1), config(2)]);
    let (mut one, mut two) = (Gateway::new(1, None), Gateway::new(2, None));
    world.connect(&mut one, path(9));
    world.connect(&mut two, path(9));
    let (from_one, from_two) = (one.seal(&packet(61)), two.seal(&packet(62)));
    assert_eq!(world.packet_from(path(9), &from_two, TunnelId(2)).len(), 62);
    assert_eq!(world.packet_from(path(9), &from_one, TunnelId(1)).len(), 61);
    world.seal(TunnelId(2), &packet(63)).unwrap();
    assert_eq!(two.open(&world.sent_one().2), packet(63));
    assert!(world.events().iter().all(|event| !matches!(event, Event::Roamed { .. })));
}

#[test]
fn a_packet_for_a_silent_peer_calls_it_but_not_more_than_once_in_five_seconds() {
    let mut world = World::new(&[called(1)]);
    let tunnel = TunnelId(1);
    for _ in 0..10 {
        assert_eq!(world.seal(tunnel, &packet(60)), Err(DropReason::TunnelDown));
    }
    assert_eq!(world.sent_one().2.len(), 148);
    world.tick();
    world.advance(Duration::from_millis(4_999));
    let _ = world.seal(tunnel, &packet(60));
    world.tick();
    assert!(world.sent().is_empty());
    world.advance(Duration::from_millis(1 + 333 + 50));
    world.tick();
    assert_eq!(world.sent().len(), 1);
    let handshakes = world.status(tunnel).handshakes;
    assert_eq!((handshakes.attempts, handshakes.unanswered, handshakes.completed), (2, 1, 0));
}

#[test]
fn reconfiguring_keeps_unchanged_sessions_and_starts_changed_ones_anew() {
    let mut world = World::new(&[config(1), config(2), config(3)]);
    let mut gateways = [1, 2, 3].map(|n| Gateway::new(n, None));
    for (gateway, port) in gateways.iter_mut().zip(1..) {
        world.connect(gateway, path(port));
    }
    world.events();

    let with_keepalive = PeerConfig { keepalive: Some(Duration::from_secs(25)), ..config(1) };
    let with_psk = PeerConfig { preshared_key: Some(Zeroizing::new(PSK)), ..config(2) };
    world.configure(&[with_keepalive, with_psk, config(4)]);
    let down = |tunnel, why| Event::Down { tunnel: TunnelId(tunnel), why };
    assert_eq!(world.events(), [down(2, DownReason::Reconfigured), down(3, DownReason::Removed)]);

    let sealed = gateways[0].seal(&packet(60));
    world.packet_from(path(1), &sealed, TunnelId(1));
    for gateway in &mut gateways[1..] {
        let sealed = gateway.seal(&packet(60));
        // Sessions of an earlier incarnation name no tunnel at all.
        let unknown = Opened::Dropped { reason: DropReason::DataUnknownSession, tunnel: None };
        assert_eq!(world.open(path(1), &sealed), unknown);
    }
    assert_eq!(world.endpoint.status(TunnelId(3)), None);
    assert_eq!(world.seal(TunnelId(3), &packet(60)), Err(DropReason::NoTunnel));
    world.connect(&mut Gateway::new(2, Some(PSK)), path(2));
    world.connect(&mut Gateway::new(4, None), path(4));
}

#[test]
fn a_tunnel_number_used_again_is_out_of_reach_for_the_one_before() {
    let mut world = World::new(&[config(1)]);
    let mut old = Gateway::new(1, None);
    world.connect(&mut old, path(1));
    let successor = PeerConfig { tunnel: TunnelId(1), ..config(2) };
    world.configure(&[successor]);
    let mut new = Gateway::new(2, None);
    new.tunnel = TunnelId(1);
    world.connect(&mut new, path(2));

    let sealed = old.seal(&packet(60));
    let unknown = Opened::Dropped { reason: DropReason::DataUnknownSession, tunnel: None };
    assert_eq!(world.open(path(1), &sealed), unknown);
    let initiation = old.initiate();
    let unknown = Opened::Dropped { reason: DropReason::HandshakeUnknownPeer, tunnel: None };
    assert_eq!(world.open(path(1), &initiation), unknown);
    assert_eq!(world.status(TunnelId(1)).path, Some(path(2)));
}
