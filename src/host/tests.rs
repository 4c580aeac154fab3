//! The host against clients with stacks of their own, and against bytes that are nobody's.

use std::time::Duration;

use proptest::prelude::*;
use smoltcp::socket::tcp::State;

use super::fixture::*;
use super::stack::MAX_WAITING;
use super::*;
use crate::net::policy::protocol;
use crate::net::{RealmId, Timestamp};
use crate::packet::DropReason;

const NOW: Timestamp = Timestamp::ZERO;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A world whose bounds are far away.
fn world(realms: u16) -> World {
    World::new(host(16, 8), realms)
}

/// What the world answers: the realm that the host took the asker for, and the question.
fn answer(realm: u16, message: &[u8]) -> Vec<u8> {
    framed(&[&realm.to_be_bytes()[..], message].concat())
}

#[test]
fn a_query_over_tcp_is_answered() {
    let mut world = world(1);
    let socket = world.connect(1, 5000);
    world.send(1, socket, &framed(b"who is there"));
    assert_eq!(world.receive(1, socket), answer(1, b"who is there"));
    world.socket(1, socket).close();
    world.advance(secs(1));
    assert_eq!(world.host.tcp_connections(), 0);
    assert_eq!(world.drops, []);
}

#[test]
fn realms_with_the_same_addresses_and_ports_are_kept_apart() {
    let mut world = world(3);
    let sockets: Vec<_> = (1..=3).map(|realm| world.connect(realm, 5000)).collect();
    for realm in 1..=3 {
        // In two halves, with the others' halves in between.
        world.send(realm, sockets[usize::from(realm) - 1], &framed(&[realm as u8; 9])[..5]);
    }
    for realm in 1..=3 {
        let socket = sockets[usize::from(realm) - 1];
        world.send(realm, socket, &framed(&[realm as u8; 9])[5..]);
        world.advance(secs(1)); // the host acknowledges the first half late, and the client waits for that (Nagle)
        assert_eq!(world.receive(realm, socket), answer(realm, &[realm as u8; 9]));
    }
}

#[test]
fn pipelined_queries_are_answered_in_order() {
    let mut world = world(1);
    let socket = world.connect(1, 5000);
    let queries: Vec<Vec<u8>> = (0..200u8).map(|i| vec![i; 40]).collect();
    world.send(1, socket, &queries.iter().flat_map(|query| framed(query)).collect::<Vec<u8>>());
    let want: Vec<u8> = queries.iter().flat_map(|query| answer(1, query)).collect();
    let mut got = world.receive(1, socket);
    while got.len() < want.len() {
        world.advance(secs(1));
        let more = world.receive(1, socket);
        assert!(!more.is_empty(), "stuck after {} of {} bytes", got.len(), want.len());
        got.extend(more);
    }
    assert_eq!(got, want);
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_answers() {
    let mut world = world(1);
    let socket = world.connect(1, 5000);
    world.socket(1, socket).send_slice(&[framed(b"one"), framed(b"two"), vec![0]].concat()).unwrap();
    world.socket(1, socket).close();
    world.advance(secs(1));
    assert_eq!(world.receive(1, socket), [answer(1, b"one"), answer(1, b"two")].concat());
    assert_eq!(world.host.tcp_connections(), 0);
}

#[test]
fn the_longest_answer_passes_through_the_small_buffer() {
    let mut world = world(1);
    world.answer = |_| (0..65_535u32).map(|i| (i % 251) as u8).collect();
    let socket = world.connect(1, 5000);
    world.send(1, socket, &framed(b"everything"));
    let mut got = Vec::new();
    for _ in 0..1000 {
        got.extend(world.receive(1, socket));
        world.advance(Duration::from_millis(100));
    }
    let want = framed(&(world.answer)(&Query {
        id: QueryId::tcp(super::tcp::Remote { address: dns(), port: 0 }, 0),
        realm: RealmId(1),
        source: dns(),
        transport: Transport::Tcp,
        bytes: Vec::new(),
    }));
    assert!(got == want, "{} bytes of {}", got.len(), want.len());
}

#[test]
fn a_client_that_does_not_read_is_reset() {
    let mut world = world(1);
    world.answer = |_| vec![7; 65_535];
    let socket = world.connect(1, 5000);
    world.send(1, socket, &framed(b"everything"));
    world.advance(secs(9));
    assert_eq!(world.host.tcp_connections(), 1);
    world.advance(secs(2));
    assert_eq!(world.host.tcp_connections(), 0);
    assert_eq!(world.socket(1, socket).state(), State::Closed);
}

#[test]
fn a_realm_that_takes_its_share_leaves_the_others_theirs() {
    let mut world = World::new(host(5, 2), 4);
    let first: Vec<_> = (0..3).map(|i| world.connect(1, 5000 + i)).collect();
    assert_eq!(world.host.tcp_connections(), 2);
    assert!(world.drops.iter().all(|reason| *reason == DropReason::HostQueueFull) && !world.drops.is_empty());
    let other = world.connect(2, 5000);
    world.send(2, other, &framed(b"mine"));
    assert_eq!(world.receive(2, other), answer(2, b"mine"));
    // The bound of all realms together.
    for realm in [2, 3] {
        world.connect(realm, 6000 + realm + world.host.tcp_connections() as u16);
    }
    assert_eq!(world.host.tcp_connections(), 5);
    let late = world.connect(4, 5000);
    assert_eq!(world.socket(4, late).state(), State::SynSent);
    // One goes, one comes.
    world.socket(1, first[2]).abort(); // it is still knocking, too
    world.socket(1, first[0]).close();
    world.advance(secs(3));
    assert_eq!(world.socket(4, late).state(), State::Established);
}

#[test]
fn an_idle_connection_is_closed_after_ten_seconds() {
    let mut world = world(1);
    let socket = world.connect(1, 5000);
    world.advance(Duration::from_millis(9_900));
    assert_eq!(world.socket(1, socket).state(), State::Established);
    world.send(1, socket, &framed(b"still here"));
    world.advance(Duration::from_millis(9_900));
    assert_eq!(world.socket(1, socket).state(), State::Established);
    world.advance(Duration::from_millis(200));
    assert_eq!(world.socket(1, socket).state(), State::CloseWait);
    world.advance(secs(3));
    assert_eq!(world.host.tcp_connections(), 0, "also when the client never closes its side");
}

#[test]
fn single_bytes_buy_no_time() {
    let mut world = world(1);
    let socket = world.connect(1, 5000);
    for byte in framed(&[0; 100]) {
        if !world.socket(1, socket).may_send() {
            break;
        }
        world.send(1, socket, &[byte]);
        world.advance(secs(2));
    }
    assert!(world.now < Timestamp::from_secs(20), "{:?}", world.now);
    assert_eq!(world.host.tcp_connections(), 0);
}

#[test]
fn half_open_connections_expire() {
    let mut world = world(1);
    for port in 0..8 {
        let syn = segment(5000 + port, 1, 0, 0x02, 0xffff, &[]);
        world.host.handle_input(peer(1, DNS_ALIAS), dns(), protocol::TCP, &syn, NOW).unwrap();
    }
    while world.host.poll_transmit(NOW).is_some() {} // the client does not hear the SYN-ACK
    assert_eq!(world.host.tcp_connections(), 8);
    world.advance(secs(13));
    assert_eq!(world.host.tcp_connections(), 0);
}

#[test]
fn what_cannot_be_a_query_ends_the_connection() {
    for bytes in [vec![0, 0], vec![0xff, 0xff, 1, 2, 3]] {
        let mut world = world(1);
        let socket = world.connect(1, 5000);
        world.send(1, socket, &bytes);
        assert_eq!((world.socket(1, socket).state(), world.host.tcp_connections()), (State::Closed, 0));
    }
    // And one that no answer is due to.
    let mut world = world(1);
    world.answer = |_| Vec::new();
    let socket = world.connect(1, 5000);
    world.send(1, socket, &framed(b"a response"));
    assert_eq!((world.socket(1, socket).state(), world.host.tcp_connections()), (State::Closed, 0));
}

#[test]
fn an_answer_for_a_connection_that_is_gone_goes_nowhere() {
    let mut world = world(1);
    let socket = world.connect(1, 5000);
    world.socket(1, socket).send_slice(&framed(b"old")).unwrap();
    let mut old = None;
    world.deliver_to_host();
    while let Some(query) = world.host.poll_query() {
        old = Some(query.id);
    }
    world.socket(1, socket).abort();
    world.run();
    assert_eq!(world.host.tcp_connections(), 0);
    let socket = world.connect(1, 5000); // the same remote again
    world.send(1, socket, &framed(b"new"));
    world.host.respond(old.unwrap(), b"for somebody else", world.now);
    world.run();
    assert_eq!(world.receive(1, socket), answer(1, b"new"));
}

#[test]
fn a_query_over_udp_is_answered() {
    let mut host = host(1, 1);
    for from in [peer(1, DNS_ALIAS), peer(2, DNS_ALIAS), peer6(3, dns())] {
        let l4 = udp(5000, 53, b"who", from.on_the_wire);
        host.handle_input(from, dns(), protocol::UDP, &l4, NOW).unwrap();
        let query = host.poll_query().unwrap();
        assert_eq!((query.realm, query.transport, &query.bytes[..]), (from.realm, Transport::Udp, &b"who"[..]));
        host.respond(query.id, b"me", NOW);
        let packet = host.poll_transmit(NOW).unwrap();
        assert_eq!(ends(&packet), (dns().addr(), from.source.addr()));
        let back = AddressPair::V6 { source: dns().addr(), destination: from.source.addr() };
        assert_eq!(packet.l4, udp(53, 5000, b"me", back));
        // No answer due, and one that fits into no datagram.
        host.respond(query.id, b"", NOW);
        host.respond(query.id, &vec![0; 65_535], NOW);
        assert_eq!(host.poll_transmit(NOW), None);
    }
}

#[test]
fn waiting_answers_go_by_network_and_length() {
    let mut host = host(1, 1);
    for (realm, source_port, answer) in
        [(2, 1, "short"), (1, 2, "short"), (2, 3, "longest"), (1, 4, "longest"), (2, 5, "short")]
    {
        let from = peer(realm, DNS_ALIAS);
        let l4 = udp(source_port, 53, b"who", from.on_the_wire);
        host.handle_input(from, dns(), protocol::UDP, &l4, NOW).unwrap();
        let query = host.poll_query().unwrap();
        host.respond(query.id, answer.as_bytes(), NOW);
    }
    host.arrange();
    let port = |packet: HostPacket| u16::from_be_bytes([packet.l4[2], packet.l4[3]]);
    let sent: Vec<u16> = std::iter::from_fn(|| host.poll_transmit(NOW)).map(port).collect();
    assert_eq!(sent, [4, 2, 3, 1, 5], "equal ones in the order in which they were asked for");
}

#[test]
fn echo_is_answered_in_both_families_on_both_addresses() {
    let mut host = host(1, 1);
    for (destination, alias) in [(gateway(), GATEWAY_ALIAS), (dns(), DNS_ALIAS)] {
        for (from, protocol, request) in [
            (peer(1, alias), protocol::ICMP, translate::ECHO_REQUEST_V4),
            (peer6(1, destination), protocol::ICMPV6, translate::ECHO_REQUEST_V6),
        ] {
            let mut ping = vec![request, 0, 0, 0, 1, 2, 3, 4, b'p', b'i', b'n', b'g', b'!'];
            translate::translate(protocol, &mut ping, from.on_the_wire).unwrap();
            host.handle_input(from, destination, protocol, &ping, NOW).unwrap();
            let packet = host.poll_transmit(NOW).unwrap();
            assert_eq!(ends(&packet), (destination.addr(), from.source.addr()));
            let sent = AddressPair::V6 { source: destination.addr(), destination: from.source.addr() };
            assert!(translate::is_intact(packet.protocol, &packet.l4, sent));
            assert_eq!((packet.l4[0], &packet.l4[4..]), (translate::ECHO_REPLY_V6, &ping[4..]));
            // As an IPv4 realm gets it.
            let mut l4 = packet.l4;
            let to = AddressPair::V4 { source: alias, destination: NATIVE };
            assert_eq!(translate::translate(packet.protocol, &mut l4, to), Some(protocol::ICMP));
            assert_eq!(l4[0], translate::ECHO_REPLY_V4);
        }
    }
}

#[test]
fn damaged_packets_are_dropped() {
    let from = peer(1, DNS_ALIAS);
    let good = udp(5000, 53, b"who", from.on_the_wire);
    let mut damaged = good.clone();
    damaged[10] ^= 0x40;
    let from_nobody = udp(0, 53, b"who", from.on_the_wire);
    let mut ping = vec![translate::ECHO_REQUEST_V4, 0, 0, 0, 1, 2, 3, 4];
    let mut host = host(1, 1);
    for (protocol, l4) in [
        (protocol::UDP, &damaged[..]),
        (protocol::UDP, &good[..good.len() - 1]),
        (protocol::UDP, &good[..4]),
        (protocol::UDP, &from_nobody),
        (protocol::TCP, &[0x13, 0x88, 0, 53, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 1, 2, 0, 0]),
        (protocol::TCP, &[0x13, 0x88, 0, 53]),
        (protocol::ICMP, &ping[..]),
        (protocol::ICMP, &ping[..3]),
    ] {
        assert_eq!(host.handle_input(from, dns(), protocol, l4, NOW), Err(DropReason::InnerMalformed), "{l4:?}");
    }
    // Right under other addresses than those it came with.
    assert_eq!(
        host.handle_input(peer(1, GATEWAY_ALIAS), dns(), protocol::UDP, &good, NOW),
        Err(DropReason::InnerMalformed)
    );
    // An echo request with a code is none.
    ping[1] = 1;
    ping[2..4].copy_from_slice(&(!(0x0801u16 + 0x0102 + 0x0304)).to_be_bytes());
    assert_eq!(host.handle_input(from, dns(), protocol::ICMP, &ping, NOW), Err(DropReason::InnerMalformed));
    assert_eq!((host.poll_query(), host.poll_transmit(NOW)), (None, None));
}

#[test]
fn what_is_not_offered_is_refused() {
    let mut host = host(1, 1);
    let elsewhere = space().embed(RealmId::IX, "100.127.255.9".parse().unwrap());
    for (destination, protocol, l4) in [
        (dns(), protocol::UDP, udp(5000, 54, b"x", wire_addresses(DNS_ALIAS))),
        (gateway(), protocol::UDP, udp(5000, 53, b"x", wire_addresses(GATEWAY_ALIAS))),
        (elsewhere, protocol::UDP, udp(5000, 53, b"x", wire_addresses(DNS_ALIAS))),
        (dns(), protocol::TCP, vec![0x13, 0x88, 0x01, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        (dns(), protocol::ICMP, vec![translate::ECHO_REPLY_V4, 0, 0xff, 0xff, 0, 0, 0, 0]),
        (elsewhere, protocol::ICMP, vec![translate::ECHO_REQUEST_V4, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        (dns(), protocol::ICMP, vec![]),
        (dns(), 47, vec![0; 40]),
    ] {
        let from = peer(1, DNS_ALIAS);
        assert_eq!(host.handle_input(from, destination, protocol, &l4, NOW), Err(DropReason::ServiceNotOffered));
    }
    assert_eq!(host.poll_transmit(NOW), None);
}

#[test]
fn the_queues_have_an_end() {
    let from = peer(1, DNS_ALIAS);
    let query = udp(5000, 53, b"who", from.on_the_wire);
    let mut ping = vec![translate::ECHO_REQUEST_V4, 0, 0, 0, 1, 2, 3, 4];
    translate::translate(protocol::ICMP, &mut ping, from.on_the_wire).unwrap();
    let mut host = host(1, 1);
    for _ in 0..MAX_WAITING / 2 {
        host.handle_input(from, dns(), protocol::UDP, &query, NOW).unwrap();
        host.handle_input(from, dns(), protocol::ICMP, &ping, NOW).unwrap();
    }
    let full = Err(DropReason::HostQueueFull);
    assert_eq!(host.handle_input(from, dns(), protocol::UDP, &query, NOW), full);
    assert_eq!(host.handle_input(from, dns(), protocol::ICMP, &ping, NOW), full);
    // Every query that was taken in has room for its answer.
    while let Some(query) = host.poll_query() {
        host.respond(query.id, b"me", NOW);
    }
    assert_eq!(std::iter::from_fn(|| host.poll_transmit(NOW)).count(), MAX_WAITING);

    // TCP: each stray segment is answered with a reset.
    let mut stray = vec![0x13, 0x88, 0, 53, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0];
    translate::translate(protocol::TCP, &mut stray, from.on_the_wire).unwrap();
    for _ in 0..MAX_WAITING {
        host.handle_input(from, dns(), protocol::TCP, &stray, NOW).unwrap();
    }
    assert_eq!(host.handle_input(from, dns(), protocol::TCP, &stray, NOW), full);
    assert_eq!(std::iter::from_fn(|| host.poll_transmit(NOW)).count(), MAX_WAITING);
    host.handle_input(from, dns(), protocol::TCP, &stray, NOW).unwrap();
}

/// One segment with everything that matters chosen badly, and a right checksum.
fn segment(port: u16, seq: u32, ack: u32, flags: u8, window: u16, payload: &[u8]) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend_from_slice(&port.to_be_bytes());
    l4.extend_from_slice(&53u16.to_be_bytes());
    l4.extend_from_slice(&seq.to_be_bytes());
    l4.extend_from_slice(&ack.to_be_bytes());
    l4.extend_from_slice(&[0x50, flags]);
    l4.extend_from_slice(&window.to_be_bytes());
    l4.extend_from_slice(&[0; 4]);
    l4.extend_from_slice(payload);
    translate::translate(protocol::TCP, &mut l4, wire_addresses(DNS_ALIAS)).unwrap();
    l4
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_never_panic(
        packets in prop::collection::vec(
            (prop::sample::select(vec![1u8, 6, 17, 58, 0]), prop::collection::vec(any::<u8>(), 0..80), any::<bool>()), 1..40,
        ),
    ) {
        let mut host = host(4, 2);
        for (protocol, mut l4, dressed) in packets {
            if dressed && l4.len() > 20 {
                // So that something gets past the door.
                l4[2..4].copy_from_slice(&53u16.to_be_bytes());
                l4[12] = 0x50;
                translate::translate(protocol, &mut l4, wire_addresses(DNS_ALIAS));
            }
            let _ = host.handle_input(peer(1, DNS_ALIAS), dns(), protocol, &l4, NOW);
            while host.poll_transmit(NOW).is_some() {}
        }
    }

    /// Segments near a live connection's sequence numbers, in any order and state, with time passing.
    #[test]
    fn no_sequence_of_segments_brings_a_connection_down_hard(
        steps in prop::collection::vec(
            (0u8..3, -3i32..3000, -3i32..3000, any::<u8>(), any::<u16>(), 0usize..1300, 0u64..4000), 1..60,
        ),
    ) {
        let mut host = host(4, 3);
        let mut now = NOW;
        // Where the host's own numbers are: learnt from what it sends.
        let mut theirs = [0u32; 3];
        for (port, seq, ack, flags, window, len, wait_ms) in steps {
            let at = usize::from(port);
            let seq = 1000u32.wrapping_add_signed(seq);
            let ack = theirs[at].wrapping_add_signed(ack);
            let payload: Vec<u8> = framed(&[0; 100]).into_iter().cycle().take(len).collect();
            let l4 = segment(5000 + u16::from(port), seq, ack, flags & 0x1f, window, &payload);
            let _ = host.handle_input(peer(1, DNS_ALIAS), dns(), protocol::TCP, &l4, now);
            while let Some(query) = host.poll_query() {
                host.respond(query.id, &[1; 3000], now);
            }
            while let Some(packet) = host.poll_transmit(now) {
                let port = usize::from(u16::from_be_bytes([packet.l4[2], packet.l4[3]])).saturating_sub(5000);
                theirs[port] = u32::from_be_bytes(packet.l4[4..8].try_into().unwrap());
            }
            prop_assert!(host.tcp_connections() <= 3);
            now = now + Duration::from_millis(wait_ms);
            host.handle_timeout(now);
        }
        for _ in 0..30 {
            now = now + secs(1);
            host.handle_timeout(now);
            while host.poll_query().is_some() {}
            while host.poll_transmit(now).is_some() {}
        }
        prop_assert_eq!(host.tcp_connections(), 0);
        prop_assert_eq!(host.poll_timeout(), None);
    }
}
