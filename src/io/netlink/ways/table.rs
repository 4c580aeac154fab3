//! The ways that are followed, from the kernel's answers and news. Bounded: at most [`MAX_WAYS`], and a neighbour only while a way leads by it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::super::message::Link;
use super::message::{Neighbour, Route};
use crate::net::Mac;

/// Half as many again as there may be tunnels.
pub const MAX_WAYS: usize = 16_384;
/// What the kernel gives to packets of a route that says nothing.
const HOP_LIMIT: u8 = 64;

/// Whom something is to be sent to, and from which address of ours. `None`: the route decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    pub remote: IpAddr,
    pub local: Option<IpAddr>,
}

/// How a packet gets there past the kernel's stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    pub device: u32,
    pub device_mac: Mac,
    pub next_hop_mac: Mac,
    pub source: IpAddr,
    pub hop_limit: u8,
    /// Of the route, at most the device's: longer packets are the kernel's matter.
    pub mtu_bytes: u32,
}

/// A neighbour: device and address.
pub type Place = (u32, IpAddr);

#[derive(Debug, Default)]
pub struct Table {
    devices: BTreeMap<u32, Link>,
    /// Of ours.
    addresses: BTreeSet<IpAddr>,
    /// `None`: there is no route, or it is none of ours.
    routes: HashMap<Key, Option<Route>>,
    neighbours: BTreeMap<Place, Neighbourhood>,
    /// In use, and not asked for a while.
    stale: BTreeSet<Place>,
    /// Of each way that is followed at most once.
    news: Vec<Key>,
    has_news: HashSet<Key>,
}

#[derive(Debug, Default)]
struct Neighbourhood {
    mac: Option<Mac>,
    ways: HashSet<Key>,
}

impl Table {
    pub fn has_room(&self, key: &Key) -> bool {
        self.routes.len() < MAX_WAYS || self.routes.contains_key(key)
    }

    pub fn keys(&self) -> Vec<Key> {
        self.routes.keys().copied().collect()
    }

    pub fn neighbours(&self) -> Vec<Place> {
        self.neighbours.keys().copied().collect()
    }

    /// All others are not ours to send by.
    pub fn set_devices(&mut self, devices: impl Iterator<Item = Link>) {
        let devices: BTreeMap<_, _> = devices.map(|link| (link.index, link)).collect();
        if devices != self.devices {
            self.devices = devices;
            self.keys().into_iter().for_each(|key| self.tell(key));
        }
    }

    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        let addresses = addresses.into_iter().collect();
        if addresses != self.addresses {
            self.addresses = addresses;
            self.keys().into_iter().for_each(|key| self.tell(key));
        }
    }

    /// What the kernel has answered. A neighbour that is now to be asked for: it was of no interest before.
    pub fn handle_route(&mut self, key: Key, route: Option<Route>) -> Option<Place> {
        debug_assert!(self.has_room(&key));
        let place = |route: &Option<Route>| route.map(|route| (route.device, route.next_hop));
        let before = self.routes.insert(key, route);
        if before == Some(route) {
            return None;
        }
        self.tell(key);
        let (old, new) = (before.as_ref().and_then(place), place(&route));
        if old == new {
            return None;
        }
        self.leave(old, &key);
        let new = new?;
        let is_new = !self.neighbours.contains_key(&new);
        self.neighbours.entry(new).or_default().ways.insert(key);
        is_new.then_some(new)
    }

    pub fn handle_neighbour(&mut self, neighbour: Neighbour) {
        let place = (neighbour.device, neighbour.address);
        let Some(known) = self.neighbours.get_mut(&place) else { return };
        match neighbour.is_stale {
            true => _ = self.stale.insert(place),
            false => _ = self.stale.remove(&place),
        }
        if known.mac != neighbour.mac {
            known.mac = neighbour.mac;
            let ways: Vec<Key> = known.ways.iter().copied().collect();
            ways.into_iter().for_each(|key| self.tell(key));
        }
    }

    /// The kernel has no such entry.
    pub fn handle_no_neighbour(&mut self, device: u32, address: IpAddr) {
        self.handle_neighbour(Neighbour { device, address, mac: None, is_stale: false });
    }

    pub fn forget(&mut self, key: &Key) {
        let place = self.routes.remove(key).flatten().map(|route| (route.device, route.next_hop));
        self.leave(place, key);
    }

    pub fn poll_news(&mut self) -> Option<(Key, Option<Way>)> {
        loop {
            let key = self.news.pop()?;
            self.has_news.remove(&key);
            if let Some(route) = self.routes.get(&key) {
                return Some((key, route.and_then(|route| self.way(&key, route))));
            }
        }
    }

    pub fn take_stale(&mut self) -> BTreeSet<Place> {
        std::mem::take(&mut self.stale)
    }

    fn way(&self, key: &Key, route: Route) -> Option<Way> {
        let device = self.devices.get(&route.device).filter(|device| device.is_up)?;
        let next_hop_mac = self.neighbours.get(&(route.device, route.next_hop))?.mac?;
        let is_usable = |source: &IpAddr| source.is_ipv4() == key.remote.is_ipv4() && self.addresses.contains(source);
        let source = key.local.or(route.source).filter(is_usable)?;
        Some(Way {
            device: route.device,
            device_mac: device.mac,
            next_hop_mac,
            source,
            hop_limit: route.hop_limit.unwrap_or(HOP_LIMIT),
            mtu_bytes: route.mtu_bytes.unwrap_or(u32::MAX).min(device.mtu_bytes),
        })
    }

    fn leave(&mut self, place: Option<Place>, key: &Key) {
        let Some(place) = place else { return };
        let Some(neighbour) = self.neighbours.get_mut(&place) else { return };
        neighbour.ways.remove(key);
        if neighbour.ways.is_empty() {
            self.neighbours.remove(&place);
            self.stale.remove(&place);
        }
    }

    /// Its state is news.
    pub fn tell(&mut self, key: Key) {
        if self.has_news.insert(key) {
            self.news.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ROUTER: &str = "10.0.0.254";

    fn link(index: u32, is_up: bool) -> Link {
        Link { index, name: format!("eth{index}"), is_up, mac: Mac([2, 0, 0, 0, 0, 1]), mtu_bytes: 1500 }
    }

    fn key(number: u32) -> Key {
        Key { remote: Ipv4Addr::from(0xcb00_0000 + number).into(), local: None }
    }

    fn route(device: u32) -> Option<Route> {
        let (next_hop, source) = (ROUTER.parse().unwrap(), "10.0.0.1".parse().ok());
        Some(Route { device, next_hop, source, mtu_bytes: None, hop_limit: None })
    }

    fn neighbour(mac: Option<u8>, is_stale: bool) -> Neighbour {
        let mac = mac.map(|last| Mac([2, 0, 0, 0, 0, last]));
        Neighbour { device: 7, address: ROUTER.parse().unwrap(), mac, is_stale }
    }

    /// Follows one way, whose neighbour is known.
    fn table() -> Table {
        let mut table = Table::default();
        table.set_devices([link(7, true)].into_iter());
        table.set_addresses(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(table.handle_route(key(1), route(7)), Some((7, ROUTER.parse().unwrap())));
        table.handle_neighbour(neighbour(Some(9), false));
        assert_eq!(macs(&mut table), [Some(9)]);
        table
    }

    fn macs(table: &mut Table) -> Vec<Option<u8>> {
        std::iter::from_fn(|| table.poll_news()).map(|(_, way)| way.map(|way| way.next_hop_mac.0[5])).collect()
    }

    #[test]
    fn all_ways_by_a_neighbour_change_with_it_and_what_is_as_it_was_is_no_news() {
        let mut table = table();
        assert_eq!(table.handle_route(key(2), route(7)), None, "the neighbour is known");
        assert_eq!(macs(&mut table), [Some(9)]);
        table.handle_neighbour(neighbour(Some(8), false));
        assert_eq!(macs(&mut table), [Some(8); 2]);
        table.handle_neighbour(neighbour(Some(8), true));
        assert_eq!(table.handle_route(key(2), route(7)), None);
        assert_eq!(macs(&mut table), []);
        table.handle_neighbour(neighbour(None, false));
        assert_eq!(macs(&mut table), [None; 2]);
    }

    #[test]
    fn a_way_is_none_while_its_device_is_down_or_not_ours() {
        let mut table = table();
        table.set_devices([link(7, false)].into_iter());
        assert_eq!(macs(&mut table), [None]);
        table.set_devices([link(7, true)].into_iter());
        assert_eq!(macs(&mut table), [Some(9)]);
        table.set_devices([link(8, true)].into_iter());
        assert_eq!(macs(&mut table), [None]);
        table.handle_route(key(1), None);
        assert_eq!((macs(&mut table), table.neighbours().len()), (vec![None], 0));
    }

    #[test]
    fn stale_neighbours_are_told_once_each_time_and_only_those_in_use() {
        let mut table = table();
        table.handle_neighbour(neighbour(Some(9), true));
        assert_eq!((table.take_stale().len(), table.take_stale().len()), (1, 0));
        table.handle_neighbour(neighbour(Some(9), true));
        table.forget(&key(1));
        assert!(table.stale.is_empty());
        table.handle_neighbour(neighbour(Some(9), true));
        assert!(table.stale.is_empty() && table.neighbours().is_empty());
    }

    #[test]
    fn there_is_a_bound_and_what_is_forgotten_makes_room() {
        let mut table = Table::default();
        for number in 0..MAX_WAYS as u32 {
            assert!(table.has_room(&key(number)));
            table.handle_route(key(number), route(7));
        }
        assert!(!table.has_room(&key(MAX_WAYS as u32)) && table.has_room(&key(0)));
        table.forget(&key(5));
        assert!(table.has_room(&key(MAX_WAYS as u32)));
        let news = std::iter::from_fn(|| table.poll_news()).count();
        assert_eq!((news, table.news.len(), table.has_news.len()), (MAX_WAYS - 1, 0, 0));
    }

    #[test]
    fn a_source_that_is_not_ours_or_of_the_other_ip_version_is_no_way() {
        let mut table = table();
        let odd = Key { local: "fd00::1".parse().ok(), ..key(3) };
        table.handle_route(odd, route(7));
        assert_eq!(macs(&mut table), [None]);
        table.set_addresses(vec!["10.0.0.9".parse().unwrap()]);
        assert_eq!(macs(&mut table), [None; 2]);
        table.set_addresses(vec!["10.0.0.1".parse().unwrap()]);
        assert_eq!(macs(&mut table).iter().flatten().count(), 1);
    }
}
