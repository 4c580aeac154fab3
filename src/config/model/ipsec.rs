//! IPsec as configured: our side, and the peers. Files have been read, and what is in them has been checked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use zeroize::Zeroizing;

/// `[ike]`: our side of every IPsec tunnel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ike {
    pub listen: IpAddr,
    /// UDP port of IKE (default 500).
    pub port: u16,
    /// UDP port of IKE and ESP where there is a NAT, or encapsulation is forced (default 4500).
    pub nat_t_port: u16,
    pub local_id: Option<Identity>,
    pub certificate: Option<Certificate>,
    /// Take ESP as IP protocol 50 too.
    pub raw_esp: bool,
}

/// Our certificate and the key that belongs to it, both in PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Ours, and the intermediate ones.
    pub chain: Vec<u8>,
    pub private_key: Zeroizing<Vec<u8>>,
    pub rsa_padding: RsaPadding,
}

/// How an RSA key signs (RFC 7427, RFC 8247 section 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RsaPadding {
    Pss,
    Pkcs1,
}

/// Who somebody is in IKE (RFC 7296 section 3.5).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Identity {
    Fqdn(String),
    Email(String),
    Address(IpAddr),
    /// As written, without `dn:`.
    Dn(String),
}

impl Identity {
    /// Equal for two that mean the same: names do not know large and small letters, nor repeated spaces.
    pub fn folded(&self) -> String {
        let text = self.to_string().to_lowercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").replace(" ,", ",").replace(", ", ",").replace(" =", "=").replace("= ", "=")
    }
}

/// As it is written in the file.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Fqdn(name) => write!(f, "fqdn:{name}"),
            Identity::Email(address) => write!(f, "email:{address}"),
            Identity::Address(address) => write!(f, "ip:{address}"),
            Identity::Dn(name) => write!(f, "dn:{name}"),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IpsecPeer {
    /// IKE port of the peer. `None`: the peer calls.
    pub remote: Option<SocketAddr>,
    /// UDP port of the peer for IKE and ESP in UDP (default 4500).
    pub remote_nat_t_port: u16,
    /// Together with `local_id` unique in the whole file: the identity is the key.
    pub remote_id: Identity,
    pub local_id: Identity,
    pub local_auth: LocalAuth,
    pub remote_auth: RemoteAuth,
    pub ppk: Option<Ppk>,
    pub profile: Profile,
    /// Only with `remote`.
    pub initiate: bool,
    pub encapsulation: Encapsulation,
    pub selectors: Selectors,
    pub lifetimes: Lifetimes,
    /// 64 to 8192.
    pub replay_window_packets: u32,
    pub liveness: Duration,
    /// The outer header shows the inner traffic class.
    pub copy_dscp: bool,
}

/// How we prove who we are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LocalAuth {
    Psk(Zeroizing<Vec<u8>>),
    /// With [`Ike::certificate`], which is there.
    Certificate,
}

/// How the peer proves who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RemoteAuth {
    Psk(Zeroizing<Vec<u8>>),
    Certificate {
        /// DER, at least one: CAs, or peers' own certificates.
        cas: Vec<Vec<u8>>,
        /// DER, of `cas` or of CAs below them.
        crls: Vec<Vec<u8>>,
        /// Refuse a certificate that no valid list covers.
        require_crl: bool,
    },
}

/// A post-quantum pre-shared key (RFC 8784).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ppk {
    pub id: String,
    pub key: Zeroizing<Vec<u8>>,
    pub required: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    Modern,
    Pq,
    Compat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encapsulation {
    /// ESP in UDP, always.
    Udp,
    /// ESP in UDP where there is a NAT.
    Auto,
    /// Never in UDP.
    Esp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selectors {
    View,
    Any,
    /// The view, one pair per child SA.
    Pairs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lifetimes {
    pub ike: Duration,
    pub child: Duration,
    pub child_bytes: u64,
    pub child_packets: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Lifetimes {
            ike: Duration::from_secs(14_400),
            child: Duration::from_secs(3_600),
            child_bytes: 1_000_000_000_000,
            child_packets: 1_000_000_000,
        }
    }
}

/// Bounds on what peers and strangers can make us hold, all configurable under `[limits]` as `ike_…`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IkeLimits {
    /// IKE SAs whose peer has not proved who it is, in all (default 4,096) ...
    pub half_open: usize,
    /// ... and from one source (default 64).
    pub half_open_per_source: usize,
    /// Half-open SAs from which on cookies are asked for (default 256).
    pub cookie_threshold: usize,
    /// IKE SAs of one peer at a time (default 4).
    pub sas_per_peer: usize,
    /// Child SAs of one IKE SA (default 128).
    pub children_per_sa: usize,
    /// Fragments of one message (default 64).
    pub fragments: u16,
    /// Bytes of one message (default 65,535).
    pub message_bytes: usize,
    /// Payloads of one message (default 64).
    pub payloads: usize,
    /// Proposals of one SA payload (default 32).
    pub proposals: usize,
    /// Transforms of one proposal (default 128).
    pub transforms: usize,
    /// Traffic selectors on one side of a child SA (default 64).
    pub selectors: usize,
}

impl Default for IkeLimits {
    fn default() -> Self {
        IkeLimits {
            half_open: 4096,
            half_open_per_source: 64,
            cookie_threshold: 256,
            sas_per_peer: 4,
            children_per_sa: 128,
            fragments: 64,
            message_bytes: 65_535,
            payloads: 64,
            proposals: 32,
            transforms: 128,
            selectors: 64,
        }
    }
}
