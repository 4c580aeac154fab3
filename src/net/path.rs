//! Where an outer datagram came from or goes to.

use std::net::{IpAddr, SocketAddr};

/// The two ends of an outer path. `local` matters on hosts with several addresses: a peer behind a stateful firewall
/// hears us only from the address that it sent to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    pub remote: SocketAddr,
    /// `None`: the kernel chooses (we speak first, or the socket is bound to one address).
    pub local: Option<IpAddr>,
}

impl Path {
    /// A path on which we speak first.
    pub fn to(remote: SocketAddr) -> Self {
        Path { remote, local: None }
    }
}
