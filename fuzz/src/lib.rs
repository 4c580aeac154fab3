//! What the fuzz targets call: see `checks.rs`, which `tests/corpora.rs` replays as well.

pub mod checks;
