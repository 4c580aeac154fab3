//! Which addresses to ask, so that somebody answers.
//!
//! A request with one hop left is answered by a gateway whatever address behind it was meant, unless it is the gateway's own
//! and the gateway answers no pings; so there are more. Machines that the configuration names come first: a peer that
//! forwards nothing answers for no other address than its own. The first and the last address of a network are what
//! gateways most often have. A roaming client is the only host of its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Target;
use crate::dataplane::snapshot::{Snapshot, Transport, Tunnel};
use crate::net::{RealmId, TunnelId};

/// Of each realm.
pub(super) const MAX_TARGETS: usize = 6;
/// Behind the default realm is everybody. RFC 5737 and RFC 3849: nobody has these, so only a router answers.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOBODY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// By tunnel number; those of other transports have none.
#[derive(Debug, Default)]
pub struct Targets(Vec<Box<[Target]>>);

impl Targets {
    pub fn of(&self, tunnel: TunnelId) -> &[Target] {
        self.0.get(tunnel.index()).map_or(&[], |targets| targets)
    }

    pub fn new(snapshot: &Snapshot) -> Self {
        let mut by_realm: Vec<Vec<Target>> = vec![Vec::new(); snapshot.realms.len()];
        let inhabited = snapshot.realms.iter().zip(0..).flat_map(|(realm, number)| {
            let addresses = realm.iter().flat_map(|realm| &realm.inhabited);
            addresses.map(move |address| (RealmId(number), *address))
        });
        let networks = snapshot.mapping.networks();
        let ends = networks.iter().flat_map(|network| ends(network.native).map(|address| (network.realm, address)));
        for (realm, destination) in inhabited.chain(ends) {
            let Some(targets) = by_realm.get_mut(usize::from(realm.0)) else { continue };
            let is_new = targets.len() < MAX_TARGETS && targets.iter().all(|target| target.destination != destination);
            if is_new && let Some(source) = snapshot.service_seen_by(snapshot.service.gateway, realm, destination) {
                targets.push(Target { source, destination });
            }
        }
        let of = |tunnel: &Option<Tunnel>| match tunnel {
            Some(Tunnel { realm, peer: Transport::WireGuard(_), .. }) => {
                by_realm.get(usize::from(realm.0)).cloned().unwrap_or_default().into()
            }
            _ => Box::default(),
        };
        Targets(snapshot.tunnels.iter().map(of).collect())
    }

    #[cfg(test)]
    pub(super) fn of_all(targets: Vec<Box<[Target]>>) -> Self {
        Targets(targets)
    }
}

/// The first and the last address that a host can have.
fn ends(network: IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = match network {
        IpNet::V4(net) if net.prefix_len() == 0 => (NOBODY, NOBODY),
        IpNet::V6(net) if net.prefix_len() == 0 => (NOBODY_V6, NOBODY_V6),
        IpNet::V4(net) => {
            // RFC 3021: a /31 has neither a network nor a broadcast address.
            let edge = u32::from(net.prefix_len() < 31);
            let (first, last) = (net.network().to_bits() + edge, net.broadcast().to_bits() - edge);
            (Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into())
        }
        IpNet::V6(net) => {
            // RFC 4291 section 2.6.1: the first is every router's. RFC 2526: the last are reserved.
            let (low, high) = (net.network().to_bits(), net.broadcast().to_bits());
            let (first, last) = if high - low > 0xff { (low + 1, high - 0xff) } else { (low, high) };
            (Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(last).into())
        }
    };
    [first, last].into_iter().take(1 + usize::from(first != last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_network_are_addresses_of_hosts() {
        for (network, expected) in [
            ("192.168.1.0/24", vec!["192.168.1.1", "192.168.1.254"]),
            ("10.0.0.0/8", vec!["10.0.0.1", "10.255.255.254"]),
            ("10.0.0.4/31", vec!["10.0.0.4", "10.0.0.5"]),
            ("10.0.0.4/30", vec!["10.0.0.5", "10.0.0.6"]),
            ("10.0.0.7/32", vec!["10.0.0.7"]),
            ("255.255.255.255/32", vec!["255.255.255.255"]),
            ("0.0.0.0/0", vec!["192.0.2.1"]),
            ("2001:db8:1::/64", vec!["2001:db8:1::1", "2001:db8:1:0:ffff:ffff:ffff:ff00"]),
            ("2001:db8::7/128", vec!["2001:db8::7"]),
            ("::/0", vec!["2001:db8::1"]),
        ] {
            let found: Vec<String> = ends(network.parse().unwrap()).map(|address| address.to_string()).collect();
            assert_eq!(found, expected, "{network}");
        }
    }
}
