//! Where an outer datagram came from or goes to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::InterfaceId;

/// Which socket of ours a path begins at. It decides what a datagram can be, before a byte of it is read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Port {
    /// The UDP port of all WireGuard peers.
    #[default]
    WireGuard,
    /// UDP 500: IKE only.
    Ike,
    /// UDP 4500: IKE behind four zero bytes, ESP, and one-byte keepalives (RFC 3948).
    IkeNatT,
    /// IP protocol 50: ESP without UDP. The remote's port number is 0.
    RawEsp,
    /// Ethernet frames of an interface, from the destination address on, tags in place. The remote is [`Path::NOWHERE`].
    Frames(InterfaceId),
    /// IP packets of a TUN device. The remote is [`Path::NOWHERE`].
    Tun(InterfaceId),
}

/// The two ends of an outer path. `local` matters on hosts with several addresses: a peer behind a stateful firewall
/// hears us only from the address that it sent to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    pub port: Port,
    pub remote: SocketAddr,
    /// `None`: the kernel chooses (we speak first, or the socket is bound to one address).
    pub local: Option<IpAddr>,
}

/// What a router on the way to a peer, or our own link, said: that it carries no longer IP packets. Anybody can say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathReport {
    /// Where the packet was to go. The port may be 0: where it was no UDP, and from our own link.
    pub remote: SocketAddr,
    /// Of whole outer IP packets.
    pub mtu_bytes: u16,
}

impl Path {
    /// The remote of what has no outer IP header.
    pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

    /// Frames of an interface.
    pub fn frames(interface: InterfaceId) -> Self {
        Path { port: Port::Frames(interface), remote: Path::NOWHERE, local: None }
    }

    /// Packets of a TUN device.
    pub fn tun(interface: InterfaceId) -> Self {
        Path { port: Port::Tun(interface), remote: Path::NOWHERE, local: None }
    }

    /// A path on which we speak first, to a WireGuard peer.
    pub fn to(remote: SocketAddr) -> Self {
        Path::from_port(Port::WireGuard, remote)
    }

    /// A path on which we speak first, by any of our ports.
    pub fn from_port(port: Port, remote: SocketAddr) -> Self {
        Path { port, remote, local: None }
    }
}
