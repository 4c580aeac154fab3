//! names: what hosts ask the IX, and whom the IX asks in turn.
//!
//! [`Host`] brings queries and sends questions into realms; [`Forwarder`] decides what is answered and who is asked; what
//! goes outside all realms waits here for whoever drives the engine.

use std::collections::VecDeque;
use std::time::Duration;

use crate::dns::forward::{Action, Client, Counters, ExchangeId, Gauges, RouteReport};
use crate::dns::{self, ForwardLimits, Forwarder, SignatureCounts, Tables, Upstream};
use crate::host::{self, ClientId, Host, QueryId, Question};
use crate::net::random::Random;
use crate::net::{RealmId, Timestamp};

use super::snapshot::Snapshot;

/// Actions that wait for the outside. Questions beyond it fail at once, and closings are as many as questions.
const MAX_OUTSIDE: usize = 4096;

pub(super) struct Names {
    forwarder: Forwarder<QueryId>,
    random: Box<dyn Random + Send>,
    outside: VecDeque<Action>,
    unix_time_at_zero: Duration,
}

impl Names {
    pub fn new(limits: ForwardLimits, random: Box<dyn Random + Send>, seed: u64, unix_time_at_zero: Duration) -> Self {
        Names { forwarder: Forwarder::new(limits, seed), random, outside: VecDeque::new(), unix_time_at_zero }
    }

    /// Of one file with other networks, only what these are about is forgotten.
    pub fn handle_publish(&mut self, before: &Snapshot, snapshot: &Snapshot, now: Timestamp) {
        let tables = self.tables(snapshot, now);
        let is_same_file = before.file_read_in == snapshot.file_read_in;
        match is_same_file.then(|| snapshot.mapping.changes_since(&before.mapping)).flatten() {
            Some(changes) => self.forwarder.handle_networks(tables, &changes, now, &mut *self.random),
            None => self.forwarder.handle_publish(tables, now, &mut *self.random),
        }
    }

    pub fn handle_timeout(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let tables = self.tables(snapshot, now);
        self.forwarder.handle_timeout(tables, now, &mut *self.random);
    }

    /// What came of a question. `None`: it failed.
    pub fn handle_reply(&mut self, exchange: ExchangeId, bytes: Option<&[u8]>, snapshot: &Snapshot, now: Timestamp) {
        let tables = self.tables(snapshot, now);
        match bytes {
            Some(bytes) => self.forwarder.handle_answer(tables, exchange, bytes, now, &mut *self.random),
            None => self.forwarder.handle_failure(tables, exchange, now, &mut *self.random),
        }
    }

    /// What is to be asked outside all realms, and what is not to be waited for any more.
    pub fn poll_outside(&mut self) -> Option<Action> {
        self.outside.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.forwarder.poll_timeout()
    }

    pub fn counters(&self) -> Counters {
        self.forwarder.counters()
    }

    pub fn signature_counts(&self) -> SignatureCounts {
        self.forwarder.signature_counts()
    }

    pub fn gauges(&self, now: Timestamp) -> Gauges {
        self.forwarder.gauges(now)
    }

    /// Who answers which names of others, and how well.
    pub fn routes(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<RouteReport> {
        self.forwarder.routes(self.tables(snapshot, now), now)
    }

    /// Answers that are remembered for a realm's hosts.
    pub fn cached_of(&self, realm: RealmId) -> usize {
        self.forwarder.cached_of(realm)
    }

    /// Until neither the stack nor the forwarder has anything for the other.
    pub fn drive(&mut self, host: &mut Host, snapshot: &Snapshot, now: Timestamp) {
        loop {
            let mut is_idle = true;
            while let Some(query) = host.poll_query() {
                is_idle = false;
                self.handle_query(query, snapshot, now);
            }
            while let Some(reply) = host.poll_reply() {
                is_idle = false;
                self.handle_reply(ExchangeId(reply.id.0), reply.bytes.as_deref(), snapshot, now);
            }
            while let Some(action) = self.forwarder.poll_action() {
                is_idle = false;
                self.act(action, host, snapshot, now);
            }
            while let Some((id, answer)) = self.forwarder.poll_answer() {
                is_idle = false;
                host.respond(id, &answer, now);
            }
            if is_idle {
                return;
            }
        }
    }

    fn handle_query(&mut self, query: host::Query, snapshot: &Snapshot, now: Timestamp) {
        let transport = match query.transport {
            host::Transport::Udp => dns::Transport::Udp,
            host::Transport::Tcp => dns::Transport::Tcp,
        };
        let client = Client { realm: query.realm, source: query.source, transport, token: query.id };
        let tables = self.tables(snapshot, now);
        self.forwarder.handle_query(tables, client, &query.bytes, now, &mut *self.random);
    }

    fn act(&mut self, action: Action, host: &mut Host, snapshot: &Snapshot, now: Timestamp) {
        let tables = self.tables(snapshot, now);
        match action {
            Action::Ask { exchange, upstream: Upstream::Realm { realm, address, port }, transport, bytes } => {
                let transport = match transport {
                    dns::Transport::Udp => host::Transport::Udp,
                    dns::Transport::Tcp => host::Transport::Tcp,
                };
                let question = Question { id: ClientId(exchange.0), realm, address, port, transport };
                if snapshot.realm(realm).is_none_or(|realm| realm.tunnels.is_empty()) {
                    self.handle_reply(exchange, None, snapshot, now);
                } else if host.ask(question, &bytes, now, &mut *self.random).is_err() {
                    self.forwarder.handle_no_room(tables, exchange, now, &mut *self.random);
                }
            }
            Action::Ask { exchange, upstream: Upstream::Outside { .. }, .. } if self.outside.len() >= MAX_OUTSIDE => {
                self.forwarder.handle_no_room(tables, exchange, now, &mut *self.random);
            }
            Action::Ask { .. } => self.outside.push_back(action),
            Action::Close { exchange, upstream: Upstream::Realm { .. } } => host.cancel(ClientId(exchange.0), now),
            Action::Close { .. } => self.outside.push_back(action),
        }
    }

    fn tables<'a>(&self, snapshot: &'a Snapshot, now: Timestamp) -> Tables<'a> {
        Tables {
            zone: &snapshot.zone,
            routes: &snapshot.routes,
            mapping: &snapshot.mapping,
            policy: &snapshot.policy,
            unix_secs: (self.unix_time_at_zero + (now - Timestamp::ZERO)).as_secs(),
        }
    }
}
