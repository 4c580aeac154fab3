//! What a packet looks like to its receiver.

use std::net::{IpAddr, Ipv4Addr};

/// The addresses that the destination realm sees, both of one IP version: that of the packet when it leaves. `translate`
/// writes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// For ICMP echo the identifier; 0: as it was.
    pub source_port: u16,
    /// The same for the other side. Of an echo only one of the two may be given.
    pub destination_port: u16,
}

impl Shown {
    pub const NOTHING: Shown = Shown {
        source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        source_port: 0,
        destination_port: 0,
    };

    /// Other addresses, the same ports.
    pub fn addresses(source: IpAddr, destination: IpAddr) -> Self {
        Shown { source, destination, source_port: 0, destination_port: 0 }
    }
}
