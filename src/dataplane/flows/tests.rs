use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::entry::HEADER_BYTES;
use super::*;
use crate::nat::{Asker, Flow, Limits, Side, rewrite};
use crate::net::policy::protocol;
use crate::net::{Canonical, RealmId};
use crate::packet::{Meta, Shown};
use crate::sim::packets;
use crate::wire::tcp::flag;
use crate::wire::{headers, udp};

const A: RealmId = RealmId(1);
const B: RealmId = RealmId(2);
const PASS: Pass = Pass { slot: 3, serial: 9, from_opener: true, generation: Generation(7) };

fn flows(max_sessions: usize) -> Flows {
    Flows::new(max_sessions, 7)
}

fn packet(source: u32, destination: u32, ports: (u16, u16), is_tcp: bool, payload: &[u8]) -> Vec<u8> {
    let end = |address: u32, port| (IpAddr::V4(Ipv4Addr::from_bits(address)), port);
    let (source, destination) = (end(source, ports.0), end(destination, ports.1));
    match is_tcp {
        true => packets::tcp(source, destination, flag::ACK, &[], payload),
        false => packets::udp(source, destination, payload),
    }
}

/// As the stages leave one that they have let pass.
fn judged(realm: RealmId, packet: &[u8], shown: (u32, u32)) -> Batch {
    let mut batch = Batch::default();
    batch.slot()[..packet.len()].copy_from_slice(packet);
    batch.push(TunnelId(1), realm, packet.len());
    let (meta, bytes) = batch.packet_mut(0);
    meta.headers = headers::parse(bytes).unwrap();
    meta.destination.realm = B;
    meta.egress = TunnelId(5);
    let [source, destination] = [shown.0, shown.1].map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    meta.shown = Shown::addresses(source, destination);
    batch
}

/// Of a packet in a buffer of the batch.
fn key(realm: RealmId, packet: &[u8]) -> u128 {
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len().max(HEADER_BYTES), 0xff);
    key_of(realm, packet.len(), &buffer)
}

fn entry(key: u128, epoch: u32) -> Entry {
    Entry {
        key,
        epoch,
        pass: PASS,
        addresses: 1,
        header: 3,
        pseudo_header: 4,
        egress: TunnelId(5),
        realm: B,
        has_choice: true,
    }
}

impl Flows {
    fn find(&self, key: u128) -> Option<Entry> {
        let lines = self.words[self.first_word..].as_chunks().0;
        find(lines, self.preferred(key), key, self.epoch).map(|(_, line)| Entry::from_words(line))
    }

    fn preferred(&self, key: u128) -> u32 {
        preferred_place(&self.hasher, self.in_use, key)
    }
}

proptest! {
    #[test]
    fn a_known_flows_packet_is_rewritten_as_the_stages_do(
        addresses: (u32, u32),
        shown: (u32, u32),
        ports: (u16, u16),
        is_tcp: bool,
        payload in prop::collection::vec(any::<u8>(), 0..64),
        has_checksum: bool,
        ttl in 2..=255u8,
    ) {
        let first = packet(addresses.0, addresses.1, ports, is_tcp, &[]);
        let batch = judged(A, &first, shown);
        let key = key_of(A, first.len(), batch.buffer(0));
        let entry = Entry::learn(key, 1, PASS, batch.meta(0), &Carriers::new(1)).unwrap();

        let mut expected = packet(addresses.0, addresses.1, ports, is_tcp, &payload);
        expected[ipv4::TTL] = ttl;
        expected[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].fill(0);
        let sum = crate::wire::checksum::checksum(&expected[..20]);
        expected[ipv4::CHECKSUM..ipv4::CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        if !has_checksum && !is_tcp {
            expected[20 + udp::CHECKSUM..20 + udp::CHECKSUM + 2].fill(0);
        }
        let mut packet = expected.clone();
        packet.resize(packet.len().max(HEADER_BYTES), 0);
        let headers = headers::parse(&expected).unwrap();
        rewrite::rewrite(&mut expected, &headers, &batch.meta(0).shown);
        entry.rewrite(packet.first_chunk_mut().unwrap());
        packet.truncate(expected.len());
        prop_assert_eq!(packet, expected);
    }

    #[test]
    fn an_entry_is_what_was_put_in(words: Line) {
        let mut entry = Entry::from_words(&words);
        entry.epoch = 1;
        entry.key |= 1;
        let mut flows = flows(10);
        flows.put(entry, |_| true);
        prop_assert_eq!(flows.find(entry.key), Some(entry));
    }

    /// What has a key is what the stages would let on as far as its headers go, and nothing of which they would say more.
    #[test]
    fn only_plain_packets_have_a_key(mut bytes in prop::collection::vec(any::<u8>(), 0..80), plain: bool, is_tcp: bool) {
        if plain && bytes.len() > 40 {
            let len = bytes.len() as u16;
            bytes[..4].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8]);
            bytes[6..10].copy_from_slice(&[0x40, 0, 64, if is_tcp { protocol::TCP } else { protocol::UDP }]);
        }
        let mut buffer = bytes.clone();
        buffer.resize(200, 0xff);
        if key_of(A, bytes.len(), &buffer) != 0 {
            let headers = headers::parse(&bytes).unwrap();
            prop_assert!(!headers.is_v6() && headers.hop_limit > 1);
            prop_assert_eq!(headers.transport_offset, 20);
            prop_assert_eq!(headers.total_bytes, usize::from(total_bytes_of(buffer.first_chunk().unwrap())));
        }
    }
}

#[test]
fn realms_that_share_every_address_and_port_have_flows_of_their_own() {
    let packet = packet(0x0a00_0001, 0x6440_0001, (1000, 443), false, b"x");
    let [a, b] = [A, B].map(|realm| key(realm, &packet));
    assert_ne!(a, b);
    let mut flows = flows(10);
    flows.put(entry(a, 1), |_| true);
    assert_eq!(flows.find(b), None);
    assert!(flows.find(a).is_some());
}

#[test]
fn what_is_not_plain_has_no_key() {
    let plain = packet(0x0a00_0001, 0x6440_0001, (1000, 443), true, b"x");
    assert_ne!(key(A, &plain), 0);
    let changed = |at: usize, byte: u8| {
        let mut packet = plain.clone();
        packet[at] = byte;
        key(A, &packet)
    };
    for (what, at, byte) in [
        ("options", 0, 0x46),
        ("IPv6", 0, 0x65),
        ("more fragments", 6, 0x20),
        ("a fragment", 7, 1),
        ("no hop left", ipv4::TTL, 1),
        ("GRE", ipv4::PROTOCOL, 47),
        ("ICMP", ipv4::PROTOCOL, 1),
        ("longer than it is", ipv4::TOTAL_LENGTH + 1, 200),
        ("SYN", 20 + 13, flag::SYN),
        ("SYN, ACK", 20 + 13, flag::SYN | flag::ACK),
        ("a header longer than the segment", 20 + 12, 0xf0),
    ] {
        assert_eq!(changed(at, byte), 0, "{what}");
    }
}

#[test]
fn a_key_tells_apart_whatever_a_session_does() {
    let of = |source, destination, ports, is_tcp| key(A, &packet(source, destination, ports, is_tcp, b"x"));
    let keys = [
        of(1, 2, (3, 4), false),
        of(9, 2, (3, 4), false),
        of(1, 9, (3, 4), false),
        of(1, 2, (9, 4), false),
        of(1, 2, (3, 9), false),
        of(2, 1, (3, 4), false),
        of(1, 2, (4, 3), false),
        of(1, 2, (3, 4), true),
    ];
    assert!(!keys.contains(&0));
    assert_eq!(keys.len(), std::collections::HashSet::from(keys).len());
    assert_eq!(keys.map(is_tcp), [false, false, false, false, false, false, false, true]);
}

/// Keys of flows that prefer that place, in the table as it is.
fn rivals(flows: &Flows, place: u32) -> impl Iterator<Item = u128> {
    (1..).filter(move |key| flows.preferred(*key) == place)
}

/// Whose entry, of this epoch, stands there.
fn at(flows: &Flows, place: u32) -> Option<u128> {
    let line = flows.words[flows.first_word..].as_chunks().0[place as usize];
    let key = key_in(&line);
    Entry::is_of(&line, key, flows.epoch).then_some(key)
}

#[test]
fn a_flow_is_where_its_hash_prefers_unless_another_is() {
    let mut flows = flows(10);
    let place = flows.preferred(1);
    let keys: Vec<u128> = rivals(&flows, place).take(WAYS as usize + 1).collect();
    let (late, keys) = keys.split_last().unwrap();
    let all_at = |flows: &Flows| places(place).map(|place| at(flows, place)).collect::<Vec<_>>();
    for (key, way) in keys.iter().zip(1..) {
        flows.put(entry(*key, 1), |_| true);
        let mut expected: Vec<_> = keys[..way].iter().copied().map(Some).collect();
        expected.resize(keys.len(), None);
        assert_eq!(all_at(&flows), expected, "one beside the other");
    }
    flows.put(Entry { addresses: 8, ..entry(keys[3], 1) }, |_| true);
    assert_eq!(at(&flows, place ^ 3), Some(keys[3]), "learned again, it stays where it is");
    assert_eq!(flows.find(keys[3]).map(|entry| entry.addresses), Some(8));
    flows.put(entry(*late, 1), |_| true);
    assert_eq!((at(&flows, place), flows.find(keys[0])), (Some(*late), None), "all are taken");
    assert!(keys[1..].iter().all(|key| flows.find(*key).is_some()));
    // What is stale gives way at once, and the preferred place first.
    flows.forget();
    flows.put(entry(keys[5], 2), |_| true);
    assert_eq!((at(&flows, place), flows.find(keys[1])), (Some(keys[5]), None));
}

#[test]
fn flows_of_ended_sessions_give_way() {
    let mut flows = flows(10);
    let place = flows.preferred(1);
    let keys: Vec<u128> = rivals(&flows, place).take(4).collect();
    let of_session = |key, serial| Entry { pass: Pass { serial, ..PASS }, ..entry(key, 1) };
    (0..3).for_each(|n| flows.put(of_session(keys[n], n as u64), |_| true));
    flows.put(of_session(keys[3], 3), |pass| pass.serial != 1);
    let all: Vec<_> = places(place).take(4).map(|place| at(&flows, place)).collect();
    assert_eq!(all, [Some(keys[0]), Some(keys[3]), Some(keys[2]), None]);
}

#[test]
fn what_was_learned_in_a_smaller_table_gives_way_in_a_larger_one() {
    let mut flows = flows(100_000);
    (1..=START as u128 / 4).for_each(|key| flows.put(entry(key, 1), |_| true));
    flows.make_room(100_000);
    assert!(flows.in_use > START);
    let is_foreign =
        |flows: &Flows, place: u32| at(flows, place).is_some_and(|other| flows.preferred(other) ^ place >= WAYS);
    let place = (0..START as u32).find(|place| is_foreign(&flows, *place)).unwrap();
    assert!(places(place).any(|place| at(&flows, place).is_none()), "there is room beside it");
    let key = rivals(&flows, place).next().unwrap();
    flows.put(entry(key, 1), |_| true);
    assert_eq!(at(&flows, place), Some(key));
}

#[test]
fn what_is_learned_spares_flows_of_sessions_that_go_on() {
    let (mut flows, mut sessions) = (flows(10), Sessions::new(Limits { sessions: 100, per_realm: 100 }, 42));
    let packet = |port: u16| packet(0x0a00_0001, 0x6440_0001, (port, 443), false, b"x");
    let group = |flows: &Flows, port| flows.preferred(key(A, &packet(port))) / WAYS;
    let first = group(&flows, 1);
    let ports: Vec<u16> = (1..).filter(|port| group(&flows, *port) == first).take(2 * WAYS as usize).collect();
    let learn = |flows: &mut Flows, sessions: &mut Sessions, port: u16| {
        let batch = judged(A, &packet(port), (1, 2));
        let side = |realm, port| Side { address: Canonical(7), realm, port };
        let flow = Flow {
            source: side(A, port),
            destination: side(B, 443),
            protocol: protocol::UDP,
            tcp_flags: 0,
            may_open: true,
            asker: Asker::Neither,
        };
        let ticket = sessions.ticket(&flow);
        let pass = sessions.admit(&ticket, Generation(1), 0, |_| true).unwrap();
        flows.keys[0] = key_of(A, packet(port).len(), batch.buffer(0));
        flows.learn(&batch, &[(0, pass)], &Carriers::new(1), sessions);
        ticket
    };
    let is_known = |flows: &Flows, port: u16| flows.find(key(A, &packet(port))).is_some();
    learn(&mut flows, &mut sessions, ports[0]);
    for port in &ports[1..] {
        let ticket = learn(&mut flows, &mut sessions, *port);
        assert!(is_known(&flows, *port));
        sessions.forget(&ticket);
    }
    assert!(is_known(&flows, ports[0]), "all of the others have ended");
    // Those that go on, do not give way to one another as long as there is room.
    let (living, late) = ports.split_at(WAYS as usize);
    for port in living {
        learn(&mut flows, &mut sessions, *port);
    }
    assert!(living.iter().all(|port| is_known(&flows, *port)));
    learn(&mut flows, &mut sessions, late[0]);
    assert_eq!(living.iter().filter(|port| !is_known(&flows, **port)).count(), 1);
}

proptest! {
    /// Whatever comes and goes: what is found is what was put there last, and every key is there once.
    #[test]
    fn the_table_finds_what_was_put_last(all in prop::collection::vec((0..60usize, 0..100u8), 1..120)) {
        let mut flows = flows(100_000);
        // Too many for their groups, and in others where the table is larger.
        let keys: Vec<u128> = (1..).filter(|key| flows.preferred(*key) < 2 * WAYS).take(60).collect();
        let (mut last, mut ended) = (HashMap::new(), HashSet::new());
        for (serial, (number, what)) in (1..).zip(all) {
            match what {
                0 => {
                    flows.forget();
                    last.clear();
                }
                1 => flows.make_room(flows.in_use / ENTRIES_PER_SESSION + 1),
                2..20 => ended.extend(last.get(&keys[number]).copied()),
                _ => {
                    let entry = Entry { pass: Pass { serial, ..PASS }, ..entry(keys[number], flows.epoch) };
                    flows.put(entry, |pass| !ended.contains(&pass.serial));
                    last.insert(entry.key, serial);
                    prop_assert_eq!(flows.find(entry.key), Some(entry));
                }
            }
            for key in &keys {
                let found = flows.find(*key).map(|entry| entry.pass.serial);
                prop_assert!(found.is_none() || found == last.get(key).copied(), "{} {:?}", key, found);
                let preferred = flows.preferred(*key);
                prop_assert!(places(preferred).filter(|place| at(&flows, *place) == Some(*key)).count() <= 1);
            }
        }
    }
}

#[test]
fn a_new_epoch_knows_nothing_of_the_one_before() {
    let mut flows = flows(10);
    flows.put(entry(1, flows.epoch), |_| true);
    assert!(flows.find(1).is_some());
    flows.forget();
    assert!(flows.find(1).is_none());
    flows.epoch = u32::MAX;
    flows.put(entry(1, u32::MAX), |_| true);
    flows.forget();
    assert_eq!(flows.epoch, 1, "and after the last one the first comes again, with nothing in it");
    assert!(flows.words.iter().all(|word| *word == 0));
}

#[test]
fn the_table_is_bounded_and_a_full_one_still_learns() {
    let mut flows = flows(START / ENTRIES_PER_SESSION);
    let bytes = flows.words.len();
    for key in 1..=10 * START as u128 {
        flows.put(entry(key, 1), |_| true);
        assert!(flows.find(key).is_some());
    }
    let known = (1..=10 * START as u128).filter(|key| flows.find(*key).is_some()).count();
    assert!(known <= START && known * 100 > START * 98, "as many as there is room for: {known}");
    assert_eq!(flows.words.len(), bytes);
}

#[test]
fn of_as_many_flows_as_sessions_make_hardly_one_is_pushed_out() {
    // So many that the table is as full as it ever becomes.
    let sessions = 1 << 14;
    let mut flows = flows(sessions);
    flows.make_room(sessions);
    assert_eq!(flows.in_use, sessions * ENTRIES_PER_SESSION);
    let keys = 1..=2 * sessions as u128;
    let known = |flows: &Flows, keys: RangeInclusive<u128>| keys.filter(|key| flows.find(*key).is_some()).count();
    // In one direction only.
    keys.clone().step_by(2).for_each(|key| flows.put(entry(key, 1), |_| true));
    assert!(known(&flows, keys.clone()) * 1000 > sessions * 999);
    keys.clone().for_each(|key| flows.put(entry(key, 1), |_| true));
    assert!(known(&flows, keys.clone()) * 1000 > 2 * sessions * 998);
    // Stale ones give way first.
    flows.forget();
    keys.clone().take(1000).for_each(|key| flows.put(entry(key, 2), |_| true));
    assert!(keys.take(1000).all(|key| flows.find(key).is_some()));
}

#[test]
fn what_the_table_cannot_hold_is_not_learned() {
    let first = packet(0x0a00_0001, 0x6440_0001, (1000, 443), false, &[]);
    let learn = |change: fn(&mut Meta)| {
        let mut batch = judged(A, &first, (1, 2));
        change(batch.packet_mut(0).0);
        Entry::learn(1, 1, PASS, batch.meta(0), &Carriers::new(1)).is_some()
    };
    assert!(learn(|_| ()));
    assert!(!learn(|meta| meta.shown.source_port = 7), "shown by a pool");
    assert!(!learn(|meta| meta.shown.destination_port = 7), "by a forward");
    assert!(!learn(|meta| meta.by_binding = true), "by a binding");
    assert!(!learn(|meta| meta.fragment_payload_bytes = 1000), "in fragments");
    assert!(!learn(|meta| meta.destination.realm = RealmId::IX), "to the IX itself");
    assert!(!learn(|meta| meta.shown.destination = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)), "into IPv6");
}
