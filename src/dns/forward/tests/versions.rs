//! Askers and hosts of either IP version, or of both.

use super::*;
use crate::dns::fixture::{FOUR, SIX, canonical4, network4};
use crate::net::policy::{Grant, PortRule, Target};

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
