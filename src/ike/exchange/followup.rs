//! IKE_FOLLOWUP_KE (RFC 9370 section 2.2.4): further key exchanges of a rekey.
//!
//! We never agree to any in CREATE_CHILD_SA: whatever is rekeyed descends from SK_d, into which IKE_INTERMEDIATE has mixed
//! them. So none can be under way, and the answer is the one for a state that is not there.

use crate::ike::context::Context;
use crate::ike::message::refusal;
use crate::ike::sa::IkeSa;
use crate::wire::ike::{Payload, notify as kinds};

impl IkeSa {
    pub(in crate::ike) fn answer_followup(&mut self, _payloads: &[Payload], _cx: &mut Context<'_>) -> Vec<Payload> {
        refusal(kinds::STATE_NOT_FOUND)
    }
}
