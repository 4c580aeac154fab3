//! What we propose, and how an answer repeats what was chosen.

use super::choose::Further;
use super::{EspChoice, IkeChoice, Profile};
use crate::crypto::{Cipher, Group};
use crate::wire::ike::transform_kind::{ADDITIONAL_KEY_EXCHANGE_1, ENCRYPTION, ESN, INTEGRITY, KEY_EXCHANGE, PRF};
use crate::wire::ike::{Proposal, Protocol, Transform};

/// Transform ids of type ESN.
pub(super) const NO_ESN: u16 = 0;
pub(super) const WITH_ESN: u16 = 1;
/// "No such algorithm", of integrity and key exchange.
pub(super) const NONE: u16 = 0;

/// Rekeyings and Child SAs draw on the keys of the IKE SA, which have the additional key exchange in them: one more
/// (IKE_FOLLOWUP_KE, RFC 9370 section 2.2.4) is proposed, and done where the peer wants it.
pub(super) const IN_REKEYS: Further = Further::Optional;

/// Key exchange groups by preference: the first one goes into our first IKE_SA_INIT.
pub fn ike_groups(profile: Profile) -> &'static [Group] {
    profile.groups()
}

/// The same for Child SAs with a key exchange of their own.
pub fn esp_groups(profile: Profile) -> &'static [Group] {
    profile.groups()
}

/// We propose additional key exchanges, so we must announce IKE_INTERMEDIATE (RFC 9242).
pub fn has_further_exchanges(profile: Profile) -> bool {
    profile.requires_kem()
}

/// For IKE_SA_INIT.
pub fn ike_proposals(profile: Profile) -> Vec<Proposal> {
    offer(profile, Protocol::Ike, &[], Exchanges { group: true, further: Further::ByProfile })
}

/// For a rekeying of the IKE SA, with our SPI of the new one.
pub fn ike_rekey_proposals(profile: Profile, spi: u64) -> Vec<Proposal> {
    offer(profile, Protocol::Ike, &spi.to_be_bytes(), Exchanges { group: true, further: IN_REKEYS })
}

/// For a Child SA; `with_ke`: in CREATE_CHILD_SA with a key exchange of its own.
pub fn esp_proposals(profile: Profile, spi_in: u32, with_ke: bool) -> Vec<Proposal> {
    offer(profile, Protocol::Esp, &spi_in.to_be_bytes(), Exchanges { group: with_ke, further: IN_REKEYS })
}

/// Which key exchanges are proposed.
#[derive(Clone, Copy)]
pub(super) struct Exchanges {
    pub group: bool,
    pub further: Further,
}

/// All of a profile: AEADs in one proposal, other ciphers with their integrity in the next (RFC 7296 section 3.3).
pub(super) fn offer(profile: Profile, protocol: Protocol, spi: &[u8], exchanges: Exchanges) -> Vec<Proposal> {
    [true, false]
        .into_iter()
        .filter(|aead| profile.ciphers().iter().any(|cipher| cipher.is_aead() == *aead))
        .map(|aead| transforms(profile, protocol, aead, exchanges))
        .zip(1..)
        .map(|(transforms, number)| Proposal { number, protocol, spi: spi.to_vec(), transforms })
        .collect()
}

fn transforms(profile: Profile, protocol: Protocol, aead: bool, exchanges: Exchanges) -> Vec<Transform> {
    let ciphers = profile.ciphers().iter().filter(|cipher| cipher.is_aead() == aead);
    let mut transforms: Vec<Transform> = ciphers.map(|cipher| cipher_transform(*cipher)).collect();
    if !aead {
        transforms.extend(profile.integrities().iter().map(|integrity| Transform::new(INTEGRITY, integrity.id())));
    }
    if protocol == Protocol::Ike {
        transforms.extend(profile.prfs().iter().map(|prf| Transform::new(PRF, prf.id())));
    }
    if exchanges.group {
        transforms.extend(profile.groups().iter().map(|group| Transform::new(KEY_EXCHANGE, group.id())));
    }
    if exchanges.group && profile.requires_kem() {
        let kems = exchanges.further.kems(profile).iter().map(|kem| kem.id());
        let optional = (exchanges.further == Further::Optional).then_some(NONE);
        transforms.extend(kems.chain(optional).map(|id| Transform::new(ADDITIONAL_KEY_EXCHANGE_1, id)));
    }
    if protocol == Protocol::Esp {
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
