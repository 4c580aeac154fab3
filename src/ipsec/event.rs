//! What the endpoint reports: the outcome of one datagram, and what happened to an SA.

use std::collections::VecDeque;

use crate::net::{Path, TunnelId};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nine tenths of the SA's packets, bytes or sequence numbers are used up: time for a new one.
    RekeyDue { tunnel: TunnelId, spi_in: u32 },
    /// All of them are used up. The SA is gone, and its other half with it.
    Expired { tunnel: TunnelId, spi_in: u32 },
    /// The peer now sends from another address, after so many moves. At most one in a second for each tunnel; packets
    /// follow at once. `spi_in`: the SA by which it was told last.
    Moved { tunnel: TunnelId, spi_in: u32, from: Path, to: Path, moves: u32 },
}

/// Events that wait to be polled.
pub const MAX_EVENTS: usize = 4096;

/// Bounded: when nobody polls, the newest are lost and counted.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    lost: u64,
}

impl EventQueue {
    /// `false`: lost.
    pub fn push(&mut self, event: Event) -> bool {
        let has_room = self.events.len() < MAX_EVENTS;
        match has_room {
            true => self.events.push_back(event),
            false => self.lost += 1,
        }
        has_room
    }

    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_nobody_polls_are_bounded_and_counted() {
        let mut queue = EventQueue::default();
        let event = |n| Event::RekeyDue { tunnel: TunnelId(n), spi_in: 256 };
        (0..MAX_EVENTS as u32).for_each(|n| assert!(queue.push(event(n))));
        (0..5).for_each(|n| assert!(!queue.push(event(n))));
        assert_eq!(queue.lost(), 5);
        assert_eq!(queue.poll(), Some(event(0)), "the oldest are kept");
        assert_eq!(std::iter::from_fn(|| queue.poll()).count(), MAX_EVENTS - 1);
    }
}
