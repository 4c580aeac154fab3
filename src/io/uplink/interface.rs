//! One uplink: the program on the interface, and a socket of AF_XDP for each of its receive queues. The first one sends for all, which keeps order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::UplinkError;
use super::headers::{self, ETHERNET_BYTES, Received};
use super::program::{self, Ours};
use crate::io::bpf::SocketMap;
use crate::io::frames::af_xdp::chunks::{HEADROOM_BYTES, Lent};
use crate::io::frames::af_xdp::nic::Nic;
use crate::io::frames::af_xdp::program::{Link, Program};
use crate::io::frames::af_xdp::sending::Sending;
use crate::io::frames::af_xdp::socket::{Place, Queue};
use crate::io::frames::af_xdp::{MAX_QUEUES, Mode};
use crate::io::netlink::ways::Device;
use crate::net::Mac;

/// Two addresses, type, and a tag.
const LONGEST_HEADER_BYTES: u32 = 18;

#[derive(Debug)]
pub struct Uplink {
    pub device: u32,
    mode: Mode,
    /// The other end is a kernel of this machine.
    is_veth: bool,
    /// A send has failed: it is down or gone, and the sockets have it until the thread that knows says otherwise.
    pub has_failed: bool,
    /// Frames that the program took and that were no whole datagrams.
    damaged: u64,
    queues: Vec<Queue>,
}

/// What was taken out of a ring.
#[derive(Debug)]
pub enum Frame {
    Datagram(Lent, Received),
    Damaged,
}

/// Which addresses and ports are ours; shared by the programs of all uplinks.
pub type Shared = Arc<Mutex<Ours>>;

/// The receive queues of an interface. `None`: it cannot be looked at.
pub fn receive_queues(name: &str, index: u32) -> Option<u32> {
    Nic::look_at(name, index).ok().map(|nic| nic.receive_queues())
}

/// The interface stays the kernel's: only tunnels' data is taken from here on, until the link is dropped. What cannot be had is found out before the program
/// is put on it, as a card may have to be reset for that.
pub fn open(device: &Device, ours: &Shared) -> Result<(Uplink, Link), UplinkError> {
    let link = &device.link;
    let name = &link.name;
    let fail = |error| UplinkError::of(name, error);
    if device.master.is_some() {
        return Err(UplinkError::IsPart(name.clone()));
    }
    if link.mac == Mac::default() {
        return Err(UplinkError::NotEthernet(name.clone()));
    }
    let nic = Nic::look_at(name, link.index).map_err(fail)?;
    if nic.is_driven_by(b"bonding") || nic.is_driven_by(b"team") {
        return Err(UplinkError::IsBond(name.clone()));
    }
    let (is_veth, queues) = (nic.is_veth(), nic.receive_queues());
    if queues > MAX_QUEUES {
        return Err(UplinkError::TooManyQueues { name: name.clone(), queues });
    }
    let sockets = SocketMap::new(program::NAME, queues).map_err(fail)?;
    let program = {
        let ours = ours.lock().unwrap_or_else(PoisonError::into_inner);
        let instructions = program::program(&sockets, ours.descriptor(), link.mac);
        Program::of(program::NAME, &instructions).map_err(fail)?
    };
    let chunk_bytes = chunk_bytes(link.mtu_bytes);
    let open = |mode| -> io::Result<Vec<Queue>> {
        let place = |queue| Place { interface_index: link.index, queue, mode, chunk_bytes, transmits: queue == 0 };
        let queues: Vec<Queue> = (0..queues).map(|queue| Queue::open(place(queue))).collect::<io::Result<_>>()?;
        // None gets anything before all are there.
        queues.iter().zip(0..).try_for_each(|(queue, number)| sockets.set(number, queue.as_fd()))?;
        Ok(queues)
    };
    let zero_copy = open(Mode::NativeZeroCopy).map(|queues| (Mode::NativeZeroCopy, queues));
    let (mode, queues) = match zero_copy {
        Ok(opened) => opened,
        Err(_) => (Mode::Native, open(Mode::Native).map_err(fail)?),
    };
    let attached = Link::attach(&program, link.index, Mode::Native).map_err(|error| not_native(name, error))?;
    Ok((Uplink { device: link.index, mode, is_veth, has_failed: false, damaged: 0, queues }, attached))
}

fn not_native(name: &str, error: io::Error) -> UplinkError {
    match UplinkError::of(name, error) {
        UplinkError::Other(name, error) => UplinkError::NotNative(name, error),
        other => other,
    }
}

/// Memory for one frame: what the link carries, and the kernel's headroom before it.
fn chunk_bytes(mtu_bytes: u32) -> u32 {
    let longest = mtu_bytes.saturating_add(LONGEST_HEADER_BYTES + HEADROOM_BYTES);
    if longest <= 2048 { 2048 } else { 4096 }
}

impl Uplink {
    /// For `status`.
    pub fn kind(&self) -> String {
        match self.queues.len() {
            1 => format!("AF_XDP {}", self.mode),
            queues => format!("AF_XDP {}, {queues} queues", self.mode),
        }
    }

    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().map(Queue::as_fd)
    }

    /// The next frame of a queue; what is damaged is counted and goes back.
    pub fn take(&mut self, queue: usize) -> Option<Frame> {
        let receiving = &mut self.queues[queue].receiving;
        let lent = receiving.take()?;
        Some(match headers::parse(receiving.bytes(&lent), self.is_veth) {
            Some(received) => Frame::Datagram(lent, received),
            None => {
                self.damaged += 1;
                receiving.give_back(lent);
                Frame::Damaged
            }
        })
    }

    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Ends a round of [`Uplink::take`].
    pub fn release(&self, queue: usize) {
        self.queues[queue].receiving.release();
    }

    pub fn bytes(&self, queue: usize, lent: &Lent) -> &[u8] {
        self.queues[queue].receiving.bytes(lent)
    }

    pub fn give_back(&mut self, queue: usize, lent: Lent) {
        self.queues[queue].receiving.give_back(lent);
    }

    /// Ends a round of [`Uplink::give_back`]; and what waits to be sent is sent.
    pub fn refill(&mut self) {
        self.queues.iter().for_each(Queue::refill);
        if self.queues[0].is_stuck() {
            let _ = self.queues[0].kick(); // Down: they wait on.
        }
    }

    pub fn sending(&mut self) -> Sending<'_, Queue> {
        Sending::begin(&mut self.queues[0])
    }

    /// Of the longest IP packet.
    pub fn longest_packet(&self) -> usize {
        self.queues[0].transmitting.longest_frame() - ETHERNET_BYTES
    }

    /// No datagrams: damaged, or lying where they cannot.
    pub fn damaged(&self) -> u64 {
        let too_long = |queue: &Queue| queue.statistics().map_or(0, |statistics| statistics.rx_dropped);
        self.damaged + self.queues.iter().map(|queue| queue.receiving.astray() + too_long(queue)).sum::<u64>()
    }

    /// The ring was full.
    pub fn lost(&self) -> u64 {
        let statistics = self.queues.iter().filter_map(|queue| queue.statistics().ok());
        statistics.map(|of| of.rx_ring_full + of.rx_fill_ring_empty_descs).sum()
    }
}
