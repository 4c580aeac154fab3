//! Bytes to headers and back, one protocol a file. No state, no clock, no policy.
//!
//! Everything here takes slices whose length it checks itself: nothing panics on any input. [`headers::parse`] is the one
//! entry for a packet that came out of a tunnel; the protocol files hold offsets and emitters.

pub mod arp;
pub mod bfd;
pub mod checksum;
pub mod dccp;
pub mod ethernet;
pub mod fragment;
pub mod headers;
pub mod icmp;
pub mod ike;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod tcp;
pub mod udp;
