//! Which of the sockets of one port a datagram goes to, as the kernel is told: a program of classic BPF (`SO_ATTACH_REUSEPORT_CBPF`).
//!
//! ```text
//! socket 0            what makes and keeps tunnels: WireGuard's messages 1 to 3; IKE (behind four zero bytes, RFC 3948 section 2.2)
//! sockets 1 to LANES  data, by receiver index or SPI: a tunnel's packets always in one *lane*, so their order stays
//! ```
//!
//! A queue that is full loses whatever comes next. So a tunnel that floods fills its own lane, and neither the handshakes nor the
//! packets of (nearly) all other tunnels are lost with its own. Indices and SPIs are random and ours: nobody chooses a lane
//! for what the IX accepts. They are mixed all the same, so that any bits of them spread.
//!
//! The program sees the datagram from its UDP payload on; of datagrams that the kernel has joined (GRO), the first. So a shorter
//! message that comes right behind data of the same sender, such as its own next handshake, goes the way of that data. A load
//! beyond the end would answer 0, so the length is looked at first: what is too short to be anything must not come into the way
//! of handshakes.

use libc::sock_filter;

use crate::net::Port;

/// Data queues of one port. A quiet tunnel shares its own with one that floods with a probability of 1 in so many, until its next
/// handshake; the gate ([`super::super::gate`]) leaves it a share there.
pub const LANES: usize = 32;
pub(in crate::io) const LANE_BITS: u32 = LANES.trailing_zeros();
const _: () = assert!(LANES.is_power_of_two());

/// 2^32 divided by the golden ratio, and odd: the high bits of a product depend on all bits of the other factor.
pub(in crate::io) const MIX: u32 = 0x9e37_79b1;
/// Neither WireGuard's nor IKE's nor ESP's headers are shorter.
pub(in crate::io) const MIN_BYTES: u32 = 8;

// Codes of linux/filter.h.
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_LENGTH: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_LEN;
const IF_AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const IF_MORE: u32 = libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const MULTIPLY: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
const ANSWER: u32 = libc::BPF_RET | libc::BPF_K;
/// What was worked out.
const ANSWER_RESULT: u32 = libc::BPF_RET | 0x10;

/// `None`: nothing but control comes by this port, or it is no UDP port.
pub fn program(port: Port) -> Option<Vec<sock_filter>> {
    match port {
        Port::WireGuard => Some(wireguard()),
        Port::IkeNatT => Some(nat_t()),
        Port::Ike | Port::RawEsp | Port::Frames(_) | Port::Tun(_) => None,
    }
}

/// The lane of a receiver index or SPI as it stands on the wire, from 1 on: what the program says, for tests and for whoever wants
/// to know.
pub fn lane_of(word: [u8; 4]) -> usize {
    1 + (u32::from_be_bytes(word).wrapping_mul(MIX) >> (u32::BITS - LANE_BITS)) as usize
}

/// Type (one byte, then zeroes), then in messages of data (4) the receiver index.
fn wireguard() -> Vec<sock_filter> {
    let start = [
        step(LOAD_LENGTH, 0),
        jump(IF_AT_LEAST, MIN_BYTES, 1, 0),
        step(ANSWER, 1),
        step(LOAD_BYTE, 0),
        jump(IF_EQUAL, 0, 2, 0),
        jump(IF_MORE, 3, 1, 0),
        step(ANSWER, 0),
    ];
    [start.as_slice(), &by_word_at(4)].concat()
}

/// ESP begins with its SPI, which is never zero; IKE comes behind a zero one. A keepalive is one byte.
fn nat_t() -> Vec<sock_filter> {
    let start = [
        step(LOAD_LENGTH, 0),
        jump(IF_AT_LEAST, MIN_BYTES, 1, 0),
        step(ANSWER, 1),
        step(LOAD_WORD, 0),
        jump(IF_EQUAL, 0, 0, 1),
        step(ANSWER, 0),
    ];
    [start.as_slice(), &by_word_at(0)].concat()
}

fn by_word_at(offset: u32) -> [sock_filter; 5] {
    [
        step(LOAD_WORD, offset),
        step(MULTIPLY, MIX),
        step(SHIFT_RIGHT, u32::BITS - LANE_BITS),
        step(ADD, 1),
        step(ANSWER_RESULT, 0),
    ]
}

fn step(code: u32, value: u32) -> sock_filter {
    jump(code, value, 0, 0)
}

/// `then`, `or`: instructions to be passed over.
fn jump(code: u32, value: u32, then: u8, or: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: then, jf: or, k: value }
}

#[cfg(test)]
mod tests;
