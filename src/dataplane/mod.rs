//! The walk: every packet's way through the appliance, from outer datagram to outer datagram.
//!
//! [`engine::Engine`] is one worker's whole world, without input or output: bytes and `now` go in, an
//! [`Outbox`](crate::packet::Outbox) of datagrams, events and the next deadline come out. `io/` drives it with sockets,
//! `sim/` with virtual time. The stages and their order stand in [`walk`], and only there.
//!
//! Three kinds of state, one mechanism for each:
//! - [`snapshot::Snapshot`]: what the configuration means. Immutable, swapped whole between batches.
//! - session state (tunnel keys, sessions, the IX's own TCP connections): owned by the engine, shared with nobody.
//! - [`counters::Counters`]: owned by the engine, copied into a [`report::Report`] when asked.

pub mod counters;
pub mod engine;
pub mod event;
pub mod report;
pub mod snapshot;
pub mod walk;

mod arrivals;
mod carriers;
mod classify;
pub mod door;
mod encap;
mod entry;
mod flows;
mod fragment;
mod icmp_report;
mod ingress;
mod local;
mod names;
mod napt;
pub mod parcel;
mod police;
pub mod porter;
mod quoted;
mod route;
mod translate;
mod tunnels;

pub use engine::{Engine, Setup};
pub use event::Event;
pub use parcel::Parcel;
pub use porter::Porter;
pub use report::Report;
pub use snapshot::Snapshot;
pub use tunnels::child_sa;
