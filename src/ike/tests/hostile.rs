//! Strangers: cookies, bounds, forged and damaged messages.

use std::net::SocketAddr;

use super::world::*;
use crate::ike::{Claim, Limits, PeerConfig, Profile, RemoteAuth};
use crate::net::random::{Random, Seeded};
use crate::wire::ike::{self, ExchangeType, Flags, Header, Notify, Payload};

fn initiations(count: usize) -> Vec<Packet> {
    let mut found = Vec::new();
    for seed in 0..count as u64 {
        let mut world = World::new(seed);
        world.add(seed, Limits::default(), vec![PeerConfig { initiate: true, ..peer(A, B) }]);
        let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = sent.clone();
        world.filter = Box::new(move |packet| {
            seen.lock().unwrap().push(packet.clone());
            true
        });
        world.run_until(world.now);
        found.push(sent.lock().unwrap()[0].clone());
    }
    found
}

fn responder(limits: Limits) -> World {
    let mut world = World::new(99);
    world.check_gaps = false;
    world.add(1, limits.clone(), vec![]);
    world.add(2, limits, vec![peer(B, A)]);
    world
}

#[test]
fn half_open_sas_are_bounded_and_cost_a_cookie_before() {
    let limits = Limits { half_open: 6, half_open_per_source: 100, cookie_threshold: 4, ..Limits::default() };
    let mut world = responder(limits);
    let mut answers = Vec::new();
    for packet in initiations(10) {
        let outbox = world.hand_over(B, &packet);
        answers.push(outbox.datagrams().map(|(_, _, bytes)| bytes.len()).sum::<usize>());
        let again = world.hand_over(B, &packet);
        assert_eq!(again.datagrams().map(|(_, _, bytes)| bytes.len()).sum::<usize>(), *answers.last().unwrap());
    }
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (4, 4), "a retransmission makes no second one");
    assert!(answers[..4].iter().all(|bytes| *bytes > 200), "{answers:?}");
    assert!(answers[4..].iter().all(|bytes| *bytes < 100), "only a cookie: {answers:?}");
    world.run_for(60);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0), "they end by themselves");
    assert!(world.failures(B).iter().all(|failure| failure.cause.name() == "never_authenticated"), "{}", world.dump());
}

#[test]
fn one_source_gets_only_its_share() {
    let mut world = responder(Limits { half_open_per_source: 12, ..Limits::default() });
    for packet in initiations(5) {
        assert!(!world.hand_over(B, &packet).is_empty());
    }
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (3, 3), "a quarter; the others are to prove their address");
}

#[test]
fn an_initiator_brings_the_cookie_and_gets_in() {
    let mut world = World::new(5);
    world.add(5, Limits::default(), vec![PeerConfig { initiate: true, ..peer(A, B) }]);
    world.add(6, Limits { cookie_threshold: 0, ..Limits::default() }, vec![peer(B, A)]);
    world.run_for(3);
    assert!(world.is_up(), "{}", world.dump());
}

/// An answer to an IKE_SA_INIT that anyone on the path could send.
fn forged_answer(request: &Packet, kind: u16, data: Vec<u8>) -> Packet {
    let header = ike::parse_header(request.message()).unwrap();
    let flags = Flags { initiator: false, response: true };
    let answer = Header::new((header.initiator_spi, 0), ExchangeType::SA_INIT, flags, 0);
    let payload = Payload::Notify(Notify::new(kind, data));
    Packet { from: request.to, to: request.from, bytes: ike::emit_message(&answer, &[payload]), ..request.clone() }
}

#[test]
fn an_initiator_follows_neither_cookies_nor_groups_for_ever() {
    let cookie = |n: u16| (ike::notify::COOKIE, vec![n as u8; 16]);
    let group = |n: u16| (ike::notify::INVALID_KE_PAYLOAD, vec![0, [19, 20, 21, 15, 16, 31][usize::from(n) % 6]]);
    let answers: [&dyn Fn(u16) -> (u16, Vec<u8>); 2] = [&cookie, &group];
    for answer in answers {
        let mut world = World::new(6);
        world.add(6, Limits::default(), vec![PeerConfig { initiate: true, ..peer(A, B) }]);
        let last = std::sync::Arc::new(std::sync::Mutex::new(None));
        let seen = last.clone();
        world.filter = Box::new(move |packet| {
            *seen.lock().unwrap() = Some(packet.clone());
            true
        });
        world.run_until(world.now);
        let mut requests = 0;
        for n in 0..30 {
            let Some(request) = last.lock().unwrap().take() else { break };
            requests += 1;
            let (kind, data) = answer(n);
            let outbox = world.hand_over(A, &forged_answer(&request, kind, data));
            if let Some((_, _, bytes)) = outbox.datagrams().next() {
                *last.lock().unwrap() = Some(Packet { bytes: bytes.to_vec(), ..request });
            }
        }
        assert_eq!(requests, Limits::default().init_attempts, "{}", world.dump());
        assert_eq!(world.failures(A).len(), 1, "{}", world.dump());
    }
}

#[test]
fn a_request_with_another_group_is_asked_for_ours() {
    // A prefers X25519; B only takes what compat lists last if that is all that is common: so force it by the KE payload.
    let mut world = World::pair_with(8, |a| a.profile = Profile::Compat, |b| b.profile = Profile::Modern);
    world.run_for(3);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn damaged_messages_change_nothing_and_nobody_panics() {
    let mut random = Seeded(77);
    for seed in 0..12 {
        let mut world = World::pair(seed);
        world.check_gaps = false;
        let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = sent.clone();
        world.filter = Box::new(move |packet| {
            seen.lock().unwrap().push(packet.clone());
            true
        });
        world.run_for(2);
        assert!(world.is_up());
        let packets: Vec<Packet> = sent.lock().unwrap().clone();
        for _ in 0..400 {
            let mut packet = packets[random.u64() as usize % packets.len()].clone();
            match random.u64() % 3 {
                0 => {
                    let at = random.u64() as usize % packet.bytes.len();
                    packet.bytes[at] ^= 1 << (random.u64() % 8);
                }
                1 => packet.bytes.truncate(random.u64() as usize % packet.bytes.len()),
                _ => packet.bytes.extend_from_slice(&random.u64().to_be_bytes()),
            }
            packet.from = SocketAddr::new([203, 0, 113, 7].into(), 4500);
            let host = if packet.to.ip() == ip(A) { A } else { B };
            world.hand_over(host, &packet);
        }
        world.run_for(1);
        assert!(world.is_up(), "seed {seed} {}", world.dump());
        assert!(world.downs(A).is_empty() && world.downs(B).is_empty());
        let path = world.hosts[B].endpoint.status(TUNNEL).unwrap().path.unwrap();
        assert_eq!(path.remote.ip(), ip(A), "nothing forged moves a path");
    }
}

#[test]
fn replayed_messages_are_answered_as_before_or_not_at_all() {
    let mut world = World::pair(3);
    let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sent.clone();
    world.filter = Box::new(move |packet| {
        seen.lock().unwrap().push(packet.clone());
        true
    });
    world.run_for(2);
    let packets: Vec<Packet> = sent.lock().unwrap().clone();
    let ups = (world.child_ups(A), world.child_ups(B));
    for packet in packets.iter().chain(packets.iter().rev()) {
        let host = if packet.to.ip() == ip(A) { A } else { B };
        world.hand_over(host, packet);
    }
    world.run_for(2);
    assert!(world.is_up());
    assert_eq!((world.child_ups(A), world.child_ups(B)), ups);
    assert_eq!(world.hosts[A].endpoint.status(TUNNEL).unwrap().ike_sas, 1);
}

#[test]
fn a_higher_version_is_told_ours_and_never_more_than_was_sent() {
    let mut world = responder(Limits::default());
    let mut packet = initiations(1).remove(0);
    packet.bytes[17] = 0x30;
    let outbox = world.hand_over(B, &packet);
    let answer: Vec<u8> = outbox.datagrams().map(|(_, _, bytes)| bytes.to_vec()).next().unwrap();
    assert_eq!((answer.len(), &answer[34..36]), (36, &[0, 5][..]), "INVALID_MAJOR_VERSION");
    packet.bytes[19] |= 0x20;
    assert!(world.hand_over(B, &packet).is_empty(), "not to a response");
}

/// The same request as if another had sent it.
fn anew(packet: &Packet, n: u16) -> Packet {
    let mut other = packet.clone();
    other.bytes[..2].copy_from_slice(&n.to_be_bytes());
    other
}

fn answer_bytes(outbox: &crate::packet::Outbox) -> usize {
    outbox.datagrams().map(|(_, _, bytes)| bytes.len()).sum()
}

/// Anybody can write a peer's address on a datagram; only the peer gets what is sent there.
#[test]
fn initiations_forged_in_a_peers_name_do_not_keep_it_out() {
    let mut world = World::pair(11);
    world.check_gaps = false;
    let forged = initiations(1).remove(0);
    for n in 1..200 {
        world.hand_over(B, &anew(&forged, n));
    }
    world.run_for(2);
    assert!(world.is_up(), "{}", world.dump());
}

#[test]
fn a_full_table_is_told_to_the_operator() {
    let mut world = responder(Limits { half_open_per_source: 0, ..Limits::default() });
    assert!(world.hand_over(B, &initiations(1)[0]).is_empty());
    assert!(world.failures(B).iter().any(|failure| failure.cause.name() == "too_many_half_open"), "{}", world.dump());
}

/// The point at infinity of X25519 costs two multiplications before it is known for what it is.
#[test]
fn public_values_that_are_none_count_like_others() {
    let mut world = responder(Limits { cookie_threshold: 4, half_open_per_source: 100, ..Limits::default() });
    let request = initiations(1).remove(0);
    let header = ike::parse_header(request.message()).unwrap();
    let mut payloads = ike::parse_payloads(header.next_payload, &request.bytes[28..], &ike::Limits::default()).unwrap();
    for payload in &mut payloads {
        if let Payload::KeyExchange { data, .. } = payload {
            data.fill(0);
        }
    }
    let request = Packet { bytes: ike::emit_message(&header, &payloads), ..request };
    let answers: Vec<usize> = (1..10).map(|n| answer_bytes(&world.hand_over(B, &anew(&request, n)))).collect();
    assert_eq!(answers[..4], [0; 4]);
    assert!(answers[4..].iter().all(|bytes| *bytes > 0), "a cookie: {answers:?}");
    world.run_for(60);
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
}

/// Whoever writes another's address on a request would have it sent to the other for ever.
#[test]
fn an_initiation_is_answered_only_so_often() {
    let mut world = responder(Limits::default());
    let request = initiations(1).remove(0);
    let answered = (0..200).filter(|_| !world.hand_over(B, &request).is_empty()).count();
    assert!((10..30).contains(&answered), "{answered}");
}

#[test]
fn an_initiation_that_is_longer_than_any_is_not_kept() {
    let mut world = responder(Limits::default());
    let request = initiations(1).remove(0);
    let header = ike::parse_header(request.message()).unwrap();
    let mut payloads = ike::parse_payloads(header.next_payload, &request.bytes[28..], &ike::Limits::default()).unwrap();
    payloads.push(Payload::Notify(Notify::new(40_000, vec![7; 20_000])));
    world.hand_over(B, &Packet { bytes: ike::emit_message(&header, &payloads), ..request });
    assert_eq!(world.hosts[B].endpoint.sa_counts(), (0, 0));
}

/// RFC 7296 section 2.21.1: "the recipient should not immediately act based on the error notification".
#[test]
fn a_forged_refusal_does_not_end_an_attempt() {
    for kind in [ike::notify::NO_PROPOSAL_CHOSEN, ike::notify::INVALID_SYNTAX, ike::notify::INVALID_KE_PAYLOAD] {
        let mut world = World::pair(12);
        let last = std::sync::Arc::new(std::sync::Mutex::new(None));
        let seen = last.clone();
        world.filter = Box::new(move |packet| {
            seen.lock().unwrap().get_or_insert(packet.clone());
            true
        });
        world.run_until(world.now);
        let request = last.lock().unwrap().take().unwrap();
        for _ in 0..3 {
            world.hand_over(A, &forged_answer(&request, kind, vec![0, 99]));
        }
        world.run_for(1);
        assert!(world.is_up(), "{}", world.dump());
        assert_eq!(world.hosts[A].endpoint.status(TUNNEL).unwrap().counts.attempts, 1);
        assert_eq!(world.failures(A).len(), 1, "and yet it is told: {}", world.dump());
        world.run_for(60);
        assert!(world.is_up() && world.downs(A).is_empty(), "{}", world.dump());
    }
}

/// What waits for its turn is told apart before anything is spent on it.
#[test]
fn a_message_is_known_by_both_spis() {
    let mut world = World::pair(13);
    let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sent.clone();
    world.filter = Box::new(move |packet| {
        seen.lock().unwrap().push(packet.clone());
        true
    });
    world.run_until(world.now + std::time::Duration::from_millis(25));
    let init: Packet = sent.lock().unwrap()[0].clone();
    let auth: Packet = sent.lock().unwrap()[2].clone();
    assert_eq!(world.hosts[B].endpoint.claim(init.message()), Some(Claim::Nobodys));
    assert!(matches!(world.hosts[B].endpoint.claim(auth.message()), Some(Claim::Strangers(_))));
    world.run_for(2);
    let answer: Packet = sent.lock().unwrap()[3].clone();
    assert!(matches!(world.hosts[B].endpoint.claim(auth.message()), Some(Claim::Peers(_))));
    assert!(matches!(world.hosts[A].endpoint.claim(answer.message()), Some(Claim::Peers(_))));
    for byte in [0, 8] {
        let mut junk = auth.message().to_vec();
        junk[byte] ^= 1;
        assert_eq!(world.hosts[B].endpoint.claim(&junk), None);
    }
    assert_eq!(world.hosts[B].endpoint.claim(&[7; 27]), None);
}

#[test]
fn strangers_do_not_fill_the_log() {
    let mut world = responder(Limits { half_open: 0, ..Limits::default() });
    let request = initiations(1).remove(0);
    for n in 0..500 {
        world.hand_over(B, &anew(&request, n));
    }
    let mut told = || std::iter::from_fn(|| world.hosts[B].endpoint.poll_event()).count();
    assert!((1..=16).contains(&told()));
    assert_eq!(world.hosts[B].endpoint.strangers()[0].count, 500, "and yet they are counted");
    let mut world = World::pair_with(1, |a| a.remote_auth = RemoteAuth::Psk(psk("another one")), |_| {});
    world.run_for(1);
    for _ in 0..100 {
        let now = world.now;
        world.hosts[A].endpoint.peers.call_at(TUNNEL, now);
        world.run_until(world.now + std::time::Duration::from_millis(100));
    }
    let told = world.hosts[A].events.iter().filter(|event| matches!(event, crate::ike::Event::Failed { .. })).count();
    assert!((10..=16).contains(&told), "nor does whoever claims to be a peer: {told} {}", world.dump());
}

/// Sealed by the peer, and of another exchange than was asked: no answer to what was asked.
#[test]
fn an_answer_of_another_exchange_is_none() {
    let mut world = World::pair(14);
    world.run_for(2);
    world.check_gaps = false;
    world.filter = Box::new(|_| false);
    let (spi, other) = [A, B].map(|host| world.hosts[host].endpoint.peers.newest(TUNNEL).unwrap()).into();
    world.hosts[A].endpoint.wake(spi, |sa, now| sa.timers.rekey_at = Some(now));
    world.run_for(0);
    let header = |world: &mut World, exchange| {
        let id = world.hosts[A].endpoint.sas[&spi].sa.outgoing.next_id() - 1;
        world.hosts[B].endpoint.sas[&other].sa.header(exchange, true, id)
    };
    let answer = |world: &mut World, exchange| {
        let header = header(world, exchange);
        let sa = &mut world.hosts[B].endpoint.sas.get_mut(&other).unwrap().sa;
        let inside =
            crate::ike::protect::Inside::of(&[Payload::Notify(Notify::new(ike::notify::NO_PROPOSAL_CHOSEN, vec![]))]);
        let message = sa.session.as_mut().unwrap().protection.seal(&header, &inside, None).remove(0);
        let bytes = [&[0; 4], message.as_slice()].concat();
        let at = |host| SocketAddr::new(ip(host), 4500);
        world.hand_over(A, &Packet { number: 0, from: at(B), to: at(A), bytes });
        world.hosts[A].endpoint.sas[&spi].sa.outgoing.is_free()
    };
    for exchange in [ExchangeType::INFORMATIONAL, ExchangeType::AUTH, ExchangeType::FOLLOWUP_KE, ExchangeType(99)] {
        assert!(!answer(&mut world, exchange), "{exchange:?} {}", world.dump());
    }
    assert!(world.failures(A).is_empty());
    assert!(answer(&mut world, ExchangeType::CREATE_CHILD_SA));
    assert_eq!(world.failures(A).len(), 1, "{}", world.dump());
}
