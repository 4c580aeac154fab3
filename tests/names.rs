//! Names that a realm's own resolver answers, seen from the sites: two WireGuard realms with one prefix around the engine
//! that `run` runs, and a resolver in one of them.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A as A4, PTR};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ixgate::dns::Upstream;
use ixgate::dns::forward::Action;
use ixgate::net::policy::protocol;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::lan::{Arrival, Lan};
use ixgate::sim::packets::{packet, udp, verify};
use ixgate::wire::headers::Headers;
use ixgate::wire::tcp::flag;

/// A may open all of B, C nothing; B has resolvers. All three are one prefix.
const THREE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:a}" } }]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
dns = { domains = ["b.local", "1.168.192.in-addr.arpa"], resolvers = ["192.168.1.53", "192.168.1.54:5353"] }
attach = [{ wireguard = { public_key = "{key:b}" } }]
[[realm]]
name = "c"
networks = ["192.168.1.0/24"]
attach = [{ wireguard = { public_key = "{key:c}" } }]
[[dns_forward]]
domain = "example.org"
resolvers = ["9.9.9.9", "tls:dns.quad9.net@9.9.9.9"]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["tcp/443"]
"#;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

struct Scene {
    lan: Lan,
    appliance: Appliance,
    dns: IpAddr,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Scene {
    fn start() -> Self {
        let appliance = Appliance::build(THREE);
        Scene { lan: Lan::start(&appliance, &["a", "b", "c"]), appliance, dns: ip("100.64.0.53") }
    }

    /// A host's query on its way; gives what arrives anywhere.
    fn query(&mut self, site: usize, name: &str, record_type: RecordType) -> Vec<Arrival> {
        let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
        message.set_edns(Edns::new());
        let packet = udp((ip("192.168.1.10"), 5000), (self.dns, 53), &message.to_vec().unwrap());
        self.lan.send(site, &packet)
    }

    /// What a query that went upstream says, and its answer on its way back.
    fn answer(&mut self, asked: &[u8], records: &[(&str, RData)], truncated: bool) -> Vec<Arrival> {
        let headers = verify(asked).unwrap();
        let (source_port, query) = udp_payload(asked, &headers);
        let bytes = said(query, records, truncated);
        let reply =
            udp((headers.destination, destination_port(asked, &headers)), (headers.source, source_port), &bytes);
        self.lan.send(B, &reply)
    }
}

fn udp_payload<'a>(packet: &'a [u8], headers: &Headers) -> (u16, &'a [u8]) {
    let message = &packet[headers.transport_offset..];
    (u16::from_be_bytes([message[0], message[1]]), &message[8..])
}

fn destination_port(packet: &[u8], headers: &Headers) -> u16 {
    let message = &packet[headers.transport_offset..];
    u16::from_be_bytes([message[2], message[3]])
}

fn said(query: &[u8], records: &[(&str, RData)], truncated: bool) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(query.queries[0].clone());
    answer.metadata.truncation = truncated;
    for (name, data) in records {
        answer.add_answer(Record::from_rdata(Name::from_ascii(name).unwrap(), 600, data.clone()));
    }
    answer.to_vec().unwrap()
}

fn a(addr: &str) -> RData {
    RData::A(A4(addr.parse().unwrap()))
}

/// The only thing that arrived, and where.
fn single(arrivals: Vec<Arrival>) -> Arrival {
    let [arrival] = &arrivals[..] else { panic!("{arrivals:?}") };
    arrival.clone()
}

fn read(packet: &[u8]) -> Message {
    let headers = verify(packet).unwrap();
    Message::from_vec(udp_payload(packet, &headers).1).unwrap()
}

fn records(message: &Message) -> Vec<String> {
    message.all_sections().map(|record| format!("{} {}", record.name, record.data)).collect()
}

fn extended_error(message: &Message) -> Option<u16> {
    match message.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(_, data) => Some(u16::from_be_bytes(*data.first_chunk()?)),
        _ => None,
    }
}

#[test]
fn a_realm_reads_anothers_names_in_its_own_terms() {
    let mut scene = Scene::start();
    let (site, asked) = single(scene.query(A, "img.b.local.", RecordType::A));
    let headers = verify(&asked).unwrap();
    assert_eq!((site, headers.source, headers.destination), (B, scene.dns, ip("192.168.1.53")));
    assert_eq!(destination_port(&asked, &headers), 53);

    let (site, answer) = single(scene.answer(&asked, &[("img.b.local.", a("192.168.1.20"))], false));
    let headers = verify(&answer).unwrap();
    assert_eq!((site, headers.source, headers.destination), (A, scene.dns, ip("192.168.1.10")));
    let seen = scene.appliance.seen_by("a", "b", "192.168.1.20");
    assert_eq!(records(&read(&answer)), [format!("img.b.local. {seen}")]);

    // The second asker of the realm has it from the cache; B itself asks and gets its own.
    let (site, cached) = single(scene.query(A, "img.b.local.", RecordType::A));
    assert_eq!((site, records(&read(&cached))), (A, records(&read(&answer))));
    let (_, asked) = single(scene.query(B, "img.b.local.", RecordType::A));
    let (site, own) = single(scene.answer(&asked, &[("img.b.local.", a("192.168.1.20"))], false));
    assert_eq!((site, records(&read(&own))), (B, vec!["img.b.local. 192.168.1.20".to_owned()]));
    let counters = scene.lan.report().dns;
    assert_eq!((counters.queries, counters.forwarded, counters.by_cache, counters.exchanges), (3, 2, 1, 2));
}

#[test]
fn who_has_no_grant_asks_in_vain_and_nothing_reaches_the_resolver() {
    let mut scene = Scene::start();
    let (site, answer) = single(scene.query(C, "img.b.local.", RecordType::A));
    let answer = read(&answer);
    assert_eq!((site, answer.metadata.response_code), (C, ResponseCode::NXDomain));
    assert_eq!((records(&answer), extended_error(&answer)), (vec![], Some(18)));
}

#[test]
fn the_reverse_name_of_an_alias_is_asked_at_its_owner() {
    let mut scene = Scene::start();
    let seen = scene.appliance.seen_by("a", "b", "192.168.1.77");
    let alias = Name::from(seen).to_string();
    let (_, asked) = single(scene.query(A, &alias, RecordType::PTR));
    let native = "77.1.168.192.in-addr.arpa.";
    assert_eq!(read(&asked).queries[0].name().to_string(), native);
    let name = RData::PTR(PTR(Name::from_ascii("img.b.local.").unwrap()));
    let (_, answer) = single(scene.answer(&asked, &[(native, name)], false));
    assert_eq!(records(&read(&answer)), [format!("{alias} img.b.local.")]);
}

#[test]
fn a_forged_answer_from_another_realm_or_port_changes_nothing() {
    let mut scene = Scene::start();
    let (_, asked) = single(scene.query(A, "img.b.local.", RecordType::A));
    let headers = verify(&asked).unwrap();
    let (port, query) = udp_payload(&asked, &headers);
    let lie = said(query, &[("img.b.local.", a("192.168.1.66"))], false);
    // C's host has the resolver's very address.
    assert_eq!(scene.lan.send(C, &udp((ip("192.168.1.53"), 53), (scene.dns, port), &lie)), []);
    assert_eq!(scene.lan.send(B, &udp((ip("192.168.1.53"), 54), (scene.dns, port), &lie)), []);
    assert_eq!(scene.lan.send(B, &udp((ip("192.168.1.52"), 53), (scene.dns, port), &lie)), []);
    let (site, answer) = single(scene.answer(&asked, &[("img.b.local.", a("192.168.1.20"))], false));
    assert_eq!((site, records(&read(&answer)).len()), (A, 1));
    assert!(!records(&read(&answer))[0].ends_with(".66"));
}

#[test]
fn a_silent_resolver_is_followed_by_the_next() {
    let mut scene = Scene::start();
    single(scene.query(A, "img.b.local.", RecordType::A));
    let (deadline, _) = scene.lan.engine.poll_timeout().unwrap();
    let mut arrivals = Vec::new();
    for millis in 0..20 {
        arrivals.extend(scene.lan.advance_to(deadline + std::time::Duration::from_millis(100 * millis)));
        if !arrivals.is_empty() {
            break;
        }
    }
    let (site, asked) = single(arrivals);
    let headers = verify(&asked).unwrap();
    assert_eq!((site, headers.destination, destination_port(&asked, &headers)), (B, ip("192.168.1.54"), 5353));
    let (site, answer) = single(scene.answer(&asked, &[("img.b.local.", a("192.168.1.20"))], false));
    assert_eq!((site, records(&read(&answer)).len()), (A, 1));
}

/// A segment of B's resolver.
fn segment(to: (IpAddr, u16), seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 20];
    message[..2].copy_from_slice(&53u16.to_be_bytes());
    message[2..4].copy_from_slice(&to.1.to_be_bytes());
    message[4..8].copy_from_slice(&seq.to_be_bytes());
    message[8..12].copy_from_slice(&ack.to_be_bytes());
    message[12..16].copy_from_slice(&[5 << 4, flags, 0xff, 0xff]);
    message.extend_from_slice(payload);
    packet(ip("192.168.1.53"), to.0, protocol::TCP, message)
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    let mut scene = Scene::start();
    let (_, asked) = single(scene.query(A, "img.b.local.", RecordType::A));
    let (site, syn) = single(scene.answer(&asked, &[], true));
    let headers = verify(&syn).unwrap();
    assert_eq!((site, headers.protocol, headers.destination), (B, protocol::TCP, ip("192.168.1.53")));
    let tcp = &syn[headers.transport_offset..];
    let port = u16::from_be_bytes([tcp[0], tcp[1]]);
    let seq = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
    let to = (scene.dns, port);
    let arrivals = scene.lan.send(B, &segment(to, 1000, seq.wrapping_add(1), flag::SYN | flag::ACK, b""));
    let with_query = arrivals.iter().map(|(_, packet)| {
        let headers = verify(packet).unwrap();
        let tcp = &packet[headers.transport_offset..];
        tcp[usize::from(tcp[12] >> 4) * 4..].to_vec()
    });
    let query = with_query.into_iter().find(|payload| !payload.is_empty()).expect("the question");
    assert_eq!(usize::from(u16::from_be_bytes([query[0], query[1]])), query.len() - 2);
    let message = said(&query[2..], &[("img.b.local.", a("192.168.1.20"))], false);
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let ack = seq.wrapping_add(1 + query.len() as u32);
    let arrivals = scene.lan.send(B, &segment(to, 1001, ack, flag::ACK, &framed));
    let (_, answer) = arrivals.into_iter().find(|(site, _)| *site == A).expect("an answer");
    assert_eq!(records(&read(&answer)).len(), 1);
    assert_eq!(scene.lan.report().dns.tcp_fallbacks, 1);
}

#[test]
fn a_domain_outside_is_asked_by_whoever_drives_the_engine() {
    let mut scene = Scene::start();
    assert_eq!(scene.query(C, "www.example.org.", RecordType::A), []);
    let Some(Action::Ask { exchange, upstream, bytes, .. }) = scene.lan.engine.poll_outside() else { panic!("asked") };
    assert_eq!(upstream, Upstream::Outside { server: "9.9.9.9:53".parse().unwrap(), tls: None });
    let name = Message::from_vec(&bytes).unwrap().queries[0].name().to_string();
    let answer = said(&bytes, &[(&name, a("203.0.113.7")), (&name, a("192.168.1.20"))], false);
    let now = scene.lan.now;
    scene.lan.engine.handle_outside(exchange, Some(&answer), now);
    assert!(matches!(scene.lan.engine.poll_outside(), Some(Action::Close { .. })));
    assert_eq!(scene.lan.engine.outbox().datagrams().count(), 1, "the answer is on its way");
}

#[test]
fn a_new_configuration_forgets_what_was_answered() {
    let mut scene = Scene::start();
    let (_, asked) = single(scene.query(A, "img.b.local.", RecordType::A));
    single(scene.answer(&asked, &[("img.b.local.", a("192.168.1.20"))], false));
    assert_eq!(scene.lan.report().dns_now.cached, 1);
    let closed = THREE.replace("from = [\"a\"]", "from = [\"c\"]");
    let snapshot = scene.appliance.change(&closed);
    let now = scene.lan.now;
    scene.lan.engine.publish(snapshot, now);
    assert_eq!(scene.lan.report().dns_now.cached, 0);
    let (_, answer) = single(scene.query(A, "img.b.local.", RecordType::A));
    assert_eq!(read(&answer).metadata.response_code, ResponseCode::NXDomain, "A's grant is gone");
}
