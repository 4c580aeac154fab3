//! Waits until a socket can be read, a deadline passes, or another thread calls.
//!
//! One [`Poller`] belongs to one worker thread. Others hold a [`Waker`], which costs one system call and is cheap to
//! call again before the worker has looked. Readiness is level-triggered: what was not read is reported again.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Most file descriptors that one `wait` reports; the others are reported by the next.
const MAX_EVENTS: usize = 64;
/// Tokens are 0 to 127: one bit for each.
pub const MAX_TOKENS: usize = u128::BITS as usize;
/// The token of the waker itself.
const WAKER: u64 = u64::MAX;

/// An epoll instance with an eventfd in it.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    waker: Waker,
}

/// Ends a `wait` in another thread, now or the next.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

/// What ended a `wait`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Ready {
    /// Bit n: the file descriptor added with token n has something to read.
    pub(super) tokens: u128,
    /// Bit n: its error queue has something, or an error is pending.
    pub(super) errors: u128,
    /// Somebody called [`Waker::wake`].
    pub woken: bool,
}

impl Ready {
    pub fn is_readable(&self, token: u8) -> bool {
        self.tokens & (1 << token) != 0
    }

    pub fn has_errors(&self, token: u8) -> bool {
        self.errors & (1 << token) != 0
    }
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a non-negative result is a file descriptor that nobody else owns.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        // SAFETY: as above.
        let event = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        let poller = Poller { epoll, waker: Waker { event: Arc::new(event) } };
        poller.watch(poller.waker.event.as_fd(), WAKER)?;
        Ok(poller)
    }

    /// Reports `fd` as `token` (0 to 127) whenever it can be read. Closing `fd` ends that.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u8) -> io::Result<()> {
        assert!(usize::from(token) < MAX_TOKENS, "one bit per token");
        self.watch(fd, u64::from(token))
    }

    /// No more. One that was not added is no error.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let event = std::ptr::null_mut();
        // SAFETY: both descriptors are open (borrowed); this operation looks at no event.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), event) };
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Blocks until something is ready or `timeout` has passed (`None`: forever). Rounded up to whole milliseconds, so
    /// that a deadline has passed when this returns. A signal ends it early.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS];
        // SAFETY: `events` has room for MAX_EVENTS entries and outlives the call; the descriptor is open.
        let count = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), MAX_EVENTS as i32, millis(timeout))
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(Ready::default()) } else { Err(error) };
        }
        let mut ready = Ready::default();
        for event in &events[..count as usize] {
            // Copied: the C structure is packed, so its fields cannot be borrowed.
            let (token, kinds) = (event.u64, event.events);
            match token {
                WAKER => ready.woken = true,
                token => {
                    ready.tokens |= 1 << token;
                    ready.errors |= u128::from(kinds & libc::EPOLLERR as u32 != 0) << token;
                }
            }
        }
        if ready.woken {
            self.waker.drain();
        }
        Ok(ready)
    }

    /// The same, but for what sockets have to tell: until somebody calls, or `timeout` has passed.
    pub fn wait_for_call(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut call = libc::pollfd { fd: self.waker.event.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call; the descriptor is open.
        let count = unsafe { libc::poll(&mut call, 1, millis(timeout)) };
        if count > 0 {
            self.waker.drain();
        }
        match check(count) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open (borrowed), `event` outlives the call, which only reads it.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) })
    }
}

/// Readable when one of what it waits for is: pollers may wait for pollers.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Waker {
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes; the descriptor is open as long as `self` is. It fails only when the counter is
        // full, and then the poller is awake already.
        unsafe { libc::write(self.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn drain(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes; the descriptor is open and non-blocking. "Nothing there" is fine.
        unsafe { libc::read(self.event.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

fn millis(timeout: Option<Duration>) -> i32 {
    match timeout {
        None => -1,
        Some(timeout) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// `fd`, when not negative, must be a file descriptor that nobody else owns.
unsafe fn owned(fd: i32) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the caller promises it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;

    #[test]
    fn a_wake_before_or_during_the_wait_ends_it_once() {
        let mut poller = Poller::new().unwrap();
        let waker = poller.waker();
        waker.wake();
        waker.wake();
        assert!(poller.wait(None).unwrap().woken);
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), Ready::default());

        let thread = thread::spawn(move || waker.wake());
        assert!(poller.wait(None).unwrap().woken);
        thread.join().unwrap();

        let waker = poller.waker();
        let thread = thread::spawn(move || waker.wake());
        poller.wait_for_call(None).unwrap();
        thread.join().unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), Ready::default());
    }

    #[test]
    fn tells_which_socket_can_be_read() {
        let mut poller = Poller::new().unwrap();
        let sockets: Vec<_> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (token, socket) in sockets.iter().enumerate() {
            poller.add(socket.as_fd(), token as u8).unwrap();
        }
        sockets[0].send_to(&[1], sockets[1].local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            let ready = poller.wait(None).unwrap();
            assert!(ready.is_readable(1) && !ready.is_readable(0) && !ready.woken, "level-triggered");
        }
    }

    #[test]
    fn a_timeout_is_rounded_up() {
        assert_eq!(millis(None), -1);
        assert_eq!(millis(Some(Duration::ZERO)), 0);
        assert_eq!(millis(Some(Duration::from_nanos(1))), 1);
        assert_eq!(millis(Some(Duration::from_micros(2_000))), 2);
        assert_eq!(millis(Some(Duration::MAX)), i32::MAX);
    }
}
