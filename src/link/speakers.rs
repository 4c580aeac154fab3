//! Whose BGP passes between a realm's routers and the routing daemon beside us, untouched. Nothing else does.

use std::net::IpAddr;

use crate::wire::headers::{self, Headers, Transport};

/// RFC 4271 section 8.
const BGP_PORT: u16 = 179;

/// Nobody, where one of the lists is empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Speakers {
    /// As whom the daemon speaks.
    pub local: Vec<IpAddr>,
    /// The realm's routers.
    pub peers: Vec<IpAddr>,
}

impl Speakers {
    /// From one of the routers to the daemon. `packet`: of any kind, perhaps no packet at all.
    pub fn admit(&self, packet: &[u8]) -> bool {
        !self.local.is_empty()
            && headers::parse(packet).is_ok_and(|headers| {
                is_bgp(&headers) && self.peers.contains(&headers.source) && self.local.contains(&headers.destination)
            })
    }

    /// From the daemon to one of the routers.
    pub fn let_out(&self, headers: &Headers) -> bool {
        is_bgp(headers) && self.local.contains(&headers.source) && self.peers.contains(&headers.destination)
    }
}

/// Whoever has called: one of the ports is BGP's.
fn is_bgp(headers: &Headers) -> bool {
    match headers.transport {
        Transport::Tcp { source_port, destination_port, .. } => [source_port, destination_port].contains(&BGP_PORT),
        _ => false,
    }
}
