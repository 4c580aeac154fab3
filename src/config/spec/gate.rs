//! `[gate]`.

use super::port::INTERFACE_NAME;
use super::{Shape, TableSpec, optional, with_default};

/// As many as the gate is attached to.
pub const MAX_INTERFACES: usize = 64;

pub static GATE: TableSpec = TableSpec {
    title: "[gate]",
    doc: "What is shed in overload, before the kernel has worked on it: by a program on the interfaces that tunnels' datagrams come by.",
    keys: &[
        with_default(
            "enabled",
            "Whether there is one. It takes Linux 6.6 and the capabilities CAP_BPF and CAP_NET_ADMIN; without them there is none, \
             and `status` says so.",
            Shape::Flag,
            "true",
        ),
        optional(
            "interfaces",
            "Those that it is on. Left out: all Ethernet interfaces of the machine that are no ports.",
            Shape::Texts { of: INTERFACE_NAME, max: MAX_INTERFACES },
        ),
    ],
    one_of: &[],
    planned: &[],
};
