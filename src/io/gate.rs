//! The gate: sheds what nobody would read before the network stack has worked on it.
//!
//! To receive a packet, filter it, find its socket and queue it costs the kernel a microsecond and more, and it does so before anything
//! else. When more comes than the worker reads, all of the core goes into packets that a full queue then drops, and nothing
//! is forwarded at all (*receive livelock*; Mogul and Ramakrishnan 1997). So each interface that tunnels' datagrams may come by gets a program
//! (`program`) at the entrance of the stack, which knows the queues that the sockets have ([`super::udp::steer`]), and an account of each
//! (`memory`):
//!
//! ```text
//!             program: admitted += n, while admitted < allowed; else shed, and dropped
//! interface ═══ gate ══ IP ══ UDP ══ queues ═══ worker: allowed = as far as it has read + the window (credit)
//! ```
//!
//! So as much comes in as is read, of each queue by itself: a flood for one tunnel closes its own lane; handshakes, IKE and other lanes have
//! credit of their own, and who is quiet in a flooded lane, or from another source than flooding handshakes, a small *share* beyond it.
//! What is let in and never arrives (a firewall's matter, a wrong checksum, no room) is made up for whenever a queue
//! is empty. When no credit is missing, and that is always but in a flood, the gate drops nothing.
//!
//! The program goes with the process, however that ends: the kernel takes it off with the last descriptor. Loading and attaching
//! needs CAP_BPF and CAP_NET_ADMIN, and Linux 6.6 (`tcx`); without, the appliance runs without a gate.

mod credit;
mod memory;
mod program;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use self::credit::Credit;
pub use self::credit::WINDOW;
pub use self::memory::PORTS;
use self::memory::{ADMITTED, ALLOWED, Memory, SHED};
use super::bpf::{self, Hook, Name};

const NAME: Name = *b"ixgate_gate\0\0\0\0\0";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("it needs the capabilities CAP_BPF and CAP_NET_ADMIN at the start")]
    NotPermitted,
    #[error("the kernel does not take the program, which needs tcx (Linux 6.6): {0}")]
    Unsupported(io::Error),
}

impl GateError {
    fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => GateError::NotPermitted,
            _ => GateError::Unsupported(error),
        }
    }
}

/// The program, loaded, to be attached to interfaces. As long as it is on none, everything passes.
#[derive(Debug)]
pub struct Gate {
    program: OwnedFd,
    memory: Arc<Memory>,
}

impl Gate {
    pub fn load() -> Result<Self, GateError> {
        let memory = Arc::new(Memory::new().map_err(GateError::of)?);
        let program = program::program(memory.descriptor());
        let program = bpf::load(Hook::TCX_INGRESS, NAME, &program, None).map_err(GateError::of)?;
        Ok(Gate { program, memory })
    }

    /// It is on the interface as long as what this gives.
    pub fn attach(&self, interface_index: u32) -> Result<Link, GateError> {
        bpf::attach(self.program.as_fd(), Hook::TCX_INGRESS, interface_index, 0).map(Link).map_err(GateError::of)
    }

    /// For whoever reads the queues. All have a window of credit.
    pub fn accounts(&self) -> Accounts {
        let credits = vec![Credit::default(); memory::QUEUES].into();
        let mut accounts = Accounts { memory: self.memory.clone(), credits, bell: 0, not_shared: 0 };
        (0..memory::QUEUES).for_each(|queue| accounts.note_empty(queue));
        accounts.share(credit::MOST_SHARED * credit::READ_FOR_ONE_SHARED);
        accounts
    }
}

/// The program on an interface. Dropped, it is off.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// Closing the descriptor would do, unless a process that is being started holds a copy of it for a moment.
impl Drop for Link {
    fn drop(&mut self) {
        // Refused (the interface is gone), nothing is lost.
        let _ = bpf::detach(self.0.as_fd());
    }
}

/// The side of the gate where queues are read: of each queue, by one thread.
#[derive(Clone, Debug)]
pub struct Accounts {
    memory: Arc<Memory>,
    credits: Box<[Credit]>,
    /// What it was at the last look.
    bell: u64,
    /// Of what was read, as much of which shares have got nothing yet.
    not_shared: u64,
}

impl Accounts {
    /// What comes to this address is ours. `None`: there is no such port, or nothing can be told about its queues.
    pub fn set_port(&mut self, port: usize, address: Option<SocketAddr>) {
        let at = |word: usize| port * memory::PORT_BYTES + word;
        // No half of an address is ever looked at.
        self.memory.write(at(memory::PORT_NUMBER), 0);
        let Some(address) = address else { return };
        let ip = address.ip().to_canonical();
        let (version, octets) = match ip {
            IpAddr::V4(v4) => (4, padded(v4.octets())),
            // It hears both.
            IpAddr::V6(v6) if v6.is_unspecified() => (0, [0; 16]),
            IpAddr::V6(v6) => (6, v6.octets()),
        };
        for (half, bytes) in octets.as_chunks::<8>().0.iter().enumerate() {
            self.memory.write(at(memory::PORT_ADDRESS + 8 * half), u64::from_ne_bytes(*bytes));
        }
        self.memory.write(at(memory::PORT_VERSION), version);
        self.memory.write(at(memory::PORT_BOUND), u64::from(!ip.is_unspecified()));
        // As it lies in a packet.
        let number = u16::from_ne_bytes(address.port().to_be_bytes());
        self.memory.write(at(memory::PORT_NUMBER), u64::from(number));
    }

    /// So many datagrams were read of a queue, and there are more.
    pub fn note_read(&mut self, queue: usize, datagrams: u64) {
        self.share(datagrams);
        let (admitted, shed) = (self.admitted(queue), self.shed(queue));
        let allowed = self.credits[queue].note_read(admitted, shed, datagrams);
        self.memory.write(memory::queue(queue) + ALLOWED, allowed);
    }

    /// So many datagrams were read of it, and nothing is left.
    pub fn note_last(&mut self, queue: usize, datagrams: u64) {
        self.share(datagrams);
        self.note_empty(queue);
    }

    /// There is nothing in it.
    fn note_empty(&mut self, queue: usize) {
        let (admitted, shed) = (self.admitted(queue), self.shed(queue));
        let allowed = self.credits[queue].note_empty(admitted, shed);
        self.memory.write(memory::queue(queue) + ALLOWED, allowed);
    }

    /// Makes up the accounts of those queues that have nothing and little credit left all the same. `true`: something was shed since the last
    /// look, so that another is worth it.
    pub fn look_after(&mut self, empty: impl Iterator<Item = usize>) -> bool {
        let bell = self.memory.read(memory::BELL);
        if std::mem::replace(&mut self.bell, bell) == bell {
            return false;
        }
        for queue in empty {
            if credit::is_low(self.memory.read(memory::queue(queue) + ALLOWED), self.admitted(queue)) {
                self.note_empty(queue);
            }
        }
        true
    }

    /// So many more were read. When another thread does this at the same time it is done with what is read next.
    fn share(&mut self, datagrams: u64) {
        self.not_shared += datagrams;
        let more = self.not_shared / credit::READ_FOR_ONE_SHARED;
        if more == 0 {
            return;
        }
        let (allowed, admitted) = (self.memory.read(memory::SHARED_ALLOWED), self.memory.read(memory::SHARED));
        let new = credit::allow_shared(allowed, admitted, more);
        if new == allowed || self.memory.replace(memory::SHARED_ALLOWED, allowed, new) {
            self.not_shared %= credit::READ_FOR_ONE_SHARED;
        }
    }

    /// Datagrams that were let in.
    pub fn admitted(&self, queue: usize) -> u64 {
        self.memory.read(memory::queue(queue) + ADMITTED)
    }

    /// Those that were dropped.
    pub fn shed(&self, queue: usize) -> u64 {
        self.memory.read(memory::queue(queue) + SHED)
    }
}

fn padded(octets: [u8; 4]) -> [u8; 16] {
    let mut all = [0; 16];
    all[..4].copy_from_slice(&octets);
    all
}

#[cfg(test)]
mod tests;
