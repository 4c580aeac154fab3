//! Prometheus metrics. Every metric is declared once, in [`METRICS`], with kind, unit, help and where its values come from.
//!
//! Names are `ixgate_<subsystem>_<thing>_<unit>`, counters end in `_total`. Labels are realm and tunnel, never an
//! address. Counters restart from zero when ixgate does.
//!
//! Per realm only the drop reasons that happened are listed (500 realms times all reasons would be 16,000 lines); all
//! reasons are listed in `ixgate_path_drops_packets_total`, from zero.

use std::collections::{BTreeMap, HashMap};

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::source::{self, Source};
use crate::dataplane::report::{IpsecReport, PortStatus, RealmReport, ResolverHealth, Share, TunnelReport};
use crate::net::{RealmId, TunnelId};
use crate::packet::DropReason;

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Bytes,
    Packets,
    Datagrams,
    Messages,
    Queries,
    Answers,
    Signatures,
    Transfers,
    Resolvers,
    Seconds,
    Sessions,
    Bindings,
    /// IKE or child SAs.
    Sas,
    Handshakes,
    Rekeys,
    Failures,
    Fragments,
    Events,
    /// To other attachments, or other next hops.
    Switches,
    NextHops,
    Neighbours,
    Prefixes,
    /// Which one, not how many.
    Number,
    /// 1, with what it is about in the labels.
    Info,
    /// 1 or 0; no suffix.
    Flag,
}

impl Unit {
    pub fn suffix(self) -> &'static str {
        match self {
            Unit::Bytes => "_bytes",
            Unit::Packets => "_packets",
            Unit::Datagrams => "_datagrams",
            Unit::Messages => "_messages",
            Unit::Queries => "_queries",
            Unit::Answers => "_answers",
            Unit::Prefixes => "_prefixes",
            Unit::Signatures => "_signatures",
            Unit::Transfers => "_transfers",
            Unit::Resolvers => "_resolvers",
            Unit::Seconds => "_seconds",
            Unit::Sessions => "_sessions",
            Unit::Bindings => "_bindings",
            Unit::Sas => "_sas",
            Unit::Handshakes => "_handshakes",
            Unit::Rekeys => "_rekeys",
            Unit::Failures => "_failures",
            Unit::Fragments => "_fragments",
            Unit::Events => "_events",
            Unit::Switches => "_switches",
            Unit::NextHops => "_next_hops",
            Unit::Neighbours => "_neighbours",
            Unit::Number => "_number",
            Unit::Info => "_info",
            Unit::Flag => "",
        }
    }
}

/// One metric.
pub struct Declaration {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Unit,
    pub help: &'static str,
    read: fn(&Source) -> Vec<Sample>,
}

type Labels = Vec<(&'static str, String)>;
type Sample = (Labels, f64);

/// Every metric, in the order in which they are printed.
pub static METRICS: &[Declaration] = &[
    Declaration {
        name: "ixgate_build_info",
        kind: Kind::Gauge,
        unit: Unit::Info,
        help: "Always 1; the labels tell the version and the name of the interconnection centre.",
        read: |s| vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("ix", s.ix_name.clone())], 1.0)],
    },
    Declaration {
        name: "ixgate_uptime_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Time since the appliance started.",
        read: |s| one(s.uptime.as_secs_f64()),
    },
    Declaration {
        name: "ixgate_config_generation_number",
        kind: Kind::Gauge,
        unit: Unit::Number,
        help: "Generation of the running configuration; it grows with every one that is applied.",
        read: |s| one(f64::from(s.path.generation.0)),
    },
    Declaration {
        name: "ixgate_path_received_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Outer datagrams that came in on the ports of WireGuard, IKE and ESP, and frames of plain ports.",
        read: |s| one(s.path.totals.datagrams_in as f64),
    },
    Declaration {
        name: "ixgate_path_outcome_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "What became of the datagrams that came in. Together they are ixgate_path_received_datagrams_total.",
        read: outcomes,
    },
    Declaration {
        name: "ixgate_path_originated_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets that the appliance made itself: answers and ICMP errors.",
        read: |s| one(s.path.totals.originated as f64),
    },
    Declaration {
        name: "ixgate_path_reassembled_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets that were put together from fragments.",
        read: |s| one(s.path.totals.reassembled as f64),
    },
    Declaration {
        name: "ixgate_path_waiting_fragments",
        kind: Kind::Gauge,
        unit: Unit::Fragments,
        help: "Fragments that wait for the others of their packet.",
        read: |s| one(s.path.totals.fragments_kept as f64),
    },
    Declaration {
        name: "ixgate_path_made_fragments_total",
        kind: Kind::Counter,
        unit: Unit::Fragments,
        help: "Fragments sent, of packets that did not fit the receiving tunnel or had come in fragments.",
        read: |s| one(s.path.totals.fragments_made as f64),
    },
    Declaration {
        name: "ixgate_path_drops_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets dropped, of all realms and of none, by reason and by whose side the cause is on.",
        read: |s| drops(&source::all_drops(&s.path), true),
    },
    Declaration {
        name: "ixgate_path_unattributed_drops_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams dropped before they belonged to a realm, by reason. Only reasons that happened.",
        read: |s| drops(&s.path.unattributed_drops, false),
    },
    Declaration {
        name: "ixgate_path_open_sessions",
        kind: Kind::Gauge,
        unit: Unit::Sessions,
        help: "Sessions that are open.",
        read: |s| one(s.path.sessions as f64),
    },
    Declaration {
        name: "ixgate_path_limit_sessions",
        kind: Kind::Gauge,
        unit: Unit::Sessions,
        help: "Sessions that may be open (limits.sessions).",
        read: |s| one(s.path.sessions_max as f64),
    },
    Declaration {
        name: "ixgate_path_open_napt_bindings",
        kind: Kind::Gauge,
        unit: Unit::Bindings,
        help: "NAPT bindings in use, forwards among them.",
        read: |s| one(s.path.napt_bindings as f64),
    },
    Declaration {
        name: "ixgate_path_limit_napt_bindings",
        kind: Kind::Gauge,
        unit: Unit::Bindings,
        help: "NAPT bindings that there may be (limits.napt_bindings).",
        read: |s| one(s.path.napt_bindings_max as f64),
    },
    Declaration {
        name: "ixgate_path_napt_refused_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets dropped because their host's ports, its realm's pool or the table of NAPT bindings were used up.",
        read: |s| {
            let drops = source::all_drops(&s.path);
            one((drops[DropReason::NaptExhausted.index()] + drops[DropReason::NaptTableFull.index()]) as f64)
        },
    },
    Declaration {
        name: "ixgate_dns_queries_total",
        kind: Kind::Counter,
        unit: Unit::Queries,
        help: "DNS queries of hosts, by what became of them: answered by the internal zone or the cache, forwarded (or \
               joined to one that was), refused for lack of room, over the rate (slipped: answered with TC; dropped), \
               other (malformed, sent again).",
        read: dns_queries,
    },
    Declaration {
        name: "ixgate_dns_pending_queries",
        kind: Kind::Gauge,
        unit: Unit::Queries,
        help: "Forwarded questions that wait for a resolver (limits.dns_pending).",
        read: |s| one(s.path.dns_now.pending as f64),
    },
    Declaration {
        name: "ixgate_dns_cached_answers",
        kind: Kind::Gauge,
        unit: Unit::Answers,
        help: "Forwarded answers that are remembered.",
        read: |s| one(s.path.dns_now.cached as f64),
    },
    Declaration {
        name: "ixgate_dns_realm_cached_answers",
        kind: Kind::Gauge,
        unit: Unit::Answers,
        help: "Forwarded answers that are remembered for the hosts of a realm (limits.dns_cache_entries).",
        read: |s| by_realm(s, |realm| realm.dns_cached as f64),
    },
    Declaration {
        name: "ixgate_realm_learned_prefixes",
        kind: Kind::Gauge,
        unit: Unit::Prefixes,
        help: "Prefixes that a realm's routing daemon has learned, by what became of them: accepted, refused, or passed over for \
               lack of room (max_prefixes).",
        read: learned_prefixes,
    },
    Declaration {
        name: "ixgate_realm_route_change_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "How often what a realm's routing daemon has learned has changed.",
        read: route_changes,
    },
    Declaration {
        name: "ixgate_dns_resolver_answers_total",
        kind: Kind::Counter,
        unit: Unit::Answers,
        help: "Answers of a realm's resolvers, or of those outside (realm empty), since they were configured: of use (usable), \
               or SERVFAIL, REFUSED and the like (unusable).",
        read: |s| {
            let usable = labelled(by_resolvers(s, |health| health.answers), "kind", "usable");
            usable.chain(labelled(by_resolvers(s, |health| health.unusable), "kind", "unusable")).collect()
        },
    },
    Declaration {
        name: "ixgate_dns_resolver_failures_total",
        kind: Kind::Counter,
        unit: Unit::Failures,
        help: "Questions that a realm's resolvers, or those outside (realm empty), did not answer in time or that did not reach \
               them, since they were configured.",
        read: |s| by_resolvers(s, |health| health.failures),
    },
    Declaration {
        name: "ixgate_dns_partial_answers_total",
        kind: Kind::Counter,
        unit: Unit::Answers,
        help: "Forwarded answers of which something was left out or that explain why there is none: not granted, not \
               mappable, private from outside, no resolver.",
        read: |s| one(s.path.dns.left_out as f64),
    },
    Declaration {
        name: "ixgate_dns_signatures_total",
        kind: Kind::Counter,
        unit: Unit::Signatures,
        help: "DNSSEC signatures of the internal zone: made, taken from those made before (reused), and answers that failed \
               because a realm asked for too many in a second (refused).",
        read: |s| {
            let sample = |outcome: &str, count: u64| (vec![("outcome", outcome.to_owned())], count as f64);
            let counts = &s.path.dns_signatures;
            vec![sample("made", counts.made), sample("reused", counts.reused), sample("refused", counts.refused)]
        },
    },
    Declaration {
        name: "ixgate_dns_transfers_total",
        kind: Kind::Counter,
        unit: Unit::Transfers,
        help: "Zone transfers to name servers: whole ones (served), and queries on their port that got nothing (refused).",
        read: |s| {
            let sample = |outcome: &str, count: u64| (vec![("outcome", outcome.to_owned())], count as f64);
            vec![sample("served", s.transfers.served), sample("refused", s.transfers.refused)]
        },
    },
    Declaration {
        name: "ixgate_dns_upstream_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "Messages between the IX and resolvers: asked (of these over TCP after truncation: tcp), without an answer \
               in time (timeout), answers that fit no question (mismatch).",
        read: |s| {
            let sample = |what: &str, count: u64| (vec![("what", what.to_owned())], count as f64);
            let dns = &s.path.dns;
            vec![
                sample("asked", dns.exchanges),
                sample("tcp", dns.tcp_fallbacks),
                sample("timeout", dns.timeouts),
                sample("mismatch", dns.mismatches),
            ]
        },
    },
    Declaration {
        name: "ixgate_dns_upstream_failures_total",
        kind: Kind::Counter,
        unit: Unit::Failures,
        help: "Forwarded questions that no resolver answered.",
        read: |s| one(s.path.dns.failures as f64),
    },
    Declaration {
        name: "ixgate_dns_penalised_resolvers",
        kind: Kind::Gauge,
        unit: Unit::Resolvers,
        help: "Resolvers that have not answered several times in a row and are asked last for a while.",
        read: |s| one(s.path.dns_now.penalised_resolvers as f64),
    },
    Declaration {
        name: "ixgate_path_lost_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "Happenings of tunnels that are missing from the log, because too many came at once.",
        read: |s| one(s.path.events_lost as f64),
    },
    Declaration {
        name: "ixgate_realm_received_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Inner packets received from the realm's tunnels.",
        read: |s| by_realm(s, |r| r.received.packets as f64),
    },
    Declaration {
        name: "ixgate_realm_received_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of the inner packets received from the realm's tunnels.",
        read: |s| by_realm(s, |r| r.received.bytes as f64),
    },
    Declaration {
        name: "ixgate_realm_sent_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Inner packets sent to the realm's tunnels.",
        read: |s| by_realm(s, |r| r.sent.packets as f64),
    },
    Declaration {
        name: "ixgate_realm_sent_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of the inner packets sent to the realm's tunnels.",
        read: |s| by_realm(s, |r| r.sent.bytes as f64),
    },
    Declaration {
        name: "ixgate_realm_drops_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets that the realm sent and that were dropped, by reason. Only reasons that happened.",
        read: realm_drops,
    },
    Declaration {
        name: "ixgate_realm_open_sessions",
        kind: Kind::Gauge,
        unit: Unit::Sessions,
        help: "Open sessions that the realm's hosts opened.",
        read: |s| by_realm(s, |r| r.sessions as f64),
    },
    Declaration {
        name: "ixgate_realm_switches_total",
        kind: Kind::Counter,
        unit: Unit::Switches,
        help: "How often other attachments than before came to carry the realm's traffic.",
        read: |s| by_realm(s, |r| r.switches as f64),
    },
    Declaration {
        name: "ixgate_attachment_up",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when packets can leave by the attachment of the realm, else 0.",
        read: |s| by_tunnel(s, |t| Some(f64::from(u8::from(t.up)))),
    },
    Declaration {
        name: "ixgate_attachment_carries",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when the attachment carries its realm's traffic now, alone or with others, else 0.",
        read: |s| by_tunnel(s, |t| Some(f64::from(u8::from(t.share != Share::None)))),
    },
    Declaration {
        name: "ixgate_port_alive_next_hops",
        kind: Kind::Gauge,
        unit: Unit::NextHops,
        help: "Next hops of the port that answer.",
        read: |s| by_port(s, |port| port.next_hops.iter().filter(|hop| hop.is_alive).count() as f64),
    },
    Declaration {
        name: "ixgate_port_switches_total",
        kind: Kind::Counter,
        unit: Unit::Switches,
        help: "How often a next hop of the port came or went, since the port was configured.",
        read: |s| by_port(s, |port| port.counts.switches as f64),
    },
    Declaration {
        name: "ixgate_port_known_neighbours",
        kind: Kind::Gauge,
        unit: Unit::Neighbours,
        help: "Neighbours that the port knows, or looks for.",
        read: |s| by_port(s, |port| port.neighbours as f64),
    },
    Declaration {
        name: "ixgate_port_limit_neighbours",
        kind: Kind::Gauge,
        unit: Unit::Neighbours,
        help: "Neighbours that the port may know.",
        read: |s| by_port(s, |port| port.neighbours_max as f64),
    },
    Declaration {
        name: "ixgate_port_waiting_packets",
        kind: Kind::Gauge,
        unit: Unit::Packets,
        help: "Packets that wait until their neighbour on the port's link is found.",
        read: |s| by_port(s, |port| port.waiting as f64),
    },
    Declaration {
        name: "ixgate_port_unresolved_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets dropped because their neighbour on the port's link was not found.",
        read: |s| by_port(s, |port| port.counts.unresolved as f64),
    },
    Declaration {
        name: "ixgate_port_neighbour_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "ARP and neighbour discovery messages that came by the port: looked at, or ignored because more came than one port may \
               have.",
        read: neighbour_messages,
    },
    Declaration {
        name: "ixgate_port_echo_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "Pings of the port's own addresses that were answered.",
        read: |s| by_port(s, |port| port.counts.echoes as f64),
    },
    Declaration {
        name: "ixgate_port_conflict_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "How often somebody else on the link was seen to have an address of the port.",
        read: |s| by_port(s, |port| port.counts.conflicts as f64),
    },
    Declaration {
        name: "ixgate_port_mac_change_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "How often a neighbour on the port's link answered from another hardware address than before.",
        read: |s| by_port(s, |port| port.counts.mac_changes as f64),
    },
    Declaration {
        name: "ixgate_tunnel_up",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when the tunnel has keys (a port: link, address and next hop) and packets can be sent, else 0.",
        read: |s| by_tunnel(s, |t| Some(f64::from(u8::from(t.up)))),
    },
    Declaration {
        name: "ixgate_tunnel_mtu_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Largest inner packet that the tunnel carries: as configured, or less where its outer path carries less.",
        read: |s| by_tunnel(s, |t| Some(f64::from(t.mtu.inner_bytes))),
    },
    Declaration {
        name: "ixgate_tunnel_path_mtu_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Largest outer IP packet known to arrive, as far as the tunnel needs it. Missing while nothing is known.",
        read: |s| by_tunnel(s, |t| t.mtu.outer_bytes.map(f64::from)),
    },
    Declaration {
        name: "ixgate_tunnel_last_handshake_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Time since the last completed handshake. Missing when there was none.",
        read: |s| by_tunnel(s, |t| t.last_handshake.map(|ago| ago.as_secs_f64())),
    },
    Declaration {
        name: "ixgate_tunnel_last_data_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Time since data last came out of the tunnel; keepalives do not count. Missing when none ever did.",
        read: |s| by_tunnel(s, |t| t.last_data_received.map(|ago| ago.as_secs_f64())),
    },
    Declaration {
        name: "ixgate_tunnel_received_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Inner packets received from the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.received.packets as f64)),
    },
    Declaration {
        name: "ixgate_tunnel_received_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of the inner packets received from the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.received.bytes as f64)),
    },
    Declaration {
        name: "ixgate_tunnel_sent_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Inner packets sent to the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.sent.packets as f64)),
    },
    Declaration {
        name: "ixgate_tunnel_sent_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of the inner packets sent to the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.sent.bytes as f64)),
    },
    Declaration {
        name: "ixgate_ike_open_sas",
        kind: Kind::Gauge,
        unit: Unit::Sas,
        help: "IKE SAs of any kind, those included that are being replaced.",
        read: |s| one(s.path.ike_sas as f64),
    },
    Declaration {
        name: "ixgate_ike_half_open_sas",
        kind: Kind::Gauge,
        unit: Unit::Sas,
        help: "IKE SAs whose peer has not proved who it is (limits.ike_half_open bounds them).",
        read: |s| one(s.path.ike_half_open as f64),
    },
    Declaration {
        name: "ixgate_ike_attempts_handshakes_total",
        kind: Kind::Counter,
        unit: Unit::Handshakes,
        help: "IKE SAs that we tried to make with the peer.",
        read: |s| by_ipsec(s, |ipsec| ipsec.counts.attempts as f64),
    },
    Declaration {
        name: "ixgate_ike_handshakes_total",
        kind: Kind::Counter,
        unit: Unit::Handshakes,
        help: "IKE negotiations with the peer by result: established (in either role), or failed.",
        read: handshakes,
    },
    Declaration {
        name: "ixgate_ike_rekeys_total",
        kind: Kind::Counter,
        unit: Unit::Rekeys,
        help: "SAs replaced before they grew old, by what they are: ike or child.",
        read: rekeys,
    },
    Declaration {
        name: "ixgate_ike_retransmitted_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "IKE requests that were sent again because no answer came.",
        read: |s| by_ipsec(s, |ipsec| ipsec.counts.retransmissions as f64),
    },
    Declaration {
        name: "ixgate_ike_kept_failures",
        kind: Kind::Gauge,
        unit: Unit::Failures,
        help: "Failed negotiations that status still shows, by cause, each as often as it came; realm and tunnel are \
               empty for strangers.",
        read: failures,
    },
    Declaration {
        name: "ixgate_esp_child_sas",
        kind: Kind::Gauge,
        unit: Unit::Sas,
        help: "Child SAs of the tunnel, each one direction in and one out.",
        read: |s| by_ipsec(s, |ipsec| ipsec.children.len() as f64),
    },
    Declaration {
        name: "ixgate_socket_offload",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when the kernel joins received datagrams (receive) or cuts runs apart (send), else 0.",
        read: |s| {
            let flag = |direction: &str, on| (vec![("direction", direction.to_owned())], f64::from(u8::from(on)));
            vec![flag("receive", s.socket.receive_offload), flag("send", s.socket.send_offload)]
        },
    },
    Declaration {
        name: "ixgate_socket_receive_buffer_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Size of the receive buffer that the kernel granted.",
        read: |s| one(s.socket.receive_buffer_bytes as f64),
    },
    Declaration {
        name: "ixgate_socket_overflow_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams that came in but were lost before they were read: the receive buffer was full.",
        read: |s| one(s.socket.overflow_datagrams as f64),
    },
    Declaration {
        name: "ixgate_socket_truncated_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "Messages from the kernel that were not usable: too long, or without their addresses.",
        read: |s| one(s.socket.truncated_messages as f64),
    },
    Declaration {
        name: "ixgate_socket_unsent_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams that could not be sent: the uplink took no more (congested), or had no way (refused).",
        read: |s| {
            let sample = |cause: &str, count: u64| (vec![("cause", cause.to_owned())], count as f64);
            vec![sample("congested", s.socket.congested_datagrams), sample("refused", s.socket.refused_datagrams)]
        },
    },
];

/// All metrics in Prometheus' text format.
pub fn render(source: &Source) -> Result<String, prometheus::Error> {
    let families: Vec<MetricFamily> = METRICS.iter().filter_map(|declaration| family(declaration, source)).collect();
    TextEncoder::new().encode_to_string(&families)
}

fn dns_queries(source: &Source) -> Vec<Sample> {
    let dns = &source.path.dns;
    let dropped = dns.rate_limited - dns.slipped;
    let known = dns.by_zone + dns.by_cache + dns.forwarded + dns.refused_busy + dns.rate_limited;
    [
        ("zone", dns.by_zone),
        ("cache", dns.by_cache),
        ("forwarded", dns.forwarded),
        ("busy", dns.refused_busy),
        ("slipped", dns.slipped),
        ("dropped", dropped),
        ("other", dns.queries.saturating_sub(known)),
    ]
    .into_iter()
    .map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count as f64))
    .collect()
}

/// `None`: nothing to tell, for example no tunnel.
fn family(declaration: &Declaration, source: &Source) -> Option<MetricFamily> {
    let samples = (declaration.read)(source);
    let mut family = MetricFamily::default();
    family.set_name(declaration.name.to_owned());
    family.set_help(declaration.help.to_owned());
    family.set_field_type(match declaration.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
    });
    family.set_metric(samples.into_iter().map(|sample| metric(declaration.kind, sample)).collect());
    (!family.get_metric().is_empty()).then_some(family)
}

fn metric(kind: Kind, (labels, value): Sample) -> Metric {
    let mut metric = Metric::from_label(labels.into_iter().map(label).collect());
    match kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn label((name, value): (&'static str, String)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value);
    label
}

fn one(value: f64) -> Vec<Sample> {
    vec![(Vec::new(), value)]
}

fn outcomes(source: &Source) -> Vec<Sample> {
    let totals = &source.path.totals;
    let dropped = source::all_drops(&source.path).iter().sum();
    let outcomes = [
        ("forwarded", totals.forwarded),
        ("answered", totals.answered),
        ("control", totals.control),
        ("keepalive", totals.keepalives),
        ("fragment_joined", totals.fragments_joined),
        ("fragment_waits", totals.fragments_kept),
        ("dropped", dropped),
    ];
    outcomes.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count as f64)).into()
}

fn drops(drops: &crate::dataplane::report::Drops, all: bool) -> Vec<Sample> {
    let reasons = DropReason::ALL.iter().filter(|reason| all || drops[reason.index()] > 0);
    reasons.map(|reason| (drop_labels(*reason), drops[reason.index()] as f64)).collect()
}

fn drop_labels(reason: DropReason) -> Labels {
    vec![("reason", reason.name().to_owned()), ("side", reason.side().name().to_owned())]
}

fn realm_drops(source: &Source) -> Vec<Sample> {
    let names = realm_names(source);
    let mut samples = Vec::new();
    for realm in &source.path.realms {
        let Some(name) = names.get(&realm.realm) else { continue };
        for (mut labels, count) in drops(&realm.drops, false) {
            labels.insert(0, ("realm", (*name).to_owned()));
            samples.push((labels, count));
        }
    }
    samples
}

fn learned_prefixes(source: &Source) -> Vec<Sample> {
    let learned = source.names.realms.iter().filter_map(|realm| Some((&realm.name, realm.routes.as_ref()?)));
    let samples = learned.flat_map(|(name, routes)| {
        let sample =
            |outcome: &str, count: f64| (vec![("realm", name.clone()), ("outcome", outcome.to_owned())], count);
        [
            sample("accepted", routes.accepted.len() as f64),
            sample("refused", routes.refused.len() as f64),
            sample("passed_over", routes.overflow as f64),
        ]
    });
    samples.collect()
}

fn route_changes(source: &Source) -> Vec<Sample> {
    let learned = source.names.realms.iter().filter_map(|realm| Some((&realm.name, realm.routes.as_ref()?)));
    learned.map(|(name, routes)| (vec![("realm", name.clone())], routes.changes as f64)).collect()
}

fn by_realm(source: &Source, value: impl Fn(&RealmReport) -> f64) -> Vec<Sample> {
    let names = realm_names(source);
    let named = source.path.realms.iter().filter_map(|report| Some((report, *names.get(&report.realm)?)));
    named.map(|(report, name)| (vec![("realm", name.to_owned())], value(report))).collect()
}

/// All resolvers of a realm together, which has no name when they lie outside.
fn by_resolvers(source: &Source, value: impl Fn(&ResolverHealth) -> u64) -> Vec<Sample> {
    let names = realm_names(source);
    let mut sums: BTreeMap<Option<RealmId>, u64> = BTreeMap::new();
    for route in &source.path.dns_routes {
        *sums.entry(route.owner).or_default() += route.resolvers.iter().map(|r| value(&r.health)).sum::<u64>();
    }
    let sample = |(owner, sum): (Option<RealmId>, u64)| {
        let name = owner.map_or(Some(""), |realm| names.get(&realm).copied())?;
        Some((vec![("realm", name.to_owned())], sum as f64))
    };
    sums.into_iter().filter_map(sample).collect()
}

fn by_tunnel(source: &Source, value: impl Fn(&TunnelReport) -> Option<f64>) -> Vec<Sample> {
    by_tunnel_labels(source, value)
}

fn by_tunnel_labels<'a, T>(source: &'a Source, value: impl Fn(&'a TunnelReport) -> Option<T>) -> Vec<(Labels, T)> {
    let realms = realm_names(source);
    let peers: HashMap<TunnelId, String> =
        source.names.tunnels.iter().map(|tunnel| (tunnel.tunnel, tunnel.peer())).collect();
    let sample = |report: &'a TunnelReport| {
        let (realm, peer) = (realms.get(&report.realm)?, peers.get(&report.tunnel)?);
        Some((vec![("realm", (*realm).to_owned()), ("tunnel", peer.clone())], value(report)?))
    };
    source.path.tunnels.iter().filter_map(sample).collect()
}

fn by_ipsec(source: &Source, value: impl Fn(&IpsecReport) -> f64) -> Vec<Sample> {
    by_tunnel(source, |tunnel| tunnel.ipsec.as_ref().map(|ipsec| value(ipsec)))
}

fn by_port(source: &Source, value: impl Fn(&PortStatus) -> f64) -> Vec<Sample> {
    by_tunnel(source, |tunnel| tunnel.port.as_ref().map(|port| value(port)))
}

/// Of all that came, some were over the limit.
fn neighbour_messages(source: &Source) -> Vec<Sample> {
    let over = |port: &PortStatus| port.counts.neighbour_messages_over_limit;
    let handled = by_port(source, |port| port.counts.neighbour_messages.saturating_sub(over(port)) as f64);
    let ignored = by_port(source, |port| over(port) as f64);
    labelled(handled, "outcome", "handled").chain(labelled(ignored, "outcome", "ignored")).collect()
}

fn handshakes(source: &Source) -> Vec<Sample> {
    let established = labelled(by_ipsec(source, |ipsec| ipsec.counts.established as f64), "result", "established");
    let failed = labelled(by_ipsec(source, |ipsec| ipsec.counts.failures as f64), "result", "failed");
    established.chain(failed).collect()
}

fn rekeys(source: &Source) -> Vec<Sample> {
    let ike = labelled(by_ipsec(source, |ipsec| ipsec.counts.ike_rekeys as f64), "what", "ike");
    let child = labelled(by_ipsec(source, |ipsec| ipsec.counts.child_rekeys as f64), "what", "child");
    ike.chain(child).collect()
}

fn labelled(samples: Vec<Sample>, name: &'static str, value: &'static str) -> impl Iterator<Item = Sample> {
    samples.into_iter().map(move |(mut labels, number)| {
        labels.push((name, value.to_owned()));
        (labels, number)
    })
}

/// Only causes that happened: a tunnel has a few at most.
fn failures(source: &Source) -> Vec<Sample> {
    let of_tunnels = by_tunnel_labels(source, |tunnel| Some(&tunnel.ipsec.as_ref()?.failures));
    let nobody = || vec![("realm", String::new()), ("tunnel", String::new())];
    let strangers = std::iter::once((nobody(), &source.path.strangers));
    let mut samples = Vec::new();
    for (labels, list) in of_tunnels.into_iter().chain(strangers) {
        let mut by_cause: BTreeMap<&str, u64> = BTreeMap::new();
        for failure in list {
            *by_cause.entry(failure.cause).or_default() += failure.count;
        }
        for (cause, count) in by_cause {
            let mut labels = labels.clone();
            labels.push(("cause", cause.to_owned()));
            samples.push((labels, count as f64));
        }
    }
    samples
}

fn realm_names(source: &Source) -> HashMap<RealmId, &str> {
    source.names.realms.iter().map(|realm| (realm.realm, realm.name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::source::samples::{ipsec_realm, learned_routes, names_of_others, port_realm, three_realms};
    use super::*;

    #[test]
    fn every_metric_has_help_a_unit_and_a_name_by_the_rules() {
        let mut names = HashSet::new();
        for metric in METRICS {
            let name = metric.name;
            assert!(names.insert(name), "{name} twice");
            assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{name}");
            assert!(name.starts_with("ixgate_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(name.trim_end_matches("_total").ends_with(metric.unit.suffix()), "{name}");
            if metric.unit == Unit::Flag {
                assert!(metric.help.starts_with("1 when "), "{name}");
            }
        }
    }

    #[test]
    fn every_metric_and_every_drop_reason_is_printed() {
        let mut ports = port_realm();
        ports.names.realms[0].routes = Some(learned_routes().into());
        let text = render(&names_of_others()).unwrap() + &render(&ipsec_realm()).unwrap() + &render(&ports).unwrap();
        assert!(text.contains(",outcome=\"refused\"} 1\n"), "{text}");
        for metric in METRICS {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
            assert!(text.contains(&format!("# TYPE {} ", metric.name)));
        }
        for reason in DropReason::ALL {
            let line = format!("ixgate_path_drops_packets_total{{reason=\"{}\",", reason.name());
            assert_eq!(text.matches(&line).count(), 3, "{}", reason.name());
        }
    }

    #[test]
    fn values_stand_beside_their_realm_and_tunnel() {
        let text = render(&three_realms()).unwrap();
        for line in [
            "ixgate_path_received_datagrams_total 1063",
            "ixgate_path_outcome_datagrams_total{outcome=\"dropped\"} 50",
            "ixgate_realm_received_bytes_total{realm=\"region-a\"} 1500000",
            "ixgate_realm_drops_packets_total{realm=\"region-a\",reason=\"not_granted\",side=\"ours\"} 3",
            "ixgate_tunnel_up{realm=\"hospital-b\",tunnel=\"AQEBAQEB\"} 0",
            "ixgate_tunnel_mtu_bytes{realm=\"region-a\",tunnel=\"AAAAAAAA\"} 1392",
            "ixgate_tunnel_path_mtu_bytes{realm=\"region-a\",tunnel=\"AAAAAAAA\"} 1452",
            "ixgate_tunnel_last_data_age_seconds{realm=\"region-a\",tunnel=\"AAAAAAAA\"} 2.5",
            "ixgate_socket_offload{direction=\"receive\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("last_data_age_seconds{realm=\"hospital-b\""), "no data, no age");
        assert!(!text.contains("203.0.113.10"), "never an address");
    }

    #[test]
    fn ipsec_is_counted_by_tunnel_result_and_cause() {
        let text = render(&ipsec_realm()).unwrap();
        let tunnel = "realm=\"clinic\",tunnel=\"fqdn:gw.clinic.example\"";
        for line in [
            "ixgate_ike_open_sas 2".to_owned(),
            "ixgate_ike_half_open_sas 1".to_owned(),
            format!("ixgate_ike_handshakes_total{{{tunnel},result=\"established\"}} 3"),
            format!("ixgate_ike_handshakes_total{{{tunnel},result=\"failed\"}} 1"),
            format!("ixgate_ike_rekeys_total{{{tunnel},what=\"child\"}} 9"),
            format!("ixgate_ike_kept_failures{{{tunnel},cause=\"wrong_psk\"}} 3"),
            "ixgate_ike_kept_failures{realm=\"\",tunnel=\"\",cause=\"unknown_identity\"} 3".to_owned(),
            format!("ixgate_esp_child_sas{{{tunnel}}} 1"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("198.51.100.7") && !text.contains("203.0.113.99"), "never an address");
    }

    #[test]
    fn ports_are_counted_by_tunnel() {
        let text = render(&port_realm()).unwrap();
        let tunnel = "realm=\"region-a\",tunnel=\"eth1 VLAN 100\"";
        for line in [
            format!("ixgate_attachment_up{{{tunnel}}} 1"),
            format!("ixgate_attachment_carries{{{tunnel}}} 1"),
            "ixgate_attachment_carries{realm=\"hospital-b\",tunnel=\"AQEBAQEB\"} 0".to_owned(),
            "ixgate_realm_switches_total{realm=\"region-a\"} 1".to_owned(),
            format!("ixgate_port_alive_next_hops{{{tunnel}}} 1"),
            format!("ixgate_port_switches_total{{{tunnel}}} 2"),
            format!("ixgate_port_waiting_packets{{{tunnel}}} 2"),
            format!("ixgate_port_neighbour_messages_total{{{tunnel},outcome=\"handled\"}} 83"),
            format!("ixgate_port_neighbour_messages_total{{{tunnel},outcome=\"ignored\"}} 7"),
            format!("ixgate_port_conflict_events_total{{{tunnel}}} 1"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("172.20.0") && !text.contains("02:00"), "never an address");
    }

    #[test]
    fn resolvers_are_summed_by_realm() {
        let text = render(&names_of_others()).unwrap();
        for line in [
            "ixgate_dns_resolver_answers_total{realm=\"\",kind=\"usable\"} 1200",
            "ixgate_dns_resolver_answers_total{realm=\"hospital-b\",kind=\"usable\"} 19",
            "ixgate_dns_resolver_answers_total{realm=\"hospital-b\",kind=\"unusable\"} 0",
            "ixgate_dns_resolver_failures_total{realm=\"hospital-b\"} 5",
            "ixgate_dns_realm_cached_answers{realm=\"region-a\"} 40",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\nis not in\n{text}");
        }
        assert!(!text.contains("192.168.1.53") && !text.contains("9.9.9.9"), "never an address");
    }

    #[test]
    fn an_appliance_without_realms_is_printed_too() {
        let mut source = three_realms();
        source.names = source::Names::default();
        let text = render(&source).unwrap();
        assert!(text.contains("ixgate_uptime_seconds 7500") && !text.contains("realm="), "{text}");
    }
}
