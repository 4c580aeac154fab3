//! An appliance with sites of either kind around it, in virtual time. IPsec follows the virtual clock; the WireGuard sites
//! are boringtun, which reads a clock of its own, so they call anew when the appliance's keys are to be young.
//!
//! ```text
//! the appliance  198.51.100.1   500, 4500, 51820, ESP
//! site n         203.0.113.n    the same ports
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::appliance::Appliance;
use super::ipsec_site::{IpsecSite, Plan};
use super::peer::Peer;
use super::ports::{Ports, Station};
use super::random::Random;
use crate::dataplane::{Engine, Report, Snapshot};
use crate::ike;
use crate::net::{InterfaceId, Path, PathReport, Port, Timestamp};
use crate::packet::Datagram;

pub const APPLIANCE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// From one gateway to another.
const DELAY: Duration = Duration::from_millis(5);

/// The narrowest link on the way to a site.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub mtu_bytes: u16,
    /// The router before it says so.
    pub sends_icmp: bool,
}

pub enum Gateway {
    WireGuard { peer: Box<Peer>, inbox: Vec<Vec<u8>> },
    Ipsec(Box<IpsecSite>),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    at: Timestamp,
    number: u64,
    /// `None`: the appliance.
    to: Option<usize>,
    port: Port,
    from: SocketAddr,
    bytes: Vec<u8>,
}

pub struct Mixed {
    pub engine: Engine,
    pub sites: Vec<Gateway>,
    /// What its plain ports are on.
    pub ports: Ports,
    /// What the appliance reported, as text.
    pub events: Vec<String>,
    /// Datagrams between gateways lost, of a thousand; no frame of a port is.
    pub lost_permille: u32,
    /// Of the links to the sites: larger outer IP packets with DF are lost.
    pub links: HashMap<usize, Link>,
    /// Outer packets of the appliance that were cut on a link.
    pub cut: u64,
    now: Timestamp,
    flying: BinaryHeap<Reverse<InFlight>>,
    sent: u64,
    random: Random,
}

impl Mixed {
    pub fn new(appliance: &Appliance, seed: u64) -> Self {
        let now = Timestamp::from_secs(1);
        Mixed {
            engine: appliance.engine(now),
            sites: Vec::new(),
            ports: Ports::default(),
            events: Vec::new(),
            lost_permille: 0,
            links: HashMap::new(),
            cut: 0,
            now,
            flying: BinaryHeap::new(),
            sent: 0,
            random: Random(seed),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The address of the site that is attached as the `site`th.
    pub fn address(site: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, site as u8))
    }

    /// Attaches a WireGuard site, which calls at once.
    pub fn attach_wireguard(&mut self, appliance: &Appliance, name: &str) -> usize {
        let site = self.sites.len();
        let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, site as u32 + 1);
        self.sites.push(Gateway::WireGuard { peer: Box::new(peer), inbox: Vec::new() });
        self.renew_wireguard(site);
        site
    }

    /// The WireGuard site makes new keys.
    pub fn renew_wireguard(&mut self, site: usize) {
        let Gateway::WireGuard { peer, .. } = &mut self.sites[site] else { return };
        let initiation = peer.initiate();
        self.leave_wireguard(site, initiation.into_iter().collect());
    }

    pub fn attach_ipsec(&mut self, plan: Plan) -> usize {
        let gateway = IpsecSite::new(plan, Self::address(self.sites.len()), self.now);
        self.sites.push(Gateway::Ipsec(Box::new(gateway)));
        self.leave_ipsec(self.sites.len() - 1);
        self.sites.len() - 1
    }

    /// The appliance adopts another configuration.
    pub fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.engine.publish(snapshot, self.now);
        self.flush_appliance();
    }

    /// The number of an interface, or TUN device, of the configuration.
    pub fn interface(&self, name: &str) -> InterfaceId {
        let interfaces = &self.engine.snapshot().interfaces;
        let place = interfaces.iter().position(|one| one.as_ref().is_some_and(|one| one.name == name));
        InterfaceId(place.expect("a configured interface") as u8)
    }

    /// The link comes up, goes, or carries another MTU, and the appliance is told.
    pub fn set_link(&mut self, interface: InterfaceId, is_up: bool, mtu_bytes: u32) {
        let report = self.ports.set_link(interface, is_up, mtu_bytes);
        self.engine.handle_link(report, self.now);
        self.flush_appliance();
    }

    pub fn attach_station(&mut self, station: Station) -> usize {
        self.ports.stations.push(station);
        self.ports.stations.len() - 1
    }

    /// A host behind a station sends a packet.
    pub fn send_by_port(&mut self, station: usize, packet: &[u8]) {
        if let Some((path, frame)) = self.ports.forward(station, packet) {
            self.launch(None, path.port, path.remote, frame);
        }
    }

    /// Any frame comes by an interface; or, of a TUN device, any packet.
    pub fn inject(&mut self, path: Path, bytes: Vec<u8>) {
        self.launch(None, path.port, path.remote, bytes);
    }

    /// What the station was given to forward, since the last call.
    pub fn take_station_inbox(&mut self, station: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.ports.stations[station].inbox)
    }

    fn leave_by_port(&mut self, path: Path, bytes: Vec<u8>) {
        match path.port {
            Port::Frames(interface) => {
                let answers = self.ports.transmit(interface, &bytes);
                answers.into_iter().for_each(|answer| self.launch(None, path.port, path.remote, answer));
            }
            Port::Tun(interface) => self.ports.from_tun.push((interface, bytes)),
            _ => {}
        }
    }

    /// # Panics
    /// When it is a WireGuard site.
    pub fn ipsec(&mut self, site: usize) -> &mut IpsecSite {
        match &mut self.sites[site] {
            Gateway::Ipsec(gateway) => gateway,
            Gateway::WireGuard { .. } => panic!("site {site} is a WireGuard site"),
        }
    }

    /// # Panics
    /// When it is an IPsec site.
    pub fn wireguard(&mut self, site: usize) -> &mut Peer {
        match &mut self.sites[site] {
            Gateway::WireGuard { peer, .. } => peer,
            Gateway::Ipsec(_) => panic!("site {site} is an IPsec site"),
        }
    }

    /// A host of the site sends an inner packet. `false`: the site cannot seal it.
    pub fn send(&mut self, site: usize, packet: &[u8]) -> bool {
        match &mut self.sites[site] {
            Gateway::WireGuard { peer, .. } => {
                let datagram = peer.send(packet);
                self.leave_wireguard(site, datagram.into_iter().collect());
                true
            }
            Gateway::Ipsec(gateway) => {
                let sealed = gateway.send(packet);
                self.leave_ipsec(site);
                sealed
            }
        }
    }

    /// What has arrived at the site since the last call.
    pub fn take_inbox(&mut self, site: usize) -> Vec<Vec<u8>> {
        match &mut self.sites[site] {
            Gateway::WireGuard { inbox, .. } => std::mem::take(inbox),
            Gateway::Ipsec(gateway) => std::mem::take(&mut gateway.inbox),
        }
    }

    pub fn report(&self) -> Report {
        self.engine.report(self.now)
    }

    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.flush_appliance();
        while let Some(next) = self.next_deadline().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.deliver_due();
            self.tick_due();
        }
        self.now = until;
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let arrival = self.flying.peek().map(|Reverse(flight)| flight.at);
        let engine = self.engine.poll_timeout().map(|(at, _)| at);
        let sites = self.sites.iter().filter_map(|site| match site {
            Gateway::Ipsec(gateway) => gateway.poll_timeout(),
            Gateway::WireGuard { .. } => None,
        });
        sites.chain(arrival).chain(engine).min()
    }

    fn deliver_due(&mut self) {
        while self.flying.peek().is_some_and(|Reverse(flight)| flight.at <= self.now) {
            let Some(Reverse(flight)) = self.flying.pop() else { return };
            match flight.to {
                None => {
                    let path = Path::from_port(flight.port, flight.from);
                    self.engine.handle_input([Datagram::new(path, &flight.bytes)].into_iter(), self.now);
                    self.flush_appliance();
                }
                Some(site) => self.arrive(site, &flight),
            }
        }
    }

    fn arrive(&mut self, site: usize, flight: &InFlight) {
        match &mut self.sites[site] {
            Gateway::WireGuard { peer, inbox } => {
                let received = peer.receive(&flight.bytes);
                inbox.extend(received.packet);
                self.leave_wireguard(site, received.datagrams);
            }
            Gateway::Ipsec(gateway) => {
                let path = Path::from_port(flight.port, flight.from);
                gateway.handle_input(Datagram::new(path, &flight.bytes), self.now);
                self.leave_ipsec(site);
            }
        }
    }

    fn tick_due(&mut self) {
        if self.engine.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.engine.handle_timeout(self.now);
            self.flush_appliance();
        }
        for site in 0..self.sites.len() {
            if let Gateway::Ipsec(gateway) = &mut self.sites[site]
                && gateway.poll_timeout().is_some_and(|at| at <= self.now)
            {
                gateway.handle_timeout(self.now);
                self.leave_ipsec(site);
            }
        }
    }

    fn flush_appliance(&mut self) {
        assert!(self.engine.balances(), "the account does not balance: {:#?}", self.report().totals);
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event.to_string());
        }
        let outbox = self.engine.outbox();
        let runs = outbox.runs().iter().flat_map(|run| {
            outbox.bytes_of(run).chunks(run.segment_bytes).map(|bytes| (run.path, run.may_fragment, bytes.to_vec()))
        });
        let outgoing: Vec<_> = runs.collect();
        self.engine.outbox().clear();
        let mut reports = Vec::new();
        for (path, may_fragment, bytes) in outgoing {
            if matches!(path.port, Port::Frames(_) | Port::Tun(_)) {
                self.leave_by_port(path, bytes);
                continue;
            }
            let to = (0..self.sites.len()).find(|site| Self::address(*site) == path.remote.ip());
            let (Some(site), Some(port)) = (to, port(path)) else { continue };
            match self.links.get(&site).filter(|link| outer_bytes(&path, &bytes) > link.mtu_bytes.into()) {
                Some(link) if !may_fragment => {
                    let report = PathReport { remote: path.remote, mtu_bytes: link.mtu_bytes };
                    reports.extend(link.sends_icmp.then_some(report));
                }
                narrow => {
                    self.cut += u64::from(narrow.is_some());
                    self.launch(Some(site), port, SocketAddr::new(APPLIANCE, number(path.port)), bytes);
                }
            }
        }
        for report in reports {
            self.engine.handle_path_report(report, self.now);
            self.flush_appliance();
        }
    }

    /// ICMP that says so comes to the appliance, from whomever.
    pub fn report_path(&mut self, remote: SocketAddr, mtu_bytes: u16) {
        self.engine.handle_path_report(PathReport { remote, mtu_bytes }, self.now);
        self.flush_appliance();
    }

    fn leave_wireguard(&mut self, site: usize, datagrams: Vec<Vec<u8>>) {
        let from = SocketAddr::new(Self::address(site), number(Port::WireGuard));
        datagrams.into_iter().for_each(|bytes| self.launch(None, Port::WireGuard, from, bytes));
    }

    fn leave_ipsec(&mut self, site: usize) {
        let outgoing = self.ipsec(site).take_outgoing();
        for (path, bytes) in outgoing {
            if let Some(port) = port(path).filter(|_| path.remote.ip() == APPLIANCE) {
                let from = SocketAddr::new(Self::address(site), number(path.port));
                self.launch(None, port, from, bytes);
            }
        }
    }

    fn launch(&mut self, to: Option<usize>, port: Port, from: SocketAddr, bytes: Vec<u8>) {
        let is_local = matches!(port, Port::Frames(_) | Port::Tun(_));
        if !is_local && self.random.permille(self.lost_permille) {
            return;
        }
        self.sent += 1;
        self.flying.push(Reverse(InFlight { at: self.now + DELAY, number: self.sent, to, port, from, bytes }));
    }
}

/// A site that everybody starts from: named, with the secret that [`Appliance`] gives a peer of that name, calling.
pub fn plan(name: &str, seed: u64) -> Plan {
    Plan {
        name: name.to_owned(),
        psk: Appliance::psk(name).into_bytes(),
        appliance: Some(SocketAddr::new(APPLIANCE, number(Port::Ike))),
        networks: Vec::new(),
        reaches: Vec::new(),
        encapsulation: ike::Encapsulation::Udp,
        profile: ike::Profile::Modern,
        lifetimes: ike::Lifetimes::default(),
        seed,
    }
}

/// The IPv4 packet around a datagram.
fn outer_bytes(path: &Path, bytes: &[u8]) -> usize {
    bytes.len() + if path.port == Port::RawEsp { 20 } else { 28 }
}

fn number(port: Port) -> u16 {
    match port {
        Port::WireGuard => 51820,
        Port::Ike => 500,
        Port::IkeNatT => 4500,
        Port::RawEsp | Port::Frames(_) | Port::Tun(_) => 0,
    }
}

/// What the receiver calls the port that a datagram on this path comes to.
fn port(path: Path) -> Option<Port> {
    let all = [Port::WireGuard, Port::Ike, Port::IkeNatT, Port::RawEsp];
    all.into_iter().find(|port| number(*port) == path.remote.port())
}
