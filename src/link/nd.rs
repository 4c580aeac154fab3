//! Neighbour discovery (RFC 4861) as a port hears and says it. Nothing is remembered here: who is where is `neighbours`'
//! affair, which addresses are ours that of `claims`, who is a router that of `routers`.
//!
//! Every `emit_*` writes a whole IPv6 packet and says how long it is; 0 when `out` is too small.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::net::Mac;
use crate::wire::mld;
use crate::wire::ndp::{self, Message};

pub use crate::wire::ndp::{ALL_NODES, ALL_ROUTERS, Preference, group_mac, solicited_node};

/// What a valid message says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Somebody looks for `target`. `from` is `::` when he wants to have the address himself (DAD, RFC 4862 section 5.4), and
    /// `mac` is then the frame's sender; else it is what he says of himself, and `None` changes nothing of what is known.
    Solicited {
        target: Ipv6Addr,
        from: Ipv6Addr,
        mac: Option<Mac>,
    },
    /// Somebody says that he is `target`. Without a `mac` he only confirms the one that is known.
    Advertised {
        target: Ipv6Addr,
        mac: Option<Mac>,
        is_router: bool,
        is_solicited: bool,
        is_override: bool,
    },
    Router(RouterAdvertisement),
    /// Valid, and of no use to us: router solicitations, and redirects, which nobody here follows.
    Other,
}

/// Of a router advertisement, what anybody here may believe: no prefix, no route, no parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouterAdvertisement {
    /// Link-local.
    pub from: Ipv6Addr,
    pub mac: Option<Mac>,
    /// Zero: no default router (any more).
    pub lifetime: Duration,
    pub preference: Preference,
}

/// Cheap enough to ask of every packet: whether it is neighbour discovery by its form. Such a packet never goes on to a realm,
/// valid or not.
#[inline]
pub fn is_nd(packet: &[u8]) -> bool {
    ndp::is_ndp(packet)
}

/// `source_mac`: of the frame. `None`: no neighbour discovery, or not valid (RFC 4861 sections 6.1 and 7.1).
pub fn read(packet: &[u8], source_mac: Mac) -> Option<Heard> {
    let ndp::Packet { source, message, .. } = ndp::parse(packet)?;
    Some(match message {
        Message::NeighbourSolicitation { target, mac } => {
            let mac = if source.is_unspecified() { Some(source_mac) } else { mac };
            Heard::Solicited { target, from: source, mac }
        }
        Message::NeighbourAdvertisement { target, mac, is_router, is_solicited, is_override } => {
            Heard::Advertised { target, mac, is_router, is_solicited, is_override }
        }
        Message::RouterAdvertisement { lifetime, preference, mac, .. } => {
            Heard::Router(RouterAdvertisement { from: source, mac, lifetime, preference })
        }
        Message::RouterSolicitation { .. } | Message::Redirect => Heard::Other,
    })
}

/// Asks for `target`; from `::` whether anybody has it (DAD). `unicast`: only whether it is still there, asked at its own
/// hardware address, which the caller knows; the one returned is then zero.
pub fn emit_solicitation(out: &mut [u8], source: Ipv6Addr, target: Ipv6Addr, mac: Mac, unicast: bool) -> (usize, Mac) {
    let group = solicited_node(target);
    let (destination, to) = if unicast { (target, Mac::default()) } else { (group, group_mac(group)) };
    // RFC 4861 section 4.3: no option when the source is unspecified.
    let mac = (!source.is_unspecified()).then_some(mac);
    let message = Message::NeighbourSolicitation { target, mac };
    (ndp::emit(out, source, destination, &message).unwrap_or(0), to)
}

/// Says that `target` is at `mac`. Who asked from `::` has no address to be answered at: everybody is told then, and nobody as
/// if he had asked (RFC 4861 section 7.2.4); the frame goes to the [`group_mac`] of [`ALL_NODES`].
#[allow(clippy::too_many_arguments)]
pub fn emit_advertisement(
    out: &mut [u8],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: Mac,
    solicited: bool,
    is_override: bool,
    is_router: bool,
) -> usize {
    let destination = if destination.is_unspecified() { ALL_NODES } else { destination };
    let is_solicited = solicited && !destination.is_multicast();
    let message = Message::NeighbourAdvertisement { target, mac: Some(mac), is_router, is_solicited, is_override };
    ndp::emit(out, source, destination, &message).unwrap_or(0)
}

/// Asks all routers to say that they are there; the frame goes to the [`group_mac`] of [`ALL_ROUTERS`].
pub fn emit_router_solicitation(out: &mut [u8], source: Ipv6Addr, mac: Mac) -> usize {
    let message = Message::RouterSolicitation { mac: (!source.is_unspecified()).then_some(mac) };
    ndp::emit(out, source, ALL_ROUTERS, &message).unwrap_or(0)
}

/// Joins `groups` (MLDv2); the frame goes to the [`group_mac`] of [`mld::ALL_REPORTS`]. `source`: link-local and ours, or `::`.
pub fn emit_group_report(out: &mut [u8], source: Ipv6Addr, groups: &[Ipv6Addr]) -> usize {
    mld::emit_report(out, source, groups).unwrap_or(0)
}

#[cfg(test)]
mod tests;
