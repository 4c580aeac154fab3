//! An [`Endpoint`](super::Endpoint) against raw boringtun peers, in memory.
//!
//! `world` is the ground that all stand on; then what should work, what must not, what is bounded, and, in virtual time
//! (feature `sim`), what takes minutes.

mod bounds;
#[cfg(feature = "sim")]
mod expiry;
mod hostile;
mod sessions;
mod world;
