//! Names that others answer: a realm's own domains, and domains outside all realms.

use super::{Format, Shape, TableSpec, required};

pub const MAX_DOMAINS_PER_REALM: usize = 256;
pub const MAX_RESOLVERS: usize = 8;
pub const MAX_FORWARDS: usize = 1024;

const DOMAIN: Format = Format {
    doc: "a domain name in lower case, also of a reverse zone",
    example: "\"b.local\"",
    pattern: Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"),
};
const DOMAIN_OR_ALL: Format = Format {
    doc: "a domain name in lower case, or `.` for every name",
    example: "\"example.org\"",
    pattern: Some("^([.]|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*)$"),
};
const RESOLVER: Format = Format {
    doc: "an IP address, with a port if it is not 53",
    example: "\"192.168.1.53\"",
    pattern: Some("^[0-9a-fA-F.:\\[\\]]+$"),
};
const OUTSIDE_RESOLVER: Format = Format {
    doc: "an IP address, with a port if it is not 53; or `tls:NAME@ADDRESS` for DNS over TLS (port 853)",
    example: "\"9.9.9.9\"",
    pattern: Some("^(tls:[a-z0-9.-]+@)?[0-9a-fA-F.:\\[\\]]+$"),
};

pub static REALM: TableSpec = TableSpec {
    title: "dns",
    doc: "Names that the realm's own resolvers answer, for the realm and for those who have a grant towards it.",
    keys: &[
        required(
            "domains",
            "The realm's domains, reverse zones of its own addresses included.",
            Shape::Texts { of: DOMAIN, max: MAX_DOMAINS_PER_REALM },
        ),
        required(
            "resolvers",
            "Its resolvers by their own addresses, the preferred one first.",
            Shape::Texts { of: RESOLVER, max: MAX_RESOLVERS },
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static FORWARD: TableSpec = TableSpec {
    title: "[[dns_forward]]",
    doc: "A domain outside all realms, and who is asked for it. Every realm may ask.",
    keys: &[
        required("domain", "The domain, or `.` for every name that is nobody else's.", Shape::Text(DOMAIN_OR_ALL)),
        required(
            "resolvers",
            "Asked over the appliance's own uplink, the preferred one first.",
            Shape::Texts { of: OUTSIDE_RESOLVER, max: MAX_RESOLVERS },
        ),
    ],
    one_of: &[],
    planned: &[],
};
