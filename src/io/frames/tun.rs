//! Packets that the kernel routes to and from us: a TUN device, for hosts where the appliance shares the machine with the
//! kernel's own routing.
//!
//! Five requests to the kernel are all there is to it, so they are made here rather than by a crate with ways of waiting of
//! its own. Joined segments come and go as they do with frames ([`offload`](super::offload)): a bulk transfer costs one call
//! for some forty packets.
//!
//! A device that is there (made with `ip tuntap`, perhaps for our user alone) is used and stays; otherwise one is made, and
//! vanishes with us.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::FramesError;
use super::offload::split::Splitter;
use super::offload::{HEADER_BYTES, Header, Link};
use super::transmit::{Message, Sink, Transmit, WAIT_MS};
use super::{Driver, interface, sys};
use crate::io::udp::{RecvCounters, SendReport};
use crate::net::{InterfaceId, Path};
use crate::packet::Outbox;

/// Most packets that one `receive` gives.
const BATCH: usize = 64;
/// Joined segments of TCP, as every kernel with TUN offload has them; of UDP since Linux 6.2.
const TCP_OFFLOAD: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const UDP_OFFLOAD: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    path: Path,
    interface_index: u32,
    splitter: Splitter,
    transmit: Transmit,
    has_offload: bool,
    /// What the latest `receive` gave.
    packets: Vec<(usize, usize)>,
    truncated: u64,
}

impl Tun {
    /// The device is up afterwards, with this MTU.
    pub fn open(interface: InterfaceId, name: &str, mtu_bytes: u16) -> Result<Self, FramesError> {
        interface::check_name(name)?;
        let fd = sys::open_tun(name).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => FramesError::TunNotPermitted(name.to_owned()),
            Some(libc::EBUSY) => FramesError::TunInUse(name.to_owned()),
            Some(libc::EINVAL) => FramesError::NotTun(name.to_owned()),
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                FramesError::Lacking(name.to_owned(), "TUN (/dev/net/tun)")
            }
            _ => FramesError::Other(name.to_owned(), "open the TUN device", error),
        })?;
        let offloads = [TCP_OFFLOAD | UDP_OFFLOAD, TCP_OFFLOAD];
        let has_offload = offloads.iter().any(|offload| sys::set_tun_offload(fd.as_fd(), *offload).is_ok());
        set_up(name, mtu_bytes)?;
        Ok(Tun {
            fd,
            path: Path::tun(interface),
            interface_index: interface::index(name)?,
            splitter: Splitter::new(Link::None),
            transmit: Transmit::new(Link::None, has_offload),
            has_offload,
            packets: Vec::with_capacity(BATCH),
            truncated: 0,
        })
    }

    /// `false`: there is none.
    fn read(&mut self) -> bool {
        let mut header = [0; HEADER_BYTES];
        let Ok(len) = sys::read(self.fd.as_fd(), &mut [&mut header, self.splitter.joined_mut()]) else { return false };
        if len <= HEADER_BYTES || !self.splitter.start(len - HEADER_BYTES, Header::read(header), None) {
            self.truncated += 1;
        }
        true
    }

    fn cut(&mut self) {
        while self.packets.len() < BATCH {
            let Some(piece) = self.splitter.next_piece() else { return };
            self.packets.push(piece);
        }
    }
}

/// What is so already needs no privilege.
fn set_up(name: &str, mtu_bytes: u16) -> Result<(), FramesError> {
    let or_say = |what| {
        move |error: io::Error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => FramesError::TunNotPermitted(name.to_owned()),
            _ => FramesError::Other(name.to_owned(), what, error),
        }
    };
    if interface::mtu(name)? != u32::from(mtu_bytes) {
        sys::set_mtu(name, mtu_bytes.into()).map_err(or_say("set its MTU"))?;
    }
    sys::bring_up(name).map_err(or_say("bring it up"))
}

impl Driver for Tun {
    fn kind(&self) -> String {
        if self.has_offload { "TUN, offload" } else { "TUN" }.to_owned()
    }

    fn path(&self) -> Path {
        self.path
    }

    fn interface_index(&self) -> u32 {
        self.interface_index
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.packets.clear();
        self.splitter.clear();
        self.cut();
        while self.packets.len() < BATCH && !self.splitter.is_busy() && self.read() {
            self.cut();
        }
        Ok(self.packets.len())
    }

    fn frame(&self, index: usize) -> &[u8] {
        self.splitter.piece(self.packets[index])
    }

    fn send_some(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        self.transmit.send(outbox, carries, &mut TunSink { fd: self.fd.as_fd() })
    }

    fn counters(&self) -> RecvCounters {
        RecvCounters { truncated: self.truncated, overflow_drops: 0 }
    }

    fn joined(&self) -> (u64, u64) {
        (self.splitter.taken_apart(), self.transmit.joined())
    }

    fn is_open_after_error(&mut self) -> bool {
        sys::is_tun_attached(self.fd.as_fd())
    }
}

/// Takes one message in a call.
struct TunSink<'a> {
    fd: BorrowedFd<'a>,
}

impl Sink for TunSink<'_> {
    fn send(&mut self, messages: &[Message], outbox: &Outbox) -> io::Result<usize> {
        sys::write(self.fd, messages[0].parts(outbox)).map(|_| 1)
    }

    fn wait(&mut self) {
        sys::wait_writable(self.fd, WAIT_MS);
    }
}
