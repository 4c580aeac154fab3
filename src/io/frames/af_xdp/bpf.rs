//! The program that hands an interface's frames to our sockets, and how it is attached.
//!
//! It is a handful of instructions, written out here. It is attached by a BPF link: the kernel detaches it when the link's last
//! descriptor is closed, so also when this process is killed, and the interface is then the kernel's again.

#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::Mode;

// Commands and types of bpf(2) (linux/bpf.h).
const MAP_CREATE: c_long = 0;
const MAP_UPDATE_ELEM: c_long = 2;
const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const NAME: [u8; 16] = *b"ixgate_frames\0\0\0";
/// The kernel lets some functions be called only by programs of a licence that agrees with its own.
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

// How a program is attached (linux/if_link.h).
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high.
    registers: u8,
    offset: i16,
    value: i32,
}

/// The sockets of an interface by receive queue.
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    pub fn new(queues: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            kind: u32,
            key_bytes: u32,
            value_bytes: u32,
            entries: u32,
            flags: u32,
            inner_map: u32,
            numa_node: u32,
            name: [u8; 16],
        }
        let attributes = Attributes {
            kind: MAP_TYPE_XSKMAP,
            key_bytes: 4,
            value_bytes: 4,
            entries: queues,
            flags: 0,
            inner_map: 0,
            numa_node: 0,
            name: NAME,
        };
        // SAFETY: the attributes of this command, which points to nothing.
        unsafe { new_descriptor(MAP_CREATE, &attributes) }.map(SocketMap)
    }

    pub fn set(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        #[repr(C)]
        struct Attributes {
            map: u32,
            padding: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let socket = socket.as_raw_fd() as u32;
        let (key, value) = (&raw const queue as u64, &raw const socket as u64);
        let attributes = Attributes { map: self.0.as_raw_fd() as u32, padding: 0, key, value, flags: 0 };
        // SAFETY: key and value are four readable bytes each, as the map was made for, and outlive the call.
        unsafe { call(MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }
}

#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Sends every frame to the socket of its receive queue; without one, it goes the kernel's way.
    pub fn load(map: &SocketMap) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            kind: u32,
            instruction_count: u32,
            instructions: u64,
            license: u64,
            log_level: u32,
            log_bytes: u32,
            log: u64,
            kernel_version: u32,
            flags: u32,
            name: [u8; 16],
            interface: u32,
            attach_type: u32,
        }
        let instructions = redirect(map.0.as_raw_fd());
        let attributes = Attributes {
            kind: PROG_TYPE_XDP,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: NAME,
            interface: 0,
            attach_type: ATTACH_XDP,
        };
        // SAFETY: the pointers are to as many instructions as said and to a terminated string; both outlive the call.
        unsafe { new_descriptor(PROG_LOAD, &attributes) }.map(Program)
    }
}

/// A program on an interface. Dropped, it is off.
#[derive(Debug)]
pub struct Link(#[allow(dead_code, reason = "closing it is what it is for")] OwnedFd);

impl Link {
    pub fn attach(program: &Program, interface_index: u32, mode: Mode) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            program: u32,
            interface: u32,
            attach_type: u32,
            flags: u32,
        }
        let attributes = Attributes {
            program: program.0.as_raw_fd() as u32,
            interface: interface_index,
            attach_type: ATTACH_XDP,
            flags: if mode == Mode::Generic { GENERIC } else { NATIVE },
        };
        // SAFETY: the attributes of this command, which points to nothing.
        unsafe { new_descriptor(LINK_CREATE, &attributes) }.map(Link)
    }
}

/// `return bpf_redirect_map(map, context->rx_queue_index, XDP_PASS)`.
fn redirect(map: i32) -> [Instruction; 6] {
    const XDP_PASS: i32 = 2;
    /// Of `struct xdp_md`.
    const RX_QUEUE_INDEX: i16 = 16;
    const REDIRECT_MAP: i32 = 51;
    const IS_MAP: u8 = 1;
    let instruction = |code, destination: u8, source: u8, offset, value| {
        let registers =
            if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
        Instruction { code, registers, offset, value }
    };
    [
        instruction(0x61, 2, 1, RX_QUEUE_INDEX, 0), // r2 = *(u32 *)(r1 + 16)
        instruction(0x18, 1, IS_MAP, 0, map),       // r1 = the map; takes two places
        instruction(0, 0, 0, 0, 0),
        instruction(0xb7, 3, 0, 0, XDP_PASS), // r3 = what to do when the queue has no socket
        instruction(0x85, 0, 0, 0, REDIRECT_MAP), // r0 = call
        instruction(0x95, 0, 0, 0, 0),        // return r0
    ]
}

/// # Safety
/// `attributes` are those of the command, laid out as in linux/bpf.h without padding; what they point to outlives the call.
unsafe fn call<A>(command: c_long, attributes: &A) -> io::Result<i32> {
    // SAFETY: the size is that of what is pointed to; the rest the caller promises.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// # Safety
/// As [`call`]; and the command returns a new file descriptor.
unsafe fn new_descriptor<A>(command: c_long, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: the caller promises what `call` asks for.
    let fd = unsafe { call(command, attributes) }?;
    // SAFETY: a fresh file descriptor that nobody else owns, close-on-exec as all of bpf(2).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl AsFd for SocketMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
