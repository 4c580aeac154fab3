//! What the appliance tells about itself: status for people and programs, metrics, logs.
//!
//! Status and metrics are two renderings of one thing, a [`source::Source`]: the worker's counters beside the names that
//! operators know. Nothing is counted here.

pub mod log;
pub mod metrics;
pub mod quantity;
pub mod source;
pub mod status;
pub mod status_dns;
pub mod status_ipsec;
pub mod status_mtu;
pub mod status_port;
mod status_role;
pub mod status_routes;
pub mod status_text;
mod status_text_dns;
mod status_text_ipsec;
mod status_text_port;
pub mod table;
