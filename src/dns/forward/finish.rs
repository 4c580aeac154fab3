//! From upstream answers to the asker's: following aliases, making addresses of the other IP version, ending.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::job::{At, Waiter};
use super::place::{self, Place};
use super::routes::Route;
use super::{Forwarder, Tables};
use crate::dns::cache::{Answer, QuestionKey};
use crate::dns::key::NameKey;
use crate::dns::message::Reply;
use crate::dns::resolve::Outcome;
use crate::dns::rewrite::{Asked, EMPTY_TTL_SECS, End, Lens, MAX_CHAIN, Note, Rewritten, rewrite};
use crate::dns::zone::ADDRESS_TTL_SECS;
use crate::net::mapping::Mapping;
use crate::net::random::Random;
use crate::net::{RealmId, Timestamp};

/// RFC 9520 section 3.2: failures are remembered too, for a moment.
const FAILURE_TTL_SECS: u32 = 5;
/// Of the records on the way to an answer, all upstreams together.
const MAX_FOUND: usize = 512;

impl<T: Copy + PartialEq> Forwarder<T> {
    /// Looks the walk's current name up: here, in the cache, or upstream.
    pub(super) fn advance(&mut self, tables: Tables<'_>, id: u64, now: Timestamp, random: &mut dyn Random) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let realm = job.key.realm;
        if job.walk.hops > 0 {
            let name = NameKey::new(&job.walk.name).as_bytes().into();
            let key = QuestionKey { name, ..job.key.clone() };
            if let Some(answer) = self.cache.lookup(&key, now) {
                return self.finish(tables, id, answer, now);
            }
        }
        let answer = match place::find(tables, realm, &job.walk.name, job.wanted) {
            Place::Route { route, native } => {
                let attempts = self.attempts(&route, now);
                let Some(job) = self.jobs.get_mut(&id) else { return };
                job.walk.at = Some(At { route, native, attempts, exchange: None });
                return self.next_attempt(tables, id, now, random);
            }
            Place::Denied => Answer::bare(ResponseCode::NXDomain, Some(Note::NotGranted), EMPTY_TTL_SECS),
            Place::Minimal(data) => in_zone(vec![data], &job.walk.name),
            Place::Zone(Outcome::Answer(data)) => in_zone(data, &job.walk.name),
            Place::Zone(Outcome::NoData { apex }) => {
                let mut answer = Answer::bare(ResponseCode::NoError, None, EMPTY_TTL_SECS);
                answer.authorities.push(tables.zone.negative_soa(apex));
                answer
            }
            Place::Zone(Outcome::NameError { apex, denied }) => {
                let note = denied.then_some(Note::NotGranted);
                let mut answer = Answer::bare(ResponseCode::NXDomain, note, EMPTY_TTL_SECS);
                answer.authorities.push(tables.zone.negative_soa(apex));
                answer
            }
            Place::Zone(Outcome::Refused) if job.walk.hops == 0 => Answer::bare(ResponseCode::Refused, None, 0),
            Place::Zone(Outcome::Refused) => Answer::bare(ResponseCode::NoError, Some(Note::NoRoute), EMPTY_TTL_SECS),
        };
        self.finish(tables, id, answer, now);
    }

    /// A good answer of the resolver that was asked.
    pub(super) fn take_answer(
        &mut self,
        tables: Tables<'_>,
        id: u64,
        message: &Message,
        now: Timestamp,
        random: &mut dyn Random,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(At { route, native, .. }) = &job.walk.at else { return };
        let realm = job.key.realm;
        let asked = Asked {
            name: native.clone().unwrap_or_else(|| job.walk.name.clone()),
            record_type: job.walk.record_type,
            wanted: job.wanted,
            dnssec_ok: job.key.dnssec_ok,
        };
        let lens = Lens { asker: tables.asker(realm), owner: route.owner, zone: tables.zone };
        // Under its native name, an alias's reverse name is wholly its owner's business.
        let is_native = native.is_some();
        let mut rewritten = rewrite(message, &asked, lens, |name| is_native || stays(tables, realm, route, name));
        if is_native {
            put_back(&mut rewritten, &job.walk.name, tables);
        }
        if self.asks_other_version(tables, id, &rewritten, now) {
            return self.next_attempt(tables, id, now, random);
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(first) = job.walk.own_version.take() {
            // What cannot be made of the other version either is answered as it was said of its own.
            let leads_on =
                matches!(rewritten.end, End::Alias(_) | End::Loop) || has_any(&rewritten.answers, job.wanted);
            let (kept, other) = if leads_on { (rewritten, first) } else { (first, rewritten) };
            job.walk.take_note(other.note);
            rewritten = kept;
        }
        job.walk.take_note(rewritten.note);
        let mut answer = Answer::bare(ResponseCode::NoError, None, EMPTY_TTL_SECS);
        answer.additionals = rewritten.additionals;
        match rewritten.end {
            End::Loop => return self.fail_job(tables, id, Note::Loop, now),
            End::Alias(target) => {
                job.walk.found.extend(rewritten.answers);
                job.walk.hops += 1;
                if job.walk.hops >= MAX_CHAIN || job.walk.found.len() > MAX_FOUND {
                    return self.fail_job(tables, id, Note::Loop, now);
                }
                (job.walk.name, job.walk.record_type, job.walk.at) = (target, job.wanted, None);
                return self.advance(tables, id, now, random);
            }
            End::Negative(code) => (answer.code, answer.authorities) = (code, rewritten.authorities),
            End::Answered => {}
        }
        answer.answers = rewritten.answers;
        self.finish(tables, id, answer, now);
    }

    /// A name that has nothing to show in the wanted IP version may have a host of the other that the asker is to reach by
    /// a translated address: the resolver is asked for those too. `false`: what has been said is all.
    fn asks_other_version(&mut self, tables: Tables<'_>, id: u64, said: &Rewritten, now: Timestamp) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        let Some(At { route, .. }) = &job.walk.at else { return false };
        let is_of_another_realm = route.owner.is_some_and(|owner| owner != job.key.realm);
        let other = other_version(tables.mapping, job.key.realm, job.wanted)
            .filter(|_| is_of_another_realm && job.walk.record_type == job.wanted && is_without(said, job.wanted));
        let Some(record_type) = other else { return false };
        let name = NameKey::new(&job.walk.name).as_bytes().into();
        let key = QuestionKey { name, record_type, ..job.key.clone() };
        if self.cache.lookup(&key, now).is_some_and(|known| has_any(&known.answers, record_type)) {
            return false; // the asker has just been shown addresses of the host's own version, and has no need of others
        }
        let route = route.clone();
        job.walk.own_version = Some(said.clone());
        job.walk.record_type = record_type;
        let attempts = self.attempts(&route, now);
        if let Some(at) = self.jobs.get_mut(&id).and_then(|job| job.walk.at.as_mut()) {
            at.attempts = attempts;
        }
        true
    }

    pub(super) fn fail_job(&mut self, tables: Tables<'_>, id: u64, note: Note, now: Timestamp) {
        self.counters.failures += 1;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.walk.found.clear();
            job.walk.note = None;
        }
        self.finish(tables, id, Answer::bare(ResponseCode::ServFail, Some(note), FAILURE_TTL_SECS), now);
    }

    /// `last` is what the walk's current name led to; what was found on the way comes before it.
    fn finish(&mut self, tables: Tables<'_>, id: u64, mut last: Answer, now: Timestamp) {
        self.end_exchange(id);
        let Some(mut job) = self.jobs.remove(&id) else { return };
        self.by_question.remove(&job.key);
        self.forget_realm(job.key.realm);
        job.walk.take_note(last.note);
        last.note = job.walk.note;
        last.answers.splice(0..0, job.walk.found);
        if last.note.is_some() {
            self.counters.left_out += 1;
        }
        let mut bytes = 0;
        for waiter in &job.waiters {
            bytes = bytes.max(self.reply(tables, waiter, &last));
        }
        let is_worth_it = matches!(last.code, ResponseCode::NoError | ResponseCode::NXDomain | ResponseCode::ServFail);
        if is_worth_it && last.note != Some(Note::Busy) {
            let records = last.answers.len() + last.authorities.len() + last.additionals.len();
            self.cache.insert(job.key, last, bytes + records * size_of::<Record>(), now);
        }
    }

    /// The length of the answer.
    pub(super) fn reply(&mut self, tables: Tables<'_>, waiter: &Waiter<T>, answer: &Answer) -> usize {
        let mut reply = Reply::new(waiter.metadata, &waiter.request);
        reply.metadata.response_code = answer.code;
        reply.metadata.recursion_available = true;
        let as_asked = waiter.request.question.name();
        reply.answers = answer.answers.clone();
        for record in reply.answers.iter_mut().filter(|record| record.name == *as_asked) {
            record.name = as_asked.clone(); // in the asker's upper and lower case, so that it compresses
        }
        reply.authorities = answer.authorities.clone();
        reply.additionals = answer.additionals.clone();
        if let Some(note) = answer.note {
            reply.explain(note.code(), || note.text(tables.zone, waiter.client.realm));
        }
        let asker = tables.asker(waiter.client.realm);
        self.signatures.sign(tables.zone, asker, tables.unix_secs, &waiter.request, &mut reply);
        let mut out = Vec::new();
        reply.emit_to(&waiter.request, waiter.client.transport, &mut out);
        let len = out.len();
        self.answers.push_back((waiter.client.token, out));
        len
    }
}

fn in_zone(data: Vec<RData>, name: &Name) -> Answer {
    let mut answer = Answer::bare(ResponseCode::NoError, None, EMPTY_TTL_SECS);
    answer.answers = data.into_iter().map(|d| Record::from_rdata(name.clone(), ADDRESS_TTL_SECS, d)).collect();
    answer
}

/// Whether what a route's resolver says about `name` counts. Names that nobody else is asked for count too: their
/// addresses mean what they mean to that resolver.
fn stays(tables: Tables<'_>, realm: RealmId, route: &Route, name: &Name) -> bool {
    let key = NameKey::new(name);
    if tables.zone.contains(&key) {
        return false;
    }
    tables.routes.find(realm, &key).is_none_or(|found| **found == *route)
}

/// Which addresses those of the wanted version may be made from. IPv4 ones are for askers that do not speak IPv6: all
/// others reach an IPv6 host as it is. IPv6 ones also for those that speak both: an IPv4 host may have no alias.
fn other_version(mapping: &Mapping, asker: RealmId, wanted: RecordType) -> Option<RecordType> {
    match (wanted, mapping.speaks_ipv4(asker), mapping.speaks_ipv6(asker)) {
        (RecordType::AAAA, _, true) => Some(RecordType::A),
        (RecordType::A, true, false) => Some(RecordType::AAAA),
        _ => None,
    }
}

/// Whether the name exists and leads to no address of the wanted version.
fn is_without(said: &Rewritten, wanted: RecordType) -> bool {
    matches!(said.end, End::Answered | End::Negative(ResponseCode::NoError)) && !has_any(&said.answers, wanted)
}

fn has_any(records: &[Record], record_type: RecordType) -> bool {
    records.iter().any(|record| record.record_type() == record_type)
}

/// The answer for a native reverse name, under the name that the asker asked for. Nothing else of the owner's reverse
/// zone is shown: its names are addresses.
fn put_back(rewritten: &mut Rewritten, name: &Name, tables: Tables<'_>) {
    rewritten.answers.retain(|record| record.record_type() == RecordType::PTR);
    for record in &mut rewritten.answers {
        record.name = name.clone();
        record.ttl = record.ttl.min(ADDRESS_TTL_SECS);
    }
    rewritten.authorities.clear();
    rewritten.additionals.clear();
    if let End::Alias(_) = rewritten.end {
        // An alias (RFC 2317) whose target the owner's resolver did not follow.
        rewritten.end = End::Negative(ResponseCode::NoError);
    }
    if let (End::Negative(_), Some(prefix)) = (&rewritten.end, crate::dns::reverse::parse(name)) {
        rewritten.authorities.push(tables.zone.negative_soa(crate::dns::reverse::apex(name, prefix)));
    }
}
