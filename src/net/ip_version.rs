//! IPv4 and IPv6 beside each other, where one can work without the other.

use std::net::IpAddr;
use std::ops::{Index, IndexMut};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub const ALL: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];

    #[inline]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv6() { IpVersion::V6 } else { IpVersion::V4 }
    }

    /// `None`: it is no IP packet.
    #[inline]
    pub fn of_packet(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Some(IpVersion::V4),
            6 => Some(IpVersion::V6),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            IpVersion::V4 => "IPv4",
            IpVersion::V6 => "IPv6",
        }
    }
}

/// One for each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PerVersion<T> {
    pub v4: T,
    pub v6: T,
}

impl<T> PerVersion<T> {
    pub fn from_fn(mut of: impl FnMut(IpVersion) -> T) -> Self {
        PerVersion { v4: of(IpVersion::V4), v6: of(IpVersion::V6) }
    }
}

impl<T> Index<IpVersion> for PerVersion<T> {
    type Output = T;

    #[inline]
    fn index(&self, version: IpVersion) -> &T {
        match version {
            IpVersion::V4 => &self.v4,
            IpVersion::V6 => &self.v6,
        }
    }
}

impl<T> IndexMut<IpVersion> for PerVersion<T> {
    #[inline]
    fn index_mut(&mut self, version: IpVersion) -> &mut T {
        match version {
            IpVersion::V4 => &mut self.v4,
            IpVersion::V6 => &mut self.v6,
        }
    }
}
