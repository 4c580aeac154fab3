//! Whose domain is whose, and who is asked: a domain has one owner, and its resolvers can be reached.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::names::is_label;
use super::networks::Placed;
use super::references::report_outside;
use crate::config::diagnostic::Problems;
use crate::config::model::{DnsForward, OutsideResolver, RealmDns, RealmRef};
use crate::config::raw::{self, Raw};
use crate::config::section::At;

const PORT: u16 = 53;
/// RFC 7858 section 3.1.
const TLS_PORT: u16 = 853;
const NOT_A_RESOLVER: &str = "this is not the address of a resolver";
/// RFC 1035 section 2.3.4, without the root's dot.
const MAX_DOMAIN_CHARS: usize = 253;

/// Per realm in the order of the file, then what lies outside.
pub fn dns(
    raw: &Raw,
    internal: &str,
    networks: &[Vec<Placed>],
    problems: &mut Problems,
) -> (Vec<Option<RealmDns>>, Vec<DnsForward>) {
    let mut claims = Claims { internal, owners: HashMap::new() };
    let realms = raw.realms.iter().enumerate();
    let of_realms = realms.map(|(index, realm)| {
        let dns = realm.dns.as_ref()?;
        Some(realm_dns(dns, RealmRef(index), raw, networks, &mut claims, problems))
    });
    let of_realms = of_realms.collect();
    let outside = raw.dns_forwards.iter().filter_map(|forward| dns_forward(forward, &mut claims, problems)).collect();
    (of_realms, outside)
}

fn realm_dns(
    dns: &raw::RealmDns,
    realm: RealmRef,
    raw: &Raw,
    networks: &[Vec<Placed>],
    claims: &mut Claims<'_>,
    problems: &mut Problems,
) -> RealmDns {
    let texts = |list: &'_ Option<At<Vec<At<String>>>>| list.as_ref().map_or(Vec::new(), |list| list.value.clone());
    let mut domains = Vec::new();
    for domain in texts(&dns.domains) {
        let owner = is_reverse(&domain.value).then_some(realm);
        if check_domain(&domain, problems) && claims.take(&domain, owner, problems) {
            domains.push(domain.value);
        }
    }
    let mut resolvers = Vec::new();
    for text in texts(&dns.resolvers) {
        let Some(server) = resolver(&text.value) else {
            let (why, remedy) = ("a resolver is an IP address, with a port if it is not 53", "192.168.1.53");
            let remedy = format!("write for example `{remedy}`, `{remedy}:5353` or `[2001:db8::53]:53`");
            problems.error(&text.span, NOT_A_RESOLVER).why(why).remedy(remedy);
            continue;
        };
        report_outside(server.ip(), &text.span, realm, raw, networks, problems);
        resolvers.push((server, text.span));
    }
    report_repeated(&resolvers, problems);
    RealmDns { domains, resolvers: resolvers.into_iter().map(|(server, _)| server).collect() }
}

fn dns_forward(forward: &raw::DnsForward, claims: &mut Claims<'_>, problems: &mut Problems) -> Option<DnsForward> {
    let domain = forward.domain.as_ref()?;
    let is_sound = domain.value == "." || check_domain(domain, problems);
    let is_free = is_sound && claims.take(domain, None, problems);
    let mut resolvers = Vec::new();
    for text in &forward.resolvers.as_ref()?.value {
        match outside_resolver(&text.value) {
            Some(resolver) => resolvers.push((resolver, text.span.clone())),
            None => not_an_outside_resolver(text, problems),
        }
    }
    report_repeated(&resolvers, problems);
    let domain = domain.value.trim_matches('.').to_owned();
    is_free.then(|| DnsForward { domain, resolvers: resolvers.into_iter().map(|(resolver, _)| resolver).collect() })
}

/// Domains taken so far. Reverse zones are a realm's own: every realm may have the same.
struct Claims<'a> {
    internal: &'a str,
    owners: HashMap<(Option<RealmRef>, String), Range<usize>>,
}

impl Claims<'_> {
    fn take(&mut self, domain: &At<String>, of: Option<RealmRef>, problems: &mut Problems) -> bool {
        let (text, internal) = (&domain.value, self.internal);
        if text == internal || text.strip_suffix(internal).is_some_and(|rest| rest.ends_with('.')) {
            problems
                .error(&domain.span, format!("`{text}` lies in the internal zone"))
                .why(format!("every name in `{internal}` is answered here and never asked for elsewhere"))
                .remedy("name another domain, or change `domain` under [ix]");
            return false;
        }
        let key = (of, text.clone());
        if let Some(first) = self.owners.get(&key) {
            problems
                .error(&domain.span, format!("`{text}` is claimed twice"))
                .why("a name is asked for at one place; the answers of two would depend on chance")
                .remedy("let one of them have a narrower domain, or remove one")
                .also(first, "the first one is here");
            return false;
        }
        self.owners.insert(key, domain.span.clone());
        true
    }
}

fn check_domain(domain: &At<String>, problems: &mut Problems) -> bool {
    let text = &domain.value;
    let is_sound = text.len() <= MAX_DOMAIN_CHARS && text.split('.').all(is_label);
    if !is_sound {
        let fixed = text.trim().trim_matches('.').to_ascii_lowercase();
        let hint = if fixed.split('.').all(is_label) { fixed } else { "b.local".into() };
        problems
            .error(&domain.span, "this is not a domain")
            .why("a domain is DNS labels with dots between them, in lower case, without a dot at the end")
            .remedy(format!("write for example `{hint}`"));
    }
    is_sound
}

fn is_reverse(domain: &str) -> bool {
    ["in-addr.arpa", "ip6.arpa"]
        .iter()
        .any(|zone| domain.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// A realm's own.
pub fn resolver(text: &str) -> Option<SocketAddr> {
    address(text, PORT)
}

/// `ADDRESS`, `ADDRESS4:PORT`, `[ADDRESS6]:PORT`.
fn address(text: &str, default_port: u16) -> Option<SocketAddr> {
    let whole = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, default_port));
    let with_port = || text.parse::<SocketAddr>().ok();
    let server = whole.ok().or_else(with_port)?;
    let is_host = !server.ip().is_unspecified() && !server.ip().is_multicast();
    (is_host && server.port() != 0).then_some(server)
}

fn outside_resolver(text: &str) -> Option<OutsideResolver> {
    match text.strip_prefix("tls:") {
        None => Some(OutsideResolver { server: address(text, PORT)?, tls: None }),
        Some(rest) => {
            let (name, server) = rest.split_once('@')?;
            let is_name = name.len() <= MAX_DOMAIN_CHARS && name.split('.').all(is_label);
            let tls = is_name.then(|| name.to_owned())?;
            Some(OutsideResolver { server: address(server, TLS_PORT)?, tls: Some(tls) })
        }
    }
}

fn not_an_outside_resolver(text: &At<String>, problems: &mut Problems) {
    let remedy = match text.value.strip_prefix("tls:") {
        None => {
            "write for example `9.9.9.9`, `9.9.9.9:5353`, `[2620:fe::fe]:53` or `tls:dns.quad9.net@9.9.9.9`".to_owned()
        }
        Some(rest) => {
            let server = rest.rsplit('@').next().filter(|server| address(server, TLS_PORT).is_some());
            let server = server.unwrap_or("9.9.9.9");
            format!(
                "write `tls:NAME@{server}`, with the name in its certificate, for example `tls:dns.quad9.net@9.9.9.9`"
            )
        }
    };
    problems
        .error(&text.span, NOT_A_RESOLVER)
        .why("a resolver is an IP address, with a port if it is not the usual one; by TLS `tls:NAME@ADDRESS`")
        .remedy(remedy);
}

fn report_repeated<T: PartialEq>(resolvers: &[(T, Range<usize>)], problems: &mut Problems) {
    for (at, (resolver, span)) in resolvers.iter().enumerate() {
        if resolvers[..at].iter().any(|(earlier, _)| earlier == resolver) {
            problems.warning(span, "this resolver is named twice in this list").remedy("remove one of them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_addresses_with_ports_and_names() {
        for (text, want) in [
            ("9.9.9.9", Some("9.9.9.9:53")),
            ("9.9.9.9:5353", Some("9.9.9.9:5353")),
            ("2620:fe::fe", Some("[2620:fe::fe]:53")),
            ("[2620:fe::fe]:5353", Some("[2620:fe::fe]:5353")),
            ("tls:dns.quad9.net@9.9.9.9", Some("9.9.9.9:853")),
            ("tls:dns.quad9.net@[2620:fe::fe]:8853", Some("[2620:fe::fe]:8853")),
            ("tls:9.9.9.9", None),
            ("tls:@9.9.9.9", None),
            ("dns.quad9.net", None),
            ("0.0.0.0", None),
            ("9.9.9.9:0", None),
            ("", None),
        ] {
            let resolver = outside_resolver(text);
            assert_eq!(resolver.as_ref().map(|r| r.server.to_string()).as_deref(), want, "{text}");
            assert_eq!(resolver.is_some_and(|r| r.tls.is_some()), want.is_some() && text.starts_with("tls:"));
        }
    }

    #[test]
    fn reverse_zones_are_known_by_their_end() {
        assert!(is_reverse("1.168.192.in-addr.arpa") && is_reverse("ip6.arpa"));
        assert!(!is_reverse("xin-addr.arpa") && !is_reverse("in-addr.arpa.example"));
    }
}
