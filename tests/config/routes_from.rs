//! `routes_from` in the configuration file: what is refused and where, and what a right one means.

use super::*;

/// The table begins at column 15 of the second line.
fn text(routes_from: &str) -> String {
    format!(
        "[[realm]]\nroutes_from = {{ {routes_from} }}\nname = \"x\"\n[[realm.attach]]\nport = {{ interface = \"eth1\", \
         address = [\"172.20.0.2/30\", \"2001:db8:9::2/64\"], gateway = \"172.20.0.1\" }}\n"
    )
}

fn with(more: &str) -> String {
    text(&format!("namespace = \"bgp-x\", tun = \"ix-x\", {more}"))
}

const ENDS: &str = "local = \"172.20.0.2\", peers = \"172.20.0.1\"";

#[test]
fn a_right_one_is_read_with_networks_or_without() {
    let loaded = parse(&with(ENDS)).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, []);
    let realm = &loaded.config.realms[0];
    let read = realm.routes_from.as_ref().unwrap();
    assert_eq!((read.namespace.as_str(), read.tun.as_str(), read.max_prefixes), ("bgp-x", "ix-x", 1000));
    assert_eq!((realm.networks.len(), read.allow.len()), (0, 0));
    assert_eq!((read.local[0].to_string(), read.peers[0].to_string()), ("172.20.0.2".into(), "172.20.0.1".into()));

    let whole = "local = [\"172.20.0.2\", \"2001:db8:9::2\"], peers = [\"172.20.0.1\", \"2001:db8:9::1\"], \
                 allow = [\"10.0.0.0/8\", \"2001:db8:a::/48\"], max_prefixes = 10000, max_alias_addresses = 65536";
    let static_ones =
        |networks: &str| with(whole).replace("name = \"x\"", &format!("name = \"x\"\nnetworks = [{networks}]"));
    for (networks, count) in [("", 0), ("\"192.168.1.0/24\"", 1)] {
        let loaded = parse(&static_ones(networks)).unwrap_or_else(|report| panic!("{report}"));
        let realm = &loaded.config.realms[0];
        let read = realm.routes_from.as_ref().unwrap();
        assert_eq!((realm.networks.len(), read.allow.len(), read.max_prefixes), (count, 2, 10_000));
        assert_eq!((loaded.warnings.len(), read.max_alias_addresses), (0, Some(65_536)));
    }
}

#[test]
fn what_is_wrong_is_told_apart() {
    let second = with(ENDS).replace("\"x\"", "\"y\"").replace("eth1", "eth2");
    check(&[
        (
            with("peers = \"172.20.0.1\""),
            &[
                "2:15 { namespace = \"bgp-x\", tun = \"ix-x\", peers = \"172.20.0.1\" }: `local` is missing in routes_from",
            ],
        ),
        (with(ENDS).replace("bgp-x", "a/b"), &["2:29 \"a/b\": this cannot be the name of a network namespace"]),
        (with(ENDS).replace("ix-x", "a:b"), &["2:44 \"a:b\": this cannot be the name of an interface"]),
        (
            with(ENDS).replace("local = \"172.20.0.2\"", "local = \"172.20.0.6\""),
            &["2:60 \"172.20.0.6\": 172.20.0.6 is no address of the realm's port"],
        ),
        (with("local = \"172.20.0.2\", peers = \"172.20.0.2\""), &["2:82 \"172.20.0.2\": 172.20.0.2 is among our own"]),
        (with("local = \"172.20.0.2\", peers = \"10.9.9.9\""), &["2:82 \"10.9.9.9\": 10.9.9.9 is not on the link"]),
        (
            with("local = \"172.20.0.2\", peers = \"2001:db8:9::1\""),
            &["2:82 \"2001:db8:9::1\": no address in `local` is of the IP version of 2001:db8:9::1"],
        ),
        (
            with("local = \"172.20.0.2\", peers = \"224.0.0.5\""),
            &["2:82 \"224.0.0.5\": 224.0.0.5 is no router's address"],
        ),
        (
            with(&format!("{ENDS}, allow = [\"0.0.0.0/0\", \"::/0\"]")),
            &["2:118 \"::/0\": this allows every IPv6 network"],
        ),
        (with(&format!("{ENDS}, max_alias_addresses = 0")), &["2:118 0: `max_alias_addresses` is out of bounds"]),
        (with(&format!("{ENDS}, max_prefixes = 10001")), &["2:111 10001: `max_prefixes` is out of bounds"]),
        (with(ENDS) + &second, &["7:29 \"bgp-x\": a second realm takes its networks from the namespace `bgp-x`"]),
        (
            with(ENDS).replace("name = \"x\"", "name = \"x\"\nnetworks = [\"default\"]"),
            &[
                "2:15 { namespace = \"bgp-x\", tun = \"ix-x\", local = \"172.20.0.2\", peers = \"172.20.0.1\" }: the default realm cannot take networks from a routing daemon",
            ],
        ),
    ]);
    let alone = format!("[[realm]]\nname = \"x\"\nroutes_from = {{ namespace = \"n\", tun = \"t\", {ENDS} }}\n");
    let report = parse(&alone).expect_err("no attachment");
    assert!(places(&report)[0].ends_with("`routes_from` without an attachment"), "{report}");
}

#[test]
fn who_speaks_by_ipv6_is_told_that_allow_needs_ipv6_prefixes() {
    let ends = "local = [\"172.20.0.2\", \"2001:db8:9::2\"], peers = [\"172.20.0.1\", \"2001:db8:9::1\"]";
    for (more, place) in [("", "2:15"), (", allow = [\"10.0.0.0/8\"]", "2:142")] {
        let loaded = parse(&with(&format!("{ends}{more}"))).unwrap_or_else(|report| panic!("{report}"));
        let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
        assert_eq!(warning.message, "every IPv6 prefix that the daemon learns is refused");
        assert_eq!(format!("{}:{}", warning.line, warning.column), place);
        assert!(!warning.remedy.is_empty());
    }
    let right = parse(&with(&format!("{ends}, allow = [\"0.0.0.0/0\", \"2001:db8:a::/48\"]"))).expect("right");
    assert_eq!(right.warnings, []);
}

/// `x` and `y` share every address, and may learn the same IPv4 prefixes.
#[test]
fn ipv6_prefixes_that_may_be_learned_are_nobody_elses() {
    let learning = |allow: &str| with(&format!("{ENDS}, allow = [\"10.0.0.0/8\", \"{allow}\"]"));
    let second = |allow: &str| {
        let text = learning(allow).replace("\"x\"", "\"y\"").replace("eth1", "eth2");
        text.replace("bgp-x", "bgp-y").replace("ix-x", "ix-y")
    };
    let own = |network: &str| {
        learning("2001:db8:a::/48").replace("name = \"x\"", &format!("name = \"x\"\nnetworks = [{network}]"))
    };
    let canonical = "{ prefix = \"fd00:1::/64\", canonical = \"2001:db8:a:1::/64\" }";
    for right in [
        learning("2001:db8:a::/48") + &second("2001:db8:b::/48"),
        learning("2001:db8:a::/48") + &realm("z", "\"2001:db8:c::/48\", \"10.0.0.0/16\""),
        own("\"2001:db8:a:1::/64\""),
    ] {
        assert!(parse(&right).is_ok(), "{right}");
    }
    check(&[
        (
            learning("2001:db8:a::/48") + &second("2001:db8:a:7::/64"),
            &["7:119 \"2001:db8:a:7::/64\": 2001:db8:a:7::/64 meets 2001:db8:a::/48 of realm `x`"],
        ),
        (
            learning("2001:db8:a::/48") + &realm("z", "\"2001:db8::/32\""),
            &["2:119 \"2001:db8:a::/48\": 2001:db8:a::/48 meets 2001:db8::/32 of realm `z`"],
        ),
        (
            learning("2001:db8:a::/48") + &realm("z", canonical),
            &["2:119 \"2001:db8:a::/48\": 2001:db8:a::/48 meets 2001:db8:a:1::/64 of realm `z`"],
        ),
        (
            learning("fd00::/16") + &realm("z", canonical),
            &["2:119 \"fd00::/16\": fd00::/16 meets fd00:1::/64 of realm `z`"],
        ),
        (
            own(canonical).replace(", gateway", ", accept_ra = true, gateway"),
            &["2:119 \"2001:db8:a::/48\": 2001:db8:a::/48 meets 2001:db8:a:1::/64 of realm `x`"],
        ),
    ]);
    let report = parse(&(learning("2001:db8:a::/48") + &second("2001:db8:a::/48"))).expect_err("the same");
    assert!(report.to_string().contains(":2:119"), "the other line is named: {report}");
}

/// Where nothing is learned, a realm has networks, as ever.
#[test]
fn without_it_networks_are_needed() {
    check(&[
        ("[[realm]]\nname = \"x\"\n".into(), &["1:1 [[realm]]: `networks` is missing in [[realm]]"]),
        (realm("x", ""), &["3:12 []: `networks` is empty"]),
    ]);
}
