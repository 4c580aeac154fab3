//! What RFC 7296 demands and no other test shows; `docs/conformance-ikev2.md` says where each of its MUSTs is met.
//!
//! `first` is about IKE_SA_INIT, which anyone can write; `sealed` about what a peer can do that has the keys; `errors` about
//! refusals, and which of them are the end; `life` about an IKE SA as a whole; `path_probe` about messages that come whole
//! and then in fragments (RFC 7383).

mod errors;
mod first;
mod life;
mod path_probe;
mod sealed;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::world::*;
use crate::ike::protect::Inside;
use crate::ike::sa::{IkeSa, Task};
use crate::packet::Outbox;
use crate::wire::ike::{self, ExchangeType, Notify, Payload, notify as kinds};

/// What each side sends from now on, in order.
fn record(world: &mut World) -> Arc<Mutex<Vec<Packet>>> {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = sent.clone();
    world.filter = Box::new(move |packet| {
        seen.lock().unwrap().push(packet.clone());
        true
    });
    sent
}

/// The tunnel is up, and nothing is under way.
fn up() -> World {
    let mut world = World::pair(1);
    world.run_for(5);
    assert!(world.is_up(), "{}", world.dump());
    world
}

fn sa(world: &mut World, host: usize) -> &mut IkeSa {
    let endpoint = &mut world.hosts[host].endpoint;
    let peer = endpoint.peers.get(TUNNEL).unwrap();
    let spi = peer.sas.last().copied().or(peer.attempt).unwrap();
    &mut endpoint.sas.get_mut(&spi).unwrap().sa
}

/// A message with these bytes inside, sealed as the next request of this host.
fn sealed_bytes(world: &mut World, from: usize, exchange: ExchangeType, inside: &Inside) -> Packet {
    let sa = sa(world, from);
    let header = sa.header(exchange, false, sa.outgoing.next_id());
    let message = sa.session.as_mut().unwrap().protection.seal(&header, inside, None).remove(0);
    packet(from, 1 - from, &message)
}

fn sealed(world: &mut World, from: usize, exchange: ExchangeType, payloads: &[Payload]) -> Packet {
    sealed_bytes(world, from, exchange, &Inside::of(payloads))
}

/// Through UDP, with the marker in front.
fn packet(from: usize, to: usize, message: &[u8]) -> Packet {
    let bytes = [&[0; 4], message].concat();
    Packet { number: 0, from: SocketAddr::new(ip(from), 4500), to: SocketAddr::new(ip(to), 4500), bytes }
}

/// What this host makes of an answer.
fn opened(world: &mut World, host: usize, message: &[u8]) -> Vec<Payload> {
    let header = ike::parse_header(message).unwrap();
    let protected = ike::find_protected(header.next_payload, message, &Default::default()).unwrap().unwrap();
    let plain = sa(world, host).session.as_ref().unwrap().protection.open(message, &protected).unwrap();
    ike::parse_payloads(protected.inner_first, &plain, &Default::default()).unwrap()
}

/// Messages of an outbox, without the marker.
fn messages(outbox: &Outbox) -> Vec<Vec<u8>> {
    outbox.datagrams().map(|(_, _, bytes)| bytes.strip_prefix(&[0; 4]).unwrap_or(bytes).to_vec()).collect()
}

/// `from` asks something that it would never ask by itself, and gets one answer.
fn ask(world: &mut World, from: usize, exchange: ExchangeType, payloads: &[Payload]) -> Vec<Payload> {
    let request = sealed(world, from, exchange, payloads);
    let answers = messages(&world.hand_over(1 - from, &request));
    assert_eq!(answers.len(), 1, "one answer");
    let asked = sa(world, from);
    asked.outgoing.begin(Vec::new(), crate::net::Timestamp::ZERO); // its number is used
    asked.outgoing.finish();
    opened(world, from, &answers[0])
}

fn note(kind: u16, data: &[u8]) -> Payload {
    Payload::Notify(Notify::new(kind, data.to_vec()))
}

/// The answer of this host to a request of the other one, whatever it would have said itself.
fn forged_answer(world: &mut World, from: usize, request: &Packet, payloads: &[Payload]) -> Packet {
    let asked = ike::parse_header(request.message()).unwrap();
    let sa = sa(world, from);
    let header = sa.header(asked.exchange, true, asked.message_id);
    let message = sa.session.as_mut().unwrap().protection.seal(&header, &Inside::of(payloads), None).remove(0);
    sa.incoming.note(request.message(), 0);
    sa.incoming.answered(vec![message.clone()]);
    packet(from, 1 - from, &message)
}

/// What `from` asks when it wants this, taken out of the network.
fn begin(world: &mut World, from: usize, task: Task) -> Packet {
    let spi = sa(world, from).our_spi;
    let mut outbox = Outbox::new(1 << 16, 16);
    world.hosts[from].endpoint.with_sa(spi, &mut outbox, |sa, cx| {
        sa.want(task, cx);
        sa.make_requests(cx);
    });
    let [request] = &messages(&outbox)[..] else { panic!("one request") };
    packet(from, 1 - from, request)
}

/// The types of the notifies.
fn notes(payloads: &[Payload]) -> Vec<u16> {
    let kind = |payload: &Payload| match payload {
        Payload::Notify(notify) => Some(notify.kind),
        _ => None,
    };
    payloads.iter().filter_map(kind).collect()
}

/// The payloads of a message in clear.
fn clear(message: &[u8]) -> Vec<Payload> {
    let header = ike::parse_header(message).unwrap();
    ike::parse_payloads(header.next_payload, &message[28..], &Default::default()).unwrap()
}

fn is(kind: u16) -> impl Fn(&Payload) -> bool {
    move |payload| matches!(payload, Payload::Notify(notify) if notify.kind == kind)
}

/// An IKE_SA_INIT request of A, and A still waiting for the answer.
fn calling(seed: u64) -> (World, Packet) {
    let mut world = World::new(seed);
    world.check_gaps = false;
    world.add(seed, Default::default(), vec![crate::ike::PeerConfig { initiate: true, ..peer(A, B) }]);
    let sent = record(&mut world);
    world.run_until(world.now);
    let request = sent.lock().unwrap().remove(0);
    (world, request)
}

/// Only B, which waits to be called.
fn called(limits: crate::ike::Limits) -> World {
    let mut world = World::new(99);
    world.check_gaps = false;
    world.add(1, limits.clone(), vec![]);
    world.add(2, limits, vec![peer(B, A)]);
    world
}

/// The error of a refusal, and nothing else.
fn refused(answer: &[Payload]) -> u16 {
    match answer {
        [Payload::Notify(notify)] => notify.kind,
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn the_helpers_ask_as_a_peer_does() {
    let mut world = up();
    for from in [A, B, A] {
        assert_eq!(ask(&mut world, from, ExchangeType::INFORMATIONAL, &[]), [], "alive");
    }
    assert_eq!(notes(&[note(kinds::COOKIE, &[1])]), [kinds::COOKIE]);
}
