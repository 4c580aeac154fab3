//! Where each socket has its place among [`super::Sockets`]: a bit, and a token of the poller.

use std::ops::Range;

use super::super::poller::MAX_TOKENS;
use super::super::udp::steer;
use crate::net::{InterfaceId, MAX_INTERFACES, Path, Port};

/// WireGuard, two of IKE, ESP in both IP versions.
pub(in crate::io) const PORTS: usize = 5;
/// Behind them one place for each interface,
pub(in crate::io) const INTERFACES: Range<usize> = PORTS..PORTS + MAX_INTERFACES;
/// and the lanes of WireGuard's port and of ESP's in UDP.
pub(in crate::io) const WIREGUARD_LANES: Range<usize> = INTERFACES.end..INTERFACES.end + steer::LANES;
pub(in crate::io) const ESP_LANES: Range<usize> = WIREGUARD_LANES.end..WIREGUARD_LANES.end + steer::LANES;
/// All uplinks together, behind all others.
pub(in crate::io) const UPLINKS: usize = ESP_LANES.end;
pub(in crate::io) const PLACES: usize = UPLINKS + 1;
/// Every place has a token of the poller, and a bit.
const _: () = assert!(PLACES <= MAX_TOKENS);

/// Which socket a path belongs to: its place in `Sockets`. `None`: an interface that cannot be.
pub(in crate::io) fn place(path: &Path) -> Option<usize> {
    match path.port {
        Port::WireGuard => Some(0),
        Port::Ike => Some(1),
        Port::IkeNatT => Some(2),
        Port::RawEsp if path.remote.is_ipv4() => Some(3),
        Port::RawEsp => Some(4),
        Port::Frames(interface) | Port::Tun(interface) => place_of(interface),
    }
}

pub(in crate::io) fn place_of(interface: InterfaceId) -> Option<usize> {
    Some(INTERFACES.start + interface.index()).filter(|place| INTERFACES.contains(place))
}

pub(in crate::io) fn lanes_of(port: Port) -> Range<usize> {
    match port {
        Port::WireGuard => WIREGUARD_LANES,
        Port::IkeNatT => ESP_LANES,
        Port::Ike | Port::RawEsp | Port::Frames(_) | Port::Tun(_) => 0..0,
    }
}
