//! What an exchange finds around its IKE SA: time, randomness, peers, and where results go.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use super::child::Child;
use super::diagnosis::{Cause, Failure, Stage as FailureStage};
use super::event::{Event, EventQueue};
use super::limits::Limits;
use super::peer::Ports;
use super::peers::Peers;
use super::sa::{IkeSa, Task};
use crate::net::random::Random;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::Outbox;

pub(super) struct Context<'a> {
    pub now: Timestamp,
    /// The date, for certificates.
    pub unix_secs: u64,
    pub limits: &'a Limits,
    pub ports: &'a Ports,
    pub bound_to: &'a [IpAddr],
    pub random: &'a mut (dyn Random + Send),
    pub peers: &'a mut Peers,
    pub child_spis: &'a mut ChildSpis,
    pub events: &'a mut EventQueue,
    pub outbox: &'a mut Outbox,
    pub effects: &'a mut Vec<Effect>,
}

/// What one IKE SA does to others. Carried out by the endpoint when the SA has been put back.
pub(super) enum Effect {
    /// A rekeying made it.
    Insert(Box<IkeSa>),
    /// A rekeying has been decided: they go to the IKE SA with this SPI of ours.
    MoveChildren { to: u64, children: Vec<Child>, tasks: VecDeque<Task> },
    /// It lost against one that crossed it (section 2.8.2): the peer, who began it, deletes it.
    Supersede(u64),
    /// It is due to be rekeyed, or may be needless beside another.
    Renew { spi: u64, is_due: bool },
    /// It was suspected to be dead, and has answered.
    Recovered { tunnel: TunnelId },
    /// The peer has forgotten all other IKE SAs of this tunnel (INITIAL_CONTACT).
    Forget { tunnel: TunnelId, except: u64 },
}

impl Context<'_> {
    pub fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    /// 32 bytes: at least half the key of every PRF that we have (section 2.10).
    pub fn nonce(&mut self) -> Vec<u8> {
        self.random_bytes::<32>().to_vec()
    }

    pub fn jitter(&mut self) -> u8 {
        self.random_bytes::<1>()[0]
    }

    /// A new SPI of an IKE SA. 64 random bits do not meet again.
    pub fn ike_spi(&mut self) -> u64 {
        loop {
            match u64::from_be_bytes(self.random_bytes()) {
                0 => {}
                spi => return spi,
            }
        }
    }

    /// A new SPI for packets to us.
    pub fn child_spi(&mut self) -> u32 {
        loop {
            let spi = u32::from_be_bytes(self.random_bytes());
            if self.child_spis.take(spi) {
                return spi;
            }
        }
    }

    pub fn fail(&mut self, tunnel: Option<TunnelId>, path: Path, stage: FailureStage, cause: Cause) {
        let failure = Failure { at: self.now, remote: path, stage, cause };
        if self.peers.record(tunnel, failure.clone()) {
            self.events.push(Event::Failed { tunnel, failure: Box::new(failure) });
        }
    }
}

/// SPIs that are in use for packets to us.
#[derive(Default)]
pub(super) struct ChildSpis(BTreeSet<u32>);

impl ChildSpis {
    /// `false`: in use, or reserved (RFC 4303 section 2.1).
    pub fn take(&mut self, spi: u32) -> bool {
        spi > 255 && self.0.insert(spi)
    }

    pub fn release(&mut self, spi: u32) {
        self.0.remove(&spi);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
