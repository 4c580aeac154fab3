//! Names: questions, answers, who is asked elsewhere.

use std::collections::BTreeMap;

use super::super::source::Source;
use super::{Declaration, Kind, Sample, Unit, by_realm, labelled, one, realm_names};
use crate::dataplane::report::ResolverHealth;
use crate::net::RealmId;

pub(super) static METRICS: &[Declaration] = &[
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
];

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
