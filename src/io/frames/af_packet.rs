//! Frames of any Ethernet interface, by a packet socket.
//!
//! **In** by a ring of slots that the kernel fills and we read where they are. Its layout is TPACKET_V2: a frame can be read
//! as soon as it has come. V3 packs frames more tightly, but hands over a block only when it is full or a millisecond or more
//! has passed: a millisecond on every round trip.
//!
//! A slot holds a frame of the longest packet that a port takes. What is longer, joined segments of up to 64 KiB above all,
//! waits in the socket's queue instead (`PACKET_COPY_THRESH`; its slot says so, which keeps the order) and is fetched by a
//! call of its own, straight to where it is taken apart: one call for forty frames costs little, and slots of 64 KiB would
//! cost 256 MiB for each interface.
//!
//! Before each frame stands what offload has left to do (`PACKET_VNET_HDR`, see [`offload`](super::offload)). The kernel
//! takes a VLAN tag out of every frame and tells it beside; it is put back here. Frames that we send do not come back
//! (`PACKET_IGNORE_OUTGOING`), nor do those to others (the interface is not made promiscuous, and what a switch floods to it
//! is for the reader to ignore). Those to groups are asked for: a card lets in only groups of which it was told, and neighbour
//! solicitations for our addresses go to groups of which the kernel knows nothing.
//!
//! **Out** by `sendmmsg`, straight from the outbox: see `transmit.rs`. A ring for sending was measured and is
//! no faster: over a veth pair, 32 frames a call, a frame costs 1,230 ns (60 bytes) and 1,290 ns (1,514 bytes) by `sendmmsg`,
//! and 1,320 ns and 1,370 ns by a ring, into which it must be copied first; it would also need slots of 64 KiB for joined
//! segments. Nor does it help to pass by the queueing discipline (`PACKET_QDISC_BYPASS`: 1,330 ns and 1,360 ns), and then the
//! operator's shaping would not hold, a full queue would not be told from a lost frame, and `tcpdump` would not see what we
//! send.

mod queue;
mod ring;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use self::queue::Queue;
#[cfg(test)]
pub(super) use self::ring::SLOTS;
use self::ring::{Ring, Slot};
use super::af_xdp::AfXdpError;
use super::error::FramesError;
use super::offload::split::{Splitter, put_tag};
use super::offload::{HEADER_BYTES, Header, Link};
use super::quiet::Quiet;
use super::transmit::{PacketSink, Transmit};
use super::{Driver, interface, sys};
use crate::io::udp::{RecvCounters, SendReport};
use crate::net::{InterfaceId, Path};
use crate::packet::Outbox;

/// Most frames that one `receive` gives.
const BATCH: usize = 64;
const TAG_BYTES: usize = 4;
const ETHERNET_HEADER_BYTES: usize = 14;
/// Bytes of joined frames that may wait in the socket's queue, and of frames on their way out.
const QUEUE_BYTES: i32 = 8 << 20;

#[derive(Debug)]
pub struct AfPacket {
    /// Keeps the kernel quiet.
    _quiet: Quiet,
    /// Why it is not AF_XDP, where that was asked for.
    note: Option<String>,
    warnings: Vec<String>,
    fd: OwnedFd,
    path: Path,
    interface_index: u32,
    ring: Ring,
    queue: Queue,
    splitter: Splitter,
    transmit: Transmit,
    /// What the latest `receive` gave.
    frames: Vec<Frame>,
    truncated: u64,
    /// Read from the kernel whenever they are asked for.
    overflow_drops: Cell<u32>,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Slot(Slot),
    /// Cut from a joined one.
    Piece((usize, usize)),
}

impl AfPacket {
    pub fn open(interface: InterfaceId, name: &str) -> Result<Self, FramesError> {
        AfPacket::open_keeping(interface, name, Quiet::new)
    }

    /// In the place of AF_XDP, which cannot be had.
    pub fn open_instead(interface: InterfaceId, name: &str, why: &AfXdpError) -> Result<Self, FramesError> {
        let mut opened = AfPacket::open(interface, name)?;
        opened
            .warnings
            .push(format!("`driver = \"af_xdp\"` of {name} is AF_PACKET, which is slower with small packets: {why}"));
        opened.note = Some(format!("AF_XDP was asked for, and cannot be had: {why}"));
        Ok(opened)
    }

    pub(super) fn open_keeping(
        interface: InterfaceId,
        name: &str,
        keep_quiet: fn(&str, u32) -> Quiet,
    ) -> Result<Self, FramesError> {
        let index = interface::index(name)?;
        if interface::mac(name)?.is_none() {
            return Err(FramesError::NotEthernet(name.to_owned()));
        }
        let fd = sys::open_packet().map_err(|error| FramesError::of(name, "open a packet socket", error))?;
        for (option, value, what) in [
            (libc::PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING (Linux 4.20)"),
            (libc::PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"),
            (libc::PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH"),
        ] {
            sys::set_option(fd.as_fd(), libc::SOL_PACKET, option, value)
                .map_err(|_| FramesError::Lacking(name.to_owned(), what))?;
        }
        enlarge_queues(fd.as_fd());
        let ring = Ring::new(&fd).map_err(|error| FramesError::of(name, "make a ring for its frames", error))?;
        sys::hear_all_groups(fd.as_fd(), index)
            .map_err(|error| FramesError::of(name, "hear what is sent to groups", error))?;
        sys::bind_packet(fd.as_fd(), index, libc::ETH_P_ALL as u16)
            .map_err(|error| FramesError::of(name, "take its frames", error))?;
        let quiet = keep_quiet(name, index);
        Ok(AfPacket {
            warnings: quiet.warnings().to_vec(),
            _quiet: quiet,
            note: None,
            fd,
            path: Path::frames(interface),
            interface_index: index,
            ring,
            queue: Queue::default(),
            splitter: Splitter::new(Link::Ethernet),
            transmit: Transmit::new(Link::Ethernet, true),
            frames: Vec::with_capacity(BATCH),
            truncated: 0,
            overflow_drops: Cell::new(0),
        })
    }

    fn take(&mut self, slot: Slot) {
        let before = self.ring.bytes(&slot, HEADER_BYTES.min(slot.at));
        let header = before.first_chunk::<HEADER_BYTES>().map_or(Header::default(), |bytes| Header::read(*bytes));
        let is_taken = if slot.original_len > slot.len {
            slot.is_queued && self.fetch_queued(&slot)
        } else if header.is_joined() {
            self.splitter.joined_mut()[..slot.len].copy_from_slice(self.ring.bytes(&slot, 0));
            self.splitter.start(slot.len, header, slot.vlan)
        } else {
            self.take_in_place(slot, &header)
        };
        self.truncated += u64::from(!is_taken);
    }

    fn take_in_place(&mut self, mut slot: Slot, header: &Header) -> bool {
        if slot.len < ETHERNET_HEADER_BYTES || !header.complete(self.ring.bytes_mut(&slot, 0)) {
            return false;
        }
        if let Some(tag) = slot.vlan {
            // Into the header for offload, which has been read.
            put_tag(self.ring.bytes_mut(&slot, TAG_BYTES), tag);
            slot = Slot { at: slot.at - TAG_BYTES, len: slot.len + TAG_BYTES, ..slot };
        }
        self.frames.push(Frame::Slot(slot));
        true
    }

    /// The frame of this slot waits whole in the socket's queue.
    fn fetch_queued(&mut self, slot: &Slot) -> bool {
        let AfPacket { fd, queue, splitter, .. } = self;
        let mut header = [0; HEADER_BYTES];
        let fetched = queue.fetch(|| sys::receive(fd.as_fd(), &mut [&mut header, splitter.joined_mut()]));
        let Some(len) = fetched.filter(|len| *len > HEADER_BYTES) else { return false };
        splitter.start(len - HEADER_BYTES, Header::read(header), slot.vlan)
    }

    /// Cuts off as many frames as the batch and the memory for them have room for.
    fn cut(&mut self) {
        while self.frames.len() < BATCH {
            let Some(piece) = self.splitter.next_piece() else { return };
            self.frames.push(Frame::Piece(piece));
        }
    }
}

/// Best effort: beyond the system's limit only with CAP_NET_ADMIN.
fn enlarge_queues(fd: BorrowedFd<'_>) {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if sys::set_option(fd, libc::SOL_SOCKET, force, QUEUE_BYTES).is_err() {
            let _ = sys::set_option(fd, libc::SOL_SOCKET, plain, QUEUE_BYTES);
        }
    }
}

impl Driver for AfPacket {
    fn kind(&self) -> String {
        let joins = if self.transmit.joins() { "offload" } else { "receive offload only" };
        format!("AF_PACKET ring, {joins}")
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
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
        self.frames.clear();
        self.ring.give_back();
        self.splitter.clear();
        self.cut();
        while self.frames.len() < BATCH && !self.splitter.is_busy() {
            let Some(slot) = self.ring.take() else { break };
            self.take(slot);
            self.cut();
        }
        Ok(self.frames.len())
    }

    fn frame(&self, index: usize) -> &[u8] {
        match &self.frames[index] {
            Frame::Slot(slot) => self.ring.bytes(slot, 0),
            Frame::Piece(piece) => self.splitter.piece(*piece),
        }
    }

    fn send_some(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        self.transmit.send(outbox, carries, &mut PacketSink { fd: self.fd.as_fd() })
    }

    fn counters(&self) -> RecvCounters {
        let new_drops = sys::packet_statistics(self.fd.as_fd()).map_or(0, |(_, drops)| drops);
        self.overflow_drops.set(self.overflow_drops.get().wrapping_add(new_drops));
        RecvCounters { truncated: self.truncated, overflow_drops: self.overflow_drops.get() }
    }

    fn joined(&self) -> (u64, u64) {
        (self.splitter.taken_apart(), self.transmit.joined())
    }

    fn is_open_after_error(&mut self) -> bool {
        // "Network is down", left when the interface went down or away: read, it is not reported again.
        let _ = sys::option(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR);
        sys::is_packet_bound(self.fd.as_fd())
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
