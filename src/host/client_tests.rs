use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, UdpPacket};

use super::device::Wire;
use super::fixture::{dns, framed, gateway, host, space};
use super::tcp::{ipv6_packet, without_header};
use super::*;
use crate::net::policy::protocol;
use crate::net::random::Seeded;
use crate::net::{Canonical, RealmId, Timestamp};
use crate::packet::DropReason;

const REALM: RealmId = RealmId(2);

fn resolver() -> Canonical {
    space().embed(REALM, [192, 168, 1, 53].into())
}

fn stranger() -> Canonical {
    space().embed(RealmId(3), [192, 168, 1, 53].into())
}

/// As the packet path announces a packet of this IPv6 host.
fn from(source: Canonical) -> Peer {
    let on_the_wire = AddressPair::V6 { source: source.addr(), destination: dns().addr() };
    Peer { realm: REALM, source, on_the_wire }
}

fn datagram(source: Canonical, source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let addresses = AddressPair::V6 { source: source.addr(), destination: dns().addr() };
    fixture::udp(source_port, port, payload, addresses)
}

fn ask(host: &mut Host, id: u64, transport: Transport, random: &mut Seeded) -> Result<(), NoRoom> {
    ask_at(host, id, resolver(), REALM, transport, random)
}

fn ask_at(
    host: &mut Host,
    id: u64,
    address: Canonical,
    realm: RealmId,
    transport: Transport,
    random: &mut Seeded,
) -> Result<(), NoRoom> {
    let question = Question { id: ClientId(id), realm, address, port: 53, transport };
    host.ask(question, b"question", Timestamp::ZERO, random)
}

#[test]
fn only_who_was_asked_may_answer_to_the_port_that_it_was_asked_from() {
    let (mut host, mut random, now) = (host(4, 4), Seeded(1), Timestamp::ZERO);
    ask(&mut host, 7, Transport::Udp, &mut random).unwrap();
    let sent = host.poll_transmit(now).unwrap();
    assert_eq!((sent.source, sent.destination, sent.protocol), (dns(), resolver(), protocol::UDP));
    let udp = UdpPacket::new_checked(&sent.l4[..]).unwrap();
    let port = udp.src_port();
    assert!((udp.dst_port(), udp.payload()) == (53, &b"question"[..]) && port >= 1024);
    let mut input = |source, source_port, port| {
        let l4 = datagram(source, source_port, port, b"answer");
        let result = host.handle_input(from(source), dns(), protocol::UDP, &l4, now);
        (result, host.poll_reply())
    };
    let refused = (Err(DropReason::ServiceNotOffered), None);
    assert_eq!(input(stranger(), 53, port), refused, "the same address in another realm");
    assert_eq!(input(resolver(), 54, port), refused);
    assert_eq!(input(resolver(), 53, port ^ 1), refused);
    let reply = Reply { id: ClientId(7), bytes: Some(b"answer".to_vec()) };
    assert_eq!(input(resolver(), 53, port), (Ok(()), Some(reply)));
    host.cancel(ClientId(7), now);
    let late = host.handle_input(from(resolver()), dns(), protocol::UDP, &datagram(resolver(), 53, port, b"x"), now);
    assert_eq!((late, host.clients()), (Err(DropReason::ServiceNotOffered), 0));
}

#[test]
fn open_questions_are_bounded_and_their_ports_differ() {
    let (mut host, mut random) = (host(4, 4), Seeded(1));
    let opened = |host: &mut Host, random: &mut Seeded, transport| {
        (0..20).filter(|id| ask(host, *id, transport, random).is_ok()).count()
    };
    let elsewhere = |host: &mut Host, random: &mut Seeded| {
        (20..40).filter(|id| ask_at(host, *id, stranger(), RealmId(3), Transport::Tcp, random).is_ok()).count()
    };
    assert_eq!(opened(&mut host, &mut random, Transport::Udp), 8);
    assert_eq!(opened(&mut host, &mut random, Transport::Tcp), 3, "into one realm");
    assert_eq!(elsewhere(&mut host, &mut random), 1, "what one realm's resolvers could not take");
    let packets: Vec<_> = std::iter::from_fn(|| host.poll_transmit(Timestamp::ZERO)).collect();
    let ports: std::collections::BTreeSet<_> = packets.iter().map(|p| (p.protocol, p.l4[..2].to_vec())).collect();
    assert_eq!((packets.len(), ports.len()), (12, 12));
    for id in 0..40 {
        host.cancel(ClientId(id), Timestamp::ZERO);
    }
    assert_eq!((host.clients(), host.poll_timeout()), (0, None));
}

/// A resolver with a stack of its own.
struct Server {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    handle: SocketHandle,
    inbox: VecDeque<HostPacket>,
}

impl Server {
    fn new() -> Server {
        let mut wire = Wire::new(1280, 4096);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(resolver().addr().into(), 128)).unwrap());
        interface.routes_mut().add_default_ipv6_route(gateway().addr()).unwrap();
        let buffer = || SocketBuffer::new(vec![0; 100_000]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen(53).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Server { interface, sockets, wire, handle, inbox: VecDeque::new() }
    }

    /// Until both have nothing to say at this moment.
    fn run(&mut self, host: &mut Host, now: Timestamp) {
        let at = Instant::from_micros(now.as_micros() as i64);
        loop {
            self.inbox.extend(std::iter::from_fn(|| host.poll_transmit(now)));
            let mut is_idle = self.inbox.is_empty();
            while let Some(packet) = self.inbox.pop_front() {
                self.wire.incoming = Some(ipv6_packet(packet.source, packet.destination, &packet.l4));
                self.interface.poll_ingress_single(at, &mut self.wire, &mut self.sockets);
            }
            while self.interface.poll_egress(at, &mut self.wire, &mut self.sockets) != PollResult::None {}
            for packet in self.wire.outgoing.drain(..).filter_map(without_header) {
                is_idle = false;
                let _ = host.handle_input(from(resolver()), dns(), packet.protocol, &packet.l4, now);
            }
            if is_idle {
                return;
            }
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

#[test]
fn a_long_answer_comes_over_tcp_in_one_piece() {
    let (mut host, mut random, mut server) = (host(4, 4), Seeded(1), Server::new());
    let mut now = Timestamp::ZERO;
    ask(&mut host, 7, Transport::Tcp, &mut random).unwrap();
    server.run(&mut host, now);
    let mut asked = vec![0; 100];
    let len = server.socket().recv_slice(&mut asked).unwrap();
    assert_eq!(asked[..len], framed(b"question"));
    let answer: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    server.socket().send_slice(&framed(&answer)).unwrap();
    let mut reply = None;
    for _ in 0..200 {
        server.run(&mut host, now);
        reply = reply.or_else(|| host.poll_reply());
        if reply.is_some() {
            break;
        }
        now = now + Duration::from_millis(20);
        host.handle_timeout(now);
    }
    assert_eq!(reply, Some(Reply { id: ClientId(7), bytes: Some(answer) }));
    server.run(&mut host, now);
    assert_eq!((host.clients(), host.poll_timeout()), (0, None));
    assert!(!server.socket().is_open(), "told that it is over");
}

#[test]
fn a_refused_or_broken_connection_is_told() {
    let (mut host, mut random, mut server) = (host(4, 4), Seeded(1), Server::new());
    server.socket().abort();
    ask(&mut host, 7, Transport::Tcp, &mut random).unwrap();
    server.run(&mut host, Timestamp::ZERO);
    assert_eq!(host.poll_reply(), Some(Reply { id: ClientId(7), bytes: None }));

    let mut server = Server::new();
    ask(&mut host, 8, Transport::Tcp, &mut random).unwrap();
    server.run(&mut host, Timestamp::ZERO);
    server.socket().send_slice(&[0, 50, 1, 2, 3]).unwrap();
    server.socket().close();
    server.run(&mut host, Timestamp::ZERO);
    assert_eq!(host.poll_reply(), Some(Reply { id: ClientId(8), bytes: None }));
    assert_eq!(host.clients(), 0);
}
