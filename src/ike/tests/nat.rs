//! NATs between, one before several peers, mappings that change, peers that move; and raw ESP without any.

use std::net::SocketAddr;

use super::world::*;
use crate::ike::{Encapsulation, Event, Limits, PeerConfig, Setup, message, nat};
use crate::net::{Port, TunnelId};
use crate::wire::ike::{ExchangeType, notify};

const OUTSIDE: [u8; 4] = [198, 51, 100, 1];

fn auto(config: &mut PeerConfig) {
    config.encapsulation = Encapsulation::Auto;
}

#[test]
fn without_a_nat_esp_goes_raw_where_it_may() {
    for kind in [Encapsulation::Auto, Encapsulation::Esp] {
        let set = move |config: &mut PeerConfig| config.encapsulation = kind;
        let mut world = World::pair_with(1, set, set);
        world.bind(A);
        world.bind(B);
        world.run_for(3);
        let child = world.hosts[A].esp.sealing().unwrap();
        assert_eq!((child.path.port, child.path.remote.port()), (Port::RawEsp, 0), "{kind:?} {}", world.dump());
        assert!(!child.follow_path);
        assert_eq!(world.hosts[B].esp.sealing().unwrap().path.port, Port::RawEsp);
    }
}

#[test]
fn behind_a_nat_everything_goes_through_udp_and_the_outer_side_follows() {
    for (set, claims) in [(auto as fn(&mut PeerConfig), false), (|_| {}, true)] {
        let mut world = World::pair_with(1, set, set);
        world.nat.insert(A, (OUTSIDE.into(), 20_000));
        world.run_for(3);
        assert!(world.is_up(), "{}", world.dump());
        let child = world.hosts[B].esp.sealing().unwrap();
        assert_eq!(child.path.remote, SocketAddr::new(OUTSIDE.into(), 24_500));
        assert!(child.follow_path && child.path.port == Port::IkeNatT);
        let follows = world.hosts[A].esp.sealing().unwrap().follow_path;
        assert_eq!(follows, claims, "B is behind none, whatever it claims: {}", world.dump());
    }
}

#[test]
fn a_mapping_that_changes_is_followed_by_what_is_authentic() {
    let mut world = World::pair_with(1, |a| a.liveness = std::time::Duration::from_secs(5), |_| {});
    world.nat.insert(A, (OUTSIDE.into(), 20_000));
    world.run_for(3);
    world.nat.insert(A, (OUTSIDE.into(), 30_000));
    world.run_for(20);
    assert!(world.is_up());
    let to = SocketAddr::new(OUTSIDE.into(), 34_500);
    let moved = |event: &Event| matches!(event, Event::PathMoved { path, .. } if path.remote == to);
    assert!(world.hosts[B].events.iter().any(moved), "{}", world.dump());
    assert!(world.downs(A).is_empty() && world.downs(B).is_empty());
}

#[test]
fn two_peers_behind_one_address_are_two_peers() {
    let mut world = World::new(1);
    world.check_gaps = false;
    let tunnel = |n: u32, config: PeerConfig| PeerConfig { tunnel: TunnelId(n), ..config };
    world.add(1, Limits::default(), vec![PeerConfig { initiate: true, ..peer(0, 1) }]);
    world.add(2, Limits::default(), vec![tunnel(5, peer(1, 0)), tunnel(6, peer(1, 2))]);
    world.add(3, Limits::default(), vec![PeerConfig { initiate: true, ..peer(2, 1) }]);
    world.nat.insert(0, (OUTSIDE.into(), 20_000));
    world.nat.insert(2, (OUTSIDE.into(), 30_000));
    world.run_for(5);
    for (n, port) in [(5, 24_500), (6, 34_500)] {
        let status = world.hosts[1].endpoint.status(TunnelId(n)).unwrap();
        assert_eq!(status.path.unwrap().remote, SocketAddr::new(OUTSIDE.into(), port), "{}", world.dump());
        assert_eq!(status.children.len(), 1);
    }
}

/// Whoever changes the source of one packet on the way must not take the whole SA elsewhere.
#[test]
fn without_a_nat_the_peer_is_where_ike_sa_init_found_it() {
    for kind in [Encapsulation::Auto, Encapsulation::Esp] {
        let set = move |config: &mut PeerConfig| config.encapsulation = kind;
        let mut world = World::pair_with(1, set, set);
        world.bind(A);
        world.bind(B);
        let auth = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let caught = auth.clone();
        world.filter = Box::new(move |packet| {
            let is_first = packet.exchange() == 35 && !packet.is_response() && caught.lock().unwrap().is_empty();
            if is_first {
                caught.lock().unwrap().push(packet.clone());
            }
            !is_first
        });
        world.run_for(1);
        let stray = Packet { from: SocketAddr::new(OUTSIDE.into(), 500), ..auth.lock().unwrap()[0].clone() };
        assert!(world.hand_over(B, &stray).is_empty(), "{kind:?}: it is as if it were lost");
        assert!(!world.is_up());
        world.run_for(5);
        assert!(world.is_up(), "{kind:?} {}", world.dump());
        for (host, other) in [(A, B), (B, A)] {
            assert_eq!(world.hosts[host].esp.sealing().unwrap().path.remote, SocketAddr::new(ip(other), 0), "{kind:?}");
            let path = world.hosts[host].endpoint.status(TUNNEL).unwrap().path.unwrap();
            assert_eq!(path.remote, SocketAddr::new(ip(other), 500), "{kind:?}");
        }
    }
}

/// The answer to IKE_AUTH comes from elsewhere: it counts, and the peer is where it was called.
#[test]
fn without_a_nat_an_answer_from_elsewhere_does_not_move_the_peer() {
    let mut world = World::pair_with(1, auto, auto);
    world.bind(A);
    world.bind(B);
    let answer = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let caught = answer.clone();
    world.filter = Box::new(move |packet| {
        let is_answer = packet.exchange() == 35 && packet.is_response();
        if is_answer {
            caught.lock().unwrap().push(packet.clone());
        }
        !is_answer
    });
    world.run_for(1);
    let stray = Packet { from: SocketAddr::new(OUTSIDE.into(), 500), ..answer.lock().unwrap()[0].clone() };
    world.hand_over(A, &stray);
    world.filter = Box::new(|_| true);
    world.run_for(1);
    assert!(world.is_up(), "{}", world.dump());
    assert_eq!(world.hosts[A].esp.sealing().unwrap().path.remote, SocketAddr::new(ip(B), 0));
}

/// A peer may go on by port 4500 without a NAT (RFC 4555 section 3.3), with another port of its own.
#[test]
fn without_a_nat_ike_auth_may_come_to_port_4500_but_not_from_the_port_of_ike_sa_init() {
    for (from, to, is_followed) in [
        ("192.0.2.1:4500", 4500, true),
        ("192.0.2.1:4501", 4500, true),
        ("192.0.2.1:500", 4500, false),
        ("192.0.2.1:501", 500, false),
        ("192.0.2.9:4500", 4500, false),
    ] {
        let mut world = World::pair_with(1, auto, auto);
        world.bind(A);
        world.bind(B);
        let auth = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let caught = auth.clone();
        world.filter = Box::new(move |packet| {
            let is_auth = packet.exchange() == 35 && !packet.is_response();
            is_auth.then(|| caught.lock().unwrap().push(packet.clone()));
            !is_auth
        });
        world.run_for(1);
        let genuine = auth.lock().unwrap()[0].clone();
        let from: SocketAddr = from.parse().unwrap();
        let marker = if to == 4500 { &[0; 4][..] } else { &[] };
        let bytes = [marker, &genuine.bytes].concat();
        let stray = Packet { from, to: SocketAddr::new(ip(B), to), bytes, ..genuine.clone() };
        assert_eq!(!world.hand_over(B, &stray).is_empty(), is_followed, "{from} to {to}");
        let end = |world: &World| {
            let path = world.hosts[B].endpoint.sas.values().next().unwrap().sa.path;
            (path.remote, path.port)
        };
        let lane = if to == 4500 { Port::IkeNatT } else { Port::Ike };
        assert_eq!(end(&world) == (from, lane), is_followed);
        // If somebody has rewritten its ports on the way, the peer's own copy heals that.
        assert!(!world.hand_over(B, &genuine).is_empty());
        assert_eq!(end(&world), (genuine.from, Port::Ike), "{from} to {to}");
    }
}

/// A copy that came first, in another wrapping or from other ports, takes an established SA nowhere.
#[test]
fn without_a_nat_nothing_moves_an_established_sa() {
    let mut world = World::pair_with(1, auto, auto);
    world.bind(A);
    world.bind(B);
    world.run_for(3);
    let spi = *world.hosts[A].endpoint.sas.keys().next().unwrap();
    let nat_t = SocketAddr::new(ip(B), 4500);
    for (from, to) in [
        ("192.0.2.1:4500", nat_t),
        ("192.0.2.1:4501", nat_t),
        ("192.0.2.1:500", nat_t),
        ("192.0.2.9:4500", nat_t),
        ("192.0.2.1:501", SocketAddr::new(ip(B), 500)),
    ] {
        let from: SocketAddr = from.parse().unwrap();
        let mut outbox = crate::packet::Outbox::new(1 << 16, 16);
        world.hosts[A].endpoint.now = world.now;
        world.hosts[A].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
            sa.path.port = if to == nat_t { Port::IkeNatT } else { Port::Ike };
            sa.outgoing.finish();
            sa.send_request(ExchangeType::INFORMATIONAL, &[], cx);
        });
        let bytes = outbox.datagrams().next().unwrap().2.to_vec();
        assert!(!world.hand_over(B, &Packet { number: 0, from, to, bytes }).is_empty(), "answered");
        let path = world.hosts[B].endpoint.status(TUNNEL).unwrap().path.unwrap();
        assert_eq!((path.remote, path.port), (SocketAddr::new(ip(A), 500), Port::Ike), "{from}");
    }
}

impl World {
    /// The host's sockets are bound to its address.
    fn bind(&mut self, host: usize) {
        let ip = self.hosts[host].ip;
        self.hosts[host].endpoint.bind_to(vec![ip]);
    }
}

/// RFC 4555 section 3.5, as responder: the initiator says that it is elsewhere now.
#[test]
fn a_peer_that_moves_by_mobike_is_followed_and_gets_its_cookie_back() {
    let mut world = World::pair_with(1, auto, auto);
    world.bind(A);
    world.bind(B);
    world.run_for(3);
    let spi = *world.hosts[B].endpoint.sas.keys().next().unwrap();
    world.hosts[B].endpoint.sas.get_mut(&spi).unwrap().sa.abilities.mobike = true;
    let new = [203, 0, 113, 9].into();
    world.hosts[A].ip = new;
    world.bind(A);
    let answers = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = answers.clone();
    world.filter = Box::new(move |packet| {
        if packet.is_response() {
            seen.lock().unwrap().push(packet.to);
        }
        true
    });
    let spi = *world.hosts[A].endpoint.sas.keys().next().unwrap();
    let mut outbox = crate::packet::Outbox::new(1 << 16, 16);
    world.hosts[A].endpoint.now = world.now;
    world.hosts[A].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
        let [source, destination] = nat::notifies(sa.spis(), &sa.path, Some(SocketAddr::new(new, 500)), [0; 20]);
        let update = message::notify(notify::UPDATE_SA_ADDRESSES, []);
        let cookie = message::notify(notify::COOKIE2, [7; 16]);
        sa.send_request(ExchangeType::INFORMATIONAL, &[update, source, destination, cookie], cx);
    });
    world.send_from(A, &outbox);
    world.run_for(2);
    let moved =
        |event: &Event| matches!(event, Event::PathMoved { path, .. } if path.remote == SocketAddr::new(new, 0));
    assert!(world.hosts[B].events.iter().any(moved), "raw ESP goes there: {}", world.dump());
    assert_eq!(*answers.lock().unwrap(), [SocketAddr::new(new, 500)]);
    assert!(world.hosts[A].endpoint.sas[&spi].sa.outgoing.is_free(), "answered");
    // Behind a NAT, which the hashes show, and out of it again: Child SAs that live are followed as long as that lasts.
    for (source, is_behind) in [([10, 0, 0, 1].into(), true), (new, false)] {
        let mut outbox = crate::packet::Outbox::new(1 << 16, 16);
        world.hosts[A].endpoint.now = world.now;
        world.hosts[A].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
            let hashes = nat::notifies(sa.spis(), &sa.path, Some(SocketAddr::new(source, 500)), [0; 20]);
            let update = message::notify(notify::UPDATE_SA_ADDRESSES, []);
            let payloads = [vec![update], hashes.to_vec()].concat();
            sa.send_request(ExchangeType::INFORMATIONAL, &payloads, cx);
        });
        world.send_from(A, &outbox);
        world.run_for(2);
        let followed = |event: &Event| match event {
            Event::PathMoved { follow_path, .. } => Some(*follow_path),
            _ => None,
        };
        assert_eq!(world.hosts[B].events.iter().filter_map(followed).next_back(), Some(is_behind), "{}", world.dump());
    }
}

#[test]
fn a_setup_starts_with_the_usual_ports() {
    let setup = Setup::new(Box::new(crate::net::random::Seeded(1)));
    assert_eq!((setup.ports.ike, setup.ports.nat_t), (500, 4500));
}

/// What B answers when A's packet comes from another address. Nothing is delivered.
fn answers_from(world: &mut World, packet: &Packet, from: SocketAddr) -> Vec<SocketAddr> {
    let outbox = world.hand_over(B, &Packet { from, ..packet.clone() });
    outbox.datagrams().map(|(path, _, _)| path.remote).collect()
}

/// Sections 2.11 and 2.23: a retransmission after the NAT has changed its mind is answered where it comes from, but whoever
/// has recorded the request may have sent it, in anybody's name.
#[test]
fn a_request_that_comes_again_from_elsewhere_is_answered_there_some_times_and_moves_nothing() {
    for behind_nat in [false, true] {
        let mut world = World::pair(1);
        if behind_nat {
            world.nat.insert(A, (OUTSIDE.into(), 20_000));
        }
        let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = sent.clone();
        world.filter = Box::new(move |packet| {
            seen.lock().unwrap().push(packet.clone());
            true
        });
        world.run_for(3);
        assert!(world.is_up(), "{}", world.dump());
        let is_request = |packet: &&Packet| packet.to.ip() == ip(B) && packet.exchange() != 34 && !packet.is_response();
        let request: Packet = sent.lock().unwrap().iter().rfind(is_request).unwrap().clone();
        let before = world.hosts[B].endpoint.status(TUNNEL).unwrap();
        let elsewhere = SocketAddr::new([203, 0, 113, 7].into(), 4500);
        let copies = (0..100).map(|_| answers_from(&mut world, &request, elsewhere)).collect::<Vec<_>>().concat();
        assert_eq!(copies, [elsewhere; 16]);
        let home = request.from;
        for _ in 0..40 {
            assert_eq!(answers_from(&mut world, &request, home), [home], "the peer itself is always answered");
        }
        let after = world.hosts[B].endpoint.status(TUNNEL).unwrap();
        assert_eq!((after.path, after.last_heard), (before.path, before.last_heard), "{}", world.dump());
        assert!(!world.hosts[B].events.iter().any(|event| matches!(event, Event::PathMoved { .. })));
        world.run_for(60);
        let request: Packet = sent.lock().unwrap().iter().rfind(is_request).unwrap().clone();
        assert_eq!(answers_from(&mut world, &request, elsewhere), [elsewhere], "a new request, counted anew");
    }
}

/// The first fragment of a request, recorded and sent again before the last has come.
#[test]
fn a_fragment_that_comes_again_from_elsewhere_moves_nothing() {
    let mut world = World::pair(1);
    world.nat.insert(A, (OUTSIDE.into(), 20_000));
    world.run_for(3);
    let spi = *world.hosts[A].endpoint.sas.keys().next().unwrap();
    let sa = &mut world.hosts[A].endpoint.sas.get_mut(&spi).unwrap().sa;
    let header = sa.header(ExchangeType::INFORMATIONAL, false, sa.outgoing.next_id());
    let inside = crate::ike::protect::Inside::of(&[message::notify(40_000, [7; 2000])]);
    let fragments = sa.session.as_mut().unwrap().protection.seal(&header, &inside, Some(1200));
    assert_eq!(fragments.len(), 2);
    let home = SocketAddr::new(OUTSIDE.into(), 24_500);
    let packets = fragments.iter().map(|bytes| Packet {
        number: 0,
        from: home,
        to: SocketAddr::new(ip(B), 4500),
        bytes: [&[0; 4], bytes.as_slice()].concat(),
    });
    let [first, last]: [Packet; 2] = packets.collect::<Vec<_>>().try_into().ok().unwrap();
    assert!(answers_from(&mut world, &first, home).is_empty());
    let elsewhere = SocketAddr::new([203, 0, 113, 7].into(), 4500);
    world.run_for(1);
    let before = world.hosts[B].endpoint.status(TUNNEL).unwrap();
    assert!(answers_from(&mut world, &first, elsewhere).is_empty());
    let after = world.hosts[B].endpoint.status(TUNNEL).unwrap();
    assert_eq!((after.path, after.last_heard), (before.path, before.last_heard));
    assert_eq!(answers_from(&mut world, &last, home), [home]);
    assert_eq!(answers_from(&mut world, &first, home), [home], "answered by its first fragment");
}
