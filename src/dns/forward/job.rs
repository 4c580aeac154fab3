//! One question of one realm, and how far it has got.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Metadata, Query};
use hickory_proto::rr::{Name, Record, RecordType};

use super::routes::{Route, Upstream};
use super::{Client, ExchangeId};
use crate::dns::cache::QuestionKey;
use crate::dns::key::NameKey;
use crate::dns::message::{Request, Transport};
use crate::dns::rewrite::{Note, Rewritten};
use crate::net::{RealmId, Timestamp};

/// Messages to upstreams for one question, aliases and retries included.
pub(super) const MAX_EXCHANGES: usize = 24;

pub(super) struct Job<T> {
    pub(super) key: QuestionKey,
    /// As the first asker wrote it.
    pub(super) name: Name,
    pub(super) wanted: RecordType,
    pub(super) waiters: Vec<Waiter<T>>,
    pub(super) exchanges_left: usize,
    /// At least one resolver could not be reached, or gave no usable answer.
    pub(super) is_unusable: bool,
    pub(super) is_busy: bool,
    pub(super) walk: Walk,
}

/// One asker, and what its own answer needs.
pub(super) struct Waiter<T> {
    pub(super) client: Client<T>,
    pub(super) metadata: Metadata,
    pub(super) request: Request,
}

/// Along the chain of aliases.
pub(super) struct Walk {
    /// The name that is looked up now.
    pub(super) name: Name,
    /// The type that is asked for now: not the wanted one while addresses are made from those of the other IP version.
    pub(super) record_type: RecordType,
    /// What was said of the wanted type, while addresses are made from those of the other IP version.
    pub(super) own_version: Option<Rewritten>,
    pub(super) hops: usize,
    /// What has been found on the way, in the asker's terms.
    pub(super) found: Vec<Record>,
    pub(super) note: Option<Note>,
    pub(super) at: Option<At>,
}

/// Whom the current name is asked at.
pub(super) struct At {
    pub(super) route: Arc<Route>,
    /// The reverse name as its owner knows it.
    pub(super) native: Option<Name>,
    pub(super) attempts: VecDeque<Attempt>,
    pub(super) exchange: Option<Exchange>,
}

#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) upstream: Upstream,
    pub(super) patience: Duration,
    pub(super) transport: Transport,
    pub(super) has_edns: bool,
}

/// A message on its way.
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    pub(super) attempt: Attempt,
    /// What its answer must have.
    pub(super) message_id: u16,
    pub(super) question: Query,
    pub(super) deadline: Timestamp,
    pub(super) mismatches: u32,
}

impl<T> Job<T> {
    pub(super) fn new(key: QuestionKey, first: Waiter<T>) -> Self {
        let question = &first.request.question;
        let (name, wanted) = (question.name().clone(), question.query_type());
        let walk = Walk::new(name.clone(), wanted);
        Job {
            key,
            name,
            wanted,
            waiters: vec![first],
            exchanges_left: MAX_EXCHANGES,
            is_unusable: false,
            is_busy: false,
            walk,
        }
    }

    pub(super) fn start_again(&mut self) {
        self.walk = Walk::new(self.name.clone(), self.wanted);
    }

    pub(super) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.walk.at.as_mut()?.exchange.as_mut()
    }
}

impl Walk {
    fn new(name: Name, record_type: RecordType) -> Self {
        Walk { name, record_type, own_version: None, hops: 0, found: Vec::new(), note: None, at: None }
    }

    pub(super) fn take_note(&mut self, note: Option<Note>) {
        self.note = self.note.into_iter().chain(note).min();
    }
}

pub(super) fn key_of(realm: RealmId, request: &Request) -> QuestionKey {
    QuestionKey {
        realm,
        name: NameKey::new(request.question.name()).as_bytes().into(),
        record_type: request.question.query_type(),
        dnssec_ok: request.is_dnssec_ok(),
    }
}
