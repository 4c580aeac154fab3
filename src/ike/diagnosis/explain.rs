//! Causes in words. Each begins with what happened; the other parts are there where there is something to say.

use std::fmt;

use serde::Serialize;

use super::Cause;
use super::selectors::list;
use crate::crypto::Group;
use crate::ike::auth::AuthError;
use crate::ike::proposal::{Profile, transform_name};
use crate::wire::ike::{Transform, notify, transform_kind};

/// Whole sentences for an operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub they_offer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub we_accept: Option<String>,
    /// The nearest change, on their side or on ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

impl Explanation {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Explanation { what: what.into(), they_offer: None, we_accept: None, nearest: None }
    }

    pub(super) fn offered(self, text: impl Into<String>) -> Self {
        Explanation { they_offer: Some(text.into()), ..self }
    }

    pub(super) fn accepted(self, text: impl Into<String>) -> Self {
        Explanation { we_accept: Some(text.into()), ..self }
    }

    pub(super) fn nearest(self, text: impl Into<String>) -> Self {
        Explanation { nearest: Some(text.into()), ..self }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        [&self.they_offer, &self.we_accept, &self.nearest]
            .into_iter()
            .flatten()
            .try_for_each(|part| write!(f, " {part}"))
    }
}

impl Cause {
    pub fn explain(&self) -> Explanation {
        match self {
            Cause::NoProposal(no) => {
                let what = if no.esp { "for the Child SA" } else { "for the IKE SA" };
                Explanation::new(format!("None of the algorithms that they propose {what} is acceptable."))
                    .offered(no.offered())
                    .accepted(no.accepted())
                    .nearest(no.nearest())
            }
            Cause::OurProposalRefused { esp, profile, offered } => our_proposal_refused(*esp, *profile, offered),
            Cause::AnswerNotOffered { answer } => {
                Explanation::new("They answered with algorithms that we did not offer, which no correct peer does.")
                    .offered(format!("They chose {answer}."))
                    .nearest("Nearest: have their side's software checked; its answer breaks RFC 7296 section 3.3.6.")
            }
            Cause::GroupRefused { wanted } => group_refused(*wanted),
            Cause::KeyExchangeFailed => {
                Explanation::new("The key exchange failed: their public value is not one of the group.")
                    .nearest("Nearest: choose another group on their side; a correct peer does not send such a value.")
            }
            Cause::NoIntermediate => Explanation::new(
                "They offer an additional key exchange (RFC 9370) without IKE_INTERMEDIATE (RFC 9242), which would carry it.",
            )
            .nearest("Nearest: have their side's software updated, or leave ML-KEM out on their side and profile = \"pq\" on ours."),
            Cause::CookieLoop { attempts } => Explanation::new(format!(
                "They asked for a cookie {attempts} times and never took it: they are under heavy load, or something \
                 changes our source address between packets."
            ))
            .nearest("Nearest: look for a NAT that changes our address, or wait until their side is less busy."),
            Cause::TooManyHalfOpen { limit } => Explanation::new(format!(
                "Too many handshakes were begun and not finished (limit {limit}), so this one was not taken up."
            ))
            .nearest("Nearest: find who sends them, or raise the limit of half-open SAs under [ike] on our side."),
            Cause::TooManyFragments { limit } => Explanation::new(format!(
                "Callers that had not proved who they are sent fragments of more than {limit} bytes together and not the \
                 rest of them, so the oldest were dropped, these."
            ))
            .nearest("Nearest: find who sends them; a peer sends its own again and needs nothing."),
            Cause::TooManySas { limit } => {
                Explanation::new(format!("The peer already has as many SAs as it may have (limit {limit})."))
                    .nearest("Nearest: delete old SAs on their side (strongSwan: uniqueids), or raise the limit on ours.")
            }
            Cause::Selectors(mismatch) => mismatch.explain(),
            Cause::OurSelectorsRefused { ours, theirs } => Explanation::new(
                "They refused our traffic selectors (TS_UNACCEPTABLE), and do not say which they want.",
            )
            .accepted(format!("We asked for {} on our side and {} on theirs.", list(ours), list(theirs)))
            .nearest(
                "Nearest: set the same networks on their side, mirrored (strongSwan: their local_ts are our \"theirs\", \
                 their remote_ts our \"ours\"), or selectors = \"pairs\" on ours for a peer that takes one pair per child.",
            ),
            Cause::PeerSent { notify } => peer_sent(*notify),
            Cause::PutOff { minutes } => Explanation::new(format!(
                "For {minutes} minutes they answered nothing but \"not now\" (TEMPORARY_FAILURE) when we wanted new keys, so \
                 the IKE SA is closed and made anew."
            ))
            .nearest("Nearest: look on their side for a rekey or a deletion that does not come to its end."),
            other => other.explain_silence().or_else(|| other.explain_identity()).unwrap_or_else(|| other.explain_form()),
        }
    }

    /// Messages that did not come.
    fn explain_silence(&self) -> Option<Explanation> {
        Some(match self {
            Cause::NoAnswer { sends } => {
                Explanation::new(format!("No answer to a request that was sent {sends} times.")).nearest(
                    "Nearest: check the peer's address, that it is running, and that firewalls on the way let UDP ports 500 \
                     and 4500 through in both directions.",
                )
            }
            Cause::FragmentsLost { present, total } => Explanation::new(format!(
                "Only {present} of {total} fragments of a message arrived: something on the way drops long or fragmented \
                 packets."
            ))
            .nearest(
                "Nearest: lower the fragment size on their side (strongSwan: fragment_size = 1232), or let the path carry \
                 1,280-byte packets.",
            ),
            Cause::TooLarge { bytes } => Explanation::new(format!(
                "A message of {bytes} bytes would have to be fragmented, which they do not support (RFC 7383)."
            ))
            .nearest("Nearest: switch IKE fragmentation on on their side (strongSwan: fragmentation = yes), or use smaller certificates."),
            Cause::NeverAuthenticated => {
                Explanation::new("They agreed on algorithms and did not go on to authenticate themselves.")
            }
            .nearest(
                "Nearest: look into their log; most often our answers do not reach them, they refused our answer, or UDP \
                 port 4500 is blocked on the way.",
            ),
            Cause::PeerGone { requests } => {
                Explanation::new(format!("The peer was up and no longer answers ({requests} requests): it is taken for gone."))
                    .nearest("Nearest: check that the peer is running and the path to it is open; we call again by ourselves.")
            }
            Cause::Expired => Explanation::new("An SA reached the end of its life before a new one could replace it.")
                .nearest("Nearest: see the failures before this one for why rekeying failed; or lengthen the lifetimes on ours."),
            Cause::DeletedByPeer => Explanation::new("They deleted the IKE SA in the middle of a negotiation.")
                .nearest("Nearest: their log says why; most often they refuse what was negotiated."),
            _ => return None,
        })
    }

    /// Who they are, and who we are.
    fn explain_identity(&self) -> Option<Explanation> {
        Some(match self {
            Cause::Authentication(AuthError::WrongPsk) => {
                Explanation::new("Wrong preshared key: theirs and ours differ.").nearest(
                    "Nearest: put the same key on both sides (ours: psk_file; strongSwan: secrets in swanctl.conf, for the \
                     right pair of identities; mind blanks and line ends).",
                )
            }
            Cause::Authentication(error) => Explanation::new(sentence(&error.to_string())),
            Cause::OwnProof(why) => Explanation::new(format!("We could not prove our own identity: {why}."))
                .nearest("Nearest: check the certificate and private key of our side."),
            Cause::RefusedByPeer => Explanation::new(
                "They refused our proof of identity (AUTHENTICATION_FAILED), and by the standard do not say why.",
            )
            .nearest(
                "Nearest: compare the preshared key and both identities on the two sides; with certificates, check that \
                 they trust our authority and that ours has not expired. Their log has the reason.",
            ),
            Cause::Identity(why) => {
                Explanation::new(format!("Their identity cannot be used: {why}.")).nearest(
                    "Nearest: set an identity on their side that is a host name, e-mail address, IP address or \
                     distinguished name (strongSwan: local.id).",
                )
            }
            Cause::WrongIdentity { theirs, expected } => {
                Explanation::new("They proved to be another one than we expect, or claim to be.")
                    .offered(format!("They say that they are {theirs}."))
                    .accepted(format!("We expect {expected}."))
                    .nearest(format!(
                        "Nearest: set their identity to {expected} on their side (strongSwan: local.id), or remote_id = \
                         \"{theirs}\" on ours."
                    ))
            }
            Cause::UnknownIdentity { theirs, known } => {
                let explanation = Explanation::new("No peer with their identity is configured.")
                    .offered(format!("They say that they are {theirs}."));
                match known {
                    Some(known) => explanation.accepted(format!("We know {known}.")).nearest(format!(
                        "Nearest: set their identity to {known} on their side (strongSwan: local.id), or remote_id = \
                         \"{theirs}\" on ours."
                    )),
                    None => explanation.nearest(format!("Nearest: add a realm whose attachment has remote_id = \"{theirs}\".")),
                }
            }
            Cause::WrongLocalIdentity { wanted, ours } => Explanation::new("They ask for another one than us.")
                .offered(format!("They expect to reach {wanted}."))
                .accepted(format!("We are {ours}."))
                .nearest(format!(
                    "Nearest: set remote.id = {ours} on their side, or local_id = \"{wanted}\" on ours."
                )),
            Cause::EapWanted => Explanation::new("They want to authenticate by EAP, which is for remote users.")
                .accepted("We accept a preshared key or a certificate.")
                .nearest("Nearest: set authentication by psk or pubkey on their side (strongSwan: local.auth)."),
            Cause::PpkRequired => {
                Explanation::new("We require a postquantum preshared key (PPK, RFC 8784), and they use none.")
                    .nearest("Nearest: configure the same PPK on their side, or make it optional on ours.")
            }
            Cause::PpkUnknown => Explanation::new(
                "Their postquantum preshared key (PPK, RFC 8784) is not ours, or goes by another name.",
            )
            .nearest("Nearest: put the same PPK and PPK identity on both sides."),
            _ => return None,
        })
    }

    /// Messages that are none.
    fn explain_form(&self) -> Explanation {
        let checked = "Nearest: have their side's software checked or updated; this breaks RFC 7296.";
        match self {
            Cause::Parse(error) => {
                Explanation::new(format!("A message of theirs is malformed: {error}.")).nearest(checked)
            }
            Cause::UnsupportedCritical { payload } => Explanation::new(format!(
                "They sent a payload of type {payload}, which we do not know, and insist on it being understood."
            ))
            .nearest("Nearest: switch the extension that needs it off on their side."),
            Cause::Version { version } => {
                Explanation::new(format!("They speak version {}.{} of IKE.", version >> 4, version & 15))
                    .accepted("We speak version 2 (IKEv1 is deprecated by RFC 9395).")
                    .nearest("Nearest: set IKEv2 on their side (strongSwan: version = 2).")
            }
            _ => Explanation::new(
                "A message of theirs lacks a payload that must be there, or has one where none can be.",
            )
            .nearest(checked),
        }
    }
}

fn our_proposal_refused(esp: bool, profile: Profile, offered: &[String]) -> Explanation {
    let what = if esp { "the Child SA" } else { "the IKE SA" };
    let other = match profile {
        Profile::Modern => "profile = \"compat\" on ours if they are an older device",
        Profile::Pq => "profile = \"modern\" on ours if they do not know ML-KEM",
        Profile::Compat => "an update of their software if they only know what is no longer secure",
    };
    Explanation::new(format!(
        "They refused all algorithms that we offer for {what} (NO_PROPOSAL_CHOSEN), and do not say which they want."
    ))
    .accepted(format!("We offer (profile = \"{profile}\") {}.", offered.join(", ")))
    .nearest(format!("Nearest: allow one of each kind of these on their side, or {other}."))
}

fn group_refused(wanted: Option<u16>) -> Explanation {
    let explanation = Explanation::new("They insist on a key exchange group that we did not offer.");
    let Some(id) = wanted else {
        return Explanation::new("They refused our key exchange group and did not name one that they want.")
            .nearest("Nearest: allow x25519 or ecp256 on their side.");
    };
    let name = transform_name(&Transform::new(transform_kind::KEY_EXCHANGE, id));
    let here = Profile::ALL.into_iter().find(|profile| profile.groups().iter().any(|group| group.id() == id));
    let nearest = match (Group::from_id(id), here) {
        (Some(_), Some(profile)) => {
            format!("Nearest: allow x25519 on their side, or set profile = \"{profile}\" on ours.")
        }
        _ => "Nearest: allow x25519, ecp256 or modp3072 on their side; no profile of ours has that group.".to_owned(),
    };
    explanation.offered(format!("They want {name} (group {id}).")).nearest(nearest)
}

fn peer_sent(kind: u16) -> Explanation {
    let (what, nearest) = match kind {
        notify::NO_ADDITIONAL_SAS => (
            "they allow no further SA on this IKE SA",
            "raise the number of children on their side, or ask for fewer selector pairs on ours",
        ),
        notify::TEMPORARY_FAILURE => (
            "they are busy with something that excludes our request",
            "nothing, we try again; if it stays, their side has an exchange that never ends",
        ),
        notify::CHILD_SA_NOT_FOUND => (
            "they no longer have the SA that we wanted to rekey",
            "nothing, a new one is made; if it comes often, compare the lifetimes of both sides",
        ),
        notify::INVALID_SYNTAX => ("they could not read our message", "their log says which payload"),
        notify::UNSUPPORTED_CRITICAL_PAYLOAD => ("they do not know a payload that we need", "update their software"),
        notify::INVALID_MAJOR_VERSION => ("they do not speak IKEv2", "set IKEv2 on their side"),
        notify::SINGLE_PAIR_REQUIRED => {
            ("they take one pair of networks per Child SA", "set selectors = \"pairs\" for this peer on our side")
        }
        notify::FAILED_CP_REQUIRED | notify::INTERNAL_ADDRESS_FAILURE => (
            "they want to give us an address, as to a remote user",
            "configure us as a gateway (site to site) on their side",
        ),
        notify::UNACCEPTABLE_ADDRESSES | notify::UNEXPECTED_NAT_DETECTED => {
            ("they do not accept a change of addresses", "look for a NAT on the way")
        }
        _ => ("they give no further reason", "their log says why"),
    };
    Explanation::new(format!("They refused with {} ({kind}): {what}.", notify::name(kind)))
        .nearest(format!("Nearest: {nearest}."))
}

/// A clause as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}
