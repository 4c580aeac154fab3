//! Which packet for the IX goes where, and the queues between the host and whoever drives it.

use std::cmp::Reverse;
use std::collections::VecDeque;

use smoltcp::wire::{TcpPacket, UdpPacket};

use super::client::{ClientId, Clients, NoRoom, Question, Reply};
use super::tcp::{Remote, TcpServer};
use super::translate::{self, AddressPair};
use crate::net::policy::protocol;
use crate::net::random::Random;
use crate::net::{Canonical, RealmId, Timestamp};
use crate::packet::DropReason;

/// Queries and packets that wait to be fetched. A driver that fetches after each batch never gets near it.
pub const MAX_WAITING: usize = 1024;

pub(super) const DNS_PORT: u16 = 53;
const UDP_HEADER_BYTES: usize = 8;

#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Answers echo.
    pub gateway: Canonical,
    /// Answers DNS and echo.
    pub dns: Canonical,
    /// DNS-over-TCP connections in all ...
    pub dns_tcp: usize,
    /// ... and from one realm.
    pub dns_tcp_per_realm: usize,
    /// Questions of our own under way over UDP ...
    pub clients_udp: usize,
    /// ... over TCP ...
    pub clients_tcp: usize,
    /// ... and of these into one realm, as its resolvers may keep them open for long.
    pub clients_tcp_per_realm: usize,
    /// Largest packet that TCP makes, with an IPv6 header.
    pub mtu_bytes: usize,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub realm: RealmId,
    pub source: Canonical,
    /// The addresses in the header that came with it: the checksum is right under these.
    pub on_the_wire: AddressPair,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Udp,
    Tcp,
}

/// One DNS query, without TCP's length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    pub id: QueryId,
    pub realm: RealmId,
    pub source: Canonical,
    pub transport: Transport,
    pub bytes: Vec<u8>,
}

/// Where the answer goes. Nothing is remembered about a query that never gets one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueryId(ReturnPath);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReturnPath {
    Udp(Remote),
    /// `connection` tells a connection from a later one by the same remote.
    Tcp {
        remote: Remote,
        connection: u64,
    },
}

/// A packet from the IX to a realm's host; `l4` has the checksum for IPv6 with these addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPacket {
    pub source: Canonical,
    pub destination: Canonical,
    pub protocol: u8,
    pub l4: Vec<u8>,
}

/// The IX's own addresses. Pure: no clock, socket or randomness of its own.
/// After any `handle_*`, `ask` or `respond`, drain `poll_query` (and respond) and `poll_reply`, then `poll_transmit`, then read `poll_timeout`.
pub struct Host {
    config: HostConfig,
    queries: VecDeque<Query>,
    /// Echo replies and UDP answers; TCP has its own queue.
    packets: VecDeque<HostPacket>,
    tcp: TcpServer,
    clients: Clients,
}

impl Host {
    /// `seed` makes TCP's initial sequence numbers; take it from the system's randomness.
    pub fn new(config: HostConfig, seed: u64, now: Timestamp) -> Host {
        let tcp = TcpServer::new(&config, seed, now);
        let clients = Clients::new(&config, seed.rotate_left(8), now);
        Host { config, queries: VecDeque::new(), packets: VecDeque::new(), tcp, clients }
    }

    /// A packet for one of the IX's addresses. `l4` is everything behind the IP header, as it was on the wire.
    pub fn handle_input(
        &mut self,
        from: Peer,
        destination: Canonical,
        protocol: u8,
        l4: &[u8],
        now: Timestamp,
    ) -> Result<(), DropReason> {
        match self.service(destination, protocol, l4).ok_or(DropReason::ServiceNotOffered)? {
            _ if !translate::is_intact(protocol, l4, from.on_the_wire) => Err(DropReason::InnerMalformed),
            Service::Echo => self.handle_echo(from, destination, protocol, l4),
            Service::DnsUdp => self.handle_udp(from, l4),
            Service::UdpReply => self.clients.handle_datagram(from.source, l4),
            Service::TcpReply => self.clients.handle_segment(from.source, l4, now),
            Service::DnsTcp => self.tcp.handle_segment(from.realm, from.source, l4, now, &mut self.queries),
        }
    }

    /// The next query to be answered with [`Host::respond`].
    pub fn poll_query(&mut self) -> Option<Query> {
        self.queries.pop_front()
    }

    /// An empty `answer` says that none is due: UDP stays silent, TCP closes the connection.
    pub fn respond(&mut self, id: QueryId, answer: &[u8], now: Timestamp) {
        match id.0 {
            ReturnPath::Tcp { remote, connection } => {
                self.tcp.respond(remote, connection, answer, now, &mut self.queries);
            }
            ReturnPath::Udp(remote) => {
                let room = self.packets.len() < MAX_WAITING; // always, as a query is only taken in when there is
                if let Some(packet) = udp_packet(self.config.dns, DNS_PORT, remote, answer).filter(|_| room) {
                    self.packets.push_back(packet);
                }
            }
        }
    }

    /// Asks a host in a realm from a random port of the DNS address. What comes back comes out of
    /// [`Host::poll_reply`], until [`Host::cancel`].
    pub fn ask(
        &mut self,
        question: Question,
        message: &[u8],
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<(), NoRoom> {
        let Question { id, realm, address, port, transport } = question;
        let remote = Remote { address, port };
        match transport {
            Transport::Tcp => self.clients.ask_tcp((id, realm), remote, message, now, random),
            Transport::Udp => {
                self.check_room().map_err(|_| NoRoom)?;
                let packet = self.clients.ask_udp(id, remote, message, random)?;
                self.packets.push_back(packet);
                Ok(())
            }
        }
    }

    /// Closes what was opened for a question.
    pub fn cancel(&mut self, id: ClientId, now: Timestamp) {
        self.clients.cancel(id, now);
    }

    pub fn poll_reply(&mut self) -> Option<Reply> {
        self.clients.poll_reply()
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.clients.handle_timeout(now);
        self.tcp.handle_timeout(now, &mut self.queries);
    }

    /// Before a row of `poll_transmit`: what waits is put in order of the receiver's network and of length, the longest
    /// first. Datagrams of one length to one tunnel leave in one message, and those of UDP and echo keep no order.
    pub fn arrange(&mut self) {
        let receivers_network = |packet: &HostPacket| packet.destination.0 >> 64;
        let packets = self.packets.make_contiguous();
        packets.sort_unstable_by_key(|packet| (receivers_network(packet), Reverse(packet.l4.len())));
    }

    pub fn poll_transmit(&mut self, now: Timestamp) -> Option<HostPacket> {
        let packet = self.packets.pop_front().or_else(|| self.tcp.poll_transmit(now));
        packet.or_else(|| self.clients.poll_transmit(now))
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.tcp.poll_timeout().into_iter().chain(self.clients.poll_timeout()).min()
    }

    /// After a new configuration: connections whose address belongs to another realm now vanish without a word, so
    /// that nobody inherits what somebody else was asking.
    pub fn retain_connections(&mut self, keep: impl Fn(RealmId, Canonical) -> bool) {
        self.tcp.retain(keep);
    }

    /// Open TCP connections of all realms.
    pub fn tcp_connections(&self) -> usize {
        self.tcp.connections()
    }

    /// Questions of our own under way.
    pub fn clients(&self) -> usize {
        self.clients.open()
    }

    /// What a packet asks for, from its first bytes; the rest is looked at when there is such a service.
    fn service(&self, destination: Canonical, protocol: u8, l4: &[u8]) -> Option<Service> {
        let is_dns = destination == self.config.dns;
        let is_echo = |request| l4.first() == Some(&request) && (is_dns || destination == self.config.gateway);
        let port = || l4.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
        match protocol {
            protocol::ICMP => is_echo(translate::ECHO_REQUEST_V4).then_some(Service::Echo),
            protocol::ICMPV6 => is_echo(translate::ECHO_REQUEST_V6).then_some(Service::Echo),
            protocol::UDP if is_dns => match port()? {
                DNS_PORT => Some(Service::DnsUdp),
                port => self.clients.has_udp(port).then_some(Service::UdpReply),
            },
            protocol::TCP if is_dns => match port()? {
                DNS_PORT => Some(Service::DnsTcp),
                port => self.clients.has_tcp(port).then_some(Service::TcpReply),
            },
            _ => None,
        }
    }

    fn handle_echo(&mut self, from: Peer, destination: Canonical, protocol: u8, l4: &[u8]) -> Result<(), DropReason> {
        self.check_room()?;
        let mut l4 = l4.to_vec();
        l4[0] = match protocol {
            protocol::ICMP => translate::ECHO_REPLY_V4,
            _ => translate::ECHO_REPLY_V6,
        };
        let back = AddressPair::V6 { source: destination.addr(), destination: from.source.addr() };
        let protocol = translate::translate(protocol, &mut l4, back).ok_or(DropReason::InnerMalformed)?;
        self.packets.push_back(HostPacket { source: destination, destination: from.source, protocol, l4 });
        Ok(())
    }

    fn handle_udp(&mut self, from: Peer, l4: &[u8]) -> Result<(), DropReason> {
        let udp = UdpPacket::new_checked(l4).map_err(|_| DropReason::InnerMalformed)?;
        if udp.src_port() == 0 {
            return Err(DropReason::InnerMalformed); // nobody could be answered
        }
        self.check_room()?;
        let remote = Remote { address: from.source, port: udp.src_port() };
        let id = QueryId(ReturnPath::Udp(remote));
        let (realm, source) = (from.realm, from.source);
        self.queries.push_back(Query { id, realm, source, transport: Transport::Udp, bytes: udp.payload().into() });
        Ok(())
    }

    fn check_room(&self) -> Result<(), DropReason> {
        match self.queries.len() + self.packets.len() < MAX_WAITING {
            true => Ok(()),
            false => Err(DropReason::HostQueueFull),
        }
    }
}

impl QueryId {
    pub(super) fn tcp(remote: Remote, connection: u64) -> Self {
        QueryId(ReturnPath::Tcp { remote, connection })
    }
}

enum Service {
    Echo,
    DnsUdp,
    DnsTcp,
    /// To a question of our own.
    UdpReply,
    TcpReply,
}

pub(super) fn udp_packet(source: Canonical, port: u16, to: Remote, payload: &[u8]) -> Option<HostPacket> {
    let len = u16::try_from(UDP_HEADER_BYTES + payload.len()).ok().filter(|_| !payload.is_empty())?;
    let mut l4 = Vec::with_capacity(len.into());
    for field in [port, to.port, len, 0] {
        l4.extend_from_slice(&field.to_be_bytes());
    }
    l4.extend_from_slice(payload);
    let addresses = AddressPair::V6 { source: source.addr(), destination: to.address.addr() };
    let protocol = translate::translate(protocol::UDP, &mut l4, addresses)?;
    Some(HostPacket { source, destination: to.address, protocol, l4 })
}

/// For [`TcpServer`], which has a whole segment already.
pub(super) fn opens_connection(tcp: &TcpPacket<&[u8]>) -> bool {
    tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin()
}

/// A worker owns it.
const _: fn() = || {
    fn can_move_to_a_worker<T: Send>() {}
    can_move_to_a_worker::<Host>();
};
