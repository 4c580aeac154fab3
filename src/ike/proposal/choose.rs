//! Choosing as responder, and holding a responder's choice against what we proposed as initiator.

use super::offer::{NO_ESN, NONE, WITH_ESN, cipher_transform, esp_proposals, ike_proposals};
use super::refusal::NoProposal;
use super::{Agreed, EspChoice, IkeChoice, Profile, of_kind};
use crate::crypto::{Cipher, Group, Integrity, Prf, Suite};
use crate::ike::diagnosis::Cause;
use crate::wire::ike::transform_kind::{
    ADDITIONAL_KEY_EXCHANGE_1, ADDITIONAL_KEY_EXCHANGE_7, ENCRYPTION, ESN, INTEGRITY, KEY_EXCHANGE, PRF,
};
use crate::wire::ike::{Proposal, Protocol, Transform};

/// As responder: the first of `profiles` that allows any of the proposals (before IKE_AUTH we can only guess at the peer).
/// `sent_group`: of the peer's KE payload.
pub fn choose_ike(proposals: &[Proposal], profiles: &[Profile], sent_group: Option<u16>) -> Result<IkeChoice, Cause> {
    let choice = profiles
        .iter()
        .find_map(|profile| proposals.iter().find_map(|proposal| ike_choice(proposal, *profile, sent_group)));
    choice.ok_or_else(|| refused(profiles, Protocol::Ike, proposals, true))
}

/// As responder. `sent_group`: of the peer's KE payload; `None`: there is none (IKE_AUTH, or no PFS). With the choice
/// comes the SPI that the peer wants to be sent packets under.
pub fn choose_esp(
    proposals: &[Proposal],
    profile: Profile,
    sent_group: Option<u16>,
) -> Result<(EspChoice, u32), Cause> {
    let with_ke = sent_group.is_some();
    let choice = proposals.iter().find_map(|proposal| esp_choice(proposal, profile, sent_group, with_ke));
    choice.ok_or_else(|| refused(&[profile], Protocol::Esp, proposals, with_ke))
}

/// As initiator: the answer must be one of our proposals, with one transform of each type.
pub fn accept_ike(answer: &[Proposal], profile: Profile) -> Result<IkeChoice, Cause> {
    let proposal = accepted(answer, &ike_proposals(profile)).ok_or_else(|| misfit(answer))?;
    ike_choice(proposal, profile, None).ok_or_else(|| misfit(answer))
}

/// The same for ESP; `with_ke`: as we proposed.
pub fn accept_esp(answer: &[Proposal], profile: Profile, with_ke: bool) -> Result<(EspChoice, u32), Cause> {
    let proposal = accepted(answer, &esp_proposals(profile, 0, with_ke)).ok_or_else(|| misfit(answer))?;
    esp_choice(proposal, profile, None, with_ke).ok_or_else(|| misfit(answer))
}

/// Whether what was chosen before the peer was known is allowed by its own profile.
pub fn is_allowed(choice: &IkeChoice, profile: Profile) -> Result<(), Cause> {
    let proposal = super::emit_ike(choice, &choice.their_spi);
    match ike_choice(&proposal, profile, None) {
        Some(_) => Ok(()),
        None => Err(refused(&[profile], Protocol::Ike, &[proposal], true)),
    }
}

fn refused(profiles: &[Profile], protocol: Protocol, proposals: &[Proposal], with_ke: bool) -> Cause {
    let profile = profiles.first().copied().unwrap_or_default();
    Cause::NoProposal(Box::new(NoProposal::new(profile, protocol, proposals, with_ke)))
}

fn misfit(answer: &[Proposal]) -> Cause {
    let answer = answer.iter().take(4).map(|proposal| super::spelled(&proposal.transforms));
    Cause::AnswerNotOffered { answer: answer.collect::<Vec<_>>().join(", ") }
}

/// RFC 7296 section 3.3.6: exactly one proposal, out of those that were offered.
fn accepted<'a>(answer: &'a [Proposal], offered: &[Proposal]) -> Option<&'a Proposal> {
    let [answer] = answer else { return None };
    let offer = offered.iter().find(|offer| offer.number == answer.number && offer.protocol == answer.protocol)?;
    let transforms = &answer.transforms;
    let once_each = transforms.iter().all(|one| of_kind(answer, one.kind).count() == 1);
    // "No integrity" beside an AEAD may be said without having been offered.
    let no_integrity = Transform::new(INTEGRITY, NONE);
    let from_offer = transforms.iter().all(|one| offer.transforms.contains(one) || *one == no_integrity);
    // A type that we offered may only be missing where "none" was on offer, or goes without saying.
    let complete = offer.transforms.iter().all(|one| {
        let optional = one.kind == ESN || of_kind(offer, one.kind).any(|one| one.id == NONE);
        optional || of_kind(answer, one.kind).next().is_some()
    });
    (once_each && from_offer && complete).then_some(answer)
}

pub(super) fn ike_choice(proposal: &Proposal, profile: Profile, sent_group: Option<u16>) -> Option<IkeChoice> {
    let mut picked = Picker::new(proposal, profile);
    if proposal.protocol != Protocol::Ike || !picked.knows_all_types(&[ENCRYPTION, PRF, INTEGRITY, KEY_EXCHANGE]) {
        return None;
    }
    let suite = picked.suite()?;
    let prf = picked.prf()?;
    let group = picked.group(sent_group)?;
    let further = picked.further()?;
    if profile.requires_kem() && further.is_empty() {
        return None;
    }
    Some(IkeChoice { suite, prf, group, further, their_spi: proposal.spi.clone(), agreed: picked.agreed })
}

pub(super) fn esp_choice(
    proposal: &Proposal,
    profile: Profile,
    sent_group: Option<u16>,
    with_ke: bool,
) -> Option<(EspChoice, u32)> {
    let spi_out = u32::from_be_bytes(*proposal.spi.first_chunk()?);
    let mut picked = Picker::new(proposal, profile);
    if proposal.protocol != Protocol::Esp || !picked.knows_all_types(&[ENCRYPTION, INTEGRITY, KEY_EXCHANGE, ESN]) {
        return None;
    }
    let suite = picked.suite()?;
    let mut group = None;
    let mut further = Vec::new();
    // Without a KE payload there is nothing to choose: the peer lists groups for a later rekeying.
    if with_ke && of_kind(proposal, KEY_EXCHANGE).next().is_some() {
        group = picked.group_or_none(sent_group)?;
        further = picked.further()?;
    }
    let esn = picked.esn()?;
    Some((EspChoice { suite, group, further, esn, agreed: picked.agreed }, spi_out))
}

/// Takes one transform of each type out of a proposal.
struct Picker<'a> {
    proposal: &'a Proposal,
    profile: Profile,
    agreed: Agreed,
}

impl<'a> Picker<'a> {
    fn new(proposal: &'a Proposal, profile: Profile) -> Self {
        Picker { proposal, profile, agreed: Agreed { number: proposal.number, transforms: Vec::new() } }
    }

    /// RFC 7296 section 3.3.6: a proposal with a transform type that we do not know is unacceptable as a whole.
    fn knows_all_types(&self, known: &[u8]) -> bool {
        self.proposal.transforms.iter().all(|transform| {
            let additional = (ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7).contains(&transform.kind);
            known.contains(&transform.kind) || additional
        })
    }

    fn offers(&self, kind: u8) -> bool {
        of_kind(self.proposal, kind).next().is_some()
    }

    /// Takes `transform` if it was offered.
    fn take(&mut self, transform: Transform) -> Option<()> {
        if !self.proposal.transforms.contains(&transform) {
            return None;
        }
        self.agreed.transforms.push(transform);
        Some(())
    }

    fn take_first<T: Copy>(&mut self, ours: &[T], transform: impl Fn(T) -> Transform) -> Option<T> {
        ours.iter().copied().find(|one| self.take(transform(*one)).is_some())
    }

    fn suite(&mut self) -> Option<Suite> {
        let none = Transform::new(INTEGRITY, NONE);
        let only_aeads = !self.offers(INTEGRITY) || self.proposal.transforms.contains(&none);
        let usable = |cipher: &&Cipher| !cipher.is_aead() || only_aeads;
        let ciphers: Vec<Cipher> = self.profile.ciphers().iter().filter(usable).copied().collect();
        for cipher in ciphers {
            if !self.proposal.transforms.contains(&cipher_transform(cipher)) {
                continue;
            }
            let integrity = match cipher.is_aead() {
                true => None,
                false => {
                    let ours: Vec<Integrity> = self.profile.integrities().to_vec();
                    let of_ours =
                        |one: &Integrity| self.proposal.transforms.contains(&Transform::new(INTEGRITY, one.id()));
                    match ours.into_iter().find(of_ours) {
                        Some(integrity) => Some(integrity),
                        None => continue,
                    }
                }
            };
            self.take(cipher_transform(cipher))?;
            match integrity {
                Some(integrity) => self.take(Transform::new(INTEGRITY, integrity.id()))?,
                None if self.offers(INTEGRITY) => self.take(none)?,
                None => {}
            }
            return Some(Suite { cipher, integrity });
        }
        None
    }

    fn prf(&mut self) -> Option<Prf> {
        self.take_first(self.profile.prfs(), |prf| Transform::new(PRF, prf.id()))
    }

    /// The one of the KE payload if it is offered and we take it; else our favourite, for which the peer will be asked.
    fn group(&mut self, sent: Option<u16>) -> Option<Group> {
        let ours = self.profile.groups();
        let transform = |group: Group| Transform::new(KEY_EXCHANGE, group.id());
        let sent = sent.and_then(Group::from_id).filter(|group| ours.contains(group));
        if let Some(group) = sent
            && self.take(transform(group)).is_some()
        {
            return Some(group);
        }
        self.take_first(ours, transform)
    }

    /// The same where "no key exchange" can be on offer.
    fn group_or_none(&mut self, sent: Option<u16>) -> Option<Option<Group>> {
        match self.group(sent) {
            Some(group) => Some(Some(group)),
            None => self.take(Transform::new(KEY_EXCHANGE, NONE)).map(|()| None),
        }
    }

    /// RFC 9370 section 2.2.1: one of each type that is offered, and no method twice.
    fn further(&mut self) -> Option<Vec<Group>> {
        let mut further = Vec::new();
        for kind in ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7 {
            if !self.offers(kind) {
                continue;
            }
            let ours: Vec<Group> = self.profile.kems().iter().copied().filter(|kem| !further.contains(kem)).collect();
            match self.take_first(&ours, |kem| Transform::new(kind, kem.id())) {
                Some(kem) => further.push(kem),
                None => self.take(Transform::new(kind, NONE))?,
            }
        }
        Some(further)
    }

    /// A proposal without the type (against the RFC) means no ESN.
    fn esn(&mut self) -> Option<bool> {
        if !self.offers(ESN) {
            return Some(false);
        }
        let with = self.take_first(&[WITH_ESN, NO_ESN], |id| Transform::new(ESN, id))?;
        Some(with == WITH_ESN)
    }
}
