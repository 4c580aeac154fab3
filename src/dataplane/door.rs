//! The side door: BGP between a realm's routers and the routing daemon that the realm takes its networks from.
//!
//! ```text
//! realm's attachment --- from a peer, to the daemon, TCP port 179 ---> the daemon's TUN device
//! the daemon's TUN device --- the reverse, and nothing else ---------> the realm's attachment
//! ```
//!
//! These packets do not walk: nothing of them is translated, no session is made, and the TTL stays, because a router takes a
//! neighbour's BGP only with the one that it was sent with (RFC 4271 section 5.1.3, RFC 5082). What a daemon could send
//! otherwise would be under a source that no grant was made for, so all of it is dropped.

use std::net::IpAddr;

use crate::link::speakers::Speakers;
use crate::net::policy::protocol;
use crate::net::{Canonical, InterfaceId, Path, RealmId, TunnelId};
use crate::packet::{DropReason, Outbox};
use crate::wire::headers::{self, Transport};

use super::carriers::{Carriers, Flow};
use super::tunnels::Tunnels;

/// Of one realm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Door {
    pub realm: RealmId,
    /// The daemon's TUN device.
    pub interface: InterfaceId,
    pub speakers: Speakers,
    /// By which attachment an address of the daemon is reached: that of a port, by that port.
    pub ways: Vec<(IpAddr, TunnelId)>,
}

/// Hands a packet out of the realm to its daemon. `None`: it is none of the daemon's, and walks.
#[inline]
pub(super) fn enter(
    doors: &[Door],
    realm: RealmId,
    packet: &[u8],
    outbox: &mut Outbox,
) -> Option<Result<(), DropReason>> {
    let door = doors.iter().find(|door| door.realm == realm)?;
    if !door.speakers.admit(packet) {
        return None;
    }
    let is_taken = outbox.push(Path::tun(door.interface), true, packet);
    Some(is_taken.then_some(()).ok_or(DropReason::EgressQueueFull))
}

/// Sends what the daemon has said to the realm: by which attachment, and how many bytes.
#[cold]
pub(super) fn leave(
    door: &Door,
    bytes: &[u8],
    carriers: &Carriers,
    tunnels: &mut Tunnels,
    outbox: &mut Outbox,
) -> Result<(TunnelId, usize), DropReason> {
    let headers = headers::parse(bytes).map_err(|_| DropReason::DaemonNotBgp)?;
    if !door.speakers.let_out(&headers) {
        return Err(DropReason::DaemonNotBgp);
    }
    let own = door.ways.iter().find(|(address, _)| *address == headers.source).map(|(_, tunnel)| *tunnel);
    let flow = || Flow {
        source: number(headers.source),
        destination: number(headers.destination),
        protocol: protocol::TCP,
        ports: match headers.transport {
            Transport::Tcp { source_port, destination_port, .. } => (source_port, destination_port),
            _ => (0, 0),
        },
    };
    let tunnel = own.or_else(|| carriers.of(door.realm, |tunnel| tunnels.is_up(tunnel), flow));
    let tunnel = tunnel.ok_or(DropReason::NoTunnel)?;
    let packet = &bytes[..headers.total_bytes];
    if packet.len() > usize::from(tunnels.mtu_bytes(tunnel)) {
        return Err(DropReason::PacketTooBig);
    }
    tunnels.seal(tunnel, door.realm, packet, outbox)?;
    Ok((tunnel, packet.len()))
}

/// To tell flows apart, and for nothing else.
fn number(address: IpAddr) -> Canonical {
    Canonical(match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    })
}
