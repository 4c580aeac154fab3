//! The routes of one device, from the kernel's messages: as many prefixes as agreed, and no more.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::message::{Hop, Message, Route};
use crate::net::{LearnedRoute, Timestamp};

/// Routes of one prefix with different metrics; further ones are passed over.
const MAX_METRICS: usize = 4;
/// No dump begins sooner after the one before: what never rests makes each of them incomplete.
const DUMP_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// The same for one that only looks for what had no room: one prefix that comes and goes has the kernel tell its whole table.
const LOOK_FOR_OTHERS_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// After [`Table::handle_message`], see [`Table::take_changed`], [`Table::begin_dump`] and [`Table::poll_timeout`].
#[derive(Debug)]
pub struct Table {
    device: u32,
    max_prefixes: usize,
    known: BTreeMap<IpNet, Known>,
    /// The number of the dump that runs.
    dump: Option<u32>,
    last_dump: u32,
    last_begun: Option<Timestamp>,
    wants_dump: bool,
    /// There is room again for what had none.
    wants_others: bool,
    /// Prefixes that had no room, in this dump and since.
    overflow: u64,
    is_changed: bool,
}

#[derive(Debug)]
struct Known {
    since: Timestamp,
    /// By metric.
    ways: BTreeMap<u32, Way>,
}

#[derive(PartialEq, Eq, Debug)]
struct Way {
    via: Vec<Option<IpAddr>>,
    /// In the dump that runs, or since it began.
    seen: bool,
}

impl Table {
    /// `device`: the kernel's number of the one that leads to the realm.
    pub fn new(device: u32, max_prefixes: usize) -> Self {
        Table {
            device,
            max_prefixes,
            known: BTreeMap::new(),
            dump: None,
            last_dump: 0,
            last_begun: None,
            wants_dump: true,
            wants_others: false,
            overflow: 0,
            is_changed: false,
        }
    }

    pub fn set_max_prefixes(&mut self, max_prefixes: usize) {
        if max_prefixes != self.max_prefixes {
            self.max_prefixes = max_prefixes;
            while self.known.len() > max_prefixes {
                self.known.pop_last();
                self.is_changed = true;
            }
            self.want_dump();
        }
    }

    /// Whether all routes are to be asked for: with this number.
    pub fn begin_dump(&mut self, now: Timestamp) -> Option<u32> {
        self.poll_timeout().filter(|at| *at <= now)?;
        (self.wants_dump, self.wants_others) = (false, false);
        self.last_begun = Some(now);
        self.last_dump = self.last_dump.wrapping_add(1).max(1);
        self.dump = Some(self.last_dump);
        self.overflow = 0;
        self.known.values_mut().flat_map(|known| known.ways.values_mut()).for_each(|way| way.seen = false);
        self.dump
    }

    /// When [`Table::begin_dump`] has something to ask for.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let after = match (self.dump, self.wants_dump, self.wants_others) {
            (None, true, _) => DUMP_AT_MOST_EVERY,
            (None, false, true) => LOOK_FOR_OTHERS_AT_MOST_EVERY,
            _ => return None,
        };
        Some(self.last_begun.map_or(Timestamp::ZERO, |begun| begun + after))
    }

    /// Everything is to be asked for again, when the dump that runs has ended.
    pub fn want_dump(&mut self) {
        self.wants_dump = true;
    }

    /// The kernel lost messages for us.
    pub fn handle_loss(&mut self) {
        (self.wants_dump, self.dump) = (true, None);
    }

    pub fn handle_message(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Route { route, is_added } => self.add(route, is_added, now),
            Message::Gone(route) => self.remove(&route),
            Message::Device(device) if device == self.device => self.want_dump(),
            Message::Device(_) => {}
            Message::Done { sequence, is_consistent } if self.dump == Some(sequence) => {
                self.dump = None;
                if is_consistent { self.forget_unseen() } else { self.want_dump() }
            }
            Message::Failed { sequence, .. } if self.dump == Some(sequence) => self.handle_loss(),
            Message::Overrun => self.handle_loss(),
            Message::Done { .. } | Message::Failed { .. } => {}
        }
    }

    /// Whether something is otherwise than at the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// By prefix, the best next hop first.
    pub fn routes(&self) -> impl Iterator<Item = LearnedRoute> {
        self.known.iter().map(|(prefix, known)| {
            let mut via: Vec<IpAddr> = Vec::new();
            for hop in known.ways.values().flat_map(|way| &way.via).flatten() {
                if !via.contains(hop) {
                    via.push(*hop);
                }
            }
            LearnedRoute { prefix: *prefix, via, since: known.since }
        })
    }

    /// Routes that had no room, since everything was last asked for.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    fn add(&mut self, route: Route, is_added: bool, now: Timestamp) {
        let via = self.via(&route.hops);
        if via.is_empty() {
            // It led here before, and leads elsewhere now.
            if !is_added {
                self.forget(route.prefix, route.metric);
            }
            return;
        }
        let has_room = self.known.len() < self.max_prefixes;
        let Some(known) = self.known.get_mut(&route.prefix) else {
            if has_room {
                let ways = BTreeMap::from([(route.metric, Way { via, seen: true })]);
                self.known.insert(route.prefix, Known { since: now, ways });
                self.is_changed = true;
            } else {
                self.overflow += 1;
            }
            return;
        };
        let is_full = known.ways.len() >= MAX_METRICS;
        match known.ways.get_mut(&route.metric) {
            Some(way) => {
                way.seen = true;
                let joined = if is_added { join(&way.via, via) } else { via };
                self.is_changed |= way.via != joined;
                way.via = joined;
            }
            None if is_full => {}
            None => {
                known.ways.insert(route.metric, Way { via, seen: true });
                self.is_changed = true;
            }
        }
    }

    /// Of several next hops, IPv6 tells each by itself.
    fn remove(&mut self, route: &Route) {
        let gone = self.via(&route.hops);
        let Some(way) = self.known.get_mut(&route.prefix).and_then(|known| known.ways.get_mut(&route.metric)) else {
            // One that had no room is gone, perhaps.
            return;
        };
        let before = way.via.len();
        way.via.retain(|via| !gone.contains(via));
        self.is_changed |= way.via.len() != before;
        if way.via.is_empty() {
            self.forget(route.prefix, route.metric);
        }
    }

    fn forget(&mut self, prefix: IpNet, metric: u32) {
        let Some(known) = self.known.get_mut(&prefix) else { return };
        self.is_changed |= known.ways.remove(&metric).is_some();
        if known.ways.is_empty() {
            self.known.remove(&prefix);
            self.look_for_others();
        }
    }

    fn forget_unseen(&mut self) {
        let before: usize = self.known.values().map(|known| known.ways.len()).sum();
        self.known.retain(|_, known| {
            known.ways.retain(|_, way| way.seen);
            !known.ways.is_empty()
        });
        let after: usize = self.known.values().map(|known| known.ways.len()).sum();
        self.is_changed |= before != after;
        if before != after {
            self.look_for_others();
        }
    }

    fn look_for_others(&mut self) {
        self.wants_others |= self.overflow > 0;
    }

    fn via(&self, hops: &[Hop]) -> Vec<Option<IpAddr>> {
        hops.iter().filter(|hop| hop.device == self.device).map(|hop| hop.via).collect()
    }
}

fn join(before: &[Option<IpAddr>], more: Vec<Option<IpAddr>>) -> Vec<Option<IpAddr>> {
    let mut joined = before.to_vec();
    joined.extend(more.into_iter().filter(|via| !before.contains(via)));
    joined.truncate(super::message::MAX_HOPS);
    joined
}
