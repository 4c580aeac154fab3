//! All ports: frames in, packets out, packets in, frames out.

use std::net::IpAddr;
use std::time::Duration;

use super::config::{Medium, PortConfig};
use super::deadlines::Deadlines;
use super::frame;
use super::news::News;
use super::places::Places;
use super::port::Port;
use super::sort::{Sorted, is_group};
use super::station::{Before, Sealed};
use crate::net::link::MAX_INTERFACES;
use crate::net::path;
use crate::net::random::Random;
use crate::net::{InterfaceId, IpVersion, LinkReport, Mac, PerVersion, RealmId, Timestamp, TunnelId};
use crate::packet::batch::MAX_PACKET_BYTES;
use crate::packet::{DropReason, Opened, Outbox};
use crate::wire::ethernet;

/// Every port of the appliance. After any `handle_*`, `open` or `configure` drain [`Endpoint::poll_event`] and
/// [`Endpoint::poll_lost`], and read [`Endpoint::poll_timeout`].
pub struct Endpoint {
    /// By tunnel number.
    ports: Vec<Option<Box<Port>>>,
    places: Places,
    /// Of each interface, the port that its TUN device is.
    tuns: [Option<TunnelId>; MAX_INTERFACES],
    links: [Option<LinkReport>; MAX_INTERFACES],
    /// Ports that are no more, and have not said so yet.
    leaving: Vec<Port>,
    /// By tunnel number.
    deadlines: Deadlines,
    news: News,
    /// The latest time that we were told.
    now: Timestamp,
}

/// No tunnel has a higher number.
const MAX_TUNNELS: usize = 1 << 16;
/// What is due again at once is due a little later.
const MIN_DELAY: Duration = Duration::from_micros(100);

/// Something worth a line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Up {
        tunnel: TunnelId,
    },
    Down {
        tunnel: TunnelId,
        why: Down,
    },
    NextHopUp {
        tunnel: TunnelId,
        hop: IpAddr,
    },
    NextHopDown {
        tunnel: TunnelId,
        hop: IpAddr,
        why: HopDown,
    },
    /// Somebody else has an address of ours: it is not used until they are gone.
    DuplicateAddress {
        tunnel: TunnelId,
        address: IpAddr,
        mac: Mac,
    },
    /// Two stations answer for a neighbour's address: packets go on to the one that was known.
    TwoAnswer {
        tunnel: TunnelId,
        address: IpAddr,
        known: Mac,
        other: Mac,
    },
    AddressClaimed {
        tunnel: TunnelId,
        address: IpAddr,
    },
}

/// Why a port carries nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// The interface is down or has no carrier.
    NoLink,
    /// No address of ours could be claimed (yet).
    NoAddress,
    /// It has gateways, and none is alive.
    NoNextHop,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopDown {
    /// Asked, it did not answer.
    Silent,
    /// BFD: it is not heard any more.
    BfdTimeout,
    /// BFD: it says that it is down, or is being taken out of service.
    BfdRemote,
    /// It had announced itself, and is among those that do no more.
    Withdrawn,
}

/// What `status` shows of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStatus {
    /// `None`: it carries packets, of one IP version at least.
    pub down: Option<Down>,
    /// Why it carries none of an IP version that it is there for.
    pub down_for: PerVersion<Option<Down>>,
    pub mac: Option<Mac>,
    /// The interface's own MTU, where the kernel has told.
    pub link_mtu_bytes: Option<u32>,
    pub addresses: Vec<AddressStatus>,
    pub next_hops: Vec<NextHopStatus>,
    pub neighbours: usize,
    pub neighbours_max: usize,
    /// Packets that wait for a neighbour.
    pub waiting: usize,
    pub counts: PortCounts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressStatus {
    pub address: IpAddr,
    /// "probing", "ours" or "duplicate".
    pub state: &'static str,
    /// Who has it, where it is a duplicate.
    pub other: Option<Mac>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHopStatus {
    pub address: IpAddr,
    pub mac: Option<Mac>,
    pub is_alive: bool,
    /// "probes" or "BFD"; with BFD, its state follows.
    pub watched_by: &'static str,
    pub bfd: Option<&'static str>,
    /// It is the way now, in its IP version.
    pub is_used: bool,
    /// Since it is alive, or not.
    pub since: Option<Timestamp>,
    /// It answers, but it came and went too often: it is not used before this.
    pub held_until: Option<Timestamp>,
}

/// Since the port was configured.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PortCounts {
    pub neighbour_messages: u64,
    /// Ignored: more came than one port may have.
    pub neighbour_messages_over_limit: u64,
    pub unresolved: u64,
    pub echoes: u64,
    pub conflicts: u64,
    /// Next hops that came or went.
    pub switches: u64,
    /// Neighbours that answered from another hardware address than before.
    pub mac_changes: u64,
}

/// Packets that [`Endpoint::seal`] took and that came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    pub tunnel: TunnelId,
    pub packets: u64,
    pub reason: DropReason,
}

impl Endpoint {
    /// `random`: secret, except in a simulation.
    pub fn new(random: Box<dyn Random + Send>) -> Self {
        Endpoint {
            ports: Vec::new(),
            places: Places::default(),
            tuns: [None; MAX_INTERFACES],
            links: [None; MAX_INTERFACES],
            leaving: Vec::new(),
            deadlines: Deadlines::default(),
            news: News::new(random),
            now: Timestamp::ZERO,
        }
    }

    /// Reconciles with the configured ports: those that did not change keep their neighbours. What they have to say is sent by the
    /// next [`Endpoint::handle_timeout`], which is due at once.
    pub fn configure(&mut self, ports: Vec<PortConfig>, now: Timestamp) {
        self.now = self.now.max(now);
        let mut wanted: Vec<Option<PortConfig>> = Vec::new();
        for config in ports {
            let index = config.tunnel.index();
            if index < MAX_TUNNELS && config.interface.index() < MAX_INTERFACES {
                wanted.resize_with(wanted.len().max(index + 1), || None);
                wanted[index] = Some(config);
            }
        }
        wanted.resize_with(wanted.len().max(self.ports.len()), || None);
        self.ports.resize_with(wanted.len(), || None);
        for (slot, config) in wanted.into_iter().enumerate() {
            self.configure_one(slot, config);
        }
        self.find_places();
    }

    fn configure_one(&mut self, slot: usize, config: Option<PortConfig>) {
        let tunnel = TunnelId(slot as u32);
        let port = &mut self.ports[slot];
        let Some(config) = config else {
            if let Some(port) = port.take() {
                self.news.lose(tunnel, port.waiting(), DropReason::PortDown);
                self.deadlines.set(slot, None);
                self.leaving.push(*port);
            }
            return;
        };
        match port {
            Some(port) if port.config == config => return,
            Some(port) if port.can_become(&config) => port.become_like(config, &mut self.news, self.now),
            _ => {
                let lost = port.as_ref().map_or(0, |port| port.waiting());
                self.news.lose(tunnel, lost, DropReason::PortDown);
                let link = self.links[config.interface.index()];
                let next = Box::new(Port::new(config, link, &mut self.news, self.now));
                self.leaving.extend(port.replace(next).map(|port| *port));
            }
        }
        self.deadlines.set(slot, Some(self.now));
    }

    fn find_places(&mut self) {
        self.tuns = [None; MAX_INTERFACES];
        let mut places = Vec::new();
        for config in self.ports.iter().flatten().map(|port| &port.config) {
            match &config.medium {
                Medium::Ethernet(ethernet) => places.push((config.interface, ethernet.vlan, config.tunnel)),
                Medium::Tun => _ = self.tuns[config.interface.index()].get_or_insert(config.tunnel),
            }
        }
        self.places = Places::new(&places);
    }

    /// Whether the number is a port's.
    #[inline]
    pub fn serves(&self, tunnel: TunnelId) -> bool {
        matches!(self.ports.get(tunnel.index()), Some(Some(_)))
    }

    /// The kernel says how an interface is. Until then, an interface is down.
    pub fn handle_link(&mut self, report: LinkReport, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(link) = self.links.get_mut(report.interface.index()) else { return };
        *link = Some(report);
        for (slot, port) in self.ports.iter_mut().enumerate() {
            if let Some(port) = port.as_mut().filter(|port| port.config.interface == report.interface) {
                port.handle_link(report, &mut self.news, self.now);
                self.deadlines.set(slot, Some(self.now));
            }
        }
    }

    /// Takes a frame (or a packet of a TUN device), which has come by that port; what is for a realm to walk is written into `out`. What is to
    /// be answered on the link goes into `outbox`.
    #[inline]
    pub fn open(
        &mut self,
        port: path::Port,
        bytes: &[u8],
        out: &mut [u8],
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Opened {
        self.now = self.now.max(now);
        let opened = match port {
            path::Port::Frames(interface) => self.open_frame(interface, bytes, out, outbox),
            path::Port::Tun(interface) => self.open_tun(interface, bytes, out),
            _ => Err(DropReason::OuterMalformed),
        };
        opened.unwrap_or_else(Opened::dropped)
    }

    #[inline]
    fn open_frame(
        &mut self,
        interface: InterfaceId,
        frame: &[u8],
        out: &mut [u8],
        outbox: &mut Outbox,
    ) -> Result<Opened, DropReason> {
        let header = ethernet::parse(frame).ok_or(DropReason::FrameMalformed)?;
        let tunnel = self.places.find(interface, header.tags).ok_or(DropReason::FrameNoPort)?;
        let Some(Some(port)) = self.ports.get_mut(tunnel.index()) else { return Err(DropReason::FrameNoPort) };
        let Some(station) = &mut port.station else { return Err(DropReason::FrameNoPort) };
        let to_us = !header.destination.is_group();
        let handled = match station.sort(&header, &frame[header.header_bytes..])? {
            Sorted::Walks(packet) => return deliver(tunnel, packet, out),
            Sorted::Arp(bytes) => station.handle_arp(bytes, to_us, outbox, self.now),
            Sorted::Discovery(packet) => station.handle_nd(packet, header.source, to_us, outbox, self.now),
            Sorted::Ours(packet) if station.is_for_daemon(packet) => return deliver(tunnel, packet, out),
            Sorted::Ours(packet) => station.handle_ours(packet, header.source, outbox, self.now),
        };
        handled?; // what is refused has changed nothing
        port.settle(&mut self.news, outbox, self.now);
        self.schedule(tunnel);
        Ok(Opened::Control)
    }

    #[inline]
    fn open_tun(&mut self, interface: InterfaceId, bytes: &[u8], out: &mut [u8]) -> Result<Opened, DropReason> {
        let tunnel = self.tuns.get(interface.index()).copied().flatten().ok_or(DropReason::FrameNoPort)?;
        let version = bytes.first().map_or(0, |first| first >> 4);
        let packet = frame::ip_packet(version, bytes).ok_or(DropReason::FrameMalformed)?;
        if frame::destination(packet).is_none_or(is_group) {
            return Err(DropReason::DestinationNotUnicast);
        }
        deliver(tunnel, packet, out)
    }

    /// Sends `packet` by its port: as a frame into `outbox`, or it waits until its neighbour is found. Time is that of the latest
    /// call that brought it. `by`: whose packet it is; a realm has its share of those that may wait.
    #[inline]
    pub fn seal(
        &mut self,
        tunnel: TunnelId,
        by: RealmId,
        packet: &[u8],
        outbox: &mut Outbox,
    ) -> Result<(), DropReason> {
        let mut outcome = Ok(());
        self.seal_all(tunnel, [(by, packet)].into_iter(), outbox, |sealed| outcome = sealed);
        outcome
    }

    /// The same for packets by one port, behind one another. `each` is told what became of each.
    #[inline]
    pub fn seal_all<'p>(
        &mut self,
        tunnel: TunnelId,
        packets: impl Iterator<Item = (RealmId, &'p [u8])>,
        outbox: &mut Outbox,
        mut each: impl FnMut(Result<(), DropReason>),
    ) {
        let Some(Some(port)) = self.ports.get_mut(tunnel.index()) else {
            return packets.for_each(|_| each(Err(DropReason::NoTunnel)));
        };
        let (mut before, mut is_due) = (Before::default(), false);
        for (by, packet) in packets {
            let sealed = port.seal(by, packet, &mut before, outbox, self.now);
            is_due |= matches!(sealed, Ok(Sealed::TimersMoved | Sealed::Refused(_)));
            each(match sealed {
                Ok(Sealed::Refused(reason)) | Err(reason) => Err(reason),
                Ok(Sealed::Sent | Sealed::TimersMoved) => Ok(()),
            });
        }
        if is_due {
            self.schedule(tunnel);
        }
    }

    /// Whether packets of either IP version can leave.
    pub fn is_up(&self, tunnel: TunnelId) -> bool {
        matches!(self.ports.get(tunnel.index()), Some(Some(port)) if port.is_up())
    }

    /// Whether packets of that IP version can leave. Cheap enough to ask for every packet.
    #[inline]
    pub fn is_up_for(&self, tunnel: TunnelId, version: IpVersion) -> bool {
        matches!(self.ports.get(tunnel.index()), Some(Some(port)) if port.is_up_for(version))
    }

    pub fn handle_timeout(&mut self, outbox: &mut Outbox, now: Timestamp) {
        self.now = self.now.max(now);
        for mut port in std::mem::take(&mut self.leaving) {
            port.say_goodbye(outbox);
        }
        while let Some(slot) = self.deadlines.due(self.now) {
            if let Some(port) = &mut self.ports[slot] {
                port.settle(&mut self.news, outbox, self.now);
            }
            self.schedule(TunnelId(slot as u32));
        }
    }

    /// The number of an interface is another one's now: what ports that were there had to say is not said.
    pub fn forget_interface(&mut self, interface: InterfaceId) {
        self.leaving.retain(|port| port.config.interface != interface);
    }

    /// The appliance ends: hops with BFD are told (RFC 5880 section 6.8.16), those of one port at a time. `false`: nobody is left to tell.
    pub fn say_goodbye(&mut self, outbox: &mut Outbox) -> bool {
        self.ports.iter_mut().flatten().any(|port| port.say_goodbye(outbox))
    }

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        let leaving = (!self.leaving.is_empty()).then_some(self.now);
        leaving.or(self.deadlines.first().map(|(at, _)| at)).map(|at| (at, "port timers"))
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.news.poll_event()
    }

    pub fn poll_lost(&mut self) -> Option<Lost> {
        self.news.poll_lost()
    }

    /// Events that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        self.news.events_lost()
    }

    pub fn status(&self, tunnel: TunnelId) -> Option<PortStatus> {
        Some(self.ports.get(tunnel.index())?.as_ref()?.status())
    }

    #[cold]
    fn schedule(&mut self, tunnel: TunnelId) {
        let at = self.ports[tunnel.index()].as_ref().and_then(|port| port.poll_timeout());
        self.deadlines.set(tunnel.index(), at.map(|at| at.max(self.now + MIN_DELAY)));
    }
}

#[inline]
fn deliver(tunnel: TunnelId, packet: &[u8], out: &mut [u8]) -> Result<Opened, DropReason> {
    match out.get_mut(..packet.len()) {
        Some(out) if packet.len() <= MAX_PACKET_BYTES => {
            out.copy_from_slice(packet);
            Ok(Opened::Packet { tunnel, len: packet.len() })
        }
        _ => Ok(Opened::Dropped { reason: DropReason::InnerTooLong, tunnel: Some(tunnel) }),
    }
}
