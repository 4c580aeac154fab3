//! Names: the internal zone's signatures and transfers, and what others answer.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::RealmRef;

/// The internal zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// `None`: not signed.
    pub dnssec: Option<Dnssec>,
    /// `None`: not transferred.
    pub transfer: Option<Transfer>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Dnssec {
    pub key_file: PathBuf,
    /// ECDSA P-256 in PKCS #8 (DER). `None`: the file does not exist yet.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub listen: SocketAddr,
    /// At least one; no two have the same name.
    pub keys: Vec<TransferKey>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct TransferKey {
    /// Lower case, without the trailing dot.
    pub name: String,
    pub algorithm: TsigAlgorithm,
    pub secret: Zeroizing<Vec<u8>>,
    pub view: TransferView,
}

/// RFC 8945 section 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TsigAlgorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

/// Whose addresses are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransferView {
    /// All names, with their canonical addresses.
    Canonical,
    /// The names that the realm may reach, with the addresses that it sees.
    Realm(RealmRef),
}

impl fmt::Debug for Dnssec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dnssec").field("key_file", &self.key_file).finish_non_exhaustive()
    }
}

impl fmt::Debug for TransferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferKey").field("name", &self.name).field("view", &self.view).finish_non_exhaustive()
    }
}

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
    /// ... over TCP (default 128) ...
    pub pending_tcp: usize,
    /// ... and of these into one realm (default 16).
    pub pending_tcp_per_realm: usize,
    /// Answers remembered for one realm (default 4,096) ...
    pub cache_entries: usize,
    /// ... and their size (default 4 MiB).
    pub cache_bytes: usize,
    /// Queries answered per second to one host (default 500) ...
    pub queries_per_sec_per_host: u32,
    /// ... and to one realm (default 10,000).
    pub queries_per_sec_per_realm: u32,
    /// DNSSEC signatures remembered (default 32,768) ...
    pub signatures: usize,
    /// ... and made per second for one realm (default 500).
    pub signatures_per_sec_per_realm: u32,
    /// Connections for zone transfers (default 8).
    pub transfers: usize,
}

impl Default for DnsLimits {
    fn default() -> Self {
        DnsLimits {
            pending: 4096,
            pending_per_realm: 512,
            pending_per_resolver: 1024,
            pending_tcp: 128,
            pending_tcp_per_realm: 16,
            cache_entries: 4096,
            cache_bytes: 4 << 20,
            queries_per_sec_per_host: 500,
            queries_per_sec_per_realm: 10_000,
            signatures: 32_768,
            signatures_per_sec_per_realm: 500,
            transfers: 8,
        }
    }
}
