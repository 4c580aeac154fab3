//! Names: the internal zone's signatures and transfers, and what others answer (a realm's own domains, and domains outside).

use super::{Format, PATH, SOCKET, Shape, TableSpec, optional, required, with_default};

pub const MAX_DOMAINS_PER_REALM: usize = 256;
pub const MAX_RESOLVERS: usize = 8;
pub const MAX_FORWARDS: usize = 1024;
pub const MAX_TRANSFER_KEYS: usize = 64;
/// The first is the default.
pub const TSIG_ALGORITHMS: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];

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

const KEY_NAME: Format = Format {
    doc: "a domain name in lower case: what both sides call the key",
    example: "\"axfr-key\"",
    pattern: Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?([.][a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"),
};
const VIEW: Format = Format {
    doc: "the name of a realm, or `canonical`",
    example: "\"canonical\"",
    pattern: Some("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
};

pub static DNS: TableSpec = TableSpec {
    title: "[dns]",
    doc: "The internal zone.",
    keys: &[
        with_default(
            "dnssec",
            "Sign the answers of the internal zone for those who ask for signatures. `ixgate plan` shows the DS.",
            Shape::Flag,
            "false",
        ),
        optional(
            "dnssec_key_file",
            "The key that signs: PKCS #8 in PEM, ECDSA P-256, mode 600. Made at the start if it does not exist. Default: \
             `dnssec.key` in `state_dir`.",
            Shape::Text(PATH),
        ),
        optional("transfer", "Zone transfers (AXFR) to the operators' own name servers.", Shape::Table(&TRANSFER)),
    ],
    one_of: &[],
    planned: &[],
};

pub static TRANSFER: TableSpec = TableSpec {
    title: "[dns.transfer]",
    doc: "Zone transfers (AXFR) to name servers that prove themselves by a shared key (TSIG). Never inside the realms.",
    keys: &[
        required("listen", "TCP address and port of the appliance's own network.", Shape::Text(SOCKET)),
        optional(
            "key",
            "Who may fetch the zone, and as whom; at least one.",
            Shape::Tables { of: &TRANSFER_KEY, max: MAX_TRANSFER_KEYS },
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static TRANSFER_KEY: TableSpec = TableSpec {
    title: "[[dns.transfer.key]]",
    doc: "A key that is shared with one name server, and the view of the zone that it gets.",
    keys: &[
        required("name", "The key's name, the same on both sides.", Shape::Text(KEY_NAME)),
        required(
            "secret_file",
            "A file with the secret in base64 (`ixgate keygen tsig`), mode 600.",
            Shape::Text(PATH),
        ),
        with_default("algorithm", "The same on both sides.", Shape::Choice(&TSIG_ALGORITHMS), "\"hmac-sha256\""),
        required(
            "view",
            "The realm whose view of the zone is sent, or `canonical`: all names with their canonical addresses.",
            Shape::Text(VIEW),
        ),
    ],
    one_of: &[],
    planned: &[],
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
