//! One of the sockets or interfaces, whichever it is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::super::frames::Driver;
use super::super::raw_esp::RawEspSocket;
use super::super::udp::{RecvBatch, RecvCounters, SendReport, UdpSocket};
use super::super::uplink::Uplinks;
use super::places::{UPLINKS, place};
use crate::net::{Path, PathReport, Port};
use crate::packet::Outbox;

/// Of one message, whatever it carries: its trip through the kernel, in and out.
pub(super) const WORK_OF_MESSAGE: u64 = 4_000;
/// Of one datagram, without its bytes.
pub(super) const WORK_OF_DATAGRAM: u64 = 400;

/// What the reading of so much makes the worker do, in about nanoseconds of one core.
pub(super) fn work(messages: usize, datagrams: usize, bytes: usize) -> u64 {
    messages as u64 * WORK_OF_MESSAGE + datagrams as u64 * WORK_OF_DATAGRAM + bytes as u64
}

#[derive(Debug)]
pub(super) enum Socket {
    Udp(UdpSocket),
    RawEsp(RawEspSocket),
    Frames(Box<dyn Driver>),
    Uplinks(Box<Uplinks>),
}

/// How much of its errors was read.
pub(super) enum Heard {
    /// There may be more.
    Some,
    All,
    /// It is of no use any more.
    Gone,
}

impl Socket {
    pub(super) fn place(&self) -> Option<usize> {
        match self {
            Socket::Udp(udp) => place(&Path::from_port(udp.port(), udp.local_address())),
            Socket::RawEsp(raw) => place(&Path::from_port(Port::RawEsp, (raw.address(), 0).into())),
            Socket::Frames(driver) => place(&driver.path()),
            Socket::Uplinks(_) => Some(UPLINKS),
        }
    }

    /// At most `limit` messages, or what the driver gives at once.
    pub(super) fn receive(&mut self, batch: &mut RecvBatch, limit: usize) -> io::Result<Received> {
        let messages = match self {
            Socket::Udp(udp) => udp.recv_some(batch, limit)?,
            Socket::RawEsp(raw) => raw.recv_some(batch, limit)?,
            Socket::Frames(driver) => {
                let messages = driver.receive()?;
                let bytes = (0..messages).map(|index| driver.frame(index).len()).sum();
                let work = work(messages, messages, bytes);
                return Ok(Received { messages, datagrams: messages, work, may_have_more: messages > 0 });
            }
            Socket::Uplinks(uplinks) => {
                let read = uplinks.receive()?;
                // What gives nothing (damaged frames, ways learned) is work all the same.
                let work = work(read.frames, read.frames + read.answers, read.bytes);
                let (messages, may_have_more) = (read.datagrams, read.may_have_more);
                return Ok(Received { messages, datagrams: messages, work, may_have_more });
            }
        };
        let (bytes, datagrams) = batch.size();
        Ok(Received { messages, datagrams, work: work(messages, datagrams, bytes), may_have_more: messages >= limit })
    }

    pub(super) fn recv_errors(&mut self, reports: &mut Vec<PathReport>) -> Heard {
        let has_more = match self {
            Socket::Udp(udp) => udp.recv_errors(reports),
            Socket::RawEsp(raw) => raw.recv_errors(reports),
            Socket::Frames(driver) => match driver.is_open_after_error() {
                true => false,
                false => return Heard::Gone,
            },
            Socket::Uplinks(_) => false,
        };
        if has_more { Heard::Some } else { Heard::All }
    }

    pub(super) fn send(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        match self {
            Socket::Udp(udp) => udp.send_some(outbox, carries),
            Socket::RawEsp(raw) => raw.send_some(outbox, carries),
            Socket::Frames(driver) => driver.send_some(outbox, carries),
            Socket::Uplinks(_) => SendReport::default(),
        }
    }

    /// An interface carries frames, or packets, and never both.
    pub(super) fn carries(&self, path: &Path) -> bool {
        match self {
            Socket::Udp(_) | Socket::RawEsp(_) => true,
            Socket::Uplinks(_) => false,
            Socket::Frames(driver) => driver.path().port == path.port,
        }
    }

    pub(super) fn counters(&self) -> RecvCounters {
        match self {
            Socket::Udp(udp) => udp.counters(),
            Socket::RawEsp(raw) => raw.counters(),
            Socket::Frames(driver) => driver.counters(),
            Socket::Uplinks(uplinks) => uplinks.counters(),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Udp(udp) => udp.as_fd(),
            Socket::RawEsp(raw) => raw.as_fd(),
            Socket::Frames(driver) => driver.fd(),
            Socket::Uplinks(uplinks) => uplinks.fd(),
        }
    }
}

/// What one reading gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) messages: usize,
    pub(super) datagrams: usize,
    pub(super) work: u64,
    /// The poller says so too, when it is asked.
    pub(super) may_have_more: bool,
}
