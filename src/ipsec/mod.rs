//! Every IPsec SA: ESP in tunnel mode (RFC 4303, RFC 4301), without a socket and without IKE.
//!
//! [`Endpoint`] is a state machine. Child SAs come in by [`Endpoint::install`], agreed on elsewhere; ESP packets go in with
//! the [`Path`](crate::net::Path) that they came by, inner packets come out with the tunnel that proved, by its key, to have sent
//! them; packets to the peer are sealed straight into an [`Outbox`](crate::packet::Outbox). The same bytes go into UDP (port
//! 4500, RFC 3948) or behind an IP header (protocol 50): the path's port says which.
//!
//! ```text
//! open    SPI -> SA (table)   replay window (replay)   decrypt (esp)   window moves   padding, inner packet (esp)
//!         selectors (selectors)   ECN (ecn)
//! seal    tunnel -> SA (tunnel, selectors)   next sequence number (sa)   pad, encrypt into the outbox (esp)   wear (lifetime)
//! ```
//!
//! Both are cut in two where the cryptography stands, so that all packets of a batch can be given to it at once (`crypto::batch`):
//! `egress.rs` and `ingress.rs` say how. [`Endpoint::seal`] and [`Endpoint::open`] do the same for one packet by itself.
//!
//! **Who is it?** Incoming SPIs are ours to choose, so one look-up finds the SA, and with it the tunnel. Outgoing ones are the
//! peers' to choose, and any two may choose the same: nothing is ever looked up by them, nor by an address.
//!
//! **Which SA?** A tunnel has a short list: active SAs, the newest first, then those that wait to be heard, the oldest first. A packet takes
//! the first whose selectors cover it (`selectors.rs`), which is the first of all wherever a tunnel has one SA per moment, and
//! costs a few comparisons where it is in the first range of each side. A packet that none covers is dropped with a reason: the peer
//! would drop it in silence.
//!
//! **Make before break.** A new SA opens packets from the moment it is installed. Who began the exchange seals with it at once
//! ([`Outbound::Now`]); who answered waits until the peer has used it ([`Outbound::WhenHeard`]), because before that the peer may
//! not have the keys. The old SA is retired ([`Endpoint::retire`]): it seals nothing any more, and opens what is still on its way until it has lingered
//! long enough. If the old one goes first, the waiting one serves.
//!
//! **When does it end?** Nine tenths of its packets, bytes or sequence numbers into its life an SA asks for a successor
//! ([`Event::RekeyDue`]), and at the end it is gone ([`Event::Expired`]). A sequence number is never used twice: it is the IV
//! too, and without extended numbers an SA ends with packet 2^32 - 1. Time is measured by IKE.
//!
//! **Where is it?** Where IKE said. If the peer is behind a NAT, also at the source of its newest packet that authenticated
//! (`follow_path`, RFC 7296 section 2.23): newest by sequence number, so that a packet that somebody held back moves nothing. Every path
//! through UDP is kept open by a byte every 20 s in which nothing else was sent (RFC 3948 section 4). It need not be known
//! which side the NAT is on, and firewalls are kept open as well.
//!
//! **What is counted against whom?** As everywhere: until a packet has authenticated, against nobody.
//!
//! Everything that a packet costs is in place and without allocation: opening decrypts from the datagram to where the inner packet
//! will walk on, sealing encrypts from there into the outbox. Which MUST of the RFCs is met where stands in `docs/conformance-esp.md`.

pub mod ecn;
mod egress;
pub mod endpoint;
mod esp;
pub mod event;
mod ingress;
mod lent;
mod lifetime;
mod replay;
mod sa;
mod selectors;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod tunnel;

pub use ecn::Dscp;
pub use egress::Departure;
pub use endpoint::{Endpoint, InstallError, Limits};
pub use esp::Overhead;
pub use event::Event;
pub use ingress::{Opener, Receiver, Settled};
pub use lent::{Lent, spi};
pub use lifetime::Lifetime;
pub use replay::{MAX_WINDOW_PACKETS, MIN_WINDOW_PACKETS};
pub use sa::{ChildSa, Outbound};
pub use selectors::MAX_SELECTORS;
pub use status::{SaStatus, TunnelStatus, UseOut};
pub use table::Slot;

pub use tunnel::KEEPALIVE_INTERVAL;
