//! What the file may contain: every table, key, type, bound and default, once.
//!
//! The reader ([`super::section`]) refuses what is not listed here, and [`super::schema()`] prints the same tables as a
//! JSON Schema, so the two cannot disagree. What the design foresees but this version does not serve is listed as
//! *planned*: it is refused with a clear word, never ignored.

mod dns;
pub mod gate;
mod ipsec;
pub mod mistaken;
mod napt;
pub mod port;
mod routes_from;
mod sessions;
pub mod uplink;
pub mod workers;

/// One table of the file.
#[derive(Debug)]
pub struct TableSpec {
    /// As the user writes it.
    pub title: &'static str,
    pub doc: &'static str,
    pub keys: &'static [KeySpec],
    /// Of these optional keys exactly one must be there. Empty: no such rule.
    pub one_of: &'static [&'static str],
    pub planned: &'static [Planned],
}

#[derive(Debug)]
pub struct KeySpec {
    pub name: &'static str,
    pub doc: &'static str,
    pub shape: Shape,
    pub required: bool,
    /// As it would be written in the file.
    pub default: Option<&'static str>,
}

/// A key of the design that a later version will serve.
#[derive(Debug)]
pub struct Planned {
    pub name: &'static str,
    pub instead: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Text(Format),
    Integer {
        min: u64,
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1 to `max` texts.
    Texts {
        of: Format,
        max: usize,
    },
    /// One text, or 1 to `max` of them.
    TextOrTexts {
        of: Format,
        max: usize,
    },
    Table(&'static TableSpec),
    /// `[[…]]`, 0 to `max` of them.
    Tables {
        of: &'static TableSpec,
        max: usize,
    },
    /// Up to `max` texts or tables, mixed; one at least where nothing else stands in for them.
    TextsOrTables {
        text: Format,
        table: &'static TableSpec,
        max: usize,
    },
}

/// What a text stands for.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub doc: &'static str,
    pub example: &'static str,
    /// Regular expression, where one can say it.
    pub pattern: Option<&'static str>,
}

impl TableSpec {
    pub fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// Keys that a required one may be left out for.
    pub fn instead_of(&self, name: &str) -> &'static [&'static str] {
        match (self.title, name) {
            ("[[realm]]", "networks") => &["routes_from"],
            _ => &[],
        }
    }

    pub fn planned(&self, name: &str) -> Option<&'static Planned> {
        self.planned.iter().find(|p| p.name == name)
    }
}

pub const MAX_FILE_BYTES: usize = 16 << 20;
pub const MAX_TEXT_BYTES: usize = 4096;
/// Realm numbers are 16 bits, and 0 is the appliance itself.
pub const MAX_REALMS: usize = 65_535;
pub const MAX_NETWORKS_PER_REALM: usize = 65_536;
pub const MAX_NETWORKS: usize = 262_144;
/// Prefixes that one range is cut into.
pub const MAX_RANGE_PIECES: usize = 64;
pub const MAX_ATTACHMENTS_PER_REALM: usize = 64;
pub const MAX_HOSTS: usize = 1_000_000;
pub const MAX_SERVICES: usize = 100_000;
pub const MAX_GRANTS: usize = 100_000;
pub const MAX_PORT_RULES: usize = 256;
pub const MAX_ALIAS_POOLS: usize = 256;

const LABEL: Format = Format {
    doc: "a DNS label: lower-case letters, digits and hyphens, at most 63",
    example: "\"region-a\"",
    pattern: Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
};
const DOMAIN: Format = Format {
    doc: "a domain name in lower case, at most 125 characters",
    example: "\"ix.example\"",
    pattern: Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"),
};
const PATH: Format = Format { doc: "a path, relative to this file", example: "\"state\"", pattern: None };
const PREFIX: Format =
    Format { doc: "an IPv4 or IPv6 prefix", example: "\"192.168.1.0/24\"", pattern: Some("^[0-9a-fA-F.:]+/[0-9]+$") };
const NETWORK_TEXT: Format = Format {
    doc: "an IPv4 or IPv6 prefix, or `default`: all addresses that nobody else has",
    example: "\"192.168.1.0/24\"",
    pattern: Some("^(default|[0-9a-fA-F.:]+/[0-9]+)$"),
};
const PREFIX4: Format =
    Format { doc: "an IPv4 prefix", example: "\"100.64.0.0/10\"", pattern: Some("^[0-9.]+/[0-9]+$") };
const PREFIX6: Format =
    Format { doc: "an IPv6 prefix", example: "\"fd69:7867:6174::/48\"", pattern: Some("^[0-9a-fA-F.:]+/[0-9]+$") };
const ADDRESS: Format =
    Format { doc: "an IPv4 or IPv6 address", example: "\"192.168.1.20\"", pattern: Some("^[0-9a-fA-F.:]+$") };
const SOCKET: Format =
    Format { doc: "an IP address and a port", example: "\"203.0.113.10:51820\"", pattern: Some("^.+:[0-9]+$") };
const KEY: Format = Format {
    doc: "a WireGuard key: 32 bytes in base64",
    example: "\"yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\"",
    pattern: Some("^[A-Za-z0-9+/]{43}=$"),
};
const PORT_RULE: Format = Format {
    doc: "`tcp/PORT`, `tcp/FIRST-LAST`, the same with `udp`, `icmp` (echo), or `any`",
    example: "\"tcp/443\"",
    pattern: Some("^(any|icmp|(tcp|udp)/[0-9]+(-[0-9]+)?)$"),
};

pub static ROOT: TableSpec = TableSpec {
    title: "the file",
    doc: "Configuration of an ixgate appliance. Paths are relative to the file; every section that is left out takes its \
          defaults.",
    keys: &[
        optional("ix", "The appliance itself.", Shape::Table(&IX)),
        optional("api", "The control interface.", Shape::Table(&API)),
        optional("metrics", "Prometheus metrics.", Shape::Table(&METRICS)),
        optional("wireguard", "One key and one port for all WireGuard peers.", Shape::Table(&WIREGUARD)),
        optional("ike", "IKEv2 and ESP: our side of every IPsec tunnel.", Shape::Table(&ipsec::IKE)),
        optional("workers", "Threads of the packet path.", Shape::Table(&workers::WORKERS)),
        optional("gate", "What is shed in overload, before it costs.", Shape::Table(&gate::GATE)),
        optional("uplink", "By what tunnels' datagrams come and go.", Shape::Table(&uplink::UPLINK)),
        optional("limits", "Bounds on tables and rates.", Shape::Table(&LIMITS)),
        optional("sessions", "How long sessions may be idle.", Shape::Table(&sessions::SESSIONS)),
        optional("dns", "The internal zone: signatures and transfers.", Shape::Table(&dns::DNS)),
        port::INTERFACES,
        optional("realm", "One attached address space.", Shape::Tables { of: &REALM, max: MAX_REALMS }),
        optional("host", "A host with a name.", Shape::Tables { of: &HOST, max: MAX_HOSTS }),
        optional(
            "dns_forward",
            "A domain outside all realms, and who is asked for it.",
            Shape::Tables { of: &dns::FORWARD, max: dns::MAX_FORWARDS },
        ),
        optional("service", "Ports of a host under a name.", Shape::Tables { of: &SERVICE, max: MAX_SERVICES }),
        optional("grant", "What is let through. All else is closed.", Shape::Tables { of: &GRANT, max: MAX_GRANTS }),
    ],
    one_of: &[],
    planned: &[],
};

pub static IX: TableSpec = TableSpec {
    title: "[ix]",
    doc: "The appliance itself.",
    keys: &[
        with_default("name", "What this appliance is called in logs.", Shape::Text(LABEL), "\"ix\""),
        with_default(
            "domain",
            "The internal zone: HOST.REALM.DOMAIN and SERVICE.DOMAIN.",
            Shape::Text(DOMAIN),
            "\"ix.example\"",
        ),
        with_default(
            "space6",
            "The /48 out of which canonical addresses are made. A unique local prefix of your own.",
            Shape::Text(PREFIX6),
            "\"fd69:7867:6174::/48\"",
        ),
        with_default(
            "alias4",
            "IPv4 aliases are allocated from here.",
            Shape::Texts { of: PREFIX4, max: MAX_ALIAS_POOLS },
            "[\"100.64.0.0/10\"]",
        ),
        with_default("state_dir", "The embedded store: allocations that must survive.", Shape::Text(PATH), "\"state\""),
    ],
    one_of: &[],
    planned: &[],
};

pub static API: TableSpec = TableSpec {
    title: "[api]",
    doc: "The control interface.",
    keys: &[with_default(
        "listen",
        "A Unix socket: `unix:PATH`.",
        Shape::Text(Format {
            doc: "`unix:PATH`, a Unix socket",
            example: "\"unix:state/ixgate.sock\"",
            pattern: Some("^unix:.+$"),
        }),
        "\"unix:state/ixgate.sock\"",
    )],
    one_of: &[],
    planned: &[Planned { name: "tls", instead: "remove it; the API is a Unix socket for now" }],
};

pub static METRICS: TableSpec = TableSpec {
    title: "[metrics]",
    doc: "Prometheus metrics.",
    keys: &[with_default(
        "listen",
        "An IP address and a port, or `off`.",
        Shape::Text(Format {
            doc: "an IP address and a port, or `off`",
            example: "\"127.0.0.1:9469\"",
            pattern: Some("^(off|.+:[0-9]+)$"),
        }),
        "\"127.0.0.1:9469\"",
    )],
    one_of: &[],
    planned: &[],
};

pub static WIREGUARD: TableSpec = TableSpec {
    title: "[wireguard]",
    doc: "One key and one port for all WireGuard peers.",
    keys: &[
        with_default("listen", "UDP address and port.", Shape::Text(SOCKET), "\"0.0.0.0:51820\""),
        optional(
            "private_key_file",
            "A file with our private key (`ixgate keygen wireguard`), mode 600. Required as soon as a realm attaches by \
             WireGuard.",
            Shape::Text(PATH),
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static LIMITS: TableSpec = TableSpec {
    title: "[limits]",
    doc: "Bounds on tables and rates.",
    keys: &[
        with_default("sessions", "Sessions in all.", integer(1, 4_000_000), "1000000"),
        with_default(
            "sessions_per_realm",
            "Sessions that one source realm may have open. At most `sessions`.",
            integer(1, 4_000_000),
            "200000",
        ),
        with_default(
            "handshakes_per_sec",
            "Handshake initiations answered per second before cookies are asked for.",
            integer(1, 100_000),
            "500",
        ),
        with_default(
            "icmp_errors_per_sec",
            "ICMP errors sent per second towards one realm.",
            integer(1, 100_000),
            "100",
        ),
        with_default(
            "dns_tcp_per_realm",
            "DNS-over-TCP connections that one realm may have open. At most `dns_tcp`.",
            integer(1, 1024),
            "16",
        ),
        with_default("dns_tcp", "DNS-over-TCP connections of all realms together.", integer(1, 4096), "128"),
        with_default(
            "reassembly_bytes",
            "Memory for fragments that wait for others, of all realms together, bytes.",
            integer(131_072, 4 << 30),
            "33554432",
        ),
        with_default(
            "reassembly_bytes_per_realm",
            "Of these, for one realm; its oldest datagrams make room. At most `reassembly_bytes`.",
            integer(131_072, 4 << 30),
            "1048576",
        ),
        with_default(
            "reassembly_datagrams_per_realm",
            "Unfinished datagrams of one realm.",
            integer(1, 1_000_000),
            "1024",
        ),
        with_default("reassembly_fragments", "Fragments of one datagram.", integer(2, 8192), "128"),
        with_default("napt_bindings", "NAPT bindings of all realms together.", integer(1024, 4_000_000), "500000"),
        with_default("dns_pending", "Forwarded questions that wait for a resolver.", integer(1, 32_768), "4096"),
        with_default(
            "dns_pending_per_realm",
            "Of these, of one asking realm. At most `dns_pending`.",
            integer(1, 32_768),
            "512",
        ),
        with_default(
            "dns_pending_per_resolver",
            "Of these, at one resolver. At most `dns_pending`.",
            integer(1, 32_768),
            "1024",
        ),
        with_default("dns_pending_tcp", "Of these, over TCP into realms.", integer(1, 4096), "128"),
        with_default(
            "dns_pending_tcp_per_realm",
            "Of these, over TCP into one realm. At most `dns_pending_tcp`.",
            integer(1, 4096),
            "16",
        ),
        with_default("dns_cache_entries", "Forwarded answers remembered for one realm.", integer(1, 1_000_000), "4096"),
        with_default(
            "dns_cache_bytes",
            "Bytes of forwarded answers remembered for one realm.",
            integer(4096, 1 << 30),
            "4194304",
        ),
        with_default(
            "dns_queries_per_sec_per_host",
            "DNS queries answered per second to one host; beyond it TCP is asked for, then silence.",
            integer(1, 1_000_000),
            "500",
        ),
        with_default(
            "dns_queries_per_sec_per_realm",
            "DNS queries answered per second to one realm.",
            integer(1, 1_000_000),
            "10000",
        ),
        with_default("dns_signatures", "DNSSEC signatures remembered.", integer(1, 1_000_000), "32768"),
        with_default(
            "dns_signatures_per_sec_per_realm",
            "New DNSSEC signatures made per second for one realm; those beyond are answered with SERVFAIL.",
            integer(1, 100_000),
            "500",
        ),
        with_default("dns_transfers", "Connections for zone transfers.", integer(1, 256), "8"),
        with_default("ike_half_open", "IKE SAs whose peer has not yet proved who it is.", integer(16, 65_536), "4096"),
        with_default(
            "ike_half_open_per_source",
            "Of these, from one address (IPv6: one /64). Peers behind one NAT share it. At most `ike_half_open`.",
            integer(1, 65_536),
            "64",
        ),
        with_default(
            "ike_cookie_threshold",
            "Half-open IKE SAs from which on senders must prove their address first (RFC 7296 section 2.6).",
            integer(0, 65_536),
            "256",
        ),
        with_default("ike_sas_per_peer", "IKE SAs with one peer at a time; rekeying takes two.", integer(2, 64), "4"),
        with_default(
            "ike_children_per_sa",
            "Child SAs of one IKE SA, those that are being replaced included.",
            integer(2, 1024),
            "128",
        ),
        with_default("ike_fragments", "Fragments of one IKE message (RFC 7383).", integer(2, 1024), "64"),
        with_default(
            "ike_message_bytes",
            "Bytes of one IKE message after its fragments are put together.",
            integer(4096, 65_535),
            "65535",
        ),
        with_default("ike_payloads", "Payloads of one IKE message.", integer(16, 256), "64"),
        with_default("ike_proposals", "Proposals in one SA payload.", integer(4, 255), "32"),
        with_default("ike_transforms", "Transforms of one proposal.", integer(8, 255), "128"),
        with_default(
            "ike_selectors",
            "Traffic selectors on one side of a child SA; a view with more is offered by its alias pools.",
            integer(2, 255),
            "64",
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static REALM: TableSpec = TableSpec {
    title: "[[realm]]",
    doc: "One attached address space. Realms may use the same addresses; the networks of one realm may not overlap.",
    keys: &[
        required("name", "Part of the names of its hosts. `ix` is reserved.", Shape::Text(LABEL)),
        required(
            "networks",
            "The networks that the realm uses on its own wires.",
            Shape::TextsOrTables { text: NETWORK_TEXT, table: &NETWORK, max: MAX_NETWORKS_PER_REALM },
        ),
        optional("dns", "The realm's own domains, and the resolvers that answer them.", Shape::Table(&dns::REALM)),
        optional(
            "attach",
            "Tunnels and ports, the preferred one first, or in the order of their `priority`. None: the realm is planned.",
            Shape::Tables { of: &ATTACH, max: MAX_ATTACHMENTS_PER_REALM },
        ),
        optional(
            "routes_from",
            "Takes more networks from a routing daemon. Beside it, `networks` may be empty or left out.",
            Shape::Table(&routes_from::ROUTES_FROM),
        ),
        optional("show_as", "Shows the realm's hosts by a few addresses (NAPT).", Shape::Table(&napt::SHOW_AS)),
    ],
    one_of: &[],
    planned: &[],
};

pub static NETWORK: TableSpec = TableSpec {
    title: "a network",
    doc: "A network with more to say than its prefix.",
    keys: &[
        optional("prefix", "The addresses on the realm's own wires.", Shape::Text(PREFIX)),
        optional(
            "range",
            "The same, where they are no prefix: first and last address. Cut into at most 64 prefixes.",
            Shape::Text(Format {
                doc: "first and last address, both included",
                example: "\"192.168.1.10-192.168.1.20\"",
                pattern: Some("^[0-9a-fA-F.:]+ *- *[0-9a-fA-F.:]+$"),
            }),
        ),
        optional(
            "alias",
            "Pins the IPv4 alias under which others see it (as many addresses), or `hosts`: show only its [[host]]s, or \
             `auto`: take one from `alias4`. Default: `auto` for IPv4, `hosts` for IPv6.",
            Shape::Text(Format {
                doc: "an IPv4 prefix (for a range: a range) with as many addresses, `hosts` or `auto`",
                example: "\"100.64.2.0/24\"",
                pattern: Some("^(auto|hosts|[0-9.]+/[0-9]+|[0-9.]+ *- *[0-9.]+)$"),
            }),
        ),
        optional(
            "canonical",
            "IPv6: a prefix of the same length that is unique among all realms, when the network's own is not.",
            Shape::Text(PREFIX6),
        ),
    ],
    one_of: &["prefix", "range"],
    planned: &[Planned {
        name: "show_as",
        instead: "write it under the [[realm]]; it holds for all networks without a pinned alias",
    }],
};

pub static ATTACH: TableSpec = TableSpec {
    title: "[[realm.attach]]",
    doc: "One way to a realm: a tunnel (WireGuard, IPsec), or a port without encryption (Ethernet, TUN).",
    keys: &[
        optional("wireguard", "The WireGuard peer.", Shape::Table(&PEER)),
        optional("ipsec", "The IPsec peer.", Shape::Table(&ipsec::PEER)),
        optional("port", "An Ethernet interface, or a VLAN of it.", Shape::Table(&port::PORT)),
        optional("tun", "A TUN device of this machine.", Shape::Table(&port::TUN)),
        optional(
            "priority",
            "Of the realm's attachments that are up, those with the lowest number carry its traffic. All of them have \
             one, or none; then their order in the file decides.",
            integer(0, 255),
        ),
        optional(
            "weight",
            "Shares of the flows among attachments of the same `priority`. Default: 1.",
            integer(1, 100),
        ),
        optional(
            "mtu_bytes",
            "The largest inner packet. Default: 1420 for WireGuard, 1390 for IPsec, 1500 for TUN. A port has `mtu`.",
            integer(1280, 1920),
        ),
    ],
    one_of: &["wireguard", "ipsec", "port", "tun"],
    planned: &[],
};

pub static PEER: TableSpec = TableSpec {
    title: "wireguard",
    doc: "A WireGuard peer.",
    keys: &[
        required("public_key", "The peer's public key: its identity, once in the whole file.", Shape::Text(KEY)),
        optional(
            "endpoint",
            "Where the peer listens. When set, we initiate; when not, the peer does.",
            Shape::Text(SOCKET),
        ),
        optional("preshared_key_file", "A file with the preshared key, mode 600.", Shape::Text(PATH)),
        optional(
            "keepalive_secs",
            "Persistent keepalive, seconds. Default: 25 when `endpoint` is set, else none.",
            integer(1, 65_535),
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static HOST: TableSpec = TableSpec {
    title: "[[host]]",
    doc: "A host with a name: HOST.REALM.DOMAIN.",
    keys: &[
        required("name", "Unique within its realm.", Shape::Text(LABEL)),
        required("realm", "The name of its realm.", Shape::Text(LABEL)),
        required(
            "address",
            "Its address on the realm's own wires, at most one per family.",
            Shape::TextOrTexts { of: ADDRESS, max: 2 },
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static SERVICE: TableSpec = TableSpec {
    title: "[[service]]",
    doc: "Ports of a host under a name: SERVICE.DOMAIN.",
    keys: &[
        required("name", "Unique. `ns` is reserved.", Shape::Text(LABEL)),
        required(
            "host",
            "HOST.REALM",
            Shape::Text(Format {
                doc: "a host and its realm: HOST.REALM",
                example: "\"pacs.hospital-b\"",
                pattern: Some("^[a-z0-9-]+[.][a-z0-9-]+$"),
            }),
        ),
        required("ports", "What the service listens on.", Shape::Texts { of: PORT_RULE, max: MAX_PORT_RULES }),
    ],
    one_of: &[],
    planned: &[],
};

pub static GRANT: TableSpec = TableSpec {
    title: "[[grant]]",
    doc: "Lets the hosts of some realms open sessions. Replies need no grant.",
    keys: &[
        required("from", "Names of realms.", Shape::Texts { of: LABEL, max: MAX_REALMS }),
        required(
            "to",
            "Names of services, or `realm:NAME` for a whole realm.",
            Shape::Texts {
                of: Format {
                    doc: "a service, or `realm:NAME`",
                    example: "\"pacs\"",
                    pattern: Some("^(realm:)?[a-z0-9-]+$"),
                },
                max: MAX_REALMS,
            },
        ),
        optional(
            "ports",
            "For whole realms, and required there. A service brings its own ports.",
            Shape::Texts { of: PORT_RULE, max: MAX_PORT_RULES },
        ),
    ],
    one_of: &[],
    planned: &[],
};

const fn required(name: &'static str, doc: &'static str, shape: Shape) -> KeySpec {
    KeySpec { name, doc, shape, required: true, default: None }
}

const fn optional(name: &'static str, doc: &'static str, shape: Shape) -> KeySpec {
    KeySpec { name, doc, shape, required: false, default: None }
}

const fn with_default(name: &'static str, doc: &'static str, shape: Shape, default: &'static str) -> KeySpec {
    KeySpec { name, doc, shape, required: false, default: Some(default) }
}

const fn integer(min: u64, max: u64) -> Shape {
    Shape::Integer { min, max }
}
