//! A whole small network behind one tunnel: a WireGuard gateway and a few hosts that can ask and answer.
//!
//! ```text
//!   call_udp, call_tcp ---> smoltcp ---> Peer (seal) ---> poll_transmit      datagrams to the appliance
//!   serve                     ^  card      (open) <------ handle_input       datagrams from it
//! ```
//!
//! One IPv4 stack holds all hosts of the site. It verifies every checksum, so a page that arrives has crossed the
//! appliance whole. Pure like the cores: whoever drives it carries the datagrams and says what time it is, except that
//! boringtun reads a clock of its own for its timers.

mod caller;
mod card;
mod server;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use self::caller::Caller;
use self::card::Card;
use self::server::Server;
use super::peer::Peer;
use crate::net::Timestamp;

/// smoltcp keeps a fixed number of addresses per interface.
pub const MAX_HOSTS: usize = 2;
pub const MAX_SERVERS: usize = 8;
pub const MAX_CALLS: usize = 8;
pub const MAX_PAGE_BYTES: usize = 1024;
/// Of a request that a server reads and of a message that a call sends.
pub const MAX_REQUEST_BYTES: usize = 1024;
/// Of an answer, with its head; longer ones are cut off there.
pub const MAX_RESPONSE_BYTES: usize = 1024;
/// Sealed datagrams that wait to be sent; more are lost.
pub const MAX_WAITING_DATAGRAMS: usize = 256;

const SOCKET_BUFFER_BYTES: usize = 2048;
const NETWORK_PREFIX_LEN: u8 = 24;
const FIRST_CLIENT_PORT: u16 = 49_152;
const TICK: Duration = Duration::from_millis(250);
/// Until there is a session. WireGuard's own five seconds are long for somebody who watches.
const CALL_APPLIANCE_EVERY: Duration = Duration::from_secs(1);

/// Why a site cannot do what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SiteError {
    #[error("a site has 1 to {MAX_HOSTS} hosts")]
    Hosts,
    #[error("a site runs at most {MAX_SERVERS} servers")]
    Servers,
    #[error("a page has at most {MAX_PAGE_BYTES} bytes")]
    Page,
    #[error("a site has at most {MAX_CALLS} calls open; end one first")]
    Calls,
    #[error("a message has at most {MAX_REQUEST_BYTES} bytes")]
    Message,
    #[error("{0} cannot be called from {1}; give addresses of hosts, and a port that is not 0")]
    Unaddressable(Ipv4Addr, Ipv4Addr),
}

/// A question to another host, until [`Site::end`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call(usize);

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    Waiting,
    Answered(Vec<u8>),
    /// The connection was reset or closed before there was an answer.
    Refused,
}

pub struct Site {
    peer: Peer,
    hosts: Vec<Ipv4Addr>,
    interface: Interface,
    card: Card,
    sockets: SocketSet<'static>,
    servers: Vec<Server>,
    calls: [Option<Caller>; MAX_CALLS],
    next_port: u16,
    outgoing: VecDeque<Vec<u8>>,
    next_tick: Timestamp,
    next_call_to_appliance: Timestamp,
}

impl Site {
    /// `hosts` lie in one /24. `seed` decides ports and sequence numbers.
    pub fn new(peer: Peer, hosts: &[Ipv4Addr], seed: u64, now: Timestamp) -> Result<Self, SiteError> {
        let (Some(first), true) = (hosts.first(), hosts.len() <= MAX_HOSTS) else { return Err(SiteError::Hosts) };
        let mut card = Card::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, instant(now));
        interface.update_ip_addrs(|addresses| {
            for host in hosts {
                // There is room: MAX_HOSTS is what smoltcp holds.
                let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(*host), NETWORK_PREFIX_LEN));
            }
        });
        // Everything else is behind the tunnel; smoltcp only wants a route to exist, and its table is empty.
        let _ = interface.routes_mut().add_default_ipv4_route(*first);
        Ok(Site {
            peer,
            hosts: hosts.to_vec(),
            interface,
            card,
            sockets: SocketSet::new(Vec::new()),
            servers: Vec::new(),
            calls: Default::default(),
            next_port: FIRST_CLIENT_PORT + (seed % 8192) as u16,
            outgoing: VecDeque::new(),
            next_tick: now,
            next_call_to_appliance: now,
        })
    }

    /// As its own interface has them.
    pub fn addresses(&self) -> Vec<String> {
        self.interface.ip_addrs().iter().map(ToString::to_string).collect()
    }

    pub fn is_up(&self) -> bool {
        self.peer.has_session()
    }

    /// A web server that gives `page` whatever is asked, one connection at a time.
    pub fn serve(&mut self, host: Ipv4Addr, port: u16, page: &str) -> Result<(), SiteError> {
        if self.servers.len() == MAX_SERVERS {
            return Err(SiteError::Servers);
        }
        if page.len() > MAX_PAGE_BYTES {
            return Err(SiteError::Page);
        }
        if port == 0 || !self.hosts.contains(&host) {
            return Err(SiteError::Unaddressable(host, host));
        }
        self.servers.push(Server::start(&mut self.sockets, host, port, page));
        Ok(())
    }

    /// Connections that ever reached the server on this port.
    pub fn accepted(&self, port: u16) -> u32 {
        self.servers.iter().filter(|server| server.port == port).map(|server| server.accepted).sum()
    }

    /// Sends one datagram and waits for one.
    pub fn call_udp(&mut self, from: Ipv4Addr, to: (Ipv4Addr, u16), message: &[u8]) -> Result<Call, SiteError> {
        let slot = self.free_call(message)?;
        let unaddressable = SiteError::Unaddressable(to.0, from);
        let mut socket = udp_socket();
        socket.bind((from, self.take_port())).map_err(|_| unaddressable)?;
        socket.send_slice(message, to).map_err(|_| unaddressable)?;
        let handle = self.sockets.add(socket);
        self.calls[slot] = Some(Caller::udp(handle));
        Ok(Call(slot))
    }

    /// Connects, sends the request and reads until the other side closes.
    pub fn call_tcp(&mut self, from: Ipv4Addr, to: (Ipv4Addr, u16), request: &[u8]) -> Result<Call, SiteError> {
        let slot = self.free_call(request)?;
        let mut socket = tcp_socket();
        let local = (from, self.take_port());
        let connected = socket.connect(self.interface.context(), to, local);
        connected.map_err(|_| SiteError::Unaddressable(to.0, from))?;
        self.calls[slot] = Some(Caller::tcp(self.sockets.add(socket), request));
        Ok(Call(slot))
    }

    pub fn progress(&self, call: Call) -> Progress {
        match &self.calls[call.0] {
            Some(caller) => caller.progress(&self.sockets),
            None => Progress::Refused,
        }
    }

    /// Forgets the call, answered or not.
    pub fn end(&mut self, call: Call) {
        if let Some(caller) = self.calls[call.0].take() {
            self.sockets.remove(caller.handle);
        }
    }

    /// Sends an inner packet that no stack would make.
    pub fn forge(&mut self, packet: &[u8]) {
        let datagram = self.peer.send(packet);
        self.queue(datagram);
    }

    /// A datagram from the appliance.
    pub fn handle_input(&mut self, datagram: &[u8], now: Timestamp) {
        let received = self.peer.receive(datagram);
        for answer in received.datagrams {
            self.queue(Some(answer));
        }
        if let Some(packet) = received.packet {
            self.card.receive(packet);
            self.run(now);
        }
    }

    /// To be called every few milliseconds, and after every call that was begun.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            let datagram = self.peer.tick();
            self.queue(datagram);
        }
        if !self.is_up() && now >= self.next_call_to_appliance {
            self.next_call_to_appliance = now + CALL_APPLIANCE_EVERY;
            let datagram = self.peer.initiate();
            self.queue(datagram);
        }
        self.run(now);
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Stack, servers and callers, then whatever they want to send. Twice: what servers write is sent at once.
    fn run(&mut self, now: Timestamp) {
        for _ in 0..2 {
            self.interface.poll(instant(now), &mut self.card, &mut self.sockets);
            for server in &mut self.servers {
                server.run(&mut self.sockets);
            }
            for caller in self.calls.iter_mut().flatten() {
                caller.run(&mut self.sockets);
            }
        }
        while let Some(packet) = self.card.take_outgoing() {
            let datagram = self.peer.send(&packet);
            self.queue(datagram);
        }
    }

    fn queue(&mut self, datagram: Option<Vec<u8>>) {
        if self.outgoing.len() < MAX_WAITING_DATAGRAMS {
            self.outgoing.extend(datagram);
        }
    }

    fn free_call(&self, message: &[u8]) -> Result<usize, SiteError> {
        if message.len() > MAX_REQUEST_BYTES {
            return Err(SiteError::Message);
        }
        self.calls.iter().position(Option::is_none).ok_or(SiteError::Calls)
    }

    fn take_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_CLIENT_PORT);
        port
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; SOCKET_BUFFER_BYTES]);
    tcp::Socket::new(buffer(), buffer())
}

fn udp_socket() -> udp::Socket<'static> {
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; SOCKET_BUFFER_BYTES]);
    udp::Socket::new(buffer(), buffer())
}

fn instant(now: Timestamp) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
