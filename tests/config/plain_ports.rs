//! Ports, TUN devices, interfaces, priorities and weights in the configuration file: what is refused and where, and what a
//! right one means.

use ixgate::config::model::{Attachment, Driver, Peer, PortPeer};
use ixgate::net::VlanTags;

use super::*;

const GATEWAY: &str = "gateway = \"172.20.0.1\"";

/// The port begins at column 8 of the fifth line, its first address at column 51.
fn attached(port: &str) -> String {
    format!("[[realm.attach]]\nport = {{ interface = \"eth1\", vlan = 1, address = [{port} }}\n")
}

fn port(port: &str) -> String {
    realm("a", "\"10.0.0.0/24\"") + &attached(port)
}

fn with(more: &str) -> String {
    port(&format!("\"172.20.0.2/30\"], {more}"))
}

fn read(text: &str) -> Vec<Attachment> {
    let loaded = parse(text).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.config.realms[0].attachments.clone()
}

fn port_of(attachment: &Attachment) -> &PortPeer {
    match &attachment.peer {
        Peer::Port(port) => port,
        other => panic!("{other:?}"),
    }
}

fn warned(cases: &[(String, &str)]) {
    for (text, want) in cases {
        let loaded = parse(text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(places(loaded.report()), [*want], "{text}");
    }
}

#[test]
fn a_right_one_is_read() {
    let whole = realm("a", "\"10.0.0.0/16\", \"2001:db8:a::/48\"")
        + "[[realm.attach]]\nport = { interface = \"eth1\", service_vlan = 200, vlan = 100, mtu = 1600, accept_ra = true, \
           address = [\"172.20.0.2/29\", \"2001:db8:9::2/64\"], gateway = [\"172.20.0.1\", \"fe80::1\"], proxy = true, \
           routes = [{ prefix = \"10.0.1.0/24\", via = \"172.20.0.3\" }, { prefix = \"10.0.1.0/24\", via = \"172.20.0.4\" }], \
           bfd = { mode = \"passive\", interval_ms = 10, multiplier = 255 } }\n\
           [[interface]]\nname = \"eth1\"\ndriver = \"af_xdp\"\n";
    let attachment = &read(&whole)[0];
    let port = port_of(attachment);
    assert_eq!(port.vlan, VlanTags { service: Some(200), customer: Some(100) });
    assert_eq!(port.addresses, ["172.20.0.2/29", "2001:db8:9::2/64"].map(|net| net.parse().unwrap()));
    assert_eq!(port.gateways, ["172.20.0.1", "fe80::1"].map(|addr| addr.parse::<IpAddr>().unwrap()));
    assert_eq!(port.routes.iter().map(|route| route.via.to_string()).collect::<Vec<_>>(), ["172.20.0.3", "172.20.0.4"]);
    assert!(port.accept_ra && port.proxy && attachment.mtu_bytes == 1600);
    let bfd = port.bfd.unwrap();
    assert_eq!((bfd.is_active, bfd.interval, bfd.multiplier), (false, Duration::from_millis(10), 255));
    let probed = read(&with(&format!("{GATEWAY}, liveness_ms = 100, liveness_multiplier = 5")));
    let probed = port_of(&probed[0]);
    assert_eq!((probed.liveness_interval, probed.liveness_multiplier), (Duration::from_millis(100), 5));
    let interfaces = parse(&whole).unwrap().config.interfaces;
    assert_eq!(interfaces.iter().map(|i| (i.name.as_str(), i.driver)).collect::<Vec<_>>(), [("eth1", Driver::AfXdp)]);
}

#[test]
fn what_is_left_out_takes_its_default() {
    let text = realm("a", "\"10.0.0.0/24\"")
        + "[[realm.attach]]\nport = { interface = \"eth1\", address = \"10.0.0.1/24\", bfd = {}, gateway = \"10.0.0.2\" }\n";
    let attachment = &read(&text)[0];
    let port = port_of(attachment);
    assert_eq!((port.vlan, attachment.mtu_bytes), (VlanTags::default(), 1500));
    assert_eq!((port.liveness_interval, port.liveness_multiplier), (Duration::from_secs(1), 3));
    assert!(!port.accept_ra && !port.proxy && port.routes.is_empty());
    let bfd = port.bfd.unwrap();
    assert_eq!((bfd.is_active, bfd.interval, bfd.multiplier), (true, Duration::from_millis(300), 3));
    assert_eq!(parse(&text).unwrap().config.interfaces[0].driver, Driver::Auto);

    let tun = realm("a", "\"10.0.0.0/24\"") + "[[realm.attach]]\ntun = { name = \"ix0\" }\n";
    let attachments = read(&tun);
    assert!(matches!(&attachments[0].peer, Peer::Tun(tun) if tun.name == "ix0"));
    assert_eq!(attachments[0].mtu_bytes, 1500);
    assert!(parse(&tun).unwrap().config.interfaces.is_empty(), "no Ethernet interface");
}

#[test]
fn a_port_says_its_mtu_in_itself_or_beside() {
    assert_eq!(read(&(with(GATEWAY) + "mtu_bytes = 1400\n"))[0].mtu_bytes, 1400);
    check(&[
        (
            with(&format!("{GATEWAY}, mtu = 1500")) + "mtu_bytes = 1500\n",
            &["6:13 1500: the port has both `mtu` and `mtu_bytes`"],
        ),
        (with(&format!("{GATEWAY}, mtu = 9000")), &["5:99 9000: `mtu` is out of bounds"]),
        (with(&format!("{GATEWAY}, mtu = 1279")), &["5:99 1279: `mtu` is out of bounds"]),
    ]);
    let jumbo = parse(&with(&format!("{GATEWAY}, mtu = 9000"))).unwrap_err();
    assert!(jumbo.diagnostics[0].why.contains("jumbo"), "{jumbo}");
}

#[test]
fn one_place_is_one_realms() {
    let at = |name: &str, place: &str| {
        realm(name, "\"10.0.0.0/24\"")
            + &format!("[[realm.attach]]\nport = {{ {place}, address = \"172.20.0.2/30\", {GATEWAY} }}\n")
    };
    let two = |one: &str, other: &str| at("a", one) + &at("b", other);
    let same = "interface = \"eth1\", vlan = 7";
    let table =
        |place: &str| format!("10:8 {{ {place}, address = \"172.20.0.2/30\", {GATEWAY} }}: a second port is on ");
    for (place, named) in [
        (same, "eth1, VLAN 7"),
        ("interface = \"eth1\"", "eth1, untagged"),
        ("interface = \"eth1\", vlan = 7, service_vlan = 8", "eth1, VLAN 8.7"),
        ("interface = \"eth1\", service_vlan = 8", "eth1, service VLAN 8"),
    ] {
        check(&[(two(place, place), &[&(table(place) + named)])]);
    }
    // The same addresses everywhere, and none of them has to do with another.
    for other in [
        "interface = \"eth2\", vlan = 7",
        "interface = \"eth1\", vlan = 8",
        "interface = \"eth1\"",
        "interface = \"eth1\", vlan = 7, service_vlan = 7",
        "interface = \"eth1\", service_vlan = 7",
    ] {
        assert!(parse(&two(same, other)).is_ok(), "{other}");
    }
    check(&[
        (at("a", "interface = \"eth1\", vlan = 0"), &["5:37 0: `vlan` is out of bounds"]),
        (at("a", "interface = \"eth1\", vlan = 4095"), &["5:37 4095: `vlan` is out of bounds"]),
        (at("a", "interface = \"eth1\", service_vlan = 4095"), &["5:45 4095: `service_vlan` is out of bounds"]),
        // What is wrong is not taken for untagged as well.
        (two("interface = \"eth1\"", "interface = \"eth1\", vlan = 4095"), &["10:37 4095: `vlan` is out of bounds"]),
    ]);
    let related = &parse(&two(same, same)).unwrap_err().diagnostics[0].related[0];
    assert_eq!((related.line, related.column), (5, 8));
}

#[test]
fn names_of_interfaces_are_the_kernels() {
    let named = |name: &str| with(GATEWAY).replace("eth1", name);
    for name in ["a/b", "eth1:0", "two words", "..", "sixteen-letters-", "eth%d"] {
        check(&[(named(name), &[&format!("5:22 \"{name}\": this cannot be the name of an interface")])]);
    }
    assert!(parse(&named("fifteen-letters")).is_ok() && parse(&named("eth1.100")).is_ok());
    let tun = |name: &str| format!("[[realm.attach]]\ntun = {{ name = \"{name}\" }}\n");
    check(&[
        (with(GATEWAY) + &tun("a/b"), &["7:16 \"a/b\": this cannot be the name of an interface"]),
        (with(GATEWAY) + &tun("eth1"), &["7:16 \"eth1\": `eth1` is both an Ethernet interface and a TUN device"]),
        (with(GATEWAY) + &tun("ix0") + &tun("ix0"), &["9:16 \"ix0\": a second attachment has the TUN device `ix0`"]),
        (
            with(GATEWAY) + &tun("ix0") + "[[interface]]\nname = \"ix0\"\n",
            &["9:8 \"ix0\": `ix0` is both an Ethernet interface and a TUN device"],
        ),
        (
            with(GATEWAY) + &"[[interface]]\nname = \"eth1\"\n".repeat(2),
            &["9:8 \"eth1\": a second [[interface]] is called `eth1`"],
        ),
        (
            with(GATEWAY) + "[[interface]]\nname = \"eth1\"\ndriver = \"dpdk\"\n",
            &["8:10 \"dpdk\": `driver` is none of `auto`, `af_packet`, `af_xdp`"],
        ),
    ]);
    let unused = with(GATEWAY) + "[[interface]]\nname = \"eth2\"\n";
    warned(&[(unused, "7:8 warning \"eth2\": no port is on the interface `eth2`")]);
}

#[test]
fn interfaces_are_bounded() {
    let tuns = |count: usize| -> String {
        (0..count).map(|i| format!("[[realm.attach]]\ntun = {{ name = \"ix{i}\" }}\n")).collect()
    };
    assert!(parse(&(with(GATEWAY) + &tuns(31))).is_ok());
    let report = parse(&(with(GATEWAY) + &tuns(32))).unwrap_err();
    assert_eq!(report.diagnostics[0].message, "these are more than 32 interfaces and TUN devices");
    // Ports share interfaces.
    let ports: String = (1..=60)
        .map(|vlan| {
            attached(&format!("\"172.20.0.2/30\"], {GATEWAY}")).replace("vlan = 1,", &format!("vlan = {vlan},"))
        })
        .collect();
    assert!(parse(&(realm("a", "\"10.0.0.0/24\"") + &ports)).is_ok());
}

#[test]
fn own_addresses_are_unicast_and_have_the_links_prefix() {
    let own = |address: &str| port(&format!("\"{address}\"], {GATEWAY}"));
    let cannot =
        |address: &str, named: &str| (own(address), format!("5:51 \"{address}\": {named} cannot be our own address"));
    for (text, want) in [
        cannot("172.20.0.0/30", "172.20.0.0"),
        cannot("172.20.0.3/30", "172.20.0.3"),
        cannot("224.0.0.5/24", "224.0.0.5"),
        cannot("127.0.0.1/24", "127.0.0.1"),
        cannot("240.0.0.1/24", "240.0.0.1"),
        cannot("0.0.0.1/24", "0.0.0.1"),
        cannot("ff02::1/64", "ff02::1"),
        cannot("::1/128", "::1"),
        cannot("2001:db8:9::/64", "2001:db8:9::"),
    ] {
        check(&[(text, &[&want])]);
    }
    check(&[
        (own("172.20.0.2"), &["5:51 \"172.20.0.2\": the prefix length of the link is missing"]),
        (own("172.20.0.2/33"), &["5:51 \"172.20.0.2/33\": this is not an address with a prefix length"]),
        (own("172.20.0.2/7"), &["5:51 \"172.20.0.2/7\": a link cannot be as wide as a /7"]),
        (own("2001:db8::2/31"), &["5:51 \"2001:db8::2/31\": a link cannot be as wide as a /31"]),
        (
            port(&format!("\"172.20.0.2/30\", \"172.20.0.1/24\"], {GATEWAY}")),
            &["5:68 \"172.20.0.1/24\": a second address in 172.20.0.0/24"],
        ),
    ]);
    for (address, gateway) in [
        ("172.20.0.2/31", "172.20.0.3"),
        ("172.20.0.3/31", "172.20.0.2"),
        ("169.254.7.2/30", "169.254.7.1"),
        ("172.20.0.2/30\", \"172.20.1.2/30", "172.20.1.1"),
    ] {
        read(&own(address).replace("172.20.0.1\"", &format!("{gateway}\"")));
    }
}

#[test]
fn routers_are_on_the_link() {
    let gateway = |gateway: &str| with(&format!("gateway = [\"{gateway}\"]"));
    check(&[
        (gateway("172.20.1.1"), &["5:80 \"172.20.1.1\": the gateway 172.20.1.1 is not on the link"]),
        (gateway("2001:db8::1"), &["5:80 \"2001:db8::1\": the gateway 2001:db8::1 is not on the link"]),
        (gateway("fe80::1"), &["5:80 \"fe80::1\": the gateway fe80::1 is not on the link"]),
        (gateway("172.20.0.2"), &["5:80 \"172.20.0.2\": the gateway is our own address"]),
        (gateway("172.20.0.3"), &["5:80 \"172.20.0.3\": 172.20.0.3 cannot be the gateway"]),
        (gateway("224.0.0.1"), &["5:80 \"224.0.0.1\": 224.0.0.1 cannot be the gateway"]),
        (gateway("172.20.0.1/30"), &["5:80 \"172.20.0.1/30\": this is not an IP address"]),
        (gateway("172.20.0.1\", \"172.20.0.1"), &["5:94 \"172.20.0.1\": 172.20.0.1 is a gateway already"]),
    ]);
    for (gateway_address, why) in [
        ("172.20.1.1", "the link's IPv4 prefixes are 172.20.0.0/30"),
        ("2001:db8::1", "we have no IPv6 address on this link"),
    ] {
        let report = parse(&gateway(gateway_address)).unwrap_err();
        assert!(report.diagnostics[0].why.ends_with(why), "{report}");
    }
    check(&[(with(&format!("{GATEWAY}, accept_ra = true")), &["5:105 true: `accept_ra` without an IPv6 address"])]);
    // Where our own address is wrong, nobody can say what is on the link.
    check(&[(
        port("\"172.20.0.2\"], gateway = \"172.20.0.1\""),
        &["5:51 \"172.20.0.2\": the prefix length of the link is missing"],
    )]);
}

#[test]
fn routes_lead_to_routers_on_the_link() {
    let route = |route: &str| with(&format!("{GATEWAY}, routes = [{{ {route} }}]"));
    check(&[
        (
            route("prefix = \"10.0.0.0/25\", via = \"172.21.0.1\""),
            &["5:135 \"172.21.0.1\": the next hop 172.21.0.1 is not on the link"],
        ),
        (
            route("prefix = \"10.0.0.0/25\", via = \"fe80::1\""),
            &["5:135 \"fe80::1\": 10.0.0.0/25 and fe80::1 are of different address families"],
        ),
        (
            route("prefix = \"10.0.0.1/25\", via = \"172.20.0.1\""),
            &["5:114 \"10.0.0.1/25\": 10.0.0.1/25 has host bits set"],
        ),
        (
            route("prefix = \"10.0.0.0/25\", via = \"172.20.0.1\" }, { prefix = \"10.0.0.0/25\", via = \"172.20.0.1\""),
            &["5:162 \"10.0.0.0/25\": 10.0.0.0/25 by 172.20.0.1 is a route already"],
        ),
        (route("prefix = \"10.0.0.0/25\""), &["5:103 { prefix = \"10.0.0.0/25\" }: `via` is missing in a route"]),
    ]);
    warned(&[(
        route("prefix = \"10.7.0.0/25\", via = \"172.20.0.1\""),
        "5:114 warning \"10.7.0.0/25\": 10.7.0.0/25 is outside the networks of realm `a`",
    )]);
}

#[test]
fn routers_are_bounded() {
    let routers = |count: usize| {
        let route = |i: usize| format!("{{ prefix = \"10.0.0.0/24\", via = \"172.20.{}.{}\" }}", i / 250, i % 250 + 3);
        let routes: Vec<_> = (0..count).map(route).collect();
        port(&format!("\"172.20.0.2/22\"], {GATEWAY}, routes = [{}]", routes.join(", ")))
    };
    read(&routers(255));
    assert_eq!(parse(&routers(256)).unwrap_err().diagnostics[0].message, "the port has 257 routers");
    // The same ones for many prefixes.
    let route = |i: usize| format!("{{ prefix = \"10.0.{}.{}/32\", via = \"172.20.0.3\" }}", i / 256, i % 256);
    let many = |count| {
        port(&format!(
            "\"172.20.0.2/22\"], {GATEWAY}, routes = [{}]",
            (0..count).map(route).collect::<Vec<_>>().join(", ")
        ))
    };
    let many = |count| many(count).replace("10.0.0.0/24\"]", "10.0.0.0/16\"]");
    read(&many(4096));
    assert_eq!(parse(&many(4097)).unwrap_err().diagnostics[0].message, "`routes` has 4097 entries");
}

#[test]
fn liveness_and_bfd_are_within_bounds() {
    check(&[
        (with(&format!("{GATEWAY}, liveness_ms = 99")), &["5:107 99: `liveness_ms` is out of bounds"]),
        (with(&format!("{GATEWAY}, liveness_ms = 60001")), &["5:107 60001: `liveness_ms` is out of bounds"]),
        (with(&format!("{GATEWAY}, liveness_multiplier = 0")), &["5:115 0: `liveness_multiplier` is out of bounds"]),
        (with(&format!("{GATEWAY}, bfd = {{ interval_ms = 9 }}")), &["5:115 9: `interval_ms` is out of bounds"]),
        (
            with(&format!("{GATEWAY}, bfd = {{ interval_ms = 60001 }}")),
            &["5:115 60001: `interval_ms` is out of bounds"],
        ),
        (with(&format!("{GATEWAY}, bfd = {{ multiplier = 256 }}")), &["5:114 256: `multiplier` is out of bounds"]),
        (
            with(&format!("{GATEWAY}, bfd = {{ mode = \"both\" }}")),
            &["5:108 \"both\": `mode` is none of `active`, `passive`"],
        ),
        (port("\"10.0.0.1/24\"], bfd = {}"), &["5:73 {}: BFD has nobody to speak with"]),
    ]);
}

#[test]
fn a_port_can_reach_what_its_realm_has() {
    let of = |networks: &str, port: &str| realm("a", networks) + &attached(port);
    let table = |port: &str| format!("{{ interface = \"eth1\", vlan = 1, address = [{port} }}");
    let v4 = format!("\"172.20.0.2/30\"], {GATEWAY}");
    check(&[(
        of("\"10.0.0.0/24\", \"fd00:1::/64\"", &v4),
        &[&format!("5:8 {}: the port has no IPv6 address, and realm `a` has IPv6 networks", table(&v4))],
    )]);
    let alone = "\"172.20.0.2/30\"]";
    warned(&[
        (
            of("\"10.0.0.0/24\"", "\"172.20.0.2/30\", \"2001:db8:9::2/64\"], gateway = \"172.20.0.1\""),
            "5:68 warning \"2001:db8:9::2/64\": realm `a` has no IPv6 networks",
        ),
        (
            of("\"10.0.0.0/24\", \"172.20.0.0/30\"", alone),
            &format!("5:8 warning {}: 10.0.0.0/24 of realm `a` has no gateway", table(alone)),
        ),
    ]);
    // On the link, behind two routers that have it together, and by routers without another address of ours.
    read(&of("\"172.20.0.0/30\"", alone));
    read(&of(
        "\"10.0.0.0/24\"",
        "\"172.20.0.2/29\"], routes = [{ prefix = \"10.0.0.0/25\", via = \"172.20.0.3\" }, \
         { prefix = \"10.0.0.128/25\", via = \"172.20.0.4\" }]",
    ));
    let link_local = "\"172.20.0.2/30\", \"fe80::2/64\"], gateway = [\"172.20.0.1\"";
    read(&of("\"10.0.0.0/24\", \"fd00:1::/64\"", &format!("{link_local}, \"fe80::1\"]")));
    read(&of("\"10.0.0.0/24\", \"fd00:1::/64\"", &format!("{link_local}], accept_ra = true")));

    let default = of("\"default\"", alone);
    check(&[(default, &[&format!("5:8 {}: the default realm `a` has no gateway", table(alone))])]);
    read(&of("\"default\"", &v4));
}

#[test]
fn own_addresses_are_nobody_elses() {
    let host = "[[host]]\nname = \"h\"\nrealm = \"a\"\naddress = \"10.0.0.2\"\n";
    let on_link = port("\"10.0.0.2/24\"]");
    read(&on_link);
    check(&[(on_link + host, &["5:51 \"10.0.0.2/24\": 10.0.0.2 is the host `h` of realm `a`"])]);

    let link = |prefix: &str| port(&format!("\"{prefix}2/30\"], gateway = \"{prefix}1\""));
    let other = realm("b", "{ prefix = \"10.0.0.0/24\", alias = \"198.51.100.0/24\" }");
    let pool = realm("b", "\"10.0.0.0/24\"") + "show_as = { napt = [\"203.0.113.0/28\"] }\n";
    check(&[
        (link("100.64.7."), &["5:51 \"100.64.7.2/30\": the link 100.64.7.0/30 overlaps 100.64.0.0/10"]),
        (
            link("198.51.100.") + &other,
            &["5:51 \"198.51.100.2/30\": the link 198.51.100.0/30 overlaps 198.51.100.0/24"],
        ),
        (link("203.0.113.") + &pool, &["5:51 \"203.0.113.2/30\": the link 203.0.113.0/30 overlaps 203.0.113.0/28"]),
        (
            realm("a", "\"fd00:1::/64\"") + &attached("\"fd69:7867:6174::2/64\"], gateway = \"fe80::1\""),
            &["5:51 \"fd69:7867:6174::2/64\": the link fd69:7867:6174::/64 overlaps fd69:7867:6174::/48"],
        ),
    ]);
    // What the realm's own alias is, it does not see.
    let own = realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"198.51.100.0/24\" }");
    read(&(own + &attached("\"198.51.100.2/30\"], gateway = \"198.51.100.1\"")));
    // As the remedy says.
    let networks = "\"10.0.0.0/24\", { prefix = \"100.64.7.0/30\", alias = \"hosts\" }";
    read(&(realm("a", networks) + &attached("\"100.64.7.2/30\"], gateway = \"100.64.7.1\"")));
}

#[test]
fn nobody_answers_for_every_address() {
    let proxy = |more: &str| {
        with(&format!("{GATEWAY}, proxy = true"))
            + &realm("internet", "\"default\"")
            + "[[host]]\nname = \"h\"\nrealm = \"internet\"\naddress = \"8.8.8.8\"\n\
               [[service]]\nname = \"s\"\nhost = \"h.internet\"\nports = [\"udp/53\"]\n"
            + more
    };
    assert!(parse(&proxy("")).is_ok());
    for (from, to) in [
        ("a", "\"s\"]"),
        ("a", "\"realm:internet\"]\nports = [\"any\"]"),
        ("internet", "\"realm:a\"]\nports = [\"any\"]"),
    ] {
        let report = parse(&proxy(&format!("[[grant]]\nfrom = [\"{from}\"]\nto = [{to}\n"))).unwrap_err();
        assert_eq!(places(&report)[0], "5:101 true: `proxy` would answer for every address on this link");
    }
}

#[test]
fn priorities_are_in_all_attachments_or_in_none() {
    let attach = |name: &str, order: &str| format!("[[realm.attach]]\ntun = {{ name = \"{name}\" }}\n{order}\n");
    let base = realm("a", "\"10.0.0.0/24\"");
    let two = |one: &str, other: &str| base.clone() + &attach("ix0", one) + &attach("ix1", other);
    let orders = |text: &str| -> Vec<(u8, u8)> { read(text).iter().map(|a| (a.priority, a.weight)).collect() };
    assert_eq!(orders(&two("", "")), [(0, 1), (1, 1)], "the order of the file");
    assert_eq!(orders(&two("priority = 7", "priority = 0")), [(7, 1), (0, 1)]);
    assert_eq!(orders(&two("priority = 1\nweight = 100", "priority = 1")), [(1, 100), (1, 1)]);
    check(&[
        (two("", "priority = 1"), &["4:1 [[realm.attach]]: `priority` is missing in this [[realm.attach]]"]),
        (two("weight = 2", ""), &["6:10 2: `weight` without `priority`"]),
        (two("priority = 256", "priority = 1"), &["6:12 256: `priority` is out of bounds"]),
        (two("priority = 1\nweight = 0", "priority = 1"), &["7:10 0: `weight` is out of bounds"]),
        (two("priority = 1\nweight = 101", "priority = 1"), &["7:10 101: `weight` is out of bounds"]),
    ]);
    warned(&[(
        two("priority = 1\nweight = 2", "priority = 2"),
        "7:10 warning 2: no other attachment of the realm has `priority = 1`",
    )]);
}

/// (Quadratic code takes minutes here.)
#[test]
fn a_file_with_ten_thousand_ports_is_checked() {
    let mut text = "[ix]\nalias4 = [\"100.0.0.0/8\"]\n".to_owned();
    for i in 0..500 {
        let networks: Vec<_> = (0..40).map(|n| format!("\"10.0.{n}.0/24\"")).collect();
        text += &realm(&format!("r{i}"), &networks.join(", "));
        for vlan in 1..=20 {
            let place = format!("vlan = {vlan}, service_vlan = {}", i + 1);
            text += &attached(&format!("\"172.20.0.2/30\"], {GATEWAY}")).replace("vlan = 1", &place);
        }
        text += &format!("[[host]]\nname = \"h\"\nrealm = \"r{i}\"\naddress = \"10.0.1.7\"\n");
    }
    let config = parse(&text).unwrap().config;
    assert_eq!((config.attachments().count(), config.interfaces.len()), (10_000, 1));
}
