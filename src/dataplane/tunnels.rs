//! Every tunnel, by whatever transport.
//!
//! ```text
//! Port::WireGuard ------------------------------------------> wireguard
//! Port::Ike -------------------------- IKE -----------------> ike      keys of Child SAs, as events
//! Port::IkeNatT --- four zero bytes -- IKE -----------------> ike            |
//!               '-- one byte 0xff ---- NAT keepalive          ^              v
//!               '-- else ------------- ESP -----------------> ipsec    wear, moves, signs of life, as events
//! Port::RawEsp ----------------------- ESP -----------------> ipsec
//! Port::Frames, Port::Tun ----------------------------------> link
//! ```
//!
//! The way in is decided by the port, the way out by the tunnel's number. A WireGuard packet pays one comparison for it,
//! and an appliance without IPsec tunnels has no IPsec.

use std::collections::BTreeSet;

use crate::ike;
use crate::link;
use crate::net::random::Random;
use crate::net::{IpVersion, Path, Port, RealmId, Timestamp, TunnelId};
use crate::packet::batch::{MAX_PACKET_BYTES, TAILROOM_BYTES};
use crate::packet::{Datagram, DropReason, Opened, Outbox};
use crate::wireguard;

use super::event::What;
use super::report::{FailureReport, IpsecReport, PortStatus};
use super::snapshot::{Snapshot, Transport};

mod echo;
mod ike_queue;
mod ipsec;
mod nat_t;
mod path_mtu;
mod path_watch;
mod ports;
mod transport;

use self::echo::EchoProbes;
pub(super) use self::echo::Targets;
pub use self::ipsec::child_sa;
use self::ipsec::{Configured, Ipsec};
use self::path_mtu::{PathMtus, Way};
use self::ports::LinkMtus;
pub(super) use self::transport::{Departure, Found, LookUp, Opener, can_be_data};

/// What WireGuard adds to a packet: header, counter, tag (and up to 15 bytes of padding).
const WIREGUARD_OVERHEAD_BYTES: usize = 32 + 15;
const _: () = assert!(WIREGUARD_OVERHEAD_BYTES <= TAILROOM_BYTES);
/// What Ethernet adds: two addresses, two VLAN tags, the type; and padding of the shortest frames.
const FRAME_OVERHEAD_BYTES: usize = 6 + 6 + 4 + 4 + 2;

/// [`Tunnels::begin`], any calls, [`Tunnels::finish`]; then send the outbox, drain [`Tunnels::poll_event`], read
/// [`Tunnels::poll_timeout`].
pub(super) struct Tunnels {
    wireguard: wireguard::Endpoint,
    /// `None`: no configuration had an IPsec tunnel so far.
    ipsec: Option<Box<Ipsec>>,
    /// What to make it of, and its seed.
    without_ipsec: Option<(ike::Setup, u64)>,
    link: link::Endpoint,
    link_mtus: LinkMtus,
    path_mtus: PathMtus,
    echoes: EchoProbes,
    /// Whose path is to be looked at again: they are configured anew.
    touched: BTreeSet<TunnelId>,
}

/// What `status` shows of a tunnel, whatever its transport.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct TunnelStatus {
    pub up: bool,
    pub path: Option<Path>,
    pub last_handshake: Option<Timestamp>,
}

impl Tunnels {
    /// `ike`: `None` where no tunnel can be an IPsec tunnel. `seed`: random and secret.
    pub fn new(
        wireguard: wireguard::Endpoint,
        ike: Option<ike::Setup>,
        link_random: Box<dyn Random + Send>,
        seed: u64,
    ) -> Self {
        Tunnels {
            wireguard,
            ipsec: None,
            without_ipsec: ike.map(|setup| (setup, seed)),
            link: link::Endpoint::new(link_random),
            link_mtus: LinkMtus::default(),
            path_mtus: PathMtus::default(),
            echoes: EchoProbes::default(),
            touched: BTreeSet::new(),
        }
    }

    /// Reconciles with the configured peers: those that did not change keep their keys.
    pub fn configure(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let (mut peers, mut ipsec, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for tunnel in snapshot.tunnels.iter().flatten() {
            match &tunnel.peer {
                Transport::WireGuard(peer) => peers.push(peer.clone()),
                Transport::Ipsec(peer) => ipsec.push(Configured { peer: peer.clone(), copy_dscp: tunnel.copy_dscp }),
                Transport::Port(port) => ports.push((**port).clone()),
            }
        }
        self.path_mtus.configure(snapshot.tunnels.iter().map(|tunnel| tunnel.as_ref().map(|tunnel| tunnel.mtu_bytes)));
        self.echoes.configure(snapshot.targets().clone());
        self.touched = snapshot.tunnels.iter().flatten().map(|tunnel| tunnel.peer.tunnel()).collect();
        self.configure_ports(ports, now);
        self.wireguard.configure(&peers, now);
        if !ipsec.is_empty()
            && let Some((setup, seed)) = self.without_ipsec.take()
        {
            self.ipsec = Some(Box::new(Ipsec::new(setup, seed, now)));
        }
        if let Some(all) = &mut self.ipsec {
            all.configure(ipsec, now);
        }
    }

    /// A call into the engine begins: it is now, and IKE gets its share of the call.
    pub fn begin(&mut self, now: Timestamp) {
        self.wireguard.note_now(now);
        if let Some(ipsec) = &mut self.ipsec {
            ipsec.begin(now);
        }
    }

    /// Opens one outer datagram, into `out` where it holds a packet.
    #[inline]
    pub fn open(&mut self, datagram: Datagram<'_>, out: &mut [u8], outbox: &mut Outbox, now: Timestamp) -> Opened {
        if datagram.path.port != Port::WireGuard {
            return self.open_other(datagram, out, outbox, now);
        }
        if datagram.bytes.len() > MAX_PACKET_BYTES + WIREGUARD_OVERHEAD_BYTES {
            return Opened::dropped(DropReason::InnerTooLong);
        }
        self.wireguard.open(datagram, out, outbox, now)
    }

    fn open_other(&mut self, datagram: Datagram<'_>, out: &mut [u8], outbox: &mut Outbox, now: Timestamp) -> Opened {
        if matches!(datagram.path.port, Port::Frames(_) | Port::Tun(_)) {
            return self.open_frame(&datagram.path, datagram.bytes, out, outbox, now);
        }
        match &mut self.ipsec {
            Some(ipsec) => ipsec.open(datagram, out, outbox, now),
            None => Opened::dropped(DropReason::DataUnknownSession),
        }
    }

    /// The call ends. `refused` hears of messages that [`Tunnels::open`] called understood before they were looked at.
    pub fn finish(&mut self, outbox: &mut Outbox, refused: impl FnMut(DropReason)) {
        if let Some(ipsec) = &mut self.ipsec {
            ipsec.finish(outbox, refused);
        }
    }

    /// Seals `packet` straight into `outbox`. `by`: the realm that it comes from.
    #[inline]
    pub fn seal(
        &mut self,
        tunnel: TunnelId,
        by: RealmId,
        packet: &[u8],
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        if self.link.serves(tunnel) {
            return self.link.seal(tunnel, by, packet, outbox);
        }
        outbox.let_fragment(self.path_mtus.way(tunnel).may_fragment);
        let sealed = match &mut self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.seal(tunnel, packet, outbox),
            _ => self.wireguard.seal(tunnel, packet, outbox),
        };
        outbox.let_fragment(false);
        sealed
    }

    /// What the tunnel carries. Cheap enough to ask for every packet.
    #[inline]
    pub fn way(&self, tunnel: TunnelId) -> Way {
        self.path_mtus.way(tunnel)
    }

    /// The largest packet that the tunnel carries. Cheap enough to ask for every packet.
    #[inline]
    pub fn mtu_bytes(&self, tunnel: TunnelId) -> u16 {
        self.path_mtus.way(tunnel).mtu_bytes
    }

    /// Whether packets of that IP version can be sealed to the peer. Cheap enough to ask for every packet.
    #[inline]
    pub fn is_up_for(&self, tunnel: TunnelId, version: IpVersion) -> bool {
        match &self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.is_up(tunnel),
            _ if self.link.serves(tunnel) => self.link.is_up_for(tunnel, version),
            _ => self.wireguard.is_up(tunnel),
        }
    }

    /// Whether packets of any IP version can be.
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        match &self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.is_up(tunnel),
            _ if self.link.serves(tunnel) => self.link.is_up(tunnel),
            _ => self.wireguard.is_up(tunnel),
        }
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.path_mtus.handle_timeout(now);
        self.wireguard.handle_timeout(outbox, now);
        if let Some(ipsec) = &mut self.ipsec {
            ipsec.handle_timeout(outbox, now);
        }
        self.link.handle_timeout(outbox, now);
    }

    /// See [`super::Engine::say_goodbye`].
    pub fn say_goodbye(&mut self, outbox: &mut Outbox) -> bool {
        self.ipsec.as_mut().is_some_and(|ipsec| ipsec.say_goodbye(outbox)) || self.link.say_goodbye(outbox)
    }

    pub fn poll_event(&mut self) -> Option<What> {
        let wireguard = self.wireguard.poll_event().map(What::WireGuard);
        wireguard
            .or_else(|| self.link.poll_event().map(What::Link))
            .or_else(|| self.ipsec.as_mut()?.poll_news().map(What::Ipsec))
    }

    /// Events that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        self.wireguard.events_lost()
            + self.link.events_lost()
            + self.ipsec.as_ref().map_or(0, |ipsec| ipsec.news_lost())
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let ipsec = self.ipsec.as_ref().and_then(|ipsec| ipsec.poll_timeout());
        let (mtus, echoes) = (self.path_mtus.poll_timeout(), self.echoes.poll_timeout());
        // At once: more than one call looks at.
        let paths = (!self.touched.is_empty()).then_some((Timestamp::ZERO, "paths"));
        [self.wireguard.poll_timeout(), ipsec, self.link.poll_timeout(), mtus, echoes, paths]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<TunnelStatus> {
        if let Some(ipsec) = &self.ipsec
            && ipsec.serves(tunnel)
        {
            return ipsec.status(tunnel);
        }
        if self.link.serves(tunnel) {
            return Some(TunnelStatus { up: self.link.is_up(tunnel), path: None, last_handshake: None });
        }
        let status = self.wireguard.status(tunnel)?;
        Some(TunnelStatus { up: status.up, path: status.path, last_handshake: status.last_handshake })
    }

    /// `None`: it is no IPsec tunnel.
    pub fn ipsec_report(&self, tunnel: TunnelId, now: Timestamp) -> Option<IpsecReport> {
        self.ipsec.as_ref()?.report(tunnel, now)
    }

    /// `None`: it is no port.
    pub fn port_status(&self, tunnel: TunnelId) -> Option<PortStatus> {
        self.link.status(tunnel)
    }

    /// IKE SAs, and those of them whose peer is not known yet.
    pub fn ike_sa_counts(&self) -> (usize, usize) {
        self.ipsec.as_ref().map(|ipsec| ipsec.ike_sa_counts()).unwrap_or_default()
    }

    /// Failed IKE negotiations of nobody in particular.
    pub fn strangers(&self, now: Timestamp) -> Vec<FailureReport> {
        self.ipsec.as_ref().map(|ipsec| ipsec.strangers(now)).unwrap_or_default()
    }
}
