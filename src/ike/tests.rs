//! Endpoints against each other in virtual time, over a network that loses, doubles and reorders from a seed.
//!
//! `world` is the ground that all stand on; then one file per question.

mod children;
mod conformance;
mod establish;
mod hostile;
mod limits;
mod methods;
mod nat;
mod peers;
mod pfs;
mod rekey;
pub(super) mod world;
