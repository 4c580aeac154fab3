//! What the kernel does with each packet that an interface brings, before its stack has it: lets it go on, or drops it.
//!
//! ```text
//! to our machine, no VLAN, not seen before, IPv4 without options and no fragment or IPv6 without extension headers, UDP, to a port (and,
//! where that is bound to one, an address) of ours?                                          no: it goes on, and is not counted
//! which queue would it come to?      as udp/steer.rs says it
//! has the queue credit?              yes: count it (a joined one as its segments), and it goes on
//! would the kernel send it on to somebody else?                                             yes: it goes on
//! was none of one of its shares let in beyond the credit for 3 ms, and few of all?          yes: count it, and it goes on
//! was none let in beyond the credit for 10 ms?                                              yes: count it, and it goes on
//! count it as shed, and drop it
//! ```
//!
//! A packet may pass several interfaces, a card and the bridge on it: what was counted once is marked (`tc_index`, which nothing else has used
//! for years) and goes on. A tagged one is met again, without its tag, on the VLAN's own interface. One let in every 10 ms wakes a worker that
//! waits for a queue whose credit was all lost elsewhere, so that it makes up the account again.
//!
//! *Shares* are for those whose queue somebody else floods: each queue has sixteen, of which everybody has two, by the receiver index or SPI (other bits of what chooses the
//! lane, and every few seconds by another mixture of them), of control by the source address. A share lets one in every 3 ms, and a joined one for
//! as many as it was. So a quiet tunnel in a flooded lane is heard some hundred times a second, and who shakes hands while another source
//! floods the port with handshakes. All together are bounded: by a part of what is read.
//!
//! In all a packet of ours costs some 20 to 40 ns here, of which loading its headers from wherever they are is a half.

use super::memory::{
    self, ADMITTED, ALLOWED, BELL, BEYOND_AT, PORT_ADDRESS, PORT_BOUND, PORT_BYTES, PORT_NUMBER, PORT_VERSION,
    SHARE_BITS, SHARE_BYTES, SHARED_ALLOWED, SHARES_AT, SHED,
};
use crate::io::bpf::Instruction;
use crate::io::bpf::assembler::{Assembler, Do, If, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, Register, STACK, Width};
use crate::io::sockets::places::{ESP_LANES, WIREGUARD_LANES};
use crate::io::udp::steer;

/// What a program of the traffic control returns: whoever is next decides.
pub const NEXT: i32 = -1;
pub const DROP: i32 = 2;
/// Marks what was counted: "ix".
pub const MARK: i32 = 0x6978;
/// The longest time in which a queue that is not read lets in nothing.
const BEYOND_EVERY_NANOS: i32 = 10_000_000;
/// The shortest time between two datagrams by one share. The kernel's coarse clock goes by its ticks: 250 or 333 in a second, 100 where it has no more.
const SHARE_EVERY_NANOS: i32 = 3_000_000;
/// By how many bits the number of those that were let in by shares is shortened to the one that says which share is whose.
pub const RENEWED_BITS: i32 = 12;

// In `struct __sk_buff`.
const PACKET_TYPE: i16 = 4;
const PROTOCOL: i16 = 16;
const VLAN_PRESENT: i16 = 20;
const VLAN_TCI: i16 = 24;
const LENGTH: i16 = 0;
const INTERFACE: i16 = 40;
const TC_INDEX: i16 = 44;
const SEGMENTS: i16 = 164;
// Functions.
const LOAD_BYTES: i32 = 26;
const FIB_LOOKUP: i32 = 69;
const COARSE_NANOS: i32 = 160;

const VLAN_NUMBER: i32 = 0xfff;
const ETHERNET_BYTES: i32 = 14;
const IPV4_BYTES: i16 = 20;
const IPV6_BYTES: i16 = 40;
/// UDP's header, and of what it carries what the queue depends on.
const UDP_BYTES: i16 = 8;
const PAYLOAD_BYTES: i16 = 8;
const UDP: i32 = 17;

// On the stack: headers end at its end, so that UDP's is always at the same place.
const PAYLOAD: i16 = -PAYLOAD_BYTES;
const UDP_AT: i16 = PAYLOAD - UDP_BYTES;
const IPV4: i16 = UDP_AT - IPV4_BYTES;
const IPV6: i16 = UDP_AT - IPV6_BYTES;
/// Whether the port is bound to an address.
const BOUND: i16 = -64;
/// What is mixed of the word that a share is found by.
const MIXED: i16 = BOUND - 8;
/// `struct bpf_fib_lookup`.
const FIB_BYTES: i32 = 64;
const FIB: i16 = MIXED - FIB_BYTES as i16;
const FIB_INTERFACE: i16 = 8;
const FIB_SOURCE: i16 = 16;
const FIB_DESTINATION: i16 = 32;
/// `BPF_FIB_LOOKUP_SKIP_NEIGH`: whether, not to whom.
const FIB_FLAGS: i32 = 4;
const FIB_LOCAL: i32 = 4;
const FIB_NEVER: i32 = 5;

// Of what comes by each port and is control, the place among the sockets.
const WIREGUARD: i32 = 0;
const IKE: i32 = 1;
const NAT_T: i32 = 2;

const CONTEXT: Register = R6;
const MEMORY: Register = R7;
const QUEUE: Register = R8;
const VERSION: Register = R9;

/// `memory`: the descriptor of what is shared.
pub fn program(memory: i32) -> Vec<Instruction> {
    let mut a = Assembler::default();
    let [pass, found] = [a.label(), a.label()];
    a.with(Do::Set, CONTEXT, R1);
    a.address_of_value(MEMORY, memory);
    pass_strangers(&mut a, pass);
    load_headers(&mut a, pass);
    for (port, label) in (0..).zip(find_port(&mut a, pass)) {
        a.place(label);
        check_address(&mut a, port, pass);
        share_by_source(&mut a);
        match port {
            WIREGUARD => queue_of_wireguard(&mut a, found),
            IKE => a.with_value(Do::Set, QUEUE, IKE),
            _ => queue_of_nat_t(&mut a, found),
        }
        a.jump(found);
    }
    a.place(found);
    settle(&mut a, pass);
    a.place(pass);
    a.answer(NEXT);
    a.assemble()
}

fn pass_strangers(a: &mut Assembler, pass: Label) {
    let untagged = a.label();
    // To our own hardware address: `PACKET_HOST`.
    a.load(Width::Four, R0, CONTEXT, PACKET_TYPE);
    a.jump_if(R0, If::NotEqual, 0, pass);
    a.load(Width::Four, R0, CONTEXT, TC_INDEX);
    a.jump_if(R0, If::Equal, MARK, pass);
    a.load(Width::Four, R0, CONTEXT, VLAN_PRESENT);
    a.jump_if(R0, If::Equal, 0, untagged);
    a.load(Width::Four, R0, CONTEXT, VLAN_TCI);
    // Number 0 is a priority, and no VLAN.
    a.jump_if(R0, If::Any, VLAN_NUMBER, pass);
    a.place(untagged);
}

/// Of the queue whose number is in its register.
fn address_of_account(a: &mut Assembler) {
    // The kernel, which checks the program, must know as much of it on every way here (without CAP_PERFMON it allows nothing else): nothing,
    a.load(Width::Four, R1, CONTEXT, LENGTH);
    a.with(Do::Add, QUEUE, R1);
    a.with(Do::Subtract, QUEUE, R1);
    // and then that it is in bounds.
    a.with_value(Do::And, QUEUE, memory::QUEUES as i32 - 1);
    a.with_value(Do::ShiftLeft, QUEUE, memory::QUEUE_BITS as i32);
    a.with(Do::Set, R1, MEMORY);
    a.with(Do::Add, R1, QUEUE);
    a.with(Do::Set, QUEUE, R1);
}

fn account(word: usize) -> i16 {
    (memory::QUEUES_AT + word) as i16
}

/// Headers onto the stack, and the version into its register.
fn load_headers(a: &mut Assembler, pass: Label) {
    let [v4, v6, done] = [a.label(), a.label(), a.label()];
    a.load(Width::Four, R0, CONTEXT, PROTOCOL);
    a.jump_if(R0, If::Equal, i32::from(0x0800_u16.to_be()), v4);
    a.jump_if(R0, If::Equal, i32::from(0x86dd_u16.to_be()), v6);
    a.jump(pass);
    a.place(v4);
    load_from(a, IPV4, pass);
    a.load(Width::One, R1, STACK, IPV4);
    a.jump_if(R1, If::NotEqual, 0x45, pass);
    a.load(Width::Two, R1, STACK, IPV4 + 6);
    // More fragments, or an offset.
    a.jump_if(R1, If::Any, i32::from(0x3fff_u16.to_be()), pass);
    a.load(Width::One, R1, STACK, IPV4 + 9);
    a.jump_if(R1, If::NotEqual, UDP, pass);
    a.with_value(Do::Set, VERSION, 4);
    a.jump(done);
    a.place(v6);
    load_from(a, IPV6, pass);
    a.load(Width::One, R1, STACK, IPV6 + 6);
    a.jump_if(R1, If::NotEqual, UDP, pass);
    a.with_value(Do::Set, VERSION, 6);
    a.place(done);
}

/// From the IP header, which goes to `at`, on. What ends before it should is given a UDP length of 1.
fn load_from(a: &mut Assembler, at: i16, pass: Label) {
    let loaded = a.label();
    let load = |a: &mut Assembler, bytes: i16| {
        a.with(Do::Set, R1, CONTEXT);
        a.with_value(Do::Set, R2, ETHERNET_BYTES);
        a.with(Do::Set, R3, STACK);
        a.with_value(Do::Add, R3, i32::from(at));
        a.with_value(Do::Set, R4, i32::from(bytes));
        a.call(LOAD_BYTES);
    };
    load(a, -at);
    a.jump_if(R0, If::Equal, 0, loaded);
    load(a, PAYLOAD - at);
    a.jump_if(R0, If::NotEqual, 0, pass);
    a.store_value(Width::Two, STACK, UDP_AT + 4, i32::from(1_u16.to_be()));
    a.place(loaded);
}

/// Where to go on with each of our ports.
fn find_port(a: &mut Assembler, pass: Label) -> [Label; memory::PORTS] {
    let labels = [a.label(), a.label(), a.label()];
    a.load(Width::Two, R1, STACK, UDP_AT + 2);
    // That of a port that is not there.
    a.jump_if(R1, If::Equal, 0, pass);
    for (port, label) in labels.into_iter().enumerate() {
        a.load(Width::Eight, R2, MEMORY, of_port(port, PORT_NUMBER));
        a.jump_if_register(R1, If::Equal, R2, label);
    }
    a.jump(pass);
    labels
}

fn of_port(port: usize, word: usize) -> i16 {
    (port * PORT_BYTES + word) as i16
}

fn check_address(a: &mut Assembler, port: i32, pass: Label) {
    let [v6, done] = [a.label(), a.label()];
    let word = |word| of_port(port as usize, word);
    let both = a.label();
    a.load(Width::Eight, R2, MEMORY, word(PORT_VERSION));
    a.jump_if(R2, If::Equal, 0, both);
    a.jump_if_register(R2, If::NotEqual, VERSION, pass);
    a.place(both);
    a.load(Width::Eight, R2, MEMORY, word(PORT_BOUND));
    a.store(Width::Eight, STACK, BOUND, R2);
    a.jump_if(R2, If::Equal, 0, done);
    a.jump_if(VERSION, If::Equal, 6, v6);
    a.load(Width::Four, R1, STACK, IPV4 + 16);
    a.load(Width::Four, R2, MEMORY, word(PORT_ADDRESS));
    a.jump_if_register(R1, If::NotEqual, R2, pass);
    a.jump(done);
    a.place(v6);
    for half in [0, 8] {
        a.load(Width::Eight, R1, STACK, IPV6 + 24 + half as i16);
        a.load(Width::Eight, R2, MEMORY, word(PORT_ADDRESS + half));
        a.jump_if_register(R1, If::NotEqual, R2, pass);
    }
    a.place(done);
}

/// Types 1 to 3 are control; the others have the receiver index in their second word.
fn queue_of_wireguard(a: &mut Assembler, found: Label) {
    let data = a.label();
    go_if_short(a, WIREGUARD_LANES.start, found);
    a.load(Width::One, R1, STACK, PAYLOAD);
    a.jump_if(R1, If::Equal, 0, data);
    a.jump_if(R1, If::Greater, 3, data);
    a.with_value(Do::Set, QUEUE, WIREGUARD);
    a.jump(found);
    a.place(data);
    lane_by(a, PAYLOAD + 4, WIREGUARD_LANES.start);
}

/// IKE is behind four zero bytes; other messages begin with their SPI.
fn queue_of_nat_t(a: &mut Assembler, found: Label) {
    go_if_short(a, ESP_LANES.start, found);
    a.with_value(Do::Set, QUEUE, NAT_T);
    a.load(Width::Four, R1, STACK, PAYLOAD);
    a.jump_if(R1, If::Equal, 0, found);
    lane_by(a, PAYLOAD, ESP_LANES.start);
}

/// What is too short to be anything is in the first lane. Of a length of 0 IPv6 takes all there is (RFC 2675), and IPv4 nothing.
fn go_if_short(a: &mut Assembler, lanes: usize, found: Label) {
    let all = a.label();
    a.with_value(Do::Set, QUEUE, lanes as i32);
    a.load(Width::Two, R1, STACK, UDP_AT + 4);
    a.jump_if(R1, If::Equal, 0, all);
    a.swap(R1, 16);
    a.jump_if(R1, If::Less, i32::from(UDP_BYTES) + steer::MIN_BYTES as i32, found);
    a.place(all);
}

/// Of IPv6 by the network, 64 bits. What is data is given another afterwards.
fn share_by_source(a: &mut Assembler) {
    let [v6, done] = [a.label(), a.label()];
    a.jump_if(VERSION, If::Equal, 6, v6);
    a.load(Width::Four, R1, STACK, IPV4 + 12);
    a.jump(done);
    a.place(v6);
    a.load(Width::Four, R1, STACK, IPV6 + 8);
    a.load(Width::Four, R2, STACK, IPV6 + 12);
    a.with(Do::Add, R1, R2);
    a.place(done);
    a.swap(R1, 32);
    a.with_value_32(Do::Multiply, R1, steer::MIX as i32);
    a.store(Width::Four, STACK, MIXED, R1);
}

fn lane_by(a: &mut Assembler, word: i16, lanes: usize) {
    a.load(Width::Four, QUEUE, STACK, word);
    a.swap(QUEUE, 32);
    a.with_value_32(Do::Multiply, QUEUE, steer::MIX as i32);
    a.store(Width::Four, STACK, MIXED, QUEUE);
    a.with_value_32(Do::ShiftRight, QUEUE, (u32::BITS - steer::LANE_BITS) as i32);
    a.with_value(Do::Add, QUEUE, lanes as i32);
}

/// Of the queue's account.
fn settle(a: &mut Assembler, pass: Label) {
    let [admit, shed, unshared, close] = [a.label(), a.label(), a.label(), a.label()];
    address_of_account(a);
    a.load(Width::Eight, R1, QUEUE, account(ALLOWED));
    a.load(Width::Eight, R2, QUEUE, account(ADMITTED));
    a.with(Do::Subtract, R1, R2);
    a.jump_if(R1, If::NotAbove, 0, shed);
    a.place(admit);
    count(a, QUEUE, account(ADMITTED));
    a.with_value(Do::Set, R1, MARK);
    a.store(Width::Four, CONTEXT, TC_INDEX, R1);
    a.jump(pass);
    a.place(shed);
    pass_what_is_sent_on(a, pass);
    a.call(COARSE_NANOS);
    pass_by_share(a, [admit, unshared]);
    a.place(unshared);
    a.load(Width::Eight, R1, QUEUE, account(BEYOND_AT));
    a.with(Do::Set, R2, R0);
    a.with(Do::Subtract, R2, R1);
    a.jump_if(R2, If::Below, BEYOND_EVERY_NANOS, close);
    a.store(Width::Eight, QUEUE, account(BEYOND_AT), R0);
    a.jump(admit);
    a.place(close);
    drop_packet(a);
}

/// The time is in the register for results. Two shares are everybody's, so that hardly anybody has none but a flood's; which ones
/// changes with every 4,096 that were let in by theirs, which in a flood of one lane takes some seconds: what is left without the bits of
/// the lane times an odd factor that follows from their number. (A flood has two of them, and for a moment behind each change two more.)
fn pass_by_share(a: &mut Assembler, [admit, unshared]: [Label; 2]) {
    const AT: i16 = SHARES_AT as i16;
    const _: () = assert!(AT as usize == SHARES_AT);
    let share = a.label();
    a.load(Width::Eight, R2, MEMORY, memory::SHARED as i16);
    a.with_value(Do::ShiftRight, R2, RENEWED_BITS);
    a.with_value(Do::Multiply, R2, steer::MIX as i32);
    a.with_value(Do::ShiftLeft, R2, 1);
    a.with_value(Do::Add, R2, 1);
    a.load(Width::Four, R4, STACK, MIXED);
    a.with_value_32(Do::ShiftLeft, R4, steer::LANE_BITS as i32);
    a.with(Do::Multiply, R4, R2);
    for choice in [1, 2] {
        a.with(Do::Set, R1, R4);
        a.with_value(Do::ShiftRight, R1, (u32::BITS - choice * SHARE_BITS) as i32);
        a.with_value(Do::And, R1, (1 << SHARE_BITS) - 1);
        a.with_value(Do::ShiftLeft, R1, SHARE_BYTES.trailing_zeros() as i32);
        a.with(Do::Set, R3, QUEUE);
        a.with(Do::Add, R3, R1);
        a.load(Width::Eight, R1, R3, AT);
        a.with(Do::Set, R2, R0);
        a.with(Do::Subtract, R2, R1);
        a.jump_if(R2, If::AtLeast, SHARE_EVERY_NANOS, share);
    }
    a.jump(unshared);
    a.place(share);
    a.load(Width::Eight, R1, MEMORY, SHARED_ALLOWED as i16);
    a.load(Width::Eight, R2, MEMORY, memory::SHARED as i16);
    a.with(Do::Subtract, R1, R2);
    a.jump_if(R1, If::NotAbove, 0, unshared);
    // A joined one has used the time of as many as it was.
    let paid = a.label();
    a.load(Width::Four, R1, CONTEXT, SEGMENTS);
    a.jump_if(R1, If::Equal, 0, paid);
    a.with_value(Do::Add, R1, -1);
    a.with_value(Do::Multiply, R1, SHARE_EVERY_NANOS);
    a.with(Do::Add, R0, R1);
    a.place(paid);
    a.store(Width::Eight, R3, AT, R0);
    count(a, MEMORY, memory::SHARED as i16);
    a.jump(admit);
}

fn drop_packet(a: &mut Assembler) {
    count(a, QUEUE, account(SHED));
    a.with_value(Do::Set, R1, 1);
    a.atomic_add(MEMORY, BELL as i16, R1);
    a.answer(DROP);
}

/// What the kernel has joined is as many as it was.
fn count(a: &mut Assembler, whose: Register, word: i16) {
    let several = a.label();
    a.load(Width::Four, R1, CONTEXT, SEGMENTS);
    a.jump_if(R1, If::NotEqual, 0, several);
    a.with_value(Do::Set, R1, 1);
    a.place(several);
    a.atomic_add(whose, word, R1);
}

/// A port that is bound to no address has the same number as other machines' ports, and the kernel may be the router before them.
fn pass_what_is_sent_on(a: &mut Assembler, pass: Label) {
    let [v6, ask, ours] = [a.label(), a.label(), a.label()];
    a.load(Width::Eight, R1, STACK, BOUND);
    a.jump_if(R1, If::NotEqual, 0, ours);
    for at in (FIB..FIB + FIB_BYTES as i16).step_by(8) {
        a.store_value(Width::Eight, STACK, at, 0);
    }
    a.load(Width::Four, R1, CONTEXT, INTERFACE);
    a.store(Width::Four, STACK, FIB + FIB_INTERFACE, R1);
    a.jump_if(VERSION, If::Equal, 6, v6);
    a.store_value(Width::One, STACK, FIB, libc::AF_INET);
    for (from, to) in [(IPV4 + 12, FIB_SOURCE), (IPV4 + 16, FIB_DESTINATION)] {
        a.load(Width::Four, R1, STACK, from);
        a.store(Width::Four, STACK, FIB + to, R1);
    }
    a.jump(ask);
    a.place(v6);
    a.store_value(Width::One, STACK, FIB, libc::AF_INET6);
    for (from, to) in [(IPV6 + 8, FIB_SOURCE), (IPV6 + 24, FIB_DESTINATION)] {
        for half in [0, 8] {
            a.load(Width::Eight, R1, STACK, from + half);
            a.store(Width::Eight, STACK, FIB + to + half, R1);
        }
    }
    a.place(ask);
    a.with(Do::Set, R1, CONTEXT);
    a.with(Do::Set, R2, STACK);
    a.with_value(Do::Add, R2, i32::from(FIB));
    a.with_value(Do::Set, R3, FIB_BYTES);
    a.with_value(Do::Set, R4, FIB_FLAGS);
    a.call(FIB_LOOKUP);
    a.jump_if(R0, If::Equal, FIB_LOCAL, ours);
    a.jump_if(R0, If::NotEqual, FIB_NEVER, pass);
    a.place(ours);
}
