//! The configuration file from outside: what is refused and where, what is accepted and as what, the examples, and that
//! nothing makes the reader panic.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ixgate::config::diagnostic::{MAX_DIAGNOSTICS, Report, Severity};
use ixgate::config::model::{AliasMode, GrantTarget, HostRef, RealmRef, ServiceRef};
use ixgate::config::{self, Diagnostic, Loaded, MemorySecrets};
use ixgate::net::policy::PortRule;

#[path = "config/arbitrary.rs"]
mod arbitrary;
#[path = "config/dns.rs"]
mod dns;
#[path = "config/examples.rs"]
mod examples;
#[path = "config/gate.rs"]
mod gate;
#[path = "config/hidden.rs"]
mod hidden;
#[path = "config/ipsec.rs"]
mod ipsec;
#[path = "config/napt.rs"]
mod napt;
#[path = "config/plain_ports.rs"]
mod plain_ports;
#[path = "config/port_mistakes.rs"]
mod port_mistakes;
#[path = "config/routes_from.rs"]
mod routes_from;
#[path = "config/uplink.rs"]
mod uplink;
#[path = "config/zone.rs"]
mod zone;

const FILE: &str = "/etc/ixgate/ix.toml";
const PRIVATE_KEY: [u8; 32] = [0x42; 32];

fn key(byte: u8) -> String {
    STANDARD.encode([byte; 32])
}

fn our_public_key() -> String {
    use boringtun::x25519::{PublicKey, StaticSecret};
    STANDARD.encode(PublicKey::from(&StaticSecret::from(PRIVATE_KEY)).as_bytes())
}

fn secrets() -> MemorySecrets {
    let mut secrets = MemorySecrets::default();
    secrets.insert("/etc/ixgate/our.key", format!("{}\n", STANDARD.encode(PRIVATE_KEY)));
    secrets.insert("/etc/ixgate/short", "AAAA");
    secrets.insert("/etc/ixgate/secrets/wireguard.key", key(0x42));
    secrets.insert("/etc/ixgate/secrets/hospital-b.psk", key(9));
    secrets
}

fn parse(text: &str) -> Result<Loaded, Report> {
    config::parse(text, Path::new(FILE), &secrets())
}

const NO_REALM: &str = "there is no realm: nothing will be carried";

/// `line:column text: message` of every diagnostic, but for the one that short examples have.
fn places(report: &Report) -> Vec<String> {
    let place = |d: &Diagnostic| {
        let mark = if d.severity == Severity::Warning { "warning " } else { "" };
        format!("{}:{} {mark}{}: {}", d.line, d.column, report.text(d.span), d.message)
    };
    report.diagnostics.iter().filter(|diagnostic| diagnostic.message != NO_REALM).map(place).collect()
}

/// Three lines; the networks begin at column 13 of the third.
fn realm(name: &str, networks: &str) -> String {
    format!("[[realm]]\nname = \"{name}\"\nnetworks = [{networks}]\n")
}

/// Each file, and exactly what is reported about it.
fn check(cases: &[(String, &[&str])]) {
    for (text, want) in cases {
        let report = parse(text).expect_err(text);
        assert_eq!(places(&report), *want, "{text}");
        for diagnostic in &report.diagnostics {
            assert!(!diagnostic.remedy.is_empty(), "no remedy: {}", diagnostic.message);
        }
    }
}

#[test]
fn mistakes_of_shape() {
    check(&[
        ("[ix]\nnmae = \"a\"\n".into(), &["2:1 nmae: unknown key `nmae` in [ix]"]),
        ("[relam]\n".into(), &["1:2 relam: unknown key `relam` in the file"]),
        ("ix = 3\n".into(), &["1:6 3: `[ix]` is a whole number, and must be a table"]),
        ("[realm]\n".into(), &["1:1 [realm]: `realm` is one table, and must be a list of tables"]),
        (
            "[[realm]]\n".into(),
            &["1:1 [[realm]]: `name` is missing in [[realm]]", "1:1 [[realm]]: `networks` is missing in [[realm]]"],
        ),
        (realm("a", ""), &["3:12 []: `networks` is empty"]),
        (realm("a", "7"), &["3:13 7: `networks` is a whole number, and must be a text"]),
        (realm("", "\"10.0.0.0/16\""), &["2:8 \"\": `name` is empty, too long or has a zero byte in it"]),
        ("[limits]\nsessions = 0\n".into(), &["2:12 0: `sessions` is out of bounds"]),
        ("[limits]\nsessions = 4_000_001\n".into(), &["2:12 4_000_001: `sessions` is out of bounds"]),
        ("[workers]\nthreads = \"4\"\n".into(), &["2:11 \"4\": `threads` is a text, and must be a whole number"]),
        ("[limits]\nsessions = 1e3\n".into(), &["2:12 1e3: `sessions` is a fraction, and must be a whole number"]),
    ]);
}

#[test]
fn mistakes_of_syntax() {
    let at = |text: &str| {
        let report = parse(text).unwrap_err();
        report.diagnostics.iter().map(|d| (d.line, d.column, report.text(d.span).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(at("[ix]\n[ix]\n"), [(2, 2, "ix".to_owned())]);
    assert_eq!(at("[ix]\nname = a b\nspace6 = \"x\n"), [(2, 8, "a b".to_owned()), (3, 12, "".to_owned())]);
}

#[test]
fn what_is_not_served_yet_is_refused_and_not_ignored() {
    check(&[
        (
            realm("a", "{ prefix = \"10.0.0.0/24\", show_as = [] }"),
            &["3:39 show_as: `show_as` is not served yet in this version"],
        ),
        (
            "[api]\nlisten = \"127.0.0.1:80\"\n".into(),
            &["2:10 \"127.0.0.1:80\": the API over TCP is not served yet in this version"],
        ),
    ]);
}

#[test]
fn mistakes_about_the_appliance_and_about_names() {
    check(&[
        ("[ix]\nname = \"IX East\"\n".into(), &["2:8 \"IX East\": this cannot be the name of a centre"]),
        ("[ix]\ndomain = \"ix.example.\"\n".into(), &["2:10 \"ix.example.\": this is not a domain"]),
        ("[ix]\nspace6 = \"fd00::/64\"\n".into(), &["2:10 \"fd00::/64\": `space6` is a /64, and must be a /48"]),
        (
            "[ix]\nalias4 = [\"100.64.0.0/10\", \"100.64.1.0/24\"]\n".into(),
            &["2:28 \"100.64.1.0/24\": 100.64.1.0/24 overlaps 100.64.0.0/10"],
        ),
        (
            "[ix]\nalias4 = [\"127.0.0.0/8\"]\n".into(),
            &["2:11 \"127.0.0.0/8\": aliases cannot be taken from 127.0.0.0/8"],
        ),
        ("[api]\nlisten = \"unix:\"\n".into(), &["2:10 \"unix:\": this is not a Unix socket"]),
        ("[metrics]\nlisten = \"no\"\n".into(), &["2:10 \"no\": this is not an IP address and a port or `off`"]),
        (
            "[wireguard]\nlisten = \"1.2.3.4:0\"\n".into(),
            &["2:10 \"1.2.3.4:0\": nothing can be reached at this address"],
        ),
        (realm("A_1", "\"10.0.0.0/24\""), &["2:8 \"A_1\": this cannot be the name of a realm"]),
        (realm("ix", "\"10.0.0.0/24\""), &["2:8 \"ix\": the realm name `ix` is reserved"]),
        (
            realm("a", "\"10.0.0.0/24\"") + &realm("a", "\"10.0.0.0/24\""),
            &["5:8 \"a\": a second realm has the name `a`"],
        ),
    ]);
    let long = format!("[api]\nlisten = \"unix:{}\"\n", "x".repeat(108));
    assert_eq!(parse(&long).unwrap_err().diagnostics[0].message, "the path of the API socket has 120 bytes");
}

#[test]
fn mistakes_about_networks_and_aliases() {
    check(&[
        (realm("a", "\"10.0.0.1/24\""), &["3:13 \"10.0.0.1/24\": 10.0.0.1/24 has host bits set"]),
        (realm("a", "\"10.0.0.1\""), &["3:13 \"10.0.0.1\": the prefix length is missing"]),
        (realm("a", "\"ten\""), &["3:13 \"ten\": this is not a network"]),
        (realm("a", "\"169.254.0.0/16\""), &["3:13 \"169.254.0.0/16\": 169.254.0.0/16 cannot be a realm's network"]),
        (realm("a", "\"fe80::/64\""), &["3:13 \"fe80::/64\": fe80::/64 cannot be a realm's network"]),
        (realm("a", "\"10.0.0.0/16\", \"10.0.1.0/24\""), &["3:28 \"10.0.1.0/24\": 10.0.1.0/24 overlaps 10.0.0.0/16"]),
        (
            realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"100.64.2.0/25\" }"),
            &["3:47 \"100.64.2.0/25\": the alias is a /25 and the network a /24"],
        ),
        (
            realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"fd00::/24\" }"),
            &["3:47 \"fd00::/24\": the alias of an IPv4 network is an IPv4 prefix"],
        ),
        (
            realm("a", "{ prefix = \"fd00::/64\", alias = \"auto\" }"),
            &["3:45 \"auto\": fd00::/64 is too large for an alias by itself"],
        ),
        (
            realm("a", "{ prefix = \"fd00::/64\", alias = \"100.64.5.0/24\" }"),
            &["3:45 \"100.64.5.0/24\": fd00::/64 has more addresses than IPv4"],
        ),
        (
            realm("a", "{ prefix = \"fd00::/120\", alias = \"100.64.4.0/23\" }"),
            &["3:46 \"100.64.4.0/23\": the alias is a /23 and the network a /120"],
        ),
        (
            realm("a", "{ prefix = \"fd00::/120\", alias = \"fd00:1::/120\" }"),
            &["3:46 \"fd00:1::/120\": the alias of an IPv6 network is an IPv4 prefix"],
        ),
        (
            realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"100.64.0.0/24\" }"),
            &["3:47 \"100.64.0.0/24\": the alias 100.64.0.0/24 overlaps the appliance's own 100.64.0.0/24"],
        ),
        (
            realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"100.64.2.0/24\" }")
                + &realm("b", "{ prefix = \"10.0.0.0/23\", alias = \"100.64.2.0/23\" }"),
            &["6:47 \"100.64.2.0/23\": 100.64.2.0/23 overlaps 100.64.2.0/24"],
        ),
    ]);
}

#[test]
fn an_alias_pool_that_is_too_small() {
    let hosts = "[[host]]\nname = \"h\"\nrealm = \"a\"\naddress = \"10.0.0.5\"\n";
    check(&[
        (
            "[ix]\nalias4 = [\"100.64.0.0/22\"]\n".to_owned()
                + &realm("a", "\"10.0.0.0/23\", \"10.0.2.0/24\", \"10.0.3.0/24\""),
            &["2:10 [\"100.64.0.0/22\"]: `alias4` is too small: 256 addresses are missing, for 1 of 3 aliases"],
        ),
        ("[ix]\nalias4 = [\"100.64.0.0/25\"]\n".into(), &["2:10 [\"100.64.0.0/25\"]: `alias4` has no room for a /24"]),
        (
            realm("a", "\"10.0.0.0/8\""),
            &["3:13 \"10.0.0.0/8\": `alias4` is too small: 16777216 addresses are missing, for 1 of 1 aliases"],
        ),
        // Single hosts need room as well; here the appliance's own /24 takes all of it.
        (
            "[ix]\nalias4 = [\"100.64.0.0/24\"]\n".to_owned()
                + &realm("a", "{ prefix = \"10.0.0.0/8\", alias = \"hosts\" }")
                + hosts,
            &["2:10 [\"100.64.0.0/24\"]: `alias4` is too small: 1 addresses are missing, for 1 of 1 aliases"],
        ),
        (
            realm("a", "{ prefix = \"100.64.0.0/10\", alias = \"hosts\" }"),
            &["3:24 \"100.64.0.0/10\": `alias4` has no room for what realm `a` cannot see under the usual aliases"],
        ),
    ]);
    // Exactly enough is enough: 256 of its own, 256 pinned inside, 512.
    let networks = "{ prefix = \"10.0.0.0/24\", alias = \"100.64.1.0/24\" }, \"10.0.2.0/24\", \"10.0.3.0/24\"";
    let exact = "[ix]\nalias4 = [\"100.64.0.0/22\"]\n".to_owned() + &realm("a", networks);
    assert!(parse(&exact).is_ok());
}

#[test]
fn mistakes_about_ranges() {
    let ten = "range = \"10.0.0.10-10.0.0.20\"";
    check(&[
        (realm("a", "{ range = \"10.0.0.1\" }"), &["3:23 \"10.0.0.1\": this is not a range of addresses"]),
        (
            realm("a", "{ range = \"10.0.0.9-10.0.0.1\" }"),
            &["3:23 \"10.0.0.9-10.0.0.1\": the range ends before it begins"],
        ),
        (
            realm("a", "{ range = \"10.0.0.9-fd00::1\" }"),
            &["3:23 \"10.0.0.9-fd00::1\": the two ends are of different address families"],
        ),
        (
            realm("a", "{ range = \"126.0.0.1-127.0.0.1\" }"),
            &["3:23 \"126.0.0.1-127.0.0.1\": 126.0.0.1-127.0.0.1 cannot be a realm's network"],
        ),
        (
            realm("a", "{ range = \"fd00::1-fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe\" }"),
            &["3:23 \"fd00::1-fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe\": \
               fd00::1-fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe falls into more than 64 prefixes"],
        ),
        (
            realm("a", &format!("{{ {ten}, prefix = \"10.0.0.0/24\" }}")),
            &["3:46 prefix: a network has both `range` and `prefix`"],
        ),
        (
            realm("a", "{ alias = \"hosts\" }"),
            &["3:13 { alias = \"hosts\" }: one of `prefix`, `range` is missing in a network"],
        ),
        (
            realm("a", &format!("{{ {ten}, canonical = \"fd00::/64\" }}")),
            &["3:58 \"fd00::/64\": a range has no canonical prefix"],
        ),
        (
            realm("a", &format!("{{ {ten}, alias = \"100.64.9.0/24\" }}")),
            &["3:54 \"100.64.9.0/24\": this is not a range of addresses"],
        ),
        (
            realm("a", &format!("{{ {ten}, alias = \"100.64.9.10-100.64.9.19\" }}")),
            &["3:54 \"100.64.9.10-100.64.9.19\": the alias and the range have not equally many addresses"],
        ),
        (
            realm("a", "{ range = \"10.0.0.0-10.0.0.99\", alias = \"100.64.9.1-100.64.9.100\" }"),
            &[
                "3:53 \"100.64.9.1-100.64.9.100\": 10.0.0.0-10.0.0.99 and 100.64.9.1-100.64.9.100 fall into more than 64 \
               pairs of prefixes",
            ],
        ),
        // Two pieces meet, and it is one mistake.
        (
            realm("a", &format!("\"10.0.0.16/29\", {{ {ten} }}")),
            &["3:39 \"10.0.0.10-10.0.0.20\": 10.0.0.10-10.0.0.20 overlaps 10.0.0.16/29"],
        ),
        (
            realm("a", &format!("{{ {ten}, alias = \"100.64.0.10-100.64.0.20\" }}")),
            &["3:54 \"100.64.0.10-100.64.0.20\": the alias 100.64.0.10/31 overlaps the appliance's own 100.64.0.0/24"],
        ),
        (
            realm("a", &format!("{{ {ten} }}")) + "[[host]]\nname = \"h\"\nrealm = \"a\"\naddress = \"10.0.0.21\"\n",
            &["7:11 \"10.0.0.21\": 10.0.0.21 is outside the networks of realm `a`"],
        ),
    ]);
    let range =
        realm("a", &format!("{{ {ten}, alias = \"100.64.9.10-100.64.9.20\" }}, {{ range = \"fd00::a-fd00::c\" }}"));
    let host = "[[host]]\nname = \"h\"\nrealm = \"a\"\naddress = [\"10.0.0.20\", \"fd00::c\"]\n";
    let networks = &parse(&(range + host)).unwrap().config.realms[0].networks;
    let pieces: Vec<_> = networks.iter().map(|n| (n.native.to_string(), n.alias)).collect();
    let pinned = |net: &str| AliasMode::Pinned(net.parse().unwrap());
    let want = [
        ("10.0.0.10/31", pinned("100.64.9.10/31")),
        ("10.0.0.12/30", pinned("100.64.9.12/30")),
        ("10.0.0.16/30", pinned("100.64.9.16/30")),
        ("10.0.0.20/32", pinned("100.64.9.20/32")),
        ("fd00::a/127", AliasMode::HostsOnly),
        ("fd00::c/128", AliasMode::HostsOnly),
    ];
    assert_eq!(pieces, want.map(|(native, alias)| (native.to_string(), alias)));
}

/// Each of these ranges is 46 prefixes.
#[test]
fn the_pieces_of_ranges_count_against_the_bound_of_all_networks() {
    let usable = (1..=223).filter(|first| ![100, 127, 169].contains(first));
    let range = |first| format!("{{ range = \"{first}.0.0.1-{first}.255.255.254\", alias = \"hosts\" }}");
    let networks = usable.map(range).collect::<Vec<_>>().join(", ");
    let file = |realms: usize| (0..realms).map(|i| realm(&format!("r{i}"), &networks)).collect::<String>();
    let most = 262_144 / (220 * 46);
    assert_eq!(parse(&file(most)).unwrap().config.realms[0].networks.len(), 220 * 46);
    let report = parse(&file(most + 1)).unwrap_err();
    assert_eq!(report.diagnostics[0].message, "the realms have 262145 networks in all");
}

#[test]
fn mistakes_about_the_default_realm() {
    let internet = realm("internet", "\"default\"");
    let host = |address: &str| format!("[[host]]\nname = \"h\"\nrealm = \"internet\"\naddress = \"{address}\"\n");
    let refused =
        |address: &str| format!("7:11 \"{address}\": {address} cannot be a host of the default realm `internet`");
    check(&[
        (internet.clone() + &realm("b", "\"10.0.0.0/24\", \"default\""), &["6:28 \"default\": a second `default`"]),
        (realm("internet", "\"default\", \"default\""), &["3:24 \"default\": a second `default`"]),
        (realm("a", "\"defualt\""), &["3:13 \"defualt\": this is not a network"]),
    ]);
    for address in ["10.1.2.3", "127.0.0.1", "fd00::1", "fe80::1"] {
        let text = internet.clone() + &host(address);
        assert_eq!(places(&parse(&text).unwrap_err()), [refused(address)]);
    }
    // By whom it is known.
    let other = realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"198.51.100.0/24\" }, \"2001:db8:5::/48\"");
    for address in ["198.51.100.7", "2001:db8:5::7"] {
        let report = parse(&(internet.clone() + &host(address) + &other)).unwrap_err();
        assert_eq!(places(&report), [refused(address)]);
        assert_eq!(report.diagnostics[0].why, "the other realms know realm `a` by this address");
    }
    let pool = "[ix]\nalias4 = [\"198.51.100.0/24\", \"100.64.0.0/10\"]\n";
    let report = parse(&(internet.clone() + &host("198.51.100.7") + pool)).unwrap_err();
    assert_eq!(report.diagnostics[0].why, "it is in `alias4`, from which aliases are taken");

    let besides = realm("internet", "\"default\", \"10.1.0.0/16\"");
    let loaded = parse(&(besides + &host("10.1.2.3") + &host("203.0.113.7").replace("\"h\"", "\"i\""))).unwrap();
    assert_eq!(loaded.config.default_realm, Some(RealmRef(0)));
    assert_eq!((loaded.config.realms[0].networks.len(), loaded.config.hosts.len()), (1, 2));
}

#[test]
fn who_reaches_the_default_realm_under_private_addresses_is_warned_of_once() {
    let networks = [
        ("\"192.168.1.0/24\"", true),
        ("{ prefix = \"192.168.1.0/24\", alias = \"100.64.7.0/24\" }", true),
        ("{ prefix = \"192.168.1.0/24\", alias = \"203.0.113.0/24\" }", false),
        ("\"fd00:1::/64\"", true),
        ("{ prefix = \"fd00:1::/64\", canonical = \"2001:db8:1::/64\" }", false),
        ("\"2001:db8:1::/64\"", false),
    ];
    let grants = "[[host]]\nname = \"h\"\nrealm = \"internet\"\naddress = \"8.8.8.8\"\n\
                  [[service]]\nname = \"s\"\nhost = \"h.internet\"\nports = [\"udp/53\"]\n\
                  [[grant]]\nfrom = [\"a\"]\nto = [\"s\"]\n\
                  [[grant]]\nfrom = [\"a\"]\nto = [\"realm:internet\"]\nports = [\"any\"]\n";
    let shown_by = |pool: &str, viewers: &str| {
        let show_as = format!("show_as = {{ napt = [\"{pool}\"]{viewers} }}\n");
        realm("internet", "\"default\"") + &realm("a", "\"192.168.1.0/24\"") + &show_as + grants
    };
    for (pool, viewers, warnings) in [
        ("203.0.113.0/30", "", 0),
        ("203.0.113.0/30", ", for = [\"internet\"]", 0),
        ("203.0.113.0/30", ", for = [\"b\"]", 1),
        ("100.64.9.0/30", "", 1),
    ] {
        let loaded = parse(&(shown_by(pool, viewers) + &realm("b", "\"192.168.1.0/24\""))).unwrap();
        assert_eq!(loaded.warnings.len(), warnings, "{pool}{viewers}: {:?}", loaded.warnings);
    }
    let report = parse(&(shown_by("8.8.8.0/30", "").replace("8.8.8.8", "8.8.8.1"))).unwrap_err();
    assert_eq!(report.diagnostics[0].why, "the other realms know realm `a` by this address");
    for (network, warned) in networks {
        let loaded = parse(&(realm("internet", "\"default\"") + &realm("a", network) + grants)).unwrap();
        let want = "16:9 warning \"a\": realm `a` reaches the default realm under addresses that are not public";
        assert_eq!(places(loaded.report()), if warned { vec![want] } else { vec![] }, "{network}");
    }
    // Without a grant, or out of a public pool, nothing is wrong.
    let text = realm("internet", "\"default\"") + &realm("a", "\"192.168.1.0/24\"");
    assert_eq!(parse(&text).unwrap().warnings, []);
    let public = "[ix]\nalias4 = [\"198.51.96.0/20\"]\n";
    assert_eq!(parse(&(text + grants + public)).unwrap().warnings, []);
}

#[test]
fn mistakes_about_ipv6() {
    check(&[
        (
            realm("a", "\"fd00:1::/64\"") + &realm("b", "\"fd00:1::/48\""),
            &[
                "3:13 \"fd00:1::/64\": fd00:1::/64 is used by another realm as well, so it needs a canonical prefix",
                "6:13 \"fd00:1::/48\": fd00:1::/48 is used by another realm as well, so it needs a canonical prefix",
            ],
        ),
        (
            realm("a", "\"fd00:1::/64\"") + &realm("b", "{ prefix = \"fd00:2::/64\", canonical = \"fd00:1::/64\" }"),
            &[
                "3:13 \"fd00:1::/64\": fd00:1::/64 is used by another realm as well, so it needs a canonical prefix",
                "6:51 \"fd00:1::/64\": the canonical prefix fd00:1::/64 is not unique",
            ],
        ),
        (
            realm("a", "{ prefix = \"fd00:2::/64\", canonical = \"fd00:2::/63\" }"),
            &["3:51 \"fd00:2::/63\": the canonical prefix is a /63 and the network a /64"],
        ),
        (
            realm("a", "\"fd69:7867:6174:5::/64\""),
            &["3:13 \"fd69:7867:6174:5::/64\": fd69:7867:6174:5::/64 overlaps `space6`, which is fd69:7867:6174::/48"],
        ),
        (
            realm("a", "{ prefix = \"10.0.0.0/24\", canonical = \"fd00::/64\" }"),
            &["3:51 \"fd00::/64\": the canonical prefix of an IPv4 network is computed"],
        ),
    ]);
}

#[test]
fn mistakes_about_hosts_services_and_grants() {
    // Lines 1 to 3: a realm; 4 to 7: a host; 8 to 11: a service. What follows starts on line 12.
    let base = realm("a", "\"10.0.0.0/24\"")
        + "[[host]]\nname = \"h\"\nrealm = \"a\"\naddress = \"10.0.0.5\"\n"
        + "[[service]]\nname = \"web\"\nhost = \"h.a\"\nports = [\"tcp/443\"]\n";
    let with = |text: &str| base.clone() + text;
    check(&[
        (
            with("[[host]]\nname = \"x\"\nrealm = \"aa\"\naddress = \"10.0.0.6\"\n"),
            &["14:9 \"aa\": there is no realm `aa`"],
        ),
        (
            with("[[host]]\nname = \"x\"\nrealm = \"a\"\naddress = \"10.0.1.6\"\n"),
            &["15:11 \"10.0.1.6\": 10.0.1.6 is outside the networks of realm `a`"],
        ),
        (
            with("[[host]]\nname = \"h\"\nrealm = \"a\"\naddress = \"10.0.0.5\"\n"),
            &[
                "13:8 \"h\": a second host of realm `a` has the name `h`",
                "15:11 \"10.0.0.5\": 10.0.0.5 is a host of this realm already",
            ],
        ),
        (
            with("[[host]]\nname = \"x\"\nrealm = \"a\"\naddress = [\"10.0.0.6\", \"10.0.0.7\"]\n"),
            &["15:24 \"10.0.0.7\": a host has at most one address per family"],
        ),
        (
            with("[[host]]\nname = \"x\"\nrealm = \"a\"\naddress = \"10.0.0.6/24\"\n"),
            &["15:11 \"10.0.0.6/24\": this is not an IP address"],
        ),
        (
            with("[[service]]\nname = \"ns\"\nhost = \"hh.a\"\nports = [\"tcp/0\", \"443\"]\n"),
            &[
                "13:8 \"ns\": the service name `ns` is reserved",
                "14:8 \"hh.a\": there is no host `hh.a`",
                "15:10 \"tcp/0\": this is not a port rule",
                "15:19 \"443\": this is not a port rule",
            ],
        ),
        (
            with("[[service]]\nname = \"web\"\nhost = \"h.a\"\nports = []\n"),
            &["13:8 \"web\": a second service has the name `web`", "15:9 []: `ports` is empty"],
        ),
        (
            with("[[grant]]\nfrom = [\"b\"]\nto = [\"wbe\", \"a\", \"realm:c\"]\n"),
            &[
                "13:9 \"b\": there is no realm `b`",
                "14:7 \"wbe\": there is no service `wbe`",
                "14:14 \"a\": there is no service `a`",
                "14:19 \"realm:c\": there is no realm `c`",
            ],
        ),
        (
            with("[[grant]]\nfrom = [\"a\"]\nto = [\"realm:a\", \"web\"]\n"),
            &["14:6 [\"realm:a\", \"web\"]: a grant of a whole realm needs `ports`"],
        ),
        (
            with("[[grant]]\nfrom = [\"a\"]\nto = [\"web\"]\nports = [\"any\"]\n"),
            &["15:9 [\"any\"]: `ports` belongs to whole realms, and this grant names services only"],
        ),
        (with("[[grant]]\nfrom = []\nto = [\"web\"]\n"), &["13:8 []: `from` is empty"]),
    ]);
    // A realm and a service may share a name: HOST.web.DOMAIN and web.DOMAIN are different names.
    assert!(parse(&with(&realm("web", "\"10.0.0.0/24\""))).is_ok());
}

#[test]
fn mistakes_about_keys_and_peers() {
    // The realm stands on lines 3 to 5; the peer's table on line 7, its first value at column 28.
    let file = |wireguard: &str, peer: &str| {
        let realm = realm("a", "\"10.0.0.0/24\"");
        format!("[wireguard]\n{wireguard}\n{realm}[[realm.attach]]\nwireguard = {{ {peer} }}\n")
    };
    let ours = "private_key_file = \"our.key\"";
    let good = format!("public_key = \"{}\"", key(1));
    let and = |more: &str| format!("{good}, {more}");
    let own = our_public_key();
    let (one, zero) = (key(1), key(0));
    check(&[
        (file("", &good), &[&format!("7:13 {{ {good} }}: `private_key_file` is missing in [wireguard]")]),
        (
            file("private_key_file = \"none\"", &good),
            &["2:20 \"none\": cannot use a private key from /etc/ixgate/none"],
        ),
        (
            file("private_key_file = \"short\"", &good),
            &["2:20 \"short\": /etc/ixgate/short does not hold a private key"],
        ),
        (
            file("private_key = \"x\"", &good),
            &[
                "2:1 private_key: `private_key` puts a secret into the configuration",
                &format!("7:13 {{ {good} }}: `private_key_file` is missing in [wireguard]"),
            ],
        ),
        (file(ours, "public_key = \"AAAA\""), &["7:28 \"AAAA\": this is not a WireGuard public key"]),
        (
            file(ours, &format!("public_key = \"{zero}\"")),
            &[&format!("7:28 \"{zero}\": this is not a WireGuard public key")],
        ),
        (file(ours, &format!("public_key = \"{own}\"")), &[&format!("7:28 \"{own}\": this is our own public key")]),
        (
            file(ours, "endpoint = \"1.2.3.4:5\""),
            &["7:13 { endpoint = \"1.2.3.4:5\" }: `public_key` is missing in wireguard"],
        ),
        (
            file(ours, &good) + &format!("[[realm.attach]]\nwireguard.public_key = \"{one}\"\n"),
            &[&format!("9:24 \"{one}\": a second tunnel has this public key")],
        ),
        (
            file(ours, &and("endpoint = \"gw.example:51820\"")),
            &["7:87 \"gw.example:51820\": an endpoint by host name is not served yet in this version"],
        ),
        (file(ours, &and("endpoint = \"1.2.3.4\"")), &["7:87 \"1.2.3.4\": this is not an IP address and a port"]),
        (
            file(ours, &and("endpoint = \"0.0.0.0:51820\"")),
            &["7:87 \"0.0.0.0:51820\": nothing can be reached at this address"],
        ),
        (
            file(ours, &and("preshared_key_file = \"none\"")),
            &["7:97 \"none\": cannot use a preshared key from /etc/ixgate/none"],
        ),
        (file(ours, &and("keepalive_secs = 0")), &["7:93 0: `keepalive_secs` is out of bounds"]),
        (file(ours, &good) + "mtu_bytes = 1279\n", &["8:13 1279: `mtu_bytes` is out of bounds"]),
        (file(ours, &good) + "mtu_bytes = 1921\n", &["8:13 1921: `mtu_bytes` is out of bounds"]),
    ]);
}

#[test]
fn remedies_name_what_to_write() {
    let grant = "[[grant]]\nfrom = [\"regoin-a\"]\nto = [\"realm:region-a\"]\nports = [\"any\"]\n";
    for (text, want) in [
        ("[ix]\nnmae = \"a\"\n".to_owned(), "did you mean `name`?"),
        (realm("a", "\"10.0.0.1/24\""), "write `10.0.0.0/24` for the network"),
        (realm("Region A", "\"10.0.0.0/24\""), "use such a name, for example `region-a`"),
        (
            realm("a", "\"fd00:1::/64\"") + &realm("b", "\"fd00:1::/64\""),
            "write `{ prefix = \"fd00:1::/64\", canonical = \"fd69:7867:6175::/64\" }`",
        ),
        (
            "[ix]\nalias4 = [\"100.64.0.0/23\"]\n".to_owned() + &realm("a", "\"10.0.0.0/22\""),
            "add at least a /22 to `alias4`, or write `alias = \"hosts\"` on large networks (the largest is 10.0.0.0/22) \
             to show only their hosts",
        ),
        (realm("region-a", "\"10.0.0.0/24\"") + grant, "did you mean `region-a`?"),
        (
            realm("region-a", "\"10.0.0.0/24\"") + "[[grant]]\nfrom = [\"region-a\"]\nto = [\"region-a\"]\n",
            "for the whole realm write `realm:region-a`",
        ),
    ] {
        assert_eq!(parse(&text).unwrap_err().diagnostics[0].remedy, want, "{text}");
    }
}

#[test]
fn both_places_of_an_overlap_are_named() {
    let report = parse(&realm("a", "\"10.0.0.0/8\", \"10.1.0.0/16\"")).unwrap_err();
    let related = &report.diagnostics[0].related[0];
    assert_eq!((related.line, related.column, report.text(related.span)), (3, 13, "\"10.0.0.0/8\""));
}

#[test]
fn all_mistakes_come_at_once() {
    let text = "[ix]\nspace6 = \"x\"\n[metrics]\nlisten = 5\n[wireguard]\nlisten = \"x\"\n[limits]\ndns_tcp = -1\n"
        .to_owned()
        + &realm("a", "\"10.0.0.0/24\", \"10.0.0.0/24\"")
        + "[[host]]\nname = \"h\"\nrealm = \"b\"\naddress = \"z\"\n"
        + "[[service]]\nname = \"s\"\nhost = \"q.a\"\nports = [\"x\"]\n"
        + "[[grant]]\nfrom = [\"b\"]\nto = [\"t\"]\nextra = 1\n";
    assert_eq!(
        places(&parse(&text).unwrap_err()),
        [
            "2:10 \"x\": this is not a network",
            "4:10 5: `listen` is a whole number, and must be a text",
            "6:10 \"x\": this is not an IP address and a port",
            "8:11 -1: `dns_tcp` is out of bounds",
            "11:28 \"10.0.0.0/24\": 10.0.0.0/24 overlaps 10.0.0.0/24",
            "14:9 \"b\": there is no realm `b`",
            "15:11 \"z\": this is not an IP address",
            "18:8 \"q.a\": there is no host `q.a`",
            "19:10 \"x\": this is not a port rule",
            "21:9 \"b\": there is no realm `b`",
            "22:7 \"t\": there is no service `t`",
            "23:1 extra: unknown key `extra` in [[grant]]",
        ]
    );
}

#[test]
fn a_report_stays_bounded() {
    let text: String = (0..MAX_DIAGNOSTICS + 5).map(|i| format!("key{i} = 1\n")).collect();
    let report = parse(&text).unwrap_err();
    assert_eq!((report.diagnostics.len(), report.omitted), (MAX_DIAGNOSTICS, 5));
}

#[test]
fn lists_stay_bounded() {
    let ports = vec!["\"icmp\""; 257].join(", ");
    let text = format!("[[service]]\nname = \"s\"\nhost = \"h.a\"\nports = [{ports}]\n");
    let report = parse(&text).unwrap_err();
    assert_eq!(report.diagnostics[1].message, "`ports` has 257 entries");
    let report = parse(&"[[realm]]\nname = \"a\"\nnetworks = [\"10.0.0.0/8\"]\n".repeat(65_536)).unwrap_err();
    assert_eq!(report.diagnostics[0].message, "`realm` has 65536 entries");
}

/// The size that the appliance is designed for: 500 realms, 40,000 institutions. (Quadratic code takes minutes here.)
#[test]
fn a_file_of_full_size_is_checked() {
    let mut text = "[ix]\nalias4 = [\"100.0.0.0/8\"]\n".to_owned();
    for i in 0..500 {
        let networks: Vec<_> = (0..80).map(|n| format!("\"10.0.{n}.0/24\"")).collect();
        text += &realm(&format!("r{i}"), &networks.join(", "));
    }
    assert_eq!(parse(&text).unwrap().config.realms.iter().map(|r| r.networks.len()).sum::<usize>(), 40_000);
}

#[test]
fn warnings_do_not_refuse() {
    let grant = "[[grant]]\nfrom = [\"a\"]\nto = [\"realm:b\"]\nports = [\"icmp\"]\n";
    let text = "[ix]\nspace6 = \"2001:db8::/48\"\n[limits]\nsessions = 10\nsessions_per_realm = 11\n".to_owned()
        + &realm("a", "\"10.0.0.0/24\"")
        + &realm("b", "\"10.0.0.0/24\"")
        + grant
        + &grant.replace("[\"a\"]", "[\"a\", \"a\"]");
    let loaded = parse(&text).unwrap();
    assert_eq!(loaded.warnings, loaded.report().diagnostics);
    assert_eq!(
        places(loaded.report()),
        [
            "2:10 warning \"2001:db8::/48\": `space6` is not a prefix of unique local addresses",
            "5:22 warning 11: this is more than `sessions`, which is 10",
            "16:1 warning [[grant]]: this grant says what another one says already",
            "17:14 warning \"a\": `a` is named twice in this list",
        ]
    );
    assert_eq!(loaded.config.grants[1].from, [RealmRef(0)]);
}

#[test]
fn a_file_without_realms_is_warned_of() {
    for text in ["", "# all of it\n", "[ix]\n", "[limits]\nsessions = 10\n"] {
        let loaded = parse(text).unwrap();
        let warnings: Vec<&str> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert_eq!(warnings, [NO_REALM], "{text}");
    }
    assert!(parse(&realm("a", "\"10.0.0.0/16\"")).unwrap().warnings.is_empty());
}

#[test]
fn numbers_at_their_bounds() {
    let text =
        "[limits]\nsessions = 4000000\nsessions_per_realm = 4000000\nhandshakes_per_sec = 100000\ndns_tcp = 4096\n";
    assert_eq!(parse(text).unwrap().config.limits.sessions_per_realm, 4_000_000);
    // A smaller whole pulls the default share down with it, without a word.
    let loaded = parse("[limits]\nsessions = 1\ndns_tcp = 1\n").unwrap();
    let limits = &loaded.config.limits;
    assert_eq!((limits.sessions_per_realm, limits.dns_tcp_per_realm), (1, 1));
    assert!(places(loaded.report()).is_empty());
    let loaded = parse("[limits]\nreassembly_bytes = 131072\nreassembly_fragments = 2\n").unwrap();
    let reassembly = loaded.config.limits.reassembly;
    assert_eq!((reassembly.bytes_per_realm, reassembly.fragments, reassembly.datagrams_per_realm), (131_072, 2, 1024));
    let text = "[limits]\nreassembly_bytes = 131072\nreassembly_bytes_per_realm = 131073\n";
    assert_eq!(places(parse(text).unwrap().report()).len(), 1);
    assert!(parse("[limits]\nreassembly_bytes_per_realm = 131071\n").is_err(), "less than a datagram");
}

#[test]
fn sessions_live_at_least_as_long_as_the_rfcs_ask() {
    let least = [
        ("tcp_established_secs", 7440),
        ("tcp_opening_secs", 30),
        ("tcp_transitory_secs", 240),
        ("udp_secs", 120),
        ("icmp_secs", 60),
    ];
    for (key, least) in least {
        parse(&format!("[sessions]\n{key} = {least}\n")).unwrap();
        let report = parse(&format!("[sessions]\n{key} = {}\n", least - 1)).unwrap_err();
        let place = format!("2:{} {}: `{key}` is out of bounds", key.len() + 4, least - 1);
        assert_eq!(places(&report), [place]);
    }
    let config = parse("[sessions]\nudp_secs = 180\n").unwrap().config;
    assert_eq!((config.sessions.udp_secs, config.sessions.tcp_established_secs), (180, 7440));
}

#[test]
fn an_empty_file_has_working_defaults() {
    let config = parse("").unwrap().config;
    assert_eq!((config.ix.name.as_str(), config.ix.domain.as_str()), ("ix", "ix.example"));
    assert_eq!(config.ix.space6.prefix().to_string(), "fd69:7867:6174::/48");
    assert_eq!(config.ix.alias4, ["100.64.0.0/10".parse().unwrap()]);
    assert_eq!(config.ix.state_dir, PathBuf::from("/etc/ixgate/state"));
    assert_eq!(config.api.socket, PathBuf::from("/etc/ixgate/state/ixgate.sock"));
    assert_eq!(config.metrics.listen, Some("127.0.0.1:9469".parse().unwrap()));
    assert_eq!(config.wireguard.listen, "0.0.0.0:51820".parse().unwrap());
    assert!(config.wireguard.private_key.is_none() && config.realms.is_empty());
    assert_eq!(config.limits, Default::default());
}

/// The schema shows defaults; writing them into a file must change nothing.
#[test]
fn the_defaults_of_the_schema_are_the_real_ones() {
    let schema = config::schema();
    let mut text = String::new();
    for (table, spec) in schema["properties"].as_object().unwrap() {
        let Some(keys) = spec["properties"].as_object() else { continue };
        text += &format!("[{table}]\n");
        for (key, default) in keys.iter().filter_map(|(key, spec)| Some((key, spec.get("default")?))) {
            text += &format!("{key} = {default}\n");
        }
    }
    assert!(text.matches('=').count() >= 14, "{text}");
    assert_eq!(format!("{:?}", parse(&text).unwrap().config), format!("{:?}", parse("").unwrap().config));
}

#[test]
fn a_right_file_means_what_it_says() {
    let text = std::fs::read_to_string("configs/pinned-aliases.toml").unwrap();
    let config = parse(&text).unwrap().config;
    let names: Vec<_> = config.realms.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["region-a", "hospital-b", "clinic-c"]);
    let aliases: Vec<_> = config.realms[1].networks.iter().map(|n| n.alias).collect();
    let pinned = |net: &str| AliasMode::Pinned(net.parse().unwrap());
    assert_eq!(aliases, [pinned("100.64.2.0/24"), pinned("172.29.0.0/16"), AliasMode::Auto]);
    assert_eq!(config.metrics.listen, None);
    assert_eq!(**config.wireguard.private_key.as_ref().unwrap(), PRIVATE_KEY);
    let [initiates, waits] = [0, 1].map(|realm: usize| &config.realms[realm].attachments[0]);
    assert_eq!(initiates.mtu_bytes, 1420);
    assert_eq!(initiates.wireguard().unwrap().endpoint, Some("203.0.113.10:51820".parse().unwrap()));
    assert_eq!(initiates.wireguard().unwrap().keepalive, Some(Duration::from_secs(25)));
    assert_eq!((waits.wireguard().unwrap().endpoint, waits.wireguard().unwrap().keepalive), (None, None));
    assert_eq!(**waits.wireguard().unwrap().preshared_key.as_ref().unwrap(), [9; 32]);
    assert!(config.realms[2].attachments.is_empty());
    assert_eq!(config.hosts[0].realm, RealmRef(1));
    assert_eq!(config.hosts[0].addresses, [IpAddr::from([192, 168, 1, 20])]);
    assert_eq!(config.services[0].host, HostRef(0));
    assert_eq!(config.services[0].ports, [PortRule::Tcp(443..=443), PortRule::Tcp(11112..=11112)]);
    assert_eq!(config.grants[0].from, [RealmRef(0), RealmRef(2)]);
    assert!(matches!(config.grants[0].to[..], [GrantTarget::Service(ServiceRef(0))]));
    let [GrantTarget::Realm(RealmRef(0), ports)] = &config.grants[1].to[..] else { panic!("{:?}", config.grants[1]) };
    assert_eq!(ports[..], [PortRule::Icmp, PortRule::Tcp(22..=22), PortRule::Udp(5000..=5100)]);
}

#[test]
fn a_file_that_is_no_text_or_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ix.toml");
    std::fs::write(&path, b"[ix]\nname = \"\xff\"\n").unwrap();
    assert_eq!(places(&config::load(&path).unwrap_err()), ["2:9 \u{fffd}: this is not UTF-8"]);
    std::fs::write(&path, vec![b'\n'; (16 << 20) + 1]).unwrap();
    assert_eq!(places(&config::load(&path).unwrap_err()), ["1:1 : the file is longer than 16 MiB"]);
}
