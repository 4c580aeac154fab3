//! The walk: every packet's way through the appliance.

pub mod report;
