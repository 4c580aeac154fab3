//! `show_as` in the configuration file: what is refused and where, and what a right one means.

use ixgate::config::model::{AliasMode, Filtering, ForwardProtocol};

use super::*;

/// The value of `show_as` begins at column 11 of the fourth line.
fn shown(show_as: &str) -> String {
    realm("a", "\"192.168.1.0/24\"") + "show_as = " + show_as + "\n"
}

fn other(networks: &str) -> String {
    realm("b", networks)
}

#[test]
fn a_right_one_is_read_and_takes_the_place_of_aliases_that_nobody_asked_for() {
    let networks = "\"192.168.1.0/24\", { prefix = \"10.0.0.0/24\", alias = \"100.64.7.0/24\" }";
    let text = realm("a", networks)
        + "show_as = { napt = [\"100.64.9.0/28\"], filtering = \"address\", block_ports = 64, \
           forwards = [{ outside = \"100.64.9.1\", port = \"udp/53\", to = \"192.168.1.20:5353\" }] }\n";
    let loaded = parse(&text).unwrap();
    let realm = &loaded.config.realms[0];
    let napt = realm.napt.as_ref().unwrap();
    assert_eq!((napt.filtering, napt.block_ports, &napt.viewers), (Filtering::Address, 64, &None));
    let forward = napt.forwards[0];
    assert_eq!((forward.protocol, forward.outside.1, forward.to.1), (ForwardProtocol::Udp, 53, 5353));
    assert_eq!(realm.networks[0].alias, AliasMode::HostsOnly);
    assert!(matches!(realm.networks[1].alias, AliasMode::Pinned(_)), "what is pinned stays");

    let text = shown("{ napt = [\"100.64.9.0/28\"], for = [\"b\"] }") + &other("\"192.168.1.0/24\"");
    let realm = &parse(&text).unwrap().config.realms[0];
    assert_eq!(realm.networks[0].alias, AliasMode::Auto, "the others still see aliases");
    let napt = realm.napt.as_ref().unwrap();
    assert_eq!((napt.filtering, napt.block_ports), (Filtering::AddressAndPort, 256));
}

#[test]
fn a_pool_needs_no_room_for_the_networks_behind_it() {
    let text =
        realm("a", "\"10.0.0.0/8\"") + "show_as = { napt = [\"100.64.9.0/28\"] }\n" + &realm("b", "\"10.0.0.0/12\"");
    assert!(parse(&text).is_ok());
}

#[test]
fn a_pool_collides_with_nothing_that_its_viewers_use() {
    check(&[
        (
            shown("{ napt = [\"192.168.1.0/28\"] }"),
            &["4:21 \"192.168.1.0/28\": the pool 192.168.1.0/28 overlaps 192.168.1.0/24 of realm `a`"],
        ),
        (
            shown("{ napt = [\"172.16.0.0/28\"] }") + &other("\"172.16.0.0/12\""),
            &["4:21 \"172.16.0.0/28\": the pool 172.16.0.0/28 overlaps 172.16.0.0/12 of realm `b`"],
        ),
        (
            shown("{ napt = [\"100.64.0.0/28\"] }"),
            &["4:21 \"100.64.0.0/28\": the alias 100.64.0.0/28 overlaps the appliance's own 100.64.0.0/24"],
        ),
        (
            shown("{ napt = [\"100.64.9.0/28\"] }")
                + &other("{ prefix = \"192.168.1.0/24\", alias = \"100.64.9.0/24\" }"),
            &["4:21 \"100.64.9.0/28\": 100.64.9.0/28 overlaps 100.64.9.0/24"],
        ),
        (
            shown("{ napt = [\"100.64.9.0/28\"] }")
                + &other("\"192.168.1.0/24\"")
                + "show_as = { napt = [\"100.64.9.8/29\"] }\n",
            &["8:21 \"100.64.9.8/29\": 100.64.9.8/29 overlaps 100.64.9.0/28"],
        ),
        (shown("{ napt = [\"10.0.0.0/8\"] }"), &["4:21 \"10.0.0.0/8\": 10.0.0.0/8 is too large for a pool"]),
        (shown("{ napt = [\"127.0.0.0/28\"] }"), &["4:21 \"127.0.0.0/28\": 127.0.0.0/28 cannot be a pool"]),
        (shown("{ napt = [\"100.64.9.1/28\"] }"), &["4:21 \"100.64.9.1/28\": 100.64.9.1/28 has host bits set"]),
    ]);
    // A realm that does not see the pool may use its addresses.
    let unseen = shown("{ napt = [\"172.16.0.0/28\"], for = [\"c\"] }")
        + &other("\"172.16.0.0/12\"")
        + &realm("c", "\"10.0.0.0/24\"");
    assert!(parse(&unseen).is_ok(), "{:?}", parse(&unseen).map(|_| ()));
}

#[test]
fn mistakes_in_show_as() {
    let forward = |forward: &str| shown(&format!("{{ napt = [\"100.64.9.0/28\"], forwards = [{forward}] }}"));
    let whole = "{ outside = \"100.64.9.1\", port = \"tcp/443\", to = \"192.168.1.20:8443\" }";
    assert!(parse(&forward(whole)).is_ok());
    let changed = |from: &str, to: &str| forward(&whole.replace(from, to));
    check(&[
        (shown("[]"), &["4:11 []: `show_as` is a list, and must be a table"]),
        (shown("{ }"), &["4:11 { }: `napt` is missing in show_as"]),
        (shown("{ napt = [\"100.64.9.0/28\"], for = [\"x\"] }"), &["4:46 \"x\": there is no realm `x`"]),
        (
            shown("{ napt = [\"100.64.9.0/28\"], for = [\"a\"] }"),
            &["4:45 [\"a\"]: the realm itself is among those that see it by its pool"],
        ),
        (shown("{ napt = [\"100.64.9.0/28\"], block_ports = 255 }"), &["4:53 255: `block_ports` is odd"]),
        (changed("100.64.9.1", "100.64.8.1"), &["4:63 \"100.64.8.1\": this is no address of the pool"]),
        (changed("tcp/443", "icmp"), &["4:84 \"icmp\": this is not a port"]),
        (changed("tcp/443", "tcp/0"), &["4:84 \"tcp/0\": this is not a port"]),
        (changed("192.168.1.20:8443", "192.168.1.20"), &["4:100 \"192.168.1.20\": this is not an address and a port"]),
        (
            changed("192.168.1.20", "192.168.2.20"),
            &["4:100 \"192.168.2.20:8443\": 192.168.2.20 is outside the realm's networks"],
        ),
        (
            forward(&format!("{whole}, {}", whole.replace("8443", "80"))),
            &["4:156 \"tcp/443\": 100.64.9.1:443 is in another forward already"],
        ),
        (
            forward(&format!("{whole}, {}", whole.replace("tcp/443", "tcp/80"))),
            &["4:171 \"192.168.1.20:8443\": 192.168.1.20:8443 is in another forward already"],
        ),
        (
            forward(whole)
                .replace("[\"192.168.1.0/24\"]", "[{ prefix = \"192.168.1.0/24\", alias = \"100.64.7.0/24\" }]"),
            &["4:100 \"192.168.1.20:8443\": 192.168.1.20 is seen by an alias"],
        ),
        (
            forward(whole)
                .replace("\"192.168.1.0/24\"", "{ prefix = \"fd00:1::/120\", alias = \"auto\" }")
                .replace("192.168.1.20", "[fd00:1::20]"),
            &["4:100 \"[fd00:1::20]:8443\": fd00:1::20 is seen by an alias"],
        ),
    ]);
}

#[test]
fn forwards_are_bindings_and_there_are_only_so_many() {
    let forwards: Vec<String> = (1..=600)
        .map(|port| format!("{{ outside = \"100.64.9.1\", port = \"tcp/{port}\", to = \"192.168.1.20:{port}\" }}"))
        .collect();
    let many = |pool: &str| {
        format!(
            "{{ napt = [\"{pool}\"], forwards = [{}] }}",
            forwards.join(", ").replace("100.64.9.1", pool.trim_end_matches("/32"))
        )
    };
    let text = "[limits]\nnapt_bindings = 1024\n".to_owned()
        + &shown(&many("100.64.9.1/32"))
        + &other("\"192.168.1.0/24\"")
        + "show_as = "
        + &many("100.64.9.2/32")
        + "\n";
    let report = parse(&text).unwrap_err();
    let [problem] = &report.diagnostics[..] else { panic!("{report}") };
    assert_eq!((problem.line, problem.message.as_str()), (10, "there are 1200 forwards so far"));
    assert!(parse(&text.replace("1024", "1200")).is_ok());
}

/// B sees A by its pool, and nobody told it a port.
#[test]
fn a_grant_of_a_service_that_its_viewer_cannot_open_is_warned_of() {
    let file = |viewer: &str, show_as: &str, addresses: &str| {
        realm("a", "\"192.168.1.0/24\", \"fd00:1::/64\"")
            + &format!("show_as = {{ napt = [\"100.64.9.0/28\"]{show_as} }}\n")
            + &other(viewer)
            + &format!("[[host]]\nname = \"web\"\nrealm = \"a\"\naddress = {addresses}\n")
            + "[[service]]\nname = \"web\"\nhost = \"web.a\"\nports = [\"icmp\", \"tcp/8443\"]\n"
            + "[[grant]]\nfrom = [\"b\"]\nto = [\"web\"]\n"
    };
    let (ipv4, host, seen) = ("\"192.168.1.0/24\"", "\"192.168.1.20\"", ", for = [\"b\"]");
    let forward = |to: &str| {
        format!("{seen}, forwards = [{{ outside = \"100.64.9.1\", port = \"tcp/443\", to = \"192.168.1.20:{to}\" }}]")
    };
    let both = "[\"192.168.1.20\", \"fd00:1::20\"]";
    for (text, warned) in [
        (file(ipv4, seen, host), true),
        (file(ipv4, &forward("22"), host), true),
        (file(ipv4, seen, both), true),
        (file(ipv4, &forward("8443"), host), false),
        (file(ipv4, "", host), false),
        (file("\"fd00:2::/64\"", seen, host), false),
        (file("\"default\"", seen, host), false),
    ] {
        let loaded = parse(&text).unwrap();
        let want = ["18:7 warning \"web\": realm `b` cannot open service `web`"];
        let report = places(loaded.report());
        let said: Vec<_> = report.iter().filter(|place| place.contains("service `web`")).collect();
        assert_eq!(said, if warned { want.iter().collect() } else { vec![] }, "{text}\n{report:?}");
    }
    let remedy = parse(&file(ipv4, seen, host)).unwrap().warnings[0].remedy.clone();
    assert_eq!(
        remedy,
        "add a forward, for example `{ outside = \"100.64.9.0\", port = \"tcp/8443\", to = \"192.168.1.20:8443\" }`, or \
         take `b` out of `for`"
    );
}

/// What a remedy proposes is not refused in its turn.
#[test]
fn remedies_can_be_followed() {
    let remedy = |text: &str| parse(text).unwrap_err().diagnostics[0].remedy.clone();
    assert_eq!(remedy(&shown("{ }")), "add `napt = [\"100.64.9.0/28\"]`");
    for everything in ["0.0.0.0/0", "::/0", "defualt"] {
        assert!(remedy(&realm("a", &format!("\"{everything}\""))).contains("`\"default\"`"), "{everything}");
    }
    let forward = |resolver: &str| format!("[[dns_forward]]\ndomain = \".\"\nresolvers = [\"{resolver}\"]\n");
    assert!(remedy(&forward("tls:9.9.9.10")).starts_with("write `tls:NAME@9.9.9.10`"));
    assert!(remedy(&forward("nonsense")).contains("`tls:dns.quad9.net@9.9.9.9`"));
    let key = |path: &str| remedy(&format!("[wireguard]\nprivate_key_file = \"{path}\"\n"));
    assert!(key("k").ends_with("`ixgate keygen wireguard --out /etc/ixgate/k`; the path is relative to this file"));
    assert!(key("/nonexistent/k").ends_with("`ixgate keygen wireguard --out /nonexistent/k`"));
}
