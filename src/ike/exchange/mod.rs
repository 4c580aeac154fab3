//! One file per exchange. Each is an `impl IkeSa` block: the request as we make it, the answer to theirs, and what the
//! answer to ours means.

pub(super) mod auth;
pub(super) mod create_child;
pub(super) mod followup;
pub(super) mod informational;
pub(super) mod init;
pub(super) mod intermediate;
pub(super) mod path_probe;
pub(super) mod rekey_ike;
