//! IKEv2 (RFC 7296): who the other side is, and the keys for ESP.
//!
//! [`Endpoint`] is a state machine without sockets. IKE messages go in with the [`Path`](crate::net::Path) that they came
//! by; answers and requests go into an [`Outbox`](crate::packet::Outbox); keys and selectors of Child SAs come out as
//! [`Event::ChildUp`], which dataplane hands to `ipsec`. Time and randomness are handed in.
//!
//! ```text
//! exchange            messages                         file                       what it settles
//! IKE_SA_INIT         SA KE N, cookies                 exchange/init.rs           algorithms, keys, NAT or not
//! IKE_INTERMEDIATE    KE (ML-KEM)                      exchange/intermediate.rs   further keys (RFC 9242, 9370)
//! IKE_AUTH            ID AUTH CERT SA TS               exchange/auth.rs           who they are, the first Child SA
//! CREATE_CHILD_SA     SA N [KE] TS                     exchange/create_child.rs   more Child SAs, rekeying of either kind
//! IKE_FOLLOWUP_KE     KE (ML-KEM)                      exchange/followup.rs       further keys of a rekey
//! INFORMATIONAL       D, N, nothing                    exchange/informational.rs  delete, liveness, MOBIKE
//! ```
//!
//! # Who owns what
//!
//! - `endpoint.rs` owns the table of IKE SAs by our SPI, the deadlines, the peers, and everything random.
//! - `table.rs` runs something on one IKE SA and carries out what follows for the others.
//! - `ingress.rs` takes datagrams: what needs no IKE SA, what belongs to one, in the order of checks below.
//! - `peers.rs` owns what we want of each peer: whether to call it, when again, which of its IKE SAs count.
//! - `sa.rs` is one IKE SA: its [stage](#stages), keys, window, Child SAs and the requests it still wants to make.
//!   The exchanges are `impl IkeSa` blocks in files of their own. What an exchange needs from outside it finds in
//!   `context.rs`: randomness, peers, events, failures, where to put an IKE SA that it made.
//! - `window.rs` owns message IDs and retransmission, `protect.rs` sealing, opening and RFC 7383 fragments, `keys.rs` every
//!   derivation, `child.rs` Child SAs and narrowing, `collision.rs` the rules for two exchanges that cross.
//!
//! # Stages
//!
//! ```text
//! initiator:  InitSent -> [IntermediateSent ->] AuthSent -> Established -> Rekeyed | Deleting -> (gone)
//! responder:  HalfOpen -> [HalfOpen ...]                 -> Established -> Rekeyed | Deleting -> (gone)
//! ```
//!
//! `Rekeyed`: its Child SAs have moved to the IKE SA that replaced it; it waits to be deleted by the side that must.
//! Each stage ends: `HalfOpen` after 30 s, `Rekeyed` and `Deleting` after the retransmissions of one request.
//! One request of ours is outstanding at a time, and we accept one of theirs at a time (window size 1, section 2.3).
//!
//! # What a stranger can do
//!
//! Checks come in this order, cheapest first, and every refusal is silent unless a notify is named:
//!
//! 1. header: 28 bytes, the length it claims, major version 2 (a higher one: INVALID_MAJOR_VERSION);
//! 2. a request without our SPI must be IKE_SA_INIT with message ID 0 and not too long; is it a retransmission? then the
//!    same answer again, some times;
//! 3. half-open SAs: of this source, and in all; beyond a threshold of either COOKIE, which costs us one HMAC and no memory.
//!    The last quarter of the table is for addresses where peers are configured;
//! 4. proposal (NO_PROPOSAL_CHOSEN), group (INVALID_KE_PAYLOAD); only now one Diffie-Hellman;
//! 5. anything with our SPI must be sealed with that SA's keys. Until IKE_AUTH succeeded a wrong message changes nothing;
//!    fragments that wait have one budget with all half-open SAs together;
//! 6. a request that was answered, recorded and sent again: the same answer, to the peer's address always, elsewhere some
//!    times (`dispatch.rs`).
//!
//! A peer is looked up by the identity that it *proved*; its address is only used to answer, and to guess at
//! SA_INIT which profile will probably be wanted. What went wrong is told to the operator ([`Failure`]),
//! to the other side only by the notify that the RFC has for it.
//!
//! # Losing nothing in a rekey
//!
//! The side that begins a rekey of a Child SA seals with the new one as soon as it has the answer (the other side opened
//! for it before it answered), then deletes the old one. The side that answers goes on with the old one until it
//! hears the new one or the old one is deleted ([`Outbound::WhenHeard`]). Deleted ones are opened for another 10 s.

pub mod auth;
mod child;
mod collision;
mod context;
pub mod diagnosis;
mod dispatch;
pub mod endpoint;
pub mod event;
mod exchange;
mod half_open;
mod ingress;
mod keys;
pub mod limits;
mod message;
mod nat;
pub mod peer;
mod peers;
pub mod proposal;
mod protect;
mod reassembly;
mod sa;
pub mod status;
mod table;
#[cfg(test)]
mod tests;
mod timers;
mod window;

pub use auth::{Identity, LocalAuth, Ppk, RemoteAuth};
pub use diagnosis::{Cause, Failure, Recorded};
pub use endpoint::Endpoint;
pub use event::{ChildKeys, ChildUp, DownReason, Event, Outbound, Refusal, Role};
pub use ingress::Claim;
pub use limits::{Limits, Retransmit};
pub use peer::{Encapsulation, Lifetimes, PeerConfig, Ports, SelectorMode, Setup};
pub use proposal::Profile;
pub use status::{ChildStatus, Stage, Status};
