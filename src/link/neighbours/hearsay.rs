//! What others say, and whom to believe: answers to questions of ours, and rumours, which are looked into.

use std::net::IpAddr;

use super::entry::{Doubt, Rank, State};
use super::{ASK_INTERVAL, AWAITED, CONTEST_INTERVAL, DOUBT, Due, MAX_NEIGHBOURS, Neighbours, News, Sign};
use crate::net::{Mac, Timestamp};

impl Neighbours {
    /// It has shown otherwise that it is there and hears us (RFC 4861 section 7.3.1).
    pub fn confirm(&mut self, address: IpAddr, mac: Mac, now: Timestamp) {
        let Some(slot) = self.slot(address) else { return };
        let entry = &self.entries[usize::from(slot)];
        if entry.mac == mac && matches!(entry.state, State::Stale | State::Delay | State::Probe { .. }) {
            self.enter(slot, State::Reachable, now);
        }
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
    pub(super) fn poll_doubt(&mut self, slot: u16, now: Timestamp) -> Option<Due> {
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
}
