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

/// What every packet needs comes first. The rest, from `headers` on, is what the stages find, and means nothing before the first of them
/// ([`Meta::clear_findings`]): packets of known flows pass none.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Meta {
    pub fate: Fate,
    /// The tunnel it came in by, and that tunnel's realm: the packet's identity.
    pub realm: RealmId,
    pub ingress: TunnelId,
    /// Bytes of the packet in its buffer.
    pub(super) len: u32,
    /// The tunnel it leaves by, and that tunnel's realm.
    pub egress: TunnelId,
    pub to: RealmId,
    /// It leaves in fragments with so many bytes of payload; 0: whole.
    pub fragment_payload_bytes: u16,
    /// Largest TCP segment that fits both tunnels' MTU; only used on SYN.
    pub max_mss_bytes: u16,
    /// It came in fragments.
    pub reassembled: Option<Reassembled>,
    pub headers: Headers,
    /// Canonical, with the network and realm that own it.
    pub source: Located,
    pub destination: Located,
    /// It was sent to a port of a pool that its destination is bound to, not to an address or a forward of the
    /// destination's own: no grant towards the destination lets it in.
    pub by_binding: bool,
    /// As the destination realm will see it. Until `policy` has let the packet through, a source that is shown by a pool
    /// is still [`Shown::NOTHING`]'s.
    pub shown: Shown,
}

impl Meta {
    const NOWHERE: Located = Located { canonical: Canonical(0), network: NetworkId(0), realm: RealmId::IX };

    /// No packet's.
    pub(super) const NONE: Meta = Meta {
        fate: Fate::Live,
        realm: RealmId::IX,
        ingress: TunnelId::NONE,
        len: 0,
        egress: TunnelId::NONE,
        to: RealmId::IX,
        fragment_payload_bytes: 0,
        max_mss_bytes: u16::MAX,
        reassembled: None,
        headers: Headers::NONE,
        source: Self::NOWHERE,
        destination: Self::NOWHERE,
        by_binding: false,
        shown: Shown::NOTHING,
    };

    /// From now on it is a packet that has just arrived.
    #[inline]
    pub(super) fn arrive(&mut self, ingress: TunnelId, realm: RealmId, len: usize) {
        self.fate = Fate::Live;
        self.realm = realm;
        self.ingress = ingress;
        self.len = len as u32;
        self.egress = TunnelId::NONE;
        self.to = RealmId::IX;
        self.fragment_payload_bytes = 0;
        self.max_mss_bytes = u16::MAX;
        self.reassembled = None;
        // So that tests find out who reads what nobody has found.
        if cfg!(debug_assertions) {
            self.clear_findings();
        }
    }

    /// Before the first stage.
    #[inline]
    pub fn clear_findings(&mut self) {
        let Meta { fate, realm, ingress, len, egress, to, fragment_payload_bytes, max_mss_bytes, reassembled, .. } =
            *self;
        *self = Meta {
            fate,
            realm,
            ingress,
            len,
            egress,
            to,
            fragment_payload_bytes,
            max_mss_bytes,
            reassembled,
            ..Meta::NONE
        };
    }

    /// Bytes of the packet in its buffer. Once the stages know its headers: by them.
    #[inline]
    pub fn buffer_bytes(&self) -> usize {
        self.len as usize
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

    /// It leaves as it is, by that tunnel, to its realm: no stage is to look at it.
    #[inline]
    pub fn let_through(&mut self, total_bytes: usize, egress: TunnelId, to: RealmId) {
        self.len = total_bytes as u32;
        self.egress = egress;
        self.to = to;
        self.fate = Fate::Translated;
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

    /// It has been taken for forwarded, and came to nothing.
    #[cold]
    pub fn drop_forwarded(&mut self, reason: DropReason) {
        debug_assert_eq!(self.fate, Fate::Forwarded);
        self.fate = Fate::Dropped(reason);
    }

    /// Ends the packet's walk; the first reason stands.
    #[inline]
    pub fn drop(&mut self, reason: DropReason) {
        if self.is_leaving() {
            self.fate = Fate::Dropped(reason);
        }
    }
}
