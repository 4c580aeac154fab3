//! The appliance as a process: opens what it listens on, starts the worker, answers the operator, drains when told to.
//!
//! ```text
//! main thread (tokio)                                 worker thread
//!   signals: TERM/INT drain, HUP reload                 epoll: UDP socket, waker
//!   API over a Unix socket      -- commands, waker -->    receive a batch -> core -> send
//!   metrics over HTTP           <-- replies ---------     timers when due
//!   the zone over TCP
//!   systemd: ready, watchdog
//!   names asked outside         <-- questions, answers -->
//! links thread (netlink)        -- how interfaces are -->
//! routes thread (netlink)       what routing daemons learn, to the main thread: a new configuration
//! opener thread (privileges)    -- sockets opened later -->
//! ```
//!
//! This room wires and decides nothing. Everything that can fail for outside reasons is opened before anything starts
//! ([`open::Opened`]), so a start either works or says why not. The packet path shares nothing with the rest but the
//! command queue: an operator's question is answered by the worker between two batches.

pub mod appliance;
pub mod dnssec_key;
mod follower;
pub mod gates;
pub mod interfaces;
mod links;
mod names;
pub mod open;
mod porters;
mod routes;
pub mod run;
pub mod socket_file;
mod tls_lines;
pub mod transfer;
pub mod uplinks;
mod upstream;
pub mod worker;

pub use open::{OpenError, Opened, Plan};
pub use run::{Cause, Reloaded};
pub use worker::Core;
