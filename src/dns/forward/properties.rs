//! Whatever resolvers say, an asker is shown addresses of its own view only, and only of what it may reach.

use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{IpHint, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A as A4, AAAA, HTTPS, NULL};
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;

use super::fixture::*;
use super::*;
use crate::dns::fixture::{A, B, C, query};

fn any_address() -> impl Strategy<Value = IpAddr> {
    let last = 1..60u8;
    prop_oneof![
        last.clone().prop_map(|n| IpAddr::from([192, 168, 1, n])),
        last.clone().prop_map(|n| IpAddr::from([100, 64, n % 5, n])),
        last.clone().prop_map(|n| format!("fd00:1::{n}").parse().unwrap()),
        last.prop_map(|n| format!("2001:db8:b::{n}").parse().unwrap()),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

fn any_data() -> impl Strategy<Value = RData> {
    let names =
        prop::sample::select(vec!["x.b.local.", "y.b.local.", "x.a.local.", "pacs.ix.example.", "out.example.org."]);
    let svcb = prop::collection::vec(any_address(), 0..4).prop_map(|hints| {
        let v4: Vec<_> = hints.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some(A4(*a)) } else { None }).collect();
        let v6: Vec<_> =
            hints.iter().filter_map(|a| if let IpAddr::V6(a) = a { Some(AAAA(*a)) } else { None }).collect();
        let params = vec![
            (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))),
            (SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))),
        ];
        SVCB::new(1, name("x.b.local."), params)
    });
    prop_oneof![
        5 => any_address().prop_map(|addr| address(&addr.to_string())),
        2 => names.prop_map(alias),
        1 => svcb.prop_map(|svcb| RData::HTTPS(HTTPS(svcb))),
        1 => any::<u16>().prop_map(|code| RData::Unknown {
            code: RecordType::Unknown(code | 0x4000),
            rdata: NULL::with(vec![192, 168, 1, 20]),
        }),
    ]
}

/// Every address that a message shows.
fn shown(message: &Message) -> Vec<IpAddr> {
    let hints = |svcb: &SVCB| -> Vec<IpAddr> {
        let of = |value: &SvcParamValue| match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            _ => Vec::new(),
        };
        svcb.svc_params.iter().flat_map(|(_, value)| of(value)).collect()
    };
    let of = |record: &Record| match &record.data {
        RData::A(a) => vec![a.0.into()],
        RData::AAAA(a) => vec![a.0.into()],
        RData::HTTPS(https) => hints(&https.0),
        RData::SVCB(svcb) => hints(svcb),
        _ => Vec::new(),
    };
    message.all_sections().flat_map(of).collect()
}

proptest! {
    #[test]
    fn only_addresses_of_the_askers_view_that_it_may_reach(
        records in prop::collection::vec((0..3usize, 0..5usize, any_data()), 1..12),
        additionals in prop::collection::vec(any_address(), 0..3),
        asker in prop::sample::select(vec![A, B, C]),
        at in 0..5usize,
        record_type in prop::sample::select(vec![RecordType::A, RecordType::AAAA, RecordType::HTTPS]),
    ) {
        const NAMES: [&str; 5] = ["x.b.local.", "y.b.local.", "x.a.local.", "pacs.ix.example.", "out.example.org."];
        let mut scene = Scene::new();
        for (owner, at, data) in records {
            scene.knows([Some(A), Some(B), None][owner], NAMES[at], data);
        }
        scene.put(asker, "192.168.1.10", Transport::Tcp, &query(NAMES[at], record_type, true));
        let mut answer = None;
        for _ in 0..60 {
            if let Some((_, bytes)) = scene.forwarder.poll_answer() {
                answer = Some(Message::from_vec(&bytes).unwrap());
                break;
            }
            let (exchange, upstream, transport, asked) = scene.open[0].clone();
            let mut said = scene.resolve(&upstream, transport, &asked);
            for addr in &additionals {
                let at = asked.queries[0].name().clone();
                said.add_additional(Record::from_rdata(at, 60, address(&addr.to_string())));
            }
            scene.deliver(exchange, &said.to_vec().unwrap());
        }
        let answer = answer.expect("it comes to an end");
        // What a realm is told by its own resolver is its own business; everything else is checked.
        let is_of_asker = |upstream: &Upstream| matches!(upstream, Upstream::Realm { realm, .. } if *realm == asker);
        let is_own = scene.asked.iter().any(|(upstream, ..)| is_of_asker(upstream));
        let world = &scene.world;
        for addr in shown(&answer).into_iter().filter(|_| !is_own) {
            let seen = world.mapping.locate_native(asker, addr).or_else(|| world.mapping.locate_seen_by(asker, addr));
            match seen {
                Some(at) => prop_assert!(
                    at.realm == asker || at.realm.is_ix() || world.policy.reaches(asker, at.realm, at.canonical),
                    "{addr} of realm {} for {asker}", at.realm,
                ),
                // Nobody's here: a public address, out of an outside upstream's mouth.
                None => prop_assert!(
                    !world.mapping.space6().contains(match addr { IpAddr::V6(a) => a, IpAddr::V4(a) => a.to_ipv6_mapped() })
                        && crate::net::special_purpose::refusal(addr).is_none(),
                    "{addr} for {asker}",
                ),
            }
        }
        prop_assert_eq!(scene.forwarder.gauges(scene.now).pending, 0);
        prop_assert!(scene.open.is_empty());
    }

    #[test]
    fn arbitrary_bytes_of_askers_and_resolvers_never_panic(
        query_bytes in prop::collection::vec(any::<u8>(), 0..60),
        answer in prop::collection::vec(any::<u8>(), 0..80),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut scene = Scene::new();
        scene.knows(Some(B), "x.b.local.", address("192.168.1.20"));
        scene.knows(Some(B), "y.b.local.", alias("x.b.local."));
        let mut bytes = query("y.b.local.", RecordType::A, true).to_vec().unwrap();
        for (at, value) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        for bytes in [&bytes, &query_bytes] {
            let client = Client {
                realm: A,
                source: crate::dns::fixture::canonical4(A, "192.168.1.10"),
                transport: Transport::Udp,
                token: 0,
            };
            let tables = Tables {
                zone: &scene.world.zone,
                routes: &scene.routes,
                mapping: &scene.world.mapping,
                policy: &scene.world.policy,
                unix_secs: 1_782_864_000,
            };
            scene.forwarder.handle_query(tables, client, bytes, scene.now, &mut crate::net::random::Seeded(1));
        }
        scene.put(A, "192.168.1.10", Transport::Udp, &query("y.b.local.", RecordType::A, true));
        for (exchange, upstream, transport, asked) in scene.open.clone() {
            scene.deliver(exchange, &answer);
            let mut good = scene.resolve(&upstream, transport, &asked).to_vec().unwrap();
            for (at, value) in &flips {
                let at = at.index(good.len());
                good[at] = *value;
            }
            scene.deliver(exchange, &good);
        }
    }
}
