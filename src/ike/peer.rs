//! What is configured: ourselves, and each peer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::auth::{Identity, LocalAuth, Ppk, RemoteAuth};
use super::limits::Limits;
use super::proposal::Profile;
use crate::net::TunnelId;
use crate::net::random::Random;
use crate::net::selector::Selector;

/// What an endpoint is made with.
pub struct Setup {
    pub limits: Limits,
    /// Our UDP ports, as they go into the NAT detection hashes.
    pub ports: Ports,
    /// Addresses that our sockets are bound to; empty when they are bound to all and the kernel chooses.
    pub local_addresses: Vec<IpAddr>,
    /// Unix time at `Timestamp::ZERO`, for the dates in certificates.
    pub unix_secs_at_zero: u64,
    pub random: Box<dyn Random + Send>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    pub ike: u16,
    pub nat_t: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Ports { ike: 500, nat_t: 4500 }
    }
}

/// A peer as configured. Its `remote_id` is what it is known by.
#[derive(Clone)]
pub struct PeerConfig {
    pub tunnel: TunnelId,
    /// Where we call it: its IKE port. `None`: it calls us.
    pub remote: Option<SocketAddr>,
    /// Its port for IKE and ESP behind NAT, 4500 unless it was moved.
    pub remote_nat_t_port: u16,
    /// Keep the tunnel up from our side, for ever. Needs `remote`.
    pub initiate: bool,
    pub local_id: Identity,
    pub remote_id: Identity,
    pub local_auth: LocalAuth,
    pub remote_auth: RemoteAuth,
    pub ppk: Option<Ppk>,
    pub profile: Profile,
    pub encapsulation: Encapsulation,
    /// What the peer may reach behind us.
    pub ours: Vec<Selector>,
    /// What we may reach behind the peer.
    pub theirs: Vec<Selector>,
    pub selector_mode: SelectorMode,
    pub lifetimes: Lifetimes,
    /// 64 to 8192 packets.
    pub replay_window: u32,
    /// Ask a silent peer whether it is there after so long. Zero: never.
    pub liveness: Duration,
}

impl PeerConfig {
    /// Whether IKE SAs made under `self` may go on under `other`.
    pub(super) fn same_identity(&self, other: &PeerConfig) -> bool {
        self.local_id == other.local_id
            && self.remote_id == other.remote_id
            && self.proves_alike(other)
            && self.remote == other.remote
            && self.profile == other.profile
            && self.encapsulation == other.encapsulation
    }

    /// Whether nothing is different at all, so that everything that was made of one may stay. (Not `PartialEq`: secrets are compared.)
    pub fn is_equal(&self, other: &PeerConfig) -> bool {
        // Who adds a field has to say how it is compared.
        let PeerConfig {
            tunnel,
            remote,
            remote_nat_t_port,
            initiate,
            local_id,
            remote_id,
            local_auth,
            remote_auth,
            ppk: _,
            profile,
            encapsulation,
            ours,
            theirs,
            selector_mode,
            lifetimes,
            replay_window,
            liveness,
        } = self;
        let is_said_alike = (tunnel, remote, remote_nat_t_port, initiate, local_id, remote_id)
            == (
                &other.tunnel,
                &other.remote,
                &other.remote_nat_t_port,
                &other.initiate,
                &other.local_id,
                &other.remote_id,
            );
        let is_used_alike = (profile, encapsulation, ours, theirs, selector_mode, lifetimes, replay_window, liveness)
            == (
                &other.profile,
                &other.encapsulation,
                &other.ours,
                &other.theirs,
                &other.selector_mode,
                &other.lifetimes,
                &other.replay_window,
                &other.liveness,
            );
        is_said_alike
            && is_used_alike
            && local_auth.is_same(&other.local_auth)
            && remote_auth.is_same(&other.remote_auth)
            && self.proves_alike(other)
    }

    /// Whether its Child SAs may go on, too.
    pub(super) fn same_selectors(&self, other: &PeerConfig) -> bool {
        self.ours == other.ours && self.theirs == other.theirs && self.selector_mode == other.selector_mode
    }

    pub(super) fn remote_ip(&self) -> Option<IpAddr> {
        self.remote.map(|remote| remote.ip())
    }
}

/// Secrets stay out.
impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("tunnel", &self.tunnel)
            .field("remote", &self.remote)
            .field("local_id", &self.local_id)
            .field("remote_id", &self.remote_id)
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// How ESP travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encapsulation {
    /// In UDP always, by claiming a NAT on our side (RFC 7296 section 2.23): passes every firewall, and has GSO and GRO.
    #[default]
    Udp,
    /// In UDP where there is a NAT, else as IP protocol 50.
    Auto,
    /// As IP protocol 50 always: NAT detection is not offered.
    Esp,
}

/// What we propose and accept as traffic selectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SelectorMode {
    /// All of `ours` and `theirs` in one Child SA.
    #[default]
    View,
    /// 0.0.0.0/0 and ::/0 on both sides.
    Any,
    /// One Child SA for each pair of one of `ours` and one of `theirs` (of the same family).
    Pairs,
}

/// Each with up to 10 % less at random, so that not everybody rekeys at the same time.
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
            ike: Duration::from_secs(4 * 3600),
            child: Duration::from_secs(3600),
            child_bytes: u64::MAX,
            child_packets: 1 << 40,
        }
    }
}

/// An endpoint for tests and examples starts from this.
impl Setup {
    pub fn new(random: Box<dyn Random + Send>) -> Self {
        Setup {
            limits: Limits::default(),
            ports: Ports::default(),
            local_addresses: Vec::new(),
            unix_secs_at_zero: 0,
            random,
        }
    }
}

/// Peers are shared between the configuration and the SAs that were made under it.
pub type SharedPeer = Arc<PeerConfig>;
