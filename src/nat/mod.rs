//! Translation: what turns a packet of one realm into one of another, and the sessions that let replies return.
//!
//! ```text
//!   V-native source       -> canonical ->  T's alias of V      computed from the mapping, never remembered
//!   V's alias of T        -> canonical ->  T-native destination
//! ```
//!
//! The rewriting itself ([`rewrite`]) is stateless: both addresses follow from the mapping alone. [`sessions`] holds the
//! state that decides whether a packet may pass, never where it goes. Where the two realms speak different IP versions,
//! [`family`] turns one into the other. Only a realm that shows itself by a few addresses needs more to be remembered:
//! [`napt`]. Before all that, [`reassembly`] makes datagrams of fragments; after it, [`fragmentation`] makes fragments of
//! datagrams.

pub mod family;
pub mod flow;
pub mod fragmentation;
pub mod napt;
pub mod reassembly;
pub mod rewrite;
pub mod sessions;

pub use flow::{Asker, Flow, Side};
pub use reassembly::Reassembler;
pub use sessions::{Held, Limits, Pass, Sessions, Ticket, Timers, Way};
