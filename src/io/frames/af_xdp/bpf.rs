//! The program that hands an interface's frames to our sockets, and how it is attached.
//!
//! It is a handful of instructions, written out here ([`Tags`] tells why there are two of it). It is attached by a BPF link: the kernel detaches it when the link's last
//! descriptor is closed, so also when this process is killed, and the interface is then the kernel's again.

#![allow(unsafe_code)]

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::btf;
use super::error::Mode;

// Commands and types of bpf(2) (linux/bpf.h).
const MAP_CREATE: c_long = 0;
const MAP_UPDATE_ELEM: c_long = 2;
const PROG_LOAD: c_long = 5;
const LINK_CREATE: c_long = 28;
const LINK_DETACH: c_long = 34;
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

/// Where an interface has the VLAN tags of a frame that it hands to the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tags {
    /// Where they were on the wire.
    InFrames,
    /// The outer one may be beside the frame, and the socket would never see it: so on veth, where the other end's kernel expects
    /// the "card" to put it in. The program asks the driver for it and puts it back.
    BesideFrames { interface_index: u32 },
}

#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Sends every frame to the socket of its receive queue; without one, it goes the kernel's way. An error of kind `Unsupported`
    /// or `NotFound`: the kernel does not tell of tags (Linux 6.8 and later do).
    pub fn load(map: &SocketMap, tags: Tags) -> io::Result<Self> {
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
        let keep_context = [instruction(0xbf, CONTEXT, 1, 0, 0)];
        let redirect = redirect(map.0.as_raw_fd());
        let (instructions, flags, interface) = match tags {
            Tags::InFrames => ([keep_context.as_slice(), &redirect].concat(), 0, 0),
            Tags::BesideFrames { interface_index } => {
                let with_tag = insert_tag(btf::function_of_kernel(READ_TAG)?, redirect.len());
                let instructions = [keep_context.as_slice(), &with_tag, &redirect, &drop_frame()].concat();
                (instructions, BOUND_TO_INTERFACE, interface_index)
            }
        };
        let attributes = Attributes {
            kind: PROG_TYPE_XDP,
            instruction_count: instructions.len() as u32,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags,
            name: NAME,
            interface,
            attach_type: ATTACH_XDP,
        };
        // SAFETY: the pointers are to as many instructions as said and to a terminated string; both outlive the call.
        unsafe { new_descriptor(PROG_LOAD, &attributes) }.map(Program)
    }
}

/// A program on an interface. Dropped, it is off.
#[derive(Debug)]
pub struct Link(OwnedFd);

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

// Registers: 0 results, 1 to 5 arguments, 6 to 9 kept by calls, 10 the end of the stack.
// Operations: 0xb7 and 0x07 set and add a value, 0xbf and 0x0f the same from a register, 0x61 and 0x69 load 4 and 2 bytes, 0x63 and
// 0x6b store them, 0x7a stores a value of 8, 0x55 and 0x2d jump forward if not equal to the value, and if greater than the register.

const CONTEXT: u8 = 6;
// In `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;
// What a program returns.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
// Functions.
const ADJUST_HEAD: i32 = 44;
const REDIRECT_MAP: i32 = 51;
const READ_TAG: &str = "bpf_xdp_metadata_rx_vlan_tag";
/// The source of a call: it is to a function by its BTF number.
const OF_KERNEL: u8 = 2;
/// The source of a load: the value is a map's descriptor.
const OF_MAP: u8 = 1;
/// `BPF_F_XDP_DEV_BOUND_ONLY`.
const BOUND_TO_INTERFACE: u32 = 1 << 6;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> Instruction {
    let [low, high] = if cfg!(target_endian = "little") { [destination, source] } else { [source, destination] };
    Instruction { code, registers: high << 4 | low, offset, value }
}

/// Closing the descriptor would do, unless a process that is being started holds a copy of it for a moment.
impl Drop for Link {
    fn drop(&mut self) {
        let link = self.0.as_raw_fd() as u32;
        // SAFETY: the attributes of this command, which points to nothing. Refused (the interface is gone), nothing is lost.
        let _ = unsafe { call(LINK_DETACH, &link) };
    }
}

/// `return bpf_redirect_map(map, context->rx_queue_index, XDP_PASS)`, with the context in its register.
fn redirect(map: i32) -> [Instruction; 6] {
    [
        instruction(0x61, 2, CONTEXT, RX_QUEUE_INDEX, 0),
        instruction(0x18, 1, OF_MAP, 0, map), // takes two places
        instruction(0, 0, 0, 0, 0),
        instruction(0xb7, 3, 0, 0, XDP_PASS),
        instruction(0x85, 0, 0, 0, REDIRECT_MAP),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// Asks for the tag beside the frame; if there is one, makes room before the frame, moves the addresses there and writes it behind
/// them. What comes next is `next` instructions long, and behind it the frame is dropped.
fn insert_tag(read_tag: u32, next: usize) -> Vec<Instruction> {
    let begin = [
        instruction(0x7a, 10, 0, -8, 0), // type at -8, tag at -6
        instruction(0xbf, 1, CONTEXT, 0, 0),
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, -8),
        instruction(0xbf, 3, 10, 0, 0),
        instruction(0x07, 3, 0, 0, -6),
        instruction(0x85, 0, OF_KERNEL, 0, read_tag as i32),
    ];
    let room =
        [instruction(0xbf, 1, CONTEXT, 0, 0), instruction(0xb7, 2, 0, 0, -4), instruction(0x85, 0, 0, 0, ADJUST_HEAD)];
    let bounds = [
        instruction(0x61, 2, CONTEXT, DATA, 0),
        instruction(0x61, 3, CONTEXT, DATA_END, 0),
        instruction(0xbf, 1, 2, 0, 0),
        instruction(0x07, 1, 0, 0, 16),
    ];
    let write = [
        instruction(0x61, 4, 2, 4, 0),
        instruction(0x63, 2, 4, 0, 0),
        instruction(0x61, 4, 2, 8, 0),
        instruction(0x63, 2, 4, 4, 0),
        instruction(0x61, 4, 2, 12, 0),
        instruction(0x63, 2, 4, 8, 0),
        instruction(0x69, 4, 10, -8, 0),
        instruction(0x6b, 2, 4, 12, 0),
        instruction(0x69, 4, 10, -6, 0),
        instruction(0xdc, 4, 0, 0, 16), // to network order
        instruction(0x6b, 2, 4, 14, 0),
    ];
    // The jumps stand behind `begin`, `room` and `bounds`.
    let to_next = (room.len() + 1 + bounds.len() + 1 + write.len()) as i16;
    let to_drop = (write.len() + next) as i16;
    let jump_if_none = instruction(0x55, 0, 0, to_next, 0);
    let jump_if_no_room = instruction(0x55, 0, 0, to_drop + bounds.len() as i16 + 1, 0);
    let jump_if_short = instruction(0x2d, 1, 3, to_drop, 0);
    [&begin[..], &[jump_if_none], &room, &[jump_if_no_room], &bounds, &[jump_if_short], &write].concat()
}

fn drop_frame() -> [Instruction; 2] {
    [instruction(0xb7, 0, 0, 0, XDP_DROP), instruction(0x95, 0, 0, 0, 0)]
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

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A program of the traffic control on an interface's way out (`tcx`): `skb_vlan_push(0x8100, vlan)`.
    pub fn push_vlan_on_egress(interface_index: u32, vlan: i32) -> OwnedFd {
        const PROG_TYPE_SCHED_CLS: u32 = 3;
        const ATTACH_TCX_EGRESS: u32 = 47;
        const SKB_VLAN_PUSH: i32 = 18;
        let instructions = [
            instruction(0xb7, 2, 0, 0, i32::from(0x8100u16.to_be())),
            instruction(0xb7, 3, 0, 0, vlan),
            instruction(0x85, 0, 0, 0, SKB_VLAN_PUSH),
            instruction(0xb7, 0, 0, 0, 0),
            instruction(0x95, 0, 0, 0, 0),
        ];
        let (count, pointer) = (instructions.len() as u64, instructions.as_ptr() as u64);
        let load = [u64::from(PROG_TYPE_SCHED_CLS) | count << 32, pointer, LICENSE.as_ptr() as u64, 0, 0, 0];
        // SAFETY: type and count, instructions and licence as the kernel expects them; both pointers outlive the call.
        let program = unsafe { new_descriptor(PROG_LOAD, &load) }.unwrap();
        let attach = [program.as_raw_fd() as u32, interface_index, ATTACH_TCX_EGRESS, 0];
        // SAFETY: the attributes of this command, which points to nothing.
        unsafe { new_descriptor(LINK_CREATE, &attach) }.unwrap()
    }
}
