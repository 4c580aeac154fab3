//! Which interfaces there are, and what the kernel has on them.

use std::io;
use std::net::IpAddr;

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
pub fn kernel_addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut addresses = sys::addresses(name)?;
    addresses.retain(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_there_with_its_addresses_and_is_no_ethernet() {
        assert!(list().contains(&"lo".to_owned()), "{:?}", list());
        assert!(kernel_addresses("lo").unwrap().contains(&"127.0.0.1".parse().unwrap()));
        assert!(mtu("lo").unwrap() >= 1500);
        assert_eq!(mac("lo").unwrap(), None);
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
