//! One AF_XDP socket: one receive queue of an interface, with memory and rings of its own.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::chunks::{Receiving, Transmitting, Umem};
use super::error::Mode;
use super::memory::Mapping;
use super::ring::{Consumer, Entry, Offsets, Producer, Ring};
use crate::io::frames::transmit::Patience;

/// Chunks for receiving: at 1 M frames/s they ride out 2 ms in which nobody looks.
const RECEIVE_CHUNKS: u32 = 2048;
/// Chunks for sending, on the queue that sends.
const TRANSMIT_CHUNKS: u32 = 1024;
/// The smallest that the kernel makes of use; on queues that send nothing.
const UNUSED_RING: u32 = 2;
/// Frames on their way out are charged to the socket: enough for all of them.
const SEND_BUFFER_BYTES: c_int = 8 << 20;
/// Frames that the kernel takes out of the transmit ring in one call (since Linux 6.17; before that, 32).
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
/// Calls for one batch: all chunks at the old budget, and as many refusals.
const MAX_KICKS: u32 = 2 * TRANSMIT_CHUNKS / 32;
/// The kernel takes a closed socket off its queue, and lets go of its memory, a little later: what is in the way may be our own, from
/// before, or from an attempt with zero copy.
const MAX_RETRIES: u32 = 50;
const RETRY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Queue {
    pub receiving: Receiving,
    pub transmitting: Transmitting,
    /// The kernel sends (and copies) only while it is called.
    is_copied: bool,
    pub patience: Patience,
    socket: OwnedFd,
}

/// Where a socket is to be bound.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub interface_index: u32,
    pub queue: u32,
    pub mode: Mode,
    pub chunk_bytes: u32,
    /// It can send.
    pub transmits: bool,
}

impl Queue {
    pub fn open(place: Place) -> io::Result<Self> {
        let socket = open_socket()?;
        let fd = socket.as_fd();
        let transmit_chunks = if place.transmits { TRANSMIT_CHUNKS } else { 0 };
        let chunks = RECEIVE_CHUNKS + transmit_chunks;
        let memory = Arc::new(Mapping::for_frames(chunks as usize * place.chunk_bytes as usize)?);
        let umem = Umem { memory, chunk_bytes: place.chunk_bytes };
        register(fd, &umem, chunks)?;
        set_option(fd, libc::XDP_UMEM_FILL_RING, &RECEIVE_CHUNKS)?;
        let transmit_ring = transmit_chunks.max(UNUSED_RING);
        set_option(fd, libc::XDP_UMEM_COMPLETION_RING, &transmit_ring)?;
        set_option(fd, libc::XDP_RX_RING, &RECEIVE_CHUNKS)?;
        set_option(fd, libc::XDP_TX_RING, &transmit_ring)?;
        let _ = set_option(fd, XDP_MAX_TX_SKB_BUDGET, &transmit_ring);
        enlarge_send_buffer(fd);
        let offsets: libc::xdp_mmap_offsets = option(fd, libc::XDP_MMAP_OFFSETS)?.whole()?;
        let fill = Producer::new(map(fd, libc::XDP_UMEM_PGOFF_FILL_RING as i64, &offsets.fr, RECEIVE_CHUNKS)?);
        let ring = Consumer::new(map(fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, RECEIVE_CHUNKS)?);
        let receiving = Receiving::new(umem.clone(), 0..RECEIVE_CHUNKS, fill, ring);
        let ring = Producer::new(map(fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, transmit_ring)?);
        let pages = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
        let completion = Consumer::new(map(fd, pages, &offsets.cr, transmit_ring)?);
        let transmitting = Transmitting::new(umem, RECEIVE_CHUNKS..chunks, ring, completion);
        bind(fd, place)?;
        Ok(Queue {
            receiving,
            transmitting,
            is_copied: place.mode != Mode::NativeZeroCopy,
            patience: Patience::default(),
            socket,
        })
    }

    /// Lets the kernel see the chunks given back.
    pub fn refill(&self) {
        self.receiving.publish();
        if self.receiving.fill.wants_wakeup() {
            // SAFETY: no buffer. The result does not matter: whatever is wrong, nothing comes.
            unsafe {
                libc::recvfrom(self.raw(), ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut())
            };
        }
    }

    /// Has the kernel send what was put into the transmit ring. An error: the interface is down or gone.
    pub fn kick(&self) -> io::Result<()> {
        self.transmitting.publish();
        let ring = &self.transmitting.ring;
        let mut pending = ring.pending();
        for _ in 0..MAX_KICKS {
            if pending == 0 || !ring.wants_wakeup() {
                break;
            }
            // SAFETY: no buffer and no address.
            let result = unsafe { libc::sendto(self.raw(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
            if result < 0 {
                let error = io::Error::last_os_error();
                if !is_passing(&error) {
                    return Err(error);
                }
            }
            let left = ring.pending();
            if !self.is_copied || left == pending {
                break;
            }
            pending = left;
        }
        Ok(())
    }

    /// Some frames wait in the transmit ring for somebody to call.
    pub fn is_stuck(&self) -> bool {
        self.is_copied && self.transmitting.ring.pending() > 0
    }

    pub fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        Ok(option(self.socket.as_fd(), libc::XDP_STATISTICS)?.value)
    }

    fn raw(&self) -> c_int {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The kernel could not take more just now.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR))
}

fn open_socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    check(fd)?;
    // SAFETY: a fresh file descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn register(socket: BorrowedFd<'_>, umem: &Umem, chunks: u32) -> io::Result<()> {
    let registration = libc::xdp_umem_reg_v1 {
        addr: umem.memory.address(),
        len: u64::from(chunks) * u64::from(umem.chunk_bytes),
        chunk_size: umem.chunk_bytes,
        headroom: 0,
    };
    patiently(|| set_option(socket, libc::XDP_UMEM_REG, &registration))
}

fn bind(socket: BorrowedFd<'_>, place: Place) -> io::Result<()> {
    let copy = if place.mode == Mode::NativeZeroCopy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: copy | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: place.interface_index,
        sxdp_queue_id: place.queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is `len` readable bytes that outlive the call.
    patiently(|| check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }))
}

/// Tries again when a queue is busy or there is no more memory to lock.
fn patiently(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..MAX_RETRIES {
        match attempt() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOBUFS)) => thread::sleep(RETRY),
            result => return result,
        }
    }
    attempt()
}

fn map<E: Entry>(
    socket: BorrowedFd<'_>,
    page_offset: i64,
    offsets: &libc::xdp_ring_offset,
    size: u32,
) -> io::Result<Ring<E>> {
    let offsets = Offsets {
        producer: offsets.producer as usize,
        consumer: offsets.consumer as usize,
        entries: offsets.desc as usize,
        flags: offsets.flags as usize,
    };
    let len = offsets.len::<E>(size).ok_or_else(not_understood)?;
    let memory = Mapping::of_socket(socket, page_offset, len)?;
    Ok(Ring::new(Arc::new(memory), offsets, size))
}

fn enlarge_send_buffer(socket: BorrowedFd<'_>) {
    for option in [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
        let (value, len) = (SEND_BUFFER_BYTES, size_of::<c_int>() as libc::socklen_t);
        let pointer = (&raw const value).cast::<c_void>();
        // SAFETY: `pointer` is to `len` readable bytes that outlive the call.
        if unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, pointer, len) } == 0 {
            return;
        }
    }
}

/// Structures of the kernel's that are exchanged with it.
///
/// # Safety
/// Made of whole numbers only: all zeroes are a valid value, as is whatever the kernel writes.
unsafe trait WholeNumbers: Copy {}

// SAFETY: a number.
unsafe impl WholeNumbers for u32 {}
// SAFETY: addresses and lengths, as numbers.
unsafe impl WholeNumbers for libc::xdp_umem_reg_v1 {}
// SAFETY: four structures of offsets.
unsafe impl WholeNumbers for libc::xdp_mmap_offsets {}
// SAFETY: counts.
unsafe impl WholeNumbers for libc::xdp_statistics {}

fn set_option<T: WholeNumbers>(socket: BorrowedFd<'_>, name: c_int, value: &T) -> io::Result<()> {
    let (pointer, len) = (ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: `pointer` is to `len` readable bytes that outlive the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, pointer, len) })
}

/// What the kernel has said; zeroes, where it said less.
struct Answer<T> {
    value: T,
    bytes: usize,
}

impl<T> Answer<T> {
    /// Other kernels have other, shorter structures, with other things in the same places.
    fn whole(self) -> io::Result<T> {
        if self.bytes == size_of::<T>() { Ok(self.value) } else { Err(not_understood()) }
    }
}

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this kernel tells of its rings in a way that is not known here")
}

fn option<T: WholeNumbers>(socket: BorrowedFd<'_>, name: c_int) -> io::Result<Answer<T>> {
    // SAFETY: of whole numbers, all zeroes are a valid value.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    let pointer = (&raw mut value).cast();
    // SAFETY: `pointer` is to `len` writable bytes, for which whatever is written is a valid value; both outlive the call.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, pointer, &mut len) })?;
    Ok(Answer { value, bytes: len as usize })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_length_is_not_read_as_ours() {
        let bytes = size_of::<u32>();
        assert_eq!(Answer { value: 7_u32, bytes }.whole().unwrap(), 7);
        for bytes in [0, bytes - 1, bytes + 1] {
            assert_eq!(Answer { value: 7_u32, bytes }.whole().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
