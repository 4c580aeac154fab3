//! Whole ports on a link of virtual stations, in virtual time.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::config::{EthernetConfig, Liveness, Medium, PortConfig, Route};
use super::endpoint::{Endpoint, Event, Lost, PortStatus};
use super::nd;
use crate::net::random::Seeded;
use crate::net::{InterfaceId, LinkReport, Mac, Path, RealmId, Timestamp, TunnelId, VlanTags};
use crate::packet::{DropReason, Opened, Outbox};
use crate::sim::packets::udp;
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::{self, MAX_HEADER_BYTES, ether_type};

mod bfd;
mod bounds;
mod frames;
mod hops;
mod own;
mod resolve;
mod routers;
mod spoof;
mod together;
mod versions;

pub const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const ETH: InterfaceId = InterfaceId(0);
pub const PORT: TunnelId = TunnelId(3);
/// Whose packets leave by it.
pub const REALM: RealmId = RealmId(7);
pub const UNTAGGED: VlanTags = VlanTags { service: None, customer: None };
/// A remote host, behind gateways.
pub const FAR4: &str = "10.9.9.9";
pub const FAR6: &str = "2001:db8:99::9";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

/// Somebody else on a link: answers for its addresses, keeps what it gets.
#[derive(Clone, Debug)]
pub struct Station {
    pub interface: InterfaceId,
    pub tags: VlanTags,
    pub mac: Mac,
    pub addresses: Vec<IpAddr>,
    pub is_silent: bool,
    /// Its neighbour advertisements say that it is one.
    pub is_router: bool,
    pub got: Vec<Vec<u8>>,
    /// Of ours, for its addresses.
    pub asked: usize,
}

pub fn station(number: u8, addresses: &[&str]) -> Station {
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    Station {
        interface: ETH,
        tags: UNTAGGED,
        mac: mac(number),
        addresses,
        is_silent: false,
        is_router: true,
        got: Vec::new(),
        asked: 0,
    }
}

impl Station {
    pub fn frame(&self, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; MAX_HEADER_BYTES];
        let len = ethernet::emit(&mut header, to, self.mac, self.tags, kind);
        let mut frame = [&header[..len], payload].concat();
        frame.resize(frame.len().max(60), 0); // as Ethernet pads
        frame
    }

    /// What it answers to a frame of ours.
    fn receive(&mut self, interface: InterfaceId, frame: &[u8]) -> Option<Vec<u8>> {
        let header = ethernet::parse(frame).unwrap();
        let is_for_it = header.destination == self.mac || header.destination.is_group();
        if interface != self.interface || header.tags != self.tags || !is_for_it {
            return None;
        }
        let payload = &frame[header.header_bytes..];
        match header.ether_type {
            ether_type::ARP => self.receive_arp(payload),
            ether_type::IPV6 if nd::is_nd(payload) => self.receive_nd(payload, header.source),
            _ => {
                if !header.destination.is_group() {
                    self.got.push(payload.to_vec());
                }
                None
            }
        }
    }

    fn receive_arp(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let request = arp::parse(payload).unwrap();
        if request.operation != Operation::Request || !self.addresses.contains(&request.target.into()) {
            return None;
        }
        self.asked += 1;
        let reply = self.arp(Operation::Reply, request.target.into(), request.sender_mac, request.sender.into());
        (!self.is_silent).then(|| self.frame(request.sender_mac, ether_type::ARP, &reply))
    }

    pub fn arp(&self, operation: Operation, sender: IpAddr, target_mac: Mac, target: IpAddr) -> [u8; arp::BYTES] {
        let (IpAddr::V4(sender), IpAddr::V4(target)) = (sender, target) else { panic!("no IPv4") };
        arp::emit(&arp::Packet { operation, sender_mac: self.mac, sender, target_mac, target })
    }

    fn receive_nd(&mut self, payload: &[u8], source_mac: Mac) -> Option<Vec<u8>> {
        let nd::Heard::Solicited { target, from, .. } = nd::read(payload, source_mac)? else { return None };
        if !self.addresses.contains(&target.into()) {
            return None;
        }
        self.asked += 1;
        let mut out = [0; 200];
        let len = nd::emit_advertisement(&mut out, target, from, target, self.mac, true, true, self.is_router);
        let to = if from.is_unspecified() { nd::group_mac(nd::ALL_NODES) } else { source_mac };
        (!self.is_silent).then(|| self.frame(to, ether_type::IPV6, &out[..len]))
    }

    /// ARP announcement, or unsolicited neighbour advertisement.
    pub fn announcement(&self, address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(_) => {
                let request = self.arp(Operation::Request, address, Mac::default(), address);
                self.frame(Mac::BROADCAST, ether_type::ARP, &request)
            }
            IpAddr::V6(address) => {
                let mut out = [0; 200];
                let len =
                    nd::emit_advertisement(&mut out, address, nd::ALL_NODES, address, self.mac, false, true, true);
                self.frame(nd::group_mac(nd::ALL_NODES), ether_type::IPV6, &out[..len])
            }
        }
    }

    /// Looks for `target` from `from`.
    pub fn question(&self, from: IpAddr, target: IpAddr) -> Vec<u8> {
        match (from, target) {
            (IpAddr::V6(from), IpAddr::V6(target)) => {
                let mut out = [0; 200];
                let (len, to) = nd::emit_solicitation(&mut out, from, target, self.mac, false);
                self.frame(to, ether_type::IPV6, &out[..len])
            }
            _ => {
                self.frame(Mac::BROADCAST, ether_type::ARP, &self.arp(Operation::Request, from, Mac::default(), target))
            }
        }
    }

    pub fn packet(&self, to: Mac, packet: &[u8]) -> Vec<u8> {
        let kind = if packet[0] >> 4 == 6 { ether_type::IPV6 } else { ether_type::IPV4 };
        self.frame(to, kind, packet)
    }
}

pub struct Lab {
    pub endpoint: Endpoint,
    pub now: Timestamp,
    pub stations: Vec<Station>,
    pub events: Vec<Event>,
    pub lost: Vec<Lost>,
    pub walked: Vec<(TunnelId, Vec<u8>)>,
    /// Frames of ours that were no packets of realms.
    pub messages: usize,
    outbox: Outbox,
}

impl Lab {
    /// Up, with its addresses claimed and its next hops, if they answer, alive.
    pub fn new(ports: Vec<PortConfig>, stations: Vec<Station>) -> Self {
        let mut lab = Lab {
            endpoint: Endpoint::new(Box::new(Seeded(7))),
            now: Timestamp::from_secs(1000),
            stations,
            events: Vec::new(),
            lost: Vec::new(),
            walked: Vec::new(),
            messages: 0,
            outbox: Outbox::new(1 << 18, 4096),
        };
        let interfaces: Vec<InterfaceId> = ports.iter().map(|port| port.interface).collect();
        lab.endpoint.configure(ports, lab.now);
        interfaces.into_iter().for_each(|interface| lab.link(interface, true));
        lab.run(Duration::from_secs(8));
        lab
    }

    pub fn link(&mut self, interface: InterfaceId, is_up: bool) {
        self.endpoint.handle_link(LinkReport { interface, is_up, mac: OURS, mtu_bytes: 1500 }, self.now);
        self.tick();
    }

    pub fn configure(&mut self, ports: Vec<PortConfig>) {
        self.endpoint.configure(ports, self.now);
        self.tick();
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.endpoint.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    pub fn tick(&mut self) {
        self.endpoint.handle_timeout(&mut self.outbox, self.now);
        self.deliver();
    }

    /// All that was sent, and all answers to it.
    fn deliver(&mut self) {
        while !self.outbox.is_empty() {
            let sent: VecDeque<_> = self.outbox.datagrams().map(|(path, data, f)| (path, data, f.to_vec())).collect();
            self.outbox.clear();
            for (path, data, frame) in sent {
                self.messages += usize::from(!data);
                let crate::net::path::Port::Frames(interface) = path.port else { continue };
                let answers: Vec<_> =
                    self.stations.iter_mut().filter_map(|station| station.receive(interface, &frame)).collect();
                for answer in answers {
                    self.open(interface, &answer);
                }
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
        self.lost.extend(std::iter::from_fn(|| self.endpoint.poll_lost()));
    }

    fn open(&mut self, interface: InterfaceId, frame: &[u8]) -> Opened {
        let mut out = [0; 2048];
        let opened = self.endpoint.open(Path::frames(interface).port, frame, &mut out, &mut self.outbox, self.now);
        if let Opened::Packet { tunnel, len } = opened {
            self.walked.push((tunnel, out[..len].to_vec()));
        }
        opened
    }

    /// A frame comes in; what it brings about happens.
    pub fn hear(&mut self, frame: &[u8]) -> Opened {
        self.hear_on(ETH, frame)
    }

    pub fn hear_on(&mut self, interface: InterfaceId, frame: &[u8]) -> Opened {
        let opened = self.open(interface, frame);
        self.deliver();
        opened
    }

    /// A realm's packet leaves.
    pub fn send(&mut self, tunnel: TunnelId, packet: &[u8]) -> Result<(), DropReason> {
        self.send_by(REALM, tunnel, packet)
    }

    pub fn send_by(&mut self, by: RealmId, tunnel: TunnelId, packet: &[u8]) -> Result<(), DropReason> {
        self.tick();
        let sealed = self.endpoint.seal(tunnel, by, packet, &mut self.outbox);
        self.deliver();
        sealed
    }

    pub fn send_to(&mut self, to: &str) -> Result<(), DropReason> {
        self.send(PORT, &to_host(to, b"a packet"))
    }

    pub fn status(&self, tunnel: TunnelId) -> PortStatus {
        self.endpoint.status(tunnel).unwrap()
    }

    /// How many packets the station got since this was asked last.
    pub fn got(&mut self, station: usize) -> usize {
        std::mem::take(&mut self.stations[station].got).len()
    }

    pub fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(wanted)
    }
}

/// From somewhere behind us.
pub fn to_host(to: &str, payload: &[u8]) -> Vec<u8> {
    let from = if ip(to).is_ipv6() { "2001:db8:1::1" } else { "192.168.7.7" };
    udp((ip(from), 4000), (ip(to), 53), payload)
}

pub fn ethernet(addresses: &[&str], gateways: &[&str]) -> EthernetConfig {
    EthernetConfig {
        vlan: UNTAGGED,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        gateways: gateways.iter().map(|text| ip(text)).collect(),
        routes: Vec::new(),
        networks: nets(&["10.0.0.0/8", "2001:db8:99::/48"]),
        accept_ra: false,
        proxy: Vec::new(),
        liveness: Liveness::default(),
        bfd: None,
        speakers: Default::default(),
    }
}

pub fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub fn port(tunnel: TunnelId, interface: InterfaceId, config: EthernetConfig) -> PortConfig {
    PortConfig { tunnel, interface, medium: Medium::Ethernet(Box::new(config)), mtu_bytes: 1500 }
}

/// Both IP versions, one gateway each, which answers.
pub fn usual() -> Lab {
    let config = ethernet(&["172.20.0.2/24", "2001:db8:9::2/64"], &["172.20.0.1", "2001:db8:9::1"]);
    let gateway = station(1, &["172.20.0.1", "2001:db8:9::1"]);
    Lab::new(vec![port(PORT, ETH, config)], vec![gateway])
}

/// On the link of both IP versions, without gateways.
pub fn on_link() -> EthernetConfig {
    let mut config = ethernet(&["10.20.0.2/16", "2001:db8:99::2/64"], &[]);
    config.networks = nets(&["10.20.0.0/16", "2001:db8:99::/64"]);
    config
}

pub fn route(prefix: &str, via: &str) -> Route {
    Route { prefix: prefix.parse().unwrap(), via: ip(via) }
}
