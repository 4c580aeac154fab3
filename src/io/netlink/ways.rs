//! Ways: for one remote, which device the kernel would send by, from which source, and to whose hardware address.
//!
//! For whoever sends past the kernel's stack and wants to do as it would ([`crate::io::uplink`]). The kernel is asked about each remote that somebody
//! wants to send to, and about the neighbour in between; what it tells by itself afterwards decides when to ask again:
//!
//! ```text
//! a neighbour  answers, moves, is gone       the ways by it are other ones at once
//! a neighbour  is stale                      the kernel is told that it is in use (NTF_USE), and finds out whether it is still there
//! routes, rules, links, addresses            all ways are asked for anew, at a time of the caller's choice ([`Resolver::ask_again`])
//! ```
//!
//! That is why a neighbour that only we use stays confirmed: the kernel sees none of our packets, so it would let the entry age and never look
//! again. As it is, it asks the neighbour as it does for its own traffic, and tells when that does not answer.
//!
//! ```text
//! message  bytes to nouns, and back     table  what is known
//! ```

mod message;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

pub use self::message::Device;
use self::message::Message;
use self::table::Table;
pub use self::table::{Key, MAX_WAYS, Place, Way};
use super::socket::{self, BUFFER_BYTES, Socket};
use crate::io::poller::{Poller, Waker};

/// The poller's token.
const SOCKET: u8 = 0;
/// Datagrams of news read in one call.
const MAX_DATAGRAMS: usize = 1000;
/// A dump that changed under way is asked for again.
const MAX_DUMPS: usize = 8;

/// What has changed since the last wait.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Changed {
    pub links: bool,
    pub addresses: bool,
    pub routes: bool,
}

/// Of the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Resolver {
    asks: Socket,
    hears: Socket,
    poller: Poller,
    table: Table,
    buffer: Vec<u8>,
}

impl Resolver {
    pub fn open() -> io::Result<Self> {
        let (asks, hears, poller) = (Socket::open_asking()?, Socket::open_following_ways()?, Poller::new()?);
        poller.add(hears.fd(), SOCKET)?;
        Ok(Resolver { asks, hears, poller, table: Table::default(), buffer: vec![0; BUFFER_BYTES] })
    }

    /// Ends a wait.
    pub fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Until the kernel tells something, somebody calls the waker, or so long.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<Changed> {
        self.poller.wait(Some(at_most))?;
        let mut changed = Changed::default();
        for _ in 0..MAX_DATAGRAMS {
            match self.hears.receive(&mut self.buffer) {
                Ok(Some(len)) => {
                    for message in message::read(&self.buffer[..len], false) {
                        match message {
                            Message::Neighbour(neighbour) => self.table.handle_neighbour(neighbour),
                            Message::LinksChanged => changed.links = true,
                            Message::AddressesChanged => changed.addresses = true,
                            Message::RoutesChanged => changed.routes = true,
                            _ => {}
                        }
                    }
                }
                Ok(None) => break,
                Err(error) if socket::is_loss(&error) => {
                    // What was lost may be of anything.
                    changed = Changed { links: true, addresses: true, routes: true };
                    self.ask_neighbours_again()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    /// From now on the way to this remote is followed, on an error as one that there is not, for [`Resolver::ask_again`]. `false`: as many as there may be are.
    pub fn follow(&mut self, key: Key) -> io::Result<bool> {
        if !self.table.has_room(&key) {
            return Ok(false);
        }
        let asked = self.ask(key);
        if asked.is_err() {
            self.table.handle_route(key, None);
        }
        // Whoever asks is answered, if nothing has changed too.
        self.table.tell(key);
        asked.map(|()| true)
    }

    pub fn forget(&mut self, key: &Key) {
        self.table.forget(key);
    }

    /// Asks the kernel for every way anew.
    pub fn ask_again(&mut self) -> io::Result<()> {
        self.table.keys().into_iter().try_for_each(|key| self.ask(key))
    }

    /// Ways by these devices alone are told; all others are none.
    pub fn set_devices(&mut self, devices: Vec<Device>) {
        self.table.set_devices(devices.into_iter().map(|device| device.link));
    }

    /// What has become of a way that is followed. `None`: the socket is to send.
    pub fn poll_news(&mut self) -> Option<(Key, Option<Way>)> {
        self.table.poll_news()
    }

    /// Sources that ways may have.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.table.set_addresses(addresses);
    }

    /// Neighbours in use that [`confirm`] is to be told of.
    pub fn take_stale(&mut self) -> Vec<Place> {
        self.table.take_stale().into_iter().collect()
    }

    /// All links.
    pub fn links(&mut self) -> io::Result<Vec<Device>> {
        let mut links = Vec::new();
        self.dump(&super::message::request_links(1), |message| {
            if let Message::Device(device) = message {
                links.push(device);
            }
        })?;
        Ok(links)
    }

    /// All addresses that the kernel takes packets to, whoever brings them: not those of VRFs and of what belongs to one (or to a bridge or bond: that has
    /// the addresses itself).
    pub fn addresses(&mut self) -> io::Result<Vec<IpAddr>> {
        let apart = |device: &Device| device.is_vrf || device.master.is_some();
        let apart: BTreeSet<u32> = self.links()?.iter().filter(|one| apart(one)).map(|one| one.link.index).collect();
        let mut addresses = Vec::new();
        self.dump(&message::request_addresses(), |message| match message {
            Message::Address(device, address) if !apart.contains(&device) => addresses.push(address),
            _ => {}
        })?;
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    }

    fn ask(&mut self, key: Key) -> io::Result<()> {
        let route = match self.answer(&message::request_route(key.remote, key.local))? {
            Some(Message::Route(route)) => route,
            _ => None,
        };
        if let Some(place) = self.table.handle_route(key, route) {
            self.ask_neighbour(place)?;
        }
        Ok(())
    }

    fn ask_neighbour(&mut self, (device, address): Place) -> io::Result<()> {
        match self.answer(&message::request_neighbour(device, address))? {
            Some(Message::Neighbour(neighbour)) => self.table.handle_neighbour(neighbour),
            _ => self.table.handle_no_neighbour(device, address),
        }
        Ok(())
    }

    fn ask_neighbours_again(&mut self) -> io::Result<()> {
        self.table.neighbours().into_iter().try_for_each(|place| self.ask_neighbour(place))
    }

    /// The kernel answers within the call.
    fn answer(&mut self, request: &[u8]) -> io::Result<Option<Message>> {
        self.drain();
        self.asks.send(request)?;
        let Some(len) = self.asks.receive(&mut self.buffer)? else { return Ok(None) };
        Ok(message::read(&self.buffer[..len], true).next())
    }

    fn dump(&mut self, request: &[u8], mut each: impl FnMut(Message)) -> io::Result<()> {
        for _ in 0..MAX_DUMPS {
            self.drain();
            self.asks.send(request)?;
            let mut all = Vec::new();
            let mut consistent = None;
            while consistent.is_none() {
                let Some(len) = self.asks.receive(&mut self.buffer)? else { break };
                for message in message::read(&self.buffer[..len], true) {
                    match message {
                        Message::Done { is_consistent } => consistent = Some(is_consistent),
                        Message::Failed(error) => return Err(io::Error::from_raw_os_error(error)),
                        other => all.push(other),
                    }
                }
            }
            if consistent == Some(true) {
                all.into_iter().for_each(&mut each);
                return Ok(());
            }
        }
        Err(io::Error::other("it changes faster than it can be read"))
    }

    /// What an earlier question left.
    fn drain(&mut self) {
        while matches!(self.asks.receive(&mut self.buffer), Ok(Some(_))) {}
    }
}

/// Has the kernel look whether these neighbours are still there. Needs CAP_NET_ADMIN, of the thread that calls.
pub fn confirm(neighbours: &[Place]) -> io::Result<()> {
    let (socket, mut buffer) = (Socket::open_asking()?, vec![0; BUFFER_BYTES]);
    for (device, address) in neighbours {
        socket.send(&message::use_neighbour(*device, *address))?;
        // Only what went wrong is answered, within the call.
        let Some(len) = socket.receive(&mut buffer)? else { continue };
        match message::read(&buffer[..len], true).next() {
            // It has just gone, and that is told.
            Some(Message::Failed(libc::ENOENT)) => {}
            Some(Message::Failed(error)) => return Err(io::Error::from_raw_os_error(error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::frames::interface;
    use crate::io::frames::testbed::{Testbed, sh, try_sh, with_testbed};

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Ours is 10.0.0.1 on `ixa`, the other end 10.0.0.2; 203.0.113.0/24 is behind it.
    fn with_resolver(test: impl FnOnce(Testbed, Resolver) + Send + 'static) {
        with_testbed(|bed| {
            sh(
                "ip addr add 10.0.0.1/24 dev ixa; ip addr add fd00::1/64 dev ixa nodad; ip route add 203.0.113.0/24 via 10.0.0.2",
            );
            bed.there().sh("ip addr add 10.0.0.2/24 dev ixb; sysctl -qw net.ipv6.conf.ixb.disable_ipv6=0; ip addr add fd00::2/64 dev ixb nodad");
            let mut resolver = Resolver::open().unwrap();
            let ours = interface::index("ixa").unwrap();
            let addresses = resolver.addresses().unwrap();
            resolver.set_addresses(addresses);
            let devices = resolver.links().unwrap().into_iter().filter(|device| device.link.index == ours).collect();
            resolver.set_devices(devices);
            test(bed, resolver);
        });
    }

    fn key(remote: &str) -> Key {
        Key { remote: remote.parse().unwrap(), local: None }
    }

    /// The latest news of a way, once there are some that are as wanted.
    fn news(resolver: &mut Resolver, key: Key, is_wanted: impl Fn(&Option<Way>) -> bool) -> Option<Way> {
        let begun = std::time::Instant::now();
        let mut latest = None;
        while begun.elapsed() < PATIENCE {
            while let Some((of, way)) = resolver.poll_news() {
                latest = if of == key { Some(way) } else { latest };
            }
            if let Some(way) = latest.filter(&is_wanted) {
                return way;
            }
            if resolver.wait(Duration::from_millis(50)).unwrap().routes {
                resolver.ask_again().unwrap();
            }
            confirm(&resolver.take_stale()).unwrap();
        }
        panic!("no such news of {key:?}, but {latest:?}");
    }

    #[test]
    fn a_way_is_known_when_its_neighbour_is_and_follows_neighbours_and_routes() {
        with_resolver(|bed, mut resolver| {
            let far = key("203.0.113.9");
            assert!(resolver.follow(far).unwrap());
            assert_eq!(news(&mut resolver, far, |_| true), None, "nobody knows the neighbour");
            sh("ping -c1 -W2 10.0.0.2 >/dev/null");
            let way = news(&mut resolver, far, Option::is_some).unwrap();
            assert_eq!(Some(way.next_hop_mac), bed.there().run(|| interface::mac("ixb").unwrap()));
            assert_eq!((way.source, way.mtu_bytes, way.hop_limit), ("10.0.0.1".parse().unwrap(), 1500, 64));

            bed.there().sh("ip link set ixb address 02:00:00:00:00:77");
            sh("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:77 dev ixa nud reachable");
            let moved = news(&mut resolver, far, Option::is_some).unwrap();
            assert_eq!(moved.next_hop_mac.0, [2, 0, 0, 0, 0, 0x77]);

            sh("ip route replace 203.0.113.0/24 via 10.0.0.2 mtu 1300");
            assert_eq!(news(&mut resolver, far, Option::is_some).unwrap().mtu_bytes, 1300);
            sh("ip route del 203.0.113.0/24");
            assert_eq!(news(&mut resolver, far, Option::is_none), None);
        });
    }

    #[test]
    fn a_stale_neighbour_is_asked_by_the_kernel_and_one_that_does_not_answer_is_no_way() {
        with_resolver(|bed, mut resolver| {
            sh(
                "sysctl -qw net.ipv4.neigh.ixa.delay_first_probe_time=1 net.ipv4.neigh.ixa.retrans_time_ms=100; ping -c1 -W2 10.0.0.2 >/dev/null",
            );
            let near = key("10.0.0.2");
            assert!(resolver.follow(near).unwrap());
            news(&mut resolver, near, Option::is_some);
            sh("ip neigh change 10.0.0.2 dev ixa nud stale");
            resolver.wait(PATIENCE).unwrap();
            let stale = resolver.take_stale();
            assert_eq!(stale.len(), 1);
            confirm(&stale).unwrap();
            let states = || sh("ip neigh show 10.0.0.2");
            assert!(["DELAY", "PROBE", "REACHABLE"].iter().any(|state| states().contains(state)), "{}", states());

            bed.there().sh("ip link set ixb arp off");
            sh("ip neigh change 10.0.0.2 dev ixa nud stale");
            assert_eq!(news(&mut resolver, near, Option::is_none), None);
        });
    }

    #[test]
    fn loopback_multicast_and_foreign_sources_have_no_way_and_addresses_are_told() {
        with_resolver(|_bed, mut resolver| {
            sh("ping -c1 -W2 10.0.0.2 >/dev/null");
            for remote in ["10.0.0.1", "127.0.0.1", "224.0.0.5", "10.0.0.255", "192.0.2.9"] {
                resolver.follow(key(remote)).unwrap();
                assert_eq!(news(&mut resolver, key(remote), |_| true), None, "{remote}");
            }
            for (local, remote) in [("192.0.2.1", "10.0.0.2"), ("fd00::9", "fd00::2")] {
                let foreign = Key { local: local.parse().ok(), ..key(remote) };
                resolver.follow(foreign).unwrap();
                assert_eq!(news(&mut resolver, foreign, |_| true), None);
            }
            let addresses = resolver.addresses().unwrap();
            for ours in ["10.0.0.1", "fd00::1", "127.0.0.1"] {
                assert!(addresses.contains(&ours.parse().unwrap()), "{addresses:?}");
            }
        });
    }

    #[test]
    fn addresses_of_a_vrf_are_not_everybodys() {
        with_resolver(|_bed, mut resolver| {
            if let Err(why) = try_sh("ip link add ixv type vrf table 10") {
                return eprintln!("NOT RUN: no VRFs in this kernel: {why}");
            }
            sh("ip addr add 10.8.0.1/24 dev ixv; ip link set ixv up");
            let ours = ["10.0.0.1", "10.8.0.1"].map(|ours| ours.parse().unwrap());
            let are_there = |resolver: &mut Resolver| {
                let addresses = resolver.addresses().unwrap();
                ours.map(|ours: IpAddr| addresses.contains(&ours))
            };
            assert_eq!(are_there(&mut resolver), [true, false]);
            sh("ip link set ixa master ixv");
            assert_eq!(are_there(&mut resolver), [false, false]);
        });
    }

    #[test]
    fn ipv6_neighbours_are_found_too() {
        with_resolver(|_bed, mut resolver| {
            let near = Key { local: "fd00::1".parse().ok(), ..key("fd00::2") };
            sh("ping -c1 -W2 fd00::2 >/dev/null");
            resolver.follow(near).unwrap();
            assert_eq!(
                news(&mut resolver, near, Option::is_some).unwrap().source,
                "fd00::1".parse::<IpAddr>().unwrap()
            );
        });
    }
}
