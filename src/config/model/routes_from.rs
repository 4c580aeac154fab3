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
    /// Empty: every IPv4 prefix that a realm can have, and no IPv6 one. Of IPv6, nobody else's.
    pub allow: Vec<IpNet>,
    pub max_prefixes: usize,
    /// Addresses of `alias4` for learned networks, withdrawn ones too. `None`: an equal part of one half of it.
    pub max_alias_addresses: Option<u64>,
}
