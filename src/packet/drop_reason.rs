//! Every reason for which a packet can end without being forwarded or answered.
//!
//! One enum; counters, metrics, `status` and the documentation fall out of it. Each reason says in one sentence what
//! happened, whose side it is on, and what to do. A packet has at most one reason: the first that applies.

/// Where the cause is, so that an operator knows whom to call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// This appliance or its configuration.
    Ours,
    /// The network that sent the packet.
    SenderNetwork,
    /// The network that was to receive it.
    ReceiverNetwork,
    /// The path between a network's gateway and us.
    Carrier,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::SenderNetwork => "sender's network",
            Side::ReceiverNetwork => "receiver's network",
            Side::Carrier => "carrier",
        }
    }
}

/// Declares the enum and the table of words in one place, so that neither can lack an entry.
macro_rules! drop_reasons {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal, $side:ident, $what:literal, $remedy:literal; )+) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $( #[doc = $what] $variant, )+ }

        impl DropReason {
            pub const ALL: &'static [DropReason] = &[ $( DropReason::$variant, )+ ];

            /// The name in metrics and JSON, in snake case.
            pub fn name(self) -> &'static str {
                match self { $( DropReason::$variant => $name, )+ }
            }

            /// What happened, one sentence.
            pub fn what(self) -> &'static str {
                match self { $( DropReason::$variant => $what, )+ }
            }

            /// Whose side the cause is on.
            pub fn side(self) -> Side {
                match self { $( DropReason::$variant => Side::$side, )+ }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $( DropReason::$variant => $remedy, )+ }
            }
        }
    };
}

drop_reasons! {
    // Outer datagrams: before a tunnel is known, or while it is opened.
    OuterMalformed = "outer_malformed", Carrier,
        "The datagram is no message of the protocol (WireGuard, IKE, ESP) that its port speaks.",
        "Look for port scans or another program sending to this port; harmless in small numbers.";
    HandshakeForeignKey = "handshake_foreign_key", Carrier,
        "The handshake was made for another public key than ours.",
        "Give the carrier the public key that `ixgate keygen wireguard --public FILE` prints.";
    HandshakeUnknownPeer = "handshake_unknown_peer", Carrier,
        "The handshake came from a public key that no realm is attached with.",
        "Compare the peer's public key with `public_key` in its [[realm.attach]].";
    HandshakeUnderLoad = "handshake_under_load", Carrier,
        "Too many handshakes at once; the sender was asked to prove its address with a cookie.",
        "Nothing if it passes; otherwise somebody floods the WireGuard port.";
    HandshakeInvalid = "handshake_invalid", Carrier,
        "The handshake could not be authenticated, was replayed, or answers none of ours.",
        "Check the preshared key on both sides, and the clock of the peer.";
    IkeQueueFull = "ike_queue_full", Carrier,
        "More IKE messages came at once than can wait for their turn; who sent this one will send it again.",
        "Nothing if it passes; otherwise somebody floods the IKE ports.";
    DataUnknownSession = "data_unknown_session", Carrier,
        "The data message names a session (for IPsec: an SPI) that does not exist (any more).",
        "Normal for a few seconds after a restart; WireGuard peers then make new keys by themselves, IPsec peers need liveness checks (DPD) on.";
    DataNotAuthentic = "data_not_authentic", Carrier,
        "The data message failed authentication.",
        "Damaged or forged on the way; look at the carrier's path.";
    DataReplayed = "data_replayed", Carrier,
        "The data message was seen before or is older than the replay window.",
        "The path duplicates or reorders heavily; look at the carrier's path, or widen `replay_window_packets` of an IPsec peer.";
    EspTrailerInvalid = "esp_trailer_invalid", SenderNetwork,
        "The ESP packet is authentic, but its padding is wrong or it is not in tunnel mode.",
        "Set the peer's gateway to tunnel mode; if it is, its ESP implementation is broken.";
    InboundNotInSelectors = "inbound_not_in_selectors", SenderNetwork,
        "The packet's addresses, protocol or ports are outside the traffic selectors of the child SA that it came by.",
        "Compare the peer's policy with the selectors that `ixgate status REALM` shows; its gateway sends what was not agreed.";
    CongestionUntold = "congestion_untold", Carrier,
        "A router marked congestion on the tunnel packet, and the packet inside cannot be marked: RFC 6040 drops it instead.",
        "Normal in small numbers under congestion; if much, look at the capacity of the carrier's path.";

    // Frames of plain ports.
    FrameMalformed = "frame_malformed", Carrier,
        "The frame is cut short, comes from a group address, or its packet, ARP or neighbour discovery contradicts itself.",
        "Look for a broken device on the link; harmless in small numbers.";
    FrameNoPort = "frame_no_port", Carrier,
        "No realm is attached by the VLAN that the frame came with.",
        "Compare `vlan` and `service_vlan` of the realm's `port` with what the carrier hands over.";
    FrameNotForUs = "frame_not_for_us", Carrier,
        "The frame is for another station: its destination is neither our hardware address nor a group that we are in.",
        "Normal in small numbers, while a switch learns and where others share the link.";
    FrameNotIp = "frame_not_ip", Carrier,
        "The frame carries neither IP nor ARP.",
        "Normal in small numbers: switches speak LLDP and spanning tree on their ports.";
    PortOverLimit = "port_over_limit", Carrier,
        "More neighbour messages (ARP, neighbour discovery) or pings came in a second than one port may have.",
        "Look for a flood or a loop on the link; the rest of the appliance does not suffer from it.";
    PortDown = "port_down", Ours,
        "The port has no link, or none of its own addresses is in use.",
        "See `ixgate status REALM`: is the cable in, and does somebody else have the port's address?";
    NoNextHop = "no_next_hop", ReceiverNetwork,
        "No gateway or route of the port leads to the destination, or none of them is alive.",
        "See `ixgate status REALM` for its next hops; else give the port a `gateway` of that IP version, or `routes`.";
    NeighbourUnresolved = "neighbour_unresolved", ReceiverNetwork,
        "Nobody on the port's link answers for the next hop's address.",
        "See that the host is there; if many are asked for that are not, somebody scans that network.";
    NeighbourQueueFull = "neighbour_queue_full", ReceiverNetwork,
        "The next hop is being asked for, and no more packets can wait for its answer.",
        "Normal for the first packets to a host; else see `neighbour_unresolved`.";

    // The inner packet, as it came out of the tunnel.
    InnerMalformed = "inner_malformed", SenderNetwork,
        "The packet inside the tunnel is no valid IPv4 or IPv6 packet.",
        "Look for a broken host or gateway in the sender's network.";
    InnerTooLong = "inner_too_long", SenderNetwork,
        "The packet inside the tunnel is longer than this appliance handles.",
        "Lower the MTU on the sender's tunnel interface to at most 1,920 bytes.";
    SourceNotInRealm = "source_not_in_realm", SenderNetwork,
        "The source address is outside the networks of the realm that sent it.",
        "Add the network to the realm's `networks`, or stop the spoofing host.";
    SourceHasNoAlias = "source_has_no_alias", Ours,
        "The source has no address by which the receiving realm could answer: its network publishes single hosts only, or is an IPv6 network without an IPv4 alias.",
        "Declare the host as a [[host]], or give its network an alias.";
    NaptPortNotServed = "napt_port_not_served", SenderNetwork,
        "The sender's realm is shown by a pool (`show_as`), and the packet has no port by which its host could be told from others.",
        "Only TCP, UDP and ping pass a pool, and not from port or identifier 0; give the host an alias of its own.";
    NaptNoBinding = "napt_no_binding", SenderNetwork,
        "The destination is a port of a realm's pool that leads to no host at present.",
        "Normal in small numbers, after sessions have timed out; else compare with the `forwards` of that realm.";
    DestinationUnknown = "destination_unknown", SenderNetwork,
        "The destination is no address that this realm can see anything under.",
        "Resolve the name again through the IX, or look the alias up with `ixgate plan`.";
    DestinationNotUnicast = "destination_not_unicast", SenderNetwork,
        "Multicast and broadcast do not cross the interconnection centre.",
        "Nothing; keep such traffic out of the tunnel if it is much.";
    NotTranslatable = "not_translatable", SenderNetwork,
        "The packet has no counterpart in the receiver's IP version: ICMP of a kind that the other has not, or contents that contradict the headers.",
        "Normal in small numbers, as RFC 7915 has some ICMP dropped; otherwise look for a host that sends UDP without checksums and with wrong lengths.";
    OptionNotServed = "option_not_served", SenderNetwork,
        "The packet asks for a route of its own or to record it (IPv4 options, IPv6 routing header), or has too many headers.",
        "Source routing is refused (RFC 5095, RFC 7126): it would reach past the grants. Stop sending it.";

    // Fragments, which are put together before anything else is decided about them.
    FragmentInvalid = "fragment_invalid", SenderNetwork,
        "The fragment is empty, of a length that no other can follow, past 65,535 bytes, or does not fit the others' congestion marks.",
        "Look for a broken host or gateway in the sender's network.";
    FragmentTooSmall = "fragment_too_small", SenderNetwork,
        "The fragment is so small that it hides ports or flags from packet filters (RFC 1858, RFC 7112).",
        "No host makes such fragments by itself; look for an attack, or a path with an absurd MTU.";
    FragmentDuplicate = "fragment_duplicate", SenderNetwork,
        "The same fragment had come before; it was not needed again.",
        "Normal in small numbers where a network duplicates packets.";
    FragmentOverlap = "fragment_overlap", SenderNetwork,
        "Fragments of one datagram overlap; all of it is dropped (RFC 5722).",
        "Look for an attack, or a host that uses identifications again within seconds.";
    TooManyFragments = "too_many_fragments", SenderNetwork,
        "The datagram comes in more fragments than one may have.",
        "Look for a path with an absurd MTU in the sender's network, or raise `limits.reassembly_fragments`.";
    FragmentTimeout = "fragment_timeout", SenderNetwork,
        "Other fragments of the datagram did not come in time (IPv4: 30 seconds, IPv6: 60).",
        "Fragments are lost on the sender's path; lower the MTU or the message size at the sender, so that it need not fragment.";
    ReassemblyQuotaExceeded = "reassembly_quota_exceeded", SenderNetwork,
        "The sending realm has as many unfinished datagrams as it may; its oldest made room.",
        "Look for a flood of fragments in the sender's network, or raise `limits.reassembly_bytes_per_realm`.";
    ReassemblyFull = "reassembly_full", Ours,
        "The memory for unfinished datagrams is used up by all realms together.",
        "Raise `limits.reassembly_bytes`, or find the realms that send so many fragments with `ixgate status`.";

    // Policy.
    NotGranted = "not_granted", Ours,
        "No grant lets the source realm open this.",
        "If it was agreed, add a [[grant]]; else nothing.";
    NoSession = "no_session", SenderNetwork,
        "The packet belongs to no session and can begin none: an ICMP error, a TCP reset, an answer to no SYN, or TCP out of the middle of a connection through a pool.",
        "Normal in small numbers, after sessions have timed out or a restart.";
    ServiceNotOffered = "service_not_offered", SenderNetwork,
        "The IX's own address does not offer this port.",
        "The IX answers DNS (UDP and TCP 53) and ping on its service addresses.";
    SessionTableFull = "session_table_full", Ours,
        "The session table is full.",
        "Raise `limits.sessions`, or find the realm that opens so many with `ixgate status`.";
    SessionQuotaExceeded = "session_quota_exceeded", SenderNetwork,
        "The sending realm has as many sessions open as it may.",
        "Look for a scan in the sender's network, or raise `limits.sessions_per_realm`.";

    NaptFiltered = "napt_filtered", SenderNetwork,
        "The destination is a port of a realm's pool, and the host behind it has not sent to where this comes from.",
        "Normal in small numbers; if peers must reach each other so, see `filtering` under the realm's `show_as`.";
    NaptExhausted = "napt_exhausted", Ours,
        "The sending host uses all ports of its block, or its realm's pool has no block left; the sender was told.",
        "Look for a scan by that host; else raise `block_ports` or widen the pool in the realm's `show_as`.";
    NaptTableFull = "napt_table_full", Ours,
        "The table of NAPT bindings is full; the sender was told.",
        "Raise `limits.napt_bindings`, or find the realm that opens so many with `ixgate status`.";

    // On the way out.
    HopLimitExceeded = "hop_limit_exceeded", SenderNetwork,
        "The packet's hop limit ran out here.",
        "Normal for traceroute; otherwise look for a routing loop between the network and the IX.";
    PacketTooBig = "packet_too_big", SenderNetwork,
        "The packet is larger than the receiving tunnel carries; the sender was told the size that fits.",
        "Normal once per path; if it persists, the sender's network filters ICMP.";
    DaemonNotBgp = "daemon_not_bgp", Ours,
        "A routing daemon sent something else into its realm than BGP (TCP port 179), or from or to another address than agreed.",
        "Normal in small numbers: kernels look for routers on every device. Else compare `local` and `peers` of the realm's `routes_from` with the daemon's configuration.";
    NoTunnel = "no_tunnel", Ours,
        "The destination realm is planned but has no attachment.",
        "Add a [[realm.attach]] to it.";
    TunnelDown = "tunnel_down", ReceiverNetwork,
        "The tunnel of the destination realm has no session (for IPsec: no child SA).",
        "See `ixgate status REALM`: has the peer ever answered, and where from?";
    OutboundNotInSelectors = "outbound_not_in_selectors", ReceiverNetwork,
        "No child SA of the receiving tunnel has traffic selectors for this packet.",
        "The peer agreed to less than it was offered; see `ixgate status REALM`, and have it accept the missing selectors.";
    TunnelHasNoEndpoint = "tunnel_has_no_endpoint", ReceiverNetwork,
        "The destination's gateway has not called yet, and no `endpoint` is configured to call it at.",
        "Have the carrier bring the tunnel up, or configure its `endpoint`.";
    HostQueueFull = "host_queue_full", Ours,
        "The IX's own host stack had no room for the packet.",
        "Somebody asks names faster than they can be answered; see `ixgate status`.";
    EgressQueueFull = "egress_queue_full", Ours,
        "The kernel took no more datagrams.",
        "The uplink is slower than the traffic; look at its capacity.";
}

impl DropReason {
    pub const COUNT: usize = DropReason::ALL.len();

    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_whole_sentences() {
        let mut names = HashSet::new();
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(names.insert(reason.name()), "{} twice", reason.name());
            assert!(reason.name().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            assert!(reason.what().ends_with('.') && reason.remedy().len() > 5, "{}", reason.name());
        }
    }
}
