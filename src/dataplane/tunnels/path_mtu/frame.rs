//! What stands around an inner packet on its way: by how much the outer IP packet is longer.

use std::net::IpAddr;

use crate::ipsec;
use crate::net::{Path, Port};
use crate::wireguard::PADDING_BYTES;

const UDP_HEADER_BYTES: usize = 8;
/// Type, receiver index, counter, and the tag at the end (WireGuard paper section 5.4.6).
const WIREGUARD_BYTES: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sealing {
    WireGuard,
    Esp(ipsec::Overhead),
}

/// One tunnel's way of packing, on one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Of IP and, if there is one, UDP.
    headers_bytes: usize,
    sealing: Sealing,
}

impl Frame {
    pub fn on(path: &Path, sealing: Sealing) -> Self {
        let ip = match path.remote.ip().to_canonical() {
            IpAddr::V4(_) => 20,
            IpAddr::V6(_) => 40,
        };
        let udp = if path.port == Port::RawEsp { 0 } else { UDP_HEADER_BYTES };
        Frame { headers_bytes: ip + udp, sealing }
    }

    /// The outer IP packet around the longest inner packet of a tunnel with this MTU.
    pub fn outer_bytes(&self, mtu_bytes: u16) -> u16 {
        let inner = usize::from(mtu_bytes);
        let sealed = match self.sealing {
            Sealing::WireGuard => inner + WIREGUARD_BYTES,
            Sealing::Esp(overhead) => overhead.sealed_bytes(inner),
        };
        u16::try_from(self.headers_bytes + sealed).unwrap_or(u16::MAX)
    }

    /// What WireGuard seals into an outer packet of `outer_bytes`: an inner packet and its padding.
    pub fn padded_bytes(&self, outer_bytes: u16) -> usize {
        usize::from(outer_bytes).saturating_sub(self.headers_bytes + WIREGUARD_BYTES)
    }

    /// The longest inner packet of a tunnel with this MTU that fits into outer IP packets of `outer_bytes`.
    pub fn inner_bytes(&self, outer_bytes: u16, mtu_bytes: u16) -> u16 {
        let sealed = usize::from(outer_bytes).saturating_sub(self.headers_bytes);
        let inner = match self.sealing {
            Sealing::WireGuard => {
                let room = sealed.saturating_sub(WIREGUARD_BYTES);
                if room >= mtu_bytes.into() { room } else { room - room % PADDING_BYTES }
            }
            Sealing::Esp(overhead) => overhead.inner_bytes(sealed),
        };
        u16::try_from(inner).unwrap_or(u16::MAX).min(mtu_bytes)
    }
}

#[cfg(test)]
pub(in crate::dataplane::tunnels) mod samples {
    use super::*;

    /// AES-GCM with its 8 bytes of IV and 16 of ICV.
    pub fn gcm() -> Sealing {
        Sealing::Esp(ipsec::Overhead { fixed_bytes: 32, block_bytes: 4 })
    }

    /// AES-CBC with HMAC-SHA2-256-128.
    pub fn cbc() -> Sealing {
        Sealing::Esp(ipsec::Overhead { fixed_bytes: 40, block_bytes: 16 })
    }

    pub fn path(port: Port, remote: &str) -> Path {
        Path::from_port(port, remote.parse().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{cbc, gcm, path};
    use super::*;

    #[test]
    fn headers_are_counted_byte_by_byte() {
        let v4 = "192.0.2.1:4500";
        let v6 = "[2001:db8::1]:4500";
        for (port, remote, sealing, mtu, outer) in [
            (Port::WireGuard, v4, Sealing::WireGuard, 1420, 1480),
            (Port::WireGuard, v6, Sealing::WireGuard, 1420, 1500),
            (Port::IkeNatT, v4, gcm(), 1390, 20 + 8 + 32 + 1392),
            (Port::RawEsp, v4, gcm(), 1390, 20 + 32 + 1392),
            (Port::RawEsp, v6, cbc(), 1390, 40 + 40 + 1392),
            (Port::IkeNatT, v6, cbc(), 1391, 48 + 40 + 1408),
        ] {
            assert_eq!(Frame::on(&path(port, remote), sealing).outer_bytes(mtu), outer, "{remote} {sealing:?}");
        }
    }

    /// Whatever fits into `outer` bytes is at most `inner_bytes` long, and that does fit.
    #[test]
    fn the_longest_inner_packet_is_the_longest() {
        for sealing in [Sealing::WireGuard, gcm(), cbc()] {
            for port in [Port::IkeNatT, Port::RawEsp] {
                let frame = Frame::on(&path(port, "192.0.2.1:4500"), sealing);
                let needs = |inner: u16| match sealing {
                    // As `wireguard` pads: to 16, but not beyond 1420.
                    Sealing::WireGuard => frame.outer_bytes(inner.next_multiple_of(16).min(1420).max(inner)),
                    Sealing::Esp(_) => frame.outer_bytes(inner),
                };
                for outer in 1280..1520 {
                    let inner = frame.inner_bytes(outer, 1420);
                    assert!(needs(inner) <= outer, "{sealing:?} {port:?} {outer} {inner}");
                    assert!(inner == 1420 || needs(inner + 1) > outer, "{sealing:?} {port:?} {outer} {inner}");
                }
            }
        }
    }
}
