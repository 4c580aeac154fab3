//! The program that hands an interface's frames to our sockets, and how it is attached.
//!
//! It is a handful of instructions, written out here ([`Tags`] tells why there are two of it).

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::btf;
use super::error::Mode;
use crate::io::bpf::{self, Hook, Instruction, Name, SocketMap, instruction};

pub const NAME: Name = *b"ixgate_frames\0\0\0";

// How a program is attached (linux/if_link.h).
const GENERIC: u32 = 1 << 1;
const NATIVE: u32 = 1 << 2;

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
        let keep_context = [instruction(0xbf, CONTEXT, 1, 0, 0)];
        let redirect = redirect(map.as_raw_fd());
        let (instructions, bound_to) = match tags {
            Tags::InFrames => ([keep_context.as_slice(), &redirect].concat(), None),
            Tags::BesideFrames { interface_index } => {
                let with_tag = insert_tag(btf::function_of_kernel(READ_TAG)?, redirect.len());
                let instructions = [keep_context.as_slice(), &with_tag, &redirect, &drop_frame()].concat();
                (instructions, Some(interface_index))
            }
        };
        bpf::load(Hook::XDP, NAME, &instructions, bound_to).map(Program)
    }
}

impl Program {
    /// Another one, which hands to sockets what it chooses.
    pub fn of(name: Name, instructions: &[Instruction]) -> io::Result<Self> {
        bpf::load(Hook::XDP, name, instructions, None).map(Program)
    }
}

/// A program on an interface. Dropped, it is off.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    pub fn attach(program: &Program, interface_index: u32, mode: Mode) -> io::Result<Self> {
        let flags = if mode == Mode::Generic { GENERIC } else { NATIVE };
        bpf::attach(program.0.as_fd(), Hook::XDP, interface_index, flags).map(Link)
    }
}

/// Closing the descriptor would do, unless a process that is being started holds a copy of it for a moment.
impl Drop for Link {
    fn drop(&mut self) {
        // Refused (the interface is gone), nothing is lost.
        let _ = bpf::detach(self.0.as_fd());
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

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A program of the traffic control on an interface's way out (`tcx`): `skb_vlan_push(0x8100, vlan)`.
    pub fn push_vlan_on_egress(interface_index: u32, vlan: i32) -> OwnedFd {
        const SKB_VLAN_PUSH: i32 = 18;
        let instructions = [
            instruction(0xb7, 2, 0, 0, i32::from(0x8100u16.to_be())),
            instruction(0xb7, 3, 0, 0, vlan),
            instruction(0x85, 0, 0, 0, SKB_VLAN_PUSH),
            instruction(0xb7, 0, 0, 0, 0),
            instruction(0x95, 0, 0, 0, 0),
        ];
        let program = bpf::load(Hook::TCX_EGRESS, NAME, &instructions, None).unwrap();
        bpf::attach(program.as_fd(), Hook::TCX_EGRESS, interface_index, 0).unwrap()
    }
}
