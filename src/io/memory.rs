//! Who allocates memory, and how the kernel is to keep it.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;

/// The binary's allocator. It keeps what is of one size together: the SAs of all tunnels fill as few pages as they can, and so do their keys.
/// (`docs/decisions/0024-allocator.md`)
pub use mimalloc::MiMalloc as Allocator;

/// Neither larger nor smaller on x86-64; of ARM64 the smallest.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Asks that these addresses be in huge pages (madvise(2)), as far as whole ones fit between them: a table into which every packet
/// reaches somewhere else costs a look-up of the page beside that of the entry, and a huge page is one of 512 times fewer. Only pages
/// that nobody has written to yet become huge at once. `Err` where the kernel has none.
pub fn prefer_huge_pages(addresses: Range<usize>) -> io::Result<()> {
    let start = addresses.start.next_multiple_of(HUGE_PAGE_BYTES);
    let end = addresses.end / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if start >= end {
        return Ok(());
    }
    // SAFETY: this advice changes nothing that a program can see, wherever it is given; an address that is not mapped is an error.
    match unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_HUGEPAGE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `VmFlags` of the mapping that holds the address.
    fn flags_at(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_it = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let bounds = range.map(|(from, to)| [from, to].map(|bound| usize::from_str_radix(bound, 16)));
            if let Some([Ok(from), Ok(to)]) = bounds {
                is_it = (from..to).contains(&address);
            } else if is_it && line.starts_with("VmFlags:") {
                return line.to_owned();
            }
        }
        panic!("{address:#x} is nowhere");
    }

    #[test]
    fn whole_huge_pages_are_asked_for_and_nothing_beside_them() {
        if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
            return eprintln!("NOT RUN: this kernel has no huge pages for programs");
        }
        // So large that it is always a mapping of its own: other tests' memory, once freed, may still be so advised.
        let table = vec![0u64; 1 << 23];
        let range = table.as_ptr_range();
        let addresses = range.start.addr()..range.end.addr();
        prefer_huge_pages(addresses.clone()).unwrap();
        let is_advised = |address| flags_at(address).split(' ').any(|flag| flag == "hg");
        assert!(is_advised(addresses.start.midpoint(addresses.end)));
        assert!(!is_advised(addresses.start), "a part of a huge page");
        prefer_huge_pages(addresses.start..addresses.start + 4096).unwrap();
        assert!(!is_advised(addresses.start));
    }
}
