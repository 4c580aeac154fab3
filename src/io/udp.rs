//! The UDP socket: batches of datagrams in, runs of datagrams out, with the kernel's offload where it has it.
//!
//! One trip of a message through the kernel costs microseconds whatever it carries, so a message should carry many
//! datagrams: on the way in the kernel joins those of one sender (`UDP_GRO`), on the way out it cuts a run apart
//! (`UDP_SEGMENT`), and `recvmmsg`/`sendmmsg` take many messages in one call. Where offload is missing, the same calls
//! work with one datagram a message.
//!
//! - A socket on an unspecified address tells to which local address a datagram came ([`crate::net::Path::local`]), and sends the
//!   answer from there: a peer behind a stateful firewall hears us from no other.
//! - `[::]` serves both families; IPv4 peers appear under their plain IPv4 addresses.
//! - Outer datagrams go with DF and without regard to what the kernel thinks of the path (`IP_PMTUDISC_PROBE`): a path with a
//!   small MTU must be able to say so, what it says is not to be believed by the kernel for everybody, and probes must go
//!   whatever it said. Runs that may be cut ([`Run::may_fragment`](crate::packet::outbox::Run)) go without, the option being
//!   set for them and set back: there is none for a single datagram. They are few (IKE, tunnels whose path is not known
//!   yet, or carries hardly more than 1280).
//! - The traffic class (DSCP and ECN) of every run is set, and the ECN bits of every datagram are read: tunnels carry
//!   congestion marks across (RFC 6040).
//! - Of ICMP errors (`IP_RECVERR`) only "too big" is passed on ([`PathReport`]); anybody can forge them. All the others are read and
//!   forgotten: WireGuard's handshake and IKE's liveness tell better. The errors that they leave at the socket are passed
//!   over, in both directions.

pub(super) mod address;
mod control;
pub(super) mod errors;
pub(super) mod receive;
pub(super) mod send;
pub mod steer;
pub(super) mod sys;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::address::{Family, RawAddress};
use self::control::Control;
use self::receive::Content;
pub use self::receive::{RecvBatch, RecvCounters};
pub use self::send::SendReport;
use self::send::{Carries, Gso, Kernel, Message};
pub use self::sys::MAX_MESSAGES;
use self::sys::Outgoing;
use crate::net::{PathReport, Port};
use crate::packet::Outbox;

/// Asked of the kernel for each direction: 50 ms at 10 Gb/s would be 60 MB, 8 MiB rides out a scheduling delay.
const BUFFER_BYTES: i32 = 8 << 20;
/// The same for each lane ([`steer`]). All together are bounded by `net.ipv4.udp_mem`.
const LANE_BUFFER_BYTES: i32 = 4 << 20;

/// Whether to use the kernel's offload.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Offload {
    /// Where the kernel has it.
    #[default]
    Auto,
    /// One datagram a message.
    Off,
}

#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    family: Family,
    port: Port,
    local_address: SocketAddr,
    gro: bool,
    gso: Gso,
    /// How the socket is set: datagrams go without DF.
    without_df: bool,
    counters: RecvCounters,
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "UDP {0} is in use: another program listens there, perhaps another ixgate, the system's own WireGuard or an IKE \
         daemon (charon, pluto); stop it, or choose another port"
    )]
    InUse(SocketAddr),
    #[error(
        "not permitted to listen on UDP {0}: ports below 1024 need the capability CAP_NET_BIND_SERVICE; \
         choose a higher port, or grant it"
    )]
    NotPermitted(SocketAddr),
    #[error("cannot listen on UDP {0}: this machine has no such address; use one of its own, or 0.0.0.0 or [::]")]
    NoSuchAddress(SocketAddr),
    #[error("cannot listen on UDP {0}: {1}")]
    Other(SocketAddr, io::Error),
}

impl BindError {
    fn of(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            io::ErrorKind::PermissionDenied => BindError::NotPermitted(address),
            io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress(address),
            _ => BindError::Other(address, error),
        }
    }
}

impl UdpSocket {
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_with(address, Offload::Auto)
    }

    pub fn bind_with(address: SocketAddr, offload: Offload) -> Result<Self, BindError> {
        Self::bind_for(Port::WireGuard, address, offload)
    }

    /// What comes in is stamped with `port`.
    pub fn bind_for(port: Port, address: SocketAddr, offload: Offload) -> Result<Self, BindError> {
        Self::open(port, address, offload).map_err(|error| BindError::of(address, error))
    }

    /// The same, and a socket for each lane of the port's data ([`steer`]), to receive from: together they hear what the one would.
    /// None where the port has no data, or the kernel does not let a program choose.
    pub fn bind_lanes(port: Port, address: SocketAddr, offload: Offload) -> Result<(Self, Vec<Self>), BindError> {
        let first = Self::bind_for(port, address, offload)?;
        let lanes = first.open_lanes(offload).unwrap_or_default();
        Ok((first, lanes))
    }

    /// The first one was bound alone, so that another program (or another ixgate) on the port is not joined but found out.
    fn open_lanes(&self, offload: Offload) -> io::Result<Vec<Self>> {
        let Some(program) = steer::program(self.port) else { return Ok(Vec::new()) };
        sys::set_option(self.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        let open = || Self::open_with(self.port, self.local_address, offload, Some(LANE_BUFFER_BYTES));
        let first = open()?;
        // There is a group now. What does not reach all lanes of it yet, the kernel spreads.
        sys::choose_by(self.as_fd(), &program)?;
        std::iter::once(Ok(first)).chain((1..steer::LANES).map(|_| open())).collect()
    }

    /// With the port that the kernel chose, when 0 was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Receive offload (GRO) is in use.
    pub fn has_receive_offload(&self) -> bool {
        self.gro
    }

    /// Send offload (GSO) is in use. It may end while running, when the kernel refuses it.
    pub fn has_send_offload(&self) -> bool {
        self.gso.is_on()
    }

    /// What the kernel granted: about 8 MiB with CAP_NET_ADMIN, else as much as `net.core.rmem_max` allows.
    pub fn receive_buffer_bytes(&self) -> usize {
        sys::option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF).map_or(0, |bytes| bytes.max(0) as usize)
    }

    /// Receives what has come, without waiting: the number of messages, 0 for none. Errors that ICMP left behind are
    /// passed over.
    pub fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.recv_some(batch, usize::MAX)
    }

    /// At most `limit` messages.
    pub(super) fn recv_some(&mut self, batch: &mut RecvBatch, limit: usize) -> io::Result<usize> {
        batch.fill(self.fd.as_fd(), limit, self.port, Content::Payload, &mut self.counters)
    }

    /// What paths were said to carry, since the last call: at most a batch. `true`: there may be more.
    pub fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> bool {
        errors::read(self.fd.as_fd(), reports)
    }

    /// What never became a datagram, since the beginning.
    pub fn counters(&self) -> RecvCounters {
        self.counters
    }

    pub fn port(&self) -> Port {
        self.port
    }

    /// Sends all runs. Waits a few milliseconds in all when the socket is full; what then is left is counted as unsent.
    pub fn send(&mut self, outbox: &Outbox) -> SendReport {
        self.send_some(outbox, &|_| true)
    }

    /// Sends the runs that are its own.
    pub(super) fn send_some(&mut self, outbox: &Outbox, carries: Carries<'_>) -> SendReport {
        let (fd, family, without_df) = (self.fd.as_fd(), self.family, &mut self.without_df);
        send::send(&mut self.gso, outbox, carries, &mut Wire { fd, family, without_df })
    }

    fn open(port: Port, address: SocketAddr, offload: Offload) -> io::Result<Self> {
        Self::open_with(port, address, offload, None)
    }

    /// `lane_bytes`: one of several, with so much room.
    fn open_with(port: Port, address: SocketAddr, offload: Offload, lane_bytes: Option<i32>) -> io::Result<Self> {
        let family = Family::of(address);
        let fd = sys::open(family)?;
        let socket = fd.as_fd();
        if family == Family::V6 {
            sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        }
        prepare(socket, family, address)?;
        if let Some(bytes) = lane_bytes {
            enlarge_buffers(socket, bytes);
            sys::set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        let (gro, gso) = match offload {
            Offload::Auto => probe_offload(socket),
            Offload::Off => (false, Gso::OFF),
        };
        let raw = RawAddress::encode(address, family).ok_or(io::ErrorKind::Unsupported)?;
        sys::bind(socket, &raw)?;
        let local_address = sys::local_address(socket)?;
        Ok(UdpSocket {
            fd,
            family,
            port,
            local_address,
            gro,
            gso,
            without_df: false,
            counters: RecvCounters::default(),
        })
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What all sockets for outer datagrams have in common.
pub(super) fn prepare(socket: BorrowedFd<'_>, family: Family, address: SocketAddr) -> io::Result<()> {
    if address.ip().is_unspecified() {
        ask_for_local_addresses(socket, family)?;
    }
    ask_for_traffic_class(socket, family);
    set_without_df(socket, family, false);
    ask_for_errors(socket, family);
    enlarge_buffers(socket, BUFFER_BYTES);
    // A convenience: without it, drops in the receive buffer are not seen.
    let _ = sys::set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    Ok(())
}

fn ask_for_local_addresses(socket: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        Family::V6 => sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    }
}

/// Best effort: without it, ECN marks of the outer path are not seen. IPv4 inside an IPv6 socket has its own option.
fn ask_for_traffic_class(socket: BorrowedFd<'_>, family: Family) {
    let _ = sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1);
    if family == Family::V6 {
        let _ = sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1);
    }
}

/// Best effort: what a kernel does not know, it does not do either.
fn set_without_df(socket: BorrowedFd<'_>, family: Family, without: bool) {
    let v4 = if without { libc::IP_PMTUDISC_DONT } else { libc::IP_PMTUDISC_PROBE };
    let _ = sys::set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4);
    if family == Family::V6 {
        let v6 = if without { libc::IPV6_PMTUDISC_DONT } else { libc::IPV6_PMTUDISC_PROBE };
        let _ = sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6);
    }
}

/// Best effort: without it, routers' words about the MTU are not heard.
fn ask_for_errors(socket: BorrowedFd<'_>, family: Family) {
    let _ = sys::set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
    if family == Family::V6 {
        let _ = sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1);
    }
}

/// Best effort: beyond the system's limit only with CAP_NET_ADMIN.
fn enlarge_buffers(socket: BorrowedFd<'_>, bytes: i32) {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if sys::set_option(socket, libc::SOL_SOCKET, force, bytes).is_err() {
            let _ = sys::set_option(socket, libc::SOL_SOCKET, plain, bytes);
        }
    }
}

fn probe_offload(socket: BorrowedFd<'_>) -> (bool, Gso) {
    let gro = sys::set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    // Zero: no size for the socket as a whole, every message brings its own. A kernel without offload refuses the name.
    let gso = sys::set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
    (gro, if gso { Gso::ON } else { Gso::OFF })
}

/// Turns messages into what the kernel reads.
pub(super) struct Wire<'a> {
    pub fd: BorrowedFd<'a>,
    pub family: Family,
    /// How the socket is set.
    pub without_df: &'a mut bool,
}

impl Kernel for Wire<'_> {
    fn send(&mut self, messages: &[Message<'_>]) -> io::Result<usize> {
        let mut outgoing = [Outgoing::EMPTY; send::BATCH];
        let mut count = 0;
        let without_df = messages.first().is_some_and(|message| message.may_fragment);
        if std::mem::replace(self.without_df, without_df) != without_df {
            set_without_df(self.fd, self.family, without_df);
        }
        let alike = messages.iter().take_while(|message| message.may_fragment == without_df);
        for (message, slot) in alike.zip(&mut outgoing) {
            // A peer of the other family: those before it are sent, then it is the first and the error is its own.
            let Some(address) = RawAddress::encode(message.path.remote, self.family) else { break };
            *slot = Outgoing { address, control: control_for(message, self.family), bytes: message.bytes };
            count += 1;
        }
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT));
        }
        sys::send(self.fd, &mut outgoing[..count])
    }

    fn wait(&mut self) {
        sys::wait_writable(self.fd, send::WAIT_MS);
    }
}

fn control_for(message: &Message<'_>, family: Family) -> Control {
    let mut control = Control::EMPTY;
    if let Some(local) = message.path.local {
        control.push_source(local, family);
    }
    if message.segments() > 1 {
        // A run is at most 65,507 bytes.
        control.push_segment_size(message.segment_bytes as u16);
    }
    if message.traffic_class != 0 {
        control.push_traffic_class(message.traffic_class, message.path.remote);
    }
    control
}

#[cfg(test)]
mod tests;
