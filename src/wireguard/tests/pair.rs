//! Two endpoints and the network between them, in virtual time.

use std::time::Duration;

use super::world::*;
use crate::net::{Path, TunnelId};
use crate::packet::DropReason;
use crate::wireguard::{DownReason, Event, Opened, PeerConfig, public_key};

const STEP: Duration = Duration::from_micros(62_500);
pub const TUNNEL: TunnelId = TunnelId(1);
/// What the gateway calls the tunnel to us.
pub const TO_IX: TunnelId = TunnelId(0);
pub const INITIATION: usize = 148;
pub const RESPONSE: usize = 92;
pub const KEEPALIVE: usize = 32;

/// The endpoint, one gateway at `path(1)`, and what happened between them.
pub struct Pair {
    pub world: World,
    pub gateway: World,
    pub cut: bool,
    /// Lengths of messages that are each lost once, in this order.
    pub losses: Vec<usize>,
    /// What the endpoint reported, and when.
    pub events: Vec<(u32, Event)>,
    /// When the endpoint sent initiations, in milliseconds, and where to.
    pub initiations: Vec<(u64, Path)>,
    pub keepalives: u32,
    /// Both sides are looked at in every step, instead of when they ask for it.
    pub is_watched: bool,
}

pub fn ix_path() -> Path {
    Path::to(([192, 0, 2, 1], 51820).into())
}

/// The gateway's configuration of us: it waits to be called, or for a packet to send.
pub fn to_ix() -> PeerConfig {
    PeerConfig { tunnel: TO_IX, public_key: public_key(&IX_KEY), ..config(1) }
}

impl Pair {
    /// `config` is the endpoint's of the gateway; the gateway, told nothing of us but the key, is where we are called from.
    pub fn new(config: PeerConfig) -> Self {
        Self::with_gateway(config, to_ix())
    }

    pub fn with_gateway(config: PeerConfig, to_ix: PeerConfig) -> Self {
        let mut gateway = World::with_key([config.tunnel.0 as u8; 32], &[to_ix], 1000);
        gateway.peer(TO_IX).traffic.path = Some(ix_path());
        Pair {
            world: World::new(&[config]),
            gateway,
            cut: false,
            losses: Vec::new(),
            events: Vec::new(),
            initiations: Vec::new(),
            keepalives: 0,
            is_watched: false,
        }
    }

    /// A handshake that the gateway begins because it has a packet to send.
    #[track_caller]
    pub fn connect(&mut self) {
        assert_eq!(self.gateway.seal(TO_IX, &packet(60)), Err(DropReason::TunnelDown));
        self.deliver();
        assert!(self.gateway.endpoint.is_up(TO_IX));
    }

    pub fn run(&mut self, secs: u64) {
        let end = self.world.now + Duration::from_secs(secs);
        while self.world.now < end {
            self.step();
        }
    }

    pub fn step(&mut self) {
        for side in [&mut self.world, &mut self.gateway] {
            side.now = side.now + STEP;
            if self.is_watched {
                side.look_at_all();
            }
            side.tick();
        }
        self.deliver();
    }

    /// Carries messages to and fro until nobody has more to say.
    pub fn deliver(&mut self) {
        loop {
            let (ours, theirs) = (self.world.sent(), self.gateway.sent());
            let is_quiet = ours.is_empty() && theirs.is_empty();
            for (to, _, message) in ours {
                self.note(to, &message);
                if to.remote == path(1).remote && !self.is_lost(&message) {
                    self.gateway.open(ix_path(), &message);
                }
            }
            for (_, _, message) in theirs {
                if !self.is_lost(&message) {
                    self.world.open(path(1), &message);
                }
            }
            let secs = self.world.now.as_secs();
            self.events.extend(self.world.events().into_iter().map(|event| (secs, event)));
            if is_quiet {
                return;
            }
        }
    }

    /// A packet from the gateway's side; `true` if it was sealed.
    pub fn send(&mut self) -> bool {
        let sealed = self.gateway.seal(TO_IX, &packet(60)).is_ok();
        self.deliver();
        sealed
    }

    /// A message of the gateway, not yet on its way.
    #[track_caller]
    pub fn sealed_by_gateway(&mut self) -> Vec<u8> {
        self.gateway.seal(TO_IX, &packet(60)).unwrap();
        self.gateway.sent_one().2
    }

    #[track_caller]
    pub fn assert_packet(&mut self, from: Path, message: &[u8]) {
        assert!(matches!(self.world.open(from, message), Opened::Packet { tunnel: TUNNEL, len: 60 }));
    }

    /// A packet from our side; `true` if it was sealed.
    pub fn send_from_ix(&mut self) -> bool {
        let sealed = self.world.seal(TUNNEL, &packet(60)).is_ok();
        self.deliver();
        sealed
    }

    pub fn is_up(&self) -> bool {
        self.world.endpoint.is_up(TUNNEL)
    }

    pub fn downs(&self) -> Vec<(u32, DownReason)> {
        let down = |(secs, event): &(u32, Event)| match event {
            Event::Down { why, .. } => Some((*secs, *why)),
            _ => None,
        };
        self.events.iter().filter_map(down).collect()
    }

    pub fn handshakes(&self) -> Vec<u32> {
        let completed = |(secs, event): &(u32, Event)| match event {
            Event::HandshakeCompleted { .. } => Some(*secs),
            _ => None,
        };
        self.events.iter().filter_map(completed).collect()
    }

    fn note(&mut self, to: Path, message: &[u8]) {
        match message.len() {
            INITIATION => self.initiations.push((self.world.now.as_micros() / 1000, to)),
            KEEPALIVE => self.keepalives += 1,
            _ => {}
        }
    }

    fn is_lost(&mut self, message: &[u8]) -> bool {
        let is_next = self.losses.first() == Some(&message.len());
        if is_next {
            self.losses.remove(0);
        }
        is_next || self.cut
    }
}
