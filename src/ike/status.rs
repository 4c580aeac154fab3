//! What is known about one peer, for `status` and metrics.

use super::event::Role;
use super::exchange::auth::Step;
use super::sa::{self, IkeSa};
use crate::net::selector::Selector;
use crate::net::{Path, Timestamp};

/// How far we are with a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stage {
    /// Nothing; the peer has to call, or it is not time yet to call again.
    #[default]
    Idle,
    /// IKE_SA_INIT or IKE_INTERMEDIATE is under way.
    Connecting,
    /// IKE_AUTH is under way.
    Authenticating,
    Established,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Idle => "idle",
            Stage::Connecting => "connecting",
            Stage::Authenticating => "authenticating",
            Stage::Established => "established",
        }
    }
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Status {
    pub stage: Stage,
    /// The rest is about the newest established IKE SA.
    pub role: Option<Role>,
    pub path: Option<Path>,
    /// The algorithms in words, e.g. "AES-GCM-256, PRF-HMAC-SHA-384, X25519".
    pub proposal: String,
    pub rekey_at: Option<Timestamp>,
    /// A NAT was found (or claimed) on either side.
    pub nat: bool,
    pub last_heard: Option<Timestamp>,
    pub children: Vec<ChildStatus>,
    /// IKE SAs with this peer, those being replaced included.
    pub ike_sas: usize,
    /// When one was last established, though it may be gone.
    pub established_at: Option<Timestamp>,
    pub next_attempt: Option<Timestamp>,
    pub counts: Counts,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ChildStatus {
    pub spi_in: u32,
    pub spi_out: u32,
    pub proposal: String,
    pub ours: Vec<Selector>,
    pub theirs: Vec<Selector>,
    pub installed_at: Timestamp,
    pub rekey_at: Timestamp,
}

/// Since the peer was configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// IKE SAs that we tried to make.
    pub attempts: u64,
    /// IKE SAs made by IKE_AUTH, in either role.
    pub established: u64,
    pub ike_rekeys: u64,
    pub child_rekeys: u64,
    pub retransmissions: u64,
    pub failures: u64,
}

impl IkeSa {
    pub(super) fn status(&self) -> Status {
        let children = self.live_children().map(|child| ChildStatus {
            spi_in: child.spi_in,
            spi_out: child.spi_out,
            proposal: child.choice.spelled(),
            ours: child.selectors.ours.clone(),
            theirs: child.selectors.theirs.clone(),
            installed_at: child.installed_at,
            rekey_at: child.rekey_at,
        });
        Status {
            stage: self.stage_in_words(),
            role: Some(self.role),
            path: Some(self.path),
            proposal: self.session.as_ref().map_or_else(String::new, |session| session.choice.spelled()),
            rekey_at: self.timers.rekey_at,
            nat: self.nat.in_udp(),
            last_heard: self.established_at.map(|_| self.last_heard),
            children: children.collect(),
            ..Status::default()
        }
    }

    fn stage_in_words(&self) -> Stage {
        match &self.stage {
            sa::Stage::InitSent(_) => Stage::Connecting,
            sa::Stage::Handshake(handshake) => match handshake.step {
                Step::AuthSent(_) => Stage::Authenticating,
                _ => Stage::Connecting,
            },
            sa::Stage::Established => Stage::Established,
            sa::Stage::Rekeyed | sa::Stage::Deleting => Stage::Idle,
        }
    }
}
