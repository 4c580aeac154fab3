//! Plain ports: what may be said of an interface, and of a realm's attachment by a VLAN of it or by a TUN device.

use super::{ADDRESS, Format, KeySpec, PREFIX, Shape, TableSpec, integer, optional, required, with_default};
use crate::net::link::{MAX_ADDRESSES, MAX_GATEWAYS, MAX_INTERFACES, MAX_ROUTES};

/// Routers that one port has to do with; each has a place of its own among its neighbours.
pub const MAX_NEXT_HOPS: usize = 256;

pub const DRIVERS: &[&str] = &["auto", "af_packet", "af_xdp"];
pub const BFD_MODES: &[&str] = &["active", "passive"];

pub(super) const INTERFACE_NAME: Format = Format {
    doc: "an interface of this machine as `ip link` shows it: at most 15 bytes, without spaces, slashes and colons",
    example: "\"eth1\"",
    pattern: Some("^[^/:%\\s]{1,15}$"),
};
const DEVICE_NAME: Format = Format { example: "\"ix0\"", ..INTERFACE_NAME };
const OWN_ADDRESS: Format = Format {
    doc: "an IPv4 or IPv6 address with the prefix length of the link",
    example: "\"172.20.0.2/30\"",
    pattern: Some("^[0-9a-fA-F.:]+/[0-9]+$"),
};
const NEXT_HOP: Format = Format { example: "\"172.20.0.1\"", ..ADDRESS };

pub const INTERFACES: KeySpec = optional(
    "interface",
    "An Ethernet interface with more to say than its name. One without ports has no use.",
    Shape::Tables { of: &INTERFACE, max: MAX_INTERFACES },
);

static INTERFACE: TableSpec = TableSpec {
    title: "[[interface]]",
    doc: "An Ethernet interface that ports are on. It belongs to ixgate alone: the kernel has no address on it.",
    keys: &[
        required("name", "As the kernel calls it.", Shape::Text(INTERFACE_NAME)),
        with_default(
            "driver",
            "By what frames are moved: `af_packet` on every interface, `af_xdp` where kernel and interface have it \
             (less per single packet, more for bulk TCP), else `af_packet`; `auto` takes `af_packet`. `status` shows which \
             it is, and why.",
            Shape::Choice(DRIVERS),
            "\"auto\"",
        ),
    ],
    one_of: &[],
    planned: &[],
};

pub static PORT: TableSpec = TableSpec {
    title: "port",
    doc: "A realm that is handed over as Ethernet frames: an interface, or a VLAN of it.",
    keys: &[
        required("interface", "The Ethernet interface, as the kernel calls it.", Shape::Text(INTERFACE_NAME)),
        optional("vlan", "The VLAN (802.1Q). Left out: untagged frames.", integer(1, 4094)),
        optional(
            "service_vlan",
            "The outer tag (802.1ad, 0x88a8) before that of `vlan`. Alone: frames with this tag only.",
            integer(1, 4094),
        ),
        required(
            "address",
            "Our own on the link, with the link's prefix length: one, or one for each prefix. The kernel must not have \
             them.",
            Shape::TextOrTexts { of: OWN_ADDRESS, max: MAX_ADDRESSES },
        ),
        optional(
            "gateway",
            "The carrier's routers on the link, the preferred one of each IP version first. Left out: the realm's \
             networks are on the link itself.",
            Shape::TextOrTexts { of: NEXT_HOP, max: MAX_GATEWAYS },
        ),
        optional(
            "routes",
            "Parts of the realm that are behind other routers of the link. The same prefix again is a second way, for \
             when the first is dead.",
            Shape::Tables { of: &ROUTE, max: MAX_ROUTES },
        ),
        with_default(
            "mtu",
            "The largest packet, bytes. IPv6 needs links of 1280 at least (RFC 8200 section 5); longer ones than 1920 \
             (jumbo frames) are not served.",
            integer(1280, 1920),
            "1500",
        ),
        with_default(
            "accept_ra",
            "Whether routers may announce themselves (IPv6 router advertisements). They come behind every `gateway`; \
             addresses are never taken from them.",
            Shape::Flag,
            "false",
        ),
        with_default(
            "proxy",
            "Whether we answer on the link (ARP, neighbour discovery) for every address under which the realm sees \
             others: for carriers that do not route these to us.",
            Shape::Flag,
            "false",
        ),
        with_default(
            "liveness_ms",
            "How often each router is asked whether it is there, milliseconds.",
            integer(100, 60_000),
            "1000",
        ),
        with_default(
            "liveness_multiplier",
            "Unanswered questions after which a router counts as dead.",
            integer(1, 100),
            "3",
        ),
        optional(
            "bfd",
            "Bidirectional forwarding detection with every router in `gateway` and `routes` (RFC 5880). Routers that announce \
             themselves are asked by `liveness_ms`.",
            Shape::Table(&BFD),
        ),
    ],
    one_of: &[],
    planned: &[],
};

static ROUTE: TableSpec = TableSpec {
    title: "a route",
    doc: "A part of the realm that is behind another router of the link.",
    keys: &[
        required("prefix", "The networks behind it, as one prefix.", Shape::Text(PREFIX)),
        required("via", "The router, on the link.", Shape::Text(NEXT_HOP)),
    ],
    one_of: &[],
    planned: &[],
};

static BFD: TableSpec = TableSpec {
    title: "bfd",
    doc: "BFD with every router in `gateway` and `routes`: single hop, asynchronous (RFC 5880, RFC 5881).",
    keys: &[
        with_default(
            "mode",
            "Who speaks first: `active` we do, `passive` the router does. One side at least is active.",
            Shape::Choice(BFD_MODES),
            "\"active\"",
        ),
        with_default(
            "interval_ms",
            "How often we send, and how often the router may send at most, milliseconds.",
            integer(10, 60_000),
            "300",
        ),
        with_default("multiplier", "Intervals of silence after which the router is dead.", integer(1, 255), "3"),
    ],
    one_of: &[],
    planned: &[],
};

pub static TUN: TableSpec = TableSpec {
    title: "tun",
    doc: "A TUN device: the machine's own kernel, or a routing daemon on it, is the realm's router.",
    keys: &[required("name", "The device. It is made, unless it is there.", Shape::Text(DEVICE_NAME))],
    one_of: &[],
    planned: &[],
};
