//! A hop that comes and goes is not believed at once when it comes.

use std::time::Duration;

use crate::net::Timestamp;

/// Within [`WINDOW`] it may go so often without consequence.
const FREE: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
/// It has to be there for so long, twice that the next time, and so on ...
const FIRST_HOLD: Duration = Duration::from_secs(2);
/// ... up to this.
const MAX_HOLD: Duration = Duration::from_secs(32);

#[derive(Default, Debug)]
pub(super) struct Damper {
    /// When it went, the latest at the end.
    downs: [Option<Timestamp>; FREE + 1],
    /// In a row.
    holds: u32,
    held_until: Option<Timestamp>,
}

impl Damper {
    pub fn note_down(&mut self, now: Timestamp) {
        self.downs.rotate_left(1);
        self.downs[FREE] = Some(now);
        let is_flapping = self.downs[0].is_some_and(|oldest| now.saturating_since(oldest) < WINDOW);
        if is_flapping {
            let hold = (FIRST_HOLD * (1 << self.holds.min(8))).min(MAX_HOLD);
            (self.holds, self.held_until) = (self.holds + 1, Some(now + hold));
        } else {
            (self.holds, self.held_until) = (0, None);
        }
    }

    pub fn held_until(&self) -> Option<Timestamp> {
        self.held_until
    }

    pub fn holds(&self, now: Timestamp) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }
}
