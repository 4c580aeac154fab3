//! An appliance and its sites with nothing in between: what is sent arrives at once, in order. For tests of what the
//! walk does, where time plays no part.

use std::net::SocketAddr;

use crate::dataplane::{Engine, Report};
use crate::net::{Path, Timestamp};
use crate::packet::Datagram;

use super::appliance::Appliance;
use super::peer::Peer;

pub struct Lan {
    pub engine: Engine,
    pub now: Timestamp,
    peers: Vec<Peer>,
}

/// An inner packet that came out at a site.
pub type Arrival = (usize, Vec<u8>);

impl Lan {
    /// Starts the appliance and one gateway for each of `sites` (names of `{key:NAME}`), and connects them.
    pub fn start(appliance: &Appliance, sites: &[&str]) -> Self {
        let now = Timestamp::from_secs(1);
        let peer = |(name, index): (&&str, u32)| Peer::new(appliance.site_key(name), appliance.public_key, None, index);
        let peers = sites.iter().zip(1..).map(peer).collect();
        let mut lan = Lan { engine: appliance.engine(now), now, peers };
        (0..sites.len()).for_each(|site| lan.connect(site));
        lan
    }

    /// A handshake from the site. Its gateway answers what the appliance then asks about the path; later, all that arrives is
    /// for the hosts.
    pub fn connect(&mut self, site: usize) {
        self.peers[site].reports_expiry = true;
        if let Some(initiation) = self.peers[site].initiate() {
            self.deliver(site, initiation);
        }
        assert!(self.peers[site].has_session(), "site {site} has no session");
        self.peers[site].reports_expiry = false;
    }

    /// Hosts of `site` send packets; gives what arrives anywhere because of it.
    pub fn send(&mut self, site: usize, packet: &[u8]) -> Vec<Arrival> {
        let datagram = self.seal(site, packet);
        self.deliver(site, datagram)
    }

    pub fn seal(&mut self, site: usize, packet: &[u8]) -> Vec<u8> {
        self.peers[site].send(packet).expect("a session")
    }

    /// A datagram reaches the appliance from the site's address.
    pub fn deliver(&mut self, site: usize, datagram: Vec<u8>) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut waiting = vec![(site, datagram)];
        while let Some((from, bytes)) = waiting.pop() {
            let path = Path::to(address(from));
            self.engine.handle_input([Datagram::new(path, &bytes)].into_iter(), self.now);
            waiting.extend(self.collect(&mut arrivals));
        }
        arrivals
    }

    /// Datagrams of several sites in one call, as a busy socket gives them.
    pub fn deliver_at_once(&mut self, datagrams: &[(usize, Vec<u8>)]) -> Vec<Arrival> {
        let all = datagrams.iter().map(|(from, bytes)| Datagram::new(Path::to(address(*from)), bytes));
        self.engine.handle_input(all, self.now);
        let mut arrivals = Vec::new();
        for (site, datagram) in self.collect(&mut arrivals) {
            arrivals.extend(self.deliver(site, datagram));
        }
        arrivals
    }

    /// Time passes for the appliance (not for boringtun's own clock).
    pub fn advance_to(&mut self, now: Timestamp) -> Vec<Arrival> {
        self.now = now;
        self.engine.handle_timeout(now);
        let mut arrivals = Vec::new();
        for (site, datagram) in self.collect(&mut arrivals) {
            arrivals.extend(self.deliver(site, datagram));
        }
        arrivals
    }

    pub fn report(&self) -> Report {
        self.engine.report(self.now)
    }

    /// Brings the outbox to the sites; gives what they send back.
    fn collect(&mut self, arrivals: &mut Vec<Arrival>) -> Vec<(usize, Vec<u8>)> {
        assert!(self.engine.balances(), "the account does not balance: {:#?}", self.report().totals);
        let mut answers = Vec::new();
        for (path, _, datagram) in self.engine.outbox().datagrams() {
            let Some(site) = site_at(path.remote).filter(|site| *site < self.peers.len()) else { continue };
            let received = self.peers[site].receive(datagram);
            arrivals.extend(received.packet.map(|packet| (site, packet)));
            answers.extend(received.datagrams.into_iter().map(|answer| (site, answer)));
        }
        self.engine.outbox().clear();
        answers
    }
}

fn address(site: usize) -> SocketAddr {
    SocketAddr::from(([203, 0, (site >> 8) as u8, site as u8], 51820))
}

fn site_at(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(address) => {
            let [_, _, high, low] = address.ip().octets();
            Some(usize::from(high) << 8 | usize::from(low))
        }
        SocketAddr::V6(_) => None,
    }
}
