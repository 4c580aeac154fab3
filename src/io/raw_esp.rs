//! ESP without UDP: IP protocol 50, for peers that want it so and with which no NAT is in the way.
//!
//! One socket for each IP version, as the kernel has it. It needs the capability CAP_NET_RAW and no port; what arrives is
//! a copy, so an IPsec stack in the same kernel would see it too. IPv4 packets come with their header, which is cut off;
//! IPv6 packets come without. Fragments have been put together by the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::udp::address::{Family, RawAddress};
use super::udp::errors;
use super::udp::receive::Content;
use super::udp::send::{self, Carries, Gso};
use super::udp::{RecvBatch, RecvCounters, SendReport, Wire, prepare, sys};
use crate::net::{PathReport, Port};
use crate::packet::Outbox;

/// ESP (RFC 4303 section 2).
const PROTOCOL: i32 = 50;

#[derive(Debug)]
pub struct RawEspSocket {
    fd: OwnedFd,
    family: Family,
    address: IpAddr,
    /// How the socket is set: packets go without DF.
    without_df: bool,
    counters: RecvCounters,
}

/// Why a raw socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    #[error(
        "not permitted to open a raw socket for ESP (IP protocol 50) on {0}: that needs the capability CAP_NET_RAW; \
         grant it, or leave ESP inside UDP (`raw_esp = false` in [ike])"
    )]
    NotPermitted(IpAddr),
    #[error("cannot receive ESP on {0}: this machine has no such address; use one of its own, or 0.0.0.0 or [::]")]
    NoSuchAddress(IpAddr),
    #[error("cannot receive ESP (IP protocol 50) on {0}: {1}")]
    Other(IpAddr, io::Error),
}

impl RawEspSocket {
    /// The sockets that `listen` means: `[::]` is both IP versions, where the machine has both.
    pub fn bind_all(listen: IpAddr) -> Result<Vec<Self>, RawError> {
        let mut sockets = vec![Self::bind(listen)?];
        if listen == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            sockets.push(Self::bind(Ipv4Addr::UNSPECIFIED.into())?);
        }
        Ok(sockets)
    }

    /// One IP version.
    pub fn bind(address: IpAddr) -> Result<Self, RawError> {
        Self::open(address).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => RawError::NotPermitted(address),
            io::ErrorKind::AddrNotAvailable => RawError::NoSuchAddress(address),
            _ => RawError::Other(address, error),
        })
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn counters(&self) -> RecvCounters {
        self.counters
    }

    /// As [`super::udp::UdpSocket::recv_batch`]. The remotes' port numbers are 0.
    pub fn recv_batch(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.recv_some(batch, usize::MAX)
    }

    /// At most `limit` packets.
    pub(super) fn recv_some(&mut self, batch: &mut RecvBatch, limit: usize) -> io::Result<usize> {
        let content = match self.family {
            Family::V4 => Content::WithIpv4Header,
            Family::V6 => Content::Payload,
        };
        batch.fill(self.fd.as_fd(), limit, Port::RawEsp, content, &mut self.counters)
    }

    /// As [`super::udp::UdpSocket::recv_errors`].
    pub fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> bool {
        errors::read(self.fd.as_fd(), reports)
    }

    /// Sends all runs, datagram by datagram.
    pub fn send(&mut self, outbox: &Outbox) -> SendReport {
        self.send_some(outbox, &|_| true)
    }

    pub(super) fn send_some(&mut self, outbox: &Outbox, carries: Carries<'_>) -> SendReport {
        let mut wire = Wire { fd: self.fd.as_fd(), family: self.family, without_df: &mut self.without_df };
        send::send(&mut Gso::OFF.clone(), outbox, carries, &mut wire)
    }

    fn open(address: IpAddr) -> io::Result<Self> {
        let any_port = SocketAddr::new(address, 0);
        let family = Family::of(any_port);
        let fd = sys::open_raw(family, PROTOCOL)?;
        let socket = fd.as_fd();
        prepare(socket, family, any_port)?;
        let raw = RawAddress::encode(any_port, family).ok_or(io::ErrorKind::Unsupported)?;
        sys::bind(socket, &raw)?;
        Ok(RawEspSocket { fd, family, address, without_df: false, counters: RecvCounters::default() })
    }
}

impl AsFd for RawEspSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Over the machine's own loopback, where this is permitted.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Path;

    /// `None`: the test is not run, and says so.
    pub(crate) fn socket_or_say_so(address: &str) -> Option<RawEspSocket> {
        match RawEspSocket::bind(address.parse().unwrap()) {
            Ok(socket) => Some(socket),
            Err(error @ RawError::NotPermitted(_)) => {
                eprintln!("NOT RUN: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn path_to(address: &str) -> Path {
        Path::from_port(Port::RawEsp, SocketAddr::new(address.parse().unwrap(), 0))
    }

    /// What has come that begins with `spi`: others may use the loopback too.
    fn receive(socket: &mut RawEspSocket, spi: &[u8]) -> Vec<(Path, u8, Vec<u8>)> {
        let mut batch = RecvBatch::new();
        let mut seen = Vec::new();
        while socket.recv_batch(&mut batch).unwrap() > 0 {
            let ours = batch.datagrams().filter(|datagram| datagram.bytes.starts_with(spi));
            seen.extend(ours.map(|datagram| (datagram.path, datagram.ecn, datagram.bytes.to_vec())));
        }
        seen
    }

    #[test]
    fn ipv4_packets_come_without_their_header_and_answers_go_back() {
        let (Some(mut a), Some(mut b)) = (socket_or_say_so("127.0.50.1"), socket_or_say_so("127.0.50.2")) else {
            return;
        };
        let mut outbox = Outbox::new(20_000, 10);
        for (number, len) in [60, 60, 1400, 1900].into_iter().enumerate() {
            let space = outbox.space(len).unwrap();
            space.fill(number as u8);
            space[..4].copy_from_slice(b"ESP4");
            outbox.commit_marked(path_to("127.0.50.2"), true, 0xba, len);
        }
        assert_eq!(a.send(&outbox).sent_datagrams, 4);
        let seen = receive(&mut b, b"ESP4");
        assert_eq!(seen.iter().map(|(_, _, bytes)| bytes.len()).collect::<Vec<_>>(), [60, 60, 1400, 1900]);
        assert!(seen.iter().all(|(path, ecn, _)| *path == path_to("127.0.50.1") && *ecn == 2), "{seen:?}");
        assert_eq!(seen[1].2[4..], [1; 56]);

        outbox.clear();
        assert!(outbox.push(seen[0].0, true, b"ESP4 answer"));
        assert_eq!(b.send(&outbox).sent_datagrams, 1);
        assert_eq!(receive(&mut a, b"ESP4 answer").len(), 1);
    }

    #[test]
    fn ipv6_packets_come_as_they_were_sent() {
        let Some(mut socket) = socket_or_say_so("::1") else { return };
        let mut outbox = Outbox::new(20_000, 10);
        outbox.space(44).unwrap().copy_from_slice(&[b"ESP6".as_slice(), &[7; 40]].concat());
        outbox.commit_marked(path_to("::1"), true, 0x03, 44);
        assert_eq!(socket.send(&outbox).sent_datagrams, 1);
        let seen = receive(&mut socket, b"ESP6");
        assert_eq!(seen, [(path_to("::1"), 3, [b"ESP6".as_slice(), &[7; 40]].concat())]);
    }

    #[test]
    fn both_versions_are_served_on_the_unspecified_address_and_answers_leave_from_the_one_called() {
        let Some(mut client) = socket_or_say_so("127.0.50.3") else { return };
        let mut servers = RawEspSocket::bind_all("::".parse().unwrap()).unwrap();
        assert_eq!(servers.len(), 2);
        let mut outbox = Outbox::new(20_000, 10);
        assert!(outbox.push(path_to("127.0.50.4"), true, b"ESP any"));
        client.send(&outbox);
        assert!(receive(&mut servers[0], b"ESP any").is_empty());
        let seen = receive(&mut servers[1], b"ESP any");
        assert_eq!(seen[0].0, Path { local: Some("127.0.50.4".parse().unwrap()), ..path_to("127.0.50.3") });
        outbox.clear();
        assert!(outbox.push(seen[0].0, true, b"ESP back"));
        servers[1].send(&outbox);
        assert_eq!(receive(&mut client, b"ESP back")[0].0, path_to("127.0.50.4"));
    }

    #[test]
    fn opening_fails_with_words() {
        assert!(RawError::NotPermitted("::1".parse().unwrap()).to_string().contains("CAP_NET_RAW"));
        match RawEspSocket::bind("192.0.2.1".parse().unwrap()).unwrap_err() {
            RawError::NoSuchAddress(_) => {}
            error @ RawError::NotPermitted(_) => eprintln!("NOT RUN: {error}"),
            error => panic!("{error}"),
        }
    }
}
