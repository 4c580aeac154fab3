//! Memory that we share with the kernel: a ring of descriptors, or the chunks that hold frames.
//!
//! Everything that both sides may touch at the same time is read and written as an atomic, by position, with bounds checked: that
//! is safe. Only the bytes of a frame are lent as a slice, and for that the caller must know that the kernel has given it up.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::io::memory::{HUGE_PAGE_BYTES, prefer_huge_pages};

/// Mapped until it is dropped.
#[derive(Debug)]
pub struct Mapping {
    address: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory of the process, bound to no thread; what may be done by several at once (`u32_at`, `u64_at`) is atomic, and
// `bytes` and `bytes_mut` leave it to their callers that nobody else touches the same bytes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory for frames: in huge pages where the machine has set some aside, else asked to be made of them.
    pub fn for_frames(len: usize) -> io::Result<Self> {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let whole_pages = len.next_multiple_of(HUGE_PAGE_BYTES);
        if let Ok(mapping) = Self::map(whole_pages, kind | libc::MAP_HUGETLB, -1, 0) {
            return Ok(mapping);
        }
        let mapping = Self::map(whole_pages, kind, -1, 0)?;
        let start = mapping.address.as_ptr().expose_provenance();
        // Refused, nothing is lost.
        let _ = prefer_huge_pages(start..start + mapping.len);
        Ok(mapping)
    }

    /// A ring of a socket.
    pub fn of_socket(socket: BorrowedFd<'_>, page_offset: i64, len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, socket.as_raw_fd(), page_offset)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn address(&self) -> u64 {
        self.address.as_ptr() as u64
    }

    /// The aligned word at `at` bytes.
    ///
    /// # Panics
    /// When it is not aligned, or not within the mapping.
    #[inline]
    pub fn u32_at(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4), "aligned");
        // SAFETY: aligned, as the mapping begins with a page; it lives as long as `self`; it is only ever reached as an atomic, here
        // and (by its own atomics) in the kernel.
        unsafe { AtomicU32::from_ptr(self.place(at, 4).cast()) }
    }

    /// The aligned double word at `at` bytes.
    ///
    /// # Panics
    /// When it is not aligned, or not within the mapping.
    #[inline]
    pub fn u64_at(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8), "aligned");
        // SAFETY: as in `u32_at`.
        unsafe { AtomicU64::from_ptr(self.place(at, 8).cast()) }
    }

    /// # Safety
    /// Neither the kernel nor anybody else writes these bytes while the slice lives.
    ///
    /// # Panics
    /// When they do not lie within the mapping.
    #[inline]
    pub unsafe fn bytes(&self, at: usize, len: usize) -> &[u8] {
        // SAFETY: within the mapping, initialised (zeroes at first); the caller promises that nobody writes.
        unsafe { std::slice::from_raw_parts(self.place(at, len), len) }
    }

    /// # Safety
    /// Neither the kernel nor anybody else reads or writes these bytes while the slice lives.
    ///
    /// # Panics
    /// When they do not lie within the mapping.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn bytes_mut(&self, at: usize, len: usize) -> &mut [u8] {
        // SAFETY: within the mapping, initialised (zeroes at first); the caller promises that nobody else has them.
        unsafe { std::slice::from_raw_parts_mut(self.place(at, len), len) }
    }

    /// Where `len` bytes lie: all of them within the mapping.
    #[inline]
    fn place(&self, at: usize, len: usize) -> *mut u8 {
        // No sum, which could be too large for a number and seem small.
        assert!(at <= self.len && len <= self.len - at, "within the mapping");
        // SAFETY: the offset is within the mapping.
        unsafe { self.address.as_ptr().add(at) }
    }

    fn map(len: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so nothing that is mapped already is touched.
        let address = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { address, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and no reference into it outlives `self`. What the kernel still does with the pages (it
        // holds them by themselves until the socket is closed) does not touch our address space.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "within the mapping")]
    fn bytes_beyond_the_end_are_not_given() {
        let memory = Mapping::for_frames(4096).unwrap();
        // SAFETY: nobody else has the memory.
        unsafe { memory.bytes(memory.len() - 10, 11) };
    }

    #[test]
    #[should_panic(expected = "within the mapping")]
    fn a_word_whose_end_is_no_number_is_not_given() {
        Mapping::for_frames(4096).unwrap().u32_at(usize::MAX - 3);
    }

    #[test]
    #[should_panic(expected = "within the mapping")]
    fn a_double_word_whose_end_is_no_number_is_not_given() {
        Mapping::for_frames(4096).unwrap().u64_at(usize::MAX - 7);
    }

    #[test]
    #[should_panic(expected = "aligned")]
    fn words_are_aligned() {
        Mapping::for_frames(4096).unwrap().u32_at(2);
    }
}
