//! Domains of realms and outside, and who is asked for them.

use ixgate::config::model::OutsideResolver;

use super::*;

fn with_dns(name: &str, dns: &str) -> String {
    realm(name, "\"192.168.1.0/24\"") + &format!("dns = {{ {dns} }}\n")
}

fn forward(domain: &str, resolvers: &str) -> String {
    format!("[[dns_forward]]\ndomain = \"{domain}\"\nresolvers = [{resolvers}]\n")
}

#[test]
fn what_is_written_is_what_is_meant() {
    let reverse = "domains = [\"1.168.192.in-addr.arpa\"], resolvers = [\"192.168.1.53:5353\"]";
    let of_b = "domains = [\"b.local\", \"1.168.192.in-addr.arpa\"], resolvers = [\"192.168.1.53\"]";
    let text = with_dns("a", reverse)
        + &with_dns("b", of_b)
        + &forward(".", "\"tls:dns.quad9.net@9.9.9.9\", \"[2620:fe::fe]:53\"");
    let config = parse(&text).unwrap_or_else(|report| panic!("{report}")).config;
    let dns = config.realms[1].dns.as_ref().unwrap();
    assert_eq!(dns.domains, ["b.local", "1.168.192.in-addr.arpa"]);
    assert_eq!(dns.resolvers, ["192.168.1.53:53".parse().unwrap()]);
    assert_eq!(config.realms[0].dns.as_ref().unwrap().resolvers, ["192.168.1.53:5353".parse().unwrap()]);
    assert_eq!(config.dns_forwards[0].domain, "");
    let tls = OutsideResolver { server: "9.9.9.9:853".parse().unwrap(), tls: Some("dns.quad9.net".into()) };
    let plain = OutsideResolver { server: "[2620:fe::fe]:53".parse().unwrap(), tls: None };
    assert_eq!(config.dns_forwards[0].resolvers, [tls, plain]);
}

#[test]
fn a_domain_has_one_owner_and_resolvers_that_can_be_reached() {
    let of = |domain: &str| format!("domains = [\"{domain}\"], resolvers = [\"192.168.1.53\"]");
    check(&[
        (
            with_dns("a", &of("x.local")) + &with_dns("b", &of("x.local")),
            &["8:20 \"x.local\": `x.local` is claimed twice"],
        ),
        (
            with_dns("a", &of("x.local")) + &forward("x.local", "\"9.9.9.9\""),
            &["6:10 \"x.local\": `x.local` is claimed twice"],
        ),
        (with_dns("a", &of("ix.example")), &["4:20 \"ix.example\": `ix.example` lies in the internal zone"]),
        (with_dns("a", &of("b.ix.example")), &["4:20 \"b.ix.example\": `b.ix.example` lies in the internal zone"]),
        (with_dns("a", &of("X.local")), &["4:20 \"X.local\": this is not a domain"]),
        (with_dns("a", &of("x.local.")), &["4:20 \"x.local.\": this is not a domain"]),
        (
            with_dns("a", "domains = [\"x.local\"], resolvers = [\"192.168.2.53\"]"),
            &["4:45 \"192.168.2.53\": 192.168.2.53 is outside the networks of realm `a`"],
        ),
        (
            with_dns("a", "domains = [\"x.local\"], resolvers = [\"tls:a.example@192.168.1.53\"]"),
            &["4:45 \"tls:a.example@192.168.1.53\": this is not the address of a resolver"],
        ),
        (with_dns("a", "domains = [\"x.local\"]"), &["4:7 { domains = [\"x.local\"] }: `resolvers` is missing in dns"]),
        (forward("example.org", "\"dns.example\""), &["3:14 \"dns.example\": this is not the address of a resolver"]),
    ]);
}

#[test]
fn a_resolver_in_the_default_realm_has_an_address_that_nobody_else_has() {
    let internet = |resolver: &str| {
        realm("internet", "\"default\", \"203.0.113.0/24\"")
            + &format!("dns = {{ domains = [\"example.org\"], resolvers = [\"{resolver}\"] }}\n")
    };
    let other = realm("a", "{ prefix = \"10.0.0.0/24\", alias = \"198.51.100.0/24\" }, \"2001:db8:5::/48\"");
    for (resolver, ip, why) in [
        ("192.168.1.53", "192.168.1.53", "192.168.0.0/16 is private (RFC 1918)"),
        ("10.0.0.53:5353", "10.0.0.53", "10.0.0.0/8 is private (RFC 1918)"),
        ("198.51.100.53", "198.51.100.53", "the other realms know realm `a` by this address"),
        ("[2001:db8:5::53]:53", "2001:db8:5::53", "the other realms know realm `a` by this address"),
    ] {
        let report = parse(&(internet(resolver) + &other)).unwrap_err();
        let text = format!("{ip} cannot be a resolver in the default realm `internet`");
        assert_eq!(places(&report), [format!("4:49 \"{resolver}\": {text}")]);
        assert_eq!(report.diagnostics[0].why, why);
        assert!(report.diagnostics[0].remedy.contains("under the realm that it stands in"));
    }
    for resolver in ["9.9.9.9", "203.0.113.53", "2620:fe::fe"] {
        assert!(parse(&(internet(resolver) + &other)).is_ok(), "{resolver}");
    }
}

#[test]
fn a_share_larger_than_the_whole_is_warned_of() {
    let loaded = parse("[limits]\ndns_pending = 10\ndns_pending_per_realm = 11\n").unwrap();
    assert_eq!(places(loaded.report()), ["3:25 warning 11: this is more than `dns_pending`, which is 10"]);
    assert_eq!(loaded.config.limits.dns.pending_per_resolver, 10, "a default fits into the whole");
    let loaded = parse("[limits]\ndns_pending_tcp = 10\ndns_pending_tcp_per_realm = 11\n").unwrap();
    assert_eq!(places(loaded.report()), ["3:29 warning 11: this is more than `dns_pending_tcp`, which is 10"]);
    let loaded = parse("[limits]\ndns_pending_tcp = 10\n").unwrap();
    assert_eq!(loaded.config.limits.dns.pending_tcp_per_realm, 10);
}
