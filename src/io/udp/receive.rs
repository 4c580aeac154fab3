//! A batch of received messages, taken apart into datagrams.
//!
//! With receive offload (GRO) one message holds many datagrams of one size from one sender, the last perhaps shorter;
//! the kernel tells the size beside it. [`RecvBatch::datagrams`] walks over all of them without copying.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::send::is_left_behind;
use super::sys::{self, Envelope, Incoming, MAX_MESSAGES};
use crate::io::memory::{HUGE_PAGE_BYTES, prefer_huge_pages};
use crate::net::{Path, Port};
use crate::packet::Datagram;

/// The largest message that the kernel joins.
const MESSAGE_BYTES: usize = 65_536;
/// Apart by an odd number of cache lines, so that the first lines of all messages do not fall into one cache set.
const STRIDE_BYTES: usize = MESSAGE_BYTES + 3 * 64;
/// The ECN bits of a traffic class (RFC 3168 section 5).
const ECN_BITS: u8 = 0b11;
/// Pending errors (left by ICMP for datagrams sent earlier) that one call may meet before it gives up.
const MAX_PENDING_ERRORS: usize = 8;

/// Buffers for one call, made once: 2 MiB, in a huge page where the kernel has them; elsewhere only what is used becomes memory.
#[derive(Debug)]
pub struct RecvBatch {
    bytes: Box<[u8]>,
    /// Of the first slot.
    first_byte: usize,
    envelopes: Box<[Envelope; MAX_MESSAGES]>,
    messages: Vec<Message>,
}

/// What a socket gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// What the transport carries.
    Payload,
    /// Its IPv4 header too, as raw sockets of that family have it.
    WithIpv4Header,
}

/// What never became a datagram, on one socket.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RecvCounters {
    /// Messages that did not fit their buffer or came with unreadable addresses.
    pub truncated: u64,
    /// Datagrams that the socket's receive buffer had no room for (wraps at 2^32).
    pub overflow_drops: u32,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    path: Path,
    slot: usize,
    /// Where the datagrams begin in the slot.
    offset: usize,
    len: usize,
    ecn: u8,
    /// Never zero.
    segment_bytes: usize,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvBatch {
    pub fn new() -> Self {
        let bytes: Box<[u8]> = vec![0; STRIDE_BYTES * MAX_MESSAGES + HUGE_PAGE_BYTES].into();
        let first_byte = bytes.as_ptr().align_offset(HUGE_PAGE_BYTES).min(HUGE_PAGE_BYTES);
        let addresses = bytes[first_byte..].as_ptr_range();
        // Messages lie in many pages; one huge page holds nearly all of them.
        let _ = prefer_huge_pages(addresses.start.addr()..addresses.end.addr());
        RecvBatch {
            bytes,
            first_byte,
            envelopes: Box::new([Envelope::EMPTY; MAX_MESSAGES]),
            messages: Vec::with_capacity(MAX_MESSAGES),
        }
    }

    /// Every datagram of the last receive, in the order of arrival.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.messages.iter().flat_map(|message| {
            let start = self.first_byte + message.slot * STRIDE_BYTES + message.offset;
            let bytes = &self.bytes[start..start + message.len];
            // An empty datagram is one too: it must be counted, and `chunks` would leave it out.
            let empty = bytes.is_empty().then_some(bytes);
            let (path, ecn) = (message.path, message.ecn);
            let all = empty.into_iter().chain(bytes.chunks(message.segment_bytes));
            all.map(move |bytes| Datagram { path, bytes, ecn })
        })
    }

    /// Bytes and datagrams of the last receive.
    pub fn size(&self) -> (usize, usize) {
        self.messages.iter().fold((0, 0), |(bytes, datagrams), message| {
            (bytes + message.len, datagrams + message.len.div_ceil(message.segment_bytes).max(1))
        })
    }

    /// Receives what is there, up to `limit` messages or a batch. 0: nothing.
    pub(in crate::io) fn fill(
        &mut self,
        fd: BorrowedFd<'_>,
        limit: usize,
        port: Port,
        content: Content,
        counters: &mut RecvCounters,
    ) -> io::Result<usize> {
        self.messages.clear();
        let mut incoming = self.bytes[self.first_byte..]
            .chunks_exact_mut(STRIDE_BYTES)
            .zip(self.envelopes.iter_mut())
            .map(|(buffer, envelope)| Incoming { buffer: &mut buffer[..MESSAGE_BYTES], envelope });
        let mut incoming: [Incoming<'_>; MAX_MESSAGES] =
            std::array::from_fn(|_| incoming.next().expect("a slot for every message"));
        let received = receive_past_pending_errors(fd, &mut incoming[..limit.min(MAX_MESSAGES)])?;
        for slot in 0..received {
            self.note(slot, port, content, counters);
        }
        Ok(received)
    }

    fn note(&mut self, slot: usize, port: Port, content: Content, counters: &mut RecvCounters) {
        let envelope = &self.envelopes[slot];
        let told = envelope.control.read();
        if let Some(drops) = told.overflow_drops {
            counters.overflow_drops = drops;
        }
        let offset = match content {
            Content::Payload => Some(0),
            Content::WithIpv4Header => {
                ipv4_header_bytes(&self.bytes[self.first_byte + slot * STRIDE_BYTES..][..envelope.len])
            }
        };
        match (envelope.address.decode(), offset) {
            // Without its control messages a joined message could be cut wrongly: neither is usable.
            (Some(remote), Some(offset)) if !envelope.truncated => {
                let path = Path { port, remote, local: told.local.filter(is_usable_source) };
                let len = envelope.len - offset;
                let segment_bytes = told.segment_bytes.unwrap_or(len).max(1);
                let ecn = told.traffic_class.unwrap_or(0) & ECN_BITS;
                self.messages.push(Message { path, slot, offset, len, ecn, segment_bytes });
            }
            _ => counters.truncated += 1,
        }
    }
}

/// RFC 791 section 3.1. `None`: no IPv4 packet, or shorter than its header says.
fn ipv4_header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let header_bytes = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && (20..=packet.len()).contains(&header_bytes)).then_some(header_bytes)
}

/// An answer can be sent from it. Datagrams to a multicast group come to an address that is no source.
fn is_usable_source(local: &IpAddr) -> bool {
    !local.is_multicast() && !local.is_unspecified()
}

fn receive_past_pending_errors(fd: BorrowedFd<'_>, incoming: &mut [Incoming<'_>]) -> io::Result<usize> {
    let mut met = 0;
    loop {
        match sys::receive(fd, incoming) {
            Ok(received) => return Ok(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if is_harmless(&error) => {
                met += 1;
                if met == MAX_PENDING_ERRORS {
                    return Ok(0);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// An error about something that was sent earlier (a peer's port was closed, a route is gone), or a signal: says nothing
/// about what can be received.
fn is_harmless(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|error| {
        is_left_behind(error) || matches!(error, libc::EINTR | libc::ENETDOWN | libc::ENOMEM | libc::ENOBUFS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_header_is_found_whatever_its_length_and_nothing_else_is_taken_for_one() {
        let packet = |first: u8, len: usize| {
            let mut packet = vec![0; len];
            packet[0] = first;
            ipv4_header_bytes(&packet)
        };
        assert_eq!((packet(0x45, 40), packet(0x4f, 60)), (Some(20), Some(60)));
        assert_eq!((packet(0x44, 40), packet(0x4f, 59), packet(0x65, 60), packet(0x45, 19)), (None, None, None, None));
        assert_eq!(ipv4_header_bytes(&[]), None);
    }
}
