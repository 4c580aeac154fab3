//! What passed for each realm, and what it has learned.

use super::super::source::Source;
use super::{Declaration, Kind, Sample, Unit, by_realm, drops, realm_names};

pub(super) static METRICS: &[Declaration] = &[
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
];

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
