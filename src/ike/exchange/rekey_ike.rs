//! CREATE_CHILD_SA for the IKE SA itself (RFC 7296 sections 1.3.2 and 2.18).
//!
//! ```text
//! SA (with our new SPI), Ni, KEi ->
//!                                <- SA (with theirs), Nr, KEr
//! ```
//!
//! The new IKE SA begins with message ID 0 on both sides and inherits all Child SAs. Who began the exchange deletes the old
//! one; if both did, `collision.rs` says who.

use std::collections::VecDeque;
use std::time::Duration;

use super::create_child::CHILD_RETRY;
use super::followup::{self, Made};
use crate::crypto::{Group, KeyShare};
use crate::ike::child::{hard_lifetime, soft_lifetime};
use crate::ike::collision::{Crossed, Verdict, verdict};
use crate::ike::context::{Context, Effect};
use crate::ike::diagnosis::{Cause, Stage as FailureStage};
use crate::ike::event::{DownReason, Role};
use crate::ike::keys::{self, Nonces, SaKeys, Seed, Shared};
use crate::ike::limits::Limits;
use crate::ike::message::{self, Contents, refusal};
use crate::ike::proposal::{self, IkeChoice};
use crate::ike::sa::{IkeSa, Pending, Session, Stage, Task};
use crate::ike::window::{Incoming, Outgoing};
use crate::net::Timestamp;
use crate::wire::ike::{ExchangeType, Notify, Payload, notify as kinds};

/// An IKE SA that we have asked for.
pub(in crate::ike) struct IkeRequest {
    spi: u64,
    nonce: Vec<u8>,
    share: Option<KeyShare>,
    regrouped: bool,
    /// Theirs for the same IKE SA.
    pub crossed: Option<Crossed<u64>>,
    /// What has been agreed, while further key exchanges are made.
    deal: Option<(MadeIke, VecDeque<Group>)>,
}

/// An IKE SA that has been replaced waits so long to be deleted by the side that must.
const REPLACED: Duration = Duration::from_secs(60);

impl IkeSa {
    pub(in crate::ike) fn ask_to_rekey_ike(&mut self, group: Option<Group>, cx: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        let wanted = group.unwrap_or(session.choice.group);
        let Ok(share) = wanted.begin() else { return self.ike_rekey_failed(Cause::KeyExchangeFailed, cx) };
        let data = share.public().to_vec();
        let request = IkeRequest {
            spi: cx.ike_spi(),
            nonce: cx.nonce(),
            share: Some(share),
            regrouped: group.is_some(),
            crossed: None,
            deal: None,
        };
        let proposals = proposal::ike_rekey_proposals(self.profile(), request.spi);
        let payloads = [
            Payload::SecurityAssociation(proposals),
            Payload::Nonce(request.nonce.clone()),
            Payload::KeyExchange { group: wanted.id(), data },
        ];
        self.send_request(ExchangeType::CREATE_CHILD_SA, &payloads, cx);
        self.pending = Some(Pending::RekeyIke(Box::new(request)));
    }

    pub(in crate::ike) fn accept_rekeyed_ike(
        &mut self,
        mut request: IkeRequest,
        payloads: &[Payload],
        cx: &mut Context<'_>,
    ) {
        let contents = Contents(payloads);
        if let Some(error) = contents.error() {
            return self.ike_rekey_refused(request, error, cx);
        }
        let agreed = match request.deal.take() {
            None => self.agree_ike(&mut request, &contents),
            Some((mut made, further)) => match followup::secret(request.share.take(), &contents) {
                Some(secret) => {
                    made.shared.further.push(secret);
                    Ok((made, further))
                }
                None => Err(Cause::KeyExchangeFailed),
            },
        };
        match agreed {
            Ok((made, mut further)) => match further.pop_front() {
                Some(group) => {
                    request.share = self.send_followup(group, &contents, cx);
                    request.deal = Some((made, further));
                    self.pending = Some(Pending::RekeyIke(Box::new(request)));
                }
                None => self.finish_ike(made, request.crossed, cx),
            },
            Err(cause) => {
                self.hand_over_to_crossed(request.crossed, cx);
                self.ike_rekey_failed(cause, cx);
            }
        }
    }

    fn finish_ike(&mut self, made: MadeIke, crossed: Option<Crossed<u64>>, cx: &mut Context<'_>) {
        let nonces = made.nonces.clone();
        match self.successor(made, cx) {
            Some(new) => self.settle_ike(new, &nonces, crossed, cx),
            None => self.ike_rekey_failed(Cause::Malformed, cx),
        }
    }

    fn agree_ike(
        &self,
        request: &mut IkeRequest,
        contents: &Contents<'_>,
    ) -> Result<(MadeIke, VecDeque<Group>), Cause> {
        let (Some(proposals), Some(nonce), Some((group, public)), Some(share)) =
            (contents.proposals(), contents.nonce(), contents.key_exchange(), request.share.take())
        else {
            return Err(Cause::Malformed);
        };
        let (choice, their_spi) = proposal::accept_ike_rekey(proposals, self.profile())?;
        if choice.group != share.group() || group != choice.group.id() {
            return Err(Cause::GroupRefused { wanted: Some(group) });
        }
        let shared = share.finish(public).map_err(|_| Cause::KeyExchangeFailed)?;
        let nonces = Nonces { initiator: std::mem::take(&mut request.nonce), responder: nonce.to_vec() };
        let further = choice.further.iter().copied().collect();
        let shared = Shared { first: Some(shared), further: Vec::new() };
        Ok((MadeIke { role: Role::Initiator, our_spi: request.spi, their_spi, choice, nonces, shared }, further))
    }

    /// The IKE SA that follows this one, still without its Child SAs.
    fn successor(&self, made: MadeIke, cx: &mut Context<'_>) -> Option<IkeSa> {
        let (peer, old) = (self.peer.clone()?, self.session.as_ref()?);
        let mut new = IkeSa::new(made.role, made.our_spi, self.path, Stage::Established, cx.now);
        new.their_spi = made.their_spi;
        let (initiator_spi, responder_spi) = new.spis();
        let skeyseed = keys::skeyseed_rekey(old.choice.prf, &old.d, &made.nonces, &made.shared);
        let seed = Seed { nonces: made.nonces, initiator_spi, responder_spi };
        let keys = SaKeys::expand(made.choice.prf, made.choice.suite, &skeyseed, &seed);
        new.session = Some(Box::new(Session::new(made.choice, seed, keys, made.role).ok()?));
        new.outgoing = Outgoing::starting_at(0);
        new.incoming = Incoming::starting_at(0);
        new.nat = self.nat;
        new.certificates = self.certificates.clone();
        new.abilities = self.abilities.clone();
        new.established_at = Some(cx.now);
        new.timers.rekey_at = Some(cx.now + soft_lifetime(peer.lifetimes.ike, cx.jitter()));
        new.timers.expires_at = Some(cx.now + hard_lifetime(peer.lifetimes.ike));
        new.timers.liveness_at = Some(cx.now);
        new.timers.certificate_ends_at = self.timers.certificate_ends_at;
        new.rekeyed = true;
        new.peer = Some(peer);
        Some(new)
    }

    /// Our exchange has made one. If theirs crossed it, the nonces decide which of the two stays.
    fn settle_ike(&mut self, mut new: IkeSa, nonces: &Nonces, crossed: Option<Crossed<u64>>, cx: &mut Context<'_>) {
        match crossed {
            Some(crossed) if verdict(nonces, &crossed.nonces) == Verdict::OursIsRedundant => {
                new.want_first(Task::DeleteIke);
                new.set_superseded(cx.now, cx.limits);
                cx.effects.push(Effect::Insert(Box::new(new)));
                self.hand_over_to_crossed(Some(crossed), cx);
            }
            crossed => {
                self.hand_over(&mut new);
                cx.effects.push(Effect::Insert(Box::new(new)));
                cx.effects.extend(crossed.map(|theirs| Effect::Supersede(theirs.spi)));
                self.set_superseded(cx.now, cx.limits);
                self.want_first(Task::DeleteIke);
            }
        }
        if let Some(tunnel) = self.tunnel() {
            cx.peers.count(tunnel, |counts| counts.ike_rekeys += 1);
        }
    }

    /// Everything that outlives this IKE SA.
    fn hand_over(&mut self, new: &mut IkeSa) {
        new.children = std::mem::take(&mut self.children);
        new.tasks = std::mem::take(&mut self.tasks);
        new.tasks.retain(|task| !matches!(task, Task::RekeyIke | Task::DeleteIke | Task::Liveness));
        new.timers.child_retry_at = self.timers.child_retry_at.take();
    }

    /// Theirs has won, or ours has come to nothing.
    pub(in crate::ike) fn hand_over_to_crossed(&mut self, crossed: Option<Crossed<u64>>, cx: &mut Context<'_>) {
        let Some(Crossed { spi: to, .. }) = crossed else { return };
        let children = std::mem::take(&mut self.children);
        let mut tasks = std::mem::take(&mut self.tasks);
        tasks.retain(|task| !matches!(task, Task::RekeyIke | Task::DeleteIke | Task::Liveness));
        cx.effects.push(Effect::MoveChildren { to, children, tasks });
        self.set_superseded(cx.now, cx.limits);
    }

    /// This one is over. What their rekey has made, while ours was under way, goes on with everything.
    pub(in crate::ike) fn leave_to_crossed(&mut self, cx: &mut Context<'_>) {
        if let Some(Pending::RekeyIke(request)) = &mut self.pending {
            let crossed = request.crossed.take();
            self.hand_over_to_crossed(crossed, cx);
        }
    }

    pub(in crate::ike) fn end_after_crossing(&mut self, why: DownReason, cx: &mut Context<'_>) {
        self.leave_to_crossed(cx);
        self.end(why);
    }

    /// Another IKE SA has its place: it waits to be deleted.
    pub(in crate::ike) fn set_superseded(&mut self, now: Timestamp, limits: &Limits) {
        self.stage = Stage::Rekeyed;
        self.timers.rekey_at = None;
        self.timers.retry_at = None;
        self.timers.expires_at = Some(now + REPLACED + limits.retransmit.total());
    }

    fn ike_rekey_refused(&mut self, request: IkeRequest, error: &Notify, cx: &mut Context<'_>) {
        if request.crossed.is_some() {
            return self.hand_over_to_crossed(request.crossed, cx);
        }
        match error.kind {
            kinds::TEMPORARY_FAILURE => {
                self.put_off(FailureStage::Rekey, cx);
                self.want(Task::RekeyIke, cx);
            }
            kinds::INVALID_KE_PAYLOAD if !request.regrouped => {
                let wanted = message::wanted_group(error);
                match wanted.filter(|group| proposal::ike_groups(self.profile()).contains(group)) {
                    Some(group) => self.ask_to_rekey_ike(Some(group), cx),
                    None => self.ike_rekey_failed(Cause::GroupRefused { wanted: wanted.map(Group::id) }, cx),
                }
            }
            kind => self.ike_rekey_failed(proposal::refused_ike(self.profile(), kind), cx),
        }
    }

    /// Tried again, until the SA reaches its end.
    fn ike_rekey_failed(&mut self, cause: Cause, cx: &mut Context<'_>) {
        cx.fail(self.tunnel(), self.path, FailureStage::Rekey, cause);
        if self.is_established() {
            self.timers.rekey_at = Some(cx.now + CHILD_RETRY);
        }
    }

    pub(in crate::ike) fn answer_rekey_ike(
        &mut self,
        contents: &Contents<'_>,
        nonce: &[u8],
        cx: &mut Context<'_>,
    ) -> Vec<Payload> {
        if !self.may_be_succeeded() {
            return refusal(kinds::TEMPORARY_FAILURE);
        }
        let (Some(proposals), Some((group, public))) = (contents.proposals(), contents.key_exchange()) else {
            return refusal(kinds::INVALID_SYNTAX);
        };
        let sent = Group::from_id(group);
        let (choice, their_spi) = match proposal::choose_ike_rekey(proposals, self.profile(), sent) {
            Ok(chosen) => chosen,
            Err(cause) => {
                cx.fail(self.tunnel(), self.path, FailureStage::Rekey, cause);
                return refusal(kinds::NO_PROPOSAL_CHOSEN);
            }
        };
        if choice.group.id() != group {
            return message::invalid_ke(choice.group);
        }
        let Ok((data, shared)) = choice.group.respond(public) else { return refusal(kinds::INVALID_SYNTAX) };
        let nonces = Nonces { initiator: nonce.to_vec(), responder: cx.nonce() };
        let our_spi = cx.ike_spi();
        let mut answer = vec![
            Payload::SecurityAssociation(vec![proposal::emit_ike(&choice, &our_spi.to_be_bytes())]),
            Payload::Nonce(nonces.responder.clone()),
            Payload::KeyExchange { group, data },
        ];
        let further: VecDeque<Group> = choice.further.iter().copied().collect();
        let shared = Shared { first: Some(shared), further: Vec::new() };
        let made = MadeIke { role: Role::Responder, our_spi, their_spi, choice, nonces, shared };
        match further.is_empty() {
            true => self.succeed_theirs(made, cx),
            false => answer.push(self.expect_followup(further, Made::Ike(made), cx)),
        }
        answer
    }

    /// Their rekey is complete: the Child SAs go over, unless ours is under way as well.
    pub(super) fn succeed_theirs(&mut self, made: MadeIke, cx: &mut Context<'_>) {
        let theirs = Crossed { spi: made.our_spi, nonces: made.nonces.clone() };
        let Some(mut new) = self.successor(made, cx) else { return };
        match &mut self.pending {
            Some(Pending::RekeyIke(request)) => request.crossed = Some(theirs),
            _ => {
                self.hand_over(&mut new);
                self.set_superseded(cx.now, cx.limits);
            }
        }
        cx.effects.push(Effect::Insert(Box::new(new)));
    }

    /// Whether an IKE SA that was agreed may still take this one's place.
    pub(super) fn may_be_succeeded(&self) -> bool {
        let deleting = !matches!(self.stage, Stage::Established) || matches!(self.pending, Some(Pending::DeleteIke));
        let crossed_already = matches!(&self.pending, Some(Pending::RekeyIke(request)) if request.crossed.is_some());
        !deleting && !crossed_already && !self.is_changing_children()
    }
}

/// An IKE SA as agreed, once its secrets are complete.
pub(in crate::ike) struct MadeIke {
    role: Role,
    our_spi: u64,
    their_spi: u64,
    choice: IkeChoice,
    nonces: Nonces,
    pub shared: Shared,
}
