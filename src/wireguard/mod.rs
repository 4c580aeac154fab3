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
//! peers are called only when a packet waits for them and they have been heard before. Initiations leave through one
//! queue, at most [`endpoint::INITIATIONS_PER_TICK`] in 62.5 ms, so that ten thousand tunnels starting at once do not
//! stall the packets of those that run.
//!
//! # The protocol
//!
//! All of the paper (<https://www.wireguard.com/papers/wireguard.pdf>), over aws-lc's X25519 and ChaCha20-Poly1305 and
//! BLAKE2s. Clock and randomness are handed in, so a whole centre runs in virtual time, from a seed. Where to find what:
//!
//! ```text
//! primitives   HASH, MAC, DH, AEAD, XAEAD, KDF      noise       the handshake's cryptography, both sides
//! message      headers, lengths                     mac         mac1, mac2, cookies
//! tai64n       stamps                               index       receiver index -> tunnel
//! session      keys and counters of one session     replay      which counters have been seen
//! inner        what came out: a packet, padding     peer        one peer: sessions, place, the way of a packet
//! handshake    making sessions with one peer        timers      when: calls, expiry, keepalives
//! transport    the way of a packet, in halves       ingress     every datagram that comes in
//! source_limit load, and who causes it              news        which happenings are worth an event
//! endpoint     all peers, ticks, queues
//! ```
//!
//! A packet on its way through takes no lock, asks no clock and allocates nothing. Opening reads the datagram and writes
//! the packet where it is wanted; sealing reads the packet and writes into the outbox. Each touches the index table (opening only),
//! the first lines of its peer and its session.
//!
//! Kept differently than the paper leaves it open, or than the kernel has it:
//!
//! - Packets are never queued for a handshake: they are dropped with `tunnel_down`, so that in = out + drops holds.
//! - Keys are erased when their session ends, at 180 s, or when the peer has been silent for 90 s; nothing waits for
//!   the 540 s after which the paper wants everything gone.
//! - An initiation of ours and one of the peer's that cross do not spoil each other.
//! - The configured keepalive goes out at its interval whether or not there is other traffic.
//! - `configure` refuses a peer with whose public key every secret is zero (RFC 7748 section 6.1).
//!
//! # Handshake stamps and the wall clock
//!
//! An initiation carries a TAI64N stamp and a responder refuses one that is not later than the last it saw of that peer.
//! Ours are the time since 1970 that [`Endpoint::new`] was told, plus the time since, so they grow while the process runs
//! whatever happens to the wall clock. If the machine's clock is set back and ixgate restarted, peers that kept running
//! refuse our initiations until the clock has caught up with the old stamp (theirs to us work): run NTP, and let it step
//! the clock before ixgate starts.

pub mod endpoint;
pub mod event;
mod handshake;
pub mod index;
mod ingress;
mod inner;
mod lent;
mod mac;
mod message;
mod news;
mod noise;
mod peer;
mod primitives;
mod replay;
mod session;
mod source_limit;
mod status;
mod tai64n;
#[cfg(test)]
mod tests;
mod timers;
mod transport;

pub use endpoint::Endpoint;
pub use event::{DownReason, Event, Opened, Refusal, Role};
pub use lent::Lent;
pub use message::DATA_OVERHEAD_BYTES;
pub use peer::PeerConfig;
pub use primitives::Random;
pub use status::{HandshakeCounts, PeerStatus};
pub use transport::{Departure, Opener, PADDING_BYTES, Receiver, Settled, receiver_index, text_bytes};

/// The public key that belongs to a private key. Any 32 bytes are a private key (RFC 7748 clamps on use).
pub fn public_key(private_key: &[u8; 32]) -> [u8; 32] {
    *primitives::KeyPair::new(private_key).public()
}
