//! The file as written: names, addresses and keys are still text, every one with its place. Types and shapes are right,
//! nothing else is promised. [`super::validate`] makes a [`super::model::Config`] of it.

mod port;
mod routes_from;

use std::ops::Range;

use toml::de::DeTable;

use super::diagnostic::Problems;
use super::section::{At, Section, TextOrSection};
use super::spec::ROOT;
pub use port::{Bfd, Interface, Port, Tun};
pub use routes_from::RoutesFrom;

type Text = Option<At<String>>;
type Texts = Option<At<Vec<At<String>>>>;
type Number = Option<At<u64>>;
type Flag = Option<At<bool>>;
type Choice = Option<At<&'static str>>;

#[derive(Debug, Default)]
pub struct Raw {
    pub ix: Ix,
    pub api_listen: Text,
    pub metrics_listen: Text,
    pub wireguard: WireGuard,
    pub ike: Ike,
    pub workers: Workers,
    pub gate: Gate,
    pub uplink: Uplink,
    pub limits: Limits,
    pub sessions: Sessions,
    pub dns: Dns,
    pub interfaces: Vec<Interface>,
    pub realms: Vec<Realm>,
    pub hosts: Vec<Host>,
    pub dns_forwards: Vec<DnsForward>,
    pub services: Vec<Service>,
    pub grants: Vec<Grant>,
}

#[derive(Debug, Default)]
pub struct Ix {
    pub name: Text,
    pub domain: Text,
    pub space6: Text,
    pub alias4: Texts,
    pub state_dir: Text,
}

#[derive(Debug, Default)]
pub struct WireGuard {
    pub listen: Text,
    pub private_key_file: Text,
}

#[derive(Debug, Default)]
pub struct Ike {
    pub listen: Text,
    pub port: Number,
    pub nat_t_port: Number,
    pub local_id: Text,
    pub certificate_file: Text,
    pub private_key_file: Text,
    pub rsa_padding: Choice,
    pub raw_esp: Flag,
}

#[derive(Debug, Default)]
pub struct Workers {
    pub threads: Number,
}

#[derive(Debug, Default)]
pub struct Gate {
    pub enabled: Flag,
    pub interfaces: Texts,
}

#[derive(Debug, Default)]
pub struct Uplink {
    pub driver: Choice,
    pub interfaces: Texts,
    /// Right or wrong.
    pub has_interfaces: bool,
}

#[derive(Debug, Default)]
pub struct Sessions {
    pub tcp_established_secs: Number,
    pub tcp_opening_secs: Number,
    pub tcp_transitory_secs: Number,
    pub udp_secs: Number,
    pub icmp_secs: Number,
}

#[derive(Debug, Default)]
pub struct Limits {
    pub sessions: Number,
    pub sessions_per_realm: Number,
    pub handshakes_per_sec: Number,
    pub icmp_errors_per_sec: Number,
    pub dns_tcp_per_realm: Number,
    pub dns_tcp: Number,
    pub reassembly_bytes: Number,
    pub reassembly_bytes_per_realm: Number,
    pub reassembly_datagrams_per_realm: Number,
    pub reassembly_fragments: Number,
    pub napt_bindings: Number,
    pub dns_pending: Number,
    pub dns_pending_per_realm: Number,
    pub dns_pending_per_resolver: Number,
    pub dns_pending_tcp: Number,
    pub dns_pending_tcp_per_realm: Number,
    pub dns_cache_entries: Number,
    pub dns_cache_bytes: Number,
    pub dns_queries_per_sec_per_host: Number,
    pub dns_queries_per_sec_per_realm: Number,
    pub dns_signatures: Number,
    pub dns_signatures_per_sec_per_realm: Number,
    pub dns_transfers: Number,
    pub ike_half_open: Number,
    pub ike_half_open_per_source: Number,
    pub ike_cookie_threshold: Number,
    pub ike_sas_per_peer: Number,
    pub ike_children_per_sa: Number,
    pub ike_fragments: Number,
    pub ike_message_bytes: Number,
    pub ike_payloads: Number,
    pub ike_proposals: Number,
    pub ike_transforms: Number,
    pub ike_selectors: Number,
}

#[derive(Debug)]
pub struct Realm {
    pub span: Range<usize>,
    pub name: Text,
    pub networks: Vec<Network>,
    pub dns: Option<RealmDns>,
    pub attachments: Vec<Attachment>,
    pub routes_from: Option<RoutesFrom>,
    pub show_as: Option<ShowAs>,
}

#[derive(Debug)]
pub struct ShowAs {
    pub span: Range<usize>,
    pub napt: Texts,
    pub viewers: Texts,
    pub filtering: Choice,
    pub block_ports: Number,
    pub forwards: Vec<Forward>,
}

#[derive(Debug)]
pub struct Forward {
    pub outside: Text,
    pub port: Text,
    pub to: Text,
}

#[derive(Debug, Default)]
pub struct Dns {
    pub dnssec: Flag,
    pub dnssec_key_file: Text,
    pub transfer: Option<Transfer>,
}

#[derive(Debug)]
pub struct Transfer {
    pub span: Range<usize>,
    pub listen: Text,
    pub keys: Vec<TransferKey>,
}

#[derive(Debug)]
pub struct TransferKey {
    pub name: Text,
    pub secret_file: Text,
    pub algorithm: Choice,
    pub view: Text,
}

#[derive(Debug)]
pub struct RealmDns {
    pub domains: Texts,
    pub resolvers: Texts,
}

#[derive(Debug)]
pub struct DnsForward {
    pub domain: Text,
    pub resolvers: Texts,
}

#[derive(Debug)]
pub struct Network {
    pub extent: Extent,
    pub alias: Text,
    pub canonical: Text,
}

/// Which addresses a network has.
#[derive(Debug)]
pub enum Extent {
    Prefix(At<String>),
    Range(At<String>),
    /// `"default"`
    Default(At<String>),
}

#[derive(Debug)]
pub struct Attachment {
    pub span: Range<usize>,
    pub wireguard: Option<Peer>,
    pub ipsec: Option<IpsecPeer>,
    pub port: Option<Port>,
    pub tun: Option<Tun>,
    /// It is written, right or wrong.
    pub has_priority: bool,
    pub priority: Number,
    pub weight: Number,
    pub mtu_bytes: Number,
}

#[derive(Debug)]
pub struct Peer {
    pub span: Range<usize>,
    pub public_key: Text,
    pub endpoint: Text,
    pub preshared_key_file: Text,
    pub keepalive_secs: Number,
}

#[derive(Debug)]
pub struct IpsecPeer {
    pub span: Range<usize>,
    pub remote: Text,
    pub remote_nat_t_port: Number,
    pub remote_id: Text,
    pub local_id: Text,
    pub psk_file: Text,
    pub ca_file: Text,
    pub crl_file: Text,
    pub crl: Choice,
    pub local_auth: Choice,
    pub remote_auth: Choice,
    pub ppk_id: Text,
    pub ppk_file: Text,
    pub ppk_required: Flag,
    pub profile: Choice,
    pub initiate: Flag,
    pub encapsulation: Choice,
    pub selectors: Choice,
    pub ike_lifetime_secs: Number,
    pub child_lifetime_secs: Number,
    pub child_lifetime_bytes: Number,
    pub child_lifetime_packets: Number,
    pub replay_window_packets: Number,
    pub liveness_secs: Number,
    pub dscp: Choice,
}

#[derive(Debug)]
pub struct Host {
    pub name: Text,
    pub realm: Text,
    pub addresses: Texts,
}

#[derive(Debug)]
pub struct Service {
    pub name: Text,
    pub host: Text,
    pub ports: Texts,
}

#[derive(Debug)]
pub struct Grant {
    pub span: Range<usize>,
    pub from: Texts,
    pub to: Texts,
    pub ports: Texts,
}

impl Raw {
    pub fn read(document: &DeTable<'_>, problems: &mut Problems) -> Raw {
        let root = Section::open(document, 0..0, &ROOT, problems);
        Raw {
            ix: root.section("ix", problems).map(|s| read_ix(&s, problems)).unwrap_or_default(),
            api_listen: root.section("api", problems).and_then(|s| s.text("listen", problems)),
            metrics_listen: root.section("metrics", problems).and_then(|s| s.text("listen", problems)),
            wireguard: root.section("wireguard", problems).map(|s| read_wireguard(&s, problems)).unwrap_or_default(),
            ike: root.section("ike", problems).map(|s| read_ike(&s, problems)).unwrap_or_default(),
            workers: root.section("workers", problems).map(|s| read_workers(&s, problems)).unwrap_or_default(),
            gate: root.section("gate", problems).map(|s| read_gate(&s, problems)).unwrap_or_default(),
            uplink: root.section("uplink", problems).map(|s| read_uplink(&s, problems)).unwrap_or_default(),
            limits: root.section("limits", problems).map(|s| read_limits(&s, problems)).unwrap_or_default(),
            sessions: root.section("sessions", problems).map(|s| read_sessions(&s, problems)).unwrap_or_default(),
            dns: root.section("dns", problems).map(|s| read_dns(&s, problems)).unwrap_or_default(),
            interfaces: root.sections("interface", problems).iter().map(|s| port::interface(s, problems)).collect(),
            realms: root.sections("realm", problems).iter().map(|s| read_realm(s, problems)).collect(),
            hosts: root.sections("host", problems).iter().map(|s| read_host(s, problems)).collect(),
            dns_forwards: root
                .sections("dns_forward", problems)
                .iter()
                .map(|s| read_dns_forward(s, problems))
                .collect(),
            services: root.sections("service", problems).iter().map(|s| read_service(s, problems)).collect(),
            grants: root.sections("grant", problems).iter().map(|s| read_grant(s, problems)).collect(),
        }
    }
}

fn read_ix(s: &Section<'_>, problems: &mut Problems) -> Ix {
    Ix {
        name: s.text("name", problems),
        domain: s.text("domain", problems),
        space6: s.text("space6", problems),
        alias4: s.texts("alias4", problems),
        state_dir: s.text("state_dir", problems),
    }
}

fn read_wireguard(s: &Section<'_>, problems: &mut Problems) -> WireGuard {
    WireGuard { listen: s.text("listen", problems), private_key_file: s.text("private_key_file", problems) }
}

fn read_ike(s: &Section<'_>, problems: &mut Problems) -> Ike {
    Ike {
        listen: s.text("listen", problems),
        port: s.integer("port", problems),
        nat_t_port: s.integer("nat_t_port", problems),
        local_id: s.text("local_id", problems),
        certificate_file: s.text("certificate_file", problems),
        private_key_file: s.text("private_key_file", problems),
        rsa_padding: s.choice("rsa_padding", problems),
        raw_esp: s.flag("raw_esp", problems),
    }
}

fn read_workers(s: &Section<'_>, problems: &mut Problems) -> Workers {
    Workers { threads: s.integer("threads", problems) }
}

fn read_gate(s: &Section<'_>, problems: &mut Problems) -> Gate {
    Gate { enabled: s.flag("enabled", problems), interfaces: s.texts("interfaces", problems) }
}

fn read_uplink(s: &Section<'_>, problems: &mut Problems) -> Uplink {
    Uplink {
        driver: s.choice("driver", problems),
        interfaces: s.texts("interfaces", problems),
        has_interfaces: s.has("interfaces"),
    }
}

fn read_sessions(s: &Section<'_>, problems: &mut Problems) -> Sessions {
    Sessions {
        tcp_established_secs: s.integer("tcp_established_secs", problems),
        tcp_opening_secs: s.integer("tcp_opening_secs", problems),
        tcp_transitory_secs: s.integer("tcp_transitory_secs", problems),
        udp_secs: s.integer("udp_secs", problems),
        icmp_secs: s.integer("icmp_secs", problems),
    }
}

fn read_dns(s: &Section<'_>, problems: &mut Problems) -> Dns {
    let transfer = s.section("transfer", problems).map(|s| Transfer {
        span: s.span.clone(),
        listen: s.text("listen", problems),
        keys: s.sections("key", problems).iter().map(|s| read_transfer_key(s, problems)).collect(),
    });
    Dns { dnssec: s.flag("dnssec", problems), dnssec_key_file: s.text("dnssec_key_file", problems), transfer }
}

fn read_transfer_key(s: &Section<'_>, problems: &mut Problems) -> TransferKey {
    TransferKey {
        name: s.text("name", problems),
        secret_file: s.text("secret_file", problems),
        algorithm: s.choice("algorithm", problems),
        view: s.text("view", problems),
    }
}

fn read_limits(s: &Section<'_>, problems: &mut Problems) -> Limits {
    Limits {
        sessions: s.integer("sessions", problems),
        sessions_per_realm: s.integer("sessions_per_realm", problems),
        handshakes_per_sec: s.integer("handshakes_per_sec", problems),
        icmp_errors_per_sec: s.integer("icmp_errors_per_sec", problems),
        dns_tcp_per_realm: s.integer("dns_tcp_per_realm", problems),
        dns_tcp: s.integer("dns_tcp", problems),
        reassembly_bytes: s.integer("reassembly_bytes", problems),
        reassembly_bytes_per_realm: s.integer("reassembly_bytes_per_realm", problems),
        reassembly_datagrams_per_realm: s.integer("reassembly_datagrams_per_realm", problems),
        reassembly_fragments: s.integer("reassembly_fragments", problems),
        napt_bindings: s.integer("napt_bindings", problems),
        dns_pending: s.integer("dns_pending", problems),
        dns_pending_per_realm: s.integer("dns_pending_per_realm", problems),
        dns_pending_per_resolver: s.integer("dns_pending_per_resolver", problems),
        dns_pending_tcp: s.integer("dns_pending_tcp", problems),
        dns_pending_tcp_per_realm: s.integer("dns_pending_tcp_per_realm", problems),
        dns_cache_entries: s.integer("dns_cache_entries", problems),
        dns_cache_bytes: s.integer("dns_cache_bytes", problems),
        dns_queries_per_sec_per_host: s.integer("dns_queries_per_sec_per_host", problems),
        dns_queries_per_sec_per_realm: s.integer("dns_queries_per_sec_per_realm", problems),
        dns_signatures: s.integer("dns_signatures", problems),
        dns_signatures_per_sec_per_realm: s.integer("dns_signatures_per_sec_per_realm", problems),
        dns_transfers: s.integer("dns_transfers", problems),
        ike_half_open: s.integer("ike_half_open", problems),
        ike_half_open_per_source: s.integer("ike_half_open_per_source", problems),
        ike_cookie_threshold: s.integer("ike_cookie_threshold", problems),
        ike_sas_per_peer: s.integer("ike_sas_per_peer", problems),
        ike_children_per_sa: s.integer("ike_children_per_sa", problems),
        ike_fragments: s.integer("ike_fragments", problems),
        ike_message_bytes: s.integer("ike_message_bytes", problems),
        ike_payloads: s.integer("ike_payloads", problems),
        ike_proposals: s.integer("ike_proposals", problems),
        ike_transforms: s.integer("ike_transforms", problems),
        ike_selectors: s.integer("ike_selectors", problems),
    }
}

fn read_realm(s: &Section<'_>, problems: &mut Problems) -> Realm {
    let routes_from = s.section("routes_from", problems).map(|r| routes_from::routes_from(&r, problems));
    let networks = match s.has("routes_from") {
        true => s.texts_or_sections_or_none("networks", problems),
        false => s.texts_or_sections("networks", problems),
    };
    let networks = networks.unwrap_or_default();
    Realm {
        span: s.span.clone(),
        name: s.text("name", problems),
        networks: networks.into_iter().filter_map(|n| read_network(n, problems)).collect(),
        dns: s
            .section("dns", problems)
            .map(|d| RealmDns { domains: d.texts("domains", problems), resolvers: d.texts("resolvers", problems) }),
        attachments: s.sections("attach", problems).iter().map(|a| read_attachment(a, problems)).collect(),
        routes_from,
        show_as: s.section("show_as", problems).map(|s| read_show_as(&s, problems)),
    }
}

fn read_show_as(s: &Section<'_>, problems: &mut Problems) -> ShowAs {
    let forwards = s.sections("forwards", problems);
    let forwards = forwards.iter().map(|f| Forward {
        outside: f.text("outside", problems),
        port: f.text("port", problems),
        to: f.text("to", problems),
    });
    ShowAs {
        span: s.span.clone(),
        forwards: forwards.collect(),
        napt: s.texts("napt", problems),
        viewers: s.texts("for", problems),
        filtering: s.choice("filtering", problems),
        block_ports: s.integer("block_ports", problems),
    }
}

fn read_dns_forward(s: &Section<'_>, problems: &mut Problems) -> DnsForward {
    DnsForward { domain: s.text("domain", problems), resolvers: s.texts("resolvers", problems) }
}

fn read_network(entry: TextOrSection<'_>, problems: &mut Problems) -> Option<Network> {
    Some(match entry {
        TextOrSection::Text(text) if text.value == "default" => {
            Network { extent: Extent::Default(text), alias: None, canonical: None }
        }
        TextOrSection::Text(prefix) => Network { extent: Extent::Prefix(prefix), alias: None, canonical: None },
        TextOrSection::Section(s) => {
            let (alias, canonical) = (s.text("alias", problems), s.text("canonical", problems));
            let (prefix, range) = (s.text("prefix", problems), s.text("range", problems));
            Network { extent: prefix.map(Extent::Prefix).or(range.map(Extent::Range))?, alias, canonical }
        }
    })
}

fn read_attachment(s: &Section<'_>, problems: &mut Problems) -> Attachment {
    let wireguard = s.section("wireguard", problems).map(|p| Peer {
        span: p.span.clone(),
        public_key: p.text("public_key", problems),
        endpoint: p.text("endpoint", problems),
        preshared_key_file: p.text("preshared_key_file", problems),
        keepalive_secs: p.integer("keepalive_secs", problems),
    });
    let ipsec = s.section("ipsec", problems).map(|p| read_ipsec(&p, problems));
    Attachment {
        span: s.span.clone(),
        wireguard,
        ipsec,
        port: s.section("port", problems).map(|p| port::port(&p, problems)),
        tun: s.section("tun", problems).map(|t| Tun { name: t.text("name", problems) }),
        has_priority: s.has("priority"),
        priority: s.integer("priority", problems),
        weight: s.integer("weight", problems),
        mtu_bytes: s.integer("mtu_bytes", problems),
    }
}

fn read_ipsec(s: &Section<'_>, problems: &mut Problems) -> IpsecPeer {
    IpsecPeer {
        span: s.span.clone(),
        remote: s.text("remote", problems),
        remote_nat_t_port: s.integer("remote_nat_t_port", problems),
        remote_id: s.text("remote_id", problems),
        local_id: s.text("local_id", problems),
        psk_file: s.text("psk_file", problems),
        ca_file: s.text("ca_file", problems),
        crl_file: s.text("crl_file", problems),
        crl: s.choice("crl", problems),
        local_auth: s.choice("local_auth", problems),
        remote_auth: s.choice("remote_auth", problems),
        ppk_id: s.text("ppk_id", problems),
        ppk_file: s.text("ppk_file", problems),
        ppk_required: s.flag("ppk_required", problems),
        profile: s.choice("profile", problems),
        initiate: s.flag("initiate", problems),
        encapsulation: s.choice("encapsulation", problems),
        selectors: s.choice("selectors", problems),
        ike_lifetime_secs: s.integer("ike_lifetime_secs", problems),
        child_lifetime_secs: s.integer("child_lifetime_secs", problems),
        child_lifetime_bytes: s.integer("child_lifetime_bytes", problems),
        child_lifetime_packets: s.integer("child_lifetime_packets", problems),
        replay_window_packets: s.integer("replay_window_packets", problems),
        liveness_secs: s.integer("liveness_secs", problems),
        dscp: s.choice("dscp", problems),
    }
}

fn read_host(s: &Section<'_>, problems: &mut Problems) -> Host {
    Host { name: s.text("name", problems), realm: s.text("realm", problems), addresses: s.texts("address", problems) }
}

fn read_service(s: &Section<'_>, problems: &mut Problems) -> Service {
    Service { name: s.text("name", problems), host: s.text("host", problems), ports: s.texts("ports", problems) }
}

fn read_grant(s: &Section<'_>, problems: &mut Problems) -> Grant {
    Grant {
        span: s.span.clone(),
        from: s.texts("from", problems),
        to: s.texts("to", problems),
        ports: s.texts("ports", problems),
    }
}
