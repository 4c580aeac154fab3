//! Sealed messages of one IKE SA on their way in and out: authenticity, fragments, windows, and which exchange it is.

use super::context::{Context, Effect};
use super::diagnosis::{Cause, Stage as FailureStage};
use super::event::{DownReason, Role};
use super::exchange::auth::Step;
use super::message::{Contents, notify, refusal};
use super::nat;
use super::protect::{Inside, most_bytes, transmit};
use super::reassembly::Bounds;
use super::sa::{IkeSa, Stage};
use super::window::{Arrival, Repeat, digest, jittered};
use crate::net::{Path, Port};
use crate::packet::{Datagram, DropReason};
use crate::wire::ike::{self, ExchangeType, Flags, Header, ParseError, Payload};

impl IkeSa {
    /// A message that names this SA by our SPI. Nothing is known about its sender yet.
    pub(super) fn handle_sealed(
        &mut self,
        header: &Header,
        datagram: Datagram<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let is_response = header.flags.response;
        match is_response {
            true if self.outgoing.awaits(header.message_id, header.exchange) => {}
            true => return Err(DropReason::HandshakeInvalid),
            false => match self.incoming.arrival(header.message_id) {
                Arrival::New => {}
                Arrival::Repeated => return self.answer_again(header, datagram, cx),
                Arrival::Outside => return Err(DropReason::HandshakeInvalid),
            },
        }
        let protected = ike::find_protected(header.next_payload, datagram.bytes, &cx.limits.wire)
            .map_err(|_| DropReason::OuterMalformed)?
            .ok_or(DropReason::HandshakeInvalid)?;
        let session = self.session.as_ref().ok_or(DropReason::HandshakeInvalid)?;
        let plain = session.protection.open(datagram.bytes, &protected).map_err(|_| DropReason::HandshakeInvalid)?;
        // Section 2.23: only a new message tells where the peer is. A copy of one may be anybody's.
        let reassembly = if is_response { &self.responses } else { &self.requests };
        if protected.fragment.is_some_and(|fragment| reassembly.has_seen(header.message_id, fragment)) {
            return Ok(());
        }
        if self.awaits_proof() && !self.may_be_at(&datagram.path) {
            return Err(DropReason::HandshakeInvalid); // as if it were lost: it is sent again
        }
        self.heard_from(datagram.path, cx);
        if !is_response && protected.fragment.is_none_or(|fragment| fragment.number == 1) {
            self.incoming.note(datagram.bytes, protected.fragment.map_or(0, |fragment| fragment.total));
        }
        let inside = match protected.fragment {
            None => Inside { first: protected.inner_first, bytes: plain },
            Some(fragment) => {
                let bounds = Bounds { fragments: cx.limits.fragments, bytes: cx.limits.message_bytes };
                let reassembly = if is_response { &mut self.responses } else { &mut self.requests };
                let whole = reassembly.take(header.message_id, fragment, protected.inner_first, plain, &bounds);
                let Some(whole) = whole else { return Ok(()) };
                whole
            }
        };
        match is_response {
            true => self.handle_response(header, &inside, cx),
            false => self.handle_request(header, &inside, datagram.path, cx),
        }
        self.make_requests(cx);
        Ok(())
    }

    /// A request that has been answered, bit for bit or cut otherwise: the answer again (section 2.1), and nothing else changes.
    ///
    /// It goes "to the address and port from which the request was received" (section 2.11): a NAT may have given the peer
    /// another mapping since, and then it waits there. But anybody can have recorded the request, and write any address on
    /// it. So the peer's path stays as it is (section 2.23: only a new message moves it), and to other addresses than the
    /// peer's go only [`MAX_REPEATS`](super::half_open::MAX_REPEATS) copies of one answer, sealed as they are; the next
    /// request ends them. At its own address the peer is always answered.
    ///
    /// Only the IKE_AUTH that proved the peer takes it back to where IKE_SA_INIT found it: the copy that came first may have
    /// been given other ports on the way.
    fn answer_again(
        &mut self,
        header: &Header,
        datagram: Datagram<'_>,
        cx: &mut Context<'_>,
    ) -> Result<(), DropReason> {
        let elsewhere = !same_end(&datagram.path, &self.path);
        let repeat = match self.incoming.repeat(&digest(datagram.bytes), elsewhere) {
            Repeat::Another => match self.recut(header, datagram.bytes, cx) {
                Some(fragments) => self.incoming.repeat_recut(fragments, elsewhere),
                None => Repeat::Another,
            },
            same => same,
        };
        match repeat {
            Repeat::Answer(response) => {
                transmit(response, &datagram.path, cx.outbox);
                let is_proof = self.proved_in == Some(header.message_id);
                if is_proof && !self.nat.in_udp() && same_end(&datagram.path, &self.found_at) {
                    self.path = datagram.path;
                }
                Ok(())
            }
            Repeat::Spent => Err(DropReason::HandshakeUnderLoad),
            Repeat::Another => Err(DropReason::HandshakeInvalid),
        }
    }

    /// In how many fragments an authentic message came of which this is the first, or 0 for a whole one.
    fn recut(&self, header: &Header, datagram: &[u8], cx: &Context<'_>) -> Option<u16> {
        let protected = ike::find_protected(header.next_payload, datagram, &cx.limits.wire).ok()??;
        let fragments = match protected.fragment {
            None => 0,
            Some(fragment) if fragment.number == 1 => fragment.total,
            Some(_) => return None,
        };
        let session = self.session.as_ref().filter(|_| self.is_established() && self.abilities.fragmentation)?;
        session.protection.open(datagram, &protected).ok().map(|_| fragments)
    }

    /// We are the responder, and the initiator has not proved who it is.
    fn awaits_proof(&self) -> bool {
        matches!(self.stage, Stage::Handshake(_)) && !self.role.is_initiator()
    }

    /// Whether an authentic message can tell that the peer is there now (section 2.23).
    ///
    /// A peer behind a NAT can be anywhere. Any other is where IKE_SA_INIT found it until MOBIKE moves it: IKE_AUTH proves
    /// that our half of IKE_SA_INIT arrived there, and nothing proves the source of a later packet. Before that proof an
    /// initiator may go on to port 4500 ([`IkeSa::goes_to_nat_t`]). A peer with MOBIKE says itself where it is, and no other
    /// message moves it (RFC 4555 section 3.8). Which address of ours it takes is no matter.
    fn may_be_at(&self, path: &Path) -> bool {
        let says_itself = self.is_established() && self.abilities.mobike;
        same_end(path, &self.path) || self.nat.there && !says_itself || self.awaits_proof() && self.goes_to_nat_t(path)
    }

    /// The way to NAT traversal, also without a NAT (RFC 4555 section 3.3): the initiator's port changes with ours. The same
    /// port as before is not a peer's, but a message to port 500 that somebody has wrapped anew.
    fn goes_to_nat_t(&self, path: &Path) -> bool {
        let (old, new) = (self.path.remote, path.remote);
        let is_way = self.path.port == Port::Ike && path.port == Port::IkeNatT;
        is_way && new.ip() == old.ip() && new.port() != old.port()
    }

    /// An authentic message: the peer lives, and perhaps it is elsewhere now.
    fn heard_from(&mut self, path: Path, cx: &mut Context<'_>) {
        self.last_heard = cx.now;
        if path == self.path || !self.may_be_at(&path) {
            return;
        }
        let moved = path.remote != self.path.remote || path.port != self.path.port;
        self.path = path;
        if let (true, true, Some(tunnel)) = (self.is_established(), moved, self.tunnel()) {
            cx.events.push(self.path_moved(tunnel));
        }
    }

    fn handle_request(&mut self, header: &Header, inside: &Inside, path: Path, cx: &mut Context<'_>) {
        let payloads = match ike::parse_payloads(inside.first, &inside.bytes, &cx.limits.wire) {
            Ok(payloads) => payloads,
            // Section 2.5: the type of the payload that we do not know.
            Err(ParseError::UnsupportedCritical(kind)) => {
                let answer = vec![notify(ike::notify::UNSUPPORTED_CRITICAL_PAYLOAD, [kind])];
                self.respond(header, answer, &path, cx);
                // Section 2.21.2: such an IKE_AUTH makes no IKE SA.
                return if matches!(self.stage, Stage::Handshake(_)) {
                    self.end(DownReason::Failed)
                };
            }
            Err(_) => return self.refuse_for_good(header, &path, cx),
        };
        if header.exchange == ExchangeType::INTERMEDIATE {
            self.note_intermediate(header, inside, self.role == Role::Responder);
        }
        let answer = match (header.exchange, &self.stage) {
            (ExchangeType::INTERMEDIATE, Stage::Handshake(_)) => self.answer_intermediate(&payloads, cx),
            (ExchangeType::AUTH, Stage::Handshake(handshake)) if matches!(handshake.step, Step::HalfOpen) => {
                self.answer_auth(header, &payloads, cx)
            }
            (_, Stage::Handshake(_) | Stage::InitSent(_)) => None,
            (ExchangeType::CREATE_CHILD_SA, _) => Some(self.answer_create_child(&payloads, cx)),
            (ExchangeType::FOLLOWUP_KE, _) => Some(self.answer_followup(&payloads, cx)),
            (ExchangeType::INFORMATIONAL, _) => {
                self.note_refused_proof(header.message_id, &payloads, cx);
                Some(self.answer_informational(&payloads, &path, cx))
            }
            _ => Some(refusal(ike::notify::INVALID_SYNTAX)),
        };
        match answer {
            Some(answer) if Contents(&answer).has(ike::notify::INVALID_SYNTAX) => {
                self.refuse_for_good(header, &path, cx);
            }
            Some(answer) => self.respond(header, answer, &path, cx),
            None => {}
        }
        self.adopt_next_keys();
    }

    /// Section 2.21.3: INVALID_SYNTAX is "fatal in both peers". It has the keys and still cannot write.
    pub(super) fn refuse_for_good(&mut self, header: &Header, path: &Path, cx: &mut Context<'_>) {
        if self.is_established() {
            cx.fail(self.tunnel(), self.path, FailureStage::Liveness, Cause::Malformed);
        }
        self.respond(header, refusal(ike::notify::INVALID_SYNTAX), path, cx);
        self.end_after_crossing(DownReason::Failed, cx);
    }

    fn handle_response(&mut self, header: &Header, inside: &Inside, cx: &mut Context<'_>) {
        let Ok(payloads) = ike::parse_payloads(inside.first, &inside.bytes, &cx.limits.wire) else {
            self.outgoing.finish();
            if !self.is_established() {
                return self.end(DownReason::Failed);
            }
            // Section 2.21.3: no error is sent about an answer, but the peer learns that the SA is gone.
            cx.fail(self.tunnel(), self.path, FailureStage::Liveness, Cause::Malformed);
            return self.close(cx);
        };
        if header.exchange == ExchangeType::INTERMEDIATE {
            self.note_intermediate(header, inside, self.role == Role::Responder);
        }
        if self.is_suspect()
            && let Some(tunnel) = self.tunnel()
        {
            cx.effects.push(Effect::Recovered { tunnel });
        }
        self.note_probe_answered();
        self.outgoing.finish();
        match &self.stage {
            Stage::InitSent(_) => {}
            Stage::Handshake(_) => self.accept_handshake_response(header, &payloads, cx),
            _ => self.accept_response(&payloads, cx),
        }
        self.adopt_next_keys();
    }

    pub(super) fn header(&self, exchange: ExchangeType, response: bool, message_id: u32) -> Header {
        let (initiator_spi, responder_spi) = self.spis();
        Header {
            initiator_spi,
            responder_spi,
            next_payload: 0,
            version: 0x20,
            exchange,
            flags: Flags { initiator: self.role.is_initiator(), response },
            message_id,
            length: 0,
        }
    }

    /// Seals and sends a request; the window must be free.
    pub(super) fn send_request(&mut self, exchange: ExchangeType, payloads: &[Payload], cx: &mut Context<'_>) {
        let header = self.header(exchange, false, self.outgoing.next_id());
        let datagrams = self.seal(&header, payloads);
        transmit(&datagrams, &self.path, cx.outbox);
        let wait = jittered(self.retransmit(cx).wait(1), cx.jitter());
        self.outgoing.begin(datagrams, cx.now + wait);
    }

    fn respond(&mut self, request: &Header, payloads: Vec<Payload>, path: &Path, cx: &mut Context<'_>) {
        let header = self.header(request.exchange, true, request.message_id);
        let datagrams = self.seal(&header, &payloads);
        transmit(&datagrams, path, cx.outbox);
        self.incoming.answered(datagrams);
    }

    fn seal(&mut self, header: &Header, payloads: &[Payload]) -> Vec<Vec<u8>> {
        let inside = Inside::of(payloads);
        if header.exchange == ExchangeType::INTERMEDIATE {
            self.note_intermediate(header, &inside, self.role == Role::Initiator);
        }
        let fragment_bytes = self.abilities.fragmentation.then(|| most_bytes(&self.path));
        match &mut self.session {
            Some(session) => session.protection.seal(header, &inside, fragment_bytes),
            None => Vec::new(),
        }
    }

    /// Where IKE goes once a NAT is found or claimed (section 2.23).
    pub(super) fn float(&mut self, nat_t_port: u16) {
        if self.path.port == Port::Ike && self.nat.in_udp() {
            self.path.port = Port::IkeNatT;
            self.path.remote.set_port(nat_t_port);
        }
    }

    /// Our end of the path, unless a claim of a NAT is to be made.
    pub(super) fn local_end(&self, cx: &Context<'_>) -> Option<std::net::SocketAddr> {
        nat::local_end(&self.path, cx.ports, cx.bound_to)
    }
}

/// The peer at the same address and port, by the same port of ours.
fn same_end(a: &Path, b: &Path) -> bool {
    (a.remote, a.port) == (b.remote, b.port)
}
