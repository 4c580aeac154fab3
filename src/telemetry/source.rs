//! Everything that status and metrics are made from: the worker's report, its socket's counters, and the names that
//! belong to the numbers in them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::{IpNet, Ipv4Net};

use crate::dataplane::report::{Drops, Report};
use crate::net::{RealmId, Timestamp, TunnelId, VlanTags};
use crate::packet::DropReason;

/// One moment of one appliance.
#[derive(Clone, Debug)]
pub struct Source {
    pub ix_name: String,
    pub uptime: Duration,
    pub listens: Vec<Listen>,
    /// In the order of their numbers.
    pub interfaces: Vec<InterfaceState>,
    pub gate: GateState,
    /// Of those that the configuration names for AF_XDP.
    pub uplinks: Vec<UplinkState>,
    pub names: Names,
    /// Settings of the file that runs which take effect at the next start only.
    pub waiting: Vec<String>,
    pub path: Report,
    pub socket: SocketReport,
    pub transfers: TransferCounts,
}

impl Source {
    /// The device of a routing daemon may have the name of one that a realm is attached by.
    pub fn interface(&self, name: &str) -> Option<&InterfaceState> {
        self.interfaces.iter().find(|one| one.name == name && one.what != InterfaceState::DAEMONS)
    }
}

/// The gate before the network stack.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GateState {
    /// Those that it is on.
    pub interfaces: Vec<String>,
    /// Those that would not take it; the log has the reasons.
    pub refused: Vec<String>,
    /// There is none.
    pub why_not: Option<String>,
}

/// An interface that tunnels' data is to go by past the kernel's stack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UplinkState {
    pub name: String,
    /// `Err`: why it goes by sockets.
    pub driver: Result<String, String>,
}

/// An interface that ports are on, or a TUN device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceState {
    pub name: String,
    /// What it is for: one of the words below.
    pub what: &'static str,
    /// By what its frames or packets are moved.
    pub driver: Result<DriverState, NotOpen>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriverState {
    /// "AF_PACKET ring, offload".
    pub kind: String,
    /// Why it is not a better one of those that were asked for.
    pub note: Option<String>,
}

/// Why an interface is not open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotOpen {
    /// With what to do.
    pub why: String,
    /// What it lacks, the process cannot get while it runs.
    pub at_next_start: bool,
}

impl InterfaceState {
    pub const PORTS: &str = "ports";
    pub const TUN: &str = "TUN";
    pub const DAEMONS: &str = "routing daemon";
}

impl NotOpen {
    pub fn opens(&self) -> &'static str {
        match self.at_next_start {
            true => "it is opened at the next start of ixgate",
            false => "it is opened by itself then, within seconds",
        }
    }
}

/// Of the zone to name servers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TransferCounts {
    pub served: u64,
    /// Without a key that counts, or for what is not served.
    pub refused: u64,
}

/// What the appliance listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listen {
    /// "WireGuard", "API", "metrics".
    pub what: &'static str,
    /// "udp 0.0.0.0:51820", "unix:state/ixgate.sock".
    pub address: String,
}

/// The outer socket's own counters, since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SocketReport {
    pub receive_offload: bool,
    pub send_offload: bool,
    pub receive_buffer_bytes: u64,
    /// Came in, but the receive buffer had no room: the worker never saw them. What the kernel had joined counts as one.
    pub overflow: Overflow,
    /// Queues of data of all ports together. 0: each port has one for everything.
    pub lanes: usize,
    /// Those that have lost something.
    pub lanes_overflown: usize,
    pub porters: PorterCounts,
    /// Of the gate. `None`: there is none.
    pub gate: Option<GateCounts>,
    /// Of uplinks by AF_XDP. `None`: there are none.
    pub uplink: Option<UplinkCounts>,
    /// Came in, but unusable: longer than any datagram may be.
    pub truncated_messages: u64,
    /// Not sent: the uplink took no more.
    pub congested_datagrams: u64,
    /// Not sent: no route, filtered, too long.
    pub refused_datagrams: u64,
}

/// Threads that receive, open, seal and send for the one that walks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PorterCounts {
    pub threads: usize,
    /// Datagrams that they opened.
    pub opened: u64,
    /// Those that they left to the walk as they came: data under keys that they had not been lent yet, or that is not authentic.
    pub left: u64,
}

/// Of uplinks by AF_XDP, in datagrams of tunnels' data.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct UplinkCounts {
    pub received: u64,
    pub sent: u64,
    /// Went by the sockets: no way or neighbour was known, or it was none of an uplink's.
    pub no_way: u64,
    /// Went by the sockets: longer than the way's MTU.
    pub too_long: u64,
    /// Came, and the ring had no room.
    pub lost: u64,
    /// Came, and were no whole datagrams.
    pub damaged: u64,
    /// Not sent: the card took no more.
    pub congested: u64,
    /// Remotes whose way is followed now, and at most.
    pub ways: usize,
    pub ways_limit: usize,
}

/// Of the gate, in datagrams: what the kernel had joined counts as what it was.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GateCounts {
    pub control: GateCount,
    pub data: GateCount,
    /// Lanes of which something was shed.
    pub lanes_shed: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct GateCount {
    pub admitted: u64,
    pub shed: u64,
}

/// By what they were.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Overflow {
    /// On queues for handshakes and IKE alone.
    pub control: u64,
    /// On lanes, and on ports and interfaces that have none.
    pub data: u64,
}

/// The operator's names of realms and tunnels, in the order of the file. Planned realms without tunnels are here too.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Names {
    pub realms: Vec<RealmName>,
    pub tunnels: Vec<TunnelName>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RealmName {
    pub realm: RealmId,
    pub name: String,
    /// `None`: it takes no networks from a routing daemon.
    pub routes: Option<Arc<LearnedRoutes>>,
}

/// What a realm's routing daemon has learned, when the configuration was last made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnedRoutes {
    pub namespace: String,
    pub tun: String,
    pub max_prefixes: usize,
    /// Why nothing can be learned, if so.
    pub trouble: Option<String>,
    /// Prefixes beyond `max_prefixes`.
    pub overflow: u64,
    /// How often something has changed since the start.
    pub changes: u64,
    /// Further changes are not taken sooner.
    pub held_until: Option<Timestamp>,
    pub accepted: Vec<LearnedRoute>,
    /// And why.
    pub refused: Vec<(IpNet, String)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LearnedRoute {
    pub prefix: IpNet,
    pub via: Vec<IpAddr>,
    pub since: Timestamp,
    /// The network of the realm that it is a part of.
    pub within: Option<IpNet>,
    /// Under which others see it in IPv4.
    pub alias: Option<Ipv4Net>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelName {
    pub tunnel: TunnelId,
    pub realm: RealmId,
    pub peer: PeerName,
    /// We know where to call it, so we initiate.
    pub has_endpoint: bool,
    /// Of those that are up, the ones with the lowest number carry the realm's traffic ...
    pub priority: u8,
    /// ... in these shares.
    pub weight: u8,
}

/// What a peer is known by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerName {
    /// Its public key.
    WireGuard([u8; 32]),
    /// The IKE identities, as they are written in the file.
    Ipsec { remote_id: String, local_id: String },
    /// The kernel's name of the interface.
    Port { interface: String, vlan: VlanTags },
    /// The device.
    Tun { name: String },
}

impl TunnelName {
    /// The beginning of the key as `wg` prints it: enough to tell tunnels apart, and no secret. Or the identity, or the
    /// interface and the VLAN.
    pub fn peer(&self) -> String {
        match &self.peer {
            PeerName::WireGuard(public_key) => STANDARD.encode(public_key)[..8].to_owned(),
            PeerName::Ipsec { remote_id, .. } => remote_id.clone(),
            PeerName::Port { interface, vlan } if *vlan == VlanTags::default() => interface.clone(),
            PeerName::Port { interface, vlan } => format!("{interface} {vlan}"),
            PeerName::Tun { name } => name.clone(),
        }
    }

    pub fn kind(&self) -> &'static str {
        match &self.peer {
            PeerName::WireGuard(_) => "WireGuard",
            PeerName::Ipsec { .. } => "IPsec",
            PeerName::Port { .. } => "port",
            PeerName::Tun { .. } => "TUN",
        }
    }
}

/// Drops that happened, most frequent first.
pub fn happened(drops: &Drops) -> Vec<(DropReason, u64)> {
    let mut happened: Vec<_> =
        DropReason::ALL.iter().map(|reason| (*reason, drops[reason.index()])).filter(|(_, count)| *count > 0).collect();
    happened.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), reason.index()));
    happened
}

/// Of all realms together and of none.
pub fn all_drops(path: &Report) -> Drops {
    let mut sum = path.unattributed_drops;
    for realm in &path.realms {
        for (total, count) in sum.iter_mut().zip(&realm.drops) {
            *total += count;
        }
    }
    sum
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use crate::dataplane::report::{
        AddressStatus, ChildReport, FailureReport, Gauges, IkeCounts, IpsecReport, MtuReport, MtuSource, NextHopStatus,
        PortCounts, PortStatus, RealmReport, ResolverHealth, ResolverReport, RouteReport, Share, Totals, Traffic,
        TunnelReport,
    };
    use crate::net::{Generation, Mac, PerVersion, Timestamp};

    /// Three realms: one with traffic, one whose tunnel never came up, one without a tunnel.
    pub(crate) fn three_realms() -> Source {
        let names = [(1, "region-a"), (2, "hospital-b"), (3, "planned-c")].map(|(number, name)| RealmName {
            realm: RealmId(number),
            name: name.to_owned(),
            routes: None,
        });
        let tunnels = [(0, 1, true), (1, 2, true)].map(|(slot, realm, has_endpoint)| TunnelName {
            tunnel: TunnelId(slot),
            realm: RealmId(realm),
            peer: PeerName::WireGuard([slot as u8; 32]),
            has_endpoint,
            priority: 0,
            weight: 1,
        });
        let mut drops = [0; DropReason::COUNT];
        drops[DropReason::NotGranted.index()] = 3;
        drops[DropReason::TunnelDown.index()] = 40;
        let mut unattributed_drops = [0; DropReason::COUNT];
        unattributed_drops[DropReason::HandshakeUnknownPeer.index()] = 7;
        let path = Report {
            made_at: Timestamp::ZERO,
            generation: Generation(4),
            totals: Totals {
                datagrams_in: 1_063,
                control: 2,
                keepalives: 1,
                forwarded: 1_000,
                answered: 10,
                originated: 10,
                reassembled: 0,
                fragments_joined: 0,
                fragments_kept: 0,
                fragments_made: 0,
            },
            unattributed_drops,
            realms: vec![
                realm(1, Traffic { packets: 1_053, bytes: 1_500_000 }, drops),
                realm(2, Traffic::default(), [0; _]),
            ],
            tunnels: vec![
                TunnelReport {
                    tunnel: TunnelId(0),
                    realm: RealmId(1),
                    up: true,
                    remote: Some("203.0.113.10:51820".parse().unwrap()),
                    last_handshake: Some(Duration::from_secs(75)),
                    last_data_received: Some(Duration::from_millis(2_500)),
                    received: Traffic { packets: 1_053, bytes: 1_500_000 },
                    sent: Traffic { packets: 10, bytes: 900 },
                    ipsec: None,
                    port: None,
                    share: Share::All,
                    mtu: MtuReport {
                        configured_bytes: 1420,
                        outer_bytes: Some(1452),
                        inner_bytes: 1392,
                        unfragmented_bytes: 1392,
                        may_fragment: false,
                        source: MtuSource::Icmp,
                        since: Some(Duration::from_secs(90)),
                        searching: false,
                    },
                },
                TunnelReport {
                    tunnel: TunnelId(1),
                    realm: RealmId(2),
                    up: false,
                    remote: None,
                    last_handshake: None,
                    last_data_received: None,
                    received: Traffic::default(),
                    sent: Traffic::default(),
                    ipsec: None,
                    port: None,
                    share: Share::None,
                    mtu: MtuReport {
                        configured_bytes: 1420,
                        inner_bytes: 1420,
                        unfragmented_bytes: 1420,
                        ..MtuReport::default()
                    },
                },
            ],
            strangers: Vec::new(),
            ike_sas: 0,
            ike_half_open: 0,
            sessions: 12,
            dns: Default::default(),
            dns_signatures: Default::default(),
            dns_now: Default::default(),
            dns_routes: Vec::new(),
            sessions_max: 1_000_000,
            known_flow_packets: 0,
            napt_bindings: 0,
            napt_bindings_max: 500_000,
            events_lost: 0,
        };
        Source {
            ix_name: "ix-east".to_owned(),
            uptime: Duration::from_secs(7_500),
            listens: vec![Listen { what: "WireGuard", address: "udp 0.0.0.0:51820".to_owned() }],
            interfaces: Vec::new(),
            gate: GateState { interfaces: vec!["eth0".to_owned()], ..GateState::default() },
            uplinks: Vec::new(),
            names: Names { realms: names.into(), tunnels: tunnels.into() },
            waiting: Vec::new(),
            path,
            transfers: TransferCounts::default(),
            socket: SocketReport {
                receive_offload: true,
                receive_buffer_bytes: 425_984,
                gate: Some(GateCounts::default()),
                uplink: None,
                ..SocketReport::default()
            },
        }
    }

    /// Of a realm's routing daemon: one prefix learned, one refused.
    pub(crate) fn learned_routes() -> LearnedRoutes {
        LearnedRoutes {
            namespace: "bgp-x".to_owned(),
            tun: "ix-x".to_owned(),
            max_prefixes: 1000,
            trouble: None,
            overflow: 3,
            changes: 2,
            held_until: Some(Timestamp::from_secs(120)),
            accepted: vec![LearnedRoute {
                prefix: "10.0.7.0/24".parse().unwrap(),
                via: vec!["172.20.0.1".parse().unwrap()],
                since: Timestamp::ZERO,
                within: None,
                alias: "100.64.7.0/24".parse().ok(),
            }],
            refused: vec![("0.0.0.0/0".parse().unwrap(), "a default route is no network".to_owned())],
        }
    }

    /// One realm behind one IPsec tunnel, and a stranger.
    pub(crate) fn ipsec_realm() -> Source {
        let mut source = three_realms();
        let secs = Duration::from_secs;
        let (received, sent) = (Traffic { packets: 30, bytes: 3_000 }, Traffic { packets: 20, bytes: 2_000 });
        source.names = Names {
            realms: vec![RealmName { realm: RealmId(1), name: "clinic".to_owned(), routes: None }],
            tunnels: vec![TunnelName {
                tunnel: TunnelId(0),
                realm: RealmId(1),
                peer: PeerName::Ipsec {
                    remote_id: "fqdn:gw.clinic.example".to_owned(),
                    local_id: "fqdn:ix.example".to_owned(),
                },
                has_endpoint: false,
                priority: 0,
                weight: 1,
            }],
        };
        let failure = |ago, remote: &str, cause, what: &str, nearest: Option<&str>| FailureReport {
            ago: secs(ago),
            count: 3,
            first_ago: secs(2 * ago),
            remote: remote.parse().unwrap(),
            stage: "authentication (IKE_AUTH)".to_owned(),
            cause,
            what: what.to_owned(),
            they_offer: None,
            we_accept: None,
            nearest: nearest.map(str::to_owned),
        };
        let wrong = "The peer's pre-shared key is not ours.";
        let ipsec = IpsecReport {
            stage: "established",
            proposal: "AES-GCM-256, PRF-HMAC-SHA-384, X25519".to_owned(),
            we_called: Some(false),
            nat: true,
            esp_in_udp: Some(true),
            rekey_in: Some(secs(10_800)),
            last_heard: Some(secs(12)),
            next_attempt_in: None,
            ike_sas: 1,
            children: vec![ChildReport {
                spi_in: 0xc0ff_ee01,
                spi_out: 0x0bad_cafe,
                proposal: "AES-GCM-256".to_owned(),
                ours: vec!["100.64.0.0/24".to_owned(), "100.64.1.0/24".to_owned()],
                theirs: vec!["192.168.1.0/24".to_owned()],
                age: secs(60),
                rekey_in: secs(3_000),
                received,
                sent,
            }],
            failures: vec![failure(3_600, "198.51.100.7:500", "wrong_psk", wrong, Some("Nearest: compare the two."))],
            counts: IkeCounts {
                attempts: 0,
                established: 3,
                ike_rekeys: 1,
                child_rekeys: 9,
                retransmissions: 2,
                failures: 1,
            },
        };
        source.path.tunnels = vec![TunnelReport {
            tunnel: TunnelId(0),
            realm: RealmId(1),
            up: true,
            remote: Some("198.51.100.7:4500".parse().unwrap()),
            last_handshake: Some(secs(300)),
            last_data_received: Some(secs(1)),
            received,
            sent,
            port: None,
            share: Share::All,
            ipsec: Some(Box::new(ipsec)),
            mtu: MtuReport {
                configured_bytes: 1390,
                outer_bytes: Some(1452),
                inner_bytes: 1390,
                unfragmented_bytes: 1390,
                may_fragment: false,
                source: MtuSource::Probe,
                since: Some(secs(60)),
                searching: false,
            },
        }];
        source.path.strangers = vec![failure(7, "203.0.113.99:500", "unknown_identity", "They are unknown.", None)];
        (source.path.ike_sas, source.path.ike_half_open) = (2, 1);
        source
    }

    /// [`three_realms`], with names that resolvers of one and some outside answer.
    pub(crate) fn names_of_others() -> Source {
        let secs = |secs| Some(Duration::from_secs(secs));
        let resolver = |server: &str, tls: Option<&str>, health| ResolverReport {
            server: server.parse().unwrap(),
            tls: tls.map(Into::into),
            health,
        };
        let unasked = ResolverHealth::default();
        let fast = ResolverHealth { answers: 1_200, failures: 3, last_answer: secs(4), ..unasked };
        let up = ResolverHealth { answers: 12, last_answer: secs(1), waiting: 2, ..unasked };
        let down = ResolverHealth {
            answers: 7,
            failures: 5,
            failures_in_a_row: 3,
            last_answer: secs(120),
            penalised_for: secs(9),
            ..unasked
        };
        let route = |owner, domains: [&str; 2], resolvers| RouteReport {
            owner,
            domains: domains.map(str::to_owned).into(),
            resolvers,
        };
        let outside =
            vec![resolver("9.9.9.9:853", Some("dns.quad9.net"), fast), resolver("[2620:fe::fe]:53", None, unasked)];
        let of_b = vec![resolver("192.168.1.53:53", None, up), resolver("192.168.1.54:53", None, down)];
        let mut source = three_realms();
        source.path.dns_routes = vec![
            route(None, [".", "example.org"], outside),
            route(Some(RealmId(2)), ["1.168.192.in-addr.arpa", "b.local"], of_b),
        ];
        source.path.dns_now = Gauges { pending: 2, cached: 40, penalised_resolvers: 1 };
        source.path.realms[0].dns_cached = 40;
        source
    }

    /// [`three_realms`], of which the first is attached by a port: up, watched, with one neighbour of two and switched once.
    pub(crate) fn port_realm() -> Source {
        let mut source = three_realms();
        let vlan = VlanTags { service: None, customer: Some(100) };
        source.names.tunnels[0].peer = PeerName::Port { interface: "eth1".to_owned(), vlan };
        let driver = Ok(DriverState { kind: "AF_PACKET ring".to_owned(), note: None });
        source.interfaces.push(InterfaceState { name: "eth1".to_owned(), what: InterfaceState::PORTS, driver });
        source.path.made_at = Timestamp::from_secs(65);
        let next_hop = |address: &str, is_alive: bool| NextHopStatus {
            address: address.parse().unwrap(),
            mac: is_alive.then_some(Mac([2, 0, 0, 0, 0, 1])),
            is_alive,
            watched_by: "probes",
            bfd: None,
            is_used: is_alive,
            since: Some(Timestamp::from_secs(5)),
            held_until: None,
        };
        let tunnel = &mut source.path.tunnels[0];
        (tunnel.remote, tunnel.last_handshake) = (None, None);
        tunnel.port = Some(Box::new(PortStatus {
            down: None,
            down_for: PerVersion::default(),
            mac: Some(Mac([2, 0, 0, 0, 0, 9])),
            link_mtu_bytes: Some(1500),
            addresses: vec![AddressStatus { address: "172.20.0.2".parse().unwrap(), state: "ours", other: None }],
            next_hops: vec![next_hop("172.20.0.1", true), next_hop("172.20.0.3", false)],
            neighbours: 1,
            neighbours_max: 1024,
            waiting: 2,
            counts: PortCounts {
                neighbour_messages: 90,
                neighbour_messages_over_limit: 7,
                unresolved: 4,
                echoes: 3,
                conflicts: 1,
                switches: 2,
                mac_changes: 5,
            },
        }));
        source.path.realms[0].switches = 1;
        source
    }

    fn realm(number: u16, received: Traffic, drops: Drops) -> RealmReport {
        RealmReport {
            realm: RealmId(number),
            received,
            sent: Traffic::default(),
            drops,
            sessions: 12,
            dns_cached: 0,
            switches: 0,
        }
    }
}
