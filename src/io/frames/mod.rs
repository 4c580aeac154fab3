//! Frames of an interface, and packets of a TUN device: one narrow interface, several drivers.

pub mod af_xdp;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

use super::udp::{RecvCounters, SendReport};
use crate::net::Path;
use crate::packet::Outbox;

/// One interface, opened. Frames go in and out whole, VLAN tags in place, checksums complete, none longer than the link's MTU: joined
/// segments have been taken apart, and are joined again on the way out, by the driver.
pub trait Driver: Debug + Send {
    /// What it is, for `status`: "AF_PACKET ring, offload", "AF_XDP native, zero copy", "TUN, offload".
    fn kind(&self) -> String;

    /// `Path::frames` or `Path::tun` of its interface.
    fn path(&self) -> Path;

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
}
