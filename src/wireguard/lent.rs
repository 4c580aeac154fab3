//! Opening by another thread than the one that has the peers: it is lent the key of a session, opens messages with it, and tells their counters. Whether
//! those are new, and what follows from a message that has arrived, is found here, by [`Receiver`].

use super::endpoint::Endpoint;
use super::message::Data;
use super::transport::{Receiver, text_bytes};
use crate::crypto::{PacketKey, Stamp};
use crate::net::Path;
use crate::packet::DropReason;

/// What data messages with one receiver index are opened with.
#[derive(Clone, Debug)]
pub struct Lent {
    key: PacketKey,
}

impl Lent {
    #[inline]
    pub fn key(&self) -> &PacketKey {
        &self.key
    }

    /// Which message it is, how long its text will be, and what is sealed of it. `None`: no data message.
    #[inline]
    pub fn look_up<'a>(&self, datagram: &'a [u8]) -> Option<(Stamp, usize, &'a [u8])> {
        let data = Data::parse(datagram)?;
        Some((Stamp::WireGuard { counter: data.counter }, text_bytes(data.sealed), data.sealed))
    }
}

impl Endpoint {
    /// `None`: there is no such session (any more).
    pub fn lend(&self, receiver_index: u32) -> Option<Lent> {
        Some(Lent { key: self.opener(receiver_index).ok()?.key().clone() })
    }

    /// Whether messages with that index are (still) opened with the key of this identity.
    pub fn has_lent(&self, receiver_index: u32, key: usize) -> bool {
        self.opener(receiver_index).is_ok_and(|opener| opener.key().identity() == key)
    }

    /// For authentic messages with that receiver index that were opened elsewhere with the key of this identity, and came by one
    /// path. To each of them [`Receiver::arrived`] applies, or [`Receiver::settled`]. The index may be another session's by now.
    #[inline]
    pub fn receiver_of_lent<'a>(
        &'a mut self,
        receiver_index: u32,
        key: usize,
        path: &'a Path,
    ) -> Result<Receiver<'a>, DropReason> {
        let opener = self.opener(receiver_index)?;
        if opener.key().identity() != key {
            return Err(DropReason::DataUnknownSession);
        }
        self.receiver(opener.tunnel(), receiver_index, path)
    }
}
