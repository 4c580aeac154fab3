//! Canonical addresses: one 128-bit address per host, unique in the whole interconnection centre.
//!
//! ```text
//!   0                48       64                              96              128
//!   +----------------+--------+-------------------------------+---------------+
//!   | space6 (/48)   | realm  |            zero               | IPv4 address  |   RFC 6052, /96
//!   +----------------+--------+-------------------------------+---------------+
//! ```
//!
//! A host of an IPv6 network that is unique across realms is its own canonical form.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::RealmId;

/// An address valid everywhere inside the centre and nowhere outside it. Policy, sessions, names and logs speak these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Canonical(pub u128);

impl Canonical {
    pub fn addr(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.0)
    }
}

impl From<Ipv6Addr> for Canonical {
    fn from(addr: Ipv6Addr) -> Self {
        Canonical(addr.to_bits())
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr().fmt(f)
    }
}

impl fmt::Debug for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr().fmt(f)
    }
}

/// The /48 out of which canonical addresses of IPv4 hosts are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space6 {
    network: u128,
}

impl Space6 {
    const PREFIX_MASK: u128 = !0 << 80;
    /// Bits 64 to 95, which are zero in every address that this space embeds.
    const ZERO_MASK: u128 = 0xffff_ffff << 32;

    /// `None` unless `prefix` is exactly a /48.
    pub fn new(prefix: Ipv6Net) -> Option<Self> {
        (prefix.prefix_len() == 48).then(|| Space6 { network: prefix.network().to_bits() })
    }

    pub fn prefix(self) -> Ipv6Net {
        Ipv6Net::new_assert(Ipv6Addr::from_bits(self.network), 48)
    }

    /// The canonical address of `addr` in `realm`.
    #[inline]
    pub fn embed(self, realm: RealmId, addr: Ipv4Addr) -> Canonical {
        Canonical(self.network | u128::from(realm.0) << 64 | u128::from(addr.to_bits()))
    }

    /// The canonical prefix of an IPv4 network of `realm`.
    pub fn embed_net(self, realm: RealmId, net: Ipv4Net) -> Ipv6Net {
        Ipv6Net::new_assert(self.embed(realm, net.network()).addr(), 96 + net.prefix_len())
    }

    /// Inverse of [`Space6::embed`]; `None` for an address that is not made from an IPv4 one.
    #[inline]
    pub fn extract(self, canonical: Canonical) -> Option<(RealmId, Ipv4Addr)> {
        if canonical.0 & (Self::PREFIX_MASK | Self::ZERO_MASK) != self.network {
            return None;
        }
        let realm = RealmId((canonical.0 >> 64) as u16);
        Some((realm, Ipv4Addr::from_bits(canonical.0 as u32)))
    }

    pub fn contains(self, addr: Ipv6Addr) -> bool {
        addr.to_bits() & Self::PREFIX_MASK == self.network
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space6 {
        Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap()
    }

    #[test]
    fn embeds_as_design_says() {
        let c = space().embed(RealmId(0x102), Ipv4Addr::new(192, 168, 1, 10));
        assert_eq!(c.to_string(), "fd69:7867:6174:102::c0a8:10a");
        assert_eq!(space().extract(c), Some((RealmId(0x102), Ipv4Addr::new(192, 168, 1, 10))));
    }

    #[test]
    fn same_ipv4_address_in_two_realms_is_two_canonical_addresses() {
        let addr = Ipv4Addr::new(192, 168, 1, 10);
        assert_ne!(space().embed(RealmId(1), addr), space().embed(RealmId(2), addr));
    }

    #[test]
    fn refuses_what_it_did_not_embed() {
        for text in ["fd69:7867:6175:1::1", "fd69:7867:6174:1:1::1", "fd69:7867:6174:1:0:1::1", "2001:db8::1"] {
            assert_eq!(space().extract(text.parse::<Ipv6Addr>().unwrap().into()), None, "{text}");
        }
    }

    #[test]
    fn only_a_48_is_a_space() {
        assert!(Space6::new("fd69:7867::/32".parse().unwrap()).is_none());
        assert!(Space6::new("fd69:7867:6174:1::/64".parse().unwrap()).is_none());
    }
}
