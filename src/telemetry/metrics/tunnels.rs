//! Tunnels of every kind, by realm and peer.

use super::{Declaration, Kind, Unit, by_tunnel};

pub(super) static METRICS: &[Declaration] = &[
    Declaration {
        name: "ixgate_tunnel_up",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when the tunnel has keys (a port: link, address and next hop) and packets can be sent, else 0.",
        read: |s| by_tunnel(s, |t| Some(f64::from(u8::from(t.up)))),
    },
    Declaration {
        name: "ixgate_tunnel_mtu_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Largest inner packet that the tunnel carries: as configured, or less where its outer path carries less.",
        read: |s| by_tunnel(s, |t| Some(f64::from(t.mtu.inner_bytes))),
    },
    Declaration {
        name: "ixgate_tunnel_path_mtu_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Largest outer IP packet known to arrive, as far as the tunnel needs it. Missing while nothing is known.",
        read: |s| by_tunnel(s, |t| t.mtu.outer_bytes.map(f64::from)),
    },
    Declaration {
        name: "ixgate_tunnel_last_handshake_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Time since the last completed handshake. Missing when there was none.",
        read: |s| by_tunnel(s, |t| t.last_handshake.map(|ago| ago.as_secs_f64())),
    },
    Declaration {
        name: "ixgate_tunnel_last_data_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Time since data last came out of the tunnel; keepalives do not count. Missing when none ever did.",
        read: |s| by_tunnel(s, |t| t.last_data_received.map(|ago| ago.as_secs_f64())),
    },
    Declaration {
        name: "ixgate_tunnel_received_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Inner packets received from the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.received.packets as f64)),
    },
    Declaration {
        name: "ixgate_tunnel_received_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of the inner packets received from the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.received.bytes as f64)),
    },
    Declaration {
        name: "ixgate_tunnel_sent_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Inner packets sent to the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.sent.packets as f64)),
    },
    Declaration {
        name: "ixgate_tunnel_sent_bytes_total",
        kind: Kind::Counter,
        unit: Unit::Bytes,
        help: "Bytes of the inner packets sent to the tunnel.",
        read: |s| by_tunnel(s, |t| Some(t.sent.bytes as f64)),
    },
];
