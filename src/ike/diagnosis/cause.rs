//! Every way in which a negotiation ends without what was wanted.

use super::selectors::SelectorMismatch;
use crate::ike::auth::AuthError;
use crate::ike::proposal::{NoProposal, Profile};
use crate::net::Selector;
use crate::wire::ike::{ParseError, notify};

/// Identities and names that a peer sent are cut to this when they are kept.
pub(super) const MAX_TEXT_BYTES: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// As responder: none of their proposals.
    NoProposal(Box<NoProposal>),
    /// As initiator: NO_PROPOSAL_CHOSEN. They do not say why.
    OurProposalRefused {
        esp: bool,
        profile: Profile,
        offered: Vec<String>,
    },
    /// As initiator: they answered with what we did not offer.
    AnswerNotOffered {
        answer: String,
    },
    /// They insist on a group that we did not offer, or that we have tried.
    GroupRefused {
        wanted: Option<u16>,
    },
    /// A public value that is none, or no randomness here.
    KeyExchangeFailed,
    /// They offer additional key exchanges, but not the exchange that carries them (RFC 9242).
    NoIntermediate,
    /// They ask for a cookie again and again.
    CookieLoop {
        attempts: u32,
    },
    /// Our table of half-open SAs, or their share of it, was full.
    TooManyHalfOpen {
        limit: usize,
    },
    /// Those of half-open SAs took more than all of them may; the oldest, these, were dropped.
    TooManyFragments {
        limit: usize,
    },
    /// A peer or the endpoint has all the SAs that it may have.
    TooManySas {
        limit: usize,
    },

    /// Nothing came back.
    NoAnswer {
        sends: u32,
    },
    /// Some fragments of a message came, and the others did not.
    FragmentsLost {
        present: usize,
        total: usize,
    },
    /// A message that must be fragmented, for a peer that cannot (or it is beyond our limits).
    TooLarge {
        bytes: usize,
    },
    /// They began and never went on to IKE_AUTH.
    NeverAuthenticated,
    /// An established peer no longer answers.
    PeerGone {
        requests: u32,
    },
    /// An IKE SA or Child SA reached the end of its life before it could be replaced.
    Expired,
    /// They deleted the IKE SA while something was being negotiated.
    DeletedByPeer,

    /// A payload or field that must be there is missing, or stands where it cannot.
    Malformed,
    Parse(ParseError),
    UnsupportedCritical {
        payload: u8,
    },
    Version {
        version: u8,
    },

    /// Their proof of identity.
    Authentication(AuthError),
    /// Ours could not be made.
    OwnProof(String),
    /// As initiator: they answered AUTHENTICATION_FAILED. They do not say why.
    RefusedByPeer,
    /// Theirs cannot be read.
    Identity(String),
    /// As initiator: another one answers.
    WrongIdentity {
        theirs: String,
        expected: String,
    },
    /// As responder: nobody of that name is configured. `known`: whom we expect from there, or the most similar name.
    UnknownIdentity {
        theirs: String,
        known: Option<String>,
    },
    /// They ask for us by a name that is not ours.
    WrongLocalIdentity {
        wanted: String,
        ours: String,
    },
    /// No AUTH payload: they want EAP.
    EapWanted,
    /// RFC 8784: we require a postquantum preshared key and they have none in use.
    PpkRequired,
    /// Theirs is not ours, or has a name that we do not know.
    PpkUnknown,

    /// Nothing in common, as responder; or an answer beyond what was asked, as initiator.
    Selectors(Box<SelectorMismatch>),
    /// As initiator: TS_UNACCEPTABLE. They do not say why.
    OurSelectorsRefused {
        ours: Vec<Selector>,
        theirs: Vec<Selector>,
    },

    /// Any other error notify.
    PeerSent {
        notify: u16,
    },
    /// Nothing but TEMPORARY_FAILURE for so long; the IKE SA is closed.
    PutOff {
        minutes: u64,
    },
}

impl Cause {
    /// The answer to a request of ours was this error notify.
    pub fn refused_us(notify: u16) -> Cause {
        match notify {
            notify::AUTHENTICATION_FAILED => Cause::RefusedByPeer,
            notify => Cause::PeerSent { notify },
        }
    }

    /// As responder: what they ask for on our side and on theirs, against what is configured for each.
    pub fn selectors(
        ours_configured: &[Selector],
        theirs_configured: &[Selector],
        ours_offered: &[Selector],
        theirs_offered: &[Selector],
    ) -> Cause {
        let configured = (ours_configured, theirs_configured);
        Cause::Selectors(Box::new(SelectorMismatch::new(configured, (ours_offered, theirs_offered))))
    }

    /// As initiator: they refused these.
    pub fn our_selectors(ours: &[Selector], theirs: &[Selector]) -> Cause {
        let first = |list: &[Selector]| list.iter().take(super::selectors::MAX_KEPT).copied().collect();
        Cause::OurSelectorsRefused { ours: first(ours), theirs: first(theirs) }
    }

    /// As responder: nobody of that name is configured.
    pub fn unknown_identity(theirs: impl ToString, known: Option<String>) -> Cause {
        Cause::UnknownIdentity { theirs: theirs.to_string(), known }
    }

    /// For status and metrics, one word or two.
    pub fn name(&self) -> &'static str {
        match self {
            Cause::NoProposal(_) => "no_proposal",
            Cause::OurProposalRefused { .. } => "our_proposal_refused",
            Cause::AnswerNotOffered { .. } => "answer_not_offered",
            Cause::GroupRefused { .. } => "group_refused",
            Cause::KeyExchangeFailed => "key_exchange",
            Cause::NoIntermediate => "no_intermediate",
            Cause::CookieLoop { .. } => "cookie_loop",
            Cause::TooManyHalfOpen { .. } => "too_many_half_open",
            Cause::TooManyFragments { .. } => "too_many_fragments",
            Cause::TooManySas { .. } => "too_many_sas",
            Cause::NoAnswer { .. } => "no_answer",
            Cause::FragmentsLost { .. } => "fragments_lost",
            Cause::TooLarge { .. } => "too_large",
            Cause::NeverAuthenticated => "never_authenticated",
            Cause::PeerGone { .. } => "peer_gone",
            Cause::Expired => "expired",
            Cause::DeletedByPeer => "deleted_by_peer",
            Cause::Malformed | Cause::Parse(_) => "malformed",
            Cause::UnsupportedCritical { .. } => "unsupported_critical",
            Cause::Version { .. } => "version",
            Cause::Authentication(AuthError::WrongPsk) => "wrong_psk",
            Cause::Authentication(AuthError::Certificate(_)) => "certificate",
            Cause::Authentication(_) => "authentication",
            Cause::OwnProof(_) => "own_proof",
            Cause::RefusedByPeer => "refused_by_peer",
            Cause::Identity(_) => "identity",
            Cause::WrongIdentity { .. } => "wrong_identity",
            Cause::UnknownIdentity { .. } => "unknown_identity",
            Cause::WrongLocalIdentity { .. } => "wrong_local_identity",
            Cause::EapWanted => "eap_wanted",
            Cause::PpkRequired => "ppk_required",
            Cause::PpkUnknown => "ppk_unknown",
            Cause::Selectors(_) => "selectors",
            Cause::OurSelectorsRefused { .. } => "our_selectors_refused",
            Cause::PeerSent { .. } => "peer_sent",
            Cause::PutOff { .. } => "put_off",
        }
    }

    /// Cuts what a peer made long.
    pub(super) fn bounded(mut self) -> Cause {
        match &mut self {
            Cause::Identity(text) | Cause::OwnProof(text) | Cause::AnswerNotOffered { answer: text } => cut(text),
            Cause::WrongIdentity { theirs, expected: known }
            | Cause::WrongLocalIdentity { wanted: theirs, ours: known } => {
                cut(theirs);
                cut(known);
            }
            Cause::UnknownIdentity { theirs, known } => {
                cut(theirs);
                known.iter_mut().for_each(cut);
            }
            _ => {}
        }
        self
    }
}

impl From<AuthError> for Cause {
    fn from(error: AuthError) -> Self {
        Cause::Authentication(error)
    }
}

impl From<ParseError> for Cause {
    fn from(error: ParseError) -> Self {
        match error {
            ParseError::Version(version) => Cause::Version { version },
            ParseError::UnsupportedCritical(payload) => Cause::UnsupportedCritical { payload },
            ParseError::Malformed { .. } => Cause::Parse(error),
        }
    }
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push_str(" ...");
    }
}
