//! An appliance, its peers and the paths between them, in virtual time, from a seed.
//!
//! Nothing here waits: [`World::run_for`] jumps from deadline to deadline. The same seed gives the same run, but for the
//! keys, which boringtun draws itself and which decide nothing. After every step the appliance's account must balance.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::dataplane::{Engine, Report};
use crate::net::{Path, Timestamp};
use crate::packet::Datagram;

use super::peer::Peer;
use super::random::Random;
use super::virtual_time::{advance_boringtun_clock, at_origin};

/// How often peers look at their timers.
const PEER_TICK: Duration = Duration::from_millis(250);

/// What the paths between the gateways do to datagrams. Shares are per thousand.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub lost_permille: u32,
    pub duplicated_permille: u32,
    pub damaged_permille: u32,
    pub delay: Duration,
    /// Up to this much more, drawn for each datagram: so they overtake one another.
    pub jitter: Duration,
}

impl Link {
    pub const PERFECT: Link = Link {
        lost_permille: 0,
        duplicated_permille: 0,
        damaged_permille: 0,
        delay: Duration::from_millis(5),
        jitter: Duration::ZERO,
    };
}

/// One site.
pub struct Site {
    pub peer: Peer,
    pub address: SocketAddr,
    /// Unplugged: nothing goes in or out.
    pub online: bool,
    /// Inner packets that have arrived.
    pub inbox: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Receiver {
    Appliance,
    Site(usize),
}

/// Sorted by time, then by the order of sending.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: Timestamp,
    number: u64,
    to: Receiver,
    from: SocketAddr,
    bytes: Vec<u8>,
}

pub struct World {
    pub engine: Engine,
    pub sites: Vec<Site>,
    pub link: Link,
    /// The appliance does not run: what reaches it is lost.
    pub appliance_down: bool,
    /// Every event that the appliance reported, as text.
    pub events: Vec<String>,
    now: Timestamp,
    next_peer_tick: Timestamp,
    flying: BinaryHeap<Reverse<InFlight>>,
    sent: u64,
    random: Random,
}

impl World {
    pub fn new(engine: Engine, link: Link, seed: u64, now: Timestamp) -> Self {
        World {
            engine,
            sites: Vec::new(),
            link,
            appliance_down: false,
            events: Vec::new(),
            now,
            next_peer_tick: now,
            flying: BinaryHeap::new(),
            sent: 0,
            random: Random(seed),
        }
    }

    /// Adds a site; its number is its place.
    pub fn attach(&mut self, private_key: [u8; 32], ix_public_key: [u8; 32], keepalive_secs: Option<u16>) -> usize {
        let number = self.sites.len();
        let mut peer = at_origin(|| Peer::new(private_key, ix_public_key, keepalive_secs, number as u32 + 1));
        peer.tick();
        let address = SocketAddr::from(([203, 0, 113, number as u8], 51820));
        self.sites.push(Site { peer, address, online: true, inbox: Vec::new() });
        number
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Starts a handshake from the site.
    pub fn initiate(&mut self, site: usize) {
        let datagram = self.sites[site].peer.initiate();
        self.leave_site(site, datagram);
    }

    /// A host of the site sends an inner packet.
    pub fn send(&mut self, site: usize, packet: &[u8]) {
        let datagram = self.sites[site].peer.send(packet);
        self.leave_site(site, datagram);
    }

    /// Bytes that reach the appliance from anywhere.
    pub fn inject(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        self.launch(Receiver::Appliance, from, bytes);
    }

    /// What has arrived at the site since the last call.
    pub fn take_inbox(&mut self, site: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sites[site].inbox)
    }

    /// Puts another engine in the appliance's place, as after a crash: nothing of the old one survives.
    pub fn replace_appliance(&mut self, make: impl FnOnce(Timestamp) -> Engine) {
        self.engine = make(self.now);
        self.flush_appliance();
    }

    pub fn report(&self) -> Report {
        self.engine.report(self.now)
    }

    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.flush_appliance();
        while let Some(next) = self.next_deadline().filter(|next| *next <= until) {
            self.advance_to(next);
            self.deliver_due();
            self.tick_due();
        }
        self.advance_to(until);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let arrival = self.flying.peek().map(|Reverse(flight)| flight.at);
        let engine = self.engine.poll_timeout().map(|(at, _)| at).filter(|_| !self.appliance_down);
        [arrival, engine, Some(self.next_peer_tick)].into_iter().flatten().min()
    }

    fn advance_to(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
        advance_boringtun_clock(self.now);
    }

    fn deliver_due(&mut self) {
        while self.flying.peek().is_some_and(|Reverse(flight)| flight.at <= self.now) {
            let Some(Reverse(flight)) = self.flying.pop() else { return };
            match flight.to {
                Receiver::Appliance => self.arrive_at_appliance(&flight),
                Receiver::Site(site) => self.arrive_at_site(site, &flight.bytes),
            }
        }
    }

    fn tick_due(&mut self) {
        if !self.appliance_down && self.engine.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.engine.handle_timeout(self.now);
            self.flush_appliance();
        }
        if self.next_peer_tick <= self.now {
            self.next_peer_tick = self.now + PEER_TICK;
            for site in 0..self.sites.len() {
                let datagram = self.sites[site].peer.tick();
                self.leave_site(site, datagram);
            }
        }
    }

    fn arrive_at_appliance(&mut self, flight: &InFlight) {
        if self.appliance_down {
            return;
        }
        let path = Path::to(flight.from);
        self.engine.handle_input([Datagram::new(path, &flight.bytes)].into_iter(), self.now);
        self.flush_appliance();
    }

    fn arrive_at_site(&mut self, site: usize, bytes: &[u8]) {
        if !self.sites[site].online {
            return;
        }
        let received = self.sites[site].peer.receive(bytes);
        self.sites[site].inbox.extend(received.packet);
        for datagram in received.datagrams {
            self.leave_site(site, Some(datagram));
        }
    }

    fn flush_appliance(&mut self) {
        assert!(self.engine.balances(), "the account does not balance: {:#?}", self.report().totals);
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event.to_string());
        }
        let outgoing: Vec<_> = self.engine.outbox().datagrams().map(|(path, _, d)| (path.remote, d.to_vec())).collect();
        self.engine.outbox().clear();
        for (to, bytes) in outgoing {
            if let Some(site) = self.sites.iter().position(|site| site.address == to) {
                self.launch(Receiver::Site(site), to, bytes);
            }
        }
    }

    fn leave_site(&mut self, site: usize, datagram: Option<Vec<u8>>) {
        let Some(bytes) = datagram else { return };
        if self.sites[site].online {
            let from = self.sites[site].address;
            self.launch(Receiver::Appliance, from, bytes);
        }
    }

    /// Onto the path, which may lose, double, damage or delay it.
    fn launch(&mut self, to: Receiver, from: SocketAddr, bytes: Vec<u8>) {
        if self.random.permille(self.link.lost_permille) {
            return;
        }
        let copies = if self.random.permille(self.link.duplicated_permille) { 2 } else { 1 };
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if self.random.permille(self.link.damaged_permille) {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
            }
            let jitter_us = self.random.below(self.link.jitter.as_micros() as u64 + 1);
            let at = self.now + self.link.delay + Duration::from_micros(jitter_us);
            self.sent += 1;
            self.flying.push(Reverse(InFlight { at, number: self.sent, to, from, bytes }));
        }
    }
}
