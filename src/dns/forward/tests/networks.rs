//! A routing daemon's networks come and go: whose names have nothing to do with them notices nothing.

use super::*;
use crate::dns::fixture::{mapping, network4};

/// Of a realm whose router announces and withdraws.
fn flap() -> crate::net::mapping::Network {
    network4(C, "10.9.0.0/16", Some("100.90.0.0/16"))
}

#[test]
fn what_another_realm_learns_clears_no_cache_and_starts_no_question_again() {
    let mut scene = Scene::new();
    scene.knows(Some(B), "pacs.b.local.", address("192.168.1.20"));
    scene.knows(None, "www.example.org.", address("203.0.113.7"));
    scene.ask(A, "pacs.b.local.", RecordType::A);
    scene.ask(A, "www.example.org.", RecordType::A);
    let slow = query("slow.b.local.", RecordType::A, true);
    scene.put(A, "192.168.1.10", Transport::Udp, &slow);
    let (open, asked) = (scene.open.clone(), scene.asked.len());
    for further in [&[flap()][..], &[], &[flap()], &[]] {
        scene.publish_networks(mapping(further));
        assert_eq!((scene.open.len(), scene.open[0].0), (1, open[0].0), "the question is still the same");
        assert_eq!(scene.forwarder.gauges(scene.now).cached, 2);
        assert_eq!(texts(&scene.ask(A, "pacs.b.local.", RecordType::A)), ["100.64.2.20"]);
    }
    assert_eq!(scene.asked.len(), asked);
}

#[test]
fn what_may_be_answered_otherwise_is_asked_again() {
    let mut scene = Scene::new();
    scene.knows(Some(A), "far.a.local.", address("10.1.1.1"));
    scene.knows(None, "www.example.org.", RData::AAAA(AAAA("2600::1".parse().unwrap())));
    let new = network4(A, "10.1.0.0/16", Some("100.91.0.0/16"));
    let outcome_of = |scene: &mut Scene, realm, name| outcome(&scene.ask(realm, name, RecordType::A));
    assert_eq!(outcome_of(&mut scene, B, "far.a.local."), (ResponseCode::NoError, vec![], Some(17)));
    scene.publish_networks(mapping(std::slice::from_ref(&new)));
    let there = (ResponseCode::NoError, vec!["100.91.1.1".to_owned()], None);
    assert_eq!(outcome_of(&mut scene, B, "far.a.local."), there);
    scene.publish_networks(mapping(&[]));
    assert_eq!(outcome_of(&mut scene, B, "far.a.local."), (ResponseCode::NoError, vec![], Some(17)), "withdrawn");
    // A public address that becomes a realm's needs a grant from then on.
    scene.ask(A, "www.example.org.", RecordType::AAAA);
    let prefix = "2600::/32".parse().unwrap();
    let public =
        crate::net::mapping::Network { realm: C, native: ipnet::IpNet::V6(prefix), canonical: prefix, alias: None };
    scene.publish_networks(mapping(&[public]));
    assert_eq!(outcome(&scene.ask(A, "www.example.org.", RecordType::AAAA)), (ResponseCode::NoError, vec![], Some(18)));
}

#[test]
fn a_question_of_the_realm_whose_networks_change_starts_again() {
    let mut scene = Scene::new();
    scene.put(A, "192.168.1.10", Transport::Udp, &query("slow.b.local.", RecordType::A, true));
    let before = scene.open[0].0;
    scene.publish_networks(mapping(&[network4(A, "10.1.0.0/16", Some("100.91.0.0/16"))]));
    assert_eq!(scene.open.len(), 1);
    assert_ne!(scene.open[0].0, before);
}
