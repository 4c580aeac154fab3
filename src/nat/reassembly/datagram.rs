//! One datagram whose fragments are coming.

use crate::net::Timestamp;
use crate::packet::{DropReason, Reassembled};
use crate::wire::fragment::Fragment;
use crate::wire::{ipv4, ipv6};

/// What a datagram costs besides its fragments, and a fragment besides its bytes: entries of tables, and the allocator's.
pub(super) const DATAGRAM_COST_BYTES: usize = 512;
const FRAGMENT_COST_BYTES: usize = 64;

/// The two ECN bits (RFC 3168): not capable, and congestion experienced.
const NOT_ECT: u8 = 0;
const CE: u8 = 3;

pub(super) struct Datagram {
    /// Counts datagrams, so that older and newer can be told.
    pub serial: u64,
    pub deadline: Timestamp,
    /// What the fragments hold of the bound on memory.
    pub cost_bytes: usize,
    /// Nothing of it is taken any more, for this reason (RFC 5722 section 4: nor what has not come yet).
    refused: Option<DropReason>,
    /// The headers of the first fragment.
    head: Vec<u8>,
    /// By their place, without overlap.
    pieces: Vec<Piece>,
    payload_bytes: usize,
    /// Where the last fragment ends.
    end: Option<usize>,
    largest_payload_bytes: usize,
    /// Of whole fragments, and of those with DF.
    largest_bytes: usize,
    largest_df_bytes: usize,
    /// The ECN codepoints seen, a bit for each.
    ecn_seen: u8,
    identification: u32,
}

struct Piece {
    start: usize,
    bytes: Box<[u8]>,
}

impl Piece {
    fn stop(&self) -> usize {
        self.start + self.bytes.len()
    }
}

/// What a fragment holds of the bound on memory.
pub(super) fn cost_of(fragment: &Fragment) -> usize {
    fragment.total_bytes + FRAGMENT_COST_BYTES
}

impl Datagram {
    pub fn new(serial: u64, deadline: Timestamp, identification: u32) -> Self {
        Datagram {
            serial,
            deadline,
            cost_bytes: DATAGRAM_COST_BYTES,
            refused: None,
            head: Vec::new(),
            pieces: Vec::new(),
            payload_bytes: 0,
            end: None,
            largest_payload_bytes: 0,
            largest_bytes: 0,
            largest_df_bytes: 0,
            ecn_seen: 0,
            identification,
        }
    }

    /// Fragments that wait here.
    pub fn fragments(&self) -> usize {
        self.pieces.len()
    }

    pub fn refused(&self) -> Option<DropReason> {
        self.refused
    }

    /// Lets go of everything, and takes nothing more. How many fragments that were.
    pub fn refuse(&mut self, reason: DropReason) -> usize {
        let fragments = self.pieces.len();
        (self.head, self.pieces, self.cost_bytes) = (Vec::new(), Vec::new(), DATAGRAM_COST_BYTES);
        self.refused = Some(reason);
        fragments
    }

    /// Where the fragment belongs among the pieces.
    pub fn place(&self, fragment: &Fragment, payload: &[u8]) -> Result<usize, DropReason> {
        let (start, stop) = (fragment.offset, fragment.offset + payload.len());
        let place = self.pieces.partition_point(|piece| piece.start < start);
        let next = self.pieces.get(place);
        let is_known_end = self.end == Some(stop);
        if next.is_some_and(|next| next.start == start && *next.bytes == *payload) && is_known_end != fragment.more {
            return Err(DropReason::FragmentDuplicate);
        }
        let begins_inside = place > 0 && self.pieces[place - 1].stop() > start;
        let ends_inside = next.is_some_and(|next| next.start < stop);
        let past_the_end = match (self.end, fragment.more) {
            (Some(end), true) => stop >= end,
            (Some(end), false) => stop != end,
            (None, true) => false,
            (None, false) => self.pieces.last().is_some_and(|last| last.stop() > start),
        };
        if begins_inside || ends_inside || past_the_end {
            return Err(DropReason::FragmentOverlap);
        }
        Ok(place)
    }

    pub fn insert(&mut self, place: usize, fragment: &Fragment, packet: &[u8]) {
        let payload = &packet[fragment.payload_at..fragment.total_bytes];
        if fragment.offset == 0 {
            self.head = packet[..fragment.header_bytes].to_vec();
            self.head[fragment.next_header_at] = fragment.protocol;
        }
        if !fragment.more {
            self.end = Some(fragment.offset + payload.len());
        }
        self.pieces.insert(place, Piece { start: fragment.offset, bytes: payload.into() });
        self.payload_bytes += payload.len();
        self.largest_payload_bytes = self.largest_payload_bytes.max(payload.len());
        self.largest_bytes = self.largest_bytes.max(fragment.total_bytes);
        if fragment.dont_fragment {
            self.largest_df_bytes = self.largest_df_bytes.max(fragment.total_bytes);
        }
        self.ecn_seen |= 1 << ecn_of(packet);
        self.cost_bytes += cost_of(fragment);
    }

    /// Without overlap, as many bytes as the end says are all of them.
    pub fn is_complete(&self) -> bool {
        self.end == Some(self.payload_bytes)
    }

    /// What is complete may still be no datagram: too long with the first fragment's headers, or marked by a router where
    /// it does not understand marks (RFC 3168 section 5.3).
    pub fn is_valid(&self) -> bool {
        let longest = if self.is_v6() { ipv6::HEADER_BYTES + usize::from(u16::MAX) } else { usize::from(u16::MAX) };
        let contradicts = self.has_seen(CE) && self.has_seen(NOT_ECT);
        self.head.len() + self.payload_bytes <= longest && !contradicts
    }

    /// Writes the whole datagram, and gives its length.
    pub fn assemble(&self, out: &mut [u8]) -> usize {
        let (head, payload) = out.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        for piece in &self.pieces {
            payload[piece.start..piece.stop()].copy_from_slice(&piece.bytes);
        }
        let total = self.head.len() + self.payload_bytes;
        if self.is_v6() {
            let length = (total - ipv6::HEADER_BYTES) as u16;
            head[ipv6::PAYLOAD_LENGTH..ipv6::PAYLOAD_LENGTH + 2].copy_from_slice(&length.to_be_bytes());
            head[1] |= if self.has_seen(CE) { CE << 4 } else { 0 };
        } else {
            // One small fragment with DF says nothing about the large ones.
            let dont_fragment = self.largest_df_bytes == self.largest_bytes;
            let flags = if dont_fragment { ipv4::DONT_FRAGMENT } else { 0 };
            head[ipv4::TOTAL_LENGTH..ipv4::TOTAL_LENGTH + 2].copy_from_slice(&(total as u16).to_be_bytes());
            head[ipv4::FRAGMENT..ipv4::FRAGMENT + 2].copy_from_slice(&flags.to_be_bytes());
            head[1] |= if self.has_seen(CE) { CE } else { 0 };
            ipv4::renew_checksum(head);
        }
        total
    }

    pub fn summary(&self) -> Reassembled {
        Reassembled {
            identification: self.identification,
            largest_payload_bytes: self.largest_payload_bytes.min(u16::MAX.into()) as u16,
        }
    }

    fn is_v6(&self) -> bool {
        self.head.first().is_some_and(|first| first >> 4 == 6)
    }

    fn has_seen(&self, ecn: u8) -> bool {
        self.ecn_seen & 1 << ecn != 0
    }
}

fn ecn_of(packet: &[u8]) -> u8 {
    match packet[0] >> 4 {
        4 => packet[1] & 3,
        _ => packet[1] >> 4 & 3,
    }
}
