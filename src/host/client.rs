//! The IX asks: UDP messages from random ports, and one TCP connection per question (RFC 7766), to resolvers in the
//! realms.
//!
//! Every question has a port of its own, which only the one who was asked may answer to, from the port that was asked
//! (RFC 5452 section 4.5). Ports are open for as long as the driver waits: it closes them with [`Clients::cancel`], and
//! there are never more than the configured number, nor more TCP connections into one realm than its own.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::wire::{TcpPacket, UdpPacket};

use super::device::Wire;
use super::stack::{HostConfig, HostPacket, MAX_WAITING, Transport, udp_packet};
use super::tcp::{Remote, buffer, instant, interface, ipv6_packet, timestamp, without_header};
use crate::net::random::Random;
use crate::net::{Canonical, RealmId, Timestamp};
use crate::packet::DropReason;

/// Ports below are others' (RFC 6335 section 6).
const FIRST_PORT: u16 = 1024;
/// Tries to find a free port. With a thousand of 64,512 taken, all of them fail once in 10^29 times.
const PORT_TRIES: usize = 16;
const LENGTH_BYTES: usize = 2;
const RECEIVE_BYTES: usize = 16 * 1024;
const SEND_BYTES: usize = 2048;

/// The driver's own number for a question.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// Who is asked, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    pub id: ClientId,
    /// Whose `address` is.
    pub realm: RealmId,
    pub address: Canonical,
    pub port: u16,
    pub transport: Transport,
}

/// What came of a question. Over UDP several may come: who tells a forged answer from the right one cancels the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub id: ClientId,
    /// Without TCP's length. `None`: it failed, and nothing more will come.
    pub bytes: Option<Vec<u8>>,
}

/// There is no room for one more question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

pub(super) struct Clients {
    source: Canonical,
    max_udp: usize,
    max_tcp: usize,
    max_tcp_per_realm: usize,
    udp: BTreeMap<u16, Open>,
    tcp: BTreeMap<u16, Connection>,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    segment_due: Option<Timestamp>,
    replies: VecDeque<Reply>,
}

struct Open {
    id: ClientId,
    remote: Remote,
}

struct Connection {
    id: ClientId,
    realm: RealmId,
    remote: Remote,
    handle: SocketHandle,
    unsent: VecDeque<u8>,
    received: Vec<u8>,
}

impl Clients {
    pub(super) fn new(config: &HostConfig, seed: u64, now: Timestamp) -> Self {
        let mut wire = Wire::new(config.mtu_bytes, MAX_WAITING);
        Clients {
            source: config.dns,
            max_udp: config.clients_udp,
            max_tcp: config.clients_tcp,
            max_tcp_per_realm: config.clients_tcp_per_realm,
            udp: BTreeMap::new(),
            tcp: BTreeMap::new(),
            interface: interface(config, seed, &mut wire, now),
            sockets: SocketSet::new(Vec::new()),
            wire,
            segment_due: None,
            replies: VecDeque::new(),
        }
    }

    pub(super) fn ask_udp(
        &mut self,
        id: ClientId,
        remote: Remote,
        payload: &[u8],
        random: &mut dyn Random,
    ) -> Result<HostPacket, NoRoom> {
        if self.udp.len() >= self.max_udp {
            return Err(NoRoom);
        }
        let port = free_port(&self.udp, random).ok_or(NoRoom)?;
        let packet = udp_packet(self.source, port, remote, payload).ok_or(NoRoom)?;
        self.udp.insert(port, Open { id, remote });
        Ok(packet)
    }

    pub(super) fn ask_tcp(
        &mut self,
        (id, realm): (ClientId, RealmId),
        remote: Remote,
        message: &[u8],
        now: Timestamp,
        random: &mut dyn Random,
    ) -> Result<(), NoRoom> {
        let len = u16::try_from(message.len()).map_err(|_| NoRoom)?;
        let of_realm = self.tcp.values().filter(|connection| connection.realm == realm).count();
        if self.tcp.len() >= self.max_tcp || of_realm >= self.max_tcp_per_realm {
            return Err(NoRoom);
        }
        let port = free_port(&self.tcp, random).ok_or(NoRoom)?;
        let mut socket = Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        socket.set_nagle_enabled(false);
        let to = (remote.address.addr(), remote.port);
        socket.connect(self.interface.context(), to, (self.source.addr(), port)).map_err(|_| NoRoom)?;
        let handle = self.sockets.add(socket);
        let unsent = len.to_be_bytes().into_iter().chain(message.iter().copied()).collect();
        self.tcp.insert(port, Connection { id, realm, remote, handle, unsent, received: Vec::new() });
        self.send(now);
        Ok(())
    }

    /// Nobody waits for it any more.
    pub(super) fn cancel(&mut self, id: ClientId, now: Timestamp) {
        self.udp.retain(|_, open| open.id != id);
        let port = self.tcp.iter().find(|(_, connection)| connection.id == id).map(|(port, _)| *port);
        if let Some(port) = port {
            self.hang_up(port, now);
        }
        self.replies.retain(|reply| reply.id != id);
    }

    pub(super) fn has_udp(&self, port: u16) -> bool {
        self.udp.contains_key(&port)
    }

    pub(super) fn has_tcp(&self, port: u16) -> bool {
        self.tcp.contains_key(&port)
    }

    pub(super) fn handle_datagram(&mut self, source: Canonical, l4: &[u8]) -> Result<(), DropReason> {
        let udp = UdpPacket::new_checked(l4).map_err(|_| DropReason::InnerMalformed)?;
        let from = Remote { address: source, port: udp.src_port() };
        let open = self.udp.get(&udp.dst_port()).filter(|open| open.remote == from);
        let open = open.ok_or(DropReason::ServiceNotOffered)?;
        self.push(Reply { id: open.id, bytes: Some(udp.payload().into()) })
    }

    pub(super) fn handle_segment(&mut self, source: Canonical, l4: &[u8], now: Timestamp) -> Result<(), DropReason> {
        let tcp = TcpPacket::new_checked(l4).map_err(|_| DropReason::InnerMalformed)?;
        let from = Remote { address: source, port: tcp.src_port() };
        let port = tcp.dst_port();
        if self.tcp.get(&port).is_none_or(|connection| connection.remote != from) {
            return Err(DropReason::ServiceNotOffered);
        }
        if self.wire.is_full() {
            return Err(DropReason::HostQueueFull);
        }
        self.wire.incoming = Some(ipv6_packet(source, self.source, l4));
        self.interface.poll_ingress_single(instant(now), &mut self.wire, &mut self.sockets);
        self.advance(port, now)
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.send(now);
        let ports: Vec<u16> = self.tcp.keys().copied().collect();
        for port in ports {
            // A queue that is full is emptied by the driver, who then comes back.
            let _ = self.advance(port, now);
        }
    }

    pub(super) fn poll_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    pub(super) fn poll_transmit(&mut self, now: Timestamp) -> Option<HostPacket> {
        if self.wire.outgoing.is_empty() && self.segment_due.is_some_and(|due| due <= now) {
            self.send(now);
        }
        while let Some(packet) = self.wire.outgoing.pop_front() {
            if let Some(packet) = without_header(packet) {
                return Some(packet);
            }
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.segment_due.map(|due| (due, "dns client over tcp: retransmission"))
    }

    pub(super) fn open(&self) -> usize {
        self.udp.len() + self.tcp.len()
    }

    /// The request into smoltcp's buffer, the answer out of it; ends the connection when there is nothing more to gain.
    fn advance(&mut self, port: u16, now: Timestamp) -> Result<(), DropReason> {
        let Some(connection) = self.tcp.get_mut(&port) else { return Ok(()) };
        let socket = self.sockets.get_mut::<Socket>(connection.handle);
        while !connection.unsent.is_empty() && socket.can_send() {
            let sent = socket.send_slice(connection.unsent.as_slices().0).unwrap_or(0);
            connection.unsent.drain(..sent);
        }
        while socket.can_recv() && connection.whole().is_none() {
            let received = &mut connection.received;
            let taken = socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes)));
            if taken.is_err() {
                break;
            }
        }
        let is_over = !matches!(socket.state(), State::SynSent | State::Established);
        let whole = connection.whole();
        let id = connection.id;
        if whole.is_some() || is_over {
            self.hang_up(port, now);
            return self.push(Reply { id, bytes: whole });
        }
        self.send(now);
        Ok(())
    }

    /// With a reset: what was asked for is here, or never comes. Keeps no TIME-WAIT, as the port will not be used again
    /// soon.
    fn hang_up(&mut self, port: u16, now: Timestamp) {
        let Some(connection) = self.tcp.remove(&port) else { return };
        self.sockets.get_mut::<Socket>(connection.handle).abort();
        self.send(now);
        self.sockets.remove(connection.handle);
        self.update_due(now);
    }

    fn push(&mut self, reply: Reply) -> Result<(), DropReason> {
        if self.replies.len() >= MAX_WAITING {
            return Err(DropReason::HostQueueFull);
        }
        self.replies.push_back(reply);
        Ok(())
    }

    fn send(&mut self, now: Timestamp) {
        while self.interface.poll_egress(instant(now), &mut self.wire, &mut self.sockets) != PollResult::None {}
        self.update_due(now);
    }

    fn update_due(&mut self, now: Timestamp) {
        let due = self.interface.poll_at(instant(now), &self.sockets).map(timestamp);
        // Everything that can be sent now has been sent: anything "due now" would only turn in a circle.
        let later = now + Duration::from_millis(1);
        self.segment_due = due.filter(|_| !self.tcp.is_empty()).map(|due| due.max(later));
    }
}

impl Connection {
    /// The answer, once all of it is there. At most 64 KiB: its length has 16 bits.
    fn whole(&self) -> Option<Vec<u8>> {
        let (length, message) = self.received.split_first_chunk::<LENGTH_BYTES>()?;
        message.get(..usize::from(u16::from_be_bytes(*length))).map(<[u8]>::to_vec)
    }
}

fn free_port<T>(taken: &BTreeMap<u16, T>, random: &mut dyn Random) -> Option<u16> {
    let span = u64::from(u16::MAX - FIRST_PORT) + 1;
    let draw = |_| FIRST_PORT + (random.u64() % span) as u16;
    (0..PORT_TRIES).map(draw).find(|port| !taken.contains_key(port))
}
