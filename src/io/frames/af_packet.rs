//! Frames of any Ethernet interface, by a packet socket.

mod ring;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::ring::{Ring, Slot};
use super::error::FramesError;
use super::{Driver, interface, sys};
use crate::io::udp::{RecvCounters, SendReport};
use crate::net::{InterfaceId, Path};
use crate::packet::Outbox;

/// Most frames that one `receive` gives.
const BATCH: usize = 64;
/// Destination and source.
const ADDRESSES_BYTES: usize = 12;
const TAG_BYTES: usize = 4;

#[derive(Debug)]
pub struct AfPacket {
    fd: OwnedFd,
    path: Path,
    ring: Ring,
    /// What the latest `receive` gave.
    frames: Vec<Slot>,
    counters: RecvCounters,
}

impl AfPacket {
    pub fn open(interface: InterfaceId, name: &str) -> Result<Self, FramesError> {
        let index = interface::index(name)?;
        if interface::mac(name)?.is_none() {
            return Err(FramesError::NotEthernet(name.to_owned()));
        }
        let fd = sys::open_packet().map_err(|error| FramesError::of(name, "open a packet socket", error))?;
        let set = |option, value| sys::set_option(fd.as_fd(), libc::SOL_PACKET, option, value);
        set(libc::PACKET_IGNORE_OUTGOING, 1)
            .map_err(|_| FramesError::Lacking(name.to_owned(), "PACKET_IGNORE_OUTGOING"))?;
        let ring = Ring::new(&fd).map_err(|error| FramesError::of(name, "make a ring for its frames", error))?;
        sys::bind_packet(fd.as_fd(), index, libc::ETH_P_ALL as u16)
            .map_err(|error| FramesError::of(name, "take its frames", error))?;
        let path = Path::frames(interface);
        Ok(AfPacket { fd, path, ring, frames: Vec::with_capacity(BATCH), counters: RecvCounters::default() })
    }

    fn take(&mut self, slot: Slot) {
        if slot.original_len > slot.len {
            self.counters.truncated += 1;
            return;
        }
        let frame = match slot.vlan {
            Some((protocol, tag)) => self.put_tag_back(slot, protocol, tag),
            None => slot,
        };
        self.frames.push(frame);
    }

    /// The kernel takes the first VLAN tag out of the frame. The addresses move forward to make room for it, into what stands before.
    fn put_tag_back(&mut self, slot: Slot, protocol: u16, tag: u16) -> Slot {
        let bytes = self.ring.bytes_mut(&slot, TAG_BYTES);
        if bytes.len() >= TAG_BYTES + ADDRESSES_BYTES {
            bytes.copy_within(TAG_BYTES..TAG_BYTES + ADDRESSES_BYTES, 0);
            bytes[ADDRESSES_BYTES..][..2].copy_from_slice(&protocol.to_be_bytes());
            bytes[ADDRESSES_BYTES + 2..][..2].copy_from_slice(&tag.to_be_bytes());
        }
        Slot { at: slot.at - TAG_BYTES, len: slot.len + TAG_BYTES, ..slot }
    }
}

impl Driver for AfPacket {
    fn kind(&self) -> String {
        "AF_PACKET ring".to_owned()
    }

    fn path(&self) -> Path {
        self.path
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.frames.clear();
        self.ring.give_back();
        while self.frames.len() < BATCH {
            let Some(slot) = self.ring.take() else { break };
            self.take(slot);
        }
        Ok(self.frames.len())
    }

    fn frame(&self, index: usize) -> &[u8] {
        self.ring.bytes(&self.frames[index], 0)
    }

    fn send_some(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        let mut report = SendReport::default();
        for run in outbox.runs().iter().filter(|run| carries(&run.path)) {
            for frame in outbox.bytes_of(run).chunks(run.segment_bytes) {
                match sys::send(self.fd.as_fd(), &[frame]) {
                    Ok(_) => report.sent_datagrams += 1,
                    Err(error) => report.refuse(1, run.data, error),
                }
            }
        }
        report
    }

    fn counters(&self) -> RecvCounters {
        self.counters
    }

    fn is_open_after_error(&mut self) -> bool {
        // "Network is down", left when the interface went down or away: read, it is gone.
        sys::option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR).is_ok()
    }
}
