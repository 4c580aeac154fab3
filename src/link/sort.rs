//! What a frame is, before anything is done about it.

use std::net::IpAddr;

use super::frame::{destination, ip_packet};
use super::nd;
use super::station::Station;
use crate::net::Mac;
use crate::packet::DropReason;
use crate::wire::ethernet::{Header, ether_type};

pub(super) enum Sorted<'a> {
    /// For the realm.
    Walks(&'a [u8]),
    Arp(&'a [u8]),
    Discovery(&'a [u8]),
    /// To an address of the port's own.
    Ours(&'a [u8]),
}

impl Station {
    /// `payload`: behind the header, with padding.
    #[inline]
    pub(super) fn sort<'a>(&self, header: &Header, payload: &'a [u8]) -> Result<Sorted<'a>, DropReason> {
        if header.source.is_group() || header.source.is_zero() {
            return Err(DropReason::FrameMalformed);
        }
        if self.claims.mac().is_none() {
            return Err(DropReason::PortDown);
        }
        if header.destination != self.framing.mac() && !self.listens_to(header.destination) {
            return Err(DropReason::FrameNotForUs);
        }
        let version = match header.ether_type {
            ether_type::IPV4 => 4,
            ether_type::IPV6 => 6,
            ether_type::ARP => return Ok(Sorted::Arp(payload)),
            _ => return Err(DropReason::FrameNotIp),
        };
        let packet = ip_packet(version, payload).ok_or(DropReason::FrameMalformed)?;
        if version == 6 && nd::is_nd(packet) {
            return Ok(Sorted::Discovery(packet));
        }
        let to = destination(packet).ok_or(DropReason::FrameMalformed)?;
        // RFC 1122 section 3.3.6: nothing for one station comes to all of them.
        if header.destination.is_group() || is_group(to) || self.is_broadcast(to) {
            return Err(DropReason::DestinationNotUnicast);
        }
        Ok(if self.claims.concerns(to) { Sorted::Ours(packet) } else { Sorted::Walks(packet) })
    }

    /// Everybody, all nodes, and those who are looked for under addresses of ours.
    #[cold]
    fn listens_to(&self, group: Mac) -> bool {
        const SOLICITED_NODES: [u8; 3] = [0x33, 0x33, 0xff];
        if group == Mac::BROADCAST || group == nd::group_mac(nd::ALL_NODES) {
            return true;
        }
        let is_ours = |address: IpAddr| matches!(address, IpAddr::V6(address) if nd::group_mac(nd::solicited_node(address)) == group);
        group.0.starts_with(&SOLICITED_NODES)
            && (self.proxy.has_v6() || self.claims.status().any(|status| is_ours(status.address)))
    }
}

/// Nobody's own address.
#[inline]
pub(super) fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(address) if address.is_broadcast())
}
