//! The socket's error queue: datagrams that were too long for their path, or for our own link.
//!
//! The kernel queues every ICMP error about what was sent, and its own; each is read, so that the queue takes no room from
//! datagrams, and only those that name an MTU are told. They come in no order and may be anybody's: see [`PathReport`].

use std::os::fd::BorrowedFd;

use super::sys::{self, Envelope, Incoming, MAX_MESSAGES};
use crate::net::PathReport;

/// The datagram that came to grief is of no interest.
const BUFFER_BYTES: usize = 64;

/// Adds what the queue holds, at most a batch, each remote once if it comes in a row. `true`: there may be more.
pub fn read(fd: BorrowedFd<'_>, reports: &mut Vec<PathReport>) -> bool {
    let mut buffers = [[0; BUFFER_BYTES]; MAX_MESSAGES];
    let mut envelopes = [Envelope::EMPTY; MAX_MESSAGES];
    let parts = buffers.iter_mut().zip(&mut envelopes);
    let mut incoming: Vec<Incoming<'_>> =
        parts.map(|(buffer, envelope)| Incoming { buffer: &mut buffer[..], envelope }).collect();
    // Nothing there, or nothing that could be read: in either case datagrams are looked at next, and tell.
    let count = sys::receive_errors(fd, &mut incoming).unwrap_or(0);
    for envelope in &envelopes[..count] {
        if let (Some(remote), Some(mtu_bytes)) = (envelope.address.decode(), envelope.control.read().path_mtu_bytes) {
            let report = PathReport { remote, mtu_bytes };
            if reports.last() != Some(&report) {
                reports.push(report);
            }
        }
    }
    count == MAX_MESSAGES
}
