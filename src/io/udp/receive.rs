//! A batch of received messages, taken apart into datagrams.
//!
//! With receive offload (GRO) one message holds many datagrams of one size from one sender, the last perhaps shorter;
//! the kernel tells the size beside it. [`RecvBatch::datagrams`] walks over all of them without copying.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::sys::{self, Envelope, Incoming, MAX_MESSAGES};
use crate::net::Path;
use crate::packet::Datagram;

/// The largest message that the kernel joins.
const MESSAGE_BYTES: usize = 65_536;
/// Apart by an odd number of cache lines, so that the first lines of all messages do not fall into one cache set.
const STRIDE_BYTES: usize = MESSAGE_BYTES + 3 * 64;
/// Pending errors (left by ICMP for datagrams sent earlier) that one call may meet before it gives up.
const MAX_PENDING_ERRORS: usize = 8;

/// Buffers for one call, made once: 2 MiB of address space, of which only what is used becomes memory.
#[derive(Debug)]
pub struct RecvBatch {
    bytes: Box<[u8]>,
    envelopes: Box<[Envelope; MAX_MESSAGES]>,
    messages: Vec<Message>,
    counters: RecvCounters,
}

/// What never became a datagram.
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
    len: usize,
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
        RecvBatch {
            bytes: vec![0; STRIDE_BYTES * MAX_MESSAGES].into(),
            envelopes: Box::new([Envelope::EMPTY; MAX_MESSAGES]),
            messages: Vec::with_capacity(MAX_MESSAGES),
            counters: RecvCounters::default(),
        }
    }

    /// Every datagram of the last receive, in the order of arrival.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.messages.iter().flat_map(|message| {
            let start = message.slot * STRIDE_BYTES;
            let bytes = &self.bytes[start..start + message.len];
            // An empty datagram is one too: it must be counted, and `chunks` would leave it out.
            let empty = bytes.is_empty().then_some(bytes);
            let path = message.path;
            empty.into_iter().chain(bytes.chunks(message.segment_bytes)).map(move |bytes| Datagram::new(path, bytes))
        })
    }

    /// Since the beginning.
    pub fn counters(&self) -> RecvCounters {
        self.counters
    }

    /// Receives what is there, up to a batch. 0: nothing.
    pub(super) fn fill(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.messages.clear();
        let mut incoming = self
            .bytes
            .chunks_mut(STRIDE_BYTES)
            .zip(self.envelopes.iter_mut())
            .map(|(buffer, envelope)| Incoming { buffer: &mut buffer[..MESSAGE_BYTES], envelope });
        let mut incoming: [Incoming<'_>; MAX_MESSAGES] =
            std::array::from_fn(|_| incoming.next().expect("a slot for every message"));
        let received = receive_past_pending_errors(fd, &mut incoming)?;
        for slot in 0..received {
            self.note(slot);
        }
        Ok(received)
    }

    fn note(&mut self, slot: usize) {
        let envelope = &self.envelopes[slot];
        let told = envelope.control.read();
        if let Some(drops) = told.overflow_drops {
            self.counters.overflow_drops = drops;
        }
        match envelope.address.decode() {
            // Without its control messages a joined message could be cut wrongly: neither is usable.
            Some(remote) if !envelope.truncated => {
                let path = Path { local: told.local.filter(is_usable_source), ..Path::to(remote) };
                let segment_bytes = told.segment_bytes.unwrap_or(envelope.len).max(1);
                self.messages.push(Message { path, slot, len: envelope.len, segment_bytes });
            }
            _ => self.counters.truncated += 1,
        }
    }
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
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EMSGSIZE
                | libc::ENOMEM
                | libc::ENOBUFS
        )
    )
}
