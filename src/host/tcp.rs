//! DNS over TCP (RFC 7766): a bounded number of connections, pipelined queries, patience that ends.
//!
//! A connection is counted, against all and against its realm, before smoltcp sees its SYN: a realm that opens
//! thousands takes its own share and nobody else's. It has one query in work at a time; the next one stays in the
//! receive buffer, and so the window tells the client to wait. It ends ten seconds after its last *whole* query or its
//! last answer taken in full: single bytes, sent now and then, buy no time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpProtocol, Ipv6Packet, Ipv6Repr, TcpPacket};

use super::device::Wire;
use super::stack::{DNS_PORT, HostConfig, HostPacket, MAX_WAITING, Query, QueryId, Transport, opens_connection};
use crate::net::policy::protocol;
use crate::net::{Canonical, RealmId, Timestamp};
use crate::packet::DropReason;

/// RFC 7766 section 6.2.3: idle connections are closed after "the order of a few seconds".
const IDLE: Duration = Duration::from_secs(10);
/// For the closing handshake; then the connection is reset.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// A name of 255 bytes and options to spare. Longer "queries" end the connection.
const MAX_QUERY_BYTES: usize = 2046;
const LENGTH_BYTES: usize = 2;
/// Room for two queries; the client sees it as the window.
const RECEIVE_BYTES: usize = 2 * (LENGTH_BYTES + MAX_QUERY_BYTES);
/// Room for several answers of the usual size. What does not fit waits in [`Connection::unsent`].
const SEND_BYTES: usize = 8192;
/// What the page of this room says.
const _: () = assert!(RECEIVE_BYTES + SEND_BYTES == 12 * 1024);

const IPV6_HEADER_BYTES: usize = 40;

/// The other end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Remote {
    pub(super) address: Canonical,
    pub(super) port: u16,
}

pub(super) struct TcpServer {
    dns: Canonical,
    max_connections: usize,
    max_per_realm: usize,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    /// Ordered, so that a simulation runs the same way twice.
    connections: BTreeMap<Remote, Connection>,
    next_serial: u64,
    /// smoltcp's own deadline: retransmission, delayed acknowledgement.
    segment_due: Option<Timestamp>,
}

struct Connection {
    serial: u64,
    realm: RealmId,
    handle: SocketHandle,
    /// A query was handed out and has no answer yet.
    in_work: bool,
    /// The answer, as far as it has not been given to smoltcp.
    unsent: VecDeque<u8>,
    /// An answer is on its way and not yet acknowledged in full.
    sending: bool,
    closing: bool,
    deadline: Timestamp,
}

impl TcpServer {
    pub(super) fn new(config: &HostConfig, seed: u64, now: Timestamp) -> Self {
        let mut wire = Wire::new(config.mtu_bytes, MAX_WAITING);
        let interface = interface(config, seed, &mut wire, now);
        TcpServer {
            dns: config.dns,
            max_connections: config.dns_tcp,
            max_per_realm: config.dns_tcp_per_realm,
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
            connections: BTreeMap::new(),
            next_serial: 0,
            segment_due: None,
        }
    }

    /// A segment to port 53 of the DNS address, with a checksum that was right.
    pub(super) fn handle_segment(
        &mut self,
        realm: RealmId,
        source: Canonical,
        segment: &[u8],
        now: Timestamp,
        queries: &mut VecDeque<Query>,
    ) -> Result<(), DropReason> {
        let tcp = TcpPacket::new_checked(segment).map_err(|_| DropReason::InnerMalformed)?;
        if self.wire.is_full() {
            return Err(DropReason::HostQueueFull);
        }
        let remote = Remote { address: source, port: tcp.src_port() };
        // Without a connection and without a SYN, smoltcp answers with a reset.
        if opens_connection(&tcp) && !self.connections.contains_key(&remote) {
            self.open(remote, realm, now)?;
        }
        self.wire.incoming = Some(ipv6_packet(source, self.dns, segment));
        self.interface.poll_ingress_single(instant(now), &mut self.wire, &mut self.sockets);
        self.settle(remote, now, queries);
        Ok(())
    }

    pub(super) fn respond(
        &mut self,
        remote: Remote,
        serial: u64,
        answer: &[u8],
        now: Timestamp,
        queries: &mut VecDeque<Query>,
    ) {
        let Some(connection) = self.connections.get_mut(&remote).filter(|c| c.serial == serial && c.in_work) else {
            return; // gone in the meantime
        };
        connection.in_work = false;
        match u16::try_from(answer.len()) {
            Ok(len @ 1..) => {
                connection.unsent.extend(len.to_be_bytes());
                connection.unsent.extend(answer);
                connection.sending = true;
            }
            _ => self.sockets.get_mut::<Socket>(connection.handle).abort(),
        }
        self.settle(remote, now, queries);
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp, queries: &mut VecDeque<Query>) {
        let remotes: Vec<Remote> = self.connections.keys().copied().collect();
        for remote in &remotes {
            self.expire(*remote, now);
            self.advance(*remote, now, queries);
        }
        self.send(now);
        for remote in remotes {
            self.forget_if_over(remote);
        }
        self.update_due(now);
    }

    pub(super) fn poll_transmit(&mut self, now: Timestamp) -> Option<HostPacket> {
        if self.wire.outgoing.is_empty() && self.segment_due.is_some_and(|due| due <= now) {
            self.send(now);
            self.update_due(now);
        }
        while let Some(packet) = self.wire.outgoing.pop_front() {
            if let Some(packet) = without_header(packet) {
                return Some(packet);
            }
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let idle = self.connections.values().map(|connection| (connection.deadline, "dns over tcp: idle")).min();
        let segment = self.segment_due.map(|due| (due, "dns over tcp: retransmission"));
        idle.into_iter().chain(segment).min()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(RealmId, Canonical) -> bool) {
        let sockets = &mut self.sockets;
        self.connections.retain(|remote, connection| {
            let kept = keep(connection.realm, remote.address);
            if !kept {
                sockets.remove(connection.handle);
            }
            kept
        });
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    fn open(&mut self, remote: Remote, realm: RealmId, now: Timestamp) -> Result<(), DropReason> {
        let of_realm = self.connections.values().filter(|connection| connection.realm == realm).count();
        if self.connections.len() >= self.max_connections || of_realm >= self.max_per_realm {
            return Err(DropReason::HostQueueFull);
        }
        let mut socket = Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        // Answers are whole messages; waiting for more to send only delays them.
        socket.set_nagle_enabled(false);
        // The socket is new and the port is not zero, the two things that `listen` asks for.
        socket.listen((self.dns.addr(), DNS_PORT)).map_err(|_| DropReason::HostQueueFull)?;
        let connection = Connection {
            serial: self.next_serial,
            realm,
            handle: self.sockets.add(socket),
            in_work: false,
            unsent: VecDeque::new(),
            sending: false,
            closing: false,
            deadline: now + IDLE,
        };
        self.next_serial += 1;
        self.connections.insert(remote, connection);
        Ok(())
    }

    /// After something happened to one connection: moves it on, sends, and forgets it when it is over.
    fn settle(&mut self, remote: Remote, now: Timestamp, queries: &mut VecDeque<Query>) {
        self.advance(remote, now, queries);
        self.send(now);
        self.forget_if_over(remote);
        self.update_due(now);
    }

    /// Answers into smoltcp's buffer, the next query out of it.
    fn advance(&mut self, remote: Remote, now: Timestamp, queries: &mut VecDeque<Query>) {
        let Some(connection) = self.connections.get_mut(&remote) else { return };
        let socket = self.sockets.get_mut::<Socket>(connection.handle);
        connection.fill(socket, now);
        if let Some(bytes) = connection.take_query(socket, now) {
            let id = QueryId::tcp(remote, connection.serial);
            let (realm, source) = (connection.realm, remote.address);
            queries.push_back(Query { id, realm, source, transport: Transport::Tcp, bytes });
        }
    }

    /// Lets smoltcp send what it has, until it has nothing more or the queue is full.
    fn send(&mut self, now: Timestamp) {
        while self.interface.poll_egress(instant(now), &mut self.wire, &mut self.sockets) != PollResult::None {}
    }

    fn update_due(&mut self, now: Timestamp) {
        let due = self.interface.poll_at(instant(now), &self.sockets);
        let due = due.map(timestamp);
        self.segment_due = match self.wire.is_full() {
            true => due, // `poll_transmit` makes room and goes on
            // Everything that can be sent now has been sent: anything "due now" would only turn in a circle.
            false => due.map(|due| due.max(now + Duration::from_millis(1))),
        };
    }

    fn expire(&mut self, remote: Remote, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(&remote).filter(|c| c.deadline <= now) else { return };
        let socket = self.sockets.get_mut::<Socket>(connection.handle);
        if connection.closing || connection.sending || connection.in_work {
            socket.abort();
        } else {
            socket.close();
            connection.closing = true;
        }
        connection.deadline = now + CLOSE_GRACE;
    }

    /// TIME-WAIT is not kept: the tunnel does not reorder for minutes, and a place in the table is worth more.
    fn forget_if_over(&mut self, remote: Remote) {
        let Some(connection) = self.connections.get(&remote) else { return };
        let socket = self.sockets.get::<Socket>(connection.handle);
        let over = match socket.state() {
            State::Closed => socket.remote_endpoint().is_none(), // else its reset is still to be sent
            State::TimeWait => true,
            State::Listen => true, // the SYN was refused, or taken back by a reset
            _ => false,
        };
        if over {
            self.sockets.remove(connection.handle);
            self.connections.remove(&remote);
        }
    }
}

impl Connection {
    /// Gives smoltcp as much of the answer as it takes.
    fn fill(&mut self, socket: &mut Socket<'_>, now: Timestamp) {
        while !self.unsent.is_empty() && socket.can_send() {
            let sent = socket.send_slice(self.unsent.as_slices().0).unwrap_or(0);
            if sent == 0 {
                break;
            }
            self.unsent.drain(..sent);
        }
        if self.sending && self.unsent.is_empty() && socket.send_queue() == 0 {
            self.sending = false;
            self.unsent = VecDeque::new(); // a long answer's memory
            self.deadline = now + if self.closing { CLOSE_GRACE } else { IDLE };
        }
    }

    /// The next whole query, when the last one is answered and its answer handed over.
    fn take_query(&mut self, socket: &mut Socket<'_>, now: Timestamp) -> Option<Vec<u8>> {
        if self.in_work || self.closing || !self.unsent.is_empty() {
            return None;
        }
        let mut length = [0; LENGTH_BYTES];
        let whole_length = socket.peek_slice(&mut length).is_ok_and(|read| read == LENGTH_BYTES);
        let len = usize::from(u16::from_be_bytes(length));
        if whole_length && (len == 0 || len > MAX_QUERY_BYTES) {
            socket.abort();
            return None;
        }
        if !whole_length || socket.recv_queue() < LENGTH_BYTES + len {
            // The client has said all it wanted; what is left in the buffer, if anything, is no query.
            if socket.state() == State::CloseWait {
                socket.close();
                self.closing = true;
                self.deadline = now + if self.sending { IDLE } else { CLOSE_GRACE };
            }
            return None;
        }
        let mut message = vec![0; LENGTH_BYTES + len];
        socket.recv_slice(&mut message).ok()?;
        self.in_work = true;
        self.deadline = now + IDLE;
        message.drain(..LENGTH_BYTES);
        Some(message)
    }
}

/// smoltcp's side of the IX's DNS address.
pub(super) fn interface(config: &HostConfig, seed: u64, wire: &mut Wire, now: Timestamp) -> Interface {
    let mut interface_config = Config::new(HardwareAddress::Ip);
    interface_config.random_seed = seed;
    let mut interface = Interface::new(interface_config, wire, instant(now));
    interface.update_ip_addrs(|addresses| {
        // The first of a fixed number of places, so there is room.
        let _ = addresses.push(IpCidr::new(config.dns.addr().into(), 128));
    });
    // Everything is reached through the tunnels; smoltcp only wants a route to exist.
    let _ = interface.routes_mut().add_default_ipv6_route(config.gateway.addr());
    interface
}

pub(super) fn buffer(len: usize) -> SocketBuffer<'static> {
    SocketBuffer::new(vec![0; len])
}

pub(super) fn instant(now: Timestamp) -> Instant {
    Instant::from_micros(now.as_micros() as i64)
}

pub(super) fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from_micros(at.total_micros().max(0) as u64)
}

pub(super) fn ipv6_packet(source: Canonical, destination: Canonical, segment: &[u8]) -> Vec<u8> {
    let header = Ipv6Repr {
        src_addr: source.addr(),
        dst_addr: destination.addr(),
        next_header: IpProtocol::Tcp,
        payload_len: segment.len(),
        hop_limit: 64,
    };
    let mut packet = vec![0; IPV6_HEADER_BYTES + segment.len()];
    header.emit(&mut Ipv6Packet::new_unchecked(&mut packet[..]));
    packet[IPV6_HEADER_BYTES..].copy_from_slice(segment);
    packet
}

/// Only TCP: smoltcp's ICMP errors have no reader here.
pub(super) fn without_header(mut packet: Vec<u8>) -> Option<HostPacket> {
    let header = Ipv6Packet::new_checked(&packet[..]).ok().filter(|h| h.next_header() == IpProtocol::Tcp)?;
    let (source, destination) = (header.src_addr().into(), header.dst_addr().into());
    packet.drain(..IPV6_HEADER_BYTES);
    Some(HostPacket { source, destination, protocol: protocol::TCP, l4: packet })
}
