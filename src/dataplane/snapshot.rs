//! What a configuration means to the packet path: compiled, immutable, numbered by generation.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dns;
use crate::ike;
use crate::link;
use crate::nat::{self, napt};
use crate::net::mapping::{Located, Mapping};
use crate::net::policy::Policy;
use crate::net::{Generation, InterfaceId, RealmId, TunnelId, VlanTags};
use crate::wireguard;

use super::door::Door;
use super::tunnels::Targets;

#[derive(Debug)]
pub struct Snapshot {
    pub generation: Generation,
    /// The first generation of the same file: since then only networks have changed, which routing daemons learned.
    pub file_read_in: Generation,
    pub mapping: Mapping,
    pub policy: Policy,
    /// Who is shown by a pool.
    pub napt: Arc<napt::Spec>,
    pub zone: dns::Zone,
    pub routes: dns::Routes,
    /// Of those who may fetch the zone.
    pub transfer_keys: Vec<dns::transfer::TransferKey>,
    /// By realm number; `None` for numbers that are not configured (any more). Realm 0, the IX, has no tunnels.
    pub realms: Vec<Option<Realm>>,
    /// By tunnel id. The id of a peer that is gone may be given to another.
    pub tunnels: Vec<Option<Tunnel>>,
    pub service: Service,
    /// What the ports are on, by interface number.
    pub interfaces: Vec<Option<Interface>>,
    /// Of realms that take networks from a routing daemon.
    pub doors: Vec<Door>,
    /// How long sessions may be idle.
    pub timers: nat::Timers,
    pub limits: Limits,
    /// What follows from the rest, once somebody has asked for it.
    pub derived: Derived,
}

#[derive(Default, Debug)]
pub struct Derived {
    targets: OnceLock<Arc<Targets>>,
}

#[derive(Clone, Debug)]
pub struct Realm {
    pub name: String,
    /// In the order of the file: the first that is up carries the traffic.
    pub tunnels: Vec<TunnelId>,
    /// A few native addresses at which the file says that there is somebody.
    pub inhabited: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct Tunnel {
    pub realm: RealmId,
    /// Largest inner packet.
    pub mtu_bytes: u16,
    /// The outer header shows the inner DSCP. Only of IPsec tunnels.
    pub copy_dscp: bool,
    /// Of the realm's attachments that are up, those with the lowest number carry its traffic; equal numbers share it.
    pub priority: u8,
    /// Shares of flows among those of equal priority: at least 1.
    pub weight: u8,
    pub peer: Transport,
}

/// An Ethernet interface, or a TUN device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Interface {
    /// The kernel's.
    pub name: String,
    pub is_tun: bool,
    /// The network namespace that it is in, where it is a routing daemon's. `None`: ours.
    pub namespace: Option<String>,
}

/// By what a tunnel's packets are sealed and opened, and for whom.
#[derive(Clone, Debug)]
pub enum Transport {
    WireGuard(wireguard::PeerConfig),
    Ipsec(Arc<ike::PeerConfig>),
    Port(Arc<link::PortConfig>),
}

impl Tunnel {
    /// The same realm's tunnel to the same peer.
    pub fn is_same(&self, other: &Tunnel) -> bool {
        self.realm == other.realm && self.peer.is_same(&other.peer)
    }
}

impl Transport {
    pub fn tunnel(&self) -> TunnelId {
        match self {
            Transport::WireGuard(peer) => peer.tunnel,
            Transport::Ipsec(peer) => peer.tunnel,
            Transport::Port(port) => port.tunnel,
        }
    }

    /// The peer has the same identity.
    fn is_same(&self, other: &Transport) -> bool {
        match (self, other) {
            (Transport::WireGuard(one), Transport::WireGuard(other)) => one.public_key == other.public_key,
            (Transport::Ipsec(one), Transport::Ipsec(other)) => {
                Arc::ptr_eq(one, other) || (one.local_id == other.local_id && one.remote_id == other.remote_id)
            }
            (Transport::Port(one), Transport::Port(other)) => one.is_same_place(other),
            _ => false,
        }
    }
}

/// The IX's own addresses, seen by every realm.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Source of ICMP errors; answers ping.
    pub gateway: Located,
    /// Answers names, and ping.
    pub dns: Located,
}

/// Limits that may change with the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub icmp_errors_per_sec: u32,
}

impl Snapshot {
    /// To be called where nobody waits for packets, as the packet path does while it adopts a snapshot: takes peers from the one before that are
    /// in nothing different, so that they are seen to be the same at one look, and makes what follows from the rest.
    pub fn get_ready(&mut self, before: &Snapshot) {
        for (tunnel, before) in self.tunnels.iter_mut().zip(&before.tunnels) {
            if let (Some(Tunnel { peer: Transport::Ipsec(peer), .. }), Some(before)) = (tunnel, before)
                && let Transport::Ipsec(same) = &before.peer
                && peer.is_equal(same)
            {
                *peer = same.clone();
            }
        }
        self.targets();
    }

    /// Whom to ask about WireGuard's paths.
    pub(super) fn targets(&self) -> &Arc<Targets> {
        self.derived.targets.get_or_init(|| Arc::new(Targets::new(self)))
    }

    pub fn realm(&self, realm: RealmId) -> Option<&Realm> {
        self.realms.get(usize::from(realm.0))?.as_ref()
    }

    #[inline]
    pub fn tunnel(&self, tunnel: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(tunnel.index())?.as_ref()
    }

    pub fn door_of(&self, interface: InterfaceId) -> Option<&Door> {
        self.doors.iter().find(|door| door.interface == interface)
    }

    /// The address under which `viewer` sees one of the IX's own, in the IP version of `like`.
    pub fn service_seen_by(&self, service: Located, viewer: RealmId, like: IpAddr) -> Option<IpAddr> {
        self.mapping.seen_by_like(viewer, service, like)
    }

    /// For people: which of its realm's attachments it is.
    pub fn tunnel_words(&self, tunnel: TunnelId) -> String {
        match self.tunnel(tunnel).map(|tunnel| &tunnel.peer) {
            Some(Transport::WireGuard(peer)) => {
                format!("WireGuard {}", STANDARD.encode(peer.public_key).get(..8).unwrap_or_default())
            }
            Some(Transport::Ipsec(peer)) => format!("IPsec {}", peer.remote_id),
            Some(Transport::Port(port)) => self.port_words(port),
            None => "(removed)".to_owned(),
        }
    }

    fn port_words(&self, port: &link::PortConfig) -> String {
        let interface = self.interfaces.get(port.interface.index()).and_then(Option::as_ref);
        let name = interface.map_or("(removed)", |interface| &interface.name);
        match &port.medium {
            link::Medium::Tun => format!("TUN {name}"),
            link::Medium::Ethernet(ethernet) if ethernet.vlan == VlanTags::default() => format!("port {name}"),
            link::Medium::Ethernet(ethernet) => format!("port {name} {}", ethernet.vlan),
        }
    }

    /// For people: a realm's name, or its number when it is gone.
    pub fn realm_name(&self, realm: RealmId) -> String {
        match self.realm(realm) {
            Some(realm) => realm.name.clone(),
            None if realm.is_ix() => "ix".into(),
            None => format!("realm {realm}"),
        }
    }
}
