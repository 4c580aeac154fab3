//! The three realms of [`crate::dns::fixture`], resolvers in two of them and outside, and time.

use std::collections::HashSet;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::*;
use crate::dns::fixture::{A, B, World, canonical4, query, world};
use crate::net::random::Seeded;

pub(super) const PORT: u16 = 53;

pub(super) fn limits() -> ForwardLimits {
    ForwardLimits {
        pending: 100,
        pending_per_realm: 20,
        pending_per_resolver: 50,
        cache_entries: 100,
        cache_bytes: 100_000,
        queries_per_sec_per_host: 1000,
        queries_per_sec_per_realm: 10_000,
        signatures: SignatureLimits { entries: 64, per_sec_per_realm: 1000 },
    }
}

pub(super) fn resolver(realm: RealmId, address: &str) -> Upstream {
    Upstream::Realm { realm, address: canonical4(realm, address), port: PORT }
}

pub(super) fn outside(address: &str) -> Upstream {
    Upstream::Outside { server: (address.parse::<std::net::IpAddr>().unwrap(), PORT).into(), tls: None }
}

fn route(domain: &str, owner: Option<RealmId>, resolvers: &[Upstream]) -> RouteSpec {
    RouteSpec { domain: domain.into(), owner, resolvers: resolvers.into() }
}

/// A and B have domains of their own, and both the reverse zone of the prefix that they share.
pub(super) fn routes() -> Routes {
    let of_b = [resolver(B, "192.168.1.53"), resolver(B, "192.168.1.54")];
    let of_a = [resolver(A, "192.168.1.53")];
    Routes::new([
        route("b.local", Some(B), &of_b),
        route("1.168.192.in-addr.arpa", Some(B), &of_b),
        route("a.local", Some(A), &of_a),
        route("168.192.in-addr.arpa", Some(A), &of_a),
        route("example.org", None, &[outside("198.51.100.1"), outside("2001:db8:ffff::1")]),
    ])
    .unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub(super) fn address(text: &str) -> RData {
    match text.parse::<std::net::IpAddr>().unwrap() {
        std::net::IpAddr::V4(addr) => RData::A(hickory_proto::rr::rdata::A(addr)),
        std::net::IpAddr::V6(addr) => RData::AAAA(hickory_proto::rr::rdata::AAAA(addr)),
    }
}

pub(super) fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

/// What the resolvers know, and how they behave.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) routes: Routes,
    pub(super) forwarder: Forwarder<u32>,
    pub(super) now: Timestamp,
    random: Seeded,
    next_token: u32,
    /// `None`: what outside upstreams know.
    pub(super) records: Vec<(Option<RealmId>, Record)>,
    pub(super) silent: HashSet<Upstream>,
    pub(super) unreachable: HashSet<Upstream>,
    /// The driver has no room.
    pub(super) without_room: bool,
    /// Over UDP everything is too long.
    pub(super) truncates: bool,
    pub(super) knows_edns: bool,
    /// Answers in lower case.
    pub(super) folds_case: bool,
    pub(super) code: Option<ResponseCode>,
    /// Everything that was asked upstream.
    pub(super) asked: Vec<(Upstream, Transport, Message)>,
    /// Open exchanges.
    pub(super) open: Vec<(ExchangeId, Upstream, Transport, Message)>,
}

impl Scene {
    pub(super) fn new() -> Scene {
        Scene::with(limits())
    }

    pub(super) fn with(limits: ForwardLimits) -> Scene {
        Scene {
            world: world(),
            routes: routes(),
            forwarder: Forwarder::new(limits, 1),
            now: Timestamp::from_secs(1000),
            random: Seeded(7),
            next_token: 0,
            records: Vec::new(),
            silent: HashSet::new(),
            unreachable: HashSet::new(),
            without_room: false,
            truncates: false,
            knows_edns: true,
            folds_case: false,
            code: None,
            asked: Vec::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn knows(&mut self, owner: Option<RealmId>, at: &str, data: RData) -> &mut Self {
        self.records.push((owner, Record::from_rdata(name(at), 3600, data)));
        self
    }

    /// Puts a query and gives its token.
    pub(super) fn put(&mut self, realm: RealmId, host: &str, transport: Transport, query: &Message) -> u32 {
        let token = self.next_token;
        self.next_token += 1;
        let client = Client { realm, source: canonical4(realm, host), transport, token };
        let bytes = query.to_vec().unwrap();
        let tables = tables(&self.world, &self.routes);
        self.forwarder.handle_query(tables, client, &bytes, self.now, &mut self.random);
        self.collect();
        token
    }

    /// The answer to a query of realm's host .10 over TCP, however long it takes.
    pub(super) fn ask(&mut self, realm: RealmId, at: &str, record_type: RecordType) -> Message {
        self.put(realm, "192.168.1.10", Transport::Tcp, &query(at, record_type, true));
        self.answer()
    }

    pub(super) fn answer(&mut self) -> Message {
        for _ in 0..100 {
            if let Some((_, bytes)) = self.forwarder.poll_answer() {
                return Message::from_vec(&bytes).expect("an answer parses");
            }
            if !self.serve() {
                let (deadline, _) = self.forwarder.poll_timeout().expect("somebody is waited for");
                self.pass(deadline - self.now);
            }
        }
        panic!("no answer");
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let tables = tables(&self.world, &self.routes);
        self.forwarder.handle_timeout(tables, self.now, &mut self.random);
        self.collect();
    }

    pub(super) fn publish(&mut self, routes: Routes) {
        self.routes = routes;
        let tables = tables(&self.world, &self.routes);
        self.forwarder.handle_publish(tables, self.now, &mut self.random);
        self.collect();
    }

    /// Another mapping, and all else as it was.
    pub(super) fn publish_networks(&mut self, mapping: Mapping) {
        let changes = mapping.changes_since(&self.world.mapping).unwrap();
        self.world.mapping = mapping;
        let tables = tables(&self.world, &self.routes);
        self.forwarder.handle_networks(tables, &changes, self.now, &mut self.random);
        self.collect();
    }

    pub(super) fn reports(&self) -> Vec<RouteReport> {
        self.forwarder.routes(tables(&self.world, &self.routes), self.now)
    }

    pub(super) fn deliver(&mut self, exchange: ExchangeId, bytes: &[u8]) {
        let tables = tables(&self.world, &self.routes);
        self.forwarder.handle_answer(tables, exchange, bytes, self.now, &mut self.random);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(action) = self.forwarder.poll_action() {
            match action {
                Action::Ask { exchange, upstream, transport, bytes } => {
                    let message = Message::from_vec(&bytes).unwrap();
                    self.asked.push((upstream.clone(), transport, message.clone()));
                    self.open.push((exchange, upstream, transport, message));
                }
                Action::Close { exchange, .. } => self.open.retain(|(id, ..)| *id != exchange),
            }
        }
    }

    /// Lets the resolvers answer what they will. `false`: all of them are silent.
    pub(super) fn serve(&mut self) -> bool {
        let open = self.open.clone();
        let mut is_busy = false;
        for (exchange, upstream, transport, message) in open {
            if self.without_room {
                let tables = tables(&self.world, &self.routes);
                self.forwarder.handle_no_room(tables, exchange, self.now, &mut self.random);
                self.collect();
                is_busy = true;
            } else if self.unreachable.contains(&upstream) {
                let tables = tables(&self.world, &self.routes);
                self.forwarder.handle_failure(tables, exchange, self.now, &mut self.random);
                self.collect();
                is_busy = true;
            } else if !self.silent.contains(&upstream) {
                let answer = self.resolve(&upstream, transport, &message);
                self.deliver(exchange, &answer.to_vec().unwrap());
                is_busy = true;
            }
        }
        is_busy
    }

    /// As a resolver that follows its own aliases.
    pub(super) fn resolve(&self, upstream: &Upstream, transport: Transport, query: &Message) -> Message {
        let owner = match upstream {
            Upstream::Realm { realm, .. } => Some(*realm),
            Upstream::Outside { .. } => None,
        };
        let mut question = query.queries[0].clone();
        let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
        let (mut at, wanted) = (question.name().clone(), question.query_type());
        if self.folds_case {
            question.set_name(at.to_lowercase());
        }
        answer.add_query(question);
        if query.edns.is_some() && !self.knows_edns {
            answer.metadata.response_code = ResponseCode::FormErr;
            return answer;
        }
        if let Some(code) = self.code {
            answer.metadata.response_code = code;
            return answer;
        }
        answer.metadata.truncation = self.truncates && transport == Transport::Udp;
        let known = |at: &Name| {
            let at = at.clone();
            let here = self.records.iter().filter(move |(o, record)| *o == owner && record.name == at);
            here.map(|(_, record)| record.clone())
        };
        for _ in 0..20 {
            let set: Vec<Record> = known(&at).filter(|record| record.record_type() == wanted).collect();
            if !set.is_empty() {
                answer.add_answers(set);
                return answer;
            }
            let Some(record) = known(&at).find(|record| record.record_type() == RecordType::CNAME) else { break };
            let RData::CNAME(target) = &record.data else { unreachable!() };
            at = target.0.clone();
            answer.add_answer(record);
        }
        if known(&at).next().is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let soa = SOA::new(name("ns.local."), name("who.local."), 1, 1, 1, 1, 900);
        answer.add_authority(Record::from_rdata(name("local."), 3600, RData::SOA(soa)));
        answer
    }
}

fn tables<'a>(world: &'a World, routes: &'a Routes) -> Tables<'a> {
    Tables { zone: &world.zone, routes, mapping: &world.mapping, policy: &world.policy, unix_secs: 1_782_864_000 }
}
