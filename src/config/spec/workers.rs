//! `[workers]`.

use super::{TableSpec, integer, with_default};

/// A port has as many lanes to deal out, and the first thread keeps one.
pub const MAX_THREADS: u64 = 32;

pub static WORKERS: TableSpec = TableSpec {
    title: "[workers]",
    doc: "Threads of the packet path.",
    keys: &[with_default(
        "threads",
        "How many: at most one for each core. The first walks (grants, sessions, translation); with more than one, the others receive, open, \
         seal and send for it.",
        integer(1, MAX_THREADS),
        "1",
    )],
    one_of: &[],
    planned: &[],
};
