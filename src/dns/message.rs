//! Queries and answers as bytes: header rules, EDNS, Extended DNS Errors, truncation.

use std::iter;

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, Record};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::resolve::{Asker, Outcome};
use super::zone::{ADDRESS_TTL_SECS, NEGATIVE_TTL_SECS, Zone};
use crate::net::RealmId;
use crate::net::mapping::Mapping;
use crate::net::policy::Policy;

/// Largest UDP answer: fits into 1280 bytes, the least that every IPv6 path carries (DNS flag day 2020).
const MAX_UDP_PAYLOAD_BYTES: u16 = 1232;
/// Without EDNS (RFC 1035 section 4.2.1).
const PLAIN_UDP_PAYLOAD_BYTES: u16 = 512;
/// OPT, TSIG or SIG(0), and some to spare; the rest of a 64 KiB query is not worth parsing.
const MAX_ADDITIONALS: u16 = 4;

/// RFC 8914, the option and the codes that we use.
const EXTENDED_DNS_ERROR: u16 = 15;
const EDE_PROHIBITED: u16 = 18;
const EDE_NOT_AUTHORITATIVE: u16 = 20;

/// How the query came, which decides how long the answer may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    Udp,
    /// Without the two bytes of length.
    Tcp,
}

impl Zone {
    /// Answers one query of an asker who is known by its tunnel. The response replaces what `out` held.
    /// `false`: no answer is due, because the bytes are a response or lack a whole header.
    pub fn answer(
        &self,
        asker: RealmId,
        transport: Transport,
        query: &[u8],
        mapping: &Mapping,
        policy: &Policy,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        let mut decoder = BinDecoder::new(query);
        let Ok(header) = Header::read(&mut decoder) else { return false };
        if header.message_type == MessageType::Response {
            return false;
        }
        let metadata = Metadata::response_from_request(&header.metadata);
        let request = match Request::parse(&header, &mut decoder) {
            Ok(request) => request,
            Err(code) => return emit_bare(metadata, code, out),
        };
        let reply = self.reply(Asker { realm: asker, mapping, policy }, metadata, &request);
        match reply.emit(&request.question, request.limit_bytes(transport), out) {
            Ok(()) => true,
            Err(_) => emit_bare(metadata, ResponseCode::ServFail, out),
        }
    }

    fn reply(&self, asker: Asker<'_>, metadata: Metadata, request: &Request) -> Reply {
        let mut reply = Reply { metadata, answers: Vec::new(), authority: None, edns: request.reply_edns() };
        let question = &request.question;
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            reply.metadata.response_code = ResponseCode::BADVERS;
            return reply;
        }
        let outcome = match question.query_class() {
            DNSClass::IN => self.resolve(asker, question.name(), question.query_type()),
            _ => Outcome::Refused,
        };
        reply.metadata.authoritative = outcome != Outcome::Refused;
        match outcome {
            Outcome::Answer(data) => {
                let record = |data| Record::from_rdata(question.name().clone(), ADDRESS_TTL_SECS, data);
                reply.answers = data.into_iter().map(record).collect();
            }
            Outcome::NoData { apex } => reply.authority = Some(self.negative_soa(apex)),
            Outcome::NameError { apex, denied } => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.authority = Some(self.negative_soa(apex));
                if denied {
                    reply.explain(EDE_PROHIBITED, || {
                        format!("No grant lets realm {} reach this name.", self.realm_name(asker.realm))
                    });
                }
            }
            Outcome::Refused => {
                reply.metadata.response_code = ResponseCode::Refused;
                reply.explain(EDE_NOT_AUTHORITATIVE, || format!("Only names below {} are answered here.", self.origin));
            }
        }
        reply
    }

    /// RFC 2308 section 3: the TTL of the SOA in a negative answer is the time for which it may be cached.
    fn negative_soa(&self, apex: Name) -> Record {
        Record::from_rdata(apex, NEGATIVE_TTL_SECS, self.soa.clone())
    }
}

/// The parts of a query that matter.
struct Request {
    question: Query,
    edns: Option<Edns>,
}

impl Request {
    fn parse(header: &Header, decoder: &mut BinDecoder<'_>) -> Result<Self, ResponseCode> {
        if header.op_code != OpCode::Query {
            return Err(ResponseCode::NotImp);
        }
        let HeaderCounts { queries, answers, authorities, additionals } = header.counts;
        // One authority record: IXFR carries an SOA there (RFC 1995), and deserves REFUSED instead of FORMERR.
        if queries != 1 || answers != 0 || authorities > 1 || additionals > MAX_ADDITIONALS {
            return Err(ResponseCode::FormErr);
        }
        let question = Query::read(decoder).map_err(|_| ResponseCode::FormErr)?;
        Message::read_records(decoder, authorities.into(), false, OpCode::Query).map_err(|_| ResponseCode::FormErr)?;
        let (_, edns, _) = Message::read_records(decoder, additionals.into(), true, OpCode::Query)
            .map_err(|_| ResponseCode::FormErr)?;
        if !decoder.is_empty() {
            return Err(ResponseCode::FormErr);
        }
        Ok(Request { question, edns })
    }

    fn limit_bytes(&self, transport: Transport) -> u16 {
        match (transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN_UDP_PAYLOAD_BYTES,
            (Transport::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_UDP_PAYLOAD_BYTES, MAX_UDP_PAYLOAD_BYTES),
        }
    }

    /// RFC 6891 section 6.1.1: OPT is answered with OPT. RFC 3225 section 3: DO is copied.
    fn reply_edns(&self) -> Option<Edns> {
        let asked = self.edns.as_ref()?;
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_PAYLOAD_BYTES).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        Some(edns)
    }
}

struct Reply {
    metadata: Metadata,
    answers: Vec<Record>,
    authority: Option<Record>,
    edns: Option<Edns>,
}

impl Reply {
    /// An Extended DNS Error, for askers who speak EDNS. RFC 8914 section 2: the code, then text in UTF-8.
    fn explain(&mut self, code: u16, text: impl FnOnce() -> String) {
        if let Some(edns) = &mut self.edns {
            let mut data = code.to_be_bytes().to_vec();
            data.extend_from_slice(text().as_bytes());
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_DNS_ERROR, data));
        }
    }

    /// Whole records only. What does not fit is left out all together, with TC set: the asker comes back over TCP.
    fn emit(mut self, question: &Query, limit_bytes: u16, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        if !self.emit_once(question, limit_bytes, out)? {
            return Ok(());
        }
        self.metadata.truncation = true;
        self.answers.clear();
        self.authority = None;
        if let Some(edns) = &mut self.edns {
            edns.options_mut().remove(EXTENDED_DNS_ERROR.into());
        }
        out.clear();
        self.emit_once(question, limit_bytes, out)?;
        Ok(())
    }

    /// Whether something had to be left out.
    fn emit_once(&self, question: &Query, limit_bytes: u16, out: &mut Vec<u8>) -> Result<bool, ProtoError> {
        let mut encoder = BinEncoder::new(out);
        encoder.set_max_size(limit_bytes);
        let header = emit_message_parts(
            &self.metadata,
            &mut iter::once(question),
            &mut self.answers.iter(),
            &mut self.authority.iter(),
            &mut iter::empty::<&Record>(),
            self.edns.as_ref(),
            None,
            &mut encoder,
        )?;
        Ok(header.truncation)
    }
}

/// Only a header: for queries that cannot be echoed. `true`, as an answer is due.
fn emit_bare(mut metadata: Metadata, code: ResponseCode, out: &mut Vec<u8>) -> bool {
    out.clear();
    metadata.response_code = code;
    let header = Header { metadata, counts: HeaderCounts::default() };
    header.emit(&mut BinEncoder::new(out)).is_ok()
}
