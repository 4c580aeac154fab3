//! The system calls of the sockets, each in a safe wrapper that checks nothing but what soundness needs.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::address::{Family, RawAddress};
use super::control::Control;

/// Most messages in one call.
pub const MAX_MESSAGES: usize = 32;

/// One message to be filled by [`receive`]: where to put it, and afterwards what came.
#[derive(Debug)]
pub struct Incoming<'a> {
    pub buffer: &'a mut [u8],
    pub envelope: &'a mut Envelope,
}

/// All about a received message but its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    pub address: RawAddress,
    pub control: Control,
    /// At most the buffer's length.
    pub len: usize,
    /// The message or its control messages did not fit.
    pub truncated: bool,
}

impl Envelope {
    pub const EMPTY: Envelope =
        Envelope { address: RawAddress::EMPTY, control: Control::EMPTY, len: 0, truncated: false };
}

/// One message for [`send`].
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub address: RawAddress,
    pub control: Control,
    pub bytes: &'a [u8],
}

impl Outgoing<'_> {
    pub const EMPTY: Outgoing<'static> = Outgoing { address: RawAddress::EMPTY, control: Control::EMPTY, bytes: &[] };
}

/// A new non-blocking UDP socket.
pub fn open(family: Family) -> io::Result<OwnedFd> {
    open_kind(family, libc::SOCK_DGRAM, 0)
}

/// A new non-blocking raw socket for an IP protocol; needs CAP_NET_RAW.
pub fn open_raw(family: Family, protocol: c_int) -> io::Result<OwnedFd> {
    open_kind(family, libc::SOCK_RAW, protocol)
}

fn open_kind(family: Family, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(domain, kind, protocol) };
    check(fd)?;
    // SAFETY: a fresh file descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn bind(fd: BorrowedFd<'_>, address: &RawAddress) -> io::Result<()> {
    debug_assert!(address.len as usize <= RawAddress::CAPACITY);
    // SAFETY: `address.bytes` holds `len` initialised bytes, is aligned for a sockaddr and outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.bytes.as_ptr().cast(), address.len) })
}

pub fn local_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut address = RawAddress { len: RawAddress::CAPACITY as u32, ..RawAddress::EMPTY };
    // SAFETY: `address` has room for `len` bytes, is aligned for a sockaddr and outlives the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), address.bytes.as_mut_ptr().cast(), &mut address.len) })?;
    address.decode().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// Sets an option whose value is an int.
pub fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` is `len` readable bytes that outlive the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), len) })
}

/// Reads an option whose value is an int.
pub fn option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: `value` is `len` writable bytes; both outlive the call.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, ptr::from_mut(&mut value).cast(), &mut len) })?;
    Ok(value)
}

/// Has a program of classic BPF choose among the sockets of the group (`SO_REUSEPORT`) that this one is in: by their numbers in the
/// order in which they were bound.
pub fn choose_by(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `program` is `size` readable bytes and points to `len` instructions; both outlive the call, which copies and checks
    // them (the mutable pointer is the C type's).
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(&program).cast(), size) })
}

/// Fills at most [`MAX_MESSAGES`] messages without waiting; the count of those filled.
pub fn receive(fd: BorrowedFd<'_>, messages: &mut [Incoming<'_>]) -> io::Result<usize> {
    receive_with(fd, messages, 0)
}

/// The same from the socket's error queue: datagrams that were sent and came to grief, with where they were to go.
pub fn receive_errors(fd: BorrowedFd<'_>, messages: &mut [Incoming<'_>]) -> io::Result<usize> {
    receive_with(fd, messages, libc::MSG_ERRQUEUE)
}

fn receive_with(fd: BorrowedFd<'_>, messages: &mut [Incoming<'_>], flags: c_int) -> io::Result<usize> {
    let flags = flags | libc::MSG_DONTWAIT;
    let count = messages.len().min(MAX_MESSAGES);
    let mut parts = [EMPTY_PART; MAX_MESSAGES];
    let mut headers = [EMPTY_HEADER; MAX_MESSAGES];
    for ((message, part), header) in messages.iter_mut().zip(&mut parts).zip(&mut headers) {
        part.iov_base = message.buffer.as_mut_ptr().cast();
        part.iov_len = message.buffer.len();
        header.msg_hdr.msg_name = message.envelope.address.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = RawAddress::CAPACITY as u32;
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = message.envelope.control.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = Control::CAPACITY as _;
    }
    // SAFETY: the first `count` headers point to buffers with the lengths given, all borrowed exclusively from
    // `messages` or on this stack, and all outlive the call. No timeout is given.
    let received =
        unsafe { libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as u32, flags as _, ptr::null_mut()) };
    check(received)?;
    let received = received as usize;
    for (message, header) in messages.iter_mut().zip(&headers).take(received) {
        let envelope = &mut *message.envelope;
        envelope.address.len = header.msg_hdr.msg_namelen;
        envelope.control.len = header.msg_hdr.msg_controllen as _;
        envelope.len = (header.msg_len as usize).min(message.buffer.len());
        envelope.truncated = header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    }
    Ok(received)
}

/// Sends at most [`MAX_MESSAGES`] messages without waiting; the count of those sent. An error is the first message's.
pub fn send(fd: BorrowedFd<'_>, messages: &mut [Outgoing<'_>]) -> io::Result<usize> {
    let count = messages.len().min(MAX_MESSAGES);
    let mut parts = [EMPTY_PART; MAX_MESSAGES];
    let mut headers = [EMPTY_HEADER; MAX_MESSAGES];
    for ((message, part), header) in messages.iter_mut().zip(&mut parts).zip(&mut headers) {
        part.iov_base = message.bytes.as_ptr().cast_mut().cast();
        part.iov_len = message.bytes.len();
        header.msg_hdr.msg_name = message.address.bytes.as_mut_ptr().cast();
        header.msg_hdr.msg_namelen = message.address.len;
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        if message.control.len > 0 {
            header.msg_hdr.msg_control = message.control.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = message.control.len as _;
        }
    }
    // SAFETY: the first `count` headers point to initialised bytes with the lengths given, borrowed from `messages` or
    // on this stack, which outlive the call. The kernel only reads what they point to (the cast to a mutable pointer is
    // the C type's), and writes `msg_len` in the headers.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _) };
    check(sent)?;
    Ok(sent as usize)
}

/// Waits until the socket takes datagrams again, at most `timeout_ms`.
pub fn wait_writable(fd: BorrowedFd<'_>, timeout_ms: c_int) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd that outlives the call. The result does not matter: the caller tries again.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) };
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

// SAFETY: mmsghdr is plain C data; all zeroes (null pointers with zero lengths) is a valid value. Its padding differs
// between C libraries, so it cannot be written out field by field.
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
