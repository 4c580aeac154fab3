//! The zone for the operators' own name servers: AXFR (RFC 5936) over TCP, proved by TSIG (RFC 8945).
//!
//! ```text
//!   bytes of one query ──> Server::handle_message ──> Answer::Message(bytes)
//!                                                 └─> Answer::Transfer ──poll_message──> bytes, bytes, ... None
//! ```
//!
//! A key says two things: that the asker may have the zone, and as whom. It gets what one realm sees (the names that the
//! realm may reach, with the addresses that it uses), or the canonical view: all names, with canonical addresses. Without a
//! TSIG everything is refused. Questions for the SOA are answered too, so that a secondary finds out whether there is
//! something new, and IXFR is answered with the whole zone (RFC 1995 section 4), or with the SOA when nothing is new.
//!
//! Pure: whoever drives it has the connection, frames the messages and knows the date. Inside the realms transfers are
//! refused by [`super::Zone`] itself.

mod contents;
mod message;
mod tsig;

#[cfg(test)]
mod tests;

use aws_lc_rs::hmac;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};

use super::key::NameKey;
use super::zone::Zone;
use crate::net::RealmId;
use crate::net::mapping::Mapping;
use crate::net::policy::Policy;
use message::{Query, parse, response};
pub use tsig::Algorithm;
use tsig::{Refusal, Tsig};

/// Longest query; real ones have some hundred bytes.
pub const MAX_QUERY_BYTES: usize = 4096;
/// Messages of a transfer end after the record that brings them to this size (RFC 5936 section 2.2 wants many records in
/// one). No record and no TSIG has more than a few hundred bytes, so 65,535 is far.
const MESSAGE_BYTES: usize = 16_000;

/// Whose addresses are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    Canonical,
    Realm(RealmId),
}

/// Shared with one name server.
#[derive(Clone, Debug)]
pub struct TransferKey {
    name: Name,
    algorithm: Algorithm,
    /// The library shows of it no more than which algorithm it is for, and wipes it.
    secret: hmac::Key,
    view: View,
}

impl TransferKey {
    /// `name`: without the trailing dot. `None`: it is no domain name.
    pub fn new(name: &str, algorithm: Algorithm, secret: &[u8], view: View) -> Option<Self> {
        let name = Name::from_ascii(format!("{name}.")).ok()?.to_lowercase();
        Some(TransferKey { name, algorithm, secret: hmac::Key::new(algorithm.hmac(), secret), view })
    }
}

/// Everything that an answer is made from.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    pub zone: &'a Zone,
    pub mapping: &'a Mapping,
    pub policy: &'a Policy,
    pub keys: &'a [TransferKey],
}

/// What one query leads to.
pub enum Answer<'a> {
    /// No answer is due: it is no query. Close the connection.
    Nothing,
    Message {
        bytes: Vec<u8>,
        /// The asker got nothing of the zone.
        is_refused: bool,
    },
    Transfer(Box<Transfer<'a>>),
}

impl<'a> Server<'a> {
    /// One message, without the two bytes of length. `unix_secs`: the date.
    pub fn handle_message(self, bytes: &[u8], unix_secs: u64) -> Answer<'a> {
        let query = match parse(bytes) {
            Ok(query) => query,
            Err(None) => return Answer::Nothing,
            Err(Some(reply)) => return Answer::Message { bytes: reply, is_refused: true },
        };
        let Some(tsig) = &query.tsig else {
            return Answer::Message { bytes: response(&query, ResponseCode::Refused, &[]), is_refused: true };
        };
        let key = match tsig.verify(bytes, self.keys, unix_secs) {
            Ok(key) => key,
            Err(refusal) => return self.refuse(&query, tsig, refusal, unix_secs),
        };
        let chain = tsig::Chain::new(key, tsig);
        self.answer(query, key.view, chain, unix_secs)
    }

    fn refuse(self, query: &Query, tsig: &Tsig, refusal: Refusal, unix_secs: u64) -> Answer<'a> {
        let bytes = match refusal {
            Refusal::Malformed => response(query, ResponseCode::FormErr, &[]),
            refusal => {
                let mut bytes = response(query, ResponseCode::NotAuth, &[]);
                tsig.refuse(&mut bytes, refusal, self.keys, unix_secs);
                bytes
            }
        };
        Answer::Message { bytes, is_refused: true }
    }

    fn answer(self, query: Query, view: View, mut chain: tsig::Chain, unix_secs: u64) -> Answer<'a> {
        let mut say = |code, answers: &[Record]| {
            let mut bytes = response(&query, code, answers);
            chain.seal(&mut bytes, unix_secs);
            Answer::Message { bytes, is_refused: code != ResponseCode::NoError }
        };
        let question = &query.question;
        if NameKey::new(question.name()).as_bytes() != &*self.zone.origin_key {
            return say(ResponseCode::NotAuth, &[]); // RFC 5936 section 2.2.1
        }
        match question.query_type() {
            RecordType::SOA => say(ResponseCode::NoError, &[self.zone.soa_record()]),
            RecordType::IXFR if query.serial.is_some_and(|serial| !is_newer(self.zone.serial(), serial)) => {
                say(ResponseCode::NoError, &[self.zone.soa_record()])
            }
            RecordType::AXFR | RecordType::IXFR => {
                let records = contents::records(self.zone, self.mapping, self.policy, view);
                Answer::Transfer(Box::new(Transfer {
                    query,
                    records: Box::new(records),
                    chain,
                    is_begun: false,
                    is_done: false,
                }))
            }
            _ => say(ResponseCode::Refused, &[]),
        }
    }
}

/// One transfer under way.
pub struct Transfer<'a> {
    query: Query,
    records: Box<dyn Iterator<Item = Record> + Send + 'a>,
    chain: tsig::Chain,
    is_begun: bool,
    is_done: bool,
}

impl Transfer<'_> {
    /// The next message, without the two bytes of length. `None`: that was all. After an error, which no zone of ours brings
    /// about, there is nothing but to close the connection.
    pub fn poll_message(&mut self, unix_secs: u64) -> Option<Result<Vec<u8>, hickory_proto::ProtoError>> {
        if self.is_done {
            return None;
        }
        let question = (!self.is_begun).then_some(&self.query.question);
        self.is_begun = true;
        match message::fill(&self.query, question, &mut self.records, MESSAGE_BYTES) {
            Ok((mut bytes, is_last)) => {
                self.is_done = is_last;
                self.chain.seal(&mut bytes, unix_secs);
                Some(Ok(bytes))
            }
            Err(error) => {
                self.is_done = true;
                Some(Err(error))
            }
        }
    }
}

/// RFC 1982 section 3.2.
fn is_newer(ours: u32, theirs: u32) -> bool {
    ours != theirs && ours.wrapping_sub(theirs) < 1 << 31
}
