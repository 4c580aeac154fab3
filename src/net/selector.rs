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

#[cfg(test)]
mod tests {
    use super::*;

    /// `10.0.0.0/24`, or with `tcp/80-90` behind it.
    fn net(text: &str) -> Selector {
        Selector::from_net(text.parse().unwrap())
    }

    fn ports(selector: Selector, protocol: u8, first_port: u16, last_port: u16) -> Selector {
        Selector { protocol, first_port, last_port, ..selector }
    }

    fn range(first: &str, last: &str) -> Selector {
        Selector { first: first.parse().unwrap(), last: last.parse().unwrap(), ..Selector::ANY4 }
    }

    const TCP: u8 = protocol::TCP;
    const UDP: u8 = protocol::UDP;

    #[test]
    fn covers_addresses_protocols_and_ports() {
        let web = ports(net("10.0.0.0/24"), TCP, 80, 443);
        let cases = [
            ("10.0.0.0", TCP, 80, true),
            ("10.0.0.255", TCP, 443, true),
            ("10.0.1.0", TCP, 80, false),
            ("10.0.0.1", UDP, 80, false),
            ("10.0.0.1", TCP, 444, false),
            ("fd00::1", TCP, 80, false),
        ];
        for (address, protocol, port, covered) in cases {
            assert_eq!(web.covers(address.parse().unwrap(), protocol, port), covered, "{address} {protocol} {port}");
        }
        assert!(Selector::ANY4.covers("255.255.255.255".parse().unwrap(), 50, 0));
        assert!(!Selector::ANY4.covers("::".parse().unwrap(), 50, 0), "an address of the other family");
        assert!(!Selector::ANY6.covers("1.2.3.4".parse().unwrap(), 50, 0));
        assert!(Selector::ANY6.covers("ffff::".parse().unwrap(), 50, 0));
    }

    #[test]
    fn icmp_type_and_code_stand_in_the_port_field() {
        let echo_request = ports(net("10.0.0.0/24"), protocol::ICMP, 8 << 8, 8 << 8);
        assert!(echo_request.covers("10.0.0.1".parse().unwrap(), protocol::ICMP, 8 << 8));
        assert!(!echo_request.covers("10.0.0.1".parse().unwrap(), protocol::ICMP, 0));
        let all_unreachable = ports(net("10.0.0.0/24"), protocol::ICMP, 3 << 8, 3 << 8 | 0xff);
        assert!(all_unreachable.covers("10.0.0.1".parse().unwrap(), protocol::ICMP, 3 << 8 | 4));
    }

    #[test]
    fn intersections() {
        let lan = net("10.0.0.0/8");
        let cases = [
            (lan, net("10.1.0.0/16"), Some(net("10.1.0.0/16"))),
            (lan, net("11.0.0.0/8"), None),
            (range("10.0.0.5", "10.0.0.9"), range("10.0.0.7", "10.0.0.20"), Some(range("10.0.0.7", "10.0.0.9"))),
            (Selector::ANY4, Selector::ANY6, None),
            (lan, ports(lan, TCP, 0, 65535), Some(ports(lan, TCP, 0, 65535))),
            (ports(lan, UDP, 0, 65535), ports(lan, TCP, 0, 65535), None),
            (ports(lan, TCP, 80, 90), ports(lan, TCP, 85, 99), Some(ports(lan, TCP, 85, 90))),
            (ports(lan, TCP, 80, 90), ports(lan, TCP, 91, 99), None),
            (ports(lan, TCP, 80, 90), ports(lan, 0, 85, 99), Some(ports(lan, TCP, 85, 90))),
            // OPAQUE: in ANY, in itself, and in no range.
            (ports(lan, TCP, 65535, 0), lan, Some(ports(lan, TCP, 65535, 0))),
            (ports(lan, TCP, 65535, 0), ports(lan, TCP, 65535, 0), Some(ports(lan, TCP, 65535, 0))),
            (ports(lan, TCP, 65535, 0), ports(lan, TCP, 1, 65535), None),
        ];
        for (a, b, expected) in cases {
            assert_eq!(a.intersect(&b), expected, "{a} and {b}");
            assert_eq!(b.intersect(&a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn what_contains_what() {
        assert!(Selector::ANY4.contains(&ports(net("10.0.0.0/8"), TCP, 80, 80)));
        assert!(!ports(net("10.0.0.0/8"), TCP, 80, 80).contains(&net("10.0.0.0/8")));
        assert!(!net("10.0.0.0/8").contains(&net("10.0.0.0/7")));
        assert!(!Selector::ANY6.contains(&Selector::ANY4));
    }

    /// The situations of RFC 7296 section 2.9: the packet that set it off is offered first, then the range that the initiator
    /// would like; the responder's policy is all of it, half of it, a few addresses inside it, or nothing of it.
    #[test]
    fn narrowing_to_what_both_policies_have() {
        let offered_i = [ports(range("198.51.100.43", "198.51.100.43"), 17, 123, 123), net("198.51.100.0/24")];
        let offered_r = [ports(range("192.0.2.123", "192.0.2.123"), 17, 123, 123), net("192.0.2.0/24")];
        assert_eq!(narrow(&offered_i, &[net("198.51.100.0/24")], 16), offered_i, "what is offered, if it fits");

        let ours = [net("192.0.2.0/25")];
        assert_eq!(narrow(&offered_r, &ours, 16), [offered_r[0], net("192.0.2.0/25")]);
        assert_eq!(narrow(&offered_r, &ours, 1), [offered_r[0]], "the most specific one, for who takes only one");

        let ours = [range("192.0.1.66", "192.0.1.70")];
        assert_eq!(narrow(&[net("192.0.1.0/24")], &ours, 16), ours);
        assert_eq!(narrow(&[net("203.0.113.0/24")], &ours, 16), [], "TS_UNACCEPTABLE");
    }

    #[test]
    fn narrowing_keeps_order_drops_what_is_contained_and_stays_below_the_most() {
        let ours = [net("10.0.0.0/24"), net("10.2.0.0/24"), net("fd00::/48")];
        assert_eq!(narrow(&[Selector::ANY4], &ours, 16), ours[..2]);
        assert_eq!(narrow(&[Selector::ANY6, Selector::ANY4], &ours, 16), [ours[2], ours[0], ours[1]]);
        assert_eq!(narrow(&[Selector::ANY4, net("10.2.0.0/25")], &ours, 16), ours[..2]);
        assert_eq!(narrow(&[Selector::ANY4], &ours, 1), ours[..1]);
        assert_eq!(narrow(&[Selector::ANY4], &ours, 0), []);
        assert_eq!(narrow(&[Selector::ANY4, Selector::ANY6], &[Selector::ANY4], 16), [Selector::ANY4]);
    }

    #[test]
    fn shown_as_operators_write_them() {
        let shown = [
            (Selector::ANY4, "0.0.0.0/0"),
            (Selector::ANY6, "::/0"),
            (net("10.0.0.0/8"), "10.0.0.0/8"),
            (net("10.0.0.1/32"), "10.0.0.1/32"),
            (range("10.0.0.1", "10.0.0.7"), "10.0.0.1-10.0.0.7"),
            (range("10.0.0.1", "10.0.0.2"), "10.0.0.1-10.0.0.2"),
            (ports(net("10.0.0.0/8"), TCP, 0, 65535), "10.0.0.0/8[tcp]"),
            (ports(net("10.0.0.0/8"), TCP, 443, 443), "10.0.0.0/8[tcp/443]"),
            (ports(net("10.0.0.0/8"), 0, 80, 90), "10.0.0.0/8[any/80-90]"),
            (ports(net("10.0.0.0/8"), UDP, 65535, 0), "10.0.0.0/8[udp/opaque]"),
        ];
        for (selector, text) in shown {
            assert_eq!(selector.to_string(), text);
        }
    }
}
