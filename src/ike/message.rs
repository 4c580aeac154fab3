//! Taking a message's payloads apart, and putting the small ones together.

use crate::crypto::Group;
use crate::net::selector::Selector;
use crate::wire::ike::{Identification, Notify, Payload, Proposal, notify};

/// Payloads of a message by what they are. Of payloads that may stand only once, the first counts.
pub(super) struct Contents<'a>(pub &'a [Payload]);

/// A nonce has 16 to 256 bytes (section 3.9).
const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

impl<'a> Contents<'a> {
    pub fn proposals(&self) -> Option<&'a [Proposal]> {
        self.0.iter().find_map(|payload| match payload {
            Payload::SecurityAssociation(proposals) => Some(proposals.as_slice()),
            _ => None,
        })
    }

    pub fn key_exchange(&self) -> Option<(u16, &'a [u8])> {
        self.0.iter().find_map(|payload| match payload {
            Payload::KeyExchange { group, data } => Some((*group, data.as_slice())),
            _ => None,
        })
    }

    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.0.iter().find_map(|payload| match payload {
            Payload::Nonce(nonce) if NONCE_BYTES.contains(&nonce.len()) => Some(nonce.as_slice()),
            _ => None,
        })
    }

    pub fn id_initiator(&self) -> Option<&'a Identification> {
        self.0.iter().find_map(|payload| match payload {
            Payload::IdInitiator(id) => Some(id),
            _ => None,
        })
    }

    pub fn id_responder(&self) -> Option<&'a Identification> {
        self.0.iter().find_map(|payload| match payload {
            Payload::IdResponder(id) => Some(id),
            _ => None,
        })
    }

    /// Method and data.
    pub fn authentication(&self) -> Option<(u8, &'a [u8])> {
        self.0.iter().find_map(|payload| match payload {
            Payload::Authentication { method, data } => Some((*method, data.as_slice())),
            _ => None,
        })
    }

    /// Encoding and data.
    pub fn certificates(&self) -> Vec<(u8, &'a [u8])> {
        let certificates = self.0.iter().filter_map(|payload| match payload {
            Payload::Certificate { encoding, data } => Some((*encoding, data.as_slice())),
            _ => None,
        });
        certificates.collect()
    }

    /// The initiator's, then the responder's.
    pub fn selectors(&self) -> Option<(&'a [Selector], &'a [Selector])> {
        let initiator = self.0.iter().find_map(|payload| match payload {
            Payload::SelectorsInitiator(selectors) => Some(selectors.as_slice()),
            _ => None,
        });
        let responder = self.0.iter().find_map(|payload| match payload {
            Payload::SelectorsResponder(selectors) => Some(selectors.as_slice()),
            _ => None,
        });
        Some((initiator?, responder?))
    }

    pub fn notifies(&self) -> impl Iterator<Item = &'a Notify> + use<'a> {
        self.0.iter().filter_map(|payload| match payload {
            Payload::Notify(notify) => Some(notify),
            _ => None,
        })
    }

    pub fn notify(&self, kind: u16) -> Option<&'a Notify> {
        self.notifies().find(|notify| notify.kind == kind)
    }

    pub fn has(&self, kind: u16) -> bool {
        self.notify(kind).is_some()
    }

    /// The first error (types below 16384, section 3.10.1).
    pub fn error(&self) -> Option<&'a Notify> {
        self.notifies().find(|notify| notify.kind < 16384)
    }
}

/// The group that an INVALID_KE_PAYLOAD asks for.
pub(super) fn wanted_group(notify: &Notify) -> Option<Group> {
    let id = notify.data.as_slice().try_into().ok().map(u16::from_be_bytes)?;
    Group::from_id(id)
}

/// A notify about the IKE SA or the message itself.
pub(super) fn notify(kind: u16, data: impl Into<Vec<u8>>) -> Payload {
    Payload::Notify(Notify { protocol: 0, spi: Vec::new(), kind, data: data.into() })
}

/// The whole answer to what cannot be done.
pub(super) fn refusal(kind: u16) -> Vec<Payload> {
    vec![notify(kind, [])]
}

pub(super) fn invalid_ke(group: Group) -> Vec<Payload> {
    vec![notify(notify::INVALID_KE_PAYLOAD, group.id().to_be_bytes())]
}
