//! Which sessions use which NAPT bindings: a binding lives as long as one of them does.

use super::entry::{Key, holds};
use super::{Sessions, Side, Ticket};

/// A session's hold of the binding of one of its sides, given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The side whose binding it is.
    pub side: Side,
    pub other: Side,
    pub protocol: u8,
}

impl Sessions {
    /// Notes that the session of this packet holds the binding of its source. `true`: it did not before.
    pub fn hold(&mut self, ticket: &Ticket) -> bool {
        let Some(slot) = self.find(ticket.hash, &ticket.key) else { return false };
        let session = &mut self.slab[slot];
        let side = side_of(ticket);
        let newly = session.holds & side == 0;
        session.holds |= side;
        newly
    }

    /// Undoes [`Sessions::hold`] without a word: there is nothing to be released.
    pub fn unhold(&mut self, ticket: &Ticket) {
        if let Some(slot) = self.find(ticket.hash, &ticket.key) {
            self.slab[slot].holds &= !side_of(ticket);
        }
    }

    /// Removes the session of a packet that came no further.
    pub fn forget(&mut self, ticket: &Ticket) {
        if let Some(slot) = self.find(ticket.hash, &ticket.key) {
            self.remove(slot, ticket.hash);
        }
    }

    /// The next binding that a session has let go of by ending. To be asked until `None` after every batch and every
    /// expiry.
    pub fn poll_released(&mut self) -> Option<Held> {
        self.released.pop()
    }

    /// Sessions forget that they held the bindings for which `is_ended` says so: these do not exist any more.
    pub fn forget_holds(&mut self, is_ended: impl Fn(&Held) -> bool) {
        let living = self.slab.iter_mut().zip(&self.lives).filter(|(_, life)| !life.is_over());
        for session in living.map(|(session, _)| session).filter(|session| session.holds != 0) {
            for bit in [holds::LOW, holds::HIGH] {
                if session.holds & bit != 0 && is_ended(&held(&session.key(), bit)) {
                    session.holds &= !bit;
                }
            }
        }
    }

    pub(super) fn let_go_of(&mut self, slot: usize) {
        let session = &self.slab[slot];
        if session.holds == 0 {
            return;
        }
        for bit in [holds::LOW, holds::HIGH] {
            if session.holds & bit != 0 {
                self.released.push(held(&session.key(), bit));
            }
        }
    }
}

fn side_of(ticket: &Ticket) -> u8 {
    if ticket.source_is_low { holds::LOW } else { holds::HIGH }
}

fn held(key: &Key, bit: u8) -> Held {
    let (low, high) = (key.low(), key.high());
    let (side, other) = if bit == holds::LOW { (low, high) } else { (high, low) };
    Held { side, other, protocol: key.protocol }
}
