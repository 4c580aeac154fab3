//! The packet inside an ICMP error: whose it was, in canonical terms.
//!
//! A host or router of realm V reports about a packet that reached it, so it quotes that packet in V's terms: its
//! source as V sees it, its destination V-native.

use crate::nat::Flow;
use crate::nat::napt::Napt;
use crate::net::mapping::{Located, Mapping};
use crate::packet::Meta;
use crate::wire::headers::parse_quoted;

use super::napt;

/// Sender and receiver of the packet that an ICMP error is about.
pub(super) struct Quoted {
    pub sender: Located,
    pub receiver: Located,
    /// The port that the sender has on its own wires; 0: the quoted one.
    pub sender_port: u16,
    /// With the ports that both sides have on their own wires.
    pub flow: Flow,
}

/// `None` unless the quote is readable, was sent to a host of the realm that reports, and the error goes to its sender.
pub(super) fn quoted(meta: &Meta, bytes: &[u8], mapping: &Mapping, napt: &Napt) -> Option<Quoted> {
    let headers = parse_quoted(bytes.get(meta.headers.quote())?).ok()?;
    if headers.source != meta.headers.destination {
        return None;
    }
    let (sender, sender_port) = napt::quoted_sender(meta.realm, headers.source, &headers.transport, mapping, napt)?;
    let receiver = mapping.locate_native(meta.realm, headers.destination)?;
    let flow = Flow::of(&headers, sender, receiver)?.from_port(sender_port);
    Some(Quoted { sender, receiver, sender_port, flow })
}
