//! Which sessions use which NAPT bindings: a binding lives as long as one of them does.

use super::{Sessions, Side, Ticket, seen};
use crate::nat::flow::Flow;

/// A session's hold of the binding of one of its sides, given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The side whose binding it is.
    pub side: Side,
    pub other: Side,
    pub protocol: u8,
}

impl Ticket {
    /// The packet's flow, as it is.
    pub fn flow(&self) -> Flow {
        self.opening(true)
    }

    /// As for the same packet sent by the other side.
    pub fn reversed(&self) -> Ticket {
        Ticket { source_is_low: !self.source_is_low, ..*self }
    }
}

impl Sessions {
    /// Notes that the session of this packet holds the binding of its source. `true`: it did not before.
    pub fn hold(&mut self, ticket: &Ticket) -> bool {
        let Some(slot) = self.find(ticket.hash, &ticket.key) else { return false };
        let session = &mut self.slab[slot];
        let side = if ticket.source_is_low { seen::LOW_HOLDS } else { seen::HIGH_HOLDS };
        let newly = session.seen & side == 0;
        session.seen |= side;
        newly
    }

    /// Undoes [`Sessions::hold`] without a word: there is nothing to be released.
    pub fn unhold(&mut self, ticket: &Ticket) {
        if let Some(slot) = self.find(ticket.hash, &ticket.key) {
            let side = if ticket.source_is_low { seen::LOW_HOLDS } else { seen::HIGH_HOLDS };
            self.slab[slot].seen &= !side;
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
        for session in self.slab.iter_mut().filter(|session| session.occupied && session.seen & seen::HOLDS != 0) {
            for bit in [seen::LOW_HOLDS, seen::HIGH_HOLDS] {
                if session.seen & bit != 0 && is_ended(&held(&session.key, bit)) {
                    session.seen &= !bit;
                }
            }
        }
    }

    pub(super) fn let_go_of(&mut self, slot: usize) {
        let session = &self.slab[slot];
        if session.seen & seen::HOLDS == 0 {
            return;
        }
        for bit in [seen::LOW_HOLDS, seen::HIGH_HOLDS] {
            if session.seen & bit != 0 {
                self.released.push(held(&session.key, bit));
            }
        }
    }
}

fn held(key: &super::Key, bit: u8) -> Held {
    let low = Side { address: key.low, realm: key.low_place.realm, port: key.low_place.port };
    let high = Side { address: key.high, realm: key.high_place.realm, port: key.high_place.port };
    let (side, other) = if bit == seen::LOW_HOLDS { (low, high) } else { (high, low) };
    Held { side, other, protocol: key.protocol }
}
