//! Socket addresses as the kernel writes them (`sockaddr_in`, `sockaddr_in6`), to and from [`SocketAddr`].
//!
//! Written byte by byte, so that nothing here is unsafe. An IPv6 socket that listens on `::` also carries IPv4, under
//! IPv4-mapped addresses (RFC 4291, 2.5.5.2); nobody outside this file sees those: a peer is `203.0.113.10` whichever
//! kind of socket hears it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Which family a socket was opened with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Length of `sockaddr_in`.
const V4_LEN: usize = 16;
/// Length of `sockaddr_in6`.
const V6_LEN: usize = 28;

/// Room for either, aligned like the C structures.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct RawAddress {
    pub bytes: [u8; V6_LEN],
    pub len: u32,
}

impl RawAddress {
    pub const CAPACITY: usize = V6_LEN;
    pub const EMPTY: RawAddress = RawAddress { bytes: [0; V6_LEN], len: 0 };

    /// `None`: a socket of this family cannot send there (IPv6 from an IPv4 socket).
    pub fn encode(address: SocketAddr, family: Family) -> Option<Self> {
        let mut raw = RawAddress::EMPTY;
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match (family, address) {
            (Family::V4, SocketAddr::V4(v4)) => {
                raw.bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                raw.len = V4_LEN as u32;
            }
            (Family::V4, SocketAddr::V6(_)) => return None,
            (Family::V6, _) => {
                let (ip, scope_id) = match address {
                    SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
                    SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
                };
                raw.bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                raw.bytes[8..24].copy_from_slice(&ip.octets());
                raw.bytes[24..28].copy_from_slice(&scope_id.to_ne_bytes());
                raw.len = V6_LEN as u32;
            }
        }
        Some(raw)
    }

    /// `None`: neither IPv4 nor IPv6. The flow label is left out: it is no part of who the peer is.
    pub fn decode(&self) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]));
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        match (family, self.len as usize) {
            (libc::AF_INET, V4_LEN..) => Some(SocketAddr::from((octets::<4>(&self.bytes[4..8]), port))),
            (libc::AF_INET6, V6_LEN..) => {
                let ip = Ipv6Addr::from(octets::<16>(&self.bytes[8..24]));
                Some(match ip.to_canonical() {
                    IpAddr::V4(v4) => SocketAddr::from((v4, port)),
                    IpAddr::V6(v6) => {
                        let scope_id = u32::from_ne_bytes(octets(&self.bytes[24..28]));
                        SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope_id))
                    }
                })
            }
            _ => None,
        }
    }
}

/// The first `N` bytes; the caller has sliced them.
pub fn octets<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut octets = [0; N];
    octets.copy_from_slice(&bytes[..N]);
    octets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(ip: IpAddr, port: u16, v6_socket: bool) {
            let address = SocketAddr::new(ip.to_canonical(), port);
            let family = if v6_socket { Family::V6 } else { Family::V4 };
            match RawAddress::encode(address, family) {
                Some(raw) => prop_assert_eq!(raw.decode(), Some(address)),
                None => prop_assert!(address.is_ipv6() && family == Family::V4),
            }
        }

        #[test]
        fn any_bytes_from_the_kernel_are_survived(bytes: [u8; V6_LEN], len: u32) {
            let _ = RawAddress { bytes, len }.decode();
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<libc::sockaddr_in>(), V4_LEN);
        assert_eq!(size_of::<libc::sockaddr_in6>(), V6_LEN);
        let raw = RawAddress::encode("1.2.3.4:258".parse().unwrap(), Family::V4).unwrap();
        assert_eq!(raw.bytes[2..8], [1, 2, 1, 2, 3, 4]);
    }

    #[test]
    fn a_mapped_address_comes_out_as_plain_ipv4_and_a_scope_is_kept() {
        let mapped = RawAddress::encode("[::ffff:192.0.2.1]:9".parse().unwrap(), Family::V6).unwrap();
        assert_eq!(mapped.decode(), Some("192.0.2.1:9".parse().unwrap()));
        let scoped = SocketAddr::V6(SocketAddrV6::new("fe80::1".parse().unwrap(), 9, 0, 3));
        assert_eq!(RawAddress::encode(scoped, Family::V6).unwrap().decode(), Some(scoped));
    }
}
