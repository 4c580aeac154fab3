//! One IKE SA: what it is, what goes in and out of it. What the exchanges mean is in `exchange/`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::child::Child;
use super::child::SelectorPair;
use super::context::Context;
use super::event::{DownReason, Role};
use super::exchange::auth::Handshake;
use super::exchange::create_child::ChildRequest;
use super::exchange::followup::Followup;
use super::exchange::init::InitSent;
use super::exchange::path_probe::PathProbe;
use super::exchange::rekey_ike::IkeRequest;
use super::half_open::RequestKey;
use super::keys::{Nonces, SaKeys, Secret, Seed};
use super::nat::Nat;
use super::peer::{Encapsulation, SharedPeer};
use super::proposal::{IkeChoice, Profile};
use super::protect::Protection;
use super::reassembly::Reassembly;
use super::window::{Incoming, Outgoing};
use crate::crypto::{KeyLength, PacketKey};
use crate::net::{Path, Timestamp, TunnelId};

pub(super) struct IkeSa {
    /// Who began it. Whoever rekeys an IKE SA begins the new one.
    pub role: Role,
    pub our_spi: u64,
    /// 0 until the peer has told it.
    pub their_spi: u64,
    pub path: Path,
    /// Where IKE_SA_INIT came from, or went to.
    pub found_at: Path,
    /// As initiator always, as responder from IKE_AUTH on.
    pub peer: Option<SharedPeer>,
    pub stage: Stage,
    /// What it proved itself by, if not by a preshared key: encoding and contents, its own first. To be held against new
    /// revocation lists, and against the date.
    pub certificates: Arc<[(u8, Vec<u8>)]>,
    /// From IKE_SA_INIT on.
    pub session: Option<Box<Session>>,
    /// Takes its place when the exchange that is under way is over (IKE_INTERMEDIATE).
    pub next_session: Option<Box<Session>>,
    pub outgoing: Outgoing,
    pub incoming: Incoming,
    pub requests: Reassembly,
    pub responses: Reassembly,
    pub nat: Nat,
    pub abilities: Abilities,
    pub children: Vec<Child>,
    /// What we still want to ask, one after the other.
    pub tasks: VecDeque<Task>,
    /// What the outstanding request is about, once established.
    pub pending: Option<Pending>,
    /// What a request of theirs is about, while further keys are exchanged.
    pub followup: Option<Box<Followup>>,
    /// Where the half-open table has it.
    pub half_open_key: Option<RequestKey>,
    pub timers: Timers,
    pub established_at: Option<Timestamp>,
    /// As responder: the message ID of the IKE_AUTH in which we proved who we are.
    pub proved_in: Option<u32>,
    pub last_heard: Timestamp,
    /// The endpoint has it in the peer's list.
    pub registered: bool,
    /// IKE rekeys since IKE_AUTH; to tell one that is new from one that goes on.
    pub rekeyed: bool,
    /// Why, if we close it.
    pub closed_for: DownReason,
    /// It is over; the endpoint takes it out of its table.
    pub ended: Option<DownReason>,
}

pub(super) enum Stage {
    /// Our IKE_SA_INIT is on its way.
    InitSent(Box<InitSent>),
    /// There are keys, but nobody has proved who he is.
    Handshake(Box<Handshake>),
    Established,
    /// Another IKE SA has taken over.
    Rekeyed,
    /// We are deleting it.
    Deleting,
}

/// When something has to be done without a message.
#[derive(Default)]
pub(super) struct Timers {
    /// It ends then, whatever it is doing.
    pub expires_at: Option<Timestamp>,
    pub rekey_at: Option<Timestamp>,
    /// At once: something was changed from outside.
    pub wake_at: Option<Timestamp>,
    /// No request of ours before (TEMPORARY_FAILURE).
    pub retry_at: Option<Timestamp>,
    /// TEMPORARY_FAILURE: since when there has been nothing else, and when it came last.
    pub put_off: Option<(Timestamp, Timestamp)>,
    /// Another one with the same peer may be enough.
    pub needless_at: Option<Timestamp>,
    pub liveness_at: Option<Timestamp>,
    /// One of the peer's certificates has ended then.
    pub certificate_ends_at: Option<Timestamp>,
    /// A Child SA that could not be made is tried again.
    pub child_retry_at: Option<Timestamp>,
    /// When a packet that waited last made us ask for Child SAs.
    pub wanted_at: Option<Timestamp>,
}

/// What the peer announced, or showed.
#[derive(Clone, Default, Debug)]
pub(super) struct Abilities {
    pub fragmentation: bool,
    pub mobike: bool,
    /// RFC 7427.
    pub hash_algorithms: Vec<u16>,
    /// It made a Child SA only without a key exchange of its own; others are proposed so, too.
    pub without_pfs: bool,
}

/// A request that waits for the window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Task {
    NewChild(SelectorPair),
    RekeyChild {
        spi_in: u32,
    },
    RekeyIke,
    DeleteChildren(Vec<u32>),
    /// One that we never installed, but the peer did.
    DeleteUnknown(u32),
    DeleteIke,
    /// Is anybody there?
    Liveness,
    /// Do outer packets of this size reach the peer?
    ProbePath {
        at_least: u16,
        at_most: u16,
    },
}

/// A request that waits for its answer.
pub(super) enum Pending {
    Child(Box<ChildRequest>),
    RekeyIke(Box<IkeRequest>),
    DeleteChildren(Vec<u32>),
    DeleteIke,
    Liveness,
    ProbePath(PathProbe),
}

/// Keys and algorithms.
pub(super) struct Session {
    pub choice: IkeChoice,
    pub seed: Seed,
    pub d: Secret,
    pub pi: Secret,
    pub pr: Secret,
    pub protection: Protection,
}

impl Session {
    pub fn new(choice: IkeChoice, seed: Seed, keys: SaKeys, role: Role) -> Result<Self, KeyLength> {
        let from_initiator = PacketKey::new(choice.suite, &keys.ei, &keys.ai)?;
        let from_responder = PacketKey::new(choice.suite, &keys.er, &keys.ar)?;
        let (seal, open) = match role {
            Role::Initiator => (from_initiator, from_responder),
            Role::Responder => (from_responder, from_initiator),
        };
        let protection = Protection::new(choice.suite, seal, open);
        Ok(Session { choice, seed, d: keys.d, pi: keys.pi, pr: keys.pr, protection })
    }

    pub fn nonces(&self) -> &Nonces {
        &self.seed.nonces
    }
}

impl IkeSa {
    pub fn new(role: Role, our_spi: u64, path: Path, stage: Stage, now: Timestamp) -> Self {
        IkeSa {
            role,
            our_spi,
            their_spi: 0,
            path,
            found_at: path,
            peer: None,
            certificates: Arc::default(),
            stage,
            session: None,
            next_session: None,
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
            requests: Reassembly::default(),
            responses: Reassembly::default(),
            nat: Nat::default(),
            abilities: Abilities::default(),
            children: Vec::new(),
            tasks: VecDeque::new(),
            pending: None,
            followup: None,
            half_open_key: None,
            timers: Timers::default(),
            established_at: None,
            proved_in: None,
            last_heard: now,
            registered: false,
            rekeyed: false,
            closed_for: DownReason::Failed,
            ended: None,
        }
    }

    pub fn tunnel(&self) -> Option<TunnelId> {
        self.peer.as_ref().map(|peer| peer.tunnel)
    }

    /// The initiator's SPI, then the responder's.
    pub fn spis(&self) -> (u64, u64) {
        match self.role {
            Role::Initiator => (self.our_spi, self.their_spi),
            Role::Responder => (self.their_spi, self.our_spi),
        }
    }

    /// Which algorithms. Before the peer is known nothing is proposed, only accepted.
    pub fn profile(&self) -> Profile {
        self.peer.as_ref().map_or(Profile::Modern, |peer| peer.profile)
    }

    /// We pretend to be behind a NAT, so that everything goes in UDP.
    pub fn claims_nat(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.encapsulation == Encapsulation::Udp)
    }

    pub fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Established) && self.ended.is_none()
    }

    /// Puts a request into the queue, once.
    pub fn want(&mut self, task: Task, cx: &Context<'_>) {
        if self.tasks.len() < cx.limits.tasks_per_sa && !self.tasks.contains(&task) {
            self.tasks.push_back(task);
        }
    }

    /// The same, before all others.
    pub fn want_first(&mut self, task: Task) {
        self.tasks.retain(|other| *other != task);
        self.tasks.push_front(task);
    }

    pub fn end(&mut self, why: DownReason) {
        self.ended.get_or_insert(why);
    }
}
