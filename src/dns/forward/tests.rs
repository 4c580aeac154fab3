use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::{IpHint, Mandatory, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A as A4, AAAA, HTTPS, MX, NULL, PTR, TXT};
use hickory_proto::rr::{RData, Record, RecordType};

use super::fixture::*;
use super::*;
use crate::dns::fixture::{A, B, C, FOUR, SIX, addresses, canonical4, extended_error, network4, query};
use crate::net::policy::{Grant, PortRule, Target};

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

#[test]
fn a_truncated_answer_is_fetched_over_tcp_and_given_whole() {
    let mut scene = Scene::new();
    scene.truncates = true;
    for host in 0..100 {
        scene.knows(Some(A), "many.a.local.", address(&format!("192.168.1.{host}")));
    }
    let asked = query("many.a.local.", RecordType::A, true);
    scene.put(B, "192.168.1.10", Transport::Udp, &asked);
    let answer = scene.answer();
    assert!(answer.metadata.truncation && answer.answers.is_empty(), "does not fit into 1,232 bytes");
    scene.put(B, "192.168.1.10", Transport::Tcp, &asked);
    assert_eq!(scene.answer().answers.len(), 100);
    let transports: Vec<_> = scene.asked.iter().map(|(_, transport, _)| *transport).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
    assert_eq!(scene.forwarder.counters().tcp_fallbacks, 1);
}

#[test]
fn a_silent_resolver_is_passed_over_and_comes_last_for_a_while() {
    let mut scene = Scene::new();
    let (first, second) = (resolver(B, "192.168.1.53"), resolver(B, "192.168.1.54"));
    scene.silent.insert(first.clone());
    for host in 1..=4 {
        let at = format!("h{host}.b.local.");
        scene.knows(Some(B), &at, address("192.168.1.20"));
        let start = scene.now;
        assert_eq!(texts(&scene.ask(A, &at, RecordType::A)), ["100.64.2.20"]);
        let waited = scene.now - start;
        assert_eq!(waited, Duration::from_secs(if host <= 3 { 1 } else { 0 }), "{host}");
    }
    assert_eq!(scene.forwarder.gauges(scene.now).penalised_resolvers, 1);
    scene.silent.clear();
    scene.pass(Duration::from_secs(20));
    scene.ask(A, "h9.b.local.", RecordType::A);
    assert_eq!(scene.asked.last().unwrap().0, first, "tried again");
    assert_eq!(scene.forwarder.gauges(scene.now).penalised_resolvers, 0);
    assert_eq!(scene.asked.iter().filter(|(upstream, ..)| *upstream == second).count(), 4);
}

#[test]
fn who_answers_which_names_and_how_well_is_told() {
    let mut scene = Scene::new();
    scene.silent.insert(resolver(B, "192.168.1.53"));
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    scene.ask(A, "pacs.b.local.", RecordType::A);
    scene.now = scene.now + Duration::from_secs(5);
    let reports = scene.reports();
    let of = |owner| reports.iter().find(|route| route.owner == owner).unwrap();
    assert_eq!(of(Some(B)).domains, ["1.168.192.in-addr.arpa", "b.local"]);
    assert_eq!(of(Some(A)).domains, ["168.192.in-addr.arpa", "a.local"]);
    assert_eq!((of(None).domains.as_slice(), of(None).resolvers.len()), (&["example.org".to_owned()][..], 2));
    let [first, second] = &of(Some(B)).resolvers[..] else { panic!("{reports:?}") };
    assert_eq!(first.server, "192.168.1.53:53".parse().unwrap());
    assert_eq!((first.health.failures, first.health.last_answer), (1, None));
    assert_eq!(second.server, "192.168.1.54:53".parse().unwrap());
    assert_eq!((second.health.answers, second.health.last_answer), (1, Some(Duration::from_secs(5))));
    assert_eq!((scene.forwarder.cached_of(A), scene.forwarder.cached_of(B)), (1, 0));
    scene.silent.clear();
    scene.code = Some(ResponseCode::Refused);
    scene.ask(A, "other.b.local.", RecordType::A);
    let reports = scene.reports();
    let unusable = reports.iter().flat_map(|route| &route.resolvers).map(|resolver| resolver.health.unusable);
    assert_eq!(unusable.sum::<u64>(), 4, "two rounds of two");
}

#[test]
fn when_none_answers_the_asker_is_told_why() {
    let mut scene = Scene::new();
    let both = [resolver(B, "192.168.1.53"), resolver(B, "192.168.1.54")];
    scene.silent.extend(both.clone());
    let start = scene.now;
    assert_eq!(outcome(&scene.ask(A, "x.b.local.", RecordType::A)), (ResponseCode::ServFail, vec![], Some(22)));
    assert_eq!((scene.asked.len(), scene.now - start), (4, Duration::from_secs(6)), "1 s, 1 s, 2 s, 2 s");
    assert_eq!(outcome(&scene.ask(A, "x.b.local.", RecordType::A)), (ResponseCode::ServFail, vec![], Some(22)));
    assert_eq!(scene.asked.len(), 4, "remembered for a moment");
    scene.silent.clear();
    scene.unreachable.extend(both);
    assert_eq!(outcome(&scene.ask(A, "y.b.local.", RecordType::A)), (ResponseCode::ServFail, vec![], Some(23)));
    scene.unreachable.clear();
    scene.code = Some(ResponseCode::Refused);
    assert_eq!(outcome(&scene.ask(A, "z.b.local.", RecordType::A)), (ResponseCode::ServFail, vec![], Some(23)));
}

#[test]
fn a_driver_without_room_says_nothing_about_the_resolver() {
    let mut scene = Scene::new();
    scene.without_room = true;
    assert_eq!(outcome(&scene.ask(A, "x.b.local.", RecordType::A)), (ResponseCode::ServFail, vec![], Some(0)));
    assert_eq!(scene.forwarder.gauges(scene.now).penalised_resolvers, 0);
    scene.without_room = false;
    scene.knows(Some(B), "x.b.local.", address("192.168.1.20"));
    assert_eq!(texts(&scene.ask(A, "x.b.local.", RecordType::A)), ["100.64.2.20"], "not remembered");
}

#[test]
fn a_server_without_edns_is_asked_without() {
    let mut scene = Scene::new();
    scene.knows_edns = false;
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    assert_eq!(texts(&scene.ask(A, "pacs.b.local.", RecordType::A)), ["100.64.2.20"]);
    assert!(scene.asked[1].2.edns.is_none() && scene.asked.len() == 2);
}

#[test]
fn answers_that_do_not_fit_are_not_taken() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    scene.put(A, "192.168.1.10", Transport::Tcp, &query("pacs.b.local.", RecordType::A, true));
    let (exchange, upstream, transport, asked) = scene.open[0].clone();
    let good = scene.resolve(&upstream, transport, &asked);
    let mut other_id = good.clone();
    other_id.metadata.id ^= 1;
    let mut other_name = good.clone();
    other_name.queries[0].set_name(name("other.b.local."));
    scene.deliver(exchange, &other_id.to_vec().unwrap());
    scene.deliver(exchange, &other_name.to_vec().unwrap());
    scene.deliver(ExchangeId(999), &good.to_vec().unwrap());
    assert!(scene.forwarder.poll_answer().is_none());
    scene.deliver(exchange, &good.to_vec().unwrap());
    assert_eq!(texts(&scene.answer()), ["100.64.2.20"]);
    assert_eq!(scene.forwarder.counters().mismatches, 2);
    scene.deliver(exchange, &good.to_vec().unwrap());
    assert!(scene.forwarder.poll_answer().is_none(), "once");
    // Too many of them, and it goes over TCP.
    scene.put(A, "192.168.1.10", Transport::Tcp, &query("new.b.local.", RecordType::A, true));
    let (exchange, ..) = scene.open[0].clone();
    for junk in [&b"junk"[..], b"", &[0; 12]] {
        scene.deliver(exchange, junk);
    }
    assert_eq!(scene.asked.last().unwrap().1, Transport::Tcp);
}

#[test]
fn outside_the_case_of_the_name_is_random_and_checked() {
    let mut scene = Scene::new();
    scene.knows(None, "abcdefghijklmnop.example.org.", address("203.0.113.7"));
    scene.folds_case = true;
    let answer = scene.ask(A, "abcdefghijklmnop.example.org.", RecordType::A);
    assert_eq!(texts(&answer), ["203.0.113.7"]);
    assert_eq!(answer.answers[0].name.to_string(), "abcdefghijklmnop.example.org.");
    assert_ne!(scene.asked[0].2.queries[0].name().to_string(), "abcdefghijklmnop.example.org.");
    let transports: Vec<_> = scene.asked.iter().map(|(_, transport, _)| *transport).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp]);
}

#[test]
fn the_same_question_is_asked_once_for_a_realm_and_apart_for_another() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    let asked = query("pacs.b.local.", RecordType::A, true);
    for host in 0..70 {
        scene.put(A, &format!("192.168.1.{host}"), Transport::Udp, &asked);
    }
    scene.put(B, "192.168.1.10", Transport::Udp, &asked);
    assert_eq!(scene.asked.len(), 2);
    let busy: Vec<_> = std::iter::from_fn(|| scene.forwarder.poll_answer()).collect();
    assert_eq!(busy.len(), 70 - MAX_WAITERS, "more are told to come again");
    scene.serve();
    let mut seen: Vec<_> = std::iter::from_fn(|| scene.forwarder.poll_answer()).collect();
    assert_eq!(seen.len(), MAX_WAITERS + 1);
    let (_, of_b) = seen.pop().unwrap();
    assert_eq!(texts(&Message::from_vec(&of_b).unwrap()), ["192.168.1.20"]);
    for (_, bytes) in seen {
        assert_eq!(texts(&Message::from_vec(&bytes).unwrap()), ["100.64.2.20"]);
    }
}

#[test]
fn pending_questions_are_bounded_in_all_per_realm_and_per_resolver() {
    let bounds = ForwardLimits { pending: 30, pending_per_realm: 20, pending_per_resolver: 15, ..limits() };
    let mut scene = Scene::with(bounds);
    for n in 0..100 {
        scene.put(A, "192.168.1.10", Transport::Udp, &query(&format!("n{n}.b.local."), RecordType::A, true));
    }
    assert_eq!(scene.forwarder.gauges(scene.now).pending, 20, "of one realm");
    let waiting = |scene: &Scene, upstream: &Upstream| scene.open.iter().filter(|(_, u, ..)| u == upstream).count();
    assert_eq!(waiting(&scene, &resolver(B, "192.168.1.53")), 15, "at one resolver");
    assert_eq!(waiting(&scene, &resolver(B, "192.168.1.54")), 5);
    for n in 0..100 {
        scene.put(C, "192.168.1.10", Transport::Udp, &query(&format!("n{n}.example.org."), RecordType::A, true));
    }
    assert_eq!(scene.forwarder.gauges(scene.now).pending, 30, "in all");
    assert_eq!(scene.forwarder.counters().refused_busy, 170);
    let (_, refused) = scene.forwarder.poll_answer().unwrap();
    assert_eq!(Message::from_vec(&refused).unwrap().metadata.response_code, ResponseCode::ServFail);
    for _ in 0..20 {
        scene.pass(Duration::from_secs(2));
    }
    assert_eq!(scene.forwarder.gauges(scene.now).pending, 0);
    assert!(scene.open.is_empty() && scene.forwarder.poll_timeout().is_none() && scene.forwarder.per_realm.is_empty());
    assert_eq!(scene.forwarder.health.waiting(&resolver(B, "192.168.1.53")), 0);
}

#[test]
fn a_new_configuration_forgets_answers_and_starts_open_questions_again() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    scene.ask(A, "pacs.b.local.", RecordType::A);
    assert_eq!(scene.forwarder.gauges(scene.now).cached, 1);
    scene.put(A, "192.168.1.10", Transport::Udp, &query("open.b.local.", RecordType::A, true));
    scene.publish(routes());
    assert_eq!(scene.forwarder.gauges(scene.now).cached, 0);
    assert_eq!((scene.open.len(), scene.asked.len()), (1, 3));
    scene.publish(Routes::default());
    assert_eq!(scene.answer().metadata.response_code, ResponseCode::Refused);
    assert!(scene.open.is_empty());
}

#[test]
fn a_resolver_that_asks_for_its_own_domain_is_not_asked_in_turn() {
    let mut scene = Scene::new();
    scene.put(B, "192.168.1.53", Transport::Tcp, &query("x.b.local.", RecordType::A, true));
    assert_eq!(outcome(&scene.answer()), (ResponseCode::Refused, vec![], Some(0)));
    assert!(scene.asked.is_empty());
}

#[test]
fn an_asker_that_asks_too_much_is_slowed_and_sent_to_tcp() {
    let mut scene = Scene::with(ForwardLimits { queries_per_sec_per_host: 10, ..limits() });
    let asked = query("pacs.ix.example.", RecordType::A, true);
    let (mut answered, mut slipped, mut silent) = (0, 0, 0);
    for _ in 0..110 {
        scene.put(A, "192.168.1.10", Transport::Udp, &asked);
        let (_, bytes) = scene.forwarder.poll_answer().unwrap();
        match Message::from_vec(&bytes) {
            Ok(message) if message.metadata.truncation => {
                assert!(message.answers.is_empty() && bytes.len() <= asked.to_vec().unwrap().len());
                slipped += 1;
            }
            Ok(_) => answered += 1,
            Err(_) => silent += 1,
        }
    }
    assert_eq!((answered, slipped, silent), (10, 50, 50));
    scene.put(A, "192.168.1.11", Transport::Udp, &asked);
    let (_, bytes) = scene.forwarder.poll_answer().unwrap();
    assert_eq!(texts(&Message::from_vec(&bytes).unwrap()), ["100.64.2.20"], "its neighbour");
    scene.put(A, "192.168.1.10", Transport::Tcp, &asked);
    let (_, bytes) = scene.forwarder.poll_answer().unwrap();
    assert_eq!(Message::from_vec(&bytes).unwrap().metadata.response_code, ResponseCode::Refused);
}

/// B has hosts of either IP version, with an IPv4 alias and without, and FOUR, SIX and A (which speaks both) may reach all.
fn scene_of_both_versions() -> Scene {
    let mut scene = Scene::new();
    let mut networks = scene.world.mapping.networks().to_vec();
    networks.push(network4(B, "10.9.0.0/16", None));
    scene.world.mapping = Mapping::new(scene.world.mapping.space6(), networks, &[]);
    let grant = |from| Grant { from, to: B, target: Target::Realm, rules: vec![PortRule::Any] };
    scene.world.policy = Policy::new([A, FOUR, SIX].map(grant));
    scene
}

const ALIASED4: &str = "192.168.1.20"; // in every view 100.64.2.20
const BARE4: &str = "10.9.0.1";
const CANONICAL_OF_ALIASED4: &str = "fd69:7867:6174:2::c0a8:114";
const CANONICAL_OF_BARE4: &str = "fd69:7867:6174:2::a09:1";
const ALIASED6: &str = "fd00:1::66"; // in every view 100.64.5.66
const BARE6: &str = "fd00:1::7";

/// A host's addresses, and what FOUR (A), SIX (AAAA) and A (A, AAAA) are told. The zone says the same of such a host.
#[test]
fn every_asker_gets_the_version_that_it_can_use_of_every_host() {
    type Row = (&'static [&'static str], &'static str, &'static str, [&'static str; 2]);
    let rows: [Row; 8] = [
        (&[ALIASED4], "100.64.2.20", CANONICAL_OF_ALIASED4, ["100.64.2.20", ""]),
        (&[BARE4], "", CANONICAL_OF_BARE4, ["", CANONICAL_OF_BARE4]),
        (&[ALIASED6], "100.64.5.66", "2001:db8:b::66", ["", "2001:db8:b::66"]),
        (&[BARE6], "", "2001:db8:b::7", ["", "2001:db8:b::7"]),
        (&[ALIASED4, ALIASED6], "100.64.2.20", "2001:db8:b::66", ["100.64.2.20", "2001:db8:b::66"]),
        (&[ALIASED4, BARE6], "100.64.2.20", "2001:db8:b::7", ["100.64.2.20", "2001:db8:b::7"]),
        (&[BARE4, ALIASED6], "100.64.5.66", "2001:db8:b::66", ["", "2001:db8:b::66"]),
        (&[BARE4, BARE6], "", "2001:db8:b::7", ["", "2001:db8:b::7"]),
    ];
    let mut scene = scene_of_both_versions();
    let mut spec = crate::dns::fixture::spec();
    for (n, (natives, ..)) in rows.iter().enumerate() {
        let canonical =
            |native: &&str| scene.world.mapping.locate_native(B, native.parse().unwrap()).unwrap().canonical;
        let addresses = natives.iter().map(canonical).collect();
        spec.hosts.push(crate::dns::HostName { name: format!("h{n}"), realm: B, addresses });
    }
    scene.world.zone = Zone::new(spec).unwrap();
    for (n, (natives, of_four, of_six, of_both)) in rows.into_iter().enumerate() {
        for native in natives {
            scene.knows(Some(B), &format!("h{n}.b.local."), address(native));
        }
        let wanted = [
            (FOUR, RecordType::A, of_four),
            (FOUR, RecordType::AAAA, ""),
            (SIX, RecordType::A, ""),
            (SIX, RecordType::AAAA, of_six),
            (A, RecordType::A, of_both[0]),
            (A, RecordType::AAAA, of_both[1]),
        ];
        for (asker, record_type, want) in wanted {
            let said = scene.ask(asker, &format!("h{n}.b.local."), record_type);
            assert_eq!(said.metadata.response_code, ResponseCode::NoError);
            assert_eq!(texts(&said).join(" "), want, "{natives:?} {asker} {record_type}");
            let zone = scene.ask(asker, &format!("h{n}.b.ix.example."), record_type);
            assert_eq!(texts(&zone).join(" "), want, "{natives:?} {asker} {record_type} in the zone");
        }
    }
}

#[test]
fn what_an_asker_of_both_versions_needs_no_translation_for_is_not_called_left_out() {
    let mut scene = scene_of_both_versions();
    scene.knows(Some(B), "four.b.local.", address(ALIASED4));
    let six = scene.ask(A, "four.b.local.", RecordType::AAAA);
    assert_eq!(outcome(&six), (ResponseCode::NoError, vec![], None));
    assert_eq!(six.authorities.len(), 1, "the resolver's own SOA, for how long it may be remembered");
    // Of two addresses one can be reached as it is: no other is made up beside it.
    scene.knows(Some(B), "mixed.b.local.", address(ALIASED4));
    scene.knows(Some(B), "mixed.b.local.", address(BARE4));
    assert_eq!(texts(&scene.ask(A, "mixed.b.local.", RecordType::AAAA)), Vec::<String>::new());
    assert_eq!(texts(&scene.ask(SIX, "mixed.b.local.", RecordType::AAAA)).len(), 2);
}

#[test]
fn the_other_version_is_asked_for_only_where_it_may_help() {
    let mut scene = scene_of_both_versions();
    scene.knows(Some(B), "four.b.local.", address(ALIASED4));
    let asked = |scene: &mut Scene, asker, record_type| {
        let before = scene.asked.len();
        scene.ask(asker, "four.b.local.", record_type);
        scene.asked.len() - before
    };
    assert_eq!(asked(&mut scene, A, RecordType::A), 1);
    assert_eq!(asked(&mut scene, A, RecordType::AAAA), 1, "the realm has just been told an IPv4 address");
    assert_eq!(asked(&mut scene, FOUR, RecordType::AAAA), 1, "it speaks no IPv6");
    assert_eq!(asked(&mut scene, SIX, RecordType::A), 1);
    assert_eq!(asked(&mut scene, B, RecordType::AAAA), 1, "its own names");
    scene.ask(A, "nobody.b.local.", RecordType::AAAA);
    assert_eq!(scene.asked.len(), 6, "a name that does not exist");
}

#[test]
fn who_speaks_one_ip_version_gets_what_the_mapping_has_in_it() {
    let mut scene = Scene::new();
    // C speaks IPv4 only; B's IPv6-only host has an IPv4 alias.
    let grant = |from| Grant { from, to: B, target: Target::Realm, rules: vec![PortRule::Any] };
    scene.world.policy = Policy::new([grant(A), grant(C)]);
    scene.knows(Some(B), "six.b.local.", address("fd00:1::66"));
    scene.knows(Some(B), "four.b.local.", address("192.168.1.20"));
    assert_eq!(
        outcome(&scene.ask(C, "six.b.local.", RecordType::A)),
        (ResponseCode::NoError, vec!["100.64.5.66".to_owned()], None)
    );
    let types: Vec<_> = scene.asked.iter().map(|(_, _, m)| m.queries[0].query_type()).collect();
    assert_eq!(types, [RecordType::A, RecordType::AAAA], "the other version was tried");
    assert_eq!(texts(&scene.ask(A, "six.b.local.", RecordType::AAAA)), ["2001:db8:b::66"]);
    // A speaks both: nothing is made up.
    assert_eq!(texts(&scene.ask(A, "four.b.local.", RecordType::AAAA)), Vec::<String>::new());
    // D speaks IPv6 only: an IPv4 host by its canonical address.
    let d = RealmId(60);
    let mut networks = scene.world.mapping.networks().to_vec();
    networks.push(crate::net::mapping::Network {
        realm: d,
        native: "fd00:4::/64".parse().unwrap(),
        canonical: "2001:db8:d::/64".parse().unwrap(),
        alias: None,
    });
    scene.world.mapping = Mapping::new(scene.world.mapping.space6(), networks, &[]);
    scene.world.policy = Policy::new([grant(d)]);
    scene.publish(routes());
    let canonical = canonical4(B, "192.168.1.20").to_string();
    assert_eq!(texts(&scene.ask(d, "four.b.local.", RecordType::AAAA)), [canonical]);
    assert_eq!(texts(&scene.ask(d, "four.b.local.", RecordType::A)), Vec::<String>::new());
}
