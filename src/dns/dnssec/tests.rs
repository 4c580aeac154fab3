//! Signed answers through the whole of the room, as a validator sees them.

use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::canonical::{Validity, rrsig_head, signed_data};
use super::key::tests::rfc6605_key;
use super::sign::validity;
use super::validator::{self, Denial};
use super::*;
use crate::dns::fixture::*;
use crate::dns::forward::{Client, ForwardLimits, Forwarder, Routes, Tables};
use crate::dns::key::NameKey;
use crate::dns::zone::Zone;
use crate::dns::{SignatureLimits, Transport};
use crate::net::random::Seeded;
use crate::net::{RealmId, Timestamp};

const NOW: u64 = 1_782_864_000;
const ORIGIN: &[u8] = b"\x02ix\x07example\x00";
const A4: u16 = 1;
const NS: u16 = 2;
const SOA_TYPE: u16 = 6;
const AAAA: u16 = 28;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const DNSKEY: u16 = 48;

struct Signed {
    world: World,
    routes: Routes,
    forwarder: Forwarder<u64>,
    dnskey: Vec<u8>,
    unix_secs: u64,
}

impl Signed {
    fn new() -> Self {
        Signed::with(SignatureLimits { entries: 1000, per_sec_per_realm: 1_000_000 }, rfc6605_key())
    }

    fn with(signatures: SignatureLimits, key: SigningKey) -> Self {
        let dnskey = key.dnskey();
        let mut spec = spec();
        spec.key = Some(Arc::new(key));
        let limits = ForwardLimits {
            pending: 16,
            pending_per_realm: 16,
            pending_per_resolver: 16,
            cache_entries: 16,
            cache_bytes: 65_536,
            queries_per_sec_per_host: 1_000_000,
            queries_per_sec_per_realm: 1_000_000,
            signatures,
        };
        Signed {
            world: World { zone: Zone::new(spec).unwrap(), ..world() },
            routes: Routes::new(Vec::new()).unwrap(),
            forwarder: Forwarder::new(limits, 1),
            dnskey,
            unix_secs: NOW,
        }
    }

    fn exchange(&mut self, realm: RealmId, transport: Transport, query: &[u8]) -> Vec<u8> {
        let World { zone, mapping, policy } = &self.world;
        let tables = Tables { zone, routes: &self.routes, mapping, policy, unix_secs: self.unix_secs };
        let client = Client { realm, source: canonical4(realm, "192.168.1.10"), transport, token: 1 };
        self.forwarder.handle_query(tables, client, query, Timestamp::from_secs(10), &mut Seeded(1));
        self.forwarder.poll_answer().expect("an answer").1
    }

    fn ask(&mut self, realm: RealmId, query: &Message) -> Vec<u8> {
        let bytes = self.exchange(realm, Transport::Udp, &query.to_vec().unwrap());
        assert!(bytes.len() <= 1232);
        bytes
    }

    /// The answer's code, its records of the type, and what its NSECs say; every set is validated.
    fn lookup(&mut self, realm: RealmId, name: &str, record_type: RecordType) -> (u8, Vec<Vec<u8>>, Vec<Denial>) {
        let bytes = self.ask(realm, &secure(name, record_type));
        let message = validator::Message::read(&bytes);
        assert!(!message.truncated);
        let denials = message.validate(ORIGIN, &self.dnskey, self.unix_secs as u32).unwrap();
        (message.rcode, message.answers(record_type.into()), denials)
    }
}

/// A query as a validating resolver sends it.
fn secure(name: &str, record_type: RecordType) -> Message {
    secure_of(Name::from_ascii(name).unwrap(), record_type)
}

fn secure_of(name: Name, record_type: RecordType) -> Message {
    let mut query = query_of(name, record_type, true);
    if let Some(edns) = &mut query.edns {
        edns.set_dnssec_ok(true);
    }
    query
}

fn wire(name: &str) -> Vec<u8> {
    let name = Name::from_ascii(name).unwrap();
    [NameKey::new(&name).as_bytes(), &[0]].concat()
}

#[test]
fn the_example_of_rfc_6605_has_a_good_signature() {
    let record =
        Record::from_rdata(Name::from_ascii("www.example.net.").unwrap(), 3600, RData::A("192.0.2.1".parse().unwrap()));
    // 20100812100439 to 20100909100439; our addresses live for 60 seconds, the example's for an hour.
    let validity = Validity { inception: 1_281_607_479, expiration: 1_284_026_679 };
    let signer = Name::from_ascii("Example.net.").unwrap();
    let key = rfc6605_key();
    let mut head = rrsig_head(&record, &signer, &key, validity);
    let mut data = signed_data(&head, &[&record]).unwrap();
    let ttl = 3600u32.to_be_bytes();
    head[4..8].copy_from_slice(&ttl);
    data[4..8].copy_from_slice(&ttl);
    let at = data.len() - 10;
    data[at..at + 4].copy_from_slice(&ttl);
    let mut want =
        b"\x00\x01\x0d\x03\x00\x00\x0e\x10\x4c\x88\xb1\x37\x4c\x63\xc7\x37\xd9\x60\x07example\x03net\x00".to_vec();
    assert_eq!(head, want);
    want.extend_from_slice(b"\x03www\x07example\x03net\x00\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01");
    assert_eq!(data, want);
    let signature = "qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==";
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use base64::Engine;
    let signature = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
    let public = [&[4][..], key.public()].concat();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
    public.verify(&data, &signature).unwrap();
    public.verify(&data, &key.sign(&data).unwrap()).unwrap();
}

#[test]
fn each_asker_gets_its_own_answer_and_its_signature() {
    let mut signed = Signed::new();
    let (code, answers, denials) = signed.lookup(A, "pacs.b.ix.example.", RecordType::A);
    assert_eq!((code, answers, denials), (0, vec![vec![100, 64, 2, 20]], vec![]));
    let (_, answers, _) = signed.lookup(B, "PACS.b.IX.example.", RecordType::A);
    assert_eq!(answers, [[192, 168, 1, 20]]);
    let (_, answers, _) = signed.lookup(A, "ix.example.", RecordType::DNSKEY);
    assert_eq!(answers, [signed.dnskey.clone()]);
    for record_type in [RecordType::SOA, RecordType::NS, RecordType::ANY] {
        let bytes = signed.ask(C, &secure("Ix.Example.", record_type));
        let message = validator::Message::read(&bytes);
        assert_eq!(message.validate(ORIGIN, &signed.dnskey, NOW as u32).unwrap(), []);
        assert_eq!(message.rrs.len(), 2, "one set, and its signature");
    }
}

#[test]
fn what_does_not_exist_is_denied_by_its_own_name_alone() {
    let mut signed = Signed::new();
    let nxname = |name: &str| Denial {
        owner: wire(name),
        next: [b"\x01\x00", &wire(name)[..]].concat(),
        types: vec![RRSIG, NSEC, NXNAME],
    };
    // C has no grant for pacs; there is no nobody. Both look the same.
    for name in ["nobody.b.ix.example.", "pacs.b.ix.example.", "dicom.ix.example.", "a.b.c.d.ix.example."] {
        for record_type in [RecordType::A, RecordType::MX, RecordType::DS] {
            let (code, answers, denials) = signed.lookup(C, name, record_type);
            assert_eq!((code, answers, denials), (0, vec![], vec![nxname(name)]), "{name}");
        }
    }
    let shape = |bytes: &[u8]| {
        let message = validator::Message::read(bytes);
        message.rrs.iter().map(|rr| (rr.section, rr.rtype, rr.ttl, rr.rdata.len())).collect::<Vec<_>>()
    };
    let absent = shape(&signed.ask(C, &secure("pads.b.ix.example.", RecordType::A)));
    assert_eq!(absent, shape(&signed.ask(C, &secure("pacs.b.ix.example.", RecordType::A))));
}

#[test]
fn what_has_no_such_type_says_which_it_has_for_this_asker() {
    let mut signed = Signed::new();
    let mut types = |realm, name: &str, record_type| {
        let (code, answers, denials) = signed.lookup(realm, name, record_type);
        assert_eq!((code, answers.len(), denials.len()), (0, 0, 1), "{name}");
        assert_eq!(denials[0].owner, wire(name));
        let mut types = denials[0].types.clone();
        types.sort();
        types
    };
    assert_eq!(types(A, "pacs.b.ix.example.", RecordType::TXT), [A4, AAAA, RRSIG, NSEC]);
    assert_eq!(types(FOUR, "pacs.b.ix.example.", RecordType::AAAA), [A4, RRSIG, NSEC]);
    assert_eq!(types(SIX, "pacs.b.ix.example.", RecordType::A), [AAAA, RRSIG, NSEC]);
    assert_eq!(types(A, "b.ix.example.", RecordType::A), [RRSIG, NSEC], "an empty non-terminal");
    assert_eq!(types(A, "ix.example.", RecordType::A), [NS, SOA_TYPE, RRSIG, NSEC, DNSKEY]);
}

#[test]
fn nsec_and_rrsig_can_be_asked_for() {
    let mut signed = Signed::new();
    let (code, answers, denials) = signed.lookup(A, "pacs.b.ix.example.", RecordType::NSEC);
    assert_eq!((code, answers.len(), denials.len()), (0, 1, 1));
    let bytes = signed.ask(A, &secure("pacs.b.ix.example.", RecordType::RRSIG));
    assert_eq!(validator::Message::read(&bytes).rrs.len(), 1);
    // RFC 9824 section 3.5.
    let bytes = signed.ask(A, &secure("pacs.b.ix.example.", RecordType::from(NXNAME)));
    assert_eq!(validator::Message::read(&bytes).rcode, 1);
}

#[test]
fn an_asker_that_takes_compact_answers_is_told_nxdomain() {
    let mut signed = Signed::new();
    let mut query = secure("nobody.ix.example.", RecordType::A);
    query.edns.as_mut().unwrap().flags_mut().z = 0x4000;
    let bytes = signed.ask(A, &query);
    let message = validator::Message::read(&bytes);
    let denials = message.validate(ORIGIN, &signed.dnskey, NOW as u32).unwrap();
    assert_eq!((message.rcode, denials.len()), (3, 1));
    assert_eq!(Message::from_vec(&bytes).unwrap().edns.unwrap().flags().z, 0x4000);
}

#[test]
fn without_do_or_without_a_key_nothing_changes() {
    let mut signed = Signed::new();
    let plain = world();
    for (name, record_type) in [
        ("pacs.b.ix.example.", RecordType::A),
        ("nobody.ix.example.", RecordType::A),
        ("ix.example.", RecordType::SOA),
        ("ix.example.", RecordType::NSEC),
        ("b.ix.example.", RecordType::A),
        ("20.2.64.100.in-addr.arpa.", RecordType::PTR),
    ] {
        let asked = query(name, record_type, true).to_vec().unwrap();
        let want = plain.exchange(A, Transport::Udp, &asked).unwrap().1;
        assert_eq!(signed.exchange(A, Transport::Udp, &asked), want, "{name}");
        let asked = secure(name, record_type).to_vec().unwrap();
        let mut unsigned = Signed { world: world(), ..Signed::new() };
        let want = plain.exchange(A, Transport::Udp, &asked).unwrap().1;
        assert_eq!(unsigned.exchange(A, Transport::Udp, &asked), want, "{name}");
    }
    assert_eq!(signed.forwarder.signature_counts(), SignatureCounts::default());
    let (_, answers, _) = signed.lookup(A, "ix.example.", RecordType::DNSKEY);
    assert_eq!(answers.len(), 1);
}

#[test]
fn reverse_zones_are_not_signed() {
    let mut signed = Signed::new();
    for (name, record_type) in [
        ("20.2.64.100.in-addr.arpa.", RecordType::PTR),
        ("77.2.64.100.in-addr.arpa.", RecordType::PTR),
        ("64.100.in-addr.arpa.", RecordType::SOA),
        ("64.100.in-addr.arpa.", RecordType::DNSKEY),
    ] {
        let bytes = signed.ask(A, &secure(name, record_type));
        let message = validator::Message::read(&bytes);
        assert!(!message.rrs.is_empty());
        assert!(message.rrs.iter().all(|rr| ![RRSIG, NSEC, DNSKEY].contains(&rr.rtype)), "{name}");
    }
}

#[test]
fn a_name_is_signed_once_in_a_period() {
    let mut signed = Signed::new();
    for _ in 0..3 {
        signed.lookup(A, "pacs.b.ix.example.", RecordType::A);
        signed.lookup(A, "PACS.B.ix.example.", RecordType::A);
    }
    let counts = |signed: &Signed| signed.forwarder.signature_counts();
    assert_eq!(counts(&signed), SignatureCounts { made: 1, reused: 5, refused: 0 });
    signed.lookup(B, "pacs.b.ix.example.", RecordType::A);
    assert_eq!(counts(&signed).made, 2, "another view, another address");
    signed.unix_secs += 86_400;
    signed.lookup(A, "pacs.b.ix.example.", RecordType::A);
    assert_eq!(counts(&signed).made, 3);
    // Another key: what was signed with the old one must not be shown.
    let key = SigningKey::from_pkcs8(&generate_key().unwrap()).unwrap();
    signed.dnskey = key.dnskey();
    signed.world.zone = Zone::new(crate::dns::ZoneSpec { key: Some(Arc::new(key)), ..spec() }).unwrap();
    signed.lookup(A, "pacs.b.ix.example.", RecordType::A);
    assert_eq!(counts(&signed).made, 4);
}

#[test]
fn signatures_hold_for_a_day_and_from_an_hour_ago() {
    for secs in [NOW, NOW + 1, NOW + 43_200, NOW + 86_399] {
        let Validity { inception, expiration } = validity(secs);
        let secs = secs as u32;
        assert!(secs - inception >= 3_600 && secs - inception <= 3_600 + 86_400);
        assert!(expiration - secs > 86_400 && expiration - secs <= 2 * 86_400);
    }
    assert_eq!(validity(0).inception, 0);
}

#[test]
fn signatures_remembered_are_bounded() {
    let mut signed = Signed::with(SignatureLimits { entries: 10, per_sec_per_realm: 1000 }, rfc6605_key());
    for i in 0..100 {
        signed.lookup(A, &format!("x{i}.ix.example."), RecordType::A);
        signed.lookup(A, "pacs.b.ix.example.", RecordType::A);
        assert!(signed.forwarder.signatures().len() <= 10);
    }
    let counts = signed.forwarder.signature_counts();
    assert_eq!(counts.made, 102, "what is asked for again and again stays: the SOA, and pacs");
}

#[test]
fn one_realm_cannot_have_signatures_made_without_end() {
    let mut signed = Signed::with(SignatureLimits { entries: 100, per_sec_per_realm: 5 }, rfc6605_key());
    let code = |signed: &mut Signed, realm, name: &str| {
        let bytes = signed.ask(realm, &secure(name, RecordType::A));
        let message = validator::Message::read(&bytes);
        message.validate(ORIGIN, &signed.dnskey, signed.unix_secs as u32).unwrap();
        message.rcode
    };
    let codes: Vec<u8> = (0..6).map(|i| code(&mut signed, A, &format!("x{i}.ix.example."))).collect();
    assert_eq!(codes, [0, 0, 0, 0, 2, 2], "the SOA's, and four NSECs'");
    assert_eq!(code(&mut signed, A, "x0.ix.example."), 0, "made before");
    assert_eq!(code(&mut signed, B, "x9.ix.example."), 0, "another realm");
    signed.unix_secs += 1;
    assert_eq!(code(&mut signed, A, "x5.ix.example."), 0);
    assert_eq!(signed.forwarder.signature_counts().refused, 2);
}

#[test]
fn what_does_not_fit_comes_over_tcp_with_its_signature() {
    let mut signed = Signed::new();
    let mut spec = spec();
    spec.key = Some(Arc::new(rfc6605_key()));
    spec.hosts[1].addresses = (1..=70).map(|i| canonical4(B, &format!("192.168.1.{i}"))).collect();
    signed.world.zone = Zone::new(spec).unwrap();
    let query = secure("pacs.b.ix.example.", RecordType::A).to_vec().unwrap();
    let bytes = signed.exchange(B, Transport::Udp, &query);
    let message = validator::Message::read(&bytes);
    assert!(bytes.len() <= 1232 && message.truncated && message.rrs.is_empty());
    let bytes = signed.exchange(B, Transport::Tcp, &query);
    let message = validator::Message::read(&bytes);
    message.validate(ORIGIN, &signed.dnskey, NOW as u32).unwrap();
    assert_eq!((message.truncated, message.answers(A4).len(), message.answers(RRSIG).len()), (false, 70, 1));
}

#[test]
fn the_validator_sees_what_was_changed() {
    let mut signed = Signed::new();
    let good = signed.ask(A, &secure("pacs.b.ix.example.", RecordType::A));
    let validate = |bytes: &[u8], now| validator::Message::read(bytes).validate(ORIGIN, &signed.dnskey, now);
    validate(&good, NOW as u32).unwrap();
    let at = good.windows(4).position(|bytes| bytes == [100, 64, 2, 20]).unwrap();
    let mut forged = good.clone();
    forged[at + 3] = 21;
    assert!(validate(&forged, NOW as u32).is_err());
    assert!(validate(&good, NOW as u32 + 2 * 86_400 + 1).is_err() && validate(&good, NOW as u32 - 2 * 86_400).is_err());
}

/// Where the machine has BIND's `delv`, it validates too, over loopback and by the time of day.
#[test]
fn delv_validates() {
    use std::net::UdpSocket;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    let key = SigningKey::from_pkcs8(&generate_key().unwrap()).unwrap();
    let ds = key.ds_text("ix.example").unwrap();
    let ds: Vec<&str> = ds.split_whitespace().skip(3).collect();
    let [tag, algorithm, digest_type, digest] = ds[..] else { panic!("{ds:?}") };
    let dir = tempfile::tempdir().unwrap();
    let anchor = dir.path().join("anchor");
    let text = format!("trust-anchors {{ ix.example. static-ds {tag} {algorithm} {digest_type} \"{digest}\"; }};\n");
    std::fs::write(&anchor, text).unwrap();

    let mut signed = Signed::with(SignatureLimits { entries: 100, per_sec_per_realm: 100_000 }, key);
    signed.unix_secs = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Ends with the test's process, or when nobody asks any more.
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            let answer = signed.exchange(A, Transport::Udp, &buffer[..len]);
            let _ = socket.send_to(&answer, peer);
        }
    });
    for (name, record_type, want) in [
        ("pacs.b.ix.example", "A", "; fully validated"),
        ("pacs.b.ix.example", "AAAA", "; fully validated"),
        ("ix.example", "SOA", "; fully validated"),
        ("pacs.b.ix.example", "TXT", "; negative response, fully validated"),
        ("nobody.ix.example", "A", "; negative response, fully validated"),
        ("b.ix.example", "A", "; negative response, fully validated"),
        ("ix.example", "MX", "; negative response, fully validated"),
    ] {
        let mut delv = Command::new("delv");
        delv.args(["@127.0.0.1", "-p", &port, "-a", anchor.to_str().unwrap(), "+root=ix.example", name, record_type]);
        let Ok(output) = delv.output() else { return eprintln!("NOT RUN: there is no delv") };
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(want), "{name} {record_type}: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any name below the zone's, any type, any asker: what comes validates, and denies no more than the name.
    #[test]
    fn every_answer_of_the_zone_validates(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 0..4),
        known in prop::option::of(prop::sample::select(&["pacs.b", "six.b", "ws.a", "pacs", "dicom", "b", "ns", ""][..])),
        record_type in prop::sample::select(&[1u16, 2, 6, 15, 16, 28, 43, 47, 48, 65, 255, 1000][..]),
        realm in 1u16..=5,
        compact in any::<bool>(),
    ) {
        let mut signed = Signed::new();
        let base = Name::from_ascii(format!("{}.ix.example.", known.unwrap_or("x")).trim_start_matches('.')).unwrap();
        let Ok(name) = Name::from_labels(labels).unwrap_or_default().append_domain(&base) else { return Ok(()) };
        let mut query = secure_of(name.clone(), record_type.into());
        if compact {
            query.edns.as_mut().unwrap().flags_mut().z = 0x4000;
        }
        let bytes = signed.ask(RealmId(realm), &query);
        let message = validator::Message::read(&bytes);
        let denials = message.validate(ORIGIN, &signed.dnskey, NOW as u32).unwrap();
        let asked = [NameKey::new(&name).as_bytes(), &[0]].concat();
        if denials.is_empty() {
            prop_assert!(message.rcode == 0 && message.rrs.iter().any(|rr| rr.section == 0));
        } else {
            prop_assert_eq!(denials.len(), 1);
            prop_assert_eq!(&denials[0].owner, &asked);
            prop_assert!(record_type == 47 || !denials[0].types.contains(&record_type));
            prop_assert_eq!(message.rcode == 3, compact && denials[0].types.contains(&NXNAME));
        }
    }
}
