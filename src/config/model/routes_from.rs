//! Networks out of a routing daemon.

use std::net::IpAddr;

use ipnet::IpNet;

/// `routes_from = { namespace = "bgp-x", tun = "ix-x", local = [...], peers = [...] }`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutesFrom {
    /// As `ip netns` knows it.
    pub namespace: String,
    /// In that namespace.
    pub tun: String,
    /// Whom the daemon speaks as.
    pub local: Vec<IpAddr>,
    /// Whom it may speak with.
    pub peers: Vec<IpAddr>,
    /// Empty: everything that a realm can have.
    pub allow: Vec<IpNet>,
    pub max_prefixes: usize,
}
