//! Attachments, plain ports and who is on their links.

use super::super::source::Source;
use super::{Declaration, Kind, Sample, Unit, by_tunnel, labelled};
use crate::dataplane::report::{PortStatus, Share};

pub(super) static METRICS: &[Declaration] = &[
    Declaration {
        name: "ixgate_attachment_up",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when packets can leave by the attachment of the realm, else 0.",
        read: |s| by_tunnel(s, |t| Some(f64::from(u8::from(t.up)))),
    },
    Declaration {
        name: "ixgate_attachment_carries",
        kind: Kind::Gauge,
        unit: Unit::Flag,
        help: "1 when the attachment carries its realm's traffic now, alone or with others, else 0.",
        read: |s| by_tunnel(s, |t| Some(f64::from(u8::from(t.share != Share::None)))),
    },
    Declaration {
        name: "ixgate_port_alive_next_hops",
        kind: Kind::Gauge,
        unit: Unit::NextHops,
        help: "Next hops of the port that answer.",
        read: |s| by_port(s, |port| port.next_hops.iter().filter(|hop| hop.is_alive).count() as f64),
    },
    Declaration {
        name: "ixgate_port_switches_total",
        kind: Kind::Counter,
        unit: Unit::Switches,
        help: "How often a next hop of the port came or went, since the port was configured.",
        read: |s| by_port(s, |port| port.counts.switches as f64),
    },
    Declaration {
        name: "ixgate_port_known_neighbours",
        kind: Kind::Gauge,
        unit: Unit::Neighbours,
        help: "Neighbours that the port knows, or looks for.",
        read: |s| by_port(s, |port| port.neighbours as f64),
    },
    Declaration {
        name: "ixgate_port_limit_neighbours",
        kind: Kind::Gauge,
        unit: Unit::Neighbours,
        help: "Neighbours that the port may know.",
        read: |s| by_port(s, |port| port.neighbours_max as f64),
    },
    Declaration {
        name: "ixgate_port_waiting_packets",
        kind: Kind::Gauge,
        unit: Unit::Packets,
        help: "Packets that wait until their neighbour on the port's link is found.",
        read: |s| by_port(s, |port| port.waiting as f64),
    },
    Declaration {
        name: "ixgate_port_unresolved_packets_total",
        kind: Kind::Counter,
        unit: Unit::Packets,
        help: "Packets dropped because their neighbour on the port's link was not found.",
        read: |s| by_port(s, |port| port.counts.unresolved as f64),
    },
    Declaration {
        name: "ixgate_port_neighbour_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "ARP and neighbour discovery messages that came by the port: looked at, or ignored because more came than one port may \
               have.",
        read: neighbour_messages,
    },
    Declaration {
        name: "ixgate_port_echo_messages_total",
        kind: Kind::Counter,
        unit: Unit::Messages,
        help: "Pings of the port's own addresses that were answered.",
        read: |s| by_port(s, |port| port.counts.echoes as f64),
    },
    Declaration {
        name: "ixgate_port_conflict_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "How often somebody else on the link was seen to have an address of the port.",
        read: |s| by_port(s, |port| port.counts.conflicts as f64),
    },
    Declaration {
        name: "ixgate_port_mac_change_events_total",
        kind: Kind::Counter,
        unit: Unit::Events,
        help: "How often a neighbour on the port's link answered from another hardware address than before.",
        read: |s| by_port(s, |port| port.counts.mac_changes as f64),
    },
];

fn by_port(source: &Source, value: impl Fn(&PortStatus) -> f64) -> Vec<Sample> {
    by_tunnel(source, |tunnel| tunnel.port.as_ref().map(|port| value(port)))
}

/// Of all that came, some were over the limit.
fn neighbour_messages(source: &Source) -> Vec<Sample> {
    let over = |port: &PortStatus| port.counts.neighbour_messages_over_limit;
    let handled = by_port(source, |port| port.counts.neighbour_messages.saturating_sub(over(port)) as f64);
    let ignored = by_port(source, |port| over(port) as f64);
    labelled(handled, "outcome", "handled").chain(labelled(ignored, "outcome", "ignored")).collect()
}
