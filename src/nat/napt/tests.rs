use std::collections::{HashMap, HashSet};

use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;
use crate::net::Space6;

const A: RealmId = RealmId(1);
const B: RealmId = RealmId(2);
const V: RealmId = RealmId(3);
const REMOTE: Remote = Remote { realm: V, host: Canonical(7) };

fn space() -> Space6 {
    Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap()
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn realm(id: RealmId, pool: &str, ports: u16, networks: &[&str]) -> RealmSpec {
    let blocks = Blocks::new(nets(&[pool]), ports, nets(networks));
    RealmSpec { realm: id, viewers: None, filtering: Filtering::AddressAndPort, blocks, forwards: Vec::new() }
}

fn napt(realms: Vec<RealmSpec>, limit: usize) -> Napt {
    Napt::new(Arc::new(Spec::new(space(), realms)), limit, 42)
}

fn inside(realm: RealmId, host: &str, proto: Proto, port: u16) -> Inside {
    Inside { realm, host: space().embed(realm, ip(host)), proto, port }
}

fn udp(host: &str, port: u16) -> Inside {
    inside(A, host, Proto::Udp, port)
}

fn small() -> RealmSpec {
    realm(A, "100.64.9.0/30", 256, &["192.168.1.0/24"])
}

#[test]
fn two_realms_with_every_address_and_port_in_common_share_nothing() {
    let mut n = napt(vec![small(), realm(B, "100.64.10.0/30", 256, &["192.168.1.0/24"])], 100);
    let (a, b) = (udp("192.168.1.10", 5000), inside(B, "192.168.1.10", Proto::Udp, 5000));
    let (of_a, of_b) = (n.bind(&a).unwrap(), n.bind(&b).unwrap());
    assert_eq!((of_a.address, of_b.address), (ip("100.64.9.0"), ip("100.64.10.0")));
    assert_eq!(of_a.port, of_b.port);
    let found = n.locate(V, of_a.address, Proto::Udp, of_a.port).unwrap();
    assert_eq!((found.realm, found.host, found.port, found.is_forward), (A, a.host, 5000, false));
    assert_eq!(n.locate(V, of_a.address, Proto::Tcp, of_a.port), None, "another protocol");
}

#[test]
fn one_outside_for_one_inside_whoever_is_spoken_to() {
    let mut n = napt(vec![small()], 100);
    let first = n.bind(&udp("192.168.1.10", 5000)).unwrap();
    assert_eq!(n.bind(&udp("192.168.1.10", 5000)), Ok(first));
    assert_eq!(n.len(), 1);
    let other = n.bind(&udp("192.168.1.10", 5002)).unwrap();
    assert_eq!(other.address, first.address, "one host, one address (REQ-2)");
    assert_ne!(other.port, first.port);
}

/// RFC 6888 REQ-3.
#[test]
fn a_pool_may_be_in_pieces_of_any_size() {
    let pool = nets(&["100.64.9.7/32", "100.64.20.0/31"]);
    let blocks = Blocks::new(pool, 256, nets(&["192.168.0.0/23"]));
    let mut n = napt(vec![RealmSpec { blocks, ..small() }], 100);
    // 252 hosts for each address.
    for (host, address) in
        [("192.168.0.251", "100.64.9.7"), ("192.168.0.252", "100.64.20.0"), ("192.168.1.248", "100.64.20.1")]
    {
        let outside = n.bind(&udp(host, 5000)).unwrap();
        assert_eq!(outside.address, ip(address), "{host}");
        let found = n.locate(V, outside.address, Proto::Udp, outside.port).unwrap();
        assert_eq!((found.host, found.port), (space().embed(A, ip(host)), 5000));
    }
}

#[test]
fn a_port_is_kept_where_the_block_has_it_and_its_parity_elsewhere() {
    // Host 3 of the first network: ports 1792 to 2047 of the first address.
    let mut n = napt(vec![small()], 1000);
    let block = n.spec().realms()[0].blocks.ports_of(3);
    assert_eq!((block.address, block.first, block.last), (ip("100.64.9.0"), 1792, 2047));
    assert_eq!(n.bind(&udp("192.168.1.3", 1801)).unwrap().port, 1801);
    for port in [5000, 5001, 80, 1, 65535, 1023] {
        let shown = n.bind(&udp("192.168.1.3", port)).unwrap().port;
        assert!(block.contains(shown) && shown % 2 == port % 2, "{port} as {shown}");
    }
    // The low bits stay where nobody has them, so what the host chose at random stays as hard to guess.
    assert_eq!(n.bind(&udp("192.168.1.3", 40_000)).unwrap().port % 256, 40_000 % 256);
    // When a parity is used up, the other one is better than nothing.
    let evens = (2000..).step_by(2).map(|port| n.bind(&udp("192.168.1.4", port)).unwrap().port);
    let shown: Vec<u16> = evens.take(256).collect();
    assert!(shown[..128].iter().all(|port| port % 2 == 0) && shown[128..].iter().all(|port| port % 2 == 1));
}

#[test]
fn a_host_has_its_block_and_no_more_and_takes_nothing_from_others() {
    let mut n = napt(vec![realm(A, "100.64.9.0/30", 16, &["192.168.1.0/24"])], 1000);
    for port in 0..16 {
        n.bind(&udp("192.168.1.10", 2000 + port)).unwrap();
    }
    assert_eq!(n.bind(&udp("192.168.1.10", 3000)), Err(DropReason::NaptExhausted));
    assert!(n.bind(&inside(A, "192.168.1.10", Proto::Tcp, 3000)).is_ok(), "of each protocol");
    assert!(n.bind(&udp("192.168.1.11", 3000)).is_ok());
    // One session ends, one port is free.
    n.hold(&udp("192.168.1.10", 2005), REMOTE);
    n.release(&udp("192.168.1.10", 2005), REMOTE);
    assert!(n.bind(&udp("192.168.1.10", 3000)).is_ok());
    assert_eq!(n.bind(&udp("192.168.1.10", 2005)), Err(DropReason::NaptExhausted));
}

#[test]
fn the_table_is_bounded_as_a_whole() {
    let mut n = napt(vec![small()], 3);
    for host in ["192.168.1.1", "192.168.1.2", "192.168.1.3"] {
        n.bind(&udp(host, 5000)).unwrap();
    }
    assert_eq!(n.bind(&udp("192.168.1.4", 5000)), Err(DropReason::NaptTableFull));
    assert!(n.bind(&udp("192.168.1.1", 5000)).is_ok(), "what there is stays");
    assert_eq!((n.len(), n.limit()), (3, 3));
}

#[test]
fn a_binding_lives_as_long_as_one_session_uses_it() {
    let mut n = napt(vec![small()], 100);
    let host = udp("192.168.1.10", 5000);
    let outside = n.bind(&host).unwrap();
    assert!(n.hold(&host, REMOTE) && n.hold(&host, REMOTE));
    n.release(&host, REMOTE);
    assert_eq!(n.outside_of(&host), Some(outside));
    n.release(&host, REMOTE);
    assert_eq!((n.outside_of(&host), n.len()), (None, 0));
    n.release(&host, REMOTE);
}

#[test]
fn without_a_port_nobody_is_told_apart() {
    let mut n = napt(vec![small()], 100);
    assert_eq!(n.bind(&udp("192.168.1.10", 0)), Err(DropReason::NaptPortNotServed));
}

#[test]
fn a_host_of_a_network_too_large_to_compute_gets_a_block_for_its_time_and_the_log_says_so() {
    // 63 blocks of 1024 on one address, for 16 million hosts.
    let mut n = napt(vec![realm(A, "100.64.9.1/32", 1024, &["10.0.0.0/8"])], 1000);
    assert_eq!(n.spec().realms()[0].blocks.fixed(), 0);
    let hosts: Vec<String> = (0..64).map(|i| format!("10.{i}.2.3")).collect();
    for host in &hosts[..63] {
        n.bind(&udp(host, 5000)).unwrap();
        n.hold(&udp(host, 5000), REMOTE);
    }
    assert_eq!(n.bind(&udp(&hosts[63], 5000)), Err(DropReason::NaptExhausted));
    let block = PortBlock { address: ip("100.64.9.1"), first: 1024, last: 2047 };
    assert_eq!(n.poll_event(), Some(BlockEvent::Given { realm: A, host: udp("10.0.2.3", 0).host, block }));
    while n.poll_event().is_some() {}

    n.release(&udp(&hosts[5], 5000), REMOTE);
    let Some(BlockEvent::GivenBack { host, block: returned, .. }) = n.poll_event() else { panic!("nobody's log") };
    assert_eq!(host, udp(&hosts[5], 0).host);
    let outside = n.bind(&udp(&hosts[63], 5000)).unwrap();
    assert!(returned.contains(outside.port));
    assert_eq!(n.spec().who(Proto::Udp, outside.address, outside.port), Some((A, Who::InTheLog(returned))));

    // A new configuration ends them all, and the log says that too; of computed blocks there is nothing to say.
    while n.poll_event().is_some() {}
    n.configure(Arc::new(Spec::new(space(), vec![small()])));
    assert_eq!(n.poll_event(), Some(BlockEvent::AllGivenBack { realm: A }));
    n.bind(&udp("192.168.1.10", 5000)).unwrap();
    n.configure(Arc::new(Spec::new(space(), vec![])));
    assert_eq!(n.poll_event(), None);
}

#[test]
fn a_block_rests_as_long_as_others_are_free() {
    let mut n = napt(vec![realm(A, "100.64.9.1/32", 16_128, &["10.0.0.0/8"])], 1000); // four blocks
    let mut blocks = Vec::new();
    for host in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"] {
        n.bind(&udp(host, 5000)).unwrap();
        n.hold(&udp(host, 5000), REMOTE);
        let Some(BlockEvent::Given { block, .. }) = n.poll_event() else { panic!("nobody's log") };
        blocks.push(block.first);
        n.release(&udp(host, 5000), REMOTE);
        n.poll_event().unwrap();
    }
    assert_eq!(blocks.iter().collect::<HashSet<_>>().len(), 4);
    assert_eq!(blocks[4], blocks[0], "the one that was unused longest");
}

#[test]
fn ipv6_hosts_get_what_the_computed_blocks_leave() {
    let mut n = napt(vec![realm(A, "100.64.9.0/31", 256, &["192.168.1.0/24"])], 1000); // 504 blocks, 256 computed
    let host = Inside {
        realm: A,
        host: "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().into(),
        proto: Proto::Tcp,
        port: 5000,
    };
    let outside = n.bind(&host).unwrap();
    assert_eq!(outside.address, ip("100.64.9.1"), "block 256, the fifth of the second address");
    assert!((2048..2304).contains(&outside.port));
}

#[test]
fn who_was_it_is_answered_without_a_log() {
    let n = napt(vec![realm(A, "100.64.9.0/28", 256, &["10.1.2.0/24", "192.168.0.0/23"])], 10);
    // Host 3 of the first network has the fourth block.
    let block = PortBlock { address: ip("100.64.9.0"), first: 1792, last: 2047 };
    for port in [1792, 1900, 2047] {
        assert_eq!(n.spec().who(Proto::Tcp, block.address, port), Some((A, Who::Host(ip("10.1.2.3"), block))));
    }
    assert_eq!(n.spec().who(Proto::Tcp, block.address, 1023), Some((A, Who::Nobody)));
    assert_eq!(n.spec().who(Proto::Tcp, ip("100.64.8.0"), 5000), None);
    let Some((A, Who::Host(host, _))) = n.spec().who(Proto::Udp, ip("100.64.9.1"), 2048) else { panic!() };
    assert_eq!(host, ip("192.168.0.0"), "252 blocks on one address, and host 256 is the fifth on the second");
}

fn with_forward() -> RealmSpec {
    let forward = Forward {
        proto: Proto::Tcp,
        outside: (ip("100.64.9.1"), 443),
        to: (space().embed(A, ip("192.168.1.20")), 8443),
    };
    RealmSpec { forwards: vec![forward], ..small() }
}

#[test]
fn a_forward_is_there_without_a_packet_and_stays() {
    let mut n = napt(vec![with_forward()], 10);
    let target = n.locate(V, ip("100.64.9.1"), Proto::Tcp, 443).unwrap();
    assert_eq!((target.port, target.is_forward), (8443, true));
    let host = inside(A, "192.168.1.20", Proto::Tcp, 8443);
    assert_eq!(n.bind(&host).map(|outside| outside.port), Ok(443), "its answers are shown by it too");
    assert!(!n.hold(&host, REMOTE));
    n.release(&host, REMOTE);
    assert!(n.locate(V, ip("100.64.9.1"), Proto::Tcp, 443).is_some());
    assert!(matches!(n.spec().who(Proto::Tcp, ip("100.64.9.1"), 443), Some((A, Who::Forward(_)))));
    assert!(matches!(n.spec().who(Proto::Udp, ip("100.64.9.1"), 443), Some((A, Who::Nobody))));
}

#[test]
fn no_host_gets_a_port_that_is_forwarded() {
    let mut realm = small();
    // Host 10's block is 3584 to 3839 of the first address.
    let to = (space().embed(A, ip("192.168.1.20")), 53);
    realm.forwards = vec![Forward { proto: Proto::Udp, outside: (ip("100.64.9.0"), 3600), to }];
    let mut n = napt(vec![realm], 1000);
    assert_eq!(n.bind(&udp("192.168.1.10", 3600)).unwrap().port, 3602);
    let more = (0..).map(|port| n.bind(&udp("192.168.1.10", 10_000 + port))).take_while(Result::is_ok).count();
    assert_eq!(more, 254, "256 less the forward less the first");
}

#[test]
fn only_those_who_are_meant_see_the_pool() {
    let mut n = napt(vec![RealmSpec { viewers: Some(vec![V]), ..with_forward() }], 10);
    assert!(n.shows(A, V) && n.shows(A, A) && !n.shows(A, B) && !n.shows(B, V));
    assert!(n.locate(V, ip("100.64.9.1"), Proto::Tcp, 443).is_some());
    assert!(n.locate(A, ip("100.64.9.1"), Proto::Tcp, 443).is_some(), "hairpin");
    assert!(n.locate(B, ip("100.64.9.1"), Proto::Tcp, 443).is_none());
    assert!(n.bind(&inside(B, "192.168.1.1", Proto::Udp, 5)).is_err());
}

#[test]
fn whom_a_host_has_sent_to_is_known_where_it_matters() {
    let mut n = napt(vec![RealmSpec { filtering: Filtering::Address, ..small() }], 10);
    let host = udp("192.168.1.10", 5000);
    n.bind(&host).unwrap();
    n.hold(&host, REMOTE);
    n.hold(&host, REMOTE);
    let other = Remote { realm: B, ..REMOTE };
    assert!(n.has_sent_to(&host, REMOTE) && !n.has_sent_to(&host, other), "the same address in another realm");
    n.release(&host, REMOTE);
    assert!(n.has_sent_to(&host, REMOTE));
    n.hold(&host, other);
    n.release(&host, REMOTE);
    assert!(!n.has_sent_to(&host, REMOTE) && n.has_sent_to(&host, other));
}

#[test]
fn a_new_configuration_keeps_the_bindings_of_pools_that_stay() {
    let spec = |realms| Arc::new(Spec::new(space(), realms));
    let b = |ports| realm(B, "100.64.10.0/30", ports, &["192.168.1.0/24"]);
    let mut n = napt(vec![small(), b(256)], 100);
    let (of_a, of_b) = (udp("192.168.1.10", 5000), inside(B, "192.168.1.10", Proto::Udp, 5000));
    let kept = n.bind(&of_a).unwrap();
    n.hold(&of_a, REMOTE);
    n.bind(&of_b).unwrap();
    let with_other_filter = RealmSpec { filtering: Filtering::Endpoint, ..small() };
    let ended = n.configure(spec(vec![with_other_filter, b(128)]));
    assert_eq!(ended, Ended { realms: vec![B], endpoints: vec![] });
    assert_eq!((n.outside_of(&of_a), n.outside_of(&of_b)), (Some(kept), None));
    assert!(ended.contains(&of_b) && !ended.contains(&of_a));

    // A forward that needs the port takes it.
    let forward = Forward { proto: Proto::Udp, outside: (kept.address, kept.port), to: (of_a.host, 53) };
    let ended = n.configure(spec(vec![RealmSpec { forwards: vec![forward], ..small() }, b(128)]));
    assert_eq!(ended.endpoints, [of_a]);
    assert_ne!(n.bind(&of_a).unwrap().port, kept.port);
    assert_eq!(n.configure(spec(vec![])).realms, [A, B]);
    assert_eq!((n.len(), n.is_idle()), (0, true));
}

#[test]
fn what_nobody_takes_down_is_counted() {
    let mut n = napt(vec![realm(A, "100.64.9.1/32", 1024, &["10.0.0.0/8"])], 10);
    let host = udp("10.1.2.3", 5000);
    for _ in 0..MAX_EVENTS / 2 + 1 {
        n.bind(&host).unwrap();
        n.hold(&host, REMOTE);
        n.release(&host, REMOTE);
    }
    assert_eq!(n.events_lost(), 2);
    assert_eq!(std::iter::from_fn(|| n.poll_event()).count(), MAX_EVENTS);
}

proptest! {
    /// Blocks are disjoint, each port has one owner, and both directions of the arithmetic agree.
    #[test]
    fn the_inverse_function_is_the_inverse(
        pool_len in 26u8..=32,
        half_block in 8u16..2000,
        net_len in 24u8..=32,
        more_len in 26u8..=32,
        port in 1024u16..,
        nth in any::<prop::sample::Index>(),
    ) {
        let pools = nets(&[&format!("100.64.9.0/{pool_len}"), "100.70.0.7/32"]);
        let networks = nets(&[&format!("10.1.2.0/{net_len}"), &format!("192.168.7.0/{more_len}")]);
        let blocks = Blocks::new(pools.iter().map(Ipv4Net::trunc).collect(), half_block * 2, networks.iter().map(Ipv4Net::trunc).collect());
        for block in [0, blocks.total() - 1, nth.index(blocks.total() as usize) as u32] {
            let ports = blocks.ports_of(block);
            prop_assert_eq!(u32::from(ports.last - ports.first) + 1, u32::from(blocks.ports()));
            prop_assert_eq!(ports.first % 2, 0);
            prop_assert_eq!(blocks.block_of(ports.address, ports.first), Some(block));
            prop_assert_eq!(blocks.block_of(ports.address, ports.last), Some(block));
            match blocks.host_of(block) {
                Some(host) => prop_assert_eq!(blocks.block_of_host(host), Some(block)),
                None => prop_assert!(block >= blocks.fixed()),
            }
            // Every port of the block once, the host's own first, its parity before the other.
            let order: Vec<u16> = ports.candidates(port).collect();
            prop_assert_eq!(order.len(), usize::from(blocks.ports()));
            prop_assert_eq!(order.iter().collect::<HashSet<_>>().len(), order.len());
            prop_assert!(order.iter().all(|p| ports.contains(*p)));
            prop_assert!(order[..order.len() / 2].iter().all(|p| p % 2 == port % 2));
            if ports.contains(port) {
                prop_assert_eq!(order[0], port);
            }
        }
        prop_assert!(u64::from(blocks.fixed()) == blocks.hosts() || blocks.fixed() == 0);
    }

    /// Against maps: endpoint-independent, no outside endpoint of two insides, quotas and the bound as counted.
    #[test]
    fn agrees_with_a_simple_model(
        computed in any::<bool>(),
        steps in prop::collection::vec((1u16..3, 0u8..6, 0usize..3, 1u16..40, any::<bool>()), 1..300),
    ) {
        const LIMIT: usize = 60;
        const QUOTA: usize = 16;
        let network = if computed { "192.168.1.0/24" } else { "192.168.0.0/16" };
        let realms = [A, B].map(|id| realm(id, &format!("100.64.{}.0/32", id.0), QUOTA as u16, &[network]));
        let mut n = napt(realms.to_vec(), LIMIT);
        let mut model: HashMap<Inside, (Outside, u32)> = HashMap::new();
        for (id, host, proto, port, opens) in steps {
            let proto = [Proto::Tcp, Proto::Udp, Proto::Echo][proto];
            let inside = inside(RealmId(id), &format!("192.168.1.{host}"), proto, port);
            if opens {
                let quota = model.keys().filter(|k| (k.realm, k.host, k.proto) == (inside.realm, inside.host, proto)).count();
                let (got, is_full) = (n.bind(&inside), model.len() == LIMIT);
                match model.get_mut(&inside) {
                    Some((outside, sessions)) => {
                        prop_assert_eq!(got, Ok(*outside));
                        *sessions += 1;
                    }
                    None if is_full => prop_assert_eq!(got, Err(DropReason::NaptTableFull)),
                    None if quota == QUOTA => prop_assert_eq!(got, Err(DropReason::NaptExhausted)),
                    None => {
                        let outside = got.unwrap();
                        prop_assert!(model.values().all(|(other, _)| *other != outside));
                        let same = |i: &Inside| i.realm == inside.realm && i.host == inside.host;
                        for (_, (other, _)) in model.iter().filter(|(i, _)| same(i)) {
                            prop_assert_eq!(other.address, outside.address);
                            prop_assert_eq!((other.port - 1024) / QUOTA as u16, (outside.port - 1024) / QUOTA as u16);
                        }
                        model.insert(inside, (outside, 1));
                    }
                }
                if got.is_ok() {
                    prop_assert!(n.hold(&inside, REMOTE));
                }
            } else {
                n.release(&inside, REMOTE);
                if let Some((_, sessions)) = model.get_mut(&inside) {
                    *sessions -= 1;
                    if *sessions == 0 {
                        model.remove(&inside);
                    }
                }
            }
            prop_assert_eq!(n.len(), model.len());
            for (inside, (outside, _)) in &model {
                let at = n.locate(V, outside.address, outside.proto, outside.port).unwrap();
                prop_assert_eq!((at.realm, at.host, at.port), (inside.realm, inside.host, inside.port));
                match n.spec().who(outside.proto, outside.address, outside.port).unwrap().1 {
                    Who::Host(host, _) => prop_assert_eq!(space().embed(inside.realm, host), inside.host),
                    who => prop_assert!(!computed && matches!(who, Who::InTheLog(_)), "{:?}", who),
                }
            }
        }
    }
}
