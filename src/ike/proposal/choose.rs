//! Choosing as responder, and holding a responder's choice against what we proposed as initiator.

use super::offer::{
    IN_REKEYS, NO_ESN, NONE, WITH_ESN, cipher_transform, esp_proposals, ike_proposals, ike_rekey_proposals,
};
use super::refusal::NoProposal;
use super::{Agreed, EspChoice, IkeChoice, Profile, of_kind};
use crate::crypto::{Cipher, Group, Integrity, Prf, Suite};
use crate::ike::diagnosis::Cause;
use crate::wire::ike::transform_kind::{
    ADDITIONAL_KEY_EXCHANGE_1, ADDITIONAL_KEY_EXCHANGE_7, ENCRYPTION, ESN, INTEGRITY, KEY_EXCHANGE, PRF,
};
use crate::wire::ike::{Proposal, Protocol, Transform};

/// Which additional key exchanges a choice may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Further {
    /// IKE_SA_INIT: followed by IKE_INTERMEDIATE. As many as the profile wants, at least.
    ByProfile,
    /// CREATE_CHILD_SA: followed by IKE_FOLLOWUP_KE. What is rekeyed has them in its keys already, so they may be left out.
    Optional,
    /// IKE_AUTH: no exchange follows that could carry them.
    Never,
}

impl Further {
    pub fn kems(self, profile: Profile) -> &'static [Group] {
        match self {
            Further::ByProfile | Further::Optional => profile.kems(),
            Further::Never => &[],
        }
    }
}

/// What a proposal is chosen from besides itself.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub profile: Profile,
    /// The group of the peer's KE payload.
    pub sent: Option<Group>,
    /// Child SAs: CREATE_CHILD_SA can have a key exchange, IKE_AUTH cannot.
    pub with_ke: bool,
    pub further: Further,
}

/// As responder of IKE_SA_INIT: the first of `profiles` that allows any of the proposals (before IKE_AUTH we can only guess
/// at the peer). `sent`: the group of the peer's KE payload.
pub fn choose_ike(proposals: &[Proposal], profiles: &[Profile], sent: Option<u16>) -> Result<IkeChoice, Cause> {
    let sent = sent.and_then(Group::from_id);
    let terms = |profile| Terms { profile, sent, with_ke: true, further: Further::ByProfile };
    let by_profile = |profile: &Profile| proposals.iter().find_map(|proposal| ike_choice(proposal, terms(*profile)));
    let favourite = profiles.first().copied().unwrap_or_default();
    profiles.iter().find_map(by_profile).ok_or_else(|| refused(terms(favourite), Protocol::Ike, proposals))
}

/// As responder of a rekeying; with the choice comes the peer's SPI of the new IKE SA.
pub fn choose_ike_rekey(
    proposals: &[Proposal],
    profile: Profile,
    sent: Option<Group>,
) -> Result<(IkeChoice, u64), Cause> {
    let terms = Terms { profile, sent, with_ke: true, further: IN_REKEYS };
    let choice = proposals.iter().find_map(|proposal| Some((ike_choice(proposal, terms)?, ike_spi(proposal)?)));
    choice.ok_or_else(|| refused(terms, Protocol::Ike, proposals))
}

/// As responder. `sent`: `None` in IKE_AUTH, where groups do not count; in CREATE_CHILD_SA the group of the peer's KE
/// payload, if there is one. With the choice comes the SPI that the peer wants to be sent packets under.
pub fn choose_esp(
    proposals: &[Proposal],
    profile: Profile,
    sent: Option<Option<Group>>,
) -> Result<(EspChoice, u32), Cause> {
    let terms = Terms { profile, sent: sent.flatten(), with_ke: sent.is_some(), further: IN_REKEYS };
    let choice = proposals.iter().find_map(|proposal| Some((esp_choice(proposal, terms)?, esp_spi(proposal)?)));
    choice.ok_or_else(|| refused(terms, Protocol::Esp, proposals))
}

/// As initiator: the answer must be one of our proposals, with one transform of each type.
pub fn accept_ike(answer: &[Proposal], profile: Profile) -> Result<IkeChoice, Cause> {
    let terms = Terms { profile, sent: None, with_ke: true, further: Further::ByProfile };
    let accepted = accepted(answer, &ike_proposals(profile)).and_then(|proposal| ike_choice(proposal, terms));
    accepted.ok_or_else(|| misfit(answer))
}

/// The same in a rekeying, with the responder's SPI.
pub fn accept_ike_rekey(answer: &[Proposal], profile: Profile) -> Result<(IkeChoice, u64), Cause> {
    let terms = Terms { profile, sent: None, with_ke: true, further: IN_REKEYS };
    let proposal = accepted(answer, &ike_rekey_proposals(profile, 0));
    let accepted = proposal.and_then(|proposal| Some((ike_choice(proposal, terms)?, ike_spi(proposal)?)));
    accepted.ok_or_else(|| misfit(answer))
}

/// The same for ESP; `with_ke`: as we proposed.
pub fn accept_esp(answer: &[Proposal], profile: Profile, with_ke: bool) -> Result<(EspChoice, u32), Cause> {
    let terms = Terms { profile, sent: None, with_ke, further: IN_REKEYS };
    let proposal = accepted(answer, &esp_proposals(profile, 0, with_ke));
    let accepted = proposal.and_then(|proposal| Some((esp_choice(proposal, terms)?, esp_spi(proposal)?)));
    accepted.ok_or_else(|| misfit(answer))
}

/// Whether what was chosen in IKE_SA_INIT, before the peer was known, is allowed by its own profile.
pub fn is_allowed(choice: &IkeChoice, profile: Profile) -> Result<(), Cause> {
    let proposal = super::emit_ike(choice, &[]);
    let terms = Terms { profile, sent: None, with_ke: true, further: Further::ByProfile };
    match ike_choice(&proposal, terms) {
        Some(_) => Ok(()),
        None => Err(refused(terms, Protocol::Ike, &[proposal])),
    }
}

fn ike_spi(proposal: &Proposal) -> Option<u64> {
    let spi = u64::from_be_bytes(proposal.spi.as_slice().try_into().ok()?);
    (spi != 0).then_some(spi)
}

/// RFC 4303 section 2.1: zero is never on the wire.
fn esp_spi(proposal: &Proposal) -> Option<u32> {
    let spi = u32::from_be_bytes(proposal.spi.as_slice().try_into().ok()?);
    (spi != 0).then_some(spi)
}

fn refused(terms: Terms, protocol: Protocol, proposals: &[Proposal]) -> Cause {
    Cause::NoProposal(Box::new(NoProposal::new(terms, protocol, proposals)))
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

pub(super) fn ike_choice(proposal: &Proposal, terms: Terms) -> Option<IkeChoice> {
    let mut picked = Picker::new(proposal, terms.profile);
    if proposal.protocol != Protocol::Ike || !picked.knows_all_types(&[ENCRYPTION, PRF, INTEGRITY, KEY_EXCHANGE]) {
        return None;
    }
    let suite = picked.suite()?;
    let prf = picked.prf()?;
    let group = picked.group(terms.sent)?;
    let further = picked.further(terms.further)?;
    if terms.further == Further::ByProfile && terms.profile.requires_kem() && further.is_empty() {
        return None;
    }
    Some(IkeChoice { suite, prf, group, further, agreed: picked.agreed })
}

pub(super) fn esp_choice(proposal: &Proposal, terms: Terms) -> Option<EspChoice> {
    let mut picked = Picker::new(proposal, terms.profile);
    if proposal.protocol != Protocol::Esp || !picked.knows_all_types(&[ENCRYPTION, INTEGRITY, KEY_EXCHANGE, ESN]) {
        return None;
    }
    let suite = picked.suite()?;
    let mut group = None;
    let mut further = Vec::new();
    // In IKE_AUTH there is nothing to choose: some peers list groups there that are for rekeying.
    if terms.with_ke && picked.offers(KEY_EXCHANGE) {
        group = picked.group_or_none(terms.sent)?;
        further = picked.further(terms.further)?;
    }
    let esn = picked.esn()?;
    Some(EspChoice { suite, group, further, esn, agreed: picked.agreed })
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
    fn group(&mut self, sent: Option<Group>) -> Option<Group> {
        let ours = self.profile.groups();
        let transform = |group: Group| Transform::new(KEY_EXCHANGE, group.id());
        if let Some(group) = sent.filter(|group| ours.contains(group))
            && self.take(transform(group)).is_some()
        {
            return Some(group);
        }
        self.take_first(ours, transform)
    }

    /// The same where "no key exchange" can be on offer: it is taken when no KE payload came.
    fn group_or_none(&mut self, sent: Option<Group>) -> Option<Option<Group>> {
        let none = Transform::new(KEY_EXCHANGE, NONE);
        if sent.is_none() && self.take(none).is_some() {
            return Some(None);
        }
        match self.group(sent) {
            Some(group) => Some(Some(group)),
            None => self.take(none).map(|()| None),
        }
    }

    /// RFC 9370 section 2.2.1: one of each type that is offered, and no method twice.
    fn further(&mut self, allowed: Further) -> Option<Vec<Group>> {
        let kems = allowed.kems(self.profile);
        let mut further = Vec::new();
        for kind in ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7 {
            if !self.offers(kind) {
                continue;
            }
            let left: Vec<Group> = kems.iter().copied().filter(|kem| !further.contains(kem)).collect();
            match self.take_first(&left, |kem| Transform::new(kind, kem.id())) {
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
