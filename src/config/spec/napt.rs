//! `show_as` of a realm.

use super::{Format, LABEL, MAX_REALMS, PREFIX4, Shape, TableSpec, integer, optional, required, with_default};

pub const MAX_POOLS: usize = 64;
pub const MAX_FORWARDS: usize = 1000;

const POOL: Format = Format { example: "\"100.64.9.0/28\"", ..PREFIX4 };

pub static SHOW_AS: TableSpec = TableSpec {
    title: "show_as",
    doc: "How the others see the realm's hosts: by addresses and ports of a pool (NAPT).",
    keys: &[
        required(
            "napt",
            "The pool: prefixes that nobody else has. Inside `alias4` they are kept from being given to others.",
            Shape::Texts { of: POOL, max: MAX_POOLS },
        ),
        optional(
            "for",
            "Names of realms. Only these see the pool, the others aliases. Default: everybody sees the pool; then a \
             [[host]] still has an address of its own, and so has a network with a pinned alias.",
            Shape::Texts { of: LABEL, max: MAX_REALMS },
        ),
        with_default(
            "filtering",
            "Who may send to a port that a host uses, among those that the realm may open sessions to: `endpoint` all, \
             `address` hosts that it has sent to, `address-and-port` only what it has sent to (RFC 4787).",
            Shape::Choice(&["address-and-port", "address", "endpoint"]),
            "\"address-and-port\"",
        ),
        with_default(
            "block_ports",
            "Ports of each protocol that one host may use at a time. An even number.",
            integer(16, 64_512),
            "256",
        ),
        optional(
            "forwards",
            "Ports of the pool that always lead to one host. A grant is needed as for everything.",
            Shape::Tables { of: &FORWARD, max: MAX_FORWARDS },
        ),
    ],
    one_of: &[],
    planned: &[],
};

static FORWARD: TableSpec = TableSpec {
    title: "a forward",
    doc: "A port of the pool that always leads to one host.",
    keys: &[
        required(
            "outside",
            "An address of the pool.",
            Shape::Text(Format { doc: "an IPv4 address", example: "\"100.64.9.1\"", pattern: Some("^[0-9.]+$") }),
        ),
        required(
            "port",
            "Protocol and port, as the others see them.",
            Shape::Text(Format {
                doc: "`tcp/PORT` or `udp/PORT`",
                example: "\"tcp/443\"",
                pattern: Some("^(tcp|udp)/[0-9]+$"),
            }),
        ),
        required(
            "to",
            "Address and port on the realm's own wires.",
            Shape::Text(Format {
                doc: "an IP address of the realm and a port",
                example: "\"192.168.1.20:8443\"",
                pattern: Some("^.+:[0-9]+$"),
            }),
        ),
    ],
    one_of: &[],
    planned: &[],
};
