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

mod entry;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use self::entry::{Doubt, Entry, Rank, Seed, State, key, reachable_time};
use super::bucket::Bucket;
use super::deadlines::Deadlines;
use super::waiting::Waiting;
use crate::net::{Mac, Timestamp};
use crate::packet::DropReason;

pub(super) const MAX_NEIGHBOURS: usize = 1024;
/// Being asked for.
pub(super) const MAX_INCOMPLETE: usize = 256;
/// Next hops, which hold their places.
pub(super) const MAX_PINNED: usize = 512;
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

    /// For a packet that [`Neighbours::find`] knows no way for: it waits, or is refused.
    #[cold]
    pub fn find_out(&mut self, address: IpAddr, packet: &[u8], now: Timestamp) -> Result<Unsure, DropReason> {
        let slot = match self.slot(address) {
            Some(slot) => slot,
            None => self.add_asked_for(address, now)?,
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
            State::Incomplete { .. } if self.wait(slot, packet) => Ok(Unsure::Waits),
            State::Incomplete { .. } => Err(DropReason::NeighbourQueueFull),
            State::Unasked if self.incomplete >= MAX_INCOMPLETE && !is_pinned => Err(DropReason::NeighbourUnresolved),
            State::Unasked => {
                self.enter(slot, State::Incomplete { asked: 1 }, now);
                Ok(Unsure::Ask { waits: self.wait(slot, packet) })
            }
        }
    }

    fn wait(&mut self, slot: u16, packet: &[u8]) -> bool {
        packet.is_empty() || self.waiting.push(slot, packet)
    }

    fn add_asked_for(&mut self, address: IpAddr, now: Timestamp) -> Result<u16, DropReason> {
        if self.incomplete >= MAX_INCOMPLETE || !self.questions.take(now) {
            return Err(DropReason::NeighbourUnresolved);
        }
        self.add(address, Rank::Used, now).ok_or(DropReason::NeighbourUnresolved)
    }

    /// Somebody says that `address` is at `mac`. Whether that can be so is for the caller to know.
    pub fn hear(&mut self, address: IpAddr, mac: Mac, sign: Sign, now: Timestamp) -> News {
        let is_answer = matches!(sign, Sign::Answer { .. }) && self.is_awaited(address, now);
        match self.slot(address) {
            None if sign == Sign::AskedUs => self.hear_of_stranger(None, address, mac, now),
            None => News::Nothing,
            Some(slot) if self.entries[usize::from(slot)].has_mac() => {
                self.hear_of_known(slot, mac, sign, is_answer, now)
            }
            Some(slot) if is_answer => self.find_at(slot, mac, now),
            Some(slot) if sign == Sign::AskedUs && self.entries[usize::from(slot)].may_make_itself_known() => {
                self.hear_of_stranger(Some(slot), address, mac, now)
            }
            Some(_) => News::Nothing,
        }
    }

    /// Somebody made himself known by asking for us.
    fn hear_of_stranger(&mut self, slot: Option<u16>, address: IpAddr, mac: Mac, now: Timestamp) -> News {
        if !self.strangers.take(now) {
            return News::Nothing;
        }
        let Some(slot) = slot.or_else(|| self.add(address, Rank::NeverUsed, now)) else { return News::Nothing };
        let entry = &mut self.entries[usize::from(slot)];
        (entry.mac, entry.has_answered) = (mac, false);
        self.enter(slot, State::Stale, now);
        News::Nothing
    }

    /// The first answer to a question to all of the link.
    fn find_at(&mut self, slot: u16, mac: Mac, now: Timestamp) -> News {
        let entry = &mut self.entries[usize::from(slot)];
        (entry.mac, entry.has_answered, entry.awaited_until) = (mac, true, None);
        self.enter(slot, State::Reachable, now);
        News::Found
    }

    fn hear_of_known(&mut self, slot: u16, mac: Mac, sign: Sign, is_answer: bool, now: Timestamp) -> News {
        let entry = &mut self.entries[usize::from(slot)];
        if entry.mac != mac {
            return self.hear_of_another(slot, mac, sign, now);
        }
        if !is_answer {
            return News::Nothing;
        }
        (entry.has_answered, entry.awaited_until) = (true, None);
        if let Some(doubt) = &mut entry.doubt {
            doubt.is_refuted = true;
        }
        self.enter(slot, State::Reachable, now);
        News::Confirmed
    }

    /// `mac` is not the one that we know.
    fn hear_of_another(&mut self, slot: u16, mac: Mac, sign: Sign, now: Timestamp) -> News {
        let entry = &mut self.entries[usize::from(slot)];
        match (sign, &mut entry.doubt) {
            (Sign::Answer { is_override: false }, _) => {
                if entry.state == State::Reachable {
                    self.enter(slot, State::Stale, now);
                }
                News::Nothing
            }
            (Sign::Answer { is_override: true }, Some(doubt)) => {
                doubt.other.get_or_insert(mac);
                News::Nothing
            }
            (_, Some(doubt)) => {
                doubt.is_claimed_again = true;
                News::Nothing
            }
            (_, None) => self.begin_to_doubt(slot, now),
        }
    }

    /// At most once in [`ASK_INTERVAL`]: a claim before that is looked into when it is over.
    fn begin_to_doubt(&mut self, slot: u16, now: Timestamp) -> News {
        let entry = &mut self.entries[usize::from(slot)];
        if let Some(next) = entry.doubted_at.map(|at| at + ASK_INTERVAL).filter(|next| now < *next) {
            self.deadlines.set(usize::from(slot) + MAX_NEIGHBOURS, Some(next));
            return News::Nothing;
        }
        entry.doubted_at = Some(now);
        entry.doubt = Some(Doubt::default());
        entry.awaited_until = Some(now + AWAITED);
        self.deadlines.set(usize::from(slot) + MAX_NEIGHBOURS, Some(now + DOUBT));
        News::Doubt
    }

    /// A doubt has run its time, or one that had to wait begins.
    fn poll_doubt(&mut self, slot: u16, now: Timestamp) -> Option<Due> {
        let entry = self.entries[usize::from(slot)];
        let target = entry.address;
        match entry.doubt {
            Some(doubt) => self.end_doubt(slot, doubt, now),
            None if entry.has_mac() && self.begin_to_doubt(slot, now) == News::Doubt => {
                Some(Due::Ask { target, mac: None })
            }
            None => {
                self.deadlines.set(usize::from(slot) + MAX_NEIGHBOURS, None);
                None
            }
        }
    }

    fn end_doubt(&mut self, slot: u16, doubt: Doubt, now: Timestamp) -> Option<Due> {
        let entry = &mut self.entries[usize::from(slot)];
        let (address, known) = (entry.address, entry.mac);
        entry.doubt = None;
        let next = entry.doubted_at.map(|at| at + ASK_INTERVAL).filter(|_| doubt.is_claimed_again);
        self.deadlines.set(usize::from(slot) + MAX_NEIGHBOURS, next);
        let other = doubt.other?;
        if doubt.is_refuted {
            return self.is_to_be_told(slot, now).then_some(Due::Contested { address, known, other });
        }
        let entry = &mut self.entries[usize::from(slot)];
        (entry.mac, entry.has_answered, entry.awaited_until) = (other, true, None);
        self.enter(slot, State::Reachable, now);
        Some(Due::Moved { address })
    }

    /// That two answer for this one.
    fn is_to_be_told(&mut self, slot: u16, now: Timestamp) -> bool {
        let entry = &mut self.entries[usize::from(slot)];
        let is_old = entry.contested_at.is_none_or(|at| now >= at + CONTEST_INTERVAL);
        let is_to_be_told = is_old && self.contests.take(now);
        if is_to_be_told {
            entry.contested_at = Some(now);
        }
        is_to_be_told
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

    /// It has shown otherwise that it is there and hears us (RFC 4861 section 7.3.1).
    pub fn confirm(&mut self, address: IpAddr, mac: Mac, now: Timestamp) {
        let Some(slot) = self.slot(address) else { return };
        let entry = &self.entries[usize::from(slot)];
        if entry.mac == mac && matches!(entry.state, State::Stale | State::Delay | State::Probe { .. }) {
            self.enter(slot, State::Reachable, now);
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

    /// Exactly these hold their places from now on, the first [`MAX_PINNED`].
    pub fn pin(&mut self, addresses: &[IpAddr], now: Timestamp) {
        for slot in 0..self.entries.len() {
            let entry = self.entries[slot];
            if entry.is_pinned && !addresses.contains(&entry.address) {
                self.entries[slot].is_pinned = false;
                self.pinned -= 1;
                self.enter(slot as u16, entry.state, now); // so that it ages
            }
        }
        for address in addresses {
            let Some(slot) = self.slot(*address).or_else(|| self.add(*address, Rank::Used, now)) else { continue };
            let entry = &mut self.entries[usize::from(slot)];
            if !entry.is_pinned && self.pinned < MAX_PINNED {
                entry.is_pinned = true;
                let state = entry.state;
                self.pinned += 1;
                self.enter(slot, state, now); // so that it does not age
            }
        }
    }

    /// The link is another one, or gone: nobody is known any more. How many packets are lost by it.
    pub fn clear(&mut self, now: Timestamp) -> usize {
        let mut lost = 0;
        for slot in 0..self.entries.len() as u16 {
            lost += self.waiting.release(slot, |_| ());
            let entry = self.entries[usize::from(slot)];
            if self.slot(entry.address) != Some(slot) {
                continue; // nobody's place
            }
            match entry.is_pinned {
                true => self.enter(slot, State::Unasked, now),
                false => self.remove(slot),
            }
        }
        lost
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

    fn slot(&self, address: IpAddr) -> Option<u16> {
        self.index.get(&key(address)).copied()
    }

    fn entry(&self, address: IpAddr) -> Option<&Entry> {
        Some(&self.entries[usize::from(self.slot(address)?)])
    }

    /// A new entry, at the cost of one that ranks no higher than `highest`.
    fn add(&mut self, address: IpAddr, highest: Rank, now: Timestamp) -> Option<u16> {
        let entry = Entry {
            address,
            mac: Mac::default(),
            state: State::Unasked,
            is_pinned: false,
            has_answered: false,
            last_used: None,
            changed_at: now,
            awaited_until: None,
            doubted_at: None,
            doubt: None,
            contested_at: None,
        };
        if self.index.len() >= MAX_NEIGHBOURS {
            self.remove(self.least(highest)?);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u16
            }
        };
        self.entries[usize::from(slot)] = entry;
        self.index.insert(key(address), slot);
        self.enter(slot, State::Unasked, now);
        Some(slot)
    }

    /// Whom nobody will miss most. New neighbours are so few in a second that a look at all of them is no cost.
    fn least(&self, highest: Rank) -> Option<u16> {
        let slots = 0..self.entries.len() as u16;
        let ranked = slots.filter_map(|slot| {
            let entry = &self.entries[usize::from(slot)];
            (!entry.is_pinned && entry.rank() <= highest).then_some((entry.rank(), entry.seen_at(), slot))
        });
        ranked.min().map(|(_, _, slot)| slot)
    }

    fn remove(&mut self, slot: u16) {
        let entry = self.entries[usize::from(slot)];
        self.leave(entry.state);
        self.lost += self.waiting.release(slot, |_| ());
        self.index.remove(&key(entry.address));
        self.deadlines.set(usize::from(slot), None);
        self.deadlines.set(usize::from(slot) + MAX_NEIGHBOURS, None);
        self.free.push(slot);
    }

    fn enter(&mut self, slot: u16, state: State, now: Timestamp) {
        let entry = &mut self.entries[usize::from(slot)];
        let before = std::mem::replace(&mut entry.state, state);
        entry.changed_at = now;
        if !entry.has_mac() {
            entry.doubt = None;
        }
        if matches!(state, State::Incomplete { .. } | State::Probe { .. }) {
            entry.awaited_until = Some(now + AWAITED);
        }
        let due = match state {
            State::Unasked if entry.is_pinned => None,
            State::Unasked => Some(now + IDLE),
            State::Incomplete { .. } | State::Probe { .. } => Some(now + ASK_INTERVAL),
            State::Reachable => Some(now + reachable_time(entry.address, now)),
            State::Stale => Some(entry.seen_at() + IDLE),
            State::Delay => Some(now + DELAY),
            State::Failed if entry.is_pinned => Some(now + HOLD_DOWN_PINNED),
            State::Failed => Some(now + HOLD_DOWN),
        };
        self.leave(before);
        self.incomplete += usize::from(matches!(state, State::Incomplete { .. }));
        self.deadlines.set(usize::from(slot), due);
    }

    fn leave(&mut self, state: State) {
        self.incomplete -= usize::from(matches!(state, State::Incomplete { .. }));
    }
}
