//! Which interfaces there are, and what the kernel has on them.

use std::fs;
use std::io;

use ipnet::IpNet;

use super::FramesError;
use super::sys;
use crate::net::Mac;
use crate::net::link::is_interface_name;

/// The names of all interfaces, sorted.
pub fn list() -> Vec<String> {
    let mut names = sys::interface_names();
    names.sort();
    names
}

pub fn check_name(name: &str) -> Result<(), FramesError> {
    if is_interface_name(name) { Ok(()) } else { Err(FramesError::BadName(name.to_owned())) }
}

/// The kernel's number of an interface.
pub fn index(name: &str) -> Result<u32, FramesError> {
    check_name(name)?;
    sys::interface_index(name).ok_or_else(|| FramesError::missing(name))
}

/// Without the Ethernet header.
pub fn mtu(name: &str) -> Result<u32, FramesError> {
    index(name)?;
    sys::mtu(name).map_err(|error| FramesError::of(name, "read its MTU", error))
}

/// The hardware address. `None`: it is no Ethernet interface.
pub fn mac(name: &str) -> Result<Option<Mac>, FramesError> {
    index(name)?;
    sys::mac(name).map_err(|error| FramesError::of(name, "read its hardware address", error))
}

/// Addresses that the kernel has on the interface: it answers for them, and sends from them. IPv6 link-local addresses, which it makes by
/// itself, are not among them.
pub fn kernel_addresses(name: &str) -> io::Result<Vec<IpNet>> {
    let mut addresses = sys::addresses(name)?;
    addresses.retain(|address| !matches!(address, IpNet::V6(v6) if v6.addr().is_unicast_link_local()));
    Ok(addresses)
}

/// The kernel has a default route by the interface (in its main table), of either IP version: the machine itself is reached there.
pub fn has_default_route(name: &str) -> bool {
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    has_default_route4(&read("route"), name) || has_default_route6(&read("ipv6_route"), name)
}

/// VLAN interfaces that the kernel has on top of this one (8021q), and their VLAN numbers.
pub fn vlan_devices(name: &str) -> Vec<(String, u16)> {
    vlan_devices_in(&fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default(), name)
}

/// Below two lines of titles, lines of "device | number | interface".
fn vlan_devices_in(config: &str, name: &str) -> Vec<(String, u16)> {
    let device = |line: &str| {
        let mut words = line.split('|').map(str::trim);
        let (device, number, of) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        (of == name).then(|| (device.to_owned(), number))
    };
    config.lines().filter_map(device).collect()
}

/// Lines of "interface destination gateway flags use-count count metric mask ..."
fn has_default_route4(routes: &str, name: &str) -> bool {
    let is_default = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], [of, "00000000", _, _, _, _, _, "00000000", ..] if of == name)
    };
    routes.lines().any(is_default)
}

/// Lines of "destination length source length next-hop metric use-count count flags interface".
fn has_default_route6(routes: &str, name: &str) -> bool {
    let is_default = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], [_, "00", _, _, _, _, _, _, flags, of] if of == name && is_forwarding(flags))
    };
    routes.lines().any(is_default)
}

/// Neither a rejecting route (`RTF_REJECT`) nor one to ourselves (`RTF_LOCAL`).
fn is_forwarding(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & (0x200 | 0x8000_0000) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_with_its_addresses_and_is_no_ethernet() {
        assert!(list().contains(&"lo".to_owned()), "{:?}", list());
        assert!(kernel_addresses("lo").unwrap().contains(&"127.0.0.1/8".parse().unwrap()));
        assert!(mtu("lo").unwrap() >= 1500);
        assert_eq!(mac("lo").unwrap(), None);
    }

    #[test]
    fn the_default_route_is_found_in_both_tables() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                  eth2\t00000000\t0100000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n";
        assert_eq!(
            ["eth0", "eth1", "eth2", "eth"].map(|name| has_default_route4(v4, name)),
            [true, false, false, false]
        );
        let zeros = "0".repeat(32);
        let line = |len: &str, flags: &str, name: &str| {
            format!(
                "{zeros} {len} {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 {flags} {name}\n"
            )
        };
        let v6 =
            [line("00", "00000003", "eth0"), line("40", "00000001", "eth1"), line("00", "00200200", "lo")].concat();
        assert_eq!(["eth0", "eth1", "lo"].map(|name| has_default_route6(&v6, name)), [true, false, false]);
    }

    #[test]
    fn vlan_interfaces_are_found_by_what_they_are_on() {
        let config = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                      eth1.100       | 100  | eth1\neth10.100      | 100  | eth10\nvoice          | 7  | eth1\n";
        assert_eq!(vlan_devices_in(config, "eth1"), [("eth1.100".to_owned(), 100), ("voice".to_owned(), 7)]);
        assert_eq!(vlan_devices_in("", "eth1"), []);
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_those_that_are() {
        let error = mtu("ixg-none").unwrap_err().to_string();
        assert!(error.contains("ixg-none") && error.contains("lo"), "{error}");
        for name in ["", "a/b", "sixteen-bytes-ab", "a b", "a\0"] {
            assert!(matches!(index(name), Err(FramesError::BadName(_))), "{name:?}");
        }
    }
}
