//! The appliance and its packet path as a whole.

use super::super::source::{self, Source};
use super::{Declaration, Kind, Sample, Unit, drops, one};
use crate::packet::DropReason;

pub(super) static METRICS: &[Declaration] = &[
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
        name: "ixgate_config_waiting_settings",
        kind: Kind::Gauge,
        unit: Unit::Settings,
        help: "Settings of the running configuration that take effect at the next start only; `ixgate status` names them.",
        read: |s| one(s.waiting.len() as f64),
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
        name: "ixgate_path_known_flow_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets that went the short way, as others of their flow before them.",
        read: |s| one(s.path.known_flow_packets as f64),
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
        name: "ixgate_path_lost_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "Happenings of tunnels that are missing from the log, because too many came at once.",
        read: |s| one(s.path.events_lost as f64),
    },
];

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
