//! From a validated configuration to what the packet path runs on, and the memory of what was given to whom.
//!
//! ```text
//!   Config ──allocate──> Allocations ──compile──> Mapping, Policy, Names
//!               ▲             │
//!               └── Store <───┘ commit (one transaction)
//! ```
//!
//! Everything but [`store`] is pure. `allocate` is the only place where a realm number or an alias is chosen, and
//! [`plan`] runs the same function, so that it cannot promise what `run` would not do. [`prepare`](mod@prepare) does all of
//! it in the right order.
//!
//! And what an operator asks the running appliance: HTTP over a Unix socket ([`api`]), spoken by our own command line
//! ([`client`]) and by anything else: `curl --unix-socket state/ixgate.sock http://ixgate/v1/status`.

pub mod allocate;
pub mod allocations;
pub mod api;
pub mod change;
pub mod client;
pub mod compile;
pub mod http;
pub mod inventory;
pub mod ipsec;
pub mod learned;
pub mod napt;
pub mod overlap;
pub mod plan;
mod plan_ports;
mod plan_reach;
mod plan_text;
pub mod ports;
pub mod prepare;
pub mod release;
mod resolvers;
pub mod snapshot;
pub mod store;
pub mod view;
pub mod zone;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod sample;

pub use allocate::{AllocateError, allocate};
pub use allocations::Allocations;
pub use change::{Change, Changes};
pub use compile::{Compiled, compile_addresses};
pub use plan::Plan;
pub use store::Store;
