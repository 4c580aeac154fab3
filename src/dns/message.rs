//! Queries and answers as bytes: header rules, EDNS, Extended DNS Errors, truncation.

use std::iter;

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

use super::dnssec::NXNAME;
use super::resolve::{Asker, Outcome};
use super::zone::{NEGATIVE_TTL_SECS, Zone, original_ttl_secs};
use crate::net::RealmId;
use crate::net::mapping::Mapping;
use crate::net::policy::Policy;

/// Largest UDP answer: fits into 1280 bytes, the least that every IPv6 path carries (DNS flag day 2020).
pub(super) const MAX_UDP_PAYLOAD_BYTES: u16 = 1232;
/// Without EDNS (RFC 1035 section 4.2.1).
const PLAIN_UDP_PAYLOAD_BYTES: u16 = 512;
/// OPT, TSIG or SIG(0), and some to spare; the rest of a 64 KiB query is not worth parsing.
const MAX_ADDITIONALS: u16 = 4;

/// RFC 9824 section 5.1: the second bit of the EDNS flags, after DO.
const EDNS_COMPACT_OK: u16 = 0x4000;

/// RFC 8914, the option and the codes that we use.
const EXTENDED_DNS_ERROR: u16 = 15;
pub(super) mod ede {
    pub const OTHER: u16 = 0;
    pub const FILTERED: u16 = 17;
    pub const PROHIBITED: u16 = 18;
    pub const NOT_AUTHORITATIVE: u16 = 20;
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
    pub const NETWORK_ERROR: u16 = 23;
}

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
        let (metadata, request) = match receive(query) {
            Received::NoQuery => {
                out.clear();
                return false;
            }
            Received::Unreadable(metadata, code) => return emit_bare(metadata, code, out),
            Received::Query(metadata, request) => (metadata, request),
        };
        let asker = Asker { realm: asker, mapping, policy };
        let outcome = self.outcome(asker, &request);
        let reply = self.reply(asker.realm, metadata, &request, outcome);
        reply.emit_to(&request, transport, out)
    }

    /// What this zone alone has to say.
    pub(super) fn outcome(&self, asker: Asker<'_>, request: &Request) -> Outcome {
        match request.question.query_class() {
            _ if request.is_of_unknown_edns() => Outcome::Refused, // never shown: the reply is BADVERS
            DNSClass::IN => self.resolve(asker, request.question.name(), request.question.query_type()),
            _ => Outcome::Refused,
        }
    }

    pub(super) fn reply(&self, asker: RealmId, metadata: Metadata, request: &Request, outcome: Outcome) -> Reply {
        let mut reply = Reply::new(metadata, request);
        let question = &request.question;
        if request.is_of_unknown_edns() {
            reply.metadata.response_code = ResponseCode::BADVERS;
            return reply;
        }
        reply.metadata.authoritative = outcome != Outcome::Refused;
        match outcome {
            Outcome::Answer(data) => {
                let record =
                    |data| Record::from_rdata(question.name().clone(), original_ttl_secs(question.query_type()), data);
                reply.answers = data.into_iter().map(record).collect();
            }
            Outcome::NoData { apex } => reply.authorities.push(self.negative_soa(apex)),
            Outcome::NameError { apex, denied } => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.authorities.push(self.negative_soa(apex));
                if denied {
                    reply.explain(ede::PROHIBITED, || self.denial(asker));
                }
            }
            Outcome::Refused => {
                reply.metadata.response_code = ResponseCode::Refused;
                reply
                    .explain(ede::NOT_AUTHORITATIVE, || format!("Only names below {} are answered here.", self.origin));
            }
        }
        reply
    }

    /// For the person who wonders why.
    pub(super) fn denial(&self, asker: RealmId) -> String {
        format!("No grant lets realm {} reach this name.", self.realm_name(asker))
    }

    /// RFC 2308 section 3: the TTL of the SOA in a negative answer is the time for which it may be cached.
    pub(super) fn negative_soa(&self, apex: Name) -> Record {
        Record::from_rdata(apex, NEGATIVE_TTL_SECS, self.soa.clone())
    }
}

/// What a datagram for port 53 turned out to be.
pub(super) enum Received {
    /// A response, or no whole header: no answer is due.
    NoQuery,
    /// Answered with this code and nothing else.
    Unreadable(Metadata, ResponseCode),
    /// With the header that its answer starts from.
    Query(Metadata, Request),
}

pub(super) fn receive(query: &[u8]) -> Received {
    let mut decoder = BinDecoder::new(query);
    let Ok(header) = Header::read(&mut decoder) else { return Received::NoQuery };
    if header.message_type == MessageType::Response {
        return Received::NoQuery;
    }
    let metadata = Metadata::response_from_request(&header.metadata);
    match Request::parse(&header, &mut decoder) {
        Ok(request) => Received::Query(metadata, request),
        Err(code) => Received::Unreadable(metadata, code),
    }
}

/// The parts of a query that matter.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) question: Query,
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
        // RFC 9824 section 3.5.
        if question.query_type() == RecordType::Unknown(NXNAME) {
            return Err(ResponseCode::FormErr);
        }
        Ok(Request { question, edns })
    }

    /// RFC 3225: the asker understands signatures.
    pub(super) fn is_dnssec_ok(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok)
    }

    /// RFC 9824 section 5.1: the asker takes NXDOMAIN together with a compact denial.
    pub(super) fn is_compact_ok(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.flags().z & EDNS_COMPACT_OK != 0)
    }

    /// RFC 6891 section 6.1.3: answered with BADVERS.
    pub(super) fn is_of_unknown_edns(&self) -> bool {
        self.edns.as_ref().is_some_and(|edns| edns.version() > 0)
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

pub(super) struct Reply {
    pub(super) metadata: Metadata,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    edns: Option<Edns>,
}

impl Reply {
    pub(super) fn new(metadata: Metadata, request: &Request) -> Self {
        Reply {
            metadata,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: request.reply_edns(),
        }
    }

    /// An Extended DNS Error, for askers who speak EDNS. RFC 8914 section 2: the code, then text in UTF-8.
    pub(super) fn explain(&mut self, code: u16, text: impl FnOnce() -> String) {
        if let Some(edns) = &mut self.edns {
            let mut data = code.to_be_bytes().to_vec();
            data.extend_from_slice(text().as_bytes());
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_DNS_ERROR, data));
        }
    }

    /// Nothing but SERVFAIL, and why.
    pub(super) fn fail(&mut self, code: u16, text: impl FnOnce() -> String) {
        self.metadata.response_code = ResponseCode::ServFail;
        self.answers.clear();
        self.authorities.clear();
        self.additionals.clear();
        self.explain(code, text);
    }

    /// RFC 9824 section 5.1.
    pub(super) fn set_compact_ok(&mut self) {
        if let Some(edns) = &mut self.edns {
            edns.flags_mut().z |= EDNS_COMPACT_OK;
        }
    }

    /// The bytes for this asker; replaces what `out` held. `true`, as an answer is due.
    pub(super) fn emit_to(self, request: &Request, transport: Transport, out: &mut Vec<u8>) -> bool {
        let metadata = self.metadata;
        match self.emit(&request.question, request.limit_bytes(transport), out) {
            Ok(()) => true,
            Err(_) => emit_bare(metadata, ResponseCode::ServFail, out),
        }
    }

    /// Nothing but TC: come back over TCP.
    pub(super) fn truncate(&mut self) {
        self.metadata.truncation = true;
        self.answers.clear();
        self.authorities.clear();
        self.additionals.clear();
        if let Some(edns) = &mut self.edns {
            edns.options_mut().remove(EXTENDED_DNS_ERROR.into());
        }
    }

    /// Whole records only. What may be missing goes first (RFC 2181 section 9); if that is not enough, everything is left
    /// out together, with TC set: the asker comes back over TCP.
    fn emit(mut self, question: &Query, limit_bytes: u16, out: &mut Vec<u8>) -> Result<(), ProtoError> {
        if !self.emit_once(question, limit_bytes, out)? {
            return Ok(());
        }
        if !self.additionals.is_empty() {
            self.additionals.clear();
            if !self.emit_once(question, limit_bytes, out)? {
                return Ok(());
            }
        }
        self.truncate();
        self.emit_once(question, limit_bytes, out)?;
        Ok(())
    }

    /// Whether something had to be left out.
    fn emit_once(&self, question: &Query, limit_bytes: u16, out: &mut Vec<u8>) -> Result<bool, ProtoError> {
        out.clear();
        let mut encoder = BinEncoder::new(out);
        encoder.set_max_size(limit_bytes);
        let header = emit_message_parts(
            &self.metadata,
            &mut iter::once(question),
            &mut self.answers.iter(),
            &mut self.authorities.iter(),
            &mut self.additionals.iter(),
            self.edns.as_ref(),
            None,
            &mut encoder,
        )?;
        Ok(header.truncation)
    }
}

/// Only a header: for queries that cannot be echoed. `true`, as an answer is due.
pub(super) fn emit_bare(mut metadata: Metadata, code: ResponseCode, out: &mut Vec<u8>) -> bool {
    out.clear();
    metadata.response_code = code;
    let header = Header { metadata, counts: HeaderCounts::default() };
    header.emit(&mut BinEncoder::new(out)).is_ok()
}
