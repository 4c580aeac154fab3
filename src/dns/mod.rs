//! The internal zone: names that every realm can ask for, answered so that each asker gets an address valid *for it*.
//!
//! ```text
//!   realm A asks  pacs.b.ix.example  ->  100.64.2.20    the alias of B's host in A's view
//!   realm B asks  pacs.b.ix.example  ->  192.168.1.20   its own host, by its own address
//!   realm C asks  pacs.b.ix.example  ->  NXDOMAIN + EDE 18 "No grant lets realm c reach this name."
//! ```
//!
//! A host of the other IP version than the asker's has an address for it too: an asker that speaks IPv6 only gets the canonical
//! address of an IPv4 host, one that speaks IPv4 only the alias of an IPv6 host, if it has one. An asker that speaks both
//! gets the host's own version.
//!
//! The names are `HOST.REALM.DOMAIN`, `SERVICE.DOMAIN` and `ns.DOMAIN`; what lies between them (`REALM.DOMAIN`) is an
//! empty non-terminal. There are no zones per realm: one [`Zone`] holds canonical addresses, and the mapping turns them
//! into the asker's when it asks. The asker is known by its tunnel, so it cannot ask in another's name.
//!
//! *No path, no address*: a name is denied unless some grant lets the asker reach its owner. The denial is NXDOMAIN,
//! which every stub resolver understands, with an Extended DNS Error (RFC 8914) for the person who wonders why.
//!
//! Reverse names: `in-addr.arpa` below the aliases in the asker's view and for the asker's own hosts, `ip6.arpa` for
//! canonical addresses. Negative answers there carry this zone's SOA at the enclosing /16 (IPv4) or /48 (IPv6), so
//! that a resolver may cache them; an address of the asker's own network that we have no name for is REFUSED, because
//! the network may have reverse zones of its own. Names outside the zone are forwarded where the configuration says to
//! whom ([`forward`]); all others are REFUSED: this is no recursive resolver.
//!
//! The zone can be signed ([`dnssec`]), and given to the operators' own name servers ([`transfer`]).
//!
//! Bytes are parsed and emitted by hickory-proto (`docs/decisions/0002-dns-over-hickory-proto.md`).

pub mod dnssec;
pub mod forward;
pub mod transfer;

mod cache;
mod key;
mod limit;
mod message;
mod resolve;
mod reverse;
mod rewrite;
mod zone;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use dnssec::{SignatureCounts, SignatureLimits, SigningKey};
pub use forward::{ForwardLimits, Forwarder, RouteSpec, Routes, Tables, Upstream};
pub use message::Transport;
pub use zone::{HostName, ServiceName, Zone, ZoneError, ZoneSpec};
