//! IKE_AUTH (RFC 7296 section 1.2): who they are, how they prove it, and the first Child SA.
//!
//! ```text
//! IDi, [CERT, CERTREQ,] IDr, AUTH, SAi2, TSi, TSr, notifies ->
//!                                                <- IDr, [CERT,] AUTH, SAr2, TSi, TSr, notifies
//!                                                or AUTHENTICATION_FAILED, and nothing more is said
//! ```
//!
//! AUTH covers the side's own IKE_SA_INIT message, the other's nonce, its own identity (section 2.15), and every
//! IKE_INTERMEDIATE (RFC 9242). With a PPK (RFC 8784) SK_d, SK_pi and SK_pr are mixed before; if the other side does not
//! know it, and we do not insist, they go back to what they were.

use std::collections::VecDeque;

use crate::crypto::{Group, KeyShare, Prf};
use crate::ike::auth::{self, Identity, Ppk, RemoteAuth};
use crate::ike::child::{self, Agreed, SelectorPair};
use crate::ike::context::{Context, Effect};
use crate::ike::diagnosis::{Cause, Stage as FailureStage};
use crate::ike::event::{DownReason, Event, Outbound, Role};
use crate::ike::keys::{ChildExchange, Secret, Shared, child_keys};
use crate::ike::message::{Contents, notify, refusal};
use crate::ike::peer::SharedPeer;
use crate::ike::proposal;
use crate::ike::sa::{IkeSa, Session, Stage, Task};
use crate::wire::ike::{ExchangeType, Header, Identification, Notify, Payload, notify as kinds};

/// What IKE_SA_INIT has left for IKE_AUTH.
#[derive(Default)]
pub(in crate::ike) struct Handshake {
    pub step: Step,
    pub init_request: Vec<u8>,
    pub init_response: Vec<u8>,
    /// Key exchanges that are still to be made in IKE_INTERMEDIATE.
    pub further: VecDeque<Group>,
    pub intermediate: IntAuth,
    /// Both sides can use a PPK.
    pub use_ppk: bool,
    /// SK_d, SK_pi, SK_pr before the PPK was mixed in.
    pub without_ppk: Option<[Secret; 3]>,
}

/// What a handshake waits for.
#[derive(Default)]
pub(in crate::ike) enum Step {
    /// As initiator, between two messages.
    #[default]
    Next,
    /// As responder: for their next request.
    HalfOpen,
    IntermediateSent(Box<KeyShare>),
    AuthSent(Box<FirstChild>),
}

/// The Child SA that our IKE_AUTH proposes.
pub(in crate::ike) struct FirstChild {
    pub spi_in: u32,
    proposed: SelectorPair,
    rest: Vec<SelectorPair>,
}

/// RFC 9242 section 3.3.2: a chain of MACs over each side's IKE_INTERMEDIATE messages.
#[derive(Default)]
pub(in crate::ike) struct IntAuth {
    pub initiator: Option<Secret>,
    pub responder: Option<Secret>,
}

const PPK_ID_FIXED: u8 = 2;

impl Handshake {
    /// What a side signs (section 2.15).
    fn signed_octets(&self, session: &Session, signer: Role, id: &Identification, mid: u32) -> Vec<u8> {
        let (message, nonce, key) = match signer {
            Role::Initiator => (&self.init_request, &session.nonces().responder, &session.pi),
            Role::Responder => (&self.init_response, &session.nonces().initiator, &session.pr),
        };
        let id_body = [&[id.kind, 0, 0, 0], id.data.as_slice()].concat();
        let mut octets = [message.as_slice(), nonce].concat();
        octets.extend_from_slice(&session.choice.prf.compute(key, &[&id_body]));
        if let (Some(initiator), Some(responder)) = (&self.intermediate.initiator, &self.intermediate.responder) {
            octets.extend_from_slice(initiator);
            octets.extend_from_slice(responder);
            octets.extend_from_slice(&mid.to_be_bytes());
        }
        octets
    }
}

impl Session {
    fn mix_ppk(&mut self, ppk: &Ppk) -> [Secret; 3] {
        let prf = self.choice.prf;
        let mixed = |key: &Secret| prf.plus(&ppk.secret, &[key.as_slice()], key.len());
        let (d, pi, pr) = (mixed(&self.d), mixed(&self.pi), mixed(&self.pr));
        self.adopt([d, pi, pr])
    }

    /// Gives back what they were.
    fn adopt(&mut self, [d, pi, pr]: [Secret; 3]) -> [Secret; 3] {
        [std::mem::replace(&mut self.d, d), std::mem::replace(&mut self.pi, pi), std::mem::replace(&mut self.pr, pr)]
    }
}

impl IkeSa {
    /// As initiator: the next message of the handshake, IKE_INTERMEDIATE or IKE_AUTH.
    pub(in crate::ike) fn go_on(&mut self, cx: &mut Context<'_>) {
        let Stage::Handshake(handshake) = &mut self.stage else { return };
        match handshake.further.pop_front() {
            Some(group) => self.send_intermediate(group, cx),
            None => self.send_auth(cx),
        }
    }

    pub(in crate::ike) fn accept_handshake_response(
        &mut self,
        header: &Header,
        payloads: &[Payload],
        cx: &mut Context<'_>,
    ) {
        let Stage::Handshake(handshake) = &mut self.stage else { return };
        match std::mem::take(&mut handshake.step) {
            Step::IntermediateSent(share) => self.accept_intermediate(*share, payloads, cx),
            Step::AuthSent(first) => self.accept_auth(*first, header, payloads, cx),
            Step::Next | Step::HalfOpen => self.end(DownReason::Failed),
        }
    }

    fn send_auth(&mut self, cx: &mut Context<'_>) {
        let Some(peer) = self.peer.clone() else { return };
        let mid = self.outgoing.next_id();
        let mut selectors = child::proposed(&peer, cx.limits.selectors);
        let first = match selectors.is_empty() {
            true => SelectorPair::default(),
            false => selectors.remove(0),
        };
        let spi_in = cx.child_spi();
        let Some((mut payloads, no_ppk)) = self.prove(&peer, Role::Initiator, mid, cx) else { return };
        payloads.insert(payloads.len() - 1, Payload::IdResponder(peer.remote_id.to_identification()));
        if cx.peers.is_forgotten(peer.tunnel) {
            payloads.push(notify(kinds::INITIAL_CONTACT, []));
        }
        if let Some(ppk) = peer.ppk.as_ref().filter(|_| self.uses_ppk()) {
            payloads.push(notify(kinds::PPK_IDENTITY, [&[PPK_ID_FIXED], ppk.id.as_slice()].concat()));
            payloads.extend(no_ppk.map(|data| notify(kinds::NO_PPK_AUTH, data)));
        }
        payloads.push(Payload::SecurityAssociation(proposal::esp_proposals(peer.profile, spi_in, false)));
        payloads.push(Payload::SelectorsInitiator(first.ours.clone()));
        payloads.push(Payload::SelectorsResponder(first.theirs.clone()));
        self.send_request(ExchangeType::AUTH, &payloads, cx);
        if let Stage::Handshake(handshake) = &mut self.stage {
            handshake.step = Step::AuthSent(Box::new(FirstChild { spi_in, proposed: first, rest: selectors }));
        }
    }

    fn uses_ppk(&self) -> bool {
        matches!(&self.stage, Stage::Handshake(handshake) if handshake.use_ppk)
    }

    /// Our ID, certificates and AUTH (the last of them), and the AUTH data that holds without the PPK.
    fn prove(
        &mut self,
        peer: &SharedPeer,
        role: Role,
        mid: u32,
        cx: &mut Context<'_>,
    ) -> Option<(Vec<Payload>, Option<Vec<u8>>)> {
        let id = peer.local_id.to_identification();
        let (Stage::Handshake(handshake), Some(session)) = (&mut self.stage, &mut self.session) else { return None };
        let hashes = &self.abilities.hash_algorithms;
        let prf = session.choice.prf;
        let ppk = peer.ppk.as_ref().filter(|_| role.is_initiator() && handshake.use_ppk);
        let plain = handshake.signed_octets(session, role, &id, mid);
        let mut no_ppk = None;
        let octets = match ppk {
            Some(ppk) => {
                if !ppk.required {
                    no_ppk = peer.local_auth.prove(prf, &plain, hashes).ok().map(|proof| proof.data);
                }
                handshake.without_ppk = Some(session.mix_ppk(ppk));
                handshake.signed_octets(session, role, &id, mid)
            }
            None => plain,
        };
        let proof = match peer.local_auth.prove(prf, &octets, hashes) {
            Ok(proof) => proof,
            Err(error) => {
                cx.fail(Some(peer.tunnel), self.path, FailureStage::Auth, Cause::OwnProof(error.to_string()));
                self.end(DownReason::Failed);
                return None;
            }
        };
        let mut payloads = vec![match role {
            Role::Initiator => Payload::IdInitiator(id),
            Role::Responder => Payload::IdResponder(id),
        }];
        payloads.extend(peer.local_auth.certificate_payloads());
        if role.is_initiator() {
            payloads.extend(peer.remote_auth.certificate_request());
        }
        payloads.push(Payload::Authentication { method: proof.method, data: proof.data });
        Some((payloads, no_ppk))
    }

    fn accept_auth(&mut self, first: FirstChild, header: &Header, payloads: &[Payload], cx: &mut Context<'_>) {
        let Some(peer) = self.peer.clone() else { return };
        let contents = Contents(payloads);
        let Some((method, data)) = contents.authentication() else {
            let kind = contents.error().map_or(kinds::AUTHENTICATION_FAILED, |error| error.kind);
            cx.child_spis.release(first.spi_in);
            return self.auth_failed(Cause::refused_us(kind), cx);
        };
        if let Err(cause) = self.check_responder(&peer, header, &contents, (method, data), cx) {
            cx.child_spis.release(first.spi_in);
            self.auth_failed(cause, cx);
            // Section 2.21.2: the responder believes that the SA is up.
            self.stage = Stage::Established;
            self.ended = None;
            return self.want_first(Task::DeleteIke);
        }
        self.abilities.mobike = false; // as initiator we do not move
        self.establish(peer.clone(), &contents, cx);
        self.accept_first_child(&peer, first, &contents, cx);
    }

    fn check_responder(
        &mut self,
        peer: &SharedPeer,
        header: &Header,
        contents: &Contents<'_>,
        auth: (u8, &[u8]),
        cx: &Context<'_>,
    ) -> Result<(), Cause> {
        let id = contents.id_responder().ok_or(Cause::Malformed)?;
        let identity = Identity::from_identification(id).map_err(|error| Cause::Identity(error.to_string()))?;
        if identity != peer.remote_id {
            return Err(Cause::WrongIdentity { theirs: identity.to_string(), expected: peer.remote_id.to_string() });
        }
        let (Stage::Handshake(handshake), Some(session)) = (&mut self.stage, &mut self.session) else {
            return Err(Cause::Malformed);
        };
        // RFC 8784 section 3: no PPK_IDENTITY in the answer, no PPK in use.
        if !contents.has(kinds::PPK_IDENTITY)
            && let Some(without) = handshake.without_ppk.take()
        {
            if peer.ppk.as_ref().is_some_and(|ppk| ppk.required) {
                return Err(Cause::PpkRequired);
            }
            session.adopt(without);
        } else if peer.ppk.as_ref().is_some_and(|ppk| ppk.required) && !handshake.use_ppk {
            return Err(Cause::PpkRequired);
        }
        let octets = handshake.signed_octets(session, Role::Responder, id, header.message_id);
        verify(peer, session.choice.prf, auth, &octets, contents, cx)
    }

    fn accept_first_child(
        &mut self,
        peer: &SharedPeer,
        first: FirstChild,
        contents: &Contents<'_>,
        cx: &mut Context<'_>,
    ) {
        let agreed = self.agree_first_child(peer, &first, contents);
        for pair in first.rest {
            self.want(Task::NewChild(pair), cx);
        }
        match agreed {
            Ok(agreed) => {
                self.install(agreed, cx);
                self.want_uncovered(&first.proposed, cx);
            }
            Err(cause) => {
                cx.child_spis.release(first.spi_in);
                self.child_failed(first.proposed, cause, cx);
            }
        }
    }

    fn agree_first_child(
        &self,
        peer: &SharedPeer,
        first: &FirstChild,
        contents: &Contents<'_>,
    ) -> Result<Agreed, Cause> {
        let error = contents.error().map(|error| error.kind);
        let (None, Some(proposals), Some((ours, theirs))) = (error, contents.proposals(), contents.selectors()) else {
            let kind = error.unwrap_or(kinds::NO_PROPOSAL_CHOSEN);
            return Err(proposal::refused_esp(peer.profile, &first.proposed.ours, &first.proposed.theirs, kind));
        };
        let (choice, spi_out) = proposal::accept_esp(proposals, peer.profile, false)?;
        let selectors = SelectorPair { ours: ours.to_vec(), theirs: theirs.to_vec() };
        if !child::is_narrowed(&selectors, &first.proposed) {
            return Err(Cause::selectors(&first.proposed.ours, &first.proposed.theirs, ours, theirs));
        }
        let keys = self.first_child_keys(&choice).ok_or(Cause::Malformed)?;
        let (role, outbound) = (Role::Initiator, Outbound::Now);
        let (spi_in, asked) = (first.spi_in, Some(first.proposed.clone()));
        Ok(Agreed { spi_in, spi_out, choice, keys, selectors, asked, role, replaces: None, outbound })
    }

    /// Section 2.17: from the nonces of IKE_SA_INIT.
    fn first_child_keys(&self, choice: &proposal::EspChoice) -> Option<crate::ike::event::ChildKeys> {
        let session = self.session.as_ref()?;
        let shared = Shared::default();
        let we_began = self.role.is_initiator();
        let exchange = ChildExchange { nonces: session.nonces(), shared: &shared, we_began };
        Some(child_keys(session.choice.prf, &session.d, choice.suite, &exchange))
    }

    /// IKE_AUTH as responder. The answer to anything wrong is AUTHENTICATION_FAILED, whatever it was.
    pub(in crate::ike) fn answer_auth(
        &mut self,
        header: &Header,
        payloads: &[Payload],
        cx: &mut Context<'_>,
    ) -> Option<Vec<Payload>> {
        let contents = Contents(payloads);
        let mut known = None;
        match self.check_initiator(header, &contents, &mut known, cx) {
            Ok(peer) => self.answer_authentic(&peer, header, &contents, cx),
            Err(cause) => {
                cx.fail(known, self.path, FailureStage::Auth, cause);
                self.end(DownReason::Failed);
                Some(refusal(kinds::AUTHENTICATION_FAILED))
            }
        }
    }

    /// The peer that the initiator proved to be. `known`: the one that it claims to be.
    fn check_initiator(
        &mut self,
        header: &Header,
        contents: &Contents<'_>,
        known: &mut Option<crate::net::TunnelId>,
        cx: &Context<'_>,
    ) -> Result<SharedPeer, Cause> {
        let id = contents.id_initiator().ok_or(Cause::Malformed)?;
        let identity = Identity::from_identification(id).map_err(|error| Cause::Identity(error.to_string()))?;
        let wanted = contents.id_responder().and_then(|id| Identity::from_identification(id).ok());
        let peer = cx.peers.by_identity(&identity, wanted.as_ref())?;
        *known = Some(peer.tunnel);
        let auth = contents.authentication().ok_or(Cause::EapWanted)?;
        let (Stage::Handshake(handshake), Some(session)) = (&mut self.stage, &mut self.session) else {
            return Err(Cause::Malformed);
        };
        if !handshake.further.is_empty() {
            return Err(Cause::Malformed); // RFC 9370: all of them come before
        }
        proposal::is_allowed(&session.choice, peer.profile)?;
        let data = mix_claimed_ppk(&peer, handshake, session, contents, auth.1)?;
        let octets = handshake.signed_octets(session, Role::Initiator, id, header.message_id);
        verify(&peer, session.choice.prf, (auth.0, data), &octets, contents, cx)?;
        Ok(peer)
    }

    fn answer_authentic(
        &mut self,
        peer: &SharedPeer,
        header: &Header,
        contents: &Contents<'_>,
        cx: &mut Context<'_>,
    ) -> Option<Vec<Payload>> {
        let with_ppk = matches!(&self.stage, Stage::Handshake(handshake) if handshake.without_ppk.is_some());
        let Some((mut payloads, _)) = self.prove(peer, Role::Responder, header.message_id, cx) else {
            return Some(refusal(kinds::AUTHENTICATION_FAILED));
        };
        payloads.extend(with_ppk.then(|| notify(kinds::PPK_IDENTITY, [])));
        self.abilities.mobike = contents.has(kinds::MOBIKE_SUPPORTED);
        payloads.extend(self.abilities.mobike.then(|| notify(kinds::MOBIKE_SUPPORTED, [])));
        self.establish(peer.clone(), contents, cx);
        self.proved_in = Some(header.message_id);
        payloads.extend(self.answer_first_child(peer, contents, cx));
        if contents.has(kinds::INITIAL_CONTACT) {
            cx.effects.push(Effect::Forget { tunnel: peer.tunnel, except: self.our_spi });
        }
        Some(payloads)
    }

    fn answer_first_child(&mut self, peer: &SharedPeer, contents: &Contents<'_>, cx: &mut Context<'_>) -> Vec<Payload> {
        let (Some(proposals), Some((theirs, ours))) = (contents.proposals(), contents.selectors()) else {
            return Vec::new(); // childless (RFC 6023), or malformed: the SA stands without
        };
        let (choice, spi_out) = match proposal::choose_esp(proposals, peer.profile, None) {
            Ok(chosen) => chosen,
            Err(cause) => {
                cx.fail(Some(peer.tunnel), self.path, FailureStage::Child, cause);
                return refusal(kinds::NO_PROPOSAL_CHOSEN);
            }
        };
        let offered = SelectorPair { ours: ours.to_vec(), theirs: theirs.to_vec() };
        let Some(selectors) = child::accepted(peer, &offered, cx.limits.selectors) else {
            let cause = Cause::selectors(&peer.ours, &peer.theirs, ours, theirs);
            cx.fail(Some(peer.tunnel), self.path, FailureStage::Child, cause);
            return refusal(kinds::TS_UNACCEPTABLE);
        };
        let Some(keys) = self.first_child_keys(&choice) else { return refusal(kinds::NO_PROPOSAL_CHOSEN) };
        let spi_in = cx.child_spi();
        let answer = vec![
            Payload::SecurityAssociation(vec![proposal::emit_esp(&choice, spi_in)]),
            Payload::SelectorsInitiator(selectors.theirs.clone()),
            Payload::SelectorsResponder(selectors.ours.clone()),
        ];
        let (role, outbound) = (Role::Responder, Outbound::WhenHeard);
        let agreed = Agreed { spi_in, spi_out, choice, keys, selectors, asked: None, role, replaces: None, outbound };
        self.install(agreed, cx);
        answer
    }

    fn establish(&mut self, peer: SharedPeer, contents: &Contents<'_>, cx: &mut Context<'_>) {
        if matches!(peer.remote_auth, RemoteAuth::Certificate(_)) {
            let kept = |(encoding, data): (u8, &[u8])| (encoding, data.to_vec());
            self.certificates = contents.certificates().into_iter().map(kept).collect();
            self.await_end_of_certificate(cx);
        }
        self.stage = Stage::Established;
        self.established_at = Some(cx.now);
        self.timers.expires_at = Some(cx.now + child::hard_lifetime(peer.lifetimes.ike));
        self.timers.rekey_at = Some(cx.now + child::soft_lifetime(peer.lifetimes.ike, cx.jitter()));
        self.timers.liveness_at = Some(cx.now);
        cx.events.push(Event::Up { tunnel: peer.tunnel, path: self.path, role: self.role });
        self.peer = Some(peer);
    }

    fn auth_failed(&mut self, cause: Cause, cx: &mut Context<'_>) {
        cx.fail(self.tunnel(), self.path, FailureStage::Auth, cause);
        self.end(DownReason::Failed);
    }
}

/// RFC 8784 section 3, as responder: mixes the PPK that the initiator names, if it is ours. The AUTH data that holds.
fn mix_claimed_ppk<'a>(
    peer: &SharedPeer,
    handshake: &mut Handshake,
    session: &mut Session,
    contents: &Contents<'a>,
    data: &'a [u8],
) -> Result<&'a [u8], Cause> {
    let named = contents.notify(kinds::PPK_IDENTITY).filter(|_| handshake.use_ppk);
    let ours = peer.ppk.as_ref();
    let is_ours = |named: &Notify, ppk: &Ppk| named.data.split_first() == Some((&PPK_ID_FIXED, ppk.id.as_slice()));
    match (named, ours) {
        (Some(named), Some(ppk)) if is_ours(named, ppk) => {
            handshake.without_ppk = Some(session.mix_ppk(ppk));
            Ok(data)
        }
        (_, Some(ppk)) if ppk.required => Err(Cause::PpkRequired),
        (Some(_), _) => match contents.notify(kinds::NO_PPK_AUTH) {
            Some(without) => Ok(&without.data),
            None => Err(Cause::PpkUnknown),
        },
        (None, _) => Ok(data),
    }
}

fn verify(
    peer: &SharedPeer,
    prf: Prf,
    (method, data): (u8, &[u8]),
    octets: &[u8],
    contents: &Contents<'_>,
    cx: &Context<'_>,
) -> Result<(), Cause> {
    let proof = auth::Proof { method, data: data.to_vec() };
    let certificates = contents.certificates();
    peer.remote_auth
        .verify(&proof, prf, octets, &peer.remote_id, &certificates, cx.unix_secs)
        .map_err(Cause::Authentication)
}
