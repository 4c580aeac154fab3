//! IKE messages on their way in: the checks that come before any IKE SA, in the order that `mod.rs` lists.

use super::diagnosis::{Cause, Stage as FailureStage};
use super::endpoint::Endpoint;
use super::exchange::init::InitRequest;
use super::half_open::{Admission, MAX_REQUEST_BYTES};
use super::message::{self, Contents, notify};
use super::proposal;
use super::protect::transmit;
use super::sa::{IkeSa, Stage};
use crate::net::Timestamp;
use crate::packet::{Datagram, DropReason, Outbox};
use crate::wire::ike::{self, ExchangeType, Flags, Header, ParseError, Payload, notify as kinds};

/// Whose a message says that it is. Anybody who has seen our SPI can say so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// It names an IKE SA, by our SPI, that is established or that we began.
    Peers(u64),
    /// It names one whose initiator has not proved who it is.
    Strangers(u64),
    /// An IKE_SA_INIT of somebody new.
    Nobodys,
}

impl Claim {
    /// Ours.
    pub fn spi(self) -> Option<u64> {
        match self {
            Claim::Peers(spi) | Claim::Strangers(spi) => Some(spi),
            Claim::Nobodys => None,
        }
    }
}

impl Endpoint {
    /// Looks at the header alone. `None`: an IKE SA that does not exist.
    pub fn claim(&self, message: &[u8]) -> Option<Claim> {
        let header = Header::peek(message)?;
        if header.exchange == ExchangeType::SA_INIT && !header.flags.response || header.version >> 4 > 2 {
            return Some(Claim::Nobodys);
        }
        let spi = our_spi(&header);
        let sa = &self.sas.get(&spi)?.sa;
        let is_known = header.exchange == ExchangeType::SA_INIT || names(sa, &header);
        let is_strangers = !sa.role.is_initiator() && matches!(sa.stage, Stage::Handshake(_));
        is_known.then_some(if is_strangers { Claim::Strangers(spi) } else { Claim::Peers(spi) })
    }

    /// Takes one IKE message (without the marker of the NAT traversal port). Answers go into `outbox`.
    pub fn handle_input(
        &mut self,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        self.now = self.now.max(now);
        let header = match ike::parse_header(datagram.bytes) {
            Ok(header) => header,
            Err(ParseError::Version(version)) => return self.refuse_version(version, datagram, outbox),
            Err(_) => return Err(DropReason::OuterMalformed),
        };
        let our_spi = our_spi(&header);
        match (header.exchange, header.flags.response) {
            (ExchangeType::SA_INIT, false) => self.handle_init(&header, datagram, outbox),
            (ExchangeType::SA_INIT, true) => self
                .with_sa(our_spi, outbox, |sa, cx| sa.accept_init_response(&header, datagram.bytes, datagram.path, cx))
                .unwrap_or(Err(DropReason::HandshakeInvalid)),
            _ => self
                .with_sa(our_spi, outbox, |sa, cx| match names(sa, &header) {
                    true => sa.handle_sealed(&header, datagram, cx),
                    false => Err(DropReason::HandshakeInvalid),
                })
                .unwrap_or(Err(DropReason::HandshakeInvalid)),
        }
    }

    /// Section 2.5: "SHOULD send an unauthenticated Notify ... containing the highest version number it supports". Not to
    /// responses, and never longer than what came.
    fn refuse_version(&mut self, version: u8, datagram: Datagram<'_>, outbox: &mut Outbox) -> Result<(), DropReason> {
        let Some(header) = Header::peek(datagram.bytes) else { return Err(DropReason::OuterMalformed) };
        if version >> 4 > 2 && !header.flags.response && datagram.bytes.len() >= 36 {
            let answer = Header::new(
                (header.initiator_spi, header.responder_spi),
                header.exchange,
                Flags { initiator: !header.flags.initiator, response: true },
                header.message_id,
            );
            let payload = notify(kinds::INVALID_MAJOR_VERSION, []);
            transmit(&[ike::emit_message(&answer, &[payload])], &datagram.path, outbox);
        }
        Err(DropReason::OuterMalformed)
    }

    fn handle_init(&mut self, header: &Header, datagram: Datagram<'_>, outbox: &mut Outbox) -> Result<(), DropReason> {
        let first = header.flags.initiator && header.responder_spi == 0 && header.message_id == 0;
        if !first || header.initiator_spi == 0 || datagram.bytes.len() > MAX_REQUEST_BYTES {
            return Err(DropReason::OuterMalformed);
        }
        let path = datagram.path;
        let key = self.half_open.key(&path, datagram.bytes);
        match self.half_open.repeat(&key) {
            Some((spi, true)) => return self.repeat_init(spi, datagram, outbox),
            Some((_, false)) => return Err(DropReason::HandshakeUnderLoad),
            None => {}
        }
        let admission = self.half_open.admission(&path, self.peers.is_expected_from(&path), &self.limits);
        if let Admission::Full(limit) = admission {
            self.with_context(outbox, |cx| cx.fail(None, path, FailureStage::Init, Cause::TooManyHalfOpen { limit }));
            return Err(DropReason::HandshakeUnderLoad);
        }
        let payloads =
            ike::parse_payloads(header.next_payload, datagram.bytes.get(28..).unwrap_or_default(), &self.limits.wire);
        let payloads = match payloads {
            Ok(payloads) => payloads,
            Err(ParseError::UnsupportedCritical(kind)) => {
                return self.refuse_init(header, datagram, notify(kinds::UNSUPPORTED_CRITICAL_PAYLOAD, [kind]), outbox);
            }
            Err(_) => return Err(DropReason::OuterMalformed),
        };
        let contents = Contents(&payloads);
        let (Some(proposals), Some((group, public)), Some(nonce)) =
            (contents.proposals(), contents.key_exchange(), contents.nonce())
        else {
            return Err(DropReason::OuterMalformed);
        };
        if admission == Admission::ProveAddress {
            let cookie = contents.notify(kinds::COOKIE).map_or(&[][..], |cookie| cookie.data.as_slice());
            if !self.half_open.is_our_cookie(cookie, &path, header.initiator_spi, nonce, self.now) {
                let cookie = self.half_open.cookie(&path, header.initiator_spi, nonce, self.now);
                let _ = self.refuse_init(header, datagram, notify(kinds::COOKIE, cookie), outbox);
                return Err(DropReason::HandshakeUnderLoad);
            }
        }
        let profiles = self.peers.profiles_for(&path);
        let intermediate = contents.has(kinds::INTERMEDIATE_EXCHANGE_SUPPORTED);
        let choice = match proposal::choose_ike(proposals, &profiles, Some(group)) {
            Ok(choice) if choice.further.is_empty() || intermediate => choice,
            Ok(_) => return self.no_proposal(header, datagram, Cause::NoIntermediate, outbox),
            Err(cause) => return self.no_proposal(header, datagram, cause, outbox),
        };
        if choice.group.id() != group {
            let wanted = message::invalid_ke(choice.group).remove(0);
            return self.refuse_init(header, datagram, wanted, outbox);
        }
        let forced = self.peers.forces_udp(&path);
        let bytes = datagram.bytes;
        let request = InitRequest { header, path, datagram: bytes, payloads: &payloads, nonce, public };
        let mut sa = self.with_context(outbox, |cx| IkeSa::answer_init(&request, choice, forced, cx));
        sa.half_open_key = Some(key);
        self.half_open.insert(key, &path, sa.our_spi);
        self.insert(Box::new(sa));
        Ok(())
    }

    /// The same request again: the same answer.
    fn repeat_init(&mut self, spi: u64, datagram: Datagram<'_>, outbox: &mut Outbox) -> Result<(), DropReason> {
        let Some(entry) = self.sas.get(&spi) else { return Err(DropReason::HandshakeInvalid) };
        let Stage::Handshake(handshake) = &entry.sa.stage else { return Err(DropReason::HandshakeInvalid) };
        transmit(std::slice::from_ref(&handshake.init_response), &datagram.path, outbox);
        Ok(())
    }

    fn no_proposal(
        &mut self,
        header: &Header,
        datagram: Datagram<'_>,
        cause: Cause,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        // Only a guess at who it is, so it counts against nobody.
        self.with_context(outbox, |cx| cx.fail(None, datagram.path, FailureStage::Init, cause));
        self.refuse_init(header, datagram, notify(kinds::NO_PROPOSAL_CHOSEN, []), outbox)
    }

    /// An answer that leaves nothing behind: the responder's SPI is zero (section 2.6).
    fn refuse_init(
        &mut self,
        header: &Header,
        datagram: Datagram<'_>,
        what: Payload,
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        let flags = Flags { initiator: false, response: true };
        let answer = Header::new((header.initiator_spi, 0), ExchangeType::SA_INIT, flags, 0);
        transmit(&[ike::emit_message(&answer, &[what])], &datagram.path, outbox);
        Err(DropReason::HandshakeInvalid)
    }
}

fn our_spi(header: &Header) -> u64 {
    if header.flags.initiator { header.responder_spi } else { header.initiator_spi }
}

/// Whether a message that carries our SPI names this SA in full, from the side that it must come from.
fn names(sa: &IkeSa, header: &Header) -> bool {
    let theirs = if header.flags.initiator { header.initiator_spi } else { header.responder_spi };
    sa.role.is_initiator() != header.flags.initiator && theirs == sa.their_spi && theirs != 0
}
