//! IKE_INTERMEDIATE (RFC 9242) for further key exchanges (RFC 9370), such as ML-KEM: one exchange for each.
//!
//! ```text
//! KEi(n) ->
//!        <- KEr(n)        then new keys, from SK_d and the new secret
//! ```
//!
//! Each message goes under the keys of before. IKE_AUTH covers all of them, by a chain of MACs over what they said.

use super::auth::{Handshake, Step};
use crate::crypto::{Group, KeyShare};
use crate::ike::context::Context;
use crate::ike::diagnosis::{Cause, Stage as FailureStage};
use crate::ike::event::DownReason;
use crate::ike::keys::{self, SaKeys, Secret};
use crate::ike::message::{Contents, refusal};
use crate::ike::protect::Inside;
use crate::ike::sa::{IkeSa, Session, Stage};
use crate::wire::ike::{ExchangeType, Header, Payload, kind, lay_out_protected, notify as kinds};

impl IkeSa {
    pub(in crate::ike) fn send_intermediate(&mut self, group: Group, cx: &mut Context<'_>) {
        let Ok(share) = group.begin() else { return self.intermediate_failed(Cause::KeyExchangeFailed, cx) };
        let payload = Payload::KeyExchange { group: group.id(), data: share.public().to_vec() };
        self.send_request(ExchangeType::INTERMEDIATE, &[payload], cx);
        if let Stage::Handshake(handshake) = &mut self.stage {
            handshake.step = Step::IntermediateSent(Box::new(share));
        }
    }

    pub(in crate::ike) fn accept_intermediate(&mut self, share: KeyShare, payloads: &[Payload], cx: &mut Context<'_>) {
        let contents = Contents(payloads);
        let public = contents.key_exchange().filter(|(group, _)| *group == share.group().id());
        let Some((_, public)) = public.filter(|_| contents.error().is_none()) else {
            return self.intermediate_failed(Cause::KeyExchangeFailed, cx);
        };
        match share.finish(public) {
            Ok(shared) => self.add_secret(&shared),
            Err(_) => return self.intermediate_failed(Cause::KeyExchangeFailed, cx),
        }
        self.adopt_next_keys();
        self.go_on(cx);
    }

    pub(in crate::ike) fn answer_intermediate(
        &mut self,
        payloads: &[Payload],
        cx: &mut Context<'_>,
    ) -> Option<Vec<Payload>> {
        let Stage::Handshake(handshake) = &mut self.stage else { return None };
        if !matches!(handshake.step, Step::HalfOpen) {
            return None;
        }
        let group = handshake.further.pop_front();
        let offered = Contents(payloads).key_exchange();
        let (Some(group), Some((id, public))) = (group, offered) else {
            self.intermediate_failed(Cause::Malformed, cx);
            return Some(refusal(kinds::INVALID_SYNTAX));
        };
        match group.respond(public) {
            Ok((data, shared)) if id == group.id() => {
                self.add_secret(&shared);
                self.timers.expires_at = Some(cx.now + cx.limits.half_open_lifetime);
                Some(vec![Payload::KeyExchange { group: id, data }])
            }
            _ => {
                self.intermediate_failed(Cause::KeyExchangeFailed, cx);
                Some(refusal(kinds::INVALID_SYNTAX))
            }
        }
    }

    fn intermediate_failed(&mut self, cause: Cause, cx: &mut Context<'_>) {
        cx.fail(self.tunnel(), self.path, FailureStage::Intermediate, cause);
        self.end(DownReason::Failed);
    }

    /// Keys for after this exchange.
    fn add_secret(&mut self, shared: &[u8]) {
        let Some(session) = &self.session else { return };
        let prf = session.choice.prf;
        let skeyseed = keys::skeyseed_intermediate(prf, &session.d, session.nonces(), shared);
        let keys = SaKeys::expand(prf, session.choice.suite, &skeyseed, &session.seed);
        let next = Session::new(session.choice.clone(), session.seed.clone(), keys, self.role);
        self.next_session = next.ok().map(Box::new);
    }

    /// The exchange under the old keys is over.
    pub(in crate::ike) fn adopt_next_keys(&mut self) {
        if let Some(next) = self.next_session.take() {
            self.session = Some(next);
        }
    }

    /// RFC 9242 section 3.3.2: extends the chain of the side that sent this message.
    pub(in crate::ike) fn note_intermediate(&mut self, header: &Header, inside: &Inside, from_initiator: bool) {
        let (Stage::Handshake(handshake), Some(session)) = (&mut self.stage, &self.session) else { return };
        let key = if from_initiator { &session.pi } else { &session.pr };
        let chain = chain_of(handshake, from_initiator);
        let before = chain.take();
        let first = authenticated_part(header, inside);
        // In one part, which is not wiped afterwards: a kilobyte of public values, and a MAC that is no key.
        let data = [before.as_ref().map_or(&[][..], |mac| mac), &first, &inside.bytes].concat();
        *chain = Some(session.choice.prf.compute(key, &[&data]));
    }
}

fn chain_of(handshake: &mut Handshake, initiator: bool) -> &mut Option<Secret> {
    match initiator {
        true => &mut handshake.intermediate.initiator,
        false => &mut handshake.intermediate.responder,
    }
}

/// The header and the generic header of SK as if nothing but the plaintext followed: no IV, padding or ICV, no fragments.
fn authenticated_part(header: &Header, inside: &Inside) -> Vec<u8> {
    let header = Header { next_payload: kind::ENCRYPTED, ..*header };
    let (mut message, associated, _) = lay_out_protected(&header, inside.first, None, inside.bytes.len());
    message.truncate(associated.end);
    message
}
