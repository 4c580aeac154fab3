//! Programs of BPF for an interface, and the one place that hands them to the kernel (bpf(2), linux/bpf.h).
//!
//! What a program does is its user's matter: `frames::quiet` has one that drops, `frames::af_xdp` one that hands over, `gate` one that sheds what nobody would read,
//! `uplink` one that hands over tunnels' data.
//! The kernel takes none that it has not checked, so loading any is safe. A program is attached by a link: the kernel takes it off when
//! the link's last descriptor is closed, so also when this process is killed.

#![allow(unsafe_code)]

pub mod assembler;

use std::ffi::{CStr, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// Commands.
const MAP_CREATE: c_long = 0;
const MAP_UPDATE_ELEM: c_long = 2;
const MAP_DELETE_ELEM: c_long = 3;
const PROG_LOAD: c_long = 5;
#[cfg(test)]
const PROG_TEST_RUN: c_long = 10;
#[cfg(test)]
const PROG_QUERY: c_long = 16;
const LINK_CREATE: c_long = 28;
const LINK_DETACH: c_long = 34;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_XSKMAP: u32 = 17;
/// `BPF_F_MMAPABLE`.
const MAPPABLE: u32 = 1 << 10;
/// `BPF_F_XDP_DEV_BOUND_ONLY`.
const BOUND_TO_INTERFACE: u32 = 1 << 6;
/// The kernel lets some functions be called only by programs of a licence that agrees with its own.
const LICENSE: &CStr = c"Dual MIT/GPL";

/// What the kernel lists a program or a map as; ends with zeroes.
pub type Name = [u8; 16];

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

pub const fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> Instruction {
    // Bit fields: the first one lies where the machine's lowest byte does.
    let registers = if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    Instruction { code, registers, offset, value }
}

/// Where an interface runs a program.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    program_type: u32,
    attach_type: u32,
}

impl Hook {
    /// In the driver, or right behind it.
    pub const XDP: Hook = Hook { program_type: 6, attach_type: 37 };
    /// Traffic control (`tcx`), on the way in: Linux 6.6 and later.
    pub const TCX_INGRESS: Hook = Hook { program_type: 3, attach_type: 46 };
    #[cfg(test)]
    pub const TCX_EGRESS: Hook = Hook { program_type: 3, attach_type: 47 };
}

/// `bound_to`: the only interface that it may be attached to, whose driver's functions it may then call.
pub fn load(hook: Hook, name: Name, instructions: &[Instruction], bound_to: Option<u32>) -> io::Result<OwnedFd> {
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
        name: Name,
        interface: u32,
        attach_type: u32,
    }
    let attributes = Attributes {
        kind: hook.program_type,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel_version: 0,
        flags: if bound_to.is_some() { BOUND_TO_INTERFACE } else { 0 },
        name,
        interface: bound_to.unwrap_or(0),
        attach_type: hook.attach_type,
    };
    // SAFETY: those of this command, without padding; they point to as many instructions as said and to a terminated string, which
    // both outlive the call and are only read.
    unsafe { new_descriptor(PROG_LOAD, &attributes) }
}

/// The program is on the interface, and held by the link, until that is closed everywhere or detached. `flags`: the hook's own.
pub fn attach(program: BorrowedFd<'_>, hook: Hook, interface_index: u32, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    let attributes = Attributes {
        program: program.as_raw_fd() as u32,
        interface: interface_index,
        attach_type: hook.attach_type,
        flags,
    };
    // SAFETY: those of this command, without padding, which point to nothing.
    unsafe { new_descriptor(LINK_CREATE, &attributes) }
}

/// Whoever else still has the link.
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let link = link.as_raw_fd() as u32;
    // SAFETY: the first member of those of this command, which points to nothing.
    unsafe { call(LINK_DETACH, &link) }.map(drop)
}

/// AF_XDP sockets, by number from 0 on.
#[derive(Debug)]
pub struct SocketMap(OwnedFd);

impl SocketMap {
    /// Empty.
    pub fn new(name: Name, entries: u32) -> io::Result<Self> {
        create_map(MAP_TYPE_XSKMAP, [4, 4], entries, 0, name).map(SocketMap)
    }

    pub fn set(&self, number: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let socket = socket.as_raw_fd() as u32;
        let attributes = Element::new(&self.0, (&raw const number).addr(), (&raw const socket).addr());
        // SAFETY: those of this command; key and value are four readable bytes each, as the map was made for, and outlive the call.
        unsafe { call(MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }
}

/// Numbers, by keys of `KEY` bytes, for programs to look up.
#[derive(Debug)]
pub struct Table<const KEY: usize>(OwnedFd);

impl<const KEY: usize> Table<KEY> {
    /// Empty.
    pub fn new(name: Name, entries: u32) -> io::Result<Self> {
        create_map(MAP_TYPE_HASH, [KEY as u32, 4], entries, 0, name).map(Table)
    }

    /// An error: it is full.
    pub fn set(&self, key: &[u8; KEY], number: u32) -> io::Result<()> {
        let attributes = Element::new(&self.0, key.as_ptr().addr(), (&raw const number).addr());
        // SAFETY: those of this command; key and value are as many readable bytes as the map was made for, and outlive the call.
        unsafe { call(MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }

    /// An error: it was not there.
    pub fn remove(&self, key: &[u8; KEY]) -> io::Result<()> {
        let attributes = Element::new(&self.0, key.as_ptr().addr(), 0);
        // SAFETY: those of this command, which looks at no value; the key is as many readable bytes as the map was made for, and
        // outlives the call.
        unsafe { call(MAP_DELETE_ELEM, &attributes) }.map(drop)
    }
}

impl<const KEY: usize> AsRawFd for Table<KEY> {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Attributes of the commands for one element of a map: without padding.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new(map: &OwnedFd, key: usize, value: usize) -> Self {
        Element { map: map.as_raw_fd() as u32, padding: 0, key: key as u64, value: value as u64, flags: 0 }
    }
}

impl AsRawFd for SocketMap {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Memory that programs and this process share: one value, all zeroes at first. To be mapped.
pub fn shared_memory(name: Name, bytes: u32) -> io::Result<OwnedFd> {
    create_map(MAP_TYPE_ARRAY, [4, bytes], 1, MAPPABLE, name)
}

/// `bytes`: of a key, of a value.
fn create_map(
    kind: u32,
    [key_bytes, value_bytes]: [u32; 2],
    entries: u32,
    flags: u32,
    name: Name,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        entries: u32,
        flags: u32,
        inner_map: u32,
        numa_node: u32,
        name: Name,
    }
    let attributes = Attributes { kind, key_bytes, value_bytes, entries, flags, inner_map: 0, numa_node: 0, name };
    // SAFETY: those of this command, without padding, which point to nothing.
    unsafe { new_descriptor(MAP_CREATE, &attributes) }
}

/// Has the kernel run a program of the traffic control on a packet that nobody sent; what it returns, and how many ns it took on average of
/// `repeat` runs.
#[cfg(test)]
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], context: &[u8], repeat: u32) -> io::Result<(i32, u32)> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        returned: u32,
        packet_bytes: u32,
        packet_out_bytes: u32,
        packet: u64,
        packet_out: u64,
        repeat: u32,
        nanos: u32,
        context_bytes: u32,
        context_out_bytes: u32,
        context: u64,
        context_out: u64,
    }
    let mut attributes = Attributes {
        program: program.as_raw_fd() as u32,
        returned: 0,
        packet_bytes: packet.len() as u32,
        packet_out_bytes: 0,
        packet: packet.as_ptr().addr() as u64,
        packet_out: 0,
        repeat,
        nanos: 0,
        context_bytes: context.len() as u32,
        context_out_bytes: 0,
        context: if context.is_empty() { 0 } else { context.as_ptr().addr() as u64 },
        context_out: 0,
    };
    let size = size_of::<Attributes>();
    // SAFETY: those of this command, without padding; they point to as many readable bytes as said, and the kernel writes back into
    // them what it returns; all outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((attributes.returned as i32, attributes.nanos)) }
}

/// How many programs an interface runs there.
#[cfg(test)]
pub fn count_attached(hook: Hook, interface_index: u32) -> io::Result<u32> {
    #[repr(C)]
    struct Attributes {
        interface: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let mut attributes = Attributes {
        interface: interface_index,
        attach_type: hook.attach_type,
        query_flags: 0,
        attach_flags: 0,
        programs: 0,
        count: 0,
        padding: 0,
        program_flags: 0,
        links: 0,
        link_flags: 0,
        revision: 0,
    };
    let size = size_of::<Attributes>();
    // SAFETY: those of this command; it asks for no list, so the kernel writes back numbers into them, and they outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut attributes, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes.count) }
}

/// # Safety
/// `attributes` are those of the command, laid out as in linux/bpf.h without padding (members left away at the end count as zero);
/// what they point to is good for what the command does with it, and outlives the call.
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
