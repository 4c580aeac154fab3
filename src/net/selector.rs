//! Traffic selectors (RFC 7296 section 3.13.1): what a Child SA may carry, and how two sides' wishes are narrowed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::policy::protocol;

/// Addresses of one family from `first` to `last`, one protocol or all, ports from `first_port` to `last_port`.
///
/// Ports 65535 to 0 mean OPAQUE: packets whose ports cannot be seen. For ICMP the port is the type in the upper byte and
/// the code in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// 0: any.
    pub protocol: u8,
    pub first_port: u16,
    pub last_port: u16,
    pub first: IpAddr,
    pub last: IpAddr,
}

impl Selector {
    pub const ANY4: Selector = Selector::all_ports(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::BROADCAST));
    pub const ANY6: Selector =
        Selector::all_ports(IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)));

    const fn all_ports(first: IpAddr, last: IpAddr) -> Selector {
        Selector { protocol: 0, first_port: 0, last_port: u16::MAX, first, last }
    }

    pub fn from_net(net: IpNet) -> Selector {
        Selector::all_ports(net.network(), net.broadcast())
    }

    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    pub fn has_opaque_ports(&self) -> bool {
        (self.first_port, self.last_port) == (u16::MAX, 0)
    }

    pub fn covers(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.covers_address(address)
            && (self.protocol == 0 || self.protocol == protocol)
            && (self.all_ports_wanted() || (self.first_port..=self.last_port).contains(&port))
    }

    /// Whatever the protocol and port.
    pub fn covers_address(&self, address: IpAddr) -> bool {
        // Comparing addresses of two families compares the families first, so the ends keep them apart.
        self.first <= address && address <= self.last
    }

    /// What both select; `None`: nothing.
    pub fn intersect(&self, other: &Selector) -> Option<Selector> {
        let protocol = match (self.protocol, other.protocol) {
            (0, protocol) | (protocol, 0) => protocol,
            (a, b) if a == b => a,
            _ => return None,
        };
        let (first_port, last_port) = self.intersect_ports(other)?;
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.is_ipv4() == other.is_ipv4() && first <= last).then_some(Selector {
            protocol,
            first_port,
            last_port,
            first,
            last,
        })
    }

    /// Every packet that `other` selects is one that this selects.
    pub fn contains(&self, other: &Selector) -> bool {
        self.intersect(other) == Some(*other)
    }

    /// The prefix, where the range is exactly one.
    pub fn prefix(&self) -> Option<IpNet> {
        let (first, last, width) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (u128::from(first.to_bits()), u128::from(last.to_bits()), 32),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), 128),
            _ => return None,
        };
        let host_bits = 128 - (first ^ last).leading_zeros();
        let net = IpNet::new(self.first, (width - host_bits) as u8).ok()?;
        (net.network() == self.first && net.broadcast() == self.last).then_some(net)
    }

    fn all_ports_wanted(&self) -> bool {
        (self.first_port, self.last_port) == (0, u16::MAX)
    }

    /// RFC 7296 section 3.13.1: "ANY" includes "OPAQUE"; OPAQUE and a range of ports have nothing in common.
    fn intersect_ports(&self, other: &Selector) -> Option<(u16, u16)> {
        let (a, b) = ((self.first_port, self.last_port), (other.first_port, other.last_port));
        if self.all_ports_wanted() || a == b {
            return Some(b);
        }
        if other.all_ports_wanted() {
            return Some(a);
        }
        let (first, last) = (a.0.max(b.0), a.1.min(b.1));
        (first <= last).then_some((first, last))
    }
}

/// RFC 7296 section 2.9: the largest subset of `offered` that lies in `ours`, at most `max`, in the order of `offered`.
///
/// Empty: nothing in common. A part that an earlier one contains is left out, so that a peer that offers its trigger
/// packet first and the whole range second is answered with both only where they differ.
pub fn narrow(offered: &[Selector], ours: &[Selector], max: usize) -> Vec<Selector> {
    let mut narrowed: Vec<Selector> = Vec::new();
    for theirs in offered {
        for own in ours {
            let Some(common) = theirs.intersect(own) else { continue };
            if narrowed.iter().any(|earlier| earlier.contains(&common)) {
                continue;
            }
            if narrowed.len() >= max {
                return narrowed;
            }
            narrowed.push(common);
        }
    }
    narrowed
}

/// As an operator writes it: `10.0.0.0/8`, `10.0.0.1-10.0.0.7[tcp/443]`.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix() {
            Some(net) => net.fmt(f)?,
            None => write!(f, "{}-{}", self.first, self.last)?,
        }
        if self.protocol == 0 && self.all_ports_wanted() {
            return Ok(());
        }
        let protocol = protocol_name(self.protocol);
        match (self.first_port, self.last_port) {
            (0, u16::MAX) => write!(f, "[{protocol}]"),
            (u16::MAX, 0) => write!(f, "[{protocol}/opaque]"),
            (first, last) if first == last => write!(f, "[{protocol}/{first}]"),
            (first, last) => write!(f, "[{protocol}/{first}-{last}]"),
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        0 => "any".to_owned(),
        protocol::ICMP => "icmp".to_owned(),
        protocol::TCP => "tcp".to_owned(),
        protocol::UDP => "udp".to_owned(),
        protocol::ICMPV6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}
