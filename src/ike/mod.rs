//! IKEv2 (RFC 7296).

pub mod auth;
pub mod diagnosis;
pub mod proposal;
