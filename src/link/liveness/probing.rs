//! Is it there? Asked by ARP or a neighbour solicitation, again and again.

use std::time::Duration;

use crate::link::config::Liveness;
use crate::net::Timestamp;

/// Of one next hop. `multiplier` questions without an answer, and it counts as gone: `multiplier` intervals after the question that
/// it answered last. For all of these to have been asked by then, and waited for, the pace is a little faster than the interval.
#[derive(Debug)]
pub(super) struct Probing {
    pace: Duration,
    multiplier: u8,
    /// `None`: stopped.
    due: Option<Timestamp>,
    /// Since its last answer.
    is_asked: bool,
    unanswered: u8,
    answers: bool,
}

impl Probing {
    pub fn new(liveness: Liveness) -> Self {
        let multiplier = liveness.multiplier.max(1);
        let parts = u32::from(multiplier);
        let pace = (liveness.interval * parts / (parts + 1)).max(Duration::from_millis(1));
        Probing { pace, multiplier, due: None, is_asked: false, unanswered: 0, answers: false }
    }

    pub fn start(&mut self, at: Timestamp) {
        self.stop();
        self.due = Some(at);
    }

    pub fn stop(&mut self) {
        (self.due, self.is_asked, self.unanswered, self.answers) = (None, false, 0, false);
    }

    /// Whether there is a question to be sent.
    pub fn poll(&mut self, now: Timestamp) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        if self.is_asked {
            self.unanswered = self.unanswered.saturating_add(1);
            self.answers &= self.unanswered < self.multiplier;
        }
        // From now, not from when it was due: what we ourselves slept through, nobody failed to answer.
        (self.is_asked, self.due) = (true, Some(now + self.pace));
        true
    }

    /// One answer a question.
    pub fn handle_heard(&mut self) {
        if self.is_asked {
            (self.is_asked, self.unanswered, self.answers) = (false, 0, true);
        }
    }

    pub fn answers(&self) -> bool {
        self.answers
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.due
    }
}
