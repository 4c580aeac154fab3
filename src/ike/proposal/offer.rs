//! What we propose, and how an answer repeats what was chosen.

use super::{EspChoice, IkeChoice, Profile};
use crate::crypto::{Cipher, Group};
use crate::wire::ike::transform_kind::{ADDITIONAL_KEY_EXCHANGE_1, ENCRYPTION, ESN, INTEGRITY, KEY_EXCHANGE, PRF};
use crate::wire::ike::{Proposal, Protocol, Transform};

/// Transform ids of type ESN.
pub(super) const NO_ESN: u16 = 0;
pub(super) const WITH_ESN: u16 = 1;
/// "No such algorithm", of integrity and key exchange.
pub(super) const NONE: u16 = 0;

/// Key exchange groups by preference: the first one goes into our first IKE_SA_INIT.
pub fn ike_groups(profile: Profile) -> &'static [Group] {
    profile.groups()
}

/// We propose additional key exchanges, so we must announce IKE_INTERMEDIATE (RFC 9242).
pub fn has_further_exchanges(profile: Profile) -> bool {
    profile.requires_kem()
}

/// For IKE_SA_INIT.
pub fn ike_proposals(profile: Profile) -> Vec<Proposal> {
    offer(profile, Protocol::Ike, &[], true)
}

/// For a Child SA; `with_ke`: in CREATE_CHILD_SA with a key exchange of its own.
pub fn esp_proposals(profile: Profile, spi_in: u32, with_ke: bool) -> Vec<Proposal> {
    offer(profile, Protocol::Esp, &spi_in.to_be_bytes(), with_ke)
}

/// All of a profile: AEADs in one proposal, other ciphers with their integrity in the next (RFC 7296 section 3.3). An IKE SA
/// always has a key exchange.
pub fn offer(profile: Profile, protocol: Protocol, spi: &[u8], with_ke: bool) -> Vec<Proposal> {
    [true, false]
        .into_iter()
        .map(|aead| transforms(profile, protocol, aead, with_ke))
        .filter(|transforms| transforms.iter().any(|transform| transform.kind == ENCRYPTION))
        .zip(1..)
        .map(|(transforms, number)| Proposal { number, protocol, spi: spi.to_vec(), transforms })
        .collect()
}

fn transforms(profile: Profile, protocol: Protocol, aead: bool, with_ke: bool) -> Vec<Transform> {
    let mut transforms: Vec<Transform> = profile
        .ciphers()
        .iter()
        .filter(|cipher| cipher.is_aead() == aead)
        .map(|cipher| cipher_transform(*cipher))
        .collect();
    if !aead {
        transforms.extend(profile.integrities().iter().map(|integrity| Transform::new(INTEGRITY, integrity.id())));
    }
    let ike = protocol == Protocol::Ike;
    if ike {
        transforms.extend(profile.prfs().iter().map(|prf| Transform::new(PRF, prf.id())));
    }
    if ike || with_ke {
        transforms.extend(profile.groups().iter().map(|group| Transform::new(KEY_EXCHANGE, group.id())));
        if profile.requires_kem() {
            let kems = profile.kems().iter().map(|kem| kem.id());
            let optional = (!ike).then_some(NONE);
            transforms.extend(kems.chain(optional).map(|id| Transform::new(ADDITIONAL_KEY_EXCHANGE_1, id)));
        }
    }
    if !ike {
        transforms.extend([WITH_ESN, NO_ESN].map(|id| Transform::new(ESN, id)));
    }
    transforms
}

pub(super) fn cipher_transform(cipher: Cipher) -> Transform {
    Transform { kind: ENCRYPTION, id: cipher.id(), key_bits: cipher.key_bits() }
}

/// The answer to an IKE proposal; `spi`: ours when an IKE SA is rekeyed, else none.
pub fn emit_ike(choice: &IkeChoice, spi: &[u8]) -> Proposal {
    let agreed = choice.agreed.clone();
    Proposal { number: agreed.number, protocol: Protocol::Ike, spi: spi.to_vec(), transforms: agreed.transforms }
}

/// The answer to an ESP proposal.
pub fn emit_esp(choice: &EspChoice, spi_in: u32) -> Proposal {
    let agreed = choice.agreed.clone();
    let spi = spi_in.to_be_bytes().to_vec();
    Proposal { number: agreed.number, protocol: Protocol::Esp, spi, transforms: agreed.transforms }
}
