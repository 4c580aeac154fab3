//! Askers, resolvers that say what they like, and time: the forwarder between them.
//!
//! [`rewrite`] is one question and resolvers that answer it, each with what the input says of records; [`forward`] is a whole
//! script of [deeds](World::perform), of which some are answers that fit and some that do not.
//!
//! Every query has one answer at most, and exactly one in the end; what does not fit the question never becomes an answer;
//! no answer shows an address that its asker may not have; everything that is held is bounded, and let go.

use std::collections::HashMap;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use ixgate::dns::forward::{Action, Client, ExchangeId};
use ixgate::dns::{Forwarder, Transport, Upstream};
use ixgate::net::random::Seeded;
use ixgate::net::{RealmId, Timestamp};

use super::dns::{self, world};
use super::dns_query::LIMITS;
use super::script::Script;

const MAX_DEEDS: usize = 120;
/// Nobody waits so often.
const MAX_STEPS: usize = 500;
const HEADER_BYTES: usize = 12;

const NAMES: [&str; 12] = [
    "x.b.local.",
    "y.b.local.",
    "x.a.local.",
    "pacs.ix.example.",
    "pacs.b.ix.example.",
    "out.example.org.",
    "OUT.eXample.org.",
    "20.2.64.100.in-addr.arpa.",
    "20.1.168.192.in-addr.arpa.",
    "b.local.",
    "nowhere.example.",
    "a.very.long.name.with.many.labels.and.nothing.else.b.local.",
];
const TYPES: [u16; 12] = [1, 28, 12, 64, 65, 5, 16, 33, 6, 46, 255, 15];

/// One question, answered; how many records its asker got.
pub fn rewrite(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let (Some(who), Some(name), Some(record_type)) = (script.u8(), script.u8(), script.u8()) else { return 0 };
    let mut world = World::new();
    world.put(who, name, record_type);
    for _ in 0..MAX_STEPS {
        let Some(exchange) = world.open.keys().min().copied() else { break };
        let len = usize::from(script.u16().unwrap_or_default());
        let said = script.bytes(len);
        if said.len() < 8 {
            world.fail(exchange);
        } else {
            let reply = world.reply(exchange, said);
            world.answer(exchange, &reply);
        }
        world.check_bounds();
    }
    world.come_to_rest();
    world.records
}

/// How many records askers got.
pub fn forward(bytes: &[u8]) -> usize {
    let mut script = Script(bytes);
    let mut world = World::new();
    for _ in 0..MAX_DEEDS {
        if world.perform(&mut script).is_none() {
            break;
        }
        world.check_bounds();
    }
    world.come_to_rest();
    world.records
}

struct Asked {
    realm: RealmId,
    transport: Transport,
    query: Vec<u8>,
}

struct Open {
    upstream: Upstream,
    question: Vec<u8>,
}

struct World {
    world: &'static dns::World,
    forwarder: Forwarder<u32>,
    random: Seeded,
    now: Timestamp,
    next_token: u32,
    /// Queries that have no answer yet.
    asked: HashMap<u32, Asked>,
    open: HashMap<ExchangeId, Open>,
    /// Realms whose own resolvers were asked: what these say is their own business.
    told_by_itself: Vec<RealmId>,
    /// What was answered last does not fit what was asked.
    is_misfit: bool,
    records: usize,
}

impl World {
    fn new() -> World {
        World {
            world: world(),
            forwarder: Forwarder::new(LIMITS, 1),
            random: Seeded(7),
            now: Timestamp::from_secs(1000),
            next_token: 0,
            asked: HashMap::new(),
            open: HashMap::new(),
            told_by_itself: Vec::new(),
            is_misfit: false,
            records: 0,
        }
    }

    /// `None`: the script is over.
    fn perform(&mut self, script: &mut Script<'_>) -> Option<()> {
        let (deed, which) = (script.u8()?, script.u8()?);
        let exchange = self.exchange(which);
        match deed % 10 {
            0 | 1 => {
                let (name, record_type) = (script.u8()?, script.u8()?);
                self.put(which, name, record_type);
            }
            2 => {
                let len = usize::from(script.u8()?);
                let query = script.bytes(len).to_vec();
                self.send(which, query);
            }
            3 | 4 => {
                let len = usize::from(script.u16()?) % 1500;
                let said = script.bytes(len);
                if let Some(exchange) = exchange {
                    let reply = self.reply(exchange, said);
                    self.answer(exchange, &reply);
                }
            }
            5 => {
                // As it would be, but for some bits.
                let (at, mask, len) = (usize::from(script.u8()?), script.u8()?, usize::from(script.u8()?));
                let said = script.bytes(len);
                if let Some(exchange) = exchange {
                    let mut reply = self.reply(exchange, said);
                    let at = at % reply.len();
                    reply[at] ^= mask;
                    self.answer(exchange, &reply);
                }
            }
            6 => {
                let len = usize::from(script.u8()?);
                let reply = script.bytes(len);
                if let Some(exchange) = exchange {
                    self.answer(exchange, reply);
                }
            }
            7 => {
                if let Some(exchange) = exchange {
                    self.fail(exchange);
                }
            }
            8 => {
                self.now = self.now + Duration::from_millis(u64::from(which) * 20);
                self.forwarder.handle_timeout(self.world.tables(), self.now, &mut self.random);
                self.collect();
            }
            _ if which & 1 == 0 => {
                self.forwarder.handle_publish(self.world.tables(), self.now, &mut self.random);
                self.collect();
            }
            _ => {
                if let Some(exchange) = exchange {
                    self.forwarder.handle_no_room(self.world.tables(), exchange, self.now, &mut self.random);
                    self.collect();
                }
            }
        }
        Some(())
    }

    fn exchange(&self, which: u8) -> Option<ExchangeId> {
        let mut all: Vec<ExchangeId> = self.open.keys().copied().collect();
        all.sort();
        all.get(usize::from(which).checked_rem(all.len())?).copied()
    }

    /// A query of a realm's host: `who` is also how.
    fn put(&mut self, who: u8, name: u8, record_type: u8) {
        let name = Name::from_ascii(NAMES[usize::from(name) % NAMES.len()]).expect("a name");
        let record_type = RecordType::from(TYPES[usize::from(record_type) % TYPES.len()]);
        let mut message = Message::new(0x4242 ^ u16::from(who), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name, record_type));
        if who & 16 == 0 {
            let mut edns = Edns::new();
            edns.set_max_payload(if who & 64 == 0 { 4096 } else { 700 }).set_dnssec_ok(who & 32 != 0);
            message.set_edns(edns);
        }
        self.send(who, message.to_vec().expect("a query"));
    }

    fn send(&mut self, who: u8, query: Vec<u8>) {
        let realm = self.world.realm(who & 7);
        let transport = if who & 8 == 0 { Transport::Udp } else { Transport::Tcp };
        let located = self.world.appliance.snapshot.mapping.locate_native(realm, host(who));
        let source = located.unwrap_or(self.world.appliance.snapshot.service.gateway).canonical;
        let token = self.next_token;
        self.next_token += 1;
        self.asked.insert(token, Asked { realm, transport, query: query.clone() });
        let client = Client { realm, source, transport, token };
        self.forwarder.handle_query(self.world.tables(), client, &query, self.now, &mut self.random);
        self.collect();
    }

    /// What a resolver says: id and question are those of the exchange; flags, counts and records are the input's.
    fn reply(&self, exchange: ExchangeId, said: &[u8]) -> Vec<u8> {
        let question = &self.open[&exchange].question;
        let end = HEADER_BYTES + question_bytes(&question[HEADER_BYTES..]);
        let mut reply = question[..end].to_vec();
        let mut script = Script(said);
        let mut next = || script.u8().unwrap_or_default();
        // QR and opcode are right; AA, TC and the code are not ours to say.
        (reply[2], reply[3]) = (0x80 | next() & 0x07, next() & 0x8f);
        for count in [7, 9, 11] {
            reply[count - 1] = 0;
            reply[count] = next();
        }
        reply.extend(script.0);
        reply
    }

    fn answer(&mut self, exchange: ExchangeId, reply: &[u8]) {
        let open = &self.open[&exchange];
        self.is_misfit = !fits(&open.question, reply);
        if let Upstream::Realm { realm, .. } = open.upstream {
            self.told_by_itself.push(realm);
        }
        self.forwarder.handle_answer(self.world.tables(), exchange, reply, self.now, &mut self.random);
        self.collect();
        self.is_misfit = false;
    }

    fn fail(&mut self, exchange: ExchangeId) {
        self.forwarder.handle_failure(self.world.tables(), exchange, self.now, &mut self.random);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(action) = self.forwarder.poll_action() {
            match action {
                Action::Ask { exchange, upstream, bytes, .. } => {
                    let message = Message::from_vec(&bytes).expect("our own question");
                    assert!(message.queries.len() == 1 && message.answers.is_empty() && bytes.len() < 512);
                    let before = self.open.insert(exchange, Open { upstream, question: bytes });
                    assert!(before.is_none(), "an exchange is opened twice");
                }
                Action::Close { exchange, upstream } => {
                    let open = self.open.remove(&exchange).expect("it is open");
                    assert_eq!(open.upstream, upstream);
                }
            }
        }
        while let Some((token, answer)) = self.forwarder.poll_answer() {
            let asked = self.asked.remove(&token).expect("one answer to one query");
            if !answer.is_empty() {
                self.check_answer(&asked, &answer);
            }
        }
    }

    fn check_answer(&mut self, asked: &Asked, answer: &[u8]) {
        let message = self.world.check_answer(asked.transport, &asked.query, answer);
        self.records += message.answers.len();
        if self.is_misfit {
            let is_failure = message.metadata.response_code == ResponseCode::ServFail || message.metadata.truncation;
            assert!(is_failure, "made of an answer that does not fit: {message}");
        }
        if !self.told_by_itself.contains(&asked.realm) {
            self.world.check_addresses(asked.realm, &message);
            self.world.check_chain(&message);
        }
    }

    fn check_bounds(&self) {
        let gauges = self.forwarder.gauges(self.now);
        assert!(gauges.pending <= LIMITS.pending && gauges.cached <= LIMITS.cache_entries * dns::REALMS.len());
        assert!(self.open.len() <= gauges.pending, "one exchange for each job");
        let mut at: HashMap<&Upstream, usize> = HashMap::new();
        self.open.values().for_each(|open| *at.entry(&open.upstream).or_default() += 1);
        assert!(at.values().all(|count| *count <= LIMITS.pending_per_resolver));
        let deadline = self.forwarder.poll_timeout().map(|(at, _)| at);
        assert_eq!(deadline.is_some(), !self.open.is_empty());
    }

    /// Resolvers are silent from now on, and everybody is answered.
    fn come_to_rest(&mut self) {
        for _ in 0..MAX_STEPS {
            let Some((deadline, _)) = self.forwarder.poll_timeout() else { break };
            assert!(deadline <= self.now + Duration::from_secs(10));
            self.now = self.now.max(deadline);
            self.forwarder.handle_timeout(self.world.tables(), self.now, &mut self.random);
            self.collect();
        }
        assert!(self.open.is_empty(), "somebody is asked for ever");
        assert_eq!(self.forwarder.gauges(self.now).pending, 0);
        assert!(self.asked.is_empty(), "a query without an answer");
    }
}

/// Whether it can be the answer to this question, by RFC 5452 section 9.1 (id and question), as far as a resolver's errors
/// without a question go.
fn fits(question: &[u8], reply: &[u8]) -> bool {
    let (Ok(asked), Ok(said)) = (Message::from_vec(question), Message::from_vec(reply)) else { return false };
    let is_answer = said.metadata.message_type == MessageType::Response && said.metadata.op_code == OpCode::Query;
    let has_question = match &said.queries[..] {
        [] => true, // only errors, which are no answers of use
        [one] => one == &asked.queries[0],
        _ => false,
    };
    is_answer && has_question && said.metadata.id == asked.metadata.id
}

/// Of an uncompressed name, type and class.
fn question_bytes(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at] != 0 {
        at += 1 + usize::from(bytes[at]);
    }
    at + 5
}

fn host(who: u8) -> std::net::IpAddr {
    [192, 168, 1, if who & 128 == 0 { 10 } else { 53 }].into()
}
