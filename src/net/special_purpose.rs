//! Addresses that mean something else than one host of the Internet. So they belong to nobody in a default realm, no
//! resolver outside may name one, and their reverse names are nobody's business outside.
//!
//! From the registries of RFC 6890 (IANA, "IPv4" and "IPv6 Special-Purpose Address Registry"), and multicast. Left in are the
//! prefixes for documentation (RFC 5737, RFC 3849): nobody has them, so nobody is hurt, and every lab stands on them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// First and last address, and what they are for.
const BLOCKS4: [(u32, u32, &str); 11] = [
    (0x0000_0000, 0x00ff_ffff, "0.0.0.0/8 means \"this network\" (RFC 791)"),
    (0x0a00_0000, 0x0aff_ffff, "10.0.0.0/8 is private (RFC 1918)"),
    (0x6440_0000, 0x647f_ffff, "100.64.0.0/10 is shared address space (RFC 6598)"),
    (0x7f00_0000, 0x7fff_ffff, "127.0.0.0/8 is loopback (RFC 1122)"),
    (0xa9fe_0000, 0xa9fe_ffff, "169.254.0.0/16 is link-local (RFC 3927)"),
    (0xac10_0000, 0xac1f_ffff, "172.16.0.0/12 is private (RFC 1918)"),
    (0xc000_0000, 0xc000_00ff, "192.0.0.0/24 is for protocol assignments (RFC 6890)"),
    (0xc0a8_0000, 0xc0a8_ffff, "192.168.0.0/16 is private (RFC 1918)"),
    (0xc612_0000, 0xc613_ffff, "198.18.0.0/15 is for benchmarks (RFC 2544)"),
    (0xe000_0000, 0xefff_ffff, "224.0.0.0/4 is multicast (RFC 5771)"),
    (0xf000_0000, 0xffff_ffff, "240.0.0.0/4 is reserved (RFC 1112)"),
];

/// Inside 2000::/3, as prefix bits and length. The rest of IPv6 is no global unicast (RFC 4291 section 2.4).
const BLOCKS6: [(u128, u32, &str); 4] = [
    (0x2001_0000 << 96, 32, "2001::/32 is Teredo (RFC 4380)"),
    (0x2001_0002 << 96, 48, "2001:2::/48 is for benchmarks (RFC 5180)"),
    (0x2001_0010 << 96, 28, "2001:10::/28 is for identifiers (RFC 4843)"),
    (0x2002_0000 << 96, 16, "2002::/16 is 6to4 (RFC 3056)"),
];
const NOT_GLOBAL6: &str = "only 2000::/3 is global unicast (RFC 4291)";

/// Why no host of the Internet has this address; `None`: one may.
pub fn refusal(addr: IpAddr) -> Option<&'static str> {
    match addr {
        IpAddr::V4(addr) => refusal4(addr),
        IpAddr::V6(addr) => refusal6(addr),
    }
}

/// The same for IPv4.
pub fn refusal4(addr: Ipv4Addr) -> Option<&'static str> {
    let bits = addr.to_bits();
    BLOCKS4.iter().find(|(first, last, _)| (*first..=*last).contains(&bits)).map(|(.., why)| *why)
}

/// The same for IPv6.
pub fn refusal6(addr: Ipv6Addr) -> Option<&'static str> {
    let bits = addr.to_bits();
    if bits >> 125 != 1 {
        return Some(NOT_GLOBAL6);
    }
    BLOCKS6.iter().find(|(prefix, len, _)| (bits ^ prefix) >> (128 - len) == 0).map(|(.., why)| *why)
}

/// The same for all addresses of a prefix: why some of them are nobody's.
pub fn refusal_of_net4(net: Ipv4Net) -> Option<&'static str> {
    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
    BLOCKS4.iter().find(|block| block.0 <= last && first <= block.1).map(|(.., why)| *why)
}

/// Why none of a prefix's addresses is a host's; `None`: some may be.
pub fn refusal_of_all(net: IpNet) -> Option<&'static str> {
    // Below three bits the ends of an IPv6 prefix lie on both sides of 2000::/3.
    let is_wide = matches!(net, IpNet::V6(net) if net.prefix_len() < 3);
    refusal(net.network()).filter(|why| !is_wide && refusal(net.broadcast()) == Some(why))
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv6Net;

    use super::*;

    #[test]
    fn blocks_begin_and_end_where_their_names_say() {
        for (first, last, why) in BLOCKS4 {
            let net: Ipv4Net = why.split(' ').next().unwrap().parse().unwrap();
            assert_eq!((net.network().to_bits(), net.broadcast().to_bits()), (first, last), "{why}");
            assert_eq!((refusal4(net.network()), refusal4(net.broadcast())), (Some(why), Some(why)));
            assert_eq!(refusal_of_net4(net), Some(why));
        }
        for (prefix, len, why) in BLOCKS6 {
            let net: Ipv6Net = why.split(' ').next().unwrap().parse().unwrap();
            assert_eq!((net.network().to_bits(), u32::from(net.prefix_len())), (prefix, len), "{why}");
            assert_eq!((refusal6(net.network()), refusal6(net.broadcast())), (Some(why), Some(why)));
        }
    }

    #[test]
    fn what_hosts_of_the_internet_have_is_left() {
        for addr in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.128.0.0",
            "172.32.0.1",
            "192.0.1.0",
            "203.0.113.7",
            "223.255.255.255",
        ] {
            assert_eq!(refusal4(addr.parse().unwrap()), None, "{addr}");
        }
        for addr in ["2001:db8::1", "2a00::1", "2001:3::1", "2001:2:1::", "3fff:ffff::1"] {
            assert_eq!(refusal6(addr.parse().unwrap()), None, "{addr}");
        }
        for addr in ["::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "fd00::1", "fe80::1", "ff02::1", "4000::"] {
            assert_eq!(refusal6(addr.parse().unwrap()), Some(NOT_GLOBAL6), "{addr}");
        }
        for (net, is_refused) in [
            ("10.0.0.0/8", true),
            ("192.168.7.0/24", true),
            ("0.0.0.0/0", false),
            ("192.0.0.0/8", false),
            ("126.0.0.0/7", false),
            ("fc00::/8", true),
            ("fd00::/64", true),
            ("2001::/32", true),
            ("2001::/16", false),
            ("2000::/4", false),
            ("::/0", false),
            ("::/2", false),
        ] {
            assert_eq!(refusal_of_all(net.parse().unwrap()).is_some(), is_refused, "{net}");
        }
        assert_eq!(refusal_of_net4("8.0.0.0/7".parse().unwrap()), None);
        assert!(refusal_of_net4("8.0.0.0/6".parse().unwrap()).is_some());
    }
}
