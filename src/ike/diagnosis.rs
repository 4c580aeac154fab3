//! Why a negotiation failed, for the operator: kept per tunnel, and told in whole sentences.
//!
//! A [`Failure`] says when, with whom, at which [`Stage`] and for which [`Cause`]. [`Cause::explain`] puts it in words: what
//! happened, what they offered, what we accept, and the nearest change on either side. None of it goes to the peer, which
//! gets the RFC's notify and nothing else, and none of it holds a secret.
//!
//! [`Failures`] keeps the last ones. What happens again and again (a peer that calls every few seconds with the wrong key)
//! is counted there, and does not push out the rest.

mod cause;
mod explain;
mod selectors;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::net::{Path, Timestamp};

pub use cause::Cause;
pub use explain::Explanation;
pub use selectors::SelectorMismatch;
pub use store::{Failures, MAX_PER_TUNNEL, MAX_STRANGERS, Recorded};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub at: Timestamp,
    /// Whom we talked to. Before IKE_AUTH has succeeded it may be anybody.
    pub remote: Path,
    pub stage: Stage,
    pub cause: Cause,
}

/// What was being negotiated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// IKE_SA_INIT: algorithms.
    Init,
    /// IKE_INTERMEDIATE or IKE_FOLLOWUP_KE: additional key exchanges.
    Intermediate,
    /// IKE_AUTH: identities.
    Auth,
    /// A Child SA, in IKE_AUTH or CREATE_CHILD_SA.
    Child,
    /// Replacing a Child SA or the IKE SA.
    Rekey,
    /// An IKE SA that was up, or a test whether its peer is still there.
    Liveness,
}

impl Stage {
    /// For status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Init => "init",
            Stage::Intermediate => "intermediate",
            Stage::Auth => "auth",
            Stage::Child => "child",
            Stage::Rekey => "rekey",
            Stage::Liveness => "liveness",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Init => "agreeing on algorithms (IKE_SA_INIT)",
            Stage::Intermediate => "the additional key exchange",
            Stage::Auth => "authentication (IKE_AUTH)",
            Stage::Child => "setting up a Child SA",
            Stage::Rekey => "rekeying",
            Stage::Liveness => "a check that the peer is there",
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, during {}: {}", self.remote.remote, self.stage, self.cause.explain())
    }
}
