//! Every WireGuard peer behind one UDP port: handshakes, keys, timers, roaming.
//!
//! [`Endpoint`] is a state machine without sockets. Outer datagrams go in with the [`Path`](crate::net::Path) that they
//! came by; inner packets come out with the tunnel that proved, by its key, to have sent them; whatever has to be sent
//! is written into an [`Outbox`](crate::packet::Outbox). WireGuard has four messages:
//!
//! ```text
//! 1 initiation    148 bytes   who: the initiator's static key, encrypted to ours       found by that key
//! 2 response       92 bytes   receiver index = the sender index of our initiation       found by index
//! 3 cookie reply   64 bytes   "prove that you receive at your address, then try again"  found by index
//! 4 data        32+ n bytes   receiver index = the one that we gave in the handshake     found by index
//! ```
//!
//! **Who is it?** Indices are ours to choose ([`index`]), so data costs one array look-up. An initiation names no index;
//! finding its sender costs a Diffie-Hellman, which is why the checks come in this order: mac1 (made for our public
//! key?), rate limit (else a cookie reply), under load the limit of the source address (`source_limit.rs`), decryption of
//! the static key, look-up, the peer's last handshake (20 ms ago or more), authentication. Only what authenticated is
//! counted against a tunnel.
//!
//! **Where is it?** At the source of the latest message that *authenticated* (`Event::Roamed`); before that at the
//! configured `endpoint`, or nowhere, and then only the peer can begin.
//!
//! **When?** A session serves 180 s and is renewed from 120 s on by the side that initiated it. A peer with a configured
//! `endpoint` is called at once, again every 5 s (plus up to 333 ms, different for each peer) while it does not answer,
//! without end, and renewed before its keys run out even when idle, so the tunnel is there when a packet comes. Other
//! peers are called only when a packet waits for them and they have been heard before. Initiations leave through one queue, at
//! most [`endpoint::INITIATIONS_PER_TICK`] in 62.5 ms, so that ten thousand tunnels starting at once do not stall the
//! packets of those that run.
//!
//! # The seam
//!
//! The protocol itself is boringtun's `Tunn`, and no type of it is visible outside this room, so that a transport of
//! our own (several workers for one peer, sealing in place, state handed to a standby) can replace it. What had to be
//! worked around, all of it in `peer.rs`:
//!
//! - `encapsulate` without a session keeps a copy of the packet. We hold an exact flag `live` and never call it then.
//! - `update_timers` sends initiations whenever it likes. It is given a buffer too short for one: boringtun then changes
//!   nothing and says so, and we queue the peer.
//! - Persistent keepalives would start handshakes towards peers that have no address. They are made here.
//! - After 90 s without an answer boringtun gives up for good ("expired"); configured endpoints are called again.
//! - Counters close to 2^64 would overflow in its replay window; they are refused first, as the protocol demands.
//! - Its clock is inside. `now` decides everything that is ours; see [`virtual_time`] for simulations.
//! - It logs errors for what is normal (a peer that does not answer). `telemetry::log` filters that out; what
//!   matters comes out as [`Event`] and [`PeerStatus`].
//!
//! # Handshake stamps and the wall clock
//!
//! An initiation carries a TAI64N stamp and a responder refuses one that is not later than the last it saw of that peer.
//! boringtun takes the stamp from the system's wall clock when a peer is created, plus monotonic time since. If the
//! machine's clock is set back and ixgate restarted, peers that kept running refuse our initiations until the clock has
//! caught up with the old stamp (theirs to us work): run NTP, and let it step the clock before ixgate starts.

pub mod endpoint;
pub mod event;
pub mod index;
mod ingress;
mod message;
mod news;
mod peer;
mod source_limit;
mod status;
#[cfg(test)]
mod tests;
pub mod virtual_time;

pub use endpoint::Endpoint;
pub use event::{DownReason, Event, Opened, Refusal, Role};
pub use peer::PeerConfig;
pub use status::{HandshakeCounts, PeerStatus};

/// The public key that belongs to a private key. Any 32 bytes are a private key (RFC 7748 clamps on use).
pub fn public_key(private_key: &[u8; 32]) -> [u8; 32] {
    use boringtun::x25519::{PublicKey, StaticSecret};
    PublicKey::from(&StaticSecret::from(*private_key)).to_bytes()
}
