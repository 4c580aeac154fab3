//! One peer: its keys (in boringtun's `Tunn`), where it is, and when to call it.
//!
//! Two clocks meet here. boringtun's own runs the session lifetimes; `now` runs everything that is ours: when a
//! handshake may start, keepalives, what `status` shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::event::{DownReason, Event, EventQueue, Opened, Role};
use super::message::{DATA_OVERHEAD_BYTES, INITIATION_BYTES, RESPONSE_BYTES, sender_index};
use super::news::News;
use super::status::PeerStatus;
use super::virtual_time;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Outbox};

/// At most one initiation to a peer in this time (REKEY_TIMEOUT), plus a jitter of at most [`JITTER_MS`].
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
const JITTER_MS: u32 = 333;
/// Age of a session at which a peer that is kept up renews it: the side that initiated it first (REKEY_AFTER_TIME), the
/// other only when that did not happen (REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT).
const REKEY_AFTER_INITIATOR: Duration = Duration::from_secs(120);
const REKEY_AFTER_RESPONDER: Duration = Duration::from_secs(165);
/// A session ends before its counter does (REJECT_AFTER_MESSAGES = 2^64 - 2^13 - 1).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// What boringtun's timers get to write into: enough for a keepalive, too little for an initiation.
const TIMER_ROOM_BYTES: usize = 64;
const _: () = assert!(TIMER_ROOM_BYTES >= DATA_OVERHEAD_BYTES && TIMER_ROOM_BYTES < INITIATION_BYTES);
/// At most one initiation of a peer is answered in this time (50 per second, as in the kernel's WireGuard).
const ANSWER_INTERVAL: Duration = Duration::from_millis(20);
const IPV4_HEADER_BYTES: usize = 20;

/// A peer as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    pub tunnel: TunnelId,
    pub public_key: [u8; 32],
    pub preshared_key: Option<Zeroizing<[u8; 32]>>,
    /// When set, we call the peer there, and keep the tunnel up.
    pub endpoint: Option<SocketAddr>,
    /// Send an empty message this often, so that NATs and firewalls on the way keep the path open.
    pub keepalive: Option<Duration>,
}

impl PeerConfig {
    /// Whether the sessions made under `self` may go on under `other`.
    pub(super) fn same_identity(&self, other: &PeerConfig) -> bool {
        self.public_key == other.public_key
            && self.preshared_key == other.preshared_key
            && self.endpoint == other.endpoint
    }
}

pub(super) struct Peer {
    config: PeerConfig,
    tunn: Tunn,
    /// There is a session to seal with. Exactly boringtun's "current session exists and is confirmed", without asking.
    live: bool,
    status: PeerStatus,
    /// The session in use: when it was confirmed, and in which role.
    session: Option<(Timestamp, Role)>,
    /// Our index in the response that we sent last, until data under it proves that the peer has the keys.
    unconfirmed_index: Option<u32>,
    last_initiation: Option<Timestamp>,
    /// When we last answered one of the peer's. Only what authenticated counts: others must not be able to use it up.
    last_answer: Option<Timestamp>,
    /// The last initiation has no response yet.
    awaiting_response: bool,
    /// boringtun asks for an initiation.
    handshake_wanted: bool,
    /// Waits in the endpoint's queue for its turn to initiate.
    pub queued: bool,
    next_keepalive: Timestamp,
    news: News,
}

impl Peer {
    /// `index`: 24 bits, see [`super::index`].
    pub fn new(config: PeerConfig, index: u32, private: &StaticSecret, unlimited: &Arc<RateLimiter>) -> Self {
        let mut tunn = virtual_time::at_origin(|| {
            let psk = config.preshared_key.as_ref().map(|psk| **psk);
            let public = PublicKey::from(config.public_key);
            Tunn::new(private.clone(), public, psk, None, index, Some(unlimited.clone()))
        });
        // Tells it the time; only in virtual time can there be anything else to do.
        let _ = tunn.update_timers(&mut [0; TIMER_ROOM_BYTES]);
        let path = config.endpoint.map(Path::to);
        let news = News::new(config.tunnel);
        Peer {
            config,
            tunn,
            live: false,
            status: PeerStatus { path, ..PeerStatus::default() },
            session: None,
            unconfirmed_index: None,
            last_initiation: None,
            last_answer: None,
            awaiting_response: false,
            handshake_wanted: false,
            queued: false,
            next_keepalive: Timestamp::ZERO,
            news,
        }
    }

    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// For what may change without new keys.
    pub fn set_keepalive(&mut self, keepalive: Option<Duration>, now: Timestamp) {
        if self.config.keepalive != keepalive {
            self.config.keepalive = keepalive;
            self.next_keepalive = now;
        }
    }

    #[inline]
    pub fn is_live(&self) -> bool {
        self.live
    }

    pub fn status(&self) -> PeerStatus {
        PeerStatus { up: self.live, ..self.status }
    }

    /// Seals straight into the outbox. Only for peers that are live.
    pub fn seal(&mut self, packet: &[u8], outbox: &mut Outbox) -> Result<(), DropReason> {
        let Some(path) = self.status.path.filter(|_| self.live) else { return Err(DropReason::TunnelDown) };
        let sealed_bytes = packet.len() + DATA_OVERHEAD_BYTES;
        let space = outbox.space(sealed_bytes).ok_or(DropReason::EgressQueueFull)?;
        let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(packet, space) else {
            debug_assert!(false, "live without a session");
            self.live = false;
            return Err(DropReason::TunnelDown);
        };
        debug_assert_eq!(message.len(), sealed_bytes);
        let len = message.len();
        outbox.commit(path, true, len);
        self.status.tx_packets += 1;
        self.status.tx_bytes += packet.len() as u64;
        Ok(())
    }

    /// Opens a data message into `out`.
    pub fn open(&mut self, data: Data<'_>, out: &mut [u8], events: &mut EventQueue, now: Timestamp) -> Opened {
        let tunnel = self.config.tunnel;
        if data.counter >= REJECT_AFTER_MESSAGES {
            return Opened::dropped(DropReason::DataReplayed);
        }
        if out.len() < data.datagram.bytes.len() {
            return Opened::dropped(DropReason::InnerTooLong);
        }
        let malformed = Opened::Dropped { reason: DropReason::InnerMalformed, tunnel: Some(tunnel) };
        let opened = match self.tunn.decapsulate(None, data.datagram.bytes, out) {
            TunnResult::WriteToTunnelV4(packet, _) if packet.len() < IPV4_HEADER_BYTES => malformed,
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Opened::Packet { tunnel, len: packet.len() }
            }
            TunnResult::Done => Opened::Keepalive { tunnel },
            // The message itself was of the right shape, so this is about what came out of it: authentic, but no packet.
            TunnResult::Err(WireGuardError::InvalidPacket) => malformed,
            TunnResult::Err(error) => return Opened::dropped(data_drop_reason(&error)),
            TunnResult::WriteToNetwork(_) => return Opened::dropped(DropReason::OuterMalformed),
        };
        self.on_authentic_data(data, events, now);
        if let Opened::Packet { len, .. } = opened {
            self.status.last_data_received = Some(now);
            self.status.rx_packets += 1;
            self.status.rx_bytes += len as u64;
        }
        opened
    }

    /// Answers an initiation made with this peer's static key, if it is authentic and no replay.
    pub fn answer_initiation(
        &mut self,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        events: &mut EventQueue,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        if self.last_answer.is_some_and(|last| now.saturating_since(last) < ANSWER_INTERVAL) {
            return Err(DropReason::HandshakeUnderLoad);
        }
        let space = outbox.space(RESPONSE_BYTES).ok_or(DropReason::EgressQueueFull)?;
        let TunnResult::WriteToNetwork(response) = self.tunn.decapsulate(None, datagram.bytes, space) else {
            self.status.handshakes.rejected += 1;
            return Err(DropReason::HandshakeInvalid);
        };
        let len = response.len();
        self.last_answer = Some(now);
        self.unconfirmed_index = sender_index(response);
        outbox.commit(datagram.path, false, len);
        self.roam(datagram.path, events, now);
        Ok(())
    }

    /// Takes a response to our initiation and confirms the new keys with a keepalive.
    pub fn accept_response(
        &mut self,
        datagram: Datagram<'_>,
        outbox: &mut Outbox,
        events: &mut EventQueue,
        now: Timestamp,
    ) -> Result<(), DropReason> {
        let space = outbox.space(DATA_OVERHEAD_BYTES).ok_or(DropReason::EgressQueueFull)?;
        let TunnResult::WriteToNetwork(confirmation) = self.tunn.decapsulate(None, datagram.bytes, space) else {
            self.status.handshakes.rejected += 1;
            return Err(DropReason::HandshakeInvalid);
        };
        let len = confirmation.len();
        outbox.commit(datagram.path, false, len);
        self.roam(datagram.path, events, now);
        self.on_new_session(Role::Initiator, datagram.path, events, now);
        Ok(())
    }

    /// Remembers the cookie for the next initiation.
    pub fn accept_cookie(&mut self, datagram: Datagram<'_>) -> Result<(), DropReason> {
        match self.tunn.decapsulate(None, datagram.bytes, &mut []) {
            TunnResult::Done => Ok(()),
            _ => {
                self.status.handshakes.rejected += 1;
                Err(DropReason::HandshakeInvalid)
            }
        }
    }

    /// Lets boringtun's timers run: sessions expire, keepalives fall due. Initiations are only asked for, see
    /// [`Peer::wants_initiation`]. To be called every 250 ms.
    pub fn handle_timeout(&mut self, outbox: &mut Outbox, events: &mut EventQueue, now: Timestamp) {
        let mut room = [0; TIMER_ROOM_BYTES];
        let mut gave_up = false;
        match self.tunn.update_timers(&mut room) {
            TunnResult::WriteToNetwork(keepalive) => {
                self.status.path.map(|path| outbox.push(path, false, keepalive));
            }
            TunnResult::Err(WireGuardError::DestinationBufferTooSmall) => self.handshake_wanted = true,
            TunnResult::Err(WireGuardError::ConnectionExpired) => gave_up = true,
            _ => {}
        }
        if self.live && self.tunn.time_since_last_handshake().is_none() {
            self.on_session_lost(gave_up, events);
        }
        if gave_up && self.awaiting_response {
            self.on_unanswered(events);
        }
        self.send_keepalive_if_due(outbox, now);
        self.news.tell_moves(events, now);
    }

    /// Whether a handshake should begin now.
    pub fn wants_initiation(&self, now: Timestamp) -> bool {
        let kept_up = self.config.endpoint.is_some();
        (self.handshake_wanted || kept_up && (!self.live || self.session_is_aged(now))) && self.may_initiate(now)
    }

    /// A packet waits.
    pub fn want_handshake(&mut self) {
        self.handshake_wanted = true;
    }

    /// There is an address to call, and the last call is long enough ago.
    pub fn may_initiate(&self, now: Timestamp) -> bool {
        self.status.path.is_some()
            && self.last_initiation.is_none_or(|last| now.saturating_since(last) >= REKEY_TIMEOUT + self.jitter())
    }

    /// `false`: the outbox is full.
    pub fn initiate(&mut self, outbox: &mut Outbox, now: Timestamp) -> bool {
        let Some(path) = self.status.path else { return true };
        let Some(space) = outbox.space(INITIATION_BYTES) else { return false };
        if let TunnResult::WriteToNetwork(initiation) = self.tunn.format_handshake_initiation(space, true) {
            let len = initiation.len();
            outbox.commit(path, false, len);
            self.status.handshakes.attempts += 1;
        }
        self.status.handshakes.unanswered += u64::from(self.awaiting_response);
        self.awaiting_response = true;
        self.handshake_wanted = false;
        self.last_initiation = Some(now);
        true
    }

    fn on_authentic_data(&mut self, data: Data<'_>, events: &mut EventQueue, now: Timestamp) {
        let path = data.datagram.path;
        if self.status.path != Some(path) {
            self.roam(path, events, now);
        }
        if self.unconfirmed_index == Some(data.receiver_index) {
            self.on_new_session(Role::Responder, path, events, now);
        } else if !self.live {
            self.on_up(path, events);
        }
    }

    fn on_new_session(&mut self, role: Role, path: Path, events: &mut EventQueue, now: Timestamp) {
        self.session = Some((now, role));
        self.unconfirmed_index = None;
        self.awaiting_response = false;
        self.handshake_wanted = false;
        self.status.last_handshake = Some(now);
        self.status.handshakes.completed += 1;
        if let (Role::Initiator, Some(keepalive)) = (role, self.config.keepalive) {
            self.next_keepalive = now + keepalive; // the confirmation was one
        }
        self.news.completed(path, role, events, now);
        if !self.live {
            self.on_up(path, events);
        }
    }

    fn on_up(&mut self, path: Path, events: &mut EventQueue) {
        self.live = true;
        events.push(Event::Up { tunnel: self.config.tunnel, path });
    }

    fn on_session_lost(&mut self, gave_up: bool, events: &mut EventQueue) {
        self.live = false;
        self.session = None;
        let why = if gave_up { DownReason::PeerSilent } else { DownReason::KeysExpired };
        events.push(Event::Down { tunnel: self.config.tunnel, why });
    }

    /// The peer may have roamed and be back where it is configured, so that is where it is called from now on.
    fn on_unanswered(&mut self, events: &mut EventQueue) {
        self.awaiting_response = false;
        self.handshake_wanted = false; // else it would go on for peers that nobody wants kept up
        self.status.handshakes.unanswered += 1;
        if let Some(path) = self.status.path {
            events.push(Event::Unanswered { tunnel: self.config.tunnel, path });
        }
        self.status.path = self.config.endpoint.map(Path::to).or(self.status.path);
    }

    /// Only for the source of a message that authenticated.
    fn roam(&mut self, path: Path, events: &mut EventQueue, now: Timestamp) {
        if let Some(from) = self.status.path.replace(path)
            && from.remote != path.remote
        {
            self.news.roamed(from, path, events, now);
        }
    }

    fn send_keepalive_if_due(&mut self, outbox: &mut Outbox, now: Timestamp) {
        let (Some(interval), Some(path), true) = (self.config.keepalive, self.status.path, self.live) else { return };
        if now < self.next_keepalive {
            return;
        }
        let Some(space) = outbox.space(DATA_OVERHEAD_BYTES) else { return };
        if let TunnResult::WriteToNetwork(keepalive) = self.tunn.encapsulate(&[], space) {
            let len = keepalive.len();
            outbox.commit(path, false, len);
            self.next_keepalive = now + interval;
        }
    }

    fn session_is_aged(&self, now: Timestamp) -> bool {
        self.session.is_some_and(|(since, role)| {
            let rekey_after = match role {
                Role::Initiator => REKEY_AFTER_INITIATOR,
                Role::Responder => REKEY_AFTER_RESPONDER,
            };
            now.saturating_since(since) >= rekey_after
        })
    }

    /// Different for each peer and attempt, so that peers which lost us together do not call together.
    fn jitter(&self) -> Duration {
        let spread = self.config.tunnel.0.wrapping_mul(2_654_435_761).rotate_left(7)
            ^ (self.status.handshakes.attempts as u32).wrapping_mul(40_503);
        Duration::from_millis(u64::from(spread % (JITTER_MS + 1)))
    }
}

/// A data message with its header read.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    pub datagram: Datagram<'a>,
    pub receiver_index: u32,
    pub counter: u64,
}

/// Counters are compared before anything is decrypted, so a replay too is only claimed to be of this tunnel.
fn data_drop_reason(error: &WireGuardError) -> DropReason {
    match error {
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => DropReason::DataReplayed,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => DropReason::DataUnknownSession,
        _ => DropReason::DataNotAuthentic,
    }
}
