//! The chain of payloads and the generic header before each (RFC 7296 section 3.2).
//!
//! ```text
//! | next payload  |C|  reserved   |        payload length         |   the length counts these 4 bytes
//! ```

use super::authentication;
use super::certificate;
use super::configuration;
use super::delete::Delete;
use super::identification::Identification;
use super::key_exchange;
use super::nonce;
use super::notify::Notify;
use super::opaque;
use super::reader::Reader;
use super::security_association::{self, Proposal};
use super::traffic_selector;
use super::writer::with_length;
use super::{Limits, Malformed, ParseError};
use crate::net::selector::Selector;

pub(super) const GENERIC_HEADER_BYTES: usize = 4;
const CRITICAL: u8 = 0x80;

/// Payload types (RFC 7296 section 3.2; SKF: RFC 7383).
pub mod kind {
    pub const SECURITY_ASSOCIATION: u8 = 33;
    pub const KEY_EXCHANGE: u8 = 34;
    pub const ID_INITIATOR: u8 = 35;
    pub const ID_RESPONDER: u8 = 36;
    pub const CERTIFICATE: u8 = 37;
    pub const CERTIFICATE_REQUEST: u8 = 38;
    pub const AUTHENTICATION: u8 = 39;
    pub const NONCE: u8 = 40;
    pub const NOTIFY: u8 = 41;
    pub const DELETE: u8 = 42;
    pub const VENDOR_ID: u8 = 43;
    pub const SELECTORS_INITIATOR: u8 = 44;
    pub const SELECTORS_RESPONDER: u8 = 45;
    pub const ENCRYPTED: u8 = 46;
    pub const CONFIGURATION: u8 = 47;
    pub const EAP: u8 = 48;
    pub const ENCRYPTED_FRAGMENT: u8 = 53;
}

/// The RFC's abbreviation.
pub(super) fn name(kind: u8) -> String {
    let known = match kind {
        kind::SECURITY_ASSOCIATION => "SA",
        kind::KEY_EXCHANGE => "KE",
        kind::ID_INITIATOR => "IDi",
        kind::ID_RESPONDER => "IDr",
        kind::CERTIFICATE => "CERT",
        kind::CERTIFICATE_REQUEST => "CERTREQ",
        kind::AUTHENTICATION => "AUTH",
        kind::NONCE => "Nonce",
        kind::NOTIFY => "N",
        kind::DELETE => "D",
        kind::VENDOR_ID => "V",
        kind::SELECTORS_INITIATOR => "TSi",
        kind::SELECTORS_RESPONDER => "TSr",
        kind::ENCRYPTED => "SK",
        kind::CONFIGURATION => "CP",
        kind::EAP => "EAP",
        kind::ENCRYPTED_FRAGMENT => "SKF",
        _ => return format!("of type {kind}"),
    };
    known.to_owned()
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    SecurityAssociation(Vec<Proposal>),
    KeyExchange {
        group: u16,
        data: Vec<u8>,
    },
    IdInitiator(Identification),
    IdResponder(Identification),
    Certificate {
        encoding: u8,
        data: Vec<u8>,
    },
    CertificateRequest {
        encoding: u8,
        data: Vec<u8>,
    },
    Authentication {
        method: u8,
        data: Vec<u8>,
    },
    Nonce(Vec<u8>),
    Notify(Notify),
    Delete(Delete),
    VendorId(Vec<u8>),
    SelectorsInitiator(Vec<Selector>),
    SelectorsResponder(Vec<Selector>),
    Eap(Vec<u8>),
    Configuration {
        kind: u8,
        attributes: Vec<(u16, Vec<u8>)>,
    },
    /// Of a type that we do not know. Parsing never yields a critical one: that is an error.
    Unknown {
        kind: u8,
        critical: bool,
        body: Vec<u8>,
    },
}

impl Payload {
    pub fn kind(&self) -> u8 {
        match self {
            Payload::SecurityAssociation(_) => kind::SECURITY_ASSOCIATION,
            Payload::KeyExchange { .. } => kind::KEY_EXCHANGE,
            Payload::IdInitiator(_) => kind::ID_INITIATOR,
            Payload::IdResponder(_) => kind::ID_RESPONDER,
            Payload::Certificate { .. } => kind::CERTIFICATE,
            Payload::CertificateRequest { .. } => kind::CERTIFICATE_REQUEST,
            Payload::Authentication { .. } => kind::AUTHENTICATION,
            Payload::Nonce(_) => kind::NONCE,
            Payload::Notify(_) => kind::NOTIFY,
            Payload::Delete(_) => kind::DELETE,
            Payload::VendorId(_) => kind::VENDOR_ID,
            Payload::SelectorsInitiator(_) => kind::SELECTORS_INITIATOR,
            Payload::SelectorsResponder(_) => kind::SELECTORS_RESPONDER,
            Payload::Eap(_) => kind::EAP,
            Payload::Configuration { .. } => kind::CONFIGURATION,
            Payload::Unknown { kind, .. } => *kind,
        }
    }

    fn emit_body(&self, out: &mut Vec<u8>) {
        match self {
            Payload::SecurityAssociation(proposals) => security_association::emit(proposals, out),
            Payload::KeyExchange { group, data } => key_exchange::emit(*group, data, out),
            Payload::IdInitiator(id) | Payload::IdResponder(id) => id.emit(out),
            Payload::Certificate { encoding, data } | Payload::CertificateRequest { encoding, data } => {
                certificate::emit(*encoding, data, out);
            }
            Payload::Authentication { method, data } => authentication::emit(*method, data, out),
            Payload::Notify(notify) => notify.emit(out),
            Payload::Delete(delete) => delete.emit(out),
            Payload::SelectorsInitiator(selectors) | Payload::SelectorsResponder(selectors) => {
                traffic_selector::emit(selectors, out);
            }
            Payload::Configuration { kind, attributes } => configuration::emit(*kind, attributes, out),
            Payload::Nonce(bytes) | Payload::VendorId(bytes) | Payload::Eap(bytes) => opaque::emit(bytes, out),
            Payload::Unknown { body, .. } => opaque::emit(body, out),
        }
    }
}

/// The generic header, and a reader over the body that it announces.
pub(super) struct Generic<'a> {
    pub kind: u8,
    pub next: u8,
    pub critical: bool,
    pub body: Reader<'a>,
}

impl<'a> Generic<'a> {
    /// `bytes[at..]` begins with the generic header of a payload of type `kind`.
    pub fn parse(kind: u8, bytes: &'a [u8], at: usize, limits: &Limits) -> Result<Self, ParseError> {
        let mut reader = Reader::new(kind, at, bytes.get(at..).unwrap_or_default());
        let (next, flags) = (reader.u8()?, reader.u8()?);
        let length = usize::from(reader.u16()?);
        let body_bytes = length.checked_sub(GENERIC_HEADER_BYTES).ok_or(reader.fail(Malformed::Length))?;
        reader.require(body_bytes <= reader.remaining(), Malformed::Length)?;
        reader.require(body_bytes <= limits.payload_bytes, Malformed::OverLimit)?;
        Ok(Generic { kind, next, critical: flags & CRITICAL != 0, body: reader.part(body_bytes)? })
    }

    pub fn end(&self) -> usize {
        self.body.offset() + self.body.remaining()
    }

    /// RFC 7296 section 2.5: the critical bit says nothing on types that we know.
    pub fn into_payload(self, limits: &Limits) -> Result<Payload, ParseError> {
        let mut body = self.body;
        Ok(match self.kind {
            kind::SECURITY_ASSOCIATION => Payload::SecurityAssociation(security_association::parse(body, limits)?),
            kind::KEY_EXCHANGE => key_exchange::parse(body)?,
            kind::ID_INITIATOR => Payload::IdInitiator(Identification::parse(body)?),
            kind::ID_RESPONDER => Payload::IdResponder(Identification::parse(body)?),
            kind::CERTIFICATE => certificate::parse(body)?,
            kind::CERTIFICATE_REQUEST => certificate::parse_request(body)?,
            kind::AUTHENTICATION => authentication::parse(body)?,
            kind::NONCE => Payload::Nonce(nonce::parse(body)?),
            kind::NOTIFY => Payload::Notify(Notify::parse(body)?),
            kind::DELETE => Payload::Delete(Delete::parse(body, limits)?),
            kind::VENDOR_ID => Payload::VendorId(opaque::parse(body)),
            kind::SELECTORS_INITIATOR => Payload::SelectorsInitiator(traffic_selector::parse(body, limits)?),
            kind::SELECTORS_RESPONDER => Payload::SelectorsResponder(traffic_selector::parse(body, limits)?),
            kind::EAP => Payload::Eap(opaque::parse(body)),
            kind::CONFIGURATION => configuration::parse(body, limits)?,
            kind::ENCRYPTED | kind::ENCRYPTED_FRAGMENT => return Err(body.fail(Malformed::Encrypted)),
            kind if self.critical => return Err(ParseError::UnsupportedCritical(kind)),
            kind => Payload::Unknown { kind, critical: false, body: body.rest() },
        })
    }
}

/// The whole chain that begins with a payload of type `first` and fills `bytes`: a message in clear, or what was opened.
pub fn parse_payloads(first: u8, bytes: &[u8], limits: &Limits) -> Result<Vec<Payload>, ParseError> {
    let mut payloads = Vec::with_capacity(USUAL_PAYLOADS.min(limits.payloads));
    let (mut kind, mut at) = (first, 0);
    while kind != 0 {
        let generic = Generic::parse(kind, bytes, at, limits)?;
        if payloads.len() >= limits.payloads {
            return Err(ParseError::Malformed { payload: kind, offset: at, why: Malformed::OverLimit });
        }
        (kind, at) = (generic.next, generic.end());
        payloads.push(generic.into_payload(limits)?);
    }
    if at < bytes.len() {
        return Err(ParseError::Malformed { payload: 0, offset: at, why: Malformed::Trailing });
    }
    Ok(payloads)
}

/// Room at the start; most messages need no more.
const USUAL_PAYLOADS: usize = 12;
const USUAL_BYTES: usize = 512;

/// The type of the first payload (0: there is none), and the chain.
pub fn emit_payloads(payloads: &[Payload]) -> (u8, Vec<u8>) {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    for (i, payload) in payloads.iter().enumerate() {
        let start = out.len();
        let next = payloads.get(i + 1).map_or(0, Payload::kind);
        let critical = matches!(payload, Payload::Unknown { critical: true, .. });
        out.extend([next, u8::from(critical) * CRITICAL]);
        with_length(&mut out, start, |out| payload.emit_body(out));
    }
    (payloads.first().map_or(0, Payload::kind), out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(first: u8, bytes: &[u8], limits: &Limits) -> (u8, usize, Malformed) {
        match parse_payloads(first, bytes, limits) {
            Err(ParseError::Malformed { payload, offset, why }) => (payload, offset, why),
            other => panic!("{bytes:?}: {other:?}"),
        }
    }

    #[test]
    fn a_chain_names_the_next_type_in_front() {
        let bytes = [kind::EAP, 0, 0, 6, 1, 2, 0, 0, 0, 5, 3];
        let payloads = vec![Payload::VendorId(vec![1, 2]), Payload::Eap(vec![3])];
        assert_eq!(parse_payloads(kind::VENDOR_ID, &bytes, &Limits::default()), Ok(payloads.clone()));
        assert_eq!(emit_payloads(&payloads), (kind::VENDOR_ID, bytes.to_vec()));
        assert_eq!(parse_payloads(0, &[], &Limits::default()), Ok(vec![]));
        assert_eq!(emit_payloads(&[]), (0, vec![]));
    }

    #[test]
    fn lengths_that_lie_and_chains_that_do_not_end_where_the_bytes_do() {
        let limits = Limits::default();
        for length in [0, 3] {
            assert_eq!(why(kind::VENDOR_ID, &[0, 0, 0, length], &limits).2, Malformed::Length);
        }
        assert_eq!(why(kind::VENDOR_ID, &[0, 0, 0, 5], &limits).2, Malformed::Length);
        assert_eq!(why(kind::VENDOR_ID, &[0, 0, 0], &limits), (kind::VENDOR_ID, 2, Malformed::Short));
        assert_eq!(why(kind::VENDOR_ID, &[kind::EAP, 0, 0, 4], &limits), (kind::EAP, 4, Malformed::Short));
        assert_eq!(why(kind::VENDOR_ID, &[0, 0, 0, 4, 9], &limits), (0, 4, Malformed::Trailing));
        assert_eq!(why(0, &[9], &limits), (0, 0, Malformed::Trailing));
    }

    #[test]
    fn only_what_is_unknown_is_asked_for_its_critical_bit() {
        let limits = Limits::default();
        let unknown = Payload::Unknown { kind: 99, critical: false, body: vec![7] };
        assert_eq!(parse_payloads(99, &[0, 0x7f, 0, 5, 7], &limits), Ok(vec![unknown]));
        assert_eq!(parse_payloads(99, &[0, 0x80, 0, 5, 7], &limits), Err(ParseError::UnsupportedCritical(99)));
        assert_eq!(parse_payloads(kind::VENDOR_ID, &[0, 0x80, 0, 4], &limits), Ok(vec![Payload::VendorId(vec![])]));
        let critical = Payload::Unknown { kind: 99, critical: true, body: vec![] };
        assert_eq!(emit_payloads(&[critical]), (99, vec![0, 0x80, 0, 4]));
    }

    #[test]
    fn an_encrypted_payload_inside_is_refused() {
        for kind in [kind::ENCRYPTED, kind::ENCRYPTED_FRAGMENT] {
            assert_eq!(why(kind, &[0, 0, 0, 8, 0, 1, 0, 1], &Limits::default()).2, Malformed::Encrypted);
        }
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { payloads: 3, payload_bytes: 5, ..Limits::default() };
        let chain = |count: usize| [[kind::EAP, 0, 0, 4].repeat(count - 1), vec![0, 0, 0, 4]].concat();
        assert_eq!(parse_payloads(kind::EAP, &chain(3), &limits).unwrap().len(), 3);
        assert_eq!(why(kind::EAP, &chain(4), &limits), (kind::EAP, 12, Malformed::OverLimit));
        assert!(parse_payloads(kind::EAP, &[0, 0, 0, 9, 1, 2, 3, 4, 5], &limits).is_ok());
        assert_eq!(why(kind::EAP, &[0, 0, 0, 10, 1, 2, 3, 4, 5, 6], &limits).2, Malformed::OverLimit);
    }

    #[test]
    fn what_no_length_field_can_say_is_cut() {
        let (first, bytes) = emit_payloads(&[Payload::VendorId(vec![1; 70_000]), Payload::Eap(vec![2])]);
        let limits = Limits { payload_bytes: usize::MAX, ..Limits::default() };
        let payloads = parse_payloads(first, &bytes, &limits).unwrap();
        assert_eq!(payloads, [Payload::VendorId(vec![1; 65_531]), Payload::Eap(vec![2])]);
    }
}
