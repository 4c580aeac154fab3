//! What the stages have learned about one packet. Classified once, acted on later: only `classify` reads addresses, the
//! later stages obey what stands here.

use crate::net::mapping::Located;
use crate::net::{Canonical, NetworkId, RealmId, TunnelId};
use crate::wire::headers::Headers;

use super::{DropReason, Reassembled, Shown};

/// Where a packet is on its way. Every packet leaves `Live` exactly once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Still walking.
    Live,
    /// It is what it will be when it leaves: only its tunnel has still to take it.
    Translated,
    Forwarded,
    /// Delivered to the IX itself.
    Answered,
    /// A fragment: it waits for the others, or went into the datagram that they made, which walks by itself.
    Kept,
    Dropped(DropReason),
}

#[derive(Clone, Copy, Debug)]
pub struct Meta {
    pub fate: Fate,
    /// The tunnel it came in by, and that tunnel's realm: the packet's identity.
    pub ingress: TunnelId,
    pub realm: RealmId,
    pub headers: Headers,
    /// It came in fragments.
    pub reassembled: Option<Reassembled>,
    /// Canonical, with the network and realm that own it.
    pub source: Located,
    pub destination: Located,
    /// It was sent to a port of a pool that its destination is bound to, not to an address or a forward of the
    /// destination's own: no grant towards the destination lets it in.
    pub by_binding: bool,
    /// As the destination realm will see it. Until `policy` has let the packet through, a source that is shown by a pool
    /// is still [`Shown::NOTHING`]'s.
    pub shown: Shown,
    /// The tunnel it leaves by.
    pub egress: TunnelId,
    /// It leaves in fragments with so many bytes of payload; 0: whole.
    pub fragment_payload_bytes: u16,
    /// Largest TCP segment that fits both tunnels' MTU; only used on SYN.
    pub max_mss_bytes: u16,
    /// Bytes of the packet in its buffer.
    pub(super) len: u32,
}

impl Meta {
    const NOWHERE: Located = Located { canonical: Canonical(0), network: NetworkId(0), realm: RealmId::IX };

    #[inline]
    pub(super) fn arrived(ingress: TunnelId, realm: RealmId, len: usize) -> Self {
        Meta {
            fate: Fate::Live,
            ingress,
            realm,
            headers: Headers::default(),
            reassembled: None,
            source: Self::NOWHERE,
            destination: Self::NOWHERE,
            by_binding: false,
            shown: Shown::NOTHING,
            egress: TunnelId::NONE,
            fragment_payload_bytes: 0,
            max_mss_bytes: u16::MAX,
            len: len as u32,
        }
    }

    #[inline]
    pub fn is_live(&self) -> bool {
        self.fate == Fate::Live
    }

    /// The destination speaks another IP version than the source: the packet becomes one of [`Meta::shown`]'s.
    #[inline]
    pub fn crosses_families(&self) -> bool {
        self.headers.is_v6() != self.shown.destination.is_ipv6()
    }

    /// The packet in the buffer is another one now, of this length.
    #[inline]
    pub fn set_total_bytes(&mut self, total_bytes: usize) {
        self.headers.total_bytes = total_bytes;
        self.len = total_bytes as u32;
    }

    /// Still walking, and ready to be sealed or on its way there.
    #[inline]
    pub fn is_leaving(&self) -> bool {
        matches!(self.fate, Fate::Live | Fate::Translated)
    }

    /// Ends the packet's walk; the first reason stands.
    #[inline]
    pub fn drop(&mut self, reason: DropReason) {
        if self.is_leaving() {
            self.fate = Fate::Dropped(reason);
        }
    }
}
