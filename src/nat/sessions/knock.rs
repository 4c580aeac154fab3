//! Sessions towards a host whose pool does not let the opener in yet (RFC 4787 section 5): what the opener sent counts, though
//! it went no further.
//!
//! ```text
//!   (none) ---- filtered packet of X to Y ----> Knock ---- packet of Y to X ----> Met
//! ```
//!
//! A knock is the opener's session in everything else: its grant, its quota, its idle time, its own binding. It lets in the one
//! endpoint that was knocked at, and once that has spoken, both do.

use super::{Sessions, Ticket};
use crate::nat::flow::Flow;
use crate::net::Generation;
use crate::packet::DropReason;

/// How far a session leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// To the other side, from the first packet on.
    Through,
    /// Up to the other side's pool, which filters the opener's packets as long as the other side sends none.
    Knock,
    /// To the other side, which has sent too. Its packets keep it alive as the opener's do: it has a binding of its own to keep
    /// (RFC 4787 REQ-6).
    Met,
}

impl Sessions {
    /// How far the living session leads that the sender of this packet has opened.
    pub fn way_of_opener(&self, ticket: &Ticket, now_secs: u32) -> Option<Way> {
        let slot = self.find(ticket.hash, &ticket.key)?;
        let life = &self.lives[slot];
        let is_its = self.slab[slot].opener_is_low == ticket.source_is_low && !life.is_expired(&self.timers, now_secs);
        is_its.then_some(life.way)
    }

    /// Notes a packet that a pool filters, as [`Sessions::admit`] does one that passes. A connection that the other side has
    /// opened stays as it is.
    ///
    /// Drops: NotGranted, NoSession, SessionTableFull, SessionQuotaExceeded.
    pub fn knock(
        &mut self,
        ticket: &Ticket,
        generation: Generation,
        now_secs: u32,
        grants: impl Fn(&Flow) -> bool,
    ) -> Result<(), DropReason> {
        let before = self.way_of_opener(ticket, now_secs);
        self.admit(ticket, generation, now_secs, grants)?;
        let found = self.find(ticket.hash, &ticket.key);
        if let Some(slot) = found.filter(|slot| self.slab[*slot].opener_is_low == ticket.source_is_low) {
            self.lives[slot].way = Way::Knock;
            if matches!(before, Some(Way::Through | Way::Met)) {
                self.revocations = self.revocations.wrapping_add(1);
            }
        }
        Ok(())
    }
}
