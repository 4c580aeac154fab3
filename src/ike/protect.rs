//! Sealing and opening IKE messages (RFC 7296 section 3.14), in fragments where they are long (RFC 7383).
//!
//! An outer packet is at most [`OUTER_MTU_BYTES`] long, because IP fragments are what carriers and NATs lose. A message that
//! needs more goes as SKF payloads if the peer announced that it understands them, each sealed by itself.

use std::ops::Range;

use crate::crypto::{Associated, PacketKey, Suite};
use crate::net::{Path, Port};
use crate::packet::Outbox;
use crate::wire::ike::{self, Fragment, Header, Payload, Protected};

/// What every IPv6 path carries; IPv4 paths that carry less are rare, and then IP fragments do it.
pub(super) const OUTER_MTU_BYTES: usize = 1280;
/// Before an IKE message on the NAT traversal port (RFC 3948 section 2.2).
const NON_ESP_MARKER: [u8; 4] = [0; 4];
const UDP_HEADER_BYTES: usize = 8;
/// IKE header, SKF header.
const FRAGMENT_HEADERS_BYTES: usize = 28 + 8;

/// Both directions of one IKE SA.
pub(super) struct Protection {
    suite: Suite,
    seal: PacketKey,
    open: PacketKey,
    /// Counts sealed messages and fragments: the IV of AEADs never repeats.
    counter: u64,
}

/// The inside of a message: type of the first payload, and all payloads as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Inside {
    pub first: u8,
    pub bytes: Vec<u8>,
}

impl Inside {
    pub fn of(payloads: &[Payload]) -> Self {
        let (first, bytes) = ike::emit_payloads(payloads);
        Inside { first, bytes }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotAuthentic;

impl Protection {
    pub fn new(suite: Suite, seal: PacketKey, open: PacketKey) -> Self {
        Protection { suite, seal, open, counter: 0 }
    }

    /// The datagrams that carry `inside`: one, or fragments of at most `fragment_bytes` each.
    pub fn seal(&mut self, header: &Header, inside: &Inside, fragment_bytes: Option<usize>) -> Vec<Vec<u8>> {
        let whole = 28 + 4 + self.body_bytes(inside.bytes.len());
        match fragment_bytes {
            Some(most) if whole > most => self.seal_fragments(header, inside, most),
            _ => vec![self.seal_one(header, inside.first, None, &inside.bytes)],
        }
    }

    fn seal_fragments(&mut self, header: &Header, inside: &Inside, most: usize) -> Vec<Vec<u8>> {
        let overhead = FRAGMENT_HEADERS_BYTES + self.suite.iv_bytes() + self.suite.icv_bytes();
        let room = most.saturating_sub(overhead);
        let chunk = (room - room % self.suite.block_bytes()).saturating_sub(1).max(64);
        let total = inside.bytes.len().div_ceil(chunk) as u16;
        let mut datagrams = Vec::with_capacity(total.into());
        for (number, bytes) in (1..).zip(inside.bytes.chunks(chunk)) {
            let first = if number == 1 { inside.first } else { 0 }; // RFC 7383 section 2.5
            datagrams.push(self.seal_one(header, first, Some(Fragment { number, total }), bytes));
        }
        datagrams
    }

    fn seal_one(&mut self, header: &Header, first: u8, fragment: Option<Fragment>, plain: &[u8]) -> Vec<u8> {
        let body_bytes = self.body_bytes(plain.len());
        let (mut message, associated, body) = ike::lay_out_protected(header, first, fragment, body_bytes);
        let padded = body_bytes - self.suite.iv_bytes() - self.suite.icv_bytes();
        let (head, tail) = message.split_at_mut(body.start);
        let inside = &mut tail[self.suite.iv_bytes()..][..padded];
        inside[..plain.len()].copy_from_slice(plain);
        inside[padded - 1] = (padded - 1 - plain.len()) as u8;
        self.seal.seal(Associated::Ike(&head[associated]), self.counter, &mut tail[..body_bytes]);
        self.counter += 1;
        message
    }

    /// IV, plaintext, padding, its length, ICV.
    fn body_bytes(&self, plain: usize) -> usize {
        self.suite.iv_bytes() + (plain + 1).next_multiple_of(self.suite.block_bytes()) + self.suite.icv_bytes()
    }

    /// The plaintext without padding.
    pub fn open(&self, datagram: &[u8], protected: &Protected) -> Result<Vec<u8>, NotAuthentic> {
        let associated = slice(datagram, &protected.associated)?;
        let mut body = slice(datagram, &protected.body)?.to_vec();
        let plain = self.open.open(Associated::Ike(associated), &mut body).map_err(|_| NotAuthentic)?;
        let (&pad, padded) = body.get(plain.clone()).and_then(|plain| plain.split_last()).ok_or(NotAuthentic)?;
        let len = padded.len().checked_sub(pad.into()).ok_or(NotAuthentic)?;
        let start = plain.start;
        body.truncate(start + len);
        body.drain(..start);
        Ok(body)
    }
}

fn slice<'a>(bytes: &'a [u8], range: &Range<usize>) -> Result<&'a [u8], NotAuthentic> {
    bytes.get(range.clone()).ok_or(NotAuthentic)
}

/// The longest IKE message that fits into one outer packet on this path.
pub(super) fn most_bytes(path: &Path) -> usize {
    let ip_header = if path.remote.is_ipv4() { 20 } else { 40 };
    OUTER_MTU_BYTES - ip_header - UDP_HEADER_BYTES - NON_ESP_MARKER.len()
}

/// Sends datagrams on a path; on the NAT traversal port with the marker in front. What finds no room is lost, and sent
/// again like anything that is lost.
pub(super) fn transmit(datagrams: &[Vec<u8>], path: &Path, outbox: &mut Outbox) {
    let marker: &[u8] = if path.port == Port::IkeNatT { &NON_ESP_MARKER } else { &[] };
    for datagram in datagrams {
        let len = marker.len() + datagram.len();
        let Some(space) = outbox.space(len) else { return };
        let (front, rest) = space.split_at_mut(marker.len());
        front.copy_from_slice(marker);
        rest.copy_from_slice(datagram);
        outbox.commit(*path, false, len);
    }
}
