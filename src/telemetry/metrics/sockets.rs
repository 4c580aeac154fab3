//! The sockets that outer datagrams come by.

use super::{Declaration, Kind, Sample, Unit, one};
use crate::telemetry::source::{GateCount, Source, UplinkCounts};

pub(super) static METRICS: &[Declaration] = &[
    Declaration {
        name: "ixgate_socket_offload",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when the kernel joins received datagrams (receive) or cuts runs apart (send), else 0.",
        read: |s| {
            let flag = |direction: &str, on| (vec![("direction", direction.to_owned())], f64::from(u8::from(on)));
            vec![flag("receive", s.socket.receive_offload), flag("send", s.socket.send_offload)]
        },
    },
    Declaration {
        name: "ixgate_socket_receive_buffer_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Size of the receive buffer that the kernel granted.",
        read: |s| one(s.socket.receive_buffer_bytes as f64),
    },
    Declaration {
        name: "ixgate_socket_overflow_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Lost before they were read, as their receive buffer was full: handshakes and IKE (control), or data. What the kernel had joined counts as one.",
        read: |s| {
            let sample = |queue: &str, count: u64| (vec![("queue", queue.to_owned())], count as f64);
            vec![sample("control", s.socket.overflow.control), sample("data", s.socket.overflow.data)]
        },
    },
    Declaration {
        name: "ixgate_socket_lanes",
        kind: Kind::Gauge,
        unit: Unit::Lanes,
        help: "Queues that data is spread over by tunnel: those that have lost something since the start (overflown), and the others.",
        read: |s| {
            let sample = |state: &str, count: usize| (vec![("state", state.to_owned())], count as f64);
            let overflown = s.socket.lanes_overflown;
            vec![sample("overflown", overflown), sample("whole", s.socket.lanes - overflown)]
        },
    },
    Declaration {
        name: "ixgate_porter_threads",
        kind: Kind::Gauge,
        unit: Unit::Threads,
        help: "Threads that receive, open, seal and send for the one that walks.",
        read: |s| one(s.socket.porters.threads as f64),
    },
    Declaration {
        name: "ixgate_porter_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams that porters' threads opened, and those that they left to the first thread: data under keys that are new to them, and what is not authentic.",
        read: |s| {
            let sample = |by: &str, count: u64| (vec![("result", by.to_owned())], count as f64);
            vec![sample("opened", s.socket.porters.opened), sample("left", s.socket.porters.left)]
        },
    },
    Declaration {
        name: "ixgate_gate_interfaces",
        kind: Kind::Gauge,
        unit: Unit::Interfaces,
        help: "Interfaces with the gate that sheds in overload before the network stack has worked, and those that would not take it (refused).",
        read: |s| {
            let sample = |state: &str, names: &Vec<String>| (vec![("state", state.to_owned())], names.len() as f64);
            vec![sample("attached", &s.gate.interfaces), sample("refused", &s.gate.refused)]
        },
    },
    Declaration {
        name: "ixgate_gate_admitted_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams for tunnels that the gate let in: handshakes and IKE (control), or data.",
        read: |s| gate(s, |count| count.admitted),
    },
    Declaration {
        name: "ixgate_gate_shed_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams for tunnels that the gate dropped, as more came than is read: handshakes and IKE (control), or data.",
        read: |s| gate(s, |count| count.shed),
    },
    Declaration {
        name: "ixgate_gate_shed_lanes",
        kind: Kind::Gauge,
        unit: Unit::Lanes,
        help: "Queues of data of which the gate has shed something since the start.",
        read: |s| s.socket.gate.map_or_else(Vec::new, |gate| one(gate.lanes_shed as f64)),
    },
    Declaration {
        name: "ixgate_uplink_interfaces",
        kind: Kind::Gauge,
        unit: Unit::Interfaces,
        help: "Interfaces that AF_XDP is asked for: those whose tunnels' data goes by it (af_xdp), and those where the sockets carry all (sockets).",
        read: |s| {
            let sample = |driver: &str, count: usize| (vec![("driver", driver.to_owned())], count as f64);
            let open = s.uplinks.iter().filter(|uplink| uplink.driver.is_ok()).count();
            vec![sample("af_xdp", open), sample("sockets", s.uplinks.len() - open)]
        },
    },
    Declaration {
        name: "ixgate_uplink_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams of tunnels' data that came (receive) or went (send) by AF_XDP.",
        read: |s| uplink(s, "direction", |counts| [("receive", counts.received), ("send", counts.sent)]),
    },
    Declaration {
        name: "ixgate_uplink_fallback_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams of tunnels' data that went by the sockets though AF_XDP is asked for: no way or neighbour was known (no_way), or longer than the way's MTU (too_long).",
        read: |s| uplink(s, "cause", |counts| [("no_way", counts.no_way), ("too_long", counts.too_long)]),
    },
    Declaration {
        name: "ixgate_uplink_lost_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams lost at AF_XDP: the receive ring was full (receive_ring), the card took no more (transmit_ring), or no whole datagram came (damaged).",
        read: |s| {
            let of = |counts: UplinkCounts| {
                [("receive_ring", counts.lost), ("transmit_ring", counts.congested), ("damaged", counts.damaged)]
            };
            uplink(s, "cause", of)
        },
    },
    Declaration {
        name: "ixgate_uplink_ways",
        kind: Kind::Gauge,
        unit: Unit::Ways,
        help: "Remotes whose way by AF_XDP is followed (used), and how many may be (limit): a new one beyond takes the place of one that nobody uses, or goes by the sockets.",
        read: |s| {
            let sample = |of: &str, count: usize| (vec![("of", of.to_owned())], count as f64);
            let ways = s.socket.uplink.into_iter();
            ways.flat_map(|counts| [sample("used", counts.ways), sample("limit", counts.ways_limit)]).collect()
        },
    },
    Declaration {
        name: "ixgate_socket_truncated_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "Messages from the kernel that were not usable: too long, or without their addresses.",
        read: |s| one(s.socket.truncated_messages as f64),
    },
    Declaration {
        name: "ixgate_socket_unsent_datagrams_total",
        kind: Kind::Counter,
        unit: Unit::Datagrams,
        help: "Datagrams that could not be sent: the uplink took no more (congested), or had no way (refused).",
        read: |s| {
            let sample = |cause: &str, count: u64| (vec![("cause", cause.to_owned())], count as f64);
            vec![sample("congested", s.socket.congested_datagrams), sample("refused", s.socket.refused_datagrams)]
        },
    },
];

fn uplink<const N: usize>(
    source: &Source,
    label: &'static str,
    of: fn(UplinkCounts) -> [(&'static str, u64); N],
) -> Vec<Sample> {
    let counts = source.socket.uplink.into_iter().flat_map(of);
    counts.map(|(name, count)| (vec![(label, name.to_owned())], count as f64)).collect()
}

fn gate(source: &Source, of: fn(GateCount) -> u64) -> Vec<Sample> {
    let sample = |queue: &str, count: GateCount| (vec![("queue", queue.to_owned())], of(count) as f64);
    let gate = source.socket.gate.iter();
    gate.flat_map(|gate| [sample("control", gate.control), sample("data", gate.data)]).collect()
}
