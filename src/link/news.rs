//! What ports report, until somebody asks.

use std::collections::{BTreeMap, VecDeque};

use super::endpoint::{Event, Lost};
use crate::net::TunnelId;
use crate::net::random::Random;
use crate::packet::DropReason;

/// Events that wait to be polled.
pub const MAX_EVENTS: usize = 4096;

/// What all ports have in common.
pub(super) struct News {
    events: VecDeque<Event>,
    events_lost: u64,
    /// At most one for each port and reason.
    lost: BTreeMap<(TunnelId, DropReason), u64>,
    /// For the times of probes, the keys of tables, the names of BFD sessions.
    pub random: Box<dyn Random + Send>,
}

impl News {
    pub fn new(random: Box<dyn Random + Send>) -> Self {
        News { events: VecDeque::new(), events_lost: 0, lost: BTreeMap::new(), random }
    }

    /// When nobody polls, the newest are lost and counted.
    pub fn push(&mut self, event: Event) {
        match self.events.len() < MAX_EVENTS {
            true => self.events.push_back(event),
            false => self.events_lost += 1,
        }
    }

    pub fn lose(&mut self, tunnel: TunnelId, packets: usize, reason: DropReason) {
        if packets > 0 {
            *self.lost.entry((tunnel, reason)).or_default() += packets as u64;
        }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn poll_lost(&mut self) -> Option<Lost> {
        self.lost.pop_first().map(|((tunnel, reason), packets)| Lost { tunnel, packets, reason })
    }

    pub fn events_lost(&self) -> u64 {
        self.events_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::Seeded;

    #[test]
    fn what_nobody_polls_is_bounded() {
        let mut news = News::new(Box::new(Seeded(1)));
        for n in 0..MAX_EVENTS as u32 + 5 {
            news.push(Event::Up { tunnel: TunnelId(n) });
            news.lose(TunnelId(n % 3), 2, DropReason::NeighbourUnresolved);
        }
        assert_eq!((news.events.len(), news.events_lost(), news.lost.len()), (MAX_EVENTS, 5, 3));
        assert_eq!(news.poll_event(), Some(Event::Up { tunnel: TunnelId(0) }));
        let lost: u64 = std::iter::from_fn(|| news.poll_lost()).map(|lost| lost.packets).sum();
        assert_eq!(lost, 2 * (MAX_EVENTS as u64 + 5));
        news.lose(TunnelId(1), 0, DropReason::NeighbourUnresolved);
        assert_eq!(news.poll_lost(), None);
    }
}
