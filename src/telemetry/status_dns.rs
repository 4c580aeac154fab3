//! What the status document says of names that others answer.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::report::{ResolverHealth, ResolverReport, RouteReport};

/// Domains that are asked at the same resolvers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DnsStatus {
    /// "." is everything.
    pub domains: Vec<String>,
    /// In order of preference.
    pub resolvers: Vec<ResolverStatus>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResolverStatus {
    pub address: SocketAddr,
    /// The name that it proves by TLS; null: it is asked without.
    pub tls: Option<String>,
    pub state: ResolverState,
    pub last_answer_secs_ago: Option<u64>,
    pub answers: u64,
    /// Not answered in time, or not reached.
    pub failures: u64,
    /// Answers of no use: SERVFAIL, REFUSED and the like.
    pub unusable: u64,
    /// Questions that wait for it now.
    pub waiting: usize,
    /// Null unless it is silent: until then it is asked after all others.
    pub asked_last_for_secs: Option<u64>,
}

/// A resolver in one word; [`ResolverState::words`] says it to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolverState {
    /// Nothing has been asked, or nothing has come of it yet.
    Unasked,
    /// It answered last.
    Answering,
    /// It did not answer last.
    Failing,
    /// It has not answered several times in a row, and is asked last.
    Silent,
    /// All that it has ever said is of no use.
    Useless,
}

impl ResolverState {
    fn of(health: &ResolverHealth) -> Self {
        match health {
            _ if health.penalised_for.is_some() => ResolverState::Silent,
            _ if health.failures_in_a_row > 0 => ResolverState::Failing,
            _ if health.answers > 0 => ResolverState::Answering,
            _ if health.unusable > 0 => ResolverState::Useless,
            _ => ResolverState::Unasked,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            ResolverState::Unasked => "not asked yet",
            ResolverState::Answering => "up",
            ResolverState::Failing => "did not answer the last question",
            ResolverState::Silent => "down, does not answer",
            ResolverState::Useless => "up, refuses or fails every question",
        }
    }

    /// Whether somebody should look after it.
    pub fn is_trouble(self) -> bool {
        matches!(self, ResolverState::Failing | ResolverState::Silent | ResolverState::Useless)
    }
}

impl DnsStatus {
    pub fn of(route: &RouteReport) -> Self {
        DnsStatus {
            domains: route.domains.clone(),
            resolvers: route.resolvers.iter().map(ResolverStatus::of).collect(),
        }
    }
}

impl ResolverStatus {
    fn of(resolver: &ResolverReport) -> Self {
        let health = &resolver.health;
        ResolverStatus {
            address: resolver.server,
            tls: resolver.tls.as_deref().map(str::to_owned),
            state: ResolverState::of(health),
            last_answer_secs_ago: health.last_answer.map(|ago| ago.as_secs()),
            answers: health.answers,
            failures: health.failures,
            unusable: health.unusable,
            waiting: health.waiting,
            asked_last_for_secs: health.penalised_for.map(|time| time.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_resolver_is_told_in_one_of_five_states() {
        let secs = |secs| Some(Duration::from_secs(secs));
        let unasked = ResolverHealth::default();
        let answering = ResolverHealth { answers: 2, unusable: 1, last_answer: secs(3), ..unasked };
        let failing = ResolverHealth { failures: 1, failures_in_a_row: 1, ..answering };
        let silent = ResolverHealth { penalised_for: secs(9), ..failing };
        let useless = ResolverHealth { unusable: 1, ..unasked };
        for (health, state, is_trouble) in [
            (unasked, ResolverState::Unasked, false),
            (answering, ResolverState::Answering, false),
            (failing, ResolverState::Failing, true),
            (silent, ResolverState::Silent, true),
            (useless, ResolverState::Useless, true),
        ] {
            assert_eq!((ResolverState::of(&health), state.is_trouble()), (state, is_trouble));
        }
    }
}
