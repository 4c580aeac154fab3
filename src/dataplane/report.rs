//! What a worker tells when it is asked: counters and tunnel states as plain data, copied at a batch boundary; of many tunnels at several, so that
//! what tunnels have counted may be a little more than what their realms have.

use std::net::SocketAddr;
use std::time::Duration;

use crate::dns;
pub use crate::dns::forward::{Gauges, ResolverHealth, ResolverReport, RouteReport};
pub use crate::link::endpoint::{AddressStatus, Down, NextHopStatus, PortCounts, PortStatus};
use crate::net::{Generation, IpVersion, RealmId, Timestamp, TunnelId};
use crate::packet::DropReason;

/// Drops by [`DropReason::index`].
pub type Drops = [u64; DropReason::COUNT];

/// Packets and bytes (inner, as they appear inside the tunnel).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
}

/// Everything that one worker knows about itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it was made: statuses tell since when something is so.
    pub made_at: Timestamp,
    pub generation: Generation,
    pub totals: Totals,
    /// Of outer datagrams that belong to no realm yet.
    pub unattributed_drops: Drops,
    pub realms: Vec<RealmReport>,
    pub tunnels: Vec<TunnelReport>,
    /// Failed IKE negotiations of which it is not known whose they were, the latest last.
    pub strangers: Vec<FailureReport>,
    /// IKE SAs of any kind ...
    pub ike_sas: usize,
    /// ... and those of them whose peer has not proved who it is.
    pub ike_half_open: usize,
    pub dns: dns::forward::Counters,
    pub dns_signatures: dns::SignatureCounts,
    pub dns_now: Gauges,
    /// Names that others answer.
    pub dns_routes: Vec<RouteReport>,
    pub sessions: usize,
    pub sessions_max: usize,
    /// Packets of flows that the table of known flows knew: they skipped most of the walk.
    pub known_flow_packets: u64,
    pub napt_bindings: usize,
    pub napt_bindings_max: usize,
    /// What happened to tunnels and nobody took down in time. Statuses and counters missed nothing.
    pub events_lost: u64,
}

/// As much as a heartbeat needs, which comes often: a whole report of ten thousand tunnels takes tens of milliseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Pulse {
    pub tunnels: usize,
    pub tunnels_up: usize,
    pub sessions: usize,
}

impl From<&Report> for Pulse {
    fn from(report: &Report) -> Self {
        let tunnels_up = report.tunnels.iter().filter(|tunnel| tunnel.up).count();
        Pulse { tunnels: report.tunnels.len(), tunnels_up, sessions: report.sessions }
    }
}

/// Where every datagram that came in went. At any batch boundary
/// `datagrams_in = control + keepalives + forwarded + answered + fragments_joined + fragments_kept + all drops`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    pub datagrams_in: u64,
    /// Handshake messages that were understood.
    pub control: u64,
    pub keepalives: u64,
    pub forwarded: u64,
    /// Delivered to the IX's own addresses. A packet that is answered with an ICMP error counts as a drop.
    pub answered: u64,
    /// Packets that the IX made itself (answers, ICMP errors); they never came in.
    pub originated: u64,
    /// Packets put together from fragments. Each of them counts once among what it became (forwarded, say) ...
    pub reassembled: u64,
    /// ... and its other fragments are these.
    pub fragments_joined: u64,
    /// Fragments that wait for others now. The only one here that also falls.
    pub fragments_kept: u64,
    /// Fragments sent. A packet that leaves in fragments counts once, as forwarded or originated.
    pub fragments_made: u64,
}

#[derive(Clone, Debug)]
pub struct RealmReport {
    pub realm: RealmId,
    /// From the realm's tunnels.
    pub received: Traffic,
    /// To the realm's tunnels.
    pub sent: Traffic,
    /// Of packets that this realm sent.
    pub drops: Drops,
    /// Sessions that this realm's hosts opened.
    pub sessions: usize,
    /// Forwarded answers that are remembered for this realm's hosts.
    pub dns_cached: usize,
    /// How often other attachments than before came to carry its traffic.
    pub switches: u64,
}

/// Some of a report's tunnels.
#[derive(Clone, Debug)]
pub struct TunnelReports {
    /// Whose numbers these are.
    pub generation: Generation,
    pub tunnels: Vec<TunnelReport>,
    /// None has a higher number than those that were asked for.
    pub are_last: bool,
}

#[derive(Clone, Debug)]
pub struct TunnelReport {
    pub tunnel: TunnelId,
    pub realm: RealmId,
    /// Has keys: packets can be sent.
    pub up: bool,
    pub remote: Option<SocketAddr>,
    /// Ago.
    pub last_handshake: Option<Duration>,
    /// Ago; data that authenticated, not keepalives.
    pub last_data_received: Option<Duration>,
    pub received: Traffic,
    pub sent: Traffic,
    /// `None`: it is no IPsec tunnel.
    pub ipsec: Option<Box<IpsecReport>>,
    /// `None`: it is no port.
    pub port: Option<Box<PortStatus>>,
    pub share: Share,
    pub mtu: MtuReport,
}

/// What one of a realm's attachments carries of its traffic now, alone or with others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    None,
    /// The other IP version goes elsewhere, or nowhere.
    Only(IpVersion),
    All,
}

/// What a tunnel carries.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct MtuReport {
    /// The largest inner packet that the configuration allows.
    pub configured_bytes: u16,
    /// The largest outer IP packet that is known to arrive; not more than the configured inner MTU needs. `None`: nothing
    /// is known.
    pub outer_bytes: Option<u16>,
    /// The largest inner packet that is sent: what "packet too big" is made from.
    pub inner_bytes: u16,
    /// The largest inner packet whose outer packet is not fragmented: less than `inner_bytes` only where the path does not
    /// carry an inner packet of 1,280 bytes. TCP's MSS is made from it.
    pub unfragmented_bytes: u16,
    /// Outer packets go without DF: the path does not carry 1,280 bytes inside, or nobody says what it carries.
    pub may_fragment: bool,
    pub source: MtuSource,
    /// Ago.
    pub since: Option<Duration>,
    /// It is being found out.
    pub searching: bool,
}

/// How a tunnel's MTU is known.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum MtuSource {
    /// It is not: the configuration is believed.
    #[default]
    Configured,
    /// A probe arrived, and longer ones did not or are not needed.
    Probe,
    /// A router on the way said so (ICMP), or our own link.
    Icmp,
    /// A port's interface carries no more.
    Link,
}

impl MtuSource {
    pub fn name(self) -> &'static str {
        match self {
            MtuSource::Configured => "configured",
            MtuSource::Probe => "probe",
            MtuSource::Icmp => "icmp",
            MtuSource::Link => "link",
        }
    }
}

/// What there is to know of an IPsec tunnel beyond what every tunnel has.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct IpsecReport {
    /// "idle", "connecting", "authenticating" or "established".
    pub stage: &'static str,
    /// Of the newest IKE SA; empty when there is none.
    pub proposal: String,
    /// Who made that IKE SA.
    pub we_called: Option<bool>,
    /// There is a NAT on the way, or one side says so.
    pub nat: bool,
    /// `None`: no ESP yet.
    pub esp_in_udp: Option<bool>,
    /// Until the IKE SA is made anew.
    pub rekey_in: Option<Duration>,
    /// Ago; anything authentic of the peer's IKE.
    pub last_heard: Option<Duration>,
    /// Until we call again.
    pub next_attempt_in: Option<Duration>,
    /// IKE SAs, those included that are being replaced.
    pub ike_sas: usize,
    pub children: Vec<ChildReport>,
    /// The latest last.
    pub failures: Vec<FailureReport>,
    pub counts: IkeCounts,
}

/// One Child SA, both directions.
#[derive(Clone, PartialEq, Debug)]
pub struct ChildReport {
    pub spi_in: u32,
    pub spi_out: u32,
    pub proposal: String,
    /// Traffic selectors, in words.
    pub ours: Vec<String>,
    pub theirs: Vec<String>,
    pub age: Duration,
    pub rekey_in: Duration,
    pub received: Traffic,
    pub sent: Traffic,
}

/// One negotiation that failed.
#[derive(Clone, PartialEq, Debug)]
pub struct FailureReport {
    /// The last time.
    pub ago: Duration,
    /// How often it was so, and since when.
    pub count: u64,
    pub first_ago: Duration,
    pub remote: SocketAddr,
    /// What was being negotiated, in words.
    pub stage: String,
    /// For metrics, e.g. "wrong_psk".
    pub cause: &'static str,
    /// What happened.
    pub what: String,
    pub they_offer: Option<String>,
    pub we_accept: Option<String>,
    /// The nearest change on either side.
    pub nearest: Option<String>,
}

/// Since the peer was configured.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct IkeCounts {
    /// IKE SAs that we tried to make.
    pub attempts: u64,
    /// IKE SAs made, in either role.
    pub established: u64,
    pub ike_rekeys: u64,
    pub child_rekeys: u64,
    pub retransmissions: u64,
    pub failures: u64,
}
