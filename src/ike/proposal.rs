//! Which algorithms: what we propose, what we choose of a peer's proposals, and why nothing could be chosen.
//!
//! A [`Profile`] is a list of algorithms per transform type, the best first (`docs/algorithms.md` shows them to operators).
//! We propose all of a profile. Of what a peer proposes we take the first of its proposals that the profile allows, and in
//! it the transforms that stand first in *our* list; its key exchange group is taken as it is when we like it at all, for
//! another one would cost a round trip (RFC 7296 section 1.2).
//!
//! ML-KEM is an additional key exchange (RFC 9370) beside a classical one. `pq` proposes and requires it in
//! IKE_SA_INIT; the other profiles do not propose it, but take it there from a peer that does.

mod choose;
mod names;
mod offer;
mod refusal;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use crate::crypto::{Cipher, Group, Integrity, Prf, Suite};
use crate::wire::ike::{Proposal, Transform};

pub use choose::{accept_esp, accept_ike, accept_ike_rekey, choose_esp, choose_ike, choose_ike_rekey, is_allowed};
pub use names::{spelled, transform_name};
pub use offer::{
    emit_esp, emit_ike, esp_groups, esp_proposals, has_further_exchanges, ike_groups, ike_proposals,
    ike_rekey_proposals,
};
pub use refusal::{Mismatch, NoProposal, refused_esp, refused_ike};

/// A named list of algorithms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Profile {
    /// AEADs, SHA-2, elliptic curves and large MODP groups.
    #[default]
    Modern,
    /// The same, and ML-KEM beside the classical key exchange: recorded traffic stays closed to quantum computers.
    Pq,
    /// `modern`, and for older peers AES-CBC with HMAC-SHA2 and MODP-2048.
    Compat,
}

/// What both sides agreed on for an IKE SA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IkeChoice {
    pub suite: Suite,
    pub prf: Prf,
    pub group: Group,
    /// Additional key exchanges (RFC 9370), in the order in which they are done.
    pub further: Vec<Group>,
    agreed: Agreed,
}

/// What both sides agreed on for a Child SA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EspChoice {
    pub suite: Suite,
    /// `None`: no key exchange of its own (no PFS, or in IKE_AUTH).
    pub group: Option<Group>,
    pub further: Vec<Group>,
    pub esn: bool,
    agreed: Agreed,
}

/// The proposal as the answer repeats it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Agreed {
    number: u8,
    transforms: Vec<Transform>,
}

impl Profile {
    pub const ALL: [Profile; 3] = [Profile::Modern, Profile::Pq, Profile::Compat];

    /// As it stands in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Modern => "modern",
            Profile::Pq => "pq",
            Profile::Compat => "compat",
        }
    }

    pub(super) fn ciphers(self) -> &'static [Cipher] {
        use Cipher::{AesCbc128, AesCbc256, AesGcm128, AesGcm256, ChaCha20Poly1305};
        match self {
            Profile::Modern | Profile::Pq => &[AesGcm256, AesGcm128, ChaCha20Poly1305],
            Profile::Compat => &[AesGcm256, AesGcm128, ChaCha20Poly1305, AesCbc256, AesCbc128],
        }
    }

    /// Beside ciphers that are no AEADs.
    pub(super) fn integrities(self) -> &'static [Integrity] {
        match self {
            Profile::Modern | Profile::Pq => &[],
            Profile::Compat => &Integrity::ALL,
        }
    }

    pub(super) fn prfs(self) -> &'static [Prf] {
        &Prf::ALL
    }

    pub(super) fn groups(self) -> &'static [Group] {
        use Group::{Modp2048, Modp3072, Modp4096, P256, P384, P521, X25519};
        match self {
            Profile::Modern | Profile::Pq => &[X25519, P256, P384, P521, Modp3072, Modp4096],
            Profile::Compat => &[X25519, P256, P384, P521, Modp3072, Modp4096, Modp2048],
        }
    }

    pub(super) fn kems(self) -> &'static [Group] {
        &[Group::MlKem768, Group::MlKem1024]
    }

    /// An IKE SA without an additional key exchange is refused. (A Child SA draws on the keys of its IKE SA.)
    pub(super) fn requires_kem(self) -> bool {
        self == Profile::Pq
    }

    /// We do not do without a key exchange where a peer refuses one for the rekeying of a Child SA.
    pub(super) fn requires_pfs(self) -> bool {
        self == Profile::Pq
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such profile: there are modern, pq and compat")]
pub struct NoSuchProfile;

impl FromStr for Profile {
    type Err = NoSuchProfile;

    fn from_str(name: &str) -> Result<Self, NoSuchProfile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name).ok_or(NoSuchProfile)
    }
}

impl IkeChoice {
    /// As strongSwan spells it: `aes256gcm16-prfsha256-x25519`.
    pub fn spelled(&self) -> String {
        spelled(&self.agreed.transforms)
    }
}

impl EspChoice {
    pub fn spelled(&self) -> String {
        spelled(&self.agreed.transforms)
    }
}

/// Of a proposal by transform type; `id` as in the registry.
fn of_kind(proposal: &Proposal, kind: u8) -> impl Iterator<Item = &Transform> {
    proposal.transforms.iter().filter(move |transform| transform.kind == kind)
}
