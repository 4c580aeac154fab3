//! IKE and ESP.

use std::collections::BTreeMap;

use super::super::source::Source;
use super::{Declaration, Kind, Sample, Unit, by_tunnel, by_tunnel_labels, labelled, one};
use crate::dataplane::report::IpsecReport;

pub(super) static METRICS: &[Declaration] = &[
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
];

fn by_ipsec(source: &Source, value: impl Fn(&IpsecReport) -> f64) -> Vec<Sample> {
    by_tunnel(source, |tunnel| tunnel.ipsec.as_ref().map(|ipsec| value(ipsec)))
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
