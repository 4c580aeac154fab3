//! INFORMATIONAL (RFC 7296 section 1.4): delete, "are you there?", and where the peer is now (MOBIKE, RFC 4555).

use crate::ike::child::ChildState;
use crate::ike::context::Context;
use crate::ike::diagnosis::{Cause, Stage as FailureStage};
use crate::ike::event::DownReason;
use crate::ike::message::{Contents, notify};
use crate::ike::nat;
use crate::ike::protect::transmit;
use crate::ike::sa::{IkeSa, Pending, Stage, Task};
use crate::net::Path;
use crate::wire::ike::{Delete, ExchangeType, Payload, Protocol, notify as kinds};

impl IkeSa {
    pub(in crate::ike) fn ask_whether_alive(&mut self, cx: &mut Context<'_>) {
        self.send_request(ExchangeType::INFORMATIONAL, &[], cx);
        self.pending = Some(Pending::Liveness);
    }

    /// Those of `spis_in` that still exist.
    pub(in crate::ike) fn ask_to_delete_children(&mut self, spis_in: &[u32], cx: &mut Context<'_>) {
        let mut ours = Vec::new();
        for spi in spis_in {
            if let Some(child) = self.child_mut(*spi) {
                child.state = ChildState::Deleting;
                ours.push(*spi);
            }
        }
        if !ours.is_empty() {
            self.send_delete(&ours, cx);
        }
    }

    pub(in crate::ike) fn send_delete(&mut self, spis_in: &[u32], cx: &mut Context<'_>) {
        let spis = spis_in.iter().map(|spi| spi.to_be_bytes().to_vec()).collect();
        let payload = Payload::Delete(Delete { protocol: Protocol::Esp, spis });
        self.send_request(ExchangeType::INFORMATIONAL, &[payload], cx);
        self.pending = Some(Pending::DeleteChildren(spis_in.to_vec()));
    }

    pub(in crate::ike) fn ask_to_delete_ike(&mut self, cx: &mut Context<'_>) {
        let payload = Payload::Delete(Delete { protocol: Protocol::Ike, spis: Vec::new() });
        self.send_request(ExchangeType::INFORMATIONAL, &[payload], cx);
        self.pending = Some(Pending::DeleteIke);
        if !matches!(self.stage, Stage::Rekeyed) {
            self.stage = Stage::Deleting;
        }
    }

    /// The last word, whose answer nobody waits for: the process ends. So it does not wait either for the answer to a request
    /// that is under way (a departure from section 2.3, with which peers would only notice by our silence). That one goes
    /// once more before it: a peer that has not had it would take the next for one outside its window.
    pub(in crate::ike) fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        transmit(&self.outgoing.abandon(), &self.path, cx.outbox);
        self.release_asked(cx.child_spis);
        self.pending = None;
        self.closed_for = DownReason::Stopping;
        self.ask_to_delete_ike(cx);
    }

    /// Nothing goes by this IKE SA any more; the peer is told, if it still knows it.
    pub(in crate::ike) fn close(&mut self, cx: &mut Context<'_>) {
        self.leave_to_crossed(cx);
        let all: Vec<u32> = self.children.iter().map(|child| child.spi_in).collect();
        self.remove_children(&all, cx);
        self.release_asked(cx.child_spis);
        self.pending = None;
        self.tasks.clear();
        self.want_first(Task::DeleteIke);
        self.set_superseded(cx.now, cx.limits);
        self.make_requests(cx);
    }

    /// What the answer to our request means.
    pub(in crate::ike) fn accept_response(&mut self, payloads: &[Payload], cx: &mut Context<'_>) {
        let contents = Contents(payloads);
        if contents.has(kinds::INVALID_SYNTAX) {
            return self.refused_for_good(cx);
        }
        let creates = matches!(self.pending, Some(Pending::Child(_) | Pending::RekeyIke(_)));
        if creates && !contents.has(kinds::TEMPORARY_FAILURE) {
            self.timers.put_off = None;
        }
        match self.pending.take() {
            Some(Pending::Child(request)) => self.accept_child(*request, payloads, cx),
            Some(Pending::RekeyIke(request)) => self.accept_rekeyed_ike(*request, payloads, cx),
            // Whatever it says: neither side uses them any more.
            Some(Pending::DeleteChildren(spis_in)) => self.remove_children(&spis_in, cx),
            Some(Pending::DeleteIke) => self.end(DownReason::Failed),
            Some(Pending::ProbePath(probe)) => self.tell_probed(probe, cx),
            Some(Pending::Liveness) | None => {}
        }
    }

    /// Section 2.21.3: the peer could not read our request, "fatal in both peers". What its own rekey made goes on.
    fn refused_for_good(&mut self, cx: &mut Context<'_>) {
        let cause = Cause::refused_us(kinds::INVALID_SYNTAX);
        cx.fail(self.tunnel(), self.path, FailureStage::Liveness, cause);
        self.end_after_crossing(DownReason::Failed, cx);
    }

    /// Section 2.21.2: in the exchange that follows IKE_AUTH the initiator may say that it does not believe us. That ends the
    /// IKE SA without a Delete.
    pub(in crate::ike) fn note_refused_proof(&mut self, message_id: u32, payloads: &[Payload], cx: &mut Context<'_>) {
        let follows = self.proved_in.take().is_some_and(|proved| proved.wrapping_add(1) == message_id);
        let fatal = |kind| {
            matches!(kind, kinds::AUTHENTICATION_FAILED | kinds::INVALID_SYNTAX | kinds::UNSUPPORTED_CRITICAL_PAYLOAD)
        };
        if let Some(error) = Contents(payloads).error().filter(|error| follows && fatal(error.kind)) {
            cx.fail(self.tunnel(), self.path, FailureStage::Auth, Cause::refused_us(error.kind));
            self.end(DownReason::Failed);
        }
    }

    pub(in crate::ike) fn answer_informational(
        &mut self,
        payloads: &[Payload],
        path: &Path,
        cx: &mut Context<'_>,
    ) -> Vec<Payload> {
        let contents = Contents(payloads);
        let mut answer = Vec::new();
        for delete in payloads.iter().filter_map(|payload| match payload {
            Payload::Delete(delete) => Some(delete),
            _ => None,
        }) {
            match delete.protocol {
                Protocol::Ike => self.answer_delete_ike(cx),
                Protocol::Esp => answer.extend(self.answer_delete_children(&delete.spis, cx)),
                _ => {}
            }
        }
        if self.abilities.mobike && self.is_established() {
            if contents.has(kinds::UPDATE_SA_ADDRESSES) {
                self.update_addresses(payloads, path, cx);
            }
            // RFC 4555 section 3.8: the hashes are answered in any exchange; the peer sees whether its NAT has changed.
            if contents.has(kinds::NAT_DETECTION_SOURCE_IP) && self.nat.supported {
                let local = nat::local_end(path, cx.ports, cx.bound_to).filter(|_| !self.claims_nat());
                answer.extend(nat::notifies(self.spis(), path, local, cx.random_bytes()));
            }
        }
        // RFC 4555 section 3.7: proves that the answer comes by the path that was asked on.
        answer.extend(contents.notify(kinds::COOKIE2).map(|cookie| notify(kinds::COOKIE2, cookie.data.clone())));
        answer
    }

    fn answer_delete_ike(&mut self, cx: &mut Context<'_>) {
        // Section 2.25.2: our own rekey is forgotten; what theirs made goes on.
        self.end_after_crossing(DownReason::PeerDeleted, cx);
    }

    /// Our SPIs of the same Child SAs; none for those that we are deleting ourselves (section 1.4.1), nor for those that we do
    /// not know. One of these may be what we are asking for: then its answer is late, and it is over when it comes.
    fn answer_delete_children(&mut self, their_spis: &[Vec<u8>], cx: &mut Context<'_>) -> Option<Payload> {
        let named: Vec<u32> =
            their_spis.iter().filter_map(|spi| spi.as_slice().try_into().ok().map(u32::from_be_bytes)).collect();
        let going: Vec<(u32, ChildState)> = self
            .children
            .iter()
            .filter(|child| named.contains(&child.spi_out))
            .map(|child| (child.spi_in, child.state))
            .collect();
        let unknown = named.iter().filter(|spi| self.child_by_theirs(**spi).is_none()).copied().collect::<Vec<u32>>();
        if let Some(Pending::Child(request)) = &mut self.pending {
            unknown.iter().for_each(|spi| request.note_gone(*spi, cx.limits.children_per_sa));
        }
        let all: Vec<u32> = going.iter().map(|(spi, _)| *spi).collect();
        self.lose_children(&all, cx);
        let spis: Vec<Vec<u8>> = going
            .iter()
            .filter(|(_, state)| *state != ChildState::Deleting)
            .map(|(spi, _)| spi.to_be_bytes().to_vec())
            .collect();
        (!spis.is_empty()).then_some(Payload::Delete(Delete { protocol: Protocol::Esp, spis }))
    }

    /// The peer has deleted them. What we are to have, we ask for again.
    pub(super) fn lose_children(&mut self, spis_in: &[u32], cx: &mut Context<'_>) {
        let was_live = self.live_children().any(|child| spis_in.contains(&child.spi_in));
        self.remove_children(spis_in, cx);
        let initiate = self.peer.as_ref().is_some_and(|peer| peer.initiate);
        if was_live && initiate && self.is_established() {
            self.timers.child_retry_at = Some(cx.now + cx.limits.reconnect_first);
        }
    }

    /// RFC 4555 section 3.5: the peer is where this request came from.
    fn update_addresses(&mut self, payloads: &[Payload], path: &Path, cx: &mut Context<'_>) {
        self.path = *path;
        let local = self.local_end(cx);
        let found = nat::detect(self.spis(), payloads, path, local);
        if found.supported {
            let claimed = self.claims_nat();
            self.nat = nat::Nat { here: found.here || claimed, ..found };
        }
        if let Some(tunnel) = self.tunnel() {
            cx.events.push(self.path_moved(tunnel));
        }
    }
}
