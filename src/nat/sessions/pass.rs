//! Packets of which it is known which session they belong to.

use super::Sessions;
use super::knock::Way;
use super::tcp::{Phase, Track};
use crate::net::Generation;
use crate::wire::tcp::Segment;

/// What finds a session again without its key, for one of its directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    pub slot: u32,
    pub serial: u64,
    pub from_opener: bool,
    /// By which the session had been judged.
    pub generation: Generation,
}

impl Sessions {
    pub(super) fn pass_of(&self, slot: usize, from_opener: bool) -> Pass {
        let (life, session) = (&self.lives[slot], &self.slab[slot]);
        Pass { slot: slot as u32, serial: life.serial, from_opener, generation: session.generation }
    }

    /// Whether the session of a pass has not ended.
    pub fn has(&self, pass: Pass) -> bool {
        self.lives.get(pass.slot as usize).is_some_and(|life| life.serial == pass.serial)
    }

    /// Where [`Sessions::pass_again`] has let a packet through that is not TCP's, it lets through the next one of the same pass and generation as long as
    /// this stays the same: no second has passed, no such session has ended but those that had been idle for too long, none has been taken back to knocking, and
    /// the idle times are the same. Time must not go back. Not 0 in the first 136 years.
    #[inline]
    pub fn moment(&self, now_secs: u32) -> u64 {
        (u64::from(now_secs) + 1) << 32 | u64::from(self.revocations)
    }

    /// Brings what [`Sessions::pass_again`] needs into the processor's cache. What is returned means nothing.
    #[inline]
    pub fn touch(&self, slot: u32, is_tcp: bool) -> u32 {
        let number = if is_tcp { self.tracks.get(slot as usize).map_or(0, Track::touch) } else { 0 };
        self.lives.get(slot as usize).map_or(0, |life| life.last_packet_secs) ^ number
    }

    /// Another packet of a session that let one pass. `segment`: of a TCP packet, which must not be a SYN. `false`: the session
    /// has ended, or was not judged under this generation yet, or there is more to it; then [`Sessions::admit`] is to judge, and
    /// nothing has changed.
    ///
    /// Whose pass is of this generation, that session was judged under it: what sessions are judged by becomes newer only.
    #[inline]
    pub fn pass_again(&mut self, pass: Pass, segment: Option<&Segment>, generation: Generation, now_secs: u32) -> bool {
        let Some(life) = self.lives.get(pass.slot as usize) else { return false };
        if life.serial != pass.serial || pass.generation != generation || life.way == Way::Knock {
            return false;
        }
        // Another packet in the same second tells nothing new, and most are that.
        let is_noted = life.last_packet_secs == now_secs && life.phase == Phase::Untracked && segment.is_none();
        is_noted || self.note_again(pass, segment, now_secs)
    }

    /// [`Sessions::pass_again`], of a pass that is good.
    #[inline(never)]
    fn note_again(&mut self, pass: Pass, segment: Option<&Segment>, now_secs: u32) -> bool {
        let slot = pass.slot as usize;
        let life = &mut self.lives[slot];
        let is_tracked = life.phase != Phase::Untracked;
        if is_tracked != segment.is_some() || life.is_expired(&self.timers, now_secs) {
            return false;
        }
        match segment {
            Some(segment) => self.step(slot, pass.from_opener, segment, now_secs),
            None => life.refresh(pass.from_opener, now_secs),
        }
        true
    }
}
