//! Configuration: the TOML file, its validation with positions, and the validated model that everything else uses.
//!
//! Unchecked and validated configuration are different types: `raw` is what serde reads, [`model::Config`] is what a
//! file without errors means. Only [`model::Config`] leaves this room.

pub mod model;
