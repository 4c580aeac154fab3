//! The program on an uplink: which of the frames that come are tunnels' data for us.
//!
//! ```text
//! to our hardware address, no VLAN, IPv4 without options and no fragment or IPv6 without extension headers and not from a link-local address, UDP, to an
//! address and port of ours (a table that we keep)?                                                 no: the kernel's
//! data: WireGuard's message 4; in UDP of IPsec what has an SPI                 no: the kernel's (handshakes, IKE, keepalives)
//! to the socket of its receive queue, if that has one; else it is the kernel's
//! ```
//!
//! The table has whole addresses, so what this machine forwards to other machines' tunnels is not taken, whatever its port. Joined packets (GRO) never come
//! here: the program is used in the driver alone (native XDP), which comes before the kernel joins anything.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use super::hears;
use crate::io::bpf::assembler::{Assembler, Do, If, Label, R0, R1, R2, R3, R6, R7, R8, R9, Register, STACK, Width};
use crate::io::bpf::{Instruction, Name, SocketMap, Table};
use crate::net::{Mac, Port};

pub const NAME: Name = *b"ixgate_uplink\0\0\0";
/// Addresses of ours, at most, each with two ports. What has no room stays with the sockets.
pub const MAX_ADDRESSES: usize = 1024;
/// A port as it is on the wire, the IP version, an unused byte, the address.
const KEY_BYTES: usize = 20;
const KEY_VERSION: i16 = 2;
const KEY_ADDRESS: i16 = 4;

// What the table says of an address and port.
const WIREGUARD: u32 = 1;
const NAT_T: u32 = 2;

// In `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;
// What a program returns.
const XDP_PASS: i32 = 2;
// Functions.
const LOOK_UP: i32 = 1;
const REDIRECT_MAP: i32 = 51;

const IP_AT: i16 = 14;
const IPV4_BYTES: i16 = 20;
const IPV6_BYTES: i16 = 40;
const UDP_BYTES: i16 = 8;
/// Looked at, of what UDP carries.
const PAYLOAD_BYTES: i16 = 8;
const UDP: i32 = 17;
/// Of UDP: a header, an SPI and a sequence number.
const SHORTEST_ESP: i32 = 16;
/// WireGuard's data: message 4, and three zeroes.
const DATA_MESSAGE: i32 = i32::from_ne_bytes([4, 0, 0, 0]);

/// On the stack.
const KEY: i16 = -24;

const CONTEXT: Register = R6;
const FRAME: Register = R7;
const END: Register = R8;
const PAYLOAD: Register = R9;

/// The addresses and ports of ours, for the programs on all uplinks.
#[derive(Debug)]
pub struct Ours {
    table: Table<KEY_BYTES>,
    known: BTreeMap<[u8; KEY_BYTES], u32>,
}

impl Ours {
    /// None. Needs CAP_BPF.
    pub fn new() -> io::Result<Self> {
        Ok(Ours { table: Table::new(NAME, 2 * MAX_ADDRESSES as u32)?, known: BTreeMap::new() })
    }

    pub fn descriptor(&self) -> i32 {
        self.table.as_raw_fd()
    }

    /// From now on these: where we listen, on those of the machine's addresses that this means. `false`: they were known already.
    pub fn set(&mut self, listening: &[(Port, SocketAddr)], addresses: &[IpAddr]) -> io::Result<bool> {
        let wanted = wanted(listening, addresses);
        if wanted == self.known {
            return Ok(false);
        }
        for gone in self.known.keys().filter(|key| !wanted.contains_key(*key)) {
            self.table.remove(gone)?;
        }
        for (key, kind) in &wanted {
            self.table.set(key, *kind)?;
        }
        self.known = wanted;
        Ok(true)
    }
}

fn wanted(listening: &[(Port, SocketAddr)], addresses: &[IpAddr]) -> BTreeMap<[u8; KEY_BYTES], u32> {
    let usable = addresses.iter().filter(|address| is_usable(address)).take(MAX_ADDRESSES);
    let mut wanted = BTreeMap::new();
    for address in usable {
        for (port, listen) in listening {
            let kind = match port {
                Port::WireGuard => WIREGUARD,
                Port::IkeNatT => NAT_T,
                _ => continue,
            };
            if hears(listen.ip(), *address) {
                wanted.insert(key(*address, listen.port()), kind);
            }
        }
    }
    wanted
}

/// What comes by a cable comes to no other address. Link-local ones belong to one link each, which a path here does not tell.
fn is_usable(address: &IpAddr) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !(address.is_loopback() || address.is_multicast() || address.is_unspecified() || is_link_local)
}

fn key(address: IpAddr, port: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..2].copy_from_slice(&port.to_be_bytes());
    match address {
        IpAddr::V4(v4) => {
            key[KEY_VERSION as usize] = 4;
            key[4..8].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            key[KEY_VERSION as usize] = 6;
            key[4..].copy_from_slice(&v6.octets());
        }
    }
    key
}

/// `ours`: the table's descriptor. `mac`: the interface's.
pub fn program(sockets: &SocketMap, ours: i32, mac: Mac) -> Vec<Instruction> {
    let mut a = Assembler::default();
    let [pass, look] = [a.label(), a.label()];
    a.with(Do::Set, CONTEXT, R1);
    a.load(Width::Four, FRAME, CONTEXT, DATA);
    a.load(Width::Four, END, CONTEXT, DATA_END);
    let [v4, v6] = [a.label(), a.label()];
    pass_if_shorter(&mut a, IP_AT + IPV4_BYTES + UDP_BYTES + PAYLOAD_BYTES, pass);
    for (at, two) in (0..).step_by(2).zip(mac.0.as_chunks::<2>().0) {
        a.load(Width::Two, R1, FRAME, at);
        a.jump_if(R1, If::NotEqual, i32::from(u16::from_ne_bytes(*two)), pass);
    }
    a.load(Width::Two, R1, FRAME, 12);
    a.jump_if(R1, If::Equal, i32::from(0x0800_u16.to_be()), v4);
    a.jump_if(R1, If::Equal, i32::from(0x86dd_u16.to_be()), v6);
    a.jump(pass);
    a.place(v4);
    key_of_ipv4(&mut a, pass);
    a.jump(look);
    a.place(v6);
    key_of_ipv6(&mut a, pass);
    a.place(look);
    look_up(&mut a, ours, pass);
    redirect(&mut a, sockets);
    a.place(pass);
    a.answer(XDP_PASS);
    a.assemble()
}

fn pass_if_shorter(a: &mut Assembler, bytes: i16, pass: Label) {
    a.with(Do::Set, R1, FRAME);
    a.with_value(Do::Add, R1, i32::from(bytes));
    a.jump_if_register(R1, If::Greater, END, pass);
}

fn key_of_ipv4(a: &mut Assembler, pass: Label) {
    a.load(Width::One, R1, FRAME, IP_AT);
    a.jump_if(R1, If::NotEqual, 0x45, pass);
    a.load(Width::Two, R1, FRAME, IP_AT + 6);
    // More fragments, or an offset.
    a.jump_if(R1, If::Any, i32::from(0x3fff_u16.to_be()), pass);
    a.load(Width::One, R1, FRAME, IP_AT + 9);
    a.jump_if(R1, If::NotEqual, UDP, pass);
    begin_key(a, 4, IP_AT + IPV4_BYTES);
    a.load(Width::Four, R1, FRAME, IP_AT + 16);
    a.store(Width::Four, STACK, KEY + KEY_ADDRESS, R1);
}

fn key_of_ipv6(a: &mut Assembler, pass: Label) {
    pass_if_shorter(a, IP_AT + IPV6_BYTES + UDP_BYTES + PAYLOAD_BYTES, pass);
    a.load(Width::One, R1, FRAME, IP_AT + 6);
    a.jump_if(R1, If::NotEqual, UDP, pass);
    // A link-local sender is one of its interface, which a path from here does not tell.
    a.load(Width::Two, R1, FRAME, IP_AT + 8);
    a.with_value(Do::And, R1, i32::from(0xffc0_u16.to_be()));
    a.jump_if(R1, If::Equal, i32::from(0xfe80_u16.to_be()), pass);
    begin_key(a, 6, IP_AT + IPV6_BYTES);
    for at in (0..16).step_by(4) {
        a.load(Width::Four, R1, FRAME, IP_AT + 24 + at);
        a.store(Width::Four, STACK, KEY + KEY_ADDRESS + at, R1);
    }
}

/// All but the address; and where the payload is.
fn begin_key(a: &mut Assembler, version: i32, udp_at: i16) {
    a.store_value(Width::Eight, STACK, KEY, 0);
    a.store_value(Width::Eight, STACK, KEY + 8, 0);
    a.store_value(Width::Four, STACK, KEY + 16, 0);
    a.store_value(Width::One, STACK, KEY + KEY_VERSION, version);
    a.load(Width::Two, R1, FRAME, udp_at + 2);
    a.store(Width::Two, STACK, KEY, R1);
    a.with(Do::Set, PAYLOAD, FRAME);
    a.with_value(Do::Add, PAYLOAD, i32::from(udp_at + UDP_BYTES));
}

/// Goes on with what is data.
fn look_up(a: &mut Assembler, ours: i32, pass: Label) {
    let [nat_t, data] = [a.label(), a.label()];
    a.map(R1, ours);
    a.with(Do::Set, R2, STACK);
    a.with_value(Do::Add, R2, i32::from(KEY));
    a.call(LOOK_UP);
    a.jump_if(R0, If::Equal, 0, pass);
    a.load(Width::Four, R1, R0, 0);
    a.load(Width::Four, R2, PAYLOAD, 0);
    a.jump_if(R1, If::Equal, NAT_T as i32, nat_t);
    a.jump_if(R2, If::NotEqual, DATA_MESSAGE, pass);
    a.jump(data);
    a.place(nat_t);
    a.jump_if(R2, If::Equal, 0, pass);
    a.load(Width::Two, R1, PAYLOAD, -4);
    a.swap(R1, 16);
    a.jump_if(R1, If::Less, SHORTEST_ESP, pass);
    a.place(data);
}

/// By the socket of its queue; without one, it goes the kernel's way.
fn redirect(a: &mut Assembler, sockets: &SocketMap) {
    a.load(Width::Four, R2, CONTEXT, RX_QUEUE_INDEX);
    a.map(R1, sockets.as_raw_fd());
    a.with_value(Do::Set, R3, XDP_PASS);
    a.call(REDIRECT_MAP);
    a.answer_result();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_where_the_port_is_bound_to_it_or_to_all() {
        let addresses: Vec<IpAddr> =
            ["192.0.2.1", "10.0.0.1", "127.0.0.1", "2001:db8::1", "fe80::1", "::1"].map(|a| a.parse().unwrap()).into();
        let count = |listen: &str| wanted(&[(Port::WireGuard, listen.parse().unwrap())], &addresses).len();
        assert_eq!((count("0.0.0.0:51820"), count("[::]:51820")), (2, 3));
        assert_eq!((count("192.0.2.1:51820"), count("[2001:db8::1]:51820"), count("192.0.2.9:51820")), (1, 1, 0));
        let both =
            [(Port::WireGuard, "0.0.0.0:51820".parse().unwrap()), (Port::IkeNatT, "0.0.0.0:4500".parse().unwrap())];
        let both = wanted(&both, &addresses);
        assert_eq!((both.len(), both.values().filter(|kind| **kind == NAT_T).count()), (4, 2));
        assert_eq!(wanted(&[(Port::Ike, "0.0.0.0:500".parse().unwrap())], &addresses).len(), 0);
    }

    #[test]
    fn there_is_a_bound() {
        let many: Vec<IpAddr> = (0..2 * MAX_ADDRESSES as u32).map(|n| IpAddr::V4((0x0a00_0001 + n).into())).collect();
        let both =
            [(Port::WireGuard, "0.0.0.0:51820".parse().unwrap()), (Port::IkeNatT, "0.0.0.0:4500".parse().unwrap())];
        assert_eq!(wanted(&both, &many).len(), 2 * MAX_ADDRESSES);
    }
}
