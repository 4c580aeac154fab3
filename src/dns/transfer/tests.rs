//! Transfers as a secondary sees them: it signs and verifies by RFC 8945 with code of its own.

use std::collections::BTreeSet;

use aws_lc_rs::hmac::{self, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;
use crate::dns::fixture::*;
use crate::dns::zone::Zone;

const NOW: u64 = 1_782_864_000;
const SECRET: [u8; 32] = [7; 32];

fn keys() -> Vec<TransferKey> {
    let key = |name, algorithm, view| TransferKey::new(name, algorithm, &SECRET, view).unwrap();
    vec![
        key("all", Algorithm::HmacSha256, View::Canonical),
        key("of-a", Algorithm::HmacSha384, View::Realm(A)),
        key("of-four.keys", Algorithm::HmacSha512, View::Realm(FOUR)),
    ]
}

/// The secondary's half of a key.
#[derive(Clone)]
struct Secondary {
    name: &'static [u8],
    algorithm: &'static [u8],
    hmac: hmac::Algorithm,
    secret: [u8; 32],
    time: u64,
    fudge: u16,
}

const ALL: Secondary = Secondary {
    name: b"\x03all\x00",
    algorithm: b"\x0bhmac-sha256\x00",
    hmac: HMAC_SHA256,
    secret: SECRET,
    time: NOW,
    fudge: 300,
};
const OF_A: Secondary =
    Secondary { name: b"\x04of-a\x00", algorithm: b"\x0bhmac-sha384\x00", hmac: HMAC_SHA384, ..ALL };
const OF_FOUR: Secondary =
    Secondary { name: b"\x07of-four\x04keys\x00", algorithm: b"\x0bhmac-sha512\x00", hmac: HMAC_SHA512, ..ALL };

/// What a TSIG record says: time, fudge, MAC, error, other data.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Shown {
    time: u64,
    fudge: u16,
    mac: Vec<u8>,
    error: u16,
    other: Vec<u8>,
}

impl Secondary {
    fn timers(&self) -> Vec<u8> {
        [&self.time.to_be_bytes()[2..], &self.fudge.to_be_bytes()].concat()
    }

    fn variables(&self, shown: &Shown) -> Vec<u8> {
        let mut data = [self.name, &[0, 255, 0, 0, 0, 0], self.algorithm].concat();
        data.extend(&shown.time.to_be_bytes()[2..]);
        data.extend(shown.fudge.to_be_bytes());
        data.extend(shown.error.to_be_bytes());
        data.extend((shown.other.len() as u16).to_be_bytes());
        data.extend(&shown.other);
        data
    }

    fn mac(&self, data: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(self.hmac, &self.secret), data).as_ref().to_vec()
    }

    /// The signed message and its MAC.
    fn sign(&self, message: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let plain = Shown { time: self.time, fudge: self.fudge, mac: vec![], error: 0, other: vec![] };
        let mac = self.mac(&[message, &self.variables(&plain)].concat());
        (self.append(message, &mac), mac)
    }

    fn append(&self, message: &[u8], mac: &[u8]) -> Vec<u8> {
        let mut rdata = [self.algorithm, &self.timers(), &(mac.len() as u16).to_be_bytes(), mac].concat();
        rdata.extend(&message[..2]);
        rdata.extend([0; 4]);
        let mut bytes = message.to_vec();
        bytes[11] += 1;
        bytes.extend(self.name);
        bytes.extend([0, 250, 0, 255, 0, 0, 0, 0]);
        bytes.extend((rdata.len() as u16).to_be_bytes());
        bytes.extend(rdata);
        bytes
    }

    /// The message without its last record, and that.
    fn strip(&self, bytes: &[u8]) -> (Vec<u8>, Shown) {
        let head = [self.name, &[0, 250, 0, 255, 0, 0, 0, 0]].concat();
        let at = (0..bytes.len()).rev().find(|at| bytes[*at..].starts_with(&head)).expect("a TSIG of this key");
        let rdata = bytes[at + head.len() + 2..].strip_prefix(self.algorithm).unwrap();
        let number = |at: usize| u16::from_be_bytes([rdata[at], rdata[at + 1]]);
        let time = u64::from(number(0)) << 32 | u64::from(number(2)) << 16 | u64::from(number(4));
        let mac = rdata[10..10 + usize::from(number(8))].to_vec();
        let rest = &rdata[10 + mac.len()..];
        let shown = Shown { time, fudge: number(6), mac, error: rest[3].into(), other: rest[6..].to_vec() };
        assert_eq!(rest[..2], bytes[..2], "the original id");
        let mut message = bytes[..at].to_vec();
        message[11] -= 1;
        (message, shown)
    }

    /// Verifies a first or later answer; the MAC for the next.
    fn verify(&self, bytes: &[u8], previous: &[u8], is_first: bool) -> Result<(Message, Vec<u8>), &'static str> {
        let (message, shown) = self.strip(bytes);
        let mut data = (previous.len() as u16).to_be_bytes().to_vec();
        data.extend(previous);
        data.extend(&message);
        match is_first {
            true => data.extend(self.variables(&shown)),
            false => data.extend(Secondary { time: shown.time, fudge: shown.fudge, ..self.clone() }.timers()),
        }
        match self.mac(&data) == shown.mac {
            true => Ok((Message::from_vec(&message).unwrap(), shown.mac)),
            false => Err("a bad MAC"),
        }
    }
}

fn ask(record_type: RecordType) -> Vec<u8> {
    query("ix.example.", record_type, false).to_vec().unwrap()
}

fn server<'a>(world: &'a World, keys: &'a [TransferKey]) -> Server<'a> {
    Server { zone: &world.zone, mapping: &world.mapping, policy: &world.policy, keys }
}

fn single(world: &World, bytes: &[u8]) -> (Vec<u8>, bool) {
    match server(world, &keys()).handle_message(bytes, NOW) {
        Answer::Message { bytes, is_refused } => (bytes, is_refused),
        Answer::Nothing => panic!("no answer"),
        Answer::Transfer(_) => panic!("a transfer"),
    }
}

/// The records of a whole transfer, every message of it verified, and how many messages there were.
fn fetch(world: &World, as_whom: &Secondary, record_type: RecordType) -> (Vec<Record>, usize) {
    let (request, mut mac) = as_whom.sign(&ask(record_type));
    let keys = keys();
    let Answer::Transfer(mut transfer) = server(world, &keys).handle_message(&request, NOW) else {
        panic!("no transfer")
    };
    let (mut records, mut count) = (Vec::new(), 0);
    while let Some(bytes) = transfer.poll_message(NOW + count as u64) {
        let bytes = bytes.unwrap();
        assert!(bytes.len() < MESSAGE_BYTES + 1500);
        let (message, next) = as_whom.verify(&bytes, &mac, count == 0).unwrap();
        assert_eq!((message.id, message.authoritative, message.truncation), (0x1234, true, false));
        assert_eq!(message.queries.len(), usize::from(count == 0));
        records.extend(message.answers);
        (mac, count) = (next, count + 1);
    }
    assert!(transfer.poll_message(NOW).is_none());
    (records, count)
}

fn texts(records: &[Record]) -> BTreeSet<String> {
    records.iter().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)).collect()
}

#[test]
fn a_realms_view_is_what_the_realm_is_told() {
    let world = world();
    for (as_whom, realm) in [(OF_A, A), (OF_FOUR, FOUR)] {
        let (records, _) = fetch(&world, &as_whom, RecordType::AXFR);
        let (first, last) = (&records[0], &records[records.len() - 1]);
        assert_eq!((first.record_type(), first), (RecordType::SOA, last));
        assert_eq!(records[1].record_type(), RecordType::NS);
        let mut want = BTreeSet::new();
        let names = ["ws.a", "pacs.b", "six.b", "ws.c", "four.b", "pacs", "dicom", "ns", "a", "b"];
        for name in names.map(|name| format!("{name}.ix.example.")) {
            for record_type in [RecordType::A, RecordType::AAAA] {
                want.extend(texts(&world.lookup(realm, &name, record_type).answers));
            }
        }
        assert!(want.len() > 2);
        assert_eq!(texts(&records[2..records.len() - 1]), want);
    }
}

#[test]
fn the_canonical_view_has_every_name() {
    let (records, messages) = fetch(&world(), &ALL, RecordType::AXFR);
    assert_eq!(messages, 1);
    let texts = texts(&records);
    for want in [
        "ws.a.ix.example. AAAA fd69:7867:6174:1::c0a8:10a",
        "ws.c.ix.example. AAAA fd69:7867:6174:3::c0a8:10a",
        "pacs.b.ix.example. AAAA 2001:db8:b::20",
        "dicom.ix.example. AAAA fd69:7867:6174:2::c0a8:114",
        "ns.ix.example. AAAA fd69:7867:6174::c000:201",
    ] {
        assert!(texts.contains(want), "{want} is not in {texts:#?}");
    }
    assert!(records.iter().all(|record| record.record_type() != RecordType::A));
}

#[test]
fn a_large_zone_comes_in_many_messages_each_bound_to_the_one_before() {
    let mut spec = spec();
    let host = spec.hosts[0].clone();
    spec.hosts.extend((0..5000).map(|i| crate::dns::HostName { name: format!("h{i}"), ..host.clone() }));
    let world = World { zone: Zone::new(spec).unwrap(), ..world() };
    let (records, messages) = fetch(&world, &ALL, RecordType::AXFR);
    assert!(messages > 5, "{messages}");
    assert_eq!(texts(&records).len(), texts(&fetch(&world, &ALL, RecordType::IXFR).0).len());
    assert!(records.len() > 5000);
}

#[test]
fn the_serial_is_told_and_ixfr_costs_nothing_when_nothing_is_new() {
    let mut world = world();
    world.zone.set_serial(1000);
    let with_soa = |serial: u32| {
        let mut message = query("IX.example.", RecordType::IXFR, false);
        let soa = SOA::new(Name::root(), Name::root(), serial, 0, 0, 0, 0);
        message.add_authority(Record::from_rdata(Name::from_ascii("ix.example.").unwrap(), 0, RData::SOA(soa)));
        message.to_vec().unwrap()
    };
    for asked in [ask(RecordType::SOA), with_soa(1000), with_soa(2000)] {
        let (request, mac) = ALL.sign(&asked);
        let (bytes, is_refused) = single(&world, &request);
        let (message, _) = ALL.verify(&bytes, &mac, true).unwrap();
        let RData::SOA(soa) = &message.answers[0].data else { panic!("{message}") };
        assert_eq!((message.answers.len(), soa.serial, is_refused), (1, 1000, false));
    }
    let (request, _) = ALL.sign(&with_soa(999));
    assert!(matches!(server(&world, &keys()).handle_message(&request, NOW), Answer::Transfer(_)));
}

/// Code, and the TSIG's error.
fn errors(as_whom: &Secondary, bytes: &[u8]) -> (u8, u16, Shown) {
    let (message, shown) = as_whom.strip(bytes);
    assert_eq!(message[6..8], [0, 0], "nothing of the zone");
    (message[3] & 15, shown.error, shown)
}

const NOT_AUTH: u8 = 9;

#[test]
fn who_has_no_key_gets_nothing() {
    let world = world();
    let (bytes, is_refused) = single(&world, &ask(RecordType::AXFR));
    assert_eq!((bytes[3] & 15, bytes[7], is_refused), (5, 0, true), "no TSIG: REFUSED");
    let strangers = [
        Secondary { name: b"\x05other\x00", ..ALL },
        Secondary { algorithm: b"\x09hmac-sha1\x00", ..ALL },
        Secondary { algorithm: OF_A.algorithm, hmac: OF_A.hmac, ..ALL },
    ];
    for stranger in strangers {
        let (bytes, is_refused) = single(&world, &stranger.sign(&ask(RecordType::AXFR)).0);
        let (code, error, shown) = errors(&stranger, &bytes);
        assert_eq!((code, error, is_refused), (NOT_AUTH, 17, true), "BADKEY");
        assert!(shown.mac.is_empty(), "RFC 8945 section 5.3.2: not signed");
    }
    let guess = Secondary { secret: [8; 32], ..ALL };
    let (bytes, _) = single(&world, &guess.sign(&ask(RecordType::AXFR)).0);
    let (code, error, shown) = errors(&guess, &bytes);
    assert_eq!((code, error, shown.mac.len()), (NOT_AUTH, 16, 0), "BADSIG");
    let (signed, mac) = ALL.sign(&ask(RecordType::AXFR));
    assert!(matches!(server(&world, &keys()).handle_message(&signed, NOW), Answer::Transfer(_)));
    let cut = ALL.append(&ask(RecordType::AXFR), &mac[..20]);
    assert_eq!(errors(&ALL, &single(&world, &cut).0).1, 22, "BADTRUNC");
    for malformed in [&mac[..15], &[&mac[..], &[0]].concat(), &[]] {
        let (bytes, _) = single(&world, &ALL.append(&ask(RecordType::AXFR), malformed));
        assert_eq!((bytes[3] & 15, bytes[11]), (1, 0), "FORMERR");
    }
}

#[test]
fn a_wrong_clock_is_told_and_signed() {
    let world = world();
    for (time, ok) in [(NOW - 301, false), (NOW - 300, true), (NOW + 300, true), (NOW + 301, false)] {
        let late = Secondary { time, ..ALL };
        let (request, mac) = late.sign(&ask(RecordType::SOA));
        let (bytes, _) = single(&world, &request);
        late.verify(&bytes, &mac, true).unwrap();
        if !ok {
            let (code, error, shown) = errors(&late, &bytes);
            assert_eq!((code, error, shown.time), (NOT_AUTH, 18, time), "BADTIME");
            assert_eq!(shown.other, NOW.to_be_bytes()[2..]);
        }
    }
}

#[test]
fn other_questions_are_refused_with_a_signature() {
    let world = world();
    for (name, record_type, code) in [
        ("ix.example.", RecordType::A, 5),
        ("pacs.b.ix.example.", RecordType::AXFR, NOT_AUTH),
        ("example.", RecordType::AXFR, NOT_AUTH),
        ("64.100.in-addr.arpa.", RecordType::AXFR, NOT_AUTH),
    ] {
        let (request, mac) = ALL.sign(&query(name, record_type, false).to_vec().unwrap());
        let (bytes, is_refused) = single(&world, &request);
        let (message, _) = ALL.verify(&bytes, &mac, true).unwrap();
        assert_eq!((u16::from(message.response_code), is_refused), (code.into(), true), "{name}");
    }
    let mut update = query("ix.example.", RecordType::SOA, false);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(single(&world, &update.to_vec().unwrap()).0[3] & 15, 4, "NOTIMP");
    let mut response = ask(RecordType::AXFR);
    response[2] |= 0x80;
    assert!(matches!(server(&world, &keys()).handle_message(&response, NOW), Answer::Nothing));
}

#[test]
fn the_signature_must_be_the_last_record_and_the_only_one() {
    let world = world();
    let (once, _) = ALL.sign(&ask(RecordType::SOA));
    let (twice, _) = ALL.sign(&once);
    assert_eq!(single(&world, &twice).0[3] & 15, 1);
    let mut trailing = once.clone();
    trailing.push(0);
    assert_eq!(single(&world, &trailing).0[3] & 15, 1);
    let (with_edns, mac) = ALL.sign(&query("ix.example.", RecordType::SOA, true).to_vec().unwrap());
    ALL.verify(&single(&world, &with_edns).0, &mac, true).unwrap();
}

#[test]
fn a_key_shows_nothing_of_its_secret() {
    let text = format!("{:?}", keys());
    assert!(!text.contains("7, 7") && !text.contains("0707"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_byte_is_taken(at in any::<prop::sample::Index>(), change in 1u8..=255) {
        let world = world();
        let (mut bytes, _) = ALL.sign(&query("ix.example.", RecordType::SOA, true).to_vec().unwrap());
        let at = at.index(bytes.len());
        // Upper and lower case of key, algorithm and the id in transit are not what is signed.
        let is_letter = bytes[at].is_ascii_alphabetic() && change == 0x20;
        prop_assume!(at > 1 && !is_letter);
        bytes[at] ^= change;
        match server(&world, &keys()).handle_message(&bytes, NOW) {
            Answer::Nothing => {}
            Answer::Transfer(_) => prop_assert!(false, "byte {at}"),
            Answer::Message { is_refused, .. } => prop_assert!(is_refused, "byte {at}"),
        }
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..300), header in any::<bool>()) {
        let world = world();
        let mut bytes = bytes;
        if header && bytes.len() > 12 {
            bytes[..12].copy_from_slice(b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01");
        }
        if let Answer::Transfer(_) = server(&world, &keys()).handle_message(&bytes, NOW) {
            prop_assert!(false, "nobody signed this");
        }
    }

    #[test]
    fn no_changed_answer_is_taken(at in any::<prop::sample::Index>(), change in 1u8..=255) {
        let world = world();
        let (request, mac) = ALL.sign(&ask(RecordType::SOA));
        let mut bytes = single(&world, &request).0;
        let signed = ALL.strip(&bytes).0.len();
        let at = at.index(signed);
        prop_assume!(at != 11 && at > 1);
        bytes[at] ^= change;
        prop_assert!(ALL.verify(&bytes, &mac, true).is_err(), "byte {at}");
    }
}
