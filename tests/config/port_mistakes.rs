//! What operators write of a port in the night of a hand-off and is not right: where `check` points, and the words that help.

use super::*;

const ETH1: &str = "interface = \"eth1\"";
const LINK: &str = "address = \"172.20.0.2/30\", gateway = \"172.20.0.1\"";
/// Lines 1 to 4; what is attached stands in the fifth.
const REALM: &str = "[[realm]]\nname = \"a\"\nnetworks = [\"10.0.0.0/24\"]\n[[realm.attach]]\n";

fn port(inside: &str) -> String {
    format!("{REALM}port = {{ {inside} }}\n")
}

/// On eth1, with addresses.
fn usual(more: &str) -> String {
    port(&format!("{ETH1}, {more}, {LINK}"))
}

/// Exactly one problem of the file, its place and message; and words of its remedy or reason.
fn says(text: &str, place: &str, words: &[&str]) {
    let (report, is_ok) = match parse(text) {
        Ok(loaded) => (loaded.report().clone(), true),
        Err(report) => (report, false),
    };
    assert_eq!(places(&report), [place], "{text}");
    let only = &report.diagnostics[0];
    assert_eq!(is_ok, only.severity == Severity::Warning);
    for word in words {
        assert!(only.why.contains(word) || only.remedy.contains(word), "{word} is not in\n{only}");
    }
}

#[test]
fn two_tags_are_service_vlan_and_vlan() {
    const BOTH: &str = "`service_vlan = 200, vlan = 100`";
    for key in ["svlan", "s_vlan", "outer_vlan", "qinq"] {
        says(&usual(&format!("{key} = 200, vlan = 100")), &format!("5:30 {key}: unknown key `{key}` in port"), &[BOTH]);
    }
    for (value, kind) in [("\"100.200\"", "a text"), ("100.200", "a fraction"), ("[200, 100]", "a list")] {
        let place = format!("5:37 {value}: `vlan` is {kind}, and must be a whole number");
        says(&usual(&format!("vlan = {value}")), &place, &[BOTH]);
    }
    let place = "5:45 \"200\": `service_vlan` is a text, and must be a whole number";
    says(&usual("service_vlan = \"200\", vlan = 100"), place, &[BOTH]);
    says(&usual("vlans = [1, 2]"), "5:30 vlans: unknown key `vlans` in port", &[BOTH, "its own `vlan`"]);
    says(&usual("vlan_id = 100"), "5:30 vlan_id: unknown key `vlan_id` in port", &["`vlan = 100`"]);
    // Whose place it would be, nobody knows: no second mistake of it.
    let second = REALM.replace("\"a\"", "\"b\"") + &format!("port = {{ {ETH1}, svlan = 300, vlan = 100, {LINK} }}\n");
    says(&(usual("vlan = 100") + &second), "10:30 svlan: unknown key `svlan` in port", &[BOTH]);
}

#[test]
fn bfd_is_a_table_without_authentication() {
    for value in ["true", "false"] {
        let place = format!("5:36 {value}: `bfd` is true or false, and must be a table");
        says(&usual(&format!("bfd = {value}")), &place, &["`bfd = {}`", "interval_ms = 100", "leave it out"]);
    }
    for key in ["password", "auth", "authentication", "key_id"] {
        let text = usual(&format!("bfd = {{ {key} = \"hunter2\" }}"));
        let place = format!("5:38 {key}: unknown key `{key}` in bfd");
        says(&text, &place, &["without authentication", "remove it, and ask the carrier"]);
    }
    let shown = parse(&usual("bfd = { password = \"hunter2\" }")).unwrap_err();
    assert!(!shown.source().contains("hunter2"), "it is a secret all the same");
    for (written, key, words) in [
        ("min_rx = 100", "min_rx", "`interval_ms = 100`"),
        ("detect_multiplier = 3", "detect_multiplier", "`multiplier = 3`"),
        ("echo = true", "echo", "no echo"),
        ("passive = true", "passive", "`mode = \"passive\"`"),
        ("enabled = true", "enabled", "`bfd = {}`"),
        ("neighbor = \"172.20.0.1\"", "neighbor", "every router in `gateway`"),
    ] {
        says(&usual(&format!("bfd = {{ {written} }}")), &format!("5:38 {key}: unknown key `{key}` in bfd"), &[words]);
    }
}

#[test]
fn probes_beside_bfd_are_said_to_be_in_vain() {
    says(
        &usual("bfd = {}, liveness_ms = 200"),
        "5:54 warning 200: `liveness_ms` has no effect beside `bfd`",
        &["remove `liveness_ms`", "`interval_ms` and `multiplier`"],
    );
    says(
        &usual("bfd = {}, liveness_multiplier = 5"),
        "5:62 warning 5: `liveness_multiplier` has no effect beside `bfd`",
        &["or remove `bfd`"],
    );
    assert_eq!(parse(&usual("liveness_ms = 200")).unwrap().warnings, []);
    let announced = usual("bfd = {}, liveness_ms = 200, liveness_multiplier = 5, accept_ra = true");
    let announced = announced.replace("\"172.20.0.2/30\"", "[\"172.20.0.2/30\", \"fe80::2/64\"]");
    let warnings = parse(&announced).unwrap().warnings;
    assert!(
        warnings.iter().all(|said| !said.message.contains("liveness")),
        "who announces himself is asked: {warnings:?}"
    );
    says(&usual("liveness = \"arp\""), "5:30 liveness: unknown key `liveness` in port", &["`liveness_ms = 1000, liv"]);
}

#[test]
fn addresses_have_no_zone_and_a_length() {
    let gateway = |gateway: &str| {
        REALM.replace("\"10.0.0.0/24\"", "\"fd00:1::/64\"")
            + &format!("port = {{ {ETH1}, address = \"fe80::2/64\", gateway = \"{gateway}\" }}\n")
    };
    let zone = "an address is written without its interface here";
    says(&gateway("fe80::1%eth1"), &format!("5:64 \"fe80::1%eth1\": {zone}"), &["write `fe80::1`", "`%eth1`"]);
    assert_eq!(parse(&gateway("fe80::1")).unwrap().warnings, [], "a link-local address alone is enough");
    let own = gateway("fe80::1").replace("fe80::2/64", "fe80::2%eth1/64");
    assert_eq!(places(&parse(&own).unwrap_err()), [format!("5:40 \"fe80::2%eth1/64\": {zone}")]);
    assert_eq!(parse(&own).unwrap_err().diagnostics[0].remedy, "write `fe80::2/64`");

    let own = |address: &str| port(&format!("{ETH1}, address = \"{address}\", gateway = \"172.20.0.1\""));
    for mask in ["172.20.0.2/255.255.255.252", "172.20.0.2 255.255.255.252"] {
        let place = format!("5:40 \"{mask}\": the prefix length is written as a mask");
        says(&own(mask), &place, &["write `172.20.0.2/30`"]);
    }
    let missing = "the prefix length of the link is missing";
    says(&own("172.20.0.2"), &format!("5:40 \"172.20.0.2\": {missing}"), &["`172.20.0.2/30`"]);
    says(&own("2001:db8:9::2"), &format!("5:40 \"2001:db8:9::2\": {missing}"), &["`2001:db8:9::2/64`"]);
    let prefix = own("172.20.0.2/30").replace("\"172.20.0.1\"", "\"172.20.0.1/30\"");
    says(&prefix, "5:67 \"172.20.0.1/30\": this is not an IP address", &["write `172.20.0.1`"]);
}

#[test]
fn the_shortest_links_are_those_of_two() {
    let v4 = |own: &str, gateway: &str| port(&format!("{ETH1}, address = \"{own}\", gateway = \"{gateway}\""));
    let v6 = |own: &str, gateway: &str| v4(own, gateway).replace("10.0.0.0/24", "fd00:1::/64");
    for right in [
        v4("172.20.0.2/31", "172.20.0.3"),
        v4("172.20.0.3/31", "172.20.0.2"),
        v6("2001:db8:9::/127", "2001:db8:9::1"),
        v6("2001:db8:9::1/127", "2001:db8:9::"),
        // The router is link-local, and the address ours alone.
        v6("2001:db8:9::1/128", "fe80::1"),
    ] {
        assert_eq!(parse(&right).unwrap().warnings, [], "{right}");
    }
    says(
        &v4("172.20.0.2/32", "172.20.0.1"),
        "5:67 \"172.20.0.1\": the gateway 172.20.0.1 is not on the link",
        &["a /32 is our address alone", "/31 or /30"],
    );
    says(
        &v6("2001:db8:9::1/128", "2001:db8:9::"),
        "5:71 \"2001:db8:9::\": the gateway 2001:db8:9:: is not on the link",
        &["a /128 is our address alone", "/64 or /127", "link-local"],
    );
    for end in ["172.20.0.0", "172.20.0.3"] {
        says(
            &v4("172.20.0.2/30", end),
            &format!("5:67 \"{end}\": {end} cannot be the gateway"),
            &["first or the last address of the link"],
        );
    }
    says(
        &v6("2001:db8::2/31", "fe80::1"),
        "5:40 \"2001:db8::2/31\": a link cannot be as wide as a /31",
        &["at least /32", "`2001:db8:9::2/64`"],
    );
}

#[test]
fn a_vlan_device_of_the_kernel_is_not_needed() {
    let on = |interface: &str| port(&format!("interface = \"{interface}\", {LINK}"));
    says(
        &on("eth1.100"),
        "5:22 warning \"eth1.100\": `eth1.100` reads like VLAN 100 of `eth1`",
        &["write `interface = \"eth1\", vlan = 100`", "ip link delete eth1.100"],
    );
    for name in ["eth1.0", "eth1.4095", "eth1.x", ".7"] {
        assert_eq!(parse(&on(name)).unwrap().warnings, [], "{name}");
    }
    // The device gets nothing where the interface below it is ours.
    let both = on("eth1.100") + "[[realm.attach]]\n" + &format!("port = {{ {ETH1}, vlan = 7, {LINK} }}\n");
    says(
        &both,
        "5:22 \"eth1.100\": `eth1.100` is VLAN 100 of `eth1`, on which another port is",
        &["no frame would reach", "write `interface = \"eth1\", vlan = 100`"],
    );
}

#[test]
fn keys_at_another_place_are_named_there() {
    for (more, key, words) in [
        ("driver = \"af_xdp\"", "driver", "`[[interface]]`"),
        ("mtu_bytes = 1500", "mtu_bytes", "`mtu = 1500`"),
        ("priority = 1", "priority", "under [[realm.attach]], beside `port`"),
        ("mac = \"02:00:00:00:00:01\"", "mac", "ip link set eth1 address"),
        ("proxy_arp = true", "proxy_arp", "`proxy = true`"),
        ("router = \"172.20.0.1\"", "router", "`gateway = \"172.20.0.1\"`"),
        ("dhcp = true", "dhcp", "that the carrier gave"),
        ("bgp = {}", "bgp", "`routes_from`"),
    ] {
        says(&usual(more), &format!("5:30 {key}: unknown key `{key}` in port"), &[words]);
    }
    // What was written under another name is not missing as well.
    let named = |key: &str| port(&format!("{ETH1}, {key} = \"172.20.0.2/30\""));
    says(&named("ip"), "5:30 ip: unknown key `ip` in port", &["`address = \"172.20.0.2/30\"`"]);
    let dev = port(&format!("dev = \"eth1\", {LINK}"));
    says(&dev, "5:10 dev: unknown key `dev` in port", &["`interface = \"eth1\"`"]);
    let route = |route: &str| usual(&format!("routes = {route}"));
    says(
        &route("[{ prefix = \"10.0.0.0/25\", gateway = \"172.20.0.1\" }]"),
        "5:66 gateway: unknown key `gateway` in a route",
        &["via = "],
    );
    let table = "{ prefix = \"10.0.0.0/25\", via = \"172.20.0.1\" }";
    says(
        &route(table),
        &format!("5:39 {table}: `routes` is one table, and must be a list of tables"),
        &["`routes = [{ prefix"],
    );
    says(
        &route("[{ prefix = \"default\", via = \"172.20.0.1\" }]"),
        "5:51 \"default\": a route for everything else is `gateway`",
        &["write `gateway = \"172.20.0.1\"`"],
    );
    let interface = usual("vlan = 1") + "[[interface]]\nname = \"eth1\"\nmtu = 1500\n";
    says(&interface, "8:1 mtu: unknown key `mtu` in [[interface]]", &["within `port = { … }`"]);
    let tun = |tun: &str| format!("{REALM}tun = {tun}\n");
    says(&tun("\"ix0\""), "5:7 \"ix0\": `tun` is a text, and must be a table", &["`tun = { name = \"ix0\" }`"]);
    says(
        &tun("{ name = \"ix0\", address = \"10.0.0.1/24\" }"),
        "5:23 address: unknown key `address` in tun",
        &["the kernel's"],
    );
    let realms = REALM.replace("[[realm.attach]]\n", "") + "port = { }\n";
    says(&realms, "4:1 port: unknown key `port` in [[realm]]", &["under [[realm.attach]]"]);
    let beside = usual("vlan = 1") + "mtu = 1500\n";
    says(&beside, "6:1 mtu: unknown key `mtu` in [[realm.attach]]", &["`mtu = 1500` within `port"]);
}

#[test]
fn a_place_twice_in_one_realm_is_one_port() {
    let text = usual("vlan = 7")
        + "[[realm.attach]]\nport = { interface = \"eth1\", vlan = 7, address = \"172.20.1.2/30\" }\n";
    let report = parse(&text).unwrap_err();
    assert!(places(&report)[0].ends_with("a second port is on eth1, VLAN 7"), "{report}");
    let remedy = &report.diagnostics[0].remedy;
    assert!(remedy.contains("join the two") && remedy.contains("lists"), "{report}");
}

#[test]
fn untagged_beside_tagged_is_warned_of() {
    let realm = |name: &str| REALM.replace("\"a\"", &format!("\"{name}\""));
    let tagged = realm("b") + &format!("port = {{ {ETH1}, vlan = 7, {LINK} }}\n");
    let table = |interface: &str| format!("{{ interface = \"{interface}\", {LINK} }}");
    let untagged = |interface: &str| format!("port = {}\n", table(interface));
    let both = realm("a") + &untagged("eth1") + &tagged;
    let warning = "untagged frames of `eth1` are realm `a`'s, and tagged ones other realms'";
    let place = format!("5:8 warning {}: {warning}", table("eth1"));
    says(&both, &place, &["native VLAN", "VLAN hopping", "tag every VLAN"]);
    let related = &parse(&both).unwrap().warnings[0].related[0];
    assert_eq!((related.line, related.column), (10, 8));
    for fine in [realm("a") + &untagged("eth2") + &tagged, tagged.clone() + "[[realm.attach]]\n" + &untagged("eth1")] {
        assert_eq!(parse(&fine).unwrap().warnings, [], "{fine}");
    }
}

#[test]
fn bounds_are_said_with_their_reason() {
    says(&usual("mtu = 1279"), "5:36 1279: `mtu` is out of bounds", &["IPv6", "from 1280 to 1920"]);
    says(&usual("mtu = 9000"), "5:36 9000: `mtu` is out of bounds", &["jumbo", "from 1280 to 1920"]);
    says(&usual("vlan = 0"), "5:37 0: `vlan` is out of bounds", &["Left out: untagged", "from 1 to 4094"]);
    let order = |line: &str| usual("vlan = 1") + line;
    says(&order("priority = 300"), "6:12 300: `priority` is out of bounds", &["lowest number", "from 0 to 255"]);
    says(&order("priority = -1"), "6:12 -1: `priority` is out of bounds", &["from 0 to 255"]);
    says(&order("priority = 1\nweight = 0"), "7:10 0: `weight` is out of bounds", &["Shares", "from 1 to 100"]);
}

#[test]
fn mistakes_of_syntax_come_with_what_to_write() {
    for (written, remedy) in [
        ("address = 172.20.0.2/30", "write it in quotes: `\"172.20.0.2/30\"`"),
        ("address = “172.20.0.2/30”", "write straight quotes around it: `\"172.20.0.2/30\"`"),
        ("interface = eth1", "write it in quotes"),
        ("interface = \"eth1\" vlan = 100", "write a comma between the two"),
        ("vlan = 100, vlan = 200", "keep one of the two"),
        ("vlan = 0100", "write the number without zeros before it"),
        ("vlan: 100", "write `=` between a key and its value, not `:`"),
        ("proxy = yes", "write `true`"),
        ("proxy = off", "write `false`"),
        ("vlan = ", "see https://toml.io for how values, tables and strings are written"),
    ] {
        let report = parse(&port(written)).unwrap_err();
        assert_eq!((report.diagnostics[0].line, report.diagnostics[0].remedy.as_str()), (5, remedy), "{report}");
    }
}
