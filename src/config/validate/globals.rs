//! The sections that exist once: `[ix]`, `[api]`, `[metrics]`, `[limits]`, `[sessions]`, `[workers]`.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};

use super::names::{is_label, label};
use super::networks::{overlap_error, parse_prefix, reserved4};
use crate::config::diagnostic::Problems;
use crate::config::model::{Api, DnsLimits, IkeLimits, Ix, Limits, Metrics, ReassemblyLimits, Sessions, Workers};
use crate::config::raw;
use crate::config::section::At;
use crate::net::Space6;

const DEFAULT_NAME: &str = "ix";
const DEFAULT_DOMAIN: &str = "ix.example";
const DEFAULT_SPACE6: &str = "fd69:7867:6174::/48";
const DEFAULT_ALIAS4: &str = "100.64.0.0/10";
const DEFAULT_STATE_DIR: &str = "state";
const DEFAULT_SOCKET: &str = "state/ixgate.sock";
const DEFAULT_METRICS: &str = "127.0.0.1:9469";
/// So that HOST.REALM.DOMAIN fits into the 253 characters of a name: 253 - 2 * (63 + 1).
const MAX_DOMAIN_CHARS: usize = 125;
/// `sun_path` without its final zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

pub fn ix(raw: &raw::Ix, directory: &Path, problems: &mut Problems) -> Option<Ix> {
    if let Some(name) = &raw.name {
        label(name, "centre", problems);
    }
    if let Some(domain) = &raw.domain {
        check_domain(domain, problems);
    }
    let text_or =
        |text: &Option<At<String>>, default: &str| text.as_ref().map_or(default.to_owned(), |t| t.value.clone());
    let space6 = match &raw.space6 {
        None => DEFAULT_SPACE6.parse().ok().and_then(Space6::new),
        Some(text) => parse_space6(text, problems),
    };
    let alias4 = match &raw.alias4 {
        None => DEFAULT_ALIAS4.parse().ok().map(|pool| vec![pool]),
        Some(list) => parse_alias4(list, problems),
    };
    Some(Ix {
        name: text_or(&raw.name, DEFAULT_NAME),
        domain: text_or(&raw.domain, DEFAULT_DOMAIN),
        space6: space6?,
        alias4: alias4?,
        state_dir: directory.join(text_or(&raw.state_dir, DEFAULT_STATE_DIR)),
    })
}

pub fn api(listen: Option<&At<String>>, directory: &Path, problems: &mut Problems) -> Option<Api> {
    let no_span = 0..0;
    let (path, span) = match listen {
        None => (DEFAULT_SOCKET, &no_span),
        Some(listen) => match listen.value.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            Some(path) => (path, &listen.span),
            None => {
                let tcp = listen.value.starts_with("tcp:") || listen.value.parse::<SocketAddr>().is_ok();
                let message = if tcp {
                    "the API over TCP is not served yet in this version"
                } else {
                    "this is not a Unix socket"
                };
                problems
                    .error(&listen.span, message)
                    .why("over TCP it needs mutual TLS, which comes later; a Unix socket is guarded by its file mode")
                    .remedy("write `unix:PATH`, for example `unix:state/ixgate.sock`");
                return None;
            }
        },
    };
    let socket: PathBuf = directory.join(path);
    let len = socket.as_os_str().len();
    if len > MAX_SOCKET_PATH_BYTES {
        problems
            .error(span, format!("the path of the API socket has {len} bytes"))
            .why(format!(
                "the kernel takes at most {MAX_SOCKET_PATH_BYTES} (unix(7)); the whole path is {}",
                socket.display()
            ))
            .remedy("choose a shorter one under `[api] listen`, for example `unix:/run/ixgate/ixgate.sock`");
        return None;
    }
    Some(Api { socket })
}

pub fn metrics(listen: Option<&At<String>>, problems: &mut Problems) -> Option<Metrics> {
    match listen {
        None => Some(Metrics { listen: DEFAULT_METRICS.parse().ok() }),
        Some(listen) if listen.value == "off" => Some(Metrics { listen: None }),
        Some(listen) => {
            socket_addr(listen, "or `off`", DEFAULT_METRICS, problems).map(|addr| Metrics { listen: Some(addr) })
        }
    }
}

pub fn workers(raw: &raw::Workers) -> Workers {
    let default = Workers::default();
    Workers {
        threads: raw.threads.as_ref().map_or(default.threads, |n| usize::try_from(n.value).unwrap_or(usize::MAX)),
    }
}

pub fn limits(raw: &raw::Limits, problems: &mut Problems) -> Limits {
    let default = Limits::default();
    let count = |n: &Option<At<u64>>, default: usize| {
        n.as_ref().map_or(default, |n| usize::try_from(n.value).unwrap_or(usize::MAX))
    };
    let rate =
        |n: &Option<At<u64>>, default: u32| n.as_ref().map_or(default, |n| u32::try_from(n.value).unwrap_or(u32::MAX));
    let sessions = count(&raw.sessions, default.sessions);
    let dns_tcp = count(&raw.dns_tcp, default.dns_tcp);
    let limits = Limits {
        sessions,
        // A default that is larger than the whole would say nothing.
        sessions_per_realm: count(&raw.sessions_per_realm, default.sessions_per_realm.min(sessions)),
        handshakes_per_sec: rate(&raw.handshakes_per_sec, default.handshakes_per_sec),
        icmp_errors_per_sec: rate(&raw.icmp_errors_per_sec, default.icmp_errors_per_sec),
        dns_tcp_per_realm: count(&raw.dns_tcp_per_realm, default.dns_tcp_per_realm.min(dns_tcp)),
        dns_tcp,
        reassembly: reassembly_limits(raw),
        napt_bindings: count(&raw.napt_bindings, default.napt_bindings),
        dns: dns_limits(raw),
        ike: ike_limits(raw),
    };
    share(&raw.sessions_per_realm, "sessions", limits.sessions_per_realm, limits.sessions, problems);
    share(&raw.dns_tcp_per_realm, "dns_tcp", limits.dns_tcp_per_realm, limits.dns_tcp, problems);
    let reassembly = &limits.reassembly;
    let (part, whole) = (reassembly.bytes_per_realm, reassembly.bytes);
    share(&raw.reassembly_bytes_per_realm, "reassembly_bytes", part, whole, problems);
    let dns = &limits.dns;
    share(&raw.dns_pending_per_realm, "dns_pending", dns.pending_per_realm, dns.pending, problems);
    share(&raw.dns_pending_per_resolver, "dns_pending", dns.pending_per_resolver, dns.pending, problems);
    let (part, whole) = (dns.pending_tcp_per_realm, dns.pending_tcp);
    share(&raw.dns_pending_tcp_per_realm, "dns_pending_tcp", part, whole, problems);
    let ike = &limits.ike;
    share(&raw.ike_half_open_per_source, "ike_half_open", ike.half_open_per_source, ike.half_open, problems);
    limits
}

fn reassembly_limits(raw: &raw::Limits) -> ReassemblyLimits {
    let default = ReassemblyLimits::default();
    let count = |n: &Option<At<u64>>, default: usize| {
        n.as_ref().map_or(default, |n| usize::try_from(n.value).unwrap_or(usize::MAX))
    };
    let bytes = count(&raw.reassembly_bytes, default.bytes);
    ReassemblyLimits {
        bytes,
        bytes_per_realm: count(&raw.reassembly_bytes_per_realm, default.bytes_per_realm.min(bytes)),
        datagrams_per_realm: count(&raw.reassembly_datagrams_per_realm, default.datagrams_per_realm),
        fragments: count(&raw.reassembly_fragments, default.fragments),
    }
}

pub fn sessions(raw: &raw::Sessions) -> Sessions {
    let default = Sessions::default();
    let secs =
        |n: &Option<At<u64>>, default: u32| n.as_ref().map_or(default, |n| u32::try_from(n.value).unwrap_or(u32::MAX));
    Sessions {
        tcp_established_secs: secs(&raw.tcp_established_secs, default.tcp_established_secs),
        tcp_opening_secs: secs(&raw.tcp_opening_secs, default.tcp_opening_secs),
        tcp_transitory_secs: secs(&raw.tcp_transitory_secs, default.tcp_transitory_secs),
        udp_secs: secs(&raw.udp_secs, default.udp_secs),
        icmp_secs: secs(&raw.icmp_secs, default.icmp_secs),
    }
}

fn dns_limits(raw: &raw::Limits) -> DnsLimits {
    let default = DnsLimits::default();
    let count = |n: &Option<At<u64>>, default: usize| {
        n.as_ref().map_or(default, |n| usize::try_from(n.value).unwrap_or(usize::MAX))
    };
    let rate =
        |n: &Option<At<u64>>, default: u32| n.as_ref().map_or(default, |n| u32::try_from(n.value).unwrap_or(u32::MAX));
    let pending = count(&raw.dns_pending, default.pending);
    let pending_tcp = count(&raw.dns_pending_tcp, default.pending_tcp);
    DnsLimits {
        pending,
        pending_per_realm: count(&raw.dns_pending_per_realm, default.pending_per_realm.min(pending)),
        pending_per_resolver: count(&raw.dns_pending_per_resolver, default.pending_per_resolver.min(pending)),
        pending_tcp,
        pending_tcp_per_realm: count(&raw.dns_pending_tcp_per_realm, default.pending_tcp_per_realm.min(pending_tcp)),
        cache_entries: count(&raw.dns_cache_entries, default.cache_entries),
        cache_bytes: count(&raw.dns_cache_bytes, default.cache_bytes),
        queries_per_sec_per_host: rate(&raw.dns_queries_per_sec_per_host, default.queries_per_sec_per_host),
        queries_per_sec_per_realm: rate(&raw.dns_queries_per_sec_per_realm, default.queries_per_sec_per_realm),
        signatures: count(&raw.dns_signatures, default.signatures),
        signatures_per_sec_per_realm: rate(&raw.dns_signatures_per_sec_per_realm, default.signatures_per_sec_per_realm),
        transfers: count(&raw.dns_transfers, default.transfers),
    }
}

fn ike_limits(raw: &raw::Limits) -> IkeLimits {
    let default = IkeLimits::default();
    let count = |n: &Option<At<u64>>, default: usize| {
        n.as_ref().map_or(default, |n| usize::try_from(n.value).unwrap_or(usize::MAX))
    };
    let half_open = count(&raw.ike_half_open, default.half_open);
    IkeLimits {
        half_open,
        half_open_per_source: count(&raw.ike_half_open_per_source, default.half_open_per_source.min(half_open)),
        cookie_threshold: count(&raw.ike_cookie_threshold, default.cookie_threshold.min(half_open)),
        sas_per_peer: count(&raw.ike_sas_per_peer, default.sas_per_peer),
        children_per_sa: count(&raw.ike_children_per_sa, default.children_per_sa),
        fragments: count(&raw.ike_fragments, default.fragments.into()).try_into().unwrap_or(u16::MAX),
        message_bytes: count(&raw.ike_message_bytes, default.message_bytes),
        payloads: count(&raw.ike_payloads, default.payloads),
        proposals: count(&raw.ike_proposals, default.proposals),
        transforms: count(&raw.ike_transforms, default.transforms),
        selectors: count(&raw.ike_selectors, default.selectors),
    }
}

/// An IP address and a port, both of which can be listened on.
pub fn socket_addr(text: &At<String>, or: &str, example: &str, problems: &mut Problems) -> Option<SocketAddr> {
    match text.value.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 && !addr.ip().is_multicast() => return Some(addr),
        Ok(_) => problems
            .error(&text.span, "nothing can be reached at this address")
            .why("the port must not be 0, nor the address a multicast one"),
        Err(_) => problems
            .error(&text.span, format!("this is not an IP address and a port {or}").trim_end())
            .why("a name is not looked up here, and an IPv6 address stands in brackets"),
    }
    .remedy(format!("write for example `{example}`"));
    None
}

fn share(part: &Option<At<u64>>, whole_key: &str, part_value: usize, whole: usize, problems: &mut Problems) {
    if let Some(part) = part
        && part_value > whole
    {
        problems
            .warning(&part.span, format!("this is more than `{whole_key}`, which is {whole}"))
            .why("the smaller bound holds, so one realm can take all of it from the others")
            .remedy(format!("choose less than {whole}, or raise `{whole_key}`"));
    }
}

fn check_domain(domain: &At<String>, problems: &mut Problems) {
    let text = &domain.value;
    if text.len() <= MAX_DOMAIN_CHARS && text.split('.').all(is_label) {
        return;
    }
    let fixed = text.trim().trim_matches('.').to_ascii_lowercase();
    let hint =
        if fixed.len() <= MAX_DOMAIN_CHARS && fixed.split('.').all(is_label) { fixed } else { DEFAULT_DOMAIN.into() };
    problems
        .error(&domain.span, "this is not a domain")
        .why(format!(
            "a domain is DNS labels with dots between them, in lower case, at most {MAX_DOMAIN_CHARS} characters so \
             that HOST.REALM.DOMAIN fits into a DNS name"
        ))
        .remedy(format!("write for example `{hint}`"));
}

fn parse_space6(text: &At<String>, problems: &mut Problems) -> Option<Space6> {
    let prefix: Ipv6Net = parse_prefix(text, DEFAULT_SPACE6, problems)?;
    let Some(space) = Space6::new(prefix) else {
        problems
            .error(&text.span, format!("`space6` is a /{}, and must be a /48", prefix.prefix_len()))
            .why("48 bits, a 16-bit realm number and an IPv4 address make a canonical address (RFC 6052)")
            .remedy("take a /48 of unique local addresses (RFC 4193)");
        return None;
    };
    if prefix.network().octets()[0] != 0xfd {
        problems
            .warning(&text.span, "`space6` is not a prefix of unique local addresses")
            .why("canonical addresses are visible inside the realms; out of another space they may belong to somebody else")
            .remedy("take a /48 out of fd00::/8 (RFC 4193), unless you own this prefix");
    }
    Some(space)
}

fn parse_alias4(list: &At<Vec<At<String>>>, problems: &mut Problems) -> Option<Vec<Ipv4Net>> {
    let before = problems.error_count();
    let mut pools: Vec<(Ipv4Net, &Range<usize>)> = Vec::new();
    for text in &list.value {
        let Some(pool) = parse_prefix::<Ipv4Net>(text, DEFAULT_ALIAS4, problems) else { continue };
        if let Some(why) = reserved4(pool) {
            problems
                .error(&text.span, format!("aliases cannot be taken from {pool}"))
                .why(why)
                .remedy(format!("use shared or private addresses, for example `{DEFAULT_ALIAS4}`"));
        }
        if let Some((other, span)) = pools.iter().find(|(other, _)| other.contains(&pool) || pool.contains(other)) {
            overlap_error(&text.span, &pool, span, other, "an address can be given out only once", problems);
        }
        pools.push((pool, &text.span));
    }
    // Fewer than were written: an entry was no text, which has been reported.
    (problems.error_count() == before && !pools.is_empty()).then(|| pools.into_iter().map(|(pool, _)| pool).collect())
}
