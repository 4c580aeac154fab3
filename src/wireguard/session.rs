//! One session: the keys of both directions, and the counters that must never repeat under them.
//!
//! A data message is a header of 16 bytes (type, receiver index, counter), the packet sealed with the counter as the
//! nonce, and its tag. Opening reads the datagram and writes the packet where it is wanted; sealing writes straight into
//! the outbox.

use std::time::Duration;

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::event::Role;
use super::message::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, Data};
use super::noise::TransportKeys;
use super::primitives::{TAG_BYTES, cipher, nonce};
use super::replay::ReplayWindow;
use crate::net::Timestamp;
use crate::packet::DropReason;

/// A session serves so long, in both directions. Then its keys are erased.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Messages sent under one session after which a new one is made.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// The first counter that is never used: 2^64 - 2^13 - 1 (the paper, section 6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The key contexts are aws-lc's, which erases them when they are dropped. What each packet touches comes first.
#[repr(C)]
pub struct Session {
    opener: LessSafeKey,
    sealer: LessSafeKey,
    /// The counter of the next message that we send.
    next_counter: u64,
    expires_at: Timestamp,
    /// What messages to us and to the peer are addressed with.
    index: u32,
    remote_index: u32,
    window: ReplayWindow,
    created_at: Timestamp,
    role: Role,
}

impl Session {
    pub fn new(keys: &TransportKeys, role: Role, index: u32, remote_index: u32, now: Timestamp) -> Self {
        Session {
            opener: cipher(&keys.receive),
            sealer: cipher(&keys.send),
            next_counter: 0,
            expires_at: now + REJECT_AFTER_TIME,
            index,
            remote_index,
            window: ReplayWindow::default(),
            created_at: now,
            role,
        }
    }

    #[inline]
    pub fn index(&self) -> u32 {
        self.index
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn age(&self, now: Timestamp) -> Duration {
        now.saturating_since(self.created_at)
    }

    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// Nothing more may be sealed.
    #[inline]
    pub fn is_spent(&self, now: Timestamp) -> bool {
        self.is_expired(now) || self.next_counter >= REJECT_AFTER_MESSAGES
    }

    /// See [`super::fetch`].
    #[inline]
    pub fn touch(&self) -> u64 {
        self.next_counter ^ self.created_at.as_micros() ^ self.window.touch()
    }

    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    pub fn has_sent_much(&self) -> bool {
        self.next_counter >= REKEY_AFTER_MESSAGES
    }

    /// Opens a data message; the length of what is in it, padding included. Nothing changes unless it is authentic.
    #[inline]
    pub fn open(&mut self, data: &Data<'_>, out: &mut [u8], now: Timestamp) -> Result<usize, DropReason> {
        if self.is_expired(now) {
            return Err(DropReason::DataUnknownSession);
        }
        if data.counter >= REJECT_AFTER_MESSAGES || !self.window.is_new(data.counter) {
            return Err(DropReason::DataReplayed);
        }
        let (text, tag) = data.sealed.split_last_chunk::<TAG_BYTES>().ok_or(DropReason::OuterMalformed)?;
        let out = out.get_mut(..text.len()).ok_or(DropReason::InnerTooLong)?;
        self.opener
            .open_separate_gather(nonce(data.counter), Aad::empty(), text, tag, out)
            .map_err(|_| DropReason::DataNotAuthentic)?;
        self.window.mark(data.counter);
        Ok(text.len())
    }

    /// Seals `packet`, lengthened by zeros to `padded_bytes`, into `message`, which is [`DATA_OVERHEAD_BYTES`] longer than
    /// that. Only while the session is not spent.
    #[inline]
    pub fn seal(&mut self, packet: &[u8], padded_bytes: usize, message: &mut [u8]) -> Result<(), DropReason> {
        debug_assert_eq!(message.len(), padded_bytes + DATA_OVERHEAD_BYTES);
        let broken = DropReason::EgressQueueFull; // `message` is too short, which its maker has ruled out
        let (header, body) = message.split_first_chunk_mut::<DATA_HEADER_BYTES>().ok_or(broken)?;
        let (text, tag) = body.split_last_chunk_mut::<TAG_BYTES>().ok_or(broken)?;
        header[..4].copy_from_slice(&[4, 0, 0, 0]);
        header[4..8].copy_from_slice(&self.remote_index.to_le_bytes());
        header[8..].copy_from_slice(&self.next_counter.to_le_bytes());
        let (filled, padding) = text.split_at_mut_checked(packet.len()).ok_or(broken)?;
        filled.copy_from_slice(packet);
        padding.fill(0);
        let nonce = nonce(self.next_counter);
        self.next_counter += 1; // whatever comes of it, this one is used up
        let sealed = self.sealer.seal_in_place_separate_tag(nonce, Aad::empty(), text).map_err(|_| broken)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    #[cfg(test)]
    pub fn skip_to(&mut self, counter: u64) {
        self.next_counter = counter;
    }
}
