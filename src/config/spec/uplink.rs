//! `[uplink]`.

use super::port::INTERFACE_NAME;
use super::{Shape, TableSpec, optional, with_default};

/// As many as data is taken from.
pub const MAX_INTERFACES: usize = 4;
pub const DRIVERS: &[&str] = &["sockets", "af_xdp"];

pub static UPLINK: TableSpec = TableSpec {
    title: "[uplink]",
    doc: "How the datagrams of UDP tunnels (WireGuard, ESP in UDP) come and go.",
    keys: &[
        with_default(
            "driver",
            "`sockets`, or `af_xdp` for data, past the kernel's stack: it takes the capabilities CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF and \
             a driver with native XDP. What it cannot carry goes by the sockets, and `status` says how much. Which of the two is faster depends \
             on the load.",
            Shape::Choice(DRIVERS),
            "\"sockets\"",
        ),
        optional(
            "interfaces",
            "Those that tunnels' datagrams come and go by. Required for `af_xdp`.",
            Shape::Texts { of: INTERFACE_NAME, max: MAX_INTERFACES },
        ),
    ],
    one_of: &[],
    planned: &[],
};
