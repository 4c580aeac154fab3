//! IPsec tunnels: `ike` agrees on keys, `ipsec` uses them, and what either has to tell the other is carried here.
//!
//! ```text
//! ike   --ChildUp, ChildDown, PathMoved-->  install, retire, move_path        ipsec
//! ipsec --RekeyDue, Expired, Moved------->  rekey_child, expire_child, note_moved   ike
//! ipsec --an authentic packet (by an SA once a second)-----> note_heard             ike
//! walk  --a packet that no SA carries (at most once a second)> want                 ike
//! ```
//!
//! IKE messages cost public-key operations, so each call handles only so many; the others wait in [`IkeQueue`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::TunnelStatus;
use super::ike_queue::{IkeQueue, Message};
use super::nat_t::{self, Content};
use super::path_watch::{PathNews, Probed};
use crate::crypto::{KeyLength, PacketKey};
use crate::dataplane::event::IpsecNews;
use crate::dataplane::report::{ChildReport, FailureReport, IkeCounts, IpsecReport, Traffic};
use crate::ike::{self, ChildUp, PeerConfig};
use crate::ipsec::{self, ChildSa, Dscp, Lifetime};
use crate::net::{Port, Timestamp, TunnelId};
use crate::packet::batch::{MAX_PACKET_BYTES, TAILROOM_BYTES};
use crate::packet::outbox::Room;
use crate::packet::{Datagram, DropReason, Opened, Outbox};

/// What ESP adds to a packet at most: SPI and sequence number (8), IV (16), padding to a block and trailer (17), ICV (32).
/// RFC 4303 section 2.
pub(super) const ESP_OVERHEAD_BYTES: usize = 8 + 16 + 17 + 32;
const _: () = assert!(ESP_OVERHEAD_BYTES <= TAILROOM_BYTES);
/// How often IKE is told that a tunnel is wanted.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);
/// News that wait to be polled; beyond, the newest are lost.
const MAX_NEWS: usize = 4096;
/// As many as the outbox has runs for, with room to spare.
const GOODBYES_PER_CALL: usize = 1024;

pub(in crate::dataplane) struct Ipsec {
    pub(super) ike: ike::Endpoint,
    pub(super) esp: ipsec::Endpoint,
    queue: IkeQueue,
    /// By tunnel number. `None`: no IPsec tunnel.
    peers: Vec<Option<Peer>>,
    /// For `path_watch.rs`.
    pub(super) paths: PathNews,
    news: VecDeque<IpsecNews>,
    news_lost: u64,
    /// The latest time that we were told.
    pub(super) now: Timestamp,
}

/// What the way of a packet needs to know of a tunnel.
#[derive(Clone, Copy, Debug)]
struct Peer {
    dscp: Dscp,
    /// We know where to call it.
    is_callable: bool,
    /// When IKE is to be told again that it is wanted.
    next_want: Timestamp,
}

/// A tunnel as the snapshot has it.
pub(in crate::dataplane) struct Configured {
    pub peer: Arc<PeerConfig>,
    pub copy_dscp: bool,
}

impl Ipsec {
    pub fn new(setup: ike::Setup, seed: u64, now: Timestamp) -> Self {
        Ipsec {
            ike: ike::Endpoint::new(setup, now),
            esp: ipsec::Endpoint::new(ipsec::Limits::default(), seed),
            queue: IkeQueue::default(),
            peers: Vec::new(),
            paths: PathNews::default(),
            news: VecDeque::new(),
            news_lost: 0,
            now,
        }
    }

    pub fn configure(&mut self, tunnels: Vec<Configured>, now: Timestamp) {
        self.now = self.now.max(now);
        let before = std::mem::take(&mut self.peers);
        for Configured { peer, copy_dscp } in &tunnels {
            let slot = peer.tunnel.index();
            if self.peers.len() <= slot {
                self.peers.resize(slot + 1, None);
            }
            self.peers[slot] = Some(Peer {
                dscp: if *copy_dscp { Dscp::Copy } else { Dscp::Fixed(0) },
                is_callable: peer.remote.is_some(),
                next_want: now,
            });
        }
        self.ike.configure(tunnels.into_iter().map(|tunnel| tunnel.peer).collect(), now);
        self.carry_over();
        let gone = (0..).map(TunnelId).zip(before).filter(|(tunnel, peer)| peer.is_some() && !self.serves(*tunnel));
        let gone: Vec<_> = gone.map(|(tunnel, _)| tunnel).collect();
        gone.into_iter().for_each(|tunnel| self.esp.remove_tunnel(tunnel));
    }

    #[inline]
    pub fn serves(&self, tunnel: TunnelId) -> bool {
        self.peers.get(tunnel.index()).is_some_and(Option::is_some)
    }

    /// A new call into the engine has begun.
    pub fn begin(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.esp.note_now(now);
        self.queue.renew();
    }

    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], outbox: &mut Outbox, now: Timestamp) -> Opened {
        self.now = self.now.max(now);
        match datagram.path.port {
            Port::RawEsp => self.open_esp(datagram, out),
            Port::IkeNatT => match nat_t::split(datagram.bytes) {
                Content::Esp => self.open_esp(datagram, out),
                Content::Ike(bytes) => self.open_ike(Datagram { bytes, ..datagram }, outbox),
                Content::Keepalive => Opened::Keepalive { tunnel: TunnelId::NONE },
            },
            _ => self.open_ike(datagram, outbox),
        }
    }

    #[inline]
    fn open_esp(&mut self, datagram: Datagram<'_>, out: &mut [u8]) -> Opened {
        if datagram.bytes.len() > MAX_PACKET_BYTES + ESP_OVERHEAD_BYTES {
            return Opened::dropped(DropReason::InnerTooLong);
        }
        let opened = self.esp.open(datagram, out, self.now);
        if let Opened::Packet { tunnel, .. } | Opened::Keepalive { tunnel } = opened {
            self.note_heard(tunnel);
        }
        opened
    }

    pub fn note_heard(&mut self, tunnel: TunnelId) {
        self.ike.note_heard(tunnel, self.now);
    }

    /// At once while there is time for it, else in its turn.
    fn open_ike(&mut self, datagram: Datagram<'_>, outbox: &mut Outbox) -> Opened {
        if self.queue.take_turn() {
            return match self.handle_ike(datagram, outbox) {
                Ok(()) => Opened::Control,
                Err(reason) => Opened::dropped(reason),
            };
        }
        // Who holds a turn back for what nobody knows has none for his peers.
        let Some(claim) = self.ike.claim(datagram.bytes) else {
            return Opened::dropped(DropReason::HandshakeInvalid);
        };
        let message = Message { claim, path: datagram.path, ecn: datagram.ecn, bytes: datagram.bytes.to_vec() };
        match self.queue.push(message) {
            true => Opened::Control,
            false => Opened::dropped(DropReason::IkeQueueFull),
        }
    }

    fn handle_ike(&mut self, datagram: Datagram<'_>, outbox: &mut Outbox) -> Result<(), DropReason> {
        let handled = self.ike.handle_input(datagram, outbox, self.now);
        self.carry_over();
        handled
    }

    /// The end of a call: as many of the waiting IKE messages as it may still handle, and what ESP has to tell IKE.
    /// `refused` hears of messages that had been counted as understood and were not.
    pub fn finish(&mut self, outbox: &mut Outbox, mut refused: impl FnMut(DropReason)) {
        while let Some(Message { path, ecn, bytes, .. }) = self.queue.next() {
            if let Err(reason) = self.handle_ike(Datagram { path, bytes: &bytes, ecn }, outbox) {
                refused(reason);
            }
        }
        while let Some(event) = self.esp.poll_event() {
            match event {
                ipsec::Event::RekeyDue { tunnel, spi_in } => self.ike.rekey_child(tunnel, spi_in, self.now),
                ipsec::Event::Expired { tunnel, spi_in } => {
                    self.ike.expire_child(tunnel, spi_in, self.now);
                    self.tell(IpsecNews::Expired { tunnel, spi_in });
                }
                ipsec::Event::Moved { tunnel, from, to, moves, .. } => {
                    self.paths.touched.insert(tunnel);
                    self.ike.note_moved(tunnel, to);
                    self.tell(IpsecNews::Moved { tunnel, from: Some(from), to, moves });
                }
            }
        }
        self.carry_over();
    }

    #[inline]
    pub fn seal(&mut self, tunnel: TunnelId, packet: &[u8], outbox: &mut Outbox) -> Result<(), DropReason> {
        match self.esp.seal(tunnel, packet, outbox) {
            Err(reason @ (DropReason::TunnelDown | DropReason::OutboundNotInSelectors)) => {
                Err(self.want(tunnel, reason))
            }
            sealed => sealed,
        }
    }

    /// See [`ipsec::Endpoint::depart`].
    #[inline]
    pub fn depart<'p>(
        &mut self,
        tunnel: TunnelId,
        packets: impl Iterator<Item = &'p [u8]>,
        room: Room,
    ) -> Result<ipsec::Departure, DropReason> {
        match self.esp.depart(tunnel, packets, room) {
            Err(reason @ (DropReason::TunnelDown | DropReason::OutboundNotInSelectors)) => {
                Err(self.want(tunnel, reason))
            }
            departure => departure,
        }
    }

    /// A packet waits for keys, or for a Child SA that may carry it, in vain.
    #[cold]
    fn want(&mut self, tunnel: TunnelId, reason: DropReason) -> DropReason {
        let Some(Some(peer)) = self.peers.get_mut(tunnel.index()) else { return DropReason::NoTunnel };
        if reason == DropReason::TunnelDown && !peer.is_callable {
            return DropReason::TunnelHasNoEndpoint;
        }
        if peer.next_want <= self.now {
            peer.next_want = self.now + NOTE_INTERVAL;
            self.ike.want(tunnel, self.now);
        }
        reason
    }

    #[inline]
    pub fn say_goodbye(&mut self, outbox: &mut Outbox) -> bool {
        self.ike.close_some(GOODBYES_PER_CALL, outbox)
    }

    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        self.esp.is_up(tunnel)
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.now = self.now.max(now);
        self.ike.handle_timeout(outbox, now);
        self.carry_over();
        self.esp.handle_timeout(outbox, now);
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let waiting = (!self.queue.is_empty()).then_some((self.now, "ike messages wait"));
        [waiting, self.ike.poll_timeout(), self.esp.poll_timeout()].into_iter().flatten().min()
    }

    pub fn poll_news(&mut self) -> Option<IpsecNews> {
        self.news.pop_front()
    }

    /// Here, and in the queues of the two endpoints.
    pub fn news_lost(&self) -> u64 {
        self.news_lost + self.ike.events_lost() + self.esp.events_lost()
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus> {
        let ike = self.ike.status(tunnel)?;
        let esp = self.esp.status(tunnel).unwrap_or_default();
        Some(TunnelStatus { up: esp.up, path: esp.path.or(ike.path), last_handshake: ike.established_at })
    }

    pub fn report(&self, tunnel: TunnelId, now: Timestamp) -> Option<IpsecReport> {
        let status = self.ike.status(tunnel)?;
        let counts = status.counts;
        let carried: HashMap<u32, ipsec::SaStatus> = self.esp.sas(tunnel).map(|sa| (sa.spi_in, sa)).collect();
        let traffic = |packets, bytes| Traffic { packets, bytes };
        let children = status.children.iter().map(|child| ChildReport {
            received: carried.get(&child.spi_in).map(|sa| traffic(sa.rx_packets, sa.rx_bytes)).unwrap_or_default(),
            sent: carried.get(&child.spi_in).map(|sa| traffic(sa.tx_packets, sa.tx_bytes)).unwrap_or_default(),
            spi_in: child.spi_in,
            spi_out: child.spi_out,
            proposal: child.proposal.clone(),
            ours: child.ours.iter().map(ToString::to_string).collect(),
            theirs: child.theirs.iter().map(ToString::to_string).collect(),
            age: now.saturating_since(child.installed_at),
            rekey_in: child.rekey_at.saturating_since(now),
        });
        Some(IpsecReport {
            stage: status.stage.name(),
            proposal: status.proposal.clone(),
            we_called: status.role.map(|role| role == ike::Role::Initiator),
            nat: status.nat,
            esp_in_udp: self.esp.status(tunnel).and_then(|esp| esp.path).map(|path| path.port != Port::RawEsp),
            rekey_in: status.rekey_at.map(|at| at.saturating_since(now)),
            last_heard: status.last_heard.map(|at| now.saturating_since(at)),
            next_attempt_in: status.next_attempt.map(|at| at.saturating_since(now)),
            ike_sas: status.ike_sas,
            children: children.collect(),
            failures: failures(self.ike.failures(tunnel), now),
            counts: IkeCounts {
                attempts: counts.attempts,
                established: counts.established,
                ike_rekeys: counts.ike_rekeys,
                child_rekeys: counts.child_rekeys,
                retransmissions: counts.retransmissions,
                failures: counts.failures,
            },
        })
    }

    pub fn ike_sa_counts(&self) -> (usize, usize) {
        self.ike.sa_counts()
    }

    pub fn strangers(&self, now: Timestamp) -> Vec<FailureReport> {
        failures(self.ike.strangers(), now)
    }

    /// What IKE has decided, done by ESP.
    fn carry_over(&mut self) {
        while let Some(event) = self.ike.poll_event() {
            match event {
                ike::Event::ChildUp(child) => self.install(*child),
                ike::Event::ChildDown { spi_in, linger, .. } => self.esp.retire(spi_in, linger, self.now),
                ike::Event::PathMoved { tunnel, path, follow_path } => {
                    let from = self.esp.status(tunnel).and_then(|status| status.path);
                    self.esp.move_path(tunnel, path, follow_path);
                    self.paths.touched.insert(tunnel);
                    self.tell(IpsecNews::Moved { tunnel, from, to: path, moves: 1 });
                }
                ike::Event::PathProbed { tunnel, remote, outer_bytes, arrived } => {
                    self.paths.probed.push(Probed { tunnel, remote: remote.ip(), outer_bytes, arrived });
                }
                ike::Event::Up { tunnel, path, role } => self.tell(IpsecNews::Up { tunnel, path, role }),
                ike::Event::Down { tunnel, why } => self.tell(IpsecNews::Down { tunnel, why }),
                ike::Event::Failed { tunnel, failure } => self.tell(IpsecNews::Failed { tunnel, failure }),
                ike::Event::Refused { tunnel, why } => self.tell(IpsecNews::Refused { tunnel, why }),
            }
        }
    }

    fn install(&mut self, child: ChildUp) {
        let (tunnel, spi_in, path, is_new) = (child.tunnel, child.spi_in, child.path, child.replaces.is_none());
        let dscp = self.peers.get(tunnel.index()).copied().flatten().map_or(Dscp::Copy, |peer| peer.dscp);
        let installed = match child_sa(child, dscp) {
            Ok(child) => self.esp.install(child, self.now).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.paths.touched.insert(tunnel);
        match installed {
            Ok(()) if is_new => self.tell(IpsecNews::ChildUp { tunnel, path }),
            Ok(()) => {}
            Err(why) => {
                // Both sides must know that it does not exist.
                self.ike.expire_child(tunnel, spi_in, self.now);
                self.tell(IpsecNews::NotInstalled { tunnel, why });
            }
        }
    }

    fn tell(&mut self, news: IpsecNews) {
        match self.news.len() < MAX_NEWS {
            true => self.news.push_back(news),
            false => self.news_lost += 1,
        }
    }
}

/// What IKE has agreed, as ESP takes it. The one place where the two meet: simulations, benches and fuzzing call it too.
pub fn child_sa(child: ChildUp, dscp: Dscp) -> Result<ChildSa, KeyLength> {
    Ok(ChildSa {
        tunnel: child.tunnel,
        spi_in: child.spi_in,
        spi_out: child.spi_out,
        key_in: PacketKey::new(child.suite, &child.keys.cipher_in, &child.keys.integrity_in)?,
        key_out: PacketKey::new(child.suite, &child.keys.cipher_out, &child.keys.integrity_out)?,
        esn: child.esn,
        replay_window: child.replay_window,
        ours: child.ours,
        theirs: child.theirs,
        path: child.path,
        follow_path: child.follow_path,
        lifetime: Lifetime { packets: child.lifetime_packets, bytes: child.lifetime_bytes },
        dscp,
        // RFC 7296 section 2.24: both sides of IKEv2 must support it.
        ecn: true,
        outbound: match child.outbound {
            ike::Outbound::Now => ipsec::Outbound::Now,
            ike::Outbound::WhenHeard => ipsec::Outbound::WhenHeard,
        },
    })
}

fn failures(failures: &[ike::Recorded], now: Timestamp) -> Vec<FailureReport> {
    let report = |ike::Recorded { failure, first_at, count }: &ike::Recorded| {
        let explanation = failure.cause.explain();
        FailureReport {
            ago: now.saturating_since(failure.at),
            count: *count,
            first_ago: now.saturating_since(*first_at),
            remote: failure.remote.remote,
            stage: failure.stage.to_string(),
            cause: failure.cause.name(),
            what: explanation.what,
            they_offer: explanation.they_offer,
            we_accept: explanation.we_accept,
            nearest: explanation.nearest,
        }
    };
    failures.iter().map(report).collect()
}
