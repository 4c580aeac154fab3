//! The routes of one device, from the kernel's messages: as many prefixes as agreed, and no more.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::message::{Hop, Message, Route};
use crate::net::{LearnedRoute, Timestamp};

/// Routes of one prefix with different metrics; further ones are passed over.
const MAX_METRICS: usize = 4;

/// After [`Table::handle_message`], see [`Table::take_changed`] and [`Table::begin_dump`].
#[derive(Debug)]
pub struct Table {
    device: u32,
    max_prefixes: usize,
    known: BTreeMap<IpNet, Known>,
    /// The number of the dump that runs.
    dump: Option<u32>,
    last_dump: u32,
    wants_dump: bool,
    /// Prefixes that had no room, in this dump and since.
    overflow: u64,
    /// The same, of all time.
    overflow_total: u64,
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
            wants_dump: true,
            overflow: 0,
            overflow_total: 0,
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
    pub fn begin_dump(&mut self) -> Option<u32> {
        if !self.wants_dump || self.dump.is_some() {
            return None;
        }
        self.wants_dump = false;
        self.last_dump = self.last_dump.wrapping_add(1).max(1);
        self.dump = Some(self.last_dump);
        self.overflow = 0;
        self.known.values_mut().flat_map(|known| known.ways.values_mut()).for_each(|way| way.seen = false);
        self.dump
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

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Routes that had no room, since everything was last asked for.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The same since the start.
    pub fn overflow_total(&self) -> u64 {
        self.overflow_total
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
                self.overflow_total += 1;
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

    /// There is room again for what had none.
    fn look_for_others(&mut self) {
        if self.overflow > 0 {
            self.want_dump();
        }
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

#[cfg(test)]
mod tests {
    use super::super::message::read;
    use super::super::message::tests::{done, new_route, route_gone};
    use super::*;

    const TUN: u32 = 7;
    const VIA: &str = "172.20.0.1";

    fn at(secs: u64) -> Timestamp {
        Timestamp::ZERO + std::time::Duration::from_secs(secs)
    }

    fn feed(table: &mut Table, bytes: &[Vec<u8>], now: Timestamp) {
        read(&bytes.concat()).for_each(|message| table.handle_message(message, now));
    }

    fn table(max_prefixes: usize) -> Table {
        let mut table = Table::new(TUN, max_prefixes);
        assert_eq!((table.begin_dump(), table.begin_dump()), (Some(1), None));
        table
    }

    fn prefixes(table: &Table) -> Vec<String> {
        table.routes().map(|route| route.prefix.to_string()).collect()
    }

    #[test]
    fn a_dump_and_changes_after_it_are_what_is_known() {
        let mut table = table(10);
        let elsewhere = new_route("10.9.0.0/16", "10.0.0.1", 8);
        feed(&mut table, &[new_route("10.1.0.0/16", VIA, TUN), elsewhere, done(1, 0)], at(1));
        assert!(table.take_changed() && !table.take_changed());
        feed(&mut table, &[new_route("10.2.0.0/16", VIA, TUN), new_route("10.1.0.0/16", VIA, TUN)], at(5));
        assert_eq!(prefixes(&table), ["10.1.0.0/16", "10.2.0.0/16"]);
        let since: Vec<_> = table.routes().map(|route| (route.since, route.via)).collect();
        let via = vec![VIA.parse::<IpAddr>().unwrap()];
        assert_eq!(since, [(at(1), via.clone()), (at(5), via)]);
        assert!(table.take_changed());
        feed(&mut table, &[route_gone("10.1.0.0/16", VIA, TUN), route_gone("10.1.0.0/16", VIA, TUN)], at(6));
        assert_eq!((prefixes(&table), table.take_changed()), (vec!["10.2.0.0/16".into()], true));
        feed(&mut table, &[new_route("10.2.0.0/16", "172.20.0.9", TUN)], at(7));
        assert_eq!(table.routes().next().unwrap().via, ["172.20.0.9".parse::<IpAddr>().unwrap()]);
        feed(&mut table, &[new_route("10.2.0.0/16", "10.0.0.1", 8)], at(8));
        assert_eq!(prefixes(&table), [""; 0], "it leads elsewhere now");
    }

    #[test]
    fn after_a_loss_or_a_change_of_the_device_everything_is_asked_again() {
        let mut table = table(10);
        feed(&mut table, &[new_route("10.1.0.0/16", VIA, TUN), new_route("10.2.0.0/16", VIA, TUN), done(1, 0)], at(1));
        assert_eq!(table.begin_dump(), None);
        table.handle_loss();
        assert_eq!(table.begin_dump(), Some(2));
        feed(&mut table, &[done(1, 0)], at(2));
        assert_eq!(table.len(), 2, "the end of an earlier dump says nothing");
        feed(&mut table, &[new_route("10.2.0.0/16", VIA, TUN), done(2, 0)], at(2));
        assert_eq!(prefixes(&table), ["10.2.0.0/16"]);
        table.handle_message(Message::Device(8), at(3));
        assert_eq!(table.begin_dump(), None);
        table.handle_message(Message::Device(TUN), at(3));
        assert_eq!(table.begin_dump(), Some(3));
        feed(&mut table, &[done(3, 0x10)], at(3));
        assert_eq!((table.len(), table.begin_dump()), (1, Some(4)), "things changed while it was made");
        feed(&mut table, &[new_route("10.3.0.0/16", VIA, TUN), done(4, 0)], at(3));
        assert_eq!(prefixes(&table), ["10.3.0.0/16"]);
    }

    #[test]
    fn prefixes_are_bounded_and_those_without_room_are_found_again() {
        let mut table = table(100);
        let prefix = |n: u32| format!("10.{}.{}.0/24", n / 256, n % 256);
        let all: Vec<_> = (0..150).map(|n| new_route(&prefix(n), VIA, TUN)).chain([done(1, 0)]).collect();
        feed(&mut table, &all, at(1));
        assert_eq!((table.len(), table.overflow(), table.overflow_total()), (100, 50, 50));
        assert_eq!(table.begin_dump(), None);
        feed(&mut table, &[route_gone(&prefix(0), VIA, TUN)], at(2));
        assert_eq!((table.len(), table.begin_dump()), (99, Some(2)));
        let rest: Vec<_> = (1..150).map(|n| new_route(&prefix(n), VIA, TUN)).chain([done(2, 0)]).collect();
        feed(&mut table, &rest, at(3));
        assert_eq!((table.len(), table.overflow(), table.overflow_total()), (100, 49, 99));
        table.set_max_prefixes(10);
        assert_eq!((table.len(), table.begin_dump()), (10, Some(3)));
    }

    #[test]
    fn metrics_and_next_hops_of_one_prefix_are_joined_and_bounded() {
        let mut table = table(10);
        let route = |metric, via: &str, is_added| {
            let hops = vec![Hop { device: TUN, via: via.parse().ok() }];
            Message::Route { route: Route { prefix: "10.1.0.0/16".parse().unwrap(), metric, hops }, is_added }
        };
        for metric in (0..10).rev() {
            table.handle_message(route(metric, &format!("172.20.0.{metric}"), false), at(1));
        }
        let vias = |table: &Table| table.routes().next().unwrap().via.len();
        assert_eq!(vias(&table), MAX_METRICS);
        for n in 0..20 {
            table.handle_message(route(9, &format!("172.20.1.{n}"), true), at(1));
        }
        assert_eq!(vias(&table), MAX_METRICS - 1 + super::super::message::MAX_HOPS);
        let Message::Route { route, .. } = route(9, "172.20.1.0", true) else { unreachable!() };
        table.handle_message(Message::Gone(route), at(2));
        assert_eq!((table.len(), vias(&table)), (1, MAX_METRICS + super::super::message::MAX_HOPS - 2));
    }
}
