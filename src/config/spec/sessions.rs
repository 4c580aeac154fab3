//! `[sessions]`.

use super::{TableSpec, integer, with_default};

const DAY_SECS: u64 = 86_400;

/// The least values are what the RFCs ask of a NAT; below them, programs that keep to the RFCs lose their sessions.
pub static SESSIONS: TableSpec = TableSpec {
    title: "[sessions]",
    doc: "How long sessions may be idle before they end.",
    keys: &[
        with_default(
            "tcp_established_secs",
            "TCP connections that are open (RFC 5382: at least 2 hours 4 minutes).",
            integer(7440, 7 * DAY_SECS),
            "7440",
        ),
        with_default(
            "tcp_opening_secs",
            "TCP connections that are not open yet (RFC 7857: 4 minutes, less where floods are a worry).",
            integer(30, DAY_SECS),
            "240",
        ),
        with_default(
            "tcp_transitory_secs",
            "TCP connections that both sides have closed, or one has reset (RFC 5382: at least 4 minutes).",
            integer(240, DAY_SECS),
            "240",
        ),
        with_default(
            "udp_secs",
            "UDP, and protocols without ports (RFC 4787: at least 2 minutes).",
            integer(120, DAY_SECS),
            "300",
        ),
        with_default("icmp_secs", "Ping (RFC 5508: at least 60 seconds).", integer(60, DAY_SECS), "60"),
    ],
    one_of: &[],
    planned: &[],
};
