//! Who is asked, how long for, and what becomes of it when nobody answers.

use std::time::Duration;

use super::*;

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
