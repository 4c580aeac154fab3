//! Packets of which it is known which session they belong to.

use super::Sessions;
use super::entry::Session;
use super::knock::Way;
use super::tcp::Phase;
use crate::net::Generation;
use crate::wire::tcp::Segment;

/// What finds a session again without its key, for one of its directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    pub slot: u32,
    pub serial: u64,
    pub from_opener: bool,
}

impl Session {
    /// A packet that is not TCP's has passed. The side that did not open the session does not keep a way in open for ever (RFC
    /// 4787 REQ-6: inbound refresh is a matter of policy), unless it has spoken first.
    #[inline]
    pub(super) fn refresh(&mut self, from_opener: bool, now_secs: u32) {
        if from_opener || self.way == Way::Met {
            self.last_packet_secs = now_secs;
        }
    }
}

impl Sessions {
    pub(super) fn pass_of(&self, slot: usize, from_opener: bool) -> Pass {
        Pass { slot: slot as u32, serial: self.slab[slot].serial, from_opener }
    }

    /// Brings a session into the processor's cache. What is returned means nothing.
    #[inline]
    pub fn touch(&self, slot: u32) -> u32 {
        self.slab.get(slot as usize).map_or(0, |session| session.last_packet_secs)
    }

    /// Another packet of a session that let one pass. `segment`: of a TCP packet, which must not be a SYN. `false`: the session
    /// has ended, or was not judged under this generation yet, or there is more to it; then [`Sessions::admit`] is to judge, and
    /// nothing has changed.
    #[inline]
    pub fn pass_again(&mut self, pass: Pass, segment: Option<&Segment>, generation: Generation, now_secs: u32) -> bool {
        let slot = pass.slot as usize;
        let Some(session) = self.slab.get_mut(slot) else { return false };
        let is_it = session.serial == pass.serial && session.occupied && session.generation == generation;
        let is_tracked = session.phase != Phase::Untracked;
        if !is_it
            || is_tracked != segment.is_some()
            || session.way == Way::Knock
            || session.is_expired(&self.timers, now_secs)
        {
            return false;
        }
        match segment {
            Some(segment) => self.step(slot, pass.from_opener, segment, now_secs),
            None => session.refresh(pass.from_opener, now_secs),
        }
        true
    }
}
