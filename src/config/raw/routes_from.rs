//! `routes_from`, as written.

use std::ops::Range;

use super::{Number, Text, Texts};
use crate::config::diagnostic::Problems;
use crate::config::section::Section;

#[derive(Debug)]
pub struct RoutesFrom {
    pub span: Range<usize>,
    pub namespace: Text,
    pub tun: Text,
    pub local: Texts,
    pub peers: Texts,
    pub allow: Texts,
    /// `allow` is written, right or wrong.
    pub has_allow: bool,
    pub max_prefixes: Number,
    pub max_alias_addresses: Number,
}

pub fn routes_from(s: &Section<'_>, problems: &mut Problems) -> RoutesFrom {
    RoutesFrom {
        span: s.span.clone(),
        namespace: s.text("namespace", problems),
        tun: s.text("tun", problems),
        local: s.texts("local", problems),
        peers: s.texts("peers", problems),
        allow: s.texts("allow", problems),
        has_allow: s.has("allow"),
        max_prefixes: s.integer("max_prefixes", problems),
        max_alias_addresses: s.integer("max_alias_addresses", problems),
    }
}
