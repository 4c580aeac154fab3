//! What is plugged into this machine: interfaces, their hardware addresses, VLAN tags; and the routers on a link.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// A place in the list of interfaces that the configuration uses; at most [`MAX_INTERFACES`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct InterfaceId(pub u8);

/// Interfaces and TUN devices together.
pub const MAX_INTERFACES: usize = 32;

impl InterfaceId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Most bytes of an interface's name: `IFNAMSIZ` of Linux, without the zero byte at the end.
pub const MAX_INTERFACE_NAME_BYTES: usize = 15;

/// What the kernel takes as a name (`dev_valid_name`), but for `%`, which asks it to choose a number.
pub fn is_interface_name(name: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || ['/', ':', '%'].contains(&c);
    (1..=MAX_INTERFACE_NAME_BYTES).contains(&name.len()) && ![".", ".."].contains(&name) && !name.contains(is_bad)
}

/// A hardware address: IEEE 802 MAC-48.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Multicast or broadcast: no station has it.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Of one port: our own addresses on the link, ...
pub const MAX_ADDRESSES: usize = 8;
/// ... its gateways, ...
pub const MAX_GATEWAYS: usize = 16;
/// ... and its routes, those that are learned among them.
pub const MAX_ROUTES: usize = 4096;

/// What is behind a router of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub prefix: IpNet,
    pub via: IpAddr,
}

/// BFD with every router that is configured (RFC 5880, RFC 5881: single hop, asynchronous mode).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bfd {
    /// We speak first; else we wait for the other side.
    pub is_active: bool,
    /// Both what we want to send and what we can take.
    pub interval: Duration,
    pub multiplier: u8,
}

/// The VLAN tags of a frame. `service` (802.1ad, 0x88a8) stands before `customer` (802.1Q, 0x8100). VLAN numbers are 1 to 4094; a
/// priority-tagged frame (number 0) counts as untagged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct VlanTags {
    pub service: Option<u16>,
    pub customer: Option<u16>,
}

impl fmt::Display for VlanTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.service, self.customer) {
            (None, None) => f.write_str("untagged"),
            (None, Some(vlan)) => write!(f, "VLAN {vlan}"),
            (Some(service), Some(vlan)) => write!(f, "VLAN {service}.{vlan}"),
            (Some(service), None) => write!(f, "service VLAN {service}"),
        }
    }
}

/// What the kernel says of an interface, at the start and whenever it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkReport {
    pub interface: InterfaceId,
    /// Administratively up, and carrier.
    pub is_up: bool,
    pub mac: Mac,
    pub mtu_bytes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_kernel_takes() {
        for name in ["eth0", "enp3s0f1np1", "fifteen-bytes-a", "eth0.100", "..."] {
            assert!(is_interface_name(name), "{name:?}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:1", "eth%d", "a\0", "a\tb", "sixteen-bytes-ab"] {
            assert!(!is_interface_name(name), "{name:?}");
        }
    }
}
