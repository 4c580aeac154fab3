//! Parsing and emitting together; each payload by hand-written bytes in its own file.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::net::Selector;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

fn transform() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u16>(), any::<Option<u16>>()).prop_map(|(kind, id, key_bits)| Transform { kind, id, key_bits })
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let spi = prop_oneof![
        Just((Protocol::Ike, 0)),
        Just((Protocol::Ike, 8)),
        Just((Protocol::Ah, 4)),
        Just((Protocol::Esp, 4)),
        (0usize..12).prop_map(|bytes| (Protocol::Other(77), bytes)),
    ];
    (any::<u8>(), spi, any::<[u8; 12]>(), vec(transform(), 1..20)).prop_map(
        |(number, (protocol, len), spi, transforms)| Proposal {
            number,
            protocol,
            spi: spi[..len].to_vec(),
            transforms,
        },
    )
}

fn selector() -> impl Strategy<Value = Selector> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let ports = prop_oneof![(any::<u16>(), any::<u16>()).prop_map(|(a, b)| (a.min(b), a.max(b))), Just((u16::MAX, 0)),];
    (prop_oneof![v4, v6], any::<u8>(), ports).prop_map(|((a, b), protocol, (first_port, last_port))| Selector {
        protocol,
        first_port,
        last_port,
        first: a.min(b),
        last: a.max(b),
    })
}

fn identification() -> impl Strategy<Value = Identification> {
    prop_oneof![
        (6u8.., bytes(40)).prop_map(|(kind, data)| Identification { kind, data }),
        any::<[u8; 4]>().prop_map(|data| Identification { kind: id_kind::IPV4_ADDR, data: data.to_vec() }),
        any::<[u8; 16]>().prop_map(|data| Identification { kind: id_kind::IPV6_ADDR, data: data.to_vec() }),
    ]
}

fn payload() -> impl Strategy<Value = Payload> {
    let notify = (any::<u8>(), prop_oneof![Just(0), Just(4), Just(8)], any::<[u8; 8]>(), any::<u16>(), bytes(40))
        .prop_map(|(protocol, len, spi, kind, data)| {
            Payload::Notify(Notify { protocol, spi: spi[..len].to_vec(), kind, data })
        });
    let delete = vec(any::<[u8; 4]>(), 0..9).prop_map(|spis| {
        Payload::Delete(Delete { protocol: Protocol::Esp, spis: spis.into_iter().map(|spi| spi.to_vec()).collect() })
    });
    let attributes = vec((0u16..0x8000, bytes(20)), 0..8);
    let opaque = (prop_oneof![1u8..33, 49u8..53, 54u8..], bytes(40)).prop_map(|(kind, body)| Payload::Unknown {
        kind,
        critical: false,
        body,
    });
    let with_byte = |make: fn(u8, Vec<u8>) -> Payload| (any::<u8>(), bytes(40)).prop_map(move |(a, b)| make(a, b));
    prop_oneof![
        vec(proposal(), 1..5).prop_map(Payload::SecurityAssociation),
        (any::<u16>(), vec(any::<u8>(), 1..90)).prop_map(|(group, data)| Payload::KeyExchange { group, data }),
        identification().prop_map(Payload::IdInitiator),
        identification().prop_map(Payload::IdResponder),
        with_byte(|encoding, data| Payload::Certificate { encoding, data }),
        with_byte(|encoding, data| Payload::CertificateRequest { encoding, data }),
        with_byte(|method, data| Payload::Authentication { method, data }),
        vec(any::<u8>(), 16..=256).prop_map(Payload::Nonce),
        notify,
        delete,
        bytes(40).prop_map(Payload::VendorId),
        vec(selector(), 1..9).prop_map(Payload::SelectorsInitiator),
        vec(selector(), 1..9).prop_map(Payload::SelectorsResponder),
        bytes(40).prop_map(Payload::Eap),
        (any::<u8>(), attributes).prop_map(|(kind, attributes)| Payload::Configuration { kind, attributes }),
        opaque,
    ]
}

fn header() -> impl Strategy<Value = Header> {
    (any::<(u64, u64)>(), any::<u8>(), any::<(bool, bool)>(), any::<u32>()).prop_map(|(spis, exchange, flags, id)| {
        Header::new(spis, ExchangeType(exchange), Flags { initiator: flags.0, response: flags.1 }, id)
    })
}

/// Bytes that parsed values hold, as an upper bound of what was allocated for them: lists may have twice the room they
/// need, and the smallest allocation is taken for 16 bytes.
fn held(payloads: &[Payload]) -> usize {
    let buffer = |bytes: &Vec<u8>| if bytes.is_empty() { 0 } else { bytes.len().max(16) };
    let list = |count: usize, each: usize| 2 * count.max(4) * each;
    let own: usize = payloads
        .iter()
        .map(|payload| match payload {
            Payload::SecurityAssociation(proposals) => {
                let inner =
                    proposals.iter().map(|one| buffer(&one.spi) + list(one.transforms.len(), size_of::<Transform>()));
                list(proposals.len(), size_of::<Proposal>()) + inner.sum::<usize>()
            }
            Payload::SelectorsInitiator(all) | Payload::SelectorsResponder(all) => {
                list(all.len(), size_of::<Selector>())
            }
            Payload::Delete(delete) => {
                list(delete.spis.len(), size_of::<Vec<u8>>()) + delete.spis.iter().map(buffer).sum::<usize>()
            }
            Payload::Configuration { attributes, .. } => {
                list(attributes.len(), 32) + attributes.iter().map(|(_, value)| buffer(value)).sum::<usize>()
            }
            Payload::Notify(notify) => buffer(&notify.spi) + buffer(&notify.data),
            Payload::IdInitiator(id) | Payload::IdResponder(id) => buffer(&id.data),
            Payload::KeyExchange { data, .. }
            | Payload::Certificate { data, .. }
            | Payload::CertificateRequest { data, .. }
            | Payload::Authentication { data, .. }
            | Payload::Nonce(data)
            | Payload::VendorId(data)
            | Payload::Eap(data)
            | Payload::Unknown { body: data, .. } => buffer(data),
        })
        .sum();
    own + list(payloads.len(), size_of::<Payload>())
}

/// The worst is a chain of empty payloads: 4 bytes on the wire, and a `Payload` with room for growth here.
fn assert_small(payloads: &[Payload], input_bytes: usize) {
    assert!(held(payloads) <= 64 * input_bytes + 1024, "{} bytes for {input_bytes}", held(payloads));
}

proptest! {
    #[test]
    fn what_is_emitted_parses_to_itself(header in header(), payloads in vec(payload(), 0..8)) {
        let message = emit_message(&header, &payloads);
        let parsed = parse_header(&message).unwrap();
        let first = payloads.first().map_or(0, Payload::kind);
        prop_assert_eq!(parsed, Header { next_payload: first, length: message.len() as u32, ..header });
        let again = parse_payloads(parsed.next_payload, &message[HEADER_BYTES..], &Limits::default()).unwrap();
        prop_assert_eq!(&again, &payloads);
        assert_small(&again, message.len());
        // In clear, so there is nothing protected in it.
        prop_assert_eq!(find_protected(first, &message, &Limits::default()), Ok(None));
    }

    #[test]
    fn what_parses_is_emitted_as_what_parses_the_same(first in 33u8..54, bytes in bytes(200)) {
        // The bytes may differ (reserved bits), the meaning may not.
        if let Ok(payloads) = parse_payloads(first, &bytes, &Limits::default()) {
            let has_no_selectors = |payload: &Payload| {
                matches!(payload, Payload::SelectorsInitiator(all) | Payload::SelectorsResponder(all) if all.is_empty())
            };
            prop_assume!(!payloads.iter().any(has_no_selectors)); // all of unknown types: gone
            let (kind, emitted) = emit_payloads(&payloads);
            prop_assert_eq!(parse_payloads(kind, &emitted, &Limits::default()), Ok(payloads));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_grow(first in any::<u8>(), bytes in bytes(2000)) {
        if let Ok(payloads) = parse_payloads(first, &bytes, &Limits::default()) {
            assert_small(&payloads, bytes.len());
        }
        let _ = parse_header(&bytes);
        let _ = find_protected(first, &bytes, &Limits::default());
    }

    #[test]
    fn mutated_messages_never_panic_nor_grow(
        header in header(),
        payloads in vec(payload(), 1..6),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut message = emit_message(&header, &payloads);
        for (at, value) in changes {
            let at = at.index(message.len());
            message[at] = value;
        }
        for message in [&message[..], &message[..cut.index(message.len())]] {
            let first = Header::peek(message).map_or(payloads[0].kind(), |header| header.next_payload);
            let _ = find_protected(first, message, &Limits::default());
            let body = message.get(HEADER_BYTES..).unwrap_or_default();
            if let Ok(parsed) = parse_payloads(first, body, &Limits::default()) {
                assert_small(&parsed, body.len());
            }
        }
    }

    #[test]
    fn protected_bodies_lie_where_they_were_laid(
        header in header(),
        inner in any::<u8>(),
        body_bytes in 1usize..3000,
        fragment in prop::option::of((1u16..=64).prop_flat_map(|total| (1..=total, Just(total)))),
    ) {
        let fragment = fragment.map(|(number, total)| Fragment { number, total });
        let (message, associated, body) = lay_out_protected(&header, inner, fragment, body_bytes);
        let parsed = parse_header(&message).unwrap();
        let found = find_protected(parsed.next_payload, &message, &Limits::default()).unwrap().unwrap();
        prop_assert_eq!(found, Protected { clear: vec![], inner_first: inner, associated, body: body.clone(), fragment });
        prop_assert_eq!(body.len(), body_bytes);
    }
}

#[test]
fn the_worst_amplification_stays_small() {
    let limits = Limits::default();
    let empty = [[kind::EAP, 0, 0, 4].repeat(limits.payloads - 1), vec![0, 0, 0, 4]].concat();
    let payloads = parse_payloads(kind::EAP, &empty, &limits).unwrap();
    assert_eq!(payloads.len(), limits.payloads);
    assert_small(&payloads, empty.len());
}
