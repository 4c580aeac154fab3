//! IKE messages that wait for their turn, so that public-key operations cannot hold up packets.
//!
//! Each call into the engine has [`MESSAGES_PER_CALL`] to spend. While there is some left and nobody waits, a message is
//! handled at once; else it waits here. Messages that name an IKE SA of a peer go before those of strangers, because
//! a peer that is not answered is lost, whereas a stranger can try again; every fourth turn is a stranger's all the same.
//! Both queues are bounded, in messages and in bytes: who finds them full is dropped, and sends again. Each IKE SA has a
//! share of its own, so that a peer that sends without end fills nobody else's. What names no IKE SA that exists never
//! comes here.

use std::collections::{HashMap, VecDeque};

use crate::ike::Claim;
use crate::net::Path;

/// Most IKE messages handled in one call. The dearest (an RSA signature and its chain, a MODP-4096 share) cost a few
/// milliseconds each, the usual ones a tenth of one.
pub(super) const MESSAGES_PER_CALL: u32 = 8;
/// In each queue.
pub(super) const MAX_MESSAGES: usize = 1024;
pub(super) const MAX_BYTES: usize = 2 << 20;
/// Of one IKE SA. It has one request and one answer under way (RFC 7296 section 2.3), in some fragments each.
const MAX_MESSAGES_PER_SA: usize = 64;
const MAX_BYTES_PER_SA: usize = 128 << 10;
/// Turns of known peers for one of a stranger.
const KNOWN_PER_STRANGER: u32 = 3;

/// One IKE message, without a marker.
#[derive(Debug)]
pub(super) struct Message {
    pub claim: Claim,
    pub path: Path,
    pub ecn: u8,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Lane {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Messages and bytes of each IKE SA, by our SPI.
    shares: HashMap<u64, (usize, usize)>,
}

impl Lane {
    fn push(&mut self, message: Message) -> bool {
        let len = message.bytes.len();
        let (count, bytes) = message.claim.spi().and_then(|spi| self.shares.get(&spi)).copied().unwrap_or_default();
        let has_share = count < MAX_MESSAGES_PER_SA && bytes + len <= MAX_BYTES_PER_SA;
        let has_room = has_share && self.messages.len() < MAX_MESSAGES && self.bytes + len <= MAX_BYTES;
        if has_room {
            self.bytes += len;
            message.claim.spi().map(|spi| self.shares.insert(spi, (count + 1, bytes + len)));
            self.messages.push_back(message);
        }
        has_room
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        let len = message.bytes.len();
        self.bytes -= len;
        if let Some(spi) = message.claim.spi()
            && let Some((count, bytes)) = self.shares.get_mut(&spi)
        {
            (*count, *bytes) = (*count - 1, *bytes - len);
            if *count == 0 {
                self.shares.remove(&spi);
            }
        }
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
        match message.claim {
            Claim::Peers(_) => self.known.push(message),
            Claim::Strangers(_) | Claim::Nobodys => self.strangers.push(message),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `of` 0: a stranger's.
    fn message(of: u8, number: u32) -> Message {
        let mut bytes = vec![of; 16];
        bytes.extend(number.to_be_bytes());
        // As if each came from an IKE SA of its own.
        let claim = if of == 0 { Claim::Nobodys } else { Claim::Peers(u64::from(number) << 8 | u64::from(of)) };
        Message { claim, path: Path::to(([192, 0, 2, 1], 500).into()), ecn: 0, bytes }
    }

    fn drain(queue: &mut IkeQueue) -> Vec<u8> {
        std::iter::from_fn(|| queue.next()).map(|message| message.bytes[0]).collect()
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
    }

    #[test]
    fn both_queues_are_bounded_and_strangers_take_nobody_elses_room() {
        let mut queue = IkeQueue::default();
        assert_eq!((0..2 * MAX_MESSAGES as u32).filter(|number| queue.push(message(0, *number))).count(), MAX_MESSAGES);
        assert!(queue.push(message(1, 0)));
        let long = |number| Message { bytes: vec![1; 60_000], ..message(1, number) };
        assert_eq!((1..100).filter(|number| queue.push(long(*number))).count(), MAX_BYTES / 60_000);
        queue.renew();
        assert_eq!(queue.next().map(|message| message.bytes.len()), Some(20));
        assert_eq!(queue.next().map(|message| message.bytes.len()), Some(60_000));
        assert!(queue.push(long(200)), "room again");
    }

    #[test]
    fn an_ike_sa_fills_no_more_than_its_share() {
        let mut queue = IkeQueue::default();
        let of_one = |claim: Claim, len: usize| Message { claim, bytes: vec![1; len], ..message(1, 0) };
        for (one, other) in [(Claim::Peers(1), Claim::Peers(2)), (Claim::Strangers(3), Claim::Nobodys)] {
            assert_eq!((0..1000).filter(|_| queue.push(of_one(one, 100))).count(), MAX_MESSAGES_PER_SA);
            assert!(queue.push(of_one(other, 100)));
        }
        assert_eq!((0..10).filter(|_| queue.push(of_one(Claim::Peers(4), 50_000))).count(), 2);
        while !queue.is_empty() {
            queue.renew();
            drain(&mut queue);
        }
        assert!(queue.known.shares.is_empty() && queue.strangers.shares.is_empty() && queue.known.bytes == 0);
        assert!(queue.push(of_one(Claim::Peers(1), 100)), "room again");
    }
}
