//! Plain ports: Ethernet interfaces, VLANs, TUN devices.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::net::VlanTags;
pub use crate::net::link::{Bfd, Route as PortRoute};

/// An Ethernet interface that ports are on; `[[interface]]` says more about it than its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    pub name: String,
    pub driver: Driver,
}

/// By what frames are moved.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Driver {
    /// `AfPacket`.
    #[default]
    Auto,
    AfPacket,
    AfXdp,
}

/// `port = { interface = "eth1", vlan = 100, ... }`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortPeer {
    pub interface: String,
    pub vlan: VlanTags,
    /// Our own, with the link's prefix.
    pub addresses: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<PortRoute>,
    pub accept_ra: bool,
    /// We answer on the link for what the realm sees of others.
    pub proxy: bool,
    pub liveness_interval: Duration,
    pub liveness_multiplier: u8,
    pub bfd: Option<Bfd>,
}

/// `tun = { name = "ix0" }`: the machine's own kernel is the realm's router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunPeer {
    pub name: String,
}
