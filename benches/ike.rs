//! What IPsec costs before and beside its packets: handshakes, memory, and coming back after a restart.
//!
//! `cargo bench --bench ike` answers three questions, on one core, in processor time of this thread (so that a busy machine
//! disturbs as little as can be; the code still shares caches with whatever runs beside it):
//!
//! 1. `handshake`: how many peers the appliance lets in per second, as responder: IKE_SA_INIT, IKE_INTERMEDIATE where the
//!    profile has it, IKE_AUTH with the first Child SA, through `ike::Endpoint::handle_input`. Each of two
//!    thousand configured peers comes once, twenty at a time. Beside it what this
//!    very handshake cannot do without, by the same library, in turns with the handshakes: *public*, the Diffie-Hellman,
//!    signatures, verifications and encapsulation; *all*, these and the HMACs, hashes and AEAD calls that RFC 7296 asks
//!    for. *of it* is primitives / handshake; the goal is 70 % of all. Parsing, tables and copies are in neither.
//! 2. `memory`: what an idle tunnel holds, one IKE SA and one Child SA in `ike::Endpoint` and `ipsec::Endpoint`, without what
//!    its configuration holds anyway. *heap* is what was asked of Rust's allocator; *resident* is what the process has
//!    grown by, and has the allocations of the crypto library and the allocator's own losses in it. The goal is 16 KiB.
//! 3. `restart`: how long until 10,000 tunnels are there again when the appliance has lost all state: *called*, when every
//!    peer calls in the same millisecond; *calling*, when the appliance calls them. Virtual time, in which each call into the
//!    appliance takes as long as it really took; peers cost nothing. What comes while it is busy waits in a receive buffer
//!    as long as `io::udp` asks for, and is lost when that is full. Limits are the defaults. The goal is 60 s.
//!
//! `-- --quick` does less of each; `-- handshake`, `-- handshake rsa` (how its line begins), `-- memory` and `-- restart` do one.
//!
//! Profiling: `perf record --call-graph dwarf target/release/deps/ike-* handshake psk`.

// A counting allocator is `unsafe impl GlobalAlloc`, and the time of a thread a call into libc; neither reaches ixgate.
#![allow(unsafe_code)]

#[path = "ike/gateways.rs"]
mod gateways;
#[path = "ike/handshake.rs"]
mod handshake;
#[path = "ike/memory.rs"]
mod memory;
#[path = "ike/meters.rs"]
mod meters;
#[path = "ike/methods.rs"]
mod methods;
#[path = "ike/restart.rs"]
mod restart;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let mut words = arguments.iter().filter(|argument| !argument.starts_with("--")).map(String::as_str);
    let (question, line) = (words.next(), words.next());
    let asked = |name: &str| question.is_none_or(|question| question == name);
    // Memory first: what the others leave behind in the allocator would hide some of it.
    if asked("memory") {
        memory::measure(quick);
    }
    if asked("handshake") {
        handshake::measure(quick, line);
    }
    if asked("restart") {
        restart::measure(quick);
    }
}
