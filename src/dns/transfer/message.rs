//! Queries of name servers, and answers, as bytes.

use std::iter;

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Header, HeaderCounts, MessageType, Metadata, OpCode, Query as Question, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder, DecodeError};

use super::tsig::Tsig;

/// OPT and TSIG, and some to spare.
const MAX_ADDITIONALS: u16 = 4;

/// The parts of a query that matter.
pub(super) struct Query {
    /// What its answers start from.
    metadata: Metadata,
    pub question: Question,
    /// Of an IXFR: what the asker has.
    pub serial: Option<u32>,
    pub tsig: Option<Tsig>,
}

/// `Err`: the answer, where one is due.
pub(super) fn parse(bytes: &[u8]) -> Result<Query, Option<Vec<u8>>> {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else { return Err(None) };
    if header.message_type == MessageType::Response {
        return Err(None);
    }
    let mut metadata = Metadata::response_from_request(&header.metadata);
    metadata.recursion_available = false;
    let bare = |code| Err(Some(bare(metadata, code)));
    if header.op_code != OpCode::Query {
        return bare(ResponseCode::NotImp);
    }
    let HeaderCounts { queries, answers, authorities, additionals } = header.counts;
    if queries != 1 || answers != 0 || authorities > 1 || additionals > MAX_ADDITIONALS {
        return bare(ResponseCode::FormErr);
    }
    match parse_sections(&mut decoder, metadata, authorities, additionals) {
        Ok(query) if decoder.is_empty() && query.question.query_class() == DNSClass::IN => Ok(query),
        _ => bare(ResponseCode::FormErr),
    }
}

fn parse_sections(
    decoder: &mut BinDecoder<'_>,
    metadata: Metadata,
    authorities: u16,
    additionals: u16,
) -> Result<Query, DecodeError> {
    let question = Question::read(decoder)?;
    let mut serial = None;
    for _ in 0..authorities {
        if let RData::SOA(soa) = Record::read(decoder)?.data {
            serial = Some(soa.serial);
        }
    }
    let mut tsig = None;
    for left in (0..additionals).rev() {
        let begin = decoder.index();
        let name = Name::read(decoder)?;
        let record_type = RecordType::read(decoder)?;
        if record_type == RecordType::TSIG {
            // RFC 8945 section 5.1: the last record, and the only one.
            if left != 0 {
                return Err(DecodeError::RecordAfterSig);
            }
            tsig = Some(Tsig::read(name, begin, decoder)?);
            break;
        }
        decoder.read_slice(6)?; // class and TTL
        let length = decoder.read_u16()?.unverified(/* more than there is is refused by the next line */);
        decoder.read_slice(length.into())?;
    }
    Ok(Query { metadata, question, serial, tsig })
}

/// One message, without a TSIG.
pub(super) fn response(query: &Query, code: ResponseCode, answers: &[Record]) -> Vec<u8> {
    let mut metadata = query.metadata;
    metadata.response_code = code;
    metadata.authoritative = code == ResponseCode::NoError;
    let mut bytes = Vec::new();
    let emitted = emit_message_parts(
        &metadata,
        &mut iter::once(&query.question),
        &mut answers.iter(),
        &mut iter::empty::<&Record>(),
        &mut iter::empty::<&Record>(),
        None,
        None,
        &mut BinEncoder::new(&mut bytes),
    );
    match emitted {
        Ok(_) => bytes,
        Err(_) => bare(metadata, ResponseCode::ServFail),
    }
}

/// As many records as bring it to `enough` bytes, and whether they were the last ones.
pub(super) fn fill(
    query: &Query,
    question: Option<&Question>,
    records: &mut dyn Iterator<Item = Record>,
    enough: usize,
) -> Result<(Vec<u8>, bool), ProtoError> {
    let mut bytes = Vec::with_capacity(enough + 2048);
    let mut encoder = BinEncoder::new(&mut bytes);
    let place = encoder.place::<Header>()?;
    if let Some(question) = question {
        question.emit(&mut encoder)?;
    }
    let mut answers = 0;
    let mut is_last = false;
    while encoder.len() < enough {
        let Some(record) = records.next() else {
            is_last = true;
            break;
        };
        record.emit(&mut encoder)?;
        answers += 1;
    }
    let mut metadata = query.metadata;
    metadata.authoritative = true;
    let counts = HeaderCounts { queries: question.is_some().into(), answers, authorities: 0, additionals: 0 };
    place.replace(&mut encoder, Header { metadata, counts })?;
    Ok((bytes, is_last))
}

fn bare(mut metadata: Metadata, code: ResponseCode) -> Vec<u8> {
    metadata.response_code = code;
    metadata.authoritative = false;
    let mut bytes = Vec::new();
    let header = Header { metadata, counts: HeaderCounts::default() };
    // Twelve bytes always fit.
    let _ = header.emit(&mut BinEncoder::new(&mut bytes));
    bytes
}
