//! What a realm's routing daemon has learned: as a document, and in words.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use super::quantity::{count, duration};
use super::source::LearnedRoutes;
use super::table::Table;
use crate::net::Timestamp;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoutesStatus {
    pub namespace: String,
    /// The daemon's device in it.
    pub tun: String,
    /// Why nothing can be learned. Null: it can.
    pub trouble: Option<String>,
    /// Prefixes that are learned, and that may be.
    pub learned: usize,
    pub max: usize,
    /// Further prefixes that are announced, and passed over.
    pub passed_over: u64,
    /// How often something has changed since the start.
    pub changes: u64,
    /// It has changed often: what changes now is taken no sooner than in so many seconds. Null: at once.
    pub held_secs: Option<u64>,
    pub prefixes: Vec<PrefixStatus>,
    pub refused: Vec<RefusedStatus>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PrefixStatus {
    pub prefix: IpNet,
    /// Under which others see it in IPv4. Null: its hosts only, or by that of a wider network.
    pub alias: Option<Ipv4Net>,
    /// The wider network of the realm that it is a part of.
    pub within: Option<IpNet>,
    pub via: Vec<IpAddr>,
    pub since_secs: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusedStatus {
    pub prefix: IpNet,
    pub why: String,
}

impl RoutesStatus {
    pub fn of(routes: &LearnedRoutes, now: Timestamp) -> Self {
        let prefixes = routes.accepted.iter().map(|route| PrefixStatus {
            prefix: route.prefix,
            alias: route.alias,
            within: route.within,
            via: route.via.clone(),
            since_secs: (now.max(route.since) - route.since).as_secs(),
        });
        let refused = routes.refused.iter().map(|(prefix, why)| RefusedStatus { prefix: *prefix, why: why.clone() });
        RoutesStatus {
            namespace: routes.namespace.clone(),
            tun: routes.tun.clone(),
            trouble: routes.trouble.clone(),
            learned: routes.accepted.len(),
            max: routes.max_prefixes,
            passed_over: routes.overflow,
            changes: routes.changes,
            held_secs: routes.held_until.filter(|until| *until > now).map(|until| (until - now).as_secs().max(1)),
            prefixes: prefixes.collect(),
            refused: refused.collect(),
        }
    }
}

/// For one realm's page.
pub fn details(status: &RoutesStatus) -> String {
    let (learned, max, changes) = (count(status.learned as u64), count(status.max as u64), count(status.changes));
    let mut text = format!(
        "\nroutes from the namespace {}, by {}: {learned} of {max} prefixes learned, {changes} changes\n",
        status.namespace, status.tun
    );
    if let Some(trouble) = &status.trouble {
        let _ = writeln!(text, "  NOTHING IS LEARNED: {trouble}");
    }
    if status.passed_over > 0 {
        let more = count(status.passed_over);
        let _ = writeln!(text, "  {more} more are announced than agreed, and passed over: raise `max_prefixes`");
    }
    if let Some(secs) = status.held_secs {
        let left = duration(Duration::from_secs(secs));
        let _ = writeln!(text, "  changes wait for {left} more: those before followed one another too soon");
    }
    if !status.prefixes.is_empty() {
        let mut table = Table::new(&["PREFIX", "ALIAS", "VIA", "SINCE"]);
        for prefix in &status.prefixes {
            let alias = match (prefix.alias, prefix.within) {
                (Some(alias), _) => alias.to_string(),
                (None, Some(within)) if within != prefix.prefix => format!("in {within}"),
                (None, _) => "-".to_owned(),
            };
            let via: Vec<String> = prefix.via.iter().map(IpAddr::to_string).collect();
            let since = duration(Duration::from_secs(prefix.since_secs));
            table.row(vec![prefix.prefix.to_string(), alias, via.join(" "), since]);
        }
        let _ = write!(text, "{table}");
    }
    for refused in &status.refused {
        let _ = writeln!(text, "  refused {}: {}", refused.prefix, refused.why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::learned_routes;
    use super::*;

    #[test]
    fn what_is_learned_is_listed_with_alias_next_hop_and_age_and_what_is_refused_with_its_reason() {
        let status = RoutesStatus::of(&learned_routes(), Timestamp::ZERO + Duration::from_secs(90));
        let text = details(&status);
        for words in [
            "1 of 1,000 prefixes learned",
            "namespace bgp-x",
            "100.64.7.0/24",
            "172.20.0.1",
            "1 min 30 s",
            "3 more",
            "refused 0.0.0.0/0: a default",
            "changes wait for 30 s",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let rested = RoutesStatus::of(&learned_routes(), Timestamp::ZERO + Duration::from_secs(120));
        assert!(rested.held_secs.is_none() && !details(&rested).contains("changes wait"));
        let trouble = RoutesStatus { trouble: Some("no such device".to_owned()), ..status };
        assert!(details(&trouble).contains("NOTHING IS LEARNED: no such device"));
    }
}
