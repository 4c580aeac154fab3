//! Prometheus metrics. Every metric is declared once, in the `METRICS` of its subject, with kind, unit, help and where its
//! values come from.
//!
//! Names are `ixgate_<subsystem>_<thing>_<unit>`, counters end in `_total`. Labels are realm and tunnel, never an
//! address. Counters restart from zero when ixgate does.
//!
//! Per realm only the drop reasons that happened are listed (500 realms times all reasons would be 16,000 lines); all
//! reasons are listed in `ixgate_path_drops_packets_total`, from zero.

mod dns;
mod ipsec;
mod path;
mod ports;
mod realms;
mod sockets;
mod tunnels;

use std::collections::HashMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::source::Source;
use crate::dataplane::report::{RealmReport, TunnelReport};
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
    Interfaces,
    Lanes,
    Ways,
    Threads,
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
    Settings,
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
            Unit::Interfaces => "_interfaces",
            Unit::Lanes => "_lanes",
            Unit::Ways => "_ways",
            Unit::Threads => "_threads",
            Unit::Messages => "_messages",
            Unit::Queries => "_queries",
            Unit::Answers => "_answers",
            Unit::Prefixes => "_prefixes",
            Unit::Settings => "_settings",
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
fn declarations() -> impl Iterator<Item = &'static Declaration> {
    [path::METRICS, dns::METRICS, realms::METRICS, ports::METRICS, tunnels::METRICS, ipsec::METRICS, sockets::METRICS]
        .into_iter()
        .flatten()
}

/// All metrics in Prometheus' text format.
pub fn render(source: &Source) -> Result<String, prometheus::Error> {
    let families: Vec<MetricFamily> = declarations().filter_map(|declaration| family(declaration, source)).collect();
    TextEncoder::new().encode_to_string(&families)
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

fn drops(drops: &crate::dataplane::report::Drops, all: bool) -> Vec<Sample> {
    let reasons = DropReason::ALL.iter().filter(|reason| all || drops[reason.index()] > 0);
    reasons.map(|reason| (drop_labels(*reason), drops[reason.index()] as f64)).collect()
}

fn drop_labels(reason: DropReason) -> Labels {
    vec![("reason", reason.name().to_owned()), ("side", reason.side().name().to_owned())]
}

fn by_realm(source: &Source, value: impl Fn(&RealmReport) -> f64) -> Vec<Sample> {
    let names = realm_names(source);
    let named = source.path.realms.iter().filter_map(|report| Some((report, *names.get(&report.realm)?)));
    named.map(|(report, name)| (vec![("realm", name.to_owned())], value(report))).collect()
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

fn labelled(samples: Vec<Sample>, name: &'static str, value: &'static str) -> impl Iterator<Item = Sample> {
    samples.into_iter().map(move |(mut labels, number)| {
        labels.push((name, value.to_owned()));
        (labels, number)
    })
}

fn realm_names(source: &Source) -> HashMap<RealmId, &str> {
    source.names.realms.iter().map(|realm| (realm.realm, realm.name.as_str())).collect()
}

#[cfg(test)]
mod tests;
