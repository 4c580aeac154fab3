//! Names that others answer.

use std::net::SocketAddr;

/// Of one realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmDns {
    /// Lower case, without the trailing dot. Those that are no reverse zones are no other realm's.
    pub domains: Vec<String>,
    /// By their native addresses, inside the realm's networks; the preferred one first.
    pub resolvers: Vec<SocketAddr>,
}

/// Outside all realms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsForward {
    /// Empty: every name.
    pub domain: String,
    pub resolvers: Vec<OutsideResolver>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideResolver {
    pub server: SocketAddr,
    /// DNS over TLS, and the name that the server must prove.
    pub tls: Option<String>,
}

/// Bounds on forwarding and on askers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsLimits {
    /// Questions that wait for a resolver, in all (default 4,096) ...
    pub pending: usize,
    /// ... of one realm (default 512) ...
    pub pending_per_realm: usize,
    /// ... at one resolver (default 1,024) ...
    pub pending_per_resolver: usize,
    /// ... and over TCP (default 128).
    pub pending_tcp: usize,
    /// Answers remembered for one realm (default 4,096) ...
    pub cache_entries: usize,
    /// ... and their size (default 4 MiB).
    pub cache_bytes: usize,
    /// Queries answered per second to one host (default 500) ...
    pub queries_per_sec_per_host: u32,
    /// ... and to one realm (default 10,000).
    pub queries_per_sec_per_realm: u32,
}

impl Default for DnsLimits {
    fn default() -> Self {
        DnsLimits {
            pending: 4096,
            pending_per_realm: 512,
            pending_per_resolver: 1024,
            pending_tcp: 128,
            cache_entries: 4096,
            cache_bytes: 4 << 20,
            queries_per_sec_per_host: 500,
            queries_per_sec_per_realm: 10_000,
        }
    }
}
