//! What is answered: rewritten for the asker, or left out and said.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::{IpHint, Mandatory, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A as A4, AAAA, HTTPS, MX, NULL, PTR, TXT};
use hickory_proto::rr::{RData, Record, RecordType};

use super::fixture::*;
use super::*;
use crate::dns::fixture::{A, B, C, addresses, extended_error, query};

mod networks;
mod resolvers;
mod versions;

fn texts(message: &Message) -> Vec<String> {
    addresses(message).iter().map(|addr| addr.to_string()).collect()
}

fn outcome(message: &Message) -> (ResponseCode, Vec<String>, Option<u16>) {
    (message.metadata.response_code, texts(message), extended_error(message).map(|(code, _)| code))
}

/// B may reach all of A; A may reach B's 192.168.1.20 alone; C nothing.
#[test]
fn an_answer_is_rewritten_into_the_askers_view() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    scene.knows(Some(A), "ws.a.local.", address("192.168.1.10"));
    let answer = scene.ask(A, "PACS.b.local.", RecordType::A);
    assert_eq!(outcome(&answer), (ResponseCode::NoError, vec!["100.64.2.20".into()], None));
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative && !answer.metadata.authentic_data);
    assert_eq!(answer.answers[0].name.to_string(), "PACS.b.local.");
    assert_eq!(answer.answers[0].ttl, 60, "the mapping bounds it");
    assert_eq!(texts(&scene.ask(B, "ws.a.local.", RecordType::A)), ["100.64.1.10"]);
    let (upstream, transport, asked) = &scene.asked[0];
    assert_eq!((upstream, *transport), (&resolver(B, "192.168.1.53"), Transport::Udp));
    let edns = asked.edns.as_ref().unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok, asked.metadata.recursion_desired), (1232, false, true));
}

#[test]
fn a_realm_asks_for_its_own_names_and_nothing_is_changed() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "any.b.local.", address("192.168.1.99"));
    scene.knows(Some(B), "any.b.local.", address("10.77.0.1"));
    let answer = scene.ask(B, "any.b.local.", RecordType::A);
    assert_eq!(outcome(&answer), (ResponseCode::NoError, vec!["192.168.1.99".into(), "10.77.0.1".into()], None));
    assert_eq!(answer.answers[0].ttl, 3600);
}

#[test]
fn what_is_not_granted_or_cannot_be_mapped_is_left_out_and_said() {
    let mut scene = Scene::new();
    for addr in ["192.168.1.20", "192.168.1.21", "10.1.1.1"] {
        scene.knows(Some(B), "mixed.b.local.", address(addr));
    }
    scene.knows(Some(B), "secret.b.local.", address("192.168.1.21"));
    scene.knows(Some(B), "far.b.local.", address("10.1.1.1"));
    let granted = |scene: &mut Scene, name| outcome(&scene.ask(A, name, RecordType::A));
    assert_eq!(granted(&mut scene, "mixed.b.local."), (ResponseCode::NoError, vec!["100.64.2.20".into()], Some(18)));
    assert_eq!(granted(&mut scene, "secret.b.local."), (ResponseCode::NoError, vec![], Some(18)));
    assert_eq!(granted(&mut scene, "far.b.local."), (ResponseCode::NoError, vec![], Some(17)));
    // And out of the cache the same.
    assert_eq!(granted(&mut scene, "secret.b.local."), (ResponseCode::NoError, vec![], Some(18)));
    assert_eq!(scene.asked.len(), 3);
}

#[test]
fn who_has_no_grant_towards_the_realm_may_not_ask() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    let answer = scene.ask(C, "pacs.b.local.", RecordType::A);
    assert_eq!(outcome(&answer), (ResponseCode::NXDomain, vec![], Some(18)));
    assert!(answer.authorities.is_empty() && scene.asked.is_empty());
    let answer = scene.ask(A, "www.elsewhere.", RecordType::A);
    assert_eq!(outcome(&answer), (ResponseCode::Refused, vec![], Some(20)));
}

#[test]
fn the_internal_zone_wins() {
    let mut scene = Scene::new();
    scene.publish(
        Routes::new([RouteSpec { domain: "".into(), owner: Some(B), resolvers: vec![resolver(B, "192.168.1.53")] }])
            .unwrap(),
    );
    assert_eq!(texts(&scene.ask(A, "pacs.ix.example.", RecordType::A)), ["100.64.2.20"]);
    assert_eq!(scene.ask(A, "nobody.ix.example.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    assert!(scene.asked.is_empty());
    scene.ask(A, "else.where.", RecordType::A);
    assert_eq!(scene.asked.len(), 1);
}

#[test]
fn an_alias_that_leaves_the_domain_is_looked_up_for_the_same_asker() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "zone.b.local.", alias("pacs.ix.example."));
    scene.knows(Some(B), "inner.b.local.", alias("deep.b.local."));
    scene.knows(Some(B), "deep.b.local.", alias("ws.a.local."));
    // What b's resolver itself says about a's name does not count.
    scene.knows(Some(B), "ws.a.local.", address("192.168.1.66"));
    scene.knows(Some(A), "ws.a.local.", address("192.168.1.10"));
    scene.knows(Some(B), "out.b.local.", alias("www.example.org."));
    scene.knows(None, "www.example.org.", address("203.0.113.7"));
    scene.knows(Some(B), "lost.b.local.", alias("nowhere.invalid."));
    scene.knows(Some(A), "hidden.a.local.", alias("secret.b.local."));
    scene.knows(Some(B), "secret.b.local.", address("192.168.1.21"));
    assert_eq!(texts(&scene.ask(A, "zone.b.local.", RecordType::A)), ["100.64.2.20"]);
    let answer = scene.ask(A, "inner.b.local.", RecordType::A);
    assert_eq!(texts(&answer), ["192.168.1.10"], "its own host");
    assert_eq!(answer.answers.len(), 3);
    assert_eq!(texts(&scene.ask(A, "out.b.local.", RecordType::A)), ["203.0.113.7"]);
    let answer = scene.ask(A, "lost.b.local.", RecordType::A);
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NXDomain, 1));
}

#[test]
fn aliases_in_a_circle_come_to_an_end() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "x.b.local.", alias("x.a.local."));
    scene.knows(Some(A), "x.a.local.", alias("x.b.local."));
    scene.knows(Some(B), "y.b.local.", alias("y.b.local."));
    scene.knows(Some(A), "z.a.local.", alias("z.a.local."));
    let answer = scene.ask(A, "x.b.local.", RecordType::A);
    assert!(answer.metadata.response_code == ResponseCode::ServFail || !answer.answers.is_empty());
    assert_eq!(outcome(&scene.ask(A, "y.b.local.", RecordType::A)), (ResponseCode::ServFail, vec![], Some(0)));
    assert!(scene.asked.len() < 40, "{}", scene.asked.len());
}

#[test]
fn reverse_names_of_aliases_are_asked_at_their_owner_under_its_own_names() {
    let mut scene = Scene::new();
    let ptr = |target| RData::PTR(PTR(name(target)));
    scene.knows(Some(B), "20.1.168.192.in-addr.arpa.", ptr("img.b.local."));
    scene.knows(Some(B), "77.1.168.192.in-addr.arpa.", ptr("secret.b.local."));
    scene.knows(Some(A), "33.1.168.192.in-addr.arpa.", alias("33.sub.1.168.192.in-addr.arpa."));
    scene.knows(Some(A), "33.sub.1.168.192.in-addr.arpa.", ptr("ws33.a.local."));
    // A sees B as 100.64.2.0/24. The zone knows pacs, .20, itself; of the others it has no name.
    assert_eq!(scene.ask(A, "20.2.64.100.in-addr.arpa.", RecordType::PTR).answers.len(), 1);
    assert!(scene.asked.is_empty());
    let answer = scene.ask(A, "77.2.64.100.in-addr.arpa.", RecordType::PTR);
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NXDomain, 0), "not granted");
    // B may reach all of A, which it sees as 100.64.1.0/24.
    let answer = scene.ask(B, "33.1.64.100.in-addr.arpa.", RecordType::PTR);
    let records: Vec<String> = answer.all_sections().map(|record| format!("{} {}", record.name, record.data)).collect();
    assert_eq!(records, ["33.1.64.100.in-addr.arpa. ws33.a.local."]);
    assert_eq!(answer.answers[0].ttl, 60);
    assert_eq!(scene.asked[0].2.queries[0].name().to_string(), "33.1.168.192.in-addr.arpa.");
    let answer = scene.ask(B, "34.1.64.100.in-addr.arpa.", RecordType::PTR);
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(answer.authorities[0].name.to_string(), "64.100.in-addr.arpa.", "no native name in it");
    // Its own natives each realm asks at its own.
    scene.ask(B, "20.1.168.192.in-addr.arpa.", RecordType::PTR);
    let answer = scene.ask(B, "77.1.168.192.in-addr.arpa.", RecordType::PTR);
    assert_eq!(answer.answers[0].data, ptr("secret.b.local."));
    let answer = scene.ask(A, "77.1.168.192.in-addr.arpa.", RecordType::PTR);
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "A's .77, not B's");
    let answer = scene.ask(C, "77.1.168.192.in-addr.arpa.", RecordType::PTR);
    assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn private_addresses_from_outside_are_left_out() {
    let mut scene = Scene::new();
    let private = [
        "192.168.1.20",
        "10.0.0.1",
        "100.64.2.20",
        "127.0.0.1",
        "169.254.1.1",
        "0.0.0.0",
        "fd69:7867:6174:2::c0a8:114",
        "fe80::1",
        "::1",
        "::ffff:192.168.1.20",
        "64:ff9b::c0a8:114",
        "2002:c0a8:114::1",
        "::ffff:198.51.100.7",
        "192.0.0.8",
        "240.0.0.1",
        "fec0::1",
        "4000::1",
    ];
    for addr in private {
        scene.knows(None, "evil.example.org.", address(addr));
    }
    scene.knows(None, "nat64.example.org.", address("64:ff9b::c633:6407"));
    assert_eq!(texts(&scene.ask(A, "nat64.example.org.", RecordType::AAAA)), ["64:ff9b::c633:6407"]);
    scene.knows(None, "evil.example.org.", address("203.0.113.7"));
    scene.knows(None, "evil.example.org.", address("2001:db8:77::7"));
    scene.knows(None, "evil.example.org.", address("2001:db8:b::66")); // B's six: no grant
    scene.knows(None, "evil.example.org.", address("2001:db8:b::20")); // B's pacs: granted
    let four = scene.ask(A, "evil.example.org.", RecordType::A);
    assert_eq!(outcome(&four), (ResponseCode::NoError, vec!["203.0.113.7".into()], Some(17)));
    let six = scene.ask(A, "evil.example.org.", RecordType::AAAA);
    let public = vec!["2001:db8:77::7".into(), "2001:db8:b::20".into()];
    assert_eq!(outcome(&six), (ResponseCode::NoError, public, Some(18)));
    assert_eq!(four.answers[0].ttl, 3600);
}

#[test]
fn private_reverse_names_do_not_go_outside() {
    let mut scene = Scene::new();
    let everything = RouteSpec { domain: ".".into(), owner: None, resolvers: vec![outside("198.51.100.1")] };
    scene.publish(Routes::new([everything]).unwrap());
    for name in ["1.0.0.10.in-addr.arpa.", "77.1.168.192.in-addr.arpa.", "168.192.in-addr.arpa.", "c.f.ip6.arpa."] {
        assert_eq!(scene.ask(C, name, RecordType::PTR).metadata.response_code, ResponseCode::Refused, "{name}");
    }
    for name in ["lb._dns-sd._udp.0.1.168.192.in-addr.arpa.", "7.0-26.1.168.192.in-addr.arpa.", "x.c.f.ip6.arpa."] {
        assert_eq!(scene.ask(C, name, RecordType::TXT).metadata.response_code, ResponseCode::Refused, "below: {name}");
    }
    assert!(scene.asked.is_empty());
    // Of some names above them only a part is private.
    for name in ["8.8.8.8.in-addr.arpa.", "192.in-addr.arpa.", "1.0.0.2.ip6.arpa."] {
        scene.ask(C, name, RecordType::PTR);
    }
    assert_eq!(scene.asked.len(), 3);
}

#[test]
fn address_hints_are_rewritten_and_what_is_missing_is_not_mandatory() {
    let mut scene = Scene::new();
    let hints = |v4: &[&str], v6: &[&str]| {
        let mandatory = vec![SvcParamKey::Port, SvcParamKey::Ipv4Hint];
        let mut params = vec![
            (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(mandatory))),
            (SvcParamKey::Port, SvcParamValue::Port(443)),
        ];
        let v4: Vec<_> = v4.iter().map(|a| A4(a.parse().unwrap())).collect();
        let v6: Vec<_> = v6.iter().map(|a| AAAA(a.parse().unwrap())).collect();
        params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))));
        params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))));
        SVCB::new(1, name("pacs.b.local."), params)
    };
    let both = hints(&["192.168.1.20", "192.168.1.21"], &["fd00:1::20", "fd00:1::21"]);
    scene.knows(Some(B), "web.b.local.", RData::HTTPS(HTTPS(both)));
    scene.knows(Some(B), "_x.b.local.", RData::SVCB(hints(&["192.168.1.21"], &["fd00:1::21"])));
    let shown = |message: &Message| message.answers[0].data.to_string();
    let web = shown(&scene.ask(A, "web.b.local.", RecordType::HTTPS));
    assert!(web.contains("100.64.2.20") && web.contains("2001:db8:b::20"), "{web}");
    assert!(!web.contains("192.168") && !web.contains("fd00") && !web.contains(".21"), "{web}");
    let nothing = shown(&scene.ask(A, "_x.b.local.", RecordType::SVCB));
    assert!(!nothing.contains("hint") && nothing.contains("mandatory") && nothing.contains("port"), "{nothing}");
}

#[test]
fn names_and_texts_pass_and_what_may_hide_an_address_does_not() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "b.local.", RData::MX(MX::new(10, name("mail.b.local."))));
    scene.knows(Some(B), "b.local.", RData::TXT(TXT::new(vec!["hello".into()])));
    let apl = RecordType::Unknown(42);
    scene.knows(
        Some(B),
        "b.local.",
        RData::Unknown { code: apl, rdata: NULL::with(vec![0, 1, 32, 4, 192, 168, 1, 1]) },
    );
    assert_eq!(scene.ask(A, "b.local.", RecordType::MX).answers.len(), 1);
    assert_eq!(scene.ask(A, "b.local.", RecordType::TXT).answers.len(), 1);
    let answer = scene.ask(A, "b.local.", apl);
    assert_eq!((answer.answers.len(), extended_error(&answer).unwrap().0), (0, 17));
    assert_eq!(scene.ask(B, "b.local.", apl).answers.len(), 1, "its own");
    let answer = scene.ask(A, "b.local.", RecordType::ANY);
    assert_eq!(answer.answers[0].record_type(), RecordType::HINFO, "RFC 8482");
    assert_eq!(scene.ask(A, "b.local.", RecordType::AXFR).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn additional_addresses_are_rewritten_or_left_out() {
    let mut scene = Scene::new();
    scene.put(A, "192.168.1.10", Transport::Tcp, &query("b.local.", RecordType::MX, true));
    let (exchange, upstream, transport, asked) = scene.open[0].clone();
    let mut answer = scene.resolve(&upstream, transport, &asked);
    answer.authorities.clear();
    answer.metadata.response_code = ResponseCode::NoError;
    answer.metadata.authentic_data = true;
    answer.add_answer(Record::from_rdata(name("b.local."), 60, RData::MX(MX::new(10, name("mail.b.local.")))));
    for addr in ["192.168.1.20", "192.168.1.21", "10.0.0.1"] {
        answer.add_additional(Record::from_rdata(name("mail.b.local."), 600, address(addr)));
    }
    answer.add_additional(Record::from_rdata(name("x.a.local."), 600, address("192.168.1.20")));
    scene.deliver(exchange, &answer.to_vec().unwrap());
    let answer = scene.answer();
    assert_eq!(texts(&answer), ["100.64.2.20"]);
    assert!(answer.additionals[0].ttl == 60 && !answer.metadata.authentic_data);
}

#[test]
fn signatures_pass_only_over_what_was_not_changed_and_only_from_outside() {
    let mut scene = Scene::new();
    let signature = |covers: RecordType| {
        let mut rdata = u16::from(covers).to_be_bytes().to_vec();
        rdata.extend([8; 40]);
        RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(rdata) }
    };
    for (owner, asker, at, addr, want) in [
        (None, A, "ok.example.org.", "203.0.113.7", 2),
        (None, A, "bad.example.org.", "10.0.0.1", 0),
        (Some(B), A, "pacs.b.local.", "192.168.1.20", 1),
    ] {
        scene.knows(owner, at, address(addr));
        let mut asked = query(at, RecordType::A, true);
        asked.edns.as_mut().unwrap().set_dnssec_ok(true);
        scene.put(asker, "192.168.1.10", Transport::Tcp, &asked);
        let (exchange, upstream, transport, asked) = scene.open[0].clone();
        assert_eq!(asked.edns.as_ref().unwrap().flags().dnssec_ok, owner.is_none());
        let mut answer = scene.resolve(&upstream, transport, &asked);
        answer.add_answer(Record::from_rdata(name(at), 60, signature(RecordType::A)));
        answer.add_answer(Record::from_rdata(name(at), 60, signature(RecordType::TXT)));
        scene.deliver(exchange, &answer.to_vec().unwrap());
        assert_eq!(scene.answer().answers.len(), want, "{at}");
    }
}
