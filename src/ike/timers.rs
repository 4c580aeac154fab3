//! What an IKE SA does without a message: retransmission, rekeying, liveness, giving up; and which request comes next.

use std::time::Duration;

use super::auth;
use super::child::ChildState;
use super::context::{Context, Effect};
use super::diagnosis::{Cause, Stage as FailureStage};
use super::event::DownReason;
use super::exchange::auth::Step;
use super::limits::Retransmit;
use super::protect::transmit;
use super::sa::{IkeSa, Pending, Stage, Task};
use super::window::Due;
use crate::net::Timestamp;

/// After so many transmissions of one request without an answer the peer is suspected to be gone, and called anew beside.
pub(super) const SUSPECT_AFTER_SENDS: u32 = 4;

impl IkeSa {
    pub(super) fn retransmit(&self, cx: &Context<'_>) -> Retransmit {
        match self.stage {
            Stage::InitSent(_) | Stage::Handshake(_) => cx.limits.retransmit_connecting,
            _ => cx.limits.retransmit,
        }
    }

    /// The peer has not answered for a while.
    pub(super) fn is_suspect(&self) -> bool {
        self.outgoing.sent() >= SUSPECT_AFTER_SENDS
    }

    pub(super) fn next_deadline(&self) -> (Timestamp, &'static str) {
        let mut next = (Timestamp::from_micros(u64::MAX), "nothing");
        let mut consider = |at: Option<Timestamp>, why: &'static str| {
            if let Some(at) = at
                && at < next.0
            {
                next = (at, why);
            }
        };
        consider(self.outgoing.due_at(), "ike retransmission");
        consider(self.timers.expires_at, "ike sa ends");
        consider(self.timers.wake_at, "ike request");
        if self.is_established() {
            consider(self.timers.rekey_at, "ike rekey");
            consider(self.timers.needless_at, "ike duplicates");
            consider(self.timers.liveness_at, "ike liveness");
            consider(self.timers.child_retry_at, "child retry");
            consider(self.timers.certificate_ends_at, "peer's certificate ends");
            for child in &self.children {
                consider(Some(child.expires_at), "child ends");
                if child.state == ChildState::Up {
                    consider(Some(child.rekey_at), "child rekey");
                    consider(child.needless_at, "child duplicates");
                }
            }
            if !self.tasks.is_empty() {
                consider(self.timers.retry_at, "ike retry");
            }
        }
        next
    }

    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        if self.timers.expires_at.is_some_and(|at| at <= cx.now) {
            return self.expire(cx);
        }
        self.timers.wake_at = None;
        self.timers.retry_at = self.timers.retry_at.filter(|at| *at > cx.now);
        self.resend(cx);
        if self.is_established() {
            self.check_certificates(cx);
        }
        if self.is_established() {
            self.check_ike_age(cx);
            self.check_children(cx);
            self.check_liveness(cx);
        }
        self.make_requests(cx);
    }

    fn resend(&mut self, cx: &mut Context<'_>) {
        let times = self.retransmit(cx);
        match self.outgoing.due(cx.now, &times, cx.jitter()) {
            Due::Nothing => {}
            Due::Resend(datagrams) => {
                transmit(datagrams, &self.path, cx.outbox);
                if let Some(tunnel) = self.tunnel() {
                    cx.peers.count(tunnel, |counts| counts.retransmissions += 1);
                    if self.is_established() && self.outgoing.sent() == SUSPECT_AFTER_SENDS {
                        cx.peers.suspect(tunnel, cx.now);
                        if self.is_probe_ignored(cx.peers.heard_at(tunnel)) {
                            cx.peers.probe_no_more(tunnel);
                        }
                    }
                }
            }
            Due::GiveUp => self.give_up(cx),
        }
    }

    fn give_up(&mut self, cx: &mut Context<'_>) {
        let sends = self.outgoing.sent();
        self.outgoing.finish();
        let stage = match &self.stage {
            Stage::InitSent(_) => FailureStage::Init,
            Stage::Handshake(handshake) if matches!(handshake.step, Step::IntermediateSent(_)) => {
                FailureStage::Intermediate
            }
            Stage::Handshake(_) => FailureStage::Auth,
            // It is going anyway.
            Stage::Rekeyed | Stage::Deleting => return self.end(DownReason::PeerSilent),
            Stage::Established => match &self.pending {
                Some(Pending::Liveness | Pending::ProbePath(_)) | None => FailureStage::Liveness,
                Some(Pending::Child(request)) if request.replaces.is_none() => FailureStage::Child,
                _ => FailureStage::Rekey,
            },
        };
        let cause = match self.responses.incomplete() {
            Some((present, total)) => Cause::FragmentsLost { present, total },
            None if stage == FailureStage::Liveness => Cause::PeerGone { requests: sends },
            None => Cause::NoAnswer { sends },
        };
        cx.fail(self.tunnel(), self.path, stage, cause);
        self.end_after_crossing(DownReason::PeerSilent, cx);
    }

    fn expire(&mut self, cx: &mut Context<'_>) {
        match &self.stage {
            Stage::Handshake(_) => {
                let cause = match self.requests.incomplete() {
                    Some((present, total)) => Cause::FragmentsLost { present, total },
                    None => Cause::NeverAuthenticated,
                };
                cx.fail(self.tunnel(), self.path, FailureStage::Auth, cause);
                self.end(DownReason::PeerSilent);
            }
            Stage::Established => {
                cx.fail(self.tunnel(), self.path, FailureStage::Rekey, Cause::Expired);
                self.timers.expires_at = Some(cx.now + cx.limits.retransmit.total());
                match self.outgoing.is_free() {
                    true => self.ask_to_delete_ike(cx),
                    false => self.end_after_crossing(DownReason::Failed, cx),
                }
            }
            Stage::InitSent(_) | Stage::Rekeyed | Stage::Deleting => self.end(DownReason::PeerSilent),
        }
    }

    pub(super) fn await_end_of_certificate(&mut self, cx: &Context<'_>) {
        let secs = auth::secs_to_first_end(&self.certificates, cx.unix_secs);
        self.timers.certificate_ends_at = secs.map(|secs| cx.now + Duration::from_secs(secs));
    }

    /// A certificate has ended (section 2.8.3: whoever wants to know anew who the peer is makes a new IKE SA). If the peer
    /// would not be believed now, it is told that this one is over, and called if we are to call it; it gets in with another.
    fn check_certificates(&mut self, cx: &mut Context<'_>) {
        if self.timers.certificate_ends_at.is_none_or(|at| at > cx.now) {
            return;
        }
        let Some(peer) = self.peer.clone() else { return };
        match peer.remote_auth.check_again(&self.certificates, &peer.remote_id, cx.unix_secs) {
            Ok(()) => self.await_end_of_certificate(cx),
            Err(error) => {
                cx.fail(Some(peer.tunnel), self.path, FailureStage::Auth, error.into());
                self.closed_for = DownReason::CertificateEnded;
                self.close(cx);
            }
        }
    }

    fn check_ike_age(&mut self, cx: &mut Context<'_>) {
        let is_due = |at: &mut Option<Timestamp>| at.is_some_and(|at| at <= cx.now) && at.take().is_some();
        let (to_rekey, to_ask) = (is_due(&mut self.timers.rekey_at), is_due(&mut self.timers.needless_at));
        if to_rekey || to_ask {
            cx.effects.push(Effect::Renew { spi: self.our_spi, is_due: to_rekey });
        }
    }

    fn check_children(&mut self, cx: &mut Context<'_>) {
        let retry = cx.now + cx.limits.retransmit.total();
        let mut due = Vec::new();
        let mut doubted = Vec::new();
        // A peer that we cannot call keeps its IKE SA for the Child SAs that are left.
        let is_callable = self.peer.as_ref().is_some_and(|peer| peer.initiate && peer.remote.is_some());
        let is_last = !self.live_children().any(|child| child.expires_at > cx.now);
        for child in &mut self.children {
            if child.needless_at.is_some_and(|at| at <= cx.now) {
                child.needless_at = None;
                doubted.push(child.spi_in);
            }
            match child.state {
                _ if child.expires_at <= cx.now => {
                    child.expires_at = retry;
                    match child.state {
                        // Section 2.8: where rekeying fails, the IKE SA is closed and another one made.
                        ChildState::Up if child.rekey_refused && (is_callable || is_last) => due.push(Task::DeleteIke),
                        ChildState::Up => {
                            due.push(Task::DeleteChildren(vec![child.spi_in]));
                            due.push(Task::NewChild(child.selectors.clone()));
                        }
                        ChildState::Replaced | ChildState::Deleting => {
                            due.push(Task::DeleteChildren(vec![child.spi_in]));
                        }
                    }
                }
                ChildState::Up if child.rekey_at <= cx.now => {
                    child.rekey_at = retry;
                    due.push(Task::RekeyChild { spi_in: child.spi_in });
                }
                _ => {}
            }
        }
        doubted.retain(|spi_in| self.is_needless(*spi_in));
        due.extend(doubted.into_iter().map(|spi_in| Task::DeleteChildren(vec![spi_in])));
        for task in due {
            self.want(task, cx);
        }
        if self.timers.child_retry_at.is_some_and(|at| at <= cx.now) {
            self.timers.child_retry_at = None;
            self.want_missing_children(cx);
        }
    }

    /// Every Child SA that we are to have and have not.
    pub(super) fn want_missing_children(&mut self, cx: &mut Context<'_>) {
        for pair in self.missing(cx.limits.selectors) {
            self.want(Task::NewChild(pair), cx);
        }
    }

    /// Asks only when nothing authentic has come for a while, IKE or ESP.
    fn check_liveness(&mut self, cx: &mut Context<'_>) {
        if self.timers.liveness_at.is_none_or(|at| at > cx.now) {
            return;
        }
        self.timers.liveness_at = None;
        let Some(peer) = self.peer.clone().filter(|peer| !peer.liveness.is_zero()) else { return };
        let heard = self.last_heard.max(cx.peers.heard_at(peer.tunnel));
        let mut next = heard + peer.liveness;
        if next <= cx.now {
            if self.outgoing.is_free() {
                self.want(Task::Liveness, cx);
            }
            next = cx.now + peer.liveness;
        }
        self.timers.liveness_at = Some(next);
    }

    /// Sends the next request that is waiting, if the window is free.
    pub(super) fn make_requests(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none() && self.outgoing.is_free() {
            let only_delete = match self.stage {
                Stage::Established => false,
                Stage::Rekeyed => true,
                _ => return,
            };
            let waits = self.timers.retry_at.is_some_and(|at| at > cx.now);
            let ready = |task: &Task| match task {
                Task::DeleteIke => true,
                Task::DeleteChildren(_) | Task::DeleteUnknown(_) | Task::Liveness | Task::ProbePath { .. } => {
                    !only_delete
                }
                Task::NewChild(_) | Task::RekeyChild { .. } | Task::RekeyIke => !only_delete && !waits,
            };
            let Some(at) = self.tasks.iter().position(ready) else { return };
            if let Some(task) = self.tasks.remove(at) {
                self.perform(task, cx);
            }
        }
    }

    fn perform(&mut self, task: Task, cx: &mut Context<'_>) {
        match task {
            Task::NewChild(pair) => self.ask_for_child(pair, cx),
            Task::RekeyChild { spi_in } => self.ask_to_rekey_child(spi_in, cx),
            Task::RekeyIke => self.ask_to_rekey_ike(None, cx),
            Task::DeleteChildren(spis_in) => self.ask_to_delete_children(&spis_in, cx),
            Task::DeleteUnknown(spi_in) => self.send_delete(&[spi_in], cx),
            Task::DeleteIke => self.ask_to_delete_ike(cx),
            Task::Liveness => self.ask_whether_alive(cx),
            Task::ProbePath { at_least, at_most } => self.probe_path(at_least, at_most, cx),
        }
    }
}
