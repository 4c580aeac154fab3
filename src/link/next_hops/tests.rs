use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::link::config::{Liveness, Route};
use crate::net::VlanTags;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

struct Words<'a> {
    addresses: &'a [&'a str],
    gateways: &'a [&'a str],
    routes: &'a [(&'a str, &'a str)],
    networks: &'a [&'a str],
    accept_ra: bool,
}

const CARRIER: Words = Words {
    addresses: &["172.20.0.2/24", "2001:db8:9::2/64"],
    gateways: &["172.20.0.1", "172.20.0.4", "2001:db8:9::1"],
    routes: &[("10.1.0.0/16", "172.20.0.9"), ("10.0.0.0/8", "172.20.0.8"), ("10.1.0.0/16", "172.20.0.10")],
    networks: &["10.0.0.0/8", "192.168.0.0/16", "fd00::/48"],
    accept_ra: false,
};

fn config(words: &Words) -> EthernetConfig {
    let routes = words.routes.iter().map(|(prefix, via)| Route { prefix: prefix.parse().unwrap(), via: ip(via) });
    EthernetConfig {
        vlan: VlanTags::default(),
        addresses: nets(words.addresses),
        gateways: words.gateways.iter().map(|text| ip(text)).collect(),
        routes: routes.collect(),
        networks: nets(words.networks),
        accept_ra: words.accept_ra,
        proxy: Vec::new(),
        liveness: Liveness { interval: Duration::from_secs(1), multiplier: 3 },
        bfd: None,
        speakers: Default::default(),
    }
}

/// Everybody is alive but `dead`.
fn all_alive_but(words: &Words, dead: &[&str]) -> NextHops {
    let mut hops = NextHops::new(&config(words));
    for hop in hops.watched().to_vec() {
        hops.set_alive(hop, !dead.contains(&hop.to_string().as_str()));
    }
    hops
}

fn check(hops: &NextHops, expected: &[(&str, Option<&str>)]) {
    for (destination, hop) in expected {
        assert_eq!(hops.of(ip(destination)), hop.map(ip), "to {destination}");
    }
}

/// For IPv4, for IPv6.
fn ups(hops: &NextHops) -> (bool, bool) {
    (hops.is_up(IpVersion::V4), hops.is_up(IpVersion::V6))
}

#[test]
fn a_version_is_served_where_there_are_an_address_and_networks_of_it() {
    let serves = |words: &Words| {
        let hops = NextHops::new(&config(words));
        (hops.serves(IpVersion::V4), hops.serves(IpVersion::V6))
    };
    assert_eq!(serves(&CARRIER), (true, true));
    assert_eq!(serves(&Words { addresses: &["172.20.0.2/24"], ..CARRIER }), (true, false));
    assert_eq!(serves(&Words { addresses: &["fe80::2/64"], ..CARRIER }), (false, true));
    assert_eq!(serves(&Words { networks: &["fd00::/48"], ..CARRIER }), (false, true));
    assert_eq!(serves(&Words { networks: &[], ..CARRIER }), (true, true));
}

#[test]
fn the_most_specific_way_is_taken() {
    let hops = all_alive_but(&CARRIER, &[]);
    check(
        &hops,
        &[
            ("172.20.0.77", Some("172.20.0.77")),
            ("172.20.0.1", Some("172.20.0.1")),
            ("2001:db8:9::5", Some("2001:db8:9::5")),
            ("fe80::5", Some("fe80::5")),
            ("10.1.2.3", Some("172.20.0.9")),
            ("10.2.2.3", Some("172.20.0.8")),
            ("192.168.0.1", Some("172.20.0.1")),
            ("8.8.8.8", Some("172.20.0.1")),
            ("fd00::1", Some("2001:db8:9::1")),
        ],
    );
}

#[test]
fn a_dead_route_falls_back_step_by_step() {
    let steps: [(&[&str], Option<&str>); 5] = [
        (&["172.20.0.9"], Some("172.20.0.10")),
        (&["172.20.0.9", "172.20.0.10"], Some("172.20.0.8")),
        (&["172.20.0.9", "172.20.0.10", "172.20.0.8"], Some("172.20.0.1")),
        (&["172.20.0.9", "172.20.0.10", "172.20.0.8", "172.20.0.1"], Some("172.20.0.4")),
        (&["172.20.0.9", "172.20.0.10", "172.20.0.8", "172.20.0.1", "172.20.0.4"], None),
    ];
    for (dead, expected) in steps {
        check(&all_alive_but(&CARRIER, dead), &[("10.1.2.3", expected)]);
    }
}

#[test]
fn nobody_is_alive_before_it_is_said_so() {
    let mut hops = NextHops::new(&config(&CARRIER));
    check(&hops, &[("8.8.8.8", None), ("10.1.2.3", None), ("172.20.0.77", Some("172.20.0.77"))]);
    assert_eq!(ups(&hops), (false, false));
    assert!(hops.set_alive(ip("172.20.0.4"), true));
    assert!(!hops.set_alive(ip("172.20.0.4"), true), "nothing new");
    assert!(!hops.set_alive(ip("172.20.0.77"), true), "nobody asked about that one");
    assert_eq!(ups(&hops), (true, false));
    check(&hops, &[("8.8.8.8", Some("172.20.0.4"))]);
    assert!(hops.is_used(ip("172.20.0.4")) && !hops.is_used(ip("172.20.0.1")));
    assert!(hops.set_alive(ip("172.20.0.1"), true), "the preferred one");
    check(&hops, &[("8.8.8.8", Some("172.20.0.1"))]);
    assert!(!hops.is_used(ip("172.20.0.4")) && hops.is_used(ip("172.20.0.1")));
    assert!(hops.set_alive(ip("172.20.0.1"), false));
    check(&hops, &[("8.8.8.8", Some("172.20.0.4"))]);
}

#[test]
fn each_ip_version_has_its_own_gateways() {
    let hops = all_alive_but(&CARRIER, &["2001:db8:9::1"]);
    check(&hops, &[("8.8.8.8", Some("172.20.0.1")), ("fd00::1", None)]);
    assert_eq!(ups(&hops), (true, false));
    let hops = all_alive_but(&CARRIER, &["172.20.0.1", "172.20.0.4"]);
    check(&hops, &[("8.8.8.8", None), ("fd00::1", Some("2001:db8:9::1"))]);
    assert_eq!(ups(&hops), (false, true));
}

#[test]
fn networks_without_a_gateway_of_their_version_are_on_the_link() {
    let words = Words { gateways: &["2001:db8:9::1"], ..CARRIER };
    let hops = all_alive_but(&words, &["172.20.0.9", "172.20.0.10", "172.20.0.8"]);
    check(
        &hops,
        &[
            ("192.168.0.1", Some("192.168.0.1")),
            // Not what a route speaks of, though it is dead ...
            ("10.1.2.3", None),
            // ... and not what is no network of the realm.
            ("8.8.8.8", None),
            ("fd00::1", Some("2001:db8:9::1")),
        ],
    );
}

#[test]
fn a_route_within_the_link_and_one_around_it() {
    let routes = &[("172.20.0.128/25", "172.20.0.9"), ("172.20.0.0/24", "172.20.0.8"), ("172.0.0.0/8", "172.20.0.8")];
    let hops = all_alive_but(&Words { routes, ..CARRIER }, &[]);
    check(
        &hops,
        &[
            ("172.20.0.200", Some("172.20.0.9")),
            ("172.20.0.100", Some("172.20.0.100")),
            ("172.21.0.1", Some("172.20.0.8")),
        ],
    );
    let hops = all_alive_but(&Words { routes, ..CARRIER }, &["172.20.0.9"]);
    check(&hops, &[("172.20.0.200", Some("172.20.0.200"))]);
}

#[test]
fn routers_that_announce_themselves_are_behind_the_configured_gateways() {
    let routers: [Ipv6Addr; 3] = ["2001:db8:9::1", "fe80::a", "fe80::b"].map(|text| text.parse().unwrap());
    let words = Words { accept_ra: true, ..CARRIER };
    let mut hops = all_alive_but(&words, &[]);
    hops.set_routers(&routers);
    check(&hops, &[("fd00::1", Some("2001:db8:9::1"))]);
    hops.set_alive(ip("2001:db8:9::1"), false);
    check(&hops, &[("fd00::1", Some("fe80::a")), ("8.8.8.8", Some("172.20.0.1"))]);
    hops.set_routers(&routers[..1]);
    check(&hops, &[("fd00::1", None)]);
    hops.set_routers(&routers[2..]);
    check(&hops, &[("fd00::1", Some("fe80::b"))]);
    assert!(hops.is_used(ip("fe80::b")) && !hops.is_used(ip("fe80::a")));
}

#[test]
fn a_port_of_announced_routers_alone_waits_for_one() {
    let words = Words { gateways: &[], routes: &[], accept_ra: true, ..CARRIER };
    let mut hops = NextHops::new(&config(&words));
    assert_eq!(ups(&hops), (true, false));
    check(&hops, &[("fd00::1", None), ("192.168.0.1", Some("192.168.0.1"))]);
    hops.set_routers(&["fe80::a".parse().unwrap()]);
    check(&hops, &[("fd00::1", Some("fe80::a"))]);
    assert_eq!(ups(&hops), (true, true));
    let routed = Words { routes: &[("fd00::/48", "2001:db8:9::7")], ..words };
    assert_eq!(ups(&NextHops::new(&config(&routed))), (true, false));
    assert_eq!(ups(&all_alive_but(&routed, &[])), (true, true), "no router is needed");
}

#[test]
fn a_port_is_up_as_long_as_something_gets_away() {
    let dead_gateways = &["172.20.0.1", "172.20.0.4", "2001:db8:9::1"];
    assert_eq!(ups(&all_alive_but(&CARRIER, dead_gateways)), (false, false), "routes do not stand in for gateways");
    assert_eq!(ups(&all_alive_but(&CARRIER, &["172.20.0.1", "172.20.0.9"])), (true, true));
    let on_link = Words { gateways: &[], routes: &[], ..CARRIER };
    assert_eq!(ups(&NextHops::new(&config(&on_link))), (true, true));
    let partly_routed = Words { gateways: &[], ..CARRIER };
    assert_eq!(ups(&NextHops::new(&config(&partly_routed))), (true, true), "192.168.0.0/16 is on the link");
    let all_routed = Words { gateways: &[], networks: &["10.0.0.0/8"], ..CARRIER };
    let mut hops = NextHops::new(&config(&all_routed));
    assert_eq!(ups(&hops), (false, true));
    hops.set_alive(ip("172.20.0.10"), true);
    assert_eq!(ups(&hops), (true, true));
}

#[test]
fn identical_prefixes_of_two_ports_have_nothing_to_do_with_one_another() {
    let (mut east, west) = (NextHops::new(&config(&CARRIER)), NextHops::new(&config(&CARRIER)));
    east.set_alive(ip("172.20.0.1"), true);
    check(&east, &[("8.8.8.8", Some("172.20.0.1"))]);
    check(&west, &[("8.8.8.8", None)]);
    assert_eq!((ups(&east), ups(&west)), ((true, false), (false, false)));
}

#[test]
fn every_hop_is_watched_once_and_gateways_are_first() {
    let words = Words { routes: &[("10.0.0.0/8", "172.20.0.4"), ("10.1.0.0/16", "172.20.0.9")], ..CARRIER };
    let hops = NextHops::new(&config(&words));
    let expected = ["172.20.0.1", "172.20.0.4", "2001:db8:9::1", "172.20.0.9"].map(ip);
    assert_eq!(hops.watched(), expected);
}

/// More than there may be: 5,000 routes and 20 gateways.
fn crowded() -> EthernetConfig {
    let mut all = config(&CARRIER);
    let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0xac10_0000 + number));
    all.gateways = (0..20).map(address).collect();
    let route = |number: u32| Route {
        prefix: IpNet::new(IpAddr::from(std::net::Ipv4Addr::from_bits(number << 8)), 24).unwrap(),
        via: address(100 + number),
    };
    all.routes = (0..5000).map(route).collect();
    all
}

#[test]
fn a_port_has_so_many_routes_and_gateways_and_no_more() {
    let mut hops = NextHops::new(&crowded());
    assert_eq!(hops.watched().len(), MAX_GATEWAYS + MAX_ROUTES);
    for hop in hops.watched().to_vec() {
        assert!(hops.set_alive(hop, true));
    }
    check(
        &hops,
        &[("0.0.5.9", Some("172.16.0.105")), ("0.15.255.1", Some("172.16.16.99")), ("0.16.0.1", Some("172.16.0.0"))],
    );
}

/// The worst that a packet can meet: a route of every length around its destination.
#[test]
fn the_deepest_nest_is_climbed_step_by_step() {
    let address = |number: u8| IpAddr::from([172, 20, 0, 100 + number]);
    let mut all = config(&Words { gateways: &["172.20.0.1"], routes: &[], ..CARRIER });
    let nested = |len: u8| Route { prefix: IpNet::new(ip("10.255.0.7"), len).unwrap(), via: address(len) };
    all.routes = (0..=32).map(nested).collect();
    let mut hops = NextHops::new(&all);
    for hop in hops.watched().to_vec() {
        hops.set_alive(hop, true);
    }
    for len in (0..=32).rev() {
        check(&hops, &[("10.255.0.7", Some(&address(len).to_string()))]);
        hops.set_alive(address(len), false);
    }
    check(&hops, &[("10.255.0.7", Some("172.20.0.1"))]);
}

/// The obviously right answer.
fn slow(config: &EthernetConfig, alive: &dyn Fn(IpAddr) -> bool, destination: IpAddr) -> Option<IpAddr> {
    let links = config.addresses.iter().filter(|net| net.contains(&destination));
    let link = links.map(|net| (net.prefix_len(), 2, 0, destination)).max();
    let routes = config.routes.iter().enumerate().filter(|(_, route)| route.prefix.contains(&destination));
    let routes: Vec<_> = routes.map(|(at, route)| (route.prefix.prefix_len(), 1, -(at as i64), route.via)).collect();
    let is_routed = !routes.is_empty() || link.is_some();
    let live = routes.into_iter().filter(|(_, _, _, via)| alive(*via));
    let best = live.chain(link).max_by_key(|(len, kind, at, _)| (*len, *kind, *at)).map(|(_, _, _, hop)| hop);
    let mut same = config.gateways.iter().copied().filter(|hop| hop.is_ipv6() == destination.is_ipv6()).peekable();
    let has_gateway = same.peek().is_some();
    let is_on_link = !has_gateway && !is_routed && config.networks.iter().any(|net| net.contains(&destination));
    best.or_else(|| same.find(|hop| alive(*hop))).or(is_on_link.then_some(destination))
}

#[test]
fn what_prefixes_cover_is_kept_once() {
    let covered =
        Covered::by(nets(&["10.1.0.0/16", "10.0.0.0/8", "fd00::/48", "10.0.0.0/8", "10.255.0.0/16", "11.0.0.0/9"]));
    assert_eq!(covered.outermost, nets(&["10.0.0.0/8", "11.0.0.0/9", "fd00::/48"]));
    assert!(covered.has_v6() && !Covered::by(nets(&["10.0.0.0/8"])).has_v6() && !Covered::by(Vec::new()).has_v6());
    let asked = nets(&[
        "10.9.9.9/32",
        "10.0.0.0/8",
        "10.0.0.0/7",
        "11.128.0.0/16",
        "12.0.0.0/8",
        "9.0.0.0/8",
        "fd00::/64",
        "::/0",
    ]);
    let contained: Vec<bool> = asked.iter().map(|network| covered.contains(network)).collect();
    assert_eq!(contained, [true, true, false, false, false, false, true, false]);
    assert!(!Covered::by(Vec::new()).contains(&nets(&["10.0.0.0/8"])[0]));
}

#[test]
fn a_hop_is_watched_once_however_many_routes_lead_there() {
    let mut all = config(&Words { gateways: &["172.20.0.1", "172.20.0.1"], routes: &[], ..CARRIER });
    let v4 = |bits: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(bits));
    let route =
        |number: u32| Route { prefix: IpNet::new(v4(number << 12), 20).unwrap(), via: v4(0xac14_0001 + number % 3000) };
    all.routes = (0..2 * MAX_ROUTES as u32).map(route).collect();
    let mut hops = NextHops::new(&all);
    assert_eq!((hops.watched().len(), hops.watched()[0]), (3000, ip("172.20.0.1")));
    hops.set_alive(v4(0xac14_0007), true);
    assert_eq!(hops.watched().iter().filter(|hop| hops.is_used(**hop)).count(), 1);
}

proptest! {
    #[test]
    fn what_is_covered_agrees_with_a_linear_search(
        prefixes in prop::collection::vec((0u32..1 << 8, 22u8..=32), 0..30),
        asked in prop::collection::vec((0u32..1 << 8, 20u8..=32), 1..50),
    ) {
        let net = |(bits, len): &(u32, u8)| IpNet::new(std::net::Ipv4Addr::from_bits(*bits).into(), *len).unwrap();
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| net(prefix).trunc()).collect();
        let covered = Covered::by(prefixes.clone());
        for network in asked.iter().map(net) {
            prop_assert_eq!(covered.contains(&network), prefixes.iter().any(|prefix| prefix.contains(&network)), "{}", network);
        }
    }

    #[test]
    fn agrees_with_a_linear_search(
        raw in prop::collection::vec((0u32..1 << 12, 20u8..=32, 0u32..6), 0..40),
        gateways in 0u32..3,
        dead in any::<u8>(),
        probes in prop::collection::vec(0u32..1 << 13, 1..100),
    ) {
        let v4 = |bits: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(bits));
        let mut all = config(&Words { addresses: &["0.0.1.2/25"], gateways: &[], routes: &[], networks: &["0.0.8.0/22"], accept_ra: false });
        all.gateways = (0..gateways).map(|number| v4(0x0a00_0000 + number)).collect();
        all.routes = raw
            .iter()
            .map(|(bits, len, hop)| Route { prefix: IpNet::new(v4(*bits), *len).unwrap().trunc(), via: v4(0x0a00_0000 + hop) })
            .collect();
        let alive = |hop: IpAddr| match hop {
            IpAddr::V4(hop) => dead & 1 << (hop.to_bits() & 7) == 0,
            IpAddr::V6(_) => false,
        };
        let mut hops = NextHops::new(&all);
        for hop in hops.watched().to_vec() {
            hops.set_alive(hop, alive(hop));
        }
        for bits in probes {
            prop_assert_eq!(hops.of(v4(bits)), slow(&all, &alive, v4(bits)), "to {}", v4(bits));
        }
    }
}
