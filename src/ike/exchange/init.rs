//! IKE_SA_INIT (RFC 7296 section 1.2): algorithms, the first key exchange, NAT detection. Nothing here is authentic yet.
//!
//! ```text
//! initiator                                         responder
//! [COOKIE,] SAi1, KEi, Ni, NAT hashes, abilities ->
//!                                                <- SAr1, KEr, Nr, NAT hashes, abilities
//!                                                or COOKIE, or INVALID_KE_PAYLOAD: the same once more
//!                                                or NO_PROPOSAL_CHOSEN
//! ```

use std::time::Duration;

use super::auth::{Handshake, Step};
use crate::crypto::{Group, KeyShare};
use crate::ike::context::Context;
use crate::ike::diagnosis::{Cause, Stage as FailureStage};
use crate::ike::event::{DownReason, Role};
use crate::ike::keys::{self, Nonces, SaKeys, Seed};
use crate::ike::message::{self, Contents, notify};
use crate::ike::nat;
use crate::ike::peer::{Encapsulation, SharedPeer};
use crate::ike::proposal::{self, IkeChoice};
use crate::ike::protect::transmit;
use crate::ike::sa::{Abilities, IkeSa, Session, Stage};
use crate::ike::window::jittered;
use crate::net::{Path, Port};
use crate::packet::DropReason;
use crate::wire::ike::{self, ExchangeType, Header, Payload, notify as kinds};

/// What we remember of our IKE_SA_INIT until it is answered.
pub(in crate::ike) struct InitSent {
    /// The bytes as last sent: AUTH covers them.
    request: Vec<u8>,
    nonce: Vec<u8>,
    share: KeyShare,
    /// What we said about ourselves, once: with a cookie all of it is repeated unchanged (section 2.6).
    announced: Vec<Payload>,
    cookie: Option<Vec<u8>>,
    /// COOKIE and INVALID_KE_PAYLOAD make for another one each.
    attempts: u32,
    tried: Vec<Group>,
    /// An answer refused us. Anybody can say so: another answer is still waited for.
    refused: bool,
}

/// How long an answer is waited for after a refusal: any answer that is on its way arrives, and one more request is sent.
const DOUBT: Duration = Duration::from_secs(2);

/// The hash algorithms that we verify signatures with (RFC 7427 section 4): SHA2-256, 384, 512, and identity (RFC 8420).
const HASH_ALGORITHMS: [u16; 4] = [2, 3, 4, 5];

impl IkeSa {
    /// Calls a peer. `None`: it cannot be called (and the failure has been told).
    pub(in crate::ike) fn call(peer: &SharedPeer, cx: &mut Context<'_>) -> Option<IkeSa> {
        let path = Path::from_port(Port::Ike, peer.remote?);
        let group = *proposal::ike_groups(peer.profile).first()?;
        let Ok(share) = group.begin() else {
            cx.fail(Some(peer.tunnel), path, FailureStage::Init, Cause::KeyExchangeFailed);
            return None;
        };
        let sent = InitSent {
            request: Vec::new(),
            nonce: cx.nonce(),
            share,
            announced: Vec::new(),
            cookie: None,
            attempts: 0,
            tried: vec![group],
            refused: false,
        };
        let stage = Stage::InitSent(Box::new(sent));
        let mut sa = IkeSa::new(Role::Initiator, cx.ike_spi(), path, stage, cx.now);
        sa.peer = Some(peer.clone());
        sa.send_init(cx);
        Some(sa)
    }

    /// The first IKE_SA_INIT, or another one with what the responder asked for.
    fn send_init(&mut self, cx: &mut Context<'_>) {
        let Some(peer) = self.peer.clone() else { return };
        let header = self.header(ExchangeType::SA_INIT, false, 0);
        let announced = match &self.stage {
            Stage::InitSent(sent) if sent.attempts > 0 => sent.announced.clone(),
            _ => self.announcements(&peer, cx),
        };
        let Stage::InitSent(sent) = &mut self.stage else { return };
        let mut payloads = Vec::new();
        payloads.extend(sent.cookie.iter().map(|cookie| notify(kinds::COOKIE, cookie.clone()))); // section 2.6: first
        payloads.push(Payload::SecurityAssociation(proposal::ike_proposals(peer.profile)));
        let data = sent.share.public().to_vec();
        payloads.push(Payload::KeyExchange { group: sent.share.group().id(), data });
        payloads.push(Payload::Nonce(sent.nonce.clone()));
        payloads.extend(announced.iter().cloned());
        sent.announced = announced;
        sent.request = ike::emit_message(&header, &payloads);
        sent.attempts += 1;
        let datagrams = vec![sent.request.clone()];
        let first = sent.attempts == 1;
        transmit(&datagrams, &self.path, cx.outbox);
        let resend_at = cx.now + jittered(self.retransmit(cx).wait(1), cx.jitter());
        match first {
            true => self.outgoing.begin(datagrams, resend_at),
            false => self.outgoing.begin_again(datagrams, resend_at),
        }
    }

    /// What an initiator says about itself.
    fn announcements(&self, peer: &SharedPeer, cx: &mut Context<'_>) -> Vec<Payload> {
        let mut payloads = Vec::new();
        if peer.encapsulation != Encapsulation::Esp {
            let forced = peer.encapsulation == Encapsulation::Udp;
            let local = self.local_end(cx).filter(|_| !forced);
            payloads.extend(nat::notifies(self.spis(), &self.path, local, cx.random_bytes()));
        }
        payloads.push(notify(kinds::IKEV2_FRAGMENTATION_SUPPORTED, []));
        payloads.push(hash_algorithms());
        if proposal::has_further_exchanges(peer.profile) {
            payloads.push(notify(kinds::INTERMEDIATE_EXCHANGE_SUPPORTED, []));
        }
        if peer.ppk.is_some() {
            payloads.push(notify(kinds::USE_PPK, []));
        }
        payloads
    }

    /// An answer to our IKE_SA_INIT: forged by anyone on the path, so it changes nothing but this attempt.
    pub(in crate::ike) fn accept_init_response(
        &mut self,
        header: &Header,
        datagram: &[u8],
        path: Path,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        if !matches!(self.stage, Stage::InitSent(_))
            || !self.outgoing.awaits(0, header.exchange)
            || header.message_id != 0
        {
            return Err(DropReason::HandshakeInvalid);
        }
        let body = datagram.get(28..).unwrap_or_default();
        let payloads =
            ike::parse_payloads(header.next_payload, body, &cx.limits.wire).map_err(|_| DropReason::OuterMalformed)?;
        let contents = Contents(&payloads);
        if let Some(cookie) = contents.notify(kinds::COOKIE) {
            return self.send_cookie(cookie.data.clone(), cx);
        }
        if let Some(wanted) = contents.notify(kinds::INVALID_KE_PAYLOAD) {
            return self.change_group(message::wanted_group(wanted), cx);
        }
        if let Some(error) = contents.error() {
            return Err(self.init_refused(proposal::refused_ike(self.profile(), error.kind), cx));
        }
        self.path.local = path.local.or(self.path.local);
        self.accept_init(header, datagram, &contents, cx)
    }

    fn send_cookie(&mut self, cookie: Vec<u8>, cx: &mut Context<'_>) -> Result<(), DropReason> {
        let Stage::InitSent(sent) = &mut self.stage else { return Err(DropReason::HandshakeInvalid) };
        if !(1..=64).contains(&cookie.len()) {
            return Err(DropReason::OuterMalformed);
        }
        let attempts = sent.attempts;
        if attempts >= cx.limits.init_attempts {
            return Err(self.init_refused(Cause::CookieLoop { attempts }, cx));
        }
        sent.cookie = Some(cookie);
        self.send_init(cx);
        Ok(())
    }

    /// Section 1.2: the responder wants another group of those that we offered.
    fn change_group(&mut self, wanted: Option<Group>, cx: &mut Context<'_>) -> Result<(), DropReason> {
        let offered = proposal::ike_groups(self.profile());
        let most = cx.limits.init_attempts;
        let Stage::InitSent(sent) = &mut self.stage else { return Err(DropReason::HandshakeInvalid) };
        let usable = wanted.filter(|group| offered.contains(group) && !sent.tried.contains(group));
        let share = usable.filter(|_| sent.attempts < most).and_then(|group| group.begin().ok());
        let Some(share) = share else {
            return Err(self.init_refused(Cause::GroupRefused { wanted: wanted.map(Group::id) }, cx));
        };
        sent.tried.push(share.group());
        sent.share = share;
        self.send_init(cx);
        Ok(())
    }

    fn accept_init(
        &mut self,
        header: &Header,
        datagram: &[u8],
        contents: &Contents<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let (Some(proposals), Some((group, public)), Some(nonce)) =
            (contents.proposals(), contents.key_exchange(), contents.nonce())
        else {
            return Err(DropReason::OuterMalformed);
        };
        if header.responder_spi == 0 {
            return Err(DropReason::OuterMalformed);
        }
        let choice = match proposal::accept_ike(proposals, self.profile()) {
            Ok(choice) => choice,
            Err(cause) => return Err(self.init_refused(cause, cx)),
        };
        if !matches!(&self.stage, Stage::InitSent(sent) if sent.share.group() == choice.group && group == choice.group.id())
        {
            return Err(self.init_refused(Cause::GroupRefused { wanted: Some(group) }, cx));
        }
        // RFC 8784 section 3: what would follow must be protected by it, our identity not least.
        if self.peer.as_ref().and_then(|peer| peer.ppk.as_ref()).is_some_and(|ppk| ppk.required)
            && !contents.has(kinds::USE_PPK)
        {
            return Err(self.init_refused(Cause::PpkRequired, cx));
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Deleting);
        let Stage::InitSent(sent) = stage else { return Err(DropReason::HandshakeInvalid) };
        let Ok(shared) = sent.share.finish(public) else {
            self.end(DownReason::Failed);
            return Err(self.init_failed(Cause::KeyExchangeFailed, cx));
        };
        self.their_spi = header.responder_spi;
        self.timers.expires_at = None;
        self.outgoing.finish();
        let nonces = Nonces { initiator: sent.nonce, responder: nonce.to_vec() };
        self.begin_session(choice.clone(), nonces, &shared);
        self.note_abilities(contents);
        let local = self.local_end(cx);
        self.nat = nat::detect(self.spis_in_init(), contents.0, &self.path, local);
        let peer = self.peer.clone();
        self.nat.here |= peer.as_ref().is_some_and(|peer| peer.encapsulation == Encapsulation::Udp);
        self.float(peer.map_or(4500, |peer| peer.remote_nat_t_port));
        let handshake = Handshake {
            init_request: sent.request,
            init_response: datagram.to_vec(),
            further: choice.further.iter().copied().collect(),
            use_ppk: contents.has(kinds::USE_PPK),
            ..Handshake::default()
        };
        self.stage = Stage::Handshake(Box::new(handshake));
        self.go_on(cx);
        Ok(())
    }

    /// The SPIs that NAT detection hashes: in a request the responder's is still zero.
    fn spis_in_init(&self) -> (u64, u64) {
        self.spis()
    }

    /// Section 2.21.1: "the recipient should not immediately act based on the error notification", since anybody can send
    /// one. It is told at once, and the attempt ends soon, unless a better answer comes.
    fn init_refused(&mut self, cause: Cause, cx: &mut Context<'_>) -> DropReason {
        let (tunnel, path) = (self.tunnel(), self.path);
        if let Stage::InitSent(sent) = &mut self.stage
            && !std::mem::replace(&mut sent.refused, true)
        {
            cx.fail(tunnel, path, FailureStage::Init, cause);
            self.timers.expires_at = Some(cx.now + DOUBT);
        }
        DropReason::HandshakeInvalid
    }

    fn init_failed(&mut self, cause: Cause, cx: &mut Context<'_>) -> DropReason {
        cx.fail(self.tunnel(), self.path, FailureStage::Init, cause);
        self.end(DownReason::Failed);
        DropReason::HandshakeInvalid
    }

    fn begin_session(&mut self, choice: IkeChoice, nonces: Nonces, shared: &[u8]) {
        let (initiator_spi, responder_spi) = self.spis();
        let skeyseed = keys::skeyseed(choice.prf, &nonces, shared);
        let seed = Seed { nonces, initiator_spi, responder_spi };
        let keys = SaKeys::expand(choice.prf, choice.suite, &skeyseed, &seed);
        match Session::new(choice, seed, keys, self.role) {
            Ok(session) => self.session = Some(Box::new(session)),
            Err(_) => self.end(DownReason::Failed), // lengths come from the suite itself
        }
    }

    fn note_abilities(&mut self, contents: &Contents<'_>) {
        let hashes = contents.notify(kinds::SIGNATURE_HASH_ALGORITHMS);
        let hashes = hashes.map_or(&[][..], |notify| notify.data.as_slice());
        self.abilities = Abilities {
            fragmentation: contents.has(kinds::IKEV2_FRAGMENTATION_SUPPORTED),
            mobike: false,
            hash_algorithms: hashes.chunks_exact(2).map(|id| u16::from_be_bytes([id[0], id[1]])).collect(),
            without_pfs: false,
        };
    }

    /// As responder, after every cheaper check: one Diffie-Hellman, and the answer. `request` is the whole message.
    ///
    /// A public value that is none gets no answer, but holds its place in the table as long as any: it costs us as much.
    pub(in crate::ike) fn answer_init(
        request: &InitRequest<'_>,
        choice: IkeChoice,
        forced: bool,
        cx: &mut Context<'_>,
    ) -> IkeSa {
        let stage = Stage::Deleting; // until the handshake is filled in
        let mut sa = IkeSa::new(Role::Responder, cx.ike_spi(), request.path, stage, cx.now);
        sa.their_spi = request.header.initiator_spi;
        sa.timers.expires_at = Some(cx.now + cx.limits.half_open_lifetime);
        let Ok((public, shared)) = choice.group.respond(request.public) else { return sa };
        let nonces = Nonces { initiator: request.nonce.to_vec(), responder: cx.nonce() };
        let contents = Contents(request.payloads);
        let mut payloads = vec![
            Payload::SecurityAssociation(vec![proposal::emit_ike(&choice, &[])]),
            Payload::KeyExchange { group: choice.group.id(), data: public },
            Payload::Nonce(nonces.responder.clone()),
        ];
        let local = sa.local_end(cx);
        sa.nat = nat::detect((sa.their_spi, 0), request.payloads, &request.path, local);
        if sa.nat.supported {
            sa.nat.here |= forced;
            payloads.extend(nat::notifies(sa.spis(), &request.path, local.filter(|_| !forced), cx.random_bytes()));
        }
        payloads.extend(cx.peers.certificate_request());
        payloads.extend(answered_announcements(&contents, &choice, cx));
        sa.note_abilities(&contents);
        let handshake = Handshake {
            init_request: request.datagram.to_vec(),
            further: choice.further.iter().copied().collect(),
            use_ppk: contents.has(kinds::USE_PPK) && cx.peers.any_ppk(),
            step: Step::HalfOpen,
            ..Handshake::default()
        };
        sa.begin_session(choice, nonces, &shared);
        let header = sa.header(ExchangeType::SA_INIT, true, 0);
        let response = ike::emit_message(&header, &payloads);
        transmit(std::slice::from_ref(&response), &request.path, cx.outbox);
        sa.incoming.note(request.datagram);
        sa.incoming.answered(vec![response.clone()]);
        sa.stage = Stage::Handshake(Box::new(Handshake { init_response: response, ..handshake }));
        sa
    }
}

/// An IKE_SA_INIT request that has passed the cheap checks.
pub(in crate::ike) struct InitRequest<'a> {
    pub header: &'a Header,
    pub path: Path,
    pub datagram: &'a [u8],
    pub payloads: &'a [Payload],
    pub nonce: &'a [u8],
    pub public: &'a [u8],
}

/// What a responder says about itself, where the initiator has asked.
fn answered_announcements(contents: &Contents<'_>, choice: &IkeChoice, cx: &Context<'_>) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if contents.has(kinds::IKEV2_FRAGMENTATION_SUPPORTED) {
        payloads.push(notify(kinds::IKEV2_FRAGMENTATION_SUPPORTED, []));
    }
    if contents.has(kinds::SIGNATURE_HASH_ALGORITHMS) {
        payloads.push(hash_algorithms());
    }
    if contents.has(kinds::INTERMEDIATE_EXCHANGE_SUPPORTED) && !choice.further.is_empty() {
        payloads.push(notify(kinds::INTERMEDIATE_EXCHANGE_SUPPORTED, []));
    }
    if contents.has(kinds::USE_PPK) && cx.peers.any_ppk() {
        payloads.push(notify(kinds::USE_PPK, []));
    }
    payloads
}

fn hash_algorithms() -> Payload {
    notify(kinds::SIGNATURE_HASH_ALGORITHMS, HASH_ALGORITHMS.map(u16::to_be_bytes).concat())
}
