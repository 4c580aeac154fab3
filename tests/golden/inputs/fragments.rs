//! Datagrams in fragments, as the sender's network cut them.

use ixgate::sim::packets::{cut, set_dont_fragment, udp};
use ixgate::wire::ipv4;

use super::Script;
use super::build::*;

/// Longer than two packets of either side.
const LONG: usize = 3000;

/// Without DF, where there is one.
fn may_be_cut(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        set_dont_fragment(&mut packet, false);
    }
    packet
}

fn long(from: End, to: End) -> Vec<u8> {
    may_be_cut(udp(from, to, &payload(LONG)))
}

/// The same fragment eight bytes further to the front.
fn moved(mut fragment: Vec<u8>) -> Vec<u8> {
    // IPv4 counts eights in the low bits, IPv6 above three others: one eight less in either.
    let (at, eight) = if fragment[0] >> 4 == 4 { (ipv4::FRAGMENT, 1) } else { (42, 8) };
    let word = u16::from_be_bytes([fragment[at], fragment[at + 1]]) - eight;
    fragment[at..at + 2].copy_from_slice(&word.to_be_bytes());
    if at == ipv4::FRAGMENT {
        ipv4::renew_checksum(&mut fragment[..ipv4::MIN_HEADER_BYTES]);
    }
    fragment
}

/// What one family and the other have in common: A's tunnel carries 1,280 bytes, B's 1,420.
fn within_a_family(script: &mut Script, (a, a_seen): (&str, &str), (b, b_seen): (&str, &str)) {
    let request = long(end(a, 5000), end(b_seen, 9));
    script.send_all("a", "in order", cut(&request, 1280, 0x1001));
    script.send_all("b", "a reply in longer fragments", cut(&long(end(b, 9), end(a_seen, 5000)), 1420, 0x2001));
    let [first, second, third] = &cut(&request, 1280, 0x1002)[..] else { panic!("not three") };
    script.send_all("a", "the last first", [third.clone(), first.clone(), second.clone()]);
    let [first, second, third] = &cut(&request, 1280, 0x1003)[..] else { panic!("not three") };
    script.send("a", "the first of a datagram that overlaps", first.clone());
    script.send("a", "eight bytes of it again, with the next", moved(second.clone()));
    script.send("a", "the rest of it", third.clone());
    let pieces = cut(&request, 1280, 0x1004);
    script.send_all("a", "one comes twice", [&pieces[0], &pieces[0], &pieces[1], &pieces[2]].map(Clone::clone));
    script.send("a", "one whose others never come", cut(&request, 1280, 0x1005)[0].clone());
    script.wait(70);
    script.send("a", "a datagram that needs no fragments", udp(end(a, 5000), end(b_seen, 9), b"small"));
}

pub fn fragments_44(script: &mut Script) {
    within_a_family(script, ("192.168.1.10", "100.64.1.10"), ("192.168.1.20", "100.64.2.20"));
    let mut whole = may_be_cut(udp(end("192.168.1.20", 9), end("100.64.1.10", 5000), &payload(1372)));
    ixgate::sim::packets::set_identification(&mut whole, 0x2002);
    script.send("b", "whole, too long for A, without DF", whole);
    let unbroken = udp(end("192.168.1.20", 9), end("100.64.1.10", 5000), &payload(LONG));
    script.send_all("b", "in fragments too long for A, with DF", cut(&unbroken, 1420, 0x2003));
    let mut tiny = cut(&long(end("192.168.1.10", 5000), end("100.64.2.20", 9)), 1280, 0x1006).remove(0);
    tiny.truncate(60);
    tiny[2..4].copy_from_slice(&60u16.to_be_bytes());
    ipv4::renew_checksum(&mut tiny[..ipv4::MIN_HEADER_BYTES]);
    script.send("a", "a fragment of 60 bytes that is not the last", tiny);
}

pub fn fragments_66(script: &mut Script) {
    within_a_family(script, ("fd00:1::10", "fd5c:a::10"), ("fd00:1::20", "fd5c:b::20"));
    let mut pieces = cut(&long(end("fd00:1::10", 5000), end("fd5c:b::20", 9)), 1280, 0x1006);
    for piece in &mut pieces {
        piece[41] = 0xff;
        piece[43] |= 0b110;
    }
    script.send_all("a", "with reserved bits set", pieces);
}

const FOUR: &str = "192.168.1.10";
const FOUR_SEEN: &str = "fd69:7867:6174:1::c0a8:10a";
const SIX: &str = "fd00:6::20";
const SIX_SEEN: &str = "100.64.6.32";

pub fn fragments_46(script: &mut Script) {
    let request = long(end(FOUR, 5000), end(SIX_SEEN, 9));
    script.send_all("four", "without DF", cut(&request, 1420, 0x1001));
    let [first, second, third] = &cut(&request, 1420, 0x1002)[..] else { panic!("not three") };
    script.send_all("four", "without DF, the last first", [third.clone(), second.clone(), first.clone()]);
    let unbroken = udp(end(FOUR, 5000), end(SIX_SEEN, 9), &payload(LONG));
    script.send_all("four", "with DF, in pieces that fit", cut(&unbroken, 1228, 0x1003));
    script.send_all("four", "with DF, in pieces that do not", cut(&unbroken, 1420, 0x1004));
    let whole = may_be_cut(udp(end(FOUR, 5000), end(SIX_SEEN, 9), &payload(1372)));
    script.send("four", "whole, too long for IPv6 everywhere, without DF", whole);
}

pub fn fragments_64(script: &mut Script) {
    let request = long(end(SIX, 5000), end(FOUR_SEEN, 9));
    script.send_all("six", "in order", cut(&request, 1280, 0xabcd_1001));
    let [first, second, third] = &cut(&request, 1280, 0xabcd_1002)[..] else { panic!("not three") };
    script.send_all("six", "the last first", [third.clone(), second.clone(), first.clone()]);
    script.send_all("six", "an atomic fragment", atomic(&udp(end(SIX, 5000), end(FOUR_SEEN, 9), b"alone")));
}

/// Behind a fragment header that says that there are no others (RFC 6946).
fn atomic(packet: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = packet.split_at_checked(40)?;
    let mut atomic = [header, &[header[6], 0, 0, 0, 0xab, 0xcd, 0x10, 0x03], rest].concat();
    atomic[4..6].copy_from_slice(&(8 + rest.len() as u16).to_be_bytes());
    atomic[6] = 44;
    Some(atomic)
}
