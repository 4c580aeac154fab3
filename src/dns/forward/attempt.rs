//! Asking: which resolver next, what the message looks like, and whether what comes back is its answer.

use std::collections::VecDeque;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name};

use super::job::{At, Attempt, Exchange};
use super::routes::{Route, Upstream};
use super::{Action, ExchangeId, Forwarder, Tables};
use crate::dns::message::{MAX_UDP_PAYLOAD_BYTES, Transport};
use crate::dns::rewrite::Note;
use crate::net::random::Random;
use crate::net::{RealmId, Timestamp};

/// Every resolver is given a second; then, when all have been asked, two.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
/// A handshake more.
const TCP_PATIENCE: Duration = Duration::from_secs(3);
/// Messages for one name.
const MAX_ATTEMPTS: usize = 6;
/// Answers that do not fit before somebody is assumed to be guessing, and the question goes over TCP.
const MAX_MISMATCHES: u32 = 3;

/// What came back on an exchange.
enum Verdict {
    /// Not an answer to what was asked.
    Mismatch,
    /// An answer whose upper and lower case is not ours: from a server that does not keep it, or from a guesser.
    OtherCase,
    Truncated,
    /// The server does not know EDNS (RFC 6891 section 7).
    NoEdns,
    Unusable,
    Answer(Box<Message>),
}

impl<T: Copy + PartialEq> Forwarder<T> {
    /// The resolvers of a route, in the order in which they will be tried.
    pub(super) fn attempts(&self, route: &Route, now: Timestamp) -> VecDeque<Attempt> {
        let ordered = self.health.in_order(&route.resolvers, now);
        let attempt = |upstream: &Upstream, patience: Duration| {
            // TLS has no other transport.
            let is_tls = matches!(upstream, Upstream::Outside { tls: Some(_), .. });
            let (transport, patience) =
                if is_tls { (Transport::Tcp, patience.max(TCP_PATIENCE)) } else { (Transport::Udp, patience) };
            Attempt { upstream: upstream.clone(), patience, transport, has_edns: true }
        };
        let (penalised, healthy): (Vec<&Upstream>, Vec<&Upstream>) =
            ordered.into_iter().partition(|upstream| self.health.is_penalised(upstream, now));
        let rounds = PATIENCE.into_iter().flat_map(|patience| healthy.iter().map(move |r| (*r, patience)));
        let last = penalised.iter().map(|resolver| (*resolver, PATIENCE[0]));
        rounds.chain(last).take(MAX_ATTEMPTS).map(|(resolver, patience)| attempt(resolver, patience)).collect()
    }

    /// Asks the next resolver, or ends the job.
    pub(super) fn next_attempt(&mut self, tables: Tables<'_>, id: u64, now: Timestamp, random: &mut dyn Random) {
        loop {
            let Some(job) = self.jobs.get_mut(&id) else { return };
            let next = job.walk.at.as_mut().and_then(|at| at.attempts.pop_front());
            let Some(attempt) = next.filter(|_| job.exchanges_left > 0) else {
                let note = match (job.is_unusable, job.is_busy) {
                    (true, _) => Note::Unusable,
                    (false, true) => Note::Busy,
                    (false, false) => Note::NoAnswer,
                };
                return self.fail_job(tables, id, note, now);
            };
            if self.health.waiting(&attempt.upstream) >= self.limits.pending_per_resolver {
                job.is_busy = true;
                continue;
            }
            return self.ask(id, attempt, now, random);
        }
    }

    fn ask(&mut self, id: u64, attempt: Attempt, now: Timestamp, random: &mut dyn Random) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (wire_type, dnssec_ok) = (job.walk.record_type, job.key.dnssec_ok);
        let name = job.walk.at.as_ref().and_then(|at| at.native.clone()).unwrap_or_else(|| job.walk.name.clone());
        let Some(at) = job.walk.at.as_mut() else { return };
        let is_outside = at.route.owner.is_none();
        let asked_name = if is_outside { with_random_case(&name, random) } else { name };
        let question = Query::query(asked_name, wire_type);
        let message_id = random.u64() as u16;
        let exchange = ExchangeId(self.next_exchange);
        self.next_exchange += 1;

        let mut message = Message::new(message_id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(question.clone());
        if attempt.has_edns {
            let mut edns = Edns::new();
            // A realm's addresses are rewritten, so its signatures would be of no use.
            edns.set_max_payload(MAX_UDP_PAYLOAD_BYTES).set_version(0).set_dnssec_ok(dnssec_ok && is_outside);
            message.set_edns(edns);
        }
        // A name that was read is short enough to be written; without a message the deadline ends the attempt.
        let bytes = message.to_vec().unwrap_or_default();
        let deadline = now + attempt.patience;
        self.health.begin(&attempt.upstream);
        let (upstream, transport) = (attempt.upstream.clone(), attempt.transport);
        at.exchange = Some(Exchange { id: exchange, attempt, message_id, question, deadline, mismatches: 0 });
        job.exchanges_left -= 1;
        self.exchanges.insert(exchange, id);
        self.deadlines.insert((deadline, id));
        self.counters.exchanges += 1;
        self.actions.push_back(Action::Ask { exchange, upstream, transport, bytes });
    }

    /// Takes back what the job has under way.
    pub(super) fn end_exchange(&mut self, id: u64) -> Option<Exchange> {
        let exchange = self.jobs.get_mut(&id)?.walk.at.as_mut()?.exchange.take()?;
        self.exchanges.remove(&exchange.id);
        self.deadlines.remove(&(exchange.deadline, id));
        self.health.end(&exchange.attempt.upstream);
        let upstream = exchange.attempt.upstream.clone();
        self.actions.push_back(Action::Close { exchange: exchange.id, upstream });
        Some(exchange)
    }

    /// The resolver did not answer, or could not be reached.
    pub(super) fn give_up_exchange(&mut self, id: u64, now: Timestamp) {
        if let Some(exchange) = self.end_exchange(id) {
            self.health.failed(&exchange.attempt.upstream, now);
        }
    }

    /// What an answer is worth.
    pub(super) fn judge(&mut self, tables: Tables<'_>, id: u64, bytes: &[u8], now: Timestamp, random: &mut dyn Random) {
        let Some(exchange) = self.jobs.get_mut(&id).and_then(|job| job.exchange()) else { return };
        let verdict = exchange.judge(bytes);
        if let Verdict::Mismatch = verdict {
            self.counters.mismatches += 1;
            exchange.mismatches += 1;
            let is_tcp = exchange.attempt.transport == Transport::Tcp;
            if !is_tcp && exchange.mismatches < MAX_MISMATCHES {
                return; // the real one may still come
            }
        }
        let Some(exchange) = self.end_exchange(id) else { return };
        let Attempt { upstream, transport, .. } = &exchange.attempt;
        let over_tcp = Attempt { transport: Transport::Tcp, patience: TCP_PATIENCE, ..exchange.attempt.clone() };
        match verdict {
            Verdict::Answer(message) => {
                self.health.answered(upstream, now);
                self.take_answer(tables, id, &message, now, random);
            }
            Verdict::Truncated | Verdict::OtherCase | Verdict::Mismatch if *transport == Transport::Udp => {
                self.counters.tcp_fallbacks += 1;
                self.ask_again(tables, id, over_tcp, now, random);
            }
            Verdict::NoEdns => {
                let plain = Attempt { has_edns: false, ..exchange.attempt.clone() };
                self.ask_again(tables, id, plain, now, random);
            }
            _ => {
                self.health.was_unusable(upstream); // the next may know better
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.is_unusable = true;
                }
                self.next_attempt(tables, id, now, random);
            }
        }
    }

    fn ask_again(&mut self, tables: Tables<'_>, id: u64, attempt: Attempt, now: Timestamp, random: &mut dyn Random) {
        if let Some(At { attempts, .. }) = self.jobs.get_mut(&id).and_then(|job| job.walk.at.as_mut()) {
            attempts.push_front(attempt);
        }
        self.next_attempt(tables, id, now, random);
    }

    pub(super) fn forget_realm(&mut self, realm: RealmId) {
        if let Some(count) = self.per_realm.get_mut(&realm) {
            *count -= 1;
            if *count == 0 {
                self.per_realm.remove(&realm);
            }
        }
    }
}

impl Exchange {
    /// RFC 5452 section 9.1: id and question; address and port are the driver's to check.
    fn judge(&self, bytes: &[u8]) -> Verdict {
        let Ok(message) = Message::from_vec(bytes) else { return Verdict::Mismatch };
        let header = &message.metadata;
        let is_response = header.message_type == MessageType::Response && header.op_code == OpCode::Query;
        if !is_response || header.id != self.message_id {
            return Verdict::Mismatch;
        }
        // RFC 1035 section 4.1.1 and habit: an error may come without the question.
        let refuses = matches!(header.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
        match &message.queries[..] {
            [question] if question.query_class() == DNSClass::IN => {
                let asked = &self.question;
                if question.query_type() != asked.query_type() || question.name() != asked.name() {
                    return Verdict::Mismatch;
                }
                let is_udp = self.attempt.transport == Transport::Udp;
                if is_udp && !question.name().eq_case(asked.name()) {
                    return Verdict::OtherCase;
                }
            }
            [] if refuses => {}
            _ => return Verdict::Mismatch,
        }
        if refuses && self.attempt.has_edns {
            return Verdict::NoEdns;
        }
        match header.response_code {
            _ if header.truncation && self.attempt.transport == Transport::Udp => Verdict::Truncated,
            ResponseCode::NoError | ResponseCode::NXDomain if !header.truncation => Verdict::Answer(Box::new(message)),
            _ => Verdict::Unusable,
        }
    }
}

/// 0x20: a guesser has to guess the case of every letter too.
fn with_random_case(name: &Name, random: &mut dyn Random) -> Name {
    let mut flip = [0; 32];
    random.fill(&mut flip);
    let mut at = 0;
    let labels: Vec<Vec<u8>> = name
        .iter()
        .map(|label| {
            let turn = |byte: &u8| {
                let is_flipped = flip[at / 8 % flip.len()] >> (at % 8) & 1 == 1;
                at += 1;
                if is_flipped && byte.is_ascii_alphabetic() { byte ^ 0x20 } else { *byte }
            };
            label.iter().map(turn).collect()
        })
        .collect();
    let mixed = Name::from_labels(labels.iter().map(Vec::as_slice));
    mixed.unwrap_or_else(|_| name.clone())
}
