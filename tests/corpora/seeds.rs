//! The seeds by hand of the translator's and the names' targets, each under a name. `cargo test --test corpora -- --ignored
//! write_the_seeds` writes them anew.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use ixgate::sim::packets::{echo, packet, port_unreachable, tcp, time_exceeded, udp};

/// Target, name, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

pub fn all() -> Vec<Seed> {
    [translate(), walk(), reassembly(), link(), napt(), dns_query(), dns_rewrite(), dns_forward()].concat()
}

fn named(target: &'static str, seeds: Vec<(&str, Vec<u8>)>) -> Vec<Seed> {
    seeds.into_iter().map(|(name, bytes)| (target, name.to_owned(), bytes)).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every kind of packet, with new addresses and in the other IP version.
fn translate() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (version, here, there) in [(4, "192.168.1.10", "100.64.2.20"), (6, "fd00:6::20", "2001:db8::1")] {
        let (here, there) = (ip(here), ip(there));
        let datagram = udp((here, 5000), (there, 53), b"a question");
        let mut without_checksum = datagram.clone();
        let at = without_checksum.len() - 12;
        without_checksum[at..at + 2].fill(0);
        let mss = [2, 4, 5, 180];
        let of = |number: u8| packet(here, there, number, vec![0x13; 24]);
        let back = udp((there, 53), (here, 5000), b"an answer that nobody waits for");
        let message = datagram[version_header(version)..].to_vec();
        let kinds = [
            ("udp", datagram.clone()),
            ("udp_without_checksum", without_checksum),
            ("tcp", tcp((here, 40_000), (there, 443), 0x18, &[], b"hello")),
            ("syn", tcp((here, 40_000), (there, 443), 2, &mss, b"")),
            ("echo_request", echo(here, there, 77, false)),
            ("echo_reply", echo(here, there, 77, true)),
            ("udp_lite", of(136)),
            ("dccp", of(33)),
            ("sctp", of(132)),
            ("error", port_unreachable(here, there, &udp((there, 5000), (here, 53), b"sent before"))),
            ("error_about_tcp", time_exceeded(here, there, &tcp((there, 1), (here, 2), 0x10, &[], b""))),
            ("error_about_echo", port_unreachable(here, there, &echo(there, here, 9, false))),
            ("error_with_a_long_quote", port_unreachable(here, there, &back.repeat(20)[..1100])),
            ("options", with_options(version, &datagram, &message)),
        ];
        for (kind, packet) in kinds {
            for (setting, manner) in [(0, "same"), (1, "other"), (7, "other_with_ports"), (14, "same_with_ports")] {
                let bytes = [&[setting, 0x31, 0x13, 0x88, 0x20, 0xfb][..], &packet].concat();
                seeds.push(("translate", format!("{kind}{version}_{manner}"), bytes));
            }
        }
    }
    seeds
}

fn version_header(version: u8) -> usize {
    if version == 4 { 20 } else { 40 }
}

/// The same packet with a header option, or a hop-by-hop header, that nobody minds.
fn with_options(version: u8, packet: &[u8], message: &[u8]) -> Vec<u8> {
    let mut header = packet[..version_header(version)].to_vec();
    let extra: &[u8] = if version == 4 { &[148, 4, 0, 0] } else { &[17, 0, 1, 4, 0, 0, 0, 0] };
    if version == 4 {
        header[0] = 0x46;
        header[3] += 4;
    } else {
        header[6] = 0;
        header[5] += 8;
    }
    let mut all = [&header[..], extra, message].concat();
    if version == 4 {
        ixgate::wire::ipv4::renew_checksum(&mut all[..24]);
    }
    all
}

/// Two realms; then packets: deed, sender and receiver, hosts, kind, length, ports.
fn walk() -> Vec<Seed> {
    let send = |ways: u8, hosts: u8, kind: u8, port: u16| {
        let [high, low] = port.to_be_bytes();
        [&[0, ways, hosts, kind, 0, 24, 0x13, 0x88, high, low][..], b"twenty-four bytes of it."].concat()
    };
    let cut = |ways: u8, hosts: u8| [&[4, ways, 200, hosts, 0, 5, 0x78, 0x13, 0x88, 0, 53][..], &[7; 64]].concat();
    let (reply, complain, wait) = (vec![5, 0, 0, 0], vec![6, 0, 0, 40], vec![7, 30]);
    let seed = |kinds: [u8; 2], deeds: &[Vec<u8>]| [&kinds[..], &deeds.concat()].concat();
    let all = |ways, hosts| {
        let kinds = (0..6).flat_map(|kind| [send(ways, hosts, kind, 53), reply.clone()]);
        kinds.collect::<Vec<_>>()
    };
    let asked = |ways, hosts| [send(ways, hosts, 0, 443), reply.clone(), complain.clone(), wait.clone(), reply.clone()];
    named(
        "walk",
        vec![
            ("one_prefix", seed([0, 1], &all(2, 0x80))),
            ("four_to_six", seed([0, 1], &all(2, 0xa0))),
            ("six_to_four", seed([1, 0], &all(2, 0x82))),
            ("six_to_six", seed([0, 4], &all(2, 0x82))),
            ("errors", seed([0, 1], &asked(2, 0x80))),
            ("errors_between_families", seed([0, 1], &asked(2, 0xa0))),
            ("pool", seed([2, 0], &all(2, 0x80))),
            ("pool_errors", seed([2, 0], &asked(2, 0x80))),
            ("pool_forward", seed([2, 0], &asked(13, 0x40))),
            ("pool_hairpin", seed([2, 2], &[send(0, 0x80, 0, 443), send(12, 0x40, 0, 443)])),
            ("pool_to_six", seed([2, 1], &asked(2, 0xa0))),
            ("hosts_only", seed([3, 0], &asked(2, 0x80))),
            ("internet", seed([0, 5], &asked(2, 0x80))),
            ("pool_to_internet", seed([2, 5], &asked(2, 0x80))),
            ("fragments", seed([0, 1], &[cut(2, 0x80), cut(130, 0x80), reply.clone()])),
            ("fragments_between_families", seed([1, 0], &[cut(2, 0x82), cut(130, 0x82)])),
            ("the_ix", seed([0, 1], &[send(0, 0, 3, 0), send(0, 0, 0, 53), send(0, 2, 3, 0)])),
            ("raw", seed([0, 1], &[[&[3, 2, 0, 60][..], &[0x45; 60]].concat()])),
        ],
    )
}

/// A setting, then deeds: cut a datagram, deliver a fragment, again, damaged, raw, cut and join, wait.
fn reassembly() -> Vec<Seed> {
    let cut = |which: u8| [&[0, which, 8, 0, 250][..], &[which; 250]].concat();
    let (first, again, wait) = ([2, 0], [5, 0], [9, 40]);
    let join = |packet: &[u8]| [&[8, 1, 5, 0, packet.len() as u8][..], packet].concat();
    let datagram = |v6| {
        let ends = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
        udp((ip(ends.0), 1), (ip(ends.1), 2), &[5; 150])
    };
    let damaged = |offset: u8, mask: u8| [6, 0, 0, offset, mask];
    let six = first.repeat(6);
    named(
        "reassembly",
        vec![
            ("in_order", [&[0][..], &cut(3), &six].concat()),
            ("in_order6", [&[0][..], &cut(67), &six].concat()),
            ("backwards", [&[0][..], &cut(3), &[2, 2], &[2, 1], &[2, 0]].concat()),
            ("doubled", [&[0][..], &cut(67), &again, &again, &six].concat()),
            ("two_realms", [&[0][..], &cut(0), &cut(1), &six, &first.repeat(4)].concat()),
            ("overlap", [&[0][..], &cut(3), &again, &damaged(30, 1), &six].concat()),
            ("other_offset", [&[0][..], &cut(3), &damaged(7, 9), &six].concat()),
            ("too_late", [&[0][..], &cut(67), &first, &wait, &wait, &six].concat()),
            ("no_room", [&[1][..], &cut(0), &cut(3), &cut(6), &cut(9), &again.repeat(3), &six, &six].concat()),
            ("joined", [&[0][..], &join(&datagram(false)), &join(&datagram(true))].concat()),
            ("raw", [&[0][..], &[7, 0, 20], &[0x45; 80], &[7, 0, 20], &[0x60; 80]].concat()),
        ],
    )
}

/// A setting, then deeds: who, port.
fn napt() -> Vec<Seed> {
    let open = |who: u8, port: u16| [&[0, who][..], &port.to_be_bytes()].concat();
    let close = |port: u8| vec![4, 0, 0, port];
    let many = |who: u8| (0..24).flat_map(|port| open(who, 5000 + port)).collect::<Vec<u8>>();
    let look = |port: u16| [&[6, 0][..], &port.to_be_bytes()].concat();
    let lives = [open(0, 5000), open(8, 5000), open(1, 5000), look(1024), close(0), close(1), open(16, 9)].concat();
    named(
        "napt",
        vec![
            ("lives", [&[0x21][..], &lives].concat()),
            ("forward", [&[0x29][..], &open(0x2a, 5000), &open(0x22, 1026), &look(1026), &lives].concat()),
            ("quota", [&[0x80][..], &many(0), &many(2)].concat()),
            ("full_table", [&[0x01][..], &many(0), &many(8)].concat()),
            ("on_demand", [&[0x87][..], &many(0), &many(8), &many(16), &many(24), &close(3), &many(32)].concat()),
            ("by_address", [&[0x91][..], &lives, &lives].concat()),
            ("new_configuration", [&[0xa1][..], &many(0), &[7, 4, 0, 0], &many(0), &[7, 5, 0, 0], &lives].concat()),
        ],
    )
}

/// Deeds on a link: see `fuzz/src/link.rs`. 0x80 is the tagged port.
fn link() -> Vec<Seed> {
    let seal = |to: u8| [8, to, 60];
    let time = [12, 200, 4]; // 3.2 s
    let both = [seal(1), seal(3), [0x88, 3, 60], [0x28, 5, 60], [0xa8, 5, 60], seal(4), [8, 250, 9]].concat();
    let scan: Vec<u8> = (0..100).flat_map(|to| [seal(to * 2 + 4), [0x28, to * 2 + 4, 9]]).flatten().collect();
    let rumours = [[1, 1, 2], [0x41, 1, 99], [0x53, 1, 99], [0x46, 1, 99], [0x44, 1, 2], [5, 4, 2], [2, 4, 2]].concat();
    let claims = [[3, 2, 2], [0x31, 2, 2], [6, 2, 2], [0x24, 9, 2], [0x83, 2, 2]].concat();
    let pings =
        [[7, 1, 0], [0x17, 1, 0], [0x27, 1, 3], [0x37, 1, 3], [0x47, 1, 9], [0x57, 1, 9], [0xc7, 1, 9]].concat();
    let tun = [[0x88, 1, 9].to_vec(), vec![0xc8, 1, 9], vec![0, 28, 1, 0x45, 0, 0, 28], vec![0; 24]].concat();
    let strangers: Vec<u8> = (10..240).flat_map(|who| [[1, who, 2], [4, who, 2]]).flatten().collect();
    let with = |setting: u8, deeds: &[&[u8]]| [&[setting][..], &deeds.concat()].concat();
    named(
        "link",
        vec![
            ("passes", with(1, &[&both, &time, &both])),
            ("by_gateways", with(0, &[&both, &time, &both, &pings])),
            ("scan", with(1, &[&scan, &time, &scan, &both])),
            ("rumours", with(1, &[&both, &rumours, &both, &time, &rumours, &both])),
            ("rumours_of_gateways", with(0, &[&both, &rumours, &time, &both])),
            ("claims", with(1, &[&both, &claims, &both, &time, &time, &both])),
            ("pings", with(4, &[&pings, &both, &[1, 4, 70], &pings])),
            ("flaps", with(1, &[&both, &[14, 0, 0], &both, &[14, 0, 0], &time, &both])),
            ("reconfigured", with(1, &[&both, &[14, 0x21, 1], &both, &[14, 0, 1], &time, &time, &both])),
            ("bfd", with(0x18, &[&time, &pings, &both])),
            ("tun", with(1, &[&tun])),
            ("strangers", with(1, &[&strangers, &both])),
        ],
    )
}

const NAMES: [&str; 7] = [
    "pacs.b.ix.example.",
    "pacs.ix.example.",
    "ix.example.",
    "nobody.ix.example.",
    "20.2.64.100.in-addr.arpa.",
    "x.b.local.",
    "www.example.com.",
];

fn question(name: &str, record_type: u16, edns: bool) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::from(record_type)));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

/// The asker and its transport, then the query.
fn dns_query() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (at, name) in NAMES.iter().enumerate() {
        for (record_type, kind) in [(1, "a"), (28, "aaaa"), (12, "ptr"), (6, "soa"), (255, "any"), (252, "axfr")] {
            let who = ((at as u16 * 3 + record_type) % 16) as u8;
            let bytes = [&[who][..], &question(name, record_type, record_type % 4 != 2)].concat();
            seeds.push(("dns_query", format!("{kind}_of_{}", name.trim_end_matches('.')), bytes));
        }
    }
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    for (record_type, kind) in [(252, "axfr"), (251, "ixfr"), (6, "soa")] {
        let signed = signed(question("ix.example.", record_type, false), &secret);
        seeds.push(("dns_query", format!("signed_{kind}"), [&[8][..], &signed].concat()));
    }
    seeds
}

/// With the TSIG of the key `all` (RFC 8945 section 4.3), at the date that the check goes by.
fn signed(mut query: Vec<u8>, secret: &hmac::Key) -> Vec<u8> {
    let (name, algorithm) = (b"\x03all\x00", b"\x0bhmac-sha256\x00");
    let time = &1_782_864_000u64.to_be_bytes()[2..];
    let variables = [&name[..], &[0, 255, 0, 0, 0, 0], algorithm, time, &300u16.to_be_bytes(), &[0, 0, 0, 0]].concat();
    let mac = hmac::sign(secret, &[&query[..], &variables].concat());
    let data = [algorithm, time, &300u16.to_be_bytes(), &[0, 32], mac.as_ref(), &query[..2], &[0, 0, 0, 0]].concat();
    query[11] += 1;
    let length = (data.len() as u16).to_be_bytes();
    [&query[..], name, &[0, 250, 0, 255, 0, 0, 0, 0], &length, &data].concat()
}

/// Flags and counts, then the record: its name is the question's.
fn said(counts: [u8; 3], records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![4, 0x80];
    bytes.extend(counts);
    for (record_type, data) in records {
        bytes.extend([0xc0, 12]);
        bytes.extend(record_type.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 2, 88]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(*data);
    }
    let length = (bytes.len() as u16).to_be_bytes();
    [&length[..], &bytes].concat()
}

const A: &[u8] = &[192, 168, 1, 20];
const OUTSIDE: &[u8] = &[203, 0, 113, 9];
const SIX: &[u8] = &[0xfd, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20];
const ALIAS: &[u8] = b"\x01y\x01b\x05local\x00";
const ELSEWHERE: &[u8] = b"\x03out\x07example\x03org\x00";
const SOA: &[u8] = b"\x02ns\x05local\x00\x03who\x05local\x00\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\x03\x84";
/// Priority, target, hints of both versions.
const HTTPS: &[u8] =
    b"\0\x01\0\0\x04\0\x08\xc0\xa8\x01\x14\xc0\xa8\x01\x15\0\x06\0\x10\xfd\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x20";

fn dns_rewrite() -> Vec<Seed> {
    let one = |record_type, data| said([1, 0, 0], &[(record_type, data)]);
    let ask = |who: u8, name: u8, kind: u8, all: &[Vec<u8>]| [&[who, name, kind][..], &all.concat()].concat();
    named(
        "dns_rewrite",
        vec![
            ("address", ask(8, 0, 0, &[one(1, A)])),
            ("address_over_udp", ask(0, 0, 0, &[one(1, A)])),
            ("address6", ask(8, 0, 1, &[one(28, SIX)])),
            ("address_for_four", ask(11, 0, 0, &[said([0, 1, 0], &[(6, SOA)]), one(28, SIX)])),
            ("address_for_six", ask(12, 0, 1, &[said([0, 1, 0], &[(6, SOA)]), one(1, A)])),
            ("many", ask(8, 0, 0, &[said([3, 0, 0], &[(1, A), (1, &[192, 168, 1, 21]), (1, &[10, 0, 0, 1])])])),
            ("https", ask(8, 0, 4, &[one(65, HTTPS)])),
            ("alias", ask(8, 0, 0, &[one(5, ALIAS), one(1, A)])),
            ("alias_elsewhere", ask(8, 0, 0, &[one(5, ELSEWHERE), one(1, OUTSIDE)])),
            ("rebinding", ask(8, 5, 0, &[one(1, A)])),
            ("outside", ask(8, 5, 0, &[one(1, OUTSIDE)])),
            ("reverse", ask(8, 7, 2, &[one(12, ALIAS)])),
            ("own_resolver", ask(9, 0, 0, &[one(1, A)])),
            ("negative", ask(8, 0, 0, &[said([0, 1, 0], &[(6, SOA)]), said([0, 1, 0], &[(6, SOA)])])),
            ("text", ask(8, 0, 6, &[one(16, b"\x05hello")])),
            ("additional", ask(8, 0, 11, &[said([1, 0, 1], &[(15, b"\0\x05\xc0\x0c"), (1, A)])])),
            ("denied", ask(10, 0, 0, &[one(1, A)])),
        ],
    )
}

fn dns_forward() -> Vec<Seed> {
    let ask = |who: u8, name: u8| vec![0, who, name, 0];
    let answer = |data| [&[3, 0][..], &said([1, 0, 0], &[(1, data)])].concat();
    let truncated = [&[3, 0][..], &[0, 8], &[6, 0x80, 0, 0, 0, 0, 0, 0]].concat();
    let refused = [&[3, 0][..], &[0, 8], &[4, 0x81, 0, 0, 0, 0, 0, 0]].concat();
    let damaged = |at: u8| [&[5, 0, at, 1, 21][..], &said([1, 0, 0], &[(1, A)])[2..]].concat();
    let raw = [&[2, 0, 29][..], &question("y.b.local.", 1, false)].concat();
    let (late, fail, publish, no_room) = (vec![8, 60], vec![7, 0], vec![9, 0], vec![9, 1]);
    named(
        "dns_forward",
        vec![
            ("answered", [ask(8, 0), answer(A), ask(8, 0), ask(0, 0)].concat()),
            ("shared", [ask(8, 0), ask(0, 0), ask(24, 0), answer(A)].concat()),
            ("silent", [ask(8, 0), late.clone(), late.clone(), answer(A)].concat()),
            ("unreachable", [ask(8, 0), fail.clone(), fail.clone(), fail].concat()),
            ("truncated", [ask(0, 0), truncated, answer(A)].concat()),
            ("without_edns", [ask(0, 0), refused, answer(A)].concat()),
            ("wrong_id", [ask(0, 0), damaged(0), damaged(1), damaged(0), answer(A)].concat()),
            ("wrong_question", [ask(0, 5), damaged(14), damaged(14), answer(OUTSIDE)].concat()),
            ("no_room", [ask(8, 0), no_room.clone(), no_room, late].concat()),
            ("published", [ask(8, 0), ask(8, 1), publish, answer(A), answer(A)].concat()),
            ("many", (0..12).flat_map(|name| ask(8 + name % 5, name)).chain(answer(A)).collect()),
            ("raw", [raw, answer(A)].concat()),
        ],
    )
}
