//! From configured ports to what the path runs on: which interface has which number, who is behind whom on the link.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::model::{Config, Peer, PortPeer, Realm, RoutesFrom};
use crate::dataplane::door::Door;
use crate::dataplane::snapshot::Interface;
use crate::link::speakers::Speakers;
use crate::link::{EthernetConfig, Liveness, Medium, PortConfig};
use crate::net::link::MAX_INTERFACES;
use crate::net::{InterfaceId, RealmId, TunnelId};

use super::snapshot::SnapshotError;

/// Which interface or TUN device has which number: it keeps it while it is configured, so that its socket stays open and
/// what is known of its neighbours stays true.
#[derive(Clone, Debug, Default)]
pub struct InterfaceNumbers {
    /// A TUN device of the same name is another interface.
    by_name: HashMap<Interface, InterfaceId>,
}

impl InterfaceNumbers {
    /// Forgets vanished names and numbers new ones. A number that gets free now is given out the next time only: nobody may
    /// take the one that comes for the one that goes.
    pub(super) fn update(&mut self, config: &Config) -> Result<(), SnapshotError> {
        let daemons = config.realms.iter().filter_map(|realm| realm.routes_from.as_ref()).map(interface_of_daemon);
        let wanted: BTreeSet<Interface> =
            config.attachments().filter_map(|a| interface_of(&a.peer)).chain(daemons).collect();
        let taken: BTreeSet<InterfaceId> = self.by_name.values().copied().collect();
        self.by_name.retain(|name, _| wanted.contains(name));
        let mut free = (0..MAX_INTERFACES as u8).map(InterfaceId).filter(|number| !taken.contains(number));
        for name in wanted {
            if let Entry::Vacant(vacant) = self.by_name.entry(name) {
                vacant.insert(free.next().ok_or(SnapshotError::TooManyInterfaces)?);
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
        for (interface, number) in &self.by_name {
            super::snapshot::put(&mut list, number.index(), interface.clone());
        }
        list
    }
}

fn interface_of(peer: &Peer) -> Option<Interface> {
    let interface = |name: &String, is_tun| Interface { name: name.clone(), is_tun, namespace: None };
    match peer {
        Peer::Port(port) => Some(interface(&port.interface, false)),
        Peer::Tun(tun) => Some(interface(&tun.name, true)),
        Peer::WireGuard(_) | Peer::Ipsec(_) => None,
    }
}

fn interface_of_daemon(from: &RoutesFrom) -> Interface {
    Interface { name: from.tun.clone(), is_tun: true, namespace: Some(from.namespace.clone()) }
}

/// Where the realm's routing daemon and its routers find each other. `numbers_of`: of the realm's attachments, in their order.
pub(super) fn door(numbers: &InterfaceNumbers, realm: &Realm, id: RealmId, numbers_of: &[TunnelId]) -> Option<Door> {
    let from = realm.routes_from.as_ref()?;
    let ports = realm.attachments.iter().zip(numbers_of).filter_map(|(attachment, tunnel)| match &attachment.peer {
        Peer::Port(port) => Some(port.addresses.iter().map(|net| (net.addr(), *tunnel))),
        _ => None,
    });
    Some(Door {
        realm: id,
        interface: numbers.by_name.get(&interface_of_daemon(from)).copied()?,
        speakers: speakers(realm),
        ways: ports.flatten().filter(|(address, _)| from.local.contains(address)).collect(),
    })
}

fn speakers(realm: &Realm) -> Speakers {
    let of = |from: &RoutesFrom| Speakers { local: from.local.clone(), peers: from.peers.clone() };
    realm.routes_from.as_ref().map(of).unwrap_or_default()
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
    Medium::Ethernet(Box::new(EthernetConfig {
        vlan: port.vlan,
        addresses: port.addresses.clone(),
        gateways: port.gateways.clone(),
        routes: port.routes.clone(),
        networks,
        accept_ra: port.accept_ra,
        proxy,
        liveness: Liveness { interval: port.liveness_interval, multiplier: port.liveness_multiplier },
        bfd: port.bfd,
        speakers: speakers(realm),
    }))
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

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::allocations::Allocations;
    use super::super::compile::compile_addresses;
    use super::super::sample::{Sample, port_peer};
    use super::super::snapshot::{SnapshotError, TunnelNumbers, snapshot};
    use super::*;
    use crate::config::{self, model, schema};
    use crate::dataplane::Snapshot;
    use crate::dataplane::snapshot::Transport;
    use crate::link;
    use crate::net::policy::PortRule;
    use crate::net::{Generation, RealmId, VlanTags};

    fn try_make(config: &Config, numbers: &mut TunnelNumbers) -> Result<Snapshot, SnapshotError> {
        let (allocations, _) = allocate(config, &Allocations::default()).unwrap();
        let compiled = compile_addresses(config, &allocations).unwrap();
        snapshot(config, compiled, numbers, Generation(1))
    }

    fn make(config: &Config, numbers: &mut TunnelNumbers) -> Snapshot {
        try_make(config, numbers).unwrap()
    }

    fn two_realms() -> Sample {
        Sample::new().realm("a", &["192.168.1.0/24"]).realm("b", &["192.168.1.0/24"])
    }

    /// Of the first attachment of realm `a`.
    fn config_of(snapshot: &Snapshot) -> &PortConfig {
        match &snapshot.tunnel(snapshot.realm(RealmId(1)).unwrap().tunnels[0]).unwrap().peer {
            Transport::Port(config) => config,
            other => panic!("{other:?}"),
        }
    }

    fn ethernet_of(snapshot: &Snapshot) -> &EthernetConfig {
        match &config_of(snapshot).medium {
            Medium::Ethernet(ethernet) => ethernet,
            Medium::Tun => panic!("a TUN device"),
        }
    }

    fn names(snapshot: &Snapshot) -> Vec<Option<(&str, bool)>> {
        snapshot.interfaces.iter().map(|slot| slot.as_ref().map(|i| (i.name.as_str(), i.is_tun))).collect()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_port_is_what_the_file_says() {
        let mut peer = port_peer("eth1", 7);
        peer.routes =
            vec![model::PortRoute { prefix: "192.168.1.0/25".parse().unwrap(), via: "172.20.0.1".parse().unwrap() }];
        peer.bfd = Some(model::Bfd { is_active: true, interval: std::time::Duration::from_millis(50), multiplier: 5 });
        let config = two_realms().attach("a", Peer::Port(Box::new(peer))).build();
        let snapshot = make(&config, &mut TunnelNumbers::default());
        let (port, ethernet) = (config_of(&snapshot), ethernet_of(&snapshot));
        assert_eq!((port.tunnel, port.interface, port.mtu_bytes), (TunnelId(0), InterfaceId(0), 1390));
        assert_eq!(ethernet.vlan, VlanTags { service: None, customer: Some(7) });
        assert_eq!(ethernet.addresses, nets(&["172.20.0.2/30"]));
        assert_eq!(ethernet.gateways, ["172.20.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(ethernet.routes[0].prefix, "192.168.1.0/25".parse::<IpNet>().unwrap());
        assert_eq!(ethernet.networks, nets(&["192.168.1.0/24"]));
        assert_eq!((ethernet.liveness, ethernet.proxy.len()), (Liveness::default(), 0));
        assert_eq!(
            ethernet.bfd.map(|bfd| (bfd.is_active, bfd.interval.as_millis(), bfd.multiplier)),
            Some((true, 50, 5))
        );
        let tunnel = snapshot.tunnel(TunnelId(0)).unwrap();
        assert_eq!((tunnel.realm, tunnel.priority, tunnel.weight), (RealmId(1), 0, 1));
    }

    #[test]
    fn a_proxy_answers_for_what_the_realm_sees_and_nobody_else_for_anything() {
        let peer = PortPeer { proxy: true, ..port_peer("eth1", 7) };
        let config = two_realms().attach("a", Peer::Port(Box::new(peer))).grant_realm(&["a"], "b", &[PortRule::Any]);
        let snapshot = make(&config.build(), &mut TunnelNumbers::default());
        assert_eq!(ethernet_of(&snapshot).proxy, nets(&["100.64.0.0/24", "100.64.2.0/24"]), "the IX itself, and b");
    }

    #[test]
    fn the_default_realm_is_behind_the_gateways_that_it_has() {
        let realm = |peer| Sample::new().default_realm("a", &["10.0.0.0/16"]).attach("a", Peer::Port(Box::new(peer)));
        let networks = |peer| ethernet_of(&make(&realm(peer).build(), &mut TunnelNumbers::default())).networks.clone();
        assert_eq!(networks(port_peer("eth1", 7)), nets(&["10.0.0.0/16", "0.0.0.0/0"]));
        let announced = PortPeer { accept_ra: true, ..port_peer("eth1", 7) };
        assert_eq!(networks(announced), nets(&["10.0.0.0/16", "0.0.0.0/0", "::/0"]));
        let none = PortPeer { gateways: Vec::new(), ..port_peer("eth1", 7) };
        assert_eq!(networks(none), nets(&["10.0.0.0/16"]));
    }

    #[test]
    fn interfaces_are_shared_by_vlan_and_keep_their_numbers() {
        let mut numbers = TunnelNumbers::default();
        let before = two_realms().port("a", "eth1", 1).port("b", "eth1", 2).tun("b", "ix0").build();
        let before = make(&before, &mut numbers);
        assert_eq!(names(&before), [Some(("eth1", false)), Some(("ix0", true))]);
        // The first goes: the next does not take its number in the same step, and so is not taken for it.
        let after = make(&two_realms().port("a", "eth2", 1).tun("b", "ix0").build(), &mut numbers);
        assert_eq!(names(&after), [None, Some(("ix0", true)), Some(("eth2", false))]);
        assert!(!config_of(&after).is_same_place(config_of(&before)));
        // A TUN device of the same name is another one.
        let last = make(&two_realms().tun("a", "eth2").build(), &mut numbers);
        assert_eq!(names(&last), [Some(("eth2", true))]);
        assert_eq!(config_of(&last).medium, Medium::Tun);
    }

    #[test]
    fn interfaces_are_bounded_also_while_they_change() {
        let realm = |interfaces: std::ops::Range<usize>| {
            interfaces.fold(two_realms(), |sample, i| sample.tun("a", &format!("ix{i}"))).build()
        };
        let mut numbers = TunnelNumbers::default();
        make(&realm(0..MAX_INTERFACES), &mut numbers.clone());
        make(&realm(0..30), &mut numbers);
        let error = try_make(&realm(30..33), &mut numbers.clone()).unwrap_err();
        assert!(error.to_string().contains("than 32, counting those that are still in use"), "{error}");
        make(&realm(0..0), &mut numbers);
        make(&realm(30..33), &mut numbers);
    }

    #[test]
    fn a_tunnel_of_another_vlan_or_realm_is_another_tunnel() {
        let mut numbers = TunnelNumbers::default();
        let one = make(&two_realms().port("a", "eth1", 1).build(), &mut numbers);
        for other in [two_realms().port("a", "eth1", 2), two_realms().port("b", "eth1", 1)] {
            let other = make(&other.build(), &mut numbers.clone());
            let tunnel = other.tunnels.iter().flatten().next().unwrap();
            assert!(!one.tunnel(TunnelId(0)).unwrap().is_same(tunnel));
        }
        let same = make(&two_realms().port("b", "eth2", 1).port("a", "eth1", 1).build(), &mut numbers);
        assert!(one.tunnel(TunnelId(0)).unwrap().is_same(same.tunnel(TunnelId(0)).unwrap()));
    }

    /// What the file may hold, a port has room for.
    #[test]
    fn the_bounds_of_the_file_are_those_of_the_path() {
        let schema = schema();
        let port = &schema["properties"]["realm"]["items"]["properties"]["attach"]["items"]["properties"]["port"];
        let most = |key: &str| {
            let key = &port["properties"][key];
            let list = if key["anyOf"].is_array() { &key["anyOf"][1] } else { key };
            list["maxItems"].as_u64().unwrap() as usize
        };
        assert_eq!(most("address"), link::config::MAX_ADDRESSES);
        assert_eq!(most("gateway"), link::config::MAX_GATEWAYS);
        assert_eq!(most("routes"), link::config::MAX_ROUTES);
        let watched = config::MAX_NEXT_HOPS + link::config::MAX_GATEWAYS + link::routers::MAX_ROUTERS;
        assert!(watched <= link::MAX_PINNED, "each router that is watched holds its place among the neighbours");
    }
}
