//! `show_as`: a realm that is seen by a few addresses and many ports.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::{AliasMode, Network, RealmRef};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Napt {
    /// Disjoint, also from those of other realms and from all aliases that the file pins.
    pub pools: Vec<Ipv4Net>,
    /// Towards whom. `None`: everybody.
    pub viewers: Option<Vec<RealmRef>>,
    pub filtering: Filtering,
    /// Ports of each protocol that one host may use at a time; even.
    pub block_ports: u16,
    pub forwards: Vec<Forward>,
}

impl Napt {
    pub fn is_for(&self, viewer: RealmRef) -> bool {
        self.viewers.as_ref().is_none_or(|viewers| viewers.contains(&viewer))
    }

    /// Whether its viewers see the hosts of this network by the pool. A pinned alias stays where everybody sees the pool.
    pub fn stands_for(&self, network: &Network) -> bool {
        let is_pinned = matches!(network.alias, AliasMode::Pinned(_));
        network.native.addr().is_ipv4() && !(is_pinned && self.viewers.is_none())
    }

    /// Whether a forward leads to this host. Such a host has no alias of its own: one port has one outside.
    pub fn leads_to(&self, host: IpAddr) -> bool {
        self.forwards.iter().any(|forward| forward.to.0 == host)
    }
}

/// RFC 4787 section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filtering {
    Endpoint,
    Address,
    AddressAndPort,
}

/// Whoever is granted `to` reaches it by `outside`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub protocol: ForwardProtocol,
    /// In one of the realm's pools.
    pub outside: (Ipv4Addr, u16),
    /// In one of the realm's networks.
    pub to: (IpAddr, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardProtocol {
    Tcp,
    Udp,
}
