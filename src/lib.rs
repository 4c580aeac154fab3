//! ixgate: the appliance in the middle of an interconnection centre.
//!
//! The rooms, in the order in which one may use another (a test, `tests/layering.rs`, holds this):
//!
//! ```text
//! net <- wire <- packet <- cores (wireguard, ike, ipsec, link, nat, dns, host; never each other) <- dataplane
//!                 crypto stands beneath ike and ipsec
//! config knows only net.  control knows config, the cores and the snapshot.  io knows net and packet.
//! telemetry turns reports into status and metrics.  daemon wires and decides nothing.  cli parses, calls, prints.
//! sim stands where io stands.
//! ```

pub mod cli;
pub mod config;
pub mod control;
pub mod crypto;
pub mod daemon;
pub mod dataplane;
pub mod dns;
pub mod host;
pub mod ike;
pub mod io;
pub mod ipsec;
pub mod link;
pub mod nat;
pub mod net;
pub mod packet;
pub mod sim;
pub mod telemetry;
pub mod wire;
pub mod wireguard;
