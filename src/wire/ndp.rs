//! Neighbour discovery messages (RFC 4861 section 4) as whole IPv6 packets, valid ones only.
//!
//! ```text
//! ICMPv6      0: type  1: code  2: checksum
//! RS (133)    4: reserved                              8: options
//! RA (134)    4: hop limit  5: M O H Prf(2)  6: lifetime  8: reachable  12: retransmit   16: options
//! NS (135)    4: reserved                              8: target                         24: options
//! NA (136)    4: R S O                                 8: target                         24: options
//! option      0: type  1: length in units of eight
//! ```
//!
//! Only messages right behind the fixed header are read: nobody sends them behind extension headers, but those who want to slip
//! past a switch's guard (RFC 7113), and never in fragments (RFC 6980).

use std::net::Ipv6Addr;
use std::time::Duration;

use super::{checksum, icmp, ipv6};
use crate::net::Mac;
use crate::net::policy::protocol;

/// A message with less came by a router, from outside of the link (RFC 4861 section 3.1).
pub const HOP_LIMIT: u8 = 255;
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

mod kind {
    pub const ROUTER_SOLICITATION: u8 = 133;
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
}

mod option {
    pub const SOURCE_LINK_LAYER: u8 = 1;
    pub const TARGET_LINK_LAYER: u8 = 2;
    pub const MTU: u8 = 5;
}

/// Of a neighbour advertisement, in byte 4.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

const TARGET: usize = 8;
/// An option with an Ethernet address, or an MTU.
const OPTION_BYTES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub message: Message,
}

/// `mac`: the source's link-layer address option of solicitations and router advertisements, the target's of neighbour
/// advertisements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    RouterSolicitation {
        mac: Option<Mac>,
    },
    RouterAdvertisement {
        lifetime: Duration,
        preference: Preference,
        mac: Option<Mac>,
        mtu_bytes: Option<u32>,
    },
    NeighbourSolicitation {
        target: Ipv6Addr,
        mac: Option<Mac>,
    },
    NeighbourAdvertisement {
        target: Ipv6Addr,
        mac: Option<Mac>,
        is_router: bool,
        is_solicited: bool,
        is_override: bool,
    },
    Redirect,
}

/// Of a default router (RFC 4191 section 2.1), the better the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Preference {
    Low,
    Medium,
    High,
}

impl Preference {
    fn from_flags(flags: u8) -> Preference {
        match flags >> 3 & 0b11 {
            0b01 => Preference::High,
            0b11 => Preference::Low,
            // 0b10 is reserved, and MUST be treated as 0b00 (section 2.2).
            _ => Preference::Medium,
        }
    }

    fn flags(self) -> u8 {
        match self {
            Preference::High => 0b01 << 3,
            Preference::Medium => 0b00,
            Preference::Low => 0b11 << 3,
        }
    }
}

/// Whether it has the form of a neighbour discovery message, valid or not: nothing that a router forwards.
#[inline]
pub fn is_ndp(packet: &[u8]) -> bool {
    packet.len() > ipv6::HEADER_BYTES
        && packet[0] >> 4 == 6
        && packet[ipv6::NEXT_HEADER] == protocol::ICMPV6
        && (kind::ROUTER_SOLICITATION..=kind::REDIRECT).contains(&packet[ipv6::HEADER_BYTES])
}

/// `None`: something else, or not valid (RFC 4861 sections 6.1, 7.1 and 8.1). What stands behind the packet's end is padding.
pub fn parse(packet: &[u8]) -> Option<Packet> {
    if !is_ndp(packet) {
        return None;
    }
    let header = ipv6::parse(packet)?;
    let body = packet.get(ipv6::HEADER_BYTES..header.total_bytes)?;
    let (source, destination) = (header.source, header.destination);
    let sum = checksum::transport_checksum(source.into(), destination.into(), protocol::ICMPV6, body)?;
    let is_valid = header.hop_limit == HOP_LIMIT && sum == 0 && !source.is_multicast() && body.get(1) == Some(&0);
    if !is_valid {
        return None;
    }
    let message = parse_message(body, source, destination)?;
    Some(Packet { source, destination, message })
}

fn parse_message(body: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Option<Message> {
    match *body.first()? {
        kind::ROUTER_SOLICITATION => {
            let mac = Options::parse(body.get(8..)?)?.source;
            (!source.is_unspecified() || mac.is_none()).then_some(Message::RouterSolicitation { mac })
        }
        kind::ROUTER_ADVERTISEMENT => {
            let options = Options::parse(body.get(16..)?)?;
            let message = Message::RouterAdvertisement {
                lifetime: Duration::from_secs(u16::from_be_bytes([body[6], body[7]]).into()),
                preference: Preference::from_flags(body[5]),
                mac: options.source,
                mtu_bytes: options.mtu_bytes,
            };
            source.is_unicast_link_local().then_some(message)
        }
        kind::NEIGHBOUR_SOLICITATION => {
            let (target, options) = target_and_options(body)?;
            let is_probe = source.is_unspecified();
            let is_valid = !is_probe || options.source.is_none() && is_solicited_node(destination);
            is_valid.then_some(Message::NeighbourSolicitation { target, mac: options.source })
        }
        kind::NEIGHBOUR_ADVERTISEMENT => {
            let (target, options) = target_and_options(body)?;
            let is_solicited = body[4] & SOLICITED != 0;
            let message = Message::NeighbourAdvertisement {
                target,
                mac: options.target,
                is_router: body[4] & ROUTER != 0,
                is_solicited,
                is_override: body[4] & OVERRIDE != 0,
            };
            // RFC 4861 section 7.1.2; and nobody answers without an address.
            let is_to_group = is_solicited && destination.is_multicast();
            let is_valid = !source.is_unspecified() && !is_to_group;
            is_valid.then_some(message)
        }
        kind::REDIRECT => {
            let options = Options::parse(body.get(40..)?);
            (options.is_some() && source.is_unicast_link_local()).then_some(Message::Redirect)
        }
        _ => None,
    }
}

fn target_and_options(body: &[u8]) -> Option<(Ipv6Addr, Options)> {
    let target: [u8; 16] = *body.get(TARGET..)?.first_chunk()?;
    let target = Ipv6Addr::from(target);
    let is_host = !target.is_multicast() && !target.is_unspecified() && !target.is_loopback();
    is_host.then_some((target, Options::parse(&body[TARGET + 16..])?))
}

#[derive(Default)]
struct Options {
    source: Option<Mac>,
    target: Option<Mac>,
    mtu_bytes: Option<u32>,
}

impl Options {
    /// Of several of a kind the first counts. `None`: a length of zero or past the end, or an address that no station on an
    /// Ethernet has (RFC 2464 section 6).
    fn parse(mut bytes: &[u8]) -> Option<Options> {
        let mut options = Options::default();
        while !bytes.is_empty() {
            let length = usize::from(*bytes.get(1)?) * 8;
            let (option, rest) = bytes.split_at_checked(length).filter(|_| length > 0)?;
            match option[0] {
                option::SOURCE_LINK_LAYER => options.source = options.source.or(Some(station(option)?)),
                option::TARGET_LINK_LAYER => options.target = options.target.or(Some(station(option)?)),
                option::MTU if length == OPTION_BYTES => {
                    let mtu_bytes = u32::from_be_bytes([option[4], option[5], option[6], option[7]]);
                    options.mtu_bytes = options.mtu_bytes.or(Some(mtu_bytes));
                }
                _ => {} // RFC 4861 section 4.6: unknown ones are skipped. So are prefixes and routes.
            }
            bytes = rest;
        }
        Some(options)
    }
}

fn station(option: &[u8]) -> Option<Mac> {
    let [_, _, mac @ ..]: [u8; OPTION_BYTES] = option.try_into().ok()?;
    Some(Mac(mac)).filter(|mac| !mac.is_group() && !mac.is_zero())
}

/// Writes the whole packet. `None`: it does not fit, or is a redirect, which only routers of the link may send.
pub fn emit(out: &mut [u8], source: Ipv6Addr, destination: Ipv6Addr, message: &Message) -> Option<usize> {
    let body_bytes = match message {
        Message::RouterSolicitation { mac } => 8 + option_bytes(mac.is_some()),
        Message::RouterAdvertisement { mac, mtu_bytes, .. } => {
            16 + option_bytes(mac.is_some()) + option_bytes(mtu_bytes.is_some())
        }
        Message::NeighbourSolicitation { mac, .. } | Message::NeighbourAdvertisement { mac, .. } => {
            TARGET + 16 + option_bytes(mac.is_some())
        }
        Message::Redirect => return None,
    };
    let total = ipv6::HEADER_BYTES + body_bytes;
    let (header, body) = out.get_mut(..total)?.split_first_chunk_mut()?;
    body.fill(0);
    emit_message(body, message);
    let sum = checksum::transport_checksum(source.into(), destination.into(), protocol::ICMPV6, body)?;
    body[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    ipv6::emit(header, body_bytes, HOP_LIMIT, protocol::ICMPV6, source, destination);
    Some(total)
}

fn option_bytes(is_there: bool) -> usize {
    if is_there { OPTION_BYTES } else { 0 }
}

fn emit_message(body: &mut [u8], message: &Message) {
    match *message {
        Message::RouterSolicitation { mac } => {
            body[0] = kind::ROUTER_SOLICITATION;
            emit_station(&mut body[8..], option::SOURCE_LINK_LAYER, mac);
        }
        Message::RouterAdvertisement { lifetime, preference, mac, mtu_bytes } => {
            (body[0], body[5]) = (kind::ROUTER_ADVERTISEMENT, preference.flags());
            let seconds = u16::try_from(lifetime.as_secs()).unwrap_or(u16::MAX);
            body[6..8].copy_from_slice(&seconds.to_be_bytes());
            emit_station(&mut body[16..], option::SOURCE_LINK_LAYER, mac);
            if let Some(mtu_bytes) = mtu_bytes {
                let at = body.len() - OPTION_BYTES;
                body[at..at + 2].copy_from_slice(&[option::MTU, 1]);
                body[at + 4..].copy_from_slice(&mtu_bytes.to_be_bytes());
            }
        }
        Message::NeighbourSolicitation { target, mac } => {
            body[0] = kind::NEIGHBOUR_SOLICITATION;
            body[TARGET..TARGET + 16].copy_from_slice(&target.octets());
            emit_station(&mut body[TARGET + 16..], option::SOURCE_LINK_LAYER, mac);
        }
        Message::NeighbourAdvertisement { target, mac, is_router, is_solicited, is_override } => {
            let flag = |is_set, bit| if is_set { bit } else { 0 };
            body[0] = kind::NEIGHBOUR_ADVERTISEMENT;
            body[4] = flag(is_router, ROUTER) | flag(is_solicited, SOLICITED) | flag(is_override, OVERRIDE);
            body[TARGET..TARGET + 16].copy_from_slice(&target.octets());
            emit_station(&mut body[TARGET + 16..], option::TARGET_LINK_LAYER, mac);
        }
        Message::Redirect => {}
    }
}

fn emit_station(out: &mut [u8], kind: u8, mac: Option<Mac>) {
    if let Some(mac) = mac {
        out[..2].copy_from_slice(&[kind, 1]);
        out[2..OPTION_BYTES].copy_from_slice(&mac.0);
    }
}

/// The group in which whoever has `address` is asked for it (RFC 4291 section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    SOLICITED_NODE | address & Ipv6Addr::from_bits(0xff_ffff)
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    address.to_bits() >> 24 == SOLICITED_NODE.to_bits() >> 24
}

const SOLICITED_NODE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);

/// Where frames for a group go (RFC 2464 section 7).
pub fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests;
