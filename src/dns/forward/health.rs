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
    failures: u32,
    penalised_until: Timestamp,
    /// Questions that are waiting for it now.
    waiting: usize,
}

impl Health {
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

    pub(super) fn answered(&mut self, resolver: &Upstream) {
        if let Some(state) = self.resolvers.get_mut(resolver) {
            (state.failures, state.penalised_until) = (0, Timestamp::ZERO);
        }
    }

    pub(super) fn failed(&mut self, resolver: &Upstream, now: Timestamp) {
        let Some(state) = self.resolvers.get_mut(resolver) else { return };
        state.failures = state.failures.saturating_add(1);
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
        health.answered(&all[0]);
        assert_eq!(health.in_order(&all, later), [&all[0], &all[1]]);
    }
}
