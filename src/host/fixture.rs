//! Clients with stacks of their own around one host, in memory and virtual time.
//!
//! Every client is an IPv4 host 192.168.1.10, each in a realm of its own: what comes out of the host goes through
//! [`translate`] as it does in the packet path, and its checksum is looked at.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpProtocol, Ipv4Packet, Ipv4Repr};

use super::device::Wire;
use super::*;
use crate::net::policy::protocol;
use crate::net::{Canonical, RealmId, Space6, Timestamp};
use crate::packet::DropReason;

pub(super) const NATIVE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
/// The IX's addresses as aliases, the same for every realm.
pub(super) const GATEWAY_ALIAS: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 1);
pub(super) const DNS_ALIAS: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 2);

pub(super) fn space() -> Space6 {
    Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap()
}

pub(super) fn gateway() -> Canonical {
    space().embed(RealmId::IX, GATEWAY_ALIAS)
}

pub(super) fn dns() -> Canonical {
    space().embed(RealmId::IX, DNS_ALIAS)
}

pub(super) fn host(dns_tcp: usize, dns_tcp_per_realm: usize) -> Host {
    let config = HostConfig {
        gateway: gateway(),
        dns: dns(),
        dns_tcp,
        dns_tcp_per_realm,
        clients_udp: 8,
        clients_tcp: 4,
        clients_tcp_per_realm: 3,
        mtu_bytes: 1160,
    };
    Host::new(config, 42, Timestamp::ZERO)
}

pub(super) fn wire_addresses(destination: Ipv4Addr) -> AddressPair {
    AddressPair::V4 { source: NATIVE, destination }
}

/// The client of `realm`, as the packet path announces it.
pub(super) fn peer(realm: u16, destination: Ipv4Addr) -> Peer {
    let realm = RealmId(realm);
    Peer { realm, source: space().embed(realm, NATIVE), on_the_wire: wire_addresses(destination) }
}

/// The same host if it spoke IPv6 by its canonical address.
pub(super) fn peer6(realm: u16, destination: Canonical) -> Peer {
    let source = space().embed(RealmId(realm), NATIVE);
    let on_the_wire = AddressPair::V6 { source: source.addr(), destination: destination.addr() };
    Peer { realm: RealmId(realm), source, on_the_wire }
}

/// A UDP datagram with a right checksum.
pub(super) fn udp(source_port: u16, port: u16, payload: &[u8], addresses: AddressPair) -> Vec<u8> {
    let mut l4 = Vec::new();
    for field in [source_port, port, 8 + payload.len() as u16, 0] {
        l4.extend_from_slice(&field.to_be_bytes());
    }
    l4.extend_from_slice(payload);
    translate::translate(protocol::UDP, &mut l4, addresses).unwrap();
    l4
}

/// A DNS message as TCP carries it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

/// One realm's host.
pub(super) struct Client {
    realm: u16,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    inbox: VecDeque<Vec<u8>>,
}

pub(super) struct World {
    pub(super) host: Host,
    pub(super) now: Timestamp,
    pub(super) clients: Vec<Client>,
    /// What the host refused, in order.
    pub(super) drops: Vec<DropReason>,
    /// What the answer to a query is.
    pub(super) answer: fn(&Query) -> Vec<u8>,
}

impl World {
    /// One client for each of the realms 1 to `realms`.
    pub(super) fn new(host: Host, realms: u16) -> World {
        let clients = (1..=realms).map(Client::new).collect();
        let answer = |query: &Query| [&query.realm.0.to_be_bytes()[..], &query.bytes].concat();
        World { host, now: Timestamp::ZERO, clients, drops: Vec::new(), answer }
    }

    pub(super) fn client(&mut self, realm: u16) -> &mut Client {
        &mut self.clients[usize::from(realm) - 1]
    }

    /// A connection of `realm`'s client from `port`, as far as it gets.
    pub(super) fn connect(&mut self, realm: u16, port: u16) -> SocketHandle {
        let handle = self.client(realm).connect(port);
        self.run();
        handle
    }

    pub(super) fn socket(&mut self, realm: u16, handle: SocketHandle) -> &mut Socket<'static> {
        self.client(realm).sockets.get_mut(handle)
    }

    pub(super) fn send(&mut self, realm: u16, handle: SocketHandle, bytes: &[u8]) {
        assert_eq!(self.socket(realm, handle).send_slice(bytes), Ok(bytes.len()));
        self.run();
    }

    /// Everything that the client has received and not read.
    pub(super) fn receive(&mut self, realm: u16, handle: SocketHandle) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 17];
        let len = self.socket(realm, handle).recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    /// Until nobody has anything to say at this moment.
    pub(super) fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return;
            }
        }
        panic!("clients and host do not come to rest");
    }

    /// Lets time pass, waking everybody when they asked for it.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let host = self.host.poll_timeout().map(|(at, _)| at);
            let clients = self.clients.iter_mut().filter_map(|client| client.due(self.now));
            let next = clients.chain(host).min().unwrap_or(end).min(end);
            self.now = next.max(self.now + Duration::from_millis(1)).min(end);
            self.host.handle_timeout(self.now);
            self.run();
            if self.now >= end {
                return;
            }
        }
    }

    /// Half a step: what the clients have to say, without the host's side of it.
    pub(super) fn deliver_to_host(&mut self) -> bool {
        let mut busy = false;
        for client in &mut self.clients {
            for packet in client.exchange(self.now) {
                busy = true;
                let from = peer(client.realm, DNS_ALIAS);
                let l4 = &packet[20..];
                self.drops.extend(self.host.handle_input(from, dns(), packet[9], l4, self.now).err());
            }
        }
        busy
    }

    fn step(&mut self) -> bool {
        let mut busy = self.deliver_to_host();
        while let Some(query) = self.host.poll_query() {
            self.host.respond(query.id, &(self.answer)(&query), self.now);
        }
        while let Some(packet) = self.host.poll_transmit(self.now) {
            busy = true;
            self.deliver(packet);
        }
        busy
    }

    fn deliver(&mut self, packet: HostPacket) {
        let (realm, native) = space().extract(packet.destination).unwrap();
        assert_eq!((packet.source, native), (dns(), NATIVE));
        let sent = AddressPair::V6 { source: packet.source.addr(), destination: packet.destination.addr() };
        assert!(translate::is_intact(packet.protocol, &packet.l4, sent));
        assert!(packet.l4.len() + 40 <= 1280, "larger than the MTU");
        self.client(realm.0).inbox.push_back(ipv4_packet(packet));
    }
}

impl Client {
    fn new(realm: u16) -> Client {
        let mut wire = Wire::new(1420, 4096);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = realm.into();
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(NATIVE.into(), 24)).unwrap());
        interface.routes_mut().add_default_ipv4_route(NATIVE).unwrap();
        Client { realm, interface, sockets: SocketSet::new(Vec::new()), wire, inbox: VecDeque::new() }
    }

    fn connect(&mut self, port: u16) -> SocketHandle {
        let buffer = |len| SocketBuffer::new(vec![0; len]);
        let handle = self.sockets.add(Socket::new(buffer(20_000), buffer(20_000)));
        let socket = self.sockets.get_mut::<Socket>(handle);
        socket.connect(self.interface.context(), (DNS_ALIAS, 53), port).unwrap();
        handle
    }

    fn due(&mut self, now: Timestamp) -> Option<Timestamp> {
        let at = self.interface.poll_at(Instant::from_micros(now.as_micros() as i64), &self.sockets)?;
        Some(Timestamp::from_micros(at.total_micros() as u64))
    }

    /// Takes in what has arrived and gives what is to be sent, as IPv4 packets.
    fn exchange(&mut self, now: Timestamp) -> Vec<Vec<u8>> {
        let now = Instant::from_micros(now.as_micros() as i64);
        while let Some(packet) = self.inbox.pop_front() {
            self.wire.incoming = Some(packet);
            self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        }
        while self.interface.poll_egress(now, &mut self.wire, &mut self.sockets) != PollResult::None {}
        self.wire.outgoing.drain(..).collect()
    }
}

/// What the packet path does with a packet for an IPv4 realm.
fn ipv4_packet(mut packet: HostPacket) -> Vec<u8> {
    let addresses = AddressPair::V4 { source: DNS_ALIAS, destination: NATIVE };
    let protocol = translate::translate(packet.protocol, &mut packet.l4, addresses).unwrap();
    assert!(translate::is_intact(protocol, &packet.l4, addresses));
    let header = Ipv4Repr {
        src_addr: DNS_ALIAS,
        dst_addr: NATIVE,
        next_header: IpProtocol::from(protocol),
        payload_len: packet.l4.len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &Default::default());
    bytes.extend_from_slice(&packet.l4);
    bytes
}

/// Two ends of an answer packet, for tables of cases.
pub(super) fn ends(packet: &HostPacket) -> (Ipv6Addr, Ipv6Addr) {
    (packet.source.addr(), packet.destination.addr())
}
