//! The status document: what `ixgate status --json` prints and what its words are made from.
//!
//! Fields are only ever added. Ages and windows carry their unit in the name; a field that does not apply is null.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::source::{self, GateCounts, PeerName, Source, TunnelName, UplinkState};
use super::status_dns::DnsStatus;
use super::status_ipsec::{FailureStatus, IpsecStatus};
use super::status_mtu::MtuStatus;
use super::status_port::PortStatus;
use super::status_role;
use super::status_routes::RoutesStatus;
use crate::dataplane::report::{self, Down, Drops, RealmReport, Share, Totals, Traffic, TunnelReport};
use crate::net::{RealmId, TunnelId};

/// "Data passed in the last n seconds", unless the asker says otherwise.
pub const DEFAULT_WINDOW_SECS: u64 = 60;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    /// The interconnection centre's name.
    pub ix: String,
    /// Of the running configuration.
    pub generation: u32,
    /// Settings of its file that take effect at the next start only.
    #[serde(default)]
    pub waits_for_restart: Vec<String>,
    pub uptime_secs: u64,
    pub listens: Vec<ListenStatus>,
    pub socket: SocketStatus,
    pub sessions: usize,
    pub sessions_max: usize,
    #[serde(default)]
    pub napt_bindings: usize,
    #[serde(default)]
    pub napt_bindings_max: usize,
    /// Forwarded questions that wait for a resolver, and answers that are remembered.
    #[serde(default)]
    pub dns_pending: usize,
    #[serde(default)]
    pub dns_cached: usize,
    /// Names that resolvers outside all realms answer.
    #[serde(default)]
    pub dns_outside: Vec<DnsStatus>,
    /// What happened to tunnels and is missing from the log, because too much came at once.
    #[serde(default)]
    pub events_lost: u64,
    /// What `data_passed` looks back over.
    pub data_window_secs: u64,
    /// In the order of the file.
    pub realms: Vec<RealmStatus>,
    /// Of datagrams that belong to no realm (yet).
    pub unattributed_drops: Vec<DropStatus>,
    /// IKE SAs of any kind, and those of them whose peer has not proved who it is.
    #[serde(default)]
    pub ike_sas: usize,
    #[serde(default)]
    pub ike_half_open: usize,
    /// Failed IKE negotiations of which it is not known whose they were, the latest last.
    #[serde(default)]
    pub ike_strangers: Vec<FailureStatus>,
    pub totals: TotalsStatus,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListenStatus {
    pub what: String,
    pub address: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SocketStatus {
    pub receive_offload: bool,
    pub send_offload: bool,
    pub receive_buffer_bytes: u64,
    /// Lost before they were read: not part of `totals`.
    pub overflow_datagrams: u64,
    /// Of these, handshakes and IKE.
    #[serde(default)]
    pub overflow_control_datagrams: u64,
    /// Queues of data, and those of them that have lost something.
    #[serde(default)]
    pub lanes: usize,
    #[serde(default)]
    pub lanes_overflown: usize,
    #[serde(default)]
    pub porters: PortersStatus,
    /// Why there is no gate. Null: there is one.
    #[serde(default)]
    pub no_gate: Option<String>,
    /// Of the gate. Null: there is none.
    #[serde(default)]
    pub gate: Option<GateStatus>,
    /// By AF_XDP. Null: tunnels go by sockets alone, as nothing else is asked for.
    #[serde(default)]
    pub uplink: Option<UplinkStatus>,
    pub truncated_messages: u64,
    pub unsent_congested_datagrams: u64,
    pub unsent_refused_datagrams: u64,
}

/// Threads that receive, open, seal and send for the one that walks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortersStatus {
    pub threads: usize,
    pub opened_datagrams: u64,
    /// To the walk, which opens them itself: data under keys that are new to a porter, and what is not authentic.
    pub left_datagrams: u64,
}

/// Tunnels' data past the kernel's stack. Datagrams; what went by the sockets is no loss.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UplinkStatus {
    pub interfaces: Vec<UplinkInterfaceStatus>,
    pub received_datagrams: u64,
    pub sent_datagrams: u64,
    /// By the sockets, as no way or neighbour was known.
    pub no_way_datagrams: u64,
    /// By the sockets, as they were longer than the way's MTU.
    pub too_long_datagrams: u64,
    /// The ring was full.
    pub lost_datagrams: u64,
    pub damaged_datagrams: u64,
    /// The card took no more.
    pub unsent_datagrams: u64,
    /// Remotes whose way is followed now, and at most.
    pub ways: usize,
    pub ways_limit: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UplinkInterfaceStatus {
    pub name: String,
    /// "AF_XDP native, zero copy". Null: the sockets carry everything.
    pub driver: Option<String>,
    pub why_not: Option<String>,
}

/// What sheds, in overload, before the network stack has worked on it. Not part of `totals`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GateStatus {
    pub interfaces: Vec<String>,
    pub refused_interfaces: Vec<String>,
    pub admitted_datagrams: u64,
    pub shed_datagrams: u64,
    /// Of these, handshakes and IKE.
    pub shed_control_datagrams: u64,
    /// Queues of data of which something was shed.
    pub lanes_shed: usize,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RealmStatus {
    pub name: String,
    /// The permanent number.
    pub number: u16,
    pub tunnels: Vec<TunnelStatus>,
    /// Any of its tunnels brought data in the last `data_window_secs`.
    pub data_passed: bool,
    pub received: TrafficStatus,
    pub sent: TrafficStatus,
    /// Opened by its hosts.
    pub sessions: usize,
    /// Names that its own resolvers answer. Null: none.
    #[serde(default)]
    pub dns: Option<DnsStatus>,
    /// Forwarded answers that are remembered for its hosts.
    #[serde(default)]
    pub dns_cached: usize,
    /// What its routing daemon has learned. Null: it has none.
    #[serde(default)]
    pub routes: Option<RoutesStatus>,
    /// Of packets that this realm sent.
    pub drops: Vec<DropStatus>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// The beginning of the peer's public key, or its IKE identity; interface and VLAN; the TUN device.
    pub peer: String,
    /// "WireGuard", "IPsec", "port" or "TUN".
    #[serde(default)]
    pub kind: String,
    pub remote: Option<SocketAddr>,
    pub up: bool,
    pub state: TunnelState,
    /// It carries the realm's traffic now, alone or with others.
    #[serde(default)]
    pub carries: bool,
    /// "IPv4" or "IPv6", where the other goes elsewhere or nowhere. Null: it carries both, all that there is, or nothing.
    #[serde(default)]
    pub carries_only: Option<String>,
    #[serde(default)]
    pub priority: u8,
    #[serde(default)]
    pub weight: u8,
    /// Why it carries, or does not, where the realm has others: a sentence. Empty where it has not.
    #[serde(default)]
    pub role: String,
    pub last_handshake_secs_ago: Option<u64>,
    pub last_data_secs_ago: Option<u64>,
    pub received: TrafficStatus,
    pub sent: TrafficStatus,
    /// Null for WireGuard.
    #[serde(default)]
    pub ipsec: Option<IpsecStatus>,
    /// Null for tunnels.
    #[serde(default)]
    pub port: Option<PortStatus>,
    /// Null while the packet path does not know the tunnel yet.
    #[serde(default)]
    pub mtu: Option<MtuStatus>,
}

/// A tunnel in one word; [`TunnelState::words`] says it to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// Up, and data came within the window.
    Carrying,
    /// Up, but no data came within the window.
    Idle,
    /// It was up, and is no more.
    Lost,
    /// We call, and nobody has ever answered.
    NeverAnswered,
    /// We wait for a call, and none has ever come.
    NeverCalled,
    /// A port whose interface could not be opened (yet).
    NotOpen,
    /// A port whose interface is down or has no carrier.
    NoLink,
    /// A port of which no address of ours is known to be ours alone yet.
    NoAddress,
    /// A port whose addresses somebody else has.
    DuplicateAddress,
    /// A port whose routers are silent.
    NoNextHop,
    /// A port that the packet path does not know yet.
    Starting,
}

impl TunnelState {
    pub fn words(self) -> &'static str {
        match self {
            TunnelState::Carrying => "up",
            TunnelState::Idle => "up, no data lately",
            TunnelState::Lost => "down, stopped answering",
            TunnelState::NeverAnswered => "down, never answered",
            TunnelState::NeverCalled => "down, never called us",
            TunnelState::NotOpen => "down, not open",
            TunnelState::NoLink => "down, no link",
            TunnelState::NoAddress => "down, our address is being probed",
            TunnelState::DuplicateAddress => "down, somebody else has our address",
            TunnelState::NoNextHop => "down, no next hop answers",
            TunnelState::Starting => "down, just configured",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrafficStatus {
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropStatus {
    pub reason: String,
    pub count: u64,
    /// What happened.
    pub what: String,
    /// Whose side the cause is on.
    pub side: String,
    /// What to do.
    pub remedy: String,
}

/// Where the datagrams went that came in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TotalsStatus {
    pub datagrams_in: u64,
    pub control: u64,
    pub keepalives: u64,
    pub forwarded: u64,
    pub answered: u64,
    pub dropped: u64,
    /// Made by the IX; never came in.
    pub originated: u64,
    /// Packets put together from fragments, each counted once above, and their other fragments.
    pub reassembled: u64,
    pub fragments_joined: u64,
    /// Fragments that wait for others now.
    pub fragments_kept: u64,
    /// Fragments sent.
    pub fragments_made: u64,
    /// `datagrams_in = control + keepalives + forwarded + answered + dropped + fragments_joined + fragments_kept`. Always; otherwise a defect of ixgate.
    pub balanced: bool,
}

impl Status {
    pub fn of(source: &Source, window: Duration) -> Self {
        let path = &source.path;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ix: source.ix_name.clone(),
            generation: path.generation.0,
            waits_for_restart: source.waiting.clone(),
            uptime_secs: source.uptime.as_secs(),
            listens: listens_of(source),
            socket: SocketStatus::of(source),
            sessions: path.sessions,
            sessions_max: path.sessions_max,
            napt_bindings: path.napt_bindings,
            napt_bindings_max: path.napt_bindings_max,
            dns_pending: path.dns_now.pending,
            dns_cached: path.dns_now.cached,
            dns_outside: path.dns_routes.iter().filter(|route| route.owner.is_none()).map(DnsStatus::of).collect(),
            events_lost: path.events_lost,
            data_window_secs: window.as_secs(),
            realms: realms_of(source, window),
            unattributed_drops: drops_of(&path.unattributed_drops),
            ike_sas: path.ike_sas,
            ike_half_open: path.ike_half_open,
            ike_strangers: path.strangers.iter().map(FailureStatus::of).collect(),
            totals: TotalsStatus::of(path.totals, source::all_drops(path).iter().sum()),
        }
    }

    pub fn realm(&self, name: &str) -> Option<&RealmStatus> {
        self.realms.iter().find(|realm| realm.name == name)
    }
}

impl GateStatus {
    fn of(source: &Source, counts: GateCounts) -> Self {
        GateStatus {
            interfaces: source.gate.interfaces.clone(),
            refused_interfaces: source.gate.refused.clone(),
            admitted_datagrams: counts.control.admitted + counts.data.admitted,
            shed_datagrams: counts.control.shed + counts.data.shed,
            shed_control_datagrams: counts.control.shed,
            lanes_shed: counts.lanes_shed,
        }
    }
}

impl UplinkStatus {
    fn of(source: &Source) -> Option<Self> {
        let interface = |state: &UplinkState| UplinkInterfaceStatus {
            name: state.name.clone(),
            driver: state.driver.clone().ok(),
            why_not: state.driver.clone().err(),
        };
        let interfaces: Vec<_> = source.uplinks.iter().map(interface).collect();
        if interfaces.is_empty() && source.socket.uplink.is_none() {
            return None;
        }
        let counts = source.socket.uplink.unwrap_or_default();
        Some(UplinkStatus {
            interfaces,
            received_datagrams: counts.received,
            sent_datagrams: counts.sent,
            no_way_datagrams: counts.no_way,
            too_long_datagrams: counts.too_long,
            lost_datagrams: counts.lost,
            damaged_datagrams: counts.damaged,
            unsent_datagrams: counts.congested,
            ways: counts.ways,
            ways_limit: counts.ways_limit,
        })
    }
}

impl SocketStatus {
    fn of(source: &Source) -> Self {
        let socket = &source.socket;
        SocketStatus {
            receive_offload: socket.receive_offload,
            send_offload: socket.send_offload,
            receive_buffer_bytes: socket.receive_buffer_bytes,
            overflow_datagrams: socket.overflow.control + socket.overflow.data,
            overflow_control_datagrams: socket.overflow.control,
            lanes: socket.lanes,
            lanes_overflown: socket.lanes_overflown,
            porters: PortersStatus {
                threads: socket.porters.threads,
                opened_datagrams: socket.porters.opened,
                left_datagrams: socket.porters.left,
            },
            no_gate: source.gate.why_not.clone(),
            gate: socket.gate.map(|counts| GateStatus::of(source, counts)),
            uplink: UplinkStatus::of(source),
            truncated_messages: socket.truncated_messages,
            unsent_congested_datagrams: socket.congested_datagrams,
            unsent_refused_datagrams: socket.refused_datagrams,
        }
    }
}

impl TotalsStatus {
    fn of(totals: Totals, dropped: u64) -> Self {
        TotalsStatus {
            datagrams_in: totals.datagrams_in,
            control: totals.control,
            keepalives: totals.keepalives,
            forwarded: totals.forwarded,
            answered: totals.answered,
            dropped,
            originated: totals.originated,
            reassembled: totals.reassembled,
            fragments_joined: totals.fragments_joined,
            fragments_kept: totals.fragments_kept,
            fragments_made: totals.fragments_made,
            balanced: totals.balances(dropped),
        }
    }
}

impl From<Traffic> for TrafficStatus {
    fn from(traffic: Traffic) -> Self {
        TrafficStatus { packets: traffic.packets, bytes: traffic.bytes }
    }
}

fn listens_of(source: &Source) -> Vec<ListenStatus> {
    let status =
        |listen: &source::Listen| ListenStatus { what: listen.what.to_owned(), address: listen.address.clone() };
    let interface = |one: &source::InterfaceState| ListenStatus {
        what: one.what.to_owned(),
        address: format!("{} ({})", one.name, one.driver.as_ref().map_or("not open", |driver| &driver.kind)),
    };
    source.listens.iter().map(status).chain(source.interfaces.iter().map(interface)).collect()
}

fn realms_of(source: &Source, window: Duration) -> Vec<RealmStatus> {
    let reports: HashMap<RealmId, &RealmReport> =
        source.path.realms.iter().map(|report| (report.realm, report)).collect();
    let mut tunnels = tunnels_of(source, window);
    let realms = source.names.realms.iter().map(|name| {
        let report = reports.get(&name.realm);
        let tunnels = tunnels.remove(&name.realm).unwrap_or_default();
        RealmStatus {
            name: name.name.clone(),
            number: name.realm.0,
            data_passed: tunnels.iter().any(|tunnel| is_within(tunnel.last_data_secs_ago, window)),
            tunnels,
            received: report.map(|report| report.received.into()).unwrap_or_default(),
            sent: report.map(|report| report.sent.into()).unwrap_or_default(),
            sessions: report.map_or(0, |report| report.sessions),
            dns: source.path.dns_routes.iter().find(|route| route.owner == Some(name.realm)).map(DnsStatus::of),
            dns_cached: report.map_or(0, |report| report.dns_cached),
            routes: name.routes.as_ref().map(|routes| RoutesStatus::of(routes, source.path.made_at)),
            drops: report.map(|report| drops_of(&report.drops)).unwrap_or_default(),
        }
    });
    realms.collect()
}

fn tunnels_of(source: &Source, window: Duration) -> HashMap<RealmId, Vec<TunnelStatus>> {
    let reports: HashMap<TunnelId, &TunnelReport> =
        source.path.tunnels.iter().map(|report| (report.tunnel, report)).collect();
    let mut tunnels: HashMap<RealmId, Vec<TunnelStatus>> = HashMap::new();
    for name in &source.names.tunnels {
        let status = tunnel_of(name, reports.get(&name.tunnel).copied(), source, window);
        tunnels.entry(name.realm).or_default().push(status);
    }
    tunnels.values_mut().for_each(|of_realm| status_role::tell(of_realm));
    tunnels
}

/// A tunnel that the worker does not know yet (just configured) is shown as one that has done nothing.
fn tunnel_of(name: &TunnelName, report: Option<&TunnelReport>, source: &Source, window: Duration) -> TunnelStatus {
    let secs = |ago: Option<Duration>| ago.map(|ago| ago.as_secs());
    let port = report.and_then(|report| PortStatus::of(&name.peer, report.port.as_ref()?, source));
    let is_open = port.as_ref().is_none_or(|port| port.not_open.is_none());
    TunnelStatus {
        peer: name.peer(),
        kind: name.kind().to_owned(),
        remote: report.and_then(|report| report.remote),
        up: report.is_some_and(|report| report.up),
        state: if is_open { state_of(name, report, window) } else { TunnelState::NotOpen },
        carries: report.is_some_and(|report| report.share != Share::None),
        carries_only: report.and_then(|report| match report.share {
            Share::Only(version) => Some(version.name().to_owned()),
            Share::None | Share::All => None,
        }),
        priority: name.priority,
        weight: name.weight,
        role: String::new(),
        last_handshake_secs_ago: secs(report.and_then(|report| report.last_handshake)),
        last_data_secs_ago: secs(report.and_then(|report| report.last_data_received)),
        received: report.map(|report| report.received.into()).unwrap_or_default(),
        sent: report.map(|report| report.sent.into()).unwrap_or_default(),
        ipsec: ipsec_of(name, report),
        port,
        mtu: report.map(|report| MtuStatus::of(&report.mtu)),
    }
}

fn ipsec_of(name: &TunnelName, report: Option<&TunnelReport>) -> Option<IpsecStatus> {
    let PeerName::Ipsec { local_id, .. } = &name.peer else { return None };
    Some(IpsecStatus::of(local_id, report?.ipsec.as_ref()?))
}

fn state_of(name: &TunnelName, report: Option<&TunnelReport>, window: Duration) -> TunnelState {
    let handshake = report.and_then(|report| report.last_handshake);
    match report {
        Some(report) if report.up && report.last_data_received.is_some_and(|ago| ago <= window) => {
            TunnelState::Carrying
        }
        Some(report) if report.up => TunnelState::Idle,
        _ if matches!(name.peer, PeerName::Port { .. } | PeerName::Tun { .. }) => {
            port_down(report.and_then(|report| report.port.as_deref()))
        }
        _ if handshake.is_some() => TunnelState::Lost,
        _ if name.has_endpoint => TunnelState::NeverAnswered,
        _ => TunnelState::NeverCalled,
    }
}

fn port_down(port: Option<&report::PortStatus>) -> TunnelState {
    let Some(port) = port else { return TunnelState::Starting };
    match port.down {
        Some(Down::NoLink) => TunnelState::NoLink,
        Some(Down::NoAddress) if port.addresses.iter().any(|address| address.other.is_some()) => {
            TunnelState::DuplicateAddress
        }
        Some(Down::NoAddress) => TunnelState::NoAddress,
        Some(Down::NoNextHop) => TunnelState::NoNextHop,
        None => TunnelState::Starting,
    }
}

fn is_within(secs_ago: Option<u64>, window: Duration) -> bool {
    secs_ago.is_some_and(|secs| secs <= window.as_secs())
}

fn drops_of(drops: &Drops) -> Vec<DropStatus> {
    let status = |(reason, count): (crate::packet::DropReason, u64)| DropStatus {
        reason: reason.name().to_owned(),
        count,
        what: reason.what().to_owned(),
        side: reason.side().name().to_owned(),
        remedy: reason.remedy().to_owned(),
    };
    source::happened(drops).into_iter().map(status).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::three_realms;
    use super::*;

    fn status() -> Status {
        Status::of(&three_realms(), Duration::from_secs(60))
    }

    #[test]
    fn every_named_realm_appears_in_order_with_its_own_tunnels() {
        let status = status();
        let names: Vec<_> = status.realms.iter().map(|realm| (realm.name.as_str(), realm.tunnels.len())).collect();
        assert_eq!(names, [("region-a", 1), ("hospital-b", 1), ("planned-c", 0)]);
        let a = status.realm("region-a").unwrap();
        assert_eq!((a.data_passed, a.sessions, a.received.packets), (true, 12, 1_053));
        assert_eq!(a.tunnels[0].last_data_secs_ago, Some(2));
        assert!(!status.realm("hospital-b").unwrap().data_passed);
        assert!(status.realm("nobody").is_none());
    }

    #[test]
    fn drops_carry_words_and_the_most_frequent_comes_first() {
        let status = status();
        let drops = &status.realm("region-a").unwrap().drops;
        assert_eq!(
            drops.iter().map(|d| (d.reason.as_str(), d.count)).collect::<Vec<_>>(),
            [("tunnel_down", 40), ("not_granted", 3)]
        );
        assert!(drops.iter().all(|d| d.what.ends_with('.') && !d.remedy.is_empty() && !d.side.is_empty()));
        assert_eq!(status.unattributed_drops[0].reason, "handshake_unknown_peer");
    }

    #[test]
    fn the_account_is_checked() {
        let mut source = three_realms();
        let status = status();
        assert_eq!((status.totals.dropped, status.totals.balanced), (50, true));
        source.path.totals.forwarded += 1;
        assert!(!Status::of(&source, Duration::ZERO).totals.balanced);
    }

    #[test]
    fn a_tunnel_is_told_in_one_of_its_states() {
        let source = three_realms();
        let (mut name, up) = (source.names.tunnels[0].clone(), source.path.tunnels[0].clone());
        let state = |name: &TunnelName, report: &TunnelReport| state_of(name, Some(report), Duration::from_secs(60));
        assert_eq!(state(&name, &up), TunnelState::Carrying);
        assert_eq!(state(&name, &TunnelReport { last_data_received: None, ..up.clone() }), TunnelState::Idle);
        let down = TunnelReport { up: false, ..up };
        assert_eq!(state(&name, &down), TunnelState::Lost);
        let silent = TunnelReport { last_handshake: None, ..down };
        assert_eq!(state(&name, &silent), TunnelState::NeverAnswered);
        name.has_endpoint = false;
        assert_eq!(state(&name, &silent), TunnelState::NeverCalled);
        assert_eq!(state_of(&name, None, Duration::ZERO), TunnelState::NeverCalled);
    }

    #[test]
    fn the_document_survives_json() {
        let ipsec = Status::of(&super::super::source::samples::ipsec_realm(), Duration::ZERO);
        let json = serde_json::to_string(&ipsec).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), ipsec);
        let names = Status::of(&super::super::source::samples::names_of_others(), Duration::ZERO);
        let json_of_names = serde_json::to_string(&names).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json_of_names).unwrap(), names);
        assert!(json_of_names.contains(r#""state":"silent""#) && json_of_names.contains(r#""dns_cached":40"#));
        assert!(json.contains(r#""kind":"IPsec""#) && json.contains(r#""cause":"wrong_psk""#), "{json}");
        let status = status();
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
        assert!(json.contains(r#""state":"never_answered""#));
    }
}
