//! One function per fuzz target. Each takes any bytes, must not panic, and checks what must hold of whatever is accepted.
//!
//! `scripts/fuzz TARGET` explores with them, `tests/corpora.rs` replays `fuzz/corpus/TARGET`. A new target is a line in
//! [`TARGETS`], a file in `fuzz/targets` with an entry in `fuzz/Cargo.toml`, and a folder of seeds. What takes whole
//! endpoints (random input and time) is in files of its own beside this one.

#[path = "batch.rs"]
mod batch;
#[path = "dns.rs"]
mod dns;
#[path = "dns_forward.rs"]
mod dns_forward;
#[path = "dns_query.rs"]
mod dns_query;
#[path = "endpoint.rs"]
mod endpoint;
#[path = "esp.rs"]
mod esp;
#[path = "link.rs"]
mod link;
#[path = "napt.rs"]
mod napt;
#[path = "packet.rs"]
mod packet;
#[path = "reassembly.rs"]
mod reassembly;
#[path = "script.rs"]
mod script;
#[path = "translate.rs"]
mod translate;
#[path = "walk.rs"]
mod walk;

use ixgate::crypto::Group;
use ixgate::ike::diagnosis::Cause;
use ixgate::ike::proposal::{Profile, choose_esp, choose_ike, choose_ike_rekey, emit_esp, emit_ike};
use ixgate::net::selector::narrow;
use ixgate::wire::ike::{
    HEADER_BYTES, Header, Limits, Payload, Proposal, emit_message, emit_payloads, find_protected, kind, parse_header,
    parse_payloads,
};

/// A name, and what takes the bytes.
type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("crypto_batch", crypto_batch),
    ("dns_forward", dns_forward),
    ("dns_query", dns_query),
    ("dns_rewrite", dns_rewrite),
    ("endpoint", endpoint),
    ("esp_open", esp_open),
    ("ike_authentication", authentication),
    ("ike_certificate", certificate),
    ("ike_certificate_request", certificate_request),
    ("ike_configuration", configuration),
    ("ike_delete", delete),
    ("ike_eap", eap),
    ("ike_identification", identification),
    ("ike_key_exchange", key_exchange),
    ("ike_message", message),
    ("ike_nonce", nonce),
    ("ike_notify", notify),
    ("ike_protected", protected),
    ("ike_security_association", security_association),
    ("ike_traffic_selectors", traffic_selectors),
    ("ike_unknown", unknown),
    ("ike_vendor_id", vendor_id),
    ("link", link),
    ("napt", napt),
    ("reassembly", reassembly),
    ("translate", translate),
    ("walk", walk),
];

/// Of a script, how much came of what its target is about.
type Depth = (&'static str, fn(&[u8]) -> usize);

/// Scripts that nothing comes of explore nothing.
#[allow(dead_code)] // the binaries need only the checks
pub const DEPTHS: &[Depth] = &[
    ("dns_forward", dns_forward::forward),
    ("dns_query", dns_query::query),
    ("dns_rewrite", dns_forward::rewrite),
    ("link", link::link),
    ("napt", napt::napt),
    ("reassembly", reassembly::reassembly),
    ("translate", translate::translate),
    ("walk", walk::walk),
];

/// Packets sealed and opened side by side: see `batch.rs`.
pub fn crypto_batch(script: &[u8]) {
    batch::batch(script);
}

/// Askers, resolvers and time: see `dns_forward.rs`.
pub fn dns_forward(script: &[u8]) {
    dns_forward::forward(script);
}

/// One query: see `dns_query.rs`.
pub fn dns_query(bytes: &[u8]) {
    dns_query::query(bytes);
}

/// One question and resolvers that say what they like: see `dns_forward.rs`.
pub fn dns_rewrite(script: &[u8]) {
    dns_forward::rewrite(script);
}

/// Two gateways and a network between them: see `endpoint.rs`.
pub fn endpoint(script: &[u8]) {
    endpoint::endpoint(script);
}

/// ESP from a peer that has the keys: see `esp.rs`.
pub fn esp_open(script: &[u8]) {
    esp::open(script);
}

/// Ports and who shares their links: see `link.rs`.
pub fn link(script: &[u8]) {
    link::link(script);
}

/// Bindings and their blocks: see `napt.rs`.
pub fn napt(script: &[u8]) {
    napt::napt(script);
}

/// Fragments: see `reassembly.rs`.
pub fn reassembly(script: &[u8]) {
    reassembly::reassembly(script);
}

/// One packet through the translators: see `translate.rs`.
pub fn translate(bytes: &[u8]) {
    translate::translate(bytes);
}

/// An appliance and its sites: see `walk.rs`.
pub fn walk(script: &[u8]) {
    walk::walk(script);
}

/// A datagram as a stranger sends it.
pub fn message(datagram: &[u8]) {
    let peeked = Header::peek(datagram);
    let Ok(header) = parse_header(datagram) else { return };
    assert_eq!(peeked, Some(header));
    let limits = Limits::default();
    let body = &datagram[HEADER_BYTES..];
    if let Ok(payloads) = parse_payloads(header.next_payload, body, &limits) {
        assert_eq!(find_protected(header.next_payload, datagram, &limits), Ok(None));
        stays_the_same(&payloads);
        let emitted = emit_message(&header, &payloads);
        assert!(emitted.len() <= datagram.len(), "emitting never adds anything");
    }
}

/// The same from the end of the header on, so that no length field stands in the way: the first byte is the type.
pub fn protected(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let datagram = [&[0; HEADER_BYTES], rest].concat();
    let Ok(Some(found)) = find_protected(*first, &datagram, &Limits::default()) else { return };
    assert_eq!((found.associated.start, found.associated.end), (0, found.body.start));
    assert!(found.body.start > HEADER_BYTES && found.body.start < found.body.end && found.body.end == datagram.len());
    assert!(found.fragment.is_none_or(|fragment| (1..=fragment.total).contains(&fragment.number)));
    stays_the_same(&found.clear);
}

pub fn security_association(body: &[u8]) {
    for payload in payloads(kind::SECURITY_ASSOCIATION, body) {
        let Payload::SecurityAssociation(proposals) = payload else { unreachable!() };
        choose(&proposals);
    }
}

/// Whatever is chosen was offered, and whatever is refused can be told in words.
fn choose(proposals: &[Proposal]) {
    for profile in Profile::ALL {
        for sent in [None, Some(Group::X25519), Some(Group::Modp2048)] {
            match choose_ike(proposals, &[profile], sent.map(Group::id)) {
                Ok(choice) => was_offered(&emit_ike(&choice, &[]), proposals),
                Err(cause) => is_told(&cause),
            }
            match choose_ike_rekey(proposals, profile, sent) {
                Ok((choice, spi)) => was_offered(&emit_ike(&choice, &spi.to_be_bytes()), proposals),
                Err(cause) => is_told(&cause),
            }
            for sent in [None, Some(sent)] {
                match choose_esp(proposals, profile, sent) {
                    Ok((choice, spi)) => was_offered(&emit_esp(&choice, spi), proposals),
                    Err(cause) => is_told(&cause),
                }
            }
        }
    }
}

fn was_offered(answer: &Proposal, proposals: &[Proposal]) {
    let fits = |offer: &Proposal| {
        let kinds = |kind| answer.transforms.iter().filter(|one| one.kind == kind).count();
        (offer.number, offer.protocol) == (answer.number, answer.protocol)
            && answer.transforms.iter().all(|one| offer.transforms.contains(one) && kinds(one.kind) == 1)
    };
    assert!(proposals.iter().any(fits), "{answer:?} was not offered");
}

fn is_told(cause: &Cause) {
    let text = cause.explain().to_string();
    assert!(text.len() < 16_384, "{} bytes", text.len());
}

pub fn traffic_selectors(body: &[u8]) {
    for payload in payloads(kind::SELECTORS_INITIATOR, body) {
        let Payload::SelectorsInitiator(offered) = payload else { unreachable!() };
        let narrowed = narrow(&offered, &offered, 16);
        assert!(narrowed.len() <= 16 && narrowed.is_empty() == offered.is_empty());
        for one in narrowed {
            assert!(offered.iter().any(|offer| offer.contains(&one)));
            assert!(!one.to_string().is_empty());
        }
    }
}

pub fn key_exchange(body: &[u8]) {
    payloads(kind::KEY_EXCHANGE, body);
}

pub fn identification(body: &[u8]) {
    payloads(kind::ID_INITIATOR, body);
    payloads(kind::ID_RESPONDER, body);
}

pub fn certificate(body: &[u8]) {
    payloads(kind::CERTIFICATE, body);
}

pub fn certificate_request(body: &[u8]) {
    payloads(kind::CERTIFICATE_REQUEST, body);
}

pub fn authentication(body: &[u8]) {
    payloads(kind::AUTHENTICATION, body);
}

pub fn nonce(body: &[u8]) {
    payloads(kind::NONCE, body);
}

pub fn notify(body: &[u8]) {
    payloads(kind::NOTIFY, body);
}

pub fn delete(body: &[u8]) {
    payloads(kind::DELETE, body);
}

pub fn vendor_id(body: &[u8]) {
    payloads(kind::VENDOR_ID, body);
}

pub fn configuration(body: &[u8]) {
    payloads(kind::CONFIGURATION, body);
}

pub fn eap(body: &[u8]) {
    payloads(kind::EAP, body);
}

/// The first byte is the type, of which some are known after all.
pub fn unknown(bytes: &[u8]) {
    if let Some((kind, body)) = bytes.split_first() {
        payloads(*kind, body);
    }
}

/// What a payload of type `kind` with this body is parsed to: one, or none if it is refused.
fn payloads(kind: u8, body: &[u8]) -> Vec<Payload> {
    let Ok(length) = u16::try_from(body.len() + 4) else { return Vec::new() };
    let bytes = [&[0, 0], &length.to_be_bytes()[..], body].concat();
    let payloads = parse_payloads(kind, &bytes, &Limits::default()).unwrap_or_default();
    stays_the_same(&payloads);
    payloads
}

/// What was parsed is emitted as what parses to the same.
fn stays_the_same(payloads: &[Payload]) {
    // Selectors of unknown types are left out; a payload of nothing else cannot be sent again.
    let is_empty = |payload: &Payload| matches!(payload, Payload::SelectorsInitiator(all) | Payload::SelectorsResponder(all) if all.is_empty());
    if payloads.iter().any(is_empty) {
        return;
    }
    let (first, bytes) = emit_payloads(payloads);
    assert_eq!(parse_payloads(first, &bytes, &Limits::default()).as_deref(), Ok(payloads));
}
