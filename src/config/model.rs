//! Validated configuration. A value of [`Config`] obeys every rule that `check` knows: names are unique and resolve,
//! networks within a realm are nested or disjoint as allowed, hosts lie in their realms, secrets have been read.
//!
//! Realms are referred to by [`RealmRef`], their place in the file; permanent numbers are given later, by
//! `control::allocate`, because they live in the state store.

mod dns;
mod ipsec;
mod napt;
mod port;
mod routes_from;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use zeroize::Zeroizing;

pub use dns::{
    Dns, DnsForward, DnsLimits, Dnssec, OutsideResolver, RealmDns, Transfer, TransferKey, TransferView, TsigAlgorithm,
};
pub use ipsec::{
    Certificate, Encapsulation, Identity, Ike, IkeLimits, IpsecPeer, Lifetimes, LocalAuth, Ppk, Profile, RemoteAuth,
    RsaPadding, Selectors,
};

pub use routes_from::RoutesFrom;

pub use port::{Bfd, Driver, Interface, PortPeer, PortRoute, TunPeer};

pub use napt::{Filtering, Forward, ForwardProtocol, Napt};

use crate::net::Space6;
use crate::net::policy::PortRule;

/// Index into [`Config::realms`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RealmRef(pub usize);

/// Index into [`Config::hosts`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostRef(pub usize);

/// Index into [`Config::services`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceRef(pub usize);

#[derive(Clone, Debug)]
pub struct Config {
    pub ix: Ix,
    pub api: Api,
    pub metrics: Metrics,
    pub wireguard: WireGuard,
    pub ike: Ike,
    pub workers: Workers,
    pub gate: Gate,
    pub uplink: Uplink,
    pub limits: Limits,
    pub sessions: Sessions,
    pub dns: Dns,
    /// Of all ports, each once, by name.
    pub interfaces: Vec<Interface>,
    pub realms: Vec<Realm>,
    /// Its hosts are all addresses that nobody else has.
    pub default_realm: Option<RealmRef>,
    pub hosts: Vec<Host>,
    pub dns_forwards: Vec<DnsForward>,
    pub services: Vec<Service>,
    pub grants: Vec<Grant>,
}

impl Config {
    /// Whether the ports of `[ike]` are needed.
    pub fn uses_ipsec(&self) -> bool {
        self.attachments().any(|attachment| matches!(attachment.peer, Peer::Ipsec(_)))
    }

    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> + Clone {
        self.realms.iter().flat_map(|realm| &realm.attachments)
    }
}

#[derive(Clone, Debug)]
pub struct Ix {
    pub name: String,
    /// The internal zone, lower case, without the trailing dot.
    pub domain: String,
    pub space6: Space6,
    /// Disjoint.
    pub alias4: Vec<Ipv4Net>,
    /// Absolute or relative to the working directory (already joined with the file's directory).
    pub state_dir: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Api {
    pub socket: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Metrics {
    /// `None`: `listen = "off"`.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone, Debug)]
pub struct WireGuard {
    pub listen: SocketAddr,
    /// `None` when no realm is attached by WireGuard.
    pub private_key: Option<Zeroizing<[u8; 32]>>,
}

/// Threads of the packet path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// At least one.
    pub threads: usize,
}

impl Default for Workers {
    fn default() -> Self {
        Workers { threads: 1 }
    }
}

/// By what tunnels' datagrams come and go.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Where data goes past the kernel's stack. None: all of it goes by sockets.
    pub af_xdp: Vec<String>,
}

/// What is shed in overload, before it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    pub enabled: bool,
    /// `None`: all Ethernet interfaces that are no ports.
    pub interfaces: Option<Vec<String>>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { enabled: true, interfaces: None }
    }
}

/// Bounds on tables, all configurable under `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all (default 1,000,000).
    pub sessions: usize,
    /// Sessions that one source realm may have open (default 200,000).
    pub sessions_per_realm: usize,
    /// Handshake initiations answered per second before cookies are asked for (default 500).
    pub handshakes_per_sec: u32,
    /// ICMP errors sent per second towards one realm (default 100).
    pub icmp_errors_per_sec: u32,
    /// DNS-over-TCP connections that one realm may have open (default 16) ...
    pub dns_tcp_per_realm: usize,
    /// ... and all realms together (default 128).
    pub dns_tcp: usize,
    pub reassembly: ReassemblyLimits,
    /// NAPT bindings in all (default 500,000).
    pub napt_bindings: usize,
    pub dns: DnsLimits,
    pub ike: IkeLimits,
}

/// Bounds on fragments that wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReassemblyLimits {
    /// Memory in all, bytes (default 32 MiB) ...
    pub bytes: usize,
    /// ... and of one realm (default 1 MiB).
    pub bytes_per_realm: usize,
    /// Unfinished datagrams of one realm (default 1,024).
    pub datagrams_per_realm: usize,
    /// Fragments of one datagram (default 128).
    pub fragments: usize,
}

impl Default for ReassemblyLimits {
    fn default() -> Self {
        ReassemblyLimits { bytes: 32 << 20, bytes_per_realm: 1 << 20, datagrams_per_realm: 1024, fragments: 128 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 1_000_000,
            sessions_per_realm: 200_000,
            handshakes_per_sec: 500,
            icmp_errors_per_sec: 100,
            dns_tcp_per_realm: 16,
            dns_tcp: 128,
            reassembly: ReassemblyLimits::default(),
            napt_bindings: 500_000,
            dns: DnsLimits::default(),
            ike: IkeLimits::default(),
        }
    }
}

/// Idle times of sessions in seconds, all configurable under `[sessions]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Open TCP connections (default 7440).
    pub tcp_established_secs: u32,
    /// TCP connections that are not open yet (default 240).
    pub tcp_opening_secs: u32,
    /// TCP connections that are closed or reset (default 240).
    pub tcp_transitory_secs: u32,
    /// UDP and protocols without ports (default 300).
    pub udp_secs: u32,
    /// Ping (default 60).
    pub icmp_secs: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions {
            tcp_established_secs: 7440,
            tcp_opening_secs: 240,
            tcp_transitory_secs: 240,
            udp_secs: 300,
            icmp_secs: 60,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Realm {
    pub name: String,
    pub networks: Vec<Network>,
    pub dns: Option<RealmDns>,
    pub attachments: Vec<Attachment>,
    /// More networks are learned while we run.
    pub routes_from: Option<RoutesFrom>,
    /// `show_as`: its hosts are seen by a pool where they have no alias. Then, towards everybody, [`AliasMode::Auto`] does
    /// not occur: such a network is [`AliasMode::HostsOnly`].
    pub napt: Option<Napt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub native: IpNet,
    pub alias: AliasMode,
    /// IPv6 only: the canonical prefix when it is not the native one.
    pub canonical: Option<Ipv6Net>,
}

/// How a network is shown to realms that speak IPv4. Who speaks IPv6 sees canonical addresses either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasMode {
    /// An alias out of `alias4` with as many addresses. IPv6: at most [`AUTO_HOST_BITS6`] host bits.
    Auto,
    /// Pinned in the file: `alias = "100.64.2.0/24"`. As many addresses as the network has.
    Pinned(Ipv4Net),
    /// `alias = "hosts"`: only its `[[host]]`s are shown, each by a single address (IPv6: those without an IPv4 one).
    HostsOnly,
}

/// The widest IPv6 network that may ask for an alias: a /112, whose alias is a /16.
pub const AUTO_HOST_BITS6: u8 = 16;

impl AliasMode {
    /// Of a network that says nothing.
    pub fn default_of(native: IpNet) -> Self {
        match native {
            IpNet::V4(_) => AliasMode::Auto,
            IpNet::V6(_) => AliasMode::HostsOnly,
        }
    }
}

/// One tunnel or port of a realm. Of those that are up, the ones with the lowest `priority` number carry the traffic, in proportion to
/// their `weight`.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub peer: Peer,
    /// Where the realm's attachments say none: their order in the file, so that the first that is up carries everything.
    pub priority: u8,
    /// 1 to 100 (default 1): shares of flows among those of equal priority.
    pub weight: u8,
    /// Largest inner packet, bytes (default 1420 for WireGuard, 1390 for IPsec; 1280 to 1920).
    pub mtu_bytes: u16,
}

#[derive(Clone, Debug)]
pub enum Peer {
    WireGuard(WireGuardPeer),
    Ipsec(Box<IpsecPeer>),
    Port(Box<PortPeer>),
    Tun(TunPeer),
}

impl Attachment {
    pub fn wireguard(&self) -> Option<&WireGuardPeer> {
        match &self.peer {
            Peer::WireGuard(peer) => Some(peer),
            _ => None,
        }
    }

    pub fn ipsec(&self) -> Option<&IpsecPeer> {
        match &self.peer {
            Peer::Ipsec(peer) => Some(peer),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct WireGuardPeer {
    /// Unique in the whole file: the key is the identity.
    pub public_key: [u8; 32],
    pub preshared_key: Option<Zeroizing<[u8; 32]>>,
    /// When set, we initiate.
    pub endpoint: Option<SocketAddr>,
    /// Persistent keepalive (default: 25 s when `endpoint` is set, else none).
    pub keepalive: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Host {
    pub name: String,
    pub realm: RealmRef,
    /// One or two: at most one per family, each inside the realm's networks.
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct Service {
    pub name: String,
    pub host: HostRef,
    pub ports: Vec<PortRule>,
}

/// One `[[grant]]`, with its lists resolved.
#[derive(Clone, Debug)]
pub struct Grant {
    pub from: Vec<RealmRef>,
    pub to: Vec<GrantTarget>,
}

#[derive(Clone, Debug)]
pub enum GrantTarget {
    /// On the service's own ports.
    Service(ServiceRef),
    /// The whole realm, on the grant's `ports`.
    Realm(RealmRef, Vec<PortRule>),
}
