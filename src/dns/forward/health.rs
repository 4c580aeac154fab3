//! Which resolvers have been answering.

use std::collections::HashMap;
use std::time::Duration;

use super::routes::Upstream;
use crate::net::Timestamp;

/// So many questions in a row without an answer, and a resolver comes last for a while.
const FAILURES_TO_PENALTY: u32 = 3;
/// The first penalty; every further failure doubles it. When it is over, the next question tries the resolver again.
const PENALTY: Duration = Duration::from_secs(10);
const MAX_PENALTY: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(super) struct Health {
    resolvers: HashMap<Upstream, State>,
}

#[derive(Default)]
struct State {
    /// In a row.
    failures: u32,
    penalised_until: Timestamp,
    answers_total: u64,
    failures_total: u64,
    unusable_total: u64,
    last_answer: Option<Timestamp>,
    /// Questions that are waiting for it now.
    waiting: usize,
}

/// How one resolver has done since it was configured, for people.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ResolverHealth {
    pub answers: u64,
    /// Questions that it did not answer in time, or that did not reach it.
    pub failures: u64,
    /// Answers that say nothing: SERVFAIL, REFUSED and the like.
    pub unusable: u64,
    pub failures_in_a_row: u32,
    /// Ago.
    pub last_answer: Option<Duration>,
    /// So long it is still asked after all others.
    pub penalised_for: Option<Duration>,
    /// Questions that wait for it now.
    pub waiting: usize,
}

impl Health {
    pub(super) fn of(&self, resolver: &Upstream, now: Timestamp) -> ResolverHealth {
        let Some(state) = self.resolvers.get(resolver) else { return ResolverHealth::default() };
        ResolverHealth {
            answers: state.answers_total,
            failures: state.failures_total,
            unusable: state.unusable_total,
            failures_in_a_row: state.failures,
            last_answer: state.last_answer.map(|at| now.saturating_since(at)),
            penalised_for: (state.penalised_until > now).then(|| state.penalised_until - now),
            waiting: state.waiting,
        }
    }

    /// Those to be asked, the best first: the ones that answer in the order of the file, then the others.
    pub(super) fn in_order<'a>(&self, resolvers: &'a [Upstream], now: Timestamp) -> Vec<&'a Upstream> {
        let mut ordered: Vec<_> = resolvers.iter().collect();
        ordered.sort_by_key(|resolver| self.penalty_end(resolver).filter(|end| *end > now));
        ordered
    }

    pub(super) fn is_penalised(&self, resolver: &Upstream, now: Timestamp) -> bool {
        self.penalty_end(resolver).is_some_and(|end| end > now)
    }

    fn penalty_end(&self, resolver: &Upstream) -> Option<Timestamp> {
        self.resolvers.get(resolver).map(|state| state.penalised_until)
    }

    pub(super) fn waiting(&self, resolver: &Upstream) -> usize {
        self.resolvers.get(resolver).map_or(0, |state| state.waiting)
    }

    pub(super) fn begin(&mut self, resolver: &Upstream) {
        self.resolvers.entry(resolver.clone()).or_default().waiting += 1;
    }

    pub(super) fn end(&mut self, resolver: &Upstream) {
        if let Some(state) = self.resolvers.get_mut(resolver) {
            state.waiting = state.waiting.saturating_sub(1);
        }
    }

    pub(super) fn answered(&mut self, resolver: &Upstream, now: Timestamp) {
        if let Some(state) = self.resolvers.get_mut(resolver) {
            (state.failures, state.penalised_until) = (0, Timestamp::ZERO);
            (state.answers_total, state.last_answer) = (state.answers_total + 1, Some(now));
        }
    }

    /// It lives, and says nothing of use.
    pub(super) fn was_unusable(&mut self, resolver: &Upstream) {
        if let Some(state) = self.resolvers.get_mut(resolver) {
            state.unusable_total += 1;
        }
    }

    pub(super) fn failed(&mut self, resolver: &Upstream, now: Timestamp) {
        let Some(state) = self.resolvers.get_mut(resolver) else { return };
        state.failures = state.failures.saturating_add(1);
        state.failures_total += 1;
        if let Some(beyond) = state.failures.checked_sub(FAILURES_TO_PENALTY) {
            state.penalised_until = now + (PENALTY * 2u32.pow(beyond.min(5))).min(MAX_PENALTY);
        }
    }

    /// Forgets the resolvers that nobody waits for and that `keep` does not know, after a new configuration.
    pub(super) fn retain(&mut self, keep: impl Fn(&Upstream) -> bool) {
        self.resolvers.retain(|resolver, state| state.waiting > 0 || keep(resolver));
    }

    pub(super) fn penalised(&self, now: Timestamp) -> usize {
        self.resolvers.values().filter(|state| state.penalised_until > now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(last: u8) -> Upstream {
        Upstream::Outside { server: ([192, 0, 2, last], 53).into(), tls: None }
    }

    #[test]
    fn three_failures_put_a_resolver_last_until_it_is_tried_again() {
        let mut health = Health::default();
        let all = [resolver(1), resolver(2)];
        let now = Timestamp::from_secs(100);
        health.begin(&all[0]);
        for _ in 0..2 {
            health.failed(&all[0], now);
        }
        assert_eq!(health.in_order(&all, now), [&all[0], &all[1]]);
        health.failed(&all[0], now);
        assert_eq!(health.in_order(&all, now), [&all[1], &all[0]]);
        assert_eq!(health.penalised(now), 1);
        let later = now + PENALTY;
        assert_eq!(health.in_order(&all, later), [&all[0], &all[1]], "probed again");
        health.failed(&all[0], later);
        assert!(health.is_penalised(&all[0], later + PENALTY), "twice as long");
        assert_eq!(health.of(&all[0], later + PENALTY).penalised_for, Some(PENALTY));
        health.answered(&all[0], later);
        assert_eq!(health.in_order(&all, later), [&all[0], &all[1]]);
        health.was_unusable(&all[0]);
        let (secs, of) = (Duration::from_secs, |at| health.of(&all[0], at));
        let told = ResolverHealth {
            answers: 1,
            failures: 4,
            unusable: 1,
            failures_in_a_row: 0,
            last_answer: Some(secs(5)),
            penalised_for: None,
            waiting: 1,
        };
        assert_eq!(of(later + secs(5)), told);
        assert_eq!(health.of(&all[1], later), ResolverHealth::default());
    }
}
