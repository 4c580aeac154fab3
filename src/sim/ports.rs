//! Ethernet links with the carrier's routers on them, and TUN devices: what plain ports see of the world, in virtual time.
//!
//! A [`Station`] is a carrier's router with everything that is behind it: it answers ARP and neighbour discovery for its own
//! addresses, and keeps the packets that it is given to forward.

use std::net::IpAddr;

use crate::net::{InterfaceId, LinkReport, Mac, Path, VlanTags};
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::{self, MAX_HEADER_BYTES, ether_type};
use crate::wire::ndp::{self, Message};

/// The shortest frame, without its checksum.
const MIN_FRAME_BYTES: usize = 60;
const MAX_ADVERTISEMENT_BYTES: usize = 128;

/// All links, by interface number.
#[derive(Debug, Default)]
pub struct Ports {
    links: Vec<Option<LinkReport>>,
    pub stations: Vec<Station>,
    /// What came out of TUN devices.
    pub from_tun: Vec<(InterfaceId, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub struct Station {
    pub interface: InterfaceId,
    pub tags: VlanTags,
    pub mac: Mac,
    pub addresses: Vec<IpAddr>,
    /// It answers nothing, and forwards nothing.
    pub is_silent: bool,
    pub inbox: Vec<Vec<u8>>,
}

impl Station {
    pub fn new(interface: InterfaceId, vlan: Option<u16>, mac: [u8; 6], addresses: &[&str]) -> Self {
        Station {
            interface,
            tags: VlanTags { service: None, customer: vlan },
            mac: Mac(mac),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            is_silent: false,
            inbox: Vec::new(),
        }
    }

    /// A frame of its own.
    pub fn frame(&self, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; MAX_HEADER_BYTES];
        let len = ethernet::emit(&mut header, to, self.mac, self.tags, kind);
        let mut frame = [&header[..len], payload].concat();
        frame.resize(frame.len().max(MIN_FRAME_BYTES), 0);
        frame
    }

    /// Its answer.
    fn receive(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let header = ethernet::parse(frame)?;
        let is_for_it = header.destination == self.mac || header.destination.is_group();
        if self.is_silent || header.tags != self.tags || !is_for_it {
            return None;
        }
        let payload = &frame[header.header_bytes..];
        match header.ether_type {
            ether_type::ARP => self.receive_arp(payload),
            ether_type::IPV6 if ndp::is_ndp(payload) => self.receive_solicitation(payload, header.source),
            ether_type::IPV4 | ether_type::IPV6 if !header.destination.is_group() => {
                self.inbox.push(payload.to_vec());
                None
            }
            _ => None,
        }
    }

    fn receive_arp(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let request = arp::parse(payload)?;
        if request.operation != Operation::Request || !self.addresses.contains(&request.target.into()) {
            return None;
        }
        let reply = arp::emit(&arp::Packet {
            operation: Operation::Reply,
            sender_mac: self.mac,
            sender: request.target,
            target_mac: request.sender_mac,
            target: request.sender,
        });
        Some(self.frame(request.sender_mac, ether_type::ARP, &reply))
    }

    fn receive_solicitation(&self, payload: &[u8], from: Mac) -> Option<Vec<u8>> {
        let packet = ndp::parse(payload)?;
        let Message::NeighbourSolicitation { target, .. } = packet.message else { return None };
        if !self.addresses.contains(&target.into()) {
            return None;
        }
        let is_claim = packet.source.is_unspecified();
        let answer = Message::NeighbourAdvertisement {
            target,
            mac: Some(self.mac),
            is_router: true,
            is_solicited: !is_claim,
            is_override: true,
        };
        let to = if is_claim { ndp::ALL_NODES } else { packet.source };
        let mut out = [0; MAX_ADVERTISEMENT_BYTES];
        let len = ndp::emit(&mut out, target, to, &answer)?;
        let to = if is_claim { ndp::group_mac(to) } else { from };
        Some(self.frame(to, ether_type::IPV6, &out[..len]))
    }
}

impl Ports {
    /// The interface is like this from now on; gives what the appliance is to be told.
    pub fn set_link(&mut self, interface: InterfaceId, is_up: bool, mtu_bytes: u32) -> LinkReport {
        if self.links.len() <= interface.index() {
            self.links.resize(interface.index() + 1, None);
        }
        let mac = Mac([2, 0, 0, 0, 0xff, interface.0]);
        let report = LinkReport { interface, is_up, mac, mtu_bytes };
        self.links[interface.index()] = Some(report);
        report
    }

    /// The appliance sends a frame; gives what stations answer. A link that is down carries nothing.
    pub fn transmit(&mut self, interface: InterfaceId, frame: &[u8]) -> Vec<Vec<u8>> {
        if !self.is_up(interface) {
            return Vec::new();
        }
        let stations = self.stations.iter_mut().filter(|station| station.interface == interface);
        stations.filter_map(|station| station.receive(frame)).collect()
    }

    /// A station forwards a packet to us: the frame, and where it comes in. `None`: the link is down.
    pub fn forward(&self, station: usize, packet: &[u8]) -> Option<(Path, Vec<u8>)> {
        let station = &self.stations[station];
        let ours = self.links.get(station.interface.index())?.filter(|link| link.is_up)?.mac;
        let kind = if packet[0] >> 4 == 6 { ether_type::IPV6 } else { ether_type::IPV4 };
        Some((Path::frames(station.interface), station.frame(ours, kind, packet)))
    }

    pub fn is_up(&self, interface: InterfaceId) -> bool {
        self.links.get(interface.index()).copied().flatten().is_some_and(|link| link.is_up)
    }

    /// Our hardware address there.
    pub fn mac(&self, interface: InterfaceId) -> Mac {
        self.links.get(interface.index()).copied().flatten().map(|link| link.mac).unwrap_or_default()
    }
}
