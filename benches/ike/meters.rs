//! Time of this thread, and memory of this process.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::Duration;

use ixgate::io::memory::Allocator;

/// How much processor time this thread has taken.
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for one timespec, and the clock exists for every thread.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What `run` gives, and the processor time that it took.
pub fn timed<R>(run: impl FnOnce() -> R) -> (R, Duration) {
    let start = thread_time();
    let result = run();
    (result, thread_time() - start)
}

pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Bytes that Rust code has asked for and not given back.
pub fn heap_bytes() -> isize {
    HEAP_BYTES.load(Relaxed)
}

/// Bytes of the process that are in memory, by whomever they were asked for. What was freed goes back to the kernel first:
/// else it would be used again, and nothing would seem to grow.
pub fn resident_bytes() -> isize {
    // SAFETY: gives back what nobody uses.
    unsafe { libc::malloc_trim(0) };
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: isize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    // SAFETY: takes a number and gives one.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as isize
}

static HEAP_BYTES: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes on to the binary's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HEAP_BYTES.fetch_add(layout.size() as isize, Relaxed);
        unsafe { Allocator.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        HEAP_BYTES.fetch_add(layout.size() as isize, Relaxed);
        unsafe { Allocator.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        HEAP_BYTES.fetch_add(bytes as isize - layout.size() as isize, Relaxed);
        unsafe { Allocator.realloc(place, layout, bytes) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HEAP_BYTES.fetch_sub(layout.size() as isize, Relaxed);
        unsafe { Allocator.dealloc(place, layout) }
    }
}
