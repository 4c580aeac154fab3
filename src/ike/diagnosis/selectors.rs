//! Why no traffic selectors were agreed on.

use super::explain::Explanation;
use crate::net::Selector;
use crate::net::selector::narrow;

/// Of each list; a peer may send 255.
pub(super) const MAX_KEPT: usize = 8;

/// "Ours" and "theirs" are the two sides of the tunnel, whoever asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SelectorMismatch {
    pub ours_offered: Vec<Selector>,
    pub ours_accepted: Vec<Selector>,
    pub theirs_offered: Vec<Selector>,
    pub theirs_accepted: Vec<Selector>,
    /// Nothing in common on this side.
    pub ours_differ: bool,
    pub theirs_differ: bool,
}

impl SelectorMismatch {
    pub(super) fn new(configured: (&[Selector], &[Selector]), offered: (&[Selector], &[Selector])) -> Self {
        let differ = |offered: &[Selector], configured: &[Selector]| narrow(offered, configured, 1).is_empty();
        let first = |list: &[Selector]| list.iter().take(MAX_KEPT).copied().collect();
        SelectorMismatch {
            ours_offered: first(offered.0),
            ours_accepted: first(configured.0),
            theirs_offered: first(offered.1),
            theirs_accepted: first(configured.1),
            ours_differ: differ(offered.0, configured.0),
            theirs_differ: differ(offered.1, configured.1),
        }
    }

    pub(super) fn explain(&self) -> Explanation {
        let (their_side, our_side) = (list(&self.theirs_offered), list(&self.ours_offered));
        let (known, reachable) = (list(&self.theirs_accepted), list(&self.ours_accepted));
        let what = match (self.ours_differ, self.theirs_differ) {
            (true, true) => "No traffic selectors could be agreed on, for neither side.",
            (true, false) => "No traffic selectors could be agreed on for our side.",
            (false, true) => "No traffic selectors could be agreed on for their side.",
            (false, false) => "The selectors on both sides overlap, but the answer goes beyond what was asked for.",
        };
        let mut nearest = Vec::new();
        if self.ours_differ {
            nearest.push(format!(
                "on their side set the remote networks (strongSwan: remote_ts) to {reachable}, or to 0.0.0.0/0; or on ours \
                 grant them what lies in {our_side}"
            ));
        }
        if self.theirs_differ {
            nearest.push(format!(
                "on their side set the local networks (strongSwan: local_ts) to {known}; or on ours add {their_side} to the \
                 realm's networks"
            ));
        }
        if nearest.is_empty() {
            nearest.push("on their side narrow the answer to what was asked for (RFC 7296 section 2.9)".to_owned());
        }
        Explanation::new(what)
            .offered(format!("They offer {their_side} on their side and {our_side} on ours."))
            .accepted(format!("We accept {known} on their side and {reachable} on ours."))
            .nearest(format!("Nearest: {}.", nearest.join("; and ")))
    }
}

pub(super) fn list(selectors: &[Selector]) -> String {
    if selectors.is_empty() {
        return "nothing".to_owned();
    }
    let mut text = selectors.iter().take(MAX_KEPT).map(Selector::to_string).collect::<Vec<_>>().join(", ");
    if selectors.len() >= MAX_KEPT {
        text.push_str(" ...");
    }
    text
}
