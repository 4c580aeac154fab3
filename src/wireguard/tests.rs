//! An [`Endpoint`](super::Endpoint) against boringtun, which is held to be right, and against another of its own kind in
//! virtual time.
//!
//! `world` is the ground that all stand on, `pair` two endpoints and the network between them; then what should work, what
//! must not, what is bounded, what gets lost on the way, what takes minutes, and
//! when the timers look.

mod bounds;
mod expiry;
pub(super) mod hex;
mod hostile;
mod looks;
mod loss;
mod pair;
mod sessions;
mod world;

/// Randomness from a seed.
pub(super) fn random(seed: u64) -> super::Random {
    crate::sim::random::Random(seed).into_source()
}
