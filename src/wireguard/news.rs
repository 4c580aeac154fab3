//! What of one tunnel's doings is worth an event, and how often.
//!
//! A peer decides how often it moves (a source port for every datagram, if it likes) and how often it makes new keys;
//! how many lines that costs the log is ours to decide. The path itself follows at once, and all handshakes are counted.

use std::time::Duration;

use super::event::{Event, EventQueue, Role};
use crate::net::{Path, Timestamp, TunnelId};

/// At most one [`Event::Roamed`] of a tunnel in this time.
pub const ROAMED_INTERVAL: Duration = Duration::from_secs(10);
/// At most one [`Event::HandshakeCompleted`] of a tunnel in this time.
pub const COMPLETED_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct News {
    tunnel: TunnelId,
    roamed_told: Option<Timestamp>,
    completed_told: Option<Timestamp>,
    untold: Option<Moves>,
}

/// Where the peer was when it was last told of, where it is, and the moves between.
struct Moves {
    from: Path,
    to: Path,
    count: u32,
}

impl News {
    pub fn new(tunnel: TunnelId) -> Self {
        News { tunnel, roamed_told: None, completed_told: None, untold: None }
    }

    /// Told at once, or with the moves that follow once it is time again.
    pub fn roamed(&mut self, from: Path, to: Path, events: &mut EventQueue, now: Timestamp) {
        let moves = self.untold.get_or_insert(Moves { from, to, count: 0 });
        moves.to = to;
        moves.count = moves.count.saturating_add(1);
        self.tell_moves(events, now);
    }

    pub fn completed(&mut self, path: Path, role: Role, events: &mut EventQueue, now: Timestamp) {
        if is_due(self.completed_told, COMPLETED_INTERVAL, now) {
            self.completed_told = Some(now);
            events.push(Event::HandshakeCompleted { tunnel: self.tunnel, path, role });
        }
    }

    /// When there will be something to tell.
    pub fn tells_at(&self) -> Option<Timestamp> {
        self.untold.as_ref()?;
        Some(self.roamed_told.map_or(Timestamp::ZERO, |told| told + ROAMED_INTERVAL))
    }

    /// To be called when it is time, so that the last move is told too.
    pub fn tell_moves(&mut self, events: &mut EventQueue, now: Timestamp) {
        if self.untold.is_some()
            && is_due(self.roamed_told, ROAMED_INTERVAL, now)
            && let Some(Moves { from, to, count }) = self.untold.take()
        {
            self.roamed_told = Some(now);
            events.push(Event::Roamed { tunnel: self.tunnel, from, to, moves: count });
        }
    }
}

fn is_due(last: Option<Timestamp>, interval: Duration, now: Timestamp) -> bool {
    last.is_none_or(|last| now.saturating_since(last) >= interval)
}
