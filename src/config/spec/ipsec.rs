//! What may be said about IPsec: our side once, in `[ike]`, and a peer per attachment, in `ipsec = { … }`.

use super::{Format, PATH, Shape, TableSpec, integer, optional, required, with_default};

const IDENTITY: Format = Format {
    doc: "an IKE identity: `fqdn:NAME`, `email:USER@NAME`, `ip:ADDRESS` or `dn:CN=…, O=…`",
    example: "\"fqdn:gw.hospital-b.example\"",
    pattern: Some("^(fqdn|email|ip|dn):.+$"),
};
const LISTEN: Format =
    Format { doc: "an IPv4 or IPv6 address without a port", example: "\"0.0.0.0\"", pattern: Some("^[0-9a-fA-F.:]+$") };
const REMOTE: Format = Format {
    doc: "an IP address, with `:PORT` when it is not 500",
    example: "\"198.51.100.7\"",
    pattern: Some("^.*[0-9a-fA-F:\\]].*$"),
};
const CRL_POLICIES: &[&str] = &["if-present", "require"];
const AUTH: &[&str] = &["psk", "certificate"];
const RSA_PADDINGS: &[&str] = &["pss", "pkcs1"];
const PROFILES: &[&str] = &["modern", "pq", "compat"];
const ENCAPSULATIONS: &[&str] = &["udp", "auto", "esp"];
const SELECTORS: &[&str] = &["view", "any", "pairs"];
const DSCP: &[&str] = &["copy", "clear"];

pub static IKE: TableSpec = TableSpec {
    title: "[ike]",
    doc: "IKEv2 and ESP: our side of every IPsec tunnel. The ports are opened as soon as a realm attaches by IPsec.",
    keys: &[
        with_default("listen", "Our address. An IPv6 one also takes IPv4.", Shape::Text(LISTEN), "\"0.0.0.0\""),
        with_default("port", "The UDP port of IKE (RFC 7296).", integer(1, 65_535), "500"),
        with_default(
            "nat_t_port",
            "The UDP port of IKE and ESP behind NAT (RFC 3948), and of all forced encapsulation.",
            integer(1, 65_535),
            "4500",
        ),
        optional(
            "local_id",
            "Who we say that we are. Required for every peer that has no `local_id` of its own.",
            Shape::Text(IDENTITY),
        ),
        optional(
            "certificate_file",
            "Our certificate in PEM, with the intermediate ones. For peers that want one.",
            Shape::Text(PATH),
        ),
        optional("private_key_file", "The private key of our certificate in PEM, mode 600.", Shape::Text(PATH)),
        with_default(
            "rsa_padding",
            "How an RSA key signs; `pkcs1` for peers that do not know PSS.",
            Shape::Choice(RSA_PADDINGS),
            "\"pss\"",
        ),
        with_default(
            "raw_esp",
            "Also take ESP without UDP (IP protocol 50). It needs CAP_NET_RAW.",
            Shape::Flag,
            "false",
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static PEER: TableSpec = TableSpec {
    title: "ipsec",
    doc: "An IPsec peer. It is known by the identity that it proves, never by its address.",
    keys: &[
        required(
            "remote_id",
            "Who the peer proves to be, exactly. Once in the whole file for each of our identities.",
            Shape::Text(IDENTITY),
        ),
        optional(
            "remote",
            "Where the peer listens. Needed to call it; when it is left out, the peer calls.",
            Shape::Text(REMOTE),
        ),
        with_default(
            "remote_nat_t_port",
            "The peer's UDP port for IKE and ESP in UDP, where it is not the usual one.",
            integer(1, 65_535),
            "4500",
        ),
        optional("local_id", "Who we are for this peer. Default: `local_id` of [ike].", Shape::Text(IDENTITY)),
        optional("psk_file", "A file with the pre-shared key, mode 600.", Shape::Text(PATH)),
        optional(
            "ca_file",
            "Certificates, in PEM, of the CAs that the peer's may be from; or the peer's own, which then has to be that one.",
            Shape::Text(PATH),
        ),
        optional("crl_file", "Lists of revoked certificates, in PEM, of the CAs in `ca_file`.", Shape::Text(PATH)),
        with_default(
            "crl",
            "Whether a certificate that no valid list covers is believed (`if-present`) or not (`require`).",
            Shape::Choice(CRL_POLICIES),
            "\"if-present\"",
        ),
        optional(
            "local_auth",
            "How we prove who we are, where it is not how the peer does. Default: as `remote_auth`.",
            Shape::Choice(AUTH),
        ),
        optional(
            "remote_auth",
            "How the peer proves who it is. Default: by what is there, `psk_file` or `ca_file`.",
            Shape::Choice(AUTH),
        ),
        optional(
            "ppk_id",
            "The name of a post-quantum pre-shared key (RFC 8784), the same on both sides.",
            Shape::Text(Format { doc: "any text", example: "\"ppk-2026\"", pattern: None }),
        ),
        optional("ppk_file", "A file with the post-quantum pre-shared key, mode 600.", Shape::Text(PATH)),
        with_default("ppk_required", "Refuse a peer that does not use the PPK.", Shape::Flag, "false"),
        with_default("profile", "Which algorithms are offered and accepted.", Shape::Choice(PROFILES), "\"modern\""),
        optional("initiate", "Whether we call. Default: true when `remote` is set.", Shape::Flag),
        with_default(
            "encapsulation",
            "ESP in UDP always (`udp`), only when there is a NAT (`auto`), or never (`esp`). Without UDP it needs \
             `raw_esp`.",
            Shape::Choice(ENCAPSULATIONS),
            "\"udp\"",
        ),
        with_default(
            "selectors",
            "Which traffic selectors we offer: the realm's view (`view`), everything (`any`), or the view with one pair \
             per child SA (`pairs`). What passes is decided by the grants either way.",
            Shape::Choice(SELECTORS),
            "\"view\"",
        ),
        with_default("ike_lifetime_secs", "Age at which the IKE SA gets new keys.", integer(60, 604_800), "14400"),
        with_default("child_lifetime_secs", "Age at which a child SA gets new keys.", integer(10, 86_400), "3600"),
        with_default(
            "child_lifetime_bytes",
            "Bytes after which a child SA gets new keys.",
            integer(1_000_000, 1_000_000_000_000_000),
            "1000000000000",
        ),
        with_default(
            "child_lifetime_packets",
            "Packets after which a child SA gets new keys.",
            integer(1_000, 1_000_000_000_000),
            "1000000000",
        ),
        with_default(
            "replay_window_packets",
            "How far behind the newest packet an older one may come (RFC 4303 section 3.4.3).",
            integer(64, 8192),
            "1024",
        ),
        with_default(
            "liveness_secs",
            "Silence after which the peer is asked whether it is there.",
            integer(5, 3600),
            "30",
        ),
        with_default(
            "dscp",
            "Whether the outer header shows the inner packet's traffic class (`copy`) or nothing (`clear`).",
            Shape::Choice(DSCP),
            "\"copy\"",
        ),
    ],
    one_of: &[],
    planned: &[],
};
