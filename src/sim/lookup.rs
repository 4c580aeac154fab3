//! A stub resolver's side of the wire: one question, and what the answer says in words.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};

/// Extended DNS Error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
/// What fits into a tunnel of the smallest MTU (RFC 9715 recommends less than 1,232 and so do resolvers).
const MAX_ANSWER_BYTES: u16 = 1232;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    Address(Ipv4Addr),
    /// NXDOMAIN, and why, if the server said so.
    NoSuchName {
        why: Option<String>,
    },
    /// Any other answer, in words.
    Other(String),
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    #[error("`{0}` is no domain name")]
    Name(String),
    #[error("what came back is no answer to this question: {0}")]
    Answer(String),
}

/// The bytes of the question for `name`'s IPv4 address.
pub fn question(name: &str, id: u16) -> Result<Vec<u8>, LookupError> {
    let unusable = || LookupError::Name(name.to_owned());
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).map_err(|_| unusable())?, RecordType::A));
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_ANSWER_BYTES);
    message.set_edns(edns);
    message.to_vec().map_err(|_| unusable())
}

/// What the answer to [`question`] says.
pub fn read(answer: &[u8], id: u16) -> Result<Lookup, LookupError> {
    let message = Message::from_vec(answer).map_err(|error| LookupError::Answer(error.to_string()))?;
    if message.metadata.message_type != MessageType::Response || message.metadata.id != id {
        return Err(LookupError::Answer("it is a question, or has another number".to_owned()));
    }
    let address = message.answers.iter().find_map(|record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    Ok(match (message.metadata.response_code, address) {
        (ResponseCode::NoError, Some(address)) => Lookup::Address(address),
        (ResponseCode::NXDomain, _) => Lookup::NoSuchName { why: extended_error(&message) },
        (code, _) => Lookup::Other(format!("{code}, {} answers", message.answers.len())),
    })
}

fn extended_error(message: &Message) -> Option<String> {
    match message.edns.as_ref()?.option(EdnsCode::from(EXTENDED_ERROR))? {
        EdnsOption::Unknown(EXTENDED_ERROR, data) => {
            let (_code, text) = data.split_first_chunk::<2>()?;
            Some(String::from_utf8_lossy(text).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_and_what_is_no_answer_is_said() {
        assert_eq!(question("a..b", 1), Err(LookupError::Name("a..b".to_owned())));
        assert!(matches!(read(b"nonsense", 1), Err(LookupError::Answer(_))));
        let own_question = question("pacs.ix.example.", 1).unwrap();
        assert!(matches!(read(&own_question, 1), Err(LookupError::Answer(_))), "a question is no answer");
    }

    #[test]
    fn an_answer_must_have_the_number_of_its_question() {
        let mut answer = question("pacs.ix.example.", 7).unwrap();
        answer[2] |= 0x80; // QR
        assert_eq!(read(&answer, 7), Ok(Lookup::Other("No Error, 0 answers".to_owned())));
        assert!(read(&answer, 8).is_err());
    }
}
