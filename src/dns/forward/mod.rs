//! Names that somebody else answers: a realm's own domains, asked at its own resolvers through its tunnel, and domains
//! outside all realms.
//!
//! ```text
//!   handle_query --> limit --> zone? --yes---------------------------------> poll_answer
//!                                |no                                            ^
//!                                v                                              |
//!                              cache --hit--------------------------------------+
//!                                |miss                                          |
//!                                v                                              |
//!                              job --> exchange --> poll_action                 |
//!                               ^                       ....                    |
//!                               +--- alias ---- rewrite <-- handle_answer ------+
//! ```
//!
//! A *job* is one question of one realm; askers of the same realm who ask the same share it. A job makes one *exchange*
//! at a time: a message to one resolver and its answer. Every answer is turned into the asker's own terms
//! (`rewrite`) before it is remembered or sent. An alias that leaves the resolver's domain is looked up anew for
//! the same asker, as if it had asked: in the zone, at another realm, outside.
//!
//! Against forged answers (RFC 5452): random message ids, random source ports (the driver's), for outside upstreams
//! random case (0x20); after a few answers that do not fit, the question goes over TCP. Jobs are bounded in all, per
//! asking realm and per resolver; the askers of a job, its aliases and its exchanges are bounded too.

mod attempt;
mod finish;
mod health;
mod job;
mod place;
mod report;
mod routes;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use hickory_proto::op::{Metadata, ResponseCode};

use super::cache::{Cache, QuestionKey};
use super::dnssec::{SignatureCounts, SignatureLimits, Signatures};
use super::limit::{QueryLimit, Verdict};
use super::message::{self, Received, Reply, Request, Transport, ede};
use super::resolve::Asker;
use super::rewrite::Note;
use super::zone::Zone;
use crate::net::mapping::{Mapping, MappingChanges};
use crate::net::policy::Policy;
use crate::net::random::Random;
use crate::net::{Canonical, RealmId, Timestamp};
use health::Health;
use job::{Job, Waiter};
use place::Place;

pub use health::ResolverHealth;
pub use report::{ResolverReport, RouteReport};
pub use routes::{RouteSpec, Routes, Upstream};

/// Askers who wait for one answer.
pub const MAX_WAITERS: usize = 64;

/// Bounds; each is at least 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardLimits {
    /// Questions that wait for an upstream, in all ...
    pub pending: usize,
    /// ... of one realm ...
    pub pending_per_realm: usize,
    /// ... and at one resolver.
    pub pending_per_resolver: usize,
    /// Of each realm.
    pub cache_entries: usize,
    pub cache_bytes: usize,
    pub queries_per_sec_per_host: u32,
    pub queries_per_sec_per_realm: u32,
    pub signatures: SignatureLimits,
}

/// What one generation of the configuration says about names.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    pub zone: &'a Zone,
    pub routes: &'a Routes,
    pub mapping: &'a Mapping,
    pub policy: &'a Policy,
    /// The date, for signatures: seconds since 1970.
    pub unix_secs: u64,
}

impl<'a> Tables<'a> {
    fn asker(self, realm: RealmId) -> Asker<'a> {
        Asker { realm, mapping: self.mapping, policy: self.policy }
    }
}

/// Who asks; `token` is given back with the answer.
#[derive(Clone, Copy, Debug)]
pub struct Client<T> {
    pub realm: RealmId,
    pub source: Canonical,
    pub transport: Transport,
    pub token: T,
}

/// One message to one resolver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExchangeId(pub u64);

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send this, over UDP from a random port, and bring what comes back *from there* to [`Forwarder::handle_answer`].
    Ask { exchange: ExchangeId, upstream: Upstream, transport: Transport, bytes: Vec<u8> },
    /// Nobody waits for it any more.
    Close { exchange: ExchangeId, upstream: Upstream },
}

/// Since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    pub queries: u64,
    /// Answered by the internal zone, refusals included.
    pub by_zone: u64,
    pub by_cache: u64,
    /// Put to an upstream, or joined to a question that was.
    pub forwarded: u64,
    pub rate_limited: u64,
    /// Of these, answered with TC.
    pub slipped: u64,
    /// For lack of room.
    pub refused_busy: u64,
    /// Messages to upstreams.
    pub exchanges: u64,
    pub tcp_fallbacks: u64,
    pub timeouts: u64,
    /// Upstream messages that answer nothing we asked.
    pub mismatches: u64,
    /// Questions that no resolver answered.
    pub failures: u64,
    /// Answers of which something was left out.
    pub left_out: u64,
}

/// What is held now.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Gauges {
    pub pending: usize,
    pub cached: usize,
    pub penalised_resolvers: usize,
}

/// Pure: no clock, socket or randomness of its own. After any `handle_*` drain `poll_action` and `poll_answer`, then
/// read `poll_timeout`.
pub struct Forwarder<T> {
    limits: ForwardLimits,
    rate: QueryLimit,
    cache: Cache,
    health: Health,
    jobs: BTreeMap<u64, Job<T>>,
    by_question: HashMap<QuestionKey, u64>,
    per_realm: HashMap<RealmId, usize>,
    exchanges: HashMap<ExchangeId, u64>,
    deadlines: BTreeSet<(Timestamp, u64)>,
    next_job: u64,
    next_exchange: u64,
    actions: VecDeque<Action>,
    answers: VecDeque<(T, Vec<u8>)>,
    counters: Counters,
    signatures: Signatures,
}

impl<T: Copy + PartialEq> Forwarder<T> {
    /// `seed` is secret.
    pub fn new(limits: ForwardLimits, seed: u64) -> Self {
        Forwarder {
            rate: QueryLimit::new(seed, limits.queries_per_sec_per_host, limits.queries_per_sec_per_realm),
            cache: Cache::new(limits.cache_entries, limits.cache_bytes),
            limits,
            health: Health::default(),
            jobs: BTreeMap::new(),
            by_question: HashMap::new(),
            per_realm: HashMap::new(),
            exchanges: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_job: 0,
            next_exchange: 0,
            actions: VecDeque::new(),
            answers: VecDeque::new(),
            counters: Counters::default(),
            signatures: Signatures::new(limits.signatures),
        }
    }

    /// One query. Its answer comes out of [`Forwarder::poll_answer`], at once or later; an empty one says that none is
    /// due.
    pub fn handle_query(
        &mut self,
        tables: Tables<'_>,
        client: Client<T>,
        query: &[u8],
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        self.counters.queries += 1;
        let verdict = self.rate.take(client.realm, client.source, now);
        if verdict == Verdict::Drop && client.transport == Transport::Udp {
            self.counters.rate_limited += 1;
            return self.answers.push_back((client.token, Vec::new()));
        }
        let (metadata, request) = match message::receive(query) {
            Received::NoQuery => return self.answers.push_back((client.token, Vec::new())),
            Received::Unreadable(metadata, code) => {
                let mut out = Vec::new();
                message::emit_bare(metadata, code, &mut out);
                return self.answers.push_back((client.token, out));
            }
            Received::Query(metadata, request) => (metadata, request),
        };
        if verdict != Verdict::Pass {
            return self.limited(client, metadata, &request);
        }
        if request.is_of_unknown_edns() || request.question.query_class() != hickory_proto::rr::DNSClass::IN {
            let outcome = tables.zone.outcome(tables.asker(client.realm), &request);
            return self.by_zone(tables, client, metadata, &request, outcome);
        }
        let question = &request.question;
        match place::find(tables, client.realm, question.name(), question.query_type()) {
            Place::Zone(outcome) => self.by_zone(tables, client, metadata, &request, outcome),
            Place::Denied => {
                let outcome = super::resolve::Outcome::NameError { apex: question.name().clone(), denied: true };
                let mut reply = tables.zone.reply(client.realm, metadata, &request, outcome);
                // Whose name it is must not be told by an SOA of ours.
                reply.authorities.clear();
                reply.metadata.authoritative = false;
                self.counters.by_zone += 1;
                self.send(client, &request, reply);
            }
            Place::Minimal(data) => {
                let mut reply = Reply::new(metadata, &request);
                reply.metadata.recursion_available = true;
                let ttl = super::zone::ADDRESS_TTL_SECS;
                reply.answers.push(hickory_proto::rr::Record::from_rdata(question.name().clone(), ttl, data));
                self.send(client, &request, reply);
            }
            Place::Route { route, .. } if route.is_asked_at(client.source) => {
                self.fail(tables, client, metadata, &request, ResponseCode::Refused, Note::Circle);
            }
            Place::Route { .. } => self.forward(tables, client, metadata, request, now, random),
        }
    }

    /// What came back on an exchange: the driver has checked that it came from the one who was asked, to the port that
    /// it was asked from.
    pub fn handle_answer(
        &mut self,
        tables: Tables<'_>,
        exchange: ExchangeId,
        bytes: &[u8],
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        let Some(job) = self.exchanges.get(&exchange).copied() else { return };
        self.judge(tables, job, bytes, now, random);
    }

    /// The exchange came to nothing: refused, reset, unreachable.
    pub fn handle_failure(
        &mut self,
        tables: Tables<'_>,
        exchange: ExchangeId,
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        let Some(job) = self.exchanges.get(&exchange).copied() else { return };
        self.give_up_exchange(job, now);
        if let Some(job) = self.jobs.get_mut(&job) {
            job.is_unusable = true;
        }
        self.next_attempt(tables, job, now, random);
    }

    /// The driver has no room for it: nothing is known about the resolver.
    pub fn handle_no_room(
        &mut self,
        tables: Tables<'_>,
        exchange: ExchangeId,
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        let Some(job) = self.exchanges.get(&exchange).copied() else { return };
        self.end_exchange(job);
        if let Some(job) = self.jobs.get_mut(&job) {
            job.is_busy = true;
        }
        self.next_attempt(tables, job, now, random);
    }

    pub fn handle_timeout(&mut self, tables: Tables<'_>, now: Timestamp, random: &mut dyn Random) {
        while let Some((_, job)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.counters.timeouts += 1;
            self.give_up_exchange(job, now);
            self.next_attempt(tables, job, now, random);
        }
    }

    /// A new configuration: nothing that was remembered holds any more, and open questions start again.
    pub fn handle_publish(&mut self, tables: Tables<'_>, now: Timestamp, random: &mut dyn Random) {
        self.cache.clear();
        let jobs: Vec<u64> = self.jobs.keys().copied().collect();
        self.start_again(tables, &jobs, now, random);
        self.health.retain(|resolver| tables.routes.has_resolver(resolver));
    }

    /// Nothing is new but some networks: names, resolvers and grants are as they were. What has nothing to do with them is
    /// remembered on, and its questions go on.
    pub fn handle_networks(
        &mut self,
        tables: Tables<'_>,
        changes: &MappingChanges,
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        if changes.is_empty() {
            return;
        }
        self.cache.forget(changes);
        let is_concerned = |job: &Job<T>| changes.concern(job.key.realm) || job.walk.note.is_some();
        let jobs: Vec<u64> = self.jobs.iter().filter(|(_, job)| is_concerned(job)).map(|(id, _)| *id).collect();
        self.start_again(tables, &jobs, now, random);
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn poll_answer(&mut self) -> Option<(T, Vec<u8>)> {
        self.answers.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.deadlines.first().map(|(deadline, _)| (*deadline, "dns forwarding: no answer"))
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    #[cfg(test)]
    pub(super) fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    pub fn signature_counts(&self) -> SignatureCounts {
        self.signatures.counts()
    }

    pub fn gauges(&self, now: Timestamp) -> Gauges {
        Gauges { pending: self.jobs.len(), cached: self.cache.len(), penalised_resolvers: self.health.penalised(now) }
    }

    fn start_again(&mut self, tables: Tables<'_>, jobs: &[u64], now: Timestamp, random: &mut dyn Random) {
        for job in jobs {
            self.end_exchange(*job);
            if let Some(job) = self.jobs.get_mut(job) {
                job.start_again();
            }
            self.advance(tables, *job, now, random);
        }
    }

    fn by_zone(
        &mut self,
        tables: Tables<'_>,
        client: Client<T>,
        metadata: Metadata,
        request: &Request,
        outcome: super::resolve::Outcome,
    ) {
        self.counters.by_zone += 1;
        let mut reply = tables.zone.reply(client.realm, metadata, request, outcome);
        self.signatures.sign(tables.zone, tables.asker(client.realm), tables.unix_secs, request, &mut reply);
        self.send(client, request, reply);
    }

    /// From the cache, with others who wait for the same, or as a new job.
    fn forward(
        &mut self,
        tables: Tables<'_>,
        client: Client<T>,
        metadata: Metadata,
        request: Request,
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        let key = job::key_of(client.realm, &request);
        if let Some(answer) = self.cache.lookup(&key, now) {
            self.counters.by_cache += 1;
            let waiter = Waiter { client, metadata, request };
            self.reply(tables, &waiter, &answer);
            return;
        }
        if let Some(job) = self.by_question.get(&key).and_then(|id| self.jobs.get_mut(id)) {
            let is_repeated =
                |waiter: &Waiter<T>| waiter.client.token == client.token && waiter.metadata.id == metadata.id;
            if job.waiters.iter().any(is_repeated) {
                return; // sent again because we are slow: one answer is enough
            }
            if job.waiters.len() < MAX_WAITERS {
                self.counters.forwarded += 1;
                return job.waiters.push(Waiter { client, metadata, request });
            }
            return self.refuse_busy(tables, client, metadata, &request);
        }
        let of_realm = self.per_realm.get(&client.realm).copied().unwrap_or(0);
        if self.jobs.len() >= self.limits.pending || of_realm >= self.limits.pending_per_realm {
            return self.refuse_busy(tables, client, metadata, &request);
        }
        self.counters.forwarded += 1;
        let id = self.next_job;
        self.next_job += 1;
        self.by_question.insert(key.clone(), id);
        *self.per_realm.entry(client.realm).or_insert(0) += 1;
        self.jobs.insert(id, Job::new(key, Waiter { client, metadata, request }));
        self.advance(tables, id, now, random);
    }

    fn limited(&mut self, client: Client<T>, metadata: Metadata, request: &Request) {
        self.counters.rate_limited += 1;
        let mut reply = Reply::new(metadata, request);
        if client.transport == Transport::Udp {
            self.counters.slipped += 1;
            reply.truncate();
        } else {
            reply.metadata.response_code = ResponseCode::Refused;
            reply.explain(ede::OTHER, || "Too many queries in a second.".to_owned());
        }
        self.send(client, request, reply);
    }

    fn refuse_busy(&mut self, tables: Tables<'_>, client: Client<T>, metadata: Metadata, request: &Request) {
        self.counters.refused_busy += 1;
        self.fail(tables, client, metadata, request, ResponseCode::ServFail, Note::Busy);
    }

    fn fail(
        &mut self,
        tables: Tables<'_>,
        client: Client<T>,
        metadata: Metadata,
        request: &Request,
        code: ResponseCode,
        note: Note,
    ) {
        let mut reply = Reply::new(metadata, request);
        reply.metadata.response_code = code;
        reply.metadata.recursion_available = true;
        reply.explain(note.code(), || note.text(tables.zone, client.realm));
        self.send(client, request, reply);
    }

    fn send(&mut self, client: Client<T>, request: &Request, reply: Reply) {
        let mut out = Vec::new();
        reply.emit_to(request, client.transport, &mut out);
        self.answers.push_back((client.token, out));
    }
}

/// A worker owns it.
const _: fn() = || {
    fn can_move_to_a_worker<T: Send>() {}
    can_move_to_a_worker::<Forwarder<u64>>();
    can_move_to_a_worker::<Routes>();
};
