//! `[workers]`.

use super::{TableSpec, integer, with_default};

/// A port has as many lanes to deal out, and the first thread keeps one.
pub const MAX_THREADS: u64 = 32;

pub static WORKERS: TableSpec = TableSpec {
    title: "[workers]",
    doc: "Threads of the packet path.",
    keys: &[with_default(
        "threads",
        "How many, at most one for each core. The first decides (grants, sessions, translation); with more than one, the others receive and \
         decrypt for it, and encrypt and send to WireGuard peers.",
        integer(1, MAX_THREADS),
        "1",
    )],
    one_of: &[],
    planned: &[],
};
