//! NAT detection (RFC 7296 section 2.23): each side sends hashes of the addresses as it knows them.
//!
//! A hash of ours that is wrong on purpose makes the peer believe that we are behind a NAT, and so everything goes in UDP.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest;

use super::peer::Ports;
use crate::net::{Path, Port};
use crate::wire::ike::{Notify, Payload, notify};

/// What the hashes said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Nat {
    /// The peer sent the hashes: both sides can do NAT traversal.
    pub supported: bool,
    /// Our side is behind one, or claims to be.
    pub here: bool,
    pub there: bool,
}

impl Nat {
    /// ESP goes in UDP, and IKE to port 4500.
    pub fn in_udp(&self) -> bool {
        self.supported && (self.here || self.there)
    }
}

/// SHA-1 as the RFC has it: it hides nothing and proves nothing, it only compares.
pub(super) fn hash(spis: (u64, u64), address: SocketAddr) -> Vec<u8> {
    let mut hashed = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashed.update(&spis.0.to_be_bytes());
    hashed.update(&spis.1.to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => hashed.update(&ip.octets()),
        IpAddr::V6(ip) => hashed.update(&ip.octets()),
    }
    hashed.update(&address.port().to_be_bytes());
    hashed.finish().as_ref().to_vec()
}

/// Our end of a path, if it is known.
pub(super) fn local_end(path: &Path, ports: &Ports, bound_to: &[IpAddr]) -> Option<SocketAddr> {
    let port = match path.port {
        Port::IkeNatT => ports.nat_t,
        _ => ports.ike,
    };
    let same_family = |ip: &&IpAddr| ip.is_ipv4() == path.remote.is_ipv4();
    let ip = path.local.or_else(|| bound_to.iter().find(same_family).copied())?;
    Some(SocketAddr::new(ip, port))
}

/// The two notifies for a message on `path`. `local` is `None` for a hash that matches nothing.
pub(super) fn notifies(spis: (u64, u64), path: &Path, local: Option<SocketAddr>, random: [u8; 20]) -> [Payload; 2] {
    let source = local.map_or(random.to_vec(), |local| hash(spis, local));
    let destination = hash(spis, path.remote);
    [(notify::NAT_DETECTION_SOURCE_IP, source), (notify::NAT_DETECTION_DESTINATION_IP, destination)]
        .map(|(kind, data)| Payload::Notify(Notify { protocol: 0, spi: Vec::new(), kind, data }))
}

/// What the peer's notifies say about the path that they came by. `local` unknown counts as a NAT: UDP always works.
pub(super) fn detect(spis: (u64, u64), payloads: &[Payload], path: &Path, local: Option<SocketAddr>) -> Nat {
    let of_kind = |kind: u16| {
        payloads.iter().filter_map(move |payload| match payload {
            Payload::Notify(notify) if notify.kind == kind => Some(notify.data.as_slice()),
            _ => None,
        })
    };
    let mut sources = of_kind(notify::NAT_DETECTION_SOURCE_IP).peekable();
    let mut destinations = of_kind(notify::NAT_DETECTION_DESTINATION_IP).peekable();
    if sources.peek().is_none() || destinations.peek().is_none() {
        return Nat::default();
    }
    let remote_hash = hash(spis, path.remote);
    let local_hash = local.map(|local| hash(spis, local));
    Nat {
        supported: true,
        here: !destinations.any(|hash| Some(hash) == local_hash.as_deref()),
        there: !sources.any(|hash| hash == remote_hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIS: (u64, u64) = (0x0102_0304_0506_0708, 0);

    fn ends() -> (Path, SocketAddr) {
        let path =
            Path { local: Some([192, 0, 2, 1].into()), ..Path::from_port(Port::Ike, ([192, 0, 2, 2], 500).into()) };
        (path, ([192, 0, 2, 1], 500).into())
    }

    fn swapped(path: &Path, local: SocketAddr) -> (Path, SocketAddr) {
        (Path { local: Some(path.remote.ip()), remote: local, ..*path }, path.remote)
    }

    #[test]
    fn the_hash_is_sha1_over_spis_address_and_port() {
        // printf '\1\2\3\4\5\6\7\10\0\0\0\0\0\0\0\0\300\0\2\1\1\364' | sha1sum
        let expected = "644b4575455bd6fcc1efe2be8162a9218e448e5f";
        let found: String = hash(SPIS, ends().1).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_found_where_nothing_is_changed() {
        let (path, local) = ends();
        let sent = notifies(SPIS, &path, Some(local), [0; 20]);
        let (their_path, their_local) = swapped(&path, local);
        let nat = detect(SPIS, &sent, &their_path, Some(their_local));
        assert_eq!(nat, Nat { supported: true, here: false, there: false });
        assert!(!nat.in_udp());
    }

    #[test]
    fn a_changed_source_a_changed_destination_and_a_claim_are_found() {
        let (path, local) = ends();
        let (their_path, their_local) = swapped(&path, local);
        let sent = notifies(SPIS, &path, Some(local), [0; 20]);
        let translated = Path { remote: ([198, 51, 100, 1], 1024).into(), ..their_path };
        assert!(detect(SPIS, &sent, &translated, Some(their_local)).there);
        assert!(detect(SPIS, &sent, &their_path, Some(([10, 0, 0, 1], 500).into())).here);
        let claim = notifies(SPIS, &path, None, [7; 20]);
        let nat = detect(SPIS, &claim, &their_path, Some(their_local));
        assert!(nat.there && !nat.here && nat.in_udp());
    }

    #[test]
    fn a_peer_without_the_notifies_cannot_do_it() {
        let (path, local) = ends();
        assert_eq!(detect(SPIS, &[], &path, Some(local)), Nat::default());
        let half = &notifies(SPIS, &path, Some(local), [0; 20])[..1];
        assert!(!detect(SPIS, half, &path, Some(local)).in_udp());
    }
}
