//! Gateways of either kind around an engine, for tests that count or compare what it makes of their datagrams.

use std::net::{IpAddr, Ipv4Addr};

use ixgate::net::Timestamp;
use ixgate::sim::appliance::Appliance;
pub use ixgate::sim::far_end::FarEnd;
use ixgate::sim::peer::Peer;

/// How a realm is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    WireGuard,
    Esp,
}

impl Kind {
    /// What stands in the realm's `attach`.
    pub fn attach(self, realm: &str, mtu_bytes: u16) -> String {
        match self {
            Kind::WireGuard => {
                format!(r#"{{ wireguard = {{ public_key = "{{key:{realm}}}" }}, mtu_bytes = {mtu_bytes} }}"#)
            }
            Kind::Esp => format!(
                r#"{{ ipsec = {{ remote_id = "fqdn:{realm}.example", psk_file = "secrets/{realm}.example.psk" }}, mtu_bytes = {mtu_bytes} }}"#
            ),
        }
    }
}

/// The gateway of a realm.
pub fn gateway(kind: Kind, appliance: &Appliance, name: &str, number: u8, now: Timestamp) -> FarEnd {
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 1, number));
    let id = format!("{name}.example");
    match kind {
        Kind::WireGuard => {
            let peer = Peer::new(appliance.site_key(name), appliance.public_key, None, number.into());
            FarEnd::wireguard(peer, address)
        }
        Kind::Esp => FarEnd::esp(id.clone(), Appliance::psk(&id).into_bytes(), number.into(), address, now),
    }
}
