//! Control: what an operator tells the appliance, and asks it.
//!
//! The API is HTTP over a Unix socket ([`api`]), spoken by our own command line ([`client`]) and by anything that can
//! speak HTTP: `curl --unix-socket state/ixgate.sock http://ixgate/v1/status`.

pub mod api;
pub mod client;
pub mod http;
