//! Who is where on one port's link: the states of RFC 4861 section 7.3.2, for IPv4 too.
//!
//! ```text
//! Unasked -- a packet --> Incomplete -- answer --> Reachable -- time --> Stale -- a packet --> Delay -> Probe
//!    ^                      | no answer                ^                                        | answer   |
//!    '-- time -- Failed <---'                          '----------------------------------------'          |
//!    '-------------------------------------------------------------------------- no answer ---------------'
//! ```
//!
//! Anybody on the link can say anything, so: the table is bounded, what others say unasked makes few entries and none at
//! the cost of those that packets go to, and a claim of another hardware address than the known one is a rumour: all of the
//! link is asked who has the address, and only when nobody answers from where it was is another answer believed. When both
//! answer, the one that was known stays, and that is told. Next hops are pinned: they are never put out, and where they are
//! is known by an answer to a question of ours alone, the first of which went to all of the link.
//!
//! `entry`: what is known of one. `table`: places and ages. `hearsay`: what others say, and whom to believe. `askers`: which
//! realm's packets make us ask, and its share of the bounds.

mod askers;
mod entry;
mod hearsay;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use self::askers::Askers;
use self::entry::{Entry, Rank, Seed, State, key};
use super::bucket::Bucket;
use super::deadlines::Deadlines;
use super::waiting::Waiting;
use crate::net::{Mac, RealmId, Timestamp};
use crate::packet::DropReason;

pub(super) const MAX_NEIGHBOURS: usize = 1024;
/// Being asked for.
pub(super) const MAX_INCOMPLETE: usize = 256;
/// Next hops, which hold their places.
pub const MAX_PINNED: usize = 512;
/// New neighbours in a second that packets make us ask for. Each is asked for at most [`MAX_ASKS`] times.
pub(super) const QUESTIONS_PER_SEC: u32 = 100;
const QUESTIONS_BURST: u32 = 32;
/// New neighbours in a second that made themselves known by asking for us.
const STRANGERS_PER_SEC: u32 = 100;
const STRANGERS_BURST: u32 = 32;
/// Addresses in a second that two answer for, as far as that is told ...
const CONTESTS_PER_SEC: u32 = 1;
const CONTESTS_BURST: u32 = 8;
/// ... and how often of one.
pub(super) const CONTEST_INTERVAL: Duration = Duration::from_secs(60);
/// MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT (RFC 4861 section 10).
pub(super) const MAX_ASKS: u8 = 3;
/// RETRANS_TIMER.
pub(super) const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// DELAY_FIRST_PROBE_TIME.
const DELAY: Duration = Duration::from_secs(5);
/// Nobody answered: so long nobody is asked again.
pub(super) const HOLD_DOWN: Duration = Duration::from_secs(3);
/// Of a next hop, which is watched besides.
const HOLD_DOWN_PINNED: Duration = Duration::from_secs(1);
/// An entry that no packet went to for so long is forgotten.
pub(super) const IDLE: Duration = Duration::from_secs(600);
/// Somebody else has the address if he answers and, for so long, the one that had it does not.
pub(super) const DOUBT: Duration = Duration::from_millis(100);
/// An answer within this time of our question is one to it.
const AWAITED: Duration = Duration::from_millis(1500);

/// What is to be done with a packet whose neighbour is not known to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unsure {
    /// It can go; the neighbour will be asked whether it is still there.
    Send(Mac),
    /// The link is being asked.
    Waits,
    /// The link is to be asked now. Without `waits` there was no room for the packet.
    Ask { waits: bool },
}

/// How we heard of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    /// To us, as an answer. Without `is_override` (RFC 4861 section 7.2.4) it does not replace what is known.
    Answer { is_override: bool },
    /// It asked for an address of ours: worth remembering.
    AskedUs,
    /// Anything else, such as an announcement: only about those of whom we know where they are.
    Claim,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    Nothing,
    /// Where it is was not known: packets that waited can go.
    Found,
    /// It answered, from where we thought.
    Confirmed,
    /// Somebody claims to be it: the link is to be asked now.
    Doubt,
}

/// What time brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// All of the link, or the one that is thought to have it.
    Ask { target: IpAddr, mac: Option<Mac> },
    /// Nobody answered: so many packets that waited for it are lost.
    Unanswered { lost: usize },
    /// It answered, and from elsewhere than before.
    Moved { address: IpAddr },
    /// Two answered: the one that was known, which stays, and another.
    Contested { address: IpAddr, known: Mac, other: Mac },
}

#[derive(Debug)]
pub(super) struct Neighbours {
    index: HashMap<u128, u16, Seed>,
    entries: Vec<Entry>,
    /// Places in `entries` that are nobody's.
    free: Vec<u16>,
    /// Of each entry, and behind these of each doubt.
    deadlines: Deadlines,
    waiting: Waiting,
    incomplete: usize,
    pinned: usize,
    questions: Bucket,
    askers: Askers,
    strangers: Bucket,
    contests: Bucket,
    /// Waited for neighbours that had to make room.
    lost: usize,
}

impl Neighbours {
    /// `seed`: random and secret.
    pub fn new(seed: u64) -> Self {
        Neighbours {
            index: HashMap::with_hasher(Seed(seed)),
            entries: Vec::new(),
            free: Vec::new(),
            deadlines: Deadlines::default(),
            waiting: Waiting::default(),
            incomplete: 0,
            pinned: 0,
            questions: Bucket::new(QUESTIONS_PER_SEC, QUESTIONS_BURST),
            askers: Askers::default(),
            strangers: Bucket::new(STRANGERS_PER_SEC, STRANGERS_BURST),
            contests: Bucket::new(CONTESTS_PER_SEC, CONTESTS_BURST),
            lost: 0,
        }
    }

    /// The path: where a packet for this neighbour goes. `None`: see [`Neighbours::find_out`].
    #[inline]
    pub fn find(&mut self, address: IpAddr, now: Timestamp) -> Option<Mac> {
        let slot = *self.index.get(&key(address))?;
        let entry = &mut self.entries[usize::from(slot)];
        if !matches!(entry.state, State::Reachable | State::Delay | State::Probe { .. }) {
            return None;
        }
        entry.last_used = Some(now);
        Some(entry.mac)
    }

    /// For a packet that [`Neighbours::find`] knows no way for: it waits, or is refused. `by`: whose packet it is.
    #[cold]
    pub fn find_out(
        &mut self,
        address: IpAddr,
        by: RealmId,
        packet: &[u8],
        now: Timestamp,
    ) -> Result<Unsure, DropReason> {
        let slot = match self.slot(address) {
            Some(slot) => slot,
            None => self.add_asked_for(address, by, now)?,
        };
        let entry = &mut self.entries[usize::from(slot)];
        entry.last_used = Some(now);
        let Entry { state, mac, is_pinned, .. } = *entry;
        match state {
            State::Reachable | State::Delay | State::Probe { .. } => Ok(Unsure::Send(mac)),
            State::Stale => {
                self.enter(slot, State::Delay, now);
                Ok(Unsure::Send(mac))
            }
            State::Failed => Err(DropReason::NeighbourUnresolved),
            State::Incomplete { .. } if self.wait(slot, by, packet) => Ok(Unsure::Waits),
            State::Incomplete { .. } => Err(DropReason::NeighbourQueueFull),
            State::Unasked if !is_pinned && (self.incomplete >= MAX_INCOMPLETE || self.askers.has_share(by)) => {
                Err(DropReason::NeighbourUnresolved)
            }
            State::Unasked => {
                let is_counted = !is_pinned && self.askers.begin(by, now);
                self.entries[usize::from(slot)].asker = is_counted.then_some(by);
                self.enter(slot, State::Incomplete { asked: 1 }, now);
                Ok(Unsure::Ask { waits: self.wait(slot, by, packet) })
            }
        }
    }

    fn wait(&mut self, slot: u16, by: RealmId, packet: &[u8]) -> bool {
        packet.is_empty() || self.waiting.push(slot, by, packet)
    }

    fn add_asked_for(&mut self, address: IpAddr, by: RealmId, now: Timestamp) -> Result<u16, DropReason> {
        if self.incomplete >= MAX_INCOMPLETE || !self.askers.take(by, now) || !self.questions.take(now) {
            return Err(DropReason::NeighbourUnresolved);
        }
        self.add(address, Rank::Used, now).ok_or(DropReason::NeighbourUnresolved)
    }

    /// Hands over what waited for a neighbour that was found, in order.
    pub fn release(&mut self, address: IpAddr, each: impl FnMut(&[u8])) {
        if let Some(slot) = self.slot(address) {
            self.waiting.release(slot, each);
        }
    }

    /// We have asked for an answer from this next hop, apart from what this table asks by itself.
    pub fn note_asked(&mut self, address: IpAddr, now: Timestamp) {
        if let Some(slot) = self.slot(address).or_else(|| self.add(address, Rank::Used, now)) {
            self.entries[usize::from(slot)].awaited_until = Some(now + AWAITED);
        }
    }

    pub fn is_awaited(&self, address: IpAddr, now: Timestamp) -> bool {
        self.entry(address).is_some_and(|entry| entry.awaited_until.is_some_and(|until| now <= until))
    }

    pub fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        self.entry(address).filter(|entry| entry.has_mac()).map(|entry| entry.mac)
    }

    /// It does not answer where it was: all of the link is to be asked next time.
    pub fn forget_mac(&mut self, address: IpAddr, now: Timestamp) {
        if let Some(slot) = self.slot(address).filter(|slot| self.entries[usize::from(*slot)].has_mac()) {
            self.enter(slot, State::Unasked, now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// To be called until there is nothing.
    pub fn poll_due(&mut self, now: Timestamp) -> Option<Due> {
        while let Some(slot) = self.deadlines.due(now) {
            if slot >= MAX_NEIGHBOURS {
                match self.poll_doubt((slot - MAX_NEIGHBOURS) as u16, now) {
                    Some(due) => return Some(due),
                    None => continue,
                }
            }
            let entry = self.entries[slot];
            let (target, slot) = (entry.address, slot as u16);
            match entry.state {
                State::Incomplete { asked } if asked < MAX_ASKS => {
                    self.enter(slot, State::Incomplete { asked: asked + 1 }, now);
                    return Some(Due::Ask { target, mac: None });
                }
                State::Incomplete { .. } => {
                    self.enter(slot, State::Failed, now);
                    return Some(Due::Unanswered { lost: self.waiting.release(slot, |_| ()) });
                }
                State::Delay => {
                    self.enter(slot, State::Probe { asked: 1 }, now);
                    return Some(Due::Ask { target, mac: entry.mac_to_ask() });
                }
                State::Probe { asked } if asked < MAX_ASKS => {
                    self.enter(slot, State::Probe { asked: asked + 1 }, now);
                    return Some(Due::Ask { target, mac: entry.mac_to_ask() });
                }
                State::Probe { .. } => self.enter(slot, State::Unasked, now),
                State::Reachable => self.enter(slot, State::Stale, now),
                State::Failed if entry.is_pinned => self.enter(slot, State::Unasked, now),
                State::Stale if entry.is_pinned => self.deadlines.set(usize::from(slot), None),
                State::Stale if now < entry.seen_at() + IDLE => {
                    self.deadlines.set(usize::from(slot), Some(entry.seen_at() + IDLE));
                }
                State::Unasked | State::Stale | State::Failed => self.remove(slot),
            }
        }
        None
    }

    /// Packets that waited for neighbours which had to make room, since the last call.
    pub fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
