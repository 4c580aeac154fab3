//! The last failures, per tunnel and of strangers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Failure;
use crate::net::{Timestamp, TunnelId};

pub const MAX_PER_TUNNEL: usize = 16;
/// Of whom nobody proved to be a peer of ours.
pub const MAX_STRANGERS: usize = 64;
/// Of each tunnel, and of strangers, so many are also told at once, in so long: anybody can fail as often as he likes, under
/// any address, and claim to be a peer.
const MAX_TOLD: u32 = 16;
const TOLD_IN: Duration = Duration::from_secs(60);

/// A failure and how often it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The last time.
    pub failure: Failure,
    pub first_at: Timestamp,
    pub count: u64,
}

/// The last one last. What comes again (same cause, same stage, same address) is counted and keeps the newest details.
#[derive(Debug, Default)]
pub struct Failures {
    by_tunnel: BTreeMap<TunnelId, Vec<Recorded>>,
    strangers: Vec<Recorded>,
    /// How many were told since then.
    told: BTreeMap<Option<TunnelId>, (Timestamp, u32)>,
}

impl Failures {
    /// `tunnel`: one that is configured; `None`: a stranger. Whether it is also to be told at once.
    pub fn record(&mut self, tunnel: Option<TunnelId>, failure: Failure) -> bool {
        let is_told = self.may_tell(tunnel, failure.at);
        match tunnel {
            Some(tunnel) => record(self.by_tunnel.entry(tunnel).or_default(), failure, MAX_PER_TUNNEL),
            None => record(&mut self.strangers, failure, MAX_STRANGERS),
        }
        is_told
    }

    fn may_tell(&mut self, tunnel: Option<TunnelId>, now: Timestamp) -> bool {
        let (since, count) = self.told.entry(tunnel).or_insert((now, 0));
        if now.saturating_since(*since) >= TOLD_IN {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= MAX_TOLD
    }

    pub fn of(&self, tunnel: TunnelId) -> &[Recorded] {
        self.by_tunnel.get(&tunnel).map_or(&[], Vec::as_slice)
    }

    pub fn strangers(&self) -> &[Recorded] {
        &self.strangers
    }

    /// After a change of configuration: tunnels that are gone.
    pub fn retain(&mut self, mut is_configured: impl FnMut(TunnelId) -> bool) {
        self.by_tunnel.retain(|tunnel, _| is_configured(*tunnel));
        self.told.retain(|tunnel, _| tunnel.is_none_or(&mut is_configured));
    }
}

fn record(list: &mut Vec<Recorded>, failure: Failure, max: usize) {
    let failure = Failure { cause: failure.cause.bounded(), ..failure };
    let same = |kept: &Recorded| {
        let kept = &kept.failure;
        kept.stage == failure.stage
            && kept.cause.name() == failure.cause.name()
            && kept.remote.remote.ip() == failure.remote.remote.ip()
    };
    let before = list.iter().position(same).map(|at| list.remove(at));
    if list.len() >= max {
        list.remove(0);
    }
    let (first_at, count) = before.map_or((failure.at, 0), |before| (before.first_at, before.count));
    list.push(Recorded { failure, first_at, count: count.saturating_add(1) });
}
