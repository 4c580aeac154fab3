//! The zone's behaviour, question by question.

use hickory_proto::op::{Edns, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::fixture::*;
use super::*;
use crate::net::RealmId;

#[test]
fn the_same_name_is_another_address_for_every_asker() {
    let world = world();
    for (asker, name, record_type, want) in [
        (A, "pacs.b.ix.example.", RecordType::A, &["100.64.2.20"][..]),
        (A, "pacs.ix.example.", RecordType::A, &["100.64.2.20"]),
        (A, "pacs.ix.example.", RecordType::AAAA, &["2001:db8:b::20"]),
        (A, "pacs.ix.example.", RecordType::ANY, &["100.64.2.20"]),
        (B, "pacs.b.ix.example.", RecordType::A, &["192.168.1.20"]),
        (B, "pacs.b.ix.example.", RecordType::AAAA, &["fd00:1::20"]),
        (B, "pacs.ix.example.", RecordType::A, &["192.168.1.20"]),
        (B, "ws.a.ix.example.", RecordType::A, &["100.64.1.10"]),
        (B, "ws.a.ix.example.", RecordType::AAAA, &[]),
        (C, "ws.c.ix.example.", RecordType::A, &["192.168.1.10"]),
        (A, "ns.ix.example.", RecordType::A, &["100.127.255.1"]),
        (A, "ns.ix.example.", RecordType::AAAA, &["fd69:7867:6174::c000:201"]),
        (C, "ns.ix.example.", RecordType::AAAA, &[]), // C speaks no IPv6
    ] {
        assert_eq!(world.addresses(asker, name, record_type), want, "{asker} {name} {record_type}");
    }
}

/// The host's own IP version wherever the asker speaks it; the other only where there is no choice.
#[test]
fn a_host_of_the_other_ip_version_has_an_address_for_each_asker() {
    let world = world();
    for (asker, name, a, aaaa) in [
        (FOUR, "pacs.b.ix.example.", Some("100.64.2.20"), None),
        (FOUR, "four.b.ix.example.", Some("100.64.2.44"), None),
        (FOUR, "six.b.ix.example.", Some("100.64.5.66"), None),
        (SIX, "pacs.b.ix.example.", None, Some("2001:db8:b::20")),
        (SIX, "four.b.ix.example.", None, Some("fd69:7867:6174:2::c0a8:12c")),
        (SIX, "six.b.ix.example.", None, Some("2001:db8:b::66")),
        (SIX, "ns.ix.example.", None, Some("fd69:7867:6174::c000:201")),
        (B, "four.b.ix.example.", Some("192.168.1.44"), None),
        (B, "six.b.ix.example.", None, Some("fd00:1::66")),
        (B, "ws.a.ix.example.", Some("100.64.1.10"), None),
    ] {
        let got = |kind| world.addresses(asker, name, kind);
        let want = |address: Option<&str>| address.map(str::to_owned).into_iter().collect::<Vec<_>>();
        assert_eq!((got(RecordType::A), got(RecordType::AAAA)), (want(a), want(aaaa)), "{asker} {name}");
        assert_eq!(got(RecordType::ANY), want(a.or(aaaa)), "{asker} {name} ANY");
    }
    // And back.
    for (asker, address, name) in
        [(FOUR, "100.64.5.66", "six.b.ix.example."), (SIX, "fd69:7867:6174:2::c0a8:12c", "four.b.ix.example.")]
    {
        let reverse = Name::from(address.parse::<std::net::IpAddr>().unwrap());
        let answer = world.ask(asker, &query_of(reverse, RecordType::PTR, true));
        assert_eq!(answer.answers[0].data.to_string(), name);
    }
}

#[test]
fn no_path_no_address_and_says_why() {
    let world = world();
    for (asker, name) in [
        (C, "pacs.b.ix.example."),
        (C, "ws.a.ix.example."),
        (A, "six.b.ix.example."),
        (A, "ws.c.ix.example."),
        (A, "dicom.ix.example."), // the host is reachable, this service of it is not
    ] {
        let answer = world.lookup(asker, name, RecordType::A);
        assert_eq!(answer.response_code, ResponseCode::NXDomain, "{asker} {name}");
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
        let realm = if asker == A { "a" } else { "c" };
        assert_eq!(extended_error(&answer), Some((18, format!("No grant lets realm {realm} reach this name."))));
        // And nothing that the asker did not ask for: no OPT without OPT.
        let plain = world.ask(asker, &query(name, RecordType::A, false));
        assert_eq!(plain.response_code, ResponseCode::NXDomain);
        assert!(plain.edns.is_none());
    }
}

#[test]
fn a_name_that_does_not_exist_is_denied_without_an_explanation() {
    let world = world();
    for name in ["nobody.b.ix.example.", "x.pacs.b.ix.example.", "nowhere.ix.example."] {
        let answer = world.lookup(A, name, RecordType::A);
        assert_eq!(answer.response_code, ResponseCode::NXDomain, "{name}");
        assert!(answer.authoritative && !answer.recursion_available && answer.recursion_desired);
        assert_eq!(extended_error(&answer), None);
        let soa = &answer.authorities[0];
        assert_eq!((soa.name.to_string().as_str(), soa.ttl), ("ix.example.", 30));
    }
}

#[test]
fn names_in_between_exist_and_are_empty() {
    let world = world();
    for (name, record_type) in [
        ("a.ix.example.", RecordType::A),
        ("a.ix.example.", RecordType::ANY),
        ("pacs.ix.example.", RecordType::TXT),
        ("ix.example.", RecordType::A),
        ("64.100.in-addr.arpa.", RecordType::PTR),
        ("100.in-addr.arpa.", RecordType::NS),
        ("6.8.7.9.6.d.f.ip6.arpa.", RecordType::PTR),
    ] {
        let answer = world.lookup(A, name, record_type);
        assert_eq!(answer.response_code, ResponseCode::NoError, "{name}");
        assert!(answer.answers.is_empty(), "{name}");
        assert!(answer.authorities[0].name.zone_of(answer.queries[0].name()), "{name}");
    }
}

#[test]
fn a_denied_service_with_a_realms_name_does_not_deny_the_realm() {
    let mut spec = spec();
    spec.services[1].name = "b".into();
    let world = World { zone: Zone::new(spec).unwrap(), ..world() };
    let answer = world.lookup(A, "b.ix.example.", RecordType::A);
    assert_eq!((answer.response_code, answer.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(world.addresses(B, "b.ix.example.", RecordType::A), ["192.168.1.20"]);
    assert_eq!(world.addresses(A, "pacs.b.ix.example.", RecordType::A), ["100.64.2.20"]);
}

#[test]
fn the_apex_has_soa_and_ns() {
    let world = world();
    let soa = world.lookup(A, "ix.example.", RecordType::SOA);
    let RData::SOA(data) = &soa.answers[0].data else { panic!("{soa}") };
    assert_eq!((data.serial, data.minimum, data.mname.to_string().as_str()), (7, 30, "ns.ix.example."));
    let ns = world.lookup(A, "ix.example.", RecordType::NS);
    assert_eq!(ns.answers[0].data.to_string(), "ns.ix.example.");
}

#[test]
fn the_case_of_the_question_is_given_back() {
    let world = world();
    let answer = world.lookup(A, "PaCs.B.iX.eXaMpLe.", RecordType::A);
    let want = Name::from_ascii("PaCs.B.iX.eXaMpLe.").unwrap();
    assert!(answer.queries[0].name().eq_case(&want));
    assert!(answer.answers[0].name.eq_case(&want));
    assert_eq!(answer.answers[0].ttl, 60);
}

#[test]
fn addresses_have_names_where_the_asker_may_go() {
    let world = world();
    let ptr = |asker, addr: &str| {
        let name = Name::from(addr.parse::<std::net::IpAddr>().unwrap());
        let answer = world.ask(asker, &query_of(name, RecordType::PTR, true));
        let name = answer.answers.first().map(|record| record.data.to_string()).unwrap_or_default();
        (answer.response_code, name, extended_error(&answer).map(|(code, _)| code))
    };
    let found = |name: &str| (ResponseCode::NoError, name.to_owned(), None);
    let unknown = (ResponseCode::NXDomain, String::new(), None);
    let refused = (ResponseCode::Refused, String::new(), Some(20));
    for (asker, addr, want) in [
        (A, "100.64.2.20", found("pacs.b.ix.example.")),
        (A, "192.168.1.10", found("ws.a.ix.example.")),
        (C, "192.168.1.10", found("ws.c.ix.example.")),
        (A, "2001:db8:b::20", found("pacs.b.ix.example.")),
        (B, "fd00:1::20", found("pacs.b.ix.example.")),
        (A, "fd69:7867:6174:2::c0a8:114", found("pacs.b.ix.example.")),
        (A, "100.127.255.1", found("ns.ix.example.")),
        (C, "100.64.2.20", unknown.clone()), // has a name that C may not reach: as if it had none
        (A, "100.64.3.10", unknown.clone()),
        (A, "100.64.2.77", unknown.clone()),                // in B's alias, no host
        (A, "100.99.9.9", unknown.clone()),                 // in alias4, nobody's
        (A, "fd69:7867:6174:2::c0a8:177", unknown.clone()), // canonical, no host
        (A, "fd69:7867:6174:77::1", unknown),
        (A, "192.168.1.11", refused.clone()), // A's own business
        (A, "8.8.8.8", refused.clone()),
        (A, "2001:db8:c::1", refused),
    ] {
        assert_eq!(ptr(asker, addr), want, "{asker} {addr}");
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let world = world();
    for (name, record_type) in [
        ("example.", RecordType::A),
        ("www.example.com.", RecordType::A),
        (".", RecordType::NS),
        ("matrix.example.", RecordType::A),
        ("in-addr.arpa.example.", RecordType::PTR),
    ] {
        let answer = world.lookup(A, name, record_type);
        assert_eq!(answer.response_code, ResponseCode::Refused, "{name}");
        assert!(!answer.authoritative && answer.authorities.is_empty());
        assert_eq!(extended_error(&answer).unwrap().0, 20);
    }
    for record_type in [RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(world.lookup(A, "ix.example.", record_type).response_code, ResponseCode::Refused);
    }
    let mut chaos = query("ix.example.", RecordType::TXT, false);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(world.ask(A, &chaos).response_code, ResponseCode::Refused);
}

#[test]
fn odd_headers_are_answered_in_kind() {
    let world = world();
    let base = query("pacs.ix.example.", RecordType::A, true);

    let mut update = base.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(world.ask(A, &update).response_code, ResponseCode::NotImp);

    let mut two = base.clone();
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(world.ask(A, &two).response_code, ResponseCode::FormErr);
    let mut none = base.clone();
    none.queries.clear();
    assert_eq!(world.ask(A, &none).response_code, ResponseCode::FormErr);

    let mut future = base.clone();
    let mut edns = Edns::new();
    edns.set_version(1).set_dnssec_ok(true);
    future.set_edns(edns);
    let answer = world.ask(A, &future);
    // By number: hickory reads 16 back as BADSIG, which has the same one.
    assert_eq!((u16::from(answer.response_code), answer.version()), (16, 0));
    assert!(answer.edns.unwrap().flags().dnssec_ok && answer.answers.is_empty());

    let mut bytes = base.to_vec().unwrap();
    bytes.push(0);
    let (answer, _) = world.exchange(A, Transport::Udp, &bytes).unwrap();
    assert_eq!((answer.id, answer.response_code), (0x1234, ResponseCode::FormErr), "trailing bytes");

    let mut response = base;
    response.metadata.message_type = MessageType::Response;
    assert!(world.exchange(A, Transport::Udp, &response.to_vec().unwrap()).is_none());
    assert!(world.exchange(A, Transport::Udp, &[0; 11]).is_none());
}

#[test]
fn a_query_stuffed_with_records_is_not_parsed() {
    let mut bytes = query("pacs.ix.example.", RecordType::A, false).to_vec().unwrap();
    bytes[10..12].copy_from_slice(&5000u16.to_be_bytes());
    let (answer, _) = world().exchange(A, Transport::Tcp, &bytes).unwrap();
    assert_eq!(answer.response_code, ResponseCode::FormErr);
}

/// A host with more addresses than configuration allows, to reach every limit.
fn crowded(addresses: u8) -> World {
    let mut spec = spec();
    spec.hosts[1].addresses = (1..=addresses).map(|i| canonical4(B, &format!("192.168.1.{i}"))).collect();
    World { zone: Zone::new(spec).unwrap(), ..world() }
}

#[test]
fn what_does_not_fit_is_truncated_whole_and_comes_over_tcp() {
    for (edns_payload, limit) in [(None, 512), (Some(512), 512), (Some(100), 512), (Some(4096), 1232), (Some(900), 900)]
    {
        let mut question = query("pacs.b.ix.example.", RecordType::A, false);
        if let Some(payload) = edns_payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            question.set_edns(edns);
        }
        let bytes = question.to_vec().unwrap();
        let mut largest = 0;
        for count in [2u8, 20, 26, 29, 30, 31, 52, 54, 60, 70, 75, 100, 250] {
            let world = crowded(count);
            let (answer, raw) = world.exchange(B, Transport::Udp, &bytes).unwrap();
            assert!(raw.len() <= limit, "{edns_payload:?}: {} > {limit}", raw.len());
            assert_eq!(answer.edns.is_some(), edns_payload.is_some());
            assert_eq!(answer.queries, question.queries);
            assert_eq!(answer.answers.len(), if answer.truncation { 0 } else { count.into() });
            largest = largest.max(raw.len());
            let (answer, _) = world.exchange(B, Transport::Tcp, &bytes).unwrap();
            assert_eq!((answer.answers.len(), answer.truncation), (count.into(), false));
        }
        assert!(largest > limit / 2, "the limit is used: {largest} of {limit}");
        assert!(crowded(250).exchange(B, Transport::Udp, &bytes).unwrap().0.truncation);
    }
}

#[test]
fn a_zone_with_names_that_clash_is_refused() {
    let error = |change: fn(&mut ZoneSpec)| {
        let mut spec = spec();
        change(&mut spec);
        Zone::new(spec).unwrap_err()
    };
    assert!(matches!(error(|s| s.services[0].name = "NS".into()), ZoneError::Reserved { .. }));
    assert!(matches!(error(|s| s.services[0].name = "Dicom".into()), ZoneError::Duplicate { .. }));
    assert!(matches!(error(|s| s.hosts[2].name = "pacs".into()), ZoneError::Duplicate { .. }));
    assert!(matches!(error(|s| s.hosts[0].name = "a.b".into()), ZoneError::InvalidName { .. }));
    assert!(matches!(error(|s| s.hosts[0].name = "x".repeat(64)), ZoneError::InvalidName { .. }));
    assert!(matches!(error(|s| s.domain = "a..b".into()), ZoneError::InvalidName { .. }));
    assert!(matches!(error(|s| s.hosts[0].realm = RealmId(9)), ZoneError::UnknownRealm { .. }));
}
