//! route: owner realm of the canonical destination -> tunnel ([`super::carriers`]). And whether the packet may go there: hops and size.
//!
//! Drops: NoTunnel, HopLimitExceeded, PacketTooBig. The sender is told of the second and third.
//!
//! Where the IP version changes on the way, it is the packet's length afterwards that must fit, and the sender is told what it
//! may send in its own version.

use crate::net::IpVersion;
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::{Headers, Transport};
use crate::wire::icmp::Report;

use super::carriers::{Carriers, Flow};
use super::fragment;
use super::tunnels::Tunnels;

/// IP and TCP headers without options.
const TCP_OVER_IPV4_BYTES: u16 = 40;
const TCP_OVER_IPV6_BYTES: u16 = 60;

/// `report` is called for every packet whose sender is to be told, with the packet as it was sent.
pub(super) fn route(
    batch: &mut Batch,
    carriers: &Carriers,
    tunnels: &Tunnels,
    mut report: impl FnMut(&Meta, &[u8], Report),
) {
    for (meta, bytes) in batch.live_mut() {
        if meta.destination.realm.is_ix() {
            continue;
        }
        match route_one(meta, bytes, carriers, tunnels) {
            Ok(()) => {}
            Err(Refusal { reason, told }) => {
                if let Some(told) = told {
                    report(meta, bytes, told);
                }
                meta.drop(reason);
            }
        }
    }
}

/// What of an MTU is not TCP segment.
fn tcp_overhead(is_v6: bool) -> u16 {
    if is_v6 { TCP_OVER_IPV6_BYTES } else { TCP_OVER_IPV4_BYTES }
}

/// The largest packet that fits both tunnels of a routed packet, in the IP version that it leaves with.
pub(super) fn max_packet_bytes(meta: &Meta) -> u16 {
    meta.max_mss_bytes + tcp_overhead(meta.shown.destination.is_ipv6())
}

fn flow(meta: &Meta) -> Flow {
    let Headers { protocol, transport, .. } = meta.headers;
    let ports = match transport {
        Transport::Tcp { source_port, destination_port, .. } | Transport::Udp { source_port, destination_port } => {
            (source_port, destination_port)
        }
        Transport::EchoRequest { ident } | Transport::EchoReply { ident } => (ident, 0),
        Transport::IcmpError | Transport::IcmpOther | Transport::Other => (0, 0),
    };
    Flow { source: meta.source.canonical, destination: meta.destination.canonical, protocol, ports }
}

struct Refusal {
    reason: DropReason,
    told: Option<Report>,
}

fn route_one(meta: &mut Meta, packet: &[u8], carriers: &Carriers, tunnels: &Tunnels) -> Result<(), Refusal> {
    let no_tunnel = Refusal { reason: DropReason::NoTunnel, told: None };
    let leaves_as = IpVersion::of(meta.shown.destination);
    let is_up = |tunnel| tunnels.is_up_for(tunnel, leaves_as);
    let egress = carriers.of(meta.destination.realm, is_up, || flow(meta)).ok_or(no_tunnel)?;
    let way = tunnels.way(egress);
    if meta.headers.hop_limit <= 1 {
        return Err(Refusal { reason: DropReason::HopLimitExceeded, told: Some(Report::TimeExceeded) });
    }
    let (was_v6, is_v6) = (meta.headers.is_v6(), meta.shown.destination.is_ipv6());
    meta.fragment_payload_bytes = fragment::fit(meta, packet, way.mtu_bytes)
        .map_err(|mtu_bytes| Refusal { reason: DropReason::PacketTooBig, told: Some(Report::TooBig { mtu_bytes }) })?;
    // What comes back must fit, too (RFC 6691). Segments can be shorter than every MTU must be, so that nothing outside is
    // fragmented because of them.
    let back = tunnels.way(meta.ingress);
    let mss = |bytes: u16, is_v6| bytes.saturating_sub(tcp_overhead(is_v6));
    (meta.egress, meta.to) = (egress, meta.destination.realm);
    meta.max_mss_bytes = mss(way.unfragmented_bytes, is_v6).min(mss(back.unfragmented_bytes, was_v6));
    Ok(())
}
