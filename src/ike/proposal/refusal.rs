//! Why no proposal could be chosen: per transform type what they offered and what we accept, and the nearest change on
//! either side.

use std::fmt;

use super::choose::{Further, Terms};
use super::names::{kind_name, spelled, transform_name, weakness};
use super::offer::{Exchanges, NONE, offer};
use super::{Profile, choose, of_kind};
use crate::ike::diagnosis::Cause;
use crate::net::Selector;
use crate::wire::ike::transform_kind::{
    ADDITIONAL_KEY_EXCHANGE_1, ADDITIONAL_KEY_EXCHANGE_7, ESN, INTEGRITY, KEY_EXCHANGE, PRF,
};
use crate::wire::ike::{Proposal, Protocol, Transform, notify};

/// A refused peer is remembered; what it sent is not kept beyond this.
const MAX_PROPOSALS: usize = 8;
const MAX_NAMES: usize = 24;

/// Made when no proposal of a peer is acceptable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoProposal {
    pub profile: Profile,
    /// `true`: for a Child SA, else for the IKE SA.
    pub esp: bool,
    /// In strongSwan's spelling.
    pub offered: Vec<String>,
    /// The transform types in which nothing of the nearest proposal is acceptable. Empty: each has something, and only
    /// the combination has not.
    pub mismatches: Vec<Mismatch>,
    /// What they could add, in strongSwan's spelling.
    pub add_there: String,
    /// The profile that would take one of their proposals.
    pub switch_here: Option<Profile>,
    /// Of what they offer, what no profile takes.
    pub outdated: Vec<&'static str>,
}

/// One transform type of the nearest proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// "encryption", "key exchange" ...
    pub kind: String,
    /// Empty: they offer none, and one is needed.
    pub offered: Vec<String>,
    /// Empty: we take none.
    pub accepted: Vec<String>,
}

impl NoProposal {
    pub(super) fn new(terms: Terms, protocol: Protocol, proposals: &[Proposal]) -> Self {
        let profile = terms.profile;
        let ours = offer(profile, protocol, &[], Exchanges { group: terms.with_ke, further: terms.further });
        let theirs: Vec<&Proposal> =
            proposals.iter().filter(|one| one.protocol == protocol).take(MAX_PROPOSALS).collect();
        let nearest = theirs
            .iter()
            .flat_map(|theirs| ours.iter().map(move |ours| (*theirs, ours)))
            .min_by_key(|(theirs, ours)| lacking(theirs, ours, terms).len());
        let mismatches = nearest.map_or_else(Vec::new, |(theirs, ours)| {
            lacking(theirs, ours, terms).into_iter().map(|kind| Mismatch::new(kind, theirs, ours)).collect()
        });
        NoProposal {
            profile,
            esp: protocol == Protocol::Esp,
            offered: theirs.iter().map(|one| spelled(&one.transforms)).collect(),
            mismatches,
            add_there: add_there(
                nearest.map(|(theirs, _)| theirs),
                nearest.map_or(ours.first(), |(_, ours)| Some(ours)),
            ),
            switch_here: Profile::ALL
                .into_iter()
                .filter(|other| *other != profile)
                .find(|other| theirs.iter().any(|one| would_take(Terms { profile: *other, ..terms }, one))),
            outdated: outdated(&theirs),
        }
    }
}

impl Mismatch {
    fn new(kind: u8, theirs: &Proposal, ours: &Proposal) -> Self {
        let names = |proposal| {
            let all = of_kind(proposal, kind).map(|one| transform_name(one).into_owned());
            all.take(MAX_NAMES).collect::<Vec<_>>()
        };
        Mismatch { kind: kind_name(kind).into_owned(), offered: names(theirs), accepted: names(ours) }
    }
}

fn would_take(terms: Terms, proposal: &Proposal) -> bool {
    match proposal.protocol {
        Protocol::Ike => choose::ike_choice(proposal, terms).is_some(),
        _ => choose::esp_choice(proposal, terms).is_some(),
    }
}

/// The transform types in which the two have nothing in common, by type.
fn lacking(theirs: &Proposal, ours: &Proposal, terms: Terms) -> Vec<u8> {
    let mut kinds: Vec<u8> = theirs.transforms.iter().chain(&ours.transforms).map(|one| one.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.retain(|kind| !agrees(*kind, theirs, ours, terms));
    kinds
}

fn agrees(kind: u8, theirs: &Proposal, ours: &Proposal, terms: Terms) -> bool {
    let offers_none = of_kind(theirs, kind).any(|one| one.id == NONE);
    let (their_count, our_count) = (of_kind(theirs, kind).count(), of_kind(ours, kind).count());
    match kind {
        // What only one side mentions: no integrity beside an AEAD, no ESN, no group in a Child SA.
        INTEGRITY if our_count == 0 => their_count == 0 || offers_none,
        KEY_EXCHANGE if our_count == 0 => true,
        KEY_EXCHANGE | INTEGRITY if their_count == 0 => ours.protocol == Protocol::Esp && kind == KEY_EXCHANGE,
        ADDITIONAL_KEY_EXCHANGE_1..=ADDITIONAL_KEY_EXCHANGE_7 if our_count == 0 => {
            let kem = |one: &Transform| terms.further.kems(terms.profile).iter().any(|kem| kem.id() == one.id);
            offers_none || of_kind(theirs, kind).any(kem)
        }
        ESN if their_count == 0 => true,
        _ => of_kind(theirs, kind).any(|one| of_kind(ours, kind).any(|own| own == one)),
    }
}

/// One transform of each type that we need: theirs where there is an acceptable one, else our favourite.
fn add_there(theirs: Option<&Proposal>, ours: Option<&Proposal>) -> String {
    let Some(ours) = ours else { return String::new() };
    let mut wanted: Vec<Transform> = Vec::new();
    for transform in &ours.transforms {
        if wanted.iter().any(|one| one.kind == transform.kind) {
            continue;
        }
        let common =
            of_kind(ours, transform.kind).find(|own| theirs.is_some_and(|theirs| theirs.transforms.contains(own)));
        wanted.push(*common.unwrap_or(transform));
    }
    // strongSwan takes the prf from the integrity algorithm where they are the same hash.
    let same_hash = |prf: &Transform| wanted.iter().any(|one| one.kind == INTEGRITY && one.id == prf.id + 7);
    let implied = wanted.iter().find(|one| one.kind == PRF && same_hash(one)).copied();
    wanted.retain(|one| Some(*one) != implied);
    spelled(&wanted)
}

fn outdated(theirs: &[&Proposal]) -> Vec<&'static str> {
    let mut found: Vec<&'static str> =
        theirs.iter().flat_map(|one| &one.transforms).filter_map(weakness).take(MAX_NAMES * MAX_PROPOSALS).collect();
    found.sort_unstable();
    found.dedup();
    found
}

impl NoProposal {
    /// "They offer ..."
    pub fn offered(&self) -> String {
        match self.offered.as_slice() {
            [] => "They offer nothing for this protocol.".to_owned(),
            offered => format!("They offer {}.", offered.join(", ")),
        }
    }

    /// "We accept ...", for each type in which nothing fits.
    pub fn accepted(&self) -> String {
        let profile = self.profile;
        if self.mismatches.is_empty() {
            return format!(
                "We accept (profile = \"{profile}\") every type of theirs by itself, but not together; for instance {}.",
                self.add_there
            );
        }
        let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let per_type = self.mismatches.iter().map(|one| {
            format!("for {} we accept {}, they offer {}", one.kind, list(&one.accepted), list(&one.offered))
        });
        format!("With profile = \"{profile}\", {}.", per_type.collect::<Vec<_>>().join("; "))
    }

    /// "Nearest: ..."
    pub fn nearest(&self) -> String {
        let (add, what) = (&self.add_there, if self.esp { "ESP" } else { "IKE" });
        let there = format!("add {add} to the {what} proposals on their side");
        match self.switch_here {
            Some(profile) => format!("Nearest: {there}, or set profile = \"{profile}\" on ours."),
            None if self.outdated.is_empty() => format!("Nearest: {there}."),
            None => format!(
                "Nearest: {there}. No profile of ours takes {}: they are no longer secure.",
                self.outdated.join(", ")
            ),
        }
    }
}

impl fmt::Display for NoProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.offered(), self.accepted(), self.nearest())
    }
}

/// As initiator: the responder refused our IKE_SA_INIT with notify `kind`.
pub fn refused_ike(profile: Profile, kind: u16) -> Cause {
    match kind {
        notify::NO_PROPOSAL_CHOSEN => {
            Cause::OurProposalRefused { esp: false, profile, offered: ours(profile, Protocol::Ike, true) }
        }
        kind => Cause::refused_us(kind),
    }
}

/// As initiator: the responder refused a Child SA with notify `kind`, for which we proposed these selectors.
pub fn refused_esp(profile: Profile, ours_proposed: &[Selector], theirs_proposed: &[Selector], kind: u16) -> Cause {
    match kind {
        notify::NO_PROPOSAL_CHOSEN => {
            Cause::OurProposalRefused { esp: true, profile, offered: ours(profile, Protocol::Esp, false) }
        }
        notify::TS_UNACCEPTABLE | notify::SINGLE_PAIR_REQUIRED => Cause::our_selectors(ours_proposed, theirs_proposed),
        kind => Cause::refused_us(kind),
    }
}

fn ours(profile: Profile, protocol: Protocol, group: bool) -> Vec<String> {
    let exchanges = Exchanges { group, further: if group { Further::ByProfile } else { Further::Never } };
    offer(profile, protocol, &[], exchanges).iter().map(|one| spelled(&one.transforms)).collect()
}
