//! What the gate's program and we share: the ports to look at, and the account of each queue. Some pages, mapped by both.
//!
//! ```text
//! 0     ports, 64 bytes each   number | IP version, 0: both | 1: bound to an address, which follows
//! 192   the bell               how many were shed, of all queues
//! 200   beyond the credit      how many were let in by their shares, of all queues | allowed
//! 256   queues, 128 each       admitted | shed | when one was let in beyond the credit  ‖  allowed
//! 16640 shares, 128 each queue when one of each was let in beyond the credit
//! ```
//!
//! Every word has one writer: all that are *allowed* and the ports are ours, all else is the program's. Only how many shares are allowed has
//! several: all threads that read queues. They are read while the other writes, each whole.
//! Numbers count datagrams since the beginning.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::bpf;
use crate::io::frames::sys::Mapping;

/// Queues that there may be; as many as the poller has tokens.
pub const QUEUES: usize = 128;
/// Of UDP: WireGuard's, IKE's, and that of IKE and ESP behind NAT.
pub const PORTS: usize = 3;

// In bytes.
pub const PORT_BYTES: usize = 64;
pub const PORT_NUMBER: usize = 0;
pub const PORT_VERSION: usize = 8;
pub const PORT_BOUND: usize = 16;
pub const PORT_ADDRESS: usize = 24;
pub const BELL: usize = PORTS * PORT_BYTES;
pub const SHARED: usize = BELL + 8;
/// In the line of what the program counts when it drops: who reads looks at both each time, and seldom writes.
pub const SHARED_ALLOWED: usize = BELL + 16;
pub const QUEUES_AT: usize = 256;
pub const QUEUE_BITS: u32 = 7;
pub const QUEUE_BYTES: usize = 1 << QUEUE_BITS;
pub const ADMITTED: usize = 0;
pub const SHED: usize = 8;
pub const BEYOND_AT: usize = 16;
/// In a cache line of its own: another core may write it.
pub const ALLOWED: usize = 64;
/// Of each queue, in the same distance from one another; a word for each share.
pub const SHARES_AT: usize = QUEUES_AT + QUEUES * QUEUE_BYTES;
pub const SHARE_BITS: u32 = 4;
pub const SHARE_BYTES: usize = 8;
const BYTES: usize = SHARES_AT + QUEUES * QUEUE_BYTES;
const _: () = assert!(SHARED_ALLOWED + 8 <= QUEUES_AT && QUEUES.is_power_of_two());
const _: () = assert!(SHARE_BYTES << SHARE_BITS == QUEUE_BYTES);

#[derive(Debug)]
pub struct Memory {
    map: OwnedFd,
    mapping: Mapping,
}

// SAFETY: all access is by atomics.
unsafe impl Sync for Memory {}

impl Memory {
    /// All zeroes. Needs CAP_BPF.
    pub fn new() -> io::Result<Self> {
        let map = bpf::shared_memory(*b"ixgate_gate\0\0\0\0\0", BYTES as u32)?;
        let mapping = Mapping::new(map.as_fd(), BYTES)?;
        Ok(Memory { map, mapping })
    }

    /// For programs that use it.
    pub fn descriptor(&self) -> i32 {
        self.map.as_raw_fd()
    }

    pub fn read(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    pub fn write(&self, offset: usize, value: u64) {
        // In the order in which they are written: a port's number stands for its address.
        self.word(offset).store(value, Ordering::Release);
    }

    /// Whether it was `before`, and has been replaced.
    pub fn replace(&self, offset: usize, before: u64, value: u64) -> bool {
        self.word(offset).compare_exchange(before, value, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "words are aligned");
        let word = self.mapping.at(offset, 8).cast::<AtomicU64>();
        // SAFETY: within the mapping, which begins at a page and lives as long as `self`; aligned as just checked. Whoever writes
        // there, here or in the kernel, writes whole words.
        unsafe { &*word }
    }
}

/// Where a queue's account begins.
pub fn queue(number: usize) -> usize {
    assert!(number < QUEUES, "a queue has a place");
    QUEUES_AT + number * QUEUE_BYTES
}
