//! CREATE_CHILD_SA for Child SAs (RFC 7296 sections 1.3.1 and 1.3.3): another one, or one that replaces an old one.
//!
//! ```text
//! [N(REKEY_SA),] SA, Ni, [KEi,] TSi, TSr ->
//!                                        <- SA, Nr, [KEr,] TSi, TSr
//!                                        or INVALID_KE_PAYLOAD: the same with another group
//!                                        or NO_PROPOSAL_CHOSEN: once more without a key exchange
//!                                        or TEMPORARY_FAILURE: later; CHILD_SA_NOT_FOUND: it is gone already
//! ```
//!
//! Whether there is perfect forward secrecy is the peer's choice as well: many routers have no group for ESP, and refuse any
//! proposal that has one. The first Child SA of an IKE SA has none either. So a peer that refuses is asked once more, without;
//! one that agrees to that is asked so from then on. A profile may forbid it, and what has had it once does not lose it.

use std::collections::VecDeque;
use std::time::Duration;

use super::followup::{self, Made};
use crate::crypto::{Group, KeyShare};
use crate::ike::child::{self, Agreed, Child, ChildState, SelectorPair};
use crate::ike::collision::{Crossed, Verdict, verdict};
use crate::ike::context::Context;
use crate::ike::diagnosis::{Cause, Stage as FailureStage};
use crate::ike::event::{Outbound, Role};
use crate::ike::keys::{ChildExchange, Nonces, Shared, child_keys};
use crate::ike::message::{self, Contents, refusal};
use crate::ike::peer::SharedPeer;
use crate::ike::proposal::{self, EspChoice};
use crate::ike::sa::{IkeSa, Pending, Task};
use crate::net::Timestamp;
use crate::wire::ike::{ExchangeType, Notify, Payload, Protocol, notify as kinds};

/// A Child SA that we have asked for.
pub(in crate::ike) struct ChildRequest {
    pub replaces: Option<u32>,
    pub spi_in: u32,
    nonce: Vec<u8>,
    /// Proposed with a key exchange of its own.
    with_ke: bool,
    share: Option<KeyShare>,
    proposed: SelectorPair,
    /// A refusal has been heeded once: another group, or none.
    again: bool,
    /// Theirs for the same Child SA.
    pub crossed: Option<Crossed<u32>>,
    /// SPIs of theirs that they deleted before we knew them: the answer to this may name one.
    gone: Vec<u32>,
    /// What has been agreed, while further key exchanges are made.
    deal: Option<Deal>,
}

/// A Child SA as agreed, once its secrets are complete.
struct Deal {
    spi_out: u32,
    choice: EspChoice,
    selectors: SelectorPair,
    nonces: Nonces,
    shared: Shared,
    further: VecDeque<Group>,
}

/// After TEMPORARY_FAILURE: "it MUST NOT immediately retry" (section 2.25). Plus up to as much at random.
const RETRY: Duration = Duration::from_secs(2);
/// TEMPORARY_FAILURE for so long: both sides no longer believe the same (section 2.25, "several minutes").
const PUT_OFF: Duration = Duration::from_secs(300);
/// A request and its retransmissions come between two of one row at most.
const PUT_OFF_GAP: Duration = Duration::from_secs(60);
/// After a refusal that the peer's configuration is the cause of.
pub(in crate::ike) const CHILD_RETRY: Duration = Duration::from_secs(30);

impl IkeSa {
    pub(in crate::ike) fn ask_for_child(&mut self, pair: SelectorPair, cx: &mut Context<'_>) {
        if self.live_children().any(|child| child.selectors == pair) {
            return;
        }
        let limit = cx.limits.children_per_sa;
        if self.children.len() >= limit {
            return self.child_failed(pair, Cause::TooManySas { limit }, cx);
        }
        let ask = Ask { replaces: None, pair, group: self.favourite_group(), again: false };
        self.send_child_request(ask, cx);
    }

    pub(in crate::ike) fn ask_to_rekey_child(&mut self, spi_in: u32, cx: &mut Context<'_>) {
        let Some(child) = self.child(spi_in).filter(|child| child.state == ChildState::Up) else { return };
        let pair = child.selectors.clone();
        let ask = Ask { replaces: Some(spi_in), pair, group: self.favourite_group(), again: false };
        self.send_child_request(ask, cx);
    }

    /// What a Child SA is first proposed with. `None`: the peer wants no key exchange.
    fn favourite_group(&self) -> Option<Group> {
        let first = proposal::esp_groups(self.profile()).first().copied();
        first.filter(|_| !self.abilities.without_pfs)
    }

    fn send_child_request(&mut self, ask: Ask, cx: &mut Context<'_>) {
        let Ask { replaces, pair, group, again } = ask;
        let Some(peer) = self.peer.clone() else { return };
        let spi_in = cx.child_spi();
        let nonce = cx.nonce();
        let with_ke = group.is_some();
        let share = group.and_then(|group| group.begin().ok());
        let mut payloads = Vec::new();
        payloads.extend(replaces.map(|old| {
            let spi = old.to_be_bytes().to_vec(); // "the SPI that the initiator expects in inbound packets"
            Payload::Notify(Notify { protocol: Protocol::Esp.byte(), spi, kind: kinds::REKEY_SA, data: Vec::new() })
        }));
        payloads.push(Payload::SecurityAssociation(proposal::esp_proposals(peer.profile, spi_in, with_ke)));
        payloads.push(Payload::Nonce(nonce.clone()));
        payloads.extend(
            share
                .as_ref()
                .map(|share| Payload::KeyExchange { group: share.group().id(), data: share.public().to_vec() }),
        );
        payloads.push(Payload::SelectorsInitiator(pair.ours.clone()));
        payloads.push(Payload::SelectorsResponder(pair.theirs.clone()));
        self.send_request(ExchangeType::CREATE_CHILD_SA, &payloads, cx);
        self.pending = Some(Pending::Child(Box::new(ChildRequest {
            replaces,
            spi_in,
            nonce,
            with_ke,
            share,
            proposed: pair,
            again,
            crossed: None,
            gone: Vec::new(),
            deal: None,
        })));
    }

    pub(in crate::ike) fn accept_child(
        &mut self,
        mut request: ChildRequest,
        payloads: &[Payload],
        cx: &mut Context<'_>,
    ) {
        let Some(peer) = self.peer.clone() else { return };
        let contents = Contents(payloads);
        if let Some(error) = contents.error() {
            cx.child_spis.release(request.spi_in);
            return self.child_refused(request, error, cx);
        }
        let agreed = match request.deal.take() {
            None => agree_child(&peer, &mut request, &contents),
            Some(deal) => complete_child(deal, &mut request, &contents),
        };
        match agreed {
            Ok(mut deal) => match deal.further.pop_front() {
                Some(group) => {
                    request.share = self.send_followup(group, &contents, cx);
                    request.deal = Some(deal);
                    self.pending = Some(Pending::Child(Box::new(request)));
                }
                None => self.finish_child(request, deal, cx),
            },
            Err((cause, spi_out)) => {
                cx.child_spis.release(request.spi_in);
                self.child_failed(request.proposed, cause, cx);
                // The responder believes that it exists: it is told by the SPI that we would have received under.
                if spi_out.is_some() {
                    self.want_first(Task::DeleteUnknown(request.spi_in));
                }
            }
        }
    }

    fn finish_child(&mut self, request: ChildRequest, deal: Deal, cx: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        self.abilities.without_pfs = deal.choice.group.is_none();
        let was_deleted = request.gone.contains(&deal.spi_out);
        let exchange = ChildExchange { nonces: &deal.nonces, shared: &deal.shared, we_began: true };
        let keys = child_keys(session.choice.prf, &session.d, deal.choice.suite, &exchange);
        let agreed = Agreed {
            spi_in: request.spi_in,
            spi_out: deal.spi_out,
            choice: deal.choice,
            keys,
            selectors: deal.selectors,
            asked: request.replaces.is_none().then(|| request.proposed.clone()),
            role: Role::Initiator,
            replaces: request.replaces,
            outbound: Outbound::Now,
        };
        self.settle_child(agreed, request.replaces, request.crossed, &deal.nonces, cx);
        if was_deleted {
            // It came and went; what it replaced goes as ever.
            return self.lose_children(&[request.spi_in], cx);
        }
        if request.replaces.is_none() {
            self.want_uncovered(&request.proposed, cx);
            self.drop_covered(request.spi_in, cx);
        }
    }

    /// A new Child SA that carries more than an older one, or all that the configuration has left of it: networks have come, or
    /// come and gone. (Two that carry the same were made by both sides at once. Each would close the other's; `is_needless`
    /// decides which of them goes. So would two sides that do not have the same configuration yet.)
    fn drop_covered(&mut self, newest: u32, cx: &Context<'_>) {
        let (Some(new), Some(peer)) = (self.child(newest), &self.peer) else { return };
        let wide = new.selectors.clone();
        let holds_rest =
            |child: &Child| wide.covers_what_is_left(&child.selectors, peer) && !self.is_unsettled(child.spi_in, cx);
        let covered = |child: &&Child| {
            let is_held = wide.covers(&child.selectors) || holds_rest(child);
            child.spi_in != newest && is_held && !child.selectors.covers(&wide)
        };
        let narrower: Vec<u32> = self.live_children().filter(covered).map(|child| child.spi_in).collect();
        if !narrower.is_empty() {
            narrower.iter().for_each(|spi_in| self.set_replaced(*spi_in));
            self.want_first(Task::DeleteChildren(narrower));
        }
    }

    /// Installs what we began, and decides what has to go.
    fn settle_child(
        &mut self,
        agreed: Agreed,
        replaces: Option<u32>,
        crossed: Option<Crossed<u32>>,
        nonces: &Nonces,
        cx: &mut Context<'_>,
    ) {
        let spi_in = agreed.spi_in;
        let crossed = crossed.filter(|crossed| self.child(crossed.spi).is_some());
        let outcome = crossed.map(|crossed| (verdict(nonces, &crossed.nonces), crossed.spi));
        match outcome {
            Some((Verdict::OursIsRedundant, _)) => {
                self.install(Agreed { outbound: Outbound::WhenHeard, ..agreed }, cx);
                self.set_redundant(spi_in, cx);
                self.want_first(Task::DeleteChildren(vec![spi_in]));
            }
            other => {
                self.install(agreed, cx);
                if let Some((_, theirs)) = other {
                    self.set_redundant(theirs, cx);
                }
                if let Some(old) = replaces.filter(|old| self.child(*old).is_some()) {
                    self.set_replaced(old);
                    self.want_first(Task::DeleteChildren(vec![old]));
                }
            }
        }
        if replaces.is_some()
            && let Some(tunnel) = self.tunnel()
        {
            cx.peers.count(tunnel, |counts| counts.child_rekeys += 1);
        }
    }

    pub(in crate::ike) fn set_replaced(&mut self, spi_in: u32) {
        if let Some(child) = self.child_mut(spi_in) {
            child.state = ChildState::Replaced;
        }
    }

    fn child_refused(&mut self, request: ChildRequest, error: &Notify, cx: &mut Context<'_>) {
        let ChildRequest { replaces, proposed, crossed, again, with_ke, .. } = request;
        let profile = self.profile();
        match error.kind {
            _ if crossed.is_some() => {} // theirs has been made; they delete the old one
            kinds::TEMPORARY_FAILURE => {
                self.put_off(if replaces.is_some() { FailureStage::Rekey } else { FailureStage::Child }, cx);
                self.want(task_for(replaces, proposed), cx);
            }
            kinds::INVALID_KE_PAYLOAD if !again => {
                let wanted = message::wanted_group(error);
                match wanted.filter(|group| proposal::esp_groups(profile).contains(group)) {
                    Some(group) => {
                        let ask = Ask { replaces, pair: proposed, group: Some(group), again: true };
                        self.send_child_request(ask, cx);
                    }
                    None => self.child_failed(proposed, Cause::GroupRefused { wanted: wanted.map(Group::id) }, cx),
                }
            }
            kinds::NO_PROPOSAL_CHOSEN if !again && (!with_ke || self.may_lack_pfs(replaces)) => {
                self.abilities.without_pfs = false; // until it has agreed to it, again
                let group = self.favourite_group().filter(|_| !with_ke);
                self.send_child_request(Ask { replaces, pair: proposed, group, again: true }, cx);
            }
            // It has asked for this one itself, and our answer is still on its way.
            kinds::CHILD_SA_NOT_FOUND if replaces.is_some_and(|old| self.is_unsettled(old, cx)) => {
                self.retry_later(cx);
                self.want(task_for(replaces, proposed), cx);
            }
            kinds::CHILD_SA_NOT_FOUND => {
                // The peer has lost it: so do we, and make a new one.
                let Some(old) = replaces.filter(|old| self.child(*old).is_some()) else { return };
                self.remove_children(&[old], cx);
                self.want(Task::NewChild(proposed), cx);
            }
            // A single pair is not taken apart any more: that peer wants single addresses, which we do not ask for.
            kinds::SINGLE_PAIR_REQUIRED if replaces.is_none() && proposed.ours.len() + proposed.theirs.len() > 2 => {
                for pair in child::pairs(&proposed.ours, &proposed.theirs) {
                    self.want(Task::NewChild(pair), cx);
                }
            }
            kind => {
                let cause = proposal::refused_esp(profile, &proposed.ours, &proposed.theirs, kind);
                match replaces {
                    Some(old) => self.rekey_failed(old, cause, cx),
                    None => self.child_failed(proposed, cause, cx),
                }
                // Section 4: a peer that makes none but the first is asked for another first one.
                if kind == kinds::NO_ADDITIONAL_SAS && self.live_children().next().is_none() {
                    self.want_first(Task::DeleteIke);
                }
            }
        }
    }

    /// Whether a Child SA may be made without a key exchange: not when it had one, as what it replaces.
    fn may_lack_pfs(&self, replaces: Option<u32>) -> bool {
        let had_none = |old: u32| self.child(old).is_none_or(|child| child.choice.group.is_none());
        !self.profile().requires_pfs() && replaces.is_none_or(had_none)
    }

    /// The peer began it, and may not have our answer yet.
    fn is_unsettled(&self, spi_in: u32, cx: &Context<'_>) -> bool {
        self.child(spi_in).is_some_and(|child| {
            child.role == Role::Responder && cx.now.saturating_since(child.installed_at) < cx.limits.retransmit.total()
        })
    }

    /// TEMPORARY_FAILURE. One that comes long after the last has another reason.
    pub(in crate::ike) fn put_off(&mut self, stage: FailureStage, cx: &mut Context<'_>) {
        let goes_on = |(_, last): &(Timestamp, Timestamp)| cx.now.saturating_since(*last) <= PUT_OFF_GAP;
        let (since, _) = self.timers.put_off.filter(goes_on).unwrap_or((cx.now, cx.now));
        self.timers.put_off = Some((since, cx.now));
        let lasts = cx.now.saturating_since(since);
        if lasts >= PUT_OFF {
            cx.fail(self.tunnel(), self.path, stage, Cause::PutOff { minutes: lasts.as_secs() / 60 });
            self.want_first(Task::DeleteIke);
        }
        self.retry_later(cx);
    }

    fn retry_later(&mut self, cx: &mut Context<'_>) {
        self.timers.retry_at = Some(cx.now + RETRY + RETRY / 256 * u32::from(cx.jitter()));
    }

    fn rekey_failed(&mut self, old: u32, cause: Cause, cx: &mut Context<'_>) {
        cx.fail(self.tunnel(), self.path, FailureStage::Rekey, cause);
        let now = cx.now;
        if let Some(child) = self.child_mut(old) {
            child.rekey_at = now + CHILD_RETRY;
            child.rekey_refused = true;
        }
    }

    /// A Child SA could not be made; another try comes if it was one of those that we must have.
    pub(in crate::ike) fn child_failed(&mut self, pair: SelectorPair, cause: Cause, cx: &mut Context<'_>) {
        cx.fail(self.tunnel(), self.path, FailureStage::Child, cause);
        let Some(peer) = self.peer.clone() else { return };
        if child::proposed(&peer, cx.limits.selectors).contains(&pair) {
            self.timers.child_retry_at = Some(cx.now + CHILD_RETRY);
        }
    }

    /// Some peers take only the first selector of each side: ask for the others one by one (section 2.9).
    pub(in crate::ike) fn want_uncovered(&mut self, proposed: &SelectorPair, cx: &mut Context<'_>) {
        let missing = child::uncovered(proposed, &self.children);
        let room = cx.limits.children_per_sa.saturating_sub(self.children.len());
        for pair in missing.into_iter().take(room) {
            if pair != *proposed {
                self.want(Task::NewChild(pair), cx);
            }
        }
    }

    /// CREATE_CHILD_SA as responder.
    pub(in crate::ike) fn answer_create_child(&mut self, payloads: &[Payload], cx: &mut Context<'_>) -> Vec<Payload> {
        let contents = Contents(payloads);
        let (Some(proposals), Some(nonce)) = (contents.proposals(), contents.nonce()) else {
            return refusal(kinds::INVALID_SYNTAX);
        };
        if proposals.iter().any(|proposal| proposal.protocol == Protocol::Ike) {
            return self.answer_rekey_ike(&contents, nonce, cx);
        }
        if self.is_in_transition() {
            return refusal(kinds::TEMPORARY_FAILURE);
        }
        let rekeyed = match contents.notify(kinds::REKEY_SA).map(|named| self.rekeyed_child(named)) {
            None => None,
            Some(Ok(spi_in)) => Some(spi_in),
            Some(Err(answer)) => return answer,
        };
        // One that takes another's place is one more for a moment only; a peer that never deletes what it replaced is stopped, too.
        let limit = cx.limits.children_per_sa;
        if self.children.len() >= if rekeyed.is_some() { 2 * limit } else { limit } {
            return refusal(kinds::NO_ADDITIONAL_SAS);
        }
        self.answer_child(&contents, nonce, rekeyed, cx)
    }

    /// Which of ours REKEY_SA names: by the SPI that the peer receives under.
    fn rekeyed_child(&self, named: &Notify) -> Result<u32, Vec<Payload>> {
        let spi = named.spi.as_slice().try_into().map(u32::from_be_bytes).unwrap_or(0);
        match self.child_by_theirs(spi) {
            Some(Child { state: ChildState::Up, spi_in, .. }) => Ok(*spi_in),
            Some(_) => Err(refusal(kinds::TEMPORARY_FAILURE)),
            None => {
                let (protocol, spi) = (Protocol::Esp.byte(), named.spi.clone());
                let gone = Notify { protocol, spi, kind: kinds::CHILD_SA_NOT_FOUND, data: Vec::new() };
                Err(vec![Payload::Notify(gone)])
            }
        }
    }

    fn answer_child(
        &mut self,
        contents: &Contents<'_>,
        nonce: &[u8],
        rekeyed: Option<u32>,
        cx: &mut Context<'_>,
    ) -> Vec<Payload> {
        let (Some(peer), Some(proposals), Some((theirs, ours))) =
            (self.peer.clone(), contents.proposals(), contents.selectors())
        else {
            return refusal(kinds::INVALID_SYNTAX);
        };
        let stage = if rekeyed.is_some() { FailureStage::Rekey } else { FailureStage::Child };
        let key_exchange = contents.key_exchange();
        let sent = key_exchange.and_then(|(id, _)| Group::from_id(id));
        let (choice, spi_out) = match proposal::choose_esp(proposals, peer.profile, Some(sent)) {
            Ok(chosen) => chosen,
            Err(cause) => {
                cx.fail(Some(peer.tunnel), self.path, stage, cause);
                return refusal(kinds::NO_PROPOSAL_CHOSEN);
            }
        };
        let (first, answer_ke) = match (choice.group, key_exchange) {
            (None, _) => (None, None),
            (Some(group), Some((id, public))) if id == group.id() => match group.respond(public) {
                Ok((data, secret)) => (Some(secret), Some(Payload::KeyExchange { group: id, data })),
                Err(_) => return refusal(kinds::INVALID_SYNTAX),
            },
            (Some(group), _) => return message::invalid_ke(group),
        };
        let offered = SelectorPair { ours: ours.to_vec(), theirs: theirs.to_vec() };
        let Some(selectors) = self.accepted_selectors(&peer, &offered, rekeyed, cx) else {
            let cause = Cause::selectors(&peer.ours, &peer.theirs, ours, theirs);
            cx.fail(Some(peer.tunnel), self.path, stage, cause);
            return refusal(kinds::TS_UNACCEPTABLE);
        };
        let nonces = Nonces { initiator: nonce.to_vec(), responder: cx.nonce() };
        let shared = Shared { first, further: Vec::new() };
        let spi_in = cx.child_spi();
        let mut answer = vec![
            Payload::SecurityAssociation(vec![proposal::emit_esp(&choice, spi_in)]),
            Payload::Nonce(nonces.responder.clone()),
        ];
        answer.extend(answer_ke);
        answer.push(Payload::SelectorsInitiator(selectors.theirs.clone()));
        answer.push(Payload::SelectorsResponder(selectors.ours.clone()));
        let further: VecDeque<Group> = choice.further.iter().copied().collect();
        let made = MadeChild { spi_in, choice, spi_out, selectors, nonces, shared, rekeyed };
        match further.is_empty() {
            true => self.install_theirs(made, cx),
            false => answer.push(self.expect_followup(further, Made::Child(made), cx)),
        }
        answer
    }

    /// A Child SA that is rekeyed keeps what it had, even if the configuration has changed since.
    fn accepted_selectors(
        &self,
        peer: &SharedPeer,
        offered: &SelectorPair,
        rekeyed: Option<u32>,
        cx: &Context<'_>,
    ) -> Option<SelectorPair> {
        let old = rekeyed.and_then(|spi_in| self.child(spi_in)).map(|child| &child.selectors);
        match old {
            Some(old) if child::is_narrowed(offered, old) => Some(offered.clone()),
            _ => child::accepted(peer, offered, cx.limits.selectors),
        }
    }

    pub(super) fn install_theirs(&mut self, made: MadeChild, cx: &mut Context<'_>) {
        let Some(session) = &self.session else { return };
        let MadeChild { spi_in, choice, spi_out, selectors, nonces, shared, rekeyed } = made;
        let exchange = ChildExchange { nonces: &nonces, shared: &shared, we_began: false };
        let keys = child_keys(session.choice.prf, &session.d, choice.suite, &exchange);
        let (role, outbound) = (Role::Responder, Outbound::WhenHeard);
        let agreed =
            Agreed { spi_in, spi_out, choice, keys, selectors, asked: None, role, replaces: rekeyed, outbound };
        self.install(agreed, cx);
        if let Some(old) = rekeyed {
            self.note_crossing(old, Crossed { spi: spi_in, nonces });
        }
    }

    /// Whether what a rekey was agreed for is still there: it may have gone while further keys were exchanged.
    pub(super) fn still_wants(&self, made: &MadeChild) -> bool {
        let is_up = |old: u32| self.child(old).is_some_and(|child| child.state == ChildState::Up);
        !self.is_in_transition() && made.rekeyed.is_none_or(is_up)
    }

    /// Their rekey has been answered: the old one waits for them to delete it, unless ours is under way as well.
    fn note_crossing(&mut self, old: u32, theirs: Crossed<u32>) {
        match &mut self.pending {
            Some(Pending::Child(request)) if request.replaces == Some(old) => request.crossed = Some(theirs),
            _ => self.set_replaced(old),
        }
        self.tasks.retain(|task| *task != Task::RekeyChild { spi_in: old });
    }
}

fn agree_child(
    peer: &SharedPeer,
    request: &mut ChildRequest,
    contents: &Contents<'_>,
) -> Result<Deal, (Cause, Option<u32>)> {
    let fail = |cause| (cause, None);
    let (Some(proposals), Some(nonce), Some((ours, theirs))) =
        (contents.proposals(), contents.nonce(), contents.selectors())
    else {
        return Err(fail(Cause::Malformed));
    };
    let (choice, spi_out) = proposal::accept_esp(proposals, peer.profile, request.with_ke).map_err(fail)?;
    let fail = |cause| (cause, Some(spi_out));
    let selectors = SelectorPair { ours: ours.to_vec(), theirs: theirs.to_vec() };
    if !child::is_narrowed(&selectors, &request.proposed) {
        return Err(fail(Cause::selectors(&request.proposed.ours, &request.proposed.theirs, ours, theirs)));
    }
    let first = match (choice.group, request.share.take(), contents.key_exchange()) {
        (None, _, _) => None,
        (Some(group), Some(share), Some((id, public))) if share.group() == group && id == group.id() => {
            Some(share.finish(public).map_err(|_| fail(Cause::KeyExchangeFailed))?)
        }
        _ => return Err(fail(Cause::KeyExchangeFailed)),
    };
    let nonces = Nonces { initiator: std::mem::take(&mut request.nonce), responder: nonce.to_vec() };
    let further = choice.further.iter().copied().collect();
    let shared = Shared { first, further: Vec::new() };
    Ok(Deal { spi_out, choice, selectors, nonces, shared, further })
}

/// The answer to an IKE_FOLLOWUP_KE: one secret more.
fn complete_child(
    mut deal: Deal,
    request: &mut ChildRequest,
    contents: &Contents<'_>,
) -> Result<Deal, (Cause, Option<u32>)> {
    match followup::secret(request.share.take(), contents) {
        Some(secret) => {
            deal.shared.further.push(secret);
            Ok(deal)
        }
        None => Err((Cause::KeyExchangeFailed, Some(deal.spi_out))),
    }
}

/// What has been agreed with a peer that asked.
pub(in crate::ike) struct MadeChild {
    pub spi_in: u32,
    choice: EspChoice,
    spi_out: u32,
    selectors: SelectorPair,
    nonces: Nonces,
    pub shared: Shared,
    rekeyed: Option<u32>,
}

/// How to ask for a Child SA.
struct Ask {
    replaces: Option<u32>,
    pair: SelectorPair,
    /// `None`: without a key exchange.
    group: Option<Group>,
    /// In another way than before, because that was refused.
    again: bool,
}

impl ChildRequest {
    /// The peer has deleted a Child SA that we do not know. (Of `most`: it has no more than that.)
    pub(super) fn note_gone(&mut self, spi_out: u32, most: usize) {
        if self.gone.len() < most && !self.gone.contains(&spi_out) {
            self.gone.push(spi_out);
        }
    }
}

fn task_for(replaces: Option<u32>, proposed: SelectorPair) -> Task {
    match replaces {
        Some(spi_in) => Task::RekeyChild { spi_in },
        None => Task::NewChild(proposed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_deleted_spis_are_remembered_than_there_can_be_child_sas() {
        let mut request = ChildRequest {
            replaces: None,
            spi_in: 1,
            nonce: Vec::new(),
            with_ke: false,
            share: None,
            proposed: SelectorPair::default(),
            again: false,
            crossed: None,
            gone: Vec::new(),
            deal: None,
        };
        (0..10).for_each(|_| request.note_gone(1000, 5));
        assert_eq!(request.gone, [1000]);
        (1000..2000).for_each(|spi| request.note_gone(spi, 5));
        assert_eq!(request.gone, [1000, 1001, 1002, 1003, 1004]);
    }
}
