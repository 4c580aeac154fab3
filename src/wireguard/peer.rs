//! One peer: its sessions, where it is, and what was heard of it. How sessions are made is in `handshake.rs`, when in
//! `timers.rs`, how packets go through it in `transport.rs`.
//!
//! ```text
//! previous    packets that were on the way when the keys changed may still come under it
//! current     what we seal with
//! next        we answered an initiation; data under it proves that the answer arrived, and makes it the current one
//! ```
//!
//! What every packet reads and writes comes first, in two cache lines, and then the current session.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::endpoint::Shared;
use super::event::{DownReason, Event, Role};
use super::handshake::Handshake;
use super::mac::Stamper;
use super::message::DATA_OVERHEAD_BYTES;
use super::news::News;
use super::noise::PeerSecrets;
use super::primitives::KeyPair;
use super::session::Session;
use super::status::PeerStatus;
use super::timers::Timers;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::Outbox;

/// A peer as configured.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerConfig {
    pub tunnel: TunnelId,
    pub public_key: [u8; 32],
    pub preshared_key: Option<Zeroizing<[u8; 32]>>,
    /// When set, we call the peer there, and keep the tunnel up.
    pub endpoint: Option<SocketAddr>,
    /// Send an empty message this often, so that NATs and firewalls on the way keep the path open.
    pub keepalive: Option<Duration>,
    /// Padding makes no packet longer than this.
    pub mtu_bytes: u16,
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig")
            .field("tunnel", &self.tunnel)
            .field("public_key", &self.public_key)
            .field("has_preshared_key", &self.preshared_key.is_some())
            .field("endpoint", &self.endpoint)
            .field("keepalive", &self.keepalive)
            .field("mtu_bytes", &self.mtu_bytes)
            .finish()
    }
}

impl PeerConfig {
    /// Whether the sessions made under `self` may go on under `other`.
    pub(super) fn same_identity(&self, other: &PeerConfig) -> bool {
        self.public_key == other.public_key
            && self.preshared_key == other.preshared_key
            && self.endpoint == other.endpoint
    }
}

#[repr(C, align(64))]
pub(super) struct Peer {
    pub traffic: Traffic,
    pub current: Option<Session>,
    pub next: Option<Session>,
    pub previous: Option<Session>,
    pub config: PeerConfig,
    pub secrets: PeerSecrets,
    pub handshake: Handshake,
    pub stamper: Stamper,
    pub timers: Timers,
    pub status: PeerStatus,
    pub news: News,
    /// Waits in the endpoint's queue for its turn to initiate.
    pub queued: bool,
}

/// What changes with every packet.
pub(super) struct Traffic {
    /// Where messages to the peer go.
    pub path: Option<Path>,
    pub mtu_bytes: usize,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    /// The last inner packet; zero while there was none.
    pub last_data_received: Timestamp,
    /// The first packet sent since the peer was last heard, or [`NEVER`].
    pub unanswered_since: Timestamp,
    /// The first packet received since we last sent anything, or [`NEVER`].
    pub unacknowledged_since: Timestamp,
    /// The timers look at what packets leave behind. Else the next packet must ask for that, see [`Peer::ask_for_look`].
    pub is_watched: bool,
}

const _: () = assert!(size_of::<Traffic>() <= 128);

/// Later than every moment.
pub(super) const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

impl Peer {
    /// `None`: nothing can be agreed with its public key. Costs a Diffie-Hellman.
    pub fn new(config: PeerConfig, us: &KeyPair) -> Option<Self> {
        let secrets = PeerSecrets::new(us, config.public_key, config.preshared_key.as_ref())?;
        Some(Peer {
            traffic: Traffic {
                path: config.endpoint.map(Path::to),
                mtu_bytes: config.mtu_bytes.into(),
                rx_packets: 0,
                rx_bytes: 0,
                tx_packets: 0,
                tx_bytes: 0,
                last_data_received: Timestamp::ZERO,
                unanswered_since: NEVER,
                unacknowledged_since: NEVER,
                is_watched: false,
            },
            current: None,
            next: None,
            previous: None,
            secrets,
            handshake: Handshake::default(),
            stamper: Stamper::new(&config.public_key),
            timers: Timers::default(),
            status: PeerStatus::default(),
            news: News::new(config.tunnel),
            queued: false,
            config,
        })
    }

    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// For what may change without new keys.
    pub fn adjust(&mut self, config: &PeerConfig, now: Timestamp) {
        if self.config.keepalive != config.keepalive {
            self.config.keepalive = config.keepalive;
            self.timers.next_keepalive = now;
        }
        self.config.mtu_bytes = config.mtu_bytes;
        self.traffic.mtu_bytes = config.mtu_bytes.into();
    }

    /// There is a session to seal with.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.current.is_some()
    }

    pub fn status(&self) -> PeerStatus {
        let traffic = &self.traffic;
        PeerStatus {
            up: self.is_live(),
            path: traffic.path,
            last_data_received: (traffic.rx_packets > 0).then_some(traffic.last_data_received),
            rx_packets: traffic.rx_packets,
            rx_bytes: traffic.rx_bytes,
            tx_packets: traffic.tx_packets,
            tx_bytes: traffic.tx_bytes,
            ..self.status
        }
    }

    /// Seals with padding up to `padded_bytes`. It counts as no packet: that nobody answers says nothing about the peer.
    /// `false`: there is no session, or no room.
    pub fn seal_probe(&mut self, packet: &[u8], padded_bytes: usize, outbox: &mut Outbox, now: Timestamp) -> bool {
        let (Some(session), Some(path)) = (&mut self.current, self.traffic.path) else { return false };
        let message_bytes = padded_bytes.max(packet.len()) + DATA_OVERHEAD_BYTES;
        if session.is_spent(now) {
            return false;
        }
        let Some(message) = outbox.space(message_bytes) else { return false };
        if session.seal(packet, message_bytes - DATA_OVERHEAD_BYTES, message).is_err() {
            return false;
        }
        outbox.commit(path, false, message_bytes);
        true
    }

    /// An empty message under the current session. `false`: there is no session, or no room.
    pub fn send_keepalive(&mut self, outbox: &mut Outbox, now: Timestamp) -> bool {
        let (Some(session), Some(path)) = (&mut self.current, self.traffic.path) else { return false };
        if session.is_spent(now) {
            return false;
        }
        let Some(message) = outbox.space(DATA_OVERHEAD_BYTES) else { return false };
        if session.seal(&[], 0, message).is_err() {
            return false;
        }
        outbox.commit(path, false, DATA_OVERHEAD_BYTES);
        self.traffic.unacknowledged_since = NEVER;
        true
    }

    /// New keys that both sides have: they are what we seal with from now on.
    pub fn on_new_session(&mut self, role: Role, path: Path, was_live: bool, shared: &mut Shared) {
        let now = shared.now;
        self.end_attempt(&mut shared.indices);
        self.traffic.unanswered_since = NEVER;
        self.status.last_handshake = Some(now);
        self.status.handshakes.completed += 1;
        if let (Role::Initiator, Some(keepalive)) = (role, self.config.keepalive) {
            self.timers.next_keepalive = now + keepalive; // the confirmation was one
        }
        shared.touched.insert(self.config.tunnel);
        shared.look_at(self.config.tunnel);
        self.news.completed(path, role, &mut shared.events, now);
        if !was_live {
            shared.events.push(Event::Up { tunnel: self.config.tunnel, path });
        }
    }

    /// Erases every session. Its indices are then nobody's.
    pub fn erase_sessions(&mut self, why: DownReason, shared: &mut Shared) {
        if self.is_live() {
            shared.events.push(Event::Down { tunnel: self.config.tunnel, why });
        }
        for session in [self.current.take(), self.next.take(), self.previous.take()].into_iter().flatten() {
            shared.indices.release(session.index());
        }
    }

    /// Only for the source of a message that authenticated.
    pub fn roam(&mut self, path: Path, shared: &mut Shared) {
        if let Some(from) = self.traffic.path.replace(path)
            && from.remote != path.remote
        {
            shared.touched.insert(self.config.tunnel);
            self.news.roamed(from, path, &mut shared.events, shared.now);
            shared.look_at(self.config.tunnel);
        }
    }

    /// Data under another session than the current one: if it is the next, the peer has its keys.
    #[cold]
    pub fn confirm(&mut self, index: u32, path: Path, shared: &mut Shared) {
        if let Some(next) = self.next.take_if(|next| next.index() == index) {
            let was_live = self.is_live();
            let before = self.current.replace(next);
            shared.release(std::mem::replace(&mut self.previous, before));
            self.on_new_session(Role::Responder, path, was_live, shared);
        }
    }
}
