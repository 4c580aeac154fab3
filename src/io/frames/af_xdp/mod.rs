//! Frames by AF_XDP: the interface's receive queues hand them over before the kernel's own network stack sees them.
//!
//! A small program on the interface (`program.rs`) sends every frame to the socket of its receive queue; what has none (queues added
//! later) goes the kernel's way. So, other than with AF_PACKET, the kernel answers nothing that comes in, whatever addresses
//! it has. The program is gone with the process, however that ends.
//!
//! ```text
//! program  instructions, attachment                btf      functions of the kernel, by name
//! nic      what the interface can, and must        error    why it cannot be had
//! socket   one queue                               sending  from an outbox into its transmit ring
//! chunks   who holds which piece of memory         ring     one ring between the kernel and us
//! memory   what is shared with the kernel          checksum what a local kernel left undone
//! ```
//!
//! What it is worth: single packets cost less than by AF_PACKET, on veth by a fifth to a quarter. Bulk TCP costs more, on veth four to
//! eleven times (`cargo bench --bench ports`): there AF_PACKET carries joined segments.
//!
//! Tried in this order, and shown by [`Driver::kind`]: native with zero copy, native, generic; [`Driver::note`] says what was in the way of
//! the better ones. An interface for which none of them can be had gets AF_PACKET instead ([`frames::open`](super::open)); one whose file
//! does not ask for AF_XDP gets that at once. Limits:
//!
//! - No segmentation and no checksum offload, neither way: joined frames are not made (native XDP keeps the interface from it).
//! - VLAN tags, customer's or service, that the card takes out are lost to XDP: the card is told to leave them in (and not told otherwise
//!   afterwards), and refused when it does not.
//! - Frames longer than a chunk leaves room for (1,792 bytes, or 3,840 where the MTU asks for it) are dropped and counted.
//! - All of a card's receive queues must be ours when it is opened, at most [`MAX_QUEUES`]. One of them sends for all, which keeps order.
//! - Frames that wait while the interface is down go out when it is up again: at most a ring full (1,024).
//! - A veth pair: the other end's kernel leaves checksums undone, so they are completed here (`checksum.rs`); and it leaves the outer
//!   VLAN tag beside the frame, so the program puts it back, which needs Linux 6.8. Generic mode is not used there.

mod btf;
mod checksum;
pub(in crate::io) mod chunks;
mod error;
mod memory;
pub(in crate::io) mod nic;
pub(in crate::io) mod program;
mod ring;
pub(in crate::io) mod sending;
pub(in crate::io) mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use self::chunks::{HEADROOM_BYTES, Lent};
pub use self::error::{AfXdpError, Mode};
use self::nic::Nic;
use self::program::{Link, Program, Tags};
use self::socket::{Place, Queue};
use super::quiet::Quiet;
use super::{Driver, FramesError, interface};
use crate::io::bpf::SocketMap;
use crate::io::poller::Poller;
use crate::io::udp::{RecvCounters, SendReport};
use crate::net::{InterfaceId, Path};
use crate::packet::Outbox;

/// Receive queues of one interface.
pub const MAX_QUEUES: u32 = 16;
/// Most frames that one `receive` gives.
const BATCH: usize = 64;
/// Two addresses, type, and two tags.
const LONGEST_HEADER_BYTES: u32 = 22;

/// One interface.
#[derive(Debug)]
pub struct AfXdp {
    interface: InterfaceId,
    mode: Mode,
    /// Why no better mode was had.
    note: Option<String>,
    is_veth: bool,
    /// What the last `receive` gave, with the queue that it came by.
    batch: Vec<(usize, Lent)>,
    /// Where the next `receive` begins to look.
    next_queue: usize,
    /// Ready when one of several queues is.
    poller: Option<Poller>,
    // Dropped in this order: first no more frames come, then the sockets are closed.
    #[allow(dead_code, reason = "keeps the program on the interface")]
    link: Link,
    queues: Vec<Queue>,
    /// Keeps the interface promiscuous.
    nic: Nic,
    /// Nothing reaches the kernel, but it would speak by itself.
    quiet: Quiet,
}

/// Takes over all of the interface's frames, in the best way that it offers.
pub fn open(interface: InterfaceId, name: &str) -> Result<AfXdp, FramesError> {
    let index = interface::index(name)?;
    if interface::mac(name)?.is_none() {
        return Err(FramesError::NotEthernet(name.to_owned()));
    }
    let nic = Nic::open(name, index).map_err(|error| explain(name, error))?;
    let (is_veth, queues) = (nic.is_veth(), nic.receive_queues());
    if queues > MAX_QUEUES {
        return Err(AfXdpError::TooManyQueues { name: name.into(), queues }.into());
    }
    if !nic.leave_tags_in() && !is_veth {
        return Err(AfXdpError::StripsTags(name.into()).into());
    }
    if !is_veth && !nic.leave_service_tags_in() {
        return Err(AfXdpError::StripsServiceTags(name.into()).into());
    }
    let quiet = Quiet::new(name, index);
    let Taken { mode, note, link, queues } = take_over(name, &nic, queues, chunk_bytes(interface::mtu(name)?))?;
    let poller = poll_all(&queues).map_err(|error| explain(name, error))?;
    let batch = Vec::with_capacity(BATCH);
    Ok(AfXdp { interface, mode, note, is_veth, batch, next_queue: 0, poller, link, queues, nic, quiet })
}

impl AfXdp {
    fn give_back(&mut self) {
        for (queue, lent) in self.batch.drain(..) {
            self.queues[queue].receiving.give_back(lent);
        }
        for queue in &self.queues {
            queue.refill();
        }
    }

    fn take(&mut self) {
        for number in 0..self.queues.len() {
            let number = (self.next_queue + number) % self.queues.len();
            let receiving = &mut self.queues[number].receiving;
            while self.batch.len() < BATCH
                && let Some(mut lent) = receiving.take()
            {
                if self.is_veth {
                    checksum::complete(receiving.bytes_mut(&mut lent));
                }
                self.batch.push((number, lent));
            }
            receiving.release();
        }
        self.next_queue = (self.next_queue + 1) % self.queues.len();
    }
}

impl Driver for AfXdp {
    fn kind(&self) -> String {
        match self.queues.len() {
            1 => format!("AF_XDP {}", self.mode),
            queues => format!("AF_XDP {}, {queues} queues", self.mode),
        }
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn path(&self) -> Path {
        Path::frames(self.interface)
    }

    fn interface_index(&self) -> u32 {
        self.nic.index
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.poller.as_ref().map_or_else(|| self.queues[0].as_fd(), Poller::as_fd)
    }

    fn receive(&mut self) -> io::Result<usize> {
        self.give_back();
        if self.queues[0].is_stuck() {
            let _ = self.queues[0].kick(); // Down: they wait on.
        }
        self.take();
        Ok(self.batch.len())
    }

    fn frame(&self, index: usize) -> &[u8] {
        let (queue, lent) = &self.batch[index];
        self.queues[*queue].receiving.bytes(lent)
    }

    fn send_some(&mut self, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
        sending::send(&mut self.queues[0], outbox, carries)
    }

    fn counters(&self) -> RecvCounters {
        let astray = self.queues.iter().map(|queue| queue.receiving.astray()).sum();
        let mut counters = RecvCounters { truncated: astray, ..RecvCounters::default() };
        for statistics in self.queues.iter().filter_map(|queue| queue.statistics().ok()) {
            counters.truncated += statistics.rx_dropped;
            let overflow = statistics.rx_ring_full + statistics.rx_fill_ring_empty_descs;
            counters.overflow_drops = counters.overflow_drops.wrapping_add(overflow as u32);
        }
        counters
    }

    fn is_open_after_error(&mut self) -> bool {
        self.nic.is_there()
    }

    fn warnings(&self) -> &[String] {
        self.quiet.warnings()
    }
}

/// Memory for one frame: what the link carries, and the kernel's headroom before it.
fn chunk_bytes(mtu_bytes: u32) -> u32 {
    let longest = mtu_bytes.saturating_add(LONGEST_HEADER_BYTES + HEADROOM_BYTES);
    if longest <= 2048 { 2048 } else { 4096 }
}

/// An interface whose frames are ours.
struct Taken {
    mode: Mode,
    note: Option<String>,
    link: Link,
    queues: Vec<Queue>,
}

/// Program attached, sockets bound to all queues and in the map.
fn take_over(name: &str, nic: &Nic, queues: u32, chunk_bytes: u32) -> Result<Taken, AfXdpError> {
    let map = SocketMap::new(program::NAME, queues).map_err(|error| explain(name, error))?;
    let tags = if nic.is_veth() { Tags::BesideFrames { interface_index: nic.index } } else { Tags::InFrames };
    let program = Program::load(&map, tags).map_err(|error| match tags {
        Tags::BesideFrames { .. } if !is_final(&error) => AfXdpError::HidesTags(name.into(), error),
        _ => explain(name, error),
    })?;
    let mut refused = Vec::new();
    let attachments: [(Mode, &[Mode]); 2] =
        [(Mode::Native, &[Mode::NativeZeroCopy, Mode::Native]), (Mode::Generic, &[Mode::Generic])];
    for (attachment, modes) in attachments {
        if attachment == Mode::Generic && nic.is_veth() {
            // The other end would go on sending joined segments, which no chunk can hold.
            refused.push((Mode::Generic, io::Error::other("not used on a veth pair")));
            continue;
        }
        let link = match Link::attach(&program, nic.index, attachment) {
            Ok(link) => link,
            Err(error) if is_final(&error) => return Err(explain(name, error)),
            Err(error) => {
                refused.push((attachment, error));
                continue;
            }
        };
        for mode in modes {
            let place =
                |queue| Place { interface_index: nic.index, queue, mode: *mode, chunk_bytes, transmits: queue == 0 };
            let opened = (0..queues).map(|queue| open_queue(&map, place(queue))).collect();
            match opened {
                Ok(queues) => return Ok(Taken { mode: *mode, note: error::note(name, &refused), link, queues }),
                Err(error) if is_final(&error) => return Err(explain(name, error)),
                Err(error) => refused.push((*mode, error)),
            }
        }
    }
    Err(AfXdpError::NoMode { name: name.into(), refused })
}

fn open_queue(map: &SocketMap, place: Place) -> io::Result<Queue> {
    let queue = Queue::open(place)?;
    map.set(place.queue, queue.as_fd())?;
    Ok(queue)
}

fn poll_all(queues: &[Queue]) -> io::Result<Option<Poller>> {
    if queues.len() == 1 {
        return Ok(None);
    }
    let poller = Poller::new()?;
    for (number, queue) in queues.iter().enumerate() {
        poller.add(queue.as_fd(), number as u8)?;
    }
    Ok(Some(poller))
}

/// Another mode would not help.
fn is_final(error: &io::Error) -> bool {
    const FINAL: [i32; 6] = [libc::EPERM, libc::EACCES, libc::EBUSY, libc::EEXIST, libc::ENOBUFS, libc::ENOSYS];
    error.raw_os_error().is_some_and(|code| FINAL.contains(&code))
}

fn explain(name: &str, error: io::Error) -> AfXdpError {
    let name = name.to_owned();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => AfXdpError::NotPermitted(name),
        Some(libc::EBUSY | libc::EEXIST) => AfXdpError::Occupied(name),
        Some(libc::ENOBUFS) => AfXdpError::LockedMemory(name),
        Some(libc::ENOSYS | libc::EAFNOSUPPORT) => AfXdpError::NotInKernel,
        _ => AfXdpError::Other(name, error),
    }
}
