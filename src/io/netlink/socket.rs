//! The netlink socket: non-blocking, and deaf to everybody but the kernel.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// For what is received: longer than any datagram of the kernel's (32 KiB).
pub const BUFFER_BYTES: usize = 64 << 10;
/// Links, in the bits of a netlink address (rtnetlink(7)).
const RTMGRP_LINK: u32 = 1;
const RTMGRP_NEIGH: u32 = 0x4;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV4_ROUTE: u32 = 0x40;
const RTMGRP_IPV4_RULE: u32 = 0x80;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const RTMGRP_IPV6_ROUTE: u32 = 0x400;
const RTMGRP_IPV6_RULE: u32 = 0x4_0000;
const RTMGRP_NEXTHOP: u32 = 0x8000_0000;
const ADDRESS_BYTES: libc::socklen_t = mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t;

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// The kernel had more to tell than there was room for.
pub fn is_loss(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

impl Socket {
    /// Hears of every change of a link; and may ask.
    pub fn open_following_links() -> io::Result<Self> {
        Socket::open(RTMGRP_LINK)
    }

    /// Hears of every change of a route, and of links.
    pub fn open_following_routes() -> io::Result<Self> {
        Socket::open(RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE)
    }

    /// Hears of everything that decides where a packet goes: links, addresses, routes, rules, next hops, neighbours.
    pub fn open_following_ways() -> io::Result<Self> {
        let routes = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_RULE | RTMGRP_IPV6_RULE | RTMGRP_NEXTHOP;
        Socket::open(RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | routes)
    }

    /// Hears nothing but answers.
    pub fn open_asking() -> io::Result<Self> {
        Socket::open(0)
    }

    /// Of IPsec (xfrm): hears nothing but answers.
    pub fn open_for_policies() -> io::Result<Self> {
        Socket::open_of(libc::NETLINK_XFRM, 0)
    }

    fn open(groups: u32) -> io::Result<Self> {
        Socket::open_of(libc::NETLINK_ROUTE, groups)
    }

    fn open_of(protocol: i32, groups: u32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) } as isize)?;
        // SAFETY: a fresh file descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let mut address = kernel();
        address.nl_groups = groups;
        // SAFETY: `address` is a sockaddr_nl of the length given, and outlives the call.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) } as isize)?;
        Ok(Socket { fd })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let address = kernel();
        // SAFETY: `bytes` is readable for its length, `address` is a sockaddr_nl of the length given; both outlive the call.
        let sent = unsafe {
            let to = (&raw const address).cast();
            libc::sendto(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, to, ADDRESS_BYTES)
        };
        check(sent).map(|_| ())
    }

    /// The length of a datagram of the kernel's, 0 for one of another process. `None`: there is none now.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let (mut from, mut from_bytes) = (kernel(), ADDRESS_BYTES);
            // SAFETY: `buffer` is writable for its length, `from` for `from_bytes`; all outlive the call.
            let received = unsafe {
                let from = (&raw mut from).cast();
                libc::recvfrom(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0, from, &mut from_bytes)
            };
            match check(received) {
                Ok(len) if from.nl_pid == 0 => return Ok(Some(len as usize)),
                Ok(_) => return Ok(Some(0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The kernel's address, number 0; as our own: any.
fn kernel() -> libc::sockaddr_nl {
    // SAFETY: of a C structure of integers, all zeros are a value.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address
}

fn check(result: isize) -> io::Result<isize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
