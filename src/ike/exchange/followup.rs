//! IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4): further key exchanges of a rekey, one exchange for each.
//!
//! ```text
//! CREATE_CHILD_SA:  SA, Ni, KEi, ...          ->
//!                                             <-  SA, Nr, KEr, ..., N(ADDITIONAL_KEY_EXCHANGE, link)
//! IKE_FOLLOWUP_KE:  KEi(1), N(the same link)  ->
//!                                             <-  KEr(1) [, N(ADDITIONAL_KEY_EXCHANGE, another link)]
//! ```
//!
//! The SA comes into being with the last of them. As responder we remember one deal at a time for each IKE SA; the link is
//! random and names it. A newer request takes its place, and it is forgotten with the IKE SA.

use std::collections::VecDeque;

use super::create_child::MadeChild;
use super::rekey_ike::MadeIke;
use crate::crypto::{Group, KeyShare};
use crate::ike::context::Context;
use crate::ike::keys::Secret;
use crate::ike::message::{Contents, notify, refusal};
use crate::ike::sa::IkeSa;
use crate::wire::ike::{ExchangeType, Payload, notify as kinds};

/// What we have agreed to as responder, and still lacks keys.
pub(in crate::ike) struct Followup {
    link: [u8; 16],
    further: VecDeque<Group>,
    pub made: Made,
}

pub(in crate::ike) enum Made {
    Child(MadeChild),
    Ike(MadeIke),
}

impl Made {
    fn add(&mut self, secret: Secret) {
        match self {
            Made::Child(made) => made.shared.further.push(secret),
            Made::Ike(made) => made.shared.further.push(secret),
        }
    }
}

/// What the answer to ours adds to the keys.
pub(super) fn secret(share: Option<KeyShare>, contents: &Contents<'_>) -> Option<Secret> {
    let (share, (id, public)) = (share?, contents.key_exchange()?);
    (id == share.group().id()).then(|| share.finish(public).ok()).flatten()
}

impl IkeSa {
    /// As initiator. `answer` is what came before, with the link.
    pub(super) fn send_followup(
        &mut self,
        group: Group,
        answer: &Contents<'_>,
        cx: &mut Context<'_>,
    ) -> Option<KeyShare> {
        let link = answer.notify(kinds::ADDITIONAL_KEY_EXCHANGE).map_or_else(Vec::new, |link| link.data.clone());
        let share = group.begin().ok();
        let data = share.as_ref().map_or_else(Vec::new, |share| share.public().to_vec());
        let payloads = [Payload::KeyExchange { group: group.id(), data }, notify(kinds::ADDITIONAL_KEY_EXCHANGE, link)];
        self.send_request(ExchangeType::FOLLOWUP_KE, &payloads, cx);
        share
    }

    /// As responder: the link that the answer carries.
    pub(super) fn expect_followup(&mut self, further: VecDeque<Group>, made: Made, cx: &mut Context<'_>) -> Payload {
        self.forget_followup(cx);
        let link = cx.random_bytes();
        self.followup = Some(Box::new(Followup { link, further, made }));
        notify(kinds::ADDITIONAL_KEY_EXCHANGE, link)
    }

    fn forget_followup(&mut self, cx: &mut Context<'_>) {
        if let Some(Made::Child(made)) = self.followup.take().map(|followup| followup.made) {
            cx.child_spis.release(made.spi_in);
        }
    }

    pub(in crate::ike) fn answer_followup(&mut self, payloads: &[Payload], cx: &mut Context<'_>) -> Vec<Payload> {
        let contents = Contents(payloads);
        let link = contents.notify(kinds::ADDITIONAL_KEY_EXCHANGE).map(|link| link.data.as_slice());
        let Some(mut followup) = self.followup.take_if(|followup| link == Some(&followup.link[..])) else {
            return refusal(kinds::STATE_NOT_FOUND);
        };
        let answered = match (followup.further.pop_front(), contents.key_exchange()) {
            (Some(group), Some((id, public))) if id == group.id() => group.respond(public).ok(),
            _ => None,
        };
        let wanted = match &followup.made {
            Made::Child(made) => self.still_wants(made),
            Made::Ike(_) => self.may_be_succeeded(),
        };
        let (Some((data, secret)), true) = (answered, wanted) else {
            let kind = if wanted { kinds::INVALID_SYNTAX } else { kinds::STATE_NOT_FOUND };
            self.followup = Some(followup);
            self.forget_followup(cx);
            return refusal(kind);
        };
        followup.made.add(secret);
        let group = contents.key_exchange().map_or(0, |(id, _)| id);
        let mut answer = vec![Payload::KeyExchange { group, data }];
        match (followup.further.is_empty(), followup.made) {
            (false, made) => answer.push(self.expect_followup(followup.further, made, cx)),
            (true, Made::Child(made)) => self.install_theirs(made, cx),
            (true, Made::Ike(made)) => self.succeed_theirs(made, cx),
        }
        answer
    }
}
