//! `routes_from`: what may be said of a routing daemon that a realm takes networks from.

use super::{ADDRESS, Format, PREFIX, Shape, TableSpec, integer, optional, required, with_default};

pub const MAX_LOCAL: usize = 8;
pub const MAX_PEERS: usize = 16;
pub const MAX_ALLOW: usize = 256;
pub const MAX_PREFIXES: u64 = 10_000;
pub const MAX_ALIAS_ADDRESSES: u64 = 1 << 32;

pub static ROUTES_FROM: TableSpec = TableSpec {
    title: "routes_from",
    doc: "A routing daemon (BIRD, FRR) in a network namespace of its own, which speaks BGP with the realm's routers through a TUN \
          device. What it learns become networks of the realm.",
    keys: &[
        required(
            "namespace",
            "The network namespace that the daemon runs in, one for each such realm.",
            Shape::Text(Format {
                doc: "a name as `ip netns list` shows it",
                example: "\"bgp-x\"",
                pattern: Some("^[^/\\s]{1,255}$"),
            }),
        ),
        required(
            "tun",
            "The TUN device in that namespace that leads to the realm. It is made, unless it is there.",
            Shape::Text(Format {
                doc: "a name for an interface: at most 15 bytes, without spaces, slashes and colons",
                example: "\"ix-x\"",
                pattern: Some("^[^/:%\\s]{1,15}$"),
            }),
        ),
        required(
            "local",
            "Addresses that the daemon speaks from. Of a realm attached by a port, the port's own.",
            Shape::TextOrTexts { of: Format { example: "\"172.20.0.2\"", ..ADDRESS }, max: MAX_LOCAL },
        ),
        required(
            "peers",
            "Routers in the realm that the daemon may speak with: TCP, port 179, and nothing else.",
            Shape::TextOrTexts { of: Format { example: "\"172.20.0.1\"", ..ADDRESS }, max: MAX_PEERS },
        ),
        optional(
            "allow",
            "Learned prefixes lie in one of these; IPv6 ones in no other realm's. Left out: IPv4 ones are whatever a realm can \
             have (as `0.0.0.0/0` says), and no IPv6 one is learned.",
            Shape::TextOrTexts { of: PREFIX, max: MAX_ALLOW },
        ),
        with_default(
            "max_prefixes",
            "Prefixes that are learned at most; further ones are passed over.",
            integer(1, MAX_PREFIXES),
            "1000",
        ),
        optional(
            "max_alias_addresses",
            "Addresses of `alias4` that learned networks may hold, withdrawn ones included. Left out: of one half of `alias4`, what \
             falls to each realm with `routes_from`.",
            integer(1, MAX_ALIAS_ADDRESSES),
        ),
    ],
    one_of: &[],
    planned: &[],
};
