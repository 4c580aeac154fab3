//! The part of the status document that only ports and TUN devices have: the link, our addresses on it, the routers, the
//! neighbours.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::source::{PeerName, Source};
use crate::dataplane::report::{self, Down};
use crate::net::{Mac, Timestamp, VlanTags};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortStatus {
    /// As the kernel calls it; of TUN the device.
    pub interface: String,
    pub vlan: Option<u16>,
    pub service_vlan: Option<u16>,
    /// By what frames are moved. Null while it is not known, or not open.
    pub driver: Option<String>,
    /// Why it is not a better one of those that were asked for. Null: it is the best.
    #[serde(default)]
    pub driver_note: Option<String>,
    /// Why the interface is not open, with what to do. Null: it is.
    #[serde(default)]
    pub not_open: Option<String>,
    /// What it lacks, the process cannot get while it runs.
    #[serde(default)]
    pub opens_at_next_start: bool,
    /// Why nothing passes: "no_link", "no_address" or "no_next_hop". Null: packets pass.
    pub down: Option<String>,
    /// Why nothing of IPv4 passes, likewise. Null: it passes, or is not the port's to carry.
    #[serde(default)]
    pub down_ipv4: Option<String>,
    #[serde(default)]
    pub down_ipv6: Option<String>,
    /// Ours.
    pub mac: Option<String>,
    /// Of the interface.
    pub link_mtu_bytes: Option<u32>,
    pub addresses: Vec<AddressStatus>,
    pub next_hops: Vec<NextHopStatus>,
    pub neighbours: usize,
    pub neighbours_max: usize,
    /// Packets that wait for a neighbour to be found.
    pub waiting_packets: usize,
    pub counts: PortCountsStatus,
}

/// An address of ours on the link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddressStatus {
    pub address: IpAddr,
    /// "probing", "ours" or "duplicate".
    pub state: String,
    /// Who has it, where it is a duplicate.
    pub other_mac: Option<String>,
}

/// A router of the link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NextHopStatus {
    pub address: IpAddr,
    pub mac: Option<String>,
    pub alive: bool,
    /// "probes" or "BFD".
    pub watched_by: String,
    /// The session's state. Null: it is watched otherwise.
    pub bfd: Option<String>,
    /// Packets go by it now.
    pub used: bool,
    /// Since it is alive, or not.
    pub since_secs_ago: Option<u64>,
    /// It answers, and is not used before so many seconds are over: it came and went too often. Null: it is not held back.
    #[serde(default)]
    pub held_back_secs: Option<u64>,
}

/// Since the port was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PortCountsStatus {
    pub neighbour_messages: u64,
    /// Of these ignored, because more came than one port may have.
    pub neighbour_messages_over_limit: u64,
    /// Packets whose neighbour did not answer.
    pub unresolved: u64,
    pub echoes: u64,
    pub conflicts: u64,
    /// Next hops that came or went.
    pub switches: u64,
    /// Neighbours that answered from another hardware address than before.
    pub mac_changes: u64,
}

impl PortStatus {
    /// `None`: it is no port.
    pub(super) fn of(peer: &PeerName, port: &report::PortStatus, source: &Source) -> Option<Self> {
        let (interface, vlan) = match peer {
            PeerName::Port { interface, vlan } => (interface, *vlan),
            PeerName::Tun { name } => (name, VlanTags::default()),
            PeerName::WireGuard(_) | PeerName::Ipsec { .. } => return None,
        };
        let state = source.interface(interface).map(|state| state.driver.as_ref());
        let (driver, not_open) = (state.and_then(Result::ok), state.and_then(Result::err));
        Some(PortStatus {
            interface: interface.clone(),
            vlan: vlan.customer,
            service_vlan: vlan.service,
            driver: driver.map(|driver| driver.kind.clone()),
            driver_note: driver.and_then(|driver| driver.note.clone()),
            not_open: not_open.map(|not_open| format!("{}; {}", not_open.why, not_open.opens())),
            opens_at_next_start: not_open.is_some_and(|not_open| not_open.at_next_start),
            down: port.down.map(|down| down_name(down).to_owned()),
            down_ipv4: port.down_for.v4.map(|down| down_name(down).to_owned()),
            down_ipv6: port.down_for.v6.map(|down| down_name(down).to_owned()),
            mac: port.mac.map(text),
            link_mtu_bytes: port.link_mtu_bytes,
            addresses: port.addresses.iter().map(AddressStatus::of).collect(),
            next_hops: port.next_hops.iter().map(|hop| NextHopStatus::of(hop, source.path.made_at)).collect(),
            neighbours: port.neighbours,
            neighbours_max: port.neighbours_max,
            waiting_packets: port.waiting,
            counts: PortCountsStatus::of(port.counts),
        })
    }
}

impl AddressStatus {
    fn of(address: &report::AddressStatus) -> Self {
        AddressStatus { address: address.address, state: address.state.to_owned(), other_mac: address.other.map(text) }
    }
}

impl NextHopStatus {
    fn of(hop: &report::NextHopStatus, now: Timestamp) -> Self {
        NextHopStatus {
            address: hop.address,
            mac: hop.mac.map(text),
            alive: hop.is_alive,
            watched_by: hop.watched_by.to_owned(),
            bfd: hop.bfd.map(str::to_owned),
            used: hop.is_used,
            since_secs_ago: hop.since.map(|since| (now - since).as_secs()),
            held_back_secs: hop.held_until.map(|until| until.saturating_since(now).as_millis().div_ceil(1000) as u64),
        }
    }
}

impl PortCountsStatus {
    fn of(counts: report::PortCounts) -> Self {
        PortCountsStatus {
            neighbour_messages: counts.neighbour_messages,
            neighbour_messages_over_limit: counts.neighbour_messages_over_limit,
            unresolved: counts.unresolved,
            echoes: counts.echoes,
            conflicts: counts.conflicts,
            switches: counts.switches,
            mac_changes: counts.mac_changes,
        }
    }
}

fn down_name(down: Down) -> &'static str {
    match down {
        Down::NoLink => "no_link",
        Down::NoAddress => "no_address",
        Down::NoNextHop => "no_next_hop",
    }
}

fn text(mac: Mac) -> String {
    mac.to_string()
}
