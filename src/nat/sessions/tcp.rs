//! How far a TCP connection has come, as seen from between its two ends: enough to choose its idle time, and to tell a reset
//! of its ends from one by somebody who only guesses.
//!
//! ```text
//!             SYN of the opener            SYN-ACK, or a SYN of its own            ACK of the opener
//!   (none) ---------------------> Opening ------------------------------> Answered -----------------> Established
//!   (none) ---- mid-stream ----> PickedUp ---------------- any answer -----------------------------> Established
//!
//!   Established -- FIN of both --> Closed       Established -- reset --> Reset       before that -- reset --> Refused
//! ```
//!
//! A segment changes anything only if it is *plausible*: its sequence number lies in the window that the other end has
//! announced, its acknowledgement near what the other end has sent. A *reset* must be better than that, as an endpoint asks for
//! (RFC 5961 section 3.2): its number lies between what the other end has acknowledged and what this end has sent. On a quiet
//! connection that is one number of 2^32. Whatever a segment is worth here, it is forwarded (RFC 7857 section 2.2): its receiver
//! knows better than we can.
//!
//! Nobody who has sent a reset, or new data behind a FIN, goes on sending: a connection that does was reset by somebody else,
//! and is established again.
//!
//! A SYN on an established connection changes nothing (RFC 5961 section 4.2): the other end challenges it, and its opener, if it
//! has really begun anew, answers that with a reset of the right number. If the other end has forgotten the connection too, it
//! agrees, and that counts.

use crate::wire::tcp::{Segment, flag};

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No TCP.
    Untracked,
    /// Asked for, not answered.
    Opening,
    /// Begun before this appliance was, and not answered since.
    PickedUp,
    /// Answered, and the opener has not said that it knows.
    Answered,
    /// Reset before it was established.
    Refused,
    Established,
    /// Both ends have said that they are done.
    Closed,
    Reset,
}

impl Phase {
    /// Nothing has shown yet that both ends mean it: what a flood is made of.
    pub fn is_half_open(self) -> bool {
        matches!(self, Phase::Opening | Phase::PickedUp | Phase::Answered | Phase::Refused)
    }

    pub fn is_over(self) -> bool {
        matches!(self, Phase::Refused | Phase::Closed | Phase::Reset)
    }
}

/// What a segment means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Step {
    pub phase: Phase,
    /// The idle time begins anew.
    pub refreshes: bool,
}

/// Whose: index into [`Track`]'s arrays.
const OPENER: usize = 0;
const OTHER: usize = 1;

/// How far behind the newest a segment or an acknowledgement may be, where the window is smaller: duplicates.
const MAX_BEHIND_BYTES: u32 = 1 << 16;
/// The window of an end whose SYN we have not seen, so that its scale is unknown: as much as an end usually allows itself.
const PRESUMED_WINDOW_BYTES: u32 = 8 << 20;

/// Window shifts that are none. Real ones are at most 14 (RFC 7323 section 2.3).
const SHIFT_NONE: u8 = 0xff;
const SHIFT_UNKNOWN: u8 = 0xfe;
const MAX_SHIFT: u8 = 14;

/// What is known of an end.
mod note {
    /// `sent` and `window` are known.
    pub const HEARD: u8 = 1;
    /// `acked` is known, or as low as it can be.
    pub const WAITS: u8 = 2;
    pub const FIN: u8 = 4;
    pub const RESET: u8 = 8;
    /// Of the opener: it has sent a SYN that `renewed` is about.
    pub const RENEWED: u8 = 16;
}

/// One end of the connection.
#[derive(Clone, Copy, Default, Debug)]
struct End {
    /// Behind the last byte that it has sent.
    sent: u32,
    /// The next byte that it waits for.
    acked: u32,
    /// The largest window that it has announced, in bytes.
    window: u32,
}

/// The sequence numbers of a connection.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(super) struct Track {
    ends: [End; 2],
    /// What the other end acknowledges if it agrees to begin anew.
    renewed: u32,
    shifts: [u8; 2],
    notes: [u8; 2],
}

const _: () = assert!(size_of::<Track>() == 32, "two in a cache line");

/// How far `a` is past `b` in sequence space; negative: before it.
fn past(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b) as i32)
}

fn is_between(low: u32, value: u32, high: u32) -> bool {
    past(value, low) >= 0 && past(value, high) <= 0
}

impl Track {
    pub const NONE: Track = Track {
        ends: [End { sent: 0, acked: 0, window: 0 }; 2],
        renewed: 0,
        shifts: [SHIFT_UNKNOWN; 2],
        notes: [0; 2],
    };

    /// Any word of it: reading it brings it into the cache.
    #[inline]
    pub fn touch(&self) -> u32 {
        self.renewed
    }

    /// Of the opener's first segment.
    pub fn open(segment: &Segment) -> (Track, Phase) {
        let mut track = Track::NONE;
        track.absorb(OPENER, segment);
        (track, if segment.is_syn() { Phase::Opening } else { Phase::PickedUp })
    }

    /// A SYN of the other end crosses the opener's, or is it again (RFC 9293 section 3.5, RFC 5382 REQ-2): the same connection.
    pub fn is_simultaneous(&self, phase: Phase, segment: &Segment) -> bool {
        match phase {
            Phase::Opening => true,
            Phase::Answered => segment.end() == self.ends[OTHER].sent,
            _ => false,
        }
    }

    pub fn step(&mut self, phase: Phase, from_opener: bool, segment: &Segment) -> Step {
        let me = if from_opener { OPENER } else { OTHER };
        if segment.has(flag::RST) {
            return self.reset(phase, me, segment);
        }
        if from_opener && segment.is_syn() {
            return Step { phase: self.begin_anew(phase, segment), refreshes: true };
        }
        let agreed = !from_opener && self.agrees_to_begin_anew(segment);
        let is_plausible = agreed || self.is_plausible(phase, me, segment);
        if !is_plausible {
            return Step { phase, refreshes: from_opener };
        }
        let is_new = past(segment.end(), self.ends[me].sent) > 0;
        self.absorb(me, segment);
        let next = if agreed { Phase::Answered } else { self.next(phase, me, segment, is_new) };
        // The other end keeps only a living connection alive.
        Step { phase: next, refreshes: from_opener || next != phase || !next.is_over() }
    }

    fn next(&mut self, phase: Phase, me: usize, segment: &Segment, is_new: bool) -> Phase {
        let confirms = me == OPENER && segment.has(flag::ACK) && self.has(OTHER, note::HEARD);
        let next = match phase {
            Phase::Opening if me == OTHER => Phase::Answered,
            Phase::PickedUp if me == OTHER => Phase::Established,
            Phase::Answered | Phase::Refused if confirms => Phase::Established,
            Phase::Reset if self.has(me, note::RESET) => Phase::Established,
            Phase::Closed if is_new => {
                self.notes.iter_mut().for_each(|notes| *notes &= !note::FIN);
                Phase::Established
            }
            same => same,
        };
        if next == Phase::Established && self.has(OPENER, note::FIN) && self.has(OTHER, note::FIN) {
            return Phase::Closed;
        }
        next
    }

    /// A reset never keeps a session alive (RFC 7857 section 7.1), except that a right one begins the wait.
    fn reset(&mut self, phase: Phase, me: usize, segment: &Segment) -> Step {
        let next = match phase {
            Phase::Opening | Phase::PickedUp | Phase::Answered => Phase::Refused,
            Phase::Established => Phase::Reset,
            over => over,
        };
        if next == phase || !self.is_right_reset(me, segment) {
            return Step { phase, refreshes: false };
        }
        self.notes[me] |= note::RESET;
        Step { phase: next, refreshes: true }
    }

    fn is_right_reset(&self, me: usize, segment: &Segment) -> bool {
        let (mine, peers) = (self.ends[me], self.ends[1 - me]);
        if self.has(me, note::HEARD) {
            return self.has(1 - me, note::WAITS) && is_between(peers.acked, segment.seq, mine.sent);
        }
        // The first word of an end: it refuses what it was sent (RFC 9293 section 3.10.7.1).
        match segment.has(flag::ACK) {
            true => is_between(mine.acked, segment.ack, peers.sent),
            false => self.has(1 - me, note::WAITS) && segment.seq == peers.acked,
        }
    }

    /// A SYN of the opener.
    fn begin_anew(&mut self, phase: Phase, segment: &Segment) -> Phase {
        if matches!(phase, Phase::Answered | Phase::Established) {
            self.renewed = segment.seq.wrapping_add(1);
            self.notes[OPENER] |= note::RENEWED;
            return phase;
        }
        let (track, phase) = Track::open(segment);
        *self = track;
        phase
    }

    /// The other end has answered a SYN on an established connection as a new one. Afterwards the numbers are that one's.
    fn agrees_to_begin_anew(&mut self, segment: &Segment) -> bool {
        let agrees = segment.flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK;
        if !agrees || !self.has(OPENER, note::RENEWED) || segment.ack != self.renewed {
            return false;
        }
        self.ends[OPENER].sent = self.renewed;
        self.notes = [note::HEARD, 0];
        self.shifts[OTHER] = SHIFT_UNKNOWN;
        true
    }

    /// Could this segment come from this end? (van Rooij, "Real Stateful TCP Packet Filtering in IP Filter".)
    fn is_plausible(&self, phase: Phase, me: usize, segment: &Segment) -> bool {
        let (mine, peers) = (self.ends[me], self.ends[1 - me]);
        if phase == Phase::Opening && me == OTHER {
            return match segment.flags & (flag::SYN | flag::ACK) {
                flag::SYN => true,
                both if both == flag::SYN | flag::ACK => is_between(mine.acked, segment.ack, peers.sent),
                _ => false,
            };
        }
        let reach = if self.has(me, note::HEARD) { mine.window.max(1) } else { PRESUMED_WINDOW_BYTES };
        let peers_reach = peers.window.max(1);
        let in_window = if !self.has(1 - me, note::WAITS) {
            true
        } else if self.has(me, note::HEARD) {
            past(segment.end(), peers.acked) <= i64::from(peers_reach)
                && past(segment.end(), mine.sent) >= -i64::from(peers_reach.max(MAX_BEHIND_BYTES))
        } else {
            past(segment.seq, peers.acked).abs() <= i64::from(peers_reach)
        };
        let acknowledges = !segment.has(flag::ACK) || !self.has(1 - me, note::HEARD) || {
            let ahead = past(segment.ack, peers.sent);
            // Ahead: what was lost before us was sent all the same.
            (-i64::from(reach.max(MAX_BEHIND_BYTES))..=i64::from(reach)).contains(&ahead)
        };
        in_window && acknowledges
    }

    fn absorb(&mut self, me: usize, segment: &Segment) {
        let is_first = !self.has(me, note::HEARD);
        let (syn, peer) = (segment.has(flag::SYN), 1 - me);
        if is_first || past(segment.end(), self.ends[me].sent) > 0 {
            self.ends[me].sent = segment.end();
        }
        if is_first && !self.has(peer, note::WAITS) {
            self.ends[peer].acked = segment.seq.wrapping_add(u32::from(syn));
            self.notes[peer] |= note::WAITS;
        }
        if syn {
            self.shifts[me] = segment.window_shift.map_or(SHIFT_NONE, |shift| shift.min(MAX_SHIFT));
        }
        let window = if syn { u32::from(segment.window) } else { self.scaled(me, segment.window) };
        self.ends[me].window = if is_first { window } else { window.max(self.ends[me].window) };
        self.notes[me] |= note::HEARD;
        if segment.has(flag::ACK) {
            if !self.has(me, note::WAITS) || past(segment.ack, self.ends[me].acked) > 0 {
                self.ends[me].acked = segment.ack;
                self.notes[me] |= note::WAITS;
            }
            if self.has(peer, note::HEARD) && past(segment.ack, self.ends[peer].sent) > 0 {
                self.ends[peer].sent = segment.ack;
            }
        }
        if segment.has(flag::FIN) {
            self.notes[me] |= note::FIN;
        }
    }

    /// Windows are scaled when both ends have offered to (RFC 7323 section 2.2).
    fn scaled(&self, me: usize, window: u16) -> u32 {
        let window = u32::from(window);
        match self.shifts[me] {
            _ if self.shifts.contains(&SHIFT_NONE) => window,
            SHIFT_UNKNOWN => PRESUMED_WINDOW_BYTES,
            shift => window << shift,
        }
    }

    fn has(&self, end: usize, note: u8) -> bool {
        self.notes[end] & note != 0
    }
}

#[cfg(test)]
pub(super) mod tests;
