//! The packet inside an ICMP error: whose it was, in canonical terms.
//!
//! A host or router of realm V reports about a packet that reached it, so it quotes that packet in V's terms: its
//! source as V sees it, its destination V-native.

use crate::nat::Flow;
use crate::net::mapping::{Located, Mapping};
use crate::packet::Meta;
use crate::wire::headers::parse_quoted;
use crate::wire::icmp;

/// Sender and receiver of the packet that an ICMP error is about.
pub(super) struct Quoted {
    pub sender: Located,
    pub receiver: Located,
    pub flow: Flow,
}

/// `None` unless the quote is readable, was sent to a host of the realm that reports, and the error goes to its sender.
pub(super) fn quoted(meta: &Meta, bytes: &[u8], mapping: &Mapping) -> Option<Quoted> {
    let quote_at = meta.headers.transport_offset + icmp::HEADER_BYTES;
    let headers = parse_quoted(bytes.get(quote_at..meta.headers.total_bytes)?).ok()?;
    if headers.source != meta.headers.destination {
        return None;
    }
    let sender = mapping.locate_seen_by(meta.realm, headers.source)?;
    let receiver = mapping.locate_native(meta.realm, headers.destination)?;
    let flow = Flow::of(&headers, sender, receiver)?;
    Some(Quoted { sender, receiver, flow })
}
