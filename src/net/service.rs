//! The interconnection centre's own addresses: hosts of realm 0, reached from inside every realm.
//!
//! The service network is written 0.0.0.0/24 in realm 0, so its canonical form is the first /120 of `space6` and each
//! view shows it under an alias like any other network: with the alias 100.64.0.0/24 the gateway is 100.64.0.1 and
//! the resolver 100.64.0.53. Everything that needs one of these addresses takes it from here.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Canonical, RealmId, Space6};

/// The appliance as a router: source of its ICMP errors, target of pings.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 1);
/// The resolver, on the host number that is DNS's port.
pub const DNS: Ipv4Addr = Ipv4Addr::new(0, 0, 0, 53);

/// The length that the service network has when the alias pool has room for it ...
pub const PREFIX_LEN: u8 = 24;
/// ... and the longest that still holds [`DNS`] (hosts 0 to 63).
pub const PREFIX_LEN_MAX: u8 = 26;

/// The service network in realm 0's own terms.
pub fn network(prefix_len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, prefix_len)
}

pub fn gateway(space6: Space6) -> Canonical {
    space6.embed(RealmId::IX, GATEWAY)
}

pub fn dns(space6: Space6) -> Canonical {
    space6.embed(RealmId::IX, DNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_service_network_still_holds_every_service() {
        for host in [GATEWAY, DNS] {
            assert!(network(PREFIX_LEN_MAX).contains(&host), "{host}");
        }
        assert!(!network(PREFIX_LEN_MAX + 1).contains(&DNS));
    }

    #[test]
    fn services_have_the_first_canonical_addresses() {
        let space6 = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        assert_eq!(gateway(space6).to_string(), "fd69:7867:6174::1");
        assert_eq!(dns(space6).to_string(), "fd69:7867:6174::35");
    }
}
