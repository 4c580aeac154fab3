//! IKE messages that wait for their turn, so that public-key operations cannot hold up packets.
//!
//! Each call into the engine has [`MESSAGES_PER_CALL`] to spend. While there is some left and nobody waits, a message is
//! handled at once; else it waits here. Messages that claim to belong to an IKE SA go before those of strangers, because
//! a peer that is not answered is lost, whereas a stranger can try again; every fourth turn is a stranger's all the same.
//! Both queues are bounded, in messages and in bytes: who finds them full is dropped, and sends again.

use std::collections::VecDeque;

use crate::net::Path;

/// Most IKE messages handled in one call. The dearest (an RSA signature and its chain, a MODP-4096 share) cost a few
/// milliseconds each, the usual ones a tenth of one.
pub(super) const MESSAGES_PER_CALL: u32 = 8;
/// In each queue.
pub(super) const MAX_MESSAGES: usize = 1024;
pub(super) const MAX_BYTES: usize = 2 << 20;
/// Turns of known peers for one of a stranger.
const KNOWN_PER_STRANGER: u32 = 3;

/// One IKE message, without a marker.
#[derive(Debug)]
pub(super) struct Message {
    pub path: Path,
    pub ecn: u8,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Lane {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Lane {
    fn push(&mut self, message: Message) -> bool {
        let has_room = self.messages.len() < MAX_MESSAGES && self.bytes + message.bytes.len() <= MAX_BYTES;
        if has_room {
            self.bytes += message.bytes.len();
            self.messages.push_back(message);
        }
        has_room
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes.len();
        Some(message)
    }
}

#[derive(Debug, Default)]
pub(super) struct IkeQueue {
    known: Lane,
    strangers: Lane,
    /// Messages that this call may still handle.
    left: u32,
    turn: u32,
}

impl IkeQueue {
    /// A new call has begun.
    pub fn renew(&mut self) {
        self.left = MESSAGES_PER_CALL;
    }

    /// Whether a message may be handled at once. It is then counted.
    pub fn take_turn(&mut self) -> bool {
        let is_free = self.left > 0 && self.is_empty();
        self.left -= u32::from(is_free);
        is_free
    }

    /// `false`: there is no room.
    pub fn push(&mut self, message: Message) -> bool {
        match is_strangers(&message.bytes) {
            true => self.strangers.push(message),
            false => self.known.push(message),
        }
    }

    /// The next to be handled. `None`: none waits, or this call has done its share.
    pub fn next(&mut self) -> Option<Message> {
        if self.left == 0 {
            return None;
        }
        self.turn = (self.turn + 1) % (KNOWN_PER_STRANGER + 1);
        let message = match self.turn {
            0 => self.strangers.pop().or_else(|| self.known.pop()),
            _ => self.known.pop().or_else(|| self.strangers.pop()),
        }?;
        self.left -= 1;
        Some(message)
    }

    pub fn is_empty(&self) -> bool {
        self.known.messages.is_empty() && self.strangers.messages.is_empty()
    }
}

/// A first message: the responder's SPI (RFC 7296 section 3.1) is still zero.
fn is_strangers(message: &[u8]) -> bool {
    message.get(8..16).is_none_or(|responder_spi| responder_spi.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(responder_spi: u8, number: u32) -> Message {
        let mut bytes = vec![responder_spi; 16];
        bytes.extend(number.to_be_bytes());
        Message { path: Path::to(([192, 0, 2, 1], 500).into()), ecn: 0, bytes }
    }

    fn drain(queue: &mut IkeQueue) -> Vec<u8> {
        std::iter::from_fn(|| queue.next()).map(|message| message.bytes[8]).collect()
    }

    #[test]
    fn a_call_handles_its_share_and_the_rest_waits_in_order() {
        let mut queue = IkeQueue::default();
        assert!(!queue.take_turn(), "no call has begun");
        queue.renew();
        assert_eq!((0..20).filter(|_| queue.take_turn()).count(), MESSAGES_PER_CALL as usize);
        (0..2 * MESSAGES_PER_CALL).for_each(|number| assert!(queue.push(message(1, number))));
        assert!(queue.next().is_none());
        for first in [0, MESSAGES_PER_CALL] {
            queue.renew();
            assert!(!queue.take_turn(), "those who wait come first");
            let numbers: Vec<_> = std::iter::from_fn(|| queue.next()).map(|message| message.bytes[19]).collect();
            assert_eq!(numbers, (first as u8..first as u8 + MESSAGES_PER_CALL as u8).collect::<Vec<_>>());
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn known_peers_go_before_strangers_who_are_not_forgotten() {
        let mut queue = IkeQueue::default();
        for number in 0..6 {
            assert!(queue.push(message(0, number)) && queue.push(message(9, number)));
        }
        queue.renew();
        assert_eq!(drain(&mut queue), [9, 9, 9, 0, 9, 9, 9, 0]);
        queue.renew();
        assert_eq!(drain(&mut queue), [0, 0, 0, 0]);
        assert!(is_strangers(&[7; 15]), "too short to name an SA");
    }

    #[test]
    fn both_queues_are_bounded_and_strangers_take_nobody_elses_room() {
        let mut queue = IkeQueue::default();
        assert_eq!((0..2 * MAX_MESSAGES as u32).filter(|number| queue.push(message(0, *number))).count(), MAX_MESSAGES);
        assert!(queue.push(message(1, 0)));
        let long = || Message { bytes: vec![1; 60_000], ..message(1, 0) };
        assert_eq!((0..100).filter(|_| queue.push(long())).count(), MAX_BYTES / 60_000);
        queue.renew();
        assert_eq!(queue.next().map(|message| message.bytes.len()), Some(20));
        assert_eq!(queue.next().map(|message| message.bytes.len()), Some(60_000));
        assert!(queue.push(long()), "room again");
    }
}
