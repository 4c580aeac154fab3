//! One session: the keys of both directions, and the counters that must never repeat under them.
//!
//! A data message is a header of 16 bytes (type, receiver index, counter), the packet sealed with the counter as the
//! nonce, and its tag. What the cryptography itself does is `crypto::batch`: here is what stands before and behind it.

use std::ops::Range;
use std::time::Duration;

use super::event::Role;
use super::message::{DATA_HEADER_BYTES, DATA_OVERHEAD_BYTES, data_header};
use super::noise::TransportKeys;
use super::replay::ReplayWindow;
use crate::crypto::PacketKey;
use crate::net::Timestamp;
use crate::packet::DropReason;

/// A session serves so long, in both directions. Then its keys are erased.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Messages sent under one session after which a new one is made.
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// The first counter that is never used: 2^64 - 2^13 - 1 (the paper, section 6.1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// The keys are erased when they are dropped. In this order in memory: what each message to us asks for, in one cache line; by the role is told,
/// too, whether there is a session. Behind the window's older lanes what each message from us asks for besides.
#[repr(C, align(64))]
pub struct Session {
    opener: PacketKey,
    expires_at: Timestamp,
    /// What messages to us are addressed with.
    index: u32,
    role: Role,
    window: ReplayWindow,
    /// And those to the peer.
    remote_index: u32,
    /// The counter of the next message that we send.
    next_counter: u64,
    sealer: PacketKey,
    created_at: Timestamp,
}

const _: () = assert!(std::mem::offset_of!(Session, window) + ReplayWindow::HOT_BYTES <= 64);

impl Session {
    pub fn new(keys: &TransportKeys, role: Role, index: u32, remote_index: u32, now: Timestamp) -> Self {
        Session {
            opener: PacketKey::of_wireguard(&keys.receive),
            expires_at: now + REJECT_AFTER_TIME,
            index,
            remote_index,
            role,
            window: ReplayWindow::default(),
            next_counter: 0,
            sealer: PacketKey::of_wireguard(&keys.send),
            created_at: now,
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

    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    pub fn has_sent_much(&self) -> bool {
        self.next_counter >= REKEY_AFTER_MESSAGES
    }

    #[inline]
    pub fn opening_key(&self) -> &PacketKey {
        &self.opener
    }

    #[inline]
    pub fn sealing_key(&self) -> &PacketKey {
        &self.sealer
    }

    /// Reads what every message to us needs.
    #[inline]
    pub fn touch_in(&self) -> u64 {
        self.expires_at.as_micros() ^ u64::from(self.index) ^ self.window.touch()
    }

    /// The same of every message from us.
    #[inline]
    pub fn touch_out(&self) -> u64 {
        self.expires_at.as_micros() ^ u64::from(self.remote_index) ^ self.next_counter ^ self.created_at.as_micros()
    }

    /// Whether a message with this counter is to be opened, while the session serves. Changes nothing.
    #[inline]
    pub fn admit(&self, counter: u64) -> Result<(), DropReason> {
        match counter < REJECT_AFTER_MESSAGES && self.window.is_new(counter) {
            true => Ok(()),
            false => Err(DropReason::DataReplayed),
        }
    }

    /// Notes an admitted message that is authentic. Of those that were admitted together one may be the other's replay.
    #[inline]
    pub fn accept(&mut self, counter: u64) -> Result<(), DropReason> {
        match counter < REJECT_AFTER_MESSAGES && self.window.take(counter) {
            true => Ok(()),
            false => Err(DropReason::DataReplayed),
        }
    }

    /// Notes so many admitted messages with counters behind one another that are authentic, at most 64, if all of them are newer than any before.
    #[inline]
    pub fn accept_newest(&mut self, first: u64, count: u64) -> bool {
        first < REJECT_AFTER_MESSAGES - count && self.window.take_newest(first, count)
    }

    /// Takes so many of the next counters, or as many as there are: none of one that is spent. Whatever comes of the messages,
    /// they are used up.
    #[inline]
    pub fn take_counters(&mut self, count: u64, now: Timestamp) -> Range<u64> {
        let left = if self.is_spent(now) { 0 } else { REJECT_AFTER_MESSAGES - self.next_counter };
        let first = self.next_counter;
        self.next_counter += count.min(left);
        first..self.next_counter
    }

    #[inline]
    pub fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// Seals `packet`, lengthened by zeros to `padded_bytes`, into `message`, which is [`DATA_OVERHEAD_BYTES`] longer than
    /// that. Only while the session is not spent.
    pub fn seal(&mut self, packet: &[u8], padded_bytes: usize, message: &mut [u8]) -> Result<(), DropReason> {
        debug_assert_eq!(message.len(), padded_bytes + DATA_OVERHEAD_BYTES);
        let broken = DropReason::EgressQueueFull; // `message` is too short, which its maker has ruled out
        let (header, body) = message.split_first_chunk_mut::<DATA_HEADER_BYTES>().ok_or(broken)?;
        let body = Some(body).filter(|body| body.len() >= DATA_OVERHEAD_BYTES - DATA_HEADER_BYTES).ok_or(broken)?;
        let (filled, padding) = body[..padded_bytes].split_at_mut_checked(packet.len()).ok_or(broken)?;
        filled.copy_from_slice(packet);
        padding.fill(0);
        let counter = self.next_counter;
        *header = data_header(self.remote_index, counter);
        self.next_counter += 1;
        self.sealer.seal_message(counter, body);
        Ok(())
    }

    #[cfg(test)]
    pub fn skip_to(&mut self, counter: u64) {
        self.next_counter = counter;
    }
}
