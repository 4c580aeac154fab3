//! What a name costs: answers per second and core of the internal zone, alone and through a tunnel.
//!
//! `cargo bench --bench names` prints, for zones of several sizes, nanoseconds per answer and answers per second of
//! `dns::Zone::answer`: an address that is granted, the reverse of it, and a name that is denied (NXDOMAIN with an
//! Extended DNS Error). Askers and names change with every query, so that the larger zones do not sit in the cache.
//! The last line of each zone is the whole way for one asking realm: a WireGuard datagram with a query in, a WireGuard
//! datagram with the answer out.
//! Medians of several rounds, on one core. `cargo bench --bench names -- --quick` skips the largest zone.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use ixgate::dataplane::Engine;
use ixgate::dns::Transport;
use ixgate::net::{Path, RealmId, Timestamp};
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets;
use ixgate::sim::peer::Peer;
use ixgate::sim::random::Random;

const HOSTS: [usize; 3] = [10, 1_000, 50_000];
const MAX_REALMS: usize = 500;
/// Queries made ahead and then answered in one timed round.
const ROUND_QUERIES: usize = 1024;
const ROUNDS: usize = 101;
/// Given to the engine at once, as a receive call would.
const BURST: usize = 256;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    println!("medians of {ROUNDS} rounds of {ROUND_QUERIES} queries; one core");
    println!("{:>7} {:>7}  {:<34} {:>10} {:>12}", "hosts", "realms", "question", "ns/answer", "answers/s");
    for hosts in HOSTS.into_iter().filter(|hosts| !quick || *hosts < 50_000) {
        let mut bench = Bench::start(hosts);
        for question in [Question::Granted, Question::Reverse, Question::Denied] {
            let nanos = bench.measure_zone(question);
            bench.print(question.words(), nanos);
        }
        let nanos = bench.measure_engine();
        bench.print("A, granted, from tunnel to tunnel", nanos);
    }
}

#[derive(Clone, Copy)]
enum Question {
    /// The address of a host in the realm that the asker may reach.
    Granted,
    /// The name of that address.
    Reverse,
    /// The address of a host in a realm that the asker may not reach.
    Denied,
}

impl Question {
    fn words(self) -> &'static str {
        match self {
            Question::Granted => "A, granted",
            Question::Reverse => "PTR, granted",
            Question::Denied => "A, denied (NXDOMAIN and EDE)",
        }
    }

    /// Of the asker's realm, counted around.
    fn distance_to_owner(self) -> usize {
        match self {
            Question::Granted | Question::Reverse => 1,
            Question::Denied => 2,
        }
    }

    fn response_code(self) -> ResponseCode {
        match self {
            Question::Granted | Question::Reverse => ResponseCode::NoError,
            Question::Denied => ResponseCode::NXDomain,
        }
    }
}

/// An appliance whose every realm may reach the next one, and a peer in the first.
struct Bench {
    appliance: Appliance,
    engine: Engine,
    peer: Peer,
    now: Timestamp,
    hosts: usize,
    realms: usize,
    random: Random,
}

impl Bench {
    fn start(hosts: usize) -> Self {
        let now = Timestamp::from_secs(1);
        let realms = MAX_REALMS.min(hosts / 2);
        let appliance = Appliance::build(&config(hosts, realms));
        let mut bench = Bench {
            engine: appliance.engine(now),
            peer: Peer::new(appliance.site_key("r0"), appliance.public_key, None, 1),
            appliance,
            now,
            hosts,
            realms,
            random: Random(hosts as u64),
        };
        bench.shake_hands();
        bench
    }

    fn print(&self, question: &str, nanos: f64) {
        let (hosts, realms, per_sec) = (self.hosts, self.realms, 1e9 / nanos);
        println!("{hosts:>7} {realms:>7}  {question:<34} {nanos:>10.0} {per_sec:>12.0}");
    }

    fn measure_zone(&mut self, question: Question) -> f64 {
        let mut out = Vec::new();
        let rounds = (0..ROUNDS).map(|_| {
            let queries: Vec<_> = (0..ROUND_QUERIES).map(|_| self.draw(question)).collect();
            let snapshot = &self.appliance.snapshot;
            let mut answer = |(asker, query): &(RealmId, Vec<u8>)| {
                let (mapping, policy) = (&snapshot.mapping, &snapshot.policy);
                black_box(snapshot.zone.answer(*asker, Transport::Udp, query, mapping, policy, &mut out))
            };
            let start = Instant::now();
            assert!(queries.iter().all(&mut answer));
            let elapsed = start.elapsed();
            // What was timed must be what it is called.
            let reply = Message::from_vec(&out).expect("an answer");
            assert_eq!(reply.metadata.response_code, question.response_code(), "{reply}");
            elapsed.as_nanos() as f64 / ROUND_QUERIES as f64
        });
        median(rounds.collect())
    }

    /// From sealed datagram to sealed datagram.
    fn measure_engine(&mut self) -> f64 {
        let rounds = (0..ROUNDS).map(|_| {
            let datagrams: Vec<_> = (0..ROUND_QUERIES).map(|n| self.sealed_query(n)).collect();
            let before = self.engine.report(self.now).totals;
            let start = Instant::now();
            for burst in datagrams.chunks(BURST) {
                let datagrams = burst.iter().map(|bytes| Datagram::new(path(), bytes));
                self.engine.handle_input(datagrams, self.now);
                black_box(self.engine.outbox().runs().len());
                self.engine.outbox().clear();
            }
            let elapsed = start.elapsed();
            let after = self.engine.report(self.now).totals;
            let (answered, sent) = (after.answered - before.answered, after.originated - before.originated);
            assert_eq!((answered, sent), (ROUND_QUERIES as u64, ROUND_QUERIES as u64), "{after:?}");
            elapsed.as_nanos() as f64 / ROUND_QUERIES as f64
        });
        median(rounds.collect())
    }

    /// Who asks, and the bytes.
    fn draw(&mut self, question: Question) -> (RealmId, Vec<u8>) {
        let asker = self.random.below(self.realms as u64) as usize;
        (self.realm(asker), self.query_from(asker, question))
    }

    fn query_from(&mut self, asker: usize, question: Question) -> Vec<u8> {
        let owner = (asker + question.distance_to_owner()) % self.realms;
        let host = self.random.below((self.hosts / self.realms) as u64) as usize;
        match question {
            Question::Granted | Question::Denied => query(&format!("h{host}.r{owner}.ix.example."), RecordType::A),
            Question::Reverse => {
                let mapping = &self.appliance.snapshot.mapping;
                let at = mapping.locate_native4(self.realm(owner), address(host)).expect("a host's address");
                let alias = mapping.seen_by(self.realm(asker), at).expect("an alias");
                query(&Name::from(alias).to_string(), RecordType::PTR)
            }
        }
    }

    fn sealed_query(&mut self, number: usize) -> Vec<u8> {
        let query = self.query_from(0, Question::Granted);
        let snapshot = &self.appliance.snapshot;
        let dns = snapshot.mapping.seen_by(self.realm(0), snapshot.service.dns).expect("the IX has an alias");
        let source = (IpAddr::V4(address(0)), 10_000 + number as u16);
        self.peer.send(&packets::udp(source, (dns, 53), &query)).expect("a session")
    }

    fn realm(&self, number: usize) -> RealmId {
        self.appliance.realm(&format!("r{number}"))
    }

    fn shake_hands(&mut self) {
        let mut to_appliance: Vec<Vec<u8>> = self.peer.initiate().into_iter().collect();
        while let Some(bytes) = to_appliance.pop() {
            self.engine.handle_input([Datagram::new(path(), &bytes)].into_iter(), self.now);
            for (_, _, answer) in self.engine.outbox().datagrams() {
                to_appliance.extend(self.peer.receive(answer).datagrams);
            }
            self.engine.outbox().clear();
        }
        assert!(self.peer.has_session());
    }
}

/// All realms have the same network, and as many hosts each.
fn config(hosts: usize, realms: usize) -> String {
    let mut text =
        "[ix]\ndomain = \"ix.example\"\n[wireguard]\nprivate_key_file = \"secrets/wireguard.key\"\n".to_owned();
    // One host asks all of it.
    text.push_str("[limits]\ndns_queries_per_sec_per_host = 1000000\ndns_queries_per_sec_per_realm = 1000000\n");
    for realm in 0..realms {
        let next = (realm + 1) % realms;
        let _ = write!(
            text,
            "[[realm]]\nname = \"r{realm}\"\nnetworks = [\"192.168.1.0/24\"]\n\
             attach = [{{ wireguard = {{ public_key = \"{{key:r{realm}}}\" }} }}]\n\
             [[grant]]\nfrom = [\"r{realm}\"]\nto = [\"realm:r{next}\"]\nports = [\"tcp/443\"]\n"
        );
        for host in 0..hosts / realms {
            let address = address(host);
            let _ = write!(text, "[[host]]\nname = \"h{host}\"\nrealm = \"r{realm}\"\naddress = \"{address}\"\n");
        }
    }
    text
}

/// Of a realm's n-th host.
fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, host as u8 + 1)
}

/// As a stub resolver sends it.
fn query(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), record_type));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message.to_vec().expect("a query")
}

fn path() -> Path {
    Path::to(SocketAddr::from(([127, 0, 0, 1], 1)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
