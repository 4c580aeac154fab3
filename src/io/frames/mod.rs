//! Frames of an interface, and packets of a TUN device: one narrow interface, several drivers.
//!
//! ```text
//! af_packet   rings of the kernel, for any Ethernet interface     tun     packets that the kernel routes to and from us
//! af_xdp      past the kernel's stack, all frames of an interface
//! offload     joined segments taken apart, and joined             transmit   an outbox's frames on their way out
//! quiet       the kernel does not answer in our place             error      why one could not be opened, and what to do
//! interface   which there are, their MTU and addresses
//! ```
//!
//! Descriptors are opened here, with the privileges that this needs (frames: CAP_NET_RAW; a TUN device, and keeping the kernel
//! quiet: CAP_NET_ADMIN), by the thread that has them ([`privileges`](super::privileges)); nothing that a driver does later needs any.

pub mod af_packet;
pub mod af_xdp;
mod error;
pub mod interface;
pub mod offload;
mod quiet;
pub(in crate::io) mod sys;
mod transmit;
pub mod tun;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

pub use self::error::FramesError;
use super::udp::{RecvCounters, SendReport};
use crate::net::{InterfaceId, Path};
use crate::packet::Outbox;

/// One interface, opened. Frames go in and out whole, VLAN tags in place, checksums complete, none longer than the link's MTU: joined
/// segments have been taken apart, and are joined again on the way out, by the driver.
pub trait Driver: Debug + Send {
    /// What it is, for `status`: "AF_PACKET ring, offload", "AF_XDP native, zero copy", "TUN, offload".
    fn kind(&self) -> String;

    /// Why it is not a better one of those that were asked for.
    fn note(&self) -> Option<&str> {
        None
    }

    /// `Path::frames` or `Path::tun` of its interface.
    fn path(&self) -> Path;

    /// The kernel's number of the interface that was opened; one that comes again has another.
    fn interface_index(&self) -> u32;

    /// Becomes readable when a frame has come.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Gives back what the last call gave, and takes what has come, up to a batch: how many. 0: nothing. An interface that is gone or
    /// down is no error: it has nothing.
    fn receive(&mut self) -> io::Result<usize>;

    /// One of those that the last `receive` gave.
    fn frame(&self, index: usize) -> &[u8];

    /// Sends the runs that are its own: every segment of a run is a frame.
    fn send_some(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport;

    fn counters(&self) -> RecvCounters;

    /// Joined frames so far: those that came and were taken apart, and those that were offered to the kernel, which may have refused some
    /// (their segments went one by one then).
    fn joined(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The poller has seen an error: reads it away, so that it is not seen again. `false`: the interface is gone for good, and
    /// the driver is to be closed; one of the same name is another.
    fn is_open_after_error(&mut self) -> bool {
        true
    }

    /// What the operator should know: what could not be arranged, and what follows from it.
    fn warnings(&self) -> &[String] {
        &[]
    }
}

/// Which driver an interface gets.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Choice {
    #[default]
    Auto,
    AfPacket,
    AfXdp,
}

/// Takes the frames of an Ethernet interface, from here on. Where AF_XDP was asked for and cannot be had, AF_PACKET does, and says why.
pub fn open(interface: InterfaceId, name: &str, choice: Choice) -> Result<Box<dyn Driver>, FramesError> {
    match choice {
        Choice::Auto | Choice::AfPacket => Ok(Box::new(af_packet::AfPacket::open(interface, name)?)),
        Choice::AfXdp => match af_xdp::open(interface, name) {
            Ok(driver) => Ok(Box::new(driver)),
            Err(FramesError::AfXdp(why)) => Ok(Box::new(af_packet::AfPacket::open_instead(interface, name, &why)?)),
            Err(error) => Err(error),
        },
    }
}

/// Opens a TUN device, or makes it.
pub fn open_tun(interface: InterfaceId, name: &str, mtu_bytes: u16) -> Result<Box<dyn Driver>, FramesError> {
    Ok(Box::new(tun::Tun::open(interface, name, mtu_bytes)?))
}

#[cfg(test)]
pub(crate) mod testbed;
#[cfg(test)]
mod tests;
