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

/// Our certificate and the key that belongs to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// DER; ours first, then the intermediate ones.
    pub chain: Vec<Vec<u8>>,
    /// DER: PKCS#8, PKCS#1 or SEC1.
    pub private_key: Zeroizing<Vec<u8>>,
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
    /// Equal for two that mean the same: names do not know large and small letters.
    pub fn folded(&self) -> String {
        self.to_string().to_lowercase()
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
        /// DER, at least one.
        cas: Vec<Vec<u8>>,
        /// DER, of `cas` or of CAs below them.
        crls: Vec<Vec<u8>>,
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
