//! What a port is.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::speakers::Speakers;
pub use crate::net::link::{Bfd, MAX_ADDRESSES, MAX_GATEWAYS, MAX_ROUTES, Route};
use crate::net::{InterfaceId, TunnelId, VlanTags};

/// One attachment of a realm by a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    pub tunnel: TunnelId,
    pub interface: InterfaceId,
    pub medium: Medium,
    /// Largest packet.
    pub mtu_bytes: u16,
}

impl PortConfig {
    /// The same interface and VLAN, whatever else has changed.
    pub fn is_same_place(&self, other: &PortConfig) -> bool {
        let vlan = |config: &PortConfig| match &config.medium {
            Medium::Ethernet(ethernet) => Some(ethernet.vlan),
            Medium::Tun => None,
        };
        self.interface == other.interface && vlan(self) == vlan(other)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Medium {
    Ethernet(Box<EthernetConfig>),
    /// A TUN device: IP packets, no neighbours.
    Tun,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EthernetConfig {
    /// Once for each interface.
    pub vlan: VlanTags,
    /// Our own, with the link's prefix: at most [`MAX_ADDRESSES`].
    pub addresses: Vec<IpNet>,
    /// On the link, the preferred first, of either IP version: for all destinations that nothing else says anything about.
    pub gateways: Vec<IpAddr>,
    /// More specific next hops, on the link.
    pub routes: Vec<Route>,
    /// The realm's own networks: those not covered by `routes` go to a gateway, or, where there is none of their IP version, are
    /// on the link.
    pub networks: Vec<IpNet>,
    /// Routers may announce themselves (RFC 4861 section 6.3).
    pub accept_ra: bool,
    /// Asked for these on the link, we answer as if they were ours (RFC 1027, RFC 4861 section 7.2.8). Empty: no proxy.
    pub proxy: Vec<IpNet>,
    /// How often gateways are asked whether they are there; dead after [`Liveness::multiplier`] unanswered.
    pub liveness: Liveness,
    pub bfd: Option<Bfd>,
    /// Whose packets to and from our own addresses are a routing daemon's.
    pub speakers: Speakers,
}

/// Of next hops, by ARP and neighbour solicitations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Liveness {
    pub interval: Duration,
    pub multiplier: u8,
}

impl Default for Liveness {
    fn default() -> Self {
        Liveness { interval: Duration::from_secs(1), multiplier: 3 }
    }
}
