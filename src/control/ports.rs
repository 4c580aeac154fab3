//! From configured ports to what the path runs on: which interface has which number, who is behind whom on the link.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::model::{Config, Peer, PortPeer, Realm};
use crate::dataplane::snapshot::Interface;
use crate::link::{Bfd, EthernetConfig, Liveness, Medium, PortConfig, Route};
use crate::net::link::MAX_INTERFACES;
use crate::net::{InterfaceId, TunnelId};

use super::snapshot::SnapshotError;

/// Which interface or TUN device has which number: it keeps it while it is configured, so that its socket stays open and
/// what is known of its neighbours stays true.
#[derive(Clone, Debug, Default)]
pub struct InterfaceNumbers {
    /// A TUN device of the same name is another interface.
    by_name: HashMap<(String, bool), InterfaceId>,
}

impl InterfaceNumbers {
    /// Forgets vanished names and numbers new ones. A number that gets free now is given out the next time only: nobody may
    /// take the one that comes for the one that goes.
    pub(super) fn update(&mut self, config: &Config) -> Result<(), SnapshotError> {
        let wanted: BTreeSet<(String, bool)> = config.attachments().filter_map(|a| interface_of(&a.peer)).collect();
        let taken: BTreeSet<InterfaceId> = self.by_name.values().copied().collect();
        self.by_name.retain(|name, _| wanted.contains(name));
        let mut free = (0..MAX_INTERFACES as u8).map(InterfaceId).filter(|number| !taken.contains(number));
        for name in wanted {
            if !self.by_name.contains_key(&name) {
                let number = free.next().ok_or(SnapshotError::TooManyInterfaces)?;
                self.by_name.insert(name, number);
            }
        }
        Ok(())
    }

    fn of(&self, peer: &Peer) -> InterfaceId {
        interface_of(peer).and_then(|name| self.by_name.get(&name)).copied().unwrap_or_default()
    }

    /// By number.
    pub(super) fn list(&self) -> Vec<Option<Interface>> {
        let mut list = Vec::new();
        for ((name, is_tun), number) in &self.by_name {
            super::snapshot::put(&mut list, number.index(), Interface { name: name.clone(), is_tun: *is_tun });
        }
        list
    }
}

/// The kernel's name, and whether it is a TUN device.
fn interface_of(peer: &Peer) -> Option<(String, bool)> {
    match peer {
        Peer::Port(port) => Some((port.interface.clone(), false)),
        Peer::Tun(tun) => Some((tun.name.clone(), true)),
        Peer::WireGuard(_) | Peer::Ipsec(_) => None,
    }
}

/// `is_default`: the realm has every address that nobody else has. `proxy`: what it sees of the others.
pub(super) fn ethernet(realm: &Realm, port: &PortPeer, is_default: bool, proxy: Vec<IpNet>) -> Medium {
    let mut networks: Vec<IpNet> = realm.networks.iter().map(|network| network.native).collect();
    let has_gateway = |is_ipv4| port.gateways.iter().any(|gateway: &IpAddr| gateway.is_ipv4() == is_ipv4);
    // Without a gateway they would all be on the link.
    if is_default && has_gateway(true) {
        networks.push(IpNet::V4(Ipv4Net::default()));
    }
    if is_default && (has_gateway(false) || port.accept_ra) {
        networks.push(IpNet::V6(Ipv6Net::default()));
    }
    Medium::Ethernet(EthernetConfig {
        vlan: port.vlan,
        addresses: port.addresses.clone(),
        gateways: port.gateways.clone(),
        routes: port.routes.iter().map(|route| Route { prefix: route.prefix, via: route.via }).collect(),
        networks,
        accept_ra: port.accept_ra,
        proxy,
        liveness: Liveness { interval: port.liveness_interval, multiplier: port.liveness_multiplier },
        bfd: port.bfd.map(|bfd| Bfd { is_active: bfd.is_active, interval: bfd.interval, multiplier: bfd.multiplier }),
    })
}

pub(super) fn config(
    numbers: &InterfaceNumbers,
    peer: &Peer,
    medium: Medium,
    tunnel: TunnelId,
    mtu_bytes: u16,
) -> PortConfig {
    PortConfig { tunnel, interface: numbers.of(peer), medium, mtu_bytes }
}
